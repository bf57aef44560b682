"""What follows the last candidate: who gets more seeds and rounds, whether all ran, and how many
latency sessions end the search.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from nas_attn.answer.answer import Answer, answer_of, chance_of_no_loss
from nas_attn.answer.snapshot import CandidateView, Means, Snapshot
from nas_attn.latency.paired import MAX_CANDIDATES
from nas_attn.latency.ratios import ENOUGH_SESSIONS, sessions_needed
from nas_attn.model import Evidence
from nas_attn.model.features import is_other
from nas_attn.model.hypotheses import cdf
from nas_attn.recipe.purposes import CONFIRM, ROUND
from nas_attn.recipe.recipe import Recipe
from nas_attn.space.placement import BARE
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.records import Session
from nas_attn.storage.store import StudyStore

# for each of `search.confirm_seeds`
ROUNDS_PER_SEED = 2
# candidates of a round besides the best-looking one and the bare backbone
RIVALS = 2
# networks that get further seeds
CONFIRMED = 6
# purposes of the runs between the candidates and the answer
FURTHER = (CONFIRM, ROUND)
# lease of the worker that measures the front's latencies precisely
NARROW = "narrow"
# share of the training time for latency sessions, once each network has a few
LATENCY_SHARE = 0.25
# latency sessions whose times give the pace of further ones
LAST_SESSIONS = 8
# draws from the posterior; the best in any of them may be the best
POSTERIOR_DRAWS = 8
# a control that is less likely to be better than the recommended network joins no further round;
# attention that is less likely to gain is without effect
SETTLED = 0.05
# the chance from which on a network other than a placement may be the answer
IN_PLAY = 0.5
# such networks that get further seeds; more than half are placements
MOST_BESIDE = 2


def to_confirm(now: Snapshot) -> list[CandidateView]:
    """The candidates that get further seeds when the search has ended: the bare backbone, the best
    uniform one, the control that the answer compares, the front, and the best of the others, up to
    CONFIRMED.
    """
    wanted = [
        *_scored_bare(now),
        now.best_uniform,
        *_in_play(answer_of(now))[:MOST_BESIDE],
        *now.ordered(view for view in now.candidates if view.on_front_of_placements),
        *now.ordered(now.able_to_win),
    ]
    return list({view.key: view for view in wanted if view is not None}.values())[:CONFIRMED]


def _scored_bare(now: Snapshot) -> list[CandidateView]:
    return [view for view in now.baselines if view.is_bare and view.state == "scored"][:1]


def _in_play(answer: Answer) -> list[CandidateView]:
    """The networks other than placements that the answer may take, the likeliest first; before
    them, the one of the answer's line `Control`, else the best-looking one.
    """
    now = answer.now
    scored = [view for view in now.controls if view.state == "scored"]
    compared = scored[:1] if answer.larger is None else [answer.larger.view]
    chances = {view.key: chance_of(now, view) for view in scored}
    likely = [view for view in scored if chances[view.key] >= IN_PLAY]
    likely.sort(key=lambda view: -chances[view.key])
    return list({view.key: view for view in (*compared, *likely)}.values())


def chance_of(now: Snapshot, view: CandidateView) -> float:
    """The probability that a network other than a placement does what its means is for: that a
    larger one gains, or that a smaller one loses nothing that counts. 0 above the limit.
    """
    gain = view.gains.get(now.metric)
    limit = now.latency_limit
    above = limit is not None and view.latency is not None and view.latency.low > limit
    if gain is None or above:
        return 0.0
    if view.means is Means.LARGER:
        return gain.probability
    return chance_of_no_loss(now, gain)


def to_compare(answer: Answer) -> dict[str, CandidateView]:
    """The placements that may meet the bare backbone in a round, by key; empty if nothing is
    recommended.
    """
    if answer.reason is None:
        return {}
    return {view.key: view for view in answer.now.able_to_win if not view.is_bare}


def next_round(now: Snapshot, rng: np.random.Generator) -> list[CandidateView]:
    """The candidates of the next round, the bare backbone first; empty if there is nothing to
    compare.

    A round has a fresh seed and backbone. The model reads these runs with all others, so they
    correct the luck of the best-looking. A control that may be better takes a rival's place, unless
    each round had to train a backbone for it.
    """
    answer = answer_of(now)
    bet = answer.bet
    able = to_compare(answer)
    if not able:
        return []
    most = max((one for one in answer.options if one.key in able), key=lambda one: one.gain.worth)
    chosen = answer.chosen or most
    # the choice depends most on these two
    first = bet if bet is not None and bet is not answer.chosen else answer.faster
    uniform = now.best_uniform
    ahead = [leader.key for leader in (answer.chosen and first, uniform) if leader]
    drawn = _drawn_best(able, now.evidence[now.metric], rng)
    others = [view.key for view in now.ordered(able.values())]
    rivals = dict.fromkeys([*ahead, *drawn, *others])
    met = [able[key] for key in rivals if key in able and key != chosen.key]
    joins = _joining(answer, hopeless=_without_effect(answer))
    return [*_scored_bare(now), chosen.view, *met[: RIVALS - len(joins)], *joins]


def _drawn_best(keys: Collection[str], model: Evidence, rng: np.random.Generator) -> list[str]:
    """The best of these networks in each of a few draws from the posterior."""
    sign = -1.0 if model.lower_is_better else 1.0
    eligible = np.array([key in keys for key in model.keys])
    values = np.where(eligible, sign * model.draw(rng, POSTERIOR_DRAWS), -np.inf)
    return [model.keys[at] for at in values.argmax(axis=1)]


def _without_effect(answer: Answer) -> bool:
    """Whether surely no placement gains enough to count; then all rivals' places are free."""
    if answer.chosen is not None:
        return False
    able = {view.key for view in answer.now.able_to_win}
    # of placements that gain enough to count
    expected = sum(
        float(cdf((one.gain.mean - (answer.worth or 0.0)) / max(one.gain.sd, 1e-12)))
        for one in answer.options
        if one.key in able and one.length is None
    )
    return expected < SETTLED


def _joining(answer: Answer, *, hopeless: bool) -> list[CandidateView]:
    """Networks other than placements that join a round: those that may be the answer. One of them,
    so that attention keeps at least half of the runs, unless attention is hopeless.
    """
    larger = answer.larger
    joining = []
    for view in _in_play(answer):
        if answer.now.recipe.training.start == "backbone" and is_other(view.placement):
            # each round would have to train a backbone for it
            continue
        if larger is not None and view is larger.view:
            lead = larger.gain
            if answer.chosen is not None:
                lead = answer.over(larger, answer.chosen) or lead
            if answer.in_reach and lead.probability > SETTLED:
                joining.append(view)
        elif answer.chosen is None:
            joining.append(view)
    return joining[: RIVALS if hopeless else 1]


def rounds_begun(store: StudyStore) -> int:
    """Number of confirmation rounds. One in which only the bare backbone ran has not begun: an idle
    worker trained it ahead.
    """
    bare = {row.key for row in store.candidates() if row.is_bare}
    rows = store.queue.rows(purposes=[ROUND])
    return len({row.run.round for row in rows if row.run.key not in bare})


def all_rounds_ran(store: StudyStore, recipe: Recipe) -> bool:
    """Whether a search without a time has had all its rounds."""
    settings = store.settings
    had = rounds_begun(store) - settings.rounds_before
    return settings.test_from is None and had >= ROUNDS_PER_SEED * recipe.search.confirm_seeds


def last_sessions(opened: OpenStudy, keys: Iterable[str]) -> int:
    """Number of latency sessions that these networks still get: as many as their tolerance seems to
    need, within their share of time.
    """
    store = opened.store
    bare = {row.key for row in store.candidates() if row.placement == BARE}
    mine = set(keys) - bare
    further = store.queue.rows(purposes=FURTHER)
    waiting = any(row.state == "waiting" for row in further)
    if waiting:
        trained_at = math.inf
    else:
        trained_at = max((row.finished_at or 0.0 for row in further), default=math.inf)
    sessions = store.sessions()
    before = [session for session in sessions if session.started_at < trained_at]
    needed = sessions_needed(before, mine, tolerance=opened.recipe.latency.front_tolerance)
    if not before or not needed:
        return 0
    allowed = math.ceil(
        _latency_share_s(opened, before, mine) / _session_s(before[-LAST_SESSIONS:])
    )
    planned = min(max(needed) * math.ceil(len(needed) / MAX_CANDIDATES), allowed)
    return max(0, planned - (len(sessions) - len(before)))


def _session_s(sessions: Sequence[Session]) -> float:
    if sessions:
        return statistics.fmean(session.duration_s for session in sessions)
    return 0.0


def _latency_share_s(opened: OpenStudy, sessions: Sequence[Session], keys: Iterable[str]) -> float:
    """Seconds for these networks' further sessions: what is left of their share, or enough for
    ENOUGH_SESSIONS of each.
    """
    had = Counter(sample.key for session in sessions for sample in session.samples)
    fewest = min((had[key] for key in keys), default=ENOUGH_SESSIONS)
    trained_s = sum(seconds for _, seconds in opened.store.run_times())
    left_s = LATENCY_SHARE * trained_s - sum(session.duration_s for session in sessions)
    return max(left_s, opened.recipe.latency.session_seconds * (ENOUGH_SESSIONS - fewest), 0.0)
