"""The worker: whatever is asked, stopped or broken in whatever order, the last request is the one that is shown."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import weakref

import pytest
from hypothesis import given, strategies as st

from sdkit.errors import Cancelled
from sdkit.widgets.jobs import Cache, Worker

PATIENCE = 30  # seconds until a test calls it a deadlock


class Panel:
    """What a panel would show, kept from events alone."""

    def __init__(self):
        self.events = []
        self.shown = None

    def __call__(self, event):
        self.events.append((event.kind, event.request))
        if event.kind in {"done", "failed"}:
            self.shown = (event.kind, event.request, event.value)


def threads():
    return [t for t in threading.enumerate() if t.name == "sdkit-worker" and t.is_alive()]


class Gate:
    """Work that waits at its step until it is let through."""

    def __init__(self):
        self.at_step, self.go = threading.Event(), threading.Event()

    def __call__(self, request, job):
        self.at_step.set()
        assert self.go.wait(PATIENCE)
        job.check()
        return request


def test_a_result_arrives_and_the_thread_goes_home():
    panel = Panel()
    worker = Worker(lambda request, job: (job.report(request), request * 2)[1], panel)
    worker.submit(21)
    assert worker.join(PATIENCE)
    assert panel.events == [("start", 21), ("step", 21), ("done", 21)]
    assert panel.shown == ("done", 21, 42)
    assert not worker.busy
    assert not threads()


def test_of_many_requests_during_a_run_only_the_last_is_made():
    panel, gate = Panel(), Gate()
    worker = Worker(gate, panel, settle=0, pace=0)
    worker.submit(0)
    assert gate.at_step.wait(PATIENCE)
    for request in range(1, 100):
        worker.submit(request)
    gate.go.set()
    assert worker.join(PATIENCE)
    assert worker.runs == 2
    assert panel.events == [("start", 0), ("stopped", 0), ("start", 99), ("done", 99)]


def test_while_requests_stream_in_the_run_goes_on_and_shows_its_picture():
    panel, gate = Panel(), Gate()
    worker = Worker(gate, panel, settle=3600, pace=0)  # the drag never ends
    worker.submit("first")
    assert gate.at_step.wait(PATIENCE)
    worker.submit("second")
    gate.go.set()
    assert worker.join(PATIENCE)
    assert panel.events == [
        ("start", "first"),
        ("done", "first"),
        ("start", "second"),
        ("done", "second"),
    ]


def test_what_is_made_quickly_follows_the_hand_without_a_pause():
    panel = Panel()
    worker = Worker(lambda request, _job: request, panel, settle=3600, pace=3600)
    for request in range(5):
        worker.submit(request)
        assert worker.join(PATIENCE)
    assert [request for kind, request in panel.events if kind == "done"] == list(range(5))


def test_a_request_after_which_none_follows_stops_the_run_at_once():
    panel, gate = Panel(), Gate()
    worker = Worker(gate, panel, settle=3600, pace=3600)
    worker.submit("first")
    assert gate.at_step.wait(PATIENCE)
    worker.submit("on the way")
    worker.submit("last", settled=True)
    gate.go.set()
    assert worker.join(PATIENCE)
    assert panel.events == [
        ("start", "first"),
        ("stopped", "first"),
        ("start", "last"),
        ("done", "last"),
    ]


def test_a_drag_is_paced_and_a_pause_ends_it():
    panel, gate = Panel(), Gate()
    worker = Worker(gate, panel, settle=0.02, pace=3600)
    worker.submit(0)
    assert gate.at_step.wait(PATIENCE)
    worker.cancel()  # so that nothing says yet how long a run takes
    for request in range(1, 5):
        worker.submit(request)
    gate.go.set()
    assert worker.join(PATIENCE)
    assert panel.shown == (
        "done",
        4,
        4,
    )  # due after `settle`, though `pace` would have it wait for an hour
    assert worker.runs == 2


def test_asking_again_for_what_is_being_made_does_not_start_it_twice():
    panel, gate = Panel(), Gate()
    worker = Worker(gate, panel, settle=0, pace=0)
    worker.submit(1)
    assert gate.at_step.wait(PATIENCE)
    worker.submit(2)
    worker.submit(1)
    gate.go.set()
    assert worker.join(PATIENCE)
    assert (worker.runs, panel.shown) == (1, ("done", 1, 1))


def test_stop_ends_a_run_at_its_next_step_and_shows_nothing():
    panel, gate = Panel(), Gate()
    worker = Worker(gate, panel)
    worker.submit(1)
    assert gate.at_step.wait(PATIENCE)
    worker.cancel()
    gate.go.set()
    assert worker.join(PATIENCE)
    assert panel.events == [("start", 1), ("stopped", 1)]
    assert panel.shown is None


def test_a_run_that_ends_although_stopped_is_not_shown_but_remembered():
    panel, gate = Panel(), Gate()
    cache = Cache(10, lambda _: 1)
    worker = Worker(
        lambda request, _: (gate.at_step.set(), gate.go.wait(PATIENCE), request)[2],
        panel,
        cache=cache,
    )
    worker.submit(1)
    assert gate.at_step.wait(PATIENCE)
    worker.cancel()
    gate.go.set()
    assert worker.join(PATIENCE)
    assert panel.shown is None
    worker.submit(1)
    assert panel.shown == ("done", 1, 1)
    assert worker.runs == 1


def test_an_error_is_kept_without_what_it_held_and_the_worker_goes_on():
    class Model:
        pass

    kept = []

    def work(request, job):
        model = Model()
        kept.append(weakref.ref(model))
        if request == "bad":
            raise ValueError("no such thing")
        return request

    panel = Panel()
    worker = Worker(work, panel)
    worker.submit("bad")
    assert worker.join(PATIENCE)
    assert panel.shown[0] == "failed"
    assert isinstance(worker.error, ValueError)
    assert "no such thing" in worker.traceback
    assert kept[0]() is None, "the kept error holds the frame that held the model"
    worker.submit("good")
    assert worker.join(PATIENCE)
    assert worker.error is None
    assert panel.shown == ("done", "good", "good")


@pytest.mark.parametrize("crash", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_not_even_an_exit_takes_the_thread_down(crash):
    panel = Panel()

    def work(request, job):
        if request == "bad":
            raise crash
        return request

    worker = Worker(work, panel)
    worker.submit("bad")
    assert worker.join(PATIENCE)
    assert panel.shown[0] == "failed"
    worker.submit("good")
    assert worker.join(PATIENCE)
    assert panel.shown[1] == "good"


def test_a_broken_listener_does_not_stop_the_work_and_is_told():
    def listen(event):
        if event.kind == "start":
            raise RuntimeError("panel is gone")
        seen.append(event.kind)

    seen = []
    worker = Worker(lambda request, job: request, listen)
    worker.submit(1)
    assert worker.join(PATIENCE)
    assert seen == ["done"]


def test_a_listener_may_ask_for_more():
    panel = Panel()

    def listen(event):
        panel(event)
        if event.kind == "done" and event.request < 5:
            worker.submit(event.request + 1)

    worker = Worker(lambda request, job: request, listen, settle=0, pace=0)
    worker.submit(0)
    assert worker.join(PATIENCE)
    assert panel.shown == ("done", 5, 5)


def test_after_close_nothing_starts():
    panel, gate = Panel(), Gate()
    worker = Worker(gate, panel)
    worker.submit(1)
    assert gate.at_step.wait(PATIENCE)
    worker.close()
    worker.submit(2)
    gate.go.set()
    assert worker.join(PATIENCE)
    assert panel.shown is None
    assert worker.runs == 1
    assert not threads()


def test_join_says_when_it_gave_up():
    gate = Gate()
    worker = Worker(gate, Panel())
    worker.submit(1)
    assert not worker.join(0)
    gate.go.set()
    assert worker.join(PATIENCE)


def _round(seed):
    """One random story; checks what must hold at its end."""
    chance = random.Random(seed)
    cached = chance.random() < 0.5
    panel = Panel()

    def work(request, job):
        number, steps, fails = request
        for _ in range(steps):
            job.report(number)
        if fails:
            raise ValueError(number)
        return number

    worker = Worker(
        work,
        panel,
        cache=Cache(3, lambda _: 1) if cached else None,
        settle=chance.choice([0, 0, 1e-4]),
        pace=0,
    )
    last = None
    for number in range(chance.randrange(1, 12)):
        action = chance.random()
        if action < 0.75:
            last = (number // 2 if cached else number, chance.randrange(4), chance.random() < 0.25)
            worker.submit(last)
        elif action < 0.9:
            worker.cancel()
            last = None
            shown = panel.shown  # nothing may be shown from here until the next request
        else:
            assert worker.join(PATIENCE), f"seed {seed}: deadlock"
    assert worker.join(PATIENCE), f"seed {seed}: deadlock"
    assert not worker.busy
    if last is None:
        assert worker.runs == 0 or panel.shown == shown, f"seed {seed}: shown although stopped"
    else:
        kind, request, _ = panel.shown
        assert (kind, request) == ("failed" if last[2] else "done", last), (
            f"seed {seed}: not the last request"
        )
        assert (worker.error is not None) == (last[2]), (
            f"seed {seed}: the error is not the last run's"
        )


def test_a_thousand_random_stories():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads change places at nearly every instruction
    try:
        for seed in range(1000):
            _round(seed)
    finally:
        sys.setswitchinterval(before)
    assert not threads()


def test_many_threads_asking_at_once_end_with_one_result_of_the_last():
    order, lock = [], threading.Lock()
    panel = Panel()
    worker = Worker(lambda request, job: (job.check(), request)[1], panel, settle=0, pace=0)

    def ask(name):
        for n in range(50):
            with lock:  # so that the test knows which request came last
                order.append((name, n))
                worker.submit((name, n))

    askers = [threading.Thread(target=ask, args=(name,)) for name in range(8)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert worker.join(PATIENCE)
    assert panel.shown[1] == order[-1]
    assert not threads()


def test_work_that_ignores_the_stop_is_not_shown_over_a_newer_one():
    panel, gate = Panel(), Gate()

    def work(request, job):
        try:
            return gate(request, job)
        except Cancelled:
            return "stubborn"

    worker = Worker(work, panel, settle=0, pace=0)
    worker.submit(1)
    assert gate.at_step.wait(PATIENCE)
    worker.submit(2)
    gate.go.set()
    assert worker.join(PATIENCE)
    assert panel.shown == ("done", 2, 2)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12))), st.integers(0, 30))
def test_the_cache_never_holds_more_than_its_limit_and_forgets_the_oldest(puts, limit):
    cache = Cache(limit, len)
    kept = {}  # the plain model of it: insertion order is age
    for key, size in puts:
        cache.put(key, "x" * size)
        kept.pop(key, None)
        if size <= limit:
            kept[key] = size
        while sum(kept.values()) > limit:
            kept.pop(next(iter(kept)))
        assert cache.bytes == sum(kept.values()) <= limit
    assert len(cache) == len(kept)
    assert all((cache.get(key) is not None) == (key in kept) for key in range(10))


def test_what_was_looked_at_is_kept_longest():
    cache = Cache(2, lambda _: 1)
    cache.put("a", "A")
    cache.put("b", "B")
    assert cache.get("a") == "A"
    cache.put("c", "C")
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == ("A", None, "C")
    cache.clear()
    assert (len(cache), cache.bytes) == (0, 0)


def test_needs_neither_torch_nor_widgets():
    code = "import sys, sdkit.widgets.jobs; print({'torch', 'ipywidgets', 'PIL', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_what_is_being_stopped_and_is_asked_for_again_is_made():
    """A runs, B stops it, and while A unwinds A is asked for again: it must not be taken for the run that ends."""
    panel, unwinding, go = Panel(), threading.Event(), threading.Event()
    at_step, asked = threading.Event(), threading.Event()

    def work(request, job):
        if worker.runs > 1:
            return request
        at_step.set()
        assert asked.wait(PATIENCE)
        try:
            job.check()
        finally:
            unwinding.set()
            assert go.wait(PATIENCE)
        return None

    worker = Worker(work, panel, settle=3600, pace=3600)
    worker.submit("A")
    assert at_step.wait(PATIENCE)
    worker.submit("B", settled=True)
    asked.set()
    assert unwinding.wait(PATIENCE)
    worker.submit("A", settled=True)
    go.set()
    assert worker.join(PATIENCE)
    assert panel.shown == ("done", "A", "A")


def test_a_result_that_its_run_forgets_is_shown_and_made_again():
    panel, cache = Panel(), Cache(10, lambda _: 1)
    worker = Worker(lambda request, job: (job.forget(), request)[1], panel, cache=cache)
    for runs in (1, 2):
        worker.submit(1)
        assert worker.join(PATIENCE)
        assert panel.shown == ("done", 1, 1)
        assert worker.runs == runs
