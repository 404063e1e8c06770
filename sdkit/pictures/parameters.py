"""Settings as the `parameters` text of A1111 and Forge, which every gallery and web interface can read.

The text is what people paste into forums::

    a red car on a beach
    Negative prompt: blurry
    Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Model: sd15

The one decision: **this text is for others.** It cannot hold every prompt (a line that begins with
``Negative prompt:`` ends the prompt) nor every setting, so sdkit writes it next to its own JSON and reads it only
from pictures that have nothing better. The line of settings is recognised by its content, from the end, because
prompts may span lines and may talk about steps.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from sdkit.errors import BadPicture, InvalidSettings
from sdkit.settings import SOLVERS, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["from_parameters", "to_parameters"]

_SCHEDULERS: Final = {solver.elsewhere.lower(): name for name, solver in SOLVERS.items()}
# Since version 1.9 A1111 names the spacing of the steps apart from the sampler. These are the plain spacings;
# "Automatic" is one as well, except that it means Karras for DPM++ 2M.
_PLAIN_SPACINGS: Final = frozenset({"", "automatic", "normal", "uniform"})

_NEGATIVE: Final = "Negative prompt:"
_KEY: Final = re.compile(r"\s*(\w[\w \-/]*):\s*")
_END: Final = re.compile(r"\s*(,|$)")
_FEWEST_PAIRS: Final = 3  # A1111's own rule: a line with fewer is still prompt
_LONGEST_LINE: Final = 100_000  # no tool writes such a line, but a file made to stall its reader may hold one
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
        "Variation seed strength": _short(s.variation_amount) if s.variation_seed is not None else None,
        "Denoising strength": _short(s.strength) if s.task != "text-to-image" else None,
    }
    for name, value in (extra or {}).items():
        if _KEY.fullmatch(name + ":") and name == name.strip() and name not in pairs:
            pairs[name] = value
    pairs["Version"] = f"sdkit {s.version}" if s.version else "sdkit"
    last = ", ".join(f"{name}: {_quote(str(value))}" for name, value in pairs.items() if value is not None)
    negative = f"\n{_NEGATIVE} {s.negative_prompt}" if s.negative_prompt else ""
    text = f"{s.prompt}{negative}\n{last}"
    # A NUL would end the text for readers written in C; half a character (only `extra` may hold one) has no bytes.
    return text.replace("\0", " ").encode("utf-8", errors="replace").decode("utf-8")


def from_parameters(text: str) -> tuple[Settings, dict[str, str]]:
    """Read A1111's text.

    Parameters
    ----------
    text
        What `to_parameters`, A1111 or Forge wrote.

    Returns
    -------
    settings
        What has a counterpart here.
    extra
        Everything else by its own name, such as ``"Model hash"`` or a sampler that sdkit does not have.

    Raises
    ------
    BadPicture
        If there is no line of settings, or one of them has a value that cannot be.
    """
    lines = text.rstrip("\0\r\n").split("\n")
    for index in range(len(lines) - 1, -1, -1):
        pairs = _pairs(lines[index])
        if len(pairs) >= _FEWEST_PAIRS and ("Steps" in pairs or "Seed" in pairs):
            break
    else:
        msg = "the picture's text has no line of settings such as 'Steps: 20, Seed: 1, …': pass settings by hand"
        raise BadPicture(msg)
    # Some extensions append their templates below the settings.
    extra = {"Text below the settings": "\n".join(lines[index + 1 :])} if index + 1 < len(lines) else {}
    prompt, negative = _prompts(lines[:index])
    values = {"prompt": prompt, "negative_prompt": negative} | _take(pairs)
    try:
        return Settings.from_dict(values), pairs | extra
    except InvalidSettings as error:
        msg = f"the picture's settings cannot be used: {error}"
        raise BadPicture(msg) from error


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


def _prompts(lines: list[str]) -> tuple[str, str]:
    """Split the lines above the settings at the first that begins the negative prompt."""
    for index, line in enumerate(lines):
        if line.startswith(_NEGATIVE):
            first = line.removeprefix(_NEGATIVE).removeprefix(" ")
            return "\n".join(lines[:index]), "\n".join([first, *lines[index + 1 :]])
    return "\n".join(lines), ""


def _take(pairs: dict[str, str]) -> dict[str, Any]:
    """Move the pairs that sdkit has a setting for out of ``pairs``."""
    values: dict[str, Any] = {}
    for name, field, kind in (
        ("Steps", "steps", int),
        ("CFG scale", "guidance_scale", float),
        ("Seed", "seed", int),
        ("Variation seed", "variation_seed", int),
        ("Variation seed strength", "variation_amount", float),
        ("Model", "model", str),
    ):
        if name in pairs:
            values[field] = _parse(name, pairs.pop(name), kind)
    if "Size" in pairs:
        size = pairs.pop("Size")
        width, _, height = size.partition("x")
        values |= {"width": _parse("Size", width, int, size), "height": _parse("Size", height, int, size)}
    # A second pass at a larger size ("hires fix") writes a denoising strength too, but starts from words alone.
    if "Denoising strength" in pairs and not any(name.startswith("Hires") for name in pairs):
        values["strength"] = _parse("Denoising strength", pairs.pop("Denoising strength"), float)
        values["task"] = "inpainting" if "Mask blur" in pairs else "image-to-image"
    version = pairs.get("Version", "")
    if version.split(" ")[0] == "sdkit":
        values["version"] = pairs.pop("Version")[len("sdkit ") :] or None
    values["scheduler"] = _take_scheduler(pairs)
    return values


def _take_scheduler(pairs: dict[str, str]) -> str | None:
    """Find our name for a sampler; one we do not have stays in ``pairs``, and the pipeline's own is used."""
    sampler, spacing = pairs.get("Sampler", "").lower(), pairs.get("Schedule type", "").lower()
    if spacing == "karras" or (spacing == "automatic" and sampler == "dpm++ 2m"):
        sampler = sampler.removesuffix(" karras") + " karras"
    elif spacing not in _PLAIN_SPACINGS:
        return None
    scheduler = _SCHEDULERS.get(sampler)
    if scheduler:
        pairs.pop("Sampler")
        pairs.pop("Schedule type", None)
    return scheduler


def _parse(name: str, value: str, kind: type[int | float | str], shown: str | None = None) -> int | float | str:
    try:
        return kind(value)
    except ValueError as error:
        msg = f"the picture's '{name}: {(shown or value)[:40]}' is not a number: pass settings by hand"
        raise BadPicture(msg) from error
