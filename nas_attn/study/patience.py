"""Whether a search goes on: a forecast of what another budget of candidates would bring, made now and then and kept.

One worker at a time looks for work, so one makes the forecast, and what it decides is written down for all: the study is then to
have the candidates that were begun, no more. `resume --trials N` says otherwise, and the search goes on for as many candidates as
it has patience for before it looks again.
"""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from nas_attn.analysis.evidence import Evidence
from nas_attn.analysis.objectives import primary_metric
from nas_attn.analysis.outlook import (
    OUTLOOK,
    Outlook,
    expected_rise,
    from_json,
    least_gain,
    predicted_costs,
    promising,
)
from nas_attn.analysis.placement_model import Coding, Value, kin_of_value
from nas_attn.analysis.snapshot import TRIALS
from nas_attn.analysis.study_evidence import StudyEvidence
from nas_attn.errors import PlacementError
from nas_attn.recipe import lower_is_better, objective_name
from nas_attn.records import CandidateRow
from nas_attn.space import SearchSpace, parse, resolve
from nas_attn.storage import SEARCH
from nas_attn.study.worker import Worker

LIKELY, OTHERS = 150, 100
"""Untried placements that a forecast looks at: the best of draws, and changes of what was tried."""
AGAIN = 0.1
"""A new forecast is due when this share more candidates have ended, and at least"""
FEWEST_NEW = 3
LARGEST = 600
"""Candidates up to which a forecast is made where nobody asked for one."""


class Patience:
    """The forecasts of one study."""

    def __init__(self, worker: Worker, space: SearchSpace) -> None:
        self._worker, self._space, self._store, self._recipe = worker, space, worker.store, worker.recipe
        self._looked_at = 0

    def over(self, begun: int) -> bool:
        """Whether no further candidate is to be begun; if so, that is written down for all workers.

        Args:
            begun: candidates that have been, of those that the study is to have.
        """
        patience = self._recipe.search.patience
        if patience is None:
            return False
        rows, last = self._store.candidates(), from_json(self._store.get(OUTLOOK))
        ended, known = sum(row.state != "running" for row in rows), 0 if last is None else last.after
        due = known + max(FEWEST_NEW, math.ceil(AGAIN * known))
        if last is not None and last.stopped is not None:  # it was told to go on nevertheless
            due = known + patience
        if ended < max(due, patience + sum(row.baseline is not None for row in rows)):
            return False
        found = self._forecast(rows, ended, patience)
        if found is None:
            return False
        if found.settled:
            found = replace(found, after=begun, stopped=self._worker.opened.trials)
            self._store.put(TRIALS, str(begun))
            self._worker.say(found.sentence)
        self._store.put(OUTLOOK, found.to_json())
        return found.settled

    def look_ahead(self) -> None:
        """A forecast for another budget of the same size, once all candidates have ended; not made twice."""
        rows, last = self._store.candidates(), from_json(self._store.get(OUTLOOK))
        if (last is not None and last.after == len(rows)) or self._looked_at == len(rows) or len(rows) > LARGEST:
            return
        self._looked_at = len(rows)
        found = self._forecast(rows, len(rows), self._recipe.search.patience or self._worker.opened.trials)
        if found is not None:
            self._store.put(OUTLOOK, found.to_json())

    # ------------------------------------------------------------------------------------------- inside

    def _forecast(self, rows: Sequence[CandidateRow], ended: int, trials: int) -> Outlook | None:
        """None where too little is known."""
        model = self._model(rows)
        least = least_gain(model, self._recipe.search.least_gain) if model is not None else None
        if model is None or least is None:
            return None
        coding = Coding(self._space.parameters, kin_of_value)
        tried = {r.trial: r for r in rows if r.values is not None and model.estimates[r.key].seeds}
        codes = {n: found for n, row in tried.items() if (found := self._codes(coding, row)) is not None}
        quality, costs = self._told(model.metric, tried)
        if len(codes) < FEWEST_NEW:
            return None
        rng = np.random.default_rng([self._recipe.search.seed, ended])
        sought = {n: Value(code, quality[n]) for n, code in codes.items()}
        paid = {n: Value(code, costs[n]) for n, code in codes.items() if costs}
        untried = self._untried(rows, coding, sought, paid, rng)
        predicted = np.zeros(len(untried))
        if paid and untried:
            predicted = predicted_costs(coding, paid, np.array(list(untried.values()), dtype=np.intp))
        before = {row.key: costs.get(n, 0.0) for n, row in tried.items()}
        new = dict(zip(untried, predicted.tolist(), strict=True))
        return Outlook(model.metric, ended, trials, expected_rise(model, before, new, trials, rng), least)

    def _model(self, rows: Sequence[CandidateRow]) -> Evidence | None:
        """Of what the front is of, at the last rung; None while nothing can be said of differences."""
        placements, last = {row.key: row.placement for row in rows}, len(self._recipe.training.rungs) - 1
        scores = [s for s in self._store.scores(way=SEARCH, with_correct=True) if s.purpose != "backbone"]
        known = StudyEvidence(self._store, self._recipe, placements, scores)
        metric = primary_metric(self._recipe, [name for (name, _), _ in known.items()])
        model = known.get(metric, last) if metric else None
        return model if model is not None and model.noise.paired_sd else None

    def _told(self, metric: str, tried: Mapping[int, CandidateRow]) -> tuple[dict[int, float], dict[int, float]]:
        """Trial -> what it scored, less is better, and what it costs by the first other objective (empty without one)."""
        objectives = self._recipe.objectives
        signs = [1.0 if lower_is_better(objective) else -1.0 for objective in objectives]
        names = [objective_name(objective) for objective in objectives]
        sought = names.index(metric) if metric in names else 0
        others = [i for i in range(len(objectives)) if i != sought]
        quality, costs = dict[int, float](), dict[int, float]()
        for number, row in tried.items():
            values = row.values or ()
            quality[number] = signs[sought] * values[sought]
            if others:
                costs[number] = signs[others[0]] * values[others[0]]
        return quality, costs

    def _untried(
        self,
        rows: Sequence[CandidateRow],
        coding: Coding,
        sought: Mapping[int, Value],
        paid: Mapping[int, Value],
        rng: np.random.Generator,
    ) -> dict[str, tuple[int, ...]]:
        """Explicit notation -> codes of placements that nobody has tried."""
        chance, space = random.Random(int(rng.integers(2**31))), self._space
        near = [coding.decode(value.codes) for value in sought.values()]
        changed = [found for values in near for found in space.neighbours(_texts(values))]
        options = [_texts(values) for values in promising(coding, sought, paid, LIKELY, rng)]
        options += chance.sample(changed, min(len(changed), OTHERS))
        seen, found = {row.key for row in rows}, dict[str, tuple[int, ...]]()
        for values in options:
            resolved, codes = space.resolve(values), coding.encode(values)
            if codes is not None and resolved.key not in seen and space.contains(values):
                seen.add(resolved.key)
                found[resolved.text] = codes
        return found

    def _codes(self, coding: Coding, row: CandidateRow) -> tuple[int, ...] | None:
        """None for a placement of one's own that the space does not hold."""
        plan = self._worker.benches.search.plan
        try:
            return coding.encode(self._space.values(resolve(parse(row.placement), plan.sites, init=self._space.init)))
        except PlacementError:
            return None


def _texts(values: Mapping[str, Hashable]) -> dict[str, str]:
    return {site: str(value) for site, value in values.items()}
