"""A denoiser and a decoder that `onnxruntime` computes, inside a pipeline that stays as plain as it was.

The design decision: only a module's ``forward`` is another one. Whoever calls the network calls the graph; whoever
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
_FREE = {  # by the names of a network's call: the axes of what it is given that may change
    "sample": {0: "batch", 2: "rows", 3: "columns"},
    "timestep": {0: "moments"},
    "encoder_hidden_states": {0: "batch", 1: "length"},
    "timestep_cond": {0: "batch"},
}


def check_onnx(device: str) -> None:
    """Raise before anything is loaded if ``compile="onnx"`` cannot work here."""
    need("onnx", "onnxruntime", what='compile="onnx"')
    if device != "cpu":
        raise InvalidSettings(
            f'compile="onnx" computes on the processor, and the device is {device!r}; pass device="cpu", or compile=True.'
        )


def compile_onnx(pipe: Any) -> None:
    """Have `onnxruntime` compute a pipeline's denoiser from now on, and its decoder where that is an `AutoencoderKL`'s.

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
    guided = ("timestep_cond",) if config.time_cond_proj_dim else ()
    network.forward = _compiled(_Graph(network, (*_CALL, *guided), _UNet(network)))
    vae: Any = getattr(pipe, "vae", None)
    if type(vae).__name__ == "AutoencoderKL" and vae.dtype == torch.float32:
        decoder = vae.decoder
        decoder.forward = _compiled(_Graph(decoder, ("sample",), _Decoder(decoder)))


def _compiled(graph: _Graph) -> Callable[..., Any]:
    """The network's own ``forward``, computed by a graph wherever that is the same."""
    own = graph.plain.call

    @wraps(own)
    def forward(*args: Any, **kwargs: Any) -> Any:
        given = dict(zip(_CALL, args, strict=False)) | kwargs
        named = given.pop("return_dict", True)
        given = {name: value for name, value in given.items() if value is not None}
        if len(args) > len(_CALL) or not graph.answers(given):
            return own(*args, **kwargs)
        return graph.plain.answer(graph(given), named=named)

    forward.graph = graph  # type: ignore[attr-defined] # by which others see that it is compiled
    return forward


class _Graph:
    """The graph of a network and its sessions, one for each number of threads that was computed with.

    `told` is everything that a call says which the graph can answer; `plain` is the network with that as its arguments.
    """

    def __init__(self, network: Any, told: tuple[str, ...], plain: _Plain) -> None:
        self.network, self.told, self.plain = network, told, plain
        self._sessions: dict[int, Any] = {}
        self._state: int | None = None
        self._moment = float("-inf")
        self._bytes = b""
        self._look()
        self._own_processors = self._processors()

    def answers(self, given: dict[str, Any]) -> bool:
        """Whether the graph computes what this call wants; if somebody looks inside the network, torch does."""
        if given.keys() != set(self.told):
            return False
        tensors = [value for name, value in given.items() if name != "timestep"]
        if not all(isinstance(t, torch.Tensor) and t.device.type == "cpu" for t in tensors):
            return False
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            return False
        if any(t.dtype != torch.float32 for t in tensors):
            return False
        if self._begins(given):
            self._look()
        return not self._watched() and self._processors() == self._own_processors

    def _begins(self, given: dict[str, Any]) -> bool:
        """Whether this is the first call of a run, in which time runs down; within one nobody loads anything."""
        return "timestep" not in given or _moment(given) >= self._moment

    def _look(self) -> None:
        """List the layers: walking through them at every step would take Pocket a tenth of it."""
        self._layers = list(self.network.modules())
        self._inner = [m for m in self._layers if m is not self.network]
        # a module says by raising that it has no such attribute, which takes a while where there are hundreds
        held = [(m, vars(m)) for m in self._layers]
        self._attentions = [m for m, d in held if "processor" in d or "processor" in d["_modules"]]

    def _processors(self) -> list[int]:
        return [id(m.processor) for m in self._attentions]

    def _watched(self) -> bool:
        return any(m._forward_hooks or m._forward_pre_hooks for m in self._inner)  # noqa: SLF001 - torch has no other way to ask

    def __call__(self, given: dict[str, Any]) -> Tensor:
        inputs = {name: torch.as_tensor(given[name], dtype=torch.float32) for name in self.told}
        if "timestep" in inputs:
            inputs["timestep"] = inputs["timestep"].reshape(-1)
        if self._begins(given):
            self._renew(inputs)
        if "timestep" in given:
            self._moment = _moment(given)
        arrays = {name: t.detach().contiguous().numpy() for name, t in inputs.items()}
        return torch.from_numpy(self._session().run(None, arrays)[0])

    def _renew(self, inputs: dict[str, Tensor]) -> None:
        """Make the graph if there is none of these weights."""
        state = condition_of(self._layers)
        if state == self._state:
            return
        self._bytes = graph_of(self.plain, inputs, ["answer"], {name: _FREE[name] for name in inputs})  # fmt: skip
        self._sessions.clear()
        self._state = state

    def _session(self) -> Any:
        import onnxruntime

        threads = torch.get_num_threads()
        if threads not in self._sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            # threads that spin while torch works would take the cores from it
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            self._sessions[threads] = onnxruntime.InferenceSession(
                self._bytes, options, providers=["CPUExecutionProvider"]
            )
        return self._sessions[threads]


def _moment(given: dict[str, Any]) -> float:
    return float(torch.as_tensor(given["timestep"]).max())


class _Plain(nn.Module):
    """A network's own call, whatever its ``forward`` is now, with nothing but tensors."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        # the one is only held: its weights are found there
        self.network, self.call = network, network.forward

    @staticmethod
    def answer(output: Tensor, *, named: bool) -> Any:  # noqa: ARG004 - some have but one way to answer
        """What the network itself would answer with, for the graph's output."""
        return output


class _Decoder(_Plain):
    def forward(self, sample: Tensor) -> Tensor:
        """Latents ``(B, C, h, w)`` to a picture ``(B, 3, H, W)``."""
        picture: Tensor = self.call(sample)
        return picture


class _UNet(_Plain):
    def forward(self, sample: Tensor, moment: Tensor, words: Tensor, scale: Tensor | None = None) -> Tensor:  # fmt: skip
        """The prediction ``(B, C, h, w)``."""
        noise: Tensor = self.call(sample, moment, words, timestep_cond=scale, return_dict=False)[0]
        return noise

    @staticmethod
    def answer(output: Tensor, *, named: bool) -> Any:
        """The prediction with its name, unless a plain tuple is asked for."""
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

        return UNet2DConditionOutput(sample=output) if named else (output,)
