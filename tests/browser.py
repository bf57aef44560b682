"""A real Chromium, driven through its DevTools: what a reader sees, points at and clicks, and what
the page asks of the network.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
    "--allow-file-access-from-files",
)
PATIENCE_S = 120.0
LOCAL = ("file:", "data:", "blob:", "about:", "chrome:", "http://127.0.0.1")


class Page:
    """One tab."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._number = socket, 0
        self.errors: list[str] = []  # What the console complained about
        self.asked: list[str] = []  # Addresses that the page asked for, the local ones left out
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.tell(f"{domain}.enable")

    def tell(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command, and its answer."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._number:
                assert "error" not in message, (method, message["error"])
                return dict(message["result"])
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        method, found = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.errors.append(
                str(found["exceptionDetails"].get("exception", {}).get("description", found))
            )
        if method == "Runtime.consoleAPICalled" and found["type"] in ("error", "assert"):
            self.errors.append(str([argument.get("value") for argument in found["args"]]))
        if method == "Log.entryAdded" and found["entry"]["level"] == "error":
            self.errors.append(f"{found['entry']['text']} {found['entry'].get('url', '')}")
        if method == "Network.requestWillBeSent" and not found["request"]["url"].startswith(LOCAL):
            self.asked.append(found["request"]["url"])

    def open(
        self,
        address: str,
        *,
        width: int = 1200,
        height: int = 900,
        dark: bool = False,
        wait: bool = True,
    ) -> None:
        """Loads a page in a window, or on a phone, of that size."""
        self.errors, self.asked = [], []
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.tell("Emulation.setEmulatedMedia", features=[scheme])
        phone = width < 600
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.tell("Emulation.setDeviceMetricsOverride", **size)
        self.tell("Page.navigate", url=address)
        if wait:
            self.until("document.readyState === 'complete' && !location.href.startsWith('about:')")

    def look(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.tell(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, (expression, answer["exceptionDetails"])
        return answer["result"].get("value")

    def until(self, expression: str) -> Any:
        """Its value, once it is true."""
        end = time.monotonic() + PATIENCE_S
        while not (found := self.look(expression)):
            assert time.monotonic() < end, f"never came true: {expression}"
            time.sleep(0.05)
        return found

    def point(self, element: str, *, click: bool = False) -> None:
        """The mouse over the middle of what an expression gives, scrolled into view."""
        self.look(f"({element}).scrollIntoView({{block: 'center'}})")
        place = self.look(
            f"(r => [r.x + r.width / 2, r.y + r.height / 2])(({element}).getBoundingClientRect())"
        )
        for x in (place[0] - 3, place[0]):  # it moves, as a hand does
            self.tell("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=place[1])
        for kind in ("mousePressed", "mouseReleased") if click else ():
            self.tell(
                "Input.dispatchMouseEvent",
                type=kind,
                x=place[0],
                y=place[1],
                button="left",
                clickCount=1,
            )

    def printed(self) -> bytes:
        """The page as a PDF."""
        return base64.b64decode(self.tell("Page.printToPDF")["data"])


@contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """A Chromium with a profile of its own; the test is skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    websocket = pytest.importorskip("websocket", reason="websocket-client is not installed")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        address = _address(folder / "profile" / "DevToolsActivePort", process)
        socket = websocket.create_connection(address, timeout=PATIENCE_S)
        try:
            yield Page(socket)
        finally:
            socket.close()
    finally:
        process.kill()
        process.wait()


def _address(file: Path, process: subprocess.Popen[bytes]) -> str:
    """Of the page's websocket: Chromium writes its port before it answers there, and answers before
    there is a page.
    """
    end = time.monotonic() + PATIENCE_S
    while True:
        assert process.poll() is None, "Chromium has ended"
        assert time.monotonic() < end, "Chromium does not answer"
        with suppress(OSError, ValueError, StopIteration):
            port, _ = file.read_text().splitlines()  # two lines once it is whole
            with urllib.request.urlopen(
                f"http://127.0.0.1:{port}/json/list", timeout=PATIENCE_S
            ) as answer:
                found = next(
                    entry["webSocketDebuggerUrl"]
                    for entry in json.load(answer)
                    if entry["type"] == "page"
                )
                return str(found)
        time.sleep(0.05)
