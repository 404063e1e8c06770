"""Each stand-in draws with the bare call of diffusers, which is what the same call through sdkit is compared with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from standins_b import CALLS, SIZES, STANDINS_B


@pytest.fixture(scope="module", params=STANDINS_B)
def bare(request):
    pipe = STANDINS_B[request.param]()
    pipe.set_progress_bar_config(disable=True)
    size = SIZES.get(request.param, 32)

    def draw(prompt):
        seeded = torch.Generator().manual_seed(0)
        settings = {"num_inference_steps": 2, "height": size, "width": size, "generator": seeded, "output_type": "np"}
        done = pipe(prompt, **settings | CALLS.get(request.param, {}))
        pictures = np.asarray(done.image if request.param == "kandinsky5" else done.images)
        assert pictures.shape == (1, size, size, 3)
        return pictures

    return draw


def test_the_bare_call_draws_the_same_finite_picture_twice(bare):
    picture = bare("a cat")
    assert np.isfinite(picture).all()
    assert picture.std() > 0.01
    np.testing.assert_array_equal(bare("a cat"), picture)


def test_the_prompt_changes_the_picture(bare):
    assert np.abs(bare("a cat") - bare("the red car")).max() > 1 / 255
