"""Several processor cores that learn side by side: each from batches of its own, and now and then they meet.

Where they meet, every core's weights become the mean of all (local SGD: Stich, arXiv:1805.09767). Cores that share every
step wait for each other and for the memory between them; meeting every eighth step they learn twice as fast as one.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

__all__ = ["ALONE", "Team", "together"]


@dataclass(frozen=True)
class Team:
    """One of `cores` processes; number 0 keeps the books."""

    number: int = 0
    cores: int = 1
    parent: int = 0  # its process, which every member was started by

    @torch.no_grad()
    def meet(self, weights: Iterable[Tensor]) -> None:
        """Set `weights`, the same in every process, to their mean over all processes, in place."""
        if self.cores == 1:
            return
        if os.getppid() != self.parent:  # a kill of the command must not leave its team at work
            raise SystemExit("The process that started this team is gone.")
        weights = list(weights)
        flat = torch.cat([weight.flatten() for weight in weights])
        dist.all_reduce(flat)
        parts = (flat / self.cores).split([weight.numel() for weight in weights])
        for weight, part in zip(weights, parts, strict=True):
            weight.copy_(part.view_as(weight))


ALONE = Team()


def together(work: Callable[..., Any], cores: int) -> None:
    """Call ``work(team=...)`` in `cores` processes on this machine, each with one thread; what it returns is lost."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(_join, (work, cores, port, os.getpid()), nprocs=cores)


def _join(number: int, work: Callable[..., Any], cores: int, port: int, parent: int) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # also for the drawing of scenes
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=number, world_size=cores)
    try:
        work(team=Team(number, cores, parent))
    finally:
        dist.destroy_process_group()
