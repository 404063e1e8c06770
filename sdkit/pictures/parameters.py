"""Settings as the `parameters` text of A1111 and Forge, which every gallery and web interface can read.

The text is what people paste into forums::

    a red car on a beach
    Negative prompt: blurry
    Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Model: sd15

The one decision: **this text is for others.** It cannot hold every prompt (a line that begins with
``Negative prompt:`` ends the prompt) nor every setting, so sdkit writes it next to its own JSON and reads it only
from pictures that have nothing better. The line of settings is recognised by its content, from the end, because
prompts may span lines and may talk about steps. What its values mean, `reading` knows.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from sdkit.errors import BadPicture
from sdkit.settings import SOLVERS, Settings

from .reading import Reading, known_name, read_pairs

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["from_parameters", "read_parameters", "to_parameters"]


_NEGATIVE: Final = "Negative prompt:"
_KEY: Final = re.compile(r"\s*(\w[\w \-/]*):\s*")
_END: Final = re.compile(r"\s*(,|$)")
_BEGINNING: Final = re.compile(r"(?<!\w)(steps|seed|sampler|cfg scale):", re.IGNORECASE)
_MOST_BEGINNINGS: Final = (
    10  # tried from either end of a line: a text made of nothing else must not stall its reader
)
_FEWEST_PAIRS: Final = (
    3  # A1111's own rule: a line with fewer is still prompt, unless every name in it is a setting's
)
_LONGEST_LINE: Final = (
    100_000  # no tool writes such a line, but a file made to stall its reader may hold one
)
_JSON: Final = json.JSONDecoder()


def to_parameters(settings: Settings, extra: Mapping[str, str] | None = None) -> str:
    """Write settings as A1111's text.

    Parameters
    ----------
    settings
        What made the picture.
    extra
        Further pairs for the last line; names must be made of letters, digits, spaces, ``-`` and ``/`` (others are
        left out).

    Returns
    -------
    str
        Prompt, negative prompt and one line of settings; those that are ``None`` are left out.
    """
    s = settings
    pairs: dict[str, object] = {
        "Steps": s.steps,
        "Sampler": SOLVERS[s.scheduler].elsewhere if s.scheduler else None,
        "CFG scale": _short(s.guidance_scale) if s.guidance_scale is not None else None,
        "Seed": s.seed,
        "Size": f"{s.width}x{s.height}" if s.width and s.height else None,
        "Model": s.model,
        "Variation seed": s.variation_seed,
        "Variation seed strength": _short(s.variation_amount)
        if s.variation_seed is not None
        else None,
        "Denoising strength": _short(s.strength) if s.task != "text-to-image" else None,
    }
    for name, value in (extra or {}).items():
        if _KEY.fullmatch(name + ":") and name == name.strip() and name not in pairs:
            pairs[name] = value
    pairs["Version"] = f"sdkit {s.version}" if s.version else "sdkit"
    last = ", ".join(
        f"{name}: {_quote(str(value))}" for name, value in pairs.items() if value is not None
    )
    negative = f"\n{_NEGATIVE} {s.negative_prompt}" if s.negative_prompt else ""
    text = f"{s.prompt}{negative}\n{last}"
    # A NUL would end the text for readers written in C; half a character (only `extra` may hold one) has no bytes.
    return text.replace("\0", " ").encode("utf-8", errors="replace").decode("utf-8")


def from_parameters(text: str) -> tuple[Settings, dict[str, str]]:
    """Read A1111's text, without the notes of `read_parameters`.

    Parameters
    ----------
    text
        What `to_parameters`, A1111 or Forge wrote.

    Returns
    -------
    settings
        What has a counterpart here and can be used.
    extra
        Everything else by its own name, such as ``"Model hash"`` or a sampler that sdkit does not have.

    Raises
    ------
    BadPicture
        If there is no line of settings.
    """
    settings, extra, _ = read_parameters(text)
    return settings, extra


def read_parameters(text: str) -> Reading:
    """Read A1111's text; also with keys in lower case, with other ends of lines, or all in one line.

    Parameters
    ----------
    text
        What `to_parameters`, A1111, Forge, or a web page that imitates them wrote.

    Returns
    -------
    Reading
        Settings, the rest by name, and notes on what was left out.

    Raises
    ------
    BadPicture
        If there is no line of settings.
    """
    text = text.rstrip("\0\r\n")
    if "\n" not in text and re.search(
        rf"\\n(Steps:|{_NEGATIVE})", text
    ):  # taken out of JSON by hand
        text = text.replace("\\n", "\n")
    above, pairs, below, cut = _find_pairs(text)
    ours = pairs.get("Version", "").split(" ")[0] == "sdkit"
    if not ours:  # our own text keeps a prompt's \r, and its keys are never in another case
        above = [line.removesuffix("\r") for line in above]
    prompt, negative = _prompts_in_line("\n".join(above)) if cut else _prompts(above, exact=ours)
    # Some extensions append their templates below the settings.
    extra = {"Text below the settings": "\n".join(below)} if below else {}
    reading = read_pairs(prompt, negative, pairs)
    return reading._replace(extra=reading.extra | extra)


def _short(value: float) -> str:
    """Write a number as people do and exactly: ``7``, not ``7.0``; ``0.1`` stays ``0.1``."""
    return repr(value).removesuffix(".0")


def _quote(value: str) -> str:
    """Quote a value that would otherwise end early: ``a, b`` → ``"a, b"``."""
    if not value or value != value.strip() or re.search(r'[,:\n\r"\[{]', value):
        return json.dumps(value, ensure_ascii=False)
    return value


def _pairs(line: str) -> dict[str, str]:
    """Split ``Steps: 20, Model: "a, b"`` into its pairs; nothing if the line does not begin with one."""
    pairs: dict[str, list[str]] = {}
    parts: list[str] = []
    position = 0
    if len(line) > _LONGEST_LINE:
        return {}
    while position < len(line):
        match = _KEY.match(line, position)
        if match:
            value, position = _json_value(line, match.end()) or _plain_value(line, match.end())
            parts = pairs[match[1].strip()] = []
        elif pairs:  # an extension wrote a comma without quoting it
            value, position = _plain_value(line, position)
        else:
            return {}
        parts.append(value)
    return {name: ", ".join(values) for name, values in pairs.items()}


def _json_value(line: str, start: int) -> tuple[str, int] | None:
    """Read a quoted value from ``start``; return it and where the next pair begins, or `None` if it is not quoted."""
    if line[start : start + 1] not in {'"', "[", "{"}:  # Civitai puts lists there, without quotes
        return None
    try:
        value, end = _JSON.raw_decode(line, start)
    except (ValueError, RecursionError):
        return None  # only looks like JSON
    rest = _END.match(line, end)
    if rest is None:
        return None
    return value if isinstance(value, str) else line[start:end], rest.end()


def _plain_value(line: str, start: int) -> tuple[str, int]:
    """Read up to the next comma; return the value and where the next pair begins."""
    end = line.find(",", start)
    end = len(line) if end < 0 else end
    return line[start:end].strip(), end + 1


def _find_pairs(text: str) -> tuple[list[str], dict[str, str], list[str], bool]:
    """Find the settings, from the end; return the lines above, the pairs, the lines below, and whether a line was cut."""
    lines = re.split(r"\r\n?|\n", text)
    for attempt in (text.split("\n"), lines):
        for index in range(len(attempt) - 1, -1, -1):
            pairs = _pairs(attempt[index])
            first = next(iter(pairs), "")
            # The only line may begin with a prompt that looks like a pair: "a fox: red, Steps: 20, …".
            prose = index == 0 and known_name(first) is None
            if _are_settings(pairs) and not prose and first.lower() != _NEGATIVE[:-1].lower():
                return attempt[:index], pairs, attempt[index + 1 :], False
    start, pairs = _listed(lines)
    if _are_settings(pairs):
        return lines[:start], pairs, [], False
    for index in range(len(lines) - 1, -1, -1):
        line = lines[index]
        starts = (
            [match.start() for match in _BEGINNING.finditer(line)]
            if len(line) <= _LONGEST_LINE
            else []
        )
        for start in dict.fromkeys(starts[:_MOST_BEGINNINGS] + starts[-_MOST_BEGINNINGS:]):
            pairs = _pairs(line[start:])
            # "Steps: 3 in the snow Steps: 28, …": the first is still prompt.
            if _are_settings(pairs) and not _BEGINNING.search(" " + next(iter(pairs.values()))):
                return [*lines[:index], line[:start].rstrip(" ,")], pairs, lines[index + 1 :], True
    msg = "the picture's text has no line of settings such as 'Steps: 20, Seed: 1, …': pass settings by hand"
    raise BadPicture(msg)


def _listed(lines: list[str]) -> tuple[int, dict[str, str]]:
    """Read settings with a line for each; return where they begin."""
    start, found = len(lines), []
    for index in range(len(lines) - 1, -1, -1):
        pairs = _pairs(lines[index])
        first = next(iter(pairs), "")
        if (not pairs and lines[index].strip()) or first.lower() == _NEGATIVE[:-1].lower():
            break
        found.append(pairs)
        start = index if known_name(first) else start
    listed: dict[str, str] = {}
    for pairs in reversed(
        found[: len(lines) - start]
    ):  # those above are prompt that looks like pairs
        listed |= pairs
    return start, listed


def _are_settings(pairs: dict[str, str]) -> bool:
    names = [known_name(name) for name in pairs]
    enough = len(names) >= _FEWEST_PAIRS or (len(names) > 1 and None not in names)
    return enough and ("Steps" in names or "Seed" in names)


def _prompts(lines: list[str], *, exact: bool) -> tuple[str, str]:
    """Split the lines above the settings at the first that begins the negative prompt."""
    for index, line in enumerate(lines):
        begins = line[: len(_NEGATIVE)]
        if begins == _NEGATIVE or (not exact and begins.lower() == _NEGATIVE.lower()):
            first = line[len(_NEGATIVE) :].removeprefix(" ")
            return "\n".join(lines[:index]), "\n".join([first, *lines[index + 1 :]])
    return "\n".join(lines), ""


def _prompts_in_line(text: str) -> tuple[str, str]:
    """Split a text that lost its ends of lines at the words ``Negative prompt:``."""
    prompt, *rest = re.split(re.escape(_NEGATIVE), text, maxsplit=1, flags=re.IGNORECASE)
    return prompt.rstrip(" ,\n") if rest else prompt, rest[0].strip(" ") if rest else ""
