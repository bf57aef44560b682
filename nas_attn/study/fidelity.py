"""The runs behind `nas-attn fidelity`: a spread of placements, trained long and in cheap settings.

Every way of training (start, share of the images, rungs) is an arm: a recipe of its own, kept as a part of the study's name
in the same database (`NAME~fidelity/…`), which holds its scores, leases and checkpoints. So a killed run goes on from its
checkpoint, more seeds or placements add to what is there, several processes may share the work, and no trial is made.
Seeds of the reference are none of the cheap settings', so that their noise has nothing in common.
"""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.artifacts import FileSystemArtifactStore

from nas_attn import data
from nas_attn.analysis.fidelity import Fidelity, Runs, Setting, assess
from nas_attn.errors import LeaseLost, MeasurementError, NasAttnWarning, OperationError, RecipeError, TrainingError
from nas_attn.evaluation.leasing import TTL_S, LeaseKeeper
from nas_attn.evaluation.measuring import Measurer
from nas_attn.evaluation.workbench import BACKBONE, Host, Workbench, intra_op_threads, plan_for, wanted
from nas_attn.recipe import Recipe, objective_name
from nas_attn.records import ResolvedPlacement
from nas_attn.space import parse, resolve
from nas_attn.storage import PART, Database, StudyStore
from nas_attn.study.fidelity_plan import FEWEST, Arm, FidelityPlan, arms, metrics, primary, spread
from nas_attn.study.opening import ARTIFACTS, artifacts_folder, versions
from nas_attn.study.owner import owner_name, release_dead
from nas_attn.study.searching import Options
from nas_attn.study.sharing import on_device
from nas_attn.training import Interrupted

PURPOSE = "confirm"
"""Purpose of the runs' scores: like those of a confirmation they are rows of ours, never trials."""
POLL_S = 0.5


class FidelityStudy:
    """The runs of one plan in one database."""

    def __init__(self, plan: FidelityPlan, url: str, options: Options) -> None:
        """Loads the data, and makes the parts of the database that the arms need.

        Raises:
            UserError: the recipe cannot be carried out, or its space holds too few placements; nothing has been written.
            StorageError: the database cannot be opened.
        """
        self.plan, self._options = plan, options
        self.recipe = plan.recipe
        dataset = None if self.recipe.data.name == "external" else data.load(self.recipe.data, device="cpu")
        self._images = None if dataset is None else len(dataset.train)
        self.base = plan_for(self.recipe, dataset)
        self.placements = spread(self.base.space, plan.placements, self.recipe.search.seed)
        if len(self.placements) < FEWEST:
            raise RecipeError(
                f"search space '{self.recipe.space.name}' holds {len(self.placements)} different networks, too few for an order"
            )
        self.reference, self.cheap = arms(plan)
        self._recipes = {arm: self.arm_recipe(arm) for arm in (self.reference, *self.cheap)}
        self.database = Database(url)
        name = self.recipe.name
        listed = name in [study.name for study in self.database.studies()]
        self._study = self.database.study(name) if listed else None
        """A search of this name, whose trained backbone is taken where it is the same."""
        self._stores = {arm: self._part(recipe) for arm, recipe in self._recipes.items()}
        self._forms = {arm: self._in_form(recipe.training.resolved_init) for arm, recipe in self._recipes.items()}
        """The placements as each arm trains them."""
        self._owner = owner_name()
        self._latencies: dict[str, float] = {}
        self._spent_s, self._epochs = 0.0, 0.0
        """Of training, by this process."""

    # ------------------------------------------------------------------------------------ arms

    def arm_recipe(self, arm: Arm) -> Recipe:
        """The recipe that trains as an arm does; what has no influence on that is left at its default."""
        table: dict[str, Any] = self.recipe.model_dump()
        weights = self.recipe.training.weights if arm.start == "pretrained" else None
        table["training"] |= {
            "start": arm.start,
            "weights": weights,
            "rungs": list(arm.rungs),
            "seeds": 1,
            "threads": None,
        }
        table["data"] |= {"train_subset": self.train_subset(arm.subset)}
        table |= {"objectives": [primary(self.recipe)], "search": {"seed": self.recipe.search.seed}, "limits": {}}
        table["latency"] = {"device": self.recipe.latency.device}
        return Recipe.model_validate(table)

    def train_subset(self, share: float) -> int | None:
        """Training images that a share of them comes to, as a recipe says it."""
        if share == 1 or self._images is None:
            return self.recipe.data.train_subset
        return round(share * self._images)

    def _part(self, recipe: Recipe) -> StudyStore:
        text = recipe.to_json()
        part = self.database.create_study(_part_name(recipe.name, text), recipe=text, versions=versions())
        artifacts_folder(self.database, part, self._study)
        return part

    def _in_form(self, init: str) -> list[ResolvedPlacement]:
        return [resolve(parse(placement.text), self.base.sites, init=init) for placement in self.placements]

    def _share_backbone(self, arm: Arm) -> None:
        """Takes over a backbone that was trained under the same settings."""
        store = self._stores[arm]
        if arm.start != "backbone" or store.get(BACKBONE) is not None:
            return
        mine = store.get(ARTIFACTS), _backbone_identity(self._recipes[arm])
        for other in filter(None, (self._study, *self._stores.values())):
            known = other.get(BACKBONE)
            if known is None:
                continue
            if (other.get(ARTIFACTS), _backbone_identity(Recipe.model_validate_json(other.recipe))) == mine:
                store.put(BACKBONE, known)
                return

    # ------------------------------------------------------------------------------------ runs

    def work(self) -> str:
        """Trains what is left, and measures latencies where they count. Returns `complete` or `stopped`.

        Raises:
            RecipeError: the evaluator has not scored one run.
            OperationError: something outside the user's input failed.
        """
        if self.train() == "complete" and "latency" in wanted(self.recipe):
            self._measure()
        return "stopped" if self._options.stop.is_set() else "complete"

    def train(self) -> str:
        """Does what is left of the runs, sharing it with other processes. Returns `complete` or `stopped`; raises as `work`."""
        while not self._options.stop.is_set() and any(map(self._open, self._stores)):
            for arm in (*self.cheap, self.reference):
                self._take(arm)
            if any(map(self._open, self._stores)):
                time.sleep(POLL_S)  # others do the last ones
        return "stopped" if self._options.stop.is_set() else "complete"

    def progress(self) -> tuple[int, int]:
        """Runs done (or failed for good) and runs in all."""
        total = sum(len(arm.seeds) for arm in self._stores) * len(self.placements)
        left = sum(len(self._open(arm)) for arm in self._stores)
        return total - left, total

    def _open(self, arm: Arm) -> list[tuple[ResolvedPlacement, int]]:
        """Runs that have neither reached the last rung nor failed."""
        store = self._stores[arm]
        done = self._done(arm)
        begun = {row.resource for row in store.leases()}
        left = []
        for seed in arm.seeds:
            for placement in self._forms[arm]:
                resource = _resource(placement, seed)
                failed = resource in begun and (placement.key, seed) not in done and store.get(resource) is not None
                if (placement.key, seed) not in done and not failed:
                    left.append((placement, seed))
        return left

    def _done(self, arm: Arm) -> set[tuple[str, int]]:
        """(key, seed) of the runs with a score at the last rung, by all metrics that are asked for."""
        last, names = len(arm.rungs) - 1, metrics(self.recipe).keys()
        scores = self._stores[arm].scores(purpose=PURPOSE)
        return {(s.key, s.score.seed) for s in scores if s.score.rung == last and names <= s.score.metrics.keys()}

    def _take(self, arm: Arm) -> None:
        """Does an arm's runs, but those that others are at."""
        store, stop = self._stores[arm], self._options.stop.is_set
        bench: Workbench | None = None
        release_dead(store, "")
        for placement, seed in self._open(arm):
            lease = None if stop() else store.acquire(_resource(placement, seed), owner=self._owner, ttl_s=TTL_S)
            if lease is None:
                continue
            with LeaseKeeper(store, lease) as keeper:
                self._share_backbone(arm)
                bench = bench or self._workbench(arm)
                if (placement, seed) in self._open(arm):  # else another process has just finished it
                    self._run(arm, bench, placement, seed, keeper)

    def _workbench(self, arm: Arm) -> Workbench:
        store = self._stores[arm]
        folder = artifacts_folder(self.database, store, self._study)
        host = Host(self._owner, folder / store.name.rpartition("/")[2], self._options.device, self._options.share)
        return Workbench(self._recipes[arm], store, FileSystemArtifactStore(folder), host)

    def _run(self, arm: Arm, bench: Workbench, placement: ResolvedPlacement, seed: int, keeper: LeaseKeeper) -> None:
        store, what = self._stores[arm], f"{arm}, seed {seed}: {placement.text}"
        try:
            with intra_op_threads(self._options.threads), on_device(bench.device, self._options.share):
                scores = bench.train(
                    placement,
                    seed=seed,
                    lease=keeper.lease,
                    purpose=PURPOSE,
                    go_on=lambda score: True,
                    stop=lambda: self._options.stop.is_set() or keeper.lost,
                )
            bench.files(placement, seed=seed, lease=keeper.lease, purpose=PURPOSE).clear()
            self._check_metrics(scores[-1].metrics)
            self._epochs += arm.cost
            self._spent_s += sum(score.wall_s for score in scores)
            self._options.say(f"{self._so_far()} {what}")
        except TrainingError as error:  # not tried again: it would end the same way
            if self.recipe.training.evaluator is not None and not store.scores(purpose=PURPOSE):
                raise RecipeError(
                    f"training.evaluator has not scored one run yet, so nothing was recorded: {error}"
                ) from error
            store.put(keeper.lease.resource, str(error))
            self._options.say(f"failed: {what}: {error}")
        except (Interrupted, LeaseLost):
            self._options.say(f"stopped: {what}")

    def _check_metrics(self, found: Mapping[str, float]) -> None:
        missing = [name for name in metrics(self.recipe) if name not in found]
        if missing:
            raise RecipeError(f"objectives names '{missing[0]}', but training.evaluator returned {', '.join(found)}")

    def _so_far(self) -> str:
        done, total = self.progress()
        left = sum(arm.cost * len(self._open(arm)) for arm in self._stores)
        seconds = self._spent_s / self._epochs * left / self._options.share.machine
        return f"[run {done}/{total}, about {_duration(seconds)} left]" if left else f"[run {done}/{total}]"

    def _measure(self) -> None:
        """A latency session for each placement. One is enough here: both fronts are drawn over the same latencies."""
        found = self.recipe
        what = [found.backbone.model_dump(), found.data.model_dump(), found.latency.model_dump(), self.base.space.init]
        text = json.dumps(["latency", *what], sort_keys=True)
        store = self.database.create_study(_part_name(found.name, text), recipe=text, versions=versions())
        try:
            measurer = Measurer(self.base, store, seed=found.search.seed)
            for index, placement in enumerate(self.placements):
                if self._options.stop.is_set() or not measurer.fits:
                    return
                measurer.measure(placement, self.placements[index + 1 :])
        except MeasurementError as error:
            self._options.say(f"{error}; MACs take the place of latency")
            return
        latencies = measurer.latencies({placement.key: placement.text for placement in self.placements})
        self._latencies = {key: latency.ratio for key, latency in latencies.items()}

    # ------------------------------------------------------------------------------------ results

    def result(self) -> Fidelity:
        """What the runs say. Placements of which a run failed are left out, with a warning.

        Raises:
            OperationError: too few placements have all their runs.
        """
        complete = [self._complete(arm) for arm in self._stores]
        kept = [i for i in range(len(self.placements)) if all(flags[i] for flags in complete)]
        if len(kept) < FEWEST:
            raise OperationError(
                f"{len(kept)} of {len(self.placements)} placements have all their runs, too few for an order: the others failed"
                if not any(self._open(arm) for arm in self._stores)
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
        done = self._done(arm)
        return [all((placement.key, seed) in done for seed in arm.seeds) for placement in self._forms[arm]]

    def _costs(self, placements: Sequence[ResolvedPlacement]) -> tuple[str, list[float]]:
        if all(placement.key in self._latencies for placement in placements):
            return "latency", [self._latencies[placement.key] for placement in placements]
        return "macs", [float(self.base.cost(placement).macs) for placement in placements]

    def _runs(self, arm: Arm, kept: Sequence[int]) -> list[Runs]:
        """An arm's runs by rung and metric."""
        resolved = self._forms[arm]
        scores = {(s.key, s.score.seed, s.score.rung): s.score for s in self._stores[arm].scores(purpose=PURPOSE)}
        found = []
        for rung in range(len(arm.rungs)):
            runs = [[[scores[resolved[i].key, seed, r] for r in range(rung + 1)] for seed in arm.seeds] for i in kept]
            seconds = float(np.mean([[sum(score.device_s for score in run) for run in row] for row in runs]))
            for name, sign in metrics(self.recipe).items():
                values = sign * np.array([[run[-1].metrics[name] for run in row] for row in runs])
                found.append(Runs(arm.start, arm.subset, arm.rungs[: rung + 1], name, values, seconds))
        return found


def _backbone_identity(recipe: Recipe) -> str:
    """All that determines the trained backbone."""
    of_candidates = {"start", "weights", "init", "rungs", "finetune_learning_rate", "attention_learning_rate"}
    of_candidates |= {"backbone_learning_rate", "seeds", "evaluator", "threads"}
    training = recipe.training.model_dump(exclude=of_candidates)
    parts = [recipe.backbone.model_dump(), recipe.data.model_dump(), training, recipe.search.seed]
    return json.dumps(parts, sort_keys=True)


def _part_name(study: str, content: str) -> str:
    return f"{study}{PART}fidelity/{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def _resource(placement: ResolvedPlacement, seed: int) -> str:
    return f"run/{placement.key}/{seed}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
