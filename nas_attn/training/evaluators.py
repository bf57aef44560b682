"""A user's own evaluator in place of the built-in trainer.

The recipe names it, `[training] evaluator = "my_package.eval:evaluate"`, and it may be as short as
this:

    from nas_attn.training.evaluators import EvaluatorRun

    def evaluate(model, run: EvaluatorRun) -> dict[str, float]:
        for _ in range(run.new_epochs):
            train_one_epoch(model, seed=run.seed)
        return {"miou": mean_iou(model)}

It is called once per rung. If it yields, it is called once and trains through all rungs; the search
reads what it yields up to each rung and closes it if the candidate is pruned:

    def evaluate(model, run: EvaluatorRun) -> Iterator[tuple[int, dict[str, float]]]:
        for epoch in range(1, run.last + 1):
            train_one_epoch(model, seed=run.seed)
            yield epoch, {"miou": mean_iou(model)}

A score counts only if the candidate's attention took part in the scored network.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nas_attn import attachment
from nas_attn.attachment.participation import Participation
from nas_attn.errors import (
    BackboneError,
    NasAttnError,
    OperationError,
    OutOfMemory,
    RecipeError,
    TrainingError,
)
from nas_attn.recipe import tasks
from nas_attn.recipe.recipe import Recipe
from nas_attn.recipe.tables import is_share, share_of_images
from nas_attn.space.placement import ResolvedPlacement
from nas_attn.storage.records import Score
from nas_attn.system.importing import load_object
from nas_attn.system.waiting import Interrupted, StopNow
from nas_attn.training.checkpoints import CheckpointSlot
from nas_attn.training.faults import message, out_of_memory, said, show_traceback
from nas_attn.training.numerics import intra_op_threads
from nas_attn.training.parameters import LearningRates
from nas_attn.training.run import NO_CALLBACKS, Callbacks

WAY_OUT = (
    "score the network that the evaluator was given, or name the one that you score with"
    " run.scored(network)"
)


def require_participation(
    network: nn.Module, resolved: ResolvedPlacement, input_shape: tuple[int, int, int]
) -> None:
    """TrainingError if a module of a placement did not run or changes nothing; a network with equal
    outputs for all images passes.
    """
    if not any(choices for _, choices in resolved.modules):
        return
    try:
        idle = _idle(attachment.check(network, input_shape), resolved)
        equal = "no effect" in idle and not attachment.tells_images_apart(network, input_shape)
        if not idle or equal:
            return
    except BackboneError as error:
        raise TrainingError(
            f"whether attention took part in the scored network cannot be checked: {error}"
        ) from error
    raise TrainingError(f"attention took no part in the scored network: {idle}; {WAY_OUT}")


def _idle(modules: tuple[Participation, ...], resolved: ResolvedPlacement) -> str:
    """The first module that took no part, and how; empty if all took part."""
    for path, choice in attachment.expected_modules(resolved).items():
        # The network may have been wrapped, which puts more before the path.
        here = [m for m in modules if not m.lost and f".{m.path}".endswith(f".{path}")]
        if not here:
            return f"{choice} at '{path}' is not in it"
        if not any(module.ran for module in here):
            return f"{choice} at '{path}' did not run"
        if not any(module.depends for module in here):
            return f"{choice} at '{path}' has no effect on its output"
    return ""


@dataclass(slots=True)
class _Told:
    """What an evaluator says of a rung beside its metrics."""

    network: nn.Module | None = None
    """That is scored; None: the model."""
    right: NDArray[np.bool_] | None = None
    """(images,) whether the model is right."""
    lost: str = ""
    """Why the trained weights are not in the model; empty if they are."""


@dataclass(frozen=True, slots=True)
class EvaluatorRun:
    """A run, as an evaluator gets it: what to train, how far, and where to keep files."""

    placement: str
    """In explicit notation."""
    rung: int
    """Index of the rung to reach."""
    epochs: int
    """Epochs in all at this rung."""
    new_epochs: int
    """Epochs since the previous rung."""
    seed: int
    folder: Path
    """Of this candidate and seed, kept over rungs and restarts: for the evaluator's own
    checkpoints.
    """
    device: str
    split: str = "validation"
    """With `test`, nothing is trained: the model is the one of the last rung."""
    last: int = 0
    """Epochs in all at the last rung."""
    asked: Callable[[], bool] = field(default=lambda: False, repr=False, compare=False)
    _told: _Told = field(default_factory=_Told, repr=False, compare=False)

    def elsewhere(self, why: str) -> None:
        """Reports that the trained weights are not in the model, and why: then they cannot be kept
        or exported.
        """
        self._told.lost = why

    @property
    def stopping(self) -> bool:
        """Whether to stop (a signal, or another worker took over). Ask between steps; save to
        `folder`, then `leave`.
        """
        return self.asked()

    def leave(self) -> NoReturn:
        """Ends the run without metrics; it is continued later, with the same `folder` and rung."""
        raise Interrupted

    def scored(self, network: nn.Module) -> None:
        """Names the scored network, if it is not the model (averaged weights); its attention must
        take part.
        """
        self._told.network = network

    def right(self, flags: Sequence[bool] | NDArray[Any] | torch.Tensor) -> None:
        """Reports for each image of the split, in a fixed order, whether the model is right:
        (images,) booleans, whose mean is `accuracy`. Raises TrainingError: another shape or type.
        """
        held = np.asarray(flags.detach().cpu() if isinstance(flags, torch.Tensor) else flags)
        if held.ndim != 1 or not held.size or not np.isin(held, (0, 1)).all():
            raise TrainingError(
                "run.right takes one true or false for each image, not an array of shape"
                f" {held.shape}"
            )
        self._told.right = held.astype(bool)


ROUNDING = 1e-6
"""By which a share may be below 0 or above 1, as a mean in float32 can be."""
ACCURACY_TOLERANCE = 1e-4
"""Between the returned accuracy and the share of the images reported as right."""
Reports = Generator[tuple[int, Mapping[str, float]], None, None]
"""(epochs so far, metrics), as a training goes on."""
Evaluator = Callable[[nn.Module, EvaluatorRun], Mapping[str, float] | Reports]


def find_evaluator(name: str) -> Evaluator:
    """The evaluator of this name in a recipe. Raises RecipeError: it cannot be imported or
    called.
    """
    evaluator: Evaluator = load_object(name, what="training.evaluator", error=RecipeError)
    return evaluator


def evaluator_of(recipe: Recipe) -> Evaluator | None:
    """The evaluator that a recipe names, else its task's; None: our own trainer trains. Raises
    RecipeError: it cannot be imported or called. Raises DataError: it lacks its data.
    """
    if recipe.training.evaluator is not None:
        return find_evaluator(recipe.training.evaluator)
    make = tasks.of(recipe).row.evaluator
    evaluator: Evaluator | None = make()(recipe) if make else None
    return evaluator


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be trained and scored, by the built-in trainer or an evaluator."""

    seed: int
    resolved: ResolvedPlacement
    rungs: Sequence[int]
    """Epochs in all at each rung; a test is of the last one."""
    slot: CheckpointSlot
    callbacks: Callbacks = NO_CALLBACKS
    folder: str = ""
    """Name of the run's folder, for an evaluator's own files."""
    needed: bool = False
    """Whether the trained network is needed, and not only its scores."""
    rates: LearningRates | None = None
    """None: a candidate's."""
    reason: str = ""
    """Why the test split is read."""


NOT_HERE = "the process that trained it was stopped before writing them"


@dataclass
class EvaluatorTrainer:
    """Runs an evaluator through the rungs, as the built-in trainer trains."""

    evaluator: Evaluator
    folder: Path
    """Parent of the candidates' folders."""
    device: str
    threads: int
    """Intra-op threads of torch."""
    lost: str = NOT_HERE
    """Why the last trained network is not here; empty if it is."""
    _network: nn.Module | None = None
    """The last scored network, if the evaluator has named it."""
    _reports: Reports | None = None
    """Of an evaluator that yields, while it trains."""

    def scored(self, model: nn.Module) -> nn.Module:
        """The network that was scored: the model, unless the evaluator has named another one."""
        return self._network or model

    def fit(self, model: nn.Module, job: Job) -> tuple[Score, ...]:
        """Evaluates rung by rung. Finished rungs are not repeated, except a single one if the
        network is needed. Raises TrainingError: the evaluator raised, or did not return finite
        numbers. Raises Interrupted.
        """
        rungs = job.rungs
        scores = [Score.from_plain(row) for row in json.loads(job.slot.load() or "[]")]
        if job.needed and len(scores) == len(rungs) == 1:
            scores = []
        self.lost = NOT_HERE
        with self._begun(job) as begun:
            for rung, (before, epochs) in enumerate(pairwise([0, *rungs])):
                if rung >= len(scores):
                    if job.callbacks.stop():
                        raise Interrupted
                    run = replace(
                        begun,
                        rung=rung,
                        epochs=epochs,
                        new_epochs=epochs - before,
                        asked=job.callbacks.stop,
                        last=rungs[-1],
                    )
                    scores.append(self._one(model, run))
                    plain = json.dumps([score.as_plain() for score in scores])
                    job.slot.save(plain.encode(), epochs)
                    self.lost = begun._told.lost
                if not job.callbacks.on_rung(scores[rung]):
                    break
        return tuple(scores)

    def test(self, model: nn.Module, job: Job) -> Score:
        """The evaluator's metrics on its test split; raises as `fit`."""
        with self._begun(job) as begun:
            return self._one(model, replace(begun, split="test"))

    @contextmanager
    def _begun(self, job: Job) -> Iterator[EvaluatorRun]:
        """A run before its first rung. Afterwards an evaluator that yields is closed, also if it
        was pruned or failed, and the run's folder is removed if it is empty.
        """
        folder = self.folder / job.folder
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with intra_op_threads(self.threads):
                yield EvaluatorRun(
                    placement=job.resolved.text,
                    rung=0,
                    epochs=job.rungs[-1],
                    new_epochs=0,
                    seed=job.seed,
                    folder=folder,
                    device=self.device,
                )
        finally:
            reports = self._reports
            self._reports = None
            if reports is not None:
                reports.close()
            with suppress(OSError):
                folder.rmdir()

    def _metrics(self, model: nn.Module, run: EvaluatorRun) -> object:
        """The evaluator's return value, or what it yields at the rung; after the last rung it may
        end by itself.
        """
        answer: object = self._reports or self.evaluator(model, run)
        if not isinstance(answer, Generator):
            return answer
        self._reports = answer
        for epoch, metrics in answer:
            if epoch < run.epochs and run.split != "test":
                continue
            if run.epochs == run.last:
                # the evaluator goes on after its last score, to its own end
                deque(answer, maxlen=0)
            return metrics
        raise TrainingError(
            f"the evaluator ended without a score of epoch {run.epochs} of '{run.placement}':"
            " report or yield one"
        )

    def _one(self, model: nn.Module, run: EvaluatorRun) -> Score:
        wall_began = time.perf_counter()
        process_began = time.process_time()
        self._network = None
        told = run._told
        told.right = None
        if self._reports is None:
            # One that yields may name its network once.
            told.network = None
        try:
            metrics = self._metrics(model, run)
        except (NasAttnError, Interrupted, StopNow):
            raise
        except KeyboardInterrupt as error:
            # Perhaps a person's, which the evaluator's own library has caught: the run is kept.
            raise OperationError(
                f"the evaluator raised KeyboardInterrupt for '{run.placement}': the run waits"
                " again, and the study can be resumed"
            ) from error
        except BaseException as error:
            # whatever a user's own code may raise, sys.exit included
            show_traceback(error)
            if out_of_memory(error):
                raise OutOfMemory(f"not enough memory for the evaluator: {said(error)}") from error
            raise TrainingError(
                f"the evaluator raised {type(error).__name__} for '{run.placement}':"
                f" {message(error)}"
            ) from error
        score = Score(
            run.seed,
            run.rung,
            run.epochs,
            _values(metrics, run),
            wall_s=time.perf_counter() - wall_began,
            device_s=time.process_time() - process_began,
        )
        self._network = told.network
        # what the evaluator told meanwhile
        right = run._told.right
        if right is None:
            return score
        return replace(score, correct=np.packbits(right).tobytes(), examples=len(right))


def _values(metrics: object, run: EvaluatorRun) -> dict[str, float]:
    """The metrics that an evaluator returned; with the share of the images that it reported as
    right as accuracy.

    Raises:
        TrainingError: they are not finite numbers by name, or not the accuracy of these images.
        RecipeError: a share is not between 0 and 1, as it would be for every candidate.
    """
    if not isinstance(metrics, Mapping) or not metrics:
        raise TrainingError(
            f"the evaluator returned {metrics!r} for '{run.placement}': return named metrics"
        )
    values = {}
    for name, value in metrics.items():
        returned = f"the evaluator returned {name} = {value!r} for '{run.placement}'"
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise TrainingError(f"{returned}, not a finite number")
        values[name] = _share(name, float(value), run) if is_share(name) else float(value)
    if run._told.right is not None:
        name = share_of_images()
        share = float(run._told.right.mean())
        if abs(metrics.get(name, share) - share) > ACCURACY_TOLERANCE:
            raise TrainingError(
                f"the evaluator returned {name} = {metrics[name]!r} for '{run.placement}', but told"
                f" run.right that {share!r} of the images are right"
            )
        values[name] = share
    return values


def _share(name: str, value: float, run: EvaluatorRun) -> float:
    """A share's value, without errors of rounding below 0 or above 1."""
    if -ROUNDING <= value <= 1 + ROUNDING:
        return min(max(value, 0.0), 1.0)
    way_out = f"return {value / 100:g}" if 1 < value <= 100 else "return the share itself"
    raise RecipeError(
        f"the evaluator returned {name} = {value:g} for '{run.placement}': {name} is a share from 0"
        f" to 1: {way_out}"
    )
