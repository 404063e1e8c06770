"""Words that are not in the prompt: exact, without a trace in the picture, and found where they are."""

import numpy as np
import pytest
import standins
import torch
import torch.nn.functional as F

import sdkit
from sdkit.attention.layers import find_layers
from sdkit.errors import CannotCapture, InvalidSettings
from sdkit.pipelines.families import denoiser_of

PROMPT, CONCEPTS = "a red cat", ["cat", "a red car", "sky"]
READ = ("sd15", "sdxl", "lcm", "sd15_pag", "sdxl_pag", "kolors", "pixart_sigma", "sana")


def options(name):
    side = standins.side_of(name)
    return {"steps": 2, "width": side, "height": side, "seed": 3, "progress": False}


@pytest.mark.parametrize("name", READ)
def test_the_picture_stays_the_same_to_the_bit(name):
    pipe = standins.build(name)
    hooks = sum(len(m._forward_pre_hooks) for m in denoiser_of(pipe).modules())
    watched = sdkit.generate(pipe, PROMPT, attention={"concepts": CONCEPTS}, **options(name))
    plain = sdkit.generate(pipe, PROMPT, **options(name))
    np.testing.assert_array_equal(watched.latents, plain.latents)
    assert sum(len(m._forward_pre_hooks) for m in denoiser_of(pipe).modules()) == hooks
    maps = watched.attention.concepts
    assert maps.words == CONCEPTS
    for word in CONCEPTS:
        assert maps[word].shape == watched.attention["cat"].shape
        assert 0 <= maps[word].min() <= maps[word].max() <= 1


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_values_are_angles_to_what_an_explicit_softmax_takes(name, monkeypatch):
    """softmax(QKᵀ/√d)V in double precision, and the concept's own encoding through the same layer."""
    pipe, text = standins.build(name), "a sky"
    kernel, taken = F.scaled_dot_product_attention, []

    def slow(query, key, value, *args, **kwargs):
        if query.shape[-2] != 77 and key.shape[-2] == 77:
            q, k, v = (x[-1].double() for x in (query, key, value))
            o = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v
            taken.append(o.transpose(0, 1).flatten(1))
        return kernel(query, key, value, *args, **kwargs)

    settings = options(name) | {"guidance_scale": 4}
    monkeypatch.setattr(F, "scaled_dot_product_attention", slow)
    maps = sdkit.generate(
        pipe, PROMPT, attention={"concepts": ["sky", text]}, **settings
    ).attention.concepts
    monkeypatch.undo()
    layers = [layer for layer in find_layers(pipe) if layer.kind == "cross"]
    assert [layer.name for layer in layers] == [m.name for m in maps.layers]
    with torch.no_grad():
        encoding = pipe.encode_prompt(
            text, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
        )[0]
        places = [i for i, t in enumerate(pipe.tokenizer(text).input_ids)][1:-1]
        for n, (layer, kept) in enumerate(zip(layers, maps.layers, strict=True)):
            v = layer.module.to_v(encoding[0, places]).double().mean(0)
            steps = taken[n :: len(layers)]
            assert len(steps) == settings["steps"]
            angle = torch.stack([F.cosine_similarity(o, v[None]).clamp_min(0) for o in steps])
            found = kept.words[..., 1].reshape(-1)
            np.testing.assert_allclose(found, angle.mean(0).numpy(), atol=1e-5)


def test_lora_on_values_is_heard():
    from peft import LoraConfig

    def maps_of(pipe):
        return sdkit.generate(
            pipe, PROMPT, attention={"concepts": CONCEPTS}, **options("sd15")
        ).attention.concepts

    pipe = standins.build("sd15")
    plain = maps_of(pipe)
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_v"], init_lora_weights=False))
    assert np.abs(maps_of(pipe)["sky"] - plain["sky"]).max() > 1e-4


def test_a_map_does_not_depend_on_what_else_is_asked_and_batches_keep_their_own():
    pipe = standins.build("sd15")
    both = [PROMPT, "a dog"]
    many = sdkit.generate(pipe, both, attention={"concepts": CONCEPTS}, **options("sd15"))
    for n, prompt in enumerate(both):
        alone = sdkit.generate(pipe, prompt, attention={"concepts": ["sky"]}, **options("sd15"))
        np.testing.assert_allclose(
            many[n].attention.concepts["SKY"], alone.attention.concepts["sky"], atol=1e-4
        )
        assert many[n].attention.concepts.image is many[n].image


def test_steps_are_kept_apart_and_the_cost_is_told_before():
    pipe = standins.build("sd15")
    with sdkit.capture_attention(pipe, steps=True, concepts=CONCEPTS) as capture:
        sdkit.generate(pipe, PROMPT, **options("sd15"))
    side = standins.side_of("sd15")
    assert capture.bytes == capture.cost(side, side, 2, tokens=capture.maps.prompt.used)
    series = capture.concepts.by_step("sky")
    assert len(series) == 2
    at = capture.maps.at(step=1).concepts.word("sky", size=series.shape[:0:-1])
    np.testing.assert_allclose(at, series[1], atol=1e-6)


@pytest.mark.parametrize("wrong", ["sky", [], [""], ["sky", 3], ["?"]])
def test_what_is_no_list_of_words_is_told_before_the_run(wrong):
    with pytest.raises(InvalidSettings, match="give a list of words"):
        sdkit.capture_attention(standins.build("sd15"), concepts=wrong)


def test_what_cannot_be_answered_is_told():
    pipe = standins.build("sd15")
    r = sdkit.generate(pipe, PROMPT, attention={"concepts": CONCEPTS}, **options("sd15"))
    with pytest.raises(InvalidSettings, match=r"'dog' was not looked for.*cat, a red car, sky"):
        _ = r.attention.concepts["dog"]
    plain = sdkit.generate(pipe, PROMPT, attention=True, **options("sd15"))
    with pytest.raises(InvalidSettings, match="name them before the run"):
        _ = plain.attention.concepts


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_families_that_cannot_say_so_before_the_run(name):
    with pytest.raises(CannotCapture, match="concepts"):
        sdkit.capture_attention(standins.build(name), concepts=["sky"])


def test_pocket_shows_what_is_there_and_not_what_is_absent(pocket):
    present, absent = ["apple", "bus"], ["penguin", "guitar"]
    with sdkit.capture_attention(pocket, concepts=[*present, *absent]) as capture:
        sdkit.generate(
            pocket, "an apple to the left of a bus on a white background", seed=1, progress=False
        )
    maps = capture.concepts
    peaks = {w: np.unravel_index(maps[w].argmax(), maps[w].shape) for w in present}
    assert peaks["apple"][1] < maps.size[0] / 2 < peaks["bus"][1]
    assert min(maps[w].max() for w in present) > 1.3 * max(maps[w].max() for w in absent)
    shown = maps.overlay("penguin").convert("L"), maps.overlay("bus").convert("L")
    assert np.asarray(shown[0]).max() < np.asarray(shown[1]).max()


def test_pocket_shows_what_was_never_said(pocket):
    with sdkit.capture_attention(pocket, concepts=["meadow", "night"]) as capture:
        sdkit.generate(pocket, "a cow", progress=False)
    assert capture.concepts["meadow"].max() > 2 * capture.concepts["night"].max()


def test_words_that_pocket_never_saw_are_told(pocket):
    with pytest.warns(UserWarning, match="Pocket has never seen 'quasar'"):
        sdkit.capture_attention(pocket, concepts=["quasar"])
