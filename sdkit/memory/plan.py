"""A memory plan: what of a pipeline lies where, chosen before anything is loaded, and what it costs.

The design decision: **the plan only chooses; diffusers does the work.** Sizes come from the files' headers, room from the
device, and the first way that fits, in order of what it costs in time, is applied through the pipeline's own switches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from sdkit import pocket
from sdkit.errors import InvalidSettings
from sdkit.pictures.legible import printable
from sdkit.pipelines.families import autoencoder_of
from sdkit.pipelines.latents import scale_of
from sdkit.pipelines.placement import Way, offload, tile

from .containers import container_room
from .needs import USABLE, Needs
from .sizes import measure

if TYPE_CHECKING:
    import torch

__all__ = ["Plan", "draft", "free", "planned"]

_GIB: Final = 2**30
_TILE: Final = (
    256,
    512,
)  # sides of the autoencoder's tiles: below, seams show; above, little is saved
_TOGETHER: Final = (8, 4, 2)
_PRECISIONS: Final = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*Gi?B\s*", re.IGNORECASE)
_plans: WeakKeyDictionary[Any, Plan] = WeakKeyDictionary()


_RESIDENT: Final = (Way(),)
_HERE: Final = (Way(), Way(tiled=True))  # a processor has nowhere to offload to
_LOW: Final = tuple(Way(offload, tiled=True) for offload in ("models", "layers", "all layers"))
_AUTO: Final = (
    *(Way(), Way("text encoders"), Way("text encoders", tiled=True)),
    *(
        Way(offload, tiled)
        for offload in ("models", "layers", "all layers")
        for tiled in (False, True)
    ),
)


@dataclass(frozen=True)
class Plan:
    """What of a pipeline lies where, for pictures of one size; `str` and notebooks show it as a table.

    Parameters
    ----------
    name, device, dtype
        The checkpoint, where it will run, and in what precision, such as ``"float16"``.
    width, height
        Pixels of a picture.
    way
        What was chosen.
    considered
        Every way that was looked at, in order of cost, with the bytes that it needs at its peak.
    parts
        Name and bytes of every part.
    step, decode
        Bytes that one denoising step and the decoding of one picture need beside the weights, with `MARGIN`.
    room
        Bytes that the device has for the pipeline.
    tile
        Side of the autoencoder's tiles in pixels.
    together
        Pictures that fit into one batch.

    Examples
    --------
    >>> plan = sdkit.plan(memory="8GB")  # a table of every way to lay Pocket out
    >>> plan.peak < 8 * 2**30
    True
    >>> plan.sentence()  # nothing to say where everything fits
    ''
    """

    name: str
    device: str
    dtype: str
    width: int
    height: int
    way: Way
    considered: tuple[tuple[Way, int], ...]
    parts: tuple[tuple[str, int], ...]
    step: int
    decode: int
    room: int
    tile: int
    together: int = 1

    @property
    def peak(self) -> int:
        """Bytes at the peak of a run for one picture."""
        return dict(self.considered)[self.way]

    @property
    def fits(self) -> bool:
        """Whether the chosen way fits into `USABLE` of the room."""
        return self.peak <= USABLE * self.room

    def apply(self, pipe: Any) -> Any:
        """Lay out a pipeline that was loaded into the computer's memory; returns it.

        Parameters
        ----------
        pipe
            A diffusers pipeline without hooks, on the processor.
        """
        if self.way.tiled:
            tile(autoencoder_of(pipe), self.tile, scale_of(pipe), slices=True)
        offload(pipe, self.way.offload, self.device)
        _plans[pipe] = self
        return pipe

    def sentence(self) -> str:
        """One line on what was chosen and what it costs; empty where everything is resident and fits."""
        if self.fits:
            return (
                ""
                if self.way == Way()
                else f"Memory plan for {self._where()}: {self.way}; {self.way.costs}."
            )
        return (
            f"Memory plan for {self._where()}: {self.way} still needs about {_gib(self.peak)} and {_gib(self.room)} are "
            "free; if it fails, make smaller pictures or free memory first."
        )

    def _where(self) -> str:
        return f"{self.width}×{self.height} with {_gib(self.room)} on {self.device}"

    def _tables(self) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
        """Title and rows of each table."""
        weights = [(name, _gib(size), "weights") for name, size in self.parts]
        yield (
            f"{self.name}: {self.width}×{self.height}, {self.dtype} on {self.device}, {_gib(self.room)} free",
            [
                *weights,
                ("one step", _gib(self.step), "beside them"),
                ("decoding", _gib(self.decode), "beside them"),
            ],
        )
        rows = [
            (("▸ " if way == self.way else "  ") + str(way), _gib(peak), way.costs)
            for way, peak in self.considered
        ]
        fit = "1 picture fits" if self.together == 1 else f"{self.together} pictures fit together"
        yield f"peak, of {_gib(int(USABLE * self.room))} usable; {fit}", rows

    def __str__(self) -> str:
        """Return the table as text."""
        wide = max(len(row[0]) for _, rows in self._tables() for row in rows)
        table = "\n".join(
            line
            for title, rows in self._tables()
            for line in (title, *(f"  {a:<{wide}}  {b:>9}  {c}" for a, b, c in rows))
        )
        return printable(table)  # `print(plan)` must not fail on a terminal of cp1252 or ASCII

    def _repr_html_(self) -> str:
        """Show the table in a notebook."""
        body = ""
        for title, rows in self._tables():
            body += f'<tr><th colspan="3" style="text-align:left">{escape(title)}</th></tr>'
            for a, b, c in rows:
                bold = ";font-weight:bold" if a.startswith("▸") else ""
                cells = (("left", a), ("right", b), ("left", c))
                body += "<tr>" + "".join(f'<td style="text-align:{side}{bold}">{escape(text)}</td>' for side, text in cells) + "</tr>"  # fmt: skip
        return f'<table class="mathjax_ignore tex2jax_ignore">{body}</table>'


def planned(pipe: Any) -> Plan | None:
    """The plan that a pipeline was laid out by."""
    return _plans.get(pipe)


def draft(
    kind: str,
    source: str,
    *,
    memory: str,
    device: str,
    dtype: torch.dtype,
    revision: str | None = None,
    variant: str | None = None,
    width: int | None = None,
    height: int | None = None,
    wider: Mapping[str, torch.dtype] | None = None,
    fetch: bool = False,
    without: Sequence[str] = (),
) -> Plan | None:
    """The plan for a checkpoint that was found; None for a hub id that is not on this machine, unless it may `fetch`.

    Parameters
    ----------
    kind, source, revision, variant, fetch, without
        As for `sdkit.memory.sizes.measure`.
    memory, device, dtype, width, height
        As for `plan`, all known.
    wider
        Parts that need another precision.
    """
    ways, limit = _ways(memory, device)
    shipped = next((name for name in pocket.FOLDERS if source == pocket.path(name)), "")
    place = pocket.path() if shipped else source  # Turbo's UNet is as large as Pocket's
    parts = measure(kind, place, revision=revision, variant=variant, fetch=fetch, without=without)
    if parts is None:
        return None
    precision = str(dtype).removeprefix("torch.")
    sizes = {
        p.name: _PRECISIONS[str((wider or {}).get(p.name, dtype)).removeprefix("torch.")]
        for p in parts
    }
    needs = Needs(parts, sizes, precision)
    width, height = width or needs.side, height or needs.side
    left = free(device)
    room = min(limit or left, left)
    side = min(_TILE[1], max(_TILE[0], max(width, height) // 2 // 8 * 8))
    if max(width, height) <= side:
        ways = tuple(
            dict.fromkeys(replace(way, tiled=False) for way in ways)
        )  # there would be one tile
    considered = tuple((way, needs.peak(way, width, height, side)) for way in ways)
    way = next((w for w, peak in considered if peak <= USABLE * room), ways[-1])
    together = next(
        (n for n in _TOGETHER if needs.peak(way, width, height, side, n) <= USABLE * room), 1
    )
    name = source if kind == "hub" else Path(source).name
    return Plan(
        name=shipped or name,
        device=device,
        dtype=precision,
        width=width,
        height=height,
        way=way,
        considered=considered,
        parts=tuple((p.name, p.bytes(sizes[p.name])) for p in parts),
        step=needs.step(width, height),
        decode=needs.decode(width, height, side if way.tiled else None),
        room=room,
        tile=side,
        together=together,
    )


def _ways(memory: str, device: str) -> tuple[Sequence[Way], int | None]:
    """The ways that are looked at, in order of cost, and a limit in bytes."""
    size = _SIZE.fullmatch(memory) if isinstance(memory, str) else None
    if memory not in {"auto", "full", "low"} and (size is None or not float(size[1])):
        raise InvalidSettings(
            f'memory is {memory!r}; choose "auto", "full", "low" or a size such as "8GB".'
        )
    if memory == "full":
        return _RESIDENT, None
    limit = int(float(size[1]) * _GIB) if size else None
    if device.startswith("cpu"):
        return _HERE[1:] if memory == "low" else _HERE, limit
    return _LOW if memory == "low" else _AUTO, limit


def free(device: str) -> int:
    """Bytes that a device has left for this process."""
    import torch

    if device.startswith("cuda"):
        there = torch.device(device)
        unused = torch.cuda.memory_reserved(there) - torch.cuda.memory_allocated(there)
        left, total = torch.cuda.mem_get_info(there)
        allowed = int(
            torch.cuda.get_per_process_memory_fraction(there) * total
        ) - torch.cuda.memory_reserved(there)
        return min(left, allowed) + unused
    if device.startswith("mps"):
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    import psutil

    there_is = int(
        psutil.virtual_memory().available
    )  # with what files hold until somebody needs it
    limit = container_room()
    return there_is if limit is None else min(there_is, limit)


def _gib(size: int) -> str:
    return f"{size / _GIB:.2f} GiB" if size >= 0.1 * _GIB else f"{size / 2**20:.1f} MiB"
