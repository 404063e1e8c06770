r"""What a network predicts, turned into the clean picture or the noise: the one place for these formulas.

Every diffusion model sees a mixture of a clean picture and Gaussian noise, ``x = α·x0 + σ·eps``, and predicts one of

================== ========================= ================== ==================
kind               prediction                x0                 eps
================== ========================= ================== ==================
``epsilon``        eps                       (x - σ·eps)/α      eps
``v_prediction``   (α·eps - σ·x0)/r          (α·x/r - σ·v)/r    (σ·x/r + α·v)/r
``flow``           eps - x0, where α + σ = 1 x - σ·u            x + α·u
``sample``         x0                        x0                 (x - α·x0)/σ
================== ========================= ================== ==================

with ``r = √(α² + σ²)`` (Salimans & Ho, arXiv:2202.00512, appendix D; Lipman et al., arXiv:2210.02747). The one
decision: **α and σ are asked of the scheduler, once, in `level`**, because diffusers has four conventions for them; with
these two numbers the formulas above hold for all its solvers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from sdkit.errors import InvalidSettings
from sdkit.pipelines.families import is_flow

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    Array = TypeVar("Array", torch.Tensor, NDArray[np.floating[Any]])

__all__ = ["clean", "kind_of", "level", "noise", "rescaled"]

_KINDS = {
    "epsilon": "epsilon",
    "v_prediction": "v_prediction",
    "flow_prediction": "flow",
    "sample": "sample",
}


def kind_of(scheduler: Any) -> str:
    """What the network of a scheduler predicts: ``"epsilon"``, ``"v_prediction"``, ``"flow"`` or ``"sample"``.

    Raises
    ------
    InvalidSettings
        For a kind that is not in the table above.
    """
    if is_flow(scheduler):
        return "flow"
    named = scheduler.config.get("prediction_type", "epsilon")
    if named not in _KINDS:
        raise InvalidSettings(
            f"The prediction type {named!r} has no formula here; known are {', '.join(_KINDS)}."
        )
    return _KINDS[named]


def level(scheduler: Any, timestep: Any) -> tuple[float, float]:
    """Signal and noise (α, σ) of the latents that a scheduler is about to step from.

    Parameters
    ----------
    scheduler
        A diffusers scheduler between ``set_timesteps`` and ``step``.
    timestep
        Where it stands, as it would be handed to ``step``.

    Returns
    -------
    tuple of float
        ``α ≥ 0`` and ``σ ≥ 0`` in ``x = α·x0 + σ·eps``. Their squares add up to 1 (DDIM, DDPM, PNDM, DPM++, UniPC), or
        α is 1 and x grows with σ (Euler, LMS, Heun), or they add up to 1 themselves (flow matching).
    """
    if not hasattr(scheduler, "sigmas"):  # the schedule is a table by timestep
        if not hasattr(scheduler, "alphas_cumprod"):
            raise InvalidSettings(
                f"{type(scheduler).__name__} tells neither sigmas nor alphas, so its steps have no formula here; make the picture without trace."
            )
        bar = float(scheduler.alphas_cumprod[int(timestep)])
        return math.sqrt(bar), math.sqrt(1 - bar)
    index = scheduler.step_index
    if index is None:  # before its first step
        index = scheduler.begin_index
    if index is None:
        index = scheduler.index_for_timestep(timestep)
    sigma = scheduler.sigmas[index]
    if hasattr(scheduler, "_sigma_to_alpha_sigma_t"):
        alpha, sigma = scheduler._sigma_to_alpha_sigma_t(sigma)
        return float(alpha), float(sigma)
    return (1 - float(sigma) if is_flow(scheduler) else 1.0), float(sigma)


def clean(kind: str, prediction: Array, x: Array, alpha: float, sigma: float) -> Array:
    """The clean latents x0 that a prediction stands for.

    Parameters
    ----------
    kind
        As `kind_of` says it.
    prediction, x
        What the network said about the noisy latents ``x``; arrays or tensors of one shape.
    alpha, sigma
        As `level` says them. ``alpha`` must be above 0 for ``"epsilon"``: pure noise says nothing about x0.

    Returns
    -------
    numpy.ndarray or torch.Tensor
        The same shape.
    """
    if kind == "sample":
        return prediction
    if kind == "flow":
        return x - sigma * prediction
    if kind == "epsilon":
        return (x - sigma * prediction) / alpha
    r = math.hypot(alpha, sigma)
    return (x * (alpha / r) - sigma * prediction) / r


def noise(kind: str, prediction: Array, x: Array, alpha: float, sigma: float) -> Array:
    """The noise eps that a prediction stands for; as `clean`, with ``sigma`` above 0 for ``"sample"``."""
    if kind == "epsilon":
        return prediction
    if kind == "flow":
        return x + alpha * prediction
    if kind == "sample":
        return (x - alpha * prediction) / sigma
    r = math.hypot(alpha, sigma)
    return (x * (sigma / r) + alpha * prediction) / r


def rescaled(
    guided: NDArray[np.float32], words: NDArray[np.float32], rule: str
) -> NDArray[np.float32]:
    """What guidance made of two predictions, given back the size of the one with the words, as some pipelines do.

    Parameters
    ----------
    guided, words
        ``(S, C, h, w)``, or ``(S, P, D)`` where tokens were not unpacked.
    rule
        `Family.rescales`: Lumina 2 goes by rows, Qwen-Image by tokens of 2×2 latent pixels.

    Returns
    -------
    numpy.ndarray
        ``guided · |words| / |guided|``, the sizes taken where the rule says.
    """
    if not rule:
        return guided
    factor = _size(words, rule) / np.maximum(_size(guided, rule), 1e-8)
    most = 1 if rule == "grown" else np.inf
    return (guided * np.minimum(factor, most)).astype(np.float32)


def _size(prediction: NDArray[np.float32], rule: str) -> NDArray[np.float32]:
    """Euclidean norms in a shape that multiplies the prediction."""
    if rule == "rows" or prediction.ndim == 3:
        return np.sqrt(np.square(prediction).sum(-1, keepdims=True), dtype=np.float32)
    steps, channels, h, w = prediction.shape
    blocks = prediction.reshape(steps, channels, h // 2, 2, w // 2, 2)
    sizes = np.sqrt(np.square(blocks).sum((1, 3, 5)))[:, None]
    return sizes.repeat(2, -2).repeat(2, -1)
