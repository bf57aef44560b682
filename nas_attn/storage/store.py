"""One study's tables: settings, documents, leases, candidates, scores, latency sessions,
checkpoints.

A worker acquires a lease on a piece of work, and passes it to every write about that work. Each
write is one transaction, which first checks that the lease is still the worker's. If another worker
has taken it over, it raises `LeaseLost` and writes nothing. Methods may be called from several
threads and processes.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from pydantic import Json
from sqlalchemy import Connection, delete, func, orm, update
from sqlalchemy import text as sql_text

from nas_attn.errors import StorageError
from nas_attn.recipe.purposes import PURPOSES, SEARCH
from nas_attn.recipe.tables import Costs
from nas_attn.space.placement import Placement
from nas_attn.storage.connection import Connector
from nas_attn.storage.outages import repeatable
from nas_attn.storage.records import CandidateRow, Score, Session, SplitReading, StoredScore
from nas_attn.storage.rows import Lease, Run, read_all
from nas_attn.storage.tables import (
    CandidateTable,
    CheckpointTable,
    DocumentTable,
    RunTable,
    ScoreTable,
    SessionTable,
    StudyTable,
    TestReadingTable,
)
from nas_attn.storage.work import WAITING, Leases, RunQueue, StudyPart, WorkerBook, given

# Optuna's own tables: its storage takes longer to load than the query to run.
TOLD_VALUES = sql_text(
    "SELECT told.value FROM trial_values AS told"
    " JOIN trials ON trials.trial_id = told.trial_id"
    " JOIN studies ON studies.study_id = trials.study_id"
    " WHERE studies.study_name = :name AND trials.state = 'COMPLETE' AND told.objective = :number"
)
# of a candidate
FINAL_STATES = frozenset({"scored", "pruned", "infeasible", "failed"})


@dataclass(eq=False)
class Documents(StudyPart):
    """A study's documents of one kind, by name. Only their writers and readers know the structure
    of the JSON texts.
    """

    _kind: str

    @repeatable
    def put(self, name: str, content: str) -> None:
        index = ["study_id", "kind", "name"]
        new = self._new(name, content)
        self._connector.execute(
            new.on_conflict_do_update(index_elements=index, set_={"content": content})
        )

    @repeatable
    def put_once(self, name: str, content: str) -> str:
        """Stores a document unless there is one of this name, also where several processes do so at
        once. Returns the document that is stored.
        """
        with self._connector.write() as connection:
            connection.execute(self._new(name, content).on_conflict_do_nothing())
            return str(connection.scalar(self._content(name)))

    @repeatable
    def get(self, name: str) -> str | None:
        """A document; None if there is none."""
        with self._connector.read() as connection:
            content: str | None = connection.scalar(self._content(name))
        return content

    @repeatable
    def all(self) -> dict[str, str]:
        """Name -> document, by name."""
        columns = (DocumentTable.name, DocumentTable.content)
        query = self._select(*columns, kind=self._kind).order_by(DocumentTable.name)
        with self._connector.read() as connection:
            return dict(connection.execute(query).all())

    def _new(self, name: str, content: str) -> Any:
        return self._insert(DocumentTable, kind=self._kind, name=name, content=content)

    def _content(self, name: str) -> Any:
        return self._select(DocumentTable.content, kind=self._kind, name=name)


class StudyStore(Leases):
    """A study's rows. Made by `Database.create_study` and `Database.study`.

    - Threads and processes may share a study; each process opens its own.
    - What is written about a piece of work takes its lease. Raises LeaseLost: another worker has
      taken over, and nothing is written.
    - Each call is one transaction. Raises StorageAway: the database does not answer, which may
      pass; with `waiting.reporting` it is waited for. Raises StorageError: it cannot be used.
    - Calls that are marked `@repeatable` may be done again.

        lease = store.acquire("run/1", owner="me")
        if lease is not None:
            store.add_score(run, score, lease=lease)
            store.release(lease)

    `tests/storage/test_storage_contract.py` holds it for SQLite and PostgreSQL.
    """

    def __init__(self, connector: Connector, row: StudyTable, versions: Mapping[str, str]) -> None:
        """`versions`: library -> version at creation, as in the row."""
        super().__init__(connector, row.id, row.name)
        # the recipe as JSON, frozen at creation
        self.recipe = row.recipe
        self.versions = versions
        # Unix seconds by the database's clock
        self.created_at = row.created_at
        # read again when there are more
        self._sessions: list[Session] = []
        documents = partial(Documents, connector, row.id, row.name)
        self.queue = RunQueue(connector, row.id, row.name)
        self.workers = WorkerBook(connector, row.id, row.name)
        # training protocols by name: the training and the data as JSON
        self.protocols = documents("protocol")
        # Number (and name, of another network) -> place of a trained one; empty: it is lost.
        self.backbones = documents("backbone")
        # name of weights -> why they are missing; empty: they exist
        self.weights_lost = documents("weights_lost")
        # name of a run's files -> the points of its training
        self.curves = documents("curve")
        # training protocol -> the labels behind its results per image
        self.labels = documents("labels")
        # number of a validation -> its networks and comparisons
        self.validations = documents("validation")
        # kind of device (and protocol, where it computes otherwise) -> `records.Arithmetic`
        self.arithmetics = documents("arithmetic")
        # what its images are (`training.images`), by how the data are read and divided
        self.images = documents("images")

    @property
    @repeatable
    def settings(self) -> StudyTable:
        """The study's row as it is now."""
        with self._connector.read() as connection:
            return self._row(connection)

    @property
    def sites(self) -> str | None:
        """The sites that it began with, as JSON; None before that."""
        return self.settings.sites

    @repeatable
    def set(self, /, **columns: str | float | None) -> None:
        """Changes settings of the study, or its sites."""
        self._connector.execute(update(StudyTable).filter_by(id=self._id).values(columns))

    def _row(self, connection: Connection) -> StudyTable:
        row = orm.Session(connection).get(StudyTable, self._id)
        if row is None:
            raise StorageError(f"study '{self.name}' has been deleted from '{self._connector}'")
        return row

    @property
    def is_current(self) -> bool:
        """Whether the study's recipe is still the one that was read: false once it has found how
        long its target trains.
        """
        return self.settings.recipe == self.recipe

    @property
    def fingerprint(self) -> str | None:
        """The device that the study's latencies are pinned to; None before the first
        measurement.
        """
        return self.settings.fingerprint

    @repeatable
    def set_fingerprint_once(self, fingerprint: str) -> str:
        """Pins the study to a latency device, unless it is pinned already. Returns the pinned
        device.
        """
        unpinned = update(StudyTable).filter_by(id=self._id, fingerprint=None)
        self._connector.execute(unpinned.values(fingerprint=fingerprint))
        return str(self.fingerprint)

    @repeatable
    def move_to(self, fingerprint: str, *, again: Collection[str]) -> None:
        """Pins the study to another latency device. The sessions of the former one become those of
        a device elsewhere.

        Args:
            fingerprint: the new device, as the study keeps it.
            again: keys of scored candidates that lack a latency now; they run until they have one.
        """
        pinned = update(StudyTable).filter_by(id=self._id)
        scored = self._update(CandidateTable, state="scored")
        lacking = scored.where(CandidateTable.key.in_(again))
        self._connector.execute(
            pinned.values(fingerprint=fingerprint), lacking.values(state="running")
        )

    @repeatable
    def state(self) -> str:
        """A text that changes whenever there are new results."""
        columns = (
            CandidateTable.state,
            RunTable.state,
            ScoreTable.purpose,
            SessionTable.study_id,
            TestReadingTable.study_id,
        )
        parts = []
        with self._connector.read() as connection:
            for column in columns:
                query = self._select(column, func.count())
                by_value = query.group_by(column).order_by(column)
                parts += [f"{column} {value} {n}" for value, n in connection.execute(by_value)]
        return ", ".join(parts)

    @repeatable
    def claim(
        self,
        key: str,
        *,
        placement: Placement,
        trial: int,
        baseline: str | None,
        lease: Lease,
    ) -> CandidateRow | None:
        """Enters a candidate as running, unless it exists.

        Args:
            key: of its network.
            placement: explicit.
            trial: its number in Optuna's study.
            baseline: its name as a baseline; None: it is searched.
            lease: the scheduling lock.

        Returns:
            Its row; None if the network belongs to another trial.

        Raises:
            LeaseLost: another worker has taken over; nothing is written.
        """
        new = self._insert(
            CandidateTable,
            key=key,
            placement=str(placement),
            trial=trial,
            baseline=baseline,
            state="running",
            reason="",
            created_at=self._connector.clock,
        )
        with self._fenced(lease) as connection:
            connection.execute(new.on_conflict_do_nothing())
        row = self._candidates(key=key)[0]
        return row if row.trial == trial else None

    @repeatable
    def candidate(self, key: str) -> CandidateRow | None:
        """The candidate with this key; None if there is none."""
        return next(iter(self._candidates(key=key)), None)

    @repeatable
    def candidates(self) -> list[CandidateRow]:
        """All candidates, by trial."""
        return self._candidates()

    def _candidates(self, **which: str) -> list[CandidateRow]:
        query = self._select(CandidateTable, **which)
        return self._connector.rows(
            CandidateRow, query.order_by(CandidateTable.trial, CandidateTable.key)
        )

    @repeatable
    def set_cost(self, key: str, cost: Costs, lease: Lease) -> None:
        """Stores a candidate's cost. Raises LeaseLost: another worker has taken over; nothing is
        written.
        """
        of_candidate = self._update(CandidateTable, key=key)
        with self._fenced(lease) as connection:
            connection.execute(of_candidate.values(costs=json.dumps(dict(cost))))

    @repeatable
    def end_candidate(self, key: str, *, state: str, reason: str, lease: Lease) -> bool:
        """Gives a running candidate its final state, and withdraws the runs of the search that
        still wait. A test or a retraining of the same network goes on.

        Args:
            key: of its network.
            state: one of FINAL_STATES.
            reason: why it ended so, for people; empty: nothing to say.
            lease: on what is written about.

        Returns:
            Whether this call did it: false if it had ended before.

        Raises:
            LeaseLost: another worker has taken over; nothing is written.
        """
        assert state in FINAL_STATES
        running = self._update(CandidateTable, key=key, state="running")
        # one that was measured again ended before
        ended_at = func.coalesce(CandidateTable.finished_at, self._connector.clock)
        waiting = self._update(RunTable, key=key, state=WAITING, protocol=SEARCH, purpose=SEARCH)
        with self._fenced(lease) as connection:
            ended = connection.execute(
                running.values(state=state, reason=reason, finished_at=ended_at)
            )
            if ended.rowcount:
                connection.execute(waiting.values(state="withdrawn"))
            return ended.rowcount > 0

    @repeatable
    def add_score(self, run: Run, score: Score, *, lease: Lease) -> None:
        """Stores a run's score at a rung, or replaces it: a resumed run repeats its last. Raises
        LeaseLost.
        """
        assert run.purpose in PURPOSES
        assert run.seed == score.seed
        columns = ScoreTable.__table__.c
        # other fields are in the metrics, or only the queue's
        both = {**asdict(run), **asdict(score)}
        row = {name: value for name, value in both.items() if name in columns}
        row |= {
            "metrics": json.dumps(dict(score.metrics)),
            "owner": lease.owner,
            "recorded_at": self._connector.clock,
        }
        with self._fenced(lease) as connection:
            new = self._insert(ScoreTable, **row)
            identity = list(ScoreTable.__table__.primary_key)
            connection.execute(new.on_conflict_do_update(index_elements=identity, set_=row))

    @repeatable
    def scores(
        self,
        key: str | None = None,
        *,
        protocol: str | None = None,
        rung: int | None = None,
        with_correct: bool = False,
        with_answers: bool = False,
    ) -> list[StoredScore]:
        """Reads scores, in the order of key, protocol, seed, backbone and rung.

        Args:
            key: of their network; None: of all.
            protocol: by which they were trained; None: by any.
            rung: at which; None: at any.
            with_correct: whether they have which images were right.
            with_answers: whether they have the task's results per image.
        """
        wanted = {"correct": with_correct, "answers": with_answers}
        columns = [column for column in ScoreTable.__table__.c if wanted.get(column.name, True)]
        query = self._select(*columns, **given(key=key, protocol=protocol, rung=rung))
        ordered = query.order_by(*ScoreTable.__table__.primary_key)
        return self._connector.rows(StoredScore, ordered, within="score")

    @repeatable
    def run_times(self, key: str | None = None) -> list[tuple[int, float]]:
        """(epochs, seconds of training and scoring) of each run that was trained as the search
        does; of one network, or of all.
        """
        columns = (func.max(ScoreTable.epochs), func.sum(ScoreTable.wall_s))
        query = self._select(*columns, protocol=SEARCH, **given(key=key))
        by_run = query.group_by(ScoreTable.key, ScoreTable.seed, ScoreTable.backbone)
        with self._connector.read() as connection:
            return list(connection.execute(by_run))

    @repeatable
    def told_values(self, objective: int) -> list[float]:
        """What Optuna was told of an objective, by its number, of the trials that ended scored."""
        at = {"name": self.name, "number": objective}
        with self._connector.read() as connection:
            return list(connection.execute(TOLD_VALUES, at).scalars())

    @repeatable
    def add_session(self, session: Session, *, owner: str) -> None:
        """Stores a latency session of a worker, once."""
        row = {
            "started_at": session.started_at,
            "document": json.dumps(asdict(session)),
        }
        written = {"owner": owner, "recorded_at": self._connector.clock}
        with self._connector.write() as connection:
            self._add_once(connection, SessionTable, row, written)

    def _add_once(
        self, connection: Connection, table: Any, row: Mapping[str, Any], written: Mapping[str, Any]
    ) -> None:
        """Writes a row, unless it is there: as after an answer that was lost.

        Args:
            connection: in a transaction that writes.
            table: of rows with numbers.
            row: what tells it from others.
            written: what is written with it.
        """
        if connection.scalar(self._select(table.id, **row)) is None:
            connection.execute(self._insert(table, **row, **written))

    @repeatable
    def sessions(self, *, elsewhere: bool = False) -> list[Session]:
        """The latency sessions, the oldest first: of the study's pinned device, or `elsewhere` of
        all others.
        """
        query = self._select(SessionTable.document).order_by(
            SessionTable.started_at, SessionTable.id
        )
        with self._connector.read() as connection:
            pinned = self._row(connection).fingerprint
            if connection.scalar(self._select(func.count(SessionTable.id))) != len(self._sessions):
                self._sessions = read_all(Json[Session], connection.scalars(query))
        return [
            one
            for one in self._sessions
            if (pinned not in (None, json.dumps(asdict(one.fingerprint)))) == elsewhere
        ]

    @repeatable
    def add_checkpoint(
        self, run: str, *, artifact: str, sha256: str, size: int, epochs: int, lease: Lease
    ) -> None:
        """Records the place of a run's new checkpoint, once.

        Args:
            run: name of the training, or of its weights.
            artifact: name of the file.
            sha256: of the file.
            size: of the file, in bytes.
            epochs: that are trained.
            lease: on the run.

        Raises:
            LeaseLost: another worker has taken over; nothing is written.
        """
        row = {
            "run": run,
            "artifact": artifact,
            "sha256": sha256,
            "size": size,
            "epochs": epochs,
        }
        with self._fenced(lease) as connection:
            written = {"created_at": self._connector.clock}
            self._add_once(connection, CheckpointTable, row, written)

    @repeatable
    def checkpoints(self, run: str) -> list[CheckpointTable]:
        """A run's checkpoints, the newest first."""
        return self._checkpoints(run=run)

    @repeatable
    def all_checkpoints(self) -> dict[str, list[CheckpointTable]]:
        """Name -> checkpoints or weights of that name, the newest first."""
        by_run: defaultdict[str, list[CheckpointTable]] = defaultdict(list)
        for row in self._checkpoints():
            by_run[row.run].append(row)
        return dict(by_run)

    def _checkpoints(self, **which: str) -> list[CheckpointTable]:
        query = self._select(CheckpointTable, **which).order_by(CheckpointTable.id.desc())
        with self._connector.read() as connection:
            return list(orm.Session(connection).scalars(query))

    @repeatable
    def drop_checkpoint(self, row: CheckpointTable) -> None:
        """Deletes a checkpoint's row; the caller deletes its artifact."""
        mine = delete(CheckpointTable).filter_by(study_id=self._id, id=row.id)
        self._connector.execute(mine)

    @repeatable
    def log_test_reading(self, reason: str) -> None:
        """Logs, before the test split is read, that it is read and for what; once for each."""
        with self._connector.write() as connection:
            read_at = {"read_at": self._connector.clock}
            self._add_once(connection, TestReadingTable, {"reason": reason}, read_at)

    @repeatable
    def test_readings(self) -> list[SplitReading]:
        """Every use of the test split, the oldest first."""
        query = self._select(TestReadingTable).order_by(TestReadingTable.id)
        return self._connector.rows(SplitReading, query)
