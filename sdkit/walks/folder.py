"""The folder that a walk lives in: one picture a frame, named by its place, the plan, and the final latents.

The one decision: **what is there is what the names say.** A picture appears under its name only when it is whole, so
there is no list of finished frames that could disagree with the disk after a crash. What a power cut or a copy that
stopped has cut short does not count, and is made again when the walk goes on.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sdkit.errors import BadPicture, CannotSave
from sdkit.pictures.carried import keyframes
from sdkit.pictures.files import contents, ends_whole, path_of, replacing
from sdkit.pictures.metadata import open_picture, png_chunks

from .route import Place, Route

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

__all__ = ["FrameFolder"]

_PLAN: Final = "walk.json"
_NAME: Final = re.compile(r"frame((?:-\d{3,}\.\d{8})+)\.png")


class FrameFolder:
    """A folder with a plan and some or all of its frames.

    Parameters
    ----------
    path
        An existing folder that `begin` made.

    Raises
    ------
    BadPicture
        If there is no readable plan in it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path_of(path)
        try:
            text = (self.path / _PLAN).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise BadPicture(
                f"'{path}' holds no walk (no readable {_PLAN}); give a folder that interpolate() made."
            ) from None
        try:
            self.plan = Route.from_json(text)
        except BadPicture as error:
            raise BadPicture(f"'{self.path / _PLAN}' cannot be used: {error}.") from error
        self.there = {
            place for f in contents(self.path) if (place := _place(f.name)) and ends_whole(f)
        }

    @classmethod
    def begin(cls, plan: Route, path: Path) -> FrameFolder:
        """Make a folder for a plan, or open one in which the same walk was begun.

        Raises
        ------
        CannotSave
            If it cannot be made or written, or holds something else. Nothing in it is changed.
        """
        _make(path)
        if (path / _PLAN).exists() and (other := cls(path).plan).work() != plan.work():
            raise CannotSave(
                f"'{path}' holds another walk ({other.title()}); choose a new folder, or delete that one."
            )
        with replacing(path / _PLAN) as file:
            file.write_text(json.dumps(plan.to_dict(), indent=1), encoding="utf-8")
        folder = cls(path)
        folder._drop_damaged()
        return folder

    def _drop_damaged(self) -> None:
        """Take away frames that cannot be read (a full disk, a copy that stopped, a power cut): they are made again."""
        for place in [p for f in contents(self.path) if (p := _place(f.name))]:
            try:
                self.picture(place)
                if self._file(place, "latents", "npy").exists():
                    self.latents(place)
            except BadPicture:
                self.there.discard(place)
                for file in (self._file(place), self._file(place, "latents", "npy")):
                    with suppress(OSError):
                        file.unlink()

    def add(self, place: Place, image: Image.Image, latents: NDArray[np.floating[Any]]) -> None:
        """Write one frame and its final latents ``(C, h, w)``, which are kept as float16."""
        (self.path / "latents").mkdir(exist_ok=True)
        with replacing(self._file(place, "latents", "npy")) as file:
            np.save(file, latents.astype(np.float16), allow_pickle=False)
        with replacing(self._file(place)) as file:
            image.save(file, "PNG", pnginfo=self._told(place))
        self.there.add(place)

    def _told(self, place: Place) -> PngInfo:
        """What a frame carries: the settings of the keyframe before it, and how far it lies from there."""
        recipe = self.plan.recipe(place)
        between = {"Walk": f"at {', '.join(f'{x:g}' for x in place)}"} if recipe.at else {}
        return png_chunks(recipe.settings, between | keyframes(recipe.corners))

    def picture(self, place: Place) -> Image.Image:
        """Read one frame."""
        return open_picture(self._file(place))

    def latents(self, place: Place) -> NDArray[np.float16]:
        """Read the final latents of one frame, ``(C, h, w)``."""
        file = self._file(place, "latents", "npy")
        try:
            latents: NDArray[np.float16] = np.load(file, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise BadPicture(f"'{file}' cannot be read (no plain array): delete it.") from error
        return latents

    def _file(self, place: Place, inside: str = "", suffix: str = "png") -> Path:
        return self.path / inside / f"frame{''.join(f'-{x:012.8f}' for x in place)}.{suffix}"


def _place(name: str) -> Place | None:
    """The place a file's name tells, or None for any other file."""
    found = _NAME.fullmatch(name)
    return tuple(float(x) for x in found[1][1:].split("-")) if found else None


def _make(path: Path) -> None:
    """Make an empty folder, or accept one that is empty or holds a walk."""
    try:
        path.mkdir(exist_ok=True)
        inside = [f.name for f in contents(path)]
    except FileExistsError:
        raise CannotSave(f"'{path}' is a file; give a folder for the walk's frames.") from None
    except FileNotFoundError:
        raise CannotSave(
            f"There is no folder '{path.parent}'; make it first, or choose another."
        ) from None
    except OSError as error:
        raise CannotSave(
            f"The folder '{path}' cannot be used ({error.strerror}); choose another."
        ) from None
    if inside and _PLAN not in inside:
        raise CannotSave(
            f"The folder '{path}' holds other files ('{min(inside)}' …); choose an empty or a new one."
        )
