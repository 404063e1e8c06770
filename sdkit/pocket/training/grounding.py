"""Teach words where to look: while training, attention of an object's words is drawn onto the object.

Every scene comes with the mask of its objects, so the UNet need not guess which word belongs to which shape. This is
what makes two objects and their colours bind early, and why Pocket's attention maps point at things.
Source: Z. Wang et al., "TokenCompose", arXiv:2312.03626 (its token loss; masks there come from a segmenter).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor
from transformers import CLIPTokenizer

from sdkit.pocket.world import Scene

__all__ = ["Watcher", "WordMarks", "grounding_loss"]


class Watcher:
    """Attention written out, which remembers the probabilities `(B, pixels, tokens)` of one pass, mean over heads.

    Use as ``watcher = Watcher(unet)``; after a forward pass `watcher.seen` holds one tensor for each cross-attention
    layer that sees at least 8×8 pixels. Call `clear` before the next pass. Self-attention is written out `too` where
    that is faster: on processors, the fused kernel takes two to seven times as long for so few pixels in bfloat16.
    """

    def __init__(self, unet: UNet2DConditionModel, *, too: bool = False) -> None:
        self.seen: list[Tensor] = []
        kept = unet.attn_processors
        unet.set_attn_processor(
            {name: self if too or ".attn2." in name else old for name, old in kept.items()}
        )

    def clear(self) -> None:
        """Forget the last pass."""
        self.seen.clear()

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        *_: object,
        **__: object,
    ) -> Tensor:
        """One attention layer: `(B, pixels, C)` in and out."""
        across = encoder_hidden_states is not None
        there = encoder_hidden_states if across else hidden_states
        query, key, value = (
            layer(x).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for layer, x in (
                (attn.to_q, hidden_states),
                (attn.to_k, there),
                (attn.to_v, there),
            )
        )
        # (B, heads, pixels, tokens)
        probabilities = ((query * attn.scale) @ key.transpose(-1, -2)).softmax(-1)
        if across and probabilities.shape[2] >= 64:
            self.seen.append(probabilities.mean(1))
        return attn.to_out[0]((probabilities @ value).transpose(1, 2).flatten(2))


class WordMarks:
    """Finds the tokens of a scene's objects in its tokenized caption."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, tuple[int, ...]] = {}

    def _ids(self, words: str) -> tuple[int, ...]:
        if words not in self._known:
            self._known[words] = tuple(self._tokenizer(words, add_special_tokens=False).input_ids)
        return self._known[words]

    def __call__(self, scenes: Sequence[Scene], ids: Tensor) -> Tensor:
        """Marks `(B, 2, tokens)`: 1 where a token names the first or the second kind of object, or its colour."""
        marks = torch.zeros(len(scenes), 2, ids.shape[1])
        for row, (scene, tokens) in enumerate(zip(scenes, ids.tolist(), strict=True)):
            for slot, item in enumerate(scene.items[: 2 if scene.relation else 1]):
                for noun in (item.kind.name, item.kind.plural):
                    wanted = self._ids(noun)
                    for at in range(len(tokens) - len(wanted) + 1):
                        if tuple(tokens[at : at + len(wanted)]) == wanted:
                            coloured = item.colour is not None and (tokens[at - 1],) == self._ids(
                                item.colour
                            )
                            marks[row, slot, at - coloured : at + len(wanted)] = 1
        return marks


def grounding_loss(seen: Sequence[Tensor], marks: Tensor, masks: Tensor) -> Tensor:
    """``(1 - share of a word's attention that falls on its object)²``, mean over words and layers.

    `seen` holds probabilities `(B, pixels, tokens)`, `marks` `(B, 2, tokens)`, `masks` `(B, 2, 16, 16)` in 0..1.
    """
    count = float(marks.sum())
    if not seen or not count:
        return marks.new_zeros(())
    losses = []
    for probabilities in seen:
        side = int(probabilities.shape[1] ** 0.5)  # training pictures are square
        mask = (
            (2 * F.adaptive_avg_pool2d(masks, side)).clamp(max=1).flatten(2)
        )  # half covered is inside; (B, 2, pixels)
        spread = probabilities / probabilities.sum(1, keepdim=True).clamp_min(1e-6)
        inside = mask @ spread  # (B, 2, tokens)
        losses.append(((1 - inside).square() * marks).sum() / count)
    return torch.stack(losses).mean()
