"""What a run uses where its settings leave a field open: the model's own answers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sdkit import pocket
from sdkit.pipelines.calls import denoiser_of

from .identity import model_name, place_of

if TYPE_CHECKING:
    from sdkit.settings import Settings

__all__ = ["Defaults", "defaults", "distilled"]

_FEW_STEPS = 4  # what LCM, Turbo and schnell were trained for: 1 to 8


@dataclass(frozen=True)
class Defaults:
    """What a run uses where its settings leave a field open."""

    steps: int
    guidance_scale: float
    width: int
    height: int
    scheduler: str | None

    def fill(self, settings: Settings) -> Settings:
        """Give every field that the settings leave open its value here."""
        return settings.replace(
            **{name: value for name, value in asdict(self).items() if getattr(settings, name) is None}
        )


def defaults(pipe: Any) -> Defaults:
    """The pipeline's own defaults: those of Pocket, and of what is trained like it, come with the weights, others are
    those of its ``__call__``.

    Few-step models, known by their configuration, take 4 steps without guidance.
    """
    import inspect

    from sdkit.pipelines.schedulers import scheduler_name

    size = denoiser_of(pipe).config.get("sample_size") or pipe.default_sample_size  # Flux's transformer does not say it
    rows, columns = (size, size) if isinstance(size, int) else size
    scale = pipe.vae_scale_factor
    own = scheduler_name(pipe)
    place = place_of(pipe)
    if card := pocket.card() if model_name(pipe) == "pocket" else place and pocket.card_of(place):
        return Defaults(card["steps"], card["guidance_scale"], columns * scale, rows * scale, own)
    parameters = inspect.signature(type(pipe).__call__).parameters
    steps, guidance = parameters["num_inference_steps"].default, parameters["guidance_scale"].default
    if distilled(pipe):
        steps = _FEW_STEPS
        if getattr(denoiser_of(pipe).config, "time_cond_proj_dim", None) is None:  # else guidance is one of its inputs
            guidance = 1.0
    return Defaults(steps, guidance, columns * scale, rows * scale, own)


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
        plain = config.get("prediction_type") == "epsilon" and not config.get("rescale_betas_zero_snr")
        return plain and config.get("timestep_spacing") == "trailing"
    return type(pipe).__name__ == "FluxPipeline" and not pipe.transformer.config.guidance_embeds
