"""How control pictures and references get into a pipeline's call, and what is said where they cannot.

The one decision: **what a pipeline takes is read off its class and its parts**: a ControlNet pipeline takes its control picture
as ``control_image`` or, where it has no other picture, as ``image``; several parts take one picture each. They are handed
over as the user gave them, in the picture's size, so that the run is diffusers' own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from sdkit.errors import InvalidSettings
from sdkit.pictures.sources import fitted

from .families import denoiser_of, family_of

if TYPE_CHECKING:
    from sdkit.pictures.guides import Guides
    from sdkit.settings import Settings

__all__ = ["adapters_of", "by_seed", "check_guides", "controls_of", "guiding", "projections_of"]


def controls_of(pipe: Any) -> tuple[Any, ...]:
    """The networks of a pipeline that follow control pictures, in the order of the pictures."""
    part = getattr(pipe, "controlnet", None) or getattr(pipe, "adapter", None)
    part = getattr(part, "_orig_mod", part)  # a compiled one stands around it
    for name in ("nets", "adapters"):
        if hasattr(part, name):
            return tuple(getattr(part, name))
    return () if part is None else (part,)


def adapters_of(pipe: Any) -> int:
    """How many IP-Adapters a pipeline has loaded; each looks at one reference."""
    layers = projections_of(pipe)
    if layers is not None:
        return len(layers)
    # SD 3 keeps one by itself
    return int(getattr(denoiser_of(pipe), "image_proj", None) is not None)


def projections_of(pipe: Any) -> Any:
    """The layers that turn references into what IP-Adapters of a UNet or of Flux read; None if there are none."""
    outer = getattr(denoiser_of(pipe), "encoder_hid_proj", None)
    return getattr(outer, "image_projection_layers", None)


def check_guides(pipe: Any, wanted: Sequence[Settings], guides: Guides) -> None:
    """Raise in one sentence what a run with these pictures would fail at.

    Raises
    ------
    InvalidSettings
        Where the pipeline takes no such pictures, or another number of them.
    """
    family, kind = family_of(pipe), type(pipe).__name__
    if guides.control and family.control is None:
        raise InvalidSettings(
            f"{kind} takes no control picture; leave control= out, or use a ControlNet or T2I-Adapter pipeline of diffusers."
        )
    count = len(controls_of(pipe)) or 1
    if guides.control and len(guides.control) != count:
        raise InvalidSettings(
            f"{kind} follows {count} control picture{'s' * (count > 1)}, and control= has {len(guides.control)}; give one for each network, in their order."
        )
    for scale in {s.control_scale for s in wanted} - {None}:
        if not guides.control:
            raise InvalidSettings(
                f"control_scale={scale} says how strongly a control picture leads; give control=…, or no control_scale."
            )
        if family.control_weight is None:
            raise InvalidSettings(f"{kind} has no control_scale; leave it out.")
        if isinstance(scale, tuple) and len(scale) != len(guides.control):
            raise InvalidSettings(
                f"control_scale has {len(scale)} numbers for {len(guides.control)} control pictures; give one number, or one for each."
            )
    _check_references(pipe, guides)


def _check_references(pipe: Any, guides: Guides) -> None:
    kind, loaded = type(pipe).__name__, adapters_of(pipe)
    if guides.reference and "ip_adapter_image" not in family_of(pipe).accepts:
        raise InvalidSettings(
            f"{kind} takes no reference picture; leave reference= out, or use a pipeline that takes IP-Adapters."
        )
    if guides.reference and not loaded:
        raise InvalidSettings(
            f"This {kind} has no IP-Adapter that could look at a reference; call pipe.load_ip_adapter(...) first, or leave reference= out."
        )
    if len(guides.reference) != loaded:
        raise InvalidSettings(
            f"This {kind} has {loaded} IP-Adapter{'s' * (loaded > 1)}, and reference= has {len(guides.reference)} pictures; give one for each, or call pipe.unload_ip_adapter()."
        )


def guiding(runner: Any, guides: Guides, first: Settings, count: int) -> dict[str, Any]:
    """The arguments of ``runner(...)`` that hand over a run's control pictures and references.

    Parameters
    ----------
    runner
        The pipeline that makes the call.
    guides
        Checked by `check_guides`.
    first, count
        Settings of the first picture of the call, and how many pictures it makes.
    """
    family = family_of(runner)
    arguments: dict[str, Any] = {}
    if guides.control:
        size = (first.width or 0, first.height or 0)
        shown = [
            _channelled(network, fitted(picture, size, first.fit))
            for network, picture in zip(controls_of(runner) or (None,), guides.control, strict=True)
        ]
        given: list[Any] = shown
        if family.adapted and count > 1:  # these alone do not repeat a picture for a batch
            given = [[picture] * count for picture in shown]
        arguments[str(family.control)] = given[0] if len(given) == 1 else given
        if family.control_weight is not None and first.control_scale is not None:
            scale = first.control_scale
            several = scale if isinstance(scale, tuple) else (scale,) * len(shown)
            arguments[family.control_weight] = several[0] if len(shown) == 1 else list(several)
    if guides.reference:
        arguments["ip_adapter_image"] = (
            guides.reference[0] if len(guides.reference) == 1 else list(guides.reference)
        )
    return arguments


@contextmanager
def by_seed(pipe: Any, guides: Guides, seed: int) -> Iterator[None]:
    """Let a seed decide inside the block what some pipelines (SD 3's) draw from torch's own generator for control pictures."""
    if not guides.control:
        yield
        return
    place = pipe._execution_device
    with torch.random.fork_rng([place] if place.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _channelled(network: Any, picture: Any) -> Any:
    """A control picture with as many channels as its network reads: those for drawn lines read one."""
    config = getattr(network, "config", {})
    return picture.convert("L") if config.get("in_channels") == 1 else picture
