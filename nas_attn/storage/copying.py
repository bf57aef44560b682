"""Copies what one study has into another one of the same database, which then needs the first no
more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from nas_attn.errors import CheckpointError
from nas_attn.recipe.purposes import (
    BACKBONE,
    SEARCH,
    TARGET_PROTOCOL,
    divided_seed,
    test_protocol,
)
from nas_attn.storage import tables
from nas_attn.storage.artifacts import (
    ArtifactStore,
    RunFiles,
    read_artifact,
    weights_run,
    write_artifact,
)
from nas_attn.storage.connection import insert
from nas_attn.storage.rows import Lease
from nas_attn.storage.store import StudyStore
from nas_attn.storage.work import WAITING


@dataclass(frozen=True, slots=True)
class Copies:
    """What is copied from a study."""

    protocols: frozenset[str]
    """Names of its training protocols that are equal ones in the new study."""
    keys: frozenset[str]
    """Of its networks that are equal ones in the new study."""
    candidates: Mapping[str, str | None]
    """Key of a candidate -> its name as a baseline; None: it is none."""
    latencies: bool
    """Whether both measure latency alike."""

    def holds(self, key: str) -> bool:
        """Whether runs of this key are copied: of a network, or of a backbone."""
        return key in self.keys or key.split(" ")[0] == BACKBONE

    def trained_by(self, protocol: str) -> bool:
        """Whether scores of this protocol are copied, which may be one of the test images."""
        return protocol in self.protocols or any(
            protocol == test_protocol(name) for name in self.protocols
        )

    def files(self, name: str) -> bool:
        """Whether files of this name are copied: of a candidate (its key), or of a run
        (`rows.Run.files`).
        """
        protocol, _, rest = name.partition(":")
        if not rest:
            return name in self.candidates
        return protocol in self.protocols and self.holds(rest.partition(":")[0])


def copy_files(
    new: StudyStore,
    new_artifacts: ArtifactStore,
    old: StudyStore,
    old_artifacts: ArtifactStore,
    copies: Copies,
    lease: Lease,
) -> None:
    """Copies trained weights and backbones. What is missing or damaged is named in the new study.

    Args:
        new: the study that gets them.
        new_artifacts: where its files lie.
        old: the study that has them.
        old_artifacts: where its files lie.
        copies: what is copied.
        lease: on the new study.
    """
    prefix = weights_run("")
    for run, rows in old.all_checkpoints().items():
        name = run.removeprefix(prefix)
        if name == run or not copies.files(name) or new.checkpoints(run):
            continue
        try:
            blob = read_artifact(old_artifacts, rows[0].artifact, rows[0].sha256)
            RunFiles(new, new_artifacts, run, lease).keep(blob, rows[0].epochs)
        except CheckpointError as error:
            new.weights_lost.put(name, str(error))
    if SEARCH in copies.protocols:
        for name, content in old.backbones.all().items():
            if content and not new.backbones.get(name):
                # a lost one is trained again
                blob = read_artifact(old_artifacts, **json.loads(content))
                artifact, sha256 = write_artifact(new, new_artifacts, blob)
                new.backbones.put(name, json.dumps({"artifact": artifact, "sha256": sha256}))


def copy_results(new: StudyStore, old: StudyStore, copies: Copies, lease: Lease) -> None:
    """Copies ended runs, scores, candidates, latencies and what belongs to them, in one
    transaction. It ends that the new study takes over.

    Args:
        new: the study that gets them.
        old: the study that has them.
        copies: what is copied.
        lease: on the new study.

    Raises:
        LeaseLost: another process has taken this over.
    """
    new._connector.endure(lambda: _copy_results(new, old, copies, lease))


def _copy_results(new: StudyStore, old: StudyStore, copies: Copies, lease: Lease) -> None:
    study = tables.StudyTable
    with new._fenced(lease) as connection:
        if connection.scalar(select(study.taking_over).where(study.id == new._id)) is None:
            # it was done before, and the answer was lost
            return
        table: type[Any]
        for table in (tables.RunTable, tables.ScoreTable):
            _write(connection, table, new, _trained(connection, table, old, copies))
        candidates = [
            row | {"baseline": copies.candidates[row["key"]]}
            for row in _rows(connection, tables.CandidateTable, old)
            if row["key"] in copies.candidates
        ]
        _write(connection, tables.CandidateTable, new, candidates)
        documents = [
            row
            for row in _rows(connection, tables.DocumentTable, old)
            if _belongs(row["kind"], row["name"], copies)
        ]
        _write(connection, tables.DocumentTable, new, documents)
        if TARGET_PROTOCOL in copies.protocols:
            readings = _rows(connection, tables.TestReadingTable, old)
            _write(connection, tables.TestReadingTable, new, readings)
        changed: dict[str, Any] = {"taking_over": None, "trials": study.trials + len(candidates)}
        if copies.latencies:
            _write(
                connection, tables.SessionTable, new, _rows(connection, tables.SessionTable, old)
            )
            pinned = select(study.fingerprint).where(study.id == old._id)
            changed["fingerprint"] = connection.scalar(pinned)
        connection.execute(update(tables.StudyTable).where(study.id == new._id).values(changed))


def _rows(connection: Connection, table: type[Any], of: StudyStore) -> list[dict[str, Any]]:
    query = select(table).where(table.study_id == of._id)
    return [dict(row) for row in connection.execute(query).mappings()]


def _trained(
    connection: Connection, table: type[Any], old: StudyStore, copies: Copies
) -> list[dict[str, Any]]:
    """Ended runs, or scores."""
    found = []
    for row in _rows(connection, table, old):
        waits = table is tables.RunTable and row["state"] == WAITING
        if copies.trained_by(row["protocol"]) and copies.holds(row["key"]) and not waits:
            # its worker is none of the new study
            found.append(row | {"owner": None} if "owner" in row else row)
    return found


def _belongs(kind: str, name: str, copies: Copies) -> bool:
    """Whether a document belongs to what is copied."""
    if kind == "labels":
        protocol = SEARCH if divided_seed(name) is not None else name
        return copies.trained_by(protocol)
    if kind == "arithmetic":
        # of a kind of device, and of a protocol but the search's
        protocol = name.partition(" ")[2] or SEARCH
        return copies.trained_by(protocol)
    if kind == "validation":
        return TARGET_PROTOCOL in copies.protocols
    # the others are written where files are copied, and protocols compared
    return kind in ("curve", "weights_lost") and copies.files(name)


def _write(
    connection: Connection, table: type[Any], new: StudyStore, rows: list[dict[str, Any]]
) -> None:
    for row in rows:
        row.pop("id", None)
        values = row | {"study_id": new._id}
        connection.execute(insert(connection, table).values(values).on_conflict_do_nothing())
