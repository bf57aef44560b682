"""Builds data and trainer once per training protocol; counts, measures and trains candidates with
them.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nas_attn.attention.choice import Choice
from nas_attn.backbones.weight_files import pack, unpack
from nas_attn.data.dataset import Dataset
from nas_attn.errors import (
    BackboneLost,
    CheckpointError,
    NasAttnWarning,
    TrainingError,
    Unmeasurable,
)
from nas_attn.recipe import tasks
from nas_attn.recipe.purposes import BACKBONE, RETRAIN, SEARCH, division_name, test_protocol
from nas_attn.recipe.recipe import Recipe
from nas_attn.recipe.tables import Costs
from nas_attn.space.placement import BARE, Assignment, Placement, ResolvedPlacement
from nas_attn.space.search_space import BACKBONE_SITE
from nas_attn.storage.artifacts import (
    ArtifactStore,
    RunFiles,
    backbone_key,
    backbone_name,
    keep_curve,
    read_artifact,
    run_folder,
    weights_run,
    write_artifact,
)
from nas_attn.storage.labels import Labels, keep_labels
from nas_attn.storage.records import Arithmetic, Latency, Score
from nas_attn.storage.rows import Lease, Run
from nas_attn.storage.store import StudyStore
from nas_attn.training.evaluators import (
    Evaluator,
    EvaluatorTrainer,
    Job,
    evaluator_of,
    require_participation,
)
from nas_attn.training.faults import own_fault, require_memory, shared_fault
from nas_attn.training.images import keep_or_compare
from nas_attn.training.measurer import Measurer
from nas_attn.training.numerics import execution_on, study_arithmetic, threads_for
from nas_attn.training.parameters import LearningRates
from nas_attn.training.plan import (
    OWN_PROTOCOL,
    Plan,
    kept_sites,
    over_limits,
    plan_for,
    protocol_recipe,
    wanted,
)
from nas_attn.training.run import NO_CALLBACKS, Callbacks
from nas_attn.training.starts import calibration, given_weights, pick_device
from nas_attn.training.study_trainer import StudyTrainer
from nas_attn.training.tasks.data import reading_of

Stop = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Workplace:
    """What all workbenches of one worker have in common."""

    store: StudyStore
    artifacts: ArtifactStore
    # unique name of the worker, for leases
    owner: str
    folder: Path
    # `auto`, `cpu`, `cuda`, `cuda:1`
    device: str = "auto"
    # that share this machine
    workers: int = 1
    # intra-op threads; None: the recipe's, or a share of the cores
    threads: int | None = None
    # replaces the recipe's evaluator: a Python object that was given to `na.search`
    evaluator: Evaluator | None = None


@dataclass
class Benches:
    """The workbenches of one worker, each made when its first run is taken; equal data is loaded
    once.
    """

    workplace: Workplace
    plan: Plan
    _made: dict[tuple[str, Choice | None], Workbench] = field(default_factory=dict, init=False)

    @property
    def search(self) -> Workbench:
        """The workbench of the search's own protocol, which also counts and measures."""
        return self.of(SEARCH)

    def of(self, protocol: str, other: Choice | None = None) -> Workbench:
        """The workbench of this protocol, for the study's backbone or another one. Raises
        UserError: something is missing. Raises MeasurementError.
        """
        if (protocol, other) in self._made:
            return self._made[protocol, other]
        if other is None:
            store = self.workplace.store
            recipe = protocol_recipe(store, protocol)
            dataset = self._dataset(recipe)
            plan = replace(self.plan, recipe=recipe)
            now = self.plan.recipe
            if recipe.data != now.data or recipe.network != now.network:
                plan = plan_for(recipe, dataset, build=self.plan.own_build, kept=kept_sites(store))
        else:
            plan = self.of(protocol).plan.like(other)
            dataset = self._dataset(plan.recipe)
        made = Workbench(plan, dataset, self.workplace, protocol)
        self._made[protocol, other] = made
        return made

    def of_run(self, run: Run) -> Workbench:
        """The workbench that trains a run: of its protocol and its backbone. Raises as `of`."""
        return self.of(run.protocol, self.of(run.protocol).plan.resolved(run.placement).other)

    def _dataset(self, recipe: Recipe) -> Dataset | None:
        reading = reading_of(recipe)
        section = reading.section(recipe)
        for bench in self._made.values():
            same = reading_of(bench.recipe).section(bench.recipe) == section
            if same and bench.dataset is not None:
                return bench.dataset
        place = self.workplace
        device = pick_device(place.device)
        dataset = reading.load(recipe, device=device, workers=place.workers)
        keep_or_compare(place.store, recipe, dataset)
        return dataset


@dataclass
class Workbench:
    """Data, trainer, space and trained backbone for one training protocol of a study and one
    backbone, the study's or another one that it is compared with.
    """

    # of the training protocol and the backbone
    plan: Plan
    # as the backbone takes it; None if an evaluator brings its own
    dataset: Dataset | None
    workplace: Workplace
    # the training protocol's name
    protocol: str

    def __post_init__(self) -> None:
        plan = self.plan
        dataset = self.dataset
        workplace = self.workplace
        recipe = plan.recipe
        self.recipe = recipe
        self.store = workplace.store
        self._artifacts = workplace.artifacts
        self.device = pick_device(workplace.device)
        execution_on(recipe.training, self.device)
        self.task = tasks.of(recipe)
        self.measurer: Measurer | None = None
        if self.protocol == SEARCH and plan.other is None and "latency" in wanted(recipe):
            images = calibration(recipe, dataset)
            self.measurer = Measurer(plan, self.store, workplace.owner, images)
        threads = threads_for(recipe.training, workplace.threads, workers=workplace.workers)
        evaluator = workplace.evaluator or evaluator_of(recipe)
        # an evaluator computes as it wants
        self.arithmetic: Arithmetic | None = None
        if dataset is not None and evaluator is None:
            bare = plan.bare(0)
            self.arithmetic = study_arithmetic(self.store, recipe, self.protocol, self.device, bare)
        self._own = StudyTrainer(plan, dataset, self.store, self.device, threads, self.arithmetic)
        self._trainer: StudyTrainer | EvaluatorTrainer = self._own
        if evaluator is not None:
            self._trainer = EvaluatorTrainer(
                evaluator, folder=workplace.folder, device=str(self.device), threads=threads
            )
        # number of the backbone whose weights are kept
        self._kept = -1
        self._weights: Mapping[str, Any] | None = None
        if recipe.training.start == "pretrained":
            self.start_weights(0)

    def check(
        self, resolved: ResolvedPlacement, companions: Sequence[ResolvedPlacement]
    ) -> Checked:
        """Counts and measures a candidate before training, with companions. Raises TrainingError:
        it does not run, or needs too much memory. Raises MeasurementError: nothing can be measured
        here.
        """
        with own_fault("building it", torch.device("cpu")):
            cost = self.plan.cost(resolved)
        latency = None
        reason = over_limits(self.recipe, cost, None)
        if not reason and self.arithmetic is not None and self.device.type == "cpu":
            require_memory(cost["params"])
        if not reason and self.measurer is not None:
            latency = self.latency(resolved, companions)
            reason = over_limits(self.recipe, cost, latency)
        return Checked(cost, latency, reason)

    def latency(
        self, resolved: ResolvedPlacement, companions: Sequence[ResolvedPlacement]
    ) -> Latency | None:
        """A candidate's latency, measured if it is not known; None if another machine must measure
        it.
        """
        # called only if latency is needed
        assert self.measurer is not None
        try:
            with own_fault("measuring it", torch.device(self.recipe.latency.device)):
                return self.measurer.measure(resolved, companions)
        except Unmeasurable as error:
            if error.network != resolved.key:
                raise
            raise TrainingError(f"its latency cannot be measured: {error}") from error

    def train(
        self,
        run: Run,
        resolved: ResolvedPlacement,
        *,
        lease: Lease,
        go_on: Callable[[Score], bool],
        stop: Stop,
        trained: Callable[[nn.Module], None] | None = None,
    ) -> tuple[Score, ...]:
        """Carries out one run from its last checkpoint, and stores its scores.

        Args:
            run: what is trained.
            resolved: its network.
            lease: the worker's right to do so.
            go_on: told each stored score; False ends the run there.
            stop: asked between steps; True interrupts the run.
            trained: gets the network of the last rung.

        Raises:
            Interrupted: `stop` returned True.
            LeaseLost: another worker has the run.
            BackboneLost: its backbone must be trained first.
            TrainingError: it cannot be trained, or its attention took no part.
        """
        # outside `own_fault`: this failure is not the candidate's
        self.start_weights(run.backbone)
        with own_fault("training it", self.device):
            model = self.start(resolved, run.seed, run.backbone)

            def on_rung(score: Score) -> bool:
                # only if the network's attention took part in it
                require_participation(self._trainer.scored(model), resolved, self.plan.input_shape)
                self._keep_labels(self.protocol, run.seed)
                kept = score.kept
                if score.rung < self.recipe.training.last_rung:
                    # mistakes of early rungs are not shown anywhere
                    kept = replace(kept, answers=None)
                self.store.add_score(run, kept, lease=lease)
                return go_on(score)

            on_epoch = keep_curve(self.store, run, lease) if run.purpose == RETRAIN else None
            job = self._job(run, resolved, lease, Callbacks(on_rung, stop, on_epoch))
            scores = self._trainer.fit(model, job)
        if trained is not None and len(scores) == len(self.recipe.training.rungs):
            trained(model)
        return scores

    def _job(
        self, run: Run, resolved: ResolvedPlacement, lease: Lease, callbacks: Callbacks
    ) -> Job:
        """A run, as it is trained and tested."""
        return Job(
            run.seed,
            resolved,
            self.recipe.training.rungs,
            self.files(run, lease),
            callbacks,
            folder=run_folder(self.store, run),
            needed=self.protocol != SEARCH,
        )

    def test(self, run: Run, model: nn.Module, *, lease: Lease) -> Score:
        """Scores a network on the test split, once, and logs this beforehand. Raises DataError,
        TrainingError.
        """
        of_test = replace(run, protocol=test_protocol(run.protocol))
        for stored in self.store.scores(run.key, protocol=of_test.protocol):
            if (stored.score.seed, stored.backbone) == (run.seed, run.backbone):
                return stored.score
        reason = f"{run.purpose} {run.files}"
        self.store.log_test_reading(reason)
        resolved = self.plan.resolved(run.placement)
        job = replace(self._job(run, resolved, lease, NO_CALLBACKS), reason=reason)
        with own_fault("testing it", self.device):
            score = self._trainer.test(model, job)
        self._keep_labels(of_test.protocol, run.seed)
        self.store.add_score(of_test, score, lease=lease)
        return score

    def _keep_labels(self, protocol: str, seed: int) -> None:
        """Stores the labels of the validation images, and of the test images for their scores."""
        dataset = self.dataset
        if dataset is None or self.arithmetic is None:
            return
        # a mask or boxes are no label: then the classes' names are kept only
        kept = slice(None if self.task.per_image else 0)
        # a protocol of one's own may have other data
        if dataset.divide is not None and not protocol.startswith(OWN_PROTOCOL):
            divided = dataset.of_seed(seed)
            drawn = divided.drawn
            assert drawn is not None
            numbers = divided.validation.labels[kept].cpu().numpy().astype(np.int32)
            labels = Labels(dataset.classes, numbers, drawn.numbers, drawn.divided)
            keep_labels(self.store, division_name(seed), labels)
        split = None
        if protocol == SEARCH:
            split = dataset.validation
        elif protocol == test_protocol(self.protocol) and self.task.per_image:
            split = self._own.test_split
        if split is not None:
            numbers = split.labels[kept].cpu().numpy()
            keep_labels(self.store, protocol, Labels(dataset.classes, numbers))

    def train_backbone(self, run: Run, *, lease: Lease, stop: Stop) -> None:
        """Trains one of the study's backbones and keeps it; OperationError if that fails."""
        section = self.recipe.training
        resolved = self.plan.resolved(run.placement)
        model = self.plan.bare(run.seed).to(self.device)

        def on_rung(score: Score) -> bool:
            self.store.add_score(run, score, lease=lease)
            return True

        shared = shared_fault() if run.key == BACKBONE else nullcontext()
        with shared, own_fault(f"training backbone {run.backbone}", self.device):
            job = self._job(run, resolved, lease, Callbacks(on_rung, stop))
            rates = LearningRates(section.learning_rate)
            self._own.fit(model, replace(job, rungs=[section.backbone_epochs], rates=rates))
        written = write_artifact(self.store, self._artifacts, pack(model))
        self.store.check(lease)
        self.store.backbones.put(backbone_name(run.backbone, run.key), json.dumps(written))

    def files(self, run: Run, lease: Lease) -> RunFiles:
        return RunFiles(self.store, self._artifacts, run.files, lease)

    def keep_weights(self, name: str, model: nn.Module, lease: Lease) -> None:
        """Keeps a trained network's weights under a name, or records why that failed."""
        lost = self._trainer.lost
        if not lost:
            try:
                files = RunFiles(self.store, self._artifacts, weights_run(name), lease)
                files.keep(pack(model), self.recipe.training.rungs[-1])
            except CheckpointError as error:
                lost = str(error)
        if lost:
            warnings.warn(f"trained weights are lost: {lost}", NasAttnWarning, stacklevel=2)
        if lost or self.store.weights_lost.get(name):
            self.store.weights_lost.put(name, lost)

    def start(self, resolved: ResolvedPlacement, seed: int, backbone: int) -> nn.Module:
        """The candidate's network as its training begins, from the backbone of this number."""
        network = self.plan.network(resolved, seed, self.start_weights(backbone))
        return network.to(self.device)

    def needs_backbone(self, run: Run) -> Run | None:
        """The run that must first train the backbone of `run`; None if it is there already, or not
        needed.
        """
        if self.recipe.training.start != "backbone":
            return None
        other = self.plan.resolved(run.placement).other
        key = backbone_key(other)
        if self.store.backbones.get(backbone_name(run.backbone, key)):
            return None
        seed = self.recipe.first_seed + run.backbone
        bare = BARE if other is None else Placement((Assignment(BACKBONE_SITE, other),))
        return Run(key, bare, seed, run.backbone, SEARCH, BACKBONE)

    def start_weights(self, backbone: int) -> Mapping[str, Any] | None:
        """Weights of the bare backbone from which a run starts; None if it starts from scratch."""
        start = self.recipe.training.start
        # given weights are the same for all of the study's backbones
        if start == "pretrained" and self._weights is None:
            self._weights = given_weights(self.plan)[0]
        elif start == "backbone" and self._kept != backbone:
            self._weights = self._trained_weights(backbone)
            self._kept = backbone
        return self._weights

    def _trained_weights(self, backbone: int) -> Mapping[str, Any]:
        """Weights that the study has trained. Raises BackboneLost: they must be trained first."""
        name = backbone_name(backbone, backbone_key(self.plan.other))
        content = self.store.backbones.get(name)
        if not content:
            raise BackboneLost(f"backbone {backbone} is missing: it is trained first")
        try:
            return unpack(read_artifact(self._artifacts, **json.loads(content)))
        except CheckpointError as error:
            self.store.backbones.put(name, "")
            raise BackboneLost(
                f"the trained backbone {backbone} is lost ({error}): it is trained again"
            ) from None


@dataclass(frozen=True, slots=True)
class Checked:
    """Cost, latency and feasibility of a candidate before its training."""

    cost: Costs
    # None: not needed, or left to a worker on another machine
    latency: Latency | None
    # why it is infeasible; else empty
    reason: str
