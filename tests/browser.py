"""A real Chromium, driven through its DevTools: what a reader sees, points at and clicks, and what
the page asks of the network.

It is told what to do through a pipe and ends when the pipe is closed, so it never outlives the
process of the test, however that ends.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
    "--remote-debugging-pipe",
    "--allow-file-access-from-files",
)
PATIENCE_S = 120.0
LOCAL = ("file:", "data:", "blob:", "about:", "chrome:", "http://127.0.0.1")


class Pipe:
    """The two ends of Chromium's DevTools: JSON, each message followed by a zero byte."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._received = b""

    def send(self, message: dict[str, Any]) -> None:
        self._stdin.write(json.dumps(message).encode() + b"\0")
        self._stdin.flush()

    def receive(self) -> dict[str, Any]:
        """The next message."""
        parts = [self._received]
        while b"\0" not in parts[-1]:
            ready, _, _ = select.select([self._stdout], [], [], PATIENCE_S)
            assert ready, "Chromium does not answer"
            parts.append(os.read(self._stdout.fileno(), 2**20))
            assert parts[-1], "Chromium has ended"
        message, _, self._received = b"".join(parts).partition(b"\0")
        return dict(json.loads(message))


class Page:
    """One tab."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._number = 0
        # sent with each message to this tab
        self._tab: dict[str, str] = {}
        self.errors: list[str] = []  # What the console complained about
        self.asked: list[str] = []  # Addresses that the page asked for, the local ones left out
        target = self.tell("Target.createTarget", url="about:blank")["targetId"]
        attached = self.tell("Target.attachToTarget", targetId=target, flatten=True)
        self._tab = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.tell(f"{domain}.enable")

    def tell(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command, and its answer."""
        self._number += 1
        order = {"id": self._number, "method": method, "params": parameters}
        self._pipe.send(order | self._tab)
        while True:
            message = self._pipe.receive()
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
    """A Chromium with a profile of its own, for tests marked `extras("chromium")`."""
    assert CHROMIUM is not None, "Chromium is not installed"
    # it reads from 3 and writes to 4
    command = ["sh", "-c", 'exec "$@" 3<&0 4>&1 >/dev/null 2>&1 </dev/null', "sh", CHROMIUM, *FLAGS]
    command.append(f"--user-data-dir={folder / 'profile'}")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:  # type: ignore[call-overload]
        yield Page(Pipe(process))
