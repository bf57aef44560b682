"""Does `nas-attn test` confirm what a search recommends? Searches and their tests, from beginning
to end.

    python -m benchmarks.confirmed digits fashion-mnist --size small --searches 3 --blocks 5 --out
    FOLDER

For each problem and seed: `nas-attn search`, then `nas-attn test` of the recommended and the
best uniform one, each against the bare backbone and the first against the second. Both go on where
they stopped, so the command can be repeated; with `--show` it only prints the table of what is
there. Sizes are below (`SIZES`); the data of Fashion-MNIST, as published, are looked for in
`--data`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from nas_attn.analysis.snapshot import Snapshot
from nas_attn.storage import Database
from nas_attn.study.reading import snapshot

COMMON = {
    "training.backbones": "2",
    "latency.session_seconds": "0.3",
    "latency.tolerance": "0.9",
}
SIZES: dict[str, dict[str, dict[str, str]]] = {
    "small": {
        "digits": {
            "search.trials": "14",
            "search.confirm_seeds": "1",
            "data.options": "{ train = 3000, validation = 2500, test = 5000 }",
        },
        "fashion-mnist": {
            "search.trials": "14",
            "search.confirm_seeds": "1",
            "data.train_subset": "2500",
            "data.validation": "2500",
            "backbone.name": '"resnet8"',
            "space": '"small"',
            "training.batch_size": "64",
        },
    },
    "full": {
        "digits": {"search.trials": "20", "search.confirm_seeds": "2"},
        "fashion-mnist": {
            "search.trials": "20",
            "search.confirm_seeds": "2",
            "data.train_subset": "10000",
        },
    },
}


def nas_attn(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "nas_attn.cli.main", *arguments], check=True)


def make(problem: str, size: str, seed: int, blocks: int, url: str, data: str) -> None:
    """One search and its test, or what is left of them."""
    name = f"{problem}-{size}-{seed}"
    changes = COMMON | SIZES[size][problem] | {"search.seed": str(seed), "data.root": f'"{data}"'}
    settings = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    nas_attn(
        "search", problem, "--name", name, *settings, "--storage", url, "--workers", "1", "--quiet"
    )
    again = [] if begun(name, url) else ["--seeds", str(blocks)]
    nas_attn("test", name, *again, "--storage", url, "--workers", "1", "--quiet")


def begun(name: str, url: str) -> bool:
    with Database(url) as database:
        return bool(snapshot(database.study(name)).validations)


def rows(url: str) -> Iterator[list[str]]:
    """One row per comparison: what the search said, what the validation shows."""
    with Database(url) as database:
        for study in database.studies():
            yield from _rows(snapshot(database.study(study.name)))


def _rows(now: Snapshot) -> Iterator[list[str]]:
    names = {view.key: str(view.placement) for view in now.candidates}
    for result in now.validations:
        roles = {network.key: network.role for network in result.family.networks}
        for verdict in result.verdicts:
            view = now.find(verdict.network)
            odds = "" if view is None or view.beats_none is None else f"{view.beats_none:.0%}"
            against = "none" if names.get(verdict.control) == "none" else roles[verdict.control]
            between = f"{100 * verdict.low:+.2f} to {100 * verdict.high:+.2f}"
            shown = f"{100 * verdict.difference:+.2f} ({between})"
            name = f"{roles[verdict.network]}: {names.get(verdict.network, '?')}"
            yield [now.study, name, odds, against, shown, verdict.word, str(result.blocks)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "problems",
        nargs="*",
        default=list(SIZES["full"]),
        metavar="PROBLEM",
        help=", ".join(SIZES["full"]),
    )
    parser.add_argument("--size", choices=list(SIZES), default="full")
    parser.add_argument("--searches", type=int, default=3)
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("confirmed"))
    parser.add_argument("--data", default="data")
    parser.add_argument("--show", action="store_true")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    url = f"sqlite:///{(asked.out / 'confirmed.db').resolve()}"
    for seed in range(0 if asked.show else asked.searches):
        for problem in asked.problems:
            make(problem, asked.size, seed, asked.blocks, url, asked.data)
    print(
        "| search | network | better than none, as estimated | against | on the test split, points"
        " | verdict | blocks |"
    )
    print("|---|---|---|---|---|---|---|")
    for row in rows(url):
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
