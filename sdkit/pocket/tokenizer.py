"""Stage two of training: the tokenizer, a `CLIPTokenizer` in which every word of the world is one token.

Byte-pair merges are learned on the word list alone until each word is whole; any other text still has an encoding,
byte by byte, so that an unknown word is many unfamiliar pieces and never an error.
"""

from __future__ import annotations

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from .presets import Preset
from .world import objects, words

__all__ = ["build_tokenizer"]


def build_tokenizer(preset: Preset) -> CLIPTokenizer:
    """The tokenizer of a preset; deterministic."""
    suffix, alphabet = "</w>", sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE(end_of_word_suffix=suffix))
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=1 << 16, min_frequency=1, end_of_word_suffix=suffix, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator([" ".join(words(objects(preset.objects)))], trainer)
    merged = [token for token, _ in sorted(bpe.get_vocab().items(), key=lambda item: item[1])]
    tokens = dict.fromkeys([*alphabet, *(c + suffix for c in alphabet), *merged, "<|startoftext|>", "<|endoftext|>"])
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=_merges(bpe),
        model_max_length=preset.tokens,
    )


def _merges(bpe: Tokenizer) -> list[tuple[str, str]]:
    import json

    return [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
