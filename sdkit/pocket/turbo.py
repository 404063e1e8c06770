"""Turbo: a second UNet for Pocket that needs few steps, kept in eight bits a weight.

Networks of this size lose nothing that shows by it, and it is half the size of half precision, on disk and in the page
that carries Turbo. Norms and biases are few and stay as they are. The folder holds the weights, the configuration, and the card.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import UNet2DConditionModel
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import load_file, save_file
from torch import Tensor

from .eightbit import packed, unpacked

__all__ = ["LARGEST_FILE", "open_unet", "write_unet"]

LARGEST_FILE = "15MB"  # of any file of weights, the teacher's too

_FILES = "eightbit{suffix}.safetensors"


def open_unet(folder: Path) -> UNet2DConditionModel:
    """Turbo's UNet, in single precision."""
    unet = UNet2DConditionModel.from_config(json.loads((folder / "config.json").read_text()))
    kept: dict[str, Tensor] = {}
    for file in folder.glob(_FILES.format(suffix="*")):
        kept |= load_file(file)
    unet.load_state_dict(unpacked(kept))
    return unet.eval()


def write_unet(unet: UNet2DConditionModel, facts: Mapping[str, Any], folder: Path) -> None:
    """Write the weights of `unet`, its configuration, and the card that sdkit reads."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        k: v for k, v in unet.config.items() if k not in ("_name_or_path", "_use_default_values")
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for old in folder.glob(_FILES.format(suffix="*")):
        old.unlink()
    kept = packed(unet.state_dict())
    files = split_torch_state_dict_into_shards(
        kept, filename_pattern=_FILES, max_shard_size=LARGEST_FILE
    ).filename_to_tensors
    for file, names in files.items():
        part = folder / (file + ".part")
        save_file({name: kept[name] for name in names}, part)
        part.replace(folder / file)
    # last: a folder without its card is no model yet
    (folder / "pocket.json").write_text(json.dumps(dict(facts), indent=2) + "\n")
