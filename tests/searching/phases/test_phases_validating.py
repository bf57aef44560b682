"""Tests of recommendations beside a search that goes on, over an evaluator that looks its answers
up.
"""

from __future__ import annotations

from pathlib import Path

from nas_attn.recipe_reading import load_recipe
from nas_attn.searching.phases import validating
from nas_attn.searching.prepare import beginning
from nas_attn.searching.run import taking_part
from nas_attn.study.opening import open_study
from nas_attn.study.reading import snapshot, unfinished

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
    request = validating.ValidationRequest()
    family = validating.family_of(other, snapshot(other.store), other.plan, request)
    validating.begin(other, family)
    other.store.queue.want(validating.family_runs(family))


def test_a_test_that_begins_beside_a_search_is_done_with_it(table: Path) -> None:
    opened = beginning.begin(load_recipe("table.toml", overrides=CHANGES), URL)

    def say(line: str) -> None:
        if line.startswith("trial 4"):
            begin_test()

    assert taking_part.work(opened, taking_part.Options(say=say)) == "complete"
    assert len(opened.store.candidates()) == 6
    assert [result.complete for result in snapshot(opened.store).validations] == [True]
    assert not unfinished(opened.store)
