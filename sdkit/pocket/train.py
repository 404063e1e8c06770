"""Train Pocket from nothing: `python -m sdkit.pocket.train --preset pocket2`.

Three stages, each in its own file: the autoencoder, the tokenizer, and here the text encoder and the UNet together.
Everything is seeded, resumes after a kill, and ends in a folder that plain diffusers opens. Choices that made the
difference on two processor cores: Muon, latents cached in shards, single objects first, and a learning rate that is
flat and then falls to zero, so that a run can be cut short by asking for fewer samples.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.training_utils import EMAModel
from PIL import Image
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from .history import keep, moments, pack
from .training.autoencoder import (
    encoder_of,
    latest_autoencoder,
    psnr,
    to_pixels,
    train_autoencoder,
)
from .training.checkpoint import load_checkpoint, save_checkpoint
from .training.convolution import quicken
from .training.data import batches, masks, pictures, scene, training_scenes
from .training.grounding import Watcher, WordMarks, grounding_loss
from .training.muon import optimizers, prepare
from .training.presets import PRESETS, Preset, build_scheduler, build_text_encoder, build_unet
from .training.team import ALONE, Team, together
from .training.tokenizer import adopt, build_tokenizer, unknown
from .training.wording import wording
from .turbo import LARGEST_FILE
from .world import Scene

__all__ = ["export", "main", "train_diffusion"]

_GAMMA = 5.0  # of min-SNR
_MEET = 8  # steps of every core between two meetings
_GROUNDING = 0.05  # weight of the grounding loss beside that of the velocity
_SAVE, _SHOW = 240, 900  # seconds between checkpoints, and between sheets of samples
_SAMPLES = (
    "a cat on a purple background",
    "a red car on a beach, watercolor",
    "a fox in the snow",
    "a rocket under a night sky",
    "three apples on a white background",
    "a dog to the left of a tree in a meadow",
    "a blue umbrella on a yellow background, pop art",
    "a castle at night, stained glass",
    "an owl, neon",
    "a whale in the sea, oil painting",
    "a robot in a city at dusk, pixel art",
    "a pencil sketch of a bicycle",
)


def _shard(
    preset: Preset,
    number: int,
    vae: AutoencoderKL,
    code: Callable[[Tensor], Tensor],
    folder: Path,
    new: int = 0,
) -> tuple[Tensor, Tensor, list[Scene]]:
    """Latents `(N, C, 16, 16)` (scaled), masks `(N, 2, 16, 16)` and scenes of one shard, rendered and coded on first use."""
    scenes = training_scenes(preset, number, new)
    path = folder / "latents" / f"{number:03d}.pt"
    if not path.exists():
        images = pictures(scenes, preset.side)
        pieces = np.array_split(images, max(1, len(images) // 64))
        with torch.no_grad():
            parts = [code(to_pixels(p).to(vae.device)).half().cpu() for p in pieces]
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(
            f".{os.getpid()}.part"
        )  # a kill leaves no half shard, nor do two runs one of both
        torch.save({"latents": torch.cat(parts), "masks": torch.from_numpy(masks(scenes))}, beside)
        beside.replace(path)
    kept = torch.load(path, weights_only=True)
    return kept["latents"].float() * vae.config.scaling_factor, kept["masks"].float() / 255, scenes


def _rate(seen: int, total: int, batch: int) -> float:
    """Warm up over 100 steps, stay, fall linearly to zero over the last 35 %."""
    return min(1.0, (seen / batch + 1) / 100, max(0.0, (1 - seen / total) / 0.35))


def draw_noise(
    latents: Tensor, scheduler: DDIMScheduler, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Timesteps `(B,)` and noise of the latents' shape for one batch."""
    batch, steps = len(latents), scheduler.config.num_train_timesteps
    u = (
        torch.arange(batch) + torch.rand(batch, generator=generator)
    ) / batch  # one timestep in each slice
    bell = 0.5 - torch.sin(
        torch.asin(1 - 2 * u) / 3
    )  # density 6t(1-t): shapes are decided at middling noise
    t = (torch.lerp(u, bell, 0.7) * steps).long().clamp_(max=steps - 1)
    t = t[torch.randperm(batch, generator=generator)]
    return t, torch.randn(latents.shape, generator=generator)


def velocity_errors(
    unet: UNet2DConditionModel,
    text: Tensor,
    latents: Tensor,
    t: Tensor,
    noise: Tensor,
    scheduler: DDIMScheduler,
) -> Tensor:
    """Weighted squared errors `(B,)` of the predicted velocity ``v = √ᾱ ε - √(1-ᾱ) x0`` (Salimans & Ho, arXiv:2202.00512).

    The weight is that of min-SNR-γ (Hang et al., arXiv:2303.09556) for low noise and 1 for high noise, where min-SNR
    would vanish and a zero-terminal-SNR schedule must learn most.
    """
    noisy = scheduler.add_noise(latents, noise, t)
    velocity = scheduler.get_velocity(latents, noise, t)
    error = (unet(noisy, t, text).sample.float() - velocity).square().mean((1, 2, 3))  # (B,)
    alpha = scheduler.alphas_cumprod.to(latents.device)[t]
    snr = alpha / (1 - alpha)
    return error * (snr + 1).clamp(max=_GAMMA) / (snr + 1)


class Diffusion:
    """Text encoder and UNet in training: weights, their running average, optimizers, and the way to disk and back."""

    def __init__(
        self,
        preset: Preset,
        tokenizer: CLIPTokenizer,
        folder: Path,
        device: str,
        start: StableDiffusionPipeline | None = None,
        team: Team = ALONE,
    ) -> None:
        self.preset, self.folder, self.device, self.team = preset, folder, device, team
        self.text = build_text_encoder(preset, len(tokenizer)).to(device)
        self.unet = build_unet(preset).to(
            device, memory_format=torch.channels_last
        )  # a fifth faster on two cores
        if start is not None:
            adopt(self.text, tokenizer, start)
            self.unet.load_state_dict(start.unet.state_dict())
        if device == "cpu":
            quicken(self.unet)
            self.text.set_attn_implementation("eager")  # faster for so few tokens
        self.both = torch.nn.ModuleDict({"text": self.text, "unet": self.unet})
        self.watcher = Watcher(self.unet, too=device == "cpu")
        self.opts = optimizers(self.text, self.unet, lr=preset.lr, bfloat16=preset.bfloat16)
        self.ema = EMAModel(
            self.both.parameters(), decay=0.9985, use_ema_warmup=True, power=0.75, foreach=True
        )
        self.scheduler, self.loss, self.pull = build_scheduler(), 0.0, 0.0
        self.seen = load_checkpoint(
            folder / "diffusion.pt", {"both": self.both, "ema": self.ema}, self.opts
        )
        self.ema.to(device)

    def step(
        self,
        ids: Tensor,
        latents: Tensor,
        marks: Tensor,
        masks: Tensor,
        rate: float,
        generator: torch.Generator,
    ) -> None:
        """Learn from one batch: token ids `(B, 32)`, latents `(B, C, 16, 16)`, and which token stands for which mask."""
        prepare(self.opts, rate)
        t, noise = draw_noise(latents, self.scheduler, generator)
        ids, latents, t, noise, marks, masks = (
            part.to(self.device) for part in (ids, latents, t, noise, marks, masks)
        )
        self.watcher.clear()
        with torch.autocast(
            self.device, torch.bfloat16, enabled=self.preset.bfloat16 or self.device == "cuda"
        ):
            hidden = self.text(ids).last_hidden_state
            loss = velocity_errors(self.unet, hidden, latents, t, noise, self.scheduler).mean()
            pull = grounding_loss(self.watcher.seen, marks, masks)
        (loss + _GROUNDING * pull).backward()
        torch.nn.utils.clip_grad_norm_(self.both.parameters(), 1.0)
        for opt in self.opts:
            opt.step()
        self.seen += len(ids) * self.team.cores
        if self.team.number == 0:
            self.ema.step(self.both.parameters())
            self.loss += (0.01 if self.loss else 1) * (loss.item() - self.loss)
            self.pull += (0.01 if self.pull else 1) * (pull.item() - self.pull)

    def remember(self, moments_: tuple[int, ...]) -> None:
        """Keep the averaged weights in the run's history if the last step reached one of these moments."""
        before = self.seen - self.preset.batch * self.team.cores
        if any(before < moment <= self.seen for moment in moments_):
            with self.averaged():
                keep(self.folder / "history", self.seen, self.both.state_dict())

    def save(self) -> None:
        """Write a checkpoint and one line of the curve."""
        save_checkpoint(
            self.folder / "diffusion.pt", {"both": self.both, "ema": self.ema}, self.opts, self.seen
        )
        with (self.folder / "curve.jsonl").open("a") as log:
            facts = {
                "seen": self.seen,
                "loss": round(self.loss, 5),
                "grounding": round(self.pull, 5),
            }
            log.write(json.dumps(facts | {"time": round(time.time())}) + "\n")

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Hold the running average of the weights inside the block."""
        self.ema.store(self.both.parameters())
        self.ema.copy_to(self.both.parameters())
        try:
            yield
        finally:
            self.ema.restore(self.both.parameters())


def train_diffusion(
    preset: Preset,
    folder: Path,
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    *,
    device: str = "cpu",
    seed: int = 0,
    total: int | None = None,
    start: StableDiffusionPipeline | None = None,
    team: Team = ALONE,
) -> tuple[CLIPTextModel, UNet2DConditionModel]:
    """Train (or finish training) text encoder and UNet together; returns their averaged weights.

    Every process of a `team` has batches of its own, and shards of its own that they come from; the first keeps the books.

    A new run begins from random weights, or from those of `start`, a pipeline of the same sizes. What that has no word
    for is new, and taught first; if it knows every word, the shards that teach single objects are skipped.
    """
    total = total or preset.samples
    torch.manual_seed(seed)
    run = Diffusion(preset, tokenizer, folder, device, start, team)
    mark, code = WordMarks(tokenizer), encoder_of(preset, vae)
    kept = moments(total, preset.history) if preset.history else ()
    new = unknown(preset, start.tokenizer) if start is not None else 0
    skipped = preset.shards // 4 if start is not None and not new else 0
    round_, first = preset.batch * team.cores, team.number == 0
    often = _MEET if team.cores > 1 else 1
    saved = sampled = time.monotonic()
    bar = tqdm(
        total=total,
        initial=run.seen,
        desc="text encoder + UNet",
        unit="img",
        mininterval=10,
        disable=not first,
    )
    while run.seen < total:
        place, done = divmod(run.seen, preset.shard * team.cores)
        place = place * team.cores + team.number
        epoch, shard = divmod(place, preset.shards - skipped)
        numbers = np.arange(skipped, preset.shards)
        number = int(
            (np.random.default_rng([seed, epoch]).permutation(numbers) if epoch else numbers)[shard]
        )
        latents, masks_, scenes = _shard(preset, number, vae, code, folder, new)
        order = batches(preset.shard, preset.batch, np.random.default_rng([seed, place]))
        for index in islice(order, done // round_, None):
            # of this step alone: a run that was killed repeats it exactly
            rng = random.Random(f"{seed}-{run.seen + team.number * preset.batch}")
            generator = torch.Generator().manual_seed(rng.getrandbits(48))
            words = [wording(scenes[i], rng) for i in index]
            ids = tokenizer(
                words, padding="max_length", truncation=True, return_tensors="pt"
            ).input_ids
            marks = mark([scenes[i] for i in index], ids)
            rate = preset.lr * _rate(run.seen, total, round_)
            run.step(ids, latents[index], marks, masks_[index], rate, generator)
            ended = run.seen >= total
            if met := ended or run.seen // round_ % often == 0:
                team.meet(run.both.parameters())
            if first:
                run.remember(kept)
                bar.update(round_)
                bar.set_postfix(loss=f"{run.loss:.4f}", grounding=f"{run.pull:.3f}", refresh=False)
                if ended or (met and time.monotonic() - saved > _SAVE):
                    saved = time.monotonic()
                    run.save()
                if time.monotonic() - sampled > _SHOW:
                    sampled = time.monotonic()
                    if preset.linear:  # its decoder may be learning beside
                        load_checkpoint(folder / "autoencoder.pt", {"model": vae})
                    with run.averaged():
                        _sheet(assemble(vae, run.text, tokenizer, run.unet), preset).save(
                            folder / f"samples-{run.seen:08d}.png"
                        )
            if ended:
                break
    bar.close()
    run.ema.copy_to(run.both.parameters())
    run.unet.set_attn_processor(AttnProcessor2_0())
    run.text.set_attn_implementation("sdpa")
    return run.text.eval(), run.unet.eval()


def assemble(
    vae: AutoencoderKL, text: CLIPTextModel, tokenizer: CLIPTokenizer, unet: UNet2DConditionModel
) -> StableDiffusionPipeline:
    """The parts as one plain pipeline."""
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sheet(pipe: StableDiffusionPipeline, preset: Preset) -> Image.Image:
    pipe.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(n) for n in range(len(_SAMPLES))]
    images = pipe(
        list(_SAMPLES),
        num_inference_steps=preset.steps,
        guidance_scale=preset.guidance_scale,
        generator=generators,
    ).images
    side, columns = images[0].width, 4
    sheet = Image.new("RGB", (columns * side, side * -(-len(images) // columns)))
    for n, image in enumerate(images):
        sheet.paste(image, (n % columns * side, n // columns * side))
    return sheet.resize((sheet.width * 3, sheet.height * 3), Image.Resampling.LANCZOS)


def _tokenizer(preset: Preset, folder: Path) -> CLIPTokenizer:
    """The tokenizer of a run: kept in its folder, because weights mean nothing with any other."""
    if not folder.exists():
        build_tokenizer(preset).save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def export(pipe: StableDiffusionPipeline, preset: Preset, folder: Path) -> None:
    """Write the pipeline as half-precision safetensors in files of at most 16 MiB, and the card that sdkit reads."""
    pipe.to(dtype=torch.float16)
    pipe.save_pretrained(folder, safe_serialization=True, max_shard_size=LARGEST_FILE)
    pipe.to(dtype=torch.float32)
    # transformers reads weights in the precision that this file names, diffusers in single: they must agree
    config = folder / "text_encoder" / "config.json"
    config.write_text(
        json.dumps(json.loads(config.read_text()) | {"dtype": "float32"}, indent=2) + "\n"
    )
    # where a part was loaded from is nobody's business
    for config in (folder / "model_index.json", *folder.glob("*/config.json")):
        kept = {k: v for k, v in json.loads(config.read_text()).items() if k != "_name_or_path"}
        config.write_text(json.dumps(kept, indent=2) + "\n")
    defaults = {"steps": preset.steps, "guidance_scale": preset.guidance_scale}
    (folder / "pocket.json").write_text(json.dumps(preset.facts | defaults, indent=2) + "\n")


def main(argv: list[str] | None = None) -> None:
    """Command line: every stage that is not finished yet, then export and the facts of the run."""
    parser = argparse.ArgumentParser(prog="python -m sdkit.pocket.train", description=__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="pocket2")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("pocket-run"),
        help="checkpoints, cached latents, samples and the result",
    )
    parser.add_argument(
        "--samples",
        type=int,
        help="train text encoder and UNet, or with --stage autoencoder that, on this many scenes (default: the preset's)",
    )
    parser.add_argument(
        "--start",
        type=Path,
        help="go on from this diffusers folder, such as the shipped Pocket, instead of from nothing",
    )
    parser.add_argument(
        "--stage",
        choices=("all", "autoencoder", "diffusion"),
        default="all",
        help="train one part only: where the encoder is a linear code, two processes can train both at once; a last "
        "call without this option exports what they made",
    )
    parser.add_argument(
        "--cores",
        type=int,
        default=1,
        help="train text encoder and UNet in this many processes of one thread each, which meet at the mean of their "
        "weights (default: 1, whose operations use the threads that torch is given)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(argv)
    if options.cores < 1:
        parser.error(f"--cores {options.cores} was asked for: give 1 or more.")
    if options.cores > 1 and options.device != "cpu":
        parser.error(
            f"--cores {options.cores} was asked for with --device {options.device}: leave one of them out."
        )
    preset = PRESETS[options.preset]
    if options.stage == "diffusion" and not (preset.linear or options.start):
        parser.error(
            f"--stage diffusion was asked for with --preset {preset.name}, whose latents do not exist before its "
            f"autoencoder is trained: leave --stage out."
        )
    folder, began = options.folder / options.preset, time.time()
    start = (
        StableDiffusionPipeline.from_pretrained(options.start, dtype=torch.float32)
        if options.start
        else None
    )
    known = start.vae if start is not None else None
    learn_pixels = partial(
        train_autoencoder, preset, folder, device=options.device, seed=options.seed
    )
    if options.stage == "autoencoder":
        learn_pixels(total=options.samples, start=known)
        return
    if known is not None or options.stage == "diffusion":
        vae = latest_autoencoder(preset, folder, options.seed, known).to(options.device)
    else:
        vae = learn_pixels()
    tokenizer = _tokenizer(preset, folder / "tokenizer")
    learn = partial(
        train_diffusion,
        preset,
        folder,
        vae,
        tokenizer,
        device=options.device,
        seed=options.seed,
        total=options.samples,
        start=start,
    )
    if options.cores > 1:
        together(learn, options.cores)
    text, unet = learn()  # what a team has finished is only read
    if options.stage == "diffusion":
        return
    pipe = assemble(vae.cpu(), text.cpu(), tokenizer, unet.cpu())
    _sheet(pipe, preset).save(folder / "samples-final.png")
    export(pipe, preset, folder / "weights")
    if preset.history:
        pack(folder / "history", folder / "weights-history")
    fresh = to_pixels(pictures([scene(preset, n, training=False) for n in range(200)], preset.side))
    facts = {
        "preset": preset.name,
        "seed": options.seed,
        "samples": options.samples or preset.samples,
        "autoencoder_psnr_db": round(psnr(vae, fresh), 2),
        "hours_of_last_run": round((time.time() - began) / 3600, 2),
        "device": options.device,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    (folder / "facts.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
