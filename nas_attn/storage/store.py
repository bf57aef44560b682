"""One study's tables: leases, candidates, scores, latency sessions, checkpoints, attributes.

Who owns what: a worker acquires a lease on a piece of work, renews it while it works, and passes it to every write
about that work. Each write is one transaction that first makes sure the lease is still the worker's; if another has
taken it over, `LeaseLost` is raised and nothing is written. Methods may be called from several threads and processes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any

from sqlalchemy import Connection, Table, and_, case, delete, false, or_, select, true, update
from sqlalchemy.dialects import postgresql, sqlite

from nas_attn.errors import LeaseLost, StorageError
from nas_attn.records import CandidateRow, Cost, Score, Session
from nas_attn.storage import tables
from nas_attn.storage.connection import Connector
from nas_attn.storage.rows import (
    CheckpointRow,
    Lease,
    LeaseRow,
    SplitReading,
    StoredScore,
    from_score,
    from_session,
    to_candidate,
    to_score,
    to_session,
)

PURPOSES = frozenset({"search", "confirm", "backbone"})
"""What a score was made for."""
FINAL_STATES = frozenset({"scored", "pruned", "infeasible", "failed"})
"""What a candidate ends as."""

_CHECKPOINT = [tables.checkpoint.c[field.name] for field in fields(CheckpointRow)]


def insert(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An insert that can say what to do on conflict, which each dialect spells itself."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


class StudyStore:
    """A study's rows. Made by `Database.create_study` and `Database.study`."""

    def __init__(
        self, connector: Connector, *, id: int, name: str, recipe: str, versions: Mapping[str, str], created_at: float
    ) -> None:
        self._connector = connector
        self._id = id
        self.name = name
        self.recipe = recipe
        """The recipe as JSON, frozen at creation."""
        self.versions = dict(versions)
        """Library -> version at creation."""
        self.created_at = created_at
        """Unix seconds by the database's clock."""

    # ------------------------------------------------------------------------------------------- latency device

    @property
    def fingerprint(self) -> str | None:
        """The device that the study's latencies are pinned to, None as long as nothing was measured."""
        with self._connector.read() as connection:
            return connection.scalar(select(tables.study.c.fingerprint).where(tables.study.c.id == self._id))

    def set_fingerprint_once(self, fingerprint: str) -> str:
        """Pin the study to a latency device; the first to do so wins. Returns what is pinned."""
        study = tables.study
        with self._connector.write() as connection:
            mine = and_(study.c.id == self._id, study.c.fingerprint.is_(None))
            connection.execute(update(study).where(mine).values(fingerprint=fingerprint))
            pinned: str | None = connection.scalar(select(study.c.fingerprint).where(study.c.id == self._id))
        if pinned is None:
            raise StorageError(f"study '{self.name}' has been deleted from '{self._connector}'")
        return pinned

    # ------------------------------------------------------------------------------------------- leases

    def acquire(self, resource: str, *, owner: str, ttl_s: float) -> Lease | None:
        """Take a resource that is free, released or expired; None while someone holds it."""
        lease, clock = tables.lease, self._connector.clock
        taken = {"owner": owner, "expires_at": clock + ttl_s, "released": False}
        free = or_(lease.c.released, lease.c.expires_at < clock)
        with self._connector.write() as connection:
            again = update(lease).where(self._lease(resource), free).values(number=lease.c.number + 1, **taken)
            if connection.execute(again).rowcount == 0:
                new = insert(connection, lease).values(study_id=self._id, resource=resource, number=1, **taken)
                first = new.on_conflict_do_nothing().execution_options(preserve_rowcount=True)
                if connection.execute(first).rowcount == 0:
                    return None
            row = connection.execute(select(lease.c.number, lease.c.expires_at).where(self._lease(resource))).one()
        return Lease(resource, owner, row.number, ttl_s, row.expires_at)

    def renew(self, lease: Lease) -> Lease:
        """Hold on for another `ttl_s` seconds; also after expiry, as long as nobody else has taken it.

        Raises:
            LeaseLost: somebody has, or it was released.
        """
        with self._connector.write() as connection:
            longer = {"expires_at": self._connector.clock + lease.ttl_s}
            if connection.execute(update(tables.lease).where(self._held(lease)).values(longer)).rowcount == 0:
                raise self._lost(lease)
            row = connection.execute(select(tables.lease.c.expires_at).where(self._held(lease))).one()
        return replace(lease, expires_at=row.expires_at)

    def release(self, lease: Lease) -> None:
        """Give a resource back. A lease that is no longer held is none of our business: nothing happens."""
        with self._connector.write() as connection:
            connection.execute(update(tables.lease).where(self._held(lease)).values(released=True))

    def expired(self, prefix: str) -> list[str]:
        """Resources whose names begin so and whose holder has neither renewed nor released them in time."""
        return [row.resource for row in self.leases() if row.state == "expired" and row.resource.startswith(prefix)]

    def leases(self) -> list[LeaseRow]:
        """All leases ever taken, by name."""
        lease = tables.lease
        overdue = case((lease.c.expires_at < self._connector.clock, "expired"), else_="held")
        state = case((lease.c.released, "released"), else_=overdue).label("state")
        columns = (lease.c.resource, lease.c.owner, lease.c.number, lease.c.expires_at, state)
        with self._connector.read() as connection:
            rows = connection.execute(select(*columns).where(lease.c.study_id == self._id).order_by(lease.c.resource))
            return [LeaseRow(*row) for row in rows]

    def _lease(self, resource: str) -> Any:
        return and_(tables.lease.c.study_id == self._id, tables.lease.c.resource == resource)

    def _held(self, lease: Lease) -> Any:
        mine = and_(tables.lease.c.owner == lease.owner, tables.lease.c.number == lease.number)
        return and_(self._lease(lease.resource), mine, tables.lease.c.released == false())

    def _lost(self, lease: Lease) -> LeaseLost:
        return LeaseLost(f"study '{self.name}': '{lease.resource}' has been taken over by another worker")

    @contextmanager
    def _fenced(self, lease: Lease) -> Iterator[Connection]:
        """A transaction in which the lease is known to be ours: nobody can take it before the end."""
        with self._connector.write() as connection:
            row = select(tables.lease.c.number).where(self._held(lease)).with_for_update()
            if connection.scalar(row) is None:
                raise self._lost(lease)
            yield connection

    # ------------------------------------------------------------------------------------------- candidates

    def claim(self, key: str, *, placement: str, trial: int, baseline: str | None, lease: Lease) -> CandidateRow | None:
        """Enter a candidate as running, unless it is there; None where it belongs to another trial."""
        with self._fenced(lease) as connection:
            new = insert(connection, tables.candidate).values(
                study_id=self._id,
                key=key,
                placement=placement,
                trial=trial,
                baseline=baseline,
                state="running",
                reason="",
                told=False,
                created_at=self._connector.clock,
            )
            connection.execute(new.on_conflict_do_nothing())
            row = connection.execute(select(tables.candidate).where(self._candidate(key))).one()
        return to_candidate(row) if row.trial == trial else None

    def candidate(self, key: str) -> CandidateRow | None:
        """The candidate with this key, None where there is none."""
        with self._connector.read() as connection:
            row = connection.execute(select(tables.candidate).where(self._candidate(key))).one_or_none()
        return None if row is None else to_candidate(row)

    def candidates(self) -> list[CandidateRow]:
        """All candidates, by trial."""
        candidate = tables.candidate
        query = select(candidate).where(candidate.c.study_id == self._id).order_by(candidate.c.trial, candidate.c.key)
        with self._connector.read() as connection:
            return [to_candidate(row) for row in connection.execute(query)]

    def set_cost(self, key: str, cost: Cost, lease: Lease) -> None:
        """Write down what a candidate costs.

        Raises:
            LeaseLost: another worker has taken over; nothing is written.
        """
        columns = {"parameters": cost.parameters, "macs": cost.macs, "activation_bytes": cost.activation_bytes}
        with self._fenced(lease) as connection:
            connection.execute(update(tables.candidate).where(self._candidate(key)).values(columns))

    def finish(self, key: str, *, state: str, reason: str, values: tuple[float, ...] | None, lease: Lease) -> bool:
        """Bring a running candidate to its final state (one of FINAL_STATES), once.

        Returns:
            True for the one call that did it; False where the candidate had been finished before.

        Raises:
            LeaseLost: another worker has taken over; nothing is written.
        """
        assert state in FINAL_STATES
        result = {"state": state, "reason": reason, "objective_values": None if values is None else json.dumps(values)}
        with self._fenced(lease) as connection:
            running = and_(self._candidate(key), tables.candidate.c.state == "running")
            return connection.execute(update(tables.candidate).where(running).values(result)).rowcount == 1

    def mark_told(self, key: str) -> None:
        """Note that Optuna has been told a candidate's result."""
        with self._connector.write() as connection:
            connection.execute(update(tables.candidate).where(self._candidate(key)).values(told=True))

    def _candidate(self, key: str) -> Any:
        return and_(tables.candidate.c.study_id == self._id, tables.candidate.c.key == key)

    # ------------------------------------------------------------------------------------------- scores

    def add_score(self, key: str, score: Score, *, purpose: str, lease: Lease) -> None:
        """Store a score for one of PURPOSES.

        One of the same key, seed, rung and purpose is replaced: a resumed run repeats its last.

        Raises:
            LeaseLost: another worker has taken over; nothing is written.
        """
        assert purpose in PURPOSES
        row = {"study_id": self._id, "key": key, "purpose": purpose, **from_score(score)}
        with self._fenced(lease) as connection:
            new = insert(connection, tables.score).values(row)
            identity = list(tables.score.primary_key.columns)
            connection.execute(new.on_conflict_do_update(index_elements=identity, set_=row))

    def scores(
        self, key: str | None = None, *, purpose: str | None = None, with_correct: bool = False
    ) -> list[StoredScore]:
        """Scores by key, purpose, seed and rung; of one key or purpose, or all.

        Args:
            with_correct: also load which validation images were right: a bit an image and score.
        """
        score = tables.score
        columns = [column for column in score.c if with_correct or column.name != "correct"]
        query = select(*columns).where(
            score.c.study_id == self._id,
            true() if key is None else score.c.key == key,
            true() if purpose is None else score.c.purpose == purpose,
        )
        order = (score.c.key, score.c.purpose, score.c.seed, score.c.rung)
        with self._connector.read() as connection:
            return [to_score(row, with_correct=with_correct) for row in connection.execute(query.order_by(*order))]

    # ------------------------------------------------------------------------------------------- latency sessions

    def add_session(self, session: Session) -> None:
        """Store a latency session."""
        row = {"study_id": self._id, "started_at": session.started_at, "document": from_session(session)}
        with self._connector.write() as connection:
            connection.execute(insert(connection, tables.session).values(row))

    def sessions(self) -> list[Session]:
        """All latency sessions in the order of their beginning."""
        session = tables.session
        query = select(session.c.document).where(session.c.study_id == self._id)
        with self._connector.read() as connection:
            return [to_session(text) for text in connection.scalars(query.order_by(session.c.started_at, session.c.id))]

    # ------------------------------------------------------------------------------------------- checkpoints

    def add_checkpoint(
        self, run: str, *, artifact: str, sha256: str, size: int, epochs: int, lease: Lease
    ) -> CheckpointRow:
        """Note where a run's new checkpoint lies.

        Raises:
            LeaseLost: another worker has taken over; nothing is written.
        """
        row = {"run": run, "artifact": artifact, "sha256": sha256, "size": size, "epochs": epochs}
        new = {"study_id": self._id, "created_at": self._connector.clock, **row}
        with self._fenced(lease) as connection:
            made = connection.execute(insert(connection, tables.checkpoint).values(new)).inserted_primary_key
            assert made is not None
            return CheckpointRow(
                *connection.execute(select(*_CHECKPOINT).where(tables.checkpoint.c.id == made.id)).one()
            )

    def checkpoints(self, run: str) -> list[CheckpointRow]:
        """A run's checkpoints, the newest first."""
        checkpoint = tables.checkpoint
        query = select(*_CHECKPOINT).where(checkpoint.c.study_id == self._id, checkpoint.c.run == run)
        with self._connector.read() as connection:
            return [CheckpointRow(*row) for row in connection.execute(query.order_by(checkpoint.c.id.desc()))]

    def drop_checkpoint(self, row: CheckpointRow) -> None:
        """Forget a checkpoint; its artifact is the caller's to delete."""
        checkpoint = tables.checkpoint
        with self._connector.write() as connection:
            connection.execute(delete(checkpoint).where(checkpoint.c.study_id == self._id, checkpoint.c.id == row.id))

    # ------------------------------------------------------------------------------------------- attributes

    def put(self, name: str, text: str) -> None:
        """Set an attribute of the study."""
        row = {"study_id": self._id, "name": name, "text": text}
        attribute = tables.attribute
        with self._connector.write() as connection:
            new = insert(connection, attribute).values(row)
            identity = list(attribute.primary_key.columns)
            connection.execute(new.on_conflict_do_update(index_elements=identity, set_={"text": text}))

    def get(self, name: str) -> str | None:
        """An attribute of the study, None where it is not set."""
        attribute = tables.attribute
        with self._connector.read() as connection:
            mine = and_(attribute.c.study_id == self._id, attribute.c.name == name)
            return connection.scalar(select(attribute.c.text).where(mine))

    def log_test_reading(self, reason: str) -> None:
        """Log that the test split is about to be read, and what for."""
        with self._connector.write() as connection:
            row = {"study_id": self._id, "read_at": self._connector.clock, "reason": reason}
            connection.execute(insert(connection, tables.test_reading).values(row))

    def test_readings(self) -> list[SplitReading]:
        """Every use of the test split, the oldest first."""
        reading = tables.test_reading
        query = select(reading.c.read_at, reading.c.reason).where(reading.c.study_id == self._id)
        with self._connector.read() as connection:
            return [SplitReading(*row) for row in connection.execute(query.order_by(reading.c.id))]
