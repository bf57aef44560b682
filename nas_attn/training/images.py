"""The images of a study: what they are is kept at their first use, and compared at each later one.

Runs on different images cannot be compared: an image more in a folder is another split, and one
that was rewritten another task.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from nas_attn.data.dataset import Dataset, Split
from nas_attn.data.inventory import Division, StudyImages
from nas_attn.data.manifest import Manifest
from nas_attn.errors import DataError
from nas_attn.recipe.recipe import DataSection, Recipe
from nas_attn.recipe.task import EXTERNAL
from nas_attn.storage.store import StudyStore
from nas_attn.training.tasks.data import reading_of

# name under which a study keeps it
INVENTORY = "inventory"
# end of the name under which the test images are kept
TEST = " test"


class ImagesChanged(DataError):
    """The images are not those of the study."""


@dataclass(frozen=True, slots=True)
class KnownImages:
    """What a study knows of its images."""

    # None: nothing is known
    digest: str | None
    # why a change of them cannot be noticed: an `evaluator` or a `trainer` reads them, or not all
    # of it, since each reading gives others (`content`); empty: it is
    unknown: str
    # all images, for what differs; None: nothing is known
    manifest: str | None = field(default=None, repr=False, compare=False)

    def unchecked(self, data: str) -> str:
        """Returns why a change of the images may not be noticed, in a sentence; `data`: their
        name.
        """
        if self.unknown == "content":
            return (
                "whether the images change is checked by their number and labels only, since"
                f" '{data}' gives others at each reading"
            )
        who = "the evaluator" if self.unknown == "evaluator" else "the task's trainer"
        return f"whether the images change cannot be checked, since {who} reads them itself"


def keep_or_compare(store: StudyStore, recipe: Recipe, dataset: Dataset | None) -> KnownImages:
    """Keeps what the images of training and validation are, if the study does not know them yet.
    Raises ImagesChanged: it knows others.
    """
    manifest = None if dataset is None else dataset.manifest
    return _compared(store, recipe, _key(recipe.data), manifest)


def compare(store: StudyStore, recipe: Recipe, dataset: Dataset | None) -> None:
    """Only compares: writes nothing, for commands that read a study. Raises ImagesChanged."""
    if dataset is not None and store.images.get(_key(recipe.data)) is not None:
        keep_or_compare(store, recipe, dataset)


def keep_inventory(store: StudyStore, recipe: Recipe, dataset: Dataset | None) -> None:
    """Keeps what the images of a new study are, for its report: splits, classes, what is left out,
    whether each seed divides them anew. Data that are no images of the user's have none.
    """
    if store.images.get(INVENTORY) is not None or store.scores():
        return
    # what is wrong with them is told by who reads them
    with suppress(DataError):
        data = reading_of(recipe)
        inventory = data.inventory(data.section(recipe))
        if inventory is not None:
            division = None
            if dataset is not None and dataset.divide is not None:
                division = Division(len(dataset.train), len(dataset.validation))
            images = StudyImages(inventory, division)
            content = TypeAdapter(StudyImages).dump_python(images, mode="json")
            store.images.put_once(INVENTORY, json.dumps(content))


def keep_or_compare_test(
    store: StudyStore, recipe: Recipe, classes: Sequence[str], split: Split
) -> None:
    """Keeps what the test images are, or compares them, at each reading.

    Args:
        store: the study.
        recipe: its recipe, whose `[data]` the images are kept under.
        classes: names of the classes.
        split: the test split; one without a listing cannot be compared.

    Raises:
        ImagesChanged: the study knows other test images.
    """
    if split.listing is None:
        return
    manifest = Manifest(tuple(classes), {"test": split.listing})
    _compared(store, recipe, _key(recipe.data) + TEST, manifest)


def known_images(store: StudyStore, recipe: Recipe) -> KnownImages | None:
    """What a study knows of its images; None: no command has read them since this is recorded."""
    kept = store.images.get(_key(recipe.data))
    return None if kept is None else KnownImages(**json.loads(kept))


def _compared(
    store: StudyStore, recipe: Recipe, name: str, manifest: Manifest | None
) -> KnownImages:
    content: dict[str, str | None] = {"digest": None, "unknown": "trainer", "manifest": None}
    if manifest is not None:
        unknown = "" if manifest.has_content else "content"
        content = {"digest": manifest.digest, "unknown": unknown, "manifest": manifest.text}
    elif recipe.data.name == EXTERNAL:
        content["unknown"] = "evaluator"
    kept = store.images.get(name) or store.images.put_once(name, json.dumps(content))
    known = KnownImages(**json.loads(kept))
    if manifest is None or known.manifest is None or known.digest == manifest.digest:
        return known
    test = "test " if name.endswith(TEST) else ""
    changes = manifest.described_changes(known.manifest)
    raise ImagesChanged(
        f"the {test}images of '{recipe.data.name}' are not those of study '{store.name}':"
        f" {changes}; its results on both could not be compared, so put them back as they"
        " were, or begin a new study (another --name)"
    )


def _key(section: DataSection) -> str:
    """Name of the images of a recipe: equal for all places and ways of reading them."""
    # studies from before say nothing of the last two; how seeds divide the images anew changes
    # none of them
    reading = {"workers", "root", "resplit"}
    how = section.model_dump(mode="json", exclude=reading, exclude_defaults=True)
    return hashlib.blake2b(json.dumps(how, sort_keys=True).encode(), digest_size=8).hexdigest()
