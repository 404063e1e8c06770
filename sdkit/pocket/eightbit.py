"""Weights in eight bits: each row of a matrix as whole numbers from -127 to 127, and one scale."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["packed", "unpacked"]

_SCALE = ".scale"


def packed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by name, matrices and convolutions as eight bits a weight and a scale for each row; the rest in single precision."""
    out = {}
    for name, value in weights.items():
        weight = value.detach().float().cpu()
        if weight.ndim < 2:
            out[name] = weight.clone()
            continue
        scale = (weight.abs().flatten(1).amax(1) / 127).clamp_min(1e-12)
        levels = (weight / _beside(scale, weight)).round().to(torch.int8)
        out[name] = levels.contiguous()  # networks may lie channels last
        out[name + _SCALE] = scale
    return out


def unpacked(kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `packed` was given, in single precision, to within half a 127th of the largest value of its row."""
    return {
        name: value.float() * _beside(kept[name + _SCALE], value) if value.ndim > 1 else value
        for name, value in kept.items()
        if not name.endswith(_SCALE)
    }


def _beside(scale: Tensor, rows: Tensor) -> Tensor:
    return scale.reshape(-1, *(1,) * (rows.ndim - 1))
