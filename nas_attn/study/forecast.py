"""What a search would cost and what it could show, before it is begun."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nas_attn import tasks
from nas_attn.analysis.units import duration
from nas_attn.analysis.validation import validation_epochs
from nas_attn.evaluation.evaluators import EvaluatorRun
from nas_attn.evaluation.plan import Plan, plan_for, wanted
from nas_attn.evaluation.starts import check_weights, pick_device
from nas_attn.recipe import Recipe
from nas_attn.space import Values
from nas_attn.study.planning import smallest_difference
from nas_attn.study.progress import ROUNDS, further_runs
from nas_attn.study.searching import UserTrial, default_workers, first_baselines, first_controls, user_trials
from nas_attn.training import Trainer
from nas_attn.training.stepping import Threads, cores_for


@dataclass(frozen=True, slots=True)
class Forecast:
    """Size, cost and resolving power of a search."""

    study: str
    placements: int
    """That the search space holds."""
    trials: int
    """Candidates to evaluate in all."""
    outside: int
    """Of these, outside the search space: uniform baselines that it does not hold, placements of one's own."""
    baselines: int
    """Of these, baselines."""
    tried: int
    """Of these, placements of one's own that are no baseline."""
    queued: int
    """Baselines and placements of one's own that there are: with no more trials than that, nothing is searched."""
    epoch_s: float | None
    """Seconds per epoch of the bare backbone, one worker; None with an evaluator of one's own."""
    total_s: float | None
    """Upper bound: nothing pruned, one worker."""
    target_s: float | None
    """Training one network as the recipe's target says, its backbone included, one worker."""
    validation_s: float | None
    """`validate` with as many blocks as the target has seeds and three networks, one worker."""
    smallest_difference: float | None
    """Accuracy difference between two candidates that their scores could show at 95 %, with the confirming seeds."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        """For a person."""
        out = f" and {self.outside} outside the search space" if self.outside else ""
        whose = f"{self.baselines} of them baselines" + (f", {self.tried} your own" if self.tried else "")
        lines = [f"study {self.study}: {self.trials - self.outside} of {self.placements:,} placements{out}, {whose}"]
        if self.trials <= self.queued and self.trials < self.placements:
            lines.append(
                f"nothing is searched for: {self.queued} placements are tried first, which take all {self.trials} trials; give more "
                f"({2 * self.queued} trials) or fewer baselines (search.baselines)"
            )
        if self.epoch_s is not None and self.total_s is not None:
            lines.append(
                f"one epoch takes about {self.epoch_s:.1f} s here; the whole search at most {self.total_s / 60:.1f} "
                "minutes with one worker, less with pruning and more workers"
            )
        if self.target_s is not None and self.validation_s is not None:
            lines.append(
                f"training the winner as the target says takes about {duration(self.target_s)}; `validate`, which tests the "
                f"answer, about {duration(self.validation_s)} with one worker"
            )
        if self.smallest_difference is not None:
            lines.append(
                f"differences in accuracy above about {100 * self.smallest_difference:.1f} points could be shown between two confirmed "
                "candidates; smaller ones are noise at this budget"
            )
        return "\n".join(lines)


def forecast(
    recipe: Recipe, *, device: str = "auto", threads: int | None = None, tried: Sequence[str] = ()
) -> Forecast:
    """Builds everything, times an epoch, trains no candidate and writes nothing.

    Args:
        threads: of the worker that is timed; None: what each of the usual number of workers gets.
        tried: placements of one's own that the search is to evaluate, too.

    Raises:
        UserError: the recipe or one of these placements cannot be carried out.
    """
    where = pick_device(device)
    dataset = tasks.of(recipe).load(recipe, device=where)
    tasks.of(recipe).check_trainings(recipe, dataset)
    plan = plan_for(recipe, dataset)
    own = user_trials(plan, tried)
    check_weights(plan)
    if recipe.training.evaluator is not None or dataset is None:
        return _made(recipe, plan, own, _epoch_of_task(recipe, plan, str(where)), None)
    taken = Threads(threads, most=cores_for(default_workers(device)))
    one_epoch = recipe.training.model_copy(update={"schedule": []})
    trainer = Trainer(one_epoch, dataset, device=where, threads=taken)
    began = time.perf_counter()
    trainer.fit(plan.bare(0), seed=0, rungs=[1], learning_rate=recipe.training.learning_rate)
    epoch_s = time.perf_counter() - began
    return _made(recipe, plan, own, epoch_s, len(dataset.validation) if tasks.of(recipe).per_image else None)


def _epoch_of_task(recipe: Recipe, plan: Plan, device: str) -> float | None:
    """Seconds of an epoch where the task has an evaluator of its own (Ultralytics); None for a user's evaluator."""
    evaluate = None if recipe.training.evaluator is not None else tasks.of(recipe).evaluator(recipe)
    if evaluate is None:
        return None
    with TemporaryDirectory(prefix="nas_attn-") as folder:
        run = EvaluatorRun("none", 0, epochs=1, new_epochs=1, seed=0, folder=Path(folder), device=device)
        began = time.perf_counter()
        evaluate(plan.bare(0), run)
        return time.perf_counter() - began


def _made(recipe: Recipe, plan: Plan, own: Sequence[UserTrial], epoch_s: float | None, images: int | None) -> Forecast:
    training, search = recipe.training, recipe.search
    placements, queue = plan.space.count(), _queue(recipe, plan, own)
    wished = max(search.trials, len(queue)) if own else search.trials
    begun = queue[:wished]
    outside = sum(values is None or not plan.space.contains(values) for _, values in begun)
    trials = min(wished, placements + outside)
    from_backbone = training.start == "backbone"
    rounds = ROUNDS * search.confirm_seeds
    backbones = training.backbones + rounds if from_backbone else 0
    confirmed = further_runs(recipe, trials)
    spread = training.backbones - 1 if from_backbone else 0  # no attention runs on each backbone
    epochs = backbones * training.backbone_epochs
    epochs += training.rungs[-1] * (trials * training.seeds + spread + confirmed)
    target = recipe.target_training
    fresh = target.backbone_epochs if target.start == "backbone" else 0
    sessions = recipe.latency.session_seconds * trials if "latency" in wanted(recipe) else 0.0
    difference = smallest_difference(images, training.seeds + search.confirm_seeds) if images else None
    return Forecast(
        study=recipe.name,
        placements=placements,
        trials=trials,
        outside=outside,
        baselines=sum(kind == "baseline" for kind, _ in begun),
        tried=sum(kind == "own" for kind, _ in begun),
        queued=len(queue),
        epoch_s=epoch_s,
        total_s=None if epoch_s is None else epoch_s * epochs + sessions,
        target_s=None if epoch_s is None else epoch_s * (target.rungs[-1] + fresh),
        validation_s=None if epoch_s is None else epoch_s * validation_epochs(recipe),
        smallest_difference=difference,
    )


def _queue(recipe: Recipe, plan: Plan, own: Sequence[UserTrial]) -> list[tuple[str, Values | None]]:
    """(`baseline` or `own`, values in the space) of what a new study begins with, in order."""
    baselines = first_baselines(recipe, plan.space)
    queue: list[tuple[str, Values | None]] = [("baseline", baseline.values) for baseline in baselines.values()]
    queue += [("baseline", None) for _ in first_controls(recipe, plan)]
    return queue + [("own", trial.values) for trial in own if trial.resolved.key not in baselines]
