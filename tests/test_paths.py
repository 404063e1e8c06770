"""Paths against closed forms: ends, angles, norms, and matched rows."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from sdkit.pipelines.noise import slerp
from sdkit.walks.paths import (
    NOISE_PATHS,
    WORD_PATHS,
    align,
    alignment,
    blend,
    circle,
    lerp,
    norm_lerp,
)

amounts = st.floats(0, 1)


def noise(seed, *shape):
    return torch.randn(*(shape or (1, 4, 8, 8)), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("path", {**WORD_PATHS, **NOISE_PATHS}.values())
def test_every_path_meets_its_ends_and_rests_where_they_are_one(path):
    a, b = noise(1, 1, 5, 7), noise(2, 1, 5, 7)
    assert torch.allclose(path(a, b, 0.0), a, atol=1e-6)
    assert torch.allclose(path(a, b, 1.0), b, atol=1e-6)
    assert torch.allclose(path(a, a, 0.3), a, atol=1e-6)


@given(amounts, st.floats(0.01, math.pi - 0.01))
def test_slerp_moves_by_equal_angles(t, angle):
    a = torch.tensor([2.0, 0.0], dtype=torch.float64)
    b = 2 * torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
    expected = 2 * torch.tensor([math.cos(t * angle), math.sin(t * angle)], dtype=torch.float64)
    assert torch.allclose(slerp(a, b, t), expected, atol=1e-6)


@pytest.mark.parametrize("b", [[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
def test_slerp_of_parallel_opposite_or_empty_ends_is_the_line(b):
    a, b = torch.tensor([1.0, 0.0]), torch.tensor(b)
    assert torch.equal(slerp(a, b, 0.25), torch.lerp(a, b, 0.25))


def test_slerp_keeps_the_norm_of_noise_and_lerp_does_not():
    a, b = noise(1), noise(2)
    assert slerp(a, b, 0.5).norm() == pytest.approx(float(a.norm() + b.norm()) / 2, rel=0.05)
    assert lerp(a, b, 0.5).norm() < 0.8 * a.norm()


def test_slerp_by_row_takes_each_row_for_itself():
    a, b = noise(1, 3, 6), noise(2, 3, 6)
    together = slerp(a, b, 0.3, by_row=True)
    assert torch.allclose(
        together, torch.stack([slerp(x, y, 0.3) for x, y in zip(a, b, strict=True)]), atol=1e-6
    )


@given(amounts)
def test_norm_lerp_keeps_lengths_and_directions_of_the_line(t):
    a, b = noise(1, 4, 6), 3 * noise(2, 4, 6)
    moved, line = norm_lerp(a, b, t), lerp(a, b, t)
    assert torch.allclose(
        moved.norm(dim=-1), torch.lerp(a.norm(dim=-1), b.norm(dim=-1), t), rtol=1e-4
    )
    assert torch.allclose(torch.cosine_similarity(moved, line, dim=-1), torch.ones(4), atol=1e-5)


def test_norm_lerp_of_rows_that_cancel_out_is_zero_not_nan():
    a = torch.tensor([[1.0, 2.0]])
    assert torch.equal(norm_lerp(a, -a, 0.5), torch.zeros(1, 2))


def test_alignment_undoes_a_permutation():
    a, order = noise(3, 9, 5), np.random.default_rng(0).permutation(9)
    shuffled = a[order]
    found = alignment(a, shuffled)
    assert torch.equal(shuffled[found], a)
    assert alignment(a, a) == list(range(9))


def test_alignment_has_the_least_cost_of_all_permutations():
    from itertools import permutations

    a, b = noise(4, 5, 3), noise(5, 5, 3)

    def cost(order):
        return float((a - b[list(order)]).square().sum())

    assert cost(alignment(a, b)) == pytest.approx(
        min(cost(order) for order in permutations(range(5)))
    )


def test_aligned_words_stand_still_where_prompts_agree(pocket):
    """From "a red car" to "a blue car" only what depends on the colour moves; a word that shifts is found again."""
    a, b = (
        pocket.encode_prompt(p, "cpu", 1, False)[0]
        for p in ("a cat in the snow", "a big cat in the snow")
    )
    first, second = align([a, b])
    assert (second - first).norm() < 0.9 * (b - a).norm()
    red, blue = align(
        [pocket.encode_prompt(p, "cpu", 1, False)[0] for p in ("a red car", "a blue car")]
    )
    moved = (blue - red)[0].norm(dim=-1)
    assert moved[:2].max() == 0  # the beginning and "a" come before the colour
    assert moved[2] == moved.max()  # and the colour moves most


def test_circle_is_closed_and_stays_standard_normal():
    a, b = noise(1, 100_000), noise(2, 100_000)
    assert torch.allclose(circle(a, b, 0), a)
    assert torch.allclose(circle(a, b, 1), a, atol=1e-6)
    assert torch.allclose(circle(a, b, 0.25), b, atol=1e-6)
    for turn in (0.1, 0.4, 0.8):
        point = circle(a, b, turn)
        assert float(point.std()) == pytest.approx(1, abs=0.01)
        assert float(point.mean()) == pytest.approx(0, abs=0.01)


def test_blend_of_four_corners_is_bilinear():
    corners = [torch.tensor([float(n)]) for n in (0, 1, 10, 11)]
    assert blend(lerp, corners, (0.5, 0.25)).item() == pytest.approx(5.25)
    assert blend(lerp, corners[:2], (0.75,)).item() == pytest.approx(0.75)
    assert blend(lerp, corners[:1], ()) is corners[0]
