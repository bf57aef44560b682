"""What is said of a study, text and JSON, by everything that reads one: the same as it was.

`pytest tests/pins --renew-pins` keeps what is said now. A change of a kept text belongs into a
commit of its own, which says why.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import Ended, Nas
from pinned import as_json, check, steady, words_of
from rich.console import Console

from nas_attn import api
from nas_attn.analysis.choosing import Unmet, choose
from nas_attn.analysis.criteria import Criteria
from nas_attn.analysis.rounds import next_round, price, to_confirm
from nas_attn.analysis.snapshot import Snapshot
from nas_attn.cli import showing
from nas_attn.report import dashboard, notebook
from nas_attn.storage import StudyStore
from nas_attn.study import reading
from nas_attn.study.trial_book import TrialBook
from nas_attn.words.as_json import choice_as_json, snapshot_as_json
from nas_attn.words.choosing import unmet_text
from studies import STUDIES, Maker

STORAGE = ("--storage", "sqlite:///made.db")
COMPLETE = {"the_usual", "tested_better", "brief", "lower_is_better"}
"""Studies of which everything is kept; of the others, the answer and what is near it."""
BESIDE = ("candidates", "recipe", "created_at", "versions", "backbone")
"""Of the JSON of a study: what the answer does not decide."""


@pytest.fixture
def read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of a test sees the same snapshot, which takes a second to compute."""
    kept = functools.cache(reading.snapshot)
    monkeypatch.setattr(reading, "snapshot", lambda store: kept(Named(store)))
    monkeypatch.setattr(api, "snapshot", lambda store: kept(Named(store)))


class Named:
    """A study's store, equal to all others of the same name."""

    def __init__(self, store: StudyStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Named) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)


@pytest.mark.usefixtures("read_once")
@pytest.mark.parametrize("maker", STUDIES, ids=lambda maker: maker.__name__)
def test_what_is_said_of_a_study_is_as_it_was(
    maker: Maker,
    nas: Nas,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    renew: bool,
) -> None:
    name = maker.__name__
    made = maker(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    now = reading.snapshot(made.store)
    parts = [*answers(now, name), *elsewhere(now)]
    if name in COMPLETE:
        TrialBook(made.database, made.store.name, made_for=made.recipe).close()
        parts += [*everywhere(now), *by_commands(nas, name)]
    check(f"{name}.txt", steady("\n\n".join(parts), tmp_path), renew=renew)


def answers(now: Snapshot, name: str) -> Iterator[str]:
    """The answer, its reasons, its data, and what follows a search."""
    out = Console(file=io.StringIO(), width=100)
    showing.show_answer(out, now, STORAGE[1])
    showing.show_front(out, now)
    showing.show_why(out, now)
    for ended in ("complete", "exhausted", "time"):
        showing.show_next(
            out, now, storage=STORAGE[1], artifacts=Path("art"), report=None, ended=ended
        )
    yield out.file.getvalue()  # type: ignore[attr-defined]
    beside = () if name == "the_usual" else BESIDE
    yield as_json({key: value for key, value in snapshot_as_json(now).items() if key not in beside})


def elsewhere(now: Snapshot) -> Iterator[str]:
    """The notebook, the dashboard, and what is taken without criteria."""
    choice = choose(now, Criteria(), str)
    if isinstance(choice, Unmet):
        yield f"error: {unmet_text(now, choice)}"
    else:
        yield as_json(choice_as_json(now, choice))
    yield as_json(
        {
            "to confirm": [view.key for view in to_confirm(now)],
            "next round": [view.key for view in next_round(now, np.random.default_rng(0))],
            "price": price(now),
            "compared": now.compared_keys,
        }
    )
    yield f"notebook:\n{words_of(notebook.summary(now))}"
    yield f"note:\n{dashboard.study_note(now)}"


def everywhere(now: Snapshot) -> Iterator[str]:
    """What the dashboard shows of every trial."""
    yield from (f"note of {view.trial}:\n{dashboard.note(view, now)}" for view in now.candidates)
    yield f"table:\n{dashboard.sheet(now)}"
    yield as_json(dashboard._user_attributes(now))


def said(arguments: tuple[str, ...], ended: Ended) -> str:
    """A command, and all that it printed."""
    status = "" if ended.status == 0 else f"\n(status {ended.status})"
    return f"$ nas-attn {' '.join(arguments)}\n{ended.out}{ended.err}{status}"


COMMANDS = (
    ("pareto", "made", "--why"),
    ("status",),
    ("status", "made"),
    ("status", "--json"),
    ("status", "made", "--json"),
    ("pareto", "made", "--absolute"),
    ("pareto", "made", "--knee"),
    ("pareto", "made", "--trial", "1"),
    ("pareto", "made", "--trial", "99"),
    ("pareto", "made", "--placement", "uniform se(reduction=8)", "--json"),
    ("pareto", "made", "--max-latency-ratio", "1.1"),
    ("pareto", "made", "--max-latency-ratio", "0.5"),
    ("pareto", "made", "--max-latency-ms", "4.3", "--min-accuracy", "0.7"),
    ("pareto", "made", "--min-accuracy", "0.7"),
    ("pareto", "made", "--min-accuracy", "0.99"),
    ("pareto", "made", "--placement", "stage1=eca"),
    ("effects", "made"),
    ("effects", "made", "--json"),
    ("effects", "made", "--of", "latency"),
    ("effects", "made", "--of", "nothing"),
    ("validate", "made", "--dry-run", "--difference", "0.005"),
    ("validate", "made", "--dry-run", "--json"),
    ("report", "made", "-o", "made.html"),
)
OF_A_TESTED_STUDY = (("validate", "made"), ("validate", "made", "--json"))
"""Of others, these would begin a test."""


def by_commands(nas: Nas, name: str) -> Iterator[str]:
    """All commands that read a study."""
    for command in (*COMMANDS, *(OF_A_TESTED_STUDY if name == "tested_better" else ())):
        ended = nas(*command, *STORAGE)
        if "--json" not in command or ended.status:
            yield said(command, ended)
            continue
        plain = ended.json
        if command[0] == "pareto":
            plain = {"chosen": plain["chosen"]}
        yield f"$ nas-attn {' '.join(command)}\n{as_json(plain)}"
    yield words_of(Path("made.html").read_text("utf-8"))
