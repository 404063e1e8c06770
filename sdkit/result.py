"""What a run made: pictures, each with the settings that make it again alone.

The one decision: **a result is a sequence of results.** ``r[2]`` is a `Result` of one picture, so whatever works on
four drafts (show, save, vary, sweep) works on the one you like, and no second class "picture" has to be learned.
A result holds only data on the CPU and is never changed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, overload

from .errors import BadPicture, CannotSave, InvalidSettings
from .pictures import card
from .pictures.files import path_of, replacing, safe_name, write_picture
from .pictures.guides import NO_GUIDES, Guides
from .pictures.metadata import FORMATS, exif_and_xmp, open_picture, png_chunks, read_picture
from .pictures.sheet import contact_sheet, flat, readable, resized
from .pictures.signing import Signature, signed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from .settings import Settings
    from .traces.trace import Trace

__all__ = ["Result", "load_result"]

_LOSSY_QUALITY: Final = 95
_PROMPT_IN_REPR: Final = 60
_FLAG: Final = "The model's safety checker flagged this picture (seed {seed}) and blanked it."


class Result(Sequence["Result"]):
    """Pictures and the exact settings of each.

    In a notebook a result shows itself: one picture, or a sheet of all of them, with the settings below.

    Parameters
    ----------
    images
        The N pictures.
    settings
        N settings, in the same order.
    latents
        Final latents, shape ``(N, ...)``, e.g. ``(N, 4, 16, 16)``, float16 or float32, on the CPU.
    seconds
        Time of each part of the run by name; ``"total"`` is all of it.
    notes
        Warnings for the reader, such as words the model does not know.
    flagged
        Whether the model's safety checker flagged, and so blanked, each picture; N values or none.
    traces
        What was recorded of each picture's run, N traces or none.
    attention
        N attention maps, in the order of the pictures, if they were captured.
    source, mask
        The picture and the mask the run started from, if any.
    guides
        Its control pictures and references, if any, as ``guides.control`` and ``guides.reference``.

    Raises
    ------
    ValueError
        If the numbers of pictures, settings, latents and traces differ.

    Examples
    --------
    >>> r = sdkit.generate(pipe, "a fox in the snow", count=3, steps=4)
    >>> len(r), r[1].settings.seed
    (3, 1)
    >>> path = r[1].save("fox.png")
    >>> sdkit.load_result(path).settings == r[1].settings
    True
    """

    def __init__(
        self,
        images: Iterable[Image.Image],
        settings: Iterable[Settings],
        latents: NDArray[np.floating[Any]] | None = None,
        seconds: Mapping[str, float] | None = None,
        *,
        notes: Iterable[str] = (),
        flagged: Iterable[bool] = (),
        traces: Sequence[Trace] = (),
        attention: Sequence[Any] | None = None,  # of AttentionMaps; its module imports this one
        source: Image.Image | None = None,
        mask: Image.Image | None = None,
        guides: Guides = NO_GUIDES,
    ) -> None:
        self._images, self._settings = tuple(images), tuple(settings)
        if len(self._images) != len(self._settings):
            msg = f"{len(self._images)} pictures with {len(self._settings)} settings: give one Settings for each"
            raise ValueError(msg)
        if latents is not None and len(latents) != len(self._images):
            msg = f"{len(self._images)} pictures with latents of shape {latents.shape}: the first axis counts pictures"
            raise ValueError(msg)
        self._latents = latents
        self._timings = dict(seconds or {})
        self._notes = tuple(notes)
        self._flagged = tuple(flagged) or (False,) * len(self._images)
        if len(self._flagged) != len(self._images):
            msg = f"{len(self._images)} pictures with {len(self._flagged)} flags: give one for each, or none"
            raise ValueError(msg)
        if len(traces) not in {0, len(self._images)}:
            msg = f"{len(self._images)} pictures with {len(traces)} traces: give one for each, or none"
            raise ValueError(msg)
        self._traces = tuple(traces)
        self._attention = None if attention is None else tuple(attention)
        self.source = source
        self.mask = mask
        self.guides = guides

    @property
    def image(self) -> Image.Image:
        """The first picture."""
        return self._images[0]

    @property
    def images(self) -> list[Image.Image]:
        """All pictures."""
        return list(self._images)

    @property
    def settings(self) -> Settings:
        """The settings that make the first picture again."""
        return self._settings[0]

    @property
    def all_settings(self) -> list[Settings]:
        """The settings of every picture."""
        return list(self._settings)

    @property
    def latents(self) -> NDArray[np.floating[Any]] | None:
        """Final latents, ``(N, ...)``, or `None` if they were not kept."""
        return self._latents

    @property
    def flagged(self) -> bool:
        """Whether the model's safety checker flagged any of the pictures; ``r[2].flagged`` is about the third alone."""
        return any(self._flagged)

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings for the reader, one sentence each."""
        found = [
            _FLAG.format(seed=s.seed)
            for s, flag in zip(self._settings, self._flagged, strict=True)
            if flag
        ]
        return tuple(dict.fromkeys([*self._notes, *found]))

    def noted(self, note: str) -> Result:
        """Return the same result with one note more."""
        return self._part(slice(None), (*self.notes, note))

    @property
    def trace(self) -> Trace | None:
        """Every step of the first picture's run, or `None` if it was not recorded (``generate(..., trace=True)``)."""
        return self._traces[0] if self._traces else None

    @property
    def attention(self) -> Any:
        """The `AttentionMaps` of the first picture, or `None` if they were not captured; ``r[2].attention`` is the third's."""
        return self._attention[0] if self._attention else None

    @property
    def seconds(self) -> float:
        """Time of the whole run, also for a selection from it; 0 if that is not known."""
        return self._timings.get("total", sum(self._timings.values()))

    @property
    def timings(self) -> dict[str, float]:
        """Seconds of each part of the run by name."""
        return dict(self._timings)

    def __len__(self) -> int:
        """Count the pictures."""
        return len(self._images)

    @overload
    def __getitem__(self, index: int) -> Result: ...
    @overload
    def __getitem__(self, index: slice) -> Result: ...
    def __getitem__(self, index: int | slice) -> Result:
        """Select one picture or several, as a result of their own."""
        if not isinstance(index, slice):
            position = range(len(self))[
                index
            ]  # counts from the end for negative ones, and checks the bounds
            index = slice(position, position + 1)
        return self._part(index, self._notes)

    def _part(self, index: slice, notes: tuple[str, ...]) -> Result:
        return Result(
            self._images[index],
            self._settings[index],
            None if self._latents is None else self._latents[index],
            self._timings,
            notes=notes,
            flagged=self._flagged[index],
            traces=self._traces[index],
            attention=None if self._attention is None else self._attention[index],
            source=self.source,
            mask=self.mask,
            guides=self.guides,
        )

    def sheet(self, columns: int | None = None, scale: float | None = None) -> Image.Image:
        """Return all pictures on one contact sheet.

        Parameters
        ----------
        columns
            Pictures in a row; by default up to four, or a square for more than eight.
        scale
            Enlargement of each picture, above 0 up to 64. By default small pictures are brought to 256 pixels.

        Returns
        -------
        PIL.Image.Image
            RGB on white, 8 pixels between pictures; pictures of different sizes are centred in equal cells.

        Raises
        ------
        InvalidSettings
            For no pictures, no columns, or a scale outside its limits.
        """
        return contact_sheet(self._images, columns, scale)

    def save(
        self, path: str | os.PathLike[str], *, scale: float = 1, sign: Signature | None = None
    ) -> Path | list[Path]:
        """Write the picture with its settings inside; several pictures become ``name-0.png``, ``name-1.png`` …

        Parameters
        ----------
        path
            File name ending in ``.png`` (exact), ``.webp`` or ``.jpg`` (small). Existing files are replaced.
        scale
            Enlargement, e.g. 4 for the slides of a talk. The settings inside stay those of the run.
        sign
            PEM files of your certificate (with those that issued it) and of its private key: the file then carries a
            signed C2PA manifest beside the mark that every picture has. Needs the extra ``c2pa``.

        Returns
        -------
        pathlib.Path or list of pathlib.Path
            What was written.

        Raises
        ------
        CannotSave
            For another suffix, a missing folder, a full disk, or a certificate that cannot sign. All files are
            written, or none is changed.
        """
        path = path_of(path)
        kind = _format(path.name, path.suffix)
        if len(self) == 1:
            return self._write([path], kind, scale, sign)[0]
        paths = [path.with_name(f"{path.stem}-{index}{path.suffix}") for index in range(len(self))]
        return self._write(paths, kind, scale, sign)

    def save_all(
        self, folder: str | os.PathLike[str], *, suffix: str = ".png", scale: float = 1
    ) -> list[Path]:
        """Write each picture into a folder under a name made from its prompt and seed; nothing there is replaced.

        Parameters
        ----------
        folder
            An existing folder.
        suffix, scale
            As for `save`.

        Returns
        -------
        list of pathlib.Path
            What was written.

        Raises
        ------
        CannotSave
            As for `save`.
        """
        kind = _format(suffix, suffix)
        folder = path_of(folder)
        paths: list[Path] = []
        taken: set[str] = set()
        for settings in self._settings:
            stem = safe_name(settings.prompt, settings.seed)
            name, number = f"{stem}{suffix}", 1
            # Compared without case: to macOS and Windows "Cat-1.png" and "cat-1.png" are one file.
            while name.casefold() in taken or os.path.lexists(folder / name):
                number += 1
                name = f"{stem}-{number}{suffix}"
            taken.add(name.casefold())
            paths.append(folder / name)
        return self._write(paths, kind, scale)

    def __repr__(self) -> str:
        """Describe the result in one line."""
        if not self._images:
            return "<Result: no pictures>"
        count = "1 picture" if len(self) == 1 else f"{len(self)} pictures"
        prompt = self.settings.prompt
        prompt = prompt if len(prompt) <= _PROMPT_IN_REPR else prompt[:_PROMPT_IN_REPR] + "…"
        return f"<Result: {count}, {prompt!r}, {card.caption(self._settings, self.seconds)}>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """Show the pictures in a notebook: one HTML card with one preview."""
        del include, exclude  # one representation: there is nothing to choose from
        bundle = {"text/plain": repr(self)}
        if self._images:
            try:
                shown = readable(self._images)
                bundle["text/html"] = card.figure(shown, self._settings, self.seconds, self.notes)
                bundle |= card.flat_copy(shown)
            except Exception as error:  # noqa: BLE001 - an error here would hide the result it should show
                bundle["text/plain"] += f" (no preview: {type(error).__name__})"
        return bundle

    def _write(
        self, paths: list[Path], kind: str, scale: float, sign: Signature | None = None
    ) -> list[Path]:
        with ExitStack() as stack:
            # The files get their names when the stack ends well: one failure, and none of them is touched.
            for path, image, settings, flag in zip(
                paths, self._images, self._settings, self._flagged, strict=True
            ):
                temporary = stack.enter_context(replacing(path))
                settings = _with_size(settings, image)  # noqa: PLW2901
                _encode(resized(image, scale), settings, kind, temporary, flagged=flag)
                if sign is not None:
                    temporary.write_bytes(signed(temporary.read_bytes(), kind, settings, sign))
        return paths


def load_result(path: str | os.PathLike[str]) -> Result:
    """Read a picture with its settings from a file made by sdkit or by another program.

    A1111, Forge, SwarmUI, Easy Diffusion, Fooocus, NovelAI and InvokeAI are read; ComfyUI and old forms of InvokeAI
    with the extra ``foreign``.

    Parameters
    ----------
    path
        A PNG, JPEG or WebP file.

    Returns
    -------
    Result
        One picture, without latents and timings. Its ``notes`` name every value that could not be used, such as a
        sampler that sdkit does not have, and what else shaped the picture, such as a LoRA.

    Raises
    ------
    BadPicture
        If the file cannot be read, is no picture, or holds no settings.

    Examples
    --------
    >>> path = sdkit.generate(pipe, "a red car on a beach", seed=7, steps=4).save("car.png")
    >>> r = sdkit.load_result(path)
    >>> r.settings.prompt, r.settings.seed
    ('a red car on a beach', 7)
    >>> again = sdkit.generate(pipe, r.settings)  # the same picture, bit for bit
    >>> again.image.tobytes() == r.image.tobytes()
    True
    """
    image = open_picture(path)
    try:
        settings, extra, notes = read_picture(image)
    except BadPicture as error:
        msg = f"'{os.fspath(path)}': {error}"
        raise BadPicture(msg) from error
    image = image.copy() if image.mode in {"RGB", "RGBA", "L"} else image.convert("RGB")
    image.info.clear()  # the settings are in the result; a copy here would go stale and be saved again
    flagged = [extra.get("Flagged") == "true"]
    sized = _with_size(settings, image)
    if not (sized.width and sized.height):
        size = f"{image.width}\N{MULTIPLICATION SIGN}{image.height}"
        notes = (
            *notes,
            f"the picture's own size of {size} is none that a model can make: the model's usual size is used",
        )
    return Result([image], [sized], notes=notes, flagged=flagged)


def _with_size(settings: Settings, image: Image.Image) -> Settings:
    """Fill in a missing size from the picture, unless no run could have made that size."""
    if settings.width and settings.height:
        return settings
    try:
        return settings.replace(width=image.width, height=image.height)
    except InvalidSettings:
        return settings


def _format(name: str, suffix: str) -> str:
    """Return Pillow's name of the format that a suffix asks for."""
    kind = FORMATS.get(suffix.lower())
    if kind is None:
        msg = f"cannot save '{name}': the name must end in .png, .jpg or .webp"
        raise CannotSave(msg)
    return kind


def _encode(
    image: Image.Image, settings: Settings, kind: str, path: Path, *, flagged: bool
) -> None:
    """Write one picture into a file that does not exist yet."""
    options: dict[str, Any]
    extra = {"Flagged": "true"} if flagged else None
    if kind == "PNG":
        options = {"pnginfo": png_chunks(settings, extra)}
    else:
        image = flat(image)
        options = {"quality": _LOSSY_QUALITY, **exif_and_xmp(settings, extra)}
    try:
        write_picture(image, path, kind, **options)
    except (
        ValueError
    ) as error:  # Pillow's way to say that a prompt is too long for JPEG, or a side for WebP
        msg = f"cannot save as {kind} ({error}): save as .png, which has no such limit"
        raise CannotSave(msg) from error
