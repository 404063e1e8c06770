"""How a pipeline works in a panel's thread: it can be stopped inside a step, and a small network keeps to one core.

The one decision: **a panel gives up a little speed in theory for a lot in practice.** OpenMP keeps a team of threads for
each thread that computes. Beside the notebook's own team, a second one sleeps after every operation, and a small network
has some thousand of those in a step: on two cores, Pocket takes twice as long on both of them as on one. One core also
leaves room for the browser that shows the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from torch import nn

from sdkit.pipelines.calls import steered
from sdkit.pipelines.families import autoencoder_of, denoiser_of

__all__ = ["on_one_core", "stoppable"]

_SMALL: Final = 100_000_000  # parameters; a larger network's operations are long enough to wake other threads for


@contextmanager
def on_one_core(pipe: Any, usual: int) -> Iterator[None]:
    """Let this thread compute on one core inside the block if torch computes a small network on the CPU.

    Parameters
    ----------
    pipe
        A diffusers pipeline.
    usual
        The process's own number of threads, which new threads have again after the block.
    """
    import torch

    network = denoiser_of(pipe)
    weights = list(network.parameters())
    own_threads = _onnx(network)  # they wait for nobody else's
    if own_threads or weights[0].device.type != "cpu" or sum(p.numel() for p in weights) > _SMALL:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


@contextmanager
def stoppable(pipe: Any, check: Callable[[], None]) -> Iterator[None]:
    """Call `check`, which may raise, after every step and before every layer of the denoiser and the autoencoder."""

    def after_step(_step: int, latents: Any) -> Any:
        check()  # for compiled networks, which are asked nowhere else
        return latents

    handles = [block.register_forward_pre_hook(lambda *_: check()) for block in _blocks(pipe)]
    try:
        with steered(pipe, after_step):
            yield
    finally:
        for handle in handles:
            handle.remove()


def _blocks(pipe: Any) -> list[nn.Module]:
    """What stands in lists in the two; nothing of a compiled one, which a hook would compile anew.

    Text encoders are quick, and encodings made under a foreign hook are not remembered.
    """
    return [block for part in (denoiser_of(pipe), autoencoder_of(pipe)) for block in _listed(part)]


def _onnx(network: nn.Module) -> bool:
    """Whether `onnxruntime` computes a network (`sdkit.models.compiled`)."""
    return hasattr(network.forward, "graph")


def _listed(module: nn.Module | None) -> Iterator[nn.Module]:
    """Yield the blocks that stand in lists, outside of what is compiled."""
    from torch import nn

    if (
        module is None
        or getattr(module, "_compiled_call_impl", None) is not None
        or hasattr(module, "_orig_mod")
        or _onnx(module)
    ):
        return
    if isinstance(module, nn.ModuleList):
        yield from (block for block in module if block is not None)
    for inner in module.children():
        yield from _listed(inner)
