"""A study's runs as evidence: the models of its metrics, fitted once for each state of the evidence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from nas_attn import tasks
from nas_attn.analysis.evidence import Evidence, Run, fit
from nas_attn.costs import is_cost
from nas_attn.errors import StorageError
from nas_attn.recipe import Recipe, lower_is_better, objective_name
from nas_attn.storage import StoredScore, StudyStore

KEPT_FROM = 300
"""Runs from which on answers are kept in the study, so that one command computes them and the others read them."""
_NAME = "evidence/{metric}/{rung}"


class StudyEvidence:
    """The models of a study's metrics, by metric and rung; each is solved when it is asked.

    Args:
        store: where answers are kept.
        recipe: the study's.
        placements: key -> explicit notation of the candidates.
        scores: of the search's way of training, of whatever purpose.
    """

    def __init__(
        self, store: StudyStore, recipe: Recipe, placements: Mapping[str, str], scores: Iterable[StoredScore]
    ) -> None:
        self._store, self._asked = store, dict[tuple[str, int], Evidence]()
        runs: dict[str, list[Run]] = {metric: [] for metric in _metrics(recipe)}
        for stored in scores:
            for metric, found in runs.items():
                if stored.key in placements and metric in stored.score.metrics:
                    found.append(_run(metric, stored))
        for metric, lower in _metrics(recipe).items():
            for rung in sorted({run.rung for run in runs[metric]}):
                kept = self._kept(metric, rung) if len(runs[metric]) >= KEPT_FROM else None
                evidence = fit(runs[metric], placements, metric=metric, lower_is_better=lower, rung=rung, stored=kept)
                if evidence is not None:
                    self._asked[metric, rung] = evidence
        self._count = {metric: len(found) for metric, found in runs.items()}

    def get(self, metric: str, rung: int) -> Evidence | None:
        """The model of a metric at a rung; None where no candidate has been scored there."""
        return self._asked.get((metric, rung))

    def items(self) -> Iterator[tuple[tuple[str, int], Evidence]]:
        """((metric, rung), model) in order."""
        return iter(self._asked.items())

    def keep(self) -> None:
        """Keeps what was answered and is not kept yet, of metrics with many runs.

        Who only reads a study is not to fail where nothing can be written: then it is worked out again next time.
        """
        for (metric, rung), evidence in self._asked.items():
            if self._count[metric] >= KEPT_FROM and evidence.newly_answered:
                with suppress(StorageError):
                    self._store.put(_NAME.format(metric=metric, rung=rung), evidence.to_json())

    def _kept(self, metric: str, rung: int) -> str | None:
        return self._store.get(_NAME.format(metric=metric, rung=rung))


def _metrics(recipe: Recipe) -> dict[str, bool]:
    """Metric -> whether lower is better: the objectives that are trained, the task's metric and its loss."""
    wanted = {objective_name(o): lower_is_better(o) for o in recipe.objectives if not is_cost(o)}
    task = tasks.of(recipe)
    return {task.metric: False, **dict.fromkeys(task.losses, True)} | wanted


def _run(metric: str, stored: StoredScore) -> Run:
    score = stored.score
    value, correct = score.metrics[metric], score.correct if metric == "accuracy" else None
    return Run(stored.key, score.seed, score.rung, value, stored.backbone, correct, score.examples)
