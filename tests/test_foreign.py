"""Pictures of other programs: every carrier, every program, no bad value costs the rest, nothing is left out unsaid."""

from __future__ import annotations

import io
import json
import os
import random
import sys
import time
from html import escape
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sdkit.errors import BadPicture
from sdkit.pictures.metadata import read_picture
from sdkit.pictures.parameters import read_parameters
from sdkit.result import load_result
from sdkit.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = "a größer fox\nNegative prompt: fur\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 12, Size: 64x32"
READ = Settings(
    "a größer fox",
    negative_prompt="fur",
    steps=20,
    scheduler="euler_a",
    guidance_scale=7,
    seed=12,
    width=64,
    height=32,
)
NO_SEED = "no seed could be read: seed 0 is used"
OUTSIDE = "is outside 0 to 9223372036854775807: choose a number in that range"


def saved(kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 32), "teal").save(file, kind, **options)
    return file.getvalue()


def png(*, itxt: bool = False, compressed: bool = False, raw: bool = False, **chunks: str) -> bytes:
    info = PngInfo()
    for name, text in chunks.items():
        if raw:
            info.add(b"tEXt", name.encode() + b"\0" + text.encode())
        elif itxt:
            info.add_itxt(name, text, zip=compressed)
        else:
            info.add_text(name, text, zip=compressed)
    return saved("PNG", pnginfo=info)


def exif(tags: dict[int, Any], kind: str = "JPEG") -> bytes:
    block = Image.Exif()
    for tag, value in tags.items():
        (block.get_ifd(0x8769) if tag == 0x9286 else block)[tag] = value
    return saved(kind, exif=block.tobytes())


def comment(label: bytes, encoding: str, text: str = BLOCK) -> bytes:
    return exif({0x9286: label + text.encode(encoding)})


def xmp(inside: str) -> bytes:
    return f'<?xpacket begin="\ufeff"?><x:xmpmeta><rdf:Description {inside}</x:xmpmeta><?xpacket end="w"?>'.encode()


JAPANESE = BLOCK.replace("größer", "狐")
IN_AN_ELEMENT = xmp(f"><exif:UserComment><rdf:li>{escape(BLOCK)}</rdf:li></exif:UserComment>")
IN_AN_ATTRIBUTE = xmp(f'dc:description="{escape(BLOCK).replace(chr(10), "&#10;")}"/>')

CARRIERS = {
    "tEXt": png(parameters=BLOCK),
    "tEXt, upper case": png(Parameters=BLOCK),
    "tEXt in UTF-8": png(raw=True, parameters=BLOCK),
    "zTXt": png(parameters=BLOCK, compressed=True),
    "iTXt": png(parameters=BLOCK, itxt=True),
    "iTXt, compressed": png(parameters=BLOCK, itxt=True, compressed=True),
    "tEXt of another name": png(Comment=BLOCK),
    "eXIf": exif({0x9286: b"UNICODE\0" + BLOCK.encode("utf-16-be")}, "PNG"),
    "WebP": exif({0x9286: b"UNICODE\0" + BLOCK.encode("utf-16-le")}, "WEBP"),
    "ASCII": comment(b"ASCII\0\0\0", "utf-8"),
    "ASCII in Windows' code page": comment(b"ASCII\0\0\0", "cp1252"),
    "UNICODE, big end first": comment(b"UNICODE\0", "utf-16-be"),
    "UNICODE, little end first": comment(b"UNICODE\0", "utf-16-le"),
    "UNICODE with a mark": comment(b"UNICODE\0", "utf-16"),
    "UNICODE that is UTF-8": comment(b"UNICODE\0", "utf-8"),
    "Unicode in lower case": comment(b"Unicode\0", "utf-16-le"),
    "undefined": comment(bytes(8), "utf-8"),
    "undefined, wide": comment(bytes(8), "utf-16-le"),
    "no charset": comment(b"", "utf-8"),
    "no charset, wide": comment(b"", "utf-16-be"),
    "JIS that is UTF-8": comment(b"JIS\0\0\0\0\0", "utf-8"),
    "JIS": comment(b"JIS\0\0\0\0\0", "iso2022_jp", JAPANESE),
    "JIS in EUC": comment(b"JIS\0\0\0\0\0", "euc_jp", JAPANESE),
    "JIS in Windows' code page": comment(b"JIS\0\0\0\0\0", "cp932", JAPANESE),
    "ImageDescription": exif({0x010E: BLOCK.encode()}),
    "XPComment": exif({0x9C9C: BLOCK.encode("utf-16-le") + b"\0\0"}),
    "JPEG comment": saved("JPEG", comment=BLOCK.encode()),
    "JPEG comment, Latin-1": saved("JPEG", comment=BLOCK.encode("latin-1")),
    "XMP element": saved("JPEG", xmp=IN_AN_ELEMENT),
    "XMP attribute": saved("JPEG", xmp=IN_AN_ATTRIBUTE),
    "XMP as it is": saved(
        "WEBP", xmp=xmp(f"><dc:description><![CDATA[{BLOCK}]]></dc:description>")
    ),
    "XMP in WebP": saved("WEBP", xmp=IN_AN_ELEMENT),
    "XMP in PNG": png(itxt=True, **{"XML:com.adobe.xmp": IN_AN_ATTRIBUTE.decode()}),
}


@pytest.mark.parametrize("carrier", CARRIERS)
def test_every_carrier_is_read(carrier: str) -> None:
    expected = (
        READ.replace(prompt="a 狐 fox")
        if carrier.startswith("JIS") and "UTF-8" not in carrier
        else READ
    )
    assert read_picture(CARRIERS[carrier]) == (expected, {}, ())


@pytest.mark.parametrize(
    ("pair", "note"),
    [
        (f"Seed: {2**64 - 5}", f"'Seed: {2**64 - 5}' was left out (seed={2**64 - 5} {OUTSIDE})"),
        ("Seed: -1", f"'Seed: -1' was left out (seed=-1 {OUTSIDE})"),
        ("Seed: [1, 2]", "'Seed: [1, 2]' was left out (not a number)"),
        ("Seed: 1, 2, 3", "'Seed: 1, 2, 3' was left out (not a number)"),
        ("Seed: undefined", "'Seed: undefined' was left out (not a number)"),
        ("Denoising strength: 0", "'Denoising strength: 0' was left out (strength=0 would return the source picture unchanged: use a number above 0, up to 1)"),
        ("Denoising strength: 1.5", "'Denoising strength: 1.5' was left out (strength=1.5 is outside 0 to 1: choose a number in that range)"),
        ("Size: 1000x667", "'Size: 1000x667' was left out (height=667 is not a multiple of 8, which the autoencoder needs: use 664)"),
        ("Size: large", "'Size: large' was left out (not a number)"),
        ("Steps: 0", "'Steps: 0' was left out (steps=0 is outside 1 to 1000: choose a number in that range)"),
        ("Steps: many", "'Steps: many' was left out (not a number)"),
        ("Steps: 8.5", "'Steps: 8.5' was left out (not a number)"),
        ("Steps: " + "9" * 5000, "'Steps: " + "9" * 59 + "…' was left out (not a number)"),
        ("CFG scale: 60", "'CFG scale: 60' was left out (guidance_scale=60.0 is outside 0 to 50: choose a number in that range)"),
        ("CFG scale: nan", "'CFG scale: nan' was left out (guidance_scale=nan is outside 0 to 50: choose a number in that range)"),
        ("Variation seed strength: 0.5", "'Variation seed strength: 0.5' was left out (variation_amount=0.5 needs a variation_seed: give one, or use amount 0)"),
        ("Model: undefined", "'Model: undefined' was read as none"),
        ("Sampler: DEIS", "sampler 'DEIS' has no counterpart here: the pipeline's own scheduler will be used"),
        ("Schedule type: Simple", "sampler 'Euler a' with steps spaced 'Simple' has no counterpart here: the pipeline's own scheduler will be used"),
    ],
)  # fmt: skip
def test_one_bad_value_costs_only_itself(pair: str, note: str) -> None:
    pairs = {
        "Steps": "20",
        "Sampler": "Euler a",
        "CFG scale": "7",
        "Seed": "12",
        "Size": "64x32",
        "Model": "m",
    }
    name, _, value = pair.partition(": ")
    line = ", ".join(f"{k}: {v}" for k, v in {**pairs, name: value}.items())
    settings, extra, notes = read_parameters(f"a größer fox\nNegative prompt: fur\n{line}")
    lost = {
        "Steps": {"steps": None},
        "CFG scale": {"guidance_scale": None},
        "Seed": {"seed": 0},
        "Size": {"width": None, "height": None},
        "Model": {"model": None},
        "Sampler": {"scheduler": None},
        "Schedule type": {"scheduler": None},
    }
    assert settings == READ.replace(**{"model": "m", **lost.get(name, {})})
    assert notes == ((note, NO_SEED) if name == "Seed" else (note,))
    assert extra[name] == value


@pytest.mark.parametrize(
    "text",
    [
        BLOCK.replace("Steps: 20", "Steps: 20.0").replace("Seed: 12", "Seed: 12.0"),
        BLOCK.replace("\n", "\r\n") + "\r\n",
        BLOCK.replace("\n", "\r"),
        BLOCK.replace("\n", " "),
        BLOCK.replace("\n", ", "),
        BLOCK.replace("fur\n", "fur "),
        BLOCK.replace("\n", "\\n"),
        BLOCK.replace(", ", "\n"),
        BLOCK.lower(),
        BLOCK.replace("Seed: 12", "seed: 12").replace("CFG scale", "cfg_scale"),
        BLOCK.replace("64x32", "64 × 32"),
        BLOCK.replace("Size: 64x32", "Width: 64, Height: 32"),
        BLOCK.replace("Sampler: Euler a", "sampler_name: euler_ancestral, scheduler: normal"),
    ],
    ids=["8.0", "CRLF", "CR", "one line", "commas", "half a line", "escaped", "a line each", "lower case", "mixed", "times", "sides", "ComfyUI's names"],
)  # fmt: skip
def test_other_ways_to_write_the_same(text: str) -> None:
    assert read_parameters(text) == (READ, {}, ())


def test_a_prompt_of_one_line_may_talk_about_steps_and_look_like_a_pair() -> None:
    text = "a fox: red, Steps: 3 in the snow Steps: 28, Seed: 5, CFG scale: 7"
    settings, extra, notes = read_parameters(text)
    assert settings == Settings(
        "a fox: red, Steps: 3 in the snow", steps=28, seed=5, guidance_scale=7
    )
    assert (extra, notes) == ({}, ())
    assert read_parameters("steps: 4, seed: 2").settings == Settings(steps=4, seed=2)


def test_what_shaped_the_picture_is_named() -> None:
    text = (
        "a fox <lora:mist:0.8>\nNegative prompt: undefined\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 1, Clip skip: 2, "
        'VAE: soft.vae.pt, VAE hash: 12ab, Lora hashes: "mist: 9f8e", Denoising strength: 0.4, Hires upscale: 2, Tiling: False'
    )
    settings, extra, notes = read_parameters(text)
    assert (settings.task, settings.negative_prompt, extra["Denoising strength"]) == (
        "text-to-image",
        "",
        "0.4",
    )
    assert notes == (
        "'Negative prompt: undefined' was read as none",
        "the picture was also made with '<lora:mist:0.8>', 'Clip skip: 2', 'VAE: soft.vae.pt', 'Lora hashes: mist: 9f8e', 'Hires upscale: 2': the settings hold none of it, so add it to the pipeline by hand",
    )
    assert (
        read_parameters(text.replace("Clip skip: 2", "Clip skip: 1")).notes[1].count("Clip skip")
        == 0
    )


GRAPH = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 12, "steps": 20, "cfg": 7, "sampler_name": "euler_ancestral", "scheduler": "normal", "denoise": 1, "model": ["10", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 32, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a größer fox", "clip": ["10", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "fur", "clip": ["10", 1]}},
    "10": {"class_type": "LoraLoader", "inputs": {"lora_name": "mist", "strength_model": 0.8, "model": ["4", 0], "clip": ["4", 1]}},
}  # fmt: skip
FLUX_GRAPH = {
    "1": {"class_type": "RandomNoise", "inputs": {"noise_seed": 12}},
    "2": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler_ancestral"}},
    "3": {"class_type": "BasicScheduler", "inputs": {"steps": 20, "scheduler": "normal", "denoise": 1, "model": ["8", 0]}},
    "4": {"class_type": "CFGGuider", "inputs": {"cfg": 7, "positive": ["6", 0], "model": ["8", 0]}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 32}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a größer fox", "clip": ["9", 0]}},
    "8": {"class_type": "UNETLoader", "inputs": {"unet_name": "sd15.safetensors"}},
}  # fmt: skip
SWARM = {"sui_image_params": {"prompt": "a größer fox", "negativeprompt": "fur", "model": "sd15.safetensors", "seed": 12, "steps": 20, "cfgscale": 7.0, "width": 64, "height": 32, "sampler": "euler_ancestral", "scheduler": "normal", "loras": ["mist"], "swarm_version": "0.9"}}  # fmt: skip
EASY = {"prompt": "a größer fox", "negative_prompt": "fur", "seed": 12, "num_inference_steps": 20, "guidance_scale": 7, "width": 64, "height": 32, "sampler_name": "euler_a", "use_stable_diffusion_model": "sd15.safetensors", "use_lora_model": "mist"}  # fmt: skip
EASY_TEXT = {"Prompt": "a größer fox", "Negative Prompt": "fur", "Seed": "12", "Steps": "20", "Guidance Scale": "7", "Width": "64", "Height": "32", "Sampler": "euler_a", "Stable Diffusion model": "sd15.safetensors", "LoRA model": "mist"}  # fmt: skip
FOOOCUS = {"prompt": "a größer fox", "negative_prompt": "fur", "base_model": "sd15.safetensors", "base_model_hash": "ab", "guidance_scale": 7, "steps": 20, "seed": "12", "resolution": "(64, 32)", "sampler": "euler_ancestral", "scheduler": "normal", "sharpness": 2, "loras": [["mist", 0.5]], "refiner_model": "None", "version": "Fooocus v2.5.0"}  # fmt: skip
INVOKE = {"positive_prompt": "a größer fox", "negative_prompt": "fur", "seed": 12, "steps": 20, "cfg_scale": 7, "width": 64, "height": 32, "scheduler": "euler_a", "model": {"key": "k", "name": "sd15.safetensors"}, "loras": [{"model": {"name": "mist"}}], "strength": None}  # fmt: skip
NOVEL = {"prompt": "a größer fox", "uc": "fur", "steps": 20, "scale": 7, "seed": 12, "width": 64, "height": 32, "sampler": "k_euler_ancestral", "strength": 0.69}  # fmt: skip
NOVEL_CHUNKS = {"Description": "a größer fox", "Software": "NovelAI", "Source": "Stable Diffusion 1D44365E", "Comment": json.dumps(NOVEL)}  # fmt: skip
OLD_INVOKE = {"model_weights": "sd15.safetensors", "image": {"prompt": [{"prompt": "a größer fox [fur]", "weight": 1}], "sampler": "k_euler_a", "steps": 20, "cfg_scale": 7, "seed": 12, "width": 64, "height": 32}}  # fmt: skip

PROGRAMS = {
    "ComfyUI": png(
        itxt=True, prompt=json.dumps(GRAPH), workflow=json.dumps({"nodes": [], "links": []})
    ),
    "ComfyUI, no workflow": png(itxt=True, prompt=json.dumps(GRAPH)),
    "ComfyUI, WebP": exif({0x0110: "prompt:" + json.dumps(GRAPH), 0x010F: "workflow:{}"}, "WEBP"),
    "ComfyUI, JPEG": comment(
        b"UNICODE\0", "utf-16-be", json.dumps({"prompt": GRAPH, "workflow": {}})
    ),
    "ComfyUI, apart": png(itxt=True, prompt=json.dumps(FLUX_GRAPH)),
    "SwarmUI": png(parameters=json.dumps(SWARM)),
    "SwarmUI, JPEG": comment(b"UNICODE\0", "utf-16-be", json.dumps(SWARM, indent=1)),
    "Easy Diffusion": png(**{key: str(value) for key, value in EASY.items()}),
    "Easy Diffusion, text": png(**EASY_TEXT),
    "Easy Diffusion, JPEG": comment(b"UNICODE\0", "utf-16-be", json.dumps(EASY)),
    "Fooocus": png(parameters=json.dumps(FOOOCUS), fooocus_scheme="fooocus"),
    "Fooocus, JPEG": exif(
        {0x9286: b"UNICODE\0" + json.dumps(FOOOCUS).encode("utf-16-be"), 0x927C: b"fooocus"}
    ),
    "InvokeAI": png(invokeai_metadata=json.dumps(INVOKE), invokeai_graph="{}"),
    "InvokeAI 2": png(**{"sd-metadata": json.dumps(OLD_INVOKE)}),
    "InvokeAI 1": png(Dream='"a größer fox [fur]" -s 20 -S 12 -W 64 -H 32 -C 7 -A k_euler_a'),
    "NovelAI": png(**NOVEL_CHUNKS),
    "NovelAI, WebP": exif(
        {0x9286: b"UNICODE\0" + json.dumps(NOVEL_CHUNKS).encode("utf-16-be")}, "WEBP"
    ),
}


@pytest.mark.parametrize("case", PROGRAMS)
def test_every_program_is_read(case: str) -> None:
    program = case.partition(",")[0].removesuffix(" 1").removesuffix(" 2")
    settings, extra, notes = read_picture(PROGRAMS[case])
    model = None if case.startswith(("NovelAI", "InvokeAI 1")) else "sd15.safetensors"
    negative = "" if case == "ComfyUI, apart" else "fur"
    assert settings == READ.replace(model=model, negative_prompt=negative)
    assert extra["Program"] == program
    assert notes[0].startswith(f"made by {program}, ")
    lora = not case.startswith(("NovelAI", "InvokeAI 1", "InvokeAI 2", "ComfyUI, apart"))
    assert [("lora" in note.lower(), "mist" in note) for note in notes[1:]] == [(True, True)] * lora


def test_a_program_that_writes_a1111s_text_too_is_read_from_that() -> None:
    assert read_picture(png(itxt=True, prompt=json.dumps(GRAPH), parameters=BLOCK)) == (
        READ,
        {},
        (),
    )


def test_of_several_samplers_the_one_that_starts_from_noise_is_read() -> None:
    second = {**GRAPH["3"], "inputs": {**GRAPH["3"]["inputs"], "seed": 99, "denoise": 0.5}}
    settings, _, notes = read_picture(png(itxt=True, prompt=json.dumps({"1": second, **GRAPH})))
    assert (settings.seed, settings.task) == (12, "text-to-image")
    assert "its graph has 2 samplers, of which one is read" in notes
    alone = read_picture(png(itxt=True, prompt=json.dumps({**GRAPH, "3": second}))).settings
    assert (alone.seed, alone.task, alone.strength) == (99, "image-to-image", 0.5)


@pytest.mark.parametrize("program", ["ComfyUI", "InvokeAI 1", "InvokeAI 2"])
def test_without_sd_parsers_the_program_is_named(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sd_parsers.parsers", None)
    name = program.partition(" ")[0]
    told = rf"^this picture was made by {name}, whose settings are read by .* pip install 'sdkit-notebooks\[foreign\]'"
    with pytest.raises(BadPicture, match=told):
        read_picture(PROGRAMS[program])


@pytest.mark.parametrize(
    ("program", "chunks"),
    [
        ("ComfyUI", {"prompt": '{"3": {"class_type"'}),
        ("ComfyUI", {"workflow": '{"nodes": []}'}),
        (
            "ComfyUI",
            {"prompt": json.dumps({str(i): {"class_type": "A", "inputs": {}} for i in range(601)})},
        ),
        ("Fooocus", {"parameters": '{"prompt": "a', "fooocus_scheme": "fooocus"}),
        ("InvokeAI", {"invokeai_metadata": "{"}),
        ("InvokeAI", {"Dream": "a fox"}),
        ("InvokeAI", {"sd-metadata": "{}"}),
        ("NovelAI", {"Software": "NovelAI", "Comment": "{"}),
    ],
)
def test_damaged_settings_of_a_known_program_are_refused_by_its_name(
    program: str, chunks: dict[str, str]
) -> None:
    with pytest.raises(
        BadPicture,
        match=rf"^this picture was made by {program}, but its settings cannot be read: pass",
    ):
        read_picture(png(**chunks))


def test_one_bad_value_in_json_costs_only_itself() -> None:
    params = {
        **SWARM["sui_image_params"],
        "seed": [1, 2],
        "steps": "8.0",
        "cfgscale": {"a": 1},
        "prompt": "\ud83e fox",
    }
    settings, extra, notes = read_picture(png(parameters=json.dumps({"sui_image_params": params})))
    assert (settings.prompt, settings.steps, settings.seed, settings.guidance_scale) == (
        "? fox",
        8,
        0,
        None,
    )
    assert (extra["Seed"], extra["CFG scale"]) == ("[1, 2]", '{"a": 1}')
    assert "half a character in the prompt was replaced by '?'" in notes


def test_loading_shows_the_notes(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("parameters", BLOCK.replace("64x32", "1000x667").replace("Seed: 12", "Seed: -1"))
    Image.new("RGB", (100, 67)).save(tmp_path / "fox.png", pnginfo=info)
    loaded = load_result(tmp_path / "fox.png")
    assert (loaded.settings.steps, loaded.settings.width) == (20, None)
    assert [note.split(" was")[0] for note in loaded.notes] == [
        "'Seed: -1'",
        "'Size: 1000x667'",
        NO_SEED,
        "the picture's own size of 100×67 is none that a model can make: the model's usual size is used",
    ]
    shown = loaded._repr_mimebundle_()["text/html"]
    assert all(escape(note, quote=True) in shown for note in loaded.notes)


def test_a_newer_sdkits_settings_are_named() -> None:
    text = json.dumps({"settings": {"prompt": "a fox", "clip_skip": 2, "taste": None}})
    assert read_picture(png(sdkit=text)).notes == (
        "a newer sdkit recorded 'clip_skip', which this version does not know: the picture may come out differently",
    )


CHAIN = {
    str(i): {"class_type": "KSampler" if i % 2 else "A", "inputs": {**{f"i{k}": [str((i + k) % 600), 0] for k in range(1, 40)}, "text": "x", "positive": [str((i + 1) % 600), 0], "model": [str((i + 2) % 600), 0], **(GRAPH["3"]["inputs"] if i % 150 == 1 else {})}}
    for i in range(600)
}  # fmt: skip


@pytest.mark.parametrize(
    "picture",
    [
        saved("WEBP", xmp=b"<![CDATA[" * 100_000),
        saved("WEBP", xmp=b'="' * 400_000),
        saved("WEBP", xmp=b"=" + b" " * 400_000 + b"=" * 400_000),
        png(parameters="steps: 1 " * 100_000),
        png(parameters="a steps: 1, \n" * 30_000),
        png(parameters="Steps: 1, Seed: 1, Size: " + json.dumps(" " * 90_000)),
        png(parameters="x\nSteps: 1, Seed: 1, CFG scale: 7, Lora: " + "<lora:" * 15_000),
        png(parameters="<lora:" * 100_000 + "\nSteps: 1, Seed: 1, CFG scale: 7"),
        png(parameters='{"a":' * 100_000),
        png(prompt=json.dumps(CHAIN)),
    ],
)
def test_texts_made_to_stall_their_reader_do_not(picture: bytes) -> None:
    began = time.process_time()
    try:
        read_picture(picture)
    except BadPicture as error:
        assert "\n" not in str(error)  # noqa: PT017 - both outcomes are right
    assert time.process_time() - began < 10


def mutated(text: str, chance: random.Random) -> str:
    """Damage a text as editing, conversion and hostility do."""
    odd = ["\0", "\r\n", "\n", "{", "}", "[" * 50, '"', "'", ":", ",", "-", "\ufffd", "🦊", "é", "undefined", "NaN", "null", "9" * 400, "1e999", "true", "\\ud800", "<", "&#x0;", "Steps: ", "Seed: ", "seed:", "x", " "]  # fmt: skip
    for _ in range(chance.randint(1, 6)):
        start = chance.randint(0, len(text))
        end = min(len(text), start + chance.choice([0, 1, 1, 3, 10, 60]))
        part = text[start:end]
        text = (
            text[:start]
            + chance.choice([*odd, "", part * 2, part.upper(), part[::-1]])
            + text[end:]
        )
    return text


def test_any_mutated_text_is_read_or_refused_in_one_sentence() -> None:
    """200 texts; ``SDKIT_FUZZ=2000`` for more. What fails is told by its number, and made again from that."""
    graph = json.dumps(GRAPH)
    seeds = [
        ("parameters", BLOCK),
        ("parameters", BLOCK.replace("\n", " ")),
        ("prompt", graph),
        ("prompt", json.dumps(FLUX_GRAPH)),
        ("parameters", json.dumps(SWARM)),
        ("parameters", json.dumps(EASY)),
        ("parameters", json.dumps(FOOOCUS)),
        ("invokeai_metadata", json.dumps(INVOKE)),
        ("sd-metadata", json.dumps(OLD_INVOKE)),
        ("Dream", '"a fox [fur]" -s 20 -S 12 -W 64 -H 32 -C 7 -A k_euler_a'),
        ("Comment", json.dumps(NOVEL)),
        ("sdkit", json.dumps({"settings": READ.to_dict(), "extra": {}})),
    ]
    outcomes = {"read": 0, "refused": 0}
    for number in range(int(os.environ.get("SDKIT_FUZZ", "200"))):
        chance = random.Random(number)
        name, text = seeds[number % len(seeds)]
        text = mutated(text, chance)
        raw = text.encode(
            chance.choice(["utf-8", "utf-16-le", "utf-16-be", "cp1252", "cp932"]), errors="replace"
        )
        label = chance.choice([b"UNICODE\0", b"ASCII\0\0\0", b"JIS\0\0\0\0\0", bytes(8), b""])
        pictures = [
            lambda: png(itxt=True, Software="NovelAI", **{name: text}),  # noqa: B023 - called in this round
            lambda: exif({0x9286: label + raw}),  # noqa: B023
            lambda: saved("JPEG", comment=raw),  # noqa: B023
            lambda: saved("WEBP", xmp=xmp(f'a="{escape(text)}"/>')),  # noqa: B023
        ]
        picture = chance.choices(pictures, [5, 2, 1, 1])[0]()
        try:
            reading = read_picture(picture)
        except BadPicture as error:
            assert "\n" not in str(error), number  # noqa: PT017 - both outcomes are right
            outcomes["refused"] += 1
        except Exception as error:
            raise AssertionError(f"text {number} raised {error!r}") from error
        else:
            assert all("\n" not in note for note in reading.notes), number
            outcomes["read"] += 1
    assert min(outcomes.values()) > sum(outcomes.values()) / 10, outcomes
