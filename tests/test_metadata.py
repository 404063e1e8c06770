"""Settings go into PNG, JPEG and WebP and come out the same; files of strangers are read or refused, never obeyed."""

from __future__ import annotations

import io
import json
import struct
import xml.etree.ElementTree as ET
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from test_settings import any_settings

from sdkit.errors import BadPicture
from sdkit.pictures.metadata import (
    exif_and_xmp,
    fingerprint,
    open_picture,
    png_chunks,
    read_settings,
)
from sdkit.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = "a fox\nNegative prompt: fur\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 12, Size: 64x64, Model hash: ab"
DIGITAL_SOURCE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
MADE_BY_MODEL = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
PARTLY_BY_MODEL = (
    "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
)


def encoded(kind: str, settings: Settings, extra: dict[str, str] | None = None) -> bytes:
    options = (
        {"pnginfo": png_chunks(settings, extra)} if kind == "PNG" else exif_and_xmp(settings, extra)
    )
    return saved(kind, **options)


def saved(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "teal").save(file, kind, **options)
    return file.getvalue()


def with_text(**chunks: str) -> bytes:
    info = PngInfo()
    for name, text in chunks.items():
        info.add_text(name, text)
    return saved("PNG", pnginfo=info)


def with_comment(comment: bytes, kind: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = comment
    return saved(kind, exif=exif.tobytes())


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@hypothesis_settings(
    max_examples=60, suppress_health_check=[HealthCheck.differing_executors], deadline=None
)
@given(settings=any_settings(), extra=st.dictionaries(st.text(), st.text(), max_size=3))
def test_round_trip(kind: str, settings: Settings, extra: dict[str, str]) -> None:
    assert read_settings(encoded(kind, settings, extra)) == (settings, extra)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(
    "prompt",
    ["", "Negative prompt: all of it", "x\nSteps: 9, Seed: 9, CFG scale: 9", "]]></sdkit:settings>", "\x00\x01\ufffe\U0010ffff", "🦊" * 2000],
)  # fmt: skip
def test_prompts_that_look_like_the_format(kind: str, prompt: str) -> None:
    settings = Settings(prompt, negative_prompt=prompt, seed=4)
    assert read_settings(encoded(kind, settings))[0] == settings


@pytest.mark.parametrize("task", ["text-to-image", "image-to-image", "inpainting"])
def test_pictures_say_that_a_model_made_them(task: str) -> None:
    settings = Settings("<&>\"'\x07", task=task)
    packets = [
        Image.open(io.BytesIO(encoded("PNG", settings))).info["XML:com.adobe.xmp"],
        Image.open(io.BytesIO(encoded("JPEG", settings))).info["xmp"].decode(),
        Image.open(io.BytesIO(encoded("WEBP", settings))).info["xmp"].decode(),
    ]
    for packet in packets:
        marks = [
            node.get(DIGITAL_SOURCE)
            for node in ET.fromstring(packet).iter()
            if node.get(DIGITAL_SOURCE)
        ]
        assert marks == [PARTLY_BY_MODEL if task == "inpainting" else MADE_BY_MODEL]


def test_other_programs_find_their_text() -> None:
    settings = Settings("ein Fuchs, größer", seed=5, steps=9)
    png = Image.open(io.BytesIO(encoded("PNG", settings)))
    assert png.info["parameters"] == "ein Fuchs, größer\nSteps: 9, Seed: 5, Version: sdkit"
    assert json.loads(png.info["sdkit"])["settings"]["seed"] == 5
    for kind in ("JPEG", "WEBP"):
        comment = Image.open(io.BytesIO(encoded(kind, settings))).getexif().get_ifd(0x8769)[0x9286]
        assert comment == b"UNICODE\0" + png.info["parameters"].encode("utf-16-be")


@pytest.mark.parametrize(
    "picture",
    [
        with_text(parameters=BLOCK),
        with_comment(b"UNICODE\0" + BLOCK.encode("utf-16-be")),
        with_comment(b"UNICODE\0" + BLOCK.encode("utf-16-le"), "WEBP"),
        with_comment(b"UNICODE\0" + BLOCK.encode("utf-16")),
        with_comment(b"UNICODE\0" + BLOCK.encode("utf-8")),
        with_comment(b"ASCII\0\0\0" + BLOCK.encode() + b"\0\0"),
        with_comment(bytes(8) + BLOCK.encode(), "WEBP"),
        with_comment(b"UNICODE\0" + BLOCK.encode("utf-16-be"), "PNG"),
    ],
    ids=["png", "utf-16-be", "utf-16-le", "bom", "utf-8", "ascii", "undefined", "exif-in-png"],
)
def test_pictures_of_other_programs(picture: bytes) -> None:
    settings, extra = read_settings(picture)
    assert settings == Settings(
        "a fox",
        negative_prompt="fur",
        steps=20,
        scheduler="euler_a",
        guidance_scale=7,
        seed=12,
        width=64,
        height=64,
    )
    assert extra == {"Model hash": "ab"}


def test_a_newer_sdkits_picture_stays_readable() -> None:
    text = json.dumps({"settings": {"prompt": "a cat", "clip_skip": 2}, "extra": {"note": "hello"}})
    assert read_settings(with_text(sdkit=text)) == (
        Settings("a cat"),
        {"note": "hello", "clip_skip": "2"},
    )


def test_paths_bytes_and_open_images_read_alike(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(encoded("PNG", Settings("a cat")))
    with Image.open(path) as image:
        read = [read_settings(source) for source in (image, path, str(path), path.read_bytes())]
    assert read == [(Settings("a cat"), {})] * 4


def png_of(width: int, height: int) -> bytes:
    """Return a PNG that only claims a size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(b""), b"IEND"]
    body = b"".join(
        struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def text_bomb() -> bytes:
    info = PngInfo()
    info.add_text("parameters", "0" * 3_000_000, zip=True)
    return saved("PNG", pnginfo=info)


DAMAGED = (
    "the picture's 'sdkit' text is damaged (not the JSON that sdkit writes): pass settings by hand"
)
NO_SETTINGS = (
    "this picture holds no settings (no 'sdkit' or 'parameters' text): pass settings by hand"
)
NO_PICTURE = "the picture is not a PNG, JPEG or WebP picture: convert it first"


@pytest.mark.parametrize(
    ("picture", "sentence"),
    [
        (b"", NO_PICTURE),
        (b"hello", NO_PICTURE),
        (saved("GIF"), NO_PICTURE),
        (saved("BMP"), NO_PICTURE),
        (saved("PNG"), NO_SETTINGS),
        (saved("JPEG"), NO_SETTINGS),
        (saved("WEBP"), NO_SETTINGS),
        (saved("JPEG", exif=b"Exif\0\0broken"), NO_SETTINGS),
        (with_text(sdkit="{"), DAMAGED),
        (with_text(sdkit="[" * 50_000), DAMAGED),
        (with_text(sdkit="[1]"), DAMAGED),
        (with_text(sdkit='{"settings": {}, "extra": [1]}'), DAMAGED),
        (with_text(sdkit='{"settings": 3}'), "the picture's settings cannot be used: settings must be a dictionary, not int: use field names as keys"),
        (with_text(sdkit='{"settings": {"steps": "__import__(\'os\')"}}'), "the picture's settings cannot be used: steps must be a whole number from 1 to 1000, not \"__import__('os')\": change it"),
        (with_comment(b"ASCII\0\0\0holiday"), "the picture's text has no line of settings such as 'Steps: 20, Seed: 1, …': pass settings by hand"),
        (png_of(8_001, 8_000), "the picture has more than the 64 megapixels that are opened: make it smaller first"),
        (png_of(10_000, 10_000), "the picture has more than the 64 megapixels that are opened: make it smaller first"),
        (png_of(20_000, 20_000), "the picture has more than the 64 megapixels that are opened: make it smaller first"),
        (with_text(a="x" * 600_000, b="y" * 600_000), "the picture brings more than 1 MiB of metadata, which no settings need: save it again without"),
        (saved("WEBP", xmp=b"x" * 1_100_000), "the picture brings more than 1 MiB of metadata, which no settings need: save it again without"),
    ],
)  # fmt: skip
def test_bad_pictures_are_refused_in_one_sentence(picture: bytes, sentence: str) -> None:
    with pytest.raises(BadPicture) as refusal:
        read_settings(picture)
    assert str(refusal.value) == sentence


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("share", [0.5, 0.97])
def test_truncated_pictures_are_refused(kind: str, share: float) -> None:
    whole = encoded(kind, Settings("a cat"))
    with pytest.raises(
        BadPicture, match=r"^the picture (cannot be read|is not a PNG).*(file|first)$"
    ):
        read_settings(whole[: int(len(whole) * share)])


def test_text_that_inflates_beyond_pillows_limit_is_refused() -> None:
    with pytest.raises(BadPicture, match=r"^the picture cannot be read"):
        read_settings(text_bomb())


def test_missing_files_and_folders_are_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(
        BadPicture, match=r"^there is no picture '.*cat\.png': check the folder and the spelling$"
    ):
        open_picture(tmp_path / "cat.png")
    with pytest.raises(BadPicture, match=r"^'.*' cannot be read \(Is a directory\)"):
        open_picture(tmp_path)
    with pytest.raises(BadPicture, match="cannot be read"):
        open_picture("a\0b.png")


@given(st.binary(max_size=300), st.sampled_from(["PNG", "JPEG", "WEBP"]), st.integers(0, 600))
@hypothesis_settings(deadline=None)
def test_any_damage_is_read_or_refused(noise: bytes, kind: str, position: int) -> None:
    whole = encoded(kind, Settings("a cat"))
    try:
        read_settings(whole[:position] + noise + whole[position + len(noise) :])
    except BadPicture as refusal:
        assert "\n" not in str(refusal)  # noqa: PT017  (both outcomes are right)


def test_fingerprint_is_of_the_pixels() -> None:
    image = Image.new("RGB", (4, 2), "red")
    file = io.BytesIO()
    image.convert("P").save(file, "PNG")
    assert fingerprint(Image.open(file)) == fingerprint(image)
    assert fingerprint(image) != fingerprint(image.transpose(Image.Transpose.ROTATE_90))
    assert Settings(source=fingerprint(image)).source
