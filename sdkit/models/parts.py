"""Parts of a folder that diffusers does not open by itself although nothing is missing.

The design decision: diffusers opens whatever it can. It fails at two kinds: processors of words, pictures and films, which
transformers refuses as a whole where torchvision is missing, though no prompt is a film; and parts whose class was moved
among the deprecated pipelines, where diffusers no longer looks (Stable Cascade's autoencoder).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sdkit.pipelines.calls import no_note_on_torchvision

from .checkpoints import index_of, is_part

__all__ = ["check_class", "moved_classes", "processors_of"]


def check_class(folder: Path) -> None:
    """Raise diffusers' own error if a package is missing that a pipeline needs; opening it would tell of an attribute."""
    import diffusers
    from diffusers.utils import requires_backends

    kind = getattr(diffusers, str(index_of(folder, folder.name)["_class_name"]), None)
    if needed := getattr(kind, "_backends", None):  # one that only stands in for the real class
        requires_backends(kind, needed)


def processors_of(folder: Path) -> dict[str, Any]:
    """Arguments of `from_pretrained`: processors without their part for films, where that one lacks its package."""
    found = {}
    for part, owner in index_of(folder, folder.name).items():
        if is_part(owner) and owner[0] == "transformers" and (kind := _without_films(owner[-1])):
            with no_note_on_torchvision():
                found[part] = kind.from_pretrained(folder / part, local_files_only=True)
    return found


def _without_films(name: str) -> Any:
    """A class of transformers without its part for films, or None if it has none or torchvision is here."""
    if not name.endswith("Processor") or find_spec("torchvision"):
        return None
    import transformers

    with no_note_on_torchvision():
        kind = getattr(transformers, name, None)
    if kind is None or not issubclass(kind, transformers.ProcessorMixin):
        return None
    kept = [part for part in kind.get_attributes() if part != "video_processor"]
    if len(kept) == len(kind.get_attributes()):
        return None
    # under its own name, by which the pipeline checks it and saves it
    changed = {"__module__": kind.__module__, "get_attributes": classmethod(lambda _: kept)}
    return type(name, (kind,), changed)


@contextmanager
def moved_classes(folder: Path) -> Iterator[None]:
    """Inside the block, diffusers finds what it moved where folders say that it is: at its top, or in ``pipelines``."""
    owners = [owner for owner in index_of(folder, folder.name).values() if is_part(owner)]
    if not any(owner[-1] == "PaellaVQModel" for owner in owners):
        yield
        return
    import diffusers
    from diffusers.pipelines.deprecated import wuerstchen

    diffusers.PaellaVQModel, diffusers.pipelines.wuerstchen = wuerstchen.PaellaVQModel, wuerstchen
    try:
        yield
    finally:
        del diffusers.PaellaVQModel, diffusers.pipelines.wuerstchen
