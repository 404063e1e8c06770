"""Silence one word at a time: attention is not influence, and this shows where they differ.

The design decision: a silenced word keeps its positions. Its pieces are exchanged for commas before the text encoder
reads them, so that every other word stands where it stood, and the seed is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sdkit.attention.maps import AttentionMaps
from sdkit.attention.overlay import overlay
from sdkit.errors import InvalidSettings
from sdkit.generation import generate
from sdkit.pictures.gallery import Gallery
from sdkit.pipelines.tokens import read_prompt
from sdkit.result import Result

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Ablation", "ablate"]


@dataclass(frozen=True)
class Ablation:
    """A picture, and the same picture with each word silenced.

    Attributes
    ----------
    original
        The picture with all its words.
    without
        Word → the picture made without it.
    attention
        The original's attention maps.
    """

    original: Result
    without: Mapping[str, Result]
    attention: AttentionMaps

    @cached_property
    def changes(self) -> dict[str, NDArray[np.float32]]:
        """Word → how much each pixel changes without it, `(H, W)` in 0..1 (1 is black to white)."""
        first = np.asarray(self.original.image.convert("RGB"), np.float32)
        return {
            word: np.abs(np.asarray(r.image.convert("RGB"), np.float32) - first).mean(-1) / 255
            for word, r in self.without.items()
        }

    @property
    def amount(self) -> dict[str, float]:
        """Word → mean change of the picture without it, in 0..1."""
        return {word: float(change.mean()) for word, change in self.changes.items()}

    @property
    def agreement(self) -> dict[str, float]:
        """Word → correlation over pixels of its attention with what changed, -1 to 1; near 0 they tell different stories."""
        return {
            word: _correlation(self.attention[word], change)
            for word, change in self.changes.items()
        }

    def show(self) -> Gallery:
        """For each word: where it was looked at, the picture without it, and what changed."""
        rows, picture = [], self.original.image
        for word in sorted(self.without, key=self.amount.__getitem__, reverse=True):
            change = self.changes[word]
            rows += [
                (f"{word}: seen here", self.attention.overlay(word, image=picture)),
                (f"without {word}: {100 * self.amount[word]:.0f} %", self.without[word].image),
                (
                    f"changed, agreement {self.agreement[word]:.2f}",
                    overlay(picture, change / max(float(change.max()), 1e-6)),
                ),
            ]
        return Gallery(
            rows, heading=self.original.settings.prompt, columns=3, settings=self.original.settings
        )

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """Show the comparison in a notebook."""
        return {**self.show()._repr_mimebundle_(include, exclude), "text/plain": repr(self)}

    def __repr__(self) -> str:
        """Describe the ablation in one line."""
        told = ", ".join(f"{w} {100 * a:.1f} %" for w, a in self.amount.items())
        return f"<Ablation: mean change without {told}>"


def ablate(
    pipe: Any, result: Result, words: Iterable[str] | None = None, **options: Any
) -> Ablation:
    """Make a picture again with one word silenced at a time.

    Parameters
    ----------
    pipe
        The pipeline that made it; any family whose text encoders are `transformers` models.
    result
        The picture; of several the first.
    words
        Which words; None takes all content words. Several that follow each other are silenced together.
    **options
        As for `generate`, such as ``progress=False``.

    Returns
    -------
    Ablation
        Pictures, changes, and their agreement with attention; it shows itself.

    Raises
    ------
    InvalidSettings
        If a word does not stand in the prompt, or there is none to silence.

    Examples
    --------
    >>> r = sdkit.generate(pipe, "a red car on a beach", seed=7, steps=4)
    >>> ablation = sdkit.ablate(pipe, r, words=["red", "car"])
    >>> list(ablation.without)
    ['red', 'car']
    """
    result = result[0]
    original = generate(pipe, result, attention=True, **options)
    maps = original.attention
    chosen = list(words) if words is not None else maps.content_words
    if not chosen:
        raise InvalidSettings(f"The prompt {result.settings.prompt!r} has no word to silence.")
    for word in chosen:
        maps.prompt.find(word)
    without = {}
    for word in chosen:
        with _silenced(pipe, result.settings.prompt, word):
            without[word] = generate(pipe, result, **options)
    return Ablation(original, without, maps)


@contextmanager
def _silenced(pipe: Any, prompt: str, word: str) -> Iterator[None]:
    """Inside the block every text encoder reads commas in the place of `word`, in this prompt only."""
    with ExitStack() as hooks:
        for number in ("", "_2", "_3"):
            tokenizer, encoder = (
                getattr(pipe, part + number, None) for part in ("tokenizer", "text_encoder")
            )
            if tokenizer is None or encoder is None:
                continue
            positions = read_prompt(tokenizer, prompt).positions(word)
            comma = tokenizer(",", add_special_tokens=False).input_ids[-1]
            ids = tokenizer(
                prompt, truncation=True, max_length=tokenizer.model_max_length
            ).input_ids
            handle = encoder.register_forward_pre_hook(
                partial(_exchange, ids, positions, comma), with_kwargs=True
            )
            hooks.callback(handle.remove)
        yield


def _exchange(
    ids: list[int],
    positions: list[int],
    comma: int,
    _: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    given: Tensor = args[0] if args else kwargs["input_ids"]
    changed = given.clone()
    for row in changed:
        if row[: len(ids)].tolist() == ids:
            row[positions] = comma
    return ((changed, *args[1:]), kwargs) if args else (args, kwargs | {"input_ids": changed})


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Pearson's; 0 where one of them is flat."""
    if a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])
