"""A user's picture becomes a source or a mask: the one place where `generate` and all others take pictures in.

The one decision: **what comes in is brought into one form at the door,** RGB for a source and L for a mask, upright, on
white where it is transparent, with eight bits a channel, and without metadata. Behind the door nobody asks again what
kind of picture it was. A plain RGB source and a plain L mask pass as they are, to the bit.

Colour profiles are not applied: numbers of red, green and blue are taken as sRGB, as diffusers takes them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image, ImageChops, ImageCms

from sdkit.errors import BadPicture, InvalidSettings

from .metadata import open_picture
from .sheet import flat

if TYPE_CHECKING:
    from sdkit.settings import Settings

__all__ = [
    "Picture",
    "as_mask",
    "as_source",
    "effective_fit",
    "fitted",
    "fitted_mask",
    "mask_note",
    "sized_like",
    "taken_in",
]

Picture = Image.Image | str | os.PathLike[str] | np.ndarray[Any, Any]
"""What is taken as a picture: of Pillow, a file's path, or an array ``(H, W)`` or ``(H, W, 1 to 4)``."""

_ORIENTATION: Final = 0x0112
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's Orientation → what turns the picture upright."""

_DEEP: Final = ("I", "F")  # and those that begin with I;16
_WHITES: Final = (255, 2**16 - 1, 2**31 - 1)  # what 8, 16 and 31 bits call white
_OVERSHOOT: Final = (
    1.5  # resampling takes floats a little above white; a picture in 0..255 stays far above 1.5
)
_DARK, _BRIGHT = 64, 191  # a mask whose visible pixels hold both is drawn in black and white
_COLOURED: Final = 32  # levels between channels: below this a pixel is grey
_LEAST, _MOST, _STEP = 16, 8192, 8  # pixels of a side, as `Settings` allows them
_FULL_SIZE: Final = (
    0.15  # how much a size of the model's whole area counts against exact proportions
)


def taken_in(
    image: Picture | None, mask: Picture | None = None
) -> tuple[Image.Image | None, Image.Image | None]:
    """Return a source and a mask in the form that runs take them in, each None where there is none; errors as below."""
    return None if image is None else as_source(image), None if mask is None else as_mask(mask)


def as_source(given: Picture, name: str = "image") -> Image.Image:
    """Return a picture as a run starts from it.

    Parameters
    ----------
    given
        A Pillow image of any mode, a file (PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF; of several pictures the first), a result that holds one picture, or an array. Numbers above 8 bits and floats are scaled by
        the smallest usual white that holds them: 1 (floats alone), 255, 65,535 or 2³¹ - 1. 16-bit modes have 65,535.
    name
        What to call it in an error.

    Returns
    -------
    PIL.Image.Image
        RGB, turned as its EXIF says, on white where it is transparent, without metadata; the very same picture if it
        is that already.

    Raises
    ------
    BadPicture
        If a file cannot be read as a picture.
    InvalidSettings
        For anything else that is no picture: no pixels, NaN or infinity, another type or shape.
    """
    image = _upright(_opened(given, name))
    try:
        if image.mode != "RGB" or image.has_transparency_data:
            image = flat(_readable(image, name))
        return _plain(image)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise _unreadable(image, name, error) from error


def as_mask(given: Picture, name: str = "mask") -> Image.Image:
    """Return a mask: white is made anew, black is kept.

    Parameters
    ----------
    given, name
        As for `as_source`.

    Returns
    -------
    PIL.Image.Image
        L, of the given size. An opaque picture counts by its brightness. If transparency varies, what is opaque is
        made anew, whatever its colour (white with holes, black or coloured strokes), unless opaque pixels are drawn in
        both black and white: then their brightness counts, and what is transparent is kept. A mask of nothing but 0
        and 1 is taken as black and white.

    Raises
    ------
    BadPicture, InvalidSettings
        As `as_source`.
    """
    image = _upright(_opened(given, name))
    try:
        if image.mode != "L" or image.has_transparency_data:
            image = _readable(image, name)
            image = _by_alpha(_plain(image)) if image.mode == "RGBA" else image.convert("L")
        grey = _plain(image)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise _unreadable(image, name, error) from error
    return grey.point([0] + [255] * 255) if grey.getextrema()[1] == 1 else grey


# -- sizes and proportions -------------------------------------------------------------------------------------------


def sized_like(
    settings: Settings, image: Image.Image | None, usual: tuple[int, int], *, step: int = _STEP
) -> Settings:
    """Fill in a size that nobody asked for from a source's proportions.

    Parameters
    ----------
    settings
        Settings whose `width`, `height` or both may be open.
    image
        The source, from `as_source`, or None.
    usual
        The model's own width and height; the area of the new size is at most theirs.
    step
        The sides are multiples of it.

    Returns
    -------
    Settings
        With both sides. Unchanged without a source, and where `fit` is given: it says how the source gets into the
        model's own size.
    """
    if image is None or settings.fit is not None or (settings.width and settings.height):
        return settings
    if settings.width:
        return settings.replace(height=_side(settings.width * image.height / image.width, step))
    if settings.height:
        return settings.replace(width=_side(settings.height * image.width / image.height, step))
    width, height = _proportioned(image.size, usual, step)
    return settings.replace(width=width, height=height)


def effective_fit(settings: Settings, image: Image.Image) -> str | None:
    """Return how the source gets into the settings' size: crop unless they say otherwise, None where it has the shape."""
    size = (settings.width or image.width, settings.height or image.height)
    return None if _same_shape(image.size, size) else settings.fit or "crop"


def fitted(image: Image.Image, size: tuple[int, int], fit: str | None) -> Image.Image:
    """Return the source in a run's size: cut to its middle, on a white sheet ("pad"), or stretched."""
    return _laid(image, image.size, size, fit, Image.Resampling.LANCZOS)


def fitted_mask(
    mask: Image.Image, frame: tuple[int, int], size: tuple[int, int], fit: str | None
) -> Image.Image:
    """Return the mask in a run's size.

    It lies over the source, whose size is `frame`, and is cut and laid with it; what "pad" adds is kept. A mask that
    has the run's shape, where the source has another, was made for the picture to be, and is taken whole.
    """
    whole = _same_shape(mask.size, size) and not _same_shape(mask.size, frame)
    return _laid(mask, size if whole else frame, size, fit, Image.Resampling.BILINEAR)


def mask_note(mask: Image.Image, frame: tuple[int, int], size: tuple[int, int]) -> str | None:
    """Return a sentence about a mask without white, or with neither the source's shape nor the picture's, else None."""
    if mask.getextrema()[1] == 0:
        return (
            "The mask is black all over, so nothing is made anew; draw in white what shall change."
        )
    if any(_same_shape(mask.size, other, tolerance=1) for other in (frame, size)):
        return None
    return (
        f"The mask has {mask.width}×{mask.height} pixels and the image {frame[0]}×{frame[1]}, so the mask is stretched "
        "over it; give a mask of the image's size."
    )


def _laid(
    image: Image.Image,
    frame: tuple[int, int],
    size: tuple[int, int],
    fit: str | None,
    how: Image.Resampling,
) -> Image.Image:
    """Lay a picture, which covers a frame, into a size."""
    if fit == "stretch" or _same_shape(frame, size):
        return image.resize(size, how)
    if fit == "pad":
        scale = min(size[0] / frame[0], size[1] / frame[1])
        width, height = (
            max(1, min(most, round(side * scale))) for side, most in zip(frame, size, strict=True)
        )
        sheet = Image.new(image.mode, size, "white" if image.mode == "RGB" else 0)
        sheet.paste(
            image.resize((width, height), how), ((size[0] - width) // 2, (size[1] - height) // 2)
        )
        return sheet
    scale = max(size[0] / frame[0], size[1] / frame[1])
    shares = [min(1.0, side / (scale * whole)) for side, whole in zip(size, frame, strict=True)]
    left, top = (side * (1 - share) / 2 for side, share in zip(image.size, shares, strict=True))
    return image.resize(size, how, box=(left, top, image.width - left, image.height - top))


def _same_shape(one: tuple[int, int], two: tuple[int, int], tolerance: int = 0) -> bool:
    """Whether two sizes have equal proportions, up to so many pixels of the smaller one."""
    return abs(one[0] * two[1] - one[1] * two[0]) <= tolerance * max(*one, *two)


def _side(length: float, step: int) -> int:
    least = math.ceil(_LEAST / step) * step
    return min(max(least, round(length / step) * step), _MOST // step * step)


def _proportioned(shape: tuple[int, int], usual: tuple[int, int], step: int) -> tuple[int, int]:
    """Return the size within the usual area that comes nearest to a shape, and fills the area as far as that allows."""
    if _same_shape(shape, usual):
        return usual
    area, ratio = usual[0] * usual[1], max(shape) / min(shape)
    least = math.ceil(_LEAST / step) * step
    found = []
    for short in range(least, max(least, math.isqrt(area)) + 1, step):
        room = max(least, area // short // step * step)
        long = min(_side(short * ratio, step), room)
        off = abs(math.log(long / short / ratio)) + _FULL_SIZE * math.log(
            max(1.0, area / (long * short))
        )
        found.append((off, long, short))
    _, long, short = min(found)
    return (long, short) if shape[0] >= shape[1] else (short, long)


# -- what kind of picture it is --------------------------------------------------------------------------------------


def _opened(given: Any, name: str) -> Image.Image:
    """Decode a picture from wherever it is."""
    if isinstance(given, (str, os.PathLike)):
        given = open_picture(os.path.expanduser(given), texts=False)  # noqa: PTH111 - leaves an unknown "~name" as it is
    elif isinstance(given, np.ndarray):
        given = _from_array(given, name)
    elif isinstance(made := getattr(given, "images", None), (list, tuple)):
        given = _only(made, name)
    elif not isinstance(given, Image.Image):
        raise InvalidSettings(
            f"{name} is of type {type(given).__name__}; give a PIL image, a file's path or an array."
        )
    try:
        given.load()
    except (
        Exception
    ) as error:  # Pillow's decoders meet broken and closed files with nearly any exception
        raise _unreadable(given, name, error) from error
    if not given.width or not given.height:
        raise InvalidSettings(
            f"{name} has {given.width}×{given.height} pixels; give a picture of 1 pixel or more."
        )
    return given


def _only(made: Sequence[Any], name: str) -> Any:
    """The picture of a result, of sdkit or of diffusers, that holds one."""
    if len(made) != 1 or not isinstance(made[0], Image.Image):
        raise InvalidSettings(
            f"{name} is a result with {len(made)} pictures; give one of them, such as result.images[0]."
        )
    return made[0]


def _from_array(array: np.ndarray[Any, Any], name: str) -> Image.Image:
    shape = array.shape
    if array.ndim == 3 and shape[-1] == 1:
        array = array[..., 0]
    if (
        array.dtype.kind not in "buif"
        or array.ndim not in {2, 3}
        or (array.ndim == 3 and array.shape[-1] not in {2, 3, 4})
    ):
        raise InvalidSettings(
            f"{name} is an array of {array.dtype} and shape {shape}; give numbers of shape (H, W) or (H, W, 3), rows first."
        )
    if not array.size:
        raise InvalidSettings(
            f"{name} is an array of shape {shape}; give a picture of 1 pixel or more."
        )
    if array.dtype == bool:
        array = array * np.uint8(255)
    white = 2**16 - 1 if array.dtype == np.uint16 else None
    return Image.fromarray(array if array.dtype == np.uint8 else _scaled(array, name, white))


def _upright(image: Image.Image) -> Image.Image:
    try:
        turned = image.getexif().get(_ORIENTATION)
    except Exception:  # noqa: BLE001 - a damaged EXIF block, which raises nearly anything, counts as none
        turned = None
    # a rotated picture is a new one, and Pillow hands the old EXIF block on to it: `_plain` takes it away
    return (
        image.transpose(_UPRIGHT[turned])
        if isinstance(turned, int) and turned in _UPRIGHT
        else image
    )


def _readable(image: Image.Image, name: str) -> Image.Image:
    """Return any picture in a mode that Pillow turns rightly into RGB or RGBA."""
    if image.mode in _DEEP or image.mode.startswith("I;16"):
        return _eight_bits(image, name)
    if image.mode == "LAB":  # Pillow's own conversion takes the three channels for others
        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB") or image
    if image.mode == "La":  # with alpha multiplied in, which only becomes LA
        image = image.convert("LA")
    return image.convert("RGBA") if image.has_transparency_data else image.convert("RGB")


def _eight_bits(image: Image.Image, name: str) -> Image.Image:
    values = np.asarray(image)
    grey = Image.fromarray(_scaled(values, name, None if image.mode in _DEEP else 2**16 - 1))
    clear = image.info.get("transparency")
    if not isinstance(clear, int):
        return grey
    grey = grey.convert("RGBA")
    grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey


def _scaled(
    values: np.ndarray[Any, Any], name: str, white: int | None = None
) -> np.ndarray[Any, Any]:
    """Bring numbers to 0..255, by the smallest usual white that holds them all."""
    numbers = values.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise InvalidSettings(
            f"{name} holds NaN or infinity; give finite numbers from 0 (black) to 1 or 255 (white)."
        )
    top = float(numbers.max())
    if white is None and values.dtype.kind == "f":
        white = next((w for w in (1, *_WHITES) if top <= w * _OVERSHOOT), None)
    elif white is None:
        white = next((w for w in _WHITES if top <= w), None)
    return np.rint(numbers.clip(0, white) * (255 / (white or top))).clip(0, 255).astype(np.uint8)


def _by_alpha(image: Image.Image) -> Image.Image:
    """Return the mask that a picture with transparency means, see `as_mask`."""
    colours, alpha, grey = (
        np.asarray(image),
        image.getchannel("A"),
        image.convert("RGB").convert("L"),
    )
    if (
        np.ptp(colours[..., 3]) == 0
    ):  # equally opaque everywhere, which says nothing, unless the layer is empty
        return grey if np.ptp(np.asarray(grey)) else ImageChops.multiply(grey, alpha)
    seen = colours[colours[..., 3] > 127][:, :3].astype(int)
    drawn = (
        len(seen) > 0
        and np.ptp(seen, axis=1).max() < _COLOURED
        and seen.min() < _DARK
        and seen.max() > _BRIGHT
    )
    return ImageChops.multiply(grey, alpha) if drawn else alpha


def _plain(image: Image.Image) -> Image.Image:
    """Return a picture without metadata, which would else be sent to workers and saved again."""
    if image.info:
        image = image.copy()
        image.info.clear()
    return image


def _unreadable(image: Image.Image, name: str, error: BaseException) -> Exception:
    if isinstance(error, (BadPicture, InvalidSettings)):
        return error
    reason = str(error).partition("\n")[0] or type(error).__name__
    return BadPicture(
        f"{name} cannot be read as a picture of mode {image.mode} ({reason}): convert it to RGB first"
    )
