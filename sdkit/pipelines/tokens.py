"""From a prompt to what a text encoder reads: words, their word pieces, positions, and what was cut off.

The design decision: people think in words and models in word pieces, so a prompt is read once into `Word`s that know
their positions, by the tokenizer's own character offsets. Everything that speaks of words goes through here.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from sdkit.errors import InvalidSettings

__all__ = ["Prompt", "Word", "own_copy", "read_prompt"]

_WORD = re.compile(r"\w+(?:[-'’]\w+)*|[^\w\s]")
_copies: WeakKeyDictionary[Any, tuple[int, Any]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Word:
    """One word (or punctuation mark) of a prompt.

    `positions` are those of its pieces in the encoder's sequence; `pieces` the pieces as text. A word that stands
    beyond what the encoder reads has no positions.
    """

    text: str
    positions: tuple[int, ...]
    pieces: tuple[str, ...]

    @property
    def cut(self) -> bool:
        """Whether the encoder does not see it."""
        return not self.positions

    @property
    def spoken(self) -> bool:
        """Whether it is a word rather than punctuation."""
        return self.text[0].isalnum()


@dataclass(frozen=True)
class Prompt:
    """A prompt as the text encoder of a pipeline sees it.

    `length` counts the positions of the encoder's sequence; `start`, `end` and `padding` are those positions that
    belong to no word: the start token, the end token, and what fills the rest. `names` are words that somebody taught the
    tokenizer (textual inversion), such as ``<toy>``.
    """

    text: str
    words: tuple[Word, ...]
    length: int
    start: tuple[int, ...]
    end: tuple[int, ...]
    names: tuple[str, ...] = ()

    @property
    def padding(self) -> tuple[int, ...]:
        """Positions that only fill the sequence."""
        taken = {*self.start, *self.end, *(p for w in self.words for p in w.positions)}
        return tuple(p for p in range(self.length) if p not in taken)

    @property
    def used(self) -> int:
        """Positions up to the last one that is not padding: all that has to be kept."""
        return max((*self.start, *self.end, *(p for w in self.words for p in w.positions), 0)) + 1

    def find(self, words: str, occurrence: int | None = None) -> tuple[tuple[Word, ...], ...]:
        """Where a word, or several that follow each other, stand in the prompt.

        Parameters
        ----------
        words
            One word or more, in any case: ``"car"``, ``"red car"``.
        occurrence
            Only this one, counted from 0; None takes all.

        Returns
        -------
        tuple
            For each occurrence its words.

        Raises
        ------
        InvalidSettings
            If the prompt does not hold them, not that often, or they were cut off.
        """
        wanted = [w.casefold() for w in _pattern(self.names).findall(words)]
        texts = [w.text.casefold() for w in self.words]
        starts = [
            i
            for i in range(len(texts) - len(wanted) + 1)
            if wanted and texts[i : i + len(wanted)] == wanted
        ]
        if not starts:
            known = ", ".join(dict.fromkeys(w.text for w in self.words if w.spoken)) or "no words"
            raise InvalidSettings(f"{words!r} does not stand in the prompt; it has {known}.")
        if occurrence is not None:
            if not -len(starts) <= occurrence < len(starts):
                raise InvalidSettings(
                    f"{words!r} stands {len(starts)} times in the prompt; occurrence {occurrence} is not among 0 to {len(starts) - 1}."
                )
            starts = [starts[occurrence]]
        found = tuple(self.words[i : i + len(wanted)] for i in starts)
        seen = tuple(group for group in found if not any(w.cut for w in group))
        if not seen:
            raise InvalidSettings(
                f"{words!r} stands after the {self.length} tokens that the text encoder reads; shorten the prompt."
            )
        return seen

    def positions(self, words: str, occurrence: int | None = None) -> list[int]:
        """The positions of all pieces of a word, or of several that follow each other; parameters and errors of `find`."""
        return [
            p for group in self.find(words, occurrence) for word in group for p in word.positions
        ]


def own_copy(tokenizer: Any) -> Any:
    """Return a remembered copy of a tokenizer, to read with while a run in another thread may be using it.

    A fast tokenizer pads and cuts by a state of its own, which every call sets.
    """
    size, mine = _copies.get(tokenizer, (0, None))
    if size != len(tokenizer):  # it grows with textual inversion
        mine = copy.deepcopy(tokenizer)
        _copies[tokenizer] = (len(tokenizer), mine)
    return mine


def read_prompt(tokenizers: Any | Sequence[tuple[Any, int]], text: str) -> Prompt:
    """Read a prompt the way a pipeline's text encoder does.

    Parameters
    ----------
    tokenizers
        A tokenizer, or pairs ``(tokenizer, length)`` for encoders whose sequences are joined one after the other, as
        in Stable Diffusion 3.
    text
        The prompt.

    Returns
    -------
    Prompt
        Its words with their positions.
    """
    joined = (
        tokenizers
        if isinstance(tokenizers, Sequence)
        else [(tokenizers, tokenizers.model_max_length)]
    )
    names = tuple(
        dict.fromkeys(name for tokenizer, _ in joined for name in _taught(tokenizer, text))
    )
    sent = _expanded(joined[0][0], text, names)
    spans = [
        (_first_of(m.group(), names), m.start(), m.end()) for m in _pattern(names).finditer(sent)
    ]
    positions: list[list[int]] = [[] for _ in spans]
    pieces: list[list[str]] = [[] for _ in spans]
    start: list[int] = []
    end: list[int] = []
    offset = 0
    for tokenizer, length in joined:
        read = tokenizer(sent, truncation=True, max_length=length, return_offsets_mapping=True)
        for n, (token, (left, right)) in enumerate(
            zip(read.input_ids, read.offset_mapping, strict=True)
        ):
            if left == right:  # a special token stands for no character
                (start if n == 0 and token != tokenizer.eos_token_id else end).append(offset + n)
                continue
            word = _holder(spans, left, right)
            if word is not None:
                positions[word].append(offset + n)
                pieces[word].append(
                    tokenizer.convert_ids_to_tokens(token).replace("</w>", "").replace("▁", "")
                )
        offset += length
    words = tuple(
        Word(span[0], tuple(at), tuple(parts))
        for span, at, parts in zip(spans, positions, pieces, strict=True)
    )
    return Prompt(text, words, offset, tuple(start), tuple(end), names)


def _taught(tokenizer: Any, text: str) -> list[str]:
    """Words of a text that were added to a tokenizer."""
    special = set(tokenizer.all_special_tokens)
    return [name for name in tokenizer.get_added_vocab() if name in text and name not in special]


def _expanded(tokenizer: Any, text: str, names: Sequence[str]) -> str:
    """The text as diffusers sends it: a word of several vectors is followed by a token for each further one."""
    added = tokenizer.get_added_vocab() if names else {}
    for name in names:
        whole, n = name, 1
        while f"{name}_{n}" in added:
            whole += f" {name}_{n}"
            n += 1
        text = text.replace(name, whole)
    return text


def _pattern(names: Sequence[str]) -> re.Pattern[str]:
    """What counts as one word: one that was taught, with its further tokens, or any other."""
    taught = [
        rf"{re.escape(name)}(?: {re.escape(name)}_\d+)*"
        for name in sorted(names, key=len, reverse=True)
    ]
    return re.compile("|".join([*taught, _WORD.pattern]))


def _first_of(found: str, names: Sequence[str]) -> str:
    """A word that was taught without its further tokens."""
    return next(
        (name for name in names if found == name or found.startswith(f"{name} {name}_")), found
    )


def _holder(spans: list[tuple[str, int, int]], left: int, right: int) -> int | None:
    """The word that shares most characters with a piece (some tokenizers count the space before it)."""
    shared = [(min(right, b) - max(left, a), -i) for i, (_, a, b) in enumerate(spans)]
    best, index = max(shared, default=(0, 0))
    return -index if best > 0 else None
