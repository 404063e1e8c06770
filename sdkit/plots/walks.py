"""Where a walk went: how far its frames are apart, and its trajectory in two dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sdkit.errors import InvalidSettings
from sdkit.walks.walk import Walk

from .axes import axes_or_new, lettered

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["latent_pca", "walk_distances"]


def walk_distances(walks: Walk | Mapping[str, Walk], ax: Axes | None = None) -> Axes:
    """How different each frame of a walk looks from the next: a level line is even motion.

    Parameters
    ----------
    walks
        One walk, or several by name, to be compared; the legend tells the `smoothness` of each.
    ax
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib.axes.Axes
        Frames to the right, differences as `sdkit.walks.difference` measures them upwards.

    Examples
    --------
    >>> words = ["a cat in the snow", "a fox at night"]
    >>> walks = {p: sdkit.interpolate(pipe, words, frames=5, steps=4, pacing=p) for p in ("even", "linear")}
    >>> ax = sdkit.plots.walk_distances(walks)
    >>> ax.figure.savefig("distances.png")
    """
    ax = axes_or_new(ax, (7, 3))
    for name, walk in _named(walks).items():
        apart = walk.distances
        share = (np.arange(len(apart)) + 0.5) / len(apart)
        label = f"{name}: variation {walk.smoothness:.2f}".removeprefix(": ")
        line = ax.plot(share, apart, marker="o", markersize=3.5, linewidth=1.5, label=label)[0]
        ax.axhline(float(apart.mean()), color=line.get_color(), linewidth=0.8, linestyle=":")
    ax.set(xlabel="share of the way", ylabel="difference of neighbours", xlim=(0, 1))
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def latent_pca(walks: Walk | Mapping[str, Walk | NDArray[Any]], ax: Axes | None = None) -> Axes:
    """Trajectories in the two directions in which they vary most (principal components).

    Parameters
    ----------
    walks
        One walk, or several by name: their final latents. Arrays ``(N, ...)`` by name are drawn too, such as the text
        encodings on a path.
    ax
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib.axes.Axes
        One line a walk, a dot a frame, a ring around each keyframe; the axes tell their share of the variance.

    Raises
    ------
    InvalidSettings
        If the points do not all have the same number of values.

    Examples
    --------
    >>> walk = sdkit.interpolate(pipe, ["a cat", "a fox", "a house"], frames=7, steps=4)
    >>> ax = sdkit.plots.latent_pca(walk)
    >>> ax.figure.savefig("pca.png")
    """
    named = _named(walks)
    points = {name: _rows(w) for name, w in named.items()}
    if len({rows.shape[1] for rows in points.values()}) > 1:
        raise InvalidSettings(
            "The walks have latents of different sizes; draw those of one model and one picture size."
        )
    flat = np.concatenate(list(points.values()))
    centre = flat.mean(0)
    _, spread, directions = np.linalg.svd(flat - centre, full_matrices=False)
    shares = np.square(spread) / max(np.square(spread).sum(), 1e-12)
    ax = axes_or_new(ax, (6, 4.2))
    for name, rows in points.items():
        x, y = ((rows - centre) @ directions[:2].T).T
        line = ax.plot(x, y, marker="o", markersize=3.5, linewidth=1.2, label=name)[0]
        _mark_keyframes(ax, named[name], x, y, line.get_color())
    ax.set(
        xlabel=f"component 1 ({shares[0]:.0%} of variance)", ylabel=f"component 2 ({shares[1]:.0%})"
    )
    ax.set_aspect("equal", adjustable="datalim")
    ax.margins(0.12)
    if len(points) > 1:
        ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _mark_keyframes(
    ax: Axes, walk: Walk | NDArray[Any], x: NDArray[Any], y: NDArray[Any], color: Any
) -> None:
    """A ring around each keyframe and its words beside it, once for all walks that share it."""
    if not isinstance(walk, Walk) or walk.plan.shape:
        return
    at = [n for n, (position,) in enumerate(walk.places) if position == int(position)]
    ax.scatter(x[at], y[at], s=90, facecolors="none", edgecolors=color)
    told = {text.get_text() for text in ax.texts}
    for n in at:
        prompt = walk.keyframes[int(walk.places[n][0]) % len(walk.keyframes)].prompt
        label = (prompt if len(prompt) <= 24 else prompt[:23] + "…").replace("$", r"\$")
        if label not in told:
            side = (
                1 if x[n] < x.mean() else -1
            )  # towards the middle, where there is room, but off the line
            lettered(ax.annotate(
                label, (x[n], y[n]), (8 * side, 6 if y[n] > y.mean() else -14), textcoords="offset points", fontsize=8,
                ha="left" if side > 0 else "right",
            ))  # fmt: skip
            told.add(label)


def _named(walks: Any) -> dict[str, Any]:
    return dict(walks) if isinstance(walks, Mapping) else {"": walks}


def _rows(walk: Walk | NDArray[Any]) -> NDArray[np.float64]:
    values = np.asarray(walk.latents if isinstance(walk, Walk) else walk, dtype=np.float64)
    return values.reshape(len(values), -1)
