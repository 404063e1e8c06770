"""Words and their positions, as the text encoder of a pipeline sees them."""

import pytest

from sdkit.errors import InvalidSettings
from sdkit.pipelines.tokens import read_prompt


def test_every_word_knows_its_pieces(pocket):
    prompt = read_prompt(pocket.tokenizer, "a Red car, next to a palm-tree")
    pieces = pocket.tokenizer.convert_ids_to_tokens(
        pocket.tokenizer("a Red car, next to a palm-tree").input_ids
    )
    assert [w.text for w in prompt.words] == [
        "a",
        "Red",
        "car",
        ",",
        "next",
        "to",
        "a",
        "palm-tree",
    ]
    for word in prompt.words:
        read = "".join(pieces[p].replace("</w>", "") for p in word.positions)
        assert read == word.text.lower()
        assert "".join(word.pieces) == read
    assert prompt.start == (0,)
    assert prompt.end == (len(pieces) - 1,)


def test_every_position_belongs_to_one_thing(pocket):
    prompt = read_prompt(pocket.tokenizer, "a xyzzy on a white background")
    owned = [
        *prompt.start,
        *prompt.end,
        *prompt.padding,
        *(p for w in prompt.words for p in w.positions),
    ]
    assert sorted(owned) == list(range(pocket.tokenizer.model_max_length))
    assert prompt.used == len(owned) - len(prompt.padding)
    assert len(prompt.words[1].positions) > 1, "an unknown word has several pieces"


def test_words_are_found_in_any_case_and_all_places(pocket):
    prompt = read_prompt(pocket.tokenizer, "a red car and a blue car")
    assert len(prompt.find("CAR")) == 2
    assert prompt.find("car", 1)[0][0].positions == (7,)
    assert [w.text for w in prompt.find("blue car")[0]] == ["blue", "car"]


@pytest.mark.parametrize(
    ("word", "occurrence", "told"),
    [("dog", None, "it has a, red, car"), ("car", 3, "occurrence 3"), ("", None, "does not stand")],
)
def test_what_is_not_there_is_told(pocket, word, occurrence, told):
    with pytest.raises(InvalidSettings, match=told):
        read_prompt(pocket.tokenizer, "a red car").find(word, occurrence)


def test_what_was_cut_off_is_told(pocket):
    prompt = read_prompt(pocket.tokenizer, "cat " * 40 + "dog")
    assert prompt.words[-1].cut
    assert not prompt.padding
    with pytest.raises(InvalidSettings, match="after the 32 tokens"):
        prompt.find("dog")
    assert len(prompt.find("cat")) == 30


def test_no_words_at_all(pocket):
    prompt = read_prompt(pocket.tokenizer, "")
    assert prompt.words == ()
    assert prompt.used == 2
