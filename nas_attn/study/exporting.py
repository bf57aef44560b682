"""A candidate of a study as a file that stands alone, with its card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from nas_attn import tasks
from nas_attn.analysis import units
from nas_attn.analysis.choosing import Chosen, choose, key_among
from nas_attn.analysis.criteria import Criteria
from nas_attn.analysis.snapshot import CandidateView, Snapshot
from nas_attn.backbones.weights import restore, unpack
from nas_attn.data import Dataset
from nas_attn.data.folder import named_files
from nas_attn.errors import BackboneLost, CheckpointError, OperationError
from nas_attn.evaluation.artifacts import read_artifact, weights_run
from nas_attn.evaluation.leasing import TTL_S, LeaseKeeper, release_dead
from nas_attn.evaluation.plan import Plan, kept_sites, plan_for, protocol_recipe
from nas_attn.export import scoring
from nas_attn.export.card import card, check_onnx, run_elsewhere, write_card
from nas_attn.export.formats import Graph, find_format, normalising, write
from nas_attn.export.python_file import Described
from nas_attn.latency.nets import CALIBRATION
from nas_attn.recipe import Recipe, TrainingSection, lower_is_better
from nas_attn.records import Score
from nas_attn.storage import SEARCH, Run, StoredScore, StudyStore
from nas_attn.study.opening import OpenStudy
from nas_attn.study.searching import Options, with_worker
from nas_attn.study.target_runs import kept_runs
from nas_attn.study.worker import Worker
from nas_attn.training.trainer import Trainer

AGAIN = f"{SEARCH}/again"  # the way under which runs that are done only for their weights stand, scores included


def chosen(opened: OpenStudy, now: Snapshot, criteria: Criteria) -> Chosen:
    """The candidate that criteria mean.

    Raises:
        StudyError: there is no such candidate.
        PlacementError: the placement is none of this backbone.
    """
    return choose(now, criteria, lambda text: key_among(now, text) or opened.plan.resolved(text).key)


def named(opened: OpenStudy, now: Snapshot, criteria: Criteria) -> tuple[str, str]:
    """(key, placement) of a network: as `chosen`, but a placement need not have been tried."""
    if criteria.placement is not None:
        resolved = opened.plan.resolved(criteria.placement)
        return resolved.key, resolved.text
    view = chosen(opened, now, criteria).view
    return view.key, view.placement


def trained_model(opened: OpenStudy, plan: Plan, view: CandidateView, run: Run | None = None) -> nn.Module:
    """The candidate's network with its trained weights, on the CPU, in eval mode.

    Args:
        run: one of those that were trained as the target says; None: the weights that the search's score is of.

    Raises:
        CheckpointError: its weights are not there or damaged; says why, and how to make them again.
    """
    name = view.key if run is None else run.files
    rows = opened.store.checkpoints(weights_run(name))
    if not rows and run is None and view.state != "scored":
        raise CheckpointError(
            f"the weights of {view.label} ({view.state}) were not kept: only those of scored candidates are"
        )
    again = (
        f"exporting trial {view.trial} `again` trains it once more, as the search did"
        if run is None
        else "retraining makes others"
    )
    if not rows:
        lost = opened.store.weights_lost.get(name) or "nothing is known of them"
        raise CheckpointError(f"the weights of {view.label} are not there ({lost}): {again}")
    try:
        weights = unpack(read_artifact(opened.artifacts, rows[0].artifact, rows[0].sha256))
    except CheckpointError as error:
        raise CheckpointError(f"the weights of {view.label} are lost ({error}): {again}") from None
    model = plan.bare(0)
    return restore(plan.attach(model, plan.resolved(view.placement), 0), weights).eval()


def train_again(opened: OpenStudy, view: CandidateView, options: Options) -> Score | None:
    """Trains a scored candidate once more as the search did, and keeps its weights. What the study knows stays as it is.

    Returns:
        The score at the last rung: that of the search on a CPU with equally many threads, else close to it. None where
        `options.stop` was set before: called again, it goes on from there.

    Raises:
        CheckpointError: the candidate has not been scored.
        OperationError: another process is at it, or it fails.
    """
    store = opened.store
    rows = [row for row in store.queue.rows(key=view.key, way=SEARCH, state="done") if row.run.purpose == SEARCH]
    if view.state != "scored" or not rows:
        raise CheckpointError(f"{view.label} ({view.state}) cannot be trained again: it has not been scored")
    original = min(rows, key=lambda row: row.id).run  # its first: the one whose weights are kept
    run = replace(original, way=AGAIN)

    found: list[Score] = []

    def train(worker: Worker) -> str:
        bench = worker.benches.search
        release_dead(store, AGAIN)
        lease = store.acquire(run.files, owner=worker.owner, ttl_s=TTL_S)
        if lease is None:
            raise OperationError(f"another process is training {view.label} again: wait for it")
        with LeaseKeeper(store, lease) as keeper:

            def once() -> Sequence[Score]:
                return bench.train(
                    run,
                    worker.resolved(original),
                    lease=keeper.lease,
                    go_on=lambda score: True,
                    stop=lambda: worker.stop() or keeper.lost,
                    trained=lambda model: bench.keep_weights(view.key, model, keeper.lease),
                )

            try:
                found[:] = once()
            except BackboneLost:
                worker.backbone_again(original)
                found[:] = once()
            bench.files(run, keeper.lease).clear()
        return "complete"

    return found[-1] if with_worker(opened, options, train) == "complete" else None


SEARCHED = "after the search's brief training"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    path: Path
    cards: tuple[Path, Path]  # Markdown and JSON
    facts: dict[str, Any]
    run: Run | None  # the training as the target says whose weights these are; None: the search's own
    note: str  # why not the retrained weights, where there are some; else empty


def export_candidate(
    opened: OpenStudy,
    now: Snapshot,
    view: CandidateView,
    path: Path,
    format_: str,
    *,
    as_searched: bool = False,
    normalize: bool = False,
    check: bool = True,
) -> Exported:
    """Writes a candidate's trained network and its card.

    Args:
        as_searched: the weights of the search's training, also where it was retrained.
        normalize: the file takes uint8 images and normalises them itself.
        check: scores the network in float32 on the validation images, and holds an ONNX file against it.

    Raises:
        UserError: the format is unknown, cannot do what is asked, or needs a package that is not there.
        CheckpointError: the weights are not there.
        OperationError: it cannot be exported, or the file does not compute what the network does.
    """
    format_found = find_format(format_, tasks.of(opened.recipe))
    run, note = (None, "") if as_searched else _best_run(opened.store, now, view)
    recipe = protocol_recipe(opened.store, SEARCH if run is None else run.way)
    task = tasks.of(recipe)
    dataset = task.load(recipe, device="cpu")
    plan = plan_for(recipe, dataset, kept=kept_sites(opened.store))
    model = trained_model(opened, plan, view, run)
    described = describe(plan, dataset, view)
    given = task.answers.graph(model, plan.input_shape) if format_found.graph else model
    given = normalising(given, described, format_found) if normalize else given
    stored = _scored(opened.store, view, run)
    trained = SEARCHED if run is None else f"{run.purpose}, {run.way}, seed {run.seed}"
    notes = {"study": now.study, "placement": view.placement, "init": plan.space.init, "key": view.key}
    notes["trained"] = trained
    images = _calibration(dataset, stored=normalize) if format_found.quantized else None
    written = write(given, path, format_, input_shape=plan.input_shape, notes=notes, described=described, images=images)
    compared = None
    if check and isinstance(given, Graph) and format_ == "onnx":
        compared = check_onnx(written, given, task.answers.compared(plan, dataset, stored=normalize))
    here = None
    if check and dataset is not None:
        here = _here(model, recipe, dataset, stored)
        if format_found.quantized:
            here |= {"in_file": _in_file(written, format_, dataset, stored=normalize)}
    facts = card(
        now,
        view,
        described,
        written,
        format_,
        normalised_inside=normalize,
        training=_training(stored, trained, recipe.training),
        here=here,
        check=None if compared is None else asdict(compared),
        data=_data(recipe, dataset),
        cost=plan.cost(described.resolved),
    )
    _write_scoring(facts, written)
    return Exported(written, write_card(facts, written), facts, run, note)


def _best_run(store: StudyStore, now: Snapshot, view: CandidateView) -> tuple[Run | None, str]:
    """(the training as the target says whose weights to take, empty); (None, why) where the search's weights score better."""
    run = next(iter(kept_runs(store, view.key)), None)
    if run is None or not store.checkpoints(weights_run(view.key)):
        return run, ""
    recipe, own = protocol_recipe(store, run.way), protocol_recipe(store, SEARCH)
    stored, searched = _scored(store, view, run), _scored(store, view, None)
    metric = now.primary or tasks.of(recipe).metric
    if stored is None or searched is None or recipe.data != own.data:
        return run, ""
    values = [found.score.metrics.get(metric) for found in (stored, searched)]
    if None in values:
        return run, ""
    retrained, brief = (float(value or 0.0) for value in values)
    if (retrained >= brief) != lower_is_better(metric) or retrained == brief:
        return run, ""
    shown = (
        f"{units.value(metric, retrained)} after retraining, {units.value(metric, brief)} after the search's training"
    )
    return None, f"the retrained network is worse ({metric}: {shown}), so these are the search's weights"


def describe(plan: Plan, dataset: Dataset | None, view: CandidateView) -> Described:
    """From what a candidate's network is built."""
    resolved, task = plan.resolved(view.placement), tasks.of(plan.recipe)
    return Described(plan.recipe.backbone, resolved, plan.input_shape, task.answers.interface(plan, dataset), task)


def _scored(store: StudyStore, view: CandidateView, run: Run | None) -> StoredScore | None:
    """The score of the training whose weights are exported."""
    way = SEARCH if run is None else run.way
    if run is None:
        rows = [row for row in store.queue.rows(key=view.key, way=SEARCH, state="done") if row.run.purpose == SEARCH]
        if not rows:
            return None
        run = min(rows, key=lambda row: row.id).run
    found = [s for s in store.scores(view.key, way=way, with_correct=True) if s.score.seed == run.seed]
    found = [s for s in found if s.backbone == run.backbone]
    return max(found, key=lambda s: s.score.rung, default=None)


def _training(stored: StoredScore | None, what: str, section: TrainingSection) -> dict[str, Any]:
    facts: dict[str, Any] = dict.fromkeys(("seed", "epochs", "right", "images", "precision"))
    facts |= {"what": what, "metrics": {}}
    if stored is None:
        return facts
    score, precision = stored.score, section.precision
    metrics = {name: value for name, value in score.metrics.items() if name != "train_loss_sum"}
    facts |= {"seed": score.seed, "epochs": score.epochs, "metrics": metrics}
    facts["precision"] = "bfloat16, or float32 on a machine without it" if precision == "auto" else precision
    if score.correct is not None and score.examples > 0:
        facts |= {"right": int(_bits(score).sum()), "images": score.examples}
    return facts


def _bits(score: Score) -> np.ndarray[Any, np.dtype[np.bool_]]:
    assert score.correct is not None
    return np.unpackbits(np.frombuffer(score.correct, np.uint8), count=score.examples).astype(bool)


def _here(model: nn.Module, recipe: Recipe, dataset: Dataset, stored: StoredScore | None) -> dict[str, Any]:
    """The network's own score on the validation images, in float32 as whoever loads it computes."""
    section = recipe.training.model_copy(update={"precision": "float32"})
    score, metric = Trainer(section, dataset, device="cpu").score(model, dataset.validation), dataset.task.metric
    facts = {"metric": metric, "value": score.metrics[metric], "images": score.examples, "precision": "float32"}
    if score.correct is not None:
        right = _bits(score)
        facts |= {"accuracy": score.metrics["accuracy"], "right": int(right.sum()), "images": len(right)}
        before = None if stored is None else stored.score
        if before is not None and before.correct is not None and before.examples == len(right):
            facts["judged_otherwise"] = int((right != _bits(before)).sum())
    return facts


def _calibration(dataset: Dataset | None, *, stored: bool) -> Tensor | None:
    """Validation images for an int8 file, as it takes them; None for an evaluator's own data."""
    if dataset is None:
        return None
    if stored:
        return dataset.validation.first(CALIBRATION)
    return next(iter(dataset.validation.batches(CALIBRATION)))[0].contiguous()


def _in_file(path: Path, format_: str, dataset: Dataset, *, stored: bool) -> dict[str, Any]:
    """What an int8 file itself scores on the validation images."""
    with run_elsewhere(path, format_) as run:
        tally = dataset.task.answers.judged(run, dataset, stored=stored, batch=CALIBRATION)
    bits, facts = tally.right(), {"value": tally.metrics(0.0)[dataset.task.metric]}
    if bits is not None:
        facts["right"] = int(np.unpackbits(np.frombuffer(bits, np.uint8), count=len(dataset.validation)).sum())
    return facts


def _data(recipe: Recipe, dataset: Dataset | None) -> dict[str, Any]:
    if dataset is None:
        return {"name": recipe.data.name, "section": recipe.data.model_dump(mode="json")}
    return {
        "name": recipe.data.name,
        "section": tasks.of(recipe).data_section(recipe).model_dump(mode="json"),
        "digest": dataset.digest,
        "training": len(dataset.train),
        "validation": len(dataset.validation),
        **_files(recipe, dataset),
    }


def _files(recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
    """Of one's own photographs: which of them scored the network, so that anybody who has them can do so again."""
    photographs = recipe.data.name.startswith("folder:") and dataset.task.per_image
    if not photographs or dataset.validation_identity is None:
        return {}
    folder, names = named_files(recipe.data, dataset.validation_identity)
    labels = dataset.validation.labels.tolist()
    return {"folder": str(folder.resolve()), "files": [list(pair) for pair in zip(names, labels, strict=True)]}


def _write_scoring(facts: Mapping[str, Any], written: Path) -> None:
    """Beside a network of one's own photographs, what scores it without nas_attn.

    Raises:
        OperationError: it cannot be written.
    """
    if "files" not in facts["data"] or facts["format"] == "weights":
        return
    target = written.with_name(f"{written.name}.score.py")
    try:
        target.write_text(Path(scoring.__file__).read_text("utf-8"), "utf-8")
    except OSError as error:
        raise OperationError(f"'{target}' cannot be written: {error}") from None
