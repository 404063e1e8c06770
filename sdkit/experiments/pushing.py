"""Push the light of a word, and the picture forms anew with the object at the other place.

The design decision: **the source's own attention is carried over**, layer by layer and step by step, and with it the object's
latents. So the object keeps its looks, its old place is filled by what the other words make of it, and no gradient is needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sdkit.attention.layers import Layer, grid_at
from sdkit.errors import InvalidSettings
from sdkit.generation import generate
from sdkit.pipelines.run import lock_of
from sdkit.pipelines.tokens import read_prompt
from sdkit.result import Result

from .riding import Follower, Riding, layers_that_follow

if TYPE_CHECKING:
    from sdkit.pipelines.run import OnStep

__all__ = ["push_attention"]

_LEAST = (
    1e-4  # of a patch's attention: what other words had, so little that its proportions say nothing
)
_OBJECT = 0.3  # of a map's peak: above that it covers objects best (`AttentionMaps.default_layers`)


def push_attention(
    pipe: Any,
    source: Result,
    move: Mapping[str, tuple[float, float]],
    *,
    on_step: OnStep | None = None,
    progress: bool = True,
) -> Result:
    """Make a picture again with an object at another place: its word's light is pushed there.

    Parameters
    ----------
    pipe
        A pipeline with a UNet: Pocket, Stable Diffusion 1.x, 2.x or XL.
    source
        The picture, as `generate` returned it, made from words alone.
    move
        Where the centre of each word's light goes: ``{"cat": (0.8, 0.4)}``, x from the left and y from the top, both from 0
        to 1. Several words move at once.
    on_step, progress
        As for `generate`.

    Returns
    -------
    Result
        The picture, and a note of what was pushed. Its settings are those of the source, and alone make the source; the
        same call with the source makes this picture again.

    Raises
    ------
    CannotCapture
        If the pipeline has no UNet, or a layer cannot be changed.
    InvalidSettings
        If a word does not stand in the prompt, or a place is outside the picture.

    Notes
    -----
    In every cross-attention layer and at every step, the map of a pushed word is the source's, moved; the other words share
    what is left, in the proportions they had ("forward guidance" of Chen, Laina and Vedaldi, arXiv:2304.03373, with the source's
    map in place of a box). After every step the object's latents, where the map is above 0.3 of its peak, are the source's,
    moved by whole cells. The costs are those of two pictures.

    Guidance by gradients of an energy of these maps (Epstein et al., arXiv:2306.00986) was tried on Pocket and moved little:
    it has learned from its words alone where things stand.

    Examples
    --------
    >>> r = sdkit.generate(pipe, "a cat on a blue background", seed=1, steps=8)
    >>> moved = sdkit.push_attention(pipe, r, {"cat": (0.3, 0.5)}, progress=False)
    >>> moved.image.size == r.image.size, moved.settings == r.settings
    (True, True)
    >>> moved.notes[-1]
    'cat was pushed to (0.30, 0.50) by sdkit.push_attention; the settings alone make the picture before that.'
    """
    one = source[0]
    layers = layers_that_follow(pipe, one.settings)
    prompt = read_prompt(pipe.tokenizer, one.settings.prompt)
    goals = {
        word: (prompt.positions(word), _place(word, place)) for word, place in _some(move).items()
    }
    with lock_of(pipe), _Push(pipe, one, layers, goals):
        made = generate(pipe, one.settings, on_step=on_step, progress=progress)
    told = " and ".join(
        f"{word} was pushed to ({x:.2f}, {y:.2f})" for word, (_, (x, y)) in goals.items()
    )
    note = f"{told} by sdkit.push_attention; the settings alone make the picture before that."
    return made.noted(note)


@dataclass(frozen=True)
class _Pushed:
    """One word: its tokens, how far it goes in shares of the picture, and where it was, `(1, 1, h, w)` of 0 and 1."""

    tokens: list[int]
    by: tuple[float, float]
    there: Tensor

    @cached_property
    def goal(self) -> Tensor:
        """Where it goes, likewise."""
        return _moved(self.there, self.by)


class _Push(Riding):
    """A run inside the block has the words' light at other places."""

    def __init__(
        self,
        pipe: Any,
        source: Result,
        layers: tuple[Layer, ...],
        goals: Mapping[str, tuple[list[int], tuple[float, float]]],
    ) -> None:
        crossing = tuple(layer for layer in layers if layer.kind == "cross")
        super().__init__(pipe, source, source.settings, crossing)
        self._goals = goals
        self.pushed: list[_Pushed] = []

    def run_source(self) -> None:
        """Make the source again, and see where its words are."""
        maps = generate(self.pipe, self.settings, attention=True, progress=False).attention
        rows, columns = self.grid(0)
        for word, (tokens, goal) in self._goals.items():
            heat = maps.word(word, normalize=True, size=(columns, rows)) > _OBJECT
            by = [
                # whole cells, so that what is carried over stays sharp
                round((to - (float(at.mean()) + 0.5) / size) * size) / size
                for to, at, size in zip(goal, np.nonzero(heat)[::-1], (columns, rows), strict=True)
            ]
            there = F.max_pool2d(torch.from_numpy(heat).float()[None, None], 3, 1, 1)
            self.pushed.append(_Pushed(tokens, (by[0], by[1]), there))

    def grid(self, level: int) -> tuple[int, int]:
        """Rows and columns of a layer."""
        height, width = self._ride.samples[0].shape[-2:]
        return grid_at(height, width, level)

    def places(self, level: int) -> tuple[Tensor, Tensor]:
        """Patches `(n,)` of a layer that objects have left, and those that none of them touches."""
        size = self.grid(level)
        before, after = (
            torch.cat(planes).amax((0, 1)) > 0.5  # half a cell
            for planes in zip(
                *(
                    (F.adaptive_max_pool2d(at, size) for at in (w.there, w.goal))
                    for w in self.pushed
                ),
                strict=True,
            )
        )
        return (before & ~after).flatten(), ~(before | after).flatten()

    def follower(self, layer: Layer) -> Follower:
        """What stands in the place of a layer's processor."""
        return _Lit(layer, self)

    def steer(self, step: int, latents: Tensor) -> Tensor:
        """The latents, with the source's objects where they go."""
        for word in self.pushed:
            carried = _moved(self._ride.latents[step], word.by)
            there = word.goal.to(latents.device) > 0.5
            latents = torch.where(there, carried, latents)
        return latents


class _Lit(Follower):
    """Attention to pushed words is the source's, moved; the other words share what is left as they did."""

    def __init__(self, layer: Layer, push: _Push) -> None:
        super().__init__(layer, push.pipe)
        self.push = push

    def follows(self, patches: int) -> bool:
        """At every step, in every layer."""
        del patches
        return True

    def exchanged(self, p: Tensor) -> Tensor:
        """Probabilities `(N, heads, patches, tokens)` of the new rows."""
        source, new = p[-1], p[:-1].clone()
        tokens = [n for word in self.push.pushed for n in word.tokens]
        before = new[..., tokens].sum(-1, keepdim=True)
        new[..., tokens] = 0
        light = torch.zeros_like(new)
        for word in self.push.pushed:
            heat = source[..., word.tokens].transpose(1, 2)  # (heads, pieces, patches)
            heat = _moved(heat.unflatten(-1, self.push.grid(self.layer.level)), word.by)
            light[..., word.tokens] = heat.flatten(2).transpose(1, 2)
        total = light.sum(-1, keepdim=True)
        light = light / total.clamp_min(1)  # where the light of two words meets
        left = (1 - total.clamp_max(1)) / (1 - before).clamp_min(_LEAST)
        new = new * left + light
        left_behind, outside = self.push.places(self.layer.level)
        if outside.any():
            new[:, :, left_behind] = new[:, :, outside].mean(2, keepdim=True)
        return new


def _moved(planes: Tensor, by: tuple[float, float]) -> Tensor:
    """Planes `(B, C, h, w)` moved by shares of their width and height; what comes in from outside is 0."""
    way = torch.eye(2, 3, device=planes.device)
    way[:, 2] = -2 * torch.tensor(by, device=planes.device)
    ways = way.expand(len(planes), -1, -1)
    places = F.affine_grid(ways, list(planes.shape), align_corners=False)
    return F.grid_sample(planes.float(), places, align_corners=False).to(planes.dtype)


def _some(move: Any) -> Mapping[str, Any]:
    if not isinstance(move, Mapping) or not move:
        raise InvalidSettings(
            f"move is {move!r}; give the words to push and where, such as {{'cat': (0.8, 0.4)}}."
        )
    return move


def _place(word: str, place: Any) -> tuple[float, float]:
    try:
        x, y = (float(n) for n in place)
    except (TypeError, ValueError):
        x = y = math.nan
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise InvalidSettings(
            f"The place of {word!r} is {place!r}; give x and y from 0 to 1, such as (0.8, 0.4)."
        )
    return x, y
