"""What is said of a study that was really searched, tested, retrained and is exported here.

`real.tar.xz` holds its database and some of its weights. It was made by

    nas-attn search digits --name real --trials 12 --set backbone.width=4 --set target.epochs=2
        --set target.seeds=3 --set latency.session_seconds=0.3 --set latency.tolerance=0.2
        --set search.confirm_seeds=1
    nas-attn validate real --seeds 3 --front 1
    nas-attn retrain real
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from command_line import Nas
from pinned import as_json, check, steady, words_of

from nas_attn import api

COMMANDS = (
    ("status",),
    ("status", "real"),
    ("status", "real", "--json"),
    ("pareto", "real", "--why"),
    ("pareto", "real", "--json"),
    ("pareto", "real", "--placement", "uniform eca"),
    ("effects", "real", "--of", "latency"),
    ("validate", "real"),
    ("validate", "real", "--json"),
    ("validate", "real", "--dry-run", "--again"),
    ("retrain", "real"),
    ("export", "real"),
    ("export", "real", "--trial", "2", "-o", "second.pt", "--as-searched"),
    ("check-export", "second.pt"),
    ("report", "real", "-o", "real.html"),
)


def test_what_is_said_of_a_real_study_is_as_it_was(
    nas: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renew: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    with tarfile.open(Path(__file__).with_name("real.tar.xz")) as packed:
        packed.extractall(filter="data")
    parts = []
    for command in COMMANDS:
        ended = nas(*command)
        said = as_json(ended.json) if "--json" in command else f"{ended.out}{ended.err}"
        parts.append(f"$ nas-attn {' '.join(command)}\n{said}\n(status {ended.status})")
    parts += [Path(f"{name}.md").read_text("utf-8") for name in ("real.pt", "second.pt")]
    parts.append(words_of(Path("real.html").read_text("utf-8")))
    study = api.open_study()
    parts.append(f"best: {study.best().label}, {study!r}")
    check("real.txt", steady("\n\n".join(parts), tmp_path), renew=renew)
