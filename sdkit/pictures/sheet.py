"""Pictures side by side, and pictures in the size a reader can see.

The one decision: what is *shown* and what is *saved* are apart. Pocket's pictures have 128 pixels, so everything shown
is enlarged (Lanczos: smooth, with sharp edges), while files keep native pixels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from PIL import Image

from sdkit.errors import InvalidSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["contact_sheet", "enlarged", "flat", "readable", "resized"]

_READABLE: Final = (
    256  # pixels: below this a picture on a sheet is enlarged, or nobody sees what it shows
)
_READABLE_ALONE: Final = 320
_MOST_ALONE: Final = 768  # more would fill a notebook's window, and its file
_MOST_SHEET: Final = 1280
_GAP: Final = 8
_LARGEST_SCALE: Final = 64
_ONE_ROW: Final = 4
_TWO_ROWS: Final = 8


def contact_sheet(
    images: Sequence[Image.Image], columns: int | None = None, scale: float | None = None
) -> Image.Image:
    """Return all pictures in rows on one sheet.

    Parameters
    ----------
    images
        One picture or more; those of different sizes are centred in equal cells.
    columns
        Pictures in a row; by default up to four, or a square for more than eight.
    scale
        Enlargement of each picture, above 0 up to 64. By default small pictures are brought to 256 pixels.

    Returns
    -------
    PIL.Image.Image
        RGB on white, 8 pixels between pictures.

    Raises
    ------
    InvalidSettings
        For no pictures, no columns, or a scale outside its limits.
    """
    if not images:
        msg = "there are no pictures for a sheet: select at least one"
        raise InvalidSettings(msg)
    if columns is not None and columns < 1:
        msg = f"columns={columns} leaves no room for pictures: use 1 or more"
        raise InvalidSettings(msg)
    columns = min(columns or _columns(len(images)), len(images))
    if scale is None:
        scale = max(1.0, _READABLE / _longest(images))
    shown = [flat(resized(image, scale)) for image in images]
    width, height = max(image.width for image in shown), max(image.height for image in shown)
    rows = math.ceil(len(images) / columns)
    sheet = Image.new(
        "RGB", (columns * (width + _GAP) - _GAP, rows * (height + _GAP) - _GAP), "white"
    )
    for index, image in enumerate(shown):
        left = (index % columns) * (width + _GAP) + (width - image.width) // 2
        top = (index // columns) * (height + _GAP) + (height - image.height) // 2
        sheet.paste(image, (left, top))
    return sheet


def readable(images: Sequence[Image.Image]) -> Image.Image:
    """Return one picture, or a sheet of several, in a size that reads well in a notebook and keeps it small."""
    longest = _longest(images)
    if len(images) == 1:
        return contact_sheet(
            images, scale=min(max(1.0, _READABLE_ALONE / longest), _MOST_ALONE / longest)
        )
    columns = _columns(len(images))
    room = max(_GAP, _MOST_SHEET / columns - _GAP)
    return contact_sheet(images, columns, scale=min(max(1.0, _READABLE / longest), room / longest))


def resized(image: Image.Image, scale: float) -> Image.Image:
    """Return the picture enlarged (or reduced) by ``scale``; the picture itself for 1.

    Raises
    ------
    InvalidSettings
        For a scale outside 0 to 64, or one that makes more pixels than Pillow would open again.
    """
    size = enlarged(image.size, scale)
    return image if scale == 1 else image.resize(size, Image.Resampling.LANCZOS)


def enlarged(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """Return the size of a picture enlarged by ``scale``; known, and refused, before there is a picture.

    Raises
    ------
    InvalidSettings
        As `resized`.
    """
    if not 0 < scale <= _LARGEST_SCALE:  # false for NaN as well
        msg = (
            f"scale={scale} is outside 0 to {_LARGEST_SCALE}: use 1 for native pixels, 4 to enlarge"
        )
        raise InvalidSettings(msg)
    width, height = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    limit = Image.MAX_IMAGE_PIXELS or math.inf
    if scale != 1 and width * height > limit:
        msg = f"scale={scale} makes {width} by {height} pixels, above Pillow's limit of {limit}: use a smaller scale"
        raise InvalidSettings(msg)
    return width, height


def flat(image: Image.Image) -> Image.Image:
    """Return the picture as RGB, with white behind what is transparent."""
    if not image.has_transparency_data:  # in a channel, or in a palette
        return image.convert("RGB")
    image = image.convert("RGBA")
    sheet = Image.new("RGB", image.size, "white")
    sheet.paste(image, mask=image.getchannel("A"))
    return sheet


def _columns(count: int) -> int:
    return min(count, _ONE_ROW) if count <= _TWO_ROWS else math.ceil(math.sqrt(count))


def _longest(images: Sequence[Image.Image]) -> int:
    return max(max(image.size) for image in images)
