"""The runtime that computes in a page: `onnxruntime-web`, fetched when the first page is made, and cached.

The design decision: one public package of fixed version, fetched from npm's registry and checked against its published sum. A
page that is opened from disk may start a worker only from text, and only one without modules; so the runtime's module is turned into plain script.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import re
import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sdkit.errors import MissingExtra
from sdkit.pictures.files import replacing

__all__ = ["BUILDS", "Build", "fetch", "folder"]

_PACKAGE: Final = "onnxruntime-web"
_VERSION: Final = "1.30.0"
_ADDRESS: Final = f"https://registry.npmjs.org/{_PACKAGE}/-/{_PACKAGE}-{_VERSION}.tgz"
_SHA512: Final = (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
_EXPORTS: Final = re.compile(r"export\s*\{([^}]*)\};?")


@dataclass(frozen=True)
class Build:
    """One build of the runtime: its script, and the WebAssembly that it starts."""

    script: str
    assembly: str

    def plain_script(self) -> str:
        """The module as a script that defines ``ort``: what it exports, and no ``import.meta``."""
        text = _member(self.script).decode("utf-8").replace("import.meta.url", "self.location.href")
        found = list(_EXPORTS.finditer(text))[-1]
        pairs = (pair.split(" as ") for pair in found[1].split(","))
        names = ", ".join(f"{pair[-1].strip()}: {pair[0].strip()}" for pair in pairs)
        return f"{text[: found.start()]}const ort = {{ {names} }};\n"

    def packed_assembly(self) -> bytes:
        """The WebAssembly, gzipped; kept beside the package, because packing takes seconds."""
        kept = folder() / f"{_VERSION}-{self.assembly}.gz"
        if not kept.is_file():
            temporary = kept.with_suffix(f".{os.getpid()}")
            temporary.write_bytes(gzip.compress(_member(self.assembly), mtime=0))
            temporary.replace(kept)
        return kept.read_bytes()


BUILDS: Final = {
    "processor": Build("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"),
    "graphics": Build("ort.webgpu.bundle.min.mjs", "ort-wasm-simd-threaded.asyncify.wasm"),
}


def folder() -> Path:
    """Where the package is kept: `SDKIT_RUNTIME`, or the user's cache."""
    return Path(os.environ.get("SDKIT_RUNTIME") or Path.home() / ".cache" / "sdkit" / "runtime")


def fetch() -> Path:
    """The package, downloaded on first use and checked; the error says how to get it by hand."""
    path = folder() / f"{_PACKAGE}-{_VERSION}.tgz"
    if path.is_file():
        return path
    try:
        with urllib.request.urlopen(_ADDRESS, timeout=60) as answer:
            data = answer.read()
    except OSError as error:
        raise MissingExtra(
            f"A page needs {_PACKAGE} {_VERSION}, which is not in {path.parent} and could not be fetched "
            f"({getattr(error, 'reason', error)}); put this file there: {_ADDRESS}"
        ) from error
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != _SHA512:
        raise MissingExtra(
            f"What {_ADDRESS} gave is not {_PACKAGE} {_VERSION} as it was published, so it was not kept; fetch it again."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    return path


def _member(name: str) -> bytes:
    with tarfile.open(fetch()) as package:
        stream = package.extractfile(f"package/dist/{name}")
        assert stream is not None  # noqa: S101 - the package has a fixed version
        return stream.read()
