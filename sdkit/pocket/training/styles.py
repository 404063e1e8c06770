"""The art styles: each takes a picture `(H, W, 3)` and the coverage of all objects `(H, W)`, and gives a picture.

Textures (paper, dots, lead lines) are fixed patterns, the same in every picture, so that a small network can learn
them by heart.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

__all__ = ["FILTERS", "Array"]

Array = NDArray[Any]  # float32 throughout; numpy's stubs lose that at every step


def _blur(image: Array, radius: float) -> Array:
    bytes_ = Image.fromarray((np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8))
    return (
        np.asarray(
            bytes_.filter(ImageFilter.GaussianBlur(radius * image.shape[0] / 64)), np.float32
        )
        / 255
    )


def _luma(image: Array) -> Array:
    return image @ np.array((0.299, 0.587, 0.114), np.float32)


def _edges(image: Array, mask: Array) -> Array:
    """Strength of contours in 0..1, of light and of the objects' outlines; a contour is about one 64th wide."""
    step = max(1, image.shape[0] // 64)
    total = np.zeros(mask.shape, np.float32)
    for layer in (_luma(image), image[..., 0], image[..., 2], mask):
        padded = np.pad(layer, step, mode="edge")
        dx = padded[step:-step, 2 * step :] - padded[step:-step, : -2 * step]
        dy = padded[2 * step :, step:-step] - padded[: -2 * step, step:-step]
        np.maximum(total, np.hypot(dx, dy), out=total)
    return np.clip(total * 1.3, 0, 1)


def _saturate(image: Array, amount: float) -> Array:
    grey = _luma(image)[..., None]
    return np.clip(grey + (image - grey) * amount, 0, 1)


@lru_cache(maxsize=8)
def _grain(side: int, cells: int, seed: int) -> Array:
    """Smooth fixed noise in -1..1 with `cells` bumps a side."""
    field = np.random.default_rng(seed).uniform(-1, 1, (cells, cells)).astype(np.float32)
    return np.asarray(
        Image.fromarray(field).resize((side, side), Image.Resampling.BICUBIC), np.float32
    )


def _pencil_sketch(image: Array, mask: Array) -> Array:
    side = image.shape[0]
    y, x = np.mgrid[:side, :side] * (64 / side)
    hatch = (np.sin((x + y) * np.pi / 2) * 0.5 + 0.5).astype(np.float32)
    light = _luma(image)
    paper = _saturate(0.58 + 0.42 * image, 0.8)
    shade = 1 - 0.30 * np.clip(0.75 - light, 0, 1) * hatch / 0.75
    lines = 1 - 0.85 * np.clip(_edges(image, mask) * 1.1 - 0.12, 0, 1)
    return paper * (shade * lines)[..., None]


def _watercolor(image: Array, mask: Array) -> Array:
    side = image.shape[0]
    soft = 1 - (1 - _blur(image, 0.7)) * 0.84
    bloom = 1 + 0.10 * _grain(side, 7, 3)
    rim = 1 - 0.28 * _edges(image, mask)
    y, x = np.abs(np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j])
    border = np.clip((0.93 + 0.06 * _grain(side, 9, 5) - np.maximum(x, y)) * 14, 0, 1)[..., None]
    return (soft * (bloom * rim)[..., None]) * border + np.array((0.98, 0.97, 0.94), np.float32) * (
        1 - border
    )


def _oil_painting(image: Array, mask: Array) -> Array:
    side = image.shape[0]
    width = 2 * max(1, round(side / 64)) + 1
    flat = Image.fromarray((np.clip(image, 0, 1) * 255).astype(np.uint8)).filter(
        ImageFilter.MedianFilter(width)
    )
    rich = _saturate(np.asarray(flat, np.float32) / 255, 1.25) * 0.93
    y, x = np.mgrid[:side, :side] * (64 / side)
    stroke = np.sin((x * 0.55 + y) * 1.25 + 2.5 * _grain(side, 6, 11)).astype(np.float32)
    return rich * (1 + 0.10 * stroke)[..., None] + 0.015 * stroke[..., None]


def _pixel_art(image: Array, mask: Array) -> Array:
    # as many pixels as an old game's sprites; four fill a latent's square, so that their borders fall on its grid
    side, cells = image.shape[0], 32
    small = Image.fromarray((np.clip(_saturate(image, 1.2), 0, 1) * 255).astype(np.uint8)).resize(
        (cells, cells), Image.Resampling.BOX
    )
    return np.asarray(small.resize((side, side), Image.Resampling.NEAREST), np.float32) / 255


def _pop_art(image: Array, mask: Array) -> Array:
    side = image.shape[0]
    y, x = np.mgrid[:side, :side] * (2 * np.pi * 16 / side)
    dots = (np.cos(x) + np.cos(y) > 0.55).astype(np.float32) * (1 - mask)
    vivid = _saturate(image, 1.6)
    flat = (
        vivid + (np.round(vivid * 3) / 3 - vivid) * mask[..., None]
    )  # only objects: plain backgrounds would band
    flat = (
        flat * (1 - 0.38 * dots[..., None] * (_luma(flat) > 0.35)[..., None])
        + (0.28 * dots * (_luma(flat) <= 0.35))[..., None]
    )
    ink = np.clip(_edges(image, mask) * 1.8 - 0.45, 0, 1)[..., None]
    return flat * (1 - ink)


def _neon(image: Array, mask: Array) -> Array:
    vivid = _saturate(image, 1.9)
    vivid = np.clip(vivid / np.maximum(vivid.max(-1, keepdims=True), 0.25), 0, 1)
    tube = vivid * np.clip(_edges(image, mask) * 1.5 - 0.15, 0, 1)[..., None]
    return np.clip(image * 0.22 + tube * 0.95 + _blur(tube, 2.0) * 0.9, 0, 1)


@lru_cache(maxsize=4)
def _panes(side: int) -> tuple[NDArray[np.int64], int]:
    rng, n = np.random.default_rng(17), 10
    seeds = np.stack(np.meshgrid(np.arange(n), np.arange(n)), -1).reshape(-1, 2) + rng.uniform(
        0.15, 0.85, (n * n, 2)
    )
    y, x = np.mgrid[:side, :side] * (n / side)
    distance = (x[..., None] - seeds[:, 0]) ** 2 + (y[..., None] - seeds[:, 1]) ** 2
    return distance.argmin(-1), n * n


def _stained_glass(image: Array, mask: Array) -> Array:
    side = image.shape[0]
    cell, count = _panes(side)
    label = cell + count * (mask > 0.5)
    flat = label.ravel()
    area = np.maximum(np.bincount(flat, minlength=2 * count), 1)
    mean = np.stack(
        [np.bincount(flat, image[..., c].ravel(), 2 * count) / area for c in range(3)], -1
    ).astype(np.float32)
    glass = mean[label] * (1 - 0.5 * mask[..., None]) + image * (0.5 * mask[..., None])
    step = max(1, side // 64)
    lead = (label != np.roll(label, step, 0)) | (label != np.roll(label, step, 1))
    lead[:step], lead[:, :step] = False, False
    lead &= (
        (mask < 0.5) | (np.roll(mask, step, 0) < 0.5) | (np.roll(mask, step, 1) < 0.5)
    )  # an object's panes are fused
    return np.clip(_saturate(glass, 1.7) * 1.08, 0, 1) * (1 - 0.85 * lead[..., None])


def _blueprint(image: Array, mask: Array) -> Array:
    side = image.shape[0]
    grid = np.zeros((side, side), np.float32)
    grid[:: side // 8], grid[:, :: side // 8] = 1, 1
    lines = np.clip(_edges(image, mask) * 1.4 - 0.12, 0, 1)
    paper = np.array((0.09, 0.25, 0.58), np.float32) * (0.85 + 0.3 * _luma(image))[..., None]
    drawn = np.clip(0.92 * lines + 0.16 * grid * (1 - mask), 0, 1)[..., None]
    return paper * (1 - drawn) + np.array((0.90, 0.95, 1.0), np.float32) * drawn


FILTERS: dict[str, Callable[[Array, Array], Array]] = {
    "plain": lambda image, mask: image,
    "pencil sketch": _pencil_sketch,
    "watercolor": _watercolor,
    "oil painting": _oil_painting,
    "pixel art": _pixel_art,
    "pop art": _pop_art,
    "neon": _neon,
    "stained glass": _stained_glass,
    "blueprint": _blueprint,
}
