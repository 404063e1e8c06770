"""What a person does with each explorer, in JupyterLab in Chromium; the kernel is asked afterwards what it saw."""

from __future__ import annotations

import json

import pytest
from test_card import HOSTILE

from .conftest import SETUP

pytestmark = pytest.mark.browser


def drag(page, label, share, moves=12):
    """Drag the slider of this name to a share of its length, as a hand does."""
    box = page.get_by_role("slider", name=label).first.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, y)
    page.mouse.down()
    for n in range(moves):
        page.mouse.move(box["x"] + box["width"] * (0.5 + (share - 0.5) * (n + 1) / moves), y)
    page.mouse.up()


def source(page, selector=".sd-now"):
    return page.locator(selector).first.get_attribute("src")


def changed(page, before, selector=".sd-now"):
    page.wait_for_function(
        "([s, b]) => { const i = document.querySelector(s); return i.src && i.src !== b && i.complete && i.naturalWidth; }",
        arg=[selector, before],
    )


def idle(page):
    page.wait_for_function(
        "() => document.querySelector('.sd-status').textContent.includes('seed')"
    )


def ask(book, index):
    """Run a cell that prints JSON, and return it."""
    book.run_cell(index)
    return json.loads(book.text_of(index)[-1])


def test_prompt_explorer_follows_the_hand(notebook):
    book = notebook(
        SETUP,
        "e = PromptExplorer(pipe, 'a cat, watercolor', steps=4); e",
        "import json; e.worker.join(60); print(json.dumps([e.settings.guidance_scale, e.worker.runs, e.result.settings.guidance_scale, str(e.error), e.worker.traceback]))",
        "import numpy as np; again = eval(e.view['code']); print(json.dumps(bool((np.asarray(again.image) == np.asarray(e.result.image)).all())))",
        "e.make(steps=1000); e.worker.join(0); print('[]')",
        "import json; print(json.dumps([e.worker.join(60), e.worker.busy, e.result.settings.steps]))",
    )
    book.run_cell(0)
    book.run_cell(1)
    page = book.page
    idle(page)
    first = source(page)
    drag(page, "guidance", 0.9)
    changed(page, first)
    idle(page)
    guidance, runs, shown, *errors = ask(book, 2)
    assert errors == ["None", ""]
    assert guidance == shown > 5, "the picture on show is not the one of the slider's last value"
    assert f"guidance {guidance:g}" in page.locator(".sd-status").first.text_content()

    # undo is instant: the picture comes from memory
    now = source(page)
    page.get_by_role("button", name="back to the picture before").click()
    changed(page, now)
    assert ask(book, 2)[1] == runs
    page.get_by_role("button", name="pin this picture").click()
    page.locator(".sd-compare .sd-before").wait_for()

    # the code is the picture
    page.get_by_role("button", name="Copy as code").click()
    assert page.evaluate("navigator.clipboard.readText()").startswith(
        "sdkit.generate(pipe, 'a cat, watercolor', seed=0"
    )
    assert ask(book, 3) is True

    # words behind the end are told
    page.get_by_role("textbox", name="prompt", exact=True).fill("cat " * 40)
    page.locator(".sd-cut").first.wait_for()
    assert page.locator(".sd-over").text_content() == "40 of 30 tokens"

    # Stop, in the middle of a long run
    book.run_cell(4)
    page.wait_for_function(
        "() => /step [1-9]\\d* of 1000/.test(document.querySelector('.sd-status').textContent)"
    )
    page.get_by_role("button", name="stop at once").click()
    idle(page)
    stopped, busy, steps = ask(book, 5)
    assert (stopped, busy) == (True, False)
    assert steps != 1000, "a stopped picture is not shown"
    assert book.problems == []


def test_running_a_cell_again_does_not_double_anything(notebook):
    book = notebook(
        SETUP,
        "e = PromptExplorer(pipe, 'a cat', steps=2); e",
        "import json, threading, ipywidgets; from sdkit.widgets.explorer import Explorer; e.worker.join(60)\n"
        "print(json.dumps([sum(isinstance(w, Explorer) and not w._closed for w in list(ipywidgets.Widget._instances.values()) if True) "
        "if hasattr(ipywidgets.Widget, '_instances') else 1, sum(t.name == 'sdkit-worker' for t in threading.enumerate())]))",
        "e.close(); print('[]')",
    )
    book.run_cell(0)
    for _ in range(3):
        book.run_cell(1)
        idle(book.page)
    assert book.page.locator(".sdkit").count() == 1
    assert ask(book, 2) == [1, 0]
    ask(book, 3)
    book.page.locator(".sdkit").wait_for(state="detached")
    assert book.page.locator(".sdkit-still img").is_visible(), "a closed panel leaves its picture"


def test_a_saved_notebook_shows_a_picture_without_a_kernel(notebook):
    book = notebook(SETUP, "e = PromptExplorer(pipe, 'a cat <b>&', steps=2); e")
    book.run_cell(0)
    book.run_cell(1)
    idle(book.page)
    book.page.wait_for_function("() => document.querySelector('.sdkit-still img')")
    assert not book.page.locator(".sdkit-still").is_visible(), (
        "the still is hidden while the panel lives"
    )
    saved = book.save()
    outputs = saved["cells"][1]["outputs"]
    assert any(
        "data:image/webp" in "".join(o.get("data", {}).get("text/html", "")) for o in outputs
    )
    assert book.path.stat().st_size <= 400_000
    book.shut_down()
    book.page.reload()
    book.page.locator(".sdkit-still img").wait_for()
    book.page.wait_for_function(
        "() => !document.body.innerText.includes('Error displaying widget')"
    )


def test_every_control_is_reached_by_keyboard_and_keys_stay_in_the_panel(notebook):
    book = notebook(SETUP, "e = PromptExplorer(pipe, 'a cat', steps=2); e")
    book.run_cell(0)
    book.run_cell(1)
    page = book.page
    idle(page)
    page.get_by_role("textbox", name="prompt", exact=True).focus()
    reached = []
    for _ in range(16):
        reached.append(
            page.evaluate(
                "(() => { const e = document.activeElement; return e.getAttribute('aria-label') || e.title || e.closest('label')?.innerText || e.textContent; })()"
            )
        )
        page.keyboard.press("Tab")
    told = " | ".join(reached)
    for name in (
        "prompt",
        "guidance",
        "steps",
        "seed",
        "another seed",
        "size",
        "scheduler",
        "negative prompt",
        "pin",
        "Copy as code",
        "save",
        "the same in code",
    ):
        assert name in told, f"{name} is not reached by Tab: {told}"
    slider = page.get_by_role("slider", name="guidance")
    slider.focus()
    before = float(slider.input_value())
    page.keyboard.press("ArrowRight")
    assert float(slider.input_value()) == pytest.approx(before + 0.1)
    page.get_by_role("button", name="Copy as code").focus()
    page.keyboard.press("d")
    page.keyboard.press("d")
    page.keyboard.press("Escape")
    assert page.locator(".jp-CodeCell").count() == 2, "'d d' in the panel deleted the cell"
    nameless = page.evaluate("""() => [...document.querySelectorAll('.sdkit button, .sdkit input, .sdkit select, .sdkit textarea, .sdkit img')]
        .filter((e) => !(e.getAttribute('aria-label') || e.title || e.closest('label') || e.textContent.trim() || e.hasAttribute('alt'))).map((e) => e.outerHTML)""")
    assert nameless == []


def test_drafts_board_branches_keeps_and_exports(notebook):
    book = notebook(
        SETUP,
        "b = DraftsBoard(pipe, 'a cat', count=4, steps=2); b",
        "import json; b.worker.join(60); print(json.dumps([[d.settings.variation_amount for d in b.drafts], len(b.kept), str(b.error), b.worker.traceback, b.message]))",
    )
    book.run_cell(0)
    book.run_cell(1)
    page = book.page
    page.locator(".sd-sheet .sd-open:not([disabled])").nth(3).wait_for()
    assert ask(book, 2) == [[0, 0, 0, 0], 0, "None", "", ""]
    page.get_by_role("button", name="branch from this draft").nth(1).click()
    page.locator(".sd-trail .sd-thumb").wait_for()
    assert ask(book, 2)[0] == [0.3] * 4
    before = source(page, ".sd-sheet img")
    drag(page, "stray", 0.95)
    changed(page, before, ".sd-sheet img")
    page.wait_for_function(
        "() => !document.querySelector('.sd-sheet').classList.contains('sd-running')"
    )
    assert all(amount > 0.8 for amount in ask(book, 2)[0])
    page.locator(".sd-sheet .sd-tile").nth(2).hover()
    page.locator(".sd-sheet").get_by_role("button", name="keep").nth(2).click()
    page.locator(".sd-kept .sd-tile").wait_for()
    page.locator(".sd-sheet").get_by_role("button", name="discard").first.click()
    page.wait_for_function("() => document.querySelector('.sd-sheet .sd-tile').hidden")
    page.get_by_role("button", name="save the kept drafts").click()
    page.get_by_text("Saved 1 drafts as a-cat-").wait_for()
    amounts, kept, error, traceback, _ = ask(book, 2)
    assert (len(amounts), kept, error, traceback) == (3, 1, "None", "")
    assert book.problems == []


def test_sketchpad_turns_strokes_into_pictures(notebook):
    book = notebook(
        SETUP,
        "pad = Sketchpad(pipe, 'a house', steps=4); pad",
        "import json, numpy as np; pad.worker.join(60); a = np.asarray(pad.image); print(json.dumps([pad.result.settings.task, a.shape, "
        "int((a != 255).any(-1).sum()), None if pad.mask is None else [int(v) for v in np.unique(pad.mask)], str(pad.error), pad.worker.traceback]))",
    )
    book.run_cell(0)
    book.run_cell(1)
    page = book.page
    box = page.locator(".sd-board").bounding_box()

    def stroke(a, b):
        page.mouse.move(box["x"] + box["width"] * a[0], box["y"] + box["height"] * a[1])
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * b[0], box["y"] + box["height"] * b[1], steps=6)
        page.mouse.up()

    page.get_by_role("button", name="red").click()
    stroke((0.2, 0.7), (0.8, 0.7))
    idle(page)
    task, shape, painted, mask, *errors = ask(book, 2)
    assert (task, shape, mask, errors) == ("image-to-image", [32, 32, 3], None, ["None", ""])
    assert 32 < painted < 32 * 32 / 2
    first = source(page)
    stroke((0.3, 0.2), (0.6, 0.5))
    changed(page, first)
    idle(page)
    assert ask(book, 2)[2] > painted
    page.get_by_role("button", name="paint what").click()
    second = source(page)
    stroke((0.2, 0.2), (0.5, 0.4))
    changed(page, second)
    idle(page)
    task, _, _, mask, *errors = ask(book, 2)
    assert (task, errors) == ("inpainting", ["None", ""])
    assert {0, 255} <= set(mask)
    page.get_by_role("button", name="undo (z)").click()
    page.get_by_role("button", name="undo (z)").click()
    page.get_by_role("button", name="undo (z)").click()
    assert page.get_by_role("button", name="undo (z)").is_disabled()
    assert book.problems == []


HOVER = "a = sdkit.generate(pipe, 'a red car on a beach', steps=3, progress=False, attention={'steps': True, 'heads': True}); x = AttentionExplorer(a); x"


def test_attention_explorer_needs_no_kernel(notebook, browser, tmp_path):
    book = notebook(SETUP, HOVER, f"print(x.to_html({str(tmp_path / 'x.html')!r}).stat().st_size)")
    page = book.page
    sent = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda data: sent.append(data)))  # noqa: PLW0108 - no built-ins
    page.reload()
    book.wait()
    book.run_cell(0)
    book.run_cell(1)
    page.locator(".sd-bar").nth(4).wait_for()
    page.wait_for_timeout(1000)  # let what follows the run pass
    before = len(sent)
    look_at_words(page)
    assert len(sent) == before, "hovering sent a message to the kernel"
    book.run_cell(2)
    assert int(book.text_of(2)[-1]) < 400_000

    exported, problems = alone(browser, tmp_path / "x.html")
    look_at_words(exported)
    assert problems == book.problems == []
    exported.context.close()


def test_a_words_light_is_pushed_by_hand(notebook):
    book = notebook(
        SETUP,
        "r = sdkit.generate(pipe, 'a red car on a beach', steps=3, seed=1, attention=True, progress=False)\n"
        "x = AttentionExplorer(r, pipe); x",
        "import json; x.worker.join(60)\n"
        "print(json.dumps([x.result is not r, list(x.result.notes), x.moved.get('places'), x.worker.traceback]))",
    )
    book.run_cell(0)
    book.run_cell(1)
    page = book.page
    page.locator(".sd-bar").nth(2).click()
    assert "drag the light of" in page.locator(".sd-status").first.text_content()
    first = source(page, ".sd-look img")
    box = page.locator(".sd-look").bounding_box()
    at = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]
    page.mouse.move(*at)
    page.mouse.down()
    for n in range(1, 6):
        page.mouse.move(at[0] - 0.04 * n * box["width"], at[1])
    page.mouse.up()
    changed(page, first, ".sd-look img")
    moved, notes, places, trouble = ask(book, 2)
    assert (moved, trouble) == (True, "")
    assert [word for word, _ in places] == [2]
    assert any("car" in note for note in notes)

    # from there by the keyboard, and back to the picture that was given
    second = source(page, ".sd-look img")
    page.locator(".sd-look").focus()
    page.keyboard.press("ArrowRight")
    changed(page, second, ".sd-look img")
    assert ask(book, 2)[2][0][1][0] > places[0][1][0]
    third = source(page, ".sd-look img")
    page.get_by_role("button", name="all light where it was, and the first picture").click()
    changed(page, third, ".sd-look img")
    assert ask(book, 2)[0] is False
    assert book.problems == []


def look_at_words(page):
    """Hover, lock two, move the step slider, click the picture; each changes what is seen, at once."""
    heat = "(() => { const c = document.querySelector('.sd-heat'); return c.hidden ? '' : c.toDataURL(); })()"
    assert page.evaluate(heat) == ""
    page.locator(".sd-bar").nth(2).hover()
    car = page.evaluate(heat)
    page.locator(".sd-bar").nth(4).hover()
    beach = page.evaluate(heat)
    assert len({"", car, beach}) == 3
    page.locator(".sd-bar").nth(2).click()
    page.locator(".sd-bar").nth(4).click()
    assert page.locator(".sd-bar[aria-pressed=true]").count() == 2
    assert page.evaluate(heat) not in {car, beach, ""}
    page.keyboard.press("Escape")
    step = page.get_by_role("slider", name="step")
    step.focus()
    page.keyboard.press("ArrowRight")
    assert step.input_value() == "1"
    shares = page.locator(".sd-bars").inner_text()
    box = page.locator(".sd-look").bounding_box()
    page.mouse.click(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
    assert page.locator(".sd-bars").inner_text() != shares
    assert page.locator(".sd-pin").is_visible()


def test_notebook_7_shows_the_same_panel(notebook):
    book = notebook(SETUP, "e = PromptExplorer(pipe, 'a cat', steps=2); e", app="notebooks")
    book.run()
    idle(book.page)
    first = source(book.page)
    drag(book.page, "guidance", 0.9)
    changed(book.page, first)
    assert book.problems == []


def alone(browser, path):
    """Open an exported page from disk, with the network off; return it and what went wrong in it."""
    context = browser.new_context(
        offline=True, color_scheme="dark", viewport={"width": 800, "height": 900}
    )
    page, problems = context.new_page(), []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda message: problems.append(message.text) if message.type == "error" else None,
    )
    page.goto(f"file://{path}")
    page.locator(".sdkit").wait_for()
    return page, problems


def test_trace_explorer_remixes_in_the_page_and_forks_in_the_kernel(notebook, browser, tmp_path):
    book = notebook(
        SETUP,
        "t = TraceExplorer(pipe, sdkit.generate(pipe, 'a cat', steps=5, progress=False, trace=True)); t",
        f"import json; t.worker.join(60); t.to_html({str(tmp_path / 't.html')!r}); print(json.dumps([t.result.settings.prompt, t.worker.traceback]))",
    )
    book.run_cell(0)
    book.run_cell(1)
    page = book.page
    page.locator(".sd-mini").nth(3).wait_for()
    look_at_steps(page)
    page.get_by_role("textbox", name="prompt from here on").fill("a dog")
    page.get_by_role("button", name="make the picture").click()
    page.locator(".sd-strip .sd-thumb").nth(1).wait_for()
    assert ask(book, 2) == ["a dog", ""]
    page.locator(".sd-strip .sd-thumb").first.click()
    page.wait_for_function(
        "() => document.querySelector('[aria-label=\"prompt from here on\"]').value === 'a cat'"
    )
    exported, problems = alone(browser, tmp_path / "t.html")
    look_at_steps(exported)
    assert exported.get_by_role("button", name="make the picture").count() == 0
    assert problems == book.problems == []
    exported.context.close()


def look_at_steps(page):
    """Move through the steps and the guidance; each changes what is seen."""
    step = page.get_by_role("slider", name="step")
    step.fill("1")
    first = source(page, "img.sd-film")
    step.fill("3")
    assert source(page, "img.sd-film") != first
    canvas = "(() => { const c = document.querySelector('canvas.sd-film'); return c.hidden ? '' : c.toDataURL(); })()"
    assert page.evaluate(canvas) == ""
    page.get_by_role("slider", name="guidance").fill("12")
    strong = page.evaluate(canvas)
    page.get_by_role("slider", name="guidance").fill("0")
    assert len({"", strong, page.evaluate(canvas)}) == 3
    page.get_by_role("button", name="back to the guidance").click()
    assert page.evaluate(canvas) == ""


def test_walk_explorer_scrubs_plays_and_exports(notebook, browser, tmp_path):
    book = notebook(
        SETUP,
        "w = WalkExplorer(pipe, ['a cat', 'a dog'], frames=6, steps=2); w",
        f"import json; w.worker.join(60); w.to_html({str(tmp_path / 'w.html')!r}); print(json.dumps([len(w.walk), [k.prompt for k in w.keyframes], w.worker.traceback]))",
    )
    book.run_cell(0)
    book.run_cell(1)
    page = book.page
    page.locator(".sd-status", has_text="6 frames").wait_for()
    assert ask(book, 2) == [6, ["a cat", "a dog"], ""]
    scrub_and_play(page)
    page.get_by_role("textbox", name="prompt of this keyframe").nth(1).fill("a fox")
    told = next((t for _ in range(30) if (t := ask(book, 2)[1]) == ["a cat", "a fox"]), None)
    assert told, "the new keyframe never reached the kernel"
    page.locator(".sd-status", has_text="6 frames").wait_for()
    page.get_by_role("button", name="save the walk as .gif").click()
    page.get_by_text("Saved as a-cat-0-walk.gif").wait_for()
    exported, problems = alone(browser, tmp_path / "w.html")
    scrub_and_play(exported)
    assert problems == book.problems == []
    exported.context.close()


def scrub_and_play(page):
    """Move the place, then play: what is drawn changes."""
    drawn = "document.querySelector('.sd-film').dataset.frame"
    place = page.get_by_role("slider", name="place")
    page.wait_for_function(f"() => {drawn} !== undefined")
    place.fill("1")
    assert page.evaluate(drawn) == "5"
    place.fill("0")
    assert page.evaluate(drawn) == "0"
    page.get_by_role("button", name="play or pause").click()
    page.wait_for_function(f"() => Number({drawn}) >= 3")
    page.get_by_role("button", name="play or pause").click()


def test_no_text_becomes_markup(notebook):
    book = notebook(
        SETUP,
        f"import json; HOSTILE = json.loads({json.dumps(json.dumps(HOSTILE))})\n"
        "from ipywidgets import VBox\nfrom types import SimpleNamespace as N\nimport numpy as np\n"
        "nothing = lambda word: {}\n"
        "class Maps(dict):\n"
        "    image = None\n    by_step = by_layer = by_head = lambda self, word: (_ for _ in ()).throw(sdkit.errors.InvalidSettings('not kept'))\n"
        "def maps(text):\n    m = Maps({text: np.ones((8, 8), np.float32), 'a': np.ones((8, 8), np.float32)}); m.words = [text, 'a']; return m\n"
        "panels = []\n"
        "for text in HOSTILE:\n"
        "    panels += [PromptExplorer(pipe, text, steps=1, negative_prompt=text), DraftsBoard(pipe, text, count=2, steps=1), Sketchpad(pipe, text, steps=1), AttentionExplorer(maps(text))]\n"
        "for p in panels:\n    getattr(p, 'worker', N(join=lambda: None)).join(); p.message = p.note = HOSTILE[1]\n"
        "VBox(panels)",  # one output: JupyterLab folds more than fifty away
    )  # fmt: skip
    book.run_cell(0)
    book.run_cell(1)
    page = book.page
    page.wait_for_function(
        f"() => document.querySelectorAll('.sdkit').length === {4 * len(HOSTILE)}"
    )
    found = page.evaluate(
        """() => [...document.querySelectorAll('.sdkit *')].map((e) => [e.localName, ...e.getAttributeNames()])"""
    )
    allowed = {
        "button", "canvas", "code", "details", "div", "figcaption", "figure", "img", "input", "label", "li", "nav", "ol",
        "option", "output", "p", "pre", "progress", "section", "select", "span", "summary", "textarea",
    }  # fmt: skip
    assert {tag for tag, *_ in found} <= allowed
    assert not [
        name
        for _, *names in found
        for name in names
        if name.startswith("on") or name in {"href", "srcdoc", "action"}
    ]
    assert page.evaluate(
        "[...document.querySelectorAll('.sdkit img')].every((i) => !i.src || i.src.startsWith('blob:'))"
    )
    texts = page.evaluate("[...document.querySelectorAll('.sdkit textarea')].map((t) => t.value)")
    assert HOSTILE[1] in texts, "the text itself is shown as it is"
    assert book.problems == []
