"""Whatever is asked in whatever order while the pipeline changes in between: a panel shows the last request's picture, made
with the present weights.

Pictures come from a stand-in for the model that reads the true weights, so that a thousand stories take minutes. The
worker, its memory, the panels and how they look at the pipeline are the real ones. ``SDKIT_PANEL_SEQUENCES=1000`` asks for
more stories than the hundred where changes are judged and the twenty-five of every day.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sdkit.pipelines.schedulers import scheduler_of
from sdkit.result import Result
from sdkit.settings import Settings
from sdkit.traces.trace import Trace
from sdkit.widgets import DraftsBoard, PromptExplorer, Sketchpad, TraceExplorer
from sdkit.widgets.drafts import _SIDE
from sdkit.widgets.studio import passing, shown, thumbnail

SEQUENCES = int(os.environ.get("SDKIT_PANEL_SEQUENCES", "100" if os.environ.get("CI") else "25"))
PATIENCE = 120
PROMPTS = ("a cat", "a dog")
pytestmark = pytest.mark.filterwarnings("ignore::sdkit.generation.PromptWarning")


# -- a pipeline that changes, and a model that is quick ------------------------------------------------------------------


@pytest.fixture
def changing(tiny):
    from peft import LoraConfig

    tiny.unet.add_adapter(
        LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False), "style"
    )
    return tiny


def watched(pipe):
    """The places of the weights that the stories change."""
    return [
        (pipe.unet.conv_in, "weight"),
        (pipe.unet.conv_out, "bias"),
        (pipe.vae.decoder.conv_out, "weight"),
    ]


def change(pipe, chance):
    """Change something that decides pictures, in one of the ways in which people do."""
    kind = chance.choice(
        ["in place", "behind its back", "replaced", "scale", "scale", "switch", "scheduler"]
    )
    module, name = chance.choice(watched(pipe))
    weight = getattr(module, name)
    if kind == "in place":
        with torch.no_grad():
            weight.mul_(chance.choice([0.5, 2.0]))
    elif kind == "behind its back":
        weight.data.mul_(chance.choice([0.5, 2.0]))
    elif kind == "replaced":
        setattr(module, name, nn.Parameter(weight.detach().clone() * chance.choice([0.5, 2.0])))
    elif kind == "scale":
        pipe.unet.set_adapters("style", weights=chance.choice([0.25, 0.5, 1.0]))
    elif kind == "switch":
        chance.choice([pipe.unet.enable_adapters, pipe.unet.disable_adapters])()
    else:
        spacing = chance.choice(["leading", "trailing"])
        pipe.scheduler = type(pipe.scheduler).from_config(
            pipe.scheduler.config, timestep_spacing=spacing
        )


def truth(pipe):
    """Everything that `change` changes, read in full."""
    lora = next(m for m in pipe.unet.modules() if hasattr(m, "lora_A"))
    weights = [getattr(module, name).detach().numpy().tobytes() for module, name in watched(pipe)]
    switches = (
        dict(lora.scaling),
        lora._disable_adapters,
        type(pipe.scheduler).__name__,
        dict(pipe.scheduler.config),
    )
    return b"".join([*weights, repr(switches).encode()])


def painted(*decided):
    """A picture that is another one for any other values."""
    digest = hashlib.sha256(repr(decided).encode()).digest()
    return Image.fromarray(np.frombuffer(digest * 24, np.uint8).reshape(16, 16, 3), "RGB")


def stand_in(
    pipe,
    wanted,
    *,
    image=None,
    mask=None,
    control=None,
    reference=None,
    progress=False,
    on_step=None,
):
    """What `generate` does, without a network: the picture depends on settings and weights, from first step to last.

    Nothing leads the pictures of these stories.
    """
    assert not control
    assert not reference
    wanted = [wanted] if isinstance(wanted, Settings) else wanted
    sources = [None if one is None else one.tobytes() for one in (image, mask)]
    with scheduler_of(pipe, wanted[0].scheduler):
        seen = truth(pipe)
        for step in (1, 2):
            time.sleep(0.0005)  # lets the other thread ask for something else
            if on_step is not None:
                on_step(step, 2, lambda exact=True: Image.new("RGB", (16, 16)))
        seen = {seen, truth(pipe)}
    return Result(
        [painted(sorted(seen), s.recipe(), sources) for s in wanted],
        wanted,
        source=image,
        mask=mask,
    )


def stand_in_fork(pipe, trace, step, *, progress=False, **changes):
    """What `fork` does, likewise."""
    told = trace.settings.replace(**changes)
    return Result(
        [painted(truth(pipe), step, told.recipe())], [told], traces=[replace(trace, settings=told)]
    )


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("sdkit.generation.generate", stand_in)
    monkeypatch.setattr("sdkit.experiments.forking.fork", stand_in_fork)
    monkeypatch.setattr(
        TraceExplorer, "_told", lambda _, result: {"final": shown(result.image), "steps": 4}
    )


# -- the panels: how one is opened, what is asked of it, and what must be on show --------------------------------------


def open_prompt(pipe):
    return PromptExplorer(pipe, "a cat", steps=2, memory=chosen_memory(pipe))


def open_drafts(pipe):
    return DraftsBoard(pipe, "a cat", steps=2, count=2, memory=chosen_memory(pipe))


def open_sketch(pipe):
    return Sketchpad(
        pipe, "a cat", image=Image.new("RGB", (32, 32), "red"), memory=chosen_memory(pipe)
    )


def open_trace(pipe):
    arrays = np.zeros((5, 4, 8, 8), np.float16)
    settings = Settings("a cat", steps=4, guidance_scale=3.0)
    trace = Trace("epsilon", *[np.ones(4)] * 3, latents=arrays, x0=arrays[1:], settings=settings)
    return TraceExplorer(
        pipe, Result([painted("the run")], [settings], traces=[trace]), memory=chosen_memory(pipe)
    )


def chosen_memory(pipe):
    return 4_000 if len(repr(pipe.scheduler.config)) % 2 else 2**20  # four pictures, or all of them


def ask_prompt(chance):
    if chance.random() < 0.2:
        return chance.choice(
            [{"do": "go", "way": -1}, {"do": "show", "number": 1}, {"do": "star", "number": 1}]
        )
    values = {
        "prompt": chance.choice(PROMPTS),
        "seed": chance.randrange(2),
        "scheduler": chance.choice(["ddim", "euler"]),
    }
    return {"do": "set", "values": values, "moving": chance.random() < 0.3}  # fmt: skip


def ask_drafts(chance):
    if chance.random() < 0.2:
        return chance.choice([{"do": "branch", "number": 1}, {"do": "back", "depth": 0}])
    return {"do": "set", "values": {"seed": chance.randrange(2), "count": chance.choice([2, 3])}}


def ask_sketch(chance):
    if chance.random() < 0.3:
        file = io.BytesIO()
        Image.new("RGB", (32, 32), chance.choice(["red", "blue"])).save(file, "PNG")
        return {"do": "draw", "masked": False, "buffers": [memoryview(file.getvalue())]}
    return {
        "do": "set",
        "values": {"seed": chance.randrange(2), "strength": chance.choice([0.5, 0.9]), "go": True},
    }


def ask_trace(chance):
    if chance.random() < 0.2:
        return {"do": "open", "number": 1}
    changes = {"prompt": chance.choice(PROMPTS), "seed": chance.randrange(2)}
    return {"do": "fork", "step": chance.choice([1, 2]), "changes": changes}


def check_prompt(panel, wanted):
    assert panel.result.settings.same_picture(panel.settings)
    kept = panel.view["number"]  # pictures on the way of a drag are not, and are sent as they are
    assert panel.view["picture"] == (shown if kept else passing)(wanted[0])
    entry = next((e for e in panel.history if e["number"] == panel.view["number"]), None)
    assert entry is None or entry["picture"] == thumbnail(wanted[0])
    return [panel.result.image]


def check_drafts(panel, wanted):
    assert [draft["picture"] for draft in panel.view["drafts"]] == [
        thumbnail(image, _SIDE) for image in wanted
    ]
    return [draft.image for draft in panel.drafts]


def check_sketch(panel, wanted):
    assert panel.view["picture"] == shown(wanted[0])
    return [panel.result.image]


def check_trace(panel, wanted):
    assert panel.view["final"] == shown(wanted[0])
    return [panel.result.image]


KINDS = {
    "prompt": (open_prompt, ask_prompt, check_prompt),
    "drafts": (open_drafts, ask_drafts, check_drafts),
    "sketch": (open_sketch, ask_sketch, check_sketch),
    "trace": (open_trace, ask_trace, check_trace),
}


def made_now(pipe, asked):
    """The pictures of a request, made by the present pipeline without any panel."""
    if hasattr(asked, "run"):
        trace = Trace("epsilon", *[np.ones(4)] * 3, settings=asked.first)
        return stand_in_fork(pipe, trace, asked.step, **dict(asked.changes)).images
    if len(asked.settings) == 1:
        return stand_in(pipe, asked.first, image=asked.image, mask=asked.mask).images
    return [stand_in(pipe, s, image=asked.image).image for s in asked.settings]


def story(pipe, seed):
    """One sequence of requests, changes, stops and pauses, which ends with a request."""
    chance = random.Random(seed)
    opened, ask, check = KINDS[chance.choice(list(KINDS))]
    panel, requests = opened(pipe), []
    panel.worker._settle, panel.worker._pace = (
        chance.choice([0, 0.002]),
        0,
    )  # a hand that waits would make this hours
    submit = panel.worker.submit
    panel.worker.submit = lambda request, **how: (requests.append(request), submit(request, **how))
    try:
        length = chance.randrange(3, 12)
        for number in range(length):
            if chance.random() < 0.4:
                change(pipe, chance)
            message = ask(chance)
            while number == length - 1 and message["do"] not in {"set", "fork"}:
                message = ask(chance)
            panel._receive(
                panel,
                {k: v for k, v in message.items() if k != "buffers"},
                message.get("buffers", []),
            )
            pause = chance.random()
            if number == length - 1 or pause < 0.4:
                assert panel.worker.join(PATIENCE), f"seed {seed}: deadlock"
            elif pause < 0.5:
                panel._receive(panel, {"do": "stop"}, [])
            elif pause < 0.7:
                time.sleep(chance.random() * 0.002)
        assert panel.error is None, f"seed {seed}: {panel.error!r}"
        wanted = made_now(pipe, requests[-1])
        images = check(panel, wanted)
        assert [i.tobytes() for i in images] == [i.tobytes() for i in wanted], (
            f"seed {seed}: another picture"
        )
    finally:
        panel.close()
        assert panel.worker.join(PATIENCE)


def test_the_picture_on_show_is_the_last_requests_with_the_present_weights(changing, quick):
    for seed in range(SEQUENCES):
        try:
            story(changing, seed)
        except AssertionError as error:
            error.add_note(f"in the story of seed {seed}")
            raise
