"""The documentation site and a study in optuna-dashboard, in a real browser."""

from __future__ import annotations

import functools
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import optuna
import pytest
from browser import Page
from colours import contrast, laid_over
from made_study import usual
from shell import patience

from nas_attn.answer.answer import answer_of
from nas_attn.answer.reading import snapshot
from nas_attn.report.dashboard import publish
from nas_attn.report.figures.effect_map import BAD, GOOD_COLOUR, NOTHING

pytestmark = [pytest.mark.extras("chromium"), pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The site's address."""
    pytest.importorskip("mkdocs", reason="mkdocs-material is not installed (extra `dev`)")
    built = tmp_path_factory.mktemp("built") / "site"
    command = [sys.executable, str(ROOT / "docs" / "write_site.py")]
    variables = {**os.environ, "SITE": str(built)}
    subprocess.run(command, env=variables, capture_output=True, check=True)

    class Silent(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    handler = functools.partial(Silent, directory=str(built))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    "page",
    [
        "index",
        "docs/get-started/quickstart",
        "docs/how-to/test-and-export",
        "docs/get-started/gallery",
        "docs/explain/training",
        "docs/explain/latency",
    ],
)
@pytest.mark.parametrize(("dark", "width"), [(False, 1200), (True, 390)])
def test_a_page_of_the_site_shows_its_pictures_and_asks_nobody_else(
    site: str, tab: Page, page: str, dark: bool, width: int
) -> None:
    tab.open(f"{site}/{page}.html", dark=dark, width=width)
    pictures = tab.until(
        "(p => p.every(i => i.complete) && JSON.stringify(p.map(i =>"
        " i.naturalWidth)))([...document.querySelectorAll('article img')])"
    )
    assert json.loads(pictures), "a page that shows something has pictures"
    assert all(json.loads(pictures)), "each picture is there"
    assert tab.look("document.documentElement.scrollWidth") <= width
    scheme = "slate" if dark else "default"
    assert tab.look("document.body.dataset.mdColorScheme") == scheme
    assert (tab.errors, tab.asked) == ([], [])


def test_the_dashboard_draws_all_our_plots_and_asks_nobody_else(tab: Page, tmp_path: Path) -> None:
    pytest.importorskip(
        "optuna_dashboard", reason="optuna-dashboard is not installed (extra `dashboard`)"
    )
    made = snapshot(usual(tmp_path, searched=24).store)
    study = optuna.create_study(
        storage=f"sqlite:///{tmp_path / 'nas_attn.db'}",
        study_name="made",
        directions=["maximize", "minimize"],
    )
    for _ in made.candidates:
        study.tell(study.ask(), [0.5, 1.0])
    publish(study, answer_of(made))
    with served(f"sqlite:///{tmp_path / 'nas_attn.db'}") as address:
        tab.open(f"{address}/studies/1", height=4000, dark=True)
        titles = "[...document.querySelectorAll('.gtitle')].map(t => t.textContent).join('|')"
        for title in ("gains most", "costs most latency"):
            tab.until(f"{titles}.includes({json.dumps(title)})")
        right = "e => e.getBoundingClientRect().right"
        cut = f"t => ({right})(t) > ({right})(t.closest('.main-svg'))"
        titles_cut = (
            f"[...document.querySelectorAll('.gtitle')].filter({cut}).map(t => t.textContent)"
        )
        assert tab.look(titles_cut) == [], "a title is as wide as its plot"
        label = "document.querySelector('.heatmap-label text')"
        ink = tab.look(f"getComputedStyle({label}).fill")
        plot = f"{label}.closest('.main-svg')"
        paper = tab.look(f"getComputedStyle({plot}).backgroundColor")
        black = np.zeros(3)
        for cell in (GOOD_COLOUR, BAD, NOTHING):
            ground = laid_over(cell, laid_over(opaque(paper), black))
            assert contrast(laid_over(opaque(ink), black), ground) >= 4.5, (ink, paper, cell)
    assert tab.asked == []


def opaque(colour: str) -> str:
    """`rgb(1, 2, 3)` with its opacity, which a browser leaves out where it is full."""
    return colour if colour.startswith("rgba") else f"{colour.rstrip(')')}, 1)"


@contextmanager
def served(url: str) -> Iterator[str]:
    """The address of a dashboard, once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "optuna_dashboard._cli", url, "--port", str(port)]
    address = f"http://127.0.0.1:{port}/dashboard"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in patience("the dashboard"):
                assert process.poll() is None, "the dashboard has ended"
                with suppress(urllib.error.URLError):
                    urllib.request.urlopen(address).close()
                    break
            yield address
        finally:
            process.kill()
