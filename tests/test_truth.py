"""The benchmark of explanations: marks on maps whose answer is known, and the whole at its smallest."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sdkit.pocket.training.draw import render
from sdkit.pocket.training.judge import Verdict
from sdkit.pocket.training.presets import PRESETS
from sdkit.pocket.truth import __main__ as command, bottleneck
from sdkit.pocket.truth.between import attending
from sdkit.pocket.truth.figure import drawn
from sdkit.pocket.truth.looking import Look, enlarged, rollout
from sdkit.pocket.truth.painting import encode, noises, paint, places, silenced, watching
from sdkit.pocket.truth.scenes import cases, segmentation, true_masks
from sdkit.pocket.truth.scoring import CEILING, Marks, Score, mark, removals, strongest
from sdkit.pocket.truth.walks import KEYFRAMES, ends, seen_in, walks

PRESET = replace(PRESETS["pocket2"], hands=("noto",))  # the font is everywhere
OPTIONS = {"steps": 3, "guidance_scale": 4.0}


@pytest.fixture(scope="module")
def case():
    return cases(PRESET, 1)[0]


# -- what is true ------------------------------------------------------------------------------------------------------


def test_cases_are_the_same_each_time_and_their_objects_can_be_seen():
    first, again = cases(PRESET, 3), cases(PRESET, 3)
    assert first == again
    for c in first:
        assert min(segmentation(c.scene, PRESET.side)) >= 0.8
        assert all(word in c.prompt for word in c.words)
        assert c.scene.background in c.prompt


def test_marks_of_maps_whose_answer_is_known(case):
    picture = (255 * render(case.scene).image).astype(np.uint8)
    masks = [m.astype(np.float32) for m in true_masks(picture, case.scene)]
    maps = {
        "right": tuple(masks),
        "the other one": tuple(masks[::-1]),
        "everywhere": tuple(np.ones_like(m) for m in masks),
    }
    marks = Marks()
    assert mark(Look(case, picture, maps), marks)
    scores = marks.scores()
    peaks, covered = scores["peak inside, %"], scores["IoU at the true area, %"]
    assert (peaks["right"].mean, covered["right"].mean) == (100, 100)
    assert (peaks["the other one"].mean, covered["the other one"].mean < 10) == (0, True)
    assert covered["everywhere"].mean < 30  # pointing everywhere earns nothing


def test_a_picture_without_its_objects_is_left_out(case):
    empty = np.zeros((64, 64, 3), np.uint8) + np.array(
        np.round(255 * np.asarray(render(case.scene).image)[0, 0]), np.uint8
    )
    marks = Marks()
    assert not mark(Look(case, empty, {}), marks)
    assert marks.table == {}


def test_the_strongest_pixels_and_maps_of_other_sizes():
    heat = np.arange(16.0).reshape(4, 4)
    assert strongest(heat, 3).sum() == 3
    assert strongest(heat, 3)[3, 1:].all()
    assert enlarged(heat, 8).shape == (8, 8)
    np.testing.assert_allclose(enlarged(heat, 2), [[2.5, 4.5], [10.5, 12.5]])


def test_intervals_hold_the_mean_of_the_population_as_often_as_they_say():
    rng, held = np.random.default_rng(1), 0
    for _ in range(200):
        s = Score.of(rng.normal(5, 2, 60), resamples=400)
        held += s.low <= 5 <= s.high
    assert 0.88 <= held / 200 <= 0.99


# -- the sampler -------------------------------------------------------------------------------------------------------


def test_the_open_sampler_paints_what_the_pipeline_makes(pocket):
    import sdkit

    prompt = "a cat on a blue background"
    made = sdkit.generate(pocket, prompt, seed=4, progress=False, **OPTIONS)
    with torch.no_grad():
        words = silenced(pocket, prompt, None)
    painted = paint(pocket, words, noises(pocket, [4]), steps=3, guidance=4.0)[0]
    assert np.abs(painted.astype(int) - np.asarray(made.image)).max() <= 1


def test_a_silenced_word_is_commas_and_a_part_keeps_the_rest(pocket):
    prompt = "a cat and a palm tree"
    assert len(places(pocket, prompt, "palm tree")) == 2
    with pytest.raises(ValueError, match="'dog' does not stand in"):
        places(pocket, prompt, "dog")
    with torch.no_grad():
        told, less = silenced(pocket, prompt, None), silenced(pocket, prompt, "cat")
        ids = pocket.tokenizer("a , and a palm tree", padding="max_length", return_tensors="pt")
        np.testing.assert_allclose(less, encode(pocket, ids.input_ids), atol=1e-6)
    options = {"steps": 3, "guidance": 4.0}
    noise, where = noises(pocket, [1]), torch.zeros(1, 1, 16, 16)
    plain = paint(pocket, told, noise, **options)
    np.testing.assert_array_equal(
        paint(pocket, told, noise, without=less, where=where, **options), plain
    )
    everywhere = paint(pocket, told, noise, without=less, where=where + 1, **options)
    gone = paint(pocket, less, noise, **options)
    assert np.abs(everywhere.astype(int) - gone).max() <= 1


# -- ways to look ------------------------------------------------------------------------------------------------------


def test_rollout_of_attention_that_is_known():
    """One block: patches look at patches, then at words; the second looks through the first."""
    swap = np.eye(4, dtype=np.float32)[[1, 0, 2, 3]].reshape(4, 2, 2)
    first = np.array([[1, 0], [0, 0]], np.float32)
    layers = (
        SimpleNamespace(name="a", group="up/1", grid=(2, 2), patches=None, words=first[..., None]),
        SimpleNamespace(name="b", group="up/1", grid=(2, 2), patches=swap, words=None),
        SimpleNamespace(name="c", group="mid", grid=(1, 1), patches=None, words=first[..., None]),
    )
    maps = SimpleNamespace(layers=layers, by_layer=lambda _word: {"a": first, "c": first})
    np.testing.assert_allclose(rollout(maps, "cat"), [[0.5, 0.5], [0, 0]])


def test_concept_vectors_find_a_direction_that_was_planted():
    torch.manual_seed(0)
    names, each, channels = ["cat", "dog", "bus"], 6, 12
    planted = torch.linalg.qr(torch.randn(channels, 3))[0].T
    narrow = 0.05 * torch.randn(len(names) * each, channels, 4, 4)
    for n in range(len(names)):
        narrow[n * each : (n + 1) * each] += planted[n][:, None, None]
    found = bottleneck.fitted(narrow, names, each)
    scene = torch.zeros(channels, 4, 4)
    scene[:, 1, 2] = planted[0]
    scene[:, 3, 0] = planted[1]
    means, component = found.maps(scene, "cat")
    assert int(means.argmax()) == 1 * 4 + 2
    assert component[1, 2] > component[3, 0]
    assert int(found.maps(scene, "dog")[0].argmax()) == 3 * 4


def test_watching_leaves_the_picture_and_no_hook(pocket):
    import sdkit

    plain = sdkit.generate(pocket, "a cat", progress=False, **OPTIONS)
    with watching(pocket, 1) as watch:
        watched = sdkit.generate(pocket, "a cat", progress=False, **OPTIONS)
    assert (plain.latents == watched.latents).all()
    assert len(watch.times) == len(watch.latents) == 3
    assert watch.bottleneck.shape[0] == 1
    assert not pocket.unet._forward_pre_hooks
    assert not pocket.unet.mid_block._forward_hooks


def test_silencing_where_the_truth_is_changes_the_object_more_than_elsewhere(pocket, case):
    import sdkit

    made = sdkit.generate(
        pocket, case.prompt, seed=case.seed, progress=False, **OPTIONS | {"steps": 5}
    )
    picture = np.asarray(made.image)
    first, second = (m.astype(np.float32) for m in true_masks(picture, case.scene))
    marks = Marks()
    look = Look(case, picture, {"the other object": (second, first)})
    removals(pocket, look, marks, steps=5, guidance=4.0)
    (found,) = marks.scores().values()
    assert found[CEILING].mean > 2 * found["the other object"].mean


# -- walks -------------------------------------------------------------------------------------------------------------


def verdict(*cells):
    """A verdict whose first cells give these probabilities to objects 0 and 1, and all others see nothing."""
    where = np.zeros((4, 16, 16), np.float32)
    where[3] = 1
    for n, (one, two) in enumerate(cells):
        where[:, 0, n] = one, two, 0, 1 - one - two
    return Verdict(where, np.zeros((1, 16, 16)), "plain", "red", 1)


def test_a_frame_is_valid_if_one_object_is_certain():
    assert seen_in(verdict(*[(0.1, 0.8)] * 5)) == 1
    assert seen_in(verdict(*[(0.9, 0.0)] * 4, (0.0, 0.9))) == 0
    assert seen_in(verdict(*[(0.45, 0.45)] * 5)) is None, "a blend"
    assert seen_in(verdict(*[(0.9, 0.0)] * 3, *[(0.0, 0.9)] * 3)) is None, "half of each"
    assert seen_in(verdict(*[(0.9, 0.0)] * 3)) is None, "a speck"
    assert seen_in(verdict()) is None


@pytest.mark.parametrize("inner", [True, False])
def test_attention_between_ends_leaves_them_and_the_pipeline_as_they_are(pocket, inner):
    processors = dict(pocket.unet.attn_processors)
    with torch.no_grad():
        words = [silenced(pocket, p, None) for p in ("a cat on a red background", "a bus")]
    noise = list(noises(pocket, [1, 2]).split(1))

    def painted(order, attends):
        rows = [torch.cat([*(x[n] for n in order), sum(x) / 2]) for x in (words, noise)]
        if not attends:
            return paint(pocket, *rows, steps=3, guidance=4.0)
        with attending(pocket, [0.5], inner=inner):
            return paint(pocket, *rows, steps=3, guidance=4.0)

    plain, made, turned = painted((0, 1), False), painted((0, 1), True), painted((1, 0), True)
    assert (made[:2] == plain[:2]).all()
    assert np.abs(made[2].astype(int) - plain[2]).max() > 8
    assert np.abs(made[2].astype(int) - turned[2]).max() <= 2, "half-way is half-way from both"
    with pytest.raises(ZeroDivisionError), attending(pocket, [0.5], inner=inner):
        _ = 1 / 0
    assert all(pocket.unet.attn_processors[name] is p for name, p in processors.items())


def test_every_way_of_walking_is_scored(pocket):
    class Sure:
        def look(self, images):
            return [verdict(*[(0.9, 0.0)] * 4)] * len(images), images.flatten(1).numpy()

    asked = ends(PRESET, 1)
    assert asked == ends(PRESET, 2)[:1]
    scores = walks(pocket, Sure(), asked, frames=3, steps=2, guidance_scale=4.0)
    valid, uneven = scores.values()
    assert set(valid) == {*uneven, KEYFRAMES}
    assert len(uneven) == 8
    assert {score.mean for score in valid.values()} == {100}
    assert all(score.mean >= 0 for score in uneven.values())


# -- the whole ---------------------------------------------------------------------------------------------------------


def test_one_command_writes_table_figure_and_numbers(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "objects", lambda _count: PRESET_KINDS)
    monkeypatch.setitem(PRESETS, PRESET.name, PRESET)
    figure, numbers = tmp_path / "truth.png", tmp_path / "truth.json"
    sizes = {"scenes": 2, "removed": 1, "each": 1, "steps": 2}
    command.main(
        [*(part for name, n in sizes.items() for part in (f"--{name}", str(n))), "--figure", str(figure), "--json", str(numbers)]
    )  # fmt: skip
    shown = capsys.readouterr().out
    ways = json.loads(numbers.read_text())["peak inside, %"]
    assert len(ways) >= 14
    assert all(f"| {way} |" in shown for way in ways)
    assert figure.stat().st_size > 10_000


PRESET_KINDS = tuple(dict.fromkeys(item.kind for c in cases(PRESET, 2) for item in c.scene.items))


@pytest.mark.parametrize(
    ("wrong", "told"), [("--scenes", "give 1 or more"), ("--weights", "holds no Pocket")]
)
def test_what_cannot_be_measured_is_told(wrong, told, capsys):
    with pytest.raises(SystemExit):
        command.main([wrong, "0"])
    assert told in capsys.readouterr().err


def test_the_figure_shows_every_way():
    scores = {
        "peak": {"one": Score(90, 85, 95), "random": Score(10, 5, 15)},
        "IoU": {"one": Score(50, 40, 60)},
    }
    figure = drawn(scores)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["one", "random"]
    assert [ax.get_title() for ax in figure.axes] == ["peak", "IoU"]
