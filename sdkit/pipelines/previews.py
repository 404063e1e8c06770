"""From latents to something to look at: exactly, through the autoencoder, or at once, through one small matrix.

The one decision: **the fast preview is fitted, not tabulated.** A latent pixel's colour is close to a linear function of its
channels, so a few synthetic pictures sent once through the autoencoder's encoder give the matrix by least squares, for
Pocket as for any other model, within a second or so and without a list of models that would grow old.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from sdkit.errors import InvalidSettings

from .families import autoencoder_of
from .latents import channels_of, scale_of, unfolded

if TYPE_CHECKING:
    from sdkit.settings import Settings

__all__ = ["decode", "encode_picture", "preview", "rgb_of", "unpacked"]

_fitted: WeakKeyDictionary[Any, NDArray[np.float32]] = WeakKeyDictionary()
_PICTURES, _GRID = 12, 16  # 12 pictures of 16×16 latents: 3072 equations for some ten unknowns


def preview(pipe: Any, latents: Any) -> Image.Image:
    """What latents look like, at once and roughly.

    Parameters
    ----------
    pipe
        A diffusers pipeline; its autoencoder is fitted on the first call and remembered.
    latents
        ``(C, h, w)`` or ``(1, C, h, w)``, as the pipeline handles them (an array or a tensor on any device).

    Returns
    -------
    PIL.Image.Image
        Soft, because there is one colour for each latent pixel, in the size that the exact picture would have.

    Raises
    ------
    InvalidSettings
        For latents of another shape; those that are carried as tokens must go through `unpacked` first.
    """
    colours = Image.fromarray(np.uint8(np.clip(rgb_of(pipe, latents) * 127.5 + 128, 0, 255)))
    scale = scale_of(pipe)
    return colours.resize((colours.width * scale, colours.height * scale), Image.Resampling.BICUBIC)


def rgb_of(pipe: Any, latents: Any) -> NDArray[np.float32]:
    """Colours ``(h, w, 3)``, about -1 to 1, of latents as for `preview`."""
    values = _single(pipe, latents).float().cpu().numpy()
    vae = autoencoder_of(pipe)
    if vae is None:  # the model works on pixels
        return np.moveaxis(values[:3], 0, -1)
    if vae not in _fitted:
        _fitted[vae] = _fit(pipe)
    matrix = _fitted[vae]  # (C + 1, 3): the last row is the colour of zero
    return np.einsum("chw,cr->hwr", values, matrix[:-1]) + matrix[-1]


@torch.no_grad()
def decode(pipe: Any, latents: Any, *, exact: bool = True) -> Image.Image:
    """The picture of latents, through the autoencoder, or where ``exact=False`` their `preview`, whose parameters it shares."""
    if not exact:
        return preview(pipe, latents)
    vae = autoencoder_of(pipe)
    if vae is None:
        return preview(pipe, latents)
    with _full_precision(vae):
        z = _single(pipe, latents)[None].to(pipe._execution_device, vae.dtype)
        decoded = vae.decode(
            _framed(vae, _to_autoencoder(vae, z)), return_dict=False, **_decoding(vae)
        )[0]
        if decoded.ndim == 5:
            decoded = decoded[:, :, 0]
        pixels = (decoded[0].float() / 2 + 0.5).clamp(0, 1).movedim(0, -1).cpu().numpy()
    return Image.fromarray((pixels * 255).round().astype(np.uint8))


def unpacked(pipe: Any, latents: torch.Tensor, settings: Settings) -> torch.Tensor:
    """Latents as ``(B, C, h, w)``; many transformers' pipelines carry them as tokens ``(B, P, D)``."""
    return unfolded(
        latents, settings.height or 0, settings.width or 0, scale_of(pipe), channels_of(pipe)
    )


def _single(pipe: Any, latents: Any) -> torch.Tensor:
    """The latents as ``(C, h, w)``."""
    tensor = torch.as_tensor(latents)
    tensor = tensor[0] if tensor.ndim == 4 and len(tensor) == 1 else tensor
    channels = channels_of(pipe)
    if tensor.ndim != 3 or len(tensor) != channels:
        raise InvalidSettings(
            f"The latents have shape {tuple(tensor.shape)}; a preview takes one picture's, ({channels}, height, width)."
        )
    return tensor


@torch.no_grad()
def _fit(pipe: Any) -> NDArray[np.float32]:
    """The matrix ``(C + 1, 3)`` that best gives the mean colour below each latent pixel."""
    side = _GRID * scale_of(pipe)
    pictures = _scenes(side)
    z = _latents_of(pipe, pictures)
    colours = torch.nn.functional.avg_pool2d(pictures, side // z.shape[-1])
    known = torch.cat([z, torch.ones_like(z[:, :1])], 1).movedim(1, -1).reshape(-1, z.shape[1] + 1)
    matrix = np.linalg.lstsq(
        known.numpy(), colours.movedim(1, -1).reshape(-1, 3).numpy(), rcond=None
    )[0]
    return np.asarray(matrix, dtype=np.float32)


@torch.no_grad()
def encode_picture(pipe: Any, picture: Image.Image) -> torch.Tensor:
    """Latents ``(1, C, h, w)``, on the processor in float32, that stand for an RGB picture; the way back from `decode`."""
    pixels = torch.from_numpy(np.array(picture.convert("RGB"))).movedim(-1, 0)[None]
    return _latents_of(pipe, pixels.float() / 127.5 - 1)


def _latents_of(pipe: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Latents ``(B, C, h, w)`` of pixels ``(B, 3, H, W)`` in -1..1."""
    vae = autoencoder_of(pipe)
    with _full_precision(vae):
        z = _encoded(vae.encode(_framed(vae, pixels.to(pipe._execution_device, vae.dtype))))
        return _from_autoencoder(vae, z[:, :, 0] if z.ndim == 5 else z).float().cpu()


def _decoding(vae: Any) -> dict[str, Any]:
    """Kandinsky's and Cascade's autoencoders would snap latents to their codebook, which their pipelines switch off."""
    accepted = inspect.signature(vae.decode).parameters
    return {"force_not_quantize": True} if "force_not_quantize" in accepted else {}


def _encoded(out: Any) -> torch.Tensor:
    """The latents in whatever an autoencoder's encoder answers with; its mean where it answers with a distribution."""
    for name in ("latents", "latent"):
        if hasattr(out, name):
            return getattr(out, name)
    return out.latent_dist.mode()


def _framed(vae: Any, tensor: torch.Tensor) -> torch.Tensor:
    """With an axis of one frame, for autoencoders of films."""
    return tensor.unsqueeze(2) if _has_time(vae) else tensor


def _has_time(vae: Any) -> bool:
    return any(isinstance(m, torch.nn.Conv3d) for m in vae.modules())


def _scenes(side: int) -> torch.Tensor:
    """Pictures ``(12, 3, side, side)`` in -1..1 of soft clouds in all colours, half of them with hard-edged patches."""
    chance = torch.Generator().manual_seed(0)
    pictures = []
    for n in range(_PICTURES):
        coarse = torch.rand(1, 3, 2 + n % 5, 2 + n % 5, generator=chance) * 2.4 - 1.2
        picture = torch.nn.functional.interpolate(
            coarse, size=side, mode="bicubic", align_corners=True
        )[0].clamp(-1, 1)
        for _ in range(4 * (n % 2)):
            x, y = (int(v) for v in torch.randint(0, side // 2, (2,), generator=chance))
            picture[:, y : y + side // 3, x : x + side // 3] = (torch.rand(3, 1, 1, generator=chance) * 2 - 1).expand(3, side // 3, side // 3)  # fmt: skip
        pictures.append(picture)
    return torch.stack(pictures)


@contextmanager
def _full_precision(vae: Any) -> Iterator[None]:
    """Run an autoencoder that overflows in half precision (SDXL's) in single precision inside the block."""
    own = vae.dtype
    upcast = own == torch.float16 and getattr(vae.config, "force_upcast", False)
    if upcast:
        vae.to(dtype=torch.float32)
    try:
        yield
    finally:
        if upcast:
            vae.to(dtype=own)


def _statistics(vae: Any, like: torch.Tensor) -> tuple[Any, Any, float]:
    """Mean, deviation and factor between an autoencoder's latents and the pipeline's."""
    config = vae.config
    factor = getattr(config, "scaling_factor", None) or 1.0
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is not None and std is not None:
        shape = (1, -1, *(1,) * (like.ndim - 2))
        return like.new_tensor(mean).view(shape), like.new_tensor(std).view(shape), factor
    return getattr(config, "shift_factor", None) or 0.0, 1.0, factor


def _to_autoencoder(vae: Any, z: torch.Tensor) -> torch.Tensor:
    if (
        getattr(vae, "bn", None) is not None
    ):  # FLUX.2 normalises patches of 2×2 latent pixels by running statistics
        mean, std = _running(vae, z)
        return _patched_back(_patched(z) * std + mean)
    mean, std, factor = _statistics(vae, z)
    return z * std / factor + mean


def _from_autoencoder(vae: Any, z: torch.Tensor) -> torch.Tensor:
    if getattr(vae, "bn", None) is not None:
        mean, std = _running(vae, z)
        return _patched_back((_patched(z) - mean) / std)
    mean, std, factor = _statistics(vae, z)
    return (z - mean) * factor / std


def _running(vae: Any, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean = vae.bn.running_mean.view(1, -1, 1, 1).to(like)
    return mean, (vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps).sqrt().to(like)


def _patched(z: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pixel_unshuffle(z, 2)


def _patched_back(z: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pixel_shuffle(z, 2)
