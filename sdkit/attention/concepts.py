"""Words that are not in the prompt: where a picture shows them, read from what its patches take out of the prompt.

The design decision: **a concept is looked for in what attention gives, not in where it looks.** A patch takes
``o = softmax(Q Kᵀ / √d) V`` from the prompt, a concept would have given it ``v``, its text encoding through the same
layer's values, and their angle says how alike the two are. ConceptAttention (Helbling et al., arXiv:2502.04320) compares
outputs for the same reason. Keys do not do: measured on 40 of Pocket's scenes with two objects, shares of a softmax over
concepts' keys, beside the prompt's or alone, find the right object of the two in 50 to 65 % of cases, which is chance,
as a query asks for "the first thing" rather than for a cat; angles find it in 97 %. A softmax over concepts would make
each map depend on what else was asked, and light up something even where nothing is shown.

Nothing is added to the prompt and nothing flows back, so the picture stays the same to the bit.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sdkit.errors import CannotCapture, InvalidSettings
from sdkit.models.words import cautions_of
from sdkit.pipelines.embeddings import encodings, shown_to_layers
from sdkit.pipelines.families import denoiser_of, family_of

from .parts import Concepts

__all__ = ["checked", "encoded", "likeness", "values_of"]


def checked(pipe: Any, names: Iterable[str] | None) -> Concepts | None:
    """The concepts that somebody asked for, with a warning for words that the model does not know; None for none.

    Raises
    ------
    InvalidSettings
        If they are not a list of words.
    CannotCapture
        If the pipeline has no layers in which patches look at words alone.
    """
    if names is None:
        return None
    given = [names] if isinstance(names, str) else list(names)
    if isinstance(names, str) or not given or not all(_worded(name) for name in given):
        raise InvalidSettings(
            f"concepts is {names!r}; give a list of words such as ['sky', 'dragon']."
        )
    if not family_of(pipe).encodes:
        raise CannotCapture(
            f"{type(pipe).__name__} does not hand out its text encodings, without which concepts cannot be looked for."
        )
    if family_of(pipe).text_first is not None:
        raise CannotCapture(
            f"{type(pipe).__name__} has joint attention, in which words change from layer to layer; concepts are "
            "read where patches look at words alone: in UNets, PixArt and Sana."
        )
    for note in (note for name in given for note in cautions_of(pipe, name, "concept")):
        warnings.warn(note, UserWarning, stacklevel=4)
    return Concepts.of(list(dict.fromkeys(name.strip() for name in given)))


def _worded(name: Any) -> bool:
    return isinstance(name, str) and any(letter.isalnum() for letter in name)


def encoded(pipe: Any, concepts: Concepts) -> dict[str, Tensor]:
    """Text encoding of each concept by itself, `(1, T, D)`, as the pipeline encodes prompts."""
    made = encodings(pipe, [word.text for word in concepts.words])
    return {text: encoding["prompt_embeds"] for (text, _), encoding in made.items()}


def values_of(pipe: Any, module: Any, pieces: Sequence[Tensor]) -> Tensor:
    """What a layer takes from each concept, `(concepts, heads · d)`: the mean over a concept's pieces `(n, D)`."""
    weight = next(module.to_v.parameters())
    rows = [
        shown_to_layers(denoiser_of(pipe), part[None].to(weight.device, weight.dtype))[0]
        for part in pieces
    ]
    return torch.stack([module.to_v(part).float().mean(0) for part in rows])


def likeness(taken: Tensor, values: Tensor) -> Tensor:
    """Cosine of the angle between what patches took `(P, D)` and what concepts give `(C, D)`: `(P, C)`, 0 where it is obtuse."""
    return (F.normalize(taken.float(), dim=-1) @ F.normalize(values, dim=-1).T).clamp_min(0)
