"""Frames of a walk from their recipes.

The one decision: `render` is a pure function of recipes, so that any process which has the pipeline can make any frame.
A frame at a keyframe is the picture that `generate()` makes of its settings. Encodings and noise are handed to the pipeline
where its family takes them; elsewhere they are led inside of its call (`leading`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from sdkit.generation import chunks
from sdkit.memory.recovery import Ladder
from sdkit.pictures.guides import NO_GUIDES, Guides
from sdkit.pipelines.embeddings import Texts, encodings
from sdkit.pipelines.families import denoiser_of, family_of
from sdkit.pipelines.noise import starting_noise
from sdkit.pipelines.rows import arrived, rows_between, shares
from sdkit.pipelines.run import Run, lock_of

from .leading import Led, led
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


def texts_of(pipe: Any, corners: Sequence[Settings], guides: Guides = NO_GUIDES) -> Texts | Led:
    """Encode every distinct prompt, and every distinct negative prompt where there is guidance, once."""
    if not family_of(pipe).walks:
        with lock_of(pipe), torch.no_grad():
            return led(pipe, corners, guides)
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
    guides: Guides = NO_GUIDES,
    texts: Texts | Led | None = None,
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
    guides
        The pictures that lead every frame.
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

    def attempt(known: Texts | Led, indices: list[int]) -> None:
        some = [recipes[i] for i in indices]
        run = Run(
            pipe,
            [wanted[i] for i in indices],
            image,
            None,
            guides=guides,
            on_step=None,
            progress=False,
            **_between(pipe, some, known),
        )
        done.update((i, Frame(*made)) for i, made in zip(indices, run(), strict=True))

    with lock_of(pipe), torch.no_grad():
        known = texts or texts_of(
            pipe, list(dict.fromkeys(s for r in recipes for s in r.corners)), guides
        )
        for chunk in chunks(pipe, wanted, len(wanted) if family_of(pipe).walks else 1):
            ladder.climb(chunk, partial(attempt, known))
    return [done[i] for i in range(len(recipes))]


def _guided(pipe: Any, s: Settings) -> bool:
    """Whether the pipeline takes a second encoding, for what guidance leads away from."""
    family = family_of(pipe)
    return family.guides(s) and "negative_prompt_embeds" in family.accepts


def _between(pipe: Any, recipes: Sequence[Recipe], known: Texts | Led) -> dict[str, Any]:
    """What a run of some frames is given besides their settings."""
    if isinstance(known, Led):
        (recipe,) = recipes
        if not recipe.at and recipe.circle is None:  # a keyframe is what its settings alone make
            return {}
        noise = _noise(pipe, recipe) if family_of(pipe).steerable else None
        return {"beginning": known.beginning(recipe), "noise": noise}
    guided = _guided(pipe, recipes[0].settings)
    return {
        "embeds": _embeds(pipe, recipes, known, guided=guided),
        "noise": torch.cat([_noise(pipe, r) for r in recipes]),
    }


def _embeds(
    pipe: Any, recipes: Sequence[Recipe], texts: Texts, *, guided: bool
) -> dict[str, torch.Tensor]:
    """Text encodings ``(B, T, D)`` of some frames, under the names that ``pipe(...)`` takes them by."""
    embeds: dict[str, torch.Tensor] = {}
    for negative in (False, True) if guided else (False,):
        names = next(encoding for (_, side), encoding in texts.items() if side == negative)
        for n in names:
            rows = [
                _words(pipe, n, r, [texts[_side(s, negative=negative)] for s in r.corners])
                for r in recipes
            ]
            dtype = names[n].dtype if "mask" in n else denoiser_of(pipe).dtype
            place = names[n].device if "mask" in n else pipe._execution_device
            embeds[f"negative_{n}" if negative else n] = torch.cat(rows).to(place, dtype)
    return embeds


def _side(s: Settings, *, negative: bool) -> tuple[str, bool]:
    return (s.negative_prompt if negative else s.prompt), negative


def _words(
    pipe: Any, name: str, recipe: Recipe, corners: Sequence[Mapping[str, torch.Tensor]]
) -> torch.Tensor:
    """One text encoding, ``(1, T, D)`` or pooled ``(1, D)``, or its mask ``(1, T)``, at a place between its corners."""
    values = [corner[name].cpu().float() for corner in corners]
    if len({id(corner) for corner in corners}) == 1:
        return values[0]
    path = partial(blend, WORD_PATHS[recipe.words], at=recipe.at)
    if "mask" in name:
        rows = corners[0]["prompt_embeds"].shape[1]
        found = arrived([_marked(mask, rows) for mask in values], shares(recipe.at)).float()
        return found[:, None].expand(rows, values[0].numel() // rows).reshape(values[0].shape)
    if values[0].ndim != 3:
        return path(values)
    there = [_there(corner, value) for corner, value in zip(corners, values, strict=True)]
    if recipe.words == "aligned" and not family_of(pipe).ordered:
        values = align(values, torch.stack(there).all(0))
    return rows_between(path, values, there, shares(recipe.at))


def _there(corner: Mapping[str, torch.Tensor], words: torch.Tensor) -> torch.Tensor:
    """Rows ``(T,)`` that an encoding has: those that no mask hides, and that are not filled up with zeros."""
    filled = words[0].abs().sum(-1) > 0
    if not filled.any():  # zeros as a whole say that nothing was said
        filled = ~filled
    masks = [mask for name, mask in corner.items() if "mask" in name]
    return filled & _marked(masks[0].cpu(), len(filled)) if masks else filled


def _marked(mask: torch.Tensor, rows: int) -> torch.Tensor:
    """Rows ``(T,)`` that a mask ``(1, T)`` shows; some families spread it over the width of the encoding, ``(1, T·D)``."""
    return mask.reshape(rows, -1).amax(-1) > 0


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
