r"""How a result looks in a notebook: one picture, one caption.

The one decision: **one picture, one card.** A notebook stores every representation it is offered, so the card
is a single HTML figure with a single embedded preview, as WebP (a tenth of a PNG); a small JPEG beside it is what LaTeX
and PDF show, which read no HTML. All text passes through `_text`,
the only place where strings enter HTML. Colours are inherited, so the card fits light and dark themes, and the
classes tell MathJax to leave prompts alone, whose ``\(`` it would take for mathematics.
"""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING, Final

from PIL import features

from sdkit.settings import SCHEDULERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from PIL import Image

    from sdkit.settings import Settings

__all__ = ["caption", "compressed", "figure", "flat_copy", "gallery"]

_QUALITY: Final = 90
_FLAT_QUALITY: Final = 70
_FLAT_SIDE: Final = 640  # pixels: the width of a page at 100 dots an inch
_LONGEST_TEXT: Final = 300  # a prompt of a page would bury the picture
_MOST_VALUES: Final = 4  # "seeds 1, 2, 3, 4 …"


def figure(
    preview: Image.Image,
    settings: Sequence[Settings],
    seconds: float = 0.0,
    notes: Iterable[str] = (),
    *,
    facts: str = "",
) -> str:
    """Return the HTML of a picture with its settings below.

    Parameters
    ----------
    preview
        What to show, in the size to show it.
    settings
        Settings of the picture, or of each picture of a sheet.
    seconds
        How long it took; 0 if that is not known.
    notes
        Warnings, each shown on a line of its own.
    facts
        What else the caption begins with.

    Returns
    -------
    str
        One ``<figure>``, safe to display whatever the prompts are.
    """
    prompt = _prompt(settings)
    lines = [
        f"<bdi>{_text(prompt)}</bdi>" if prompt else "",
        _text(" · ".join(part for part in (facts, caption(settings, seconds)) if part)),
    ]
    lines += [f"⚠ {_text(note)}" for note in notes]
    return (
        '<figure class="mathjax_ignore tex2jax_ignore" style="margin:0;display:inline-block;max-width:100%">'
        f"{_image(preview, prompt or 'a picture')}"
        f'<figcaption style="max-width:{max(preview.width, 320)}px;font-size:85%;line-height:1.4;opacity:.8">'
        f"{'<br>'.join(line for line in lines if line)}</figcaption></figure>"
    )


def gallery(
    items: Sequence[tuple[str, Image.Image]], heading: str = "", columns: int | None = None
) -> str:
    """Return the HTML of several pictures, each with a title below.

    Parameters
    ----------
    items
        Titles and pictures, in the size to show them.
    heading
        One line above them.
    columns
        Pictures in a row; None fills the width.

    Returns
    -------
    str
        One ``<section>``, safe to display whatever the titles are.
    """
    figures = "".join(
        f'<figure style="margin:0;max-width:{max(image.width, 60)}px">{_image(image, title)}'
        f'<figcaption style="font-size:85%;line-height:1.3;opacity:.85">{_text(title)}</figcaption></figure>'
        for title, image in items
    )
    above = (
        f'<div style="margin-bottom:6px;opacity:.85"><bdi>{_text(heading)}</bdi></div>'
        if heading
        else ""
    )
    flow = (
        f"display:grid;grid-template-columns:repeat({columns},minmax(0,max-content))"
        if columns
        else "display:flex;flex-wrap:wrap"
    )
    return f'<section class="mathjax_ignore tex2jax_ignore">{above}<div style="{flow};gap:10px">{figures}</div></section>'


def caption(settings: Sequence[Settings], seconds: float = 0.0) -> str:
    """Return the settings in a line: ``seed 7 · 20 steps · guidance 5 · DDIM · 64x64 · 0.9 s``.

    Parameters
    ----------
    settings, seconds
        As for `figure`. Where pictures differ, the values are listed; what is ``None`` everywhere is left out.

    Returns
    -------
    str
        Plain text, not escaped.
    """
    sizes = [
        f"{s.width}\N{MULTIPLICATION SIGN}{s.height}" if s.width and s.height else None
        for s in settings
    ]
    parts = [
        _list("seed", "seeds", [s.seed for s in settings]),
        _list("", "", [f"{s.steps} steps" if s.steps else None for s in settings]),
        _list("guidance", "guidance", [_short(s.guidance_scale) for s in settings]),
        _list("true guidance", "true guidance", [_short(s.true_cfg_scale) for s in settings]),
        _list("", "", [SCHEDULERS[s.scheduler] if s.scheduler else None for s in settings]),
        _list(
            "strength",
            "strength",
            [_short(s.strength if s.task != "text-to-image" else None) for s in settings],
        ),
        _list("control", "control", [_scale(s) for s in settings]),
        _list("variation", "variations", [_short(s.variation_amount or None) for s in settings]),
        _list("", "", sizes),
        f"{seconds:.1f} s" if seconds else "",
    ]
    return " · ".join(part for part in parts if part)


def _scale(s: Settings) -> str | None:
    """How strongly control pictures lead, where there are any: ``0.5`` or ``0.5+1``."""
    if s.control is None or s.control_scale is None:
        return None
    scales = s.control_scale if isinstance(s.control_scale, tuple) else (s.control_scale,)
    return "+".join(f"{scale:g}" for scale in scales)


def compressed(image: Image.Image, quality: int = _QUALITY, effort: int = 2) -> tuple[str, bytes]:
    """Return the MIME type and the bytes of a small, lossy picture.

    Parameters
    ----------
    image
        Any picture; transparency is dropped.
    quality, effort
        0 to 100, and 0 (fast) to 6 (small).
    """
    kind = "webp" if features.check("webp") else "jpeg"  # Pillow can be built without WebP
    file = io.BytesIO()
    image.convert("RGB").save(
        file, kind, quality=quality, method=effort
    )  # JPEG knows no method and ignores it
    return f"image/{kind}", file.getvalue()


def flat_copy(image: Image.Image) -> dict[str, str]:
    """Return a picture as the part of a notebook's output that LaTeX and PDF keep, which cannot read HTML."""
    file = io.BytesIO()
    flat = image.convert("RGB")
    flat.thumbnail(
        (_FLAT_SIDE, _FLAT_SIDE)
    )  # it stands beside the real one in every saved notebook
    flat.save(file, "jpeg", quality=_FLAT_QUALITY, optimize=True)
    return {"image/jpeg": base64.b64encode(file.getvalue()).decode("ascii")}


def _text(text: str) -> str:
    """Make a string safe as HTML text and as an attribute: one line of limited length, no control characters."""
    line = " ".join("".join(c if c >= " " and c != "\x7f" else " " for c in text).split())
    if len(line) > _LONGEST_TEXT:
        line = line[: _LONGEST_TEXT - 1] + "…"
    return escape(line.encode("utf-8", errors="replace").decode("utf-8"), quote=True)


def _prompt(settings: Sequence[Settings]) -> str:
    prompts = list(dict.fromkeys(s.prompt for s in settings))
    return prompts[0] if len(prompts) == 1 else f"{len(prompts)} prompts: " + " | ".join(prompts)


def _list(one: str, many: str, values: Iterable[object]) -> str:
    distinct = list(dict.fromkeys(str(value) for value in values if value is not None))
    if not distinct:
        return ""
    shown = ", ".join(distinct[:_MOST_VALUES]) + (" …" if len(distinct) > _MOST_VALUES else "")
    return f"{one if len(distinct) == 1 else many} {shown}".strip()


def _short(value: float | None) -> str | None:
    return None if value is None else f"{value:g}"


def _image(image: Image.Image, alt: str) -> str:
    kind, data = compressed(image)
    return (
        f'<img src="data:{kind};base64,{base64.b64encode(data).decode("ascii")}" alt="{_text(alt)}" '
        f'width="{image.width}" height="{image.height}" style="max-width:100%;height:auto;border-radius:4px">'
    )
