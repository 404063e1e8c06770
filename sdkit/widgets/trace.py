"""`TraceExplorer`: a run, step by step; mix its guidance anew; continue from a step with other words.

The one decision: guidance is linear, and so is the fast preview of latents. So two small arrays a step (what the run aimed
at without the words, and what the words add) let the browser show **any guidance at any step** without a kernel:
``x0(g) = x0_without + g · (x0_with - x0_without)``. Only a fork, which makes a new picture, asks the worker.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import traitlets
from PIL import Image

from sdkit.errors import InvalidSettings
from sdkit.pictures.card import caption, compressed

from .explorer import module
from .portable import Portable
from .studio import DECODED, MEMORY, Asked, Studio, shown, thumbnail

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sdkit.result import Result
    from sdkit.settings import Settings

    from .jobs import Job

__all__ = ["TraceExplorer"]

_BUDGET: Final = 140_000  # bytes of colours of all steps
_FINEST: Final = 64
_STRIP: Final = 24  # runs in the strip


@dataclass(frozen=True)
class _Fork(Asked):
    """Where a run is continued, and what changes there."""

    run: int = 0
    step: int = 1
    changes: tuple[tuple[str, Any], ...] = ()


@dataclass
class _Run:
    """One run in the panel: the original or a fork."""

    number: int
    result: Any
    told: dict[str, Any]


class TraceExplorer(Studio, Portable):
    """What happened inside a run: the noisy latents, what the network aimed at, and what guidance made of it.

    Parameters
    ----------
    pipe
        The pipeline that made the result; its autoencoder turns latents into pictures.
    result
        A `Result` made with ``trace=True``.
    memory
        Bytes of forks that are remembered.

    Attributes
    ----------
    result
        The run on show, as a `Result`; forks appear here when they are finished.

    Raises
    ------
    InvalidSettings
        If the result holds no trace, or one without latents and x0.

    Examples
    --------
    >>> from sdkit.widgets import TraceExplorer
    >>> r = sdkit.generate(pipe, "a fox in the snow", steps=4, trace=True)
    >>> TraceExplorer(pipe, r)
    <TraceExplorer: 4 steps, 1 runs>
    >>> path = TraceExplorer(pipe, r).to_html("run.html")  # works without a kernel
    """

    _esm = module("trace.js")
    runs = traitlets.List().tag(sync=True)
    live = traitlets.Bool(default_value=True).tag(sync=True)

    def __init__(self, pipe: Any, result: Result, *, memory: int = MEMORY) -> None:
        trace = getattr(result, "trace", None)
        if trace is None or trace.latents is None or trace.x0 is None:
            raise InvalidSettings(
                "This result holds no trace: make it again with generate(..., trace=True)."
            )
        self.result: Any = result  # with a trace, checked above
        self._numbers = count(1)
        self._runs: list[_Run] = []
        super().__init__(pipe, memory)
        self._add(result, fork=None)

    def still(self) -> tuple[Image.Image, Settings] | None:
        """Return the picture of the run on show, and its settings."""
        return self.result.image, self.result.settings

    def __repr__(self) -> str:
        """Name the panel and its run."""
        return f"<TraceExplorer: {self.view['steps']} steps, {len(self._runs)} runs>"

    # -- messages --------------------------------------------------------------------------------------------------

    def _do_open(self, number: int) -> None:
        if run := next((run for run in self._runs if run.number == number), None):
            self.result, self.view = run.result, run.told

    def _do_fork(self, step: int, changes: dict[str, Any]) -> None:
        settings = self.result.settings
        known = {
            name: changes[name] for name in ("prompt", "seed", "guidance_scale") if name in changes
        }
        known = {name: value for name, value in known.items() if value != getattr(settings, name)}
        settings.replace(**known)  # what cannot be set is told before anything runs
        number = next(run.number for run in self._runs if run.result is self.result)
        self.worker.submit(
            _Fork(
                (settings,), self.condition(), run=number, step=step, changes=tuple(known.items())
            )
        )

    # -- in the worker's thread ------------------------------------------------------------------------------------

    def _make(self, asked: Asked, job: Job) -> Any:
        from sdkit.experiments.forking import fork

        assert isinstance(asked, _Fork)  # noqa: S101 - this panel asks for nothing else
        trace = next(run.result.trace for run in self._runs if run.number == asked.run)
        return fork(self.pipe, trace, asked.step, progress=False, **dict(asked.changes))

    def _show(self, asked: Asked, result: Any) -> None:
        known = next((run for run in self._runs if run.result is result), None)
        if known is None:
            assert isinstance(asked, _Fork)  # noqa: S101
            self._add(result, fork=asked)
        else:
            self.result, self.view = known.result, known.told

    def _add(self, result: Result, fork: _Fork | None) -> None:
        number = next(self._numbers)
        run = _Run(number, result, {**self._told(result), "number": number})
        self._runs = [*self._runs[:1], *self._runs[1:][-_STRIP:], run]
        self.result, self.view = result, run.told
        changed = (
            ", ".join(f"{name}={value!r}" for name, value in fork.changes) if fork else "the run"
        )
        line = {
            "number": number,
            "picture": thumbnail(result.image),
            "caption": f"from step {fork.step}: {changed or 'unchanged'}" if fork else changed,
            "prompt": result.settings.prompt,
        }
        self.runs = [*[r for r in self.runs if r["number"] in {x.number for x in self._runs}], line]

    def _told(self, result: Result) -> dict[str, Any]:
        """Everything that the browser needs to show a run at every step."""
        trace: Any = result.trace
        scaled = trace.scaled()
        exact = result.image.width * result.image.height <= DECODED
        return {
            "steps": len(trace),
            "noisy": [self._picture(x, exact=exact) for x in scaled[:-1]],
            "clean": [self._picture(x, exact=exact) for x in trace.x0],
            "signal": [round(float(x), 4) for x in trace.alpha_bar],
            "final": shown(result.image),
            "width": result.image.width,
            "height": result.image.height,
            "prompt": result.settings.prompt,
            "seed": result.settings.seed,
            "guidance": result.settings.guidance_scale,
            "caption": caption([result.settings]),
            "colours": self._colours(trace),
        }

    def _picture(self, latents: NDArray[Any], *, exact: bool) -> bytes:
        from sdkit.pipelines.previews import decode

        return compressed(decode(self.pipe, latents.astype(np.float32), exact=exact), 80, 2)[1]

    def _colours(self, trace: Any) -> dict[str, Any]:
        """Two arrays of signed bytes ``(steps, h, w, 3)``: at guidance 0, and what each 1 more adds, each with its scale."""
        from sdkit.pipelines.previews import rgb_of

        if trace.rescales:  # what guidance makes is no straight line there
            return {}
        try:
            halves = [trace.remix(guidance).x0.astype(np.float32) for guidance in (0.0, 1.0)]
        except InvalidSettings:  # a run without guidance has nothing to mix
            return {}
        without, within = (np.stack([rgb_of(self.pipe, x) for x in half]) for half in halves)
        side = next(
            (
                s
                for s in range(_FINEST, 8, -2)
                if 6 * len(without) * _grid(without, s)[0] * _grid(without, s)[1] <= _BUDGET
            ),
            8,
        )
        parts = {"without": without, "words": within - without}
        packed = {name: _packed(_reduced(values, side)) for name, values in parts.items()}
        return {**packed, "rows": _grid(without, side)[0], "columns": _grid(without, side)[1]}


def _grid(values: NDArray[np.floating[Any]], side: int) -> tuple[int, int]:
    rows, columns = values.shape[1:3]
    scale = min(1.0, side / max(rows, columns))
    return max(1, round(rows * scale)), max(1, round(columns * scale))


def _reduced(values: NDArray[np.floating[Any]], side: int) -> NDArray[np.float32]:
    """Average pictures ``(steps, h, w, 3)`` down to at most `side` pixels a side."""
    rows, columns = _grid(values, side)
    if (rows, columns) == values.shape[1:3]:
        return values.astype(np.float32)
    planes = (
        values.astype(np.float32).transpose(0, 3, 1, 2).reshape(-1, *values.shape[1:3])
    )  # (steps·3, h, w)
    small = [
        np.asarray(Image.fromarray(p).resize((columns, rows), Image.Resampling.BOX)) for p in planes
    ]
    return np.stack(small).reshape(len(values), 3, rows, columns).transpose(0, 2, 3, 1)


def _packed(values: NDArray[np.float32]) -> dict[str, Any]:
    top = float(np.abs(values).max()) or 1.0
    return {"bytes": np.round(values / top * 127).astype(np.int8).tobytes(), "top": top / 127}
