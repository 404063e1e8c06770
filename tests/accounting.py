"""Count the bytes of all tensors that are alive, at their peak: what an allocator would have to hand out.

It works on the `meta` device too, where tensors have shapes but no data, so that a full-size network is accounted for
in a second and without its memory. What it does not see is what kernels allocate inside (workspaces of cuDNN and
cuBLAS) and what an allocator loses between its blocks.
"""

from __future__ import annotations

import weakref
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Inside the block, `peak` is the largest sum of the storages that were made in it and are alive together."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = function(*args, **(kwargs or {}))
        given = {
            t.untyped_storage()._cdata
            for t in tree_leaves((args, kwargs))
            if isinstance(t, torch.Tensor)
        }
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage(), given)
        self.peak = max(self.peak, self.live)
        return out

    def _count(self, storage: Any, given: set[int]) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known or key in given:  # a view, or written in place
            return
        self._known.add(key)
        self.live += size
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


@contextmanager
def flash_attention():
    """Attention that keeps no matrix of weights, as the kernels of every GPU since 2018 do; on `meta` torch has none."""

    def attend(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        return torch.empty(
            (*query.shape[:-1], value.shape[-1]), dtype=query.dtype, device=query.device
        )

    with mock.patch("torch.nn.functional.scaled_dot_product_attention", attend):
        yield


def peak_of(function: Any, *args: Any, **kwargs: Any) -> int:
    """Bytes alive at the peak of one call, beside its arguments and the network's weights."""
    with torch.no_grad(), LiveBytes() as bytes_alive:
        function(*args, **kwargs)
    return bytes_alive.peak
