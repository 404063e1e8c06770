"""A thread that makes what was asked for last, and a memory for what it made.

The one decision: **the latest request wins.** A slider asks faster than a model answers, so at most one request waits,
and a newer one takes its place. What is running goes on while requests still stream in, so that something is seen
during a long drag; as soon as they settle it is stopped at its next step. A thread lives only while there is work:
nothing to shut down, nothing left behind.

This module knows neither torch nor widgets, so that all of it is tested without a notebook.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final, Literal

from sdkit.errors import Cancelled

__all__ = ["Cache", "Event", "Job", "Worker"]

_SETTLE: Final = (
    0.25  # seconds without a request that end a drag, where nobody says that the hand let go
)
_PACE: Final = 1.2  # seconds between two starts during a drag: a picture on the way, yet no queue of half-made ones
# what is made faster than that follows the hand at its own speed


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to a request.

    Parameters
    ----------
    kind
        ``"start"``, ``"step"``, ``"done"``, ``"failed"`` or ``"stopped"``.
    request
        The request that it happened to.
    value
        What the work reported, the result, or the exception (without its traceback, which would keep models alive).
    """

    kind: Literal["start", "step", "done", "failed", "stopped"]
    request: Any
    value: Any = None


class Job:
    """One run of the work; the work receives it and asks it at every step whether to go on."""

    def __init__(self, worker: Worker, request: Hashable) -> None:
        self.request, self.stopped, self.lasting = request, False, True
        self._worker = worker

    def check(self) -> None:
        """Raise `Cancelled` if this run was stopped, or newer requests have settled."""
        if not self._worker._is_stale(self):
            return
        with self._worker._turn:
            if self._worker._is_stale(
                self
            ):  # still: what was asked in between may be this very run
                self.stopped = (
                    True  # before it unwinds: whoever asks for it from now on must get a new run
                )
                raise Cancelled("stopped for a newer request, or by hand")

    def forget(self) -> None:
        """Keep the result out of the memory: it is shown once, and made again when it is asked for again."""
        self.lasting = False

    def report(self, value: Any = None) -> None:
        """Tell the listener about a step; raise `Cancelled` as `check` does."""
        with self._worker._turn:
            self.check()
            self._worker._tell(Event("step", self.request, value))


class Worker:
    """Runs the latest request in a thread of its own.

    Parameters
    ----------
    work
        Called as ``work(request, job)`` in the thread; it returns the result, and calls `Job.check` or `Job.report`
        at every step. Requests are hashable, and equal ones mean the same result.
    listen
        Called with each `Event`, one at a time and in order, from the thread, or from `submit` for a remembered
        result. Never for a run that was stopped, but to say so.
    cache
        Where results are remembered; a remembered one is told at once, without a run.
    settle
        Seconds without a new request after which an outdated run is stopped.
    pace
        Seconds between two starts while requests stream in; less where the last run took less.

    Attributes
    ----------
    runs
        Number of runs started so far.
    error
        The exception of the last run that failed, or None after one that ended well.
    traceback
        Its traceback as text.
    """

    def __init__(
        self,
        work: Callable[[Any, Job], Any],
        listen: Callable[[Event], None],
        *,
        cache: Cache | None = None,
        settle: float = _SETTLE,
        pace: float = _PACE,
    ) -> None:
        self.runs = 0
        self.error: BaseException | None = None
        self.traceback = ""
        self._work, self._listen, self._cache = work, listen, cache
        self._settle, self._pace = settle, pace
        # re-entrant: a listener may submit or cancel
        self._turn = threading.Condition(threading.RLock())
        self._waiting: Job | None = None
        self._running: Job | None = None
        self._asked = self._began = float("-inf")
        self._took = float("inf")
        self._thread: threading.Thread | None = None
        self._alive = self._closed = False

    @property
    def busy(self) -> bool:
        """Whether anything runs or waits."""
        return self._alive

    def submit(self, request: Hashable, *, settled: bool = False) -> None:
        """Ask for a result; whatever was asked before is outdated. Does nothing after `close`.

        Parameters
        ----------
        request
            What to make.
        settled
            No other request will follow at once (the hand let go), so an outdated run is stopped without waiting.
        """
        with self._turn:
            if self._closed:
                return
            self._asked = float("-inf") if settled else time.monotonic()
            if self._cache is not None and (known := self._cache.get(request)) is not None:
                self._drop()
                self.error = None
                self._tell(Event("done", request, known))
            elif (
                self._running is not None
                and self._running.request == request
                and not self._running.stopped
            ):
                self._waiting = None  # it is being made already
            else:
                self._waiting = Job(self, request)
                self._wake()

    def cancel(self) -> None:
        """Stop: forget what waits, and end what runs at its next step. Returns at once."""
        with self._turn:
            self._drop()

    def close(self) -> None:
        """Stop for good, without waiting for it; `join` waits."""
        with self._turn:
            self._closed = True
            self._drop()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until nothing runs or waits and the thread is gone; say whether that is so."""
        end = None if timeout is None else time.monotonic() + timeout
        while (thread := self._thread) is not None and thread.is_alive():
            thread.join(None if end is None else max(0.0, end - time.monotonic()))
            if end is not None and time.monotonic() >= end:
                return not thread.is_alive()
        return True

    # -- all below is called with the lock held, or in the thread ------------------------------------------------

    def _drop(self) -> None:
        self._waiting = None
        if self._running is not None:
            self._running.stopped = True
        self._turn.notify_all()

    def _wake(self) -> None:
        if self._alive:
            self._turn.notify_all()
            return
        self._alive = True
        self._thread = threading.Thread(target=self._loop, name="sdkit-worker", daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        while (job := self._next()) is not None:
            self._run(job)

    def _next(self) -> Job | None:
        """The waiting job when it is due, or None, which ends the thread."""
        with self._turn:
            while self._waiting is not None:
                pace = min(self._pace, self._took)
                due = min(self._asked + self._settle, self._began + pace)
                if (rest := due - time.monotonic()) > 0:
                    self._turn.wait(rest)
                    continue
                job, self._waiting = self._waiting, None
                self._running, self._began = job, time.monotonic()
                self.runs += 1
                self._tell(Event("start", job.request))
                return job
            self._alive = (
                False  # decided under the lock: whoever submits from here on starts a new thread
            )
            return None

    def _run(self, job: Job) -> None:
        try:
            event = Event("done", job.request, self._work(job.request, job))
        except Cancelled:
            event = Event("stopped", job.request)
        except BaseException as error:  # noqa: BLE001 - a thread that dies here would leave the panel waiting for ever
            self.traceback = traceback.format_exc()
            error.__traceback__ = error.__cause__ = error.__context__ = None
            event = Event("failed", job.request, error)
        with self._turn:
            self._running = None
            if event.kind == "done":
                self._took = time.monotonic() - self._began
            if event.kind == "done" and self._cache is not None and job.lasting:
                self._cache.put(job.request, event.value)
            if job.stopped:
                event = Event("stopped", job.request)
            if event.kind in {"done", "failed"}:
                self.error = event.value if event.kind == "failed" else None
            self._tell(event)

    def _is_stale(self, job: Job) -> bool:
        return job.stopped or (
            self._waiting is not None and time.monotonic() - self._asked >= self._settle
        )

    def _tell(self, event: Event) -> None:
        try:
            self._listen(event)
        except Exception as error:  # noqa: BLE001 - a broken listener must not stop the work; tests look at `error`
            self.error, self.traceback = error.with_traceback(None), traceback.format_exc()


class Cache:
    """Results by request, the least recently used forgotten first.

    Parameters
    ----------
    limit
        Bytes that are kept at most.
    size
        Says how many bytes a result takes; one above the limit is not kept at all.
    """

    def __init__(self, limit: int, size: Callable[[Any], int]) -> None:
        self.limit, self.bytes = limit, 0
        self._size = size
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Count the results."""
        return len(self._kept)

    def get(self, request: Hashable) -> Any:
        """Return the remembered result, or None."""
        with self._lock:
            if request not in self._kept:
                return None
            self._kept.move_to_end(request)
            return self._kept[request][0]

    def put(self, request: Hashable, result: Any) -> None:
        """Remember a result, and forget old ones until all fit."""
        size = self._size(result)
        with self._lock:
            self.bytes -= self._kept.pop(request, (None, 0))[1]
            if size > self.limit:
                return
            self._kept[request] = (result, size)
            self.bytes += size
            while self.bytes > self.limit:
                self.bytes -= self._kept.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._kept.clear()
            self.bytes = 0
