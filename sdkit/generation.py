"""Make pictures: `generate()` and `variations()`.

The design decision: everything runs through the pipeline's own ``pipe(...)`` call, so that every model family, LoRA
and scheduler works and the picture is the one diffusers makes, bit for bit. What is added lies around that call: one
seeded generator for each picture, remembered text encodings, checks before the first step, and a finite-number check
after the last.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from . import __version__, pocket
from .errors import InvalidSettings
from .metadata import fingerprint
from .models import defaults, model_name
from .result import Result
from .run import OnStep, Run, lock_of
from .schedulers import make_scheduler, scheduler_name
from .settings import Settings

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

__all__ = ["PromptWarning", "generate", "variations"]

# pictures with equal values here can share one call of the pipeline
_SHARED = ("steps", "guidance_scale", "width", "height", "scheduler", "strength", "task")


class PromptWarning(UserWarning):
    """Something about a prompt that the model will not follow: unknown or cut-off words."""


def generate(
    pipe: DiffusionPipeline,
    prompt: str | Settings | Result | Sequence[str | Settings],
    *,
    count: int = 1,
    image: Image.Image | None = None,
    mask: Image.Image | None = None,
    on_step: OnStep | None = None,
    progress: bool = True,
    batch_size: int | None = None,
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
        A picture to start from (image-to-image); it is resized to the settings' size.
    mask
        Together with `image`: white is made anew, black is kept (inpainting).
    on_step
        Called after every step with the step (from 1), the number of steps, and a function that decodes the
        present latents into a picture; raise `Cancelled` (or anything) in it to stop.
    progress
        Show a progress bar.
    batch_size
        Pictures made together; None makes up to 4 on a processor and up to 8 on a GPU.
    **changes
        Fields of `Settings`, such as ``seed=7``, ``steps=20``, ``guidance_scale=5``, ``negative_prompt="…"``,
        ``width=``, ``height=``, ``scheduler="euler"``, ``strength=0.6``.

    Returns
    -------
    Result
        The pictures, each with the exact settings that make it again alone.

    Raises
    ------
    InvalidSettings
        Before the first step, in one sentence, if something cannot work.
    NumericalError
        If the latents or the picture hold NaN or infinity: there is never a silent black picture.

    Notes
    -----
    Picture *i* of a batch has its own generator on the processor, so it can be made again alone, on any device. A
    batch and a single picture take different arithmetic paths: expect equality to about 1e-5, not to the bit.
    """
    wanted = _wanted(pipe, prompt, count, changes)
    replayed = prompt if isinstance(prompt, Result) else None
    if replayed is not None:
        image = image if image is not None else replayed.source
        mask = mask if mask is not None else replayed.mask
    wanted = _with_sources(wanted, image, mask)
    _check(pipe, wanted, image)
    notes = _warn_about_words(pipe, wanted)
    size = batch_size or (4 if pipe._execution_device.type == "cpu" else 8)
    if size < 1:
        raise InvalidSettings(f"batch_size is {batch_size}; give 1 or more, or leave it out.")
    began = time.perf_counter()
    done: dict[int, tuple[Image.Image, np.ndarray, str | None]] = {}
    with lock_of(pipe), torch.no_grad():
        for chunk in _chunks(wanted, size):
            run = Run(pipe, [wanted[i] for i in chunk], image, mask, on_step=on_step, progress=progress)
            done |= dict(zip(chunk, run(), strict=True))
    order = range(len(wanted))
    flags = tuple(note for i in order if (note := done[i][2]))
    latents = [done[i][1] for i in order]
    same = len({lat.shape for lat in latents}) == 1
    return Result(
        images=[done[i][0] for i in order],
        settings=wanted,
        latents=np.stack(latents) if same else None,
        seconds={"total": time.perf_counter() - began},
        notes=notes + flags,
        source=image,
        mask=mask,
    )


def variations(
    pipe: DiffusionPipeline, around: Result | Settings, *, count: int = 8, amount: float = 0.3, **options: Any
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
    """
    base = around.settings if isinstance(around, Result) else around
    if base.task != "text-to-image":
        raise InvalidSettings(
            f"Variations turn the starting noise, and this picture is {base.task}; use generate(..., count=8, seed=…) for more of it."
        )
    if count < 1:
        raise InvalidSettings(f"count is {count}; ask for 1 draft or more.")
    first = base.seed + 1
    return generate(
        pipe,
        [base.replace(variation_seed=(first + n) % 2**63, variation_amount=amount) for n in range(count)],
        **options,
    )


# -- before the run ------------------------------------------------------------------------------------------------


def _wanted(pipe: Any, prompt: Any, count: int, changes: dict[str, Any]) -> list[Settings]:
    """The complete settings of every picture."""
    items: list[Any]
    if isinstance(prompt, Result):
        items = list(prompt.all_settings)
    elif isinstance(prompt, (str, Settings)):
        items = [prompt]
    elif isinstance(prompt, Sequence) and prompt:
        items = list(prompt)
    else:
        raise InvalidSettings(f"prompt is {prompt!r}; give words, Settings, a Result, or a list that is not empty.")
    if count < 1:
        raise InvalidSettings(f"count is {count}; ask for 1 picture or more.")
    own = defaults(pipe)
    facts = {"model": model_name(pipe), "version": __version__}
    complete = []
    for item in items:
        asked = item if isinstance(item, Settings) else Settings(prompt=item)
        asked = asked.replace(**changes)
        filled = {
            f: getattr(own, f)
            for f in ("steps", "guidance_scale", "width", "height", "scheduler")
            if getattr(asked, f) is None
        }
        asked = asked.replace(**filled, **facts)
        complete += [asked.replace(seed=(asked.seed + n) % 2**63) if n else asked for n in range(count)]
    return complete


def _with_sources(wanted: list[Settings], image: Image.Image | None, mask: Image.Image | None) -> list[Settings]:
    """Record what kind of run this is and which picture it starts from."""
    if mask is not None and image is None:
        raise InvalidSettings("A mask was given without an image; inpainting needs both.")
    for given, name in ((image, "image"), (mask, "mask")):
        if given is not None and not isinstance(given, Image.Image):
            raise InvalidSettings(f"{name} is a {type(given).__name__}; give a PIL image.")
    if image is None:
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
                "The image or mask is not the one these settings were made with; the picture will differ.", stacklevel=3
            )
    return [s.replace(task=task, **sums) for s in wanted]


def _check(pipe: Any, wanted: list[Settings], image: Image.Image | None) -> None:
    """Everything that would otherwise fail inside the run."""
    for name in {s.scheduler for s in wanted if s.scheduler} - {scheduler_name(pipe)}:
        make_scheduler(pipe, name)
    for s in wanted:
        if image is None and s.variation_amount and hasattr(pipe, "transformer"):
            raise InvalidSettings(f"Variations are not offered for {type(pipe).__name__}; use other seeds.")
        if image is not None:
            if s.variation_amount:
                raise InvalidSettings(
                    "variation_amount turns the starting noise of text-to-image; leave it at 0 with an image."
                )
            if int((s.steps or 0) * s.strength) < 1:
                raise InvalidSettings(
                    f"strength {s.strength:g} of {s.steps} steps leaves no step to run; raise strength to {1 / (s.steps or 1):.2g} or more, or use more steps."
                )


def _warn_about_words(pipe: Any, wanted: list[Settings]) -> tuple[str, ...]:
    """One friendly sentence for each prompt that the model cannot follow to the letter."""
    notes = []
    for text in dict.fromkeys(s.prompt for s in wanted):
        unknown = pocket.unknown_words(text) if model_name(pipe) == "pocket" else {}
        if unknown:
            told = [f"{w!r}" + (f" (do you mean {' or '.join(near)}?)" if near else "") for w, near in unknown.items()]
            notes.append(
                f"Pocket has never seen {', '.join(told)}; sdkit.pocket.vocabulary() lists the words it knows."
            )
        tokenizer = getattr(pipe, "tokenizer", None)
        limit = getattr(tokenizer, "model_max_length", None)
        if tokenizer is not None and limit and limit < 10_000:
            length = len(tokenizer(text).input_ids)
            if length > limit:
                notes.append(
                    f"The prompt has {length - 2} tokens and the text encoder reads {limit - 2}; its end is not seen: shorten it."
                )
    for note in notes:
        warnings.warn(note, PromptWarning, stacklevel=3)
    return tuple(notes)


def _chunks(wanted: list[Settings], size: int) -> Iterator[list[int]]:
    """Indices of pictures that can share one call."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, s in enumerate(wanted):
        groups.setdefault(tuple(getattr(s, f) for f in _SHARED), []).append(i)
    for group in groups.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]
