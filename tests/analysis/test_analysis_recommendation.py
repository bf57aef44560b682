from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_attn.analysis.estimates import NoiseModel, Runs
from nas_attn.analysis.recommendation import Contender, Recommendation, format_probability, recommend, sureness
from nas_attn.records import Latency


def latency(ratio: float) -> Latency:
    return Latency(ratio, 0.99 * ratio, 1.01 * ratio, 4.0, 6)


def decide(
    table: dict[str, tuple[float, float]], *, metric: str = "accuracy", limit: float | None = None, lower: bool = False
) -> Recommendation | None:
    """Decides among name -> (value, latency ratio); three runs each that spread by 0.002; all of them on the front."""
    runs = {
        name: Runs({10 * i + s: value + 0.002 * (s - 1) for s in range(3)}, {})
        for i, (name, (value, _)) in enumerate(table.items())
    }
    model = NoiseModel(metric, runs, lower_is_better=lower)
    contenders = [
        Contender(
            name,
            f"placement of {name}",
            name if name in ("none", "uniform se") else None,
            estimate,
            latency(ratio),
            True,
        )
        for name, (_, ratio) in table.items()
        if (estimate := model.estimate(name)) is not None
    ]
    return recommend(contenders, model, lower_is_better=lower, max_latency_ratio=limit)


SPREAD = {"none": (0.70, 1.0), "uniform se": (0.71, 1.2), "a": (0.72, 1.3), "b": (0.73, 1.6), "c": (0.69, 1.1)}


def test_without_a_limit_the_largest_likely_gain_wins() -> None:
    best = decide(SPREAD)
    assert best is not None
    assert best.key == "b"
    assert best.against_none is not None
    assert best.against_none.probability > 0.99
    assert best.against_none.latency_ratio == pytest.approx(1.6)
    assert best.against_uniform is not None
    assert best.against_uniform.gain == pytest.approx(0.02, abs=0.004)
    assert best.cheaper is None


def test_a_limit_is_kept() -> None:
    best = decide(SPREAD, limit=1.35)
    assert best is not None
    assert best.key == "a"
    assert "no more than 1.35 times" in best.sentences[0]


def test_below_every_latency_there_is_no_recommendation() -> None:
    assert decide(SPREAD, limit=0.9) is None
    assert decide({}) is None


def test_a_hardly_worse_and_faster_one_is_named() -> None:
    best = decide(SPREAD | {"b": (0.7205, 1.6)})
    assert best is not None
    assert best.key == "b"
    assert best.cheaper is not None
    assert best.cheaper.key == "a"
    assert "For less latency: `placement of a` at 1.300 times" in best.sentences[-2]


def test_no_attention_is_recommended_where_nothing_beats_it() -> None:
    best = decide({"none": (0.73, 1.0), "uniform se": (0.72, 1.2), "a": (0.70, 1.3)})
    assert best is not None
    assert best.key == "none"
    assert best.sentences[0].startswith("Leave the backbone without attention: no placement is better")


def test_even_odds_are_no_reason_to_pay_latency() -> None:
    best = decide({"none": (0.7300, 1.0), "uniform se": (0.7302, 1.2), "a": (0.7301, 1.3)})
    assert best is not None
    assert best.key == "none"
    assert (
        "The most promising placement, `placement of uniform se`, is better with a probability of 5"
        in best.sentences[-2]
    )


def test_the_best_uniform_baseline_can_win_and_says_so() -> None:
    best = decide({"none": (0.70, 1.0), "uniform se": (0.73, 1.2), "a": (0.71, 1.3)})
    assert best is not None
    assert (best.key, best.against_uniform) == ("uniform se", None)
    assert "nobody had to search for it" in " ".join(best.sentences)


def test_lower_can_be_better() -> None:
    best = decide({"none": (0.9, 1.0), "uniform se": (0.8, 1.2), "a": (0.5, 1.3)}, metric="loss", lower=True)
    assert best is not None
    assert best.key == "a"
    assert best.against_none is not None
    assert best.against_none.gain == pytest.approx(0.4, abs=0.02)
    assert "+0.4" in best.sentences[2]


values = st.floats(0.5, 0.9).map(lambda v: round(v, 3))


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["none", "uniform se", *"abcd"]), st.tuples(values, st.floats(1, 2)), min_size=1)
)
def test_what_is_recommended_is_better_than_no_attention_by_two_to_one(table: dict[str, tuple[float, float]]) -> None:
    best = decide(table)
    assert best is not None
    assert best.sentences
    if best.against_none is not None:
        assert best.against_none.probability >= 2 / 3


def test_probabilities_in_words() -> None:
    assert [format_probability(p) for p in (0.0, 0.5, 0.934, 0.999)] == ["under 1 %", "50 %", "93 %", "over 99 %"]
    assert sureness(0.97) == "almost surely better"
    assert sureness(0.1) == "probably worse"
    assert sureness(0.5) == sureness(0.45) == "no difference to be seen"
