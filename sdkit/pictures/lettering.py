"""A font that can write what is to be drawn: titles and labels come from prompts, in any script.

The one decision: **coverage is measured, not believed.** A character counts as shown if its glyph looks other than the
font's own for what it lacks. Pillow's font comes first; where it lacks something, the fonts of the system are tried, and
what none of them has is spelled (see `sdkit.pictures.legible`).
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from PIL import ImageFont, features

from .legible import legible

__all__ = ["Lettering", "lettering"]

_FOLDERS: Final = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.local/share/fonts",
    "~/.fonts",
    "/System/Library/Fonts",
    "/Library/Fonts",
    "~/Library/Fonts",
    "C:/Windows/Fonts",
    "~/AppData/Local/Microsoft/Windows/Fonts",
)
_SUFFIXES: Final = {".ttf", ".otf", ".ttc"}
_FACES: Final = (
    "bold",
    "italic",
    "oblique",
    "mono",
    "condensed",
    "light",
    "serif",
    "thin",
    "black",
)  # looked at last
_NOT_LETTERS: Final = (
    "lastresort",
    "adobeblank",
    "cm",
    "stixnonuni",
    "stixsiz",
)  # boxes, blanks, pieces of formulas
_MOST: Final = 300  # fonts that are tried, 1 ms each
_MEASURED: Final = 16  # pixels
_LACKING: Final = "\U0010fffd"  # of the last private plane: no font has it


class Lettering:
    """A font for some texts, and how each of them is written with it.

    Parameters
    ----------
    path
        The font's file; None for Pillow's own.
    size
        In pixels.
    """

    def __init__(self, path: str | None, size: float) -> None:
        self.path, self.font = path, _opened(path, size)

    def spell(self, text: str) -> str:
        """Return a text with what the font lacks as plain letters or escapes."""
        return legible(text, lambda piece: all(_shown(self.path, c) for c in piece))


def lettering(texts: Iterable[str], size: float) -> Lettering:
    """Return the lettering for texts that are drawn together: the font that shows most of them.

    Parameters
    ----------
    texts
        All that is going to be drawn.
    size
        Of the font, in pixels.
    """
    return Lettering(_best(frozenset("".join(texts))), size)


@lru_cache(maxsize=64)
def _best(characters: frozenset[str]) -> str | None:
    fewest, chosen = sum(not _shown(None, c) for c in characters), None
    if fewest:
        for path in _fonts():
            lacking = sum(not _shown(path, c) for c in characters)
            if lacking < fewest:
                fewest, chosen = lacking, path
            if not fewest:
                break
    return chosen


@lru_cache(maxsize=1)
def _fonts() -> tuple[str, ...]:
    """Font files of matplotlib, if it is there, and of the system; upright ones first."""
    spec = find_spec("matplotlib")
    own = (
        [Path(p) / "mpl-data/fonts/ttf" for p in (spec.submodule_search_locations or ())]
        if spec
        else []
    )
    places = [*own, *(Path(os.path.expanduser(f)) for f in _FOLDERS)]  # noqa: PTH111 - leaves "~" where there is no home
    found = (f for place in places if place.is_dir() for f in sorted(place.rglob("*")))
    files = [
        f
        for f in found
        if f.suffix.lower() in _SUFFIXES and not f.name.lower().startswith(_NOT_LETTERS)
    ]
    files.sort(key=lambda f: any(face in f.stem.lower() for face in _FACES))
    return tuple(str(f) for f in files[:_MOST])


def _opened(path: str | None, size: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size) if path is None else ImageFont.truetype(path, size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # noqa: S101 - a size was asked for
    return font


@lru_cache(maxsize=512)
def _measured(path: str | None) -> tuple[ImageFont.FreeTypeFont, bytes] | None:
    """A font in a small size and its glyph for what it lacks; None if it cannot be used, as coloured ones cannot."""
    try:
        font = _opened(path, _MEASURED)
        return font, bytes(font.getmask(_LACKING))
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=20_000)
def _shown(path: str | None, character: str) -> bool:
    if character.isspace():
        return True
    measured = _measured(path)
    if measured is None or not character.isprintable():
        return False
    if unicodedata.bidirectional(character) in {"R", "AL"} and not features.check("raqm"):
        return False  # unjoined and in the wrong direction it could not be read
    font, lacking = measured
    try:
        mask = bytes(font.getmask(character))
    except (OSError, ValueError):
        return False
    return bool(mask.strip(b"\0")) and mask != lacking
