"""Which call of a pipeline is running: said by whoever makes the call, read by probes inside it.

A probe on a UNet sees tensors, not prompts, and one UNet may be shared by several pipelines (text-to-image,
image-to-image). The design decision: the call is announced under the network that does the work.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch

from .families import denoiser_of

__all__ = [
    "Call",
    "Steer",
    "announce",
    "announced",
    "inputs_of",
    "no_note_on_torchvision",
    "replaced",
    "steer",
    "steered",
]

Steer = Callable[[int, Any], Any]


@dataclass(frozen=True, eq=False)
class Call:
    """One ``pipe(...)``: the pipeline that runs and the prompt of each picture."""

    pipe: Any
    prompts: tuple[str, ...]
    size: tuple[int, int] | None = None  # height and width of the pictures in pixels

    @property
    def guided(self) -> bool:
        """Whether the batch holds an unconditional half before the conditional one."""
        return bool(getattr(self.pipe, "do_classifier_free_guidance", False))


_SAMPLES = ("sample", "hidden_states", "x")
_TIMES = ("timestep", "t", "timesteps")
_calls: WeakKeyDictionary[Any, Call] = WeakKeyDictionary()


def inputs_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, float]:
    """What a pipeline hands to its UNet or transformer: the noisy latents, and the timestep as a number."""
    given = next((kwargs[name] for name in _SAMPLES if name in kwargs), None)
    sample = args[0] if args else given
    if isinstance(sample, (list, tuple)):  # Z-Image and its like take a list of pictures
        sample = torch.stack([part.squeeze(1) if part.ndim == 4 else part for part in sample])
    named = next((kwargs[name] for name in _TIMES if name in kwargs), 0.0)
    timestep = args[1] if len(args) > 1 else named
    return sample, float(timestep.flatten()[0]) if hasattr(timestep, "flatten") else float(timestep)


@contextmanager
def replaced(thing: Any, name: str, value: Any) -> Iterator[None]:
    """Give one object (never its class) an attribute of its own inside the block."""
    missing = object()
    before = vars(thing).get(name, missing)
    setattr(thing, name, value)
    try:
        yield
    finally:
        if before is missing:
            delattr(thing, name)
        else:
            setattr(thing, name, before)


@contextmanager
def announce(
    pipe: Any, prompts: Sequence[str], size: tuple[int, int] | None = None
) -> Iterator[None]:
    """Say inside the block that `pipe` is running on these prompts, one for each picture."""
    denoiser = denoiser_of(pipe)
    before = _calls.get(denoiser)
    _calls[denoiser] = Call(pipe, tuple(prompts), size)
    try:
        yield
    finally:
        if before is None:
            del _calls[denoiser]
        else:
            _calls[denoiser] = before


def announced(denoiser: Any) -> Call | None:
    """The call that is running on this network, if anybody said."""
    return _calls.get(denoiser)


_steering: WeakKeyDictionary[Any, list[Steer]] = WeakKeyDictionary()


@contextmanager
def steered(pipe: Any, steer: Steer) -> Iterator[None]:
    """Let `steer(step, latents)` see, and replace, the latents after every step (from 0) of a run inside the block."""
    functions = _steering.setdefault(denoiser_of(pipe), [])
    functions.append(steer)
    try:
        yield
    finally:
        functions.remove(steer)


def steer(pipe: Any, step: int, latents: Any) -> Any:
    """The latents after everybody who steers this network has had them."""
    for function in tuple(_steering.get(denoiser_of(pipe), ())):
        latents = function(step, latents)
    return latents


@contextmanager
def no_note_on_torchvision() -> Iterator[None]:
    """Import without transformers' note that torchvision is missing: Pocket has no use for it."""

    def other(record: logging.LogRecord) -> bool:
        return "requires torchvision" not in record.getMessage()

    log = logging.getLogger("transformers.utils.import_utils")
    log.addFilter(other)
    try:
        yield
    finally:
        log.removeFilter(other)
