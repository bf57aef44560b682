"""What a person looks at in the end: the front, its numbers, what lies in the folder and in the
database.
"""

from __future__ import annotations

import math
from typing import Any

from shell import Shell

QUICK = {
    "training.rungs": "[1,2]",
    "training.batch_size": "16",
    "training.backbone_epochs": "1",
    "training.backbones": "2",
    "target": "{epochs=2, seeds=2}",
    "latency.session_seconds": "0.1",
    "latency.tolerance": "0.9",
    "search.confirm_seeds": "1",
}
TINY = {**QUICK, "backbone.width": "4"}
DIGITS = {**TINY, "data.options": "{train=60,validation=40,test=60,size=12}"}

# how a file with pictures of the report begins
PICTURES = b'{"shows"'


def settings(*tables: dict[str, str], **more: str) -> str:
    """Options `--set KEY=VALUE` of a command; `search__trials` is the key `search.trials`."""
    named = {key.replace("__", "."): value for key, value in more.items()}
    changes = {key: value for table in (*tables, named) for key, value in table.items()}
    return " ".join(f"--set '{key}={value}'" for key, value in changes.items())


def finished(shell: Shell, study: str, *, trials: int, options: str = "") -> dict[str, Any]:
    """The answer of a study that has come to its end, after looking whether it is whole and says
    one thing everywhere.
    """
    answer: dict[str, Any] = shell.types(f"show {study} --json {options}").json
    candidates = answer["candidates"]
    assert sorted(c["trial"] for c in candidates) == list(range(trials)), (
        "each trial has one candidate"
    )
    assert len({c["placement"] for c in candidates}) == trials, "no placement is tried twice"
    states = {
        c["placement"]: (c["state"], c["reason"])
        for c in candidates
        if c["state"] in ("failed", "running")
    }
    assert not states, states
    for candidate in candidates:
        _check_candidate(answer, candidate)
    _check_front(answer)
    status = shell.types(f"status {study} --json {options}").json
    assert (status["finished"], status["trials"], status["running"], status["leases"]) == (
        trials,
        trials,
        0,
        [],
    )
    return answer


def _check_candidate(answer: dict[str, Any], candidate: dict[str, Any]) -> None:
    runs = [(s["purpose"], s["seed"], s["rung"]) for s in candidate["scores"]]
    assert len(set(runs)) == len(runs), "no run is done twice"
    assert all(math.isfinite(v) for s in candidate["scores"] for v in s["metrics"].values())
    if "accuracy" in answer["objectives"]:
        assert all(0 <= s["metrics"]["accuracy"] <= 1 for s in candidate["scores"])
    if candidate["state"] == "scored":
        assert all(
            isinstance(value, float | int) and math.isfinite(value) for value in candidate["values"]
        )
    if candidate["latency"] is not None:
        assert (
            0
            < candidate["latency"]["low"]
            <= candidate["latency"]["ratio"]
            <= candidate["latency"]["high"]
        )
    if candidate["placement"] == "none" and "latency" in answer["objectives"]:
        assert candidate["latency"]["ratio"] == 1.0


def _check_front(answer: dict[str, Any]) -> None:
    """The front is not empty, no member is beaten by a candidate but controls, and what is
    recommended is known.
    """
    lower = ("loss", "latency", "params", "macs", "memory")
    signs = [-1 if o.startswith("-") or o in lower else 1 for o in answer["objectives"]]
    found = {
        c["key"]: [s * v for s, v in zip(signs, c["values"], strict=True)] for c in scored(answer)
    }
    controls = {
        c["key"] for c in answer["candidates"] if (c["baseline"] or "").startswith("control")
    }
    assert answer["front"]
    for key in answer["front"]:
        mine = found[key]
        others = [
            values for other, values in found.items() if other not in controls and values != mine
        ]
        assert not any(all(a >= b for a, b in zip(values, mine, strict=True)) for values in others)
    if answer["recommendation"] is None:  # a metric that is the same for all, and is said to be
        assert answer["constants"]
    else:
        assert answer["recommendation"]["key"] in found
    assert any(c["placement"] == "none" for c in answer["candidates"])


def scored(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The candidates that have been trained to the last rung."""
    return [candidate for candidate in answer["candidates"] if candidate["state"] == "scored"]


def kept_files(shell: Shell, answer: dict[str, Any], folder: str = "nas_attn.artifacts") -> None:
    """The artifacts folder holds the weights of the scored candidates and of the trained backbones,
    and the answer's table, beside the pictures of the report; no checkpoint is left.
    """
    backbones = len({score["seed"] for score in answer["backbone"]})
    left = [
        path.name
        for path in (shell.folder / folder).iterdir()
        if path.is_file() and not path.read_bytes().startswith(PICTURES)
    ]
    if answer["recipe"]["training"]["start"] == "backbone":
        # A larger network has a backbone of its own for each seed.
        larger = [row for row in scored(answer) if row["placement"].startswith("backbone=")]
        backbones += sum(len({score["seed"] for score in row["scores"]}) for row in larger)
    tables = 1
    assert len(left) == len(scored(answer)) + backbones + tables, (
        f"{len(scored(answer))} scored, {backbones} backbones: {left}"
    )
