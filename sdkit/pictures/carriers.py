"""Where programs leave texts in picture files: every place, decoded, the likeliest first.

The one decision: **a label is believed last.** Programs write UTF-8 under the name of UTF-16, either byte order, or no
name at all; so each text is decoded in every way its place allows, and the reading with the most plain characters is
kept: every program's settings have plain words in them. XMP is searched as text, never parsed as XML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from html import unescape
from typing import Final

from PIL import Image
from PIL.PngImagePlugin import iTXt

__all__ = ["USER_COMMENT", "texts"]

USER_COMMENT: Final = "EXIF UserComment"
_EXIF_IFD: Final = 0x8769
# UserComment first; ComfyUI writes its graphs as make and model of a camera; XPComment is what Windows shows.
_TAGS: Final = {
    0x9286: USER_COMMENT,
    0x010E: "EXIF ImageDescription",
    0x9C9C: "EXIF XPComment",
    0x010F: "EXIF Make",
    0x0110: "EXIF Model",
    0x0131: "EXIF Software",
    0x927C: "EXIF MakerNote",
}
_WIDE: Final = ("utf-8", "utf-16-be", "utf-16-le")
_CHARSETS: Final = {
    b"UNICODE\0": ("utf-16-be", "utf-16-le", "utf-8"),
    b"ASCII\0\0\0": _WIDE,
    b"JIS\0\0\0\0\0": ("iso2022_jp", "utf-8", "euc_jp", "cp932"),
    bytes(8): _WIDE,  # "undefined"
}
_XMP_TEXT: Final = re.compile(r">([^<>]+)<|=\s*\"([^\"]+)\"|=\s*'([^']+)'")
_SHORTEST_TEXT: Final = 12  # "Steps:1,Seed:1" is longer; an XMP packet holds many short values


def texts(image: Image.Image) -> list[tuple[str, str]]:
    """Return all texts in a picture file.

    Parameters
    ----------
    image
        A decoded PNG, JPEG or WebP file.

    Returns
    -------
    list of tuple of str
        Names (of a PNG chunk as they are; ``"EXIF UserComment"``, ``"JPEG comment"``, ``"XMP"``) and texts.
    """
    chunks = [
        (str(name), _png_text(text)) for name, text in image.info.items() if isinstance(text, str)
    ]
    chunks.sort(key=lambda chunk: chunk[0].lower() != "parameters")
    found = [chunk for chunk in chunks if chunk[0] != "XML:com.adobe.xmp"] + list(_exif(image))
    comment = image.info.get("comment")
    if isinstance(comment, bytes):
        found.append(("JPEG comment", _decoded(comment, _WIDE)))
    packets = [image.info.get("xmp"), image.info.get("XML:com.adobe.xmp")]
    for packet in packets:
        if packet:
            text = _decoded(packet, _WIDE) if isinstance(packet, bytes) else packet
            found += [("XMP", value) for value in _xmp_texts(str(text))]
    return [(name, text.strip("\0").removeprefix("\ufeff")) for name, text in found]


def _png_text(text: str) -> str:
    """Read a chunk as UTF-8 where it is: the standard says Latin-1 for all but iTXt, and not all programs know."""
    if not isinstance(text, iTXt) and not text.isascii():
        with suppress(UnicodeError):
            return text.encode("latin-1").decode("utf-8")
    return text


def _exif(image: Image.Image) -> Iterator[tuple[str, str]]:
    try:
        exif = image.getexif()
        blocks = (exif.get_ifd(_EXIF_IFD), exif)
    except Exception:  # noqa: BLE001 - Pillow meets damaged blocks with nearly any exception: they count as none
        return
    for tag, name in _TAGS.items():
        for block in blocks:
            value = None
            with suppress(Exception):  # one damaged tag does not cost the others
                value = block.get(tag)
            if isinstance(value, str):  # Pillow reads text as Latin-1, whatever it is
                value = (
                    value.encode("latin-1", errors="ignore") if not _beyond_latin(value) else value
                )
            if isinstance(value, bytes):
                value = (
                    _decoded(value, ("utf-16-le", "utf-8")) if tag == 0x9C9C else _comment(value)
                )
            if isinstance(value, str) and value.strip("\0 "):
                yield name, value


def _beyond_latin(text: str) -> bool:
    return any(character > "\xff" for character in text)


def _comment(raw: bytes) -> str:
    """Decode EXIF's UserComment: by the standard eight bytes name the character set, but not all programs write them."""
    for label, encodings in _CHARSETS.items():
        if raw[:8].upper() == label:
            return _decoded(raw[8:], encodings)
    return _decoded(raw, _WIDE)


def _decoded(raw: bytes, encodings: tuple[str, ...]) -> str:
    if raw[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return raw.decode("utf-16", errors="replace")
    readings = []
    for encoding in encodings:
        try:
            readings.append(raw.decode(encoding))
        except UnicodeDecodeError:
            readings.append(raw.decode(encoding, errors="replace"))
        else:
            if encoding in {
                "iso2022_jp",
                "euc_jp",
            }:  # a wrong one of these fails: the first that does not is right
                return readings[-1]
    if "\ufffd" in readings[0] and encodings[0] == "utf-8":
        readings.append(raw.decode("cp1252", errors="replace"))
    return max(readings, key=_plainness)


def _plainness(text: str) -> int:
    """Count printable ASCII, less twice what a wrong reading brings: NUL, and the sign for what cannot be decoded."""
    plain = sum(" " <= character <= "~" or character in "\r\n\t" for character in text)
    return plain - 2 * (text.count("\0") + text.count("\ufffd"))


def _xmp_texts(packet: str) -> Iterator[str]:
    quoted = [part.partition("]]>")[0] for part in packet.split("<![CDATA[")[1:]]
    escaped = (next(filter(None, match.groups())) for match in _XMP_TEXT.finditer(packet))
    for text in (*quoted, *map(unescape, escaped)):
        if len(text.strip()) >= _SHORTEST_TEXT:
            yield text.strip("\n\t ")
