"""Attention between two pictures: an experiment that walks do not have, as it does not win the table of `walks`.

Its frames show one object as often as those of paths through words do, within what 40 walks can tell; the page "Explanations,
marked" has the table. Outer interpolation without the frame's own keys showed fewer (50 % against 56 %, 10 walks).

The two ends run along as the first two rows of every part of a batch, and each layer of the frames between them attends to
theirs. **Inner** interpolation mixes the ends' keys and values; **outer** lets a frame attend to each end, and mixes what it
got. Both also attend to the frame's own keys and values ("fused"), without which frames lose their detail.
Source: Q. He, J. Wang, Z. Liu and A. Yao, "AID: Attention interpolation of text-to-image diffusion", NeurIPS 2024,
arXiv:2403.17924. What is the frame's own in cross-attention are the words on the way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["attending"]


@contextmanager
def attending(pipe: Any, amounts: Sequence[float], *, inner: bool) -> Iterator[None]:
    """Let frames attend to two ends inside the block.

    Parameters
    ----------
    pipe
        Pocket, or any UNet whose layers only attend.
    amounts
        Where each of the N frames lies, 0 at the first end and 1 at the second. Each part of every batch (without words, with
        them) must hold N + 2 rows: the two ends, then the frames.
    inner
        Mix keys and values; else what was attended to.
    """
    with ExitStack() as undo:
        for module in pipe.unet.modules():
            if type(module).__name__ == "Attention":
                own = module.processor
                undo.callback(setattr, module, "processor", own)
                module.processor = _Between(own, amounts, inner=inner)
        yield


class _Between:
    """Runs a layer's own processor, and replaces the rows of the frames."""

    def __init__(self, own: Any, amounts: Sequence[float], *, inner: bool) -> None:
        self.own, self.inner = own, inner
        self.amounts = torch.tensor(amounts).view(-1, 1, 1, 1)  # (N, heads, patches, channels)

    def __call__(
        self,
        attn: Any,
        hidden: Tensor,
        encoder_hidden_states: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        words = encoder_hidden_states
        out: Tensor = self.own(attn, hidden, words, *args, **kwargs)
        context = hidden if words is None else words
        parts = (
            part(x).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for part, x in ((attn.to_q, hidden), (attn.to_k, context), (attn.to_v, context))
        )
        rows = len(self.amounts) + 2
        made = []
        for q, k, v, plain in zip(*(x.split(rows) for x in (*parts, out)), strict=True):
            mixed = self._mixed(q[2:], k, v, attn.scale).transpose(1, 2).flatten(2)
            made += [plain[:2], attn.to_out[1](attn.to_out[0](mixed))]
        return torch.cat(made)

    def _mixed(self, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """What frames `(N, heads, patches, d)` get from keys and values `(N + 2, heads, n, d)`."""

        def got(keys: Tensor, values: Tensor) -> Tensor:
            fused_k = torch.cat([keys.expand_as(k[2:]), k[2:]], 2)
            fused_v = torch.cat([values.expand_as(v[2:]), v[2:]], 2)
            return F.scaled_dot_product_attention(q, fused_k, fused_v, scale=scale)

        t = self.amounts.to(q)
        if self.inner:
            return got(torch.lerp(k[:1], k[1:2], t), torch.lerp(v[:1], v[1:2], t))
        return torch.lerp(got(k[:1], v[:1]), got(k[1:2], v[1:2]), t)
