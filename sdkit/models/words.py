"""What of somebody's words a model will not follow, in one sentence each, told before it runs.

The design decision: nothing is refused and nothing is changed. A prompt is anybody's own business; but words that are cut
off, that the model never saw, that are meant for another program, or that cannot act, say so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from sdkit import pocket
from sdkit.pipelines.families import denoiser_of, family_of
from sdkit.pipelines.run import lock_of
from sdkit.settings import Settings

from .identity import is_pocket

__all__ = ["cautions", "cautions_of"]

_LONGEST = 10_000  # tokens; a larger limit stands for none
_WEIGH = "use sdkit.edit_attention(weights=...) or compel"


def _foreign(
    pattern: str, instead: str, does: str = "is for other programs", plain: str = "plain words"
) -> tuple[re.Pattern[str], str]:
    """What other programs read in a prompt, and what is said of it: what to do here instead."""
    return re.compile(pattern), f"{does} and is read as {plain} here: {instead}"


_FOREIGN = (
    _foreign(r"<(?:lora|lyco|hypernet):[^<>\n]+>", "load it with pipe.load_lora_weights(...)"),
    _foreign(
        r"\[[^\[\]:\n]*:[^\[\]:\n]*:\s*\d*\.?\d+\]", "use sdkit.fork to change words at a step"
    ),
    _foreign(r"\([^()\n]+:\s*\d*\.?\d+\)", _WEIGH),
    _foreign(
        r"\(\([^()\n]+\)\)|\[\[[^\[\]\n]+\]\]|\{\{[^{}\n]+\}\}|[a-z]{2,}[+]{2,}|[a-z]{2,}::-?\d",
        _WEIGH,
        "weighs words in other programs",
    ),
    _foreign(
        r"[{\[][^{}\[\]\n]*\|[^{}\[\]\n]*[}\]]|\b__[\w/ -]+__\b",
        "use sdkit.sweep with Wildcards or PromptMatrix",
        "makes choices in other programs",
    ),
    _foreign(r"\bembedding:[\w.-]+", "use pipe.load_textual_inversion(...) and its own word"),
    _foreign(
        r"(?<!\S)--(?:ar|v|q|s|no|style|seed|stylize|chaos|niji)\b(?:\s+[\w:.]+)?",
        "use the settings, such as width, height and seed",
    ),
    _foreign(r"\bBREAK\b", "use one prompt", "parts prompts in other programs", "a plain word"),
    _foreign(
        r"\bAND\b",
        "use sdkit.interpolate, or one prompt",
        "joins prompts in other programs",
        "a plain word",
    ),
)


def cautions(pipe: Any, wanted: Iterable[Settings]) -> list[str]:
    """One sentence for each thing in these prompts that the model will not follow to the letter.

    Parameters
    ----------
    pipe
        A diffusers pipeline.
    wanted
        Complete settings, of any number of pictures; each distinct text is looked at once.
    """
    pictures = list(wanted)
    family = family_of(pipe)
    acting = [s for s in pictures if s.negative_prompt and family.guides(s)]
    notes = [
        note
        for text in dict.fromkeys(s.prompt for s in pictures)
        for note in cautions_of(pipe, text, "prompt")
    ]
    for text in dict.fromkeys(s.negative_prompt for s in acting):
        notes += cautions_of(pipe, text, "negative prompt")
    return [*notes, *_without_picture(pictures), *_without_effect(pipe, family, pictures)]


def cautions_of(pipe: Any, text: str, name: str) -> list[str]:
    """One sentence for each thing in one text, called `name` in it, that the model will not follow to the letter."""
    notes = []
    unknown = pocket.unknown_words(text) if is_pocket(pipe) else {}
    if unknown:
        told = [
            repr(w) + (f" (do you mean {' or '.join(near)}?)" if near else "")
            for w, near in unknown.items()
        ]
        notes.append(
            f"Pocket has never seen {', '.join(told)}; sdkit.pocket.vocabulary() lists the words it knows."
        )
    for pattern, sentence in _FOREIGN:
        if found := pattern.search(text):
            notes.append(f"{found[0]!r} in the {name} {sentence}.")
    if over := _cut_off(pipe, text):
        length, limit = over
        notes.append(
            f"The {name} has {length - 2} tokens and the text encoder reads {limit - 2}; its end is not seen: shorten it."
        )
    return notes


def _cut_off(pipe: Any, text: str) -> tuple[int, int] | None:
    """Tokens of a text and how many are read, if that is fewer."""
    if any(reading.rest for reading in family_of(pipe).sequence):
        return None  # a second text encoder reads on where the first one ends
    tokenizer = getattr(pipe, "tokenizer", None)
    limit = getattr(tokenizer, "model_max_length", None)
    if tokenizer is None or not limit or limit >= _LONGEST:
        return None
    with lock_of(
        pipe
    ):  # it pads or not by a state of its own, which another thread's run may be using
        length = len(tokenizer(text).input_ids)
    return (length, limit) if length > limit else None


def _without_picture(pictures: list[Settings]) -> list[str]:
    """A strength that somebody chose, and no picture to keep anything of."""
    alone = [s for s in pictures if s.task == "text-to-image" and s.strength != Settings().strength]
    return [
        f"strength={s.strength:g} has no effect without a picture to start from; give image=…."
        for s in alone[:1]
    ]


def _without_effect(pipe: Any, family: Any, pictures: list[Settings]) -> list[str]:
    """Negative prompts that lead away from nothing, and strong guidance away from no words."""
    if any((s.true_cfg_scale or 0) > 1 and not s.negative_prompt for s in pictures):
        return [
            "true_cfg_scale has no effect without a negative prompt; give one, such as negative_prompt=' '."
        ]
    idle = [s for s in pictures if s.negative_prompt and not family.guides(s)]
    if not idle:
        return []
    if family.true_guidance:
        return [
            f"The negative prompt has no effect in {family.pipeline} without true_cfg_scale; give true_cfg_scale above 1, or leave the words out."
        ]
    if family.takes_negative and denoiser_of(pipe).config.get("time_cond_proj_dim") is not None:
        told = "this model was distilled to one evaluation a step, where guidance is an input"
        return [
            f"The negative prompt has no effect: {told}; say in the prompt what you want instead."
        ]
    if not family.takes_negative or family.embedded or family.guidance is None:
        return [
            f"{family.pipeline} takes no negative prompt, so it has no effect; say in the prompt what you want."
        ]
    scale = idle[0].guidance_scale
    return [
        f"The negative prompt has no effect, because guidance_scale is {scale:g}; raise it above 1, or leave the words out."
        if scale is not None
        else "The negative prompt has no effect without guidance; give guidance_scale above 1."
    ]
