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
from .rows import arrived, rows_between

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
        suppress(Begun),
        _heard(pipe, hear),
        replaced(network, "forward", stop),
        replaced(network, "_compiled_call_impl", None),  # a compiled one would not see it
    ):
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


def between(blend: Blend, ends: Sequence[Any], weights: Sequence[float]) -> Any:
    """What lies between values of one make-up: tensors, or tuples, lists and dictionaries of them.

    Parameters
    ----------
    blend
        Joins numbers.
    ends
        One for each end. Where they differ in length, or in what their masks and zeros leave out, rows come one by one
        (`rows`); a row that only one end has is that end's.
    weights
        Share of each end.

    Returns
    -------
    object
        Of the make-up, types and place of the first end. Whatever is no tensor is the first end's.
    """
    first = ends[0]
    if any(end is None for end in ends):  # a mask that is left out hides nothing
        return None
    if isinstance(first, torch.Tensor):
        return _between(blend, ends, weights)
    if isinstance(first, (tuple, list)) and len({len(end) for end in ends}) == 1:
        inner = [between(blend, some, weights) for some in zip(*ends, strict=True)]
        return inner if isinstance(first, list) else tuple(inner)
    if isinstance(first, dict) and all(end.keys() == first.keys() for end in ends):
        return {key: between(blend, [end[key] for end in ends], weights) for key in first}
    return first


def _between(blend: Blend, ends: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    first = ends[0]
    if all(torch.equal(end, first) for end in ends[1:]):
        return first
    shape = [max(sizes) for sizes in zip(*(end.shape for end in ends), strict=True)]
    alike = [_filled(end, shape) for end in ends]
    if all(not end.is_floating_point() or torch.equal(end, end.round()) for end in ends):
        found = _marks(alike, weights)
    else:
        found = _rows(blend, alike, weights)
    for axis, size in enumerate(shape):
        lengths = torch.tensor([end.shape[axis] for end in ends])
        there = [torch.arange(size) < length for length in lengths]
        found = found.narrow(axis, 0, int(arrived(there, weights).sum()))
    return found.to(first)


def _filled(end: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Fill up with zeros along every axis."""
    filled = end.new_zeros(tuple(shape))
    filled[tuple(slice(size) for size in end.shape)] = end
    return filled


def _marks(ends: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """Masks, lengths and ids, which have nothing between them.

    The marks of a mask ``(B, T)`` come one by one, a length grows with the rows that it counts, and of ids the larger are taken.
    """
    found = reduce(torch.maximum, ends)
    if found.ndim == 2 and not bool((found > 1).any()):
        rows = [arrived([end[b] > 0 for end in ends], weights) for b in range(len(found))]
        return found * torch.stack(rows).to(found)
    if found.ndim == 1:
        counts = [
            arrived([torch.arange(int(top)) < int(end[i]) for end in ends], weights).sum()
            for i, top in enumerate(found)
        ]
        return torch.stack(counts).to(found)
    return found


def _rows(blend: Blend, ends: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """Numbers; a row that is zero in one end is not there."""
    numbers = [end.float() for end in ends]
    if numbers[0].ndim < 2:
        return blend(numbers)
    there = [end.abs().sum(-1).reshape(-1, end.shape[-2]).sum(0) > 0 for end in numbers]
    if not all(bool(t.any()) for t in there):  # zeros as a whole say something else
        return blend(numbers)
    return rows_between(blend, numbers, there, weights)
