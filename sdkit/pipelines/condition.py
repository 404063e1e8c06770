"""What state a pipeline is in: a number that changes whenever the pictures would.

The one decision: **a sample of the weights is read, besides who they are.** Identity and version of a tensor miss what is
written through ``.data`` (fused LoRAs are), and reading all of a large model at every move of a slider would stall the
panel. So some values of every tensor are read, evenly spread: adapters and training change nearly all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, count
from typing import Any, Final

import torch
from torch import nn
from torch.utils.weak import WeakIdKeyDictionary

from .schedulers import own_scheduler

__all__ = ["condition"]

_SAMPLED: Final = 32  # values of a tensor
_SWITCHES: Final = (
    "scaling",
    "_active_adapter",
    "_disable_adapters",
    "merged_adapters",
    "s1",
    "s2",
    "b1",
    "b2",
    "scale",
)
"""Attributes of modules that decide pictures and are no tensors: those of PEFT's adapters, FreeU and IP-Adapter."""

_numbers: WeakIdKeyDictionary = WeakIdKeyDictionary()  # unlike ``id()``, never given to a later tensor
_next = count()


def condition(pipe: Any) -> int:
    """Return a number that changes when weights, adapters, their scales or the scheduler of a pipeline do.

    Parameters
    ----------
    pipe
        A diffusers pipeline; while it runs with another scheduler, its own one counts.

    Notes
    -----
    A change of a few single weights, made through ``tensor.data``, can escape the sample.
    """
    scheduler = own_scheduler(pipe)
    state: list[Any] = [type(scheduler).__name__, repr(sorted(scheduler.config.items(), key=lambda item: item[0]))]
    for name, part in pipe.components.items():
        if isinstance(part, nn.Module):
            # buffers are other tensors after each way to another device, so what they hold must do
            weights = [(_number(p), 0 if p.is_inference() else p._version) for p in part.parameters()]
            state += [name, *weights, *_samples(part), *_switches(part)]
        elif "tokenizer" in name and part is not None:
            state.append(len(part))  # grows with textual inversion
    return hash(tuple(state))


def _number(tensor: torch.Tensor) -> int:
    number = _numbers.get(tensor)
    if number is None:
        number = _numbers[tensor] = next(_next)
    return int(number)


def _samples(part: nn.Module) -> list[bytes]:
    """Some values of every tensor, of each device together: a device is waited for once."""
    found: dict[torch.device, list[torch.Tensor]] = {}
    for tensor in chain(part.parameters(), part.buffers()):
        if tensor.device.type != "meta" and (size := tensor.numel()):
            flat = tensor.detach().reshape(-1)
            found.setdefault(tensor.device, []).append(flat[:: max(1, size // _SAMPLED)].float())
    return [torch.cat(values).cpu().numpy().tobytes() for values in found.values()]


def _switches(part: nn.Module) -> Iterator[str]:
    for module in part.modules():
        held = vars(module)
        yield from (f"{name}={held[name]!r}" for name in _SWITCHES if name in held and _plain(held[name]))


def _plain(value: object) -> bool:
    return isinstance(value, (int, float, str, bool, list, tuple, dict))
