"""Pushed light: the object goes where its word's light goes, and nothing else of the pipeline does."""

import numpy as np
import pytest
import torch
from families import FAMILIES, sd15

import sdkit
from sdkit.errors import Cancelled, CannotCapture, InvalidSettings
from sdkit.experiments.pushing import _moved

SMALL = {"width": 32, "height": 32, "steps": 3, "seed": 1, "progress": False, "guidance_scale": 4}


@pytest.fixture
def pipe():
    return sd15()


def centre(picture):
    """The middle `(x, y)` of what differs from the colour of the border."""
    pixels = np.asarray(picture, float)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    rows, columns = np.nonzero(np.abs(pixels - np.median(border, 0)).max(-1) > 40)
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5]) / len(pixels)


def test_the_object_goes_where_its_light_is_pushed(pocket):
    r = sdkit.generate(pocket, "a hamburger on a green background", seed=1, steps=8, progress=False)
    for goal in ((0.35, 0.5), (0.6, 0.35)):
        moved = sdkit.push_attention(pocket, r, {"hamburger": goal}, progress=False)
        assert np.linalg.norm(centre(moved.image) - goal) < 0.1
        assert np.linalg.norm(centre(r.image) - goal) > 0.12
        corner = np.asarray(moved.image, float)[:6, -6:].mean((0, 1))
        np.testing.assert_allclose(
            corner, np.asarray(r.image, float)[:6, -6:].mean((0, 1)), atol=25
        )
    assert "hamburger was pushed to (0.60, 0.35)" in moved.notes[-1]
    assert moved.settings == r.settings


def test_the_same_push_gives_the_same_picture_and_leaves_the_pipeline_as_it_was(pipe):
    r = sdkit.generate(pipe, "a red cat", **SMALL)
    processors = pipe.unet.attn_processors
    one, two = (
        sdkit.push_attention(pipe, r, {"cat": (0.9, 0.1), "red": (0.2, 0.5)}, progress=False)
        for _ in range(2)
    )
    assert (one.latents == two.latents).all()
    assert not (one.latents == r.latents).all()
    assert all(pipe.unet.attn_processors[name] is p for name, p in processors.items())
    assert not pipe.unet._forward_pre_hooks
    assert (sdkit.generate(pipe, r.settings, progress=False).latents == r.latents).all()


def test_processors_come_back_after_a_push_was_stopped(pipe):
    r = sdkit.generate(pipe, "a red cat", **SMALL)
    processors = pipe.unet.attn_processors

    def stop(*_):
        raise Cancelled

    with pytest.raises(Cancelled):
        sdkit.push_attention(pipe, r, {"cat": (0.9, 0.1)}, on_step=stop, progress=False)
    assert all(pipe.unet.attn_processors[name] is p for name, p in processors.items())
    assert (sdkit.generate(pipe, r.settings, progress=False).latents == r.latents).all()


def test_light_moves_by_whole_cells_and_darkness_comes_in():
    planes = torch.arange(24.0).reshape(1, 1, 4, 6)
    moved = _moved(planes, (2 / 6, -1 / 4))[0, 0]
    torch.testing.assert_close(moved[:3, 2:], planes[0, 0, 1:, :4])
    assert not moved[3].any()
    assert not moved[:, :2].any()


@pytest.mark.parametrize(
    ("move", "told"),
    [
        ({"dog": (0.5, 0.5)}, "'dog' does not stand"),
        ({"cat": (1.5, 0.5)}, r"'cat' is \(1.5, 0.5\); give x and y from 0 to 1"),
        ({"cat": "left"}, "'cat' is 'left'; give x and y"),
        ({"cat": (float("nan"), 0.5)}, "give x and y from 0 to 1"),
        ({}, "give the words to push and where"),
        ("cat", "give the words to push and where"),
    ],
)
def test_bad_pushes_are_told_before_the_run(pipe, move, told):
    r = sdkit.generate(pipe, "a red cat", **SMALL)
    with pytest.raises(InvalidSettings, match=told):
        sdkit.push_attention(pipe, r, move, on_step=pytest.fail, progress=False)


def test_joint_attention_cannot_be_pushed(pipe):
    r = sdkit.generate(pipe, "a red cat", **SMALL)
    with pytest.raises(CannotCapture, match="joint attention"):
        sdkit.push_attention(FAMILIES["sd3"](), r, {"cat": (0.5, 0.5)})
