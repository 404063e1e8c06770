"""Pictures made elsewhere are the same pictures, and no worker's death loses one. The clusters here are real ones."""

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

import sdkit
from sdkit import executors
from sdkit.errors import InvalidSettings, WorkerFailed
from sdkit.executors import make_pictures, model_of, pipeline_of, scatter
from sdkit.generation import generate
from sdkit.memory.plan import planned
from sdkit.models.load import load
from sdkit.pictures.metadata import open_picture
from sdkit.settings import Settings
from sdkit.sweeps.sweeping import sweep
from sdkit.walks.frames import render
from sdkit.walks.interpolation import interpolate
from sdkit.walks.walk import Walk

GRID = {"x": {"guidance_scale": [1, 3]}, "y": {"seed": [1, 2, 3]}, "steps": 2, "progress": False}


def pixels(image):
    return np.asarray(image.convert("RGB")).astype(int)


@contextlib.contextmanager
def processes():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor, lambda: next(iter(executor._processes))


@contextlib.contextmanager
def dask():
    from distributed import Client, LocalCluster

    quiet = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 60}
    with LocalCluster(**quiet) as cluster, Client(cluster) as client:
        yield (
            client.get_executor(),
            lambda: next(iter(client.run(os.getpid).values())),
        )  # pure=True, the trap


@contextlib.contextmanager
def ipyparallel():
    import ipyparallel

    with ipyparallel.Cluster(n=2, log_level=50) as client:
        yield client.executor(), lambda: client[:].apply_sync(os.getpid)[0]


@pytest.fixture(
    scope="module", params=[processes, dask, ipyparallel], ids=lambda kind: kind.__name__
)
def cluster(request):
    with request.param() as (executor, victim):
        yield executor, victim


@pytest.fixture
def small(tiny, tmp_path):
    """The tiny pipeline from a folder, as workers would load it, with no other in this process's cache."""
    tiny.save_pretrained(tmp_path / "tiny")
    executors._loaded.clear()
    yield load(tmp_path / "tiny", device="cpu")
    executors._loaded.clear()


def dies_once(flag, value):
    """An expression that any worker can evaluate: the first who does so is killed, the next returns the value."""
    path = repr(str(flag))
    first = f"(os.close(os.open({path}, os.O_CREAT | os.O_EXCL)), os.kill(os.getpid(), {int(signal.SIGKILL)}))"
    return (f"(lambda os: {value} if os.path.exists({path}) else {first})(__import__('os'))",)


@pytest.mark.cluster
def test_a_lost_worker_costs_its_job_one_retry(cluster, tmp_path):
    executor, _ = cluster
    jobs = [(str(n),) for n in range(5)]
    jobs.insert(2, dies_once(tmp_path / "flag", 42))
    found = dict(scatter(executor, eval, jobs, tell=str))
    assert [found[n] for n in range(6)] == [0, 1, 42, 2, 3, 4]
    assert (tmp_path / "flag").exists()


def test_a_pool_that_forks_is_refused_instead_of_hanging(small):
    fork = multiprocessing.get_context("fork")  # the default of Linux up to Python 3.13
    with ProcessPoolExecutor(1, mp_context=fork) as executor:
        for call in (sweep, interpolate):
            options = {"x": {"seed": [1]}} if call is sweep else {"frames": 2}
            asked = "a cat" if call is sweep else ["a cat", "a dog"]
            with pytest.raises(
                InvalidSettings,
                match=r"forks, and forked processes hang .*get_context\(\"spawn\"\)",
            ):
                call(small, asked, executor=executor, steps=1, progress=False, **options)


@pytest.mark.cluster
def test_equal_jobs_are_all_done(cluster):
    executor, _ = cluster
    if isinstance(executor, ProcessPoolExecutor):
        executor = ProcessPoolExecutor(
            2, mp_context=multiprocessing.get_context("spawn")
        )  # the first one was broken
    found = dict(scatter(executor, eval, [("__import__('uuid').uuid4().hex",)] * 4, tell=str))
    assert len(set(found.values())) == 4, "Dask would merge them"


@pytest.mark.cluster
def test_a_killed_process_loses_no_cell(small):
    """The whole way, with real pictures: two processes, one of them killed in the middle of a sweep."""
    here = sweep(small, "a cat", batch_size=1, **GRID)
    with processes() as (executor, victim):

        def kill(done, total):
            assert total == 6
            if done == 1:
                os.kill(victim(), signal.SIGKILL)

        there = sweep(small, "a cat", executor=executor, on_cell=kill, **GRID)
    assert there.missing == []
    # another number of threads adds in another order: equal to one level of 255, as with batches
    assert all(
        np.abs(pixels(a.image) - pixels(b.image)).max() <= 1
        for a, b in zip(there, here, strict=True)
    )
    assert [r.settings for r in there] == [r.settings for r in here]


# -- any executor at all: here threads of this process, so that these tests take no time ---------------------------------


@pytest.fixture
def threads():
    with ThreadPoolExecutor(2) as executor:
        yield executor


def test_the_workers_pictures_are_the_same_and_its_model_is_loaded_once(
    small, threads, monkeypatch
):
    loads = []
    monkeypatch.setattr(
        "sdkit.models.load.load", lambda *a, **k: loads.append(a) or load(*a, device="cpu", **k)
    )
    here = sweep(small, "a cat", batch_size=1, **GRID)
    there = sweep(small, "a cat", executor=threads, **GRID)
    assert len(loads) == 1
    assert all((pixels(a.image) == pixels(b.image)).all() for a, b in zip(there, here, strict=True))


def test_image_to_image_travels_too(small, threads):
    sketch = Image.new("RGB", (32, 32), "red")
    options = {"x": {"strength": [0.5, 1.0]}, "image": sketch, "progress": False, "steps": 4}
    here = sweep(small, "a cat", batch_size=1, **options)
    there = sweep(small, "a cat", executor=threads, **options)
    assert all((pixels(a.image) == pixels(b.image)).all() for a, b in zip(there, here, strict=True))


def _job(pipe, wanted, version=sdkit.__version__):
    return json.dumps(
        {"version": version, "model": model_of(pipe), "settings": [s.to_dict() for s in wanted]}
    )


def test_what_comes_back_is_png_and_json(small):
    wanted = generate(small, "a cat", steps=2, seed=3, progress=False)
    about, pictures = make_pictures(_job(small, wanted.all_settings))
    assert json.loads(about).keys() == {"seconds", "notes", "flagged", "facts"}
    assert [p[:4] for p in pictures] == [b"\x89PNG"]
    assert (pixels(open_picture(pictures[0])) == pixels(wanted.image)).all()


@pytest.mark.parametrize("pacing", ["even", "linear"])
def test_walks_travel_too(small, threads, pacing):
    options = {
        "frames": 9,
        "steps": 2,
        "pacing": pacing,
        "seeds": [1, 2],
        "noise": "circle",
        "progress": False,
    }
    seen = []
    here = interpolate(small, ["a cat", "a dog"], batch_size=1, **options)
    there = interpolate(
        small,
        ["a cat", "a dog"],
        executor=threads,
        on_frame=lambda w: seen.append(len(w)),
        **options,
    )
    assert seen == list(range(1, 10))
    if pacing == "linear":  # even pacing places frames by what was there when they were handed out
        assert here.places == there.places
        assert all((pixels(a) == pixels(b)).all() for a, b in zip(here, there, strict=True))
        assert (here.latents == there.latents).all()
    again = generate(small, here.keyframes[0], progress=False).image
    assert (pixels(there[0]) == pixels(again)).all()


def test_a_walk_whose_worker_fails_keeps_its_frames(small, threads, monkeypatch, tmp_path):
    def broken(pipe, recipes, **options):
        if recipes[0].at == (0.5,):
            raise RuntimeError("CUDA out of memory")
        return render(pipe, recipes, **options)

    monkeypatch.setattr("sdkit.walks.elsewhere.render", broken)
    options = {
        "frames": 5,
        "steps": 2,
        "pacing": "linear",
        "seeds": [1, 2],
        "folder": tmp_path / "walk",
    }
    with pytest.raises(
        WorkerFailed, match="could not make the frame with the settings .*CUDA out of memory"
    ):
        interpolate(small, ["a cat", "a dog"], executor=threads, progress=False, **options)
    monkeypatch.undo()
    kept = len(Walk(tmp_path / "walk"))
    walk = interpolate(small, ["a cat", "a dog"], executor=threads, progress=False, **options)
    assert 0 < kept < len(walk) == 5


def test_a_changed_scheduler_and_precision_travel(small):
    from diffusers import LCMScheduler

    small.scheduler = LCMScheduler.from_config(small.scheduler.config, original_inference_steps=50)
    small.to(dtype=torch.bfloat16)
    other = pipeline_of(model_of(small))
    assert type(other.scheduler) is LCMScheduler
    assert other.scheduler.config.original_inference_steps == 50
    assert other.unet.dtype == torch.bfloat16


def test_a_limit_on_memory_travels():
    other = pipeline_of(model_of(load(device="cpu", memory="0.5GB")))
    assert planned(other).room == 2**29


def test_only_one_pipeline_is_kept(small):
    model = model_of(small)
    first = pipeline_of(model)
    assert pipeline_of(model) is first
    assert pipeline_of({**model, "dtype": "bfloat16"}) is not first
    assert len(executors._loaded) == 1


def test_a_workers_error_is_told_with_the_settings(small, threads, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("CUDA out of memory\nmore lines")

    monkeypatch.setattr("sdkit.generation.generate", broken)
    with pytest.raises(
        WorkerFailed,
        match=r'could not make the picture with the settings \{"prompt": "a cat".*RuntimeError: CUDA out of memory$',
    ):
        sweep(small, "a cat", executor=threads, **GRID)


def test_another_version_is_refused(small):
    about, pictures = make_pictures(_job(small, [Settings(prompt="a cat")], version="0.0.1"))
    assert "not 0.0.1; install the same on both" in json.loads(about)["error"]
    assert pictures == []


@pytest.mark.cluster
def test_a_job_that_kills_every_worker_is_named():
    poison = f"__import__('os').kill(__import__('os').getpid(), {int(signal.SIGKILL)})"
    jobs = [("0",), (poison,), ("2",), ("3",), ("4",)]
    with (
        processes() as (executor, _),
        pytest.raises(WorkerFailed, match="Two workers were lost with job 1"),
    ):
        list(scatter(executor, eval, jobs, tell=lambda n: f"job {n}"))


def test_pipelines_that_workers_cannot_load_are_refused(tiny, small):
    with pytest.raises(
        InvalidSettings, match="cannot tell where 'StableDiffusionPipeline' comes from"
    ):
        model_of(tiny)
    small.unet.peft_config = {"default": None}
    with pytest.raises(InvalidSettings, match="carries LoRA adapters"):
        model_of(small)


def test_the_workers_side_needs_no_torch_to_be_imported():
    code = "import sys, sdkit.executors; print('torch' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "False"
    )


def test_what_a_worker_did_to_save_memory_comes_back(small, threads, monkeypatch):
    monkeypatch.setattr("sdkit.memory.recovery.Ladder.facts", "VAE tiling (512)")
    there = sweep(small, "a cat", executor=threads, **GRID)
    assert {cell.settings.memory for cell in there} == {"VAE tiling (512)"}
    assert all(
        cell.settings.same_picture(there.wanted[index]) for index, cell in there.cells.items()
    )
