"""`llms.txt`: the site's pages for readers that are language models, one line each (llmstxt.org)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes

HEAD = """# sdkit

> A notebook lab bench for text-to-image diffusion on plain diffusers pipelines: pictures that keep their settings, attention
> by word, traces, walks, sweeps, panels for Jupyter, and Pocket, a small model inside that needs no network.

The distribution is `sdkit-notebooks`, the import is `sdkit`. The first argument of every verb is a diffusers pipeline,
`pipe = sdkit.load()`; `sdkit.generate(pipe, "a cat", seed=7)` returns a `Result`.
"""
PARTS = {"": "Pages", "guide": "Guide", "lessons": "Lessons", "reference": "Reference"}


def _told(doctree: Any) -> str:
    """Return the first sentence that a page says, or that a docstring on it says."""
    for paragraph in doctree.findall(nodes.paragraph):
        text = " ".join(paragraph.astext().split())
        if len(text) > 20:
            return text.split(". ")[0].removesuffix(".")[:200]
    return ""


def _write(app: Any, error: Exception | None) -> None:
    if error is not None or app.builder.name != "html":
        return
    lines = {part: [] for part in PARTS}
    for name in sorted(app.env.found_docs - {"index"}):
        part, _, _ = name.rpartition("/")
        title = app.env.titles[name].astext()
        told = _told(app.env.get_doctree(name))
        lines[part].append(f"- [{title}]({name}.html): {told}")
    text = HEAD + "".join(
        f"\n## {heading}\n\n" + "\n".join(lines[part]) + "\n" for part, heading in PARTS.items()
    )
    Path(app.outdir, "llms.txt").write_text(text, encoding="utf-8")


def setup(app: Any) -> None:
    """Write the file when all pages stand."""
    app.connect("build-finished", _write)
