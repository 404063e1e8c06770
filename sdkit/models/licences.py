"""Under which licence the weights of a model may be used: its name, where it can be read, and what it forbids.

The one decision: the model card says it. The tables here only know what the short names of cards stand for, and which
licence the well-known models have whose card is not at hand; nothing is guessed for anybody else's weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from sdkit.pictures.legible import say

__all__ = ["Licence", "licence_of", "tell"]

_LONGEST_CARD: Final = 1 << 20  # bytes; a card is a page of text
_LONGEST_NAME: Final = 200

_RAIL: Final = (
    "its Attachment A forbids breaking the law, harm to minors, false or personal information meant to harm, defamation "
    "and harassment, automated decisions about people's rights, discrimination and exploiting the vulnerable, medical "
    "advice, and use in justice, policing or immigration; whoever gets the model or its copies must be bound to that too"
)


@dataclass(frozen=True)
class Licence:
    """The name of a licence, where to read it, and what it limits, in one line."""

    name: str
    link: str | None = None
    limits: str = ""

    def __str__(self) -> str:
        """Name, link and limits in one line."""
        return " · ".join(part for part in (self.name, self.link, self.limits) if part)


_HUB: Final = "https://huggingface.co"
_OPENRAIL_M: Final = Licence(
    "CreativeML Open RAIL-M", f"{_HUB}/spaces/CompVis/stable-diffusion-license", _RAIL
)
_OPENRAIL_PP: Final = Licence(
    "CreativeML Open RAIL++-M",
    f"{_HUB}/stabilityai/stable-diffusion-xl-base-1.0/blob/main/LICENSE.md",
    _RAIL,
)
_STABILITY: Final = Licence(
    "Stability AI Community License",
    "https://stability.ai/license",
    "free below 1 million dollars of yearly revenue",
)
_STABILITY_NC: Final = Licence(
    "Stability AI Non-Commercial Research Community License",
    f"{_HUB}/stabilityai/sdxl-turbo/blob/main/LICENSE.md",
    "research and other non-commercial use only",
)
_FLUX_DEV: Final = Licence(
    "FLUX.1 [dev] Non-Commercial License",
    f"{_HUB}/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md",
    "the model is for non-commercial use",
)
_APACHE: Final = Licence("Apache 2.0", "https://www.apache.org/licenses/LICENSE-2.0")

# what a card says in `license` or `license_name` → the licence
_SHORT: Final = {
    "creativeml-openrail-m": _OPENRAIL_M,
    "openrail": _OPENRAIL_M,
    "openrail++": _OPENRAIL_PP,
    "stabilityai-ai-community": _STABILITY,
    "stabilityai-nc-research-community": _STABILITY_NC,
    "sai-nc-community": _STABILITY_NC,
    "flux-1-dev-non-commercial-license": _FLUX_DEV,
    "apache-2.0": _APACHE,
    "mit": Licence("MIT", "https://opensource.org/license/mit"),
    "cc0-1.0": Licence("CC0 1.0", "https://creativecommons.org/publicdomain/zero/1.0/"),
    "cc-by-4.0": Licence("CC BY 4.0", "https://creativecommons.org/licenses/by/4.0/"),
    "cc-by-sa-4.0": Licence("CC BY-SA 4.0", "https://creativecommons.org/licenses/by-sa/4.0/"),
    "cc-by-nc-4.0": Licence(
        "CC BY-NC 4.0", "https://creativecommons.org/licenses/by-nc/4.0/", "non-commercial use"
    ),
}
# hub id → the licence, where no card is at hand
_KNOWN: Final = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": _OPENRAIL_M,
    "runwayml/stable-diffusion-v1-5": _OPENRAIL_M,
    "CompVis/stable-diffusion-v1-4": _OPENRAIL_M,
    "stabilityai/stable-diffusion-2-base": _OPENRAIL_PP,
    "stabilityai/stable-diffusion-2": _OPENRAIL_PP,
    "stabilityai/stable-diffusion-2-1-base": _OPENRAIL_PP,
    "stabilityai/stable-diffusion-2-1": _OPENRAIL_PP,
    "stabilityai/stable-diffusion-xl-base-1.0": _OPENRAIL_PP,
    "stabilityai/sdxl-turbo": _STABILITY_NC,
    "stabilityai/stable-diffusion-3-medium-diffusers": _STABILITY,
    "stabilityai/stable-diffusion-3.5-medium": _STABILITY,
    "stabilityai/stable-diffusion-3.5-large": _STABILITY,
    "stabilityai/stable-diffusion-3.5-large-turbo": _STABILITY,
    "black-forest-labs/FLUX.1-dev": _FLUX_DEV,
    "black-forest-labs/FLUX.1-schnell": _APACHE,
    "pocket": _APACHE,
    "pocket-turbo": _APACHE,
}
_told: set[str] = set()


@lru_cache(maxsize=64)
def licence_of(name: str, place: Path | None = None) -> Licence | None:
    """The licence of a model, or None where nobody says it.

    Parameters
    ----------
    name
        Hub id, or what the model is called otherwise.
    place
        Its folder, whose ``README.md`` may be a model card; or its ``.safetensors`` file, whose header may say it.
    """
    stated = None
    if place is not None:
        stated = _of_header(place) if place.is_file() else _of_card(place, name)
    return stated or _KNOWN.get(name)


def tell(name: str, licence: Licence | None) -> None:
    """Print a model's licence, once a process."""
    if name not in _told:
        _told.add(name)
        line = licence or "not stated in its files; look it up before you publish or sell pictures"
        say(f"Licence of {name}: {line}")


def _of_card(folder: Path, name: str) -> Licence | None:
    """What the YAML at the beginning of a model card says."""
    from huggingface_hub import metadata_load

    card = folder / "README.md"
    try:
        if card.stat().st_size > _LONGEST_CARD:
            return None
        facts = metadata_load(card) or {}
    except Exception:  # noqa: BLE001 - YAML of strangers fails in many ways, and a bad card is as good as none
        return None
    word = _line(facts.get("license_name") or facts.get("license"))
    link = _line(facts.get("license_link"))
    known = _SHORT.get(word.lower())
    if link and "://" not in link:
        link = (
            f"{_HUB}/{name}/blob/main/{link.lstrip('./')}"
            if name.count("/") == 1
            else str(folder / link)
        )
    return known or (Licence(word, link or None) if word and word != "other" else None)


def _of_header(file: Path) -> Licence | None:
    """What the header of a single file says, in the field that Stability's ModelSpec gives it."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as opened:
            word = _line((opened.metadata() or {}).get("modelspec.license"))
    except (SafetensorError, OSError):
        return None
    return _SHORT.get(word.lower()) or (Licence(word) if word else None)


def _line(value: Any) -> str:
    """Text of a stranger's file as one printable line."""
    if isinstance(value, list):
        value = ", ".join(str(v) for v in value[:4])
    line = " ".join("".join(c if c.isprintable() else " " for c in str(value or "")).split())
    return line[:_LONGEST_NAME]
