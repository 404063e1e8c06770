"""Every family's stand-in under one roof: how to build it and how large its pictures are."""

import inspect
import warnings

import numpy as np
import torch
from families import FAMILIES
from PIL import Image
from standins_a import SIZES_A, STANDINS_A
from standins_b import SIZES, STANDINS_B

from sdkit.pipelines.families import family_of

# they round every size to one of about 1024×1024, which takes minutes on a processor: tried by hand, not in every run; Ideogram's
# guidance is a plan for 48 steps
LARGE = (
    "hunyuan-dit",
    "hunyuan-dit-pag",
    "prx",
    "prx-pixel",
    "pixart-sigma-pag",
    "sana_sprint",
    "flux_kontext",
    "ideogram4",
)
EVERY = {n: f for n, f in {**FAMILIES, **STANDINS_A, **STANDINS_B}.items() if n not in LARGE}
SIDES = {**SIZES_A, **SIZES}


def build(name):
    """The pipeline of a family, quiet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = EVERY[name]()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def side_of(name):
    """Pixels along one side of the picture that the stand-in makes."""
    return SIDES.get(name, 32)


def bare(pipe, name, prompt="a cat", seed=3):
    """What diffusers itself makes: pixels ``(H, W, 3)`` in 0..1."""
    side = side_of(name)
    out = pipe(
        prompt=prompt,
        num_inference_steps=2,
        width=side,
        height=side,
        generator=torch.Generator().manual_seed(seed),
        output_type="np",
    )
    return (out.images if hasattr(out, "images") else out.image)[0]  # Kandinsky 5 names it so


def bare_drift(pipe, name, prompts, seed=3):
    """How far diffusers' own latents of two prompts at once are from those of each alone: batches round otherwise."""

    def latents(texts):
        generators = [torch.Generator().manual_seed(seed) for _ in texts]
        size = {"width": side_of(name), "height": side_of(name)}
        out = pipe(
            prompt=texts, num_inference_steps=2, generator=generators, output_type="latent", **size
        )
        return out.images

    pair = latents(prompts)
    return max(
        (row - latents([text])[0]).abs().max().item()
        for row, text in zip(pair, prompts, strict=True)
    )


def noisy(seed, size):
    """A picture of coarse chance, in which every pixel matters."""
    chance = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(chance).resize(size, Image.Resampling.BICUBIC)


def hole(size):
    """A mask, white below a slanting line."""
    rows, columns = np.indices(size[::-1])
    return Image.fromarray(np.uint8(rows + columns > sum(size) / 2) * 255)


def bare_start(pipe, settings, image, mask=None):
    """What a pipeline of diffusers that begins with a picture makes by these settings: a picture."""
    accepted = inspect.signature(type(pipe).__call__).parameters
    options = {
        "strength": settings.strength,
        "width": settings.width,
        "height": settings.height,
        family_of(pipe).guidance: settings.guidance_scale,
        "guidance_schedule": None,
    }
    given = {"image": image} if mask is None else {"image": image, "mask_image": mask}
    out = pipe(
        prompt="a cat",
        num_inference_steps=settings.steps,
        generator=torch.Generator().manual_seed(settings.seed),
        output_type="np",
        **given,
        **{name: value for name, value in options.items() if name in accepted},
    )
    pixels = (out.images if hasattr(out, "images") else out.image)[0]
    made = Image.fromarray((pixels * 255).round().astype(np.uint8)[..., :3])
    return made if mask is None else Image.composite(made, image, mask)
