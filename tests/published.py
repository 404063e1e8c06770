"""Checkpoints in their published shapes, as folders of headers without weights: what a memory plan reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

AUTOENCODER = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "sample_size": 512,
}
SD15 = {
    "sample_size": 64,
    "cross_attention_dim": 768,
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": 8,
}
SDXL = {
    "sample_size": 128,
    "cross_attention_dim": 2048,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SD35 = {
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 24,
    "attention_head_dim": 64,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 1536,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 384,
    "dual_attention_layers": tuple(range(13)),
    "qk_norm": "rms_norm",
}
FLUX = {"in_channels": 64, "num_layers": 19, "num_single_layers": 38, "guidance_embeds": True}
_CLIP_L = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}
_CLIP_G = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
}


def parts(family: str) -> dict[str, tuple[str, Any]]:
    """The networks of "sd15" or "sdxl" on the `meta` device: part → library and network."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    with torch.device("meta"):
        small = CLIPTextModel(CLIPTextConfig(vocab_size=49408, **_CLIP_L))
        if family == "sdxl":
            large = CLIPTextModelWithProjection(
                CLIPTextConfig(vocab_size=49408, projection_dim=1280, **_CLIP_G)
            )
            vae = AutoencoderKL(**AUTOENCODER | {"sample_size": 1024}, force_upcast=True)
            return {
                "vae": ("diffusers", vae),
                "text_encoder": ("transformers", small),
                "text_encoder_2": ("transformers", large),
                "unet": ("diffusers", UNet2DConditionModel(**SDXL)),
            }
        return {
            # the published file predates the setting, whose default is True; only SDXL's pipeline acts on it
            "vae": ("diffusers", AutoencoderKL(**AUTOENCODER, force_upcast=False)),
            "text_encoder": ("transformers", small),
            "unet": ("diffusers", UNet2DConditionModel(**SD15)),
            "safety_checker": ("stable_diffusion", _safety_checker()),
        }


def _safety_checker() -> Any:
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14}  # fmt: skip
    return StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=768))


def write(folder: Path, family: str) -> Path:
    """A diffusers folder whose safetensors files end after their headers."""
    networks = parts(family)
    for name, (_, network) in networks.items():
        (folder / name).mkdir(parents=True)
        config = network.config if isinstance(network.config, dict) else network.config.to_dict()
        (folder / name / "config.json").write_text(json.dumps(dict(config), default=str))
        library = "model" if name.startswith(("text", "safety")) else "diffusion_pytorch_model"
        write_header(folder / name / f"{library}.safetensors", network.state_dict())
    pipeline = {"sd15": "StableDiffusionPipeline", "sdxl": "StableDiffusionXLPipeline"}[family]
    index = {
        name: [library, type(network).__name__] for name, (library, network) in networks.items()
    }
    (folder / "model_index.json").write_text(json.dumps({"_class_name": pipeline, **index}))
    return folder


def write_header(path: Path, tensors: Any) -> None:
    """The first part of a safetensors file in half precision: eight bytes of length, and the list of tensors."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, tensor in tensors.items():
        kind, size = ("F16", 2) if tensor.is_floating_point() else ("I64", 8)
        header[name] = {
            "dtype": kind,
            "shape": list(tensor.shape),
            "data_offsets": [end, end + size * tensor.numel()],
        }
        end += size * tensor.numel()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
