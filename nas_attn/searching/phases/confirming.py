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
from nas_attn.storage.rows import Lease, Run
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
        asked = self.recipe.search.confirm_seeds and not is_test_due(self.worker)
        return bool(asked) and self.next()

    @abstractmethod
    def next(self) -> bool:
        """Enqueues the next runs, once the earlier ones have ended; whether there are any."""

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
        return self.step([bare])

    @abstractmethod
    def step(self, views: Iterable[CandidateView | CandidateRow]) -> bool:
        """Enqueues the next step's runs of some candidates; whether any was not in the queue."""

    @override
    def known(self, run: Run) -> Score | None:
        return known_score(self.worker.benches.search, run)

    def further(
        self,
        views: Iterable[CandidateView | CandidateRow],
        backbones: Mapping[int, int],
        round: int = 0,
    ) -> bool:
        """Enqueues runs of candidates with all seeds (-> backbone); whether there are new ones."""
        views = list(views)
        runs = [
            Run(view.key, view.placement, seed, number, SEARCH, self.purpose, LATER_PRIORITY, round)
            for seed, number in backbones.items()
            for view in views
        ]
        return self.enter(runs, protocol=SEARCH)


class Confirmation(Further):
    """Further seeds, on the study's own backbones, for the candidates that matter: chosen once,
    when the search ends.
    """

    purpose = CONFIRM

    @override
    def next(self) -> bool:
        trials = self.worker.opened.trials
        if self.store.settings.confirmed_trials == trials:
            return False
        # a worker that dies before the note is written chooses again
        entered = self.step(to_confirm(searched_snapshot(self.store)))
        self.store.set(confirmed_trials=trials, rounds_before=rounds_begun(self.store))
        return entered

    @override
    def step(self, views: Iterable[CandidateView | CandidateRow]) -> bool:
        first = bare_seeds(self.recipe).stop
        seeds = range(first, first + self.recipe.search.confirm_seeds)
        return self.further(views, {seed: backbone_number(self.recipe, seed) for seed in seeds})


class Rounds(Further):
    """The best-looking candidate meets its rivals, round by round, on fresh seeds and backbones. A
    search with a time goes on until its test begins.
    """

    purpose = ROUND

    @override
    def next(self) -> bool:
        rounds = rounds_begun(self.store)
        waiting = self.queue.rows(state="waiting", purposes=[ROUND])
        if any(row.run.round <= rounds for row in waiting):
            return False
        if all_rounds_ran(self.store, self.recipe):
            return False
        rng = np.random.default_rng([self.recipe.search.seed, rounds])
        return self.step(next_round(searched_snapshot(self.store), rng))

    @override
    def step(self, views: Iterable[CandidateView | CandidateRow]) -> bool:
        if all_rounds_ran(self.store, self.recipe):
            return False
        rounds = rounds_begun(self.store)
        number = ROUND_SEED + rounds
        fresh = self.recipe.training.start == "backbone"
        backbones = {self.recipe.first_seed + number: number if fresh else 0}
        return self.further(views, backbones, rounds + 1)


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
