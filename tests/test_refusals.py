"""No file that sdkit or diffusers is handed through it can run code: at every door, a canary that must stay silent."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from families import sd15
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file

import sdkit
from sdkit.errors import BadPicture, ModelNotFound, SdkitError, UnsafeCheckpoint
from sdkit.walks.walk import Walk

QUICK = {"steps": 2, "width": 32, "height": 32, "progress": False}


class Bomb:
    """What unpickles into an open file: if anything opens it, the file is there."""

    def __init__(self, canary):
        self.canary = str(canary)

    def __reduce__(self):
        return (open, (self.canary, "w"))


@pytest.fixture
def canary(tmp_path):
    place = tmp_path / "the-canary-sang"
    yield place
    assert not place.exists()


def explosive(file, canary, how):
    """A pickle in one of the ways that weights are pickled."""
    if how == "plain":
        file.write_bytes(pickle.dumps(Bomb(canary)))
    else:
        torch.save({"state_dict": Bomb(canary)}, file)
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("models") / "mine"
    sd15().save_pretrained(place)
    return place


def test_the_canary_sings_where_a_pickle_is_opened(tmp_path):
    file = explosive(tmp_path / "a.pkl", tmp_path / "sang", "plain")
    pickle.loads(file.read_bytes()).close()
    assert (tmp_path / "sang").exists()


@pytest.mark.parametrize("how", ["plain", "torch"])
@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin", ".safetensors"])
def test_models_and_autoencoders_in_a_file(folder, tmp_path, canary, suffix, how):
    file = explosive(tmp_path / f"model{suffix}", canary, how)
    for load in (lambda: sdkit.load(file), lambda: sdkit.load(folder, vae=file, device="cpu")):
        with pytest.raises((UnsafeCheckpoint, ModelNotFound)):
            load()


PARTS = {
    "unet": "diffusion_pytorch_model.bin",
    "vae": "diffusion_pytorch_model.bin",
    "text_encoder": "pytorch_model.bin",
}


@pytest.mark.parametrize("how", ["plain", "torch"])
@pytest.mark.parametrize("part", PARTS)
def test_parts_of_a_folder(folder, tmp_path, canary, part, how):
    place = tmp_path / "mine"
    shutil.copytree(folder, place)
    for file in (place / part).glob("*.safetensors"):
        file.unlink()
    explosive(place / part / PARTS[part], canary, how)
    with pytest.raises(UnsafeCheckpoint, match=f"mine/{part} holds only a pickle"):
        sdkit.load(place)


def test_a_pickle_beside_whole_weights_is_not_opened(folder, tmp_path, canary):
    place = tmp_path / "mine"
    shutil.copytree(folder, place)
    for part, name in PARTS.items():
        explosive(place / part / name, canary, "torch")
    assert sdkit.load(place, device="cpu") is not None


def test_an_autoencoders_folder(folder, tmp_path, canary):
    place = tmp_path / "vae"
    shutil.copytree(folder / "vae", place)
    next(place.glob("*.safetensors")).unlink()
    explosive(place / "diffusion_pytorch_model.bin", canary, "torch")
    with pytest.raises(UnsafeCheckpoint, match="offers no safetensors weights"):
        sdkit.load(folder, vae=place, device="cpu")


def test_the_configuration_of_a_single_file(folder, tmp_path, canary):
    save_file(
        {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)},
        tmp_path / "one.safetensors",
    )
    place = tmp_path / "config"
    shutil.copytree(folder, place, ignore=shutil.ignore_patterns("*.safetensors"))
    explosive(place / "text_encoder" / "pytorch_model.bin", canary, "torch")
    with pytest.raises(UnsafeCheckpoint, match="config/text_encoder holds only a pickle"):
        sdkit.load(tmp_path / "one.safetensors", config=place)


@pytest.mark.parametrize("how", ["plain", "torch"])
@pytest.mark.parametrize("strict", [True, None])
@pytest.mark.parametrize("suffix", [".bin", ".pt", ".safetensors"])
def test_loras_and_embeddings_through_diffusers(tiny, tmp_path, canary, suffix, strict, how):
    file = explosive(tmp_path / f"extra{suffix}", canary, how)
    for load in (tiny.load_lora_weights, tiny.load_textual_inversion):
        with pytest.raises(Exception, match=r".*"):  # diffusers has many errors for it
            load(str(file), use_safetensors=strict)


SILENT = (
    "import pathlib; pathlib.Path({canary!r}).touch()\nclass Mine: pass\nMyUNet = Pipeline = Mine\n"
)


def brought(folder, place, canary, *, index=None, config=None):
    """A copy of a checkpoint that brings Python files to every place where one might be looked for."""
    shutil.copytree(folder, place)
    code = SILENT.format(canary=str(canary))
    if index:
        kept = json.loads((place / "model_index.json").read_text())
        (place / "model_index.json").write_text(json.dumps({**kept, **index}))
    if config:
        for name in ("unet", "text_encoder"):
            kept = json.loads((place / name / "config.json").read_text())
            (place / name / "config.json").write_text(json.dumps({**kept, **config}))
    else:
        (place / "unet" / "my_unet.py").write_text(code)
    (place / "pipeline.py").write_text(code)
    (place / "my_pipeline.py").write_text(code)
    return place


@pytest.mark.parametrize(
    "changes",
    [
        {"index": {"_class_name": ["pipeline", "Mine"]}},
        {"index": {"_class_name": ["my_pipeline", "Mine"]}},
        {"index": {"unet": ["my_unet", "MyUNet"]}},
        {"index": {"_class_name": None}},
        {"config": {"auto_map": {"AutoModel": "my_unet.MyUNet"}}},
        {},  # a Python file beside the weights is enough
    ],
    ids=["pipeline", "my_pipeline", "part", "none", "auto_map", "stray"],
)
def test_code_in_a_checkpoint(folder, tmp_path, canary, changes):
    with pytest.raises(
        UnsafeCheckpoint, match="asks for its own pipeline code|brings its own code"
    ):
        sdkit.load(brought(folder, tmp_path / "mine", canary, **changes))


def test_a_class_that_is_no_pipeline(folder, tmp_path, canary):
    place = brought(folder, tmp_path / "mine", canary, index={"_class_name": "os.system"})
    (place / "unet" / "my_unet.py").unlink()
    with pytest.raises(SdkitError):
        sdkit.load(place)


@pytest.mark.parametrize("changes", [{"_class_name": ["pipeline", "Mine"]}, {"_class_name": ["lpw_stable_diffusion", "Mine"]}, {"unet": ["my_unet", "MyUNet"]}])  # fmt: skip
def test_code_in_a_model_of_the_hub(folder, tmp_path, canary, monkeypatch, changes):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    commit = "1" * 40
    repo = tmp_path / "hub" / "models--a--b"
    place = brought(folder, repo / "snapshots" / commit, canary, index=changes)
    (place / "unet" / "my_unet.py").unlink()
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    for revision in (None, commit):
        with pytest.raises(UnsafeCheckpoint, match="own code|own pipeline code"):
            sdkit.load("a/b", revision=revision)


def test_custom_pipelines_have_no_door():
    with pytest.raises(TypeError, match="custom_pipeline"):
        sdkit.load(custom_pipeline="hub-user/theirs")
    with pytest.raises(TypeError, match="trust_remote_code"):
        sdkit.load(trust_remote_code=True)


def test_the_hub_is_asked_for_nothing_that_runs(monkeypatch):
    import diffusers

    from sdkit.models import hub

    asked = []
    monkeypatch.setattr(hub, "_ask", lambda *_: None)
    monkeypatch.setattr(hub, "_with_card", lambda *_: None)
    monkeypatch.setattr(
        diffusers.DiffusionPipeline,
        "download",
        lambda name, **options: asked.append(options) or "/none",
    )
    for options in ({"safety_checker": False}, {"revision": "0" * 40}):
        with pytest.raises(SdkitError):
            sdkit.load("a/b", **options)
    for options in asked:
        assert (options["use_safetensors"], options["trust_remote_code"]) == (True, False)
        assert "custom_pipeline" not in options
    assert asked[0]["safety_checker"] is None  # not even fetched
    assert asked[-1]["revision"] == "0" * 40


def test_walk_folders(tiny, tmp_path, canary):
    place = tmp_path / "walk"
    sdkit.interpolate(tiny, ["a cat", "a fox"], frames=2, folder=place, **QUICK)
    for file in place.rglob("*.npy"):
        np.save(file, np.array([Bomb(canary)], dtype=object), allow_pickle=True)
    walk = Walk(place)
    with pytest.raises(BadPicture, match="cannot be read"):
        _ = walk.latents
    for file in place.rglob("*.npy"):
        explosive(file, canary, "plain")
    with pytest.raises(BadPicture, match="cannot be read"):
        _ = walk.latents
    (place / "walk.json").write_bytes(pickle.dumps(Bomb(canary)))
    with pytest.raises(BadPicture):
        Walk(place)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_saved_results(tmp_path, canary, suffix):
    (tmp_path / f"a.{suffix}").write_bytes(pickle.dumps(Bomb(canary)))
    with pytest.raises(BadPicture):
        sdkit.load_result(tmp_path / f"a.{suffix}")


def test_text_in_a_picture_is_never_evaluated(tmp_path, canary):
    code = f"__import__('pathlib').Path({str(canary)!r}).touch()"
    for name, text in (
        ("sdkit", json.dumps({"settings": {"prompt": code, "seed": 3}})),
        ("sdkit", json.dumps({"settings": {"seed": code}})),
        ("sdkit", code),
        ("parameters", f"{code}\nSteps: 3, Seed: {code}, Size: {code}"),
    ):
        info = PngInfo()
        info.add_text(name, text)
        Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=info)
        try:
            read = sdkit.load_result(tmp_path / "a.png")
        except BadPicture:
            continue
        assert read.settings.prompt == code


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        (("image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"), "is an IP-Adapter"),
        (("emb_params",), "is a textual inversion"),
        (("encoder.conv_in.weight", "decoder.conv_in.weight"), "is an autoencoder"),
    ],
)
def test_a_file_that_goes_with_a_pipeline_is_named(tmp_path, keys, sentence):
    save_file({key: torch.zeros(2) for key in keys}, tmp_path / "x.safetensors")
    with pytest.raises(ModelNotFound, match=sentence):
        sdkit.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        (
            "a.safetensors",
            b"version https://git-lfs.github.com/spec/v1\noid",
            "a pointer of Git LFS",
        ),
        ("a.safetensors", b"\n<!DOCTYPE html><html>", "a web page that was saved"),
        ("a.safetensors", b"", "is empty"),
        ("a.safetensors", b"\x10\0\0\0\0\0\0\0{", "cut short"),
        ("a.safetensors.part", b"x", "a download that was not finished"),
        ("a.gguf", b"GGUF", "GGUFQuantizationConfig"),
    ],
)
def test_what_was_not_downloaded_as_it_should_is_named(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelNotFound, match=sentence):
        sdkit.load(tmp_path / name)
