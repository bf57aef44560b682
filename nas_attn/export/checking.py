"""Whether an exported file computes what the network did, and scores what its card says."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nas_attn import tasks
from nas_attn.data import Dataset
from nas_attn.errors import NasAttnError, OperationError, UserError, shorten
from nas_attn.evaluation.plan import plan_for
from nas_attn.export import scoring
from nas_attn.export.card import VERSION, card_paths, resolved_of
from nas_attn.export.formats import Graph
from nas_attn.recipe import DataSection
from nas_attn.recipe_reading import recipe_from

Run = Callable[[NDArray[Any]], NDArray[Any]]
BATCH = 64
DAMAGED = (OSError, LookupError, TypeError, ValueError, AttributeError, RuntimeError, EOFError, pickle.UnpicklingError)
"""What a card or weights that are not as they were written may raise."""
SLACK = 1 / 500
"""Share that other arithmetic may turn."""
CLOSE = 1e-3
"""Largest difference of outputs, as a share of the largest output, that is put down to other arithmetic."""


@contextmanager
def run_elsewhere(path: Path, format_: str) -> Iterator[Run]:
    """An exported file in a process in which nas_attn cannot be imported: batches in, answers out.

    What it yields raises OperationError where the process ends instead, and says with what.
    """
    with tempfile.TemporaryDirectory(prefix="nas_attn-") as folder:
        complaint = Path(folder) / "stderr"
        with complaint.open("wb") as errors:
            # As text, so that the folder of this package is not on the path, but the working folder is.
            program = Path(scoring.__file__).read_text("utf-8")
            command = [sys.executable, "-c", program, "--stream", format_, str(path.resolve())]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        source, target = process.stdout, process.stdin
        assert source is not None
        assert target is not None

        def run(x: NDArray[Any]) -> NDArray[Any]:
            with suppress(OSError, ValueError):
                scoring.send(target, x)
                if (answer := scoring.receive(source)) is not None:
                    return answer
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            said = complaint.read_text("utf-8", errors="replace").strip().splitlines()
            reason = shorten(said[-1]) if said else "it ended without output"
            raise OperationError(f"the exported file does not run in a process of its own: {reason}")

        try:
            yield run
        finally:
            source.close()
            with suppress(OSError):
                target.close()
            process.kill()
            process.wait()


@dataclass(frozen=True, slots=True)
class OnnxCheck:
    """An ONNX file beside the network that it was made from."""

    difference: float | None
    """As `Graph.worst` says; None where no image had a box."""
    version: str
    """Of ONNX Runtime."""


def check_onnx(path: Path, graph: Graph, images: Iterable[torch.Tensor]) -> OnnxCheck | None:
    """Compares an ONNX file with its network on these batches; None where ONNX Runtime is not installed;
    OperationError where they differ by more than other arithmetic can explain."""
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    with torch.no_grad():
        differences = [
            graph.differences(torch.from_numpy(session.run(None, {name: x.numpy()})[0]), graph(x), x) for x in images
        ]
    worst = graph.worst(torch.cat(differences))
    if worst is not None and not worst <= CLOSE:
        raise OperationError(
            f"'{path.name}' does not compute the same as the network: outputs differ by {100 * worst:.2g} % of the largest"
        )
    return OnnxCheck(worst, onnxruntime.__version__)


@dataclass(frozen=True, slots=True)
class Verified:
    """What an exported file gave."""

    file: str
    format: str
    metric: str
    """The task's own."""
    value: float
    right: int | None
    """Images that are judged rightly; None where an image is neither right nor wrong."""
    images: int
    expected: float
    """Right, or where that is None the metric, when it was exported, in float32; where that was not asked, when it was trained."""
    expected_where: str
    elsewhere: bool
    """Whether it ran in a process in which nas_attn cannot be imported; `weights` do not without."""

    @property
    def agrees(self) -> bool:
        """Whether as many are right, but for one in five hundred that other arithmetic may turn; a metric, as near as that."""
        if self.right is None:
            return abs(self.value - self.expected) <= SLACK
        return abs(self.right - self.expected) <= max(1, self.images * SLACK)


def verify(path: Path, *, root: str | None = None) -> Verified:
    """Scores an exported file; `root` is where the data lies now, where that is not the card's `data.root`.

    Raises:
        UserError: the file or its card is not there, or its data are not.
        OperationError: the file is not the one of the card, the images are others, or it does not run.
    """
    facts = read_card(path)
    try:
        return _verified(path, facts, root)
    except NasAttnError:
        raise
    except DAMAGED as error:
        said = shorten(f"{type(error).__name__}: {error}", 160)
        raise UserError(f"'{path}' or its card is damaged ({said}): export the network again") from error


def _verified(path: Path, facts: Mapping[str, Any], root: str | None) -> Verified:
    if hashlib.sha256(path.read_bytes()).hexdigest() != facts["sha256"]:
        raise OperationError(f"'{path}' is not the file that its card describes: export it again")
    dataset = _data(path, facts, root)
    run = _network(facts, path, dataset) if facts["format"] == "weights" else None
    with nullcontext(run) if run is not None else run_elsewhere(path, facts["format"]) as answer:
        tally = dataset.task.answers.judged(answer, dataset, stored=facts["input"]["normalised_inside"], batch=BATCH)
    metric, bits, images = dataset.task.metric, tally.right(), len(dataset.validation)
    value = tally.metrics(0.0)[metric]
    right = None if bits is None else int(np.unpackbits(np.frombuffer(bits, np.uint8), count=images).sum())
    expected, where = _expected(facts, metric, right is not None)
    if expected is None:  # nothing to differ from
        expected = value if right is None else right
    return Verified(path.name, facts["format"], metric, value, right, images, expected, where, run is None)


def _expected(facts: Mapping[str, Any], metric: str, per_image: bool) -> tuple[float | None, str]:
    """What the card says that comes out, and of when; None where it says nothing."""
    here, training = facts["here"], facts["training"]
    if here is not None and "in_file" in here:
        return here["in_file"]["right" if per_image else "value"], "when it was exported, in int8"
    if here is not None:
        return here["right" if per_image else "value"], "when it was exported, in float32"
    known = training["right"] if per_image else training["metrics"].get(metric)
    return known, "nothing is known of" if known is None else "when it was trained"


def _data(path: Path, facts: Mapping[str, Any], root: str | None) -> Dataset:
    """The images that the card names."""
    section = DataSection.model_validate(facts["data"]["section"])
    section = section if root is None else section.model_copy(update={"root": root})
    recipe = recipe_from(facts["recipe"], where=f"the card of '{path.name}'").model_copy(update={"data": section})
    dataset = tasks.of(recipe).load(recipe, device="cpu")
    if dataset is None:
        raise UserError(f"'{path}' cannot be checked here: the study's evaluator or trainer reads the images itself")
    if dataset.digest != facts["data"]["digest"]:
        raise OperationError(
            f"the images of '{section.name}' are not those of the study (digest {dataset.digest}, "
            f"not {facts['data']['digest']}): name the folder that holds the study's as root"
        )
    return dataset


def read_card(path: Path) -> dict[str, Any]:
    """The card of an exported file; UserError where there is none, or it is damaged."""
    at = card_paths(path)[1]
    if not path.is_file():
        raise UserError(f"there is no file '{shorten(str(path))}': write one with nas-attn export")
    try:
        facts = json.loads(at.read_text("utf-8"))
        known = facts["card"] == VERSION
    except OSError:
        raise UserError(f"there is no card '{at.name}' next to '{path.name}': nas-attn export writes it") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        known = False
    if not known:
        raise UserError(f"'{at}' is not a card of this version of nas-attn: export the network again")
    return facts  # type: ignore[no-any-return]


def _network(facts: Mapping[str, Any], path: Path, dataset: Dataset) -> Run:
    """The network of `weights`, which are nothing without their attention's code."""
    plan = plan_for(recipe_from(facts["recipe"], where=f"the card of '{path.name}'"), dataset)
    network = plan.attach(plan.bare(0), resolved_of(facts), 0)
    network.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    return scoring.runner(network.eval())
