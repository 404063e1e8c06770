"""What a memory plan takes and costs, for Stable Diffusion's published shapes with random weights. Prints one table.

    python benchmarks/memory.py [--quick] [--parts planned counted witnessed loading gpu full-size]

Rows marked *planned* are what `sdkit.plan` says of headers without weights; *counted* ones follow every operation of the
network and add up the tensors that are alive, on the `meta` device at full size and once with real tensors on the
processor, where PyTorch's own profiler witnesses them; neither sees the workspaces of a GPU's kernels, for which plans
double the count. *Measured* rows are what a GPU's allocator says, and appear only where there is one. *Full size* runs
only when it is asked for: it writes 2.7 GB of random weights in the published shape of SD 1.5, loads them, makes
pictures on the processor in 8 GiB of memory and ten minutes, and deletes them.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from timing import alternate

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import families
import published
from accounting import LiveBytes, flash_attention, peak_of

import sdkit
from sdkit.memory import needs, plan as memory
from sdkit.pipelines import placement

GIB, MIB = 2**30, 2**20
PROMPT = "a red car on a beach"
Row = tuple[str, str]
_PRIME = 1_000_003  # numbers before random weights begin again: no row of a matrix is like another
# family, side, `memory`, cap in GiB, bar in GiB
PEAKS = (
    ("sd15", 512, "low", 4, 2.6),
    ("sd15", 512, "auto", 4, 3.4),
    ("sdxl", 1024, "auto", 8, 7.5),
)


def title(family: str, side: int, asked: str, cap: int) -> str:
    return f"{family.upper()} {side}², fp16, `memory={asked!r}` under {cap} GiB"


# -- without a GPU -----------------------------------------------------------------------------------------------------


def planned_rows(root: Path) -> Iterator[Row]:
    """Peaks that plans promise, from headers alone."""
    folders = {
        family: published.write(root / f"{family}-headers", family) for family in ("sd15", "sdxl")
    }
    for family, side, asked, cap, bar in PEAKS:
        with mock.patch.object(memory, "free", lambda _device, cap=cap: cap * GIB):
            plan = memory.draft(
                "folder",
                str(folders[family]),
                memory=asked,
                device="cuda",
                dtype=torch.float16,
                width=side,
                height=side,
            )
        assert plan is not None
        weights = plan.peak - max(plan.step, plan.decode)
        yield (
            f"{title(family, side, asked, cap)}, planned peak",
            f"{plan.peak / GIB:.2f} GiB ({plan.way}; bar {bar}; {weights / GIB:.2f} of it weights in the largest moment)",
        )


def counted(network: Any, *inputs: torch.Tensor, **more: Any) -> int:
    with flash_attention():
        return peak_of(network, *inputs, **more)


def counted_rows() -> Iterator[Row]:
    """Living tensors of full-size networks on `meta`, beside what the formulas say."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    with torch.device("meta"):
        half = torch.float16
        for name, kind, side in (("SD15", published.SD15, 64), ("SDXL", published.SDXL, 128)):
            unet = UNet2DConditionModel(**kind).to(half).eval()
            xl = {
                "text_embeds": torch.empty(2, 1280, dtype=half),
                "time_ids": torch.empty(2, 6, dtype=half),
            }
            words = torch.empty(2, 77, kind["cross_attention_dim"], dtype=half)
            latents, moment = torch.empty(2, 4, side, side, dtype=half), torch.empty(2, dtype=half)
            found = counted(
                unet, latents, moment, words, added_cond_kwargs=xl if name == "SDXL" else None
            )
            said = 2 * needs.denoising(kind, side, side, 2)
            yield (
                f"{name} one guided step, {8 * side}², fp16, counted",
                f"{found / MIB:.0f} MiB, {found / said:.3f} of the formula",
            )
        for precision, side in ((torch.float16, 512), (torch.float32, 1024)):
            vae = AutoencoderKL(**published.AUTOENCODER).to(precision).eval()
            found = counted(vae.decode, torch.empty(1, 4, side // 8, side // 8, dtype=precision))
            said = precision.itemsize * needs.decoding(published.AUTOENCODER, side, side, 1)
            yield (
                f"decoding {side}², {str(precision)[6:]}, counted",
                f"{found / MIB:.0f} MiB, {found / said:.3f} of the formula",
            )


def witnessed_rows() -> Iterator[Row]:
    """A quarter as wide, with real tensors: our count, the formula, and PyTorch's profiler."""
    from diffusers import UNet2DConditionModel

    narrow = published.SD15 | {"block_out_channels": (80, 160, 320, 320)}
    unet = UNet2DConditionModel(**narrow, norm_num_groups=16).eval()
    inputs = (torch.randn(2, 4, 32, 32), torch.tensor([5.0, 5.0]), torch.randn(2, 77, 768))
    found, said = peak_of(unet, *inputs), 4 * needs.denoising(narrow, 32, 32, 2)
    seen = profiled(lambda: unet(*inputs))
    yield (
        "SD15 a quarter as wide, 256², fp32, real tensors",
        f"counted {found / MIB:.1f} MiB, profiler {seen / MIB:.1f} MiB, formula {said / MIB:.1f} MiB",
    )


def profiled(call: Callable[[], Any]) -> int:
    """The largest sum of allocations less releases that PyTorch's profiler has seen during a call."""
    from torch.profiler import ProfilerActivity, profile

    with (
        torch.no_grad(),
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler,
    ):
        call()
    live = peak = 0
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def loading_rows(root: Path, rounds: int) -> Iterator[Row]:
    """CPU time to load from safetensors, beside bare `from_pretrained`."""
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

    pipe = families.sd15()
    pipe.unet = UNet2DConditionModel(**published.SD15 | {"block_out_channels": (128, 256, 512, 512), "cross_attention_dim": families.WIDTH})  # fmt: skip
    pipe.save_pretrained(root / "middle")
    size = sum(p.numel() for p in pipe.unet.parameters()) / 1e6
    for name, folder in (
        ("Pocket", sdkit.pocket.path()),
        (f"a folder of {size:.0f} M parameters", root / "middle"),
    ):

        def bare(folder: Any = folder) -> Any:
            return StableDiffusionPipeline.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True
            )

        def ours(folder: Any = folder) -> Any:
            return sdkit.load(folder, device="cpu")

        best = alternate({"bare": bare, "ours": ours}, rounds)
        yield (
            f"loading {name} ÷ bare `from_pretrained`, CPU time",
            f"{best['ours'] / best['bare']:.3f} ({best['ours']:.2f} s)",
        )


# -- at full size, on the processor -------------------------------------------------------------------------------------


def random_checkpoint(folder: Path, family: str, *, variant: str | None = None) -> Path:
    """A full-size checkpoint with random weights in half precision."""
    import diffusers
    from transformers import CLIPImageProcessor

    noise = np.random.default_rng(0).normal(0, 0.02, _PRIME).astype(np.float16)
    parts = {}
    for name, (_, described) in published.parts(family).items():
        network = described.to(torch.float16).to_empty(device="cpu").eval()
        for key, value in [*network.named_parameters(), *network.named_buffers()]:
            if not value.is_floating_point():
                value.data = torch.arange(value.numel()).reshape(value.shape)  # position ids
            elif value.ndim > 1:
                value.data.copy_(
                    torch.from_numpy(np.resize(noise, value.shape))
                )  # over and over: enough for this
            else:
                value.data.fill_(
                    float(key.endswith(("weight", "weights")))
                )  # a threshold of 1: nothing is flagged
        parts[name] = network
    scheduler = diffusers.DDIMScheduler(clip_sample=False, steps_offset=1, set_alpha_to_one=False)
    if family == "sdxl":
        pipe = diffusers.StableDiffusionXLPipeline(
            **parts,
            tokenizer=families.clip_tokenizer(),
            tokenizer_2=families.clip_tokenizer(),
            scheduler=scheduler,
        )
    else:
        pipe = diffusers.StableDiffusionPipeline(
            **parts,
            tokenizer=families.clip_tokenizer(),
            scheduler=scheduler,
            feature_extractor=CLIPImageProcessor(),
        )
    pipe.save_pretrained(folder, variant=variant)
    return folder


def full_size_rows(root: Path, rounds: int, side: int = 384) -> Iterator[Row]:
    """SD 1.5 as it is published, but for what the weights say: a folder of half-precision variants, loaded and run."""
    from diffusers import StableDiffusionPipeline

    folder = random_checkpoint(root, "sd15", variant="fp16")
    count = {
        p.name: p.floats
        for p in sdkit.memory.sizes.measure("folder", str(folder), variant="fp16") or ()
    }
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    yield (
        "full size, parameters",
        ", ".join(f"{name} {n:,}" for name, n in count.items()) + f"; {size / 1e9:.2f} GB",
    )

    def bare() -> None:
        StableDiffusionPipeline.from_pretrained(
            folder, dtype=torch.float32, variant="fp16", use_safetensors=True
        )

    def ours() -> None:
        sdkit.load(folder, variant="fp16", device="cpu")

    best = alternate({"bare": bare, "ours": ours}, rounds)
    yield (
        "full size, loading ÷ bare `from_pretrained`, CPU time",
        f"{best['ours'] / best['bare']:.3f} ({best['ours']:.2f} s)",
    )
    for asked in ("full", "low"):
        said = alone("full_size_alone", str(folder), asked, side)
        title = f"full size, {side}², fp32 on the processor, `memory={asked!r}`"
        yield (
            f"{title}, memory beside the weights",
            (
                f"{said['counted'] / MIB:.0f} MiB of living tensors counted, {said['beside'] / MIB:.0f} planned "
                f"({said['way']}); resident {said['loaded'] / GIB:.2f} GiB loaded, {said['making'] / GIB:.2f} at the peak, "
                f"{said['planned'] / GIB:.2f} planned and {said['started'] / GIB:.2f} of Python before"
            ),
        )
        yield (
            f"{title}, two steps",
            (
                f"{said['seconds']:.0f} s; with attention captured from {said['layers']} layers {said['captured']:.0f} s, "
                f"picture {'the same' if said['same'] else 'ANOTHER ONE'}; finite: {said['finite']}"
            ),
        )


def full_size_alone(folder: str, asked: str, side: int) -> dict[str, Any]:
    """Load, make a picture, make it again with attention captured, and say what it took; in a process of its own."""
    started = resident("VmRSS")
    pipe = sdkit.load(folder, variant="fp16", device="cpu", memory=asked)
    loaded = resident("VmRSS")
    plan = sdkit.plan(folder, variant="fp16", device="cpu", memory=asked, width=side, height=side)
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
    with LiveBytes() as alive:
        made = sdkit.generate(
            pipe, PROMPT, seed=7, steps=2, width=side, height=side, progress=False
        )
    making = resident("VmHWM")
    with sdkit.capture_attention(pipe) as capture:
        again = sdkit.generate(pipe, made.settings, progress=False)
    return {
        "started": started,
        "loaded": loaded,
        "making": making,
        "counted": alive.peak,
        "planned": plan.peak,
        "beside": max(plan.step, plan.decode),
        "way": str(plan.way),
        "seconds": made.seconds,
        "captured": again.seconds,
        "layers": len(capture.maps.layers),
        "same": made.image.tobytes() == again.image.tobytes(),
        "finite": bool(np.isfinite(made.latents).all() and np.isfinite(capture.maps["car"]).all()),
    }


def resident(name: str) -> int:
    """Bytes of this process in memory, as Linux says: now ("VmRSS") or at the peak ("VmHWM")."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


# -- with a GPU --------------------------------------------------------------------------------------------------------


def peak_alone(folder: str, asked: str, side: int, cap: float) -> dict[str, Any]:
    """Load, make one picture, and say what it took; runs in a process of its own."""
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(cap * GIB / total)
    pipe = sdkit.load(folder, memory=asked, device="cuda", dtype=torch.float16)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sdkit.generate(pipe, PROMPT, steps=4, width=side, height=side, progress=False)
    plan = memory.planned(pipe)
    assert plan is not None
    return {
        "allocated": torch.cuda.max_memory_allocated(),
        "reserved": torch.cuda.max_memory_reserved(),
        "planned": plan.peak,
        "way": str(plan.way),
        "rungs": sum(issubclass(w.category, sdkit.memory.recovery.LessMemory) for w in caught),
    }


def measured_peak(folder: Path, family: str, side: int, asked: str, cap: float, bar: float) -> Row:
    name = f"{title(family, side, asked, int(cap))}, measured peak"
    try:
        said = alone("peak_alone", str(folder), asked, side, cap)
    except ChildProcessError as error:
        return name, f"failed: {error}"
    return (
        name,
        (
            f"{said['allocated'] / GIB:.2f} GiB allocated, {said['reserved'] / GIB:.2f} reserved (bar {bar}; planned "
            f"{said['planned'] / GIB:.2f}; {said['way']}; {said['rungs']} rungs of the ladder)"
        ),
    )


def seconds(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Smallest wall-clock seconds of each way on the GPU, taken in turn, after one round to warm up."""
    best = dict.fromkeys(ways, float("inf"))
    for turn in range(rounds + 1):
        for name, way in ways.items():
            torch.cuda.synchronize()
            began = time.perf_counter()
            way()
            torch.cuda.synchronize()
            best[name] = min(best[name], time.perf_counter() - began) if turn else best[name]
    return best


def bare_call(pipe: Any, steps: int, side: int) -> Callable[[], Any]:
    options = {"num_inference_steps": steps, "width": side, "height": side, "guidance_scale": 7.5}
    return lambda: pipe(PROMPT, generator=torch.Generator().manual_seed(7), **options)


def our_call(pipe: Any, steps: int, side: int) -> Callable[[], Any]:
    options = {
        "steps": steps,
        "width": side,
        "height": side,
        "guidance_scale": 7.5,
        "progress": False,
    }
    return lambda: sdkit.generate(pipe, PROMPT, seed=7, **options)


def speed_rows(folder: Path, rounds: int, steps: int = 20, side: int = 512) -> Iterator[Row]:
    """Seconds a picture beside bare diffusers with the same precision, and under the same offload."""
    from diffusers import StableDiffusionPipeline

    def load_bare() -> Any:
        pipe = StableDiffusionPipeline.from_pretrained(
            folder, dtype=torch.float16, use_safetensors=True
        )
        pipe.set_progress_bar_config(disable=True)
        return pipe

    bare, ours = load_bare().to("cuda"), sdkit.load(folder, device="cuda", dtype=torch.float16)
    best = seconds(
        {"bare": bare_call(bare, steps, side), "ours": our_call(ours, steps, side)}, rounds
    )
    yield (
        f"SD15 {side}², {steps} steps ÷ bare diffusers, no cap",
        f"{best['ours'] / best['bare']:.3f} ({best['ours']:.2f} s; bar 1.00)",
    )
    del ours
    compiled = sdkit.load(folder, device="cuda", dtype=torch.float16, compile=True)
    quick = seconds(
        {"bare": bare_call(bare, steps, side), "ours": our_call(compiled, steps, side)}, rounds
    )
    yield (
        "the same with `compile=True`, warmed up",
        f"{quick['ours'] / quick['bare']:.3f} (bar 0.75)",
    )
    del bare, compiled
    bare, ours = load_bare(), sdkit.load(folder, device="cuda", dtype=torch.float16, memory="low")
    bare.enable_model_cpu_offload()
    bare.vae.enable_slicing()
    placement.tile(bare.vae, memory.planned(ours).tile, 8)
    for few in (steps, 4):
        best = seconds(
            {"bare": bare_call(bare, few, side), "ours": our_call(ours, few, side)}, rounds
        )
        yield (
            f"known prompt under model offload, {few} steps ÷ bare with the same",
            f"{best['ours'] / best['bare']:.3f} (bar 0.85)",
        )


def gpu_rows(root: Path, rounds: int) -> Iterator[Row]:
    if not torch.cuda.is_available():
        yield (
            "measured on a GPU",
            "no GPU here: peaks, speed, compiling and offloading were not measured",
        )
        return
    yield (
        "GPU",
        f"{torch.cuda.get_device_name()}, {torch.cuda.get_device_properties(0).total_memory / GIB:.0f} GiB",
    )
    folders = {family: random_checkpoint(root / family, family) for family in ("sd15", "sdxl")}
    for family, side, asked, cap, bar in PEAKS:
        yield measured_peak(folders[family], family, side, asked, cap, bar)
    yield from speed_rows(folders["sd15"], rounds)


# -- the table ---------------------------------------------------------------------------------------------------------


def alone(function: str, *order: Any) -> dict[str, Any]:
    """Call a function of this file in a process of its own."""
    command = [sys.executable, __file__, "--alone", json.dumps([function, *order])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ChildProcessError(
            (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        )
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


PARTS: Mapping[str, Callable[[Path, int], Iterator[Row]]] = {
    "planned": lambda root, _: planned_rows(root),
    "counted": lambda *_: counted_rows(),
    "witnessed": lambda *_: witnessed_rows(),
    "loading": loading_rows,
    "gpu": gpu_rows,
    "full-size": full_size_rows,
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument(
        "--parts", nargs="*", choices=PARTS, default=[name for name in PARTS if name != "full-size"]
    )
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.alone:
        function, *order = json.loads(options.alone)
        print(json.dumps(globals()[function](*order)))
        return
    print("| measured | found |\n|---|---|")
    for part in options.parts:
        with tempfile.TemporaryDirectory() as root:
            for name, found in PARTS[part](Path(root), 3 if options.quick else 7):
                print(f"| {name} | {found} |", flush=True)


if __name__ == "__main__":
    main()
