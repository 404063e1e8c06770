"""The explorers of the gallery, alive: pages that Pocket makes while the site is built, and the site frames.

They are what ``to_html`` writes for anybody, so the gallery shows no more than a reader can make.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import sdkit
from sdkit.widgets import AttentionExplorer, TraceExplorer, WalkExplorer


def _attention(pipe: Any, path: Path) -> None:
    prompt = "a cat to the left of a red tree on a white background"
    looked = {"steps": True, "heads": True}
    result = sdkit.generate(pipe, prompt, seed=3, attention=looked, progress=False)
    AttentionExplorer(result).to_html(path)


def _trace(pipe: Any, path: Path) -> None:
    result = sdkit.generate(pipe, "a fox in the snow", seed=1, trace=True, progress=False)
    TraceExplorer(pipe, result).to_html(path)


def _walk(pipe: Any, path: Path) -> None:
    words = ("a cat in the snow", "a fox in the snow", "a fox at night")
    keyframes = [sdkit.Settings(prompt, seed=seed) for seed, prompt in enumerate(words, 1)]
    explorer = WalkExplorer(pipe, keyframes, frames=25)
    explorer.worker.join()
    explorer.to_html(path)


def _sweep(pipe: Any, path: Path) -> None:
    guidance, seeds = {"guidance_scale": [1, 2, 4, 8]}, {"seed": [1, 2, 3]}
    sdkit.sweep(pipe, "a castle at night", x=guidance, y=seeds, progress=False).save(path)


PAGES: dict[str, Callable[[Any, Path], None]] = {
    "attention": _attention,
    "trace": _trace,
    "walk": _walk,
    "sweep": _sweep,
}


def make(folder: Path) -> None:
    """Write every page into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    pipe = sdkit.load(device="cpu")
    for name, write in PAGES.items():
        write(pipe, folder / f"{name}.html")


def _made(app: Any, error: Exception | None) -> None:
    if error is None and app.builder.name == "html":
        make(Path(app.outdir, "live"))


def setup(app: Any) -> None:
    """Make them when the pages stand."""
    app.connect("build-finished", _made)
