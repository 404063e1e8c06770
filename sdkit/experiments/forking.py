"""Go back to a step of a recorded run, change something, and continue from there.

The one decision: **the steps before are replayed, not computed**: the run goes through the pipeline as always, but the
network is answered out of the trace until the step of the fork. So a solver that looks back (DPM++, UniPC, LMS) finds its
history, and twenty forks cost only what lies behind the fork.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sdkit.errors import InvalidSettings
from sdkit.generation import generate
from sdkit.pipelines.calls import inputs_of, steered
from sdkit.pipelines.families import denoiser_of, family_of
from sdkit.pipelines.latents import folded
from sdkit.result import Result
from sdkit.traces.probing import around
from sdkit.traces.trace import PARTS, Trace

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

__all__ = ["fork"]

_FREE = frozenset(
    {"prompt", "negative_prompt", "guidance_scale", "true_cfg_scale", "seed"}
)  # what may change in the middle of a run


def fork(
    pipe: DiffusionPipeline, trace: Trace, step: int, *, progress: bool = True, **changes: Any
) -> Result:
    """Continue a recorded run from one of its steps with other words, another guidance or another seed.

    Parameters
    ----------
    pipe
        The pipeline that made the trace.
    trace
        From ``generate(..., trace=True)``; at least `latents`, `x0` and `guided` must have been kept.
    step
        How many steps to keep, 1 to ``len(trace) - 1``.
    progress
        Show a progress bar.
    **changes
        ``prompt``, ``negative_prompt``, ``guidance_scale``, ``true_cfg_scale`` or ``seed``. A new seed draws new noise
        around what the run was aiming at: ``latents = α·x0 + σ·eps(seed)`` with the x0 of the step before.

    Returns
    -------
    Result
        One picture. Its `trace` holds the replayed steps and the new ones, and knows its parent. Its settings alone do
        not make it again, which its notes say.

    Raises
    ------
    InvalidSettings
        For a step outside the trace, a field that cannot change in the middle, or a trace that lacks what is needed.

    Notes
    -----
    Traces keep 11 bits of precision, so a fork that changes nothing ends within about 1e-2 of the run's latents, not on
    the bit.

    Examples
    --------
    >>> trace = sdkit.generate(pipe, "a cat on a purple background", steps=8, trace=True).trace
    >>> other = sdkit.fork(pipe, trace, 3, prompt="a dog on a purple background")
    >>> other.settings.prompt, other.trace.parent is trace
    ('a dog on a purple background', True)
    """
    settings = _check(trace, step, changes)
    begin = settings.replace(**{k: v for k, v in changes.items() if k != "seed"})
    arrive = _arrive(trace, step, changes.get("seed"))
    replay = _Replay(pipe, trace, step)
    with around(pipe, replay.network, replay.step), steered(pipe, arrive):
        made = generate(pipe, begin, **trace.guides.asked(), trace=True, progress=progress)
    assert made.trace is not None  # noqa: S101 - asked for in the line above
    told = begin.replace(**changes)
    note = f"Continued from step {step} of another run: these settings alone do not make this picture again."
    return Result(
        made.images,
        [told],
        made.latents,
        made.timings,
        notes=[*made.notes, note],
        flagged=[made.flagged],
        guides=trace.guides,
        traces=[_joined(trace, made.trace, step, told)],
    )


def _check(trace: Trace, step: int, changes: dict[str, Any]) -> Any:
    settings = trace.settings
    if settings is None or any(
        getattr(trace, name) is None for name in ("latents", "x0", "guided")
    ):
        raise InvalidSettings(
            "This trace cannot be continued; make it with generate(..., trace=True)."
        )
    if settings.task != "text-to-image":
        raise InvalidSettings(
            f"Only text-to-image runs can be continued, and this one is {settings.task}."
        )
    if {"control": settings.control, "reference": settings.reference} != trace.guides.sums():
        raise InvalidSettings(
            "This run was led by a control or reference picture, which its trace does not hold, so it cannot be continued; make it anew."
        )
    if not 1 <= step < len(trace):
        raise InvalidSettings(
            f"step is {step}; this trace can be continued from step 1 to {len(trace) - 1}."
        )
    if fixed := sorted(changes.keys() - _FREE):
        raise InvalidSettings(
            f"{fixed[0]} cannot change in the middle of a run; change {', '.join(sorted(_FREE))}."
        )
    return settings


class _Answer(tuple[torch.Tensor]):
    """What a network returns where it was not told to return a plain tuple: most pipelines count, Kandinsky 5 asks by name."""

    __slots__ = ()

    @property
    def sample(self) -> torch.Tensor:
        return self[0]


class _Replay:
    """A stand-in for the network that answers out of the trace for some steps, and then lets it speak for itself."""

    def __init__(self, pipe: Any, trace: Trace, step: int) -> None:
        assert trace.guided is not None  # noqa: S101 - _check has seen it
        self.pipe, self.answers, self.until, self.done = pipe, trace.guided, step, 0

    def network(self, own: Any, *args: Any, **kwargs: Any) -> Any:
        """Answer with what guidance made of both predictions, for both: so guidance leaves it as it is."""
        if self.done >= self.until:
            return own(*args, **kwargs)
        if self.done == 0 and family_of(self.pipe).caches:
            own(*args, **kwargs)
        sample, _ = inputs_of(args, kwargs)
        answer = folded(torch.from_numpy(self.answers[self.done])[None], sample)
        if family_of(self.pipe).negates:
            answer = -answer
        said = getattr(denoiser_of(self.pipe).config, "out_channels", None)
        if (
            answer.ndim == 4 and said == 2 * answer.shape[1]
        ):  # a variance beside it, which the pipeline throws away
            answer = torch.cat([answer, torch.zeros_like(answer)], 1)
        answer = answer.expand(len(sample), *answer.shape[1:])
        listed = bool(args) and isinstance(
            args[0], (list, tuple)
        )  # Z-Image takes and gives lists of single frames
        if listed:
            return (list(answer.unsqueeze(2)),)
        return (answer,) if kwargs.get("return_dict") is False else _Answer((answer,))

    def step(self, _scheduler: Any, own: Any, *args: Any, **kwargs: Any) -> Any:
        """Count the steps: a network may be asked once or twice in each."""
        self.done += 1
        return own(*args, **kwargs)


def _arrive(
    trace: Trace, step: int, seed: int | None
) -> Callable[[int, torch.Tensor], torch.Tensor]:
    """After the last replayed step, put the run where it really was, free of the rounding of the replay."""

    def steer(done: int, latents: torch.Tensor) -> torch.Tensor:
        if done != step - 1:
            return latents
        return folded(torch.from_numpy(_latents(trace, step, seed))[None], latents)

    return steer


def _latents(trace: Trace, step: int, seed: int | None) -> np.ndarray:
    """The latents `(C, h, w)` that the new branch begins with."""
    assert trace.latents is not None  # noqa: S101 - _check has seen them
    assert trace.x0 is not None  # noqa: S101
    if seed is None:
        return trace.latents[step]
    eps = torch.randn(trace.x0.shape[1:], generator=torch.Generator().manual_seed(seed)).numpy()
    fresh: np.ndarray = (
        trace.alphas[step] * trace.x0[step - 1].astype(np.float32) + trace.sigmas[step] * eps
    )
    return fresh.astype(np.float32)


def _joined(parent: Trace, child: Trace, step: int, settings: Any) -> Trace:
    """The child's trace with the parent's predictions before the fork, where the network was not asked."""
    arrays: dict[str, Any] = {}
    for name in PARTS[2:]:
        old, new = getattr(parent, name), getattr(child, name)
        arrays[name] = (
            None if old is None or new is None else np.concatenate([old[:step], new[step:]])
        )
    return replace(child, **arrays, settings=settings, parent=parent, forked_at=step)
