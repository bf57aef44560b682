"""Where the recommended network's attention is strong on a few validation images, as the report
shows it.
"""

from __future__ import annotations

from collections.abc import Container
from contextlib import suppress
from typing import Any

from nas_attn.answer.answer import Answer
from nas_attn.answer.snapshot import CandidateView
from nas_attn.errors import NasAttnError
from nas_attn.recipe import tasks
from nas_attn.recipe.purposes import SEARCH
from nas_attn.recipe.task import EXTERNAL
from nas_attn.report.album import Album, PicturedNetwork, kept_or_drawn
from nas_attn.report.mistakes import ShownImage, data_url
from nas_attn.storage.artifacts import kept_runs, weights_run
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.rows import Run
from nas_attn.storage.store import StudyStore

# labels of images whose network has one map of scores
MAPPED = ("classes", "tags", "numbers")


def attention_maps(opened: OpenStudy, answer: Answer, *, draws: bool = True) -> Album | str:
    """Finds where the recommended network's attention is strong, beside the class activation maps
    of this network and of the bare one.

    Args:
        opened: the study.
        answer: as of now.
        draws: whether they are drawn if the study keeps none.

    Returns:
        The pictures, empty where there is nothing to show; or a sentence: why there are none that a
        reader can have.
    """
    now = answer.now
    taken = now.find(answer.taken_key or "")
    mapped = tasks.of(now.recipe).labels in MAPPED and now.recipe.data.name != EXTERNAL
    if taken is None or not taken.attends or not mapped:
        return {}
    weights = _weights(opened)
    networks = _trained(opened.store, taken, now.bare, weights)
    if not networks:
        return (
            f"Its weights are not here: after `nas-attn retrain {now.study}` the next report shows"
            " where its attention is strong."
        )
    shows = [(network.weights, weights[network.weights]) for network in networks]

    def draw() -> Album:
        from nas_attn.report.heat import drawn_maps

        return drawn_maps(opened, networks)

    try:
        return kept_or_drawn(opened, "maps", shows, draw if draws else None)
    except NasAttnError as error:
        return f"No maps of attention could be drawn here: {error}."


def _weights(opened: OpenStudy) -> dict[str, str]:
    """Name of the weights whose file is here -> their hash. A database may have come without
    files.
    """
    there = set()
    # each artifact store has its own exceptions
    with suppress(Exception):
        there = {artifact.name for artifact in opened.artifacts.stored()}
    kept = opened.store.all_checkpoints().items()
    return {name: rows[0].sha256 for name, rows in kept if rows[0].artifact in there}


def _trained(
    store: StudyStore,
    taken: CandidateView,
    bare: CandidateView | None,
    weights: Container[str],
) -> list[PicturedNetwork]:
    """The bare network and the recommended one, of equal trainings where the weights of both are
    here.
    """
    of_taken = _trainings(store, taken, weights)
    of_bare = {} if bare is None else _trainings(store, bare, weights)
    how = next((how for how in of_taken if how in of_bare), next(iter(of_taken), None))
    if how is None:
        return []
    networks = [PicturedNetwork("recommended", taken, of_taken[how])]
    if bare is not None and how in of_bare:
        networks.insert(0, PicturedNetwork("bare", bare, of_bare[how]))
    return networks


def _trainings(
    store: StudyStore, view: CandidateView, weights: Container[str]
) -> dict[tuple[str, int], Run | None]:
    """(protocol, seed) -> the training whose weights are here, the search's last."""
    found: dict[tuple[str, int], Run | None] = {
        (run.protocol, run.seed): run
        for run in kept_runs(store, view.key)
        if weights_run(run.files) in weights
    }
    if weights_run(view.key) in weights:
        found[SEARCH, 0] = None
    return found


def maps_parts(maps: Album | str) -> dict[str, Any] | None:
    """What `templates/maps.html` shows of them."""
    if not maps:
        return None
    if isinstance(maps, str):
        return {"missing": maps, "images": []}
    images = [
        [
            ShownImage(
                data_url(one.png),
                f"Image {number}: {', '.join(one.label.splitlines())}",
                one.label.splitlines(),
            )
            for one in row
        ]
        for number, row in maps.items()
    ]
    return {"missing": "", "images": images}
