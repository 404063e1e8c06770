"""What traces, sweeps and other processes cost beside doing without them. Prints one table.

    python benchmarks/sweep.py

Ratios compare two ways to do the same work, alternating in one process (process CPU time, best of the rounds); rows about
workers are wall-clock time of real local clusters with one thread a worker. Needs a quiet machine with two cores or more;
``--no-clusters`` leaves the rows about workers out.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is loaded, here and in the workers

import numpy as np
from timing import alternate

import sdkit
from sdkit.executors import scatter

PROMPT = "a red car on a beach, watercolor"


def tracing(pipe: object, rounds: int, steps: int) -> Iterator[tuple[str, str]]:
    """Rows about traces."""

    def run(**options: object) -> sdkit.Result:
        return sdkit.generate(
            pipe, PROMPT, seed=7, steps=steps, guidance_scale=4.0, progress=False, **options
        )

    same = (np.asarray(run().image) == np.asarray(run(trace=True).image)).all()
    yield "picture with a trace equal to the one without, to the bit", "yes" if same else "NO"
    best = alternate({"plain": run, "trace": lambda: run(trace=True)}, rounds)
    yield "`trace=True` ÷ plain, CPU time, Pocket", f"{best['trace'] / best['plain']:.3f}"
    made = run(trace=True)
    told = sdkit.trace_cost(pipe, made.settings)
    yield "bytes the trace keeps ÷ bytes told before", f"{made.trace.nbytes / told:.3f}"
    yield "told for 50 steps of SDXL at 1024²", f"{sdxl() / 2**20:.1f} MiB"
    fork = alternate({"fork": lambda: sdkit.fork(pipe, made.trace, steps // 2, seed=1, progress=False), "plain": run}, rounds)  # fmt: skip
    yield (
        "a fork from the middle ÷ a run from the start, CPU time",
        f"{fork['fork'] / fork['plain']:.2f}",
    )


def sdxl() -> int:
    """Bytes of a trace of the shape that SDXL has."""
    from types import SimpleNamespace

    shape = SimpleNamespace(
        vae=SimpleNamespace(config=SimpleNamespace(latent_channels=4)), vae_scale_factor=8
    )
    return sdkit.trace_cost(
        shape, sdkit.Settings(prompt="", steps=50, width=1024, height=1024, guidance_scale=5.0)
    )


def sweeping(pipe: object, rounds: int, steps: int, side: int) -> Iterator[tuple[str, str]]:
    """Rows about a sweep on this machine alone."""
    guidance, seeds = [1.0, 2.0, 4.0, 7.0, 12.0][:side], list(range(side))

    def singles() -> list[sdkit.Result]:
        return [
            sdkit.generate(pipe, PROMPT, seed=s, guidance_scale=g, steps=steps, progress=False)
            for s in seeds
            for g in guidance
        ]

    def grid() -> sdkit.Sweep:
        return sdkit.sweep(
            pipe,
            PROMPT,
            x={"guidance_scale": guidance},
            y={"seed": seeds},
            steps=steps,
            progress=False,
        )

    apart = max(np.abs(np.asarray(a.image, int) - np.asarray(b.image, int)).max() for a, b in zip(grid(), singles(), strict=True))  # fmt: skip
    yield "largest difference between a cell and its single picture", f"{apart} of 255"
    best = alternate({"grid": grid, "singles": singles}, rounds)
    yield f"{side}×{side} guidance × seed sweep ÷ {side * side} single calls, CPU time", f"{best['grid'] / best['singles']:.2f}"  # fmt: skip


@contextmanager
def processes(count: int) -> Iterator[Executor]:
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


@contextmanager
def ipyparallel(count: int) -> Iterator[Executor]:
    import ipyparallel

    with ipyparallel.Cluster(n=count, log_level=50) as client:
        yield client.executor()


@contextmanager
def dask(count: int) -> Iterator[Executor]:
    from distributed import Client, LocalCluster

    quiet = {"threads_per_worker": 1, "dashboard_address": None, "silence_logs": 60}
    with LocalCluster(n_workers=count, **quiet) as cluster, Client(cluster) as client:
        yield client.get_executor(pure=False)


def scheduling(calls: int) -> Iterator[tuple[str, str]]:
    """Milliseconds a job, for a sweep of jobs with nothing to do in them, on one worker; the best of five sweeps."""
    for name, kind in (("processes", processes), ("ipyparallel", ipyparallel), ("dask", dask)):
        with kind(1) as executor:
            list(scatter(executor, eval, [("1",)] * 5, tell=str))
            seconds = []
            for _ in range(5):
                began = time.perf_counter()
                list(scatter(executor, eval, [("1",)] * calls, tell=str))
                seconds.append(time.perf_counter() - began)
            yield f"scheduling cost a cell, {name}", f"{1000 * min(seconds) / calls:.1f} ms"


def scaling(pipe: object, cells: int, steps: int) -> Iterator[tuple[str, str]]:
    """Throughput of two processes beside one, and what a killed one costs."""
    seconds = {}
    for count in (1, 2):
        with processes(count) as executor:
            warm = {
                "x": {"seed": range(count * 3)},
                "steps": 1,
                "progress": False,
                "executor": executor,
            }
            sdkit.sweep(pipe, PROMPT, **warm)
            began = time.perf_counter()
            sdkit.sweep(
                pipe,
                PROMPT,
                x={"seed": range(cells)},
                steps=steps,
                progress=False,
                executor=executor,
            )
            seconds[count] = time.perf_counter() - began
    yield (
        "2 workers of 1 thread ÷ 1 worker of 1 thread, throughput",
        f"{seconds[1] / seconds[2]:.2f}",
    )
    with processes(2) as executor:

        def kill(done: int, _: int) -> None:
            if done == 2:
                os.kill(next(iter(executor._processes)), signal.SIGKILL)  # noqa: SLF001 - the point is to break it

        grid = sdkit.sweep(pipe, PROMPT, x={"seed": range(cells)}, steps=2, progress=False, executor=executor, on_cell=kill)  # fmt: skip
    yield f"cells lost of {cells} when one of two workers is killed", str(len(grid.missing))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument(
        "--side", type=int, default=5, help="options on each axis of the sweep, up to 5"
    )
    parser.add_argument("--cells", type=int, default=24, help="pictures for the throughput")
    parser.add_argument("--no-clusters", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    pipe = sdkit.load(device="cpu")
    print("| measured | found |\n|---|---|")

    def show(rows: Iterator[tuple[str, str]]) -> None:
        for name, found in rows:
            print(f"| {name} | {found} |", flush=True)

    show(tracing(pipe, options.rounds, options.steps))
    show(sweeping(pipe, max(1, options.rounds // 3), options.steps, options.side))
    if not options.no_clusters:
        show(scheduling(25))
        show(scaling(pipe, options.cells, options.steps))


if __name__ == "__main__":
    main()
