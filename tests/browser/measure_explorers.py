"""The measurements behind `benchmarks/explorers.py`; not collected as a test, because times are no test."""

from __future__ import annotations

import json
import os
import statistics

from .test_explorers import idle, look_at_words

OPTIONS = json.loads(os.environ.get("SDKIT_MEASURE", '{"rounds": 2, "steps": 0}'))
STEPS = f", steps={OPTIONS['steps']}" if OPTIONS["steps"] else ""
SETUP = f"""
import warnings; warnings.simplefilter("ignore")
import json, time, sdkit, numpy as np
from ipywidgets import embed
from sdkit.widgets import PromptExplorer, AttentionExplorer
pipe = sdkit.load(device="cpu")
sdkit.generate(pipe, "a cat", progress=False)
e = PromptExplorer(pipe, "a red car on a beach, watercolor"{STEPS}); e.worker.join()
"""
BARE = """
def bare():
    s = e.settings
    began = time.perf_counter(); sdkit.generate(pipe, s, progress=False); return 1000 * (time.perf_counter() - began)
print(json.dumps([bare() for _ in range(5)]))
"""
STOP = """
times = []
for n in range(5):
    e.make(seed=1000 + n, steps=200)
    while e.step.get("step", 0) < 3: time.sleep(0.005)
    began = time.perf_counter(); e._receive(e, {"do": "stop"}, []); e.worker.join(); times.append(1000 * (time.perf_counter() - began))
e.make(seed=0, steps=sdkit.pocket.card()["steps"]); e.worker.join()
import torch
latents = torch.randn(2, pipe.unet.config.in_channels, 16, 16); text = torch.cat([pipe.encode_prompt(t, "cpu", 1, False)[0] for t in ("", "a cat")])
def step():
    began = time.perf_counter()
    with torch.no_grad(): pipe.unet(latents, 500, encoder_hidden_states=text)
    return 1000 * (time.perf_counter() - began)
print(json.dumps([max(times), min(step() for _ in range(10))]))
"""
# the page's own clock: when the hand moved last, and when the first preview and the finished picture were painted
WATCH = """() => {
  const now = document.querySelector('.sd-now'), status = document.querySelector('.sd-status');
  window.times = { moved: 0, preview: 0, final: 0 };
  const painted = (name) => requestAnimationFrame(() => setTimeout(() => { times[name] ||= performance.now(); }, 0));
  new MutationObserver(() => {
    if (!times.moved || !now.src) return;
    const wanted = document.querySelector('.sd-controls input[type=range]').value;
    if (status.textContent.startsWith('step 0')) window.shown = now.src;  // the run of the last value begins
    else if (status.textContent.startsWith('step')) { if (window.shown && now.src !== window.shown) painted('preview'); }
    else if (status.textContent.includes(`guidance ${Number(wanted)} `)) painted('final');
  }).observe(document.querySelector('.sd-stage'), { subtree: true, attributes: true, childList: true, characterData: true });
}"""
MOVE = """async ([values, pause]) => {
  const slider = document.querySelector('.sd-controls input[type=range]');
  window.times = Object.assign(window.times, { moved: 0, preview: 0, final: 0 });
  const began = performance.now();
  for (const [n, value] of values.entries()) {
    slider.value = value;
    slider.dispatchEvent(new Event('input', { bubbles: true }));
    times.moved = performance.now(); times.preview = times.final = 0; window.shown = null;
    const late = performance.now() - began - n * pause;  // a busy page fires late, but no fewer events
    if (pause) await new Promise((done) => setTimeout(done, Math.max(0, pause - late)));
  }
  slider.dispatchEvent(new Event('change', { bubbles: true }));
}"""


def test_measure(notebook):
    rounds = OPTIONS["rounds"]
    book = notebook(
        SETUP,
        "e",
        BARE,
        STOP,
        "print(json.dumps([e.worker.join(), e.worker.runs, e.result.settings.guidance_scale, len(json.dumps(embed.dependency_state([e], drop_defaults=False)))]))",
        "e.close(); x = AttentionExplorer(sdkit.generate(pipe, 'a red car on a beach', progress=False, attention={'steps': True, 'heads': True})); x",
    )
    page = book.page
    _show(book)
    told = lambda cell: (book.run_cell(cell), json.loads(book.text_of(cell)[-1]))[1]  # noqa: E731 - used in this function alone
    bare = told(
        2
    )  # half of them before, half of them after: other work on the machine comes and goes
    move = _hand(page)
    single = [move([round(4.1 + n / 10, 1)]) for n in range(rounds)]
    drags = [move([round(6 + n + k / 20, 1) for k in range(10)], 25) for n in range(min(rounds, 4))]
    bare = statistics.median(bare + told(2))
    runs = told(4)[1]
    values = [round(1 + (k % 90) / 10, 1) for k in range(99)] + [11.7]
    storm = move(values, 20)
    _, after, shown, state = told(4)
    back = []
    for value in (4.1, 11.7, 4.1, 11.7):
        page.wait_for_timeout(
            300
        )  # a hand does not move the slider again while the last move is being shown
        back.append(move([value])[1])
    unchanged = told(4)[1] == after
    stop, step = told(3)
    idle(page)
    saved = book.save()
    size = max(len(json.dumps(cell["outputs"])) for cell in saved["cells"])
    book.run_cell(5)
    page.locator(".sd-bar").nth(3).wait_for()
    hover = page.evaluate(HOVER)
    look_at_words(page)
    rows = [
        ("last slider movement → first preview on screen", "≤ 300 ms", f"{statistics.median(p for p, _ in single):.0f} ms (worker idle), {statistics.median(p for p, _ in drags):.0f} ms (end of a drag)"),
        ("… → final picture ÷ bare `generate`", "≤ 1.15", f"{statistics.median(f for _, f in single) / bare:.2f} (worker idle), {statistics.median(f for _, f in drags) / bare:.2f} (end of a drag); bare {bare:.0f} ms"),
        ("generations run for 100 slider events in 2 s; value shown", "≤ 3; the last", f"{after - runs}; {shown} of {values[-1]} ({storm[1]:.0f} ms after the last event)"),
        ("Stop → worker idle, slowest of 5 ÷ one step", "≤ 1 step", f"{stop / step:.2f} ({stop:.0f} ms ÷ {step:.0f} ms)"),
        ("going back to a setting seen before; generations", "≤ 50 ms; none", f"{statistics.median(back):.0f} ms; {'none' if unchanged else 'SOME'}"),
        ("hover → overlay, script time, slowest of 20", "≤ 16 ms", f"{hover:.1f} ms"),
        ("a panel in a saved notebook", "≤ 400 kB", f"{size / 1000:.0f} kB, {(size + state) / 1000:.0f} kB with widget state"),
    ]  # fmt: skip
    _print(rows)


def test_measure_turbo(notebook):
    """Turbo, computed by onnxruntime: a picture for every place of the hand."""
    book = notebook(
        SETUP.replace("sdkit.load(", "sdkit.load('pocket-turbo', compile='onnx', "),
        "e",
        "print(json.dumps([e.worker.join(), e.worker.runs]))",
    )
    _show(book)
    move = _hand(book.page)

    def runs():
        book.run_cell(2)
        return json.loads(book.text_of(2)[-1])[1]

    single = [move([round(2.1 + n / 10, 1)])[1] for n in range(2 * OPTIONS["rounds"])]
    before = runs()
    move([round(1.05 + n / 20, 2) for n in range(100)], 30)
    _print(
        [
            ("Turbo, slider → finished picture on screen", "≤ 150 ms", f"{statistics.median(single):.0f} ms"),
            ("Turbo, pictures a second while the hand moves for 3 s", "≥ 8", f"{(runs() - before) / 3:.1f}"),
        ]
    )  # fmt: skip


def _show(book):
    """Run the set-up and the cell that shows the panel, until its first picture is finished."""
    for cell in (0, 1):
        book.run_cell(cell)
    idle(book.page)


def _hand(page):
    """A hand on the guidance slider: it moves, and says after how many ms preview and picture were painted."""
    page.locator(".sd-now").last.wait_for()
    page.evaluate(WATCH)

    def move(values, pause=0):
        page.evaluate(MOVE, [values, pause])
        page.wait_for_function("() => times.final", timeout=120_000)
        times = page.evaluate("times")
        return times["preview"] - times["moved"], times["final"] - times["moved"]

    return move


def _print(rows):
    print("\n| measured | bar | found |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


HOVER = """() => Math.max(...[...Array(20).keys()].map((n) => {
  const item = document.querySelectorAll('.sd-bars li')[n % 4], began = performance.now();
  item.dispatchEvent(new PointerEvent('pointerenter'));
  const took = performance.now() - began;
  item.dispatchEvent(new PointerEvent('pointerleave'));
  return took;
}))"""
