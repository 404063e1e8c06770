"""The lessons run, say what they promise, and stay small; and the runner misses nothing."""

import json
import re

import nbformat
import pytest
from lessons import NOTEBOOKS, ROOT, limit, local_links, run

READ = {path: nbformat.read(path, as_version=4) for path in NOTEBOOKS}
pytestmark = pytest.mark.lesson
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


def _book(*cells):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])


def _size(book):
    return len(nbformat.writes(book).encode())


def _outputs(book):
    return [output for cell in book.cells for output in cell.get("outputs", ())]


@each
def test_notebook_runs_top_to_bottom(path, tmp_path):
    lesson = run(READ[path], tmp_path, limit(path))
    assert lesson.problems == []
    assert any("image/" in json.dumps(output) for output in _outputs(lesson.book))
    assert _size(lesson.book) <= 1_000_000


@each
def test_notebook_is_short_and_small_and_shows_something_without_being_run(path):
    book = READ[path]
    assert path.stat().st_size <= 1_000_000
    assert len(book.cells) <= 25
    outputs = json.dumps(_outputs(book))
    assert "image/" in outputs
    assert "widget-view" not in outputs, (
        "a panel shows nothing without a kernel: run tests/lessons.py"
    )
    assert not {"stderr", "error"} & {o.get("name", o.output_type) for o in _outputs(book)}
    assert "widgets" not in book.metadata


@each
def test_notebook_opens_with_what_one_will_see_and_swaps_its_model_in_one_place(path):
    first, second = READ[path].cells[:2]
    assert "**What you will see:**" in first.source
    assert second.source.startswith("MODEL = None")
    assert sum("MODEL =" in c.source for c in READ[path].cells if c.cell_type == "code") == 1


@each
def test_notebook_ends_with_exercises_whose_solutions_are_hidden_python(path):
    last = READ[path].cells[-1].source
    assert "## Try it yourself" in last
    exercises, hidden = last.split("<details>")
    assert 2 <= len(re.findall(r"^\d\. ", exercises, re.MULTILINE)) <= 3
    for code in re.findall(r"```python\n(.*?)```", hidden, re.DOTALL) or [""]:
        assert code
        compile(code, path.name, "exec")


@each
def test_links_and_pictures_in_notebook_exist(path):
    for target in local_links(READ[path]):
        assert (path.parent / target).exists(), target


def test_map_for_teachers_names_every_notebook():
    text = (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(([^)#]+)\)", text))
    assert {path.name for path in NOTEBOOKS} <= linked
    for target in linked:
        assert target.startswith("http") or (ROOT / "notebooks" / target).exists(), target


def test_runner_finds_errors_wherever_they_hide(tmp_path):
    lesson = run(
        _book(
            "1 / 0",
            "import ipywidgets\nout = ipywidgets.Output()\nwith out:\n    {}['in Output']\nout",
            "ipywidgets.interact(lambda x: {}['in interact'], x=3);",
            "button = ipywidgets.Button()\nbutton.on_click(lambda _: {}['in click'])\nbutton.click()",
            "import threading\nthread = threading.Thread(target=lambda: {}['in thread'])\nthread.start()",
            "import time\nthreading.Timer(0.2, lambda: {}['after its cell']).start()",
            "import urllib.request\n"
            "try:\n    urllib.request.urlopen('http://example.org')\nexcept OSError:\n    print('caught')",
            "thread.join(); time.sleep(1)",
            "until = time.process_time() + 1\nwhile time.process_time() < until:\n    pass",
        ),
        tmp_path,
        most=0.1,
    )
    found = "\n".join(lesson.problems)
    for sign in (
        "cell 0: ZeroDivisionError",
        "KeyError: 'in Output'",
        "KeyError: 'in interact'",
        "KeyError: 'in click'",
        "thread: KeyError: 'in thread'",
        "thread: KeyError: 'after its cell'",
        "network: example.org",
        "too dear: it costs ",
    ):
        assert sign in found, found
    assert lesson.seconds > 1


def test_runner_has_nothing_to_say_about_a_good_notebook_and_keeps_its_pictures(tmp_path):
    lesson = run(
        _book(
            "import ipywidgets, sys\nipywidgets.IntSlider()",
            "print('a note', file=sys.stderr)",
            "import socket\nwith socket.create_server(('127.0.0.1', 0)) as s:\n"
            "    socket.create_connection(s.getsockname()).close()",
            "from PIL import Image\nImage.new('RGB', (8, 8))",
        ),
        tmp_path,
    )
    assert lesson.problems == []
    assert [len(cell.outputs) for cell in lesson.book.cells] == [0, 0, 0, 1]
    assert "widgets" not in lesson.book.metadata
