"""load(): every shape in which people have checkpoints, with small random weights of the real classes."""

import json
import shutil

import numpy as np
import pytest
import torch
from families import FAMILIES, sd3, sd15, sd21, sdxl
from safetensors.torch import save_file
from single_file import original, vae_weights

import sdkit
from sdkit.errors import ModelNotFound
from sdkit.models.identity import model_name, origin

COMMIT = "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
HUB_ID = "somebody/little-diffusion"
QUICK = {"steps": 2, "width": 32, "height": 32, "seed": 3, "progress": False}


def latents(pipe, **changes):
    return sdkit.generate(pipe, "a cat", **QUICK | changes).latents


@pytest.fixture(scope="module")
def pipe():
    return sd15()


@pytest.fixture(scope="module")
def folder(pipe, tmp_path_factory):
    place = tmp_path_factory.mktemp("models") / "mine"
    pipe.save_pretrained(place)
    return place


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """An empty hub cache, and a hub that is never asked."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def cached(hub, folder, *, name=HUB_ID, commit=COMMIT):
    """Lay a folder out as huggingface_hub does; returns the snapshot."""
    repo = hub / f"models--{name.replace('/', '--')}"
    snapshot = repo / "snapshots" / commit
    shutil.copytree(folder, snapshot)
    (repo / "refs").mkdir(exist_ok=True)
    (repo / "refs" / "main").write_text(commit)
    return snapshot


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_of_every_family(family, tmp_path):
    made = FAMILIES[family]()
    made.save_pretrained(tmp_path / family)
    loaded = sdkit.load(tmp_path / family, device="cpu")
    assert type(loaded) is type(made)
    np.testing.assert_allclose(latents(loaded), latents(made), atol=1e-4)


def test_the_hubs_cache_without_the_hub(pipe, folder, offline):
    cached(offline, folder)
    loaded = sdkit.load(HUB_ID, device="cpu")
    assert model_name(loaded) == HUB_ID
    r = sdkit.generate(loaded, "a cat", **QUICK)
    assert (r.settings.model, r.settings.revision) == (HUB_ID, COMMIT)
    np.testing.assert_array_equal(r.latents, latents(pipe))
    assert origin(loaded).revision == COMMIT


def test_a_commit_that_is_here_and_one_that_is_not(folder, offline):
    cached(offline, folder)
    assert sdkit.load(HUB_ID, revision=COMMIT, device="cpu") is not None
    with pytest.raises(ModelNotFound, match="is not on this machine and the hub cannot be reached"):
        sdkit.load(HUB_ID, revision="0" * 40, device="cpu")


def test_the_snapshot_itself_and_diffusers_own_loading_know_the_commit(folder, offline):
    from diffusers import DiffusionPipeline

    snapshot = cached(offline, folder)
    for loaded in (sdkit.load(snapshot, device="cpu"), DiffusionPipeline.from_pretrained(snapshot)):
        settings = sdkit.generate(loaded, "a cat", **QUICK).settings
        assert (settings.model, settings.revision) == (HUB_ID, COMMIT)


def sd35():
    return sd3(qk_norm="rms_norm")


SINGLE = {"sd15": sd15, "sd21": sd21, "sdxl": sdxl, "sd3": sd3, "sd35": sd35}


def written(made, place):
    """A pipeline as a single file in original naming; such files say nothing of a projection that is the identity."""
    if type(made).__name__ == "StableDiffusion3Pipeline":
        torch.nn.init.eye_(made.text_encoder.text_projection.weight)
    save_file(original(made), place / "merged.safetensors")
    return place / "merged.safetensors"


@pytest.mark.parametrize("family", SINGLE)
def test_a_single_file_in_original_naming(family, tmp_path):
    made = SINGLE[family]()
    file = written(made, tmp_path)
    made.save_pretrained(tmp_path / "folder")
    loaded = sdkit.load(file, config=tmp_path / "folder", device="cpu")
    assert type(loaded) is type(made)
    assert loaded.scheduler.config.get("prediction_type") == made.scheduler.config.get(
        "prediction_type"
    )
    for part, network in made.components.items():
        if isinstance(network, torch.nn.Module):
            before, after = network.state_dict(), getattr(loaded, part).state_dict()
            assert before.keys() == after.keys()
            assert all(torch.equal(before[name], after[name]) for name in before)
            assert not getattr(loaded, part).training
    r = sdkit.generate(loaded, "a cat", **QUICK)
    np.testing.assert_allclose(r.latents, latents(made), atol=1e-4)
    assert (r.settings.model, r.settings.revision) == ("merged.safetensors", None)


@pytest.mark.parametrize(
    "kept", ["model.diffusion_model.", "model.diffusion_model. first_stage_model."]
)
def test_a_transformer_alone_is_told(kept, tmp_path):
    made = sd3()
    made.save_pretrained(tmp_path / "folder")
    weights = {
        name: value
        for name, value in original(made).items()
        if name.startswith(tuple(kept.split()))
    }
    save_file(weights, tmp_path / "only.safetensors")
    with pytest.raises(
        ModelNotFound, match=r"lacks parts of a pipeline .* load a diffusers folder or a hub id"
    ):
        sdkit.load(tmp_path / "only.safetensors", config=tmp_path / "folder", device="cpu")


def test_a_transformer_of_flux_alone_is_told(tmp_path):
    FAMILIES["flux"]().save_pretrained(tmp_path / "folder")
    names = ("img_attn.norm.key_norm.scale", "img_attn.qkv.weight")
    save_file(
        {f"double_blocks.0.{name}": torch.zeros(3072) for name in names},
        tmp_path / "flux1.safetensors",
    )
    with pytest.raises(
        ModelNotFound, match=r"lacks parts of a pipeline .* load a diffusers folder or a hub id"
    ):
        sdkit.load(tmp_path / "flux1.safetensors", config=tmp_path / "folder", device="cpu")


def test_a_single_file_needs_the_configuration_only(pipe, folder, tmp_path):
    save_file(original(pipe), tmp_path / "merged.safetensors")
    bare = tmp_path / "config"
    shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    loaded = sdkit.load(tmp_path / "merged.safetensors", config=bare, device="cpu")
    np.testing.assert_array_equal(latents(loaded), latents(pipe))


def test_a_single_file_takes_its_familys_configuration_from_the_hubs_cache(
    pipe, folder, offline, tmp_path
):
    save_file(original(pipe), tmp_path / "merged.safetensors")
    cached(offline, folder, name="stable-diffusion-v1-5/stable-diffusion-v1-5")
    np.testing.assert_array_equal(
        latents(sdkit.load(tmp_path / "merged.safetensors", device="cpu")), latents(pipe)
    )


@pytest.mark.parametrize("family", SINGLE)
def test_a_single_file_without_configuration_says_what_to_give(family, offline, tmp_path):
    with pytest.raises(
        ModelNotFound, match="holds weights only: the configuration and tokenizer"
    ) as told:
        sdkit.load(written(SINGLE[family](), tmp_path), device="cpu")
    assert "pass config= with a diffusers folder of the same family" in str(told.value)


def test_the_half_precision_variant(pipe, folder, tmp_path):
    half = tmp_path / "half"
    sd15().to(torch.float16).save_pretrained(half, variant="fp16")
    loaded = sdkit.load(half, variant="fp16", device="cpu")
    expected = pipe.unet.conv_in.weight.half().float()
    assert torch.equal(
        loaded.unet.conv_in.weight, expected
    )  # halved on the disk, whole on a processor
    assert (
        sdkit.load(half, variant="fp16", dtype=torch.float16, device="cpu").unet.dtype
        == torch.float16
    )
    with pytest.raises(
        ModelNotFound, match="comes as variant 'fp16' only; load it with variant='…'"
    ):
        sdkit.load(half)
    with pytest.raises(ModelNotFound, match="offers no variant 'fp16' but none; leave variant out"):
        sdkit.load(folder, variant="fp16")


def test_another_autoencoder(pipe, folder, tmp_path):
    torch.manual_seed(5)
    other = type(pipe.vae).from_config(pipe.vae.config)
    other.save_pretrained(tmp_path / "vae")
    save_file(vae_weights(other, 2), tmp_path / "vae.safetensors")
    in_folder = sdkit.load(folder, vae=tmp_path / "vae", device="cpu")
    in_file = sdkit.load(folder, vae=tmp_path / "vae.safetensors", config=folder, device="cpu")
    for loaded in (in_folder, in_file):
        assert torch.equal(loaded.vae.decoder.conv_in.weight, other.decoder.conv_in.weight)
        assert torch.equal(loaded.unet.conv_in.weight, pipe.unet.conv_in.weight)
    assert np.abs(np.asarray(picture(in_folder)) - picture(pipe)).max() > 0
    with pytest.raises(ModelNotFound, match="There is no file or folder"):
        sdkit.load(folder, vae=tmp_path / "none.safetensors")


def picture(pipe):
    return np.asarray(sdkit.generate(pipe, "a cat", **QUICK).image, np.int16)


def test_loras_through_diffusers_own_loader(pipe, folder, tmp_path):
    from diffusers import StableDiffusionPipeline
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    trained = sd15()
    trained.unet.add_adapter(
        LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"], init_lora_weights="gaussian")
    )
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in trained.unet.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    layers = get_peft_model_state_dict(trained.unet)
    StableDiffusionPipeline.save_lora_weights(tmp_path, unet_lora_layers=layers)
    loaded = sdkit.load(folder, device="cpu")
    loaded.load_lora_weights(tmp_path / "pytorch_lora_weights.safetensors", use_safetensors=True)
    np.testing.assert_allclose(latents(loaded), latents(trained), atol=1e-4)
    assert np.abs(latents(loaded) - latents(pipe)).max() > 1e-3
    loaded.unload_lora_weights()
    np.testing.assert_array_equal(latents(loaded), latents(pipe))


def test_textual_inversion_through_diffusers_own_loader(folder, tmp_path):
    loaded = sdkit.load(folder, device="cpu")
    vector = torch.randn(loaded.text_encoder.config.hidden_size)
    save_file({"<toy>": vector}, tmp_path / "toy.safetensors")
    before = latents(loaded, seed=4)
    loaded.load_textual_inversion(tmp_path / "toy.safetensors", use_safetensors=True)
    number = loaded.tokenizer.convert_tokens_to_ids("<toy>")
    assert torch.equal(loaded.text_encoder.get_input_embeddings().weight[number], vector)
    np.testing.assert_array_equal(
        latents(loaded, seed=4), before
    )  # other words mean what they meant
    with_word = sdkit.generate(loaded, "a <toy>", **QUICK)
    assert np.abs(with_word.latents - latents(loaded)).max() > 1e-4


def test_stable_diffusion_1_5_has_the_published_number_of_parameters():
    from accelerate import init_empty_weights
    from diffusers import UNet2DConditionModel

    with (
        init_empty_weights()
    ):  # the configuration that was published, on the device that holds no values
        unet = UNet2DConditionModel(
            sample_size=64,
            cross_attention_dim=768,
            attention_head_dim=8,
            block_out_channels=(320, 640, 1280, 1280),
            layers_per_block=2,
            down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        )
    assert sum(p.numel() for p in unet.parameters()) == 859_520_964


def test_a_part_of_another_model_is_told(folder, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    config = json.loads((broken / "unet" / "config.json").read_text())
    (broken / "unet" / "config.json").write_text(
        json.dumps({**config, "block_out_channels": [16, 64]})
    )
    with pytest.raises(ModelNotFound, match="damaged, cut short or of another model"):
        sdkit.load(broken)
