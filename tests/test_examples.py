"""Every public name has an example in its docstring that runs, and a page in the reference."""

import ast
import doctest
import importlib
import inspect
import re

import matplotlib.pyplot as plt
import pytest
from lessons import ROOT

import sdkit

OFFERED = (ROOT / "sdkit" / "__init__.pyi").read_text(encoding="utf-8")
ROOMS = ("plots", "widgets", "pocket")
PARSER = doctest.DocTestParser()


def _names():
    """Public names: what `__init__.pyi` offers, and what three of its rooms do."""
    for node in ast.parse(OFFERED).body:
        if isinstance(node, ast.ImportFrom):
            names = {alias.asname or alias.name for alias in node.names}
            yield from (f"sdkit.{name}" for name in sorted(names - set(ROOMS)))
    for room in ROOMS:
        offered = importlib.import_module(f"sdkit.{room}").__all__
        yield from (f"sdkit.{room}.{name}" for name in offered)


NAMES = tuple(_names())
each = pytest.mark.parametrize("name", NAMES)


def _examples(name):
    room, _, own = name.rpartition(".")
    doc = inspect.getdoc(getattr(importlib.import_module(room), own)) or ""
    assert "Examples\n--------" in doc, f"{name} has no example: give its docstring a section of it"
    return doc.partition("Examples\n--------")[2]


@pytest.fixture(scope="module")
def pocket():
    return sdkit.load(device="cpu")


@pytest.mark.lesson
@each
def test_example_runs_and_says_what_it_promises(name, pocket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = {"sdkit": sdkit, "pipe": pocket}
    test = PARSER.get_doctest(_examples(name), before, name, None, 0)
    said = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    failed = runner.run(test, out=said.append, clear_globs=False).failed
    plt.close("all")
    assert not failed, "".join(said)
    # it is about this name: it calls it, or holds one of its kind at the end
    own = name.rpartition(".")[2]
    called = "".join(e.source for e in test.examples if doctest.SKIP not in e.options)
    held = {type(value).__name__ for value in test.globs.values()}
    assert re.search(rf"\b{own}\b", called) or own in held


def test_runner_notices_an_example_that_went_stale():
    test = PARSER.get_doctest(">>> 1 + 1\n3\n", {}, "stale", None, 0)
    assert doctest.DocTestRunner().run(test, out=lambda _: None).failed == 1


def test_reference_has_a_page_for_every_public_name_and_no_other():
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    public, _, returned = text.partition("## What these return")
    assert sorted(re.findall(r"^   (sdkit\.[\w.]+)$", public, re.MULTILINE)) == sorted(
        (*NAMES, "sdkit.errors")
    )
    for name in re.findall(r"^   (sdkit\.[\w.]+)$", returned, re.MULTILINE):
        room, _, own = name.rpartition(".")
        assert hasattr(importlib.import_module(room), own), name
