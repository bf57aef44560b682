"""The test at the end of a search with a time limit."""

from __future__ import annotations

from dataclasses import replace

from typing_extensions import override

from nas_attn.answer.progress import FURTHER, seconds_per_epoch, time_left, worker_count
from nas_attn.answer.reading import answer, blocks_done, families, keep_family, unfinished
from nas_attn.answer.validation import Family
from nas_attn.errors import DataError, StudyError
from nas_attn.recipe.purposes import TARGET_PROTOCOL, VALIDATE
from nas_attn.recipe.units import duration
from nas_attn.searching.phases.validating import (
    Validation,
    ValidationRequest,
    begin,
    check_test_split,
    family_of,
    family_runs,
)
from nas_attn.searching.prepare.planning import FEWEST_BLOCKS, MOST_BLOCKS
from nas_attn.searching.worker.worker import Worker
from nas_attn.storage.leasing import TTL_S, release_dead
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.rows import Lease
from nas_attn.storage.store import StudyStore
from nas_attn.system.processes import owner_name
from nas_attn.training.plan import study_plan

# of the test's share of the time: reading a study of many short runs takes time, too
LEAST_SHARE = 0.25
# largest share of the remaining time for a test
CAUTION = 0.85


class Testing(Validation):
    """At the end of a search with a time limit: validates what the answer takes in as many blocks
    as the time allows, unless this comparison was made before.
    """

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        # tests that were begun before this worker's part of the search
        self._before = len(families(worker.store))

    @override
    def want(self, lease: Lease) -> bool:
        if (
            len(families(self.store)) == self._before
            and not unfinished(self.store)
            and (family := self._planned()) is not None
        ):
            begin(self.worker.opened, family)
        return super().want(lease)

    def _planned(self) -> Family | None:
        """None if there is no time, nothing to test, or no test split."""
        worker = self.worker
        ends_at = self.worker.store.settings.ends_at
        block = block_of(worker)
        if ends_at is None or block is None:
            return None
        family, block_s = block
        blocks = min(MOST_BLOCKS, int(CAUTION * (ends_at - worker.opened.database.now()) / block_s))
        if blocks < FEWEST_BLOCKS:
            worker.say(
                f"no time for a test: the shortest, of {FEWEST_BLOCKS} blocks, takes"
                f" {duration(FEWEST_BLOCKS * block_s)}; test it later with nas-attn test"
                f" {worker.store.name}"
            )
            return None
        return replace(family, blocks=blocks, planned=blocks)


def block_of(worker: Worker) -> tuple[Family, float] | None:
    """What the test at the end of a search would compare now, and the seconds that all workers
    together need for a block. None if there is nothing to test (any more), no test split, or no run
    yet.
    """
    opened = worker.opened
    epoch_s = seconds_per_epoch(worker.store)
    try:
        check_test_split(opened.recipe)
        family = family_of(
            opened,
            answer(worker.store),
            study_plan(opened.store),
            ValidationRequest(blocks=FEWEST_BLOCKS),
        )
    except (DataError, StudyError):
        return None
    if epoch_s is None or any(
        family.comparisons[0] in before.comparisons for before in families(worker.store)
    ):
        return None
    each_s = [
        seconds_per_epoch(worker.store, network.key) or epoch_s for network in family.networks
    ]
    training_s = sum(each_s) * opened.recipe.target_training.rungs[-1] / worker_count(worker.store)
    return family, training_s + len(family.networks) * _beside_s(opened, epoch_s)


def _beside_s(opened: OpenStudy, epoch_s: float) -> float:
    """What a run takes beside its epochs, at the pace of the last ones, divided by the workers:
    networks are built, results are read.
    """
    rows = opened.store.queue.rows(purposes=FURTHER)
    run_s = epoch_s * opened.recipe.training.rungs[-1]
    pace_s = time_left([row.finished_at for row in rows if row.finished_at], 1, lambda: run_s)
    if pace_s is None:
        return 0.0
    return max(0.0, pace_s - run_s / worker_count(opened.store))


def cut(opened: OpenStudy) -> None:
    """When a search's time is over, ends its test with the finished blocks: the clock chose their
    number, not a result. Does nothing while a worker has a run.
    """
    store = opened.store
    ends_at = store.settings.ends_at
    if ends_at is None or opened.database.now() < ends_at:
        return
    is_at_work = release_dead(store, "run/")
    if is_at_work:
        return
    for family in unfinished(store):
        done = blocks_done(store, family)
        if family.planned is not None and done >= FEWEST_BLOCKS:
            keep_family(store, replace(family, blocks=done), shorter=True)
    _withdraw_rest(store)


def _withdraw_rest(store: StudyStore) -> None:
    """Withdraws the waiting runs of blocks that no test has any more, also those that a process
    left when it was killed.
    """
    needed = {run.identity for family in families(store) for run in family_runs(family)}
    rows = store.queue.rows(state="waiting", purposes=[VALIDATE], protocol=TARGET_PROTOCOL)
    for row in (row for row in rows if row.run.identity not in needed):
        if (lease := store.acquire(row.resource, owner=owner_name(), ttl_s=TTL_S)) is not None:
            store.queue.finish(row, "withdrawn", "the search's time was over", lease)
            store.release(lease)


def must_test(worker: Worker, runs: int) -> bool:
    """Whether the test of a search with a time must begin: after so many further runs, its longest
    form would not fit any more.
    """
    block = block_of(worker)
    settings = worker.store.settings
    if block is None or settings.ends_at is None or settings.test_from is None:
        return True
    family, block_s = block
    needed_s = block_s * (runs / len(family.networks) + MOST_BLOCKS / CAUTION)
    least_s = LEAST_SHARE * (settings.ends_at - settings.test_from)
    return worker.opened.database.now() + max(needed_s, least_s) > settings.ends_at
