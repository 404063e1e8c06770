"""A page with the model inside, opened from disk in Chromium: torch's picture, by keyboard, and not one request."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

import sdkit
from sdkit.widgets import PromptExplorer

from .conftest import WAIT

pytestmark = pytest.mark.browser
FIRST = {"seed": 7, "steps": 3, "guidance_scale": 4.0}


@pytest.fixture
def halved(tiny):
    """A pipeline whose weights are what a page keeps of them."""
    for part in (tiny.unet, tiny.vae, tiny.text_encoder):
        for weight in part.parameters():
            weight.data = weight.data.half().float()
    return tiny


@pytest.fixture
def opened(halved, browser, tmp_path):
    """The page of a panel, and what it asked for or complained about."""
    explorer = PromptExplorer(halved, "a red fox on a beach", **FIRST)
    path = explorer.to_html(tmp_path / "live.html")
    explorer.close()
    context = browser.new_context(viewport={"width": 820, "height": 1100}, accept_downloads=True)
    context.set_default_timeout(WAIT)
    expect.set_options(timeout=WAIT)
    page, heard = context.new_page(), []
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda r: heard.append(r.url) if r.url.startswith("http") else None)
    page.goto(path.as_uri())
    page.locator("[data-made='1'][data-steps='3']").wait_for()
    yield page
    assert heard == []
    context.close()


def saved(page):
    with page.expect_download() as download:
        page.get_by_role("button", name="save the picture").click()
    return np.asarray(Image.open(download.value.path()).convert("RGB"), int)


def torchs(pipe, prompt="a red fox on a beach", **changes):
    made = sdkit.generate(pipe, prompt, progress=False, **FIRST | changes)
    return np.asarray(made.image, int)


def test_its_picture_is_torchs(opened, halved):
    assert np.abs(saved(opened) - torchs(halved)).max() <= 2
    expect(opened.locator(".sd-engine")).to_contain_text("WebAssembly, one thread")
    assert opened.locator(".sd-look-word").all_inner_texts() == ["a", "red", "fox", "on", "a", "beach"]  # fmt: skip

    # another prompt and another seed, by keyboard alone
    opened.get_by_role("textbox", name="prompt", exact=True).fill("a blue walrus, watercolor")
    opened.get_by_role("spinbutton", name="seed").fill("123456789")
    expect(opened.locator(".sd-status").first).to_contain_text("seed 123456789, 3 steps")
    expect(opened.locator(".sd-look-word")).to_have_count(4)
    assert np.abs(saved(opened) - torchs(halved, "a blue walrus, watercolor", seed=123456789)).max() <= 2  # fmt: skip
    opened.get_by_role("slider", name="guidance").press("Home")
    expect(opened.locator(".sd-status").first).to_contain_text("guidance 1.0")
    now = torchs(halved, "a blue walrus, watercolor", seed=123456789, guidance_scale=1.0)
    assert np.abs(saved(opened) - now).max() <= 2


def test_words_and_steps_answer_to_the_keyboard(opened, halved):
    word = opened.locator(".sd-look-word").nth(2)
    word.focus()
    word.press("Enter")
    expect(word).to_have_attribute("aria-pressed", "true")
    expect(opened.locator(".sd-heat")).to_be_visible()
    word.press("Enter")
    expect(opened.locator(".sd-heat")).to_be_hidden()
    steps = opened.locator(".sd-steps button")
    expect(steps).to_have_count(3)
    steps.first.focus()
    steps.first.press("ArrowRight")
    expect(steps.nth(1)).to_be_focused()
    expect(opened.locator(".sd-status").first).to_contain_text("step 2 of 3")
    width = opened.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert width[0] <= width[1], "the page is wider than a tablet"

    limit = halved.tokenizer.model_max_length - 2
    opened.get_by_role("textbox", name="prompt", exact=True).fill("a " * (limit + 1))
    expect(opened.locator(".sd-count")).to_have_class("sd-count sd-over")
    expect(opened.locator(".sd-cut")).to_have_count(1)
