"""Families by their weights alone: files in the original naming, and networks without a pipeline.

A single file has no configuration: what kind of model it holds stands in the names and shapes of its tensors.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

__all__ = ["MARKS", "PREFIXES", "PUBLISHED_AUTOENCODER", "inputs_for", "shape_of"]

# a key that only this family's single-file checkpoints have → the pipeline that reads them
MARKS = (
    ("joint_blocks.0.", "StableDiffusion3Pipeline"),
    ("double_blocks.0.", "FluxPipeline"),
    ("conditioner.embedders.1.", "StableDiffusionXLPipeline"),
    ("model.diffusion_model.input_blocks.", "StableDiffusionPipeline"),
)
# prefixes of names in single files → the part that diffusers makes of them; what has none of them is the denoiser
PREFIXES = (
    ("model_ema.", ""),  # a second copy for training, which nobody loads
    ("first_stage_model.", "vae"),
    ("vae.", "vae"),
    ("conditioner.embedders.1.", "text_encoder_2"),
    ("conditioner.", "text_encoder"),
    ("cond_stage_model.", "text_encoder"),
    ("text_encoders.clip_g.", "text_encoder_2"),
    ("text_encoders.t5xxl.", "text_encoder_3"),
    ("text_encoders.", "text_encoder"),
)
# every Stable Diffusion, XL and 3 and Flux publish the same autoencoder but for its latent channels
PUBLISHED_AUTOENCODER = {"block_out_channels": (128, 256, 512, 512), "sample_size": 512}


def shape_of(
    shapes: Mapping[str, tuple[int, ...]], parts: Container[str]
) -> tuple[str, dict[str, Any]]:
    """The denoiser's name and the part of its configuration that memory depends on, by its tensors and the other parts."""
    network, config = _shape(
        {key.removeprefix("model.diffusion_model."): shape for key, shape in shapes.items()}
    )
    if (
        "text_encoder_2" in parts and network == "unet"
    ):  # SDXL: no attention at first, and an autoencoder that overflows
        config |= {
            "down_block_types": ("Down", "CrossAttnDown", "CrossAttnDown"),
            "sample_size": 128,
        }
        config["addition_embed_type"] = "text_time"
        config["block_out_channels"] = config["block_out_channels"][:3]
    return network, config


def _shape(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, dict[str, Any]]:
    """What a denoiser's first layer says: its kind, and the part of its configuration that memory depends on."""
    if "input_blocks.0.0.weight" in shapes:
        width = shapes["input_blocks.0.0.weight"][0]
        kinds = ("CrossAttnDown", "CrossAttnDown", "CrossAttnDown", "Down")
        return "unet", {"block_out_channels": tuple(width * n for n in (1, 2, 4, 4)), "down_block_types": kinds, "sample_size": 64}  # fmt: skip
    if "x_embedder.proj.weight" in shapes:
        return "transformer", {
            "inner_dim": shapes["x_embedder.proj.weight"][0],
            "patch_size": 2,
            "sample_size": 128,
        }
    packed = shapes.get("img_in.weight", (3072,))  # Flux packs 2×2 latents before its first layer
    return "transformer", {
        "inner_dim": packed[0],
        "patch_size": 2,
        "sample_size": 128,
        "guidance_embeds": True,
    }


def inputs_for(
    config: Any, noise: Any, time: Any, *, rows: int, tokens: int
) -> dict[str, Any] | None:
    """What the denoisers of the families we know take at a time from 0 to 1000; None for others."""
    if "cross_attention_dim" in config:
        inputs = {
            "timestep": time,
            "sample": noise(1, config.in_channels, rows, rows),
            "encoder_hidden_states": noise(1, tokens, config.cross_attention_dim),
        }
        if config.get("addition_embed_type") == "text_time":
            pooled = (
                config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
            )
            inputs["added_cond_kwargs"] = {"text_embeds": noise(1, pooled), "time_ids": noise(1, 6)}
        return inputs
    if "joint_attention_dim" not in config or "pooled_projection_dim" not in config:
        return None
    inputs = {
        "encoder_hidden_states": noise(1, tokens, config.joint_attention_dim),
        "pooled_projections": noise(1, config.pooled_projection_dim),
    }
    if "axes_dims_rope" not in config:
        return inputs | {
            "timestep": time,
            "hidden_states": noise(1, config.in_channels, rows, rows),
        }
    if config.get("guidance_embeds"):
        inputs["guidance"] = noise(1).abs()
    patches = (rows // 2) ** 2
    return inputs | {
        "timestep": time / 1000,  # counted from 0 to 1
        "hidden_states": noise(1, patches, config.in_channels),
        "img_ids": noise(patches, 3) * 0,
        "txt_ids": noise(tokens, 3) * 0,
    }
