"""What to make: every choice behind one picture, in one frozen value.

The one decision: **one `Settings` makes one picture.** A batch is a list of them, so each picture of a batch can
be made again alone, and a saved picture needs nothing but its own settings. Values are checked when a `Settings` is
made, so the run that follows cannot fail minutes later on a typing mistake. Which of two settings mean the same picture
is decided here too (`Settings.same_picture`), for folders, walks, workers and panels alike.

This module needs neither torch nor Pillow: reading settings out of a picture must not cost seconds of imports.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, asdict, dataclass, field, fields
from difflib import get_close_matches
from functools import partial
from numbers import Real
from types import MappingProxyType
from typing import Any, Final, NoReturn

from .errors import InvalidSettings

__all__ = ["FACTS", "FITS", "SCHEDULERS", "SOLVERS", "TASKS", "Settings", "Solver"]


@dataclass(frozen=True, slots=True)
class Solver:
    """What sdkit knows of one scheduler; a row of `SOLVERS`.

    Parameters
    ----------
    label
        The name people know it by.
    kind
        Its class in diffusers.
    elsewhere
        The sampler's name in A1111 and Forge.
    changes
        Configuration that makes the class what its name says.
    calls, first
        The network is called ``calls · steps + first`` times: a method of second order looks twice at a step.
    restless
        Adds fresh noise, drawn by the seed, at every step.
    """

    label: str
    kind: str
    elsewhere: str
    _: KW_ONLY
    changes: Mapping[str, Any] = field(default_factory=dict)
    calls: int = 1
    first: int = 0
    restless: bool = False


_DPM: Final = "DPMSolverMultistepScheduler"

SOLVERS: Final[Mapping[str, Solver]] = MappingProxyType(
    {
        "ddim": Solver("DDIM", "DDIMScheduler", "DDIM"),
        "ddpm": Solver("DDPM", "DDPMScheduler", "DDPM", restless=True),
        "euler": Solver("Euler", "EulerDiscreteScheduler", "Euler"),
        "euler_a": Solver("Euler ancestral", "EulerAncestralDiscreteScheduler", "Euler a", restless=True),
        "dpm++": Solver(
            "DPM++ 2M", _DPM, "DPM++ 2M", changes={"algorithm_type": "dpmsolver++", "use_karras_sigmas": False}
        ),
        "dpm++_karras": Solver(
            "DPM++ 2M Karras", _DPM, "DPM++ 2M Karras",
            changes={"algorithm_type": "dpmsolver++", "use_karras_sigmas": True},
        ),
        "unipc": Solver("UniPC", "UniPCMultistepScheduler", "UniPC"),
        "lms": Solver("LMS", "LMSDiscreteScheduler", "LMS"),
        "pndm": Solver("PNDM", "PNDMScheduler", "PLMS", changes={"skip_prk_steps": True}, first=1),
        "heun": Solver("Heun", "HeunDiscreteScheduler", "Heun", calls=2, first=-1),
    }
)  # fmt: skip
"""Short name of each scheduler → all that is known of it; a new one is one row here."""

SCHEDULERS: Final[Mapping[str, str]] = MappingProxyType(
    {name: solver.label for name, solver in SOLVERS.items()}
)
"""Short name of each scheduler → the name people know it by."""

TASKS: Final = ("text-to-image", "image-to-image", "inpainting")
"""What a run starts from: noise; a picture; a picture and the mask of what to repaint."""

FACTS: Final = ("licence", "version", "memory")
"""Fields that tell how a picture came about and do not decide which picture it is."""
FITS: Final = ("crop", "pad", "stretch")
"""How a source of other proportions gets into the size: cut to its middle; whole, on white; out of shape."""

_RECORDED: Final = {
    *FACTS,
    "task",
    "source",
    "mask",
    "model",
    "revision",
    "additions",
}  # written down, not chosen
# What the same setting is called in diffusers and in the web interfaces people come from: closeness of spelling
# would not find these.
_KNOWN_ELSEWHERE: Final = {
    "num_inference_steps": "steps",
    "cfg": "guidance_scale",
    "cfg_scale": "guidance_scale",
    "controlnet_conditioning_scale": "control_scale",
    "adapter_conditioning_scale": "control_scale",
    "sampler": "scheduler",
    "sampler_name": "scheduler",
    "denoising_strength": "strength",
    "generator": "seed",
    "guidance": "guidance_scale",
    "image_strength": "strength",
    "negative": "negative_prompt",
    "sampling_steps": "steps",
}
# what is said beside the settings, and where: as arguments of the verbs
_NO_SETTING: Final = {
    "num_images_per_prompt": "give count=… to generate",
    "num_images": "give count=… to generate",
    "n": "give count=… to generate",
    "batch_count": "give count=… to generate",
    "clip_skip": "encode with pipe.encode_prompt(..., clip_skip=…) and give embeddings=… to generate",
    "prompt_embeds": "give embeddings=… to generate",
    "output_type": "a Result holds pictures and latents",
    "callback_on_step_end": "give on_step=… to generate",
}

_LONGEST_VALUE: Final = 60  # an error stays one line, whatever was handed in


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that decides one picture, apart from the model's weights and the pictures that it was given.

    ``None`` means "what the model does best"; `sdkit.generate` fills it in, so the settings of a finished picture
    are complete.

    Parameters
    ----------
    prompt, negative_prompt
        What to show, and what to keep away from. Any Unicode text without lone surrogates.
    seed
        Start of the noise, 0 to 2**63 - 1.
    steps
        Denoising steps, 1 to 1000.
    guidance_scale
        How strongly the prompt pulls, 0 to 50; 1 switches guidance off.
    true_cfg_scale
        The pull away from `negative_prompt`, 0 to 50, in models whose `guidance_scale` is an input of the network
        (Flux); it needs a negative prompt and acts above 1. Others have it as `guidance_scale`.
    width, height
        Size in pixels, multiples of 8 from 16 to 8192.
    scheduler
        One of `SCHEDULERS`.
    strength
        Share of the source picture that is redone, above 0 up to 1 (image-to-image and inpainting only).
    model, revision, licence
        Name of the model that made the picture, its commit on the hub, and the licence of its weights.
    fit
        One of `FITS`, where the source's or control picture's proportions are not those of the size; None crops.
    variation_seed, variation_amount
        A second noise, and its share (0 to 1) in the spherical blend with the noise of `seed`.
    task
        One of `TASKS`.
    source, mask
        SHA-256 (64 hexadecimal digits) of the pixels of the source picture and of its mask.
    control, reference
        The same of the pictures that a ControlNet or T2I-Adapter follows, and of those that an IP-Adapter looks at; of
        several, the SHA-256 of their digests.
    control_scale
        How strongly the control picture leads, 0 to 10; of several pictures one number, or one for each.
    noise
        SHA-256 of the noise that the picture begins with in place of the seed's, as `sdkit.invert` finds it.
    additions
        What the pipeline carried beyond its model, such as ``"LoRA toy ×0.8 (3f2a91c0)"``.
    version
        The sdkit version that made the picture.
    memory
        What the run did to save memory, such as ``"model offload, VAE tiling (512)"``; tiles shift colours a little.

    Raises
    ------
    InvalidSettings
        For a value outside these limits, in one sentence.

    Examples
    --------
    >>> settings = sdkit.Settings("a red car", seed=7)
    >>> settings.replace(guidance_scale=9).guidance_scale
    9.0
    >>> settings == sdkit.Settings.from_json(settings.to_json())
    True
    """

    prompt: str = ""  # the empty prompt is a real one: it shows what the model draws unasked
    _: KW_ONLY
    negative_prompt: str = ""  # off: most pictures need none, and it changes every other picture
    seed: int = 0  # fixed, not random: the same call gives the same picture
    steps: int | None = (
        None  # depends on the model and the scheduler: 4 for a turbo model, 30 for SD 1.5
    )
    guidance_scale: float | None = None  # depends on the model: distilled ones break above 1
    true_cfg_scale: float | None = None  # off, as in the models' own calls: it doubles the time
    width: int | None = None  # the size the model was trained at; others repeat or crop the motif
    height: int | None = None  # as width
    scheduler: str | None = None  # the pipeline's own, which the model's makers chose
    strength: float = 0.6  # keeps the composition of a sketch and still redraws its surface
    fit: str | None = (
        None  # a source gives the size its proportions, or is cropped to the size that was asked for
    )
    variation_seed: int | None = None  # no second noise
    variation_amount: float = 0.0  # none of it
    task: str = "text-to-image"  # needs nothing but words
    source: str | None = None  # recorded so that a replay can tell which picture it needs
    mask: str | None = None  # as source
    control: str | None = None  # as source
    control_scale: float | tuple[float, ...] | None = None  # the pipeline's own, mostly 1
    reference: str | None = None  # as source
    noise: str | None = None  # the seed's, which needs nothing but the seed
    model: str | None = None  # recorded by generate()
    revision: str | None = None  # as model
    licence: str | None = None  # as model
    additions: str | None = None  # recorded by generate(); a replay warns where they differ
    version: str | None = None  # recorded by generate()
    memory: str | None = (
        None  # recorded by generate(); a replay does not follow it, other devices have other limits
    )

    def __post_init__(self) -> None:
        """Check every value, and turn numbers of other libraries into Python's own."""
        for known in fields(self):
            value = getattr(self, known.name)
            if value is not None or known.default is not None:
                # The class is frozen, and this is its constructor.
                object.__setattr__(self, known.name, _CHECKS[known.name](known.name, value))
        if self.variation_seed is None and self.variation_amount > 0:
            _refuse(
                f"variation_amount={self.variation_amount} needs a variation_seed: give one, or use amount 0"
            )

    def replace(self, **changes: Any) -> Settings:
        """Return a copy with some values changed.

        Parameters
        ----------
        **changes
            New values by field name.

        Raises
        ------
        InvalidSettings
            For an unknown field (the nearest one is named) or a value outside its limits.
        """
        return Settings.from_dict({**self.to_dict(), **changes})

    def recipe(self) -> Settings:
        """Return what decides the picture and nothing else; settings of one picture have equal recipes.

        The facts about the run (`FACTS`) are left out, and so is what cannot act: `strength` and `fit` without a picture that they
        are about, `control_scale` without a control picture, `true_cfg_scale` up to 1 or without a negative prompt, and
        `variation_seed` without an amount.
        """
        idle = set(FACTS)
        if self.task == "text-to-image":
            idle |= {"strength"} if self.control else {"strength", "fit"}
        if self.control is None:
            idle.add("control_scale")
        if not self.negative_prompt or (self.true_cfg_scale or 0) <= 1:
            idle.add("true_cfg_scale")
        if self.variation_amount == 0:
            idle.add("variation_seed")
        return Settings(
            **{name: value for name, value in self.to_dict().items() if name not in idle}
        )

    def same_picture(self, other: Settings) -> bool:
        """Say whether these settings and the others make the same picture, whatever the facts about their runs.

        Parameters
        ----------
        other
            Settings that are as complete as these: ``None`` ("what the model does best") equals only ``None``.

        Examples
        --------
        >>> Settings("a cat", memory="model offload").same_picture(Settings("a cat"))
        True
        >>> Settings("a cat", seed=1).same_picture(Settings("a cat"))
        False
        """
        return self.recipe() == other.recipe()

    def facts(self) -> dict[str, Any]:
        """Return what is known of the facts about the run, by the names in `FACTS`."""
        return {name: value for name in FACTS if (value := getattr(self, name)) is not None}

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as a dictionary of plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, strict: bool = True) -> Settings:
        """Make settings from a dictionary; missing fields take their defaults.

        Parameters
        ----------
        values
            Values by field name.
        strict
            Refuse unknown names. With ``False`` they are dropped: meant for files of a newer sdkit.

        Raises
        ------
        InvalidSettings
            For an unknown field or a value outside its limits.
        """
        if not isinstance(values, Mapping):
            _refuse(
                f"settings must be a dictionary, not {type(values).__name__}: use field names as keys"
            )
        names = [field.name for field in fields(cls)]
        unknown = [str(name) for name in values if name not in names]
        if unknown and strict:
            known, beside = _KNOWN_ELSEWHERE.get(unknown[0]), _NO_SETTING.get(unknown[0])
            hint = beside or (
                f"it is called {known!r} here" if known else _suggest_field(unknown[0], names)
            )
            _refuse(f"there is no setting {_show(unknown[0])}: {hint}")
        return cls(**{name: values[name] for name in names if name in values})

    def to_json(self) -> str:
        """Return all fields as one line of JSON in ASCII, which survives every file format and encoding."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str | bytes, *, strict: bool = True) -> Settings:
        """Read what `to_json` wrote; see `from_dict` for `strict` and the errors."""
        try:
            values = json.loads(text)
        except (
            ValueError,
            RecursionError,
        ) as error:  # RecursionError: "[[[[…" is a text somebody may hand in
            reason = str(error).partition("\n")[0]
            _refuse(
                f"the settings are not valid JSON ({reason}): use what Settings.to_json() returns",
                error,
            )
        return cls.from_dict(values, strict=strict)


def _refuse(sentence: str, cause: BaseException | None = None) -> NoReturn:
    raise InvalidSettings(sentence) from cause


def _show(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print integers of more than 4300 digits
        text = "that huge number"
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def _suggest_field(name: str, names: Iterable[str]) -> str:
    """What a field may have been meant to be; names of other programs are known as well, facts are nobody's choice."""
    chosen = [n for n in names if n not in _RECORDED]
    near = get_close_matches(name.lower(), [*chosen, *_KNOWN_ELSEWHERE], n=1, cutoff=0.65)
    if not near:
        return "use one of " + ", ".join(chosen)
    return f"did you mean {_KNOWN_ELSEWHERE.get(near[0], near[0])!r}?"


def _suggest(name: str, names: Iterable[str]) -> str:
    near = get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else "use one of " + ", ".join(names)


def _text(name: str, value: object) -> str:
    if isinstance(value, (list, tuple)):
        _refuse(
            f"{name} is a list of {len(value)}, but one Settings makes one picture: make one Settings for each"
        )
    if not isinstance(value, str):
        _refuse(f"{name} must be text, not {_show(value)}: put it in quotes")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        # Half of a UTF-16 pair is no character: it can be neither saved in a picture nor tokenised.
        _refuse(
            f"{name} has half a character (a lone surrogate) at position {error.start}: remove it",
            error,
        )
    return value


def _integer(name: str, value: object, *, low: int, high: int) -> int:
    try:
        # True counts as 1 in Python, but nobody means it as a number of steps.
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None:
        _refuse(
            f"{name} must be a whole number from {low} to {high}, not {_show(value)}: change it"
        )
    if not low <= number <= high:
        _refuse(f"{name}={_show(number)} is outside {low} to {high}: choose a number in that range")
    return number


def _number(name: str, value: object, *, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        _refuse(f"{name} must be a number from {low} to {high}, not {_show(value)}: change it")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not low <= number <= high:  # also false for NaN
        _refuse(f"{name}={_show(value)} is outside {low} to {high}: choose a number in that range")
    return number


def _strength(name: str, value: object) -> float:
    number = _number(name, value, low=0, high=1)
    if number == 0:
        _refuse(
            f"{name}=0 would return the source picture unchanged: use a number above 0, up to 1"
        )
    return number


def _weights(name: str, value: object) -> float | tuple[float, ...]:
    number = partial(_number, name, low=0, high=10)
    if not isinstance(value, (list, tuple)):
        return number(value)
    if not value:
        _refuse(f"{name} is an empty list: give one number, or one for each control picture")
    return tuple(number(one) for one in value)


def _pixels(name: str, value: object) -> int:
    number = _integer(name, value, low=16, high=8192)
    if number % 8:
        near = round(number / 8) * 8
        _refuse(f"{name}={number} is not a multiple of 8, which the autoencoder needs: use {near}")
    return number


def _choice(name: str, value: object, *, choices: Iterable[str]) -> str:
    if not isinstance(value, str) and value.__class__.__module__ != "builtins":
        kind = type(value).__name__
        _refuse(f"{name} is a {kind}: give a name, or set pipe.{name} and leave it out here")
    if not isinstance(value, str) or value not in choices:
        _refuse(f"there is no {name} {_show(value)}: {_suggest(str(value), choices)}")
    return value


def _digest(name: str, value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
        _refuse(
            f"{name} must be a SHA-256 of 64 hexadecimal digits, not {_show(value)}: leave it to generate()"
        )
    return value


_SEED: Final = partial(
    _integer, low=0, high=2**63 - 1
)  # what torch.Generator and every other tool accept

_CHECKS: Final[Mapping[str, Callable[[str, object], object]]] = {
    "prompt": _text,
    "negative_prompt": _text,
    "seed": _SEED,
    "steps": partial(_integer, low=1, high=1000),  # the models' own schedules have 1000
    "guidance_scale": partial(_number, low=0, high=50),
    "true_cfg_scale": partial(_number, low=0, high=50),
    "width": _pixels,
    "height": _pixels,
    "scheduler": partial(_choice, choices=SCHEDULERS),
    "strength": _strength,
    "fit": partial(_choice, choices=FITS),
    "variation_seed": _SEED,
    "variation_amount": partial(_number, low=0, high=1),
    "task": partial(_choice, choices=TASKS),
    "source": _digest,
    "mask": _digest,
    "control": _digest,
    "control_scale": _weights,
    "reference": _digest,
    "noise": _digest,
    "model": _text,
    "revision": _text,
    "licence": _text,
    "version": _text,
    "additions": _text,
    "memory": _text,
}
