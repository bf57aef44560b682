"""Exports a candidate of a study as a self-contained file with its card."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from nas_attn.answer.answer import Answer
from nas_attn.answer.snapshot import CandidateView
from nas_attn.data.dataset import Dataset
from nas_attn.errors import UserError
from nas_attn.export.card import Described, card, write_card
from nas_attn.export.checking import check_onnx, scored
from nas_attn.export.formats import Format, Graph, answers_of, find_format, normalising, write
from nas_attn.export.kept_weights import searched_run, trained_model
from nas_attn.latency.runtime_files import CALIBRATION
from nas_attn.model.runs import which_are_right
from nas_attn.recipe import tasks
from nas_attn.recipe.purposes import SEARCH
from nas_attn.recipe.recipe import Recipe, TrainingSection
from nas_attn.recipe.tables import share_of_images
from nas_attn.recipe.task import Task
from nas_attn.storage.artifacts import kept_runs
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.records import ASIDE, Arithmetic, StoredScore
from nas_attn.storage.rows import Run
from nas_attn.storage.store import StudyStore
from nas_attn.training.images import compare
from nas_attn.training.numerics import PLAIN
from nas_attn.training.plan import Plan, kept_sites, plan_for, protocol_recipe
from nas_attn.training.tasks.data import reading_of
from nas_attn.training.trainer import Trainer


@dataclass(frozen=True, slots=True)
class Exported:
    path: Path
    # Markdown and JSON
    cards: tuple[Path, Path]
    facts: dict[str, Any]
    # the training as the target says whose weights these are; None: the search's own
    run: Run | None


@dataclass(frozen=True, slots=True)
class ExportWish:
    """How a candidate is to be exported."""

    format: str
    as_searched: bool = False
    """With the weights of the search's training."""
    normalize: bool = False
    """The file takes uint8 images."""
    check: bool = True
    """It is scored on the validation images; an ONNX file is compared with the network."""


@dataclass(frozen=True, slots=True)
class TrainedNetwork:
    """A candidate's network with its weights, and what belongs to it."""

    recipe: Recipe
    """How it was trained."""
    dataset: Dataset | None
    plan: Plan
    model: nn.Module
    described: Described

    @property
    def task(self) -> Task:
        return tasks.of(self.recipe)


def export_candidate(
    opened: OpenStudy,
    answer: Answer,
    view: CandidateView,
    path: Path,
    wish: ExportWish,
) -> Exported:
    """Writes a candidate's trained network and its card.

    Args:
        opened: the study.
        answer: what it has found so far.
        view: the candidate.
        path: of the file; the card goes beside it.
        wish: the format, and with which weights.

    Returns:
        What was written.

    Raises:
        UserError: the format cannot do this.
        CheckpointError: the weights are not there.
        OperationError: the network cannot be exported, or a file not be written.
    """
    kind = find_format(wish.format, tasks.of(opened.recipe))
    retrained = () if wish.as_searched else kept_runs(opened.store, view.key)
    run = next(iter(retrained), None)
    stored = _scored(opened.store, view, run)
    network = _trained_network(opened, view, run, stored)
    plan = network.plan
    given = _as_written(network, kind, normalize=wish.normalize)
    trained = "after the search's training"
    if run is not None:
        trained = f"{run.purpose}, {run.protocol}, seed {run.seed}"
    images = _calibration(network.dataset, stored=wish.normalize) if kind.quantized else None
    written = write(
        given,
        path,
        kind,
        input_shape=plan.input_shape,
        notes={
            "study": answer.now.study,
            "placement": str(view.placement),
            "init": plan.space.init,
            "key": view.key,
            "trained": trained,
        },
        interface=network.described.interface,
        images=images,
    )
    name = given.input_name if isinstance(given, Graph) else Graph.input_name
    made = {
        "file": written.name,
        "format": wish.format,
        "sha256": hashlib.sha256(written.read_bytes()).hexdigest(),
        "cost": dict(plan.cost(network.described.resolved)),
        "input": {"name": name, "normalised_inside": wish.normalize},
        "training": _training(stored, trained, network.recipe.training),
        "here": _checked_here(network, written, stored, wish),
        "check": _compared(network, written, given, wish),
        "data": _data(network.recipe, network.dataset, stored),
    }
    facts = card(answer, view, network.described, made)
    return Exported(written, write_card(facts, written), facts, run)


def _trained_network(
    opened: OpenStudy, view: CandidateView, run: Run | None, stored: StoredScore | None
) -> TrainedNetwork:
    """The network of a run; None: that of the search. `stored`: its score."""
    recipe = protocol_recipe(opened.store, SEARCH if run is None else run.protocol)
    data = reading_of(recipe)
    dataset = data.load(recipe, device="cpu")
    compare(opened.store, recipe, dataset)
    plan = plan_for(recipe, dataset, kept=kept_sites(opened.store))
    model = trained_model(opened, plan, view, run)
    own = plan.like(plan.resolved(view.placement).other)
    if data.section(own.recipe) != data.section(recipe):
        # another backbone takes the images in its own way
        dataset = data.load(own.recipe, device="cpu")
    if dataset is not None and stored is not None:
        # the images that its weights have not seen
        dataset = dataset.of_seed(stored.score.seed)
    return TrainedNetwork(own.recipe, dataset, own, model, describe(own, dataset, view))


def _as_written(network: TrainedNetwork, kind: Format, *, normalize: bool) -> nn.Module:
    """The network as a file of this format has it. UserError: it cannot normalise its images."""
    given = network.model
    if kind.graph:
        answers = answers_of(network.task)
        given = answers.computing(given, network.dataset)
        given = answers.graph(given, network.plan.input_shape)
    if not normalize:
        return given
    if network.dataset is not None and network.dataset.train.pixels.deep:
        raise UserError(
            "normalize makes a file that takes bytes, and these images have more than 8 bits"
            " (data.channels): leave it out"
        )
    return normalising(given, network.described.interface, network.task, kind)


def _compared(
    network: TrainedNetwork, written: Path, given: nn.Module, wish: ExportWish
) -> dict[str, Any] | None:
    """An ONNX file's outputs beside those of the network; None for other files, or unchecked."""
    if not wish.check or not isinstance(given, Graph) or wish.format != "onnx":
        return None
    answers = answers_of(network.task)
    images = answers.compared(network.plan, network.dataset, stored=wish.normalize)
    return check_onnx(written, given, images)


def _checked_here(
    network: TrainedNetwork, written: Path, stored: StoredScore | None, wish: ExportWish
) -> dict[str, Any] | None:
    """What the network scores, and an int8 file; None if it is not checked."""
    dataset = network.dataset
    if not wish.check or dataset is None:
        return None
    here = _here(network, dataset, stored)
    kind = find_format(wish.format, network.task)
    if kind.quantized and kind.open is not None:
        run = kind.open(written)
        value, right = scored(run, dataset, stored=wish.normalize, batch=CALIBRATION)
        here["in_file"] = {"value": value}
        if right is not None:
            here["in_file"]["right"] = right
    return here


def describe(plan: Plan, dataset: Dataset | None, view: CandidateView) -> Described:
    """What a candidate's network is built from."""
    resolved = plan.resolved(view.placement)
    task = tasks.of(plan.recipe)
    return Described(
        plan.like(resolved.other).recipe.network,
        resolved,
        plan.shape_of(resolved),
        answers_of(task).interface(plan, dataset),
        task,
    )


def _scored(store: StudyStore, view: CandidateView, run: Run | None) -> StoredScore | None:
    run = run or searched_run(store, view)
    if run is None:
        return None
    stored = store.scores(view.key, protocol=run.protocol, with_correct=True)
    scores = [s for s in stored if (s.score.seed, s.backbone) == (run.seed, run.backbone)]
    return max(scores, key=lambda s: s.score.rung, default=None)


def _training(stored: StoredScore | None, what: str, section: TrainingSection) -> dict[str, Any]:
    """What the card says of the training that gave the weights; `stored`: its score."""
    names = ("seed", "epochs", "right", "images", "precision", "arithmetic")
    facts: dict[str, Any] = {**dict.fromkeys(names), "what": what, "metrics": {}}
    if stored is None:
        return facts
    score = stored.score
    metrics = {name: value for name, value in score.metrics.items() if name not in ASIDE}
    facts |= {"seed": score.seed, "epochs": score.epochs, "metrics": metrics}
    arithmetic = None
    if score.arithmetic is not None:
        arithmetic = Arithmetic.from_text(score.arithmetic)
    if arithmetic is not None:
        facts |= {"precision": arithmetic.precision, "arithmetic": asdict(arithmetic)}
    elif section.precision != "auto":
        facts["precision"] = section.precision
    if score.correct is not None and score.examples > 0:
        right = which_are_right(score.correct, score.examples)
        facts |= {"right": int(right.sum()), "images": score.examples}
    return facts


def _here(network: TrainedNetwork, dataset: Dataset, stored: StoredScore | None) -> dict[str, Any]:
    """What the network scores on the validation images in float32; `stored`: what it scored when it
    was trained.
    """
    trainer = Trainer(network.recipe.training, dataset, device="cpu", arithmetic=PLAIN)
    score = trainer.score(network.model, dataset.validation)
    metric = dataset.task.metric
    facts = {
        "metric": metric,
        "value": score.metrics[metric],
        "images": score.examples,
        "precision": PLAIN.precision,
    }
    if score.correct is None:
        return facts
    accuracy = share_of_images()
    right = which_are_right(score.correct, score.examples)
    facts |= {accuracy: score.metrics[accuracy], "right": int(right.sum()), "images": len(right)}
    before = None if stored is None else stored.score
    if before is not None and before.correct is not None and before.examples == len(right):
        was_right = which_are_right(before.correct, before.examples)
        facts["judged_otherwise"] = int((right != was_right).sum())
    return facts


def _calibration(dataset: Dataset | None, *, stored: bool) -> Tensor | None:
    if dataset is None:
        return None
    if stored:
        return dataset.validation.first(CALIBRATION)
    return next(iter(dataset.validation.batches(CALIBRATION)))[0].contiguous()


def _data(recipe: Recipe, dataset: Dataset | None, stored: StoredScore | None) -> dict[str, Any]:
    """What the card says of the images; `stored`: the score of the network's training."""
    if dataset is None:
        return {"section": recipe.data.model_dump(mode="json")}
    return {
        "section": reading_of(recipe).section(recipe).model_dump(mode="json"),
        "digest": dataset.digest,
        # of the images as files; their names may be patients', so they are not in the card
        "images": None if dataset.manifest is None else dataset.manifest.digest,
        "training": len(dataset.train),
        "validation": len(dataset.validation),
        # where each seed divides the images anew
        "divided_by_seed": stored.score.seed if stored and dataset.drawn is not None else None,
    }
