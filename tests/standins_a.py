"""Stand-ins of the families that people run today: their real diffusers classes, with small random weights, offline."""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from families import WIDTH, autoencoder
from standin_tokenizers import qwen_tokenizer
from transformers import (
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
)

# a text encoder of the decoder kind, as small as its parts allow
DECODER = {
    "hidden_size": WIDTH,
    "intermediate_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    # with the default of 0.02 every prompt would read alike in so narrow a model
    "initializer_range": 0.3,
}


def flux2_autoencoder():
    """Its latents are normalised by running statistics, which are not those of a fresh layer here."""
    made = AutoencoderKLFlux2(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=32,
    )
    made.bn.running_mean.normal_(std=0.1)
    made.bn.running_var.uniform_(0.5, 2)
    return made.eval()


def flux2_transformer(**changes):
    settings = {
        "in_channels": 16,
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 3 * WIDTH,  # three layers of the text encoder side by side
        "timestep_guidance_channels": 16,
        "axes_dims_rope": (4, 4, 4, 4),
    }
    return Flux2Transformer2DModel(**settings | changes).eval()


def flux2_klein(*, is_distilled=False):
    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    # the pipeline reads the layers 9, 18 and 27
    text = Qwen3Config(vocab_size=len(tokenizer), **DECODER | {"num_hidden_layers": 28})
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=flux2_autoencoder(),
        text_encoder=Qwen3ForCausalLM(text).eval(),
        tokenizer=tokenizer,
        transformer=flux2_transformer(guidance_embeds=False),
        is_distilled=is_distilled,
    )


def z_image():
    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    transformer = ZImageTransformer2DModel(
        in_channels=16,
        dim=WIDTH,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=WIDTH,
        axes_dims=[4, 6, 6],
        axes_lens=[1024, 64, 64],
    )
    # no constructor gives the two tokens of padding a value
    torch.nn.init.normal_(transformer.x_pad_token)
    torch.nn.init.normal_(transformer.cap_pad_token)
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder(16).eval(),
        text_encoder=Qwen3Model(Qwen3Config(vocab_size=len(tokenizer), **DECODER)).eval(),
        tokenizer=tokenizer,
        transformer=transformer.eval(),
    )


STANDINS_A = {
    "flux2_klein": flux2_klein,
    "z_image": z_image,
}

# the side of the smallest picture, for those that cannot make one of 32 × 32
SIZES_A: dict[str, int] = {}
