"""A study as its database holds it at one moment: what the analysis is given."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from nas_attn.answer.pair_tests import Family
from nas_attn.data.inventory import StudyImages
from nas_attn.model.features import BuiltFor
from nas_attn.recipe.recipe import Recipe
from nas_attn.space.placement import Placement
from nas_attn.storage.labels import Labels
from nas_attn.storage.records import (
    CandidateRow,
    EpochPoint,
    Score,
    Session,
    SplitReading,
    StoredScore,
)


@dataclass(frozen=True, slots=True)
class Retrained:
    """A training for use (`nas-attn retrain`)."""

    key: str
    placement: Placement
    # `target`, or another protocol of the study
    protocol: str
    seed: int
    # as in the queue: `waiting` until it has ended
    state: str
    reason: str
    # epoch by epoch; an evaluator's trainings have none
    curve: tuple[EpochPoint, ...]
    # of the trained network on the validation split; None before the end
    metrics: Mapping[str, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyState:
    """What is known of a study without computing anything."""

    study: str
    # unix seconds
    created_at: float
    recipe: Recipe
    versions: Mapping[str, str]
    test_readings: tuple[SplitReading, ...]
    # candidates that are to be evaluated in all
    planned: int
    # trainings for use, in the order in which they were ordered
    retrained: tuple[Retrained, ...]
    # whether nothing was left to try within the limits
    exhausted: bool = field(default=False, compare=False)
    # further runs of the search that have not begun
    waiting: int = field(default=0, compare=False)
    # what the images were when the study began
    images: StudyImages | None = None
    # at once: now, or the last time
    workers: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFacts(StudyState):
    """A study as its database holds it at one moment."""

    # by trial
    candidates: Sequence[CandidateRow]
    # of the search and the study's backbones, with results per image
    scores: Sequence[StoredScore]
    sessions: Sequence[Session]
    # of other devices than the study's own
    sessions_elsewhere: Sequence[Session]
    # input shape and classes of the backbone; None before the study has begun
    built: BuiltFor | None
    # training protocol -> labels of the images that it is scored on
    labels: Mapping[str, Labels]
    # seed -> the images of its own division; empty where there is one division
    divisions: Mapping[int, Labels]
    # the validations, the oldest first
    families: Sequence[Family]
    # (key, seed) of the target's runs that have ended
    ended: Collection[tuple[str, int]]
    # of the target's runs on the validation images, with results per image
    target_scores: Sequence[StoredScore]
    # of the target's runs on the test split, with results per image
    test_scores: Sequence[StoredScore]
    # of the bare backbone's trainings of several lengths, with results per image
    length_scores: Sequence[StoredScore]
    # times the usual rate -> seed -> the bare backbone's score; empty: no rates were compared
    rates: Mapping[float, Mapping[int, Score]] = field(default_factory=dict)
