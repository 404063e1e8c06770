"""The ways to look inside that are scored: each gives, for a word of a prompt, a map of where it is.

A map may have any grid and any scale: scores use its order of pixels only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

import sdkit

from .bottleneck import Directions
from .painting import Watch, noises, paint, places, silenced, watching
from .scenes import Case

__all__ = ["Look", "enlarged", "looks"]

Heat = NDArray[np.float32]
_TIMES = 3  # steps at which the derivative is taken, evenly apart
_NUDGE = (
    0.05  # of a word's encoding: small enough for a derivative, large enough for single precision
)


@dataclass(frozen=True)
class Look:
    """One case: its picture `(H, W, 3)`, and way → one map for each of its words."""

    case: Case
    picture: NDArray[np.uint8]
    maps: Mapping[str, tuple[Heat, ...]]


def enlarged(heat: Heat, side: int) -> Heat:
    """A map `(h, w)` at `(side, side)`, bilinear where it grows and averaged where it shrinks."""
    planes = torch.from_numpy(np.ascontiguousarray(heat, np.float32))[None, None]
    if side < heat.shape[0]:
        return F.adaptive_avg_pool2d(planes, side)[0, 0].numpy()
    return F.interpolate(planes, (side, side), mode="bilinear")[0, 0].numpy()


def looks(
    pipe: Any, cases: Sequence[Case], directions: Directions, *, batch: int = 10, **options: Any
) -> Iterator[Look]:
    """Make the pictures of cases and look at them in every way; options are `steps` and `guidance_scale`."""
    for start in range(0, len(cases), batch):
        part = cases[start : start + batch]
        wanted = [sdkit.Settings(prompt=c.prompt, seed=c.seed, **options) for c in part]
        concepts = sorted({word for c in part for word in c.words})
        asked = {"heads": True, "self_attention": True, "concepts": concepts}
        with watching(pipe, len(part)) as watch:
            made = sdkit.generate(
                pipe, wanted, attention=asked, progress=False, batch_size=len(part)
            )
        pictures = [np.asarray(image.convert("RGB")) for image in made.images]
        without = _ablated(pipe, part, **options)
        slopes = _slopes(pipe, part, watch)
        narrow = watch.bottleneck
        for n, case in enumerate(part):
            chance = np.random.default_rng(case.seed)
            found: dict[str, list[Heat]] = {}
            for m, word in enumerate(case.words):
                change = np.abs(without[n][m].astype(np.float32) - pictures[n]).mean(-1)
                means, component = directions.maps(narrow[n], word)
                maps = {
                    "random": chance.standard_normal((16, 16), np.float32),
                    **attention_ways(made[n].attention, word),
                    "word ablation": change,
                    "gradient × input": slopes[n][m],
                    "h-space, difference of means": means.numpy(),
                    "h-space, principal component": component.numpy(),
                }
                for way, heat in maps.items():
                    found.setdefault(way, []).append(heat)
            yield Look(case, pictures[n], {way: tuple(heats) for way, heats in found.items()})


def attention_ways(maps: Any, word: str) -> dict[str, Heat]:
    """What cross-attention says of a word: as sdkit shows it, by layer, by head, rolled out; and as a concept."""
    found = {"cross-attention, default": maps[word]}
    for name, layer in (
        ("decoder 8×8", "up/2"),
        ("encoder 8×8", "down/2"),
        ("middle 4×4", "mid"),
    ):
        found[f"cross-attention, {name}"] = maps.at(layer=layer)[word]
    heads = max(len(layer.heads) for layer in maps.layers if layer.heads is not None)
    for head in range(heads):
        found[f"cross-attention, head {head}"] = maps.at(head=head)[word]
    found["attention rollout"] = rollout(maps, word)
    found["concept, as if not in the prompt"] = maps.concepts[word]
    return found


def rollout(maps: Any, word: str) -> Heat:
    """What reached each patch of the finest decoder layers, by way of other patches too.

    Each block lets patches look at patches, then at words, each time beside a shortcut: ``h ← (h + S h) / 2 + c``, with
    S a block's self-attention `(P, P)` and c its attention to the word `(P,)` (after Abnar & Zuidema, arXiv:2005.00928).
    """
    words = maps.by_layer(word)
    finest = max(max(m.grid) for m in maps.layers if m.group.startswith("up"))
    heat = np.zeros(finest * finest, np.float32)
    for layer in maps.layers:
        if not layer.group.startswith("up") or max(layer.grid) != finest:
            continue
        if layer.patches is not None:
            heat = (heat + layer.patches.reshape(len(heat), -1) @ heat) / 2
        if layer.words is not None:
            heat = heat + words[layer.name].reshape(-1)
    return heat.reshape(finest, finest)


def _ablated(pipe: Any, part: Sequence[Case], **options: Any) -> NDArray[np.uint8]:
    """Pictures `(N, words, H, W, 3)` without each word."""
    with torch.no_grad():
        words = torch.cat([silenced(pipe, c.prompt, w) for c in part for w in c.words])
    seeds = [c.seed for c in part for _ in c.words]
    made = paint(
        pipe,
        words,
        noises(pipe, seeds),
        steps=options["steps"],
        guidance=options["guidance_scale"],
    )
    return made.reshape(len(part), -1, *made.shape[1:])


@torch.no_grad()
def _slopes(pipe: Any, part: Sequence[Case], watch: Watch) -> list[list[Heat]]:
    """Gradient × input for each patch: how the prediction there changes along a word's own encoding, `(16, 16)`.

    ``|J e|`` with J the derivative of the network's answer by the encoding e of the word, by a central difference;
    the mean over channels and over steps, each step's map divided by its mean.
    """
    plain = torch.cat([silenced(pipe, c.prompt, None) for c in part])
    owners, nudges = [], []
    for n, c in enumerate(part):
        for word in c.words:
            nudge = torch.zeros_like(plain[n])
            at = places(pipe, c.prompt, word)
            nudge[at] = _NUDGE * plain[n, at]
            owners.append(n)
            nudges.append(nudge)
    step, base = torch.stack(nudges), plain[owners]
    total: Tensor | None = None
    for at in np.linspace(0, len(watch.times) - 1, _TIMES).round().astype(int):
        x = watch.latents[at][owners].repeat(2, 1, 1, 1)
        said = pipe.unet(x, watch.times[at], torch.cat([base + step, base - step])).sample
        more, less = said.chunk(2)
        slope = (more - less).abs().mean(1)
        slope = slope / slope.mean((1, 2), keepdim=True).clamp_min(1e-12)
        total = slope if total is None else total + slope
    heats = [] if total is None else list(total.numpy())
    each = len(part[0].words)
    return [heats[n * each : (n + 1) * each] for n in range(len(part))]
