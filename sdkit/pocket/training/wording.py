"""What training says of a scene: a caption, sometimes no words at all, sometimes one word that means nothing."""

from __future__ import annotations

import random

from sdkit.pocket.world import Scene, caption

__all__ = ["wording"]

_DROPOUT = 0.1  # of captions, replaced by "": guidance needs a model that also knows no words
_NOISE_WORDS = 0.05  # of captions, with a made-up word put in: unknown words should do little


def wording(scene: Scene, rng: random.Random) -> str:
    """One sentence for a scene, as the text encoder gets it while it learns."""
    if rng.random() < _DROPOUT:
        return ""
    text = caption(scene, rng)
    if rng.random() < _NOISE_WORDS:
        pieces = text.split()
        pieces.insert(
            rng.randrange(len(pieces) + 1),
            "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 9))),
        )
        text = " ".join(pieces)
    return text
