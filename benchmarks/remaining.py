"""How long did a search say that it would take, and how long did it take?

    python -m benchmarks.remaining [cued-digits] [--seeds 1 2 3] [--workers 2] [--more "--trials 20
    --minutes 10"]

Runs whole searches and asks every few seconds what `status` says is left. A row per search: minutes
it took, minutes at most that the dry run said, and at 25, 50, 60, 75 and 90 % of the time what was
said to be left over what was left. The aim: from halfway on, within 25 %. The clock starts with the
command; imports and the final report count.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time

import numpy as np

from nas_attn.errors import NasAttnError
from nas_attn.study.opening import open_study
from nas_attn.study.progress import progress

PROGRAM = [sys.executable, "-m", "nas_attn.cli.main"]
AT = (0.25, 0.5, 0.6, 0.75, 0.9)
EVERY_S = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", nargs="?", default="cued-digits", help="a recipe, or a folder of images"
    )
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--workers", default="2")
    parser.add_argument("--more", default="", help="options of `nas-attn search`, in one text")
    asked = parser.parse_args()
    print(
        f"| search | took, min | dry run, min | {' | '.join(f'{share:.0%}' for share in AT)} |"
        " worst from half on |"
    )
    print(f"|---|---|---|{'---|' * len(AT)}---|")
    with tempfile.TemporaryDirectory() as folder:
        what = os.path.abspath(asked.what) if os.path.exists(asked.what) else asked.what
        os.chdir(folder)
        for seed in asked.seeds:
            print(
                row(what, seed, ["--workers", asked.workers, *shlex.split(asked.more)]), flush=True
            )


def row(what: str, seed: int, options: list[str]) -> str:
    command = [
        *PROGRAM,
        "search",
        what,
        "--name",
        f"s{seed}",
        "--set",
        f"search.seed={seed}",
        *options,
    ]
    said = None
    if "--minutes" not in options:
        dry = subprocess.run(
            [*command, "--dry-run", "--json"], capture_output=True, text=True, check=True
        )
        said = json.loads(dry.stdout).get("total_s")
    times, left, took = watch(command, f"s{seed}")
    ratios = np.interp(
        np.array(AT) * took, times, np.array(left) / (took - np.array(times)), left=np.nan
    )
    late = [
        abs(one / (took - at) - 1)
        for at, one in zip(times, left, strict=True)
        if 0.5 <= at / took <= 0.95
    ]
    cells = " | ".join(f"{ratio:.2f}" for ratio in ratios)
    told = "" if said is None else f"{said / 60:.1f}"
    return (
        f"| {os.path.basename(what)}, seed {seed} | {took / 60:.1f} | {told} | {cells} |"
        f" {max(late, default=np.nan):.0%} |"
    )


def watch(command: list[str], name: str) -> tuple[list[float], list[float], float]:
    """Seconds since the start, seconds said to be left then, and seconds that it took."""
    began, times, left = time.monotonic(), list[float](), list[float]()
    search = subprocess.Popen(
        [*command, "--quiet"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    opened = None
    while search.poll() is None:
        time.sleep(EVERY_S)
        try:
            opened = opened or open_study(name)
            found = progress(opened).left_s
        except NasAttnError:  # not begun yet
            continue
        if found is not None:
            times.append(time.monotonic() - began)
            left.append(found)
    took = time.monotonic() - began
    if opened is not None:
        opened.database.close()
    if search.returncode not in (0, 4):
        raise SystemExit((search.stderr.read() if search.stderr else b"").decode())
    kept = [i for i, at in enumerate(times) if at < took]
    return [times[i] for i in kept], [left[i] for i in kept], took


if __name__ == "__main__":
    main()
