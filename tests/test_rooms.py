"""The architecture: imports point one way, and importing the package costs nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sdkit

PACKAGE = Path(sdkit.__file__).parent
# a module may import from its own level (inside one room) and from those above it
LEVELS = [
    {"errors"},
    {
        "settings",
        "files",
        "parameters",
        "metadata",
        "sheet",
        "card",
        "jobs",
        "gallery",
        "tokens",
        "pocket",
        "pocket.world",
        "hub",
        "checkpoints",
        "licences",
        "signing",
    },
    {
        "walks",
        "sweeps",
        "traces",
        "walks.difference",
        "walks.paths",
        "walks.pacing",
        "walks.plan",
        "walks.folder",
        "video",
        "traces.predictions",
        "traces.trace",
        "sweeps.axes",
        "calls",
        "sizes",
    },
    {"result", "walks.walk"},
    {
        "models",
        "loading",
        "memory",
        "needs",
        "placement",
        "precision",
        "recovery",
        "schedulers",
        "embeddings",
        "previews",
    },
    {
        "run",
        "traces.probing",
        "traces.tracing",
        "attention",
        "attention.layers",
        "attention.parts",
        "attention.overlay",
        "attention.maps",
        "attention.record",
        "attention.capture",
    },
    {"generation"},
    {"attention.ablation", "attention.editing", "traces.forking", "executors", "walks.frames", "walks.planning"},
    {"walks.elsewhere"},
    {"walks.interpolation", "sweeps.sweeping", "sweeps.folder", "sweeps.page", "sweeps.sheet"},
    {"plots.axes", "plots.attention", "plots.traces", "plots.walks", "plots"},
    {"widgets.explorer", "widgets.working"},
    {"widgets.portable", "widgets.studio"},
    {"widgets.prompt", "widgets.attention"},
    {"widgets.drafts", "widgets.sketch", "widgets.walk", "widgets.trace"},
    {"widgets"},
    {"cli", ""},
]
RUNTIME_FREE = {
    "pocket.presets",
    "pocket.draw",
    "pocket.styles",
    "pocket.data",
    "pocket.train",
    "pocket.evaluate",
    "pocket.judge",
    "pocket.autoencoder",
    "pocket.tokenizer",
    "pocket.muon",
    "pocket.grounding",
    "pocket.checkpoint",
}


def _module(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__").removesuffix("__init__")


def _imports(path):
    """Modules of sdkit that a file imports, wherever the import stands."""
    package = list(path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
            elif node.module and node.module.split(".")[0] == "sdkit":
                base = []
            else:
                continue
            stem = (node.module or "").removeprefix("sdkit").removeprefix(".")
            names = [".".join([*base, stem])] if stem else [".".join([*base, a.name]) for a in node.names]
            yield from (n.strip(".") for n in names)


def _level(module):
    return next((i for i, level in enumerate(LEVELS) if module in level), None)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=_module)
def test_imports_point_one_way(path):
    module = _module(path)
    if module == "" or module in RUNTIME_FREE:
        return
    assert _level(module) is not None, f"{module} has no room yet: put it into LEVELS"
    for other in _imports(path):
        if other == "__version__":
            continue
        assert other not in RUNTIME_FREE, f"{module} imports {other}, which is for training only"
        assert _level(other) is not None, f"{module} imports {other}, which is in no room"
        assert _level(other) <= _level(module), f"{module} imports {other}, which is further down the house"


def test_training_knows_nothing_above_models():
    for name in RUNTIME_FREE:
        path = PACKAGE / (name.replace(".", "/") + ".py")
        assert all(other.startswith("pocket") for other in _imports(path)), f"{name} looks out of its room"


def _fresh(code):
    return subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True)


def test_import_is_light():
    count = "import sys; before = set(sys.modules); import sdkit; print(len(set(sys.modules) - before), 'torch' in sys.modules, 'PIL' in sys.modules)"
    modules, torch, pil = _fresh(count).stdout.split()
    assert int(modules) <= 150
    assert (torch, pil) == ("False", "False")


def test_init_stays_small():
    assert len((PACKAGE / "__init__.py").read_text(encoding="utf-8").splitlines()) <= 40


def test_type_checkers_see_the_same_names():
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    names = {alias.asname for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert names | {"__version__"} == set(sdkit.__all__)


def test_every_public_name_arrives():
    for name in sdkit.__all__:
        assert getattr(sdkit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'genrate'"):
        _ = sdkit.genrate


def test_knowing_the_words_needs_no_torch():
    code = "import sys, sdkit; sdkit.pocket.vocabulary(); sdkit.Settings(prompt='a'); print('torch' in sys.modules)"
    assert _fresh(code).stdout.strip() == "False"
