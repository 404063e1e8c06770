"""A sweep on disk: one file for what it is, one picture for each cell, so that it can be stopped at any moment.

The one decision: **a cell is finished when its picture can be read and says the right settings**, and not because a list says
so. There is no second book to keep, so none can be wrong after a kill: what is whole counts, the rest is made again.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from sdkit.errors import BadPicture, CannotSave, InvalidSettings
from sdkit.pictures.files import contents, ends_whole, path_of, replacing
from sdkit.result import Result, load_result
from sdkit.settings import Settings

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from .axes import Axis

__all__ = ["SweepFolder"]

Index = tuple[int, int, int]

_NAME: Final = "sweep.json"


class SweepFolder:
    """Where the cells of one sweep are kept.

    Parameters
    ----------
    path
        A folder; it is made if it is not there.
    axes
        The x, y and z axis.
    wanted
        Complete settings of every cell.

    Raises
    ------
    CannotSave
        If the folder holds another sweep or other files, or cannot be written.
    """

    def __init__(
        self, path: str | os.PathLike[str], axes: Sequence[Axis], wanted: Mapping[Index, Settings]
    ) -> None:
        self.path, self.wanted = path_of(path), wanted
        book = self.path / _NAME
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            strangers = contents(self.path)
        except OSError as error:
            raise CannotSave(
                f"cannot use the folder '{path}': {error.strerror}; choose another"
            ) from error
        if book.exists():
            self._refuse_another(book)
        elif strangers:
            raise CannotSave(
                f"'{path}' holds other files ('{strangers[0].name}' …); give an empty or a new folder"
            )
        else:
            cells = {_key(i): s.to_dict() for i, s in wanted.items()}
            about = {
                "axes": [{"title": a.title, "labels": a.labels} for a in axes if a.title],
                "cells": cells,
            }
            with replacing(book) as temporary:
                temporary.write_text(json.dumps(about, indent=1), encoding="utf-8")

    def _refuse_another(self, book: Path) -> None:
        wanted = {_key(i): s for i, s in self.wanted.items()}
        try:
            about = json.loads(book.read_text(encoding="utf-8"))
            there = dict(about["cells"])
            same = there.keys() == wanted.keys() and all(
                _same(there[key], s) for key, s in wanted.items()
            )
            told = " by ".join(a["title"] for a in about["axes"])
        except (OSError, ValueError, KeyError, TypeError):
            raise CannotSave(f"'{book}' is damaged; give an empty or a new folder") from None
        if not same:
            raise CannotSave(
                f"'{self.path}' holds another sweep ({told}, {len(about['cells'])} cells); give an empty or a new folder, or the same sweep to go on with it"
            )

    def finished(self) -> dict[Index, Result]:
        """The cells that are there; leftovers of a killed run are removed."""
        for leftover in self.path.glob(".sdkit-*"):
            with suppress(OSError):
                leftover.unlink()
        found = {}
        for index, settings in self.wanted.items():
            with suppress(BadPicture):  # missing or damaged: it is made again
                result = load_result(self._file(index))
                if ends_whole(self._file(index)) and result.settings.same_picture(settings):
                    found[index] = result
        return found

    def write(self, index: Index, result: Result) -> None:
        """Keep one cell.

        Raises
        ------
        CannotSave
            If there is no room; nothing half-written stays.
        """
        result.save(self._file(index))

    def _file(self, index: Index) -> Path:
        return self.path / f"{_key(index)}.png"


def _key(index: Index) -> str:
    return "x{}-y{}-z{}".format(*index)


def _same(values: Any, settings: Settings) -> bool:
    """Whether a line of the book means this cell, also one that an older sdkit wrote."""
    try:
        return Settings.from_dict(values).same_picture(settings)
    except InvalidSettings:  # a newer sdkit's, with settings that are unknown here
        return False
