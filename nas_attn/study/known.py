"""What a sampler is given to learn from: values of trials, full ones and weaker hints."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from optuna.study import Study
from optuna.trial import TrialState

from nas_attn.study.pruning import ATTRIBUTE

FEWEST = 3
"""Trials that went on from a rung, from which on what others had there says something of where they would have ended."""
HINT = 4.0
"""Variance of such a hint's noise over that of a full run."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one trial's placement."""

    values: tuple[float | None, ...]
    """One per objective, as the study counts them; None where it is not known."""
    noise: tuple[float, ...] = ()
    """One per objective: variance of its noise over that of a full run; empty: full runs."""


Evidence = Callable[[Study], Mapping[int, Known]]
"""Study -> what is known, by the trials' numbers. Trials that it leaves out are tried, with nothing known."""


def known_of_trials(study: Study) -> dict[int, Known]:
    """What the trials hold: the values of complete ones, and of others what `ParetoHalving` was told of them last."""
    found: dict[int, Known] = {}
    brief: dict[int, dict[int, Sequence[float | None]]] = {}
    for trial in study.get_trials(deepcopy=False):
        if trial.state == TrialState.COMPLETE:
            found[trial.number] = Known(tuple(trial.values))
        rungs = {
            int(name.removeprefix(ATTRIBUTE)): v for name, v in trial.user_attrs.items() if name.startswith(ATTRIBUTE)
        }
        if rungs:
            brief[trial.number] = rungs
    return {**hints(brief, found), **found}


def hints(brief: Mapping[int, Mapping[int, Sequence[float | None]]], full: Mapping[int, Known]) -> dict[int, Known]:
    """Weak values of trials that did not come to their end, from the last rung that they reached.

    A value at a rung is moved by the median of what those that went on from it still gained.

    Args:
        brief: number -> rung -> values there.
        full: number -> what is known of those that came to their end.
    """
    gained: dict[tuple[int, int], list[float]] = {}
    for number in brief.keys() & full.keys():
        for rung, values in brief[number].items():
            for index, (early, late) in enumerate(zip(values, full[number].values, strict=True)):
                if early is not None and late is not None and math.isfinite(late - early):
                    gained.setdefault((rung, index), []).append(late - early)
    shift = {place: statistics.median(found) for place, found in gained.items() if len(found) >= FEWEST}
    result = {}
    for number in brief.keys() - full.keys():
        last = max(brief[number])
        values = [
            None if value is None or (last, index) not in shift else value + shift[last, index]
            for index, value in enumerate(brief[number][last])
        ]
        result[number] = Known(tuple(values), (HINT,) * len(values))
    return result
