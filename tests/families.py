"""Small pipelines with random weights, built from the real classes of each model family, offline."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from sdkit.pocket.training.presets import PRESETS
from sdkit.pocket.training.tokenizer import build_tokenizer

WIDTH = 32


@cache
def _built():
    # one hand: what stand-ins are made of must not follow the words of the weights that ship
    return build_tokenizer(replace(PRESETS["pocket2"], hands=("noto",)))


def clip_tokenizer():
    tokenizer = copy.deepcopy(_built())
    tokenizer.model_max_length = 77
    return tokenizer


def clip_config(vocabulary, **changes):
    return CLIPTextConfig(
        **{
            "vocab_size": vocabulary,
            "hidden_size": WIDTH,
            "intermediate_size": WIDTH,
            "projection_dim": WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 77,
            "bos_token_id": vocabulary - 2,
            "eos_token_id": vocabulary - 1,
            "pad_token_id": vocabulary - 1,
        }
        | changes
    )


def t5():
    """A T5 encoder and a tokenizer of single letters."""
    letters = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0)] + [
        (c, -2.0) for c in "abcdefghijklmnopqrstuvwxyz,"
    ]
    tokenizer = T5TokenizerFast(vocab=letters, extra_ids=0)
    tokenizer.model_max_length = 77
    config = T5Config(
        vocab_size=len(letters), d_model=WIDTH, d_ff=WIDTH, num_layers=1, num_heads=2, d_kv=8
    )
    return T5EncoderModel(config).eval(), tokenizer


def autoencoder(channels=4):
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=32,
        **(
            {"use_quant_conv": False, "use_post_quant_conv": False, "shift_factor": 0.06}
            if channels == 16
            else {}
        ),
    )


def unet(**changes):
    settings = {
        "sample_size": 16,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 2,
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**settings | changes)


def sd15(*, network=None, prediction="epsilon"):
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    return StableDiffusionPipeline(
        vae=autoencoder(),
        text_encoder=CLIPTextModel(clip_config(len(tokenizer))).eval(),
        tokenizer=tokenizer,
        unet=(network or unet()).eval(),
        scheduler=DDIMScheduler(
            clip_sample=False, steps_offset=1, set_alpha_to_one=False, prediction_type=prediction
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sd21():
    """The architecture of 1.5, with linear projections and v-prediction."""
    return sd15(network=unet(use_linear_projection=True), prediction="v_prediction")


def sdxl():
    torch.manual_seed(0)
    one, two = clip_tokenizer(), clip_tokenizer()
    network = unet(
        cross_attention_dim=3 * WIDTH,
        transformer_layers_per_block=(1, 2),
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=WIDTH + 48,
        use_linear_projection=True,
    )
    return StableDiffusionXLPipeline(
        vae=autoencoder(),
        text_encoder=CLIPTextModel(clip_config(len(one))).eval(),
        text_encoder_2=CLIPTextModelWithProjection(
            clip_config(len(two), hidden_size=2 * WIDTH)
        ).eval(),
        tokenizer=one,
        tokenizer_2=two,
        unet=network.eval(),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1, set_alpha_to_one=False),
        add_watermarker=False,
    )


def sd3(*, qk_norm=None):
    torch.manual_seed(0)
    one, two = clip_tokenizer(), clip_tokenizer()
    encoder, letters = t5()
    transformer = SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=3 * WIDTH,
        caption_projection_dim=32,
        pooled_projection_dim=2 * WIDTH,
        out_channels=16,
        qk_norm=qk_norm,
        dual_attention_layers=(0,) if qk_norm else (),  # as 3.5 medium has them
    )
    return StableDiffusion3Pipeline(
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder(16),
        text_encoder=CLIPTextModelWithProjection(clip_config(len(one))).eval(),
        tokenizer=one,
        text_encoder_2=CLIPTextModelWithProjection(
            clip_config(len(two), hidden_size=2 * WIDTH)
        ).eval(),
        tokenizer_2=two,
        text_encoder_3=T5EncoderModel(
            T5Config(**encoder.config.to_dict() | {"d_model": 3 * WIDTH})
        ).eval(),
        tokenizer_3=letters,
    )


def flux():
    torch.manual_seed(0)
    one = clip_tokenizer()
    encoder, letters = t5()
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
    )
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder(16),
        text_encoder=CLIPTextModel(clip_config(len(one))).eval(),
        tokenizer=one,
        text_encoder_2=encoder,
        tokenizer_2=letters,
        transformer=transformer.eval(),
    )


FAMILIES = {"sd15": sd15, "sdxl": sdxl, "sd3": sd3, "flux": flux}
