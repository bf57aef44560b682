"""What research/notes/trials.md expected before the first run, beside what the rows say."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from research.means import FEWEST_SEEDS
from research.trial.gains import (
    FULL,
    HELPS,
    MEAN,
    PLACE,
    PLACEMENTS,
    QUARTER,
    SUMMED,
    Trial,
    attention,
)
from research.trial.table import LAST, PROBLEMS, everywhere

FROM_SCRATCH = tuple(name for name, problem in PROBLEMS.items() if not problem.pretrained)
FINE_TUNING = tuple(name for name, problem in PROBLEMS.items() if problem.pretrained)
MODULES_THAT_HELP = 1 / 3
HELP_IN = 2
"""Problems in which a module helps that counts as one that helps."""
LARGEST_POINTS = 1.0
CORRELATION = 0.5
LARGER_WINS = 3 / 4
UNKNOWN = "not known yet"


@dataclass(frozen=True)
class Expectation:
    """One of the four, with its outcome so far."""

    text: str
    figure: str
    held: bool | None
    """None: not known yet."""

    def __str__(self) -> str:
        outcome = {True: "as expected", False: "not as expected", None: UNKNOWN}[self.held]
        if self.held is None:
            return f"{self.text}: {outcome}."
        return f"{self.text}: {outcome}. {self.figure}."


def expectations(trial: Trial) -> Iterator[Expectation]:
    """The four of the plan, in its order."""
    yield _few_help(trial)
    yield _fine_tuning_changes_little(trial)
    yield _brief_gains_mislead(trial)
    yield _larger_networks_win(trial)


def _few_help(trial: Trial) -> Expectation:
    text = "At every stage, at most a third of the modules help in two or three problems"
    known = [
        [trial.verdict(problem, network) for problem in FROM_SCRATCH]
        for network in attention()
        if not network.startswith(LAST)
    ]
    if np.isnan(known).any():
        return Expectation(text, UNKNOWN, None)
    help_in = (np.array(known) == HELPS).sum(axis=1)
    helpful = int((help_in >= HELP_IN).sum())
    figure = f"{helpful} of {len(known)} modules help in two problems or three"
    return Expectation(text, figure, helpful <= MODULES_THAT_HELP * len(known))


def _fine_tuning_changes_little(trial: Trial) -> Expectation:
    text = "In fine-tuning, no placement differs by more than one point"
    gains = {
        network: trial.gain(problem, network) for problem in FINE_TUNING for network in PLACEMENTS
    }
    known = {network: gain for network, gain in gains.items() if gain is not None}
    if len(known) < len(gains):
        return Expectation(text, UNKNOWN, None)
    largest = max(known, key=lambda network: abs(known[network].mean))
    figure = f"The largest difference is {known[largest]} points (`{largest}`)"
    return Expectation(text, figure, abs(known[largest].mean) <= LARGEST_POINTS)


def _brief_gains_mislead(trial: Trial) -> Expectation:
    text = (
        "Gains after a quarter of the training correlate with those in full by less than 0.5, and"
        " ECA's sign differs in one problem or more"
    )
    correlations: list[float] = []
    signs: list[int] = []
    for network in (everywhere("eca"), f"{LAST}=eca"):
        signs.append(sum(_sign_differs(trial, problem, network) for problem in PROBLEMS))
    for problem in PROBLEMS:
        agreement = trial.agreement(problem)
        if agreement is None:
            return Expectation(text, UNKNOWN, None)
        correlations.append(agreement.correlation)
    shown = ", ".join(_two_places(value) for value in correlations)
    figure = (
        f"Correlations in the four problems: {shown}; ECA's sign differs in {signs[0]} of"
        f" {len(PROBLEMS)} at every stage, in {signs[1]} at the last one"
    )
    known = [value for value in correlations if math.isfinite(value)]
    low = len(known) == len(correlations) and max(known) < CORRELATION
    return Expectation(text, figure, low and max(signs) > 0)


def _two_places(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "none (nothing but noise)"


def _sign_differs(trial: Trial, problem: str, network: str) -> bool:
    full = trial.gain(problem, network, FULL)
    quarter = trial.gain(problem, network, QUARTER)
    return full is not None and quarter is not None and full.mean * quarter.mean < 0


def larger_wins(trial: Trial) -> tuple[int, int] | None:
    """(how many placements of attention gain no more than a larger network of equal latency, of how
    many), by the mean of the four problems; None: not known yet.
    """
    rows = [PLACE[network] for network in attention()]
    of_mean = trial.against_larger[SUMMED.index(MEAN), FULL]
    if of_mean.seeds[rows].min() < FEWEST_SEEDS:
        return None
    return int((of_mean.mean[rows] <= 0).sum()), len(rows)


def _larger_networks_win(trial: Trial) -> Expectation:
    text = (
        "At equal latency, a larger network gains at least as much as three quarters of the modules"
    )
    wins = larger_wins(trial)
    if wins is None:
        return Expectation(text, UNKNOWN, None)
    figure = f"It gains as much as {wins[0]} of {wins[1]} placements, by the mean of four problems"
    return Expectation(text, figure, wins[0] >= LARGER_WINS * wins[1])
