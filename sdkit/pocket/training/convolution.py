"""Convolutions that learn faster on processors: the gradient of the weights as one matrix product.

oneDNN's own kernel for it takes up to ten times as long as the forward pass where pictures are 4×4 or 8×8, which is
where most of the UNet's weights sit; unfolding the pixels first and multiplying takes twice as long as that pass.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["quicken"]

_SMALL = 8  # pixels a side up to which unfolding pays
_PLAIN = {
    "kernel_size": (3, 3),
    "stride": (1, 1),
    "padding": (1, 1),
    "dilation": (1, 1),
    "groups": 1,
    "padding_mode": "zeros",
}


class _Small(torch.autograd.Function):
    """A 3×3 convolution with stride and padding 1; `x` `(B, I, H, W)`, `weight` `(O, I, 3, 3)`, `bias` `(O,)`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        back = torch.ops.aten.convolution_backward(
            grad, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, False, False]
        )[0]
        height, width = x.shape[2:]
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        around = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
        pixels = torch.cat(around, -1).flatten(0, 2)  # (B·H·W, 9·I)
        rows = grad.permute(0, 2, 3, 1).flatten(0, 2)  # (B·H·W, O)
        turned = (rows.T @ pixels).unflatten(1, (3, 3, -1)).permute(0, 3, 1, 2)
        return back, turned, rows.sum(0)


class _Convolution(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        """`nn.Conv2d`, with `_Small`'s gradient where the picture is small."""
        if x.shape[-1] > _SMALL or self.bias is None or not self.weight.requires_grad:
            return super().forward(x)
        device, dtype = x.device.type, x.dtype
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            y: Tensor = _Small.apply(x.to(dtype), self.weight.to(dtype), self.bias.to(dtype))
        return y


def quicken(model: nn.Module) -> None:
    """Let the plain 3×3 convolutions of `model` use the faster gradient; weights and results stay what they are."""
    for module in model.modules():
        if type(module) is nn.Conv2d and all(getattr(module, k) == v for k, v in _PLAIN.items()):
            module.__class__ = _Convolution
