"""Pocket: the small latent diffusion model that comes with sdkit. This file needs neither torch nor a font.

`path()` is a diffusers folder like any other; `vocabulary()` and `unknown_words()` say which words it has seen.
"pocket-turbo" is the same model with another UNet, which needs few steps; `turbo.py` opens it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from .world import objects, words

__all__ = ["card", "card_of", "path", "unknown_words", "vocabulary"]

FOLDERS: Final = MappingProxyType({"pocket": "weights", "pocket-turbo": "weights-turbo"})
"""The models that come with this code, by the names that `sdkit.load` takes, and their folders."""


@cache
def path(name: str = "pocket") -> str:
    """Folder of the shipped weights; `StableDiffusionPipeline.from_pretrained` opens that of "pocket".

    Examples
    --------
    >>> from diffusers import StableDiffusionPipeline
    >>> plain = StableDiffusionPipeline.from_pretrained(sdkit.pocket.path())  # no sdkit needed
    """
    return str(Path(__file__).resolve().parent / FOLDERS[name])


@cache
def card(name: str = "pocket") -> dict[str, Any]:
    """Facts about the shipped weights: preset, objects, side in pixels, who drew them, default steps and guidance.

    Examples
    --------
    >>> sdkit.pocket.card()["steps"]
    20
    """
    return card_of(Path(path(name))) or {}


def card_of(folder: Path) -> dict[str, Any] | None:
    """The same of a folder that `sdkit.pocket.train` wrote; None of others.

    Examples
    --------
    >>> from pathlib import Path
    >>> sdkit.pocket.card_of(Path(sdkit.pocket.path())) == sdkit.pocket.card()
    True
    """
    try:
        facts = json.loads((folder / "pocket.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return (
        facts if isinstance(facts, dict) and {"steps", "guidance_scale"} <= facts.keys() else None
    )


@cache
def vocabulary() -> tuple[str, ...]:
    """Every word that the shipped Pocket has been trained on, sorted.

    Examples
    --------
    >>> "castle" in sdkit.pocket.vocabulary(), "photograph" in sdkit.pocket.vocabulary()
    (True, False)
    """
    return words(objects(card()["objects"]), tuple(card()["hands"]))


def unknown_words(prompt: str) -> dict[str, tuple[str, ...]]:
    """Words of a prompt that Pocket has never seen, each with up to two known words of similar spelling.

    Examples
    --------
    >>> sdkit.pocket.unknown_words("a casle on a beach")
    {'casle': ('castle', 'castles')}
    """
    known = set(vocabulary())
    # letters and pictographs: Pocket reads digits one by one, and knows them
    found = [
        w
        for w in re.findall(r"[^\W\d_]+|[^\w\s]", prompt.lower())
        if w not in known and (w.isalpha() or unicodedata.category(w) == "So")
    ]
    return {w: tuple(get_close_matches(w, known, n=2, cutoff=0.7)) for w in dict.fromkeys(found)}
