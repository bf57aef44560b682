"""After the search: further runs of the candidates that the answer rests on, and their latencies narrowed.

The front, the bare backbone and the best uniform candidate get further seeds. Then the best-looking one meets the bare backbone and
its rivals in rounds, on seeds and backbones that had no part in choosing it, until it is known to be better or the rounds are over;
who meets is decided anew before each (`analysis.confirmation`). These are runs, never trials: what Optuna holds stays as it was told.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np

from nas_attn.analysis.choosing import decided, next_round
from nas_attn.analysis.snapshot import CandidateView, Snapshot
from nas_attn.evaluation.leasing import TTL_S, LeaseKeeper, release_dead
from nas_attn.evaluation.measuring import BARE
from nas_attn.evaluation.plan import backbone_number
from nas_attn.storage import SEARCH, Lease, Run, RunRow
from nas_attn.study.progress import CONFIRM, FURTHER, LARGEST_FRONT, ROUND, ROUNDS
from nas_attn.study.reading import snapshot
from nas_attn.study.worker import TaskSource, Worker

PRIORITY = 20
LAST_S = 5.0  # seconds before the end of a search with a time in which no latency session begins
ROUND_SEED = 100_000  # the first round's seed is so far above the search's; its backbone has this number


class _Further(TaskSource, ABC):
    def want(self, lease: Lease) -> bool:
        """The next runs, once those before have ended."""
        if not self.recipe.search.confirm_seeds or self.queue.rows(state="waiting", purposes=[self.purpose]):
            return False
        until = self.store.settings.test_from
        if until is not None and self.worker.opened.database.now() > until:
            return False
        runs = self.next()
        self.queue.want(runs)
        return bool(runs)

    @abstractmethod
    def next(self) -> list[Run]:
        """The next runs; empty if none are needed."""

    def ended(self, row: RunRow, lease: Lease) -> None:
        run = row.run
        failed = f"seed {run.seed} of {run.placement} {row.state}: {row.reason}"
        self.worker.say(f"confirm with seed {run.seed}: {run.placement}" if row.state == "done" else failed)

    def rounds(self) -> dict[int, set[str]]:
        """Number of each confirmation round -> the candidates that ran in it."""
        found: dict[int, set[str]] = defaultdict(set)
        for row in self.queue.rows(purposes=[ROUND]):
            found[row.run.round].add(row.run.key)
        return found

    def missing(self, views: Iterable[CandidateView], backbones: Mapping[int, int], round: int = 0) -> list[Run]:
        """Runs of candidates with all seeds (-> backbone) that the queue has not."""
        there = {row.run.identity for row in self.queue.rows(way=SEARCH)}
        views = list(views)
        runs = [
            Run(view.key, view.placement, seed, number, purpose=self.purpose, priority=PRIORITY, round=round)
            for seed, number in backbones.items()
            for view in views
        ]
        return [run for run in runs if run.identity not in there]


class Confirmation(_Further):
    """Further seeds, on the study's own backbones, for the candidates that matter: chosen once, when the search ends."""

    purpose = CONFIRM

    def next(self) -> list[Run]:
        training, search, trials = self.recipe.training, self.recipe.search, self.worker.opened.trials
        if self.store.settings.confirmed_trials == trials:
            return []
        first = search.seed + max(training.seeds, training.backbones if training.start == "backbone" else 1)
        seeds = range(first, first + search.confirm_seeds)
        backbones = {seed: backbone_number(self.recipe, seed) for seed in seeds}
        runs = self.missing(_choose(snapshot(self.store)), backbones)
        self.queue.want(runs)  # whoever dies before the note chooses again
        self.store.set(confirmed_trials=trials, rounds_before=len(self.rounds()))
        return runs


class Rounds(_Further):
    """The best-looking candidate meets its rivals, round by round, on fresh seeds and backbones."""

    purpose = ROUND

    def next(self) -> list[Run]:
        search, rounds = self.recipe.search, self.rounds()
        held = len(rounds) - self.store.settings.rounds_before
        if held >= ROUNDS * search.confirm_seeds:
            return []
        now = snapshot(self.store)
        met = held > 0 and now.recommendation is not None and now.recommendation.key in rounds[max(rounds)]
        if met and decided(now):
            return []
        views = next_round(now, np.random.default_rng([search.seed, len(rounds)]))
        number = ROUND_SEED + len(rounds)
        fresh = self.recipe.training.start == "backbone"
        return self.missing(views, {search.seed + number: number if fresh else 0}, len(rounds) + 1)


def narrow(worker: Worker) -> bool:
    """One worker gives the front the latency sessions that its tolerance asks for; false if it was stopped."""
    measurer = worker.benches.search.measurer
    if measurer is None or not measurer.fits:
        return True
    release_dead(worker.store, "narrow")
    lease = worker.store.acquire("narrow", owner=worker.owner, ttl_s=TTL_S)
    if lease is None:
        return True
    with LeaseKeeper(worker.store, lease) as keeper:
        runs = {row.run.key: row.run for row in worker.queue.rows(purposes=FURTHER)}
        tolerance, ends_at = worker.recipe.latency.front_tolerance, worker.store.settings.ends_at

        def over() -> bool:
            late = ends_at is not None and worker.opened.database.now() > ends_at - LAST_S
            return late or worker.stop() or keeper.lost

        measurer.narrow([worker.resolved(run) for run in runs.values()], tolerance, over)
    return not worker.stop()


def _choose(now: Snapshot) -> list[CandidateView]:
    scored = [view for view in now.baselines if view.state == "scored"]
    bare = [view for view in scored if view.baseline == BARE]
    uniform = [view for view in now.ordered(scored) if view.baseline != BARE][:1]
    control = now.ordered(view for view in now.controls if view.state == "scored")[:1]
    return list({view.key: view for view in [*bare, *uniform, *now.front[:LARGEST_FRONT], *control]}.values())
