"""What a run uses where its settings leave a field open: the model's own answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sdkit import pocket
from sdkit.pipelines.families import denoiser_of, family_of
from sdkit.pipelines.latents import scale_of

from .identity import model_name, place_of

if TYPE_CHECKING:
    from sdkit.settings import Settings

__all__ = ["Defaults", "defaults", "distilled"]

_STEPS, _SIDE = 30, 1024  # for a pipeline that says neither
_FEW_STEPS = 4  # what LCM, Turbo and schnell were trained for: 1 to 8


@dataclass(frozen=True)
class Defaults:
    """What a run uses where its settings leave a field open."""

    steps: int
    guidance_scale: float | None
    width: int
    height: int
    scheduler: str | None

    def fill(self, settings: Settings) -> Settings:
        """Give every field that the settings leave open its value here."""
        return settings.replace(
            **{
                name: value
                for name, value in asdict(self).items()
                if getattr(settings, name) is None
            }
        )


def defaults(pipe: Any) -> Defaults:
    """The pipeline's own defaults: those of Pocket, and of what is trained like it, come with the weights, others are
    those of its ``__call__``.

    Few-step models, known by their configuration, take 4 steps without guidance.
    """
    from sdkit.pipelines.schedulers import scheduler_name

    columns, rows = _trained_size(pipe)
    own = scheduler_name(pipe)
    place = place_of(pipe)
    name = model_name(pipe)
    if card := pocket.card(name) if name in pocket.FOLDERS else place and pocket.card_of(place):
        return Defaults(card["steps"], card["guidance_scale"], columns, rows, own)
    family = family_of(pipe)
    steps, guidance = family.steps or _STEPS, family.guidance_scale
    if distilled(pipe):
        steps = _FEW_STEPS
        if family.guidance and not getattr(
            denoiser_of(pipe).config, "time_cond_proj_dim", None
        ):  # else an input
            guidance = 1.0
    return Defaults(steps, guidance, columns, rows, own)


def _trained_size(pipe: Any) -> tuple[int, int]:
    """Width and height in pixels that the model was trained on, as far as its configuration or its call tells."""
    scale = scale_of(pipe)
    size = denoiser_of(pipe).config.get("sample_size") or getattr(pipe, "default_sample_size", None)
    if size:
        rows, columns = (size, size) if isinstance(size, int) else size[-2:]
        return columns * scale, rows * scale
    side = family_of(pipe).side or _SIDE
    return side, side


def distilled(pipe: Any) -> bool:
    """Whether a pipeline's configuration says that it was trained to need few steps and no guidance.

    Latent consistency and trajectory consistency models (and LoRAs) come with a scheduler of their own; SD-Turbo and
    SDXL-Turbo with an Euler scheduler whose steps are spaced to end at pure noise ("trailing"), on plain noise
    prediction; Flux schnell has no input for guidance.
    """
    kind, config = type(pipe.scheduler).__name__, pipe.scheduler.config
    if kind in {"LCMScheduler", "TCDScheduler"}:
        return True
    if kind.startswith("Euler"):
        plain = config.get("prediction_type") == "epsilon" and not config.get(
            "rescale_betas_zero_snr"
        )
        return plain and config.get("timestep_spacing") == "trailing"
    if type(pipe).__name__ == "FluxPipeline":
        return not pipe.transformer.config.guidance_embeds
    return bool(pipe.config.get("is_distilled", False))  # FLUX.2 Klein
