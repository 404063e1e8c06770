"""Attention: exact against an independent computation, without a trace in the pipeline, readable by words."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from families import FAMILIES, sd15
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

import sdkit
from sdkit.attention.layers import find_layers, grid_at
from sdkit.errors import CannotCapture, InvalidSettings

PROMPT = "a red car and a cat"
SMALL = {"width": 32, "height": 32, "steps": 3, "seed": 1, "progress": False}


@pytest.fixture
def pipe():
    return sd15()


@pytest.fixture(scope="module")
def made():
    """One captured picture with everything kept."""
    return sdkit.generate(
        sd15(),
        PROMPT,
        **SMALL,
        attention={"steps": True, "heads": True, "self_attention": True},
        guidance_scale=4,
    )


# -- exactness -------------------------------------------------------------------------------------------------------


def explicit(pipe, monkeypatch, **options):
    """softmax(QKᵀ/√d) of every kernel call of a run, `(B, heads, n, m)`, in the order of the calls."""
    seen, kernel = [], F.scaled_dot_product_attention

    def slow(query, key, value, *args, **kwargs):
        seen.append(
            ((query.double() @ key.double().transpose(-1, -2)) / query.shape[-1] ** 0.5).softmax(-1)
        )
        return kernel(query, key, value, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", slow)
        sdkit.generate(pipe, PROMPT, **SMALL | options)
    return seen


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
@pytest.mark.parametrize("guidance", [1, 4])
def test_cross_attention_equals_the_explicit_softmax(family, guidance, monkeypatch):
    pipe = FAMILIES[family]()
    steps, options = SMALL["steps"], {"guidance_scale": guidance, "height": 48}
    maps = sdkit.generate(pipe, PROMPT, attention=True, **SMALL | options).attention
    rows = 2 if guidance > 1 else 1
    calls = [
        p for p in explicit(pipe, monkeypatch, **options) if p.shape[-1] == 77 and p.shape[-2] != 77
    ]
    assert {len(p) for p in calls} == {rows}
    each = len(calls) // steps
    assert each == len(maps.layers)
    for number, layer in enumerate(maps.layers):  # both in the order in which the layers run
        expected = sum(p[-1].mean(0) for p in calls[number::each]) / steps  # (patches, tokens)
        found = layer.words.reshape(-1, maps.prompt.used)
        np.testing.assert_allclose(found, expected[:, : maps.prompt.used], atol=1e-5)


@pytest.mark.parametrize("family", ["sd3", "flux"])
def test_joint_attention_equals_the_explicit_softmax(family, monkeypatch):
    pipe = FAMILIES[family]()
    maps = sdkit.generate(pipe, PROMPT, attention=True, **SMALL).attention
    patches = 8 * 8
    length = maps.prompt.length
    calls = [p for p in explicit(pipe, monkeypatch) if p.shape[-1] == length + patches]
    each = len(calls) // SMALL["steps"]
    assert each == len(maps.layers)
    for number, layer in enumerate(maps.layers):
        p = (sum(c[-1].mean(0) for c in calls[number::each]) / SMALL["steps"]).numpy()
        text, picture = (
            (slice(0, length), slice(length, None))
            if family == "flux"
            else (slice(patches, None), slice(0, patches))
        )
        used = maps.prompt.used
        np.testing.assert_allclose(
            layer.words.reshape(patches, -1), p[picture, text][:, :used], atol=1e-5
        )
        np.testing.assert_allclose(layer.back.reshape(used, -1), p[text, picture][:used], atol=1e-5)


def test_parts_add_up_to_the_whole(made):
    maps = made.attention
    for layer in (m for m in maps.layers if m.words is not None):
        np.testing.assert_allclose(layer.heads.mean(0), layer.words, atol=1e-6)
    for group, series in maps.steps.items():
        members = [m.words for m in maps.layers if m.group == group and m.words is not None]
        np.testing.assert_allclose(
            series.astype(np.float32).mean(0), np.mean(members, 0), atol=2e-3
        )
    assert sum(maps.shares().values()) == pytest.approx(1, abs=1e-5)


def test_self_attention_rows_add_up_to_one(made):
    kept = [m for m in made.attention.layers if m.patches is not None]
    assert kept
    for layer in kept:
        assert layer.patches.shape == (np.prod(layer.grid), *layer.grid)
        np.testing.assert_allclose(layer.patches.sum((1, 2)), 1, atol=1e-5)


def test_points_are_rows_of_the_whole(made):
    points = [(0.1, 0.1), (0.8, 0.4)]
    few = sdkit.generate(
        sd15(), PROMPT, **SMALL, guidance_scale=4, attention={"self_attention": points}
    ).attention
    for x, y in points:
        np.testing.assert_allclose(
            few.looked_from(x, y), made.attention.looked_from(x, y), atol=1e-5
        )


# -- belonging to one picture each -----------------------------------------------------------------------------------


def test_every_picture_of_a_batch_has_its_own_maps(pipe):
    together = sdkit.generate(pipe, [PROMPT, "a dog"], attention=True, **SMALL)
    alone = [
        sdkit.generate(pipe, text, attention=True, **SMALL).attention for text in (PROMPT, "a dog")
    ]
    for i, maps in enumerate(alone):
        assert together[i].attention.words == maps.words
        np.testing.assert_allclose(
            together[i].attention[maps.words[-1]], maps[maps.words[-1]], atol=1e-5
        )
    assert together[1].attention.image is together[1].image


def test_the_users_own_calls_and_several_of_them(pipe):
    pipe.set_progress_bar_config(disable=True)
    with sdkit.capture_attention(pipe) as capture:
        pipe(
            PROMPT,
            num_inference_steps=2,
            width=32,
            height=32,
            num_images_per_prompt=2,
            output_type="np",
        )
        pipe(
            ["a dog"],
            num_inference_steps=2,
            width=32,
            height=48,
            guidance_scale=1,
            output_type="np",
        )
    assert [m.words for m in capture.all_maps] == [["a", "red", "car", "and", "a", "cat"]] * 2 + [
        ["a", "dog"]
    ]
    assert capture.maps["dog"].shape == (48, 32)
    assert "encode_prompt" not in vars(pipe)


@pytest.mark.parametrize("task", ["image-to-image", "inpainting"])
def test_other_tasks_give_maps_of_the_prompt(pipe, task):
    picture = Image.effect_noise((32, 48), 60).convert("RGB")
    mask = Image.new("L", (32, 48), 255) if task == "inpainting" else None
    options = SMALL | {
        "height": 48,
        "image": picture,
        "mask": mask,
        "strength": 0.7,
        "guidance_scale": 4,
    }
    r = sdkit.generate(pipe, PROMPT, attention=True, **options)
    assert r.attention["car"].shape == (48, 32)
    assert len(r.attention.timesteps) == 2
    assert (r.latents == sdkit.generate(pipe, PROMPT, **options).latents).all()


def test_odd_sizes_have_their_own_grid(pipe):
    assert grid_at(9, 6, 1) == (5, 3)
    r = sdkit.generate(pipe, PROMPT, attention=True, **SMALL | {"width": 24, "height": 40})
    assert {m.grid for m in r.attention.layers} == {(20, 12), (10, 6)}


def test_words_beyond_what_the_encoder_reads(pipe):
    with pytest.warns(UserWarning, match="its end is not seen"):
        maps = sdkit.generate(pipe, "cat " * 80 + "dog", attention=True, **SMALL).attention
    assert maps["cat", 74].shape == (32, 32)
    with pytest.raises(InvalidSettings, match="after the 77 tokens"):
        _ = maps["dog"]


# -- nothing changes -------------------------------------------------------------------------------------------------


def kept(pipe):
    return {name: id(p) for name, p in pipe.unet.attn_processors.items()}, [
        (len(m._forward_hooks), len(m._forward_pre_hooks)) for m in pipe.unet.modules()
    ]


class Mine:
    """A user's own processor."""

    def __init__(self):
        from diffusers.models.attention_processor import AttnProcessor2_0

        self.inner, self.calls = AttnProcessor2_0(), 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        return self.inner(*args, **kwargs)


@pytest.mark.parametrize("kind", ["plain", "sliced", "own", "lora"])
def test_the_picture_and_the_processors_stay(pipe, kind):
    if kind == "sliced":
        pipe.unet.set_attention_slice("auto")
    if kind == "own":
        pipe.unet.set_attn_processor(Mine())
    if kind == "lora":
        from peft import LoraConfig

        pipe.unet.add_adapter(
            LoraConfig(r=2, target_modules=["to_q", "to_k"], init_lora_weights=False)
        )
    plain, before = sdkit.generate(pipe, PROMPT, **SMALL), kept(pipe)
    watched = sdkit.generate(
        pipe, PROMPT, attention={"steps": True, "self_attention": True}, **SMALL
    )
    assert (watched.latents == plain.latents).all()
    assert watched.image.tobytes() == plain.image.tobytes()
    assert kept(pipe) == before
    assert (sdkit.generate(pipe, PROMPT, **SMALL).latents == plain.latents).all()


def test_lora_changes_the_maps(pipe):
    from peft import LoraConfig

    plain = sdkit.generate(pipe, PROMPT, attention=True, **SMALL).attention
    torch.manual_seed(3)
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False))
    tuned = sdkit.generate(pipe, PROMPT, attention=True, **SMALL).attention
    assert np.abs(plain["car"] - tuned["car"]).max() > 1e-5


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("error", [KeyboardInterrupt, sdkit.Cancelled, RuntimeError])
def test_nothing_stays_after_a_broken_run(pipe, at, error):
    plain, before = sdkit.generate(pipe, PROMPT, **SMALL), kept(pipe)

    def stop(step, _total, _decode):
        if step == at:
            raise error

    with pytest.raises(error):
        sdkit.generate(pipe, PROMPT, attention=True, on_step=stop, **SMALL)
    assert kept(pipe) == before
    assert (sdkit.generate(pipe, PROMPT, **SMALL).latents == plain.latents).all()


def test_an_error_inside_a_joint_layer_leaves_no_mode_behind():
    pipe = FAMILIES["sd3"]()

    def fail(*_):
        raise RuntimeError("broken layer")

    handle = find_layers(pipe)[1].module.to_out[0].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="broken layer"):
        sdkit.generate(pipe, PROMPT, attention=True, **SMALL)
    handle.remove()
    assert torch._C._len_torch_function_stack() == 0
    assert sdkit.generate(pipe, PROMPT, attention=True, **SMALL).attention["car"].shape == (32, 32)


# -- what cannot be captured says so, early ---------------------------------------------------------------------------


def test_fused_projections_are_named(pipe):
    pipe.unet.fuse_qkv_projections()
    with pytest.raises(CannotCapture, match=r"down_blocks\.0.*fused.*unfuse_qkv_projections"):
        sdkit.capture_attention(pipe)


def test_compiled_networks_are_named(pipe):
    pipe.unet = torch.compile(pipe.unet)
    with pytest.raises(CannotCapture, match="UNet2DConditionModel is compiled"):
        sdkit.capture_attention(pipe)


def test_joint_families_have_no_self_attention():
    with pytest.raises(CannotCapture, match="joint attention"):
        sdkit.capture_attention(FAMILIES["sd3"](), self_attention=True)


def test_a_processor_that_hides_its_queries_is_named(pipe):
    class Hiding:
        def __call__(self, attn, hidden_states, encoder_hidden_states=None, *args, **kwargs):
            return hidden_states

    pipe.unet.set_attn_processor(Hiding())
    with pytest.raises(CannotCapture, match="processor Hiding does not use to_q"):
        sdkit.generate(pipe, PROMPT, attention=True, **SMALL)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"resolution": 0}, "resolution is 0"),
        ({"self_attention": [(0.5, 1.5)]}, r"\(0\.5, 1\.5\) is outside"),
    ],
)
def test_bad_options_are_told_before_the_run(pipe, options, told):
    with pytest.raises(InvalidSettings, match=told):
        sdkit.capture_attention(pipe, **options)


def test_nothing_captured_yet_is_told(pipe):
    with (
        sdkit.capture_attention(pipe) as capture,
        pytest.raises(InvalidSettings, match="make a picture inside"),
    ):
        _ = capture.maps


# -- cost ------------------------------------------------------------------------------------------------------------


class Counting(TorchDispatchMode):
    """Counts operations that are more than another view of the same numbers."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        views = {
            "view",
            "transpose",
            "select",
            "slice",
            "unsqueeze",
            "permute",
            "t",
            "detach",
            "unbind",
            "expand",
            "_unsafe_view",
            "alias",
            "squeeze",
            "split",
        }
        self.count += func.overloadpacket.__name__ not in views
        return func(*args, **kwargs or {})


def test_at_most_six_operations_a_layer_and_step(pipe):
    def operations(**options):
        with Counting() as counting:
            sdkit.generate(pipe, PROMPT, **SMALL, **options)
        return counting.count

    layers = sum(layer.kind == "cross" for layer in find_layers(pipe))
    operations()  # the words are encoded once
    extra = operations(attention=True) - operations()
    assert 0 < extra <= 6 * layers * SMALL["steps"]


def test_memory_does_not_grow_with_steps_and_is_told_before(pipe):
    for options in ({}, {"heads": True}, {"self_attention": True}):
        sizes = []
        for steps in (2, 5):
            with sdkit.capture_attention(pipe, **options) as capture:
                told = capture.cost(32, 48, steps, tokens=8)
                sdkit.generate(pipe, PROMPT, **SMALL | {"steps": steps, "height": 48})
            assert capture.bytes == told
            sizes.append(told)
        assert sizes[0] == sizes[1]


def test_the_cost_of_steps_is_told_before(pipe):
    with sdkit.capture_attention(pipe, steps=True) as capture:
        sdkit.generate(pipe, PROMPT, **SMALL | {"steps": 4, "height": 48})
    assert capture.bytes == capture.cost(32, 48, 4, tokens=8)


# -- reading ---------------------------------------------------------------------------------------------------------


def test_words_not_word_pieces(made):
    maps = made.attention
    layer = maps.default_layers[0]
    car = next(w for w in maps.prompt.words if w.text == "car")
    np.testing.assert_allclose(
        maps.by_layer("car")[layer.name], layer.words[..., list(car.positions)].sum(-1), rtol=1e-6
    )
    np.testing.assert_allclose(maps["red car"], (maps["red"] + maps["car"]) / 2, atol=1e-6)
    np.testing.assert_allclose(maps["a"], (maps["a", 0] + maps["a", 1]) / 2, atol=1e-6)
    assert maps["car"].dtype == np.float32
    assert maps["car"].min() >= 0
    assert maps["car"].max() <= 1
    assert maps.word("car", normalize=True, size=(10, 20)).shape == (20, 10)
    assert maps.word("car", normalize=True).max() == 1


def test_narrowing_gives_maps_again(made):
    maps = made.attention
    name = maps.default_layers[0].name
    np.testing.assert_allclose(
        maps.at(layer=name, head=1).by_layer("car")[name], maps.by_head("car")[name][1]
    )
    assert maps.at(layer="mid").default_layers[0].name.startswith("mid")
    assert maps.by_step("car").shape[0] == SMALL["steps"]
    np.testing.assert_allclose(
        maps.at(step=1).word("car", size=(16, 16)), maps.by_step("car")[1], atol=1e-6
    )


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda m: m["dog"], "'dog' does not stand in the prompt"),
        (lambda m: m.at(step=9), "no step 9; the run had 3"),
        (lambda m: m.at(layer="attic"), "no layer 'attic'; there are down_blocks"),
        (lambda m: m.at(head=7), "no head 7"),
        (lambda m: m.at(step=1, head=1), "ask for one of them"),
        (lambda m: m.looked_from(2, 0), "outside the picture"),
        (lambda m: m.looked_by("car"), "joint attention only"),
        (lambda m: m.mask("car", threshold=1.0), "threshold is 1"),
        (lambda m: m.leakage({"red": "car"}), "two nouns"),
    ],
)
def test_what_cannot_be_answered_is_told(made, ask, told):
    with pytest.raises(InvalidSettings, match=told):
        ask(made.attention)


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda m: m.by_step("car"), "steps=True"),
        (lambda m: m.by_head("car"), "heads=True"),
        (lambda m: m.looked_from(0.5, 0.5), "self_attention=True"),
    ],
)
def test_what_was_not_kept_says_how_to_keep_it(pipe, ask, told):
    with pytest.raises(InvalidSettings, match=told):
        ask(sdkit.generate(pipe, PROMPT, attention=True, **SMALL).attention)


def painted(maps, **words):
    """Maps in which each word is seen in one rectangle ``(x0, x1, strength)`` of the columns."""
    layers = []
    for layer in maps.layers:
        if layer.words is None:
            continue
        values = np.full_like(layer.words, 1e-4)
        for word, (x0, x1, strength) in words.items():
            columns = slice(int(x0 * layer.grid[1]), int(x1 * layer.grid[1]))
            for place in maps.prompt.find(word)[0][0].positions:
                values[:, columns, place] = strength
        layers.append(replace(layer, words=values))
    return replace(maps, layers=tuple(layers))


def test_overlap_neglect_and_leakage_of_known_maps(made):
    maps = painted(made.attention, car=(0, 0.5, 0.4), cat=(0.5, 1, 0.4), red=(0.5, 1, 0.3))
    assert maps.iou("car", "cat") < 0.15
    assert maps.iou("car", "car") == 1
    assert maps.neglected() == []
    assert maps.leakage({"red": "car", "and": "cat"})["red", "cat"] > 0.8
    faint = painted(made.attention, car=(0, 0.5, 0.4), cat=(0.5, 1, 0.02), red=(0, 0.5, 0.4))
    assert faint.neglected() == ["cat"]
    assert faint.leakage({"red": "car", "and": "cat"})["red", "cat"] < 0.2
    assert max(maps.words_at(0.1, 0.5), key=maps.words_at(0.1, 0.5).get) == "car"


def test_maps_show_themselves_with_hostile_words(pipe):
    r = sdkit.generate(pipe, "<img src=x onerror=alert(1)> cat", attention=True, **SMALL)
    html = r.attention._repr_mimebundle_()["text/html"]
    assert "<img src=x" not in html
    assert html.count("<img ") == 1 + len(r.attention.content_words)
    assert r.attention.show(["cat"]).sheet().width > 64


def test_the_docstrings_example(pocket):
    r = sdkit.generate(pocket, "a red car on a beach", steps=2, attention=True, progress=False)
    assert r.attention["car"].shape == (128, 128)
