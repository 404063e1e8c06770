"""load(): Pocket by default, everything else looked at before it is opened."""

import json
import pickle
import socket

import pytest
import torch

import sdkit
from sdkit.errors import ModelNotFound, UnsafeCheckpoint
from sdkit.models.defaults import defaults
from sdkit.models.hub import explained
from sdkit.models.identity import model_name
from sdkit.models.load import load
from sdkit.pocket.train import export
from sdkit.pocket.training.presets import PRESETS


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_pocket_is_a_plain_pipeline(pocket):
    from diffusers import StableDiffusionPipeline

    assert type(pocket) is StableDiffusionPipeline
    assert pocket.dtype == torch.float32
    assert model_name(pocket) == "pocket"
    own = defaults(pocket)
    assert (own.width, own.height, own.scheduler) == (128, 128, "ddim")


def test_plain_diffusers_opens_pocket():
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(sdkit.pocket.path())
    assert model_name(pipe) == "pocket"
    assert {
        p.dtype for part in (pipe.unet, pipe.vae, pipe.text_encoder) for p in part.parameters()
    } == {torch.float32}
    assert pipe("a cat", num_inference_steps=2).images[0].size == (128, 128)


def test_a_folder_of_ones_own(tiny, tmp_path):
    tiny.save_pretrained(tmp_path / "mine")
    pipe = load(tmp_path / "mine")
    assert model_name(pipe) == "mine"
    assert defaults(pipe).steps == 50  # diffusers' own
    assert sdkit.generate(pipe, "a cat", steps=2, progress=False).image.size == (32, 32)
    assert sdkit.generate(pipe, "a cat", steps=2, progress=False).settings.model == "mine"


def test_a_folder_that_was_trained_like_pocket_has_its_defaults(tiny, tmp_path):
    preset = PRESETS["pocket2"]
    export(tiny, preset, tmp_path / "mine")
    own = defaults(load(tmp_path / "mine", device="cpu"))
    assert (own.steps, own.guidance_scale) == (preset.steps, preset.guidance_scale)
    for broken in ("{", "[" * 100_000, '{"steps": 3}'):
        (tmp_path / "mine" / "pocket.json").write_text(broken)
        assert defaults(load(tmp_path / "mine", device="cpu")).steps == 50


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nothing-here", "neither a folder, a file nor a hub id of the form owner/name"),
        ("/no/such/model.safetensors", "There is no file or folder"),
        ("./no/such/folder", "There is no file or folder"),
        ("a/b/c", "There is no file or folder"),
        ("model.ckpt", "There is no file or folder"),
    ],
)
def test_names_that_lead_nowhere(name, sentence):
    with pytest.raises(ModelNotFound, match=sentence):
        load(name)


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".pth", ".bin", ".pkl"])
def test_pickles_are_refused_unopened(tmp_path, suffix):
    canary = tmp_path / "ran"

    class Bomb:
        def __reduce__(self):
            return (open, (str(canary), "w"))

    file = tmp_path / f"model{suffix}"
    file.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(
        UnsafeCheckpoint, match="is a pickle, which can run code when it is opened; convert it"
    ):
        load(file)
    assert not canary.exists()


def test_a_folder_with_only_a_pickle(tiny, tmp_path):
    tiny.save_pretrained(tmp_path / "mine")
    unet = tmp_path / "mine" / "unet"
    for file in unet.glob("*.safetensors"):
        file.unlink()
    (unet / "diffusion_pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UnsafeCheckpoint, match="mine/unet holds only a pickle"):
        load(tmp_path / "mine")


def test_a_folder_that_brings_code(tiny, tmp_path):
    folder = tmp_path / "mine"
    tiny.save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "unet": ["my_unet", "UNet"]}))
    with pytest.raises(UnsafeCheckpoint, match="mine/unet brings its own code"):
        load(folder)
    (folder / "model_index.json").write_text(
        json.dumps({**index, "_class_name": ["pipeline", "Mine"]})
    )
    with pytest.raises(UnsafeCheckpoint, match="asks for its own pipeline code"):
        load(folder)


def test_incomplete_folders(tiny, tmp_path):
    with pytest.raises(ModelNotFound, match="has no model_index.json"):
        load(tmp_path)
    tiny.save_pretrained(tmp_path / "mine")
    import shutil

    shutil.rmtree(tmp_path / "mine" / "vae")
    with pytest.raises(ModelNotFound, match="lacks its part 'vae'"):
        load(tmp_path / "mine")
    (tmp_path / "mine" / "model_index.json").write_text("{")
    with pytest.raises(ModelNotFound, match="is not valid JSON"):
        load(tmp_path / "mine")


def test_truncated_weights(tiny, tmp_path):
    tiny.save_pretrained(tmp_path / "mine")
    file = next((tmp_path / "mine" / "unet").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ModelNotFound, match="damaged|could not be loaded"):
        load(tmp_path / "mine")


def test_single_files_that_are_none(tmp_path):
    from safetensors.torch import save_file

    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00")
    with pytest.raises(ModelNotFound, match="damaged or cut short"):
        load(tmp_path / "cut.safetensors")
    save_file({"lora_unet_down.weight": torch.zeros(1)}, tmp_path / "lora.safetensors")
    with pytest.raises(
        ModelNotFound, match="lora.safetensors is a LoRA, not a checkpoint; load a base model first"
    ):
        load(tmp_path / "lora.safetensors")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ModelNotFound, match="is not a .safetensors file"):
        load(tmp_path / "notes.txt")


# -- I: what is no pipeline, or only the beginning of one, gets its own sentence


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("lora_te_text_model_encoder.lora_down.weight", "is a LoRA"),
        ("unet.down_blocks.0.attn1.to_q.lora_A.weight", "is a LoRA"),
        ("control_model.input_blocks.0.0.weight", "is a ControlNet"),
    ],
)
def test_a_file_that_goes_with_a_pipeline(tmp_path, key, sentence):
    from safetensors.torch import save_file

    save_file({key: torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ModelNotFound, match=sentence) as told:
        load(tmp_path / "x.safetensors")
    assert "\n" not in str(told.value)


def test_a_folder_that_goes_with_a_pipeline(tmp_path):
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "pytorch_lora_weights.safetensors").write_bytes(b"")
    with pytest.raises(
        ModelNotFound, match="'lora' holds a LoRA, not a pipeline; load a base model first"
    ):
        load(tmp_path / "lora")
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "config.json").write_text('{"_class_name": "ControlNetModel"}')
    with pytest.raises(
        ModelNotFound, match="'net' holds a ControlNet, not a pipeline; load it with diffusers"
    ):
        load(tmp_path / "net")


def test_a_download_that_stopped(tiny, tmp_path):
    from sdkit.models.checkpoints import look_into

    place = tmp_path / "mine"
    tiny.save_pretrained(place)
    look_into(place, told="owner/mine")
    weights = next((place / "unet").glob("*.safetensors"))
    pieces = {
        "weight_map": {"a": "diffusion_pytorch_model-00001-of-00002.safetensors", "b": weights.name}
    }
    weights.unlink()
    with pytest.raises(
        ModelNotFound,
        match=r"mine/unet lacks weights \(no .safetensors file\); copy the checkpoint again",
    ):
        load(place)
    weights.symlink_to(tmp_path / "blob-that-is-not-there")
    with pytest.raises(
        ModelNotFound,
        match=r"unet lacks weights .*; it was not fetched to its end: connect and load it",
    ):
        look_into(place, told="owner/mine")
    look_into(place, weights_too=False)  # the configuration of a single file needs no weights
    weights.unlink()
    (place / "unet" / "diffusion_pytorch_model-00002-of-00002.safetensors").write_bytes(b"")
    (place / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps(pieces)
    )
    with pytest.raises(
        ModelNotFound, match=r"lacks weights \(diffusion_pytorch_model-00001-of-00002"
    ):
        look_into(place, told="owner/mine")


def test_a_hub_id_without_network(no_network, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with pytest.raises(
        ModelNotFound,
        match="'somebody/something' is not on this machine and the hub cannot be reached; connect once",
    ):
        load("somebody/something")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("GatedRepoError", "is gated: accept its licence"),
        ("RepositoryNotFoundError", "The hub has no model 'a/b'"),
        ("RevisionNotFoundError", "has no such revision"),
        ("LocalEntryNotFoundError", "the hub cannot be reached"),
    ],
)
def test_what_the_hub_says_in_one_sentence(name, sentence):
    from huggingface_hub import errors

    kind = getattr(errors, name)
    raised = kind.__new__(kind)
    Exception.__init__(raised, "long story\nwith lines")
    told = str(explained(raised, "a/b"))
    assert sentence in told
    assert "\n" not in told


def test_devices():
    with pytest.raises(ModelNotFound, match="'quantum' is not a device; choose cuda, mps or cpu"):
        load(device="quantum")
    if not torch.cuda.is_available():
        with pytest.raises(
            ModelNotFound, match="The device 'cuda' is not available here; use device='cpu'"
        ):
            load(device="cuda")
