"""Load a pipeline: Pocket by default, Stable Diffusion when one is named.

The design decision: what comes back is a plain diffusers pipeline. What sdkit knows of it beside, such as where it came
from and under which licence, is kept outside of it, and is also told of pipelines that diffusers itself loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from . import pocket
from .calls import denoiser_of
from .checkpoints import HUB_ID, checker_of, look, look_into, unwanted
from .errors import ModelNotFound
from .hub import commit_of, hub_id_of
from .licences import licence_of, tell
from .loading import fetched, load_file, load_folder, load_pocket, load_vae
from .memory import Plan, draft

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from .settings import Settings

__all__ = ["Defaults", "Origin", "defaults", "find", "identity", "load", "model_name", "origin"]

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


@dataclass(frozen=True)
class Origin:
    """Where a pipeline comes from, so that another process can load it too."""

    name: str
    revision: str | None = None
    variant: str | None = None
    vae: str | None = None
    safety_checker: bool | None = None
    config: str | None = None
    memory: str = "auto"


_origins: WeakKeyDictionary[Any, Origin] = WeakKeyDictionary()


def load(
    name: str | Path | None = None,
    *,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    variant: str | None = None,
    vae: str | Path | None = None,
    safety_checker: bool | None = None,
    config: str | Path | None = None,
    memory: str = "auto",
    compile: bool = False,  # noqa: A002 - torch's own word for it
) -> DiffusionPipeline:
    """Load a text-to-image pipeline.

    The licence of the weights is printed once, and recorded in the settings of every picture.

    Parameters
    ----------
    name
        None for Pocket, the model inside this package; or a hub id such as
        ``"stable-diffusion-v1-5/stable-diffusion-v1-5"``, a diffusers folder, or a single ``.safetensors`` file.
    device
        ``"cuda"``, ``"mps"``, ``"cpu"``, ``"cuda:1"`` …; None takes the best one there is.
    dtype
        Precision of the weights; None takes half precision on a GPU and single precision on a processor.
    revision
        Branch, tag or commit of a hub id.
    variant
        For example ``"fp16"``, where a checkpoint offers one.
    vae
        Another autoencoder in place of the checkpoint's own: a hub id, a diffusers folder, or a ``.safetensors`` file.
    safety_checker
        None keeps the safety checker that the checkpoint ships, if any; False turns it off; True wants one, and it is
        an error if there is none. Pictures that it flagged say so: `Result.flagged`.
    config
        For a single file: a diffusers folder or hub id of the same family, whose configuration and tokenizer are
        used (its weights need not be there). By default those of the family's first model, from the hub or its cache.
    memory
        ``"auto"``, ``"full"``, ``"low"`` or a size such as ``"8GB"``: what may lie on the device; `sdkit.plan` shows it.
    compile
        Compile the denoiser with `torch.compile`: the first picture takes minutes, the next ones less time.

    Returns
    -------
    diffusers.DiffusionPipeline
        A plain pipeline, on its device.

    Raises
    ------
    ModelNotFound
        If there is no such folder, file or hub id, it is gated, or the network cannot be reached.
    UnsafeCheckpoint
        If the weights are pickles, or the checkpoint brings its own code.
    InvalidSettings
        If `memory` is none of its values.

    Notes
    -----
    LoRAs and textual inversions are loaded into the pipeline with diffusers' own methods;
    ``use_safetensors=True`` makes them refuse pickles.

    Examples
    --------
    >>> pipe = sdkit.load()  # doctest: +SKIP
    >>> pipe.load_lora_weights("style.safetensors", use_safetensors=True)  # doctest: +SKIP
    >>> pipe.load_textual_inversion("cat-toy.safetensors", use_safetensors=True)  # doctest: +SKIP
    """
    without = unwanted(safety_checker, vae)
    kind, source, chosen, precision = find(name, device, dtype, variant=variant, without=without)
    plan = partial(
        draft, kind, source, memory=memory, device=chosen, dtype=precision, revision=revision, variant=variant,
        without=unwanted(safety_checker, None),
    )  # fmt: skip
    first = plan()
    parts = {} if vae is None else {"vae": load_vae(str(vae), precision, config)}
    if kind == "file":
        pipe = load_file(Path(source), precision, config, parts, safety_checker=safety_checker)
    elif is_pocket_path(source):
        pipe = load_pocket(Path(source), precision, checker_of(Path(source), safety_checker) | parts)
    else:
        folder = Path(source) if kind == "folder" else fetched(source, revision, variant, without)
        pipe = load_folder(folder, precision, variant, checker_of(folder, safety_checker, source) | parts, told=source)
        if kind == "hub":
            pipe.register_to_config(_name_or_path=source)
            revision = commit_of(folder) or revision
    pipe.set_progress_bar_config(leave=False)
    pipe = _arranged(pipe, first or plan(), plan, chosen)
    if compile:
        denoiser_of(pipe).compile()
    _origins[pipe] = Origin(
        "pocket" if is_pocket_path(source) else source if kind == "hub" else str(Path(source).resolve()),
        revision,
        variant,
        None if vae is None else str(vae),
        safety_checker,
        None if config is None else str(config),
        memory,
    )
    if not is_pocket_path(source):
        tell(model_name(pipe), licence_of(model_name(pipe), _place(pipe)))
    return pipe


def find(
    name: str | Path | None,
    device: str | None,
    dtype: torch.dtype | None,
    *,
    variant: str | None = None,
    without: Sequence[str] = (),
) -> tuple[str, str, str, torch.dtype]:
    """Kind ("file", "folder" or "hub") and place of a checkpoint, device and precision; parameters as for `load`."""
    text = pocket.path() if name is None or str(name) == "pocket" else str(name)
    place = Path(text).expanduser()
    kind = look(text, place)
    if kind == "folder" and not is_pocket_path(place):  # what came with this code is trusted like it
        look_into(place, variant=variant, without=without)

    import torch

    chosen = _device(device)
    precision = dtype or (torch.float16 if chosen.startswith("cuda") and not is_pocket_path(place) else torch.float32)
    return kind, text if kind == "hub" else str(place), chosen, precision


def _arranged(pipe: DiffusionPipeline, plan: Plan | None, again: Callable[..., Plan | None], device: str) -> DiffusionPipeline:  # fmt: skip
    """Lay the pipeline out as planned, after the parts that overflow in half precision were widened."""
    if plan is None:  # the cache lies somewhere else than Hugging Face's own
        return pipe.to(device)
    if plan.dtype in {"float16", "bfloat16"}:
        from .precision import widen_what_overflows

        widened = widen_what_overflows(pipe, device, stay=plan.way.offload == "nothing")
        plan = (again(wider=widened) or plan) if widened else plan
    if plan.sentence():
        print(plan.sentence())
    return plan.apply(pipe)


def origin(pipe: Any) -> Origin | None:
    """Where a pipeline was loaded from: with `load`, or from a hub id or a folder that is there; else None."""
    name = str(pipe.config.get("_name_or_path") or "")
    if pipe in _origins or is_pocket_path(name):
        return _origins.get(pipe, Origin("pocket"))
    return Origin(name) if HUB_ID.fullmatch(name) or (name and Path(name).is_dir()) else None


def is_pocket_path(place: str | Path | None) -> bool:
    """Whether a path is the packaged Pocket's folder."""
    return place is not None and Path(place) == Path(pocket.path())


def model_name(pipe: Any) -> str:
    """What a pipeline calls itself: "pocket", a hub id or the last part of a path."""
    origin = pipe.config.get("_name_or_path") or (_origins[pipe].name if pipe in _origins else type(pipe).__name__)
    if is_pocket_path(origin):
        return "pocket"
    return str(origin) if HUB_ID.fullmatch(str(origin)) else hub_id_of(origin) or Path(str(origin)).name


def identity(pipe: Any) -> dict[str, str | None]:
    """What settings record of a pipeline's model: its name, its commit on the hub, and the name of its licence.

    Also told of pipelines that diffusers loaded: its networks remember the folder that they came from.
    """
    name, place = model_name(pipe), _place(pipe)
    found, licence = _origins.get(pipe), licence_of(name, place)
    revision = (found.revision if found else None) or commit_of(place)
    return {"model": name, "revision": revision, "licence": licence.name if licence else None}


def _place(pipe: Any) -> Path | None:
    """The folder or the single file that a pipeline's weights were read from, where that is known."""
    found = _origins.get(pipe)
    if found is not None and Path(found.name).is_absolute():
        return Path(found.name)
    network = Path(str(denoiser_of(pipe).config.get("_name_or_path") or ""))
    return network.parent if network.is_absolute() else None


def defaults(pipe: Any) -> Defaults:
    """The pipeline's own defaults: those of Pocket, and of what is trained like it, come with the weights, others are
    those of its ``__call__``.

    Few-step models, known by their configuration, take 4 steps without guidance.
    """
    import inspect

    from .schedulers import scheduler_name

    size = denoiser_of(pipe).config.get("sample_size") or pipe.default_sample_size  # Flux's transformer does not say it
    rows, columns = (size, size) if isinstance(size, int) else size
    scale = pipe.vae_scale_factor
    own = scheduler_name(pipe)
    place = _place(pipe)
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


def _device(wanted: str | None) -> str:
    import torch

    if wanted is None:
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind = torch.device(wanted).type
    except RuntimeError:
        raise ModelNotFound(f"{wanted!r} is not a device; choose cuda, mps or cpu.") from None
    if (kind == "cuda" and not torch.cuda.is_available()) or (kind == "mps" and not torch.backends.mps.is_available()):
        raise ModelNotFound(f"The device {wanted!r} is not available here; use device='cpu', or leave it out.")
    return wanted
