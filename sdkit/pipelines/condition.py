"""What state a pipeline is in: a number that changes whenever the pictures would.

The one decision: **a sample of the weights is read, besides who they are.** Identity and version of a tensor miss what is
written through ``.data`` (fused LoRAs are), and reading all of a large model at every move of a slider would stall the
panel. So some values of every tensor are read, evenly spread: adapters and training change nearly all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias

import torch
from torch import nn

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
_PLAIN: Final = (torch.Tensor, nn.Parameter)

_Samples: TypeAlias = dict[tuple[torch.device, torch.dtype], list[torch.Tensor]]


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
    samples: _Samples = {}
    for name, part in pipe.components.items():
        state.append(name)
        if isinstance(part, nn.Module):
            _look(part.modules(), state, samples)
        elif "tokenizer" in name and part is not None:
            state.append(len(part))  # grows with textual inversion
    return hash((*state, *_read(samples)))


def condition_of(modules: Iterable[nn.Module]) -> int:
    """The same of all modules of one network, and nothing but its weights and adapters."""
    state: list[Any] = []
    samples: _Samples = {}
    _look(modules, state, samples)
    return hash((*state, *_read(samples)))


def _read(samples: _Samples) -> list[bytes]:
    """The values of the samples; each kind of them on each device is waited for once."""
    return [torch.cat(s).cpu().view(torch.uint8).numpy().tobytes() for s in samples.values()]


# Panels read a condition at every move of a slider, so each tensor costs one call of torch.
@torch.no_grad()
def _look(modules: Iterable[nn.Module], state: list[Any], samples: _Samples) -> None:
    """Add what modules tell to the state, and some values of their tensors to the samples."""
    for module in modules:
        held = vars(module)
        for parameter in held["_parameters"].values():
            if parameter is not None:
                # an identity may be given anew, but hardly with the version and the values of the tensor that had it
                state.append(id(parameter))
                state.append(0 if parameter.is_inference() else parameter._version)
                _sample(parameter, samples)
        # buffers are other tensors after each way to another device, so only what they hold is looked at
        for buffer in held["_buffers"].values():
            if buffer is not None:
                _sample(buffer, samples)
        if not _SWITCHES.isdisjoint(held):
            state += _switches(held)


def _sample(tensor: torch.Tensor, samples: _Samples) -> None:
    size = tensor.numel()
    if not size or tensor.device.type == "meta":
        return
    step = max(1, size // _SAMPLED)
    if type(tensor) in _PLAIN and tensor.is_contiguous():
        some = tensor.as_strided((-(-size // step),), (step,))
    else:
        some = tensor.detach().reshape(-1)[::step]
    samples.setdefault((some.device, some.dtype), []).append(some)


def _switches(held: dict[str, Any]) -> Iterator[str]:
    for name in sorted(_SWITCHES & held.keys()):
        if isinstance(held[name], (int, float, str, bool, list, tuple, dict)):
            yield f"{name}={held[name]!r}"
