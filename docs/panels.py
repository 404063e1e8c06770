"""Take the gallery's pictures of panels that need a kernel: ``python docs/panels.py``; it needs the extra ``test`` and Chromium.

Each panel works for real, then its state is laid into the page that `to_html` writes for the others, and Chromium is asked
for a picture of it, on light and on dark.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parent.parent))

import sdkit
from sdkit.widgets import DraftsBoard, PromptExplorer, Sketchpad
from sdkit.widgets.portable import Portable
from tests.browser.chromium import find_chromium

HERE = Path(__file__).parent
WIDTH = 860


def _prompt(pipe: Any) -> Any:
    panel = _still(PromptExplorer)(pipe, "a fox in the snow", seed=1)
    for changes in ({"guidance_scale": 9.0}, {"seed": 5}, {"prompt": "a fox at night"}):
        panel.worker.join()
        panel.make(**changes)
    return panel


def _drafts(pipe: Any) -> Any:
    return _still(DraftsBoard)(pipe, "a castle in a meadow, oil painting", seed=3)


def _sketch(pipe: Any) -> Any:
    side = pipe.unet.config.sample_size * pipe.vae_scale_factor
    paper = Image.new("RGB", (64, 64), "#bfe3f5")
    draw = ImageDraw.Draw(paper)
    draw.rectangle((0, 46, 64, 64), fill="#6fb554")
    draw.rectangle((20, 28, 44, 52), fill="#c9793f")
    draw.polygon(((15, 29), (32, 12), (49, 29)), fill="#a33b2c")
    panel = _still(Sketchpad)(
        pipe, "a house in a meadow", image=paper.resize((side, side)), strength=0.7
    )
    panel._ask()
    return panel


def _still(panel: type) -> Any:
    """Return the panel as a class that can also write a page; what answers in it is shown, and does not work."""
    return type(panel.__name__, (panel, Portable), {"to_html": Portable.to_html})


def main() -> None:
    """Save two pictures of each panel into ``panels/``."""
    pipe = sdkit.load(device="cpu")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        path, needs = find_chromium(playwright.chromium.executable_path)
        browser = playwright.chromium.launch(
            executable_path=path, env={**os.environ, **needs}, args=["--no-sandbox"]
        )
        for make in (_prompt, _drafts, _sketch):
            panel = make(pipe)
            panel.worker.join()
            name = type(panel).__name__
            file = panel.to_html(Path(folder, f"{name}.html"))
            for scheme in ("light", "dark"):
                page = browser.new_page(
                    viewport={"width": WIDTH, "height": 700},
                    color_scheme=scheme,
                    device_scale_factor=2,
                )
                page.goto(file.as_uri())
                page.add_style_tag(
                    content='.sdkit { font-family: "DejaVu Sans", sans-serif }'
                )  # a headless browser has no system-ui
                page.wait_for_timeout(500)
                shot = Image.open(io.BytesIO(page.locator(".sdkit").screenshot()))
                shot.save(HERE / "panels" / f"{name}-{scheme}.webp", quality=82, method=6)
                page.close()


if __name__ == "__main__":
    main()
