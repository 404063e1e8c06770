"""What a page computes with: a pipeline's three networks as graphs, and the numbers of its tokenizer and its solver.

The design decision: everything that torch can put into a graph stands in the graph (the scale of latents, the encoding of
guidance, rounding to levels of 255), so that the script of the page has nothing of it to get wrong.
"""

from __future__ import annotations

import json
from typing import Any, Final

import torch
from torch import Tensor, nn

from sdkit.attention.layers import Layer, find_layers, grid_at
from sdkit.errors import InvalidSettings
from sdkit.models.graphs import graph_of, reduced
from sdkit.pipelines.families import autoencoder_of, denoiser_of, family_of
from sdkit.pipelines.latents import scale_of
from sdkit.pipelines.previews import rgb_of

__all__ = ["check", "facts", "graphs"]

_MOST: Final = 20_000_000  # parameters: 40 MB in half precision, 53 MB as text
_MIDDLING: Final = range(16, 33)  # patches a side of the layers that `AttentionMaps` averages


def check(pipe: Any) -> None:
    """Raise if a page cannot hold this pipeline.

    Raises
    ------
    InvalidSettings
        For pipelines that are not built as Pocket is, run another solver than DDIM, or are too large for a page.
    """
    family, kind = family_of(pipe), type(pipe).__name__
    network, vae = denoiser_of(pipe), autoencoder_of(pipe)
    alike = len(family.sequence) == 1 and family.layout == "plain" and family.remembers
    if not alike or not hasattr(network, "down_blocks") or len(family.encodes) != 2:
        raise InvalidSettings(
            f"A page holds pipelines that are built as Pocket is, and {kind} is not; use sdkit.load()."
        )
    parts = (network, vae, pipe.text_encoder)
    size = sum(p.numel() for part in parts for p in part.parameters())
    if size > _MOST:
        raise InvalidSettings(
            f"A page holds models of up to {_MOST / 1e6:.0f} million parameters, and this one has {size / 1e6:.0f} "
            "million; use sdkit.load(), whose model has 12."
        )
    config = pipe.scheduler.config
    spacing = config.get("timestep_spacing")
    known = config.get("prediction_type") in ("v_prediction", "epsilon")
    if type(pipe.scheduler).__name__ != "DDIMScheduler" or spacing != "trailing" or not known:
        raise InvalidSettings(
            f"A page solves with DDIM and trailing steps, as Pocket does, and this pipeline has "
            f"{type(pipe.scheduler).__name__} ({spacing}); load it anew and leave its scheduler as it is."
        )
    if config.get("clip_sample") or config.get("thresholding"):
        raise InvalidSettings(
            "A page does not clip its predictions, and this pipeline's scheduler does; set clip_sample and thresholding "
            "to False."
        )


def facts(pipe: Any) -> dict[str, Any]:
    """What the script must know of the model: tokenizer, solver, shapes, a matrix from latents to colours."""
    backend = json.loads(pipe.tokenizer.backend_tokenizer.to_str())
    model, scheduler, network = backend["model"], pipe.scheduler, denoiser_of(pipe)
    merges = [m if isinstance(m, list) else m.split(" ", 1) for m in model["merges"]]
    channels, side = int(network.config.in_channels), int(network.config.sample_size)
    black = rgb_of(pipe, torch.zeros(channels, 1, 1))[0, 0]
    return {
        "tokenizer": {
            "vocab": model["vocab"],
            "merges": merges,
            "special": {t["content"]: t["id"] for t in backend["added_tokens"]},
            "start": pipe.tokenizer.bos_token_id,
            "end": pipe.tokenizer.eos_token_id,
            "pad": pipe.tokenizer.pad_token_id,
            "length": pipe.tokenizer.model_max_length,
        },
        "schedule": {
            "alphas_cumprod": scheduler.alphas_cumprod.tolist(),
            "final_alpha": float(scheduler.final_alpha_cumprod),
            "prediction": scheduler.config.prediction_type,
        },
        "latents": [channels, side, side],
        "side": side * scale_of(pipe),
        "patches": list(_grid(_finest(pipe), side)),
        "embedded": bool(network.config.time_cond_proj_dim),
        "colours": [
            *((rgb_of(pipe, one)[0, 0] - black).tolist() for one in torch.eye(channels)[..., None, None]),
            black.tolist(),
        ],
    }  # fmt: skip


@torch.no_grad()
def graphs(pipe: Any) -> dict[str, bytes]:
    """The networks as graphs with weights stored small: ``words``, ``denoiser`` and ``decoder``."""
    network = denoiser_of(pipe)
    channels, side = int(network.config.in_channels), int(network.config.sample_size)
    ids = torch.full((2, pipe.tokenizer.model_max_length), pipe.tokenizer.pad_token_id)
    encode, denoise, decode = _Words(pipe), _Denoiser(pipe), _Decoder(pipe)
    words = encode(ids.int())
    inputs = {
        "latents": torch.zeros(2, channels, side, side),
        "moment": torch.tensor([999.0]),
        "words": words,
    }
    if network.config.time_cond_proj_dim:
        inputs["guidance"] = torch.tensor([4.0])
    batch = {0: "batch"}
    made = {
        "words": graph_of(encode, {"ids": ids.int()}, ["words"], {"ids": batch}),
        "denoiser": graph_of(
            denoise, inputs, ["prediction", "attention"], {"latents": batch, "words": batch}
        ),
        "decoder": graph_of(decode, {"latents": inputs["latents"][:1]}, ["pixels"], {}),
    }
    return {name: reduced(graph) for name, graph in made.items()}


def _finest(pipe: Any) -> list[Layer]:
    """The layers that `AttentionMaps` averages, or those of them with the finest grid."""
    side = int(denoiser_of(pipe).config.sample_size)
    ups = [layer for layer in find_layers(pipe) if layer.kind == "cross" and layer.stage == "up"]
    grids = {layer.name: max(_grid([layer], side)) for layer in ups}
    middling = [layer for layer in ups if grids[layer.name] in _MIDDLING] or ups
    most = max(grids[layer.name] for layer in middling)
    return [layer for layer in middling if grids[layer.name] == most]


def _grid(layers: list[Layer], side: int) -> tuple[int, int]:
    return grid_at(side, side, layers[0].level)


class _Words(nn.Module):
    """Token ids ``(B, L)`` to what the denoiser reads ``(B, L, D)``."""

    def __init__(self, pipe: Any) -> None:
        super().__init__()
        self.encoder = pipe.text_encoder

    def forward(self, ids: Tensor) -> Tensor:
        """Encode."""
        return self.encoder(ids.long())[0]


class _Denoiser(nn.Module):
    """One evaluation, and what the last picture of the batch looked at: ``(patches, L)``, the mean of heads and layers."""

    def __init__(self, pipe: Any) -> None:
        super().__init__()
        self.network, self.layers = denoiser_of(pipe), _finest(pipe)
        self.dim = self.network.config.time_cond_proj_dim
        self.pipe = pipe

    def forward(self, latents: Tensor, moment: Tensor, words: Tensor, guidance: Tensor | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
        """The prediction ``(B, C, h, w)`` and the attention."""
        seen: dict[tuple[str, str], Tensor] = {}
        handles = [
            getattr(layer.module, part).register_forward_hook(
                lambda _m, _i, out, key=(layer.name, part): seen.update({key: out})
            )
            for layer in self.layers
            for part in ("to_q", "to_k")
        ]
        scale = None
        if guidance is not None:
            scale = self.pipe.get_guidance_scale_embedding(guidance - 1, embedding_dim=self.dim)
        try:
            out = self.network(latents, moment, words, timestep_cond=scale, return_dict=False)[0]
        finally:
            for handle in handles:
                handle.remove()
        maps = [
            _looked(layer, seen[layer.name, "to_q"], seen[layer.name, "to_k"])
            for layer in self.layers
        ]
        return out, torch.stack(maps).mean(0)


def _looked(layer: Layer, query: Tensor, key: Tensor) -> Tensor:
    """``softmax(Q Kᵀ / √d)`` of the last picture, the mean over heads: ``(patches, L)``."""
    q, k = (t[-1].unflatten(-1, (layer.heads, -1)).transpose(0, 1) for t in (query, key))
    return torch.softmax(q @ k.transpose(1, 2) * layer.module.scale, -1).mean(0)


class _Decoder(nn.Module):
    """Latents ``(1, C, h, w)`` to levels ``(H, W, 3)`` of 0 to 255, rounded as the pipeline rounds them."""

    def __init__(self, pipe: Any) -> None:
        super().__init__()
        self.vae = autoencoder_of(pipe)

    def forward(self, latents: Tensor) -> Tensor:
        """Decode."""
        pixels = self.vae.decode(latents / self.vae.config.scaling_factor, return_dict=False)[0]
        return ((pixels[0] / 2 + 0.5).clamp(0, 1).movedim(0, -1) * 255).round()
