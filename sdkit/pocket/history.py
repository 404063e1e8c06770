"""How Pocket learned: weights at some moments of its training, each kept as its difference from the one before.

Differences are small and smooth, so eight bits a weight do; each is taken from what the files before it give back, not
from the true weights, so that rounding never adds up. A run writes them, and anybody can read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

__all__ = ["moments", "moments_of", "packed", "restore", "unpacked", "write"]

_SCALE = ".scale"


def moments(total: int, count: int) -> tuple[int, ...]:
    """After how many of `total` scenes to keep the weights: close together at first, when most is learned."""
    return tuple(sorted({max(1, round(total * (n / count) ** 2)) for n in range(1, count + 1)}))


def moments_of(folder: Path) -> tuple[int, ...]:
    """The moments that a folder holds, as numbers of scenes seen, first to last."""
    return tuple(sorted(int(f.stem) for f in folder.glob("*.safetensors") if f.stem.isdigit()))


def restore(folder: Path, seen: int) -> dict[str, Tensor]:
    """The weights, by name, at the last moment that is not after `seen` scenes; empty where there is none."""
    total: dict[str, Tensor] = {}
    for moment in moments_of(folder):
        if moment > seen:
            break
        for key, step in unpacked(load_file(folder / f"{moment:09d}.safetensors")).items():
            total[key] = total[key] + step if key in total else step
    return total


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


def write(folder: Path, seen: int, weights: Mapping[str, Tensor]) -> Path:
    """Keep floating-point `weights` as the moment `seen`, beside first and then moved into place; returns the file."""
    before, steps = restore(folder, seen - 1), {}
    for name, now in weights.items():
        if now.is_floating_point():
            value = torch.atleast_1d(now.detach().float().cpu())
            steps[name] = value - before[name] if name in before else value
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{seen:09d}.safetensors"
    save_file(packed(steps), path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)
    return path
