"""Headings, captions and heads of columns, of the report and of the plots in the dashboard."""

from __future__ import annotations

from collections.abc import Mapping

SECTIONS: Mapping[str, str] = {
    "tests": "Tests",
    "front": "Front and baselines",
    "estimates": "What the estimates mean",
    "effects": "What each choice does",
    "mistakes": "What the networks get wrong",
    "curves": "Learning curves",
    "retrained": "Trained for use",
    "candidates": "All candidates",
    "study": "The study",
    "repeat": "Repeat the study",
}
"""The sections of the report, in their order: id -> heading."""

FIGURES: Mapping[str, str] = {
    "front": "Front and baselines, as estimated now",
    "curves": "Learning curves",
    "effects": "What each choice adds at each site",
    "effects-latency": "What each choice adds to the latency at each site",
    "noise": "Each candidate's runs next to its estimate",
    "retrained": "Trained for use",
}
"""Kind of figure -> what it is about."""

# Captions of tables
CONDITIONS = "Conditions of measurement"
TIMES = "Where the time went"
READINGS = "Readings of the test images"
VERSIONS_TITLE = "Versions"
OF_THIS_TEST = "The networks of this test"
TESTED_CLASSES = "On the test split, class by class"
FRONT = "The front, and the baselines beside it"
FOR_USE = "Trainings for use, scored on the validation split"

# Heads of columns
BETTER_THAN_BARE = "better than the bare backbone"
TESTED_HEADS = ("network", "on the test split, ± over runs", "placement")
RETRAINED_HEADS = ("placement", "protocol", "seed", "epochs")
"""Before the metrics."""
STATE = "state"
EFFECTS_HEADS = (
    "site",
    "choice",
    "on average",
    "good",
    "alone",
    "next to the recommended",
    "candidates",
    "with the type elsewhere",
)


def all_effects(of: str) -> str:
    """Above the table of effects on a metric or on latency."""
    return f"All effects on {of}"


def by_class(title: str) -> str:
    """Above the table of a metric class by class."""
    return f"{title[:1].upper()}{title[1:]} of each class"


def pruned_at(rung: int) -> str:
    """The state of a candidate that was stopped early."""
    return f"pruned at rung {rung}"
