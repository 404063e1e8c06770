"""Control pictures and references: what diffusers' own calls make of them, to the bit, and what is said where none can act."""

import inspect
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    FluxControlNetImg2ImgPipeline,
    FluxControlNetModel,
    FluxControlNetPipeline,
    MultiAdapter,
    QwenImageControlNetModel,
    QwenImageControlNetPipeline,
    SD3ControlNetModel,
    StableDiffusion3ControlNetPipeline,
    StableDiffusionAdapterPipeline,
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionControlNetInpaintPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionXLAdapterPipeline,
    StableDiffusionXLControlNetImg2ImgPipeline,
    StableDiffusionXLControlNetInpaintPipeline,
    StableDiffusionXLControlNetPipeline,
    T2IAdapter,
)
from families import flux, sd3, sd15, sdxl
from PIL import Image
from standins_a import STANDINS_A
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

import sdkit
from sdkit.errors import InvalidSettings
from sdkit.executors import model_of
from sdkit.pictures.guides import NO_GUIDES
from sdkit.widgets import DraftsBoard, PromptExplorer, Sketchpad, TraceExplorer, WalkExplorer

QUICK = {"steps": 2, "width": 32, "height": 32, "seed": 3, "progress": False}


def noisy(seed, size=(32, 32), mode="RGB"):
    """A picture of coarse chance in which every pixel matters."""
    chance = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(chance).resize(size, Image.Resampling.BICUBIC).convert(mode)


LINES, PHOTO, LOOK = noisy(1), noisy(2), noisy(3, (224, 224))
HOLE = Image.fromarray(np.uint8(np.indices((32, 32)).sum(0) > 30) * 255)


def network(pipe, seed=0):
    """A ControlNet with weights of chance: a new one's answer is zero, so that it would lead nowhere."""
    torch.manual_seed(seed)
    made = ControlNetModel.from_unet(pipe.unet, conditioning_embedding_out_channels=(8, 16))
    for parameter in made.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return made.eval()


def with_control(pipe, kind=StableDiffusionControlNetPipeline, networks=1):
    found = [network(pipe, n) for n in range(networks)]
    return put_on(pipe, kind, controlnet=found if networks > 1 else found[0])


def put_on(pipe, kind, **parts):
    """A pipeline of another class with the same parts and some more."""
    accepted = inspect.signature(kind.__init__).parameters
    held = {**pipe.components, "requires_safety_checker": False, "add_watermarker": False, **parts}
    return quiet(kind(**{name: part for name, part in held.items() if name in accepted}))


def adapter(channels=3, seed=0):
    torch.manual_seed(seed)
    return T2IAdapter(
        in_channels=channels,
        channels=[16, 32],
        num_res_blocks=1,
        downscale_factor=2,
        adapter_type="full_adapter",
    ).eval()


def quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe


def bare(pipe, seed=3, prompt="a cat", **options):
    """What diffusers itself makes, in 0 to 255."""
    torch.manual_seed(seed)  # SD 3 encodes a control picture with chance of its own
    made = pipe(
        prompt=prompt,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(seed),
        output_type="np",
        **options,
    ).images[0]
    return (made * 255).round().astype(np.uint8)


def assert_equal(result, expected):
    np.testing.assert_array_equal(np.asarray(result.image), expected)


# -- ControlNet ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def led():
    return with_control(quiet(sd15()))


@pytest.fixture(scope="module")
def led_xl():
    return with_control(quiet(sdxl()), StableDiffusionXLControlNetPipeline)


@pytest.mark.parametrize("name", ["led", "led_xl"])
def test_a_controlnet_follows_its_picture_as_in_diffusers(name, request):
    pipe = request.getfixturevalue(name)
    made = sdkit.generate(pipe, "a cat", control=LINES, **QUICK)
    assert_equal(made, bare(pipe, image=LINES))
    assert made.settings.control_scale == 1, "the pipeline's own is recorded"
    other = sdkit.generate(pipe, "a cat", control=PHOTO, **QUICK)
    assert np.abs(other.latents - made.latents).max() > 1e-3, "the stand-in heeds no control"
    half = sdkit.generate(pipe, "a cat", control=LINES, control_scale=0.5, **QUICK)
    assert_equal(half, bare(pipe, image=LINES, controlnet_conditioning_scale=0.5))
    assert half.settings.control_scale == 0.5


@pytest.mark.parametrize(
    ("name", "from_picture", "from_hole"),
    [
        (
            "led",
            StableDiffusionControlNetImg2ImgPipeline,
            StableDiffusionControlNetInpaintPipeline,
        ),
        (
            "led_xl",
            StableDiffusionXLControlNetImg2ImgPipeline,
            StableDiffusionXLControlNetInpaintPipeline,
        ),
    ],
)
def test_a_controlnet_leads_from_pictures_and_holes_too(name, from_picture, from_hole, request):
    pipe = request.getfixturevalue(name)
    given = {"image": PHOTO, "control": LINES, "control_scale": 0.7, "strength": 1, **QUICK}
    options = {
        "image": PHOTO,
        "control_image": LINES,
        "controlnet_conditioning_scale": 0.7,
        "strength": 1.0,
        "width": 32,
        "height": 32,
    }
    again = put_on(pipe, from_picture)
    made = sdkit.generate(pipe, "a cat", **given)
    assert_equal(made, bare(again, **options))
    assert_equal(sdkit.generate(again, "a cat", **given), np.asarray(made.image))

    inpaint = put_on(pipe, from_hole)
    filled = sdkit.generate(pipe, "a cat", mask=HOLE, **given)
    expected = Image.fromarray(bare(inpaint, mask_image=HOLE, **options))
    assert_equal(filled, np.asarray(Image.composite(expected, PHOTO, HOLE)))
    assert filled.settings.task == "inpainting"


def test_several_controlnets_take_a_picture_and_a_scale_each():
    pipe = with_control(quiet(sd15()), networks=2)
    made = sdkit.generate(pipe, "a cat", control=[LINES, PHOTO], control_scale=(0.5, 1), **QUICK)
    assert_equal(made, bare(pipe, image=[LINES, PHOTO], controlnet_conditioning_scale=[0.5, 1.0]))
    assert made.settings.control_scale == (0.5, 1.0)
    pair = sdkit.generate(pipe, ["a cat", "a dog"], control=[LINES, PHOTO], **QUICK)
    alone = sdkit.generate(pipe, "a dog", control=[LINES, PHOTO], **QUICK)
    assert np.abs(pair[1].latents - alone.latents).max() < 1e-4


def test_batches_sweeps_and_traces_are_led(led):
    options = {**QUICK, "control": LINES}
    pair = sdkit.generate(led, ["a cat", "a dog"], **options)
    for one, prompt in zip(pair, ("a cat", "a dog"), strict=True):
        alone = sdkit.generate(led, prompt, **options)
        assert np.abs(one.latents - alone.latents).max() < 1e-4
    grid = sdkit.sweep(led, "a cat", x={"control_scale": [0, 1]}, **options)
    assert_equal(grid[0], bare(led, image=LINES, controlnet_conditioning_scale=0.0))
    assert np.asarray(grid[0].image).tolist() != np.asarray(grid[1].image).tolist()
    again = sdkit.sweep(led, grid[1], x={"seed": [3, 4]}, progress=False)
    assert_equal(again[0], np.asarray(grid[1].image))
    traced = sdkit.generate(led, "a cat", trace=True, attention=True, **options)
    np.testing.assert_array_equal(traced.latents, sdkit.generate(led, "a cat", **options).latents)
    assert len(traced.trace) == 2


def test_the_control_picture_is_recorded_and_asked_for_again(led, tmp_path):
    made = sdkit.generate(led, "a cat", control=LINES, **QUICK)
    assert_equal(sdkit.generate(led, made, progress=False), np.asarray(made.image))
    back = sdkit.load_result(made.save(tmp_path / "cat.png")).settings
    assert back == made.settings
    with pytest.raises(
        InvalidSettings, match=r"made with a control picture; give it as control=…\."
    ):
        sdkit.generate(led, back, progress=False)
    with pytest.warns(UserWarning, match="The control picture is not the one"):
        other = sdkit.generate(led, back, control=PHOTO, progress=False)
    assert other.settings.control != back.control
    assert not other.settings.same_picture(back)


def test_the_control_picture_gives_its_proportions_and_fits_as_a_source_does(led):
    wide = noisy(5, (64, 32))
    made = sdkit.generate(led, "a cat", control=wide, steps=2, seed=3, progress=False)
    assert made.image.width > made.image.height
    cut = sdkit.generate(led, "a cat", control=wide, **QUICK)
    assert cut.settings.fit == "crop"
    assert_equal(cut, bare(led, image=wide.crop((16, 0, 48, 32))))
    flat = sdkit.generate(led, "a cat", control=wide, fit="stretch", **QUICK)
    assert_equal(flat, bare(led, image=wide, width=32, height=32))


def test_a_led_run_is_continued_by_the_picture_that_led_it(led):
    made = sdkit.generate(led, "a cat", control=LINES, trace=True, **QUICK)
    same = sdkit.fork(led, made.trace, 1, progress=False)
    np.testing.assert_allclose(same.latents, made.latents, atol=2e-2)
    other = sdkit.fork(led, made.trace, 1, prompt="a dog", seed=9, progress=False)
    strayed = [np.abs(one.latents - made.latents).max() for one in (same, other)]
    assert strayed[1] > 4 * strayed[0]
    assert other.guides.control == made.guides.control
    again = sdkit.fork(led, other.trace, 1, seed=9, progress=False)  # a fork's fork
    assert again.settings.control == made.settings.control
    alone = replace(made.trace, guides=NO_GUIDES)
    with pytest.raises(InvalidSettings, match="led by a control or reference picture"):
        sdkit.fork(led, alone, 1, prompt="a dog", progress=False)


def test_every_frame_of_a_walk_is_led(led):
    given = {"control": LINES, "control_scale": 0.5}
    walk = sdkit.interpolate(
        led, ["a cat", "a dog"], frames=3, pacing="linear", batch_size=1, **given, **QUICK
    )
    ends = [sdkit.generate(led, prompt, **given, **QUICK) for prompt in ("a cat", "a dog")]
    for frame, end in zip((walk[0], walk[2]), ends, strict=True):
        assert np.abs(np.asarray(frame).astype(int) - np.asarray(end.image)).max() <= 1
    # from results: their pictures lead without being named again
    other = sdkit.interpolate(led, ends, frames=3, pacing="linear", batch_size=1, progress=False)
    for mine, its in zip(other, walk, strict=True):
        np.testing.assert_array_equal(np.asarray(mine), np.asarray(its))
    assert other.keyframes[0].control == ends[0].settings.control
    corners = [["a cat", "a dog"], ends]
    grid = sdkit.interpolate_grid(led, corners, shape=(2, 2), **given, **QUICK)
    assert np.abs(np.asarray(grid[0, 0]).astype(int) - np.asarray(walk[0])).max() <= 1
    with (
        ThreadPoolExecutor(1) as pool,
        pytest.raises(InvalidSettings, match="without ControlNets and adapters"),
    ):
        sdkit.interpolate(led, ends, frames=3, executor=pool, progress=False)
    with pytest.raises(InvalidSettings, match=r"give it as control=…\."):
        sdkit.interpolate(led, [end.settings for end in ends], frames=3, progress=False)


def test_panels_lead_by_the_pictures_of_their_result_or_by_their_own(led):
    made = sdkit.generate(led, "a cat", control=LINES, control_scale=0.5, **QUICK)
    for begun in ({"prompt": made}, {"prompt": "a cat", "control": LINES, "control_scale": 0.5}):
        size = {name: QUICK[name] for name in ("steps", "width", "height", "seed")}
        panel = PromptExplorer(led, **begun, **size)
        assert panel.worker.join(60)
        assert panel.error is None
        assert np.abs(panel.result.latents - made.latents).max() < 1e-4
        assert "control=explorer.guides.control, control_scale=0.5" in panel.view["code"]
        panel.make(prompt="a dog")
        assert panel.worker.join(60)
        assert panel.error is None
        dog = sdkit.generate(led, "a dog", control=LINES, control_scale=0.5, **QUICK)
        assert np.abs(panel.result.latents - dog.latents).max() < 1e-4
        panel.close()


def test_drafts_walks_traces_and_sketches_in_panels_are_led(led):
    made = sdkit.generate(led, "a cat", control=LINES, trace=True, **QUICK)
    board = DraftsBoard(led, made, count=2)
    assert board.worker.join(60)
    assert board.error is None
    assert np.abs(board.drafts[0].latents - made.latents).max() < 1e-4
    board._receive(board, {"do": "branch", "number": board._sheet[0].number}, [])
    assert board.worker.join(60)
    assert board.error is None
    assert len(board.drafts) == 2
    assert board.drafts[0].guides.control == made.guides.control
    board.close()

    film = WalkExplorer(led, [made, made.settings.replace(prompt="a dog")], frames=3, steps=2)
    assert film.worker.join(60)
    assert film.error is None
    assert "control=explorer.guides.control" in film.view["code"]
    assert np.abs(np.asarray(film.walk[0]).astype(int) - np.asarray(made.image)).max() <= 1
    film.close()

    trace = TraceExplorer(led, made)
    trace._receive(trace, {"do": "fork", "step": 1, "changes": {"prompt": "a dog"}}, [])
    assert trace.worker.join(60)
    assert trace.error is None
    assert trace.result.settings.prompt == "a dog"
    trace.close()

    pad = Sketchpad(led, "a cat", image=PHOTO, control=LINES, strength=0.7, steps=3)
    pad._receive(pad, {"do": "set", "values": {"go": True}}, [])
    assert pad.worker.join(60)
    assert pad.error is None
    assert pad.result.settings.task == "image-to-image"
    assert "control=pad.guides.control" in pad.view["code"]
    pad.close()


def test_an_inversion_of_a_led_pipeline_is_one_sentence(led):
    for pipe in (led, seeing(sd15())):
        with pytest.raises(InvalidSettings, match="follows no control or reference picture"):
            sdkit.invert(pipe, PHOTO, "a cat", steps=2, progress=False)


def test_words_are_silenced_in_led_pictures(led):
    made = sdkit.generate(led, "a red cat", control=LINES, **QUICK)
    found = sdkit.ablate(led, made, ["red"], progress=False)
    np.testing.assert_array_equal(found.original.latents, made.latents)
    assert found.without["red"].guides.control == made.guides.control


def test_a_variation_of_a_led_picture_is_led(led):
    made = sdkit.generate(led, "a cat", control=LINES, **QUICK)
    near = sdkit.variations(led, made, count=1, amount=1e-4, progress=False)
    assert np.abs(near.latents - made.latents).max() < 0.1


def joint_network(kind, transformer, **options):
    """A transformer's ControlNet with weights of chance."""
    torch.manual_seed(0)
    made = kind.from_transformer(transformer, **options)
    for parameter in made.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return made.eval()


@pytest.mark.parametrize(
    ("base", "kind", "network_kind", "options"),
    [
        (flux, FluxControlNetPipeline, FluxControlNetModel, {"attention_head_dim": 16, "num_attention_heads": 2, "num_layers": 1, "num_single_layers": 1}),
        (sd3, StableDiffusion3ControlNetPipeline, SD3ControlNetModel, {"num_layers": 1, "num_extra_conditioning_channels": 0}),
        (STANDINS_A["qwen_image"], QwenImageControlNetPipeline, QwenImageControlNetModel, {"num_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2}),
    ],
)  # fmt: skip
def test_controlnets_of_transformers_follow_their_pictures(base, kind, network_kind, options):
    pipe = base()
    extra = joint_network(network_kind, pipe.transformer, **options)
    pipe = put_on(pipe, kind, controlnet=extra)
    made = sdkit.generate(pipe, "a cat", control=LINES, control_scale=0.5, **QUICK)
    led = {"width": 32, "height": 32, "controlnet_conditioning_scale": 0.5}
    assert_equal(made, bare(pipe, control_image=LINES, **led))
    other = sdkit.generate(pipe, "a cat", control=PHOTO, control_scale=0.5, **QUICK)
    assert np.abs(other.latents - made.latents).max() > 1e-4, "the stand-in heeds no control"
    pair = sdkit.generate(pipe, ["a dog", "a cat"], control=LINES, control_scale=0.5, **QUICK)
    assert np.abs(pair[1].latents - made.latents).max() < 1e-4
    # some draw for the control picture before they draw the noise
    near = sdkit.variations(pipe, made, count=1, amount=1e-4, progress=False)
    assert np.abs(near.latents - made.latents).max() < 0.1
    walk = sdkit.interpolate(pipe, [made, pair[0]], frames=3, pacing="linear", progress=False)
    for frame, end in ((walk[0], made), (walk[2], pair[0])):
        assert np.abs(np.asarray(frame).astype(int) - np.asarray(end.image)).max() <= 1
    assert np.asarray(walk[1]).tolist() != np.asarray(walk[0]).tolist()


def test_a_transformers_controlnet_leads_from_a_picture():
    pipe = flux()
    sizes = {"attention_head_dim": 16, "num_attention_heads": 2}
    extra = joint_network(
        FluxControlNetModel, pipe.transformer, num_layers=1, num_single_layers=1, **sizes
    )
    pipe = put_on(pipe, FluxControlNetPipeline, controlnet=extra)
    made = sdkit.generate(pipe, "a cat", image=PHOTO, control=LINES, strength=1, **QUICK)
    again = put_on(pipe, FluxControlNetImg2ImgPipeline)
    options = {"image": PHOTO, "control_image": LINES, "width": 32, "height": 32, "strength": 1.0}
    assert_equal(made, bare(again, controlnet_conditioning_scale=1.0, **options))


# -- T2I-Adapter -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize(
    ("base", "kind"),
    [(sd15, StableDiffusionAdapterPipeline), (sdxl, StableDiffusionXLAdapterPipeline)],
)
def test_an_adapter_follows_its_picture_as_in_diffusers(base, kind, channels):
    pipe = put_on(base(), kind, adapter=adapter(channels))
    lines = LINES if channels == 3 else LINES.convert("L")
    options = {"image": lines, "width": 32, "height": 32}
    made = sdkit.generate(pipe, "a cat", control=lines, **QUICK)
    assert_equal(made, bare(pipe, **options))
    half = sdkit.generate(pipe, "a cat", control=lines, control_scale=0.5, **QUICK)
    assert_equal(half, bare(pipe, adapter_conditioning_scale=0.5, **options))
    assert np.abs(half.latents - made.latents).max() > 1e-3
    pair = sdkit.generate(pipe, ["a dog", "a cat"], control=lines, **QUICK)
    assert np.abs(pair[1].latents - made.latents).max() < 1e-4
    with pytest.raises(InvalidSettings, match=r"needs control=…"):
        sdkit.generate(pipe, "a cat", **QUICK)


def test_several_adapters_take_a_picture_each():
    several = MultiAdapter([adapter(seed=n) for n in range(2)]).eval()
    pipe = put_on(sd15(), StableDiffusionAdapterPipeline, adapter=several)
    made = sdkit.generate(pipe, "a cat", control=[LINES, PHOTO], control_scale=[1, 0.5], **QUICK)
    options = {"image": [LINES, PHOTO], "width": 32, "height": 32}
    assert_equal(made, bare(pipe, adapter_conditioning_scale=[1.0, 0.5], **options))
    evenly = sdkit.generate(pipe, "a cat", control=[LINES, PHOTO], **QUICK)
    assert_equal(evenly, bare(pipe, adapter_conditioning_scale=[1.0, 1.0], **options))
    pair = sdkit.generate(
        pipe, ["a dog", "a cat"], control=[LINES, PHOTO], control_scale=[1, 0.5], **QUICK
    )
    assert np.abs(pair[1].latents - made.latents).max() < 1e-4


# -- IP-Adapter ------------------------------------------------------------------------------------------------------


def seeing(pipe, adapters=1):
    """The pipeline with an encoder of pictures and IP-Adapters of chance."""
    torch.manual_seed(7)
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=24,
    )
    pipe.register_modules(
        image_encoder=CLIPVisionModelWithProjection(config).eval(),
        feature_extractor=CLIPImageProcessorPil(size=32, crop_size=32),
    )
    network, name = (
        (pipe.unet, "unet") if hasattr(pipe, "unet") else (pipe.transformer, "transformer")
    )
    weights = [(to_unet if name == "unet" else to_flux)(network) for _ in range(adapters)]
    network._load_ip_adapter_weights(weights)
    return quiet(pipe)


def projection(inner, wide):
    return {
        "proj.weight": torch.randn(4 * wide, inner),
        "proj.bias": torch.zeros(4 * wide),
        "norm.weight": torch.ones(wide),
        "norm.bias": torch.zeros(wide),
    }


def to_unet(unet):
    layers = {}
    order = list(unet.attn_processors)  # the keys count layers in this order
    shapes = [
        unet.get_submodule(n.removesuffix(".processor")).to_k.weight.shape
        for n in order
        if "attn2" in n
    ]
    for n, shape in enumerate(shapes):
        for half in ("k", "v"):
            layers[f"{2 * n + 1}.to_{half}_ip.weight"] = torch.randn(shape)
    return {"image_proj": projection(24, unet.config.cross_attention_dim), "ip_adapter": layers}


def to_flux(transformer):
    config = transformer.config
    inner = config.num_attention_heads * config.attention_head_dim
    layers = {}
    for n in range(config.num_layers):
        for half in ("k", "v"):
            layers[f"{n}.to_{half}_ip.weight"] = torch.randn(inner, config.joint_attention_dim)
            layers[f"{n}.to_{half}_ip.bias"] = torch.zeros(inner)
    return {"image_proj": projection(24, config.joint_attention_dim), "ip_adapter": layers}


@pytest.mark.parametrize("base", [sd15, sdxl, flux])
def test_an_ip_adapter_looks_at_its_reference_as_in_diffusers(base):
    pipe = seeing(base())
    made = sdkit.generate(pipe, "a cat", reference=LOOK, **QUICK)
    size = {"width": 32, "height": 32}
    assert_equal(made, bare(pipe, ip_adapter_image=LOOK, **size))
    other = sdkit.generate(pipe, "a cat", reference=PHOTO, **QUICK)
    assert np.abs(other.latents - made.latents).max() > 1e-4, "the stand-in looks at nothing"
    assert_equal(sdkit.generate(pipe, made, progress=False), np.asarray(made.image))
    pair = sdkit.generate(pipe, ["a dog", "a cat"], reference=LOOK, **QUICK)
    assert np.abs(pair[1].latents - made.latents).max() < 1e-4
    assert made.settings.additions.startswith("IP-Adapter ×1 (")
    traced = sdkit.generate(pipe, "a cat", reference=LOOK, trace=True, **QUICK)
    same = sdkit.fork(pipe, traced.trace, 1, progress=False)
    np.testing.assert_allclose(same.latents, made.latents, atol=2e-2)
    walk = sdkit.interpolate(pipe, [made, "a dog"], frames=2, batch_size=1, **QUICK)
    assert np.abs(np.asarray(walk[0]).astype(int) - np.asarray(made.image)).max() <= 1
    with pytest.raises(
        InvalidSettings, match=r"made with a reference picture; give it as reference=…"
    ):
        sdkit.generate(pipe, made.settings, progress=False)
    with pytest.raises(InvalidSettings, match=r"has 1 IP-Adapter, and reference= has 0 pictures"):
        sdkit.generate(pipe, "a cat", **QUICK)


def test_references_of_several_adapters_and_beside_a_source():
    pipe = seeing(sd15(), adapters=2)
    pipe.set_ip_adapter_scale([0.5, 1.0])
    made = sdkit.generate(pipe, "a cat", reference=[LOOK, PHOTO], **QUICK)
    assert_equal(made, bare(pipe, ip_adapter_image=[LOOK, PHOTO], width=32, height=32))
    assert made.settings.additions.startswith("IP-Adapter ×0.5+1 (")
    again = put_on(pipe, StableDiffusionImg2ImgPipeline)
    started = sdkit.generate(
        pipe, "a cat", image=LINES, strength=1, reference=[LOOK, PHOTO], **QUICK
    )
    assert_equal(started, bare(again, image=LINES, strength=1.0, ip_adapter_image=[LOOK, PHOTO]))


def test_workers_have_no_adapters(led):
    for pipe in (seeing(sd15()), led):
        with pytest.raises(InvalidSettings, match="which workers do not have"):
            model_of(pipe)
    with (
        ThreadPoolExecutor(1) as pool,
        pytest.raises(InvalidSettings, match="without ControlNets and adapters"),
    ):
        sdkit.sweep(led, "a cat", x={"seed": [1, 2]}, control=LINES, executor=pool, **QUICK)


# -- what cannot act -------------------------------------------------------------------------------------------------


def test_what_cannot_lead_is_one_sentence_before_the_run(led):
    def never(*_):
        raise AssertionError("a step was run")

    plain = quiet(sd15())
    for pipe, options, sentence in (
        (led, {}, r"StableDiffusionControlNetPipeline needs control=…\."),
        (plain, {"control": LINES}, "StableDiffusionPipeline takes no control picture"),
        (
            led,
            {"control": [LINES, LINES]},
            "follows 1 control picture, and control= has 2",
        ),
        (led, {"control": 7}, "control is of type int; give a PIL image"),
        (led, {"control": [LINES, 7]}, r"control\[1\] is of type int"),
        (plain, {"control_scale": 0.5}, "control_scale=0.5 says how strongly a control picture"),
        (led, {"control": LINES, "control_scale": [1, 2]}, "has 2 numbers for 1 control picture"),
        (plain, {"reference": LOOK}, r"has no IP-Adapter .* call pipe.load_ip_adapter"),
        (plain, {"fit": "pad"}, "fit='pad' says how an image gets into the size"),
    ):
        with pytest.raises(InvalidSettings, match=sentence):
            sdkit.generate(pipe, "a cat", on_step=never, **options, **QUICK)
