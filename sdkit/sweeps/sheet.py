"""A sweep as one picture: cells in a grid, with labels that stay readable at the width of a notebook."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from PIL import Image, ImageDraw, ImageFont

from sdkit.pictures.lettering import lettering
from sdkit.pictures.sheet import flat

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .axes import Axis

__all__ = ["cell_for", "draw"]

Index = tuple[int, int, int]

_GAP: Final = 6
_INK: Final = (30, 30, 30)
_PALE: Final = (110, 110, 110)
_EMPTY: Final = (236, 236, 236)
_SMALLEST: Final = 64  # sides of a cell that are chosen unasked
_LARGEST: Final = 256
_LINES: Final = 3


def cell_for(axes: Sequence[Axis], width: int) -> int:
    """Side of a cell for a sheet of at most this width, 64 to 256 pixels."""
    sides = range(_LARGEST, _SMALLEST, -1)
    return next(
        (
            s
            for s in sides
            if _margin(*_lettered(axes, s), s) + len(axes[0]) * (s + _GAP) - _GAP <= width
        ),
        _SMALLEST,
    )


def draw(axes: Sequence[Axis], pictures: Mapping[Index, Image.Image], cell: int) -> Image.Image:
    """Return the sheet: x to the right, y downwards, z as blocks below each other.

    Parameters
    ----------
    axes
        The x, y and z axis.
    pictures
        By (x, y, z) index; cells without one stay grey.
    cell
        The longer side of a picture, in pixels.

    Returns
    -------
    PIL.Image.Image
        RGB, dark on white. Letters grow with the cells, so a large sheet scaled down to a page stays readable.
    """
    font, axes = _lettered(axes, cell)
    line = font.size * 1.25
    width, height = _shape(pictures, cell)
    left = _margin(font, axes, cell)
    labels = [_wrap(label, font, width) for label in axes[0].labels]
    head = round(line * ((1 + max(map(len, labels))) if axes[0].title else 0)) + _GAP
    block = round(line * (2 if axes[2].title else 0)) + head + len(axes[1]) * (height + _GAP)
    sheet = Image.new(
        "RGB", (left + len(axes[0]) * (width + _GAP) - _GAP, block * len(axes[2]) - _GAP), "white"
    )
    pen = ImageDraw.Draw(sheet)
    for z, name in enumerate(axes[2].labels):
        top = z * block
        if axes[2].title:
            pen.text((left, top), f"{axes[2].title}: {name}", fill=_INK, font=font)
            top += round(line * 1.4)
        if axes[0].title:
            pen.text((left, top), axes[0].title, fill=_PALE, font=font)
            for x, lines in enumerate(labels):
                _write(
                    pen,
                    lines,
                    (left + x * (width + _GAP) + width / 2, top + head - _GAP),
                    font,
                    "md",
                )
        if axes[1].title:
            _write(
                pen,
                _wrap(axes[1].title, font, left - _GAP),
                (left - _GAP, top + head - _GAP),
                font,
                "rd",
                _PALE,
            )
        for y, name_of_row in enumerate(axes[1].labels):
            row = top + head + y * (height + _GAP)
            _write(
                pen,
                _wrap(name_of_row, font, left - _GAP),
                (left - _GAP, row + height / 2),
                font,
                "rm",
            )
            for x in range(len(axes[0])):
                place = (left + x * (width + _GAP), row)
                _paste(sheet, pen, pictures.get((x, y, z)), (*place, width, height))
    return sheet


def _lettered(axes: Sequence[Axis], cell: int) -> tuple[ImageFont.FreeTypeFont, Sequence[Axis]]:
    """A font that suits the cell and shows what the axes say, and the axes spelled with it."""
    letters = lettering(
        (text for a in axes for text in (a.title, *a.labels, "…")), max(13, cell // 10)
    )
    spelled = [
        replace(a, title=letters.spell(a.title), labels=tuple(map(letters.spell, a.labels)))
        for a in axes
    ]
    return letters.font, spelled


def _margin(font: ImageFont.FreeTypeFont, axes: Sequence[Axis], cell: int) -> int:
    """Room for the labels of rows: what the longest needs, up to most of a cell."""
    rows = axes[1]
    if not rows.title:
        return 0
    longest = max(font.getlength(text) for text in (rows.title, *rows.labels))
    return round(min(longest, max(100, 0.8 * cell))) + 2 * _GAP


def _shape(pictures: Mapping[Index, Image.Image], cell: int) -> tuple[int, int]:
    """Width and height of a cell that the widest and the tallest picture fit into."""
    ratios = [p.height / p.width for p in pictures.values()] or [1.0]
    wide, tall = (round(cell / max(1.0, min(ratios))), round(cell * min(1.0, max(ratios))))
    return max(1, wide), max(1, tall)


def _paste(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, picture: Image.Image | None, box: tuple[int, ...]
) -> None:
    left, top, width, height = box
    if picture is None:
        pen.rectangle((left, top, left + width - 1, top + height - 1), fill=_EMPTY)
        return
    scale = min(width / picture.width, height / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    shown = flat(picture).resize(size, Image.Resampling.LANCZOS)
    sheet.paste(shown, (left + (width - size[0]) // 2, top + (height - size[1]) // 2))


def _write(pen: ImageDraw.ImageDraw, lines: Sequence[str], at: tuple[float, float], font: ImageFont.FreeTypeFont, anchor: str, ink: tuple[int, int, int] = _INK) -> None:  # fmt: skip
    """Write lines around a point: ``m``iddle or ``r``ight, and above it (``d``) or centred on it (``m``)."""
    pen.multiline_text(at, "\n".join(lines), fill=ink, font=font, anchor=anchor, align="center" if anchor[0] == "m" else "right", spacing=2)  # fmt: skip


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Break a text into at most three lines of this width in pixels."""
    lines = [""]
    for word in " ".join(text.split()).split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], lines[_LINES - 1] + " …"]
    return [_cut(line, font, width) for line in lines]


def _cut(line: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    if font.getlength(line) <= width:
        return line
    line = line.removesuffix(" …")
    while line and font.getlength(line + "…") > width:
        line = line[:-1]
    return line + "…"
