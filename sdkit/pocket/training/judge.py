"""The judge: a small network that has seen rendered scenes only and says what a picture shows.

It is independent of Pocket: it never sees a latent, a caption or a generated picture. One pass gives a map of which
object is where (16×16 cells), the colour of each cell, and style, background and number for the whole picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from sdkit.pocket.world import BACKGROUNDS, COLOURS, STYLES, Scene, objects

from .checkpoint import load_checkpoint, save_checkpoint
from .data import pictures, scene
from .draw import render
from .muon import optimizers, prepare
from .presets import Preset

__all__ = ["Judge", "Verdict", "train_judge"]

_GRID = 16
_COLOURS = ("natural", *COLOURS)
_NUMBERS = (1, 2, 3, 4)


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()
    )


@dataclass(frozen=True)
class Verdict:
    """What the judge saw in one picture; `where` `(objects + 1, 16, 16)` are probabilities, the last is "nothing"."""

    where: np.ndarray
    colours: np.ndarray  # (colours + 1, 16, 16) probabilities
    style: str
    background: str
    number: int

    def mass(self) -> np.ndarray:
        """How much of the picture each object takes, `(objects,)`."""
        return self.where[:-1].sum((1, 2))

    def best(self, count: int) -> set[int]:
        """The `count` objects with the largest share."""
        return set(np.argsort(self.mass())[::-1][:count].tolist())

    def centre(self, index: int) -> tuple[float, float]:
        """Centre (x, y) of one object in 0..1."""
        p = self.where[index] / max(float(self.where[index].sum()), 1e-6)
        axis = (np.arange(_GRID) + 0.5) / _GRID
        return float(p.sum(0) @ axis), float(p.sum(1) @ axis)

    def colour(self, index: int) -> str:
        """Colour word of one object, or "natural"."""
        return _COLOURS[int((self.colours * self.where[index]).sum((1, 2)).argmax())]


class Judge(nn.Module):
    """Pixels `(B, 3, 64, 64)` in -1..1 to the answers; larger pictures are reduced to 64 first."""

    def __init__(self, kinds: int, hands: tuple[str, ...] = ("noto",)) -> None:
        super().__init__()
        self.kinds = kinds
        self.styles = (*STYLES, *hands[1:])
        self.fine = nn.Sequential(
            _block(3, 32, 2), _block(32, 64, 2), _block(64, 64), _block(64, 64)
        )  # → 16×16
        self.coarse = nn.Sequential(
            _block(64, 128, 2), _block(128, 128), _block(128, 128), _block(128, 128)
        )  # → 8×8
        self.join = nn.Sequential(
            nn.Conv2d(192, 96, 1, bias=False), nn.BatchNorm2d(96), nn.SiLU(), _block(96, 96)
        )
        self.cells = nn.Conv2d(96, kinds + 1 + len(_COLOURS), 1)
        self.whole = nn.Linear(256, len(self.styles) + len(BACKGROUNDS) + len(_NUMBERS))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits by cell `(B, kinds + 1 + colours, 16, 16)`, logits of the whole, features `(B, 256)`."""
        if x.shape[-1] != 64:
            x = F.interpolate(x, (64, 64), mode="area")
        fine = self.fine(x)
        coarse = self.coarse(fine)
        cells = self.cells(self.join(torch.cat([fine, F.interpolate(coarse, scale_factor=2.0)], 1)))
        features = torch.cat([coarse.mean((2, 3)), coarse.amax((2, 3))], 1)
        return cells, self.whole(features), features

    @torch.no_grad()
    def look(self, images: Tensor) -> tuple[list[Verdict], np.ndarray]:
        """Verdicts and features `(B, 256)` for pictures `(B, 3, H, W)` in -1..1."""
        self.eval()
        verdicts, features = [], []
        for part in images.split(64):
            cells, whole, feature = self(part)
            where, colours = cells.split([self.kinds + 1, len(_COLOURS)], 1)
            style, background, number = whole.split(
                [len(self.styles), len(BACKGROUNDS), len(_NUMBERS)], 1
            )
            rows = zip(
                where.softmax(1).numpy(),
                colours.softmax(1).numpy(),
                style.argmax(1),
                background.argmax(1),
                number.argmax(1),
                strict=True,
            )
            verdicts += [
                Verdict(w, c, self.styles[s], BACKGROUNDS[b], _NUMBERS[n]) for w, c, s, b, n in rows
            ]
            features.append(feature.numpy())
        return verdicts, np.concatenate(features)


def _truth(
    scenes: list[Scene], kinds: dict[str, int], styles: tuple[str, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Object index and colour index by cell `(N, 16, 16)`, and style, background, number `(N, 3)`."""
    where = np.full((len(scenes), _GRID, _GRID), len(kinds), np.int64)
    colour = np.full((len(scenes), _GRID, _GRID), -100, np.int64)  # ignored by cross entropy
    whole = np.zeros((len(scenes), 3), np.int64)
    for n, s in enumerate(scenes):
        plain = Scene(s.items, "white", variant=s.variant, hand=s.hand)
        for item, mask in zip(s.items, render(plain, 32).masks, strict=True):
            share = mask.reshape(_GRID, 2, _GRID, 2).mean((1, 3)) > 0.4
            where[n][share] = kinds[item.kind.name]
            colour[n][share] = _COLOURS.index(item.colour or "natural")
        whole[n] = styles.index(s.style), BACKGROUNDS.index(s.background), s.count - 1
    # two things of different kinds count as one of each
    for n, s in enumerate(scenes):
        if s.relation:
            whole[n, 2] = -100
    return torch.from_numpy(where), torch.from_numpy(colour), torch.from_numpy(whole)


def train_judge(
    preset: Preset, folder: Path, *, samples: int = 150_000, device: str = "cpu"
) -> Judge:
    """Train (or load) the judge of a preset on scenes that are not Pocket's training scenes."""
    torch.manual_seed(1)
    kinds = {k.name: i for i, k in enumerate(objects(preset.objects))}
    model = Judge(len(kinds), preset.hands).to(device)
    opts = optimizers(model, lr=2e-3)
    path = folder / "judge.pt"
    seen, batch, chunk = load_checkpoint(path, {"model": model}, opts), 32, min(4096, samples)
    bar = tqdm(total=samples, initial=seen, desc="judge", unit="img", mininterval=10)
    while seen < samples:
        scenes = [scene(preset, 50_000_000 + seen + n, training=False) for n in range(chunk)]
        images = torch.from_numpy(pictures(scenes, max(preset.side, 64)))
        where, colour, whole = _truth(scenes, kinds, model.styles)
        model.train()
        for index in torch.randperm(chunk, generator=torch.Generator().manual_seed(seen)).split(
            batch
        ):
            rate = 2e-3 * min(1, (seen / batch + 1) / 50, max(0.01, (1 - seen / samples) / 0.5))
            prepare(opts, rate)
            x = images[index].to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
            x = (
                x + torch.randn_like(x) * 0.06
            )  # generated pictures are a little softer and noisier than rendered ones
            if seen // batch % 2:
                x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1) * 0.5 + x * 0.5
            with torch.autocast(device, torch.bfloat16, enabled=preset.bfloat16):
                cells, answers, _ = model(x)
            cells, answers = cells.float(), answers.float()
            a, b = cells.split([len(kinds) + 1, len(_COLOURS)], 1)
            style, background, number = answers.split(
                [len(model.styles), len(BACKGROUNDS), len(_NUMBERS)], 1
            )
            w = whole[index].to(device)
            loss = F.cross_entropy(a, where[index].to(device)) + F.cross_entropy(
                b, colour[index].to(device)
            )
            loss = loss + 0.2 * (
                F.cross_entropy(style, w[:, 0]) + F.cross_entropy(background, w[:, 1])
            )
            if (w[:, 2] >= 0).any():
                loss = loss + 0.2 * F.cross_entropy(number, w[:, 2])
            loss.backward()
            for opt in opts:
                opt.step()
            seen += len(index)
            bar.update(len(index))
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
        save_checkpoint(path, {"model": model}, opts, seen)
    bar.close()
    return model.cpu().eval()
