"""Pipelines under the names of the original releases, as single-file checkpoints hold them."""

from __future__ import annotations

import re

import torch
from diffusers.loaders.single_file_utils import DIFFUSERS_TO_LDM_MAPPING

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET_ENDS = (
    DIFFUSERS_TO_LDM_MAPPING["unet"]["layers"]
    | DIFFUSERS_TO_LDM_MAPPING["unet"]["addition_embed_type"]
)
OPEN_CLIP = DIFFUSERS_TO_LDM_MAPPING["openclip"]
SD3 = {
    "pos_embed.proj": "x_embedder.proj",
    "pos_embed.pos_embed": "pos_embed",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "transformer_blocks": "joint_blocks",
    "attn.to_add_out": "context_block.attn.proj",
    "attn.norm_added_": "context_block.attn.ln_",
    "attn.to_out.0": "x_block.attn.proj",
    "attn.norm_": "x_block.attn.ln_",
    "attn2.to_out.0": "x_block.attn2.proj",
    "attn2.norm_": "x_block.attn2.ln_",
    "norm1_context.linear": "context_block.adaLN_modulation.1",
    "norm1.linear": "x_block.adaLN_modulation.1",
    "ff_context.net.0.proj": "context_block.mlp.fc1",
    "ff_context.net.2": "context_block.mlp.fc2",
    "ff.net.0.proj": "x_block.mlp.fc1",
    "ff.net.2": "x_block.mlp.fc2",
}
VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def unet_name(name, layers):
    if name in UNET_ENDS:
        return UNET_ENDS[name]
    side, rest = name.split(".", 1)
    if side == "mid_block":
        kind, index, end = rest.split(".", 2)
        return f"middle_block.{1 if kind == 'attentions' else 2 * int(index)}.{resnet(kind, end)}"
    block, kind, index, end = rest.split(".", 3)
    block, index = int(block), int(index)
    if kind == "downsamplers":
        return f"input_blocks.{(block + 1) * (layers + 1)}.0.op.{end.removeprefix('conv.')}"
    part = 1 if kind == "attentions" else 0
    if side == "down_blocks":
        return f"input_blocks.{1 + block * (layers + 1) + index}.{part}.{resnet(kind, end)}"
    if kind == "upsamplers":
        return f"output_blocks.{block * (layers + 1) + layers}.UP.{end}"
    return f"output_blocks.{block * (layers + 1) + index}.{part}.{resnet(kind, end)}"


def resnet(kind, end):
    if kind != "resnets":
        return end
    first, last = end.rsplit(".", 1)
    return f"{RESNET[first]}.{last}"


def vae_name(name, blocks):
    def up(found):
        return f"up.{blocks - 1 - int(found[1])}."

    name = re.sub(r"up_blocks\.(\d)\.", up, name)
    name = re.sub(r"down_blocks\.(\d)\.", r"down.\1.", name)
    name = re.sub(
        r"mid_block\.resnets\.(\d)\.", lambda found: f"mid.block_{int(found[1]) + 1}.", name
    )
    name = re.sub(r"resnets\.(\d)\.", r"block.\1.", name)
    name = re.sub(r"(down|up)samplers\.0\.", r"\1sample.", name)
    if "mid_block.attentions.0." in name:
        name = name.replace("mid_block.attentions.0.", "mid.attn_1.")
        for new, old in VAE_ATTENTION.items():
            name = name.replace(f".{new}.", f".{old}.")
    return name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")


def original(pipe):
    """The weights of a pipeline under their original names: one function a family."""
    family = {"StableDiffusionXLPipeline": sdxl, "StableDiffusion3Pipeline": sd3}.get(
        type(pipe).__name__, sd
    )
    weights = family(pipe)
    weights |= prefixed(
        "first_stage_model.", vae_weights(pipe.vae, len(pipe.vae.config.block_out_channels))
    )
    return {name: value.contiguous().clone() for name, value in weights.items()}


def prefixed(prefix, weights):
    return {prefix + name: value for name, value in weights.items()}


def sd(pipe):
    """1.x with the text encoder of CLIP, or 2.x with that of OpenCLIP."""
    if not pipe.unet.config.use_linear_projection:
        return unet_weights(pipe.unet) | clip("cond_stage_model.transformer.", pipe.text_encoder)
    return unet_weights(pipe.unet) | prefixed(
        "cond_stage_model.model.", open_clip(pipe.text_encoder)
    )


def sdxl(pipe):
    first = clip("conditioner.embedders.0.transformer.", pipe.text_encoder)
    second = prefixed("conditioner.embedders.1.model.", open_clip(pipe.text_encoder_2))
    return unet_weights(pipe.unet) | first | second


def sd3(pipe):
    weights = {}
    last = f"transformer_blocks.{pipe.transformer.config.num_layers - 1}.norm1_context.linear."
    state = pipe.transformer.state_dict()
    for attention in ("attn", "attn2"):
        three = [f".{attention}.to_{n}." for n in "qkv"]
        state = fused(state, *three, f".x_block.{attention}.qkv.")
    for name, value in fused(
        state, *(f".attn.add_{n}_proj." for n in "qkv"), ".context_block.attn.qkv."
    ).items():
        if name.startswith(
            ("norm_out.", last)
        ):  # diffusers has scale and shift the other way round
            value = torch.cat(value.chunk(2)[::-1])  # noqa: PLW2901
        for new, old in SD3.items():
            name = name.replace(new, old)  # noqa: PLW2901
        weights[name.replace("proj_out.", "final_layer.linear.")] = value
    first = clip("text_encoders.clip_l.transformer.", pipe.text_encoder)
    first.pop(
        "text_encoders.clip_l.transformer.text_projection.weight"
    )  # the identity, and in no file
    return (
        prefixed("model.diffusion_model.", weights)
        | first
        | clip("text_encoders.clip_g.transformer.", pipe.text_encoder_2)
        | prefixed("text_encoders.t5xxl.transformer.", pipe.text_encoder_3.state_dict())
    )


def fused(weights, first, second, third, whole):
    """Three projections as one."""
    found = {}
    for name, value in weights.items():
        if first in name:
            found[name.replace(first, whole)] = torch.cat(
                [weights[name.replace(first, n)] for n in (first, second, third)]
            )
        elif second not in name and third not in name:
            found[name] = value
    return found


def unet_weights(unet):
    layers = unet.config.layers_per_block
    names = {name: unet_name(name, layers) for name in unet.state_dict()}
    weights = {}
    for name, value in unet.state_dict().items():
        block = names[name].split(".UP.")[0]
        attended = any(n.startswith(f"{block}.1.") for n in names.values())
        weights[
            "model.diffusion_model." + names[name].replace(".UP.", ".2." if attended else ".1.")
        ] = value
    return weights


def clip(prefix, encoder):
    """Hugging Face's own names, which have a prefix that its newer versions dropped."""
    return {
        prefix
        + (
            name
            if name.startswith("text_projection")
            else f"text_model.{name.removeprefix('text_model.')}"
        ): value
        for name, value in encoder.state_dict().items()
    }


def open_clip(encoder):
    """OpenCLIP's names, with the three projections of attention as one."""
    weights, whole = {}, clip("", encoder)
    for end in ("weight", "bias"):
        whole = fused(whole, *(f".{n}_proj.{end}" for n in "qkv"), f".in_proj_{end}")
    for name, value in whole.items():
        if name in OPEN_CLIP["layers"]:
            weights[OPEN_CLIP["layers"][name]] = (
                value.T if name.startswith("text_projection") else value
            )
        else:
            for new, old in OPEN_CLIP["transformer"].items():
                name = name.replace(new, old)  # noqa: PLW2901
            weights[f"transformer.{name}"] = value
    return weights


def vae_weights(vae, blocks):
    """The weights of an autoencoder alone: what is a 1×1 convolution in the original is a linear layer in diffusers."""
    weights = {}
    for name, value in vae.state_dict().items():
        old = vae_name(name, blocks)
        conv = "attn_1" in old and value.ndim == 2
        weights[old] = (value[:, :, None, None] if conv else value).contiguous()
    return weights
