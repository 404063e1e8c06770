"""Run a notebook as a student would, without a network, and find everything that went wrong in it.

That a notebook ran to its end says little: an error inside an Output widget, an interactive control or a thread leaves
no trace in the cell, and a download that is caught passes on every machine but the one without a network. So four
places are looked into: the cells' outputs, the widgets' state, what the explorers say, and the log of `watch`.

``python tests/lessons.py notebooks/*.ipynb`` runs notebooks and writes them back with their outputs.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from nbclient import NotebookClient

__all__ = ["NOTEBOOKS", "Lesson", "limit", "local_links", "run"]

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# What a notebook may cost: seconds of processor time, or as many pictures, whichever it keeps to. A picture is what a default
# one of Pocket costs in the same kernel, after the last cell. Seconds alone would judge the machine: other work beside the
# lesson, or an older processor, makes both dearer alike. Pictures alone would too: a newer one makes them cheaper than imports.
# Lesson 12 starts four workers, two at a time, whose imports are processor time on both cores at once.
# Lesson 14 trains two networks, one after the other: about a hundred pictures' worth.
_LIMIT = 60.0
_LONGER = {"10_train_one_yourself": 240.0, "12_scaling_out": 110.0, "14_flow_matching": 120.0}
_COST = """
import os, statistics, time
spent = sum(os.times()[:4])  # of this process and of those that it waited for
import sdkit
def cost():
    began = time.process_time()
    sdkit.generate(pocket, "a cat", progress=False)
    return time.process_time() - began
pocket = sdkit.load(device="cpu")
print(spent, statistics.median(cost() for _ in range(3)))
"""
_VIEW, _STATE = (
    "application/vnd.jupyter.widget-view+json",
    "application/vnd.jupyter.widget-state+json",
)
_LOST = ("Traceback (most recent call last)", "Exception in thread", "Exception ignored in")


@dataclass(frozen=True)
class Lesson:
    """A notebook that was run: with its outputs, what went wrong, and the processor time it took.

    `seconds` are those of this machine at this hour; `pictures` are what it would have made of Pocket in that time.
    """

    book: Any
    problems: list[str]
    seconds: float
    pictures: float


def limit(path: Path) -> float:
    """Return how many seconds of processor time, or else how many pictures' worth of it, a notebook may take."""
    return _LONGER.get(path.stem, _LIMIT)


def run(book: Any, folder: Path, most: float = _LIMIT) -> Lesson:
    """Run a notebook in a kernel of its own, which works in `folder` and reaches nothing outside this machine.

    A notebook that costs more than `most` seconds of processor time, and more than as many pictures, has a problem.
    """
    book, log = deepcopy(book), folder / "watch.log"
    book.cells.append(nbformat.v4.new_code_cell(_COST))
    paths = [str(Path(__file__).parent / "watch"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "SDKIT_WATCH": str(log)}
    # beside another kernel, a second thread waits more than it works
    if "PYTEST_XDIST_WORKER" in env:
        env["OMP_NUM_THREADS"] = "1"
    client = NotebookClient(
        book,
        timeout=1800,
        allow_errors=True,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=env)
    said = "".join(
        output.text for output in book.cells.pop().outputs if output.get("name") == "stdout"
    )
    seconds, picture = map(float, said.split())
    pictures = seconds / picture
    seen = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    problems = [*_problems(book), *dict.fromkeys(seen)]
    if min(pictures, seconds) > most:
        problems.append(
            f"too dear: it costs {seconds:.1f} s or {pictures:.1f} pictures, and {most:g} is the limit"
        )
    return Lesson(_bare(book), problems, seconds, pictures)


def local_links(book: Any) -> Iterator[str]:
    """Targets of links and pictures in the text that are no web address and no place in the notebook itself."""
    for cell in book.cells:
        if cell.cell_type == "markdown":
            for a, b in re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", cell.source):
                target = (a or b).partition("#")[0]
                if target and not target.startswith(("http://", "https://", "mailto:")):
                    yield target


def _problems(book: Any) -> Iterator[str]:
    for where, output in _outputs(book):
        if output["output_type"] == "error":
            yield f"{where}: {output['ename']}: {output['evalue']}"
        elif any(sign in str(output.get("text", "")) for sign in _LOST):
            yield f"{where}: {output['text']}"
    for widget in _widgets(book):
        if "_esm" in widget and widget.get("message"):  # where an explorer tells what went wrong
            yield f"explorer: {widget['message']}"


def _outputs(book: Any) -> Iterator[tuple[str, Any]]:
    """Every output, with the place where it stands."""
    for number, cell in enumerate(book.cells):
        for output in cell.get("outputs", ()):
            yield f"cell {number}", output
    for widget in _widgets(book):
        for output in widget.get("outputs", ()):
            yield "Output widget", output


def _widgets(book: Any) -> Iterator[Any]:
    for model in book.metadata.get("widgets", {}).get(_STATE, {}).get("state", {}).values():
        yield model["state"]


def _bare(book: Any) -> Any:
    """Drop what only a live kernel can show (panels, progress bars) and what belongs to this machine (its log)."""
    book.metadata.pop("widgets", None)
    for cell in book.cells:
        kept = [
            o
            for o in cell.get("outputs", ())
            if _VIEW not in o.get("data", {}) and o.get("name") != "stderr"
        ]
        if cell.cell_type == "code":
            cell.outputs = kept
    return book


def main() -> int:
    """Run notebooks and write them back; the exit code is the number of notebooks with a problem."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="+", type=Path)
    failed = 0
    for path in parser.parse_args().notebooks:
        with TemporaryDirectory() as folder:
            lesson = run(nbformat.read(path, as_version=4), Path(folder), limit(path))
        if lesson.problems:
            failed += 1
        else:
            nbformat.write(lesson.book, path)
        size = path.stat().st_size / 1000
        cost = f"{lesson.seconds:.0f} s of processor time ({lesson.pictures:.0f} pictures); the limit is {limit(path):.0f}"
        print(f"{path.name}: {cost}, {size:.0f} kB", *lesson.problems, sep="\n  ", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
