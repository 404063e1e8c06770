"""A denoiser that onnxruntime computes: the same pictures up to rounding, and torch wherever somebody looks inside."""

import numpy as np
import pytest
import torch

import sdkit
from sdkit.errors import InvalidSettings, MissingExtra
from sdkit.models.compiled import compile_onnx

STEPS = {"seed": 3, "steps": 3, "guidance_scale": 4.0, "progress": False}


@pytest.fixture
def fast(tiny):
    compile_onnx(tiny)
    return tiny


def pixels(pipe, prompt="a red fox on a beach", **changes):
    return np.asarray(sdkit.generate(pipe, prompt, **STEPS | changes).image, int)


def answers(network):
    """What its graph says from now on when it is asked whether it computes a call."""
    graph, told = network.forward.graph, []
    own = graph.answers
    graph.answers = lambda given: told.append(own(given)) or told[-1]
    return told


def test_the_picture_is_torchs_up_to_rounding(tiny):
    before = [pixels(tiny), pixels(tiny, guidance_scale=1.0), pixels(tiny, width=32, height=48)]
    compile_onnx(tiny)
    after = [pixels(tiny), pixels(tiny, guidance_scale=1.0), pixels(tiny, width=32, height=48)]
    assert max(np.abs(a - b).max() for a, b in zip(before, after, strict=True)) <= 1
    for network in (tiny.unet, tiny.vae.decoder):
        assert network.forward.graph._sessions, "onnxruntime was never asked"


def test_whoever_looks_inside_is_answered_by_torch(tiny):
    plain = pixels(tiny)
    with sdkit.capture_attention(tiny) as known:
        pixels(tiny)
    compile_onnx(tiny)
    with sdkit.capture_attention(tiny) as capture:
        assert (pixels(tiny) == plain).all(), "under a probe torch computes, to the bit"
    assert (capture.maps["fox"] == known.maps["fox"]).all()
    assert not tiny.unet.forward.graph._sessions


def test_traces_watch_the_graph(fast):
    with sdkit.record_trace(fast) as recorder:
        watched = pixels(fast)
    assert (watched == pixels(fast)).all()
    assert len(recorder.traces[0].timesteps) == STEPS["steps"]
    assert fast.unet.forward.graph._sessions


def test_gradients_go_through_torch(fast):
    sample = torch.zeros(1, 4, 8, 8, requires_grad=True)
    words = torch.zeros(1, 32, fast.unet.config.cross_attention_dim)
    fast.unet(sample, 5, words).sample.sum().backward()
    assert sample.grad is not None


def test_changed_weights_change_the_picture(fast):
    before = pixels(fast)
    with torch.no_grad():
        for weight in fast.unet.parameters():
            weight.data.mul_(1.1)  # as fused LoRAs do it: no version counter tells
    after = pixels(fast)
    assert (before != after).any()
    del fast.unet.forward
    assert np.abs(pixels(fast) - after).max() <= 1


def test_a_changed_decoder_changes_the_picture_and_a_watched_one_is_torchs(fast):
    before = pixels(fast)
    with torch.no_grad():
        fast.vae.decoder.conv_out.bias.data.add_(0.2)
    after = pixels(fast)
    assert after.mean() > before.mean() + 10
    answered = answers(fast.vae.decoder)
    hook = fast.vae.decoder.mid_block.register_forward_hook(lambda *_: None)
    assert np.abs(pixels(fast) - after).max() <= 1
    hook.remove()
    pixels(fast)
    assert answered == [False, True]


def test_layers_that_are_added_between_runs_are_looked_at(fast):
    pixels(fast)
    added = torch.nn.Identity()
    fast.unet.mid_block.attentions[0].register_module("extra", added)
    added.register_forward_hook(lambda *_: None)
    answered = answers(fast.unet)
    pixels(fast)
    assert answered
    assert not any(answered), "somebody looks inside, so torch computes"


def test_a_panel_can_stop_it_between_steps_without_losing_the_graph(fast):
    from sdkit.widgets.working import stoppable

    with stoppable(fast, lambda: None):
        pixels(fast)
    assert fast.unet.forward.graph._sessions
    assert fast.vae.decoder.forward.graph._sessions


def test_what_it_cannot_do_is_one_sentence_before_loading(monkeypatch):
    with pytest.raises(InvalidSettings, match="compile is 'onxx'; choose False, True"):
        sdkit.load(compile="onxx")
    with pytest.raises(
        InvalidSettings, match="computes on the processor, and the device is 'meta'"
    ):
        sdkit.load(device="meta", compile="onnx")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"needs onnx, .*sdkit-notebooks\[fast\]"):
        sdkit.load(device="cpu", compile="onnx")


def test_other_networks_are_named(tiny):
    tiny.unet.to(torch.float16)
    with pytest.raises(InvalidSettings, match="million in float16"):
        compile_onnx(tiny)
    tiny.unet.to(torch.float32).register_to_config(addition_embed_type="text_time")
    with pytest.raises(
        InvalidSettings, match="knows the UNets of Stable Diffusion 1, 2 and Pocket"
    ):
        compile_onnx(tiny)
