"""Pictures of a study, drawn once and kept among its artifacts, since drawing loads torch and the
data.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from nas_attn.answer.per_image import Picture
from nas_attn.answer.snapshot import CandidateView
from nas_attn.storage.artifacts import OnlyOne, only_artifact, weights_run
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.rows import Run

# image's number -> its pictures
Album = Mapping[int, Sequence[Picture]]
# another number draws anew what is kept
EDITION = 1


@dataclass(frozen=True, slots=True)
class PicturedNetwork:
    """A network whose weights are here, to be drawn from."""

    # in the report: `recommended`, `bare`
    name: str
    view: CandidateView
    # the training that gave the weights; None: the search's
    run: Run | None

    @property
    def weights(self) -> str:
        """The name under which its weights are kept."""
        return weights_run(self.view.key if self.run is None else self.run.files)


def kept_or_drawn(
    opened: OpenStudy, content: OnlyOne, shows: object, draw: Callable[[], Album] | None
) -> Album:
    """Reads a study's pictures, or draws and keeps them.

    Args:
        opened: the study.
        content: name of the album.
        shows: all that decides what is drawn; its `repr` is compared.
        draw: draws the pictures; None: they are not drawn.

    Returns:
        The pictures; empty if none are kept and none are drawn.
    """
    name = only_artifact(opened.store, content)
    digest = hashlib.sha256(repr((EDITION, shows)).encode()).hexdigest()
    # none are kept, or others; each artifact store has its own exceptions
    with suppress(Exception), opened.artifacts.open_reader(name) as reader:
        kept = json.load(reader)
        if kept["shows"] == digest:
            return {
                int(number): tuple(
                    Picture(base64.b64decode(one["png"], validate=True), str(one["label"]))
                    for one in row
                )
                for number, row in kept["pictures"].items()
            }
    if draw is None:
        return {}
    drawn = draw()
    pictures = {
        number: [{"png": base64.b64encode(one.png).decode(), "label": one.label} for one in row]
        for number, row in drawn.items()
    }
    # what cannot be kept is drawn again the next time, and nothing else is missing
    with suppress(Exception):
        if opened.local_artifacts is not None:
            # a database may have come without it
            opened.make_folder()
        text = json.dumps({"shows": digest, "pictures": pictures})
        opened.artifacts.write(name, io.BytesIO(text.encode()))
    return drawn
