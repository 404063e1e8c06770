"""How every benchmark here compares: process CPU time, variants alternating in one process, minimum of N."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

__all__ = ["alternate"]


def alternate(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Smallest CPU seconds of each way, taken in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.process_time()
            way()
            seconds[name].append(time.process_time() - began)
    return {name: min(values) for name, values in seconds.items()}
