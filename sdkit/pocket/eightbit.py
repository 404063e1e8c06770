"""Differences of weights in eight bits: small ones, such as a student's from its teacher, lose nothing that shows."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["packed", "unpacked"]

_SCALE = ".scale"


def packed(steps: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Differences by name as eight bits a weight, and a scale for each of their rows."""
    out = {}
    for name, step in steps.items():
        largest = step.abs().flatten(1).amax(1) if step.ndim > 1 else step.abs().amax().reshape(1)
        scale = (largest / 127).clamp_min(1e-12)
        out[name] = (
            (step / scale.reshape(-1, *(1,) * (step.ndim - 1))).round().to(torch.int8).contiguous()
        )  # networks may lie channels last
        out[name + _SCALE] = scale
    return out


def unpacked(kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `packed` was given, in single precision, to within half a 127th of the largest value of its row."""
    return {
        name: kept[name].float() * kept[name + _SCALE].reshape(-1, *(1,) * (kept[name].ndim - 1))
        for name in kept
        if not name.endswith(_SCALE)
    }
