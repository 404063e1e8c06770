"""The shapes of latents: how a pipeline carries them through its loop, and how they look as a picture.

The one decision: **shapes are told by numbers, not by names.** A transformer's pipeline may fold 2×2 latent pixels into one
token of four times the channels, or line pixels up as tokens; which of the two it did is seen from the count of tokens and
the size of the picture. Everything here keeps values as they are and only moves them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sdkit.errors import InvalidSettings

from .families import autoencoder_of, denoiser_of

__all__ = ["channels_of", "folded", "grain_of", "grid_of", "laid_out", "scale_of", "unfolded"]


def scale_of(pipe: Any) -> int:
    """Pixels along one side of a latent pixel; 1 for models that work on pixels."""
    if hasattr(pipe, "vae_scale_factor"):
        return int(pipe.vae_scale_factor)
    vae = autoencoder_of(pipe)
    return 1 if vae is None else 2 ** (len(vae.config.get("block_out_channels", (0,))) - 1)


def grain_of(pipe: Any) -> int:
    """Pixels that the sides of a picture are multiples of: transformers join latent pixels into patches of two by two."""
    return scale_of(pipe) * (1 if hasattr(denoiser_of(pipe), "down_blocks") else 2)


def channels_of(pipe: Any) -> int:
    """Channels of the latents that the autoencoder decodes; 3 for models that work on pixels."""
    vae = autoencoder_of(pipe)
    if vae is None:
        return 3
    found = next(
        (n for name in ("latent_channels", "z_dim") if (n := getattr(vae.config, name, None))), None
    )
    if found is None:
        raise InvalidSettings(
            f"{type(vae).__name__} does not say how many channels its latents have."
        )
    return int(found)


def grid_of(sample: torch.Tensor, inputs: Mapping[str, Any]) -> tuple[int, int]:
    """Rows and columns of the latent pixels that a network is shown, from its sample and its other inputs by name."""
    if "img_ids" in inputs:  # tokens of 2×2 latent pixels, and where each stands
        rows, columns = (
            int(n) + 1
            for n in inputs["img_ids"].reshape(-1, inputs["img_ids"].shape[-1])[:, 1:3].amax(0)
        )
        return rows * 2, columns * 2
    if "img_shapes" in inputs:  # the same, told by the number of tokens along each side
        shape = inputs["img_shapes"][0]
        _, rows, columns = shape[0] if isinstance(shape[0], (list, tuple)) else shape
        return int(rows) * 2, int(columns) * 2
    return int(sample.shape[-2]), int(sample.shape[-1])


def unfolded(
    latents: torch.Tensor, height: int, width: int, scale: int, channels: int
) -> torch.Tensor:
    """Latents ``(B, C, h, w)`` as a picture has them; `height` and `width` are the picture's, in pixels.

    Four axes are taken as they are, a single frame ``(B, C, 1, h, w)`` loses its time, and tokens ``(B, P, D)`` are laid out
    row by row: 2×2 latent pixels a token where a token has four times the `channels`, else one.
    """
    if latents.ndim == 5:
        return latents.squeeze(2 if latents.shape[2] == 1 else 1)
    if latents.ndim != 3:
        return latents
    count, tokens, depth = latents.shape
    rows, columns = height // scale, width // scale
    if tokens == rows * columns and depth != 4 * channels:
        return latents.transpose(1, 2).reshape(count, depth, rows, columns)
    if tokens != rows * columns:  # else the pipeline counts its patches as latent pixels
        rows, columns = -(-rows // 2), -(-columns // 2)
    if (
        tokens != rows * columns
    ):  # the pipeline chose another size of the same proportions (Kontext does)
        rows = round((tokens * rows / columns) ** 0.5)
        columns = tokens // max(rows, 1)
    if tokens != rows * columns or depth != 4 * channels:
        raise InvalidSettings(
            f"Latents of {tokens} tokens do not fill a picture of {width}×{height} pixels; make it in a size that the model "
            "keeps, such as its own."
        )
    patches = latents.reshape(count, rows, columns, depth // 4, 2, 2)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(count, depth // 4, rows * 2, columns * 2)


def laid_out(latents: torch.Tensor, layout: str) -> torch.Tensor:
    """Latents ``(B, C, h, w)`` as a family takes them from outside; `layout` as `Family.layout` tells."""
    if layout in ("plain", "network"):
        return latents
    patches = torch.nn.functional.pixel_unshuffle(latents, 2)
    return patches if layout == "patches" else patches.flatten(2).transpose(1, 2)


def folded(latents: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Latents ``(B, C, h, w)`` in the form, precision and place of `like`; the way back from `unfolded`."""
    if like.ndim == 5:
        latents = latents.unsqueeze(2 if like.shape[2] == 1 else 1)
    elif like.ndim == 3:
        count, depth, rows, columns = latents.shape
        if like.shape[1] == rows * columns:
            latents = latents.reshape(count, depth, rows * columns).transpose(1, 2)
        else:
            patches = latents.reshape(count, depth, rows // 2, 2, columns // 2, 2).permute(
                0, 2, 4, 1, 3, 5
            )
            latents = patches.reshape(count, rows * columns // 4, depth * 4)
    return latents.to(like)
