"""Results: a sequence of results, shown once, saved whole, and read back."""

from __future__ import annotations

import errno
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from sdkit.errors import BadPicture, CannotSave, InvalidSettings
from sdkit.pictures import card
from sdkit.pictures.metadata import read_settings
from sdkit.pictures.parameters import to_parameters
from sdkit.result import Result, load_result
from sdkit.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

COLOURS = ["red", "lime", "blue", "yellow", "cyan"]


def result(count: int = 3, size: tuple[int, int] = (64, 64), **options: Any) -> Result:
    return Result(
        [Image.new("RGB", size, COLOURS[index % 5]) for index in range(count)],
        [Settings("a cat", seed=index, width=size[0], height=size[1]) for index in range(count)],
        np.arange(count, dtype=np.float32).reshape(count, 1, 1, 1),
        {"unet": 0.5, "total": 0.75},
        **options,
    )


def test_a_result_is_a_sequence_of_results() -> None:
    r = result(3, notes=["mind the gap"])
    assert len(r) == 3
    assert [one.settings.seed for one in r] == [0, 1, 2]
    assert r[-1].settings == r[np.int64(2)].settings == r.all_settings[2]
    assert r[1].image is r.images[1]
    assert r[1:].all_settings == r.all_settings[1:]
    assert [float(one.latents.squeeze()) for one in r[::-1] if one.latents is not None] == [2, 1, 0]
    assert (r.seconds, r[2].seconds, r.timings) == (0.75, 0.75, {"unet": 0.5, "total": 0.75})
    assert r[2].notes == ("mind the gap",)
    with pytest.raises(IndexError):
        r[3]


def test_what_was_recorded_stays_with_its_picture() -> None:
    r = result(2, traces=["first", "second"], attention=["here", "there"])
    assert (r[:].trace, r[:].attention) == ("first", "here")
    assert (r[1].trace, r[::-1].attention) == ("second", "there")
    assert result(2).trace is result(2).attention is None


def test_a_result_cannot_be_changed_through_what_it_hands_out() -> None:
    r = result(2)
    r.images.clear()
    r.all_settings.clear()
    r.timings.clear()
    assert (len(r.images), len(r.all_settings), r.seconds) == (2, 2, 0.75)


def test_numbers_that_differ_are_refused() -> None:
    picture = Image.new("RGB", (8, 8))
    with pytest.raises(
        ValueError, match=r"^1 pictures with 2 settings: give one Settings for each$"
    ):
        Result([picture], [Settings(), Settings()])
    with pytest.raises(
        ValueError, match=r"^1 pictures with latents of shape \(2, 4\): the first axis counts"
    ):
        Result([picture], [Settings()], np.zeros((2, 4), np.float32))


@pytest.mark.parametrize(
    ("count", "size", "options", "expected"),
    [
        (1, (64, 64), {}, (256, 256)),
        (3, (64, 64), {}, (3 * 256 + 16, 256)),
        (8, (64, 64), {}, (4 * 256 + 24, 2 * 256 + 8)),
        (9, (64, 64), {"scale": 1}, (3 * 64 + 16, 3 * 64 + 16)),
        (5, (64, 32), {"columns": 2, "scale": 2}, (2 * 128 + 8, 3 * 64 + 16)),
        (2, (512, 768), {"columns": 9}, (2 * 512 + 8, 768)),
    ],
)
def test_sheets_have_readable_sizes(
    count: int, size: tuple[int, int], options: dict[str, Any], expected: tuple[int, int]
) -> None:
    assert result(count, size).sheet(**options).size == expected


def test_a_sheet_holds_every_picture_on_white() -> None:
    sheet = result(3).sheet(columns=2, scale=1)
    assert [sheet.getpixel(at) for at in [(32, 32), (104, 32), (32, 104)]] == [
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
    ]
    assert sheet.getpixel((104, 104)) == sheet.getpixel((67, 10)) == (255, 255, 255)


def test_sheets_take_different_sizes_and_transparency() -> None:
    pictures = [
        Image.new("RGB", (32, 64), "red"),
        Image.new("RGBA", (64, 32), (0, 0, 0, 0)),
        Image.new("L", (8, 8)),
    ]
    sheet = Result(pictures, [Settings()] * 3).sheet(scale=1)
    assert sheet.size == (3 * 64 + 16, 64)
    assert sheet.getpixel((32, 32)) == (255, 0, 0)
    assert sheet.getpixel((0, 0)) == sheet.getpixel((104, 32)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"columns": 0}, "columns=0 leaves no room for pictures: use 1 or more"),
        ({"scale": 0}, "scale=0 is outside 0 to 64: use 1 for native pixels, 4 to enlarge"),
        (
            {"scale": float("nan")},
            "scale=nan is outside 0 to 64: use 1 for native pixels, 4 to enlarge",
        ),
    ],
)
def test_impossible_sheets_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidSettings) as refusal:
        result(2).sheet(**options)
    assert str(refusal.value) == sentence
    with pytest.raises(
        InvalidSettings, match=r"^there are no pictures for a sheet: select at least one$"
    ):
        result(2)[2:].sheet()


@pytest.mark.parametrize(
    ("count", "size", "width"),
    [(1, (64, 64), 320), (1, (2048, 1024), 768), (8, (64, 64), 1048), (16, (1024, 1024), 1272)],
)
def test_a_notebook_shows_one_html_card(count: int, size: tuple[int, int], width: int) -> None:
    bundle = result(count, size)._repr_mimebundle_(include=None, exclude=None)
    assert set(bundle) == {"text/plain", "text/html", "image/jpeg"}
    assert bundle["text/html"].count("base64,") == 1
    assert f'width="{width}"' in bundle["text/html"]
    assert "0.8 s" in bundle["text/html"]


def test_showing_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    assert result(2)[2:]._repr_mimebundle_() == {"text/plain": "<Result: no pictures>"}
    monkeypatch.setattr(card, "compressed", lambda *_: 1 / 0)
    shown = result(1)._repr_mimebundle_()
    size = "64\N{MULTIPLICATION SIGN}64"
    told = f"<Result: 1 picture, 'a cat', seed 0 · {size} · 0.8 s> (no preview: ZeroDivisionError)"
    assert shown == {"text/plain": told}


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg", ".JPEG"])
def test_saved_pictures_bring_their_settings_back(tmp_path: Path, suffix: str) -> None:
    r = result(1)
    path = r.save(tmp_path / f"cat{suffix}")
    assert path == tmp_path / f"cat{suffix}"
    loaded = load_result(path)
    assert loaded.all_settings == r.all_settings
    assert (loaded.seconds, loaded.timings, loaded.latents, loaded.image.info) == (0, {}, None, {})
    if suffix == ".png":
        assert loaded.image.tobytes() == r.image.tobytes()


def test_scale_enlarges_the_file_and_keeps_the_settings(tmp_path: Path) -> None:
    r = Result([Image.new("RGB", (64, 32))], [Settings("a cat")])
    r.save(str(tmp_path / "cat.png"), scale=4)
    loaded = load_result(tmp_path / "cat.png")
    assert loaded.image.size == (256, 128)
    assert (loaded.settings.width, loaded.settings.height) == (64, 32)
    with pytest.raises(
        InvalidSettings, match=r"^scale=60 makes 30720 by 30720 pixels, above Pillow's limit of"
    ):
        result(1, (512, 512)).save(tmp_path / "cat.png", scale=60)


def test_several_pictures_get_numbers(tmp_path: Path) -> None:
    paths = result(3).save(tmp_path / "cat.png")
    assert paths == [tmp_path / f"cat-{index}.png" for index in range(3)]
    assert [read_settings(tmp_path / f"cat-{index}.png")[0].seed for index in range(3)] == [0, 1, 2]
    assert result(3)[3:].save(tmp_path / "none.png") == []


def test_save_all_names_by_prompt_and_replaces_nothing(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (8, 8))] * 3
    r = Result(
        pictures,
        [Settings("a cat", seed=1), Settings("A Cat", seed=1), Settings("../a dog?", seed=2)],
    )
    first = [path.name for path in r.save_all(tmp_path)]
    assert first == ["a-cat-1.png", "A-Cat-1-2.png", "a-dog-2.png"]
    r[2].save_all(tmp_path)
    r[2].save_all(tmp_path, suffix=".webp")
    assert {file.name for file in tmp_path.iterdir()} == {*first, "a-dog-2-2.png", "a-dog-2.webp"}


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("cat.gif", "cannot save 'cat.gif': the name must end in .png, .jpg or .webp"),
        ("cat", "cannot save 'cat': the name must end in .png, .jpg or .webp"),
        ("", "cannot save '': the name must end in .png, .jpg or .webp"),
        (
            "no/cat.png",
            "cannot save 'no/cat.png': there is no folder 'no'; make it first, or choose another",
        ),
    ],
)
def test_bad_paths_are_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for r in (result(1), result(2)):
        with pytest.raises(CannotSave) as refusal:
            r.save(name)
        assert str(refusal.value).replace("cat-0", "cat") == sentence
    with pytest.raises(CannotSave, match="File name too long"):
        result(1).save_all("x" * 300)
    with pytest.raises(CannotSave, match=r"^cannot save '/../x\.png': the name must end in"):
        result(1).save_all(tmp_path, suffix="/../x.png")
    assert list(tmp_path.iterdir()) == []


def test_a_prompt_too_long_for_jpeg_goes_to_png(tmp_path: Path) -> None:
    r = Result([Image.new("RGB", (8, 8))], [Settings("word " * 10_000)])
    told = r"^cannot save as JPEG \(EXIF data is too long\): save as .png, which has no such limit$"
    with pytest.raises(CannotSave, match=told):
        r.save(tmp_path / "cat.jpg")
    assert list(tmp_path.iterdir()) == []
    for suffix in (".png", ".webp"):
        r.save(tmp_path / f"cat{suffix}")
        assert load_result(tmp_path / f"cat{suffix}").settings.prompt == r.settings.prompt


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    (tmp_path / f"cat-0{suffix}").write_bytes(b"old")
    save, calls = Image.Image.save, []

    def full_at_the_third(image: Image.Image, file: Any, *args: Any, **options: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            file.write(b"half a picture")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(image, file, *args, **options)

    monkeypatch.setattr(Image.Image, "save", full_at_the_third)
    with pytest.raises(CannotSave, match=r"cat-2\.\w+': No space left on device; check the disk"):
        result(3).save(tmp_path / f"cat{suffix}")
    assert [file.name for file in tmp_path.iterdir()] == [f"cat-0{suffix}"]
    assert (tmp_path / f"cat-0{suffix}").read_bytes() == b"old"


def test_loading_tells_what_is_wrong_and_where(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    with pytest.raises(BadPicture, match=r"^there is no picture '.*cat\.png'"):
        load_result(path)
    Image.new("RGB", (8, 8)).save(path)
    with pytest.raises(BadPicture, match=r"^'.*cat\.png': this picture holds no settings"):
        load_result(path)


def test_a_foreign_picture_gets_its_size_and_a_note_about_its_sampler(tmp_path: Path) -> None:
    exif = Image.Exif()
    text = to_parameters(Settings("a fox", steps=4), {"Schedule type": "Simple"}).replace(
        "Seed", "Sampler: DEIS, Seed"
    )
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0" + text.encode()
    Image.new("CMYK", (40, 24)).save(tmp_path / "fox.jpg", exif=exif)
    loaded = load_result(tmp_path / "fox.jpg")
    assert (loaded.settings.width, loaded.settings.height, loaded.image.mode) == (40, 24, "RGB")
    assert loaded.notes == (
        "sampler 'DEIS' has no counterpart here: the pipeline's own scheduler will be used",
    )
    Image.new("RGB", (41, 24)).save(tmp_path / "fox.jpg", exif=exif)
    assert load_result(tmp_path / "fox.jpg").settings.width is None


def test_results_need_no_torch() -> None:
    code = "import sys, sdkit.result; print([m for m in ('torch', 'diffusers', 'matplotlib') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
