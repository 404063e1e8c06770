"""What a pipeline carries beyond the model that it names: adapters, taught words, another autoencoder, a solver of one's own.

The design decision: **it is told in one line that people can read, with fingerprints where names may lie.** Settings record
the line, so whoever makes the picture again with another pipeline can be told what is different.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import torch

from .families import DENOISERS, autoencoder_of, denoiser_of
from .guiding import controls_of, projections_of
from .schedulers import own_scheduler, scheduler_name

__all__ = ["additions"]

_SAMPLED: Final = (
    64  # values of a tensor: adapters that were trained differently differ in nearly all
)
_FREEU: Final = ("s1", "s2", "b1", "b2")


def additions(pipe: Any, *, solver: bool = True) -> str | None:
    """Return what a pipeline carries beyond its model, in one line; None if nothing.

    Parameters
    ----------
    pipe
        A diffusers pipeline.
    solver
        Tell its solver, too, if that has no short name; not where a run brings another one.

    Returns
    -------
    str or None
        Such as ``"LoRA toy ×0.8 (3f2a91c0); FreeU s1=0.9 s2=0.2 b1=1.5 b2=1.6"``. Fingerprints are the first digits of a
        SHA-256 over some values of each tensor, equal on every device.
    """
    found = [
        *_loras(pipe),
        *_words(pipe),
        *_autoencoder(pipe),
        *_freeu(pipe),
        *_images(pipe),
        *_controls(pipe),
    ]
    found += _solver(pipe) if solver else []
    return "; ".join(found) or None


def _loras(pipe: Any) -> Iterator[str]:
    tensors: dict[str, list[torch.Tensor]] = {}
    scales: dict[str, float] = {}
    for module, name in _adapted(pipe):
        scales.setdefault(name, float(module.scaling[name]))
        for half in (module.lora_A, module.lora_B):
            if name in half:
                tensors.setdefault(name, []).append(half[name].weight)
    for name in sorted(tensors):
        yield f"LoRA {name} ×{scales[name]:g} ({_fingerprint(tensors[name])})"
    for name in sorted(getattr(pipe, "fused_loras", None) or ()):
        yield f"LoRA {name} fused"


def _adapted(pipe: Any) -> Iterator[tuple[Any, str]]:
    """Each layer with a LoRA that acts, and its name."""
    for part in _networks(pipe):
        if not getattr(part, "peft_config", None):
            continue
        for module in part.modules():
            if not isinstance(getattr(module, "scaling", None), dict) or module.disable_adapters:
                continue
            for name in module.active_adapters:
                if name in module.scaling and name not in module.merged_adapters:
                    yield module, name


def _networks(pipe: Any) -> Iterator[Any]:
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module) and (
            name in DENOISERS or name.startswith("text_encoder")
        ):
            yield part


def _words(pipe: Any) -> Iterator[str]:
    """Words that textual inversion taught; tokenizers of other kinds come with added words of their own."""
    tokenizer, encoder = getattr(pipe, "tokenizer", None), getattr(pipe, "text_encoder", None)
    if tokenizer is None or encoder is None or "CLIP" not in type(tokenizer).__name__:
        return
    special = set(tokenizer.all_special_tokens)
    table = encoder.get_input_embeddings().weight
    rows: dict[str, list[torch.Tensor]] = {}
    for name, number in sorted(tokenizer.get_added_vocab().items(), key=lambda item: item[1]):
        if name in special or number >= len(table):
            continue
        base = next(
            (b for b in rows if name.startswith(f"{b}_") and name[len(b) + 1 :].isdigit()), name
        )
        rows.setdefault(base, []).append(table[number])
    for name, vectors in rows.items():
        yield f"word {name} ({_fingerprint(vectors)})"


def _autoencoder(pipe: Any) -> Iterator[str]:
    vae = autoencoder_of(pipe)
    if vae is None:
        return
    place, home = (
        Path(str(part.config.get("_name_or_path") or "")) for part in (vae, denoiser_of(pipe))
    )
    apart = place.name and home.name and home.parent not in (place.parent, place)
    if apart:
        name = place.parent.name if place.name in {"vae", "movq", "vqgan"} else place.name
        yield f"autoencoder {name} ({_fingerprint(vae.parameters())})"


def _freeu(pipe: Any) -> Iterator[str]:
    blocks = getattr(denoiser_of(pipe), "up_blocks", None) or ()
    for block in blocks:
        values = [getattr(block, name, None) for name in _FREEU]
        if all(value is not None for value in values):
            told = " ".join(f"{name}={value:g}" for name, value in zip(_FREEU, values, strict=True))
            yield f"FreeU {told}"
            return


def _images(pipe: Any) -> Iterator[str]:
    """IP-Adapters, whose layers stand in the denoiser."""
    layers = projections_of(pipe)
    if layers is not None:
        scales = [getattr(p, "scale", None) for p in denoiser_of(pipe).attn_processors.values()]
        told = {
            "+".join(f"{one:g}" for one in scale) for scale in scales if isinstance(scale, list)
        }
        scale = "/".join(sorted(told)) or "?"  # some layers may heed it more than others
        yield f"IP-Adapter ×{scale} ({_fingerprint(layers.parameters())})"


def _controls(pipe: Any) -> Iterator[str]:
    """Networks that follow control pictures."""
    for network in controls_of(pipe):
        name = Path(str(network.config.get("_name_or_path") or "")).name
        told = f"{type(network).__name__} {name}".strip()
        yield f"{told} ({_fingerprint(network.parameters())})"


def _solver(pipe: Any) -> Iterator[str]:
    """A solver without a short name, which `Settings.scheduler` cannot tell."""
    scheduler = own_scheduler(pipe)
    if scheduler_name(pipe) is not None or "FlowMatch" in type(scheduler).__name__:
        return
    told = type(scheduler).__name__
    kind = scheduler.config.get("algorithm_type")
    yield f"solver {told} ({kind})" if kind else f"solver {told}"


def _fingerprint(tensors: Iterable[torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        values = tensor.detach().flatten()
        stride = max(len(values) // _SAMPLED, 1)
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(values[::stride][:_SAMPLED].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:8]
