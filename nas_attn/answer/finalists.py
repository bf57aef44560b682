"""The networks that a test compares, where nobody names others."""

from __future__ import annotations

from nas_attn.answer.eligible import best_uniform
from nas_attn.answer.recommendation import Recommendation, promising
from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.answer.validation import TestedNetwork
from nas_attn.space.placement import BARE


def finalists(now: Snapshot, best: Recommendation) -> list[TestedNetwork]:
    """The recommended network first, then the best uniform one; each once. If a control is
    recommended, the best placement is second; if the bare backbone is, the best bet, where it is
    promising or alone.
    """
    uniform = best_uniform(now)
    first = now.find(best.taken) or best
    networks = [TestedNetwork(first.key, first.placement, "recommended")]
    alone = uniform is None and best.instead is None
    if best.placement != BARE:
        networks.append(TestedNetwork(best.key, best.placement, "best placement"))
    else:
        bet = _best_bet(now, best, alone=alone)
        if bet is not None:
            networks.append(TestedNetwork(bet.key, bet.placement, "best bet"))
    if uniform is not None:
        networks.append(TestedNetwork(uniform.key, uniform.placement, "best uniform"))
    return once_each(networks)


def once_each(networks: list[TestedNetwork]) -> list[TestedNetwork]:
    """Each network in its first role."""
    kept: dict[str, TestedNetwork] = {}
    for network in networks:
        kept.setdefault(network.key, network)
    return list(kept.values())


def epochs_of_test(
    now: Snapshot, best: Recommendation, *, also: str | None = None, blocks: int | None = None
) -> int:
    """Epochs of a test of them, with the bare backbone and with the network of the key `also`;
    `blocks` trainings of each, or as many as the target says.
    """
    compared = finalists(now, best)
    keys = {network.key for network in compared}
    if also is not None:
        keys.add(also)
    bare_is_extra = all(network.placement != BARE for network in compared)
    networks = len(keys) + bare_is_extra
    return networks * (blocks or now.recipe.target.seeds) * now.recipe.target_training.rungs[-1]


def _best_bet(now: Snapshot, best: Recommendation, *, alone: bool) -> CandidateView | None:
    bet = best.best_bet
    if bet is None or bet.gain is None or not (promising(bet.gain) or alone):
        return None
    return now.find(bet.key)
