"""What a study's figures say: a title that is the message, and how each is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from nas_attn.answer.candidates import objective_with_spread
from nas_attn.answer.effects import Effect, Effects
from nas_attn.answer.facts import Retrained
from nas_attn.answer.snapshot import CandidateView, ScorePoint, Snapshot
from nas_attn.errors import several
from nas_attn.model.features import features
from nas_attn.recipe import units
from nas_attn.recipe.recipe import objective_name
from nas_attn.report.figure_facts import (
    CurveFacts,
    EffectFacts,
    GainFacts,
    curve_facts,
    effect_facts,
    gain_facts,
    retrained_facts,
)
from nas_attn.space.placement import Placement
from nas_attn.space.search_space import other_of

# Types or sites that a title names; of more it gives the number
MOST_NAMED_IN_TITLE = 3

# Words that begin with a capital at the beginning of a sentence
CAPITALS = frozenset({"trial", "so", "recommended:"})

# What an interval that contains zero means, in a legend
MAY_BE_CHANCE = "may be chance"

HOW_FRONT = "A point is a candidate, with its 95 % interval; the line is the front."
HOW_NOISE = (
    "A dot is a candidate's estimate with its 95 % interval, grey where that contains zero. A tick"
    " is one run, compared with the bare backbone's run of the same seed."
)
HOW_CURVES = "A line is one run; a cross ends a run that was stopped early."
HOW_RETRAINED = "A line is one training for use."


def short_name(view: CandidateView) -> str:
    """A candidate as a label in a figure: `cbam everywhere`, `simam at stage2`, `trial 8`."""
    if view.is_bare:
        return "bare backbone"
    other = other_of(view.placement)
    if other is not None:
        return str(other)
    kinds = {feature.type for feature in features(view.placement)}
    if view.baseline is not None and len(kinds) == 1:
        return f"{kinds.pop()} everywhere"
    return _placed(view.placement) or f"trial {view.trial}"


def short_names(views: Sequence[CandidateView]) -> dict[str, str]:
    """Key -> label; where two would be equal, with their trials."""
    names = {view.key: short_name(view) for view in views}
    uses = Counter(names.values())
    return {
        view.key: f"{names[view.key]} ({view.trial})"
        if uses[names[view.key]] > 1
        else names[view.key]
        for view in views
    }


def run_name(run: Retrained) -> str:
    """A training for use as a label in a figure."""
    other = other_of(run.placement)
    placed = str(other) if other is not None else _placed(run.placement)
    if not placed:
        bare = not features(run.placement)
        placed = "bare backbone" if bare else "mixed"
    return f"{placed}, seed {run.seed}"


def _placed(placement: Placement) -> str:
    """`cbam at stage1 and stage3`; empty for the bare backbone, and where that is too long."""
    sites: dict[str, list[str]] = {}
    for feature in features(placement):
        sites.setdefault(feature.type, []).append(feature.place)
    if len(sites) == 1:
        (kind, places) = next(iter(sites.items()))
        if len(places) <= 2:
            return f"{kind} at {', '.join(places)}"
        return f"{kind} at {len(places)} sites"
    if len(sites) == 2 and all(len(places) == 1 for places in sites.values()):
        return ", ".join(f"{kind} at {places[0]}" for kind, places in sites.items())
    return ""


def _listed(words: Iterable[str]) -> str:
    *before, last = words
    return f"{', '.join(before)} and {last}" if before else last


def axis_title(objective: str, *, gain: bool = False) -> str:
    """`gain in accuracy, points`; of values, which direction is better, on a line of its own."""
    title = units.title(objective)
    if gain:
        return ", ".join(filter(None, (f"gain in {title}", units.unit(objective).of_differences)))
    return f"{title}\n{units.direction(objective)}"


def hover_lines(now: Snapshot, view: CandidateView) -> Iterator[str]:
    """A candidate's values and costs, a line for each; its name and placement stand above."""
    for index, objective in enumerate(now.objectives):
        name = objective_name(objective)
        yield f"{name}: {objective_with_spread(now, view, index)}"
        gain = view.gains.get(name)
        if gain is not None:
            ends = units.difference_range(objective, gain.low, gain.high)
            size = units.difference(objective, gain.mean)
            yield f"gain over the bare backbone: {size} ({ends})"
    if view.cost is not None:
        yield units.counted(view.cost)


def hover_run(metric: str, point: ScorePoint) -> str:
    """`72.41 % after 3 epochs, seed 1`."""
    score = units.value(metric, point.metrics[metric])
    return f"{score} after {several(point.epochs, 'epoch')}, seed {point.seed}"


def hover_effect(of: str, row: Effect) -> Iterator[str]:
    """An effect in a few lines."""
    between = units.difference_range(of, row.low, row.high)
    yield f"{units.title(of)}: {units.difference(of, row.mean)} (95 %: {between})"
    yield f"helps with a probability of {units.probability(row.better)}"
    yield (
        f"{row.observations} candidates have it, {row.elsewhere} more have this type at another"
        " site"
    )


# ------------------------------------------------------------------------------ front, noise


def front_message(now: Snapshot) -> str:
    """Who gains most and what that costs, or that no gain is shown."""
    facts = gain_facts(now)
    if facts is None or objective_name(now.objectives[0]) != facts.metric:
        count = len(now.front)
        scored = now.counts["scored"]
        verb = "is" if count == 1 else "are"
        return f"{count} of {several(scored, 'scored candidate')} {verb} on the front."
    if not facts.better:
        return _nothing_gains(facts)
    most = facts.better[0]
    so_far = "" if now.brief is None else "so far "
    if facts.bare_is_taken:
        clause = f"{so_far}{short_name(most)} gains most: {_gain_at(facts, most)}"
        return _begun(f"{clause}. The answer keeps the bare backbone.")
    if facts.taken is None or facts.taken is most or facts.taken not in facts.better:
        return _begun(f"{so_far}{short_name(most)} gains most: {_gain_at(facts, most)}.")
    taken = f"{so_far}recommended: {short_name(facts.taken)}, {_gain_at(facts, facts.taken)}"
    if facts.taken.gains[facts.metric].high >= most.gains[facts.metric].mean:
        return f"{_begun(taken)}. None is shown to gain more."
    return f"{_begun(taken)}. {_begun(short_name(most))} gains most: {_gain_at(facts, most)}."


def _begun(sentence: str) -> str:
    """A sentence that begins with a capital letter, but for a module's name, which is code."""
    first, _, rest = sentence.partition(" ")
    return f"{first.capitalize()} {rest}" if first in CAPITALS else sentence


def _nothing_gains(facts: GainFacts) -> str:
    if not facts.open:
        return "Every candidate is worse than the bare backbone."
    worse = ""
    if facts.worse:
        worse = f"; {len(facts.worse)} of {len(facts.views)} {_verb(facts.worse, 'lose')}"
    return f"No candidate is shown to gain: what looks like one may be chance{worse}."


def _gain_at(facts: GainFacts, view: CandidateView) -> str:
    """`+2.82 ± 0.68 points at 1.59 × latency`."""
    gain = view.gains[facts.metric]
    size = units.plus_minus(facts.metric, gain.mean, (gain.high - gain.low) / 2)
    return size if view.latency is None else f"{size} at {view.latency.ratio:.2f} × latency"


def noise_message(facts: GainFacts) -> str:
    """How many gains are beyond chance."""
    count = len(facts.views)
    if facts.open == count:
        those = "The one gain" if count == 1 else f"Each of the {count} gains"
        return f"{those} may be chance: its interval contains zero."
    parts = []
    if facts.better:
        parts.append(f"{len(facts.better)} {_verb(facts.better, 'gain')} beyond chance")
    if facts.worse:
        parts.append(f"{len(facts.worse)} {_verb(facts.worse, 'lose')}")
    if facts.open:
        parts.append(f"{facts.open} may be either")
    return f"Of these {several(count, 'candidate')}, {_listed(parts)}."


def _verb(subjects: Sequence[object], verb: str) -> str:
    return f"{verb}s" if len(subjects) == 1 else verb


# ----------------------------------------------------------------------------------- effects


def effects_message(effects: Effects) -> str:
    """What adds most and what harms; on latency, what costs most and least."""
    facts = effect_facts(effects)
    return _costs(facts) if facts.of == "latency" else _adds(facts)


def _adds(facts: EffectFacts) -> str:
    parts = []
    if facts.good_types:
        best = facts.best_types
        size = _size(facts, best[0])
        if len(best) == 1:
            parts.append(f"{best[0].type} adds most, {size} a site")
        else:
            parts.append(f"{_kinds(best)} add most, up to {size} a site")
    elif facts.good:
        parts.append(f"{_at_site(facts.good[0])} adds most, {_size(facts, facts.good[0])}")
    if facts.bad_types:
        parts.append(f"{_kinds(facts.bad_types)} {_verb(facts.bad_types, 'harm')}")
    elif facts.bad:
        parts.append(f"{_at_site(facts.bad[0])} harms")
    if not facts.good_types and not facts.good:
        parts.append("no choice is shown to help")
    elif facts.open:
        parts.append(f"{facts.open} of {several(facts.choices, 'choice')} may be chance")
    return f"{'; '.join(parts)}."


def _costs(facts: EffectFacts) -> str:
    if not facts.bad:
        best = facts.good[0]
        return f"{_at_site(best)} saves most latency: {_size(facts, best)}."
    if not facts.bad_types:
        dearest = facts.bad[0]
        return f"{_at_site(dearest)} costs most latency: {_size(facts, dearest)}."
    dearest = facts.bad_types[0]
    clause = f"{dearest.type} costs most latency, {_size(facts, dearest)} a site"
    if facts.open:
        return f"{clause}; {facts.open} of {several(facts.choices, 'choice')} may cost nothing."
    if len(facts.bad_types) == 1:
        return f"{clause}."
    cheapest = facts.bad_types[-1]
    return f"{clause}; {cheapest.type} adds only {_size(facts, cheapest)}."


def no_map_sentence(now: Snapshot, effects: Effects) -> str:
    """Why there is no map of the effects: none can be told from zero."""
    if effects.of == "latency":
        return (
            "What each choice alone costs cannot be told from the measurements: every interval"
            " contains zero. So there is no map."
        )
    facts = gain_facts(now)
    alone = (
        "What each choice alone adds at its site cannot be told from this study's runs: every"
        " interval contains zero. So there is no map."
    )
    if facts is None or facts.metric != effects.of or facts.taken is None:
        return alone
    if facts.taken not in facts.better or len(features(facts.taken.placement)) < 2:
        return alone
    gain = facts.taken.gains[facts.metric]
    size = units.plus_minus(facts.metric, gain.mean, (gain.high - gain.low) / 2)
    return f"Together the recommended choices gain {size}; one by one it is not known. {alone}"


def how_effects(effects: Effects) -> str:
    """How the map is read."""
    numbers = "A number is what a choice adds at a site on average, with half of its 95 % interval."
    if effects.of == "latency":
        return f"{numbers} Orange is slower, blue is faster, grey may be nothing."
    return f"{numbers} Blue is better, orange is worse, grey may be chance."


def described_effects(effects: Effects) -> str:
    """A map in words, for who cannot see it: its size, and its largest sure effects."""
    facts = effect_facts(effects)
    sure = sorted((*facts.good, *facts.bad), key=lambda row: -abs(row.mean))
    listed_effects = "; ".join(f"{_at_site(row)} {_size(facts, row)}" for row in sure[:5])
    map_of = f"Map of {several(facts.choices, 'choice')} at {several(facts.sites, 'site')}."
    return f"{map_of} {listed_effects}."


def _at_site(row: Effect) -> str:
    return f"{row.name} at {row.site}"


def _size(facts: EffectFacts, row: Effect) -> str:
    return units.plus_minus(facts.of, row.mean, row.half)


def _kinds(rows: Sequence[Effect]) -> str:
    if len(rows) > MOST_NAMED_IN_TITLE:
        return f"{len(rows)} types"
    return _listed(row.type for row in rows)


# --------------------------------------------------------------------------- curves, retrained


def curves_message(now: Snapshot) -> str:
    """Where the curves end."""
    facts = curve_facts(now)
    if facts is None:
        return "No run has reached the last rung yet."
    after = f"After {several(facts.epochs, 'epoch')}"
    bare = "" if facts.bare is None else units.value(facts.metric, facts.bare)
    if facts.taken is not None:
        view, mean = facts.taken
        bare = "" if facts.bare is None else _score(facts, facts.bare)
        score = _score(facts, mean)
        reached = f"{after}, {short_name(view)} is at {score}"
        return f"{reached}, the bare backbone at {bare}." if bare else f"{reached}."
    if bare:
        return f"{after}, the bare backbone is at {bare}."
    stopped = f"; {facts.pruned} were stopped early" if facts.pruned else ""
    return f"{after} the scores are known{stopped}."


def _score(facts: CurveFacts, score: float) -> str:
    """A score with as many digits as the interval of the gain supports."""
    return units.value_within(facts.metric, score, score - facts.half, score + facts.half)


def score_message(now: Snapshot) -> str:
    """Which training for use ended best."""
    facts = retrained_facts(now)
    if facts is None or facts.score is None:
        return "The trainings for use have no score yet."
    epochs = several(facts.best.curve[-1].epochs, "epoch")
    score = units.value(facts.metric, facts.score)
    if len(facts.runs) == 1:
        return f"After {epochs}, {run_name(facts.best)} is at {score}."
    return f"Best: {run_name(facts.best)}, {score} after {epochs}."


def loss_message(now: Snapshot) -> str:
    """Whether the best training could have gone on, if that is known."""
    facts = retrained_facts(now)
    if facts is None or facts.falling is None:
        return "The training loss, epoch by epoch."
    if facts.falling:
        return "The training loss still falls at the end: a longer training may gain more."
    return "The training loss has levelled off at the end."
