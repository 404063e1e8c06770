"""What `generate()` costs beside the bare pipeline, and where Pocket's time goes. Prints one table.

    python benchmarks/generation.py

Ratios compare process CPU time of two ways to do the same work, alternating in one process; the new-process rows
start fresh interpreters in turn. Needs a quiet machine.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
from timing import alternate

PROMPT = "a red car on a beach, watercolor"
BARE = f"""
import time; t0 = time.perf_counter()
import torch
from diffusers import StableDiffusionPipeline
t1 = time.perf_counter()
import sdkit.pocket
pipe = StableDiffusionPipeline.from_pretrained(sdkit.pocket.path(), dtype=torch.float32)
pipe.set_progress_bar_config(disable=True)
t2 = time.perf_counter()
pipe({PROMPT!r}, num_inference_steps=20, guidance_scale=4.0, generator=torch.Generator().manual_seed(7)).images[0]
print(t1 - t0, t2 - t1, time.perf_counter() - t2)
"""
OURS = f"""
import time; t0 = time.perf_counter()
import sdkit
sdkit.load, sdkit.generate
t1 = time.perf_counter()
pipe = sdkit.load()
t2 = time.perf_counter()
sdkit.generate(pipe, {PROMPT!r}, seed=7, steps=20, guidance_scale=4.0, progress=False).image
print(t1 - t0, t2 - t1, time.perf_counter() - t2)
"""


def fresh(code: str) -> np.ndarray:
    """Seconds of importing, loading and making the first picture, then of the whole process."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    whole = time.perf_counter() - began
    return np.array([*map(float, done.stdout.split()[-3:]), whole])


def rows(rounds: int) -> list[tuple[str, str]]:
    """Measure everything; each row is a name and what was found."""
    table = []
    import_time = [
        float(
            subprocess.run(
                [sys.executable, "-c", "import time; t = time.perf_counter(); import sdkit; print(time.perf_counter() - t)"],
                capture_output=True, text=True, check=True,
            ).stdout
        )
        for _ in range(5)
    ]  # fmt: skip
    table.append(("`import sdkit`", f"{1000 * min(import_time):.0f} ms"))
    bare, ours = (
        np.min(runs, 0)
        for runs in zip(*[(fresh(BARE), fresh(OURS)) for _ in range(3)], strict=True)
    )
    for n, part in enumerate(
        ("imports", "loading Pocket", "first picture", "new process up to the first picture, whole")
    ):
        table.append((part, f"{ours[n]:.2f} s, {ours[n] / bare[n]:.2f} of bare diffusers"))

    import torch

    import sdkit
    from sdkit.pipelines import embeddings

    pipe = sdkit.load(device="cpu")
    pipe.set_progress_bar_config(disable=True)

    def plain() -> np.ndarray:
        generator = torch.Generator().manual_seed(7)
        return np.asarray(
            pipe(PROMPT, num_inference_steps=20, guidance_scale=4.0, generator=generator).images[0]
        )

    def ours_new_words() -> np.ndarray:
        embeddings._remembered.clear()  # noqa: SLF001 - the same work as the bare call: both encode the text
        return ours_again()

    def ours_again() -> np.ndarray:
        made = sdkit.generate(pipe, PROMPT, seed=7, steps=20, guidance_scale=4.0, progress=False)
        return np.asarray(made.image)

    same = (plain() == ours_new_words()).all() and (plain() == ours_again()).all()
    table.append(("picture equal to the bare call's, to the bit", "yes" if same else "NO"))
    best = alternate({"plain": plain, "new": ours_new_words, "again": ours_again}, rounds)
    table.append(("`generate` ÷ bare `pipe(...)`, CPU time", f"{best['new'] / best['plain']:.3f}"))
    table.append(("the same with words seen before", f"{best['again'] / best['plain']:.3f}"))
    table += compiled(ours_again, rounds)
    table += anatomy(pipe, rounds)
    return table


def compiled(ours: Callable[[], np.ndarray], rounds: int) -> list[tuple[str, str]]:
    """The same picture where onnxruntime computes the UNet, against torch on as many threads."""
    import torch

    import sdkit

    fast = sdkit.load(device="cpu", compile="onnx")
    fast.set_progress_bar_config(disable=True)

    def graph() -> np.ndarray:
        made = sdkit.generate(fast, PROMPT, seed=7, steps=20, guidance_scale=4.0, progress=False)
        return np.asarray(made.image)

    apart = int(np.abs(graph().astype(int) - ours().astype(int)).max())
    table = [('`compile="onnx"`: levels of 255 from torch\'s picture', f"{apart}")]
    usual = torch.get_num_threads()
    for threads in dict.fromkeys((1, usual)):
        torch.set_num_threads(threads)
        best = alternate({"torch": ours, "onnx": graph}, rounds)
        name = f'`compile="onnx"` ÷ torch, whole picture, CPU time, {threads} thread'
        table.append((name + "s" * (threads > 1), f"{best['onnx'] / best['torch']:.3f}"))
    torch.set_num_threads(usual)
    return table


def anatomy(pipe: object, rounds: int) -> list[tuple[str, str]]:
    """Milliseconds of one guided step and one picture, and the share of each part."""
    import torch

    import sdkit

    card = sdkit.pocket.card()
    text = torch.cat([pipe.encode_prompt(t, "cpu", 1, False)[0] for t in ("", PROMPT)])
    latents = torch.randn(
        2, pipe.unet.config.in_channels, 16, 16, generator=torch.Generator().manual_seed(0)
    )
    pipe.scheduler.set_timesteps(card["steps"])
    moment = pipe.scheduler.timesteps[3]

    @torch.no_grad()
    def wall(work: object) -> float:
        work()
        times = []
        for _ in range(max(10, 3 * rounds)):
            began = time.perf_counter()
            work()
            times.append(time.perf_counter() - began)
        return 1000 * statistics.median(times)

    unet = wall(lambda: pipe.unet(latents, moment, encoder_hidden_states=text).sample)
    words = wall(lambda: [pipe.encode_prompt(t, "cpu", 1, False) for t in ("", PROMPT)])
    decode = wall(lambda: pipe.vae.decode(latents[:1]).sample)
    solver = wall(lambda: pipe.scheduler.step(latents[:1], moment, latents[:1]).prev_sample)
    whole = wall(lambda: sdkit.generate(pipe, PROMPT, seed=7, progress=False))
    steps = card["steps"]
    parts = {"text": words, "UNet": steps * unet, "scheduler": steps * solver, "decoding": decode}
    shares = ", ".join(f"{name} {100 * ms / whole:.0f} %" for name, ms in parts.items())
    return [
        ("one guided step of Pocket (UNet, batch 2)", f"{unet:.0f} ms"),
        (f"one picture with default settings ({steps} steps)", f"{whole:.0f} ms"),
        ("its parts measured alone, as shares", shares),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print("| measured | found |\n|---|---|")
    for name, found in rows(options.rounds):
        print(f"| {name} | {found} |", flush=True)


if __name__ == "__main__":
    main()
