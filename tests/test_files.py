"""Names from any prompt; files that are whole or not there."""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from sdkit.errors import CannotSave
from sdkit.pictures.files import replacing, safe_name

if TYPE_CHECKING:
    from pathlib import Path

RESERVED = {
    "CON",
    "PRN",
    "AUX",
    "NUL",
    *(f"{port}{n}" for port in ("COM", "LPT") for n in "0123456789¹²³"),
}


@given(st.text(max_size=400), st.integers(0, 2**63 - 1))
def test_names_are_valid_everywhere(prompt: str, seed: int) -> None:
    name = safe_name(prompt, seed)
    assert 0 < len(name.encode("utf-8")) <= 120
    assert not set(name) & set('/\\:*?"<>|.\0 \t\n')
    assert all(unicodedata.category(character)[0] not in "CZ" for character in name)
    assert name.upper() not in RESERVED
    assert name[0] not in "-.~"
    assert name.endswith(f"-{seed}")


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("a red car on a beach, watercolor", "a-red-car-on-a-beach-watercolor-7"),
        ("../../etc/passwd", "etc-passwd-7"),
        ("CON", "CON-7"),
        ("...", "picture-7"),
        ("", "picture-7"),
        ("ein Fuchs über Köln", "ein-Fuchs-über-Köln-7"),
        ("雪の中の猫 🐈", "雪の中の猫-🐈-7"),
        ("evil\u202egnp.exe", "evil-gnp-exe-7"),
        ("cafe\u0301", "café-7"),
        ("x" * 500, "x" * 118 + "-7"),
        ("猫" * 100, "猫" * 39 + "-7"),
        ("half \ud83d pair", "half-pair-7"),
    ],
)
def test_names_stay_readable(prompt: str, name: str) -> None:
    assert safe_name(prompt, 7) == name


def test_the_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"old")
    with replacing(path) as temporary:
        assert temporary.suffix == ".mp4"
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize(
    "fault", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), RuntimeError()]
)
def test_a_failure_leaves_the_old_file_alone(tmp_path: Path, fault: BaseException) -> None:
    path = tmp_path / "cat.png"
    path.write_bytes(b"old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(b"half")
            raise fault

    with pytest.raises(CannotSave if isinstance(fault, OSError) else type(fault)):
        fail()
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["cat.png"]


def test_errors_name_the_place(tmp_path: Path) -> None:
    missing = tmp_path / "no" / "cat.png"
    told = f"^cannot save '{missing}': there is no folder '{missing.parent}'; make it first, or choose another$"
    with pytest.raises(CannotSave, match=told), replacing(missing):
        pass
    with (
        pytest.raises(CannotSave, match=r"that is a folder; give a file name in it$"),
        replacing(tmp_path),
    ):
        pass
    full = "No space left on device; check the disk and your rights, or choose another folder$"
    with pytest.raises(CannotSave, match=full), replacing(tmp_path / "cat.png"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with (
        pytest.raises(CannotSave, match="File name too long"),
        replacing(tmp_path / ("x" * 300)) as temporary,
    ):
        temporary.write_bytes(b"")
    assert list(tmp_path.iterdir()) == []
