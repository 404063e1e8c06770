"""Pictures made elsewhere: by any `concurrent.futures.Executor`, in other processes or on other machines.

The one decision: **settings go out, PNG files and JSON come back.** Pipelines and tensors never travel; each worker loads the
model once and keeps it. So any executor will do, and a picture does not depend on who made it. What a worker itself
reports (a setting that cannot work) is final; a worker that is lost costs its pictures one more try.
"""

from __future__ import annotations

import io
import json
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from functools import wraps
from typing import TYPE_CHECKING, Any

from . import __version__
from .errors import InvalidSettings, SdkitError, WorkerFailed
from .models.identity import model_name, origin
from .pictures.metadata import open_picture
from .pipelines.families import denoiser_of
from .result import Result
from .settings import Settings

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from PIL import Image

    from .pictures.guides import Guides

__all__ = [
    "errand",
    "make_elsewhere",
    "make_pictures",
    "model_of",
    "pipeline_of",
    "png",
    "scatter",
    "sent",
]

Reply = tuple[str, list[bytes]]  # JSON, files
Work = Callable[..., tuple[dict[str, Any], list[bytes]]]

_loaded: dict[str, Any] = {}  # the worker's pipeline, by what it was loaded from
_loading = threading.Lock()  # a Dask worker may have several threads


# -- on this side ----------------------------------------------------------------------------------------------------


def make_elsewhere(
    executor: Executor,
    pipe: DiffusionPipeline,
    groups: Sequence[Sequence[Settings]],
    *,
    image: Image.Image | None = None,
    mask: Image.Image | None = None,
) -> Iterator[tuple[int, Result]]:
    """Make groups of pictures on the workers of an executor.

    Parameters
    ----------
    executor
        Any `concurrent.futures.Executor`. Its workers need sdkit in this version, and the model within their reach.
    pipe
        Names the model, its precision and its scheduler; it does not run itself.
    groups
        Complete settings; those of a group are handed to one worker together.
    image, mask
        As for `sdkit.generate`.

    Yields
    ------
    tuple
        Number of a group and its result, in the order in which they are finished. A picture is the same as here to about
        1e-5: another processor, or another number of threads, adds in another order.

    Raises
    ------
    WorkerFailed
        With the settings, if a worker reports an error, or is lost twice with the same group.
    InvalidSettings
        If the workers could not load this pipeline.
    """
    tasks = [{"settings": [s.to_dict() for s in group]} for group in groups]
    for number, about, files in sent(
        executor, pipe, make_pictures, tasks, (image, mask), tell=lambda n: _told(groups[n])
    ):
        yield (
            number,
            Result(
                [open_picture(data) for data in files],
                [
                    s.replace(**facts)
                    for s, facts in zip(groups[number], about["facts"], strict=True)
                ],
                seconds={"total": about["seconds"]},
                notes=about["notes"],
                flagged=about["flagged"],
                source=image,
                mask=mask,
            ),
        )


def sent(
    executor: Executor,
    pipe: DiffusionPipeline,
    function: Callable[..., Reply],
    tasks: Sequence[dict[str, Any]],
    pictures: Sequence[Image.Image | None],
    *,
    tell: Callable[[int], str],
) -> Iterator[tuple[int, dict[str, Any], list[bytes]]]:
    """Send errands to the workers of an executor.

    Parameters
    ----------
    executor, pipe
        As for `make_elsewhere`.
    function
        Made with `errand`.
    tasks
        What each errand is, as JSON values.
    pictures
        Sent along with each.
    tell
        What an errand is, in words, for an error.

    Yields
    ------
    tuple
        Number of an errand, and what came of it: JSON values and files. In the order in which they are finished.

    Raises
    ------
    WorkerFailed, InvalidSettings
        As `make_elsewhere`.
    """
    common = {"version": __version__, "model": model_of(pipe)}
    files = [None if picture is None else png(picture) for picture in pictures]
    jobs = [(json.dumps(common | task), *files) for task in tasks]
    for number, (text, made) in scatter(executor, function, jobs, tell=tell):
        about = json.loads(text)
        if "error" in about:
            raise WorkerFailed(f"A worker could not make {tell(number)}: {about['error']}")
        yield number, about, made


def scatter(
    executor: Executor,
    function: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    *,
    tell: Callable[[int], str],
) -> Iterator[tuple[int, Any]]:
    """Run a function on an executor for every job; a job whose worker is lost is tried once more, alone.

    Parameters
    ----------
    executor
        Any `concurrent.futures.Executor`. A `ProcessPoolExecutor` that breaks is replaced by a new one like it.
    function
        Importable where the workers run; called as ``function(*job)``. What it raises counts as a lost worker, so it
        should report its own errors in what it returns.
    jobs
        Arguments of each call.
    tell
        What a job is, in words, for an error.

    Yields
    ------
    tuple
        Number of a job and what the function returned, in the order in which they are finished.

    Raises
    ------
    WorkerFailed
        If a job lost its worker twice.
    InvalidSettings
        For a pool of processes that forks.
    """
    _refuse_forks(executor)
    pool = _Pool(executor)
    try:
        lost: dict[int, Exception] = {}
        for number, value, error in pool.run(function, jobs, range(len(jobs)), pool.room):
            if error is not None:
                lost[number] = error
            else:
                yield number, value
        # One after the other: if one of them brings its worker down again, it is certain which.
        for number, value, error in pool.run(function, jobs, list(lost), 1):
            if error is not None:
                raise WorkerFailed(
                    f"Two workers were lost with {tell(number)} ({_line(error)})."
                ) from error
            yield number, value
    finally:
        pool.close()


_PARTS = ("vae", "safety_checker", "config", "memory")  # what `load` takes besides


def check_unled(guides: Guides) -> None:
    """Raise if control pictures or references lead what is to be made elsewhere."""
    if guides.control or guides.reference:
        raise InvalidSettings(
            "Workers load models by name, without ControlNets and adapters; leave executor= out with control= or reference=."
        )


def model_of(pipe: DiffusionPipeline) -> dict[str, Any]:
    """What a worker must know to load the same pipeline, as JSON values; hand it to `pipeline_of` there.

    Raises
    ------
    InvalidSettings
        If the pipeline was changed in a way that a worker could not repeat, or comes from nowhere.
    """
    from .pipelines.guiding import adapters_of, controls_of  # brings torch

    network = denoiser_of(pipe)
    if getattr(network, "peft_config", None):
        raise InvalidSettings(
            "This pipeline carries LoRA adapters, which workers do not have; fuse them, save it with pipe.save_pretrained(folder), and load that folder."
        )
    if adapters_of(pipe) or controls_of(pipe):
        raise InvalidSettings(
            "This pipeline carries IP-Adapters or networks for control pictures, which workers do not have; make its pictures here."
        )
    found = origin(pipe)
    if found is None:
        raise InvalidSettings(
            f"Workers cannot tell where {model_name(pipe)!r} comes from; load it with sdkit.load(name) of a hub id or a folder that they can read."
        )
    scheduler = {k: v for k, v in pipe.scheduler.config.items() if not k.startswith("_")}
    return {
        "name": found.name,
        "revision": found.revision,
        "variant": found.variant,
        **{name: value for name in _PARTS if (value := getattr(found, name)) is not None},
        "dtype": str(network.dtype).removeprefix("torch."),
        "scheduler": [
            type(pipe.scheduler).__name__,
            json.loads(json.dumps(scheduler, default=list)),
        ],
    }


def _refuse_forks(executor: Any) -> None:
    """Refuse a pool that forks, Linux's own choice up to Python 3.13.

    A forked process inherits the locks of torch's threads but not the threads: its first picture waits for ever.
    """
    context: Any = getattr(executor, "_mp_context", None)
    if (
        isinstance(executor, ProcessPoolExecutor)
        and context is not None
        and context.get_start_method() == "fork"
    ):
        raise InvalidSettings(
            'This ProcessPoolExecutor forks, and forked processes hang once torch has run; make it with ProcessPoolExecutor(…, mp_context=multiprocessing.get_context("spawn")).'
        )


class _Pool:
    """An executor, or the one that took its place when its processes broke."""

    def __init__(self, executor: Executor) -> None:
        self.given = self.now = executor
        # A pool of processes breaks as a whole, so only few jobs are given to it at a time: enough to keep it busy.
        # Others know which worker is lost, and plan better when they see everything.
        self.room = _workers(executor) + 1 if isinstance(executor, ProcessPoolExecutor) else 10_000
        self.proven = True  # has given a result since it was made

    def run(
        self, function: Any, jobs: Any, numbers: Any, room: int
    ) -> Iterator[tuple[int, Any, Exception | None]]:
        """Run some jobs, `room` at a time; say of each what it returned, or how it was lost."""
        waiting, futures = deque(numbers), dict[Future[Any], int]()
        try:
            while waiting or futures:
                while waiting and len(futures) < room:
                    number = waiting.popleft()
                    futures[self._submit(function, jobs[number])] = number
                # in the order of submission: what was finished before a job that failed is kept
                for future in sorted(
                    wait(futures, return_when=FIRST_COMPLETED).done, key=futures.__getitem__
                ):
                    number, error = futures.pop(future), future.exception()
                    if error is not None and not isinstance(error, Exception):
                        raise error  # an interrupt
                    self.proven |= error is None
                    yield number, None if error else future.result(), error
        finally:
            for future in futures:
                future.cancel()

    def _submit(self, function: Any, job: Any) -> Future[Any]:
        try:
            return self.now.submit(_call, uuid.uuid4().hex, function, *job)
        except BrokenExecutor as error:
            if not isinstance(self.given, ProcessPoolExecutor) or not self.proven:
                raise WorkerFailed(
                    f"The workers cannot be started again ({_line(error)})."
                ) from error
            self.close()
            self.now, self.proven = _renewed(self.given), False
            return self.now.submit(_call, uuid.uuid4().hex, function, *job)

    def close(self) -> None:
        """Stop the processes that were started here; the caller's executor stays the caller's."""
        if self.now is not self.given:
            self.now.shutdown(wait=False, cancel_futures=True)


def _workers(pool: Any) -> int:
    count: int = pool._max_workers
    return count


def _renewed(pool: Any) -> ProcessPoolExecutor:
    """A pool like the one that broke. The standard library offers no way to ask, so this reads its fields."""
    return ProcessPoolExecutor(
        pool._max_workers,
        mp_context=pool._mp_context,
        initializer=pool._initializer,
        initargs=pool._initargs,
        max_tasks_per_child=pool._max_tasks_per_child,
    )


def _call(_ticket: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function. The ticket is never the same: Dask merges equal calls, and would answer a second try with the first."""
    return function(*args)


def _told(group: Sequence[Settings]) -> str:
    return f"the picture with the settings {group[0].to_json()}" + (
        f" and {len(group) - 1} more" if group[1:] else ""
    )


def _line(error: BaseException) -> str:
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def png(picture: Image.Image) -> bytes:
    """A picture as a file, little compressed."""
    file = io.BytesIO()
    picture.save(file, "png", compress_level=1)
    return file.getvalue()


# -- on the worker's side ----------------------------------------------------------------------------------------------


def errand(work: Work) -> Callable[..., Reply]:
    """Make a function that runs on a worker out of one that takes the worker's pipeline, a task and pictures.

    Its errors travel as text, because not every exception can be unpickled on the other side.
    """

    @wraps(work)
    def run(job: str, *files: bytes | None) -> Reply:
        task = json.loads(job)
        if task["version"] != __version__:
            told = f"it has sdkit {__version__}, not {task['version']}; install the same on both"
            return json.dumps({"error": told}), []
        try:
            pictures = [None if data is None else open_picture(data) for data in files]
            about, made = work(pipeline_of(task["model"]), task, *pictures)
        except Exception as error:  # noqa: BLE001
            return json.dumps(
                {"error": str(error) if isinstance(error, SdkitError) else _line(error)}
            ), []
        return json.dumps(about), made

    return run


@errand
def make_pictures(
    pipe: Any,
    task: dict[str, Any],
    image: Image.Image | None = None,
    mask: Image.Image | None = None,
) -> tuple[dict[str, Any], list[bytes]]:
    """Make one group of pictures."""
    from .generation import generate

    wanted = [Settings.from_dict(s) for s in task["settings"]]
    result = generate(pipe, wanted, image=image, mask=mask, progress=False, batch_size=len(wanted))
    about = {
        "seconds": result.seconds,
        "notes": result.notes,
        "flagged": [r.flagged for r in result],
        "facts": [
            s.facts() for s in result.all_settings
        ],  # such as what this worker did to save memory
    }
    return about, [png(picture) for picture in result.images]


def pipeline_of(model: dict[str, Any]) -> DiffusionPipeline:
    """The worker's pipeline: loaded on the first call, on the worker's best device, and kept until another is asked for.

    Parameters
    ----------
    model
        From `model_of`.
    """
    import diffusers
    import torch

    from .models.load import load

    key = json.dumps(model, sort_keys=True)
    with _loading:
        if key not in _loaded:
            _loaded.clear()  # first: two models may not fit into one card's memory
            pipe = load(
                model["name"],
                revision=model["revision"],
                variant=model["variant"],
                **{name: model[name] for name in _PARTS if name in model},
                dtype=getattr(torch, model["dtype"]),
            )
            kind, config = model["scheduler"]
            pipe.scheduler = getattr(diffusers, kind).from_config(config)
            _loaded[key] = pipe
        return _loaded[key]
