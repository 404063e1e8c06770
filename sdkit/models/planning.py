"""`plan()`: how a checkpoint would be laid out, told without loading it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sdkit.errors import SdkitError
from sdkit.memory.plan import Plan, draft

from .finding import find
from .hub import explained

if TYPE_CHECKING:
    import torch

__all__ = ["plan"]


def plan(
    name: str | Path | None = None,
    *,
    memory: str = "auto",
    device: str | None = None,
    dtype: torch.dtype | None = None,
    width: int | None = None,
    height: int | None = None,
    revision: str | None = None,
    variant: str | None = None,
) -> Plan:
    """Show how a checkpoint would be laid out, without loading it.

    Parameters
    ----------
    name, device, dtype, revision, variant
        As for `sdkit.load`. Of a hub id that is not on this machine only a few kilobytes are fetched.
    memory
        ``"auto"``: the cheapest way that fits. ``"full"``: everything on the device. ``"low"``: little memory at a
        bearable price. ``"8GB"``, or another number: as ``"auto"``, within so many GiB.
    width, height
        Pixels; by default the size the model was trained at.

    Returns
    -------
    Plan
        Shows itself as a table; ``plan.apply(pipe)`` lays out a pipeline.

    Raises
    ------
    InvalidSettings
        If `memory` is none of these.
    ModelNotFound
        As `sdkit.load`.

    Examples
    --------
    >>> plan = sdkit.plan(memory="8GB")
    >>> plan.fits
    True
    >>> print(plan)
    pocket: ...
    """
    kind, source, chosen, precision = find(name, device, dtype, variant=variant)
    try:
        found = draft(
            kind,
            source,
            memory=memory,
            device=chosen,
            dtype=precision,
            revision=revision,
            variant=variant,
            width=width,
            height=height,
            fetch=True,
        )
    except SdkitError:
        raise
    except (OSError, ValueError) as error:  # what the hub and the network say
        raise explained(error, source) from None
    assert found is not None  # noqa: S101 - it was allowed to fetch
    return found
