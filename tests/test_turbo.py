"""Turbo: how it learns, that eight bits give it back, and that the rest of sdkit works with one evaluation a step."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

import sdkit
from sdkit import pocket as shipped
from sdkit.attention.capture import capture_attention
from sdkit.errors import InvalidSettings
from sdkit.generation import PromptWarning
from sdkit.memory.needs import Needs
from sdkit.memory.sizes import measure
from sdkit.models.defaults import defaults
from sdkit.models.identity import identity, origin
from sdkit.models.words import cautions
from sdkit.pipelines.families import family_of
from sdkit.pocket.distil import main
from sdkit.pocket.eightbit import packed, unpacked
from sdkit.pocket.train import assemble
from sdkit.pocket.training import imitation
from sdkit.pocket.training.imitation import (
    Imitation,
    advance,
    student_of,
    train_turbo,
    velocity_between,
)
from sdkit.pocket.training.presets import (
    PRESETS,
    build_autoencoder,
    build_scheduler,
    build_text_encoder,
    build_unet,
)
from sdkit.pocket.training.tokenizer import build_tokenizer
from sdkit.pocket.turbo import open_unet, write_unet
from sdkit.pocket.world import COLOURS
from sdkit.settings import Settings
from sdkit.traces.tracing import trace_cost

TINY = PRESETS["tiny"]


def untrained():
    """A whole pipeline of the tiny preset with random weights, and words that matter to it."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer(TINY)
    unet = build_unet(TINY)
    for name, weight in unet.named_parameters():
        if "attn2.to_out" in name or "conv_out" in name:
            weight.data.mul_(4)
    text = build_text_encoder(TINY, len(tokenizer))
    pipe = assemble(build_autoencoder(TINY).eval(), text.eval(), tokenizer, unet.eval())
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def teacher():
    return untrained()


@pytest.fixture(scope="module")
def turbo():
    pipe = sdkit.load("pocket-turbo")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def evaluations(pipe, run):
    """How many latents the network is asked about inside `run()`."""
    seen = []
    hook = pipe.unet.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    try:
        run()
    finally:
        hook.remove()
    return sum(seen)


# -- how it learns -----------------------------------------------------------------------------------------------------


def test_the_student_begins_as_its_teacher_whatever_the_guidance(teacher):
    student = student_of(teacher.unet).eval()
    x, text = torch.randn(2, 4, 16, 16), torch.randn(2, 32, 32)
    told = teacher.get_guidance_scale_embedding(torch.tensor([0.0, 6.5]), embedding_dim=64)
    with torch.no_grad():
        assert torch.equal(
            student(x, 500, text, timestep_cond=told).sample, teacher.unet(x, 500, text).sample
        )


def test_a_step_is_that_of_diffusers_and_its_velocity_is_found_again():
    scheduler = build_scheduler()
    scheduler.set_timesteps(4)
    alphas = torch.cat([scheduler.alphas_cumprod[scheduler.timesteps], torch.ones(1)])
    x, velocity = torch.randn(2, 3, 4, 16, 16).unbind()
    for n, t in enumerate(scheduler.timesteps):
        there = scheduler.step(velocity, t, x).prev_sample
        made = advance(x, velocity, alphas[n], alphas[n + 1])
        torch.testing.assert_close(made, there, atol=1e-5, rtol=1e-5)
        found = velocity_between(x, there, alphas[n], alphas[n + 1])
        torch.testing.assert_close(found, velocity, atol=1e-4, rtol=1e-4)


def test_what_the_teacher_shows_is_its_own_picture_at_that_guidance(teacher, tmp_path, monkeypatch):
    # diffusers rounds where a step ends, but not where the next begins: they agree where 1000 can be divided
    monkeypatch.setattr(imitation, "_SUBSTEPS", 2)
    run = Imitation(TINY, teacher, 4, tmp_path, "cpu", bfloat16=False)
    noise = torch.randn(2, 4, 16, 16)
    words, x = ["a cat in the snow", "a dog"], noise
    for first in range(0, 8, 2):
        x = run.shown(x, run.encoded(words), torch.full((2,), 3.0), range(first, first + 2))
    bare = teacher(
        words,
        num_inference_steps=len(run.times),
        guidance_scale=3.0,
        latents=noise,
        output_type="latent",
    )
    torch.testing.assert_close(x, bare.images, atol=1e-4, rtol=1e-4)


def test_the_students_timesteps_are_those_of_its_pipeline(teacher, tmp_path):
    for steps in (1, 2, 4):
        run = Imitation(TINY, teacher, steps, tmp_path, "cpu", bfloat16=False)
        scheduler = DDIMScheduler.from_config(teacher.scheduler.config)
        scheduler.set_timesteps(steps)
        assert run.times[:: len(run.times) // steps].tolist() == scheduler.timesteps.tolist()


@pytest.mark.training
@pytest.mark.parametrize(("of", "steps"), [(2, 2), (4, 2)])
def test_a_student_comes_nearer_to_its_teacher(teacher, tmp_path, of, steps):
    run = Imitation(TINY, teacher, of, tmp_path, "cpu", bfloat16=False)
    words, noise = ["a cat", "a red dog"], torch.randn(2, 4, 16, 16)
    losses = []
    for _ in range(30):
        run.loss = 0.0  # of one update, not the running mean
        run.learn(words, torch.tensor([1.0, 6.0]), noise, 2e-3, steps)
        losses.append(run.loss)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.training
def test_every_third_way_is_gone_in_half_of_the_steps(tmp_path, monkeypatch):
    gone = []
    monkeypatch.setattr(Imitation, "learn", lambda run, words, *_: (gone.append(_[-1]), setattr(run, "seen", run.seen + len(words))))  # fmt: skip
    train_turbo(TINY, untrained(), tmp_path, total=6 * TINY.turbo_batch)
    assert gone == [4, 4, 2, 4, 4, 2]


@pytest.mark.training
def test_a_killed_run_repeats_what_it_would_have_done(tmp_path):
    whole = train_turbo(TINY, untrained(), tmp_path / "whole", total=TINY.turbo_samples)

    steps = []

    def kill(run, *args):
        if len(steps) == 3:
            run.save()
            raise KeyboardInterrupt
        steps.append(1)
        return learn(run, *args)

    learn = Imitation.learn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Imitation, "learn", kill)
        with pytest.raises(KeyboardInterrupt):
            train_turbo(TINY, untrained(), tmp_path / "cut", total=TINY.turbo_samples)
    assert torch.load(tmp_path / "cut" / "turbo-4.pt")["seen"] == 3 * TINY.turbo_batch
    again = train_turbo(TINY, untrained(), tmp_path / "cut", total=TINY.turbo_samples)
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name


@pytest.mark.training
def test_the_command_writes_what_can_be_opened_and_fewer_steps_go_on_from_more(tmp_path):
    untrained().save_pretrained(tmp_path / "teacher")
    asked = ["--preset", "tiny", "--folder", str(tmp_path), "--teacher", str(tmp_path / "teacher")]
    main([*asked, "--samples", "8"])
    pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "teacher")
    unet = open_unet(tmp_path / "tiny" / "weights-turbo")
    assert unet.config.time_cond_proj_dim == 64
    assert shipped.card_of(tmp_path / "tiny" / "weights-turbo")["steps"] == 4
    four = torch.load(tmp_path / "tiny" / "turbo-4.pt")["modules"]["unet"]
    assert (four["conv_in.weight"] - pipe.unet.conv_in.weight).abs().max() > 0
    two = Imitation(TINY, pipe, 2, tmp_path / "tiny", "cpu", bfloat16=False)
    assert torch.equal(two.unet.conv_in.weight, four["conv_in.weight"])
    assert two.seen == 0


@pytest.mark.training
def test_a_turbo_follows_what_its_teacher_has_learned_since(tmp_path):
    old, new = untrained(), untrained()
    for weight in new.unet.parameters():
        weight.data.add_(0.01)
    for name, pipe in (("old", old), ("new", new)):
        pipe.save_pretrained(tmp_path / name)
    turbo = student_of(old.unet)
    turbo.time_embedding.cond_proj.weight.data.fill_(0.5)
    write_unet(turbo, TINY.facts, tmp_path / "turbo")
    asked = ["--preset", "tiny", "--folder", str(tmp_path), "--teacher", str(tmp_path / "new")]
    main([*asked, "--samples", "4", "--start", str(tmp_path / "turbo"), str(tmp_path / "old")])
    went_on = open_unet(tmp_path / "tiny" / "weights-turbo").state_dict()
    assert (went_on["conv_in.weight"] - new.unet.conv_in.weight).abs().mean() < 3e-3
    assert abs(went_on["time_embedding.cond_proj.weight"].mean() - 0.5) < 0.05


# -- its file ---------------------------------------------------------------------------------------------------------


def test_eight_bits_give_weights_back_to_half_a_127th_of_their_rows_largest():
    weights = {
        "matrix": torch.randn(5, 7) * torch.logspace(-6, 2, 5)[:, None],
        "convolution": torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last),
        "vector": torch.randn(9),
        "nothing": torch.zeros(3, 2),
    }
    kept = packed(weights)
    assert {kept[name].dtype for name in ("matrix", "convolution", "nothing")} == {torch.int8}
    back = unpacked(kept)
    assert back.keys() == weights.keys()
    for name in ("matrix", "convolution"):
        rows = weights[name].abs().flatten(1).amax(1).reshape(-1, *(1,) * (weights[name].ndim - 1))
        assert ((back[name] - weights[name]).abs() <= rows / 253).all()
    assert torch.equal(back["vector"], weights["vector"])
    assert not back["nothing"].any()
    again = unpacked(packed(back))
    assert all(torch.allclose(again[name], back[name], rtol=1e-6, atol=0) for name in back)


def test_a_unet_is_read_as_it_was_written(teacher, tmp_path):
    student = student_of(teacher.unet)
    write_unet(student, {"steps": 4, "guidance_scale": 4.0}, tmp_path)
    opened = open_unet(tmp_path)
    assert not opened.training
    for name, weight in student.state_dict().items():
        error = float(weight.abs().max()) / 253 if weight.ndim > 1 else 0.0
        torch.testing.assert_close(opened.state_dict()[name], weight, atol=error + 1e-9, rtol=0)
    assert sorted(f.name for f in tmp_path.iterdir()) == [
        "config.json",
        "eightbit.safetensors",
        "pocket.json",
    ]
    assert "/" not in (tmp_path / "config.json").read_text()  # nobody's folders


# -- the shipped one ---------------------------------------------------------------------------------------------------


def test_turbo_is_a_plain_pipeline_that_knows_itself(turbo, pocket):
    assert type(turbo) is StableDiffusionPipeline
    assert turbo.unet.config.time_cond_proj_dim is not None
    assert identity(turbo) == {"model": "pocket-turbo", "revision": None, "licence": "Apache 2.0"}
    assert origin(turbo).name == "pocket-turbo"
    own = defaults(turbo)
    assert (own.steps, own.guidance_scale, own.width) == (4, 3.0, defaults(pocket).width)
    for part in ("text_encoder", "vae"):
        ours, theirs = getattr(turbo, part).state_dict(), getattr(pocket, part).state_dict()
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert sdkit.plan("pocket-turbo").name == "pocket-turbo"


def test_all_weights_together_are_small():
    folders = [shipped.path(name) for name in shipped.FOLDERS]
    sizes = [f.stat().st_size for folder in folders for f in Path(folder).rglob("*.*")]
    assert sum(sizes) < 60e6
    assert max(sizes) <= 16 * 2**20


def test_generate_is_the_bare_call_at_one_evaluation_a_step(turbo):
    made = []
    count = evaluations(
        turbo,
        lambda: made.append(sdkit.generate(turbo, "a red car on a beach", seed=3, progress=False)),
    )
    assert count == 4
    bare = turbo(
        "a red car on a beach",
        num_inference_steps=4,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(3),
    ).images[0]
    assert np.array_equal(np.asarray(made[0].image), np.asarray(bare))


def test_turbo_paints_the_background_it_is_told(turbo):
    """Measured on the picture itself: in four evaluations, at the default guidance."""
    asked = [c for c in COLOURS if c not in ("gray", "white", "black")]
    right = 0
    for n, colour in enumerate(asked):
        image = sdkit.generate(
            turbo, f"a cat on a {colour} background", seed=n, progress=False
        ).image
        corner = np.asarray(image, float)[4:12, 4:60].mean((0, 1)) / 255
        nearest = min(COLOURS, key=lambda c: np.square(np.array(COLOURS[c]) - corner).sum())
        right += nearest == colour
    assert right >= len(asked) - 1


def test_the_guidance_slider_still_acts_as_it_does_on_the_teacher(turbo, pocket):
    """What the slider changes goes the same way as on the teacher, though not as far."""

    def moved(pipe, prompt, steps):
        few, much = (
            sdkit.generate(
                pipe, prompt, seed=1, steps=steps, guidance_scale=scale, progress=False
            ).latents
            for scale in (1.0, 4.0)
        )
        return (much - few).ravel()

    alike = []
    for prompt in ("a fox in the snow, neon", "a red car on a beach", "a castle at night"):
        ours, theirs = moved(turbo, prompt, 4), moved(pocket, prompt, 12)
        alike.append(np.corrcoef(ours, theirs)[0, 1])
        assert np.linalg.norm(ours) > 0.2 * np.linalg.norm(theirs), prompt
    assert np.mean(alike) > 0.3, alike


def test_a_negative_prompt_says_that_it_cannot_act(turbo):
    settings = Settings("a cat", negative_prompt="red", guidance_scale=5.0)
    (note,) = cautions(turbo, [settings])
    assert note.startswith("The negative prompt has no effect: this model was distilled")
    with pytest.warns(PromptWarning, match="one evaluation a step"):
        made = sdkit.generate(turbo, "a cat", negative_prompt="red", seed=1, progress=False)
    plain = sdkit.generate(turbo, "a cat", seed=1, progress=False)
    assert np.array_equal(np.asarray(made.image), np.asarray(plain.image))


def test_unknown_words_are_told_as_for_pocket(turbo):
    (note,) = cautions(turbo, [Settings("a walrus in the snow", guidance_scale=4.0)])
    assert note.startswith("Pocket has never seen 'walrus'")


def test_attention_is_captured_and_leaves_the_picture(turbo):
    plain = sdkit.generate(turbo, "a red car on a beach", seed=2, progress=False)
    with capture_attention(turbo) as capture:
        made = sdkit.generate(turbo, "a red car on a beach", seed=2, progress=False)
    assert np.array_equal(np.asarray(made.image), np.asarray(plain.image))
    inside = capture.maps["car"]
    assert inside[50:95, 32:96].mean() > 2 * inside[:20].mean()  # the car stands in the middle
    with capture_attention(turbo) as capture:  # nobody announces the user's own call
        turbo("a red car on a beach", num_inference_steps=4, guidance_scale=3.0,
              generator=torch.Generator().manual_seed(2))  # fmt: skip
    np.testing.assert_allclose(capture.maps["car"], inside, atol=1e-6)


def test_a_trace_holds_one_prediction_a_step(turbo):
    made = sdkit.generate(turbo, "a cat", seed=1, trace=True, progress=False)
    plain = sdkit.generate(turbo, "a cat", seed=1, progress=False)
    assert np.array_equal(np.asarray(made.image), np.asarray(plain.image))
    assert len(made.trace) == 4
    assert made.trace.unconditional is None
    assert made.trace.conditional is made.trace.guided
    with pytest.raises(InvalidSettings, match="an input of the network"):
        made.trace.remix(2.0)
    assert made.trace.nbytes == trace_cost(turbo, made.settings)


def test_a_run_goes_on_from_a_step_with_other_words(turbo):
    made = sdkit.generate(turbo, "a cat", seed=1, trace=True, progress=False)
    same = sdkit.fork(turbo, made.trace, 2, progress=False)
    np.testing.assert_allclose(same.latents, made.latents, atol=2e-2)  # traces keep half precision
    other = sdkit.fork(turbo, made.trace, 2, prompt="a dog", progress=False)
    assert np.abs(other.latents - made.latents).max() > 0.1


def test_variations_walks_and_sweeps_take_it(turbo):
    first = sdkit.generate(turbo, "a cat", seed=1, progress=False)
    several = sdkit.variations(turbo, first, count=2, progress=False)
    assert len({image.tobytes() for image in several.images}) == 2
    walk = sdkit.interpolate(turbo, ["a cat", "a dog"], frames=3, seeds=[1, 2], progress=False)
    np.testing.assert_allclose(  # frames are made together, and batches round in another order
        np.asarray(walk[0], float), np.asarray(first.image, float), atol=2
    )
    swept = sdkit.sweep(
        turbo, "a cat", seed=1, x={"guidance_scale": [1.5, 3.0, 7.0]}, progress=False
    )
    assert len({np.asarray(r.image).tobytes() for r in swept.results}) == 3
    np.testing.assert_allclose(
        np.asarray(swept.results[1].image, float), np.asarray(first.image, float), atol=2
    )


def test_guidance_as_an_input_makes_one_pass_and_needs_half_the_room(turbo, pocket):
    assert family_of(turbo).embedded
    assert not family_of(turbo).guided(7.0)
    assert not family_of(pocket).embedded
    assert family_of(pocket).guided(7.0)
    parts = measure("folder", shipped.path())
    told = tuple(
        replace(p, config=p.config | {"time_cond_proj_dim": 64}) if p.name == "unet" else p
        for p in parts
    )
    sizes = {p.name: 4 for p in parts}
    two, one = Needs(parts, sizes, "float32"), Needs(told, sizes, "float32")
    assert one.step(64, 64, pictures=2) == two.step(64, 64, pictures=1)
