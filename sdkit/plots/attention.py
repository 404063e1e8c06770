"""What attention saw: a word over the picture, words over the steps, and the heads of a layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from sdkit.errors import InvalidSettings

from .axes import axes_or_new, figure_grid, lettered

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL import Image

    from sdkit.attention.maps import AttentionMaps

__all__ = ["attention_heads", "attention_overlay", "attention_timeline"]

_HEAT = "inferno"


def attention_overlay(
    maps: AttentionMaps,
    word: str,
    *,
    image: Image.Image | None = None,
    alpha: float = 0.6,
    ax: Axes | None = None,
) -> Axes:
    """A word's attention over the picture, with a scale.

    Parameters
    ----------
    maps
        As captured.
    word
        One word, or several that follow each other.
    image
        The picture; None takes the one that belongs to the maps.
    alpha
        Opacity of the map, 0 to 1.
    ax
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib.axes.Axes
        With picture, map and colour bar.

    Examples
    --------
    >>> maps = sdkit.generate(pipe, "a red car on a beach", steps=4, attention=True).attention
    >>> ax = sdkit.plots.attention_overlay(maps, "car")
    >>> ax.figure.savefig("car.png")
    """
    ax = axes_or_new(ax, (4.6, 4))
    picture, heat = image or maps.image, maps[word]
    if picture is not None:
        ax.imshow(
            picture.convert("L"),
            cmap="gray",
            vmin=0,
            vmax=255,
            extent=(0, heat.shape[1], heat.shape[0], 0),
        )
    drawn = ax.imshow(
        heat,
        cmap=_HEAT,
        alpha=alpha if picture is not None else 1,
        vmin=0,
        extent=(0, heat.shape[1], heat.shape[0], 0),
    )
    ax.set_axis_off()
    lettered(ax.set_title(word))
    ax.figure.colorbar(drawn, ax=ax, label="share of attention", fraction=0.046, pad=0.04)
    return ax


def attention_timeline(
    maps: AttentionMaps, words: Iterable[str] | None = None, *, ax: Axes | None = None
) -> Axes:
    """How much attention each word got at every step: words down, steps along.

    Parameters
    ----------
    maps
        Captured with ``steps=True``.
    words
        Which words; None takes all content words.
    ax
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib.axes.Axes
        Each row shows a word's mean share over the picture, in percent.

    Examples
    --------
    >>> maps = sdkit.generate(pipe, "a red car on a beach", steps=4, attention={"steps": True}).attention
    >>> ax = sdkit.plots.attention_timeline(maps, ["red", "car"])
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['red', 'car']
    """
    chosen = list(words) if words is not None else maps.content_words
    if not chosen:
        raise InvalidSettings("There is no word to draw; name some with words=[…].")
    table = 100 * np.stack([maps.by_step(word).mean((1, 2)) for word in chosen])
    ax = axes_or_new(ax, (7, 0.45 * len(chosen) + 1.4))
    drawn = ax.imshow(table, aspect="auto", cmap=_HEAT, vmin=0, interpolation="nearest")
    ax.set_yticks(range(len(chosen)), chosen)
    ax.set_xlabel("step (noise → picture)")
    ax.locator_params(axis="x", integer=True)
    ax.figure.colorbar(drawn, ax=ax, label="% of attention", pad=0.02)
    return ax


def attention_heads(
    maps: AttentionMaps, word: str, *, layer: str | None = None, axes: Any = None
) -> Any:
    """What each head of one layer saw of a word.

    Parameters
    ----------
    maps
        Captured with ``heads=True``.
    word
        One word, or several that follow each other.
    layer
        A layer's name or the part of one; None takes the finest layer of the decoder.
    axes
        As many Axes as there are heads; None makes a figure.

    Returns
    -------
    numpy.ndarray of matplotlib.axes.Axes
        One for each head, all with the same scale.

    Examples
    --------
    >>> maps = sdkit.generate(pipe, "a red car on a beach", steps=4, attention={"heads": True}).attention
    >>> axes = sdkit.plots.attention_heads(maps, "car")
    >>> len(axes) > 1
    True
    """
    heads = (maps.at(layer=layer) if layer else maps).by_head(word)
    ups = [n for n in heads if n.startswith("up")] or list(heads)
    name = max(ups, key=lambda n: heads[n][0].size)
    shown = heads[name]
    axes = np.asarray(
        axes
        if axes is not None
        else figure_grid(len(shown), width=1.7, title=f"{word!r} in {name}")
    )
    if axes.size != len(shown):
        raise InvalidSettings(
            f"{name} has {len(shown)} heads and {axes.size} axes were given; give one for each."
        )
    for number, (ax, heat) in enumerate(zip(axes.flat, shown, strict=True)):
        ax.imshow(heat, cmap=_HEAT, vmin=0, vmax=float(shown.max()))
        ax.set_title(f"head {number}", fontsize=9)
        ax.set_axis_off()
    return axes
