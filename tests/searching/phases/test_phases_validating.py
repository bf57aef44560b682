"""Tests of recommendations beside a search that goes on, over an evaluator that looks its answers
up.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from nas_attn.answer.reading import answer, snapshot, unfinished
from nas_attn.recipe.purposes import VALIDATE
from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.phases import testing
from nas_attn.searching.prepare import beginning
from nas_attn.searching.run import taking_part
from nas_attn.storage.opening import open_study
from nas_attn.training.plan import study_plan

URL = "sqlite:///nas_attn.db"
CHANGES = {
    "search.trials": 6,
    "search.confirm_seeds": 0,
    "search.pruner": "none",
    "target.epochs": 2,
    "target.seeds": 2,
}


def begin_test() -> None:
    """What `nas-attn test` does in another terminal, before it has workers."""
    other = open_study("table", URL)
    request = testing.ValidationRequest()
    family = testing.family_of(other, answer(other.store), study_plan(other.store), request)
    testing.begin(other, family)
    other.store.queue.want(testing.family_runs(family))


def test_a_test_that_begins_beside_a_search_is_done_with_it(table: Path) -> None:
    opened = beginning.begin(load_recipe("table.toml", overrides=CHANGES), URL)

    def say(line: str) -> None:
        if line.startswith("trial 4"):
            begin_test()

    assert taking_part.work(opened, taking_part.Options(say=say)) == "complete"
    assert len(opened.store.candidates()) == 6
    assert [result.complete for result in snapshot(opened.store).validations] == [True]
    assert not unfinished(opened.store)


# a study of an earlier version
@pytest.mark.slow
def test_a_test_whose_runs_an_earlier_version_withdrew_ends(table: Path) -> None:
    """It did so when the search ended a candidate that was tested at the same time."""
    opened = beginning.begin(load_recipe("table.toml", overrides=CHANGES), URL)
    quiet = taking_part.Options(say=lambda line: None)
    taking_part.work(opened, quiet)
    begin_test()
    with closing(sqlite3.connect("nas_attn.db")) as database, database:
        database.execute(
            "UPDATE nas_run SET state = 'withdrawn' WHERE purpose = 'validate' AND seed % 2 = 0"
        )
    assert unfinished(opened.store)
    assert taking_part.work(opened, replace(quiet, only=VALIDATE)) == "complete"
    assert not unfinished(opened.store)
