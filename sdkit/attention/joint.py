"""Where words and patches stand in what a transformer's attention is given: told by the number of tokens.

The design decision: **calls are told apart by their shapes.** In one and the same module patches may look at patches, words at
words, or all at all; a call counts only where its queries and keys are exactly as many as patches and words together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .layers import grid_at

__all__ = ["Standing", "Words", "level_of", "standing", "words_of"]

_NAMES = ("encoder_hidden_states", "cap_feats", "text_bth")
_MASKS = ("encoder_attention_mask", "encoder_hidden_states_mask")
_LEVELS = (1, 0, 2, 3)  # halvings from latent pixels to patches, the most usual first


@dataclass(frozen=True)
class Words:
    """How many tokens each row of the batch has: with padding, and without."""

    lengths: tuple[int, ...]
    real: tuple[int, ...]


def words_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Words:
    """The words that a network is shown, found among its inputs."""
    text = next((kwargs[name] for name in _NAMES if kwargs.get(name) is not None), None)
    if text is None and len(args) > 2 and isinstance(args[2], (list, tuple)):
        text = args[2]
    if isinstance(text, (list, tuple)):
        lengths = tuple(len(part) for part in text if isinstance(part, torch.Tensor))
        return Words(lengths, lengths)
    if not isinstance(text, torch.Tensor):
        return Words((), ())
    lengths = (int(text.shape[1]),) * len(text)
    mask = next((m for n in _MASKS if isinstance(m := kwargs.get(n), torch.Tensor)), None)
    if mask is None or mask.ndim != 2 or mask.is_floating_point():
        return Words(lengths, lengths)
    return Words(lengths, tuple(int(n) for n in mask.bool().sum(1)))


@dataclass(frozen=True)
class Standing:
    """Which queries are patches, which keys are words, and on how coarse a grid."""

    picture: slice
    text: slice
    level: int
    joint: bool


def standing(
    latents: tuple[int, int],
    length: int,
    longest: int,
    queries: int,
    keys: int,
    *,
    text_first: bool | None,
    stride: int = 1,
    registers: int = 0,
) -> Standing | None:
    """Where patches and words stand in one call; None if it is not one in which patches look at words.

    Parameters
    ----------
    latents
        Rows and columns of latent pixels.
    length, longest
        Tokens of this picture's words, and of the longest in the batch.
    queries, keys
        Tokens that look, and that are looked at.
    text_first, stride, registers
        As `sdkit.pipelines.families.Family` tells them; registers are tokens of the network's own before the words.
    """
    for level in _LEVELS:
        patches = math.prod(grid_at(*latents, level))
        if text_first is None and queries == patches and keys == longest:
            return Standing(slice(0, patches), slice(0, length), level, joint=False)
        if text_first and queries == patches and keys == longest + patches:
            return Standing(slice(0, patches), slice(0, length), level, joint=False)
        if text_first is None:
            continue
        filled = _up(patches, stride)
        if queries == keys == filled + registers + longest or (
            stride > 1 and queries == keys == filled + _up(longest, stride)
        ):
            if text_first:
                begin = registers + length
                return Standing(
                    slice(begin, begin + patches), slice(registers, begin), level, joint=True
                )
            return Standing(slice(0, patches), slice(filled, filled + length), level, joint=True)
    return None


def level_of(latents: tuple[int, int], patches: int) -> int | None:
    """How often a grid of latent pixels is halved to have this many patches; None if it never has."""
    return next((n for n in _LEVELS if math.prod(grid_at(*latents, n)) == patches), None)


def _up(count: int, stride: int) -> int:
    return -(-count // stride) * stride
