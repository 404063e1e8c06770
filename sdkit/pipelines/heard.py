"""Which token is which word, by what the text encoder was really given.

The design decision: **the encoder's own input is read, not made again.** A pipeline may clean a prompt, put it into a chat
template, pad it on either side, or give one word of a textual inversion several tokens. Whatever it did, the token numbers
that arrive at its text encoder spell the prompt somewhere; there it is looked for, letter by letter without the spaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from .families import Family
from .tokens import Prompt, Word

__all__ = ["Heard", "listening"]

_WORD = re.compile(r"\w+(?:[-'’]\w+)*|[^\w\s]")
_BREAK = "\0"  # stands for a special token: no prompt goes across one


@dataclass
class Heard:
    """The token numbers that a text encoder was given, a row for each text, in order."""

    tokenizer: Any
    rows: list[tuple[list[int], list[bool]]] = field(
        default_factory=list
    )  # numbers, and which are no padding

    def take(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Hook before the text encoder's forward."""
        ids = kwargs.get("input_ids", args[0] if args else None)
        if not isinstance(ids, torch.Tensor) or ids.ndim != 2 or ids.is_floating_point():
            return
        mask = kwargs.get("attention_mask")
        if not isinstance(mask, torch.Tensor) or mask.shape != ids.shape:
            mask = torch.ones_like(ids)
        for numbers, valid in zip(ids.tolist(), mask.bool().tolist(), strict=True):
            self.rows.append((numbers, valid))

    def prompt(self, text: str, length: int, family: Family, skipped: int) -> Prompt:
        """A prompt with its words at their positions in the denoiser's sequence of `length` tokens.

        Parameters
        ----------
        text
            The prompt; without words where no row spells it.
        length
            Tokens that the denoiser reads.
        family
            How the encoder's sequence becomes the denoiser's (`Family.selects`).
        skipped
            Tokens at the front that the pipeline leaves out.
        """
        wanted = _letters(text)
        for numbers, valid in self.rows:
            spelled, owners = self._spelled(numbers)
            begin = spelled.rfind(wanted) if wanted else -1
            if begin < 0:
                continue
            place = _places(len(numbers), valid, length, family.selects, skipped)
            words = tuple(self._words(text, numbers, owners[begin : begin + len(wanted)], place))
            taken = {p for word in words for p in word.positions}
            used = max(taken, default=0)
            others = tuple(p for p in place.values() if p <= used and p not in taken)
            return Prompt(text, words, length, others, ())
        return Prompt(text, (), length, (), tuple(range(length)))

    def _spelled(self, numbers: list[int]) -> tuple[str, list[int]]:
        """The letters of a row without spaces, and the token that each comes from."""
        special = set(self.tokenizer.all_special_ids)
        letters, owners = "", []
        for n, number in enumerate(numbers):
            piece = _BREAK if number in special else _letters(self.tokenizer.decode([number]))
            letters += piece
            owners += [n] * len(piece)
        return letters, owners

    def _words(
        self, text: str, numbers: list[int], owners: list[int], place: dict[int, int]
    ) -> Iterator[Word]:
        """Each word of the prompt with the positions of its tokens."""
        at = 0
        for found in _WORD.finditer(text):
            begin = len(_letters(text[: found.start()]))
            size = len(_letters(found[0]))
            at = begin + size
            tokens = sorted({n for n in owners[begin:at] if n in place})
            yield Word(
                found[0],
                tuple(place[n] for n in tokens),
                tuple(self.tokenizer.decode([numbers[n]]).strip() for n in tokens),
            )


def _letters(text: str) -> str:
    """A text as it is compared: without spaces and capitals."""
    return "".join(text.replace("▁", " ").replace("</w>", "").split()).casefold()


def _places(
    count: int, valid: list[bool], length: int, selects: str, skipped: int
) -> dict[int, int]:
    """Where each token of the encoder's sequence stands in the denoiser's."""
    if selects == "ends":  # the first token, and as many of the last as fill the sequence
        kept = [0, *range(count - length + 1, count)] if count > length else list(range(count))
    elif selects == "valid":
        kept = [n for n in range(count) if valid[n]][skipped:]
    else:
        kept = list(range(max(count - length, 0), count))
    return {n: position for position, n in enumerate(kept) if position < length}


@contextmanager
def listening(pipe: Any, family: Family) -> Iterator[Heard | None]:
    """Hear inside the block what a pipeline's text encoder is given; None where the family has no such encoder."""
    encoder = getattr(pipe, family.listens, None) if family.listens else None
    tokenizer = getattr(pipe, "tokenizer", None)
    if tokenizer is None:
        tokenizer = getattr(getattr(pipe, "processor", None), "tokenizer", None)
    if encoder is None or tokenizer is None:
        yield None
        return
    if not hasattr(tokenizer, "all_special_ids"):  # a processor, which holds one
        tokenizer = tokenizer.tokenizer
    heard = Heard(tokenizer)
    handle = encoder.register_forward_pre_hook(heard.take, with_kwargs=True)
    try:
        yield heard
    finally:
        handle.remove()
