"""Turbo: a second UNet for Pocket that needs few steps, kept as its difference from Pocket's own.

A student that began as its teacher stays close to it, so eight bits a weight do: half the size of a second UNet. The
folder holds the difference, the student's configuration, and the card; `open_unet` adds it to the teacher.
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

_FILES = "difference{suffix}.safetensors"


def open_unet(teacher: UNet2DConditionModel, folder: Path) -> UNet2DConditionModel:
    """Turbo's UNet, in single precision: the weights of the teacher plus the difference in `folder`."""
    unet = UNet2DConditionModel.from_config(json.loads((folder / "config.json").read_text()))
    kept: dict[str, Tensor] = {}
    for file in folder.glob(_FILES.format(suffix="*")):
        kept |= load_file(file)
    steps = unpacked(kept)
    before = teacher.state_dict()
    unet.load_state_dict(
        {
            name: before[name].float() + step if name in before else step
            for name, step in steps.items()
        }
    )
    return unet.eval()


def write_unet(
    unet: UNet2DConditionModel,
    teacher: UNet2DConditionModel,
    facts: Mapping[str, Any],
    folder: Path,
) -> None:
    """Write the difference of `unet` from its teacher, its configuration, and the card that sdkit reads."""
    before: Mapping[str, Tensor] = teacher.state_dict()
    steps = {
        name: now.detach().float().cpu() - (before[name].float().cpu() if name in before else 0)
        for name, now in unet.state_dict().items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        k: v for k, v in unet.config.items() if k not in ("_name_or_path", "_use_default_values")
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for old in folder.glob(_FILES.format(suffix="*")):
        old.unlink()
    kept = packed(steps)
    files = split_torch_state_dict_into_shards(
        kept, filename_pattern=_FILES, max_shard_size=LARGEST_FILE
    ).filename_to_tensors
    for file, names in files.items():
        part = folder / (file + ".part")
        save_file({name: kept[name] for name in names}, part)
        part.replace(folder / file)
    # last: a folder without its card is no model yet
    (folder / "pocket.json").write_text(json.dumps(dict(facts), indent=2) + "\n")
