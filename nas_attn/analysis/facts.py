"""What a study's database holds, as the analysis takes it. `study.reading` reads it; nothing here knows a database."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from nas_attn.analysis.per_image import Labels
from nas_attn.analysis.snippet import BuiltFor
from nas_attn.analysis.validation import Family
from nas_attn.recipe import Recipe
from nas_attn.records import CandidateRow, EpochPoint, Session
from nas_attn.storage import SplitReading, StoredScore

RETRAIN = "retrain"
"""Purpose of the runs of `nas-attn retrain`."""


@dataclass(frozen=True, slots=True)
class Retrained:
    """A training for use (`nas-attn retrain`)."""

    key: str
    placement: str
    way: str
    """`target`, or another that the study keeps."""
    seed: int
    state: str
    """As in the queue: `waiting` until it has ended."""
    reason: str
    curve: tuple[EpochPoint, ...]
    """Epoch by epoch; an evaluator's trainings have none."""
    metrics: Mapping[str, float] | None
    """Of the trained network on the validation split; None before the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFacts:
    """A study as its database holds it at one moment."""

    name: str
    created_at: float
    """Unix seconds."""
    recipe: Recipe
    versions: Mapping[str, str]
    planned: int
    """Candidates that are to be evaluated in all."""
    candidates: Sequence[CandidateRow]
    """By trial."""
    scores: Sequence[StoredScore]
    """Of the search's way of training and the study's backbones, with results per image."""
    sessions: Sequence[Session]
    built: BuiltFor | None
    """What the backbone is built for; None before the study has begun."""
    labels: Mapping[str, Labels]
    """Way of training -> labels of the images that its scores are of."""
    families: Sequence[Family]
    """The validations, the first first."""
    ended: Collection[tuple[str, int]]
    """(key, seed) of the target's runs that have ended."""
    target_scores: Sequence[StoredScore]
    """Of the target's runs on the validation images, with results per image."""
    test_scores: Sequence[StoredScore]
    """Of the target's runs on the test split, with results per image."""
    test_readings: Sequence[SplitReading]
    retrained: Sequence[Retrained]
