"""Where on its path each frame of a walk lies, and in which order frames are made.

The one decision: **a position is a number**, 0 at the first keyframe, 1 at the second, 1.5 half-way to the third.
Pacing only chooses positions; it knows nothing of pictures but the distances between neighbours.

Coarse to fine: the ends come first, then the middle, the quarters … so a walk can be looked through from end to end
when a handful of its frames are there, and stopped at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sdkit.errors import InvalidSettings, MissingExtra
from sdkit.pictures.files import path_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["EASINGS", "coarse_to_fine", "eased", "evenly", "pace_from_audio", "paced", "split"]

Easing = Callable[[float], float]
EASINGS: Final[Mapping[str, Easing]] = MappingProxyType(
    {
        "linear": lambda t: t,
        "ease-in": lambda t: t * t,
        "ease-out": lambda t: t * (2 - t),
        "ease": lambda t: t * t * (3 - 2 * t),  # smoothstep: at rest at both ends
    }
)
"""Share of the way from one keyframe to the next, by share of the time."""

DIGITS: Final = 8  # of a position: it becomes a file's name
_LARGE: Final = (
    0.5  # of the largest gap: smaller ones wait, as new frames may show that others need it more
)
_NARROWEST: Final = 1e-5  # a gap in which no further frame is put: the picture jumps there, and more frames cannot help
_LOUDNESS_FLOOR: Final = 0.1  # silence still creeps: a picture that stands still looks like a fault


def split(frames: int, segments: int, *, loop: bool) -> list[int]:
    """Steps of each segment, as equal as possible: they add up to ``frames - 1``, or to ``frames`` for a loop."""
    steps = frames if loop else frames - 1
    edges = [round(steps * n / segments) for n in range(segments + 1)]
    return [b - a for a, b in pairwise(edges)]


def eased(counts: Sequence[int], easing: Easing, *, loop: bool) -> list[float]:
    """Positions of frames that take ``counts[n]`` steps through segment n, each segment eased alone.

    Every keyframe is met exactly, and once. A loop ends one step before its beginning.
    """
    places = [n + easing(i / count) for n, count in enumerate(counts) for i in range(count)]
    return places if loop else [*places, float(len(counts))]


def paced(
    pace: NDArray[np.floating[Any]], frames: int, segments: int, *, loop: bool
) -> list[float]:
    """Positions of frames whose steps are proportional to a pace.

    Parameters
    ----------
    pace
        Speed over time, ``(P,)``, not negative, not all zero. Any length: it is stretched over the walk.
    frames, segments, loop
        As for `split`. Keyframes inside the walk need not be met.
    """
    steps = frames if loop else frames - 1
    way = np.concatenate([[0.0], np.cumsum(pace)])
    places = (
        np.interp(np.linspace(0, len(pace), steps + 1), np.arange(len(pace) + 1), way)
        * segments
        / way[-1]
    )
    return [float(p) for p in (places[:-1] if loop else places)]


def coarse_to_fine(count: int) -> list[int]:
    """Indices of ``count`` frames in the order ends, middle, quarters, eighths …"""
    order, gaps = [0, count - 1][:count], [(0, count - 1)]
    while gaps:
        middles = [(a, (a + b) // 2, b) for a, b in gaps if b - a > 1]
        order += [m for _, m, _ in middles]
        gaps = [gap for a, m, b in middles for gap in ((a, m), (m, b))]
    return order


def evenly(
    edges: Sequence[float], distances: Sequence[float], frames: int, most: int
) -> list[float]:
    """Next positions of an evenly paced walk: the largest gaps are divided first.

    The frames left are shared out so that the largest distance that will remain between neighbours is smallest. A gap
    that gets n of them is divided at ``⌊(n + 1) / 2⌋ / (n + 1)`` of its distance (half for odd n), where a monotone cubic
    (Fritsch & Carlson 1980) through what is known says that this point lies. What the new frames show corrects both.

    Parameters
    ----------
    edges
        Positions of the G + 1 frames there are, in order.
    distances
        How different neighbours look, G numbers.
    frames
        How many frames are still to come in all.
    most
        How many to choose now; each gap gets one at most, and none that is less than half the largest.
    """
    from scipy.interpolate import PchipInterpolator

    widths = np.diff(edges)
    # where nothing moves, time itself is divided evenly
    sizes = np.asarray(distances, float) + 1e-6 * widths * (np.max(distances, initial=0) or 1)
    way = np.concatenate([[0.0], np.cumsum(sizes)])
    place = PchipInterpolator(way, edges)
    open_ = np.where(widths < _NARROWEST, 0, sizes)
    shares = np.zeros(len(sizes), int)
    for _ in range(frames if open_.any() else 0):
        shares[np.argmax(open_ / (shares + 1))] += 1
    chosen = [
        int(g)
        for g in np.argsort(-open_, kind="stable")
        if shares[g] and open_[g] >= _LARGE * open_.max()
    ][:most]
    cuts = [
        float(place(way[g] + sizes[g] * ((shares[g] + 1) // 2) / (shares[g] + 1))) for g in chosen
    ]
    margin = 0.05 * widths[chosen]  # a steep cubic would put frames on top of each other
    return [
        round(min(max(cut, edges[g] + m), edges[g + 1] - m), DIGITS)
        for g, cut, m in zip(chosen, cuts, margin, strict=True)
    ]


def checked_pace(pace: ArrayLike) -> NDArray[np.floating[Any]]:
    """Return a pace as an array, or say in one sentence why it is none."""
    try:
        speeds = np.asarray(pace, dtype=float)
    except (TypeError, ValueError):
        raise InvalidSettings(
            f"pacing is a {type(pace).__name__} that holds more than numbers; give 'even', one of "
            f"{', '.join(EASINGS)}, a function of 0..1, or a list of speeds."
        ) from None
    if speeds.ndim != 1 or not speeds.size:
        raise InvalidSettings(
            f"pacing has the shape {speeds.shape}; give one speed for each moment, as a flat list."
        )
    if not np.isfinite(speeds).all() or (speeds < 0).any() or not speeds.any():
        bad = (
            "all zero"
            if not speeds.any()
            else next(v for v in speeds if not np.isfinite(v) or v < 0)
        )
        raise InvalidSettings(
            f"pacing holds {bad}; every speed must be a number of 0 or more, and one above 0."
        )
    return speeds


def pace_from_audio(path: str | Path, *, fps: float = 24) -> NDArray[np.floating[Any]]:
    """Pace of a walk from a piece of music: loud moments move fast.

    Parameters
    ----------
    path
        A sound file that libsndfile reads (WAV, FLAC, OGG, MP3). Needs the extra ``audio``.
    fps
        Frames per second of the film to come.

    Returns
    -------
    numpy.ndarray
        Root mean square of the samples in each 1/fps seconds, ``(P,)``, scaled to a largest value of 1; silence
        counts as 0.1. Use it as ``interpolate(..., pacing=pace, frames=len(pace) + 1)`` and save with the same `fps`.

    Raises
    ------
    MissingExtra
        If ``soundfile`` is not installed.
    InvalidSettings
        If the file cannot be read or holds no sound, or `fps` is not a positive number.
    """
    try:
        import soundfile
    except ImportError:
        raise MissingExtra(
            "Reading sound needs soundfile; install it with: pip install 'sdkit-notebooks[audio]'"
        ) from None
    if not 0 < fps < float("inf"):
        raise InvalidSettings(f"fps is {fps}; give the frames per second of the film, such as 24.")
    path = path_of(path)
    if not path.is_file():
        raise InvalidSettings(
            f"There is no sound file '{path}'; check the folder and the spelling."
        )
    energies: list[float] = []
    try:
        with soundfile.SoundFile(path) as track:
            edges = (
                np.arange(0, track.frames / track.samplerate * fps).astype(float)
                * track.samplerate
                / fps
            )
            for begin, end in zip(
                edges.round().astype(int),
                [*edges[1:].round().astype(int), track.frames],
                strict=True,
            ):
                samples = track.read(end - begin, dtype="float32")
                energies.append(
                    float(np.sqrt(np.mean(np.square(samples)))) if len(samples) else 0.0
                )
    except (soundfile.SoundFileError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise InvalidSettings(
            f"'{path}' cannot be read as sound ({reason}); use a WAV, FLAC, OGG or MP3 file."
        ) from None
    loudest = max(energies, default=0.0)
    if not np.isfinite(loudest) or loudest <= 0:
        raise InvalidSettings(f"'{path}' holds no sound to take a pace from; choose another track.")
    return np.maximum(np.array(energies) / loudest, _LOUDNESS_FLOOR)
