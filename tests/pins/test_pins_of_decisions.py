"""What each made study decides: one line each, of the JSON that its commands give.

The studies of which more is kept are in `test_pins_of_answers.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from command_line import Nas

import studies


class Case(NamedTuple):
    """A study, and what it decides."""

    maker: studies.Maker
    verdict: str
    taken: str | None
    """Key of the network that is taken."""
    gain: float | None
    """Of what is taken, or comes nearest to it; to 0.001."""
    cost: float | None
    """Its latency ratio, to 0.01."""
    purpose: str | None
    """Of the next command."""
    front: list[int]
    """Trials, the best first."""
    validate: int
    """Exit status of a dry run of a test; that of `effects` follows."""
    effects: int
    also: dict[str, Any]
    """Path in the JSON -> value, numbers to 0.001."""


# fmt: off
CASES = (
    Case(studies.only_bare, "nothing", None, None, None, "continue", [0], 0, 2, {"recommendation.key": "key-000"}),
    Case(studies.bare_is_running, "nothing", None, None, None, "continue", [], 2, 2, {"recommendation": None}),
    Case(studies.single_runs, "keep", "key-000", 0.001, 1.05, "continue", [1, 0], 0, 2, {"recommendation.best_bet.key": "key-001"}),
    Case(studies.small_gains, "keep", "key-000", 0.003, 1.6, "continue", [2, 6, 1, 0], 0, 0, {"recommendation.best_bet.key": "key-002"}),
    Case(studies.no_gains, "keep", "key-000", -0.003, 1.35, "continue", [0], 0, 0, {"recommendation.best_bet.key": "key-014"}),
    Case(studies.gains_that_do_not_count, "keep", "key-000", 0.028, 1.59, "continue", [2, 10, 1, 8, 0], 0, 0, {"recommendation.worth": 0.2}),
    Case(studies.worth, "take", "key-010", 0.019, 1.4, "test", [2, 17, 10, 22, 1, 8, 18, 0], 0, 0, {"recommendation.best_bet.key": "key-002", "card.faster.key": "key-001", "card.slower.key": "key-002"}),
    Case(studies.limit_of_bare, "keep", "key-000", None, 1.0, "continue", [2, 10, 1, 8, 0], 0, 0, {"recommendation.best_bet": None}),
    Case(studies.better_control, "control", "key-020", 0.089, 1.06, "test", [4, 20, 14, 0], 0, 0, {"recommendation.key": "key-001", "recommendation.in_reach": True}),
    Case(studies.dear_control, "take", "key-001", 0.017, 1.15, "test", [4, 20, 15, 6, 7, 1, 13, 0], 0, 0, {"recommendation.capacity.placement": "stage1=cbam(reduction=16, spatial_kernel_size=7) stage2=dwconv stage3=cbam(reduction=16, spatial_kernel_size=7)", "recommendation.in_reach": False}),
    Case(studies.worse_control, "take", "key-002", 0.024, 1.6, "test", [2, 6, 1, 9, 13, 0], 0, 0, {"recommendation.capacity.gain.probability": 0.999}),
    Case(studies.equal_control, "take", "key-001", 0.016, 1.15, "test", [15, 20, 7, 1, 13, 0], 0, 0, {"recommendation.capacity.placement": "stage3=dwconv"}),
    Case(studies.control_beside_bare, "control", "key-004", 0.091, 1.15, "test", [4, 14, 0], 0, 0, {"recommendation.key": "key-000"}),
    Case(studies.other_backbone, "control", "key-019", 0.049, 1.24, "test", [19, 1, 8, 0], 0, 0, {"recommendation.key": "key-002"}),
    Case(studies.tested_without_a_difference, "keep", "key-000", -0.002, 1.59, "continue", [1, 0], 0, 0, {"validations.0.verdicts.0.word": "not shown", "validations.1.verdicts": [], "recommendation.best_bet.key": "key-001"}),
    Case(studies.tested_worse, "take", "key-001", 0.05, 1.15, "continue", [1, 8, 0], 0, 0, {"validations.0.verdicts.0.word": "not shown", "validations.0.verdicts.1.word": "not shown", "pooled.0.difference": -0.047}),
    Case(studies.tested_with_two_machines, "take", "key-002", 0.046, 1.59, "retrain", [2, 10, 1, 8, 0], 0, 0, {"validations.0.mixed": 2, "validations.1.mixed": 2, "validations.0.verdicts.0.word": "better", "card.certainty.probability": None}),
    Case(studies.bare_was_tested, "take", "key-002", 0.047, 1.59, "retrain", [2, 5, 10, 6, 14, 12, 1, 8, 0], 0, 0, {"validations.0.verdicts.0.word": "better", "card.certainty.confirmed": True}),
    Case(studies.at_target, "take", "key-002", 0.021, 1.59, "test", [2, 10, 1, 8, 0], 0, 0, {"card.certainty.runs": 6, "card.gain.after": 0.821}),
    Case(studies.brief_and_open, "take", "key-002", 0.026, 1.6, "test", [2, 8, 12, 10, 1, 0], 0, 0, {"card.certainty.confirmed": False, "cautions.#": 2}),
    Case(studies.longer, "longer", "key-000", 0.057, 1.0, "longer", [2, 8, 12, 10, 1, 0], 0, 0, {"longer.longer": 20, "longer.gain.mean": 0.057, "card.also.0.means": "attention", "card.attention.key": "key-002"}),
    Case(studies.own_backbones, "take", "key-002", 0.028, 1.59, "test", [2, 10, 1, 8, 0], 0, 0, {"recipe.training.backbones": 2, "card.certainty.runs": 3}),
    Case(studies.pretrained, "take", "key-002", 0.047, 1.59, "retrain", [2, 10, 1, 8, 0], 2, 0, {"validations.0.verdicts.0.word": "better", "card.certainty.confirmed": True}),
    Case(studies.careful, "nothing", None, None, None, "anew", [0], 2, 2, {"constants.0.value": 0.64, "cautions.#": 3}),
    Case(studies.constant, "nothing", None, None, None, "anew", [0], 2, 2, {"constants.0.value": 0.1, "constants.0.runs": 21}),
    Case(studies.constant_of_an_evaluator, "nothing", None, None, None, "anew", [0], 2, 2, {"constants.0.metric": "map", "constants.0.value": 0.0}),
    Case(studies.two_values, "keep", "key-000", 0.0, 1.1, "continue", [4, 9, 0], 0, 0, {"noise.accuracy.seed_sd": 0.18}),
    Case(studies.elsewhere, "take", "key-002", 0.028, 1.59, "test", [2, 10, 1, 8, 0], 0, 0, {"latency.machine": "Small board", "latency.sessions": 7, "latency.conditions.threads": 4}),
    Case(studies.costs_only, "keep", "key-000", 0.011, None, "continue", [0], 0, 2, {"primary": "accuracy", "card.gain.metric": "accuracy"}),
)
# fmt: on


OFTEN = (
    studies.only_bare,
    studies.gains_that_do_not_count,
    studies.worth,
    studies.better_control,
    studies.dear_control,
    studies.tested_worse,
    studies.bare_was_tested,
    studies.brief_and_open,
    studies.longer,
    studies.constant,
)
"""Each verdict, with and without controls and tests; more studies with the same verdicts are slow:
each is answered three times.
"""


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case,
            id=case.maker.__name__,
            marks=() if case.maker in OFTEN else pytest.mark.slow,
        )
        for case in CASES
    ],
)
def test_a_study_decides_as_it_did(
    case: Case, nas: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_ATTN_STORAGE", "sqlite:///made.db")
    studies.with_trials(case.maker(tmp_path, monkeypatch))
    answer = nas("show", "made", "--json").json
    trials = {row["key"]: row["trial"] for row in answer["candidates"]}
    assert at(answer, "card.verdict") == case.verdict
    assert at(answer, "card.taken.key") == case.taken
    assert at(answer, "card.gain.mean") == pytest.approx(case.gain, abs=6e-4)
    assert at(answer, "card.cost.ratio") == pytest.approx(case.cost, abs=6e-3)
    assert at(answer, "card.next.purpose") == case.purpose
    assert [trials[key] for key in answer["front"]] == case.front
    for path, value in case.also.items():
        assert at(answer, path) == (
            pytest.approx(value, abs=6e-4) if isinstance(value, float) else value
        ), path
    assert nas("test", "made", "--dry-run").status == case.validate
    assert nas("effects", "made").status == case.effects


def at(value: Any, path: str) -> Any:
    """What stands at a path of names and numbers; `#` counts; nothing below what is null."""
    for name in path.split("."):
        if value is None:
            return None
        if name == "#":
            return len(value)
        value = value[int(name)] if isinstance(value, list) else value[name]
    return value
