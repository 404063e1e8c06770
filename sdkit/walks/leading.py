"""Walks of pipelines that take no encodings from outside: their own methods are led between the keyframes.

The one decision: **every keyframe is begun once**, by the pipeline's own call, and a frame blends what those calls began
with (`sdkit.pipelines.beginnings`). What came back may belong together row by row, and networks of this kind often give
each row a place of its own, so rows are never put into another order: "aligned" is "norm" here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from sdkit.errors import InvalidSettings
from sdkit.pipelines.beginnings import Beginning, between
from sdkit.pipelines.families import family_of
from sdkit.pipelines.rows import shares
from sdkit.pipelines.run import beginning_of

from .paths import NOISE_PATHS, WORD_PATHS, blend, circle

if TYPE_CHECKING:
    import torch

    from sdkit.pictures.guides import Guides
    from sdkit.settings import Settings

    from .route import Recipe

__all__ = ["Led", "led"]


@dataclass
class Led:
    """A pipeline, and what each keyframe's call begins with."""

    pipe: Any
    guidance_scale: (
        float | None
    )  # every keyframe is begun with the same, so that all have a negative side or none
    guides: Guides
    known: dict[Settings, Beginning] = field(default_factory=dict)

    def begun(self, corner: Settings) -> Beginning:
        """What one keyframe begins with, found once."""
        asked = corner.replace(guidance_scale=self.guidance_scale)
        if asked not in self.known:
            self.known[asked] = beginning_of(self.pipe, asked, self.guides)
        return self.known[asked]

    def beginning(self, recipe: Recipe) -> Beginning:
        """What a frame begins with."""
        ends = [self.begun(corner) for corner in recipe.corners]
        words = partial(_path, WORD_PATHS[recipe.words], recipe.at)
        noise = partial(_path, NOISE_PATHS[recipe.noise], recipe.at)
        found, weights = Beginning(), shares(recipe.at)
        found.words = between(words, [end.words for end in ends], weights)
        if not family_of(self.pipe).steerable:
            found.noise = between(noise, [end.noise for end in ends], weights)
        if recipe.circle is not None and found.noise:
            seed, turn = recipe.circle
            far = recipe.corners[0].replace(seed=seed, variation_amount=0.0)
            around = [found.noise, self.begun(far).noise]
            found.noise = between(lambda n: circle(n[0], n[1], turn), around, [1.0, 0.0])
        return found


def _path(path: Any, at: Sequence[float], ends: Sequence[torch.Tensor]) -> torch.Tensor:
    return blend(path, ends, at)


def led(pipe: Any, corners: Sequence[Settings], guides: Guides) -> Led:
    """Begin every keyframe.

    Raises
    ------
    InvalidSettings
        If their calls do not begin alike, so that nothing can lie between them.
    """
    scales = [s.guidance_scale for s in corners if s.guidance_scale is not None]
    found = Led(pipe, max(scales, default=None), guides)
    begun = [found.begun(corner) for corner in corners]
    if len({(len(b.words), len(b.noise)) for b in begun}) > 1:
        raise InvalidSettings(
            f"The keyframes make {type(pipe).__name__} encode different numbers of texts; give each a negative prompt, or none."
        )
    if not begun[0].words:
        raise InvalidSettings(
            f"{type(pipe).__name__} does not say how it encodes its words, so nothing lies between two prompts; load another model."
        )
    return found
