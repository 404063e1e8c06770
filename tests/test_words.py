"""What a model will not follow of somebody's words is said before it runs."""

import pytest
import torch
from families import flux, sd3, sd15
from standins_a import STANDINS_A

import sdkit
from sdkit.errors import CannotCapture, InvalidSettings
from sdkit.experiments.editing import _swapped
from sdkit.generation import PromptWarning, largest
from sdkit.models.words import cautions
from sdkit.pipelines.run import lock_of
from sdkit.settings import Settings

LONG = "a cat and a dog " * 40


def told(pipe, prompt, negative="", guidance=5.0):
    return cautions(pipe, [Settings(prompt, negative_prompt=negative, guidance_scale=guidance)])


@pytest.fixture(scope="module")
def pipe():
    made = sd15()
    made.set_progress_bar_config(disable=True)
    return made


# -- D: settings that cannot act ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "sign"),
    [
        ("a (red:1.3) car", "'(red:1.3)' in the prompt"),
        ("a [cat:dog:0.5]", "'[cat:dog:0.5]' in the prompt"),
        ("a cat <lora:style:0.8>", "'<lora:style:0.8>' in the prompt"),
        ("a cat AND a dog", "'AND' in the prompt"),
        ("a ((red)) car", "'((red))' in the prompt"),
        ("a {{red}} car", "'{{red}}' in the prompt"),
        ("a red++ car", "'red++' in the prompt"),
        ("a red::2 car", "'red::2' in the prompt"),
        ("a {cat|dog}", "'{cat|dog}' in the prompt"),
        ("a [cat|dog]", "'[cat|dog]' in the prompt"),
        ("a __animal__", "'__animal__' in the prompt"),
        ("a cat, embedding:mine", "'embedding:mine' in the prompt"),
        ("a cat --ar 16:9", "'--ar 16:9' in the prompt"),
        ("a cat BREAK a dog", "'BREAK' in the prompt"),
    ],
)
def test_what_other_programs_read_in_a_prompt(pipe, prompt, sign):
    (note,) = told(pipe, prompt)
    assert note.startswith(sign)
    assert "plain word" in note


@pytest.mark.parametrize(
    "prompt",
    ["a cat and a dog", "a cat (small)", "at 10:30 [sic]", "ratio 3:2", "a C++ book -- red", ""],
)
def test_plain_words_are_no_other_programs(pipe, prompt):
    assert told(pipe, prompt) == []


def test_a_negative_prompt_without_guidance_says_so(pipe):
    (note,) = told(pipe, "a cat", "red", guidance=1.0)
    assert note.startswith("The negative prompt has no effect, because guidance_scale is 1")
    assert told(pipe, "a cat", "red", guidance=3.0) == []


def test_a_negative_prompt_on_a_model_that_ignores_it_says_so():
    (note,) = told(STANDINS_A["flux2"](), "a cat", "red")
    assert note.startswith("Flux2Pipeline takes no negative prompt")
    (note,) = told(flux(), "a cat", "red")
    assert note.startswith("The negative prompt has no effect in FluxPipeline without true_cfg")


def test_a_negative_prompt_that_is_cut_off_says_so(pipe):
    (note,) = told(pipe, "a cat", LONG)
    assert note.startswith("The negative prompt has")
    assert "its end is not seen" in note


def test_the_notes_are_warned_of_and_kept(pipe):
    options = {"steps": 1, "width": 32, "height": 32, "progress": False}
    with pytest.warns(PromptWarning, match="has no effect"):
        made = sdkit.generate(pipe, "a cat", negative_prompt="red", guidance_scale=1, **options)
    assert any("has no effect" in note for note in made.notes)


# -- E: words that a second encoder reads on ---------------------------------------------------------------------------


def test_long_prompts_are_cut_off_by_one_encoder_and_read_on_by_another(pipe):
    assert "its end is not seen" in told(pipe, LONG)[0]
    assert told(flux(), LONG) == []
    assert told(sd3(), LONG) == []


# -- bugs found by reading ---------------------------------------------------------------------------------------------


def test_words_that_are_swapped_change_places():
    assert _swapped("a cat and a dog", {"cat": "dog", "dog": "cat"}) == "a dog and a cat"
    assert _swapped("a Cat", {"cat": "red fox"}) == "a red fox"
    with pytest.raises(InvalidSettings, match="'bus' does not stand in the prompt"):
        _swapped("a cat", {"bus": "car"})


def test_pipelines_that_share_a_network_share_a_lock(pipe):
    from diffusers import AutoPipelineForImage2Image

    assert lock_of(AutoPipelineForImage2Image.from_pipe(pipe)) is lock_of(pipe)
    assert lock_of(sd15()) is not lock_of(pipe)


def test_the_largest_picture_decides_how_many_are_made_together():
    sizes = [
        Settings(width=64, height=64),
        Settings(width=512, height=128),
        Settings(width=128, height=128),
    ]
    assert largest(sizes) is sizes[1]


def test_attention_on_a_kernel_that_cannot_be_read_is_refused_by_name():
    pipe = flux()
    for module in pipe.transformer.modules():
        if hasattr(getattr(module, "processor", None), "_attention_backend"):
            module.processor._attention_backend = "flex"
    with pytest.raises(CannotCapture, match="attention backend 'flex'"):
        sdkit.capture_attention(pipe)


def test_a_checkpoint_that_lacks_weights_is_refused_however_quiet_transformers_is(tmp_path, pipe):
    from safetensors.torch import load_file, save_file
    from transformers.utils import logging

    pipe.save_pretrained(tmp_path)
    file = next((tmp_path / "text_encoder").glob("*.safetensors"))
    weights = load_file(file)
    weights.pop(next(name for name in weights if name.endswith("fc1.weight")))
    save_file(
        {name: torch.clone(t) for name, t in weights.items()}, file, metadata={"format": "pt"}
    )
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with pytest.raises(sdkit.SdkitError, match="lacks weights"):
            sdkit.load(tmp_path, device="cpu")
        assert logging.get_verbosity() == logging.ERROR
    finally:
        logging.set_verbosity(level)


# -- I: pipelines that want more than words ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("StableDiffusionImg2ImgPipeline", r"StableDiffusionImg2ImgPipeline needs image=…\."),
        (
            "StableDiffusionInpaintPipeline",
            r"StableDiffusionInpaintPipeline needs image=… and mask=…\.",
        ),
        (
            "StableDiffusionControlNetPipeline",
            r"StableDiffusionControlNetPipeline needs control=…\.",
        ),
    ],
)
def test_pipelines_that_want_more_than_words_say_so(pipe, kind, sentence):
    import diffusers

    more = {}
    if "ControlNet" in kind:
        more["controlnet"] = diffusers.ControlNetModel.from_unet(pipe.unet)
    other = getattr(diffusers, kind).from_pipe(pipe, **more)
    with pytest.raises(InvalidSettings, match=sentence):
        sdkit.generate(other, "a cat", steps=1, width=32, height=32, progress=False)


def test_a_pipeline_that_only_starts_from_pictures_does_that(pipe):
    from diffusers import StableDiffusionImg2ImgPipeline
    from PIL import Image

    other = StableDiffusionImg2ImgPipeline.from_pipe(pipe)
    made = sdkit.generate(
        other, "a cat", image=Image.new("RGB", (32, 32), "red"), steps=2, strength=1, progress=False
    )
    assert made.settings.task == "image-to-image"


def test_pictographs_that_pocket_never_saw_are_named():
    assert list(sdkit.pocket.unknown_words("a 🐱, 3 cats & a dog!")) == ["🐱"]


def test_strength_without_a_picture_says_so(pipe):
    with pytest.warns(PromptWarning, match=r"strength=0\.5 has no effect without a picture"):
        sdkit.generate(pipe, "a cat", strength=0.5, steps=1, width=32, height=32, progress=False)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"guidence": 3}, "did you mean 'guidance_scale'"),
        ({"num_images_per_prompt": 2}, "give count=… to generate"),
        ({"eta": 0.5}, "use one of prompt, negative_prompt, seed"),
        ({"scheduler": object.__new__(type("DDIMScheduler", (), {}))}, "set pipe.scheduler"),
        ({"count": 1.5}, "count is 1.5; ask for 1 picture or more, a whole number"),
        ({"batch_size": 1.5}, "batch_size is 1.5"),
    ],
)
def test_what_is_no_setting_is_answered_by_what_is(pipe, changes, sentence):
    with pytest.raises(InvalidSettings) as told:
        sdkit.generate(pipe, "a cat", **changes)
    assert sentence in str(told.value)
    assert "licence" not in str(told.value)


def test_a_pipeline_in_the_place_of_words_is_named_in_short(pipe):
    with pytest.raises(
        InvalidSettings, match="prompt is of type StableDiffusionPipeline; give words"
    ):
        sdkit.generate(pipe, pipe)


def test_axes_and_keyframes_that_would_repeat_pictures_are_refused(pipe):
    with pytest.raises(InvalidSettings, match="negative_prompt needs guidance"):
        sdkit.sweep(pipe, "a cat", x={"negative_prompt": ["red", "blue"]}, guidance_scale=1.0)
    with pytest.raises(InvalidSettings, match="All 2 keyframes are the same"):
        sdkit.interpolate(pipe, ["a cat", "a cat"], frames=3)
