"""A run in which another picture's run rides along, so that its attention is at hand in every layer.

The design decision: the source is run once and its inputs to the UNet are remembered (a few small latents); during the next
run one more row of every batch repeats them. So nothing large is ever stored. What is made of the source's attention
is the business of whoever rides: `editing` gives it to other words, `pushing` to another place.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from sdkit.attention.layers import Layer, find_layers
from sdkit.errors import CannotCapture, InvalidSettings
from sdkit.generation import generate
from sdkit.pipelines.calls import inputs_of, replaced, steered
from sdkit.pipelines.families import denoiser_of
from sdkit.result import Result
from sdkit.settings import Settings

__all__ = ["Follower", "Ride", "Riding", "layers_that_follow"]


def layers_that_follow(pipe: Any, source: Settings) -> tuple[Layer, ...]:
    """The attention layers of a UNet whose probabilities can be exchanged.

    Raises
    ------
    CannotCapture
        If the pipeline has joint attention, or a layer does more than attend.
    InvalidSettings
        If the source was not made from words alone.
    """
    if source.task != "text-to-image":
        raise InvalidSettings(
            f"The source is {source.task}; only pictures made from words alone can be edited."
        )
    layers = find_layers(pipe)
    if any(layer.kind == "joint" for layer in layers):
        raise CannotCapture(
            f"{type(pipe).__name__} has joint attention of words and patches, which cannot be edited by words; use a pipeline with a UNet."
        )
    for layer in layers:
        module = layer.module
        if (
            module.group_norm is not None
            or module.spatial_norm is not None
            or module.residual_connection
        ):
            raise CannotCapture(
                f"{layer.name} normalises or adds inside its attention; it cannot be edited."
            )
    return layers


@dataclass
class Ride:
    """What the source gave to the UNet at each call, and its latents after each step."""

    samples: list[Tensor] = field(default_factory=list)
    timesteps: list[float] = field(default_factory=list)
    latents: list[Tensor] = field(default_factory=list)
    text: Tensor = field(default_factory=lambda: torch.empty(0))
    extra: dict[str, Tensor] = field(default_factory=dict)


class Riding:
    """Runs inside the block have the source beside them; a subclass says what follows from it."""

    def __init__(
        self, pipe: Any, source: Result, settings: Settings, layers: tuple[Layer, ...]
    ) -> None:
        self.pipe, self.source, self.settings, self.layers = pipe, source, settings, layers
        self._ride = Ride()
        self._step = -1
        self._undo = ExitStack()

    # -- for subclasses ----------------------------------------------------------------------------------------------

    def follower(self, layer: Layer) -> Follower:
        """What stands in the place of a layer's processor."""
        raise NotImplementedError

    def steer(self, step: int, latents: Tensor) -> Tensor:
        """The latents `(B, C, h, w)` that a step ends with."""
        raise NotImplementedError

    def run_source(self) -> None:
        """Make the source again; its run is remembered."""
        generate(self.pipe, self.source.settings, progress=False)

    # -- the block ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Run the source once, then put the followers in place."""
        unet = denoiser_of(self.pipe)
        with ExitStack() as watching:
            watching.callback(
                unet.register_forward_pre_hook(self._remember, with_kwargs=True).remove
            )
            watching.enter_context(steered(self.pipe, self._remember_latents))
            self.run_source()
        with ExitStack() as undo:
            undo.callback(unet.register_forward_pre_hook(self._board, with_kwargs=True).remove)
            undo.callback(unet.register_forward_hook(self._leave).remove)
            undo.enter_context(steered(self.pipe, self.steer))
            for layer in self.layers:
                undo.enter_context(replaced(layer.module, "processor", self.follower(layer)))
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Give every processor back; the pipeline is as it was."""
        self._undo.close()
        self._ride = Ride()

    # -- the source's run --------------------------------------------------------------------------------------------

    def _remember(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        sample, timestep = inputs_of(args, kwargs)
        self._ride.samples.append(sample[-1:].clone())
        self._ride.timesteps.append(timestep)
        self._ride.text = kwargs["encoder_hidden_states"][-1:]
        self._ride.extra = {k: v[-1:] for k, v in (kwargs.get("added_cond_kwargs") or {}).items()}

    def _remember_latents(self, _: int, latents: Tensor) -> Tensor:
        self._ride.latents.append(latents[-1:].clone())
        return latents

    # -- the run that follows ----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """A run starts: forget the one before."""

    def _board(
        self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Add the source's row to the batch."""
        sample, timestep = inputs_of(args, kwargs)
        times = self._ride.timesteps
        if timestep == times[0]:
            self._step = -1
            self._begin()
        self._step += 1
        if (
            self._step >= len(times)
            or timestep != times[self._step]
            or sample.shape[1:] != self._ride.samples[0].shape[1:]
        ):
            raise InvalidSettings(
                f"The edited run must have the source's {len(times)} steps, scheduler and size; use the settings of the edit."
            )
        sample = torch.cat([sample, self._ride.samples[self._step]])
        text = torch.cat([kwargs["encoder_hidden_states"], self._ride.text])
        changed = kwargs | {"encoder_hidden_states": text}
        if kwargs.get("added_cond_kwargs"):
            given = kwargs["added_cond_kwargs"]
            changed["added_cond_kwargs"] = {
                k: torch.cat([v, self._ride.extra[k]]) for k, v in given.items()
            }
        return ((sample, *args[1:]), changed) if args else (args, changed | {"sample": sample})

    def _leave(self, _: Any, _args: Any, output: Any) -> Any:
        """Take the source's row out again."""
        if isinstance(output, tuple):
            return (output[0][:-1], *output[1:])
        output.sample = output.sample[:-1]
        return output

    @property
    def progress(self) -> float:
        """Share of the steps that are done, 0 in the first."""
        return self._step / len(self._ride.timesteps)


class Follower:
    """Runs a layer's own processor, then replaces the rows that guidance pulls towards by those that follow the source."""

    def __init__(self, layer: Layer, pipe: Any) -> None:
        self.layer, self.own, self.pipe = layer, layer.module.processor, pipe

    def follows(self, patches: int) -> bool:
        """Whether anything is exchanged now, in a layer of so many patches."""
        raise NotImplementedError

    def exchanged(self, p: Tensor) -> Tensor:
        """Probabilities `(N, heads, patches, keys)` of the new rows, from `(N + 1, …)` whose last row is the source's."""
        raise NotImplementedError

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """Attend, and exchange."""
        out: Tensor = self.own(attn, hidden_states, encoder_hidden_states, *args, **kwargs)
        if not self.follows(hidden_states.shape[1]):
            return out
        first = (len(out) - 1) // 2 if self.pipe.do_classifier_free_guidance else 0
        crossing = self.layer.kind == "cross" and encoder_hidden_states is not None
        context = encoder_hidden_states if crossing else hidden_states
        # of all rows, though some are not needed: probes read queries and keys, and count their rows
        q, k, v = (
            part(x)[first:].unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for part, x in ((attn.to_q, hidden_states), (attn.to_k, context), (attn.to_v, context))
        )
        if attn.norm_q is not None:
            q, k = attn.norm_q(q), attn.norm_k(k)
        p = (q.float() @ k.float().transpose(-1, -2) * attn.scale).softmax(-1)
        rows = (self.exchanged(p).to(v.dtype) @ v[:-1]).transpose(1, 2).flatten(2)
        rows = attn.to_out[1](attn.to_out[0](rows)) / attn.rescale_output_factor
        return torch.cat([out[:first], rows, out[-1:]])
