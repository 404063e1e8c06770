"""Ask a model the same thing at many moments of its training.

The one decision: **only the weights change.** Words, seed, noise and solver are those of one pipeline, into which the weights
of each moment are put, so that whatever differs from picture to picture was learned in between.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sdkit.errors import InvalidSettings
from sdkit.generation import generate
from sdkit.pictures.files import path_of
from sdkit.pipelines.families import denoiser_of
from sdkit.pocket import history

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from numpy.typing import NDArray

    from sdkit.result import Result
    from sdkit.settings import Settings

__all__ = ["Learned", "learned"]


@dataclass(frozen=True)
class Learned:
    """One prompt and seed, as a model made it at several moments of its training.

    Attributes
    ----------
    moments
        Scenes seen in training, first to last.
    results
        The `Result` of each moment, with attention.
    """

    moments: tuple[int, ...]
    results: tuple[Result, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the prompt."""
        return tuple(self.results[-1].attention.words)

    def grown(self) -> dict[tuple[str, int], NDArray[np.float64]]:
        """How far the attention of each word has come to where it ends, ``(moments,)``, by word and which of its kind.

        It is the correlation of a word's map with its map at the last moment, over all places; below 0 counts as 0. 1 is
        reached at the end by definition, 0 is no likeness.
        """
        found = {}
        for key in _keys(self.words):
            maps = np.stack([r.attention[key].ravel() for r in self.results]).astype(float)
            maps -= maps.mean(1, keepdims=True)
            sizes = np.linalg.norm(maps, axis=1)
            likeness = maps @ maps[-1] / np.maximum(sizes * sizes[-1], 1e-12)
            found[key] = likeness.clip(0, 1)
        return found


def _keys(words: tuple[str, ...]) -> list[tuple[str, int]]:
    return [(word, words[:n].count(word)) for n, word in enumerate(words)]


def learned(
    folder: str | os.PathLike[str],
    prompt: str | Settings = "a cat on a purple background",
    *,
    pipe: DiffusionPipeline | None = None,
    progress: bool = True,
    **changes: Any,
) -> Learned:
    """Make one prompt with the weights of every moment that a history holds.

    Parameters
    ----------
    folder
        A history, as ``python -m sdkit.pocket.train`` writes it: the folder ``history`` of a run.
    prompt
        Words or `Settings`.
    pipe
        A pipeline of the run's preset, such as its ``weights`` opened with ``sdkit.load``; Pocket by default. Its weights are
        put back afterwards.
    progress
        Show a progress bar.
    **changes
        Fields of `Settings`, such as ``seed=3``.

    Raises
    ------
    InvalidSettings
        If the folder holds no history, or one of networks of another shape; no weights are changed then.
    """
    from tqdm.auto import tqdm

    from sdkit.models.load import load

    place = path_of(folder)
    moments = history.moments_of(place)
    if not moments:
        raise InvalidSettings(
            f"The folder '{place}' holds no history of a training; give the folder 'history' of a run of sdkit.pocket.train."
        )
    pipe = pipe if pipe is not None else load()
    both = torch.nn.ModuleDict({"text": pipe.text_encoder, "unet": denoiser_of(pipe)})
    own = {name: value.clone() for name, value in both.state_dict().items()}
    results = []
    told = history.backwards(place, own)
    try:
        for _, weights in tqdm(
            told, total=len(moments), desc="history", leave=False, disable=not progress
        ):
            _put(both, own, weights, str(place))
            results.append(generate(pipe, prompt, attention=True, progress=False, **changes))
    finally:
        both.load_state_dict(own)
    return Learned(moments, tuple(reversed(results)))


def _put(
    both: torch.nn.Module,
    own: dict[str, torch.Tensor],
    weights: dict[str, torch.Tensor],
    place: str,
) -> None:
    """Load weights of one moment, or say that they belong to other networks."""
    floats = {name: value for name, value in own.items() if value.is_floating_point()}
    other = next(
        (n for n, v in floats.items() if n not in weights or weights[n].shape != v.shape), None
    )
    if other is not None:
        raise InvalidSettings(
            f"The history in '{place}' is of other networks than this pipeline ({other} differs); give the pipeline of its run as pipe=…."
        )
    both.load_state_dict({name: weights[name] if name in floats else own[name] for name in own})
