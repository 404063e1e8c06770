"""Pictures into films: MP4 through ffmpeg, GIF and WebP through Pillow.

The one decision: **frames are read one by one** and handed on, so that a film may be longer than memory; and the file
appears under its name only when it is complete, whatever interrupts the encoder.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from numbers import Real
from pathlib import Path
from typing import IO, Final

from PIL import Image

from sdkit.errors import CannotSave, InvalidSettings, MissingExtra
from sdkit.settings import Settings

from .carried import keyframes, mark_film
from .files import path_of, replacing
from .metadata import exif_and_xmp
from .sheet import flat, resized

__all__ = ["save_video"]

_CRF: Final = 17  # H.264's constant quality, 0 (lossless) to 51: here no difference is seen
_WEBP_QUALITY: Final = 90
_PALETTE_FROM: Final = 16  # frames that a GIF's palette is made from
# frames per second: a GIF counts hundredths of a second in 16 bits, and browsers show what stands for less than two of
# them for ten; WebP counts milliseconds in 24 bits
_RATES: Final = {".mp4": (0.001, 240), ".gif": (0.002, 50), ".webp": (0.001, 240)}
_ORIGIN: Final = re.compile(r"^(\[[^]]* @ 0x[0-9a-f]+\]\s*)+")  # the part of ffmpeg that complains
_HEARD: Final = 8000  # samples a second that the length of a sound is measured with


def save_video(
    path: str | os.PathLike[str],
    frames: Sequence[Image.Image],
    *,
    fps: float = 24,
    scale: float = 1,
    audio: str | os.PathLike[str] | None = None,
    progress: bool = True,
    settings: Sequence[Settings] = (),
) -> Path:
    """Write pictures as a film.

    Parameters
    ----------
    path
        File name ending in ``.mp4`` (H.264, yuv420p, plays everywhere; needs the extra ``video``), ``.gif`` or ``.webp``
        (these two repeat for ever). An existing file is replaced. Pillow
        holds the frames of these two in memory; an MP4 needs one at a time.
    frames
        One picture or more, of one size. They are asked for one by one, in order. H.264 takes even sizes only: an odd
        last row or column is left out.
    fps
        Frames per second, 0.001 to 240; a GIF, which keeps time in hundredths of a second, holds 0.002 to 50.
    scale
        Enlargement of each picture, above 0 up to 64.
    audio
        A sound file to go with an MP4; the shorter of the two ends it. It must last for one frame at least.
    progress
        Show a progress bar.
    settings
        What made the frames, the first of all first: the film then carries them, and the mark that says that a model
        made it. `sdkit.pictures.carried.read_film` reads them back.

    Returns
    -------
    pathlib.Path
        What was written.

    Raises
    ------
    InvalidSettings
        For no frames, a frame rate or scale outside its limits, sound for a format without it, or too short a sound.
    MissingExtra
        If an MP4 is asked for and ``imageio-ffmpeg`` is not installed.
    CannotSave
        For another suffix, a missing folder, a full disk, or when the encoder fails. Nothing is left behind.
    """
    path = path_of(path)
    audio = None if audio is None else path_of(audio)
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise CannotSave(f"cannot save '{path.name}': the name must end in .mp4, .gif or .webp")
    if not len(frames):
        raise InvalidSettings("There are no frames to save yet; make one first.")
    slowest, fastest = _RATES[path.suffix.lower()]
    if not isinstance(fps, Real):
        raise InvalidSettings(f"fps is {fps!r}; give a number of frames per second, such as 24.")
    if not slowest <= fps <= fastest:  # false for NaN as well
        other = "; save as .mp4 for more" if fastest < fps <= _RATES[".mp4"][1] else ""
        raise InvalidSettings(
            f"fps is {fps:g}; {path.suffix.lower()} holds {slowest:g} to {fastest:g} frames per second{other}."
        )
    if audio is not None and (path.suffix.lower() != ".mp4" or not audio.is_file()):
        raise InvalidSettings(
            f"The sound '{audio}' cannot be used; give an existing file, and save as .mp4."
        )
    resized(frames[0], scale)  # a bad scale is told before the encoder starts
    with replacing(path) as temporary:
        write(
            temporary,
            _Film(
                frames, fps, scale, audio, path.name, progress=progress, settings=tuple(settings)
            ),
        )
        if settings and path.suffix.lower() != ".webp":
            mark_film(temporary, path.suffix.lower(), settings[0], keyframes(settings))
    return path


@dataclass(frozen=True)
class _Film:
    """What to write, read one picture at a time."""

    frames: Sequence[Image.Image]
    fps: float
    scale: float
    audio: Path | None
    name: str
    progress: bool
    settings: tuple[Settings, ...] = ()

    def __iter__(self) -> Iterator[Image.Image]:
        from tqdm.auto import tqdm

        for n in tqdm(
            range(len(self.frames)),
            desc=self.name,
            unit="frame",
            leave=False,
            disable=not self.progress,
        ):
            yield flat(resized(self.frames[n], self.scale))

    def durations(self, unit: int) -> list[int]:
        """Milliseconds that each frame is seen, in multiples of a unit; the roundings do not add up."""
        moments = [unit * round(1000 / unit * n / self.fps) for n in range(len(self.frames) + 1)]
        return [b - a for a, b in pairwise(moments)]


def _write_mp4(path: Path, film: _Film) -> None:
    count = len(film.frames) if film.audio is None else _frames_heard(film)
    pictures = iter(film)
    first = _even(next(pictures))
    with tempfile.TemporaryFile() as log, _ffmpeg(path, first.size, film, count, log) as encoder:
        try:
            going = _fed(encoder, first)
            for picture in islice(pictures, count - 1):
                going = going and _fed(encoder, _even(picture))
                if not going:
                    break
            with suppress(OSError):
                encoder.stdin.close()  # type: ignore[union-attr]  # it was asked for
        except BaseException:
            encoder.kill()
            raise
        if status := encoder.wait():
            log.seek(0)
            raise _failed(film, status, log.read())


def _fed(encoder: subprocess.Popen[bytes], picture: Image.Image) -> bool:
    """Hand on one picture; False if the encoder has given up, of which its exit tells the reason."""
    assert encoder.stdin is not None  # noqa: S101 - it was asked for
    data = picture.tobytes()
    try:
        encoder.stdin.write(data)
    except OSError:  # a broken pipe, which Windows calls an invalid argument
        return False
    return True


def _frames_heard(film: _Film) -> int:
    """How many frames of the film are there before the sound ends, up to all of them.

    ffmpeg's own ``-shortest`` looks at buffers of sound that hold many frames: a film to a sound of milliseconds would
    have as many pictures as happened to be under way, or none.
    """
    longest = len(film.frames) / film.fps
    command = [_executable(), "-v", "error", "-i", f"file:{film.audio}", "-map", "0:a:0", "-t", f"{longest:.6f}",
               "-ac", "1", "-ar", str(_HEARD), "-f", "u8", "-"]  # fmt: skip
    done = _run(command, film)
    if done.returncode:
        raise _failed(film, done.returncode, done.stderr)
    seconds = len(done.stdout) / _HEARD
    if seconds * film.fps < 1 - 1 / _HEARD * film.fps:  # to the sample
        raise InvalidSettings(
            f"The sound '{film.audio}' is shorter than one frame at {film.fps:g} frames per second, {1000 / film.fps:.3g} ms; give a longer one, or leave audio out."
        )
    return min(len(film.frames), max(1, round(seconds * film.fps)))


def _run(command: list[str], film: _Film) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)  # noqa: S603 - no shell
    except OSError as error:
        raise _unstartable(film, command[0], error) from None


def _failed(film: _Film, status: int, log: bytes) -> CannotSave:
    """Say why ffmpeg ended: its first complaint is the reason, the last one only that it gives up."""
    lines = [_ORIGIN.sub("", line).strip() for line in log.decode(errors="replace").splitlines()]
    reason = next((line for line in lines if line), f"exit status {status}, and no reason given")
    if status < 0:
        name = next((s.name for s in signal.Signals if s == -status), str(-status))
        reason = f"it was stopped from outside by {name}, perhaps for want of memory"
    heard = "" if film.audio is None else f" and the sound '{film.audio}'"
    return CannotSave(f"cannot save '{film.name}': ffmpeg failed ({reason}); check the disk{heard}")


def _unstartable(film: _Film, program: str, error: OSError) -> CannotSave:
    return CannotSave(
        f"cannot save '{film.name}': ffmpeg does not start ({program}: {error.strerror}); install it again with: pip install --force-reinstall imageio-ffmpeg, or save as .gif"
    )


def _executable() -> str:
    """The ffmpeg that comes with imageio-ffmpeg, or the one that IMAGEIO_FFMPEG_EXE names."""
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return str(get_ffmpeg_exe())
    except (ImportError, RuntimeError):  # not installed, or without a program for this system
        raise MissingExtra(
            "MP4 needs ffmpeg; install it with: pip install 'sdkit-notebooks[video]', or save as .gif"
        ) from None


def _ffmpeg(
    path: Path, size: tuple[int, int], film: _Film, count: int, log: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start the encoder: raw RGB in at its standard input, a film that streams and plays on every device out."""
    rate = Fraction(film.fps).limit_denominator(100_000)
    source = [
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-s",
        f"{size[0]}x{size[1]}",
        "-r",
        str(rate),
        "-i",
        "-",
    ]
    sound = (
        ["-an"]
        if film.audio is None
        # "file:", because what stands before a colon in a name would be a protocol
        else [
            "-i",
            f"file:{film.audio}",
            "-map",
            "0:v",
            "-map",
            "1:a:0",
            "-c:a",
            "aac",
            "-t",
            f"{count / film.fps:.6f}",
        ]
    )
    # the matrix is named: without it players guess one by the size of the picture, and colours shift
    colour = ["-vf", "scale=out_color_matrix=bt709:out_range=tv", "-colorspace", "bt709", "-color_primaries", "bt709",
              "-color_trc", "bt709", "-color_range", "tv"]  # fmt: skip
    codec = ["-c:v", "libx264", "-crf", str(_CRF), "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    command = [_executable(), "-y", "-v", "error", *source, *sound, *colour, *codec, f"file:{path}"]
    try:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)  # noqa: S603 - no shell
    except OSError as error:
        raise _unstartable(film, command[0], error) from None


def _even(picture: Image.Image) -> Image.Image:
    width, height = (max(2, side // 2 * 2) for side in picture.size)
    return picture if (width, height) == picture.size else picture.crop((0, 0, width, height))


def _write_gif(path: Path, film: _Film) -> None:
    palette = _palette(film)
    pictures = (p.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for p in film)
    first = next(pictures)
    first.save(
        path, "GIF", save_all=True, append_images=pictures, duration=film.durations(10), loop=0
    )


def _palette(film: _Film) -> Image.Image:
    """256 colours for the whole film: with a palette for each frame, still parts would flicker."""
    picked = film.frames[:: -(-len(film.frames) // _PALETTE_FROM)]
    width, height = picked[0].size
    strip = Image.new("RGB", (width, height * len(picked)))
    for n, picture in enumerate(picked):
        strip.paste(flat(picture), (0, n * height))
    return strip.quantize(256, method=Image.Quantize.MEDIANCUT)


def _write_webp(path: Path, film: _Film) -> None:
    pictures = iter(film)
    first = next(pictures)
    told = exif_and_xmp(film.settings[0], keyframes(film.settings)) if film.settings else {}
    options = {"duration": film.durations(1), "loop": 0, "quality": _WEBP_QUALITY, **told}
    first.save(path, "WEBP", save_all=True, append_images=pictures, **options)


_WRITERS: Final = {".mp4": _write_mp4, ".gif": _write_gif, ".webp": _write_webp}
