"""A page with the model inside: words, seed, guidance and steps in any browser, without Python and without a network.

The one decision: **one file that asks for nothing.** Networks (as ONNX), runtime (`onnxruntime-web`) and script stand in
the page as text. A content security policy forbids every connection, so that this is enforced and not hoped for.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import re
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any, Final

from sdkit import pocket
from sdkit.models.defaults import defaults
from sdkit.models.graphs import need
from sdkit.models.identity import is_pocket, model_name
from sdkit.pictures.files import html_path, replacing
from sdkit.settings import Settings

from .networks import check, facts, graphs
from .runtime import BUILDS

__all__ = ["script", "write"]

_HERE: Final = Path(__file__).parent
_STATIC: Final = _HERE.parent / "static"
_IMPORT: Final = re.compile(r"^import .*;\n", re.MULTILINE)
_EXPORT: Final = re.compile(r"^export ", re.MULTILINE)
_PANEL: Final = ("kit.js", "tokenizer.js", "live.js")
_WORKER: Final = ("noise.js", "solver.js", "worker.js")
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src blob: data:; style-src 'unsafe-inline'; script-src '{hash}' 'wasm-unsafe-eval'; worker-src blob:">
<title>{title}</title>
<style>
{css}</style>
</head>
<body>
<main id="panel"><p class="sd-opening" role="status">Opening the model …</p></main>
{parts}
<script type="module">{script}</script>
</body>
</html>
"""


def write(pipe: Any, path: str | os.PathLike[str], settings: Settings | None = None) -> Path:
    """Write one HTML file that holds a pipeline and makes its pictures, from disk and without a network.

    Parameters
    ----------
    pipe
        Pocket, Pocket Turbo or a pipeline trained as they are.
    path
        File name ending in ``.html``; an existing file is replaced.
    settings
        What the page begins with.

    Returns
    -------
    pathlib.Path
        What was written: 38 MB for Pocket Turbo, 60 MB for Pocket.

    Raises
    ------
    CannotSave
        For another suffix, a missing folder or a full disk; nothing half-written stays.
    InvalidSettings
        For pipelines that a page cannot hold.
    MissingExtra
        If `onnx` (extra ``fast``) or the package `onnxruntime-web` is missing and cannot be fetched.
    """
    path = html_path(path)
    need("onnx", what="A page with the model inside")
    check(pipe)
    with replacing(path) as temporary:
        temporary.write_text(_page(pipe, settings or Settings("")), encoding="utf-8")
    return path


def _page(pipe: Any, settings: Settings) -> str:
    name = model_name(pipe)
    panel = script(*_PANEL)
    digest = base64.b64encode(hashlib.sha256(panel.encode()).digest()).decode("ascii")
    parts = {f"{kind}-script": _scripts(build.plain_script) for kind, build in BUILDS.items()}
    parts |= graphs(pipe)
    packed = {kind: gzip.compress(data, mtime=0) for kind, data in parts.items()}
    packed |= {kind: build.packed_assembly() for kind, build in BUILDS.items()}
    told = {**facts(pipe), "name": name, "first": _first(pipe, settings)}
    told["vocabulary"] = list(pocket.vocabulary()) if is_pocket(pipe) else None
    texts = [_part(kind, base64.b64encode(data).decode("ascii")) for kind, data in packed.items()]
    css = "".join(f.read_text(encoding="utf-8") for f in (_STATIC / "kit.css", _HERE / "live.css"))
    return _PAGE.format(
        hash=f"sha256-{digest}",
        title=escape(f"{name}, live"),
        css=css,
        parts="\n".join([*texts, _part("facts", json.dumps(told).replace("<", "\\u003c"))]),
        script=panel,
    )


def _scripts(runtime: Callable[[], str]) -> bytes:
    return (runtime() + script(*_WORKER)).encode()


def _part(kind: str, text: str) -> str:
    return f'<script type="text/plain" id="{kind}">{text}</script>'


def _first(pipe: Any, settings: Settings) -> dict[str, Any]:
    whole = defaults(pipe).fill(settings)
    names = ("prompt", "negative_prompt", "seed", "steps", "guidance_scale")
    return {name: getattr(whole, name) for name in names}


def script(*names: str) -> str:
    """Join modules of this folder, or of the explorers' own, to one text without imports and exports."""
    places = [_HERE / name if (_HERE / name).is_file() else _STATIC / name for name in names]
    text = "".join(place.read_text(encoding="utf-8") for place in places)
    return _EXPORT.sub("", _IMPORT.sub("", text))
