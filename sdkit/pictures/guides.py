"""Pictures that lead a run without being its start: what a ControlNet or T2I-Adapter follows, and what an IP-Adapter looks at.

The one decision: **they travel together, in one value**, from the door to the pipeline's call and back in the result. A run's
start (a source and its mask) is another thing: it decides the size, and what of it is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final, cast

from PIL import Image

from .metadata import fingerprint
from .sources import Picture, as_source

__all__ = ["NO_GUIDES", "Guides", "guides_in"]


@dataclass(frozen=True, eq=False)
class Guides:
    """Control pictures and references of one run.

    Parameters
    ----------
    control, reference
        RGB, one for each ControlNet or T2I-Adapter, and one for each IP-Adapter; empty where there is none.
    """

    control: tuple[Image.Image, ...] = ()
    reference: tuple[Image.Image, ...] = ()

    def sums(self) -> dict[str, str | None]:
        """Return what `Settings` record of them, by field."""
        return {"control": _sum(self.control), "reference": _sum(self.reference)}

    def asked(self) -> dict[str, Any]:
        """Return the arguments of `sdkit.generate` that hand them over."""
        return {"control": self.control or None, "reference": self.reference or None}

    def or_else(self, others: Guides) -> Guides:
        """Return these, and the others' of a kind that is lacking here."""
        return Guides(self.control or others.control, self.reference or others.reference)


NO_GUIDES: Final = Guides()


def guides_in(
    control: Picture | Sequence[Picture] | None,
    reference: Picture | Sequence[Picture] | None,
    *others: object,
) -> Guides:
    """Return control pictures and references in the form that runs take them in; errors as `sources.as_source`.

    What is not given is taken from the first of `others`, such as results, that was led by it.
    """
    given = Guides(_taken(control, "control"), _taken(reference, "reference"))
    return reduce(Guides.or_else, (getattr(o, "guides", NO_GUIDES) for o in others), given)


def _taken(given: Picture | Sequence[Picture] | None, name: str) -> tuple[Image.Image, ...]:
    if given is None:
        return ()
    if isinstance(given, (list, tuple)):
        return tuple(as_source(one, f"{name}[{n}]") for n, one in enumerate(given))
    return (as_source(cast("Picture", given), name),)


def _sum(pictures: tuple[Image.Image, ...]) -> str | None:
    digests = [fingerprint(picture) for picture in pictures]
    if len(digests) < 2:
        return digests[0] if digests else None
    return hashlib.sha256("".join(digests).encode()).hexdigest()
