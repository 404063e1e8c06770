"""Negative prompts where the network is told its guidance: `true_cfg_scale`, as diffusers' own calls take it."""

import numpy as np
import pytest
import torch
from families import flux, sd15
from standins_a import STANDINS_A

import sdkit
from sdkit.errors import InvalidSettings
from sdkit.generation import PromptWarning

QUICK = {"steps": 3, "width": 32, "height": 32, "seed": 3, "progress": False}


def bare(pipe, **options):
    made = pipe(
        prompt="a cat",
        num_inference_steps=3,
        width=32,
        height=32,
        generator=torch.Generator().manual_seed(3),
        output_type="np",
        **options,
    ).images[0]
    return (made * 255).round().astype(np.uint8)


@pytest.fixture(scope="module")
def pipe():
    made = flux()
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def qwen():
    made = STANDINS_A["qwen_image"]()
    made.set_progress_bar_config(disable=True)
    return made


def avoiding(pipe, scale=4.0, **options):
    return sdkit.generate(
        pipe, "a cat", negative_prompt="a red bus", true_cfg_scale=scale, **{**QUICK, **options}
    )


def test_flux_leads_away_from_a_negative_prompt_as_in_diffusers(pipe):
    made = avoiding(pipe)
    expected = bare(pipe, negative_prompt="a red bus", true_cfg_scale=4.0)
    np.testing.assert_array_equal(np.asarray(made.image), expected)
    assert made.settings.true_cfg_scale == 4
    assert not np.array_equal(np.asarray(made.image), bare(pipe)), "the stand-in avoids nothing"


def test_batches_sweeps_traces_walks_and_forks_of_true_guidance(pipe):
    made = avoiding(pipe)
    pair = sdkit.generate(
        pipe, ["a dog", "a cat"], negative_prompt="a red bus", true_cfg_scale=4, **QUICK
    )
    assert np.abs(pair[1].latents - made.latents).max() < 1e-4
    grid = sdkit.sweep(
        pipe, "a cat", x={"true_cfg_scale": [1, 4]}, negative_prompt="a red bus", **QUICK
    )
    np.testing.assert_array_equal(np.asarray(grid[0].image), bare(pipe))
    np.testing.assert_array_equal(np.asarray(grid[1].image), np.asarray(made.image))
    traced = avoiding(pipe, trace=True, attention=True)
    np.testing.assert_array_equal(traced.latents, made.latents)
    trace = traced.trace
    expected = trace.unconditional.astype(np.float32) * -3 + trace.conditional * np.float32(4)
    np.testing.assert_allclose(trace.guided, expected, atol=0.05)
    walk = sdkit.interpolate(
        pipe, [made, "a dog"], frames=3, pacing="linear", negative_prompt="a red bus",
        true_cfg_scale=4, **QUICK,
    )  # fmt: skip
    np.testing.assert_allclose(np.float32(walk[0]), np.float32(made.image), atol=1)
    branch = sdkit.fork(pipe, trace, 1, true_cfg_scale=8, progress=False)
    assert np.abs(branch.latents - made.latents).max() > 1e-3


def test_qwen_images_true_scale_is_its_guidance(qwen):
    made = avoiding(qwen, 5)
    expected = bare(qwen, negative_prompt="a red bus", true_cfg_scale=5.0)
    np.testing.assert_array_equal(np.asarray(made.image), expected)
    assert (made.settings.guidance_scale, made.settings.true_cfg_scale) == (5, None)
    with pytest.raises(InvalidSettings, match="one and the same in QwenImagePipeline; give one"):
        avoiding(qwen, 5, guidance_scale=4)


def test_what_cannot_act_says_so(pipe):
    plain = sd15()
    with pytest.raises(InvalidSettings, match="StableDiffusionPipeline has no true_cfg_scale"):
        avoiding(plain)
    with pytest.warns(PromptWarning, match="true_cfg_scale has no effect without a negative"):
        made = sdkit.generate(pipe, "a cat", true_cfg_scale=4, **QUICK)
    np.testing.assert_array_equal(np.asarray(made.image), bare(pipe))
    with pytest.warns(PromptWarning, match="in FluxPipeline without true_cfg_scale"):
        idle = sdkit.generate(pipe, "a cat", negative_prompt="a red bus", **QUICK)
    np.testing.assert_array_equal(idle.latents, made.latents)
