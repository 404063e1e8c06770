"""What attention maps are made of: one layer's arrays, and how a word is read out of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["LayerMaps", "pick", "stretched"]


@dataclass(frozen=True)
class LayerMaps:
    """One layer's attention, the mean over steps.

    `words` is `(h, w, tokens)`, `heads` `(heads, h, w, tokens)`, `back` (joint layers: what words looked at)
    `(tokens, h, w)`, `patches` `(n, h, w)` for each patch or point that was followed; None where it was not kept.
    """

    name: str
    group: str
    grid: tuple[int, int]
    words: Floats | None = None
    heads: Floats | None = None
    back: Floats | None = None
    patches: Floats | None = None


def pick(maps: NDArray[Any] | None, positions: Iterable[tuple[int, ...]]) -> Floats:
    """Sum over the pieces of a word, mean over words: `(..., tokens)` to `(...)`."""
    assert maps is not None  # noqa: S101 - chosen by the caller
    return np.mean([maps[..., list(p)].sum(-1) for p in positions], axis=0, dtype=np.float32)


def stretched(small: Floats, size: tuple[int, int]) -> Floats:
    """`(h, w)` to `(H, W)`, bicubic, kept within 0..1."""
    if small.shape == size[::-1]:
        return small
    large = Image.fromarray(np.ascontiguousarray(small, np.float32)).resize(
        size, Image.Resampling.BICUBIC
    )
    return np.clip(np.asarray(large, np.float32), 0, 1)
