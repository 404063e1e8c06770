"""Stand around the network's and the scheduler's calls of a running pipeline, and leave no trace of it.

The one decision: what is wrapped is the *object's* ``forward`` and ``step``, never a class, and the scheduler is found at the
network's first call: by then the run has swapped in the one that it uses. Leaving the block removes both, whatever happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

from sdkit.pipelines.calls import replaced
from sdkit.pipelines.families import denoiser_of

__all__ = ["around"]


@contextmanager
def around(
    pipe: Any, network: Callable[..., Any], step: Callable[..., Any] | None = None
) -> Iterator[None]:
    """Call functions of your own in place of the network and of ``scheduler.step``.

    Parameters
    ----------
    pipe
        A diffusers pipeline. Its image-to-image relatives share network and scheduler with it, so they are seen too.
    network
        Called as ``network(own, *args, **kwargs)``; returns what ``own(*args, **kwargs)`` would.
    step
        Called as ``step(scheduler, own, model_output, timestep, sample, *args, **kwargs)``; likewise.
    """
    with ExitStack() as patches:
        forward = denoiser_of(pipe).forward
        schedulers: list[Any] = []

        @wraps(forward)
        def watched_forward(*args: Any, **kwargs: Any) -> Any:
            scheduler = pipe.scheduler
            if step is not None and not any(scheduler is s for s in schedulers):
                schedulers.append(scheduler)
                patches.enter_context(replaced(scheduler, "step", _bound(step, scheduler)))
            return network(forward, *args, **kwargs)

        patches.enter_context(replaced(denoiser_of(pipe), "forward", watched_forward))
        yield


def _bound(function: Callable[..., Any], scheduler: Any) -> Callable[..., Any]:
    own = scheduler.step

    @wraps(own)  # pipelines look at the signature of step to see what it accepts
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(scheduler, own, *args, **kwargs)

    return call
