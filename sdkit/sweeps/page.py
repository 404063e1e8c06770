"""A sweep as one HTML file: the grid, and behind each cell its full picture and its settings.

The one decision: **the page needs nothing but itself**: pictures are inside (WebP), the script is a dozen lines, and it
opens from a disk, in a mail or on a server alike. Every text passes `html.escape` on its way in.
"""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING, Final

from sdkit.pictures.sheet import flat

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sdkit.result import Result

    from .axes import Axis

__all__ = ["page"]

Index = tuple[int, int, int]

_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem; max-width: max-content; }
h1 { font-size: 1.25rem; font-weight: 600; } h2 { font-size: 1rem; margin: 2rem 0 .5rem; }
table { border-collapse: separate; border-spacing: 6px; }
th { font-weight: 500; padding: .2rem .4rem; max-width: 14rem; } th[scope=row] { text-align: right; }
caption { caption-side: top; text-align: left; opacity: .7; padding-left: 6px; }
td { padding: 0; }
td button { all: unset; display: block; cursor: zoom-in; }
td button:focus-visible { outline: 3px solid #4a90e2; outline-offset: 2px; }
td img { display: block; width: clamp(64px, 14vw, 200px); height: auto; border-radius: 3px; }
td.none { width: clamp(64px, 14vw, 200px); background: #8882; border-radius: 3px; text-align: center; opacity: .6; }
dialog { border: none; border-radius: 8px; padding: 1rem; max-width: min(94vw, 1200px); }
dialog::backdrop { background: #000a; }
dialog img { display: block; width: auto; height: auto; min-width: min(384px, 80vw); max-width: 100%; max-height: 70vh;
  object-fit: contain; margin: 0 auto .8rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0; }
dt { opacity: .65; } dd { margin: 0; overflow-wrap: anywhere; }
"""
_SCRIPT: Final = """
const dialog = document.querySelector("dialog");
for (const button of document.querySelectorAll("td button")) {
  button.addEventListener("click", () => {
    dialog.replaceChildren(button.querySelector("img").cloneNode(), button.nextElementSibling.content.cloneNode(true));
    dialog.showModal();
  });
}
dialog.addEventListener("click", () => dialog.close());
"""


def page(title: str, axes: Sequence[Axis], cells: Mapping[Index, Result]) -> str:
    """Return the page.

    Parameters
    ----------
    title
        Heading, as plain text.
    axes
        The x, y and z axis.
    cells
        Results of one picture each, by (x, y, z) index; missing ones are left grey.

    Returns
    -------
    str
        A complete HTML document. Cells are buttons, so a keyboard reaches them; Escape or a click closes a picture.
    """
    tables = "".join(_table(axes, cells, z) for z in range(len(axes[2])))
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{tables}"
        f"<dialog></dialog><script>{_SCRIPT}</script></body></html>\n"
    )


def _table(axes: Sequence[Axis], cells: Mapping[Index, Result], z: int) -> str:
    x, y, deep = axes
    heading = f"<h2>{escape(deep.title)}: {escape(deep.labels[z])}</h2>" if deep.title else ""
    titles = [
        escape(t)
        for t in (f"{x.title} →" if x.title else "", f"{y.title} ↓" if y.title else "")
        if t
    ]
    corner = "<td></td>" if y.title else ""
    head = (
        f"<tr>{corner}{''.join(f'<th scope=col>{escape(label)}</th>' for label in x.labels)}</tr>"
        if x.title
        else ""
    )
    rows = ""
    for j, label in enumerate(y.labels):
        name = f"<th scope=row>{escape(label)}</th>" if y.title else ""
        rows += f"<tr>{name}{''.join(_cell(cells.get((i, j, z))) for i in range(len(x)))}</tr>"
    return f"{heading}<table><caption>{' &nbsp; '.join(titles)}</caption>{head}{rows}</table>"


def _cell(result: Result | None) -> str:
    if result is None:
        return '<td class="none">not made</td>'
    settings = result.settings
    facts = {k.replace("_", " "): v for k, v in settings.to_dict().items() if v not in (None, "")}
    if not settings.variation_amount:
        facts.pop("variation amount", None)
    if settings.task == "text-to-image":
        facts.pop("strength", None)
    told = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in facts.items())
    file = io.BytesIO()
    flat(result.image).save(file, "webp", quality=92)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return (
        f'<td><button aria-label="{escape(settings.prompt, quote=True)}">'
        f'<img src="data:image/webp;base64,{data}" alt="" width="{result.image.width}" height="{result.image.height}">'
        f"</button><template><dl>{told}</dl></template></td>"
    )
