"""Writes a study's runs to TensorBoard, MLflow or Weights & Biases. It reads the database; the
trainer knows nothing of it.

A run is written once it has ended, by one worker at a time, under its own identity. So it is there
once, despite several workers, a resumed study or a kill half way. The study's answer is one more
run, which is rewritten whenever the work ends.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from nas_attn.answer.answer import Answer
from nas_attn.answer.answer_text import answer_lines
from nas_attn.errors import NasAttnWarning, RecipeError, StorageAway, first_line
from nas_attn.recipe.purposes import test_protocol
from nas_attn.recipe.reading import write_toml
from nas_attn.recipe.recipe import Recipe
from nas_attn.report import frames, html
from nas_attn.storage.artifacts import mark
from nas_attn.storage.leasing import TTL_S, LeaseKeeper, release_dead
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.store import StudyStore
from nas_attn.system.importing import installing
from nas_attn.system.processes import owner_name
from nas_attn.system.waiting import impatient

LEASE = "tracking"
# seconds between writings while a worker goes on, at least
TRACK_S = 10.0
# Identity of the run that holds a study's answer
ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Tracked:
    """A run as trackers show it."""

    # unique in its study, and its name
    id: str
    purpose: str
    parameters: Mapping[str, Any]
    # (epochs, metrics), in order
    points: tuple[tuple[int, Mapping[str, float]], ...] = ()
    # of the answer: name of a file -> its content
    texts: Mapping[str, str] | None = None


class Tracker(Protocol):
    def known(self) -> Collection[str]:
        """The completely written runs."""

    def add(self, run: Tracked) -> None:
        """Writes a run, and replaces an earlier version of it."""


def check(recipe: Recipe) -> None:
    """Raises RecipeError: a tracker that the recipe names is not installed."""
    for name in recipe.log.to:
        if find_spec(name) is None:
            raise RecipeError(f"log.to names '{name}', which is not installed: {installing(name)}")


class Following:
    """Writes runs that have ended while a worker goes on, not too often."""

    def __init__(self, opened: OpenStudy) -> None:
        self._opened = opened
        self._last = time.monotonic()

    def maybe(self) -> None:
        """Writes them if some time has passed."""
        if self._opened.recipe.log.to and time.monotonic() - self._last > TRACK_S:
            self._last = time.monotonic()
            # the next call to the database reports it
            with impatient(), suppress(StorageAway):
                track(self._opened)


def track(opened: OpenStudy, answer: Answer | None = None) -> None:
    """Writes the runs that have ended since the last call; with `answer`, that, too. If a tracker
    fails: a warning, the search goes on.
    """
    if not opened.recipe.log.to:
        return
    release_dead(opened.store, LEASE)
    lease = opened.store.acquire(LEASE, owner=owner_name(), ttl_s=TTL_S)
    if lease is None:
        # another worker does it, and will do it again
        return
    with LeaseKeeper(opened.store, lease):
        runs = [*ended_runs(opened.store), *([] if answer is None else [_tracked_answer(answer)])]
        for name in opened.recipe.log.to:
            try:
                tracker = TRACKERS[name](opened)
                tracked = {*tracker.known()} - {ANSWER}
                for run in runs:
                    if run.id not in tracked:
                        tracker.add(run)
            except StorageAway:
                raise
            except Exception as error:
                # any error of a tracker's server or disk
                reason = f"{type(error).__name__}: {first_line(error)}"
                line = f"{name} (log.to) failed with {reason}; the study goes on"
                warnings.warn(line, NasAttnWarning, stacklevel=2)


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
        for score in scores[run.key, run.protocol, run.seed, run.backbone]:
            points[score.epochs] |= score.metrics
        for score in scores[run.key, test_protocol(run.protocol), run.seed, run.backbone]:
            points[score.epochs] |= {f"test_{name}": of for name, of in score.metrics.items()}
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
        "front.json": json.dumps(frames.rows(answer, "front"), indent=1),
    }
    texts |= {f"{now.study}.toml": write_toml(plain), f"{now.study}.html": html.render(answer)}
    return Tracked(ANSWER, ANSWER, dict(_flat(plain)), texts=texts)


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        elif value is not None:
            yield before + key, value if isinstance(value, int | float) else str(value)[:500]


class TensorBoard:
    """A folder per run under `tensorboard` in the artifacts folder; written beside, then moved
    there.
    """

    def __init__(self, opened: OpenStudy) -> None:
        self._folder = (
            opened.folder / "tensorboard" / f"{opened.store.name}-{mark(opened.store)[:6]}"
        )
        self._folder.mkdir(parents=True, exist_ok=True)

    def known(self) -> Collection[str]:
        return [path.name for path in self._folder.iterdir()]

    def add(self, run: Tracked) -> None:
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        with tempfile.TemporaryDirectory(dir=self._folder.parent) as beside:
            place = os.path.join(beside, run.id)
            writer: Any = SummaryWriter(place)
            last: dict[str, float] = {}
            for step, metrics in run.points:
                last |= metrics
                for name, value in metrics.items():
                    writer.add_scalar(name, value, step)
            for name, text in (run.texts or {}).items():
                # it shows no files
                if not name.endswith(".html"):
                    writer.add_text(name, "".join(f"    {line}\n" for line in text.splitlines()))
            for summary in hparams(dict(run.parameters), last):  # type: ignore[no-untyped-call]
                writer.file_writer.add_summary(summary)
            writer.close()
            shutil.rmtree(self._folder / run.id, ignore_errors=True)
            os.rename(place, self._folder / run.id)


class MLflow:
    """An experiment of the study's name on the server of MLFLOW_TRACKING_URI, or where MLflow keeps
    runs without one.
    """

    def __init__(self, opened: OpenStudy) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient()
        self._mark = mark(opened.store)
        name = opened.store.name
        experiment = self._client.get_experiment_by_name(name)
        self._experiment = (
            experiment.experiment_id if experiment else self._client.create_experiment(name)
        )

    def _runs(self, more: str = "") -> Iterator[Any]:
        token: str | None = ""
        mine = f"tags.nas_attn_study = '{self._mark}'{more}"
        while token is not None:
            page = self._client.search_runs(
                [self._experiment], mine, max_results=1000, page_token=token or None
            )
            yield from page
            token = page.token or None

    def known(self) -> Collection[str]:
        return [run.info.run_name for run in self._runs() if run.data.tags.get("nas_attn_whole")]

    def add(self, run: Tracked) -> None:
        from mlflow.entities import Metric, Param

        for former in list(self._runs(f" and attributes.run_name = '{run.id}'")):
            self._client.delete_run(former.info.run_id)
        made = self._client.create_run(
            self._experiment, tags={"nas_attn_study": self._mark}, run_name=run.id
        ).info.run_id
        now = int(1000 * time.time())
        allowed = str.maketrans("@()=,", "_____")
        metrics = []
        for step, of in run.points:
            metrics += [Metric(name, value, now, step) for name, value in of.items()]
        parameters = [
            Param(name.translate(allowed), str(value)) for name, value in run.parameters.items()
        ]
        for begin in range(0, max(len(metrics), len(parameters)), 100):
            few = slice(begin, begin + 100)
            self._client.log_batch(made, metrics=metrics[few], params=parameters[few])
        for name, text in (run.texts or {}).items():
            self._client.log_text(made, text, name)
        self._client.set_tag(made, "nas_attn_whole", "1")
        self._client.set_terminated(
            made, "FAILED" if run.parameters.get("state") == "failed" else "FINISHED"
        )


class WandB:
    """Runs of a group with the study's name, in the project of WANDB_PROJECT, else `nas-attn`;
    WANDB_MODE=offline sends nothing.
    """

    def __init__(self, opened: OpenStudy) -> None:
        self._study = opened.store.name
        self._mark = mark(opened.store)
        self._folder = opened.folder.absolute()
        # what this machine has written
        self._done = self._folder / "wandb" / f"nas_attn-{self._mark}"
        self._done.mkdir(parents=True, exist_ok=True)

    def known(self) -> Collection[str]:
        return [path.name for path in self._done.iterdir()]

    def add(self, run: Tracked) -> None:
        import wandb

        done = self._done / run.id
        told = "".join(list((run.texts or {}).values())[:2])
        if done.exists() and done.read_text("utf-8") == told:
            # the answer is unchanged: offline, each writing makes new files
            return
        made = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "nas-attn",
            # the same run, whoever writes it again
            id=f"{self._mark}-{run.id}",
            name=run.id,
            group=self._study,
            job_type=run.purpose,
            config=dict(run.parameters),
            dir=str(self._folder),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, disable_code=True, login_timeout=10
            ),
        )
        for step, metrics in run.points:
            made.log(dict(metrics), step=step)
        with tempfile.TemporaryDirectory() as folder:
            if run.texts:
                artifact = wandb.Artifact(f"{self._study}-{self._mark[:6]}", type=ANSWER)
                for name, text in run.texts.items():
                    Path(folder, name).write_text(text, "utf-8")
                    artifact.add_file(str(Path(folder, name)))
                made.summary[ANSWER] = run.texts["answer.md"]
                made.log_artifact(artifact)
            made.finish()
        done.write_text(told, "utf-8")


TRACKERS: Mapping[str, Callable[[OpenStudy], Tracker]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": WandB,
}
