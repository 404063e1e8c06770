"""A user's picture becomes a source or a mask in one function: every kind of picture, and what it should look like."""

from __future__ import annotations

import io
import math
import os
import re
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st
from PIL import Image, ImageCms, ImageDraw
from PIL.PngImagePlugin import PngInfo

import sdkit
from sdkit import cli
from sdkit.errors import BadPicture, InvalidSettings, SdkitError
from sdkit.generation import complete
from sdkit.pictures.metadata import fingerprint, open_picture
from sdkit.pictures.sources import (
    as_mask,
    as_source,
    effective_fit,
    fitted,
    fitted_mask,
    mask_note,
    sized_like,
)
from sdkit.settings import FITS, Settings

CASES = int(
    os.environ.get("SDKIT_SOURCE_CASES", "200")
)  # of the fuzz; 2,000 takes ten times as long
SMALL = {"steps": 2, "strength": 1, "progress": False}
HALF = SMALL | {"strength": 0.5}  # the source is still seen
ORIENTATIONS = range(1, 9)


def scene(width=12, height=8):
    """Every pixel is of another colour, so that a turn, a flip or a shift shows."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 5], -1).astype(np.uint8)


def grey(width=16, height=4):
    """Sixteen steps from black to white."""
    return np.tile(np.linspace(0, 1, width), (height, 1))


def saved(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def array(image):
    return np.asarray(image).astype(int)


# -- kind: orientation -----------------------------------------------------------------------------------------------


def as_stored(upright, orientation):
    """What a camera stores when it is held so, written out with NumPy: EXIF 2.32, table of Orientation."""
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: a.swapaxes(0, 1)[::-1],
        7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
        8: lambda a: a.swapaxes(0, 1)[:, ::-1],
    }
    return Image.fromarray(np.ascontiguousarray(turns[orientation](upright)))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "memory"])
def test_orientation_a_phones_photo_stands_upright(tmp_path, orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = as_stored(scene(), orientation)
    given = tmp_path / "photo"
    if kind == "memory":
        given = stored
        given.info["exif"] = exif.tobytes()
    else:
        given.write_bytes(
            saved(
                stored, kind, exif=exif.tobytes(), **({"lossless": True} if kind == "WEBP" else {})
            )
        )
    made = as_source(given)
    assert (array(made) == scene()).all()
    assert made.info == {}
    assert as_source(made) is made, "what was turned once is not turned again"
    light = as_mask(given)
    assert light.size == made.size
    assert (array(light) == array(made.convert("L"))).all()


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b""])
def test_orientation_a_damaged_exif_block_counts_as_none(exif):
    image = Image.fromarray(scene())
    image.info["exif"] = exif
    assert (array(as_source(image)) == scene()).all()


# -- kind: transparency ------------------------------------------------------------------------------------------------


def with_alpha(mode):
    """A red dot in the middle of what is transparent, in any mode that has transparency."""
    image = Image.new("RGBA", (6, 6), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (2, 2, 4, 4))
    if mode == "P":
        palette = Image.new("P", (6, 6), 0)
        palette.putpalette([0, 0, 0, 255, 0, 0])
        palette.paste(1, (2, 2, 4, 4))
        palette.info["transparency"] = 0
        return palette
    if mode == "RGB":
        image = image.convert("RGB")
        image.info["transparency"] = (0, 0, 0)
        return image
    if mode == "PA":
        return with_alpha("P").convert("PA")
    return image.convert("LA").convert("La") if mode == "La" else image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA", "RGBa", "La", "RGB"])
def test_transparency_lies_on_white(mode):
    made = array(as_source(with_alpha(mode)))
    assert (made[0, 0] == 255).all()
    assert (made[3, 3] < 255).any()


def test_transparency_between_is_mixed_with_white():
    made = as_source(Image.new("RGBA", (2, 2), (100, 0, 200, 51)))
    assert made.getpixel((0, 0)) == (224, 204, 244)  # a fifth of the colour


@pytest.mark.parametrize("depth", ["L", "I;16"])
def test_transparency_of_one_grey_value_in_a_png(depth):
    image = Image.fromarray(np.array([[0, 7]], np.uint8 if depth == "L" else np.uint16))
    opened = Image.open(io.BytesIO(saved(image, transparency=7)))
    assert array(as_source(opened))[0, :, 0].tolist() == [0, 255]


# -- kind: more than 8 bits, and floats --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("I;16", (grey() * 65535).round().astype(np.uint16)),
        ("I of 8 bits", (grey() * 255).round().astype(np.int32)),
        ("I of 16 bits", (grey() * 65535).round().astype(np.int32)),
        ("I of 31 bits", (grey() * (2**31 - 1)).astype(np.int32)),
        ("F to 1", grey().astype(np.float32)),
        ("F to 255", (grey() * 255).astype(np.float32)),
        ("F to 65535", (grey() * 65535).astype(np.float32)),
        ("L", (grey() * 255).round().astype(np.uint8)),
    ],
)
def test_depth_is_scaled_to_eight_bits(name, values):
    wanted = (grey() * 255).round()
    for given_ in (Image.fromarray(values), values):
        assert np.abs(array(as_source(given_))[..., 1] - wanted).max() <= 1, name
        assert np.abs(array(as_mask(given_)) - wanted).max() <= 1, name


@pytest.mark.parametrize("mode", ["I;16L", "I;16B", "I;16N"])
def test_depth_in_any_order_of_bytes(mode):
    image = Image.new(mode, (2, 1))
    image.putpixel((1, 0), 65535)
    assert array(as_source(image))[0, :, 0].tolist() == [0, 255]


def test_depth_of_a_png_with_16_bits(tmp_path):
    Image.fromarray((grey() * 65535).round().astype(np.uint16)).save(tmp_path / "deep.png")
    assert (
        np.abs(array(as_source(tmp_path / "deep.png"))[..., 0] - (grey() * 255).round()).max() <= 1
    )


@pytest.mark.parametrize(
    "values",
    [
        scene() / 255,
        (scene() / 255).astype(np.float16),
        scene().astype(np.int64),
        scene().astype(np.uint16) * 257,
    ],
)
def test_depth_of_arrays_of_colours(values):
    assert np.abs(array(as_source(values)) - scene()).max() <= 1


def test_depth_a_float_that_resampling_took_above_white_stays_in_scale():
    values = grey().astype(np.float32) * 1.05 - 0.02
    assert (
        np.abs(
            array(as_source(Image.fromarray(values)))[..., 0] - (values * 255).clip(0, 255)
        ).max()
        <= 1
    )


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=30))
def test_depth_keeps_the_order_of_greys(values):
    made = array(as_source(np.array([values], np.uint16)))[0, :, 0]
    assert (np.diff(made[np.argsort(values, kind="stable")]) >= 0).all()
    assert (np.abs(made - np.array(values) / 257) <= 0.5 + 1e-9).all()


@pytest.mark.parametrize(
    ("given_", "sentence"),
    [
        (np.array([[0.5, math.nan]], np.float32), "holds NaN or infinity"),
        (np.array([[0.5, -math.inf]]), "holds NaN or infinity"),
        (np.zeros((2, 3, 4, 5)), "shape (2, 3, 4, 5); give numbers of shape (H, W)"),
        (np.zeros((3, 8, 8)), "shape (3, 8, 8)"),
        (np.zeros((2, 2), complex), "an array of complex128"),
        (np.zeros((0, 3)), "give a picture of 1 pixel or more"),
        (Image.new("RGB", (0, 5)), "has 0×5 pixels"),
        ([1, 2], "is of type list; give a PIL image, a file's path or an array"),
        ("no such file.png", "there is no picture 'no such file.png'"),
        (".", "cannot be read"),
    ],
)
@pytest.mark.parametrize("take", [as_source, as_mask])
def test_what_is_no_picture_is_told_in_one_sentence(take, given_, sentence):
    with pytest.raises((InvalidSettings, BadPicture), match=re.escape(sentence)) as caught:
        take(given_)
    assert "\n" not in str(caught.value)


def test_a_file_that_ends_early_or_was_closed_is_told(tmp_path):
    file = tmp_path / "short.png"
    file.write_bytes(
        saved(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)))[
            :6000
        ]
    )
    for given_ in (file, Image.open(file)):
        with pytest.raises(BadPicture, match="cannot be read"):
            as_source(given_)
    Image.fromarray(scene()).save(tmp_path / "whole.png")
    closed = Image.open(tmp_path / "whole.png")
    closed.close()
    with pytest.raises(BadPicture, match="image cannot be read"):
        as_source(closed)


# -- kind: colour spaces -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["CMYK", "HSV", "YCbCr", "LAB", "RGBX"])
def test_colour_spaces_keep_the_colour(mode):
    image = Image.new("RGB", (4, 4), (200, 30, 60))
    if mode == "LAB":
        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        other = ImageCms.profileToProfile(image, rgb, lab, outputMode="LAB")
    else:
        other = image.convert(mode)
    assert np.abs(array(as_source(other)) - array(image)).max() <= 6
    assert np.abs(array(as_mask(other)) - array(image.convert("L"))).max() <= 4


def test_colour_spaces_a_cmyk_jpeg(tmp_path):
    Image.new("RGB", (16, 16), (200, 30, 60)).convert("CMYK").save(
        tmp_path / "print.jpg", quality=95
    )
    assert np.abs(array(as_source(tmp_path / "print.jpg")) - [200, 30, 60]).max() <= 6


# -- kind: long metadata -----------------------------------------------------------------------------------------------


def long_text():
    text = PngInfo()
    text.add_text("Comment", "x" * 2_000_000)
    text.add_text("workflow", "y" * 3_000_000, zip=True)
    text.add_itxt("notes", "z" * 2_000_000, zip=True)
    return text


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {"pnginfo": long_text()}),
        ("PNG", {"icc_profile": bytes(3_000_000)}),
        ("WEBP", {"icc_profile": bytes(1_500_000), "xmp": bytes(1_500_000), "lossless": True}),
        ("JPEG", {"icc_profile": bytes(2_000_000), "quality": 100, "subsampling": 0}),
    ],
)
def test_long_metadata_and_profiles_are_no_reason_to_refuse_a_source(tmp_path, kind, options):
    file = tmp_path / "source"
    file.write_bytes(saved(Image.fromarray(scene()), kind, **options))
    with pytest.raises(BadPicture):
        open_picture(file)  # where the settings are looked for, they still are
    made = as_source(file)
    assert np.abs(array(made) - scene()).max() <= (8 if kind == "JPEG" else 0)
    assert made.info == {}, "nothing of it is carried to workers or into the next file"


def test_long_metadata_orientation_in_xmp_alone_is_followed(tmp_path):
    xmp = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    text = long_text()
    text.add_itxt("XML:com.adobe.xmp", xmp)
    (tmp_path / "a.png").write_bytes(saved(as_stored(scene(), 6), pnginfo=text))
    assert (array(as_source(tmp_path / "a.png")) == scene()).all()


def test_long_metadata_leaves_the_guards_where_they_are(tmp_path):
    (tmp_path / "a.ppm").write_bytes(saved(Image.new("RGB", (4, 4)), "PPM"))
    with pytest.raises(BadPicture, match="not a PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF"):
        as_source(tmp_path / "a.ppm")
    huge = struct.pack(">II", 60_000, 60_000) + b"\x08\x02\0\0\0"
    head = struct.pack(">I", 13) + b"IHDR" + huge + struct.pack(">I", zlib.crc32(b"IHDR" + huge))
    (tmp_path / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + head + struct.pack(">I", 0) + b"IDAT" + bytes(4)
    )
    with pytest.raises(BadPicture, match="64 megapixels"):
        as_source(tmp_path / "bomb.png")


# -- kind: the alpha channel of a mask -------------------------------------------------------------------------------


def layer(colour, opaque=(2, 2, 5, 5), behind=(0, 0, 0, 0)):
    """A drawing layer of 8×8 pixels, opaque in one place."""
    image = Image.new("RGBA", (8, 8), behind)
    image.paste(colour, opaque)
    return image


def painted(*places):
    mask = Image.new("L", (8, 8))
    for place in places:
        mask.paste(255, place)
    return mask


BLACK_AND_WHITE = layer((0, 0, 0, 255), (1, 1, 7, 7))
BLACK_AND_WHITE.paste((255, 255, 255, 255), (3, 3, 5, 5))


@pytest.mark.parametrize(
    ("kind", "mask", "wanted"),
    [
        ("white with holes", layer((255, 255, 255, 255), behind=(255, 255, 255, 0)), painted((2, 2, 5, 5))),
        ("white strokes on transparent black", layer((255, 255, 255, 255)), painted((2, 2, 5, 5))),
        ("black strokes", layer((0, 0, 0, 255)), painted((2, 2, 5, 5))),
        ("red strokes", layer((255, 0, 0, 255)), painted((2, 2, 5, 5))),
        ("strokes of the palette", layer((0, 0, 0, 255)).quantize(4), painted((2, 2, 5, 5))),
        ("grey with alpha", layer((0, 0, 0, 255)).convert("LA"), painted((2, 2, 5, 5))),
        ("premultiplied", layer((255, 255, 255, 255)).convert("RGBa"), painted((2, 2, 5, 5))),
        ("black and white in a transparent frame", BLACK_AND_WHITE, painted((3, 3, 5, 5))),
        ("opaque", painted((1, 1, 3, 3)).convert("RGBA"), painted((1, 1, 3, 3))),
        ("an empty layer", Image.new("RGBA", (8, 8)), painted()),
        ("an empty white layer", Image.new("RGBA", (8, 8), (255, 255, 255, 0)), painted()),
        ("zeros and ones", Image.fromarray((np.asarray(painted((1, 1, 3, 3))) > 0).astype(np.uint8)), painted((1, 1, 3, 3))),
        ("truths", np.asarray(painted((1, 1, 3, 3))) > 0, painted((1, 1, 3, 3))),
        ("one bit", painted((1, 1, 3, 3)).convert("1"), painted((1, 1, 3, 3))),
        ("floats", np.asarray(painted((1, 1, 3, 3))) / 255, painted((1, 1, 3, 3))),
        ("colours", painted((1, 1, 3, 3)).convert("RGB"), painted((1, 1, 3, 3))),
    ],
)  # fmt: skip
def test_alpha_of_a_mask_counts_where_it_carries_the_mask(kind, mask, wanted):
    made = as_mask(mask)
    assert made.mode == "L"
    assert (array(made) == array(wanted)).all(), kind
    assert as_mask(made) is made


@given(
    st.lists(st.integers(0, 255), min_size=64, max_size=64),
    st.sampled_from([(255,) * 3, (0,) * 3, (9, 90, 200)]),
)
def test_alpha_of_one_coloured_mask_is_the_mask(alpha, colour):
    channel = Image.fromarray(np.array(alpha, np.uint8).reshape(8, 8))
    image = Image.new("RGBA", (8, 8), (*colour, 255))
    image.putalpha(channel)
    if len(set(alpha)) > 1 and max(alpha) > 1:
        assert (array(as_mask(image)) == array(channel)).all()


@pytest.mark.parametrize("colour", ["white", "black"])
def test_alpha_of_a_mask_repaints_what_is_opaque_and_keeps_the_rest(tiny, colour):
    source = Image.effect_noise((32, 32), 60).convert("RGB")
    mask = Image.new("RGBA", (32, 32), (255, 255, 255, 0) if colour == "white" else (0, 0, 0, 0))
    mask.paste(colour, (0, 0, 16, 32))
    made = sdkit.generate(tiny, "a fox", image=source, mask=mask, **SMALL)
    changed = (array(made.image) != array(source)).any(-1)
    assert not changed[:, 16:].any()
    assert changed[:, :16].mean() > 0.9


# -- kind: proportions -----------------------------------------------------------------------------------------------


def ball(width, height):
    """A black ball in the middle, half as high as the picture."""
    image = Image.new("RGB", (width, height), "white")
    radius = min(width, height) / 4
    box = (width / 2 - radius, height / 2 - radius, width / 2 + radius, height / 2 + radius)
    ImageDraw.Draw(image).ellipse(box, "black")
    return image


def extent(image):
    """Width and height of what is dark."""
    dark = array(image.convert("L")) < 128
    return int(dark.any(0).sum()), int(dark.any(1).sum())


def test_proportions_without_a_size_a_ball_stays_round(tiny):
    s = complete(tiny, "a ball", image=ball(512, 256), strength=1)[0]
    assert s.width == 2 * s.height
    assert s.width * s.height <= 32 * 32
    wide, high = extent(fitted(ball(512, 256), (s.width, s.height), s.fit))
    assert abs(wide - high) <= 1
    assert s.fit is None


@pytest.mark.parametrize(
    ("fit", "wanted"),
    [("crop", (32, 32)), (None, (32, 32)), ("pad", (16, 16)), ("stretch", (16, 32))],
)
def test_proportions_of_a_size_that_was_asked_for(fit, wanted):
    made = fitted(ball(128, 64), (64, 64), fit)
    assert made.size == (64, 64)
    assert np.abs(np.subtract(extent(made), wanted)).max() <= 1


def test_proportions_pad_shows_all_on_white_and_crop_the_middle():
    image = Image.new("RGB", (40, 20), "blue")
    image.paste("red", (10, 0, 30, 20))
    padded = array(fitted(image, (40, 40), "pad"))
    assert (padded[:10] == 255).all()
    assert (padded[30:] == 255).all()
    assert (padded[10:30] == array(image)).all()
    assert (array(fitted(image, (20, 20), "crop")) == [255, 0, 0]).all()


def test_proportions_a_mask_goes_with_the_image():
    frame, mask = (80, 40), Image.new("L", (80, 40))
    mask.paste(255, (0, 0, 30, 40))
    image = Image.merge("RGB", [mask] * 3)
    for fit in FITS:
        light = array(fitted(image, (40, 40), fit).convert("L")) > 127
        hole = array(fitted_mask(mask, frame, (40, 40), fit)) > 127
        inside = slice(10, 30) if fit == "pad" else slice(None)
        assert (hole[inside] == light[inside]).all(), fit
    hole = array(fitted_mask(mask, frame, (40, 40), "pad"))
    assert hole[:10].max() == hole[30:].max() == 0, "what is added around is kept"


def test_proportions_a_mask_of_the_pictures_own_shape_is_taken_whole():
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 64, 20))
    assert (array(fitted_mask(mask, (128, 64), (64, 64), "crop")) == array(mask)).all()


def test_proportions_a_mask_of_another_shape_is_told(tiny):
    assert mask_note(Image.new("L", (100, 67), 255), (1000, 667), (72, 48)) is None
    assert mask_note(Image.new("L", (32, 32), 255), (64, 32), (32, 32)) is None
    mask = Image.new("L", (30, 90), 255)
    with pytest.warns(
        UserWarning, match="The mask has 30×90 pixels and the image 64×64, so the mask is stretched"
    ):
        complete(tiny, "a fox", image=Image.new("RGB", (64, 64)), mask=mask)


@pytest.mark.parametrize(
    ("asked", "size", "fit"),
    [
        ({}, (40, 24), "crop"),
        ({"fit": "pad"}, (32, 32), "pad"),
        ({"fit": "stretch"}, (32, 32), "stretch"),
        ({"width": 48}, (48, 32), "crop"),
        ({"height": 64}, (104, 64), "crop"),
        ({"width": 64, "height": 64}, (64, 64), "crop"),
        ({"width": 64, "height": 64, "fit": "pad"}, (64, 64), "pad"),
        ({"width": 80, "height": 50 // 8 * 8, "fit": "stretch"}, (80, 48), "stretch"),
        ({"width": 160, "height": 96}, (160, 96), None),
    ],
)
def test_proportions_are_recorded_with_the_fit_that_acts(tiny, asked, size, fit):
    source = Image.new("RGB", (800, 480) if fit is None else (800, 500), "teal")
    s = complete(tiny, "a fox", image=source, **asked)[0]
    assert (s.width, s.height, s.fit) == (*size, fit)
    assert complete(tiny, s, image=source) == [s], "the recorded settings say the same again"


@given(
    st.integers(1, 9000),
    st.integers(1, 9000),
    st.sampled_from([(64, 64), (512, 512), (1344, 768)]),
    st.sampled_from([8, 16]),
)
@hypothesis_settings(deadline=None)
def test_proportions_of_any_source_give_a_size_that_settings_take(width, height, usual, step):
    class Shape:
        size = (width, height)

    s = sized_like(Settings(), Shape, usual, step=step)
    assert s.width % step == s.height % step == 0
    assert s.width * s.height <= usual[0] * usual[1]
    assert (s.width >= s.height) == (width >= height) or abs(width / height - 1) < 0.2
    if max(width / height, height / width) <= 2:  # common photos
        # 64 pixels a side leave steps of an eighth or of a quarter
        most = (0.13 if step == 8 else 0.2) if usual == (64, 64) else 0.04
        assert abs(math.log(s.width / s.height * height / width)) < most
    if width * usual[1] == height * usual[0]:
        assert (s.width, s.height) == usual


@pytest.mark.parametrize("side", [32, 64, 16])
def test_proportions_that_are_equal_change_nothing_to_the_bit(side):
    image = Image.fromarray(np.random.default_rng(side).integers(0, 255, (side, side, 3), np.uint8))
    mask = Image.fromarray(np.random.default_rng(1).integers(0, 255, (side, side), np.uint8))
    assert as_source(image) is image
    assert as_mask(mask) is mask
    assert fingerprint(as_source(image)) == fingerprint(image)
    for fit in (*FITS, None):
        assert (
            array(fitted(image, (32, 32), fit))
            == array(image.resize((32, 32), Image.Resampling.LANCZOS))
        ).all()
        hole = fitted_mask(mask, image.size, (32, 32), fit)
        assert (array(hole) == array(mask.resize((32, 32), Image.Resampling.BILINEAR))).all()


def test_fit_is_one_of_three_and_needs_an_image(tiny):
    with pytest.raises(InvalidSettings, match="there is no fit 'squeeze'"):
        Settings(fit="squeeze")
    with pytest.raises(
        InvalidSettings,
        match=re.escape("fit='pad' says how an image gets into the size; give image=…"),
    ):
        sdkit.generate(tiny, "a fox", fit="pad", progress=False)
    assert Settings.from_json(Settings("a", fit="pad").to_json()).fit == "pad"


# -- the whole way -----------------------------------------------------------------------------------------------------


def test_a_path_an_array_and_a_picture_make_the_same_result(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    values = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    Image.fromarray(values).save(tmp_path / "source.png")
    made = sdkit.generate(tiny, "a fox", image=Image.fromarray(values), **SMALL)
    for given_ in ("~/source.png", tmp_path / "source.png", values):
        again = sdkit.generate(tiny, "a fox", image=given_, **SMALL)
        assert again.settings == made.settings
        assert (array(again.image) == array(made.image)).all()


def test_a_result_is_made_again_from_what_the_run_really_saw(tiny):
    made = sdkit.generate(tiny, "a fox", image=with_alpha("P").resize((48, 32)), mask=layer((0, 0, 0, 255)), width=32, **SMALL)  # fmt: skip
    assert (made.source.mode, made.mask.mode, made.settings.fit) == ("RGB", "L", "crop")
    again = sdkit.generate(tiny, made, progress=False)
    assert again.settings == made.settings
    assert (array(again.image) == array(made.image)).all()


def test_sweeps_and_walks_take_the_same_pictures(tiny, tmp_path):
    (tmp_path / "a.png").write_bytes(saved(with_alpha("RGBA").resize((64, 32))))
    grid = sdkit.sweep(tiny, "a fox", x={"fit": list(FITS)}, image=tmp_path / "a.png", **HALF)
    sheets = {name: array(grid.cells[n, 0, 0].image).tobytes() for n, name in enumerate(FITS)}
    assert len(set(sheets.values())) == 3
    walk = sdkit.interpolate(
        tiny, ["a fox", "a cat"], frames=2, image=str(tmp_path / "a.png"), **HALF
    )
    assert walk.plan.keyframes[0].width > walk.plan.keyframes[0].height


def test_the_shell_has_fit(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["generate", "a fox", "--fit", "pad"]) == 2
    assert "--fit needs --image" in capsys.readouterr().err
    ball(96, 48).save("ball.png")
    assert (
        cli.main(
            [
                "generate",
                "a fox",
                "--image",
                "ball.png",
                "--fit",
                "pad",
                "--steps",
                "3",
                "-o",
                "fox.png",
            ]
        )
        == 0
    )
    made = sdkit.load_result("fox.png")
    assert (made.image.size, made.settings.fit) == ((128, 128), "pad")


# -- a fuzz of sources × masks -----------------------------------------------------------------------------------------

MODES = ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "PA", "RGBX", "RGBa", "La",
         "I;16", "I;16L", "I;16B", "I;16N"]  # fmt: skip
SIDES = [0, 1, 2, 3, 7, 16, 31, 32, 33, 64, 100, 257, 400]
WITH_THE_MODEL = range(0, 200, 40)  # cases that are made into a picture as well


def any_picture(chance, folder):
    """A picture of any kind, good or damaged: of Pillow, in a file, or as an array."""
    width, height = (int(n) for n in chance.choice(SIDES, 2, p=[0.01, *[0.99 / 12] * 12]))
    if chance.random() < 0.2:
        kind = chance.choice(["uint8", "bool", "uint16", "int16", "int32", "int64", "float16", "float32", "float64", "complex64", "U1"])  # fmt: skip
        shape = [(height, width), (height, width, int(chance.integers(1, 6))), (width,)][
            int(chance.integers(3))
        ]
        values = chance.normal(0.5, 1, shape) * 10.0 ** chance.integers(0, 5)
        return values.astype(kind)
    mode = str(chance.choice(MODES))
    image = Image.new(mode, (width, height))
    if width and height:
        raw = np.asarray(image)
        values = chance.random(raw.shape) * (
            2 if raw.dtype == bool else 10 ** chance.integers(0, 8)
        )
        with np.errstate(all="ignore"):
            image = (
                Image.frombytes(mode, image.size, values.astype(raw.dtype).tobytes())
                if raw.dtype != bool
                else image
            )
    if mode == "P" and chance.random() < 0.7:
        image.putpalette(chance.integers(0, 256, 768, np.uint8).tobytes())
    if mode == "F" and chance.random() < 0.2 and width and height:
        image.putpixel((0, 0), float(chance.choice([math.nan, math.inf, -1e30, 3e38])))
    if chance.random() < 0.3:
        image.info["transparency"] = [0, 255, 70_000, b"\0\xff" * 9, b"", (1, 2, 3), "white", None][
            int(chance.integers(8))
        ]
    if chance.random() < 0.4:
        exif = Image.Exif()
        exif[0x0112] = [1, 2, 3, 5, 6, 7, 8, 0, 9, 65535][int(chance.integers(10))]
        image.info["exif"] = exif.tobytes() if chance.random() < 0.8 else chance.bytes(40)
    if chance.random() < 0.2:
        image.info["icc_profile"] = chance.bytes(int(chance.choice([3, 3000])))
    if chance.random() < 0.3:
        return in_a_file(chance, image, folder / "picture")
    return image


def in_a_file(chance, image, path):
    try:
        data = saved(image, str(chance.choice(["PNG", "JPEG", "WEBP"])))
    except Exception:  # noqa: BLE001 - the format does not know this mode, or its metadata: there is no such file
        return image
    if chance.random() < 0.4:  # cut, or a byte is another one
        place = int(chance.integers(len(data)))
        data = (
            data[:place]
            if chance.random() < 0.5
            else data[:place] + chance.bytes(1) + data[place + 1 :]
        )
    path.write_bytes(data)
    return str(path) if chance.random() < 0.5 else path


def test_fuzz_of_sources_and_masks_has_no_raw_exception(tiny, tmp_path):
    taken, sentences = 0, []
    for case in range(CASES):
        chance = np.random.default_rng([15, case])
        asked = Settings(fit=chance.choice([*FITS, None]), width=chance.choice([None, 16, 136]), height=chance.choice([None, 64]))  # fmt: skip
        try:
            source, mask = (
                as_source(any_picture(chance, tmp_path)),
                as_mask(any_picture(chance, tmp_path)),
            )
        except SdkitError as error:
            sentences.append(str(error))
            continue
        taken += 1
        s = sized_like(asked, source, (32, 32))
        s = s.replace(width=s.width or 32, height=s.height or 32)
        size, fit = (s.width, s.height), effective_fit(s, source)
        start, hole = fitted(source, size, fit), fitted_mask(mask, source.size, size, fit)
        assert (start.mode, start.size, hole.mode, hole.size) == ("RGB", size, "L", size), case
        assert (as_source(source) is source, as_mask(mask) is mask, source.info, mask.info) == (
            True,
            True,
            {},
            {},
        ), case
        if case in WITH_THE_MODEL:
            with warnings.catch_warnings(record=True) as told:
                made = sdkit.generate(
                    tiny, asked, image=source, mask=mask, steps=1, strength=1, progress=False
                )
            known = ("the mask is stretched", "The mask is black all over")
            assert all(any(k in str(w.message) for k in known) for w in told), case
            assert (made.image.size, made.settings.fit) == (size, fit), case
    assert taken > CASES / 4, "most generated pictures should be good ones"
    assert not [sentence for sentence in sentences if "\n" in sentence]


@pytest.mark.parametrize("kind", ["BMP", "GIF", "TIFF", "AVIF", "MPO"])
def test_a_file_of_any_common_kind_is_a_source(tmp_path, kind):
    Image.new("RGB", (32, 24), (200, 30, 60)).save(tmp_path / "a.file", kind)
    taken = as_source(tmp_path / "a.file")
    assert (taken.mode, taken.size) == ("RGB", (32, 24))
    assert np.abs(np.asarray(taken, int) - (200, 30, 60)).max() < 24  # some of them are lossy


def test_a_result_is_a_source_if_it_holds_one_picture(tiny):
    made = sdkit.generate(tiny, "a cat", count=2, steps=1, width=32, height=32, progress=False)
    with pytest.raises(InvalidSettings, match="image is a result with 2 pictures"):
        as_source(made)
    assert as_source(made[0]).tobytes() == made.images[0].tobytes()


def test_a_mask_without_white_says_that_nothing_changes(tiny):
    image = Image.new("RGB", (32, 32), "red")
    with pytest.warns(UserWarning, match="The mask is black all over"):
        sdkit.generate(
            tiny, "a cat", image=image, mask=Image.new("L", (32, 32)), steps=2, progress=False
        )
