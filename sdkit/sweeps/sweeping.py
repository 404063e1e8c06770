"""Sweeps: one picture for every combination of settings on up to three axes (what prompt explorers call an X/Y/Z plot).

The one decision: **a cell is an ordinary picture.** Its settings are completed and checked before the first step, it is made
by `sdkit.generate` (in batches of what can share a call), and `sdkit.generate(pipe, grid[2, 1].settings)` makes it again alone.
So everything around it (a folder that can be gone on with, workers elsewhere) only decides where and when a cell is made.
"""

from __future__ import annotations

import itertools
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from sdkit.errors import Cancelled, CannotSave, InvalidSettings
from sdkit.executors import check_unled, make_elsewhere
from sdkit.generation import batch_for, chunks, complete, largest, make, warn_about_words
from sdkit.pictures import card
from sdkit.pictures.carried import carried
from sdkit.pictures.files import path_of, replacing, write_picture
from sdkit.pictures.guides import Guides, guides_in
from sdkit.pictures.metadata import FORMATS
from sdkit.pictures.sources import Picture, taken_in
from sdkit.pipelines.families import Family, family_of
from sdkit.pipelines.run import OnStep
from sdkit.result import Result
from sdkit.settings import Settings

from .axes import Axis, axis
from .folder import SweepFolder
from .page import page
from .sheet import cell_for, draw

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

__all__ = ["Sweep", "sweep"]

Index = tuple[int, int, int]
_READABLE = 800  # pixels: the width of a notebook's column
_MOST = 10_000  # cells; beyond it is a slip of the pen


class Sweep:
    """The cells of a sweep. In a notebook it shows itself as a labelled sheet.

    ``grid[2, 1]`` is the `Result` in the third column of the second row; with a z axis, ``grid[2, 1, 0]``.

    Parameters
    ----------
    axes
        The x, y and z axis.
    wanted
        Complete settings of every cell by (x, y, z) index.
    notes
        What the reader should know.

    Attributes
    ----------
    cells
        The results that were made, of one picture each, by (x, y, z) index.

    Examples
    --------
    >>> grid = sdkit.sweep(pipe, "a cat", x={"guidance_scale": [1, 4]}, y={"seed": [1, 2, 3]}, steps=4)
    >>> grid.shape, len(grid.missing)
    ((2, 3, 1), 0)
    >>> grid[1, 2].settings.guidance_scale, grid[1, 2].settings.seed
    (4.0, 3)
    """

    def __init__(
        self, axes: Sequence[Axis], wanted: Mapping[Index, Settings], notes: Sequence[str] = ()
    ) -> None:
        self.axes, self.wanted, self.notes = tuple(axes), dict(wanted), list(notes)
        self.cells: dict[Index, Result] = {}

    @property
    def shape(self) -> tuple[int, int, int]:
        """Options on x, y and z; 1 where an axis is not used."""
        x, y, z = self.axes
        return len(x), len(y), len(z)

    @property
    def results(self) -> list[Result]:
        """The cells that were made, row by row."""
        return [self.cells[i] for i in self.wanted if i in self.cells]

    @property
    def missing(self) -> list[Settings]:
        """Settings of the cells that were not made, because the sweep was stopped."""
        return [s for i, s in self.wanted.items() if i not in self.cells]

    def __len__(self) -> int:
        """Count the cells that were made."""
        return len(self.cells)

    def __iter__(self) -> Iterator[Result]:
        """Go through the cells that were made, row by row."""
        return iter(self.results)

    def __getitem__(self, index: int | tuple[int, ...]) -> Result:
        """Return the cell at ``[x]``, ``[x, y]`` or ``[x, y, z]``, counted from 0."""
        given = index if isinstance(index, tuple) else (index,)
        if len(given) > 3:
            raise IndexError(f"a sweep has 3 axes, not {len(given)}")
        x, y, z = (range(n)[i] for n, i in zip(self.shape, (*given, 0, 0), strict=False))
        if (x, y, z) not in self.cells:
            raise InvalidSettings(
                f"The cell {given} was not made, because the sweep was stopped; run it again."
            )
        return self.cells[x, y, z]

    def __repr__(self) -> str:
        """Describe the sweep: ``<Sweep of 15 cells: guidance scale by seed>``."""
        titles = " by ".join(a.title for a in self.axes if a.title) or "one cell"
        return f"<Sweep of {len(self.wanted)} cells: {titles}{f', {len(self.missing)} not made' if self.missing else ''}>"

    def sheet(self, cell: int | None = None) -> Image.Image:
        """Return all cells on one labelled sheet.

        Parameters
        ----------
        cell
            The longer side of each picture in pixels. By default the sheet is about 800 pixels wide; for a poster give the
            pictures' own size.
        """
        if cell is not None and not 16 <= cell <= 4096:
            raise InvalidSettings(f"cell is {cell} pixels; use 16 to 4096.")
        pictures = {i: r.image for i, r in self.cells.items()}
        return draw(self.axes, pictures, cell or cell_for(self.axes, _READABLE))

    def save(self, path: str | os.PathLike[str], *, cell: int | None = None) -> Path:
        """Write the sheet (.png, .webp, .jpg), or a page (.html) where a click shows a picture and its settings.

        Parameters
        ----------
        path
            File to make or replace.
        cell
            As for `sheet`.

        Raises
        ------
        CannotSave
            For another suffix, a missing folder or a full disk; nothing half-written stays.
        """
        path = path_of(path)
        kind = FORMATS.get(path.suffix.lower())
        if kind is None and path.suffix.lower() != ".html":
            raise CannotSave(
                f"cannot save '{path.name}': the name must end in .png, .jpg, .webp or .html"
            )
        with replacing(path) as temporary:
            if kind is None:
                temporary.write_text(page(self._title(), self.axes, self.cells), encoding="utf-8")
            else:
                first = next(iter(self.wanted.values()))
                told = {
                    "Sheet": json.dumps(
                        [{"title": a.title, "labels": a.labels} for a in self.axes if a.title]
                    )
                }
                try:
                    write_picture(self.sheet(cell), temporary, kind, **carried(kind, first, told))
                except ValueError as error:  # Pillow's way to say that this is too much for JPEG
                    raise CannotSave(
                        f"cannot save as {kind} ({error}): save as .png, which has no such limit"
                    ) from error
        return path

    def save_all(self, folder: str | os.PathLike[str]) -> Path:
        """Write every cell into a sweep's folder, as ``sweep(..., folder=...)`` does; what is there already stays.

        Raises
        ------
        CannotSave
            If the folder holds something else, or the disk is full.
        """
        place = SweepFolder(folder, self.axes, self.wanted)
        there = place.finished()
        for index, result in self.cells.items():
            if index not in there:
                place.write(index, result)
        return place.path

    def _title(self) -> str:
        prompts = list(dict.fromkeys(s.prompt for s in self.wanted.values()))
        return (
            prompts[0] if len(prompts) == 1 else " by ".join(a.title for a in self.axes if a.title)
        )

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """Show the sheet in a notebook."""
        del include, exclude
        bundle = {"text/plain": repr(self)}
        try:
            notes = list(self.notes)
            if self.missing:
                notes.append(f"{len(self.missing)} cells were not made")
            sheet = self.sheet()
            bundle["text/html"] = card.figure(sheet, list(self.wanted.values()), notes=notes)
            bundle |= card.flat_copy(sheet)
        except Exception as error:  # noqa: BLE001 - an error here would hide the cells it should show
            bundle["text/plain"] += f" (no preview: {type(error).__name__})"
        return bundle


def sweep(
    pipe: DiffusionPipeline,
    settings: str | Settings | Result,
    *,
    x: Mapping[str, Any] | None = None,
    y: Mapping[str, Any] | None = None,
    z: Mapping[str, Any] | None = None,
    image: Picture | None = None,
    mask: Picture | None = None,
    control: Picture | Sequence[Picture] | None = None,
    reference: Picture | Sequence[Picture] | None = None,
    folder: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
    batch_size: int | None = None,
    on_step: OnStep | None = None,
    on_cell: Callable[[int, int], None] | None = None,
    progress: bool = True,
    **changes: Any,
) -> Sweep:
    """Make a picture for every combination of settings.

    Parameters
    ----------
    pipe
        A diffusers pipeline.
    settings
        What all cells share: words, `Settings`, or a `Result`.
    x, y, z
        What varies to the right, downwards and from block to block: fields of `Settings` with a list of values each, for
        example ``x={"guidance_scale": [1, 4, 8]}``. Several fields on one axis change together. A text can also be
        varied by a `SearchReplace`, a `PromptMatrix` or `Wildcards`.
    image, mask, control, reference
        As for `sdkit.generate`.
    folder
        Keep every finished cell there. Run the same sweep with the same folder to go on after a stop.
    executor
        Where to make the pictures: any `concurrent.futures.Executor` whose workers have sdkit and the model. None makes
        them here.
    batch_size
        Pictures made together; by default as for `sdkit.generate`, and one on an executor.
    on_step
        As for `sdkit.generate`; not with an executor.
    on_cell
        Called after every finished cell (or batch) with the number of cells done and of all cells; raise `Cancelled` in it
        to stop.
    progress
        Show a bar with the time left.
    **changes
        Fields of `Settings` for all cells.

    Returns
    -------
    Sweep
        If it was stopped (with `Cancelled`, or the notebook's interrupt button), what was done by then; it says so.

    Raises
    ------
    InvalidSettings
        Before the first step, if a cell cannot work.
    CannotSave
        Before the first step, if the folder holds another sweep or cannot be used.
    WorkerFailed
        If a cell failed on the executor; cells done before are in the folder.

    Examples
    --------
    >>> sdkit.sweep(pipe, "a cat", x={"guidance_scale": [1, 4]}, y={"seed": [1, 2]}, steps=4)
    <Sweep of 4 cells: guidance scale by seed>
    """
    axes = [axis(name, given) for name, given in (("x", x), ("y", y), ("z", z))]
    guides = guides_in(control, reference)
    if isinstance(settings, Result):
        image = image if image is not None else settings.source
        mask = mask if mask is not None else settings.mask
        guides = guides.or_else(settings.guides)
    image, mask = taken_in(image, mask)
    if executor is not None:
        check_unled(guides)
    wanted = _wanted(pipe, axes, settings, changes, image, mask, guides)
    place = SweepFolder(folder, axes, wanted) if folder is not None else None
    grid = Sweep(axes, wanted, warn_about_words(pipe, list(wanted.values())))
    grid.cells.update(place.finished() if place else {})
    todo = _todo(grid)
    biggest = largest(list(wanted.values()))
    if executor is None:
        groups = _groups(pipe, todo, batch_for(pipe, batch_size, biggest))
        made = _here(pipe, groups, image, mask, guides, on_step)
    else:
        groups = _groups(pipe, todo, batch_for(pipe, batch_size or 1, biggest))
        made = make_elsewhere(executor, pipe, groups, image=image, mask=mask)
    _collect(grid, todo, groups, made, place, on_cell, progress=progress)
    return grid


# -- before the run ------------------------------------------------------------------------------------------------


def _wanted(
    pipe: Any,
    axes: Sequence[Axis],
    settings: Any,
    changes: Any,
    image: Any,
    mask: Any,
    guides: Guides,
) -> dict[Index, Settings]:
    """Complete settings of every cell, row by row."""
    count = len(axes[0]) * len(axes[1]) * len(axes[2])
    if count > _MOST:
        raise InvalidSettings(
            f"This sweep has {count} cells; {_MOST} is the most, so shorten an axis."
        )
    fields = [
        f for a in axes for f, value in (a.changes[0] if a.changes else ()) if not callable(value)
    ]
    if twice := next((f for f in fields if fields.count(f) > 1), None):
        raise InvalidSettings(
            f"{twice} stands on two axes, so one would undo the other; leave it on one."
        )
    base = settings.settings if isinstance(settings, Result) else settings
    if isinstance(base, str):
        base = Settings(prompt=base)
    if not isinstance(base, Settings):
        raise InvalidSettings(
            f"settings is a {type(settings).__name__}; give words, Settings or a Result."
        )
    base = base.replace(**changes)
    cells: dict[Index, Settings] = {}
    for k, j, i in itertools.product(*(range(len(a)) for a in reversed(axes))):
        cells[i, j, k] = axes[2].apply(k, axes[1].apply(j, axes[0].apply(i, base)))
    finished = complete(pipe, list(cells.values()), image=image, mask=mask, guides=guides)
    wanted = dict(zip(cells, finished, strict=True))
    for n, one in enumerate(axes):
        _refuse_without_effect(family_of(pipe), n, one, wanted)
    return wanted


def _acting(family: Family, settings: Settings) -> Settings:
    """The recipe, without a negative prompt that leads away from nothing."""
    return (settings if family.guides(settings) else settings.replace(negative_prompt="")).recipe()


def _refuse_without_effect(
    family: Family, n: int, one: Axis, wanted: Mapping[Index, Settings]
) -> None:
    """Raise for an axis of different values along which all pictures would be the same."""
    if len(set(one.labels)) < 2:
        return
    lines: dict[tuple[int, ...], set[Settings]] = {}
    for index, settings in wanted.items():
        lines.setdefault((*index[:n], *index[n + 1 :]), set()).add(_acting(family, settings))
    if all(len(line) == 1 for line in lines.values()):
        raise InvalidSettings(
            f"The axis {one.title!r} changes no picture here, so its cells would all be equal; choose another field, or give what "
            "it needs (strength and fit need image=, variation_seed needs variation_amount, negative_prompt needs guidance)."
        )


def _todo(grid: Sweep) -> dict[Settings, list[Index]]:
    """What is to be made, and the cells that it is for: equal cells are made once."""
    todo: dict[Settings, list[Index]] = {}
    for index, settings in grid.wanted.items():
        if index not in grid.cells:
            todo.setdefault(settings, []).append(index)
    return todo


def _groups(pipe: Any, todo: Mapping[Settings, Any], size: int) -> list[list[Settings]]:
    """Settings that are made together."""
    every = list(todo)
    return [[every[i] for i in chunk] for chunk in chunks(pipe, every, size)]


# -- the run ---------------------------------------------------------------------------------------------------------


def _here(pipe: Any, groups: Sequence[Sequence[Settings]], image: Any, mask: Any, guides: Guides, on_step: OnStep | None) -> Iterator[tuple[int, Result]]:  # fmt: skip
    """Make the groups one after the other with this pipeline."""
    for number, group in enumerate(groups):
        yield (
            number,
            make(
                pipe,
                group,
                image=image,
                mask=mask,
                guides=guides,
                on_step=on_step,
                progress=False,
                size=len(group),
            ),
        )


def _collect(
    grid: Sweep,
    todo: Mapping[Settings, list[Index]],
    groups: Sequence[Sequence[Settings]],
    made: Iterator[tuple[int, Result]],
    place: SweepFolder | None,
    on_cell: Callable[[int, int], None] | None,
    *,
    progress: bool,
) -> None:
    """Put what comes in into the grid and the folder, until all is there or somebody stops it."""
    from tqdm.auto import tqdm

    unsaved: list[CannotSave] = []
    with tqdm(
        total=len(grid.wanted), initial=len(grid), unit="cell", leave=False, disable=not progress
    ) as bar:
        try:
            for number, result in made:
                for settings, one in zip(groups[number], result, strict=True):
                    for index in todo[settings]:
                        grid.cells[index] = one
                        if place is not None:
                            unsaved += _written(place, index, one)
                        bar.update()
                if on_cell is not None:
                    on_cell(len(grid), len(grid.wanted))
        except (Cancelled, KeyboardInterrupt):
            again = ", or run it again with the same folder to go on" if place else ""
            _tell(
                grid,
                f"Stopped after {len(grid)} of {len(grid.wanted)} cells; they are in the sweep{again}.",
            )
        finally:
            made.close()  # type: ignore[attr-defined]  # a generator: workers are told to stop
    if unsaved and place is not None:
        _tell(grid, f"{len(unsaved)} cells could not be written ({unsaved[0]}); they are in the sweep: make room and call save_all('{place.path}').")  # fmt: skip


def _written(place: SweepFolder, index: Index, result: Result) -> list[CannotSave]:
    """Write a cell; a full disk must not lose what was made, so an error is handed back."""
    try:
        place.write(index, result)
    except CannotSave as error:
        return [error]
    return []


def _tell(grid: Sweep, note: str) -> None:
    grid.notes.append(note)
    warnings.warn(note, stacklevel=4)
