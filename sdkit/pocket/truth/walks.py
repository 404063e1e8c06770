"""Walks, scored: is what stands on the way a thing, or a blend of two?

A walk leads from one object on a plain card to another. A frame between the ends is **valid** if the judge sees one object
of the vocabulary and is sure of it: of the 16×16 cells there are at least 4 in which something rather than nothing is the
likelier answer, and in these one object has a mean probability of 0.6 or more. Any object counts, for a walk may pass a third
thing; a blend that shows neither end does not, as its cells name many things or are sure of none. A judge that had seen 45,000
scenes let 95 % of 400 rendered single objects pass, and 20 % of two such pictures faded half into each other.

Valid frames are no merit by themselves (a jump from end to end has nothing else), so unevenness stands beside them: the
coefficient of variation of the distances between neighbours, in the features from which the judge answers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from random import Random
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

import sdkit
from sdkit.pocket.training.autoencoder import to_pixels
from sdkit.pocket.training.judge import Judge, Verdict
from sdkit.pocket.training.presets import Preset
from sdkit.pocket.world import caption, objects, random_scene

from .between import attending
from .painting import noises, paint, silenced
from .scoring import Marks, Score

__all__ = ["KEYFRAMES", "Ends", "ends", "seen_in", "walked", "walks"]

KEYFRAMES, FADED = "the keyframes themselves", "cross-fade of the pictures"
PATHS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "lerp of words and noise": {"words": "lerp", "noise": "lerp"},
        "lerp": {"words": "lerp"},
        "slerp": {"words": "slerp"},
        "norm-preserving": {"words": "norm"},
        "token-aligned": {"words": "aligned"},
    }
)
"""Options of `sdkit.interpolate`; noise goes by "slerp" where nothing else is said."""
ATTENTION: Final[Mapping[str, bool]] = MappingProxyType(
    {"inner attention (AID)": True, "outer attention (AID)": False}
)
_CELLS, _SURE = 4, 0.6

Frames = NDArray[np.uint8]  # (N, H, W, 3)


@dataclass(frozen=True)
class Ends:
    """The prompts of a walk's ends, and the seeds of their pictures."""

    prompts: tuple[str, str]
    seeds: tuple[int, int]


def ends(preset: Preset, count: int) -> list[Ends]:
    """`count` pairs of plain scenes, each with one object in its own colours; always the same ones."""
    rng, kinds = Random("walks"), objects(preset.objects)
    found: list[Ends] = []
    while len(found) < count:
        pair = [
            random_scene(rng, kinds, training=False, composition="single", hands=preset.hands)
            for _ in range(2)
        ]
        plain = all(s.style == "plain" and s.items[0].colour is None for s in pair)
        if plain and pair[0].items[0].kind != pair[1].items[0].kind:
            prompts = [caption(s, rng, name_home=True) for s in pair]
            found.append(Ends((prompts[0], prompts[1]), (2 * len(found), 2 * len(found) + 1)))
    return found


def seen_in(verdict: Verdict) -> int | None:
    """The object that the judge is sure of, or None."""
    something = verdict.where[-1] < 0.5
    if something.sum() < _CELLS:
        return None
    sure = verdict.where[:-1][:, something].mean(1)
    return int(sure.argmax()) if sure.max() >= _SURE else None


def walked(pipe: Any, asked: Ends, frames: int, **options: Any) -> Iterator[tuple[str, Frames]]:
    """Each way, and its frames with both ends; options are `steps` and `guidance_scale`."""
    keyframes = [
        sdkit.Settings(p, seed=s, **options)
        for p, s in zip(asked.prompts, asked.seeds, strict=True)
    ]
    make = partial(
        sdkit.interpolate, pipe, keyframes, frames=frames, pacing="linear", batch_size=frames, progress=False,
    )  # fmt: skip
    for way, paths in PATHS.items():
        walk = make(**paths)
        made = np.stack([np.asarray(frame) for frame in walk[:]])
        yield way, made
    for way, inner in ATTENTION.items():
        yield way, _attended(pipe, asked, frames, inner=inner, **options)
    amounts = np.linspace(0, 1, frames)[:, None, None, None]
    yield FADED, (made[:1] * (1 - amounts) + made[-1:] * amounts).round().astype(np.uint8)


def _mixed(a: torch.Tensor, b: torch.Tensor, t: float) -> torch.Tensor:
    """Between rows `(…, D)`: the direction of the straight line, at a length between theirs."""
    length = torch.lerp(a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True), t)
    return length * torch.nn.functional.normalize(torch.lerp(a, b, t), dim=-1)


@torch.no_grad()
def _attended(
    pipe: Any, asked: Ends, frames: int, *, inner: bool, steps: int, guidance_scale: float
) -> Frames:
    """A walk with attention interpolated; words are mixed and keep their length, noise goes along an arc."""
    amounts = [n / (frames - 1) for n in range(1, frames - 1)]
    words = [silenced(pipe, prompt, None) for prompt in asked.prompts]
    noise = [noises(pipe, [seed]) for seed in asked.seeds]
    words += [_mixed(words[0], words[1], t) for t in amounts]
    noise += [
        math.cos(t * math.pi / 2) * noise[0] + math.sin(t * math.pi / 2) * noise[1] for t in amounts
    ]
    with attending(pipe, amounts, inner=inner):
        made = paint(pipe, torch.cat(words), torch.cat(noise), steps=steps, guidance=guidance_scale)
    return np.concatenate([made[:1], made[2:], made[1:2]])


def walks(
    pipe: Any, judge: Judge, asked: list[Ends], *, frames: int = 9, **options: Any
) -> dict[str, dict[str, Score]]:
    """Score → way → mean and interval over walks.

    Parameters
    ----------
    pipe, judge
        Pocket, and its judge.
    asked
        What `ends` gave.
    frames
        Of each walk, both ends included.
    **options
        `steps` and `guidance_scale` of every picture.
    """
    marks = Marks()
    for one in tqdm(asked, desc="walks"):
        for way, made in walked(pipe, one, frames, **options):
            verdicts, features = judge.look(to_pixels(made))
            valid = [100.0 * (seen_in(v) is not None) for v in verdicts]
            apart = np.linalg.norm(np.diff(features, axis=0), axis=1)
            marks.note("frames that show one object, %", way, float(np.mean(valid[1:-1])))
            marks.note("unevenness, %", way, float(100 * apart.std() / max(apart.mean(), 1e-9)))
        marks.note("frames that show one object, %", KEYFRAMES, (valid[0] + valid[-1]) / 2)
    return marks.scores()
