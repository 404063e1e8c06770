"""Films are read back with another library than wrote them: frames, size, format, colours, and nothing half-written."""

import sys

import av
import numpy as np
import pytest
from PIL import Image

from sdkit.errors import CannotSave, InvalidSettings, MissingExtra
from sdkit.pictures.video import save_video


def frames(count=7, size=(48, 32)):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 60, (size[1], size[0], 3), dtype=np.uint8)
    return [Image.fromarray(noise + np.uint8(8 * n % 190)) for n in range(count)]


def read(path):
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        return stream, [f.to_ndarray(format="rgb24") for f in film.decode(stream)]


@pytest.mark.parametrize(("size", "written"), [((48, 32), (48, 32)), ((49, 33), (48, 32)), ((50, 34), (50, 34))])
def test_mp4_holds_every_frame_in_a_format_that_plays_everywhere(tmp_path, size, written):
    stream, seen = read(save_video(tmp_path / "x.mp4", frames(size=size), fps=12, progress=False))
    assert len(seen) == 7
    assert (stream.codec_context.width, stream.codec_context.height) == written
    assert stream.codec_context.name == "h264"
    assert stream.codec_context.pix_fmt == "yuv420p"
    assert stream.average_rate == 12


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 160, 60), (20, 40, 200), (255, 255, 255)])
def test_mp4_keeps_colours(tmp_path, colour):
    _, seen = read(save_video(tmp_path / "x.mp4", [Image.new("RGB", (32, 32), colour)] * 3, progress=False))
    assert np.abs(seen[1].astype(int) - colour).max() <= 6


def test_mp4_can_be_enlarged_and_have_sound(tmp_path):
    import soundfile

    soundfile.write(tmp_path / "x.wav", np.sin(np.arange(8000) / 9), 8000)
    path = save_video(tmp_path / "x.mp4", frames(24), scale=2, fps=24, audio=tmp_path / "x.wav", progress=False)
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
