"""Watch a kernel: no network, and no error that gets lost.

Python runs this file when it starts with its folder on ``PYTHONPATH``. What it sees is appended to the file that
``SDKIT_WATCH`` names, because a cell may swallow the refusal, and an error in a thread may come after its cell's end.
"""

import errno
import os
import socket
import threading
from pathlib import Path

_LOCAL = ("localhost", "127.", "::1", "0.0.0.0")
_connect, _connect_ex, _getaddrinfo, _excepthook = (
    socket.socket.connect,
    socket.socket.connect_ex,
    socket.getaddrinfo,
    threading.excepthook,
)


def _note(line):
    with Path(os.environ["SDKIT_WATCH"]).open("a", encoding="utf-8") as log:
        log.write(line + "\n")


def _refuse(host):
    """Refuse every host but this machine; an unset name is this machine too."""
    name = host.decode() if isinstance(host, bytes) else str(host or "localhost")
    if not name.startswith(_LOCAL):
        _note(f"network: {name}")
        raise OSError(errno.ENETUNREACH, f"{name} cannot be reached: lessons run without a network")


def _guarded(own):
    def connect(self, address):
        if isinstance(address, tuple):  # a string is the path of a Unix socket
            _refuse(address[0])
        return own(self, address)

    return connect


def _lookup(host, *args, **kwargs):
    _refuse(host)
    return _getaddrinfo(host, *args, **kwargs)


def _thread_failed(args):
    if args.exc_type is not SystemExit:
        _note(f"thread: {args.exc_type.__name__}: {args.exc_value}")
    _excepthook(args)


socket.socket.connect, socket.socket.connect_ex = _guarded(_connect), _guarded(_connect_ex)
socket.getaddrinfo, threading.excepthook = _lookup, _thread_failed
