"""What a name means: a folder, a file or a hub id; on which device, in which precision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sdkit import pocket
from sdkit.errors import ModelNotFound
from sdkit.pictures.files import path_of

from .checkpoints import look, look_into
from .identity import is_pocket_path

if TYPE_CHECKING:
    import torch

__all__ = ["find"]


def find(
    name: str | Path | None,
    device: str | None,
    dtype: torch.dtype | None,
    *,
    variant: str | None = None,
    without: Sequence[str] = (),
) -> tuple[str, str, str, torch.dtype]:
    """Kind ("file", "folder" or "hub") and place of a checkpoint, device and precision; parameters as for `load`."""
    text = "pocket" if name is None else str(name)
    if text in pocket.FOLDERS:
        text = pocket.path(text)
    place = path_of(text)
    kind = look(text, place)
    if kind == "folder" and not is_pocket_path(
        place
    ):  # what came with this code is trusted like it
        look_into(place, variant=variant, without=without)

    import torch

    chosen = _device(device)
    precision = dtype or (
        torch.float16 if chosen.startswith("cuda") and not is_pocket_path(place) else torch.float32
    )
    return kind, text if kind == "hub" else str(place), chosen, precision


def _device(wanted: str | None) -> str:
    import torch

    if wanted is None:
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind = torch.device(wanted).type
    except RuntimeError:
        raise ModelNotFound(f"{wanted!r} is not a device; choose cuda, mps or cpu.") from None
    if (kind == "cuda" and not torch.cuda.is_available()) or (
        kind == "mps" and not torch.backends.mps.is_available()
    ):
        raise ModelNotFound(
            f"The device {wanted!r} is not available here; use device='cpu', or leave it out."
        )
    return wanted
