"""A study whose candidates are trained by the caller's own loop: `study.ask()` hands out a run, the
loop tells its scores.

The worker runs in a thread of the same process. It proposes, measures, prunes, keeps and resumes as
in any search; in place of training it waits for what the loop reports. So several processes may ask
the same study, and `nas-attn status` shows them.
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from torch import nn

from nas_attn.errors import StudyError, TrainingError
from nas_attn.recipe.recipe import objective_name
from nas_attn.recipe.tables import is_cost
from nas_attn.searching.run.taking_part import Options, work
from nas_attn.storage.opening import OpenStudy
from nas_attn.system.importing import PYTHON
from nas_attn.training.evaluators import EvaluatorRun, Reports

# The evaluator of a study that `na.begin` began
ASKING = f"{PYTHON}a loop of your own"
# seconds between checks that the other thread is alive
ANSWER_WAIT_S = 0.2
# seconds that the worker gets to hand its run back when the program ends
HAND_BACK_S = 10.0

Scores = float | Mapping[str, float]


class Asked:
    """One run, to be trained by the caller: `model` has its attention attached and lies on
    `device`.
    """

    def __init__(self, model: nn.Module, run: EvaluatorRun, metric: str) -> None:
        self.model = model
        self.placement = run.placement
        self.seed = run.seed
        self.device = run.device
        # to train in all, unless `report` says to stop
        self.epochs = run.last
        # epochs whose score is known; after a restart, train on from `folder`
        self.done = run.epochs - run.new_epochs
        # kept over restarts, for checkpoints
        self.folder: Path = run.folder
        # as of `EvaluatorRun`
        self.scored = run.scored
        self.right = run.right
        self._metric = metric
        self._run = run
        self._reported: queue.Queue[tuple[int, Mapping[str, float]] | str] = queue.Queue()
        self._answers: queue.Queue[bool] = queue.Queue()
        self.over = False

    def report(self, epoch: int, score: Scores) -> bool:
        """Reports the score after `epoch` epochs, a number or metrics by name. True: stop, the run
        is pruned or over.
        """
        if not self.over:
            self._reported.put(
                (epoch, score if isinstance(score, Mapping) else {self._metric: float(score)})
            )
            self.over = not self._answers.get() or epoch >= self.epochs
        return self.over

    def tell(self, score: Scores) -> None:
        """Reports the score after the last epoch and so ends the run. Does nothing if the run is
        over.
        """
        if not self.over:
            self.report(self.epochs, score)

    def fail(self, reason: str) -> None:
        """Ends the run as failed; the search goes on."""
        if not self.over:
            self.over = True
            self._reported.put(reason)

    def reports(self) -> Reports:
        """What the loop reports, for the worker."""
        try:
            while True:
                try:
                    told = self._reported.get(timeout=ANSWER_WAIT_S)
                except queue.Empty:
                    if self._run.stopping:
                        self._run.leave()
                    continue
                if isinstance(told, str):
                    raise TrainingError(told)
                yield told
                self._answers.put(True)
                if told[0] >= self.epochs:
                    return
        finally:
            self._answers.put(False)


class Asker:
    """Hands out the runs of a study until it is complete."""

    def __init__(self, opened: OpenStudy, options: Options) -> None:
        trained = (objective_name(o) for o in opened.recipe.objectives if not is_cost(o))
        self._metric = next(trained, "score")
        self._waiting: queue.Queue[Asked] = queue.Queue()
        self._raised: list[BaseException] = []
        self._last: Asked | None = None
        options = replace(options, evaluator=self._evaluate)
        self._thread = threading.Thread(
            target=self._work, args=(opened, options), name="worker", daemon=True
        )
        self._thread.start()
        # at the latest when the program ends
        self.close = weakref.finalize(self, _end, options.stop, self._thread)

    def ask(self) -> Asked | None:
        """The next run; None if the study is complete. Raises StudyError: the last run has no score
        yet. Raises what stopped the study.
        """
        if self._last is not None and not self._last.over:
            raise StudyError(
                f"ask() was called before the score of '{self._last.placement}' was told: call"
                " tell(score) first"
            )
        while not self.over:
            with suppress(queue.Empty):
                self._last = self._waiting.get(timeout=ANSWER_WAIT_S)
                return self._last
            if self._raised and not self._thread.is_alive():
                raise self._raised.pop()
        return None

    @property
    def over(self) -> bool:
        """Whether the worker has ended, with no run left and nothing to raise."""
        return not (self._thread.is_alive() or self._raised) and self._waiting.empty()

    def _work(self, opened: OpenStudy, options: Options) -> None:
        try:
            work(opened, options)
        except BaseException as error:
            # the loop's thread raises it
            self._raised.append(error)

    def _evaluate(self, model: nn.Module, run: EvaluatorRun) -> Reports:
        if run.split != "validation":
            raise TrainingError(
                "a loop with ask() cannot score the test images: name a function in"
                " training.evaluator"
            )
        asked = Asked(model, run, self._metric)
        self._waiting.put(asked)
        return asked.reports()


def _end(stop: threading.Event, thread: threading.Thread) -> None:
    """Stops the worker; a run that is under way returns to the queue."""
    stop.set()
    if thread is not threading.current_thread():
        thread.join(HAND_BACK_S)
