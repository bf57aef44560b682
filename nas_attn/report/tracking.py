"""Writes a study's runs and its answer to TensorBoard, MLflow or Weights & Biases, whenever a
worker ends. It reads the database; the trainer knows nothing of it.

Optuna's study keeps which runs are written, and one worker writes at a time. So a run is there
once, despite several workers, a resumed study or a kill half way: what a kill has left is replaced.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import textwrap
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nas_attn.answer.answer import Answer
from nas_attn.answer.answer_text import answer_lines
from nas_attn.errors import NasAttnWarning, RecipeError, StorageAway, first_line
from nas_attn.recipe.purposes import test_protocol
from nas_attn.recipe.reading import write_toml
from nas_attn.recipe.recipe import Recipe
from nas_attn.report import columns, html
from nas_attn.storage.artifacts import mark
from nas_attn.storage.heartbeat import Heartbeat
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.store import StudyStore
from nas_attn.system.importing import installing
from nas_attn.system.processes import owner_name

LEASE = "tracking"
# Identity of the run that holds a study's answer
ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Tracked:
    """A run as trackers show it."""

    id: str
    """Unique in its study, and its name."""
    purpose: str
    parameters: Mapping[str, Any]
    points: tuple[tuple[int, Mapping[str, float]], ...] = ()
    """(epochs, metrics), in order."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Of the answer: name of a file -> its content."""


def check(recipe: Recipe) -> None:
    """Raises RecipeError: a tracker that the recipe names is not installed."""
    for name in recipe.log.to:
        if find_spec(name) is None:
            raise RecipeError(f"log.to names '{name}', which is not installed: {installing(name)}")


def track(opened: OpenStudy, answer: Answer) -> None:
    """Writes the runs that have ended since the last call, and the answer. If a tracker fails: a
    warning, the search goes on.
    """
    if not opened.recipe.log.to:
        return
    owner = owner_name()
    lease = opened.store.acquire(LEASE, owner=owner)
    if lease is None:
        # another worker does it
        return
    doing = f"writing to {', '.join(opened.recipe.log.to)}"
    with Heartbeat(opened.store, owner, doing=doing).shown(), opened.store.holding(lease):
        runs = [*ended_runs(opened.store), _tracked_answer(answer)]
        for name in opened.recipe.log.to:
            try:
                _write(opened, name, runs)
            except StorageAway:
                raise
            except Exception as error:
                # any error of a tracker's server or disk
                reason = f"{type(error).__name__}: {first_line(error)}"
                line = f"{name} (log.to) failed with {reason}; the study goes on"
                warnings.warn(line, NasAttnWarning, stacklevel=2)


def _write(opened: OpenStudy, name: str, runs: list[Tracked]) -> None:
    """Writes the answer, and the runs that a tracker does not have."""
    book = opened.book
    key = f"nas_attn:{name}"
    written = list(book.storage.get_study_system_attrs(book.number).get(key, ()))
    try:
        for run in runs:
            if run.id == ANSWER or run.id not in written:
                TRACKERS[name](opened, run)
                written.append(run.id)
    finally:
        book.storage.set_study_system_attr(book.number, key, sorted(set(written)))


def ended_runs(store: StudyStore) -> Iterator[Tracked]:
    """The runs that have ended: of search, confirmation, validation, retraining, and the study's
    backbones.
    """
    candidates = {row.key: row for row in store.candidates()}
    curves = store.curves.all()
    scores = defaultdict(list)
    for stored in store.scores():
        scores[stored.key, stored.protocol, stored.score.seed, stored.backbone].append(stored.score)
    rows = [row for state in ("done", "pruned", "failed") for row in store.queue.rows(state=state)]
    for row in rows:
        run = row.run
        points = defaultdict[int, dict[str, float]](dict)
        for point in json.loads(curves.get(run.files, "[]")):
            points[point["epochs"]] |= {**point["metrics"], "train_loss": point["train_loss"]}
        for before, protocol in (("", run.protocol), ("test_", test_protocol(run.protocol))):
            for score in scores[run.key, protocol, run.seed, run.backbone]:
                points[score.epochs] |= {before + name: of for name, of in score.metrics.items()}
        parameters: dict[str, Any] = {
            "placement": str(run.placement),
            "seed": run.seed,
            "training": run.protocol,
            "state": row.state,
            **dict(str(part).split("=", 1) for part in run.placement.assignments),
        }
        name = run.purpose
        candidate = candidates.get(run.key)
        if candidate is not None:
            name += f"-trial{candidate.trial}"
            parameters |= {"trial": candidate.trial, **(candidate.cost or {})}
        identity = f"{name}-seed{run.seed}-{row.id}"
        yield Tracked(identity, run.purpose, parameters, tuple(sorted(points.items())))


def _tracked_answer(answer: Answer) -> Tracked:
    now = answer.now
    plain = now.recipe.model_dump(mode="json")
    texts = {
        "answer.md": "\n\n".join(answer_lines(answer)),
        "front.json": json.dumps(columns.rows(answer, "front"), indent=1),
        f"{now.study}.toml": write_toml(plain),
        f"{now.study}.html": html.render(answer),
    }
    parameters = {section: str(keys)[:500] for section, keys in plain.items()}
    return Tracked(ANSWER, ANSWER, parameters, texts=texts)


def tensorboard(opened: OpenStudy, run: Tracked) -> None:
    """A folder per run under `tensorboard` in the artifacts folder."""
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    study = f"{opened.store.name}-{mark(opened.store)[:6]}"
    place = opened.folder / "tensorboard" / study / run.id
    shutil.rmtree(place, ignore_errors=True)
    writer: Any = SummaryWriter(str(place))
    last: dict[str, float] = {}
    for step, metrics in run.points:
        last |= metrics
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)
    for name, text in run.texts.items():
        writer.add_text(name, textwrap.indent(text, "    "))
    for summary in hparams(run.parameters, last):  # type: ignore[no-untyped-call]
        writer.file_writer.add_summary(summary)
    writer.close()


def mlflow(opened: OpenStudy, run: Tracked) -> None:
    """A run in the experiment of the study's name, on the server of MLFLOW_TRACKING_URI, or where
    MLflow keeps runs without one.
    """
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient()
    study = mark(opened.store)
    found = client.get_experiment_by_name(opened.store.name)
    place = found.experiment_id if found else client.create_experiment(opened.store.name)
    left = f"tags.nas_attn_study = '{study}' and attributes.run_name = '{run.id}'"
    for former in client.search_runs([place], left):
        client.delete_run(former.info.run_id)
    made = client.create_run(place, run_name=run.id, tags={"nas_attn_study": study}).info.run_id
    now = int(1000 * time.time())
    # what names of parameters may not have
    allowed = str.maketrans("@()=,", "_____")
    client.log_batch(
        made,
        metrics=[
            Metric(name, of, now, step) for step, all_ in run.points for name, of in all_.items()
        ],
        params=[
            Param(name.translate(allowed), str(value)) for name, value in run.parameters.items()
        ],
    )
    for name, text in run.texts.items():
        client.log_text(made, text, name)
    client.set_terminated(made, "FAILED" if run.parameters.get("state") == "failed" else "FINISHED")


def wandb(opened: OpenStudy, run: Tracked) -> None:
    """A run of a group with the study's name, in the project of WANDB_PROJECT, else `nas-attn`;
    WANDB_MODE=offline sends nothing.
    """
    import wandb

    made = wandb.init(
        project=os.environ.get("WANDB_PROJECT") or "nas-attn",
        # the same run, whoever writes it again
        id=f"{mark(opened.store)}-{run.id}",
        name=run.id,
        group=opened.store.name,
        job_type=run.purpose,
        config=dict(run.parameters),
        dir=str(opened.folder.absolute()),
        resume="allow",
        reinit="create_new",
        settings=wandb.Settings(
            silent=True, console="off", disable_git=True, disable_code=True, login_timeout=10
        ),
    )
    for step, metrics in run.points:
        made.log(dict(metrics), step=step)
    with tempfile.TemporaryDirectory() as folder:
        for name, text in run.texts.items():
            Path(folder, name).write_text(text, "utf-8")
            made.log_artifact(str(Path(folder, name)), name=name, type=run.purpose)
        made.finish()


TRACKERS: Mapping[str, Callable[[OpenStudy, Tracked], None]] = {
    "tensorboard": tensorboard,
    "mlflow": mlflow,
    "wandb": wandb,
}
