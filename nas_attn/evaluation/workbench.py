"""What a worker builds once, and what it does with each candidate: count, measure, train."""

from __future__ import annotations

import io
import json
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nas_attn import attachment, backbones, data
from nas_attn.errors import CheckpointError, RecipeError
from nas_attn.evaluation.artifacts import ArtifactStore, RunFiles, read_artifact, write_artifact
from nas_attn.evaluation.evaluators import Evaluator, EvaluatorTrainer, find_evaluator
from nas_attn.evaluation.leasing import TTL_S, LeaseKeeper
from nas_attn.evaluation.measuring import Measurer
from nas_attn.evaluation.plan import Build, Plan, make_plan
from nas_attn.latency import DeviceLock
from nas_attn.recipe import DataSection, Recipe
from nas_attn.records import ALONE, Cost, Latency, ResolvedPlacement, Score, Share
from nas_attn.storage import Lease, StudyStore
from nas_attn.training import Interrupted, Trainer
from nas_attn.training.stepping import execution_on

BACKBONE = "backbone"
"""Key of the study's own backbone in the table of scores, and name of its lease and attribute."""
Stop = Callable[[], bool]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Per channel, of the images that torchvision's and nearly all of timm's weights were trained on."""


@dataclass(frozen=True, slots=True)
class Host:
    """The worker that a workbench belongs to."""

    owner: str
    """Unique name of the worker, for leases."""
    folder: Path
    """For an evaluator's own files."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`."""
    share: Share = ALONE


class Workbench:
    """Data, trainer, space and trained backbone of one study, ready to evaluate candidates."""

    def __init__(
        self,
        recipe: Recipe,
        store: StudyStore,
        artifacts: ArtifactStore,
        host: Host,
        *,
        build: Build | None = None,
        evaluator: Evaluator | None = None,
    ) -> None:
        """Args:
            build: replaces the recipe's backbone (a Python object given to `na.search`).
            evaluator: replaces the recipe's evaluator, likewise.

        Raises:
            UserError: the data, the backbone or the space cannot be had.
            MeasurementError: the study's latencies belong to another machine.
        """
        self.recipe, self.store, self._artifacts, self._host = recipe, store, artifacts, host
        self.device = pick_device(host.device)
        execution_on(recipe.training, self.device)
        name = recipe.training.evaluator
        evaluator = evaluator or (find_evaluator(name) if name else None)
        self._evaluator = evaluator and EvaluatorTrainer(evaluator, folder=host.folder, device=str(self.device))
        self.dataset = (
            None
            if recipe.data.name == "external"
            else data.load(data_section(recipe), device=self.device, share=host.share)
        )
        self.plan = plan_for(recipe, self.dataset, build=build)
        self.measurer = (
            Measurer(self.plan, store, seed=zlib.crc32(host.owner.encode())) if "latency" in wanted(recipe) else None
        )
        self._weights: Mapping[str, Tensor] | None = None

    # ------------------------------------------------------------------------------------ one candidate

    def check(self, resolved: ResolvedPlacement, companions: Sequence[ResolvedPlacement]) -> Checked:
        """Counts and measures a candidate, before any training.

        Args:
            companions: candidates whose latency could use another session.
        """
        cost = self.plan.cost(resolved)
        latency = None
        reason = over_limits(self.recipe, cost, None)
        if not reason and self.measurer is not None:
            measurer = self.measurer
            latency = measurer.measure(resolved, companions) if measurer.fits else measurer.known(resolved)
            reason = over_limits(self.recipe, cost, latency)
        return Checked(cost, latency, reason)

    def train(
        self,
        resolved: ResolvedPlacement,
        *,
        seed: int,
        lease: Lease,
        purpose: str,
        go_on: Callable[[Score], bool],
        stop: Stop,
    ) -> tuple[Score, ...]:
        """Trains one candidate with one seed, rung by rung; goes on from its last checkpoint where there is one.

        Scores are in the store when this returns. `go_on` decides after each rung.

        Raises:
            Interrupted: `stop` said so; a checkpoint is stored.
            LeaseLost: another worker has taken the candidate over.
            TrainingError: the loss diverged, the memory did not suffice.
        """
        files = self.files(resolved, seed=seed, lease=lease, purpose=purpose)

        def on_rung(score: Score) -> bool:
            self.store.add_score(resolved.key, score, purpose=purpose, lease=lease)
            return go_on(score)

        model = self.start(resolved, seed, stop)
        rungs = self.recipe.training.rungs
        if self._evaluator is not None:
            scores = self._evaluator.fit(
                model,
                key=resolved.key,
                placement=resolved.text,
                seed=seed,
                rungs=rungs,
                slot=files,
                on_rung=on_rung,
                stop=stop,
            )
        else:
            factors = candidate_factors(self.recipe, model)
            scores = self._fit(model, seed=seed, rungs=rungs, files=files, on_rung=on_rung, stop=stop, factors=factors)
        if purpose == "search" and len(scores) == len(rungs):
            self.weights(resolved.key, lease).save(weights_blob(model), rungs[-1])
        return scores

    def files(self, resolved: ResolvedPlacement, *, seed: int, lease: Lease, purpose: str) -> RunFiles:
        """The checkpoints of one candidate's run."""
        return RunFiles(self.store, self._artifacts, f"{purpose}:{resolved.key}:{seed}", lease)

    def weights(self, key: str, lease: Lease) -> RunFiles:
        """The trained weights of a candidate, for export."""
        return RunFiles(self.store, self._artifacts, weights_run(key), lease)

    def start(self, resolved: ResolvedPlacement, seed: int, stop: Stop) -> nn.Module:
        """The candidate's network as its training begins."""
        model = self.plan.bare(seed)
        weights = self.start_weights(stop)
        if weights is not None:
            model.load_state_dict(dict(weights))
        return self.plan.attach(model, resolved, seed).to(self.device)

    # ------------------------------------------------------------------------------------ starts

    def start_weights(self, stop: Stop) -> Mapping[str, Tensor] | None:
        """Weights of the bare backbone that every candidate starts from; None where it starts from scratch.

        With `start = "backbone"` the first worker that gets here trains it, the others wait for it.

        Raises:
            Interrupted: `stop` said so.
        """
        section = self.recipe.training
        if section.start == "scratch" or self._weights is not None:
            return self._weights
        if section.start == "pretrained":
            self._weights = self._pretrained()
            return self._weights
        while True:
            known = self.store.get(BACKBONE)
            if known is not None:
                self._weights = read_weights(self._backbone_blob(**json.loads(known)))
                return self._weights
            lease = self.store.acquire(BACKBONE, owner=self._host.owner, ttl_s=TTL_S)
            if lease is not None:
                with LeaseKeeper(self.store, lease) as keeper:
                    if self.store.get(BACKBONE) is None:
                        self._train_backbone(keeper, stop)
            elif stop():
                raise Interrupted
            else:
                time.sleep(0.5)

    def _backbone_blob(self, artifact: str, sha256: str) -> bytes:
        try:
            return read_artifact(self._artifacts, artifact, sha256)
        except CheckpointError as error:
            raise CheckpointError(
                f"the trained backbone that all candidates of this study start from is lost ({error}): restore the study's "
                "artifacts folder, or start a study under another name"
            ) from None

    def _pretrained(self) -> Mapping[str, Tensor]:
        weights = self.recipe.training.weights
        assert weights is not None  # the recipe's schema sees to it
        plan = self.plan
        if weights == "default":
            source = backbones.build(
                self.recipe.backbone, input_shape=plan.input_shape, classes=plan.classes, pretrained=True
            )
            return source.state_dict()
        model = plan.bare(self.recipe.search.seed)
        backbones.load_weights(model, weights)
        return model.state_dict()

    def _train_backbone(self, keeper: LeaseKeeper, stop: Stop) -> None:
        recipe, lease = self.recipe, keeper.lease
        files = RunFiles(self.store, self._artifacts, BACKBONE, lease)
        model = self.plan.bare(recipe.search.seed).to(self.device)

        def on_rung(score: Score) -> bool:
            self.store.add_score(BACKBONE, score, purpose=BACKBONE, lease=lease)
            return True

        self._fit(
            model,
            seed=recipe.search.seed,
            rungs=[recipe.training.backbone_epochs],
            files=files,
            on_rung=on_rung,
            stop=lambda: stop() or keeper.lost,
            factors=Factors(rate=recipe.training.learning_rate),
        )
        artifact, sha256 = write_artifact(self._artifacts, weights_blob(model))
        self.store.renew(lease)
        self.store.put(BACKBONE, json.dumps({"artifact": artifact, "sha256": sha256}))
        files.clear()

    def _fit(
        self,
        model: nn.Module,
        *,
        seed: int,
        rungs: Sequence[int],
        files: RunFiles,
        on_rung: Callable[[Score], bool],
        stop: Stop,
        factors: Factors,
    ) -> tuple[Score, ...]:
        """The built-in training, which yields the device to latency sessions between its steps."""
        assert self.dataset is not None  # with data of its own, an evaluator trains
        with DeviceLock.for_section(self.recipe.latency).shared(self._settle) as hold:
            trainer = Trainer(self.recipe.training, self.dataset, device=self.device, batch_hook=hold.yield_)
            return trainer.fit(
                model,
                seed=seed,
                rungs=rungs,
                learning_rate=factors.rate,
                slot=files,
                on_rung=on_rung,
                stop=stop,
                attention_parameters=factors.attention,
                backbone_factor=factors.backbone,
            )

    def _settle(self) -> None:
        """Waits for what the host has told the GPU to do, some batches ahead."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True, slots=True)
class Checked:
    """What is known of a candidate before it is trained."""

    cost: Cost
    latency: Latency | None
    """None where it is not needed, or is left to a worker on another machine."""
    reason: str
    """Why it is infeasible; empty where it is not."""


@dataclass(frozen=True, slots=True)
class Factors:
    """Learning rates of one training."""

    rate: float
    attention: frozenset[str] = frozenset()
    """Names of the attention modules' parameters."""
    backbone: float = 1.0


def candidate_factors(recipe: Recipe, model: nn.Module) -> Factors:
    """Learning rates of a candidate: those of fine-tuning where it starts from trained weights."""
    section = recipe.training
    modules = attachment.attached_modules(model)
    attention = frozenset(f"{path}.{name}" for path, module in modules.items() for name, _ in module.named_parameters())
    if section.start == "scratch":
        return Factors(section.learning_rate, attention)
    if section.backbone_learning_rate == 0:
        attention |= head_parameters(model)  # frozen, a head for other classes would stay random
    rate = section.finetune_learning_rate or section.learning_rate / 5
    return Factors(rate, attention, section.backbone_learning_rate)


def head_parameters(model: nn.Module) -> frozenset[str]:
    """Names of the last linear layer's parameters: the classifier of all common networks."""
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    last = layers[-1:]
    return frozenset(n for n, _ in model.named_parameters() if any(n.startswith(f"{name}.") for name in last))


def data_section(recipe: Recipe) -> DataSection:
    """The recipe's data; a source's own weights come with the normalisation that they were trained with."""
    section = recipe.data
    if recipe.training.weights != "default" or section.mean is not None:
        return section
    return section.model_copy(update={"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)})


@contextmanager
def intra_op_threads(threads: int | None) -> Iterator[None]:
    """Torch with so many threads inside; None: as it is. Results on a CPU depend on their number, to rounding."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def pick_device(name: str) -> torch.device:
    """The training device that a name means; `auto` takes a GPU where there is one.

    Raises:
        RecipeError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise RecipeError(f"unknown device '{name}': give auto, cpu, cuda or cuda:1")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RecipeError(f"device '{name}' is not there: this machine has {torch.cuda.device_count()} CUDA devices")
    return device


def plan_for(recipe: Recipe, dataset: data.Dataset | None, *, build: Build | None = None) -> Plan:
    """A recipe's plan with the shape and classes of its data."""
    if dataset is not None:
        return make_plan(recipe, dataset.input_shape, len(dataset.classes), build=build)
    assert recipe.data.input_shape is not None  # the recipe's schema sees to it
    return make_plan(recipe, recipe.data.input_shape, recipe.data.classes or 1, build=build)


def wanted(recipe: Recipe) -> set[str]:
    """The quantities that a recipe's objectives and limits need."""
    needed = {objective.removeprefix("-") for objective in recipe.objectives}
    if recipe.limits.max_latency_ratio is not None:
        needed.add("latency")
    return needed


def over_limits(recipe: Recipe, cost: Cost, latency: Latency | None) -> str:
    """Why a candidate is infeasible, one sentence; empty where it is not. A latency counts by its interval's low end."""
    limits = recipe.limits
    if limits.max_parameters is not None and cost.parameters > limits.max_parameters:
        return f"{cost.parameters:,} parameters are more than limits.max_parameters = {limits.max_parameters:,}"
    if limits.max_macs is not None and cost.macs > limits.max_macs:
        return f"{cost.macs:,} MACs are more than limits.max_macs = {limits.max_macs:,}"
    top = limits.max_latency_ratio
    if latency is not None and top is not None and latency.low > top:
        return f"its latency ratio {latency.ratio:.3f} ({latency.low:.3f} to {latency.high:.3f}) is above limits.max_latency_ratio = {top}"
    return ""


def weights_run(key: str) -> str:
    """Name under which a candidate's trained weights are kept."""
    return f"weights:{key}"


def weights_blob(model: nn.Module) -> bytes:
    """A network's state_dict as bytes that `torch.load(weights_only=True)` reads."""
    buffer = io.BytesIO()
    torch.save({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}, buffer)
    return buffer.getvalue()


def read_weights(blob: bytes) -> dict[str, Tensor]:
    """The state_dict that `weights_blob` wrote, on the CPU."""
    weights: dict[str, Tensor] = torch.load(io.BytesIO(blob), map_location="cpu", weights_only=True)
    return weights
