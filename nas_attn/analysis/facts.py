"""A study as its database holds it at one moment: what the analysis is given."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from nas_attn.analysis.arithmetic import ArithmeticUse
from nas_attn.analysis.features import BuiltFor
from nas_attn.analysis.per_image import Labels
from nas_attn.analysis.validation import Family
from nas_attn.recipe import Recipe
from nas_attn.records import (
    CandidateRow,
    EpochPoint,
    Placement,
    Session,
    SplitReading,
    StoredScore,
)


@dataclass(frozen=True, slots=True)
class Retrained:
    """A training for use (`nas-attn retrain`)."""

    key: str
    placement: Placement
    protocol: str  # `target`, or another protocol of the study
    seed: int
    state: str  # as in the queue: `waiting` until it has ended
    reason: str
    curve: tuple[EpochPoint, ...]  # epoch by epoch; an evaluator's trainings have none
    metrics: (
        Mapping[str, float] | None
    )  # of the trained network on the validation split; None before the end


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFacts:
    """A study as its database holds it at one moment."""

    name: str
    created_at: float  # unix seconds
    recipe: Recipe
    versions: Mapping[str, str]
    planned: int  # candidates that are to be evaluated in all
    candidates: Sequence[CandidateRow]  # by trial
    scores: Sequence[StoredScore]  # of the search and the study's backbones, with results per image
    sessions: Sequence[Session]
    sessions_elsewhere: Sequence[Session]  # of other devices than the study's own
    built: (
        BuiltFor | None
    )  # input shape and classes of the backbone; None before the study has begun
    labels: Mapping[str, Labels]  # training protocol -> labels of the images that it is scored on
    families: Sequence[Family]  # the validations, the oldest first
    ended: Collection[tuple[str, int]]  # (key, seed) of the target's runs that have ended
    target_scores: Sequence[
        StoredScore
    ]  # of the target's runs on the validation images, with results per image
    test_scores: Sequence[
        StoredScore
    ]  # of the target's runs on the test split, with results per image
    # of the bare network's trainings of several lengths, with results per image
    length_scores: Sequence[StoredScore]
    test_readings: Sequence[SplitReading]
    retrained: Sequence[Retrained]
    arithmetic: Sequence[ArithmeticUse]  # empty if an evaluator trains
    # what was said of the images when the study began: splits, classes, what is left out
    images: Sequence[str] = ()
