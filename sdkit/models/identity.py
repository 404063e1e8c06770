"""Which model a pipeline holds: its name, where its weights came from, and what settings record of it.

The design decision: this is kept beside the pipeline, never in it, and is also told of pipelines that diffusers loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from sdkit import pocket
from sdkit.pipelines.families import denoiser_of

from .checkpoints import HUB_ID
from .hub import commit_of, hub_id_of
from .licences import licence_of

__all__ = [
    "Origin",
    "identity",
    "is_pocket",
    "is_pocket_path",
    "model_name",
    "origin",
    "place_of",
    "pocket_name",
    "remember",
]


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


def remember(pipe: Any, came_from: Origin) -> None:
    """Note where a pipeline was loaded from."""
    _origins[pipe] = came_from


def origin(pipe: Any) -> Origin | None:
    """Where a pipeline was loaded from: with `load`, or from a hub id or a folder that is there; else None."""
    name = str(pipe.config.get("_name_or_path") or "")
    if pipe in _origins or (shipped := pocket_name(name)):
        return _origins.get(pipe) or Origin(shipped)
    return Origin(name) if HUB_ID.fullmatch(name) or (name and Path(name).is_dir()) else None


def pocket_name(place: str | Path | None) -> str:
    """The name of the packaged model whose folder a path is; empty of other paths."""
    names = (name for name in pocket.FOLDERS if place and Path(place) == Path(pocket.path(name)))
    return next(names, "")


def is_pocket_path(place: str | Path | None) -> bool:
    """Whether a path is the folder of a packaged model."""
    return bool(pocket_name(place))


def is_pocket(pipe: Any) -> bool:
    """Whether a pipeline is Pocket, or Turbo, which knows the same words."""
    return model_name(pipe) in pocket.FOLDERS


def model_name(pipe: Any) -> str:
    """What a pipeline calls itself: "pocket", "pocket-turbo", a hub id or the last part of a path."""
    origin = pipe.config.get("_name_or_path") or (
        _origins[pipe].name if pipe in _origins else type(pipe).__name__
    )
    if name := pocket_name(origin):
        return name
    return (
        str(origin)
        if HUB_ID.fullmatch(str(origin))
        else hub_id_of(origin) or Path(str(origin)).name
    )


def identity(pipe: Any) -> dict[str, str | None]:
    """What settings record of a pipeline's model: its name, its commit on the hub, and the name of its licence.

    Also told of pipelines that diffusers loaded: its networks remember the folder that they came from.
    """
    name, place = model_name(pipe), place_of(pipe)
    found, licence = _origins.get(pipe), licence_of(name, place)
    revision = (found.revision if found else None) or commit_of(place)
    return {"model": name, "revision": revision, "licence": licence.name if licence else None}


def place_of(pipe: Any) -> Path | None:
    """The folder or the single file that a pipeline's weights were read from, where that is known."""
    found = _origins.get(pipe)
    if found is not None and Path(found.name).is_absolute():
        return Path(found.name)
    network = Path(str(denoiser_of(pipe).config.get("_name_or_path") or ""))
    return network.parent if network.is_absolute() else None
