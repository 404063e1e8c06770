"""Make the README's picture: `python docs/pictures.py`. Every caption is the prompt, every seed stands in the list."""

from __future__ import annotations

import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import sdkit

SCENES = (
    ("a cat on a purple background", 0),
    ("a red car on a beach, watercolor", 7),
    ("a fox in the snow", 1),
    ("a rocket at night", 2),
    ("a castle in a meadow, oil painting", 3),
    ("an owl, neon", 4),
    ("a pineapple on a blue background, pop art", 5),
    ("a blue umbrella on a yellow background", 6),
    ("a pencil sketch of a robot", 8),
    ("a heart on a green background, stained glass", 9),
    ("a whale in the sea, blueprint", 10),
    ("a mushroom in a meadow, pixel art", 11),
)
SIDE, GAP, TEXT, COLUMNS = 192, 16, 44, 4


def main() -> None:
    """Generate, lay out with captions, and save beside this file."""
    pipe = sdkit.load()
    wanted = [sdkit.Settings(prompt=prompt, seed=seed) for prompt, seed in SCENES]
    pictures = sdkit.generate(pipe, wanted).images
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (SIDE + GAP) + GAP, rows * (SIDE + TEXT + GAP) + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for n, (picture, (prompt, _)) in enumerate(zip(pictures, SCENES, strict=True)):
        x, y = GAP + n % COLUMNS * (SIDE + GAP), GAP + n // COLUMNS * (SIDE + TEXT + GAP)
        sheet.paste(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, y))
        draw.multiline_text((x, y + SIDE + 6), textwrap.fill(prompt, 27), fill=(60, 60, 60), font=font, spacing=3)
    sheet.save(Path(__file__).with_name("pictures.png"), optimize=True)


if __name__ == "__main__":
    main()
