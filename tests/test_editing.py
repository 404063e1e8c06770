"""Ablation, prompt-to-prompt editing, and the figures of attention."""

import numpy as np
import pytest
from families import FAMILIES, sd15
from matplotlib.figure import Figure

import sdkit
from sdkit import plots
from sdkit.errors import CannotCapture, InvalidSettings

SMALL = {"width": 32, "height": 32, "steps": 4, "seed": 1, "progress": False, "guidance_scale": 4}


@pytest.fixture
def pipe():
    return sd15()


def test_an_edit_that_changes_nothing_gives_the_source(pipe):
    r = sdkit.generate(pipe, "a red cat", **SMALL)
    processors = pipe.unet.attn_processors
    with sdkit.edit_attention(pipe, r, weights={"red": 1}) as edit:
        again = sdkit.generate(pipe, edit.settings, progress=False)
    np.testing.assert_allclose(again.latents, r.latents, atol=1e-4)
    assert all(pipe.unet.attn_processors[name] is p for name, p in processors.items())
    assert (sdkit.generate(pipe, r.settings, progress=False).latents == r.latents).all()


def test_a_swap_stays_nearer_to_the_source_than_the_new_prompt_alone(pocket):
    r = sdkit.generate(pocket, "a fox on a blue background", seed=2, steps=8, progress=False)
    with sdkit.edit_attention(pocket, r, swap={"blue": "yellow"}) as edit:
        edited = sdkit.generate(pocket, edit.settings, progress=False)
    assert edit.settings.prompt == "a fox on a yellow background"
    corner = np.asarray(edited.image)[2, 2]
    assert corner[0] > corner[2], "the background became yellow"


def test_processors_come_back_after_an_error(pipe):
    r = sdkit.generate(pipe, "a red cat", **SMALL)
    processors = pipe.unet.attn_processors
    with (
        pytest.raises(InvalidSettings, match="4 steps"),
        sdkit.edit_attention(pipe, r, swap={"cat": "dog"}) as edit,
    ):
        sdkit.generate(pipe, edit.settings.replace(steps=3), progress=False)
    assert all(pipe.unet.attn_processors[name] is p for name, p in processors.items())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"swap": {"dog": "fox"}}, "'dog' does not stand"),
        ({"weights": {"red": 9}}, "from -2 to 5"),
        ({"cross_steps": 2}, "cross_steps is 2"),
        ({"blend": "dog"}, "'dog' does not stand"),
    ],
)
def test_bad_edits_are_told_before_the_run(pipe, options, told):
    r = sdkit.generate(pipe, "a red cat", **SMALL)
    with pytest.raises(InvalidSettings, match=told):
        sdkit.edit_attention(pipe, r, **options)


def test_joint_attention_cannot_be_edited(pipe):
    r = sdkit.generate(pipe, "a red cat", **SMALL)
    with pytest.raises(CannotCapture, match="joint attention"):
        sdkit.edit_attention(FAMILIES["sd3"](), r, swap={"cat": "dog"})


def test_ablation_changes_one_word_at_a_time_and_leaves_no_hook(pipe):
    r = sdkit.generate(pipe, "a red cat", **SMALL)
    found = sdkit.ablate(pipe, r, progress=False)
    assert list(found.without) == ["red", "cat"]
    assert (found.original.latents == r.latents).all()
    for word, change in found.changes.items():
        assert change.shape == (32, 32)
        assert found.amount[word] > 0
        assert -1 <= found.agreement[word] <= 1
    assert not pipe.text_encoder._forward_pre_hooks
    assert found._repr_mimebundle_()["text/html"].count("<img ") == 6
    with pytest.raises(InvalidSettings, match="'dog' does not stand"):
        sdkit.ablate(pipe, r, ["dog"], progress=False)


def test_figures_of_attention(pipe):
    maps = sdkit.generate(
        pipe, "a red cat", attention={"steps": True, "heads": True}, **SMALL
    ).attention
    axes = Figure().subplots()
    assert plots.attention_overlay(maps, "cat", ax=axes) is axes
    table = plots.attention_timeline(maps, ax=Figure().subplots()).images[0].get_array()
    np.testing.assert_allclose(table[1], 100 * maps.by_step("cat").mean((1, 2)), rtol=1e-5)
    assert len(plots.attention_heads(maps, "cat", axes=Figure().subplots(1, 2))) == 2
