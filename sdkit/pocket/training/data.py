"""Training data from seeds: scene number *n* is always the same scene, rendered once, on all processor cores."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from random import Random

import numpy as np
from numpy.typing import NDArray

from sdkit.pocket.world import Scene, objects, random_scene

from .draw import render
from .presets import Preset

__all__ = ["batches", "masks", "pictures", "scene", "training_scenes"]


_NEWS = 0.6  # share of the curriculum's scenes that hold new kinds only, where a run adds kinds to what its start knew


def scene(
    preset: Preset, number: int, *, singles: float = 0.0, training: bool = True, new: int = 0
) -> Scene:
    """Scene `number` of a preset; a share `singles` of scenes is made to hold one object only (the curriculum).

    If the last `new` kinds are new to the network, most scenes show these.
    """
    rng = Random(f"{preset.name}-{training}-{number}")
    kinds = objects(preset.objects)
    if new and rng.random() < _NEWS:
        kinds = kinds[-new:]
    composition = "single" if rng.random() < singles else None
    return random_scene(
        rng,
        kinds,
        training=training,
        composition=composition,
        hands=preset.hands,
        loose=preset.loose,
    )


def training_scenes(preset: Preset, shard: int, new: int = 0) -> list[Scene]:
    """The scenes of one shard. The first quarter of the shards are the curriculum: names first, then relations.

    They hold mostly single objects, and mostly the last `new` kinds if those are to be added to what is known.
    """
    singles, new = (0.7, new) if shard < preset.shards // 4 else (0.0, 0)
    first = shard * preset.shard
    return [scene(preset, n, singles=singles, new=new) for n in range(first, first + preset.shard)]


def _render(work: tuple[list[Scene], int]) -> NDArray[np.uint8]:
    scenes, side = work
    return np.stack([(render(s, side).image * 255 + 0.5).astype(np.uint8) for s in scenes])


def _outline(scene_: Scene) -> NDArray[np.uint8]:
    plain = render(Scene(scene_.items, "white", hand=scene_.hand), 32).masks
    first, second = (plain[:1], plain[1:]) if scene_.relation else (plain, plain[:0])
    cover = [
        np.maximum.reduce(part) if part else np.zeros((32, 32), np.float32)
        for part in (first, second)
    ]
    return (np.stack(cover).reshape(2, 16, 2, 16, 2).mean((2, 4)) * 255 + 0.5).astype(np.uint8)


def masks(scenes: list[Scene]) -> NDArray[np.uint8]:
    """Where the objects are, `(N, 2, 16, 16)` bytes: the first kind (all of its number), and the second or nothing."""
    return np.stack([_outline(s) for s in scenes])


def pictures(scenes: list[Scene], side: int) -> NDArray[np.uint8]:
    """Render scenes to `(N, side, side, 3)` bytes."""
    work = [(scenes[i : i + 256], side) for i in range(0, len(scenes), 256)]
    cores = min(
        int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1), len(work)
    )  # who limits torch means us too
    if cores < 2:  # also for a handful of scenes, where starting processes costs more than drawing
        return np.concatenate([_render(w) for w in work])
    with ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("forkserver")) as pool:
        return np.concatenate(list(pool.map(_render, work)))


def batches(count: int, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Index batches over a shuffled range, dropping the ragged end."""
    order = rng.permutation(count)
    for start in range(0, count - size + 1, size):
        yield order[start : start + size]
