"""A study's runs as evidence: the models of its metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from nas_attn import tasks
from nas_attn.model import TARGET, Evidence, Run, fit
from nas_attn.recipe import Recipe, lower_is_better, objective_name
from nas_attn.storage import StoredScore
from nas_attn.tables import is_cost


class StudyEvidence:
    """The models of a study's metrics, by metric and rung; each is solved when it is asked.

    Runs of the target, scored on the validation images, are one more rung, `TARGET`, once two candidates have some.

    Args:
        recipe: the study's.
        placements: key -> explicit notation of the candidates.
        scores: of the search's way of training, of whatever purpose.
        target_scores: of the target's.
    """

    def __init__(
        self,
        recipe: Recipe,
        placements: Mapping[str, str],
        scores: Iterable[StoredScore],
        target_scores: Iterable[StoredScore] = (),
    ) -> None:
        self._asked = dict[tuple[str, int], Evidence]()
        self._last = len(recipe.training.rungs) - 1
        known = [(stored, stored.score.rung, stored.backbone) for stored in scores]
        target = [stored for stored in target_scores if stored.key in placements]
        if len({stored.key for stored in target}) > 1:
            level = self._last if searched_as_target(recipe) else TARGET
            known += [(stored, level, _backbone(recipe, stored)) for stored in target]
        for metric, lower in _metrics(recipe).items():
            runs = [_run(metric, *found) for found in known if metric in found[0].score.metrics]
            for rung in sorted({run.rung for run in runs}):
                evidence = fit(runs, placements, metric=metric, lower_is_better=lower, rung=rung)
                if evidence is not None:
                    self._asked[metric, rung] = evidence

    @property
    def answers(self) -> dict[str, Evidence]:
        """Metric -> the model that answers are about: of the target where it ran, else of the search's last rung."""
        return {metric: model for (metric, rung), model in self.items() if rung >= self._last}

    def get(self, metric: str, rung: int) -> Evidence | None:
        """The model of a metric at a rung; None where no candidate has been scored there."""
        return self._asked.get((metric, rung))

    def items(self) -> Iterator[tuple[tuple[str, int], Evidence]]:
        """((metric, rung), model) in order."""
        return iter(self._asked.items())


def _metrics(recipe: Recipe) -> dict[str, bool]:
    """Metric -> whether lower is better: the objectives that are trained, the task's metric and its loss."""
    wanted = {objective_name(o): lower_is_better(o) for o in recipe.objectives if not is_cost(o)}
    task = tasks.of(recipe)
    return {task.metric: False, **dict.fromkeys(task.losses, True)} | wanted


def _run(metric: str, stored: StoredScore, rung: int, backbone: int) -> Run:
    score = stored.score
    correct = score.correct if metric == "accuracy" else None
    return Run(stored.key, score.seed, rung, score.metrics[metric], backbone, correct, score.examples)


def searched_as_target(recipe: Recipe) -> bool:
    """Whether the search's last rung is the target."""
    training = recipe.training
    alike = {"rungs": training.rungs[-1:], "seeds": 1, "init": training.resolved_init}
    return training.model_copy(update=alike) == recipe.target_training


def _backbone(recipe: Recipe, stored: StoredScore) -> int:
    """The backbone of a run of the target; where the search has several and the target none, one of its own."""
    several = recipe.training.start == "backbone" and recipe.training.backbones > 1
    return stored.score.seed if several and recipe.target_training.start != "backbone" else stored.backbone
