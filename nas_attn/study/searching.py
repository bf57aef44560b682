"""A search from end to end: a study is made or taken up, workers run, the answer is drawn up."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nas_attn import data
from nas_attn.analysis.snapshot import Snapshot, snapshot
from nas_attn.errors import BackboneError, NasAttnWarning
from nas_attn.evaluation.evaluators import Evaluator, find_evaluator
from nas_attn.evaluation.plan import Build, Plan
from nas_attn.evaluation.workbench import Host, Workbench, intra_op_threads, pick_device, plan_for
from nas_attn.importing import PYTHON, load_object
from nas_attn.recipe import Recipe
from nas_attn.records import ALONE, Share
from nas_attn.report import dashboard
from nas_attn.space import parse, resolve
from nas_attn.space.search_space import Values
from nas_attn.study.confirming import confirm
from nas_attn.study.opening import TRIALS, OpenStudy
from nas_attn.study.owner import owner_name
from nas_attn.study.sharing import on_device
from nas_attn.study.worker import BASELINE, Worker
from nas_attn.training.stepping import execution_on

ENQUEUED = "enqueued"
"""Attribute of a study: its baselines are waiting as trials."""
PUBLISH_S = 10.0
"""Seconds between refreshes of the dashboard's notes and plots."""


@dataclass(frozen=True)
class Options:
    """How one worker takes part in a study; nothing here changes a result."""

    device: str = "auto"
    threads: int | None = None
    time_limit_s: float | None = None
    say: Callable[[str], None] = print
    stop: threading.Event = field(default_factory=threading.Event)
    build: Build | None = None
    """Replaces the recipe's backbone (a Python object given to `na.search`)."""
    evaluator: Evaluator | None = None
    share: Share = ALONE
    mps: bool = True
    """Whether several workers on one GPU compute at the same time through NVIDIA's MPS, where it is installed."""


def check_here(recipe: Recipe, *, device: str, build: Build | None = None, evaluator: Evaluator | None = None) -> None:
    """Whether this process has the device, the model and the evaluator: asked before workers are started.

    Raises:
        RecipeError: there is no such device, it cannot train as the recipe says, or the evaluator cannot be imported.
        BackboneError: the model is an object of another program.
    """
    execution_on(recipe.training, pick_device(device))
    if recipe.backbone.name.startswith(PYTHON) and build is None:
        load_object(recipe.backbone.name, what="backbone", error=BackboneError)
    if recipe.training.evaluator is not None and evaluator is None:
        find_evaluator(recipe.training.evaluator)


def plan_recipe(recipe: Recipe, *, build: Build | None = None) -> Plan:
    """What a recipe means: backbone, sites, space. Loads the data, trains nothing."""
    dataset = None if recipe.data.name == "external" else data.load(recipe.data, device="cpu")
    return plan_for(recipe, dataset, build=build)


def enqueue_baselines(opened: OpenStudy, plan: Plan) -> None:
    """Puts the baselines in front of the queue, once; equal networks once."""
    which = opened.recipe.search.baselines
    with opened.database.creating():
        if opened.store.get(ENQUEUED) is not None:
            return
        seen: set[str] = set()
        for baseline in plan.space.baselines()[: {"all": None, "bare": 1, "none": 0}[which]]:
            key = plan.space.resolve(baseline.values).key
            if key not in seen:
                seen.add(key)
                opened.optuna_study.enqueue_trial(
                    dict(baseline.values), user_attrs={BASELINE: baseline.name}, skip_if_exists=True
                )
        opened.store.put(ENQUEUED, "yes")


@dataclass(frozen=True, slots=True)
class Idea:
    """A placement of one's own that a study is to evaluate."""

    typed: str
    key: str
    values: Values


def ideas(plan: Plan, placements: Iterable[str]) -> list[Idea]:
    """One's own placements, checked; nothing is written.

    Raises:
        PlacementError: one of them is no placement of this study's space.
    """
    found = []
    for typed in placements:
        resolved = resolve(parse(typed), plan.sites, init=plan.space.init)
        found.append(Idea(typed, resolved.key, plan.space.values(resolved)))
    return found


def enqueue(opened: OpenStudy, idea: Idea) -> None:
    """Puts one's own idea in the queue, behind the baselines; a study that is full grows by one."""
    known = opened.store.candidate(idea.key)
    if known is not None:
        warnings.warn(f"'{idea.typed}' is trial {known.trial} already", NasAttnWarning, stacklevel=2)
        return
    opened.optuna_study.enqueue_trial(dict(idea.values), user_attrs={"tried": idea.typed}, skip_if_exists=True)
    finished = sum(t.state.is_finished() for t in opened.optuna_study.get_trials(deepcopy=False))
    if finished >= opened.trials:
        set_trials(opened, finished + 1)


def set_trials(opened: OpenStudy, trials: int) -> None:
    """Changes how many candidates the study is to evaluate in all."""
    opened.store.put(TRIALS, str(trials))


def work(opened: OpenStudy, options: Options) -> str:
    """Takes part in a study until it is complete. Returns `complete`, `exhausted`, `time` or `stopped`.

    Raises:
        UserError: the recipe cannot be carried out here.
        OperationError: something outside the user's input failed.
    """
    with intra_op_threads(options.threads), on_device(pick_device(options.device), options.share):
        return _work(opened, options)


def _work(opened: OpenStudy, options: Options) -> str:
    began = time.monotonic()
    limit = options.time_limit_s or opened.recipe.search.time_limit_s
    owner = owner_name()
    host = Host(owner=owner, folder=opened.folder, device=options.device, share=options.share)
    bench = Workbench(
        opened.recipe, opened.store, opened.artifacts, host, build=options.build, evaluator=options.evaluator
    )
    enqueue_baselines(opened, bench.plan)
    publisher = Publisher(opened)

    def say(line: str) -> None:
        options.say(line)
        publisher.maybe()

    worker = Worker(
        opened,
        bench,
        owner=owner,
        stop=options.stop.is_set,
        say=say,
        deadline=None if limit is None else began + limit,
    )
    ended = worker.run()
    if ended in ("complete", "exhausted") and opened.recipe.search.confirm_seeds:
        ended = ended if confirm(worker) == "complete" else "stopped"
    publisher.now()
    return ended


class Publisher:
    """Keeps the notes and plots of optuna-dashboard current, not more often than is cheap."""

    def __init__(self, opened: OpenStudy) -> None:
        self._opened, self._last = opened, time.monotonic()

    def maybe(self) -> None:
        """Publishes where some time has passed since the last time."""
        if time.monotonic() - self._last > PUBLISH_S:
            self.now()

    def now(self) -> Snapshot:
        """Publishes the study as of now."""
        current = snapshot(self._opened.store)
        dashboard.publish(self._opened.optuna_study, current)
        self._last = time.monotonic()
        return current


def default_workers(device: str) -> int:
    """Workers for this machine: one per core up to four on a CPU, one per GPU."""
    import torch

    if device != "cpu" and torch.cuda.is_available():
        return torch.cuda.device_count() if device in ("auto", "cuda") else 1
    return max(1, min(4, len(os.sched_getaffinity(0))))


def threads_each(workers: int, recipe: Recipe, asked: int | None) -> int:
    """Intra-op threads of each of several workers: those asked for, else the recipe's, else the cores shared out."""
    return asked or recipe.training.threads or max(1, len(os.sched_getaffinity(0)) // workers)


def report_path(opened: OpenStudy) -> Path:
    """Where a study's HTML report goes unless told otherwise: beside the database."""
    base = opened.database.path.parent if opened.database.path else Path.cwd()
    return base / f"{opened.store.name}.html"
