"""Which rows of a text encoding are there, between encodings of different length.

The one decision: **a row is there or not; none is there by half.** Networks give even a faint row its full weight, as they
normalise rows, and masks know nothing between. So between two texts rows come (or go) one by one, evenly spread over the
way, instead of all at its first moment: both ends are reached without a jump.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

__all__ = ["arrived", "rows_between", "shares"]


def shares(at: Sequence[float]) -> list[float]:
    """Weight of each of ``2**n`` ends at n coordinates from 0 to 1, the outermost first; they sum to 1."""
    if not at:
        return [1.0]
    inner = shares(at[1:])
    return [(1 - at[0]) * w for w in inner] + [at[0] * w for w in inner]


def arrived(there: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """Rows that are there between the ends.

    Parameters
    ----------
    there
        For each end the rows that it has, ``(T,)`` of bool.
    weights
        Share of each end, see `shares`.

    Returns
    -------
    torch.Tensor
        ``(T,)`` of bool: all rows that every end has, and of the n others the j-th, counted from those outwards, as soon as the
        ends that have it weigh more than ``(j + 1/2) / n``.
    """
    stack = torch.stack(list(there))
    always, ever = stack.all(0), stack.any(0)
    others = (ever & ~always).nonzero()[:, 0]
    fixed = always.nonzero()[:, 0]
    if len(fixed) and len(others) and others.float().mean() < fixed.float().mean():
        others = others.flip(0)  # the padding stands on the left
    weight = torch.tensor(list(weights), device=stack.device) @ stack[:, others].float()
    ranks = torch.arange(len(others), device=stack.device)
    found = always.clone()
    found[others] = weight > (ranks + 0.5) / max(len(others), 1)
    return found


def rows_between(
    blend: Callable[[Sequence[torch.Tensor]], torch.Tensor],
    ends: Sequence[torch.Tensor],
    there: Sequence[torch.Tensor],
    weights: Sequence[float],
) -> torch.Tensor:
    """Encodings ``(…, T, D)`` between others: rows that all ends have are blended, others are those of one end.

    Parameters
    ----------
    blend
        Joins encodings of one shape.
    ends, there, weights
        The encodings, and as for `arrived`.
    """
    if all(bool(t.all()) for t in there):
        return blend(ends)
    having, lacking = ends[-1], ends[-1]
    for end, here in zip(reversed(ends), reversed(there), strict=True):
        having = torch.where(here[:, None], end, having)
        lacking = torch.where(here[:, None], lacking, end)
    ever = torch.stack(list(there)).any(0)
    whole = [
        torch.where((here | ~ever)[:, None], end, having)
        for end, here in zip(ends, there, strict=True)
    ]
    gone = ever & ~arrived(there, weights)
    return torch.where(gone[:, None], lacking, blend(whole))
