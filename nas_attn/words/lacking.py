"""Why nothing is recommended."""

from __future__ import annotations

from nas_attn.answer.decision import Lacking, lacking, lacks_latency
from nas_attn.answer.length import Brief
from nas_attn.answer.snapshot import Snapshot
from nas_attn.errors import several

EXHAUSTED = (
    "The search cannot go on: every placement of its space has been tried, or is probably over the"
    " limits. Give it a larger space with nas-attn extend, or higher limits in a new study."
)


def nothing_recommended(now: Snapshot, why: Lacking | None = None) -> str:
    """Why there is no recommendation, or only a bare backbone that was compared with nothing; one
    sentence.
    """
    trained = several(now.recipe.training.rungs[-1], "epoch")
    match why or lacking(now):
        case Lacking.TOO_BRIEF:
            return "" if now.brief is None else _why_brief(now.brief)
        case Lacking.CONSTANT:
            return f"Nothing is recommended: {now.primary} is the same for all candidates."
        case Lacking.BARE_NOT_ENDED:
            return _without_bare("has not ended all its runs")
        case Lacking.BARE_NOT_SCORED:
            return _without_bare(f"has not been scored at {trained}")
        case Lacking.NOT_MEASURED:
            waiting = len(lacks_latency(now))
            lack = f"{waiting} trained candidates lack their latencies"
            if waiting == 1:
                lack = "1 trained candidate lacks its latency"
            measure = f"nas-attn resume {now.study} --here measures here"
            return f"No recommendation yet: {lack}; {measure}."
        case Lacking.ONLY_BARE:
            count = now.counts["infeasible"]
            over = f"; {count} are over the limits" if count else ""
            return f"Nothing is recommended: only the bare backbone has been scored{over}."
        case Lacking.NONE_WITHIN:
            limit = now.recipe.limits.max_latency_ratio
            return (
                "Nothing is recommended: no scored candidate is within limits.max_latency_ratio ="
                f" {limit:g}."
            )
        case Lacking.NOTHING_SCORED:
            return f"No recommendation yet: nothing has been scored at {trained}."


def _without_bare(lacks: str) -> str:
    return f"No recommendation yet: the bare backbone, with which all others are compared, {lacks}."


def _why_brief(brief: Brief) -> str:
    """Why a search that trained more briefly than the target recommends nothing."""
    needed = f", the target for {brief.target}"
    if not brief.known:
        needed = f"; the network needs at least {brief.target // 2}, how many is not known"
    epochs = several(brief.searched, "epoch")
    return f"Nothing is recommended: the search trained for {epochs} only{needed}."
