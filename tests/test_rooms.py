"""The architecture: imports point one way, and importing the package costs nothing."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import sdkit

PACKAGE = Path(sdkit.__file__).parent
MOST_AT_THE_TOP = 20


def test_the_house_is_seen_at_a_glance():
    rooms = {p.name for p in PACKAGE.iterdir() if not p.name.startswith("__")}
    assert len(rooms) <= MOST_AT_THE_TOP, sorted(rooms)


def test_no_room_imports_in_a_circle_and_training_stays_apart():
    """The contracts stand in pyproject.toml: acyclic siblings at every depth, and training, which nothing needs at run time."""
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
    ]
    done = subprocess.run(
        [*command, "--no-cache"], capture_output=True, text=True, cwd=PACKAGE.parent, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_a_choice_of_three_is_written_out():
    """A conditional expression inside another one has to be read twice."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for outer in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(outer, ast.IfExp):
                inner = [
                    node
                    for node in ast.walk(outer)
                    if isinstance(node, ast.IfExp) and node is not outer
                ]
                assert not inner, f"{path}:{outer.lineno}"


def _fresh(code):
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True
    )


def test_import_is_light():
    count = "import sys; before = set(sys.modules); import sdkit; print(len(set(sys.modules) - before), 'torch' in sys.modules, 'PIL' in sys.modules)"
    modules, torch, pil = _fresh(count).stdout.split()
    assert int(modules) <= 150
    assert (torch, pil) == ("False", "False")


def test_init_stays_small():
    assert len((PACKAGE / "__init__.py").read_text(encoding="utf-8").splitlines()) <= 40


def test_type_checkers_see_the_same_names():
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    names = {
        alias.asname
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert names | {"__version__"} == set(sdkit.__all__)


def test_every_public_name_arrives():
    for name in sdkit.__all__:
        assert getattr(sdkit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'genrate'"):
        _ = sdkit.genrate


def test_knowing_the_words_needs_no_torch():
    code = "import sys, sdkit; sdkit.pocket.vocabulary(); sdkit.Settings(prompt='a'); print('torch' in sys.modules)"
    assert _fresh(code).stdout.strip() == "False"


# where it may be said which family a pipeline is of: these rooms describe it for all others
_KNOWING = ("pipelines", "models")
_NAMES = re.compile(
    r"FlowMatch|text_time|img_ids|tokenizer_[23]|\b(StableDiffusion|Flux|SDXL|SD3|QwenImage|ZImage)\w*(Pipeline|Transformer)"
    r"|hasattr\(\w+, \"(unet|transformer)\"\)|\.unet\b|\.transformer\b"
)


def _without_words(path):
    """The code of a module, without comments and docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            node.value.value = ""
    return ast.unparse(tree)


def test_only_two_rooms_tell_families_apart():
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0]
        if (
            room not in _KNOWING
            and room != "pocket"
            and (hit := _NAMES.search(_without_words(path)))
        ):
            found.append(f"{path.relative_to(PACKAGE)}: {hit[0]}")
    assert found == []
