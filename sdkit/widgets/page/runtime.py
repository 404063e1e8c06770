"""The runtime that computes in a page: `onnxruntime-web`, fetched when the first page is made, and cached.

The design decision: one public npm package of fixed version, read where `npm pack` has put it. A page that is opened from
disk may start a worker only from text, and only one without modules; so the runtime's module is turned into plain script.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sdkit.errors import MissingExtra

__all__ = ["BUILDS", "Build", "fetch", "folder"]

_PACKAGE: Final = "onnxruntime-web"
_VERSION: Final = "1.30.0"
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
    """The package, downloaded on first use; the error says how to get it by hand."""
    path = folder() / f"{_PACKAGE}-{_VERSION}.tgz"
    if path.is_file():
        return path
    npm, name = shutil.which("npm"), f"{_PACKAGE}@{_VERSION}"
    said = "npm was not found"
    if npm:
        path.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(  # noqa: S603 - the package's name is a constant of this file
            [npm, "pack", "--silent", name],
            cwd=path.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        said = f"npm said: {(done.stderr.strip().splitlines() or ['nothing'])[-1]}"
    if not path.is_file():
        raise MissingExtra(
            f"A page needs {name}, which is not in {path.parent} ({said}); fetch it there with: npm pack {name}"
        )
    return path


def _member(name: str) -> bytes:
    with tarfile.open(fetch()) as package:
        stream = package.extractfile(f"package/dist/{name}")
        assert stream is not None  # noqa: S101 - the package has a fixed version
        return stream.read()
