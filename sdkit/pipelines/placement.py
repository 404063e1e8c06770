"""Where the parts of a pipeline lie: the ways there are, in diffusers' own switches.

The design decision: sdkit moves nothing itself. It turns diffusers' switches on, and asks diffusers which are on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from .families import denoiser_of, role_of

__all__ = ["Way", "by_layers", "offload", "offloaded", "state", "tile"]


@dataclass(frozen=True)
class Way:
    """One way to lay out a pipeline.

    Parameters
    ----------
    offload
        What waits in the computer's memory until it is needed: ``"nothing"``, ``"text encoders"``, ``"models"`` (all
        but the one that runs), ``"layers"`` (all but the next ones) or ``"all layers"`` (all but the one that runs).
    tiled
        Whether the autoencoder decodes one picture at a time, in overlapping tiles.
    """

    offload: str = "nothing"
    tiled: bool = False

    def __str__(self) -> str:
        """Such as ``"model offload, VAE tiling"``."""
        return _NAMES[self.offload] + (", VAE tiling" if self.tiled else "")

    @property
    def costs(self) -> str:
        """What it costs in time, in words."""
        parts = [_COSTS[self.offload]] if self.offload != "nothing" else []
        parts += (
            ["decoding takes half as long again and shifts colours a little"] if self.tiled else []
        )
        return "; ".join(parts) or "nothing"


_NAMES: Final = {
    "nothing": "all resident",
    "text encoders": "text encoders offloaded",
    "models": "model offload",
    "layers": "group offload",
    "all layers": "sequential offload",
}
_MARKS: Final = frozenset(("_hf_hook", "_diffusers_hook"))  # accelerate's and diffusers'
_COSTS: Final = {
    "text encoders": "each new prompt takes a moment longer",
    "models": "the weights move to the device once a picture",
    "layers": "the weights move at every step, beside the computing",
    "all layers": "the weights move at every step, and computing waits for them: many times slower",
}


def tile(vae: Any, side: int, scale: int, *, slices: bool = False) -> None:
    """Let an autoencoder work in tiles of so many pixels a side, and with `slices` on one picture at a time.

    Diffusers' own tiles are as large as the pictures the autoencoder was trained on, so that switching tiling on
    changes nothing for exactly those: 512 pixels for SD 1.5, 1024 for SDXL. Models without an autoencoder, and
    autoencoders that cannot, are left as they are.
    """
    if slices and hasattr(
        vae, "use_slicing"
    ):  # all have the methods, which raise where nothing is behind them
        vae.enable_slicing()
    if not hasattr(vae, "use_tiling"):
        return
    vae.enable_tiling()
    if hasattr(vae, "tile_latent_min_size"):
        vae.tile_sample_min_size, vae.tile_latent_min_size = side, side // scale


def offload(pipe: Any, what: str, device: str) -> None:
    """Place a pipeline; `what` as in `Way`."""
    import torch

    there = torch.device(device)
    streams = there.type == "cuda"
    fine: dict[str, Any] = {"offload_type": "leaf_level", "use_stream": streams}
    if what == "nothing":
        here = next(denoiser_of(pipe).parameters()).device  # its own `device` asks every layer
        if there.type != "cpu" or here.type != "cpu":  # a loaded pipeline is there already
            pipe.to(there)
    elif what == "models":
        pipe.enable_model_cpu_offload(device=there)
    elif what == "all layers":
        pipe.enable_sequential_cpu_offload(device=there)
    else:
        # the autoencoder stays: it is small, and one that is widened while it decodes cannot be offloaded by layers
        stays = [
            n
            for n, c in pipe.components.items()
            if isinstance(c, torch.nn.Module) and not n.startswith("text_encoder")
        ]
        if what == "layers":
            stays = [n for n in stays if role_of(n) != "denoiser"]
        pipe.enable_group_offload(there, exclude_modules=stays, **fine)


def state(pipe: Any) -> str:
    """What a pipeline does to save memory, whoever asked for it: "" or such as ``"model offload, VAE tiling (256)"``."""
    vae = getattr(pipe, "vae", None)
    moved = offloaded(pipe)
    found = [_NAMES[moved]] if moved != "nothing" else []
    found += ["VAE slicing"] if getattr(vae, "use_slicing", False) else []
    if getattr(vae, "use_tiling", False):
        side = getattr(vae, "tile_sample_min_size", None)
        found.append(f"VAE tiling ({side})" if side else "VAE tiling")
    return ", ".join(found)


def offloaded(pipe: Any) -> str:
    """What of a pipeline is offloaded now; words as in `Way`."""
    if getattr(pipe, "_all_hooks", None):
        return "models"
    marks = _hooks(denoiser_of(pipe))
    if "_hf_hook" in marks:
        return "all layers"
    if _enabled(denoiser_of(pipe), marks):
        return "layers"
    encoders = [
        c
        for name, c in pipe.components.items()
        if name.startswith("text_encoder") and c is not None
    ]
    return "text encoders" if any(by_layers(c) for c in encoders) else "nothing"


def by_layers(network: Any) -> bool:
    """Whether diffusers brings the layers of a network to the device one after the other."""
    return _enabled(network, _hooks(network))


def _hooks(network: Any) -> set[str]:
    """Which kinds of hooks the layers of a network have."""
    # a module says by raising that it has no such attribute, which takes a while where there are hundreds
    return {mark for m in network.modules() for mark in _MARKS & vars(m).keys()}


def _enabled(network: Any, marks: set[str]) -> bool:
    if "_diffusers_hook" not in marks:
        return False
    from diffusers.hooks.group_offloading import _is_group_offload_enabled

    return bool(_is_group_offload_enabled(network))
