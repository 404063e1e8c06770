"""Explorers that also live outside a notebook: one self-contained HTML file.

The one decision: the page runs **the same module** as the notebook, on a model that only remembers. A content security
policy in the page forbids every connection, so that "works with the network off" is enforced and not hoped for.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from html import escape
from pathlib import Path
from typing import Any

import anywidget

from sdkit.pictures.files import html_path, replacing

from .explorer import STATIC, Explorer

__all__ = ["Portable"]

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src blob: data:; style-src 'unsafe-inline'; script-src '{hash}'">
<title>{title}</title>
<style>
html {{ color-scheme: light dark; background: light-dark(#eceef1, #0e0f11); }}
body {{ display: grid; justify-content: center; grid-template-columns: minmax(0, 820px); margin: 0; padding: 24px 12px; }}
{css}</style>
</head>
<body>
<main id="panel"></main>
<script type="application/json" id="state">{state}</script>
<script type="module">{script}</script>
</body>
</html>
"""
# the model of a page: what the notebook's model offers, without a kernel behind it
_MODEL = """
const state = JSON.parse(document.getElementById("state").textContent, (key, value) =>
  value && typeof value.$bytes === "string"
    ? new DataView(Uint8Array.from(atob(value.$bytes), (c) => c.charCodeAt(0)).buffer) : value);
const model = { get: (name) => state[name], on() {}, off() {}, send() {}, set() {}, save_changes() {} };
widget.render({ model, el: document.getElementById("panel") });
"""


class Portable(Explorer):
    """An explorer whose data travels with it; ``live`` is false in an exported page, where no kernel answers."""

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write one HTML file that opens from disk, without a network, and stays interactive.

        Parameters
        ----------
        path
            File name ending in ``.html``; an existing file is replaced.

        Returns
        -------
        pathlib.Path
            What was written.

        Raises
        ------
        CannotSave
            For another suffix, a missing folder or a full disk; nothing half-written stays.
        """
        path = html_path(path)
        with replacing(path) as temporary:
            temporary.write_text(self._page(), encoding="utf-8")
        return path

    def _page(self) -> str:
        script = str(self._esm).replace("export default {", "const widget = {", 1) + _MODEL
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
        return _PAGE.format(
            hash=f"sha256-{digest}",
            title=escape(f"sdkit {type(self).__name__}"),
            css=(STATIC / "kit.css").read_text(encoding="utf-8"),
            state=_json({**self._state(), "live": False}),
            script=script,
        )

    def _state(self) -> dict[str, Any]:
        """Return what the module reads: the traits that this explorer added to a bare widget."""
        bare = set(anywidget.AnyWidget.class_trait_names(sync=True))
        return {
            name: getattr(self, name)
            for name in self.class_trait_names(sync=True)
            if name not in bare
        }


def _json(state: dict[str, Any]) -> str:
    """Return JSON that no text inside can end: every ``<`` is written as an escape."""
    text = json.dumps(
        state, default=lambda data: {"$bytes": base64.b64encode(data).decode("ascii")}
    )
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028")
