"""`HistoryExplorer`: a second slider, for training: when a word was learned, and its attention growing onto its object.

The one decision: every picture and map is **made before the panel shows**, because weights have to be changed for each. What
is dragged afterwards needs no kernel, neither in the notebook nor in the page of `to_html`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import traitlets

from sdkit.experiments.learning import Learned, learned
from sdkit.pictures.card import caption

from .explorer import module
from .portable import Portable
from .studio import shown, thumbnail

if TYPE_CHECKING:
    import os

    from PIL import Image

    from sdkit.settings import Settings

__all__ = ["HistoryExplorer"]

_FINEST: Final = 32  # pixels a side of a map: no attention of Pocket is finer


class HistoryExplorer(Portable):
    """One prompt and seed at every moment of a training that was kept.

    Parameters
    ----------
    folder
        A history that ``python -m sdkit.pocket.train`` wrote, or what `sdkit.experiments.learning.learned` gave.
    prompt
        Words or `Settings`.
    **options
        As for `learned`: ``pipe``, ``progress``, and fields of `Settings` such as ``seed=3``.

    Attributes
    ----------
    learned
        The pictures and maps behind the panel.

    Raises
    ------
    InvalidSettings
        As `learned`.

    Examples
    --------
    A training leaves such a folder behind; here two moments are made up, one of them with weak weights.

    >>> from pathlib import Path
    >>> from torch.nn import ModuleDict
    >>> from sdkit.pocket import history
    >>> from sdkit.widgets import HistoryExplorer
    >>> weights = ModuleDict({"text": pipe.text_encoder, "unet": pipe.unet}).state_dict()
    >>> for scenes, share in ((1_000, 0.9), (50_000, 1.0)):
    ...     moment = {k: w * share for k, w in weights.items() if w.is_floating_point()}
    ...     file = history.keep(Path("history"), scenes, moment)
    >>> HistoryExplorer("history", "a cat in the snow", steps=4, progress=False)
    <HistoryExplorer: 2 moments, 1,000 to 50,000 scenes>
    """

    _esm = module("history.js")
    live = traitlets.Bool(default_value=True).tag(sync=True)

    def __init__(
        self,
        folder: str | os.PathLike[str] | Learned,
        prompt: str | Settings = "a cat on a purple background",
        **options: Any,
    ) -> None:
        made = folder if isinstance(folder, Learned) else learned(folder, prompt, **options)
        self.learned = made
        last = made.results[-1]
        grown = made.grown()
        super().__init__(
            view={
                "moments": list(made.moments),
                "pictures": [shown(r.image) for r in made.results],
                "thumbs": [thumbnail(r.image) for r in made.results],
                "width": last.image.width,
                "height": last.image.height,
                "words": [
                    {
                        "text": word if made.words.count(word) == 1 else f"{word} ({n + 1})",
                        "grown": [round(float(x), 3) for x in grown[word, n]],
                        **_packed([r.attention[word, n] for r in made.results]),
                    }
                    for word, n in grown
                ],
                "caption": caption([last.settings]),
            }
        )

    def still(self) -> tuple[Image.Image, Settings] | None:
        """Return the last picture, and its settings."""
        return self.learned.results[-1].image, self.learned.results[-1].settings

    def __repr__(self) -> str:
        """Name the panel and its span."""
        moments = self.learned.moments
        return (
            f"<HistoryExplorer: {len(moments)} moments, {moments[0]:,} to {moments[-1]:,} scenes>"
        )


def _packed(maps: list[np.ndarray[Any, Any]]) -> dict[str, Any]:
    """Maps of one word as bytes `(moments, rows, columns)` on one scale, so that they can be seen to grow."""
    stack = np.stack(maps).astype(np.float32)
    step = max(1, -(-max(stack.shape[1:]) // _FINEST))
    rows, columns = (n // step for n in stack.shape[1:])
    small = stack[:, : rows * step, : columns * step]
    small = small.reshape(len(stack), rows, step, columns, step).mean((2, 4))
    top = float(small.max()) or 1.0
    data = np.round(small / top * 255).clip(0, 255).astype(np.uint8).tobytes()
    return {"maps": data, "rows": rows, "columns": columns}
