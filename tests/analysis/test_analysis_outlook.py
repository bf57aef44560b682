from __future__ import annotations

import numpy as np
import pytest
from evidence_made import additive, placements, runs

from nas_attn.analysis.evidence import fit
from nas_attn.analysis.outlook import (
    Outlook,
    expected_rise,
    from_json,
    least_gain,
    predicted_costs,
    promising,
    rise,
)
from nas_attn.analysis.placement_model import Coding, Value


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


COSTS = np.array([1.0, 2.0, 1.5, 9.0])
TRUTH = np.tile([0.0, 1.0, 3.0, 50.0], (4, 1))


def test_the_rise_is_that_of_the_best_within_a_cost_over_the_costs_of_what_was_tried() -> None:
    assert rise(TRUTH, TRUTH, COSTS, 2, 1, rng()) == pytest.approx((5 * 3 + 1 * 2) / 12, abs=0.17)
    assert rise(TRUTH, TRUTH, COSTS, 2, 9, rng()) < 3, "what costs more than anything tried is not counted"
    assert rise(TRUTH, -TRUTH, COSTS[:2], 2, 5, rng()) == 0.0


def test_more_candidates_are_not_expected_to_bring_less() -> None:
    drawn = rng().standard_normal((2, 64, 40))
    costs = rng().random(40)
    found = [rise(drawn[0], drawn[1], costs, 10, trials, rng()) for trials in (1, 3, 9, 27)]
    assert found == sorted(found)
    assert found[-1] > found[0] > 0


def forecast(size: float, tried: int = 20) -> tuple[float, float]:
    """(expected rise by 20 more, what is to be risen at least) in points, where effects are of this size."""
    texts = placements(60, rng(), sites=4)
    effects = additive(texts, rng(), size)
    known = {key: text for i, (key, text) in enumerate(texts.items()) if i < tried}
    found = fit(
        runs({key: effects[key] for key in known}, rng(), noise=0.005, seeds=2, level=0.01), known, metric="accuracy"
    )
    others = {text: 1.0 for key, text in texts.items() if key not in known}
    return 100 * expected_rise(found, dict.fromkeys(known, 1.0), others, 20, rng()), 100 * least_gain(found, None)


def test_little_is_expected_where_nothing_differs_and_much_where_much_does() -> None:
    (nothing, least), (much, _) = forecast(0.0), forecast(0.05)
    assert nothing < least < 0.2
    assert much > 10 * nothing
    assert least_gain(None, 0.003) == 0.003  # type: ignore[arg-type]


def test_no_accuracy_above_all_right_is_expected() -> None:
    """Placements that scatter by tens of points, the best of them near the ceiling: the quickstart's problem."""
    texts = placements(60, rng(), sites=4)
    effects = additive(texts, rng(), 0.2)
    highest = max(list(effects.values())[:20])
    known = {key: text for i, (key, text) in enumerate(texts.items()) if i < 20}
    values = {key: effects[key] - highest for key in known}
    found = fit(runs(values, rng(), noise=0.005, seeds=2, base=0.97), known, metric="accuracy")
    others = {text: 1.0 for key, text in texts.items() if key not in known}
    assert expected_rise(found, dict.fromkeys(known, 1.0), others, 20, rng()) < 0.03


def test_nothing_untried_brings_nothing() -> None:
    texts = placements(6, rng())
    found = fit(runs(dict.fromkeys(texts, 0.0), rng(), noise=0.01), texts, metric="accuracy")
    assert expected_rise(found, dict.fromkeys(texts, 1.0), {}, 10, rng()) == 0.0


def test_the_best_of_additive_draws_are_found_from_the_cheap_to_the_good() -> None:
    coding = Coding({f"stage{i}": ("none", "se", "eca") for i in range(1, 5)})
    worth, price = {"none": 0.0, "se": -1.0, "eca": -0.5}, {"none": 0.0, "se": 1.0, "eca": 0.2}
    every = [
        dict(zip(coding.sites, found, strict=True))
        for found in np.array(np.meshgrid(*coding.sites.values())).T.reshape(-1, 4).tolist()
    ]
    some = [every[i] for i in rng().choice(81, 25, replace=False)]
    quality = {i: Value(coding.encode(p), sum(worth[c] for c in p.values())) for i, p in enumerate(some)}
    costs = {i: Value(coding.encode(p), sum(price[c] for c in p.values())) for i, p in enumerate(some)}
    found = [tuple(p.values()) for p in promising(coding, quality, costs, 40, rng())]
    assert {("se",) * 4, ("none",) * 4} <= set(found)
    told = predicted_costs(coding, costs, np.array([coding.encode(p) for p in every]))
    assert np.corrcoef(told, [sum(price[c] for c in p.values()) for p in every])[0, 1] > 0.95


def test_a_forecast_is_kept_as_it_is_and_told() -> None:
    made = Outlook("accuracy", 20, 10, 0.0004, 0.001)
    assert from_json(made.to_json()) == made
    assert made.settled
    assert made.sentence == (
        "Another 10 candidates are expected to raise the front by 0.04 points at equal cost (below the 0.10 points that make it worth it)."
    )
    stopped = Outlook("loss", 20, 1, 0.0, 0.1, stopped=60)
    assert stopped.sentence.endswith("so the search stopped after 20 of 60 candidates (search.patience).")
    assert [from_json(text) for text in (None, "", "{", "[]", '{"metric": "loss"}', "3")] == [None] * 6
