"""Record what happens inside a run: the probe behind ``generate(..., trace=True)``.

The one decision: **the latents are taken where the solver takes them**, at ``scheduler.step``, together with the
prediction that it is handed; so the trace is right for every pipeline, solver and prediction type without knowing their
loops. Only copies in float16 are kept, on the CPU, and the run computes with its own tensors: the picture stays the same.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from sdkit.pipelines.families import Family, family_of
from sdkit.pipelines.latents import channels_of, scale_of
from sdkit.pipelines.previews import unpacked
from sdkit.settings import SOLVERS, Settings

from .predictions import clean, kind_of, level
from .probing import around
from .trace import Trace, parts

__all__ = ["Recorder", "record_trace", "trace_cost", "warn_of_cost"]

_MUCH = 2**30  # bytes: a gibibyte beside a model is worth a warning


class Recorder:
    """What `record_trace` gives: the traces of the latest run.

    Parameters
    ----------
    pipe
        The pipeline that is watched.
    keep
        Names out of `sdkit.traces.trace.PARTS`.
    settings
        Of the pictures to come, if they are known. Without them Flux's latents stay packed, for want of a size.
    """

    def __init__(self, pipe: Any, keep: tuple[str, ...], settings: Sequence[Settings] = ()) -> None:
        self.pipe, self.keep, self.settings = pipe, keep, settings
        self._schedule: Any = None
        self._said: list[torch.Tensor] = []  # by the network since the last step
        self._start("")

    def _start(self, kind: str) -> None:
        self._kind = kind
        self._levels: list[tuple[float, float, float]] = []  # timestep, alpha, sigma
        self._kept: dict[str, list[torch.Tensor]] = {
            name: [] for name in self.keep
        }  # each (B, C, h, w)
        self._final: torch.Tensor | None = None

    @property
    def traces(self) -> list[Trace]:
        """One trace for each picture of the latest run; none before its first step."""
        if self._final is None:
            return []
        timesteps, alphas, sigmas = np.array(self._levels, dtype=np.float64).T
        end = {"latents": [self._half(self._final)]} if "latents" in self.keep else {}
        stacked = {
            name: torch.stack(steps + end.get(name, []))
            for name, steps in self._kept.items()
            if steps
        }
        count = len(self._final)
        settings = list(self.settings) if len(self.settings) == count else [None] * count
        family = family_of(self.pipe)
        return [
            Trace(
                self._kind,
                timesteps,
                alphas,
                sigmas,
                settings=settings[i],
                beyond=float(family.extrapolates),
                rescales=family.rescales,
                **self._picture(stacked, i),
            )
            for i in range(count)
        ]

    def _picture(self, stacked: dict[str, torch.Tensor], i: int) -> dict[str, Any]:
        """The arrays of one picture, apart from those of its neighbours, so that they can be forgotten alone."""
        arrays = {
            name: np.ascontiguousarray(tensor[:, i].numpy()) for name, tensor in stacked.items()
        }
        if (
            "unconditional" in self.keep
            and "unconditional" not in arrays
            and {"conditional", "guided"} <= arrays.keys()
        ):
            arrays["conditional"] = arrays["guided"]  # no guidance: one prediction under two names
        return arrays

    def network(self, own: Any, *args: Any, **kwargs: Any) -> Any:
        """Listen to what the network says."""
        output = own(*args, **kwargs)
        said = output[0]
        self._said.append(torch.stack(list(said)) if isinstance(said, (list, tuple)) else said)
        return output

    def step(self, scheduler: Any, own: Any, *args: Any, **kwargs: Any) -> Any:
        """Take down one step, then let the scheduler make it."""
        given = inspect.signature(own).bind(*args, **kwargs).arguments
        whole, timestep, x = (given[name] for name in ("model_output", "timestep", "sample"))
        said = (
            whole if whole.shape == x.shape else _like(whole, x)
        )  # DeepFloyd's solver is handed a variance beside it
        prediction = whole if said is None else said
        if (
            scheduler.timesteps is not self._schedule
        ):  # set_timesteps made a new tensor: a new run begins
            self._schedule = scheduler.timesteps
            self._start(kind_of(scheduler))
        alpha, sigma = level(scheduler, _moment(timestep))
        self._levels.append((float(_moment(timestep)), alpha, sigma))
        unconditional, conditional = _halves(self._said, prediction, family_of(self.pipe))
        found: dict[str, torch.Tensor | None] = {
            "latents": x,
            "unconditional": unconditional,
            "conditional": conditional,
            "guided": prediction,
        }
        if "x0" in self.keep:
            found["x0"] = clean(self._kind, prediction.float(), x.float(), alpha, sigma)
        for name in self.keep:
            tensor = found[name]
            if tensor is not None:
                self._kept[name].append(self._half(tensor))
        self._said = []
        output = own(*args, **kwargs)
        self._final = output[0]
        return output

    def _half(self, tensor: torch.Tensor) -> torch.Tensor:
        spatial = unpacked(self.pipe, tensor, self.settings[0]) if self.settings else tensor
        return spatial.detach().to("cpu", torch.float16, copy=True)


@contextmanager
def record_trace(
    pipe: Any, keep: bool | str | Iterable[str] = True, *, settings: Sequence[Settings] = ()
) -> Iterator[Recorder]:
    """Record every run of a pipeline inside the block, your own ``pipe(...)`` calls too.

    Parameters
    ----------
    pipe
        A diffusers pipeline.
    keep
        Names out of `sdkit.traces.trace.PARTS`, or True for all.
    settings
        The settings of the pictures to come, if they are known; they go into the traces, and what the traces will
        keep is told on the progress bar.

    Yields
    ------
    Recorder
        Its ``traces`` are those of the latest run, one for each picture.

    Raises
    ------
    InvalidSettings
        If `keep` names something that a trace cannot keep.

    Examples
    --------
    >>> with sdkit.record_trace(pipe) as recorder:
    ...     picture = pipe("a cat", num_inference_steps=4).images[0]
    >>> len(recorder.traces[0])
    4
    """
    recorder = Recorder(pipe, parts(keep), settings)
    bar = dict(getattr(pipe, "_progress_bar_config", None) or {})
    if settings:
        cost = trace_cost(pipe, settings, keep)
        pipe.set_progress_bar_config(**{**bar, "desc": f"the trace keeps {cost / 2**20:.1f} MiB"})
    try:
        with around(pipe, recorder.network, recorder.step):
            yield recorder
    finally:
        pipe.set_progress_bar_config(**bar)


def trace_cost(
    pipe: Any, settings: Settings | Sequence[Settings], keep: bool | str | Iterable[str] = True
) -> int:
    """Bytes that traces of these pictures will keep, before anything runs.

    Parameters
    ----------
    pipe
        A diffusers pipeline.
    settings
        Complete settings (with steps, width and height) of one picture or several.
    keep
        Names out of `sdkit.traces.trace.PARTS`, or True for all.

    Returns
    -------
    int
        ``2 · latent values · steps`` for each name kept, and one array more for the final latents.

    Examples
    --------
    An SDXL picture has 128·128·4 latent values, 128 KiB in float16: all five parts of 50 steps are 31 MiB.

    >>> settings = sdkit.generate(pipe, "a cat", steps=4).settings
    >>> sdkit.trace_cost(pipe, settings) < 2**20
    True
    """
    names = parts(keep)
    cost = 0
    for s in [settings] if isinstance(settings, Settings) else settings:
        values = channels_of(pipe) * (s.height or 0) * (s.width or 0) // scale_of(pipe) ** 2
        steps = (s.steps or 0) if s.task == "text-to-image" else int((s.steps or 0) * s.strength)
        if s.scheduler is not None:
            steps = SOLVERS[s.scheduler].calls * steps + SOLVERS[s.scheduler].first
        arrays = len(names)
        # nothing unconditional, and the conditional prediction is the guided one
        if (s.guidance_scale or 0) <= 1 or family_of(pipe).embedded:
            arrays -= ("unconditional" in names) + (
                {"unconditional", "conditional", "guided"} <= set(names)
            )
        cost += 2 * values * (arrays * steps + ("latents" in names))
    return cost


def warn_of_cost(pipe: Any, settings: Sequence[Settings], keep: tuple[str, ...]) -> None:
    """Say before a run that its traces will fill the memory."""
    cost = trace_cost(pipe, settings, keep) if keep else 0
    if cost > _MUCH:
        warnings.warn(
            f"These traces will keep {cost / 2**30:.1f} GiB of memory; "
            f"trace='x0' keeps {trace_cost(pipe, settings, 'x0') / 2**30:.1f} GiB.",
            stacklevel=3,
        )


def _halves(
    said: list[torch.Tensor], prediction: torch.Tensor, family: Family
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """What the network said without and with the words: from one doubled batch, or from two calls.

    Most pipelines put the unconditional half of a doubled batch first, and where they call twice, the words come first.
    What the network says beside the prediction (a variance, or other tokens) is left out.
    """
    count = len(prediction)
    like = [_like(some, prediction, last=family.trails) for some in said]
    if any(some is None for some in like):
        return None, None
    heard = [-some if family.negates else some for some in like if some is not None]
    if len(heard) == 1 and len(heard[0]) == 2 * count:
        first, second = heard[0][:count], heard[0][count:]
        return (second, first) if family.conditional_first else (first, second)
    if len(heard) == 2 and len(heard[0]) == len(heard[1]) == count:
        return heard[1], heard[0]
    return None, heard[0] if len(heard) == 1 and len(heard[0]) == count else None


def _moment(timestep: Any) -> Any:
    """One timestep for all pictures of a batch."""
    return (
        timestep.flatten()[0] if isinstance(timestep, torch.Tensor) and timestep.ndim else timestep
    )


def _like(
    said: torch.Tensor, prediction: torch.Tensor, *, last: bool = False
) -> torch.Tensor | None:
    """What the network said in the shape of one prediction, whatever the number of pictures; None if it has another.

    Where it said more, the first of it is taken, or of its tokens the last.
    """
    if said.ndim == prediction.ndim + 1:  # films of one frame
        said = said.squeeze(2)
    if said.ndim != prediction.ndim or any(
        a < b for a, b in zip(said.shape[1:], prediction.shape[1:], strict=True)
    ):
        return None
    if last:
        return said[:, -prediction.shape[1] :]
    return said[(slice(None), *(slice(n) for n in prediction.shape[1:]))]
