"""Parts of a folder at which diffusers fails although nothing is missing, and packages that really are."""

import json

import diffusers
import pytest
import standins
import transformers
from diffusers.utils import dummy_torch_and_transformers_and_sentencepiece_objects as dummies
from diffusers.utils.import_utils import BACKENDS_MAPPING

import sdkit
from sdkit.errors import ModelNotFound
from sdkit.models import parts
from sdkit.models.hub import explained


def saved(name, folder):
    standins.build(name).save_pretrained(folder)
    return folder


def test_a_processor_is_read_without_its_part_for_films_where_torchvision_is_missing(
    tmp_path, monkeypatch
):
    folder = saved("nucleus-image", tmp_path / "first")
    monkeypatch.setattr(parts, "find_spec", lambda _: None)
    pipe = sdkit.load(folder, device="cpu")
    assert isinstance(pipe.processor, transformers.Qwen3VLProcessor)
    assert pipe.processor.get_attributes() == ["image_processor", "tokenizer"]
    size = {"shortest_edge": 64 * 64, "longest_edge": 128 * 128}
    assert pipe.processor.image_processor.size == size  # as it was saved
    assert pipe.processor.chat_template == pipe.processor.tokenizer.chat_template is not None
    pipe.save_pretrained(tmp_path / "again")
    index = json.loads((tmp_path / "again" / "model_index.json").read_text())
    assert index["processor"] == ["transformers", "Qwen3VLProcessor"]
    assert type(sdkit.load(tmp_path / "again", device="cpu")) is type(pipe)


def test_with_torchvision_processors_are_left_to_diffusers(tmp_path, monkeypatch):
    folder = saved("nucleus-image", tmp_path)
    monkeypatch.setattr(parts, "find_spec", lambda _: None)
    assert list(parts.processors_of(folder)) == ["processor"]
    monkeypatch.setattr(parts, "find_spec", lambda name: name == "torchvision")
    assert parts.processors_of(folder) == {}


def test_what_needs_torchvision_all_the_same_names_it():
    raised = ImportError(
        "Qwen3VLVideoProcessor requires the Torchvision library but it was not found in your environment."
    )
    told = str(explained(raised, "a/b"))
    assert "'a/b' needs the package torchvision" in told
    assert "pip install torchvision" in told


def test_a_pipeline_whose_package_is_missing_names_it(tmp_path, monkeypatch):
    """Diffusers has an empty class in its place, which answers with an attribute that nobody asked for."""
    folder = saved("kolors", tmp_path)
    _, words = BACKENDS_MAPPING["sentencepiece"]
    monkeypatch.setitem(BACKENDS_MAPPING, "sentencepiece", (lambda: False, words))
    monkeypatch.setattr(diffusers, "KolorsPipeline", dummies.KolorsPipeline)
    with pytest.raises(ModelNotFound, match="pip install sentencepiece, and load it again"):
        sdkit.load(folder, device="cpu")


@pytest.mark.parametrize("library", ["diffusers", "wuerstchen"])
def test_a_class_that_diffusers_moved_is_found_wherever_the_folder_says_that_it_is(
    tmp_path, library
):
    """The released Stable Cascade names the pipeline that its autoencoder came with; diffusers itself now writes another."""
    folder = saved("stable-cascade", tmp_path)
    index = json.loads((folder / "model_index.json").read_text())
    assert index["vqgan"] == ["diffusers", "PaellaVQModel"]
    index["vqgan"][0] = library
    (folder / "model_index.json").write_text(json.dumps(index))
    pipe = sdkit.load(folder, device="cpu")
    assert type(pipe.vqgan).__name__ == "PaellaVQModel"
    assert not hasattr(diffusers, "PaellaVQModel")
    assert not hasattr(diffusers.pipelines, "wuerstchen")
