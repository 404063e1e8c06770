"""`WalkExplorer`: a list of keyframes, and the walk between them, to be looked through while it is being made.

The one decision: the slider is a **place on the way**, not a frame number. Frames arrive coarse to fine, and the one
nearest to the place is shown, so that scrubbing works from the second frame on and nothing jumps when more arrive.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import traitlets

from sdkit.errors import InvalidSettings
from sdkit.pictures.card import compressed
from sdkit.pictures.files import safe_name
from sdkit.pictures.guides import guides_in
from sdkit.pictures.sheet import resized

from .explorer import module
from .portable import Portable
from .studio import MEMORY, Asked, Studio, complete, limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from sdkit.pictures.sources import Picture
    from sdkit.result import Result
    from sdkit.settings import Settings
    from sdkit.walks.walk import Walk

    from .jobs import Job

__all__ = ["WalkExplorer"]

_BUDGET: Final = 180_000  # bytes of all frames in the panel
_SIDES: Final = (
    256,
    192,
    128,
    96,
    64,
)  # pixels of a frame in the panel: the largest that fits the budget
_BATCH: Final = 4  # frames made together: small, so that new ones are seen often
_MOST_FRAMES: Final = 96
_MOST_KEYFRAMES: Final = 12
_OPTIONS: Final = ("frames", "words", "noise", "pacing", "loop")


@dataclass(frozen=True)
class _Way(Asked):
    """Keyframes, how to go between them, and what to do with the walk."""

    options: tuple[tuple[str, Any], ...] = ()
    film: Path | None = None  # export the walk instead of making it


class WalkExplorer(Studio, Portable):
    """Edit keyframes and paths; look through the walk while it is made; play it, loop it, export it.

    Parameters
    ----------
    pipe
        A pipeline with a UNet (SD 1.x, SD 2.x, SDXL), from `sdkit.load()` or your own.
    keyframes
        Two to twelve prompts, `Settings` or `Result`.
    control, reference
        The pictures that lead every frame; None takes those of the results among the keyframes.
    frames, words, noise, pacing, loop
        As for `sdkit.interpolate`.
    memory
        Bytes of walks that are remembered.
    **changes
        Fields of `Settings` for all keyframes. Without ``steps``, drafts take half as many as a final picture.

    Attributes
    ----------
    walk
        The finished `Walk`; None before the first one.

    Examples
    --------
    >>> from sdkit.widgets import WalkExplorer
    >>> explorer = WalkExplorer(pipe, ["a cat in the snow", "a fox at night"], frames=5, steps=4)
    >>> explorer.worker.join()  # in a notebook, nobody waits for it
    True
    >>> len(explorer.walk)
    5
    """

    _esm = module("walk.js")
    limits = traitlets.Dict().tag(sync=True)
    asked = traitlets.Dict().tag(sync=True)
    live = traitlets.Bool(default_value=True).tag(sync=True)

    def __init__(
        self,
        pipe: Any,
        keyframes: Sequence[str | Settings | Result] = (
            "a cat on a purple background",
            "a fox in the snow",
        ),
        *,
        frames: int = 16,
        words: str = "aligned",
        noise: str = "slerp",
        pacing: str = "even",
        loop: bool = False,
        control: Picture | Sequence[Picture] | None = None,
        reference: Picture | Sequence[Picture] | None = None,
        memory: int = MEMORY,
        **changes: Any,
    ) -> None:
        _check_keyframes(keyframes)
        self.guides = guides_in(control, reference, *keyframes)
        self.walk: Walk | None = None
        self._films = count(1)
        self._encoded: dict[Any, bytes] = {}
        self._encoded_of: Walk | None = None
        self.keyframes = [complete(pipe, keyframe, **changes) for keyframe in keyframes]
        if "steps" not in changes:
            half = max(1, (self.keyframes[0].steps or 2) // 2)
            self.keyframes = [k.replace(steps=half) for k in self.keyframes]
        self.options: dict[str, Any] = {
            "frames": frames,
            "words": words,
            "noise": noise,
            "pacing": pacing,
            "loop": loop,
        }
        super().__init__(pipe, memory, limits={**limits(pipe), **_choices()})
        self._go("kernel")

    def still(self) -> tuple[Image.Image, Settings] | None:
        """Return a filmstrip of the walk, and the settings of its first keyframe."""
        return None if self.walk is None else (self.walk.sheet(), self.keyframes[0])

    def __repr__(self) -> str:
        """Name the panel and its walk."""
        return f"<WalkExplorer: {len(self.keyframes)} keyframes, {self.options['frames']} frames>"

    # -- messages --------------------------------------------------------------------------------------------------

    def _do_set(
        self, keyframes: list[dict[str, Any]], options: dict[str, Any], by: str = ""
    ) -> None:
        _check_keyframes(keyframes)
        base = self.keyframes[0].replace(steps=options.get("steps", self.keyframes[0].steps))
        self.keyframes = [base.replace(prompt=k["prompt"], seed=k["seed"]) for k in keyframes]
        self.options |= {name: options[name] for name in _OPTIONS if name in options}
        self._go(by)

    def _do_export(self, suffix: str) -> None:
        if self.walk is None:
            raise InvalidSettings("There is no walk yet: wait until it is finished.")
        if suffix not in {".mp4", ".gif", ".webp"}:
            raise InvalidSettings(f"A walk is exported as .mp4, .gif or .webp, not {suffix!r}.")
        stem = safe_name(self.keyframes[0].prompt, self.keyframes[0].seed) + "-walk"
        names = (Path(f"{stem}{'' if n == 1 else f'-{n}'}{suffix}") for n in count(1))
        self.worker.submit(
            _Way(
                tuple(self.keyframes),
                next(self._films),
                film=next(p for p in names if not p.exists()),
            )
        )

    def _go(self, by: str) -> None:
        keyframes = [{"prompt": k.prompt, "seed": k.seed} for k in self.keyframes]
        self.asked = {
            "keyframes": keyframes,
            "steps": self.keyframes[0].steps,
            **self.options,
            "by": by,
        }
        options = {**self.options, "frames": max(int(self.options["frames"]), len(keyframes))}
        self.worker.submit(
            _Way(tuple(self.keyframes), self.condition(), options=tuple(options.items()))
        )

    # -- in the worker's thread ------------------------------------------------------------------------------------

    def _make(self, asked: Asked, job: Job) -> Any:
        from sdkit.walks.interpolation import interpolate

        assert isinstance(asked, _Way)  # noqa: S101 - this panel asks for nothing else
        if asked.film is not None:
            assert self.walk is not None  # noqa: S101 - checked when it was asked for
            return self.walk.save(
                asked.film, scale=max(1, 512 // max(self.walk[0].size)), progress=False
            )

        def on_frame(walk: Walk) -> None:
            job.report({"step": len(walk), "total": walk.plan.frames, "frames": self._told(walk)})

        return interpolate(
            self.pipe,
            list(asked.settings),
            on_frame=on_frame,
            batch_size=_BATCH,
            progress=False,
            **self.guides.asked(),
            **dict(asked.options),
        )

    def _show(self, asked: Asked, result: Any) -> None:
        if isinstance(result, Path):
            self.note = f"Saved as {result}."
            return
        self.walk = result
        self.view = {"frames": self._told(result), "loop": result.plan.loop, "code": self._code()}

    def _told(self, walk: Walk) -> list[dict[str, Any]]:
        """Every frame there is, with its place on the way in 0..1."""
        if walk is not self._encoded_of:  # another run's frames may lie at the same places
            self._encoded, self._encoded_of = {}, walk
        side = next(
            (s for s in _SIDES if walk.plan.frames * _size_of_frame(s) <= _BUDGET), _SIDES[-1]
        )
        for n, place in enumerate(walk.places):
            if place not in self._encoded:
                image = walk[n]
                self._encoded[place] = compressed(
                    resized(
                        image, min(1.0, side / max(image.size)) if max(image.size) > side else 1
                    ),
                    85,
                )[1]
        whole = walk.plan.segments or 1
        return [{"at": place[0] / whole, "picture": self._encoded[place]} for place in walk.places]

    def _code(self) -> str:
        first = self.keyframes[0]
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        for name in (name for name in ("control", "reference") if getattr(self.guides, name)):
            options += f", {name}=explorer.guides.{name}"
        prompts, seeds = [k.prompt for k in self.keyframes], [k.seed for k in self.keyframes]
        return (
            f"sdkit.interpolate(pipe, {prompts!r}, seeds={seeds!r}, {options}, "
            f"steps={first.steps!r}, guidance_scale={first.guidance_scale!r})"
        )

    @staticmethod
    def _bytes(result: Any) -> int:
        if isinstance(result, Path):
            return 2**62  # an export is not remembered
        return sum(1 for _ in result.places) * result[0].width * result[0].height * 3


def _size_of_frame(side: int) -> int:
    return 400 + side * side // 6  # bytes of a WebP of quality 85, measured on pictures of Pocket


def _choices() -> dict[str, Any]:
    from sdkit.walks.pacing import EASINGS
    from sdkit.walks.paths import NOISE_PATHS, WORD_PATHS

    return {
        "words": list(WORD_PATHS),
        "noise": [*NOISE_PATHS, "circle"],
        "pacing": ["even", *EASINGS],
        "frames": _MOST_FRAMES,
        "keyframes": _MOST_KEYFRAMES,
    }


def _check_keyframes(keyframes: Sequence[Any]) -> None:
    if isinstance(keyframes, str) or not 2 <= len(keyframes) <= _MOST_KEYFRAMES:
        number = 1 if isinstance(keyframes, str) else len(keyframes)
        raise InvalidSettings(
            f"A walk in this panel has 2 to {_MOST_KEYFRAMES} keyframes, and {number} was given."
        )
