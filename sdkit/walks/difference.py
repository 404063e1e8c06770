"""How different two pictures look, as one number.

The one decision: **a norm of the difference in a perceptually uniform colour space, seen at several scales.** OKLab
(Ottosson 2020) makes equal numbers equal colour differences; averaging over ever coarser blocks makes a motif that
changes count more than an edge that shimmers, as in S-CIELAB (Zhang & Wandell 1997). Being a norm, it obeys the triangle
inequality, so a step that is divided never looks smaller than its parts, and it does not saturate, as SSIM does.
It needs no network and no weights.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

__all__ = ["appearance", "difference", "oklab"]

_LONGEST: Final = 256  # pixels: finer detail than this tells motion apart no better, and costs time
_SCALES: Final = (1, 2, 4, 8)
_LMS: Final = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LAB: Final = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def oklab(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn sRGB ``(..., 3)`` in 0..255 into OKLab ``(..., 3)``: lightness 0..1, green–red and blue–yellow about ±0.4."""
    levels = np.arange(256) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)[pixels]
    return (np.cbrt(linear @ _LMS.T) @ _LAB.T).astype(np.float32)


def appearance(image: Image.Image) -> NDArray[np.float32]:
    """What `difference` compares: the picture in OKLab ``(H, W, 3)``, reduced to 256 pixels at most."""
    return oklab(np.asarray(image.convert("RGB").reduce(math.ceil(max(image.size) / _LONGEST))))


def difference(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """How different two pictures look: 0 for equal ones, 100 for black beside white.

    Parameters
    ----------
    a, b
        `appearance` of two pictures of one size.

    Returns
    -------
    float
        Root mean square distance in OKLab × 100, averaged over blocks of 1, 2, 4 and 8 pixels.
    """
    change = a - b
    return 100 * float(np.mean([_root_mean_square(_blocks(change, side)) for side in _SCALES]))


def _blocks(field: NDArray[Any], side: int) -> NDArray[Any]:
    """Means over blocks of ``side × side``; what does not fill a block at the right and the bottom is left out."""
    side = min(side, *field.shape[:2])
    rows, columns = field.shape[0] // side, field.shape[1] // side
    whole = field[: rows * side, : columns * side]
    return whole.reshape(rows, side, columns, side, -1).mean((1, 3))


def _root_mean_square(field: NDArray[Any]) -> float:
    return float(np.sqrt(np.square(field).sum(-1).mean()))
