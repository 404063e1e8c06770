"""Settings and the mark of a model's work in what is more than one picture: sheets, and films of every format.

The one decision: **the same packet everywhere.** What a JPEG carries as XMP (see `sdkit.pictures.metadata`) is what a GIF
carries as an application extension and an MP4 as a box of its own, where the standard (Adobe's XMP, part 3) puts them.
"""

from __future__ import annotations

import json
import struct
from html import unescape
from typing import TYPE_CHECKING, Any, Final

from sdkit.errors import BadPicture, InvalidSettings
from sdkit.settings import Settings

from .files import path_of
from .metadata import exif_and_xmp, png_chunks

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["carried", "keyframes", "mark_film", "read_film"]

_LOSSY_QUALITY: Final = 95
_BOX: Final = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")  # of XMP in MP4 and QuickTime
_GIF_BEGIN: Final = b"\x21\xff\x0bXMP DataXMP"
# a GIF's blocks begin with their length, and this makes every byte of a packet lead to the end
_GIF_END: Final = bytes([1, *range(255, -1, -1), 0])
_BEGIN, _END = b"<sdkit:settings>", b"</sdkit:settings>"
_MOST: Final = 1 << 22  # bytes at the end of a film that are looked through


def carried(
    kind: str, settings: Settings, extra: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Arguments of ``image.save`` with which a PNG, JPEG or WebP carries settings and the mark.

    Parameters
    ----------
    kind
        Pillow's name of the format.
    settings, extra
        As for `sdkit.pictures.metadata.png_chunks`.
    """
    if kind == "PNG":
        return {"pnginfo": png_chunks(settings, extra)}
    return {"quality": _LOSSY_QUALITY, **exif_and_xmp(settings, extra)}


def keyframes(settings: Sequence[Settings]) -> dict[str, str]:
    """What a film or a sheet tells beside the settings of its first picture: those of every one that differs."""
    every = list(dict.fromkeys(settings))
    return {"Keyframes": json.dumps([s.to_dict() for s in every])} if len(every) > 1 else {}


def mark_film(
    path: Path, kind: str, settings: Settings, extra: Mapping[str, str] | None = None
) -> None:
    """Add settings and the mark to a finished GIF or MP4 file.

    Parameters
    ----------
    path
        The file, which is changed.
    kind
        ``".gif"`` or ``".mp4"``.
    settings, extra
        As for `carried`.
    """
    packet = exif_and_xmp(settings, extra)["xmp"]
    with path.open("r+b") as file:
        if kind == ".gif":
            file.seek(-1, 2)  # before the byte that ends it
            file.write(_GIF_BEGIN + packet + _GIF_END + b";")
        else:
            file.seek(0, 2)
            file.write(struct.pack(">I4s16s", 24 + len(packet), b"uuid", _BOX) + packet)


def read_film(path: str | os.PathLike[str]) -> tuple[Settings, dict[str, str]]:
    """Read the settings back out of a GIF, MP4 or WebP film made by sdkit.

    Parameters
    ----------
    path
        The film.

    Returns
    -------
    settings
        Those of the first keyframe.
    extra
        What else was recorded, by name: ``"Keyframes"`` holds the settings of all of them, as JSON.

    Raises
    ------
    BadPicture
        If there is no such file, or it holds no settings.
    """
    try:
        with path_of(path).open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _MOST))
            text = file.read().rpartition(_BEGIN)[2].partition(_END)
    except OSError as error:
        raise BadPicture(
            f"'{path}' cannot be read ({error.strerror}): check the folder and the spelling"
        ) from error
    try:
        content = json.loads(unescape(text[0].decode("ascii"))) if text[1] else None
        settings = Settings.from_dict(content["settings"], strict=False)  # type: ignore[index]
        return settings, {str(k): str(v) for k, v in (content["extra"] or {}).items()}  # type: ignore[index]
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        InvalidSettings,
    ) as error:
        raise BadPicture(
            f"'{path}' holds no settings that sdkit wrote: give a film made by sdkit"
        ) from error
