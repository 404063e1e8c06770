"""Training of the larger Pocket at a tiny size: other hands, the linear start, exact resuming, and the history."""

import json
import random
import tarfile
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import sdkit
from sdkit.errors import InvalidSettings
from sdkit.pocket import history
from sdkit.pocket.evaluate import sharpness
from sdkit.pocket.training import art
from sdkit.pocket.training.autoencoder import edge_loss, texture_loss, thumbnail
from sdkit.pocket.training.convolution import quicken
from sdkit.pocket.training.draw import find_hands, render
from sdkit.pocket.training.linear import as_convolution, components, start_linear
from sdkit.pocket.training.presets import PRESETS, build_autoencoder
from sdkit.pocket.world import HANDS, Item, Scene, caption, held_out, objects, random_scene, words

BIG = PRESETS["pocket2"]
SMALL = replace(
    PRESETS["tiny"],
    name="small",
    side=128,
    autoencoder=(12, 24, 40, 40),
    latents=4,
    hands=BIG.hands,
    loose=True,
    linear=True,
    edges=0.15,
    bfloat16=True,
    history=3,
    autoencoder_samples=32,
)


def packed(path, files):
    with tarfile.open(path, "w:gz") as package:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(data)
            package.addfile(entry, BytesIO(data))


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    """Stand-ins for the packages, as `npm pack` leaves them: one shape of another colour for each kind."""
    folder = tmp_path_factory.mktemp("art")
    bitmaps, chars, icons = {}, {}, {}
    for n, kind in enumerate(objects(PRESETS["tiny"].objects)):
        code = "-".join(f"{ord(c):04x}" for c in kind.glyph)
        picture = Image.new("RGBA", (64, 64))
        ImageDraw.Draw(picture).polygon(
            [(8, 8), (40, 20), (56, 56), (8, 50)], fill=(40 + 50 * n, 200 - 40 * n, 90, 255)
        )
        stream = BytesIO()
        picture.save(stream, "WEBP", lossless=True)
        bitmaps[f"assets/{code}.webp"] = stream.getvalue()
        chars[code], icons[kind.name] = (
            kind.name,
            {"body": f'<path fill="#{n}0f" d="M2 2h20l{n} 20H2z"/>'},
        )
    packed(folder / art.SETS["fluent 3d"].file, bitmaps)
    vectors = {"icons": icons, "width": 32, "height": 32}
    for hand in HANDS:
        files = {
            "chars.json": json.dumps(chars).encode(),
            "icons.json": json.dumps(vectors).encode(),
        }
        packed(folder / art.SETS[hand].file, files)
    patch = pytest.MonkeyPatch()
    patch.setenv("SDKIT_ART", str(folder))
    for kept in (art.picture, art._vectors, art._bitmaps):
        kept.cache_clear()
    yield folder
    patch.undo()
    for kept in (art.picture, art._vectors, art._bitmaps):
        kept.cache_clear()


def test_missing_drawings_are_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("SDKIT_ART", str(tmp_path))
    monkeypatch.setattr(art.shutil, "which", lambda _: None)
    find_hands(("noto",))
    with pytest.raises(FileNotFoundError, match="npm pack @iconify-json/noto"):
        find_hands(("noto", "cartoon"))


def test_every_hand_draws_the_same_thing_its_own_way(drawings):
    item = Item(objects(1)[0], 0.5, 0.5, 0.6)
    made = [render(Scene((item,), "white", hand=hand), 64) for hand in BIG.hands]
    assert all(0.1 < m.masks[0].mean() < 0.5 for m in made)
    assert np.abs(made[0].image - made[1].image).max() > 0.1
    turned = render(Scene((replace(item, mirrored=True),), "white", hand="fluent 3d"), 64)
    assert np.abs(turned.masks[0] - made[0].masks[0]).max() > 0.5


def test_missing_drawings_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("SDKIT_ART", str(tmp_path))
    monkeypatch.setattr(art.shutil, "which", lambda _name: None)
    with pytest.raises(FileNotFoundError, match="npm pack @lobehub/fluent-emoji-3d@1.1.0"):
        art.fetch("fluent 3d")


def test_a_hand_is_a_style_of_its_own_and_has_words():
    rng = random.Random(3)
    kinds, known = objects(BIG.objects), set(words(objects(BIG.objects), BIG.hands))
    scenes = [random_scene(rng, kinds, hands=BIG.hands, loose=True) for _ in range(2000)]
    for s in scenes:
        assert s.hand in BIG.hands
        assert (s.style in HANDS) == (s.hand != BIG.hands[0])
        assert not any(held_out(i.kind.name, s.style) for i in s.items)
        assert set(caption(s, rng).replace(",", " ").replace("-", " ").split()) <= known
    share = np.mean([s.hand != BIG.hands[0] for s in scenes])
    assert 0.1 < share < 0.25
    assert 0.4 < np.mean([i.mirrored for s in scenes for i in s.items]) < 0.6
    assert not {"flat", "cartoon"} & set(words(kinds))  # the first Pocket knows no hands


def test_the_linear_start_is_the_linear_code():
    rng = torch.Generator().manual_seed(0)
    small = torch.rand(24, 3, 16, 16, generator=rng) * 1.6 - 0.8
    x = torch.nn.functional.interpolate(small, (64, 64), mode="bilinear")
    torch.manual_seed(0)
    model = build_autoencoder(SMALL).eval()
    opponent = torch.tensor([[0.69, 0.69, 0.69], [1.13, 0.0, -1.13], [-0.82, 1.63, -0.82]])
    start_linear(model, x, opponent)
    with torch.no_grad():
        latents = model.encode(x).latent_dist.mode()
    small = torch.nn.functional.adaptive_avg_pool2d(x, 8)
    wanted = torch.einsum("oc,bchw->bohw", opponent, small)
    error = (latents[:, :3] - wanted).square().mean() / wanted.square().mean()
    assert error < 1e-4
    deviation = latents[:, 3:].transpose(0, 1).flatten(1).std(1)
    assert deviation.square().mean().sqrt().item() == pytest.approx(0.5, rel=0.05)
    assert (deviation[:-1] >= deviation[1:] * 0.99).all()  # coarse before fine

    def blocks(y):  # 8×8 pixels each
        return torch.nn.functional.pixel_unshuffle(y, 8).movedim(1, -1).flatten(0, -2).double()

    def left(code):  # what no linear map gets back
        code = torch.cat([code, torch.ones(len(code), 1)], 1).double()
        solution = torch.linalg.lstsq(code, blocks(x)).solution
        return (code @ solution - blocks(x)).square().mean()

    centred = blocks(x) - blocks(x).mean(0)
    best = torch.linalg.svd(centred, full_matrices=False).Vh[: latents.shape[1]]
    found = left(latents.movedim(1, -1).flatten(0, -2))
    assert found < 1.1 * left(
        (centred @ best.T).float()
    )  # the mean colours are kept whatever they are worth


def test_a_linear_encoder_is_one_convolution():
    """Of pictures that it was not fitted to."""
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(160, 3, 32, 32, generator=rng) * 1.6 - 0.8
    model = build_autoencoder(SMALL).eval()
    start_linear(model, x[:64], torch.eye(3))
    code = as_convolution(model, x[:128])
    with torch.no_grad():
        latents = model.encode(x[128:]).latent_dist.mode()
    assert code(x[128:]).shape == latents.shape
    error = (code(x[128:]) - latents).square().mean((0, 2, 3)).sqrt()
    assert (error < 0.01 * latents.std((0, 2, 3))).all(), error


def test_components_keep_the_fixed_rows_and_find_the_strongest_of_the_rest():
    rng = torch.Generator().manual_seed(1)
    data = torch.randn(4000, 6, generator=rng) * torch.tensor([5.0, 4, 3, 1, 1, 1])
    fixed = torch.eye(6)[:1]
    rows = components(data, 3, fixed)
    assert torch.equal(rows[:1], fixed)
    torch.testing.assert_close(rows[1:].abs(), torch.eye(6)[1:3], atol=0.1, rtol=0)


def test_a_linear_start_without_room_says_so():
    with pytest.raises(ValueError, match="needs four levels, 12 channels or more"):
        start_linear(build_autoencoder(PRESETS["tiny"]), torch.zeros(2, 3, 32, 32), torch.eye(3))


def test_edges_and_sharpness_notice_blur():
    x = torch.zeros(1, 3, 16, 16)
    x[..., 8:] = 1
    soft = torch.nn.functional.avg_pool2d(
        torch.nn.functional.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1
    )
    assert edge_loss(x, x) == 0
    assert edge_loss(x + 0.3, x).item() == pytest.approx(
        0, abs=1e-6
    )  # another brightness has the same edges
    assert edge_loss(soft, x) > 0.01
    assert texture_loss(soft, x) > 0.01
    assert texture_loss(x + 0.3, x).item() == pytest.approx(0, abs=1e-5)
    moved = x.roll(1, -1)  # as much texture in each part, elsewhere
    assert texture_loss(moved, x) < 0.4 * texture_loss(soft, x)
    pictures = (x.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    blurred = (soft.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    assert sharpness(pictures, pictures) == 1
    assert sharpness(blurred, pictures) == pytest.approx(
        1 / 3, rel=0.02
    )  # three steps of a third: 3 · (1/3)²
    assert thumbnail(x).shape == (1, 3, 16, 16)


@pytest.mark.parametrize("side", [4, 8, 9])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_quickened_convolutions_give_the_same_pictures_and_gradients(side, bfloat16):
    rng = torch.Generator().manual_seed(0)
    plain = torch.nn.Conv2d(6, 10, 3, padding=1)
    quick = torch.nn.Sequential(torch.nn.Conv2d(6, 10, 3, padding=1), torch.nn.Conv2d(10, 2, 1))
    quick[0].load_state_dict(plain.state_dict())
    names = list(quick.state_dict())
    quicken(quick)
    assert list(quick.state_dict()) == names
    assert type(quick[0]) is not type(plain) is type(quick[1])
    x, back = (torch.randn(3, c, side, side, generator=rng) for c in (6, 10))
    found = []
    for layer in (plain, quick[0]):
        given = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            y = layer(given)
        (y.float() * back).sum().backward()
        found.append((y, given.grad, layer.weight.grad, layer.bias.grad))
    tolerance = {"atol": 0.1, "rtol": 0.02} if bfloat16 else {"atol": 1e-4, "rtol": 1e-5}
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, **tolerance)


# -- history ---------------------------------------------------------------------------------------------------------


def test_moments_stand_close_together_at_first():
    assert history.moments(800, 4) == (50, 200, 450, 800)
    assert history.moments(3, 16)[-1] == 3


def _walked(count):
    """Weights that move less and less, as in training, each moment with all of its numbers."""
    rng = torch.Generator().manual_seed(0)
    weights = {"a": torch.zeros(256, 96, 3, 3), "b": torch.zeros(64)}
    for step in range(1, count + 1):
        weights = {k: v + torch.randn(v.shape, generator=rng) / step for k, v in weights.items()}
        yield step, {k: v.half().float() for k, v in weights.items()} | {"n": torch.tensor([step])}


def test_packed_moments_are_small_end_exactly_and_do_not_add_up_their_rounding(tmp_path):
    true = dict(_walked(8))
    for step, weights in true.items():
        history.keep(tmp_path / "kept", step, weights)
    history.pack(tmp_path / "kept", tmp_path / "packed")
    assert history.moments_of(tmp_path / "packed") == tuple(range(1, 9))
    final = true[8]
    for step, weights in true.items():
        back = history.restore(tmp_path / "packed", step, final)
        assert set(back) == {"a", "b"}
        whole = history.restore(tmp_path / "kept", step, final)
        assert all(torch.equal(whole[k], weights[k]) for k in back)
        if step == 8:
            assert all(torch.equal(back[k], weights[k]) for k in back)
            continue
        # of what changed since the moment before a quarter of the energy is missing, however many files lie between
        error = (back["a"] - weights["a"]).square().mean()
        moved = (true[step + 1]["a"] - weights["a"]).square().mean()
        assert error < 0.5 * moved, step
        assert (back["b"] - weights["b"]).abs().max() < 0.02 * moved.sqrt()
    sizes = [f.stat().st_size for f in (tmp_path / "packed").glob("*.npz")]
    assert sum(sizes) * 8 < 7 * 256 * 96 * 9 * 1.35
    assert history.restore(tmp_path / "packed", 99, final).keys() == {"a", "b"}
    for other in ({"a": final["a"]}, final | {"a": torch.zeros(64, 96)}):
        with pytest.raises(InvalidSettings, match="is of other networks than these weights"):
            history.restore(tmp_path / "packed", 1, other)


def test_a_history_is_shown_moment_by_moment(tmp_path, tiny):
    from sdkit.experiments.learning import learned
    from sdkit.widgets import HistoryExplorer

    both = torch.nn.ModuleDict({"text": tiny.text_encoder, "unet": tiny.unet})
    own = {k: v.clone() for k, v in both.state_dict().items()}
    for n, share in ((10, 0.2), (20, 1.0)):
        history.keep(
            tmp_path, n, {k: v * share if v.is_floating_point() else v for k, v in own.items()}
        )
    made = learned(tmp_path, "a cat and a cat", pipe=tiny, steps=2, seed=3, progress=False)
    assert made.moments == (10, 20)
    assert all(torch.equal(own[k], v) for k, v in both.state_dict().items())
    again = sdkit.generate(tiny, "a cat and a cat", steps=2, seed=3, progress=False)
    difference = np.asarray(made.results[-1].image, int) - np.asarray(again.image, int)
    assert np.abs(difference).max() <= 2  # half precision in between
    assert made.results[0].image.tobytes() != again.image.tobytes()
    grown = made.grown()
    assert list(grown) == [("a", 0), ("cat", 0), ("and", 0), ("a", 1), ("cat", 1)]
    assert all(curve[-1] == pytest.approx(1) for curve in grown.values())

    panel = HistoryExplorer(made)
    assert [w["text"] for w in panel.view["words"]] == [
        "a (1)",
        "cat (1)",
        "and",
        "a (2)",
        "cat (2)",
    ]
    word = panel.view["words"][1]
    assert len(word["maps"]) == 2 * word["rows"] * word["columns"]
    assert max(word["maps"]) == 255
    page = panel.to_html(tmp_path / "history.html").read_text(encoding="utf-8")
    assert "after ${count(" in page
    panel.close()
    with pytest.raises(InvalidSettings, match="holds no history of a training"):
        learned(tmp_path / "none", pipe=tiny)
    history.keep(tmp_path / "other", 5, {"unet.x": torch.zeros(2)})
    with pytest.raises(InvalidSettings, match="is of other networks than this pipeline"):
        learned(tmp_path / "other", "a cat", pipe=tiny, progress=False)
    assert all(torch.equal(own[k], v) for k, v in both.state_dict().items())


@pytest.mark.training
def test_a_run_that_was_killed_ends_exactly_like_one_that_was_not(drawings, tmp_path, monkeypatch):
    from sdkit.pocket import train
    from sdkit.pocket.training.tokenizer import build_tokenizer

    class KilledError(Exception):
        pass

    preset = replace(
        PRESETS["tiny"], name="small", hands=BIG.hands, loose=True, bfloat16=True, history=3
    )
    vae, tokenizer, real = (
        build_autoencoder(preset).eval(),
        build_tokenizer(preset),
        train.Diffusion.step,
    )

    def killed(self, *args):
        if self.seen == 3 * preset.batch and not (tmp_path / "once").exists():
            (tmp_path / "once").touch()
            self.save()
            raise KilledError
        real(self, *args)

    train.train_diffusion(preset, tmp_path / "whole", vae, tokenizer)
    monkeypatch.setattr(train.Diffusion, "step", killed)
    with pytest.raises(KilledError):
        train.train_diffusion(preset, tmp_path / "killed", vae, tokenizer)
    train.train_diffusion(preset, tmp_path / "killed", vae, tokenizer)
    whole, again = (torch.load(tmp_path / n / "diffusion.pt") for n in ("whole", "killed"))
    assert whole["seen"] == again["seen"] == preset.samples
    for name, value in whole["modules"]["both"].items():
        assert torch.equal(value, again["modules"]["both"][name]), name
    folders = [tmp_path / n / "history" for n in ("whole", "killed")]
    assert history.moments_of(folders[0]) == history.moments_of(folders[1])
    assert len(history.moments_of(folders[0])) == 3
