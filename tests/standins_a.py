"""Stand-ins of the families that people run today: their real diffusers classes, with small random weights, offline."""

from __future__ import annotations

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    AutoencoderKLQwenImage21,
    ChromaPipeline,
    ChromaTransformer2DModel,
    CogVideoXDDIMScheduler,
    CogView3PlusPipeline,
    CogView3PlusTransformer2DModel,
    CogView4Pipeline,
    CogView4Transformer2DModel,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinKVPipeline,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    FluxKontextPipeline,
    FluxTransformer2DModel,
    HiDreamImagePipeline,
    HiDreamImageTransformer2DModel,
    Krea2Pipeline,
    Krea2Transformer2DModel,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    QwenImage21Pipeline,
    QwenImage21Transformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SCMScheduler,
    StableDiffusionPAGPipeline,
    StableDiffusionXLPAGPipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)

# through diffusers itself it asks for SentencePiece, which only the released tokenizer needs
from diffusers.pipelines.kolors.pipeline_kolors import KolorsPipeline
from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig, ChatGLMModel
from families import WIDTH, autoencoder, clip_config, clip_tokenizer, sd15, sdxl, t5, unet
from standin_tokenizers import (
    chatglm_tokenizer,
    gemma_tokenizer,
    glm_tokenizer,
    llama_tokenizer,
    mistral_tokenizer,
    processor,
    qwen_tokenizer,
)
from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    GlmConfig,
    GlmModel,
    LlamaConfig,
    LlamaForCausalLM,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLModel,
    Qwen3VLProcessor,
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


def lively(network, gain=2.0):
    """As fresh weights come, so small a transformer hardly heeds the prompt: fewer than one step of 255."""
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1:
                weight.mul_(gain)
    return network.eval()


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
    return lively(Flux2Transformer2DModel(**settings | changes))


def flux2_klein(*, kind=Flux2KleinPipeline, is_distilled=False):
    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    # the pipeline reads the layers 9, 18 and 27
    text = Qwen3Config(vocab_size=len(tokenizer), **DECODER | {"num_hidden_layers": 28})
    return kind(
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
        transformer=lively(transformer),
    )


def qwen_autoencoder():
    """Of films: a picture is one of a single frame."""
    return AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[-0.7, 0.1, 0.4, 0.0],
        latents_std=[2.8, 1.4, 2.3, 1.2],
    ).eval()


def qwen_vision(**changes):
    """The eyes of a text encoder that could also see pictures; they stay shut."""
    return {
        "depth": 1,
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_heads": 2,
        "out_hidden_size": WIDTH,
    } | changes


def qwen_tokens(tokenizer):
    names = {"image_token_id": "<|image_pad|>", "vision_start_token_id": "<|vision_start|>"}
    names |= {"vision_end_token_id": "<|vision_end|>", "video_token_id": "<|video_pad|>"}
    return {name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}


def qwen_image():
    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    text = DECODER | {
        "vocab_size": len(tokenizer),
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
    }
    text.pop("head_dim")  # this encoder derives it
    text["rope_parameters"] = {
        "rope_type": "default",
        "rope_theta": 1e6,
        "mrope_section": [2, 3, 3],
    }
    vision = qwen_vision(fullatt_block_indexes=[0])
    encoder = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **qwen_tokens(tokenizer))
    transformer = QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(4, 6, 6),
    )
    return QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True,
            base_shift=0.5,
            max_shift=0.9,
            max_image_seq_len=8192,
            shift_terminal=0.02,
        ),
        vae=qwen_autoencoder(),
        text_encoder=Qwen2_5_VLForConditionalGeneration(encoder).eval(),
        tokenizer=tokenizer,
        transformer=lively(transformer),
    )


def qwen3_vl(tokenizer):
    text = DECODER | {"vocab_size": len(tokenizer), "num_hidden_layers": 4}
    text["rope_parameters"] = {
        "rope_type": "default",
        "rope_theta": 5e6,
        "mrope_section": [4, 2, 2],
        "mrope_interleaved": True,
    }
    vision = qwen_vision(num_position_embeddings=16, deepstack_visual_indexes=[0])
    return Qwen3VLConfig(text_config=text, vision_config=vision, **qwen_tokens(tokenizer))


def krea2(*, is_distilled=False):
    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    transformer = Krea2Transformer2DModel(
        in_channels=16,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=WIDTH,
        timestep_embed_dim=16,
        text_hidden_dim=WIDTH,
        num_text_layers=2,
        text_num_attention_heads=2,
        text_num_key_value_heads=2,
        text_intermediate_size=WIDTH,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=(4, 6, 6),
    )
    return Krea2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=qwen_autoencoder(),
        text_encoder=Qwen3VLModel(qwen3_vl(tokenizer)).eval(),
        tokenizer=tokenizer,
        transformer=lively(transformer),
        text_encoder_select_layers=(1, 3),
        is_distilled=is_distilled,
    )


def flux2():
    torch.manual_seed(0)
    tokenizer = mistral_tokenizer()
    encoder = Mistral3Config(
        # the pipeline reads the layers 10, 20 and 30
        text_config=DECODER
        | {"model_type": "mistral", "vocab_size": len(tokenizer), "num_hidden_layers": 31},
        vision_config={
            "model_type": "pixtral",
            "hidden_size": WIDTH,
            "intermediate_size": WIDTH,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 16,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
    )
    return Flux2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=flux2_autoencoder(),
        text_encoder=Mistral3ForConditionalGeneration(encoder).eval(),
        # the released model has a processor here, which would need torchvision for pictures that nobody hands it
        tokenizer=tokenizer,
        transformer=flux2_transformer(guidance_embeds=True),
    )


def flux2_klein_kv():
    return flux2_klein(kind=Flux2KleinKVPipeline, is_distilled=True)


def deep_autoencoder(channels, factor, **changes):
    """One that makes a picture `factor` times as large as the latents, with hardly any weights."""
    depth = factor.bit_length()
    return AutoencoderKL(
        block_out_channels=(4,) * depth,
        down_block_types=("DownEncoderBlock2D",) * depth,
        up_block_types=("UpDecoderBlock2D",) * depth,
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=2,
        sample_size=32,
        **changes,
    ).eval()


def sana_parts(*, sample_size, **changes):
    tokenizer = gemma_tokenizer()
    vae = AutoencoderDC(
        latent_channels=4,
        encoder_block_out_channels=(4,) * 6,
        decoder_block_out_channels=(4,) * 6,
        encoder_layers_per_block=(1,) * 6,
        decoder_layers_per_block=(1,) * 6,
        encoder_qkv_multiscales=((),) * 6,
        decoder_qkv_multiscales=((),) * 6,
        scaling_factor=0.41,
    )
    transformer = SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=16,
        cross_attention_dim=WIDTH,
        caption_channels=WIDTH,
        sample_size=sample_size,
        **changes,
    )
    return {
        "tokenizer": tokenizer,
        "text_encoder": gemma(tokenizer),
        "vae": vae.eval(),
        "transformer": lively(transformer),
    }


def gemma(tokenizer):
    text = DECODER | {
        "max_position_embeddings": 4096,
        "sliding_window": 64,
        "query_pre_attn_scalar": 16,
    }
    return Gemma2Model(Gemma2Config(vocab_size=len(tokenizer), **text)).eval()


def sana():
    """It draws at the nearest size that it was trained on, 512 × 512 for this one, and shrinks the picture."""
    torch.manual_seed(0)
    return SanaPipeline(
        scheduler=DPMSolverMultistepScheduler(
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            flow_shift=3.0,
            final_sigmas_type="zero",
        ),
        **sana_parts(sample_size=16),
    )


def sana_sprint():
    torch.manual_seed(0)
    parts = sana_parts(sample_size=32, guidance_embeds=True, qk_norm="rms_norm_across_heads")
    return SanaSprintPipeline(scheduler=SCMScheduler(), **parts)


def pixart(kind):
    """Its smallest size is 256 × 256, whatever is asked for; the picture is shrunk."""
    torch.manual_seed(0)
    encoder, letters = t5()
    transformer = PixArtTransformer2DModel(
        sample_size=32,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        cross_attention_dim=32,
        caption_channels=WIDTH,
        in_channels=4,
        out_channels=8,  # the variance beside the noise
    )
    return kind(
        tokenizer=letters,
        text_encoder=encoder,
        vae=deep_autoencoder(4, 8),
        transformer=lively(transformer),
        scheduler=DPMSolverMultistepScheduler(
            beta_schedule="linear", beta_start=0.0001, beta_end=0.02
        ),
    )


def pixart_sigma():
    return pixart(PixArtSigmaPipeline)


def pixart_alpha():
    return pixart(PixArtAlphaPipeline)


def lumina2():
    torch.manual_seed(0)
    tokenizer = gemma_tokenizer()
    transformer = Lumina2Transformer2DModel(
        sample_size=16,
        in_channels=16,
        hidden_size=WIDTH,
        num_layers=2,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        axes_dim_rope=(4, 6, 6),
        axes_lens=(300, 64, 64),
        cap_feat_dim=WIDTH,
    )
    return Lumina2Pipeline(
        transformer=lively(transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0),
        # the pipeline takes a factor of 8 for granted
        vae=deep_autoencoder(16, 8, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=gemma(tokenizer),
        tokenizer=tokenizer,
    )


def chroma():
    torch.manual_seed(0)
    encoder, letters = t5()
    transformer = ChromaTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
        approximator_num_channels=16,
        approximator_hidden_dim=WIDTH,
        approximator_layers=1,
    )
    return ChromaPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=autoencoder(16).eval(),
        text_encoder=encoder,
        tokenizer=letters,
        transformer=lively(transformer),
    )


def lcm():
    """Stable Diffusion's parts, and a network that is told the guidance."""
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    return LatentConsistencyModelPipeline(
        vae=autoencoder().eval(),
        text_encoder=CLIPTextModel(clip_config(len(tokenizer))).eval(),
        tokenizer=tokenizer,
        unet=unet(time_cond_proj_dim=32).eval(),
        scheduler=LCMScheduler(clip_sample=False, set_alpha_to_one=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def flux_kontext():
    """It draws a million pixels whatever is asked for, so its latents are 32 times as small."""
    torch.manual_seed(0)
    one = clip_tokenizer()
    encoder, letters = t5()
    transformer = FluxTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=True,
        axes_dims_rope=(4, 4, 8),
    )
    return FluxKontextPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=deep_autoencoder(16, 32, shift_factor=0.06),
        text_encoder=CLIPTextModel(clip_config(len(one))).eval(),
        tokenizer=one,
        text_encoder_2=encoder,
        tokenizer_2=letters,
        transformer=lively(transformer),
    )


def qwen_image21():
    """Draws with an alpha channel, and keeps what the prompt said of itself from the first step on."""
    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    vae = AutoencoderKLQwenImage21(
        base_dim=4,
        decoder_base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 2, 2, 2],
        num_res_blocks=1,
        latents_mean=[0.5, 0.8, -0.1, 1.3],
        latents_std=[3.2, 3.3, 3.4, 3.0],
    )
    transformer = QwenImage21Transformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        context_in_dim=WIDTH,
        axes_dims_rope=(4, 6, 6),
    )
    return QwenImage21Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae.eval(),
        text_encoder=Qwen3VLForConditionalGeneration(qwen3_vl(tokenizer)).eval(),
        # it looks at a picture of about 1024×1024, whatever it is given
        processor=processor(Qwen3VLProcessor, tokenizer, side=1024),
        transformer=lively(transformer),
    )


def cogview4():
    torch.manual_seed(0)
    tokenizer = glm_tokenizer()
    transformer = CogView4Transformer2DModel(
        in_channels=16,
        out_channels=16,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        text_embed_dim=WIDTH,
        time_embed_dim=16,
        condition_dim=4,
        sample_size=16,
    )
    text = GlmConfig(
        vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, eos_token_id=None, **DECODER
    )
    return CogView4Pipeline(
        tokenizer=tokenizer,
        text_encoder=GlmModel(text).eval(),
        vae=autoencoder(16).eval(),
        transformer=lively(transformer),
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.25, max_shift=0.75, time_shift_type="linear"
        ),
    )


def cogview3_plus():
    torch.manual_seed(0)
    encoder, letters = t5()
    transformer = CogView3PlusTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        text_embed_dim=WIDTH,
        time_embed_dim=16,
        condition_dim=4,
        pos_embed_max_size=16,
        sample_size=16,
    )
    return CogView3PlusPipeline(
        tokenizer=letters,
        text_encoder=encoder,
        vae=autoencoder().eval(),
        transformer=lively(transformer),
        scheduler=CogVideoXDDIMScheduler(
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            snr_shift_scale=4.0,
            set_alpha_to_one=True,
        ),
    )


def hidream():
    """It draws as many pixels as it was trained on, whatever is asked for; only the sides' ratio is taken."""
    torch.manual_seed(0)
    one, two, four = clip_tokenizer(), clip_tokenizer(), llama_tokenizer()
    encoder, letters = t5()
    clip = {"max_position_embeddings": 218}
    llama = LlamaConfig(
        vocab_size=len(four), attn_implementation="eager", **DECODER
    )  # its attention is asked for
    transformer = HiDreamImageTransformer2DModel(
        patch_size=4,  # 2 when released: four times the patches
        in_channels=16,
        out_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        caption_channels=[WIDTH, WIDTH],
        text_emb_dim=2 * WIDTH,
        num_routed_experts=2,
        num_activated_experts=1,
        axes_dims_rope=(8, 4, 4),
        max_resolution=(128, 128),
        llama_layers=[0, 1],
    )
    return HiDreamImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=deep_autoencoder(
            16, 2, mid_block_add_attention=False, scaling_factor=0.3611, shift_factor=0.1159
        ),
        text_encoder=CLIPTextModelWithProjection(clip_config(len(one), **clip)).eval(),
        tokenizer=one,
        text_encoder_2=CLIPTextModelWithProjection(clip_config(len(two), **clip)).eval(),
        tokenizer_2=two,
        text_encoder_3=encoder,
        tokenizer_3=letters,
        text_encoder_4=LlamaForCausalLM(llama).eval(),
        tokenizer_4=four,
        transformer=lively(transformer),
    )


def kolors():
    """SDXL's network behind a language model."""
    torch.manual_seed(0)
    tokenizer = chatglm_tokenizer()
    text = ChatGLMConfig(
        num_layers=2,
        padded_vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        ffn_hidden_size=WIDTH,
        kv_channels=16,
        num_attention_heads=2,
        seq_length=256,
        multi_query_attention=True,
        multi_query_group_num=1,
        add_qkv_bias=True,
        original_rope=True,
        use_cache=False,
    )
    network = unet(
        transformer_layers_per_block=(1, 2),
        encoder_hid_dim=WIDTH,
        encoder_hid_dim_type="text_proj",
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=WIDTH + 48,
        use_linear_projection=True,
    )
    encoder = ChatGLMModel(text, empty_init=False)
    for name, weight in encoder.named_parameters():
        if "norm" in name:  # left as memory was found, even so
            torch.nn.init.ones_(weight)
    return KolorsPipeline(
        vae=autoencoder().eval(),
        text_encoder=encoder.eval(),
        tokenizer=tokenizer,
        unet=network.eval(),
        scheduler=EulerDiscreteScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.014
        ),
    )


def sd15_pag():
    """Three passes a step: without the prompt, with it, and with it where attention is perturbed."""
    return StableDiffusionPAGPipeline(**sd15().components, requires_safety_checker=False)


def sdxl_pag():
    return StableDiffusionXLPAGPipeline(**sdxl().components, add_watermarker=False)


STANDINS_A = {
    "flux2_klein": flux2_klein,
    "z_image": z_image,
    "qwen_image": qwen_image,
    "krea2": krea2,
    "flux2": flux2,
    "sana": sana,
    "pixart_sigma": pixart_sigma,
    "pixart_alpha": pixart_alpha,
    "lumina2": lumina2,
    "chroma": chroma,
    "lcm": lcm,
    "flux_kontext": flux_kontext,
    "flux2_klein_kv": flux2_klein_kv,
    "sana_sprint": sana_sprint,
    "qwen_image21": qwen_image21,
    "cogview4": cogview4,
    "cogview3_plus": cogview3_plus,
    "hidream": hidream,
    "kolors": kolors,
    "sd15_pag": sd15_pag,
    "sdxl_pag": sdxl_pag,
}

# the side of the pictures, for those that make none of 32 × 32
SIZES_A = {"flux_kontext": 1024, "hidream": 256, "qwen_image21": 64}
