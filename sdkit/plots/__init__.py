"""Matplotlib figures: `ax=None` in, Axes out; nothing here touches pyplot's state or rcParams.

One file a topic: what attention saw, what happened in a run, where a walk went.
"""

from __future__ import annotations

from .attention import attention_heads, attention_overlay, attention_timeline
from .traces import denoising_strip, fork_tree, guidance_split, latent_channels, schedule
from .walks import latent_pca, walk_distances

__all__ = [
    "attention_heads",
    "attention_overlay",
    "attention_timeline",
    "denoising_strip",
    "fork_tree",
    "guidance_split",
    "latent_channels",
    "latent_pca",
    "schedule",
    "walk_distances",
]
