"""A Chrome or Chromium without a window, which draws plotly's figures."""

from __future__ import annotations

import base64
import html
import shutil
import subprocess
import tempfile
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go
import plotly.io
from markupsafe import Markup

from nas_attn.errors import OperationError, shorten
from nas_attn.report.templating import plotly_script, templates, trusted
from nas_attn.system import environment

# Where browsers are that put no command on the path
PROGRAM_FOLDERS = (
    ("/Applications", "Google Chrome.app", "Contents", "MacOS", "Google Chrome"),
    ("C:/", "Program Files", "Google", "Chrome", "Application", "chrome.exe"),
    ("C:/", "Program Files (x86)", "Microsoft", "Edge", "Application", "msedge.exe"),
)
BROWSER_NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "msedge",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    *(str(Path(root, *parts)) for root, *parts in PROGRAM_FOLDERS),
)
BROWSER_FLAGS = (
    "--headless",
    # root has no sandbox; the page is our own and asks for nothing
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
)
# Milliseconds of the page's own clock, which runs only while the page has nothing to do
PAGE_CLOCK_MS = 60_000
# Seconds for one start of the browser, on a busy machine
BROWSER_START_S = 180.0
# What the page says of a figure that plotly cannot draw
FAILED = "failed: "


@dataclass(frozen=True, slots=True)
class Size:
    """Of a picture, in pixels of the page."""

    width: int
    height: int


def find_browser() -> str:
    """The browser that `BROWSER_PATH` names, or the first that is installed.

    OperationError: there is none.
    """
    named = environment.browser()
    if named is not None:
        path = shutil.which(named)
        if path is None:
            raise OperationError(
                f"{environment.BROWSER} is '{shorten(named)}', which is no program: name a Chrome"
                " or Chromium"
            )
        return path
    installed = filter(None, map(shutil.which, BROWSER_NAMES))
    path = next(installed, None)
    if path is None:
        raise OperationError(
            "Chrome or Chromium, which draws figures, is not installed: install one, or name it in"
            f" {environment.BROWSER}"
        )
    return path


@dataclass(frozen=True)
class Browser:
    """A browser and the folder of its files, in which it may read and write."""

    program: str
    folder: Path

    def draw(
        self, figures: Sequence[tuple[go.Figure, Size]], format_: str, *, scale: int
    ) -> list[bytes]:
        """Each figure as plotly's `svg` or `png`, the latter with `scale` times as many pixels.

        OperationError: the browser did not work. OSError: the folder cannot be written.
        """
        page = self.folder / "figures.html"
        page.write_text(_page(figures, format_, scale), "utf-8")
        shown = self._run(page, "--dump-dom")
        body = shown.partition("<body>")[2].partition("</body>")[0]
        images = html.unescape(body).split()
        if len(images) != len(figures) or body.startswith(FAILED):
            raise _did_not_work(body if body.startswith(FAILED) else "it drew nothing")
        return [_bytes_of(image) for image in images]

    def print(self, svg: bytes, size: Size) -> bytes:
        """A picture as a PDF of one page.

        OperationError: the browser did not work. OSError: the folder cannot be written.
        """
        page = self.folder / "picture.html"
        page.write_text(_sheet(svg.decode("utf-8"), size), "utf-8")
        printed = self.folder / "picture.pdf"
        self._run(page, "--no-pdf-header-footer", f"--print-to-pdf={printed}")
        if not printed.is_file():
            raise _did_not_work("it printed nothing")
        return printed.read_bytes()

    def _run(self, page: Path, *what: str) -> str:
        """What the browser says of a page."""
        command = [
            self.program,
            *BROWSER_FLAGS,
            f"--user-data-dir={self.folder / 'profile'}",
            f"--virtual-time-budget={PAGE_CLOCK_MS}",
            *what,
            page.as_uri(),
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, encoding="utf-8", timeout=BROWSER_START_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise _did_not_work(f"no answer within {BROWSER_START_S:.0f} s") from None
        except OSError as error:
            raise _did_not_work(str(error)) from None
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:]
            raise _did_not_work(f"it ended with {done.returncode}: {''.join(last)}")
        return done.stdout


@contextmanager
def open_browser(place: Path) -> Iterator[Browser]:
    """A browser whose files are below `place` while it is used. (Some browsers see only the user's
    own folders, not those for temporary files.)

    OperationError: there is none. OSError: `place` cannot be written.
    """
    program = find_browser()
    folder = tempfile.mkdtemp(prefix="drawing-", dir=place)
    try:
        yield Browser(program, Path(folder).absolute())
    finally:
        # what the browser still writes while it ends is no reason to fail
        shutil.rmtree(folder, ignore_errors=True)


def _page(figures: Sequence[tuple[go.Figure, Size]], format_: str, scale: int) -> str:
    """A page that replaces its text by the pictures' addresses, one a line."""
    orders = []
    for figure, size in figures:
        how = {"format": format_, "width": size.width, "height": size.height, "scale": scale}
        orders.append({"figure": figure.to_plotly_json(), "how": how})
    # so that no text can end the element
    told = plotly.io.json.to_json_plotly(orders).replace("<", "\\u003c")
    return (
        templates()
        .get_template("drawing.html")
        .render(
            plotly=plotly_script(),
            orders=Markup(told),
            failed=FAILED,
            script=trusted("drawing.js"),
        )
    )


def _sheet(svg: str, size: Size) -> str:
    """A page of paper with one picture."""
    return templates().get_template("picture.html").render(svg=Markup(svg), size=size)


def _bytes_of(address: str) -> bytes:
    """What a `data:` address holds."""
    head, _, data = address.partition(",")
    if head.endswith(";base64"):
        return base64.b64decode(data)
    return urllib.parse.unquote_to_bytes(data)


def _did_not_work(why: str) -> OperationError:
    return OperationError(
        f"Chrome or Chromium, which draws figures, did not work ({shorten(why)}): install another"
        f" one, or name it in {environment.BROWSER}"
    )
