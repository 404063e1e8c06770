"""Every error sdkit raises on purpose, so that one ``except SdkitError`` catches them all.

The one decision: each error is also the built-in error a Python programmer would expect there (`ValueError`,
`OSError`, `ImportError`), so that code which has never heard of sdkit handles it too. The message is always a
single sentence that names the value, the limit and what to do.
"""

# ruff: noqa: N818 - the names say what happened; "Error" on each would say it twice

from __future__ import annotations

__all__ = [
    "BadPicture",
    "Cancelled",
    "CannotCapture",
    "CannotSave",
    "InvalidSettings",
    "MissingExtra",
    "ModelNotFound",
    "NumericalError",
    "OutOfMemory",
    "SdkitError",
    "UnsafeCheckpoint",
    "WorkerFailed",
]


class SdkitError(Exception):
    """Base of all errors that sdkit raises on purpose.

    Examples
    --------
    >>> try:
    ...     sdkit.generate(pipe, "a cat", steps=0)
    ... except sdkit.SdkitError as error:
    ...     print(type(error).__name__)
    InvalidSettings
    """


class InvalidSettings(SdkitError, ValueError):
    """A setting has a value that no run could use."""


class ModelNotFound(SdkitError, OSError):
    """No model could be found or fetched under the name that was given."""


class UnsafeCheckpoint(SdkitError):
    """A checkpoint could run code when loaded (a pickle, or a custom pipeline)."""


class Cancelled(SdkitError):
    """A run was stopped before its last step; raise it from a callback to stop one.

    Examples
    --------
    >>> def enough(step, steps, picture):
    ...     if step == 2:
    ...         raise sdkit.Cancelled("that is enough")
    >>> try:
    ...     sdkit.generate(pipe, "a cat", on_step=enough)
    ... except sdkit.Cancelled as error:
    ...     print(error)
    that is enough
    """


class BadPicture(SdkitError, ValueError):
    """A picture cannot be read, or holds no settings."""


class CannotCapture(SdkitError, TypeError):
    """Attention of this pipeline, or of one module in it, cannot be read or edited."""


class CannotSave(SdkitError, OSError):
    """A file could not be written; nothing was left behind."""


class MissingExtra(SdkitError, ImportError):
    """An optional part of sdkit is not installed."""


class NumericalError(SdkitError, ArithmeticError):
    """A run ended in NaN or infinity, so that there is no picture to show."""


class OutOfMemory(SdkitError, MemoryError):
    """A run needs more memory than its device has, in every way there is to make it.

    `decoding` says whether all steps were done and only the decoding into a picture failed.
    """

    def __init__(self, sentence: str, *, decoding: bool = False) -> None:
        super().__init__(sentence)
        self.decoding = decoding


class WorkerFailed(SdkitError, RuntimeError):
    """A picture could not be made by the workers of an executor."""
