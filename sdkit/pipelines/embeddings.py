"""Text encodings, remembered: the same words on the same text encoder are encoded once.

The design decision: a remembered encoding is used only while it is certainly still true. Its key holds the identity
and version of every text encoder weight, so that loading, training or fusing anything forgets it; encoders with
adapters or foreign hooks are not remembered at all. Encoders that diffusers offloads are: a picture with a known prompt then
moves none of them. Pipelines of other families than SD 1.x/2.x and SDXL encode their prompts themselves.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import torch

from .families import family_of
from .placement import offloaded

__all__ = ["Texts", "encode", "encodings", "shown_to_layers"]

_KEEP = 64  # encodings a pipeline; 77×768 values in half precision are 0.12 MB each
_remembered: WeakKeyDictionary[Any, OrderedDict[tuple[Any, ...], dict[str, torch.Tensor]]] = (
    WeakKeyDictionary()
)


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
        device = pipe.device
        weights = tuple((p.data_ptr(), p._version) for p in encoder.parameters())
    else:  # offloading gives the same parameters another place on every trip
        device = pipe._execution_device
        weights = tuple((id(p), p._version) for p in encoder.parameters())
    return (
        id(encoder),
        id(tokenizer),
        len(tokenizer),
        device,
        encoder.dtype,
        hash(weights),
    )


def _foreign(module: Any) -> bool:
    """Whether somebody hooked a module; transformers itself leaves hooks that only collect hidden states (for SDXL)."""
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    return any(not getattr(hook, "__module__", "").startswith("transformers.") for hook in hooks)


def _encode_one(pipe: Any, text: str, *, negative: bool = False) -> dict[str, torch.Tensor]:
    """Encoding of one text, through the pipeline's own method, under the names that `pipe(...)` takes it by.

    What guidance leads away from is encoded as the pipeline does that: some treat it in another way than a prompt.
    """
    family = family_of(pipe)
    own = any((name or "").startswith("negative_") for name in family.encodes)
    accepted = inspect.signature(type(pipe).encode_prompt).parameters
    anything = any(p.kind is p.VAR_KEYWORD for p in accepted.values())  # somebody stands around it
    asked: dict[str, Any] = {
        name: None for name in accepted if name.startswith("prompt_")
    }  # the same words for all encoders
    asked |= {
        "device": pipe._execution_device,
        "num_images_per_prompt": 1,
        "do_classifier_free_guidance": negative and own,
    }
    if negative and own:
        asked["negative_prompt"] = text or family.no_negative
    given = {name: value for name, value in asked.items() if anything or name in accepted}
    with torch.no_grad():
        out = pipe.encode_prompt("" if negative and own else text, **given)
    named = {name: t for name, t in zip(family.encodes, out, strict=True) if name}
    for name in [n for n, t in named.items() if t is None and "mask" in n]:
        words = named["negative_prompt_embeds" if name.startswith("negative_") else "prompt_embeds"]
        if isinstance(words, torch.Tensor):  # some leave out a mask that hides nothing
            named[name] = words.new_ones(words.shape[:2], dtype=torch.long)
    named = {name: t for name, t in named.items() if isinstance(t, torch.Tensor)}
    if not (negative and own):
        return {name: tensor for name, tensor in named.items() if not name.startswith("negative_")}
    return {n.removeprefix("negative_"): t for n, t in named.items() if n.startswith("negative_")}


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
    if not family_of(pipe).remembers:
        return None
    names = [n for n in ("text_encoder", "text_encoder_2") if hasattr(pipe, n)]
    if not names or any(getattr(pipe, n) is None for n in names):
        return None
    prints = [
        _fingerprint(pipe, getattr(pipe, n), getattr(pipe, n.replace("text_encoder", "tokenizer")))
        for n in names
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
        if not family_of(pipe).batches:  # some take one text and no list
            words: dict[str, Any] = {"prompt": prompts[0]}
            avoided = (negative_prompts or [""])[0]
            return words | (
                {"negative_prompt": avoided} if avoided and family_of(pipe).takes_negative else {}
            )
        words = {"prompt": list(prompts)}  # some write into the list
        # no negative prompt is not an empty one: many pipelines treat the two differently
        if (
            negative_prompts is not None
            and any(negative_prompts)
            and family_of(pipe).takes_negative
        ):
            words["negative_prompt"] = negative_prompts
        return words
    embeds = _stacked([_recall(pipe, key, p) for p in prompts])
    if negative_prompts is not None:
        negative = _stacked([_negative(pipe, _recall(pipe, key, p), p) for p in negative_prompts])
        embeds |= {f"negative_{name}": tensor for name, tensor in negative.items()}
    return embeds


def _negative(pipe: Any, encoding: dict[str, torch.Tensor], text: str) -> dict[str, torch.Tensor]:
    """What guidance leads away from; SDXL answers "nothing" with zeros where its configuration says so."""
    if text or not pipe.config.get("force_zeros_for_empty_prompt", False):
        return encoding
    return {name: torch.zeros_like(tensor) for name, tensor in encoding.items()}


def _stacked(encodings: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.cat([e[name] for e in encodings]) for name in encodings[0]}


Texts = dict[tuple[str, bool], dict[str, torch.Tensor]]
"""Encoding by text and by whether guidance leads away from it."""


def encodings(pipe: Any, texts: Iterable[str], negatives: Iterable[str] = ()) -> Texts:
    """Encoding of each distinct text; each is encoded once here, and not at all where it is remembered.

    Parameters
    ----------
    pipe
        A pipeline whose family takes encodings (`Family.encodes`).
    texts, negatives
        Prompts and negative prompts.

    Returns
    -------
    dict
        For each ``(text, negative)`` its `prompt_embeds` `(1, T, D)` and what else the pipeline wants beside it, such as
        `pooled_prompt_embeds` `(1, D)` or `prompt_attention_mask` `(1, T)`; all texts of one length.
    """
    key = _key(pipe)
    found: Texts = {}
    for text in dict.fromkeys(texts):
        found[text, False] = _encode_one(pipe, text) if key is None else _recall(pipe, key, text)
    for text in dict.fromkeys(negatives):
        if not family_of(pipe).remembers:
            found[text, True] = _encode_one(pipe, text, negative=True)
            continue
        plain = found.get((text, False)) or (
            _encode_one(pipe, text) if key is None else _recall(pipe, key, text)
        )
        found[text, True] = _negative(pipe, plain, text)
    return _of_one_length(found)


def _of_one_length(texts: Texts) -> Texts:
    """Pad encodings with zeros, which their masks leave out, where a family's grow with the words."""
    longest = max(e["prompt_embeds"].shape[1] for e in texts.values())
    if all(e["prompt_embeds"].shape[1] == longest for e in texts.values()):
        return texts
    return {key: {name: _padded(t, longest) if t.ndim > 1 and "pooled" not in name else t for name, t in e.items()} for key, e in texts.items()}  # fmt: skip


def _padded(tensor: torch.Tensor, length: int) -> torch.Tensor:
    missing = length - tensor.shape[1]
    return torch.cat([tensor, tensor.new_zeros(len(tensor), missing, *tensor.shape[2:])], 1)


def shown_to_layers(network: Any, embeds: torch.Tensor) -> torch.Tensor:
    """What a network's attention layers are given of encodings `(B, T, D)`: some project them first, `(B, T, D')`."""
    before = ["caption_projection", "caption_norm"]
    if getattr(network.config, "encoder_hid_dim_type", None) == "text_proj":
        before = ["encoder_hid_proj"]
    for part in (getattr(network, name, None) for name in before):
        embeds = embeds if part is None else part(embeds)
    return embeds
