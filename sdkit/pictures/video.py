"""Pictures into films: MP4 through ffmpeg, GIF and WebP through Pillow.

The one decision: **frames are read one by one** and handed on, so that a film may be longer than memory; and the file
appears under its name only when it is complete, whatever interrupts the encoder.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Final

from PIL import Image

from sdkit.errors import CannotSave, InvalidSettings, MissingExtra

from .files import replacing
from .sheet import flat, resized

__all__ = ["save_video"]

_CRF: Final = 17  # H.264's constant quality, 0 (lossless) to 51: here no difference is seen
_WEBP_QUALITY: Final = 90
_PALETTE_FROM: Final = 16  # frames that a GIF's palette is made from
_FASTEST: Final = 240


def save_video(
    path: str | os.PathLike[str],
    frames: Sequence[Image.Image],
    *,
    fps: float = 24,
    scale: float = 1,
    audio: str | os.PathLike[str] | None = None,
    progress: bool = True,
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
        Frames per second, above 0 up to 240. A GIF keeps time in hundredths of a second, 50 frames per second at most.
    scale
        Enlargement of each picture, above 0 up to 64.
    audio
        A sound file to go with an MP4; the shorter of the two ends it.
    progress
        Show a progress bar.

    Returns
    -------
    pathlib.Path
        What was written.

    Raises
    ------
    InvalidSettings
        For no frames, a frame rate or scale outside its limits, or sound for a format without it.
    MissingExtra
        If an MP4 is asked for and ``imageio-ffmpeg`` is not installed.
    CannotSave
        For another suffix, a missing folder, a full disk, or when the encoder fails. Nothing is left behind.
    """
    path = Path(path)
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise CannotSave(f"cannot save '{path.name}': the name must end in .mp4, .gif or .webp")
    if not len(frames):
        raise InvalidSettings("There are no frames to save yet; make one first.")
    if not 0 < fps <= _FASTEST:
        raise InvalidSettings(f"fps is {fps}; give frames per second above 0, up to {_FASTEST}.")
    if audio is not None and (path.suffix.lower() != ".mp4" or not Path(audio).is_file()):
        raise InvalidSettings(f"The sound '{audio}' cannot be used; give an existing file, and save as .mp4.")
    resized(frames[0], scale)  # a bad scale is told before the encoder starts
    with replacing(path) as temporary:
        write(temporary, _Film(frames, fps, scale, audio, path.name if progress else None))
    return path


@dataclass(frozen=True)
class _Film:
    """What to write, read one picture at a time."""

    frames: Sequence[Image.Image]
    fps: float
    scale: float
    audio: str | os.PathLike[str] | None
    bar: str | None

    def __iter__(self) -> Iterator[Image.Image]:
        from tqdm.auto import tqdm

        for n in tqdm(range(len(self.frames)), desc=self.bar, unit="frame", leave=False, disable=self.bar is None):
            yield flat(resized(self.frames[n], self.scale))

    def durations(self, unit: int) -> list[int]:
        """Milliseconds that each frame is seen, in multiples of a unit; the roundings do not add up."""
        moments = [unit * round(1000 / unit * n / self.fps) for n in range(len(self.frames) + 1)]
        return [b - a for a, b in pairwise(moments)]


def _write_mp4(path: Path, film: _Film) -> None:
    pictures = iter(film)
    first = _even(next(pictures))
    with tempfile.TemporaryFile() as log, _ffmpeg(path, first.size, film, log) as encoder:
        assert encoder.stdin is not None  # noqa: S101 - it was asked for
        try:
            encoder.stdin.write(first.tobytes())
            for picture in pictures:
                encoder.stdin.write(_even(picture).tobytes())
            encoder.stdin.close()
        except BrokenPipeError:  # the encoder has given up; its log says why
            pass
        except BaseException:
            encoder.kill()
            raise
        if encoder.wait():
            log.seek(0)
            reason = log.read().decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
            raise CannotSave(
                f"cannot save '{path.suffix[1:]}': ffmpeg failed ({reason[0]}); check the disk and the sound file"
            )


def _ffmpeg(path: Path, size: tuple[int, int], film: _Film, log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the encoder: raw RGB in at its standard input, a film that streams and plays on every device out."""
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ImportError:
        raise MissingExtra(
            "MP4 needs ffmpeg; install it with: pip install 'sdkit-notebooks[video]', or save as .gif"
        ) from None
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}", "-r", f"{film.fps:g}", "-i", "-"]
    sound = (
        ["-an"]
        if film.audio is None
        else ["-i", os.fspath(film.audio), "-map", "0:v", "-map", "1:a", "-c:a", "aac", "-shortest"]
    )
    # the matrix is named: without it players guess one by the size of the picture, and colours shift
    colour = ["-vf", "scale=out_color_matrix=bt709:out_range=tv", "-colorspace", "bt709", "-color_primaries", "bt709",
              "-color_trc", "bt709", "-color_range", "tv"]  # fmt: skip
    codec = ["-c:v", "libx264", "-crf", str(_CRF), "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    command = [get_ffmpeg_exe(), "-y", "-v", "error", *source, *sound, *colour, *codec, str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)  # noqa: S603 - no shell, no user text


def _even(picture: Image.Image) -> Image.Image:
    width, height = (max(2, side // 2 * 2) for side in picture.size)
    return picture if (width, height) == picture.size else picture.crop((0, 0, width, height))


def _write_gif(path: Path, film: _Film) -> None:
    palette = _palette(film)
    pictures = (p.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for p in film)
    first = next(pictures)
    first.save(path, "GIF", save_all=True, append_images=pictures, duration=film.durations(10), loop=0)


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
    options = {"duration": film.durations(1), "loop": 0, "quality": _WEBP_QUALITY}
    first.save(path, "WEBP", save_all=True, append_images=pictures, **options)


_WRITERS: Final = {".mp4": _write_mp4, ".gif": _write_gif, ".webp": _write_webp}
