"""Figures of traces: what is drawn is what was recorded, into the axes that were given."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from sdkit import plots
from sdkit.errors import InvalidSettings
from sdkit.experiments.forking import fork
from sdkit.generation import generate
from sdkit.pipelines.previews import decode, preview


@pytest.fixture
def made(tiny):
    return generate(tiny, "a cat", steps=5, guidance_scale=3.0, seed=1, trace=True, progress=False)


def test_the_strip_shows_first_and_last_step(tiny, made):
    ax = plots.denoising_strip(tiny, made.trace, columns=3)
    assert [t.get_text().split("\n")[0] for t in ax.get_xticklabels()] == [
        "step 1",
        "step 3",
        "step 5",
    ]
    sheet = ax.images[0].get_array()
    picture = np.asarray(preview(tiny, made.trace.x0[-1]))
    assert (sheet[-32:, -32:] == picture).all()
    exact = plots.denoising_strip(tiny, made.trace, columns=3, exact=True).images[0].get_array()
    assert (exact[-32:, -32:] == np.asarray(decode(tiny, made.trace.x0[-1]))).all()


def test_guidance_split_ends_in_the_difference(tiny, made):
    ax = plots.guidance_split(tiny, made.trace, columns=5)
    assert [t.get_text().replace("\n", " ") for t in ax.get_yticklabels()][
        -1
    ] == "where the words pull"
    sheet = ax.images[0].get_array().astype(int)
    heat = sheet[-32::2, -32::2].sum(-1)
    difference = made.trace.x0_of("conditional")[-1] - made.trace.x0_of("unconditional")[-1]
    order = np.argsort(np.linalg.norm(difference, axis=0).ravel())
    assert heat.ravel()[order[0]] <= heat.ravel()[order[-1]]


@pytest.mark.parametrize("show", ["alpha_bar", "beta", "snr", "sigma"])
def test_the_schedule_is_the_schedulers(show):
    from diffusers import EulerDiscreteScheduler

    scheduler = EulerDiscreteScheduler(beta_schedule="scaled_linear")
    bar = scheduler.alphas_cumprod.numpy()
    known = {
        "alpha_bar": bar,
        "beta": 1 - bar / np.append(1, bar[:-1]),
        "snr": bar / (1 - bar),
        "sigma": ((1 - bar) / bar) ** 0.5,
    }
    ax = plots.schedule(scheduler, show=show, steps=10, ax=Figure().subplots())
    np.testing.assert_allclose(ax.lines[0].get_ydata(), known[show], rtol=2e-2)
    assert len(ax.lines[1].get_xdata()) == 10
    assert scheduler.num_inference_steps is None


def test_schedules_compare_on_one_axes_and_flows_have_no_beta():
    from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

    ax = plots.schedule(DDIMScheduler(), show="sigma")
    plots.schedule(
        FlowMatchEulerDiscreteScheduler(), show="sigma", steps=None, label="a flow", ax=ax
    )
    assert len(ax.lines) == 3
    t, sigma = ax.lines[2].get_xdata(), ax.lines[2].get_ydata()
    np.testing.assert_allclose(sigma[:-1], (t[:-1] / 1000) / (1 - t[:-1] / 1000))
    with pytest.raises(InvalidSettings, match="has no beta"):
        plots.schedule(FlowMatchEulerDiscreteScheduler(), show="beta")
    with pytest.raises(InvalidSettings, match="no curve 'gamma'; choose one of alpha_bar, beta"):
        plots.schedule(DDIMScheduler(), show="gamma")


def test_channels_share_one_scale_around_zero(made):
    ax = plots.latent_channels(made.trace)
    image = ax.images[0]
    limit = np.abs(made.trace.latents[-1]).max()
    assert image.get_clim() == pytest.approx((-limit, limit))
    np.testing.assert_allclose(image.get_array()[:16, :16], made.trace.latents[-1][0])
    with pytest.raises(InvalidSettings, match="give one picture's"):
        plots.latent_channels(np.zeros((1, 4, 8, 8)))


def test_the_tree_shows_every_branch_below_its_parent(tiny, made):
    fox = fork(tiny, made.trace, 2, prompt="a fox", progress=False).trace
    strong = fork(tiny, fox, 3, guidance_scale=9, progress=False).trace
    ax = plots.fork_tree(tiny, [strong, fox], columns=5)
    assert [t.get_text() for t in ax.texts] == ["a cat", "a fox", "guidance scale 9.0"]
    assert len(ax.images) == 5 + 3 + 2
    with pytest.raises(InvalidSettings, match="no traces to draw"):
        plots.fork_tree(tiny, [])
