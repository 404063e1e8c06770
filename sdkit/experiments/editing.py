"""Change a prompt and keep the layout: prompt-to-prompt editing on today's diffusers.

The design decision: the source rides along (`riding`), and where the new run would look at a word, it looks where the
source looked.
Source: A. Hertz et al., "Prompt-to-prompt image editing with cross-attention control", arXiv:2208.01626.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sdkit.attention.layers import Layer, grid_at
from sdkit.errors import InvalidSettings
from sdkit.pipelines.tokens import Prompt, read_prompt
from sdkit.result import Result
from sdkit.settings import Settings

from .riding import Follower, Riding, layers_that_follow

__all__ = ["Edit", "edit_attention"]

_SELF_PATCHES = 16 * 16  # finer self-attention carries texture rather than layout
_BLEND_THRESHOLD = 0.3


def edit_attention(
    pipe: Any,
    source: Result,
    *,
    prompt: str | None = None,
    swap: Mapping[str, str] | None = None,
    weights: Mapping[str, float] | None = None,
    cross_steps: float = 0.8,
    self_steps: float = 0.4,
    blend: str | tuple[str, str] | None = None,
) -> Edit:
    """Let the next runs inside a ``with`` block follow the attention of a picture that exists.

    Parameters
    ----------
    pipe
        A pipeline with a UNet: Stable Diffusion 1.x, 2.x or XL.
    source
        The picture to edit, as `generate` returned it.
    prompt
        The new words. Words that both prompts share keep their place in the picture; words that replace others take
        theirs; added words look where they like. None keeps the source's, changed by `swap`.
    swap
        Instead of `prompt`: words to exchange, ``{"cat": "fox"}``.
    weights
        Factors for the attention to words of the new prompt, from -2 to 5: ``{"red": 3}`` more of it, 0 none.
    cross_steps, self_steps
        Shares of the steps, from the first, in which attention to words, and of patches to patches, follows the source.
    blend
        A word (or the source's and the new one's): outside of where it is seen the picture stays the source's.

    Returns
    -------
    Edit
        A context manager; its `settings` are the source's with the new prompt.

    Raises
    ------
    CannotCapture
        If the pipeline has no UNet (joint attention mixes words and patches in one softmax, and cannot be exchanged
        by words), or a layer cannot be edited.
    InvalidSettings
        If a word does not stand in its prompt, or a number is outside its limits.

    Examples
    --------
    >>> r = sdkit.generate(pipe, "a cat in the snow", seed=3, steps=8)
    >>> with sdkit.edit_attention(pipe, r, swap={"cat": "fox"}) as edit:
    ...     fox = sdkit.generate(pipe, edit.settings)
    >>> fox.settings.prompt
    'a fox in the snow'
    """
    old = source.settings.prompt
    new = prompt if prompt is not None else _swapped(old, swap or {})
    for name, share in (("cross_steps", cross_steps), ("self_steps", self_steps)):
        if not 0 <= share <= 1:
            raise InvalidSettings(f"{name} is {share:g}; give the share of steps from 0 to 1.")
    for word, factor in (weights or {}).items():
        if not -2 <= factor <= 5:
            raise InvalidSettings(
                f"The weight of {word!r} is {factor:g}; give a factor from -2 to 5."
            )
    layers = layers_that_follow(pipe, source.settings)
    one, two = read_prompt(pipe.tokenizer, old), read_prompt(pipe.tokenizer, new)
    words = (blend, blend) if isinstance(blend, str) else blend
    if words is not None and prompt is None and swap and words[0] == words[1]:
        words = (words[0], swap.get(words[0], words[1]))
    plan = Exchange(
        *_aligned(one, two),
        factors=_factors(two, weights or {}),
        cross_steps=cross_steps,
        self_steps=self_steps,
        blend=None if words is None else (one.positions(words[0]), two.positions(words[1])),
    )
    return Edit(pipe, source[0], source.settings.replace(prompt=new), layers, plan)


@dataclass(frozen=True)
class Exchange:
    """How attention to the source's tokens becomes attention to the new ones.

    `take` `(T, T)` moves the source's probabilities to new positions; `own` `(T,)` is 1 where a new token has no
    counterpart and keeps its own; `factors` `(T,)` are the weights.
    """

    take: Tensor
    own: Tensor
    factors: Tensor
    cross_steps: float
    self_steps: float
    blend: tuple[list[int], list[int]] | None


class Edit(Riding):
    """Runs inside the block follow the source; made by `edit_attention`."""

    def __init__(
        self,
        pipe: Any,
        source: Result,
        settings: Settings,
        layers: tuple[Layer, ...],
        plan: Exchange,
    ) -> None:
        super().__init__(pipe, source, settings, layers)
        self.plan = plan
        self._heat: list[Tensor] = []  # of the blend words, source and new, added up over steps

    def follower(self, layer: Layer) -> Follower:
        """What stands in the place of a layer's processor."""
        return _Edited(layer, self)

    def _begin(self) -> None:
        self._heat = []

    def steer(self, step: int, latents: Tensor) -> Tensor:
        """Outside of the blend words' places, the latents of the source."""
        if self.plan.blend is None or not self._heat:
            return latents
        masks = [
            F.interpolate(h[None, None], latents.shape[-2:], mode="bilinear")[0, 0]
            for h in self._heat
        ]
        mask = torch.stack([m / m.max().clamp_min(1e-9) > _BLEND_THRESHOLD for m in masks]).any(0)
        there = F.max_pool2d(mask.to(latents.dtype)[None, None], 3, 1, 1)
        return torch.lerp(self._ride.latents[step].expand_as(latents), latents, there)

    def note_heat(self, layer: Layer, source: Tensor, target: Tensor) -> None:
        """Add up where the blend words are seen; probabilities `(heads, patches, tokens)` of both rows."""
        if self.plan.blend is None or layer.stage != "up":
            return
        height, width = self._ride.samples[0].shape[-2:]
        rows, columns = grid_at(height, width, layer.level)
        for slot, (p, places) in enumerate(zip((source, target), self.plan.blend, strict=True)):
            heat = p.mean(0)[:, places].sum(-1).view(rows, columns)
            if len(self._heat) <= slot:
                self._heat.append(heat)
            elif heat.numel() >= self._heat[slot].numel():  # the finest grid that is seen decides
                same = heat.shape == self._heat[slot].shape
                self._heat[slot] = self._heat[slot] + heat if same else heat


class _Edited(Follower):
    """Attention to words, and of patches to patches, taken from the source."""

    def __init__(self, layer: Layer, edit: Edit) -> None:
        super().__init__(layer, edit.pipe)
        self.edit = edit

    def follows(self, patches: int) -> bool:
        """Attention to words always does; that of patches in the first steps, where the grid is coarse."""
        if self.layer.kind == "cross":
            return True
        return self.edit.progress < self.edit.plan.self_steps and patches <= _SELF_PATCHES

    def exchanged(self, p: Tensor) -> Tensor:
        """Probabilities `(N, heads, patches, keys)` of the new rows."""
        if self.layer.kind != "cross":
            return p[-1:].expand(len(p) - 1, -1, -1, -1)
        plan, source, target = self.edit.plan, p[-1:], p[:-1]
        self.edit.note_heat(self.layer, source[0], target[0])
        if self.edit.progress < plan.cross_steps:
            own = plan.own.to(p)
            target = source @ plan.take.to(p) * (1 - own) + target * own
            target = target / target.sum(-1, keepdim=True).clamp_min(1e-9)
        return target * plan.factors.to(p)


# -- which word becomes which ----------------------------------------------------------------------------------------


def _swapped(prompt: str, swap: Mapping[str, str]) -> str:
    """The prompt with all words exchanged at once: cat for dog and dog for cat change places."""
    if not swap:
        return prompt
    words = {old.lower(): new for old, new in swap.items()}
    longest_first = "|".join(re.escape(old) for old in sorted(words, key=len, reverse=True))
    pattern = re.compile(rf"(?<!\w)(?:{longest_first})(?!\w)", re.IGNORECASE)
    there = {found.lower() for found in pattern.findall(prompt)}
    for old in swap:
        if old.lower() not in there:
            raise InvalidSettings(
                f"{old!r} does not stand in the prompt {prompt!r}, so it cannot be swapped."
            )
    return pattern.sub(lambda found: words[found[0].lower()], prompt)


def _aligned(one: Prompt, two: Prompt) -> tuple[Tensor, Tensor]:
    """`take` and `own` of an `Exchange`: equal words keep their attention, replaced words hand theirs over."""
    take, own = torch.zeros(one.length, two.length), torch.ones(two.length)

    def hand_over(old: tuple[int, ...], new: tuple[int, ...]) -> None:
        for position in new:
            own[position] = 0
            take[list(old), position] = 1 / len(new) if len(old) != len(new) else 0
        if len(old) == len(new):
            take[list(old), list(new)] = 1

    a, b = ([w for w in prompt.words if not w.cut] for prompt in (one, two))
    for tag, i1, i2, j1, j2 in SequenceMatcher(
        None, [w.text.casefold() for w in a], [w.text.casefold() for w in b], autojunk=False
    ).get_opcodes():
        if tag == "equal" or (tag == "replace" and i2 - i1 == j2 - j1):
            for was, now in zip(a[i1:i2], b[j1:j2], strict=True):
                hand_over(was.positions, now.positions)
        elif tag == "replace":
            hand_over(
                tuple(p for w in a[i1:i2] for p in w.positions),
                tuple(p for w in b[j1:j2] for p in w.positions),
            )
    hand_over(one.start, two.start)
    hand_over(one.end, two.end)
    for old, new in zip(reversed(one.padding), reversed(two.padding), strict=False):
        hand_over((old,), (new,))
    return take, own


def _factors(prompt: Prompt, weights: Mapping[str, float]) -> Tensor:
    factors = torch.ones(prompt.length)
    for word, factor in weights.items():
        factors[prompt.positions(word)] = factor
    return factors
