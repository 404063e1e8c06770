"""A1111's text: blocks as A1111 and Forge write them (made up by hand), and that ours reads back."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, strategies as st

from sdkit.errors import BadPicture
from sdkit.pictures.parameters import from_parameters, to_parameters
from sdkit.settings import SCHEDULERS, Settings

PROSE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(
    lambda text: not any(line.startswith("Negative prompt:") for line in text.split("\n"))
)

CLASSIC = """portrait of a fox, (soft light:1.2), Steps: 3 in the snow
second line of the prompt, no Negative prompt: here
Negative prompt: blurry, lowres
watermark
Steps: 28, Sampler: DPM++ 2M Karras, CFG scale: 6.5, Seed: 3141592653, Size: 512x768, Model hash: 0123abcdef, \
Model: dreamlike, Clip skip: 2, Version: v1.6.0"""

FORGE = """a lighthouse
Steps: 20, Sampler: Euler, Schedule type: Simple, CFG scale: 1, Distilled CFG Scale: 3.5, Seed: 42, Size: 896x1152, \
Model: "flux, dev: q8", Lora hashes: "harbour: 9f8e7d, mist: 1a2b3c", Version: f2.0.1v1.10.1-previous"""

INPAINTED = """a red door
Negative prompt: people
Steps: 30, Sampler: DPM++ 2M, Schedule type: Automatic, CFG scale: 7.0, Seed: 5, Size: 640x640, \
Denoising strength: 0.75, Mask blur: 4, Variation seed: 77, Variation seed strength: 0.2"""

LARGER = """a valley
Steps: 20, Sampler: UniPC, CFG scale: 7, Seed: 9, Size: 512x512, Denoising strength: 0.5, Hires upscale: 2
Template: a {valley|hill}"""


def test_classic_block() -> None:
    settings, extra = from_parameters(CLASSIC)
    assert settings == Settings(
        "portrait of a fox, (soft light:1.2), Steps: 3 in the snow\nsecond line of the prompt, no Negative prompt: here",
        negative_prompt="blurry, lowres\nwatermark",
        seed=3141592653,
        steps=28,
        guidance_scale=6.5,
        width=512,
        height=768,
        scheduler="dpm++_karras",
        model="dreamlike",
    )
    assert extra == {"Model hash": "0123abcdef", "Clip skip": "2", "Version": "v1.6.0"}


def test_forge_block_with_quoted_values_and_a_spacing_we_do_not_have() -> None:
    settings, extra = from_parameters(FORGE)
    assert (settings.prompt, settings.model, settings.scheduler) == (
        "a lighthouse",
        "flux, dev: q8",
        None,
    )
    assert extra["Sampler"] == "Euler"
    assert extra["Schedule type"] == "Simple"
    assert extra["Lora hashes"] == "harbour: 9f8e7d, mist: 1a2b3c"


def test_inpainting_with_a_variation() -> None:
    settings, extra = from_parameters(INPAINTED)
    assert (settings.task, settings.strength, settings.scheduler) == (
        "inpainting",
        0.75,
        "dpm++_karras",
    )
    assert (settings.variation_seed, settings.variation_amount) == (77, 0.2)
    assert extra == {"Mask blur": "4"}


def test_a_second_pass_in_large_is_still_text_to_image() -> None:
    settings, extra = from_parameters(LARGER)
    assert (settings.task, settings.scheduler, settings.prompt) == (
        "text-to-image",
        "unipc",
        "a valley",
    )
    assert extra["Denoising strength"] == "0.5"
    assert extra["Text below the settings"] == "Template: a {valley|hill}"


@pytest.mark.parametrize(
    ("pairs", "scheduler"),
    [
        ("Sampler: Euler a", "euler_a"),
        ("Sampler: Euler a, Schedule type: Automatic", "euler_a"),
        ("Sampler: DPM++ 2M", "dpm++"),
        ("Sampler: DPM++ 2M, Schedule type: Karras", "dpm++_karras"),
        ("Sampler: DPM++ 2M, Schedule type: Exponential", None),
        ("Sampler: Euler, Schedule type: Karras", None),
        ("Sampler: DDIM", "ddim"),
        ("Sampler: PLMS", "pndm"),
        ("Sampler: LMS", "lms"),
        ("Sampler: Heun", "heun"),
        ("Sampler: DDPM", "ddpm"),
        ("Sampler: DPM fast", None),
    ],
)
def test_samplers(pairs: str, scheduler: str | None) -> None:
    settings, extra = from_parameters(f"x\nSteps: 5, Seed: 1, {pairs}")
    assert settings.scheduler == scheduler
    assert ("Sampler" in extra) == (scheduler is None)


@given(
    PROSE, PROSE, st.none() | PROSE, st.none() | st.sampled_from(list(SCHEDULERS)), st.floats(0, 50)
)
def test_what_we_write_reads_back(
    prompt: str, negative: str, model: str | None, scheduler: str | None, guidance: float
) -> None:
    settings = Settings(
        prompt,
        negative_prompt=negative,
        model=model,
        scheduler=scheduler,
        guidance_scale=guidance,
        seed=3,
        steps=4,
        width=64,
        height=32,
        variation_seed=8,
        variation_amount=0.1,
        task="image-to-image",
        strength=0.45,
        version="0.1.0",
    )
    assert from_parameters(to_parameters(settings, {"Note": prompt})) == (
        settings,
        {"Note": prompt},
    )


def test_layout_is_the_one_others_expect() -> None:
    settings = Settings(
        "a cat", negative_prompt="fur", seed=7, steps=20, guidance_scale=7, scheduler="euler_a"
    )
    settings = settings.replace(width=512, height=768, model="a, b", version="0.1")
    assert to_parameters(settings, {"bad\nname": "x", "Seed": "9"}) == (
        "a cat\nNegative prompt: fur\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 7, Size: 512x768, "
        'Model: "a, b", Version: sdkit 0.1'
    )
    assert to_parameters(Settings("nul\0byte", seed=1)) == "nul byte\nSeed: 1, Version: sdkit"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the picture's text has no line of settings such as 'Steps: 20, Seed: 1, …': pass settings by hand"),
        ("a man: tall, a dog: small, a cat: red", "the picture's text has no line of settings such as 'Steps: 20, Seed: 1, …': pass settings by hand"),
        ("x\nSteps: 5", "the picture's text has no line of settings such as 'Steps: 20, Seed: 1, …': pass settings by hand"),
    ],
)  # fmt: skip
def test_bad_text_is_refused_in_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(BadPicture) as refusal:
        from_parameters(text)
    assert str(refusal.value) == sentence


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ('[{"type":"lora","weight":0.8},{"a":1}]', '[{"type":"lora","weight":0.8},{"a":1}]'),
        ("one, two", "one, two"),
        ('"open, end', '"open, end'),
        ("[" * 5000, "[" * 5000),
    ],
)
def test_values_that_extensions_left_unquoted(value: str, read: str) -> None:
    assert from_parameters(f"x\nSteps: 5, Seed: 1, CFG scale: 7, Resources: {value}")[1] == {
        "Resources": read
    }


@pytest.mark.parametrize("filler", [",", "[1,", "[[],", '"x,', "a:", "A: [1, ", 'A: "x, '])
def test_text_made_to_stall_its_reader_does_not(filler: str) -> None:
    beginning = "x\nSteps: 5, Seed: 1, CFG scale: 7, X: "
    began = time.process_time()
    assert from_parameters(beginning + filler * (99_000 // len(filler)))[0].steps == 5
    with pytest.raises(BadPicture, match="no line of settings"):
        from_parameters(beginning + filler * (3_000_000 // len(filler)))
    assert time.process_time() - began < 5


@given(st.text(), st.sampled_from(["", "Steps: 5, Seed: 1, CFG scale: 7, X: "]))
def test_any_text_is_read_or_refused(text: str, beginning: str) -> None:
    try:
        from_parameters(beginning + text)
    except BadPicture as refusal:
        assert "\n" not in str(refusal)  # noqa: PT017  (both outcomes are right)
