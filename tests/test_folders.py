"""Folders as people have them: `~` in a path, what desktops put beside one's files, pictures that were cut short."""

import shutil

import families
import numpy as np
import pytest
from PIL import Image

import sdkit
from sdkit.errors import ModelNotFound
from sdkit.pictures.files import contents, path_of
from sdkit.pictures.gallery import Gallery
from sdkit.pictures.video import save_video
from sdkit.result import Result
from sdkit.settings import Settings
from sdkit.walks.pacing import pace_from_audio

DROPPINGS = (
    ".DS_Store",
    "._frame.png",
    "desktop.ini",
    "Thumbs.db",
    "thumbs.db",
    ".hidden.part",
    "Icon\r",
)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return tmp_path


def litter(folder):
    """What macOS, Windows and Jupyter leave behind."""
    for name in DROPPINGS:
        (folder / name).write_bytes(b"\0\1")
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "frame-000.00000000-checkpoint.png").write_bytes(b"")
    (folder / "__MACOSX").mkdir()


def one():
    return Result([Image.new("RGB", (16, 16), "teal")], [Settings("a cat", seed=7)])


def film(pipe, folder, **options):
    return sdkit.interpolate(
        pipe, ["a cat", "a dog"], frames=5, steps=1, progress=False, folder=folder, **options
    )


# -- H: ~ in every path ------------------------------------------------------------------------------------------------


def test_home_is_expanded_wherever_something_is_written_or_read(home, tiny):
    assert one().save("~/cat.png") == home / "cat.png"
    assert one().save_all("~")[0].parent == home
    assert sdkit.load_result("~/cat.png").settings.seed == 7
    assert Gallery([("a", one().image)]).save("~/g.png") == home / "g.png"
    assert save_video("~/v.gif", one().images * 2, progress=False) == home / "v.gif"
    walk = film(tiny, "~/walk")
    assert walk.folder == home / "walk"
    assert len(sdkit.Walk("~/walk")) == 5
    assert walk.save("~/w.webp", progress=False) == home / "w.webp"
    grid = sdkit.sweep(tiny, "a cat", x={"seed": [1, 2]}, steps=1, folder="~/sweep", progress=False)
    assert len(contents(home / "sweep")) == 3
    assert grid.save("~/s.png") == home / "s.png"
    assert grid.save_all("~/sweep") == home / "sweep"
    assert not any(f.name.startswith("~") for f in home.iterdir())


def test_home_is_expanded_for_sounds_keys_pages_and_models(home, tmp_path):
    import soundfile

    from sdkit.errors import CannotSave
    from sdkit.widgets import TraceExplorer

    soundfile.write(home / "s.wav", np.sin(np.arange(8000) / 9), 8000)
    assert len(pace_from_audio("~/s.wav", fps=8)) == 8
    (home / "key.pem").write_text("no key")
    with pytest.raises(CannotSave, match="cannot sign with"):  # it was found and read
        one().save("~/cat.png", sign=("~/key.pem", "~/key.pem"))
    families.sd15().save_pretrained(home / "mine")
    pipe = sdkit.load("~/mine", vae="~/mine/vae", device="cpu")
    assert sdkit.plan("~/mine", device="cpu").name == "mine"
    made = sdkit.generate(pipe, "a cat", steps=1, width=32, height=32, trace=True, progress=False)
    assert TraceExplorer(pipe, made).to_html("~/t.html") == home / "t.html"
    assert (home / "t.html").is_file()


def test_the_shell_command_expands_it_too(home, capsys):
    from sdkit import cli

    one().save(home / "from.png")
    asked = ["generate", "a cat", "--steps=4", "--image=~/from.png", "--output=~/to.png"]
    assert cli.main(asked) == 0
    assert capsys.readouterr().out.strip() == str(home / "to.png")
    assert cli.main(["lab", "--no-open", "~/lab"]) == 0
    assert contents(home / "lab")


def test_a_home_that_nobody_has_is_a_name():
    assert path_of("~nobody-of-that-name/cat.png").parts[0] == "~nobody-of-that-name"
    assert path_of("a~b.png").name == "a~b.png"


# -- H: what others put there ------------------------------------------------------------------------------------------


def test_what_the_system_left_is_nobodys_file(tmp_path):
    litter(tmp_path)
    assert contents(tmp_path) == []
    (tmp_path / "b.txt").write_text("")
    (tmp_path / "a.txt").write_text("")
    assert [f.name for f in contents(tmp_path)] == ["a.txt", "b.txt"]


def test_walks_and_sweeps_live_beside_it(tmp_path, tiny):
    for name in ("walk", "sweep"):
        (tmp_path / name).mkdir()
        litter(tmp_path / name)
    assert len(film(tiny, tmp_path / "walk")) == 5
    assert len(sdkit.Walk(tmp_path / "walk")) == 5
    options = {"x": {"seed": [1, 2]}, "steps": 1, "folder": tmp_path / "sweep", "progress": False}
    assert (
        len(sdkit.sweep(tiny, "a cat", **options))
        == len(sdkit.sweep(tiny, "a cat", **options))
        == 2
    )


def test_a_checkpoint_is_opened_beside_it(tmp_path):
    pipe = families.sd15()
    pipe.save_pretrained(tmp_path)
    litter(tmp_path)
    for part in ("unet", "vae"):
        litter(tmp_path / part)
        (tmp_path / part / "._diffusion_pytorch_model.safetensors").write_bytes(
            b"\0\5\26\7"
        )  # AppleDouble
    assert sdkit.plan(tmp_path, device="cpu").peak > 0
    assert type(sdkit.load(tmp_path, device="cpu")) is type(pipe)
    for file in contents(tmp_path / "unet"):
        file.unlink()
    with pytest.raises(
        ModelNotFound, match="lacks its part 'unet'"
    ):  # what is left there is no part
        sdkit.load(tmp_path, device="cpu")


# -- H: cut short ------------------------------------------------------------------------------------------------------


def emptied(data):
    return b""


def halved(data):
    return data[: len(data) // 2]


def zeroed(data):
    """A power cut: the length is there, the contents are not."""
    return data[: len(data) // 2] + bytes(len(data) - len(data) // 2)


def holed(data):
    return data[:60] + bytes(20) + data[80:]


@pytest.mark.parametrize("harm", [emptied, halved, zeroed, holed])
@pytest.mark.parametrize("pacing", ["linear", "even"])
def test_a_damaged_frame_is_made_again(tmp_path, tiny, harm, pacing):
    whole = film(tiny, tmp_path / "w", pacing=pacing)
    before = [np.asarray(p).astype(int) for p in whole]
    file = contents(tmp_path / "w")[1]
    assert file.name.startswith("frame")
    file.write_bytes(harm(file.read_bytes()))
    again = film(tiny, tmp_path / "w", pacing=pacing)
    assert len(again) == 5
    assert max(abs(np.asarray(a) - b).max() for a, b in zip(again, before, strict=True)) <= 1
    assert len(sdkit.Walk(tmp_path / "w")) == 5


@pytest.mark.parametrize("harm", [emptied, halved])
def test_a_frame_whose_latents_were_cut_short_is_made_again(tmp_path, tiny, harm):
    whole = film(tiny, tmp_path / "w")
    file = contents(tmp_path / "w" / "latents")[2]
    before = whole.latents
    file.write_bytes(harm(file.read_bytes()))
    assert abs(film(tiny, tmp_path / "w").latents - before).max() < 0.01
    shutil.rmtree(tmp_path / "w" / "latents")  # whoever does not want them may throw them away
    assert len(sdkit.Walk(tmp_path / "w")) == 5


@pytest.mark.parametrize("harm", [emptied, halved, zeroed])
def test_an_open_walk_does_not_count_what_was_cut_short(tmp_path, tiny, harm):
    film(tiny, tmp_path / "w")
    file = contents(tmp_path / "w")[2]
    file.write_bytes(harm(file.read_bytes()))
    walk = sdkit.Walk(tmp_path / "w")
    assert len(walk) == 4
    assert not walk.complete
    assert walk.sheet().size[0] > 0


@pytest.mark.parametrize("harm", [emptied, halved, zeroed, holed])
def test_a_damaged_cell_is_made_again(tmp_path, tiny, harm):
    options = {"x": {"seed": [1, 2, 3]}, "steps": 1, "folder": tmp_path / "s", "progress": False}
    before = sdkit.sweep(tiny, "a cat", **options)
    file = tmp_path / "s" / "x1-y0-z0.png"
    file.write_bytes(harm(file.read_bytes()))
    again = sdkit.sweep(tiny, "a cat", **options)
    assert abs(np.asarray(again[1].image).astype(int) - np.asarray(before[1].image)).max() <= 1
    assert sdkit.load_result(file).settings.seed == 2
