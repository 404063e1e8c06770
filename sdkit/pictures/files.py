"""File names made from prompts, and files that are whole or not there.

The one decision: everything sdkit writes goes to a temporary name in the same folder first and is renamed when it is
complete (`os.replace` is atomic within a folder). A full disk, an interrupt or a crash in an encoder therefore
never leaves half a picture, nor destroys the good one that stood there before.
"""

from __future__ import annotations

import io
import os
import secrets
import unicodedata
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sdkit.errors import CannotSave

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image

__all__ = [
    "contents",
    "ends_whole",
    "html_path",
    "path_of",
    "replacing",
    "safe_name",
    "write_picture",
]

_PNG_END: Final = b"\0\0\0\0IEND\xaeB`\x82"  # of every PNG

# ext4 and APFS allow 255 bytes, and some encrypted folders only 143; a suffix and a number must fit as well.
_LONGEST_NAME: Final = 120


# what desktops and editors put beside one's files, unasked; names that begin with a dot are theirs as well
_DROPPINGS: Final = {
    "desktop.ini",
    "thumbs.db",
    "ehthumbs.db",
    "icon\r",
    "__macosx",
    "$recycle.bin",
}


def path_of(path: str | os.PathLike[str]) -> Path:
    """Return a path that a user gave, with ``~`` as the home folder: shells expand it, and Python's `open` does not."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # "~somebody" whom this system does not know: a file may be called so
        return Path(path)


def html_path(path: str | os.PathLike[str]) -> Path:
    """Return the path of a page that is to be written; `CannotSave` if its name says otherwise."""
    found = path_of(path)
    if found.suffix.lower() not in {".html", ".htm"}:
        raise CannotSave(f"cannot save '{found}': the name must end in .html")
    return found


def contents(folder: Path) -> list[Path]:
    """Return what somebody put into a folder, sorted; not what the system did (``.DS_Store``, ``Thumbs.db``, ``.ipynb_checkpoints`` …).

    Raises
    ------
    OSError
        If there is no such folder, or it cannot be read.
    """
    return sorted(
        p for p in folder.iterdir() if not (p.name.startswith(".") or p.name.lower() in _DROPPINGS)
    )


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to; when the block ends well, it becomes ``path``.

    Parameters
    ----------
    path
        The file to make, or to replace as a whole. Its folder must exist.

    Yields
    ------
    pathlib.Path
        A path in the same folder with the same suffix (encoders choose the format by it). No file is there yet.

    Raises
    ------
    CannotSave
        If the folder is missing, or for any `OSError` inside the block. Nothing is left behind, whatever happened.

    Examples
    --------
    >>> with replacing("walk.mp4") as temporary:  # doctest: +SKIP
    ...     encode(frames, temporary)
    """
    path = path_of(path)
    temporary = path.parent / f".sdkit-{secrets.token_hex(8)}{path.suffix}"
    try:
        _check_place(path)
        yield temporary
        temporary.replace(path)
    except CannotSave:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        msg = f"cannot save '{path}': {reason}; check the disk and your rights, or choose another folder"
        raise CannotSave(msg) from error
    finally:
        with suppress(
            OSError
        ):  # not there after a success; and an error on the way out would hide the first
            temporary.unlink()


def write_picture(image: Image.Image, path: Path, kind: str, **options: Any) -> None:
    """Encode a picture and write it to a new file.

    Pillow hands the file of a JPEG to its C encoder, which does not notice when the disk takes only a part of what it
    writes: half a picture would pass for a whole one. So it is encoded in memory, and Python writes it.
    """
    encoded = io.BytesIO()
    image.save(encoded, kind, **options)
    with path.open("xb") as file:
        file.write(encoded.getbuffer())


def safe_name(prompt: str, seed: int) -> str:
    """Make a file name (without suffix) from a prompt, readable and valid on every system.

    Parameters
    ----------
    prompt
        Any text.
    seed
        Ends the name, so that it is never empty, never a reserved one (``CON``, ``NUL``), and drafts differ.

    Returns
    -------
    str
        At most 120 bytes in UTF-8: letters, digits, marks and symbols of any script, words joined by ``-``.

    Examples
    --------
    >>> safe_name("a red car on a beach, watercolor", 7)
    'a-red-car-on-a-beach-watercolor-7'
    >>> safe_name("../../etc/passwd", 1)
    'etc-passwd-1'
    """
    end = f"-{seed}"
    # NFC, because macOS would otherwise store another spelling than the one returned here.
    text = unicodedata.normalize("NFC", prompt[: 4 * _LONGEST_NAME])
    words = "".join(character if _is_plain(character) else " " for character in text).split()
    stem = (
        "-".join(words).encode("utf-8")[: _LONGEST_NAME - len(end)].decode("utf-8", errors="ignore")
    )
    return (stem.strip("-") or "picture") + end


def _check_place(path: Path) -> None:
    if not path.parent.is_dir():
        msg = f"cannot save '{path}': there is no folder '{path.parent}'; make it first, or choose another"
        raise CannotSave(msg)
    if path.is_dir():
        msg = f"cannot save '{path}': that is a folder; give a file name in it"
        raise CannotSave(msg)


def _is_plain(character: str) -> bool:
    """Keep letters, digits, combining marks and pictographs; no dots, separators or invisible characters."""
    category = unicodedata.category(character)
    return category[0] in "LMN" or category == "So" or character == "_"


def ends_whole(file: Path) -> bool:
    """Whether a PNG file has its end, which is quicker to see than whether it is sound."""
    try:
        with file.open("rb") as opened:
            opened.seek(-len(_PNG_END), os.SEEK_END)
            return opened.read() == _PNG_END
    except OSError:  # shorter than that, gone, or no file
        return False
