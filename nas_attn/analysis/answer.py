"""The answer of a study in at most eight lines: what commands, the report, notes and notebooks begin with."""

from __future__ import annotations

import math
from collections.abc import Iterator

from nas_attn.analysis import units
from nas_attn.analysis.choosing import nothing_recommended
from nas_attn.analysis.recommendation import Comparison
from nas_attn.analysis.snapshot import Snapshot
from nas_attn.analysis.study_evidence import searched_as_target
from nas_attn.analysis.validation import validation_epochs
from nas_attn.model import TARGET, Gain

LABELS = ("Gain", "Best bet", "Dearer", "Cheaper", "Capacity", "Tested", "Decide", "Target", "Next")
"""With which all lines but the first begin, in ten columns."""
MOST_NOTES = 2
"""Lines about what speaks against any conclusion."""
MOST_RUNS = 32
"""Trainings of each network up to which a test is proposed."""
NEEDED = 1.96 + 0.84
"""Standard errors that a difference has to be, to be shown with 95 % certainty in 80 % of tests."""


def answer(now: Snapshot, at: str = "") -> list[str]:
    """What to take, how sure that is, and what to do next; before it, what speaks against any conclusion.

    Args:
        at: the option with which commands find the database.
    """
    best, notes = now.recommendation, [f"Careful: {said}" for said in now.cautions[:MOST_NOTES]]
    if best is None:
        return [*notes, nothing_recommended(now)]
    tested = list(_tested(now))
    lines = [line.removesuffix(", not tested") if tested else line for line in best.answer]
    why = f"reasons: nas-attn pareto {now.study} --why{at}"
    step = f"nas-attn retrain {now.study}{at}" if tested else f"nas-attn validate {now.study} --dry-run{at}"
    open_ = [] if tested or best.best_bet is None else list(_decide(now, best.best_bet, at))
    open_ = open_ or ([] if tested else list(_target(now, at)))
    return [*notes, *lines, *tested, *open_, f"Next      {why if open_ else f'{step}; {why}'}"]


def training_s(now: Snapshot, epochs: int) -> float | None:
    """Seconds that so many epochs of training take, by the pace of the study's runs; None before the first."""
    longest: dict[tuple[str, str, int], int] = {}
    seconds = 0.0
    for view in now.candidates:
        for point in view.scores:
            run = (view.key, point.purpose, point.seed)
            longest[run] = max(longest.get(run, 0), point.epochs)
            seconds += point.wall_s
    return epochs * seconds / sum(longest.values()) if longest else None


def _tested(now: Snapshot) -> Iterator[str]:
    """What the last finished validation showed of the recommended network, or of the best one where that is the bare one."""
    best = now.recommendation
    for result in reversed(now.validations):
        bare = next((n.key for n in result.family.networks if n.placement == "none"), None)
        against = [verdict for verdict in result.verdicts if verdict.control == bare]
        mine = [verdict for verdict in against if best is not None and verdict.network == best.key]
        for verdict in mine or sorted(against, key=lambda verdict: -verdict.difference)[:1]:
            metric = result.family.metric
            network = next(n for n in result.family.networks if n.key == verdict.network)
            word = "no difference shown" if verdict.word == "not shown" else f"{verdict.word} than the bare backbone"
            about = "" if mine else f"{network.placement}: "
            between = f"{units.signed(metric, verdict.low)} to {units.signed(metric, verdict.high)}"
            size = f"{units.difference(metric, verdict.difference)} ({between})"
            yield f"Tested    {about}{word}, {size}; {result.blocks} trainings each, test images"
            return


def _decide(now: Snapshot, bet: Comparison, at: str) -> Iterator[str]:
    """What a test of the most promising placement takes."""
    noise = now.noise.get(now.primary or "")
    runs = None if bet.gain is None or noise is None else _runs_for(bet.gain, noise.seed_sd)
    if runs is None:
        return
    if runs > MOST_RUNS:
        yield f"Decide    not worth it: a gain of this size takes more than {MOST_RUNS} trainings of each to show"
        return
    target = now.recipe.target_training
    fresh = target.backbone_epochs if target.start == "backbone" else 0
    seconds = training_s(now, runs * (2 * target.rungs[-1] + fresh))
    time = "" if seconds is None else f" (about {units.duration(seconds)})"
    view = now.find(bet.key)
    placement = bet.name if view is None else view.placement
    command = f'nas-attn validate {now.study} --seeds {runs} --placement "{placement}"{at}'
    yield f"Decide    {runs} trainings of each as the target says{time}: {command}"


def _target(now: Snapshot, at: str) -> Iterator[str]:
    """That no run trained as the target does, and what it takes to know more; nothing where some did."""
    if searched_as_target(now.recipe) or any(model.rung == TARGET for model in now.evidence.values()):
        return
    seconds = training_s(now, validation_epochs(now.recipe))
    cost = f" in about {units.duration(seconds)}" if seconds else ""
    said = now.recipe.target_training.said
    yield f"Target    the gain {said} is not known yet: nas-attn validate {now.study}{at} finds out{cost}"


def _runs_for(gain: Gain, seed_sd: float | None) -> int | None:
    """Trainings of each of two networks that show a gain, if it is as large as it is estimated."""
    if not seed_sd or gain.mean <= 0:
        return None
    return 2 + math.ceil((NEEDED * seed_sd / gain.mean) ** 2)  # runs of one block have a part of the noise in common
