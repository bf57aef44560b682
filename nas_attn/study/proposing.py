"""The search: Optuna proposes placements, their runs go into the queue, and what came out is told to Optuna.

A trial is a candidate; a candidate is done when its runs are. Its first run may be pruned at a rung, against all that
ran there, net of what runs of one seed and backbone have in common; further seeds follow where it was not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from optuna.trial import TrialState
from torch import nn

from nas_attn.analysis.fronts import minimised, net, objective_value, survives
from nas_attn.errors import RecipeError, TrainingError, did_you_mean
from nas_attn.evaluation.measuring import BARE
from nas_attn.evaluation.plan import backbone_number
from nas_attn.evaluation.workbench import Workbench
from nas_attn.recipe import Recipe, objective_name
from nas_attn.records import CandidateRow, ResolvedPlacement, Score
from nas_attn.storage import SEARCH, Lease, Run, RunRow, StudyStore
from nas_attn.storage.work import WAITING
from nas_attn.study.placement_sampler import Known, weak_values
from nas_attn.study.progress import told
from nas_attn.study.sampling import DistinctSampler, covers
from nas_attn.study.trial_book import BASELINE, OUTSIDE, TRIED, Asked, attributes
from nas_attn.study.worker import TaskSource, Worker
from nas_attn.tables import is_cost

ETA = 3.0  # of the candidates at a rung, the best 1/ETA go on
SAME = 1e-9  # values no further apart are the same, but for the rounding of their seeds' levels


class RungScores:
    """The scores of a study's candidates, rung by rung."""

    def __init__(self, store: StudyStore, recipe: Recipe, bench: Workbench) -> None:
        """Args:
        bench: of the search, for latencies.
        """
        self._store, self._recipe, self._bench = store, recipe, bench

    def known(self) -> dict[int, Known]:
        """What the sampler learns from: what our tables know by now, as latencies and further seeds come after a trial's end.

        Candidates that were pruned are known by their last rung. Costs are exact or common to all runs: one run's noise.
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
        """Whether a candidate is among the best share of a rung; where none is told from another there (an mAP of 0), all go on."""
        peers = self._peers(rung)
        trained = [i for i, objective in enumerate(self._recipe.objectives) if not is_cost(objective)]
        seen = [[values[i] for values in peers.values()] for i in trained]
        if seen and all(max(values) - min(values) <= SAME for values in seen):
            return True
        return survives(peers, key, ETA)

    def _peers(self, rung: int) -> dict[str, tuple[float, ...]]:
        """Key -> objectives to be minimised of all candidates that reached a rung, net of their seeds' levels."""
        rows = {row.key: row for row in self._store.candidates()}
        reached = self._reached(rung, rows)
        return {key: minimised(self._recipe.objectives, values) for key, (values, _) in reached.items()}

    def _reached(self, rung: int, rows: Mapping[str, CandidateRow]) -> dict[str, tuple[list[float | None], int]]:
        """Key -> (objectives, runs behind them) of all candidates that reached a rung, net of their seeds' levels."""
        latencies = self._bench.measurer.latencies() if self._bench.measurer else {}
        return {
            key: (
                [objective_value(o, metrics, rows[key].cost, latencies.get(key)) for o in self._recipe.objectives],
                runs,
            )
            for key, (metrics, runs) in self._metrics(rung).items()
            if key in rows
        }

    def _metrics(self, rung: int) -> dict[str, tuple[dict[str, float], int]]:
        """Key -> (metrics at a rung, runs): the mean over the candidate's runs, net of their seeds' levels."""
        by_metric: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
        for key, seed, values in self._store.metrics(rung):
            for name, value in values.items():
                by_metric[name][key][seed] = value
        found: dict[str, tuple[dict[str, float], int]] = {}
        for name, by_key in by_metric.items():
            for key, runs in net(by_key).items():
                metrics, _ = found.setdefault(key, ({}, len(runs)))
                metrics[name] = sum(runs.values()) / len(runs)
        return found

    def final(self, row: CandidateRow) -> tuple[float, ...] | None:
        """A scored candidate's objectives; None while a worker on the right machine has still to measure it."""
        measurer, resolved = self._bench.measurer, self._bench.plan.resolved(row.placement)
        latency = measurer.known(resolved) if measurer is not None else None
        if measurer is not None and latency is None:
            latency = self._bench.latency(resolved, [])
            if latency is None:
                return None
        metrics, _ = self._metrics(len(self._recipe.training.rungs) - 1)[row.key]
        values = [objective_value(o, metrics, row.cost, latency) for o in self._recipe.objectives]
        return tuple(v for v in values if v is not None)


COMPANIONS = 3  # candidates whose latency is narrowed beside a new one's
PRIORITY = 30


class Search(TaskSource):
    """The task source of a study's trials."""

    purpose = SEARCH

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self.store, self.recipe, self.queue = worker.store, worker.recipe, worker.queue
        self.book = worker.opened.book
        self.bench = worker.benches.search
        self.space = self.bench.plan.space
        self.scores = RungScores(self.store, self.recipe, self.bench)
        search = self.recipe.search
        self.book.study.sampler = DistinctSampler(
            search.sampler,
            self.space,
            seed=search.seed,
            trials=worker.opened.trials,
            objectives=self.recipe.objectives,
            evidence=lambda study: self.scores.known(),
        )
        self._exhausted = False

    # ------------------------------------------------------------------------------------ proposing

    def want(self, turn: Lease) -> bool:
        """The next trial's runs."""
        trials = self.book.all()
        begun = sum(t.state in (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED) for t in trials)
        if begun >= self.worker.opened.trials:
            return False
        until = self.store.settings.screen_until
        if until is not None and self.worker.opened.database.now() > until:
            self.store.set(trials=begun)
            return False
        waiting = any(t.state == TrialState.WAITING for t in trials)
        self._exhausted = not waiting and covers(self.space, trials, 0)
        return not self._exhausted and self._ask(turn)

    def close(self) -> str:
        if self._open():
            return ""  # trained, but not measured yet by the machine that the latencies belong to
        return "exhausted" if self._exhausted else "complete"

    def lacks(self) -> str:
        measurer = self.bench.measurer
        waiting = self._open()
        if measurer is None or measurer.fits or not waiting:
            return ""
        return (
            f"{waiting} trained candidate{'s lack their latencies' if waiting > 1 else ' lacks its latency'}, which "
            f"only '{measurer.machine}' can measure: start a worker there with nas-attn worker {self.store.name}"
        )

    def _open(self) -> int:
        """Candidates that have not ended."""
        return sum(row.state == "running" for row in self.store.candidates())

    def _ask(self, turn: Lease) -> bool:
        """Whether there is a new trial."""
        while True:
            if self._claim(self.book.ask(self.space.parameters), turn):
                return True
            if covers(self.space, self.book.all(), 0):
                return self.want(turn)

    def _claim(self, asked: Asked, turn: Lease) -> bool:
        baseline = asked.attributes.get(BASELINE)
        own = asked.attributes.get(OUTSIDE)
        resolved = self.space.resolve(asked.values) if own is None else self.bench.plan.resolved(str(own))
        row = self.store.claim(resolved.key, placement=resolved.text, trial=asked.number, baseline=baseline, lease=turn)
        if row is None:
            first = self.store.candidate(resolved.key)
            self.book.give_up(asked.number, f"the same network as trial {first.trial if first else '?'}")
            return False
        self.queue.want(self._runs(row)[: None if row.baseline else 1])
        return True

    def _runs(self, row: CandidateRow) -> list[Run]:
        """All runs of a candidate in the search: spread over the backbones in balance, `none` on each of them."""
        training, first = self.recipe.training, self.recipe.search.seed
        backbones = training.backbones if training.start == "backbone" else 1
        if row.baseline == BARE:
            seeds = range(first, first + max(backbones, training.seeds))
        else:
            begin = first + row.trial % backbones
            seeds = range(begin, begin + training.seeds)
        return [
            Run(row.key, row.placement, seed, backbone_number(self.recipe, seed), priority=PRIORITY) for seed in seeds
        ]

    # ------------------------------------------------------------------------------------ taking over

    def recover(self, turn: Lease) -> None:
        """Trials that nobody claimed are asked for again; candidates whose runs have all ended are finished and told."""
        open_ones = {trial.number: trial for trial in self.book.all() if trial.state == TrialState.RUNNING}
        rows = [row for row in self.store.candidates() if row.trial in open_ones]
        for number in open_ones.keys() - {row.trial for row in rows}:
            self.book.ask_again(open_ones[number], self.space.parameters)  # in our turn, nobody else is asking
        for row in rows:
            if row.state != "running":
                values = self.scores.final(row) if row.state == "scored" else None
                if values is not None or row.state != "scored":
                    self._tell(row, values)
                continue
            states = {found.state for found in self.queue.rows(key=row.key, way=SEARCH)}
            if WAITING not in states or states & {"pruned", "failed"}:
                self._settle(row, turn)

    def _settle(self, row: CandidateRow, lease: Lease) -> None:
        """Finishes a candidate whose runs have ended, and enters those that it still lacks."""
        runs = self.queue.rows(key=row.key, way=SEARCH)
        states = [found.state for found in runs]
        if not runs:
            self.queue.want(self._runs(row)[: None if row.baseline else 1])
        elif "pruned" in states:
            self._finish(row, "pruned", self._why_pruned(row), None, lease)
        elif "failed" in states:
            reason = next(found.reason for found in runs if found.state == "failed")
            self._finish(row, "failed", reason, None, lease)
        elif set(states) == {"done"}:
            missing = [run for run in self._runs(row) if run.identity not in {found.run.identity for found in runs}]
            if missing:
                self.queue.want(missing)
            else:
                self._score(row, lease)

    def _score(self, row: CandidateRow, lease: Lease) -> None:
        """Finishes a candidate that is trained; nothing where its latency is still to be measured elsewhere."""
        try:
            values = self.scores.final(row)
        except TrainingError as error:  # it cannot be measured
            self._finish(row, "failed", str(error), None, lease)
            return
        if values is not None:
            self._finish(row, "scored", "", values, lease)

    def _finish(
        self, row: CandidateRow, state: str, reason: str, values: tuple[float, ...] | None, lease: Lease
    ) -> None:
        self.queue.withdraw(row.key, lease)
        if self.store.finish(row.key, state=state, reason=reason, lease=lease):
            known = self.store.candidate(row.key)
            assert known is not None
            self._tell(known, values)
            self.worker.say(told(self.recipe.objectives, known, values))

    def _tell(self, row: CandidateRow, values: tuple[float, ...] | None) -> None:
        measurer = self.bench.measurer
        latency = measurer.known(self._resolved(row)) if measurer else None
        limited = any(limit is not None for limit in self.recipe.limits.model_dump().values())
        self.book.tell(
            row.trial,
            values,
            attributes(row, latency, self.store.scores(row.key, way=SEARCH)),
            violated=row.state == "infeasible" if limited else None,
        )

    # ------------------------------------------------------------------------------------ one run

    def prepare(self, row: RunRow, lease: Lease) -> bool:
        """Counts and measures a candidate before its first run; one over the limits is not trained."""
        candidate = self.store.candidate(row.run.key)
        assert candidate is not None
        if self.store.scores(row.run.key, way=SEARCH):
            return True
        checked = self.bench.check(self._resolved(candidate), self._companions(row.run.key))
        self.store.set_cost(row.run.key, checked.cost, lease)
        if checked.reason:
            self._finish(candidate, "infeasible", checked.reason, None, lease)
        return not checked.reason

    def go_on(self, run: Run, score: Score) -> bool:
        """The pruner's word at a rung, on a candidate's first run. Baselines and placements of one's own always go on."""
        self._check_metrics(score)
        row = self.store.candidate(run.key)
        assert row is not None
        search, last = self.recipe.search, len(self.recipe.training.rungs) - 1
        if search.pruner == "none" or row.baseline or score.rung == last or run.seed != self._runs(row)[0].seed:
            return True
        if TRIED in self.book.all()[row.trial].user_attrs:
            return True
        return self.scores.among_best(run.key, score.rung)

    def trained(self, row: RunRow, model: nn.Module, lease: Lease) -> None:
        """The weights of a candidate's first run are kept."""
        if self.recipe.storage.keep_weights == "none":
            self.store.weights_lost.put(row.run.key, "not kept, since storage.keep_weights is 'none'")
            return
        candidate = self.store.candidate(row.run.key)
        if candidate is not None and row.run.seed == self._runs(candidate)[0].seed:
            self.bench.keep_weights(row.run.key, model, lease)

    def ended(self, row: RunRow, lease: Lease) -> None:
        candidate = self.store.candidate(row.run.key)
        if candidate is not None and candidate.state == "running":
            self._settle(candidate, lease)

    # ------------------------------------------------------------------------------------ small things

    def _check_metrics(self, score: Score) -> None:
        """Raises:
        RecipeError: an evaluator does not return what the study's objectives name.
        """
        for objective in self.recipe.objectives:
            name = objective_name(objective)
            if not is_cost(objective) and name not in score.metrics:
                raise RecipeError(
                    f"objectives names '{objective}', but training.evaluator returned no '{name}': "
                    f"{did_you_mean(name, score.metrics)}"
                )

    def _companions(self, key: str) -> list[ResolvedPlacement]:
        """Candidates that could use another latency session: the unmeasured, then those known least well."""
        measurer = self.bench.measurer
        if measurer is None or not measurer.fits:
            return []
        rows = {r.key: r for r in self.store.candidates() if r.state in ("running", "scored") and r.placement != BARE}
        wanted = measurer.open_keys([other for other in rows if other != key], self.recipe.latency.tolerance)
        return [self._resolved(rows[other]) for other in wanted[:COMPANIONS]]

    def _resolved(self, row: CandidateRow) -> ResolvedPlacement:
        return self.bench.plan.resolved(row.placement)

    def _why_pruned(self, row: CandidateRow) -> str:
        rung = max((s.score.epochs for s in self.store.scores(row.key, way=SEARCH)), default=0)
        epochs = f"{rung} epoch{'s' if rung != 1 else ''}"
        share = f"third after {epochs}"
        return f"not among the best {share}, all objectives together"
