"""A Stable Diffusion 1.x pipeline under the names of the original release, as single-file checkpoints hold it."""

from __future__ import annotations

import re

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET_ENDS = {
    "conv_in.": "input_blocks.0.0.",
    "time_embedding.linear_1.": "time_embed.0.",
    "time_embedding.linear_2.": "time_embed.2.",
    "conv_norm_out.": "out.0.",
    "conv_out.": "out.2.",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def unet_name(name, layers):
    for new, old in UNET_ENDS.items():
        if name.startswith(new):
            return old + name[len(new) :]
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
    name = re.sub(r"mid_block\.resnets\.(\d)\.", lambda found: f"mid.block_{int(found[1]) + 1}.", name)
    name = re.sub(r"resnets\.(\d)\.", r"block.\1.", name)
    name = re.sub(r"(down|up)samplers\.0\.", r"\1sample.", name)
    if "mid_block.attentions.0." in name:
        name = name.replace("mid_block.attentions.0.", "mid.attn_1.")
        for new, old in VAE_ATTENTION.items():
            name = name.replace(f".{new}.", f".{old}.")
    return name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")


def original(pipe):
    """The weights of a pipeline under their original names."""
    layers, blocks = pipe.unet.config.layers_per_block, len(pipe.vae.config.block_out_channels)
    names = {name: unet_name(name, layers) for name in pipe.unet.state_dict()}
    weights = {}
    for name, value in pipe.unet.state_dict().items():
        block = names[name].split(".UP.")[0]
        attended = any(n.startswith(f"{block}.1.") for n in names.values())
        weights["model.diffusion_model." + names[name].replace(".UP.", ".2." if attended else ".1.")] = value
    for name, value in vae_weights(pipe.vae, blocks).items():
        weights[f"first_stage_model.{name}"] = value
    for name, value in pipe.text_encoder.state_dict().items():
        weights[f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}"] = value
    return {name: value.contiguous() for name, value in weights.items()}


def vae_weights(vae, blocks):
    """The weights of an autoencoder alone: what is a 1×1 convolution in the original is a linear layer in diffusers."""
    weights = {}
    for name, value in vae.state_dict().items():
        old = vae_name(name, blocks)
        conv = "attn_1" in old and value.ndim == 2
        weights[old] = (value[:, :, None, None] if conv else value).contiguous()
    return weights
