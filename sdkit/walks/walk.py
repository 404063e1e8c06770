"""A walk: pictures on the way between keyframes, kept in a folder.

The one decision: **the folder is the walk.** It holds one picture a frame, named by its place, and ``walk.json`` with the
plan. The object in memory holds only places, so it stays small however long the walk is; a walk that was stopped is
a folder with fewer pictures, and making the rest is all it takes to go on.
"""

from __future__ import annotations

import operator
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, overload

import numpy as np
from PIL import Image

from sdkit.pictures import card
from sdkit.pictures.files import path_of
from sdkit.pictures.sheet import contact_sheet
from sdkit.pictures.video import save_video

from .difference import appearance, difference
from .folder import FrameFolder
from .route import Place, Route

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sdkit.settings import Settings

__all__ = ["Walk"]

_STRIP: Final = 8  # frames on a filmstrip
_WIDEST: Final = 1280  # pixels of what a notebook shows


class Walk(Sequence[Image.Image]):
    """Pictures on the way between keyframes.

    ``walk[3]`` is the fourth frame, ``walk[0.25]`` the one a quarter of the way through, ``walk[-1]`` the last; a grid
    has ``walk[row, column]``. Frames are read from the folder when they are asked for. In a notebook a walk shows
    itself as a filmstrip.

    Parameters
    ----------
    folder
        A folder that `sdkit.interpolate` made, complete or not.

    Raises
    ------
    BadPicture
        If the folder holds no walk, or a damaged one.

    Examples
    --------
    >>> walk = sdkit.interpolate(pipe, ["a cat", "a fox"], frames=4, steps=4, folder="walk")
    >>> same = sdkit.Walk("walk")  # opened again, later
    >>> [settings.prompt for settings in same.keyframes], len(same)
    (['a cat', 'a fox'], 4)
    >>> same.save("walk.gif").name
    'walk.gif'
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._frames = FrameFolder(folder)
        self._apart: dict[tuple[Place, Place], float] = {}
        self._cleaner: Any = None

    @classmethod
    def begin(cls, plan: Route, folder: str | os.PathLike[str] | None) -> Walk:
        """Open a folder for a plan; None makes a temporary one, which goes when the walk goes."""
        place = path_of(tempfile.mkdtemp(prefix="sdkit-walk-") if folder is None else folder)
        FrameFolder.begin(plan, place)
        walk = cls(place)
        if folder is None:
            walk._cleaner = weakref.finalize(walk, shutil.rmtree, place, ignore_errors=True)
        return walk

    @property
    def folder(self) -> Path:
        """Where the frames are."""
        return self._frames.path

    @property
    def plan(self) -> Route:
        """Everything that decides the walk."""
        return self._frames.plan

    def keep(self) -> Path:
        """Leave a temporary folder on the disk when the walk goes; return it."""
        if self._cleaner is not None:
            self._cleaner.detach()
        return self.folder

    def add(self, place: Place, image: Image.Image, latents: NDArray[np.floating[Any]]) -> None:
        """Write one frame; it counts as there when its picture is complete."""
        self._frames.add(place, image, latents)

    @property
    def keyframes(self) -> list[Settings]:
        """The complete settings of each keyframe."""
        return list(self.plan.keyframes)

    @property
    def places(self) -> list[Place]:
        """Where each frame lies, in playing order; ``(0,)`` is the first keyframe, ``(1.5,)`` half-way from the second to the third."""
        if self.plan.places:
            return [p for p in self.plan.places if p in self._frames.there]
        return sorted(self._frames.there)

    @property
    def complete(self) -> bool:
        """Whether every frame is there."""
        return len(self._frames.there) >= self.plan.frames

    @property
    def distances(self) -> NDArray[np.float64]:
        """How different neighbours look (see `sdkit.walks.difference`): N - 1 numbers, N for a loop.

        On a grid: each frame and its right neighbour, row by row, then each and its lower one.
        """
        seen: dict[Place, NDArray[np.float32]] = {}
        for pair in (pairs := self._neighbours()):
            if pair not in self._apart:
                seen = {
                    p: seen[p] if p in seen else appearance(self._frames.picture(p)) for p in pair
                }
                self._apart[pair] = difference(seen[pair[0]], seen[pair[1]])
        return np.array([self._apart[pair] for pair in pairs])

    @property
    def smoothness(self) -> float:
        """Coefficient of variation of `distances`, standard deviation ÷ mean: 0 is perfectly even motion."""
        apart = self.distances
        return float(apart.std() / apart.mean()) if apart.any() else 0.0

    @property
    def latents(self) -> NDArray[np.float16]:
        """Final latents of all frames, ``(N, C, h, w)``, in playing order."""
        return np.stack([self._frames.latents(p) for p in self.places])

    def upcoming(self, most: int) -> list[Place]:
        """Places of the next frames to make, coarse to fine; none when the walk is complete."""
        if self.complete:
            return []
        distances = (
            [] if self.plan.places else self.distances.tolist()
        )  # even pacing alone asks for them
        return self.plan.upcoming(self.places, distances, most)

    def __len__(self) -> int:
        """Count the frames there are, in playing order."""
        return len(self.places)

    @overload
    def __getitem__(self, index: float | tuple[int, int]) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> list[Image.Image]: ...
    def __getitem__(
        self, index: float | tuple[int, int] | slice
    ) -> Image.Image | list[Image.Image]:
        """Read one frame by number, by share of the way (a float), by row and column; or several."""
        places = self.places
        if isinstance(index, slice):
            return [self._frames.picture(p) for p in places[index]]
        if isinstance(index, tuple):
            return self._frames.picture(self._cell(*index))
        if isinstance(index, float):
            if not 0 <= index <= 1:
                raise IndexError(f"walk[{index}] is outside 0.0 to 1.0; whole numbers count frames")
            index = round(index * (len(places) - 1))
        return self._frames.picture(places[operator.index(index)])

    def sheet(self, count: int = _STRIP) -> Image.Image:
        """Return a filmstrip of frames picked evenly from the walk; of a grid all frames in their rows.

        Parameters
        ----------
        count
            Frames on the strip, 1 or more.
        """
        if self.plan.shape:
            return contact_sheet(self._picked(count), self.plan.shape[1])
        return contact_sheet(self._picked(count), count)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        fps: float = 24,
        boomerang: bool | None = None,
        scale: float = 1,
        audio: str | os.PathLike[str] | None = None,
        progress: bool = True,
    ) -> Path:
        """Write the walk as a film: ``.mp4``, ``.gif`` or ``.webp``.

        Parameters
        ----------
        boomerang
            Play there and back; None does as `interpolate` was told.
        path, fps, scale, audio, progress
            As for `sdkit.pictures.video.save_video`, as are the errors.
        """
        back = self.plan.boomerang if boomerang is None else boomerang
        frames = _Playing(
            self, [*range(len(self)), *range(len(self) - 2, 0, -1)] if back else range(len(self))
        )
        return save_video(
            path,
            frames,
            fps=fps,
            scale=scale,
            audio=audio,
            progress=progress,
            settings=self.plan.keyframes,
        )

    def __repr__(self) -> str:
        """Describe the walk in one line."""
        return f"<Walk: {self._count()}, {self.plan.title()}>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """Show a filmstrip in a notebook: one HTML card with one preview."""
        del include, exclude  # one representation: there is nothing to choose from
        bundle = {"text/plain": repr(self)}
        if self._frames.there:
            try:
                strip = self._strip()
                bundle["text/html"] = card.figure(strip, self.plan.keyframes, facts=self._count())
                bundle |= card.flat_copy(strip)
            except Exception as error:  # noqa: BLE001 - an error here would hide the walk it should show
                bundle["text/plain"] += f" (no preview: {type(error).__name__})"
        return bundle

    def _count(self) -> str:
        return (
            f"{len(self)} frames" if self.complete else f"{len(self)} of {self.plan.frames} frames"
        )

    def _strip(self) -> Image.Image:
        strip = self.sheet()
        longest = max(strip.size)
        return (
            strip
            if longest <= _WIDEST
            else strip.resize(
                (strip.width * _WIDEST // longest, max(1, strip.height * _WIDEST // longest)),
                Image.Resampling.LANCZOS,
            )
        )

    def _neighbours(self) -> list[tuple[Place, Place]]:
        places = self.places
        if self.plan.shape is None:
            ends = places[1:]
            if self.plan.loop:
                ends += places[:1]
            return list(zip(places, ends, strict=False))
        rows, columns = self.plan.shape
        cell = self._cell
        right = [(cell(r, c), cell(r, c + 1)) for r, c in product(range(rows), range(columns - 1))]
        lower = [(cell(r, c), cell(r + 1, c)) for r, c in product(range(rows - 1), range(columns))]
        return [pair for pair in right + lower if self._frames.there.issuperset(pair)]

    def _cell(self, row: int, column: int) -> Place:
        if self.plan.shape is None:
            raise IndexError(
                f"walk[{row}, {column}] needs a grid; this walk has one row: use walk[{column}]"
            )
        rows, columns = self.plan.shape
        return self.plan.places[range(rows)[row] * columns + range(columns)[column]]

    def _picked(self, count: int) -> list[Image.Image]:
        if self.plan.shape is None:
            numbers = (
                np.linspace(0, len(self) - 1, max(1, min(count, len(self)))).round().astype(int)
            )
            return [self[int(n)] for n in numbers]
        size = self[0].size
        missing = Image.new("RGB", size, "#e8e8e8")
        return [
            self._frames.picture(p) if p in self._frames.there else missing
            for p in self.plan.places
        ]


class _Playing(Sequence[Image.Image]):
    """Frames in the order of a film, read when they are asked for."""

    def __init__(self, walk: Walk, order: Sequence[int]) -> None:
        self._walk, self._order = walk, order

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice) -> list[Image.Image]: ...
    def __getitem__(self, index: int | slice) -> Image.Image | list[Image.Image]:
        if isinstance(index, slice):
            return [self._walk[n] for n in self._order[index]]
        return self._walk[self._order[index]]

    def __iter__(self) -> Iterator[Image.Image]:
        return (self._walk[n] for n in self._order)
