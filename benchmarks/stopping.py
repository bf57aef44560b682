"""What a worker takes from a signal to its end, in the middle of a training: the grace period that
it needs.

    python -m benchmarks.stopping [--recipe digits] [--times 5] [--set training.batch_size=128]

CPU seconds, because that is what it needs; wall time beside it is that of this machine, with its
other work.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from nas_attn.study.opening import open_study

PROGRAM = [sys.executable, "-m", "nas_attn.cli.main"]
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default="digits")
    parser.add_argument("--set", action="append", default=[], help="change a setting of the recipe")
    parser.add_argument("--times", type=int, default=4)
    options = parser.parse_args()
    changes = [
        word for setting in ("training.rungs=[500]", *options.set) for word in ("--set", setting)
    ]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        begin = [
            *PROGRAM,
            "search",
            options.recipe,
            "--name",
            "stopped",
            "--time-limit",
            "0",
            "-q",
            *changes,
        ]
        subprocess.run(
            [*begin, "--set", 'objectives=["accuracy", "params"]'],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        for number in range(options.times):
            measure(SIGNALS[number % len(SIGNALS)])


def measure(number: signal.Signals) -> None:
    """One worker, told to stop as soon as it trains."""
    worker = subprocess.Popen(
        [*PROGRAM, "worker", "stopped", "--threads", "1"], stdout=subprocess.DEVNULL
    )
    process, store = psutil.Process(worker.pid), open_study("stopped").store
    while not any(
        row.doing not in ("starting", "looking for work") for row in store.workers.rows()
    ):
        time.sleep(0.2)
    time.sleep(2.0)
    before, began = process.cpu_times(), time.monotonic()
    worker.send_signal(number)
    _, status, used = os.wait4(worker.pid, 0)
    cpu = used.ru_utime + used.ru_stime - before.user - before.system
    size = sum(row.size for rows in store.all_checkpoints().values() for row in rows[:1])
    print(
        f"{number.name}: status {os.waitstatus_to_exitcode(status)}, {cpu:.2f} CPU s in"
        f" {time.monotonic() - began:.1f} s; checkpoint of {size / 1e6:.1f} MB,"
        f" {Path('nas_attn.db').stat().st_size / 1e6:.1f} MB database; load"
        f" {os.getloadavg()[0]:.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
