"""The table as a figure: a panel for each score, a point with its interval for each way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .scoring import CEILING, Score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["drawn"]

_INK, _FLOOR = "#1f5fa8", "#8a8a8a"


def drawn(scores: Mapping[str, Mapping[str, Score]], *, title: str = "") -> Figure:
    """Score → way → `Score` as a figure; floors and ceilings are grey, and their line goes through the panel."""
    from matplotlib.figure import Figure

    ways = list(dict.fromkeys(way for table in scores.values() for way in table))
    figure = Figure(figsize=(2.2 + 2.9 * len(scores), 1.2 + 0.28 * len(ways)), layout="constrained")
    axes = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
    for ax, (name, table) in zip(axes, scores.items(), strict=True):
        for row, way in enumerate(ways):
            if way not in table:
                continue
            s, bound = table[way], way in ("random", CEILING)
            colour = _FLOOR if bound else _INK
            ax.plot([s.low, s.high], [row, row], color=colour, linewidth=2, alpha=0.5)
            ax.plot(s.mean, row, "o", color=colour, markersize=5)
            if bound:
                ax.axvline(s.mean, color=colour, linewidth=0.8, linestyle=":")
        ax.set_title(name, fontsize=9)
        ax.set_xlim(left=0)
        ax.grid(axis="x", alpha=0.25)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right", "left"]].set_visible(False)
    axes[0].set_yticks(range(len(ways)), ways)
    axes[0].invert_yaxis()
    figure.suptitle(title, fontsize=10)
    return figure
