"""Make the README's picture and the model card's failures: `python docs/pictures.py`.

Every caption is the prompt, every seed stands in the list; nothing is chosen from several.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

import sdkit

SCENES = (
    ("a cat on a purple background", 0),
    ("a red car on a beach, watercolor", 7),
    ("a fox in the snow", 1),
    ("a unicorn at night", 2),
    ("a volcano in the desert, oil painting", 3),
    ("an owl, neon", 4),
    ("a watermelon on a blue background, pop art", 5),
    ("a koala on a yellow background", 6),
    ("a pencil sketch of a robot", 8),
    ("a heart on a green background, stained glass", 9),
    ("a whale in the sea, blueprint", 10),
    ("a truck in a meadow, pixel art", 11),
)
FAILURES = (  # what the model card names as limits, one picture each
    ("a cat, a dog and a car on a white background", 0),
    ("five apples on a white background", 1),
    ("a cat riding a bicycle", 2),
    ("a person on a beach", 3),
    ("the word HELLO on a white background", 4),
    ("a small key, neon", 5),
    ("a white rabbit in the snow, pencil sketch", 6),
    ("a cat that looks at the moon", 7),
)
SIDE, GAP, TEXT, COLUMNS = 192, 16, 44, 4


def sheet_of(pipe: object, scenes: tuple[tuple[str, int], ...]) -> Image.Image:
    """Generate, and lay out with captions."""
    wanted = [sdkit.Settings(prompt=prompt, seed=seed) for prompt, seed in scenes]
    pictures = sdkit.generate(pipe, wanted).images
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new(
        "RGB", (COLUMNS * (SIDE + GAP) + GAP, rows * (SIDE + TEXT + GAP) + GAP), "white"
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for n, (picture, (prompt, _)) in enumerate(zip(pictures, scenes, strict=True)):
        x, y = GAP + n % COLUMNS * (SIDE + GAP), GAP + n // COLUMNS * (SIDE + TEXT + GAP)
        sheet.paste(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (x, y))
        draw.multiline_text(
            (x, y + SIDE + 6), textwrap.fill(prompt, 27), fill=(60, 60, 60), font=font, spacing=3
        )
    return sheet


def main() -> None:
    """Save both sheets beside this file."""
    pipe, here = sdkit.load(), Path(__file__)
    sheet_of(pipe, SCENES).save(here.with_name("pictures.png"), optimize=True)
    sheet_of(pipe, FAILURES).save(here.with_name("failures.png"), optimize=True)


if __name__ == "__main__":
    main()
