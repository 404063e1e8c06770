"""What a walk costs beside the usual way to make one, and how even its motion is. Prints one table.

    python benchmarks/interpolation.py

The usual way (as in the community pipelines): a clip for each pair of keyframes, both ends of it rendered, frame by frame
at equal steps of the index, straight lines through the text, and the unconditional prompt encoded again for each
frame. Speeds are ratios of process CPU time, the ways taken in turn in one process. Needs a quiet machine.
"""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
import warnings
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from timing import alternate

import sdkit
from sdkit.pipelines import embeddings
from sdkit.pipelines.noise import slerp
from sdkit.walks.paths import lerp

KEYFRAMES = (
    "a red car on a beach, watercolor",
    "a cat in the snow",
    "a castle at night",
    "two apples",
    "a fox",
)
GUIDANCE = 4.0


class Counted:
    """How many pictures the UNet and how many texts the text encoder work on inside the block."""

    def __init__(self, pipe):
        self.pipe, self.unet, self.texts = pipe, 0, 0

    def __enter__(self):
        self.own = self.pipe.unet.forward, self.pipe.text_encoder.forward

        def unet(sample, *args, **kwargs):
            self.unet += len(sample)
            return self.own[0](sample, *args, **kwargs)

        def encoder(ids, *args, **kwargs):
            self.texts += len(ids)
            return self.own[1](ids, *args, **kwargs)

        self.pipe.unet.forward, self.pipe.text_encoder.forward = unet, encoder
        return self

    def __exit__(self, *_):
        del self.pipe.unet.forward, self.pipe.text_encoder.forward


def noise_of(pipe, seed):
    shape = (1, pipe.unet.config.in_channels, 16, 16)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def usual(pipe, frames, steps, folder, *, ends_twice=True, text_again=True):
    """Make a walk clip by clip; the options take away one waste each."""
    embeddings._remembered.clear()  # noqa: SLF001 - both ways begin with unknown words
    segments = len(KEYFRAMES) - 1
    per_clip, made = (frames - 1) // segments + 1, 0

    def encode(text):
        return pipe.encode_prompt(text, "cpu", 1, False)[0]

    known = None if text_again else {t: encode(t) for t in (*KEYFRAMES, "")}
    for n, (first, second) in enumerate(pairwise(KEYFRAMES)):
        a, b = (known[t] if known else encode(t) for t in (first, second))
        times = np.linspace(0, 1, per_clip)[0 if ends_twice or n == 0 else 1 :]
        for t in times:
            picture = pipe(
                prompt_embeds=lerp(a, b, float(t)),
                latents=slerp(noise_of(pipe, n), noise_of(pipe, n + 1), float(t)),
                num_inference_steps=steps,
                guidance_scale=GUIDANCE,
                **({"negative_prompt_embeds": known[""]} if known else {"negative_prompt": ""}),
            ).images[0]
            picture.save(folder / f"{n:02}-{t:.4f}.png")
            made += 1
    return made


def ours(pipe, frames, steps, **options):
    embeddings._remembered.clear()  # noqa: SLF001
    return sdkit.interpolate(
        pipe, KEYFRAMES, frames=frames, seeds=range(len(KEYFRAMES)), steps=steps, guidance_scale=GUIDANCE,
        **{"pacing": "linear", "progress": False, **options},
    )  # fmt: skip


def speed(pipe, frames, steps, rounds):
    """Frames a second against the usual way, and what each cause contributes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ways = {
            "usual": lambda: usual(pipe, frames, steps, folder),
            "once": lambda: usual(pipe, frames, steps, folder, ends_twice=False),
            "text": lambda: usual(pipe, frames, steps, folder, ends_twice=False, text_again=False),
            "single": lambda: ours(pipe, frames, steps, batch_size=1),
            "ours": lambda: ours(pipe, frames, steps),
            "even": lambda: ours(pipe, frames, steps, pacing="even"),
        }
        t = alternate(ways, rounds)
    yield (
        f"walk of {frames} frames, {len(KEYFRAMES)} keyframes, {steps} steps: frames a second ÷ usual way",
        t["usual"] / t["ours"],
    )
    yield "… won by making no keyframe twice", t["usual"] / t["once"]
    yield "… won by encoding each text once", t["once"] / t["text"]
    yield "… won (below 1: lost) by everything else at batch size 1", t["text"] / t["single"]
    yield "… won by batches", t["single"] / t["ours"]
    yield "the same walk with even pacing", t["usual"] / t["even"]


def counts(pipe, frames, steps):
    with Counted(pipe) as counted:
        made = ours(pipe, frames, steps)
    expected = 2 * steps * len(set(made.places))
    yield (
        "UNet evaluations (both halves of guidance); steps × distinct frames × 2",
        f"{counted.unet}; {expected}",
    )
    yield (
        "texts encoded; distinct prompts, the empty negative one included",
        f"{counted.texts}; {len(set(KEYFRAMES)) + 1}",
    )
    with Counted(pipe) as counted, tempfile.TemporaryDirectory() as folder:
        embeddings._remembered.clear()  # noqa: SLF001
        made = usual(pipe, frames, steps, Path(folder))
    yield (
        f"the usual way: evaluations; texts, for {frames} distinct frames",
        f"{counted.unet}; {counted.texts}",
    )


def memory(pipe):
    """Growth of the largest resident size from a short walk to a long one, both with one step."""
    peaks = []
    for frames in (16, 16, 256):
        ours(pipe, frames, 1)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    yield "peak memory, 16 → 256 frames", f"+{peaks[2] - peaks[1]:.1f} MiB"


def dissimilarity(a, b):
    """√(1 − SSIM) (Wang et al. 2004; a metric by Brunet et al. 2012)."""
    a, b = (np.asarray(x, dtype=float) / 255 for x in (a, b))

    def mean(x):
        return gaussian_filter(x, (1.5, 1.5, 0))

    ma, mb = mean(a), mean(b)
    va, vb, both = mean(a * a) - ma * ma, mean(b * b) - mb * mb, mean(a * b) - ma * mb
    ssim = (
        (2 * ma * mb + 1e-4) * (2 * both + 9e-4) / ((ma * ma + mb * mb + 1e-4) * (va + vb + 9e-4))
    )
    return np.sqrt(max(0.0, 1 - ssim.mean()))


@torch.no_grad()
def features(pipe, image):
    """What the levels of the autoencoder's encoder see, each pixel's channels brought to length 1 (as LPIPS does)."""
    seen = []
    hooks = [
        b.register_forward_hook(lambda _m, _a, out: seen.append(out[0]))
        for b in pipe.vae.encoder.down_blocks
    ]
    pipe.vae.encode(torch.tensor(np.asarray(image)).permute(2, 0, 1)[None] / 127.5 - 1)
    for hook in hooks:
        hook.remove()
    return [s / s.norm(dim=0, keepdim=True).clamp_min(1e-8) for s in seen]


def variation(values):
    return float(np.std(values) / np.mean(values))


def variations(pipe, walk):
    """Variation of neighbour distances by three measures: sdkit's own, and two that pacing knows nothing of."""
    frames = list(walk)
    seen = [features(pipe, f) for f in frames]
    apart = [
        np.sqrt(sum(float((x - y).square().sum(0).mean()) for x, y in zip(a, b, strict=True)))
        for a, b in pairwise(seen)
    ]
    return (
        walk.smoothness,
        variation(apart),
        variation([dissimilarity(a, b) for a, b in pairwise(frames)]),
    )


def prompts(rng):
    things = (
        "a cat",
        "a dog",
        "a fox",
        "a castle",
        "a house",
        "a rocket",
        "two apples",
        "a tree",
        "a car",
        "a star",
    )
    places = (
        "in the snow",
        "on a beach",
        "at night",
        "in a meadow",
        "on a purple background",
        "on a green background",
    )
    return [f"{rng.choice(things)} {rng.choice(places)}" for _ in range(3)]


def smoothness(pipe, walks, frames, steps):
    """Even pacing against index-linear walks, over walks between random prompts."""
    rng, found = random.Random(0), {"even": [], "linear": [], "usual": []}
    for n in range(walks):
        words, seeds = prompts(rng), [3 * n, 3 * n + 1, 3 * n + 2]
        for name, pacing, path in (
            ("even", "even", "aligned"),
            ("linear", "linear", "aligned"),
            ("usual", "linear", "lerp"),
        ):
            walk = sdkit.interpolate(
                pipe,
                words,
                seeds=seeds,
                frames=frames,
                steps=steps,
                pacing=pacing,
                words=path,
                progress=False,
            )
            found[name].append(variations(pipe, walk))
    mean = {name: np.mean(values, 0) for name, values in found.items()}
    for n, measure in enumerate(("sdkit.walks.difference", "autoencoder features", "√(1 − SSIM)")):
        even, linear, straight = (mean[name][n] for name in ("even", "linear", "usual"))
        name = f"variation of neighbour distances, {walks} walks of {frames} frames, by {measure}: even ÷ index-linear"
        yield (
            name,
            f"{even:.2f} ÷ {linear:.2f} = {even / linear:.2f} (straight lines through the text: {straight:.2f})",
        )


def scrubber(pipe, steps):
    """Share of a walk's CPU time after which five frames can be looked through."""
    for pacing in ("linear", "even"):
        moments = []
        began = time.process_time()
        ours(
            pipe,
            65,
            steps,
            pacing=pacing,
            on_frame=lambda w, m=moments: m.append((len(w), time.process_time())),
        )
        ready = next(t for count, t in moments if count >= 5)
        yield (
            f"time until 5 of 65 frames are there, {pacing}",
            f"{100 * (ready - began) / (moments[-1][1] - began):.1f} %",
        )


def film(pipe):
    walk = ours(pipe, 16, 1)
    with tempfile.TemporaryDirectory() as folder:
        path = walk.save(Path(folder) / "x.mp4", fps=24, progress=False)
        with av.open(str(path)) as read:
            stream = read.streams.video[0]
            count = sum(1 for _ in read.decode(stream))
            code = stream.codec_context
            yield (
                f"MP4 of 16 frames of {walk.images[0].width}×{walk.images[0].height}, read back",
                f"{count} frames, {code.width}×{code.height}, {code.name}, {code.pix_fmt}",
            )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=33)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--walks", type=int, default=20)
    parser.add_argument(
        "--walk-steps", type=int, default=10, help="steps of the walks whose motion is measured"
    )
    parser.add_argument(
        "--parts", nargs="*", help="some of: speed counts memory smoothness scrubber film"
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    pipe = sdkit.load(device="cpu")
    pipe.set_progress_bar_config(disable=True)
    ours(pipe, 9, 1)  # warm
    parts = {
        "speed": lambda: speed(pipe, options.frames, options.steps, options.rounds),
        "counts": lambda: counts(pipe, options.frames, 2),
        "memory": lambda: memory(pipe),
        "smoothness": lambda: smoothness(pipe, options.walks, options.frames, options.walk_steps),
        "scrubber": lambda: scrubber(pipe, options.walk_steps),
        "film": lambda: film(pipe),
    }
    print("| measured | found |\n|---|---|")
    for part in options.parts or parts:
        for name, found in parts[part]():
            print(f"| {name} | {found if isinstance(found, str) else f'{found:.2f}'} |", flush=True)


if __name__ == "__main__":
    main()
