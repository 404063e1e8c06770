"""Teach a copy of Pocket's UNet to take in one step what its teacher takes in several, guidance included.

From every place where the student can stand (it starts at noise and goes its own way, as it will when it is used), the
teacher goes on with guidance in a few small steps of DDIM; the student learns the one velocity that leads to the same
point. No pictures are needed, only captions. The guidance scale is drawn at random and is an input of the student.
Every third way is gone in half as many steps, so that the student knows both: who has no time sees that one.
Sources: guidance distillation, Meng et al., arXiv:2210.03142; steps of the sampler only, Zhou et al. (SFD),
arXiv:2409.19681; places that the student itself reaches, Ross et al. (DAgger), arXiv:1011.0686.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from tqdm import tqdm

from .checkpoint import load_checkpoint, save_checkpoint
from .convolution import quicken
from .data import scene
from .muon import optimizers, prepare
from .presets import Preset
from .wording import wording

__all__ = ["SCALES", "Imitation", "followed", "student_of", "train_turbo"]

SCALES = (1.0, 7.0)  # of guidance; beyond, the teacher's own pictures break
_INPUT = 64  # numbers that tell the student the guidance scale
_SUBSTEPS = 3  # of the teacher for one step of the student; strong guidance overshoots with fewer
_EAGER = 16.0  # how much faster the input for guidance learns, which begins at nothing
_HALVED = 3  # one of so many ways is gone in half of the steps
_WARM_UP = 20
_SAVE = 240  # seconds between checkpoints


def student_of(teacher: UNet2DConditionModel) -> UNet2DConditionModel:
    """A copy of the teacher with an input for the guidance scale, which says nothing at first."""
    # a network that was not read from a file lists the defaults it took, which would win
    config = {k: v for k, v in teacher.config.items() if k != "_use_default_values"}
    student = UNet2DConditionModel.from_config(config | {"time_cond_proj_dim": _INPUT})
    student.load_state_dict(teacher.state_dict(), strict=False)
    torch.nn.init.zeros_(student.time_embedding.cond_proj.weight)
    return student


def followed(
    student: UNet2DConditionModel, old: UNet2DConditionModel, new: UNet2DConditionModel
) -> UNet2DConditionModel:
    """The student of an `old` teacher, moved by what its teacher has learned since: the `new` weights less the old.

    What a network learns adds up in its weights (Ilharco et al., arXiv:2212.04089), as long as both go on from the same.
    """
    before, after = old.state_dict(), new.state_dict()
    moved = {
        name: value + after[name] - before[name] if name in after else value
        for name, value in student.state_dict().items()
    }
    student.load_state_dict(moved)
    return student


def advance(x: Tensor, velocity: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """One step of DDIM (Song et al., arXiv:2010.02502) for latents at ``ᾱ = now``, by their velocity, to ``ᾱ = then``."""
    a, s = now.sqrt(), (1 - now).sqrt()
    return then.sqrt() * (a * x - s * velocity) + (1 - then).sqrt() * (a * velocity + s * x)


def velocity_between(x: Tensor, y: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """The velocity by which `advance` leads from `x` to `y`."""
    a, s, b, r = now.sqrt(), (1 - now).sqrt(), then.sqrt(), (1 - then).sqrt()
    return (y - (a * b + s * r) * x) / (a * r - s * b)


class Imitation:
    """A student in training at a number of steps: its weights and optimizers, and the way to disk and back."""

    def __init__(
        self,
        preset: Preset,
        teacher: StableDiffusionPipeline,
        steps: int,
        folder: Path,
        device: str,
        bfloat16: bool,
        start: UNet2DConditionModel | None = None,
    ) -> None:
        self.teacher, self.steps, self.device, self.bfloat16 = teacher, steps, device, bfloat16
        self.path = folder / f"turbo-{steps}.pt"
        self.unet = student_of(teacher.unet)
        if start is not None:
            self.unet.load_state_dict(start.state_dict())
        self.unet.to(device, memory_format=torch.channels_last)
        if device == "cpu":
            quicken(self.unet)
        self.opts = self._optimizers(preset.turbo_lr)
        # fewer steps are learned from where more of them left off
        load_checkpoint(folder / f"turbo-{2 * steps}.pt", {"unet": self.unet})
        self.seen = load_checkpoint(self.path, {"unet": self.unet}, self.opts)
        scheduler = DDIMScheduler.from_config(teacher.scheduler.config)
        scheduler.set_timesteps(steps * _SUBSTEPS)
        self.times = scheduler.timesteps.to(device)
        self.alphas = torch.cat([scheduler.alphas_cumprod[scheduler.timesteps], torch.ones(1)]).to(device)  # fmt: skip
        self.empty, self.loss = self.encoded([""]), 0.0

    def _optimizers(self, lr: float) -> list[torch.optim.Optimizer]:
        """Those of all training, and a faster one for what is told of guidance, by the slow waves of its embedding."""
        told = self.unet.time_embedding.cond_proj.weight
        opts = optimizers(self.unet, lr=lr, bfloat16=self.bfloat16)
        matrices = opts[0].param_groups[0]
        matrices["params"] = [p for p in matrices["params"] if p is not told]
        # waves that turn within one unit of guidance would only be noise: their weights stay zero
        waves = 1000 * 10_000 ** -torch.linspace(0, 1, _INPUT // 2)
        slow = (waves <= 1).repeat(2).to(told)
        told.register_hook(lambda gradient: gradient * slow)
        return [*opts, torch.optim.AdamW([told], lr=lr, betas=(0.9, 0.98), weight_decay=0.0)]

    @torch.no_grad()
    def encoded(self, words: list[str]) -> Tensor:
        """Hidden states `(B, L, width)` of prompts."""
        ids = self.teacher.tokenizer(
            words, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        return self.teacher.text_encoder(ids.to(self.device)).last_hidden_state

    @torch.no_grad()
    def shown(self, x: Tensor, text: Tensor, scale: Tensor, moments: range) -> Tensor:
        """Where the teacher leads latents `x` by some of its own small steps with guidance."""
        both = torch.cat([self.empty.expand_as(text), text])
        for n in moments:
            without, with_ = (
                self.teacher.unet(torch.cat([x, x]), self.times[n], both).sample.float().chunk(2)
            )
            velocity = without + scale[:, None, None, None] * (with_ - without)
            x = advance(x, velocity, self.alphas[n], self.alphas[n + 1])
        return x

    def learn(
        self, words: list[str], scale: Tensor, noise: Tensor, rate: float, steps: int
    ) -> None:
        """One update from whole ways from noise `(B, C, 16, 16)` to pictures of `words`, at guidance scales `(B,)`.

        They are gone in so many `steps`, a divisor of the student's.
        """
        prepare(self.opts[:-1], rate)
        prepare(self.opts[-1:], _EAGER * rate)
        x, text, scale = noise.to(self.device), self.encoded(words), scale.to(self.device)
        told = self.teacher.get_guidance_scale_embedding(scale - 1, embedding_dim=_INPUT)
        total = 0.0
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bfloat16):
            small = len(self.times) // steps  # the teacher's steps for one of the student's
            for first in range(0, len(self.times), small):
                moments = range(first, first + small)
                now, then = self.alphas[first], self.alphas[first + small]
                goal = velocity_between(x, self.shown(x, text, scale, moments), now, then)
                said = self.unet(x, self.times[first], text, timestep_cond=told).sample.float()
                loss = (said - goal).square().mean() / steps
                loss.backward()
                total += loss.item()
                x = advance(x, said.detach(), now, then)
        torch.nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        for opt in self.opts:
            opt.step()
        self.seen += len(words)
        self.loss += (0.02 if self.loss else 1) * (total - self.loss)

    def save(self) -> None:
        """Write a checkpoint and one line of the curve."""
        save_checkpoint(self.path, {"unet": self.unet}, self.opts, self.seen)
        facts = {"steps": self.steps, "seen": self.seen, "loss": round(self.loss, 5)}
        with self.path.with_name("curve.jsonl").open("a") as log:
            log.write(json.dumps(facts | {"time": round(time.time())}) + "\n")


def train_turbo(
    preset: Preset,
    teacher: StableDiffusionPipeline,
    folder: Path,
    *,
    steps: int = 4,
    total: int | None = None,
    device: str = "cpu",
    bfloat16: bool = False,
    seed: int = 0,
    start: UNet2DConditionModel | None = None,
) -> UNet2DConditionModel:
    """Train (or finish training) a student of `teacher` that makes a picture in `steps` evaluations; returns it.

    It begins as a copy of the teacher, or with the weights of `start`.
    """
    total = total or preset.turbo_samples
    torch.manual_seed(seed)
    for part in (teacher.unet, teacher.text_encoder):
        part.to(device).eval().requires_grad_(False)
    teacher.unet.to(memory_format=torch.channels_last)
    run = Imitation(preset, teacher, steps, folder, device, bfloat16, start)
    batch = preset.turbo_batch
    shape = (batch // 2, preset.latents, 16, 16)
    saved = time.monotonic()
    bar = tqdm(
        total=total, initial=run.seen, desc=f"turbo, {steps} steps", unit="way", mininterval=10
    )
    while run.seen < total:
        # of this update alone: a run that was killed repeats it exactly
        rng = random.Random(f"turbo-{seed}-{steps}-{run.seen}")
        generator = torch.Generator().manual_seed(rng.getrandbits(48))
        # each way is gone twice, with little guidance and with much: what differs is guidance alone
        words = [wording(scene(preset, run.seen + n), rng) for n in range(batch // 2)] * 2
        noise = torch.randn(shape, generator=generator).repeat(2, 1, 1, 1)
        ranges = ((SCALES[0], preset.guidance_scale), (preset.guidance_scale, SCALES[1]))
        scale = torch.tensor([rng.uniform(*some) for some in ranges for _ in range(batch // 2)])
        warm = min(1.0, (run.seen / batch + 1) / _WARM_UP)
        rate = preset.turbo_lr * warm * (1 - run.seen / total)
        halved = steps % 2 == 0 and run.seen // batch % _HALVED == _HALVED - 1
        run.learn(words, scale, noise, rate, steps // 2 if halved else steps)
        bar.update(batch)
        bar.set_postfix(loss=f"{run.loss:.4f}", refresh=False)
        if run.seen >= total or time.monotonic() - saved > _SAVE:
            saved = time.monotonic()
            run.save()
    bar.close()
    return run.unet.eval()
