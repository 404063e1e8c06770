"""Settings into and out of picture files, as pure functions.

Each picture carries its settings three times, for three readers: sdkit's own JSON (complete and exact), the
`parameters` text of A1111 (for galleries and other tools, see `sdkit.pictures.parameters`) and an XMP mark that says the
picture was made by a model (IPTC *Digital Source Type*, which news agencies and search engines read).

====== ======================== ======================= ==============================
file   sdkit's JSON             A1111's text            mark
====== ======================== ======================= ==============================
PNG    text chunk ``sdkit``     chunk ``parameters``    chunk ``XML:com.adobe.xmp``
JPEG   ``sdkit:settings`` in    EXIF ``UserComment``    ``Iptc4xmpExt`` in XMP
WebP   XMP                      (UTF-16)
====== ======================== ======================= ==============================

The pictures of other programs are read by `carriers` (where texts lie) and `foreign` (what they mean).

The one decision: **a picture is a stranger's file.** Only PNG, JPEG and WebP are opened, of at most 64 megapixels and
1 MiB of metadata, nothing in it is evaluated or parsed as XML, and whatever is wrong ends in one `BadPicture` with one
sentence.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import warnings
from html import escape, unescape
from typing import IO, TYPE_CHECKING, Any, Final

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from sdkit.errors import BadPicture, InvalidSettings
from sdkit.settings import Settings

from .carriers import texts
from .files import path_of
from .foreign import read_texts
from .parameters import to_parameters
from .reading import Reading

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "digital_source_type",
    "exif_and_xmp",
    "fingerprint",
    "open_picture",
    "png_chunks",
    "read_picture",
    "read_settings",
]

FORMATS: Final = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""Suffix of a file name → Pillow's name of the format, for all formats sdkit reads and writes."""

_PIXELS_ONLY: Final = (
    "GIF",
    "BMP",
    "TIFF",
    "AVIF",
)  # read as sources, never written: no settings lie in them
_MADE_BY_MODEL: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_PARTLY_BY_MODEL: Final = (
    "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
)
_XMP: Final = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmlns:sdkit="urn:sdkit-notebooks:settings" Iptc4xmpExt:DigitalSourceType="{source}">{settings}</rdf:Description>
</rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""
_XMP_BEGIN: Final = b"<sdkit:settings>"
_XMP_END: Final = b"</sdkit:settings>"

_MOST_PIXELS: Final = 64_000_000  # 192 MB in RGB; Pillow's own limit only warns, at 89 million
_LONGEST_METADATA: Final = 1 << 20  # bytes, as Pillow has it for each text chunk of a PNG
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_LONG_CHUNKS: Final = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_PLAIN_XMP: Final = b"XML:com.adobe.xmp\0\0"  # not compressed

_TOO_LARGE: Final = "{name} has more than the 64 megapixels that are opened: make it smaller first"

_EXIF_IFD: Final = 0x8769
_USER_COMMENT: Final = 0x9286


def png_chunks(settings: Settings, extra: Mapping[str, str] | None = None) -> PngInfo:
    """Return the text chunks for ``image.save(..., pnginfo=...)``.

    Parameters
    ----------
    settings
        What made the picture.
    extra
        Further facts by name, kept beside the settings.

    Returns
    -------
    PIL.PngImagePlugin.PngInfo
        The three chunks.
    """
    chunks = PngInfo()
    chunks.add_text("parameters", to_parameters(settings, extra))
    chunks.add_text("sdkit", _to_json(settings, extra))
    chunks.add_itxt("XML:com.adobe.xmp", _xmp(settings))
    return chunks


def exif_and_xmp(settings: Settings, extra: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the ``exif=`` and ``xmp=`` arguments for ``image.save`` as JPEG or WebP.

    Parameters
    ----------
    settings, extra
        As for `png_chunks`. JPEG holds 64 KiB in each of the two, which is some 5,000 (emoji) to 30,000 (English)
        characters of prompt; beyond that Pillow's ``save`` raises `ValueError`.

    Returns
    -------
    dict
        The two arguments, as bytes.
    """
    exif = Image.Exif()
    text = to_parameters(settings, extra).encode("utf-16-be")
    exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = b"UNICODE\0" + text
    return {"exif": exif.tobytes(), "xmp": _xmp(settings, _to_json(settings, extra)).encode()}


def open_picture(
    source: str | os.PathLike[str] | bytes | Image.Image, *, texts: bool = True
) -> Image.Image:
    """Open a PNG, JPEG or WebP file, or where only pixels count a GIF, BMP, TIFF or AVIF, and decode all of it.

    Parameters
    ----------
    source
        Path, file contents, or an open image.
    texts
        False for whom only the pixels count: metadata may then be of any size, and of a PNG what could be long is
        left out.

    Returns
    -------
    PIL.Image.Image
        The decoded picture; the file is closed.

    Raises
    ------
    BadPicture
        If there is no such file, or it is no picture, damaged, or too large to be opened safely.
    """
    name = "the picture" if isinstance(source, (bytes, Image.Image)) else f"'{os.fspath(source)}'"
    try:
        if isinstance(source, Image.Image):
            source.load()
            return source
        with (
            io.BytesIO(source) if isinstance(source, bytes) else path_of(source).open("rb") as file,
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(
                file if texts else _without_texts(file),
                formats=sorted({*FORMATS.values(), *(() if texts else _PIXELS_ONLY)}),
            )
            _check_limits(image, name, texts=texts)
            image.load()  # a file that ends early shows it only here
            _check_limits(image, name, texts=texts)  # a PNG may bring more text after its pixels
            return image
    except BadPicture:
        raise
    except FileNotFoundError as error:
        msg = f"there is no picture {name}: check the folder and the spelling"
        raise BadPicture(msg) from error
    except UnidentifiedImageError as error:
        kinds = "PNG, JPEG or WebP" if texts else "PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF"
        msg = f"{name} is not a {kinds} picture: convert it first"
        raise BadPicture(msg) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadPicture(_TOO_LARGE.format(name=name)) from error
    except Exception as error:
        # Pillow's decoders meet broken files with nearly any exception: SyntaxError, struct.error, IndexError …
        reason = (
            getattr(error, "strerror", None)
            or str(error).partition("\n")[0]
            or type(error).__name__
        )
        msg = f"{name} cannot be read ({reason}): use an intact PNG, JPEG or WebP file"
        raise BadPicture(msg) from error


def _without_texts(file: IO[bytes]) -> IO[bytes]:
    """Return a PNG without its texts and colour profile, which Pillow refuses when they are long; others as they are."""
    if file.read(8) != _PNG:
        file.seek(0)
        return file
    kept = io.BytesIO()
    kept.write(_PNG)
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        body = file.read(length + 4)  # and its checksum
        # an editor may have written which side is up into XMP alone; compressed, it could unpack to anything
        upright = kind == b"iTXt" and body.startswith(_PLAIN_XMP) and length <= _LONGEST_METADATA
        if kind not in _LONG_CHUNKS or upright:
            kept.write(head + body)
    kept.seek(0)
    return kept


def _check_limits(image: Image.Image, name: str, *, texts: bool) -> None:
    if image.width * image.height > _MOST_PIXELS:
        raise BadPicture(_TOO_LARGE.format(name=name))
    length = sum(len(value) for value in image.info.values() if isinstance(value, (str, bytes)))
    if texts and length > _LONGEST_METADATA:
        msg = f"{name} brings more than 1 MiB of metadata, which no settings need: save it again without"
        raise BadPicture(msg)


def read_settings(
    source: str | os.PathLike[str] | bytes | Image.Image,
) -> tuple[Settings, dict[str, str]]:
    """Read the settings back out of a picture, without the notes of `read_picture`.

    Parameters
    ----------
    source
        Path, file contents, or an open image.

    Returns
    -------
    settings
        sdkit's own JSON where there is one, else what another program's text says.
    extra
        What else was recorded, by name; for a foreign picture all pairs without a counterpart here.

    Raises
    ------
    BadPicture
        If the picture cannot be read, holds no settings, or holds damaged ones.
    """
    settings, extra, _ = read_picture(source)
    return settings, extra


def read_picture(source: str | os.PathLike[str] | bytes | Image.Image) -> Reading:
    """Read what a picture made by sdkit or by another program says about how it was made.

    Parameters
    ----------
    source
        Path, file contents, or an open image.

    Returns
    -------
    Reading
        Settings and the rest as from `read_settings`, and notes on what could not be used.

    Raises
    ------
    BadPicture
        As for `read_settings`.
    """
    image = open_picture(source)
    own = image.info.get("sdkit")
    xmp = image.info.get("xmp")
    if own is None and isinstance(xmp, bytes) and _XMP_BEGIN in xmp:
        own = unescape(
            xmp.partition(_XMP_BEGIN)[2].partition(_XMP_END)[0].decode("ascii", errors="replace")
        )
    if isinstance(own, str):
        return _from_json(own)
    return read_texts(texts(image))


def digital_source_type(settings: Settings) -> str:
    """Return IPTC's address of what kind of picture this is: made by a model, or in part (inpainting)."""
    return _PARTLY_BY_MODEL if settings.task == "inpainting" else _MADE_BY_MODEL


def fingerprint(image: Image.Image) -> str:
    """Return the SHA-256 of a picture's size and RGB pixels, as `Settings.source` and `Settings.mask` record it.

    Parameters
    ----------
    image
        Any picture. The same pixels give the same digest from PNG, from lossless WebP and from memory.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(f"{image.width}x{image.height}\n".encode())
    digest.update(image.convert("RGB").tobytes())
    return digest.hexdigest()


def _to_json(settings: Settings, extra: Mapping[str, str] | None) -> str:
    # ASCII, because XMP allows no control characters and PNG text would need another kind of chunk.
    return json.dumps({"settings": settings.to_dict(), "extra": dict(extra or {})})


def _from_json(text: str) -> Reading:
    try:
        content = json.loads(text)
        values, extra = content["settings"], content.get("extra") or {}
        # A newer sdkit may know more settings: its pictures stay readable, and what is unknown is handed over.
        settings = Settings.from_dict(values, strict=False)
        known = settings.to_dict()
        newer = {name: value for name, value in values.items() if name not in known}
        extra = {**extra, **newer}
    except InvalidSettings as error:
        msg = f"the picture's settings cannot be used: {error}"
        raise BadPicture(msg) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        msg = "the picture's 'sdkit' text is damaged (not the JSON that sdkit writes): pass settings by hand"
        raise BadPicture(msg) from error
    texts_of = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in extra.items()
    }
    names = ", ".join(f"'{name}'" for name, value in newer.items() if value is not None)
    note = f"a newer sdkit recorded {names}, which this version does not know: the picture may come out differently"
    return Reading(settings, texts_of, (note,) if names else ())


def _xmp(settings: Settings, content: str = "") -> str:
    inner = f"<sdkit:settings>{escape(content)}</sdkit:settings>" if content else ""
    return _XMP.format(source=digital_source_type(settings), settings=inner)
