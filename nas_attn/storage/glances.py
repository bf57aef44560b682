"""What is asked often of a study of many candidates: columns of its rows, not the rows. For what a row means, `StudyStore`."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import and_, func, select

from nas_attn.records import CandidateRow, Costs
from nas_attn.storage import tables
from nas_attn.storage.connection import Connector
from nas_attn.storage.outages import enduring
from nas_attn.storage.rows import SEARCH, to_candidates

_candidate, _score = tables.candidate, tables.score


class Brief(NamedTuple):
    """A candidate in a few words."""

    trial: int
    state: str
    placement: str
    """Explicit notation."""
    cost: Costs | None


@enduring
class Glances:
    """Questions about one study's candidates and scores. Made by `StudyStore.glance`."""

    def __init__(self, connector: Connector, study_id: int) -> None:
        self._connector, self._id = connector, study_id
        self._mine = _candidate.c.study_id == study_id

    def counts(self) -> dict[str, int]:
        """State -> candidates in it."""
        query = select(_candidate.c.state, func.count().label("many")).where(self._mine).group_by(_candidate.c.state)
        with self._connector.read() as connection:
            return {row.state: row.many for row in connection.execute(query)}

    def finished_times(self) -> list[float]:
        """When each candidate that has ended did, in Unix seconds by the database's clock, in no order."""
        at = _candidate.c.finished_at
        with self._connector.read() as connection:
            return list(connection.scalars(select(at).where(self._mine, at.is_not(None))))

    def of_trials(self, numbers: Collection[int]) -> list[CandidateRow]:
        """The candidates of these trials, by trial."""
        query = select(_candidate).where(self._mine, _candidate.c.trial.in_(numbers)).order_by(_candidate.c.trial)
        with self._connector.read() as connection:
            return to_candidates(connection.execute(query).all())

    def run_states(self) -> defaultdict[str, set[str]]:
        """Key -> states of the runs, trained as the search does, of each candidate that is running."""
        run = tables.run
        both = and_(_candidate.c.study_id == run.c.study_id, _candidate.c.key == run.c.key)
        query = select(run.c.key, run.c.state).join(_candidate, both).distinct()
        found: defaultdict[str, set[str]] = defaultdict(set)
        with self._connector.read() as connection:
            open_ones = query.where(self._mine, _candidate.c.state == "running", run.c.way == SEARCH)
            for key, state in connection.execute(open_ones):
                found[key].add(state)
        return found

    def briefs(self) -> dict[str, Brief]:
        """Key -> candidate, by trial."""
        c = _candidate.c
        query = select(c.key, c.trial, c.state, c.placement, c.costs)
        with self._connector.read() as connection:
            return {
                key: Brief(trial, state, placement, None if cost is None else json.loads(cost))
                for key, trial, state, placement, cost in connection.execute(query.where(self._mine).order_by(c.trial))
            }

    def failures(self) -> dict[str, int]:
        """Reason -> candidates that failed by it."""
        reason = _candidate.c.reason
        failed = and_(self._mine, _candidate.c.state == "failed")
        with self._connector.read() as connection:
            rows = connection.execute(select(reason, func.count().label("many")).where(failed).group_by(reason))
            return {row.reason: row.many for row in rows}

    def metrics(self, rung: int) -> list[tuple[str, int, dict[str, float]]]:
        """(key, seed, metrics) of the runs at a rung that were trained as the search does, by key and seed."""
        query = (
            select(_score.c.key, _score.c.seed, _score.c.metrics)
            .where(_score.c.study_id == self._id, _score.c.way == SEARCH)
            .where(_score.c.rung == rung, _score.c.purpose != "backbone")
            .order_by(_score.c.key, _score.c.seed, _score.c.backbone)
        )
        with self._connector.read() as connection:
            return [(key, seed, {**json.loads(text)}) for key, seed, text in connection.execute(query)]

    def scored_metrics(self, rung: int, limit: int | None = None) -> list[tuple[str, dict[str, float]]]:
        """(key, metrics) of such runs of scored candidates; at most `limit` of them."""
        both = and_(_candidate.c.study_id == _score.c.study_id, _candidate.c.key == _score.c.key)
        query = (
            select(_score.c.key, _score.c.metrics)
            .join(_candidate, both)
            .where(_score.c.study_id == self._id, _score.c.way == SEARCH, _score.c.rung == rung)
            .where(_candidate.c.state == "scored", _score.c.purpose != "backbone")
            .limit(limit)
        )
        with self._connector.read() as connection:
            return [(key, {**json.loads(text)}) for key, text in connection.execute(query)]

    def state(self) -> str:
        """A text that is another one whenever there are results that were not there before."""
        parts = []
        with self._connector.read() as connection:
            for table in (_candidate, tables.run):
                query = select(table.c.state, func.count()).where(table.c.study_id == self._id).group_by(table.c.state)
                parts += sorted(f"{state} {count}" for state, count in connection.execute(query))
            for table in (_score, tables.session, tables.test_reading):
                count = connection.scalar(select(func.count()).where(table.c.study_id == self._id))
                parts.append(f"{table.name} {count}")
        return ", ".join(parts)
