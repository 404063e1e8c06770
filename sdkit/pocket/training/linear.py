"""Let the encoder of an autoencoder compute the best linear code of its pictures, which training takes hours to find.

Principal components of blocks of pixels say which few numbers keep most of a picture; the first three are fixed to the
small picture. The encoder of `AutoencoderKL` can compute them exactly: stride-two convolutions merge 2×2 blocks, its
residual branches can be zero, and at the end ``silu(x) - silu(-x) = x`` undoes the activation, while a pair of
large opposite constants in each group makes the normalisation a division by a constant. Nothing of it needs training,
so latents exist before the first step, and what learns to make them need not wait for what learns to show them. The
decoder has no such form (it enlarges before it convolves) and is trained.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

__all__ = ["NOISE", "as_convolution", "components", "start_linear"]

_CONSTANT = 32.0  # beside data of unit size: the divisor then hardly varies from picture to picture
NOISE = math.exp(
    -2.5
)  # deviation of the samples that the decoder learns from: diffusion is not exact
_DETAIL = 0.5  # root mean square of the channels after the first three: diffusion should spend less on them


def _merge(x: Tensor) -> Tensor:
    """Blocks of 2×2 `(B, C, 2h, 2w)` as channels `(B, 4C, h, w)`, ordered as rows, columns, channels."""
    parts = [x[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    return torch.cat(parts, 1)


def components(blocks: Tensor, count: int, fixed: Tensor | None = None) -> Tensor:
    """Rows `(count, D)` that code vectors `(N, D)`: those `fixed` first, then principal components of what they leave.

    The rows after the fixed ones have unit length and are orthogonal to them and to each other.
    """
    rest = blocks.double()
    taken = torch.zeros(0, blocks.shape[1]) if fixed is None else fixed
    if len(taken):
        basis = torch.linalg.qr(taken.double().T).Q
        rest = rest - rest @ basis @ basis.T
    values, vectors = torch.linalg.eigh(rest.T @ rest)
    order = values.argsort(descending=True)[: count - len(taken)]
    return torch.cat([taken, vectors[:, order].T.float()])


def _bias(conv: nn.Conv2d) -> Tensor:
    if conv.bias is None:
        raise ValueError(
            "A convolution without a bias was found; the encoders of AutoencoderKL have one everywhere."
        )
    return conv.bias.data


def _strided(conv: nn.Conv2d, rows: Tensor) -> None:
    """Let a 3×3 convolution of stride two (padded right and below) apply `rows` `(K, 4C)` to merged blocks."""
    outputs, inputs = rows.shape[0], rows.shape[1] // 4
    conv.weight.data[:outputs] = 0
    for n, (y, x) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        conv.weight.data[:outputs, :inputs, y, x] = rows[:, n * inputs : (n + 1) * inputs]
    _bias(conv)[:outputs] = 0


def _through(conv: nn.Conv2d, channels: int) -> None:
    """Let a convolution hand its first channels on unchanged."""
    middle = conv.kernel_size[0] // 2
    conv.weight.data[:channels] = 0
    conv.weight.data[range(channels), range(channels), middle, middle] = 1
    _bias(conv)[:channels] = 0


@torch.no_grad()
def _calibrate(model: AutoencoderKL, images: Tensor) -> None:
    """Let the encoder's last normalisation give back what it divides by and takes away, on average."""
    norm, seen = model.encoder.conv_norm_out, []
    hook = norm.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    norm.weight[:], norm.bias[:] = 1, 0
    for part in images.split(16):
        model.encoder(part)
    hook.remove()
    groups = (
        torch.cat(seen).unflatten(1, (norm.num_groups, -1)).flatten(2)
    )  # (B, groups, channels·h·w)
    size = norm.num_channels // norm.num_groups
    norm.weight[:] = groups.std(2).mean(0).repeat_interleave(size)
    norm.bias[:] = groups.mean((0, 2)).repeat_interleave(size)


@torch.no_grad()
def start_linear(model: AutoencoderKL, images: Tensor, opponent: Tensor) -> None:
    """Set the encoder of a model with four levels to the linear code of `images` `(B, 3, H, W)` in -1..1, in place.

    `opponent` `(3, 3)` gives the first three latents from the mean colour of a block of 8×8 pixels.
    """
    encoder, channels, norm = (
        model.encoder,
        model.config.latent_channels,
        model.encoder.conv_norm_out,
    )
    widths, size = model.config.block_out_channels, norm.num_channels // norm.num_groups
    if (
        len(widths) != 4
        or widths[0] < 12
        or widths[2] != widths[3]
        or norm.num_groups * ((size - 2) // 2) < channels
    ):
        raise ValueError(
            f"A linear start was asked for with widths {tuple(widths)}, {norm.num_groups} groups and {channels} latent "
            f"channels: it needs four levels, 12 channels or more at the first, as many at the third as at the last, "
            f"and there, in all groups together, two for each latent and two more for each group."
        )
    for name, weight in encoder.named_parameters():
        if ".conv2." in name:  # the residual branches are left out
            weight.zero_()

    def blocks(x: Tensor) -> Tensor:
        return x.movedim(1, -1).reshape(-1, x.shape[1])

    _through(encoder.conv_in, 3)
    x = _merge(images)  # 2×2 pixels: 12 numbers, all kept
    mean = opponent.repeat(1, 4) / 4
    _strided(encoder.down_blocks[0].downsamplers[0].conv, torch.eye(12))
    _through(encoder.down_blocks[1].resnets[0].conv_shortcut, 12)
    x = _merge(x)  # 4×4 pixels: 48 numbers, of which the strongest are kept, and the mean exactly
    keep = min(widths[1], 48)
    mean = mean.repeat(1, 4) / 4
    basis = torch.linalg.qr(
        mean.T
    ).Q.T  # orthonormal throughout: only then is the strongest the most of the picture
    rows = components(blocks(x), keep, basis)
    _strided(encoder.down_blocks[1].downsamplers[0].conv, rows)
    _through(encoder.down_blocks[2].resnets[0].conv_shortcut, keep)
    x = _merge(torch.einsum("kc,bchw->bkhw", rows, x))
    fixed = torch.zeros(3, 4 * keep)
    for part in range(4):
        fixed[:, part * keep : part * keep + 3] = mean @ basis.T / 4
    rows = components(blocks(x), channels, fixed)
    deviation = (blocks(x) @ rows[3:].T).std(0)
    share = deviation.clamp_min(
        1e-6
    ).sqrt()  # between alike and as in the picture: coarse before fine
    share *= _DETAIL / share.square().mean().sqrt()
    rows[3:] *= (share / deviation.clamp_min(1e-6))[:, None]

    # latents in pairs of opposite sign, spread over the groups of the last normalisation, and a pair of constants in each
    each = -(-channels // norm.num_groups)
    last = encoder.down_blocks[2].downsamplers[0].conv
    out = model.encoder.conv_out
    out.weight[:] = 0
    out.bias[:channels] = 0
    out.bias[channels:] = 2 * math.log(NOISE)
    spread = torch.zeros(norm.num_channels, 4 * keep)
    for latent in range(channels):
        at = latent // each * size + latent % each * 2
        spread[at], spread[at + 1] = rows[latent], -rows[latent]
        out.weight[latent, at, 1, 1], out.weight[latent, at + 1, 1, 1] = 1, -1
    _strided(last, spread)
    for group in range(norm.num_groups):
        at = group * size + 2 * each
        last.bias[at], last.bias[at + 1] = _CONSTANT, -_CONSTANT
    model.quant_conv.weight[:] = torch.eye(2 * channels)[..., None, None]
    model.quant_conv.bias[:] = 0
    _calibrate(model, images[:64])


@torch.no_grad()
def as_convolution(model: AutoencoderKL, images: Tensor) -> nn.Conv2d:
    """The linear encoder of `model` as the one convolution that it amounts to, for training: several hundred times faster.

    Fitted to what the encoder makes of `images` `(B, 3, H, W)` in -1..1, a hundred or more; the mean latents of fresh
    pictures agree to a thousandth of their deviation, which is the little by which the encoder's normalisation moves.
    """
    side = 2 ** (len(model.config.block_out_channels) - 1)
    latents = torch.cat([model.encode(part).latent_dist.mode() for part in images.split(32)])
    blocks = F.pixel_unshuffle(images, side).movedim(1, -1).flatten(0, -2).double()
    blocks = torch.cat([blocks, torch.ones_like(blocks[:, :1])], 1)
    gram = blocks.T @ blocks + 1e-6 * len(blocks) * torch.eye(blocks.shape[1]).to(blocks)
    rows = torch.linalg.solve(gram, blocks.T @ latents.movedim(1, -1).flatten(0, -2).double()).T
    conv = nn.Conv2d(3, len(rows), side, stride=side).to(images.device).requires_grad_(False)
    conv.weight[:] = rows[:, :-1].unflatten(1, (3, side, side))
    _bias(conv)[:] = rows[:, -1]
    return conv
