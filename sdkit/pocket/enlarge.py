"""Give Pocket larger pictures without teaching it anew: `python -m sdkit.pocket.enlarge`.

Its latents stay what they are, and with them text encoder, UNet and Turbo. A new decoder learns to paint them at twice
the size, from scenes drawn at both sizes. Half of the latents are not those of a picture but what the UNet makes of
noisy ones, so that the decoder learns to sharpen what diffusion leaves soft. A new encoder learns to find the same latents in
the larger picture. Everything is seeded and resumes after a kill; the two parts can learn at once.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, StableDiffusionPipeline
from torch import Tensor
from tqdm import tqdm

from . import path as shipped
from .train import export
from .training.autoencoder import likeness, to_pixels
from .training.checkpoint import load_checkpoint, save_checkpoint
from .training.data import pictures, scene
from .training.muon import optimizers, prepare
from .training.presets import PRESETS, Preset, build_autoencoder
from .training.wording import wording

__all__ = ["main", "train_larger"]

_POOL = 2_048  # scenes held in memory and renewed once they were all seen twice
_BATCH = 16
_EDGES = 0.3  # weight of edges in the decoder's loss
_NOISE = 0.05  # of latents' spread, so that small errors of the UNet do no harm
_TIMES = (20, 450)  # noise that the UNet is given to mend: more, and the picture changes
_SAVE = 120  # seconds between checkpoints


class _Pairs:
    """Scenes at both sizes: moments of the small picture `(N, 2C, 16, 16)`, latents to decode, and the large picture."""

    def __init__(self, preset: Preset, pipe: StableDiffusionPipeline, seed: int) -> None:
        self._preset, self._pipe, self._seed = preset, pipe, seed
        self._start = -1

    def batch(self, seen: int, total: int) -> tuple[Tensor, Tensor, Tensor]:
        """The batch after `seen` scenes."""
        size = min(_POOL, total)
        if seen // (2 * size) != self._start:
            self._start = seen // (2 * size)
            self._moments, self._latents, self._images = self._made(self._start, size)
        rng = np.random.default_rng([self._seed, seen])
        index = torch.from_numpy(rng.integers(0, len(self._images), _BATCH))
        return self._moments[index], self._latents[index], to_pixels(self._images[index])

    @torch.no_grad()
    def _made(self, start: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
        numbers = range(20_000_000 + start * size, 20_000_000 + (start + 1) * size)
        scenes = [scene(self._preset, n) for n in numbers]
        small = to_pixels(pictures(scenes, self._preset.side))
        rng = random.Random(f"larger-{self._seed}-{start}")
        generator = torch.Generator().manual_seed(rng.getrandbits(48))
        pipe, factor = self._pipe, self._pipe.vae.config.scaling_factor
        moments, latents = [], []
        for first in range(0, size, 64):
            given = pipe.vae.encode(small[first : first + 64]).latent_dist
            x = given.mode() * factor
            words = [wording(s, rng) for s in scenes[first : first + 64]]
            ids = pipe.tokenizer(words, padding="max_length", truncation=True, return_tensors="pt")
            text = pipe.text_encoder(ids.input_ids).last_hidden_state
            t = torch.randint(*_TIMES, (len(x),), generator=generator)
            noise = torch.randn(x.shape, generator=generator)
            noisy = pipe.scheduler.add_noise(x, noise, t)
            bar = pipe.scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
            mended = bar.sqrt() * noisy - (1 - bar).sqrt() * pipe.unet(noisy, t, text).sample
            half = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
            moments.append(given.parameters)
            latents.append(torch.where(half, mended, x + _NOISE * noise) / factor)
        large = torch.from_numpy(pictures(scenes, self._preset.enlarged.side))
        return torch.cat(moments), torch.cat(latents), large


def _parts(model: AutoencoderKL) -> dict[str, tuple[torch.nn.Module, ...]]:
    return {
        "encoder": (model.encoder, model.quant_conv),
        "decoder": (model.decoder, model.post_quant_conv),
    }


def train_larger(
    part: str,
    preset: Preset,
    pipe: StableDiffusionPipeline,
    folder: Path,
    *,
    total: int | None = None,
    bfloat16: bool = False,
    seed: int = 0,
) -> AutoencoderKL:
    """Train (or finish training) the "encoder" or the "decoder" of the larger autoencoder; returns the whole."""
    torch.manual_seed(seed)
    total = total or preset.larger_samples
    model = build_autoencoder(preset.enlarged)
    trained = torch.nn.ModuleList(_parts(model)[part])
    opts = optimizers(*trained, lr=preset.autoencoder_lr)
    path = folder / f"larger-{part}.pt"
    seen, saved = load_checkpoint(path, {part: trained}, opts), time.monotonic()
    for module in (pipe.vae, pipe.unet, pipe.text_encoder):
        module.requires_grad_(False)
    pairs, test = _Pairs(preset, pipe, seed), _fresh(preset, pipe)
    bar = tqdm(total=total, initial=seen, desc=f"larger {part}", unit="img", mininterval=10)
    while seen < total:
        moments, latents, x = pairs.batch(seen, total)
        warm = min(1, (seen / _BATCH + 1) / 50)
        rate = warm * max(0.01, 0.5 + 0.5 * math.cos(math.pi * seen / total))
        prepare(opts, preset.autoencoder_lr * rate)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            if part == "encoder":
                said = model.encode(x).latent_dist.parameters.float()
                loss = F.mse_loss(said, moments)
            else:
                loss = likeness(model.decode(latents).sample.float(), x, _EDGES)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        for opt in opts:
            opt.step()
        seen += _BATCH
        bar.update(_BATCH)
        if time.monotonic() - saved > _SAVE or seen >= total:
            saved = time.monotonic()
            save_checkpoint(path, {part: trained}, opts, seen)
            bar.write(
                f"{part}, {seen} pictures, loss {loss.item():.4f}, {_told(part, model, *test)}"
            )
    bar.close()
    return model


@torch.no_grad()
def _fresh(preset: Preset, pipe: StableDiffusionPipeline) -> tuple[Tensor, Tensor]:
    """Latents `(96, C, 16, 16)` and large pictures of scenes that training does not hold."""
    scenes = [scene(preset, n, training=False) for n in range(96)]
    latents = pipe.vae.encode(to_pixels(pictures(scenes, preset.side))).latent_dist.mode()
    return latents, to_pixels(pictures(scenes, preset.enlarged.side))


@torch.no_grad()
def _told(part: str, model: AutoencoderKL, latents: Tensor, x: Tensor) -> str:
    """How good a part is by now, in words."""
    if part == "encoder":
        error = (model.encode(x).latent_dist.mode() - latents).square().mean() / latents.var()
        return f"{100 * float(error):.2f} % of the latents' variance is missed"
    y = torch.cat([model.decode(z).sample.clamp(-1, 1) for z in latents.split(32)])
    return f"{float((-10 * ((y - x) / 2).square().mean((1, 2, 3)).log10()).mean()):.2f} dB"


def main(argv: list[str] | None = None) -> None:
    """Command line: train what is not finished yet, then write the weights with the new autoencoder."""
    parser = argparse.ArgumentParser(prog="python -m sdkit.pocket.enlarge", description=__doc__)
    parser.add_argument(
        "--preset", choices=[n for n, p in PRESETS.items() if p.larger], default="cpu"
    )
    parser.add_argument(
        "--weights",
        type=Path,
        default=Path(shipped()),
        help="a diffusers folder of that preset's small pictures",
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("pocket-run"), help="checkpoints and the result"
    )
    parser.add_argument(
        "--part",
        choices=("all", "encoder", "decoder"),
        default="all",
        help="train one part only; a last call without this option exports both",
    )
    parser.add_argument(
        "--samples", type=int, help="pictures to learn from (default: the preset's)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--bfloat16",
        action="store_true",
        help="compute in bfloat16: twice as fast on processors with AVX-512 BF16, very slow on others",
    )
    options = parser.parse_args(argv)
    preset, folder = PRESETS[options.preset], options.folder / options.preset
    pipe = StableDiffusionPipeline.from_pretrained(options.weights, dtype=torch.float32)
    if pipe.vae.config.sample_size != preset.side:
        parser.error(
            f"{options.weights} makes pictures of {pipe.vae.config.sample_size} pixels, not of {preset.side}: give the weights that sdkit.pocket.train wrote."
        )
    run = {"total": options.samples, "seed": options.seed, "bfloat16": options.bfloat16}
    if options.part != "all":
        train_larger(options.part, preset, pipe, folder, **run)
        return
    encoder = train_larger("encoder", preset, pipe, folder, **run)
    model = train_larger("decoder", preset, pipe, folder, **run)
    for ours, theirs in zip(_parts(model)["encoder"], _parts(encoder)["encoder"], strict=True):
        ours.load_state_dict(theirs.state_dict())
    model.register_to_config(scaling_factor=pipe.vae.config.scaling_factor)
    pipe.vae = model.eval().requires_grad_(False)
    export(pipe, preset.enlarged, folder / "weights-larger")


if __name__ == "__main__":
    main()
