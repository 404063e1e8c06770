"""What a container, a batch system or a service manager leaves of the computer's memory.

The one decision: **every level is asked.** A control group may hold less than the machine, and its parents less than it,
so the smallest rest counts. Pages of files that were read stay in memory until somebody needs it, so they count as free.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["container_room"]

# folder, limit, what is in use, and the part of it that goes when memory is needed
_FILES: Final = {
    2: ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    1: (
        "sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
}


def container_room(root: Path = Path("/")) -> int | None:
    """Bytes that this process may still take by its control groups (Linux, versions 1 and 2); None without a limit.

    Parameters
    ----------
    root
        The top of the file system.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # another system, or one that does not tell
        return None
    left: list[int] = []
    for line in lines:
        number, controllers, place = line.split(":", 2)
        if number == "0" or "memory" in controllers.split(","):
            left += _rests(root, place, *_FILES[2 if number == "0" else 1])
    return max(0, min(left)) if left else None


def _rests(
    root: Path, place: str, top: str, limit: str, usage: str, reclaimable: str
) -> Iterator[int]:
    """What is left of each level's limit; inside a container the path is often that of the world outside."""
    place = place.strip("/")
    levels = [place, *(p.as_posix() for p in Path(place).parents)] if place else ["."]
    for level in levels:
        folder = root / top / level
        with suppress(OSError, ValueError):  # no such level here, or the limit is "max"
            held = int((folder / limit).read_text(encoding="ascii"))
            taken = int((folder / usage).read_text(encoding="ascii"))
            facts = dict(
                x.split() for x in (folder / "memory.stat").read_text(encoding="ascii").splitlines()
            )
            yield held - taken + int(facts.get(reclaimable, 0))
