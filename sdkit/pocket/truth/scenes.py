"""Scenes whose truth can be seen in the picture: two objects on a card whose colour neither has."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from sdkit.pocket.training.draw import render
from sdkit.pocket.training.presets import Preset
from sdkit.pocket.world import COLOURS, Scene, caption, objects, random_scene

__all__ = ["Case", "cases", "overlap", "segmentation", "true_masks", "two_object_scenes"]

Mask = NDArray[np.bool_]
_VIVID = ("red", "orange", "yellow", "green", "blue", "purple", "pink")


@dataclass(frozen=True)
class Case:
    """A scene, the prompt that describes it, and the seed of its picture."""

    scene: Scene
    prompt: str
    seed: int

    @property
    def words(self) -> tuple[str, ...]:
        """The objects' names, as they stand in the prompt."""
        return tuple(item.kind.name for item in self.scene.items)


def cases(preset: Preset, count: int) -> list[Case]:
    """`count` scenes with prompts; always the same ones."""
    rng = Random("truth")
    return [
        Case(s, caption(s, rng, name_home=True), seed)
        for seed, s in enumerate(two_object_scenes(preset, count))
    ]


def two_object_scenes(preset: Preset, count: int) -> list[Scene]:
    """Scenes with two objects on a plain background whose colour neither has.

    That is seen by drawing the scene, whose exact masks are known: both objects must be there again (IoU of at least
    0.8) after `true_masks`. Otherwise the icing of a donut on a pink card is missing in the mask, not in the map.
    """
    rng, kinds = Random("attention"), objects(preset.objects)
    found: list[Scene] = []
    while len(found) < count:
        s = random_scene(rng, kinds, training=False, composition="pair", hands=preset.hands)
        plain = s.style == "plain" and s.background in _VIVID
        if plain and min(segmentation(s, preset.side)) >= 0.8:
            found.append(s)
    return found


def segmentation(scene: Scene, side: int = 64) -> list[float]:
    """How well `true_masks` finds each object in the scene as drawn: IoU with the exact mask."""
    drawn = render(scene, side)
    found = true_masks((255 * drawn.image).astype(np.uint8), scene)
    return [overlap(mask, exact > 0.5) for mask, exact in zip(found, drawn.masks, strict=True)]


def overlap(a: Mask, b: Mask) -> float:
    """Intersection over union."""
    return float((a & b).sum() / max(1, (a | b).sum()))


def true_masks(picture: NDArray[np.uint8], scene: Scene) -> tuple[Mask, Mask]:
    """Masks `(H, W)` of the first and the second object: what differs from the background, on the side where each stands.

    Shade is allowed for: a pixel belongs to the background if some brightness of the background's colour matches it.
    """
    from scipy import ndimage

    pixels = picture.astype(np.float32) / 255
    colour = np.array(COLOURS[scene.background], np.float32)
    scale = np.clip((pixels @ colour) / (colour @ colour), 0.6, 1.1)[..., None]
    thing = np.abs(pixels - scale * colour).max(-1) > 0.16
    thing = ndimage.binary_fill_holes(ndimage.binary_opening(thing))
    side = len(picture)
    rows, columns = np.mgrid[:side, :side]
    first = {
        "left": columns < side / 2,
        "beside": columns < side / 2,
        "right": columns >= side / 2,
        "above": rows < side / 2,
        "below": rows >= side / 2,
    }[scene.relation or "left"]
    return thing & first, thing & ~first
