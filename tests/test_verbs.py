"""Every family of diffusers through sdkit's verbs, with the bare call as the judge."""

import numpy as np
import pytest
import standins

import sdkit
from sdkit.errors import SdkitError
from sdkit.pipelines.families import family_of

# predictions without a formula
WITHOUT_TRACE = {"stable-cascade": "tells neither sigmas nor alphas"}


@pytest.fixture(scope="module", params=standins.EVERY)
def family(request):
    """Name, pipeline, the options that make the stand-in's picture, and that picture."""
    side = standins.side_of(request.param)
    options = {"steps": 2, "width": side, "height": side, "seed": 3, "progress": False}
    pipe = standins.build(request.param)
    return request.param, pipe, options, sdkit.generate(pipe, "a cat", **options)


def test_the_picture_is_the_bare_calls_to_the_bit(family):
    name, pipe, _, made = family
    expected = (standins.bare(pipe, name) * 255).round().astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(made.image.convert("RGB")), expected[..., :3])
    other = (standins.bare(pipe, name, prompt="a red bus") * 255).round().astype(np.uint8)
    assert not np.array_equal(other, expected), (
        "the stand-in does not heed its prompt, so it shows nothing"
    )


def test_what_is_recorded_changes_nothing_and_ends_where_the_run_ended(family):
    name, pipe, options, plain = family
    if name in WITHOUT_TRACE:
        with pytest.raises(SdkitError, match=WITHOUT_TRACE[name]):
            sdkit.generate(pipe, "a cat", trace=True, **options)
        return
    traced = sdkit.generate(pipe, "a cat", trace=True, **options)
    np.testing.assert_array_equal(traced.latents, plain.latents)
    assert len(traced.trace) >= 2


def test_noise_from_outside_is_the_pipelines_own_or_refused(family):
    _, pipe, _, plain = family
    if not family_of(pipe).steerable:
        with pytest.raises(SdkitError, match="Variations are not offered"):
            sdkit.variations(pipe, plain, count=1, progress=False)
        return
    near = sdkit.variations(pipe, plain, count=1, amount=1e-4, progress=False)
    far = sdkit.variations(pipe, plain, count=1, amount=0.9, progress=False)
    assert np.isfinite(near.latents).all()
    if (
        near.latents.shape == plain.latents.shape
    ):  # else the pipeline rounds the size of its own noise
        strayed = [np.abs(some.latents - plain.latents).mean() for some in (near, far)]
        assert strayed[0] < strayed[1]
