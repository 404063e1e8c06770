"""The shell commands: `sdkit generate`, `sdkit page`, `sdkit info`, `sdkit lab`.

Options are checked, and a line says what happens, before the slow imports begin.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from importlib import metadata
from pathlib import Path

from . import __version__
from .errors import CannotSave, InvalidSettings, MissingExtra, SdkitError
from .pictures.files import contents, path_of, safe_name
from .pictures.legible import say
from .pictures.sheet import enlarged
from .settings import FITS, SCHEDULERS, Settings

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for bad input, 130 when interrupted."""
    options = _parser().parse_args(argv)
    try:
        return int(options.run(options))
    except SdkitError as error:
        _say(f"sdkit: {error}")
        return 2
    except KeyboardInterrupt:
        print("sdkit: stopped; nothing was saved.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sdkit",
        description="Make pictures from words, offline with the model inside or with Stable Diffusion.",
    )
    parser.add_argument("--version", action="version", version=f"sdkit {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    make = commands.add_parser(
        "generate", help="make a picture from words", description="Make a picture from words."
    )
    make.add_argument("prompt", help='for example "a red car on a beach, watercolor"')
    make.add_argument(
        "-o",
        "--output",
        type=path_of,
        help="PNG, JPEG or WebP (default: a name made from the prompt)",
    )
    make.add_argument(
        "--model", help="hub id, folder or .safetensors file (default: Pocket, the model inside)"
    )
    make.add_argument("--negative", default="", metavar="WORDS", help="what should not be there")
    make.add_argument("--seed", type=int, default=0)
    make.add_argument("--steps", type=int)
    make.add_argument(
        "--guidance", type=float, metavar="SCALE", help="how strictly to follow the words"
    )
    make.add_argument("--width", type=int)
    make.add_argument("--height", type=int)
    make.add_argument("--scheduler", choices=SCHEDULERS)
    make.add_argument("--count", type=int, default=1, help="pictures, with seeds counting up")
    make.add_argument("--image", type=path_of, help="a picture to start from")
    make.add_argument("--mask", type=path_of, help="white where --image is made anew")
    make.add_argument("--strength", type=float, help="0 keeps --image, 1 forgets it (default 0.6)")
    make.add_argument(
        "--fit",
        choices=FITS,
        help="how --image gets into a size of other proportions (default: without a size its proportions are kept, else crop)",
    )
    make.add_argument(
        "--scale", type=int, default=1, metavar="N", help="enlarge the saved picture N times"
    )
    make.add_argument("--device", help="cuda, mps or cpu")
    make.add_argument(
        "--memory",
        default="auto",
        help="auto, full, low or a size such as 8GB: what may lie on the device",
    )
    make.set_defaults(run=_generate)
    page = commands.add_parser(
        "page",
        help="write a web page with the model inside",
        description="Write one HTML file that makes pictures in any browser, without Python and without a network.",
    )
    page.add_argument("output", type=path_of, help="a name ending in .html")
    page.add_argument(
        "--model",
        help="Pocket, or a folder with a model like it (default: pocket-turbo where it is installed, else pocket)",
    )
    page.add_argument("--prompt", default="a red car on a beach, watercolor", metavar="WORDS")
    page.add_argument("--seed", type=int, default=0)
    page.set_defaults(run=_page)
    commands.add_parser(
        "info", help="device, memory, versions, models on this machine"
    ).set_defaults(run=_info)
    lab = commands.add_parser("lab", help="open JupyterLab on a copy of the notebooks")
    lab.add_argument(
        "folder",
        type=path_of,
        nargs="?",
        default=Path("sdkit-notebooks"),
        help="where the copy goes (default: %(default)s)",
    )
    lab.add_argument("--no-open", action="store_true", help="only copy the notebooks")
    lab.set_defaults(run=_lab)
    return parser


def _generate(options: argparse.Namespace) -> int:
    from .pictures.metadata import FORMATS
    from .pictures.sources import taken_in

    fields = {
        "steps": options.steps,
        "guidance_scale": options.guidance,
        "width": options.width,
        "height": options.height,
        "scheduler": options.scheduler,
        "strength": options.strength,
        "fit": options.fit,
    }
    chosen = {name: value for name, value in fields.items() if value is not None}
    settings = Settings(
        prompt=options.prompt, negative_prompt=options.negative, seed=options.seed, **chosen
    )
    if options.count < 1:
        raise InvalidSettings(f"--count is {options.count}; ask for 1 picture or more.")
    if options.mask and not options.image:
        raise InvalidSettings("--mask needs --image, the picture that it belongs to.")
    target = options.output or Path(safe_name(options.prompt, options.seed) + ".png")
    if target.suffix.lower() not in FORMATS:
        raise CannotSave(
            f"{target} ends in {target.suffix or 'nothing'!r}; end it in one of {', '.join(FORMATS)}."
        )
    if not target.parent.is_dir():
        raise CannotSave(f"There is no folder {str(target.parent)!r}; make it first.")
    enlarged((settings.width or 1, settings.height or 1), options.scale)
    if options.fit and not options.image:
        raise InvalidSettings("--fit needs --image, the picture that it is about.")
    image, mask = taken_in(options.image, options.mask)
    _say(f"Loading {options.model or 'Pocket'} …")
    from .generation import complete, generate
    from .models.load import load

    with redirect_stdout(
        sys.stderr
    ):  # what it tells of the model is not the answer, which is a path
        pipe = load(options.model, device=options.device, memory=options.memory)
    first = complete(pipe, settings, image=image, mask=mask)[0]
    enlarged(
        (first.width or 1, first.height or 1), options.scale
    )  # of the model's own size, if none was given
    _say(f"Making {options.count} picture{'s' if options.count > 1 else ''} on {pipe.device} …")
    result = generate(pipe, settings, count=options.count, image=image, mask=mask)
    saved = result.save(target, scale=options.scale)
    for path in saved if isinstance(saved, list) else [saved]:
        say(path)
    return 0


def _page(options: argparse.Namespace) -> int:
    from . import pocket

    settings = Settings(prompt=options.prompt, seed=options.seed)
    shipped = getattr(pocket, "FOLDERS", ())
    name = options.model or ("pocket-turbo" if "pocket-turbo" in shipped else "pocket")
    _say(f"Loading {name} …")
    from .models.load import load
    from .widgets.page import write

    with redirect_stdout(sys.stderr):
        pipe = load(name, device="cpu")
    _say("Writing the page …")
    say(write(pipe, options.output, settings))
    return 0


def _info(options: argparse.Namespace) -> int:
    del options
    rows = [
        ("sdkit", __version__),
        ("Python", f"{platform.python_version()} on {platform.platform(terse=True)}"),
    ]
    for name in ("torch", "diffusers", "transformers", "accelerate", "jupyterlab", "ipywidgets"):
        try:
            rows.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            rows.append((name, "not installed"))
    _say("Asking torch about the hardware …")
    rows += _hardware()
    from . import pocket

    card = pocket.card()
    rows.append(
        (
            "Pocket",
            f"{card['objects']} objects, {card['side']}×{card['side']} pixels, {_megabytes(Path(pocket.path())):.0f} MB",
        )
    )
    rows += [("cached model", name) for name in _cached()] or [("cached models", "none")]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        say(f"{name:<{width}}  {value}")
    return 0


def _hardware() -> list[tuple[str, str]]:
    import torch

    rows = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        rows.append(
            (
                f"cuda:{index}",
                f"{torch.cuda.get_device_name(index)}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free",
            )
        )
    if torch.backends.mps.is_available():
        rows.append(("mps", "Apple GPU"))
    cores = os.cpu_count() or 1
    memory = (
        f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
        if hasattr(os, "sysconf")
        else ""
    )
    return [*rows, ("cpu", f"{cores} cores{memory}")]


def _megabytes(folder: Path) -> float:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6


def _cached() -> list[str]:
    """Hub ids of the models in Hugging Face's cache."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        return sorted(repo.repo_id for repo in scan_cache_dir().repos if repo.repo_type == "model")
    except CacheNotFound:
        return []


def _notebooks() -> Path:
    """The notebooks' folder: in the installed package, or beside it in a checkout."""
    inside = Path(__file__).resolve().parent / "notebooks"
    return inside if inside.is_dir() else inside.parent.parent / "notebooks"


def _lab(options: argparse.Namespace) -> int:
    folder: Path = options.folder
    if not options.no_open and importlib.util.find_spec("jupyterlab") is None:
        raise MissingExtra(
            "JupyterLab is not installed; install it with: pip install 'sdkit-notebooks[lab]'"
        )
    copied = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for notebook in [f for f in contents(_notebooks()) if f.suffix == ".ipynb"]:
            if (folder / notebook.name).exists():
                _say(f"{folder / notebook.name} is there already and is left as it is.")
            else:
                copied.append(Path(shutil.copyfile(notebook, folder / notebook.name)))
    except OSError as error:
        raise CannotSave(
            f"The notebooks could not be copied to {str(folder)!r}: {error.strerror}; choose another folder."
        ) from None
    say(folder)
    if options.no_open:
        return 0
    _trust(copied)
    return subprocess.run([sys.executable, "-m", "jupyterlab", str(folder)], check=False).returncode  # noqa: S603


def _trust(notebooks: list[Path]) -> None:
    """Sign our own notebooks, so that JupyterLab shows the pictures in them before they are run."""
    import nbformat
    from nbformat.sign import NotebookNotary

    for path in notebooks:
        NotebookNotary().sign(nbformat.read(path, as_version=4))


def _say(line: str) -> None:
    say(line, sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
