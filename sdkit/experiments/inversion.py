"""From a picture back to the noise that it would have grown from: DDIM inversion.

The one decision: **going back is a solver like any other**. The pipeline's own call runs with `Backwards` as its scheduler, so
words, sizes and guidance reach the network as they always do, and no family is treated apart. The noise that is found goes
into the settings by its fingerprint: editing, walks and variations then take the picture like one of the model's own.
Sources: J. Song et al., "Denoising diffusion implicit models", arXiv:2010.02502; fixed-point rounds as in Z. Pan et al.,
"Effective real image editing with accelerated iterative diffusion inversion", arXiv:2309.04907; guidance that leads away
from the picture's own words, in place of an optimised empty text, in D. Miyake et al., "Negative-prompt inversion",
arXiv:2305.16807.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import DDIMScheduler
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput

from sdkit.errors import InvalidSettings
from sdkit.generation import complete, generate, warn_about_words
from sdkit.pictures.sources import Picture, fitted, taken_in
from sdkit.pipelines.families import autoencoder_of, family_of
from sdkit.pipelines.guiding import adapters_of
from sdkit.pipelines.noise import keep_noise
from sdkit.pipelines.previews import encode_picture
from sdkit.pipelines.run import Run, lock_of
from sdkit.pipelines.schedulers import make_scheduler, suiting, swapped_in
from sdkit.result import Result
from sdkit.settings import Settings

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from PIL import Image

__all__ = ["Backwards", "invert"]

_MOST_ROUNDS = 50


def invert(
    pipe: DiffusionPipeline,
    image: Picture,
    prompt: str = "",
    *,
    rounds: int = 5,
    progress: bool = True,
    **changes: Any,
) -> Result:
    """Find the noise from which the model makes a picture that it did not make: a photograph, or your own drawing.

    Parameters
    ----------
    pipe
        A pipeline that predicts noise or velocity: Pocket, Stable Diffusion 1.x, 2.x or XL.
    image
        The picture, given as for `sdkit.generate`; it gets its size by the same rules (``width=``, ``height=``, ``fit=``).
    prompt
        What is to be seen in it. An edit exchanges these words; without any, guidance stays at 1.
    rounds
        How often each step is solved anew, 1 to 50. One is plain DDIM inversion; the error shrinks with every round.
    progress
        Show a progress bar.
    **changes
        ``steps=``, ``guidance_scale=``, ``width=``, ``height=``, ``fit=``. Going back costs ``steps · rounds`` calls of the
        network, half as dear as guided steps.

    Returns
    -------
    Result
        What the model makes of the noise. Its settings hold the noise's fingerprint, and work in `generate`,
        `edit_attention`, `interpolate`, `variations` and `fork` as long as this session lasts; afterwards the same call of
        `invert` finds the noise again. Its notes tell how near it comes to `image`.

    Raises
    ------
    InvalidSettings
        Before the first step, for a pipeline or a setting with which nothing can be found.
    BadPicture
        If `image` cannot be read.
    NumericalError
        If the rounds do not settle; more steps help.

    Notes
    -----
    A step of DDIM is linear in the latents and in what the network says of them, ``x' = a·x + b·net(x)``. Back from x' the
    equation ``x = (x' - b·net(x)) / a`` holds x on both sides; it is solved by putting in the last x, `rounds` times.

    It is solved without guidance. With guidance the way there would differ from the way back, so the settings name the words
    twice, as prompt and as negative prompt: guidance then has nothing to pull at, whatever its scale, until an edit
    changes one of the two. What remains is the loss of the autoencoder.

    Examples
    --------
    >>> drawing = sdkit.generate(pipe, "a house in a meadow", seed=1).image  # or a file's path
    >>> mine = sdkit.invert(pipe, drawing, "a house in a meadow", steps=8, progress=False)
    >>> again = sdkit.generate(pipe, mine.settings)
    >>> with sdkit.edit_attention(pipe, mine, swap={"house": "castle"}) as edit:
    ...     castle = sdkit.generate(pipe, edit.settings)
    """
    _check(pipe, rounds, changes)
    source, _ = taken_in(image)
    [asked] = complete(pipe, prompt, image=source, **changes, scheduler="ddim", strength=1.0)
    words = asked.replace(
        task="text-to-image", source=None, fit=None, strength=Settings().strength, guidance_scale=1
    )
    warn_about_words(pipe, [words])
    assert source is not None  # noqa: S101 - `complete` has seen it
    goal = fitted(source, (asked.width or 0, asked.height or 0), asked.fit)
    with lock_of(pipe), torch.no_grad():
        noise = _back(pipe, encode_picture(pipe, goal), words, rounds, progress=progress)
    found = words.replace(noise=keep_noise(noise))
    if prompt:
        found = found.replace(negative_prompt=prompt, guidance_scale=asked.guidance_scale)
    made = generate(pipe, found, progress=progress)
    note = f"Made from noise that sdkit.invert found; {_decibels(goal, made.image):.1f} dB from the picture that was given."
    return made.noted(note)


class Backwards(DDIMScheduler):  # type: ignore[misc]
    """DDIM from the picture to the noise: each timestep is solved for the latents before it, in several rounds."""

    rounds = 1
    timesteps: torch.Tensor

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        """Lay out the timesteps of a DDIM run of as many steps, turned around, each for all its rounds."""
        super().set_timesteps(num_inference_steps, device)
        self.timesteps = self.timesteps.flip(0).repeat_interleave(self.rounds)
        self.order = self.rounds  # pipelines count a step of their progress bar after so many calls
        self._called = 0

    def step(
        self,
        model_output: torch.Tensor,
        timestep: int,
        sample: torch.Tensor,
        *,
        return_dict: bool = True,
    ) -> Any:
        """Put in what the network says of the present guess ``(B, C, h, w)``; the next guess comes out."""
        if self._called == 0:
            self._behind = sample  # where the step that is sought would arrive
        self._called += 1
        guess = self._solved(model_output, timestep)
        if self._called % self.rounds == 0 and self._called < len(self.timesteps):
            self._behind = guess
            # the network will say nearly the same one step on, which is a better first guess than standing still
            guess = self._solved(model_output, int(self.timesteps[self._called]))
        return DDIMSchedulerOutput(prev_sample=guess) if return_dict else (guess,)

    def _solved(self, said: torch.Tensor, timestep: int) -> torch.Tensor:
        """Solve ``behind = a·x + b·said`` for x, with a and b read off the step itself."""
        zero, one = said.new_zeros(1).double(), said.new_ones(1).double()
        a = super().step(zero, timestep, one).prev_sample
        b = super().step(one, timestep, zero).prev_sample
        return ((self._behind - b * said) / a).to(said.dtype)


def _check(pipe: Any, rounds: int, changes: dict[str, Any]) -> None:
    family = family_of(pipe)
    plain = family.steerable and family.layout == "plain" and autoencoder_of(pipe) is not None
    if not plain or not suiting(pipe) or family.guidance is None or family.embedded:
        raise InvalidSettings(
            f"{family.pipeline} cannot be inverted; that needs a model that predicts noise or velocity, such as Stable "
            "Diffusion 1.x, 2.x or XL, or Pocket."
        )
    if family.control is not None or adapters_of(pipe) or {"control", "reference"} & set(changes):
        raise InvalidSettings(
            f"An inversion follows no control or reference picture; leave it out, and where {family.pipeline} needs one, invert with the plain pipeline."
        )
    if changes.get("scheduler", "ddim") != "ddim":
        raise InvalidSettings(
            f"The scheduler {changes['scheduler']!r} cannot be run backwards; leave it out, and DDIM is used."
        )
    changes.pop("scheduler", None)
    for name in ("negative_prompt", "strength", "variation_amount", "noise"):
        if changes.get(name):
            raise InvalidSettings(
                f"{name} cannot be chosen in an inversion; change it in the settings that come back."
            )
    if make_scheduler(pipe, "ddim").config.clip_sample:
        raise InvalidSettings(
            "This pipeline's DDIM clips what it aims at, and what is clipped cannot be found again; load it with "
            "clip_sample=False in its scheduler's configuration."
        )
    if isinstance(rounds, bool) or not isinstance(rounds, int) or not 1 <= rounds <= _MOST_ROUNDS:
        raise InvalidSettings(
            f"rounds is {rounds!r}; give a whole number from 1 to {_MOST_ROUNDS}."
        )


def _back(
    pipe: Any, latents: torch.Tensor, words: Settings, rounds: int, *, progress: bool
) -> torch.Tensor:
    """The noise ``(1, C, h, w)`` from which these settings lead to these latents."""
    solver = Backwards.from_config(make_scheduler(pipe, "ddim").config)
    solver.rounds = rounds
    with swapped_in(pipe, solver):
        run = Run(
            pipe,
            [words.replace(scheduler=None)],
            None,
            None,
            on_step=None,
            progress=progress,
            noise=latents,
        )
        [(_, noise, _)] = run()
    return torch.from_numpy(noise)[None]


def _decibels(one: Image.Image, two: Image.Image) -> float:
    """Peak signal-to-noise ratio of two RGB pictures of one size; infinite where they are equal."""
    a, b = (np.asarray(i.convert("RGB"), np.float64) for i in (one, two))
    error = float(np.square(a - b).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf
