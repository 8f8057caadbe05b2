"""Pages in a headless Chromium, driven by its own protocol: screenshots, what a page asks of others, and axe's judgement."""

import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
WIDTHS = (1280, 360)
"""The widths in pixels at which pages are looked at: a laptop's and a phone's."""
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
LOADING_S = 30.0


def find() -> str | None:
    """Find a Chromium: the one that the environment's CHROMIUM names, or the first of NAMES on the PATH."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One tab of a Chromium. `asked`: the addresses that pages asked for, data within them and their own file aside."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._number = socket, 0
        self._events: list[dict[str, Any]] = []
        self.asked: list[str] = []
        for domain in ("Page", "Network", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result. Raises RuntimeError with the browser's words."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = self._receive()
            if message.get("id") == self._number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return dict(message["result"])

    def open(self, address: str, width: int, scheme: Scheme = "light") -> None:
        """Show a page at a width in pixels, as a phone does below 600, and wait until it is loaded. `address`: file:// or http://."""
        phone = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=phone)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.asked, self._events = [], []
        self.call("Page.navigate", url=address)
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._receive()
        self.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
        self.evaluate("Promise.all([...document.images].map(image => image.decode().catch(() => 0)))")
        self.asked = [
            url
            for event in self._events
            if event["method"] == "Network.requestWillBeSent"
            and not (url := event["params"]["request"]["url"]).startswith("data:")
            and url != address
        ]

    def evaluate(self, script: str) -> Any:
        """Run JavaScript in the page and return its value, awaited. Raises RuntimeError."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(str(found["exceptionDetails"]))
        return found["result"].get("value")

    def screenshot(self, height: int | None = None) -> bytes:
        """Take a picture of the page, or of its first `height` pixels, as PNG."""
        whole = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": whole["width"], "height": min(whole["height"], height or 16_000), "scale": 1}
        return base64.b64decode(self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"])

    def overflow(self) -> int:
        """Measure by how many pixels the page is wider than the window."""
        return int(self.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def violations(self, axe: str) -> list[str]:
        """Run axe, whose source is given, and return what it calls serious or critical: rule, impact and the elements."""
        self.evaluate(f"{axe}; 0")
        found = self.evaluate("axe.run(document, {resultTypes: ['violations']}).then(result => result.violations)")
        return [
            f"{one['id']} ({one['impact']}): {', '.join(str(node['target']) for node in one['nodes'][:3])}"
            for one in found
            if one["impact"] in ("serious", "critical")
        ]

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv(timeout=LOADING_S))
        if "method" in message:
            self._events.append(message)
        return message


@contextmanager
def started(chromium: str) -> Iterator[Browser]:
    """Run a Chromium without a window until the block ends. Its sandbox needs a user other than root, so root's has none."""
    with tempfile.TemporaryDirectory(prefix="visor-browser-", ignore_cleanup_errors=True) as profile:
        flags = ["--headless", "--remote-debugging-port=0", f"--user-data-dir={profile}", "--disable-gpu", "--hide-scrollbars"]
        flags += ["--no-first-run", "--disable-background-networking", "--disable-dev-shm-usage"]
        flags += ["--no-sandbox"] if os.geteuid() == 0 else []
        command = [chromium, *flags, "about:blank"]
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
        ) as process:
            try:
                yield from _attached(process)
            finally:
                os.killpg(process.pid, signal.SIGKILL)  # with the processes that it has started, which would stay


def _attached(process: subprocess.Popen[str]) -> Iterator[Browser]:
    said = []
    for line in process.stderr or ():
        said.append(line)
        if line.startswith("DevTools listening on "):
            address = line.split()[-1]
            break
    else:
        raise RuntimeError(f"the browser ended with {process.wait()}:\n{''.join(said[-5:])}")
    port = address.split("/")[2]
    with connect(address, max_size=None) as whole:
        whole.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
        targets = json.loads(whole.recv(timeout=LOADING_S))["result"]["targetInfos"]
    tab = next(target["targetId"] for target in targets if target["type"] == "page")
    with connect(f"ws://{port}/devtools/page/{tab}", max_size=None) as socket:
        yield Browser(socket)


def address(path: Path) -> str:
    """Return a file's address."""
    return path.resolve().as_uri()
