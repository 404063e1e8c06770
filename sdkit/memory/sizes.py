"""What a checkpoint holds, read from the headers of its files alone.

The design decision: **no tensor is read.** A safetensors file begins with a JSON list of its tensors' types and shapes, so
a few kilobytes tell how large every part of a pipeline will be in any precision; on the hub they are fetched without the rest.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sdkit.errors import ModelNotFound
from sdkit.pictures.files import contents
from sdkit.pipelines.families import role_of
from sdkit.pipelines.originals import PREFIXES, PUBLISHED_AUTOENCODER, shape_of

__all__ = ["Part", "measure", "unreadable"]

_FLOATS = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"}
_ITEMSIZE = {
    "F64": 8,
    "I64": 8,
    "U64": 8,
    "F32": 4,
    "I32": 4,
    "U32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
    "U16": 2,
}
_LONGEST_HEADER = 100_000_000  # the limit that safetensors itself keeps
_WEIGHTS = r"(diffusion_pytorch_model|model){variant}(-\d{{5}}-of-\d{{5}})?\.safetensors"

Tensors = Mapping[str, tuple[str, tuple[int, ...]]]
"""Name of each tensor in a file → its type as safetensors writes it, and its shape."""


@dataclass(frozen=True)
class Part:
    """One network of a pipeline.

    Parameters
    ----------
    name
        Such as ``"unet"`` or ``"text_encoder_2"``.
    floats
        Numbers that take the precision the pipeline is loaded in.
    fixed
        Bytes of everything else (indices keep their type).
    largest
        Numbers in the largest single tensor: what has to be on a device at once when layers come one by one.
    config
        The part's ``config.json``.
    """

    name: str
    floats: int
    fixed: int = 0
    largest: int = 0
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def bytes(self, itemsize: int) -> int:
        """Size in memory, with so many bytes for a number."""
        return self.floats * itemsize + self.fixed

    @property
    def role(self) -> str:
        """One of ``"denoiser"``, ``"autoencoder"``, ``"text"``, ``"other"``."""
        return role_of(self.name)


def measure(
    kind: str,
    source: str,
    *,
    revision: str | None = None,
    variant: str | None = None,
    fetch: bool = False,
    without: Sequence[str] = (),
) -> tuple[Part, ...] | None:
    """Sizes of all parts of a checkpoint.

    Parameters
    ----------
    kind
        ``"file"``, ``"folder"`` or ``"hub"``.
    source
        Path or hub id.
    revision, variant
        As for `sdkit.load`.
    fetch
        Ask the hub for the headers of what is not on this machine; else the answer for that is None.
    without
        Parts that will not be loaded.

    Raises
    ------
    ModelNotFound
        If a header cannot be read.
    """
    if kind == "file":
        return tuple(_parts_of_single(_read_header(Path(source))))
    if kind == "folder":
        return tuple(_parts(_Folder(Path(source)), variant, without))
    cached = _cached(source, revision)
    if cached is not None:
        found = tuple(_parts(cached, variant, without))
        if {p.role for p in found} >= {"denoiser", "autoencoder"}:
            return found  # otherwise a download stopped half-way
    return tuple(_parts(_Hub(source, revision), variant, without)) if fetch else None


class _Place(Protocol):
    """Where the files of a pipeline lie."""

    def names(self) -> Iterable[str]: ...
    def json(self, name: str) -> dict[str, Any]: ...
    def header(self, name: str) -> Tensors: ...


class _Folder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> Iterable[str]:
        parts = [part for part in contents(self.path) if part.is_dir()]
        return [file.relative_to(self.path).as_posix() for part in parts for file in contents(part)]

    def json(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise ModelNotFound(
                f"{self.path.name}/{name} is missing or no valid JSON; copy the checkpoint again."
            )
        return found

    def header(self, name: str) -> Tensors:
        return _read_header(self.path / name)


class _Hub:
    def __init__(self, source: str, revision: str | None) -> None:
        from huggingface_hub import HfApi

        self.api, self.source, self.revision = HfApi(), source, revision

    def names(self) -> Iterable[str]:
        return self.api.list_repo_files(self.source, revision=self.revision)

    def json(self, name: str) -> dict[str, Any]:
        path = self.api.hf_hub_download(self.source, name, revision=self.revision)
        return json.loads(Path(path).read_text(encoding="utf-8"))

    def header(self, name: str) -> Tensors:
        found = self.api.parse_safetensors_file_metadata(self.source, name, revision=self.revision)
        return {key: (t.dtype, tuple(t.shape)) for key, t in found.tensors.items()}


def _cached(source: str, revision: str | None) -> _Folder | None:
    """The snapshot of a hub id in Hugging Face's cache."""
    from huggingface_hub import try_to_load_from_cache

    index = try_to_load_from_cache(source, "model_index.json", revision=revision)
    return _Folder(Path(index).parent) if isinstance(index, str) else None


def _parts(place: _Place, variant: str | None, without: Sequence[str]) -> Iterable[Part]:
    index, names = place.json("model_index.json"), list(place.names())
    for name, owner in index.items():
        if (
            name.startswith("_")
            or name in without
            or not isinstance(owner, list)
            or not (owner and isinstance(owner[0], str))  # some keep lists of numbers there
        ):
            continue
        files = _weights(names, name, variant)
        if files:
            tensors = {key: value for file in files for key, value in place.header(file).items()}
            yield _part(name, tensors, place.json(f"{name}/config.json"))


def _weights(names: Iterable[str], part: str, variant: str | None) -> list[str]:
    """The files that `from_pretrained` takes for one part: those of the variant, else the plain ones."""
    for marked in (f".{variant}", "") if variant else ("",):
        pattern = re.compile(re.escape(f"{part}/") + _WEIGHTS.format(variant=re.escape(marked)))
        files = [n for n in names if pattern.fullmatch(n)]
        # beside one whole file there may be the same in pieces: the whole one is taken
        if files:
            return [n for n in files if "-of-" not in n][:1] or files
    return []


def _part(name: str, tensors: Tensors, config: Mapping[str, Any]) -> Part:
    floats = [math.prod(shape) for kind, shape in tensors.values() if kind in _FLOATS]
    fixed = sum(
        math.prod(shape) * _ITEMSIZE.get(kind, 1)
        for kind, shape in tensors.values()
        if kind not in _FLOATS
    )
    return Part(name, sum(floats), fixed, max(floats, default=0), config)


def _read_header(path: Path) -> Tensors:
    """Eight bytes say how long the JSON is that follows them."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            text = file.read(length) if 0 < length <= _LONGEST_HEADER else b""
        header = json.loads(text)
        return {
            k: (v["dtype"], tuple(v["shape"])) for k, v in header.items() if k != "__metadata__"
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ModelNotFound(f"{path.name} {unreadable(path)}.") from None


def unreadable(place: Path) -> str:
    """A sentence's part on what a file is that should be safetensors and has no header of it."""
    try:
        with place.open("rb") as file:
            begin = file.read(512).lstrip()
    except OSError as error:
        return f"cannot be read ({error.strerror}); check the file and its permissions"
    if begin.startswith(b"version https://git-lfs"):
        return "is only a pointer of Git LFS to the file; fetch the file itself with: git lfs pull"
    if begin[:1] == b"<":
        return "is a web page that was saved instead of the file; download the file itself"
    if not begin:
        return "is empty; copy or download it again"
    return "is damaged or cut short: its header cannot be read; copy or download it again"


# -- single files ----------------------------------------------------------------------------------------------------


def _parts_of_single(tensors: Tensors) -> Iterable[Part]:
    """Parts of a file in the original naming; shapes stand in for the configurations that it does not have."""
    groups: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = {}
    for key, value in tensors.items():
        name = next((part for prefix, part in PREFIXES if key.startswith(prefix)), "denoiser")
        groups.setdefault(name, {})[key] = value
    groups.pop("", None)
    shapes = {key: shape for key, (_, shape) in groups.get("denoiser", {}).items()}
    network, config = shape_of(shapes, groups)
    for name, group in groups.items():
        if name == "denoiser":
            yield _part(network, group, config)
        else:
            yield _part(name, group, PUBLISHED_AUTOENCODER if name == "vae" else {})
