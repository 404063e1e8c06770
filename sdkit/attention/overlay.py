"""Attention as light on a picture: what nobody looked at goes dark and grey, what was looked at glows.

The colours run from black through violet and orange to pale yellow, rising evenly in lightness, so that they also read
in grey and for colour-blind eyes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["colours", "overlay"]

_STOPS = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
_RGB = np.array(
    [(0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164)],
    np.float32,
)


def colours(heat: NDArray[np.floating]) -> NDArray[np.float32]:
    """Values `(H, W)` in 0..1 to colours `(H, W, 3)` in 0..255."""
    return np.stack([np.interp(heat, _STOPS, _RGB[:, c]) for c in range(3)], -1).astype(np.float32)


def overlay(image: Image.Image | None, heat: NDArray[np.floating]) -> Image.Image:
    """Lay a map over a picture.

    Parameters
    ----------
    image
        The picture; None shows the map alone. It is resized to the map.
    heat
        `(H, W)` in 0..1.

    Returns
    -------
    PIL.Image.Image
        RGB, of the map's size.
    """
    heat = np.clip(heat, 0, 1)
    glow = colours(heat)
    if image is not None:
        picture = np.asarray(
            image.convert("RGB").resize(heat.shape[::-1], Image.Resampling.LANCZOS), np.float32
        )
        grey = picture.mean(-1, keepdims=True)
        glow = 0.45 * (grey * 0.55 + picture * 0.45) + 0.62 * glow
    return Image.fromarray(np.clip(glow, 0, 255).astype(np.uint8))
