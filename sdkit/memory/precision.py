"""Half precision that overflows is found when a model is loaded, not when the first picture is black.

The design decision: **a part that fails alone is widened alone.** Each network runs once on noise of unit variance; one
that answers with NaN or infinity is brought to a wider precision, and takes and hands back what its neighbours speak,
so that every pipeline runs as before. (SDXL's pipeline widens its autoencoder itself, and is left to it.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch

from sdkit.pictures.legible import say
from sdkit.pipelines.families import (
    AUTOENCODERS,
    DENOISERS,
    autoencoder_of,
    denoiser_of,
    widens_decoder,
)
from sdkit.pipelines.originals import inputs_for

__all__ = ["widen_what_overflows"]

_bridges: WeakKeyDictionary[Any, tuple[Any, Any]] = WeakKeyDictionary()
_HALF = (torch.float16, torch.bfloat16)
_ROWS = 8  # latents of 8×8: the smallest that four levels of a UNet can halve three times
_TOKENS = 77


@torch.no_grad()
def widen_what_overflows(pipe: Any, device: str, *, stay: bool = False) -> dict[str, torch.dtype]:
    """Run each half-precision network of a pipeline once, and widen those that overflow.

    Parameters
    ----------
    pipe
        A diffusers pipeline in the computer's memory.
    device
        Where it will run: kernels differ in what overflows.
    stay
        Leave the networks on the device, where there is room for all of them.

    Returns
    -------
    dict
        Name of each part that was widened, with its new precision; said in one line each.
    """
    widened: dict[str, torch.dtype] = {}
    for name in (*DENOISERS, *AUTOENCODERS):
        part = getattr(pipe, name, None)
        if (
            part is None
            or part.dtype not in _HALF
            or (part is autoencoder_of(pipe) and _widens_itself(pipe))
        ):
            continue
        half = part.dtype
        if all(_finite(pipe, part, device, stay=stay)):
            continue
        for wide in _wider(half, device):
            _bridge(part, wide)
            if wide == torch.float32 or all(_finite(pipe, part, device, stay=stay)):
                break
        widened[name] = part.dtype
        say(
            f"The {name} of this model overflows in {_name(half)} on {device}; it runs in {_name(part.dtype)} instead, "
            f"{'slower and ' if part.dtype == torch.float32 else ''}without black pictures."
        )
    if set(DENOISERS) & set(widened) and not set(AUTOENCODERS) & set(widened):
        vae = autoencoder_of(pipe)
        _bridge(vae, vae.dtype)  # latents now may come to it in another precision than its own
    return widened


def _widens_itself(pipe: Any) -> bool:
    """SDXL's pipelines heed the autoencoder's `force_upcast`; others carry it too and do not."""
    vae = autoencoder_of(pipe)
    return vae.dtype == torch.float16 and widens_decoder(
        denoiser_of(pipe).config, {"force_upcast": False, **vae.config}
    )


def _wider(half: torch.dtype, device: str) -> Iterator[torch.dtype]:
    """Precisions to fall back to; bfloat16 has the range of float32, where the device computes with it."""
    if half == torch.float16 and _computes_in_bfloat16(device):
        yield torch.bfloat16
    yield torch.float32


def _computes_in_bfloat16(device: str) -> bool:
    if device.startswith("mps"):
        return True  # every version of macOS that this torch runs on
    return device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)


def _finite(pipe: Any, part: Any, device: str, *, stay: bool) -> Iterator[bool]:
    """Whether everything that a network answers is finite; what cannot be run here is taken for good."""
    home = device if stay else part.device
    try:
        part.to(device)
        for answer in _answers(pipe, part):
            yield bool(torch.isfinite(answer).all())
    except torch.OutOfMemoryError:
        yield True  # it does not fit as a whole, and will run layer by layer; the run itself checks its latents
    finally:
        part.to(home)


def _answers(pipe: Any, part: Any) -> Iterator[torch.Tensor]:
    """One decoding, or one denoising step, of noise with unit variance."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(part.device, part.dtype)

    config = part.config
    if (
        part is autoencoder_of(pipe)
        and config.get("latent_channels")
        and config.get("scaling_factor")
    ):
        shift = getattr(config, "shift_factor", None) or 0.0
        z = noise(1, config.latent_channels, _ROWS, _ROWS) / config.scaling_factor + shift
        yield part.decode(z, return_dict=False)[0]
    elif part is denoiser_of(pipe):
        time = torch.tensor([500.0], device=part.device).to(part.dtype)
        inputs = inputs_for(config, noise, time, rows=_ROWS, tokens=_TOKENS)
        if inputs is not None:
            yield part(return_dict=False, **inputs)[0]


def _bridge(part: Any, precision: torch.dtype) -> None:
    """Bring a network to a precision, and let what comes in and goes out keep the one of its neighbours."""
    torch.nn.Module.to(
        part, precision
    )  # diffusers' own warns of what it thinks should stay, which is nothing
    # of an autoencoder the two ends are called, never the whole
    ends = [getattr(part, n, None) for n in ("encoder", "quant_conv", "post_quant_conv", "decoder")]
    for module in [m for m in ends if m is not None] or [part]:
        for hook in _bridges.get(module, ()):
            hook.remove()
        _bridges[module] = _cast_around(module, precision)


def _cast_around(module: Any, precision: torch.dtype) -> tuple[Any, Any]:
    spoken: list[torch.dtype] = []

    def before(_module: Any, args: Any, kwargs: Any) -> Any:
        first = args[0] if args else kwargs.get("sample", kwargs.get("hidden_states"))
        spoken[:] = [first.dtype]
        return _cast(args, precision), _cast(kwargs, precision)

    def after(_module: Any, _args: Any, out: Any) -> Any:
        return _cast(out, spoken[0])

    return module.register_forward_pre_hook(before, with_kwargs=True), module.register_forward_hook(
        after
    )


def _cast(values: Any, precision: torch.dtype) -> Any:
    """The same with every floating-point tensor in another precision."""
    if isinstance(values, torch.Tensor):
        return values.to(precision) if values.is_floating_point() else values
    if isinstance(values, dict) and type(values) is not dict:  # the outputs of diffusers
        return type(values)(**{k: _cast(v, precision) for k, v in values.items()})
    if isinstance(values, dict):
        return {k: _cast(v, precision) for k, v in values.items()}
    return (
        type(values)(_cast(v, precision) for v in values)
        if isinstance(values, (tuple, list))
        else values
    )


def _name(precision: torch.dtype) -> str:
    return str(precision).removeprefix("torch.")
