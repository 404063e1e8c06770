"""What a pipeline carries beyond its model is recorded, and a replay with another pipeline is told."""

import warnings

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from families import autoencoder, sd15
from peft import LoraConfig

import sdkit
from sdkit.generation import PromptWarning
from sdkit.pipelines.additions import additions
from sdkit.pipelines.schedulers import scheduler_name

QUICK = {"steps": 2, "width": 32, "height": 32, "progress": False}


@pytest.fixture
def pipe():
    made = sd15()
    made.set_progress_bar_config(disable=True)
    return made


def with_lora(pipe, seed=0, name="toy"):
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"]), adapter_name=name)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, value in pipe.unet.named_parameters():
            if "lora" in key:
                value.copy_(torch.randn(value.shape, generator=generator))
    return pipe


def test_a_plain_pipeline_carries_nothing(pipe, pocket):
    assert additions(pipe) is None
    assert additions(pocket) is None
    assert sdkit.generate(pipe, "a cat", **QUICK).settings.additions is None


def test_loras_are_told_by_name_scale_and_fingerprint(pipe):
    with_lora(pipe)
    told = additions(pipe)
    assert told.startswith("LoRA toy ×")
    assert told == additions(with_lora(sd15())), "the same weights elsewhere"
    assert told != additions(with_lora(sd15(), seed=1)), "other weights of the same name"
    pipe.unet.set_adapters(["toy"], [0.5])
    assert additions(pipe) != told
    pipe.unet.disable_adapters()
    assert additions(pipe) is None


def test_other_things_are_told_too(pipe):
    pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.5, b2=1.6)
    assert additions(pipe) == "FreeU s1=0.9 s2=0.2 b1=1.5 b2=1.6"
    pipe.disable_freeu()
    pipe.load_textual_inversion({"<toy>": torch.ones(2, 32)}, token="<toy>")
    assert additions(pipe).startswith("word <toy> (")


def test_another_autoencoder_is_told(tmp_path):
    sd15().save_pretrained(tmp_path / "mine")
    autoencoder().save_pretrained(tmp_path / "other" / "vae")
    assert additions(sdkit.load(tmp_path / "mine", device="cpu")) is None
    pipe = sdkit.load(tmp_path / "mine", device="cpu", vae=tmp_path / "other" / "vae")
    assert additions(pipe).startswith("autoencoder other (")


def test_a_solver_runs_and_is_recorded_by_what_it_is(pipe):
    """DPM++ SDE is no DPM++ 2M, whose class and Karras spacing it shares."""
    config = pipe.scheduler.config
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(
        config, algorithm_type="sde-dpmsolver++", use_karras_sigmas=True
    )
    assert scheduler_name(pipe) is None
    own = sdkit.generate(pipe, "a cat", **QUICK)
    assert own.settings.scheduler is None
    assert own.settings.additions == "solver DPMSolverMultistepScheduler (sde-dpmsolver++)"
    named = sdkit.generate(pipe, "a cat", scheduler="dpm++_karras", **QUICK)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(
        config, algorithm_type="dpmsolver++", use_karras_sigmas=True
    )
    expected = sdkit.generate(pipe, "a cat", **QUICK)
    assert expected.settings.scheduler == "dpm++_karras"
    np.testing.assert_array_equal(named.latents, expected.latents)
    assert named.settings.additions is None, "the pipeline's own solver did not run"


def test_a_replay_with_another_pipeline_is_told(pipe):
    plain = sdkit.generate(pipe, "a cat", **QUICK)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sdkit.generate(pipe, plain, progress=False)
    with_lora(pipe)
    with pytest.warns(
        PromptWarning, match=r"made with the model alone, and this pipeline carries LoRA toy"
    ):
        changed = sdkit.generate(pipe, plain, progress=False)
    assert changed.settings.additions.startswith("LoRA toy")
    pipe.unet.disable_adapters()
    with pytest.warns(PromptWarning, match="made with LoRA toy .* carries the model alone"):
        sdkit.generate(pipe, changed, progress=False)


def test_a_saved_picture_tells(pipe, tmp_path):
    sdkit.generate(with_lora(pipe), "a cat", **QUICK).save(tmp_path / "cat.png")
    assert sdkit.load_result(tmp_path / "cat.png").settings.additions == additions(pipe)
