"""sdkit: a notebook lab bench for text-to-image diffusion.

Importing it is nearly free: torch, diffusers and the rest load when a name is first used (PEP 562). What the names are,
for people and type checkers, stands in `__init__.pyi`.
"""

from __future__ import annotations

__version__ = "0.1.0"
_HOMES = {
    "ablate": "experiments.ablation",
    "capture_attention": "attention.capture",
    "edit_attention": "experiments.editing",
    **dict.fromkeys(("PromptMatrix", "SearchReplace", "Wildcards"), "sweeps.axes"),
    **dict.fromkeys(("Cancelled", "SdkitError"), "errors"),
    "fork": "experiments.forking",
    **dict.fromkeys(("interpolate", "interpolate_grid"), "walks.interpolation"),
    **dict.fromkeys(("generate", "variations"), "generation"),
    "load": "models.load",
    "Plan": "memory.plan",
    "plan": "models.planning",
    **dict.fromkeys(("Result", "load_result"), "result"),
    "Settings": "settings",
    "Walk": "walks.walk",
    **dict.fromkeys(("Sweep", "sweep"), "sweeps.sweeping"),
    **dict.fromkeys(("record_trace", "trace_cost"), "traces.tracing"),
    **dict.fromkeys(("plots", "pocket"), ""),
}
__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - the table's keys are strings


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(
            f"module 'sdkit' has no attribute {name!r}; it offers {', '.join(_HOMES)}"
        )
    home = _HOMES[name]
    return (
        getattr(import_module(f".{home}", __name__), name)
        if home
        else import_module(f".{name}", __name__)
    )
