"""Small fast tokenizers built in code, shaped as those of the language models that read prompts.

A word of the list is one token and any other word falls to its bytes, so both cases are met without a file. The
template that Qwen-Image puts before a prompt is 34 tokens here as in the released model: its pipeline cuts off 34.
"""

from __future__ import annotations

import functools
import io
import tempfile
from pathlib import Path

from diffusers.pipelines.kolors.tokenizer import ChatGLMTokenizer
from sentencepiece import SentencePieceTrainer
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import PreTrainedTokenizerFast, Qwen2VLImageProcessor

WORDS = """
a an the of on in and with by at cat dog fox car bus tree house sky dragon red blue green photo painting
system user assistant Describe image detailing color shape size texture quantity text spatial relationships
objects background You are AI that reasons about image descriptions
"""

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% if message.content is string %}"
    "{{ message.content }}{% else %}{% for part in message.content %}{{ part.text }}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def qwen_tokenizer():
    """Byte-level, without a token that begins every text; padded on the right; the chat template is ChatML."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    special += ["<|image_pad|>", "<|video_pad|>"]
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_level(special),
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        chat_template=CHATML,
        padding_side="right",
    )


def processor(kind, tokenizer, *, side=128):
    """A processor of words and pictures of up to `side` pixels; its part for films would need torchvision."""

    class Seeing(kind):
        @classmethod
        def get_attributes(cls):
            return ["image_processor", "tokenizer"]

        def save_pretrained(self, folder, **settings):
            """Released ones keep what they see with in a file of its own."""
            super().save_pretrained(folder, **settings)
            self.image_processor.save_pretrained(folder)

    Seeing.__name__, Seeing.__module__ = kind.__name__, kind.__module__  # the class that is saved
    patch = 16 if "Qwen3" in kind.__name__ else 14
    size = {"shortest_edge": (4 * patch) ** 2, "longest_edge": side * side}
    return Seeing(
        Qwen2VLImageProcessor(size=size, patch_size=patch),
        tokenizer,
        chat_template=tokenizer.chat_template,
    )


# whole system messages stand between markers of their own
INSTRUCT = (
    "<s>{% for message in messages %}{% if message.role == 'system' %}[SYSTEM_PROMPT]{% else %}[INST]{% endif %}"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}[IMG]{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}"
    "{% if message.role == 'system' %}[/SYSTEM_PROMPT]{% else %}[/INST]{% endif %}{% endfor %}"
)


def mistral_tokenizer():
    """Byte-level as well, but padded on the left: where the words stand depends on how many there are."""
    special = [
        "<unk>",
        "<s>",
        "</s>",
        "<pad>",
        "[INST]",
        "[/INST]",
        "[SYSTEM_PROMPT]",
        "[/SYSTEM_PROMPT]",
    ]
    special += ["[IMG]", "[IMG_BREAK]", "[IMG_END]"]
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_level(special),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        chat_template=INSTRUCT,
        padding_side="left",
    )


def glm_tokenizer():
    """Byte-level, padded on the left, with two tokens before every text."""
    special = ["<|endoftext|>", "[gMASK]", "<sop>"]
    made = byte_level(special)
    made.post_processor = begun_by(made, "[gMASK]", "<sop>")
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        padding_side="left",
    )


def chatglm_tokenizer():
    """The released class, which reads SentencePiece's file and tells no characters; padded on the left."""
    return ChatGLMTokenizer(str(Path(_pieces().name) / "tokenizer.model"), model_max_length=256)


@functools.cache
def _pieces():
    """A folder with a file of SentencePiece, which is there as long as the tests run."""
    folder, made = tempfile.TemporaryDirectory(), io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(WORDS.split())]),
        model_writer=made,
        model_type="bpe",
        vocab_size=400,
        hard_vocab_limit=False,
        user_defined_symbols=["▁", *("▁" + word for word in dict.fromkeys(WORDS.split()))],
        byte_fallback=True,
        minloglevel=2,
    )
    (Path(folder.name) / "tokenizer.model").write_bytes(made.getvalue())
    return folder


def llama_tokenizer():
    """Byte-level, with a token that begins every text; it comes without one for padding."""
    made = byte_level(["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"])
    made.post_processor = begun_by(made, "<|begin_of_text|>")
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        model_max_length=1024,
    )


def begun_by(tokenizer, *tokens):
    before = " ".join(tokens)
    numbers = [(token, tokenizer.token_to_id(token)) for token in tokens]
    template = processors.TemplateProcessing(
        single=f"{before} $A", pair=f"{before} $A $B", special_tokens=numbers
    )
    return processors.Sequence([processors.ByteLevel(trim_offsets=True), template])


def gemma_tokenizer():
    """SentencePiece's way: a space is part of the word after it, in the token as in the characters that it covers."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    words = WORDS.split()
    letters = [chr(code) for code in range(33, 127)]
    escapes = [f"<0x{byte:02X}>" for byte in range(256)]
    vocabulary = [*special, *escapes, "▁", *letters, *words, *("▁" + word for word in words)]
    numbers = numbered(vocabulary)
    made = with_special(
        models.BPE(numbers, merges=[], ignore_merges=True, byte_fallback=True, unk_token="<unk>"),
        special,
        normalizer=normalizers.Replace(" ", "▁"),
        pre_tokenizer=pre_tokenizers.Split(Regex(r"▁?\w+|▁?[^\w▁]+|▁"), "isolated"),
        decoder=decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        ),
        post_processor=processors.TemplateProcessing(
            single="<bos> $A",
            pair="<bos> $A <bos> $B",
            special_tokens=[("<bos>", numbers["<bos>"])],
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        pad_token="<pad>",
    )


def byte_level(special):
    """Words with and without a space before them are tokens, as are the 256 bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = WORDS.split()
    vocabulary = [*alphabet, *words, *("Ġ" + word for word in words)]
    return with_special(
        models.BPE(numbered(vocabulary), merges=[], ignore_merges=True),
        special,
        pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoder=decoders.ByteLevel(),
        # the space before a word belongs to the word's token, but not to the characters that it stands for
        post_processor=processors.ByteLevel(trim_offsets=True),
    )


def numbered(tokens):
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}


def with_special(model, special, **parts):
    tokenizer = Tokenizer(model)
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in special]
    )
    return tokenizer
