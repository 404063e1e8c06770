"""Checkpoints of a training run: written beside, then moved into place, so that a kill never leaves half a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

__all__ = ["Stateful", "load_checkpoint", "save_checkpoint"]


class Stateful(Protocol):
    """A network, or a running average of one: whatever gives its state and takes it back."""

    def state_dict(self) -> Any:
        """Return everything there is to keep."""

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Take back what `state_dict` gave."""


def save_checkpoint(
    path: Path, modules: Mapping[str, Stateful], opts: list[torch.optim.Optimizer], seen: int
) -> None:
    """Write weights, optimizer state and the number of samples seen."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "seen": seen,
        "modules": {k: m.state_dict() for k, m in modules.items()},
        "opts": [o.state_dict() for o in opts],
    }
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def load_checkpoint(
    path: Path, modules: Mapping[str, Stateful], opts: list[torch.optim.Optimizer] | None = None
) -> int:
    """Restore what `save_checkpoint` wrote; returns the number of samples seen, 0 where there is no checkpoint.

    Without optimizers only the weights are taken.
    """
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    for name, module in modules.items():
        module.load_state_dict(state["modules"][name])
    if opts is not None:
        for opt, saved in zip(opts, state["opts"], strict=True):
            opt.load_state_dict(saved)
    return int(state["seen"])
