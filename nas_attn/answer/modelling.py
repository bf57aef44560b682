"""The statistical models of a study's runs, by metric and rung."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from nas_attn.answer.arithmetic import pairing, usual_arithmetic
from nas_attn.answer.contributions import contributions_of
from nas_attn.answer.facts import StudyFacts
from nas_attn.answer.fronts import sign_of
from nas_attn.model import TARGET_RUNG, TESTED, WITNESS, Beforehand, Evidence, ScoredRun, fit
from nas_attn.model.features import is_other
from nas_attn.recipe import tasks
from nas_attn.recipe.purposes import SEARCH, TEST_PROTOCOL
from nas_attn.recipe.recipe import Recipe, objective_name
from nas_attn.recipe.sections import FEW_VALIDATED
from nas_attn.recipe.tables import is_cost, is_share_of_images, witness_of
from nas_attn.space.placement import Placement
from nas_attn.storage.labels import Labels
from nas_attn.storage.records import StoredScore

Models = dict[tuple[str, int], Evidence]
"""(metric, rung) -> model."""


@dataclass(frozen=True, slots=True)
class _Ran:
    """A run, with what the model calls its rung and its backbone."""

    stored: StoredScore
    rung: int
    backbone: int
    labels: Labels | None

    @classmethod
    def validated(cls, facts: StudyFacts, stored: StoredScore, rung: int, backbone: int) -> _Ran:
        """A run that was scored on its validation images."""
        labels = facts.divisions.get(stored.score.seed, facts.labels.get(SEARCH))
        return cls(stored, rung, backbone, labels)

    def scored(self, metric: str, usual: str, *, witness: bool = False) -> ScoredRun:
        """Its value of a metric; as a `witness` that of a loss, turned, without what is known by
        image. `usual`: the arithmetic that it counts as where it does not say its own.
        """
        score = self.stored.score
        labels = None if witness else self.labels
        contributions = None
        if not witness and not is_share_of_images(metric):
            contributions = contributions_of(metric, score, labels)
        return ScoredRun(
            self.stored.key,
            score.seed,
            WITNESS if witness else self.rung,
            -score.metrics[metric] if witness else score.metrics[metric],
            self.backbone,
            correct=score.correct if is_share_of_images(metric) else None,
            examples=score.examples,
            arithmetic=pairing(score.arithmetic) if score.arithmetic else usual,
            contributions=contributions,
            images=None if labels is None else labels.images,
            divided=0 if labels is None else labels.divided,
        )


def models_of(
    facts: StudyFacts, placements: Mapping[str, Placement], larger: Collection[str] = ()
) -> Models:
    """(metric, rung) -> model of the study's runs at the rung, for trained objectives and the
    task's metrics.

    Runs of the target, scored on the validation images, are one more rung, `TARGET_RUNG`, once two
    candidates have some; scored on the test images, one above that, `TESTED`.

    Args:
        facts: the study's runs.
        placements: explicit ones, by key; runs of others are left out.
        larger: keys of larger networks of the backbone's family, as in `Beforehand`.

    Returns:
        The models, by metric and then in the order of their rungs.
    """
    recipe = facts.recipe
    scores = scores_by_key(facts)
    searched = [
        _Ran.validated(facts, stored, stored.score.rung, stored.backbone)
        for key in placements
        for stored in scores.get(key, ())
    ]
    usual = usual_arithmetic(run.stored.score.arithmetic for run in searched)
    rung = recipe.training.last_rung if searched_as_target(recipe) else TARGET_RUNG
    target = [
        _Ran.validated(facts, stored, rung, _backbone(recipe, stored))
        for stored in _of_several(facts.target_scores, placements)
    ]
    test_labels = facts.labels.get(TEST_PROTOCOL)
    tested = [
        _Ran(stored, TESTED, _backbone(recipe, stored), test_labels)
        for stored in _of_several(facts.test_scores, placements)
    ]
    ran = [*searched, *target, *tested]
    unlike = any(is_other(placement) for placement in placements.values())
    models: Models = {}
    for metric in _modelled_metrics(recipe):
        runs = [run.scored(metric, usual) for run in ran if metric in run.stored.score.metrics]
        witnesses: list[ScoredRun] = []
        # controls that are other networks may differ otherwise
        if not larger and not unlike:
            witnesses = _witnesses(recipe, ran, metric, usual)
        for rung in sorted({run.rung for run in runs}):
            start = recipe.target.start if rung >= TARGET_RUNG else recipe.training.start
            evidence = fit(
                [*witnesses, *runs],
                placements,
                metric=metric,
                lower_is_better=sign_of(recipe, metric) < 0,
                rung=rung,
                beforehand=Beforehand(unlike, larger, pretrained=start == "pretrained"),
            )
            if evidence is not None:
                evaluated = {key: placements[key] for key in evidence.ran}
                models[metric, rung] = evidence.about(evaluated)
    return models


def scores_by_key(facts: StudyFacts) -> dict[str, list[StoredScore]]:
    """The scores of the search's protocol; those of the study's backbones are at BACKBONE."""
    scores = defaultdict[str, list[StoredScore]](list)
    for stored in facts.scores:
        scores[stored.key].append(stored)
    return scores


def _of_several(
    scores: Iterable[StoredScore], placements: Mapping[str, Placement]
) -> list[StoredScore]:
    """The scores of these placements; empty if all are of one."""
    known = [stored for stored in scores if stored.key in placements]
    if len({stored.key for stored in known}) < 2:
        return []
    return known


def _modelled_metrics(recipe: Recipe) -> list[str]:
    """The task's metrics, then trained objectives, each once."""
    trained = [objective for objective in recipe.objectives if not is_cost(objective)]
    return list(dict.fromkeys([*tasks.of(recipe).metrics, *map(objective_name, trained)]))


def _witnesses(recipe: Recipe, ran: Sequence[_Ran], metric: str, usual: str) -> list[ScoredRun]:
    """The first rung's values of a loss that is a second witness to a metric; else empty."""
    witness = witness_of(metric)
    if not witness or not _is_witnessed(recipe, ran, witness):
        return []
    return [run.scored(witness, usual, witness=True) for run in ran if run.rung == 0]


def _is_witnessed(recipe: Recipe, ran: Sequence[_Ran], witness: str) -> bool:
    """Whether a loss, the Brier score, is a second witness to a metric, the accuracy. With few
    validation images, it varies less by which images these are, and in networks that train from
    scratch its differences go with those of accuracy. Elsewhere that was not measured.
    """
    scratch = recipe.training.start == recipe.target.start == "scratch"
    if not scratch or recipe.training.last_rung or {run.rung for run in ran} - {0, TESTED}:
        return False
    return all(
        0 < run.stored.score.examples < FEW_VALIDATED and witness in run.stored.score.metrics
        for run in ran
        if run.rung == 0
    )


def searched_as_target(recipe: Recipe) -> bool:
    """Whether the search's last rung is the target: our trainer's rates make a cycle per rung,
    unless a schedule says otherwise.
    """
    training = recipe.training
    ours = recipe.training.evaluator is None and tasks.of(recipe).own_trainer
    if ours and len(training.rungs) > 1 and not training.schedule:
        return False
    alike = {"rungs": training.rungs[-1:], "seeds": 1}
    alike |= {"augment": training.augmentation, "transforms": None}
    return training.model_copy(update=alike) == recipe.target_training


def _backbone(recipe: Recipe, stored: StoredScore) -> int:
    """The backbone number of a run; a run of the target gets its own if the search has several
    backbones.
    """
    several = recipe.training.start == "backbone" and recipe.training.backbones > 1
    if several:
        return stored.score.seed
    return stored.backbone
