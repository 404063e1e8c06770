"""The conversions between predictions, against the definitions of what is predicted."""

import math

import numpy as np
import pytest

from sdkit.errors import InvalidSettings
from sdkit.traces.predictions import clean, kind_of, level, noise

# (α, σ) of a variance-preserving level, of one that starts from pure noise, of an exploding one, and of a flow
LEVELS = {"vp": (0.6, 0.8), "pure": (0.0, 1.0), "ve": (1.0, 7.0), "flow": (0.3, 0.7)}
PREDICTIONS = {
    "epsilon": lambda x0, eps, a, s: eps,
    "v_prediction": lambda x0, eps, a, s: (a * eps - s * x0) / math.hypot(a, s),
    "flow": lambda x0, eps, a, s: eps - x0,
    "sample": lambda x0, eps, a, s: x0,
}


@pytest.mark.parametrize(
    ("kind", "where"),
    [(k, w) for k in PREDICTIONS for w in LEVELS if (k == "flow") == (w == "flow")],
)
def test_what_was_mixed_comes_apart_again(kind, where):
    a, s = LEVELS[where]
    x0, eps = np.random.default_rng(0).normal(size=(2, 4, 3, 3))
    x = a * x0 + s * eps
    said = PREDICTIONS[kind](x0, eps, a, s)
    np.testing.assert_allclose(noise(kind, said, x, a, s), eps, atol=1e-12)
    if not (kind == "epsilon" and where == "pure"):  # pure noise and its noise say nothing about x0
        np.testing.assert_allclose(clean(kind, said, x, a, s), x0, atol=1e-12)


def test_an_unknown_kind_is_refused():
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler()
    scheduler.register_to_config(prediction_type="guess")
    with pytest.raises(InvalidSettings, match="'guess' has no formula here"):
        kind_of(scheduler)


def test_level_of_a_flow_is_its_sigma():
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(4)
    assert kind_of(scheduler) == "flow"
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        assert level(scheduler, t) == pytest.approx((1 - float(sigma), float(sigma)))
