"""The page of the command line: what ``--help`` says of each command, so that it cannot differ."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from sdkit.cli import _parser

HEAD = "# Command line\n\nIt does what the functions of the same names do, for those who are not in Python.\n"


def _page() -> str:
    os.environ["COLUMNS"] = "88"  # argparse wraps at the terminal's width; here it is the page's
    parser = _parser()
    parser.prog = "sdkit"
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    told = "".join(
        f"\n## {command.prog}\n\n```text\n{command.format_help().rstrip()}\n```\n"
        for command in commands.choices.values()
    )
    return f"{HEAD}\n```text\n{parser.format_help().rstrip()}\n```\n{told}"


def _write(app: Any) -> None:
    Path(app.srcdir, "cli.md").write_text(_page(), encoding="utf-8")


def setup(app: Any) -> None:
    """Write the page before Sphinx looks for pages."""
    app.connect("builder-inited", _write)
