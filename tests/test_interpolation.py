"""Walks: keyframes are exact, no work is done twice, everything can be stopped and taken up, bad input is told first."""

import dataclasses
import json
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

import sdkit
from sdkit.errors import BadPicture, Cancelled, CannotSave, InvalidSettings
from sdkit.settings import Settings
from sdkit.walks.folder import FrameFolder
from sdkit.walks.frames import render
from sdkit.walks.route import Recipe, Route

pytestmark = pytest.mark.filterwarnings("ignore::sdkit.generation.PromptWarning")


def pixels(image):
    return np.asarray(image.convert("RGB")).astype(int)


def walk(pipe, keyframes=("a cat", "a dog"), **options):
    return sdkit.interpolate(
        pipe, list(keyframes), **{"steps": 2, "frames": 5, "progress": False, **options}
    )


def quick(pipe, prompt, **options):
    return sdkit.generate(pipe, prompt, steps=2, progress=False, **options)


@pytest.fixture
def counted(tiny):
    """The tiny pipeline, and how many pictures its UNet and how many texts its encoder have worked on."""
    counts = {"unet": 0, "texts": 0, "calls": 0}
    unet, encoder = tiny.unet.forward, tiny.text_encoder.forward

    def counting_unet(sample, *args, **kwargs):
        counts["unet"] += len(sample)
        counts["calls"] += 1
        return unet(sample, *args, **kwargs)

    def counting_encoder(ids, *args, **kwargs):
        counts["texts"] += len(ids)
        return encoder(ids, *args, **kwargs)

    tiny.unet.forward, tiny.text_encoder.forward = counting_unet, counting_encoder
    return tiny, counts


# -- frames ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"scheduler": "euler"}, {"negative_prompt": "blue"}, {"guidance_scale": 1}]
)
def test_keyframes_are_the_pictures_of_generate_to_the_bit(tiny, options):
    made = walk(tiny, seeds=[3, 8], pacing="linear", batch_size=1, **options)
    for n, (prompt, seed) in enumerate([("a cat", 3), ("a dog", 8)]):
        assert (pixels(made[-n]) == pixels(quick(tiny, prompt, seed=seed, **options).image)).all()


def test_keyframes_of_ancestral_solvers_and_of_variations_too(tiny):
    made = walk(tiny, scheduler="euler_a", batch_size=1, seeds=[3, 3])
    assert (
        pixels(made[0]) == pixels(quick(tiny, "a cat", seed=3, scheduler="euler_a").image)
    ).all()
    drafts = sdkit.variations(
        tiny, Settings("a cat", steps=2), count=2, progress=False, batch_size=1
    )
    between = walk(tiny, drafts, batch_size=1)
    assert (pixels(between[0]) == pixels(drafts.images[0])).all()
    assert (pixels(between[-1]) == pixels(drafts.images[1])).all()


def test_keyframes_of_image_to_image_and_what_lies_between(tiny):
    source = quick(tiny, "a cat", seed=1).image.resize((32, 32))
    ends = [
        quick(tiny, "a dog", image=source, strength=0.5, seed=1),
        quick(tiny, "a fox", image=source, strength=1, seed=2),
    ]
    made = walk(tiny, ends, frames=3, pacing="linear", batch_size=1)
    assert (pixels(made[0]) == pixels(ends[0].image)).all()
    assert np.abs(pixels(made[-1]) - pixels(ends[1].image)).max() <= 1
    assert made.plan.recipe((0.5,)).settings.strength == 0.75
    assert "add_noise" not in vars(tiny.scheduler)


def test_a_frame_is_a_pure_function_of_its_recipe(tiny):
    made = walk(tiny, seeds=[1, 2], pacing="linear")
    recipe = made.plan.recipe((0.25,))
    travelled = dataclasses.replace(
        recipe, corners=tuple(Settings.from_json(s.to_json()) for s in recipe.corners)
    )
    again = render(tiny, [travelled])[0]
    assert np.abs(pixels(again.image) - pixels(made[1])).max() <= 1
    assert again.latents == pytest.approx(made.latents[1].astype(np.float32), abs=1e-2)


def test_words_noise_and_guidance_all_move(tiny):
    base = Settings("a cat", seed=1, guidance_scale=3)
    for other in (
        base.replace(prompt="a dog"),
        base.replace(seed=2),
        base.replace(guidance_scale=7),
    ):
        made = walk(tiny, [base, other], frames=3, pacing="linear", words="lerp")
        assert all((pixels(made[n]) != pixels(made[n + 1])).any() for n in (0, 1))
    recipe = walk(
        tiny, [base, base.replace(guidance_scale=7)], frames=5, pacing="linear"
    ).plan.recipe((0.25,))
    assert recipe.settings.guidance_scale == 4
    alike = walk(tiny, [base, base.replace(seed=2)], frames=3)
    assert alike.plan.recipe((0.3,)).settings.guidance_scale == base.guidance_scale


def test_a_batch_makes_the_same_frames_as_one_by_one(tiny):
    one, many = (walk(tiny, seeds=[1, 2], pacing="linear", frames=7, batch_size=n) for n in (1, 5))
    assert all(np.abs(pixels(a) - pixels(b)).max() <= 1 for a, b in zip(one, many, strict=True))


def test_sdxl_walks_with_its_pooled_words(tiny_xl):
    made = walk(tiny_xl, seeds=[1, 2], frames=3, pacing="linear", batch_size=1)
    for n, (prompt, seed) in enumerate([("a cat", 1), ("a dog", 2)]):
        assert (pixels(made[-n]) == pixels(quick(tiny_xl, prompt, seed=seed).image)).all()
    assert (pixels(made[1]) != pixels(made[0])).any()


@pytest.fixture
def tiny_xl(tiny):
    """SDXL in its real classes: two text encoders, pooled words, picture sizes as conditions."""
    from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(0)
    size = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    ends = {"bos_token_id": len(tiny.tokenizer) - 2, "eos_token_id": len(tiny.tokenizer) - 1}
    config = CLIPTextConfig(
        vocab_size=len(tiny.tokenizer),
        max_position_embeddings=32,
        projection_dim=16,
        **size,
        **ends,
    )
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8, cross_attention_dim=32,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2, addition_embed_type="text_time", addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=16 + 6 * 4, use_linear_projection=True,
    )  # fmt: skip
    pipe = StableDiffusionXLPipeline(
        tiny.vae, CLIPTextModel(config), CLIPTextModelWithProjection(config), tiny.tokenizer, tiny.tokenizer, unet,
        tiny.scheduler, add_watermarker=False,
    )  # fmt: skip
    for encoder in (pipe.text_encoder, pipe.text_encoder_2):
        encoder.eval()
    return pipe


# -- counting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pacing", ["even", "linear", "ease"])
def test_no_keyframe_is_made_twice_and_no_text_encoded_twice(counted, pacing):
    pipe, counts = counted
    made = walk(
        pipe,
        ["a cat", "a dog", "a cat", "a fox"],
        seeds=[1, 2, 3, 4],
        frames=11,
        steps=3,
        pacing=pacing,
    )
    assert len(made) == 11
    assert counts["unet"] == 2 * 3 * 11  # both halves of guidance
    assert counts["texts"] == 4  # three prompts and the empty negative one


def test_without_guidance_no_negative_prompt_is_encoded(counted):
    pipe, counts = counted
    walk(pipe, guidance_scale=1, pacing="linear")
    assert counts == {"unet": 2 * 5, "texts": 2, "calls": 2 * 1}


def test_hooked_encoders_are_asked_once_a_walk(counted):
    pipe, counts = counted
    handle = pipe.text_encoder.register_forward_hook(lambda *_: None)
    walk(pipe, frames=12)
    handle.remove()
    assert counts["texts"] == 3


def test_a_pace_that_stands_still_makes_no_frame_twice(counted):
    pipe, counts = counted
    made = walk(pipe, frames=5, pacing=[1, 0, 0, 1])
    assert [p[0] for p in made.places] == [0, 0.5, 0.5, 0.5, 1]
    assert len(made) == 5
    assert counts["unet"] == 2 * 2 * 3


# -- places ----------------------------------------------------------------------------------------------------------


def test_linear_walks_and_loops_and_steps_by_segment(tiny):
    keys = ["a cat", "a dog", "a fox"]
    assert [p[0] for p in walk(tiny, keys, pacing="linear").places] == [0, 0.5, 1, 1.5, 2]
    assert [p[0] for p in walk(tiny, keys, pacing="linear", frames=6, loop=True).places] == [
        0,
        0.5,
        1,
        1.5,
        2,
        2.5,
    ]
    assert [p[0] for p in walk(tiny, keys, pacing="linear", frames=[1, 4]).places] == [
        0,
        1,
        1.25,
        1.5,
        1.75,
        2,
    ]
    assert [p[0] for p in walk(tiny, pacing=lambda t: t**2, frames=3).places] == [0, 0.25, 1]
    by_segment = [p[0] for p in walk(tiny, keys, frames=[1, 4]).places]
    assert len(by_segment) == 6
    assert sum(1 < p < 2 for p in by_segment) == 3


def test_even_walks_are_evener(pocket):
    keys = ["a cat on a purple background", "a castle at night", "a dog on a green background"]
    even = walk(pocket, keys, seeds=[1, 2, 3], frames=21)
    linear = walk(pocket, keys, seeds=[1, 2, 3], frames=21, pacing="linear")
    assert even.smoothness < 0.7 * linear.smoothness


@pytest.mark.parametrize("loop", [False, True])
def test_even_walks_meet_every_keyframe(tiny, loop):
    even = walk(tiny, ["a cat", "a dog", "a fox"], seeds=[1, 2, 3], frames=25, loop=loop)
    assert len(set(even.places)) == len(even) == 25
    assert {(0.0,), (1.0,), (2.0,)} <= set(even.places)
    assert len(even.distances) == (25 if loop else 24)


def test_smoothness_is_the_variation_of_neighbour_distances(tiny):
    from sdkit.walks.difference import appearance, difference

    made = walk(tiny, frames=6, seeds=[1, 2], pacing="linear")
    seen = [appearance(f) for f in made]
    apart = [difference(a, b) for a, b in pairwise(seen)]
    assert made.distances == pytest.approx(apart)
    assert made.smoothness == pytest.approx(np.std(apart) / np.mean(apart))


def test_circular_noise_comes_back_and_moves_between_equal_keyframes(tiny):
    made = walk(
        tiny, ["a cat", "a cat"], noise="circle", loop=True, frames=4, pacing="linear", batch_size=1
    )
    assert (pixels(made[0]) == pixels(quick(tiny, "a cat").image)).all()
    assert all((pixels(made[n]) != pixels(made[n - 1])).any() for n in range(4))
    turned = [made.plan.recipe(p).circle for p in made.places]
    assert [t[1] for t in turned] == [0, 0.25, 0.5, 0.75]
    assert len({t[0] for t in turned}) == 1


def test_a_scrubber_has_the_whole_way_after_the_first_batch(tiny):
    seen = []
    walk(
        tiny,
        frames=17,
        pacing="linear",
        batch_size=8,
        on_frame=lambda w: seen.append([p[0] for p in w.places]),
    )
    assert seen[0] == [0, 0.25, 0.5, 0.75, 1]
    assert len(seen[-1]) == 17


def test_results_settings_and_words_mix(tiny):
    made = walk(tiny, ["a cat", Settings("a dog", seed=4), quick(tiny, "a fox", seed=5, count=2)])
    assert [(s.prompt, s.seed) for s in made.keyframes] == [
        ("a cat", 0),
        ("a dog", 4),
        ("a fox", 5),
        ("a fox", 6),
    ]
    assert all(s.steps == 2 and s.width == 32 and s.model for s in made.keyframes)


# -- grids -----------------------------------------------------------------------------------------------------------


def test_a_grid_joins_four_corners(tiny):
    corners = [[Settings("a cat", seed=1), "a dog"], ["a fox", Settings("a house", seed=4)]]
    grid = sdkit.interpolate_grid(
        tiny, corners, shape=(3, 4), steps=2, batch_size=1, progress=False
    )
    assert len(grid) == 12
    for row, column, s in ((0, 0, corners[0][0]), (-1, -1, corners[1][1])):
        assert (pixels(grid[row, column]) == pixels(quick(tiny, s).image)).all()
    assert (pixels(grid[1, 1]) != pixels(grid[1, 2])).any()
    assert len(grid.distances) == 3 * 3 + 2 * 4
    assert grid.sheet().width > grid.sheet().height
    with pytest.raises(IndexError):
        grid[3, 0]


def test_a_grid_is_made_coarse_to_fine_and_resumes(tiny, tmp_path):
    def stop(w):
        raise Cancelled("enough")

    corners = [["a cat", "a dog"], ["a fox", "a house"]]
    options = {"shape": (5, 5), "steps": 2, "progress": False, "folder": tmp_path / "g"}
    with pytest.raises(Cancelled):
        sdkit.interpolate_grid(tiny, corners, batch_size=4, on_frame=stop, **options)
    part = sdkit.Walk(tmp_path / "g")
    assert set(part.places) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert part.sheet().size == sdkit.interpolate_grid(tiny, corners, **options).sheet().size


# -- folders, stopping, going on -------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Cancelled, KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("pacing", ["even", "linear"])
def test_a_stopped_walk_keeps_its_frames_and_goes_on(counted, tmp_path, error, pacing):
    pipe, counts = counted

    def stop(w):
        if len(w) >= 8:
            raise error("stop")

    options = {
        "frames": 12,
        "seeds": [1, 2],
        "pacing": pacing,
        "folder": tmp_path / "w",
        "batch_size": 3,
    }
    with pytest.raises(error) as stopped:
        walk(pipe, on_frame=stop, **options)
    part = sdkit.Walk(tmp_path / "w")
    assert 8 <= len(part) < 12
    assert not part.complete
    assert f"{len(part)} of 12 frames are in" in stopped.value.__notes__[0]
    before = {p: pixels(part[n]) for n, p in enumerate(part.places)}
    counts["unet"] = 0
    whole = walk(pipe, **options)
    assert counts["unet"] == 2 * 2 * (12 - len(part))
    assert whole.complete
    assert len(whole) == 12
    assert all((pixels(whole[whole.places.index(p)]) == seen).all() for p, seen in before.items())
    counts["unet"] = 0
    walk(pipe, **options)
    assert counts["unet"] == 0


def test_a_stopped_walk_without_a_folder_can_be_found(tiny):
    def stop(w):
        raise Cancelled("stop")

    with pytest.raises(Cancelled) as stopped:
        walk(tiny, on_frame=stop)
    folder = stopped.value.__notes__[0].split("'")[1]
    assert len(sdkit.Walk(folder)) == 2


def test_temporary_frames_go_with_the_walk_unless_kept(tiny):
    import gc

    made, kept = walk(tiny, frames=2), walk(tiny, frames=2)
    folder, stays = made.folder, kept.keep()
    del made, kept
    gc.collect()
    assert not folder.exists()
    assert len(sdkit.Walk(stays)) == 2


def test_the_folder_holds_one_picture_a_frame_and_the_plan(tiny, tmp_path):
    made = walk(tiny, folder=tmp_path / "w", frames=4)
    assert len(list((tmp_path / "w").glob("*.png"))) == 4
    names = {f.name for f in (tmp_path / "w").iterdir() if f.suffix != ".png"}
    assert names == {"walk.json", "latents"}
    plan = json.loads((tmp_path / "w" / "walk.json").read_text())
    assert [k["prompt"] for k in plan["keyframes"]] == ["a cat", "a dog"]
    again = sdkit.Walk(tmp_path / "w")
    assert again.plan == made.plan
    assert again.latents.shape == (4, 4, 16, 16)


def test_plans_survive_json(tiny):
    for options in (
        {},
        {"pacing": "ease"},
        {"loop": True, "noise": "circle"},
        {"boomerang": True, "frames": [3]},
    ):
        plan = walk(tiny, **options).plan
        assert Route.from_json(json.dumps(plan.to_dict())) == plan


def test_a_draft_is_made_again_at_the_same_places(tiny):
    draft = walk(tiny, seeds=[1, 2], frames=9)
    final = sdkit.interpolate(tiny, draft, steps=4, progress=False)
    assert final.places == draft.places
    assert {s.steps for s in final.keyframes} == {4}


def test_frames_are_found_by_number_and_by_share(tiny):
    made = walk(tiny, frames=5, seeds=[1, 2])
    assert (pixels(made[0.0]) == pixels(made[0])).all()
    assert (pixels(made[0.26]) == pixels(made[1])).all()
    assert (pixels(made[1.0]) == pixels(made[-1])).all()
    assert [
        (pixels(a) == pixels(b)).all() for a, b in zip(made[1:3], [made[1], made[2]], strict=True)
    ] == [True, True]
    for wrong in (5, -6, 1.5, float("nan"), (0, 0)):
        with pytest.raises(IndexError):
            made[wrong]
    with pytest.raises(TypeError):
        made["a"]


# -- showing and saving ----------------------------------------------------------------------------------------------


def test_a_walk_shows_itself_as_one_light_filmstrip(tiny):
    hostile = "<script>alert(1)</script>"
    made = walk(tiny, [hostile, "a dog"], frames=20)
    bundle = made._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", "image/jpeg"}
    assert bundle["text/plain"].startswith("<Walk: 20 frames, 2 keyframes")
    assert bundle["text/html"].count("<img") == 1
    assert "<script" not in bundle["text/html"]
    assert "20 frames" in bundle["text/html"]
    assert len(bundle["text/html"]) < 200_000
    assert made.sheet(4).width == 4 * 256 + 3 * 8


@pytest.mark.parametrize(("boomerang", "count"), [(False, 6), (True, 10)])
def test_films_hold_every_frame_there_and_back(tiny, tmp_path, boomerang, count):
    import av

    made = walk(tiny, frames=6, seeds=[1, 2], boomerang=boomerang)
    with av.open(str(made.save(tmp_path / "w.mp4", progress=False))) as film:
        assert sum(1 for _ in film.decode(video=0)) == count
    with Image.open(
        made.save(tmp_path / "w.webp", boomerang=not boomerang, progress=False)
    ) as film:
        assert film.n_frames == 16 - count


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"keyframes": ["a cat"]}, "A walk needs two keyframes or more, and 1 was given"),
        ({"keyframes": []}, "and 0 was given"),
        ({"keyframes": [1, 2]}, "A keyframe is a int"),
        ({"frames": 1}, "frames is 1 for 2 keyframes; give 2 or more"),
        ({"frames": 2.5}, "frames is 2.5; give a whole number"),
        ({"frames": [2, 3]}, "frames has 2 numbers for 1 segments"),
        ({"seeds": [1]}, "1 seeds were given for 2 keyframes"),
        (
            {"keyframes": [Settings("a", width=32), Settings("b", width=64)]},
            r"differ in width \(32 and 64\); give one, such as width=32",
        ),
        ({"pacing": [1, float("nan")]}, "pacing holds nan"),
        ({"pacing": "evn"}, "There is no pacing 'evn'; choose one of even, linear"),
        ({"pacing": lambda t: 2 * t}, "The easing gives 1.5 at 0.75"),
        ({"words": "straight"}, "There is no words 'straight'; choose one of aligned"),
        ({"noise": "square"}, "There is no noise 'square'; choose one of slerp, lerp, circle"),
        ({"loop": True, "boomerang": True}, "two ways to come back"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"scheduler": "euler_a", "seeds": [1, 2]}, "draws fresh noise at every step"),
        ({"stepz": 3}, "stepz"),
        (
            {"keyframes": [Settings("a", task="image-to-image"), "b"]},
            "give the picture they start from",
        ),
    ],
)
def test_bad_input_is_one_sentence_before_anything_is_made(counted, tmp_path, options, sentence):
    pipe, counts = counted
    options = {"keyframes": ["a cat", "a dog"], "frames": 5, "folder": tmp_path / "w", **options}
    with pytest.raises(InvalidSettings, match=sentence):
        walk(pipe, options.pop("keyframes"), **options)
    assert counts["unet"] == 0
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("corners", "shape", "sentence"),
    [
        (["a", "b"], (3, 3), "four corners"),
        ([["a", "b"]], (3, 3), "four corners"),
        ([["a", "b"], ["c", "d"]], (1, 3), "shape is 1; give a whole number of 2 or more"),
    ],
)
def test_bad_grids_are_told(tiny, corners, shape, sentence):
    with pytest.raises(InvalidSettings, match=sentence):
        sdkit.interpolate_grid(tiny, corners, shape=shape, steps=2)


def test_pipelines_that_take_no_encodings_are_refused(tiny):
    class Flow:
        def __call__(self, prompt): ...

    with pytest.raises(
        InvalidSettings,
        match="takes text encodings and noise from outside, and Flow is not known to",
    ):
        walk(Flow())


def test_a_folder_of_something_else_is_left_as_it_is(tiny, tmp_path):
    walk(tiny, folder=tmp_path / "w")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    (tmp_path / "file").write_text("words")
    before = {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    for folder, options, sentence in (
        (
            "w",
            {"seeds": [5, 6]},
            "holds another walk \\(2 keyframes, 'a cat' → 'a dog'\\); choose a new folder",
        ),
        ("mine", {}, "holds other files \\('thesis.txt' …\\)"),
        ("file", {}, "is a file"),
        ("none/w", {}, "There is no folder"),
        ("file/w", {}, "cannot be used"),
    ):
        with pytest.raises(CannotSave, match=sentence):
            walk(tiny, folder=tmp_path / folder, **options)
    assert {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()} == before


def test_a_folder_that_cannot_be_written_is_told_before_the_first_step(
    counted, tmp_path, monkeypatch
):
    from pathlib import Path

    pipe, counts = counted
    (tmp_path / "w").mkdir()

    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(CannotSave, match="Permission denied"):
        walk(pipe, folder=tmp_path / "w")
    assert counts["unet"] == 0
    assert list((tmp_path / "w").iterdir()) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 9}', "[" * 5000])
def test_a_damaged_plan_is_one_sentence(tmp_path, text):
    (tmp_path / "walk.json").write_text(text)
    with pytest.raises(BadPicture, match="cannot be used: it is damaged or of another version"):
        sdkit.Walk(tmp_path)
    with pytest.raises(BadPicture, match="holds no walk"):
        sdkit.Walk(tmp_path / "nothing")


def test_words_that_pocket_does_not_know_are_told_once(pocket):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        walk(pocket, ["a catt", "a dog"], frames=2, steps=1)
    assert sum("never seen 'catt'" in str(w.message) for w in caught) == 1


def test_recipes_are_plain_data():
    import pickle

    recipe = Recipe((Settings("a"), Settings("b", guidance_scale=3)), (0.5,), circle=(7, 0.25))
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.at = ()


def test_a_folder_is_gone_on_with_whatever_is_known_about_the_runs(tmp_path):
    ends = (Settings("a cat", steps=2), Settings("a dog", steps=2))
    told = tuple(
        s.replace(memory="VAE tiling (512)", version="9", licence="MIT", strength=0.9) for s in ends
    )
    FrameFolder.begin(Route(ends, (3,), "linear"), tmp_path)
    assert FrameFolder.begin(Route(told, (3,), "linear"), tmp_path).plan.keyframes == told
    with pytest.raises(CannotSave, match="another walk"):
        FrameFolder.begin(Route((ends[0], ends[1].replace(seed=1)), (3,), "linear"), tmp_path)


def test_between_equal_pictures_nothing_moves():
    ends = (Settings("a cat"), Settings("a cat", memory="VAE tiling (512)"))
    assert Route(ends, (3,), "linear").recipe((0.5,)).corners == ends[:1]
