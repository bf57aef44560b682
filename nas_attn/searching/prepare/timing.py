"""What fits into a time: how many candidates, how many blocks of a test, or how long it would take.

All runs train as long as they are told: a short time makes fewer of them, never shorter ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from nas_attn.answer.length import BESIDE_S, FEWEST_RUNS, LAST_SHARE

# the fewest candidates that can be compared: the bare network, and one module at all sites three
# times; each of them on two seeds, since a single pair says next to nothing
FEWEST = FEWEST_RUNS // 2
# with fewer candidates, more seeds tell more than a test
FEWEST_TESTED = 9
MOST_CANDIDATES = 120
# so many candidates have a larger network among them, and a longer training
WITH_CONTROLS = 10
# time to train with attention, relative to the bare backbone, about
ATTENTION = 1.4
# time to train a larger network, relative to one with attention, about
OF_LARGER = 1.5
# the same for the bare network, on two seeds, for twice as many epochs
OF_LONGER = 3.0
# share of all epochs that a candidate takes if it may be pruned, about
PRUNED_SHARE = 0.7
# that the bare network runs on at most; each has six candidates or more
MOST_SEEDS = 3
OF_A_SEED = 6
# shares of the time for new candidates and for the test; more seeds come between them
SCREENING = 0.55
TESTING = 0.3
# in which no further seed begins, where there is no test
LAST_SEED_SHARE = LAST_SHARE
# networks
OF_A_TEST = 3
OF_A_ROUND = 4
# runs for each candidate, where there are few validation images: in simulated studies, this found
# no less than many candidates with a run each (research/notes/few-images.md)
RUNS_OF_FEW = 6
# seconds until the first training begins: imports, images, the plan
START_S = 12.0
# seconds for the answer and the report
END_S = BESIDE_S - START_S


@dataclass(frozen=True, slots=True)
class Speed:
    """How long trainings take here."""

    # seconds of an epoch of the bare network with one worker, while the others work, too
    epoch_s: float
    workers: int
    # seconds that measuring a candidate's latency takes
    session_s: float

    def run_s(self, epochs: float) -> float:
        """Seconds of a run with attention, divided by the workers."""
        return self.epoch_s * epochs * ATTENTION / self.workers


@dataclass(frozen=True, slots=True)
class Fit:
    """What a search does with its time."""

    trials: int
    # of the test at the end; 0: there is no time for it
    blocks: int
    # in which the best candidate meets its rivals and the bare network, about
    rounds: int = 0

    @property
    def pairs(self) -> int:
        """Of the best candidate and the bare network, about."""
        return 1 + self.rounds + self.blocks


def fitted(
    seconds: float,
    speed: Speed,
    epochs: float,
    *,
    most: int = MOST_CANDIDATES,
    begun: bool = False,
    test_s: float | None = None,
) -> Fit | None:
    """The richest search whose runs have so many epochs; None if not even a few pairs fit.

    `begun`: its workers are there already, and the seconds end with its last run. `test_s`: seconds
    of a block of the test; None: as long as that many runs.
    """
    beside_s = 0.0
    if not begun:
        beside_s = START_S + END_S
    run_s = speed.run_s(epochs)
    useful_s = seconds - beside_s
    block_s = OF_A_TEST * run_s if test_s is None else test_s
    blocks = min(MOST_BLOCKS, int(TESTING * useful_s / block_s))
    trials = _most_trials(SCREENING * useful_s, speed, run_s, most)
    if blocks >= FEWEST_BLOCKS and trials >= min(FEWEST_TESTED, most):
        return Fit(trials, blocks, _rounds((1 - TESTING) * useful_s, speed, run_s, trials))
    if useful_s < least_s(speed, epochs) - START_S - END_S:
        return None
    trials = min(max(FEWEST, trials), most)
    return Fit(trials, 0, _rounds((1 - LAST_SEED_SHARE) * useful_s, speed, run_s, trials))


def most_of_few(seconds: float, speed: Speed, epochs: float) -> int:
    """The most candidates of a search with few validation images: each of them needs many runs."""
    runs = seconds / speed.run_s(epochs)
    return min(MOST_CANDIDATES, max(WITH_CONTROLS, int(runs / RUNS_OF_FEW)))


def _rounds(seconds: float, speed: Speed, run_s: float, trials: int) -> int:
    """How many rounds such a time holds after the candidates' first runs."""
    left_s = seconds - _first_runs_s(trials, speed, run_s)
    return max(0, int(left_s / (OF_A_ROUND * run_s)))


def least_s(speed: Speed, epochs: float) -> float:
    """The shortest time in which a few pairs of runs of so many epochs fit."""
    runs_s = FEWEST_RUNS * speed.run_s(epochs) + FEWEST * speed.session_s
    return START_S + END_S + runs_s / (1 - LAST_SEED_SHARE)


def _most_trials(seconds: float, speed: Speed, run_s: float, most: int) -> int:
    """The largest number of candidates whose first runs take no longer."""
    fitting = (n for n in range(1, most + 1) if _first_runs_s(n, speed, run_s) <= seconds)
    return max(fitting, default=0)


def _first_runs_s(trials: int, speed: Speed, run_s: float) -> float:
    more_bare = min(MOST_SEEDS, max(1, trials // OF_A_SEED)) - 1
    controls = 0.0
    if trials >= WITH_CONTROLS:
        controls = OF_LARGER + OF_LONGER
    return (trials + more_bare + controls) * run_s + trials * speed.session_s


# blocks of the test at the end of a search with a time limit
FEWEST_BLOCKS = 2
MOST_BLOCKS = 16
# time for a folder, if none is given
HOUR_S = 3600.0
