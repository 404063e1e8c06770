"""Axes: what varies, in what order, and how it is called."""

import pytest

from sdkit.errors import InvalidSettings
from sdkit.settings import Settings
from sdkit.sweeps.axes import PromptMatrix, SearchReplace, Wildcards, axis

BASE = Settings(prompt="a red car on a red road", seed=4)


def prompts(given):
    it = axis("x", {"prompt": given})
    return [it.apply(i, BASE).prompt for i in range(len(it))]


def test_values_have_short_labels():
    it = axis("x", {"guidance_scale": [1, 2.5, 8.0], "seed": range(3)})
    assert it.title == "guidance scale, seed"
    assert it.labels == ("1, 0", "2.5, 1", "8, 2")
    assert it.apply(1, BASE) == BASE.replace(guidance_scale=2.5, seed=1)


def test_search_and_replace_keeps_the_original_first():
    given = SearchReplace("red", ["blue", "green"])
    assert prompts(given) == [
        BASE.prompt,
        "a blue car on a blue road",
        "a green car on a green road",
    ]
    assert axis("x", {"prompt": given}).labels == ("red", "blue", "green")


def test_two_axes_can_vary_one_text():
    colours, things = (
        axis("x", {"prompt": SearchReplace("red", ["blue"])}),
        axis("y", {"prompt": SearchReplace("car", ["boat"])}),
    )
    assert things.apply(1, colours.apply(1, BASE)).prompt == "a blue boat on a blue road"


def test_a_matrix_is_every_subset():
    made = prompts(PromptMatrix(["at night", "ink", "neon"]))
    assert len(made) == len(set(made)) == 8
    assert made[0] == BASE.prompt
    assert made[7] == BASE.prompt + ", at night, ink, neon"
    assert axis("x", {"prompt": PromptMatrix(["at night", "ink"])}).labels == (
        "alone",
        "at night",
        "ink",
        "at night + ink",
    )


def test_wildcards_fill_every_gap_and_run_nothing():
    given = Wildcards("a {a} by a {b}, {a}", a=["cat", "{b}"], b=["lake", "{0.__class__}"])
    assert prompts(given) == [
        "a cat by a lake, cat",
        "a cat by a {0.__class__}, cat",
        "a {b} by a lake, {b}",
        "a {b} by a {0.__class__}, {b}",
    ]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"guidance": [1]}, "there is no setting 'guidance'"),
        ({"cfg": [1]}, "called 'guidance_scale' here"),
        ({"seed": []}, r"seed on x is \[\]; give a list"),
        ({"seed": 3}, "seed on x is 3; give a list"),
        ({"prompt": "a cat"}, "prompt on x is 'a cat'; give a list"),
        ({}, "give a dictionary"),
        ([1, 2], "give a dictionary"),
        ({"seed": [1, 2], "steps": [3]}, "on x seed has 2, steps has 1; give lists of one length"),
        ({"seed": SearchReplace("1", ["2"])}, "seed on x is no text"),
        ({"prompt": SearchReplace("red", "blue")}, "a list of replacements"),
        ({"prompt": PromptMatrix([])}, "1 to 10 phrases"),
    ],
)
def test_slips_are_one_sentence(given, sentence):
    with pytest.raises(InvalidSettings, match=sentence):
        axis("x", given)


def test_what_is_not_there_cannot_be_replaced():
    with pytest.raises(InvalidSettings, match="'dog' is not in 'a red car on a red road'"):
        prompts(SearchReplace("dog", ["cat"]))
    with pytest.raises(InvalidSettings, match="has the gaps a and lists for b"):
        Wildcards("a {a}", b=["cat"])
