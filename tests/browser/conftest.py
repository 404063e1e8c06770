"""A real JupyterLab, a real Chromium, and a notebook in it.

The tests use the Chromium that is installed; on a machine without one they unpack Debian's headless build and the
libraries it needs into a cache folder, without root and without installing anything.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import expect

from .chromium import find_chromium

ROOT = Path(__file__).resolve().parents[2]
KEPT = Path(os.environ.get("SDKIT_SCREENSHOTS", ROOT / "build" / "screenshots"))
SETUP = """
import warnings; warnings.simplefilter("ignore")
import torch; torch.set_num_threads(1); torch.manual_seed(0)
from sdkit.pocket.training.presets import PRESETS, build_autoencoder, build_text_encoder, build_unet
from sdkit.pocket.training.tokenizer import build_tokenizer
from sdkit.pocket.train import assemble
from sdkit.widgets import *
import sdkit
preset = PRESETS["tiny"]; tokenizer = build_tokenizer(preset)
pipe = assemble(build_autoencoder(preset), build_text_encoder(preset, len(tokenizer)), tokenizer, build_unet(preset))
pipe.set_progress_bar_config(disable=True)
"""  # the smallest pipeline of the real classes: random weights, a step takes milliseconds
WAIT = 1000 * int(
    os.environ.get("SDKIT_BROWSER_PATIENCE", "180")
)  # milliseconds for what depends on the model; a loaded machine is slow, and slow is no failure
SETTINGS = {
    "apputils-extension/notification.jupyterlab-settings": {
        "fetchNews": "false",
        "checkForUpdates": False,
    },
    "apputils-extension/themes.jupyterlab-settings": {"adaptive-theme": False},
}


@pytest.fixture(
    scope="package"
)  # not longer: Playwright's event loop would still run under other tests
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path, needs = find_chromium(playwright.chromium.executable_path)
        # containers give no user namespaces for Chromium's own sandbox; the pages are our own
        yield playwright.chromium.launch(
            executable_path=path,
            env={**os.environ, **needs},
            args=["--no-sandbox", "--disable-dev-shm-usage"],
        )


@pytest.fixture(scope="package")
def server(tmp_path_factory):
    """A Jupyter server of its own: no settings of this user, one token, the folder that notebooks go to."""
    folder = tmp_path_factory.mktemp("lab")
    home = tmp_path_factory.mktemp("home")
    for name, values in SETTINGS.items():
        file = home / "lab" / "user-settings" / "@jupyterlab" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(home),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "lab" / "user-settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "lab" / "workspaces"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "PYTHONWARNINGS": "ignore",
        "HF_HUB_OFFLINE": "1",
    }
    log = (home / "server.log").open("wb")
    options = [
        "--no-browser",
        "--allow-root",
        "--expose-app-in-browser",
        "--JupyterNotebookApp.expose_app_in_browser=True",
        f"--port={port}",
        "--ip=127.0.0.1",
        "--IdentityProvider.token=test",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options, f"--ServerApp.root_dir={folder}"],
        env=environment, stdout=log, stderr=log,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    _await(f"{url}/api/status?token=test", process, home / "server.log")
    yield url, folder
    process.terminate()
    process.wait(30)


def _await(url, process, log):
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)  # the server offers nothing to wait on before it listens
    pytest.fail(
        "JupyterLab did not start:\n" + log.read_text(encoding="utf-8", errors="replace")[-3000:]
    )


class Notebook:
    """A notebook that is open in the browser, and what went wrong in its page."""

    def __init__(self, page, url, folder, name):
        self.page, self.url, self.path = page, url, folder / name
        self.problems = []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on(
            "console",
            lambda m: self.problems.append(m.text) if m.type == "error" and _ours(m) else None,
        )

    def wait(self):
        """Wait until the notebook is the page's current document and its kernel is ready."""
        self.page.wait_for_function(
            """() => { const book = window.jupyterapp?.shell.currentWidget;
                       return book?.content?.activeCell && book.sessionContext.session?.kernel?.status === 'idle'; }""",
            timeout=WAIT,
        )

    def run(self):
        """Run all cells from the top and wait until the kernel has done them."""
        self.do("notebook:run-all-cells")
        self.page.wait_for_function(
            """() => { const p = [...document.querySelectorAll('.jp-CodeCell .jp-InputArea-prompt')];
                       return p.length && p.every((e) => /\\[\\d+\\]/.test(e.textContent)); }""",
            timeout=WAIT,
        )

    def run_cell(self, index):
        """Run one cell and wait until the kernel has done it."""
        prompt = self.page.locator(".jp-CodeCell").nth(index).locator(".jp-InputArea-prompt").first
        before = prompt.text_content()
        self.page.evaluate(
            "(index) => { jupyterapp.shell.currentWidget.content.activeCellIndex = index; }", index
        )
        self.do("notebook:run-cell")
        expect(prompt).not_to_have_text(before, timeout=WAIT)
        expect(prompt).to_have_text(re.compile(r"\[\d+\]"), timeout=WAIT)

    def do(self, command):
        """Carry out what stands behind a menu entry: keys go astray while JupyterLab, still starting, moves the focus."""
        self.page.evaluate("(command) => { jupyterapp.commands.execute(command); }", command)

    def text_of(self, index):
        return (
            self.page.locator(".jp-CodeCell")
            .nth(index)
            .locator(".jp-OutputArea-output")
            .all_inner_texts()
        )

    def save(self):
        before = self.path.stat().st_mtime_ns
        self.do("docmanager:save")
        end = time.monotonic() + 60
        while True:  # Jupyter writes into the file itself, so for a moment it is empty or cut short
            if self.path.stat().st_mtime_ns != before:
                with contextlib.suppress(json.JSONDecodeError):
                    return json.loads(self.path.read_text(encoding="utf-8"))
            assert time.monotonic() < end, f"{self.path.name} is not saved whole after a minute"
            self.page.wait_for_timeout(50)

    def shut_down(self):
        shut_down_kernels(self.url)

    def dark(self, on=True):
        """Switch JupyterLab's theme."""
        self.page.evaluate(
            "(on) => { document.body.dataset.jpThemeLight = String(!on); }", on
        )  # what its theme manager sets; a full switch reloads style sheets


def _ours(message):
    where = (message.location or {}).get("url", "")
    return not any(part in where for part in ("/api/", "/lsp", "favicon", "jupyterlab-news"))


@pytest.fixture
def notebook(browser, server, request):
    """Open a notebook with the given cells: ``notebook("import sdkit", "…")``."""
    url, folder = server
    contexts = []

    def make(*cells, width=1100, height=1400, app="lab/tree"):
        name = f"{request.node.name[:60].replace('[', '-').replace(']', '')}-{len(contexts)}.ipynb"
        book = {
            "cells": [
                {"cell_type": "code", "id": f"cell-{n}", "metadata": {}, "execution_count": None, "outputs": [], "source": s}
                for n, s in enumerate(cells)
            ],
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
            "nbformat": 4, "nbformat_minor": 5,
        }  # fmt: skip
        (folder / name).write_text(json.dumps(book), encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": height})
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        context.set_default_timeout(WAIT)
        contexts.append(context)
        page = context.new_page()
        opened = Notebook(page, url, folder, name)
        page.goto(f"{url}/{app}/{name}?token=test" + ("&reset" if app.startswith("lab") else ""))
        page.locator(".jp-CodeCell").nth(len(cells) - 1).wait_for()
        opened.wait()
        opened.problems.clear()  # what JupyterLab and Notebook complain about while they start is not ours
        return opened

    yield make
    failed = getattr(request.node, "failed", False)
    for n, context in enumerate(contexts):
        for page in context.pages:
            if failed:
                KEPT.mkdir(parents=True, exist_ok=True)
                page.screenshot(
                    path=KEPT / f"{request.node.name[:80].replace('/', '-')}-{n}.png",
                    full_page=True,
                )
        context.close()
    shut_down_kernels(url)


def shut_down_kernels(url):
    with urllib.request.urlopen(f"{url}/api/sessions?token=test") as answer:
        sessions = json.load(answer)
    for session in sessions:
        delete = urllib.request.Request(
            f"{url}/api/sessions/{session['id']}?token=test", method="DELETE"
        )
        urllib.request.urlopen(delete).close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call":
        item.failed = outcome.get_result().failed
