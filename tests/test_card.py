"""The card in a notebook: what it says, and that no prompt can become markup."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

import pytest
from hypothesis import given, strategies as st
from PIL import Image

from sdkit.pictures import card
from sdkit.pictures.card import caption, figure
from sdkit.settings import Settings

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    '"><script>alert(1)</script>',
    "'><svg onload=alert(1)>",
    "</figure><script>1</script>",
    "</figcaption></figure><iframe src=//evil>",
    '" onload="alert(1)',
    "' onmouseover='alert(1)",
    "<!-- ",
    "--><b>",
    "<![CDATA[<b>]]>",
    "&lt;script&gt;",
    "&#60;script&#62;",
    "<a href='javascript:alert(1)'>x</a>",
    "<style>*{display:none}</style>",
    "</bdi><h1>big</h1>",
    "<br/><base href=//evil>",
    "\x00<scr\x00ipt>",
    "\u2028<math><mi//xlink:href='data:x'>",
    '`"`><object data=x>',
    "<" * 400,
    "\u202e\\(\\href{javascript:alert(1)}{x}\\) $$x$$",
    "x\r\n<textarea>",
]
EXPECTED = [
    ("figure", {"class", "style"}),
    ("img", {"src", "alt", "width", "height", "style"}),
    ("figcaption", {"style"}),
    ("bdi", set()),
]


class Outline(HTMLParser):
    """Collect the elements with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, set[str]]] = []
        self.values: dict[str, str] = {}
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "br":
            self.elements.append((tag, {name for name, _ in attrs}))
        self.values |= {f"{tag}.{name}": value or "" for name, value in attrs}

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def handle_comment(self, data: str) -> None:
        self.elements.append(("!--", {data}))

    def handle_decl(self, decl: str) -> None:
        self.elements.append(("!", {decl}))

    unknown_decl = handle_pi = handle_decl


def picture() -> Image.Image:
    return Image.new("RGB", (8, 8), "orange")


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_stays_text(hostile: str) -> None:
    settings = Settings(hostile, negative_prompt=hostile, model=hostile, version=hostile)
    outline = Outline(figure(picture(), [settings, settings], 1.0, notes=[hostile]))
    assert outline.elements == EXPECTED
    visible = " ".join("".join(max(c, " ") for c in hostile).split())[:299]
    assert outline.values["img.alt"].startswith(visible)
    assert "".join(outline.text).count(visible) == 2  # the prompt and the note


@given(st.text(min_size=1), st.text())
def test_any_text_stays_text(prompt: str, note: str) -> None:
    prompt = prompt.encode("utf-8", errors="replace").decode()
    assert Outline(figure(picture(), [Settings(f"p{prompt}")], notes=[note])).elements == EXPECTED


def test_the_caption_tells_what_is_set() -> None:
    settings = Settings(
        "a cat", seed=7, steps=20, guidance_scale=5, scheduler="ddim", width=64, height=64
    )
    size = "64\N{MULTIPLICATION SIGN}64"
    assert caption([settings], 0.94) == f"seed 7 · 20 steps · guidance 5 · DDIM · {size} · 0.9 s"
    assert caption([Settings()]) == "seed 0"
    assert (
        caption([Settings(seed=seed, guidance_scale=0) for seed in range(9)])
        == "seeds 0, 1, 2, 3 … · guidance 0"
    )
    draft = Settings(task="image-to-image", strength=0.5, variation_seed=1, variation_amount=0.25)
    assert caption([draft]) == "seed 0 · strength 0.5 · variation 0.25"


def test_one_raster_that_is_a_small_webp() -> None:
    html = figure(picture(), [Settings("a cat")])
    assert html.count("base64,") == html.count("<img") == 1
    kind, _, data = Outline(html).values["img.src"].partition(";base64,")
    assert kind == "data:image/webp"
    assert Image.open(io.BytesIO(base64.b64decode(data))).format == "WEBP"


def test_jpeg_steps_in_where_pillow_has_no_webp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card.features, "check", lambda _: False)
    assert 'src="data:image/jpeg;base64,' in figure(picture(), [Settings()])


def test_long_and_different_prompts_are_shortened() -> None:
    assert len(Outline(figure(picture(), [Settings("word " * 1000)])).values["img.alt"]) == 300
    several = Outline(figure(picture(), [Settings("a cat"), Settings("a fox"), Settings("a cat")]))
    assert several.values["img.alt"] == "2 prompts: a cat | a fox"


def test_mathjax_and_dark_themes_are_respected() -> None:
    outline = Outline(figure(picture(), [Settings(r"a \(cat\) for $5")]))
    assert {"mathjax_ignore", "tex2jax_ignore"} <= set(outline.values["figure.class"].split())
    assert "color" not in " ".join(
        value for name, value in outline.values.items() if name.endswith("style")
    )
