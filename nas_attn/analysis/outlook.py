"""What another budget of candidates would bring: how far it is expected to raise the front.

Scores that may be the true ones are drawn from the model of all evidence, jointly for what was tried and for placements that
were not. Of the latter, as many are taken as the budget has candidates, each the best of another draw below a cost drawn at random,
as a search would propose them; what they raise is counted as if their runs told their true scores. How good such forecasts are:
docs/benchmarks/search.md.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from nas_attn.analysis.evidence import Evidence
from nas_attn.analysis.placement_model import Codes, Coding, Effects, Learner, Value
from nas_attn.analysis.recommendation_words import format_difference
from nas_attn.tasks import SHARES

Floats = NDArray[np.float64]

OUTLOOK = "outlook"
"""Attribute of a study with the forecast that was made last."""
DRAWS = 64
"""Draws that are taken for the truth, and as many that say what would be tried."""
LIMITS = 12
"""Costs at which the front is looked at, evenly from the cheapest to the costliest tried."""
SHARE_OF_NOISE = 0.1
"""Of the noise of one run: a front that rises by less is not worth a budget, unless the recipe says otherwise."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What further candidates are expected to bring."""

    metric: str
    after: int
    """Candidates that had ended by then."""
    trials: int
    """Further candidates."""
    gain: float
    """Expected rise of the front in the metric's unit: of the best score within a cost, on average over costs."""
    least: float
    """What a budget is to bring at least."""
    stopped: int | None = None
    """Candidates that the study was to have, where it stopped before them for that reason."""

    @property
    def settled(self) -> bool:
        """Whether that many further candidates are not worth it."""
        return self.gain < self.least

    @property
    def sentence(self) -> str:
        """For people."""
        one = "candidate is" if self.trials == 1 else "candidates are"
        rise = format_difference(self.metric, self.gain, signed=False)
        least = format_difference(self.metric, self.least, signed=False)
        held = f"below the {least} that make it worth it" if self.settled else f"worth it from {least}"
        said = f"Another {self.trials} {one} expected to raise the front by {rise} at equal cost ({held})"
        if self.stopped is None:
            return f"{said}."
        return f"{said}: so the search stopped after {self.after} of {self.stopped} candidates (search.patience)."

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def from_json(text: str | None) -> Outlook | None:
    """As `to_json` wrote it; None for anything else."""
    try:
        found = Outlook(**json.loads(text or ""))
        float(found.gain), float(found.least), int(found.trials), int(found.after)
    except (ValueError, TypeError):
        return None
    return found


def expected_rise(
    evidence: Evidence,
    tried: Mapping[str, float | None],
    untried: Mapping[str, float | None],
    trials: int,
    rng: np.random.Generator,
) -> float:
    """The expected rise of the front by further candidates, in the metric's unit.

    Args:
        evidence: about the metric; of something that is not constant.
        tried: key -> cost of the placements that the front is of; None where costs are not known, or of no matter.
        untried: explicit notation -> predicted cost of placements that may be tried.
        trials: how many of them.
    """
    if not untried or not tried:
        return 0.0
    wider = evidence.including({text: text for text in untried})
    index = {key: i for i, key in enumerate(wider.keys)}
    sign = -1.0 if evidence.lower_is_better else 1.0
    columns = np.array([index[key] for key in [*tried, *untried]])
    drawn = sign * wider.draw(rng, 2 * DRAWS)[:, columns]
    if evidence.metric in SHARES:
        drawn = np.minimum(drawn, 1.0)  # the model knows no ceiling, and the best of many draws would be above it
    costs = [*tried.values(), *untried.values()]
    known = np.array([0.0 if cost is None else cost for cost in costs])
    return rise(drawn[:DRAWS], drawn[DRAWS:], known, len(tried), trials, rng)


def rise(truth: Floats, believed: Floats, costs: Floats, tried: int, trials: int, rng: np.random.Generator) -> float:
    """How far the best within a cost rises, on average over draws of the truth and over costs.

    Args:
        truth: (draws, placements), higher is better.
        believed: (draws, placements): by which placements are taken to be tried.
        costs: (placements,)
        tried: the first so many placements are tried, the rest is not.
        trials: how many of the rest are taken.
    """
    limits = np.linspace(costs[:tried].min(), costs[:tried].max(), LIMITS)
    open_ones = costs <= limits[-1]
    open_ones[:tried] = False
    taken: list[int] = []
    for number in range(trials):
        if not open_ones.any():
            break
        low = costs[open_ones].min()
        below = open_ones & (costs <= low + rng.random() * (limits[-1] - low))
        best = int(np.where(below, believed[number % len(believed)], -np.inf).argmax())
        open_ones[best] = False
        taken.append(best)
    gains = []
    for limit in limits:
        old = np.flatnonzero(costs[:tried] <= limit)
        new = [i for i in taken if costs[i] <= limit]
        if len(old):
            before = truth[:, old].max(axis=1)
            after = np.maximum(before, truth[:, new].max(axis=1)) if new else before
            gains.append(float((after - before).mean()))
    return float(np.mean(gains))


def least_gain(evidence: Evidence, wanted: float | None) -> float | None:
    """What a budget is to bring at least; None while the noise is not known."""
    if wanted is not None:
        return wanted
    noise = evidence.noise.paired_sd
    return SHARE_OF_NOISE * noise if noise else None


def promising(
    coding: Coding, quality: Mapping[int, Value], cost: Mapping[int, Value], count: int, rng: np.random.Generator
) -> list[dict[str, Hashable]]:
    """Placements of a space that may be the best ones: those of additive draws of the quality, at some price for the cost.

    Args:
        quality: number -> what a tried placement scores, less is better.
        cost: number -> its cost; empty where costs are of no matter.
        count: draws; fewer placements where draws agree.
    """
    seeker, payer = Learner(coding), Learner(coding)
    seeker.update(quality)
    payer.update(cost)
    some = np.array([value.codes for value in quality.values()], dtype=np.intp)
    found: dict[tuple[int, ...], None] = {}
    sizes = np.array([len(choices) for choices in coding.sites.values()])
    real = np.arange(coding.most_choices) < sizes[:, None]
    for _ in range(count):
        table = seeker.draw(rng)[1].table
        if cost:
            price = payer.draw(rng)[0]
            spread = np.ptp(Effects(0.0, table).of(some)) / max(float(np.ptp(price.of(some))), 1e-12)
            table = table + np.tan(0.5 * np.pi * rng.random()) * spread * price.table
        found[tuple(np.where(real, table, np.inf).argmin(axis=1).tolist())] = None
    return [coding.decode(codes) for codes in found]


def predicted_costs(coding: Coding, cost: Mapping[int, Value], codes: Codes) -> Floats:
    """(n,) what untried placements are likely to cost, by an additive model of the tried ones.

    Args:
        cost: number -> what a tried placement costs.
        codes: (n, sites)
    """
    payer = Learner(coding)
    payer.update(cost)
    return payer.draw(np.random.default_rng(0))[0].of(codes)
