"""How Pocket learned: its weights at some moments of its training, told backwards from where they ended.

A run keeps whole weights (`keep`). What travels (`pack`) is one small file a moment: the difference to the moment after it, as
three levels a weight (less, equal, more) with one size for each row, which takes about 1.3 bits. Each difference is taken from what
the files after it give back, not from the true weights, so that rounding never adds up (error feedback, as in 1-bit SGD: Seide
et al., 2014), and the last moment is the finished model itself, to the bit.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from sdkit.errors import InvalidSettings

__all__ = ["backwards", "keep", "moments", "moments_of", "pack", "restore"]

_SCALE = ".scale"
_TRITS = np.array((1, 3, 9, 27, 81), np.uint8)  # five of three levels in a byte
Weights = Mapping[str, Tensor]


def moments(total: int, count: int) -> tuple[int, ...]:
    """After how many of `total` scenes to keep the weights: close together at first, when most is learned."""
    return tuple(sorted({max(1, round(total * (n / count) ** 2)) for n in range(1, count + 1)}))


def moments_of(folder: Path) -> tuple[int, ...]:
    """The moments that a folder holds, whole or packed, as numbers of scenes seen, first to last."""
    kept = (*folder.glob("*.safetensors"), *folder.glob("*.npz"))
    return tuple(sorted({int(f.stem) for f in kept if f.stem.isdigit()}))


def keep(folder: Path, seen: int, weights: Weights) -> Path:
    """Keep floating-point `weights` in half precision as the moment `seen`; returns the file, which is whole or absent."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{seen:09d}.safetensors"
    # networks may lie channels last
    half = {k: w.detach().cpu().half().contiguous() for k, w in _floats(weights).items()}
    save_file(half, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)
    return path


def pack(kept: Path, out: Path) -> None:
    """Write the differences of the moments in `kept` into the folder `out`; the last moment, the model itself, has an empty one."""
    out.mkdir(parents=True, exist_ok=True)
    known: dict[str, Tensor] = {}
    for moment in reversed(moments_of(kept)):
        true = {k: w.float() for k, w in load_file(kept / f"{moment:09d}.safetensors").items()}
        arrays: dict[str, NDArray[np.generic]] = {}
        for name, value in true.items() if known else ():
            arrays |= _coded(name, value - known[name])
        path = out / f"{moment:09d}.npz"
        # as np.savez does, but for LZMA: its range coder takes uneven levels to their entropy, Huffman's code stops at a bit
        with zipfile.ZipFile(path.with_suffix(".part"), "w", zipfile.ZIP_LZMA) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w") as file:
                    np.lib.format.write_array(file, array, allow_pickle=False)
        path.with_suffix(".part").replace(path)
        known = _after(known, path) if known else true


def backwards(
    folder: Path, final: Weights, *, since: int = 0
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Go through the moments that are not before `since` scenes, from the last to the first, each with its weights by name.

    Parameters
    ----------
    folder
        What `pack` or `keep` wrote; each of its files is read once.
    final
        Weights of the finished model, which packed differences begin from; those that are no floating-point numbers are
        left out.
    since
        Scenes seen in training.

    Raises
    ------
    InvalidSettings
        If a packed moment is of other networks than `final`.
    """
    known = {k: w.detach().float().cpu() for k, w in _floats(final).items()}
    for moment in reversed(moments_of(folder)):
        if moment < since:
            return
        whole = folder / f"{moment:09d}.safetensors"
        if whole.is_file():
            known = {k: w.float() for k, w in load_file(whole).items()}
        else:
            known = _after(known, whole.with_suffix(".npz"))
        yield moment, known


def restore(folder: Path, seen: int, final: Weights) -> dict[str, Tensor]:
    """Return the weights at the first moment that is not before `seen` scenes; `folder` and `final` as for `backwards`."""
    known = {k: w.detach().float().cpu() for k, w in _floats(final).items()}
    for _, known in backwards(folder, final, since=seen):  # noqa: B007 - the last one counts
        pass
    return known


def _floats(weights: Weights) -> dict[str, Tensor]:
    return {name: w for name, w in weights.items() if w.is_floating_point()}


def _coded(name: str, step: Tensor) -> dict[str, NDArray[np.generic]]:
    """A difference as levels and sizes: three levels for matrices, 255 for the few numbers of norms and biases."""
    if step.ndim < 2:
        top = float(step.abs().max().clamp_min(1e-12)) / 127
        return {
            name: (step / top).round().to(torch.int8).numpy(),
            name + _SCALE: np.array(top, np.float32),
        }
    rows = step.flatten(1)
    far = rows.abs() > rows.square().mean(1, keepdim=True).sqrt()  # about a third of them
    size = (rows.abs() * far).sum(1) / far.sum(1).clamp_min(1)
    levels = (rows.sign() * far + 1).to(torch.uint8).numpy().ravel()
    padded = np.pad(levels, (0, -levels.size % 5), constant_values=1).reshape(-1, 5)
    return {
        name: (padded * _TRITS).sum(1, dtype=np.uint8),
        name + _SCALE: size.numpy().astype(np.float16),
    }


def _size(value: Tensor) -> int:
    """How many numbers code a difference to `value`."""
    return -(-value.numel() // 5) if value.ndim >= 2 else value.numel()


def _after(known: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The weights that a file's differences lead to."""
    found = dict(known)
    with np.load(path, allow_pickle=False) as arrays:
        for name in (n for n in arrays.files if not n.endswith(_SCALE)):
            levels, value = arrays[name], known.get(name)
            if value is None or levels.size != _size(value):
                raise InvalidSettings(
                    f"The history in '{path.parent}' is of other networks than these weights ({name} differs); give the "
                    f"weights that its run ended with."
                )
            scale = torch.from_numpy(arrays[name + _SCALE].astype(np.float32))
            if value.ndim >= 2:
                trits = levels[:, None] // _TRITS % 3
                levels = trits.ravel()[: value.numel()].astype(np.int8) - 1
                scale = scale.reshape(-1, *(1,) * (value.ndim - 1))
            found[name] = value + torch.from_numpy(levels).float().view_as(value) * scale
    return found
