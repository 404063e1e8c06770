"""What explorers that make pictures share: one worker, a memory of results, live previews.

The one decision: **nothing is computed where the browser's message arrives.** A message becomes a request, the worker
makes it in its own thread, and its events become traits. What was made before comes back from memory, unless the
pipeline has changed since.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import traitlets
from torch import get_num_threads

from sdkit.generation import notes_only
from sdkit.models.defaults import defaults
from sdkit.pictures.card import compressed
from sdkit.pictures.guides import NO_GUIDES
from sdkit.pictures.metadata import fingerprint
from sdkit.pictures.sheet import readable, resized
from sdkit.pipelines.condition import condition
from sdkit.pipelines.schedulers import scheduler_name, suiting
from sdkit.settings import SCHEDULERS, Settings

from .explorer import Explorer
from .jobs import Cache, Event, Job, Worker
from .working import on_one_core, stoppable

if TYPE_CHECKING:
    from PIL import Image

    from sdkit.pipelines.run import OnStep
    from sdkit.result import Result

__all__ = ["DECODED", "MEMORY", "Asked", "Studio", "complete", "passing", "shown", "thumbnail"]

MEMORY: Final = (
    64 * 2**20
)  # bytes of remembered results: 1,000 pictures of Pocket, 60 of Stable Diffusion
DECODED: Final = (
    160 * 160
)  # pixels: up to here previews go through the autoencoder, which takes 10 ms each
_PREVIEW_SHARE: Final = 0.05  # of the time goes into previews at most
_SOON: Final = 0.2  # seconds to the end from which on news of it would only delay the picture
_TOLD_EVERY: Final = 0.1  # seconds; what the browser paints it takes from the run
_THUMBNAIL: Final = 96  # pixels


@dataclass(frozen=True)
class Asked:
    """A request: equal ones give the same pictures."""

    settings: tuple[Settings, ...] = field(compare=False)
    condition: int  # of the pipeline, when it was asked
    image: Image.Image | None = field(
        default=None, compare=False
    )  # the settings hold the fingerprints of both
    mask: Image.Image | None = field(default=None, compare=False)
    recipes: tuple[Settings, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Compare what makes the pictures, not what is told about them."""
        object.__setattr__(self, "recipes", tuple(s.recipe() for s in self.settings))

    @property
    def first(self) -> Settings:
        """The settings of the first picture."""
        return self.settings[0]


class Studio(Explorer):
    """An explorer with a pipeline.

    Attributes
    ----------
    step
        ``{"step": 3, "total": 20, "picture": …}`` during a run; empty when nothing runs.
    worker
        The `sdkit.widgets.jobs.Worker`; ``worker.join()`` waits for what was asked.
    """

    step = traitlets.Dict().tag(sync=True)
    guides = NO_GUIDES  # what leads every picture of the panel
    _moving = False  # pictures on the way of a drag enter neither a history nor the notebook

    def __init__(self, pipe: Any, memory: int = MEMORY, **traits: Any) -> None:
        self.pipe = pipe
        self.cache = Cache(memory, self._bytes)
        self.worker = Worker(self._work, self._hear, cache=self.cache)
        self._threads = get_num_threads()  # the notebook's own
        self._condition: int | None = None  # of the pipeline, at the last request
        self._stored: Any = None  # the view that the notebook has a still of
        super().__init__(**traits)

    def close(self) -> None:
        """Stop the worker, forget all results, and leave the last picture where the panel stood."""
        if hasattr(self, "worker"):  # ipywidgets closes a half-made widget too
            self.worker.close()
            self.cache.clear()
        super().close()

    def ask(
        self,
        *settings: Settings,
        image: Image.Image | None = None,
        mask: Image.Image | None = None,
        settled: bool = False,
    ) -> None:
        """Ask for pictures, from words or from a picture; whatever was asked before is outdated."""
        if image is not None:
            task = "image-to-image" if mask is None else "inpainting"
            sums = {
                "source": fingerprint(image),
                "mask": None if mask is None else fingerprint(mask),
            }
            settings = tuple(s.replace(task=task, **sums) for s in settings)
        self.worker.submit(Asked(settings, self.condition(), image, mask), settled=settled)

    def condition(self) -> int:
        """Return the pipeline's condition for a request; a run that began in another one is stopped."""
        now = condition(self.pipe)
        if self._condition not in (None, now):
            self.worker.cancel()
        self._condition = now
        return now

    def _do_stop(self) -> None:
        self.worker.cancel()

    # -- in the worker's thread --------------------------------------------------------------------------------------

    def _work(self, asked: Asked, job: Job) -> Any:
        # the panel shows these sentences itself; a warning from a thread would land under some other cell
        with notes_only(), on_one_core(self.pipe, self._threads), stoppable(self.pipe, job.check):
            made = self._make(asked, job)
        if asked.condition != condition(self.pipe):
            job.forget()  # the pipeline was changed after the request, so the picture answers no other one
        return made

    def _make(self, asked: Asked, job: Job) -> Any:
        """Make what was asked for."""
        from sdkit.generation import generate

        return generate(
            self.pipe,
            list(asked.settings),
            image=asked.image,
            mask=asked.mask,
            progress=False,
            on_step=self._watch(job, asked.first),
            **self.guides.asked(),
        )

    def _watch(self, job: Job, settings: Settings, **more: Any) -> OnStep:
        """Return what is called at every step: it stops an outdated run, and shows one that goes on."""
        ended = told = float("-inf")
        cost, start = 0.0, time.perf_counter()
        exact = (settings.width or 0) * (settings.height or 0) <= DECODED

        def on_step(step: int, total: int, decode: Callable[..., Image.Image]) -> None:
            nonlocal ended, told, cost
            job.check()
            picture, began = None, time.perf_counter()
            if (began - start) * (total - step) / step <= _SOON:
                return
            if (began - ended) * _PREVIEW_SHARE >= cost:
                picture = compressed(decode(exact=exact), quality=80)[1]
                ended = time.perf_counter()
                cost = ended - began
            if picture or began - told >= _TOLD_EVERY:
                told = began
                job.report({"step": step, "total": total, "picture": picture, **more})

        return on_step

    def _hear(self, event: Event) -> None:
        if self._closed:
            return
        if event.kind == "start":
            self.message = self.note = ""
            self.step = {"step": 0, "total": event.request.first.steps, "picture": None}
        elif event.kind == "step":
            self.step = event.value
        else:
            try:
                self._end(event)
            finally:
                self.step = {}
            if event.kind == "done" and not self._moving and self.view is not self._stored:
                self._stored = self.view
                self._refresh_still()  # last, because the page lays out anew what it gets

    def _end(self, event: Event) -> None:
        """Show how a run ended."""
        if event.kind == "done":
            self.error, self.message, self.note = (
                None,
                "",
                " ".join(getattr(event.value, "notes", ())),
            )
            self._show(event.request, event.value)
            return
        self._ended()
        if event.kind == "failed":
            self._complain(event.value)

    def _show(self, asked: Asked, result: Result) -> None:
        """Show what was asked for."""
        raise NotImplementedError

    def _ended(self) -> None:
        """Show what there is after a run that was stopped or failed."""

    @staticmethod
    def _bytes(result: Any) -> int:
        """How much memory a result takes."""
        latents = 0 if result.latents is None else result.latents.nbytes
        pictures = sum(
            image.width * image.height * len(image.getbands()) for image in result.images
        )
        return int(latents + pictures)


def complete(pipe: Any, asked: str | Settings | Result, **changes: Any) -> Settings:
    """Return settings in which everything that a control can show has a value."""
    settings = (
        asked
        if isinstance(asked, Settings)
        else getattr(asked, "settings", None) or Settings(str(asked))
    )
    return defaults(pipe).fill(settings.replace(**changes)).replace(model=None, version=None)


def limits(pipe: Any) -> dict[str, Any]:
    """Return what the controls offer for this pipeline."""
    own = defaults(pipe)
    sides = [(own.width, own.height)]
    sides += [
        (_to8(own.width * x), _to8(own.height * y)) for x, y in ((1.5, 1), (1, 1.5), (1.5, 1.5))
    ]
    named = scheduler_name(pipe)
    return {
        "steps": max(2 * own.steps, 20),
        "guidance": max(12.0, 2 * (own.guidance_scale or 0)),
        "sizes": [list(side) for side in dict.fromkeys(sides)],
        "schedulers": [[key, SCHEDULERS[key]] for key in suiting(pipe)]
        or [["", "the model's own"]],
        "scheduler": named or "",
    }


def shown(image: Image.Image) -> bytes:
    """Encode a finished picture in the size to show it."""
    return compressed(readable([image]), effort=0)[1]


def passing(image: Image.Image) -> bytes:
    """Encode a picture that the next one of a drag will replace at once: the page enlarges it."""
    return compressed(image, effort=0)[1]


def thumbnail(image: Image.Image, side: int = _THUMBNAIL) -> bytes:
    """Encode a picture for a strip or a sheet."""
    return compressed(resized(image, side / max(image.size)), quality=80)[1]


def _to8(side: float) -> int:
    return round(side / 8) * 8
