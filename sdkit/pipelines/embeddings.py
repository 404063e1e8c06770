"""Text encodings, remembered: the same words on the same text encoder are encoded once.

The design decision: a remembered encoding is used only while it is certainly still true. Its key holds the identity
and version of every text encoder weight, so that loading, training or fusing anything forgets it; encoders with
adapters or foreign hooks are not remembered at all. Encoders that diffusers offloads are: a picture with a known prompt then
moves none of them. Pipelines of other families than SD 1.x/2.x and SDXL encode their prompts themselves.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import torch

from .placement import offloaded

__all__ = ["encode", "encodings"]

_KEEP = 64  # encodings a pipeline; 77×768 values in half precision are 0.12 MB each
_remembered: WeakKeyDictionary[Any, OrderedDict[tuple[Any, ...], dict[str, torch.Tensor]]] = WeakKeyDictionary()


def _fingerprint(pipe: Any, encoder: Any, tokenizer: Any) -> tuple[Any, ...] | None:
    """What a text encoding depends on besides the words; None if that cannot be known cheaply."""
    moved = offloaded(pipe)
    if getattr(encoder, "peft_config", None) or encoder.training or moved == "all layers":
        return None
    if any(_foreign(m) for m in encoder.modules()):
        return None
    if moved == "nothing":
        if getattr(encoder, "_hf_hook", None):
            return None
        weights = tuple((p.data_ptr(), p._version) for p in encoder.parameters())
    else:  # offloading gives the same parameters another place on every trip
        weights = tuple((id(p), p._version) for p in encoder.parameters())
    return (id(encoder), id(tokenizer), len(tokenizer), pipe._execution_device, encoder.dtype, hash(weights))


def _foreign(module: Any) -> bool:
    """Whether somebody hooked a module; transformers itself leaves hooks that only collect hidden states (for SDXL)."""
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    return any(not getattr(hook, "__module__", "").startswith("transformers.") for hook in hooks)


def _encode_one(pipe: Any, text: str) -> dict[str, torch.Tensor]:
    """Encoding of one text, through the pipeline's own method, under the names that `pipe(...)` takes it by."""
    with torch.no_grad():
        out = pipe.encode_prompt(
            text, device=pipe._execution_device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
    # SD 1.x/2.x return (positive, negative), SDXL (positive, negative, pooled positive, pooled negative)
    return {"prompt_embeds": out[0]} | ({"pooled_prompt_embeds": out[2]} if len(out) == 4 else {})


def _recall(pipe: Any, key: tuple[Any, ...], text: str) -> dict[str, torch.Tensor]:
    """The remembered encoding of one text, made now if it is new."""
    known = _remembered.setdefault(pipe, OrderedDict())
    if known and next(iter(known))[:-1] != key:
        known.clear()
    if (*key, text) not in known:
        known[(*key, text)] = _encode_one(pipe, text)
    known.move_to_end((*key, text))
    while len(known) > _KEEP:
        known.popitem(last=False)
    return known[(*key, text)]


def _key(pipe: Any) -> tuple[Any, ...] | None:
    """The fingerprints of all text encoders, for families that we can hand encodings to."""
    names = [n for n in ("text_encoder", "text_encoder_2") if hasattr(pipe, n)]
    if not names or not hasattr(pipe, "unet") or any(getattr(pipe, n) is None for n in names):
        return None
    prints = [
        _fingerprint(pipe, getattr(pipe, n), getattr(pipe, n.replace("text_encoder", "tokenizer"))) for n in names
    ]
    return None if None in prints else tuple(prints)


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
        `prompt_embeds` and `negative_prompt_embeds`, each `(B, T, D)`, for SDXL also the two pooled ones `(B, D)`; or
        `prompt` and `negative_prompt`.
    """
    key = _key(pipe)
    if key is None:
        words: dict[str, Any] = {"prompt": prompts}
        return words if negative_prompts is None else words | {"negative_prompt": negative_prompts}
    embeds = _stacked([_recall(pipe, key, p) for p in prompts])
    if negative_prompts is not None:
        negative = _stacked([_recall(pipe, key, p) for p in negative_prompts])
        embeds |= {f"negative_{name}": tensor for name, tensor in negative.items()}
    return embeds


def _stacked(encodings: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.cat([e[name] for e in encodings]) for name in encodings[0]}


def encodings(pipe: Any, texts: Iterable[str]) -> dict[str, dict[str, torch.Tensor]]:
    """Encoding of each distinct text; each is encoded once here, and not at all where it is remembered.

    Parameters
    ----------
    pipe
        A pipeline of the families SD 1.x, SD 2.x or SDXL.
    texts
        Prompts and negative prompts.

    Returns
    -------
    dict
        For each text its `prompt_embeds` `(1, T, D)`, and for SDXL its `pooled_prompt_embeds` `(1, D)`.
    """
    key = _key(pipe)
    return {t: _encode_one(pipe, t) if key is None else _recall(pipe, key, t) for t in dict.fromkeys(texts)}
