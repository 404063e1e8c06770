"""`AttentionExplorer`: hover a word and see where it was looked at; click the picture and see which words looked there.

With a pipeline, a word's light can be pushed elsewhere, and the picture forms anew around it.

The one decision: **all maps are sent once**, as bytes, and small: parts (a step, a layer, a head) on as fine a grid as a
fixed budget allows. Hovering then needs no kernel, neither in the notebook nor in the page of `to_html`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import traitlets
from PIL import Image

from sdkit.errors import InvalidSettings

from .explorer import module
from .portable import Portable
from .studio import MEMORY, Asked, Studio, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from sdkit.settings import Settings

    from .jobs import Job

    Maps = NDArray[np.float32]  # (words, h, w) in 0..1

__all__ = ["AttentionExplorer"]

_BUDGET: Final = (
    180_000  # bytes of maps: a third more in base64, and the notebook still stays below 400 kB
)
_FINEST: Final = 64  # pixels a side: more than any cross-attention grid of a 512×512 picture
_COARSEST: Final = 6


@dataclass(frozen=True)
class _Push(Asked):
    """Where the light of some words goes."""

    places: tuple[tuple[int, tuple[float, float]], ...] = ()


class AttentionExplorer(Studio, Portable):
    """Where each word of a prompt was looked at.

    Parameters
    ----------
    result
        A `Result` made with ``attention=True``, or `AttentionMaps`. Sliders for steps and heads appear where the maps
        were kept apart: ``generate(pipe, "…", attention={"steps": True, "heads": True})``.
    pipe
        The pipeline that made the result, if it has a UNet. With it, a word that is chosen can be dragged over the picture, or
        moved by the arrow keys, and `sdkit.push_attention` makes the picture with its object there.
    memory
        Bytes of pushed pictures that are remembered.

    Attributes
    ----------
    maps
        The `AttentionMaps` behind the panel.
    result
        The picture on show: what was given, or its latest push.

    Raises
    ------
    InvalidSettings
        If the result holds no attention, or with a pipeline no settings.
    CannotCapture
        If the light of this pipeline's words cannot be pushed.

    Examples
    --------
    >>> from sdkit.widgets import AttentionExplorer
    >>> r = sdkit.generate(pipe, "a red car on a beach", steps=4, attention={"steps": True})
    >>> path = AttentionExplorer(r).to_html("attention.html")  # works without a kernel
    """

    _esm = module("attention.js")
    data = traitlets.Bytes().tag(sync=True)
    live = traitlets.Bool(default_value=True).tag(sync=True)
    moved = traitlets.Dict().tag(sync=True)

    def __init__(self, result: Any, pipe: Any = None, *, memory: int = MEMORY) -> None:
        self.maps: Any = result if hasattr(result, "words") else getattr(result, "attention", None)
        if self.maps is None:
            raise InvalidSettings(
                "This result holds no attention: make it again with generate(..., attention=True)."
            )
        self._settings: Settings | None = getattr(result, "settings", None)
        if pipe is not None:
            _check(pipe, self._settings)
        self.result = self._source = result
        self._places: dict[int, tuple[float, float]] = {}
        words = list(self.maps.words)
        if not words:
            raise InvalidSettings(
                "The prompt of this picture has no words, so nothing was looked at; give it some."
            )
        whole = np.stack([self.maps[key] for key in _keys(words)])
        image = (
            self.maps.image
            or getattr(result, "image", None)
            or Image.new("RGB", whole.shape[:0:-1], "#808080")
        )
        parts = _parts(self.maps, words)
        planes, data = _packed({"all": whole, **parts})
        view = {
            "words": _numbered(words),
            "picture": shown(image),
            "width": image.width,
            "height": image.height,
            "planes": planes,
            "pushes": pipe is not None,
            **_names(parts),
        }
        self._picture = image
        super().__init__(pipe, memory, view=view, data=data)

    def still(self) -> tuple[Image.Image, Settings] | None:
        """Return the picture, and its settings."""
        from sdkit.settings import Settings

        prompt = str(getattr(getattr(self.maps, "prompt", None), "text", " ".join(self.maps.words)))
        return self._picture, self._settings or Settings(prompt)

    def __repr__(self) -> str:
        """Name the panel and the number of words."""
        return f"<AttentionExplorer: {len(self.maps.words)} words>"

    # -- pushing -----------------------------------------------------------------------------------------------------

    def _do_push(self, word: int, x: float, y: float) -> None:
        if self.pipe is None or self._settings is None or not 0 <= word < len(self.maps.words):
            return
        self._places = {**self._places, word: (round(float(x), 3), round(float(y), 3))}
        self.worker.submit(
            _Push((self._settings,), self.condition(), places=tuple(self._places.items())),
            settled=True,
        )

    def _do_restore(self) -> None:
        self.worker.cancel()
        self._places = {}
        self._put(self._source, self.view["picture"])

    def _make(self, asked: Asked, job: Job) -> Any:
        from sdkit.experiments.pushing import push_attention

        assert isinstance(asked, _Push)  # noqa: S101 - this panel asks for nothing else
        return push_attention(
            self.pipe,
            self._source,
            {self.maps.words[word]: place for word, place in asked.places},
            on_step=self._watch(job, asked.first),
            progress=False,
        )

    def _show(self, asked: Asked, result: Any) -> None:
        assert isinstance(asked, _Push)  # noqa: S101
        self._places = dict(asked.places)
        self._put(result, shown(result.image))

    def _ended(self) -> None:
        """The light goes back to where the picture on show has it."""
        self._places = {int(word): tuple(place) for word, place in self.moved.get("places", ())}

    def _put(self, result: Any, picture: bytes) -> None:
        self.result, self._picture = result, result.image
        self.moved = {"picture": picture, "places": [[w, list(p)] for w, p in self._places.items()]}
        self._refresh_still()


def _check(pipe: Any, settings: Settings | None) -> None:
    """Raise in one sentence what pushing would fail at."""
    from sdkit.experiments.riding import layers_that_follow

    if settings is None:
        raise InvalidSettings(
            "Pushing makes the picture again, which needs its settings: give the Result instead of its maps, or leave the pipeline out."
        )
    layers_that_follow(pipe, settings)


def _parts(maps: Any, words: list[str]) -> dict[str, Maps]:
    """Everything that was kept apart, by key: ``step:0``, ``layer:NAME``, ``head:NAME:0``."""
    found: dict[str, Maps] = {}
    steps = _kept(maps.by_step, words)
    if steps is not None:
        stacked = np.stack(steps, axis=1)  # (steps, words, h, w)
        found |= {f"step:{n}": step for n, step in enumerate(stacked)}
    for kind, by in (("layer", maps.by_layer), ("head", maps.by_head)):
        each = _kept(by, words)
        for name in each[0] if each is not None else ():
            stacked = np.stack([one[name] for one in each or ()], axis=-3)  # ([heads,] words, h, w)
            if kind == "layer":
                found[f"layer:{name}"] = stacked
            else:
                found |= {f"head:{name}:{n}": head for n, head in enumerate(stacked)}
    return found


def _kept(by: Any, words: list[str]) -> list[Any] | None:
    try:
        return [by(word) for word in words]
    except InvalidSettings:  # the maps say that these were not kept apart
        return None


def _names(parts: Iterable[str]) -> dict[str, Any]:
    """Which steps, layers and heads there are, for the sliders."""
    keys = [key.split(":") for key in parts]
    layers = [key[1] for key in keys if key[0] == "layer"]
    heads = {name: sum(key[0] == "head" and key[1] == name for key in keys) for name in layers}
    return {"steps": sum(key[0] == "step" for key in keys), "layers": layers, "heads": heads}


def _packed(maps: Mapping[str, Maps]) -> tuple[dict[str, list[Any]], bytes]:
    """Turn maps into one run of bytes, and say where each lies: ``[offset, rows, columns, strongest value]``.

    All maps of a key share one scale, so that words can be compared; each value is one byte.
    """
    side = next((s for s in range(_FINEST, _COARSEST, -2) if _bytes(maps, s) <= _BUDGET), _COARSEST)
    planes: dict[str, list[Any]] = {}
    data = bytearray()
    for key, values in maps.items():
        small = np.stack([_reduced(one, _FINEST if key == "all" else side) for one in values])
        top = float(small.max()) or 1.0
        planes[key] = [len(data), small.shape[1], small.shape[2], top]
        data += np.clip(small / top * 255, 0, 255).round().astype(np.uint8).tobytes()
    return planes, bytes(data)


def _bytes(maps: Mapping[str, Maps], side: int) -> int:
    limits = {key: _FINEST if key == "all" else side for key in maps}
    return sum(
        m.shape[0] * min(m.shape[1], limits[k]) * min(m.shape[2], limits[k])
        for k, m in maps.items()
    )


def _reduced(one: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Average a map down to at most `side` pixels a side, in its own proportions."""
    rows, columns = one.shape
    scale = min(1.0, side / max(rows, columns))
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    image = Image.fromarray(np.ascontiguousarray(one, dtype=np.float32))
    return np.asarray(image.resize(size, Image.Resampling.BOX), dtype=np.float32)


def _keys(words: list[str]) -> list[str | tuple[str, int]]:
    """What to ask the maps for: the word, or the word and which one where it stands more than once."""
    return [
        (word, words[:n].count(word)) if words.count(word) > 1 else word
        for n, word in enumerate(words)
    ]


def _numbered(words: list[str]) -> list[str]:
    """Tell words apart that stand more than once: ``car``, ``car (2)``."""
    seen: dict[str, int] = {}
    told = []
    for word in words:
        seen[word] = seen.get(word, 0) + 1
        told.append(word if seen[word] == 1 else f"{word} ({seen[word]})")
    return told
