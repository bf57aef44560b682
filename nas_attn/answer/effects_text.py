"""What each choice adds at each site, in plain words."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from nas_attn.answer.effects import Column, Effect, Effects, Level, Part, Together
from nas_attn.errors import listed
from nas_attn.recipe import units

# least probabilities of being better to say that a choice helps, and that it may help
HELPS = 0.95
PERHAPS = 0.80
# sites with a sentence of their own: the largest effects; the others are counted
MOST_SITES = 8
# choices named beside a site's best one
MOST_ALSO = 2


COLUMN_HEADS: Mapping[Column, str] = {
    "average": "on average",
    "alone": "alone",
    "beside": "next to the recommended",
}
MEASURED = "measured alone"
"""A column of a table of effects -> its heading."""
LEVEL_TITLES: Mapping[Level, str] = {
    "choice": "What each choice {adds} at each site",
    "type": "What each type {adds} at a site, over all its sites",
}
"""A table of effects -> its title."""


def effects_heading(level: Level, what: str) -> str:
    """The title of a table of effects on a metric or the latency, with the unit."""
    adds = "adds" if what == "latency" else "gains"
    title = f"{LEVEL_TITLES[level].format(adds=adds)} ({unit_of_effects(what)})"
    unit = units.unit(what).of_differences
    return f"{title}, {unit}" if unit else title


def unit_of_effects(what: str) -> str:
    """What effects are counted in: a metric, or shares of the backbone's time."""
    return "relative to the bare backbone's time" if what == "latency" else what


def what_bold_means(*, shown: bool) -> str:
    """Below the tables of effects; `shown`: there are any."""
    if shown:
        return "Bold: the 95 % interval excludes zero."
    return "No single effect is shown: the 95 % intervals of all contain zero."


def left_out_line(error: float) -> str:
    """How far the fit is from candidates that it was not given."""
    return (
        "Predicted for a candidate that the fit was not given, the latency is off by"
        f" {100 * error:.0f} % of the bare backbone's, on average."
    )


def effect_sentences(effects: Effects) -> list[str]:
    """What helps where and for what price, what harms; empty for latency."""
    if effects.of == "latency":
        return []
    metric = effects.of
    choices = [row for row in effects.rows if row.level == "choice"]
    by_site: defaultdict[str, list[Effect]] = defaultdict(list)
    for row in choices:
        by_site[row.site].append(row)
    ranked = _sites_that_gain(by_site)
    sentences = [
        _helping(best, by_site[site], metric, effects.prices)
        for site, best in list(ranked.items())[:MOST_SITES]
    ]
    if len(ranked) > MOST_SITES:
        sentences.append(
            f"At {len(ranked) - MOST_SITES} more sites something helps or may help, but less."
        )
    named = set(ranked)
    together = effects.together
    if together is not None:
        sentences.insert(0, _inseparable(together, metric))
        named.update(choice.site for choice in together.choices)
    nothing = [site for site in by_site if site not in named]
    if nothing:
        sentences.append(f"At {_places(nothing)}, no choice is shown to help by itself.")
    sentences += _harming(choices, metric)
    sentences += _helping_anywhere(effects.rows, metric)
    return sentences


def _sites_that_gain(by_site: Mapping[str, Sequence[Effect]]) -> dict[str, Effect]:
    """Site -> its best choice, where that helps or may help; the largest gains first."""
    best = {site: max(mine, key=_promise) for site, mine in by_site.items()}
    gaining = [(site, row) for site, row in best.items() if _surely(row) or row.better >= PERHAPS]
    gaining.sort(key=lambda pair: -abs(_known(pair[1]).mean))
    return dict(gaining)


def _harming(choices: Sequence[Effect], metric: str) -> list[str]:
    """A sentence on each choice that is shown to harm, the largest harm first."""
    harmful = [row for row in choices if row.worse >= HELPS]
    harmful.sort(key=lambda row: -abs(row.mean))
    return [
        f"At {row.site}, `{row.name}` is harmful: {_size(row, metric)}."
        for row in harmful[:MOST_SITES]
    ]


def _helping_anywhere(rows: Sequence[Effect], metric: str) -> list[str]:
    """A sentence on each type with several choices that is shown to help wherever it is."""
    uses = Counter(row.type for row in rows if row.level == "choice")
    anywhere = [
        row for row in rows if row.level == "type" and row.better >= HELPS and uses[row.type] > 1
    ]
    return [f"`{row.type}` at any site: {_size(row, metric)} per site." for row in anywhere]


def _promise(row: Effect) -> tuple[bool, float]:
    """Ranks a site's choices for its sentence: first those that surely help, by size; then by the
    likely gain.
    """
    sure = _surely(row)
    return sure, abs(_known(row).mean) if sure else row.better


def _surely(row: Effect) -> bool:
    """Whether a choice is shown to help: on average over all placements, or alone."""
    return row.better >= HELPS or (row.alone is not None and row.alone.low > 0)


def _known(row: Effect) -> Part:
    """The gain that a sentence states: alone if that was measured or is what is known, else on
    average.
    """
    alone = row.alone
    if alone is not None and (alone.runs or (alone.low > 0 and row.better < HELPS)):
        return alone
    return row


def _helping(
    row: Effect, others: Sequence[Effect], metric: str, cost: Mapping[tuple[str, str], Effect]
) -> str:
    price = _price(row, cost.get((row.site, row.name)))
    if not _surely(row):
        odds = units.probability(row.better)
        return (
            f"At {row.site}, perhaps `{row.name}`: {_size(row, metric)}{price} (probability of a"
            f" gain {odds})."
        )
    clause = f"At {row.site}, `{row.name}` gains {_size(row, metric)}{price}"
    also = [other for other in others if other is not row and _surely(other)]
    if not also:
        return f"{clause}."
    named = [f"`{other.name}` ({_size(other, metric)})" for other in also[:MOST_ALSO]]
    if len(also) > MOST_ALSO:
        named.append(f"{len(also) - MOST_ALSO} more")
    return f"{clause}. {listed(named)} {'help' if len(also) > 1 else 'helps'} there, too."


def _price(row: Effect, latency: Effect | None) -> str:
    """`, for 19 % more latency`: in the network in which the gain is stated; empty if that is not
    known.
    """
    if latency is None:
        return ""
    paid: Part = latency
    if _known(row) is not row and latency.alone is not None:
        paid = latency.alone
    more = "more" if paid.mean >= 0 else "less"
    return f", for {_percent(abs(paid.mean))} {more} latency"


def _size(row: Effect, metric: str) -> str:
    """`+0.6 ± 0.2 points`, the 95 % interval; without a unit, the metric's name."""
    part = _known(row)
    amount = units.plus_minus(metric, part.mean, part.half)
    amount = amount if units.unit(metric).of_differences else f"{amount} in {units.title(metric)}"
    return amount if part is row else f"{amount} alone"


def _inseparable(together: Together, metric: str) -> str:
    """That the sum of some effects is known, and no single one of them."""
    gain = units.plus_minus(metric, together.gain.mean, together.gain.half)
    types = dict.fromkeys(choice.type for choice in together.choices)
    names = ", ".join(f"`{name}`" for name in types)
    places = _places([choice.site for choice in together.choices])
    return (
        f"Together, {names} at {places} gain {gain} ({together.label}); how much each of them adds"
        " is not known: the study cannot separate them."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if abs(share) >= 0.0095 else f"{100 * share:.1f} %"


def _places(sites: Sequence[str]) -> str:
    if len(sites) > 4:
        return f"{len(sites)} sites"
    return listed(sites)
