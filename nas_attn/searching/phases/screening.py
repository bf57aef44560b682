"""The search: Optuna proposes placements, their runs go into the queue, and Optuna is told the
results.

A trial is a candidate; a candidate is done when its runs are. Its first run may be pruned at a
rung: it is compared with all runs there, less what runs of one seed and backbone share. If it is
not pruned, further seeds follow.

Then six networks, among them the front and the best baselines, get further seeds. Then the
best-looking one and its rivals run in rounds, on fresh seeds and backbones. Optuna is not told of
these runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState
from torch import nn
from typing_extensions import override

from nas_attn.answer.cautions import only_guessed
from nas_attn.answer.progress import ended_candidate
from nas_attn.answer.reading import constants_now
from nas_attn.errors import (
    RecipeError,
    TrainingError,
    did_you_mean,
    several,
)
from nas_attn.latency.ratios import LEAST_MEASURED
from nas_attn.model.features import is_control
from nas_attn.recipe.purposes import SEARCH
from nas_attn.recipe.recipe import objective_name
from nas_attn.recipe.tables import is_cost
from nas_attn.searching.keeping import not_kept
from nas_attn.searching.phases.extras import near_answer
from nas_attn.searching.phases.family import QueuedRelatives
from nas_attn.searching.phases.length import other_training
from nas_attn.searching.phases.rung_scores import SAME, RungScores, Values
from nas_attn.searching.prepare.baselines import begun_of
from nas_attn.searching.prepare.length_protocols import known_score
from nas_attn.searching.propose.sampling import DistinctSampler, covers, distributions
from nas_attn.searching.worker.ending import Ending
from nas_attn.searching.worker.worker import TaskSource, Worker
from nas_attn.space.placement import BARE, ResolvedPlacement
from nas_attn.storage.records import CandidateRow, Score
from nas_attn.storage.rows import Lease, Run, RunRow
from nas_attn.storage.trial_book import TRIED, AskedTrial, attributes
from nas_attn.training.plan import backbone_number, bare_seeds, candidate_seeds, excesses

# relatives of the backbone come after this share of the candidates: attention's cost is known then
LATE = 0.75
# the last of every so many candidates are near the answer
EVERY_NEAR = 6
MOST_NEAR = 12
# before so many placements with attention are scored, none is pruned: with a tight limit there are
# few
TO_COMPARE = 4
# scored candidates with the same value of a metric are reported
SUSPICIOUS = 3
# candidates that are measured again beside a new one
COMPANIONS = 3
# of the search's runs
PRIORITY = 30


class Search(TaskSource):
    purpose = SEARCH

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self.book = worker.opened.book
        self.bench = worker.benches.search
        self.space = self.bench.plan.space
        self.scores = RungScores(self.bench)
        search = self.recipe.search
        self.book.study.sampler = self.sampler = DistinctSampler(
            search.sampler,
            self.space,
            seed=search.seed,
            trials=worker.opened.trials,
            objectives=self.recipe.objectives,
            evidence=lambda _: self.scores.known(),
        )
        self._family = QueuedRelatives(worker)

    @override
    def want(self, lease: Lease) -> bool:
        """Enqueues the runs of one more candidate: what was named first, then what the sampler
        proposes. Relatives of the backbone come late, and the last ones are near the answer.
        """
        planned = self.worker.opened.trials
        trials = self.book.all()
        begun = begun_of(trials)
        if begun >= planned:
            return False
        until = self.store.settings.screen_until
        if until is not None and self.worker.opened.database.now() > until:
            return self._ask_named(trials, lease)
        waiting = any(trial.state == TrialState.WAITING for trial in trials)
        covered = not waiting and self._covered(trials)
        entered = (covered or begun >= LATE * planned) and self._family.enter(trials)
        last = min(planned // EVERY_NEAR, MOST_NEAR)
        if not waiting and not entered and begun >= planned - last:
            near = near_answer(self.store, self.bench.plan)
            if near is not None:
                self.book.enqueue(self.space.values(near), {TRIED: near.text})
        exhausted = covered and not entered
        if exhausted != self._is_exhausted:
            # so that no command advises to go on
            now = self.worker.opened.database.now() if exhausted else None
            self.store.set(exhausted_at=now)
        if exhausted:
            return False
        # the last places are for what is named, though baselines wait that are older
        named = self.book.named(trials)
        first = named[0] if named and begun + len(named) >= planned else None
        return self._begin(self.book.ask(self.space.parameters, waiting=first), lease)

    def _ask_named(self, trials: Sequence[FrozenTrial], lease: Lease) -> bool:
        """Enqueues the runs of what is tried though the time is over: the user's own placements and
        relatives of the backbone. Baselines that still wait are left for a later search.
        """
        named = self.book.named(trials)
        if not named and self._family.enter(trials):
            named = self.book.named(self.book.all())
        self.store.set(trials=begun_of(trials) + len(named))
        if not named:
            return False
        return self._begin(self.book.ask(self.space.parameters, waiting=named[0]), lease)

    def _covered(self, trials: Sequence[FrozenTrial]) -> bool:
        """Whether the sampler has nothing left to propose. Raises RecipeError: no placement is
        within the limits.
        """
        if not self.sampler.none_within(self.book.study, distributions(self.space)):
            return covers(self.space, trials, 0)
        rows = [row for row in self.store.candidates() if is_attention(row)]
        states = {row.state for row in rows}
        if states & {"scored", "pruned"}:
            return True
        beyond = [row for row in rows if row.state == "infeasible"]
        if "running" in states or len(beyond) < LEAST_MEASURED:
            # one may still be within them
            return covers(self.space, trials, 0)
        least = min(beyond, key=lambda row: len(row.placement.assignments))
        raise RecipeError(
            f"the limits cannot be met: even '{least.placement}' is beyond them ({least.reason}),"
            " and so is what is left; set higher limits in a new study"
        )

    @property
    def _is_exhausted(self) -> bool:
        return self.store.settings.exhausted_at is not None

    @override
    def close(self) -> Ending | None:
        if self._open():
            # trained, but not yet measured by the machine of the latencies
            return None
        if self._is_exhausted:
            return Ending.EXHAUSTED
        return Ending.COMPLETE

    @override
    def lacks(self) -> str:
        measurer = self.bench.measurer
        waiting = self._open()
        if measurer is None or measurer.fits or not waiting:
            return ""
        study = self.store.name
        return (
            f"only {measurer.machine} can measure the latency of"
            f" {several(waiting, 'trained candidate')}: start a worker there with nas-attn worker"
            f" {study}, or measure here from now on with nas-attn resume {study} --here"
        )

    def _open(self) -> int:
        return sum(row.state == "running" for row in self.store.candidates())

    def _begin(self, asked: AskedTrial, lease: Lease) -> bool:
        """Enqueues the runs of a trial; of the next one, if its network is that of an earlier
        one.
        """
        if asked.outside is None:
            resolved = self.space.resolve(asked.values)
        else:
            resolved = self.bench.plan.resolved(asked.outside)
        row = self.store.claim(
            resolved.key,
            placement=resolved.placement,
            trial=asked.number,
            baseline=asked.baseline,
            lease=lease,
        )
        if row is not None:
            self.queue.want(self._first_runs(row))
            return True
        first = self.store.candidate(resolved.key)
        trial = "?" if first is None else first.trial
        self.book.give_up(asked.number, f"the same network as trial {trial}")
        return self.want(lease)

    def _first_runs(self, row: CandidateRow) -> list[Run]:
        """The runs that a candidate begins with. The others of a searched one follow, unless its
        first is pruned.
        """
        runs = self._runs(row)
        return runs if row.baseline else runs[:1]

    def _runs(self, row: CandidateRow) -> list[Run]:
        """All runs of a candidate in the search. Candidates are spread evenly over the seeds (or
        backbones); the bare one runs on each.
        """
        if row.is_bare:
            seeds = list(bare_seeds(self.recipe))
        else:
            seeds = candidate_seeds(self.recipe, row.trial)
        numbers = {seed: backbone_number(self.recipe, seed) for seed in seeds}
        return [
            Run(row.key, row.placement, seed, number, priority=PRIORITY)
            for seed, number in numbers.items()
        ]

    @override
    def recover(self, lease: Lease) -> None:
        """Asks again for trials that nobody claimed; finishes candidates whose runs have all ended,
        and tells Optuna.
        """
        open_ones = {
            trial.number: trial for trial in self.book.all() if trial.state == TrialState.RUNNING
        }
        # of a study that has moved, some that Optuna knows are measured again
        rows = [
            row
            for row in self.store.candidates()
            if row.trial in open_ones or row.state == "running"
        ]
        for number in open_ones.keys() - {row.trial for row in rows}:
            # under the scheduling lock, nobody else asks
            self.book.ask_again(open_ones[number], self.space.parameters)
        for row in rows:
            if row.state == "running":
                self._settle(row, lease)
            elif row.state != "scored":
                self._tell(row, None)
            elif (values := self.scores.final(row)) is not None:
                self._tell(row, values)

    def _settle(self, row: CandidateRow, lease: Lease) -> None:
        """Ends a candidate if its runs say so; afterwards, one that runs has a run that waits, or
        lacks only its latency.
        """
        # without those that were withdrawn: this candidate needs them still
        runs = self.queue.rows(key=row.key, protocol=SEARCH, purposes=[SEARCH])
        reasons = {run.state: run.reason for run in runs if run.state != "withdrawn"}
        if "pruned" in reasons:
            scores = self.store.scores(row.key, protocol=SEARCH)
            epochs = several(max((s.score.epochs for s in scores), default=0), "epoch")
            why = f"not among the best third after {epochs}, all objectives together"
            self._finish(row, lease, "pruned", why)
        elif "failed" in reasons:
            self._finish(row, lease, "failed", reasons["failed"])
        elif "waiting" not in reasons:
            wanted = self._runs(row) if reasons else self._first_runs(row)
            if not self.enter(wanted, key=row.key, protocol=SEARCH):
                self._score(row, lease)

    def _score(self, row: CandidateRow, lease: Lease) -> None:
        """Finishes a trained candidate, unless another machine must still measure its latency."""
        try:
            values = self.scores.final(row)
        except TrainingError as error:
            # it cannot be measured
            self._finish(row, lease, "failed", str(error))
            return
        if values is not None:
            self._finish(row, lease, "scored", values=values)

    def _finish(
        self, row: CandidateRow, lease: Lease, state: str, reason: str = "", values: Values = None
    ) -> None:
        if self.store.end_candidate(row.key, state=state, reason=reason, lease=lease):
            stored = self.store.candidate(row.key)
            assert stored is not None
            self._tell(stored, values)
            self.worker.say(ended_candidate(self.recipe.objectives, stored, values))
            if state == "scored":
                self._warn_of_constants()
            if stored.placement == BARE and state == "scored":
                self._warn_of_guessing(stored.key)

    def _warn_of_constants(self) -> None:
        """Says early, and once, in which metrics the first candidates do not differ: an evaluator
        that returns a constant would cost hours. Metrics in which they differ stay different.
        """
        scored = sum(row.state == "scored" for row in self.store.candidates())
        # under the scheduling lock, so that one worker ends the candidate with this number
        if scored != SUSPICIOUS:
            return
        for constant in constants_now(self.store, self.recipe):
            self.worker.say(f"note: {constant.sentence}")

    def _warn_of_guessing(self, bare: str) -> None:
        """Says so early if the bare backbone has learned nothing. Candidates may still learn, so
        the search goes on.
        """
        scores = self.store.scores(bare, protocol=SEARCH)
        if only_guessed(self.recipe, (stored.score.metrics for stored in scores)):
            training = self.recipe.training
            self.worker.say(
                f"the bare backbone has learned nothing in {several(training.rungs[-1], 'epoch')}:"
                " it predicts one class for all images. If the candidates do the same,"
                f" {other_training(training)}"
            )

    def _tell(self, row: CandidateRow, values: Values) -> None:
        measurer = self.bench.measurer
        latency = None
        if measurer:
            latency = measurer.known(self.bench.plan.resolved(row.placement))
        excess = None
        limits = self.recipe.limits.model_dump().values()
        # one that failed says nothing of the limits
        if row.state != "failed" and any(limit is not None for limit in limits):
            over = max(excesses(self.recipe, row.cost or {}, latency).values(), default=0.0)
            excess = max(over, SAME) if row.state == "infeasible" else min(over, 0.0)
        shown = attributes(row, latency, self.store.scores(row.key, protocol=SEARCH))
        self.book.tell(row.trial, values, shown, excess=excess)

    @override
    def prepare(self, row: RunRow, lease: Lease) -> bool:
        """Counts and measures a candidate before its first run; one over the limits is not
        trained.
        """
        candidate = self.store.candidate(row.run.key)
        assert candidate is not None
        if self.store.scores(row.run.key, protocol=SEARCH):
            return True
        checked = self.bench.check(
            self.bench.plan.resolved(candidate.placement), self._companions(row.run.key)
        )
        self.store.set_cost(row.run.key, checked.cost, lease)
        if not checked.reason:
            return True
        limit_ms = self.recipe.limits.max_latency_ms
        keeps = self.space.spec.sites.originals == "keep"
        if candidate.is_bare and checked.latency and limit_ms and keeps:
            raise RecipeError(
                f"limits.max_latency_ms = {limit_ms:g} cannot be met: the bare backbone itself"
                f" takes {checked.latency.ms:.3g} ms here, and attention adds more; set a higher"
                " limit in a new study, or search a smaller backbone"
            )
        self._finish(candidate, lease, "infeasible", checked.reason)
        return False

    @override
    def known(self, run: Run) -> Score | None:
        return None if self._gives_weights(run) else known_score(self.bench, run)

    @override
    def go_on(self, run: Run, score: Score) -> bool:
        """The pruner's decision at a rung of a candidate's first run. Baselines, the user's own,
        those near the answer and the first few always go on.
        """
        self._check_metrics(score)
        row = self.store.candidate(run.key)
        assert row is not None
        search = self.recipe.search
        last = self.recipe.training.last_rung
        if (
            search.pruner == "none"
            or row.baseline
            or score.rung == last
            or not self._gives_weights(run)
        ):
            return True
        scored = [r for r in self.store.candidates() if r.state == "scored"]
        return (
            sum(map(is_attention, scored)) < TO_COMPARE
            or TRIED in self.book.all()[row.trial].user_attrs
            or self.scores.among_best(run.key, score.rung)
        )

    @override
    def trained(self, row: RunRow, model: nn.Module, lease: Lease) -> None:
        """Keeps the weights of a candidate's first run."""
        if self.recipe.storage.keep_weights == "none":
            self.store.weights_lost.put(row.run.key, not_kept("none"))
            return
        if self._gives_weights(row.run):
            self.worker.benches.of_run(row.run).keep_weights(row.run.key, model, lease)

    def _gives_weights(self, run: Run) -> bool:
        """Whether it is the first run of its candidate."""
        candidate = self.store.candidate(run.key)
        return candidate is not None and run.seed == self._runs(candidate)[0].seed

    @override
    def ended(self, row: RunRow, lease: Lease) -> None:
        candidate = self.store.candidate(row.run.key)
        if candidate is not None and candidate.state == "running":
            self._settle(candidate, lease)

    def _check_metrics(self, score: Score) -> None:
        """Raises RecipeError if an evaluator does not return what the study's objectives name."""
        for objective in self.recipe.objectives:
            name = objective_name(objective)
            if not is_cost(objective) and name not in score.metrics:
                raise RecipeError(
                    f"objectives names '{objective}', but"
                    f" {self.recipe.training.evaluator or 'training'} returned no '{name}':"
                    f" {did_you_mean(name, score.metrics)}"
                )

    def _companions(self, key: str) -> list[ResolvedPlacement]:
        """Candidates to measure beside a new one: unmeasured ones, then those with the widest
        intervals.
        """
        measurer = self.bench.measurer
        if measurer is None or not measurer.fits:
            return []
        others = {
            row.key: row.placement
            for row in self.store.candidates()
            if row.state in ("running", "scored") and row.placement != BARE and row.key != key
        }
        wanted = measurer.open_keys(list(others), self.recipe.latency.tolerance)
        return [self.bench.plan.resolved(others[other]) for other in wanted[:COMPANIONS]]


def is_attention(row: CandidateRow) -> bool:
    """Whether a candidate is the study's backbone with attention."""
    return row.placement != BARE and not is_control(row.placement)
