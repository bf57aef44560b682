"""Reads a study from its database, and writes its validations. Only this module reads the tables
for the analysis.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from nas_attn.answer.answer import Answer, answer_of
from nas_attn.answer.assembling import snapshot_of
from nas_attn.answer.cautions import Constant, constants
from nas_attn.answer.facts import Retrained, StudyFacts
from nas_attn.answer.fronts import primary_metric
from nas_attn.answer.pair_tests import Family, TestedNetwork, finished_blocks
from nas_attn.answer.per_image import Mistakes
from nas_attn.answer.per_image import mistakes as found_mistakes
from nas_attn.answer.rate import RATES
from nas_attn.answer.snapshot import Snapshot
from nas_attn.data.inventory import StudyImages
from nas_attn.errors import NasAttnError, StorageError, shorten
from nas_attn.model.features import BackboneStage, BuiltFor
from nas_attn.recipe import tasks
from nas_attn.recipe.purposes import (
    CONFIRM,
    RETRAIN,
    ROUND,
    SEARCH,
    TARGET_PROTOCOL,
    TEST_PROTOCOL,
    divided_seed,
    is_length,
    length_epochs,
    length_protocol,
)
from nas_attn.recipe.reading import frozen_recipe
from nas_attn.recipe.recipe import Recipe, objective_name
from nas_attn.recipe.tables import METRICS, share_of_images
from nas_attn.space.notation import parse
from nas_attn.storage.labels import Labels, ValidationLabels
from nas_attn.storage.records import EpochPoint, Score
from nas_attn.storage.store import StudyStore

# bytes of a study's labels, unpacked: a few MB in a large study
MOST_LABELS = 2**26


def snapshot(store: StudyStore) -> Snapshot:
    """The study as of now; also of an empty or half-finished study."""
    return snapshot_of(read(store))


def answer(store: StudyStore) -> Answer:
    """The answer of a study as of now; `.now` is its snapshot."""
    return answer_of(snapshot(store))


def searched_snapshot(store: StudyStore) -> Snapshot:
    """The study as if nothing had been trained for a test or for use: what a search may choose by.

    So a search that is resumed after a test proposes what it would have proposed without.
    """
    return snapshot_of(replace(read(store), families=(), target_scores=(), test_scores=()))


def read(store: StudyStore) -> StudyFacts:
    """The study as its database holds it; StorageError if a document in it is damaged."""
    try:
        recipe = frozen_recipe(store.recipe, where=f"study '{store.name}'")
        scores = partial(store.scores, with_correct=True, with_answers=_needs_answers(recipe))
        return StudyFacts(
            study=store.name,
            created_at=store.created_at,
            recipe=recipe,
            versions=store.versions,
            planned=store.settings.trials,
            exhausted=store.settings.exhausted_at is not None,
            waiting=len(store.queue.rows(state="waiting", purposes=(CONFIRM, ROUND))),
            candidates=store.candidates(),
            scores=scores(protocol=SEARCH),
            sessions=store.sessions(),
            sessions_elsewhere=store.sessions(elsewhere=True),
            built=_built_for(store),
            labels={
                p: _labels(text)
                for p in (SEARCH, TEST_PROTOCOL)
                if (text := store.labels.get(p)) is not None
            },
            divisions=_divisions(store, recipe),
            families=families(store),
            ended=_ended(store),
            target_scores=scores(protocol=TARGET_PROTOCOL),
            test_scores=scores(protocol=TEST_PROTOCOL),
            length_scores=[
                stored
                for name in store.protocols.all()
                if is_length(name, recipe.training.rate_factor)
                for stored in scores(protocol=name)
            ],
            test_readings=tuple(store.test_readings()),
            retrained=tuple(_retrained(store)),
            images=_images(store),
            rates=rate_runs(store),
            workers=store.workers.at_once(),
        )
    except NasAttnError:
        raise
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
        zlib.error,
    ) as error:
        reason = shorten(f"{type(error).__name__}: {error}", 120)
        what = f"study '{store.name}' cannot be read ({reason})"
        raise StorageError(f"{what}: restore the database from a backup") from error


def rate_runs(store: StudyStore) -> dict[float, dict[int, Score]]:
    """Times the usual rate -> seed -> the bare backbone's score, at the length at which a study
    compares rates; empty: it compares none.
    """
    lengths = [length_epochs(name) for name in store.protocols.all() if not is_length(name)]
    compared = [epochs for epochs in lengths if epochs is not None]
    if not compared:
        return {}
    names = {rate: length_protocol(min(compared), rate) for rate in RATES}
    return {
        rate: {
            stored.score.seed: stored.score
            for stored in store.scores(protocol=name, with_correct=True, with_answers=True)
        }
        for rate, name in names.items()
    }


def validation_labels(store: StudyStore, recipe: Recipe) -> ValidationLabels:
    """The labels of a study's validation images, as far as they are kept."""
    text = store.labels.get(SEARCH)
    first = None if text is None else _labels(text)
    return ValidationLabels(first, _divisions(store, recipe))


def _divisions(store: StudyStore, recipe: Recipe) -> dict[int, Labels]:
    """Seed -> the images that its own division took for validation; empty where there is one
    division.
    """
    if not recipe.data.resplit:
        return {}
    texts = {divided_seed(name): text for name, text in store.labels.all().items()}
    return {seed: _labels(text) for seed, text in texts.items() if seed is not None}


def _images(store: StudyStore) -> StudyImages | None:
    """What the images were when the study began; None if nothing was kept."""
    text = store.images.get("inventory")
    if text is None:
        return None
    return TypeAdapter(StudyImages).validate_json(text)


def _needs_answers(recipe: Recipe) -> bool:
    """Whether an objective needs the class that each image was taken for."""
    rows = [METRICS.get(objective_name(objective)) for objective in recipe.objectives]
    return any(row is not None and row.needs_answers for row in rows)


def mistakes(store: StudyStore, answer: Answer) -> Mistakes | None:
    """Mistakes of the recommended network, the bare backbone and the runner-up; None if they were
    not kept, or are damaged.
    """
    now = answer.now
    keys = answer.compared_keys
    text = store.labels.get(SEARCH)
    last = now.recipe.training.last_rung
    if len(keys) < 2 or text is None:
        return None
    scores = {}
    for key in keys:
        stored = store.scores(key, protocol=SEARCH, with_correct=True, with_answers=True)
        scores[key] = [row.score for row in stored if row.score.rung == last]
    task = tasks.of(now.recipe)
    what = share_of_images() if task.per_image else task.metric
    try:
        return found_mistakes(_labels(text), scores, what, _divisions(store, now.recipe))
    except StorageError:
        return None


def families(store: StudyStore) -> list[Family]:
    """The validations that were begun, the oldest first."""
    # a stroke is in the names of tests of a former target
    return [_family(text) for name, text in store.validations.all().items() if "/" not in name]


def keep_family(store: StudyStore, family: Family) -> None:
    """Writes a validation down, once."""
    name = f"{family.number:04d}"
    plain = asdict(family)
    for network, member in zip(plain["networks"], family.networks, strict=True):
        network["placement"] = str(member.placement)
    if store.validations.get(name) is None:
        store.validations.put(name, json.dumps(plain))


def _family(text: str) -> Family:
    plain = json.loads(text)
    # of a test that a former clock could end
    plain.pop("planned", None)
    networks = tuple(
        TestedNetwork(n["key"], parse(n["placement"]), n["role"]) for n in plain.pop("networks")
    )
    comparisons = tuple((key, control) for key, control in plain.pop("comparisons"))
    return Family(networks=networks, comparisons=comparisons, **plain)


def unfinished(store: StudyStore) -> list[Family]:
    """The validations that have begun and not ended."""
    return [family for family in families(store) if blocks_done(store, family) < family.blocks]


def blocks_done(store: StudyStore, family: Family) -> int:
    """Blocks from the first on whose runs have all ended."""
    return finished_blocks(family, _ended(store))


def constants_now(store: StudyStore, recipe: Recipe) -> list[Constant]:
    """The metrics that are the same for all candidates so far."""
    scored = {row.key for row in store.candidates() if row.state == "scored"}
    runs: dict[str, list[Mapping[str, float]]] = defaultdict(list)
    for stored in store.scores(protocol=SEARCH, rung=recipe.training.last_rung):
        if stored.key in scored:
            runs[stored.key].append(stored.score.metrics)
    seen = {name for scores in runs.values() for score in scores for name in score}
    return constants(recipe, primary_metric(recipe, seen), runs)


def _ended(store: StudyStore) -> Collection[tuple[str, int]]:
    return {
        (row.run.key, row.run.seed)
        for row in store.queue.rows(protocol=TARGET_PROTOCOL)
        if row.state in ("done", "failed")
    }


def _built_for(store: StudyStore) -> BuiltFor | None:
    if store.sites is None:
        return None
    content = json.loads(store.sites)
    channels, height, width = content["input_shape"]
    stages = tuple(
        BackboneStage(site["name"], site.get("role", "backbone"))
        for site in content["sites"]
        if "." not in site["name"]
    )
    return BuiltFor((channels, height, width), content["classes"], stages)


def _labels(text: str) -> Labels:
    content = json.loads(text)
    classes = tuple(content["classes"])
    numbers = _unpacked(content["labels"])
    if "images" not in content:
        return Labels(classes, numbers)
    images = _unpacked(content["images"]).astype(np.int64)
    return Labels(classes, numbers, images, content["divided"])


def _unpacked(text: str) -> NDArray[np.int32]:
    packed = zlib.decompressobj()
    numbers = np.frombuffer(packed.decompress(base64.b64decode(text), MOST_LABELS), "<i4")
    if packed.unconsumed_tail:
        raise StorageError(
            "the labels of the images in the study's database are damaged: restore it from a backup"
        )
    return numbers


def _retrained(store: StudyStore) -> list[Retrained]:
    rows = sorted(store.queue.rows(purposes=[RETRAIN]), key=lambda row: row.id)
    if not rows:
        return []
    curves = store.curves.all()
    metrics = {}
    for stored in store.scores():
        at = (stored.key, stored.protocol, stored.score.seed, stored.backbone)
        metrics[at] = stored.score.metrics
    retrained = []
    for row in rows:
        run = row.run
        points = json.loads(curves.get(run.files, "[]"))
        retrained.append(
            Retrained(
                key=run.key,
                placement=run.placement,
                protocol=run.protocol,
                seed=run.seed,
                state=row.state,
                reason=row.reason,
                curve=tuple(EpochPoint(**point) for point in points),
                metrics=metrics.get((run.key, run.protocol, run.seed, run.backbone)),
            )
        )
    return retrained
