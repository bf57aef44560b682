"""What a study keeps of its trainings besides scores: under which names, curves, labels of the images."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from dataclasses import asdict

from nas_attn.data import Split
from nas_attn.records import EpochPoint
from nas_attn.storage import Lease, Run, StudyStore

BACKBONE = "backbone"
"""Key and purpose of the runs that train the study's own backbones."""


def backbone_name(way: str, number: int) -> str:
    """Name of a trained backbone."""
    return f"{way}/{number}"


def weights_run(name: str) -> str:
    """Where trained weights are kept: of a candidate's key as searched, or of another run's files."""
    return f"weights:{name}"


def test_way(way: str) -> str:
    """The way under which scores on the test split stand, of runs trained in another."""
    return f"{way}/test"


def keep_curve(store: StudyStore, run: Run, lease: Lease) -> Callable[[EpochPoint], None]:
    """What notes each point of a run's curve; a curve that was begun is continued.

    Points of later epochs, from before a run went back to its checkpoint, are dropped. It raises `LeaseLost` where another worker
    has taken the run over.
    """
    text = store.curves.get(run.files)
    points = [] if text is None else [EpochPoint(**point) for point in json.loads(text)]

    def add(point: EpochPoint) -> None:
        points[:] = [*(p for p in points if p.epochs < point.epochs), point]
        store.renew(lease)
        store.curves.put(run.files, json.dumps([asdict(p) for p in points]))

    return add


def keep_labels(store: StudyStore, way: str, split: Split, classes: tuple[str, ...]) -> None:
    """Notes the labels of the images that scores of this way are of, unless they are there.

    Args:
        way: the way of training under which the scores stand.
    """
    if store.labels.get(way) is not None:
        return
    packed = zlib.compress(split.labels.to("cpu").numpy().astype("<i4").tobytes())
    text = json.dumps({"classes": list(classes), "labels": base64.b64encode(packed).decode()})
    store.labels.put(way, text)
