"""Marks: is the peak inside, how much does the map cover, and does the object go when its word is silenced there?

The design decision: every map is read at the true object's own area, its strongest pixels that many. So no way wins by
a threshold that suits it, or by pointing everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .looking import Look, enlarged
from .painting import noises, paint, silenced
from .scenes import overlap, true_masks

__all__ = ["CEILING", "Marks", "Score", "mark", "removals", "strongest"]

CEILING = "the truth itself"
_GRID = 16  # of latents: where words are silenced
_LEAST = 0.01  # of the picture: an object smaller than that was not made


@dataclass(frozen=True)
class Score:
    """A mean over scenes with its 95 % interval, from resampling scenes with replacement (percentile bootstrap)."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float], *, resamples: int = 2000) -> Score:
        """The score of one value a scene."""
        found = np.asarray(list(values), np.float64)
        rng = np.random.default_rng(0)
        drawn = found[rng.integers(0, len(found), (resamples, len(found)))].mean(1)
        low, high = np.percentile(drawn, (2.5, 97.5))
        return cls(float(found.mean()), float(low), float(high))

    def told(self, digits: int = 1) -> str:
        """The numbers as text: ``97.5 (96.0 to 98.8)``."""
        return f"{self.mean:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


@dataclass
class Marks:
    """Score → way → one value for each scene."""

    table: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def note(self, score: str, way: str, value: float) -> None:
        """Add the value of one scene."""
        self.table.setdefault(score, {}).setdefault(way, []).append(value)

    def scores(self) -> dict[str, dict[str, Score]]:
        """Score → way → mean and interval."""
        return {
            name: {way: Score.of(values) for way, values in ways.items()}
            for name, ways in self.table.items()
        }


def strongest(heat: NDArray[Any], count: int) -> NDArray[np.bool_]:
    """The `count` strongest pixels of a map."""
    found = np.zeros(heat.size, bool)
    found[np.argsort(heat, axis=None, kind="stable")[::-1][:count]] = True
    return found.reshape(heat.shape)


def truth_of(look: Look) -> tuple[NDArray[np.bool_], ...] | None:
    """Where the objects are in the picture that was made; None if one of them is not."""
    masks = true_masks(look.picture, look.case.scene)
    return masks if all(m.mean() >= _LEAST for m in masks) else None


def mark(look: Look, marks: Marks) -> bool:
    """Note peaks (% inside) and overlap (IoU × 100) of a scene's maps; False if its picture lacks an object."""
    masks = truth_of(look)
    if masks is None:
        return False
    for way, heats in look.maps.items():
        large = [enlarged(heat, len(look.picture)) for heat in heats]
        pairs = list(zip(large, masks, strict=True))
        inside = [100.0 * bool(mask.flat[heat.argmax()]) for heat, mask in pairs]
        covered = [100 * overlap(strongest(heat, int(mask.sum())), mask) for heat, mask in pairs]
        marks.note("peak inside, %", way, float(np.mean(inside)))
        marks.note("IoU at the true area, %", way, float(np.mean(covered)))
    return True


def removals(pipe: Any, look: Look, marks: Marks, *, steps: int, guidance: float) -> None:
    """Silence the first object's word where each way points, and note how much the object changes (% of full scale).

    Pointing is at the true area, on the 16×16 grid of latents; the truth itself, silenced where the object is, stands
    beside as the ceiling.
    """
    masks = truth_of(look)
    if masks is None:
        return
    mask, word = masks[0], look.case.words[0]
    heats: Mapping[str, Any] = {way: heats[0] for way, heats in look.maps.items()}
    heats = {**heats, CEILING: mask.astype(np.float32)}
    count = max(1, round(float(mask.mean()) * _GRID * _GRID))
    points = np.stack([strongest(enlarged(heat, _GRID), count) for heat in heats.values()])
    where = torch.from_numpy(points.astype(np.float32))[:, None]
    rows = len(heats)
    with torch.no_grad():
        told, less = (silenced(pipe, look.case.prompt, w) for w in (None, word))
    made = paint(
        pipe,
        told.expand(rows, -1, -1),
        noises(pipe, [look.case.seed] * rows),
        steps=steps,
        guidance=guidance,
        without=less.expand(rows, -1, -1),
        where=where,
    )
    for way, picture in zip(heats, made, strict=True):
        change = np.abs(picture.astype(np.float32) - look.picture).mean(-1)[mask]
        marks.note("change of the object when silenced there, %", way, float(change.mean() / 2.55))
