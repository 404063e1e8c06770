"""sdkit: a notebook lab bench for text-to-image diffusion.

Importing it is nearly free: torch, diffusers and the rest load when a name is first used (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .errors import Cancelled as Cancelled
    from .errors import SdkitError as SdkitError
    from .generation import generate as generate
    from .generation import variations as variations
    from .models import load as load
    from .result import Result as Result
    from .result import load_result as load_result
    from .settings import Settings as Settings

__version__ = "0.1.0"
_HOMES = {
    **dict.fromkeys(("Cancelled", "SdkitError"), "errors"),
    **dict.fromkeys(("generate", "variations"), "generation"),
    "load": "models",
    **dict.fromkeys(("Result", "load_result"), "result"),
    "Settings": "settings",
    "pocket": "",
}
__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - the table's keys are strings


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'sdkit' has no attribute {name!r}; it offers {', '.join(_HOMES)}")
    home = _HOMES[name]
    return getattr(import_module(f".{home}", __name__), name) if home else import_module(f".{name}", __name__)
