"""Where a Chromium is: the installed one, Playwright's own, or Debian's headless build unpacked into a cache folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CACHE = Path.home() / ".cache" / "sdkit-tests" / "chromium"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig><dir>/usr/share/fonts</dir><dir>{root}/usr/share/fonts</dir><cachedir>{root}/fonts-cache</cachedir></fontconfig>
"""


def find_chromium(own: str) -> tuple[str, dict[str, str]]:
    """Return a Chromium's path and the environment that it needs; `own` is where Playwright would have its own."""
    installed = next(filter(None, map(shutil.which, NAMES)), None)
    if installed:
        return installed, {}
    if Path(own).exists():
        return own, {}
    try:
        return _unpacked(CACHE)
    except (OSError, subprocess.CalledProcessError, StopIteration) as error:
        said = getattr(error, "stderr", "") or ""
        pytest.exit(
            f"The browser tests need Chromium ({error}); run: apt-get install chromium\n{said}",
            1,
        )


def _unpacked(cache: Path) -> tuple[str, dict[str, str]]:
    """Fetch Debian's headless Chromium, and what it needs and this machine lacks; no root, nothing installed."""
    root = cache / "root"
    if not (root / "complete").exists():
        shutil.rmtree(cache, ignore_errors=True)
        (cache / "lists" / "partial").mkdir(parents=True)
        (
            cache / "none"
        ).touch()  # as if nothing were installed: the answer does not hang on this machine's state
        own = [
            f"-oDir::State::Lists={cache / 'lists'}",
            f"-oDir::Cache={cache}",
            "-oDebug::NoLocking=1",
            "-qq",
        ]
        _run(cache, "apt-get", *own, "update")
        options = [
            "--yes",
            "--print-uris",
            "--no-install-recommends",
            f"-oDir::State::status={cache / 'none'}",
        ]
        needed = _run(
            cache,
            "apt-get",
            *own,
            *options,
            "install",
            "chromium-headless-shell",
            "fonts-dejavu-core",
        )
        names = {
            line.split()[1].partition("_")[0]
            for line in needed.splitlines()
            if line.startswith("'")
        }
        _run(cache, "apt-get", *own, "download", *sorted(names - _installed()))
        for package in cache.glob("*.deb"):
            _run(cache, "dpkg", "-x", str(package), str(root))
            package.unlink()
        (root / "fonts.conf").write_text(FONTS.format(root=root), encoding="utf-8")
        (root / "complete").touch()
    program = next(
        f
        for f in sorted(root.rglob("*headless*shell"))
        if f.is_file() and f.read_bytes()[:4] == b"\x7fELF"
    )
    libraries = sorted({str(f.parent) for f in root.rglob("*.so*")})
    return str(program), {
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        "FONTCONFIG_FILE": str(root / "fonts.conf"),
    }


def _installed() -> set[str]:
    told = _run(Path.home(), "dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\\n")
    return {
        name
        for name, _, status in (line.partition(" ") for line in told.splitlines())
        if status == "installed"
    }


def _run(folder: Path, *command: str) -> str:
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
