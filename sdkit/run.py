"""One call of the pipeline, for settings that can share it.

The design decision: what sdkit adds to a run lies around the pipeline's own ``pipe(...)`` call and is undone after it,
whatever happens: the scheduler and the progress bar come back, hooks are freed, and one lock a pipeline keeps threads
from spoiling each other's run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from PIL import Image

from .embeddings import encode
from .errors import NumericalError
from .schedulers import scheduler_of

if TYPE_CHECKING:
    from .settings import Settings

__all__ = ["OnStep", "Run", "lock_of", "slerp"]

OnStep = Callable[[int, int, Callable[[], Image.Image]], None]
_locks: WeakKeyDictionary[Any, threading.RLock] = WeakKeyDictionary()
_locks_guard = threading.Lock()
_TASKS = {"image-to-image": "AutoPipelineForImage2Image", "inpainting": "AutoPipelineForInpainting"}


def lock_of(pipe: Any) -> threading.RLock:
    """One lock a pipeline: two runs at once spoil each other's scheduler."""
    with _locks_guard:
        return _locks.setdefault(pipe, threading.RLock())


class Run:
    """One call of the pipeline for settings that can share it."""

    def __init__(
        self,
        pipe: Any,
        wanted: list[Settings],
        image: Image.Image | None,
        mask: Image.Image | None,
        *,
        on_step: OnStep | None,
        progress: bool,
    ) -> None:
        self.pipe, self.wanted, self.image, self.mask, self.on_step, self.progress = (
            pipe,
            wanted,
            image,
            mask,
            on_step,
            progress,
        )
        self.step = 0
        self.latents: torch.Tensor | None = None

    def __call__(self) -> list[tuple[Image.Image, np.ndarray, str | None]]:
        """Pictures, final latents `(C, h, w)`, and a note for each picture that the safety checker blanked."""
        first = self.wanted[0]
        with scheduler_of(self.pipe, first.scheduler), _bar(self.pipe, self.progress):
            runner = self._runner(first.task)
            try:
                out = runner(**self._arguments(first), output_type="np", callback_on_step_end=self._after_step)
            finally:
                self.pipe.maybe_free_model_hooks()
        pixels = np.asarray(out.images)  # (B, H, W, 3) in 0..1
        if not np.isfinite(pixels).all():
            raise _numerical("picture", self.pipe.vae.dtype)
        flagged = getattr(out, "nsfw_content_detected", None) or [False] * len(pixels)
        pictures = [self._finished(p) for p in runner.image_processor.numpy_to_pil(pixels)]
        assert self.latents is not None  # noqa: S101 - a run has at least one step
        latents = self.latents.detach().cpu().float().numpy()
        note = "The model's safety checker flagged this picture (seed {seed}) and blanked it."
        return [
            (p, lat, note.format(seed=s.seed) if flag else None)
            for p, lat, flag, s in zip(pictures, latents, flagged, self.wanted, strict=True)
        ]

    def _runner(self, task: str) -> Any:
        if task == "text-to-image":
            return self.pipe
        import diffusers

        runner = getattr(diffusers, _TASKS[task]).from_pipe(self.pipe)
        runner.set_progress_bar_config(**self.pipe._progress_bar_config)
        return runner

    def _arguments(self, first: Settings) -> dict[str, Any]:
        generators = [torch.Generator().manual_seed(s.seed) for s in self.wanted]
        guided = (first.guidance_scale or 0) > 1
        words = encode(
            self.pipe, [s.prompt for s in self.wanted], [s.negative_prompt for s in self.wanted] if guided else None
        )
        arguments = {
            **words,
            "num_inference_steps": first.steps,
            "guidance_scale": first.guidance_scale,
            "generator": generators,
        }
        size = (first.width or 0, first.height or 0)
        if self.image is None:
            arguments |= {"width": size[0], "height": size[1]}
            if any(s.variation_amount for s in self.wanted):
                arguments["latents"] = torch.cat([self._noise(s) for s in self.wanted])
            return arguments
        self.start = self.image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        arguments |= {"image": [self.start] * len(self.wanted), "strength": first.strength}
        if self.mask is not None:
            self.hole = self.mask.convert("L").resize(size, Image.Resampling.BILINEAR)
            arguments |= {"mask_image": [self.hole] * len(self.wanted), "width": size[0], "height": size[1]}
        return arguments

    def _noise(self, s: Settings) -> torch.Tensor:
        """Starting latents `(1, C, h, w)` of one picture, turned towards its variation seed."""
        scale = self.pipe.vae_scale_factor
        shape = (1, self.pipe.unet.config.in_channels, (s.height or 0) // scale, (s.width or 0) // scale)
        dtype, device = self.pipe.unet.dtype, self.pipe._execution_device
        a = torch.randn(shape, generator=torch.Generator().manual_seed(s.seed))
        if s.variation_amount and s.variation_seed is not None:
            b = torch.randn(shape, generator=torch.Generator().manual_seed(s.variation_seed))
            a = slerp(a, b, s.variation_amount)
        return a.to(device, dtype)

    def _finished(self, picture: Image.Image) -> Image.Image:
        """What the mask keeps is taken from the original: the autoencoder alone would soften it."""
        return picture if self.mask is None else Image.composite(picture, self.start, self.hole)

    def _after_step(self, runner: Any, step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        self.latents = tensors["latents"]
        total = runner.num_timesteps
        if step + 1 == total and not torch.isfinite(self.latents).all():
            raise _numerical("latents", self.latents.dtype)
        if self.on_step is not None:
            latents = self.latents
            self.on_step(step + 1, total, lambda: self._decoded(runner, latents))
        return {}

    @staticmethod
    @torch.no_grad()
    def _decoded(runner: Any, latents: torch.Tensor) -> Image.Image:
        """The first picture of the present latents."""
        vae = runner.vae
        shift = getattr(vae.config, "shift_factor", None) or 0
        image = vae.decode((latents[:1] / vae.config.scaling_factor + shift).to(vae.dtype)).sample
        picture: Image.Image = runner.image_processor.postprocess(image.float(), output_type="pil")[0]
        return picture


def slerp(a: torch.Tensor, b: torch.Tensor, amount: float) -> torch.Tensor:
    """Spherical interpolation from `a` (amount 0) to `b` (amount 1), over all elements; same shape."""
    cosine = (a.flatten() @ b.flatten() / (a.norm() * b.norm())).clamp(-1, 1)
    angle = torch.arccos(cosine)
    if angle < 1e-4:
        return torch.lerp(a, b, amount)
    return (torch.sin((1 - amount) * angle) * a + torch.sin(amount * angle) * b) / torch.sin(angle)


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
    pipe.set_progress_bar_config(**{**before, "disable": before.get("disable", False) or not progress})
    try:
        yield
    finally:
        pipe.set_progress_bar_config(**before)
