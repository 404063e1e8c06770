"""Pictures of a run from inside: what each step saw and aimed at, what guidance did, how the noise falls, how runs fork."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from sdkit.errors import InvalidSettings
from sdkit.pipelines.previews import decode, preview
from sdkit.traces.trace import Trace

from .axes import axes_or_new, lettered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["denoising_strip", "fork_tree", "guidance_split", "latent_channels", "schedule"]

_GAP: Final = 0.06  # of a thumbnail's side, between thumbnails
_BRANCH: Final[dict[str, Any]] = {"color": "0.6", "linewidth": 1.5, "zorder": 1}
_CURVES: Final = {
    "alpha_bar": "signal's share of the variance, ᾱ",
    "beta": "noise added by one training step, β",
    "snr": "signal-to-noise ratio, ᾱ/(1-ᾱ)",
    "sigma": "noise per signal, σ",
}


def denoising_strip(
    pipe: Any, trace: Trace, *, columns: int = 8, exact: bool = False, ax: Axes | None = None
) -> Axes:
    """Draw the run as two rows: the noisy latents, and the clean picture each step aimed at.

    Parameters
    ----------
    pipe
        The pipeline that made the trace; it turns latents into pictures.
    trace
        With `latents` and `x0`.
    columns
        How many steps to show, 2 or more, evenly spread from the first to the last.
    exact
        Decode with the autoencoder instead of the fast linear preview.
    ax
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib.axes.Axes
        Step numbers are on the x axis.

    Examples
    --------
    >>> trace = sdkit.generate(pipe, "a fox in the snow", steps=8, trace=True).trace
    >>> ax = sdkit.plots.denoising_strip(pipe, trace, columns=4)
    >>> ax.figure.savefig("strip.png")
    """
    at = _spread(trace, columns)
    picture = decode if exact else preview
    rows = {
        "what the network sees": [picture(pipe, trace.scaled()[i]) for i in at],
        "what it aims at (x0)": [picture(pipe, _kept(trace, "x0")[i]) for i in at],
    }
    return _thumbnails(rows, _labels(trace, at), ax)


def guidance_split(
    pipe: Any, trace: Trace, *, columns: int = 8, exact: bool = False, ax: Axes | None = None
) -> Axes:
    """Draw what the words do: the picture aimed at without them, with them, under guidance, and where they pull.

    Parameters
    ----------
    pipe, columns, exact, ax
        As for `denoising_strip`.
    trace
        Of a guided run, with everything kept.

    Returns
    -------
    matplotlib.axes.Axes
        Four rows; the last is the size of ``x0(conditional) - x0(unconditional)`` over the channels, on one scale for
        all steps (dark: none).

    Examples
    --------
    >>> trace = sdkit.generate(pipe, "a fox in the snow", steps=8, trace=True).trace
    >>> ax = sdkit.plots.guidance_split(pipe, trace, columns=4)
    >>> ax.figure.savefig("split.png")
    """
    at = _spread(trace, columns)
    picture = decode if exact else preview
    split = {name: trace.x0_of(name) for name in ("unconditional", "conditional")}
    pull = np.linalg.norm(split["conditional"] - split["unconditional"], axis=1)[
        at
    ]  # (columns, h, w)
    rows = {f"x0 {name}": [picture(pipe, x0[i]) for i in at] for name, x0 in split.items()}
    rows["x0 guided"] = [picture(pipe, _kept(trace, "x0")[i]) for i in at]
    rows["where the words pull"] = [
        _heat(p / (pull.max() or 1), rows["x0 guided"][0].size) for p in pull
    ]
    return _thumbnails(rows, _labels(trace, at), ax)


def schedule(
    scheduler: Any,
    *,
    show: str = "alpha_bar",
    steps: int | None = 20,
    label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a scheduler's noise over the model's time, and where its steps stand.

    Parameters
    ----------
    scheduler
        Any diffusers scheduler, or a pipeline, whose scheduler is meant. It is copied, not touched.
    show
        ``"alpha_bar"``, ``"beta"``, ``"snr"`` or ``"sigma"``.
    steps
        Mark the times that a run of that many steps visits; None draws the curve alone.
    label
        Name in the legend; None takes the class name.
    ax
        Where to draw; call again with the same axes to compare schedulers.

    Returns
    -------
    matplotlib.axes.Axes
        Noise is on the right: a run goes from right to left.

    Raises
    ------
    InvalidSettings
        For an unknown curve, or ``"beta"`` of a flow-matching scheduler, which has none.

    Examples
    --------
    >>> ax = sdkit.plots.schedule(pipe, label="Pocket")
    >>> ax = sdkit.plots.schedule(pipe.scheduler, steps=4, label="in four steps", ax=ax)
    >>> len(ax.get_lines()) >= 2
    True
    """
    scheduler = getattr(scheduler, "scheduler", scheduler)
    if show not in _CURVES:
        raise InvalidSettings(f"There is no curve {show!r}; choose one of {', '.join(_CURVES)}.")
    times, bar = _training(scheduler)
    if show == "beta" and not hasattr(scheduler, "betas"):
        raise InvalidSettings(
            f"{type(scheduler).__name__} has no beta: a flow mixes in straight lines; show 'sigma'."
        )
    ax = axes_or_new(ax, (7, 4))
    name = label or type(scheduler).__name__.removesuffix("Scheduler")
    [line] = ax.plot(times, _curve(show, scheduler, bar), label=name, linewidth=1.5)
    if steps:
        at, level = _visited(scheduler, steps)
        curve = (
            np.interp(at, times, scheduler.betas)
            if show == "beta"
            else _curve(show, scheduler, level)
        )
        ax.plot(at, curve, "o", color=line.get_color(), markersize=5, label=f"its {steps} steps")
    if show in {"snr", "sigma"}:
        ax.set_yscale("log")
    ax.set(xlabel="time of the model (right: pure noise)", ylabel=_CURVES[show])
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def latent_channels(latents: Any, *, step: int = -1, ax: Axes | None = None) -> Axes:
    """Draw the channels of latents side by side, on one scale around zero.

    Parameters
    ----------
    latents
        A `Trace`, or an array ``(C, h, w)``.
    step
        Of a trace: before which step, counted from 0; -1 is what the run left.
    ax
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib.axes.Axes
        Blue is below zero, red above; the colour bar gives the values.

    Examples
    --------
    >>> r = sdkit.generate(pipe, "a fox in the snow", steps=4)
    >>> ax = sdkit.plots.latent_channels(r.latents[0])
    >>> ax.figure.savefig("channels.png")
    """
    values = (
        latents.scaled()[step]
        if isinstance(latents, Trace)
        else np.asarray(latents, dtype=np.float32)
    )
    if values.ndim != 3:
        raise InvalidSettings(
            f"The latents have shape {values.shape}; give one picture's, (channels, height, width)."
        )
    count, height, width = values.shape
    columns = min(count, 8)
    rows = -(-count // columns)
    gap = max(1, round(width * _GAP))
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    for n, channel in enumerate(values):
        top, left = n // columns * (height + gap), n % columns * (width + gap)
        sheet[top : top + height, left : left + width] = channel
    ax = axes_or_new(ax, (1.9 * columns + 1, 1.9 * rows * height / width + 0.5))
    limit = float(np.abs(values).max()) or 1.0
    shown = ax.imshow(sheet, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    ax.figure.colorbar(shown, ax=ax, fraction=0.05, pad=0.02)
    ax.set_xticks([(width + gap) * n + (width - 1) / 2 for n in range(columns)], [f"channel {n}" for n in range(columns)] if rows == 1 else [""] * columns)  # fmt: skip
    _bare(ax)
    ax.set_yticks([])
    return ax


def fork_tree(
    pipe: Any, traces: Sequence[Trace], *, columns: int = 8, ax: Axes | None = None
) -> Axes:
    """Draw runs and what was continued from them as a tree: time runs to the right, every fork is a row.

    Parameters
    ----------
    pipe
        The pipeline that made the traces.
    traces
        What `sdkit.fork` made; the runs they come from are found through their parents.
    columns
        How many steps to show, 2 or more.
    ax
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib.axes.Axes
        Thumbnails are the x0 of the step; a branch is labelled with what was changed.

    Examples
    --------
    >>> trace = sdkit.generate(pipe, "a cat on a purple background", steps=6, trace=True).trace
    >>> forks = [sdkit.fork(pipe, trace, step, prompt="a dog on a purple background") for step in (1, 3)]
    >>> ax = sdkit.plots.fork_tree(pipe, [fork.trace for fork in forks])
    >>> ax.figure.savefig("tree.png")
    """
    rows = _in_order(traces)
    longest = max(len(t) for t in rows)
    at = np.unique(np.linspace(0, longest - 1, columns).round().astype(int)).tolist()
    ax = axes_or_new(ax, (1.15 * len(at) + 2, 1.15 * len(rows) + 0.5))
    for row, trace in enumerate(rows):
        shown = [x for x, i in enumerate(at) if (trace.forked_at or 0) <= i < len(trace)]
        reached = shown or [len(at) - 1]
        begin, end = reached[0], reached[-1]
        if trace.parent is not None:
            above = next(n for n, t in enumerate(rows) if t is trace.parent)
            ax.plot([begin - 0.5] * 2 + [begin], [above, row, row], **_BRANCH)
        ax.plot([begin, end], [row, row], **_BRANCH)
        for x in shown:
            picture = np.asarray(preview(pipe, _kept(trace, "x0")[at[x]]))
            ax.imshow(picture, extent=(x - 0.44, x + 0.44, row + 0.44, row - 0.44), zorder=2)
        lettered(ax.text(end + 0.55, row, _told(trace), va="center"))
    ax.set(xlim=(-0.5, len(at) + 1.6), ylim=(len(rows) - 0.5, -0.5))
    ax.set_xticks(range(len(at)), [f"step {i + 1}" for i in at])
    _bare(ax)
    ax.set_yticks([])
    return ax


# -- thumbnails ----------------------------------------------------------------------------------------------------


def _thumbnails(rows: dict[str, list[Image.Image]], labels: list[str], ax: Axes | None) -> Axes:
    """Named rows of pictures as one image on one axes."""
    width, height = next(iter(rows.values()))[0].size
    gap = max(1, round(width * _GAP))
    columns = len(labels)
    sheet = np.full(
        (len(rows) * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=np.uint8
    )
    for y, pictures in enumerate(rows.values()):
        for x, picture in enumerate(pictures):
            top, left = y * (height + gap), x * (width + gap)
            sheet[top : top + height, left : left + width] = np.asarray(picture.convert("RGB"))
    ax = axes_or_new(ax, (1.25 * columns + 1.4, 1.25 * len(rows) * height / width + 0.5))
    ax.imshow(sheet, interpolation="nearest")
    ax.set_xticks([x * (width + gap) + (width - 1) / 2 for x in range(columns)], labels)
    ax.set_yticks(
        [y * (height + gap) + (height - 1) / 2 for y in range(len(rows))],
        [_wrapped(name) for name in rows],
    )
    _bare(ax)
    return ax


def _bare(ax: Axes) -> None:
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


def _wrapped(name: str) -> str:
    """Break a row's name in the middle, so that it takes little room beside the pictures."""
    words = name.split()
    middle = (len(words) + 1) // 2
    return (
        "\n".join([" ".join(words[:middle]), " ".join(words[middle:])]) if len(words) > 1 else name
    )


def _heat(values: NDArray[Any], size: tuple[int, int]) -> Image.Image:
    from matplotlib import colormaps

    colours = np.uint8(colormaps["inferno"](np.asarray(values, dtype=float))[..., :3] * 255)
    return Image.fromarray(colours).resize(size, Image.Resampling.NEAREST)


def _spread(trace: Trace, columns: int) -> list[int]:
    if columns < 2:
        raise InvalidSettings(f"columns is {columns}; show 2 steps or more.")
    return np.unique(np.linspace(0, len(trace) - 1, columns).round().astype(int)).tolist()


def _labels(trace: Trace, at: list[int]) -> list[str]:
    return [f"step {i + 1}\nt = {trace.timesteps[i]:g}" for i in at]


def _kept(trace: Trace, name: str) -> NDArray[np.float16]:
    array: NDArray[np.float16] | None = getattr(trace, name)
    if array is None:
        raise InvalidSettings(f"This trace has no {name!r}; make it again with trace=True.")
    return array


# -- schedules -----------------------------------------------------------------------------------------------------


def _training(scheduler: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Times that the model was trained at, and ᾱ = signal's share of the variance there."""
    if hasattr(scheduler, "alphas_cumprod"):
        bar = scheduler.alphas_cumprod.double().cpu().numpy()
        return np.arange(len(bar)), bar
    count = scheduler.config.num_train_timesteps  # flow matching: σ falls linearly from 1 to 0
    sigma = np.arange(1, count + 1) / count
    return np.arange(1, count + 1), (1 - sigma) ** 2 / ((1 - sigma) ** 2 + sigma**2)


def _visited(scheduler: Any, steps: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Times and ᾱ of the steps of a run."""
    from sdkit.traces.predictions import level

    copy = type(scheduler).from_config(scheduler.config)
    copy.set_timesteps(steps)
    times, bars = [], []
    for n, t in enumerate(copy.timesteps):
        if hasattr(copy, "sigmas"):
            copy.set_begin_index(n)
        alpha, sigma = level(copy, t)
        times.append(float(t))
        bars.append(alpha**2 / (alpha**2 + sigma**2))
    return np.array(times), np.array(bars)


def _curve(show: str, scheduler: Any, bar: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(divide="ignore"):
        if show == "beta":
            return np.asarray(scheduler.betas)
        return {"alpha_bar": bar, "snr": bar / (1 - bar), "sigma": np.sqrt((1 - bar) / bar)}[show]


# -- trees ---------------------------------------------------------------------------------------------------------


def _in_order(traces: Sequence[Trace]) -> list[Trace]:
    """Every trace and its ancestors, each below its parent, early forks last so that no line crosses a row."""
    if not traces:
        raise InvalidSettings("There are no traces to draw; give what sdkit.fork made.")
    every: dict[int, Trace] = {id(t): t for trace in traces for t in trace.lineage}

    def below(parent: Trace | None) -> list[Trace]:
        children = sorted(
            (t for t in every.values() if t.parent is parent), key=lambda t: -(t.forked_at or 0)
        )
        return [t for child in children for t in (child, *below(child))]

    return below(None)


def _told(trace: Trace) -> str:
    """What a branch changed, or the prompt of a first run."""
    from textwrap import fill

    if trace.settings is None:
        return ""
    mine = trace.settings.to_dict()
    theirs = trace.parent.settings.to_dict() if trace.parent and trace.parent.settings else {}
    new = [
        str(v) if k == "prompt" else f"{k.replace('_', ' ')} {v}"
        for k, v in mine.items()
        if theirs and theirs[k] != v
    ]
    return fill(", ".join(new) or trace.settings.prompt, 26)
