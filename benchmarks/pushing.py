"""Push the light of a word, and measure whether its object is there: `sdkit.push_attention` on Pocket. Prints one table.

    python benchmarks/pushing.py [--quick] [--judge pocket-run/cpu/judge.pt]

Plain scenes, half of them with one object, half with two; the object named first is pushed by 0.2 to 0.3 of the picture into a
direction by chance, its centre at least 0.22 from the border. Where it is then is read off the picture: the middle of what
differs from the border's colour (single objects only), and what a judge sees, if there is one (`sdkit.pocket.evaluate`).
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

import sdkit
from sdkit.pocket.training.autoencoder import to_pixels
from sdkit.pocket.training.checkpoint import load_checkpoint
from sdkit.pocket.training.judge import Judge
from sdkit.pocket.training.presets import PRESETS
from sdkit.pocket.world import Scene, caption, objects, random_scene

PRESET = PRESETS["pocket2"]
KINDS = objects(PRESET.objects)
NEAR, LEAST = 0.15, 0.22


def scenes(count: int) -> list[tuple[Scene, str]]:
    """Scenes whose objects can be told from the background, and prompts."""
    rng, found = Random("push"), []
    while len(found) < count:
        what = ("single", "pair")[len(found) % 2]
        s = random_scene(rng, KINDS, training=False, composition=what, hands=PRESET.hands)
        vivid = s.background in ("red", "blue", "green", "yellow", "purple", "orange")
        if s.style == "plain" and vivid and s.items[0].colour is None:
            found.append((s, caption(s, rng, name_home=True)))
    return found


def middle(picture: Any) -> tuple[float, float]:
    """The middle `(x, y)` of what differs from the colour of the border."""
    pixels = np.asarray(picture, float)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    rows, columns = np.nonzero(np.abs(pixels - np.median(border, 0)).max(-1) > 40)
    if not len(rows):
        return (math.inf, math.inf)
    return (columns.mean() + 0.5) / len(pixels), (rows.mean() + 0.5) / len(pixels)


def goal(rng: Random, at: tuple[float, float]) -> tuple[float, float]:
    """A place 0.2 to 0.3 away from where the object is."""
    while True:
        turn, far = rng.uniform(0, 2 * math.pi), rng.uniform(0.2, 0.3)
        to = (at[0] + far * math.cos(turn), at[1] + far * math.sin(turn))
        if all(LEAST <= n <= 1 - LEAST for n in to):
            return to


def near(at: tuple[float, float], to: tuple[float, float]) -> bool:
    """Whether an object is where it was to go."""
    return math.dist(at, to) < NEAR


def main() -> None:
    """Push, look, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--judge", type=Path)
    options = parser.parse_args()
    judge = Judge(len(KINDS), PRESET.hands)
    if options.judge:
        load_checkpoint(options.judge, {"model": judge})
    pipe: Any = sdkit.load(device="cpu")
    rng, table, began = Random("to"), dict[str, list[bool]](), time.process_time()

    def note(row: str, *, right: bool) -> None:
        table.setdefault(row, []).append(right)

    for seed, (scene, prompt) in enumerate(scenes(4 if options.quick else 50)):
        word = scene.items[0].kind.name
        r = sdkit.generate(pipe, prompt, seed=seed, steps=10, progress=False, attention=True)
        heat = r.attention.word(word, normalize=True) > 0.3
        rows, columns = np.nonzero(heat)
        to = goal(rng, ((columns.mean() + 0.5) / heat.shape[1], (rows.mean() + 0.5) / len(heat)))
        made = sdkit.push_attention(pipe, r, {word: to}, progress=False)
        if scene.relation is None:
            note("middle of what is on the card, near the goal", right=near(middle(made.image), to))
        if options.judge:
            index = [kind.name for kind in KINDS].index(word)
            count = 1 if scene.relation is None else 2
            pixels = np.stack([np.asarray(picture) for picture in (r.image, made.image)])
            before, after = judge.look(to_pixels(pixels))[0]
            note("judge: the object near the goal", right=near(after.centre(index), to))
            note("judge: it is still the same object", right=index in after.best(count))
            note("judge: style and background as before", right=(before.style, before.background) == (after.style, after.background))  # fmt: skip
    print("| pushed by 0.2 to 0.3 | found |\n|---|---|")
    for row, right in table.items():
        print(f"| {row} | {sum(right)} of {len(right)} |")
    print(f"{time.process_time() - began:.0f} s of processor time")


if __name__ == "__main__":
    main()
