"""Look at a checkpoint before anything in it is opened.

The design decision: every way a folder or a file can be wrong is looked for before anything heavy is imported or read,
and weights are safetensors only: a pickle can run code when it is opened, and so can a checkpoint that brings its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from sdkit.errors import ModelNotFound, UnsafeCheckpoint
from sdkit.pictures.files import contents

from .hub import explained

__all__ = [
    "HUB_ID",
    "beside_a_pipeline",
    "checker_of",
    "look",
    "look_into",
    "unwanted",
]

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_WEIGHTS = re.compile(r"[^.]+?(?:\.(?P<variant>[^.]+?))?(?:-\d+-of-\d+)?\.safetensors")
_WITHOUT_WEIGHTS = ("Tokenizer", "TokenizerFast", "Processor", "Extractor", "Scheduler")
_LORA, _CONTROLNET = "a LoRA", "a ControlNet"
_USE = {
    _LORA: "load a base model first, then pipe.load_lora_weights(..., use_safetensors=True)",
    _CONTROLNET: "load it with diffusers: StableDiffusionControlNetPipeline.from_pretrained(base, controlnet=ControlNetModel.from_pretrained(...))",
}
_PICKLES = {".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle"}
_UNFINISHED = {".incomplete", ".part", ".crdownload", ".download", ".aria2", ".tmp"}


def look(text: str, place: Path) -> str:
    """Say what a name is ("file", "folder" or "hub"), or raise one sentence about what is wrong with it."""
    if place.is_file():
        if place.suffix.lower() in _PICKLES:
            raise UnsafeCheckpoint(
                f"{place.name} is a pickle, which can run code when it is opened; convert it to safetensors on a machine "
                f'you do not mind losing: python -c "import torch, safetensors.torch as s; '
                f"s.save_file(torch.load('{place.name}', weights_only=True)['state_dict'], '{place.stem}.safetensors')\""
            )
        if place.suffix.lower() in _UNFINISHED:
            raise ModelNotFound(
                f"{place.name} is a download that was not finished; fetch it again to its end."
            )
        if place.suffix.lower() == ".gguf":
            raise ModelNotFound(
                f"{place.name} is a quantised network alone (GGUF); load it with diffusers' from_single_file and "
                "GGUFQuantizationConfig, and give it to a pipeline as its transformer."
            )
        if place.suffix.lower() != ".safetensors":
            raise ModelNotFound(
                f"{place.name} is not a .safetensors file; give a diffusers folder, a hub id or a .safetensors file."
            )
        return "file"
    if place.is_dir():
        return "folder"
    if (
        place.suffix.lower() in _PICKLES | {".safetensors"}
        or text.startswith(("/", ".", "~"))
        or text.count("/") > 1
    ):
        raise ModelNotFound(
            f"There is no file or folder {text!r}; check the path, or give a hub id such as owner/name."
        )
    if not HUB_ID.fullmatch(text):
        raise ModelNotFound(
            f"{text!r} is neither a folder, a file nor a hub id of the form owner/name; sdkit.load() alone loads Pocket."
        )
    return "hub"


def look_into(folder: Path, *, variant: str | None = None, without: Sequence[str] = (), told: str = "", weights_too: bool = True) -> None:  # fmt: skip
    """Raise one sentence about whatever is wrong with a folder; parts in `without` are not going to be loaded.

    `told` names a folder of the hub's cache; without `weights_too` the configuration is enough.
    """
    name = told or folder.name
    again = (
        "it was not fetched to its end: connect and load it again"
        if told
        else "copy the checkpoint again"
    )
    parts = index_of(folder, name)
    if not isinstance(parts.get("_class_name"), str):
        raise UnsafeCheckpoint(
            f"The folder {name!r} asks for its own pipeline code, which sdkit does not run; load it with diffusers yourself."
        )
    offered: set[str] = set()
    for part, owner in parts.items():
        if part.startswith("_") or part in without or not is_part(owner):
            continue
        inside = folder / part
        files = contents(inside) if inside.is_dir() else []
        if not _well_known(str(owner[0])) or _brings_code(inside):
            raise UnsafeCheckpoint(
                f"{name}/{part} brings its own code ({owner[0]}), which sdkit does not run."
            )
        if not files:
            raise ModelNotFound(f"The folder {name!r} lacks its part {part!r}; {again}.")
        pickles = [f.name for f in files if f.suffix in _PICKLES]
        weights = [found for f in files if f.is_file() and (found := _WEIGHTS.fullmatch(f.name))]
        if pickles and not weights:
            raise UnsafeCheckpoint(
                f"{name}/{part} holds only a pickle ({pickles[0]}), which can run code when it is opened; "
                "save it again with pipe.save_pretrained(..., safe_serialization=True)."
            )
        network = not str(owner[-1]).endswith(_WITHOUT_WEIGHTS)
        whole = any("-of-" not in found.string for found in weights)
        if (
            weights_too
            and network
            and not whole
            and (lacking := _lacking(inside, some=bool(weights)))
        ):
            raise ModelNotFound(f"{name}/{part} lacks weights ({lacking}); {again}.")
        here = {found["variant"] or "" for found in weights}
        offered |= here
        if weights and not here & {"", variant}:
            raise ModelNotFound(
                f"{name}/{part} comes as variant {_listed(here)} only; load it with variant='…'."
            )
    if variant and variant not in offered:
        raise ModelNotFound(
            f"{name!r} offers no variant {variant!r} but {_listed(offered - {''})}; leave variant out for the plain weights."
        )


def is_part(owner: object) -> bool:
    """Whether an entry of model_index.json is a part: library and class; some pipelines keep lists of numbers there."""
    return isinstance(owner, list) and bool(owner) and isinstance(owner[0], str)


def _well_known(library: str) -> bool:
    """Whether a part's class comes with a library that is installed: some pipelines of diffusers bring text encoders."""
    if library in ("diffusers", "transformers"):
        return True
    import diffusers

    pipelines = Path(diffusers.__path__[0]) / "pipelines"
    places = (pipelines / library, pipelines / "deprecated" / library)
    return library.isidentifier() and any(place.is_dir() for place in places)


# what all keys of a file look like → what it is, and how it is used
_PARTS: tuple[tuple[Callable[[str], re.Match[str] | None], str], ...] = (
    (
        re.compile(r"image_proj|ip_adapter\.").match,
        "is an IP-Adapter, not a checkpoint; load a base model first, then pipe.load_ip_adapter(...)",
    ),
    (
        re.compile(r"emb_params$|clip_[lg]$|string_to_param|<.*>$").match,
        "is a textual inversion, not a checkpoint; load a base model first, then pipe.load_textual_inversion(...)",
    ),
    (
        re.compile(r"(first_stage_model\.|vae\.)?(encoder|decoder|quant_conv|post_quant_conv|loss)\b").match,
        "is an autoencoder, not a checkpoint; load a base model with vae=…",
    ),
)  # fmt: skip


def beside_a_pipeline(keys: Iterable[str]) -> str | None:
    """A sentence's part on what a single file is, by its keys, if it goes with a pipeline and is none itself."""
    keys = list(keys)
    if any(
        ".lora_" in key or key.startswith("lora_") or ".hada_" in key or ".lokr_" in key
        for key in keys
    ):
        return f"is {_LORA}, not a checkpoint; {_USE[_LORA]}"
    if any(key.startswith(("control_model.", "controlnet_")) for key in keys):
        return f"is {_CONTROLNET}, not a checkpoint; {_USE[_CONTROLNET]}"
    return next((told for mark, told in _PARTS if all(map(mark, keys))), None) if keys else None


def index_of(folder: Path, name: str) -> dict[str, Any]:
    """What a folder's model_index.json says."""
    index = folder / "model_index.json"
    if not index.is_file() and (kind := _kind_of_part(folder)):
        raise ModelNotFound(f"The folder {name!r} holds {kind}, not a pipeline; {_USE[kind]}.")
    if not index.is_file():
        raise ModelNotFound(
            f"The folder {name!r} has no model_index.json; give the folder that holds one (the pipeline's top folder)."
        )
    try:
        parts = json.loads(index.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        parts = None
    if not isinstance(parts, dict):
        raise ModelNotFound(
            f"The file {name}/model_index.json is not valid JSON; copy the checkpoint again."
        )
    return parts


def _lacking(inside: Path, *, some: bool) -> str:
    """Name a weights file that a part should have and has not: networks have a config.json, large ones an index."""
    for index in inside.glob("*.safetensors.index.json"):
        try:
            wanted = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return index.name
        if gone := sorted(str(n) for n in wanted if not (inside / str(n)).is_file()):
            return gone[0]
    return "" if some or not (inside / "config.json").exists() else "no .safetensors file"


def _kind_of_part(folder: Path) -> str | None:
    """What a folder without a table of contents is, if it is something that goes with a pipeline."""
    if (folder / "adapter_config.json").is_file() or list(folder.glob("*lora*.safetensors")):
        return _LORA
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return _CONTROLNET if "ControlNet" in str(kind) else None


def _brings_code(inside: Path) -> bool:
    """Whether a part holds Python files, or a configuration that names classes to be fetched and run ("auto_map")."""
    return any(
        f.suffix == ".py"
        or (
            f.name.endswith("config.json")
            and '"auto_map"' in f.read_text(encoding="utf-8", errors="replace")
        )
        for f in (inside.iterdir() if inside.is_dir() else ())  # hidden ones too
        if f.is_file()
    )


def _listed(variants: Iterable[str]) -> str:
    return ", ".join(repr(v) for v in sorted(variants)) or "none"


def unwanted(safety_checker: bool | None, vae: object) -> tuple[str, ...]:
    """Parts of a checkpoint that something else stands in for."""
    return (("safety_checker",) if safety_checker is False else ()) + (
        ("vae",) if vae is not None else ()
    )


def checker_of(folder: Path, wanted: bool | None, told: str = "pocket") -> dict[str, Any]:
    """Arguments of `from_pretrained` for the safety checker; an error if one is wanted and there is none."""
    shipped = index_of(folder, folder.name).get("safety_checker")
    there = isinstance(shipped, list) and shipped[0] is not None
    if wanted and not there:
        raise ModelNotFound(
            f"{told!r} ships no safety checker; load it with safety_checker=None, or load a model that ships one."
        )
    if there and wanted is not False:
        _check_concepts(folder / "safety_checker", told)
    return (
        {"safety_checker": None, "requires_safety_checker": False}
        if there and wanted is False
        else {}
    )


def _check_concepts(inside: Path, told: str) -> None:
    """Transformers would fill what a file lacks with chance: a checker that sees nothing, and nobody would know."""
    from safetensors import SafetensorError, safe_open

    found: set[str] = set()
    try:
        for file in (f for f in contents(inside) if f.suffix == ".safetensors"):
            with safe_open(file, framework="np") as opened:
                found |= set(opened.keys())
    except (SafetensorError, OSError) as error:
        raise explained(error, f"{told}/safety_checker") from None
    if lacking := {"concept_embeds", "concept_embeds_weights", "visual_projection.weight"} - found:
        raise ModelNotFound(
            f"{told!r}: its part 'safety_checker' lacks weights ({', '.join(sorted(lacking))}); copy the checkpoint again, or turn it off with safety_checker=False."
        )
