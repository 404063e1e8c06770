"""Models of the Hugging Face hub: fetched at one commit, or taken from this machine, or told why neither works.

The design decision: one question with a time limit comes first, for diffusers' own questions have none. If the hub
answers, everything is fetched at one commit; if it does not (no network, a withdrawn model, a login that ran out), what
an earlier visit left on this machine is used. Only then a model is missing.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from sdkit.errors import ModelNotFound, UnsafeCheckpoint

__all__ = ["commit_of", "explained", "fetch", "hub_id_of"]

_SNAPSHOT = re.compile(r"/models--([\w.-]+?)--([\w.-]+)/snapshots/([0-9a-f]{40})(?:/|$)")
_COMMIT = re.compile(r"[0-9a-f]{40}")

_OFFLINE = {
    "OfflineModeIsEnabled",
    "LocalEntryNotFoundError",
    "ConnectionError",
    "ConnectError",
    "TimeoutException",
    "Timeout",
    "NetworkError",
    "ProtocolError",
}
# (names of exceptions, parts of messages) → the error and its sentence; the first that fits is told
_STORIES: tuple[tuple[set[str], tuple[str, ...], type[Exception], str], ...] = (
    (
        set(),
        ("trust_remote_code",),
        UnsafeCheckpoint,
        "{source!r} brings its own code, which sdkit does not run; load it with diffusers yourself.",
    ),
    (
        {"SafetensorError"},
        ("deserializing header", "expected shape", "size mismatch"),
        ModelNotFound,
        "A weights file of {source!r} is damaged, cut short or of another model; copy or download it again.",
    ),
    (
        set(),
        ("appear to be missing in the checkpoint",),
        ModelNotFound,
        (
            "{source!r} lacks parts of a pipeline (files of Stable Diffusion 3 and Flux often hold the transformer alone); "
            "load a diffusers folder or a hub id of the same model, which has all of them."
        ),
    ),
    (
        {"GatedRepoError"},
        (
            "access a gated repo",
            "access gated repo",
        ),  # of missing ones the hub says "a private or gated repo"
        ModelNotFound,
        "{source!r} is gated: accept its licence on its hub page, then log in with: hf auth login",
    ),
    (
        {"RepositoryNotFoundError"},
        ("is not a valid model identifier",),
        ModelNotFound,
        "The hub has no model {source!r} (or it is private); check the spelling of owner/name.",
    ),
    (
        {"RevisionNotFoundError"},
        (),
        ModelNotFound,
        "{source!r} has no such revision; leave revision out for the newest.",
    ),
    (
        set(),
        (
            "401 client",
            "403 client",
            "403 forbidden",
        ),  # after the others: it says 401 of models that do not exist
        ModelNotFound,
        "The hub does not let you have {source!r}; log in with: hf auth login",
    ),
    (
        set(),
        (
            "server error '50",
            "500 server error",
            "502 server error",
            "503 server error",
            "504 server error",
        ),
        ModelNotFound,
        "The hub has trouble of its own and cannot give {source!r} now; try again later, or give a folder.",
    ),
    (
        _OFFLINE,
        ("couldn't connect", "internet connection"),
        ModelNotFound,
        (
            "{source!r} is not on this machine and the hub cannot be reached; connect once, or give a folder. "
            "sdkit.load() alone needs no network."
        ),
    ),
    (
        set(),
        (".bin", "safetensors"),
        UnsafeCheckpoint,
        "{source!r} offers no safetensors weights for every part, and pickles can run code; look for a converted copy.",
    ),
)


def commit_of(place: str | Path | None) -> str | None:
    """The commit (40 hexadecimal digits) of a path inside the hub's cache, else None."""
    found = _SNAPSHOT.search(Path(place or "").as_posix())
    return found.group(3) if found else None


def hub_id_of(place: str | Path | None) -> str | None:
    """The hub id, ``owner/name``, of a path inside the hub's cache, else None."""
    found = _SNAPSHOT.search(Path(place or "").as_posix())
    return f"{found.group(1)}/{found.group(2)}" if found else None


def fetch(
    name: str,
    *,
    revision: str | None = None,
    variant: str | None = None,
    without: tuple[str, ...] = (),
) -> Path:
    """The folder of a hub model on this machine, fetched if need be, with nothing in it that is a pickle or code.

    Parameters
    ----------
    name
        ``owner/name``.
    revision, variant
        As for `load`.
    without
        Parts of the pipeline that are not wanted.

    Raises
    ------
    ModelNotFound, UnsafeCheckpoint
        In one sentence, what the hub said.
    """
    wanted = {
        "variant": variant,
        "use_safetensors": True,
        "trust_remote_code": False,
        **dict.fromkeys(without),
    }
    if (
        revision is not None
        and _COMMIT.fullmatch(revision)
        and (folder := _here(name, revision, wanted))
    ):
        return folder  # a commit never changes: what is here needs no network
    try:
        _ask(name, revision)
    except Exception as refused:  # noqa: BLE001 - the hub's client raises errors of several libraries
        if (folder := _here(name, revision, wanted)) is None:
            raise explained(refused, name) from None
        return folder
    try:
        folder = _download(name, revision=revision, **wanted)
    except Exception as error:  # noqa: BLE001 - as above
        raise explained(error, name) from None
    _with_card(name, folder)
    return folder


# how transformers and diffusers ask for a package that a part of a model needs
_LACKING = re.compile(
    r"requires the (?:\x1b\[[\d;]*m)?`?(\w+)`?(?:\x1b\[[\d;]*m)? library but it was not found"
)


def explained(error: Exception, source: str) -> Exception:
    """One sentence for what the hub or the file system said, or its own first line where it says something else."""
    seen: BaseException | None = error
    names, words = set(), ""
    while seen is not None:
        names |= {k.__name__ for k in type(seen).__mro__}
        words += f" {seen}".lower()
        seen = seen.__cause__ or seen.__context__
    for kinds, parts, kind, sentence in _STORIES:
        if names & kinds or any(part in words for part in parts):
            return kind(sentence.format(source=source))
    if lacking := _LACKING.search(words):
        package = lacking[1]
        return ModelNotFound(
            f"{source!r} needs the package {package}, which is not installed; pip install {package}, and load it again."
        )
    lines = (line.strip() for line in str(error).splitlines())
    first = next(filter(None, lines), type(error).__name__)
    return ModelNotFound(f"{source!r} could not be loaded: {first}")


def _ask(name: str, revision: str | None) -> None:
    """Ask for a model with a time limit; whatever is wrong is raised."""
    from huggingface_hub import HfApi, constants

    HfApi().model_info(name, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)


def _download(name: str, **options: Any) -> Path:
    from diffusers import DiffusionPipeline

    return Path(DiffusionPipeline.download(name, **options))


def _here(name: str, revision: str | None, wanted: dict[str, Any]) -> Path | None:
    """What an earlier visit left on this machine, if it has at least its table of contents."""
    try:
        folder = _download(name, revision=revision, local_files_only=True, **wanted)
    except Exception as error:  # noqa: BLE001 - as in `fetch`
        found = explained(error, name)
        if isinstance(found, UnsafeCheckpoint):
            raise found from None
        return None
    return folder if (folder / "model_index.json").is_file() else None


def _with_card(name: str, folder: Path) -> None:
    """Fetch the model card too, which says the licence; a model without one loads all the same."""
    from huggingface_hub import hf_hub_download

    if not (folder / "README.md").exists():
        with suppress(Exception):
            hf_hub_download(name, "README.md", revision=commit_of(folder))
