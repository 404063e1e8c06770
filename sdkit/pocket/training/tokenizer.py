"""Stage two of training: the tokenizer, a `CLIPTokenizer` in which every word of the world is one token.

Byte-pair merges are learned on the word list alone until each word is whole; any other text still has an encoding,
byte by byte, so that an unknown word is many unfamiliar pieces and never an error. The merges are counted here
because the trainer of `tokenizers` breaks ties by hash order: two builds would give two words each other's number.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from diffusers import StableDiffusionPipeline
from tokenizers import pre_tokenizers
from transformers import CLIPTextModel, CLIPTokenizer

from sdkit.pocket.world import objects, words

from .presets import Preset

__all__ = ["adopt", "build_tokenizer", "unknown"]

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


def adopt(text: CLIPTextModel, tokenizer: CLIPTokenizer, start: StableDiffusionPipeline) -> None:
    """Give a text encoder the weights of another that knew fewer words, or others.

    A row of the embedding belongs to a token, whatever its number is in the two vocabularies; tokens that are new keep
    the random rows that they have.
    """
    weights, known = dict(start.text_encoder.state_dict()), start.tokenizer.get_vocab()
    name = next(n for n in weights if n.endswith("token_embedding.weight"))
    rows = text.state_dict()[name].clone()
    for token, number in tokenizer.get_vocab().items():
        if token in known:
            rows[number] = weights[name][known[token]]
    text.load_state_dict(weights | {name: rows})


def unknown(preset: Preset, tokenizer: CLIPTokenizer) -> int:
    """How many of a preset's kinds, counted from the first unknown to the last, have no word of their own in a tokenizer."""
    known, kinds = tokenizer.get_vocab(), objects(preset.objects)
    missing = (
        len(kinds) - n
        for n, kind in enumerate(kinds)
        if any(word + _END not in known for word in kind.name.split())
    )
    return next(missing, 0)


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
