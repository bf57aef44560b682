"""All models that are fitted for a snapshot, and what they say of gains over the bare backbone."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from nas_attn.answer.cautions import Constant, constants
from nas_attn.answer.facts import StudyFacts
from nas_attn.answer.fronts import primary_metric
from nas_attn.answer.modelling import Models, models_of, searched_as_target
from nas_attn.model import TARGET_RUNG, TESTED, Estimate, Evidence, Gain
from nas_attn.model.features import is_other
from nas_attn.recipe import tasks
from nas_attn.recipe.recipe import Recipe, objective_name
from nas_attn.storage.records import CandidateRow, StoredScore

# a gain at the target is not stated if half its interval exceeds so many times one run's noise
UNKNOWN = 5.0

Gains = Mapping[str, Mapping[str, Gain]]
"""Key -> metric -> gain over the bare backbone."""


@dataclass(frozen=True, slots=True)
class Fits:
    """The models of a study's runs."""

    recipe: Recipe
    models: Models
    """Of all placements."""
    apart: Mapping[str, Models]
    """Of each control that is another backbone, by its key, with the bare backbone only."""
    primary: str | None
    """The metric of the recommendation; None: nothing is scored, and no objective is trained."""
    constants: Mapping[str, Constant]
    """Metric -> the value that all candidates have."""
    gains: Gains

    @property
    def last(self) -> int:
        """The last rung."""
        return self.recipe.training.last_rung

    @property
    def at_the_end(self) -> dict[str, Evidence]:
        """Metric -> its model of the target, if that ran, else at the last rung."""
        return _at_the_end(self.recipe, self.models)

    @property
    def searched(self) -> dict[str, Evidence]:
        """Key -> the model of the primary metric at the last rung that tells of this candidate."""
        at = (self.primary or "", self.last)
        by_key: dict[str, Evidence] = {}
        if at in self.models:
            by_key = dict.fromkeys(self.models[at].keys, self.models[at])
        for key, models in self.apart.items():
            if at in models and key in models[at].ran:
                by_key[key] = models[at]
        return by_key

    @property
    def model(self) -> Evidence | None:
        """Of the primary metric; None if that tells no candidates apart."""
        if self.primary is None or self.primary in self.constants:
            return None
        return self.at_the_end.get(self.primary)

    @property
    def shown(self) -> set[str | None]:
        """The metrics that are estimated: solving a model takes seconds in a large study."""
        return _wanted(self.recipe, self.primary) | {tasks.of(self.recipe).metric}

    @property
    def searched_sd(self) -> float | None:
        """What a run's noise at the last rung adds to the difference of two in the primary metric;
        None: not known.
        """
        if self.primary is None or (self.primary, self.last) not in self.models:
            return None
        return self.models[self.primary, self.last].noise.paired_sd

    @property
    def as_target(self) -> bool:
        """Whether the primary metric's model is about trainings as the target says."""
        model = self.model
        return model is not None and _training(self.recipe, model) == TARGET_RUNG

    def estimates_by_rung(self) -> dict[int, dict[str, Mapping[str, Estimate]]]:
        """Rung -> metric -> estimates. Those of the target, and of the test images, replace the
        last rung's.
        """
        by_rung = defaultdict[int, dict[str, Mapping[str, Estimate]]](dict)
        # the models are in the order of their rungs; those that others replace are not solved
        counting = {
            (metric, min(rung, self.last)): (metric, rung)
            for metric, rung in self.models
            if metric in self.shown
        }
        for (metric, shown_at), (_, rung) in counting.items():
            estimates = dict(self.models[metric, rung].estimates)
            for key, models in self.apart.items():
                own = self._of_control(models, metric, rung)
                if own is not None and key in own.ran:
                    estimates[key] = own.estimates[key]
            by_rung[shown_at][metric] = estimates
        return by_rung

    def _of_control(self, models: Models, metric: str, rung: int) -> Evidence | None:
        own = models.get((metric, rung))
        if own is None and rung == TESTED and searched_as_target(self.recipe):
            return models.get((metric, self.last))
        return own


def fits_of(facts: StudyFacts, scores: Mapping[str, Sequence[StoredScore]]) -> Fits:
    """Fits all models. `scores`: of the search's protocol, by key."""
    recipe = facts.recipe
    rows = facts.candidates
    places = {row.key for row in rows if not is_other(row.placement)}
    models = _fitted(facts, places)
    primary = primary_metric(recipe, [metric for metric, _ in models])
    same = _constants(facts, scores, primary)
    told_metrics = _wanted(recipe, primary) - same.keys()
    told = {
        metric: model
        for metric, model in _at_the_end(recipe, models).items()
        if metric in told_metrics
    }
    gains = _gains(recipe, rows, told)
    apart = _apart(facts)
    for key, its_own in apart.items():
        alike = _alike(recipe, _at_the_end(recipe, its_own), told)
        gains[key] = _gains(recipe, rows, alike).get(key, {})
    return Fits(recipe, models, apart, primary, same, gains)


def _fitted(facts: StudyFacts, keys: Collection[str], larger: Collection[str] = ()) -> Models:
    """The models of these candidates."""
    placements = {row.key: row.placement for row in facts.candidates if row.key in keys}
    return models_of(facts, placements, larger)


def _constants(
    facts: StudyFacts, scores: Mapping[str, Sequence[StoredScore]], primary: str | None
) -> dict[str, Constant]:
    last = facts.recipe.training.last_rung
    ended = {}
    for row in facts.candidates:
        if row.state == "scored":
            own = scores.get(row.key, ())
            ended[row.key] = [s.score.metrics for s in own if s.score.rung == last]
    return {constant.metric: constant for constant in constants(facts.recipe, primary, ended)}


def _wanted(recipe: Recipe, primary: str | None) -> set[str | None]:
    """The objectives, and the primary metric."""
    return {*map(objective_name, recipe.objectives), primary}


def _at_the_end(recipe: Recipe, models: Models) -> dict[str, Evidence]:
    """Metric -> its model of the target, if that ran, else at the last rung."""
    last = recipe.training.last_rung
    return {metric: model for (metric, rung), model in models.items() if rung >= last}


def _alike(
    recipe: Recipe, some: Mapping[str, Evidence], models: Mapping[str, Evidence]
) -> dict[str, Evidence]:
    """The models in `some` of metrics for which `models` is about the same training."""
    return {
        metric: model
        for metric, model in some.items()
        if metric in models and _training(recipe, model) == _training(recipe, models[metric])
    }


def _training(recipe: Recipe, model: Evidence) -> int:
    """The rung whose training a model is about: scores on other images are about the same one."""
    if model.rung >= TARGET_RUNG or searched_as_target(recipe):
        return TARGET_RUNG
    return model.rung


def _apart(facts: StudyFacts) -> dict[str, Models]:
    """Models of each control that is another backbone, with the bare one only: its gain says
    nothing about attention's.

    Baselines among them with more parameters are larger networks of the backbone's family; what a
    user has tried may be any network.
    """
    bare = [row.key for row in facts.candidates if row.is_bare]
    sizes = {row.key: row.cost["params"] for row in facts.candidates if row.cost}
    own = min((sizes[key] for key in bare if key in sizes), default=0.0)
    models = {}
    for row in facts.candidates:
        if is_other(row.placement):
            is_larger = row.baseline and sizes.get(row.key, own) >= own
            larger = {row.key} if is_larger else ()
            models[row.key] = _fitted(facts, {row.key, *bare}, larger)
    return models


def _gains(
    recipe: Recipe, rows: Iterable[CandidateRow], models: Mapping[str, Evidence]
) -> dict[str, dict[str, Gain]]:
    """The gains of candidates that ran to the last rung, as the bare backbone did, if the interval
    is not too wide.
    """
    bare = next((row.key for row in rows if row.is_bare), "")
    gains = defaultdict[str, dict[str, Gain]](dict)
    for metric, model in models.items():
        if bare not in model.ran:
            continue
        widest = math.inf
        if model.rung >= TARGET_RUNG and not searched_as_target(recipe):
            widest = 2 * UNKNOWN * (model.noise.paired_sd or math.inf)
        for key, gain in model.gains(bare).items():
            if key != bare and gain.high - gain.low < widest:
                gains[key][metric] = gain
    return gains
