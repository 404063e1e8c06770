r"""Text where not every character can be shown: on a terminal of an old encoding, or drawn with a font that lacks it.

The one decision: **a reader gets letters or an escape, never a box or an error.** What cannot be shown is taken apart by
Unicode's own compatibility forms (``é`` → ``e``), and what has none is written by its number (``\u4e2d``).
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable
from typing import Final, TextIO

__all__ = ["legible", "printable", "say"]

_PLAIN: Final = {"→": "->", "←": "<-", "×": "x", "▸": ">", "…": "...", "·": "-", "–": "-", "—": "-", "’": "'", "“": '"', "”": '"', "⚠": "!", "⁄": "/"}  # fmt: skip


def legible(text: str, shows: Callable[[str], bool]) -> str:
    r"""Return a text in which every character can be shown.

    Parameters
    ----------
    text
        Any text, lone surrogates included.
    shows
        Whether a piece of text can be shown; it should be true of ASCII.

    Examples
    --------
    >>> legible("né → 中", str.isascii)
    'ne -> \\u4e2d'
    """
    if shows(text):
        return text
    return "".join(
        piece if shows(piece) else _spelled(piece, shows)
        for piece in unicodedata.normalize("NFC", text)
    )


def printable(text: str, stream: TextIO | None = None) -> str:
    """Return a text as a stream can take it; by default what `print` writes to."""
    encoding = getattr(sys.stdout if stream is None else stream, "encoding", None) or "utf-8"

    def shows(piece: str) -> bool:
        try:
            piece.encode(encoding)
        except UnicodeEncodeError:
            return False
        return True

    return legible(text, shows)


def say(line: object, stream: TextIO | None = None) -> None:
    """Print a line, whatever the stream's encoding (cp1252, cp437, ASCII …): a note must not end a run."""
    print(printable(str(line), stream), file=stream, flush=True)


def _spelled(character: str, shows: Callable[[str], bool]) -> str:
    if character in _PLAIN:
        return _PLAIN[character]
    parts = unicodedata.normalize("NFKD", character)
    letters = "".join(_PLAIN.get(c, c) for c in parts if not unicodedata.combining(c))
    if letters and shows(letters):
        return letters
    if parts != character and unicodedata.combining(character):
        return ""
    return character.encode("ascii", "backslashreplace").decode("ascii")
