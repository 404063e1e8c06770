"""Films are read back with another library than wrote them: frames, size, format, colours, and nothing half-written."""

import json
import sys

import av
import numpy as np
import pytest
from PIL import Image

import sdkit
from sdkit.errors import BadPicture, CannotSave, InvalidSettings, MissingExtra
from sdkit.pictures.carried import read_film
from sdkit.pictures.metadata import read_settings
from sdkit.pictures.video import save_video
from sdkit.settings import Settings


def frames(count=7, size=(48, 32)):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 60, (size[1], size[0], 3), dtype=np.uint8)
    return [Image.fromarray(noise + np.uint8(8 * n % 190)) for n in range(count)]


def read(path):
    with av.open(f"file:{path}") as film:
        stream = film.streams.video[0]
        return stream, [f.to_ndarray(format="rgb24") for f in film.decode(stream)]


@pytest.mark.parametrize(
    ("size", "written"), [((48, 32), (48, 32)), ((49, 33), (48, 32)), ((50, 34), (50, 34))]
)
def test_mp4_holds_every_frame_in_a_format_that_plays_everywhere(tmp_path, size, written):
    stream, seen = read(save_video(tmp_path / "x.mp4", frames(size=size), fps=12, progress=False))
    assert len(seen) == 7
    assert (stream.codec_context.width, stream.codec_context.height) == written
    assert stream.codec_context.name == "h264"
    assert stream.codec_context.pix_fmt == "yuv420p"
    assert stream.average_rate == 12


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 160, 60), (20, 40, 200), (255, 255, 255)])
def test_mp4_keeps_colours(tmp_path, colour):
    _, seen = read(
        save_video(tmp_path / "x.mp4", [Image.new("RGB", (32, 32), colour)] * 3, progress=False)
    )
    assert np.abs(seen[1].astype(int) - colour).max() <= 6


def test_mp4_can_be_enlarged_and_have_sound(tmp_path):
    import soundfile

    soundfile.write(tmp_path / "x.wav", np.sin(np.arange(8000) / 9), 8000)
    path = save_video(
        tmp_path / "x.mp4", frames(24), scale=2, fps=24, audio=tmp_path / "x.wav", progress=False
    )
    stream, _ = read(path)
    assert (stream.codec_context.width, stream.codec_context.height) == (96, 64)
    with av.open(str(path)) as film:
        assert film.streams.audio[0].codec_context.name == "aac"


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_gif_and_webp_repeat_for_ever_in_time(tmp_path, suffix):
    with Image.open(save_video(tmp_path / f"x{suffix}", frames(), fps=24, progress=False)) as film:
        durations = []
        for n in range(film.n_frames):
            film.seek(n)
            film.load()
            durations.append(film.info["duration"])
        assert (film.n_frames, film.size, film.info["loop"]) == (7, (48, 32), 0)
    assert sum(durations) == pytest.approx(1000 * 7 / 24, abs=6)  # the roundings do not add up


def test_gif_has_one_palette_for_all_frames(tmp_path):
    still = Image.linear_gradient("L").resize((32, 32)).convert("RGB")
    film = []
    for n in range(6):  # one corner changes its colour, the rest is still
        film.append(still.copy())
        film[-1].paste((40 * n, 0, 255 - 40 * n), (0, 0, 4, 4))
    with Image.open(save_video(tmp_path / "x.gif", film, progress=False)) as back:
        seen = []
        for n in range(back.n_frames):
            back.seek(n)
            seen.append(np.asarray(back.convert("RGB"))[16:, 16:])
    assert all((s == seen[0]).all() for s in seen)


class Broken(list):
    def __init__(self, error):
        super().__init__(frames())
        self.error = error

    def __getitem__(self, index):
        if index == 3:
            raise self.error
        return super().__getitem__(index)


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, OSError])
def test_an_interrupted_film_leaves_the_old_one_and_nothing_else(tmp_path, suffix, error):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"old")
    with pytest.raises((error, CannotSave)):
        save_video(path, Broken(error()), progress=False)
    assert [f.name for f in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"old"


def test_a_failing_encoder_is_told_in_its_own_words(tmp_path):
    (tmp_path / "x.wav").write_text("not sound")
    with pytest.raises(CannotSave, match="ffmpeg failed .*Invalid data"):
        save_video(tmp_path / "x.mp4", frames(), audio=tmp_path / "x.wav", progress=False)
    assert [f.name for f in tmp_path.iterdir()] == ["x.wav"]


@pytest.mark.parametrize(
    ("name", "options", "error", "sentence"),
    [
        ("x.avi", {}, CannotSave, "must end in .mp4, .gif or .webp"),
        ("none/x.mp4", {}, CannotSave, "there is no folder"),
        ("x.mp4", {"fps": 0}, InvalidSettings, "fps is 0"),
        ("x.mp4", {"fps": float("nan")}, InvalidSettings, "fps is nan"),
        (
            "x.gif",
            {"fps": 60},
            InvalidSettings,
            "fps is 60; .gif holds 0.002 to 50 frames per second; save as .mp4",
        ),
        (
            "x.gif",
            {"fps": 0.001},
            InvalidSettings,
            "fps is 0.001; .gif holds 0.002 to 50 frames per second.",
        ),
        ("x.webp", {"fps": 1e-5}, InvalidSettings, "fps is 1e-05; .webp holds 0.001 to 240"),
        ("x.mp4", {"scale": -1}, InvalidSettings, "scale=-1"),
        ("x.gif", {"audio": "x.wav"}, InvalidSettings, "sound 'x.wav' cannot be used"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, name, options, error, sentence):
    with pytest.raises(error, match=sentence):
        save_video(tmp_path / name, frames(), progress=False, **options)
    assert list(tmp_path.iterdir()) == []


def test_no_frames_are_no_film(tmp_path):
    with pytest.raises(InvalidSettings, match="no frames"):
        save_video(tmp_path / "x.mp4", [])


def test_without_ffmpeg_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(MissingExtra, match=r"sdkit-notebooks\[video\]"):
        save_video(tmp_path / "x.mp4", frames(), progress=False)
    assert list(tmp_path.iterdir()) == []


# -- G: names, reasons, short sounds, frame rates ------------------------------------------------------------------------


def sound(path, seconds, rate=44_100):
    import soundfile

    soundfile.write(path, np.sin(np.arange(round(seconds * rate)) / 9), rate)
    return path


@pytest.mark.parametrize(
    "name", ["take 12:30.mp4", "http:x.mp4", "-y.mp4", "%03d.mp4", "a'b \"c.mp4"]
)
def test_a_name_is_only_a_name(tmp_path, monkeypatch, name):
    (tmp_path / "data:1").mkdir()
    monkeypatch.chdir(tmp_path)
    heard = sound(f"data:1/{name}.wav", 1)
    assert len(read(save_video(f"data:1/{name}", frames(), progress=False, audio=heard))[1]) == 7
    assert len(read(save_video(tmp_path / "data:1" / name, frames(), progress=False))[1]) == 7


@pytest.mark.parametrize(("seconds", "count"), [(0.05, 1), (0.1, 2), (0.5, 12), (3, 24)])
def test_the_shorter_of_sound_and_film_ends_it_to_the_frame(tmp_path, seconds, count):
    heard = sound(tmp_path / "x.wav", seconds)
    path = save_video(tmp_path / "x.mp4", frames(24), fps=24, audio=heard, progress=False)
    assert len(read(path)[1]) == count
    with av.open(str(path)) as film:
        stream = film.streams.audio[0]
        assert float(stream.duration * stream.time_base) == pytest.approx(count / 24, abs=0.03)


@pytest.mark.parametrize("seconds", [0.001, 0.005, 0.03])
def test_a_sound_of_milliseconds_is_told(tmp_path, seconds):
    heard = sound(tmp_path / "x.wav", seconds)
    with pytest.raises(
        InvalidSettings, match=r"shorter than one frame at 24 frames per second, 41.7 ms"
    ):
        save_video(tmp_path / "x.mp4", frames(24), fps=24, audio=heard, progress=False)
    assert [f.name for f in tmp_path.iterdir()] == ["x.wav"]


def program(folder, monkeypatch, text):
    """A program in the place of ffmpeg."""
    path = folder / "ffmpeg"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", lambda: str(path))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "echo '[out#0/mp4 @ 0x55d0] No space left on device' >&2; echo 'Conversion failed!' >&2; exit 1",
            "No space left",
        ),
        ("cat > /dev/null; exit 3", "exit status 3, and no reason given"),
        ("kill -9 $$", "stopped from outside by SIGKILL"),
    ],
)
def test_the_first_complaint_is_the_reason(tmp_path, monkeypatch, text, sentence):
    program(tmp_path, monkeypatch, text)
    with pytest.raises(CannotSave, match=f"cannot save 'x.mp4': ffmpeg failed .*{sentence}"):
        save_video(tmp_path / "x.mp4", frames(60), progress=False)


def test_a_program_that_does_not_start_is_not_the_disks_fault(tmp_path, monkeypatch):
    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", lambda: str(tmp_path / "gone"))
    with pytest.raises(CannotSave, match="ffmpeg does not start .*No such file.*install it again"):
        save_video(tmp_path / "x.mp4", frames(), progress=False)


@pytest.mark.parametrize("fps", [0.5, 1, 12.5, 23.976, 29.97, 60, 240])
def test_an_mp4_keeps_its_frame_rate(tmp_path, fps):
    stream, seen = read(save_video(tmp_path / "x.mp4", frames(), fps=fps, progress=False))
    assert len(seen) == 7
    assert float(stream.average_rate) == pytest.approx(fps, rel=1e-3)


@pytest.mark.parametrize("fps", [0.01, 3, 30, 47, 50])
def test_every_frame_of_a_gif_stands_long_enough_for_browsers(tmp_path, fps):
    with Image.open(save_video(tmp_path / "x.gif", frames(), fps=fps, progress=False)) as film:
        durations = []
        for n in range(film.n_frames):
            film.seek(n)
            durations.append(film.info["duration"])
    assert min(durations) >= 20
    assert sum(durations) == pytest.approx(1000 * 7 / fps, abs=10)


# -- C: films, frames and sheets carry their settings and the mark --------------------------------------------------------

MARK = b"digitalsourcetype/trainedAlgorithmicMedia"


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".webp"])
def test_a_film_carries_settings_and_mark_and_plays_as_before(tmp_path, suffix):
    asked = [Settings("né <&> 中 🦊", seed=7), Settings("a dog", seed=8)]
    path = save_video(tmp_path / f"x{suffix}", frames(), settings=asked, progress=False)
    assert path.read_bytes().count(MARK) == 1
    settings, extra = read_film(path)
    assert settings == asked[0]
    assert [Settings.from_dict(s) for s in json.loads(extra["Keyframes"])] == asked
    plain = save_video(tmp_path / f"y{suffix}", frames(), progress=False)
    if suffix == ".mp4":
        assert all((a == b).all() for a, b in zip(read(path)[1], read(plain)[1], strict=True))
    else:
        with Image.open(path) as film, Image.open(plain) as other:
            assert (film.n_frames, film.size) == (other.n_frames, other.size) == (7, (48, 32))
            for n in range(7):
                film.seek(n)
                other.seek(n)
                assert film.convert("RGB").tobytes() == other.convert("RGB").tobytes()
    with pytest.raises(BadPicture, match="holds no settings"):
        read_film(plain)


def test_walks_and_sheets_carry_theirs(tiny, tmp_path):
    walk = sdkit.interpolate(
        tiny, ["a cat", "a dog"], frames=3, steps=1, progress=False, folder=tmp_path / "w"
    )
    for suffix in (".mp4", ".gif", ".webp"):
        settings, extra = read_film(walk.save(tmp_path / f"w{suffix}", progress=False))
        assert settings == walk.keyframes[0]
        assert [s["prompt"] for s in json.loads(extra["Keyframes"])] == ["a cat", "a dog"]
    for file in (tmp_path / "w").glob("*.png"):
        assert MARK in file.read_bytes()
        assert sdkit.load_result(file).settings.prompt in {"a cat", "a dog"}
    grid = sdkit.sweep(tiny, "a cat", x={"seed": [1, 2]}, steps=1, progress=False)
    for suffix in (".png", ".jpg", ".webp"):
        path = grid.save(tmp_path / f"s{suffix}")
        assert MARK in path.read_bytes()
        settings, extra = read_settings(path)
        assert settings == grid[0].settings
        assert json.loads(extra["Sheet"]) == [{"title": "seed", "labels": ["1", "2"]}]
