"""Concept vectors in the network's narrowest layer ("h-space", Kwon et al., arXiv:2210.10960), learned from single objects.

A difference of means is the plain probe of a concept; the principal component that goes along with it most is what one
finds without labels and names afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor

import sdkit
from sdkit.pocket.world import COLOURS, Kind

from .painting import watching

__all__ = ["Directions", "learn"]

_COMPONENTS = 32
_BACKGROUNDS = tuple(c for c in COLOURS if c not in ("black", "gray", "white"))


@dataclass(frozen=True)
class Directions:
    """For each kind of object by name: its two directions `(channels,)`; and the mean `(channels, h, w)` of all."""

    mean: Tensor
    difference: dict[str, Tensor]
    component: dict[str, Tensor]

    def maps(self, narrow: Tensor, word: str) -> tuple[Tensor, Tensor]:
        """How far each cell of `(channels, h, w)` lies along the difference of means, and along the component: `(h, w)`."""
        apart = narrow - self.mean
        along = [
            torch.einsum("chw,c->hw", apart, table[word])
            for table in (self.difference, self.component)
        ]
        return along[0], along[1]


def learn(pipe: Any, kinds: Sequence[Kind], *, each: int, **options: Any) -> Directions:
    """Directions of every kind, from `each` pictures of it alone on cards of various colours."""
    rng, seen = Random("bottleneck"), []
    prompts = [
        sdkit.Settings(
            prompt=f"a {kind.name} on a {rng.choice(_BACKGROUNDS)} background",
            seed=10_000 + n,
            **options,
        )
        for n, kind in enumerate(k for k in kinds for _ in range(each))
    ]
    for start in range(0, len(prompts), 16):
        part = prompts[start : start + 16]
        with watching(pipe, len(part)) as watch:
            sdkit.generate(pipe, part, progress=False, batch_size=16)
        seen.append(watch.bottleneck)
    return fitted(torch.cat(seen), [kind.name for kind in kinds], each)


def fitted(narrow: Tensor, names: Sequence[str], each: int) -> Directions:
    """Directions from `(kinds · each, channels, h, w)`, in the order of the names."""
    mean = narrow.mean(0)
    apart = narrow - mean
    cells = apart.permute(0, 2, 3, 1).flatten(0, 2)  # (pictures · h · w, channels)
    axes = torch.linalg.svd(cells, full_matrices=False)[2][:_COMPONENTS]
    difference = apart.mean((2, 3)).unflatten(0, (len(names), each)).mean(1)  # (kinds, channels)
    spread = (cells @ axes.T).std(0).clamp_min(1e-6)
    along = (difference @ axes.T) / spread  # in standard deviations of each component
    component = {}
    for name, scores in zip(names, along, strict=True):
        best = int(scores.abs().argmax())
        component[name] = axes[best] * scores[best].sign()
    return Directions(mean, dict(zip(names, difference, strict=True)), component)
