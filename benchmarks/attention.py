"""What capturing attention costs, beside two other libraries, and whether the maps find the thing. Prints one table.

    python benchmarks/attention.py [--quick]
    python benchmarks/attention.py --peers FOLDER

The peers are optional: ``pip install --no-deps --target FOLDER attention-map-diffusers==1.0.0 daam==0.2.0``. Ratios
compare process CPU time of the same pictures with and without capture, variants alternating in one process, minimum
of N; the networks have Stable Diffusion's published shapes and random weights, which changes neither time nor size.
Whether maps find the thing needs the font Noto Color Emoji, which draws the scenes that are asked for.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import alternate

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from published import SD15, SDXL

import sdkit
from sdkit.pocket.training.draw import find_hands
from sdkit.pocket.training.presets import PRESETS
from sdkit.pocket.truth.scenes import overlap, segmentation, true_masks, two_object_scenes
from sdkit.pocket.world import Scene, caption, objects

PROMPT = "a red car and a blue cat on a beach"


def shaped(kind: dict[str, Any], *, meta: bool = False) -> Any:
    """A pipeline whose UNet has a published shape; text encoder and autoencoder are small."""
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel

    from sdkit.pocket.training.tokenizer import build_tokenizer

    tokenizer = build_tokenizer(PRESETS["pocket2"])
    tokenizer.model_max_length = 77
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=768, intermediate_size=64, num_hidden_layers=1, eos_token_id=len(tokenizer) - 1
    )  # fmt: skip
    vae = AutoencoderKL(block_out_channels=(8,) * 4, down_block_types=("DownEncoderBlock2D",) * 4,
                        up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=4, latent_channels=4)  # fmt: skip
    with torch.device("meta" if meta else "cpu"):
        unet = UNet2DConditionModel(**kind)
    pipe = StableDiffusionPipeline(
        vae=vae, text_encoder=CLIPTextModel(text).eval(), tokenizer=tokenizer, unet=unet.eval(),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def joined(*, quick: bool) -> Any:
    """A Flux whose transformer has the published width of a head and few layers; all else is small."""
    from diffusers import FluxTransformer2DModel
    from families import WIDTH, flux

    pipe = flux()
    torch.manual_seed(0)
    pipe.register_modules(
        transformer=FluxTransformer2DModel(
            in_channels=64, num_layers=1 if quick else 4, num_single_layers=1 if quick else 8, attention_head_dim=128,
            num_attention_heads=2 if quick else 8, joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH, guidance_embeds=True,
        ).eval()
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


# -- peers -----------------------------------------------------------------------------------------------------------


def peers(folder: Path | None) -> dict[str, Callable[[Any], AbstractContextManager[Any]]]:
    """Contexts of the other libraries, those that are installed."""
    found: dict[str, Callable[[Any], AbstractContextManager[Any]]] = {}
    if folder is not None:
        sys.path.append(str(folder))
    try:
        from attention_map_diffusers import AttentionCapture

        found["attention-map-diffusers 1.0.0, last step"] = AttentionCapture
        found["attention-map-diffusers 1.0.0, all steps"] = lambda pipe: AttentionCapture(
            pipe, timesteps="all", mode="exact"
        )
    except ImportError:
        pass
    try:
        from unittest.mock import MagicMock

        for name in (
            "spacy",
            "spacy.tokens",
        ):  # daam parses sentences with it, which is not what is measured
            sys.modules.setdefault(name, MagicMock())
        from daam import trace

        found["daam 0.2.0"] = trace
    except ImportError:
        pass
    return found


def peer_bytes(kept: Any) -> int:
    """Bytes of all tensors reachable from what a peer keeps."""
    seen: set[int] = set()
    total, stack = 0, [getattr(kept, "collector", None) or getattr(kept, "all_heat_maps", kept)]
    while stack:
        item = stack.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            total += item.nbytes
        elif isinstance(item, dict):
            stack += list(item.values())
        elif isinstance(item, (list, tuple, set)):
            stack += list(item)
        elif hasattr(item, "__dict__") and not isinstance(item, (torch.nn.Module, type)):
            stack += [v for v in vars(item).values() if not callable(v)]
    return total


# -- rows ------------------------------------------------------------------------------------------------------------


def time_rows(
    title: str, pipe: Any, options: dict[str, Any], rounds: int, others: dict[str, Any]
) -> list[tuple[str, str]]:
    """CPU time with capture ÷ without; the peers run `pipe(...)` themselves, as they are made for."""

    def run() -> None:
        pipe(
            PROMPT, num_inference_steps=options["steps"], width=options["size"], height=options["size"],
            generator=torch.Generator().manual_seed(0), output_type="latent",
        )  # fmt: skip

    ways: dict[str, Any] = {"plain": nullcontext, "sdkit": lambda: sdkit.capture_attention(pipe)}
    ways |= {name: (lambda make=make: make(pipe)) for name, make in others.items()}
    run()
    usable, rows = {}, []
    for name, way in ways.items():

        def inside(way: Any = way) -> None:
            with way():
                run()

        try:
            inside()
            usable[name] = inside
        except Exception as error:  # noqa: BLE001 - a peer that cannot do this work is told in the table
            rows.append((f"{title}: {name}", f"fails: {type(error).__name__}"))
    seconds = alternate(usable, rounds)
    rows += [
        (f"{title}: {n} ÷ without", f"{s / seconds['plain']:.3f}")
        for n, s in seconds.items()
        if n != "plain"
    ]
    return rows


def joint_memory_rows(pipe: Any, size: int, others: dict[str, Any]) -> list[tuple[str, str]]:
    """Bytes kept of a transformer that reads words and patches as one sequence."""

    def run() -> None:
        pipe(PROMPT, num_inference_steps=1, width=size, height=size, output_type="latent")

    rows, title = [], f"kept, Flux shape at {size}², 1 step"
    with sdkit.capture_attention(pipe) as capture:
        run()
    rows.append((f"{title}: sdkit", f"{capture.bytes / 1e6:.2f} MB"))
    for name, make in others.items():
        try:
            with make(pipe) as kept:
                run()
            rows.append((f"{title}: {name}", f"{peer_bytes(kept) / 1e6:.1f} MB"))
        except Exception as error:  # noqa: BLE001 - a peer that cannot do this work is told in the table
            rows.append((f"{title}: {name}", f"fails: {type(error).__name__}"))
    return rows


def memory_rows(pipe: Any, size: int, others: dict[str, Any], xl: Any) -> list[tuple[str, str]]:
    """Bytes kept."""

    def run() -> None:
        pipe(PROMPT, num_inference_steps=1, width=size, height=size, output_type="latent")

    rows = []
    with sdkit.capture_attention(pipe) as capture:
        run()
    told = capture.cost(size, size, 1, tokens=capture.records[-1].used)
    rows.append(
        (
            f"kept, time-mean, SD 1.5 shape at {size}², this prompt: sdkit (told before: {told / 1e6:.2f} MB)",
            f"{capture.bytes / 1e6:.2f} MB",
        )
    )
    rows.append(
        (
            "kept, the same for a prompt of all 77 tokens, 1 or 50 steps: sdkit (accounted)",
            f"{capture.cost(size, size, 50) / 1e6:.2f} MB",
        )
    )
    for name, make in others.items():
        try:
            with make(pipe) as kept:
                run()
            rows.append(
                (
                    f"kept, SD 1.5 shape at {size}², 1 step: {name}",
                    f"{peer_bytes(kept) / 1e6:.1f} MB",
                )
            )
        except Exception as error:  # noqa: BLE001 - see above
            rows.append(
                (f"kept, SD 1.5 shape at {size}²: {name}", f"fails: {type(error).__name__}")
            )
    everything = sdkit.capture_attention(xl, steps=True)
    rows.append(
        (
            "kept, every word × step × layer group, 50 steps, SDXL shape at 1024², 77 tokens (accounted)",
            f"{everything.cost(1024, 1024, 50) / 2**20:.1f} MiB",
        )
    )
    point = sdkit.capture_attention(pipe, self_attention=[(0.5, 0.5)])
    rows.append(
        (
            "self-attention, one query pixel, SD 1.5 shape at 512² (accounted)",
            f"{(point.cost(512, 512, 1) - sdkit.capture_attention(pipe).cost(512, 512, 1)) / 1e6:.3f} MB",
        )
    )
    return rows


def exactness(pipe: Any) -> float:
    """Largest difference to softmax(QKᵀ/√d) in double precision, over every layer and step of a Pocket picture."""
    import torch.nn.functional as F

    explicit: list[torch.Tensor] = []
    kernel, steps, worst = F.scaled_dot_product_attention, [], 0.0
    length = pipe.tokenizer.model_max_length

    def slow(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        if key.shape[-2] == length and query.shape[-2] != length:
            scores = (
                query[-1].double() @ key[-1].double().transpose(-1, -2) / query.shape[-1] ** 0.5
            )
            explicit.append(scores.softmax(-1).mean(0))
        return kernel(query, key, value, *args, **kwargs)

    with sdkit.capture_attention(pipe) as capture:

        def snapshot(*_: Any) -> None:
            steps.append([m[0].clone() for m in capture.records[-1].means.values()])

        F.scaled_dot_product_attention = slow
        try:
            sdkit.generate(pipe, PROMPT, progress=False, on_step=snapshot)
        finally:
            F.scaled_dot_product_attention = kernel
    layers = len(steps[0])
    previous = [torch.zeros_like(m) for m in steps[0]]
    for number, sums in enumerate(steps):
        for at, (now, before) in enumerate(zip(sums, previous, strict=True)):
            truth = explicit[number * layers + at][:, : now.shape[1]]
            worst = max(worst, float((now.double() - before.double() - truth).abs().max()))
        previous = sums
    return worst


# -- does the map find the thing? ------------------------------------------------------------------------------------


def finding(pipe: Any, scenes: list[Scene]) -> dict[str, tuple[float, dict[float, float]]]:
    """For each choice of layers, steps and heads: share of peaks inside the right object, and mean IoU by threshold."""
    import random

    rng = random.Random(5)
    choices: dict[str, Callable[[Any, str], np.ndarray]] = {
        "decoder 16×16 (default)": lambda m, w: m[w],
        "whole decoder": lambda m, w: m.at(layer="up/1")[w] + m.at(layer="up/2")[w],
        "decoder 8×8": lambda m, w: m.at(layer="up/2")[w],
        "encoder 8×8": lambda m, w: m.at(layer="down/2")[w],
        "middle 4×4": lambda m, w: m.at(layer="mid")[w],
        "default, first 5 steps": lambda m, w: np.mean([m.at(step=n)[w] for n in range(5)], 0),
        "default, last 5 steps": lambda m, w: np.mean([m.at(step=-n)[w] for n in range(1, 6)], 0),
    }
    heads = pipe.unet.up_blocks[-1].attentions[0].transformer_blocks[0].attn2.heads
    choices |= {f"default, head {n}": lambda m, w, n=n: m.at(head=n)[w] for n in range(heads)}
    thresholds = (0.2, 0.3, 0.4, 0.5, 0.6)
    hits: dict[str, list[bool]] = {name: [] for name in choices}
    overlaps: dict[str, dict[float, list[float]]] = {
        name: {t: [] for t in thresholds} for name in choices
    }
    for start in range(0, len(scenes), 20):
        part = scenes[start : start + 20]
        texts = [caption(s, rng, name_home=True) for s in part]
        with sdkit.capture_attention(pipe, steps=True, heads=True) as capture:
            made = sdkit.generate(pipe, texts, seed=start, progress=False, batch_size=10)
        for picture, maps, scene in zip(made, capture.all_maps, part, strict=True):
            masks = true_masks(np.asarray(picture.image), scene)
            for item, mask in zip(scene.items, masks, strict=True):
                for name, choose in choices.items():
                    heat = choose(maps, item.kind.name)
                    hits[name].append(bool(mask.flat[heat.argmax()]))
                    for t in thresholds:
                        overlaps[name][t].append(overlap(heat > t * heat.max(), mask))
    return {
        name: (
            float(np.mean(hits[name])),
            {t: float(np.mean(v)) for t, v in overlaps[name].items()},
        )
        for name in choices
    }


# -- words that are not in the prompt ----------------------------------------------------------------------------------


def concept_maps(
    outputs: list[torch.Tensor], layers: list[Any], encodings: list[torch.Tensor]
) -> dict[str, np.ndarray]:
    """Other ways to look for concepts, `(concepts, 64, 64)` each.

    `outputs` are each decoder layer's queries and what its patches took, `(steps, patches, 2 D)`. A softmax over the
    concepts is what ConceptAttention (arXiv:2502.04320) does, which compares outputs, and keys as its baseline.
    """
    from sdkit.attention.parts import stretched

    found: dict[str, list[np.ndarray]] = {}
    for seen, layer in zip(outputs, layers, strict=True):
        queries, taken = seen.float().chunk(2, -1)
        keys = torch.stack([layer.to_k(e).mean(0) for e in encodings])
        values = torch.stack([layer.to_v(e).mean(0) for e in encodings])
        split = (layer.heads, -1)
        scores = torch.einsum(
            "sphd,chd->sphc", queries.unflatten(-1, split), keys.unflatten(-1, split)
        )
        ways = {
            "softmax over the concepts' outputs": (taken @ values.T).softmax(-1).mean(0),
            "softmax over the concepts' keys": (scores * layer.scale).softmax(-1).mean((0, 2)),
        }
        for way, heat in ways.items():
            side = int(len(heat) ** 0.5)  # Pocket's pictures are square
            planes = heat.T.reshape(-1, side, side).numpy()
            found.setdefault(way, []).append(np.stack([stretched(p, (64, 64)) for p in planes]))
    return {way: np.mean(parts, 0) for way, parts in found.items()}


def concept_cost(pipe: Any, names: list[str], rounds: int) -> str:
    """CPU time with concepts ÷ without any capture."""

    def run(**options: Any) -> None:
        sdkit.generate(pipe, PROMPT, seed=0, progress=False, **options)

    run(attention={"concepts": names})
    ways = {"plain": run, "concepts": lambda: run(attention={"concepts": names})}
    seconds = alternate(ways, rounds)
    return f"{seconds['concepts'] / seconds['plain']:.3f}"


@contextmanager
def watched_decoder(pipe: Any, count: int) -> Iterator[tuple[list[Any], list[list[torch.Tensor]]]]:
    """The decoder's layers, and what they queried and took at each step, `(count, patches, 2 D)`."""
    layers = [
        m for n, m in pipe.unet.named_modules() if n.startswith("up_blocks") and n.endswith("attn2")
    ]
    seen: list[list[torch.Tensor]] = [[] for _ in layers]
    handles = []
    for layer, kept in zip(layers, seen, strict=True):
        query: dict[str, torch.Tensor] = {}

        def keep(_m: Any, _a: Any, out: torch.Tensor, query: dict[str, Any] = query) -> None:
            query["q"] = out[-count:]

        def join(_m: Any, args: Any, query: Any = query, kept: Any = kept) -> None:
            kept.append(torch.cat([query["q"], args[0][-count:]], -1).half())

        handles.append(layer.to_q.register_forward_hook(keep))
        handles.append(layer.to_out[0].register_forward_pre_hook(join))
    try:
        yield layers, seen
    finally:
        for handle in handles:
            handle.remove()


def concept_finding(pipe: Any, scenes: list[Scene]) -> dict[str, tuple[float, float, float]]:
    """For each way: peaks inside the right object, mean IoU at 0.5, and how often it rises above three absent objects."""
    import random

    from sdkit.pipelines.embeddings import encodings
    from sdkit.pipelines.tokens import read_prompt

    kinds = [k.name for k in objects(PRESETS["pocket2"].objects)]
    rng, chance = random.Random(5), random.Random(6)
    notes: dict[str, list[tuple[bool, float, bool]]] = {}
    for start in range(0, len(scenes), 10):
        part = scenes[start : start + 10]
        texts = [caption(s, rng, name_home=True) for s in part]
        with (
            watched_decoder(pipe, len(part)) as (layers, seen),
            sdkit.capture_attention(pipe, concepts=kinds) as capture,
        ):
            made = sdkit.generate(pipe, texts, seed=start, progress=False, batch_size=10)
        for n, (picture, maps, scene) in enumerate(zip(made, capture.all_maps, part, strict=True)):
            present = [item.kind.name for item in scene.items]
            names = present + chance.sample([k for k in kinds if k not in present], 3)
            made_of = encodings(pipe, names)
            rows = [
                made_of[w, False]["prompt_embeds"][0, read_prompt(pipe.tokenizer, w).positions(w)]
                for w in names
            ]
            ways = concept_maps([torch.stack(s)[:, n] for s in seen], layers, rows)
            ways["angle of outputs, decoder (sdkit)"] = np.stack([maps.concepts[w] for w in names])
            middling = maps.concepts.at(layer="up/1")
            ways["angle of outputs, decoder 16×16"] = np.stack([middling[w] for w in names])
            masks = true_masks(np.asarray(picture.image), scene)
            for way, heats in ways.items():
                for mask, heat in zip(masks, heats, strict=False):
                    found = (
                        bool(mask.flat[heat.argmax()]),
                        overlap(heat > 0.5 * heat.max(), mask),
                        bool(heat.max() > heats[2:].max()),
                    )
                    notes.setdefault(way, []).append(found)
    return {way: tuple(np.mean(found, 0).tolist()) for way, found in notes.items()}


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small sizes: shows that everything runs, means nothing",
    )
    parser.add_argument("--peers", type=Path, default=None)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--only", choices=("cost", "finding", "concepts"), default=None)
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    if options.only != "cost":
        find_hands(PRESETS["pocket2"].hands)
    rows: list[tuple[str, str]] = []
    pocket = sdkit.load()
    pocket.set_progress_bar_config(disable=True)
    if options.only in (None, "cost"):
        others = peers(options.peers)
        small = {**SD15, "block_out_channels": (32, 64, 64, 64), "cross_attention_dim": 768}
        big = shaped(small if options.quick else SD15)
        size, rounds = (128, 1) if options.quick else (256, 3)
        rows += time_rows(
            f"SD 1.5 shape, {size} px, 2 guided steps",
            big,
            {"steps": 2, "size": size},
            rounds,
            others,
        )
        rows += time_rows(
            "Pocket, 20 steps", pocket, {"steps": 20, "size": 64}, 1 if options.quick else 7, {}
        )
        joint = joined(quick=options.quick)
        rows += time_rows(
            f"Flux shape, {size} px, 2 steps", joint, {"steps": 2, "size": size}, rounds, others
        )
        rows += joint_memory_rows(joint, size, others)
        kinds = [k.name for k in objects(PRESETS["pocket2"].objects)]
        rows.append(
            (
                "Pocket, 20 steps, and 5 concepts beside: sdkit ÷ without",
                concept_cost(pocket, kinds[:5], 1 if options.quick else 7),
            )
        )
        rows += memory_rows(big, 128 if options.quick else 512, others, shaped(SDXL, meta=True))
        rows.append(
            (
                "largest difference to softmax(QKᵀ/√d), every layer and step, Pocket",
                f"{exactness(pocket):.1e}",
            )
        )
    scenes = (
        two_object_scenes(PRESETS["pocket2"], 20 if options.quick else options.prompts)
        if options.only != "cost"
        else []
    )
    if options.only in (None, "concepts"):
        for way, (peak, covered, above) in concept_finding(pocket, scenes).items():
            told = f"{100 * peak:.1f} %; IoU {covered:.2f} at 0.5; above three absent ones {100 * above:.1f} %"
            rows.append((f"concepts, peak inside the right object, {way}", told))
    if options.only in (None, "finding"):
        exact = float(np.mean([segmentation(s) for s in scenes]))
        rows.append(
            (
                f"IoU of the segmentation with the exact masks, {len(scenes)} scenes as drawn",
                f"{exact:.2f}",
            )
        )
        for name, (peak, ious) in finding(pocket, scenes).items():
            best = max(ious, key=ious.__getitem__)
            told = (
                f"{100 * peak:.1f} %; IoU {ious[0.3]:.2f} at 0.3, best {ious[best]:.2f} at {best}"
            )
            rows.append((f"peak inside the right object, {name}", told))
    print("| what | found |\n|---|---|")
    for name, value in rows:
        print(f"| {name} | {value} |")


if __name__ == "__main__":
    main()
