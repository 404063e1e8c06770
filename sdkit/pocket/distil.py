"""Make Turbo, the student that needs four steps: `python -m sdkit.pocket.distil --preset pocket2`.

Guidance is folded in first and last: one network, one evaluation a step, with the guidance scale as its input, so that
the slider keeps working. Everything is seeded and resumes after a kill; no font and no pictures are needed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel

from . import path as shipped
from .training.imitation import followed, train_turbo
from .training.presets import PRESETS
from .turbo import open_unet, write_unet

__all__ = ["main"]


def main(argv: list[str] | None = None) -> None:
    """Command line: train what is not finished yet, then write its weights."""
    parser = argparse.ArgumentParser(prog="python -m sdkit.pocket.distil", description=__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="pocket2")
    parser.add_argument(
        "--teacher",
        type=Path,
        default=Path(shipped()),
        help="a diffusers folder of the same preset (default: the shipped Pocket)",
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("pocket-run"), help="checkpoints, curve and the result"
    )
    parser.add_argument(
        "--steps",
        type=int,
        help="evaluations a picture (default: the preset's); half as many begin where a run in the same folder ended",
    )
    parser.add_argument(
        "--samples",
        type=int,
        help="ways from noise to picture to learn from (default: the preset's)",
    )
    parser.add_argument(
        "--start",
        type=Path,
        nargs=2,
        metavar=("TURBO", "TEACHER"),
        help="go on from a Turbo whose teacher has learned since: the folders of both as they were",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--bfloat16",
        action="store_true",
        help="compute in bfloat16: a quarter faster on processors with AVX-512 BF16, very slow on others",
    )
    options = parser.parse_args(argv)
    preset, folder = PRESETS[options.preset], options.folder / options.preset
    steps = options.steps or preset.turbo_steps
    teacher = StableDiffusionPipeline.from_pretrained(options.teacher, dtype=torch.float32)
    start = None
    if options.start:
        turbo, before = options.start
        old = UNet2DConditionModel.from_pretrained(before / "unet", dtype=torch.float32)
        start = followed(open_unet(turbo), old, teacher.unet)
    unet = train_turbo(
        preset,
        teacher,
        folder,
        steps=steps,
        total=options.samples,
        device=options.device,
        bfloat16=options.bfloat16 or preset.bfloat16,
        seed=options.seed,
        start=start,
    )
    defaults = {"steps": steps, "guidance_scale": preset.guidance_scale}
    write_unet(unet, preset.facts | defaults, folder / "weights-turbo")


if __name__ == "__main__":
    main()
