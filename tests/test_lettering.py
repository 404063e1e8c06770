"""F: text drawn into pictures is legible in any script: a font that has it, or letters and escapes, never boxes."""

import warnings

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

import sdkit
from sdkit.pictures import lettering as module
from sdkit.pictures.gallery import Gallery
from sdkit.pictures.lettering import Lettering, lettering

SCRIPTS = [
    "a cat",
    "à Łódź ő",
    "кот",
    "γάτα",
    "猫が好き",
    "고양이",
    "قطة",
    "חתול",
    "बिल्ली",
    "🦊",
    "₿∑",
    "\ue000",
    "a\u200bb",
]


def drawn(font, text):
    picture = Image.new("L", (400, 40))
    ImageDraw.Draw(picture).text((4, 4), text, font=font, fill=255)
    return np.asarray(picture)


@pytest.fixture
def no_fonts(monkeypatch):
    """A system without any font of its own."""
    module._best.cache_clear()
    monkeypatch.setattr(module, "_fonts", tuple)
    yield
    module._best.cache_clear()


@pytest.mark.parametrize("text", SCRIPTS)
def test_nothing_is_drawn_as_a_box(text):
    letters = lettering([text], 20)
    box = bytes(letters.font.getmask("\U0010fffd"))
    told = letters.spell(text)
    assert told.isprintable()
    for character in told:
        assert character == " " or bytes(letters.font.getmask(character)) != box
    assert drawn(letters.font, told).any()


@pytest.mark.parametrize("text", SCRIPTS)
def test_without_fonts_there_are_letters_and_escapes(no_fonts, text):
    letters = lettering([text], 20)
    assert letters.path is None
    told = letters.spell(text)
    assert drawn(letters.font, told).any()
    assert Lettering(None, 20).spell(told) == told


def test_what_pillows_font_shows_looks_as_before():
    letters = lettering(["guidance scale: 7.5"], 16)
    assert letters.spell("guidance scale: 7.5") == "guidance scale: 7.5"
    assert (drawn(letters.font, "seed 7") == drawn(ImageFont.load_default(16), "seed 7")).all()


def test_matplotlibs_font_is_found_for_what_it_has():
    letters = lettering(["à кот", "γ"], 16)
    assert letters.path is not None
    assert [letters.spell(t) for t in ("à кот", "γ")] == ["à кот", "γ"]
    assert "LastResort" not in str(module._fonts())


def test_sheets_with_titles_of_any_script(tiny):
    picture = Image.new("RGB", (64, 64), "teal")
    plain = Gallery([("a", picture)]).sheet()
    for text in SCRIPTS:
        sheet = Gallery([(text, picture)]).sheet()
        assert sheet.height == plain.height
        assert np.asarray(sheet.convert("L"))[66:].min() < 160, text
    grid = sdkit.sweep(
        tiny, "a cat", x={"prompt": ["кот", "猫 🦊"]}, y={"seed": [1, 2]}, steps=1, progress=False
    )
    assert grid.sheet().width <= 800


@pytest.mark.parametrize("text", SCRIPTS)
def test_plots_draw_no_boxes(text):
    from matplotlib.figure import Figure

    from sdkit.plots.axes import lettered

    figure = Figure()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # "Glyph … missing from font"
        words = lettered(figure.suptitle(text, fontsize=10))
        figure.canvas.draw()
    assert words.get_fontsize() == 10
    assert words.get_text()
