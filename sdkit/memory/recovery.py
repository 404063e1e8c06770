"""When memory runs out in the middle of a run: the same pictures again, with less.

The design decision: **one ladder, cheapest rung first**, and only rungs that can help where it happened: fewer pictures
together and offloading for the denoiser; slices, tiles and offloading for the autoencoder. Seeds make the noise, so a
second attempt begins with the same latents. Slices and whole batches of one give the same picture; tiles are decoded
without sight of each other, which shifts colours a little. Every rung is told once and written into the settings.
"""

from __future__ import annotations

import gc
import os
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

from sdkit.errors import OutOfMemory
from sdkit.pipelines.families import autoencoder_of, denoiser_of
from sdkit.pipelines.latents import scale_of
from sdkit.pipelines.placement import offload, offloaded, state, tile
from sdkit.pipelines.run import ran_out
from sdkit.settings import Settings

from .plan import free

__all__ = ["Ladder", "LessMemory", "ran_out"]

_GIB = 2**30
_TILES = (512, 256)


class LessMemory(UserWarning):
    """A run did not fit into memory and goes on in a way that needs less."""


class Ladder:
    """Repeat what ran out of memory, a rung further down each time.

    Parameters
    ----------
    pipe
        The pipeline; slices, tiles and offloading stay on, fewer pictures together are for this ladder only.
    wanted
        Settings of all pictures, complete.
    """

    def __init__(self, pipe: Any, wanted: Sequence[Settings]) -> None:
        self.pipe, self.wanted = pipe, wanted
        self.most = len(wanted)
        self._told: set[str] = set()

    def climb(self, chunk: Sequence[int], attempt: Callable[[list[int]], None]) -> None:
        """Make the pictures of a chunk, all together or, if they do not fit, in smaller parts.

        Parameters
        ----------
        chunk
            Indices into `wanted`.
        attempt
            Makes the pictures of some indices and keeps them, or raises `OutOfMemory` and keeps nothing.

        Raises
        ------
        OutOfMemory
            If nothing is left to try, with numbers.
        """
        waiting = list(chunk)
        while waiting:
            some = waiting[: self.most]
            failure = _failure(attempt, some)
            if failure is None:
                waiting = waiting[len(some) :]
                continue
            _release()
            if not self._step_down(len(some), self.wanted[some[0]], decoding=failure.decoding):
                raise OutOfMemory(self._sentence(some, str(failure)), decoding=failure.decoding)

    @property
    def facts(self) -> str | None:
        """What the pictures were made with, to save memory; None where nothing was saved."""
        fewer = [f"batches of {self.most}"] if "fewer" in self._told else []
        return ", ".join([*fewer, *filter(None, [state(self.pipe)])]) or None

    def _step_down(self, together: int, settings: Settings, *, decoding: bool) -> bool:
        """Take the next rung that can help; False if there is none."""
        return (
            (not decoding and self._fewer(together))
            or (decoding and self._slices(together))
            or self._tiles(settings, decoding=decoding)
            or self._offload()
        )

    def _fewer(self, together: int) -> bool:
        if together < 2:
            return False
        self.most = together // 2
        self._tell(
            "fewer",
            f"{together} pictures together do not fit into memory; they are made in smaller batches.",
        )
        return True

    def _slices(self, together: int) -> bool:
        vae = autoencoder_of(self.pipe)
        if together < 2 or getattr(vae, "use_slicing", True):
            return False
        vae.enable_slicing()
        self._tell(
            "slices",
            "Decoding did not fit into memory; pictures are decoded one by one from now on (VAE slicing).",
        )
        return True

    def _tiles(self, settings: Settings, *, decoding: bool) -> bool:
        vae = autoencoder_of(self.pipe)
        source = settings.task != "text-to-image"  # its encoding comes before the first step
        if not (decoding or source) or not hasattr(vae, "use_tiling"):
            return False
        longest = max(settings.width or 0, settings.height or 0)
        now = getattr(vae, "tile_sample_min_size", longest) if vae.use_tiling else longest
        side = next((s for s in _TILES if s < min(now, longest)), None)
        if side is None:
            return False
        tile(vae, side, scale_of(self.pipe))
        self._tell(
            "tiles",
            "Decoding did not fit into memory; pictures are decoded in overlapping tiles from now on (VAE tiling), which "
            "is slower and shifts colours a little.",
        )
        return True

    def _offload(self) -> bool:
        device = self.pipe._execution_device
        down = {"nothing": "models", "models": "all layers", "text encoders": "layers"}.get(
            offloaded(self.pipe)
        )
        if down is None or not can_offload(device):
            return False
        if (
            down == "layers"
        ):  # those of the text encoders are already: diffusers has no way back from there
            denoiser_of(self.pipe).to("cpu")
            denoiser_of(self.pipe).enable_group_offload(
                device, offload_type="leaf_level", use_stream=device.type == "cuda"
            )
        else:
            offload(self.pipe, down, str(device))
        self._tell(
            down,
            f"The run did not fit into memory; it goes on slower, with {state(self.pipe)}, from now on.",
        )
        return True

    def _tell(self, rung: str, sentence: str) -> None:
        if rung not in self._told:
            self._told.add(rung)
            warnings.warn(sentence, LessMemory, stacklevel=2)

    def _sentence(self, some: Sequence[int], reason: str) -> str:
        settings, device = self.wanted[some[0]], str(self.pipe._execution_device)
        asked = re.search(r"[Tt]ried to allocate ([\d.]+ [KMG]i?B)", reason)
        tried = self.facts
        return (
            f"{'A picture' if len(some) == 1 else f'{len(some)} pictures'} of {settings.width}×{settings.height} did not fit "
            f"into the memory of {device}: {free(device) / _GIB:.1f} of {_total(device) / _GIB:.1f} GiB are free"
            f"{f', and {asked[1]} more were asked for' if asked else ''}"
            f"{f', even with {tried}' if tried else ''}; make it smaller, close what else uses the device, or load the "
            "model with memory='low'."
        )


def can_offload(device: torch.device) -> bool:
    """Whether the computer's memory is another one than the device's."""
    return device.type not in {"cpu", "mps"}


def _failure(attempt: Callable[[list[int]], None], some: list[int]) -> OutOfMemory | None:
    """What went wrong, without its traceback, which would keep the run's tensors alive."""
    try:
        attempt(some)
    except OutOfMemory as error:
        return OutOfMemory(str(error), decoding=error.decoding)
    return None


def _release() -> None:
    """Give back what the failed attempt held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def _total(device: str) -> int:
    if device.startswith("cuda"):
        return torch.cuda.get_device_properties(device).total_memory
    if device.startswith("mps"):
        return torch.mps.recommended_max_memory()
    return (
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if hasattr(os, "sysconf")
        else free(device)
    )
