"""Command line: one table, one figure. `python -m sdkit.pocket.truth --figure truth.png`; with `--walks 20` one of walks, too."""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import sdkit
from sdkit.pocket import card_of, path
from sdkit.pocket.training.draw import find_hands
from sdkit.pocket.training.judge import train_judge
from sdkit.pocket.training.presets import PRESETS, Preset
from sdkit.pocket.world import objects

from .bottleneck import learn
from .figure import drawn
from .looking import looks
from .scenes import cases
from .scoring import Marks, Score, mark, removals
from .walks import ends, walks

__all__ = ["main", "measured", "table"]

Scores = dict[str, dict[str, Score]]


def measured(
    pipe: Any,
    preset: Preset,
    *,
    scenes: int,
    removed: int,
    each: int,
    steps: int,
) -> Scores:
    """Scores of ways to look inside.

    Parameters
    ----------
    pipe, preset
        Pocket, and what it was made by.
    scenes
        Two objects each.
    removed
        In how many of them, evenly spread, a word is silenced where each way points.
    each
        Pictures of every kind from which concept vectors are learned.
    steps
        Denoising steps of every picture.
    """
    options: dict[str, Any] = {"steps": steps, "guidance_scale": preset.guidance_scale}
    directions = learn(pipe, objects(preset.objects), each=each, **options)
    asked, marks = cases(preset, scenes), Marks()
    every = max(1, scenes // max(removed, 1))
    bar = tqdm(looks(pipe, asked, directions, **options), total=scenes, desc="scenes")
    for n, look in enumerate(bar):
        if mark(look, marks) and removed and n % every == 0:
            removals(pipe, look, marks, steps=steps, guidance=preset.guidance_scale)
    return marks.scores()


def table(scores: Mapping[str, Mapping[str, Score]]) -> str:
    """Markdown: a row for each way, a column for each score, means with 95 % intervals."""
    ways = dict.fromkeys(way for column in scores.values() for way in column)
    lines = [f"| way | {' | '.join(scores)} |", "|---|" + "---|" * len(scores)]
    for way in ways:
        told = [column[way].told() if way in column else "" for column in scores.values()]
        lines.append(f"| {way} | {' | '.join(told)} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Measure, print the table, and write what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m sdkit.pocket.truth", description=__doc__)
    parser.add_argument(
        "--weights", type=Path, default=Path(path()), help="default: the shipped Pocket"
    )
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument(
        "--removed", type=int, default=50, help="scenes in which words are silenced"
    )
    parser.add_argument("--each", type=int, default=4, help="pictures a kind for concept vectors")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--figure", type=Path, default=None, help="write the figure here")
    parser.add_argument("--json", type=Path, default=None, help="write the numbers here")
    parser.add_argument(
        "--walks",
        type=int,
        default=0,
        help="walks to score as well; the judge is trained if there is none",
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("pocket-run"), help="where the judge is kept"
    )
    parser.add_argument("--judge-samples", type=int, default=150_000)
    options = parser.parse_args(argv)
    for name in ("scenes", "each", "steps"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} is {getattr(options, name)}; give 1 or more.")
    facts = card_of(options.weights)
    if facts is None or facts.get("preset") not in PRESETS:
        parser.error(f"{options.weights} holds no Pocket: its pocket.json is missing or unknown.")
    find_hands(PRESETS[facts["preset"]].hands)
    pipe: Any = sdkit.load(str(options.weights), device="cpu")
    pipe.set_progress_bar_config(disable=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        scores = measured(
            pipe,
            PRESETS[facts["preset"]],
            scenes=options.scenes,
            removed=options.removed,
            each=options.each,
            steps=options.steps,
        )
    print(table(scores))
    paths: Scores = {}
    if options.walks > 0:
        preset = PRESETS[facts["preset"]]
        with torch.enable_grad():
            judge = train_judge(preset, options.folder / preset.name, samples=options.judge_samples)
        run = {"steps": options.steps, "guidance_scale": preset.guidance_scale}
        paths = walks(pipe, judge, ends(preset, options.walks), **run)
        print("\n" + table(paths))
    if options.figure is not None:
        title = f"Ways to look inside, against the truth: {options.scenes} scenes with two objects, 95 % intervals"
        drawn(scores, title=title).savefig(options.figure, dpi=150)
    if options.json is not None:
        told = {
            name: {way: asdict(s) for way, s in ways.items()}
            for name, ways in (scores | paths).items()
        }
        options.json.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
