"""Figures of walks: the numbers drawn are the walk's own, and components are found where they are known."""

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")

import sdkit
from sdkit import plots
from sdkit.errors import InvalidSettings


@pytest.fixture
def walk(tiny):
    return sdkit.interpolate(
        tiny, ["a $cat$", "a dog"], frames=5, steps=2, seeds=[1, 2], progress=False
    )


def test_distances_are_drawn_as_they_are(walk):
    ax = plots.walk_distances({"one": walk, "two": walk})
    for line in (ax.lines[0], ax.lines[2]):
        assert line.get_ydata() == pytest.approx(walk.distances)
    assert f"one: variation {walk.smoothness:.2f}" in [
        t.get_text() for t in ax.get_legend().get_texts()
    ]


def test_axes_that_are_given_are_used(walk):
    ax = plots.walk_distances(walk)
    assert plots.latent_pca(walk, ax) is ax


def test_components_of_points_in_a_plane_are_found():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(20, 2)) * [5, 1]
    axes = np.linalg.qr(rng.normal(size=(12, 12)))[0][:2]
    ax = plots.latent_pca({"plane": (plane @ axes).reshape(20, 3, 4)})
    x, y = ax.lines[0].get_data()
    there = np.linalg.norm(plane[:, None] - plane[None], axis=-1)
    drawn = np.linalg.norm(np.stack([x, y], 1)[:, None] - np.stack([x, y], 1)[None], axis=-1)
    assert drawn == pytest.approx(there)


def test_keyframes_are_named_once_and_never_read_as_mathematics(walk):
    ax = plots.latent_pca({"one": walk, "two": walk})
    assert [t.get_text() for t in ax.texts] == [r"a \$cat\$", "a dog"]
    ax.figure.canvas.draw()


def test_latents_of_different_sizes_are_refused(walk):
    with pytest.raises(InvalidSettings, match="different sizes"):
        plots.latent_pca({"walk": walk, "other": np.zeros((3, 7))})
