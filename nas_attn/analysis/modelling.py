"""The statistical models of a study's runs, by metric and rung."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from nas_attn import tasks
from nas_attn.analysis.arithmetic import pairing, usual_arithmetic
from nas_attn.analysis.features import is_other
from nas_attn.analysis.fronts import sign_of
from nas_attn.model import TARGET, TESTED, Beforehand, Evidence, ScoredRun, fit
from nas_attn.recipe import Recipe, objective_name
from nas_attn.records import (
    Placement,
    StoredScore,
)
from nas_attn.tables import is_cost, is_share_of_images

Models = dict[tuple[str, int], Evidence]
"""(metric, rung) -> model."""


def models_of(
    recipe: Recipe,
    placements: Mapping[str, Placement],
    scores: Iterable[StoredScore],
    target_scores: Iterable[StoredScore] = (),
    test_scores: Iterable[StoredScore] = (),
    larger: Collection[str] = (),
) -> dict[tuple[str, int], Evidence]:
    """(metric, rung) -> model of the study's runs at the rung, for trained objectives and the
    task's metrics.

    Runs of the target, scored on the validation images, are one more rung, `TARGET`, once two
    candidates have some; scored on the test images, one above that, `TESTED`.
    `placements`: explicit, by key; `scores`: of the search's protocol, of whatever purpose;
        `larger`: see `fit`.
    """
    found = dict[tuple[str, int], Evidence]()
    known = [(stored, stored.score.rung, stored.backbone) for stored in scores]
    usual = usual_arithmetic(stored.score.arithmetic for stored, _, _ in known)
    target = [stored for stored in target_scores if stored.key in placements]
    if len({stored.key for stored in target}) > 1:
        level = len(recipe.training.rungs) - 1 if searched_as_target(recipe) else TARGET
        known += [(stored, level, _backbone(recipe, stored)) for stored in target]
    tested = [stored for stored in test_scores if stored.key in placements]
    if len({stored.key for stored in tested}) > 1:
        known += [(stored, TESTED, _backbone(recipe, stored)) for stored in tested]
    task = tasks.of(recipe)
    trained = [objective for objective in recipe.objectives if not is_cost(objective)]
    unlike = any(is_other(placement) for placement in placements.values())
    for metric in dict.fromkeys([*task.metrics, *map(objective_name, trained)]):
        less = sign_of(recipe, metric) < 0
        runs = [_run(metric, usual, *one) for one in known if metric in one[0].score.metrics]
        for rung in sorted({run.rung for run in runs}):
            start = recipe.target.start if rung >= TARGET else recipe.training.start
            evidence = fit(
                runs,
                placements,
                metric=metric,
                lower_is_better=less,
                rung=rung,
                beforehand=Beforehand(unlike, larger, pretrained=start == "pretrained"),
            )
            if evidence is not None:
                found[metric, rung] = evidence.about({key: placements[key] for key in evidence.ran})
    return found


def _run(metric: str, usual: str, stored: StoredScore, rung: int, backbone: int) -> ScoredRun:
    """`usual`: the arithmetic that a run counts as where it does not say its own."""
    score = stored.score
    return ScoredRun(
        stored.key,
        score.seed,
        rung,
        score.metrics[metric],
        backbone,
        correct=score.correct if is_share_of_images(metric) else None,
        examples=score.examples,
        arithmetic=pairing(score.arithmetic) if score.arithmetic else usual,
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
    return stored.score.seed if several else stored.backbone
