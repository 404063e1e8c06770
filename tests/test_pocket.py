"""Pocket: its world, its words, its training script end to end at a tiny size, and the weights that ship."""

import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import sdkit
from sdkit.pocket import world
from sdkit.pocket.training.draw import render
from sdkit.pocket.world import (
    BACKGROUNDS,
    COLOURS,
    STYLES,
    Item,
    Scene,
    caption,
    held_out,
    objects,
    random_scene,
    words,
)

WEIGHTS = Path(sdkit.pocket.path())


def scenes(count, **options):
    rng = random.Random(5)
    return [random_scene(rng, objects(64), **options) for _ in range(count)]


def test_the_world_is_as_large_as_it_says():
    assert len(world.WORLD) >= 200
    assert (
        len({k.name for k in world.WORLD})
        == len({k.glyph for k in world.WORLD})
        == len(world.WORLD)
    )
    assert len(COLOURS) == 10
    assert len(world.PLACES) >= 5
    assert len(STYLES) == 1 + 8
    assert all(k.home in BACKGROUNDS for k in world.WORLD)
    with pytest.raises(ValueError, match="0 objects were asked for; the world holds"):
        objects(0)


def test_every_object_has_a_glyph():
    for kind in world.WORLD:
        masks = render(Scene((Item(kind, 0.5, 0.5, 0.6),), "white"), 64).masks
        assert 0.05 < masks[0].mean() < 0.5, kind.name


def test_training_never_sees_a_held_out_combination():
    combinations = 0
    for s in scenes(3000):
        names = [i.kind.name for i in s.items]
        assert not any(held_out(n, s.style) for n in names)
        if s.relation:
            assert not held_out(*names)
    for a in objects(64):
        combinations += sum(held_out(a.name, style) for style in STYLES)
    assert 15 <= combinations <= 60  # of 576: enough to measure, few enough to learn the rest
    assert held_out("cat", "neon") == held_out("neon", "cat")


def test_captions_say_what_the_scene_shows():
    rng = random.Random(1)
    known = set(words(objects(64)))
    for s in scenes(500, training=False):
        text = caption(s, rng, name_home=True)
        assert set(text.replace(",", " ").replace("-", " ").split()) <= known, text
        assert any(n in text for n in (s.items[0].kind.name, s.items[0].kind.plural))
        if s.relation:
            assert s.items[1].kind.name in text
        if s.items[0].colour:
            assert s.items[0].colour in text


def test_relations_are_true_in_the_picture():
    for s in scenes(400, composition="pair"):
        a, b = s.items
        holds = {
            "left": a.x < b.x,
            "beside": a.x < b.x,
            "right": a.x > b.x,
            "above": a.y < b.y,
            "below": a.y > b.y,
        }
        assert holds[s.relation]


def test_scenes_and_pictures_repeat_from_their_seed():
    assert scenes(20) == scenes(20)
    s = scenes(1)[0]
    assert (render(s).image == render(s).image).all()


@pytest.mark.parametrize("style", STYLES)
def test_styles_change_the_picture_and_stay_in_range(style):
    s = Scene((Item(objects(1)[0], 0.5, 0.55, 0.66),), "orange", style)
    made, plain = render(s, 64).image, render(replace(s, style="plain"), 64).image
    assert made.shape == (64, 64, 3)
    assert made.min() >= 0
    assert made.max() <= 1
    assert (np.abs(made - plain).mean() > 0.02) == (style != "plain")


def test_a_colour_word_changes_the_object_only():
    car = next(k for k in world.WORLD if k.name == "car")
    red, blue = (
        render(Scene((Item(car, 0.5, 0.5, 0.6, c),), "white"), 64) for c in ("red", "blue")
    )
    changed = np.abs(red.image - blue.image).max(-1) > 0.02
    assert changed[red.masks[0] == 0].sum() == 0
    inside = blue.image[changed].mean(0)
    assert inside[2] > inside[0]


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="A scene of 8 pixels was asked for; choose 16 to 512"):
        render(scenes(1)[0], 8)


# -- the words -----------------------------------------------------------------------------------------------------


def test_vocabulary_and_unknown_words():
    known = sdkit.pocket.vocabulary()
    assert list(known) == sorted(set(known))
    assert {"cat", "watercolor", "watercolour", "snow", "grey", "three"} <= set(known)
    assert sdkit.pocket.unknown_words("a red cat, watercolour!") == {}
    assert sdkit.pocket.unknown_words("A giraff and a quasar") == {
        "giraff": ("giraffe", "giraffes"),
        "quasar": (),
    }


def test_every_known_word_is_one_token(pocket):
    for word in sdkit.pocket.vocabulary():
        assert len(pocket.tokenizer(word).input_ids) == 3, word


@pytest.mark.parametrize("text", ["", "日本語", "🐈", "naïve café", "a" * 500, "\x00\x01", "8-bit"])
def test_any_text_has_an_encoding(pocket, text):
    ids = pocket.tokenizer(text, padding="max_length", truncation=True).input_ids
    assert len(ids) == 32
    assert max(ids) < pocket.text_encoder.config.vocab_size


# -- the weights that ship -------------------------------------------------------------------------------------------


def test_weights_are_small_and_safe():
    files = [f for f in WEIGHTS.rglob("*") if f.is_file()]
    assert {f.suffix for f in files} <= {".json", ".safetensors", ".txt"}
    assert sum(f.stat().st_size for f in files) <= 40e6
    assert max(f.stat().st_size for f in files) <= 16 * 2**20


def test_weights_are_half_precision():
    from safetensors import safe_open

    for file in WEIGHTS.rglob("*.safetensors"):
        with safe_open(file, "pt") as f:
            assert {f.get_slice(k).get_dtype() for k in f.keys()} <= {"F16", "I64"}  # noqa: SIM118


def test_pocket_paints_the_background_it_is_told(pocket):
    """The simplest thing that a prompt can ask for, measured on the picture itself, without the judge."""
    right = 0
    asked = [c for c in COLOURS if c not in ("gray", "white", "black")]
    for n, colour in enumerate(asked):
        image = sdkit.generate(
            pocket, f"a cat on a {colour} background", seed=n, progress=False
        ).image
        corner = np.asarray(image, float)[4:12, 4:60].mean((0, 1)) / 255
        nearest = min(COLOURS, key=lambda c: np.square(np.array(COLOURS[c]) - corner).sum())
        right += nearest == colour
    assert right >= len(asked) - 1


# -- the training script ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from sdkit.pocket.train import main

    folder = tmp_path_factory.mktemp("run")
    main(["--preset", "tiny", "--folder", str(folder)])
    return folder / "tiny"


@pytest.mark.training
def test_the_whole_recipe_runs_and_diffusers_opens_the_result(trained):
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(trained / "weights")
    assert sdkit.generate(pipe, "a cat", steps=2, progress=False).image.size == (32, 32)
    assert (trained / "samples-final.png").exists()
    assert (trained / "facts.json").exists()
    for file in (trained / "weights").rglob("*.json"):
        assert "_name_or_path" not in file.read_text(), (
            "where it was loaded from is nobody's business"
        )


@pytest.mark.training
def test_a_killed_run_goes_on_from_its_checkpoint(trained):
    from sdkit.pocket.train import train_diffusion
    from sdkit.pocket.training.checkpoint import load_checkpoint
    from sdkit.pocket.training.muon import optimizers
    from sdkit.pocket.training.presets import PRESETS, build_text_encoder, build_unet
    from sdkit.pocket.training.tokenizer import build_tokenizer

    preset = PRESETS["tiny"]
    tokenizer = build_tokenizer(preset)
    both = torch.nn.ModuleDict(
        {"text": build_text_encoder(preset, len(tokenizer)), "unet": build_unet(preset)}
    )
    opts = optimizers(both["text"], both["unet"], lr=preset.lr)
    assert load_checkpoint(trained / "diffusion.pt", {"both": both}, opts) == preset.samples
    saved = both["unet"].conv_in.weight.detach().clone()
    (trained / "diffusion.part").write_bytes(
        b"half a file"
    )  # what a kill leaves behind must not matter
    from diffusers import AutoencoderKL

    vae = AutoencoderKL.from_pretrained(trained / "weights" / "vae")
    train_diffusion(preset, trained, vae, tokenizer, total=preset.samples + 2 * preset.batch)
    assert (
        load_checkpoint(trained / "diffusion.pt", {"both": both}, opts)
        == preset.samples + 2 * preset.batch
    )
    assert 0 < (both["unet"].conv_in.weight - saved).abs().max() < 0.1


@pytest.mark.training
def test_the_evaluation_runs_on_it_and_can_tell_right_from_wrong(trained):
    from sdkit.pocket.evaluate import Question, questions, score
    from sdkit.pocket.training.judge import Verdict
    from sdkit.pocket.training.presets import PRESETS

    preset = PRESETS["pocket2"]
    asked = questions(preset, 40)
    assert len({q.prompt for q in asked}) > 30
    assert any(q.unseen for q in asked)
    kinds = {k.name: i for i, k in enumerate(objects(preset.objects))}

    def verdict(scene, shift):
        """A judge who sees every object `shift` kinds further down the list."""
        where = np.zeros((len(kinds) + 1, 16, 16), np.float32)
        colours = np.zeros((11, 16, 16), np.float32)
        for item in scene.items:
            x, y = int(item.x * 16), int(item.y * 16)
            where[(kinds[item.kind.name] + shift) % len(kinds), y, x] = 1
            colours[("natural", *COLOURS).index(item.colour or "natural"), y, x] = 1
        return Verdict(where, colours, scene.style, scene.background, scene.count)

    perfect = score([verdict(q.scene, 0) for q in asked], asked, kinds)
    assert all(right == of for right, of in perfect.values())
    wrong = score([verdict(q.scene, 1) for q in asked], asked, kinds)
    assert wrong["single object"][0] == 0
    assert wrong["two objects, both right"][0] == 0
    assert wrong["style"] == perfect["style"]
    assert isinstance(asked[0], Question)


def test_guidance_of_zero_is_a_number_too(monkeypatch):
    from sdkit.pocket import evaluate

    asked = {}
    monkeypatch.setattr(evaluate, "train_judge", lambda *_, **__: None)
    monkeypatch.setattr(evaluate, "report", lambda *_, **options: asked.update(options))
    monkeypatch.setattr(evaluate, "table", str)
    evaluate.main(["--preset", "tiny", "--guidance", "0"])
    assert asked["guidance"] == 0


@pytest.mark.training
def test_a_shard_stands_under_its_name_only_when_it_is_whole(trained, monkeypatch):
    from diffusers import AutoencoderKL

    from sdkit.pocket import train
    from sdkit.pocket.training.presets import PRESETS

    def killed(_state, path):
        Path(path).write_bytes(b"half a sh")
        raise KeyboardInterrupt

    vae = AutoencoderKL.from_pretrained(trained / "weights" / "vae")
    code = train.encoder_of(PRESETS["tiny"], vae)
    shard = trained / "latents" / "007.pt"
    with monkeypatch.context() as broken:
        broken.setattr(train.torch, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            train._shard(PRESETS["tiny"], 7, vae, code, trained)
    assert not shard.exists()
    latents, _, scenes = train._shard(PRESETS["tiny"], 7, vae, code, trained)
    assert shard.exists()
    assert len(latents) == len(scenes)


@pytest.mark.training
def test_the_tokenizer_is_the_same_in_every_process():
    code = (
        "from sdkit.pocket.training.presets import PRESETS; from sdkit.pocket.training.tokenizer import build_tokenizer;"
        "print(sorted(build_tokenizer(PRESETS['pocket2']).get_vocab().items(), key=lambda i: i[1]))"
    )
    built = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": str(n)},
        ).stdout
        for n in (1, 2)
    }
    assert len(built) == 1


@pytest.mark.training
def test_a_run_that_goes_on_keeps_the_words_and_the_weights_of_its_start(trained, tmp_path):
    """The words' numbers must be those of the weights, and the average must begin at them."""
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTokenizer

    from sdkit.pocket.train import Diffusion, main
    from sdkit.pocket.training.presets import PRESETS

    start = StableDiffusionPipeline.from_pretrained(trained / "weights")
    run = Diffusion(PRESETS["tiny"], start.tokenizer, tmp_path, "cpu", start)
    with run.averaged():
        assert torch.equal(run.unet.conv_in.weight, start.unet.conv_in.weight)
    folder = tmp_path / "more"
    main(
        [
            "--preset",
            "tiny",
            "--folder",
            str(folder),
            "--start",
            str(trained / "weights"),
            "--samples",
            "16",
        ]
    )
    kept = CLIPTokenizer.from_pretrained(folder / "tiny" / "tokenizer")
    assert (
        kept.get_vocab()
        == CLIPTokenizer.from_pretrained(trained / "weights" / "tokenizer").get_vocab()
    )


@pytest.mark.training
def test_a_run_that_goes_on_may_learn_more_words(trained, tmp_path):
    """Known words keep their rows under their new numbers; scenes of the curriculum show mostly what is new."""
    from diffusers import StableDiffusionPipeline

    from sdkit.pocket.train import Diffusion
    from sdkit.pocket.training.data import training_scenes
    from sdkit.pocket.training.presets import PRESETS
    from sdkit.pocket.training.tokenizer import build_tokenizer, unknown

    start = StableDiffusionPipeline.from_pretrained(trained / "weights")
    assert unknown(PRESETS["tiny"], start.tokenizer) == 0
    more = replace(PRESETS["tiny"], objects=7, shards=4, shard=64)
    assert unknown(more, start.tokenizer) == 3
    tokenizer = build_tokenizer(more)
    run = Diffusion(more, tokenizer, tmp_path, "cpu", start)
    ours = run.text.get_input_embeddings().weight
    theirs = start.text_encoder.get_input_embeddings().weight
    numbers, before = tokenizer.get_vocab(), start.tokenizer.get_vocab()
    for word in words(objects(4)):
        token = f"{word}</w>"
        assert torch.equal(ours[numbers[token]], theirs[before[token]]), word
    assert any(numbers[token] != before[token] for token in before if token in numbers)

    def share(shard):
        new = {kind.name for kind in objects(7)[4:]}
        seen = [scene.items[0].kind.name in new for scene in training_scenes(more, shard, new=3)]
        return sum(seen) / len(seen)

    assert share(0) > 0.65 > share(1)


@pytest.mark.training
def test_a_decoder_may_go_on_alone(trained, tmp_path):
    from diffusers import AutoencoderKL

    from sdkit.pocket.train import main

    given = ["--preset", "tiny", "--folder", str(tmp_path), "--start", str(trained / "weights")]
    main([*given, "--stage", "autoencoder", "--samples", "8"])
    main([*given, "--samples", "16"])
    before, after = (
        AutoencoderKL.from_pretrained(folder / "vae")
        for folder in (trained / "weights", tmp_path / "tiny" / "weights")
    )
    assert after.config.scaling_factor == before.config.scaling_factor
    assert not torch.equal(after.decoder.conv_out.weight, before.decoder.conv_out.weight)


def _meets(folder, team):
    weights = [torch.full((2, 3), float(team.number)), torch.arange(4.0) * team.number]
    # as the networks' own weights lie
    weights.append(
        torch.full((2, 3, 2, 2), 1.0 + team.number).to(memory_format=torch.channels_last)
    )
    team.meet(weights)
    torch.save(weights, folder / f"{team.number}.pt")


def test_a_team_meets_at_the_mean_of_its_weights(tmp_path):
    from sdkit.pocket.training.team import together

    together(partial(_meets, tmp_path), 3)
    for number in range(3):
        plain, ramp, image = torch.load(tmp_path / f"{number}.pt")
        torch.testing.assert_close(plain, torch.ones(2, 3))
        torch.testing.assert_close(ramp, torch.arange(4.0))
        torch.testing.assert_close(image, torch.full((2, 3, 2, 2), 2.0))


def test_a_team_ends_with_the_process_that_started_it():
    from sdkit.pocket.training.team import Team

    with pytest.raises(SystemExit, match="is gone"):
        Team(0, 2, parent=os.getpid()).meet([])  # nobody is a child of itself


@pytest.mark.training
def test_two_processes_learn_from_shards_of_their_own(tmp_path, trained):
    """What one core learned alone is not what two end with, and the second's shard was cached by it."""
    from sdkit.pocket.train import main

    (tmp_path / "tiny").mkdir()
    shutil.copytree(trained / "tokenizer", tmp_path / "tiny" / "tokenizer")
    shutil.copy(trained / "autoencoder.pt", tmp_path / "tiny")
    # one round of both, and no second epoch
    main(["--preset", "tiny", "--folder", str(tmp_path), "--samples", "32", "--cores", "2"])
    two = torch.load(tmp_path / "tiny" / "diffusion.pt")
    assert two["seen"] == 32
    assert {f.stem for f in (tmp_path / "tiny" / "latents").iterdir()} == {"000", "001"}
    (tmp_path / "tiny" / "diffusion.pt").unlink()
    main(["--preset", "tiny", "--folder", str(tmp_path), "--samples", "16"])
    one = torch.load(tmp_path / "tiny" / "diffusion.pt")
    assert one["seen"] == 16
    name = "unet.conv_in.weight"
    assert not torch.equal(one["modules"]["both"][name], two["modules"]["both"][name])


# -- grounding -------------------------------------------------------------------------------------------------------


def test_marks_stand_on_the_nouns_and_their_colours(pocket):
    from sdkit.pocket.training.grounding import WordMarks

    kinds = {k.name: k for k in objects(64)}
    pair = Scene(
        (Item(kinds["car"], 0.3, 0.5, 0.4, "red"), Item(kinds["palm tree"], 0.7, 0.5, 0.4)),
        "white",
        relation="left",
    )
    text = "a red car to the left of a palm tree on white"
    ids = pocket.tokenizer(
        [text, ""], padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    marks = WordMarks(pocket.tokenizer)([pair, pair], ids)
    tokens = pocket.tokenizer.convert_ids_to_tokens(ids[0])
    named = [
        [t.removesuffix("</w>") for t, m in zip(tokens, row, strict=True) if m] for row in marks[0]
    ]
    assert named == [["red", "car"], ["palm", "tree"]]
    assert marks[1].sum() == 0


def test_grounding_is_zero_when_words_look_at_their_object_and_one_when_away():
    from sdkit.pocket.training.grounding import grounding_loss

    masks = torch.zeros(1, 2, 16, 16)
    masks[:, 0, :, :8] = 1
    marks = torch.zeros(1, 2, 5)
    marks[:, 0, 2] = 1
    looks = torch.full((1, 16, 16, 5), 1e-9)
    looks[:, :, :8, 2] = 0.5
    there = looks.reshape(1, 256, 5)
    away = looks.flip(2).reshape(1, 256, 5)
    assert grounding_loss([there], marks, masks).item() == pytest.approx(0, abs=1e-6)
    assert grounding_loss([away], marks, masks).item() == pytest.approx(1, abs=1e-6)
    assert grounding_loss([there, away], marks, masks).item() == pytest.approx(0.5, abs=1e-6)
    assert grounding_loss([there], torch.zeros_like(marks), masks).item() == 0


@pytest.mark.parametrize("too", [False, True])
def test_watching_attention_changes_nothing(tiny, too):
    from sdkit.pocket.training.grounding import Watcher

    x, t = torch.randn(2, 4, 16, 16), torch.tensor([5, 900])
    text = torch.randn(2, 32, 32)
    with torch.no_grad():
        plain = tiny.unet(x, t, text).sample
        watcher = Watcher(tiny.unet, too=too)
        torch.testing.assert_close(tiny.unet(x, t, text).sample, plain, atol=1e-5, rtol=1e-4)
    assert watcher.seen
    for probabilities in watcher.seen:
        torch.testing.assert_close(probabilities.sum(-1), torch.ones(2, probabilities.shape[1]))


def test_frechet_distance_against_the_closed_form():
    from sdkit.pocket.evaluate import frechet

    rng = np.random.default_rng(0)
    a = rng.normal(0, 1, (40_000, 3))
    b = rng.normal(2, 3, (40_000, 3))
    assert frechet(a, b) == pytest.approx(
        3 * (2**2 + (3 - 1) ** 2), rel=0.03
    )  # per axis (μ difference)² + (σ difference)²
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)


def test_muon_makes_updates_orthogonal():
    from sdkit.pocket.training.muon import whitening

    for shape in ((8, 30), (20, 100), (12, 12)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        values = torch.linalg.svdvals(whitening(x / x.norm()) @ (x / x.norm()))
        assert values.min() > 0.6
        assert values.max() < 1.3


@pytest.mark.training
def test_muon_learns_a_least_squares_problem():
    from sdkit.pocket.training.muon import optimizers

    torch.manual_seed(0)
    layer = torch.nn.Linear(16, 16)
    x, target = torch.randn(64, 16), torch.randn(16, 16)
    opts = optimizers(layer, lr=0.05)
    losses = []
    for _ in range(500):
        loss = (layer(x) - x @ target).square().mean()
        losses.append(loss.item())
        for opt in opts:
            opt.zero_grad()
        loss.backward()
        for opt in opts:
            opt.step()
    assert losses[-1] < 0.05 * losses[0]
