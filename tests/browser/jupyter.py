"""JupyterLab 4 and Notebook 7 for tests in a browser: one server on loopback, notebooks by hand.

    Jupyter (process, own directories, random port) ──▶ open(cells) ──▶ Opened (page, what it asked)

- Nothing of the user's Jupyter is read or written; the server ends with `close`.
- `APPLICATIONS` are the two that a test is to run in; a notebook of each serves a whole module.
- `Opened.run` runs all cells and fails where one raised. `Opened.value` asks the kernel itself.
- Every request and every error on the console is kept; `Opened.check` fails where one left loopback
  or was not expected.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import nbformat

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from playwright.sync_api import Browser, Page

APPLICATIONS = ("lab", "notebook")
START_S = 90.0
WAIT_MS = 30_000
LOOPBACK = {"127.0.0.1", "localhost"}
# Said by Jupyter itself, whatever is on the page.
NOISE = (
    "Failed to load resource: the server responded with a status of 404",
    # Notebook 7 opens a file browser that it does not have.
    "Cannot read properties of undefined (reading 'schema')",
    "Command 'filebrowser:open-path' not registered.",
)
SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
    },
    "@jupyterlab/extensionmanager-extension/plugin": {"enabled": False},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
}
# The notebook of a page, ready to run.
READY = """async () => {
  const app = window.jupyterapp;
  await app.restored;
  const panel = app.shell.currentWidget;
  if (!panel || !panel.sessionContext) return false;
  await panel.context.ready;
  await panel.sessionContext.ready;
  return Boolean(panel.sessionContext.session && panel.sessionContext.session.kernel);
}"""
RUN = """async () => {
  const app = window.jupyterapp, panel = app.shell.currentWidget;
  await app.commands.execute("notebook:run-all-cells");
  const told = [];
  for (const cell of panel.content.model.cells) {
    for (const output of (cell.sharedModel.getOutputs ? cell.sharedModel.getOutputs() : [])) {
      if (output.output_type === "error") told.push(output.ename + ": " + output.evalue);
    }
  }
  return told;
}"""
WRITE = """([index, source]) => {
  const { cells } = window.jupyterapp.shell.currentWidget.content.model;
  cells.get(index).sharedModel.setSource(source);
}"""
VALUE = """async (text) => {
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  const code = "import json as _json";
  const future = kernel.requestExecute({ code, silent: false, store_history: false,
    user_expressions: { it: "_json.dumps((" + text + "))" } });
  const reply = await future.done;
  return reply.content.user_expressions.it;
}"""


@dataclass
class Opened:
    """A notebook in a page.

    Attributes:
        page: The page; `page.locator(".wb-heat")` finds a widget.
        asked: Every address that the page asked for, web sockets included.
        said: Every error on its console.
    """

    page: Page
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def ready(self) -> None:
        """Wait until the notebook is there and has a kernel."""
        self.page.wait_for_function("() => Boolean(window.jupyterapp)", timeout=WAIT_MS)
        deadline = time.perf_counter() + WAIT_MS / 1_000
        while not self.page.evaluate(READY):
            assert time.perf_counter() < deadline, "no notebook with a kernel appeared"
            self.page.wait_for_timeout(50)

    def run(self) -> None:
        """Run all cells; fail where one raised."""
        assert self.page.evaluate(RUN) == []

    @contextmanager
    def showing(self, index: int, source: str, instead_of: str, height: int) -> Iterator[None]:
        """Let a cell be another one, run, on a page of another height, for a `with` block.

        A page and a kernel of its own would cost several seconds.
        """
        before = self.page.viewport_size
        assert before is not None
        self.page.set_viewport_size({"width": before["width"], "height": height})
        self.page.evaluate(WRITE, [index, source])
        try:
            self.run()
            yield
        finally:
            self.page.evaluate(WRITE, [index, instead_of])
            self.page.set_viewport_size(before)
            self.run()

    def save(self) -> None:
        """Save the notebook with its outputs."""
        self.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")

    def reload(self) -> None:
        """Load the page anew; the kernel lives on."""
        self.page.reload()
        self.ready()

    def value(self, expression: str) -> Any:
        """Return what an expression is in the kernel; it must be JSON."""
        told = self.page.evaluate(VALUE, expression)
        assert told["status"] == "ok", told
        text = told["data"]["text/plain"]
        return json.loads(text[1:-1].encode().decode("unicode_escape"))

    def until(self, expression: str, expected: Any) -> None:
        """Wait until an expression in the kernel has a value."""
        deadline = time.perf_counter() + WAIT_MS / 1_000
        while (found := self.value(expression)) != expected:
            assert time.perf_counter() < deadline, f"{expression} is {found!r}, not {expected!r}"
            self.page.wait_for_timeout(20)

    def check(self) -> None:
        """Fail where a request left loopback, or the console told of an error."""
        assert self.asked
        away = [url for url in self.asked if not is_local(url)]
        assert away == []
        assert [text for text in self.said if not text.startswith(NOISE)] == []

    def close(self) -> None:
        """Close the page; its kernel is shut down."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        self.page.context.close()


class Jupyter:
    """A Jupyter server of our own, with Lab at `/lab` and Notebook 7 at `/notebooks`."""

    def __init__(self, home: Path) -> None:
        """Start it in `home`, which it has for itself."""
        self.home = home
        self.root = home / "notebooks"
        self.token = os.urandom(16).hex()
        self._count = 0
        self._process = self._start()
        self.url = self._wait()

    def open(  # noqa: PLR0913 - what a page is like, named
        self,
        cells: Sequence[str],
        browser: Browser,
        *,
        notebook: bool = False,
        width: int = 1280,
        height: int = 1000,
        scale: float = 1.0,
    ) -> Opened:
        """Return a new notebook of these cells, opened and with a kernel, not yet run.

        Args:
            cells: Code.
            browser: Where to open it.
            notebook: In Notebook 7, not in JupyterLab.
            width: Of the page.
            height: Of the page.
            scale: Pixels of the screen per CSS pixel.
        """
        self._count += 1
        name = f"test_{self._count}.ipynb"
        made = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        nbformat.write(made, self.root / name)
        context = browser.new_context(
            viewport={"width": width, "height": height},
            device_scale_factor=scale,
            accept_downloads=True,
        )
        opened = Opened(context.new_page())
        page = opened.page
        page.set_default_timeout(WAIT_MS)
        page.on("request", lambda request: opened.asked.append(request.url))
        page.on("websocket", lambda socket: opened.asked.append(socket.url))
        page.on("pageerror", lambda error: opened.said.append(str(error)))
        page.on(
            "console",
            lambda message: opened.said.append(message.text) if message.type == "error" else None,
        )
        place = f"notebooks/{name}" if notebook else f"lab/workspaces/w{self._count}/tree/{name}"
        page.goto(f"{self.url}{place}?token={self.token}")
        opened.ready()
        return opened

    def close(self) -> None:
        """End the server and its kernels."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    def _start(self) -> subprocess.Popen[bytes]:
        directories = {
            "JUPYTER_CONFIG_DIR": self.home / "config",
            "JUPYTER_DATA_DIR": self.home / "data",
            "JUPYTER_RUNTIME_DIR": self.home / "runtime",
            "JUPYTERLAB_SETTINGS_DIR": self.home / "settings",
            "JUPYTERLAB_WORKSPACES_DIR": self.home / "workspaces",
            "IPYTHONDIR": self.home / "ipython",
        }
        for directory in (*directories.values(), self.root):
            directory.mkdir(parents=True)
        for name, settings in SETTINGS.items():
            path = self.home / "settings" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(settings))
        config = {
            "ServerApp": {
                "ip": "127.0.0.1",
                "port": 0,
                "open_browser": False,
                "allow_root": True,
                "root_dir": str(self.root),
            },
            "IdentityProvider": {"token": self.token},
            "LabApp": {"expose_app_in_browser": True, "extension_manager": "readonly"},
            "JupyterNotebookApp": {"expose_app_in_browser": True},
        }
        (self.home / "config" / "jupyter_server_config.json").write_text(json.dumps(config))
        environment = {name: str(path) for name, path in directories.items()}
        with (self.home / "log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "jupyterlab"],
                env={**os.environ, **environment},
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _wait(self) -> str:
        """Return the address, once the server answers."""
        deadline = time.perf_counter() + START_S
        while time.perf_counter() < deadline and self._process.poll() is None:
            for path in (self.home / "runtime").glob("jpserver-*.json"):
                try:
                    url: str = json.loads(path.read_text())["url"]
                    with urllib.request.urlopen(f"{url}api?token={self.token}", timeout=5):  # noqa: S310 - ours
                        return url
                except (OSError, ValueError):
                    pass  # not yet written, or not yet listening
            time.sleep(0.05)
        told = (self.home / "log").read_text(errors="replace")[-4_000:]
        self.close()
        raise AssertionError(f"Jupyter did not start: {told}")


def is_local(url: str) -> bool:
    """Tell whether an address stays on this machine."""
    parts = urlsplit(url)
    return parts.scheme in {"data", "blob", "about"} or parts.hostname in LOOPBACK
