"""sdkit: a notebook lab bench for text-to-image diffusion.

Importing it is nearly free: all else loads when a name of `__init__.pyi` is first used (PEP 562).
"""

from __future__ import annotations

__version__ = "0.1.0"
_WHERE = {
    "attention.capture": "capture_attention",
    "errors": "Cancelled SdkitError",
    "experiments.ablation": "ablate",
    "experiments.editing": "edit_attention",
    "experiments.forking": "fork",
    "experiments.inversion": "invert",
    "experiments.pushing": "push_attention",
    "generation": "generate variations",
    "memory.plan": "Plan",
    "models.load": "load",
    "models.planning": "plan",
    "result": "Result load_result",
    "settings": "Settings",
    "sweeps.axes": "PromptMatrix SearchReplace Wildcards",
    "sweeps.sweeping": "Sweep sweep",
    "traces.tracing": "record_trace trace_cost",
    "walks.interpolation": "interpolate interpolate_grid",
    "walks.walk": "Walk",
    "": "plots pocket",
}
_HOMES = {name: home for home, names in _WHERE.items() for name in names.split()}
__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - the table's keys are strings


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'sdkit' has no attribute {name!r}; try {', '.join(_HOMES)}")
    home = import_module(f".{_HOMES[name] or name}", __name__)
    return getattr(home, name) if _HOMES[name] else home
