"""A denoiser that `onnxruntime` computes, inside a pipeline that stays as plain as it was.

The design decision: only the module's ``forward`` is another one. Whoever calls the network calls the graph; whoever
looks inside it (hooks on its layers, processors of their own, gradients) is answered by torch, as if nothing were compiled.
The graph is made at the first call, and made again when the weights are no longer those that it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sdkit.errors import InvalidSettings
from sdkit.pipelines.condition import condition_of
from sdkit.pipelines.families import denoiser_of

from .graphs import graph_of, need

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["check_onnx", "compile_onnx"]

_MOST = 450_000_000  # parameters: one graph holds 2 GB
_MORE = ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type")
_CALL = ("sample", "timestep", "encoder_hidden_states")


def check_onnx(device: str) -> None:
    """Raise before anything is loaded if ``compile="onnx"`` cannot work here."""
    need("onnx", "onnxruntime", what='compile="onnx"')
    if device != "cpu":
        raise InvalidSettings(
            f'compile="onnx" computes on the processor, and the device is {device!r}; pass device="cpu", or compile=True.'
        )


def compile_onnx(pipe: Any) -> None:
    """Have `onnxruntime` compute a pipeline's denoiser from now on.

    Raises
    ------
    InvalidSettings
        For denoisers other than UNets that are told nothing but the moment and the words, those in another than single
        precision, and those too large for one graph.
    """
    network = denoiser_of(pipe)
    config = network.config
    if type(network).__name__ != "UNet2DConditionModel" or any(config.get(k) for k in _MORE):
        raise InvalidSettings(
            f'compile="onnx" knows the UNets of Stable Diffusion 1, 2 and Pocket, and {type(pipe).__name__} has '
            "another network; pass compile=True for torch's own compiler."
        )
    size = sum(p.numel() for p in network.parameters())
    if size > _MOST or network.dtype != torch.float32:
        raise InvalidSettings(
            f'compile="onnx" takes networks of up to {_MOST / 1e6:.0f} million parameters in float32, and this one has '
            f"{size / 1e6:.0f} million in {str(network.dtype).removeprefix('torch.')}; pass compile=True instead."
        )
    network.forward = _compiled(network)


def _compiled(network: Any) -> Callable[..., Any]:
    """The network's own ``forward``, computed by a graph wherever that is the same."""
    own = network.forward
    graph = _Graph(network, own)

    @wraps(own)
    def forward(*args: Any, **kwargs: Any) -> Any:
        given = dict(zip(_CALL, args, strict=False)) | kwargs
        plain = given.pop("return_dict", True)
        if len(args) > len(_CALL) or not graph.answers(given):
            return own(*args, **kwargs)
        sample = graph(given)
        if not plain:
            return (sample,)
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

        return UNet2DConditionOutput(sample=sample)

    forward.graph = graph  # type: ignore[attr-defined] # by which others see that it is compiled
    return forward


class _Graph:
    """The graph of a UNet and its sessions, one for each number of threads that was computed with."""

    def __init__(self, network: Any, own: Callable[..., Any]) -> None:
        self.network, self.own = network, own
        self._sessions: dict[int, Any] = {}
        self._state: int | None = None
        self._moment = float("-inf")
        self._bytes = b""
        self._processors = self._present()

    def _present(self) -> list[int]:
        return [id(m.processor) for m in self.network.modules() if hasattr(m, "processor")]

    def answers(self, given: dict[str, Any]) -> bool:
        """Whether the graph computes what this call wants; if somebody looks inside the network, torch does."""
        tensors: list[Any] = [given.get(name) for name in ("sample", "encoder_hidden_states")]
        told = {name for name, value in given.items() if value is not None}
        config: Any = self.network.config
        guided = {"timestep_cond"} if config.time_cond_proj_dim else set()
        return (
            all(isinstance(t, torch.Tensor) and t.device.type == "cpu" for t in tensors)
            and all(t.dtype == torch.float32 for t in tensors)
            and told == {*_CALL, *guided}
            and not (torch.is_grad_enabled() and any(t.requires_grad for t in tensors))
            and not self._watched()
            and self._present() == self._processors
        )

    def _watched(self) -> bool:
        inner = (module for module in self.network.modules() if module is not self.network)
        return any(m._forward_hooks or m._forward_pre_hooks for m in inner)  # noqa: SLF001 - torch has no other way to ask

    def __call__(self, given: dict[str, Any]) -> Tensor:
        moment = torch.as_tensor(given["timestep"], dtype=torch.float32)
        inputs = {
            "sample": given["sample"],
            "moment": moment.reshape(-1),
            "words": given["encoder_hidden_states"],
        }
        if given.get("timestep_cond") is not None:
            inputs["scale"] = given["timestep_cond"].float()
        now = float(moment.max())
        if now >= self._moment:  # time runs down within a run, so this is a new one
            self._renew(inputs)
        self._moment = now
        arrays = {name: t.detach().contiguous().numpy() for name, t in inputs.items()}
        return torch.from_numpy(self._session().run(None, arrays)[0])

    def _renew(self, inputs: dict[str, Tensor]) -> None:
        """Make the graph if there is none of these weights."""
        state = condition_of(self.network)
        if state == self._state:
            return
        free = {
            "sample": {0: "batch", 2: "rows", 3: "columns"},
            "moment": {0: "moments"},
            "words": {0: "batch", 1: "length"},
            "scale": {0: "batch"},
        }
        free = {name: axes for name, axes in free.items() if name in inputs}
        self._bytes = graph_of(_Plain(self.network, self.own), inputs, ["noise"], free)
        self._sessions.clear()
        self._state = state

    def _session(self) -> Any:
        import onnxruntime

        threads = torch.get_num_threads()
        if threads not in self._sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            # threads that spin while torch decodes would take the cores from it
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            self._sessions[threads] = onnxruntime.InferenceSession(
                self._bytes, options, providers=["CPUExecutionProvider"]
            )
        return self._sessions[threads]


class _Plain(nn.Module):
    """A UNet's call with nothing but tensors."""

    def __init__(self, network: nn.Module, call: Callable[..., Any]) -> None:
        super().__init__()
        self.network, self.call = network, call  # the one is only held: its weights are found there

    def forward(self, sample: Tensor, moment: Tensor, words: Tensor, scale: Tensor | None = None) -> Tensor:  # fmt: skip
        """The prediction ``(B, C, h, w)``."""
        return self.call(sample, moment, words, timestep_cond=scale, return_dict=False)[0]
