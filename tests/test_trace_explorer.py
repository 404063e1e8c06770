"""The trace explorer: what the browser is given says what the trace says, and forks run in the worker."""

from __future__ import annotations

import io

import numpy as np
import pytest
import standins
import torch
from PIL import Image

import sdkit
from sdkit.errors import InvalidSettings
from sdkit.pipelines.previews import rgb_of
from sdkit.widgets import TraceExplorer

PATIENCE = 120


@pytest.fixture
def panel(tiny):
    made = TraceExplorer(tiny, sdkit.generate(tiny, "a cat", steps=4, progress=False, trace=True))
    yield made
    made.close()


def _values(packed, shape):
    return np.frombuffer(packed["bytes"], np.int8).reshape(shape) * packed["top"]


def test_the_browser_can_mix_any_guidance(tiny, panel):
    trace, colours = panel.result.trace, panel.view["colours"]
    shape = (4, colours["rows"], colours["columns"], 3)
    without, words = (_values(colours[name], shape) for name in ("without", "words"))
    for guidance in (0.0, 1.0, 7.5):
        mixed = without + guidance * words
        exact = np.stack([rgb_of(tiny, x) for x in trace.remix(guidance).x0.astype(np.float32)])
        # a byte holds 1/127 of the largest value; float16 predictions divided by a small alpha add the rest
        allowed = colours["without"]["top"] + guidance * colours["words"]["top"]
        assert np.abs(mixed - exact).mean() < allowed


@pytest.mark.parametrize(("name", "mixes"), [("krea2", True), ("lumina2", False)])
def test_guidance_is_mixed_where_it_is_a_straight_line_as_its_pipeline_reckons_it(name, mixes):
    pipe = standins.build(name)
    made = sdkit.generate(
        pipe, "a cat", steps=2, width=32, height=32, seed=3, progress=False, trace=True
    )
    panel = TraceExplorer(pipe, made)
    colours = panel.view["colours"]
    panel.close()
    assert bool(colours) is mixes
    if mixes:
        shape = (2, colours["rows"], colours["columns"], 3)
        without, words = (_values(colours[part], shape) for part in ("without", "words"))
        own = np.stack([rgb_of(pipe, x) for x in made.trace.x0.astype(np.float32)])
        guidance = made.settings.guidance_scale
        allowed = colours["without"]["top"] + guidance * colours["words"]["top"]
        assert np.abs(without + guidance * words - own).max() < 2 * allowed
        assert np.abs(without + (guidance + 1) * words - own).max() > 2 * allowed


def test_every_step_has_its_pictures(panel):
    assert [len(panel.view[name]) for name in ("noisy", "clean", "signal")] == [4, 4, 4]
    size = (panel.view["width"], panel.view["height"])
    for picture in panel.view["noisy"] + panel.view["clean"]:
        assert Image.open(io.BytesIO(picture)).size == size
    assert panel.view["signal"] == sorted(panel.view["signal"]), "the share of the picture grows"


def test_a_fork_is_the_one_that_fork_makes_and_opens_beside_the_run(tiny, panel):
    first = panel.result
    panel._receive(
        panel,
        {"do": "fork", "step": 2, "changes": {"prompt": "a dog", "seed": 0, "guidance_scale": 7.5}},
        [],
    )
    assert panel.worker.join(PATIENCE)
    assert panel.error is None
    again = sdkit.fork(tiny, first.trace, 2, prompt="a dog", progress=False)
    difference = np.asarray(again.image, int) - np.asarray(panel.result.image, int)
    assert abs(difference).max() <= 1, (
        "more than rounding: a panel computes on one core, a cell on all"
    )
    assert [run["caption"] for run in panel.runs] == ["the run", "from step 2: prompt='a dog'"]
    panel._receive(panel, {"do": "open", "number": 1}, [])
    assert panel.result is first
    assert panel.view["prompt"] == "a cat"
    panel._receive(panel, {"do": "fork", "step": 4, "changes": {}}, [])
    assert panel.worker.join(PATIENCE)
    assert "step 1 to 3" in panel.message
    assert not tiny.unet._forward_pre_hooks, "the hook that stops a fork is gone"


def test_a_run_without_guidance_has_nothing_to_mix_and_one_without_trace_is_refused(tiny):
    plain = TraceExplorer(
        tiny, sdkit.generate(tiny, "a cat", steps=2, guidance_scale=1, progress=False, trace=True)
    )
    assert plain.view["colours"] == {}
    plain.close()
    with pytest.raises(InvalidSettings, match="trace=True"):
        TraceExplorer(tiny, sdkit.generate(tiny, "a cat", steps=1, progress=False))


def test_the_page_keeps_every_step_and_fits(panel, tmp_path):
    path = panel.to_html(tmp_path / "run.html")
    assert path.stat().st_size < 400_000
    assert '"live": false' in path.read_text(encoding="utf-8")


def test_forks_are_made_anew_after_the_weights_changed(tiny, panel):
    message = {"do": "fork", "step": 2, "changes": {"prompt": "a dog"}}
    panel._receive(panel, message, [])
    assert panel.worker.join(PATIENCE)
    before = panel.result
    with torch.no_grad():
        tiny.unet.conv_out.weight.mul_(3)
    panel._receive(panel, {"do": "open", "number": 1}, [])
    panel._receive(panel, message, [])
    assert panel.worker.join(PATIENCE)
    assert panel.error is None
    assert panel.worker.runs == 2
    assert (np.asarray(panel.result.image) != np.asarray(before.image)).any()
    assert len(panel.runs) == 3
