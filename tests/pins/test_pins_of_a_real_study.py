"""What a study answers that was really searched, tested, retrained and is exported here.

`real.tar.xz` holds its database and some of its weights. It was made by

    nas-attn search digits --name real --trials 12 --set backbone.width=4 --set target.epochs=2
        --set target.seeds=3 --set latency.session_seconds=0.3 --set latency.tolerance=0.2
        --set search.confirm_seeds=1
    nas-attn test real --seeds 3 --front 1
    nas-attn retrain real
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest
from command_line import Nas
from pinned import as_json, check, decided, steady

from nas_attn import api

COMMANDS = (
    ("show", "real"),
    ("status", "--json"),
    ("status", "real", "--json"),
    ("show", "real", "--json"),
    ("show", "real", "--placement", "uniform eca", "--json"),
    ("effects", "real", "--of", "latency", "--json"),
    ("test", "real", "--json"),
    ("test", "real", "--dry-run", "--another", "--json"),
    ("retrain", "real", "--json"),
    ("export", "real", "--as-searched", "--json"),
    ("export", "real", "--placement", "2", "-o", "second.pt", "--as-searched", "--json"),
    ("validate-export", "second.pt", "--json"),
    ("report", "real", "-o", "real.html"),
)


def test_what_a_real_study_answers_is_as_it_was(
    nas: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renew: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    with tarfile.open(Path(__file__).with_name("real.tar.xz")) as packed:
        packed.extractall(filter="data")
    parts = []
    for command in COMMANDS:
        ended = nas(*command)
        said = ended.out if command == COMMANDS[0] else ""
        if "--json" in command:
            said = as_json(kept_of(ended.json))
        parts.append(f"$ nas-attn {' '.join(command)}\n{said}\n(status {ended.status})")
    study = api.open_study()
    parts.append(f"best: {study.best().label}, {study!r}")
    check("real.txt", steady("\n\n".join(parts), tmp_path), renew=renew)


def kept_of(answer: Any) -> Any:
    """Of a choice from the front, the choice; of an export, its card without the recipe."""
    if "chosen" in answer:
        return answer["chosen"]
    if "card" in answer and "sha256" in answer["card"]:
        return {**answer, "card": decided(answer["card"])}
    return decided(answer) if isinstance(answer, dict) else answer
