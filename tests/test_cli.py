"""The shell commands, run as a person would run them."""

import subprocess
import sys

import pytest
from PIL import Image

import sdkit
from sdkit import cli


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "sdkit.cli", *arguments], capture_output=True, text=True, check=False
    )


def test_generate_saves_a_picture_that_knows_its_settings(tmp_path):
    target = tmp_path / "cat.png"
    done = run(
        "generate", "a cat on a purple background", "-o", str(target), "--steps", "4", "--seed", "5"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(target)
    settings = sdkit.load_result(target).settings
    assert (settings.prompt, settings.seed, settings.steps) == (
        "a cat on a purple background",
        5,
        4,
    )


def test_count_scale_and_a_picture_to_start_from(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert (
        cli.main(
            [
                "generate",
                "a house",
                "-o",
                "house.png",
                "--steps",
                "3",
                "--count",
                "2",
                "--scale",
                "4",
            ]
        )
        == 0
    )
    names = capsys.readouterr().out.split()
    assert len(names) == 2
    assert Image.open(names[0]).size == (512, 512)
    assert (
        cli.main(["generate", "a castle", "--image", names[0], "--strength", "0.7", "--steps", "5"])
        == 0
    )
    assert (tmp_path / "a-castle-0.png").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["a cat", "-o", "cat.tiff"], "end it in one of .png, .jpg, .jpeg, .webp"),
        (["a cat", "-o", "no/such/cat.png"], "no folder"),
        (["a cat", "--steps", "0"], "steps"),
        (["a cat", "--count", "0"], "--count is 0"),
        (["a cat", "--width", "63"], "63"),
        (["a cat", "--scale", "100"], "scale=100 is outside 0 to 64"),
        (["a cat", "--scale", "64", "--width", "512", "--height", "512"], "above Pillow's limit"),
        (["a cat", "--mask", "m.png"], "--mask needs --image"),
        (["a cat", "--image", "missing.png"], "missing.png"),
    ],
)
def test_bad_input_is_told_before_anything_is_loaded(
    tmp_path, monkeypatch, capsys, arguments, sentence
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "sdkit.models.load.load", lambda *_, **__: pytest.fail("the model was loaded")
    )
    assert cli.main(["generate", *arguments]) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("sdkit: ")
    assert sentence in told
    assert "\n" not in told
    assert list(tmp_path.iterdir()) == []


def test_a_scale_too_large_for_the_models_own_size_is_told_before_the_picture_is_made(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "sdkit.generation.generate", lambda *_, **__: pytest.fail("a picture was made")
    )
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 1_000_000)
    assert cli.main(["generate", "a cat", "--scale", "60"]) == 2
    assert "above Pillow's limit" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["generate", "a cat", "--model", "/no/such/folder"]) == 2
    assert "There is no file or folder" in capsys.readouterr().err


def test_memory_is_planned_as_asked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["generate", "a cat", "--steps", "2", "--memory", "lots"]) == 2
    assert "memory is 'lots'; choose" in capsys.readouterr().err
    assert cli.main(["generate", "a cat", "--steps", "2", "--memory", "0.001GB"]) == 0
    assert "still needs about" in capsys.readouterr().err


def test_interrupting_saves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("sdkit.generation.generate", stop)
    assert cli.main(["generate", "a cat"]) == 130
    assert "nothing was saved" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_info_names_device_versions_and_model(capsys):
    assert cli.main(["info"]) == 0
    told = capsys.readouterr().out
    for word in ("torch", "diffusers", "cpu", "Pocket", sdkit.__version__):
        assert word in told


def test_lab_copies_the_notebooks_and_never_overwrites(tmp_path, capsys):
    folder = tmp_path / "lab"
    assert cli.main(["lab", str(folder), "--no-open"]) == 0
    first = folder / "01_first_image.ipynb"
    first.write_text("mine")
    assert cli.main(["lab", str(folder), "--no-open"]) == 0
    assert first.read_text() == "mine"
    assert "is left as it is" in capsys.readouterr().err


def test_lab_trusts_its_own_notebooks_only(tmp_path, monkeypatch):
    import nbformat
    from nbformat.sign import NotebookNotary

    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr("subprocess.run", lambda *_, **__: subprocess.CompletedProcess([], 0))
    folder = tmp_path / "lab"
    assert cli.main(["lab", str(folder)]) == 0
    ours = nbformat.read(folder / "01_first_image.ipynb", as_version=4)
    assert NotebookNotary().check_signature(ours)
    ours.cells[1].source += "\n1 + 1"
    assert not NotebookNotary().check_signature(ours)
