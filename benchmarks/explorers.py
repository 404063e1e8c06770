"""How fast the explorers answer, in a real JupyterLab in Chromium. Prints one table.

    python benchmarks/explorers.py

Times of the browser are taken in the page, from the last event of the hand to the picture on the screen; those of the
kernel in the kernel. Needs the extra ``test`` and a quiet machine; pytest runs it, because the tests' JupyterLab does.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1] / "tests" / "browser"


def main() -> int:
    """Run the measurements in `tests/browser/measure_explorers.py`, which print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--steps", type=int, default=0, help="fewer steps than Pocket's own, for a quick look"
    )
    options = parser.parse_args()
    os.environ["SDKIT_MEASURE"] = json.dumps(vars(options))
    return int(
        pytest.main(
            [
                "-q",
                "-s",
                "--no-header",
                "-p",
                "no:cacheprovider",
                str(TESTS / "measure_explorers.py"),
            ]
        )
    )


if __name__ == "__main__":
    sys.exit(main())
