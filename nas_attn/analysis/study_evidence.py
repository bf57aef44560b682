"""A study's runs as evidence: the models of its metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from nas_attn import tasks
from nas_attn.costs import is_cost
from nas_attn.model import Evidence, Run, fit
from nas_attn.recipe import Recipe, lower_is_better, objective_name
from nas_attn.storage import StoredScore


class StudyEvidence:
    """The models of a study's metrics, by metric and rung; each is solved when it is asked.

    Args:
        recipe: the study's.
        placements: key -> explicit notation of the candidates.
        scores: of the search's way of training, of whatever purpose.
    """

    def __init__(self, recipe: Recipe, placements: Mapping[str, str], scores: Iterable[StoredScore]) -> None:
        self._asked = dict[tuple[str, int], Evidence]()
        runs: dict[str, list[Run]] = {metric: [] for metric in _metrics(recipe)}
        for stored in scores:
            for metric, found in runs.items():
                if stored.key in placements and metric in stored.score.metrics:
                    found.append(_run(metric, stored))
        for metric, lower in _metrics(recipe).items():
            for rung in sorted({run.rung for run in runs[metric]}):
                evidence = fit(runs[metric], placements, metric=metric, lower_is_better=lower, rung=rung)
                if evidence is not None:
                    self._asked[metric, rung] = evidence

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


def _run(metric: str, stored: StoredScore) -> Run:
    score = stored.score
    value, correct = score.metrics[metric], score.correct if metric == "accuracy" else None
    return Run(stored.key, score.seed, score.rung, value, stored.backbone, correct, score.examples)
