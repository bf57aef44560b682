"""Candidates' scores at a rung, for the pruner and the sampler."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from nas_attn.answer.arithmetic import pairing, usual_arithmetic
from nas_attn.answer.fronts import Level, minimised, net, objective_value, survives
from nas_attn.model.features import is_other
from nas_attn.recipe.purposes import BACKBONE, SEARCH
from nas_attn.recipe.recipe import lower_is_better
from nas_attn.recipe.tables import is_cost
from nas_attn.searching.propose.history import Known, weak_values
from nas_attn.storage.records import CandidateRow
from nas_attn.training.workbench import Workbench

# one per objective
Values = tuple[float, ...] | None
# the best 1/ETA of the candidates at a rung go on
ETA = 3.0
# values this close are the same; they differ by the rounding of seeds' levels
SAME = 1e-9


class RungScores:
    """Candidates' scores at a rung, less what runs of one seed, backbone and arithmetic share.
    `bench`: of the search.
    """

    def __init__(self, bench: Workbench) -> None:
        self._store = bench.store
        self._recipe = bench.recipe
        self._bench = bench

    def known(self) -> dict[int, Known]:
        """The sampler's data. It is read from our tables, since latencies and further seeds come
        after a trial's end. A candidate that failed is as bad as the worst.
        """
        rows = {row.key: row for row in self._store.candidates()}
        last = self._recipe.training.last_rung
        full: dict[int, Known] = {}
        brief: dict[int, dict[int, Sequence[float | None]]] = defaultdict(dict)
        for rung in range(last + 1):
            for key, (values, runs) in self._reached(rung, rows).items():
                if rung == last:
                    noise = [1.0 if is_cost(o) else 1 / runs for o in self._recipe.objectives]
                    full[rows[key].trial] = Known(tuple(values), tuple(noise))
                elif rows[key].state != "infeasible":
                    brief[rows[key].trial][rung] = values
        worst = tuple(
            None if is_cost(o) else math.inf if lower_is_better(o) else -math.inf
            for o in self._recipe.objectives
        )
        failed = {
            row.trial: Known(worst, ())
            for row in rows.values()
            if row.state == "failed" and row.trial not in full
        }
        return {**weak_values(brief, full), **full, **failed}

    def among_best(self, key: str, rung: int) -> bool:
        """Whether a candidate is among the best share of a rung. If all are equal there (an mAP of
        0), all go on.
        """
        rows = {row.key: row for row in self._store.candidates()}
        reached = self._reached(rung, rows)
        peers = {
            other: minimised(self._recipe.objectives, values)
            for other, (values, _) in reached.items()
            if not is_other(rows[other].placement)
        }
        columns = zip(*peers.values(), strict=True)
        by_objective = zip(self._recipe.objectives, columns, strict=False)
        seen = [column for objective, column in by_objective if not is_cost(objective)]
        if seen and all(max(values) - min(values) <= SAME for values in seen):
            return True
        return survives(peers, key, ETA)

    def _reached(
        self, rung: int, rows: Mapping[str, CandidateRow]
    ) -> dict[str, tuple[list[float | None], int]]:
        """Key -> (objectives, number of runs) of all candidates that reached a rung, less their
        seeds' levels.
        """
        latencies = self._bench.measurer.latencies() if self._bench.measurer else {}
        return {
            key: (
                [
                    objective_value(o, metrics, rows[key].cost, latencies.get(key))
                    for o in self._recipe.objectives
                ],
                runs,
            )
            for key, (metrics, runs) in self._metrics(rung).items()
            if key in rows
        }

    def _metrics(
        self, rung: int, *, purpose: str | None = None
    ) -> dict[str, tuple[dict[str, float], int]]:
        """Key -> (metrics at a rung, number of runs): the mean over the candidate's runs, of one
        purpose or of all, less their seeds' levels.
        """
        rows = [
            (stored.key, stored.score)
            for stored in self._store.scores(protocol=SEARCH, rung=rung)
            if stored.purpose != BACKBONE and purpose in (None, stored.purpose)
        ]
        usual = usual_arithmetic(score.arithmetic for _, score in rows)
        by_metric: dict[str, dict[str, dict[Level, float]]] = defaultdict(lambda: defaultdict(dict))
        for key, score in rows:
            level = score.seed, pairing(score.arithmetic) if score.arithmetic else usual
            for name, value in score.metrics.items():
                by_metric[name][key][level] = value
        means_by_key: dict[str, tuple[dict[str, float], int]] = {}
        for name, by_key in by_metric.items():
            for key, runs in net(by_key).items():
                metrics, _ = means_by_key.setdefault(key, ({}, len(runs)))
                metrics[name] = sum(runs.values()) / len(runs)
        return means_by_key

    def final(self, row: CandidateRow) -> Values:
        """A scored candidate's objectives by the search's own runs; None until a worker on the
        right machine has measured it.
        """
        latency = None
        if self._bench.measurer is not None:
            latency = self._bench.latency(self._bench.plan.resolved(row.placement), [])
            if latency is None:
                return None
        # Confirmation may have begun when a trial is told late, after its worker died.
        by_key = self._metrics(self._recipe.training.last_rung, purpose=SEARCH)
        metrics, _ = by_key[row.key]
        values = [objective_value(o, metrics, row.cost, latency) for o in self._recipe.objectives]
        return tuple(v for v in values if v is not None)
