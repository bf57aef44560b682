"""Finds how long the target trains, and at which rate, where the recipe leaves that open
(`target.epochs = "auto"`, `target.learning_rate = "auto"`).

Before its first candidate, a study trains the bare backbone for n, 2n, 4n … epochs, each time from
the start and with a schedule of its own, on two seeds. The first length whose double is not clearly
better (`nas_attn.answer.length` has the rule) becomes the target, is written into the study's
recipe, and stays. So does the rate: the first n epochs are trained at a third and three times the
usual one, too, where this costs less than a tenth of the search, and what follows at the best
(`nas_attn.answer.rate`).

A search with a time spends at most a part of it on this: a length is begun if its trainings end
before, by the seconds that an epoch has taken so far. If the time ends before the length is found,
the target is the longest that was tried; and if too few runs as long fit into the time that is
left, a shorter one.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from typing_extensions import override

from nas_attn.answer.answer import SURE_ENOUGH
from nas_attn.answer.cautions import only_guessed
from nas_attn.answer.fronts import primary_metric
from nas_attn.answer.length import (
    LengthScore,
    MetricKind,
    length_scores,
    may_bring_much,
    metric_kind,
    needed_length,
)
from nas_attn.answer.progress import further_runs
from nas_attn.answer.rate import RATES, better_rate
from nas_attn.answer.reading import rate_runs, searched_snapshot, validation_labels
from nas_attn.errors import OperationError, RecipeError, several
from nas_attn.recipe import tasks
from nas_attn.recipe.protocol import TrainingSection
from nas_attn.recipe.purposes import LENGTH, SEARCH, is_length, length_epochs, length_protocol
from nas_attn.recipe.recipe import Recipe
from nas_attn.recipe.tables import LAYER_NORM_PRESET
from nas_attn.recipe.units import value
from nas_attn.searching.prepare.clock import divide_time
from nas_attn.searching.prepare.fitting import (
    LEAST_TRIALS,
    MOST_SEEDS_PER_LENGTH,
    RATE_SHARE,
    SEEDS_PER_LENGTH,
    Fit,
    Speed,
    control_lengths,
    fitted,
    most_of_few,
    usual_epochs,
)
from nas_attn.searching.prepare.length_protocols import keep_length_protocol
from nas_attn.searching.worker.ending import Ending
from nas_attn.searching.worker.worker import TaskSource, Worker
from nas_attn.space.placement import BARE
from nas_attn.storage.rows import Lease, Run
from nas_attn.storage.store import StudyStore
from nas_attn.training.plan import session_s, study_plan

# n to 32n; a network that still gains then is taken at the longest
MOST_LENGTHS = 6
LENGTH_PRIORITY = 40
# states of a run that is not trained any more
ENDED = ("done", "failed")
# probability of a gain below which a longer training gets no further seeds, unless it may still
# bring much
UNLIKELY = 0.5


@dataclass(frozen=True, slots=True)
class Tried:
    """The lengths that a study has tried, and what follows from them."""

    scores: tuple[LengthScore, ...]
    """Of the lengths that have one, the shortest first."""
    failed: frozenset[int]
    """Epochs of lengths all of whose trainings have failed."""
    metric: str
    kind: MetricKind
    only_guessed: bool
    """Whether all trainings predicted one class for all images."""

    @property
    def needed(self) -> int | None:
        """The length that the bare backbone needs; None while it is not known."""
        found = needed_length(self.scores, self.kind)
        last = self.failed or len(self.scores) >= MOST_LENGTHS
        if found is None and self.scores and last:
            return self.scores[-1].epochs
        return found

    def following(self, first: int, *, timed: bool) -> list[int]:
        """The lengths to train next: two at first, since one says nothing, then one by one.

        Args:
            first: epochs of the shortest.
            timed: whether the search has a time: it learns from the first how long the second
                takes.
        """
        if self.needed is not None or first in self.failed:
            return []
        if self.scores:
            return [2 * self.scores[-1].epochs]
        return [first] if timed else [first, 2 * first]


def tried_lengths(store: StudyStore, recipe: Recipe, rate: float = 1.0) -> Tried:
    """Reads the lengths that a study has tried, at so many times its usual rate."""
    metrics: dict[int, list[Mapping[str, float]]] = defaultdict(list)
    for stored in store.scores():
        if is_length(stored.protocol, rate):
            metrics[stored.score.epochs].append(stored.score.metrics)
    states: dict[int, set[str]] = defaultdict(set)
    for row in store.queue.rows(purposes=[LENGTH]):
        if is_length(row.run.protocol, rate):
            states[epochs_of(row.run)].add(row.state)
    all_runs = list(itertools.chain.from_iterable(metrics.values()))
    names = {name for run in all_runs for name in run}
    metric = primary_metric(recipe, names) or tasks.of(recipe).metric
    return Tried(
        scores=tuple(length_scores(metrics, metric)),
        failed=frozenset(e for e, of in states.items() if of == {"failed"} and e not in metrics),
        metric=metric,
        kind=metric_kind(recipe, metric),
        only_guessed=only_guessed(recipe, all_runs),
    )


def length_run(key: str, epochs: int, seed: int, rate: float = 1.0) -> Run:
    """Makes the training of the bare backbone for a length.

    Args:
        key: of the bare backbone.
        epochs: the length.
        seed: of the run.
        rate: times the usual one.
    """
    return Run(
        key,
        BARE,
        seed=seed,
        backbone=0,
        protocol=length_protocol(epochs, rate),
        purpose=LENGTH,
        priority=LENGTH_PRIORITY,
    )


def epochs_of(run: Run) -> int:
    """For how many epochs a training of the bare backbone goes on, by its protocol."""
    epochs = length_epochs(run.protocol)
    assert epochs is not None
    return epochs


def epoch_seconds(store: StudyStore) -> float | None:
    """Seconds of an epoch of the bare backbone in its trainings of several lengths; None before the
    first has ended.
    """
    scores = [stored.score for stored in store.scores() if stored.purpose == LENGTH]
    epochs = sum(score.epochs for score in scores)
    return sum(score.wall_s for score in scores) / epochs if epochs else None


class BareTrainings(TaskSource, ABC):
    """Trainings of the bare backbone for some lengths, each on the same seeds."""

    purpose = LENGTH

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self.key = study_plan(worker.opened.store).resolved(BARE).key

    @abstractmethod
    def trainings(self) -> list[tuple[int, float]]:
        """The epochs to train for, and times the usual rate, as far as is known now."""

    def seeds(self) -> list[int]:
        """The seeds on which each length is trained."""
        first = self.recipe.first_seed
        return list(range(first, first + SEEDS_PER_LENGTH))

    def runs(self, trainings: Iterable[tuple[int, float]]) -> list[Run]:
        """The runs of some trainings, on each seed."""
        return [
            length_run(self.key, epochs, seed, rate)
            for (epochs, rate), seed in itertools.product(trainings, self.seeds())
        ]

    @override
    def want(self, lease: Lease) -> bool:
        trainings = self.trainings()
        for epochs, rate in trainings:
            keep_length_protocol(self.store, self.recipe, epochs, rate)
        return self.enter(self.runs(trainings), purposes=[LENGTH])


class Control(BareTrainings):
    """Trains the bare backbone for twice the target's epochs, as a control beside attention: what
    this brings costs no latency. Where the search trains otherwise than the target, also for the
    target's.
    """

    @override
    def trainings(self) -> list[tuple[int, float]]:
        lengths = control_lengths(self.recipe, self.worker.opened.trials)
        return [(epochs, self.recipe.training.rate_factor) for epochs in lengths]

    @override
    def seeds(self) -> list[int]:
        """Two, then one more that the bare backbone ran on in the search, as long as it is open
        what a longer training brings.
        """
        first = super().seeds()
        trainings = self.trainings()
        protocols = {length_protocol(*training) for training in trainings}
        rows = [row for row in self.queue.rows(purposes=[LENGTH]) if row.run.protocol in protocols]
        ran = {row.run.seed for row in rows}
        ended = all(row.state != "waiting" for row in rows)
        late = self.store.settings.test_from
        if (
            len(trainings) != 1
            or not ended
            or not ran.issuperset(first)
            or len(ran) >= MOST_SEEDS_PER_LENGTH
            or (late is not None and self.worker.opened.database.now() > late)
        ):
            return first
        scores = self.store.scores(self.key, protocol=SEARCH)
        fresh = sorted({stored.score.seed for stored in scores} - ran)
        if not fresh:
            return first
        now = searched_snapshot(self.store)
        longer = now.longer
        if longer is None:
            return first
        is_sure = longer.gain.probability >= SURE_ENOUGH
        likely = not is_sure and longer.of_trainings.probability > UNLIKELY
        return [*first, fresh[0]] if likely or may_bring_much(longer, now.metric) else first

    @override
    def ahead(self, lease: Lease) -> bool:
        """An idle worker may begin them before the candidates have ended, but not before the bare
        network has: if it cannot be trained, neither can these.
        """
        bare = self.store.candidate(self.key)
        return bare is not None and bare.state == "scored" and self.want(lease)


class FindingLength(BareTrainings):
    """Trains the bare backbone longer and longer, then writes the target into the study."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        dataset = worker.benches.search.dataset
        self._first = usual_epochs(self.recipe, 0 if dataset is None else len(dataset.train))

    @override
    def trainings(self) -> list[tuple[int, float]]:
        compared = [(self._first, rate) for rate in RATES]
        if not self._asks_rate():
            return [(epochs, 1.0) for epochs in self._lengths(1.0)]
        states = {row.run.identity: row.state for row in self.queue.rows(purposes=[LENGTH])}
        if any(states.get(run.identity) not in ENDED for run in self.runs(compared)):
            return compared
        rate = self._rate()
        return [(epochs, rate) for epochs in self._lengths(rate)]

    def _asks_rate(self) -> bool:
        """Whether several rates are compared: a comparison that has begun is ended; none begins
        that costs more than its share of the search.
        """
        if not self.recipe.rate_is_open:
            return False
        if any(not is_length(row.run.protocol) for row in self.queue.rows(purposes=[LENGTH])):
            return True
        more = (len(RATES) - 1) * SEEDS_PER_LENGTH
        ends_at = self.store.settings.ends_at
        if ends_at is None:
            trials = self.worker.opened.trials
            runs = trials * self.recipe.training.seeds + further_runs(self.recipe, trials)
            return more <= RATE_SHARE * runs
        epoch_s = epoch_seconds(self.store)
        if epoch_s is None:
            # the first training shows the pace, unless it fails
            return self._first in tried_lengths(self.store, self.recipe).failed
        more_s = more * self._first * epoch_s / self.store.workers.at_once()
        return more_s <= RATE_SHARE * (ends_at - self.worker.opened.database.now())

    def _rate(self) -> float:
        """Times the usual rate: what was found so far."""
        runs = rate_runs(self.store)
        metric = tried_lengths(self.store, self.recipe).metric
        return better_rate(self.recipe, runs, metric, validation_labels(self.store, self.recipe))

    def _lengths(self, rate: float) -> list[int]:
        tried = tried_lengths(self.store, self.recipe, rate)
        timed = self.store.settings.ends_at is not None
        following = tried.following(self._first, timed=timed)
        until = self.store.settings.screen_until
        epoch_s = epoch_seconds(self.store)
        if until is None or epoch_s is None or not tried.scores:
            return following
        left_s = until - self.worker.opened.database.now()
        each_s = epoch_s * SEEDS_PER_LENGTH / self.store.workers.at_once()
        return [epochs for epochs in following if epochs * each_s <= left_s]

    @override
    def close(self) -> Ending:
        """Writes the length that was found into the study's recipe, and plans the time that is
        left.
        """
        rate = self._rate()
        tried = tried_lengths(self.store, self.recipe, rate)
        self._check_learned(tried)
        target = tried.needed or tried.scores[-1].epochs
        fit = None
        epoch_s = epoch_seconds(self.store)
        ends_at = self.store.settings.ends_at
        if ends_at is not None and epoch_s is not None:
            left_s = ends_at - self.worker.opened.database.now()
            lengths = [score.epochs for score in tried.scores if score.epochs <= target]
            target, fit = self._fitting(lengths, left_s, epoch_s)
        recipe = self.recipe.with_length(target, rate)
        if rate != 1:
            usual = self.recipe.target_training.peak_rate
            self.worker.say(
                f"target: a rate of {recipe.target_training.peak_rate:.2g} is clearly better than"
                f" {usual:.2g}"
            )
        self._announce(tried, target)
        if fit is not None:
            self.store.set(trials=min(fit.trials, self.store.settings.trials))
            divide_time(self.worker.opened, left_s)
        self.store.set(recipe=recipe.to_json())
        return Ending.COMPLETE

    def _check_learned(self, tried: Tried) -> None:
        """Raises OperationError: the bare backbone cannot be trained. Raises RecipeError: it has
        learned nothing.
        """
        name = self.store.name
        if not tried.scores:
            raise OperationError(
                f"the bare backbone of study '{name}' cannot be trained, so it is not known how"
                " long the target trains: see the failed runs above, or give target.epochs a"
                " number"
            )
        if tried.only_guessed:
            longest = several(tried.scores[-1].epochs, "epoch")
            raise RecipeError(
                f"the bare backbone of study '{name}' has learned nothing in {longest}: it predicts"
                " one class for all images, so there is nothing to compare:"
                f" {other_training(self.recipe.target_training)}"
            )

    def _fitting(self, lengths: Sequence[int], left_s: float, epoch_s: float) -> tuple[int, Fit]:
        """The longest length of which enough runs fit into the time that is left, and what fits; if
        none does, the shortest with the fewest candidates.

        Args:
            lengths: in epochs, the shortest first.
            left_s: seconds for everything that follows.
            epoch_s: seconds of an epoch of the bare backbone.
        """
        speed = Speed(epoch_s, self.store.workers.at_once(), session_s(self.recipe))
        for length in reversed(lengths):
            most = self.store.settings.trials
            if self.recipe.data.resplit is True:
                most = min(most, most_of_few(left_s, speed, length))
            fit = fitted(left_s, speed, length, most=most, begun=True, longer=False)
            if fit is not None:
                return length, fit
        return lengths[0], Fit(LEAST_TRIALS)

    def _announce(self, tried: Tried, target: int) -> None:
        reached = [f"{value(tried.metric, s.value)} after {s.epochs}" for s in tried.scores]
        reached[0] += " epochs" if tried.scores[0].epochs > 1 else " epoch"
        why = ""
        if tried.needed is None:
            why = ", as there is no time to find out how long it gains"
        elif target < tried.needed:
            why = f", as there is too little time for runs of {tried.needed}"
        elif any(score.epochs == 2 * target for score in tried.scores):
            why = f", as {2 * target} are not clearly better on these images"
        self.worker.say(
            f"target: the bare backbone reaches {', '.join(reached)};"
            f" {several(target, 'epoch')} are taken{why}"
        )


def other_training(training: TrainingSection) -> str:
    """Names another training for a network that predicts one class for all images."""
    if training.evaluator is not None:
        return f"change how '{training.evaluator}' trains, then begin a new study (--name)"
    setting = f"training.learning_rate={training.learning_rate / 10:g}"
    if training.optimizer == "SGD":
        setting = f"training.preset={LAYER_NORM_PRESET}"
    return f"try another training in a new study (--name): --set {setting}"
