"""A sweep's cells are ordinary pictures; its folder survives what can happen to it; it shows what it is."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from sdkit.errors import Cancelled, CannotSave, InvalidSettings
from sdkit.generation import PromptWarning, generate
from sdkit.pictures import files
from sdkit.result import load_result
from sdkit.settings import Settings
from sdkit.sweeps.axes import SearchReplace
from sdkit.sweeps.sweeping import sweep

BASE = Settings(prompt="a red cat", steps=2, guidance_scale=3.0)


def pixels(image):
    return np.asarray(image.convert("RGB")).astype(int)


def quick(pipe, settings=BASE, **options):
    options = {
        "x": {"guidance_scale": [1, 3, 6]},
        "y": {"seed": [1, 2]},
        "progress": False,
        **options,
    }
    return sweep(pipe, settings, **options)


@pytest.fixture
def runs(tiny):
    """How many pictures the network worked on, by call."""
    seen = []
    tiny.unet.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    return seen


def test_every_cell_is_the_picture_that_generate_makes_alone(tiny):
    grid = quick(tiny, z={"scheduler": ["ddim", "euler"]})
    assert grid.shape == (3, 2, 2)
    assert len(grid) == 12
    for x, y, z in np.ndindex(grid.shape):
        cell = grid[x, y, z]
        s = cell.settings
        assert (s.guidance_scale, s.seed, s.scheduler) == (
            [1, 3, 6][x],
            [1, 2][y],
            ["ddim", "euler"][z],
        )
        alone = generate(tiny, s, progress=False)
        assert alone.settings == s
        assert np.abs(pixels(alone.image) - pixels(cell.image)).max() <= 1


def test_text_is_encoded_once_and_equal_cells_are_made_once(tiny, runs):
    tiny.text_encoder.eval()  # in training its dropout makes every encoding another one, so none is remembered
    encoded = []
    tiny_encode = type(tiny).encode_prompt

    def counting(self, prompt=None, *args, **kwargs):
        encoded.extend([prompt] if prompt is not None else [])
        return tiny_encode(self, prompt, *args, **kwargs)

    type(tiny).encode_prompt = counting
    try:
        grid = quick(
            tiny, x={"prompt": ["a red cat", "a red cat"]}, y={"seed": [1, 2, 1]}, batch_size=8
        )
    finally:
        type(tiny).encode_prompt = tiny_encode
    assert sorted(encoded) == ["", "a red cat"]
    assert runs == [4, 4], "two pictures, guided, two steps"
    assert len(grid) == 6
    assert grid[0, 0].image is grid[1, 2].image


def test_cells_are_made_in_batches(tiny, runs):
    quick(tiny, y={"seed": range(4)}, batch_size=4)
    assert runs == [4, 4, 8, 8, 8, 8]


def test_a_folder_is_gone_on_with_after_a_stop(tiny, runs, tmp_path):
    def stop(done, total):
        assert total == 6
        if done == 2:
            raise Cancelled

    with pytest.warns(
        UserWarning, match="Stopped after 2 of 6 cells; .* run it again with the same folder"
    ):
        part = quick(tiny, folder=tmp_path / "s", on_cell=stop, batch_size=1)
    assert (len(part), len(part.missing)) == (2, 4)
    assert part.missing == [s for s in part.wanted.values() if s not in [r.settings for r in part]]
    made_before = len(runs)
    whole = quick(tiny, folder=tmp_path / "s", batch_size=1)
    assert len(runs) - made_before == 4 * 2, "finished cells are not made again"
    assert len(whole) == 6
    fresh = quick(tiny, batch_size=1)
    assert all(
        (pixels(a.image) == pixels(b.image)).all() for a, b in zip(whole, fresh, strict=True)
    )
    assert load_result(tmp_path / "s" / "x2-y1-z0.png").settings == whole[2, 1].settings
    with pytest.raises(InvalidSettings, match=r"The cell \(2, 1\) was not made"):
        part[2, 1]


def test_what_a_kill_leaves_is_made_again(tiny, runs, tmp_path):
    whole = quick(tiny, folder=tmp_path)
    cut = tmp_path / "x1-y0-z0.png"
    cut.write_bytes(cut.read_bytes()[:200])  # copied away while it was written
    (tmp_path / "x0-y1-z0.png").unlink()
    whole[0, 0].save(tmp_path / "x2-y1-z0.png")  # somebody's mistake: another cell's picture
    (tmp_path / ".sdkit-0123.png").write_bytes(b"half")
    runs.clear()
    again = quick(tiny, folder=tmp_path, batch_size=1)
    assert len(runs) == 3 * 2
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["sweep.json", *(f"x{x}-y{y}-z0.png" for x in range(3) for y in range(2))]
    )
    assert all(
        np.abs(pixels(a.image) - pixels(b.image)).max() <= 1
        for a, b in zip(again, whole, strict=True)
    )


def test_folders_of_other_things_are_refused_before_the_first_step(tiny, runs, tmp_path):
    quick(tiny, folder=tmp_path / "a")
    runs.clear()
    with pytest.raises(
        CannotSave, match=r"holds another sweep \(guidance scale by seed, 6 cells\)"
    ):
        quick(tiny, y={"seed": [1, 3]}, folder=tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.doc").touch()
    with pytest.raises(CannotSave, match=r"holds other files \('thesis.doc'"):
        quick(tiny, folder=tmp_path / "b")
    (tmp_path / "a" / "sweep.json").write_text("[]")
    with pytest.raises(CannotSave, match="is damaged"):
        quick(tiny, folder=tmp_path / "a")
    with pytest.raises(CannotSave, match="cannot use the folder"):
        quick(tiny, folder=tmp_path / "b" / "thesis.doc")
    assert runs == []


def test_a_full_disk_loses_nothing(tiny, tmp_path, monkeypatch):
    own, written = files.Path.replace, []

    def full(self, target):
        if str(target).endswith(".png"):
            written.append(target)
            if len(written) > 2:
                raise OSError(28, "No space left on device")
        return own(self, target)

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.warns(
        UserWarning,
        match="4 cells could not be written .*No space left on device.* make room and call save_all",
    ):
        grid = quick(tiny, folder=tmp_path)
    assert len(grid) == 6
    assert len(list(tmp_path.iterdir())) == 1 + 2, "nothing half-written"
    monkeypatch.undo()
    grid.save_all(tmp_path)
    assert len(list(tmp_path.glob("x*.png"))) == 6


def test_the_interrupt_button_keeps_what_is_done(tiny):
    def press(step, total, preview):
        raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="Stopped after 0 of 6"):
        grid = quick(tiny, on_step=press)
    assert "6 cells were not made" in grid._repr_mimebundle_()["text/html"]
    assert grid.sheet().width <= 800


def test_image_to_image_sweeps_its_strength(tiny):
    sketch = Image.new("RGB", (32, 32), "red")
    grid = sweep(tiny, BASE, x={"strength": [0.5, 1.0]}, image=sketch, progress=False)
    assert [r.settings.task for r in grid] == ["image-to-image"] * 2
    assert (pixels(generate(tiny, grid[1], progress=False).image) == pixels(grid[1].image)).all()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"x": {"scheduler": ["ddim", "eular"]}}, "there is no scheduler 'eular'"),
        ({"x": {"seed": [1]}, "y": {"seed": [2]}}, "seed stands on two axes"),
        (
            {"x": {"seed": range(101)}, "y": {"steps": range(1, 101)}},
            "has 10100 cells; 10000 is the most",
        ),
        ({"x": {"prompt": SearchReplace("dog", ["cat"])}}, "'dog' is not in 'a red cat'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"settings": 7}, "settings is a int; give words"),
    ],
)
def test_slips_cost_no_step(tiny, runs, options, sentence):
    with pytest.raises(InvalidSettings, match=sentence):
        quick(tiny, **options)
    assert runs == []


def test_the_sheet_shows_the_cells_where_they_belong(tiny):
    grid = quick(tiny)
    sheet = grid.sheet(cell=32)
    wide, tall = 3 * 32 + 2 * 6, 2 * 32 + 6
    body = pixels(sheet)[-tall:, -wide:]
    for x in range(3):
        for y in range(2):
            assert (
                body[38 * y : 38 * y + 32, 38 * x : 38 * x + 32] == pixels(grid[x, y].image)
            ).all()
    assert (pixels(sheet)[:-tall].min(axis=2) < 128).any(), "labels above"
    assert (pixels(sheet)[-tall:, :-wide].min(axis=2) < 128).any(), "labels beside"


def test_wide_sheets_fit_a_notebook_and_long_labels_are_cut(tiny):
    long = {"prompt": ["a cat " * 40, "a fox", "x" * 300]}
    with pytest.warns(PromptWarning, match="its end is not seen") as told:
        grid = sweep(tiny, BASE, x=long, y={"seed": range(2)}, progress=False)
    assert len(told) == len(grid.notes) == 2, "one for each prompt, not for each cell"
    assert 600 <= grid.sheet().width <= 800
    assert sweep(tiny, BASE, x={"seed": range(8)}, progress=False).sheet().width <= 800


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.texts = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_holds_pictures_and_settings_and_nothing_from_outside(tiny, tmp_path):
    nasty = '<script>alert("1")</script> & </template>'
    with pytest.warns(PromptWarning):
        grid = quick(tiny, x={"prompt": [nasty, "a dog"]})
    text = grid.save(tmp_path / "sweep.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    names = [tag for tag, _ in page.tags]
    assert names.count("script") == 1
    assert names.count("button") == names.count("template") == names.count("img") == 4
    assert nasty in page.texts
    assert not re.search(r"https?://|src=\"(?!data:)", text)
    for field in ("seed", "guidance scale", "scheduler"):
        assert page.texts.count(field) >= 4
    with pytest.raises(CannotSave, match="must end in .png, .jpg, .webp or .html"):
        grid.save(tmp_path / "sweep.pdf")


def test_a_sweep_saves_as_a_picture_and_shows_itself_once(tiny, tmp_path):
    grid = quick(tiny)
    assert Image.open(grid.save(tmp_path / "s.png")).size == grid.sheet().size
    assert Image.open(grid.save(tmp_path / "s.webp", cell=64)).size == grid.sheet(64).size
    bundle = grid._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", "image/jpeg"}
    assert bundle["text/plain"] == "<Sweep of 6 cells: guidance scale by seed>"
    assert bundle["text/html"].count("data:image/") == 1


def test_the_folders_book_says_what_the_sweep_is(tiny, tmp_path):
    quick(tiny, folder=tmp_path)
    book = json.loads((tmp_path / "sweep.json").read_text(encoding="utf-8"))
    assert book["axes"] == [
        {"title": "guidance scale", "labels": ["1", "3", "6"]},
        {"title": "seed", "labels": ["1", "2"]},
    ]
    assert book["cells"]["x2-y1-z0"]["guidance_scale"] == 6


def test_a_sweep_goes_on_whatever_its_cells_did_to_save_memory(tiny, runs, tmp_path, monkeypatch):
    monkeypatch.setattr("sdkit.memory.recovery.Ladder.facts", "VAE tiling (512)")
    quick(tiny, folder=tmp_path)
    assert load_result(tmp_path / "x0-y0-z0.png").settings.memory == "VAE tiling (512)"
    before = len(runs)
    again = quick(tiny, folder=tmp_path)
    assert len(again) == 6
    assert len(runs) == before, "all cells are there"


def test_a_folder_that_an_older_sdkit_began_is_gone_on_with_and_one_of_a_newer_is_not_mixed(
    tiny, tmp_path
):
    quick(tiny, folder=tmp_path)
    book = tmp_path / "sweep.json"
    about = json.loads(book.read_text(encoding="utf-8"))
    for cell in about["cells"].values():
        del cell["version"], cell["licence"]
    book.write_text(json.dumps(about), encoding="utf-8")
    assert len(quick(tiny, folder=tmp_path)) == 6
    about["cells"]["x0-y0-z0"]["clip_skip"] = 2
    book.write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(CannotSave, match="holds another sweep"):
        quick(tiny, folder=tmp_path)


# -- settings that cannot act --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axes", "sign"),
    [
        ({"x": {"strength": [0.3, 0.6]}}, "'strength' changes no picture"),
        ({"x": {"seed": [1, 2]}, "y": {"fit": ["crop", "pad"]}}, "give image=…, or no fit"),
        ({"x": {"variation_seed": [1, 2]}}, "'variation seed' changes no picture"),
        ({"x": {"model": ["a", "b"]}}, "model"),
        ({"x": {"memory": ["low", "full"]}}, "memory"),
    ],
)
def test_axes_without_effect_make_no_sheet_of_equal_cells(tiny, runs, axes, sign):
    with pytest.raises(InvalidSettings, match=sign):
        quick(tiny, **axes)
    assert runs == []


@pytest.mark.parametrize("name", ["model", "memory", "revision", "additions"])
def test_what_is_recorded_cannot_be_chosen(tiny, name):
    with pytest.raises(InvalidSettings, match=f"{name} is recorded, not chosen here: "):
        generate(tiny, "a cat", **{name: "other"})
