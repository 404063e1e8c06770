"""Pocket's sampler in the open, for what no pipeline call does: a word that is heard in a part of the picture only."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Watch", "encode", "noises", "paint", "places", "silenced", "watching"]


def places(pipe: Any, prompt: str, word: str) -> list[int]:
    """Positions of a word's pieces in the encoder's sequence."""
    found = re.search(rf"\b{re.escape(word)}\b", prompt)
    if found is None:
        raise ValueError(f"{word!r} does not stand in {prompt!r}.")
    begin, end = found.span()
    read = pipe.tokenizer(prompt, return_offsets_mapping=True)
    return [n for n, (a, b) in enumerate(read.offset_mapping) if a < b and begin <= a and b <= end]


def encode(pipe: Any, ids: Tensor) -> Tensor:
    """Token numbers `(B, T)` to text encodings `(B, T, D)`."""
    return pipe.text_encoder(ids)[0]


def silenced(pipe: Any, prompt: str, word: str | None) -> Tensor:
    """Encoding `(1, T, D)` of a prompt in which commas stand for a word, so that every other word keeps its place."""
    ids = pipe.tokenizer(prompt, padding="max_length", return_tensors="pt").input_ids
    if word is not None:
        ids[0, places(pipe, prompt, word)] = pipe.tokenizer(
            ",", add_special_tokens=False
        ).input_ids[-1]
    return encode(pipe, ids)


def noises(pipe: Any, seeds: Sequence[int]) -> Tensor:
    """The noise `(B, C, h, w)` that pictures of these seeds begin with."""
    side, channels = pipe.unet.config.sample_size, pipe.unet.config.in_channels
    drawn = [
        torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(s))
        for s in seeds
    ]
    return torch.cat(drawn) * pipe.scheduler.init_noise_sigma


@torch.no_grad()
def paint(
    pipe: Any,
    words: Tensor,
    noise: Tensor,
    *,
    steps: int,
    guidance: float,
    without: Tensor | None = None,
    where: Tensor | None = None,
) -> NDArray[np.uint8]:
    """Pictures `(B, H, W, 3)` of encodings `(B, T, D)`.

    Parameters
    ----------
    pipe
        Pocket.
    words, noise
        Encodings `(B, T, D)` and starting noise `(B, C, h, w)`.
    steps, guidance
        Denoising steps, and the scale of classifier-free guidance.
    without, where
        Encodings `(B, T, D)` that are heard instead where the mask `(B, 1, h, w)` is 1: at each step the two
        predictions are joined along its border.
    """
    empty = silenced(pipe, "", None).expand(len(words), -1, -1)
    heard = [empty, words] if without is None else [empty, words, without]
    pipe.scheduler.set_timesteps(steps)
    x = noise
    for t in pipe.scheduler.timesteps:
        said = pipe.unet(x.repeat(len(heard), 1, 1, 1), t, torch.cat(heard)).sample
        nothing, told, *less = said.chunk(len(heard))
        if less and where is not None:
            told = torch.lerp(told, less[0], where)
        x = pipe.scheduler.step(nothing + guidance * (told - nothing), t, x).prev_sample
    drawn = pipe.vae.decode(x / pipe.vae.config.scaling_factor).sample
    pixels = (drawn.permute(0, 2, 3, 1) / 2 + 0.5).clamp(0, 1)
    return (255 * pixels + 0.5).to(torch.uint8).numpy()


@dataclass
class Watch:
    """What a run showed: the network's inputs `(steps, B, C, h, w)`, and its narrowest layer `(B, channels, 4, 4)`."""

    times: list[float] = field(default_factory=list)
    latents: list[Tensor] = field(default_factory=list)
    narrow: list[Tensor] = field(default_factory=list)

    @property
    def bottleneck(self) -> Tensor:
        """The mean over steps, `(B, channels, 4, 4)`."""
        return torch.stack(self.narrow).mean(0)


@contextmanager
def watching(pipe: Any, count: int) -> Iterator[Watch]:
    """Keep what `count` pictures' half with the words shows inside the block."""
    seen = Watch()

    def before(_network: Any, args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
        seen.latents.append(args[0][-count:].clone())
        seen.times.append(float(args[1]))

    def middle(_block: Any, _args: Any, output: Tensor) -> None:
        seen.narrow.append(output[-count:].clone())

    handles = [
        pipe.unet.register_forward_pre_hook(before, with_kwargs=True),
        pipe.unet.mid_block.register_forward_hook(middle),
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
