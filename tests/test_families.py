"""Every family through every door: pictures, walks, traces, attention and the explorer, or one clear sentence."""

import numpy as np
import pytest
import torch
from diffusers import (
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    TCDScheduler,
)
from families import FAMILIES, flux, sd15, sdxl, unet

import sdkit
from sdkit.errors import InvalidSettings
from sdkit.models.defaults import defaults
from sdkit.widgets import PromptExplorer

QUICK = {"steps": 2, "width": 32, "height": 32, "seed": 3, "progress": False}


@pytest.fixture(scope="module", params=FAMILIES)
def pipe(request):
    made = FAMILIES[request.param]()
    made.set_progress_bar_config(disable=True)
    return made


def test_pictures_with_traces_and_attention(pipe):
    plain = sdkit.generate(pipe, "a cat", **QUICK)
    assert plain.image.size == (32, 32)
    probed = sdkit.generate(pipe, plain, trace=True, attention=True, progress=False)
    np.testing.assert_array_equal(probed.latents, plain.latents)
    assert len(probed.trace) == 2
    assert probed.attention["cat"].ndim == 2
    assert np.isfinite(probed.attention["cat"]).all()


def test_walks(pipe):
    walk = sdkit.interpolate(pipe, ["a cat", "a fox"], frames=3, pacing="linear", **QUICK)
    assert len(walk) == 3
    for place, prompt in ((0, "a cat"), (-1, "a fox")):
        alone = sdkit.generate(pipe, prompt, **QUICK)
        np.testing.assert_allclose(np.float32(walk[place]), np.float32(alone.image), atol=1)


def test_the_explorer(pipe):
    explorer = PromptExplorer(pipe, "a cat", steps=2, width=32, height=32, guidance_scale=2)
    try:
        assert explorer.worker.join(120)
        assert explorer.error is None
        assert explorer.result.settings.prompt == "a cat"
    finally:
        explorer.close()


# -- few-step models -----------------------------------------------------------------------------------------------


def with_scheduler(kind, **config):
    pipe = sd15()
    pipe.scheduler = kind.from_config(pipe.scheduler.config, **config)
    return pipe


TRAILING = {"timestep_spacing": "trailing", "prediction_type": "epsilon"}


@pytest.mark.parametrize("kind", [LCMScheduler, TCDScheduler])
def test_consistency_models_take_few_steps_without_guidance(kind):
    pipe = with_scheduler(kind)
    own = defaults(pipe)
    assert (own.steps, own.guidance_scale) == (4, 1.0)
    r = sdkit.generate(pipe, "a cat", progress=False)
    assert (r.settings.steps, r.settings.guidance_scale) == (4, 1.0)
    assert sdkit.generate(pipe, "a cat", steps=1, progress=False).latents is not None


@pytest.mark.parametrize("kind", [EulerDiscreteScheduler, EulerAncestralDiscreteScheduler])
def test_turbo_models_are_known_by_their_schedulers_configuration(kind):
    own = defaults(with_scheduler(kind, **TRAILING))
    assert (own.steps, own.guidance_scale) == (4, 1.0)
    for other in (
        {"timestep_spacing": "leading"},
        {"prediction_type": "v_prediction"},
        {"rescale_betas_zero_snr": True},
    ):
        own = defaults(with_scheduler(kind, **TRAILING | other))
        assert (own.steps, own.guidance_scale) == (50, 7.5)


def test_a_model_that_takes_guidance_as_an_input_keeps_it():
    pipe = with_scheduler(LCMScheduler)
    pipe.unet = unet(time_cond_proj_dim=8).eval()
    own = defaults(pipe)
    assert (own.steps, own.guidance_scale) == (4, 7.5)


def test_flux_schnell_and_dev():
    schnell = flux()
    assert (defaults(schnell).steps, defaults(schnell).guidance_scale) == (4, 1.0)
    schnell.transformer.register_to_config(guidance_embeds=True)
    assert defaults(schnell).steps == 28


# -- weighted prompts ----------------------------------------------------------------------------------------------


def test_compels_encodings_of_plain_words_are_the_pipelines_own():
    from compel import CompelForSD

    pipe = sd15()
    made = CompelForSD(pipe)("a cat", negative_prompt="red")
    given = {"prompt_embeds": made.embeds, "negative_prompt_embeds": made.negative_embeds}
    options = QUICK | {"negative_prompt": "red", "guidance_scale": 4}
    r = sdkit.generate(pipe, "a cat", embeddings=given, **options)
    np.testing.assert_allclose(
        r.latents, sdkit.generate(pipe, "a cat", **options).latents, atol=1e-4
    )
    assert r.notes[0].startswith("Made from text encodings that were handed in")


def test_weights_and_long_prompts_with_compel():
    from compel import CompelForSD

    pipe = sd15()
    encode = CompelForSD(pipe)
    plain = sdkit.generate(pipe, "a red cat", guidance_scale=4, **QUICK)
    for words in ("a (red)1.8 cat", "a cat and a fox " * 30):
        made = encode(words, negative_prompt="")
        given = {"prompt_embeds": made.embeds, "negative_prompt_embeds": made.negative_embeds}
        r = sdkit.generate(pipe, words, count=2, guidance_scale=4, embeddings=given, **QUICK)
        assert len(r) == 2
        assert np.abs(r[0].latents - plain.latents).max() > 1e-4
    assert made.embeds.shape[1] > 77


def test_compel_with_sdxl():
    from compel import CompelForSDXL

    pipe = sdxl()
    made = CompelForSDXL(pipe)("a (red)1.5 cat", negative_prompt="blue")
    given = {
        "prompt_embeds": made.embeds,
        "pooled_prompt_embeds": made.pooled_embeds,
        "negative_prompt_embeds": made.negative_embeds,
        "negative_pooled_prompt_embeds": made.negative_pooled_embeds,
    }
    assert sdkit.generate(pipe, "a (red)1.5 cat", embeddings=given, **QUICK).image.size == (32, 32)


@pytest.mark.parametrize(
    ("embeddings", "options", "sentence"),
    [
        (
            {"embeds": torch.zeros(1, 77, 32)},
            {},
            "embeddings has 'embeds'; give some of prompt_embeds",
        ),
        ({}, {}, "embeddings has no 'prompt_embeds'"),
        (
            {"prompt_embeds": torch.zeros(2, 77, 32)},
            {},
            r"a tensor of one text, \(1, …\), not \(2, 77, 32\)",
        ),
        ({"prompt_embeds": [0]}, {}, r"a tensor of one text"),
        ({"prompt_embeds": torch.zeros(1, 77, 32)}, {"guidance_scale": 4}, "which guidance needs"),
    ],
)
def test_bad_encodings_are_told_before_the_run(tiny, embeddings, options, sentence):
    with pytest.raises(InvalidSettings, match=sentence):
        sdkit.generate(tiny, "a cat", embeddings=embeddings, **QUICK | options)
    with pytest.raises(InvalidSettings, match="of one prompt"):
        sdkit.generate(
            tiny, ["a cat", "a dog"], embeddings={"prompt_embeds": torch.zeros(1, 8, 8)}, **QUICK
        )
