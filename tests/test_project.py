"""The project's own files agree with each other: README, environment.yml, constraints."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    DOCS / "index.md",
    *(DOCS / "guide" / f"{name}.md" for name in ("pictures", "attention", "walks", "runs")),
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _names(requirements):
    return {re.split(r"[\[<>=!~ ]", r)[0].lower() for r in requirements}


def test_environment_installs_the_project_itself_and_names_nothing_else():
    parts = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    plain = [d for d in parts["dependencies"] if isinstance(d, str)]
    pip = next(d["pip"] for d in parts["dependencies"] if isinstance(d, dict))
    assert _names(plain) == {"python", "pip"}
    assert pip == ["--constraint constraints.txt", ".[lab]"]
    python = next(d for d in plain if d.startswith("python"))
    assert tuple(map(int, python.split("=")[1].split("."))) >= tuple(
        map(int, PROJECT["requires-python"].removeprefix(">=").split("."))
    )


def test_every_dependency_has_a_tested_version():
    pinned = _names(
        line
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    )
    wanted = set(PROJECT["dependencies"]).union(*PROJECT["optional-dependencies"].values())
    assert _names(wanted) - pinned - {PROJECT["name"]} == set()


def test_readme_tells_the_two_projects_apart_and_never_installs_the_other():
    assert "sdkit-notebooks" in README
    assert not re.search(r"pip install sdkit(?!-)", README)


def test_readme_links_and_pictures_exist():
    targets = re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", README)
    local = [a or b for a, b in targets if not (a or b).startswith("http")]
    assert local
    for target in local:
        assert (ROOT / target).exists(), target


def _code(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


@pytest.mark.lesson
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_python_on_pages_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "\n".join(_code(page.read_text(encoding="utf-8"), "python"))
    assert "sdkit.generate" in code or "sdkit.interpolate" in code
    exec(compile(code, page.name, "exec"), {})
    for name in re.findall(r"\.save\(\"([^\"]+)\"\)", code):
        assert (tmp_path / name).exists(), name


def test_readme_fits_on_a_few_screens_and_leaves_the_rest_to_the_site():
    assert len(README.splitlines()) <= 120
    assert (DOCS / "costs.md").read_text(encoding="utf-8").count("python benchmarks/") >= 6


def test_readme_commands_are_the_two_promised():
    blocks = _code(README, "bash")
    assert any("pip install" in b and "sdkit generate" in b for b in blocks)
    assert any("pip install" in b and "python -m pytest" in b for b in blocks)
    assert _code((DOCS / "install.md").read_text(encoding="utf-8"), "bash") == blocks
