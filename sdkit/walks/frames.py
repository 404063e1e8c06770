"""Frames of a walk from their recipes.

The one decision: `render` is a pure function of recipes, so that any process which has the pipeline can make any frame.
A frame at a keyframe is the picture that `generate()` makes of its settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from sdkit.generation import chunks
from sdkit.memory.recovery import Ladder
from sdkit.pipelines.embeddings import Texts, encodings
from sdkit.pipelines.families import denoiser_of, family_of
from sdkit.pipelines.noise import starting_noise
from sdkit.pipelines.run import Run, lock_of

from .paths import NOISE_PATHS, WORD_PATHS, align, blend, circle
from .route import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sdkit.settings import Settings

__all__ = ["Frame", "Texts", "render", "texts_of"]

"""Encodings by text, see `embeddings.encodings`."""


class Frame(NamedTuple):
    """One picture of a walk, its final latents ``(C, h, w)``, and whether the safety checker blanked it."""

    image: Image.Image
    latents: NDArray[np.float32]
    flagged: bool


def texts_of(pipe: Any, corners: Sequence[Settings]) -> Texts:
    """Encode every distinct prompt, and every distinct negative prompt where there is guidance, once."""
    guided = [s.negative_prompt for s in corners if any(_guided(pipe, c) for c in corners)]
    with lock_of(
        pipe
    ):  # a tokenizer keeps its padding as state, which two threads would set for each other
        return encodings(pipe, [s.prompt for s in corners], guided)


def render(
    pipe: Any,
    recipes: Sequence[Recipe],
    *,
    image: Image.Image | None = None,
    texts: Texts | None = None,
) -> list[Frame]:
    """Make frames.

    Parameters
    ----------
    pipe
        A pipeline that takes encodings and noise (`Family.walks`).
    recipes
        One for each frame, of one size. Those with equal guidance and strength share one call of the pipeline.
    image
        What image-to-image starts from.
    texts
        Encodings from `texts_of`, if they are at hand; else they are made here.

    Returns
    -------
    list of Frame
        In the order of the recipes.
    """
    wanted = [r.settings for r in recipes]
    done: dict[int, Frame] = {}
    ladder = Ladder(pipe, wanted)

    def attempt(known: Texts, indices: list[int]) -> None:
        some = [recipes[i] for i in indices]
        run = Run(
            pipe,
            [wanted[i] for i in indices],
            image,
            None,
            on_step=None,
            progress=False,
            embeds=_embeds(pipe, some, known, guided=_guided(pipe, wanted[indices[0]])),
            noise=torch.cat([_noise(pipe, r) for r in some]),
        )
        done.update((i, Frame(*made)) for i, made in zip(indices, run(), strict=True))

    with lock_of(pipe), torch.no_grad():
        known = texts or texts_of(pipe, list(dict.fromkeys(s for r in recipes for s in r.corners)))
        for chunk in chunks(pipe, wanted, len(wanted)):
            ladder.climb(chunk, partial(attempt, known))
    return [done[i] for i in range(len(recipes))]


def _guided(pipe: Any, s: Settings) -> bool:
    """Whether the pipeline takes a second encoding, for what guidance leads away from."""
    family = family_of(pipe)
    return (
        family.guided(s.guidance_scale, s.negative_prompt)
        and "negative_prompt_embeds" in family.accepts
    )


def _embeds(
    pipe: Any, recipes: Sequence[Recipe], texts: Texts, *, guided: bool
) -> dict[str, torch.Tensor]:
    """Text encodings ``(B, T, D)`` of some frames, under the names that ``pipe(...)`` takes them by."""
    embeds: dict[str, torch.Tensor] = {}
    for negative in (False, True) if guided else (False,):
        names = next(encoding for (_, side), encoding in texts.items() if side == negative)
        for n in names:
            corners = [[texts[_side(s, negative=negative)][n] for s in r.corners] for r in recipes]
            embeds[f"negative_{n}" if negative else n] = _stacked(pipe, n, recipes, corners)
    return embeds


def _side(s: Settings, *, negative: bool) -> tuple[str, bool]:
    return (s.negative_prompt if negative else s.prompt), negative


def _stacked(
    pipe: Any, name: str, recipes: Sequence[Recipe], corners: list[list[torch.Tensor]]
) -> torch.Tensor:
    if "mask" in name:  # a mask has no half: what any corner near by says is read
        parts = [_words(recipe, some) for recipe, some in zip(recipes, corners, strict=True)]
        return (torch.cat(parts) > 0).to(corners[0][0])
    rows = [_words(recipe, some) for recipe, some in zip(recipes, corners, strict=True)]
    return torch.cat(rows).to(pipe._execution_device, denoiser_of(pipe).dtype)


def _words(recipe: Recipe, corners: list[torch.Tensor]) -> torch.Tensor:
    """One text encoding, ``(1, T, D)`` or pooled ``(1, D)``, at a place between its corners."""
    corners = [c.cpu().float() for c in corners]
    if recipe.words == "aligned" and corners[0].ndim == 3:
        corners = align(corners)
    return blend(WORD_PATHS[recipe.words], corners, recipe.at)


def _noise(pipe: Any, recipe: Recipe) -> torch.Tensor:
    """Starting noise ``(1, C, h, w)`` at a place between its corners."""
    noise = blend(
        NOISE_PATHS[recipe.noise], [starting_noise(pipe, s) for s in recipe.corners], recipe.at
    )
    if recipe.circle is None:
        return noise
    seed, turn = recipe.circle
    other = recipe.corners[0].replace(seed=seed, variation_amount=0.0, noise=None)
    return circle(noise, starting_noise(pipe, other), turn)
