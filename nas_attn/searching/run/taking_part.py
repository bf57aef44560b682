"""One worker's part in a study: its phases, up to the answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field

import torch

from nas_attn.answer.reading import answer
from nas_attn.errors import StudyError
from nas_attn.report.publishing import publish
from nas_attn.searching.keeping import Freed, sweep_checkpoints, sweep_weights
from nas_attn.searching.phases.confirming import Confirmation, Rounds, narrow
from nas_attn.searching.phases.length import Control, FindingLength
from nas_attn.searching.phases.retraining import Retraining
from nas_attn.searching.phases.screening import Search
from nas_attn.searching.phases.testing import Testing, Validation
from nas_attn.searching.prepare.baselines import enqueue_first
from nas_attn.searching.worker.ending import Ending
from nas_attn.searching.worker.presence import Presence
from nas_attn.searching.worker.worker import TaskSource, Worker
from nas_attn.storage.opening import OpenStudy, renewed
from nas_attn.system.processes import owner_name
from nas_attn.system.waiting import Interrupted
from nas_attn.training.evaluators import Evaluator
from nas_attn.training.numerics import intra_op_threads
from nas_attn.training.plan import study_plan
from nas_attn.training.starts import pick_device
from nas_attn.training.workbench import Benches, Workplace

OVER = (Ending.COMPLETE, Ending.EXHAUSTED)
"""Endings of a study that has nothing left to do."""


@dataclass(frozen=True)
class Options:
    """How one worker takes part in a study; nothing here changes a result."""

    device: str = "auto"
    # intra-op threads; None: chosen by measuring
    threads: int | None = None
    # `validate` or `retrain`: only these runs; None: all
    only: str | None = None
    # on this machine, which share its cores
    workers: int = 1
    say: Callable[[str], None] = print
    stop: threading.Event = field(default_factory=threading.Event)
    # replaces the recipe's evaluator (a Python object given to `na.search`)
    evaluator: Evaluator | None = None


def work(opened: OpenStudy, options: Options) -> Ending:
    """Takes part in a study; returns why it ended. Raises StudyError: it is still taking over what
    another study has.
    """
    if opened.store.settings.taking_over is not None:
        name = opened.store.name
        raise StudyError(
            f"study '{name}' has not taken over all of '{opened.store.settings.taking_over}':"
            f" nas-attn resume {name}"
        )
    if options.only is None and opened.recipe.target_is_open:
        ended = with_worker(opened, options, lambda worker: worker.run([FindingLength(worker)]))
        if ended is not Ending.COMPLETE:
            return ended
        # with the recipe that names its target's length, on the sites found already
        plan = study_plan(opened.store)
        opened = renewed(opened)
        study_plan(opened.store, plan)
    return _take_part(opened, options)


def _take_part(opened: OpenStudy, options: Options) -> Ending:
    """The same for a study of which it is known how long its target trains."""

    def carry_out(worker: Worker) -> Ending:
        validation = Validation(worker)
        retraining = Retraining(worker)
        if options.only is not None:
            return worker.run([s for s in (validation, retraining) if s.purpose == options.only])
        enqueue_first(opened)
        phases: list[TaskSource] = [
            retraining,
            Search(worker),
            Control(worker),
            Confirmation(worker),
            Rounds(worker),
        ]
        timed = opened.store.settings.ends_at is not None
        ended = worker.run([*phases, Testing(worker)] if timed else [validation, *phases])
        if ended in OVER and opened.recipe.search.confirm_seeds and not narrow(worker):
            return Ending.STOPPED
        return ended

    ended = with_worker(opened, options, carry_out)
    if ended is Ending.STOPPED:
        # The user waits for a few seconds only, and a large study takes longer.
        return ended
    with suppress(Interrupted):
        current = publish(opened)
        keep = opened.recipe.storage.keep_weights
        # one sweep for all workers that end together
        state = f"{keep} {opened.store.state()}"
        over = options.only is None and ended in OVER
        if over and opened.store.settings.swept != state:
            sweep_checkpoints(opened, Freed())
            if keep != "all":
                sweep_weights(opened, current or answer(opened.store), keep)
            opened.store.set(swept=state)
    return ended


def with_worker(opened: OpenStudy, options: Options, do: Callable[[Worker], Ending]) -> Ending:
    """Makes a worker of this process, with its device; returns the result of `do`, or STOPPED if it
    was stopped before.
    """
    folder = opened.make_folder()
    owner = owner_name()
    ended = Ending.STOPPED
    device = pick_device(options.device)
    presence = Presence(opened, owner, str(device), options.stop)
    with (
        presence.shown(),
        suppress(Interrupted),
        intra_op_threads(1),
        torch.cuda.device(device) if device.type == "cuda" else nullcontext(),
    ):
        workplace = Workplace(
            opened.store,
            opened.artifacts,
            owner,
            folder,
            options.device,
            options.workers,
            options.threads,
            options.evaluator,
        )
        benches = Benches(workplace, study_plan(opened.store))
        worker = Worker(
            opened,
            benches,
            stop=options.stop.is_set,
            say=options.say,
            at=presence.at,
        )
        ended = do(worker)
    return ended
