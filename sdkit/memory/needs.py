"""Bytes that a run needs, from what the files' headers say: nothing is loaded and nothing is tried.

What a run needs beside the weights, in bytes, with e bytes a number, B network inputs (two a picture with guidance) and
latents of h×w: so many tensors are alive together, counted by following every operation of the published networks on the
`meta` device (``tests/accounting.py``; ``tests/test_memory.py`` holds the formulas to it).

==========================================  =========================================================
one step, UNet of widths c_0, c_1 …         ``B·h·w·e · max_i (26·c_i / 4^i + 3·Σ_{j<i} c_j / 4^j)``
(levels without attention)                  15 instead of 26
one step, transformer of width d, patch p   ``B·(h·w / p² + 512)·e · 18·d``
decoding, autoencoder of widths c_0, c_1 …  ``pictures·H·W·e · 3·c_1``
==========================================  =========================================================

Real allocators need more: workspaces of the kernels, and gaps between blocks. Decoding on an RTX 4090 took up to 1.6 times
the count in allocated and 2.5 times in reserved bytes (measured by InvokeAI's developers, their #8414); plans
take 2 times (`MARGIN`) and leave 15 % of the room alone (`USABLE`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sdkit.pipelines.families import factor_of, patch_of, widens_decoder, width_of
from sdkit.pipelines.placement import Way

from .sizes import Part

__all__ = ["MARGIN", "USABLE", "Needs", "decoding", "denoising"]

MARGIN: Final = 2.0
USABLE: Final = 0.85
_SIDE: Final = 1024  # of models that do not say it, such as Flux


@dataclass(frozen=True)
class Needs:
    """What a checkpoint's parts need, in bytes."""

    parts: tuple[Part, ...]
    sizes: Mapping[str, int]  # bytes for a number, by part
    precision: str

    def part(self, role: str) -> Part | None:
        """The first part of a role, such as "denoiser"."""
        return next((p for p in self.parts if p.role == role), None)

    def weights(self, *roles: str) -> int:
        """All weights of some roles."""
        return sum(self._weight(p) for p in self.parts if p.role in roles)

    def leaf(self, *roles: str) -> int:
        """Two layers: the one that runs and the next."""
        return 2 * max(
            (p.largest * self.sizes[p.name] for p in self.parts if p.role in roles), default=0
        )

    def _weight(self, part: Part) -> int:
        return part.bytes(self._decoder() if part.role == "autoencoder" else self.sizes[part.name])

    def _decoder(self) -> int:
        """Bytes for a number while decoding: SDXL's pipeline widens its autoencoder, which overflows in half precision."""
        vae = self.part("autoencoder")
        if vae is None:
            return 4
        net = self.part("denoiser")
        widens = net is not None and widens_decoder(net.config, vae.config)
        return 4 if widens and self.precision == "float16" else self.sizes[vae.name]

    @property
    def scale(self) -> int:
        """Pixels along one side of a latent pixel."""
        vae = self.part("autoencoder")
        return factor_of(vae.config) if vae else 1

    @property
    def side(self) -> int:
        """Pixels along one side of the pictures that the model was trained on."""
        denoiser = self.part("denoiser")
        size = denoiser.config.get("sample_size") if denoiser else None
        if size is None:
            return _SIDE
        return (size if isinstance(size, int) else max(size)) * self.scale

    def step(self, width: int, height: int, pictures: int = 1) -> int:
        """Beside the weights, for one denoising step."""
        part = self.part("denoiser")
        if part is None:
            return 0
        told = part.config.get("guidance_embeds") or part.config.get("time_cond_proj_dim")
        guided = 1 if told else 2
        shape = (height // self.scale, width // self.scale)
        return int(
            MARGIN * denoising(part.config, *shape, guided * pictures) * self.sizes[part.name]
        )

    def decode(self, width: int, height: int, tile: int | None, pictures: int = 1) -> int:
        """Beside the weights, for the last decoding."""
        part = self.part("autoencoder")
        if part is None:
            return 0
        picture = (
            3 * width * height * self._decoder() * 2
        )  # the tiles, and what they are put together into
        if tile is not None and max(width, height) > tile:
            return int(MARGIN * decoding(part.config, tile, tile, 1) * self._decoder()) + picture
        return int(
            MARGIN * decoding(part.config, width, height, 1 if tile else pictures) * self._decoder()
        )

    def peak(self, way: Way, width: int, height: int, tile: int, pictures: int = 1) -> int:
        """The largest of all moments of a run."""
        step = self.step(width, height, pictures)
        decode = self.decode(width, height, tile if way.tiled else None, pictures)
        text, net, vae = (self.weights(r) for r in ("text", "denoiser", "autoencoder"))
        rest = self.weights("other")  # the safety checker, which diffusers keeps on the device
        if way.offload == "nothing":
            return text + net + vae + rest + max(step, decode)
        if way.offload == "text encoders":
            return net + vae + rest + max(step, decode, self.leaf("text"))
        if way.offload == "models":
            largest = max((self._weight(p) for p in self.parts if p.role == "text"), default=0)
            return rest + max(largest, net + step, vae + decode)
        if way.offload == "layers":
            return vae + rest + max(self.leaf("text"), self.leaf("denoiser") + step, decode)
        return rest + max(
            self.leaf("text"), self.leaf("denoiser") + step, self.leaf("autoencoder") + decode
        )


def denoising(config: Mapping[str, Any], rows: int, columns: int, inputs: int) -> float:
    """Numbers that are alive at the peak of one pass of the denoiser, beside its weights; see the module's table."""
    if "block_out_channels" not in config:
        return 18 * inputs * (rows * columns / patch_of(config) ** 2 + 512) * width_of(config)
    widths = config["block_out_channels"]
    kinds = config.get("down_block_types") or ("CrossAttn",) * len(widths)
    levels = [
        (26 if "Attn" in kind else 15) * c / 4**i
        + 3 * sum(w / 4**j for j, w in enumerate(widths[:i]))
        for i, (c, kind) in enumerate(zip(widths, kinds, strict=True))
    ]
    return inputs * rows * columns * max(levels)


def decoding(config: Mapping[str, Any], width: int, height: int, pictures: int) -> int:
    """Numbers that are alive at the peak of decoding, beside the weights; see the module's table."""
    widths = config.get("block_out_channels", (128, 256))
    return 3 * pictures * width * height * widths[min(1, len(widths) - 1)]
