"""Load a pipeline: Pocket by default, Stable Diffusion when one is named.

What comes back is a plain diffusers pipeline. The design decision: every way a checkpoint can be wrong is looked for
before anything heavy is imported or read, and weights are safetensors only: a pickle can run code when it is opened.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import pocket
from .errors import ModelNotFound, UnsafeCheckpoint

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

__all__ = ["Defaults", "defaults", "load", "model_name"]

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_PICKLES = {".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle"}
# a key that only this family's single-file checkpoints have → the pipeline that reads them
_FAMILIES = (
    ("joint_blocks.0.", "StableDiffusion3Pipeline"),
    ("double_blocks.0.", "FluxPipeline"),
    ("conditioner.embedders.1.", "StableDiffusionXLPipeline"),
    ("model.diffusion_model.input_blocks.", "StableDiffusionPipeline"),
)


@dataclass(frozen=True)
class Defaults:
    """What a run uses where its settings leave a field open."""

    steps: int
    guidance_scale: float
    width: int
    height: int
    scheduler: str | None


def load(
    name: str | Path | None = None,
    *,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    variant: str | None = None,
) -> DiffusionPipeline:
    """Load a text-to-image pipeline.

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

    Examples
    --------
    >>> pipe = sdkit.load()  # doctest: +SKIP
    """
    text = str(name) if name is not None else pocket.path()
    place = Path(text).expanduser()
    if text == "pocket":
        place = Path(pocket.path())
    kind = _look(text, place)

    import torch

    chosen = _device(device)
    precision = dtype or (torch.float16 if chosen.startswith("cuda") and not is_pocket_path(place) else torch.float32)
    if kind == "file":
        pipe = _load_file(place, precision)
    elif is_pocket_path(place):
        pipe = _load_pocket(place, precision)
    else:
        source = str(place) if kind == "folder" else text
        pipe = _load_pretrained(source, precision, revision=revision, variant=variant)
    pipe.set_progress_bar_config(leave=False)
    return pipe.to(chosen)


def is_pocket_path(place: str | Path | None) -> bool:
    """Whether a path is the packaged Pocket's folder."""
    return place is not None and Path(place) == Path(pocket.path())


def model_name(pipe: Any) -> str:
    """What a pipeline calls itself: "pocket", a hub id or the last part of a path."""
    origin = pipe.config.get("_name_or_path") or type(pipe).__name__
    if is_pocket_path(origin):
        return "pocket"
    return str(origin) if _HUB_ID.fullmatch(str(origin)) else Path(str(origin)).name


def defaults(pipe: Any) -> Defaults:
    """The pipeline's own defaults: Pocket's were chosen by evaluation, others are those of its ``__call__``."""
    import inspect

    from .schedulers import scheduler_name

    core = getattr(pipe, "unet", None) or pipe.transformer
    size = core.config.sample_size
    rows, columns = (size, size) if isinstance(size, int) else size
    scale = pipe.vae_scale_factor
    own = scheduler_name(pipe)
    if model_name(pipe) == "pocket":
        card = pocket.card()
        return Defaults(card["steps"], card["guidance_scale"], columns * scale, rows * scale, own)
    parameters = inspect.signature(type(pipe).__call__).parameters
    steps, guidance = parameters["num_inference_steps"].default, parameters["guidance_scale"].default
    return Defaults(steps, guidance, columns * scale, rows * scale, own)


# -- looking before loading --------------------------------------------------------------------------------------


def _look(text: str, place: Path) -> str:
    """Say what a name is ("file", "folder" or "hub"), or raise one sentence about what is wrong with it."""
    if place.is_file():
        if place.suffix.lower() in _PICKLES:
            raise UnsafeCheckpoint(
                f"{place.name} is a pickle, which can run code when it is opened; convert it to safetensors on a machine "
                f'you do not mind losing: python -c "import torch, safetensors.torch as s; '
                f"s.save_file(torch.load('{place.name}', weights_only=True)['state_dict'], '{place.stem}.safetensors')\""
            )
        if place.suffix.lower() != ".safetensors":
            raise ModelNotFound(
                f"{place.name} is not a .safetensors file; give a diffusers folder, a hub id or a .safetensors file."
            )
        return "file"
    if place.is_dir():
        _look_into(place)
        return "folder"
    if place.suffix.lower() in _PICKLES | {".safetensors"} or text.startswith(("/", ".", "~")) or text.count("/") > 1:
        raise ModelNotFound(
            f"There is no file or folder {text!r}; check the path, or give a hub id such as owner/name."
        )
    if not _HUB_ID.fullmatch(text):
        raise ModelNotFound(
            f"{text!r} is neither a folder, a file nor a hub id of the form owner/name; sdkit.load() alone loads Pocket."
        )
    return "hub"


def _look_into(folder: Path) -> None:
    index = folder / "model_index.json"
    if not index.is_file():
        raise ModelNotFound(
            f"The folder {folder.name!r} has no model_index.json; give the folder that holds one (the pipeline's top folder)."
        )
    try:
        parts = json.loads(index.read_text(encoding="utf-8"))
    except ValueError:
        raise ModelNotFound(
            f"The file {folder.name}/model_index.json is not valid JSON; copy the checkpoint again."
        ) from None
    if not isinstance(parts.get("_class_name"), str):
        raise UnsafeCheckpoint(
            f"The folder {folder.name!r} asks for its own pipeline code, which sdkit does not run; load it with diffusers yourself."
        )
    for part, owner in parts.items():
        inside = folder / part
        if part.startswith("_") or not isinstance(owner, list) or owner[0] is None:
            continue
        if owner[0] not in ("diffusers", "transformers", "stable_diffusion") or (inside / f"{owner[0]}.py").exists():
            raise UnsafeCheckpoint(f"{folder.name}/{part} brings its own code ({owner[0]}), which sdkit does not run.")
        if not inside.is_dir():
            raise ModelNotFound(f"The folder {folder.name!r} lacks its part {part!r}; copy the checkpoint again.")
        pickles = [f.name for f in inside.iterdir() if f.suffix in _PICKLES]
        if pickles and not any(inside.glob("*.safetensors")):
            raise UnsafeCheckpoint(
                f"{folder.name}/{part} holds only a pickle ({pickles[0]}), which can run code when it is opened; "
                "save it again with pipe.save_pretrained(..., safe_serialization=True)."
            )


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


# -- loading -------------------------------------------------------------------------------------------------------


def _load_pocket(place: Path, dtype: torch.dtype) -> DiffusionPipeline:
    from diffusers import StableDiffusionPipeline

    with _no_bars():  # it takes a moment: bars would only flicker
        pipe: DiffusionPipeline = StableDiffusionPipeline.from_pretrained(
            str(place), dtype=dtype, local_files_only=True
        )
    return pipe


@contextmanager
def _no_bars() -> Iterator[None]:
    """Hide the loading bars of diffusers and transformers inside the block."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    shown = [log for log in (diffusers_logging, transformers_logging) if log.is_progress_bar_enabled()]
    for log in shown:
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log in shown:
            log.enable_progress_bar()


def _load_file(place: Path, dtype: torch.dtype) -> DiffusionPipeline:
    import diffusers
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(place, framework="pt") as file:
            keys = list(file.keys())
    except (SafetensorError, OSError):
        raise ModelNotFound(
            f"{place.name} is damaged or cut short: its header cannot be read; copy or download it again."
        ) from None
    for mark, class_name in _FAMILIES:
        if any(mark in key for key in keys):
            try:
                pipe: DiffusionPipeline = getattr(diffusers, class_name).from_single_file(str(place), dtype=dtype)
            except OSError as error:
                raise _explained(error, place.name) from None
            return pipe
    raise ModelNotFound(
        f"{place.name} is no whole checkpoint of Stable Diffusion 1.x/2.x, XL, 3 or Flux (perhaps a LoRA?); "
        "load a base model first, then pipe.load_lora_weights(...)."
    )


def _load_pretrained(
    source: str, dtype: torch.dtype, *, revision: str | None, variant: str | None
) -> DiffusionPipeline:
    from diffusers import DiffusionPipeline
    from safetensors import SafetensorError

    try:
        pipe: DiffusionPipeline = DiffusionPipeline.from_pretrained(
            source, dtype=dtype, revision=revision, variant=variant, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise _explained(error, source) from None
    return pipe


_OFFLINE = {
    "OfflineModeIsEnabled",
    "LocalEntryNotFoundError",
    "ConnectionError",
    "ConnectError",
    "ConnectTimeout",
    "Timeout",
}
# (names of exceptions, parts of messages) → the error and its sentence; the first that fits is told
_STORIES: tuple[tuple[set[str], tuple[str, ...], type[Exception], str], ...] = (
    (
        {"SafetensorError"},
        ("deserializing header",),
        ModelNotFound,
        "A weights file of {source!r} is damaged or cut short; copy or download it again.",
    ),
    (
        {"GatedRepoError"},
        ("gated repo", "401 client", "403 client"),
        ModelNotFound,
        "{source!r} is gated: accept its licence on its hub page, then log in with: hf auth login",
    ),
    (
        {"RepositoryNotFoundError"},
        ("is not a valid model identifier",),
        ModelNotFound,
        "The hub has no model {source!r} (or it is private); check the spelling of owner/name.",
    ),
    (
        {"RevisionNotFoundError"},
        (),
        ModelNotFound,
        "{source!r} has no such revision; leave revision out for the newest.",
    ),
    (
        _OFFLINE,
        ("couldn't connect", "internet connection"),
        ModelNotFound,
        (
            "{source!r} is not on this machine and the hub cannot be reached; connect once, or give a folder. "
            "sdkit.load() alone needs no network."
        ),
    ),
    (
        set(),
        (".bin", "safetensors"),
        UnsafeCheckpoint,
        "{source!r} offers no safetensors weights for every part, and pickles can run code; look for a converted copy.",
    ),
)


def _explained(error: Exception, source: str) -> Exception:
    """One sentence for what the hub or the file system said, or its own first line where it says something else."""
    seen: BaseException | None = error
    names, words = set(), ""
    while seen is not None:
        names |= {k.__name__ for k in type(seen).__mro__}
        words += f" {seen}".lower()
        seen = seen.__cause__ or seen.__context__
    for kinds, parts, kind, sentence in _STORIES:
        if names & kinds or any(part in words for part in parts):
            return kind(sentence.format(source=source))
    first = next(iter(str(error).splitlines()), type(error).__name__)
    return ModelNotFound(f"{source!r} could not be loaded: {first}")
