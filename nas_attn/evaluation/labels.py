"""The labels behind a study's results per image, kept once, so that accuracy can be told class by class."""

from __future__ import annotations

import base64
import json
import zlib

from nas_attn.data import Split
from nas_attn.storage import StudyStore


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
