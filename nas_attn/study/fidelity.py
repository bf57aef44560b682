"""The runs behind `nas-attn fidelity`: a spread of placements, trained as the target says and in cheap settings.

Every way of training (start, share of the images, rungs) is an arm; the study keeps what it says, and its runs stand in
the study's queue. So a killed run goes on from its checkpoint, more seeds or placements add to what is there, any worker
may share the work, and no trial is made. Seeds and backbones of the reference are none of the cheap settings', so that
their noise has nothing in common.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from nas_attn.analysis.fidelity import Fidelity, Runs, Setting, assess
from nas_attn.errors import DataError, MeasurementError, NasAttnWarning, OperationError, RecipeError
from nas_attn.evaluation.datasets import load_data
from nas_attn.evaluation.given import check_weights
from nas_attn.evaluation.kept_sites import plan_for
from nas_attn.evaluation.limits import wanted
from nas_attn.evaluation.ways import keep_way
from nas_attn.recipe import DataSection, TrainingSection, objective_name
from nas_attn.records import ResolvedPlacement, Score
from nas_attn.space import parse, resolve
from nas_attn.storage import Lease, Run, RunRow
from nas_attn.study.fidelity_plan import (
    FEWEST,
    REFERENCE_SEEDS,
    Arm,
    FidelityPlan,
    arms,
    metrics,
    networks,
    primary,
)
from nas_attn.study.opening import open_part
from nas_attn.study.progress import duration
from nas_attn.study.searching import Options, with_worker
from nas_attn.study.worker import Duties, Worker
from nas_attn.waiting import Interrupted

PURPOSE = "fidelity"
PRIORITY = 40


class FidelityStudy:
    """The runs of one plan in one study."""

    def __init__(self, plan: FidelityPlan, url: str, options: Options) -> None:
        """Loads the data, and makes a place for the runs where the recipe has no study.

        Raises:
            UserError: the recipe cannot be carried out, or its space holds too few placements; nothing has been written.
            StorageError: the database cannot be opened.
        """
        self.plan, self._options = plan, options
        self.recipe = plan.recipe
        dataset = load_data(self.recipe, device="cpu")
        self._images = None if dataset is None else len(dataset.train)
        self._check_subsets()
        first = plan_for(self.recipe, dataset)  # what is wrong is said before anything is written
        check_weights(first)
        networks(plan, first.space)
        self.opened = open_part(self.recipe, url, PURPOSE)
        self.database, self.store = self.opened.database, self.opened.store
        self.base = plan_for(self.recipe, dataset, store=self.store)
        self.placements = networks(plan, self.base.space)
        self.reference, self.cheap = arms(plan)
        trainings = {arm: self._training(arm) for arm in (self.reference, *self.cheap)}
        self.ways = {arm: keep_way(self.store, training, self._data(arm)) for arm, training in trainings.items()}
        self._forms = {arm: self._in_form(training.resolved_init) for arm, training in trainings.items()}
        """The placements as each arm trains them."""
        self._latencies: dict[str, float] = {}
        self._spent_s, self._epochs = 0.0, 0.0
        """Of training, by this process."""

    # ------------------------------------------------------------------------------------ arms

    def _check_subsets(self) -> None:
        """A share that leaves a class without an image is said now, not when its first run comes."""
        for share in self.plan.subsets:
            subset = self.train_subset(share)
            if subset != self.recipe.data.train_subset:
                data = self.recipe.data.model_copy(update={"train_subset": subset})
                try:
                    load_data(self.recipe.model_copy(update={"data": data}), device="cpu")
                except DataError as error:
                    raise DataError(f"--subsets {share:g}: {error}; give --subsets 1") from error

    def _training(self, arm: Arm) -> TrainingSection:
        """How an arm trains; what has no influence on that is left at its default."""
        base = self.recipe.target_training if arm == self.reference else self.recipe.training
        weights = self.recipe.target_training.weights or self.recipe.training.weights
        changed = {
            "start": arm.start,
            "weights": weights if arm.start == "pretrained" else None,
            "rungs": list(arm.rungs),
            "seeds": 1,
            "threads": None,
        }
        return TrainingSection.model_validate(base.model_dump() | changed)

    def _data(self, arm: Arm) -> DataSection:
        return self.recipe.data.model_copy(update={"train_subset": self.train_subset(arm.subset)})

    def train_subset(self, share: float) -> int | None:
        """Training images that a share of them comes to, as a recipe says it."""
        if share == 1 or self._images is None:
            return self.recipe.data.train_subset
        return round(share * self._images)

    def _in_form(self, init: str) -> list[ResolvedPlacement]:
        return [resolve(parse(placement.text), self.base.sites, init=init) for placement in self.placements]

    # ------------------------------------------------------------------------------------ runs

    def runs(self, arm: Arm) -> list[Run]:
        """An arm's runs, seed by seed; the reference starts from backbones of its own."""
        number = self.recipe.training.backbones
        own = REFERENCE_SEEDS if arm == self.reference else 0
        return [
            Run(
                placement.key,
                placement.text,
                seed,
                own + seed % number if arm.start == "backbone" else 0,
                self.ways[arm],
                PURPOSE,
                PRIORITY,
            )
            for seed in arm.seeds
            for placement in self._forms[arm]
        ]

    def work(self) -> str:
        """Trains what is left, and measures latencies where they count. Returns `complete`, `time` or `stopped`.

        Raises:
            RecipeError: the evaluator has not scored one run.
            OperationError: something outside the user's input failed.
        """
        return with_worker(self.opened, self._options, self._train_and_measure)

    def train(self) -> str:
        """Does what is left of the runs, sharing it with other processes; returns and raises as `work`."""
        return with_worker(self.opened, self._options, lambda worker: worker.run([_Runs(worker, self)]))

    def _train_and_measure(self, worker: Worker) -> str:
        ended = worker.run([_Runs(worker, self)])
        if ended == "complete" and "latency" in wanted(self.recipe):
            self._measure(worker)
        return "stopped" if worker.stop() else ended

    def progress(self) -> tuple[int, int]:
        """Runs done (or failed for good) and runs in all."""
        total = sum(len(self.runs(arm)) for arm in self.ways)
        return total - sum(map(len, self.open().values())), total

    def open(self) -> dict[Arm, list[Run]]:
        """Runs that have neither been done nor failed."""
        ended = {row.run.identity for row in self.store.queue.rows() if row.state in ("done", "failed")}
        return {arm: [run for run in self.runs(arm) if run.identity not in ended] for arm in self.ways}

    def note(self, run: Run, scores: Sequence[Score]) -> str:
        """How far the runs are, after one that this process did."""
        arm = next(arm for arm, way in self.ways.items() if way == run.way and run.seed in arm.seeds)
        self._epochs += arm.cost
        self._spent_s += sum(score.wall_s for score in scores)
        done, total = self.progress()
        left = sum(arm.cost * len(runs) for arm, runs in self.open().items())
        seconds = self._spent_s / self._epochs * left / self._options.share.machine
        so_far = f"[run {done}/{total}, about {duration(seconds)} left]" if left else f"[run {done}/{total}]"
        return f"{so_far} {arm}, seed {run.seed}: {run.placement}"

    def _measure(self, worker: Worker) -> None:
        """A latency session for each placement. One is enough here: both fronts are drawn over the same latencies."""
        try:
            measurer = worker.benches.search.measurer
            for index, placement in enumerate(self.placements):
                if worker.stop() or measurer is None or not measurer.fits:
                    return
                measurer.measure(placement, self.placements[index + 1 :])
        except Interrupted:
            return
        except MeasurementError as error:
            self._options.say(f"{error}; MACs take the place of latency")
            return
        assert measurer is not None
        latencies = measurer.latencies({placement.key: placement.text for placement in self.placements})
        self._latencies = {key: latency.ratio for key, latency in latencies.items()}

    # ------------------------------------------------------------------------------------ results

    def result(self) -> Fidelity:
        """What the runs say. Placements of which a run failed are left out, with a warning.

        Raises:
            OperationError: too few placements have all their runs.
        """
        complete = [self._complete(arm) for arm in self.ways]
        kept = [i for i in range(len(self.placements)) if all(flags[i] for flags in complete)]
        if len(kept) < FEWEST:
            raise OperationError(
                f"{len(kept)} of {len(self.placements)} placements have all their runs, too few for an order: the others failed"
                if not any(self.open().values())
                else "the runs are not finished: give the same command again"
            )
        for i in sorted(set(range(len(self.placements))) - set(kept)):
            text = self.placements[i].text
            warnings.warn(f"'{text}' is left out: a run of it failed", NasAttnWarning, stacklevel=2)
        cost, costs = self._costs([self.placements[i] for i in kept])
        metric = objective_name(primary(self.recipe))
        (reference,) = (runs for runs in self._runs(self.reference, kept) if runs.metric == metric)
        cheap = [runs for arm in self.cheap for runs in self._runs(arm, kept)]
        order = {name: i for i, name in enumerate(self.plan.starts)}
        cheap.sort(key=lambda runs: (order[runs.start], -runs.subset, runs.rungs[-1]))
        texts = [self.placements[i].text for i in kept]
        return assess(texts, np.array(costs), cost, reference, cheap, seed=self.recipe.search.seed)

    def changes(self, setting: Setting) -> dict[str, Any]:
        """What the recipe has to say otherwise for a setting: dotted keys -> values, None for what must not be there."""
        training = self.recipe.training
        said: dict[str, Any] = {"start": setting.start, "rungs": list(setting.rungs), "seeds": setting.seeds}
        if setting.start != "pretrained":
            said["weights"] = None
        differing = {f"training.{key}": value for key, value in said.items() if getattr(training, key) != value}
        if setting.subset < 1:
            differing["data.train_subset"] = self.train_subset(setting.subset)
        return differing

    def _complete(self, arm: Arm) -> list[bool]:
        """Per placement, whether all of its runs are done."""
        done = {(run.key, run.seed) for run in self._done(arm)}
        return [all((placement.key, seed) in done for seed in arm.seeds) for placement in self._forms[arm]]

    def _done(self, arm: Arm) -> list[Run]:
        """The runs with a score at the last rung, by all metrics that are asked for."""
        last, names = len(arm.rungs) - 1, metrics(self.recipe).keys()
        scored = {
            (s.key, s.score.seed, s.backbone)
            for s in self.store.scores(way=self.ways[arm])
            if s.score.rung == last and names <= s.score.metrics.keys()
        }
        return [run for run in self.runs(arm) if (run.key, run.seed, run.backbone) in scored]

    def _costs(self, placements: Sequence[ResolvedPlacement]) -> tuple[str, list[float]]:
        if all(placement.key in self._latencies for placement in placements):
            return "latency", [self._latencies[placement.key] for placement in placements]
        return "macs", [float(self.base.cost(placement).macs) for placement in placements]

    def _runs(self, arm: Arm, kept: Sequence[int]) -> list[Runs]:
        """An arm's runs by rung and metric."""
        resolved = self._forms[arm]
        mine = {(run.key, run.seed, run.backbone) for run in self.runs(arm)}
        scores = {
            (s.key, s.score.seed, s.score.rung): s.score
            for s in self.store.scores(way=self.ways[arm])
            if (s.key, s.score.seed, s.backbone) in mine
        }
        found = []
        for rung in range(len(arm.rungs)):
            runs = [[[scores[resolved[i].key, seed, r] for r in range(rung + 1)] for seed in arm.seeds] for i in kept]
            seconds = float(np.mean([[sum(score.device_s for score in run) for run in row] for row in runs]))
            for name, sign in metrics(self.recipe).items():
                values = sign * np.array([[run[-1].metrics[name] for run in row] for row in runs])
                found.append(Runs(arm.start, arm.subset, arm.rungs[: rung + 1], name, values, seconds))
        return found


class _Runs(Duties):
    """The agenda of a plan's runs."""

    purpose = PURPOSE

    def __init__(self, worker: Worker, study: FidelityStudy) -> None:
        super().__init__(worker)
        self._study = study

    def want(self, turn: Lease) -> bool:
        """All that are missing, the cheapest arms first."""
        there = {row.run.identity: row for row in self.worker.queue.rows()}
        missing = [run for runs in self._study.open().values() for run in runs if run.identity not in there]
        self.worker.queue.want(missing)
        return bool(missing)

    def go_on(self, run: Run, score: Score) -> bool:
        missing = [name for name in metrics(self._study.recipe) if name not in score.metrics]
        if missing:
            raise RecipeError(
                f"objectives names '{missing[0]}', but training.evaluator returned {', '.join(score.metrics)}"
            )
        return True

    def ended(self, row: RunRow, lease: Lease) -> None:
        run = row.run
        if row.state == "done":
            scores = [s.score for s in self.worker.store.scores(run.key, way=run.way) if s.score.seed == run.seed]
            self.worker.say(self._study.note(run, scores))
        else:
            self.worker.say(f"{row.state}: {self.worker.name(row)}: {row.reason}")
