"""Whose model it was and under which licence; what its safety checker said; what a saved picture tells others."""

import json
import shutil
import warnings
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from families import sd15
from PIL import Image
from safetensors.torch import save_file

import sdkit
from sdkit.errors import ModelNotFound, UnsafeCheckpoint
from sdkit.generation import FlaggedWarning
from sdkit.models import licences
from sdkit.models.licences import Licence, licence_of, tell

QUICK = {"steps": 2, "width": 32, "height": 32, "progress": False}
RAIL = "CreativeML Open RAIL-M"


# -- licence -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("models") / "plain"
    sd15().save_pretrained(place)
    return place


@pytest.fixture
def card(tmp_path):
    def write(text):
        licence_of.cache_clear()
        (tmp_path / "README.md").write_text(text, encoding="utf-8")
        return tmp_path

    return write


def test_the_model_card_says_the_licence(folder, tmp_path, capsys):
    place = tmp_path / "with-card"
    shutil.copytree(folder, place)
    (place / "README.md").write_text(
        "---\nlicense: creativeml-openrail-m\ntags: [art]\n---\n# A model\n"
    )
    pipe = sdkit.load(place, device="cpu")
    told = capsys.readouterr().out
    assert told.startswith(
        f"Licence of with-card: {RAIL} · https://huggingface.co/spaces/CompVis/stable-diffusion-license"
    )
    assert "forbids breaking the law, harm to minors" in told
    assert told.count("\n") == 1
    r = sdkit.generate(pipe, "a cat", **QUICK)
    assert (r.settings.model, r.settings.licence) == ("with-card", RAIL)
    assert sdkit.load_result(r.save(tmp_path / "cat.webp")).settings == r.settings
    sdkit.load(place, device="cpu")
    assert capsys.readouterr().out == ""  # once


def test_nothing_is_guessed(folder, capsys):
    licences._told.clear()
    pipe = sdkit.load(folder, device="cpu")
    assert capsys.readouterr().out == (
        "Licence of plain: not stated in its files; look it up before you publish or sell pictures\n"
    )
    assert sdkit.generate(pipe, "a cat", **QUICK).settings.licence is None


def test_pocket_says_nothing_and_records_its_licence(pocket, capsys):
    r = sdkit.generate(pocket, "a cat", **QUICK)
    assert (r.settings.model, r.settings.revision, r.settings.licence) == (
        "pocket",
        None,
        "Apache 2.0",
    )
    assert "Licence" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("---\nlicense: openrail++\n---\n", "CreativeML Open RAIL++-M"),
        ("---\nlicense: other\nlicense_name: flux-1-dev-non-commercial-license\nlicense_link: LICENSE.md\n---\n", "FLUX.1 [dev] Non-Commercial License"),
        ("---\nlicense: other\nlicense_name: my-own\nlicense_link: ./LICENCE\n---\n", Licence("my-own", "https://huggingface.co/a/b/blob/main/LICENCE")),
        ("---\nlicense: other\nlicense_name: my-own\nlicense_link: https://me.example/l\n---\n", Licence("my-own", "https://me.example/l")),
        ("---\nlicense: [mit, apache-2.0]\n---\n", Licence("mit, apache-2.0")),
        ("---\nlicense: other\n---\n", None),
        ("---\nlicense: !!python/object/apply:os.system ['true']\n---\n", None),
        ('---\nlicense: "a\\e[31m\\nb\\ud800"\n---\n', Licence("a [31m b")),
        ("# only words\n", None),
        ("---\n: : :\n---\n", None),
        ("---\nlicense: mit\n---\n" + "x" * (1 << 20), None),
    ],
)  # fmt: skip
def test_cards_of_many_kinds(card, text, expected):
    found = licence_of("a/b", card(text))
    assert (found.name if isinstance(expected, str) else found) == expected


def test_well_known_models_need_no_card(tmp_path):
    assert licence_of("stable-diffusion-v1-5/stable-diffusion-v1-5").name == RAIL
    assert (
        licence_of("stabilityai/stable-diffusion-3.5-medium", tmp_path).link
        == "https://stability.ai/license"
    )
    assert licence_of("somebody/else") is None


def test_the_header_of_a_single_file_may_say_it(tmp_path):
    save_file(
        {"w": torch.zeros(1)},
        tmp_path / "a.safetensors",
        metadata={"modelspec.license": "OpenRAIL++"},
    )
    save_file({"w": torch.zeros(1)}, tmp_path / "b.safetensors")
    assert (
        licence_of("a.safetensors", tmp_path / "a.safetensors").name == "CreativeML Open RAIL++-M"
    )
    assert licence_of("b.safetensors", tmp_path / "b.safetensors") is None


def test_a_licence_is_told_once(capsys):
    licences._told.discard("x/y")
    for _ in range(2):
        tell("x/y", Licence("MIT", "https://opensource.org/license/mit"))
    assert capsys.readouterr().out == "Licence of x/y: MIT · https://opensource.org/license/mit\n"


# -- the safety checker --------------------------------------------------------------------------------------------


def checker(threshold):
    """A safety checker of the real class with random weights; what is more alike than `threshold` is flagged."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPTextConfig, CLIPVisionConfig

    torch.manual_seed(0)
    small = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    vision = CLIPVisionConfig(**small, image_size=32, patch_size=16)
    text = CLIPTextConfig(**small, vocab_size=50)
    made = StableDiffusionSafetyChecker(
        CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    ).eval()
    with torch.no_grad():
        for name in ("concept_embeds", "special_care_embeds"):
            getattr(made, name).normal_()
            getattr(made, f"{name}_weights").fill_(threshold)
    return made


def checked(threshold):
    from transformers import CLIPImageProcessor

    pipe = sd15()
    pipe.register_modules(
        safety_checker=checker(threshold),
        feature_extractor=CLIPImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        ),
    )
    pipe.register_to_config(requires_safety_checker=True)
    return pipe


@pytest.fixture(scope="module")
def shipping(tmp_path_factory):
    """A checkpoint that ships a safety checker which flags everything."""
    place = tmp_path_factory.mktemp("models") / "checked"
    checked(-2.0).save_pretrained(place)
    return place


def test_the_checker_that_is_shipped_stays_on(shipping, tmp_path):
    pipe = sdkit.load(shipping, device="cpu")
    with pytest.warns(
        FlaggedWarning, match="flagged and blanked 2 of 2 pictures; try another"
    ) as told:
        r = sdkit.generate(pipe, "a cat", count=2, seed=4, **QUICK)
    assert len([w for w in told if issubclass(w.category, FlaggedWarning)]) == 1
    assert r.flagged
    assert np.asarray(r.image).max() == 0
    assert r[1].notes == (
        "The model's safety checker flagged this picture (seed 5) and blanked it.",
    )
    assert "checker flagged this picture (seed 4)" in r._repr_mimebundle_()["text/html"]
    for suffix in ("png", "jpg", "webp"):
        again = sdkit.load_result(r[0].save(tmp_path / f"cat.{suffix}"))
        assert again.flagged
        assert again.notes == r[0].notes


def test_a_harmless_picture_is_not_flagged(tmp_path):
    r = sdkit.generate(checked(2.0), "a cat", **QUICK)
    assert (r.flagged, r.notes) == (False, ())
    assert np.asarray(r.image).max() > 0
    assert not sdkit.load_result(r.save(tmp_path / "cat.png")).flagged


def test_a_walk_warns_once_of_flagged_frames(shipping):
    pipe = sdkit.load(shipping, device="cpu")
    with pytest.warns(FlaggedWarning, match="3 of 3 pictures") as told:
        sdkit.interpolate(pipe, ["a cat", "a fox"], frames=3, pacing="linear", **QUICK)
    assert len([w for w in told if issubclass(w.category, FlaggedWarning)]) == 1


def test_the_checker_is_turned_off_by_name_only(shipping):
    pipe = sdkit.load(shipping, device="cpu", safety_checker=False)
    assert pipe.safety_checker is None
    with warnings.catch_warnings():
        warnings.simplefilter("error", FlaggedWarning)
        assert not sdkit.generate(pipe, "a cat", **QUICK).flagged
    assert sdkit.load(shipping, device="cpu", safety_checker=True).safety_checker is not None


def test_a_checker_that_cannot_load_is_an_error(shipping, folder, tmp_path):
    with pytest.raises(ModelNotFound, match=r"plain' ships no safety checker"):
        sdkit.load(folder, safety_checker=True)
    with pytest.raises(ModelNotFound, match="'pocket' ships no safety checker"):
        sdkit.load(safety_checker=True)
    save_file({"w": torch.zeros(1)}, tmp_path / "one.safetensors")
    with pytest.raises(ModelNotFound, match="is a single file, which holds no safety checker"):
        sdkit.load(tmp_path / "one.safetensors", safety_checker=True)
    for damage, sentence in (
        (_cut, "damaged"),
        (_remove, "lacks its part 'safety_checker'"),
        (_pickle, "only a pickle"),
    ):
        place = tmp_path / damage.__name__
        shutil.copytree(shipping, place)
        damage(place / "safety_checker")
        with pytest.raises((ModelNotFound, UnsafeCheckpoint), match=sentence):
            sdkit.load(place)
        assert sdkit.load(place, device="cpu", safety_checker=False).safety_checker is None


def _cut(part):
    file = next(part.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:500])


def _remove(part):
    shutil.rmtree(part)


def _pickle(part):
    next(part.glob("*.safetensors")).unlink()
    (part / "pytorch_model.bin").write_bytes(b"x")


def test_weights_that_are_missing_from_a_checker_are_not_made_up(shipping, tmp_path):
    from safetensors.torch import load_file

    place = tmp_path / "holes"
    shutil.copytree(shipping, place)
    file = next((place / "safety_checker").glob("*.safetensors"))
    save_file(
        {k: v for k, v in load_file(file).items() if "concept_embeds" not in k},
        file,
        metadata={"format": "pt"},
    )
    with pytest.raises(ModelNotFound, match="'safety_checker' lacks weights"):
        sdkit.load(place)


# -- what a saved picture tells ------------------------------------------------------------------------------------

SOURCE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
NEWSCODES = "http://cv.iptc.org/newscodes/digitalsourcetype/"


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize("task", ["text-to-image", "image-to-image", "inpainting"])
def test_pictures_carry_iptcs_mark(tiny, tmp_path, suffix, task):
    sources = {
        "text-to-image": {},
        "image-to-image": {"image": Image.new("RGB", (32, 32), "teal")},
        "inpainting": {
            "image": Image.new("RGB", (32, 32), "teal"),
            "mask": Image.new("L", (32, 32), 255),
        },
    }[task]
    path = sdkit.generate(tiny, "a cat", **QUICK | {"strength": 1.0}, **sources).save(
        tmp_path / f"cat.{suffix}"
    )
    data = path.read_bytes()
    packet = data[data.index(b"<x:xmpmeta") : data.index(b"</x:xmpmeta>") + len(b"</x:xmpmeta>")]
    marks = [node.get(SOURCE) for node in ET.fromstring(packet).iter() if node.get(SOURCE)]
    kind = (
        "compositeWithTrainedAlgorithmicMedia"
        if task == "inpainting"
        else "trainedAlgorithmicMedia"
    )
    assert marks == [NEWSCODES + kind]


def test_json_in_a_saved_picture_names_the_model(folder, tmp_path):
    pipe = sdkit.load(folder, device="cpu")
    with Image.open(sdkit.generate(pipe, "a cat", **QUICK).save(tmp_path / "cat.png")) as image:
        settings = json.loads(image.info["sdkit"])["settings"]
    assert (settings["model"], settings["revision"], settings["licence"]) == ("plain", None, None)
