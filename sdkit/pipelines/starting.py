"""The pipeline that begins with a picture, made of the parts of one that begins with words.

The one decision: **which class that is, is asked of diffusers**: its own tables first, then the names that it gives to such
classes. Editing models (Kontext, FLUX.2) take a picture in the very call that takes words, and run as they are.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sdkit.errors import InvalidSettings

from .calls import no_note_on_torchvision
from .families import family_of

__all__ = ["counted", "starter"]

_TASKS: Final = {
    "image-to-image": ("AutoPipelineForImage2Image", "IMAGE2IMAGE", "Img2Img"),
    "inpainting": ("AutoPipelineForInpainting", "INPAINT", "Inpaint"),
}
"""Task → what diffusers calls what chooses a class for it, and how it names the classes."""


def starter(pipe: Any, task: str) -> Any:
    """The pipeline that runs a task with the parts of `pipe`.

    Parameters
    ----------
    pipe
        A diffusers pipeline.
    task
        One of `sdkit.settings.TASKS`.

    Raises
    ------
    InvalidSettings
        If diffusers has no class for it, or one that wants parts which this pipeline lacks.
    """
    if task == "text-to-image" or (task == "image-to-image" and family_of(pipe).edits):
        return pipe
    refusal = f"{type(pipe).__name__} does no {task}, for which diffusers has no pipeline of its parts; leave the picture out, or use another model."
    with no_note_on_torchvision():  # the classes are imported here
        try:
            found = _made(pipe, task)
        except (ValueError, TypeError, ImportError) as error:  # parts or packages are missing
            raise InvalidSettings(refusal) from error
    if found is None or family_of(found).unheard or _fails(found):
        raise InvalidSettings(refusal)
    found.set_progress_bar_config(**getattr(pipe, "_progress_bar_config", {}))
    return found


@contextmanager
def counted(runner: Any) -> Iterator[None]:
    """Let diffusers inpaint with a UNet whose latents have another number of channels than four.

    Its classes ask for 4 where they mean "as many as the autoencoder's, and no mask beside them": the number is all that
    they ask, so it is what they are told inside the block.
    """
    unet, vae = getattr(runner, "unet", None), getattr(runner, "vae", None)
    own = getattr(getattr(unet, "config", None), "in_channels", None)
    plain = own is not None and own == getattr(getattr(vae, "config", None), "latent_channels", 0)
    if unet is None or own == 4 or not plain or "Inpaint" not in type(runner).__name__:
        yield
        return
    unet.register_to_config(in_channels=4)
    try:
        yield
    finally:
        unet.register_to_config(in_channels=own)


def _made(pipe: Any, task: str) -> Any:
    import diffusers
    from diffusers.pipelines import auto_pipeline

    auto, table, word = _TASKS[task]
    name = type(pipe).__name__
    known = getattr(auto_pipeline, f"AUTO_{table}_PIPELINES_MAPPING")
    if auto_pipeline._get_task_class(known, name, throw_error_if_not_exist=False) is not None:
        return getattr(diffusers, auto).from_pipe(pipe)
    plain = re.sub("Img2Img|Inpaint", "", name)
    kind = getattr(diffusers, plain.replace("Pipeline", f"{word}Pipeline"), None)
    if kind is None:
        return None
    accepted = inspect.signature(kind.__init__).parameters
    parts = {**pipe.config, **pipe.components}
    return kind(**{part: value for part, value in parts.items() if part in accepted})


def _fails(found: Any) -> bool:
    """Whether a pipeline fails at its first step, whatever it is given."""
    kind = type(found).__name__
    if kind == "ChromaInpaintPipeline":  # diffusers 0.42 asks for a configuration that Chroma lacks
        return "guidance_embeds" not in found.transformer.config
    if kind.startswith("Kandinsky") and "Inpaint" in kind:  # its network must see mask and source
        return int(found.unet.config.in_channels) < 9
    return False
