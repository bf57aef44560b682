"""Measures the latency ratio of each network of the trial, on one core, into `latency.csv`.

    python -m research.trial.latency [stage3=se …] [--sessions 24] [--seconds 3] [--out FILE]

Paired sessions, as of `nas-attn measure`: the networks of the trial's recipe in evaluation mode,
batches of one image, against the bare backbone. One problem stands for all, since their maps have
similar sizes. A call goes on where the last one ended: networks that are in the file stay. It
needs no data, and some minutes of a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nas_attn.latency.locks import DeviceLock
from nas_attn.latency.paired import MAX_CANDIDATES, cpu_name
from nas_attn.latency.ratios import MAX_SESSIONS, estimate, open_keys
from nas_attn.latency.session import measure
from nas_attn.space.notation import parse
from nas_attn.storage.records import Latency, Session
from nas_attn.training.plan import Plan, make_plan
from research.trial.cells import BARE, as_trained
from research.trial.run import recipe_of
from research.trial.table import LATENCIES, planned_networks

PROBLEM = "cifar"
INPUT_SHAPE = (3, 16, 16)
CLASSES = 10
COLUMNS = ("network", "ratio", "low", "high", "sessions", "ms", "processor")


@dataclass(frozen=True)
class Effort:
    """How long is measured."""

    sessions: int = MAX_SESSIONS
    """Of a network, at most; fewer where its interval is narrow enough."""
    seconds: float = 3.0
    """Of a session."""


def trial_plan() -> Plan:
    """The networks of the problem that stands for all."""
    return make_plan(recipe_of(PROBLEM, 0, Path()), INPUT_SHAPE, CLASSES)


def latencies(networks: Sequence[str], effort: Effort) -> Iterator[tuple[str, Latency]]:
    """Measures networks, in notation, eight at a time."""
    plan = trial_plan()
    section = plan.recipe.latency.model_copy(update={"session_seconds": effort.seconds})
    lock = DeviceLock.for_section(section)
    for begin in range(0, len(networks), MAX_CANDIDATES):
        group = networks[begin : begin + MAX_CANDIDATES]

        def still_open(sessions: Sequence[Session], keys: Sequence[str] = group) -> list[str]:
            return open_keys(
                sessions,
                keys,
                tolerance=section.front_tolerance,
                max_sessions=effort.sessions,
            )

        sessions = measure(
            section,
            reference=plan.bare(0),
            candidates={
                name: plan.network(plan.resolved(parse(as_trained(name))), 0) for name in group
            },
            input_shape=INPUT_SHAPE,
            seed=begin,
            still_open=still_open,
            lock=lock,
        )
        yield from estimate(list(sessions)).items()


def keep_latencies(path: Path, networks: Sequence[str], effort: Effort) -> None:
    """Adds those that the file lacks."""
    done: set[str] = set()
    if path.exists():
        with path.open(encoding="utf-8", newline="") as lines:
            done = {row["network"] for row in csv.DictReader(lines)}
    else:
        path.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    missing = [network for network in networks if network not in done]
    for network, latency in latencies(missing, effort):
        bounds = [f"{value:.4f}" for value in (latency.ratio, latency.low, latency.high)]
        row = [network, *bounds, latency.sessions, f"{latency.ms:.4f}", cpu_name()]
        with path.open("a", encoding="utf-8", newline="") as lines:
            csv.writer(lines, lineterminator="\n").writerow(row)
        print(f"{network}: {bounds[0]} ({bounds[1]} to {bounds[2]})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", help="in notation; default: all of the trial")
    parser.add_argument("--sessions", type=int, default=Effort.sessions, help="of a network")
    parser.add_argument("--seconds", type=float, default=Effort.seconds, help="of a session")
    parser.add_argument("--out", type=Path, default=LATENCIES, help="a CSV file")
    asked = parser.parse_args()
    others = [network for network in planned_networks() if network != BARE]
    effort = Effort(asked.sessions, asked.seconds)
    keep_latencies(asked.out, asked.networks or others, effort)


if __name__ == "__main__":
    main()
