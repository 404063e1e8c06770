"""One call of the pipeline, for settings that can share it.

The design decision: what sdkit adds to a run lies around the pipeline's own ``pipe(...)`` call and is undone after it,
whatever happens: the scheduler and the progress bar come back, hooks are freed, and one lock a pipeline keeps threads
from spoiling each other's run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
from PIL import Image

from sdkit.errors import NumericalError, OutOfMemory
from sdkit.pictures.guides import NO_GUIDES, Guides
from sdkit.pictures.sources import fitted, fitted_mask

from .beginnings import Beginning, begun_with, between, kept
from .calls import announce, replaced, steer
from .embeddings import encode
from .families import Family, denoiser_of, family_of
from .guiding import by_seed, guiding
from .latents import folded, laid_out
from .noise import slerp, starting_noise
from .previews import decode, unpacked
from .rows import shares
from .schedulers import scheduler_of
from .starting import counted, starter

if TYPE_CHECKING:
    from sdkit.settings import Settings

__all__ = ["OnStep", "Run", "beginning_of", "lock_of", "ran_out"]

OnStep = Callable[[int, int, Callable[..., Image.Image]], None]
_locks: WeakKeyDictionary[Any, threading.RLock] = WeakKeyDictionary()
_locks_guard = threading.Lock()


def lock_of(pipe: Any) -> threading.RLock:
    """One lock for all pipelines that share a network: two runs at once spoil each other's scheduler and probes."""
    with _locks_guard:
        return _locks.setdefault(denoiser_of(pipe), threading.RLock())


class Run:
    """One call of the pipeline for settings that can share it.

    Text encodings and starting noise `(B, C, h, w)` can be handed in, for pictures that lie between settings; each
    picture's generator then goes on from where drawing its own noise would have left it. Where a family takes neither
    from outside, a `beginning` does the same for one picture.
    """

    def __init__(
        self,
        pipe: Any,
        wanted: list[Settings],
        image: Image.Image | None,
        mask: Image.Image | None,
        *,
        guides: Guides = NO_GUIDES,
        on_step: OnStep | None,
        progress: bool,
        embeds: dict[str, torch.Tensor] | None = None,
        noise: torch.Tensor | None = None,
        beginning: Beginning | None = None,
    ) -> None:
        self.pipe, self.wanted, self.image, self.mask, self.on_step, self.progress = (
            pipe,
            wanted,
            image,
            mask,
            on_step,
            progress,
        )
        self.guides, self.embeds, self.noise, self.beginning = guides, embeds, noise, beginning
        self.latents: torch.Tensor | None = None
        self.denoised = False

    def __call__(self) -> list[tuple[Image.Image, np.ndarray, bool]]:
        """Pictures, final latents `(C, h, w)`, and whether the safety checker flagged, and so blanked, each picture."""
        first = self.wanted[0]
        beginning = self.beginning or self._turned(first)
        with scheduler_of(self.pipe, first.scheduler), _bar(self.pipe, self.progress):
            runner = starter(self.pipe, first.task)
            with (
                announce(
                    runner,
                    [s.prompt for s in self.wanted],
                    (first.height or 0, first.width or 0),
                ),
                _adding(self.pipe.scheduler, None if self.image is None else self.noise),
                by_seed(self.pipe, self.guides, first.seed),
                begun_with(runner, beginning),
                counted(runner),
            ):
                try:
                    with self._stepping(runner) as told:
                        out = runner(**self._arguments(runner, first), **told, output_type="np")
                except RuntimeError as error:
                    if ran_out(error):
                        raise OutOfMemory(str(error), decoding=self.denoised) from None
                    raise
                finally:
                    self.pipe.maybe_free_model_hooks()
        pixels = np.asarray(
            out.images if hasattr(out, "images") else out.image
        )  # (B, H, W, 3) in 0..1
        if not np.isfinite(pixels).all():
            raise _numerical("picture", getattr(self.pipe, "vae", denoiser_of(self.pipe)).dtype)
        flagged = getattr(out, "nsfw_content_detected", None) or [False] * len(pixels)
        pictures = [self._finished(p) for p in _pictures(pixels)]
        assert self.latents is not None  # noqa: S101 - a run has at least one step
        latents = unpacked(runner, self.latents, first).detach().cpu().float().numpy()
        return [
            (p, lat, bool(flag)) for p, lat, flag in zip(pictures, latents, flagged, strict=True)
        ]

    def begin(self) -> Beginning:
        """What this call begins with; it is stopped before the network runs."""
        first = self.wanted[0]
        with scheduler_of(self.pipe, first.scheduler), _bar(self.pipe, progress=False):
            try:
                with kept(self.pipe) as found:
                    self.pipe(**self._arguments(self.pipe, first), output_type="np")
            finally:
                self.pipe.maybe_free_model_hooks()
        return found

    def _turned(self, first: Settings) -> Beginning | None:
        """Noise turned towards its variation seed, where it cannot be handed in."""
        if not first.variation_amount or family_of(self.pipe).steerable:
            return None
        return Beginning(noise=beginning_of(self.pipe, first, self.guides).noise)

    @contextmanager
    def _stepping(self, runner: Any) -> Iterator[dict[str, Any]]:
        """Hear of every step: by the pipeline's callback or, where it has none, at the scheduler's."""
        family = family_of(runner)
        self._done = 0
        if family.tells_steps:
            yield {"callback_on_step_end": self._after_step}
            return
        own = runner.scheduler.step

        @wraps(own)  # pipelines look at the signature of step to see what it accepts
        def step(*args: Any, **kwargs: Any) -> Any:
            out = own(*args, **kwargs)
            latents = self._after_step(runner, self._done, None, {"latents": out[0]})["latents"]
            self._done += 1
            if isinstance(out, tuple):
                return (latents, *out[1:])
            out.prev_sample = latents
            return out

        with replaced(runner.scheduler, "step", step):
            yield {}

    def _words(self, first: Settings) -> dict[str, Any]:
        """Encodings of the prompts, and of what leads away where guidance asks for it."""
        negative = [s.negative_prompt for s in self.wanted]
        guided = max(first.guidance_scale or 0, first.true_cfg_scale or 0) > 1
        return encode(self.pipe, [s.prompt for s in self.wanted], negative if guided else None)

    def _arguments(self, runner: Any, first: Settings) -> dict[str, Any]:
        generators = [torch.Generator().manual_seed(s.seed) for s in self.wanted]
        family = family_of(runner)
        words = self.embeds or self._words(first)
        arguments = {**words, "num_inference_steps": first.steps, "generator": generators}
        if family.guidance is not None and first.guidance_scale is not None:
            arguments[family.guidance] = first.guidance_scale
            if "guidance_schedule" in family.accepts:
                arguments["guidance_schedule"] = (
                    None  # one number takes the place of a number for each step
                )
        if "intermediate_timesteps" in family.accepts and first.steps != 2:
            arguments["intermediate_timesteps"] = None  # Sana-Sprint has one, for two steps alone
        if family.true_guidance and first.true_cfg_scale is not None:
            arguments["true_cfg_scale"] = first.true_cfg_scale
        if "negative_prompt_embeds" in words and family.takes_negative:
            arguments["negative_prompt"] = (
                None  # some calls fill it in, and then refuse to have both
            )
        arguments |= guiding(runner, self.guides, first, len(self.wanted))
        if self.image is None:
            return arguments | self._from_noise(family, first, generators)
        return arguments | self._from_picture(family, first)

    def _from_noise(
        self, family: Family, first: Settings, generators: list[torch.Generator]
    ) -> dict[str, Any]:
        arguments: dict[str, Any] = {"width": first.width or 0, "height": first.height or 0}
        if self.noise is not None:
            for g in generators:
                torch.randn(self.noise.shape[1:], generator=g)
            arguments["latents"] = self._placed(self.noise)
        elif family.steerable and any(s.variation_amount or s.noise for s in self.wanted):
            arguments["latents"] = self._placed(
                torch.cat([starting_noise(self.pipe, s) for s in self.wanted])
            )
        if "latents" in arguments and "use_resolution_binning" in family.accepts:
            arguments["use_resolution_binning"] = (
                False  # noise from outside has the size that was asked for
            )
        return arguments

    def _from_picture(self, family: Family, first: Settings) -> dict[str, Any]:
        size, count = (first.width or 0, first.height or 0), len(self.wanted)
        self.start = fitted(cast("Image.Image", self.image), size, first.fit)
        arguments: dict[str, Any] = {"image": self.start if family.edits else [self.start] * count}
        if "strength" in family.accepts:
            arguments["strength"] = first.strength
        if family.edits and self.noise is not None:
            arguments["latents"] = self._placed(self.noise)
        if {"width", "height"} <= family.accepts:
            arguments |= {"width": size[0], "height": size[1]}
        if self.mask is not None:
            frame = cast("Image.Image", self.image).size
            self.hole = fitted_mask(self.mask, frame, size, first.fit)
            arguments["mask_image"] = [self.hole] * count
        return arguments

    def _placed(self, noise: torch.Tensor) -> torch.Tensor:
        placed = noise.to(self.pipe._execution_device, denoiser_of(self.pipe).dtype)
        return laid_out(placed, family_of(self.pipe).layout)

    def _finished(self, picture: Image.Image) -> Image.Image:
        """What the mask keeps is taken from the original: the autoencoder alone would soften it."""
        if self.mask is None:
            return picture
        kept, hole = self.start, self.hole
        if (
            picture.size != kept.size
        ):  # some models draw in a size of their own, whatever is asked for
            kept, hole = kept.resize(picture.size), hole.resize(picture.size)
        return Image.composite(picture, kept, hole)

    def _after_step(
        self, runner: Any, step: int, _timestep: Any, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        self.latents = steer(runner, step, tensors["latents"])
        total = getattr(runner, "num_timesteps", None) or len(runner.scheduler.timesteps)
        self.denoised = step + 1 == total
        if step + 1 == total and not torch.isfinite(self.latents).all():
            raise _numerical("latents", self.latents.dtype)
        if self.on_step is not None:
            latents = unpacked(runner, self.latents, self.wanted[0])
            self.on_step(step + 1, total, partial(decode, runner, latents[:1]))
        return {"latents": self.latents}


def beginning_of(pipe: Any, s: Settings, guides: Guides = NO_GUIDES) -> Beginning:
    """What a picture with these settings begins with, its noise turned towards its variation seed."""

    def begun(seed: int) -> Beginning:
        asked = [plain.replace(seed=seed)]
        return Run(pipe, asked, None, None, guides=guides, on_step=None, progress=False).begin()

    plain = s.replace(variation_amount=0.0, variation_seed=None)
    seeds = [s.seed]
    if s.variation_amount and s.variation_seed is not None:
        seeds.append(s.variation_seed)
    one, *other = map(begun, seeds)
    if other:
        amount, ends = s.variation_amount, [one.noise, other[0].noise]
        one.noise = between(lambda n: slerp(n[0], n[1], amount), ends, shares([amount]))
    return one


def _pictures(pixels: np.ndarray) -> list[Image.Image]:
    """Pictures from pixels ``(B, H, W, 3)`` in 0..1, rounded as diffusers rounds them."""
    return [Image.fromarray(p) for p in (pixels * 255).round().astype(np.uint8)]


def _adding(scheduler: Any, noise: torch.Tensor | None) -> AbstractContextManager[None]:
    """Inside the block the scheduler adds this noise to a picture, whatever noise the pipeline has drawn for it."""
    if noise is None:
        return nullcontext()
    if not hasattr(scheduler, "add_noise"):  # flow matching
        mix = scheduler.scale_noise
        return replaced(
            scheduler,
            "scale_noise",
            lambda sample, moments, _drawn: mix(sample, moments, folded(noise, sample)),
        )
    own = scheduler.add_noise
    return replaced(
        scheduler,
        "add_noise",
        lambda samples, _drawn, moments: own(samples, noise.to(samples), moments),
    )


# what processors and Apple's GPUs say in a plain RuntimeError, and CUDA's libraries when they get no workspace
_SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")


def ran_out(error: BaseException) -> bool:
    """Whether an error means that a device's memory is full."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)
    )


def _numerical(where: str, dtype: torch.dtype) -> NumericalError:
    advice = (
        "load the model with dtype=torch.float32"
        if dtype != torch.float32
        else "lower guidance_scale, or check the weights file"
    )
    return NumericalError(
        f"The {where} came out as NaN or infinity in {str(dtype).removeprefix('torch.')}, so there is no picture; {advice}."
    )


@contextmanager
def _bar(pipe: Any, progress: bool) -> Iterator[None]:
    """Show or hide the pipeline's progress bar inside the block."""
    before = dict(getattr(pipe, "_progress_bar_config", None) or {})
    pipe.set_progress_bar_config(
        **{**before, "disable": before.get("disable", False) or not progress}
    )
    try:
        yield
    finally:
        pipe.set_progress_bar_config(**before)
