"""Walks between pictures: `interpolate()` and `interpolate_grid()`.

The one decision: **frames are made coarse to fine, in batches, straight into the walk's folder.** After the first batch
the walk can be looked through from end to end; it can be stopped at any time and taken up again; and memory
does not grow with its length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sdkit.errors import InvalidSettings
from sdkit.executors import check_unled
from sdkit.generation import warn_of_flags
from sdkit.pictures.guides import Guides, guides_in
from sdkit.pictures.sources import Picture, taken_in
from sdkit.result import Result
from sdkit.settings import Settings

from .elsewhere import render_elsewhere
from .frames import Frame, render, texts_of
from .planning import batch_of, corners_and_sources, corners_of, grid_plan, walk_plan
from .route import Recipe
from .walk import Walk

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from concurrent.futures import Executor

    from diffusers import DiffusionPipeline
    from numpy.typing import ArrayLike
    from PIL import Image

__all__ = ["interpolate", "interpolate_grid"]

OnFrame = Callable[[Walk], object]
_FRAMES: Final = 24
_FIRST_BATCH: Final = 5  # ends, middle, quarters: enough to look through, and soon there
_HANDED_OUT: Final = 16  # batches that an executor gets at a time: enough for its workers, few enough to place the next


def interpolate(
    pipe: DiffusionPipeline,
    keyframes: Walk | Result | Sequence[str | Settings | Result],
    *,
    frames: int | Sequence[int] = _FRAMES,
    seeds: Sequence[int] | None = None,
    image: Picture | None = None,
    control: Picture | Sequence[Picture] | None = None,
    reference: Picture | Sequence[Picture] | None = None,
    pacing: str | Callable[[float], float] | ArrayLike = "even",
    words: str = "aligned",
    noise: str = "slerp",
    loop: bool = False,
    boomerang: bool = False,
    folder: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
    batch_size: int | None = None,
    on_frame: OnFrame | None = None,
    progress: bool = True,
    **changes: Any,
) -> Walk:
    """Walk from picture to picture: words, noise, guidance and strength move together.

    Parameters
    ----------
    pipe
        A diffusers pipeline, from `sdkit.load()` or your own. Those that take no encodings or noise from outside make one frame
        at a time, and start from no picture.
    keyframes
        Two or more prompts, `Settings` or `Result`, in any mix. Or a `Walk`, a draft say: its frames are made again at
        the same places, with `changes`; how they are placed and joined is then the draft's own.
    frames
        How many frames in all, keyframes included; none is made twice. Or the number of steps of each segment, as
        a list: ``[8, 16]`` takes 8 steps to the second keyframe and 16 to the third, 25 frames.
    seeds
        One for each keyframe.
    image
        Start every frame from this picture (image-to-image), given as for `sdkit.generate`.
    control, reference
        The pictures that lead every frame, given as for `sdkit.generate`; None takes those of the results among the keyframes.
    pacing
        - "even": frames are placed so that neighbours look equally different, as measured by `sdkit.walks.difference`.
        - "linear", "ease", "ease-in", "ease-out", or a function from 0..1 to 0..1: the same for every segment.
        - an array of speeds over the whole walk, such as `sdkit.walks.pacing.pace_from_audio` makes.
    words
        Path between text encodings, see `sdkit.walks.paths`: "aligned", "norm", "slerp" or "lerp". "aligned" is "norm" where
        the network gives each word a place. Between texts of different length words come, or go, one by one.
    noise
        Path between starting noises: "slerp", "lerp", or "circle", which also turns the noise once around a closed
        way, so that even a walk between equal keyframes moves and comes back.
    loop
        Walk from the last keyframe back to the first; the first frame follows the last without a repetition.
    boomerang
        Play there and back. No frame is made twice for it.
    folder
        Where the frames live: a new or empty folder, or one in which this same walk was begun, which is then finished.
        None takes a temporary folder, which goes when the walk does.
    executor
        Where to make the frames: any `concurrent.futures.Executor` whose workers have sdkit and the model. None makes
        them here. Even pacing looks at finished frames to place the next, so it hands out a few at a time.
    batch_size
        Frames made together. None takes 4 on a processor (8 up to 128×128 pixels) and 8 on a GPU; on an executor 1.
    on_frame
        Called with the walk after each batch; raise `Cancelled` (or anything) in it to stop.
    progress
        Show a progress bar with the time left.
    **changes
        Fields of `Settings` for all keyframes, such as ``steps=8`` for a draft, ``guidance_scale=``, ``width=``.

    Returns
    -------
    Walk
        The frames, in their folder.

    Raises
    ------
    InvalidSettings
        Before the first step, in one sentence, if something cannot work.
    CannotSave
        If the folder cannot be written, or holds something else, which is left as it is.
    NumericalError
        As `sdkit.generate`.
    WorkerFailed
        If a frame failed on the executor.

    Notes
    -----
    Whatever stops a walk, frames that were made stay in the folder, also in a temporary one; a note on the exception says
    where. ``sdkit.Walk(folder)`` opens it, and the same call with ``folder=`` goes on.

    A picture of a batch and a single picture take different arithmetic paths: expect equality to about 1e-5.

    Examples
    --------
    >>> walk = sdkit.interpolate(pipe, ["a cat in the snow", "a fox at night"], seeds=[1, 2], frames=5, steps=4)
    >>> len(walk), walk.complete
    (5, True)
    >>> walk[0.5].size == walk[0].size  # the frame half-way
    True
    """
    start, _ = taken_in(image)
    guides = guides_in(control, reference)
    if isinstance(keyframes, Walk):
        wanted = corners_of(pipe, keyframes.keyframes, start, changes, guides)
        places = keyframes.plan.places or tuple(keyframes.places)
        plan = replace(keyframes.plan, keyframes=tuple(wanted), places=places)
    else:
        corners, source, others = corners_and_sources(keyframes, seeds)
        start, guides = start if start is not None else source, guides.or_else(others)
        wanted = corners_of(pipe, corners, start, changes, guides)
        plan = walk_plan(
            wanted, frames, pacing, loop=loop, boomerang=boomerang, words=words, noise=noise
        )
    make = _maker(pipe, wanted, start, guides, executor, batch_size)
    return _filled(Walk.begin(plan, folder), make, on_frame, progress=progress)


def interpolate_grid(
    pipe: DiffusionPipeline,
    corners: Sequence[Sequence[str | Settings | Result]],
    *,
    shape: tuple[int, int] = (6, 6),
    image: Picture | None = None,
    control: Picture | Sequence[Picture] | None = None,
    reference: Picture | Sequence[Picture] | None = None,
    words: str = "aligned",
    noise: str = "slerp",
    folder: str | os.PathLike[str] | None = None,
    executor: Executor | None = None,
    batch_size: int | None = None,
    on_frame: OnFrame | None = None,
    progress: bool = True,
    **changes: Any,
) -> Walk:
    """Fill a sheet between four corners, each moving into its neighbours.

    Parameters
    ----------
    pipe
        As for `interpolate`.
    corners
        ``[[upper left, upper right], [lower left, lower right]]``, each a prompt, `Settings` or `Result`.
    shape
        Rows and columns, 2 or more each.
    image, control, reference, words, noise, folder, executor, batch_size, on_frame, progress, **changes
        As for `interpolate`; noise is "slerp" or "lerp". With four corners a path first joins the columns of each row, then
        the two rows.

    Returns
    -------
    Walk
        ``walk[row, column]`` is a frame; the walk shows itself as a sheet.

    Raises
    ------
    InvalidSettings, CannotSave, NumericalError
        As for `interpolate`.

    Examples
    --------
    >>> corners = [["a cat", "a dog"], ["a house", "a castle"]]
    >>> grid = sdkit.interpolate_grid(pipe, corners, shape=(2, 3), steps=4)
    >>> len(grid), grid[1, 2].size == grid[0, 0].size
    (6, True)
    """
    if len(corners) != 2 or any(
        isinstance(row, (str, Settings, Result)) or len(row) != 2 for row in corners
    ):
        raise InvalidSettings("A grid needs four corners, given as [[a, b], [c, d]].")
    asked, source, others = corners_and_sources([c for row in corners for c in row])
    start, _ = taken_in(image if image is not None else source)
    guides = guides_in(control, reference).or_else(others)
    wanted = corners_of(pipe, asked, start, changes, guides)
    plan = grid_plan(wanted, shape, words=words, noise=noise)
    make = _maker(pipe, wanted, start, guides, executor, batch_size)
    return _filled(Walk.begin(plan, folder), make, on_frame, progress=progress)


class _Maker(NamedTuple):
    """How frames are made: so many recipes at first, then so many at a time, to frames that are finished together."""

    first: int
    most: int
    make: Callable[[list[Recipe]], Iterable[tuple[int, list[Frame]]]]


def _maker(
    pipe: Any,
    keyframes: Sequence[Settings],
    image: Image.Image | None,
    guides: Guides,
    executor: Executor | None,
    batch: int | None,
) -> _Maker:
    size = batch_of(pipe, keyframes[0], 1 if batch is None and executor is not None else batch)
    if executor is not None:
        check_unled(guides)
        make = partial(render_elsewhere, executor, pipe, size=size, image=image)
        return _Maker(_FIRST_BATCH, _HANDED_OUT * size, make)
    texts = texts_of(pipe, keyframes, guides)
    return _Maker(
        min(size, _FIRST_BATCH),
        size,
        lambda recipes: [(0, render(pipe, recipes, image=image, guides=guides, texts=texts))],
    )


def _filled(walk: Walk, maker: _Maker, on_frame: OnFrame | None, *, progress: bool) -> Walk:
    """Make the frames that a walk lacks."""
    from tqdm.auto import tqdm

    done, flags = len(set(walk.places)), list[bool]()
    with (
        _kept(walk),
        tqdm(
            total=walk.plan.frames, initial=done, desc="walk", leave=False, disable=not progress
        ) as bar,
    ):
        while places := walk.upcoming(maker.most if len(walk) else maker.first):
            for first, frames in maker.make([walk.plan.recipe(p) for p in places]):
                for place, frame in zip(places[first:], frames, strict=False):
                    walk.add(place, frame.image, frame.latents)
                flags += [frame.flagged for frame in frames]
                bar.update(len(frames))
                if on_frame is not None:
                    on_frame(walk)
    warn_of_flags(flags, stacklevel=4)
    return walk


@contextmanager
def _kept(walk: Walk) -> Iterator[None]:
    """Keep what is there when the work inside is stopped, and say where it is."""
    try:
        yield
    except BaseException as error:
        error.add_note(
            f"{len(walk)} of {walk.plan.frames} frames are in '{walk.keep()}'; sdkit.Walk(…) opens it."
        )
        raise
