"""Inversion: from a picture to noise, and by that noise back to the picture and on to others."""

import numpy as np
import pytest
import torch
from families import FAMILIES, sd15
from PIL import Image, ImageDraw

import sdkit
from sdkit.errors import InvalidSettings, NumericalError
from sdkit.experiments.inversion import Backwards
from sdkit.pipelines.noise import keep_noise, starting_noise
from sdkit.pipelines.previews import encode_picture

SMALL = {"width": 32, "height": 32, "steps": 5, "progress": False}


def _drawing(side=64):
    """A house with a red roof on green, under a light sky."""
    big = Image.new("RGB", (256, 256), "#9fd0f0")
    pen = ImageDraw.Draw(big)
    pen.rectangle((0, 170, 256, 256), fill="#5aa545")
    pen.rectangle((70, 100, 190, 200), fill="#d8a070")
    pen.polygon([(55, 105), (130, 40), (205, 105)], fill="#b04030")
    return big.resize((side, side))


def _decibels(one, two):
    error = np.square(np.asarray(one, float) - np.asarray(two, float)).mean()
    return 10 * np.log10(255**2 / error)


@pytest.fixture(scope="module")
def own(pocket):
    """A picture of Pocket's, and what was found for it."""
    made = sdkit.generate(pocket, "a cat on a blue background", seed=3, progress=False)
    return made, sdkit.invert(pocket, made.image, made.settings.prompt, progress=False)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@torch.no_grad()
def test_the_noise_is_that_of_an_explicit_loop(prediction):
    pipe = sd15(prediction=prediction)
    steps, rounds, picture = 4, 3, _drawing(32)
    found = sdkit.invert(pipe, picture, "a red cat", rounds=rounds, **SMALL | {"steps": steps})

    scheduler = sdkit.pipelines.schedulers.make_scheduler(pipe, "ddim")
    scheduler.set_timesteps(steps)
    words = pipe.encode_prompt("a red cat", "cpu", 1, do_classifier_free_guidance=False)[0]
    bars = scheduler.alphas_cumprod.double()
    x, said = encode_picture(pipe, picture), None
    for t in scheduler.timesteps.flip(0):
        before = int(t) - 1000 // steps
        bar, bar_before = bars[t], bars[before] if before >= 0 else scheduler.final_alpha_cumprod
        alpha, sigma = bar.sqrt(), (1 - bar).sqrt()
        near, far = bar_before.sqrt(), (1 - bar_before).sqrt()
        if prediction == "epsilon":
            a, b = near / alpha, far - near * sigma / alpha
        else:
            a, b = near * alpha + far * sigma, far * alpha - near * sigma
        arrive = x
        if said is not None:
            x = (arrive - b * said) / a
        for _ in range(rounds):
            said = pipe.unet(x.float(), t, encoder_hidden_states=words).sample
            x = (arrive - b * said) / a
    noise = starting_noise(pipe, found.settings)
    np.testing.assert_allclose(noise, x.float(), atol=1e-4 * float(noise.abs().max()))


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_enough_rounds_lead_back_to_the_latents_of_the_picture(family):
    pipe, picture = FAMILIES[family](), _drawing(32)
    with torch.no_grad():
        pipe.unet.conv_out.weight.mul_(1e-3)  # as gentle as a trained network is
    goal = encode_picture(pipe, picture).numpy()

    def missed(rounds):
        made = sdkit.invert(pipe, picture, "a red cat", rounds=rounds, guidance_scale=4, **SMALL)
        return np.abs(made.latents - goal).max()

    assert missed(12) < 1e-3
    assert missed(12) < missed(1)


def test_own_pictures_come_back(pocket, own):
    made, found = own
    assert _decibels(found.image, made.image) >= 30
    assert "dB from the picture" in found.notes[-1]
    assert found.settings.guidance_scale == made.settings.guidance_scale
    assert found.settings.negative_prompt == found.settings.prompt == made.settings.prompt
    again = sdkit.generate(pocket, found.settings, progress=False)
    assert again.image.tobytes() == found.image.tobytes()
    assert 0.8 < starting_noise(pocket, found.settings).std() < 1.2, "it looks like noise"


def test_a_drawing_comes_back_and_a_word_of_it_can_be_swapped(pocket):
    drawing = _drawing(128)
    found = sdkit.invert(pocket, drawing, "a house in a meadow", progress=False)
    assert _decibels(found.image, drawing) >= 28
    with sdkit.edit_attention(pocket, found, swap={"a meadow": "the snow"}) as edit:
        winter = np.asarray(sdkit.generate(pocket, edit.settings, progress=False).image, float)
    summer = np.asarray(found.image, float)
    ground, roof = (slice(108, 128), slice(None)), (slice(34, 48), slice(56, 74))
    assert winter[ground].min(-1).mean() > summer[ground].min(-1).mean() + 60, "the ground is white"
    assert winter[roof][..., 0].mean() > winter[roof][..., 2].mean() + 40, "the roof is still red"


def test_found_noise_walks_and_varies(pocket, own):
    _, found = own
    walk = sdkit.interpolate(
        pocket, [found, "a fox on a blue background"], frames=3, scheduler="ddim", progress=False,
        steps=found.settings.steps, pacing="linear",
    )  # fmt: skip
    first = np.asarray(walk[0], float)
    assert np.abs(first - np.asarray(found.image, float)).max() <= 2
    near, far = (
        sdkit.variations(pocket, found, count=1, amount=a, progress=False) for a in (0.05, 0.9)
    )
    assert _decibels(near.image, found.image) > _decibels(far.image, found.image)


def test_without_words_guidance_stays_off():
    found = sdkit.invert(sd15(), _drawing(32), **SMALL)
    assert (found.settings.guidance_scale, found.settings.negative_prompt) == (1, "")


def test_settings_whose_noise_is_not_at_hand_are_refused(pocket, own):
    _, found = own
    lost = found.settings.replace(noise="0" * 64)
    with pytest.raises(InvalidSettings, match="not at hand in this session"):
        sdkit.generate(pocket, lost)
    with pytest.raises(InvalidSettings, match="for latents of"):
        sdkit.generate(pocket, found.settings.replace(width=96))
    with pytest.raises(InvalidSettings, match="make one picture"):
        sdkit.generate(pocket, found.settings, count=2)
    with pytest.raises(InvalidSettings, match="an image brings its own"):
        sdkit.generate(pocket, found.settings, image=found.image)


def test_kept_noise_is_a_copy():
    noise = torch.zeros(1, 4, 4, 4)
    name = keep_noise(noise)
    noise += 1
    assert keep_noise(torch.zeros(1, 4, 4, 4)) == name
    assert keep_noise(noise) != name


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"rounds": 0}, "rounds is 0"),
        ({"rounds": 2.5}, "rounds is 2.5"),
        ({"scheduler": "euler"}, "'euler' cannot be run backwards"),
        ({"negative_prompt": "a dog"}, "negative_prompt cannot be chosen"),
        ({"width": 33}, "width=33"),
    ],
)
def test_what_cannot_be_inverted_is_told_before_the_run(options, told):
    pipe = sd15()
    pipe.unet.forward = None  # not asked
    with pytest.raises(InvalidSettings, match=told):
        sdkit.invert(pipe, _drawing(32), "a cat", **SMALL | options)


@pytest.mark.parametrize("family", ["sd3", "flux"])
def test_flow_models_are_refused_in_one_sentence(family):
    with pytest.raises(InvalidSettings, match="cannot be inverted"):
        sdkit.invert(FAMILIES[family](), _drawing(32), "a cat", **SMALL)


def test_a_solver_that_clips_is_refused():
    pipe = sd15()
    pipe.scheduler.register_to_config(clip_sample=True)
    with pytest.raises(InvalidSettings, match="clips what it aims at"):
        sdkit.invert(pipe, _drawing(32), "a cat", **SMALL)


def test_the_scheduler_comes_back_also_after_an_error():
    pipe = sd15()
    own = pipe.scheduler
    with torch.no_grad():
        pipe.unet.conv_out.bias.fill_(float("nan"))
    with pytest.raises(NumericalError):
        sdkit.invert(pipe, _drawing(32), "a cat", **SMALL)
    assert pipe.scheduler is own
    assert not isinstance(pipe.scheduler, Backwards)
