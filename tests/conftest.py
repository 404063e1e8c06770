"""What several tests share: the emoji font, Pocket, and the smallest possible pipeline."""

from __future__ import annotations

import copy
import os
import subprocess
import warnings
from functools import cache
from pathlib import Path

import hypothesis
import pytest

from sdkit.pocket.training.draw import find_font

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torch

# beside another process on the same cores, a second thread waits more than it works
_ALONE = "PYTEST_XDIST_WORKER" not in os.environ
torch.set_num_threads(min(2, os.cpu_count() or 1) if _ALONE else 1)


# where a change is judged, the same examples are tried each time; at home new ones are found
hypothesis.settings.register_profile("judged", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("judged")


def _fetch_font() -> None:
    """Unpack Debian's font package into a cache folder: no root, nothing installed."""
    try:
        find_font()
    except FileNotFoundError:
        pass
    else:
        return
    cache = Path.home() / ".cache" / "sdkit-tests" / "font"
    lists = cache / "lists"
    (lists / "partial").mkdir(parents=True, exist_ok=True)
    apt = [
        "apt-get",
        f"-oDir::State::Lists={lists}",
        f"-oDir::Cache={cache}",
        "-oDebug::NoLocking=1",
        "-qq",
    ]
    try:
        for step in (["update"], ["download", "fonts-noto-color-emoji"]):
            subprocess.run([*apt, *step], cwd=cache, check=True, capture_output=True)
        package = next(cache.glob("*.deb"))
        subprocess.run(["dpkg", "-x", str(package), str(cache)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError, StopIteration):
        pytest.exit(
            "The tests draw scenes with an emoji font; run: apt-get install fonts-noto-color-emoji",
            returncode=1,
        )
    os.environ["SDKIT_EMOJI_FONT"] = str(next(cache.rglob("NotoColorEmoji.ttf")))
    find_font()


_fetch_font()


@pytest.fixture(scope="session")
def pocket():
    """The shipped Pocket; tests leave it as they found it."""
    import sdkit

    return sdkit.load(device="cpu")


@cache
def _tiny_tokenizer():
    """Built once: each pipeline gets a copy of its own, for tokenizers keep how they pad."""
    from sdkit.pocket.training.presets import PRESETS
    from sdkit.pocket.training.tokenizer import build_tokenizer

    return build_tokenizer(PRESETS["tiny"])


@pytest.fixture
def tiny():
    """A Stable Diffusion pipeline of the real classes with random weights and 8×8 latents, made in a moment."""
    from sdkit.pocket.train import assemble
    from sdkit.pocket.training.presets import (
        PRESETS,
        build_autoencoder,
        build_text_encoder,
        build_unet,
    )

    torch.manual_seed(0)
    preset = PRESETS["tiny"]
    tokenizer = copy.deepcopy(_tiny_tokenizer())
    pipe = assemble(
        build_autoencoder(preset),
        build_text_encoder(preset, len(tokenizer)),
        tokenizer,
        build_unet(preset),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
