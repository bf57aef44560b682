"""A Chrome or Chromium without a window, which draws plotly's figures."""

from __future__ import annotations

import html
import shutil
import subprocess
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go
import plotly.io
from markupsafe import Markup

from nas_attn.errors import OperationError, shorten
from nas_attn.report.templating import plotly_script, templates, trusted
from nas_attn.system import environment

BROWSER_NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "msedge",
    # where browsers are that put no command on the path
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Microsoft/Edge/Application/msedge.exe",
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
    # milliseconds of the page's own clock, which runs only while the page has nothing to do
    "--virtual-time-budget=60000",
)
# Pixels; a PNG has twice as many
PIXELS = 900
PNG_SCALE = 2
# Seconds for one start of the browser, on a busy machine
BROWSER_START_S = 180.0
# What the page says of a figure that plotly cannot draw
FAILED = "failed: "


def find_browser() -> str:
    """The browser that `BROWSER_PATH` names, or the first that is installed.

    OperationError: there is none.
    """
    named = environment.browser()
    found = filter(None, map(shutil.which, [named] if named else BROWSER_NAMES))
    path = next(found, None)
    if path is not None:
        return path
    if named:
        raise OperationError(
            f"{environment.BROWSER} is '{shorten(named)}', which is no program: name a Chrome or"
            " Chromium"
        )
    raise OperationError(
        "Chrome or Chromium, which draws figures, is not installed: install one, or name it in"
        f" {environment.BROWSER}"
    )


def draw(figures: Sequence[go.Figure], format_: str, folder: Path) -> list[bytes]:
    """Each figure as plotly's `svg` or `png`. `folder`: an absolute one, in which the browser reads
    and writes.

    OperationError: there is no browser, or it did not work. OSError: the folder cannot be written.
    """
    orders = [
        {
            "figure": figure.to_plotly_json(),
            "how": {
                "format": format_,
                "width": PIXELS,
                "height": figure.layout.height,
                "scale": PNG_SCALE if format_ == "png" else 1,
            },
        }
        for figure in figures
    ]
    # so that no text can end the element
    told = plotly.io.json.to_json_plotly(orders).replace("<", "\\u003c")
    page = templates().get_template("drawing.html")
    text = page.render(
        plotly=plotly_script(), orders=Markup(told), failed=FAILED, script=trusted("drawing.js")
    )
    shown = _run(text, folder, "--dump-dom")
    body = html.unescape(shown.partition("<body>")[2].partition("</body>")[0])
    addresses = body.split()
    if len(addresses) != len(figures) or body.startswith(FAILED):
        raise _did_not_work(body if body.startswith(FAILED) else "it drew nothing")
    data = urllib.request.DataHandler()
    return [data.data_open(urllib.request.Request(one)).read() for one in addresses]


def print_pdf(svg: bytes, height: int, folder: Path) -> bytes:
    """A picture as a PDF of one page; `height`: its pixels. As `draw`."""
    page = templates().get_template("picture.html")
    text = page.render(svg=Markup(svg.decode("utf-8")), width=PIXELS, height=height)
    printed = folder / "picture.pdf"
    _run(text, folder, "--no-pdf-header-footer", f"--print-to-pdf={printed}")
    if not printed.is_file():
        raise _did_not_work("it printed nothing")
    return printed.read_bytes()


def _run(text: str, folder: Path, *what: str) -> str:
    """What the browser says of a page."""
    page = folder / "page.html"
    page.write_text(text, "utf-8")
    profile = f"--user-data-dir={folder / 'profile'}"
    command = [find_browser(), *BROWSER_FLAGS, profile, *what, page.as_uri()]
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


def _did_not_work(why: str) -> OperationError:
    return OperationError(
        f"Chrome or Chromium, which draws figures, did not work ({shorten(why)}): install another"
        f" one, or name it in {environment.BROWSER}"
    )
