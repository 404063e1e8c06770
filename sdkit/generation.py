"""Make pictures: `generate()` and `variations()`.

The design decision: everything runs through the pipeline's own ``pipe(...)`` call, so that every model family, LoRA
and scheduler works and the picture is the one diffusers makes, bit for bit. What is added lies around that call: one
seeded generator for each picture, remembered text encodings, checks before the first step, and a finite-number check
after the last.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from . import __version__
from .attention.capture import capture_attention
from .errors import InvalidSettings
from .memory.plan import planned
from .memory.recovery import Ladder
from .models.defaults import defaults
from .models.identity import identity
from .models.words import cautions
from .pictures.guides import NO_GUIDES, Guides, guides_in
from .pictures.metadata import fingerprint
from .pictures.sources import Picture, effective_fit, fitted, mask_note, sized_like, taken_in
from .pipelines.additions import additions
from .pipelines.beginnings import begins
from .pipelines.families import denoiser_of, family_of
from .pipelines.guiding import check_guides
from .pipelines.latents import grain_of
from .pipelines.noise import starting_noise
from .pipelines.run import OnStep, Run, lock_of
from .pipelines.schedulers import make_scheduler, scheduler_name
from .pipelines.starting import starter
from .result import Result
from .settings import Settings
from .traces.trace import Trace, parts
from .traces.tracing import record_trace, warn_of_cost

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from .attention.maps import AttentionMaps

__all__ = [
    "FlaggedWarning",
    "PromptWarning",
    "batch_for",
    "chunks",
    "complete",
    "generate",
    "make",
    "notes_only",
    "variations",
    "warn_about_words",
    "warn_of_flags",
]

# pictures with equal values here can share one call of the pipeline
_SMALL = (
    128 * 128
)  # pixels: up to here a processor is fastest with eight pictures at once (measured with Pocket)
_SHARED = (
    "steps",
    "guidance_scale",
    "true_cfg_scale",
    "width",
    "height",
    "scheduler",
    "strength",
    "fit",
    "task",
    "control_scale",
)
_EMBEDDINGS = (
    "prompt_embeds",
    "negative_prompt_embeds",
    "pooled_prompt_embeds",
    "negative_pooled_prompt_embeds",
)
_RECORDED = {
    "model": "load another one with sdkit.load(name)",
    "revision": "load it with sdkit.load(name, revision=…)",
    "memory": "load with sdkit.load(name, memory=…)",
    "additions": "change the pipeline itself, such as with pipe.load_lora_weights(…)",
    "licence": "it comes with the weights",
    "version": "it is that of the sdkit that runs",
}
_EMBEDDED = "Made from text encodings that were handed in: the settings alone do not make this picture again."


_quiet: ContextVar[bool] = ContextVar("_quiet", default=False)


class PromptWarning(UserWarning):
    """Something about a prompt that the model will not follow: unknown or cut-off words."""


class FlaggedWarning(PromptWarning):
    """The model's safety checker flagged a picture and blanked it."""


def generate(
    pipe: DiffusionPipeline,
    prompt: str | Settings | Result | Sequence[str | Settings],
    *,
    count: int = 1,
    image: Picture | None = None,
    mask: Picture | None = None,
    control: Picture | Sequence[Picture] | None = None,
    reference: Picture | Sequence[Picture] | None = None,
    on_step: OnStep | None = None,
    progress: bool = True,
    batch_size: int | None = None,
    attention: bool | Mapping[str, Any] = False,
    trace: bool | str | Sequence[str] = False,
    embeddings: Mapping[str, torch.Tensor] | None = None,
    **changes: Any,
) -> Result:
    """Make one or more pictures from words, or from words and a picture.

    Parameters
    ----------
    pipe
        A diffusers pipeline, from `sdkit.load()` or your own.
    prompt
        Words; `Settings`; a `Result`, to make its pictures again; or a list of words or settings.
    count
        Pictures for each prompt, with seeds ``seed``, ``seed + 1``, …
    image
        A picture to start from (image-to-image): of Pillow in any mode, a PNG, JPEG or WebP file's path, or an array.
        It is turned as its EXIF says, and lies on white where it is transparent. Its proportions are kept: without
        ``width=`` and ``height=`` the picture gets them within the model's usual area, and with one of the two the
        other follows. In a size of other proportions it is cropped to its middle; ``fit="pad"`` shows all of it on
        white, ``fit="stretch"`` pulls it out of shape. With a ``fit=`` and no size, the model's own size is taken.
    mask
        Together with `image`, and given like it: white is made anew, black is kept (inpainting). Where only some of it is
        transparent, what is opaque is made anew (see `sdkit.pictures.sources.as_mask`). It lies over the whole image,
        or over the picture to be made if it has that one's proportions.
    control
        The picture that the ControlNet or T2I-Adapter of a pipeline follows, given like `image`; a list of one for each where
        it has several. It lies over the picture to be made, gives it its proportions as an `image` does, and gets into another
        size by the same ``fit=``. ``control_scale=`` says how strongly it leads.
    reference
        A picture whose look is followed: what a loaded IP-Adapter (``pipe.load_ip_adapter(...)``) looks at; a list of one for
        each where there are several.
    on_step
        Called after every step with the step (from 1), the number of steps, and a function that decodes the
        present latents into a picture (roughly and at once with ``exact=False``); raise `Cancelled` (or anything) in
        it to stop.
    progress
        Show a progress bar.
    batch_size
        Pictures made together; None makes up to 4 on a processor (8 up to 128×128 pixels) and up to 8 on a GPU, if they
        fit into memory.
    attention
        Keep where each word was looked at, as ``result.attention``; the picture stays the same. A dictionary holds
        options of `capture_attention`, such as ``{"steps": True}``.
    trace
        Record every step: True for everything, or names out of `sdkit.traces.trace.PARTS` such as ``("latents", "x0")``. The
        picture stays the same, and the progress bar tells the memory it costs (`sdkit.trace_cost` tells it beforehand).
    embeddings
        Text encodings made elsewhere, used in place of the prompt's, under the names that the pipeline takes them by:
        ``{"prompt_embeds": (1, T, D), "negative_prompt_embeds": (1, T, D)}``, for SDXL, SD3 and Flux the pooled ones too.
    **changes
        Fields of `Settings`, such as ``seed=7``, ``steps=20``, ``guidance_scale=5``, ``negative_prompt="…"``,
        ``width=``, ``height=``, ``scheduler="euler"``, ``strength=0.6``, ``fit="pad"``.

    Returns
    -------
    Result
        The pictures, each with the exact settings that make it again alone.

    Raises
    ------
    InvalidSettings
        Before the first step, in one sentence, if something cannot work.
    BadPicture
        Before the first step, if one of the pictures cannot be read.
    NumericalError
        If the latents or the picture hold NaN or infinity: there is never a silent black picture.
    OutOfMemory
        If the pictures do not fit into memory in any way; what was tried before is warned of and recorded as
        ``result.settings.memory``.

    Notes
    -----
    Picture *i* of a batch has its own generator on the processor, so it can be made again alone, on any device. A
    batch and a single picture take different arithmetic paths: expect equality to about 1e-5, not to the bit.

    Examples
    --------
    >>> r = sdkit.generate(pipe, "a red car on a beach, watercolor", seed=7)
    >>> r.settings.seed, r.settings.task
    (7, 'text-to-image')
    >>> sheet = sdkit.generate(pipe, r.settings.replace(guidance_scale=9, steps=4), count=2)
    >>> [picture.settings.seed for picture in sheet]
    [7, 8]

    Weighted and long prompts, with compel (``pip install 'sdkit-notebooks[compel]'``):

    >>> from compel import CompelForSD  # doctest: +SKIP
    >>> words = "a (red)1.4 car on a beach"
    >>> made = CompelForSD(pipe)(words, negative_prompt="")  # doctest: +SKIP
    >>> sdkit.generate(
    ...     pipe, words, embeddings={"prompt_embeds": made.embeds, "negative_prompt_embeds": made.negative_embeds}
    ... )  # doctest: +SKIP
    """
    guides = guides_in(control, reference)
    replayed = prompt if isinstance(prompt, Result) else None
    if replayed is not None:
        image = image if image is not None else replayed.source
        mask = mask if mask is not None else replayed.mask
        guides = guides.or_else(replayed.guides)
    image, mask = taken_in(image, mask)
    wanted = complete(pipe, prompt, count, image=image, mask=mask, guides=guides, **changes)
    size, keep = batch_for(pipe, batch_size, largest(wanted)), parts(trace)
    notes: tuple[str, ...] = (_EMBEDDED,)
    if embeddings is None:
        notes = warn_about_words(pipe, wanted)
    else:
        _check_embeddings(wanted, embeddings)
    warn_of_cost(pipe, wanted, keep)
    return make(
        pipe,
        wanted,
        image=image,
        mask=mask,
        guides=guides,
        on_step=on_step,
        progress=progress,
        size=size,
        keep=keep,
        attention=attention,
        embeddings=embeddings,
        notes=notes,
    )


def make(
    pipe: Any,
    wanted: Sequence[Settings],
    *,
    image: Image.Image | None,
    mask: Image.Image | None,
    guides: Guides = NO_GUIDES,
    on_step: OnStep | None,
    progress: bool,
    size: int,
    keep: tuple[str, ...] = (),
    attention: bool | Mapping[str, Any] = False,
    embeddings: Mapping[str, torch.Tensor] | None = None,
    notes: Sequence[str] = (),
) -> Result:
    """Make pictures whose settings are complete and checked, at most `size` together; what `generate` does last."""
    began = time.perf_counter()
    done: dict[int, tuple[Image.Image, np.ndarray, bool]] = {}
    maps: dict[int, AttentionMaps] = {}
    traces: dict[int, Trace] = {}
    watching = dict(attention) if isinstance(attention, Mapping) else {}
    watched = attention is True or isinstance(attention, Mapping)  # an empty dictionary asks, too
    ladder = Ladder(pipe, wanted)

    def attempt(some: list[int]) -> None:
        together = [wanted[i] for i in some]
        with ExitStack() as probes:
            capture = probes.enter_context(capture_attention(pipe, **watching)) if watched else None
            recorder = (
                probes.enter_context(record_trace(pipe, keep, settings=together)) if keep else None
            )
            embeds = None if embeddings is None else _expanded(pipe, embeddings, len(together))
            made = Run(
                pipe, together, image, mask, guides=guides, on_step=on_step, progress=progress, embeds=embeds,
            )()  # fmt: skip
        done.update(zip(some, made, strict=True))
        if capture is not None:
            maps.update(zip(some, capture.all_maps, strict=True))
        if recorder is not None:
            led = [replace(trace, guides=guides) for trace in recorder.traces]
            traces.update(zip(some, led, strict=True))

    with lock_of(pipe), torch.no_grad():
        for chunk in chunks(pipe, wanted, size):
            ladder.climb(chunk, attempt)
    order = range(len(wanted))
    warn_of_flags(done[i][2] for i in order)
    latents = [done[i][1] for i in order]
    same = len({lat.shape for lat in latents}) == 1
    return Result(
        images=[done[i][0] for i in order],
        settings=[s.replace(memory=ladder.facts) for s in wanted] if ladder.facts else wanted,
        latents=np.stack(latents) if same else None,
        seconds={"total": time.perf_counter() - began},
        notes=notes,
        flagged=[done[i][2] for i in order],
        traces=[traces[i] for i in order] if keep else (),
        attention=[replace(maps[i], image=done[i][0]) for i in order] if maps else None,
        source=image,
        mask=mask,
        guides=guides,
    )


def variations(
    pipe: DiffusionPipeline,
    around: Result | Settings,
    *,
    count: int = 8,
    amount: float = 0.3,
    **options: Any,
) -> Result:
    """Drafts around one picture: its noise, turned a little towards other noise.

    Parameters
    ----------
    pipe
        The pipeline that made the picture.
    around
        The picture (the first of a `Result`) or its settings.
    count
        Number of drafts, 1 or more.
    amount
        How far they stray: 0 is the picture itself, 1 a picture from unrelated noise.
    **options
        As for `generate`.

    Returns
    -------
    Result
        Each draft's settings hold `variation_seed` and `variation_amount`, so it can be made again alone.

    Notes
    -----
    Spherical interpolation keeps the norm that noise of this dimension has (Shoemake 1985):
    ``slerp(a, b, t) = sin((1-t)θ)/sin θ · a + sin(tθ)/sin θ · b``, with θ the angle between a and b.

    Examples
    --------
    >>> r = sdkit.generate(pipe, "a fox in the snow", seed=1, steps=4)
    >>> drafts = sdkit.variations(pipe, r, count=3, amount=0.2)
    >>> [(d.settings.seed, d.settings.variation_amount) for d in drafts]
    [(1, 0.2), (1, 0.2), (1, 0.2)]
    """
    base = around.settings if isinstance(around, Result) else around
    if base.task != "text-to-image":
        raise InvalidSettings(
            f"Variations turn the starting noise, and this picture is {base.task}; use generate(..., count=8, seed=…) for more of it."
        )
    _check_count(count)
    if isinstance(around, Result):
        options = {**around.guides.asked(), **options}
    first = base.seed + 1
    return generate(
        pipe,
        [
            base.replace(variation_seed=(first + n) % 2**63, variation_amount=amount)
            for n in range(count)
        ],
        **options,
    )


# -- before the run ------------------------------------------------------------------------------------------------


def complete(
    pipe: Any,
    prompt: Any,
    count: int = 1,
    *,
    image: Image.Image | None = None,
    mask: Image.Image | None = None,
    guides: Guides = NO_GUIDES,
    **changes: Any,
) -> list[Settings]:
    """The checked and complete settings of every picture that `generate` would make; parameters and errors as there.

    The image and the mask come from `taken_in`, control pictures and references from `guides_in`.
    """
    shape = image if image is not None else next(iter(guides.control), None)
    wanted = _with_sources(_wanted(pipe, prompt, count, changes, shape), image, mask, guides)
    wanted = _without_strength(pipe, wanted)
    _check(pipe, wanted, image, mask, guides)
    _check_noise(pipe, wanted, image)
    if guides.control:
        own = family_of(starter(pipe, wanted[0].task)).control_scale
        wanted = [
            s if s.control_scale is not None else s.replace(control_scale=own) for s in wanted
        ]
    return wanted


def largest(wanted: Sequence[Settings]) -> Settings:
    """The settings of the largest picture, which memory has to hold."""
    return max(wanted, key=lambda s: (s.width or 0) * (s.height or 0))


def batch_for(pipe: Any, batch_size: int | None, first: Settings) -> int:
    """How many pictures like this one to make together: what was asked for, or what suits the device."""
    plan = planned(pipe)
    small = (first.width or 0) * (first.height or 0) <= _SMALL
    most = 8 if small or pipe._execution_device.type != "cpu" else 4
    if plan is not None:
        most = min(most, plan.together)
    size = most if batch_size is None else batch_size
    if not isinstance(size, int) or size < 1:
        raise InvalidSettings(f"batch_size is {batch_size}; give 1 or more, or leave it out.")
    return size


def _wanted(
    pipe: Any, prompt: Any, count: int, changes: dict[str, Any], image: Image.Image | None = None
) -> list[Settings]:
    """The complete settings of every picture."""
    items: list[Any]
    if isinstance(prompt, Result):
        items = list(prompt.all_settings)
    elif isinstance(prompt, (str, Settings)):
        items = [prompt]
    elif isinstance(prompt, Sequence) and prompt:
        items = list(prompt)
    else:
        raise InvalidSettings(
            f"prompt is {_shown(prompt)}; give words, Settings, a Result, or a list that is not empty."
        )
    _check_count(count)
    for name, instead in _RECORDED.items():
        if changes.get(name) is not None:
            raise InvalidSettings(f"{name} is recorded, not chosen here: {instead}.")
    own = defaults(pipe)
    step = math.lcm(8, grain_of(pipe))
    facts = {**identity(pipe), "version": __version__, "memory": None}
    carried = cache(lambda swapped: additions(pipe, solver=not swapped))
    complete = []
    for item in items:
        then = item if isinstance(item, Settings) else Settings(prompt=item)
        asked = sized_like(then.replace(**changes), image, (own.width, own.height), step=step)
        now = carried(asked.scheduler is not None)
        if then.version is not None and then.additions != now:
            _warn_of_additions(then.additions, now)
        asked = own.fill(_one_guidance(pipe, asked)).replace(**facts, additions=now)
        if count > 1 and asked.noise is not None:
            raise InvalidSettings(
                f"count is {count}, and settings with noise of their own make one picture, whatever the seed; use sdkit.variations()."
            )
        complete += [
            asked.replace(seed=(asked.seed + n) % 2**63) if n else asked for n in range(count)
        ]
    return complete


def _shown(value: Any) -> str:
    """A value in an error: as it is written, if that is short."""
    text = repr(value)
    return text if len(text) < 60 else f"of type {type(value).__name__}"


def _check_count(count: Any) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise InvalidSettings(f"count is {count!r}; ask for 1 picture or more, a whole number.")


def _one_guidance(pipe: Any, s: Settings) -> Settings:
    """Take a `true_cfg_scale` for what it is in this pipeline: a scale of its own (Flux), or the guidance (Qwen-Image)."""
    family = family_of(pipe)
    if s.true_cfg_scale is None or family.true_guidance:
        return s
    if family.guidance != "true_cfg_scale":
        raise InvalidSettings(
            f"{family.pipeline} has no true_cfg_scale; leave it out, guidance_scale is all the guidance there is."
        )
    if s.guidance_scale not in (None, s.true_cfg_scale):
        raise InvalidSettings(
            f"guidance_scale={s.guidance_scale:g} and true_cfg_scale={s.true_cfg_scale:g} are one and the same in {family.pipeline}; give one of them."
        )
    return s.replace(guidance_scale=s.true_cfg_scale, true_cfg_scale=None)


def _warn_of_additions(then: str | None, now: str | None) -> None:
    """Say that a picture was made with another pipeline than the one that is to make it again."""
    if not _quiet.get():
        warnings.warn(
            f"These settings were made with {then or 'the model alone'}, and this pipeline carries "
            f"{now or 'the model alone'}; the picture will differ.",
            PromptWarning,
            stacklevel=5,
        )


def _with_sources(
    wanted: list[Settings], image: Image.Image | None, mask: Image.Image | None, guides: Guides
) -> list[Settings]:
    """Record what kind of run this is and which pictures it starts from and is led by."""
    if mask is not None and image is None:
        raise InvalidSettings("A mask was given without an image; inpainting needs both.")
    wanted = _with_guides(wanted, image, guides)
    if image is None:
        fits = [s.fit for s in wanted if s.fit is not None and s.task == "text-to-image"]
        if fits and not guides.control:
            raise InvalidSettings(
                f"fit={fits[0]!r} says how an image gets into the size; give image=…, or no fit."
            )
        needy = [s for s in wanted if s.task != "text-to-image"]
        if needy:
            raise InvalidSettings(
                f"These settings are for {needy[0].task}; give the picture they start from as image=…."
            )
        return wanted
    task = "image-to-image" if mask is None else "inpainting"
    sums = {"source": fingerprint(image), "mask": None if mask is None else fingerprint(mask)}
    for s in wanted:
        if s.source not in (None, sums["source"]) or s.mask not in (None, sums["mask"]):
            warnings.warn(
                "The image or mask is not the one these settings were made with; the picture will differ.",
                stacklevel=4,
            )
    notes = {
        None if mask is None else mask_note(mask, image.size, (s.width or 0, s.height or 0))
        for s in wanted
    }
    for note in notes - {None}:
        warnings.warn(str(note), stacklevel=4)
    return [s.replace(task=task, fit=effective_fit(s, image), **sums) for s in wanted]


def _without_strength(pipe: Any, wanted: list[Settings]) -> list[Settings]:
    """Record that nothing of the source is kept as it is, where a model edits: it looks at the source at every step."""
    family = family_of(pipe)
    if not family.edits or wanted[0].task != "image-to-image":
        return wanted
    usual = (Settings.__dataclass_fields__["strength"].default, 1.0)
    if asked := [s.strength for s in wanted if s.strength not in usual]:
        raise InvalidSettings(
            f"strength={asked[0]:g} has no meaning for {family.pipeline}, which looks at the whole image while it draws a new one; leave it out and say in the prompt what to change."
        )
    return [s.replace(strength=1.0) for s in wanted]


def _with_guides(
    wanted: list[Settings], image: Image.Image | None, guides: Guides
) -> list[Settings]:
    """Record which pictures lead the run."""
    sums = guides.sums()
    for name, told in (("control", "control picture"), ("reference", "reference picture")):
        recorded = {getattr(s, name) for s in wanted} - {None}
        if recorded and sums[name] is None:
            raise InvalidSettings(f"These settings were made with a {told}; give it as {name}=….")
        if recorded - {sums[name]}:
            warnings.warn(
                f"The {told} is not the one these settings were made with; the picture will differ.",
                stacklevel=5,
            )
    if image is None and guides.control:
        wanted = [s.replace(fit=effective_fit(s, guides.control[0])) for s in wanted]
    return [s.replace(**sums) for s in wanted]


def _check(
    pipe: Any,
    wanted: list[Settings],
    image: Image.Image | None,
    mask: Image.Image | None,
    guides: Guides,
) -> None:
    """Everything that would otherwise fail inside the run."""
    for name in {s.scheduler for s in wanted if s.scheduler} - {scheduler_name(pipe)}:
        make_scheduler(pipe, name)
    family = family_of(pipe)
    given = {"image": image is not None, "mask": mask is not None, "control": bool(guides.control)}
    if family.unheard:
        raise InvalidSettings(
            f"{family.pipeline} wants {family.unheard}, which generate() does not hand over; call the pipeline yourself."
        )
    if not all(given[name] for name in family.wants):
        needed = " and ".join(f"{name}=…" for name in family.wants)
        raise InvalidSettings(f"{family.pipeline} needs {needed}.")
    check_guides(pipe, wanted, guides)
    for s in wanted:
        if (
            "guidance_schedule" in family.accepts
            and s.guidance_scale is None
            and s.steps != family.steps
        ):
            raise InvalidSettings(
                f"{family.pipeline} has a guidance for each of {family.steps} steps, and {s.steps} were asked for; give guidance_scale=, "
                f"or leave steps at {family.steps}."
            )
        if image is None and s.variation_amount and not (family.steerable or begins(pipe)[1]):
            raise InvalidSettings(
                f"Variations are not offered for {type(pipe).__name__}; use other seeds."
            )
    if image is not None:
        _check_start(pipe, wanted, image)


def _check_start(pipe: Any, wanted: list[Settings], image: Image.Image) -> None:
    """What would otherwise fail inside a run that begins with a picture."""
    family = family_of(starter(pipe, wanted[0].task))
    look = getattr(getattr(pipe, "image_processor", None), "check_image_input", None)
    processor = getattr(pipe, "processor", None)
    if family.edits and processor is not None and not getattr(processor, "image_processor", None):
        raise InvalidSettings(
            f"This {family.pipeline}'s processor has no part that looks at pictures; load the whole pipeline, or leave the image out."
        )
    for s in wanted:
        if s.variation_amount:
            raise InvalidSettings(
                "variation_amount turns the starting noise of text-to-image; leave it at 0 with an image."
            )
        if "strength" in family.accepts and int((s.steps or 0) * s.strength) < 1:
            raise InvalidSettings(
                f"strength {s.strength:g} of {s.steps} steps leaves no step to run; raise strength to {_least_strength(s.steps or 1):g} or more, or use more steps."
            )
        if family.edits and look is not None:  # FLUX.2 wants a picture of some size
            try:
                look(fitted(image, (s.width or image.width, s.height or image.height), s.fit))
            except ValueError as error:
                raise InvalidSettings(
                    f"{family.pipeline} cannot take this image: {error}; ask for another width= and height=."
                ) from error


def _check_noise(pipe: Any, wanted: list[Settings], image: Image.Image | None) -> None:
    for s in wanted:
        if s.noise is None:
            continue
        if image is not None:
            raise InvalidSettings(
                "These settings begin with noise of their own, and an image brings its own; use noise=None with it."
            )
        if not family_of(pipe).steerable:
            raise InvalidSettings(
                f"{type(pipe).__name__} takes no noise from outside; use noise=None."
            )
        starting_noise(pipe, s)  # says so if it is not at hand, or for another size


def _least_strength(steps: int) -> float:
    """The smallest share in hundredths (thousandths above 100 steps) of which diffusers runs a step."""
    parts = 100 if steps <= 100 else 1000
    return next(n / parts for n in range(1, parts + 1) if int(steps * (n / parts)) >= 1)


def _check_embeddings(wanted: Sequence[Settings], embeddings: Mapping[str, torch.Tensor]) -> None:
    if strange := sorted(set(embeddings) - set(_EMBEDDINGS)):
        raise InvalidSettings(
            f"embeddings has {strange[0]!r}; give some of {', '.join(_EMBEDDINGS)}."
        )
    if "prompt_embeds" not in embeddings:
        raise InvalidSettings("embeddings has no 'prompt_embeds'; give those at least.")
    for name, value in embeddings.items():
        if not isinstance(value, torch.Tensor) or value.ndim < 2 or len(value) != 1:
            raise InvalidSettings(
                f"embeddings[{name!r}] must be a tensor of one text, (1, …), not {tuple(getattr(value, 'shape', ()))}; give one prompt a call."
            )
    if len({(s.prompt, s.negative_prompt) for s in wanted}) > 1:
        raise InvalidSettings("embeddings are of one prompt; call generate() for each of several.")
    if "negative_prompt_embeds" not in embeddings and any(
        (s.guidance_scale or 0) > 1 for s in wanted
    ):
        raise InvalidSettings(
            "embeddings has no 'negative_prompt_embeds', which guidance needs; give them, or use guidance_scale=1."
        )


def _expanded(
    pipe: Any, embeddings: Mapping[str, torch.Tensor], count: int
) -> dict[str, torch.Tensor]:
    """The same encodings for each picture of a batch."""
    place = {"device": pipe._execution_device, "dtype": denoiser_of(pipe).dtype}
    return {
        name: value.to(**place).repeat(count, *[1] * (value.ndim - 1))
        for name, value in embeddings.items()
    }


def warn_about_words(
    pipe: Any, wanted: Sequence[Settings], *, stacklevel: int = 3
) -> tuple[str, ...]:
    """Warn with one friendly sentence for each prompt that the model cannot follow to the letter; returns them."""
    notes = cautions(pipe, wanted)
    for note in () if _quiet.get() else notes:
        warnings.warn(note, PromptWarning, stacklevel=stacklevel)
    return tuple(notes)


def warn_of_flags(flags: Iterable[bool], *, stacklevel: int = 4) -> None:
    """Warn once if the safety checker flagged pictures."""
    all_flags = list(flags)
    if (count := sum(all_flags)) and not _quiet.get():
        which = "the picture" if len(all_flags) == 1 else f"{count} of {len(all_flags)} pictures"
        warnings.warn(
            f"The model's safety checker flagged and blanked {which}; try another seed or prompt.",
            FlaggedWarning,
            stacklevel=stacklevel,
        )


@contextmanager
def notes_only() -> Iterator[None]:
    """Leave what is told of prompts and flags to ``result.notes`` inside the block, in this thread alone.

    Python's own warning filters belong to the whole process: a panel's thread must not change the notebook's.
    """
    before = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(before)


def chunks(pipe: Any, wanted: Sequence[Settings], size: int) -> Iterator[list[int]]:
    """Indices of pictures that can share one call of the pipeline."""
    family = family_of(pipe)
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, s in enumerate(wanted):
        alone = () if family.mixes else (s.prompt, s.negative_prompt)
        # some pipelines take no negative prompt for another thing than an empty one
        key = (
            *(getattr(s, f) for f in _SHARED),
            family.remembers or bool(s.negative_prompt),
            bool(s.variation_amount) and not family.steerable,
            *alone,
        )
        groups.setdefault(key, []).append(i)
    for group in groups.values():
        # noise that cannot be handed in is turned one picture at a time
        varied = wanted[group[0]].variation_amount and not family.steerable
        together = 1 if varied or not family.batches else size
        for start in range(0, len(group), together):
            yield group[start : start + together]
