"""A search from end to end: creates or opens a study, runs workers, writes the answer."""

from __future__ import annotations

import math
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from optuna.trial import TrialState

from nas_attn import tasks
from nas_attn.attention.catalogue import CONTROLS
from nas_attn.data import Dataset
from nas_attn.errors import BackboneError, NasAttnWarning, PlacementError
from nas_attn.evaluation.evaluators import Evaluator
from nas_attn.evaluation.finding import find_evaluator
from nas_attn.evaluation.images import KnownImages, keep_or_compare
from nas_attn.evaluation.output import log_for
from nas_attn.evaluation.plan import Build, Plan, kept_sites, plan_for, study_plan, wanted
from nas_attn.evaluation.starts import check_weights, pick_device, wanted_weights
from nas_attn.evaluation.workbench import Benches, Host
from nas_attn.importing import PYTHON, load_object
from nas_attn.notation import parse
from nas_attn.processes import cores, owner_name
from nas_attn.recipe import Recipe
from nas_attn.records import ALONE, BARE, Choice, ResolvedPlacement, Share
from nas_attn.space import Baseline, SearchSpace, Values
from nas_attn.storage import StudyStore
from nas_attn.study import tracking
from nas_attn.study.keeping import sweep_weights
from nas_attn.study.length import Control, FindingLength
from nas_attn.study.opening import OpenStudy, create_study, renewed
from nas_attn.study.prior import known_before
from nas_attn.study.proposing import Confirmation, Rounds, Search, narrow
from nas_attn.study.publishing import Publisher
from nas_attn.study.reading import snapshot, unfinished
from nas_attn.study.stopping import Presence
from nas_attn.study.target_runs import Retraining, Testing, Validation
from nas_attn.study.trial_book import BASELINE, TRIED
from nas_attn.study.worker import TaskSource, Worker
from nas_attn.tasks.data import data_of
from nas_attn.training.checking import check_trainings
from nas_attn.training.stepping import execution_on, intra_op_threads
from nas_attn.waiting import Interrupted

SMALL_MACS = 200e6  # of a backbone for one image, up to which it leaves most of a GPU idle
MOST_ON_A_GPU = 4  # workers of small networks, by default
BYTES_OF_A_WORKER = 8 * 2**30  # of a GPU's memory, for each of them
CONTEXT_BYTES = 600 * 2**20  # GPU memory that CUDA takes for each process beside its tensors


@dataclass(frozen=True)
class Options:
    """How one worker takes part in a study; nothing here changes a result."""

    device: str = "auto"
    threads: int | None = None  # intra-op threads; None: chosen by measuring
    time_limit_s: float | None = None
    say: Callable[[str], None] = print
    stop: threading.Event = field(default_factory=threading.Event)
    evaluator: Evaluator | None = (
        None  # replaces the recipe's evaluator (a Python object given to `na.search`)
    )
    share: Share = ALONE
    verbose: bool = False  # whether an evaluator's output goes to the terminal, not to a log file


def check_here(
    recipe: Recipe, *, device: str, build: Build | None = None, evaluator: Evaluator | None = None
) -> None:
    """Raises RecipeError or BackboneError if this process lacks the device, the model, the
    evaluator or a tracker.
    """
    tracking.check(recipe)
    execution_on(recipe.training, pick_device(device))
    if recipe.backbone.name.startswith(PYTHON) and build is None:
        load_object(recipe.backbone.name, what="backbone", error=BackboneError)
    if recipe.training.evaluator is not None and evaluator is None:
        find_evaluator(recipe.training.evaluator)


def plan_recipe(
    recipe: Recipe, *, build: Build | None = None, store: StudyStore | None = None
) -> Plan:
    """A recipe's backbone, sites (with `store`: those that the study began with) and space. Loads
    the data, trains nothing.
    """
    dataset = data_of(tasks.of(recipe)).load(recipe, device="cpu")
    if store is not None:
        keep_or_compare(store, recipe, dataset)
    return _plan_of(recipe, dataset, build=build, store=store)


def _plan_of(
    recipe: Recipe,
    dataset: Dataset | None,
    *,
    build: Build | None,
    store: StudyStore | None = None,
) -> Plan:
    kept = None if store is None else kept_sites(store)
    check_trainings(recipe, dataset)
    return plan_for(recipe, dataset, build=build, kept=kept)


def check_images(opened: OpenStudy) -> KnownImages:
    """What the study knows of its images, after reading them. Raises DataError: they are missing,
    or not those of the study.
    """
    dataset = data_of(tasks.of(opened.recipe)).load(opened.recipe, device="cpu")
    return keep_or_compare(opened.store, opened.recipe, dataset)


def check_start(opened: OpenStudy) -> None:
    """Raises BackboneError if the weights that a study's recipe names are not there or do not
    fit.
    """
    if wanted_weights(opened.recipe):
        check_weights(opened.plan)


def first_baselines(recipe: Recipe, space: SearchSpace, trials: int) -> dict[str, Baseline]:
    """Key -> baseline of the recipe, equal networks once; uniform ones: at most three, or a third
    of the trials.
    """
    found: dict[str, Baseline] = {}
    if recipe.search.baselines == "none":
        return found
    bare, *uniform = space.baselines()
    most = max(3, math.ceil(trials / 3)) if recipe.search.baselines == "all" else 0
    if len(uniform) > most:  # evenly over the types, which follow each other in a search space
        uniform = [uniform[number * len(uniform) // most] for number in range(most)]
    for baseline in (bare, *uniform):
        found.setdefault(space.resolve(baseline.values).key, baseline)
    return found


def first_controls(recipe: Recipe, plan: Plan, trials: int) -> dict[str, ResolvedPlacement]:
    """Name -> a network with a plain layer at every site, one for each kind of layer. Empty if no
    latency is measured, or if they would take more than half of the trials.
    """
    known = first_baselines(recipe, plan.space, trials)
    if recipe.search.baselines != "all" or "latency" not in wanted(recipe):
        return {}
    if 2 * (len(known) + len(CONTROLS)) > trials:
        return {}
    found = {
        f"control {name}": plan.resolved(plan.space.everywhere(Choice(name))) for name in CONTROLS
    }
    return {name: resolved for name, resolved in found.items() if resolved.key not in known}


def enqueue_baselines(opened: OpenStudy) -> None:
    """Puts baselines and controls at the front of the queue; queued ones keep their places."""
    with opened.database.creating():
        for baseline in first_baselines(opened.recipe, opened.plan.space, opened.trials).values():
            opened.book.enqueue(baseline.values, {BASELINE: baseline.name})
        for name, resolved in first_controls(opened.recipe, opened.plan, opened.trials).items():
            opened.book.enqueue_outside(resolved.text, {BASELINE: name})


def begin(
    recipe: Recipe,
    url: str,
    *,
    tried: Iterable[str] = (),
    artifacts: Path | str | None = None,
    build: Build | None = None,
    trials: int | None = None,
) -> OpenStudy:
    """A new or existing study, ready for workers; `trials`: of a new one, fewer than its recipe's
    if its time is short. Raises UserError, before anything is written: a
    recipe or placement is wrong.
    """
    tried = list(tried)
    dataset = data_of(tasks.of(recipe)).load(recipe, device="cpu")
    plan = _plan_of(recipe, dataset, build=build)
    user_trials(plan, tried)
    check_weights(plan)
    opened = create_study(recipe, url, artifacts=artifacts)
    keep_or_compare(opened.store, opened.recipe, dataset)
    vars(opened)["plan"] = study_plan(opened.store, plan)  # made already
    begun = bool(opened.store.candidates())
    return take_up(opened, trials=None if begun else trials, tried=tried)


def take_up(
    opened: OpenStudy, *, trials: int | None = None, tried: Iterable[str] = ()
) -> OpenStudy:
    """Prepares an existing study for workers: a new total of `trials`, the user's placements.
    Raises PlacementError.
    """
    own = user_trials(opened.plan, tried)
    if (
        opened.store.settings.prior is None
        and (known := known_before(opened.recipe, opened.database)) is not None
    ):
        opened.store.set(prior=known)
    if trials is not None:
        opened.store.set(trials=trials)
    enqueue_baselines(opened)
    for trial in own:
        enqueue(opened, trial)
    return opened


@dataclass(frozen=True, slots=True)
class UserTrial:
    typed: str
    resolved: ResolvedPlacement
    values: Values | None  # its values in the study's space; None if the space does not contain it


def user_trials(plan: Plan, placements: Iterable[str]) -> list[UserTrial]:
    """The user's placements, each network once; writes nothing. Raises PlacementError: one does not
    fit this backbone.
    """
    found: dict[str, UserTrial] = {}
    for typed in placements:
        resolved = plan.resolved(parse(typed))
        if resolved.other is not None:
            _check_other(plan, resolved.other)
        try:
            values = plan.space.values(resolved)
        except PlacementError:
            values = None
        found.setdefault(resolved.key, UserTrial(typed, resolved, values))
    return list(found.values())


def _check_other(plan: Plan, other: Choice) -> None:
    """Raises BackboneError if there is no such backbone, or the study's weights are not for it."""
    plan.bare(0, other)
    training = plan.recipe.training
    if training.start == "pretrained" and training.weights != "default":
        raise BackboneError(
            f"'{other}' cannot start from '{training.weights}', weights of another network: omit it"
        )


def enqueue(opened: OpenStudy, trial: UserTrial) -> None:
    """Queues the trial behind the baselines, and raises the study's number of trials if it is too
    small for it.
    """
    known = opened.store.candidate(trial.resolved.key)
    if known is not None:
        warnings.warn(
            f"'{trial.typed}' is trial {known.trial} already ({known.state})",
            NasAttnWarning,
            stacklevel=2,
        )
        return
    with opened.database.creating():
        if trial.values is not None:
            opened.book.enqueue(trial.values, {TRIED: trial.typed})
        else:
            opened.book.enqueue_outside(trial.resolved.text, {TRIED: trial.typed})
    trials = opened.book.all()
    waiting = [
        t.number for t in trials if t.state == TrialState.WAITING
    ]  # workers take them in order
    last = max((n for n in waiting if TRIED in trials[n].user_attrs), default=-1)
    counted = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    needed = sum(n <= last for n in waiting) + sum(t.state in counted for t in trials)
    if last >= 0 and needed > opened.trials:
        opened.store.set(trials=needed)


def work(opened: OpenStudy, options: Options, *, only: str | None = None) -> str:
    """Takes part in a study, `only` in its runs of a purpose; returns `complete`, `exhausted`,
    `time` or `stopped`.
    """
    if only is None and opened.recipe.target_is_open:
        ended = _find_length(opened, options)
        if ended != "complete":
            return ended
        opened = _with_its_length(opened)
    return _take_part(opened, options, only)


def _take_part(opened: OpenStudy, options: Options, only: str | None) -> str:
    """The same for a study of which it is known how long its target trains."""
    publisher = Publisher(opened, options.say)

    def say(line: str) -> None:
        options.say(line)
        publisher.maybe()

    def search(worker: Worker) -> str:
        validation, retraining = Validation(worker, unfinished(opened.store)), Retraining(worker)
        for source in (validation, retraining):
            if only == source.purpose:
                return worker.run([source])
        enqueue_baselines(opened)
        phases: list[TaskSource] = [
            retraining,
            Search(worker),
            Control(worker),
            Confirmation(worker),
            Rounds(worker),
        ]
        timed = opened.store.settings.ends_at is not None
        ended = worker.run([*phases, Testing(worker)] if timed else [validation, *phases])
        if (
            ended in ("complete", "exhausted")
            and opened.recipe.search.confirm_seeds
            and not narrow(worker)
        ):
            return "stopped"
        return ended

    ended = with_worker(opened, replace(options, say=say), search)
    if ended == "stopped":  # the user waits for a few seconds only, and a large study takes longer
        return ended
    with suppress(Interrupted):
        current, keep = publisher.changed(), opened.recipe.storage.keep_weights
        state = f"{keep} {opened.store.state()}"  # one sweep for all workers that end together
        if opened.recipe.log.to and ended in ("complete", "exhausted", "time"):
            current = current or snapshot(opened.store)
            tracking.track(opened, current)
        over = only is None and ended in ("complete", "exhausted")
        if over and keep != "all" and opened.store.settings.swept != state:
            sweep_weights(opened, current or snapshot(opened.store), keep)
            opened.store.set(swept=state)
    return ended


def _find_length(opened: OpenStudy, options: Options) -> str:
    """Takes part in finding how long the target trains; why it ended, as `work` does."""
    return with_worker(opened, options, lambda worker: worker.run([FindingLength(worker)]))


def _with_its_length(opened: OpenStudy) -> OpenStudy:
    """The study with the recipe that names its target's length, on the sites found already."""
    changed = renewed(opened)
    vars(changed)["plan"] = study_plan(changed.store, opened.plan)
    return changed


def with_worker(opened: OpenStudy, options: Options, do: Callable[[Worker], str]) -> str:
    """Makes a worker of this process, with its device; returns the result of `do`, or `stopped` if
    it was stopped before.
    """
    began = time.monotonic()
    folder = opened.make_folder()
    log = log_for(folder, opened.store.name, options.say, verbose=options.verbose)
    host = Host(owner_name(), folder, options.device, options.share, log, options.threads)
    ended, device = "stopped", pick_device(options.device)
    presence = Presence(opened, host.owner, str(device), options.stop)
    with (
        presence.shown(),
        suppress(Interrupted),
        intra_op_threads(1),
        on_device(device, options.share),
    ):
        benches = Benches(opened.store, opened.artifacts, host, opened.plan, options.evaluator)
        deadline = None if options.time_limit_s is None else began + options.time_limit_s
        worker = Worker(
            opened,
            benches,
            stop=options.stop.is_set,
            say=options.say,
            deadline=deadline,
            at=presence.at,
        )
        ended = do(worker)
    return ended


@contextmanager
def on_device(device: torch.device, share: Share) -> Iterator[None]:
    """Inside, a GPU is the current one, and this process takes its share of its memory."""
    if device.type != "cuda":
        yield
        return
    with torch.cuda.device(device):
        if share.device > 1:
            total = torch.cuda.get_device_properties(device).total_memory
            torch.cuda.set_per_process_memory_fraction(
                max(0.02, 1 / share.device - CONTEXT_BYTES / total)
            )
        yield


def default_workers(device: str) -> int:
    """Workers for this machine: one per core up to four on a CPU, one per GPU."""
    return gpus_for(device) or max(1, min(4, cores()))


def gpus_for(device: str) -> int:
    """GPUs that workers with this device share; 0: they work on the CPU."""
    if device == "cpu" or not torch.cuda.is_available():
        return 0
    return torch.cuda.device_count() if device in ("auto", "cuda") else 1


def usual_workers(opened: OpenStudy, device: str) -> int:
    """Workers for a study on this machine: as `default_workers`, and several per GPU if its
    backbone is small, so that one loads, checks or saves while others train.
    """
    gpus = gpus_for(device)
    if not gpus or opened.recipe.training.evaluator is not None:
        return default_workers(device)
    plan = opened.plan
    if plan.cost(plan.resolved(BARE))["macs"] > SMALL_MACS:
        return gpus
    memory = torch.cuda.get_device_properties(pick_device(device)).total_memory
    return gpus * max(1, min(MOST_ON_A_GPU, memory // BYTES_OF_A_WORKER, cores() // gpus))
