"""What a walk will be, as plain data: its keyframes, its paths, and where its frames lie.

The one decision: **a frame is a recipe**, some settings and a place between them. It holds no tensor and no picture, so
it can be written into ``walk.json`` or sent to another process, and whoever has the pipeline makes the same frame.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any, Final

from sdkit.errors import BadPicture, SdkitError
from sdkit.settings import Settings

from .pacing import DIGITS, coarse_to_fine, evenly

__all__ = ["Place", "Recipe", "Route"]

Place = tuple[float, ...]
"""Where a frame lies: ``(position,)`` on a walk, ``(row, column)`` in 0..1 on a grid."""

_FORMAT: Final = 1
_FAR: Final = (
    2**31
)  # from the seed of the first keyframe to that of the noise which the circle passes through
_SKELETON: Final = (
    5  # an even walk begins with this many frames at even places: enough to be looked through
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What makes one frame.

    Parameters
    ----------
    corners
        The settings it lies between: one, two, or four (two rows of two).
    at
        Its coordinates between them, 0 to 1: none, one, or ``(row, column)``.
    words, noise
        Names of the paths, from `paths.WORD_PATHS` and `paths.NOISE_PATHS`.
    circle
        Where its noise is turned to: the seed of a second noise, and how far around the circle through it, 0 to 1.
    """

    corners: tuple[Settings, ...]
    at: tuple[float, ...] = ()
    words: str = "aligned"
    noise: str = "slerp"
    circle: tuple[int, float] | None = None

    @property
    def settings(self) -> Settings:
        """The first corner's settings, with guidance and strength of this place."""
        first = self.corners[0]
        if not self.at:
            return first
        guidance = _between([s.guidance_scale or 0.0 for s in self.corners], self.at)
        return first.replace(
            guidance_scale=guidance, strength=_between([s.strength for s in self.corners], self.at)
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {name: getattr(self, name) for name in self.__slots__} | {
            "corners": [s.to_dict() for s in self.corners]
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Take what `to_dict` gave, also after a way through JSON."""
        turned = values["circle"]
        return cls(
            tuple(Settings.from_dict(s) for s in values["corners"]),
            tuple(values["at"]),
            values["words"],
            values["noise"],
            None if turned is None else (turned[0], turned[1]),
        )


@dataclass(frozen=True, slots=True)
class Route:
    """Everything that decides a walk.

    Parameters
    ----------
    keyframes
        Complete settings; four for a grid, row by row.
    frames
        How many frames, or for each segment how many steps.
    pacing
        "even", or what chose the places.
    places
        Every frame's place in playing order; empty for even pacing, which finds them on the way.
    shape
        Rows and columns of a grid.
    """

    keyframes: tuple[Settings, ...]
    counts: tuple[int, ...]
    pacing: str
    places: tuple[Place, ...] = ()
    loop: bool = False
    boomerang: bool = False
    words: str = "aligned"
    noise: str = "slerp"
    shape: tuple[int, int] | None = None

    @property
    def segments(self) -> int:
        """Ways from one keyframe to the next."""
        return len(self.keyframes) - (0 if self.loop else 1)

    @property
    def frames(self) -> int:
        """Distinct frames asked for."""
        return len(set(self.places)) or sum(self.counts) + (0 if self.loop else 1)

    def title(self) -> str:
        """A line about it: ``2 keyframes, 'a cat' → 'a fox'``."""
        ends = [
            repr(s.prompt if len(s.prompt) <= 40 else s.prompt[:39] + "…") for s in self.keyframes
        ]
        return f"{len(self.keyframes)} keyframes, {ends[0]} → {ends[-1]}"

    def recipe(self, place: Place) -> Recipe:
        """What makes the frame at a place."""
        if self.shape:
            if all(x in (0, 1) for x in place):
                return Recipe(
                    (self.keyframes[int(2 * place[0] + place[1])],), (), self.words, self.noise
                )
            return Recipe(self.keyframes, place, self.words, self.noise)
        begin = int(place[0])
        t = round(place[0] - begin, DIGITS)
        ends = tuple(self.keyframes[n % len(self.keyframes)] for n in (begin, begin + 1))
        still = t == 0 or ends[0].same_picture(ends[1])
        corners, at = (ends[:1], ()) if still else (ends, (t,))
        if self.noise != "circle":
            return Recipe(corners, at, self.words, self.noise)
        across = (self.keyframes[0].seed + _FAR) % 2**63
        return Recipe(corners, at, self.words, "slerp", (across, place[0] / self.segments))

    def upcoming(self, done: Sequence[Place], distances: Sequence[float], most: int) -> list[Place]:
        """The next frames to make, coarse to fine.

        Parameters
        ----------
        done
            Places of the frames there are, in playing order.
        distances
            How different each looks from the next (for a loop also the last from the first). Only even pacing asks.
        most
            How many to choose.
        """
        there = set(done)
        missing = [p for p in self._order() if p not in there]
        if missing or self.places:
            return list(dict.fromkeys(missing))[:most]
        return self._even(done, distances, most)

    def work(self) -> dict[str, Any]:
        """What decides the frames, by which two plans are compared: not how they are played, nor facts about a run."""
        return self.to_dict() | {
            "keyframes": [k.recipe().to_dict() for k in self.keyframes],
            "boomerang": False,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return plain | {"format": _FORMAT, "keyframes": [s.to_dict() for s in self.keyframes]}

    @classmethod
    def from_json(cls, text: str) -> Route:
        """Read what ``json.dumps(plan.to_dict())`` wrote.

        Raises
        ------
        BadPicture
            If it is no plan, or one of another version.
        """
        try:
            values: Mapping[str, Any] = json.loads(text)
            if values["format"] != _FORMAT:
                values = {}  # another version's: told as what it lacks
            return cls(
                keyframes=tuple(Settings.from_dict(s, strict=False) for s in values["keyframes"]),
                counts=tuple(int(n) for n in values["counts"]),
                pacing=str(values["pacing"]),
                places=tuple(tuple(round(float(x), DIGITS) for x in p) for p in values["places"]),
                loop=bool(values["loop"]),
                boomerang=bool(values["boomerang"]),
                words=str(values["words"]),
                noise=str(values["noise"]),
                shape=(int(values["shape"][0]), int(values["shape"][1]))
                if values["shape"]
                else None,
            )
        except (ValueError, KeyError, TypeError, IndexError, SdkitError, RecursionError) as error:
            raise BadPicture(
                f"it is damaged or of another version ({type(error).__name__} {error})"
            ) from error

    def _order(self) -> list[Place]:
        """Places known beforehand, coarse to fine."""
        if self.shape:
            rows, columns = self.shape
            ranks = [
                {index: rank for rank, index in enumerate(coarse_to_fine(n))} for n in self.shape
            ]
            cells = sorted(
                product(range(rows), range(columns)),
                key=lambda rc: max(ranks[0][rc[0]], ranks[1][rc[1]]),
            )
            return [self.places[r * columns + c] for r, c in cells]
        if self.places:
            return [self.places[i] for i in coarse_to_fine(len(self.places))]
        return self._skeleton()

    def _skeleton(self) -> list[Place]:
        """First frames of an even walk: the keyframes, and if these are few the middles between them."""
        places = [float(n) for n in range(len(self.keyframes))]
        while len(places) < _SKELETON and self.frames >= 4 * _SKELETON:
            ends = [*places, float(self.segments)] if self.loop else places
            places = sorted({*places, *((a + b) / 2 for a, b in pairwise(ends))})
        return [(p,) for p in places]

    def _even(self, done: Sequence[Place], distances: Sequence[float], most: int) -> list[Place]:
        """Divide the largest gaps; with steps given by segment, within each segment."""
        edges = [p[0] for p in done]
        if self.loop:
            edges.append(float(self.segments))
        bounds = [(n, n + 1) for n in range(self.segments)]
        if len(self.counts) == 1:
            bounds = [(0, self.segments)]
        chosen: list[tuple[float, Place]] = []
        for count, (low, high) in zip(self.counts, bounds, strict=True):
            inside = [i for i, edge in enumerate(edges) if low <= edge <= high]
            gaps = inside[:-1]
            new = evenly(
                [edges[i] for i in inside], [distances[i] for i in gaps], count - len(gaps), most
            )
            chosen += [(n, (p,)) for n, p in enumerate(new)]
        return [place for _, place in sorted(chosen, key=lambda c: c[0])][:most]


def _between(values: Sequence[float], at: Sequence[float]) -> float:
    """Linear blend of ``2**n`` values at n coordinates."""
    if not at:
        return values[0]
    half = len(values) // 2
    a, b = _between(values[:half], at[1:]), _between(values[half:], at[1:])
    return a + at[0] * (b - a)  # exactly a where both are equal, so that such frames share a call
