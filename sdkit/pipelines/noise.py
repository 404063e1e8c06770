"""The noise that pictures begin with, and the arc between two noises.

Noise that no seed draws (`sdkit.invert` finds such) is kept here under its fingerprint, which settings hold: so whatever
takes settings (runs, walks, variations, edits) begins with it, and settings stay one small value.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from sdkit.errors import InvalidSettings

from .families import denoiser_of, family_of
from .latents import channels_of, scale_of

if TYPE_CHECKING:
    from sdkit.settings import Settings

__all__ = ["keep_noise", "slerp", "starting_noise"]

_PARALLEL: Final = (
    1e-4  # radians: below this sin θ divides by too little, and the arc is a line anyway
)
_MOST_KEPT: Final = 256  # noises: 16 MB of SD 1.5's, 64 MB of SDXL's
_kept: OrderedDict[str, torch.Tensor] = OrderedDict()


def keep_noise(noise: torch.Tensor) -> str:
    """Keep starting noise ``(1, C, h, w)`` for this session; returns the fingerprint that `Settings.noise` takes."""
    noise = noise.detach().cpu().float().contiguous().clone()
    name = hashlib.sha256(str(tuple(noise.shape)).encode() + noise.numpy().tobytes()).hexdigest()
    _kept[name] = noise
    _kept.move_to_end(name)
    while len(_kept) > _MOST_KEPT:
        _kept.popitem(last=False)
    return name


def _recalled(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    if name not in _kept:
        raise InvalidSettings(
            f"These settings begin with noise of their own ({name[:8]}…), which is not at hand in this session; "
            "find it again with sdkit.invert(pipe, image, …), or use noise=None to begin with the seed's."
        )
    if _kept[name].shape != shape:
        raise InvalidSettings(
            f"The noise of these settings is for latents of {tuple(_kept[name].shape[1:])}, and this size and model need "
            f"{shape[1:]}; keep the picture's size, or use noise=None to begin with the seed's."
        )
    return _kept[name]


def slerp(a: torch.Tensor, b: torch.Tensor, t: float, *, by_row: bool = False) -> torch.Tensor:
    """Spherical line: ``sin((1-t)θ)/sin θ · a + sin(tθ)/sin θ · b`` with θ the angle between a and b (Shoemake 1985).

    Parameters
    ----------
    a, b
        The ends, of one shape. For ends of equal norm the norm stays, and equal steps of t are equal angles.
    t
        0 gives a, 1 gives b.
    by_row
        Take the angle for each row (last axis) instead of for the whole tensor.

    Returns
    -------
    torch.Tensor
        Same shape. Parallel ends, or ends that are zero, are joined by the straight line.
    """
    if by_row:
        dot, size = (
            (a * b).sum(-1, keepdim=True),
            a.norm(dim=-1, keepdim=True) * b.norm(dim=-1, keepdim=True),
        )
    else:
        dot, size = (a * b).sum(), a.norm() * b.norm()
    angle = torch.arccos((dot / size.clamp_min(1e-12)).clamp(-1, 1))
    parallel = (angle < _PARALLEL) | (angle > math.pi - _PARALLEL) | (size == 0)
    sine = torch.where(parallel, 1.0, torch.sin(angle))
    arc = (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / sine
    return torch.where(parallel, torch.lerp(a, b, t), arc)


def starting_noise(pipe: Any, s: Settings) -> torch.Tensor:
    """Noise `(1, C, h, w)` in float32 that one picture begins with, turned towards its variation seed.

    Raises
    ------
    InvalidSettings
        If the settings name noise that is not at hand, or is for another size.
    """
    scale = scale_of(pipe)
    layout = family_of(pipe).layout
    channels = denoiser_of(pipe).config.in_channels if layout == "network" else channels_of(pipe)
    shape = (1, channels, (s.height or 0) // scale, (s.width or 0) // scale)
    patched = layout == "patches"
    if patched:
        shape = (1, shape[1] * 4, shape[2] // 2, shape[3] // 2)
    generator = torch.Generator().manual_seed(s.seed)
    if s.task != "text-to-image" and not family_of(pipe).edits:
        torch.randn(shape, generator=generator)  # the pipeline draws the source's encoding first
    noise = torch.randn(shape, generator=generator)
    if s.noise is not None:
        plain = (1, shape[1] // 4, shape[2] * 2, shape[3] * 2) if patched else shape
        noise = _recalled(s.noise, plain)
        noise = pixel_unshuffle(noise, 2) if patched else noise
    if s.variation_amount and s.variation_seed is not None:
        other = torch.randn(shape, generator=torch.Generator().manual_seed(s.variation_seed))
        noise = slerp(noise, other, s.variation_amount)
    return pixel_shuffle(noise, 2) if patched else noise
