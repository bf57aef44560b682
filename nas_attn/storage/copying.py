"""Copies what one study has into another one of the same database, which then needs the first no
more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update

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
        return protocol.removesuffix(test_protocol("")) in self.protocols

    def trained(self, row: Mapping[str, Any]) -> bool:
        """Whether a run's or a score's row is copied."""
        return self.trained_by(row["protocol"]) and self.holds(row["key"])

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
                new.backbones.put(name, json.dumps(write_artifact(new, new_artifacts, blob)))


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
    of_target = TARGET_PROTOCOL in copies.protocols
    wanted: dict[type[Any], Callable[[dict[str, Any]], bool]] = {
        tables.RunTable: lambda run: run["state"] != WAITING and copies.trained(run),
        tables.ScoreTable: copies.trained,
        tables.CandidateTable: lambda candidate: candidate["key"] in copies.candidates,
        tables.DocumentTable: lambda document: _belongs(document["kind"], document["name"], copies),
        tables.TestReadingTable: lambda _: of_target,
        tables.SessionTable: lambda _: copies.latencies,
    }
    with new._fenced(lease) as connection:
        if connection.scalar(select(study.taking_over).where(study.id == new._id)) is None:
            # it was done before, and the answer was lost
            return
        for table, is_wanted in wanted.items():
            query = select(table).filter_by(study_id=old._id)
            for found in connection.execute(query).mappings().all():
                if is_wanted(row := dict(found)):
                    row.pop("id", None)
                    if table is tables.ScoreTable:
                        # its worker is none of the new study
                        row["owner"] = None
                    if table is tables.CandidateTable:
                        row["baseline"] = copies.candidates[row["key"]]
                    copy = new._connector.insert(table).values(row | {"study_id": new._id})
                    connection.execute(copy.on_conflict_do_nothing())
        changed: dict[str, Any] = {
            "taking_over": None,
            "trials": study.trials + len(copies.candidates),
        }
        if copies.latencies:
            pinned = select(study.fingerprint).where(study.id == old._id)
            changed["fingerprint"] = connection.scalar(pinned)
        connection.execute(update(study).filter_by(id=new._id).values(changed))


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
