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

__all__ = ["condition", "condition_of"]

_SAMPLED: Final = 32  # values of a tensor
_SWITCHES: Final = frozenset(
    (
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
)
"""Attributes of modules that decide pictures and are no tensors: those of PEFT's adapters, FreeU and IP-Adapter."""

_numbers: WeakIdKeyDictionary = (
    WeakIdKeyDictionary()
)  # unlike ``id()``, never given to a later tensor
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
    state: list[Any] = [
        type(scheduler).__name__,
        repr(sorted(scheduler.config.items(), key=lambda item: item[0])),
    ]
    samples: dict[torch.device, list[torch.Tensor]] = {}
    for name, part in pipe.components.items():
        state.append(name)
        if isinstance(part, nn.Module):
            for module in part.modules():
                state += _look(module, samples)
        elif "tokenizer" in name and part is not None:
            state.append(len(part))  # grows with textual inversion
    return hash((*state, *_read(samples)))


def condition_of(network: nn.Module) -> int:
    """The same of one network, and nothing but its weights and adapters."""
    samples: dict[torch.device, list[torch.Tensor]] = {}
    state = [seen for module in network.modules() for seen in _look(module, samples)]
    return hash((*state, *_read(samples)))


def _read(samples: dict[torch.device, list[torch.Tensor]]) -> list[bytes]:
    """The values of the samples; each device is waited for once."""
    return [torch.cat(some).cpu().numpy().tobytes() for some in samples.values()]


def _look(module: nn.Module, samples: dict[torch.device, list[torch.Tensor]]) -> Iterator[Any]:
    """What one module tells, without those inside it; some values of its tensors are added to the samples."""
    held = vars(module)
    for parameter in held["_parameters"].values():
        if parameter is not None:
            yield _number(parameter)
            yield 0 if parameter.is_inference() else parameter._version
    # buffers are other tensors after each way to another device, so only what they hold is looked at
    for tensor in chain(held["_parameters"].values(), held["_buffers"].values()):
        if tensor is not None and tensor.device.type != "meta" and (size := tensor.numel()):
            flat = tensor.detach().reshape(-1)
            samples.setdefault(tensor.device, []).append(flat[:: max(1, size // _SAMPLED)].float())
    for name in sorted(_SWITCHES & held.keys()):
        if isinstance(held[name], (int, float, str, bool, list, tuple, dict)):
            yield f"{name}={held[name]!r}"


def _number(tensor: torch.Tensor) -> int:
    number = _numbers.get(tensor)
    if number is None:
        number = _numbers[tensor] = next(_next)
    return int(number)
