"""What attention maps are made of: one layer's arrays, how a word is read out of them, and what was sought besides words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from sdkit.errors import InvalidSettings
from sdkit.pipelines.tokens import Prompt, Word

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

__all__ = ["Concepts", "LayerMaps", "pick", "stretched"]


@dataclass(frozen=True)
class LayerMaps:
    """One layer's attention, the mean over steps.

    `words` is `(h, w, tokens)`, `heads` `(heads, h, w, tokens)`, `back` (joint layers: what words looked at)
    `(tokens, h, w)`, `patches` `(n, h, w)` for each patch or point that was followed; None where it was not kept.
    """

    name: str
    group: str
    grid: tuple[int, int]
    words: Floats | None = None
    heads: Floats | None = None
    back: Floats | None = None
    patches: Floats | None = None


@dataclass(frozen=True)
class Concepts(Prompt):
    """What was looked for besides the prompt, in place of one: each concept is one word at one position."""

    @classmethod
    def of(cls, names: Sequence[str]) -> Concepts:
        """The concepts of these names, in order."""
        words = tuple(Word(name, (n,), (name,)) for n, name in enumerate(names))
        return cls(", ".join(names), words, len(words), (), ())

    def find(self, words: str, occurrence: int | None = None) -> tuple[tuple[Word, ...], ...]:
        """The concept of this name, in any case.

        Raises
        ------
        InvalidSettings
            If it was not among those that were looked for.
        """
        found = tuple((w,) for w in self.words if w.text.casefold() == words.casefold())
        if not found or occurrence not in (None, 0, -1):
            known = ", ".join(w.text for w in self.words)
            raise InvalidSettings(
                f"{words!r} was not looked for while the picture was made; the concepts are {known}: "
                "name others before the run, with concepts=[…]."
            )
        return found


def pick(maps: NDArray[Any] | None, positions: Iterable[tuple[int, ...]]) -> Floats:
    """Sum over the pieces of a word, mean over words: `(..., tokens)` to `(...)`."""
    assert maps is not None  # noqa: S101 - chosen by the caller
    return np.mean([maps[..., list(p)].sum(-1) for p in positions], axis=0, dtype=np.float32)


def stretched(small: Floats, size: tuple[int, int]) -> Floats:
    """`(h, w)` to `(H, W)`, bicubic, kept within 0..1."""
    if small.shape == size[::-1]:
        return small
    large = Image.fromarray(np.ascontiguousarray(small, np.float32)).resize(
        size, Image.Resampling.BICUBIC
    )
    return np.clip(np.asarray(large, np.float32), 0, 1)
