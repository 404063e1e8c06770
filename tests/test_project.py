"""The project's own files agree with each other: README, environment.yml, constraints."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
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


@pytest.mark.lesson
def test_readme_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "\n".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    assert "sdkit.generate" in code
    namespace = {}
    exec(compile(code, "README.md", "exec"), namespace)
    assert (tmp_path / "car.png").exists()


def test_readme_commands_are_the_two_promised():
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    assert any("pip install" in b and "sdkit generate" in b for b in blocks)
    assert any("pip install" in b and "python -m pytest" in b for b in blocks)
