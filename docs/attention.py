"""Make the README's picture of attention: `python docs/attention.py`. Maps of a prompt, edits of it, and its ablation."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

import sdkit
from sdkit.pictures.gallery import Gallery

PROMPT, SEED = "a fox to the left of a tree on a blue background", 3


def main() -> None:
    """Capture, edit, ablate; one row each."""
    pipe = sdkit.load()
    r = sdkit.generate(pipe, PROMPT, seed=SEED, attention=True, progress=False)
    edits = [("the picture", r.image)]
    for title, options in (
        ("dog for fox", {"swap": {"fox": "dog"}}),
        ("yellow for blue", {"swap": {"blue": "yellow"}}),
        ("and watercolor", {"prompt": PROMPT + ", watercolor"}),
        ("house for tree", {"swap": {"tree": "house"}}),
    ):
        with sdkit.edit_attention(pipe, r, **options) as edit:
            edits.append((title, sdkit.generate(pipe, edit.settings, progress=False).image))
    words = ["fox", "left", "tree", "blue"]
    without = sdkit.ablate(pipe, r, words, progress=False).without
    rows = [
        r.attention.show(words),
        Gallery(edits),
        Gallery([("the picture", r.image), *((f"without {w!r}", without[w].image) for w in words)]),
    ]
    sheets = [row.sheet(5) for row in rows]
    page = Image.new(
        "RGB", (max(s.width for s in sheets), sum(s.height + 12 for s in sheets) - 12), "white"
    )
    top = 0
    for sheet in sheets:
        page.paste(sheet, (0, top))
        top += sheet.height + 12
    page.save(Path(__file__).with_name("attention.png"), optimize=True)


if __name__ == "__main__":
    main()
