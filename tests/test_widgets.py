"""Explorers without a browser: messages in, traits out; nothing hostile gets through; nothing is left behind."""

from __future__ import annotations

import base64
import copy
import io
import json
import re
import subprocess
import sys
import threading
import warnings
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler
from families import FAMILIES
from peft import LoraConfig
from PIL import Image
from test_card import HOSTILE

import sdkit
from sdkit.errors import CannotCapture, CannotSave, InvalidSettings, MissingExtra
from sdkit.generation import PromptWarning
from sdkit.pipelines.condition import condition
from sdkit.pipelines.schedulers import own_scheduler, scheduler_of
from sdkit.pipelines.tokens import read_prompt
from sdkit.settings import Settings
from sdkit.widgets import AttentionExplorer, DraftsBoard, PromptExplorer, Sketchpad
from sdkit.widgets.attention import _BUDGET, _packed
from sdkit.widgets.explorer import STATIC, Explorer, module
from sdkit.widgets.prompt import as_code, words_of
from sdkit.widgets.studio import shown, thumbnail
from sdkit.widgets.working import on_one_core, stoppable

PATIENCE = 120


def send(panel, buffers=(), **message):
    """What the browser does, and wait until all is made."""
    panel._receive(panel, message, [memoryview(b) for b in buffers])
    assert panel.worker.join(PATIENCE)


@pytest.fixture
def explorer(tiny):
    made = PromptExplorer(tiny, "a cat", steps=2)
    assert made.worker.join(PATIENCE)
    yield made
    made.close()


def test_panels_tell_of_words_themselves_and_leave_the_notebooks_warnings_as_they_are(tiny):
    code = (
        "import warnings, sdkit.widgets.prompt; from sdkit.generation import PromptWarning;"
        "assert not any(issubclass(f[2], PromptWarning) for f in warnings.filters)"  # other libraries add theirs
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    long = "a cat " * 60
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        panel = PromptExplorer(tiny, long, steps=1)
        assert panel.worker.join(PATIENCE)
        assert "its end is not seen" in panel.note
        panel.close()
        assert not [w for w in caught if issubclass(w.category, PromptWarning)]
        sdkit.generate(tiny, long, steps=1, progress=False)  # in a cell it is still told
        assert [w for w in caught if issubclass(w.category, PromptWarning)]


# -- the prompt explorer -----------------------------------------------------------------------------------------------


def test_a_control_changes_one_setting_and_the_picture_follows(explorer):
    first = explorer.view["picture"]
    send(explorer, do="set", values={"guidance_scale": 2.5}, by="me")
    assert (
        explorer.result.settings
        == sdkit.generate(explorer.pipe, explorer.settings, progress=False).settings
    )
    assert explorer.settings.guidance_scale == 2.5
    assert explorer.view["picture"] != first
    assert explorer.asked["by"] == "me", "a view must know its own echo"
    assert explorer.step == {}


def test_the_picture_is_the_one_that_generate_makes_and_the_code_says_how(explorer):
    scope = {"sdkit": sdkit, "pipe": explorer.pipe}
    with on_one_core(
        explorer.pipe, torch.get_num_threads()
    ):  # another number of cores may round otherwise
        again = eval(explorer.view["code"], scope)
    assert (np.asarray(again.image) == np.asarray(explorer.result.image)).all()
    assert again.settings == explorer.result.settings


def test_going_back_costs_no_run(explorer):
    send(explorer, do="set", values={"seed": 5})
    runs, pictures = explorer.worker.runs, [entry["number"] for entry in explorer.history]
    send(explorer, do="go", way=-1)
    assert explorer.result.settings.seed == 0
    send(explorer, do="go", way=1)
    send(explorer, do="go", way=1)  # there is nothing further
    assert explorer.result.settings.seed == 5
    send(explorer, do="show", number=pictures[0])
    assert explorer.result.settings.seed == 0
    assert explorer.worker.runs == runs
    assert [entry["number"] for entry in explorer.history] == pictures, (
        "looking back adds nothing to the history"
    )


def test_a_drag_leaves_one_picture_in_the_history_and_the_notebook(explorer, monkeypatch):
    stored = []
    monkeypatch.setattr(explorer, "_refresh_still", lambda: stored.append(explorer.view))
    for guidance in (2.0, 3.0, 4.0):
        send(explorer, do="set", values={"guidance_scale": guidance}, moving=True)
        assert explorer.result.settings.guidance_scale == guidance, "pictures on the way are shown"
    assert len(explorer.history) == 1
    runs = explorer.worker.runs
    send(explorer, do="set", values={"guidance_scale": 4.0}, moving=False)  # the hand lets go
    assert [entry["number"] for entry in explorer.history] == [1, 2]
    assert explorer.view["number"] == 2
    assert explorer.worker.runs == runs
    assert stored == [explorer.view]


def test_changed_weights_are_not_answered_from_memory(explorer):
    with sdkit.pipelines.run.torch.no_grad():
        next(iter(explorer.pipe.unet.parameters())).mul_(1.5)
    runs = explorer.worker.runs
    send(explorer, do="show", number=1)
    assert explorer.worker.runs == runs + 1


def test_the_same_settings_with_other_weights_take_the_old_pictures_place(explorer):
    old, number = explorer.view["picture"], explorer.view["number"]
    with torch.no_grad():
        explorer.pipe.unet.conv_out.weight.mul_(3)
    send(explorer, do="show", number=number)
    assert explorer.view["picture"] == shown(explorer.result.image) != old
    assert [(e["number"], e["picture"]) for e in explorer.history] == [
        (number, thumbnail(explorer.result.image))
    ]


def test_a_favourite_keeps_its_picture_when_the_weights_change(explorer):
    send(explorer, do="star", number=1)
    old = explorer.history[0]["picture"]
    with torch.no_grad():
        explorer.pipe.unet.conv_out.weight.mul_(3)
    send(explorer, do="show", number=1)
    assert explorer.view["number"] == 2
    assert [e["picture"] for e in explorer.history] == [old, thumbnail(explorer.result.image)]
    assert thumbnail(explorer.favourites[0].image) == old


def test_a_star_goes_to_the_picture_that_the_strip_shows(explorer):
    """Both pictures of these settings are in memory; the one on the strip was made with other weights than the present."""
    explorer.pipe.unet.add_adapter(
        LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False), "style"
    )
    for weight in (1.0, 9.0):
        explorer.pipe.unet.set_adapters("style", weights=weight)
        send(explorer, do="show", number=1)
    explorer.pipe.unet.set_adapters("style", weights=1.0)
    send(explorer, do="star", number=1)
    assert thumbnail(explorer.favourites[0].image) == explorer.history[0]["picture"]


def test_a_board_from_memory_shows_its_own_drafts_whatever_weights_made_the_others(tiny):
    tiny.unet.add_adapter(
        LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False), "style"
    )
    made = DraftsBoard(tiny, "a cat", count=2, steps=1)
    assert made.worker.join(PATIENCE)
    first = [draft["picture"] for draft in made.view["drafts"]]
    tiny.unet.set_adapters("style", weights=9.0)
    send(made, do="set", values={})
    assert [draft["picture"] for draft in made.view["drafts"]] != first
    tiny.unet.set_adapters("style", weights=1.0)
    send(made, do="set", values={})
    assert made.worker.runs == 2, "from memory"
    assert [draft["picture"] for draft in made.view["drafts"]] == first
    made.close()


def test_a_picture_made_while_the_weights_changed_is_not_remembered(explorer):
    explorer.pipe.unet.add_adapter(
        LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False), "style"
    )

    def meddle(_module, _inputs):
        explorer.pipe.unet.set_adapters("style", weights=9.0)

    handle = explorer.pipe.vae.decoder.conv_out.register_forward_pre_hook(meddle)
    send(explorer, do="set", values={"seed": 5})
    handle.remove()
    explorer.pipe.unet.set_adapters("style", weights=1.0)
    runs = explorer.worker.runs
    send(explorer, do="set", values={"seed": 5})
    assert explorer.worker.runs == runs + 1


@pytest.mark.parametrize(
    "change",
    [
        lambda pipe: pipe.unet.conv_out.weight.data.mul_(2),
        lambda pipe: setattr(
            pipe.unet.conv_out, "bias", torch.nn.Parameter(pipe.unet.conv_out.bias.detach().clone())
        ),
        lambda pipe: pipe.unet.disable_adapters(),
        lambda pipe: pipe.unet.set_adapters("style", weights=0.5),
        lambda pipe: pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4),
        lambda pipe: setattr(pipe, "vae", copy.deepcopy(pipe.vae)),
        lambda pipe: setattr(
            pipe, "scheduler", EulerDiscreteScheduler.from_config(pipe.scheduler.config)
        ),
        lambda pipe: pipe.scheduler.register_to_config(timestep_spacing="linspace"),
    ],
    ids=[
        "data",
        "replaced",
        "LoRA off",
        "LoRA scale",
        "FreeU",
        "VAE",
        "scheduler",
        "its configuration",
    ],
)
def test_whatever_decides_pictures_changes_the_condition(tiny, change):
    tiny.unet.add_adapter(
        LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False), "style"
    )
    before = condition(tiny)
    sdkit.generate(tiny, "a cat", steps=1, scheduler="euler", progress=False)
    with scheduler_of(tiny, "euler"):
        assert condition(tiny) == before, (
            "a run leaves it as it was, and its own scheduler counts meanwhile"
        )
    change(tiny)
    assert condition(tiny) != before


def test_a_scheduler_given_during_a_run_stays(tiny):
    given = EulerDiscreteScheduler.from_config(tiny.scheduler.config)
    with scheduler_of(tiny, "heun"):
        tiny.scheduler = given
        assert own_scheduler(tiny) is given
    assert tiny.scheduler is given


def test_the_memory_is_bounded_and_a_forgotten_picture_is_made_again(tiny):
    made = PromptExplorer(
        tiny, "a cat", steps=1, memory=12_000
    )  # two pictures of 32×32 pixels with their latents
    for seed in range(5):
        send(made, do="set", values={"seed": seed})
        assert made.cache.bytes <= 12_000
    runs = made.worker.runs
    send(made, do="show", number=1)
    assert made.result.settings.seed == 0
    assert made.worker.runs == runs + 1
    made.close()


def test_favourites_outlive_memory_and_history(tiny, monkeypatch):
    monkeypatch.setattr("sdkit.widgets.prompt._LONGEST_HISTORY", 3)
    made = PromptExplorer(tiny, "a cat", steps=1)
    assert made.worker.join(PATIENCE)
    send(made, do="star", number=1)
    for seed in range(1, 6):
        send(made, do="set", values={"seed": seed})
    assert [entry["number"] for entry in made.history] == [1, 4, 5, 6]
    assert [r.settings.seed for r in made.favourites] == [0]
    send(made, do="star", number=1)
    assert made.favourites == []
    made.close()


def test_compare_save_and_errors_are_told_in_the_panel(explorer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    send(explorer, do="pin")
    assert explorer.pinned["picture"] == explorer.view["picture"]
    send(explorer, do="pin")
    assert explorer.pinned == {}
    send(explorer, do="save")
    assert sdkit.load_result(tmp_path / "a-cat-0.png").settings == explorer.result.settings
    assert "a-cat-0.png" in explorer.note
    send(explorer, do="set", values={"guidance_scale": 99})
    assert "guidance_scale=99" in explorer.message
    assert isinstance(explorer.error, InvalidSettings)
    assert explorer.settings.guidance_scale != 99
    send(explorer, do="set", values={"guidance_scale": 3})
    assert (explorer.message, explorer.error) == ("", None)


def test_a_run_that_fails_is_told_and_the_next_one_works(explorer, monkeypatch):
    def broken(*_args, **_kwargs):
        raise RuntimeError("no kernel image <b>")

    with monkeypatch.context() as patch:
        patch.setattr(explorer.pipe.vae, "decode", broken)
        send(explorer, do="set", values={"seed": 77})
        assert explorer.message == "no kernel image <b>"
        assert isinstance(explorer.worker.error, RuntimeError)
        assert explorer.step == {}
    send(explorer, do="set", values={"seed": 78})
    assert explorer.message == ""
    assert explorer.result.settings.seed == 78


def test_unknown_messages_and_names_do_nothing(explorer):
    before = explorer.settings
    send(explorer, do="close")
    send(explorer, do="__init__")
    send(explorer)
    send(explorer, do="set", values={"model": "evil", "task": "inpainting", "source": "x"})
    assert explorer.settings == before
    assert not explorer._closed


def test_close_frees_everything(tiny):
    made = PromptExplorer(tiny, "a cat", steps=200)
    made.close()
    assert made.worker.join(PATIENCE)
    assert len(made.cache) == 0
    assert not [t for t in threading.enumerate() if t.name == "sdkit-worker"]
    made._receive(made, {"do": "set", "values": {"seed": 1}}, [])
    assert not made.worker.busy
    made.close()


# -- words -------------------------------------------------------------------------------------------------------------


def test_words_say_what_the_model_makes_of_them(pocket):
    told = words_of(pocket, "a red  walrus, carr")
    assert "".join(w["text"] for w in told["words"]) == "a red walrus, carr"
    kinds = {w["text"]: w["kind"] for w in told["words"]}
    assert (kinds["red"], kinds["walrus"], kinds["carr"]) == ("known", "unknown", "unknown")
    assert "car" in next(w["hint"] for w in told["words"] if w["text"] == "carr")
    assert told["limit"] == 30


def test_words_behind_the_end_are_cut(pocket):
    told = words_of(pocket, "cat " * 35)
    assert (told["used"], told["limit"]) == (35, 30)
    assert [w["kind"] for w in told["words"] if w["text"] == "cat"] == ["known"] * 30 + ["cut"] * 5


def test_words_are_read_beside_a_run_that_pads(pocket):
    own = pocket.tokenizer
    own("a cat", padding="max_length", truncation=True)
    before = own.backend_tokenizer.padding
    assert before
    words_of(pocket, "a cat")
    assert own.backend_tokenizer.padding == before


def test_words_that_are_taught_later_are_known(pocket):
    pipe = copy.copy(pocket)
    pipe.tokenizer = copy.deepcopy(pocket.tokenizer)
    assert words_of(pipe, "toyy")["used"] == 3
    pipe.tokenizer.add_tokens("toyy")
    assert words_of(pipe, "toyy")["used"] == 1


def test_code_is_the_settings_for_any_text():
    for prompt in HOSTILE:
        settings = Settings(
            prompt, seed=3, steps=2, guidance_scale=4.5, negative_prompt=prompt, width=64, height=32
        )
        found = eval(
            as_code(settings, "explorer"),
            {
                "sdkit": type("s", (), {"generate": lambda _, p, **k: Settings(p, **k)}),
                "pipe": None,
            },
        )
        assert found == settings


# -- drafts ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def board(tiny):
    made = DraftsBoard(tiny, "a cat", count=3, steps=2)
    assert made.worker.join(PATIENCE)
    yield made
    made.close()


def number(board, place):
    return board.view["drafts"][place]["number"]


def test_drafts_are_the_pictures_of_their_seeds(board):
    assert [d.settings.seed for d in board.drafts] == [0, 1, 2]
    again = sdkit.generate(board.pipe, board.drafts[1].settings, progress=False)
    difference = np.asarray(again.image, int) - np.asarray(board.drafts[1].image, int)
    assert abs(difference).max() <= 1, (
        "more than rounding: a panel computes on one core, a cell on all"
    )


def test_branching_strays_from_the_draft_and_back_is_instant(board):
    send(board, do="branch", number=number(board, 1))
    assert [(d.settings.seed, d.settings.variation_seed, d.settings.variation_amount) for d in board.drafts] == [
        (1, 2, 0.3), (1, 3, 0.3), (1, 4, 0.3)
    ]  # fmt: skip
    send(board, do="set", values={"amount": 0.8})
    assert {d.settings.variation_amount for d in board.drafts} == {0.8}
    source = board.drafts[0]
    send(
        board, do="branch", number=number(board, 0)
    )  # a variation of a variation starts from its picture
    assert {d.settings.task for d in board.drafts} == {"image-to-image"}
    assert (np.asarray(board.drafts[0].source) == np.asarray(source.image)).all()
    runs = board.worker.runs
    send(board, do="back", depth=0)
    assert [d.settings.seed for d in board.drafts] == [0, 1, 2]
    assert board.worker.runs == runs


def test_keep_discard_and_export(board, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = board.drafts[2]
    send(board, do="keep", number=number(board, 2))
    send(board, do="discard", number=number(board, 0))
    assert [d.settings for d in board.kept] == [kept.settings]
    assert len(board.drafts) == 2
    send(board, do="export")
    send(board, do="export")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a-cat-2-sheet-2.png",
        "a-cat-2-sheet.png",
    ]
    send(board, do="keep", number=number(board, 2))
    assert board.kept == []


@pytest.mark.parametrize("bad", [{"count": 1}, {"count": 99}, {"amount": 0}, {"amount": 2}])
def test_a_board_says_what_it_cannot_hold(tiny, bad):
    with pytest.raises(InvalidSettings, match=re.escape(str(next(iter(bad.values()))))):
        DraftsBoard(tiny, "a cat", **bad)


# -- the sketchpad -----------------------------------------------------------------------------------------------------


def png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_strokes_become_a_picture_of_the_same_call(tiny):
    pad = Sketchpad(tiny, "a house", steps=4)
    drawn = Image.new("RGB", pad.image.size, "red")
    send(pad, do="draw", masked=False, buffers=[png(drawn), png(Image.new("L", drawn.size))])
    assert (pad.mask, pad.error) == (None, None)
    with on_one_core(tiny, torch.get_num_threads()):
        again = sdkit.generate(tiny, pad.settings, image=pad.image, progress=False)
    assert (np.asarray(again.image) == np.asarray(pad.result.image)).all()
    mask = Image.new("L", drawn.size)
    mask.paste(255, (0, 0, 10, 10))
    send(pad, do="draw", masked=True, buffers=[png(drawn), png(mask)])
    assert pad.result.settings.task == "inpainting"
    assert (np.asarray(pad.mask) == np.asarray(mask)).all()
    kept = np.asarray(mask) == 0
    assert (np.asarray(pad.result.image)[kept] == np.asarray(drawn)[kept]).all(), (
        "what is not masked stays, to the bit"
    )
    send(pad, do="adopt")
    assert (np.asarray(pad.image) == np.asarray(pad.result.image)).all()
    pad.close()


def test_a_layer_of_another_size_or_kind_is_refused(tiny):
    pad = Sketchpad(tiny, "a house", steps=2)
    good = png(Image.new("RGB", pad.image.size))
    send(pad, do="draw", masked=True, buffers=[good, png(Image.new("L", (3, 3)))])
    assert "3×3" in pad.message
    send(pad, do="draw", masked=False, buffers=[b"GIF89a", good])
    assert pad.error is not None
    assert pad.worker.runs == 0
    with pytest.raises(InvalidSettings, match="5000×10"):
        Sketchpad(tiny, image=Image.new("RGB", (5000, 10)))
    pad.close()


def test_the_paper_keeps_the_pixels_it_was_given_and_the_run_their_shape(tiny):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 200, 3), dtype=np.uint8))
    pad = Sketchpad(tiny, "a house", image=image, steps=2)
    assert (np.asarray(Image.open(io.BytesIO(pad.paper["picture"]))) == np.asarray(image)).all()
    assert pad.settings.width == 4 * pad.settings.height
    pad.close()


# -- attention, and pages ----------------------------------------------------------------------------------------------


class Maps:
    """What the explorer asks of attention maps, with numbers that can be checked."""

    def __init__(self, words, steps=3, side=40):
        self.words, self.image = words, Image.new("RGB", (side, side), "navy")
        self._places = {word: n for n, word in enumerate(dict.fromkeys(words))}
        self._steps, self._side = steps, side

    def __getitem__(self, key):
        word, occurrence = key if isinstance(key, tuple) else (key, 0)
        value = np.zeros((self._side, self._side), np.float32)
        value[self._places[word] % self._side, occurrence] = 0.5
        return value

    def by_step(self, word):
        return np.stack([self[word][:8, :8] * n for n in range(self._steps)])

    def by_layer(self, word):
        return {"up.0": self[word][:8, :8], "mid": self[word][:4, :4]}

    def by_head(self, word):
        raise InvalidSettings("Heads were not kept apart.")


def test_maps_arrive_as_bytes_that_say_what_the_maps_say():
    maps = Maps(["a", "red", "car", "a"])
    panel = AttentionExplorer(maps)
    assert panel.view["words"] == ["a", "red", "car", "a (2)"]
    assert (panel.view["steps"], panel.view["layers"], panel.view["heads"]) == (
        3,
        ["up.0", "mid"],
        {"up.0": 0, "mid": 0},
    )
    offset, rows, columns, top = panel.view["planes"]["all"]
    found = (
        np.frombuffer(panel.data, np.uint8, 4 * rows * columns, offset).reshape(4, rows, columns)
        / 255
        * top
    )
    expected = [maps["a", 0], maps["red"], maps["car"], maps["a", 1]]
    assert np.abs(found - np.stack(expected)).max() <= top / 255
    panel.close()


def test_maps_fit_their_budget_however_many_there_are():
    chance = np.random.default_rng(0)
    maps = {"all": chance.random((40, 64, 64), np.float32)}
    maps |= {f"step:{n}": chance.random((40, 32, 32), np.float32) for n in range(50)}
    planes, data = _packed(maps)
    assert len(data) <= _BUDGET * 1.5
    assert set(planes) == set(maps)
    mean = (
        np.frombuffer(data, np.uint8, offset=planes["all"][0], count=40 * 64 * 64).mean()
        / 255
        * planes["all"][3]
    )
    assert mean == pytest.approx(maps["all"].mean(), abs=0.01)


def test_real_attention_goes_in(tiny):
    result = sdkit.generate(
        tiny, "a red car", steps=2, progress=False, attention={"steps": True, "heads": True}
    )
    panel = AttentionExplorer(result)
    assert panel.view["words"] == ["a", "red", "car"]
    assert panel.view["steps"] == 2
    assert any(panel.view["heads"].values())
    with pytest.raises(InvalidSettings, match="attention=True"):
        AttentionExplorer(sdkit.generate(tiny, "a cat", steps=1, progress=False))
    panel.close()


def test_light_is_pushed_from_the_panel_and_put_back(pocket):
    result = sdkit.generate(
        pocket, "a hamburger on a green background", seed=1, steps=3, progress=False, attention=True
    )
    panel = AttentionExplorer(result, pocket)
    assert panel.view["pushes"]
    word = panel.view["words"].index("hamburger")
    send(panel, do="push", word=word, x=0.3, y=0.5)
    assert (panel.message, panel.step) == ("", {})
    assert panel.moved["places"] == [[word, [0.3, 0.5]]]
    alone = sdkit.push_attention(pocket, result, {"hamburger": (0.3, 0.5)}, progress=False)
    apart = np.abs(np.asarray(panel.result.image, int) - np.asarray(alone.image, int))
    assert apart.max() <= 2  # a panel computes on one core
    assert "hamburger was pushed" in panel.note
    assert panel.still()[0] is panel.result.image

    send(panel, do="push", word=word, x=7, y=0.5)
    assert "give x and y from 0 to 1" in panel.message
    assert panel.moved["places"] == [[word, [0.3, 0.5]]], "what is on show stays"
    send(panel, do="push", word=word, x=0.3, y=0.5)
    assert panel.worker.runs == 2, "the same push is remembered"

    send(panel, do="restore")
    assert panel.moved["places"] == []
    assert panel.result is result
    panel.close()


def test_pushing_needs_a_pipeline_with_a_unet_and_the_settings(tiny):
    result = sdkit.generate(tiny, "a red car", steps=1, progress=False, attention=True)
    panel = AttentionExplorer(result)
    assert not panel.view["pushes"]
    panel._receive(panel, {"do": "push", "word": 0, "x": 0.5, "y": 0.5}, [])
    assert not panel.worker.busy
    panel.close()
    with pytest.raises(InvalidSettings, match="give the Result instead of its maps"):
        AttentionExplorer(result.attention, tiny)
    with pytest.raises(CannotCapture, match="joint attention"):
        AttentionExplorer(result, FAMILIES["sd3"]())


def test_a_page_is_one_file_that_fetches_nothing(tmp_path):
    panel = AttentionExplorer(Maps(["a", "</script><script>alert(1)</script>"]))
    text = panel.to_html(tmp_path / "x.html").read_text(encoding="utf-8")
    assert not re.search(
        r"https?://(?!www\.w3\.org/2000/svg)|//cdn|import .* from|@import|url\(", text
    )
    assert "default-src 'none'" in text
    assert len(re.findall("<script", text)) == 2
    assert len(re.findall("</script", text)) == 2
    state = json.loads(
        re.search(r'<script type="application/json" id="state">(.*?)</script>', text, re.DOTALL)[1]
    )
    assert state["view"]["words"][1] == "</script><script>alert(1)</script>"
    assert base64.b64decode(state["data"]["$bytes"]) == panel.data
    assert state["live"] is False
    for name in ("x.txt", "missing/x.html"):
        with pytest.raises(CannotSave):
            panel.to_html(tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["x.html"]
    panel.close()


# -- hostile texts -----------------------------------------------------------------------------------------------------


class Elements(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, tuple(sorted(name for name, _ in attrs))))


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_adds_an_element_or_an_attribute(tiny, text):
    plain = PromptExplorer(tiny, "a cat", steps=1)
    hostile = PromptExplorer(tiny, text, steps=1, negative_prompt=text)
    pad = Sketchpad(tiny, text, steps=1)
    maps = AttentionExplorer(Maps(["a", text]))
    for panel in (plain, hostile):
        assert panel.worker.join(PATIENCE)
    expected = Elements(plain._still_bundle()["text/html"]).found
    assert expected
    assert Elements(hostile._still_bundle()["text/html"]).found == expected
    assert Elements(maps._still_bundle()["text/html"]).found == expected
    assert (
        Elements(maps._page()).found == Elements(AttentionExplorer(Maps(["a", "b"]))._page()).found
    )
    for panel in (hostile, pad, maps):
        assert "text/html" not in (panel._repr_mimebundle_() or ({},))[0]
        assert "\n" not in repr(panel)
        assert Elements(panel._still_bundle()["text/html"]).found[:2] == expected[:2]
        panel.close()
    plain.close()


def test_modules_never_turn_text_into_markup():
    for file in STATIC.glob("*.js"):
        code = file.read_text(encoding="utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", code
        ), file.name


# -- files and imports -------------------------------------------------------------------------------------------------


def test_every_module_stands_alone_and_fetches_nothing():
    for file in STATIC.glob("*.js"):
        text = module(file.name)
        assert "import " not in re.sub(r"//.*|/\*.*?\*/", "", text), file.name
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), file.name
        if file.name != "kit.js":
            assert text.count("export default {") == 1


def test_static_files_are_in_the_package():
    names = {path.name for path in (Path(sdkit.__file__).parent / "widgets" / "static").iterdir()}
    assert {"kit.js", "kit.css", "prompt.js", "drafts.js", "sketch.js", "attention.js"} <= names


def test_without_the_extra_the_error_names_it():
    code = (
        "import sys; sys.modules['anywidget'] = None\n"
        "import sdkit.widgets\n"
        "try: sdkit.widgets.PromptExplorer\n"
        "except sdkit.errors.MissingExtra as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import sdkit.errors\n{code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pip install 'sdkit-notebooks[lab]'" in done.stdout
    assert issubclass(MissingExtra, ImportError)
    with pytest.raises(AttributeError, match="no attribute 'PromtExplorer'"):
        _ = sdkit.widgets.PromtExplorer


def test_running_a_cell_again_closes_what_its_last_run_made(tiny, monkeypatch):
    cell = ["cell-1", "run-1"]
    monkeypatch.setattr("sdkit.widgets.explorer._cell", lambda: tuple(cell))
    monkeypatch.setattr("sdkit.widgets.explorer._panels", {})
    first, second = (PromptExplorer(tiny, "a cat", steps=1) for _ in range(2))
    assert not first._closed, "one run of a cell may make several panels"
    cell[1] = "run-2"
    third = PromptExplorer(tiny, "a cat", steps=1)
    assert (first._closed, second._closed, third._closed) == (True, True, False)
    cell[0] = "cell-2"
    fourth = PromptExplorer(tiny, "a cat", steps=1)
    assert not third._closed
    for panel in (third, fourth):
        panel.close()
        assert panel.worker.join(PATIENCE)
    assert issubclass(PromptExplorer, Explorer)


def test_read_prompt_and_panel_agree_on_words(tiny):
    text = "a well-known cat's house, 3 of them"
    told = [w["text"] for w in words_of(tiny, text)["words"] if w["kind"] != "space"]
    assert told == [w.text for w in read_prompt(tiny.tokenizer, text).words]


# -- in the panel's thread ---------------------------------------------------------------------------------------------


def test_a_small_network_keeps_to_one_core_and_the_notebook_to_its_own_number(tiny):
    usual, seen = torch.get_num_threads(), []
    with on_one_core(tiny, usual):
        seen.append(torch.get_num_threads())
    assert [*seen, torch.get_num_threads()] == [1, usual]


def test_a_run_stops_inside_a_step_and_the_next_picture_is_the_same(tiny):
    before = sdkit.generate(tiny, "a cat", steps=2, progress=False)
    calls = []

    def check():
        calls.append(1)
        if len(calls) == 40:
            raise sdkit.errors.Cancelled

    steps = []
    with pytest.raises(sdkit.errors.Cancelled), stoppable(tiny, check):
        sdkit.generate(
            tiny, "a dog", steps=2, progress=False, on_step=lambda *told: steps.append(told)
        )
    assert steps == [], "40 layers are less than a step"
    assert not any(
        module._forward_pre_hooks for part in (tiny.unet, tiny.vae) for module in part.modules()
    )
    again = sdkit.generate(tiny, "a cat", steps=2, progress=False)
    assert (again.latents == before.latents).all()


def test_a_panel_encodes_a_text_once(tiny, monkeypatch):
    texts = []
    encode_prompt = type(tiny).encode_prompt
    monkeypatch.setattr(
        type(tiny),
        "encode_prompt",
        lambda self, text, *a, **k: texts.append(text) or encode_prompt(self, text, *a, **k),
    )
    tiny.text_encoder.eval()  # a training encoder's encodings are not remembered
    panel = PromptExplorer(tiny, "a cat", steps=1, guidance_scale=4)
    panel.worker.join(PATIENCE)
    panel.make(seed=5)
    panel.worker.join(PATIENCE)
    assert panel.error is None
    # told words with encodings in hand, the pipeline only passes them on
    assert sorted(t for t in texts if t is not None) == ["", "a cat"]
    panel.close()


def test_a_compiled_network_stops_after_its_step(tiny, monkeypatch):
    def check():
        raise sdkit.errors.Cancelled

    monkeypatch.setattr(tiny.unet, "_compiled_call_impl", tiny.unet._call_impl)
    with pytest.raises(sdkit.errors.Cancelled), stoppable(tiny, check):
        sdkit.generate(
            tiny, "a cat", steps=2, progress=False, on_step=lambda *_: pytest.fail("it went on")
        )
    assert not any(module._forward_pre_hooks for module in tiny.unet.modules())
