"""Where figures come from: the axes that were given, or new ones that a notebook shows by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sdkit.errors import MissingExtra
from sdkit.pictures.lettering import lettering

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

__all__ = ["axes_or_new", "figure_grid", "lettered"]


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise MissingExtra(
            "Figures need matplotlib; install it with: pip install 'sdkit-notebooks[lab]'"
        ) from error
    return plt


def lettered(text: Text) -> Text:
    """Give words from a prompt a font that shows them, or spell them: matplotlib would draw boxes."""
    words = text.get_text()
    letters = lettering([words], 12)
    text.set_text(letters.spell(words))
    if letters.path is not None:
        font = text.get_fontproperties().copy()
        font.set_file(letters.path)
        text.set_fontproperties(font)
    return text


def axes_or_new(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """The axes that were given, or those of a new figure of `size` inches."""
    if ax is not None:
        return ax
    made: Axes = _pyplot().subplots(figsize=size, layout="constrained")[1]
    return made


def figure_grid(count: int, *, width: float, columns: int = 8, title: str = "") -> Any:
    """`count` axes in rows of at most `columns`, each `width` inches wide; an array `(count,)`."""
    columns = min(count, columns)
    rows = -(-count // columns)
    figure, axes = _pyplot().subplots(
        rows,
        columns,
        figsize=(width * columns, width * rows + 0.5),
        layout="constrained",
        squeeze=False,
    )
    lettered(figure.suptitle(title, fontsize=10))
    for ax in axes.flat[count:]:
        ax.remove()
    return axes.flat[:count]
