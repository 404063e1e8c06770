"""The frame around every explorer: how it reaches the page, how it ends, and what stays of it.

The one decision: **the browser sends messages, the kernel sets traits**, and never the other way round. So no value
has two writers, a slider under the finger is never pulled back by its own echo, and a worker thread may set a trait
while the kernel handles the next message.

A notebook that is opened without this kernel cannot show a panel. Therefore a still picture is stored beside it, which
a rule in its own style sheet hides for as long as the panel lives.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

import anywidget
import traitlets

from sdkit.pictures.card import figure, flat_copy
from sdkit.pictures.sheet import readable

if TYPE_CHECKING:
    from PIL import Image

    from sdkit.settings import Settings

__all__ = ["STATIC", "Explorer", "module"]

STATIC: Final = Path(__file__).parent / "static"
_IMPORT: Final = re.compile(r'^import .* from "\./(\w+\.js)";\n', re.MULTILINE)
# In JupyterLab and Notebook 7, each output is a child of the cell's output area. While the panel lives, it hides the
# still before it; where it cannot, the still hides the error that stands in the panel's place.
_STILL_STYLE: Final = (
    ".jp-OutputArea-child:has(.sdkit-still):has(+ .jp-OutputArea-child .sdkit){display:none}"
    ".jp-OutputArea-child:has(.sdkit-still) + .jp-OutputArea-child:not(:has(.sdkit)){display:none}"
)
_panels: dict[
    str, tuple[str, WeakSet[Explorer]]
] = {}  # cell → the run of it, and the panels that this run made


def module(name: str) -> str:
    """Return one ES module of ``static/`` with the files it imports in place of its imports.

    A widget's module reaches the browser as one text, so that nothing is fetched; in the repository each file stays a
    module that imports its neighbours.
    """
    text = (STATIC / name).read_text(encoding="utf-8")
    neighbours = "".join(
        module(found).replace("\nexport ", "\n") for found in _IMPORT.findall(text)
    )
    return neighbours + _IMPORT.sub("", text)


class Explorer(anywidget.AnyWidget):  # type: ignore[misc]
    """Base of all explorers; a subclass names its module in ``_esm`` and adds traits and messages.

    A message ``{"do": "stop", …}`` from the browser calls the method ``_do_stop`` with the rest as keywords. Running
    a cell again closes the panels that its last run made.

    Attributes
    ----------
    view
        What the panel shows now.
    note, message
        A sentence for the reader, and one about something that went wrong; empty if there is none.
    error
        The exception behind the message, if it was one.
    """

    _css = STATIC / "kit.css"
    view = traitlets.Dict().tag(sync=True)
    note = traitlets.Unicode().tag(sync=True)
    message = traitlets.Unicode().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        self.error: BaseException | None = None
        self._still_id = f"sdkit-{token_hex(8)}"
        self._displayed = self._closed = False
        super().__init__(**traits)
        self.on_msg(self._receive)
        _succeed(self)

    def __repr__(self) -> str:
        """Name the panel and what it shows."""
        return f"<{type(self).__name__}>"

    def close(self) -> None:
        """Free everything; where the panel stood, its last picture stays."""
        self._closed = True
        super().close()

    # -- messages --------------------------------------------------------------------------------------------------

    def _receive(
        self, _widget: Any, content: Mapping[str, Any], buffers: Sequence[memoryview]
    ) -> None:
        """Call the method that a message names; an error becomes a sentence in the panel."""
        values = dict(content)
        action = getattr(self, f"_do_{values.pop('do', '')}", None)
        if action is None or self._closed:
            return
        try:
            action(**values, **({"buffers": buffers} if buffers else {}))
        except Exception as error:  # noqa: BLE001 - an error in a callback would vanish in the kernel's log
            self._complain(error)

    def _complain(self, error: BaseException) -> None:
        self.error = error.with_traceback(None)  # a traceback would keep models alive
        self.message = str(error) or type(error).__name__

    # -- what stays in the notebook --------------------------------------------------------------------------------

    def still(self) -> tuple[Image.Image, Settings] | None:
        """Return the picture that stands for the panel where there is no kernel, and its settings."""
        return None

    def _ipython_display_(self) -> None:
        from IPython.display import display

        panel, metadata = self._repr_mimebundle_() or ({}, {})
        still = self._still_bundle()
        if _only_one_output():
            display({**panel, "text/html": still["text/html"]}, raw=True, metadata=metadata)
            return
        display(still, raw=True, display_id=self._still_id)
        self._displayed = True
        display(panel, raw=True, metadata=metadata)

    def _still_bundle(self) -> dict[str, str]:
        found = self.still()
        picture = figure(readable([found[0]]), [found[1]]) if found else ""
        text = f'<div class="sdkit-still"><style>{_STILL_STYLE}</style>{picture}</div>'
        bundle = {
            "text/plain": repr(self),
            "text/html": text if picture else text.replace("</div>", _empty(self)),
        }
        return bundle | (flat_copy(readable([found[0]])) if found else {})

    def _refresh_still(self) -> None:
        """Replace the stored still; outputs are found by their id, so any thread may do it."""
        if self._displayed and not self._closed:
            from IPython.display import display

            display(self._still_bundle(), raw=True, display_id=self._still_id, update=True)


def _empty(panel: Explorer) -> str:
    return f"{escape(type(panel).__name__)}: run this cell to see it.</div>"


def _only_one_output() -> bool:
    """Whether this front end is one that cannot hide a second output (VS Code, Colab)."""
    return "google.colab" in sys.modules or "VSCODE_PID" in os.environ or "VSCODE_CWD" in os.environ


def _succeed(panel: Explorer) -> None:
    """Close the panels that an earlier run of this cell made: they are off the page, and nobody can reach them."""
    cell, run = _cell()
    if cell is None:
        return
    before, panels = _panels.get(cell, ("", WeakSet()))
    if before != run:
        for old in list(panels):
            old.close()
        panels = WeakSet()
    panels.add(panel)
    _panels[cell] = (run, panels)


def _cell() -> tuple[str | None, str]:
    """Identity of the running cell, where the front end tells it, and of this run."""
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is None:
        return None, ""
    parent = kernel.get_parent("shell") or {}
    return parent.get("metadata", {}).get("cellId"), parent.get("header", {}).get("msg_id", "")
