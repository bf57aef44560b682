"""Whether an exported file agrees with its network, and with its card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nas_attn.data.dataset import Dataset
from nas_attn.errors import NasAttnError, OperationError, UserError, shorten
from nas_attn.export.card import in_folder, read_card, resolved_of
from nas_attn.export.formats import FORMATS, Graph, Run, answers_of, running
from nas_attn.latency.runtime_files import open_onnx
from nas_attn.model.runs import which_are_right
from nas_attn.recipe.reading import frozen_recipe
from nas_attn.recipe.recipe import DataSection
from nas_attn.recipe.tables import is_share
from nas_attn.training.plan import plan_for
from nas_attn.training.tasks.data import reading_of

SLACK = 1 / 500
"""Share of the images whose result may differ by rounding."""
ROUNDING_OF_OUTPUTS = 1e-3
"""Largest difference of outputs, as a share of the largest output, that rounding may cause."""
# images that a file is given at a time
BATCH = 64


def scored(
    run: Run, dataset: Dataset, *, stored: bool, batch: int = BATCH
) -> tuple[float, int | None]:
    """A file's metric on the validation images, and how many of them are right.

    Args:
        run: images in, outputs out.
        stored: the file takes images in uint8, as in the data set.
        batch: the number of images at a time.

    Returns:
        The metric of the data set's task, and the number; None if an image is neither right nor
        wrong.
    """
    tally = answers_of(dataset.task).judged(run, dataset, stored=stored, batch=batch)
    value = tally.metrics(0.0)[dataset.task.metric]
    bits = tally.right()
    if bits is None:
        return value, None
    return value, int(which_are_right(bits, len(dataset.validation)).sum())


def check_onnx(path: Path, graph: Graph, images: Iterable[torch.Tensor]) -> dict[str, Any] | None:
    """Compares an ONNX file with its network.

    Args:
        path: the file.
        graph: the network that was written.
        images: batches of them.

    Returns:
        `difference`: `Graph.worst` of their outputs (None: no image had a box), and `version`: ONNX
        Runtime's. None: it is not installed.

    Raises:
        OperationError: they differ by more than rounding explains.
    """
    try:
        import onnxruntime
    except ImportError:
        return None
    session = open_onnx(path)
    name = session.get_inputs()[0].name
    found = []
    with torch.no_grad():
        for x in images:
            # after a detector's boxes, those of masks follow
            output, *_ = session.run(None, {name: x.numpy()})
            found.append(graph.differences(torch.from_numpy(output), graph(x), x))
    worst = graph.worst(torch.cat(found))
    if worst is not None and not worst <= ROUNDING_OF_OUTPUTS:
        raise OperationError(
            f"'{path.name}' does not compute the same as the network (outputs differ by"
            f" {100 * worst:.2g} % of the largest): export another format"
        )
    return {"difference": worst, "version": onnxruntime.__version__}


@dataclass(frozen=True, slots=True)
class Verified:
    """The score of an exported file, and the expected one."""

    file: str
    format: str
    metric: str
    value: float
    right: int | None
    """Number of correct images; None if an image is neither right nor wrong."""
    images: int
    expected: float
    """The card's number of correct images, or its metric if `right` is None; `expected_where`: the
    time of that score.
    """
    expected_where: str
    rewritten: bool
    """Whether another program, an ONNX simplifier, has written the file since its export."""

    @property
    def agrees(self) -> bool:
        """Whether the score agrees with the card, up to rounding: one image in 500, or as much of a
        metric.
        """
        if self.right is None:
            # what is no share has a unit of its own
            whole = 1.0 if is_share(self.metric) else abs(self.expected)
            return abs(self.value - self.expected) <= SLACK * whole
        return abs(self.right - self.expected) <= max(1, self.images * SLACK)


def verify(path: Path, *, root: str | None = None) -> Verified:
    """Scores an exported file. `root`: the data's folder, if it is not the card's `data.root`.

    Raises:
        UserError: the file, its card or its data are missing.
        OperationError: the file or the images are not those of the card, or the file does not run.
    """
    facts = read_card(path)
    try:
        return _verified(path, facts, root)
    except NasAttnError:
        raise
    except Exception as error:
        # a damaged card or damaged weights may raise anything
        reason = shorten(f"{type(error).__name__}: {error}", 160)
        raise UserError(
            f"'{path}' or its card is damaged ({reason}): export the network again"
        ) from error


def _verified(path: Path, facts: Mapping[str, Any], root: str | None) -> Verified:
    rewritten = hashlib.sha256(path.read_bytes()).hexdigest() != facts["sha256"]
    if rewritten and not _names_its_network(path, facts):
        raise OperationError(f"'{path}' is not the file that its card describes: export it again")
    dataset = _data(path, facts, root)
    open_file = FORMATS[facts["format"]].open
    run = open_file(path) if open_file else _network(facts, path, dataset)
    value, right = scored(run, dataset, stored=facts["input"]["normalised_inside"])
    metric = dataset.task.metric
    expected, where = _expected(facts, metric, per_image=right is not None)
    # nothing to differ from
    if expected is None:
        expected = value if right is None else right
    elif not isinstance(expected, int | float):
        raise TypeError(f"{expected!r} is not a number")
    images = len(dataset.validation)
    return Verified(
        path.name,
        facts["format"],
        metric,
        value,
        right,
        images,
        expected,
        where,
        rewritten,
    )


def _names_its_network(path: Path, facts: Mapping[str, Any]) -> bool:
    """Whether an ONNX file that is not as it was exported still names the card's network: programs
    that simplify a graph keep what it says of itself. How it scores shows whether it is the same.
    """
    # it is no ONNX file, or ONNX Runtime is not installed
    with suppress(Exception):
        notes = open_onnx(path).get_modelmeta().custom_metadata_map
        return all(notes.get(name) == facts[name] for name in ("study", "key", "placement"))
    return False


def _expected(
    facts: Mapping[str, Any], metric: str, *, per_image: bool
) -> tuple[float | None, str]:
    """The score in the card, and when it was computed; None if the card has none."""
    name = "right" if per_image else "value"
    here = facts["here"]
    if here is not None and "in_file" in here:
        return here["in_file"][name], "when it was exported, in int8"
    if here is not None:
        return here[name], "when it was exported, in float32"
    training = facts["training"]
    expected = training["right"] if per_image else training["metrics"].get(metric)
    return expected, "the card has no score" if expected is None else "when it was trained"


def _data(path: Path, facts: Mapping[str, Any], root: str | None) -> Dataset:
    """The images that the card names."""
    of_card = facts["data"]
    section = DataSection.stored(of_card["section"])
    if root is not None:
        section = in_folder(section, root)
    recipe = frozen_recipe(json.dumps(facts["recipe"]), where=f"the card of '{path.name}'")
    recipe = recipe.model_copy(update={"data": section})
    dataset = reading_of(recipe).load(recipe, device="cpu")
    if dataset is None:
        raise UserError(
            f"'{path}' cannot be checked here: the study's evaluator or trainer reads the images"
            " itself"
        )
    kept = of_card["images"]
    if kept is not None and dataset.manifest is not None and dataset.manifest.digest != kept:
        raise OperationError(
            f"the images of '{section.name}' are not those of the card: name the study's folder as"
            " root, or put them back as they were"
        )
    # None: one division
    seed = of_card["divided_by_seed"]
    if seed is not None:
        dataset = dataset.of_seed(seed)
    if dataset.digest != of_card["digest"]:
        raise OperationError(
            f"the images of '{section.name}' are not those of the study (digest {dataset.digest}, "
            f"not {of_card['digest']}): name the study's folder as root"
        )
    return dataset


def _network(facts: Mapping[str, Any], path: Path, dataset: Dataset) -> Run:
    """The network of a file in the format `weights`, which needs nas_attn's code."""
    recipe = frozen_recipe(json.dumps(facts["recipe"]), where=f"the card of '{path.name}'")
    # of the run that gave the weights
    backbone = recipe.backbone.model_copy(update={"norms": facts["backbone"]["norms"]})
    plan = plan_for(recipe.model_copy(update={"backbone": backbone}), dataset)
    network = plan.network(resolved_of(facts), 0)
    network.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    return running(answers_of(dataset.task).computing(network.eval(), dataset))
