"""Where frames lie: exact keyframes, coarse-to-fine order, and even steps on functions whose answer is known."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, strategies as st

from sdkit.errors import InvalidSettings
from sdkit.walks.pacing import (
    EASINGS,
    checked_pace,
    coarse_to_fine,
    eased,
    evenly,
    pace_from_audio,
    paced,
    split,
)


@given(st.integers(2, 200), st.integers(1, 9), st.booleans())
def test_steps_are_shared_out_to_the_last_one(frames, segments, loop):
    counts = split(frames, segments, loop=loop)
    assert sum(counts) == (frames if loop else frames - 1)
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("name", EASINGS)
def test_easings_meet_every_keyframe_once_and_never_go_back(name):
    places = eased([4, 7], EASINGS[name], loop=False)
    assert len(places) == 12
    assert [p for p in places if p == int(p)] == [0, 1, 2]
    assert places == sorted(places)
    assert eased([4, 7], EASINGS[name], loop=True) == places[:-1]


def test_pace_makes_steps_proportional_to_speed():
    steps = np.diff(paced(np.array([1.0, 3.0]), 5, 2, loop=False))
    assert steps == pytest.approx([0.25, 0.25, 0.75, 0.75])
    assert paced(np.ones(10), 5, 2, loop=False) == pytest.approx([0, 0.5, 1, 1.5, 2])
    assert paced(np.ones(3), 4, 2, loop=True) == pytest.approx([0, 0.5, 1, 1.5])


@given(st.integers(1, 300))
def test_coarse_to_fine_names_every_frame_once(count):
    assert sorted(coarse_to_fine(count)) == list(range(count))


def test_coarse_to_fine_takes_ends_middle_quarters():
    assert coarse_to_fine(65)[:9] == [0, 64, 32, 16, 48, 8, 24, 40, 56]


def _walk(appearance, frames, most):
    """Pace a walk evenly whose picture at a position is one number."""
    edges = [0.0, 1.0]
    while len(edges) < frames:
        distances = [abs(appearance(b) - appearance(a)) for a, b in pairwise(edges)]
        edges = sorted([*edges, *evenly(edges, distances, frames - len(edges), most)])
    steps = np.abs(np.diff([appearance(p) for p in edges]))
    return edges, float(steps.std() / steps.mean())


@pytest.mark.parametrize("most", [1, 4])
@pytest.mark.parametrize(
    "appearance",
    [lambda p: p**4, lambda p: np.tanh(12 * (p - 0.3)), np.sqrt, lambda p: p + 0.1 * np.sin(9 * p)],
)
def test_even_pacing_evens_out_known_curves(appearance, most):
    edges, variation = _walk(appearance, 33, most)
    linear = np.abs(np.diff([appearance(p) for p in np.linspace(0, 1, 33)]))
    assert variation < 0.3
    assert variation < 0.5 * linear.std() / linear.mean()
    assert len(set(edges)) == 33


def test_even_pacing_of_an_even_curve_is_exactly_even():
    edges, _ = _walk(lambda p: p, 17, 4)
    assert edges == pytest.approx(np.linspace(0, 1, 17), abs=1e-6)


def test_even_pacing_spends_no_frames_on_a_jump_for_ever():
    edges, _ = _walk(lambda p: float(p > 0.37), 60, 4)
    assert len(set(edges)) == 60
    assert min(np.diff(edges)) > 1e-8


def test_where_nothing_changes_time_is_divided():
    edges = [0.0, 1.0]
    while len(edges) < 9:
        edges = sorted([*edges, *evenly(edges, [0.0] * (len(edges) - 1), 9 - len(edges), 2)])
    assert max(np.diff(edges)) < 0.2


@pytest.mark.parametrize(
    ("pace", "sentence"),
    [
        ([1, float("nan")], "pacing holds nan; every speed must be a number of 0 or more"),
        ([1, -2], "pacing holds -2"),
        ([0, 0], "pacing holds all zero"),
        ([[1, 2]], "shape \\(1, 2\\); give one speed for each moment"),
        (["fast"], "holds more than numbers"),
        ([], "shape \\(0,\\)"),
    ],
)
def test_a_pace_that_cannot_be_is_told(pace, sentence):
    with pytest.raises(InvalidSettings, match=sentence):
        checked_pace(pace)


def test_loud_music_moves_fast(tmp_path):
    import soundfile

    rate = 8000
    tone = np.sin(
        2 * np.pi * 200 * np.arange(rate) / rate
    )  # a second, a whole number of waves in each frame
    soundfile.write(
        tmp_path / "x.wav",
        np.concatenate([tone * 0.25, tone * 0.5, tone * 0]),
        rate,
        subtype="FLOAT",
    )
    pace = pace_from_audio(tmp_path / "x.wav", fps=10)
    assert pace == pytest.approx([0.5] * 10 + [1.0] * 10 + [0.1] * 10, rel=1e-3)


@pytest.mark.parametrize("kind", ["missing", "text", "silent"])
def test_a_track_that_cannot_be_used_is_told(tmp_path, kind):
    import soundfile

    path = tmp_path / "x.wav"
    if kind == "text":
        path.write_text("not sound")
    if kind == "silent":
        soundfile.write(path, np.zeros(800), 8000)
    sentence = {
        "missing": "There is no sound file",
        "text": "cannot be read as sound",
        "silent": "holds no sound",
    }[kind]
    with pytest.raises(InvalidSettings, match=sentence):
        pace_from_audio(path)


def test_a_frame_rate_that_cannot_be_is_told(tmp_path):
    with pytest.raises(InvalidSettings, match="fps is 0"):
        pace_from_audio(tmp_path / "x.wav", fps=0)
