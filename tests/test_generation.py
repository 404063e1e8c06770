"""generate(): the picture is diffusers' own, each one can be made again alone, and nothing is left behind."""

import threading

import numpy as np
import pytest
import torch
from PIL import Image

import sdkit
from sdkit.errors import Cancelled, InvalidSettings, NumericalError
from sdkit.generation import PromptWarning, generate, variations
from sdkit.pipelines.noise import slerp
from sdkit.settings import SCHEDULERS, Settings

PROMPT = "a red car on a beach, watercolor"


def pixels(image):
    return np.asarray(image.convert("RGB"))


def quick(pipe, prompt=PROMPT, **options):
    return generate(pipe, prompt, **{"steps": 3, "progress": False, **options})


def bare(pipe, seed=7, **options):
    arguments = {
        "num_inference_steps": 3,
        "guidance_scale": 4.0,
        "generator": torch.Generator().manual_seed(seed),
    }
    return pipe(PROMPT, **{**arguments, **options}).images[0]


def test_picture_is_diffusers_own_to_the_bit(pocket):
    ours = quick(pocket, seed=7, guidance_scale=4.0)
    assert (pixels(ours.image) == pixels(bare(pocket))).all()
    again = quick(pocket, seed=7, guidance_scale=4.0)  # now from the remembered text
    assert (pixels(again.image) == pixels(ours.image)).all()


def test_no_extra_call_of_the_unet_and_text_only_once(pocket):
    calls = {"unet": 0}
    handle = pocket.unet.register_forward_hook(
        lambda *_: calls.__setitem__("unet", calls["unet"] + 1)
    )
    try:
        quick(pocket, steps=5)
    finally:
        handle.remove()
    assert calls["unet"] == 5
    quick(pocket, "a dog")
    encoded = []
    own = type(pocket).encode_prompt

    def counting(self, prompt=None, *args, **kwargs):
        if prompt is not None:
            encoded.append(prompt)
        return own(self, prompt, *args, **kwargs)

    type(pocket).encode_prompt = counting
    try:
        quick(pocket, "a dog")
        quick(pocket, "a dog", seed=9, guidance_scale=8)
        assert encoded == []
        quick(pocket, "a fox")
        assert encoded == ["a fox"]
    finally:
        type(pocket).encode_prompt = own


def test_same_settings_twice_are_bit_identical(pocket):
    first = quick(pocket, seed=3)
    assert (pixels(quick(pocket, first.settings).image) == pixels(first.image)).all()


def test_one_of_a_batch_can_be_made_again_alone(pocket):
    batch = quick(pocket, count=4, seed=11, steps=6)
    assert [s.seed for s in batch.all_settings] == [11, 12, 13, 14]
    for i in range(4):
        alone = generate(pocket, batch[i].settings, progress=False)
        assert (
            np.abs(pixels(alone.image).astype(float) - pixels(batch.images[i])).max() / 255 <= 4e-3
        )  # one level of 255
        assert np.abs(alone.latents[0] - batch.latents[i]).max() <= 1e-3


def test_mixed_settings_keep_their_order(pocket):
    wanted = [
        Settings(prompt="a cat", seed=1, steps=2),
        Settings(prompt="a dog", seed=2, steps=3),
        Settings(prompt="a fox", seed=3, steps=2),
    ]
    made = generate(pocket, wanted, progress=False)
    assert [s.prompt for s in made.all_settings] == ["a cat", "a dog", "a fox"]
    for i, s in enumerate(wanted):
        alone = generate(pocket, s, progress=False)
        assert np.abs(pixels(alone.image).astype(int) - pixels(made.images[i])).max() <= 1


def test_settings_are_complete(pocket):
    s = quick(pocket).settings
    assert (s.steps, s.width, s.height, s.scheduler, s.model) == (3, 128, 128, "ddim", "pocket")
    assert s.guidance_scale == sdkit.pocket.card()["guidance_scale"]
    assert s.version == sdkit.__version__


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_makes_a_picture_and_the_own_one_comes_back(pocket, name):
    own = pocket.scheduler
    made = quick(pocket, steps=6, scheduler=name)
    assert pocket.scheduler is own
    assert made.settings.scheduler == name
    assert pixels(made.image).std() > 5, "a flat picture: the solver does not work"


def test_schedulers_agree_when_steps_are_many(pocket):
    """Deterministic solvers solve the same equation, so with many steps they end near one picture."""
    plain = {
        "steps": 40,
        "seed": 2,
        "guidance_scale": 1.0,
    }  # guidance would make the equation stiff
    reference = quick(pocket, **plain).latents
    for name in ("euler", "dpm++", "unipc", "heun", "lms", "pndm", "dpm++_karras"):
        other = quick(pocket, **plain, scheduler=name).latents
        error = np.sqrt(np.square(other - reference).mean()) / reference.std()
        assert error < 0.1, f"{name} ends elsewhere: {error:.2f}"


def test_negative_prompt_and_guidance_change_the_picture(pocket):
    base = quick(pocket, seed=1)
    assert (pixels(quick(pocket, seed=1, negative_prompt="red").image) != pixels(base.image)).any()
    assert (pixels(quick(pocket, seed=1, guidance_scale=1.0).image) != pixels(base.image)).any()


def test_guidance_one_equals_the_unguided_pipeline(pocket):
    ours = quick(pocket, seed=7, guidance_scale=1.0)
    assert (pixels(ours.image) == pixels(bare(pocket, guidance_scale=1.0))).all()


def test_image_to_image_stays_near_its_source_when_weak(pocket):
    source = quick(pocket, "a house in a meadow", steps=10).image
    weak = generate(pocket, "a castle", image=source, strength=0.2, steps=10, progress=False)
    strong = generate(pocket, "a castle", image=source, strength=0.95, steps=10, progress=False)

    def distance(result):
        return np.abs(pixels(result.image).astype(float) - pixels(source)).mean()

    assert distance(weak) < distance(strong)
    assert weak.settings.task == "image-to-image"
    again = generate(pocket, weak, progress=False)  # a Result remembers its source
    assert (pixels(again.image) == pixels(weak.image)).all()


def test_inpainting_keeps_what_the_mask_keeps(pocket):
    source = quick(pocket, "a house in a meadow", steps=10).image
    mask = Image.new("L", source.size)
    mask.paste(255, (0, 0, 32, 64))
    made = generate(
        pocket, "a cat", image=source, mask=mask, strength=0.9, steps=10, progress=False
    )
    assert (pixels(made.image)[:, 32:] == pixels(source)[:, 32:]).all()
    assert (pixels(made.image)[:, :32] != pixels(source)[:, :32]).any()
    assert made.settings.task == "inpainting"


def test_other_sizes(pocket):
    made = quick(pocket, width=96, height=64)
    assert made.image.size == (96, 64)


def test_variations_stray_with_amount_and_replay_alone(pocket):
    base = quick(pocket, seed=5, steps=8)
    near = variations(pocket, base, count=3, amount=0.1, progress=False)
    far = variations(pocket, base, count=3, amount=0.9, progress=False)

    def distance(result):
        return np.mean([np.abs(lat - base.latents[0]).mean() for lat in result.latents])

    assert distance(near) < distance(far)
    alone = generate(pocket, near[1].settings, progress=False)
    assert np.abs(alone.latents[0] - near.latents[1]).max() <= 1e-3
    still = variations(pocket, base, count=1, amount=0.0, progress=False)
    assert (pixels(still.image) == pixels(base.image)).all()


def test_slerp_against_the_closed_form():
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    third = slerp(a, b, 1 / 3)  # a third of a right angle is 30 degrees
    assert torch.allclose(third, torch.tensor([3**0.5 / 2, 0.5]))
    assert torch.equal(slerp(a, a, 0.4), a)


def test_on_step_sees_every_step_and_a_preview(pocket):
    seen = []
    quick(
        pocket,
        on_step=lambda step, total, decode: seen.append(
            (step, total, decode().size, decode(exact=False).size)
        ),
    )
    assert seen == [(step, 3, (128, 128), (128, 128)) for step in (1, 2, 3)]


@pytest.mark.parametrize("error", [Cancelled, KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_stopping_leaves_everything_usable(pocket, error, at):
    before = quick(pocket, seed=7)
    own, bar = pocket.scheduler, dict(pocket._progress_bar_config)

    def stop(step, total, preview):
        if step == at:
            raise error

    with pytest.raises(error):
        quick(pocket, seed=7, scheduler="euler", on_step=stop)
    assert pocket.scheduler is own
    assert pocket._progress_bar_config == bar
    assert (pixels(quick(pocket, seed=7).image) == pixels(before.image)).all()


def test_three_threads_on_one_pipeline(pocket):
    alone = [quick(pocket, seed=n, scheduler="euler") for n in range(3)]
    together = [None] * 3

    def work(n):
        together[n] = quick(pocket, seed=n, scheduler="euler")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(
        (pixels(a.image) == pixels(b.image)).all() for a, b in zip(alone, together, strict=True)
    )


def test_global_chance_is_not_touched(pocket):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    quick(pocket)
    assert torch.equal(torch.get_rng_state(), before)


def test_nan_is_reported_not_shown(tiny):
    with torch.no_grad():
        tiny.unet.conv_out.bias.fill_(float("nan"))
    with pytest.raises(NumericalError, match="latents came out as NaN or infinity in float32"):
        quick(tiny, "a cat")


def test_nan_in_the_autoencoder_is_reported_too(tiny):
    with torch.no_grad():
        tiny.vae.decoder.conv_out.bias.fill_(float("nan"))
    with pytest.raises(NumericalError, match="picture came out as NaN"):
        quick(tiny, "a cat")


def test_a_flagged_picture_says_so(tiny):
    def checker(image, device, dtype):
        return torch.zeros_like(image), [True] * len(image)

    tiny.run_safety_checker = checker
    made = quick(tiny, "a cat", seed=4)
    assert made.notes == (
        "The model's safety checker flagged this picture (seed 4) and blanked it.",
    )


def test_remembered_text_is_forgotten_when_weights_change(tiny):
    before = quick(tiny, "a cat", steps=2)
    with torch.no_grad():
        for p in tiny.text_encoder.parameters():
            p.mul_(1.5)
    after = quick(tiny, "a cat", steps=2)
    assert np.abs(after.latents - before.latents).max() > 1e-4


def test_a_hooked_text_encoder_is_always_asked(tiny):
    quick(tiny, "a cat")
    seen = []
    handle = tiny.text_encoder.register_forward_hook(lambda *_: seen.append(1))
    quick(tiny, "a cat")
    handle.remove()
    assert seen


def test_unknown_words_get_one_friendly_warning(pocket):
    with pytest.warns(PromptWarning) as caught:
        made = quick(pocket, "a catt on a zeppelin")
    assert len(caught) == 1
    assert "never seen 'catt' (do you mean cat" in made.notes[0]
    assert "'zeppelin'" in made.notes[0]


def test_a_long_prompt_says_what_is_cut(pocket):
    with pytest.warns(PromptWarning, match="40 tokens and the text encoder reads 30"):
        quick(pocket, " ".join(["cat"] * 40))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"prompt": []}, "prompt is \\[\\]; give words"),
        ({"count": 0}, "count is 0; ask for 1 picture or more"),
        ({"batch_size": -1}, "batch_size is -1; give 1 or more"),
        ({"mask": Image.new("L", (8, 8))}, "A mask was given without an image"),
        ({"image": 7}, "image is of type int; give a PIL image"),
        (
            {"image": Image.new("RGB", (64, 64)), "strength": 0.01},
            "strength 0.01 of 3 steps leaves no step to run; raise strength to 0.34",
        ),
        (
            {"prompt": Settings(prompt="a", task="image-to-image")},
            "These settings are for image-to-image; give the picture",
        ),
        (
            {"image": Image.new("RGB", (64, 64)), "variation_seed": 1, "variation_amount": 0.5},
            "leave it at 0 with an image",
        ),
        ({"scheduler": "eular"}, "eular"),
        ({"steps": 0}, "steps"),
        ({"wdith": 64}, "wdith"),
    ],
)
def test_bad_input_is_one_sentence_before_the_first_step(pocket, options, sentence):
    def never(*_):
        raise AssertionError("a step was run")

    with pytest.raises(InvalidSettings, match=sentence):
        quick(pocket, **{"prompt": PROMPT, "on_step": never, **options})


def test_flow_matching_models_refuse_other_solvers(tiny):
    from diffusers import FlowMatchEulerDiscreteScheduler

    tiny.scheduler = FlowMatchEulerDiscreteScheduler()
    with pytest.raises(InvalidSettings, match="flow-matching"):
        quick(tiny, "a cat", scheduler="euler")


def test_variations_of_an_edited_picture_say_what_to_do(pocket):
    with pytest.raises(InvalidSettings, match="this picture is inpainting"):
        variations(pocket, Settings(prompt="a", task="inpainting"))
    with pytest.raises(InvalidSettings, match="count is 0"):
        variations(pocket, Settings(prompt="a"), count=0)


def test_a_saved_picture_makes_itself_again(pocket, tmp_path):
    made = quick(pocket, seed=21)
    back = sdkit.load_result(made.save(tmp_path / "car.png"))
    assert back.settings == made.settings
    assert (
        pixels(generate(pocket, back.settings, progress=False).image) == pixels(back.image)
    ).all()


@pytest.mark.parametrize("steps", [*range(1, 40), 99, 150, 1000])
def test_the_advised_strength_is_enough(steps):
    from sdkit.generation import _least_strength

    assert int(steps * float(f"{_least_strength(steps):g}")) >= 1


def test_attention_that_was_not_asked_for_is_not_captured(tiny):
    assert sdkit.generate(tiny, "a cat", steps=1, attention=None, progress=False).attention is None
    asked = sdkit.generate(tiny, "a cat", steps=1, attention={}, progress=False)
    assert asked.attention is not None
