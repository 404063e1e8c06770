"""Fast previews resemble the exact picture, and the exact picture is the run's own."""

import numpy as np
import pytest
import torch

from sdkit.errors import InvalidSettings
from sdkit.generation import generate
from sdkit.pipelines import previews
from sdkit.pipelines.previews import decode, preview, rgb_of


def coarse(image, side=16):
    return np.asarray(image.convert("RGB").resize((side, side)), dtype=float).ravel()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_preview_resembles_the_exact_picture(pocket, seed):
    made = generate(pocket, "a red car on a beach", seed=seed, steps=6, progress=False)
    shown = preview(pocket, made.latents[0])
    assert shown.size == made.image.size
    assert np.corrcoef(coarse(shown), coarse(made.image))[0, 1] > 0.95


def test_the_matrix_is_the_exact_one_of_a_linear_autoencoder(tiny, monkeypatch):
    """Channels 0 to 2 carry the colours, shifted and scaled: the fit must find exactly that."""

    class Linear:
        def __init__(self, pictures):
            mean = torch.nn.functional.avg_pool2d(pictures, tiny.vae_scale_factor)
            self.latents = (
                torch.cat([2 * mean + 1, mean[:, :1] * 0], 1) / tiny.vae.config.scaling_factor
            )

    monkeypatch.setattr(tiny.vae, "encode", Linear)
    latents = np.random.default_rng(0).normal(size=(4, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(
        rgb_of(tiny, latents), np.moveaxis((latents[:3] - 1) / 2, 0, -1), atol=1e-5
    )


def test_an_autoencoder_is_fitted_once(tiny, monkeypatch):
    calls = []
    own = tiny.vae.encode
    monkeypatch.setattr(tiny.vae, "encode", lambda x: calls.append(len(x)) or own(x))
    for _ in range(3):
        preview(tiny, torch.zeros(1, 4, 8, 8))
    assert calls == [previews._PICTURES]


def test_decode_is_the_pipelines_own(pocket):
    made = generate(pocket, "a cat", seed=5, steps=3, progress=False)
    assert (np.asarray(decode(pocket, made.latents[0])) == np.asarray(made.image)).all()


def test_an_autoencoder_that_overflows_in_half_precision_gets_its_precision_back(tiny):
    tiny.vae.to(dtype=torch.float16)
    tiny.vae.register_to_config(force_upcast=True)
    before = {k: v.clone() for k, v in tiny.vae.state_dict().items()}
    assert decode(tiny, torch.zeros(4, 16, 16)).size == (32, 32)
    assert tiny.vae.dtype == torch.float16
    assert all(torch.equal(v, before[k]) for k, v in tiny.vae.state_dict().items())


@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (64, 64), (3, 8, 8)])
def test_other_shapes_are_refused(tiny, shape):
    with pytest.raises(InvalidSettings, match=r"takes one picture's, \(4, height, width\)"):
        preview(tiny, np.zeros(shape))
