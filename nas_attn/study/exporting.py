"""Exports a candidate of a study as a self-contained file with its card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from nas_attn import tasks
from nas_attn.analysis import units
from nas_attn.analysis.choosing import Chosen, choose, key_among, notation
from nas_attn.analysis.criteria import Criteria
from nas_attn.analysis.fronts import sign_of
from nas_attn.analysis.snapshot import CandidateView, Snapshot
from nas_attn.backbones.weights import restore, unpack
from nas_attn.data import Dataset
from nas_attn.data.folder import named_files
from nas_attn.errors import BackboneLost, CheckpointError, OperationError
from nas_attn.evaluation.artifacts import read_artifact, weights_run
from nas_attn.evaluation.images import compare
from nas_attn.evaluation.leasing import TTL_S, LeaseKeeper, release_dead
from nas_attn.evaluation.plan import Plan, kept_sites, plan_for, protocol_recipe
from nas_attn.export import scoring
from nas_attn.export.card import card, check_onnx, run_elsewhere, write_card
from nas_attn.export.formats import Graph, answers_of, find_format, normalising, write
from nas_attn.export.python_file import Described
from nas_attn.latency.nets import CALIBRATION
from nas_attn.notation import parse
from nas_attn.purposes import SEARCH
from nas_attn.recipe import Recipe, TrainingSection
from nas_attn.records import ASIDE, Arithmetic, Placement, Score, StoredScore
from nas_attn.storage import Run, StudyStore
from nas_attn.study.opening import OpenStudy
from nas_attn.study.searching import Options, with_worker
from nas_attn.study.target_runs import kept_runs
from nas_attn.study.worker import Worker
from nas_attn.tasks.data import data_of
from nas_attn.training.arithmetic import PLAIN
from nas_attn.training.trainer import Trainer

AGAIN = (  # protocol of runs that are done only for their weights, and of their scores
    f"{SEARCH}/again"
)


def chosen(opened: OpenStudy, now: Snapshot, criteria: Criteria) -> Chosen:
    """The candidate that the criteria choose. Raises StudyError: none does. Raises PlacementError:
    a placement does not fit.
    """
    return choose(
        now, criteria, lambda text: key_among(now, text) or opened.plan.resolved(parse(text)).key
    )


def named(opened: OpenStudy, now: Snapshot, criteria: Criteria) -> tuple[str, Placement]:
    """(key, placement) of a network: as `chosen`, but its placement need not have been tried."""
    if criteria.placement is not None:
        resolved = opened.plan.resolved(parse(notation(now, criteria.placement)))
        return resolved.key, resolved.placement
    view = chosen(opened, now, criteria).view
    return view.key, view.placement


def trained_model(
    opened: OpenStudy, plan: Plan, view: CandidateView, run: Run | None = None
) -> nn.Module:
    """A candidate's network with a run's weights (None: the search's), on the CPU, in eval mode, or
    CheckpointError.
    """
    name = view.key if run is None else run.files
    rows = opened.store.checkpoints(weights_run(name))
    if not rows and run is None and view.state != "scored":
        raise CheckpointError(
            f"the weights of {view.label} ({view.state}) were not kept, because it was not scored"
        )
    again = "retrain the network"
    if run is None:
        again = (
            f"export trial {view.trial} with `again`, which trains it once more as the search did"
        )
    if not rows:
        lost = opened.store.weights_lost.get(name) or "the reason is not known"
        raise CheckpointError(f"the weights of {view.label} are not there ({lost}): {again}")
    try:
        weights = unpack(read_artifact(opened.artifacts, rows[0].artifact, rows[0].sha256))
    except CheckpointError as error:
        raise CheckpointError(f"the weights of {view.label} are lost ({error}): {again}") from None
    return restore(plan.network(plan.resolved(view.placement), 0), weights).eval()


def train_again(opened: OpenStudy, view: CandidateView, options: Options) -> Score | None:
    """Trains a scored candidate again as the search did, for its weights. None: `options.stop` was
    set before the end; the next call continues from there. Raises CheckpointError: the candidate
    has not been scored.
    """
    store, original = opened.store, _searched(opened.store, view)
    if view.state != "scored" or original is None:
        raise CheckpointError(
            f"{view.label} ({view.state}) cannot be trained again: it has not been scored"
        )
    run = replace(original, protocol=AGAIN)
    found: list[Score] = []

    def once(worker: Worker, keeper: LeaseKeeper) -> Sequence[Score]:
        bench = worker.benches.search
        return bench.train(
            *(run, worker.resolved(original)),
            lease=keeper.lease,
            go_on=lambda score: True,
            stop=lambda: worker.stop() or keeper.lost,
            trained=lambda model: bench.keep_weights(view.key, model, keeper.lease),
        )

    def train(worker: Worker) -> str:
        release_dead(store, AGAIN)
        lease = store.acquire(run.files, owner=worker.owner, ttl_s=TTL_S)
        if lease is None:
            raise OperationError(f"another process is training {view.label} again: wait for it")
        with LeaseKeeper(store, lease) as keeper:
            try:
                found[:] = once(worker, keeper)
            except BackboneLost:
                worker.backbone_again(original)
                found[:] = once(worker, keeper)
            worker.benches.search.files(run, keeper.lease).clear()
        return "complete"

    return found[-1] if with_worker(opened, options, train) == "complete" else None


SEARCHED = "after the search's training"


@dataclass(frozen=True, slots=True)
class Exported:
    path: Path
    cards: tuple[Path, Path]  # Markdown and JSON
    facts: dict[str, Any]
    run: (
        Run | None
    )  # the training as the target says whose weights these are; None: the search's own
    note: str  # why not the retrained weights, if there are some; else empty


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
    """Writes a candidate's trained network and its card; `as_searched`: with the weights of the
    search's training;
    `normalize`: the file takes uint8 images; `check`: scores it on the validation images, and
        compares an ONNX file.
    Raises UserError: the format cannot do this. Raises CheckpointError: the weights are not there.
    """
    kind = find_format(format_, tasks.of(opened.recipe))
    run, note = (None, "") if as_searched else _best_run(opened.store, now, view)
    recipe = protocol_recipe(opened.store, SEARCH if run is None else run.protocol)
    task = tasks.of(recipe)
    dataset = data_of(task).load(recipe, device="cpu")
    compare(opened.store, recipe, dataset)
    plan = plan_for(recipe, dataset, kept=kept_sites(opened.store))
    model, described = trained_model(opened, plan, view, run), describe(plan, dataset, view)
    given = answers_of(task).graph(model, plan.input_shape) if kind.graph else model
    given = normalising(given, described, kind) if normalize else given
    trained = SEARCHED if run is None else f"{run.purpose}, {run.protocol}, seed {run.seed}"
    notes = {
        "study": now.study,
        "placement": str(view.placement),
        "init": plan.space.init,
        "key": view.key,
    }
    notes["trained"] = trained
    images = _calibration(dataset, stored=normalize) if kind.quantized else None
    written = write(
        given,
        path,
        format_,
        input_shape=plan.input_shape,
        notes=notes,
        described=described,
        images=images,
    )
    stored = _scored(opened.store, view, run)
    checks: dict[str, Any] = {"check": None, "here": None}
    if check and isinstance(given, Graph) and format_ == "onnx":
        compared = check_onnx(
            written, given, answers_of(task).compared(plan, dataset, stored=normalize)
        )
        checks["check"] = None if compared is None else asdict(compared)
    if check and dataset is not None:
        checks["here"] = _here(model, recipe, dataset, stored)
        if kind.quantized:
            checks["here"]["in_file"] = _in_file(written, format_, dataset, stored=normalize)
    facts = card(
        *(now, view, described, written, format_),
        normalised_inside=normalize,
        training=_training(stored, trained, recipe.training),
        data=_data(recipe, dataset),
        cost=plan.cost(described.resolved),
        **checks,
    )
    _write_scoring(facts, written)
    return Exported(written, write_card(facts, written), facts, run, note)


def _best_run(store: StudyStore, now: Snapshot, view: CandidateView) -> tuple[Run | None, str]:
    """(the training as the target says whose weights to take, empty); (None, why) if the search's
    weights score better.
    """
    run = next(iter(kept_runs(store, view.key)), None)
    if run is None or not store.checkpoints(weights_run(view.key)):
        return run, ""
    metric = now.primary or tasks.of(protocol_recipe(store, run.protocol)).metric
    scored = [
        found.score.metrics
        for one in (run, None)
        if (found := _scored(store, view, one)) is not None
    ]
    values = [metrics[metric] for metrics in scored if metric in metrics]
    if len(values) < 2:
        return run, ""
    retrained, brief = values
    if sign_of(now.recipe, metric) * (retrained - brief) >= 0:
        return run, ""
    after, before = (units.value(metric, value) for value in values)
    shown = f"{metric}: {after} after retraining, {before} after the search's training"
    return None, f"the retrained network is worse ({shown}), so these are the search's weights"


def describe(plan: Plan, dataset: Dataset | None, view: CandidateView) -> Described:
    """What a candidate's network is built from."""
    resolved, task = plan.resolved(view.placement), tasks.of(plan.recipe)
    return Described(
        plan.like(resolved.other).recipe.backbone,
        resolved,
        plan.input_shape,
        answers_of(task).interface(plan, dataset),
        task,
    )


def _searched(store: StudyStore, view: CandidateView) -> Run | None:
    """The first run of the search, whose weights are kept."""
    rows = [
        row
        for row in store.queue.rows(key=view.key, protocol=SEARCH, state="done")
        if row.run.purpose == SEARCH
    ]
    return min(rows, key=lambda row: row.id).run if rows else None


def _scored(store: StudyStore, view: CandidateView, run: Run | None) -> StoredScore | None:
    run = run or _searched(store, view)
    if run is None:
        return None
    stored = store.scores(view.key, protocol=run.protocol, with_correct=True)
    found = [s for s in stored if (s.score.seed, s.backbone) == (run.seed, run.backbone)]
    return max(found, key=lambda s: s.score.rung, default=None)


def _training(stored: StoredScore | None, what: str, section: TrainingSection) -> dict[str, Any]:
    names = ("seed", "epochs", "right", "images", "precision", "arithmetic")
    facts: dict[str, Any] = {**dict.fromkeys(names), "what": what, "metrics": {}}
    if stored is None:
        return facts
    score = stored.score
    metrics = {name: value for name, value in score.metrics.items() if name not in ASIDE}
    facts |= {"seed": score.seed, "epochs": score.epochs, "metrics": metrics}
    arithmetic = None if score.arithmetic is None else Arithmetic.from_text(score.arithmetic)
    if arithmetic is not None:
        facts |= {"precision": arithmetic.precision, "arithmetic": asdict(arithmetic)}
    elif section.precision != "auto":
        facts["precision"] = section.precision
    if score.correct is not None and score.examples > 0:
        facts |= {"right": int(_bits(score).sum()), "images": score.examples}
    return facts


def _bits(score: Score) -> np.ndarray[Any, np.dtype[np.bool_]]:
    assert score.correct is not None
    return np.unpackbits(np.frombuffer(score.correct, np.uint8), count=score.examples).astype(bool)


def _here(
    model: nn.Module, recipe: Recipe, dataset: Dataset, stored: StoredScore | None
) -> dict[str, Any]:
    trainer = Trainer(recipe.training, dataset, device="cpu", arithmetic=PLAIN)
    score, metric = trainer.score(model, dataset.validation), dataset.task.metric
    facts = {
        "metric": metric,
        "value": score.metrics[metric],
        "images": score.examples,
        "precision": PLAIN.precision,
    }
    if score.correct is not None:
        right = _bits(score)
        facts |= {
            "accuracy": score.metrics["accuracy"],
            "right": int(right.sum()),
            "images": len(right),
        }
        before = None if stored is None else stored.score
        if before is not None and before.correct is not None and before.examples == len(right):
            facts["judged_otherwise"] = int((right != _bits(before)).sum())
    return facts


def _calibration(dataset: Dataset | None, *, stored: bool) -> Tensor | None:
    if dataset is None:
        return None
    if stored:
        return dataset.validation.first(CALIBRATION)
    return next(iter(dataset.validation.batches(CALIBRATION)))[0].contiguous()


def _in_file(path: Path, format_: str, dataset: Dataset, *, stored: bool) -> dict[str, Any]:
    with run_elsewhere(path, format_) as run:
        tally = answers_of(dataset.task).judged(run, dataset, stored=stored, batch=CALIBRATION)
    bits, facts = tally.right(), {"value": tally.metrics(0.0)[dataset.task.metric]}
    if bits is not None:
        facts["right"] = int(
            np.unpackbits(np.frombuffer(bits, np.uint8), count=len(dataset.validation)).sum()
        )
    return facts


def _data(recipe: Recipe, dataset: Dataset | None) -> dict[str, Any]:
    if dataset is None:
        return {"name": recipe.data.name, "section": recipe.data.model_dump(mode="json")}
    facts: dict[str, Any] = {
        "name": recipe.data.name,
        "section": data_of(tasks.of(recipe)).section(recipe).model_dump(mode="json"),
        "digest": dataset.digest,
        **_images(dataset),
        "training": len(dataset.train),
        "validation": len(dataset.validation),
    }
    photographs = recipe.data.name.startswith("folder:") and dataset.task.per_image
    if (
        photographs and dataset.validation_identity is not None
    ):  # so that whoever has them can score the network again
        folder, names = named_files(recipe.data, dataset.validation_identity)
        pairs = zip(names, dataset.validation.labels.tolist(), strict=True)
        facts |= {"folder": str(folder.resolve()), "files": [list(pair) for pair in pairs]}
    return facts


MOST_IN_CARD = 2**20  # letters of a manifest: about 50,000 images


def _images(dataset: Dataset) -> dict[str, Any]:
    """What the images are, so that a later check can say what has changed."""
    if dataset.manifest is None:
        return {}
    text = dataset.manifest.text
    manifest = text if len(text) <= MOST_IN_CARD else None
    return {"images": dataset.manifest.digest, "manifest": manifest}


def _write_scoring(facts: Mapping[str, Any], written: Path) -> None:
    """Writes a script beside a photo classifier that scores it without nas_attn; OperationError if
    it cannot be written.
    """
    if "files" not in facts["data"] or facts["format"] == "weights":
        return
    target = written.with_name(f"{written.name}.score.py")
    try:
        target.write_text(Path(scoring.__file__).read_text("utf-8"), "utf-8")
    except OSError as error:
        raise OperationError(f"'{target}' cannot be written: {error}") from None
