"""Several processor cores that learn from one batch: each takes a part of it with a copy of the networks.

The copies share one set of weights and have gradients of their own, which are added before the step, so that a step is
that of the whole batch. Threads suffice, because torch lets go of Python's lock while it computes; two cores with one
thread each do more than one operation that is spread over both.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import torch
from torch import nn

__all__ = ["Team"]


class Team:
    """Copies of `model` that share its weights, one for each of `cores` threads; the first is the model itself."""

    def __init__(self, model: nn.Module, cores: int = 1) -> None:
        self.copies: list[Any] = [model] + [copy.deepcopy(model) for _ in range(cores - 1)]
        for other in self.copies[1:]:
            for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
                theirs.data = ours.data
        if cores > 1:
            torch.set_num_threads(1)
        self._pool = ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,))
        self.map = self._pool.map if cores > 1 else map

    def each(self, learn: Callable[[Any, int, slice], Any], batch: int) -> list[Any]:
        """Call ``learn(copy, worker, share)`` on every core at once, `share` being its part of `batch`; add gradients up."""
        cores = len(self.copies)
        ends = [batch * n // cores for n in range(cores + 1)]
        shares = [slice(a, b) for a, b in pairwise(ends)]
        found = list(self.map(learn, self.copies, range(cores), shares))
        for other in self.copies[1:]:
            for ours, theirs in zip(self.copies[0].parameters(), other.parameters(), strict=True):
                if theirs.grad is not None:
                    ours.grad = theirs.grad if ours.grad is None else ours.grad.add_(theirs.grad)
                    theirs.grad = None
        return found
