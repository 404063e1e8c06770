"""What is printed reaches any terminal, and what is exported keeps its picture."""

import base64
import io
import subprocess
import sys

import pytest
from hypothesis import given, strategies as st
from PIL import Image

import sdkit
from sdkit.pictures.gallery import Gallery
from sdkit.pictures.legible import legible, printable, say
from sdkit.result import Result
from sdkit.settings import Settings

OLD = ("cp1252", "cp437", "ascii", "latin-1", "cp1251", "shift_jis")


# -- I: printing never fails the run -----------------------------------------------------------------------------------


@given(st.text(st.characters()), st.sampled_from(OLD))
def test_any_text_can_be_printed_in_any_encoding(text, encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    say(text, stream)
    stream.flush()
    assert stream.buffer.getvalue().decode(encoding).endswith("\n")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("plain", "plain"),
        ("né à Łódź", "ne a \\u0141odz"),
        ("a × b → c ▸ …", "a x b -> c > ..."),
        ("ﬁve ½ Ⅳ", "five 1/2 IV"),
        ("中", "\\u4e2d"),
        ("🦊", "\\U0001f98a"),
        ("e\u0301", "e"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_cannot_be_shown_becomes_letters_or_an_escape(text, told):
    assert legible(text, str.isascii) == told


def test_what_can_be_shown_stays():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    assert printable("né × 中", stream) == "né × \\u4e2d"
    assert printable("né × 中", io.StringIO()) == "né × 中"


@pytest.mark.parametrize("encoding", OLD[:3])
def test_a_plan_and_a_command_print_on_an_old_terminal(tmp_path, encoding):
    code = (
        "import sdkit; from sdkit.pictures.legible import say; print(sdkit.plan()); say('Ж → 中')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONIOENCODING": encoding, "PYTHONPATH": ":".join(sys.path)}, capture_output=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"pocket: 128" in done.stdout
    assert b"-> \\u4e2d" in done.stdout


# -- I: LaTeX and PDF keep the picture ---------------------------------------------------------------------------------


def one():
    return Result([Image.new("RGB", (64, 48), "teal")], [Settings("a cat", seed=7)])


def test_the_output_of_a_cell_holds_a_picture_without_html(tiny, tmp_path):
    walk = sdkit.interpolate(tiny, ["a cat", "a dog"], frames=3, steps=1, progress=False)
    grid = sdkit.sweep(tiny, "a cat", x={"seed": [1, 2]}, steps=1, progress=False)
    for shown in (one(), walk, grid, Gallery([("a", one().image)])):
        data = base64.b64decode(shown._repr_mimebundle_()["image/jpeg"])
        with Image.open(io.BytesIO(data)) as picture:
            assert (picture.format, picture.width > 60) == ("JPEG", True)


def test_latex_shows_it():
    import nbformat
    from nbconvert import LatexExporter

    output = nbformat.v4.new_output("display_data", one()._repr_mimebundle_())
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("r", outputs=[output])])
    text, parts = LatexExporter().from_notebook_node(book)
    assert r"\includegraphics" in text or r"\adjustimage" in text
    assert [name for name in parts["outputs"] if name.endswith((".jpg", ".jpeg"))]
