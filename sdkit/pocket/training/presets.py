"""The sizes of Pocket, and the networks they are made of: standard diffusers and transformers classes.

One frozen dataclass holds every number that training depends on, with the reason beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

__all__ = [
    "PRESETS",
    "Preset",
    "build_autoencoder",
    "build_scheduler",
    "build_text_encoder",
    "build_unet",
]


@dataclass(frozen=True)
class Preset:
    """Sizes and lengths of one training recipe."""

    name: str
    objects: int  # how many kinds of `world.WORLD` it learns
    side: int  # pixels; latents are always 16×16
    autoencoder: tuple[int, ...]  # channels by level; each level but the last halves the picture
    unet: tuple[
        int, ...
    ]  # channels at 16×16, 8×8, 4×4: on a CPU few wide operations beat many narrow ones
    text: tuple[int, int]  # width and layers of the text encoder
    autoencoder_samples: int
    samples: int  # of the text encoder and UNet
    shards: int  # latents are cached in this many files, seen in turn
    shard: int  # scenes in a shard
    autoencoder_batch: int  # small: the autoencoder gains from many steps
    batch: int
    autoencoder_lr: float
    lr: float
    steps: int = (
        20  # defaults for making pictures, chosen by the evaluation; the model card shows the table
    )
    guidance_scale: float = 3.0
    latents: int = 4  # channels; a picture of 128 pixels needs more, and the UNet hardly notices
    hands: tuple[str, ...] = (
        "noto",
    )  # who draws the objects, the first unless a caption says otherwise
    loose: bool = False  # freer placement and mirrored objects, against learning by heart; takes several times as long
    linear: bool = (
        False  # the encoder is the best linear code and stays it: only the decoder is trained
    )
    edges: float = 0.0  # weight of the autoencoder's loss on differences of neighbouring pixels, against softness
    texture: float = 0.0  # and of that on how much of them there is in each small part of the picture, wherever it lies
    bfloat16: bool = (
        False  # also on processors: pays for wide networks and large batches where AVX-512 has it
    )
    groups: int = 16  # of the UNet's norms; their time in bfloat16 on processors grows with them
    history: int = 0  # moments at which to keep text encoder and UNet
    # of Turbo, the student that needs few steps: ways from noise to picture that it is shown, in all and at once
    turbo_steps: int = 4
    turbo_samples: int = 2_400
    turbo_batch: int = 4
    turbo_lr: float = 6e-4  # less than its teacher's: it begins where that ended

    @property
    def facts(self) -> dict[str, Any]:
        """What the card of every model of this preset says."""
        kept = ("objects", "side", "hands")
        return {"preset": self.name} | {name: getattr(self, name) for name in kept}

    @property
    def tokens(self) -> int:
        """Length of a tokenized prompt: the longest caption has 27 tokens."""
        return 32


_HANDS = ("fluent 3d", "flat icon", "cartoon")
PRESETS = {
    # the shipped Pocket, on two processor cores, and (gpu) with every object and longer on a card
    "pocket2": Preset(
        "pocket2",
        120,
        128,
        (16, 32, 64, 64),
        (96, 192, 256),
        (160, 3),
        32_000,
        800_000,
        88,
        8_192,
        16,
        16,
        1e-3,
        1.4e-3,
        latents=24,
        hands=_HANDS,
        linear=True,
        edges=0.15,
        texture=0.15,
        bfloat16=True,
        groups=4,
        history=12,
    ),
    "gpu": Preset(
        "gpu",
        223,
        128,
        (32, 64, 128, 128),
        (96, 192, 256),
        (192, 4),
        800_000,
        4_000_000,
        128,
        8_192,
        32,
        256,
        1e-3,
        2e-3,
        latents=24,
        hands=_HANDS,
        loose=True,
        linear=True,
        edges=0.15,
        texture=0.15,
        bfloat16=True,
        groups=4,
        history=12,
    ),
    # the same script end to end in a minute, for the tests
    "tiny": Preset(
        "tiny",
        4,
        32,
        (8, 16),
        (16, 32, 32),
        (32, 1),
        64,
        96,
        2,
        32,
        4,
        16,
        2e-3,
        2e-3,
        turbo_samples=24,
    ),
}


def build_autoencoder(preset: Preset) -> AutoencoderKL:
    """Pixels `(B, 3, side, side)` in -1..1 to latents `(B, C, 16, 16)` and back."""
    levels = len(preset.autoencoder)
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=preset.autoencoder,
        layers_per_block=1,
        norm_num_groups=4,  # few groups: a group's mean is what a plain colour looks like, and GroupNorm removes it
        latent_channels=preset.latents,
        mid_block_add_attention=False,
        sample_size=preset.side,
    )
    for name, weight in model.named_parameters():
        if name.endswith(
            "conv2.weight"
        ):  # begin near the identity: the trunk alone already codes plain colours
            weight.data.mul_(0.1)
    return model


def build_text_encoder(preset: Preset, vocabulary: int) -> CLIPTextModel:
    """Token ids `(B, 32)` to hidden states `(B, 32, width)`."""
    width, layers = preset.text
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=width,
            num_hidden_layers=layers,
            num_attention_heads=max(1, width // 32),
            max_position_embeddings=preset.tokens,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
        )
    )


def build_unet(preset: Preset) -> UNet2DConditionModel:
    """Latents `(B, C, 16, 16)`, timesteps `(B,)` and text to a velocity prediction of the latents' shape.

    Cross-attention sits where it pays: at 8×8 on the way down, at the bottom, and at 8×8 and 16×16 on the way up.
    """
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=preset.latents,
        out_channels=preset.latents,
        block_out_channels=preset.unet,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=preset.text[0],
        attention_head_dim=4,  # in this class the number of heads
        norm_num_groups=preset.groups,
    )


def build_scheduler() -> DDIMScheduler:
    """Velocity prediction down to zero signal, so that plain backgrounds come out plain (Lin et al., arXiv:2305.08891)."""
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,  # trailing spacing does not use it; diffusers warns about 0
    )
