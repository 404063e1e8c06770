"""More small pipelines with random weights, built from the real classes of each model family, offline."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from diffusers import (
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    AutoencoderKL,
    AutoencoderKLHunyuanImage,
    BriaPipeline,
    BriaTransformer2DModel,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    HunyuanDiT2DModel,
    HunyuanDiTPipeline,
    HunyuanImagePipeline,
    HunyuanImageTransformer2DModel,
    OvisImagePipeline,
    OvisImageTransformer2DModel,
)
from families import WIDTH, autoencoder, t5
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    ByT5Tokenizer,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from sdkit.pocket.training.presets import PRESETS
from sdkit.pocket.world import objects, words

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for part in m['content'] %}{{ part['text'] }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
# the words of the pipelines' own templates: where one is dropped by its length, that length must be the real one
TEMPLATES = (
    "Describe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships of the "
    "objects and background: a user system assistant cat dog"
)
LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())


def chat_tokenizer(*, padding_side="right"):
    """A byte-level tokenizer with a chat template, in which each word of Pocket's world is one token."""
    spoken = sorted({*words(objects(PRESETS["cpu"].objects)), *re.findall(r"\w+", TEMPLATES)})
    tokens = dict.fromkeys([*SPECIAL, *LETTERS, *spoken, *("Ġ" + word for word in spoken)])
    backend = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, merges=[], ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        chat_template=CHAT,
        model_max_length=512,
        padding_side=padding_side,
        pad_token=SPECIAL[0],
        eos_token="<|im_end|>",
        additional_special_tokens=[SPECIAL[1], *SPECIAL[3:]],
    )


def eightfold_autoencoder(channels=4):
    """For the pipelines that take a factor of 8 between picture and latents for granted."""
    return AutoencoderKL(
        block_out_channels=(4, 4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=32,
        shift_factor=0.06 if channels == 16 else None,
    )


def language_model(tokenizer, **changes):
    """The settings that the small decoders of words share."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 0,
    } | changes


def qwen25_vl(tokenizer):
    text = language_model(
        tokenizer, rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]}
    )
    vision = {
        "depth": 1,
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_heads": 2,
        "out_hidden_size": WIDTH,
        "fullatt_block_indexes": [0],
    }
    ids = {"vision_start_token_id": 3, "vision_end_token_id": 4, "image_token_id": 5, "video_token_id": 5}
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)).eval()


def aura_flow():
    torch.manual_seed(0)
    encoder, letters = t5()
    config = UMT5Config(**{k: encoder.config.to_dict()[k] for k in ("vocab_size", "d_model", "d_ff", "d_kv")})
    config.num_layers, config.num_heads = 1, 2
    transformer = AuraFlowTransformer2DModel(
        sample_size=16,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=WIDTH,
        caption_projection_dim=32,
        pos_embed_max_size=256,
    )
    return AuraFlowPipeline(
        tokenizer=letters,
        text_encoder=UMT5EncoderModel(config).eval(),
        vae=autoencoder().eval(),
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def bert():
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "dog", "red", "blue", "car"]
    letters = [chr(c) for c in range(ord("b"), ord("z") + 1)]
    pieces += [*letters, *("##" + c for c in ["a", *letters])]
    tokenizer = BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)})
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=WIDTH,
        max_position_embeddings=77,
    )
    tokenizer.model_max_length = 77
    return BertModel(config).eval(), tokenizer


def hunyuan_parts():
    encoder, tokenizer = bert()
    second, letters = t5()
    transformer = HunyuanDiT2DModel(
        sample_size=16,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=4,
        in_channels=4,
        cross_attention_dim=WIDTH,
        cross_attention_dim_t5=WIDTH,
        pooled_projection_dim=16,
        hidden_size=32,
        activation_fn="gelu-approximate",
        use_style_cond_and_image_meta_size=False,
    )
    return {
        "vae": eightfold_autoencoder().eval(),
        "text_encoder": encoder,
        "tokenizer": tokenizer,
        "transformer": transformer.eval(),
        "scheduler": DDPMScheduler(prediction_type="v_prediction"),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
        "text_encoder_2": second,
        "tokenizer_2": letters,
    }


def hunyuan_dit():
    torch.manual_seed(0)
    return HunyuanDiTPipeline(**hunyuan_parts())


def hunyuan_image():
    torch.manual_seed(0)
    tokenizer = chat_tokenizer()
    bytes_ = ByT5Tokenizer()
    transformer = HunyuanImageTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=WIDTH,
        text_embed_2_dim=WIDTH,
        rope_axes_dim=(8, 8),
    )
    vae = AutoencoderKLHunyuanImage(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(32, 32),
        layers_per_block=1,
        spatial_compression_ratio=2,
        sample_size=32,
        scaling_factor=0.476986,
    )
    return HunyuanImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae.eval(),
        text_encoder=qwen25_vl(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=T5EncoderModel(
            T5Config(vocab_size=len(bytes_), d_model=WIDTH, d_ff=WIDTH, num_layers=1, num_heads=2, d_kv=8)
        ).eval(),
        tokenizer_2=bytes_,
        transformer=transformer.eval(),
    )


def bria():
    torch.manual_seed(0)
    encoder, letters = t5()
    transformer = BriaTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        axes_dims_rope=[4, 4, 8],
    )
    return BriaPipeline(
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder().eval(),
        text_encoder=encoder,
        tokenizer=letters,
    )


def ovis_image():
    torch.manual_seed(0)
    tokenizer = chat_tokenizer()
    transformer = OvisImageTransformer2DModel(
        in_channels=64,
        out_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
    )
    return OvisImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder(16).eval(),
        text_encoder=Qwen3Model(Qwen3Config(**language_model(tokenizer), head_dim=16)).eval(),
        tokenizer=tokenizer,
        transformer=transformer.eval(),
    )


STANDINS_B: dict[str, Callable] = {
    "aura-flow": aura_flow,
    "hunyuan-dit": hunyuan_dit,
    "hunyuan-image": hunyuan_image,
    "bria": bria,
    "ovis-image": ovis_image,
}

# what the bare call needs besides a prompt, steps and a size: some pipelines round a small size up to a large one
CALLS: dict[str, dict] = {"hunyuan-dit": {"use_resolution_binning": False}}

# width and height where a family cannot draw 32×32
SIZES: dict[str, int] = {}
