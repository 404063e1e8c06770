"""Write `docs/families.md`: what each family of diffusers does with each verb, tried on small stand-ins.

Run it from the repository's root: ``python docs/families.py``. It takes some minutes. ``python docs/families.py walk load``
tries those verbs alone, and leaves the other columns as they are.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import standins

import sdkit
from sdkit.errors import SdkitError
from sdkit.generation import complete
from sdkit.pipelines.starting import starter
from sdkit.settings import Settings

HEAD = """# Families and verbs

Each family of diffusers was built small, with random weights, from its real classes, and put to sdkit's verbs
(`python docs/families.py` writes this table). **equal**: to the bit the picture of the bare `pipe(...)` call; for a picture to
start from, alone or with a mask, of the call of diffusers' class for that. ✓: it works. —: refused in one sentence before the
run. Numbers: the largest difference in latents between two prompts at once and each alone; above 1e-04 beside the same of
diffusers' own batches, which round otherwise than single pictures (latents here reach 80 in Kolors, 3400 in PixArt).
**load** and **plan** are of a folder that `save_pretrained` wrote.

"""


def _generate(name: str, pipe: Any, options: dict[str, Any]) -> str:
    expected = (standins.bare(pipe, name) * 255).round().astype(int)[..., :3]
    found = np.asarray(sdkit.generate(pipe, "a cat", **options).image.convert("RGB")).astype(int)
    return "equal" if (found == expected).all() else f"{np.abs(found - expected).max()} of 255"


def _batch(name: str, pipe: Any, options: dict[str, Any]) -> str:
    prompts = ["a cat", "a long red dog on white"]
    pair = sdkit.generate(pipe, prompts, **options)
    alone = [sdkit.generate(pipe, prompt, **options) for prompt in prompts]
    off = max(np.abs(a.latents - b.latents).max() for a, b in zip(pair, alone, strict=True))
    if off <= 1e-4:
        return f"{off:.0e}"
    return f"{off:.0e}, diffusers {standins.bare_drift(pipe, name, prompts):.0e}"


def _trace(_name: str, pipe: Any, options: dict[str, Any]) -> str:
    sdkit.generate(pipe, "a cat", trace=True, **options)
    return "✓"


def _fork(_name: str, pipe: Any, options: dict[str, Any]) -> str:
    trace = sdkit.generate(pipe, "a cat", trace=True, **options).trace
    sdkit.fork(pipe, trace, 1, prompt="a dog", progress=False)
    return "✓"


def _variations(_name: str, pipe: Any, options: dict[str, Any]) -> str:
    sdkit.variations(pipe, sdkit.generate(pipe, "a cat", **options), count=1, progress=False)
    return "✓"


def _walk(_name: str, pipe: Any, options: dict[str, Any]) -> str:
    walk = sdkit.interpolate(
        pipe, ["a cat", "a long red dog"], frames=3, pacing="linear", **options
    )
    alone = np.asarray(sdkit.generate(pipe, "a cat", **options).image).astype(int)
    first = np.asarray(walk[0]).astype(int)
    return (
        "✓"
        if first.shape == alone.shape and np.abs(first - alone).max() <= 1
        else "✓, another size"
    )


def _attention(_name: str, pipe: Any, options: dict[str, Any]) -> str:
    sdkit.generate(pipe, "a cat", attention=True, **options).attention["cat"]
    return "✓"


def _sweep(_name: str, pipe: Any, options: dict[str, Any]) -> str:
    grid = sdkit.sweep(
        pipe, "a cat", x={"seed": [3, 4]}, **{k: v for k, v in options.items() if k != "seed"}
    )
    return "✓" if len(grid.cells) == 2 else "cells are missing"


def _saved(pipe: Any, verb: Callable[[str], Any]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        pipe.save_pretrained(folder)
        verb(folder)
    return "✓"


def _load(_name: str, pipe: Any, _options: dict[str, Any]) -> str:
    return _saved(pipe, lambda folder: sdkit.load(folder, device="cpu"))


def _plan(_name: str, pipe: Any, _options: dict[str, Any]) -> str:
    return _saved(pipe, lambda folder: str(sdkit.plan(folder, device="cpu")))


def _image(name: str, pipe: Any, options: dict[str, Any], task: str = "image-to-image") -> str:
    side = max(options["width"], 64 if "flux2" in name else 0)  # FLUX.2 takes no smaller picture
    size = (side, side)
    options |= {"width": size[0], "height": size[1], "image": standins.noisy(1, size), "steps": 3}
    if task == "inpainting":
        options["mask"] = standins.hole(size)
    settings = complete(
        pipe, Settings("a cat"), **{k: v for k, v in options.items() if k != "progress"}
    )[0]
    try:
        expected = standins.bare_start(
            starter(pipe, task), settings, options["image"], options.get("mask")
        )
    except Exception:  # noqa: BLE001 - the eyes of some stand-ins stay shut
        return "the bare call fails"
    found = np.asarray(sdkit.generate(pipe, "a cat", **options).image.convert("RGB")).astype(int)
    off = np.abs(found - np.asarray(expected)).max()
    return "equal" if off == 0 else f"{off} of 255"


def _mask(name: str, pipe: Any, options: dict[str, Any]) -> str:
    return _image(name, pipe, options, "inpainting")


VERBS: dict[str, Callable[[str, Any, dict[str, Any]], str]] = {
    "generate": _generate,
    "two prompts": _batch,
    "trace": _trace,
    "fork": _fork,
    "variations": _variations,
    "walk": _walk,
    "sweep": _sweep,
    "load": _load,
    "plan": _plan,
    "attention": _attention,
    "image": _image,
    "image, mask": _mask,
}


def row(name: str, verbs: list[str], known: dict[str, dict[str, str]]) -> str:
    """One line of the table."""
    pipe, side = standins.build(name), standins.side_of(name)
    title = type(pipe).__name__.removesuffix("Pipeline")
    options = {"steps": 2, "width": side, "height": side, "seed": 3, "progress": False}
    cells = dict(known.get(title, {}))
    for verb in verbs:
        try:
            cells[verb] = VERBS[verb](name, pipe, dict(options))
        except SdkitError:
            cells[verb] = "—"
        except Exception as error:  # noqa: BLE001 - what must not be is put on the page, not hidden
            cells[verb] = f"**{type(error).__name__}**"
    return f"| {title} | {' | '.join(cells.get(verb, '') for verb in VERBS)} |"


def known(page: Path) -> dict[str, dict[str, str]]:
    """What the page says already: family → verb → cell."""
    lines = page.read_text(encoding="utf-8").splitlines() if page.exists() else []
    table = [[cell.strip() for cell in x.strip("|").split("|")] for x in lines if x[:1] == "|"]
    return {title: dict(zip(table[0][1:], cells, strict=False)) for title, *cells in table[2:]}


def main() -> None:
    """Try everything, or the verbs that are named, and write the page."""
    warnings.simplefilter("ignore")
    page, verbs = Path("docs/families.md"), sys.argv[1:] or list(VERBS)
    before = known(page)
    lines = [f"| family | {' | '.join(VERBS)} |", "|---" * (len(VERBS) + 1) + "|"]
    for name in standins.EVERY:
        lines.append(row(name, verbs, before))
        print(lines[-1], flush=True)
    page.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
