"""`Sketchpad`: draw, or paint what is to be made anew; the picture follows the brush.

The one decision: paper and mask are **two layers at native size**. The paper keeps the pixels of the picture that was
given and the mask has one pixel for each of them, so nothing is scaled before the pipeline scales it, and
``generate(pipe, …, image=pad.image, mask=pad.mask)`` in a cell makes the same picture. (The drawing widgets that are
about keep one layer, or work at screen size.)
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import traitlets
from PIL import Image

from sdkit.errors import BadPicture, InvalidSettings
from sdkit.models.defaults import defaults
from sdkit.pictures.card import caption
from sdkit.pictures.guides import guides_in
from sdkit.pictures.sources import Picture, as_mask, as_source, sized_like

from .explorer import module
from .prompt import as_code, words_of
from .studio import MEMORY, Asked, Studio, complete, limits, shown

if TYPE_CHECKING:
    from sdkit.result import Result
    from sdkit.settings import Settings

__all__ = ["Sketchpad"]

_FIRST: Final = "a house on a green background"
_LONGEST: Final = 1024  # pixels of the paper: more makes the browser's undo costly


class Sketchpad(Studio):
    """Draw with a brush, or paint a mask over a picture; image-to-image or inpainting follows.

    Parameters
    ----------
    pipe
        A diffusers pipeline, from `sdkit.load()` or your own.
    prompt
        Words, `Settings` or a `Result` to begin with.
    image
        What lies on the paper, given as for `sdkit.generate`, up to 1024 pixels a side; by default the result's picture, or white paper of the
        model's own size.
    control, reference
        The pictures that lead what is made, given as for `sdkit.generate`; None takes those of a `Result` in `prompt`.
    memory
        Bytes of pictures that are remembered.
    **changes
        Fields of `Settings`, such as ``strength=0.6``.

    Attributes
    ----------
    image
        The paper with what was drawn on it (RGB, native size).
    mask
        What is to be made anew, white on black (L, native size), or None while nothing is painted.
    result
        The picture made from them, as a `Result`; None before the first stroke.

    Examples
    --------
    >>> from sdkit.widgets import Sketchpad
    >>> pad = Sketchpad(pipe, "a house on a green background", strength=0.7)
    >>> pad.image.getpixel((0, 0))  # white paper, until somebody draws
    (255, 255, 255)
    """

    _esm = module("sketch.js")
    limits = traitlets.Dict().tag(sync=True)
    asked = traitlets.Dict().tag(sync=True)
    words = traitlets.Dict().tag(sync=True)
    paper = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        pipe: Any,
        prompt: str | Settings | Result = _FIRST,
        *,
        image: Picture | None = None,
        control: Picture | Sequence[Picture] | None = None,
        reference: Picture | Sequence[Picture] | None = None,
        memory: int = MEMORY,
        **changes: Any,
    ) -> None:
        given = image if image is not None else getattr(prompt, "image", None)
        image = None if given is None else as_source(given)
        if image is not None and max(image.size) > _LONGEST:
            raise InvalidSettings(
                f"The picture has {image.width}×{image.height} pixels; paper has up to {_LONGEST} a side: resize it."
            )
        self.result: Result | None = None
        self.mask: Image.Image | None = None
        self.guides = guides_in(control, reference, prompt)
        settings = complete(pipe, prompt, **changes)
        self.settings = settings.replace(
            task="text-to-image",
            variation_seed=None,
            variation_amount=0.0,
            source=None,
            mask=None,
            noise=None,
        )
        if image is not None and not {"width", "height"} & set(changes):
            own, open_size = defaults(pipe), self.settings.replace(width=None, height=None)
            self.settings = own.fill(sized_like(open_size, image, (own.width, own.height)))
        self.image = (
            Image.new("RGB", (self.settings.width or 64, self.settings.height or 64), "white")
            if image is None
            else image
        )
        super().__init__(pipe, memory, limits=limits(pipe))
        self._lay(self.image)
        self._tell("kernel")

    def still(self) -> tuple[Image.Image, Settings] | None:
        """Return the picture that was made, and its settings."""
        return None if self.result is None else (self.result.image, self.result.settings)

    def __repr__(self) -> str:
        """Name the pad and what is on it."""
        masked = "" if self.mask is None else ", with a mask"
        return f"<Sketchpad: {self.settings.prompt[:60]!r}, {self.image.width}×{self.image.height}{masked}>"

    # -- messages --------------------------------------------------------------------------------------------------

    def _do_set(self, values: dict[str, Any], by: str = "") -> None:
        names = {"prompt", "seed", "steps", "guidance_scale", "strength"}
        self.settings = self.settings.replace(
            **{name: value for name, value in values.items() if name in names}
        )
        self._tell(by)
        if self.view or self.worker.busy or "go" in values:
            self._ask()

    def _do_draw(self, masked: bool, buffers: Sequence[memoryview]) -> None:
        """Take both layers as PNG: the paper, and the mask if anything is painted on it."""
        image = _open(buffers[0], self.image.size)
        mask = as_mask(_open(buffers[1], self.image.size)) if masked else None
        self.image, self.mask = as_source(image), mask
        self._ask()

    def _do_adopt(self) -> None:
        """Lay the picture that was made on the paper, to draw on it."""
        if self.result is None:
            raise InvalidSettings("There is no picture yet: draw something first.")
        self._lay(self.result.image)

    def _do_save(self) -> None:
        if self.result is None:
            raise InvalidSettings("There is no picture yet: draw something first.")
        self.note = f"Saved as {self.result.save_all(Path())[0]}, with its settings inside."

    def _lay(self, image: Image.Image) -> None:
        self.image, self.mask = as_source(image), None
        file = io.BytesIO()
        self.image.save(file, "PNG")
        self.paper = {"width": image.width, "height": image.height, "picture": file.getvalue()}

    def _tell(self, by: str) -> None:
        names = ("prompt", "seed", "steps", "guidance_scale", "strength")
        self.asked = {name: getattr(self.settings, name) for name in names} | {"by": by}
        self.words = words_of(self.pipe, self.settings.prompt)

    def _ask(self) -> None:
        least = 1.001 / (self.settings.steps or 1)  # a lower strength would leave no step to run
        settings = self.settings.replace(strength=min(1.0, max(self.settings.strength, least)))
        self.ask(settings, image=self.image, mask=self.mask)

    # -- in the worker's thread ------------------------------------------------------------------------------------

    def _show(self, asked: Asked, result: Result) -> None:
        self.result = result
        layers = ", image=pad.image" + ("" if asked.mask is None else ", mask=pad.mask")
        fit = f", fit={result.settings.fit!r}" if result.settings.fit else ""
        self.view = {
            "picture": shown(result.image),
            "caption": caption([result.settings], result.seconds),
            "prompt": result.settings.prompt,
            "code": as_code(result.settings, "pad")[:-1]
            + f", strength={result.settings.strength!r}{fit}{layers})",
        }


def _open(data: memoryview, size: tuple[int, int]) -> Image.Image:
    """Decode a layer, which must be a PNG of the paper's size."""
    image = Image.open(io.BytesIO(data), formats=("PNG",))
    if image.size != size:
        raise BadPicture(
            f"The browser sent a layer of {image.width}×{image.height} pixels for paper of {size[0]}×{size[1]}."
        )
    image.load()
    return image
