"""Settings: what they accept, what they refuse and in which words, and that nothing is lost on the way to JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, strategies as st

from sdkit.errors import InvalidSettings, SdkitError
from sdkit.settings import FACTS, SCHEDULERS, Settings

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@st.composite
def any_settings(draw: st.DrawFn) -> Settings:
    """Every combination that `Settings` accepts."""
    size = st.none() | st.integers(2, 1024).map(lambda eighth: eighth * 8)
    digest = st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex)
    weight = st.floats(0, 10)
    second = draw(st.none() | st.integers(0, 2**63 - 1))
    return Settings(
        draw(ANY_TEXT),
        negative_prompt=draw(ANY_TEXT),
        seed=draw(st.integers(0, 2**63 - 1)),
        steps=draw(st.none() | st.integers(1, 1000)),
        guidance_scale=draw(st.none() | st.floats(0, 50)),
        true_cfg_scale=draw(st.none() | st.floats(0, 50)),
        width=draw(size),
        height=draw(size),
        scheduler=draw(st.none() | st.sampled_from(list(SCHEDULERS))),
        strength=draw(st.floats(0, 1, exclude_min=True)),
        variation_seed=second,
        variation_amount=draw(st.floats(0, 1)) if second is not None else 0.0,
        task=draw(st.sampled_from(["text-to-image", "image-to-image", "inpainting"])),
        source=draw(digest),
        mask=draw(digest),
        control=draw(digest),
        control_scale=draw(st.none() | weight | st.lists(weight, min_size=1, max_size=3)),
        reference=draw(digest),
        model=draw(st.none() | ANY_TEXT),
        revision=draw(st.none() | st.binary(min_size=20, max_size=20).map(bytes.hex)),
        licence=draw(st.sampled_from([None, "MIT", "Licence de l'été \N{COPYRIGHT SIGN}"])),
        version=draw(st.none() | ANY_TEXT),
    )


@given(any_settings())
def test_json_loses_nothing(settings: Settings) -> None:
    text = settings.to_json()
    assert text.isascii()
    assert "\n" not in text
    assert Settings.from_json(text) == settings
    assert Settings.from_json(text.encode()) == settings
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_defaults_leave_the_choice_to_the_model() -> None:
    plain = Settings("a cat").to_dict()
    assert {name for name, value in plain.items() if value is not None} == {
        "prompt", "negative_prompt", "seed", "strength", "variation_amount", "task",
    }  # fmt: skip
    assert json.loads(Settings("a cat").to_json()) == plain


def test_replace_changes_a_copy() -> None:
    first = Settings("a cat", seed=7)
    second = first.replace(guidance_scale=9, seed=np.int64(8))
    assert (first.seed, first.guidance_scale) == (7, None)
    assert (second.seed, second.guidance_scale, second.prompt) == (8, 9.0, "a cat")
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.seed = 1  # type: ignore[misc]
    assert len({first, second, Settings("a cat", seed=7)}) == 2


def test_numbers_of_numpy_become_pythons_own() -> None:
    made = Settings(
        seed=np.uint32(5), steps=np.int16(20), guidance_scale=np.float32(7.5), width=np.int64(512)
    )
    assert [type(value) for value in (made.seed, made.steps, made.guidance_scale, made.width)] == [
        int,
        int,
        float,
        int,
    ]
    assert Settings.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"prompt": ["a cat", "a dog"]}, "prompt is a list of 2, but one Settings makes one picture: make one Settings for each"),
        ({"prompt": None}, "prompt must be text, not None: put it in quotes"),
        ({"negative_prompt": 7}, "negative_prompt must be text, not 7: put it in quotes"),
        ({"prompt": "ab\ud83d"}, "prompt has half a character (a lone surrogate) at position 2: remove it"),
        ({"seed": -1}, "seed=-1 is outside 0 to 9223372036854775807: choose a number in that range"),
        ({"seed": 2**63}, "seed=9223372036854775808 is outside 0 to 9223372036854775807: choose a number in that range"),
        ({"seed": True}, "seed must be a whole number from 0 to 9223372036854775807, not True: change it"),
        ({"seed": 10**5000}, "seed=that huge number is outside 0 to 9223372036854775807: choose a number in that range"),
        ({"steps": 0}, "steps=0 is outside 1 to 1000: choose a number in that range"),
        ({"steps": 20.0}, "steps must be a whole number from 1 to 1000, not 20.0: change it"),
        ({"steps": "20"}, "steps must be a whole number from 1 to 1000, not '20': change it"),
        ({"guidance_scale": math.nan}, "guidance_scale=nan is outside 0 to 50: choose a number in that range"),
        ({"guidance_scale": math.inf}, "guidance_scale=inf is outside 0 to 50: choose a number in that range"),
        ({"guidance_scale": "7"}, "guidance_scale must be a number from 0 to 50, not '7': change it"),
        ({"guidance_scale": 10**400}, "guidance_scale=1" + "0" * 58 + "… is outside 0 to 50: choose a number in that range"),
        ({"width": 500}, "width=500 is not a multiple of 8, which the autoencoder needs: use 496"),
        ({"height": 8}, "height=8 is outside 16 to 8192: choose a number in that range"),
        ({"height": 8200}, "height=8200 is outside 16 to 8192: choose a number in that range"),
        ({"strength": 0}, "strength=0 would return the source picture unchanged: use a number above 0, up to 1"),
        ({"strength": 1.5}, "strength=1.5 is outside 0 to 1: choose a number in that range"),
        ({"variation_amount": 0.3}, "variation_amount=0.3 needs a variation_seed: give one, or use amount 0"),
        ({"variation_amount": 2}, "variation_amount=2 is outside 0 to 1: choose a number in that range"),
        ({"scheduler": "eular"}, "there is no scheduler 'eular': did you mean 'euler'?"),
        ({"scheduler": 3}, "there is no scheduler 3: use one of " + ", ".join(SCHEDULERS)),
        ({"task": "text2image"}, "there is no task 'text2image': did you mean 'text-to-image'?"),
        ({"source": "cat.png"}, "source must be a SHA-256 of 64 hexadecimal digits, not 'cat.png': leave it to generate()"),
        ({"control_scale": 11}, "control_scale=11 is outside 0 to 10: choose a number in that range"),
        ({"control_scale": [1, "2"]}, "control_scale must be a number from 0 to 10, not '2': change it"),
        ({"control_scale": []}, "control_scale is an empty list: give one number, or one for each control picture"),
        ({"controlnet_conditioning_scale": 1}, "there is no setting 'controlnet_conditioning_scale': it is called 'control_scale' here"),
        ({"stpes": 20}, "there is no setting 'stpes': did you mean 'steps'?"),
        ({"num_inference_steps": 20}, "there is no setting 'num_inference_steps': it is called 'steps' here"),
    ],
)  # fmt: skip
def test_bad_values_are_refused_in_one_sentence(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(InvalidSettings) as refusal:
        Settings().replace(**values)
    assert str(refusal.value) == sentence
    assert isinstance(refusal.value, SdkitError)
    assert isinstance(refusal.value, ValueError)


@pytest.mark.parametrize(
    ("text", "beginning"),
    [
        ("{", "the settings are not valid JSON ("),
        ("[" * 100_000, "the settings are not valid JSON ("),
        ("[1]", "settings must be a dictionary, not list"),
        ('{"seed": 1e400}', "seed must be a whole number from 0 to 9223372036854775807, not inf"),
        ('{"sede": 1}', "there is no setting 'sede': did you mean 'seed'?"),
    ],
)
def test_bad_json_is_refused_in_one_sentence(text: str, beginning: str) -> None:
    with pytest.raises(InvalidSettings) as refusal:
        Settings.from_json(text)
    assert str(refusal.value).startswith(beginning)
    assert "\n" not in str(refusal.value)


def test_unknown_names_are_dropped_only_on_request() -> None:
    newer = {"prompt": "a cat", "clip_skip": 2}
    assert Settings.from_dict(newer, strict=False) == Settings("a cat")
    with pytest.raises(InvalidSettings, match="there is no setting 'clip_skip'"):
        Settings.from_dict(newer)


def test_importing_settings_needs_neither_torch_nor_pillow() -> None:
    code = "import sys, sdkit.settings; print([m for m in ('torch', 'PIL', 'numpy', 'diffusers') if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def _other(name: str) -> object:
    others = {
        "scheduler": "euler",
        "task": "image-to-image",
        "source": "b" * 64,
        "mask": "c" * 64,
        "control": "d" * 64,
        "reference": "e" * 64,
        "noise": "f" * 64,
        "width": 64,
        "height": 64,
        "variation_amount": 0.7,
        "strength": 0.3,
        "fit": "pad",
    }
    text = (
        "prompt",
        "negative_prompt",
        "model",
        "revision",
        "licence",
        "version",
        "memory",
        "additions",
    )
    return others.get(name, "other words" if name in text else 9)


@pytest.mark.parametrize("name", [field.name for field in fields(Settings)])
def test_every_field_decides_the_picture_or_is_a_fact_about_its_run(name: str) -> None:
    full = Settings(
        "a cat",
        negative_prompt="a dog",
        task="inpainting",
        source="a" * 64,
        mask="a" * 64,
        control="a" * 64,
        control_scale=1,
        true_cfg_scale=4,
        variation_seed=1,
        variation_amount=0.5,
        memory="tiles",
    )
    other = full.replace(**{name: _other(name)})
    assert other != full
    assert full.same_picture(other) == (name in FACTS)
    assert (full.facts() != other.facts()) == (name in FACTS)


def test_what_cannot_act_makes_no_other_picture() -> None:
    plain = Settings("a cat")
    assert plain.same_picture(plain.replace(strength=0.9))
    assert plain.same_picture(plain.replace(variation_seed=5))
    assert plain.same_picture(plain.replace(control_scale=0.5, fit="pad"))
    assert plain.same_picture(plain.replace(true_cfg_scale=4))
    assert not plain.replace(negative_prompt="a dog").same_picture(
        plain.replace(negative_prompt="a dog", true_cfg_scale=4)
    )
    led = plain.replace(control="a" * 64)
    assert led.same_picture(led.replace(strength=0.9))
    assert not led.same_picture(led.replace(control_scale=0.5))
    assert not led.same_picture(led.replace(fit="pad"))
    assert not plain.same_picture(plain.replace(variation_seed=5, variation_amount=0.1))
    assert plain.replace(memory="tiles", version="1", strength=0.9).recipe() == plain
