"""Explorers: panels for notebooks that answer while one drags.

Each is one widget with one Python file and one plain ES module in ``static/``. They need the extra ``lab``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .attention import AttentionExplorer as AttentionExplorer
    from .drafts import DraftsBoard as DraftsBoard
    from .history import HistoryExplorer as HistoryExplorer
    from .prompt import PromptExplorer as PromptExplorer
    from .sketch import Sketchpad as Sketchpad
    from .trace import TraceExplorer as TraceExplorer
    from .walk import WalkExplorer as WalkExplorer

_HOMES = {
    "AttentionExplorer": "attention",
    "DraftsBoard": "drafts",
    "HistoryExplorer": "history",
    "PromptExplorer": "prompt",
    "Sketchpad": "sketch",
    "TraceExplorer": "trace",
    "WalkExplorer": "walk",
}
__all__ = [*_HOMES]  # noqa: PLE0604 - the table's keys are strings


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(
            f"module 'sdkit.widgets' has no attribute {name!r}; it offers {', '.join(_HOMES)}"
        )
    try:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    except ImportError as error:
        from sdkit.errors import MissingExtra

        if (error.name or "").partition(".")[0] not in {"anywidget", "ipywidgets", "traitlets"}:
            raise
        raise MissingExtra(
            f"{name} needs {error.name}, which is not installed: run pip install 'sdkit-notebooks[lab]'"
        ) from error
