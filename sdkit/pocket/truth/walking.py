"""Walks: how many frames between two objects show a scene of the world, and not half of each.

A frame counts as valid if it is as near to some rendered scene as 95 % of Pocket's own pictures of one object are. The
scenes are all kinds of object on the same card, in several places each; distances are root mean squares over 32×32
pixels. A cross-fade of the two ends' pixels, which is no scene, stands beside as the floor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import sdkit
from sdkit.pocket.training.data import pictures
from sdkit.pocket.training.presets import Preset
from sdkit.pocket.world import Kind, Scene, objects, random_scene

from .painting import noises, paint, silenced
from .scoring import Marks

__all__ = ["Outing", "outings", "walked"]

_CARDS = ("blue", "green", "purple")
_PATHS = ("lerp", "slerp", "norm", "aligned")
_OUTER = "attention, outer"
_SIDE = 32
Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Outing:
    """Two objects on one card, and the seed of the noise that all frames begin with."""

    first: Kind
    second: Kind
    card: str
    seed: int

    @property
    def prompts(self) -> tuple[str, str]:
        """What is asked for at both ends."""
        return (
            f"a {self.first.name} on a {self.card} background",
            f"a {self.second.name} on a {self.card} background",
        )


def outings(preset: Preset, count: int) -> list[Outing]:
    """`count` pairs of ends; always the same ones."""
    rng, kinds, found = Random("walks"), objects(preset.objects), []
    for n in range(count):
        first, second = rng.sample(kinds, 2)
        found.append(Outing(first, second, _CARDS[n % len(_CARDS)], n))
    return found


def walked(
    pipe: Any, preset: Preset, ways: Sequence[Outing], *, frames: int, **options: Any
) -> Marks:
    """Percentage of valid frames between the ends, one value a walk, for every path.

    Parameters
    ----------
    pipe, preset
        Pocket, and what it was made by.
    ways
        The walks.
    frames
        Of each walk, its ends included.
    **options
        `steps` and `guidance_scale`.
    """
    made = {path: [_interpolated(pipe, o, path, frames, options) for o in ways] for path in _PATHS}
    made[_OUTER] = [_outer(pipe, o, frames, options) for o in ways]
    made["cross-fade of pixels"] = [_faded(walk) for walk in made["lerp"]]
    return judged(made, ways, {card: known(preset, card) for card in {o.card for o in ways}})


def judged(made: dict[str, list[Frames]], ways: Sequence[Outing], scenes: dict[str, Any]) -> Marks:
    """Marks of walks `(frames, H, W, 3)`, for each path one a way, against rendered scenes `(N, D)` by card."""
    ends = [
        distance
        for walk, o in zip(made["lerp"], ways, strict=True)
        for distance in nearest(walk[[0, -1]], scenes[o.card])
    ]
    limit, marks = float(np.quantile(ends, 0.95)), Marks()
    for path, walks in made.items():
        for walk, o in zip(walks, ways, strict=True):
            valid = nearest(walk[1:-1], scenes[o.card]) <= limit
            marks.note("valid frames, %", path, 100 * float(valid.mean()))
    return marks


def small(images: Frames) -> NDArray[np.float32]:
    """Pictures `(N, H, W, 3)` as rows `(N, 32 · 32 · 3)` of values in 0..1, averaged."""
    n, side = images.shape[:2]
    cells = images.reshape(n, _SIDE, side // _SIDE, _SIDE, side // _SIDE, 3)
    return cells.mean((2, 4), dtype=np.float32).reshape(n, -1) / 255


def nearest(images: Frames, scenes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Root mean square distance of each picture to the nearest of scenes `(N, D)`."""
    return np.array([np.sqrt(np.square(scenes - row).mean(1).min()) for row in small(images)])


def known(preset: Preset, card: str, *, views: int = 12) -> NDArray[np.float32]:
    """Every kind of object alone on a card, in `views` places each, as rows of `small`."""
    rng, found = Random(f"known {card}"), []
    for kind in objects(preset.objects):
        for _ in range(views):
            drawn = random_scene(
                rng, (kind,), training=False, composition="single", hands=preset.hands[:1]
            )
            item = drawn.items[0]
            found.append(Scene((item,), card, variant=drawn.variant, hand=preset.hands[0]))
    return small(pictures(found, preset.side))


def _interpolated(pipe: Any, o: Outing, path: str, frames: int, options: dict[str, Any]) -> Frames:
    ends = [sdkit.Settings(prompt=p, seed=o.seed, **options) for p in o.prompts]
    walk = sdkit.interpolate(pipe, ends, frames=frames, pacing="linear", words=path, progress=False)
    return np.stack([np.asarray(walk[n].convert("RGB")) for n in range(frames)])


def _faded(walk: Frames) -> Frames:
    """The two ends of a walk, mixed pixel by pixel."""
    t = np.linspace(0, 1, len(walk))[:, None, None, None]
    return (walk[0] * (1 - t) + walk[-1] * t + 0.5).astype(np.uint8)


# -- interpolated attention --------------------------------------------------------------------------------------------


def _outer(pipe: Any, o: Outing, frames: int, options: dict[str, Any]) -> Frames:
    """Frames whose patches look at both prompts and mix what they find (AID's outer interpolation, arXiv:2403.17924).

    ``(1 - t) Attn(Q, K_a, V_a) + t Attn(Q, K_b, V_b)`` in cross-attention. (The inner one, of keys and values, is here
    the straight line through the text, as keys and values are linear in it.)
    """
    with torch.no_grad():
        a, b = (silenced(pipe, prompt, None) for prompt in o.prompts)
    amounts = torch.linspace(0, 1, frames)
    with _mixing(pipe.unet, amounts.repeat(2)[:, None, None]):
        return paint(
            pipe,
            torch.cat([a, b], 1).expand(frames, -1, -1),
            noises(pipe, [o.seed] * frames),
            steps=options["steps"],
            guidance=options["guidance_scale"],
        )


@contextmanager
def _mixing(unet: Any, amounts: Tensor) -> Iterator[None]:
    """Inside the block, cross-attention is given two prompts one after the other, and mixes by amounts `(B, 1, 1)`."""
    before = dict(unet.attn_processors)
    mixed = {
        name: _mixed(processor, amounts) if ".attn2." in name else processor
        for name, processor in before.items()
    }
    unet.set_attn_processor(mixed)
    try:
        yield
    finally:
        unet.set_attn_processor(before)


def _mixed(processor: Callable[..., Tensor], amounts: Tensor) -> Callable[..., Tensor]:
    def attend(
        attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **named: Any
    ) -> Tensor:
        both = encoder_hidden_states.chunk(2, 1)
        one, two = (processor(attn, hidden_states, words, **named) for words in both)
        return torch.lerp(one, two, amounts)

    return attend
