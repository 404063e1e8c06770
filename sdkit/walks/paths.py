"""Paths through noise and through text: pure mathematics on tensors, with nothing of a model in it.

The one decision: **a path is a function of two ends and an amount**, ``path(a, b, t)`` with ``t`` from 0 (a) to 1 (b).
`blend` makes of it a path between any number of corners: two are a line, four a square.

Noise and text need different paths. Gaussian noise of many dimensions lies on a sphere, and the midpoint of a straight
line is inside it, where the model has never been: hence `slerp`. The rows of a text encoding are a set rather than a
list, as cross-attention does not see their order: hence `alignment`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import torch

from sdkit.pipelines.noise import slerp

__all__ = [
    "NOISE_PATHS",
    "WORD_PATHS",
    "align",
    "alignment",
    "blend",
    "circle",
    "lerp",
    "norm_lerp",
]

Path = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]


def lerp(a: torch.Tensor, b: torch.Tensor, t: float) -> torch.Tensor:
    """Straight line: ``(1 - t) a + t b``; any shape."""
    return torch.lerp(a, b, t)


def norm_lerp(a: torch.Tensor, b: torch.Tensor, t: float) -> torch.Tensor:
    """Straight line whose rows keep their length: direction of `lerp`, length ``(1 - t)|a| + t|b|``, row by row.

    A plain `lerp` of two rows at an angle θ has a midpoint shorter by ``cos(θ/2)``; layer norms have made all rows of
    a text encoding about equally long, so a shorter one is a weaker word. (For unit rows this is "nlerp", Blow 2004.)

    Parameters
    ----------
    a, b
        The ends, ``(..., D)``. Rows that cancel out at t stay zero.
    t
        0 gives a, 1 gives b.
    """
    line = torch.lerp(a, b, t)
    wanted = torch.lerp(a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True), t)
    length = line.norm(dim=-1, keepdim=True)
    return torch.where(length > 0, line * (wanted / length.clamp_min(1e-12)), line)


def alignment(a: torch.Tensor, b: torch.Tensor) -> list[int]:
    """Match the rows of one text encoding to those of another, so that the rows have least to move.

    Cross-attention sums over the rows of the text, so any order of them gives the same picture. This takes the order
    that minimises ``Σ |a[i] - b[order[i]]|²``: the transport between two point clouds of equal weights, which a
    permutation solves (Karris et al. 2025, arXiv:2511.12757; the assignment after Crouse 2016, in SciPy).

    Parameters
    ----------
    a, b
        Encodings ``(T, D)``.

    Returns
    -------
    list of int
        ``order``, so that ``b[order]`` stands row by row beside ``a``. It is the identity for equal encodings.
    """
    from scipy.optimize import linear_sum_assignment

    cost = torch.cdist(a.detach().double(), b.detach().double()).square()
    _, order = linear_sum_assignment(cost.numpy())
    matched: list[int] = order.tolist()
    return matched


def align(corners: Sequence[torch.Tensor], rows: torch.Tensor | None = None) -> list[torch.Tensor]:
    """Put the rows of all encodings ``(1, T, D)`` in the order that fits the first, so that words move to like words.

    With `rows` ``(T,)`` of bool only those, which all of them have, change places among each other.
    """
    first = corners[0]
    rows = torch.ones(first.shape[1], dtype=torch.bool) if rows is None else rows
    return [first, *(_matched(first, c, rows) for c in corners[1:])]


def _matched(first: torch.Tensor, other: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    other = other.clone()
    other[:, rows] = other[:, rows][:, alignment(first[0, rows], other[0, rows])]
    return other


def circle(a: torch.Tensor, b: torch.Tensor, turn: float) -> torch.Tensor:
    """Point on a closed way through noise: ``cos(2π turn) a + sin(2π turn) b``; turn 0 and 1 are both a.

    Two independent standard normals stay one, since cos² + sin² = 1, so every point is noise the model knows.
    """
    return math.cos(2 * math.pi * turn) * a + math.sin(2 * math.pi * turn) * b


def blend(path: Path, corners: Sequence[torch.Tensor], at: Sequence[float]) -> torch.Tensor:
    """Point between ``2**n`` corners, for n coordinates from 0 to 1.

    Parameters
    ----------
    path
        How two ends are joined.
    corners
        One (no coordinate), two (one coordinate), or four: first row ``c[0], c[1]``, second row ``c[2], c[3]``.
    at
        The coordinates, the outermost first: ``(row, column)`` for four corners.
    """
    if not at:
        return corners[0]
    half = len(corners) // 2
    return path(blend(path, corners[:half], at[1:]), blend(path, corners[half:], at[1:]), at[0])


def _slerp_rows(a: torch.Tensor, b: torch.Tensor, t: float) -> torch.Tensor:
    return slerp(a, b, t, by_row=True)


WORD_PATHS: Final[Mapping[str, Path]] = MappingProxyType(
    {"aligned": norm_lerp, "norm": norm_lerp, "slerp": _slerp_rows, "lerp": lerp}
)
"""Name of each path between text encodings; "aligned" puts their rows in order first."""

NOISE_PATHS: Final[Mapping[str, Path]] = MappingProxyType({"slerp": slerp, "lerp": lerp})
"""Name of each path between starting noises; a walk knows "circle" as well, which is no path between two ends."""
