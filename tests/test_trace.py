"""A trace is what really happened: against an analytic denoiser, for every solver; and nothing is left behind."""

import numpy as np
import pytest
import torch
from families import FAMILIES
from PIL import Image

from sdkit.errors import Cancelled, InvalidSettings
from sdkit.experiments.forking import fork
from sdkit.generation import generate
from sdkit.pipelines.previews import preview
from sdkit.pipelines.schedulers import make_scheduler
from sdkit.settings import SCHEDULERS, Settings
from sdkit.traces.trace import PARTS, parts
from sdkit.traces.tracing import record_trace, trace_cost

MEAN, SPREAD = 0.5, 0.7  # of the Gaussian "pictures" that the analytic denoiser knows


def pixels(image):
    return np.asarray(image.convert("RGB"))


def quick(pipe, prompt="a cat", **options):
    return generate(
        pipe, prompt, **{"steps": 4, "guidance_scale": 3.0, "progress": False, **options}
    )


class Gaussian:
    """The best denoiser of pictures drawn from N(MEAN, SPREAD²), with a log of what it saw and meant."""

    def __init__(self, pipe, name):
        self.kind = pipe.scheduler.config.prediction_type
        self.bars = make_scheduler(pipe, name).alphas_cumprod.double().numpy()
        self.log = []
        pipe.unet.forward = self

    def __call__(self, x, t, **_):
        bar = np.interp(float(t), np.arange(len(self.bars)), self.bars)
        a, s = bar**0.5, (1 - bar) ** 0.5
        x0 = MEAN + a * SPREAD**2 / (a**2 * SPREAD**2 + s**2) * (x - a * MEAN)
        self.log.append((bar, x[:1].numpy(), x0[:1].numpy()))
        if self.kind == "epsilon":
            return ((x - a * x0) / s,)
        return ((a * x - x0) / s,)  # v = a·eps - s·x0 with eps = (x - a·x0)/s


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_trace_equals_the_closed_form(tiny, name, kind):
    from diffusers import DDIMScheduler

    if kind == "epsilon":
        tiny.scheduler = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, set_alpha_to_one=False, steps_offset=1)  # fmt: skip
    else:
        tiny.scheduler.register_to_config(prediction_type=kind)
    denoiser = Gaussian(tiny, name)
    trace = quick(tiny, scheduler=name, steps=6, seed=3, trace=True).trace
    assert trace.kind == kind
    assert len(trace) == len(denoiser.log)
    bars, seen, meant = (np.array(column) for column in zip(*denoiser.log, strict=True))
    # Karras spacing hands the network rounded times, so there the denoiser itself is a little off the solver's level
    loose = 20 if name == "dpm++_karras" else 1
    np.testing.assert_allclose(trace.alpha_bar, bars, atol=2e-4 * loose)
    np.testing.assert_allclose(trace.scaled()[:-1], seen[:, 0], atol=4e-3 * loose)
    np.testing.assert_allclose(trace.x0, meant[:, 0], atol=4e-3 * loose)
    # eps of fp16 arrays is good to 1e-3 where noise is left to speak of
    noisy = trace.alpha_bar < 0.9
    mixed = trace.alphas[:, None, None, None] * trace.x0 + trace.sigmas[
        :, None, None, None
    ] * trace.noise_of("guided")
    np.testing.assert_allclose(mixed[noisy], trace.latents[:-1][noisy], rtol=4e-3, atol=1e-2)


@pytest.mark.parametrize("family", ["sd3", "flux"])
def test_flow_matching_against_the_straight_line(family):
    pipe = FAMILIES[family]()
    made = quick(pipe, width=32, height=32, steps=5, seed=2, trace=True)
    t = made.trace
    assert t.x0.shape == (5, 16, 16, 16)
    assert t.nbytes == trace_cost(pipe, made.settings)
    assert t.kind == "flow"
    np.testing.assert_allclose(t.alphas + t.sigmas, 1)
    # Euler on a flow: the next latents lie on the line from here towards x0, as far as the noise falls
    after = np.append(t.sigmas[1:], 0)
    share = ((t.sigmas - after) / t.sigmas)[:, None, None, None]
    x = t.latents.astype(np.float32)
    np.testing.assert_allclose(x[1:], x[:-1] + share * (t.x0 - x[:-1]), atol=6e-3)
    np.testing.assert_allclose(x[-1], made.latents[0], atol=2e-3)
    same = fork(pipe, t, 2, progress=False)
    assert np.abs(same.latents - made.latents).max() < 1e-2
    assert preview(pipe, t.x0[-1]).size == made.image.size
    if family == "sd3":
        np.testing.assert_allclose(t.remix(3.0).x0, t.x0, atol=2e-2)


def test_sdxl_is_recorded_and_continued():
    pipe = FAMILIES["sdxl"]()
    made = quick(pipe, width=32, height=32, trace=True)
    assert made.trace.kind == "epsilon"
    np.testing.assert_allclose(made.trace.remix(3.0).x0, made.trace.x0, rtol=5e-3, atol=5e-2)
    again = fork(pipe, made.trace, 2, progress=False)
    np.testing.assert_allclose(again.latents, made.latents, rtol=2e-3, atol=2e-2)


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_recording_changes_nothing_and_costs_what_was_told(tiny, name, guidance_scale):
    options = {"scheduler": name, "guidance_scale": guidance_scale, "count": 2, "seed": 5}
    plain = quick(tiny, **options)
    traced = quick(tiny, **options, trace=True)
    assert (plain.latents == traced.latents).all()
    assert all(
        (pixels(a) == pixels(b)).all() for a, b in zip(plain.images, traced.images, strict=True)
    )
    assert "forward" not in vars(tiny.unet)
    assert "step" not in vars(tiny.scheduler)
    for i in range(2):
        trace = traced[i].trace
        assert trace.nbytes == trace_cost(tiny, traced[i].settings)
        np.testing.assert_allclose(trace.latents[-1], traced.latents[i], rtol=1e-3, atol=1e-3)
        assert trace.settings == traced[i].settings


def test_guidance_is_the_mixture_of_its_parts(tiny):
    t = quick(tiny, guidance_scale=5.0, trace=True).trace
    mixture = t.unconditional.astype(np.float32) + 5 * (
        t.conditional.astype(np.float32) - t.unconditional
    )
    np.testing.assert_allclose(t.guided, mixture, atol=2e-2)
    np.testing.assert_allclose(t.remix(5.0).x0, t.x0, atol=2e-2)
    np.testing.assert_allclose(t.remix(0.0).x0, t.x0_of("unconditional"), atol=2e-3)
    np.testing.assert_allclose(t.remix(1.0).x0, t.x0_of("conditional"), atol=2e-3)


def test_a_remix_of_the_first_step_is_what_another_guidance_would_have_aimed_at(tiny):
    three, nine = (quick(tiny, guidance_scale=g, trace=True).trace for g in (3.0, 9.0))
    np.testing.assert_allclose(three.remix(9.0).x0[0], nine.x0[0], atol=3e-2)


def test_without_guidance_there_is_one_prediction(tiny):
    t = quick(tiny, guidance_scale=1.0, trace=True).trace
    assert t.unconditional is None
    assert t.conditional is t.guided
    with pytest.raises(InvalidSettings, match="had no guidance"):
        t.remix(4.0)


def test_only_what_was_asked_for_is_kept(tiny):
    made = quick(tiny, trace=("x0",))
    assert {p for p in PARTS if getattr(made.trace, p) is not None} == {"x0"}
    assert made.trace.nbytes == trace_cost(tiny, made.settings, "x0") == 4 * 4 * 16 * 16 * 2
    with pytest.raises(InvalidSettings, match="has no 'latents'; make it again with trace=True"):
        made.trace.scaled()
    with pytest.raises(InvalidSettings, match="cannot keep 'noise'; choose from latents, x0"):
        quick(tiny, trace="noise")
    assert parts(False) == ()


def test_an_sdxl_shaped_trace_stays_below_64_mebibytes():
    from types import SimpleNamespace

    sdxl = SimpleNamespace(
        vae=SimpleNamespace(config=SimpleNamespace(latent_channels=4)), vae_scale_factor=8
    )
    cost = trace_cost(
        sdxl, Settings(prompt="a", steps=50, width=1024, height=1024, guidance_scale=5.0)
    )
    assert cost == 2 * 4 * 128 * 128 * (5 * 50 + 1)
    assert cost <= 64 * 2**20


def test_a_huge_trace_is_told_before_the_first_step(tiny, monkeypatch):
    monkeypatch.setattr("sdkit.traces.tracing._MUCH", 20_000)

    def stop(*_):
        raise Cancelled

    with (
        pytest.warns(UserWarning, match=r"will keep 0\.0 GiB of memory; trace='x0' keeps"),
        pytest.raises(Cancelled),
    ):
        quick(tiny, trace=True, on_step=stop)
    quick(tiny, trace="x0")  # 8 KiB: nothing to say, and a warning would be an error here


@pytest.mark.parametrize("error", [Cancelled, KeyboardInterrupt])
def test_a_stopped_run_leaves_no_probe(tiny, error):
    before = quick(tiny)
    bar = dict(tiny._progress_bar_config)

    def stop(*_):
        raise error

    with pytest.raises(error):
        quick(tiny, scheduler="euler", trace=True, on_step=stop)
    assert "forward" not in vars(tiny.unet)
    assert "step" not in vars(tiny.scheduler)
    assert tiny._progress_bar_config == bar
    assert (quick(tiny).latents == before.latents).all()


def test_the_probe_records_your_own_calls_and_only_the_latest(tiny):
    with record_trace(tiny, ("latents", "x0")) as recorder:
        assert recorder.traces == []
        tiny("a dog", num_inference_steps=5, output_type="latent")
        out = tiny(["a cat", "a fox"], num_inference_steps=3, output_type="latent").images
    assert [len(t) for t in recorder.traces] == [3, 3]
    np.testing.assert_allclose(recorder.traces[1].latents[-1], out[1], rtol=1e-3, atol=1e-3)
    assert recorder.traces[0].settings is None


def test_image_to_image_is_recorded_too(tiny):
    made = quick(tiny, image=Image.new("RGB", (32, 32), "red"), strength=0.5, steps=6, trace=True)
    assert len(made.trace) == 3
    assert made.trace.nbytes == trace_cost(tiny, made.settings)
    assert 0 < made.trace.alpha_bar[0] < 1


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_fork_without_a_change_ends_where_the_run_ended(tiny, name):
    made = quick(tiny, scheduler=name, steps=6, seed=4, trace=True)
    calls = []
    handle = tiny.unet.register_forward_hook(lambda *_: calls.append(1))
    own = type(tiny.unet).forward
    evaluated = []

    def counting(self, *args, **kwargs):
        evaluated.append(1)
        return own(self, *args, **kwargs)

    type(tiny.unet).forward = counting
    try:
        same = fork(tiny, made.trace, 3, progress=False)
    finally:
        type(tiny.unet).forward = own
        handle.remove()
    assert len(evaluated) == len(made.trace) - 3, "the steps before the fork are not computed again"
    assert np.abs(same.latents - made.latents).max() < 2e-2
    assert same.trace.parent is made.trace
    assert same.trace.lineage == [made.trace, same.trace]
    np.testing.assert_array_equal(same.trace.conditional[:3], made.trace.conditional[:3])


@pytest.mark.parametrize(
    "changes", [{"prompt": "a dog"}, {"guidance_scale": 9.0}, {"guidance_scale": 1.0}, {"seed": 8}]
)
def test_a_fork_shares_the_past_and_changes_the_future(tiny, changes):
    made = quick(tiny, steps=6, trace=True)
    branch = fork(tiny, made.trace, 3, progress=False, **changes)
    np.testing.assert_allclose(
        branch.trace.latents[:3], made.trace.latents[:3], rtol=2e-3, atol=2e-3
    )
    assert np.abs(branch.trace.latents[-1] - made.trace.latents[-1]).max() > 1e-3
    assert branch.settings == made.settings.replace(**changes)
    assert "do not make this picture again" in branch.notes[-1]
    assert "forward" not in vars(tiny.unet)


def test_a_new_seed_draws_new_noise_around_x0(tiny):
    made = quick(tiny, steps=6, trace=True)
    t = fork(tiny, made.trace, 2, progress=False, seed=9).trace
    eps = torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(9)).numpy()
    old = made.trace
    np.testing.assert_allclose(
        t.latents[2], old.alphas[2] * old.x0[1] + old.sigmas[2] * eps, atol=4e-3
    )


@pytest.mark.parametrize(
    ("step", "changes", "sentence"),
    [
        (0, {}, "step is 0; this trace can be continued from step 1 to 3"),
        (4, {}, "step is 4"),
        (2, {"steps": 9}, "steps cannot change in the middle of a run"),
    ],
)
def test_bad_forks_are_one_sentence(tiny, step, changes, sentence):
    trace = quick(tiny, trace=True).trace
    with pytest.raises(InvalidSettings, match=sentence):
        fork(tiny, trace, step, **changes)
    thin = quick(tiny, trace="x0").trace
    with pytest.raises(InvalidSettings, match="make it with generate"):
        fork(tiny, thin, 2)


def test_a_trace_describes_itself(tiny):
    assert repr(quick(tiny, trace=True).trace) == (
        "Trace of 4 steps, latents 4×16×16, 0.0 MiB: latents, x0, unconditional, conditional, guided"
    )
