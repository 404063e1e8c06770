"""Open a checkpoint that was looked at: a folder, a single file, another autoencoder.

The design decision: diffusers loads, and here is only what it leaves open. Where it or transformers would fill weights
that a file lacks with chance, or say in a page of words what is wrong, there is one sentence.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdkit import pocket
from sdkit.errors import ModelNotFound, SdkitError
from sdkit.memory.sizes import unreadable
from sdkit.pictures.files import path_of
from sdkit.pipelines.calls import no_note_on_torchvision
from sdkit.pipelines.originals import MARKS

from .checkpoints import beside_a_pipeline, look, look_into
from .hub import explained, fetch
from .parts import check_class, moved_classes, processors_of

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

__all__ = ["fetched", "load_file", "load_folder", "load_pocket", "load_vae"]

# how transformers reports the weights that a file lacks
_MISSING, _REPORT, _COLOUR = (
    re.compile(r"^(.+?)\s*\|\s*MISSING", re.MULTILINE),
    re.compile(r"from: (.*)"),
    re.compile(r"\x1b\[[\d;]*m"),
)


def load_pocket(place: Path, dtype: torch.dtype, parts: dict[str, Any]) -> DiffusionPipeline:
    """Open Pocket or Turbo by its folder, quietly; `parts` are handed to diffusers in place of its own."""
    with no_note_on_torchvision():
        from diffusers import StableDiffusionPipeline

    turbo = place != Path(pocket.path())
    if turbo and "unet" not in parts:
        from sdkit.pocket.turbo import open_unet

        parts = {**parts, "unet": open_unet(place).to(dtype)}
    with _no_bars():  # it takes a moment: bars would only flicker
        # to save memory diffusers places tensor by tensor, which for a few dozen MB costs more than it saves
        pipe: DiffusionPipeline = StableDiffusionPipeline.from_pretrained(
            pocket.path(), dtype=dtype, local_files_only=True, low_cpu_mem_usage=False, **parts
        )
    if turbo:
        pipe.register_to_config(_name_or_path=str(place))
    return pipe


@contextmanager
def _no_bars() -> Iterator[None]:
    """Hide the loading bars of diffusers and transformers inside the block."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    shown = [
        log for log in (diffusers_logging, transformers_logging) if log.is_progress_bar_enabled()
    ]
    for log in shown:
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log in shown:
            log.enable_progress_bar()


def load_file(
    place: Path,
    dtype: torch.dtype,
    config: str | Path | None,
    parts: dict[str, Any],
    *,
    safety_checker: bool | None = None,
) -> DiffusionPipeline:
    """Open a single ``.safetensors`` file in original naming, with the configuration of its family."""
    import diffusers
    from safetensors import SafetensorError, safe_open

    if safety_checker:
        raise ModelNotFound(
            f"{place.name} is a single file, which holds no safety checker; load a folder that does."
        )
    try:
        with safe_open(place, framework="pt") as file:
            keys = list(file.keys())
    except (SafetensorError, OSError):
        raise ModelNotFound(f"{place.name} {unreadable(place)}.") from None
    if told := beside_a_pipeline(keys):
        raise ModelNotFound(f"{place.name} {told}.")
    class_name = next((name for mark, name in MARKS if any(mark in key for key in keys)), None)
    if class_name is None:
        raise ModelNotFound(
            f"{place.name} is no whole checkpoint of Stable Diffusion 1.x/2.x, XL, 3 or Flux (perhaps a LoRA?); "
            "load a base model first, then pipe.load_lora_weights(...)."
        )
    given = None if config is None else _config(str(config))
    try:
        with _one_sentence(place.name), _missing() as missing:
            pipe: DiffusionPipeline = getattr(diffusers, class_name).from_single_file(
                str(place), dtype=dtype, config=given, **parts
            )
            _check_whole(pipe, missing, place.name)
            _stop_training(pipe)
    except ModelNotFound as error:
        if "cannot be reached" not in str(error):
            raise
        raise ModelNotFound(
            f"{place.name} holds weights only: the configuration and tokenizer of {class_name} come from the hub, which "
            "cannot be reached; connect once, or pass config= with a diffusers folder of the same family."
        ) from None
    return pipe


def _stop_training(pipe: Any) -> None:
    """Diffusers leaves T5 from a single file in training mode, where dropout makes every picture another one."""
    for network in pipe.components.values():
        if hasattr(network, "eval"):
            network.eval()


def _config(config: str) -> str:
    """A folder that was looked into, or a hub id, from which nothing but configuration is fetched."""
    place = path_of(config)
    if place.is_dir():
        look_into(place, weights_too=False)
        return str(place)
    look(config, place)
    return config


def load_vae(vae: str, dtype: torch.dtype, config: str | Path | None) -> Any:
    """An autoencoder of its own, from wherever a pipeline may come from."""
    from diffusers import AutoencoderKL

    place = path_of(vae)
    kind = look(vae, place)
    with _one_sentence(vae):
        if kind == "file":
            given = {} if config is None else {"config": _config(str(config)), "subfolder": "vae"}
            return AutoencoderKL.from_single_file(str(place), torch_dtype=dtype, **given)
        source = str(place) if kind == "folder" else vae
        return AutoencoderKL.from_pretrained(source, torch_dtype=dtype, use_safetensors=True)


def fetched(name: str, revision: str | None, variant: str | None, without: tuple[str, ...]) -> Path:
    """The folder of a hub model, fetched if need be and looked into."""
    folder = fetch(name, revision=revision, variant=variant, without=without)
    look_into(folder, variant=variant, without=without, told=name)
    return folder


def load_folder(
    folder: Path, dtype: torch.dtype, variant: str | None, parts: dict[str, Any], *, told: str
) -> DiffusionPipeline:
    """Open a diffusers folder; `told` is its name in errors."""
    with no_note_on_torchvision():
        from diffusers import DiffusionPipeline

    with _one_sentence(told), moved_classes(folder), _missing() as missing:
        check_class(folder)
        pipe: DiffusionPipeline = DiffusionPipeline.from_pretrained(
            str(folder),
            dtype=dtype,
            variant=variant,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            **processors_of(folder) | parts,
        )
        _check_whole(pipe, missing, told)
    return pipe


@contextmanager
def _one_sentence(told: str) -> Iterator[None]:
    """Say in one sentence what diffusers and the hub's client say in many ways of what is not as it should be."""
    import torch

    try:
        yield
    except (SdkitError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - any: AttributeError, KeyError, those of three libraries …
        raise explained(error, told) from None


@contextmanager
def _missing() -> Iterator[dict[str, list[str]]]:
    """Weights that transformers reports as missing, by part: it would fill them with chance and go on."""
    found: dict[str, list[str]] = {}
    log = logging.getLogger("transformers.modeling_utils")
    heard = log.getEffectiveLevel()

    def read(record: logging.LogRecord) -> bool:
        text = _COLOUR.sub("", record.getMessage())
        if names := _MISSING.findall(text):
            place = _REPORT.search(text)
            found[Path(place[1].strip()).name if place else "a part"] = names
        return record.levelno >= heard

    before = log.level
    log.addFilter(read)
    log.setLevel(
        min(heard, logging.WARNING)
    )  # whoever made transformers quiet is told all the same
    try:
        yield found
    finally:
        log.setLevel(before)
        log.removeFilter(read)


def _check_whole(pipe: Any, missing: dict[str, list[str]], told: str) -> None:
    """Raise if a network lacks weights; diffusers leaves those without values, on the meta device."""
    for part, network in pipe.components.items():
        if hasattr(network, "named_parameters"):
            missing |= (
                {part: names}
                if (names := [n for n, p in network.named_parameters() if p.is_meta])
                else {}
            )
    for part, names in missing.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise ModelNotFound(
            f"{told}/{part} lacks weights ({names[0]}{more}); copy or download the checkpoint again."
        )
