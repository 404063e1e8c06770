"""What a call of a pipeline begins with, in whatever form: what its own methods make of the words and of the seed.

The one decision: **nothing is known of the form.** A call is begun for each end and stopped where the network is asked for
the first time; what the pipeline's methods for words and for noise returned is kept (tensors, lists of them, masks, pooled
parts, packed noise). Then one call runs in which the same methods return what lies between. So a pipeline that takes no
encodings and no noise from outside can be led between two pictures all the same. Its batch axis is not known either: such
calls make one picture each.

An arc between two noises does not depend on how their numbers are laid out or scaled, so packed noise needs no unpacking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import reduce, wraps
from typing import Any, Final

import torch

from .calls import replaced
from .families import denoiser_of

__all__ = ["Beginning", "Begun", "begins", "begun_with", "between", "kept"]

_WORDS: Final = ("encode_prompt", "_encode_prompt", "_encode_prior_prompt")
_NOISE: Final = ("prepare_latents", "prepare_intermediate_images")

Blend = Callable[[Sequence[torch.Tensor]], torch.Tensor]
"""Makes of one tensor for each end, all of one shape and in float32, the one that lies between."""


@dataclass
class Beginning:
    """What the methods for words and for noise returned, call by call, in their order."""

    words: list[Any] = field(default_factory=list)
    noise: list[Any] = field(default_factory=list)


class Begun(Exception):  # noqa: N818 - no error: a call has come as far as it should
    """The network was asked for the first time."""


def _stages(pipe: Any) -> Iterator[Any]:
    """A pipeline, and the pipelines that it runs one after the other."""
    from diffusers import DiffusionPipeline

    yield pipe
    yield from (stage for stage in vars(pipe).values() if isinstance(stage, DiffusionPipeline))


def _methods(pipe: Any, names: Sequence[str]) -> list[tuple[Any, str]]:
    return [(s, name) for s in _stages(pipe) for name in names if hasattr(type(s), name)]


def begins(pipe: Any) -> tuple[bool, bool]:
    """Whether a pipeline makes its words, and its noise, in methods that can be listened to."""
    return bool(_methods(pipe, _WORDS)), bool(_methods(pipe, _NOISE))


@contextmanager
def _heard(pipe: Any, hear: Callable[[str, Callable[[], Any]], Any]) -> Iterator[None]:
    """Inside the block `hear` answers for the methods: it gets "words" or "noise", and what calls the method itself."""
    inside: list[str] = []

    def answering(kind: str, own: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(own)
        def method(*args: Any, **kwargs: Any) -> Any:
            if inside:  # one such method that another one calls
                return own(*args, **kwargs)
            inside.append(kind)
            try:
                return hear(kind, lambda: own(*args, **kwargs))
            finally:
                inside.pop()

        return method

    with ExitStack() as stack:
        for kind, names in (("words", _WORDS), ("noise", _NOISE)):
            for stage, name in _methods(pipe, names):
                method = answering(kind, getattr(stage, name))
                stack.enter_context(replaced(stage, name, method))
        yield


@contextmanager
def kept(pipe: Any) -> Iterator[Beginning]:
    """Keep what a call inside the block begins with; it ends in `Begun`, which is caught here, before the network runs."""
    found = Beginning()

    def hear(kind: str, own: Callable[[], Any]) -> Any:
        made = own()
        getattr(found, kind).append(made)
        return made

    def stop(*_args: Any, **_kwargs: Any) -> None:
        raise Begun

    network = denoiser_of(pipe)
    with (
        _heard(pipe, hear),
        replaced(network, "forward", stop),
        replaced(network, "_compiled_call_impl", None),  # a compiled one would not see it
    ):
        with suppress(Begun):
            yield found


@contextmanager
def begun_with(pipe: Any, beginning: Beginning | None) -> Iterator[None]:
    """Let a call inside the block begin with this instead of its own; with None nothing is changed."""
    if beginning is None:
        yield
        return
    waiting = {"words": list(beginning.words), "noise": list(beginning.noise)}

    def hear(kind: str, own: Callable[[], Any]) -> Any:
        if kind == "noise" or not waiting[kind]:
            drawn = own()  # so that the generator goes on from where it would
            return waiting[kind].pop(0) if waiting[kind] else drawn
        return waiting[kind].pop(0)

    with _heard(pipe, hear):
        yield


def between(blend: Blend, ends: Sequence[Any]) -> Any:
    """What lies between values of one make-up: tensors, or tuples, lists and dictionaries of them.

    Parameters
    ----------
    blend
        Joins numbers. Masks, ids and lengths have nothing between them: what any end marks is marked.
    ends
        One for each end. Where one is longer than another, the other's last row is repeated.

    Returns
    -------
    object
        Of the make-up, types and place of the first end. Whatever is no tensor is the first end's.
    """
    first = ends[0]
    if any(end is None for end in ends):  # a mask that is left out hides nothing
        return None
    if isinstance(first, torch.Tensor):
        return _between(blend, ends)
    if isinstance(first, (tuple, list)) and len({len(end) for end in ends}) == 1:
        inner = [between(blend, some) for some in zip(*ends, strict=True)]
        return inner if isinstance(first, list) else tuple(inner)
    if isinstance(first, dict) and all(end.keys() == first.keys() for end in ends):
        return {key: between(blend, [end[key] for end in ends]) for key in first}
    return first


def _between(blend: Blend, ends: Sequence[torch.Tensor]) -> torch.Tensor:
    first = ends[0]
    if all(torch.equal(end, first) for end in ends[1:]):
        return first
    marks = all(_whole(end) for end in ends)
    alike = _of_one_shape(ends, repeat=not marks)
    if marks:
        return reduce(torch.maximum, alike)
    return blend([end.float() for end in alike]).to(first)


def _whole(tensor: torch.Tensor) -> bool:
    """Whether there are only whole numbers in it, as in masks, ids and lengths."""
    return not tensor.is_floating_point() or torch.equal(tensor, tensor.round())


def _of_one_shape(ends: Sequence[torch.Tensor], *, repeat: bool) -> list[torch.Tensor]:
    """Fill up along every axis, with the last row or with zeros."""
    shape = [max(sizes) for sizes in zip(*(end.shape for end in ends), strict=True)]
    return [_filled(end, shape, repeat=repeat) for end in ends]


def _filled(end: torch.Tensor, shape: Sequence[int], *, repeat: bool) -> torch.Tensor:
    for axis, size in enumerate(shape):
        if missing := size - end.shape[axis]:
            last = end.narrow(axis, end.shape[axis] - 1, 1)
            last = last if repeat else torch.zeros_like(last)
            end = torch.cat([end, *[last] * missing], axis)
    return end
