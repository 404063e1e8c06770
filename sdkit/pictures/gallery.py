"""Several titled pictures that show themselves as one figure: attention by word, ablations, edits beside originals.

The design decision: titles are text, not pixels, so they stay sharp, can be read aloud and follow the theme. A sheet
with drawn titles is made only when somebody saves it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from sdkit.errors import CannotSave, InvalidSettings
from sdkit.settings import Settings

from . import card
from .carried import carried
from .files import path_of, replacing, write_picture
from .lettering import lettering
from .metadata import FORMATS
from .sheet import contact_sheet, resized

__all__ = ["Gallery"]

_SHOWN = 160  # pixels a side below which pictures are enlarged: six of them fit a notebook's width


class Gallery(Sequence[Image.Image]):
    """Pictures with a title each; in a notebook it shows itself.

    Parameters
    ----------
    items
        Pairs of a title and a picture, at least one.
    heading
        One line above them.
    columns
        Pictures in a row; None fills the width.
    settings
        What made the pictures; a saved sheet then carries them, and the mark that says that a model made it.
    """

    def __init__(
        self,
        items: Sequence[tuple[str, Image.Image]],
        heading: str = "",
        columns: int | None = None,
        settings: Settings | None = None,
    ) -> None:
        if not items:
            raise InvalidSettings("A gallery needs at least one picture.")
        self.columns, self.settings = columns, settings
        self.titles, self._images, self.heading = (
            [t for t, _ in items],
            [i for _, i in items],
            heading,
        )

    def __len__(self) -> int:
        """Count the pictures."""
        return len(self._images)

    def __getitem__(self, index: Any) -> Any:
        """One picture, or a list of some."""
        return self._images[index]

    def _shown(self) -> list[Image.Image]:
        return [resized(i, max(1.0, _SHOWN / max(i.size))) for i in self._images]

    def sheet(self, columns: int | None = None) -> Image.Image:
        """All pictures on one sheet with their titles drawn below them."""
        letters, strip = lettering(self.titles, 14), 24
        font = letters.font
        tiles = []
        for title, image in zip(map(letters.spell, self.titles), self._shown(), strict=True):
            width = max(image.width, round(font.getlength(title)) + 4)
            tile = Image.new("RGB", (width, image.height + strip), "white")
            tile.paste(image)
            ImageDraw.Draw(tile).text((2, image.height + 3), title, fill=(40, 40, 40), font=font)
            tiles.append(tile)
        return contact_sheet(tiles, columns or self.columns or min(6, len(tiles)), scale=1)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the sheet as .png, .webp or .jpg.

        Raises
        ------
        CannotSave
            For another suffix, a missing folder or a full disk; nothing is left behind.
        """
        path = path_of(path)
        kind = FORMATS.get(path.suffix.lower())
        if kind is None:
            raise CannotSave(f"cannot save '{path.name}': the name must end in .png, .jpg or .webp")
        with replacing(path) as temporary:
            write_picture(
                self.sheet(),
                temporary,
                kind,
                **(carried(kind, self.settings) if self.settings else {}),
            )
        return path

    def __repr__(self) -> str:
        """Describe the gallery in one line."""
        return f"<Gallery: {', '.join(self.titles)}>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """Show the pictures in a notebook."""
        del include, exclude
        bundle = {"text/plain": repr(self)}
        try:
            bundle["text/html"] = card.gallery(
                list(zip(self.titles, self._shown(), strict=True)), self.heading, self.columns
            )
            bundle |= card.flat_copy(self.sheet())
        except Exception as error:  # noqa: BLE001 - an error here would hide what it should show
            bundle["text/plain"] += f" (no preview: {type(error).__name__})"
        return bundle
