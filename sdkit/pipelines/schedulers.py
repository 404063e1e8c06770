"""Short names for diffusers' schedulers, and how to swap one in for a single run.

The design decision: a scheduler is built from the configuration of the one that the pipeline has, so that the noise
schedule and the prediction type of the checkpoint stay; only the solver changes, and only inside `scheduler_of`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch

from sdkit.errors import InvalidSettings
from sdkit.settings import SCHEDULERS, SOLVERS

from .families import is_flow

__all__ = [
    "make_scheduler",
    "own_scheduler",
    "scheduler_name",
    "scheduler_of",
    "suiting",
    "swapped_in",
]

# of each pipeline that runs with another scheduler: that one, and its own
_swapped: WeakKeyDictionary[Any, tuple[Any, Any]] = WeakKeyDictionary()

# how steps are spaced unless a solver's name says otherwise
_PLAIN: dict[str, Any] = dict.fromkeys(
    ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas"), False
)
_SMALLEST_ALPHA_BAR = (
    2e-5  # stands in for zero where a solver divides by it: a signal of 0.4 %, which nobody sees
)


def _without_zero(config: dict[str, Any]) -> list[float]:
    """Betas of a zero-terminal-SNR schedule that end just above zero signal, for solvers that cannot start at zero.

    √ᾱ is shifted and stretched linearly as in Lin et al. (arXiv:2305.08891, algorithm 1), with a small end value.
    """
    import diffusers

    plain = {**config, "rescale_betas_zero_snr": False}
    root = diffusers.DDIMScheduler.from_config(plain).alphas_cumprod.double().sqrt()
    end = _SMALLEST_ALPHA_BAR**0.5
    root = end + (root - root[-1]) * (root[0] - end) / (root[0] - root[-1])
    bar = root.square()
    previous = torch.cat([torch.ones(1, dtype=bar.dtype), bar[:-1]])
    return (1 - bar / previous).tolist()


def suiting(pipe: Any) -> list[str]:
    """Short names of the schedulers that can run a pipeline's model: none of these solvers can run flow matching."""
    return [] if is_flow(pipe.scheduler) else list(SOLVERS)


def make_scheduler(pipe: Any, name: str) -> Any:
    """A new scheduler for `pipe` by short name, built from the configuration of the one it has.

    Raises
    ------
    InvalidSettings
        If the name is unknown, or the pipeline is a flow-matching one, whose models those solvers cannot run.
    """
    import diffusers

    if name not in SOLVERS:
        raise InvalidSettings(
            f"The scheduler {name!r} is not known; choose one of {', '.join(SCHEDULERS)}."
        )
    config = dict(pipe.scheduler.config)
    if name not in suiting(pipe):
        raise InvalidSettings(
            f"The scheduler {name!r} cannot run {type(pipe).__name__}, which is a flow-matching model; "
            "leave the scheduler unset to use the model's own."
        )
    changes = dict(SOLVERS[name].changes)
    kind = getattr(diffusers, SOLVERS[name].kind)
    accepted = inspect.signature(kind.__init__).parameters
    if config.get("rescale_betas_zero_snr") and "rescale_betas_zero_snr" not in accepted:
        changes = {**changes, "trained_betas": _without_zero(config)}
    elif changes.get("use_karras_sigmas") and config.get("rescale_betas_zero_snr"):
        # Karras spacing from an infinite first sigma would spend every step on pure noise
        changes = {
            **changes,
            "rescale_betas_zero_snr": False,
            "trained_betas": _without_zero(config),
        }
    return kind.from_config(config, **changes)


def scheduler_name(pipe: Any) -> str | None:
    """Short name of the scheduler that a pipeline has, or None if it has no short name."""
    config, found = pipe.scheduler.config, type(pipe.scheduler).__name__
    for name, solver in SOLVERS.items():
        told = _PLAIN | dict(
            solver.changes
        )  # one whose configuration says something else is another solver
        if solver.kind == found and all((config.get(k) or False) == told[k] for k in told):
            return name
    return None


@contextmanager
def scheduler_of(pipe: Any, name: str | None) -> Iterator[None]:
    """Run a pipeline with another scheduler inside the block; the pipeline's own object comes back afterwards.

    With ``None``, or the name of the scheduler that the pipeline has, nothing is swapped.
    """
    if name is None or name == scheduler_name(pipe):
        yield
        return
    with swapped_in(pipe, make_scheduler(pipe, name)):
        yield


@contextmanager
def swapped_in(pipe: Any, other: Any) -> Iterator[None]:
    """Run a pipeline with this scheduler object inside the block; its own comes back afterwards."""
    own = pipe.scheduler
    _swapped[pipe] = (
        other,
        own,
    )  # before the swap: whoever asks for the pipeline's own in between gets it
    pipe.scheduler = other
    try:
        yield
    finally:
        if (
            pipe.scheduler is other
        ):  # else somebody has given the pipeline a new one meanwhile, which stays
            pipe.scheduler = own
        del _swapped[pipe]


def own_scheduler(pipe: Any) -> Any:
    """Return the scheduler that a pipeline has outside of `scheduler_of`."""
    other, own = _swapped.get(pipe, (None, None))
    now = pipe.scheduler
    return own if now is other else now
