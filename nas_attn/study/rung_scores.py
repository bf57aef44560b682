"""What candidates score at a rung, as the search compares them: net of what runs of one seed and backbone share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from nas_attn.analysis.fronts import minimised, objective_value
from nas_attn.analysis.halving import survives
from nas_attn.evaluation.workbench import Workbench
from nas_attn.model.net import net
from nas_attn.recipe import Recipe
from nas_attn.records import CandidateRow
from nas_attn.storage import StudyStore
from nas_attn.study.placement_history import Known, weak_values
from nas_attn.tables import is_cost

ETA = 3.0
"""Of the candidates at a rung, the best 1/ETA go on."""
SAME = 1e-9
"""Values no further apart are the same, but for the rounding of their seeds' levels."""


class RungScores:
    """The scores of a study's candidates, rung by rung."""

    def __init__(self, store: StudyStore, recipe: Recipe, bench: Workbench) -> None:
        """Args:
        bench: of the search, for latencies.
        """
        self._store, self._recipe, self._bench = store, recipe, bench

    def known(self) -> dict[int, Known]:
        """What the sampler learns from: what our tables know by now, as latencies and further seeds come after a trial's end.

        Candidates that were pruned are known by their last rung. Costs are exact or common to all runs: one run's noise.
        """
        rows = {row.key: row for row in self._store.candidates()}
        last = len(self._recipe.training.rungs) - 1
        full: dict[int, Known] = {}
        brief: dict[int, dict[int, Sequence[float | None]]] = defaultdict(dict)
        for rung in range(last + 1):
            for key, (values, runs) in self._reached(rung, rows).items():
                if rung == last:
                    noise = [1.0 if is_cost(o) else 1 / runs for o in self._recipe.objectives]
                    full[rows[key].trial] = Known(tuple(values), tuple(noise))
                elif rows[key].state != "infeasible":
                    brief[rows[key].trial][rung] = values
        return {**weak_values(brief, full), **full}

    def among_best(self, key: str, rung: int) -> bool:
        """Whether a candidate is among the best share of a rung; where none is told from another there (an mAP of 0), all go on."""
        peers = self._peers(rung)
        trained = [i for i, objective in enumerate(self._recipe.objectives) if not is_cost(objective)]
        seen = [[values[i] for values in peers.values()] for i in trained]
        if seen and all(max(values) - min(values) <= SAME for values in seen):
            return True
        return survives(peers, key, ETA)

    def _peers(self, rung: int) -> dict[str, tuple[float, ...]]:
        """Key -> objectives to be minimised of all candidates that reached a rung, net of their seeds' levels."""
        rows = {row.key: row for row in self._store.candidates()}
        reached = self._reached(rung, rows)
        return {key: minimised(self._recipe.objectives, values) for key, (values, _) in reached.items()}

    def _reached(self, rung: int, rows: Mapping[str, CandidateRow]) -> dict[str, tuple[list[float | None], int]]:
        """Key -> (objectives, runs behind them) of all candidates that reached a rung, net of their seeds' levels."""
        latencies = self._bench.measurer.latencies() if self._bench.measurer else {}
        return {
            key: (
                [objective_value(o, metrics, rows[key].cost, latencies.get(key)) for o in self._recipe.objectives],
                runs,
            )
            for key, (metrics, runs) in self._metrics(rung).items()
            if key in rows
        }

    def _metrics(self, rung: int) -> dict[str, tuple[dict[str, float], int]]:
        """Key -> (metrics at a rung, runs): the mean over the candidate's runs, net of their seeds' levels."""
        by_metric: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
        for key, seed, values in self._store.metrics(rung):
            for name, value in values.items():
                by_metric[name][key][seed] = value
        found: dict[str, tuple[dict[str, float], int]] = {}
        for name, by_key in by_metric.items():
            for key, runs in net(by_key).items():
                metrics, _ = found.setdefault(key, ({}, len(runs)))
                metrics[name] = sum(runs.values()) / len(runs)
        return found

    def final(self, row: CandidateRow) -> tuple[float, ...] | None:
        """A scored candidate's objectives; None while a worker on the right machine has still to measure it."""
        measurer, resolved = self._bench.measurer, self._bench.plan.resolved(row.placement)
        latency = measurer.known(resolved) if measurer is not None else None
        if measurer is not None and latency is None:
            latency = self._bench.latency(resolved, [])
            if latency is None:
                return None
        metrics, _ = self._metrics(len(self._recipe.training.rungs) - 1)[row.key]
        values = [objective_value(o, metrics, row.cost, latency) for o in self._recipe.objectives]
        return tuple(v for v in values if v is not None)
