"""`PromptExplorer`: write, drag, and watch the picture follow.

The one decision: the panel is a view of `Settings`. Every control changes one field of them, the picture follows, and
"copy as code" is the call that makes the same picture without the panel.
"""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import traitlets

from sdkit import pocket
from sdkit.errors import InvalidSettings
from sdkit.models.identity import is_pocket
from sdkit.pictures.card import caption
from sdkit.pictures.guides import guides_in
from sdkit.pipelines.run import lock_of
from sdkit.pipelines.tokens import Word, own_copy, read_prompt
from sdkit.settings import Settings

from .explorer import module
from .page import write
from .studio import MEMORY, Asked, Studio, complete, limits, passing, shown, thumbnail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from sdkit.pictures.sources import Picture
    from sdkit.result import Result

__all__ = ["PromptExplorer", "as_code", "words_of"]

_FIRST: Final = "a red car on a beach, watercolor"
_LONGEST_HISTORY: Final = (
    24  # pictures in the strip, favourites not counted: 40 kB in a saved notebook
)
_IN_CODE: Final = (
    "negative_prompt", "seed", "steps", "guidance_scale", "width", "height", "scheduler",
    "variation_seed", "variation_amount",
)  # fmt: skip


@dataclass
class _Entry:
    """One picture of the history, encoded; the result is kept for favourites, else it is in the cache or made again."""

    number: int
    settings: Settings
    thumbnail: bytes
    picture: bytes
    made: weakref.ref[Result]  # what it shows, as long as somebody holds it
    favourite: Result | None = None

    def renew(self, result: Result) -> None:
        """Show what the same settings made anew; after a change of the weights it is another picture."""
        if self.made() is not result:
            self.thumbnail, self.picture, self.made = (
                thumbnail(result.image),
                shown(result.image),
                weakref.ref(result),
            )


class PromptExplorer(Studio):
    """Type a prompt, drag guidance, steps and seed; the picture follows.

    Parameters
    ----------
    pipe
        A diffusers pipeline, from `sdkit.load()` or your own.
    prompt
        Words, `Settings` or a `Result` to begin with.
    control, reference
        The pictures that lead what is made, given as for `sdkit.generate`; None takes those of a `Result` in `prompt`.
    memory
        Bytes of pictures that are remembered, so that going back is instant.
    **changes
        Fields of `Settings` to begin with, such as ``seed=7``.

    Attributes
    ----------
    result
        The picture on show, as a `Result`; None before the first one.
    settings
        What was asked for last.
    favourites
        The results with a star, in the order in which they were made.
    worker
        The thread behind the panel; ``worker.join()`` waits until the picture is finished.

    Notes
    -----
    A panel computes small networks on one core, a cell on all, so their pictures may differ by rounding: one level of 255
    in a few pixels.

    Examples
    --------
    >>> from sdkit.widgets import PromptExplorer
    >>> explorer = PromptExplorer(pipe, "a fox in the snow", steps=4)
    >>> explorer.worker.join()  # in a notebook, nobody waits for it
    True
    >>> explorer.result.settings.prompt
    'a fox in the snow'
    """

    _esm = module("prompt.js")
    limits = traitlets.Dict().tag(sync=True)
    asked = traitlets.Dict().tag(sync=True)
    words = traitlets.Dict().tag(sync=True)
    history = traitlets.List().tag(sync=True)
    pinned = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        pipe: Any,
        prompt: str | Settings | Result = _FIRST,
        *,
        control: Picture | Sequence[Picture] | None = None,
        reference: Picture | Sequence[Picture] | None = None,
        memory: int = MEMORY,
        **changes: Any,
    ) -> None:
        self.result: Result | None = None
        self._entries: list[_Entry] = []
        self._numbers = count(1)
        self._turn = threading.RLock()  # the history is written by the worker and by messages
        self.guides = guides_in(control, reference, prompt)
        self.settings = complete(pipe, prompt, **changes)
        super().__init__(pipe, memory, limits=limits(pipe))
        self.make(self.settings)

    def make(self, settings: Settings | None = None, **changes: Any) -> None:
        """Ask for a picture from Python, as the controls do.

        Parameters
        ----------
        settings
            What to make; by default what was asked for last.
        **changes
            Fields to change.
        """
        self._moving = False
        self._ask((settings or self.settings).replace(**changes), by="kernel")

    @property
    def favourites(self) -> list[Result]:
        """The results with a star."""
        return [entry.favourite for entry in self._entries if entry.favourite is not None]

    def still(self) -> tuple[Image.Image, Settings] | None:
        """Return the picture on show and its settings."""
        return None if self.result is None else (self.result.image, self.result.settings)

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write one HTML file with the model inside, which makes pictures in any browser, without Python or a network.

        Parameters
        ----------
        path
            File name ending in ``.html``; an existing file is replaced.

        Returns
        -------
        pathlib.Path
            What was written: for Pocket some 38 MB, which begin with the settings of this panel.

        Raises
        ------
        CannotSave
            For another suffix, a missing folder or a full disk; nothing half-written stays.
        InvalidSettings
            For pipelines that are not built as Pocket is, or are too large for a page.
        MissingExtra
            If `onnx` (extra ``fast``) or the npm package `onnxruntime-web` is missing and cannot be fetched.
        """
        with lock_of(self.pipe):  # the panel's worker may be computing with it
            return write(self.pipe, path, self.settings)

    def __repr__(self) -> str:
        """Name the panel and its prompt."""
        return f"<PromptExplorer: {self.settings.prompt[:60]!r}, {len(self._entries)} pictures>"

    # -- messages --------------------------------------------------------------------------------------------------

    def _do_set(self, values: dict[str, Any], by: str = "", *, moving: bool = False) -> None:
        self._moving = moving
        changes = {
            name: value for name, value in values.items() if name in _IN_CODE or name == "prompt"
        }
        same_seed = changes.get("seed", self.settings.seed) == self.settings.seed
        changes["noise"] = self.settings.noise if same_seed else None
        self._ask(self.settings.replace(**changes, variation_seed=None, variation_amount=0.0), by)

    def _do_show(self, number: int) -> None:
        self._moving = False
        if entry := self._find(number):
            self._ask(entry.settings, by="kernel")

    def _do_go(self, way: int) -> None:
        """Undo (-1) and redo (1): the neighbour of the picture on show."""
        numbers = [entry.number for entry in self._entries]
        here = (
            numbers.index(self.view["number"])
            if self.view.get("number") in numbers
            else len(numbers)
        )
        if 0 <= here + way < len(numbers):
            self._do_show(numbers[here + way])

    def _do_star(self, number: int) -> None:
        entry = self._find(number)
        if entry is None:
            return
        known = entry.made()
        if entry.favourite is None and known is None:
            raise InvalidSettings(
                "That picture is no longer in memory: click it first, then give it its star."
            )
        entry.favourite = known if entry.favourite is None else None
        self._tell_history()

    def _do_pin(self) -> None:
        self.pinned = (
            {}
            if self.pinned or not self.view
            else {key: self.view[key] for key in ("picture", "caption")}
        )

    def _do_save(self) -> None:
        if self.result is None:
            raise InvalidSettings("There is no picture yet: wait for the first one.")
        self.note = f"Saved as {self.result.save_all(Path())[0]}, with its settings inside."

    def _ask(self, settings: Settings, by: str) -> None:
        self.settings = settings
        self.asked = {**{name: getattr(settings, name) for name in (*_IN_CODE, "prompt")}, "by": by}
        self.words = words_of(self.pipe, settings.prompt)
        self.ask(settings, settled=not self._moving)

    # -- in the worker's thread ------------------------------------------------------------------------------------

    def _show(self, asked: Asked, result: Result) -> None:
        with self._turn:
            before, self.result = self.result, result
            entry = self._entry_of(asked.first, result)
            if entry is not None and result is before and entry.number == self.view.get("number"):
                return  # it is on show: a hand that lets go asks again for what it had asked for
            if entry is None and not self._moving:
                picture, small = shown(result.image), thumbnail(result.image)
                entry = _Entry(
                    next(self._numbers), asked.first, small, picture, weakref.ref(result)
                )
                self._entries.append(entry)
                self._forget_oldest()
            self.view = {
                "picture": entry.picture if entry else passing(result.image),
                "number": entry.number if entry else 0,
                "caption": caption([result.settings], result.seconds),
                "prompt": result.settings.prompt,
                "code": as_code(result.settings, "explorer"),
            }
            self._tell_history()

    def _entry_of(self, settings: Settings, result: Result) -> _Entry | None:
        """The place of a picture in the history, made to show it; a favourite keeps its own picture."""
        found = [entry for entry in self._entries if entry.settings.same_picture(settings)]
        for entry in found:
            if (
                entry.favourite is not None
                and entry.favourite.image.tobytes() == result.image.tobytes()
            ):
                return entry
        plain = next((entry for entry in found if entry.favourite is None), None)
        if plain is not None:
            plain.renew(result)
        return plain

    def _forget_oldest(self) -> None:
        plain = [entry for entry in self._entries if entry.favourite is None]
        for entry in plain[: max(0, len(plain) - _LONGEST_HISTORY)]:
            self._entries.remove(entry)

    def _tell_history(self) -> None:
        with self._turn:
            self.history = [
                {
                    "number": entry.number,
                    "picture": entry.thumbnail,
                    "prompt": entry.settings.prompt,
                    "caption": caption([entry.settings]),
                    "favourite": entry.favourite is not None,
                }
                for entry in self._entries
            ]

    def _find(self, number: int) -> _Entry | None:
        return next((entry for entry in self._entries if entry.number == number), None)


def as_code(settings: Settings, panel: str) -> str:
    """Return the call that makes a picture with these settings again: every value that matters, nothing implied.

    Pictures that lead it are those of a panel under that name.
    """
    plain = Settings()
    values = {name: getattr(settings, name) for name in _IN_CODE}
    told = [
        f"{name}={value!r}"
        for name, value in values.items()
        if name == "seed" or value != getattr(plain, name)
    ]
    led = [name for name in ("control", "reference") if getattr(settings, name)]
    told += [f"{name}={panel}.guides.{name}" for name in led]
    if "control" in led:
        told.append(f"control_scale={settings.control_scale!r}")
    return f"sdkit.generate(pipe, {', '.join([repr(settings.prompt), *told])})"


def words_of(pipe: Any, prompt: str) -> dict[str, Any]:
    """Return the words of a prompt, with what the model makes of each.

    Returns
    -------
    dict
        ``words``: a list of ``{"text", "kind", "hint"}`` in which the texts make up the prompt again, and ``kind`` is
        ``"known"``, ``"unknown"`` (to Pocket), ``"cut"`` (behind the end of what the encoder reads) or ``"space"``;
        ``used`` and ``limit``: tokens.
    """
    tokenizer: Any = getattr(pipe, "tokenizer", None)
    if not getattr(tokenizer, "is_fast", False):
        return {"words": [{"text": prompt, "kind": "known", "hint": ""}], "used": 0, "limit": 0}
    tokenizer = own_copy(tokenizer)  # the panel's worker encodes at the same time
    unknown = pocket.unknown_words(prompt) if is_pocket(pipe) else {}
    words, place = [], 0
    for word in read_prompt(tokenizer, prompt).words:
        start = prompt.index(word.text, place)
        if start > place:
            words.append({"text": " ", "kind": "space", "hint": ""})
        place = start + len(word.text)
        words.append({"text": word.text, **_judged(word, unknown.get(word.text.lower()))})
    return {
        "words": words,
        "used": len(tokenizer(prompt, verbose=False)["input_ids"]) - 2,
        "limit": tokenizer.model_max_length - 2,
    }


def _judged(word: Word, near: tuple[str, ...] | None) -> dict[str, str]:
    """What the model makes of a word, and the sentence that says so."""
    if word.cut:
        return {"kind": "cut", "hint": "behind the end of what the model reads"}
    if near is not None:
        return {
            "kind": "unknown",
            "hint": "Pocket has never seen it"
            + (f"; do you mean {' or '.join(near)}?" if near else ""),
        }
    return {
        "kind": "known",
        "hint": f"read as {' + '.join(word.pieces)}" if len(word.pieces) > 1 else "",
    }
