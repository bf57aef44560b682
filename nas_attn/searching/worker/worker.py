"""A worker takes runs from a study's queue, one by one, until none is left or it is told to stop.

Task sources (search, confirmation, validation, retraining) decide which runs are wanted. One worker
at a time holds the lease `scheduling` and looks for work, so that nothing is begun twice. The lease
of a run guards all writes about it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from nas_attn.errors import (
    BackboneLost,
    DeviceLost,
    LeaseLost,
    OperationError,
    OutOfMemory,
    RecipeError,
    StorageAway,
    TrainingError,
    several,
)
from nas_attn.recipe.purposes import BACKBONE, LENGTH, SEARCH, length_epochs
from nas_attn.recipe.recipe import Recipe
from nas_attn.searching.keeping import sweep
from nas_attn.searching.worker.ending import Ending
from nas_attn.searching.worker.presence import IDLE
from nas_attn.space.placement import BARE, ResolvedPlacement
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.records import Score
from nas_attn.storage.rows import Lease, Run, RunRow
from nas_attn.storage.store import StudyStore
from nas_attn.system.environment import work_wait_s
from nas_attn.system.waiting import Interrupted, Wait, ignore, impatient
from nas_attn.training.workbench import Benches

# the lease of the worker that looks for work
SCHEDULING = "scheduling"
QUEUE_POLL_S = 0.5
# of an idle worker, in seconds: a look costs the database as much as a proposal
LONGEST_POLL_S = 3.0
# a run that has killed this many workers counts as failed
MOST_KILLED = 3

# so many failed networks end a study in which none has been scored
MANY_FAILED = 3


class TaskSource:
    """A kind of work of a study: its runs, and what follows from them. Subclasses add `purpose`,
    and override what they need; so some arguments are unused here.

    Between two calls, any process may change the study: begin a test, enqueue runs of this purpose,
    ask for more trials. So a source keeps nothing of the study that can change; each call reads
    what it needs. `tests/searching/phases/test_phases_sources.py` holds each source to it.
    """

    purpose: str

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.store = worker.store
        self.recipe = worker.recipe
        self.queue = worker.queue

    def recover(self, lease: Lease) -> None:
        """Cleans up after workers that are gone."""

    def want(self, lease: Lease) -> bool:  # noqa: ARG002 - sources need it
        """Enqueues the next runs; returns whether there are any."""
        return False

    def ahead(self, lease: Lease) -> bool:  # noqa: ARG002 - sources need it
        """Enqueues runs that will be wanted, for a worker that would wait for others' last runs of
        an earlier source; returns whether there are any.
        """
        return False

    def prepare(self, row: RunRow, lease: Lease) -> bool:  # noqa: ARG002 - sources need it
        """Prepares a run; false if the run is not wanted after all."""
        return True

    def known(self, run: Run) -> Score | None:  # noqa: ARG002 - sources need it
        """The result of a run whose training the study has already, and whose network nobody
        needs; None: it must be trained.
        """
        return None

    def go_on(self, run: Run, score: Score) -> bool:  # noqa: ARG002 - sources need it
        """Whether a run goes on from a rung."""
        return True

    def trained(self, row: RunRow, model: nn.Module, lease: Lease) -> None:
        """Called when a run has reached its last rung, with the network."""

    def enter(self, runs: Iterable[Run], **which: Any) -> bool:
        """Enqueues the runs that are not in the queue, or were withdrawn.

        Args:
            runs: that are wanted.
            which: of the queue's rows they may be, as `RunQueue.rows` takes it.

        Returns:
            Whether there are any.
        """
        rows = self.queue.rows(**which)
        there = {row.run.identity for row in rows if row.state != "withdrawn"}
        missing = [run for run in runs if run.identity not in there]
        self.queue.want(missing)
        return bool(missing)

    def ended(self, row: RunRow, lease: Lease) -> None:  # noqa: ARG002 - sources need it
        """Called when a run has ended, with its row of the queue; its lease is still held."""
        self.worker.say(f"{self.worker.name(row.run)}{how_it_ended(row)}")

    def close(self) -> Ending | None:
        """Called when no run is left: why it ends; None while others finish it."""
        return Ending.COMPLETE

    def lacks(self) -> str:
        """What other workers must do before it can end: one sentence with the way out, or empty."""
        return ""


def how_it_ended(row: RunRow) -> str:
    """Says how a run ended, for the end of a line."""
    return f": {row.state}: {row.reason}" if row.reason else f": {row.state}"


@dataclass(frozen=True)
class TakenRun:
    row: RunRow
    # none for a backbone
    source: TaskSource | None
    lease: Lease


class Worker:
    """Carries out runs of one study. Any number of workers may share it, on any number of
    machines.
    """

    def __init__(
        self,
        opened: OpenStudy,
        benches: Benches,
        *,
        stop: Callable[[], bool],
        say: Callable[[str], None],
        at: Callable[[str], None] = ignore,
    ) -> None:
        """Makes a worker of a study.

        Args:
            opened: the study.
            benches: where its runs are trained, by protocol.
            stop: asked between steps; True ends the work.
            say: takes each line of progress.
            at: is told the current task.
        """
        self._at = at
        self.opened = opened
        self.benches = benches
        self.owner = benches.workplace.owner
        self.stop = stop
        self.say = say
        self.store = opened.store
        self.recipe = opened.recipe
        self.queue = opened.store.queue

    def run(self, sources: Sequence[TaskSource]) -> Ending:
        """Works until the sources, in their order, have no work left. Returns STOPPED, or what
        the last source's `close` said; COMPLETE only if no source said another one.
        """
        idle = self._idle(sources)
        try:
            while not self.stop():
                try:
                    with self.scheduling() as lock:
                        step = self._next(sources, lock) if lock is not None else None
                except LeaseLost:
                    # it was silent for too long, as while the database is away: another schedules
                    continue
                if isinstance(step, Ending):
                    return step
                if step is None:
                    self._at(IDLE)
                    next(idle)
                else:
                    idle = self._idle(sources)
                    self._do(step)
        except Interrupted:
            pass
        return Ending.STOPPED

    def _idle(self, sources: Sequence[TaskSource]) -> Iterator[None]:
        """Waits a little before each step, until it is closed.

        Raises:
            OperationError: only others can do the work, and none of them is there.
        """

        def lacks() -> str:
            return next(filter(None, (source.lacks() for source in sources)), "")

        alone_since = time.monotonic()
        poll_s = QUEUE_POLL_S
        with Wait("the runs of other workers") as wait:
            while True:
                # another idle worker holds the scheduling lock now and then, while it looks
                if any(
                    lease.owner != self.owner and lease.resource != SCHEDULING
                    for lease in self.store.held()
                ):
                    alone_since = time.monotonic()
                elif time.monotonic() - alone_since > work_wait_s():
                    rest = f"no worker takes the rest of study '{self.store.name}'"
                    raise OperationError(lacks() or f"{rest}: resume the study")
                wait.pause(poll_s * random.uniform(0.8, 1.2), lacks)
                poll_s = min(1.3 * poll_s, LONGEST_POLL_S)
                yield

    @contextmanager
    def scheduling(self) -> Iterator[Lease | None]:
        """Takes the scheduling lock; yields None if another worker holds it."""
        lease = None
        # many workers look; reading is cheaper than trying to take it
        if not self.store.held(SCHEDULING):
            lease = self.store.acquire(SCHEDULING, owner=self.owner)
        if lease is None:
            yield None
            return
        with self.store.holding(lease):
            yield lease

    def _next(self, sources: Sequence[TaskSource], lock: Lease) -> TakenRun | Ending | None:
        """The next run; None while others do the last ones; why the work ends if none is left."""
        if not self.store.is_current:
            # another worker has found how long the target trains
            return Ending.COMPLETE
        sweep(self.store)
        for source in sources:
            source.recover(lock)
        step = self._take(sources)
        if step is not None:
            return step
        ending = Ending.COMPLETE
        for number, source in enumerate(sources, 1):
            if source.want(lock):
                return self._take(sources)
            waiting = self.queue.rows(state="waiting", purposes=[source.purpose])
            ended = None if waiting else source.close()
            if ended is None:
                ahead = any(later.ahead(lock) for later in sources[number:])
                return self._take(sources) if ahead else None
            if ended is not Ending.COMPLETE:
                ending = ended
        return ending

    def _take(self, sources: Sequence[TaskSource]) -> TakenRun | None:
        """The first waiting run that no worker has, or the backbone that it needs first."""
        by_purpose = {source.purpose: source for source in sources}
        held = {lease.resource for lease in self.store.held("run/")}
        for waiting in self.queue.rows(state="waiting", purposes=list(by_purpose)):
            needed = self.benches.of(waiting.run.protocol).needs_backbone(waiting.run)
            taken = waiting
            failed = ""
            source: TaskSource | None = by_purpose[waiting.run.purpose]
            if needed is not None:
                backbone = self._backbone(needed, waiting.run)
                if backbone.state == "failed":
                    failed = backbone.reason
                else:
                    taken = backbone
                    source = None
            if taken.resource in held:
                continue
            lease = self.store.acquire(taken.resource, owner=self.owner)
            if lease is None:
                continue
            # What another worker has done to it since.
            row = self.queue.row(taken.id)
            # another worker has just ended it
            if row.state != "waiting":
                self.store.release(lease)
            elif failed or row.attempts >= MOST_KILLED:
                self._end(
                    TakenRun(row, source, lease),
                    "failed",
                    failed or f"it killed {MOST_KILLED} workers",
                )
                self.store.release(lease)
            else:
                return TakenRun(self.queue.begin(row, lease), source, lease)
        return None

    def _backbone(self, needed: Run, wanted_by: Run) -> RunRow:
        """The queue's row of a needed backbone. A lost one is trained again, but not a control's
        that failed.
        """
        self.queue.want([replace(needed, priority=wanted_by.priority + 1)])
        (row,) = (
            r
            for r in self.queue.rows(key=needed.key, protocol=needed.protocol)
            if r.run.identity == needed.identity
        )
        if row.state != "waiting" and (row.state != "failed" or needed.key == BACKBONE):
            self.queue.again([row.id])
            row = self.queue.row(row.id)
        return row

    def _do(self, step: TakenRun) -> None:
        """Carries out one run. An interrupted run returns to the queue with its checkpoint."""
        run = step.row.run
        name = self.name(run)
        task = name
        if step.source is None:
            # the first thing that happens, and for minutes the only one
            self.say(f"{name}: training")
        elif run.purpose == SEARCH:
            task = f"{name}, seed {run.seed}: {run.placement}"
        self._at(task)
        with self.store.holding(step.lease):
            try:
                self._carry_out(step)
            except BackboneLost as error:
                self.say(f"{name}: {error}")
                self.queue.hand_back(step.row, step.lease)
            except LeaseLost:
                self.say(f"{name}: taken over by another worker")
            except BaseException as error:
                # A lost device is no orderly end: a run that costs one process after the other its
                # GPU must fail at last.
                if not isinstance(error, DeviceLost):
                    # what cannot be handed back, others take over
                    with suppress(StorageAway, LeaseLost, Interrupted), impatient():
                        self.queue.hand_back(step.row, step.lease)
                self.say(f"{name}: stopped; it will go on from its last checkpoint")
                if not isinstance(error, Interrupted):
                    raise

    def _carry_out(self, step: TakenRun) -> None:
        row = step.row
        source = step.source
        lease = step.lease
        run = row.run
        bench = self.benches.of_run(run)
        state = "done"
        reason = ""
        try:
            if source is None:
                bench.train_backbone(run, lease=lease, stop=self.stop)
            elif not source.prepare(row, lease):
                state = "withdrawn"
            elif known := source.known(run):
                self.store.add_score(run, known, lease=lease)
            else:
                scores = bench.train(
                    run,
                    self.resolved(run),
                    lease=lease,
                    go_on=lambda score: source.go_on(run, score),
                    stop=self.stop,
                    trained=lambda model: source.trained(row, model, lease),
                )
                if scores[-1].rung < bench.recipe.training.last_rung:
                    state = "pruned"
        except TrainingError as error:
            # not tried again: it would end the same way
            stop_if_all_fail(self.store, bench.recipe, run, error)
            state = "failed"
            reason = str(error)
        self._end(step, state, reason)

    def _end(self, step: TakenRun, state: str, reason: str) -> None:
        row = step.row
        source = step.source
        lease = step.lease
        self.queue.finish(row, state, reason, lease)
        self.benches.of(row.run.protocol).files(row.run, lease).clear()
        if source is None:
            how = "trained" if state == "done" else f"{state}: {reason}"
            self.say(f"{self.name(row.run)}: {how}")
        else:
            source.ended(self.queue.row(row.id), lease)

    def name(self, run: Run) -> str:
        """Names a run in a few words."""
        if run.purpose == BACKBONE:
            return self._backbone_name(run)
        if run.purpose == LENGTH:
            rate = run.protocol.partition("x")[2]
            at = f" at {rate} times the usual rate" if rate else ""
            epochs = several(length_epochs(run.protocol) or 0, "epoch")
            return f"bare backbone for {epochs}{at}, seed {run.seed}"
        if run.purpose == SEARCH:
            candidate = self.store.candidate(run.key)
            return str(run.placement) if candidate is None else f"trial {candidate.trial}"
        return f"{run.purpose}, seed {run.seed}: {run.placement}"

    def _backbone_name(self, run: Run) -> str:
        backbones = self.benches.of(run.protocol).recipe.training.backbones
        if run.key != BACKBONE:
            return f"{run.key} {run.backbone + 1}"
        if run.backbone < backbones:
            return f"backbone {run.backbone + 1} of {backbones}"
        # of a confirmation round
        return f"fresh backbone for seed {run.seed}"

    def resolved(self, run: Run) -> ResolvedPlacement:
        return self.benches.of(run.protocol).plan.resolved(run.placement)


def stop_if_all_fail(store: StudyStore, recipe: Recipe, run: Run, error: TrainingError) -> None:
    """Stops the study if the bare backbone fails, or several networks while no run of this protocol
    has a score.

    Args:
        store: of the study.
        recipe: of the run's protocol.
        run: the one that has failed.
        error: why.

    Raises:
        RecipeError, TrainingError: the study stops.
    """
    scores = store.scores(protocol=run.protocol)
    # at another rate, the bare backbone may learn
    may_pass = recipe.rate_is_open or isinstance(error, OutOfMemory)
    if may_pass or any(stored.purpose != BACKBONE for stored in scores):
        return
    rows = store.queue.rows(state="failed", protocol=run.protocol)
    failed = {run.key, *(row.run.key for row in rows)}
    if run.placement != BARE and len(failed) < MANY_FAILED:
        return
    own = recipe.training.evaluator is not None
    kind = RecipeError if own else TrainingError
    who = "training.evaluator has not scored one run yet: " if own else ""
    what = (
        f"{len(failed)} networks failed and none has been scored, so the search stops; the last,"
        f" '{run.placement}'"
    )
    if run.placement == BARE:
        what = "the bare backbone fails, so every network would; nothing was recorded"
    again = (
        "start your program again" if recipe.needs_program else f"run nas-attn resume {store.name}"
    )
    raise kind(f"{who}{what}: {error}; fix this, then {again}") from error
