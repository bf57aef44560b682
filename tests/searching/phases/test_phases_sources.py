"""The contract of task sources (`TaskSource`): what another process enqueues or begins after a
source was made is carried out like its own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nas_attn.answer import pair_tests
from nas_attn.recipe.purposes import CONFIRM, ROUND
from nas_attn.searching.phases import retraining, testing
from nas_attn.searching.phases.confirming import Confirmation, Rounds
from nas_attn.searching.phases.length import (
    Control,
    FindingLength,
    length_run,
)
from nas_attn.searching.phases.retraining import Retraining
from nas_attn.searching.phases.screening import Search
from nas_attn.searching.phases.testing import Validation, begin, family_runs
from nas_attn.searching.prepare.length_protocols import keep_length_protocol
from nas_attn.searching.run import taking_part
from nas_attn.searching.worker.ending import Ending
from nas_attn.searching.worker.worker import TaskSource, Worker
from nas_attn.space.notation import parse
from nas_attn.space.placement import BARE
from nas_attn.storage.opening import OpenStudy, open_study
from nas_attn.storage.rows import Run
from nas_attn.storage.trial_book import TRIED
from nas_attn.training.plan import study_plan

URL = "sqlite:///nas_attn.db"
PLACEMENT = "stage1=simam"


def bare_key(opened: OpenStudy) -> str:
    return study_plan(opened.store).resolved(BARE).key


def a_placement(opened: OpenStudy) -> None:
    """As `resume --try` does."""
    values = study_plan(opened.store).space.values(
        study_plan(opened.store).resolved(parse(PLACEMENT))
    )
    opened.book.enqueue(values, {TRIED: PLACEMENT})
    opened.store.set(trials=2)


def a_length(opened: OpenStudy) -> None:
    keep_length_protocol(opened.store, opened.recipe, 3)
    opened.store.queue.want([length_run(bare_key(opened), 3, seed=7)])


def a_confirmation(opened: OpenStudy) -> None:
    opened.store.queue.want([Run(bare_key(opened), BARE, 70, purpose=CONFIRM)])


def a_round(opened: OpenStudy) -> None:
    opened.store.queue.want([Run(bare_key(opened), BARE, 71, purpose=ROUND, round=9)])


def a_retraining(opened: OpenStudy) -> None:
    retraining.enter(opened.store, retraining.order(opened, {bare_key(opened): BARE}))


def a_test(opened: OpenStudy) -> None:
    """As `nas-attn test` does in another terminal."""
    other = study_plan(opened.store).resolved(parse(PLACEMENT))
    family = pair_tests.Family(
        number=1,
        networks=(
            pair_tests.TestedNetwork(bare_key(opened), BARE, "none"),
            pair_tests.TestedNetwork(other.key, other.placement, "named"),
        ),
        comparisons=((other.key, bare_key(opened)),),
        blocks=1,
        margin=None,
        metric="score",
        first_seed=1_000_000,
        epochs=2,
    )
    begin(opened, family)
    opened.store.queue.want(family_runs(family))


WORK: dict[type[TaskSource], Callable[[OpenStudy], None]] = {
    FindingLength: a_length,
    Retraining: a_retraining,
    Search: a_placement,
    Control: a_length,
    Confirmation: a_confirmation,
    Rounds: a_round,
    Validation: a_test,
    testing.Testing: a_test,
}


@pytest.mark.parametrize("source", WORK)
def test_a_source_carries_out_what_another_process_enqueues(
    table_of_one: Path, source: type[TaskSource]
) -> None:
    opened = open_study("table", URL)
    before = {row.id for row in opened.store.queue.rows()}

    def act(worker: Worker) -> Ending:
        sources = [source(worker)]
        WORK[source](open_study("table", URL))
        return worker.run(sources)

    options = taking_part.Options(say=lambda line: None)
    assert taking_part.with_worker(opened, options, act) is Ending.COMPLETE
    new = [
        row for row in opened.store.queue.rows(purposes=[source.purpose]) if row.id not in before
    ]
    assert new
    assert {row.state for row in opened.store.queue.rows()} == {"done"}
