"""`DraftsBoard`: many quick drafts, and new ones around the one you like.

The one decision: drafts come **one after the other**, each as soon as it is made, because the eye judges a draft in a
fraction of the time that the model needs for the next. A draft made from words alone is varied by turning its noise; a
draft that is a variation itself is varied from its picture (image-to-image), since `Settings` hold one turn of noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import traitlets

from sdkit.errors import InvalidSettings
from sdkit.pictures.card import caption
from sdkit.pictures.files import replacing, safe_name
from sdkit.pictures.guides import guides_in
from sdkit.result import Result

from .explorer import module
from .prompt import _FIRST, words_of
from .studio import MEMORY, Asked, Studio, complete, limits, thumbnail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from sdkit.pictures.sources import Picture
    from sdkit.settings import Settings

    from .jobs import Job

__all__ = ["DraftsBoard"]

_SIDE: Final = 160  # pixels of a draft on the board
_MOST: Final = 24


@dataclass
class _Draft:
    """A finished draft; the number is its name in the browser."""

    number: int
    result: Result
    picture: bytes
    discarded: bool = False  # it keeps its place, because others still arrive in theirs

    def told(self) -> dict[str, Any]:
        settings = self.result.settings
        return {
            "number": self.number,
            "picture": self.picture,
            "prompt": settings.prompt,
            "caption": caption([settings]),
            "discarded": self.discarded,
        }


class DraftsBoard(Studio):
    """A sheet of drafts; click one to branch variations from it, keep the good ones, export the sheet.

    Parameters
    ----------
    pipe
        A diffusers pipeline, from `sdkit.load()` or your own.
    prompt
        Words, `Settings` or a `Result` to begin with.
    control, reference
        The pictures that lead what is made, given as for `sdkit.generate`; None takes those of a `Result` in `prompt`.
    count
        Drafts on the sheet, 2 to 24.
    amount
        How far variations stray, above 0 up to 1.
    memory
        Bytes of pictures that are remembered, so that going back is instant.
    **changes
        Fields of `Settings`. Without ``steps``, drafts take half as many as a final picture.

    Attributes
    ----------
    drafts
        The drafts on the sheet, as a list of `Result`.
    kept
        Those that were kept, in the order of keeping.

    Examples
    --------
    >>> from sdkit.widgets import DraftsBoard
    >>> board = DraftsBoard(pipe, "a castle at night", count=4, steps=4)
    >>> board.worker.join()  # in a notebook, nobody waits for it
    True
    >>> len(board.drafts)
    4
    """

    _esm = module("drafts.js")
    limits = traitlets.Dict().tag(sync=True)
    asked = traitlets.Dict().tag(sync=True)
    words = traitlets.Dict().tag(sync=True)
    trail = traitlets.List().tag(sync=True)
    tray = traitlets.List().tag(sync=True)

    def __init__(
        self,
        pipe: Any,
        prompt: str | Settings | Result = _FIRST,
        *,
        control: Picture | Sequence[Picture] | None = None,
        reference: Picture | Sequence[Picture] | None = None,
        count: int = 8,
        amount: float = 0.3,
        memory: int = MEMORY,
        **changes: Any,
    ) -> None:
        if not 2 <= count <= _MOST:
            raise InvalidSettings(f"count is {count}; a board holds 2 to {_MOST} drafts.")
        if not 0 < amount <= 1:
            raise InvalidSettings(f"amount is {amount}; variations stray above 0 and up to 1.")
        self._numbers = _counter()
        self._sheet: list[_Draft] = []
        self._kept: list[_Draft] = []
        self._trail: list[_Draft] = []
        self.guides = guides_in(control, reference, prompt)
        self.settings, self.count, self.amount = complete(pipe, prompt, **changes), count, amount
        if "steps" not in changes and isinstance(prompt, str):
            self.settings = self.settings.replace(steps=max(1, (self.settings.steps or 2) // 2))
        super().__init__(pipe, memory, limits={**limits(pipe), "count": _MOST})
        self._ask("kernel")

    @property
    def drafts(self) -> list[Result]:
        """The drafts on the sheet, without discarded ones."""
        return [draft.result for draft in self._on_sheet()]

    @property
    def kept(self) -> list[Result]:
        """The drafts that were kept."""
        return [draft.result for draft in self._kept]

    def still(self) -> tuple[Image.Image, Settings] | None:
        """Return the sheet as one picture, and the settings of its first draft."""
        whole = _together(self._kept or self._on_sheet())
        return (
            None
            if whole is None
            else (whole.sheet(scale=128 / max(whole.image.size)), whole.settings)
        )

    def __repr__(self) -> str:
        """Name the board and what is on it."""
        return f"<DraftsBoard: {self.settings.prompt[:60]!r}, {len(self.drafts)} drafts, {len(self._kept)} kept>"

    # -- messages --------------------------------------------------------------------------------------------------

    def _do_set(self, values: dict[str, Any], by: str = "") -> None:
        number, amount = (
            int(values.pop("count", self.count)),
            float(values.pop("amount", self.amount)),
        )
        changes = {
            name: value for name, value in values.items() if name in {"prompt", "seed", "steps"}
        }
        self.settings = self.settings.replace(**changes)
        self.count, self.amount = min(max(number, 2), _MOST), min(max(amount, 0.02), 1.0)
        if "prompt" in changes or "seed" in changes:
            self._trail = []
        self._ask(by)

    def _do_branch(self, number: int) -> None:
        if draft := self._find(number):
            self._trail.append(draft)
            self._ask("kernel")

    def _do_back(self, depth: int) -> None:
        self._trail = self._trail[:depth]
        self._ask("kernel")

    def _do_keep(self, number: int) -> None:
        draft = self._find(number)
        if draft in self._kept:
            self._kept.remove(draft)
        elif draft:
            self._kept.append(draft)
        self.tray = [kept.told() for kept in self._kept]

    def _do_discard(self, number: int) -> None:
        if draft := self._find(number):
            draft.discarded = True
            self._tell_sheet()

    def _do_export(self) -> None:
        whole = _together(self._kept or self._on_sheet())
        if whole is None:
            raise InvalidSettings("There is no draft yet: wait for the first one.")
        stem = safe_name(whole.settings.prompt, whole.settings.seed)
        path = next(
            p
            for n in _counter()
            if not (p := Path(f"{stem}-sheet{'' if n == 1 else f'-{n}'}.png")).exists()
        )
        with replacing(path) as temporary:
            whole.sheet().save(temporary, "PNG")
        self.note = f"Saved {len(whole)} drafts as {path}."

    def _ask(self, by: str) -> None:
        settings, image = self._wanted()
        told = {"count": self.count, "amount": self.amount, "by": by}
        self.asked = {
            name: getattr(self.settings, name) for name in ("prompt", "seed", "steps")
        } | told
        self.words = words_of(self.pipe, self.settings.prompt)
        self.trail = [draft.told() for draft in self._trail]
        self.ask(*settings, image=image)

    def _wanted(self) -> tuple[list[Settings], Image.Image | None]:
        """Settings of every draft on the sheet, and the picture that they start from, if any."""
        if not self._trail:
            return [
                self.settings.replace(seed=(self.settings.seed + n) % 2**63)
                for n in range(self.count)
            ], None
        base = self._trail[-1].result
        plain = complete(self.pipe, base.settings)
        seeds = [(plain.seed + n) % 2**63 for n in range(1, self.count + 1)]
        if plain.task == "text-to-image" and not plain.variation_amount:
            return [
                plain.replace(variation_seed=seed, variation_amount=self.amount) for seed in seeds
            ], None
        plain = plain.replace(variation_seed=None, variation_amount=0.0, source=None)
        strength = max(self.amount, 1.001 / (plain.steps or 1))  # at least one step
        return [plain.replace(seed=seed, strength=min(strength, 1.0)) for seed in seeds], base.image

    # -- in the worker's thread ------------------------------------------------------------------------------------

    def _make(self, asked: Asked, job: Job) -> Result:
        from sdkit.generation import generate

        made: list[_Draft] = []
        for place, settings in enumerate(asked.settings):
            on_step = self._watch(job, settings, place=place)
            result = generate(
                self.pipe,
                settings,
                image=asked.image,
                progress=False,
                on_step=on_step,
                **self.guides.asked(),
            )
            made.append(_Draft(next(self._numbers), result, thumbnail(result.image, _SIDE)))
            job.check()
            self._sheet = [*made, *self._sheet[len(made) :]]
            job.report({"place": place, "finished": made[-1].told()})
        whole = _together(made)
        assert whole is not None  # noqa: S101 - a board has at least two drafts
        return whole

    def _show(self, asked: Asked, result: Result) -> None:
        self._sheet = self._sheet[: len(result)]
        # by the pictures themselves: the same settings made others if the weights were others
        fresh = len(self._sheet) == len(result) and all(
            draft.result.image is image
            for draft, image in zip(self._sheet, result.images, strict=True)
        )
        if not fresh:  # from memory
            self._sheet = [
                _Draft(next(self._numbers), one, thumbnail(one.image, _SIDE)) for one in result
            ]
        self._tell_sheet()

    def _tell_sheet(self) -> None:
        self.view = {"drafts": [draft.told() for draft in self._sheet]}

    def _ended(self) -> None:
        self._tell_sheet()

    def _on_sheet(self) -> list[_Draft]:
        return [draft for draft in self._sheet if not draft.discarded]

    def _find(self, number: int) -> _Draft | None:
        return next(
            (d for d in [*self._sheet, *self._kept, *self._trail] if d.number == number), None
        )


def _together(drafts: list[_Draft]) -> Result | None:
    if not drafts:
        return None
    results = [draft.result for draft in drafts]
    latents = [r.latents for r in results]
    same = len({None if x is None else x.shape for x in latents}) == 1 and latents[0] is not None
    return Result(
        [r.image for r in results],
        [r.settings for r in results],
        np.concatenate([x for x in latents if x is not None]) if same else None,
        notes=dict.fromkeys(note for r in results for note in r.notes),
        flagged=[r.flagged for r in results],
        source=results[0].source,
        guides=results[0].guides,
    )


def _counter() -> count[int]:
    return count(1)
