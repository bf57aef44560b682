"""More runs for the candidates that matter, once the search has proposed its last one.

Six networks, among them the front and the best baselines, get further seeds. Then the best-looking
one and its rivals run in rounds, on fresh seeds and backbones. Optuna is not told of these runs.
The last latency sessions are of the networks that the answer compares.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

import numpy as np
from typing_extensions import override

from nas_attn.answer.reading import searched_snapshot
from nas_attn.answer.rounds import (
    FURTHER,
    NARROW,
    all_rounds_ran,
    last_sessions,
    next_round,
    rounds_begun,
    to_confirm,
)
from nas_attn.answer.snapshot import CandidateView
from nas_attn.recipe.purposes import CONFIRM, ROUND, SEARCH
from nas_attn.searching.phases.testing import is_test_due
from nas_attn.searching.prepare.length_protocols import known_score
from nas_attn.searching.worker.worker import TaskSource, Worker
from nas_attn.storage.records import CandidateRow, Score
from nas_attn.storage.rows import Lease, Run, RunRow
from nas_attn.training.plan import backbone_number, bare_seeds

# of the runs after it
LATER_PRIORITY = 20
# distance of the first round's seed from the search's; number of its backbone
ROUND_SEED = 100_000
# no latency session begins in the last seconds of a search with a time limit
LAST_S = 2.0


class Further(TaskSource, ABC):
    @override
    def want(self, lease: Lease) -> bool:
        """Enqueues the next runs, once the earlier ones have ended."""
        if not self.recipe.search.confirm_seeds or self._waits() or is_test_due(self.worker):
            return False
        runs = self.next()
        self.queue.want(runs)
        return bool(runs)

    @abstractmethod
    def next(self) -> list[Run]:
        """The next runs; empty if none are needed."""

    def _waits(self) -> bool:
        """Whether runs of before must end first."""
        return bool(self.queue.rows(state="waiting", purposes=[self.purpose]))

    @override
    def ahead(self, lease: Lease) -> bool:
        """The bare backbone runs in each step, whatever else is chosen: an idle worker may begin
        with it.
        """
        until = self.store.settings.test_from
        late = until is not None and self.worker.opened.database.now() > until
        bare = next((row for row in self.store.candidates() if row.is_bare), None)
        if not self.recipe.search.confirm_seeds or late or bare is None or bare.state != "scored":
            return False
        runs = self.bare_runs(bare)
        self.queue.want(runs)
        return bool(runs)

    @abstractmethod
    def bare_runs(self, bare: CandidateRow) -> list[Run]:
        """The bare backbone's runs in the next step that are not in the queue."""

    @override
    def known(self, run: Run) -> Score | None:
        return known_score(self.worker.benches.search, run)

    @override
    def ended(self, row: RunRow, lease: Lease) -> None:
        run = row.run
        line = f"confirm with seed {run.seed}: {run.placement}"
        if row.state != "done":
            line = f"seed {run.seed} of {run.placement} {row.state}: {row.reason}"
        self.worker.say(line)

    def missing(
        self,
        views: Iterable[CandidateView | CandidateRow],
        backbones: Mapping[int, int],
        round: int = 0,
    ) -> list[Run]:
        """Runs of candidates with all seeds (-> backbone) that are not in the queue."""
        there = {row.run.identity for row in self.queue.rows(protocol=SEARCH)}
        views = list(views)
        runs = [
            Run(view.key, view.placement, seed, number, SEARCH, self.purpose, LATER_PRIORITY, round)
            for seed, number in backbones.items()
            for view in views
        ]
        return [run for run in runs if run.identity not in there]


class Confirmation(Further):
    """Further seeds, on the study's own backbones, for the candidates that matter: chosen once,
    when the search ends.
    """

    purpose = CONFIRM

    @override
    def next(self) -> list[Run]:
        trials = self.worker.opened.trials
        if self.store.settings.confirmed_trials == trials:
            return []
        runs = self.missing(to_confirm(searched_snapshot(self.store)), self._backbones())
        # a worker that dies before the note is written chooses again
        self.queue.want(runs)
        self.store.set(confirmed_trials=trials, rounds_before=rounds_begun(self.store))
        return runs

    def _backbones(self) -> dict[int, int]:
        """The further seeds, and the backbone of each."""
        first = bare_seeds(self.recipe).stop
        seeds = range(first, first + self.recipe.search.confirm_seeds)
        return {seed: backbone_number(self.recipe, seed) for seed in seeds}

    @override
    def _waits(self) -> bool:
        # they are chosen once, and the bare backbone's may have begun
        return False

    @override
    def bare_runs(self, bare: CandidateRow) -> list[Run]:
        return self.missing([bare], self._backbones())


class Rounds(Further):
    """The best-looking candidate meets its rivals, round by round, on fresh seeds and backbones. A
    search with a time goes on until its test begins.
    """

    purpose = ROUND

    @override
    def next(self) -> list[Run]:
        if all_rounds_ran(self.store, self.recipe):
            return []
        rounds = rounds_begun(self.store)
        rng = np.random.default_rng([self.recipe.search.seed, rounds])
        return self.missing(
            next_round(searched_snapshot(self.store), rng), self._backbone(rounds), rounds + 1
        )

    def _backbone(self, rounds: int) -> dict[int, int]:
        """The seed of the round after so many, and its backbone."""
        number = ROUND_SEED + rounds
        fresh = self.recipe.training.start == "backbone"
        return {self.recipe.first_seed + number: number if fresh else 0}

    @override
    def _waits(self) -> bool:
        waiting = self.queue.rows(state="waiting", purposes=[self.purpose])
        return any(row.run.round <= rounds_begun(self.store) for row in waiting)

    @override
    def bare_runs(self, bare: CandidateRow) -> list[Run]:
        if all_rounds_ran(self.store, self.recipe):
            return []
        rounds = rounds_begun(self.store)
        return self.missing([bare], self._backbone(rounds), rounds + 1)


def narrow(worker: Worker) -> bool:
    """One worker runs the latency sessions that the important candidates still need; false if it
    was stopped.
    """
    measurer = worker.benches.search.measurer
    if measurer is None or not measurer.fits:
        return True
    lease = worker.store.acquire(NARROW, owner=worker.owner)
    if lease is None:
        return True
    with worker.store.holding(lease):
        runs = {row.run.key: row.run for row in worker.queue.rows(purposes=FURTHER)}
        tolerance = worker.recipe.latency.front_tolerance
        ends_at = worker.store.settings.ends_at

        def over() -> bool:
            late = ends_at is not None and worker.opened.database.now() > ends_at - LAST_S
            return late or worker.stop()

        count = last_sessions(worker.opened, runs)
        measurer.narrow([worker.resolved(run) for run in runs.values()], tolerance, count, over)
    return not worker.stop()
