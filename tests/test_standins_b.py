"""Each stand-in draws a finite picture of the size asked for, and the same one twice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from standins_b import CALLS, SIZES, STANDINS_B


@pytest.mark.parametrize("name", STANDINS_B)
def test_the_bare_call_of_a_stand_in_draws_the_same_finite_picture_twice(name):
    pipe = STANDINS_B[name]()
    pipe.set_progress_bar_config(disable=True)
    size = SIZES.get(name, 32)

    def draw():
        seeded = torch.Generator().manual_seed(0)
        settings = {"num_inference_steps": 2, "height": size, "width": size, "generator": seeded, "output_type": "np"}
        # as a tuple: Kandinsky 5 calls its pictures otherwise than all others
        return np.asarray(pipe("a cat", **settings | CALLS.get(name, {}), return_dict=False)[0])

    first = draw()
    assert first.shape == (1, size, size, 3)
    assert np.isfinite(first).all()
    assert first.std() > 0.01
    assert np.array_equal(first, draw())
