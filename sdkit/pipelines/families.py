"""What kind of model a pipeline holds: one frozen description, asked by everything that would otherwise guess.

The one decision: **most of a family is read off its pipeline**: its call's parameters, its parts and their configurations.
What no inspection tells stands in one table, `_ROWS`, a row for each class that differs. So a pipeline that nobody here has
heard of gets generic answers, and a new family is a row (often none) and a stand-in in `tests/families.py`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from sdkit.errors import InvalidSettings

if TYPE_CHECKING:
    from sdkit.settings import Settings

__all__ = [
    "AUTOENCODERS",
    "DENOISERS",
    "Family",
    "Reading",
    "autoencoder_of",
    "denoiser_of",
    "factor_of",
    "family_of",
    "is_flow",
    "patch_of",
    "role_of",
    "widens_decoder",
    "width_of",
]

AUTOENCODERS: Final = ("vae", "movq", "decoder_movq", "vqgan")
DENOISERS: Final = ("unet", "transformer", "decoder", "decoder_unet", "prior_prior")
"""Names that pipelines give to the network that denoises, in the order in which they are looked for."""


@dataclass(frozen=True)
class Reading:
    """How one tokenizer's tokens stand in the sequence that the denoiser reads."""

    tokenizer: str  # the pipeline's attribute
    rest: bool = False  # it takes what the others leave, instead of as many as it is made for


@dataclass(frozen=True)
class Family:
    """What is the same for all pipelines of one class.

    Parameters
    ----------
    pipeline
        Name of the diffusers class.
    accepts
        Parameters of its ``__call__``.
    steps, side, guidance_scale
        The defaults of that call; None where it has no such parameter.
    control_scale
        The default of what `control_weight` names.
    guidance
        The parameter that sets classifier-free guidance, ``"guidance_scale"`` or ``"true_cfg_scale"``; None without one.
    needs_negative
        Guidance runs only together with a negative prompt.
    no_negative
        What the call itself takes for the negative prompt where none is given: None or an empty text.
    embedded
        ``guidance_scale`` is an input of the network, and no second pass is made for it.
    encodes
        Names, in the order in which ``encode_prompt`` returns them, by which encodings can be handed back (None for
        what is not handed back); empty where the pipeline must be given words.
    remembers
        Encodings are remembered from run to run: they depend on the text encoders alone.
    sequence
        Where tokens stand, tokenizer by tokenizer.
    layout
        How ``latents=`` are handed in: ``"plain"`` as ``(B, C, h, w)``; ``"tokens"`` of 2×2 latent pixels, ``(B, P, 4 C)``;
        or ``"patches"``, ``(B, 4 C, h/2, w/2)``, in which shape their noise is drawn, too; or ``"network"``, likewise, where
        the pipeline's scale counts the patches already.
    takes_noise
        Starting noise can be handed in as sdkit draws it.
    batches, mixes
        Diffusers makes several pictures, or pictures of prompts of different length, in one call as it makes them alone.
    caches
        The network fills a cache at its first step, which the later ones read: that step is run all the same.
    text_first
        In a joint sequence the words come before the patches; None without joint attention.
    stride
        The patches of a joint sequence are filled up to a multiple of this number before the words come.
    packed
        Padding of the words is left out of a joint sequence, so that the patches follow the last real word.
    ordered
        The network gives each word a place of its own, so the rows of an encoding must keep their order.
    listens
        The text encoder whose input tells which token is which word, where `sequence` does not.
    selects
        Which of that encoder's tokens the denoiser reads: the last ones that fit (""), those that are no padding
        (``"valid"``), or the first one and the last (``"ends"``).
    two_passes
        Guidance asks the network twice a step, with the words first, instead of doubling the batch.
    negates
        The pipeline turns the sign of what the network says before the solver sees it.
    trails
        What the network says of the picture comes last, after what it says of other tokens.
    extrapolates
        Guidance starts from the prediction with the words: ``c + g·(c - u)``.
    off_until
        The greatest `guidance_scale` at which guidance is switched off.
    rescales
        What guidance made gets back the size that the prediction with the words has, along each row of latents (``"rows"``)
        or in each token (``"tokens"``), or there only if it grew (``"grown"``); empty where it is left as it is.
    conditional_first
        In a doubled batch the half with the words is the first.
    """

    pipeline: str
    accepts: frozenset[str]
    steps: int | None = None
    side: int | None = None
    guidance_scale: float | None = None
    control_scale: float | None = None
    guidance: str | None = None
    needs_negative: bool = False
    no_negative: str | None = None
    embedded: bool = False
    encodes: tuple[str | None, ...] = ()
    remembers: bool = False
    sequence: tuple[Reading, ...] = ()
    layout: str = "plain"
    takes_noise: bool = True
    batches: bool = True
    mixes: bool = True
    caches: bool = False
    text_first: bool | None = None
    stride: int = 1
    packed: bool = False
    ordered: bool = False
    listens: str = ""
    selects: str = ""
    two_passes: bool = False
    negates: bool = False
    trails: bool = False
    extrapolates: bool = False
    off_until: float = 1.0
    rescales: str = ""
    conditional_first: bool = False

    @property
    def wants(self) -> tuple[str, ...]:
        """The pictures that a pipeline of this class cannot do without, as `sdkit.generate` calls them."""
        start: tuple[str, ...] = ("image", "mask") if "Inpaint" in self.pipeline else ()
        if "Img2Img" in self.pipeline:
            start = ("image",)
        return start if self.control is None else (*start, "control")

    @property
    def edits(self) -> bool:
        """Whether the call that takes words takes a picture beside them, and has no strength: the picture is looked at."""
        from_start = "Inpaint" in self.pipeline or "Img2Img" in self.pipeline
        takes = "image" in self.accepts and "strength" not in self.accepts
        return takes and not from_start and self.control is None

    @property
    def unheard(self) -> str:
        """What a pipeline of this class wants that cannot be handed over, in words; mostly nothing."""
        asks = ("control_mode" * ("Union" in self.pipeline), "control_mask", "control_video")
        return next((name for name in asks if name in self.accepts), "")

    @property
    def adapted(self) -> bool:
        """Whether a T2I-Adapter follows the control picture."""
        return "Adapter" in self.pipeline

    @property
    def control(self) -> str | None:
        """The parameter that takes a control picture; None without one."""
        if "Control" not in self.pipeline and not self.adapted:
            return None
        return next((name for name in ("control_image", "image") if name in self.accepts), None)

    @property
    def control_weight(self) -> str | None:
        """The parameter that says how strongly a control picture leads."""
        return next((name for name in _CONTROL_WEIGHTS if name in self.accepts), None)

    @property
    def tells_steps(self) -> bool:
        """Whether the pipeline calls back after each step with latents."""
        return "callback_on_step_end" in self.accepts

    @property
    def takes_negative(self) -> bool:
        """Whether a negative prompt can be handed over at all."""
        return "negative_prompt" in self.accepts

    @property
    def steerable(self) -> bool:
        """Whether the noise that a picture begins with can be handed in."""
        return self.takes_noise and "latents" in self.accepts

    @property
    def walks(self) -> bool:
        """Whether encodings and noise can be handed in, which is what lies between two pictures.

        Where they cannot, `beginnings` leads the pipeline's own methods there, a picture at a time.
        """
        return bool(self.encodes) and self.steerable and self.mixes

    @property
    def true_guidance(self) -> bool:
        """Whether `true_cfg_scale` leads away from a negative prompt, beside a guidance that the network is told."""
        return "true_cfg_scale" in self.accepts and self.guidance != "true_cfg_scale"

    def guided(
        self,
        guidance_scale: float | None,
        negative_prompt: str = "",
        true_cfg_scale: float | None = None,
    ) -> bool:
        """Whether a run with these settings asks the network a second time, without the words."""
        if self.true_guidance:
            return bool(negative_prompt) and (true_cfg_scale or 0) > 1
        if self.guidance is None or guidance_scale is None or self.embedded:
            return False
        if self.needs_negative and not negative_prompt:
            return False
        return guidance_scale > self.off_until

    def guides(self, s: Settings) -> bool:
        """The same of whole settings."""
        return self.guided(s.guidance_scale, s.negative_prompt, s.true_cfg_scale)


_CONTROL_WEIGHTS: Final = ("controlnet_conditioning_scale", "adapter_conditioning_scale")
_POOLED: Final = (
    "prompt_embeds",
    "negative_prompt_embeds",
    "pooled_prompt_embeds",
    "negative_pooled_prompt_embeds",
)
_PLAIN: Final = _POOLED[:2]
_MASKED: Final = (
    "prompt_embeds",
    "prompt_attention_mask",
    "negative_prompt_embeds",
    "negative_prompt_attention_mask",
)
_FLUX: Final = ("prompt_embeds", "pooled_prompt_embeds", None)
_QWEN: Final = ("prompt_embeds", "prompt_embeds_mask")
_CLIP: Final = (Reading("tokenizer"),)
_T5_LAST: Final = (Reading("tokenizer_2", rest=True),)

_ROWS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "StableDiffusionPipeline": {"encodes": _PLAIN, "remembers": True, "sequence": _CLIP},
        "StableDiffusionImg2ImgPipeline": {"encodes": _PLAIN, "remembers": True, "sequence": _CLIP},
        "StableDiffusionInpaintPipeline": {"encodes": _PLAIN, "remembers": True, "sequence": _CLIP},
        "StableDiffusionPAGPipeline": {"encodes": _PLAIN, "remembers": True, "sequence": _CLIP},
        "LongCatImagePipeline": {"layout": "tokens", "mixes": False, "rescales": "grown"},
        "LatentConsistencyModelPipeline": {
            "encodes": _PLAIN,
            "remembers": True,
            "sequence": _CLIP,
            "embedded": True,
        },
        "StableDiffusionXLPipeline": {"encodes": _POOLED, "remembers": True, "sequence": _CLIP},
        "StableDiffusionXLImg2ImgPipeline": {
            "encodes": _POOLED,
            "remembers": True,
            "sequence": _CLIP,
        },
        "StableDiffusionXLInpaintPipeline": {
            "encodes": _POOLED,
            "remembers": True,
            "sequence": _CLIP,
        },
        "StableDiffusionXLPAGPipeline": {"encodes": _POOLED, "remembers": True, "sequence": _CLIP},
        "StableDiffusion3Pipeline": {
            "encodes": _POOLED,
            "sequence": (Reading("tokenizer"), Reading("tokenizer_3", rest=True)),
            "text_first": False,
        },
        "FluxPipeline": {
            "layout": "tokens",
            "encodes": _FLUX,
            "sequence": _T5_LAST,
            "text_first": True,
            "embedded": True,
        },
        "FluxKontextPipeline": {
            "layout": "tokens",
            "encodes": _FLUX,
            "sequence": _T5_LAST,
            "text_first": True,
            "embedded": True,
        },
        "Flux2Pipeline": {
            "ordered": True,
            "listens": "text_encoder",
            "layout": "patches",
            "encodes": ("prompt_embeds", None),
            "text_first": True,
            "embedded": True,
        },
        "Flux2KleinPipeline": {
            "ordered": True,
            "listens": "text_encoder",
            "two_passes": True,
            "layout": "patches",
            "encodes": ("prompt_embeds", None),
            "text_first": True,
        },
        "Flux2KleinKVPipeline": {
            "ordered": True,
            "listens": "text_encoder",
            "layout": "patches",
            "encodes": ("prompt_embeds", None),
            "text_first": True,
        },
        "PixArtAlphaPipeline": {"listens": "text_encoder", "encodes": _MASKED},
        "PixArtSigmaPipeline": {"listens": "text_encoder", "encodes": _MASKED},
        "SanaPipeline": {"listens": "text_encoder", "selects": "ends", "encodes": _MASKED},
        "SanaSprintPipeline": {
            "listens": "text_encoder",
            "selects": "ends",
            "encodes": _MASKED[:2],
            "embedded": True,
        },
        "AuraFlowPipeline": {"listens": "text_encoder", "text_first": True, "encodes": _MASKED},
        "PRXPipeline": {
            "listens": "text_encoder",
            "text_first": True,
            "encodes": _MASKED,
            "batches": False,
        },
        "PRXPixelPipeline": {"batches": False},
        "DreamLitePipeline": {"batches": False, "sequence": ()},
        "DreamLiteMobilePipeline": {"batches": False, "sequence": ()},
        "Kandinsky5T2IPipeline": {
            "takes_noise": False,
            "mixes": False,
        },
        "Ideogram4Pipeline": {"takes_noise": False},
        "IFPipeline": {"takes_noise": False},
        "KolorsPAGPipeline": {"sequence": (), "listens": "text_encoder", "encodes": _POOLED},
        "PixArtSigmaPAGPipeline": {"listens": "text_encoder"},
        "StableUnCLIPPipeline": {"takes_noise": False, "sequence": ()},
        "HiDreamImagePipeline": {"negates": True, "takes_noise": False},
        "ErnieImagePipeline": {
            "listens": "text_encoder",
            "text_first": False,
            "layout": "network",
        },
        "QwenImage21Pipeline": {
            "guidance": "true_cfg_scale",
            "needs_negative": True,
            "takes_noise": False,
            "mixes": False,
            "caches": True,
            "trails": True,
        },
        "Kandinsky3Pipeline": {
            "extrapolates": True,
            "encodes": (*_PLAIN, "attention_mask", "negative_attention_mask"),
        },
        "CogView3PlusPipeline": {"listens": "text_encoder", "text_first": True, "encodes": _PLAIN},
        "CogView4Pipeline": {
            "listens": "text_encoder",
            "text_first": True,
            "two_passes": True,
            "encodes": _PLAIN,
            "mixes": False,
        },
        "KolorsPipeline": {"listens": "text_encoder", "sequence": (), "encodes": _POOLED},
        "OvisImagePipeline": {
            "ordered": True,
            "listens": "text_encoder",
            "text_first": True,
            "layout": "tokens",
            "encodes": (*_PLAIN, None, None),
        },
        "BriaPipeline": {
            "listens": "text_encoder",
            "text_first": True,
            "layout": "tokens",
            "takes_noise": False,
        },
        "BriaFiboPipeline": {"takes_noise": False},
        "KandinskyCombinedPipeline": {"takes_noise": False},
        "KandinskyV22CombinedPipeline": {"takes_noise": False},
        "StableCascadeCombinedPipeline": {"takes_noise": False},
        "ChromaPipeline": {
            "listens": "text_encoder",
            "text_first": True,
            "two_passes": True,
            "layout": "tokens",
            "encodes": (
                "prompt_embeds",
                None,
                "prompt_attention_mask",
                *("negative_prompt_embeds", None, "negative_prompt_attention_mask"),
            ),
        },
        "QwenImagePipeline": {
            "ordered": True,
            "listens": "text_encoder",
            "selects": "valid",
            "text_first": True,
            "two_passes": True,
            "layout": "tokens",
            "encodes": _QWEN,
            "guidance": "true_cfg_scale",
            "needs_negative": True,
            "rescales": "tokens",
        },
        "NucleusMoEImagePipeline": {
            "layout": "tokens",
            "encodes": _QWEN,
            "ordered": True,
            "negates": True,
            "rescales": "tokens",
        },
        "ZImagePipeline": {
            "listens": "text_encoder",
            "selects": "valid",
            "text_first": False,
            "stride": 32,
            "extrapolates": True,
            "off_until": 0.0,
            "conditional_first": True,
            "negates": True,
        },
        "Krea2Pipeline": {
            "ordered": True,
            "listens": "text_encoder",
            "text_first": True,
            "two_passes": True,
            "layout": "tokens",
            "encodes": _QWEN,
            "extrapolates": True,
            "off_until": 0.0,
        },
        "Lumina2Pipeline": {
            "ordered": True,
            "listens": "text_encoder",
            "text_first": True,
            "packed": True,
            "two_passes": True,
            "encodes": _MASKED,
            "negates": True,
            "rescales": "rows",
        },
    }
)


_PUT_ON: Final = re.compile("Control(Net)?|Adapter|Img2Img|Inpaint")
"""What a class name says of what stands on or before a model, which leaves the model what it is."""
_DRAWING: Final = (
    "StableDiffusion3ControlNetPipeline",
    "HunyuanDiTControlNetPipeline",
    "CogView4ControlPipeline",
)
"""Classes that encode a control picture with chance of torch's own, so that its place in a batch would change the picture."""
_DRAWING_FIRST: Final = ("FluxControl", "QwenImageControlNet")
"""How classes begin that encode a control picture with chance of the seed's own, before they draw the noise."""


def family_of(pipe: Any) -> Family:
    """The description of a pipeline's family, found once for its class.

    What is not the same for a whole class is whether guidance is an input: a UNet that was distilled with it has one.
    """
    kind: Any = type(pipe)
    found = _described(kind)
    told = getattr(getattr(pipe, "unet", None), "config", {}).get("time_cond_proj_dim")
    return found if found.embedded or told is None else _told(found)


@cache
def _told(family: Family) -> Family:
    return replace(family, embedded=True)


@cache
def _described(kind: Any) -> Family:
    parameters = inspect.signature(kind.__call__).parameters
    accepts = frozenset(parameters)
    row = dict(_ROWS.get(kind.__name__) or _ROWS.get(_PUT_ON.sub("", kind.__name__), {}))
    if kind.__name__ in _DRAWING:
        row["batches"] = False
    if kind.__name__.startswith(_DRAWING_FIRST):
        row["takes_noise"] = False
    guidance = row.get("guidance") or ("guidance_scale" if "guidance_scale" in accepts else None)
    parts = inspect.signature(kind.__init__).parameters
    found = Family(
        kind.__name__,
        accepts,
        steps=_number(parameters, "num_inference_steps"),
        side=_number(parameters, "height"),
        guidance_scale=None if guidance is None else _number(parameters, guidance),
        control_scale=next(
            (_number(parameters, name) for name in _CONTROL_WEIGHTS if name in accepts), None
        ),
        guidance=guidance,
        sequence=_CLIP if {"unet", "tokenizer", "text_encoder"} <= parts.keys() else (),
        no_negative=""
        if "negative_prompt" in accepts and parameters["negative_prompt"].default == ""
        else None,
    )
    return replace(found, **row)


def _number(parameters: Mapping[str, inspect.Parameter], name: str) -> Any:
    value = parameters[name].default if name in parameters else None
    return value if isinstance(value, (int, float)) else None


def denoiser_of(pipe: Any) -> Any:
    """The network of a pipeline that denoises.

    Raises
    ------
    InvalidSettings
        If it has none that is known by name.
    """
    for name in DENOISERS:
        network = getattr(pipe, name, None)
        if network is not None:
            return network
    raise InvalidSettings(
        f"{type(pipe).__name__} has no network under a known name ({', '.join(DENOISERS)}); "
        "use a text-to-image pipeline of diffusers."
    )


def autoencoder_of(pipe: Any) -> Any:
    """What decodes a pipeline's latents; None for models that work on pixels."""
    found = (getattr(pipe, name, None) for name in AUTOENCODERS)
    return next((vae for vae in found if vae is not None), None)


def role_of(part: str) -> str:
    """What a part of a pipeline is for: ``"denoiser"``, ``"autoencoder"``, ``"text"`` or ``"other"``."""
    if part in DENOISERS:
        return "denoiser"
    if part in AUTOENCODERS:
        return "autoencoder"
    return "text" if part.startswith("text_encoder") else "other"


def is_flow(scheduler: Any) -> bool:
    """Whether a scheduler solves flow matching: ``x = (1 - σ)·x0 + σ·eps``."""
    flow = (
        scheduler.config.get("use_flow_sigmas")
        or scheduler.config.get("prediction_type") == "flow_prediction"
    )
    return bool("FlowMatch" in type(scheduler).__name__ or flow)


def widens_decoder(denoiser: Mapping[str, Any], autoencoder: Mapping[str, Any]) -> bool:
    """Whether the pipeline widens its autoencoder, which overflows in half precision (SDXL's does, by configurations)."""
    return denoiser.get("addition_embed_type") == "text_time" and bool(
        autoencoder.get("force_upcast", True)
    )


def factor_of(autoencoder: Mapping[str, Any]) -> int:
    """Pixels along one side of a latent pixel, by an autoencoder's configuration."""
    for name in ("scale_factor_spatial", "spatial_compression_ratio"):
        if autoencoder.get(name):
            return int(autoencoder[name])
    levels = next(
        (autoencoder[n] for n in ("block_out_channels", "dim_mult") if autoencoder.get(n)), (0,) * 4
    )
    return int(2 ** (len(levels) - 1))


def width_of(transformer: Mapping[str, Any]) -> int:
    """Numbers in one token of a transformer, by its configuration; 3072, as in many large ones, where it says nothing."""
    for name in ("inner_dim", "hidden_size", "dim", "model_dim", "inner_model_dim"):
        if isinstance(transformer.get(name), int):
            return int(transformer[name])
    heads = next(
        (
            transformer[n]
            for n in ("num_attention_heads", "n_heads", "num_heads")
            if transformer.get(n)
        ),
        0,
    )
    each = next(
        (transformer[n] for n in ("attention_head_dim", "head_dim") if transformer.get(n)), 0
    )
    return int(heads * each) or 3072


def patch_of(transformer: Mapping[str, Any]) -> int:
    """Latent pixels along one side of a token; 2 where the pipeline folds them beforehand."""
    channels, patch = transformer.get("in_channels"), transformer.get("patch_size")
    if patch is None or (isinstance(channels, int) and channels >= 64):
        return 2
    return int(patch if isinstance(patch, int) else max(patch))
