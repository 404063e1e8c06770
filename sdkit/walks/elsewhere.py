"""Frames of a walk made by other processes or machines: recipes go out, pictures come back."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

import numpy as np

from sdkit.executors import errand, png, sent
from sdkit.pictures.metadata import open_picture

from .frames import Frame, render
from .route import Recipe

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["make_frames", "render_elsewhere"]


def render_elsewhere(
    executor: Executor, pipe: Any, recipes: Sequence[Recipe], size: int, image: Image.Image | None
) -> Iterator[tuple[int, list[Frame]]]:
    """Make frames on the workers of an executor.

    Parameters
    ----------
    executor, pipe
        As for `sdkit.executors.make_elsewhere`.
    recipes
        One for each frame.
    size
        Frames that one worker makes together.
    image
        What image-to-image starts from.

    Yields
    ------
    tuple
        Frames that were made together, and the number of the first; in the order in which they are finished.

    Raises
    ------
    WorkerFailed, InvalidSettings
        As `sdkit.executors.make_elsewhere`.
    """
    groups = [recipes[n : n + size] for n in range(0, len(recipes), size)]
    tasks = [{"recipes": [recipe.to_dict() for recipe in group]} for group in groups]

    def tell(number: int) -> str:
        return f"the frame with the settings {groups[number][0].settings.to_json()}"

    for number, about, files in sent(executor, pipe, make_frames, tasks, [image], tell=tell):
        made = zip(files[::2], files[1::2], about["flags"], strict=True)
        yield (
            number * size,
            [Frame(open_picture(file), _array(latents), flag) for file, latents, flag in made],
        )


@errand
def make_frames(
    pipe: Any, task: dict[str, Any], image: Image.Image | None = None
) -> tuple[dict[str, Any], list[bytes]]:
    """Make one group of frames; of each a PNG file, and its latents as a NumPy file."""
    made = render(pipe, [Recipe.from_dict(r) for r in task["recipes"]], image=image)
    return {"flags": [f.flagged for f in made]}, [
        data for f in made for data in (png(f.image), _file(f.latents))
    ]


def _file(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array.astype(np.float16), allow_pickle=False)  # as a walk's folder keeps them
    return file.getvalue()


def _array(data: bytes) -> Any:
    return np.load(io.BytesIO(data), allow_pickle=False)
