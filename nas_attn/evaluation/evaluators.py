"""A user's own evaluator in place of the built-in trainer.

The recipe names it, `[training] evaluator = "my_package.eval:evaluate"`, and it may be as short as this:

    from nas_attn.evaluation.evaluators import EvaluatorRun

    def evaluate(model, run: EvaluatorRun) -> dict[str, float]:
        for _ in range(run.new_epochs):
            train_one_epoch(model, seed=run.seed)
        return {"miou": mean_iou(model)}
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import nn

from nas_attn.errors import NasAttnError, RecipeError, TrainingError
from nas_attn.importing import load_object
from nas_attn.records import Score
from nas_attn.training import CheckpointSlot, Interrupted


@dataclass(frozen=True, slots=True)
class EvaluatorRun:
    """What an evaluator is told about the run that it carries on."""

    placement: str
    """Explicit notation."""
    rung: int
    """Index of the rung to reach."""
    epochs: int
    """Epochs in all at this rung."""
    new_epochs: int
    """Epochs since the previous rung."""
    seed: int
    folder: Path
    """A folder of this candidate and seed, kept over rungs and restarts: for the evaluator's own checkpoints."""
    device: str
    """Where to train."""


Evaluator = Callable[[nn.Module, EvaluatorRun], Mapping[str, float]]


def find_evaluator(name: str) -> Evaluator:
    """The function that `package.module:function` names.

    Raises:
        RecipeError: it cannot be imported or called.
    """
    function = load_object(name, what="training.evaluator", error=RecipeError)
    if not callable(function):
        raise RecipeError(f"training.evaluator '{name}' is not callable")
    evaluator: Evaluator = function
    return evaluator


class EvaluatorTrainer:
    """Runs an evaluator through the rungs, with the same interface as the built-in trainer's `fit`."""

    def __init__(self, evaluator: Evaluator, *, folder: Path, device: str) -> None:
        """Args:
        folder: parent of the candidates' folders.
        """
        self._evaluator, self._folder, self._device = evaluator, folder, device

    def fit(
        self,
        model: nn.Module,
        *,
        key: str,
        placement: str,
        seed: int,
        rungs: Sequence[int],
        slot: CheckpointSlot,
        on_rung: Callable[[Score], bool],
        stop: Callable[[], bool],
    ) -> tuple[Score, ...]:
        """Evaluates rung by rung; finished rungs are not repeated after a restart.

        Raises:
            TrainingError: the evaluator raised something, or returned something other than finite numbers.
            Interrupted: `stop` said so.
        """
        blob = slot.load()
        scores = [] if blob is None else [Score(**row) for row in json.loads(blob)]
        folder = self._folder / f"{key}-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        for rung, epochs in enumerate(rungs):
            if rung >= len(scores):
                if stop():
                    raise Interrupted
                new = epochs - (rungs[rung - 1] if rung else 0)
                run = EvaluatorRun(placement, rung, epochs, new, seed, folder, self._device)
                scores.append(self._one(model, run))
                slot.save(json.dumps([asdict(score) for score in scores]).encode(), epochs)
            if not on_rung(scores[rung]):
                break
        return tuple(scores)

    def _one(self, model: nn.Module, run: EvaluatorRun) -> Score:
        wall, process = time.perf_counter(), time.process_time()
        try:
            metrics = self._evaluator(model, run)
        except (NasAttnError, Interrupted):
            raise
        except Exception as error:  # whatever a user's own code may raise
            raise TrainingError(
                f"the evaluator raised {type(error).__name__} for '{run.placement}': {str(error) or 'without a message'}"
            ) from error
        if not isinstance(metrics, Mapping) or not metrics:
            raise TrainingError(
                f"the evaluator returned {metrics!r} for '{run.placement}', not named metrics like {{'miou': 0.4}}"
            )
        for name, value in metrics.items():
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise TrainingError(
                    f"the evaluator returned {name} = {value!r} for '{run.placement}', not a finite number"
                )
        return Score(
            seed=run.seed,
            rung=run.rung,
            epochs=run.epochs,
            metrics={name: float(value) for name, value in metrics.items()},
            wall_s=time.perf_counter() - wall,
            device_s=time.process_time() - process,
        )
