"""Every family of diffusers through sdkit's verbs, with the bare call as the judge."""

import numpy as np
import pytest
import standins
import torch

import sdkit
from sdkit.errors import SdkitError
from sdkit.settings import Settings
from sdkit.walks.frames import render
from sdkit.walks.planning import corners_of
from sdkit.walks.route import Recipe

# predictions without a formula
WITHOUT_TRACE = {"stable-cascade": "tells neither sigmas nor alphas"}

# a picture of them takes seconds
SLOW = ("stable-cascade",)


@pytest.fixture(scope="module", params=standins.EVERY)
def family(request):
    """Name, pipeline, the options that make the stand-in's picture, and that picture."""
    side = standins.side_of(request.param)
    options = {"steps": 2, "width": side, "height": side, "seed": 3, "progress": False}
    pipe = standins.build(request.param)
    return request.param, pipe, options, sdkit.generate(pipe, "a cat", **options)


def test_the_picture_is_the_bare_calls_to_the_bit(family):
    name, pipe, _, made = family
    expected = (standins.bare(pipe, name) * 255).round().astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(made.image.convert("RGB")), expected[..., :3])
    other = (standins.bare(pipe, name, prompt="a red bus") * 255).round().astype(np.uint8)
    assert not np.array_equal(other, expected), (
        "the stand-in does not heed its prompt, so it shows nothing"
    )


def test_what_is_recorded_changes_nothing_and_ends_where_the_run_ended(family):
    name, pipe, options, plain = family
    if name in WITHOUT_TRACE:
        with pytest.raises(SdkitError, match=WITHOUT_TRACE[name]):
            sdkit.generate(pipe, "a cat", trace=True, **options)
        return
    traced = sdkit.generate(pipe, "a cat", trace=True, **options)
    np.testing.assert_array_equal(traced.latents, plain.latents)
    assert len(traced.trace) >= 2


# what they call an empty prompt makes no guidance; others have it in the network, or a third prediction (PAG)
ASKED = ("qwen_image", "qwen_image21")


def test_a_remix_is_the_guidance_that_the_pipeline_reckons(family):
    """Also where it starts from the words, turns signs, or gives the sum the size of one of its parts."""
    name, pipe, options, _ = family
    if name in WITHOUT_TRACE:
        return
    if name in ASKED:
        options = options | {"negative_prompt": "a dog", "guidance_scale": 4.0}
    made = sdkit.generate(pipe, "a cat", trace=True, **options)
    trace = made.trace
    if trace.conditional is None or trace.conditional is trace.guided:
        assert name not in ASKED
        with pytest.raises(SdkitError):
            trace.remix(2.0)
        return
    again = trace.remix(made.settings.guidance_scale)
    size = _size(trace.x0)  # of numbers that are kept in 11 bits
    np.testing.assert_allclose(again.x0, trace.x0, atol=4e-3 * size)
    other = sdkit.generate(pipe, "a cat", trace="x0", **options | {"guidance_scale": 2.0})
    np.testing.assert_allclose(trace.remix(2.0).x0[0], other.trace.x0[0], atol=4e-3 * size)
    assert np.abs(trace.remix(2.0).x0.astype(np.float32) - trace.x0).max() > 4e-3 * size


def test_noise_turns_a_little_in_whatever_form_a_pipeline_draws_it(family):
    _, pipe, _, plain = family
    near = sdkit.variations(pipe, plain, count=1, amount=1e-4, progress=False)
    far = sdkit.variations(pipe, plain, count=1, amount=0.9, progress=False)
    assert np.isfinite(near.latents).all()
    if (
        near.latents.shape == plain.latents.shape
    ):  # else the pipeline rounds the size of its own noise
        strayed = [np.abs(some.latents - plain.latents).mean() for some in (near, far)]
        assert strayed[0] < strayed[1]


def test_a_walk_leaves_and_reaches_its_keyframes_without_a_jump(family):
    """Also between texts of other lengths, whose rows come one by one."""
    name, pipe, options, plain = family
    words = ["a cat", "a long red dog on the grass"]
    places = (0.0,) if name in SLOW else (0.0, 1e-3, 0.5, 0.999, 1.0)
    corners = tuple(corners_of(pipe, [Settings(w) for w in words], None, _without(options)))
    recipes = [Recipe(corners, (t,)) if t % 1 else Recipe((corners[int(t)],)) for t in places]
    frames = [render(pipe, [recipe])[0] for recipe in recipes]
    if frames[0].latents.shape == plain.latents[0].shape:
        np.testing.assert_allclose(
            frames[0].latents, plain.latents[0], atol=1e-4 * _size(plain.latents)
        )
    if name in SLOW:
        return
    start, near_start, middle, near_end, end = (frame.latents for frame in frames)
    apart = np.abs(end - start).mean()
    assert np.abs(near_start - start).mean() < 0.02 * apart
    assert np.abs(near_end - end).mean() < 0.02 * apart
    assert min(np.abs(middle - start).mean(), np.abs(middle - end).mean()) > 0.05 * apart


def test_a_folder_is_planned_and_loaded(family, tmp_path):
    name, pipe, options, made = family
    folder = tmp_path / name
    pipe.save_pretrained(folder)
    plan = sdkit.plan(folder, device="cpu", memory="low")
    networks = [c for c in pipe.components.values() if isinstance(c, torch.nn.Module)]
    kept = {v.data_ptr(): v.numel() * 4 for c in networks for v in c.state_dict().values()}
    weights = sum(kept.values())  # with buffers that are saved, and what is shared once
    assert weights <= sum(size for _, size in plan.parts) < 1.2 * weights + 100_000
    assert "one step" in str(plan)
    assert plan.step > 0
    again = sdkit.load(folder, device="cpu", memory="low")
    assert type(again) is type(pipe)
    for name in vars(pipe).keys() & {"resolutions"}:  # Kandinsky 5 saves none of its own
        setattr(again, name, getattr(pipe, name))
    picture = np.asarray(sdkit.generate(again, "a cat", **options).image).astype(int)
    assert np.abs(picture - np.asarray(made.image)).max() <= 1


def test_two_prompts_at_once_are_those_made_alone_or_as_near_as_diffusers_own(family):
    """Batches are multiplied in another order; where latents are large, that is more than 1e-4 in diffusers itself."""
    name, pipe, options, made = family
    prompts = ["a cat", "a long red dog on white"]
    pair = sdkit.generate(pipe, prompts, **options)
    alone = [made, sdkit.generate(pipe, prompts[1], **options)]
    off = max(np.abs(a.latents - b.latents).max() for a, b in zip(pair, alone, strict=True))
    assert off <= 1e-4 or off <= 1.01 * standins.bare_drift(pipe, name, prompts)
    assert off <= 1e-4 * _size(pair[0].latents)


def test_a_sweep_makes_each_cell_as_it_is_made_alone(family):
    name, pipe, options, made = family
    if name in SLOW:
        return
    options = {key: value for key, value in options.items() if key != "seed"}
    grid = sdkit.sweep(pipe, "a cat", x={"seed": [3, 4]}, batch_size=1, **options)
    first, second = (grid[n] for n in range(2))
    np.testing.assert_array_equal(np.asarray(first.image), np.asarray(made.image))
    assert not np.array_equal(np.asarray(second.image), np.asarray(made.image))


@pytest.mark.parametrize("name", ["kandinsky5", "qwen_image21"])
def test_a_fork_of_a_network_that_keeps_a_cache_or_names_its_answer(name):
    pipe, side = standins.build(name), standins.side_of(name)
    made = sdkit.generate(
        pipe, "a cat", trace=True, steps=3, width=side, height=side, seed=3, progress=False
    )
    same = sdkit.fork(pipe, made.trace, 1, progress=False)
    other = sdkit.fork(pipe, made.trace, 1, prompt="a dog", progress=False)
    np.testing.assert_allclose(same.latents, made.latents, atol=1e-2)
    assert np.abs(other.latents - made.latents).max() > 2e-2


def _without(options):
    return {name: value for name, value in options.items() if name != "progress"}


def _size(latents):
    return max(1.0, float(np.abs(latents).max()))
