"""Who draws the objects: sets of pictograms by different hands, fetched for training only and never part of sdkit.

The design decision: a hand is one public npm package of fixed version, read where `npm pack` has put it, so that
nothing is unpacked, and every machine draws the same scenes. The font of the first Pocket is one hand more.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import IO

from PIL import Image

__all__ = ["SETS", "ArtSet", "fetch", "folder", "picture"]

_SIDE = 256  # pixels of a drawing; the largest object of a scene is half as wide


@dataclass(frozen=True)
class ArtSet:
    """One npm package of drawings: its name, version, who owns it, and whether it holds pictures or paths."""

    package: str
    version: str
    licence: str
    vector: bool

    @property
    def file(self) -> str:
        """The name that `npm pack` gives the package."""
        return f"{self.package.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


SETS = {
    "fluent 3d": ArtSet("@lobehub/fluent-emoji-3d", "1.1.0", "MIT, Microsoft", vector=False),
    "flat icon": ArtSet("@iconify-json/fluent-emoji-flat", "1.2.6", "MIT, Microsoft", vector=True),
    "cartoon": ArtSet("@iconify-json/noto", "1.2.9", "Apache-2.0, Google", vector=True),
}


def folder() -> Path:
    """Where the packages are kept: `SDKIT_ART`, or the user's cache."""
    return Path(os.environ.get("SDKIT_ART") or Path.home() / ".cache" / "sdkit" / "art")


def fetch(hand: str) -> Path:
    """The package of a hand, downloaded on first use; a FileNotFoundError says how to get it by hand."""
    art = SETS[hand]
    path = folder() / art.file
    if path.is_file():
        return path
    npm, name = shutil.which("npm"), f"{art.package}@{art.version}"
    said = "npm was not found"
    if npm:
        path.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(  # noqa: S603 - the package's name is a constant of this file
            [npm, "pack", "--silent", "--fetch-retries=1", name],
            cwd=path.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        said = f"npm said: {(done.stderr.strip().splitlines() or ['nothing'])[-1]}"
    if not path.is_file():
        raise FileNotFoundError(
            f"The drawings {name}, which Pocket's training scenes are made of, are not in {path.parent} ({said}). "
            f"Fetch them there with: npm pack {name}"
        )
    return path


def _codes(glyph: str) -> tuple[str, ...]:
    """The ways in which file names spell a glyph: with its variation selector, and without."""
    points = [f"{ord(c):04x}" for c in glyph]
    return "-".join(points), "-".join(p for p in points if p != "fe0f")


@cache
def _bitmaps(hand: str, process: int) -> tuple[tarfile.TarFile, dict[str, str]]:  # noqa: ARG001
    """An open package and its files by code points; one for each process, because they would share one position."""
    package = tarfile.open(fetch(hand))  # noqa: SIM115 - kept open as long as the process draws
    return package, {Path(name).stem: name for name in package.getnames() if name.endswith(".webp")}


@cache
def _vectors(hand: str) -> tuple[dict[str, str], dict[str, str], tuple[int, int]]:
    """Icon names by code points, their paths by name, and the side lengths of their drawing board."""
    with tarfile.open(fetch(hand)) as package:
        chars, icons = (
            json.load(_member(package, f"package/{name}.json")) for name in ("chars", "icons")
        )
    bodies = {name: icon["body"] for name, icon in icons["icons"].items()}
    return chars, bodies, (icons.get("width", 16), icons.get("height", 16))


def _member(package: tarfile.TarFile, name: str) -> IO[bytes]:
    stream = package.extractfile(name)
    if stream is None:
        raise FileNotFoundError(f"{package.name!s} holds no file {name}: fetch the package again.")
    return stream


def _drawn(hand: str, glyph: str) -> bytes | None:
    if not SETS[hand].vector:
        package, names = _bitmaps(hand, os.getpid())
        found = next((names[code] for code in _codes(glyph) if code in names), None)
        return _member(package, found).read() if found else None
    from resvg_py import svg_to_bytes

    chars, bodies, (width, height) = _vectors(hand)
    name = next(
        (chars[code.lstrip("0")] for code in _codes(glyph) if code.lstrip("0") in chars), ""
    )
    if name not in bodies:
        return None
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">{bodies[name]}</svg>'
    return bytes(svg_to_bytes(svg_string=svg, width=_SIDE, height=_SIDE, skip_system_fonts=True))


@cache
def picture(hand: str, glyph: str) -> Image.Image:
    """The drawing of a glyph by one hand, RGBA, cut to what is drawn."""
    data = _drawn(hand, glyph)
    if data is None:
        raise ValueError(
            f"The set {SETS[hand].package} has no drawing of {glyph!r}: choose another for this object."
        )
    drawing = Image.open(BytesIO(data)).convert("RGBA")
    box = (
        drawing.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox()
    )  # faint rims would move the object
    if box is None:
        raise ValueError(
            f"The drawing of {glyph!r} in {SETS[hand].package} is empty: choose another for this object."
        )
    return drawing.crop(box)
