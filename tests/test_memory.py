"""Memory: what a plan says before loading, what it does to a pipeline, and what happens when memory runs out all the same."""

import json
import re
import warnings

import families
import numpy as np
import published
import pytest
import torch
from accounting import flash_attention, peak_of
from diffusers import StableDiffusionPipeline

import sdkit
from sdkit.errors import InvalidSettings, ModelNotFound, NumericalError, OutOfMemory
from sdkit.memory import plan as memory, recovery
from sdkit.memory.containers import container_room
from sdkit.memory.needs import decoding, denoising
from sdkit.memory.plan import free, planned
from sdkit.memory.recovery import LessMemory
from sdkit.memory.sizes import measure
from sdkit.models import finding as models
from sdkit.pipelines import placement
from sdkit.pipelines.placement import Way, offload, offloaded, state

GIB = 2**30


def pixels(result):
    return [np.asarray(image, dtype=np.int16) for image in result.images]


def make(pipe, prompt="a cat", **changes):
    return sdkit.generate(
        pipe, prompt, **{"steps": 1, "width": 32, "height": 32, "progress": False} | changes
    )


@pytest.fixture
def folder(tmp_path):
    """A small checkpoint of one's own."""
    pipe = families.sd15()
    pipe.save_pretrained(tmp_path / "mine")
    return tmp_path / "mine"


@pytest.fixture
def card(monkeypatch):
    """A graphics card as far as planning goes: `card(8)` has 8 GiB free."""
    monkeypatch.setattr(models, "_device", lambda wanted: wanted or "cuda")

    def of(gib):
        monkeypatch.setattr(memory, "free", lambda device: int(gib * GIB))

    of(24)
    return of


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Stable Diffusion 1.5 and XL in their published shapes, without weights."""
    root = tmp_path_factory.mktemp("published")
    return {family: published.write(root / family, family) for family in ("sd15", "sdxl")}


# -- sizes -----------------------------------------------------------------------------------------------------------


def test_sizes_of_a_folder_are_those_of_the_loaded_parts(folder):
    pipe = sdkit.load(folder, device="cpu")
    found = {p.name: p for p in measure("folder", str(folder))}
    assert set(found) == {"unet", "vae", "text_encoder"}
    for name, part in found.items():
        network = getattr(pipe, name)
        assert part.floats == sum(p.numel() for p in network.parameters())
        assert part.largest == max(p.numel() for p in network.parameters())
        assert part.bytes(4) == sum(p.nbytes for p in network.parameters()) + part.fixed


def test_variants_and_shards_are_counted_once(folder):
    (one,) = [p for p in measure("folder", str(folder)) if p.name == "unet"]
    whole = folder / "unet" / "diffusion_pytorch_model.safetensors"
    published.write_header(
        folder / "unet" / "diffusion_pytorch_model.fp16.safetensors", {"a": torch.empty(7)}
    )
    assert [
        p.floats for p in measure("folder", str(folder), variant="fp16") if p.name == "unet"
    ] == [7]
    assert [p.floats for p in measure("folder", str(folder)) if p.name == "unet"] == [one.floats]
    whole.unlink()
    for n, size in enumerate((3, 4)):
        shard = folder / "unet" / f"diffusion_pytorch_model-0000{n + 1}-of-00002.safetensors"
        published.write_header(shard, {str(n): torch.empty(size)})
    assert [p.floats for p in measure("folder", str(folder)) if p.name == "unet"] == [7]


@pytest.mark.parametrize(
    "content",
    [b"", b"\x10\x00", b"\xff" * 20, b"\x02\0\0\0\0\0\0\0[]", b'\x08\0\0\0\0\0\0\0{"a":1} '],
)
def test_damaged_headers(tmp_path, content):
    (tmp_path / "cut.safetensors").write_bytes(content)
    with pytest.raises(ModelNotFound, match="damaged or cut short|is empty"):
        measure("file", str(tmp_path / "cut.safetensors"))


def test_the_hub_is_asked_for_headers_only(folder, monkeypatch):
    import huggingface_hub as hub

    from sdkit.memory.sizes import _read_header

    class Api:
        def list_repo_files(self, source, revision):
            return [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]

        def hf_hub_download(self, source, name, revision):
            assert name.endswith(".json")
            return str(folder / name)

        def parse_safetensors_file_metadata(self, source, name, revision):
            tensor = type("Tensor", (), {})
            tensors = {}
            for key, (kind, shape) in _read_header(folder / name).items():
                tensors[key] = tensor()
                tensors[key].dtype, tensors[key].shape = kind, list(shape)
            found = tensor()
            found.tensors = tensors
            return found

    monkeypatch.setattr(hub, "HfApi", Api)
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *args, **kwargs: None)
    assert measure("hub", "a/b") is None
    assert measure("hub", "a/b", fetch=True) == measure("folder", str(folder))


def test_a_hub_id_in_the_cache(folder, monkeypatch):
    import huggingface_hub as hub

    monkeypatch.setattr(
        hub, "try_to_load_from_cache", lambda *args, **kwargs: str(folder / "model_index.json")
    )
    assert measure("hub", "a/b") == measure("folder", str(folder))
    (
        folder / "unet" / "diffusion_pytorch_model.safetensors"
    ).unlink()  # a download that stopped half-way
    assert measure("hub", "a/b") is None


@pytest.mark.parametrize("xl", [False, True])
def test_single_files_are_split_into_their_parts(tmp_path, xl):
    tensors = {
        "model.diffusion_model.input_blocks.0.0.weight": torch.empty(320, 4, 3, 3, device="meta"),
        "first_stage_model.decoder.conv_in.weight": torch.empty(512, 4, 3, 3, device="meta"),
        ("conditioner.embedders.0.x" if xl else "cond_stage_model.x"): torch.empty(
            10, device="meta"
        ),
        "model_ema.input_blocks": torch.empty(99, device="meta"),
    } | ({"conditioner.embedders.1.x": torch.empty(20, device="meta")} if xl else {})
    published.write_header(tmp_path / "one.safetensors", tensors)
    found = {p.name: p for p in measure("file", str(tmp_path / "one.safetensors"))}
    assert {n: p.floats for n, p in found.items()} == {
        "unet": 320 * 36,
        "vae": 512 * 36,
        "text_encoder": 10,
    } | ({"text_encoder_2": 20} if xl else {})
    assert found["unet"].config["block_out_channels"] == (
        (320, 640, 1280) if xl else (320, 640, 1280, 1280)
    )


# -- the formulas ----------------------------------------------------------------------------------------------------


def unet_peak(kind, batch, rows, columns):
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        network = UNet2DConditionModel(**kind).eval()
        more = {"text_embeds": torch.empty(batch, 1280), "time_ids": torch.empty(batch, 6)} if "addition_embed_type" in kind else None  # fmt: skip
        words = torch.empty(batch, 77, kind["cross_attention_dim"])
        with flash_attention():
            return peak_of(network, torch.empty(batch, 4, rows, columns), torch.empty(batch), words, added_cond_kwargs=more)  # fmt: skip


def test_a_step_of_sd15_takes_what_the_formula_says():
    assert unet_peak(published.SD15, 2, 64, 96) == pytest.approx(
        4 * denoising(published.SD15, 64, 96, 2), rel=1e-4
    )


def test_a_step_of_sdxl_takes_a_little_less():
    shallow = published.SDXL | {
        "transformer_layers_per_block": (1, 1, 1)
    }  # depth adds weights, not activations
    assert 0.95 < unet_peak(shallow, 2, 64, 64) / (4 * denoising(published.SDXL, 64, 64, 2)) <= 1


def test_transformers_stay_below_the_formula():
    from diffusers import FluxTransformer2DModel, SD3Transformer2DModel

    with torch.device("meta"), flash_attention():
        sd3 = SD3Transformer2DModel(
            **published.SD35 | {"num_layers": 2, "dual_attention_layers": (0,)}
        )
        half = torch.empty(2)
        peak = peak_of(
            sd3, torch.empty(2, 16, 128, 128), torch.empty(2, 333, 4096), torch.empty(2, 2048), half
        )
        assert 0.6 < peak / (4 * denoising(published.SD35, 128, 128, 2)) <= 1
        flux = FluxTransformer2DModel(**published.FLUX | {"num_layers": 1, "num_single_layers": 1})
        one, ids = torch.empty(1), (torch.empty(4096, 3), torch.empty(512, 3))
        peak = peak_of(
            flux,
            torch.empty(1, 4096, 64),
            torch.empty(1, 512, 4096),
            torch.empty(1, 768),
            one,
            *ids,
            one,
        )
        assert 0.8 < peak / (4 * denoising(dict(flux.config), 128, 128, 1)) <= 1


def test_decoding_takes_what_the_formula_says():
    from diffusers import AutoencoderKL

    with torch.device("meta"), flash_attention():
        vae = AutoencoderKL(**published.AUTOENCODER).eval()
        peak = peak_of(vae.decode, torch.empty(2, 4, 64, 96))
        assert 1 <= peak / (4 * decoding(published.AUTOENCODER, 768, 512, 2)) < 1.01
        placement.tile(vae, 256, 8)
        tiles = 4 * (decoding(published.AUTOENCODER, 256, 256, 1) + 2 * 3 * 512 * 768)
        assert peak_of(vae.decode, torch.empty(1, 4, 64, 96)) <= tiles


def test_the_formula_holds_for_a_real_run(tiny):
    """On the processor, with real tensors; its attention needs no matrix of weights either."""
    config = dict(tiny.vae.config)
    peak = peak_of(tiny.vae.decode, torch.zeros(1, config["latent_channels"], 32, 32))
    scale = tiny.vae_scale_factor
    assert 0.5 < peak / (4 * decoding(config, 32 * scale, 32 * scale, 1)) < 1.5


# -- plans -----------------------------------------------------------------------------------------------------------


def test_sd15_on_a_card_of_4_gib(card, checkpoints):
    card(4)
    auto, low = sdkit.plan(checkpoints["sd15"]), sdkit.plan(checkpoints["sd15"], memory="low")
    assert dict(auto.parts)["unet"] == 2 * 859_520_964
    assert auto.way == Way()
    assert auto.peak <= 3.4 * GIB
    assert low.way.offload == "models"
    assert low.peak <= 2.6 * GIB


def test_sdxl_on_a_card_of_8_gib(card, checkpoints):
    found = sdkit.plan(checkpoints["sdxl"], memory="8GB")
    assert dict(found.parts)["unet"] == 2 * 2_567_463_684
    assert (found.width, found.height) == (1024, 1024)
    assert found.way == Way("text encoders", tiled=True)
    assert found.peak <= 0.85 * 8 * GIB


def test_the_cheapest_way_that_fits_is_taken(card, checkpoints):
    chosen = []
    for gib in (24, 8, 6.5, 4, 2, 1.2):
        card(gib)
        found = sdkit.plan(checkpoints["sdxl"])
        fitting = [way for way, peak in found.considered if peak <= memory.USABLE * gib * GIB]
        assert found.way == (fitting or [found.considered[-1][0]])[0]
        assert found.fits == bool(fitting)
        chosen.append(found.way.offload)
    assert (
        chosen
        == ["nothing", "text encoders", "models", "layers", "all layers", "all layers"][
            : len(chosen)
        ]
    )


def test_larger_pictures_need_more(card, checkpoints):
    peaks = [
        sdkit.plan(checkpoints["sd15"], width=side, height=side, memory="full").peak
        for side in (512, 768, 1024)
    ]
    assert peaks == sorted(set(peaks))
    assert (
        sdkit.plan(checkpoints["sd15"], width=1024, height=512).decode
        == 2 * sdkit.plan(checkpoints["sd15"]).decode
    )


def test_pictures_together(card, checkpoints):
    for gib, together in ((24, 8), (4, 1)):
        card(gib)
        assert sdkit.plan(checkpoints["sd15"]).together == together


def test_what_a_plan_says(card, checkpoints):
    assert sdkit.plan(checkpoints["sd15"]).sentence() == ""
    low = sdkit.plan(checkpoints["sd15"], memory="low").sentence()
    assert re.fullmatch(r"Memory plan for 512×512 with 24.00 GiB on cuda: model offload; the weights move .* once a picture.|.*VAE tiling.*", low)  # fmt: skip
    card(0.5)
    assert "still needs about" in sdkit.plan(checkpoints["sd15"]).sentence()
    assert "\n" not in low


def test_a_plan_shows_itself(card, checkpoints):
    found = sdkit.plan(checkpoints["sdxl"], memory="8GB")
    text = str(found)
    assert text.count("▸") == 1
    assert "▸ text encoders offloaded, VAE tiling" in text
    assert all(name in text for name, _ in found.parts)
    from dataclasses import replace

    assert "<script>" not in replace(found, name="<script>")._repr_html_()
    assert found._repr_html_().count("<tr>") == text.count("\n") + 1


def test_on_a_processor_everything_is_resident(folder):
    found = sdkit.plan(device="cpu")
    assert (found.name, found.way, found.sentence()) == ("pocket", Way(), "")
    assert "all resident" in str(found)
    assert sdkit.plan(folder, device="cpu", memory="low").way == Way()  # too small for tiles
    assert sdkit.plan(folder, device="cpu", memory="low", width=1024, height=1024).way == Way(
        tiled=True
    )


@pytest.mark.parametrize("asked", ["", "some", "0GB", "-1GB", "8", "GB", "1e9GB", 8])
def test_memory_that_is_none(asked):
    with pytest.raises(
        InvalidSettings, match='choose "auto", "full", "low" or a size such as "8GB"'
    ):
        sdkit.load(memory=asked)


def test_a_plan_of_a_variant(tmp_path):
    pipe = families.sd15().to(torch.float16)
    pipe.save_pretrained(tmp_path / "half", variant="fp16")
    found = dict(sdkit.plan(tmp_path / "half", variant="fp16", device="cpu").parts)
    assert (
        found["unet"] == 4 * pipe.unet.num_parameters()
    )  # a processor computes in single precision


def test_plans_of_names_that_lead_nowhere():
    with pytest.raises(ModelNotFound, match="There is no file or folder"):
        sdkit.plan("./no/such/folder")


# -- loading by a plan -----------------------------------------------------------------------------------------------


def test_load_follows_its_plan(folder, capsys):
    pipe = sdkit.load(folder, device="cpu")
    assert capsys.readouterr().out == ""
    assert planned(pipe).way == Way()
    assert state(pipe) == ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "free", lambda device: 2**20)
        tight = sdkit.load(folder, device="cpu")
    assert capsys.readouterr().out.count("\n") == 1
    assert not planned(tight).fits
    assert np.array_equal(pixels(make(pipe))[0], pixels(make(tight))[0])


def test_compile_compiles_the_denoiser(folder, monkeypatch):
    compiled = []
    monkeypatch.setattr(
        torch.nn.Module,
        "compile",
        lambda self, *args, **kwargs: compiled.append((self, args, kwargs)),
    )
    pipe = sdkit.load(folder, device="cpu", compile=True)
    assert compiled == [(pipe.unet, (), {})]
    sdkit.load(folder, device="cpu")
    assert len(compiled) == 1


@pytest.mark.parametrize(
    ("family", "what"),
    [("sd15", "text encoders"), ("sd15", "models"), ("sdxl", "text encoders"), ("sdxl", "layers"), ("sd3", "models"), ("flux", "layers")],
)  # fmt: skip
def test_offloading_changes_no_picture_and_encodes_no_prompt_twice(family, what):
    pipe = families.FAMILIES[family]()
    expected = pixels(make(pipe))[0]
    pipe = families.FAMILIES[family]()
    offload(pipe, what, "cpu")
    assert offloaded(pipe) == what
    calls = []
    encode = pipe.encode_prompt

    def counting(*args, **kwargs):
        calls.append(kwargs.get("prompt", args[:1]))
        return encode(*args, **kwargs)

    pipe.encode_prompt = counting
    first, moved = make(pipe), len(calls)
    again = make(pipe, seed=0)
    assert np.array_equal(pixels(first)[0], expected)
    assert np.array_equal(pixels(again)[0], expected)
    assert first.settings.memory == placement._NAMES[what]
    if family in {"sd15", "sdxl"}:
        assert {str(c) for c in calls[moved:]} <= {
            "None",
            "()",
            "(None,)",
        }  # the pipeline hands on what it was given
        with torch.no_grad():
            next(pipe.text_encoder.parameters()).mul_(3)
        assert not np.array_equal(
            pixels(make(pipe))[0], expected
        )  # changed weights are never taken for known ones


def test_sequential_offload_is_diffusers_own(monkeypatch, tiny):
    asked = []
    monkeypatch.setattr(
        type(tiny), "enable_sequential_cpu_offload", lambda self, **kwargs: asked.append(kwargs)
    )
    offload(tiny, "all layers", "cuda")
    assert asked == [{"device": torch.device("cuda")}]


def test_tiles_are_smaller_than_the_picture():
    """Diffusers' own tiling does nothing at the size that an autoencoder was trained on."""
    pipe = families.sd15()
    pipe.vae.enable_tiling()
    assert pipe.vae.tile_sample_min_size == pipe.vae.config.sample_size
    calls = []
    pipe.vae.decoder.register_forward_hook(
        lambda module, args, out: calls.append(tuple(out.shape[-2:]))
    )
    placement.tile(pipe.vae, 16, pipe.vae_scale_factor)
    make(pipe)
    assert len(calls) > 1
    assert max(calls) == (16, 16)


# -- running out of memory -------------------------------------------------------------------------------------------


def full(*args):
    raise torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 512.00 MiB. GPU 0 has a total capacity of …"
    )


def fail_when(pipe, condition):
    """Let the denoiser's allocator fail on demand; `condition(batch)` with the number of network inputs."""
    pipe.unet.register_forward_pre_hook(
        lambda module, args: full() if condition(len(args[0])) else None
    )


def fail_decoding(pipe, condition):
    pipe.vae.post_quant_conv.register_forward_pre_hook(
        lambda module, args: full() if condition(args[0]) else None
    )


def told(caught):
    return [str(w.message) for w in caught if issubclass(w.category, LessMemory)]


def close(one, other):
    """Equal up to the arithmetic of another batch size."""
    return all(np.abs(a - b).max() <= 1 for a, b in zip(pixels(one), pixels(other), strict=True))


def test_fewer_together():
    expected = make(families.sd15(), count=6, batch_size=1)
    pipe = families.sd15()
    fail_when(pipe, lambda inputs: inputs > 2)  # one picture with guidance is two inputs
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = make(pipe, count=6, batch_size=6)
    assert len(told(caught)) == 1
    assert "smaller batches" in told(caught)[0]
    assert [s.seed for s in result.all_settings] == [0, 1, 2, 3, 4, 5]
    assert {s.memory for s in result.all_settings} == {"batches of 1"}
    assert all(np.array_equal(a, b) for a, b in zip(pixels(result), pixels(expected), strict=True))


def test_slices():
    expected = make(families.sd15(), count=3)
    pipe = families.sd15()
    fail_decoding(pipe, lambda z: len(z) > 1)
    with pytest.warns(LessMemory, match="one by one from now on") as caught:
        result = make(pipe, count=3)
    assert len(told(caught)) == 1
    assert result.settings.memory == "VAE slicing"
    assert np.array_equal(result.latents, expected.latents)
    assert close(result, expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error", LessMemory)
        again = make(pipe, count=3)  # they stay on, and are not told again
    assert all(np.array_equal(a, b) for a, b in zip(pixels(result), pixels(again), strict=True))


def test_tiles(monkeypatch):
    monkeypatch.setattr(recovery, "_TILES", (16,))
    expected = make(families.sd15())
    pipe = families.sd15()
    fail_decoding(pipe, lambda z: z.shape[-1] > 8)
    with pytest.warns(LessMemory, match="overlapping tiles") as caught:
        result = make(pipe)
    assert len(told(caught)) == 1
    assert result.settings.memory == "VAE tiling (16)"
    assert np.array_equal(result.latents, expected.latents)
    assert (
        np.abs(pixels(result)[0] - pixels(expected)[0]).mean() < 30
    )  # group norms see a tile, not the picture


def test_offloading_in_the_middle(monkeypatch):
    monkeypatch.setattr(recovery, "can_offload", lambda device: True)
    expected = make(families.sd15())
    pipe = families.sd15()
    fail_when(pipe, lambda inputs: offloaded(pipe) == "nothing")
    with pytest.warns(LessMemory, match="goes on slower, with model offload") as caught:
        result = make(pipe)
    assert len(told(caught)) == 1
    assert result.settings.memory == "model offload"
    assert np.array_equal(pixels(result)[0], pixels(expected)[0])


def test_offloading_beside_offloaded_text_encoders(monkeypatch):
    monkeypatch.setattr(recovery, "can_offload", lambda device: True)
    expected = make(families.sdxl())
    pipe = families.sdxl()
    offload(pipe, "text encoders", "cpu")
    fail_when(pipe, lambda inputs: offloaded(pipe) == "text encoders")
    with pytest.warns(LessMemory, match="group offload"):
        result = make(pipe)
    assert np.array_equal(pixels(result)[0], pixels(expected)[0])


def test_the_whole_ladder_and_its_end(monkeypatch):
    monkeypatch.setattr(recovery, "can_offload", lambda device: True)
    monkeypatch.setattr(recovery, "_TILES", (16,))
    rungs = []
    monkeypatch.setattr(recovery, "offload", lambda pipe, what, device: rungs.append(what))
    monkeypatch.setattr(recovery, "offloaded", lambda pipe: (["nothing", *rungs])[-1])
    pipe = families.sd15()
    fail_when(pipe, lambda inputs: inputs > 4)
    fail_decoding(pipe, lambda z: True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(OutOfMemory) as end:
            make(pipe, count=4, batch_size=4)
    assert rungs == ["models", "all layers"]
    assert [next(w for w in ("batches", "one by one", "tiles", "goes on") if w in t) for t in told(caught)] == [
        "batches", "one by one", "tiles", "goes on", "goes on",
    ]  # fmt: skip
    sentence = str(end.value)
    assert re.search(
        r"2 pictures of 32×32 did not fit into the memory of cpu: [\d.]+ of [\d.]+ GiB are free",
        sentence,
    )
    assert "512.00 MiB more were asked for" in sentence
    assert "even with batches of 2, VAE slicing, VAE tiling (16)" in sentence
    assert "\n" not in sentence
    assert isinstance(end.value, MemoryError)
    assert end.value.__cause__ is None


def test_nothing_of_a_failed_attempt_stays():
    pipe = families.sd15()
    kept = []
    fail_when(pipe, lambda inputs: (kept.append(inputs), inputs > 2)[1])
    steps = []
    with pytest.warns(LessMemory):
        result = make(
            pipe,
            count=2,
            steps=2,
            attention=True,
            trace=True,
            on_step=lambda step, total, peek: steps.append(step),
        )
    assert [r.trace is not None and r.attention is not None for r in result] == [True, True]
    assert steps == [1, 2, 1, 2]
    alone = make(families.sd15(), seed=1, steps=2, attention=True)
    assert np.allclose(result[1].attention["cat"], alone.attention["cat"], atol=1e-5)


def test_a_replay_forgets_how_memory_was_saved():
    pipe = families.sd15()
    pipe.vae.enable_slicing()
    result = make(pipe)
    assert result.settings.memory == "VAE slicing"
    pipe.vae.disable_slicing()
    assert make(pipe, result.settings).settings.memory is None


def test_walks_climb_down_too():
    pipe = families.sd15()
    expected = sdkit.interpolate(
        pipe, ["a cat", "a fox"], frames=3, steps=1, width=32, height=32, progress=False
    )
    fail_when(pipe, lambda inputs: inputs > 2)
    with pytest.warns(LessMemory):
        walk = sdkit.interpolate(
            pipe, ["a cat", "a fox"], frames=3, steps=1, width=32, height=32, progress=False
        )
    assert all(
        np.abs(np.int16(a) - np.int16(b)).max() <= 1
        for a, b in zip(walk[:], expected[:], strict=True)
    )


def test_other_errors_pass():
    pipe = families.sd15()
    pipe.unet.register_forward_pre_hook(
        lambda module, args: (_ for _ in ()).throw(RuntimeError("shape mismatch"))
    )
    with pytest.raises(RuntimeError, match="shape mismatch"):
        make(pipe)


@pytest.mark.parametrize(
    "sentence",
    ["[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried …", "MPS backend out of memory (…)"],
)  # fmt: skip
def test_processors_and_apple_say_it_otherwise(sentence):
    assert recovery.ran_out(RuntimeError(sentence))
    assert not recovery.ran_out(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


# -- half precision --------------------------------------------------------------------------------------------------


def overflowing(folder, part, layer, factor=1e5):
    """Plant numbers that single precision carries and half precision does not."""
    pipe = sdkit.load(folder, device="cpu")
    network = getattr(pipe, part)
    with torch.no_grad():
        network.get_submodule(layer).weight.mul_(factor)
    pipe.save_pretrained(folder)


def test_sound_models_stay_in_half_precision(folder, capsys):
    pipe = sdkit.load(folder, device="cpu", dtype=torch.float16)
    assert {pipe.unet.dtype, pipe.vae.dtype, pipe.text_encoder.dtype} == {torch.float16}
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("part", "layer"), [("vae", "decoder.conv_in"), ("unet", "conv_in")])
def test_the_part_that_overflows_is_widened(folder, capsys, part, layer):
    overflowing(folder, part, layer)
    bare = StableDiffusionPipeline.from_pretrained(
        folder, dtype=torch.float16, use_safetensors=True
    )
    with pytest.raises(NumericalError):
        make(bare)
    pipe = sdkit.load(folder, device="cpu", dtype=torch.float16)
    out = capsys.readouterr().out
    (line,) = [told for told in out.splitlines() if not told.startswith("Licence of ")]
    assert line.startswith(
        f"The {part} of this model overflows in float16 on cpu; it runs in float32 instead"
    )
    assert getattr(pipe, part).dtype == torch.float32
    assert pipe.text_encoder.dtype == torch.float16
    exact = make(sdkit.load(folder, device="cpu"))
    assert np.abs(pixels(make(pipe))[0] - pixels(exact)[0]).mean() < 8
    sketch = exact.image
    assert make(pipe, image=sketch, strength=1).image.size == (32, 32)
    assert len(sdkit.variations(pipe, make(pipe), count=2, progress=False)) == 2
    assert dict(planned(pipe).parts)[part] == sum(
        p.nbytes for p in getattr(pipe, part).parameters()
    )


@pytest.mark.parametrize("family", ["sdxl", "sd3", "flux"])
def test_every_family_can_be_probed(family, capsys):
    from sdkit.memory.precision import widen_what_overflows

    pipe = families.FAMILIES[family]().to(torch.float16)
    assert widen_what_overflows(pipe, "cpu") == {}
    network = pipe.unet if family == "sdxl" else pipe.transformer
    with torch.no_grad():
        next(network.parameters()).fill_(torch.inf)
    assert list(widen_what_overflows(pipe, "cpu").values()) == [torch.float32]
    assert json.dumps(capsys.readouterr().out).count("overflows in float16") == 1


# -- what is free -------------------------------------------------------------------------------------------------------


def group(folder, limit, taken, inactive, version):
    names = {
        1: ("limit_in_bytes", "usage_in_bytes", "total_inactive_file"),
        2: ("max", "current", "inactive_file"),
    }
    held, used, pages = names[version]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"memory.{held}").write_text(f"{limit}\n")
    (folder / f"memory.{used}").write_text(f"{taken}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{pages} {inactive}\n")


def test_a_containers_limit_counts_at_every_level(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    assert container_room(tmp_path) is None  # not Linux
    book = tmp_path / "proc/self/cgroup"
    book.write_text("0::/user/job\n")
    assert container_room(tmp_path) is None  # no limit anywhere
    top = tmp_path / "sys/fs/cgroup"
    group(top / "user/job", "max", 700, 100, 2)
    assert container_room(tmp_path) is None
    group(top / "user", 1000, 700, 100, 2)
    assert container_room(tmp_path) == 400  # files that were read go when memory is needed
    group(top / "user/job", 500, 300, 50, 2)
    assert container_room(tmp_path) == 250
    group(top / "user/job", 500, 600, 0, 2)
    assert container_room(tmp_path) == 0
    book.write_text("9:name=systemd:/\n4:cpu,memory:/docker/0123\n0::/\n")
    group(
        top / "memory", 2000, 1500, 300, 1
    )  # inside of the container the path of the world outside is not there
    assert container_room(tmp_path) == 800


def test_free_memory_is_what_may_be_had(monkeypatch):
    import psutil

    monkeypatch.setattr("sdkit.memory.plan.container_room", lambda: None)
    assert free("cpu") == pytest.approx(
        psutil.virtual_memory().available, rel=0.2
    )  # with the page cache
    monkeypatch.setattr("sdkit.memory.plan.container_room", lambda: 3 * 2**30)
    assert free("cpu") <= 3 * 2**30
