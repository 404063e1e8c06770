"""From names and values, as other programs write them, to settings.

The one decision: **one bad value never costs the rest.** Each value is checked alone; one that no run could use stays
in ``extra`` under its name, and a note says which and why. What shaped the picture and has no counterpart here (LoRAs,
a second pass in large, another autoencoder) is named in a note as well: nothing is left out in silence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from sdkit.errors import InvalidSettings
from sdkit.settings import SOLVERS, Settings

__all__ = ["NAMES", "Reading", "known_name", "read_pairs"]


class Reading(NamedTuple):
    """What a picture says about how it was made.

    Parameters
    ----------
    settings
        What has a counterpart here and can be used.
    extra
        Everything else by its own name.
    notes
        One sentence on each value that was left out, and on what the settings do not hold.
    """

    settings: Settings
    extra: dict[str, str]
    notes: tuple[str, ...] = ()


_ALIASES: Final = {
    "Steps": "steps numinferencesteps",
    "CFG scale": "cfgscale cfg guidancescale",
    "Seed": "seed noiseseed",
    "Sampler": "sampler samplername",
    "Schedule type": "scheduletype scheduler",
    "Model": "model basemodel stablediffusionmodel usestablediffusionmodel ckptname unetname",
    "Size": "size resolution",
    "Width": "width",
    "Height": "height",
    "Variation seed": "variationseed",
    "Variation seed strength": "variationseedstrength",
    "Denoising strength": "denoisingstrength promptstrength initimagecreativity",
}
NAMES: Final = {alias: name for name, aliases in _ALIASES.items() for alias in aliases.split()}
"""What programs call a setting, without spaces and case → what A1111 calls it."""

# Names that begin so stand for something that changed the picture, and that no setting holds.
_SHAPING: Final = re.compile(
    r"(use)?(lora|lyco|lycoris|addnet|clipskip|clipstop|vae|hires|highres|refiner|controlnet|ipadapter|hypernet|ti"
    r"hash|embedding|style|freeu|facerestor|facecorrection|upscale|tiling|seamless|distilledcfg|fluxguidance|adetailer"
    r"|textencoder|module)"
)
_LISTS: Final = frozenset({"hashes", "civitairesources"})  # of all weights, the model's among them
_WITHOUT_EFFECT: Final = frozenset(
    {"", "none", "null", "undefined", "false", "0", "[]", "{}", "automatic", "default (model)"}
)
_IN_THE_PROMPT: Final = re.compile(r"<(?:lora|lyco|hypernet):[^<>\n]{1,200}>")
_MOST_NAMED: Final = 8
_NOTHING: Final = frozenset({"undefined", "null", "none", "nan"})
_LONGEST_SHOWN: Final = 60

# A1111's names out of the table of solvers, without spaces; and what other programs call the same
_SAMPLERS: Final = {
    solver.elsewhere.lower().replace(" ", ""): name for name, solver in SOLVERS.items()
} | {
    "eulerancestral": "euler_a",
    "dpm++2mk": "dpm++_karras",  # InvokeAI
    "unipcbh2": "unipc",  # ComfyUI
    "lmsd": "lms",  # InvokeAI
    "pndm": "pndm",
}
# Since version 1.9 A1111 names the spacing of the steps apart from the sampler. These are the plain spacings;
# "Automatic" is one as well, except that it means Karras for DPM++ 2M.
_PLAIN_SPACINGS: Final = frozenset({"", "automatic", "normal", "uniform", "native"})


def known_name(name: str) -> str | None:
    """Return A1111's name for a setting, whatever its case and spacing; `None` for one that no setting holds."""
    return NAMES.get(_squeezed(name))


def read_pairs(prompt: str, negative: str, pairs: Mapping[str, str]) -> Reading:
    """Read settings from names and values.

    Parameters
    ----------
    prompt, negative
        The two prompts.
    pairs
        Values by any name in `NAMES`, in any case; the first of equal names counts.

    Returns
    -------
    Reading
        Never an error: what cannot be used is told in the notes.
    """
    named, extra = _by_name(pairs)
    ours = extra.get("Version", "").split(" ")[0] == "sdkit"
    values: dict[str, Any] = {
        "prompt": _whole_characters(prompt),
        "negative_prompt": _whole_characters(negative),
    }
    notes: list[str] = []
    if (prompt, negative) != (values["prompt"], values["negative_prompt"]):
        notes.append("half a character in the prompt was replaced by '?'")
    if ours:
        values["version"] = _whole_characters(extra.pop("Version")[len("sdkit ") :]) or None
    else:
        notes += _drop_nothing(values, named, extra)
    for name, parse in _parsers(extra).items():
        if name in named:
            value = named.pop(name)
            try:
                found = parse(value)
                Settings.from_dict({**values, **found})
            except ValueError as error:
                reason = str(error) if isinstance(error, InvalidSettings) else "not a number"
                extra[name] = value
                notes.append(f"'{name}: {_shown(value)}' was left out ({reason})")
            else:
                values |= found
    if "seed" not in values:
        notes.append("no seed could be read: seed 0 is used")
    values["scheduler"] = _take_scheduler(named)
    if "Sampler" in named:
        notes.append(_without_counterpart(named["Sampler"], named.get("Schedule type", "")))
    extra |= named
    notes += _shaping(values["prompt"], extra)
    return Reading(Settings.from_dict(values), extra, tuple(notes))


def _by_name(pairs: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Split into pairs that a setting may hold, under A1111's names, and the others."""
    named: dict[str, str] = {}
    extra: dict[str, str] = {}
    for name, value in pairs.items():
        known = known_name(name)
        if known and known not in named:
            named[known] = value
        else:
            extra[name] = value
    if "Width" in named and "Height" in named and "Size" not in named:
        named["Size"] = f"{named.pop('Width')}x{named.pop('Height')}"
    # A second pass at a larger size ("hires fix") writes a denoising strength too, but starts from words alone.
    if "Denoising strength" in named and any(_squeezed(name).startswith("hires") for name in pairs):
        extra["Denoising strength"] = named.pop("Denoising strength")
    return named, extra


def _drop_nothing(
    values: dict[str, Any], named: dict[str, str], extra: dict[str, str]
) -> list[str]:
    """Take words such as ``undefined``, which web pages write for a missing text, out of the texts."""
    notes = []
    for name, text in (
        ("Negative prompt", values["negative_prompt"]),
        ("Model", named.get("Model", "")),
    ):
        if text.strip().lower() in _NOTHING:
            notes.append(f"'{name}: {text.strip()}' was read as none")
            extra[name] = text
    values["negative_prompt"] = "" if "Negative prompt" in extra else values["negative_prompt"]
    if "Model" in extra:
        named.pop("Model", None)
    return notes


def _parsers(extra: Mapping[str, str]) -> Mapping[str, Callable[[str], dict[str, Any]]]:
    if "Mask blur" not in extra:
        return _PARSERS
    return {
        **_PARSERS,
        "Denoising strength": lambda text: {"strength": float(text), "task": "inpainting"},
    }


def _size(text: str) -> dict[str, Any]:
    # "512x768"; with spaces; with a true multiplication sign; Fooocus writes "(896, 1152)"
    sides = text[: _LONGEST_SHOWN + 1].strip(" ()[]")
    match = re.fullmatch(r"([^\s,x×]+)\s*[x×,]\s*([^\s,x×]+)", sides, re.IGNORECASE)
    if not match:
        raise ValueError
    return {"width": _whole(match[1]), "height": _whole(match[2])}


def _whole(text: str) -> int:
    """Read a whole number, also one that was written as ``8.0``."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer():
            raise
        return int(number)


_PARSERS: Final[Mapping[str, Callable[[str], dict[str, Any]]]] = {
    "Steps": lambda text: {"steps": _whole(text)},
    "CFG scale": lambda text: {"guidance_scale": float(text)},
    "Seed": lambda text: {"seed": _whole(text)},
    "Size": _size,
    "Model": lambda text: {"model": _whole_characters(text)},
    "Variation seed": lambda text: {"variation_seed": _whole(text)},
    "Variation seed strength": lambda text: {"variation_amount": float(text)},
    "Denoising strength": lambda text: {"strength": float(text), "task": "image-to-image"},
}


def _take_scheduler(named: dict[str, str]) -> str | None:
    """Find our name for a sampler; one we do not have stays in ``named``, and the pipeline's own is used."""
    sampler = re.sub(r"^(sample_)?k_", "", named.get("Sampler", "").strip().lower())
    sampler = re.sub(r"[\s_-]", "", sampler).replace("dpmpp", "dpm++")
    spacing = named.get("Schedule type", "").strip().lower()
    if spacing == "karras" or (spacing == "automatic" and sampler == "dpm++2m"):
        sampler = sampler.removesuffix("karras") + "karras"
    elif spacing not in _PLAIN_SPACINGS:
        return None
    scheduler = _SAMPLERS.get(sampler)
    if scheduler:
        named.pop("Sampler")
        named.pop("Schedule type", None)
    return scheduler


def _without_counterpart(sampler: str, spacing: str) -> str:
    alone = _take_scheduler({"Sampler": sampler}) is None
    name = (
        repr(_shown(sampler))
        if alone
        else f"{_shown(sampler)!r} with steps spaced {_shown(spacing)!r}"
    )
    return f"sampler {name} has no counterpart here: the pipeline's own scheduler will be used"


def _shaping(prompt: str, extra: Mapping[str, str]) -> list[str]:
    """Name what the settings do not hold though it changed the picture."""
    found = [f"'{_shown(text)}'" for text in dict.fromkeys(_IN_THE_PROMPT.findall(prompt))]
    for name, value in extra.items():
        key, text = _squeezed(name), value.strip().lower()
        by_default = text in _WITHOUT_EFFECT or (key == "clipskip" and text in {"1", "-1"})
        shaping = bool(_SHAPING.match(key)) or (key in _LISTS and "lora" in text)
        if shaping and not key.endswith("hash") and not by_default:
            found.append(f"'{_shown(name)}: {_shown(value)}'")
    if not found:
        return []
    listed = ", ".join(found[:_MOST_NAMED]) + (" …" if len(found) > _MOST_NAMED else "")
    return [
        f"the picture was also made with {listed}: the settings hold none of it, so add it to the pipeline by hand"
    ]


def _squeezed(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _whole_characters(text: str) -> str:
    """Replace half characters (lone surrogates, which JSON may hold) by question marks."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def _shown(value: str) -> str:
    line = " ".join(_whole_characters(value).split())
    return line if len(line) <= _LONGEST_SHOWN else line[: _LONGEST_SHOWN - 1] + "…"
