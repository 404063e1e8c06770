"""Stage one of training: the autoencoder that turns pictures into the latents where diffusion happens.

The loss is squared error, a little absolute error (sharper edges), a small Kullback-Leibler term that keeps the
latents near unit scale, and a term that gives the channels a meaning: the first three are pulled towards the small
picture (brightness, red against blue, green against purple, of the 4×4 or 8×8 pixels under each latent), which leaves
detail to the fourth. Such latents look like pictures, coarse before fine, which is what diffusion learns fastest
(Skorokhodov et al., arXiv:2502.14831, get there by another road), and a linear map shows them. Larger pictures have the
best linear code as their encoder (`linear.py`), so that only the decoder learns, and the differences of neighbouring
pixels are compared as well, because squared error alone is content with soft edges: one by one, and by their energy in each
small part of the picture, which a decoder that blurs what it is unsure of never reaches (it had 72 % of it, and 83 % after
3,200 pictures with this term, at nearly the same squared error). Checkpoints are written every few minutes; a killed run
goes on from the last one and makes the same steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn
from tqdm import tqdm

from .checkpoint import load_checkpoint, save_checkpoint
from .data import pictures, scene
from .linear import NOISE, as_convolution, start_linear
from .muon import optimizers, prepare
from .presets import Preset, build_autoencoder

__all__ = [
    "begin_autoencoder",
    "encoder_of",
    "latest_autoencoder",
    "psnr",
    "thumbnail",
    "to_pixels",
    "train_autoencoder",
]

_KL = 3e-4  # per latent value; larger smooths the latents and blurs the pictures
_THUMBNAIL = 0.05  # of the squared distance between three channels and the small picture
# brightness, red - blue, green - (red + blue)/2: orthogonal, scaled to about unit deviation over the world's scenes
_OPPONENT = ((0.69, 0.69, 0.69), (1.13, 0.0, -1.13), (-0.82, 1.63, -0.82))
_SMOOTH = 1e-4  # keeps the root's slope finite where nothing changes
_POOL = 4_096  # pictures held in memory and renewed once they were all seen twice


def to_pixels(images: np.ndarray | Tensor) -> Tensor:
    """Bytes `(B, H, W, 3)` to floats `(B, 3, H, W)` in -1..1, which is what `AutoencoderKL` reads."""
    return torch.as_tensor(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def thumbnail(images: Tensor) -> Tensor:
    """What the first three latent channels stand for: `(B, 3, H, W)` in -1..1 to opponent colours `(B, 3, 16, 16)`."""
    small = F.adaptive_avg_pool2d(images, 16)
    return torch.einsum("oc,bchw->bohw", torch.tensor(_OPPONENT, device=images.device), small)


def edge_loss(y: Tensor, x: Tensor) -> Tensor:
    """Mean absolute error of the differences between neighbours, at full and at half size."""
    error, total = y - x, x.new_zeros(())
    for scale in (1, 2):
        e = F.avg_pool2d(error, scale) if scale > 1 else error
        total = (
            total
            + (e[..., 1:] - e[..., :-1]).abs().mean()
            + (e[..., 1:, :] - e[..., :-1, :]).abs().mean()
        )
    return total / 4


def texture_loss(y: Tensor, x: Tensor) -> Tensor:
    """Mean absolute error of the gradient magnitude of overlapping parts of 8×8 pixels: the root of its mean square in each."""
    total = x.new_zeros(())
    for axis in (-1, -2):
        a, b = (image.diff(dim=axis).square().sum(1, keepdim=True) for image in (y, x))
        a, b = ((F.avg_pool2d(energy, 8, 4) + _SMOOTH).sqrt() for energy in (a, b))
        total = total + (a - b).abs().mean()
    return total


def _likeness(y: Tensor, x: Tensor, preset: Preset) -> Tensor:
    """How far pictures `y` are from `x`, both `(B, 3, H, W)` in -1..1, by the weights of a preset."""
    loss = F.mse_loss(y, x) + 0.1 * F.l1_loss(y, x)
    if preset.edges:
        loss = loss + preset.edges * edge_loss(y, x)
    return loss + preset.texture * texture_loss(y, x) if preset.texture else loss


def autoencoder_loss(
    model: AutoencoderKL, x: Tensor, preset: Preset, *, generator: torch.Generator | None = None
) -> Tensor:
    """The loss of one batch `(B, 3, H, W)` in -1..1 where encoder and decoder learn together."""
    posterior = model.encode(x).latent_dist
    y = model.decode(posterior.sample(generator)).sample.float()
    kl = posterior.kl().float().mean() / posterior.mean[0].numel()
    meaning = F.mse_loss(posterior.mean[:, :3].float(), thumbnail(x))
    return _likeness(y, x, preset) + _KL * kl + _THUMBNAIL * meaning


def decoder_loss(
    model: AutoencoderKL,
    x: Tensor,
    encoder: Callable[[Tensor], Tensor],
    preset: Preset,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The loss of one batch `(B, 3, H, W)` in -1..1 where the encoder is given, as the convolution that it amounts to.

    The latents are drawn with the little noise that the encoder's variance says.
    """
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        latents = encoder(x)
        noise = torch.randn(latents.shape, generator=generator, device=x.device)
        latents = latents + NOISE * noise
    return _likeness(model.decode(latents).sample.float(), x, preset)


@torch.no_grad()
def psnr(model: AutoencoderKL, images: Tensor) -> float:
    """Mean peak signal-to-noise ratio in dB of coding and decoding `images` `(B, 3, H, W)` in -1..1."""
    total = []
    for x in images.split(32):
        y = model.decode(model.encode(x).latent_dist.mode()).sample.clamp(-1, 1)
        total.append(-10 * ((y - x) / 2).square().mean((1, 2, 3)).log10())
    return float(torch.cat(total).mean())


@torch.no_grad()
def _scale(model: AutoencoderKL, images: Tensor) -> None:
    """Write down what brings latents to unit deviation."""
    latents = torch.cat([model.encode(x).latent_dist.mode() for x in images.split(32)])
    model.register_to_config(scaling_factor=round(1 / float(latents.std()), 4))


def begin_autoencoder(preset: Preset, seed: int = 0) -> AutoencoderKL:
    """The autoencoder of a preset before training; where its encoder is a linear code, that is ready for use."""
    torch.manual_seed(seed)
    model = build_autoencoder(preset)
    if preset.linear:
        scenes = [
            scene(preset, 10_000_000 + n) for n in range(min(1024, preset.autoencoder_samples))
        ]
        images = to_pixels(pictures(scenes, preset.side))
        start_linear(model, images, torch.tensor(_OPPONENT))
        _scale(model, images[:256])
    return model


def encoder_of(preset: Preset, model: AutoencoderKL) -> Callable[[Tensor], Tensor]:
    """What makes mean latents of pictures `(B, 3, H, W)` in -1..1: a linear encoder as the convolution it amounts to."""
    if not preset.linear:
        return lambda x: model.encode(x).latent_dist.mode()

    @cache  # a run that goes on may find everything coded already
    def convolution() -> nn.Conv2d:
        scenes = [scene(preset, 10_000_000 + n) for n in range(256)]
        return as_convolution(model, to_pixels(pictures(scenes, preset.side)).to(model.device))

    def code(x: Tensor) -> Tensor:
        latents: Tensor = convolution()(x)
        return latents

    return code


def latest_autoencoder(
    preset: Preset, folder: Path, seed: int = 0, start: AutoencoderKL | None = None
) -> AutoencoderKL:
    """The autoencoder as far as a run's folder has trained it, from its beginning or from `start`, in evaluation mode."""
    model = start or begin_autoencoder(preset, seed)
    load_checkpoint(folder / "autoencoder.pt", {"model": model})
    return model.eval().requires_grad_(False)


def train_autoencoder(
    preset: Preset,
    folder: Path,
    *,
    device: str = "cpu",
    seed: int = 0,
    total: int | None = None,
    start: AutoencoderKL | None = None,
) -> AutoencoderKL:
    """Train (or finish training) the autoencoder of a preset; returns it in evaluation mode on `device`.

    A new run begins from `start`, if it is given, whose encoder stays what it is where the preset's is linear.
    """
    model = (start or begin_autoencoder(preset, seed)).to(device)
    path = folder / "autoencoder.pt"
    parts = (model.decoder, model.post_quant_conv) if preset.linear else (model,)
    model.requires_grad_(False)
    for part in parts:
        part.requires_grad_(True)
    opts = optimizers(*parts, lr=preset.autoencoder_lr)
    seen = load_checkpoint(path, {"model": model}, opts)
    batch, total = preset.autoencoder_batch, total or preset.autoencoder_samples
    pool, start = np.zeros((0, 1, 1, 3), np.uint8), -1
    saved = time.monotonic()
    fresh = to_pixels(
        pictures([scene(preset, n, training=False) for n in range(96)], preset.side)
    ).to(device)
    encoder = encoder_of(preset, model)
    bar = tqdm(total=total, initial=seen, desc="autoencoder", unit="img", mininterval=5)
    while seen < total:
        size = min(_POOL, total)
        if seen // (2 * size) != start:
            start = seen // (2 * size)
            numbers = range(10_000_000 + start * size, 10_000_000 + (start + 1) * size)
            pool = pictures([scene(preset, n) for n in numbers], preset.side)
        rng = np.random.default_rng([seed, seen])
        generator = torch.Generator(device).manual_seed(int(rng.integers(1 << 48)))
        x = to_pixels(pool[rng.integers(0, len(pool), batch)]).to(device)
        rate = (
            preset.autoencoder_lr
            * min(1, (seen / batch + 1) / 30)
            * max(0.02, 0.5 + 0.5 * math.cos(math.pi * seen / total))
        )
        prepare(opts, rate)
        with torch.autocast(device, torch.bfloat16, enabled=preset.bfloat16 or device == "cuda"):
            if preset.linear:
                loss = decoder_loss(model, x, encoder, preset, generator=generator)
            else:
                loss = autoencoder_loss(model, x, preset, generator=generator)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for opt in opts:
            opt.step()
        seen += batch
        bar.update(batch)
        if time.monotonic() - saved > 120 or seen >= total:
            saved = time.monotonic()
            save_checkpoint(path, {"model": model}, opts, seen)
            bar.write(
                f"autoencoder {seen} pictures, loss {loss.item():.5f}, {psnr(model, fresh):.2f} dB on fresh scenes"
            )
    bar.close()
    if not preset.linear:
        _scale(model, fresh)
    return model.eval().requires_grad_(False)
