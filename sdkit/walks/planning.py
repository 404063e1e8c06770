"""From what was asked of a walk to its plan, or to one sentence about what is wrong with it.

The one decision: everything that could fail later fails here, before a folder is made and before the first step.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from sdkit.errors import InvalidSettings
from sdkit.generation import batch_for, complete, warn_about_words
from sdkit.pictures.guides import NO_GUIDES, Guides, guides_in
from sdkit.pipelines.beginnings import begins
from sdkit.pipelines.families import family_of
from sdkit.result import Result
from sdkit.settings import SOLVERS, Settings

from .pacing import DIGITS, EASINGS, checked_pace, eased, paced, split
from .paths import NOISE_PATHS, WORD_PATHS
from .route import Place, Route

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["batch_of", "corners_and_sources", "corners_of", "grid_plan", "walk_plan"]

_SAME: Final = ("width", "height", "fit", "steps", "scheduler")


def corners_and_sources(
    keyframes: Any, seeds: Sequence[int] | None = None
) -> tuple[list[Settings], Image.Image | None, Guides]:
    """Keyframes as settings, the picture that results among them were started from, and those that led them.

    A result counts as many keyframes as it has pictures.
    """
    items = (
        [keyframes]
        if isinstance(keyframes, (str, Settings)) or not isinstance(keyframes, Iterable)
        else keyframes
    )
    items = [keyframes] if isinstance(keyframes, Result) else list(items)
    corners = [s for k in items for s in _settings(k)]
    if len(corners) < 2:
        raise InvalidSettings(
            f"A walk needs two keyframes or more, and {len(corners)} was given; use generate() for one picture, or give "
            "the same keyframe twice with noise='circle'."
        )
    if seeds is not None:
        if len(seeds) != len(corners):
            raise InvalidSettings(
                f"{len(seeds)} seeds were given for {len(corners)} keyframes; give one for each."
            )
        corners = [s.replace(seed=seed) for s, seed in zip(corners, seeds, strict=True)]
    results = [k for k in items if isinstance(k, Result)]
    source = next((k.source for k in results if k.source is not None), None)
    return corners, source, guides_in(None, None, *results)


def _settings(keyframe: Any) -> list[Settings]:
    if isinstance(keyframe, Result):
        return keyframe.all_settings
    if isinstance(keyframe, Settings):
        return [keyframe]
    if isinstance(keyframe, str):
        return [Settings(keyframe)]
    raise InvalidSettings(
        f"A keyframe is a {type(keyframe).__name__}; give a prompt, Settings or a Result."
    )


def corners_of(
    pipe: Any,
    keyframes: Sequence[Settings],
    image: Image.Image | None,
    changes: dict[str, Any],
    guides: Guides = NO_GUIDES,
) -> list[Settings]:
    """The complete settings of every keyframe, if one walk can hold them all."""
    family, (words, noise) = family_of(pipe), begins(pipe)
    if not family.walks and not (words and (family.steerable or noise)):
        raise InvalidSettings(
            f"Walks need a pipeline that takes text encodings and noise from outside, and {type(pipe).__name__} is not known to; load another model."
        )
    if not family.walks and image is not None:
        raise InvalidSettings(
            f"Walks that start from a picture are not offered for {type(pipe).__name__}; leave out image=…, or load another model."
        )
    wanted = complete(pipe, list(keyframes), image=image, guides=guides, **changes)
    warn_about_words(pipe, wanted, stacklevel=4)
    for name in _SAME:
        values = list(dict.fromkeys(getattr(s, name) for s in wanted))
        if len(values) > 1:
            raise InvalidSettings(
                f"The keyframes differ in {name} ({values[0]} and {values[1]}); give one, such as {name}={values[0]!r}."
            )
    solver = SOLVERS.get(wanted[0].scheduler or "")
    noises = {
        (s.seed, s.variation_seed, s.variation_amount, s.noise)
        for s in map(Settings.recipe, wanted)
    }
    if len(noises) > 1 and solver is not None and solver.restless:
        raise InvalidSettings(
            f"The scheduler {wanted[0].scheduler!r} draws fresh noise at every step, so a walk between seeds would jump at its "
            "keyframes; use scheduler='ddim' or 'euler', or one seed for all."
        )
    return wanted


def walk_plan(
    wanted: list[Settings],
    frames: Any,
    pacing: Any,
    *,
    loop: bool,
    boomerang: bool,
    words: str,
    noise: str,
) -> Route:
    """Turn what was asked into a plan, or say in one sentence what is wrong with it."""
    _known("words", words, WORD_PATHS)
    _known("noise", noise, [*NOISE_PATHS, "circle"])
    if loop and boomerang:
        raise InvalidSettings("loop and boomerang are two ways to come back; choose one.")
    if noise != "circle" and len({s.recipe() for s in wanted}) == 1:
        raise InvalidSettings(
            f"All {len(wanted)} keyframes are the same, so every frame would be; change one, give seeds=[…], or noise='circle'."
        )
    segments = len(wanted) - (0 if loop else 1)
    counts = _counts(frames, segments, len(wanted), loop=loop)
    label, places = _places(pacing, counts, loop=loop)
    if label == "even" and not isinstance(frames, Sequence):
        counts = [sum(counts)]  # frames may move to where the picture changes most, over segments
    return Route(tuple(wanted), tuple(counts), label, tuple(places), loop, boomerang, words, noise)


def grid_plan(wanted: list[Settings], shape: tuple[int, int], *, words: str, noise: str) -> Route:
    """The plan of a sheet between four corners."""
    _known("words", words, WORD_PATHS)
    _known("noise", noise, NOISE_PATHS)
    rows, columns = (_whole("shape", n, 2) for n in shape)
    cells = product(range(rows), range(columns))
    places = tuple(
        (round(r / (rows - 1), DIGITS), round(c / (columns - 1), DIGITS)) for r, c in cells
    )
    return Route(
        tuple(wanted), (), "linear", places, words=words, noise=noise, shape=(rows, columns)
    )


def _counts(frames: Any, segments: int, keyframes: int, *, loop: bool) -> list[int]:
    """Steps of each segment."""
    if isinstance(frames, Sequence) and not isinstance(frames, str):
        counts = [_whole("frames", n, 1) for n in frames]
        if len(counts) != segments:
            raise InvalidSettings(
                f"frames has {len(counts)} numbers for {segments} segments; give one for each segment."
            )
        return counts
    total = _whole("frames", frames, 1)
    if total < keyframes:
        raise InvalidSettings(
            f"frames is {total} for {keyframes} keyframes; give {keyframes} or more."
        )
    return split(total, segments, loop=loop)


def _places(pacing: Any, counts: list[int], *, loop: bool) -> tuple[str, list[Place]]:
    """A name for the pacing, and every frame's place; none for even pacing."""
    if isinstance(pacing, str):
        if pacing != "even":
            _known("pacing", pacing, ["even", *EASINGS])
        return pacing, [] if pacing == "even" else _rounded(
            eased(counts, EASINGS[pacing], loop=loop)
        )
    if callable(pacing):
        return "function", _rounded(eased(counts, _inside(pacing), loop=loop))
    frames = sum(counts) + (0 if loop else 1)
    return "pace", _rounded(paced(checked_pace(pacing), frames, len(counts), loop=loop))


def _rounded(positions: Sequence[float]) -> list[Place]:
    return [(round(p, DIGITS),) for p in positions]


def _inside(easing: Callable[[float], float]) -> Callable[[float], float]:
    """An easing whose values are checked."""

    def checked(t: float) -> float:
        value = float(easing(t))
        if not (math.isfinite(value) and 0 <= value <= 1):
            raise InvalidSettings(
                f"The easing gives {value:g} at {t:g}; it must stay between 0 and 1."
            )
        return value

    return checked


def _known(name: str, value: object, names: Iterable[str]) -> None:
    if value not in list(names):
        raise InvalidSettings(f"There is no {name} {value!r}; choose one of {', '.join(names)}.")


def _whole(name: str, value: Any, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or isinstance(value, bool):
        raise InvalidSettings(f"{name} is {value!r}; give a whole number of {least} or more.")
    return number


def batch_of(pipe: Any, settings: Settings, asked: int | None) -> int:
    """How many frames share a call; one where the pipeline's own encodings and noise are led (`beginnings`)."""
    if not family_of(pipe).walks:
        return 1
    return batch_for(pipe, None if asked is None else _whole("batch_size", asked, 1), settings)
