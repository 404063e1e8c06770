"""What is kept of one call: running sums of attention, for each picture and layer.

The design decision: sums live on the device of the run, in single precision, and hold only the tokens that the prompt
uses (what the rest took is one minus their sum). They become NumPy arrays when somebody asks for the maps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .layers import Layer, grid_at, reduced
from .maps import AttentionMaps
from .parts import LayerMaps

if TYPE_CHECKING:
    from sdkit.pipelines.calls import Call
    from sdkit.pipelines.tokens import Prompt

    from .parts import Concepts

__all__ = ["Keep", "Record"]


@dataclass(frozen=True)
class Keep:
    """What of a run is kept: steps apart, heads apart, and the longest side of maps in patches (None: each layer's own)."""

    steps: bool = False
    heads: bool = False
    resolution: int | None = None


class Record:
    """Sums of one call of the pipeline, for `count` pictures."""

    def __init__(
        self,
        call: Call | None,
        prompts: list[Prompt],
        latents: tuple[int, int],
        *,
        scale: int,
        part: int = 0,
        lengths: tuple[int, ...] = (),
        concepts: Concepts | None = None,
    ) -> None:
        self.call, self.prompts, self.latents, self.scale = call, prompts, latents, scale
        self.part, self.lengths = part, lengths
        self.count, self.used = len(prompts), max(p.used for p in prompts)
        self.timesteps: list[float] = []
        self.grids: dict[str, tuple[int, int]] = {}
        self.layers: dict[str, Layer] = {}
        self.means: dict[str, list[Tensor]] = {}
        self.heads: dict[str, list[Tensor]] = {}
        self.back: dict[str, list[Tensor]] = {}
        self.patches: dict[str, list[Tensor]] = {}
        self.points: tuple[tuple[float, float], ...] = ()
        self.steps: dict[str, list[list[Tensor]]] = {}  # group → picture → step
        self._members: dict[str, int] = {}  # layers of a group seen in this step
        # what was looked for besides the prompt is kept like words of another one
        self.beside: Record | None = None
        self.values: dict[str, Tensor] = {}  # layer → what it takes from each concept
        if concepts is not None:
            self.beside = Record(call, [concepts] * self.count, latents, scale=scale, part=part)

    def row(self, image: int) -> int:
        """Where a picture stands in the network's batch, in the part with the words."""
        return self.part * self.count + image

    def begin_step(self, timestep: float) -> bool:
        """Note that the network runs at a timestep; False for a second pass at the same one."""
        if self.timesteps and self.timesteps[-1] == timestep:
            return False
        self.timesteps.append(timestep)
        self._members.clear()
        if self.beside is not None:
            self.beside.begin_step(timestep)
        return True

    def _grid(self, layer: Layer, patches: int) -> tuple[int, int]:
        """Rows and columns of a layer's patches: never the square root of their number."""
        rows, columns = grid_at(*self.latents, layer.level)
        if rows * columns != patches:
            raise ValueError(
                f"{layer.name} has {patches} patches where {rows}×{columns} were expected."
            )
        return rows, columns

    def add_words(self, layer: Layer, image: int, p: Tensor, *, keep: Keep) -> None:
        """Add one layer's probabilities `(heads, patches, tokens)` of one picture."""
        name, p = layer.name, p[..., : self.used]
        if name not in self.layers:
            self._open(layer, p, keep)
        if keep.heads:
            p = self._pooled(layer, p)
            self.heads[name][image].add_(p)
            mean = p.mean(0)
        else:
            mean = p.mean(0)
            mean = self._pooled(layer, mean[None])[0]
        self.means[name][image].add_(mean)
        if keep.steps:
            self._add_step(layer, image, mean)

    def _open(self, layer: Layer, p: Tensor, keep: Keep) -> None:
        rows, columns = self._grid(layer, p.shape[1])
        kept = reduced(rows, columns, keep.resolution)
        self.layers[layer.name], self.grids[layer.name] = layer, kept
        shape, device = (math.prod(kept), self.used), p.device
        self.means[layer.name] = [torch.zeros(shape, device=device) for _ in range(self.count)]
        if keep.heads:
            self.heads[layer.name] = [
                torch.zeros(layer.heads, *shape, device=device) for _ in range(self.count)
            ]

    def _pooled(self, layer: Layer, p: Tensor) -> Tensor:
        """`(n, patches, tokens)` on the grid that is kept; averages over patches."""
        kept = self.grids[layer.name]
        if math.prod(kept) == p.shape[1]:
            return p
        rows, columns = self._grid(layer, p.shape[1])
        planes = p.transpose(1, 2).unflatten(2, (rows, columns))
        return F.adaptive_avg_pool2d(planes, kept).flatten(2).transpose(1, 2)

    def _add_step(self, layer: Layer, image: int, mean: Tensor) -> None:
        """Average over the layers of a group, in half precision, one array a step."""
        pictures = self.steps.setdefault(layer.group, [[] for _ in range(self.count)])
        series = pictures[image]
        if len(series) < len(self.timesteps):
            series.append(torch.zeros_like(mean, dtype=torch.float16))
            self._members[f"{layer.group} {image}"] = 0
        seen = self._members[f"{layer.group} {image}"] = self._members[f"{layer.group} {image}"] + 1
        series[-1].lerp_(mean.to(torch.float16), 1 / seen)

    def add_back(self, layer: Layer, image: int, p: Tensor) -> None:
        """Add what words looked at, `(heads, tokens, patches)`, in a joint layer."""
        if layer.name not in self.back:
            self.back[layer.name] = [
                torch.zeros(p.shape[1:], device=p.device) for _ in range(self.count)
            ]
        self.back[layer.name][image].add_(p.mean(0))

    def add_self(
        self, layer: Layer, image: int, p: Tensor, points: tuple[tuple[float, float], ...]
    ) -> None:
        """Add what patches looked at, `(heads, patches or points, patches)`."""
        if not p.shape[1]:
            return
        self.points = points
        self.layers.setdefault(layer.name, layer)
        self.grids.setdefault(layer.name, self._grid(layer, p.shape[2]))
        if layer.name not in self.patches:
            self.patches[layer.name] = [
                torch.zeros(p.shape[1:], device=p.device) for _ in range(self.count)
            ]
        self.patches[layer.name][image].add_(p.mean(0))

    @property
    def bytes(self) -> int:
        """Bytes that are kept at present."""
        kept = (self.means, self.heads, self.back, self.patches)
        tensors = [t for table in kept for pictures in table.values() for t in pictures]
        tensors += [t for pictures in self.steps.values() for series in pictures for t in series]
        return sum(t.nbytes for t in tensors) + (self.beside.bytes if self.beside else 0)

    def maps(self) -> list[AttentionMaps]:
        """One `AttentionMaps` for each picture."""
        size = (self.latents[1] * self.scale, self.latents[0] * self.scale)
        beside = self.beside.maps() if self.beside is not None else [None] * self.count
        return [
            AttentionMaps(
                prompt,
                tuple(self._layer(name, i, prompt) for name in self.layers),
                timesteps=tuple(self.timesteps),
                size=size,
                steps={
                    group: self._series(group, pictures[i], prompt)
                    for group, pictures in self.steps.items()
                },
                points=self.points,
                beside=beside[i],
            )
            for i, prompt in enumerate(self.prompts)
        ]

    def _layer(self, name: str, image: int, prompt: Prompt) -> LayerMaps:
        count, grid, layer = max(len(self.timesteps), 1), self.grids[name], self.layers[name]

        def mean(table: dict[str, list[Tensor]]) -> Any:
            return (table[name][image] / count).cpu().numpy() if name in table else None

        words, heads, back, patches = (
            mean(t) for t in (self.means, self.heads, self.back, self.patches)
        )
        return LayerMaps(
            name=name,
            group=layer.group,
            grid=grid,
            words=None if words is None else words[:, : prompt.used].reshape(*grid, -1),
            heads=None
            if heads is None
            else heads[..., : prompt.used].reshape(len(heads), *grid, -1),
            back=None if back is None else back[: prompt.used].reshape(-1, *self._full(layer)),
            patches=None if patches is None else patches.reshape(-1, *grid),
        )

    def _full(self, layer: Layer) -> tuple[int, int]:
        return grid_at(*self.latents, layer.level)

    def _series(self, group: str, series: list[Tensor], prompt: Prompt) -> np.ndarray:
        grid = next(
            self.grids[n]
            for n, layer in self.layers.items()
            if layer.group == group and n in self.means
        )
        return torch.stack(series).cpu().numpy()[..., : prompt.used].reshape(len(series), *grid, -1)
