"""Stage two of training: the tokenizer, a `CLIPTokenizer` in which every word of the world is one token.

Byte-pair merges are learned on the word list alone until each word is whole; any other text still has an encoding,
byte by byte, so that an unknown word is many unfamiliar pieces and never an error. The merges are counted here
because the trainer of `tokenizers` breaks ties by hash order: two builds would give two words each other's number.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

from sdkit.pocket.world import objects, words

from .presets import Preset

__all__ = ["build_tokenizer"]

_END = "</w>"


def build_tokenizer(preset: Preset) -> CLIPTokenizer:
    """The tokenizer of a preset; the same in every process."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = _merges(words(objects(preset.objects), preset.hands))
    tokens = [
        *alphabet,
        *(c + _END for c in alphabet),
        *(a + b for a, b in merges),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(dict.fromkeys(tokens))},
        merges=merges,
        model_max_length=preset.tokens,
    )


def _merges(vocabulary: tuple[str, ...]) -> list[tuple[str, str]]:
    """Byte-pair merges, most frequent first and ties in alphabetical order, until every word is one piece."""
    pieces = [[*word[:-1], word[-1] + _END] for word in vocabulary]
    merges: list[tuple[str, str]] = []
    while any(len(p) > 1 for p in pieces):
        counts = Counter(pair for p in pieces for pair in pairwise(p))
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        pieces = [_merged(p, best) for p in pieces]
    return merges


def _merged(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    done: list[str] = []
    for piece in pieces:
        if done and (done[-1], piece) == pair:
            done[-1] += piece
        else:
            done.append(piece)
    return done
