"""Watch a pipeline's attention while it makes a picture, without changing the picture.

The design decision: nothing is replaced. Forward hooks read the queries and keys that every processor computes, and
the probabilities are worked out beside the fast kernel, for the conditional half of the batch and for the tokens of
the prompt only. So the picture stays the same to the bit, and LoRA layers, offload hooks, sliced attention and a
user's own processors stay in place. Sums run along with the steps: memory does not grow with what nobody asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from sdkit.errors import CannotCapture, InvalidSettings
from sdkit.pipelines.calls import Call, announced, inputs_of, replaced
from sdkit.pipelines.families import denoiser_of, family_of
from sdkit.pipelines.heard import Heard, listening
from sdkit.pipelines.latents import grid_of, scale_of
from sdkit.pipelines.run import lock_of
from sdkit.pipelines.tokens import Prompt, read_prompt

from .concepts import checked, encoded, likeness, values_of
from .joint import level_of, standing, words_of
from .layers import Layer, find_layers, grid_at, reduced
from .record import Keep, Record

if TYPE_CHECKING:
    from .maps import AttentionMaps

__all__ = ["Capture", "capture_attention"]

_KERNEL = F.scaled_dot_product_attention
# the kernel's parameters, in order
_SIGNATURE: dict[str, Any] = dict.fromkeys(
    ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale")
)
_STEP_RESOLUTION = 32  # cells a side of what is kept for every step or head


def capture_attention(
    pipe: Any,
    *,
    steps: bool = False,
    heads: bool = False,
    self_attention: bool | Iterable[tuple[float, float]] = False,
    resolution: int | None = None,
    concepts: Iterable[str] | None = None,
) -> Capture:
    """Watch attention inside a ``with`` block, around any number of calls of the pipeline.

    Parameters
    ----------
    pipe
        A diffusers pipeline with a UNet or a transformer that `sdkit.pipelines.families` describes.
    steps
        Keep word maps of every step as well, averaged over layers of one stage and resolution, in half precision.
    heads
        Keep the heads apart as well, summed over steps.
    self_attention
        Keep which patch looked at which as well (UNets only): True for every patch of layers of at most 32×32
        patches, or points ``(x, y)`` in 0..1 whose patches are followed in all layers.
    resolution
        Longest side, in patches, of the maps that are kept. None keeps every layer's own, or 32 with `steps` or
        `heads`.
    concepts
        Words to look for that need not stand in the prompt, such as ``["sky", "dragon"]`` (UNets, PixArt and Sana);
        they do not influence the picture.

    Returns
    -------
    Capture
        The context manager; after the run its `maps` are the `AttentionMaps` of the first picture.

    Raises
    ------
    CannotCapture
        Before the first step, if a module's attention cannot be read; the module is named.

    Notes
    -----
    A map holds ``softmax(Q Kᵀ / √d)``, the mean over heads, of the prompt that guidance pulls towards. Which part of
    the batch that is is taken from the pipeline (`do_classifier_free_guidance`), never guessed from its size.

    Examples
    --------
    >>> with sdkit.capture_attention(pipe) as capture:
    ...     picture = pipe("a red car on a beach", num_inference_steps=4).images[0]
    >>> capture.maps.words
    ['a', 'red', 'car', 'on', 'a', 'beach']
    >>> capture.maps["car"].shape == (picture.height, picture.width)
    True

    What is shown without having been said:

    >>> with sdkit.capture_attention(pipe, concepts=["meadow", "night"]) as capture:
    ...     picture = pipe("a fox in a meadow", num_inference_steps=4).images[0]
    >>> bool(capture.concepts["meadow"].mean() > capture.concepts["night"].mean())
    True
    """
    return Capture(
        pipe,
        steps=steps,
        heads=heads,
        self_attention=self_attention,
        resolution=resolution,
        concepts=concepts,
    )


class Capture:
    """Hooks on a pipeline's attention layers, and what they have recorded; made by `capture_attention`."""

    def __init__(
        self,
        pipe: Any,
        *,
        steps: bool,
        heads: bool,
        self_attention: bool | Iterable[tuple[float, float]],
        resolution: int | None,
        concepts: Iterable[str] | None = None,
    ) -> None:
        if resolution is not None and resolution < 1:
            raise InvalidSettings(
                f"resolution is {resolution}; keep maps of 1 patch a side or more."
            )
        self.pipe = pipe
        self.keep = Keep(steps, heads, resolution or (_STEP_RESOLUTION if steps or heads else None))
        self.points = _points(self_attention)
        layers = find_layers(pipe)
        wanted = ("cross", "joint") if self_attention is False else ("cross", "joint", "self")
        if self_attention is not False and all(layer.kind == "joint" for layer in layers):
            raise CannotCapture(
                f"{type(pipe).__name__} has joint attention, whose patches and words share one softmax; self-attention alone is kept for UNets."
            )
        self.layers = tuple(layer for layer in layers if layer.kind in wanted)
        self.everything = self_attention is True
        self.sought = checked(pipe, concepts)
        self._pieces: list[Tensor] = []  # of each concept, its encoding piece by piece
        self.records: list[Record] = []
        self._undo = ExitStack()
        self._seen: dict[tuple[str, str], Tensor] = {}
        self._call: Call | None = None
        self._heard: Heard | None = None
        self._mode: TorchFunctionMode | None = None
        self._active = False

    # -- the block ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Put the hooks in place."""
        network = denoiser_of(self.pipe)
        self._pieces = self._encoded_concepts()
        with ExitStack() as undo:
            undo.callback(
                network.register_forward_pre_hook(self._before_network, with_kwargs=True).remove
            )
            undo.callback(
                network.register_forward_hook(self._after_network, always_call=True).remove
            )
            for layer in self.layers:
                for handle in self._watch(layer):
                    undo.callback(handle.remove)
            # the prompts of the user's own pipe(...) calls, which nobody announces
            undo.enter_context(
                replaced(self.pipe, "encode_prompt", self._listening(self.pipe.encode_prompt))
            )
            self._heard = undo.enter_context(listening(self.pipe, family_of(self.pipe)))
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Take the hooks away; the pipeline is as it was."""
        self._undo.close()
        self._seen.clear()
        self._stop_reading()
        self._call = None

    def _listening(self, encode: Callable[..., Any]) -> Callable[..., Any]:
        def listening(prompt: Any = None, *args: Any, **kwargs: Any) -> Any:
            texts = [prompt] if isinstance(prompt, str) else list(prompt or [])
            self._call = Call(self.pipe, tuple(texts))
            return encode(prompt, *args, **kwargs)

        return listening

    def _watch(self, layer: Layer) -> Iterator[RemovableHandle]:
        module = layer.module
        if self.sought is not None and layer.kind != "self":
            yield module.to_out[0].register_forward_pre_hook(partial(self._taken, layer))
        if layer.kind == "joint":
            yield module.register_forward_pre_hook(partial(self._read, layer))
            yield module.register_forward_hook(lambda *_: self._stop_reading(), always_call=True)
            return
        for part in ("norm_q" if getattr(module, "norm_q", None) is not None else "to_q", "to_k"):
            source = (
                "norm_k" if part == "to_k" and getattr(module, "norm_k", None) is not None else part
            )
            key = (layer.name, "k" if part == "to_k" else "q")
            yield getattr(module, source).register_forward_hook(partial(self._keep, key))
        yield module.register_forward_hook(partial(self._after_layer, layer), with_kwargs=True)

    # -- during a run ------------------------------------------------------------------------------------------------

    def _before_network(self, network: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = announced(network) or self._call
        sample, timestep = inputs_of(args, kwargs)
        if not self.records or call is not self.records[-1].call:
            self.records.append(self._begin(call, sample, args, kwargs))
        # a second pass at one timestep is the unconditional one of pipelines that do not join both in a batch
        self._active = self.records[-1].begin_step(timestep)

    def _begin(
        self, call: Call | None, sample: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Record:
        texts = call.prompts if call else ()
        family = family_of(self.pipe)
        parts = self._parts(call, len(sample))
        count = len(sample) // parts
        part = 0 if family.conditional_first or parts == 1 else 1
        words = words_of(args, kwargs)
        lengths = words.lengths[part * count : (part + 1) * count]
        longest = max(lengths, default=0)
        prompts = [texts[i * len(texts) // count] if texts else "" for i in range(count)]
        return Record(
            call=call,
            prompts=[self._prompt(text, longest) for text in prompts],
            latents=self._latents(call, sample, kwargs),
            scale=scale_of(self.pipe),
            part=part,
            lengths=tuple(
                words.real[part * count : (part + 1) * count] if family.packed else lengths
            ),
            concepts=self.sought,
        )

    def _parts(self, call: Call | None, batch: int) -> int:
        """How many times the batch holds every picture: without words, with them, and what else guidance asks."""
        if announced(denoiser_of(self.pipe)) is not None and call is not None:
            return max(batch // max(len(call.prompts), 1), 1)
        doubled = call is not None and call.guided and not family_of(self.pipe).two_passes
        return 2 if doubled else 1

    def _latents(
        self, call: Call | None, sample: Tensor, kwargs: dict[str, Any]
    ) -> tuple[int, int]:
        if call is not None and call.size is not None and sample.ndim == 3:
            height, width = call.size
            scale = scale_of(self.pipe)
            told = (height // scale, width // scale)
            if math.prod(told) in (len(sample[0]), 4 * len(sample[0])):
                return told
        return grid_of(sample, kwargs)

    def _prompt(self, text: str, length: int) -> Prompt:
        """The prompt's tokens; without words where the sequence is not what the pipeline's tokenizers make."""
        family = family_of(self.pipe)
        if self._heard is not None and self._heard.rows:
            skipped = int(getattr(self.pipe, "prompt_template_encode_start_idx", 0) or 0)
            return self._heard.prompt(text, length, family, skipped)
        tokenizers = []
        left = length
        for reading in family.sequence:
            tokenizer = getattr(self.pipe, reading.tokenizer)
            here = left if reading.rest else int(tokenizer.model_max_length)
            tokenizers.append((tokenizer, here))
            left -= here
        fits = text and tokenizers and left == 0
        return (
            read_prompt(tokenizers, text)
            if fits
            else Prompt(text, (), length, (), tuple(range(length)))
        )

    def _after_network(self, *_: Any) -> None:
        self._active = False
        self._seen.clear()

    def _keep(self, key: tuple[str, str], _module: Any, _args: Any, output: Tensor) -> None:
        if self._active:
            self._seen[key] = output

    def _after_layer(
        self, layer: Layer, module: Any, _args: Any, kwargs: dict[str, Any], _output: Any
    ) -> None:
        if not self._active:
            return
        q, k = self._seen.pop((layer.name, "q"), None), self._seen.pop((layer.name, "k"), None)
        if q is None or k is None:
            processor = type(module.processor).__name__
            raise CannotCapture(
                f"{layer.name}: its processor {processor} does not use to_q and to_k, so its attention cannot be read."
            )
        record = self.records[-1]
        q, k = (
            x if x.ndim == 4 else x.unflatten(-1, (layer.heads, -1)).transpose(1, 2) for x in (q, k)
        )  # (B, H, n, d)
        mask = kwargs.get("attention_mask")
        for image in range(record.count):
            at = record.row(image)
            rows = self._rows(layer, record) if layer.kind == "self" else None
            queries = q[at] if rows is None else q[at][:, rows]
            p = _probabilities(queries, k[at], module.scale, None if mask is None else mask[at])
            if layer.kind == "self":
                record.add_self(layer, image, p, self.points)
            else:
                record.add_words(layer, image, p, keep=self.keep)

    def _rows(self, layer: Layer, record: Record) -> Tensor | None:
        """Which patches' views are kept: None for all, indices for the points asked for."""
        rows, columns = grid_at(*record.latents, layer.level)
        if self.points:
            return torch.tensor(
                [int(y * rows) * columns + int(x * columns) for x, y in self.points]
            )
        return None if rows * columns <= _STEP_RESOLUTION**2 else torch.empty(0, dtype=torch.long)

    # -- concepts ----------------------------------------------------------------------------------------------------

    def _encoded_concepts(self) -> list[Tensor]:
        """Encodings `(n, D)` of the pieces of each concept, by the pipeline's own encoder, before the run."""
        if self.sought is None:
            return []
        with lock_of(self.pipe), listening(self.pipe, family_of(self.pipe)) as self._heard:
            made = encoded(self.pipe, self.sought)
            places = {
                text: [p for w in self._prompt(text, embeds.shape[1]).words for p in w.positions]
                for text, embeds in made.items()
            }
        for text in (text for text, at in places.items() if not at):
            raise CannotCapture(
                f"{text!r} was not found in what the text encoder of {type(self.pipe).__name__} read; try another word."
            )
        return [made[word.text][0, places[word.text]] for word in self.sought.words]

    @torch.no_grad()
    def _taken(self, layer: Layer, _module: Any, args: tuple[Any, ...]) -> None:
        """Compare what each patch took from the prompt with what each concept would have given."""
        if not self._active:
            return
        record, taken = self.records[-1], args[0]  # (B, P, heads · d)
        level = level_of(record.latents, taken.shape[1]) if layer.kind == "joint" else layer.level
        if record.beside is None or level is None:
            return
        if layer.name not in record.values:
            record.values[layer.name] = values_of(self.pipe, layer.module, self._pieces)
        keep = replace(self.keep, heads=False)  # an angle is one of all heads together
        for image in range(record.count):
            alike = likeness(taken[record.row(image)], record.values[layer.name])
            record.beside.add_words(replace(layer, level=level), image, alike[None], keep=keep)

    # -- joint attention ---------------------------------------------------------------------------------------------

    def _read(self, layer: Layer, _module: Any, _args: Any) -> None:
        """Read the very queries and keys that go into the kernel, after rotary embeddings and normalisation."""
        if self._active:
            self._mode = _Reader(partial(self._joint, layer))
            self._mode.__enter__()

    def _stop_reading(self) -> None:
        if self._mode is not None:
            self._mode.__exit__(None, None, None)
            self._mode = None

    def _joint(self, layer: Layer, seen: Seen) -> None:
        """Keep what patches saw of words, and in joint attention what words saw of patches."""
        record = self.records[-1]
        registers = getattr(denoiser_of(self.pipe), "register_tokens", None)
        family = family_of(self.pipe)
        for image in range(record.count):
            found = standing(
                record.latents,
                record.lengths[image],
                max(record.lengths),
                seen.queries,
                seen.keys,
                text_first=layer.text_first,
                stride=family.stride,
                registers=0 if registers is None else registers.shape[1],
            )
            if found is None:
                return
            here = replace(layer, level=found.level)
            q, k, mask = seen.of(record.row(image))
            looked = torch.cat(
                [
                    _probabilities(part, k, seen.scale, _rows_of(mask, at))[:, :, found.text]
                    for part, at in _split(q, found.picture)
                ],
                1,
            )
            record.add_words(here, image, looked, keep=self.keep)
            if found.joint:
                words = slice(
                    found.text.start, min(found.text.start + record.used, found.text.stop)
                )
                back = _probabilities(q[:, words], k, seen.scale, _rows_of(mask, words))
                record.add_back(here, image, back[:, :, found.picture])

    # -- what came of it ---------------------------------------------------------------------------------------------

    @property
    def all_maps(self) -> list[AttentionMaps]:
        """The maps of every picture of every call, in the order in which they were made.

        Raises
        ------
        InvalidSettings
            If no picture has been made inside the block.
        """
        return [maps for record in self._made() for maps in record.maps()]

    @property
    def maps(self) -> AttentionMaps:
        """The maps of the first picture of the last call."""
        return self._made()[-1].maps()[0]

    @property
    def concepts(self) -> AttentionMaps:
        """Where the first picture of the last call shows each concept, ``capture.concepts["dragon"]`` `(H, W)`.

        See `AttentionMaps.concepts`, which every picture's maps have.
        """
        return self.maps.concepts

    def _made(self) -> list[Record]:
        if not self.records:
            raise InvalidSettings(
                "Nothing was captured: make a picture inside the with block first."
            )
        return self.records

    @property
    def bytes(self) -> int:
        """What is kept at present, in bytes."""
        return sum(record.bytes for record in self.records)

    def cost(
        self, width: int, height: int, steps: int, *, tokens: int | None = None, count: int = 1
    ) -> int:
        """Bytes that a run will keep, told before it.

        Parameters
        ----------
        width, height
            Size of the picture in pixels.
        steps
            Denoising steps.
        tokens
            Tokens of the prompt with start and end; None reckons with all that the encoder reads.
        count
            Pictures.
        """
        scale = scale_of(self.pipe)
        if tokens is None:
            tokens = int(self.pipe.tokenizer.model_max_length)
        total, groups = 0, {}
        for layer in self.layers:
            rows, columns = grid_at(
                math.ceil(height / scale),
                math.ceil(width / scale),
                layer.level
                + (layer.kind == "joint"),  # patches of 2×2 latent pixels, as nearly all have
            )
            if layer.kind == "self":
                kept = len(self.points)
                if not kept and rows * columns <= _STEP_RESOLUTION**2:
                    kept = rows * columns
                total += kept * rows * columns * 4
                continue
            small = math.prod(reduced(rows, columns, self.keep.resolution))
            sought = len(self.sought.words) if self.sought is not None else 0
            total += small * (tokens + sought) * 4
            if layer.kind == "joint":
                total += rows * columns * tokens * 4
            if self.keep.heads:
                total += small * tokens * 4 * layer.heads
            groups[layer.group] = small * (tokens + sought)
        if self.keep.steps:
            total += sum(groups.values()) * 2 * steps
        return count * total


class _Reader(TorchFunctionMode):
    """Hands what goes into scaled dot-product attention to a function, and changes nothing."""

    def __init__(self, tell: Callable[[Seen], None]) -> None:
        super().__init__()
        self.tell = tell

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _KERNEL:
            given = _SIGNATURE | dict(zip(_SIGNATURE, args, strict=False)) | (kwargs or {})
            self.tell(Seen(given["query"], given["key"], given["attn_mask"], given["scale"]))
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Seen:
    """What one call of the kernel was given: `q` and `k` ``(B, H, n, d)``, and a mask of what may be seen."""

    q: Tensor
    k: Tensor
    mask: Tensor | None
    asked: float | None

    @property
    def queries(self) -> int:
        """Tokens that look."""
        return self.q.shape[-2]

    @property
    def keys(self) -> int:
        """Tokens that are looked at."""
        return self.k.shape[-2]

    @property
    def scale(self) -> float:
        """What scores are multiplied by."""
        return self.q.shape[-1] ** -0.5 if self.asked is None else float(self.asked)

    def of(self, row: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Queries and keys ``(H, n, d)`` of one row of the batch, and its mask ``(1 or H, 1 or n, m)`` to add."""
        q, k, mask = self.q[row], self.k[row], self.mask
        if len(k) != len(q):  # several heads share a key
            k = k.repeat_interleave(len(q) // len(k), 0)
        if mask is None:
            return q, k, None
        mask = mask.expand(max(len(mask), row + 1), *mask.shape[1:])[row] if mask.ndim > 2 else mask
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=torch.float32).masked_fill(~mask, -torch.inf)
        return q, k, mask if mask.ndim == 3 else mask[None]


def _split(q: Tensor, picture: slice) -> Iterator[tuple[Tensor, slice]]:
    """The patches' queries in portions whose scores fit into memory."""
    for begin in range(picture.start, picture.stop, 1024):
        at = slice(begin, min(begin + 1024, picture.stop))
        yield q[:, at], at


def _rows_of(mask: Tensor | None, at: slice) -> Tensor | None:
    """The part of a mask that is about some queries."""
    return mask if mask is None or mask.shape[-2] == 1 else mask[..., at, :]


def _probabilities(q: Tensor, k: Tensor, scale: float, mask: Tensor | None = None) -> Tensor:
    """``softmax(scale · Q Kᵀ + mask)`` for `q` `(H, P, d)` and `k` `(H, T, d)`: `(H, P, T)` in float32."""
    scores = torch.baddbmm(q.new_empty(1, 1, 1), q, k.transpose(1, 2), beta=0, alpha=scale)
    if mask is not None:
        scores = scores + mask
    return scores.softmax(-1, dtype=torch.float32)


def _points(wanted: bool | Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    if isinstance(wanted, bool):
        return ()
    points = tuple((float(x), float(y)) for x, y in wanted)
    for x, y in points:
        if not (0 <= x < 1 and 0 <= y < 1):
            raise InvalidSettings(
                f"The point ({x:g}, {y:g}) is outside the picture; give x and y from 0 up to, not including, 1."
            )
    return points
