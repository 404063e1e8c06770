"""Measure Pocket: does the picture show what the words say? `python -m sdkit.pocket.evaluate`.

Fresh scenes give fresh prompts; Pocket makes the pictures with its default settings; the judge answers. The same
questions are put to rendered pictures of the same scenes, so that every score stands beside the judge's own.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import path as shipped
from .training.autoencoder import psnr, to_pixels
from .training.data import pictures, scene, training_scenes
from .training.draw import find_hands
from .training.judge import Judge, Verdict, train_judge
from .training.presets import PRESETS, Preset
from .turbo import open_unet
from .world import HANDS, Scene, caption, held_out, objects, random_scene

__all__ = ["Question", "main", "questions", "score"]


@dataclass(frozen=True)
class Question:
    """A prompt, the scene it describes, and whether its combination was kept out of training."""

    prompt: str
    scene: Scene
    unseen: bool


def questions(preset: Preset, count: int, *, seed: int = 0) -> list[Question]:
    """Fresh prompts: two in five hold one object, one in five a colour word, a quarter two objects, the rest several.

    A quarter of the single-object and of the two-object prompts are combinations held out of training.
    """
    rng = random.Random(f"questions-{seed}")
    kinds = objects(preset.objects)
    asked: list[Question] = []
    for n in range(count):
        part = n % 20
        what = ("single", "pair", "count")[(part >= 12) + (part >= 17)]
        unseen = part in (0, 1, 12)
        while True:
            s = random_scene(
                rng, kinds, training=False, composition=what, hands=preset.hands, loose=preset.loose
            )
            names = [i.kind.name for i in s.items]
            new = held_out(names[0], names[1]) if s.relation else held_out(names[0], s.style)
            coloured = s.items[0].colour is not None
            styles = s.relation is not None and any(held_out(name, s.style) for name in names)
            if (
                new != unseen
                or styles
                or (what == "single" and coloured != (8 <= part < 12))
                or s.items[0].upside_down
            ):
                continue
            break
        asked.append(Question(caption(s, rng, name_home=True), s, unseen))
    return asked


def _relation_holds(verdict: Verdict, a: int, b: int, relation: str) -> bool:
    (ax, ay), (bx, by) = verdict.centre(a), verdict.centre(b)
    if relation in ("left", "beside"):
        return bx - ax > abs(by - ay)
    if relation == "right":
        return ax - bx > abs(by - ay)
    return (by - ay if relation == "above" else ay - by) > abs(bx - ax)


def score(
    verdicts: Iterable[Verdict], asked: Iterable[Question], kinds: dict[str, int]
) -> dict[str, tuple[int, int]]:
    """Right answers and questions put, for each row of the table."""
    table: dict[str, list[bool]] = {}

    def note(row: str, right: bool) -> None:
        table.setdefault(row, []).append(right)

    for verdict, question in zip(verdicts, asked, strict=True):
        s, where = question.scene, "held-out" if question.unseen else "seen"
        index = [kinds[i.kind.name] for i in s.items]
        note("style", verdict.style == s.style)
        if s.style != "blueprint":  # a blueprint is blue whatever its background
            note("background", verdict.background == s.background)
        if s.relation:
            both = verdict.best(2) == set(index)
            note("two objects, both right", both)
            note(f"two objects ({where} pair)", both)
            if both:
                note(
                    "relation, given both", _relation_holds(verdict, index[0], index[1], s.relation)
                )
        elif s.count > 1:
            note("count (1-4)", verdict.number == s.count)
            note("object, several of a kind", verdict.best(1) == set(index))
        else:
            right = verdict.best(1) == set(index)
            note("count (1-4)", verdict.number == 1)
            if s.items[0].colour is None:
                note("single object", right)
                note(f"single object ({where} {'hand' if s.style in HANDS else 'style'})", right)
            elif s.style != "blueprint":
                note("recoloured object", right and verdict.colour(index[0]) == s.items[0].colour)
    return {row: (sum(v), len(v)) for row, v in table.items()}


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance between Gaussians fitted to features `(N, D)`: ``|μa-μb|² + tr(Σa + Σb - 2(ΣaΣb)^½)``."""
    mean = float(np.square(a.mean(0) - b.mean(0)).sum())
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.sqrt(
        np.clip(np.linalg.eigvals(ca @ cb).real, 0, None)
    ).sum()  # eigenvalues of a product of covariances are ≥ 0
    return mean + float(np.trace(ca) + np.trace(cb) - 2 * root)


def sharpness(made: np.ndarray, drawn: np.ndarray) -> float:
    """Gradient energy of pictures `(N, H, W, 3)` divided by that of the scenes they were asked to show.

    The energy is the mean squared difference of neighbouring pixels; a blurred picture has less.
    """

    def energy(images: np.ndarray) -> float:
        parts = [
            np.diff(images[i : i + 64].astype(np.float32), axis=axis)
            for i in range(0, len(images), 64)
            for axis in (1, 2)
        ]
        return float(sum(np.square(p).sum(dtype=np.float64) for p in parts))

    return energy(made) / energy(drawn)


def memorised(
    *sets: np.ndarray, asked: list[Question], preset: Preset, most: int = 24
) -> list[float]:
    """For each set of pictures `(N, H, W, 3)`, the share of them nearer to a training scene than two independent renderings of their caption are to each other.

    Distances are root mean squares over pixels; candidates are training scenes of the same objects, number,
    background and style. Pictures without such a training scene count as not memorised. Where training scenes lie
    close together fresh renderings are near one too, so that their share is what a network without memory would have.
    """

    def key(s: Scene) -> tuple[object, ...]:
        return (tuple(i.kind.name for i in s.items), s.background, s.style, s.hand)

    known: dict[tuple[object, ...], list[Scene]] = {}
    for shard in range(preset.shards):
        for s in training_scenes(preset, shard):
            known.setdefault(key(s), []).append(s)
    rng, close = random.Random(9), np.zeros(len(sets))
    for question, *images in zip(asked, *sets, strict=True):
        s = question.scene
        near = known.get(key(s), [])[:most]
        if not near:
            continue
        moved = [
            replace(
                s,
                items=tuple(
                    replace(i, x=i.x + rng.uniform(-0.03, 0.03), y=i.y + rng.uniform(-0.03, 0.03))
                    for i in s.items
                ),
                variant=rng.randrange(1 << 16),
            )
            for _ in range(2)
        ]
        drawn = pictures([*moved, *near], preset.side).astype(np.float32)
        apart = np.sqrt(np.square(drawn[0] - drawn[1]).mean())
        close += [
            np.sqrt(np.square(drawn[2:] - image).mean((1, 2, 3))).min() < apart for image in images
        ]
    return [float(share) for share in close / len(asked)]


def neighbours(
    pipe: Any, preset: Preset, words: Iterable[str], *, count: int = 3
) -> dict[str, list[str]]:
    """For each word the object words whose encodings in "a …" are nearest, by the cosine of the angle between them."""
    names = [k.name for k in objects(preset.objects) if " " not in k.name]
    ids = pipe.tokenizer(
        [f"a {n}" for n in names], padding="max_length", return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        hidden = pipe.text_encoder(ids).last_hidden_state[:, 2]  # start, "a", the word
    # what all words share (their place in the sentence) would make every pair look alike
    hidden = torch.nn.functional.normalize(hidden - hidden.mean(0), dim=-1)
    near = (hidden @ hidden.T).fill_diagonal_(-1).topk(count).indices
    return {w: [names[i] for i in near[names.index(w)].tolist()] for w in words if w in names}


def generate_all(
    pipe: Any, asked: list[Question], *, steps: int, guidance: float, batch: int = 20
) -> np.ndarray:
    """One picture for each question, `(N, H, W, 3)` bytes, seed = its number."""
    made = []
    for start in range(0, len(asked), batch):
        part = asked[start : start + batch]
        generators = [torch.Generator().manual_seed(start + n) for n in range(len(part))]
        out = pipe(
            [q.prompt for q in part],
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=generators,
            output_type="np",
        ).images
        made.append((out * 255 + 0.5).astype(np.uint8))
    return np.concatenate(made)


def report(
    pipe: Any,
    judge: Judge,
    preset: Preset,
    count: int,
    *,
    steps: int,
    guidance: float,
    seed: int = 0,
) -> dict[str, object]:
    """All rows of the table as plain data."""
    kinds = {k.name: i for i, k in enumerate(objects(preset.objects))}
    asked = questions(preset, count, seed=seed)
    made = generate_all(pipe, asked, steps=steps, guidance=guidance)
    drawn = pictures([q.scene for q in asked], preset.side)
    verdicts, features = judge.look(to_pixels(made))
    own, truth = judge.look(to_pixels(drawn))
    again = judge.look(
        to_pixels(pictures([q.scene for q in questions(preset, count, seed=seed + 1)], preset.side))
    )[1]
    fresh = to_pixels(pictures([scene(preset, n, training=False) for n in range(200)], preset.side))
    ours, judges = score(verdicts, asked, kinds), score(own, asked, kinds)
    known, by_chance = memorised(made, drawn, asked=asked, preset=preset)
    rows = {
        row: {
            "right": r,
            "of": n,
            "percent": round(100 * r / n, 1),
            "judge": round(100 * judges[row][0] / judges[row][1], 1),
        }
        for row, (r, n) in ours.items()
        if row in judges
    }
    return {
        "prompts": count,
        "steps": steps,
        "guidance_scale": guidance,
        "rows": rows,
        "autoencoder_psnr_db": round(psnr(pipe.vae, fresh), 2),
        "frechet_ratio": round(frechet(features, truth) / frechet(again, truth), 2),
        "sharpness": round(sharpness(made, drawn), 3),
        "nearest_words": neighbours(
            pipe, preset, ("cat", "duck", "bus", "apple", "tree", "castle")
        ),
        "memorised_percent": round(100 * known, 1),
        "memorised_percent_rendered": round(100 * by_chance, 1),
    }


def main(argv: list[str] | None = None) -> None:
    """Command line: train the judge if there is none, then print one table and write one JSON."""
    parser = argparse.ArgumentParser(prog="python -m sdkit.pocket.evaluate", description=__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="pocket2")
    parser.add_argument(
        "--weights",
        type=Path,
        default=Path(shipped()),
        help="a diffusers folder (default: the shipped Pocket)",
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("pocket-run"), help="where the judge is kept"
    )
    parser.add_argument(
        "--turbo",
        type=Path,
        help="measure Turbo, by a folder that sdkit.pocket.distil wrote, instead of its teacher in --weights",
    )
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--guidance", type=float, default=None)
    parser.add_argument("--judge-samples", type=int, default=150_000)
    parser.add_argument(
        "--shards",
        type=int,
        help="how many of the preset's shards the network has learned from, in case it is not all of them",
    )
    parser.add_argument("--json", type=Path, default=None, help="write the numbers here")
    options = parser.parse_args(argv)
    from diffusers import StableDiffusionPipeline

    preset = PRESETS[options.preset]
    preset = replace(preset, shards=options.shards or preset.shards)
    find_hands(preset.hands)  # what it is measured against is drawn last: say now what is missing
    judge = train_judge(preset, options.folder / preset.name, samples=options.judge_samples)
    pipe = StableDiffusionPipeline.from_pretrained(options.weights, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    own = preset.steps
    if options.turbo:
        pipe.unet, own = open_unet(options.turbo), preset.turbo_steps
    facts = report(
        pipe,
        judge,
        preset,
        options.prompts,
        steps=own if options.steps is None else options.steps,
        guidance=preset.guidance_scale if options.guidance is None else options.guidance,
    )
    print(table(facts))
    if options.json:
        options.json.write_text(json.dumps(facts, indent=2) + "\n")


def table(facts: dict[str, object]) -> str:
    """The report as a Markdown table."""
    lines = ["| measured | Pocket | judge on rendered scenes | prompts |", "|---|---|---|---|"]
    rows: dict[str, dict[str, float]] = facts["rows"]  # type: ignore[assignment]
    lines += [
        f"| {row} | {v['percent']:.1f} % | {v['judge']:.1f} % | {v['of']} |"
        for row, v in rows.items()
    ]
    for name in ("autoencoder_psnr_db", "frechet_ratio", "sharpness"):
        lines.append(f"| {name.replace('_', ' ')} | {facts[name]} | | |")
    made, drawn = facts["memorised_percent"], facts["memorised_percent_rendered"]
    lines.append(f"| memorised percent | {made} | {drawn} | |")
    near: dict[str, list[str]] = facts["nearest_words"]  # type: ignore[assignment]
    lines += ["", "Nearest words: " + "; ".join(f"{w} → {', '.join(n)}" for w, n in near.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
