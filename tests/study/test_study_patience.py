"""A search that stops by itself, on real SQLite files, with an evaluator that looks its answers up."""

import threading
from collections import Counter
from pathlib import Path

import pytest

from nas_attn.analysis.snapshot import Snapshot, snapshot
from nas_attn.recipe_reading import load_recipe
from nas_attn.study import searching
from nas_attn.study.confirming import REPEAT_SEED, TOGETHER
from nas_attn.study.opening import OpenStudy, create_study, open_study

URL = "sqlite:///nas_attn.db"


def study(trials: int = 60, **search: object) -> OpenStudy:
    """The usual recipe, with other settings of `[search]`."""
    given = {"trials": trials, "sampler": "placement", "confirm_seeds": 0, **search}
    return create_study(load_recipe("table.toml", overrides={f"search.{k}": v for k, v in given.items()}), URL)


def now(opened: OpenStudy) -> Snapshot:
    return snapshot(open_study("table", URL).store)


def work(opened: OpenStudy, lines: list[str]) -> str:
    return searching.work(opened, searching.Options(say=lines.append, stop=threading.Event(), device="cpu", threads=1))


@pytest.mark.slow
def test_a_search_stops_when_no_more_is_expected_says_so_and_goes_on_when_told(table: Path) -> None:
    lines: list[str] = []
    opened = study(40, patience=5, least_gain=1.0)
    assert work(opened, lines) == "complete"
    found = now(opened)
    baselines, first = 4, len(found.candidates)
    assert baselines + 5 <= first < 40
    assert found.planned == first
    assert found.counts["running"] == 0
    assert found.outlook.stopped == 40
    assert found.outlook.settled
    assert any("the search stopped after" in line for line in lines)
    assert work(opened, lines) == "complete"
    assert len(now(opened).candidates) == first, "it stays stopped"
    searching.set_trials(opened, 40)
    work(opened, lines)
    assert first + 5 <= len(now(opened).candidates) < 40, "told to go on, it goes on for as long as it has patience"


def test_an_answer_says_what_more_would_bring_and_repeats_go_to_those_whose_place_is_uncertain(table: Path) -> None:
    opened = study(16, confirm_seeds=1, confirm_share=1.0)
    assert work(opened, []) == "complete"
    found = now(opened)
    assert (found.outlook.trials, found.outlook.after, found.outlook.stopped) == (16, 16, None)
    assert found.as_dict()["outlook"]["gain"] == found.outlook.gain >= 0

    rows = opened.store.queue.rows(purposes=["confirm"])
    repeats = Counter(row.run.seed for row in rows if row.run.seed >= REPEAT_SEED)
    assert repeats
    assert max(repeats.values()) <= TOGETHER
    assert len(rows) <= 16

    pruned = [view for view in found.candidates if view.state == "pruned"]
    assert pruned
    assert any(view.reason == "not among the 1/3 after 1 epoch that most likely belong to the front" for view in pruned)


def test_no_share_no_repeats(table: Path) -> None:
    opened = study(6, confirm_seeds=1, confirm_share=0.0)
    work(opened, [])
    rows = opened.store.queue.rows(purposes=["confirm"])
    assert rows
    assert all(row.run.seed < REPEAT_SEED for row in rows)
