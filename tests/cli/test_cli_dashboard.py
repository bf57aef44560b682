"""A study in optuna-dashboard, in a real browser, with no step of ours in between."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=10000",
    "--window-size=1400,2400",
    "--dump-dom",
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed"),
]


@contextmanager
def served(command: list[str], port: int) -> Iterator[str]:
    """The address of a dashboard, once it answers."""
    address = f"http://127.0.0.1:{port}/dashboard"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = time.monotonic() + 60
            while True:
                assert process.poll() is None, "the dashboard has ended"
                try:
                    urllib.request.urlopen(address).close()
                    break
                except urllib.error.URLError:
                    assert time.monotonic() < deadline, "the dashboard does not answer"
                    time.sleep(0.2)
            yield address
        finally:
            process.kill()


def dom(url: str, profile: Path) -> str:
    assert BROWSER is not None
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", url]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def plain(port: int) -> list[str]:
    return [sys.executable, "-m", "optuna_dashboard._cli", "sqlite:///nas_attn.db", "--port", str(port)]


def test_objectives_notes_and_our_plots_are_shown(table: Path, nas, tmp_path_factory: pytest.TempPathFactory) -> None:
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed (extra `dashboard`)")
    assert nas("search", "table.toml", "--workers", "1", "--trials", "6", "-q").status == 0
    port = free_port()
    with served(plain(port), port) as address:
        analytics = dom(f"{address}/studies/1", tmp_path_factory.mktemp("profile"))
        trials = dom(f"{address}/studies/1/trials?numbers=2", tmp_path_factory.mktemp("profile"))
    front = analytics[analytics.index("Objective X:") :].partition("History")[0]
    assert "score" in front
    assert "-effort" in front
    titles = ("Front and baselines, as estimated now", "Learning curves", "Placements, best first")
    for title in (*titles, "Where the time goes", "How the front grew", "Each candidate's runs next to its estimate"):
        assert title in analytics
    assert "stage1=eca(kernel_size=3) stage2=eca(kernel_size=3) stage3=eca(kernel_size=3)" in trials
    assert "nas_attn updates this note" in trials
