"""Turn a scene into a picture, with the mask of every object.

Objects are glyphs of the Noto Color Emoji font (SIL OFL 1.1), or drawings by the hands of `art.py`; places and shadows are drawn here, and
`styles.py` has the art styles. Needed for training and evaluation only, never at run time. The design decision: every
backdrop comes in a few fixed variants and is kept, so that a scene costs little more than a millisecond.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sdkit.pocket.world import COLOURS, HANDS, Item, Scene

from . import art
from .styles import FILTERS, Array

__all__ = ["Rendered", "find_font", "find_hands", "render"]

_FONTS = (
    "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/google-noto-emoji/NotoColorEmoji.ttf",
)
_GLYPH = 109  # the one size of the font's bitmaps, in points
_CANVAS = 256  # backdrops are drawn at this many pixels, then reduced
_VARIANTS = 6  # of every backdrop


@dataclass(frozen=True)
class Rendered:
    """A picture `(H, W, 3)` in 0..1 and one mask `(H, W)` in 0..1 for each object of the scene."""

    image: Array
    masks: tuple[Array, ...]


def find_font() -> Path:
    """The emoji font's file (`SDKIT_EMOJI_FONT` names another), or a FileNotFoundError that says how to get it."""
    for name in (os.environ.get("SDKIT_EMOJI_FONT", ""), *_FONTS):
        if Path(name).is_file():
            return Path(name)
    raise FileNotFoundError(
        "The font Noto Color Emoji was not found; it draws Pocket's training scenes. "
        "Install it with: apt-get install fonts-noto-color-emoji"
    )


def find_hands(hands: Iterable[str]) -> None:
    """Make sure that everything these hands draw with is here, or say what is missing before anything was begun."""
    for hand in hands:
        if hand == "noto":
            find_font()
        else:
            art.fetch(hand)


# -- objects ------------------------------------------------------------------------------------------------------


@cache
def _glyph(char: str) -> Image.Image:
    font = ImageFont.truetype(str(find_font()), _GLYPH)
    picture = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(picture).text((8, 8), char, font=font, embedded_color=True)
    box = picture.getbbox()
    if box is None:
        raise ValueError(
            f"The emoji font has no glyph for {char!r}: choose another for this object."
        )
    return picture.crop(box)


def _tinted(rgb: Array, alpha: Array, colour: str) -> Array:
    """Give an object another colour: keep light and shade, replace hue and saturation."""
    target = np.array(COLOURS[colour], np.float32)
    light = rgb @ np.array((0.299, 0.587, 0.114), np.float32)
    middle = float(np.average(light, weights=alpha + 1e-6))
    relative = np.clip(light / max(middle, 0.05), 0, 2)[..., None]
    shade = np.where(
        relative < 1,
        target * (0.25 + 0.75 * relative),
        target + (1 - target) * (relative - 1) * 0.55,
    )
    spread = rgb.max(-1) - rgb.min(-1)
    keep = ((spread < 0.12) & ((light > 0.93) | (light < 0.22)))[
        ..., None
    ]  # eyes, windows, tyres stay
    share = float((keep[..., 0] * alpha).sum() / alpha.sum())
    return np.where(keep & (share < 0.4), rgb, shade).astype(np.float32)


@lru_cache(maxsize=4096)
def _sprite(
    hand: str, char: str, colour: str | None, upside_down: bool, mirrored: bool, side: int
) -> tuple[Array, Array]:
    """Colour `(h, w, 3)` and coverage `(h, w)` of an object whose longer side has `side` pixels."""
    picture = _glyph(char) if hand == "noto" else art.picture(hand, char)
    scale = side / max(picture.size)
    width, height = (max(1, round(n * scale)) for n in picture.size)
    small = (
        np.asarray(
            picture.convert("RGBa").resize((width, height), Image.Resampling.LANCZOS), np.float32
        )
        / 255
    )
    alpha = small[..., 3]
    rgb = small[..., :3] / np.maximum(alpha, 1e-3)[..., None]
    rgb = np.clip(rgb, 0, 1)
    if colour:
        rgb = _tinted(rgb, alpha, colour)
    rows, columns = (slice(None, None, -1 if turned else 1) for turned in (upside_down, mirrored))
    return rgb[rows, columns], alpha[rows, columns]


# -- backdrops ----------------------------------------------------------------------------------------------------


def _ramp(top: tuple[float, ...], bottom: tuple[float, ...], rows: int) -> Array:
    t = np.linspace(0, 1, rows, dtype=np.float32)[:, None, None]
    return np.broadcast_to(
        np.array(top, np.float32) * (1 - t) + np.array(bottom, np.float32) * t, (rows, _CANVAS, 3)
    ).copy()


def _rgb(*values: float) -> tuple[int, ...]:
    return tuple(round(255 * v) for v in values)


def _hills(
    draw: ImageDraw.ImageDraw,
    level: float,
    height: float,
    waves: float,
    phase: float,
    fill: tuple[int, ...],
) -> None:
    x = np.linspace(0, 1, 65)
    y = level - height * np.sin(2 * np.pi * (waves * x + phase))
    ridge = [(float(a) * _CANVAS, float(b) * _CANVAS) for a, b in zip(x, y, strict=True)]
    draw.polygon([*ridge, (_CANVAS, _CANVAS), (0, _CANVAS)], fill=fill)


def _canvas(
    top: tuple[float, ...], bottom: tuple[float, ...]
) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.fromarray((255 * _ramp(top, bottom, _CANVAS)).astype(np.uint8))
    return picture, ImageDraw.Draw(picture)


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, fill: tuple[int, ...]) -> None:
    draw.ellipse(
        [(_CANVAS * (x - r), _CANVAS * (y - r)), (_CANVAS * (x + r), _CANVAS * (y + r))], fill=fill
    )


def _bar(
    draw: ImageDraw.ImageDraw,
    left: float,
    top: float,
    right: float,
    bottom: float,
    fill: tuple[int, ...],
) -> None:
    draw.rectangle([_CANVAS * left, _CANVAS * top, _CANVAS * right, _CANVAS * bottom], fill=fill)


def _cloud(draw: ImageDraw.ImageDraw, x: float, y: float, r: float) -> None:
    for dx, dy, k in ((-1.1, 0.2, 0.7), (0, -0.1, 1.0), (1.1, 0.25, 0.65)):
        _disc(draw, x + dx * r, y + dy * r, r * k, _rgb(1, 1, 1))


def _beach(rng: np.random.Generator) -> Image.Image:
    picture, draw = _canvas((0.42, 0.74, 0.96), (0.80, 0.93, 1.0))
    _disc(draw, 0.82, 0.13, 0.075, _rgb(1, 0.93, 0.55))
    _cloud(draw, rng.uniform(0.15, 0.4), 0.12, 0.05)
    _bar(draw, 0, 0.40, 1, 0.60, _rgb(0.16, 0.60, 0.78))
    _bar(draw, 0, 0.40, 1, 0.45, _rgb(0.10, 0.48, 0.72))
    phase = rng.uniform()
    _hills(draw, 0.575, 0.012, 3, phase, _rgb(1, 1, 1))
    _hills(draw, 0.60, 0.012, 3, phase, _rgb(0.95, 0.85, 0.62))
    _hills(draw, 0.86, 0.02, 1.5, phase, _rgb(0.91, 0.78, 0.53))
    return picture


def _night(rng: np.random.Generator) -> Image.Image:
    picture, draw = _canvas((0.03, 0.04, 0.16), (0.16, 0.17, 0.42))
    for cell in range(16):  # one star in each cell of a grid, so that the sky is evenly lit
        x, y = (cell % 4 + rng.uniform(0.2, 0.8)) / 4, (cell // 4 + rng.uniform(0.2, 0.8)) / 5.4
        _disc(draw, x, y, rng.choice((0.008, 0.011, 0.014)), _rgb(1, 1, 0.88))
    _disc(draw, 0.84, 0.15, 0.085, _rgb(0.98, 0.95, 0.78))
    _disc(draw, 0.80, 0.13, 0.072, _rgb(0.06, 0.07, 0.21))
    _hills(draw, 0.80, 0.03, 1, rng.uniform(), _rgb(0.06, 0.08, 0.20))
    _hills(draw, 0.88, 0.03, 1.3, rng.uniform(), _rgb(0.03, 0.05, 0.13))
    return picture


def _snow(rng: np.random.Generator) -> Image.Image:
    picture, draw = _canvas((0.62, 0.76, 0.90), (0.90, 0.94, 0.98))
    _hills(draw, 0.52, 0.05, 1, rng.uniform(), _rgb(0.80, 0.87, 0.94))
    for x in (0.08, 0.24, 0.78, 0.93):
        middle, base, h = x + rng.uniform(-0.02, 0.02), 0.60, rng.uniform(0.22, 0.30)
        for k, colour in ((1.0, (0.22, 0.42, 0.40)), (0.62, (0.92, 0.96, 0.99))):
            tip = base - h
            draw.polygon(
                [
                    (256 * middle, 256 * tip),
                    (256 * (middle + 0.065 * k), 256 * (tip + h * k)),
                    (256 * (middle - 0.065 * k), 256 * (tip + h * k)),
                ],
                fill=_rgb(*colour),
            )
    _hills(draw, 0.62, 0.02, 1, rng.uniform(), _rgb(0.96, 0.98, 1.0))
    _hills(draw, 0.82, 0.03, 1, rng.uniform(), _rgb(0.88, 0.93, 0.98))
    return picture


def _meadow(rng: np.random.Generator) -> Image.Image:
    picture, draw = _canvas((0.45, 0.76, 0.97), (0.84, 0.95, 1.0))
    _cloud(draw, rng.uniform(0.12, 0.35), 0.14, 0.055)
    _cloud(draw, rng.uniform(0.65, 0.88), 0.20, 0.045)
    _hills(draw, 0.50, 0.05, 1, rng.uniform(), _rgb(0.45, 0.72, 0.38))
    _hills(draw, 0.62, 0.04, 1, rng.uniform(), _rgb(0.52, 0.78, 0.34))
    _hills(draw, 0.80, 0.03, 1, rng.uniform(), _rgb(0.40, 0.68, 0.28))
    for i in range(6):
        colour = ((1, 0.85, 0.3), (1, 1, 1), (0.95, 0.45, 0.6))[i % 3]
        _disc(draw, (i + rng.uniform(0.2, 0.8)) / 6, rng.uniform(0.86, 0.96), 0.017, _rgb(*colour))
    return picture


def _sea(rng: np.random.Generator) -> Image.Image:
    picture, draw = _canvas((0.56, 0.82, 0.98), (0.93, 0.97, 1.0))
    _disc(draw, 0.16, 0.14, 0.08, _rgb(1, 0.90, 0.45))
    phase = rng.uniform()
    for k, level in enumerate((0.44, 0.58, 0.72, 0.86)):
        shade = 1 - 0.17 * k
        _hills(
            draw,
            level,
            0.018,
            3 - 0.3 * k,
            phase + 0.3 * k,
            _rgb(0.30 * shade, 0.66 * shade, 0.86 * shade + 0.05),
        )
    return picture


def _desert(rng: np.random.Generator) -> Image.Image:
    picture, draw = _canvas((0.98, 0.66, 0.36), (1.0, 0.90, 0.66))
    _disc(draw, 0.78, 0.20, 0.09, _rgb(1, 0.97, 0.80))
    _hills(draw, 0.56, 0.05, 1, rng.uniform(), _rgb(0.88, 0.60, 0.34))
    _hills(draw, 0.68, 0.05, 1.2, rng.uniform(), _rgb(0.93, 0.70, 0.40))
    _hills(draw, 0.85, 0.03, 1, rng.uniform(), _rgb(0.85, 0.59, 0.31))
    return picture


def _city(rng: np.random.Generator) -> Image.Image:
    picture, draw = _canvas((0.30, 0.22, 0.48), (0.98, 0.62, 0.50))
    for k, (colour, low) in enumerate((((0.36, 0.27, 0.50), 0.22), ((0.20, 0.17, 0.36), 0.36))):
        for i in range(7):
            left, top = (i + 0.5 * k - 0.25) / 6.5, low + rng.uniform(0, 0.16)
            _bar(draw, left, top, left + 0.125, 0.8, _rgb(*colour))
            for row in range(4) if k else ():
                for column in (0.03, 0.08):
                    if rng.uniform() < 0.6:
                        y = top + 0.03 + 0.07 * row
                        _bar(
                            draw,
                            left + column,
                            y,
                            left + column + 0.022,
                            y + 0.03,
                            _rgb(1, 0.85, 0.45),
                        )
    _bar(draw, 0, 0.78, 1, 1, _rgb(0.30, 0.29, 0.38))
    _bar(draw, 0, 0.78, 1, 0.80, _rgb(0.45, 0.43, 0.52))
    for i in range(4):
        _bar(draw, 0.04 + i * 0.26, 0.89, 0.17 + i * 0.26, 0.905, _rgb(0.85, 0.82, 0.75))
    return picture


_SCENERY: dict[str, Callable[[np.random.Generator], Image.Image]] = {
    "beach": _beach,
    "night": _night,
    "snow": _snow,
    "meadow": _meadow,
    "sea": _sea,
    "desert": _desert,
    "city": _city,
}


@lru_cache(maxsize=512)
def _backdrop(name: str, variant: int, side: int) -> Array:
    if name in COLOURS:  # a studio card: a little lighter above, a little darker below
        colour = np.array(COLOURS[name], np.float32)
        light = np.linspace(1.05, 0.93, side, dtype=np.float32)[:, None, None]
        return np.clip(np.broadcast_to(colour * light, (side, side, 3)), 0, 1).astype(np.float32)
    picture = _SCENERY[name](np.random.default_rng([variant, len(name)]))
    return np.asarray(picture.resize((side, side), Image.Resampling.BOX), np.float32) / 255


@lru_cache(maxsize=2048)
def _shadow(width: int, height: int) -> Array:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.clip(1.15 - (x**2 + y**2), 0, 1).astype(np.float32) ** 1.5


def _stand(image: Array, item: Item, hand: str, cast_shadow: bool) -> Array:
    """Put an object (and its shadow) into the picture, in place; returns its mask."""
    side = image.shape[0]
    rgb, alpha = _sprite(
        hand,
        item.kind.glyph,
        item.colour,
        item.upside_down,
        item.mirrored,
        max(4, round(item.size * side)),
    )
    height, width = alpha.shape
    left, top = round(item.x * side - width / 2), round(item.y * side - height / 2)
    if cast_shadow:
        shade = _shadow(round(width * 1.05), max(3, round(side * 0.11)))
        _blend(
            image,
            np.zeros(3, np.float32),
            shade * 0.33,
            left - round(width * 0.025),
            top + height - round(shade.shape[0] * 0.62),
        )
    mask = np.zeros((side, side), np.float32)
    _blend(image, rgb, alpha, left, top)
    _blend(mask[..., None], np.ones(1, np.float32), alpha, left, top)
    return mask


def _blend(image: Array, colour: Array, alpha: Array, left: int, top: int) -> None:
    side, (height, width) = image.shape[0], alpha.shape
    y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + height, side), min(left + width, side)
    if y0 >= y1 or x0 >= x1:
        return
    cut = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    part = alpha[cut][..., None]
    patch = colour[cut] if colour.ndim == 3 else colour
    image[y0:y1, x0:x1] += (patch - image[y0:y1, x0:x1]) * part


def render(scene: Scene, side: int = 64) -> Rendered:
    """Draw a scene as a square picture of `side` pixels (16 to 512)."""
    if not 16 <= side <= 512:
        raise ValueError(f"A scene of {side} pixels was asked for; choose 16 to 512.")
    image = _backdrop(scene.background, scene.variant % _VARIANTS, side).copy()
    shadows = scene.background not in ("night", "sea")
    masks = tuple(_stand(image, item, scene.hand, shadows) for item in scene.items)
    cover = np.maximum.reduce(masks)
    styled = FILTERS["plain" if scene.style in HANDS else scene.style](image, cover)
    return Rendered(np.clip(styled, 0, 1).astype(np.float32), masks)
