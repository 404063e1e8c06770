"""Ways to look inside, scored against what Pocket's world knows to be true, and how long that takes. Prints one table.

    python benchmarks/truth.py [--quick] [--figure truth.png] [--json truth.json]

What is measured stands in `sdkit.pocket.truth`; this adds the time, and small sizes to see that everything runs. Needs
the font Noto Color Emoji, which draws the scenes.
"""

from __future__ import annotations

import sys
import time

from sdkit.pocket.truth.__main__ import main

QUICK = "--scenes 8 --removed 2 --each 1 --steps 5"

if __name__ == "__main__":
    given = sys.argv[1:]
    if "--quick" in given:
        given = [*QUICK.split(), *(g for g in given if g != "--quick")]
    began = time.perf_counter()
    main(given)
    print(f"{time.perf_counter() - began:.0f} s")
