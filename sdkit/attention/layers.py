"""The attention layers of a pipeline, and whether they can be read.

Three kinds exist: *cross* (UNets: pictures look at words), *self* (UNets: patches look at patches) and *joint* (the
transformers of Stable Diffusion 3 and Flux: pictures and words look at each other in one softmax).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sdkit.errors import CannotCapture
from sdkit.pipelines.families import Family, denoiser_of, family_of

__all__ = ["Layer", "find_layers", "grid_at", "reduced"]

_MODULES = ("Attention", "FluxAttention")  # names, so that nothing is imported before it is needed


@dataclass(frozen=True)
class Layer:
    """One attention module; `level` counts how often its grid has been halved, `heads` its heads."""

    name: str
    module: Any
    kind: str  # "cross", "self" or "joint"
    stage: str  # "down", "mid", "up", or "block" in a transformer
    level: int
    text_first: bool | None = None  # of a joint sequence; None where words stand apart

    @property
    def heads(self) -> int:
        """Number of heads."""
        found = (getattr(self.module, name, None) for name in ("heads", "num_heads", "n_heads"))
        return int(next((n for n in found if n), 1))

    @property
    def group(self) -> str:
        """Stage and resolution: layers of one group are averaged where layers are not kept apart."""
        return self.stage if self.stage in ("mid", "block") else f"{self.stage}/{2**self.level}"


def grid_at(height: int, width: int, level: int) -> tuple[int, int]:
    """Rows and columns of a UNet's grid after `level` halvings, which round up."""
    for _ in range(level):
        height, width = (height + 1) // 2, (width + 1) // 2
    return height, width


def reduced(rows: int, columns: int, resolution: int | None) -> tuple[int, int]:
    """The grid on which maps are kept: the layer's own, or one whose longer side has `resolution` patches."""
    if resolution is None or max(rows, columns) <= resolution:
        return rows, columns
    factor = max(rows, columns) / resolution
    return max(1, round(rows / factor)), max(1, round(columns / factor))


def find_layers(pipe: Any) -> tuple[Layer, ...]:
    """All attention layers of the pipeline's UNet or transformer, in the order in which they run.

    Raises
    ------
    CannotCapture
        If one module works in a way that cannot be read; the module is named.
    """
    network = denoiser_of(pipe)
    if hasattr(network, "_orig_mod"):
        raise CannotCapture(
            f"The {type(network._orig_mod).__name__} is compiled, and compiled layers do not show their attention; "
            "capture with the pipeline as it was before torch.compile."
        )
    family = family_of(pipe)
    if not family.sequence and not family.listens:
        raise CannotCapture(
            f"It is not known which of {type(pipe).__name__}'s tokens is which word, so its attention is not read; "
            "`sdkit.pipelines.families` would have to describe it."
        )
    crossing = hasattr(network, "down_blocks")
    layers = tuple(_crossing(network) if crossing else _transformer(network, family))
    if not layers:
        raise CannotCapture(f"{type(network).__name__} has no attention layers that sdkit knows.")
    return layers


def _check(name: str, module: Any) -> None:
    backend = getattr(getattr(module, "processor", None), "_attention_backend", None)
    if backend is not None and "native" not in str(getattr(backend, "value", backend)):
        told = getattr(backend, "value", backend)
        raise CannotCapture(
            f"{name} runs on the attention backend {told!r}, whose queries and keys cannot be read; "
            "call set_attention_backend('native') on the pipeline's network first."
        )
    if getattr(module, "fused_projections", False):
        raise CannotCapture(
            f"{name} has fused projections, which hide queries and keys; call pipe.unfuse_qkv_projections() first."
        )


def _crossing(unet: Any) -> Iterator[Layer]:
    depth = len(unet.config.block_out_channels) - 1
    order = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}
    found = [(name, m) for name, m in unet.named_modules() if type(m).__name__ in _MODULES]
    for name, module in sorted(found, key=lambda item: order.get(item[0].split(".")[0], 3)):
        parts = name.split(".")
        if parts[0] not in order or parts[-1] not in ("attn1", "attn2"):
            raise CannotCapture(
                f"{name} ({type(module).__name__}) is not a layer of a known kind of UNet."
            )
        if module.added_kv_proj_dim is not None:
            raise CannotCapture(
                f"{name} adds keys of its own (older DeepFloyd UNets); its attention cannot be read."
            )
        _check(name, module)
        stage = parts[0].split("_")[0]
        number = int(parts[1]) if stage != "mid" else 0
        level = {"down": number, "mid": depth, "up": depth - number}[stage]
        crossing = parts[-1] == "attn2" or getattr(module, "is_cross_attention", False)
        yield Layer(name, module, "cross" if crossing else "self", stage, level)


def _transformer(network: Any, family: Family) -> Iterator[Layer]:
    """Every module that computes attention; which of its calls look at words is seen from their shapes."""
    apart = (
        family.text_first is None
    )  # words and patches have attention of their own, by the same names everywhere
    for name, module in network.named_modules():
        if not hasattr(module, "processor") or (apart and name.split(".")[-1] != "attn2"):
            continue
        _check(name, module)
        yield Layer(name, module, "joint", "block", 0, family.text_first)
