"""Every stand-in makes a picture with the bare call of diffusers, which is what sdkit is compared with."""

import numpy as np
import pytest
import torch
from standins_a import SIZES_A, STANDINS_A


@pytest.fixture(scope="module", params=STANDINS_A)
def bare(request):
    pipe = STANDINS_A[request.param]()
    pipe.set_progress_bar_config(disable=True)
    side = SIZES_A.get(request.param, 32)

    def call(prompt):
        return pipe(
            prompt=prompt,  # not everywhere the first argument
            num_inference_steps=2,
            height=side,
            width=side,
            generator=torch.Generator().manual_seed(0),
            output_type="np",
        ).images

    call.side = side
    return call


def test_the_bare_call_makes_the_same_picture_twice(bare):
    pictures = bare("a cat")
    assert pictures.shape[:3] == (1, bare.side, bare.side)
    assert np.isfinite(pictures).all()
    np.testing.assert_array_equal(bare("a cat"), pictures)


def test_the_prompt_changes_the_picture(bare):
    assert np.abs(bare("a cat") - bare("a red bus")).max() > 1 / 255
