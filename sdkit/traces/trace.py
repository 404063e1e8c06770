"""What happened inside a run, step by step, as data on the CPU.

The one decision: **a trace keeps the network's predictions as the network made them**, and x0 and eps are computed when
they are asked for. At the first step of a model that starts from pure noise (zero terminal SNR) every prediction of eps is
the latents themselves: whoever keeps eps has thrown away what the words said. One `Trace` is one picture, so its arrays
have no batch axis.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sdkit.errors import InvalidSettings
from sdkit.pictures.guides import NO_GUIDES, Guides

from .predictions import clean, noise, rescaled

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from sdkit.settings import Settings

    Half = NDArray[np.float16]

__all__ = ["PARTS", "Trace", "parts"]

PARTS: Final = ("latents", "x0", "unconditional", "conditional", "guided")
"""What can be kept of every step; each costs one float16 array of the latents' shape a step."""


def parts(keep: bool | str | Iterable[str]) -> tuple[str, ...]:
    """The names that ``trace=`` or ``keep=`` asks for, in the order of `PARTS`; none for `False`.

    Raises
    ------
    InvalidSettings
        For a name that is not in `PARTS`, or an empty list.
    """
    if isinstance(keep, bool):
        return PARTS if keep else ()
    names = {keep} if isinstance(keep, str) else set(keep)
    if not names or not names <= set(PARTS):
        wrong = ", ".join(repr(n) for n in sorted(names - set(PARTS), key=str)) or "nothing"
        raise InvalidSettings(
            f"A trace cannot keep {wrong}; choose from {', '.join(PARTS)}, or True for all of them."
        )
    return tuple(p for p in PARTS if p in names)


@dataclass(frozen=True, eq=False, repr=False)
class Trace:
    """Every step of one picture's run.

    Parameters
    ----------
    kind
        What the network predicts: ``"epsilon"``, ``"v_prediction"``, ``"flow"`` or ``"sample"`` (see `sdkit.traces.predictions`).
    timesteps, alphas, sigmas
        For each of the S calls of the network, shape ``(S,)``: the model's time, and signal and noise in
        ``latents = alpha·x0 + sigma·eps``. Solvers of second order (Heun) call the network twice a step.
    latents
        What the network saw, and what the last step left: ``(S + 1, C, h, w)``, float16.
    x0
        The clean latents that each step aimed at, computed in float32 during the run: ``(S, C, h, w)``, float16.
    unconditional, conditional, guided
        The network's predictions without the words, with them, and what guidance made of both; ``(S, C, h, w)``,
        float16. Without guidance there is no unconditional one, and the other two are the same array.
    settings
        The picture's settings, if `sdkit.generate` made it.
    guides
        The control pictures and references that led it, if any.
    beyond
        What the pipeline's guidance adds to `guidance_scale`: 1 where it reckons ``c + g·(c - u)``, else 0.
    rescales
        Where the pipeline gives what guidance made the size of `conditional` (`sdkit.traces.predictions.rescaled`).
    parent, forked_at
        The trace that `sdkit.fork` continued, and the step from which on this one is new.

    Notes
    -----
    What was not kept is `None`.
    """

    kind: str
    timesteps: NDArray[np.float64]
    alphas: NDArray[np.float64]
    sigmas: NDArray[np.float64]
    latents: Half | None = None
    x0: Half | None = None
    unconditional: Half | None = None
    conditional: Half | None = None
    guided: Half | None = None
    settings: Settings | None = None
    parent: Trace | None = None
    forked_at: int | None = None
    beyond: float = 0.0
    rescales: str = ""
    guides: Guides = NO_GUIDES

    def __len__(self) -> int:
        """Count the steps (calls of the network)."""
        return len(self.timesteps)

    def __repr__(self) -> str:
        """Say what there is: ``Trace of 20 steps, latents 4×16×16, 0.4 MiB: latents, x0, guided``."""
        kept = [name for name in PARTS if getattr(self, name) is not None]
        shape = "\N{MULTIPLICATION SIGN}".join(map(str, self._any().shape[1:])) if kept else "none"
        fork = f", continued from step {self.forked_at}" if self.parent else ""
        return f"Trace of {len(self)} steps, latents {shape}, {self.nbytes / 2**20:.1f} MiB: {', '.join(kept)}{fork}"

    @property
    def nbytes(self) -> int:
        """Bytes that the arrays hold; one that serves two names counts once."""
        arrays = {id(a): a.nbytes for name in PARTS if (a := getattr(self, name)) is not None}
        return sum(arrays.values())

    @property
    def alpha_bar(self) -> NDArray[np.float64]:
        """ᾱ, the share of the picture in the latents' variance, 0 to 1; ``(S,)``."""
        return self.alphas**2 / (self.alphas**2 + self.sigmas**2)

    @property
    def snr(self) -> NDArray[np.float64]:
        """Signal-to-noise ratio ``(α/σ)²``; ``(S,)``, infinite without noise."""
        with np.errstate(divide="ignore"):
            return (self.alphas / self.sigmas) ** 2

    @property
    def lineage(self) -> list[Trace]:
        """The first run, its fork, the fork's fork …, and this trace."""
        return [*(self.parent.lineage if self.parent else []), self]

    def scaled(self) -> NDArray[np.float32]:
        """The latents with the variance the model was trained at, whatever the solver's convention; ``(S + 1, C, h, w)``."""
        r = np.append(
            np.hypot(self.alphas, self.sigmas), 1.0
        )  # no noise is left after the last step
        latents = self._part("latents").astype(np.float32)
        return latents / r.astype(np.float32).reshape(-1, *(1,) * (latents.ndim - 1))

    def x0_of(self, prediction: str) -> NDArray[np.float32]:
        """The clean latents that one prediction stands for at every step.

        Parameters
        ----------
        prediction
            ``"unconditional"``, ``"conditional"`` or ``"guided"``.

        Returns
        -------
        numpy.ndarray
            ``(S, C, h, w)``; from the float16 arrays, so good to about 1e-3 of the noise's size.

        Raises
        ------
        InvalidSettings
            If that prediction or the latents were not kept.
        """
        return self._converted(clean, self._part(prediction))

    def noise_of(self, prediction: str) -> NDArray[np.float32]:
        """The noise eps that one prediction stands for at every step; parameters and shape as for `x0_of`."""
        return self._converted(noise, self._part(prediction))

    def remix(self, guidance_scale: float) -> Trace:
        """What every step would have aimed at with another guidance, from the latents that it really had.

        Parameters
        ----------
        guidance_scale
            Any number: 0 is the run without words, 1 the words alone, below 0 away from them.

        Returns
        -------
        Trace
            With `guided` and `x0` of that guidance. The network is not asked, so `latents` stay those of the run;
            `sdkit.fork` makes the picture that would have followed.

        Raises
        ------
        InvalidSettings
            If the run had no guidance, or its predictions were not kept.

        Notes
        -----
        ``guided = unconditional + guidance_scale · (conditional - unconditional)`` (Ho & Salimans, arXiv:2207.12598), which
        some pipelines (Lumina 2, Qwen-Image) then give the size that the conditional prediction has.
        """
        without = self._part("unconditional").astype(np.float32)
        words = self._part("conditional").astype(np.float32)
        guided = without + np.float32(guidance_scale + self.beyond) * (words - without)
        guided = rescaled(guided, words, self.rescales)
        x0 = self._converted(clean, guided)
        return replace(self, guided=guided.astype(np.float16), x0=x0.astype(np.float16))

    def _part(self, name: str) -> Half:
        array: Half | None = getattr(self, name) if name in PARTS else None
        if array is not None:
            return array
        if (
            name == "unconditional"
            and self.conditional is not None
            and self.conditional is self.guided
        ):
            raise InvalidSettings(
                "This run had no guidance between two predictions (guidance_scale is 1, or an input of the network), so there "
                "is no unconditional one."
            )
        raise InvalidSettings(
            f"This trace has no {name!r}; make it again with trace=True, which keeps {', '.join(PARTS)}."
        )

    def _any(self) -> Half:
        return next(a for name in PARTS if (a := getattr(self, name)) is not None)

    def _converted(self, formula: Any, prediction: NDArray[Any]) -> NDArray[np.float32]:
        """Apply `clean` or `noise` step by step, in float32."""
        x = self._part("latents").astype(np.float32)
        steps = zip(prediction.astype(np.float32), x[:-1], self.alphas, self.sigmas, strict=True)
        return np.stack(
            [formula(self.kind, p, noisy, float(a), float(s)) for p, noisy, a, s in steps]
        )
