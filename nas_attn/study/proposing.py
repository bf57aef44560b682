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

import itertools
import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

import numpy as np
from optuna.trial import FrozenTrial, TrialState
from torch import nn

from nas_attn.analysis.arithmetic import usual_arithmetic
from nas_attn.analysis.choosing import RIVALS, next_round, price, to_confirm
from nas_attn.analysis.features import is_control, is_other
from nas_attn.analysis.fronts import Level, minimised, net, objective_value, survives
from nas_attn.analysis.latency import LEAST_MEASURED
from nas_attn.analysis.snapshot import CandidateView
from nas_attn.backbones.larger import larger
from nas_attn.errors import (
    BackboneError,
    MeasurementError,
    PlacementError,
    RecipeError,
    TrainingError,
    did_you_mean,
    several,
)
from nas_attn.evaluation.leasing import TTL_S, LeaseKeeper, release_dead
from nas_attn.evaluation.plan import Plan, backbone_number, excesses, search_seeds, wanted
from nas_attn.evaluation.starts import given_weights
from nas_attn.evaluation.workbench import Workbench
from nas_attn.purposes import CONFIRM, ROUND, SEARCH
from nas_attn.recipe import Recipe, objective_name
from nas_attn.records import (
    BARE,
    Assignment,
    CandidateRow,
    Latency,
    Placement,
    ResolvedPlacement,
    Score,
)
from nas_attn.space import BACKBONE, FREE, NONE
from nas_attn.storage import Lease, Run, RunRow, StudyStore
from nas_attn.study import prior
from nas_attn.study.candidates import FEW_SITES
from nas_attn.study.placement_sampler import Known, weak_values
from nas_attn.study.progress import FURTHER, NARROW, ROUNDS, last_sessions, told
from nas_attn.study.reading import snapshot
from nas_attn.study.sampling import DistinctSampler, covers
from nas_attn.study.target_runs import must_test
from nas_attn.study.trial_book import BASELINE, TRIED, Asked, attributes, outside
from nas_attn.study.worker import TaskSource, Worker
from nas_attn.tables import is_cost

Values = tuple[float, ...] | None  # one per objective
# the larger network comes after this share of the candidates: attention's cost is known then
LATE = 0.75
# the last of every so many candidates are near the answer: parts of it, or with one module
# exchanged
NEAR = 6
MOST_NEAR = 12
# before so many placements with attention are scored, none is pruned: with a tight limit there are
# few
TO_COMPARE = 4
# with at most so many modules, all parts of an answer are near; else those that lack one module
ALL_PARTS = 4
FEWEST_TRIALS = 10  # searches with at least so many trials have a larger network among them
COMPANIONS = 3  # candidates that are measured again beside a new one
PRIORITY, LATER = 30, 20  # priorities of the search's runs, and of the runs after it
LAST_S = 2.0  # no latency session begins in the last seconds of a search with a time limit
ROUND_SEED = 100_000  # distance of the first round's seed from the search's; number of its backbone
ETA = 3.0  # the best 1/ETA of the candidates at a rung go on
SAME = 1e-9  # values this close are the same; they differ by the rounding of seeds' levels


def larger_networks(recipe: Recipe, plan: Plan, trials: int) -> dict[str, ResolvedPlacement]:
    """Name -> a larger network of the backbone's family. A search of so many trials trains one of
    them as a control, if it measures latency, has enough trials, and the network can have the same
    start: random weights, own training, published weights.
    """
    own_weights = recipe.training.start == "pretrained" and recipe.training.weights != "default"
    if (
        recipe.search.baselines != "all"
        or "latency" not in wanted(recipe)
        or plan.own_build
        or own_weights
    ):
        return {}
    if trials < FEWEST_TRIALS:
        return {}
    return {
        f"control {other}": plan.resolved(Placement((Assignment(BACKBONE, other),)))
        for other in larger(recipe.backbone)
    }


def which_larger(found: Sequence[Latency | None], attention: float, limit: float | None) -> int:
    """The larger network to try: the slowest one that is surely within the limit, else the one
    nearest to attention's latency.
    """
    within = {
        i: one.ratio
        for i, one in enumerate(found)
        if one and limit is not None and one.high <= limit
    }
    apart = [math.inf if one is None else abs(one.ratio - attention) for one in found]
    return max(within, key=lambda i: within[i]) if within else apart.index(min(apart))


class RungScores:
    """Candidates' scores at a rung, less what runs of one seed, backbone and arithmetic share.
    `bench`: of the search, for latencies.
    """

    def __init__(self, store: StudyStore, recipe: Recipe, bench: Workbench) -> None:
        self._store, self._recipe, self._bench = store, recipe, bench

    def known(self) -> dict[int, Known]:
        """The sampler's data. It is read from our tables, since latencies and further seeds come
        after a trial's end.
        """
        rows = {row.key: row for row in self._store.candidates()}
        last = len(self._recipe.training.rungs) - 1
        full: dict[int, Known] = {}
        brief: dict[int, dict[int, Sequence[float | None]]] = defaultdict(dict)
        for rung in range(last + 1):
            for key, (values, runs) in self._reached(rung, rows).items():
                if rung == last:
                    noise = [1.0 if is_cost(o) else 1 / runs for o in self._recipe.objectives]
                    full[rows[key].trial] = Known(tuple(values), tuple(noise))
                elif rows[key].state != "infeasible":
                    brief[rows[key].trial][rung] = values
        return {**weak_values(brief, full), **full}

    def among_best(self, key: str, rung: int) -> bool:
        """Whether a candidate is among the best share of a rung. If all are equal there (an mAP of
        0), all go on.
        """
        rows = {row.key: row for row in self._store.candidates()}
        reached = self._reached(rung, rows)
        peers = {
            other: minimised(self._recipe.objectives, values)
            for other, (values, _) in reached.items()
            if not is_other(rows[other].placement)
        }
        trained = [
            i for i, objective in enumerate(self._recipe.objectives) if not is_cost(objective)
        ]
        seen = [[values[i] for values in peers.values()] for i in trained]
        if seen and all(max(values) - min(values) <= SAME for values in seen):
            return True
        return survives(peers, key, ETA)

    def _reached(
        self, rung: int, rows: Mapping[str, CandidateRow]
    ) -> dict[str, tuple[list[float | None], int]]:
        """Key -> (objectives, number of runs) of all candidates that reached a rung, less their
        seeds' levels.
        """
        latencies = self._bench.measurer.latencies() if self._bench.measurer else {}
        found, objectives = {}, self._recipe.objectives
        for key, (metrics, runs) in self._metrics(rung).items():
            if key in rows:
                values = [
                    objective_value(o, metrics, rows[key].cost, latencies.get(key))
                    for o in objectives
                ]
                found[key] = values, runs
        return found

    def _metrics(self, rung: int) -> dict[str, tuple[dict[str, float], int]]:
        """Key -> (metrics at a rung, number of runs): the mean over the candidate's runs, less
        their seeds' levels.
        """
        rows = self._store.metrics(rung)
        usual = usual_arithmetic(arithmetic for _, _, arithmetic, _ in rows)
        by_metric: dict[str, dict[str, dict[Level, float]]] = defaultdict(lambda: defaultdict(dict))
        for key, seed, arithmetic, values in rows:
            for name, value in values.items():
                by_metric[name][key][seed, arithmetic or usual] = value
        found: dict[str, tuple[dict[str, float], int]] = {}
        for name, by_key in by_metric.items():
            for key, runs in net(by_key).items():
                metrics, _ = found.setdefault(key, ({}, len(runs)))
                metrics[name] = sum(runs.values()) / len(runs)
        return found

    def final(self, row: CandidateRow) -> Values:
        """A scored candidate's objectives; None until a worker on the right machine has measured
        it.
        """
        measured = self._bench.measurer is not None
        latency = (
            self._bench.latency(self._bench.plan.resolved(row.placement), []) if measured else None
        )
        if measured and latency is None:
            return None
        metrics, _ = self._metrics(len(self._recipe.training.rungs) - 1)[row.key]
        values = [objective_value(o, metrics, row.cost, latency) for o in self._recipe.objectives]
        return tuple(v for v in values if v is not None)


class Search(TaskSource):
    purpose = SEARCH

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self.book = worker.opened.book
        self.bench = worker.benches.search
        self.space = self.bench.plan.space
        self.scores = RungScores(self.store, self.recipe, self.bench)
        search = self.recipe.search
        self.book.study.sampler = self.sampler = DistinctSampler(
            search.sampler,
            self.space,
            seed=search.seed,
            trials=worker.opened.trials,
            objectives=self.recipe.objectives,
            evidence=lambda study: self.scores.known(),
            prior=prior.expected_in(self.space.allowed, self.store.settings.prior),
        )
        self._exhausted = self._met = False
        self._larger = larger_networks(self.recipe, self.bench.plan, worker.opened.trials)

    def want(self, lease: Lease) -> bool:
        trials = self.book.all()
        begun = sum(
            t.state in (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED) for t in trials
        )
        if begun >= self.worker.opened.trials:
            return False
        met = self._check_limit()
        until = self.store.settings.screen_until
        over = until is not None and self.worker.opened.database.now() > until
        waiting = any(t.state == TrialState.WAITING for t in trials)
        none_left = met and self.sampler.none_within(self.book.study)
        covered = not waiting and (none_left or covers(self.space, trials, 0))
        late = over or covered or begun >= LATE * self.worker.opened.trials
        entered = late and self._enter_larger(trials)
        if over:
            self.store.set(trials=begun + entered)
            return entered and self._ask(lease)
        last = min(self.worker.opened.trials // NEAR, MOST_NEAR)
        if not waiting and not entered and begun >= self.worker.opened.trials - last:
            self._enter_near()
        self._exhausted = covered and not entered
        return not self._exhausted and self._ask(lease)

    def _check_limit(self) -> bool:
        """Whether a placement is known to meet the limit, or none needs to. Raises RecipeError if
        the measured latencies show that none of the space does.
        """
        limit, measurer, space = (
            self.recipe.limits.max_latency_ratio,
            self.bench.measurer,
            self.space,
        )
        if limit is None or measurer is None or space.spec.sites.originals == "search" or self._met:
            return True
        rows = [
            r
            for r in self.store.candidates()
            if r.placement != BARE and not is_control(r.placement)
        ]
        self._met = any(row.state != "infeasible" and row.finished_at for row in rows)
        if self._met or sum(row.state == "infeasible" for row in rows) < LEAST_MEASURED:
            return self._met
        bare = space.baselines()[0].values
        each = [
            (site, value)
            for site, values in space.allowed.items()
            for value in values
            if value not in FREE
        ]
        alone = {
            one.key: one.placement
            for one in (space.resolve({**bare, site: value}) for site, value in each)
        }
        known = measurer.latencies(alone)
        found = {placement: known[key] for key, placement in alone.items() if key in known}
        fastest = min(found, key=lambda placement: found[placement].low, default=BARE)
        if len(found) == len(alone) and found and found[fastest].low > limit:
            raise RecipeError(
                f"limits.max_latency_ratio = {limit:g} cannot be met: even the fastest single"
                f" module, '{fastest}', takes {found[fastest].ratio:.2f} times as long as the bare"
                " backbone; set a higher limit in a new study"
            )
        return False

    def _enter_larger(self, trials: Sequence[FrozenTrial]) -> bool:
        """Enqueues a larger network as a control, once."""
        if not self._larger or any(is_other(outside(trial) or BARE) for trial in trials):
            return False
        names, networks = list(self._larger), list(self._larger.values())
        if self.recipe.training.start == "pretrained":
            try:
                given_weights(self.bench.plan.like(networks[0].other))
            except BackboneError as error:
                self.worker.say(f"no larger network is tried as a control: {error}")
                self._larger = {}
                return False
        number, now = 0, snapshot(self.store) if len(names) > 1 else None
        wanted = None if now is None else price(now)
        if wanted is not None:
            with suppress(TrainingError, MeasurementError):
                found = [self.bench.latency(network, networks) for network in networks]
                number = which_larger(found, wanted, self.recipe.limits.max_latency_ratio)
        self.book.enqueue_outside(networks[number].text, {BASELINE: names[number]})
        return True

    def _enter_near(self) -> None:
        """Enqueues a placement near the recommended one, which is never pruned: one of its modules
        alone if none was tried, else another part of it; in small spaces, then the same with one
        module exchanged. Of several, it takes the best by the model.
        """
        now = snapshot(self.store)
        best, model = now.recommendation, now.evidence.get(now.primary or "")
        if best is None or model is None or best.placement == BARE:
            return
        with suppress(PlacementError):  # the space may not hold it
            values = self.space.values(self.bench.plan.resolved(best.placement))
            used = [
                site
                for site, value in values.items()
                if value != NONE and NONE in self.space.allowed[site]
            ]
            alone = [values | dict.fromkeys({*used} - {site}, NONE) for site in used]
            counts = range(1, len(used) if len(used) <= ALL_PARTS else 2)
            parts = [
                values | dict.fromkeys(out, NONE)
                for n in counts
                for out in itertools.combinations(used, n)
            ]
            other = [
                {**values, at: value}
                for at in used
                for value in self.space.allowed[at]
                if value != NONE
            ]
            new = [
                self._untried(some)
                for some in (alone, parts, other if len(values) <= FEW_SITES else [])
            ]
            found = new[0] if len(new[0]) == len(used) > 1 else new[1] or new[2]
            if found:
                about = model.about({key: one.placement for key, one in found.items()}).estimates
                sign = -1 if model.lower_is_better else 1
                nearest = found[max(found, key=lambda key: sign * about[key].mean)]
                self.book.enqueue(self.space.values(nearest), {TRIED: nearest.text})

    def _untried(self, some: Iterable[Mapping[str, str]]) -> dict[str, ResolvedPlacement]:
        found = (self.space.resolve(values) for values in some)
        return {one.key: one for one in found if not self.store.candidate(one.key)}

    def close(self) -> str:
        if self._open():
            return ""  # trained, but not yet measured by the machine of the latencies
        return "exhausted" if self._exhausted else "complete"

    def lacks(self) -> str:
        measurer, waiting = self.bench.measurer, self._open()
        if measurer is None or measurer.fits or not waiting:
            return ""
        return (
            f"{waiting} trained"
            f" candidate{'s lack their latencies' if waiting > 1 else ' lacks its latency'}, which"
            f" only '{measurer.machine}' can measure: start a worker there with nas-attn worker"
            f" {self.store.name}"
        )

    def _open(self) -> int:
        return sum(row.state == "running" for row in self.store.candidates())

    def _ask(self, lease: Lease) -> bool:
        while True:
            if self._claim(self.book.ask(self.space.parameters), lease):
                return True
            if covers(self.space, self.book.all(), 0):
                return self.want(lease)

    def _claim(self, asked: Asked, lease: Lease) -> bool:
        other = asked.outside
        resolved = (
            self.space.resolve(asked.values) if other is None else self.bench.plan.resolved(other)
        )
        key, number = resolved.key, asked.number
        led = number in self.sampler.led_by_prior
        row = self.store.claim(
            key,
            placement=resolved.placement,
            trial=number,
            baseline=asked.baseline,
            lease=lease,
            by_prior=led,
        )
        if row is None:
            first = self.store.candidate(key)
            self.book.give_up(number, f"the same network as trial {first.trial if first else '?'}")
            return False
        self.queue.want(self._runs(row)[: None if row.baseline else 1])
        return True

    def _runs(self, row: CandidateRow) -> list[Run]:
        """All runs of a candidate in the search. Candidates are spread evenly over the seeds (or
        backbones); the bare one runs on each.
        """
        many, first, apart = (
            self.recipe.training.seeds,
            self.recipe.first_seed,
            search_seeds(self.recipe),
        )
        if row.baseline == "none":
            seeds = range(first, first + max(apart, many))
        else:
            begin = first + row.trial % apart
            seeds = range(begin, begin + many)
        numbers = {seed: backbone_number(self.recipe, seed) for seed in seeds}
        return [
            Run(row.key, row.placement, seed, number, priority=PRIORITY)
            for seed, number in numbers.items()
        ]

    def recover(self, lease: Lease) -> None:
        """Asks again for trials that nobody claimed; finishes candidates whose runs have all ended,
        and tells Optuna.
        """
        open_ones = {
            trial.number: trial for trial in self.book.all() if trial.state == TrialState.RUNNING
        }
        rows = [row for row in self.store.candidates() if row.trial in open_ones]
        for number in open_ones.keys() - {row.trial for row in rows}:
            self.book.ask_again(
                open_ones[number], self.space.parameters
            )  # under the scheduling lock, nobody else asks
        for row in rows:
            if row.state == "running":
                self._settle(row, lease)
            elif row.state != "scored":
                self._tell(row, None)
            elif (values := self.scores.final(row)) is not None:
                self._tell(row, values)

    def _settle(self, row: CandidateRow, lease: Lease) -> None:
        """Finishes a candidate if its runs have ended, else enqueues the missing ones."""
        runs = self.queue.rows(key=row.key, protocol=SEARCH)
        states = {found.state: found.reason for found in runs}
        if not runs:
            self.queue.want(self._runs(row)[: None if row.baseline else 1])
        elif "pruned" in states:
            self._finish(row, lease, "pruned", self._why_pruned(row))
        elif "failed" in states:
            self._finish(row, lease, "failed", states["failed"])
        elif states.keys() == {"done"}:
            there = {found.run.identity for found in runs}
            missing = [run for run in self._runs(row) if run.identity not in there]
            self.queue.want(missing)
            if not missing:
                self._score(row, lease)

    def _score(self, row: CandidateRow, lease: Lease) -> None:
        """Finishes a trained candidate, unless another machine must still measure its latency."""
        try:
            values = self.scores.final(row)
        except TrainingError as error:  # it cannot be measured
            self._finish(row, lease, "failed", str(error))
            return
        if values is not None:
            self._finish(row, lease, "scored", values=values)

    def _finish(
        self, row: CandidateRow, lease: Lease, state: str, reason: str = "", values: Values = None
    ) -> None:
        self.queue.withdraw(row.key, lease)
        if self.store.finish(row.key, state=state, reason=reason, lease=lease):
            known = self.store.candidate(row.key)
            assert known is not None
            self._tell(known, values)
            self.worker.say(told(self.recipe.objectives, known, values))

    def _tell(self, row: CandidateRow, values: Values) -> None:
        measurer = self.bench.measurer
        latency = measurer.known(self._resolved(row)) if measurer else None
        limited = any(limit is not None for limit in self.recipe.limits.model_dump().values())
        over = max(excesses(self.recipe, row.cost or {}, latency).values(), default=0.0)
        over = max(over, SAME) if row.state == "infeasible" else min(over, 0.0)
        shown = attributes(row, latency, self.store.scores(row.key, protocol=SEARCH))
        self.book.tell(row.trial, values, shown, excess=over if limited else None)

    def prepare(self, row: RunRow, lease: Lease) -> bool:
        """Counts and measures a candidate before its first run; one over the limits is not
        trained.
        """
        candidate = self.store.candidate(row.run.key)
        assert candidate is not None
        if self.store.scores(row.run.key, protocol=SEARCH):
            return True
        checked = self.bench.check(self._resolved(candidate), self._companions(row.run.key))
        self.store.set_cost(row.run.key, checked.cost, lease)
        if checked.reason:
            self._finish(candidate, lease, "infeasible", checked.reason)
        return not checked.reason

    def go_on(self, run: Run, score: Score) -> bool:
        """The pruner's decision at a rung of a candidate's first run. Baselines, the user's own,
        those near the answer and the first few always go on.
        """
        self._check_metrics(score)
        row = self.store.candidate(run.key)
        assert row is not None
        search, last = self.recipe.search, len(self.recipe.training.rungs) - 1
        if (
            search.pruner == "none"
            or row.baseline
            or score.rung == last
            or run.seed != self._runs(row)[0].seed
        ):
            return True
        scored = [r for r in self.store.candidates() if r.state == "scored"]
        few = sum(r.placement != BARE and not is_control(r.placement) for r in scored) < TO_COMPARE
        return (
            few
            or TRIED in self.book.all()[row.trial].user_attrs
            or self.scores.among_best(run.key, score.rung)
        )

    def trained(self, row: RunRow, model: nn.Module, lease: Lease) -> None:
        """Keeps the weights of a candidate's first run."""
        if self.recipe.storage.keep_weights == "none":
            self.store.weights_lost.put(
                row.run.key, "not kept, since storage.keep_weights is 'none'"
            )
            return
        candidate = self.store.candidate(row.run.key)
        if candidate is not None and row.run.seed == self._runs(candidate)[0].seed:
            self.bench.keep_weights(row.run.key, model, lease)

    def ended(self, row: RunRow, lease: Lease) -> None:
        candidate = self.store.candidate(row.run.key)
        if candidate is not None and candidate.state == "running":
            self._settle(candidate, lease)

    def _check_metrics(self, score: Score) -> None:
        """Raises RecipeError if an evaluator does not return what the study's objectives name."""
        for objective in self.recipe.objectives:
            name = objective_name(objective)
            if not is_cost(objective) and name not in score.metrics:
                what = (
                    f"objectives names '{objective}', but"
                    f" {self.recipe.training.evaluator or 'training'} returned no '{name}'"
                )
                raise RecipeError(f"{what}: {did_you_mean(name, score.metrics)}")

    def _companions(self, key: str) -> list[ResolvedPlacement]:
        """Candidates to measure beside a new one: unmeasured ones, then those with the widest
        intervals.
        """
        measurer = self.bench.measurer
        if measurer is None or not measurer.fits:
            return []
        rows = {
            r.key: r
            for r in self.store.candidates()
            if r.state in ("running", "scored") and r.placement != BARE
        }
        wanted = measurer.open_keys(
            [other for other in rows if other != key], self.recipe.latency.tolerance
        )
        return [self._resolved(rows[other]) for other in wanted[:COMPANIONS]]

    def _resolved(self, row: CandidateRow) -> ResolvedPlacement:
        return self.bench.plan.resolved(row.placement)

    def _why_pruned(self, row: CandidateRow) -> str:
        epochs = max(
            (s.score.epochs for s in self.store.scores(row.key, protocol=SEARCH)), default=0
        )
        return f"not among the best third after {several(epochs, 'epoch')}, all objectives together"


class _Further(TaskSource, ABC):
    def want(self, lease: Lease) -> bool:
        """Enqueues the next runs, once the earlier ones have ended."""
        if not self.recipe.search.confirm_seeds or self._waits():
            return False
        until = (
            self.store.settings.test_from
        )  # the test's share of the time may be more than its longest form needs
        if (
            until is not None
            and self.worker.opened.database.now() > until
            and must_test(self.worker, 2 + RIVALS)
        ):
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

    def ahead(self, lease: Lease) -> bool:
        """The bare network runs in each step, whatever else is chosen: an idle worker may begin
        with it.
        """
        until = self.store.settings.test_from
        late = until is not None and self.worker.opened.database.now() > until
        bare = next((row for row in self.store.candidates() if row.baseline == "none"), None)
        if not self.recipe.search.confirm_seeds or late or bare is None or bare.state != "scored":
            return False
        runs = self.bare_runs(bare)
        self.queue.want(runs)
        return bool(runs)

    @abstractmethod
    def bare_runs(self, bare: CandidateRow) -> list[Run]:
        """The bare network's runs in the next step that are not in the queue."""

    def ended(self, row: RunRow, lease: Lease) -> None:
        run = row.run
        failed = f"seed {run.seed} of {run.placement} {row.state}: {row.reason}"
        self.worker.say(
            f"confirm with seed {run.seed}: {run.placement}" if row.state == "done" else failed
        )

    def rounds(self) -> dict[int, set[str]]:
        """Number of each confirmation round -> the candidates that ran in it. One in which only the
        bare network ran has not begun: an idle worker trained it ahead.
        """
        found: dict[int, set[str]] = defaultdict(set)
        for row in self.queue.rows(purposes=[ROUND]):
            found[row.run.round].add(row.run.key)
        bare = {row.key for row in self.store.candidates() if row.baseline == "none"}
        return {number: keys for number, keys in found.items() if keys - bare}

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
            Run(
                view.key,
                view.placement,
                seed,
                number,
                purpose=self.purpose,
                priority=LATER,
                round=round,
            )
            for seed, number in backbones.items()
            for view in views
        ]
        return [run for run in runs if run.identity not in there]


class Confirmation(_Further):
    """Further seeds, on the study's own backbones, for the candidates that matter: chosen once,
    when the search ends.
    """

    purpose = CONFIRM

    def next(self) -> list[Run]:
        trials = self.worker.opened.trials
        if self.store.settings.confirmed_trials == trials:
            return []
        runs = self.missing(to_confirm(snapshot(self.store)), self._backbones())
        self.queue.want(runs)  # a worker that dies before the note is written chooses again
        self.store.set(confirmed_trials=trials, rounds_before=len(self.rounds()))
        return runs

    def _backbones(self) -> dict[int, int]:
        """The further seeds, and the backbone of each."""
        search, apart = self.recipe.search, search_seeds(self.recipe)
        first = self.recipe.first_seed + max(self.recipe.training.seeds, apart)
        seeds = range(first, first + search.confirm_seeds)
        return {seed: backbone_number(self.recipe, seed) for seed in seeds}

    def _waits(self) -> bool:
        return False  # they are chosen once, and the bare network's may have begun

    def bare_runs(self, bare: CandidateRow) -> list[Run]:
        return self.missing([bare], self._backbones())


class Rounds(_Further):
    """The best-looking candidate meets its rivals, round by round, on fresh seeds and backbones. A
    search with a time goes on until its test begins.
    """

    purpose = ROUND

    def next(self) -> list[Run]:
        rounds = len(self.rounds())
        if self._are_done(rounds):
            return []
        rng = np.random.default_rng([self.recipe.search.seed, rounds])
        return self.missing(
            next_round(snapshot(self.store), rng), self._backbone(rounds), rounds + 1
        )

    def _are_done(self, rounds: int) -> bool:
        """Whether a search without a time has had all its rounds."""
        settings = self.store.settings
        had = rounds - settings.rounds_before
        return settings.test_from is None and had >= ROUNDS * self.recipe.search.confirm_seeds

    def _backbone(self, rounds: int) -> dict[int, int]:
        """The seed of the round after so many, and its backbone."""
        number = ROUND_SEED + rounds
        fresh = self.recipe.training.start == "backbone"
        return {self.recipe.first_seed + number: number if fresh else 0}

    def _waits(self) -> bool:
        waiting = self.queue.rows(state="waiting", purposes=[self.purpose])
        return any(row.run.round <= len(self.rounds()) for row in waiting)

    def bare_runs(self, bare: CandidateRow) -> list[Run]:
        rounds = len(self.rounds())
        if self._are_done(rounds):
            return []
        return self.missing([bare], self._backbone(rounds), rounds + 1)


def narrow(worker: Worker) -> bool:
    """One worker runs the latency sessions that the important candidates still need; false if it
    was stopped.
    """
    measurer = worker.benches.search.measurer
    if measurer is None or not measurer.fits:
        return True
    release_dead(worker.store, NARROW)
    lease = worker.store.acquire(NARROW, owner=worker.owner, ttl_s=TTL_S)
    if lease is None:
        return True
    with LeaseKeeper(worker.store, lease) as keeper:
        runs = {row.run.key: row.run for row in worker.queue.rows(purposes=FURTHER)}
        tolerance, ends_at = worker.recipe.latency.front_tolerance, worker.store.settings.ends_at

        def over() -> bool:
            late = ends_at is not None and worker.opened.database.now() > ends_at - LAST_S
            return late or worker.stop() or keeper.lost

        count = last_sessions(worker.opened, runs)
        measurer.narrow([worker.resolved(run) for run in runs.values()], tolerance, count, over)
    return not worker.stop()
