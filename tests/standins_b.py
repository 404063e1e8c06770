"""More small pipelines with random weights, built from the real classes of each model family, offline."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace

import torch
from diffusers import (
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLHunyuanImage,
    AutoencoderKLQwenImage,
    AutoencoderKLWan,
    AutoencoderTiny,
    BriaFiboPipeline,
    BriaFiboTransformer2DModel,
    BriaPipeline,
    BriaTransformer2DModel,
    DDIMScheduler,
    DDPMScheduler,
    DDPMWuerstchenScheduler,
    DPMSolverMultistepScheduler,
    DreamLiteMobilePipeline,
    DreamLitePipeline,
    DreamLiteUNetModel,
    ErnieImagePipeline,
    ErnieImageTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    HunyuanDiT2DModel,
    HunyuanDiTPAGPipeline,
    HunyuanDiTPipeline,
    HunyuanImagePipeline,
    HunyuanImageTransformer2DModel,
    Ideogram4Pipeline,
    Ideogram4Transformer2DModel,
    IFPipeline,
    Kandinsky3Pipeline,
    Kandinsky3UNet,
    Kandinsky5T2IPipeline,
    Kandinsky5Transformer3DModel,
    KandinskyCombinedPipeline,
    KandinskyV22CombinedPipeline,
    LongCatImagePipeline,
    LongCatImageTransformer2DModel,
    NucleusMoEImagePipeline,
    NucleusMoEImageTransformer2DModel,
    OvisImagePipeline,
    OvisImageTransformer2DModel,
    PixArtSigmaPAGPipeline,
    PixArtTransformer2DModel,
    PriorTransformer,
    PRXPipeline,
    PRXPixelPipeline,
    PRXTransformer2DModel,
    StableCascadeCombinedPipeline,
    StableCascadeUNet,
    StableUnCLIPPipeline,
    UnCLIPScheduler,
    VQModel,
)
from diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model import PaellaVQModel
from diffusers.pipelines.ideogram4.pipeline_ideogram4 import QWEN3_VL_ACTIVATION_LAYERS
from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP
from diffusers.pipelines.longcat_image.system_messages import SYSTEM_PROMPT_EN
from diffusers.pipelines.pag.pipeline_pag_kolors import KolorsPAGPipeline
from diffusers.pipelines.prx import pipeline_prx, pipeline_prx_pixel
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import (
    StableUnCLIPImageNormalizer,
)
from diffusers.utils import is_ftfy_available
from families import WIDTH, autoencoder, clip_config, clip_tokenizer, t5, unet
from standin_tokenizers import processor
from standins_a import kolors
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    ByT5Tokenizer,
    CLIPImageProcessor,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Ministral3Config,
    Mistral3Config,
    Mistral3Model,
    PixtralVisionConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLProcessor,
    Qwen3Config,
    Qwen3Model,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    SmolLM3Config,
    SmolLM3ForCausalLM,
    T5Config,
    T5EncoderModel,
    T5GemmaConfig,
    T5GemmaModuleConfig,
    UMT5Config,
    UMT5EncoderModel,
    XLMRobertaTokenizer,
)
from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

from sdkit.pocket.world import objects, words

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for part in m['content'] %}{{ part['text'] }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# the words of the pipelines' own templates: where one is dropped by its length, that length must be the real one
TEMPLATES = (
    "Describe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships of the "
    "objects and background: a user system assistant cat dog You are a prompt engineer"
)
LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())


def chat_tokenizer(*, padding_side="right", start=None, text="", kind=PreTrainedTokenizerFast):
    """A byte-level tokenizer with a chat template, in which each word of Pocket's world is one token."""
    spoken = sorted({*words(objects(64)), *re.findall(r"\w+", TEMPLATES + text)})
    spelled = dict.fromkeys([*SPECIAL, *LETTERS, *spoken, *("Ġ" + word for word in spoken)])
    tokens = {token: i for i, token in enumerate(spelled)}
    backend = Tokenizer(models.BPE(tokens, merges=[], ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    if start:
        begun = processors.TemplateProcessing(f"{start} $A", None, [(start, tokens[start])])
        backend.post_processor = processors.Sequence([backend.post_processor, begun])
    backend.decoder = decoders.ByteLevel()
    return kind(
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


def lively(network, gain=2.0):
    """Fresh weights of so small a network hardly heed the prompt, and layers that begin at zero keep it out."""
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1 and not weight.any():
                torch.nn.init.normal_(weight, std=0.1)
            elif weight.ndim > 1:
                weight.mul_(gain)
    return network.eval()


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
        "initializer_range": 0.3,  # with the usual 0.02 all prompts read alike in so narrow a model
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 0,
    } | changes


def qwen25_vl(tokenizer):
    text = language_model(
        tokenizer,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]},
    )
    vision = {
        "depth": 1,
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_heads": 2,
        "out_hidden_size": WIDTH,
        "fullatt_block_indexes": [0],
    }
    ids = {
        "vision_start_token_id": 3,
        "vision_end_token_id": 4,
        "image_token_id": 5,
        "video_token_id": 6,
    }
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)
    ).eval()


def qwen3_vl(tokenizer, **changes):
    rope = {
        "rope_type": "default",
        "rope_theta": 1e4,
        "mrope_section": [4, 2, 2],
        "mrope_interleaved": True,
    }
    text = language_model(tokenizer, head_dim=16, rope_parameters=rope, **changes)
    vision = {
        "depth": 1,
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_heads": 2,
        "out_hidden_size": WIDTH,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0],
    }
    ids = {
        "vision_start_token_id": 3,
        "vision_end_token_id": 4,
        "image_token_id": 5,
        "video_token_id": 6,
    }
    return Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(text_config=text, vision_config=vision, **ids)
    ).eval()


def without_ftfy(module):
    """PRX repairs broken text with ftfy and fails without it, though a sound prompt comes out as it went in."""
    if not is_ftfy_available():
        module.ftfy = SimpleNamespace(fix_text=str)


def aura_flow():
    torch.manual_seed(0)
    encoder, letters = t5()
    config = UMT5Config(
        **{k: encoder.config.to_dict()[k] for k in ("vocab_size", "d_model", "d_ff", "d_kv")}
    )
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
        transformer=lively(transformer),
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
            T5Config(
                vocab_size=len(bytes_), d_model=WIDTH, d_ff=WIDTH, num_layers=1, num_heads=2, d_kv=8
            )
        ).eval(),
        tokenizer_2=bytes_,
        transformer=lively(transformer),
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
        transformer=lively(transformer),
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
        transformer=lively(transformer),
    )


def bria_fibo():
    torch.manual_seed(0)
    tokenizer = chat_tokenizer()
    # the pipeline writes this token itself for an empty negative prompt
    config = SmolLM3Config(**language_model(tokenizer, vocab_size=128001))
    transformer = BriaFiboTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=2 * WIDTH,
        text_encoder_dim=WIDTH,
        axes_dims_rope=[4, 4, 8],
    )
    vae = AutoencoderKLWan(  # as the one of Wan 2.2, which the pipeline's factor of 16 is for
        base_dim=8,
        decoder_base_dim=8,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
    )
    return BriaFiboPipeline(
        transformer=lively(transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae.eval(),
        text_encoder=SmolLM3ForCausalLM(config).eval(),
        tokenizer=tokenizer,
    )


def prx():
    torch.manual_seed(0)
    without_ftfy(pipeline_prx)
    tokenizer = chat_tokenizer()
    tokenizer.model_max_length = 32
    half = T5GemmaModuleConfig(**language_model(tokenizer), head_dim=16, query_pre_attn_scalar=16)
    config = T5GemmaConfig(encoder=half, decoder=half)
    transformer = PRXTransformer2DModel(
        context_in_dim=WIDTH, hidden_size=32, num_heads=2, depth=1, axes_dim=[8, 8]
    )
    return PRXPipeline(
        transformer=lively(transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        text_encoder=T5GemmaEncoder(config.encoder).eval(),
        tokenizer=tokenizer,
        vae=autoencoder(16).eval(),
    )


def movq(levels=2):
    return VQModel(
        block_out_channels=(32,)
        * levels,  # spatial norms have 32 groups, whatever else is asked for
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=4,
        num_vq_embeddings=16,
        vq_embed_dim=4,
        norm_type="spatial",
    ).eval()


def kandinsky3():
    torch.manual_seed(0)
    encoder, letters = t5()
    network = Kandinsky3UNet(
        time_embedding_dim=16,
        groups=4,
        attention_head_dim=8,
        block_out_channels=(16, 16, 32, 32),
        layers_per_block=2,
        cross_attention_dim=WIDTH,
        encoder_hid_dim=WIDTH,
    )
    return Kandinsky3Pipeline(
        tokenizer=letters,
        text_encoder=encoder,
        unet=network.eval(),
        scheduler=DDPMScheduler(),
        movq=movq(4),
    )


def image_prior(tokenizer):
    """A network from words to a picture's CLIP embedding."""
    prior = PriorTransformer(
        num_attention_heads=2, attention_head_dim=8, num_layers=1, embedding_dim=WIDTH
    )
    prior.clip_std.data.fill_(
        1
    )  # a new one has zeros here, which would make every embedding nothing
    return prior.eval(), CLIPTextModelWithProjection(clip_config(len(tokenizer))).eval()


def kandinsky_prior():
    tokenizer = clip_tokenizer()
    prior, encoder = image_prior(tokenizer)
    vision = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    return {
        "prior_prior": prior,
        "prior_image_encoder": CLIPVisionModelWithProjection(vision).eval(),
        "prior_text_encoder": encoder,
        "prior_tokenizer": tokenizer,
        "prior_scheduler": UnCLIPScheduler(prediction_type="sample", clip_sample_range=5.0),
        "prior_image_processor": CLIPImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        ),
    }


def kandinsky_unet(kind):
    return unet(
        out_channels=8,
        addition_embed_type=kind,
        encoder_hid_dim_type=f"{kind}_proj",
        encoder_hid_dim=WIDTH,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        attention_head_dim=8,
        resnet_time_scale_shift="scale_shift",
    ).eval()


def kandinsky():
    torch.manual_seed(0)
    letters = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0)]
    letters += [(c, -2.0) for c in "abcdefghijklmnopqrstuvwxyz,"] + [("<mask>", 0.0)]
    config = MCLIPConfig(
        transformerDimSize=WIDTH,
        imageDimSize=WIDTH,
        vocab_size=len(letters),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=100,
    )
    return KandinskyCombinedPipeline(
        text_encoder=MultilingualCLIP(config).eval(),
        tokenizer=XLMRobertaTokenizer(vocab=letters),
        unet=kandinsky_unet("text_image"),
        scheduler=DDIMScheduler(clip_sample=False),
        movq=movq(),
        **kandinsky_prior(),
    )


def kandinsky22():
    torch.manual_seed(0)
    return KandinskyV22CombinedPipeline(
        unet=kandinsky_unet("image"),
        scheduler=DDPMScheduler(clip_sample=False),
        movq=movq(),
        **kandinsky_prior(),
    )


def kandinsky5():
    torch.manual_seed(0)
    tokenizer, second = chat_tokenizer(), clip_tokenizer()
    transformer = Kandinsky5Transformer3DModel(
        in_visual_dim=16,
        out_visual_dim=16,
        in_text_dim=WIDTH,
        in_text_dim2=WIDTH,
        time_dim=16,
        model_dim=32,
        ff_dim=32,
        num_text_blocks=1,
        num_visual_blocks=1,
        axes_dims=(4, 4, 8),
    )
    pipe = Kandinsky5T2IPipeline(
        transformer=lively(transformer),
        vae=eightfold_autoencoder(16).eval(),
        text_encoder=qwen25_vl(tokenizer),
        tokenizer=processor(Qwen2VLProcessor, tokenizer),
        text_encoder_2=CLIPTextModel(clip_config(len(second))).eval(),
        tokenizer_2=second,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )
    pipe.resolutions = [
        (32, 32)
    ]  # every other size is turned into one of these, the real ones being of 1024
    return pipe


def stable_cascade():
    torch.manual_seed(0)
    tokenizer, second = clip_tokenizer(), clip_tokenizer()
    attending = ("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock")
    shared = {
        "timestep_ratio_embedding_dim": 16,
        "conditioning_dim": WIDTH,
        "block_out_channels": (32, 32),
        "num_attention_heads": (2, 2),
        "down_num_layers_per_block": (1, 1),
        "up_num_layers_per_block": (1, 1),
        "clip_text_pooled_in_channels": WIDTH,
        "dropout": (0.0, 0.0),
    }
    prior = StableCascadeUNet(
        **shared,
        block_types_per_layer=(attending, attending),
        clip_text_in_channels=WIDTH,
        clip_image_in_channels=WIDTH,
        switch_level=(False,),
    )
    decoder = StableCascadeUNet(
        **shared,
        in_channels=4,
        out_channels=4,
        patch_size=2,
        block_types_per_layer=(attending[:2], attending),
        effnet_in_channels=16,
        pixel_mapper_in_channels=3,
        timestep_conditioning_type=("sca",),
    )
    return StableCascadeCombinedPipeline(
        tokenizer=tokenizer,
        text_encoder=CLIPTextModelWithProjection(clip_config(len(tokenizer))).eval(),
        decoder=decoder.eval(),
        scheduler=DDPMWuerstchenScheduler(),
        vqgan=PaellaVQModel(bottleneck_blocks=1, embed_dim=16, num_vq_embeddings=16).eval(),
        prior_prior=prior.eval(),
        prior_text_encoder=CLIPTextModelWithProjection(clip_config(len(second))).eval(),
        prior_tokenizer=second,
        prior_scheduler=DDPMWuerstchenScheduler(),
    )


def nucleus_image():
    torch.manual_seed(0)
    tokenizer = chat_tokenizer()
    transformer = NucleusMoEImageTransformer2DModel(
        out_channels=16,
        num_layers=5,  # the first three and the last are dense
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
        num_experts=4,
        moe_intermediate_dim=16,
        capacity_factors=2.0,
    )
    for weight in transformer.parameters():
        if weight.ndim == 3:  # a new network has whatever was in memory where its experts should be
            torch.nn.init.normal_(weight, std=0.02)
    return NucleusMoEImagePipeline(
        transformer=lively(transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKLQwenImage(
            base_dim=8, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[False]
        ).eval(),
        text_encoder=qwen3_vl(
            tokenizer, num_hidden_layers=8
        ),  # the eighth from the end is what the network reads
        processor=processor(Qwen3VLProcessor, tokenizer),
    )


def dream_lite_parts():
    tokenizer = chat_tokenizer()
    network = DreamLiteUNetModel(
        block_out_channels=(16, 32, 32),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        addition_embed_type="time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=16,
        ff_mult=2,
    )
    vae = AutoencoderTiny(
        encoder_block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        num_encoder_blocks=(1,) * 4,
        num_decoder_blocks=(1,) * 4,
    )
    return {
        "text_encoder": qwen3_vl(tokenizer),
        "tokenizer": tokenizer,
        "processor": processor(Qwen3VLProcessor, tokenizer),
        "vae": vae.eval(),
        "unet": lively(network),
        "scheduler": FlowMatchEulerDiscreteScheduler(),
    }


def dream_lite():
    torch.manual_seed(0)
    return DreamLitePipeline(**dream_lite_parts())


def dream_lite_mobile():
    torch.manual_seed(0)
    return DreamLiteMobilePipeline(**dream_lite_parts())


def deepfloyd():
    torch.manual_seed(0)
    encoder, letters = t5()
    network = unet(
        in_channels=3,
        out_channels=6,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        attention_head_dim=8,
        encoder_hid_dim=WIDTH,
        encoder_hid_dim_type="text_proj",
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        resnet_time_scale_shift="scale_shift",
        sample_size=32,
    )
    return IFPipeline(
        tokenizer=letters,
        text_encoder=encoder,
        unet=network.eval(),
        scheduler=DDPMScheduler(variance_type="learned_range", thresholding=True),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )


def stable_unclip():
    torch.manual_seed(0)
    tokenizer, second = clip_tokenizer(), clip_tokenizer()
    prior, prior_encoder = image_prior(tokenizer)
    return StableUnCLIPPipeline(
        prior_tokenizer=tokenizer,
        prior_text_encoder=prior_encoder,
        prior=prior,
        prior_scheduler=UnCLIPScheduler(prediction_type="sample", clip_sample_range=5.0),
        image_normalizer=StableUnCLIPImageNormalizer(embedding_dim=WIDTH),
        image_noising_scheduler=DDPMScheduler(),
        tokenizer=second,
        text_encoder=CLIPTextModel(clip_config(len(second))).eval(),
        unet=unet(
            class_embed_type="projection", projection_class_embeddings_input_dim=2 * WIDTH
        ).eval(),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1, set_alpha_to_one=False),
        vae=autoencoder().eval(),
    )


def prx_pixel():
    torch.manual_seed(0)
    without_ftfy(pipeline_prx_pixel)
    tokenizer = chat_tokenizer()
    transformer = PRXTransformer2DModel(
        in_channels=3,
        patch_size=4,
        context_in_dim=WIDTH,
        hidden_size=32,
        num_heads=2,
        depth=1,
        axes_dim=[8, 8],
        bottleneck_size=16,
        resolution_embeds=True,
    )
    return PRXPixelPipeline(
        transformer=lively(transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        text_encoder=Qwen3Model(Qwen3Config(**language_model(tokenizer), head_dim=16)).eval(),
        tokenizer=tokenizer,
        prompt_max_tokens=32,
    )


def flux2_autoencoder():
    return AutoencoderKLFlux2(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
    ).eval()


def ernie_image():
    torch.manual_seed(0)
    tokenizer = chat_tokenizer(start="<|endoftext|>")
    vision = {
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 16,
        "image_size": 32,
        "patch_size": 16,
    }
    words_ = Ministral3Config(
        **language_model(tokenizer),
        head_dim=16,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 1e4,
            "llama_4_scaling_beta": 0.1,
            "original_max_position_embeddings": 2048,
        },
    )
    transformer = ErnieImageTransformer2DModel(
        hidden_size=32,
        num_attention_heads=2,
        num_layers=1,
        ffn_hidden_size=32,
        in_channels=16,
        out_channels=16,
        text_in_dim=WIDTH,
        rope_axes_dim=(4, 4, 8),
    )
    config = Mistral3Config(
        text_config=words_, vision_config=PixtralVisionConfig(**vision), image_token_index=5
    )
    return ErnieImagePipeline(
        transformer=lively(transformer),
        vae=flux2_autoencoder(),
        text_encoder=Mistral3Model(config).eval(),
        tokenizer=tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )


def longcat_image():
    torch.manual_seed(0)
    tokenizer = chat_tokenizer(text=SYSTEM_PROMPT_EN)
    encoder = qwen25_vl(tokenizer)
    # unless it is told not to, the pipeline lets this model write the prompt anew: one word is enough
    encoder.generation_config.eos_token_id = list(range(len(tokenizer)))
    transformer = LongCatImageTransformer2DModel(
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=[4, 4, 8],
    )
    return LongCatImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=autoencoder(16).eval(),
        text_encoder=encoder,
        tokenizer=tokenizer,
        text_processor=processor(Qwen2VLProcessor, tokenizer),
        transformer=lively(transformer),
    )


def ideogram4():
    torch.manual_seed(0)
    tokenizer = chat_tokenizer()
    encoder = qwen3_vl(
        tokenizer,
        num_hidden_layers=1 + QWEN3_VL_ACTIVATION_LAYERS[-1],
        hidden_size=8,
        intermediate_size=8,
    )

    def network():
        made = Ideogram4Transformer2DModel(
            in_channels=16,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            intermediate_size=32,
            adaln_dim=16,
            llm_features_dim=8 * len(QWEN3_VL_ACTIVATION_LAYERS),
            rope_theta=10000,
            mrope_section=(4, 2, 2),
        )
        return lively(made, gain=4.0)

    return Ideogram4Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=flux2_autoencoder(),
        text_encoder=encoder.model,
        tokenizer=tokenizer,
        transformer=network(),
        unconditional_transformer=network(),
    )


def hunyuan_dit_pag():
    torch.manual_seed(0)
    return HunyuanDiTPAGPipeline(**hunyuan_parts(), pag_applied_layers=["blocks.1"])


def pixart_sigma_pag():
    torch.manual_seed(0)
    encoder, letters = t5()
    transformer = PixArtTransformer2DModel(
        num_layers=2,
        sample_size=16,
        attention_head_dim=8,
        num_attention_heads=4,
        cross_attention_dim=32,
        caption_channels=WIDTH,
        use_additional_conditions=False,
    )
    return PixArtSigmaPAGPipeline(
        tokenizer=letters,
        text_encoder=encoder,
        vae=autoencoder().eval(),
        transformer=lively(transformer),
        scheduler=DPMSolverMultistepScheduler(),
        pag_applied_layers=["blocks.1"],
    )


def kolors_pag():
    return KolorsPAGPipeline(**kolors().components, pag_applied_layers=["mid"])


STANDINS_B: dict[str, Callable] = {
    "aura-flow": aura_flow,
    "hunyuan-dit": hunyuan_dit,
    "hunyuan-image": hunyuan_image,
    "bria": bria,
    "ovis-image": ovis_image,
    "bria-fibo": bria_fibo,
    "prx": prx,
    "kandinsky3": kandinsky3,
    "kandinsky": kandinsky,
    "kandinsky22": kandinsky22,
    "kandinsky5": kandinsky5,
    "stable-cascade": stable_cascade,
    "nucleus-image": nucleus_image,
    "dream-lite": dream_lite,
    "dream-lite-mobile": dream_lite_mobile,
    "deepfloyd": deepfloyd,
    "stable-unclip": stable_unclip,
    "prx-pixel": prx_pixel,
    "ernie-image": ernie_image,
    "longcat-image": longcat_image,
    "ideogram4": ideogram4,
    "hunyuan-dit-pag": hunyuan_dit_pag,
    "pixart-sigma-pag": pixart_sigma_pag,
    "kolors-pag": kolors_pag,
}

# width and height where a family cannot draw 32×32
SIZES: dict[str, int] = {"kandinsky3": 64, "stable-cascade": 128}
