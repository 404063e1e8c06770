"""What goes wrong around a run: interrupts inside the networks, damaged weights, a full disk, a hub that fails."""

import gc
import json
import os
import resource
import shutil
import subprocess
import sys
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from families import sd15
from hub_server import COMMIT, REFUSALS, hub
from PIL import Image
from safetensors.torch import load_file, save_file

import sdkit
from sdkit.errors import CannotSave, ModelNotFound, SdkitError
from sdkit.result import Result
from sdkit.settings import Settings

QUICK = {"steps": 3, "width": 32, "height": 32, "seed": 3, "progress": False}
PROBES = {"attention": True, "trace": True}


# -- interrupts ----------------------------------------------------------------------------------------------------


@contextmanager
def interrupted(network, call):
    """Press the kernel's stop button while a network computes for the `call`-th time (from 0)."""
    calls = []

    def press(*_):
        calls.append(1)
        if len(calls) == call + 1:
            raise KeyboardInterrupt

    handle = network.register_forward_pre_hook(press)
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize("probes", [{}, PROBES], ids=["plain", "captured"])
@pytest.mark.parametrize("where", ["words", "first", "middle", "last", "picture"])
def test_an_interrupt_inside_a_network_leaves_no_trace(tiny, where, probes):
    before = sdkit.generate(tiny, "a cat", **QUICK)
    processors, hooks = tiny.unet.attn_processors, _hooks(tiny)
    network, call = {
        "words": (tiny.text_encoder, 0),
        "first": (tiny.unet, 0),
        "middle": (tiny.unet, 1),
        "last": (tiny.unet, 2),
        "picture": (tiny.vae.decoder, 0),
    }[where]
    with interrupted(network, call), pytest.raises(KeyboardInterrupt):
        sdkit.generate(tiny, "a cat", **QUICK, **probes)
    assert _hooks(tiny) == hooks
    assert all(tiny.unet.attn_processors[name] is p for name, p in processors.items())
    after = sdkit.generate(tiny, "a cat", **QUICK)
    assert (np.asarray(after.image) == np.asarray(before.image)).all()
    assert (after.latents == before.latents).all()


def _hooks(pipe):
    networks = (pipe.unet, pipe.vae, pipe.text_encoder)
    return [
        len(m._forward_hooks) + len(m._forward_pre_hooks) for n in networks for m in n.modules()
    ]


# -- memory --------------------------------------------------------------------------------------------------------


def test_fifty_captured_pictures_keep_nothing(tiny):
    def cycle(times):
        for n in range(times):
            r = sdkit.generate(tiny, "a cat", **QUICK | {"steps": 1, "seed": n}, **PROBES)
            assert r.attention is not None
        del r
        gc.collect()
        return sum(
            isinstance(x, torch.Tensor) for x in gc.get_objects()
        ), tracemalloc.get_traced_memory()[0]

    cycle(3)  # what is remembered on purpose: words, layouts
    tracemalloc.start()
    try:
        tensors, size = cycle(5)
        later_tensors, later_size = cycle(45)
    finally:
        tracemalloc.stop()
    assert later_tensors == tensors
    assert (
        later_size - size < 45 * 1024
    )  # bytes: the least that could be kept, a picture of 32×32, is 3,072 each time


# -- damaged weights -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("models") / "mine"
    sd15().save_pretrained(place)
    (place / "README.md").write_text("---\nlicense: mit\n---\n")
    return place


def _truncate(share):
    def damage(file):
        file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])

    return damage


def _header(file):
    data = bytearray(file.read_bytes())
    data[20:40] = bytes(20)
    file.write_bytes(data)


def _length(file):
    file.write_bytes((1 << 62).to_bytes(8, "little") + file.read_bytes()[8:])


def _lacking(file):
    weights = load_file(file)
    weights.pop(
        next(name for name in weights if name.endswith(("conv_in.weight", "q_proj.weight")))
    )
    save_file(weights, file, metadata={"format": "pt"})


DAMAGE = {
    "empty": _truncate(0),
    "seven-bytes": lambda file: file.write_bytes(b"1234567"),
    "half": _truncate(0.5),
    "almost": _truncate(0.999),
    "header": _header,
    "length": _length,
    "zeros": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "page": lambda file: file.write_bytes(b"<!DOCTYPE html><html>404</html>" * 40),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_weights_are_one_sentence(folder, tmp_path, kind):
    for part in ("unet", "text_encoder"):
        place = tmp_path / part
        shutil.copytree(folder, place)
        DAMAGE[kind](next((place / part).glob("*.safetensors")))
        with pytest.raises(
            ModelNotFound, match="damaged|could not be loaded|is empty|a web page"
        ) as told:
            sdkit.load(place)
        assert "\n" not in str(told.value)
    single = tmp_path / "single.safetensors"
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(4000)}, single)
    DAMAGE[kind](single)
    with pytest.raises(
        ModelNotFound, match="cut short: its header cannot be read|is empty|a web page"
    ):
        sdkit.load(single)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_are_missing_are_not_made_up(folder, tmp_path, part):
    place = tmp_path / "mine"
    shutil.copytree(folder, place)
    _lacking(next((place / part).glob("*.safetensors")))
    with pytest.raises(ModelNotFound, match=rf"mine/{part} lacks weights"):
        sdkit.load(place)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 5000])
def test_a_damaged_configuration_is_one_sentence(folder, tmp_path, text):
    for file in (
        "model_index.json",
        "unet/config.json",
        "text_encoder/config.json",
        "scheduler/scheduler_config.json",
    ):
        place = tmp_path / file.replace("/", "-")
        shutil.copytree(folder, place)
        (place / file).write_text(text)
        with pytest.raises(SdkitError) as told:
            sdkit.load(place, device="cpu")
        assert "\n" not in str(told.value)


# -- a full disk ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cat.png", "cat.jpg", "cat.webp"])
def test_a_disk_that_really_takes_no_more(tmp_path, name):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    result = Result([noise, noise], [Settings("a cat", seed=1), Settings("a cat", seed=2)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # no file may grow beyond 2,000 bytes
    try:
        with pytest.raises(CannotSave, match="File too large; check the disk"):
            result.save(tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


# -- the hub -------------------------------------------------------------------------------------------------------

VISIT = """
import json, sys, urllib.request, warnings
warnings.simplefilter("ignore")
import sdkit
from huggingface_hub import constants

def visit(name, **options):
    try:
        pipe = sdkit.load(name, device="cpu", **options)
        r = sdkit.generate(pipe, "a cat", steps=1, width=32, height=32, progress=False)
        told[name + str(options or "")] = [r.settings.model, r.settings.revision, r.settings.licence]
    except sdkit.SdkitError as error:
        told[name + str(options or "")] = f"{type(error).__name__}: {error}"

told = {}
for name in sys.argv[1:]:
    visit(name)
visit("good/model")
urllib.request.urlopen(constants.ENDPOINT + "/turn-mute").read()
visit("good/model", revision="main")
visit("good/model", revision="COMMIT")
json.dump(told, open(sys.argv[0] + ".json", "w"))
""".replace("COMMIT", COMMIT)


@pytest.fixture(scope="module")
def told(folder, tmp_path_factory):
    """What a fresh process, whose hub is ours, was told of each model."""
    place = tmp_path_factory.mktemp("hub")
    (place / "visit.py").write_text(VISIT)
    with hub(folder, pause=0.05) as address:
        settings = {
            "HF_ENDPOINT": address,
            "HF_HOME": str(place / "home"),
            "HF_HUB_ETAG_TIMEOUT": "1",
            "HF_HUB_DOWNLOAD_TIMEOUT": "10",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        command = [sys.executable, str(place / "visit.py"), *REFUSALS, "no/answer"]
        subprocess.run(
            command, env=os.environ | settings, check=True, capture_output=True, timeout=300
        )
    return json.loads((place / "visit.py.json").read_text())


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no/gated", "is gated: accept its licence on its hub page"),
        ("no/closed", "The hub does not let you have 'no/closed'; log in"),
        ("no/missing", "The hub has no model 'no/missing' (or it is private)"),
        ("no/private", "The hub has no model 'no/private' (or it is private)"),
        ("no/revision", "has no such revision"),
        ("no/health", "The hub has trouble of its own"),
        ("no/answer", "is not on this machine and the hub cannot be reached"),
    ],
)
def test_a_hub_that_refuses_or_is_silent(told, name, sentence):
    assert sentence in told[name]
    assert "\n" not in told[name]


def test_a_slow_hub_and_one_that_falls_silent_later(told):
    expected = ["good/model", COMMIT, "MIT"]
    assert told["good/model"] == expected
    assert told["good/model{'revision': 'main'}"] == expected, "what an earlier visit left here"
    assert told[f"good/model{{'revision': '{COMMIT}'}}"] == expected
