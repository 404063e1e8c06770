"""Text encodings, remembered: the same words on the same text encoder are encoded once.

The design decision: a remembered encoding is used only while it is certainly still true. Its key holds the identity
and version of every text encoder weight, so that loading, training or fusing anything forgets it; encoders with
adapters or hooks are not remembered at all. Pipelines of other families than SD 1.x/2.x encode their prompts themselves.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any
from weakref import WeakKeyDictionary

import torch

__all__ = ["encode"]

_KEEP = 64  # encodings a pipeline; 77×768 values in half precision are 0.12 MB each
_remembered: WeakKeyDictionary[Any, OrderedDict[tuple[Any, ...], torch.Tensor]] = WeakKeyDictionary()


def _fingerprint(pipe: Any) -> tuple[Any, ...] | None:
    """What a text encoding depends on besides the words; None if that cannot be known cheaply."""
    encoder = pipe.text_encoder
    if getattr(encoder, "peft_config", None) or getattr(encoder, "_hf_hook", None) or encoder.training:
        return None
    if any(m._forward_hooks or m._forward_pre_hooks for m in encoder.modules()):
        return None
    weights = tuple((p.data_ptr(), p._version) for p in encoder.parameters())
    return (id(encoder), id(pipe.tokenizer), len(pipe.tokenizer), encoder.device, encoder.dtype, hash(weights))


def _encode_one(pipe: Any, text: str) -> torch.Tensor:
    """Hidden states `(1, T, D)` of one text, through the pipeline's own method."""
    embeds: torch.Tensor = pipe.encode_prompt(text, pipe._execution_device, 1, False)[0]
    return embeds


def encode(pipe: Any, prompts: list[str], negative_prompts: list[str] | None) -> dict[str, Any]:
    """Arguments that hand these prompts to `pipe(...)`: encodings where they can be remembered, else the words.

    Parameters
    ----------
    pipe
        Diffusers.DiffusionPipeline
    prompts
        One for each picture.
    negative_prompts
        One for each picture, or None where there is no guidance.

    Returns
    -------
    dict
        `prompt_embeds` and `negative_prompt_embeds`, each `(B, T, D)`, or `prompt` and `negative_prompt`.
    """
    simple = getattr(pipe, "text_encoder", None) is not None and not hasattr(pipe, "text_encoder_2")
    key = _fingerprint(pipe) if simple and hasattr(pipe, "unet") else None
    if key is None:
        words: dict[str, Any] = {"prompt": prompts}
        if negative_prompts is not None:
            words["negative_prompt"] = negative_prompts
        return words
    known = _remembered.setdefault(pipe, OrderedDict())
    if known and next(iter(known))[:-1] != key:
        known.clear()

    def look_up(text: str) -> torch.Tensor:
        if (*key, text) not in known:
            with torch.no_grad():
                known[(*key, text)] = _encode_one(pipe, text)
        known.move_to_end((*key, text))
        return known[(*key, text)]

    embeds = {"prompt_embeds": torch.cat([look_up(p) for p in prompts])}
    if negative_prompts is not None:
        embeds["negative_prompt_embeds"] = torch.cat([look_up(p) for p in negative_prompts])
    while len(known) > _KEEP:
        known.popitem(last=False)
    return embeds
