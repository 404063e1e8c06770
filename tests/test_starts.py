"""Pictures to start from and holes to fill, of every family: diffusers' own image-to-image and inpainting, to the bit."""

import numpy as np
import pytest
import standins
from families import flux, sd3, sdxl
from standins import bare_start, hole, noisy

import sdkit
from sdkit.errors import InvalidSettings
from sdkit.pipelines.starting import starter

STARTS = {
    "sd15": "StableDiffusionImg2ImgPipeline",
    "sdxl": "StableDiffusionXLImg2ImgPipeline",
    "sd3": "StableDiffusion3Img2ImgPipeline",
    "flux": "FluxImg2ImgPipeline",
    "flux2_klein": "Flux2KleinPipeline",
    "z_image": "ZImageImg2ImgPipeline",
    "qwen_image": "QwenImageImg2ImgPipeline",
    "flux2": "Flux2Pipeline",
    "chroma": "ChromaImg2ImgPipeline",
    "lcm": "LatentConsistencyModelImg2ImgPipeline",
    "flux2_klein_kv": "Flux2KleinKVPipeline",
    "sd15_pag": "StableDiffusionPAGImg2ImgPipeline",
    "sdxl_pag": "StableDiffusionXLPAGImg2ImgPipeline",
    "kandinsky3": "Kandinsky3Img2ImgPipeline",
    "kandinsky": "KandinskyImg2ImgCombinedPipeline",
    "kandinsky22": "KandinskyV22Img2ImgCombinedPipeline",
    "deepfloyd": "IFImg2ImgPipeline",
    "kolors": "KolorsImg2ImgPipeline",
    "qwen_image21": "QwenImage21Pipeline",
    "dream-lite": "DreamLitePipeline",
    "dream-lite-mobile": "DreamLiteMobilePipeline",
}
HOLES = {
    "sd15": "StableDiffusionInpaintPipeline",
    "sdxl": "StableDiffusionXLInpaintPipeline",
    "sd3": "StableDiffusion3InpaintPipeline",
    "flux": "FluxInpaintPipeline",
    "flux2_klein": "Flux2KleinInpaintPipeline",
    "z_image": "ZImageInpaintPipeline",
    "qwen_image": "QwenImageInpaintPipeline",
    "sd15_pag": "StableDiffusionPAGInpaintPipeline",
    "sdxl_pag": "StableDiffusionXLPAGInpaintPipeline",
    "deepfloyd": "IFInpaintingPipeline",
}


@pytest.fixture(scope="module", params=standins.EVERY)
def family(request):
    side = max(standins.side_of(request.param), 64 if "flux2" in request.param else 0)
    return request.param, standins.build(request.param), (side, side)


def check(pipe, size, kind, **given):
    options = {"steps": 3, "width": size[0], "height": size[1], "seed": 3, "progress": False}
    task = "inpainting" if "mask" in given else "image-to-image"
    if kind is None:
        with pytest.raises(InvalidSettings, match=f"Pipeline does no {task}, for which diffusers"):
            sdkit.generate(pipe, "a cat", **given, **options)
        return
    other = starter(pipe, task)
    assert type(other).__name__ == kind
    made = sdkit.generate(pipe, "a cat", **given, **options)
    assert made.settings.task == task
    expected = bare_start(other, made.settings, *given.values())
    np.testing.assert_array_equal(np.asarray(made.image.convert("RGB")), np.asarray(expected))


def test_a_picture_to_start_from(family):
    name, pipe, size = family
    check(pipe, size, STARTS.get(name), image=noisy(1, size))


def test_a_hole_to_fill(family):
    name, pipe, size = family
    check(pipe, size, HOLES.get(name), image=noisy(1, size), mask=hole(size))


# -- what transformers carry as tokens, and sizes that are not the model's own ------------------------------------------


@pytest.mark.parametrize("name", ["sd3", "flux", "qwen_image", "z_image", "chroma", "flux2"])
def test_another_size_batches_and_traces(name):
    pipe, size = standins.build(name), (96, 64)
    image, mask = noisy(1, size), hole(size)
    check(pipe, size, STARTS[name], image=image)
    check(pipe, size, HOLES.get(name), image=image, mask=mask)
    options = {"image": image, "steps": 3, "seed": 3, "width": 96, "height": 64, "progress": False}
    alone = sdkit.generate(pipe, "a cat", **options)
    assert alone.image.size == size
    pair = sdkit.generate(pipe, ["a red dog", "a cat"], **options)
    assert np.abs(pair[1].latents - alone.latents).max() < 1e-3
    traced = sdkit.generate(pipe, "a cat", trace=True, **options)
    np.testing.assert_array_equal(traced.latents, alone.latents)
    assert traced.trace.latents.shape[1:] == alone.latents.shape[1:]
    other = sdkit.generate(pipe, "a cat", **{**options, "image": noisy(2, size)})
    assert np.abs(other.latents - alone.latents).max() > 1e-3, "the source changes nothing"


@pytest.mark.parametrize("name", ["sd3", "flux", "qwen_image", "flux2"])
def test_walks_from_a_picture(name):
    pipe, size = standins.build(name), (64, 64)
    options = {"image": noisy(1, size), "steps": 3, "seed": 3, "width": 64, "height": 64, "progress": False}  # fmt: skip
    walk = sdkit.interpolate(pipe, ["a cat", "a red dog"], frames=3, pacing="linear", **options)
    for place, prompt in ((0, "a cat"), (-1, "a red dog")):
        alone = sdkit.generate(pipe, prompt, **options)
        np.testing.assert_allclose(np.float32(walk[place]), np.float32(alone.image), atol=1)


# -- editing: the picture is looked at ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["qwen_image21", "dream-lite", "dream-lite-mobile"])
def test_a_processor_without_eyes_is_told_before_the_run(name):
    pipe = standins.build(name)
    pipe.processor.image_processor = None
    with pytest.raises(InvalidSettings, match="processor has no part that looks at pictures"):
        sdkit.generate(pipe, "a cat", image=noisy(1, (32, 32)), steps=1, progress=False)


def test_editing_has_no_strength():
    pipe = standins.build("flux2")
    size = (64, 64)
    options = {"steps": 2, "width": 64, "height": 64, "progress": False}
    made = sdkit.generate(pipe, "a cat", image=noisy(1, size), **options)
    assert made.settings.strength == 1
    again = sdkit.generate(pipe, made, progress=False)
    np.testing.assert_array_equal(again.latents, made.latents)
    with pytest.raises(InvalidSettings, match=r"strength=0.3 has no meaning for Flux2Pipeline"):
        sdkit.generate(pipe, "a cat", image=noisy(1, size), strength=0.3, **options)
    with pytest.raises(InvalidSettings, match=r"cannot take this image: Image too small: 32×32"):
        sdkit.generate(
            pipe, "a cat", image=noisy(1, size), **{**options, "width": 32, "height": 32}
        )


@pytest.mark.parametrize("base", [sd3, flux, sdxl])
def test_pipelines_that_only_start_from_pictures_start_as_the_others(base):
    pipe = base()
    pipe.set_progress_bar_config(disable=True)
    other = starter(pipe, "image-to-image")
    options = {
        "image": noisy(1, (32, 32)),
        "steps": 2,
        "width": 32,
        "height": 32,
        "progress": False,
    }
    made = sdkit.generate(pipe, "a cat", **options)
    guidance = {"guidance_scale": made.settings.guidance_scale}
    np.testing.assert_array_equal(
        sdkit.generate(other, "a cat", **guidance, **options).latents, made.latents
    )


def test_a_picture_in_a_size_of_the_models_own_is_filled_in_all_the_same():
    pipe = standins.build("deepfloyd")
    size = (64, 64)
    options = {"steps": 3, "width": 64, "height": 64, "progress": False}
    made = sdkit.generate(pipe, "a cat", image=noisy(1, size), mask=hole(size), **options)
    assert made.image.size == (32, 32)
    kept = np.asarray(hole(size).resize((32, 32))) == 0
    source = np.asarray(noisy(1, size).resize((32, 32)))
    np.testing.assert_array_equal(np.asarray(made.image)[kept], source[kept])


def test_a_hole_is_filled_whatever_the_number_of_latent_channels(tiny):
    """Diffusers' classes take four; Pocket at 128 pixels has 24."""
    from dataclasses import replace

    from PIL import Image

    from sdkit.pocket.train import assemble
    from sdkit.pocket.training.presets import PRESETS, build_autoencoder, build_unet

    preset = replace(PRESETS["tiny"], latents=6)
    pipe = assemble(
        build_autoencoder(preset), tiny.text_encoder, tiny.tokenizer, build_unet(preset)
    )
    size = (64, 64)
    mask = Image.new("L", size)
    mask.paste(255, (32, 0, 64, 64))
    options = {"image": noisy(0, size), "mask": mask, "steps": 3, "seed": 3, "progress": False}
    one, other = (sdkit.generate(pipe, words, **options) for words in ("a cat", "a dog on grass"))
    half = one.latents.shape[-1] // 2
    assert one.latents.shape[1] == 6
    np.testing.assert_array_equal(one.latents[..., :half], other.latents[..., :half])
    assert not np.array_equal(one.latents[..., half:], other.latents[..., half:])
    assert pipe.unet.config.in_channels == 6

    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sdkit.generate(pipe, "a cat", on_step=stop, **options)
    assert pipe.unet.config.in_channels == 6
    with pytest.raises(ValueError, match="4 or 9 input channels"):  # what diffusers says itself
        starter(pipe, "inpainting")("a cat", image=noisy(0, size), mask_image=mask)
