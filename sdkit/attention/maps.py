"""Attention of one picture, read by words.

The design decision: `AttentionMaps` is frozen data on the CPU, and narrowing it (to a step, a layer, a head) gives
another `AttentionMaps`, so that every question can be asked of every part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdkit.errors import InvalidSettings
from sdkit.pictures.gallery import Gallery
from sdkit.pipelines.tokens import Prompt

from .overlay import overlay
from .parts import Concepts, LayerMaps, pick, stretched

if TYPE_CHECKING:
    Floats = NDArray[np.float32]

__all__ = ["AttentionMaps"]

_EMPTY_WORDS = {
    "a", "an", "the", "of", "on", "in", "at", "to", "with", "and", "or", "by", "for", "from", "is", "are", "as",
    "it", "its", "this", "that", "next", "left", "right", "above", "below", "under", "over", "beside", "behind",
    "front", "background",
}  # fmt: skip
_THRESHOLD = 0.3  # of the strongest pixel: where a word "is"; the benchmark's table shows others


@dataclass(frozen=True)
class AttentionMaps:
    """Where each word of a prompt was looked at while one picture was made.

    ``maps["car"]`` is a float32 array `(H, W)` in 0..1: the share of its attention that each pixel gave to the word
    (to all its pieces), averaged over steps, heads and the layers of `default_layers`. ``maps["red car"]`` takes words that follow
    each other, ``maps["car", 1]`` the second of several.

    Raises
    ------
    InvalidSettings
        When a word does not stand in the prompt, or what is asked for was not kept; the sentence says how to keep it.
    """

    prompt: Prompt
    layers: tuple[LayerMaps, ...]
    timesteps: tuple[float, ...] = ()
    size: tuple[int, int] = (0, 0)  # width and height of the picture in pixels
    steps: Mapping[str, NDArray[np.float16]] | None = None  # group → (steps, h, w, tokens)
    points: tuple[tuple[float, float], ...] = ()
    image: Image.Image | None = None
    beside: AttentionMaps | None = None  # maps of `concepts`

    # -- words -------------------------------------------------------------------------------------------------------

    @property
    def concepts(self) -> AttentionMaps:
        """Where words stand that the prompt need not have, as in ``maps.concepts["dragon"]``, `(H, W)` float32 in 0..1.

        A value is the cosine of the angle between what a patch took from the prompt and what the concept would have
        given it, 0 where it is obtuse; the mean over steps and over the layers of the whole decoder (or of a whole
        transformer). It does not depend on which other concepts were asked for. On 200 of Pocket's scenes with two
        objects (`benchmarks/attention.py`), both asked for as concepts beside three that are not there (IoU above half the peak):

        =================================== ============= ================ ====
        way                                 peak inside   above all absent IoU
        =================================== ============= ================ ====
        angle of outputs, decoder (this)    97.8 %        97.8 %           0.65
        angle of outputs, decoder 16×16     93.8 %        91.2 %           0.68
        softmax over the concepts' outputs  90.8 %        76.8 %           0.59
        softmax over the concepts' keys     56.0 %        32.0 %           0.23
        =================================== ============= ================ ====

        Raises
        ------
        InvalidSettings
            If none were looked for; concepts have to be named before the run.
        """
        if self.beside is None:
            raise InvalidSettings(
                "No concepts were looked for; name them before the run: capture_attention(pipe, concepts=['sky', "
                "'dragon']), or generate(..., attention={'concepts': ['sky', 'dragon']})."
            )
        return replace(self.beside, image=self.image)

    @property
    def words(self) -> list[str]:
        """The words of the prompt that the text encoder has read, in order, without punctuation."""
        return [w.text for w in self.prompt.words if w.spoken and not w.cut]

    def __getitem__(self, key: str | tuple[str, int]) -> Floats:
        """Attention to a word, `(H, W)` float32 in 0..1."""
        word, occurrence = key if isinstance(key, tuple) else (key, None)
        return self.word(word, occurrence=occurrence)

    def word(
        self,
        word: str,
        *,
        occurrence: int | None = None,
        normalize: bool = False,
        size: tuple[int, int] | None = None,
    ) -> Floats:
        """Attention to a word or to several that follow each other.

        Parameters
        ----------
        word
            As it stands in the prompt, in any case.
        occurrence
            Which one, counted from 0; None takes the mean of all.
        normalize
            Divide by the strongest value, so that the map reaches 1.
        size
            Width and height of the map; None takes the picture's.

        Returns
        -------
        numpy.ndarray
            `(H, W)` float32 in 0..1.
        """
        positions = self._positions(word, occurrence)
        small = [pick(layer.words, positions) for layer in self.default_layers]
        total: Floats = np.mean(
            [stretched(m, size or self.size) for m in small], axis=0, dtype=np.float32
        )
        return total / np.float32(max(float(total.max()), 1e-12)) if normalize else total

    def _positions(self, word: str, occurrence: int | None = None) -> list[tuple[int, ...]]:
        """For each occurrence, for each of its words, nothing but their positions, flattened by word."""
        return [w.positions for group in self.prompt.find(word, occurrence) for w in group]

    @cached_property
    def default_layers(self) -> tuple[LayerMaps, ...]:
        """The layers that a map averages by default, those of the decoder (``up``) with 16 to 32 patches a side.

        Chosen by `benchmarks/attention.py`, which measures on pictures with two objects whose places are known how
        often a map's peak lies inside the right one, and how well the map (above 0.3 of its peak) covers it. Found
        for Pocket, 200 prompts (400 objects, so that one point of the peaks is 4 of them):

        ================================== ============= ====
        layers, steps, heads               peak inside   IoU
        ================================== ============= ====
        decoder 16×16, all steps and heads 98.8 %        0.78
        whole decoder                      98.2 %        0.72
        decoder 8×8                        97.5 %        0.55
        encoder 8×8                        97.5 %        0.34
        middle 4×4                         7.5 %         0.12
        decoder 16×16, first 5 of 20 steps 98.2 %        0.77
        decoder 16×16, last 5 of 20 steps  99.0 %        0.78
        decoder 16×16, one of its 4 heads  94.5–99.5 %   0.41–0.80
        ================================== ============= ====

        The grid decides. Steps hardly differ, so all are averaged; heads do, but no single one is best at both, and
        which one does what is learned anew by every model, so all are averaged too. Pocket was trained to look at
        its objects, other models were not: these numbers are its own.
        Coarser grids blur, and in larger models finer ones show texture (Hertz et al., arXiv:2208.01626, use 16×16).
        Where a network has no such layers, it is the finest ones of its decoder; in transformers, which have one
        stage only, all.
        """
        kept = [layer for layer in self.layers if layer.words is not None]
        if not kept:
            raise InvalidSettings(
                "No attention to words was kept; capture with the default layers."
            )
        ups = [layer for layer in kept if layer.group.startswith("up")]
        if isinstance(self.prompt, Concepts):
            return tuple(ups or kept)
        finest = max((max(layer.grid) for layer in ups), default=0)
        middling = [layer for layer in ups if 16 <= max(layer.grid) <= 32]
        return tuple(middling or [layer for layer in ups if max(layer.grid) == finest] or kept)

    def shares(self) -> dict[str, float]:
        """Which share of all attention went to the start token, to each word, to the end token and to the padding.

        Words that stand more than once are numbered: ``"car (2)"``. The values add up to 1. In joint attention patches
        also look at patches; there the last entry is ``"picture and padding"``. Of concepts it is the mean of each map.
        """
        if isinstance(self.prompt, Concepts):
            return {word: float(self[word].mean()) for word in self.words}
        each = np.mean(
            [layer.words.mean((0, 1)) for layer in self.default_layers if layer.words is not None],
            axis=0,
        )

        def share(positions: Iterable[int]) -> float:
            return float(sum(each[p] for p in positions if p < len(each)))

        table = {"start": share(self.prompt.start)}
        for word in (w for w in self.prompt.words if not w.cut):
            name = _unused(word.text, table)
            table[name] = share(word.positions)
        table["end"] = share(self.prompt.end)
        joint = any(layer.back is not None for layer in self.layers)
        return table | {
            "picture and padding" if joint else "padding": max(0.0, 1 - sum(table.values()))
        }

    # -- parts -------------------------------------------------------------------------------------------------------

    def by_step(self, word: str) -> Floats:
        """Attention to a word at every step, `(steps, h, w)`, on the finest grid that was kept for steps."""
        if not self.steps:
            raise InvalidSettings("Steps were not kept apart; capture with steps=True.")
        groups = [g for g in self.steps if g.startswith("up")] or list(self.steps)
        positions = self._positions(word)
        grid = max((self.steps[g].shape[1:3] for g in groups), key=lambda s: s[0] * s[1])
        series = [pick(self.steps[g].astype(np.float32), positions) for g in groups]
        return np.stack(
            [
                np.mean([stretched(s[n], grid[::-1]) for s in series], 0)
                for n in range(len(series[0]))
            ],
            dtype=np.float32,
        )

    def by_layer(self, word: str) -> dict[str, Floats]:
        """Attention to a word in every layer by name, each `(h, w)` on the layer's own grid."""
        positions = self._positions(word)
        return {m.name: pick(m.words, positions) for m in self.layers if m.words is not None}

    def by_head(self, word: str) -> dict[str, Floats]:
        """Attention to a word in every head of every layer, each `(heads, h, w)`."""
        kept = {m.name: m.heads for m in self.layers if m.heads is not None}
        if not kept:
            raise InvalidSettings("Heads were not kept apart; capture with heads=True.")
        positions = self._positions(word)
        return {name: pick(heads, positions) for name, heads in kept.items()}

    def looked_by(self, word: str) -> Floats:
        """Where a word looked in the picture, `(H, W)` float32 in 0..1 (joint attention only: Stable Diffusion 3, Flux)."""
        found = [m.back for m in self.layers if m.back is not None]
        if not found:
            raise InvalidSettings(
                "Words look at the picture in joint attention only (Stable Diffusion 3, Flux); a UNet has none."
            )
        positions = self._positions(word)
        return np.mean(
            [stretched(pick(np.moveaxis(b, 0, -1), positions), self.size) for b in found],
            axis=0,
            dtype=np.float32,
        )

    def at(
        self, *, step: int | None = None, layer: str | None = None, head: int | None = None
    ) -> AttentionMaps:
        """The maps of one step (by number), one layer or group (by name, or the part of a name), or one head.

        Steps are kept by group, heads by layer; a step and a head together were never kept.
        """
        if step is not None and head is not None:
            raise InvalidSettings(
                "Steps are kept as the mean of heads, heads as the mean of steps; ask for one of them."
            )
        layers = self.layers
        if step is not None:
            if not self.steps:
                raise InvalidSettings("Steps were not kept apart; capture with steps=True.")
            count = len(self.timesteps)
            if not -count <= step < count:
                raise InvalidSettings(
                    f"There is no step {step}; the run had {count}, counted from 0."
                )
            layers = tuple(
                LayerMaps(group, group, series.shape[1:3], series[step].astype(np.float32))
                for group, series in self.steps.items()
            )
        if layer is not None:
            known = [m.name for m in layers if m.words is not None]
            layers = tuple(m for m in layers if layer in (m.name, m.group)) or tuple(
                m for m in layers if layer in m.name
            )
            if not layers:
                raise InvalidSettings(f"There is no layer {layer!r}; there are {', '.join(known)}.")
        if head is not None:
            counts = [len(m.heads) for m in layers if m.heads is not None]
            if not counts:
                raise InvalidSettings("Heads were not kept apart; capture with heads=True.")
            if not 0 <= head < max(counts):
                raise InvalidSettings(
                    f"There is no head {head}; there are {max(counts)}, counted from 0."
                )
            layers = tuple(
                replace(m, words=m.heads[head])
                for m in layers
                if m.heads is not None and head < len(m.heads)
            )
        return replace(self, layers=layers, steps=None, beside=self._beside_at(step, layer, head))

    def _beside_at(
        self, step: int | None, layer: str | None, head: int | None
    ) -> AttentionMaps | None:
        """The concepts of a part; none of a head, for an angle is one of all heads together."""
        return (
            None
            if self.beside is None or head is not None
            else self.beside.at(step=step, layer=layer)
        )

    # -- patches -----------------------------------------------------------------------------------------------------

    def looked_from(self, x: float, y: float) -> Floats:
        """Where the patch at (x, y), both in 0..1, looked in the picture: `(H, W)` float32, reaching 1 (self-attention)."""
        found = [m for m in self.layers if m.patches is not None]
        if not found:
            raise InvalidSettings("Self-attention was not kept; capture with self_attention=True.")
        if not (0 <= x < 1 and 0 <= y < 1):
            raise InvalidSettings(
                f"The point ({x:g}, {y:g}) is outside the picture; give x and y from 0 up to, not including, 1."
            )
        total: Floats = np.mean(
            [stretched(self._view(m, x, y), self.size) for m in found], axis=0, dtype=np.float32
        )
        return total / np.float32(max(float(total.max()), 1e-12))

    def _view(self, layer: LayerMaps, x: float, y: float) -> Floats:
        assert layer.patches is not None  # noqa: S101 - chosen by the caller
        if self.points:
            distances = [(x - a) ** 2 + (y - b) ** 2 for a, b in self.points]
            return layer.patches[int(np.argmin(distances))]
        rows, columns = layer.grid
        return layer.patches[int(y * rows) * columns + int(x * columns)]

    def words_at(self, x: float, y: float) -> dict[str, float]:
        """How the pixel at (x, y), both in 0..1, shared its attention between the words; the values add up to 1."""
        width, height = self.size
        row, column = min(int(y * height), height - 1), min(int(x * width), width - 1)
        found = {word: float(self[word][row, column]) for word in dict.fromkeys(self.words)}
        total = sum(found.values()) or 1.0
        return {word: value / total for word, value in found.items()}

    # -- what maps say about a picture -------------------------------------------------------------------------------

    def mask(self, word: str, *, threshold: float = _THRESHOLD) -> NDArray[np.bool_]:
        """Where a word is: pixels above `threshold` of its strongest one, `(H, W)`."""
        if not 0 < threshold < 1:
            raise InvalidSettings(f"threshold is {threshold:g}; choose a share between 0 and 1.")
        return self.word(word, normalize=True) > threshold

    def iou(self, a: str, b: str, *, threshold: float = _THRESHOLD) -> float:
        """Overlap of two words' masks: intersection over union, 0 (apart) to 1 (the same)."""
        one, two = self.mask(a, threshold=threshold), self.mask(b, threshold=threshold)
        return float((one & two).sum() / max(1, (one | two).sum()))

    def neglected(self, *, threshold: float = 0.5) -> list[str]:
        """Content words that the picture hardly looked at: their strongest pixel has less than `threshold` of the
        strongest pixel's attention of any content word. The measure of Attend-and-Excite (arXiv:2301.13826), relative.
        """
        peaks = {w: float(self[w].max()) for w in self.content_words}
        best = max(peaks.values(), default=0.0)
        return [w for w, peak in peaks.items() if peak < threshold * best]

    @property
    def content_words(self) -> list[str]:
        """Words that can be seen, which are all but articles, prepositions and the like, and every concept."""
        return [
            w
            for w in dict.fromkeys(self.words)
            if isinstance(self.prompt, Concepts)
            or (w.casefold() not in _EMPTY_WORDS and not w.isdigit())
        ]

    def leakage(self, pairs: Mapping[str, str]) -> dict[tuple[str, str], float]:
        """Which share of an adjective's attention fell on other nouns than its own.

        Parameters
        ----------
        pairs
            Adjective → its noun, at least two: ``{"red": "car", "green": "tree"}``.

        Returns
        -------
        dict
            ``(adjective, other noun)`` → share in 0..1 of the adjective's attention inside the masks of both nouns
            that lies in the other's.
        """
        if len(set(pairs.values())) < 2:
            raise InvalidSettings(
                "Leakage needs two nouns; give pairs such as {'red': 'car', 'green': 'tree'}."
            )
        found = {}
        for adjective, noun in pairs.items():
            own, heat = self.mask(noun), self[adjective]
            for other in dict.fromkeys(n for n in pairs.values() if n != noun):
                there = self.mask(other) & ~own
                inside, outside = float(heat[own].sum()), float(heat[there].sum())
                found[adjective, other] = outside / max(inside + outside, 1e-12)
        return found

    # -- showing -----------------------------------------------------------------------------------------------------

    def overlay(self, word: str, *, image: Image.Image | None = None) -> Image.Image:
        """The picture with a word's attention as light on it; concepts share one scale, so that absent ones stay dark."""
        if not isinstance(self.prompt, Concepts):
            return overlay(image or self.image, self.word(word, normalize=True))
        strongest = max(float(self[name].max()) for name in self.words)
        return overlay(image or self.image, self[word] / np.float32(max(strongest, 1e-12)))

    def show(
        self, words: Iterable[str] | None = None, *, image: Image.Image | None = None
    ) -> Gallery:
        """The picture and the overlay of every content word (or of `words`), with the share of attention each got."""
        picture = image or self.image
        shares = self.shares()
        items = []
        if picture is not None:
            items.append(("the picture", picture))
        for word in self.content_words if words is None else list(words):
            share = sum(
                v
                for k, v in shares.items()
                if k.split(" (")[0].casefold() in word.casefold().split()
            )
            told = f"{100 * share:.1f} %"
            if isinstance(self.prompt, Concepts):
                told = f"{float(self[word].max()):.2f} at most"
            items.append((f"{word} · {told}", self.overlay(word, image=picture)))
        return Gallery(items, heading=self.prompt.text)

    def __repr__(self) -> str:
        """Describe the maps in one line."""
        kept = [f"{len(self.layers)} layers", f"{len(self.timesteps)} steps averaged"]
        if self.steps:
            kept.append("steps apart")
        if any(m.heads is not None for m in self.layers):
            kept.append("heads apart")
        return f"<AttentionMaps: {', '.join(self.words) or 'no words'}; {', '.join(kept)}>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """Show the gallery in a notebook."""
        bundle = (
            self.show()._repr_mimebundle_(include, exclude)
            if self.content_words and self.layers
            else {}
        )
        return {**bundle, "text/plain": repr(self)}


def _unused(name: str, table: Mapping[str, float]) -> str:
    number, free = 1, name
    while free in table:
        number += 1
        free = f"{name} ({number})"
    return free
