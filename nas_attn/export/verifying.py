"""Runs an exported file on the validation images that its card names, and holds the result against what the card says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nas_attn import data
from nas_attn.data import Dataset, Split
from nas_attn.errors import OperationError, UserError, shorten
from nas_attn.evaluation.workbench import plan_for
from nas_attn.export.card import VERSION, card_paths
from nas_attn.export.checking import run_elsewhere
from nas_attn.recipe import DataSection
from nas_attn.recipe_reading import recipe_from
from nas_attn.space import parse, resolve

Run = Callable[[NDArray[Any]], NDArray[Any]]
BATCH = 64


@dataclass(frozen=True, slots=True)
class Verified:
    """What an exported file gave."""

    file: str
    format: str
    right: int
    images: int
    expected: int
    """Right when it was exported, in float32; where that was not asked, when it was trained."""
    expected_where: str
    elsewhere: bool
    """Whether it ran in a process in which nas_attn cannot be imported; `weights` do not without."""

    @property
    def accuracy(self) -> float:
        return self.right / self.images

    @property
    def agrees(self) -> bool:
        """Whether as many are right, but for one in five hundred that other arithmetic may turn."""
        return abs(self.right - self.expected) <= max(1, self.images // 500)


def verify(path: Path, *, root: str | None = None) -> Verified:
    """Scores an exported file.

    Args:
        root: where the data lies, where that is not the card's `data.root`.

    Raises:
        UserError: the file or its card is not there, or its data are not.
        OperationError: the file is not the one of the card, the images are others, or it does not run.
    """
    facts = read_card(path)
    if hashlib.sha256(path.read_bytes()).hexdigest() != facts["sha256"]:
        raise OperationError(f"'{path}' is not the file that its card describes: export it anew")
    dataset = _data(path, facts, root)
    run = _network(facts, path, dataset) if facts["format"] == "weights" else None
    with nullcontext(run) if run is not None else run_elsewhere(path, facts["format"]) as answer:
        right = count_right(answer, dataset.validation, raw=facts["input"]["normalised_inside"])
    here, training, images = facts["here"], facts["training"], len(dataset.validation)
    expected, where = right, "nothing is known of"
    if here is not None:
        expected, where = here["right"], "when it was exported, in float32"
    elif training["right"] is not None:
        expected, where = training["right"], "when it was trained"
    return Verified(path.name, facts["format"], right, images, expected, where, run is None)


def _data(path: Path, facts: Mapping[str, Any], root: str | None) -> Dataset:
    """The images that the card names."""
    section = DataSection.model_validate(facts["data"]["section"])
    if section.name == "external":
        raise UserError(f"'{path}' cannot be checked here: its images are those of the study's evaluator")
    dataset = data.load(section if root is None else section.model_copy(update={"root": root}), device="cpu")
    if dataset.digest != facts["data"]["digest"]:
        raise OperationError(
            f"the images of '{section.name}' are not those of the study (digest {dataset.digest}, "
            f"not {facts['data']['digest']}): give the folder that holds the study's as --root"
        )
    return dataset


def read_card(path: Path) -> dict[str, Any]:
    """The card of an exported file.

    Raises:
        UserError: there is none, or it is damaged.
    """
    at = card_paths(path)[1]
    if not path.is_file():
        raise UserError(f"there is no file '{shorten(str(path))}': write one with nas-attn export")
    try:
        facts = json.loads(at.read_text("utf-8"))
        known = facts["card"] == VERSION
    except OSError:
        raise UserError(f"there is no card '{at.name}' beside '{path.name}': nas-attn export writes it") from None
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise UserError(f"'{at}' is no card of this version of nas-attn export: export the network anew")
    return facts  # type: ignore[no-any-return]


def _network(facts: Mapping[str, Any], path: Path, dataset: Dataset) -> Run:
    """The network of `weights`, which are nothing without their attention's code."""
    plan = plan_for(recipe_from(facts["recipe"], where=f"the card of '{path.name}'"), dataset)
    resolved = resolve(parse(facts["placement"]), plan.sites, init=facts["init"])
    network = plan.attach(plan.bare(0), resolved, 0)
    network.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    network.eval()

    def run(x: NDArray[Any]) -> NDArray[Any]:
        with torch.no_grad():
            output: NDArray[Any] = network(torch.from_numpy(x)).numpy()
        return output

    return run


def batches(split: Split, size: int, *, raw: bool) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Images as a file takes them, and their labels, in order.

    Args:
        raw: uint8 as they lie in the data set; else normalised float32.
    """
    if raw:
        index = torch.split(torch.arange(len(split)), size)
        found = ((x, split.labels[i]) for i, x in zip(index, split.pixels.fetch(index), strict=True))
    else:
        found = ((x, y) for x, y in split.batches(size))
    yield from ((x.contiguous().numpy(), y.numpy()) for x, y in found)


def count_right(run: Run, split: Split, *, raw: bool) -> int:
    """How many images are judged rightly."""
    return sum(int(np.sum(run(x).argmax(1) == y)) for x, y in batches(split, BATCH, raw=raw))
