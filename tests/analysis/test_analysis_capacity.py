"""Attention against plain layers at the same latency."""

from __future__ import annotations

import pytest

from nas_attn.analysis.recommendation import Contender, Recommendation, recommend, with_capacity
from nas_attn.model import Run, fit
from nas_attn.records import Latency

NOISE = (-0.0021, 0.0008, 0.0013, -0.0006, 0.0017, -0.0012)


def answered(**table: tuple[float, float]) -> Recommendation:
    """Of name -> (accuracy, latency ratio), three runs each; `dwconv` and `conv` are controls."""
    names = list(table)
    texts = {name: "none" if name == "none" else f"stage1={name}" for name in names}
    runs = [
        Run(name, seed, 0, table[name][0] + 0.01 * seed + NOISE[(i + 2 * seed + i * seed) % 6], 0)
        for i, name in enumerate(names)
        for seed in range(3)
    ]
    evidence = fit(runs, texts, metric="accuracy", lower_is_better=False)
    assert evidence is not None
    known = {
        name: Contender(
            name,
            texts[name],
            {"none": "none", "dwconv": "control dwconv", "conv": "control conv"}.get(name),
            evidence.estimates[name],
            Latency(ratio, 0.99 * ratio, 1.01 * ratio, 4.0, 6),
            True,
        )
        for name, (_, ratio) in table.items()
    }
    controls = [known.pop(name) for name in ("dwconv", "conv") if name in known]
    found = with_capacity(
        recommend(list(known.values()), evidence, max_latency_ratio=None), list(known.values()), controls, evidence
    )
    assert found is not None
    return found


def test_a_control_that_gains_more_makes_attention_needless() -> None:
    best = answered(none=(0.70, 1.0), se=(0.73, 1.2), dwconv=(0.76, 1.2), conv=(0.71, 1.1))
    assert best.key == "se", "a control is never recommended"
    assert best.capacity is not None
    assert best.capacity.key == "dwconv"
    assert best.capacity.gain is not None
    assert best.capacity.gain.worse > 0.95
    assert best.answer[-1].startswith("Capacity  dwconv everywhere: +")
    assert "at 1.20 ×" in best.answer[-1]
    assert "not needed" in best.answer[-1]


def test_attention_that_gains_more_than_any_control_at_its_latency_buys_more() -> None:
    best = answered(none=(0.70, 1.0), se=(0.75, 1.2), dwconv=(0.71, 1.1), conv=(0.80, 1.6))
    assert best.capacity is not None
    assert best.capacity.key == "dwconv", "the better control costs more latency"
    assert best.capacity.gain is not None
    assert best.capacity.gain.probability > 0.95
    assert "Attention buys more" in best.answer[-1]


@pytest.mark.parametrize(("control", "helps"), [(0.76, True), (0.69, False)])
def test_beside_the_bare_backbone_it_says_whether_more_network_helps(control: float, helps: bool) -> None:
    best = answered(none=(0.70, 1.0), se=(0.69, 1.2), dwconv=(control, 1.1))
    assert best.key == "none"
    assert ("More network helps here" in best.answer[-1]) == helps


def test_without_a_control_the_answer_is_as_before() -> None:
    best = answered(none=(0.70, 1.0), se=(0.75, 1.2))
    assert best.capacity is None
    assert not any(line.startswith("Capacity") for line in best.answer)
