"""Every family's stand-in under one roof: how to build it and how large its pictures are."""

import warnings

import torch
from families import FAMILIES
from standins_a import SIZES_A, STANDINS_A
from standins_b import SIZES, STANDINS_B

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
