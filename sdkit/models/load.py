"""Load a pipeline: Pocket by default, Stable Diffusion when one is named.

The design decision: what comes back is a plain diffusers pipeline. What sdkit knows of it beside, such as where it came
from and under which licence, is kept outside of it, and is also told of pipelines that diffusers itself loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sdkit import pocket
from sdkit.errors import InvalidSettings
from sdkit.memory.plan import Plan, draft
from sdkit.pictures.legible import say
from sdkit.pipelines.families import denoiser_of

from .checkpoints import checker_of, unwanted
from .compiled import check_onnx, compile_onnx
from .finding import find
from .hub import commit_of
from .identity import Origin, is_pocket_path, model_name, place_of, pocket_name, remember
from .licences import licence_of, tell
from .opening import fetched, load_file, load_folder, load_pocket, load_vae

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline


__all__ = ["load"]


def load(
    name: str | Path | None = None,
    *,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    variant: str | None = None,
    vae: str | Path | None = None,
    safety_checker: bool | None = None,
    config: str | Path | None = None,
    memory: str = "auto",
    compile: bool | Literal["onnx"] = False,  # noqa: A002 - torch's own word for it
) -> DiffusionPipeline:
    """Load a text-to-image pipeline.

    The licence of the weights is printed once, and recorded in the settings of every picture.

    Parameters
    ----------
    name
        None for Pocket, the model inside this package; ``"pocket-turbo"`` for the same with another UNet, which needs
        4 steps of one evaluation each and takes guidance as an input; or a hub id such as
        ``"stable-diffusion-v1-5/stable-diffusion-v1-5"``, a diffusers folder, or a single ``.safetensors`` file.
    device
        ``"cuda"``, ``"mps"``, ``"cpu"``, ``"cuda:1"`` …; None takes the best one there is.
    dtype
        Precision of the weights; None takes half precision on a GPU and single precision on a processor.
    revision
        Branch, tag or commit of a hub id.
    variant
        For example ``"fp16"``, where a checkpoint offers one.
    vae
        Another autoencoder in place of the checkpoint's own: a hub id, a diffusers folder, or a ``.safetensors`` file.
    safety_checker
        None keeps the safety checker that the checkpoint ships, if any; False turns it off; True wants one, and it is
        an error if there is none. Pictures that it flagged say so: `Result.flagged`.
    config
        For a single file: a diffusers folder or hub id of the same family, whose configuration and tokenizer are
        used (its weights need not be there). By default those of the family's first model, from the hub or its cache.
    memory
        ``"auto"``, ``"full"``, ``"low"`` or a size such as ``"8GB"``: what may lie on the device; `sdkit.plan` shows it.
    compile
        Compile the denoiser with `torch.compile`: the first picture takes minutes, the next ones less time. ``"onnx"``
        has `onnxruntime` (extra ``fast``) compute it and the decoder instead, on the processor: seconds more for the first
        picture, and small networks such as Pocket's take some 0.6 of the time. Its pictures are torch's up to rounding; what looks into
        the layers (attention, edits, gradients) is answered by torch.

    Returns
    -------
    diffusers.DiffusionPipeline
        A plain pipeline, on its device.

    Raises
    ------
    ModelNotFound
        If there is no such folder, file or hub id, it is gated, or the network cannot be reached.
    UnsafeCheckpoint
        If the weights are pickles, or the checkpoint brings its own code.
    InvalidSettings
        If `memory` or `compile` is none of its values, or ``compile="onnx"`` does not know the network.
    MissingExtra
        If ``compile="onnx"`` lacks a package.

    Notes
    -----
    LoRAs and textual inversions are loaded into the pipeline with diffusers' own methods;
    ``use_safetensors=True`` makes them refuse pickles.

    Examples
    --------
    >>> pipe = sdkit.load()  # Pocket; a name, a folder or a file loads another model
    >>> type(pipe).__name__
    'StableDiffusionPipeline'

    It is a plain pipeline, so adapters are added as always:

    >>> pipe.load_lora_weights("style.safetensors", use_safetensors=True)  # doctest: +SKIP
    >>> pipe.load_textual_inversion("cat-toy.safetensors", use_safetensors=True)  # doctest: +SKIP
    """
    without = unwanted(safety_checker, vae)
    if compile not in (False, True, "onnx"):
        raise InvalidSettings(f'compile is {compile!r}; choose False, True or "onnx".')
    kind, source, chosen, precision = find(name, device, dtype, variant=variant, without=without)
    if compile == "onnx":
        check_onnx(chosen)
    plan = partial(
        draft, kind, source, memory=memory, device=chosen, dtype=precision, revision=revision, variant=variant,
        without=unwanted(safety_checker, None),
    )  # fmt: skip
    first = plan()
    parts = {} if vae is None else {"vae": load_vae(str(vae), precision, config)}
    if kind == "file":
        pipe = load_file(Path(source), precision, config, parts, safety_checker=safety_checker)
    elif is_pocket_path(source):
        checker = checker_of(Path(pocket.path()), safety_checker)
        pipe = load_pocket(Path(source), precision, checker | parts)
    else:
        folder = Path(source) if kind == "folder" else fetched(source, revision, variant, without)
        pipe = load_folder(
            folder,
            precision,
            variant,
            checker_of(folder, safety_checker, source) | parts,
            told=source,
        )
        if kind == "hub":
            pipe.register_to_config(_name_or_path=source)
            revision = commit_of(folder) or revision
    pipe.set_progress_bar_config(leave=False)
    pipe = _arranged(pipe, first or plan(), plan, chosen)
    if compile == "onnx":
        compile_onnx(pipe)
    elif compile:
        denoiser_of(pipe).compile()
    place = source if kind == "hub" else str(Path(source).resolve())
    remember(
        pipe,
        Origin(
            pocket_name(source) or place,
            revision,
            variant,
            None if vae is None else str(vae),
            safety_checker,
            None if config is None else str(config),
            memory,
        ),
    )
    if not is_pocket_path(source):
        tell(model_name(pipe), licence_of(model_name(pipe), place_of(pipe)))
    return pipe


def _arranged(pipe: DiffusionPipeline, plan: Plan | None, again: Callable[..., Plan | None], device: str) -> DiffusionPipeline:  # fmt: skip
    """Lay the pipeline out as planned, after the parts that overflow in half precision were widened."""
    if plan is None:  # the cache lies somewhere else than Hugging Face's own
        return pipe.to(device)
    if plan.dtype in {"float16", "bfloat16"}:
        from sdkit.memory.precision import widen_what_overflows

        widened = widen_what_overflows(pipe, device, stay=plan.way.offload == "nothing")
        plan = (again(wider=widened) or plan) if widened else plan
    if plan.sentence():
        say(plan.sentence())
    return plan.apply(pipe)
