"""How long a report takes to open: from its address to the first figures drawn, in a real Chromium.

    python -m benchmarks.report REPORT.html [TIMES]

Needs Chromium, and websocket-client (extra `dev`).

Says the wall-clock time and the processor time of all of Chromium's processes from the address to
the drawing; on a machine with other work only the second says something.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from browser import Page, browser

DRAWN = (
    "[...document.querySelectorAll('.figure')].some(f => f.dataset.drawn &&"
    " f.querySelector('.main-svg'))"
)


def main() -> int:
    file, times = Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with tempfile.TemporaryDirectory(prefix="nas_attn-") as folder, browser(Path(folder)) as page:
        found = [once(page, file) for _ in range(times)]
        print(
            f"{file.name}: {file.stat().st_size / 1e6:.2f} MB, {page.look(ROWS)} candidates,"
            f" {times} times"
        )
        for name, values in zip(("wall clock", "processor"), zip(*found, strict=True), strict=True):
            print(
                f"  {name}: median {statistics.median(values):.2f} s, {min(values):.2f} to"
                f" {max(values):.2f} s"
            )
        print(f"  errors: {page.errors or 'none'}; asked of the network: {page.asked or 'nothing'}")
    return 0


ROWS = "document.getElementById('candidates')?.tBodies[0].rows.length ?? 0"


def once(page: Page, file: Path) -> tuple[float, float]:
    """Seconds on the clock and of the processor until the first figures are drawn."""
    page.open("about:blank#", wait=False)
    began, spent = time.perf_counter(), processor()
    page.open(file.as_uri())
    page.until(DRAWN)
    return time.perf_counter() - began, processor() - spent


def processor() -> float:
    """Processor seconds of all of Chromium's processes."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


if __name__ == "__main__":
    sys.exit(main())
