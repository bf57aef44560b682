"""The card beside an exported network, for people who have only these files; and the check that the
file agrees with its card.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
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

from nas_attn._version import __version__
from nas_attn.answer.answer import answer_of
from nas_attn.answer.answer_text import drawing_line, headline, rows, splits_text
from nas_attn.answer.as_json import lines_as_json
from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.attention import catalogue
from nas_attn.attention.choice import Choice
from nas_attn.data.dataset import Dataset
from nas_attn.errors import NasAttnError, OperationError, UserError, shorten
from nas_attn.export import scoring
from nas_attn.export.formats import BOX_VALUES, FORMER, Graph, answers_of
from nas_attn.export.python_file import Described
from nas_attn.recipe import tasks, units
from nas_attn.recipe.reading import recipe_from
from nas_attn.recipe.recipe import DataSection, Recipe
from nas_attn.recipe.tables import BACKBONE_SOURCES
from nas_attn.space.notation import parse
from nas_attn.space.placement import Point, ResolvedPlacement
from nas_attn.space.search_space import other_of
from nas_attn.system.paths import write_whole
from nas_attn.training.images import differences
from nas_attn.training.plan import plan_for
from nas_attn.training.tasks.data import data_of

# of the card's format
VERSION = 1
Run = Callable[[NDArray[Any]], NDArray[Any]]
SLACK = 1 / 500
"""Share of the images whose result may differ by rounding."""
ROUNDING_OF_OUTPUTS = 1e-3
"""Largest difference of outputs, as a share of the largest output, that rounding may cause."""


@dataclass(frozen=True, slots=True)
class ExportedNetwork:
    """An exported network, as its card tells of it."""

    described: Described
    path: Path
    format_: str
    normalised_inside: bool
    """Whether the file takes uint8 images."""
    training: Mapping[str, Any]
    """Of the run that gave the weights."""
    data: Mapping[str, Any]
    cost: Mapping[str, float]
    here: Mapping[str, Any] | None = None
    """The network's score in float32 on the same images; None if it was not wanted."""
    check: Mapping[str, Any] | None = None
    """Comparison of the file with the network; None if it was not wanted."""


def card(now: Snapshot, view: CandidateView, made: ExportedNetwork) -> dict[str, Any]:
    """The card's facts in JSON's types."""
    described = made.described
    channels, height, width = described.input_shape
    estimates = {
        name: {"mean": e.mean, "low": e.low, "high": e.high, "runs": e.seeds}
        for name, e in view.estimates.items()
    }
    return {
        "card": VERSION,
        "file": made.path.name,
        "format": made.format_,
        "sha256": hashlib.sha256(made.path.read_bytes()).hexdigest(),
        "written_by": f"nas_attn {__version__}",
        "study": now.study,
        "trial": view.trial,
        "key": view.key,
        "placement": str(view.placement),
        "init": described.resolved.init,
        "backbone": described.backbone.model_dump(mode="json"),
        "cost": dict(made.cost),
        "input": {
            "shape": ["N", channels, height, width],
            "dtype": "uint8" if made.normalised_inside else "float32",
            "channels": {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels"),
            "normalised_inside": made.normalised_inside,
            "mean": list(described.interface.mean),
            "std": list(described.interface.std),
        },
        "output": {
            "shape": ["N", *described.interface.output],
            "what": described.task.answer,
            "classes": list(described.interface.classes),
        },
        "modules": [_placed(point, choices) for point, choices in described.resolved.modules],
        "training": dict(made.training),
        "here": None if made.here is None else dict(made.here),
        "check": None if made.check is None else dict(made.check),
        "estimate": estimates,
        "study_answer": _answer(now, view),
        "latency": _latency(now, view),
        "data": dict(made.data),
        "sources": _sources(described),
        "versions": dict(now.versions),
        "recipe": now.recipe.model_dump(mode="json"),
    }


def _answer(now: Snapshot, view: CandidateView) -> dict[str, Any] | None:
    """The card of the study: headline, drawing, rows; None if the file has another network than the
    card takes.
    """
    if view.key != now.taken:
        return None
    answer = answer_of(now)
    drawing = drawing_line(answer.drawing) if answer.drawing else ""
    return {"headline": headline(answer), "drawing": drawing, "rows": lines_as_json(rows(answer))}


def _placed(point: Point, choices: tuple[Choice, ...]) -> dict[str, Any]:
    """The modules at a point, independent of a later version's names of sites."""
    return {
        "point": list(dataclasses.astuple(point)),
        "choices": [{"type": choice.type, "knobs": dict(choice.knobs)} for choice in choices],
    }


def resolved_of(facts: Mapping[str, Any]) -> ResolvedPlacement:
    """The placement of a card, point by point."""
    modules = []
    for entry in facts["modules"]:
        choices = tuple(Choice(c["type"], tuple(c["knobs"].items())) for c in entry["choices"])
        modules.append((Point(*entry["point"]), choices))
    placement = parse(facts["placement"])
    other = None if modules else other_of(placement)
    return ResolvedPlacement(tuple(modules), placement, facts["init"], facts["key"], other)


def _latency(now: Snapshot, view: CandidateView) -> dict[str, Any] | None:
    if view.latency is None or now.latency is None:
        return None
    measured = {
        name: getattr(view.latency, name) for name in ("ratio", "low", "high", "ms", "measured")
    }
    conditions = {name: str(value) for name, value in now.latency.conditions.items()}
    return {**measured, "machine": now.latency.machine, "conditions": conditions}


def _sources(described: Described) -> list[dict[str, str]]:
    """The attention modules' papers; their code is this project's, written from the papers, or a
    third party's.
    """
    sources = []
    for name in dict.fromkeys(
        choice.type for _, choices in described.resolved.modules for choice in choices
    ):
        row = catalogue.find(name)
        package = row.load().__module__.partition(".")[0]
        licence = "MIT (nas_attn)"
        if package != "nas_attn":
            licence = f"that of {package}"
        sources.append({"type": name, "title": row.title, "paper": row.paper, "licence": licence})
    source = described.backbone.name.partition(":")[0]
    source_known = BACKBONE_SOURCES.get(source)
    if source_known:
        licence = source_known.licence
    else:
        licence = "MIT (nas_attn)"
        if ":" in described.backbone.name:
            licence = f"that of {source}"
    return [
        {"type": "backbone", "title": described.backbone.name, "paper": "", "licence": licence},
        *sources,
    ]


def card_paths(path: Path) -> tuple[Path, Path]:
    """Markdown and JSON: `net.onnx.md`, `net.onnx.json`."""
    return path.with_name(f"{path.name}.md"), path.with_name(f"{path.name}.json")


def write_card(facts: Mapping[str, Any], path: Path) -> tuple[Path, Path]:
    """Writes both forms of a card beside an exported file; OperationError if they cannot be
    written.
    """
    paths = card_paths(path)
    for target, text in zip(
        paths, (markdown(facts), json.dumps(facts, indent=2, allow_nan=False)), strict=True
    ):
        try:
            write_whole(target, text + "\n")
        except OSError as error:
            raise OperationError(f"'{target}' cannot be written: {error}") from None
    return paths


def markdown(facts: Mapping[str, Any]) -> str:
    """A card for people."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    task = tasks.of(Recipe.model_validate(facts["recipe"]))
    loader = PackageLoader("nas_attn", "export/templates")
    environment = Environment(
        loader=loader, undefined=StrictUndefined, autoescape=False, trim_blocks=True
    )
    environment.filters |= {
        "value": lambda number, name: units.value(name, number),
        "numbers": lambda values: ", ".join(f"{value:.6g}" for value in values),
        "counted": units.counted,
        "estimated": _estimated,
        "divided": splits_text,
    }
    return environment.get_template("card.md").render(
        **facts,
        answer=answers_of(task).said(tuple(facts["output"]["shape"][1:]), facts["format"]),
        compared=against_torch(facts) if facts["check"] else "",
    )


def _estimated(estimate: Mapping[str, float], name: str) -> str:
    """`accuracy 72.6 % (72.0 to 73.2 %)`."""
    low = estimate["low"]
    high = estimate["high"]
    value = units.value_within(name, estimate["mean"], low, high)
    return f"{name} {value} ({units.value_range(name, low, high)})"


def against_torch(facts: Mapping[str, Any]) -> str:
    """The comparison of the file with the network, in words."""
    difference = facts["check"]["difference"]
    if difference is None:
        return "the network finds no boxes in these images, so nothing was compared"
    if facts["output"]["what"] != "boxes":
        return f"outputs differ by at most {100 * difference:.1g} % of the largest"
    if facts["output"]["shape"][-1] == BOX_VALUES:
        return (
            f"half of the boxes differ by at most {100 * difference:.1g} % of the image's side, as"
            " do their scores"
        )
    return (
        f"boxes differ by at most {100 * difference:.1g} % of the image's side, scores relative to"
        " the highest"
    )


# must be the first statement of a program
FUTURE = "from __future__ import annotations\n"


@contextmanager
def run_elsewhere(path: Path, format_: str) -> Iterator[Run]:
    """Runs an exported file in a process without nas_attn: batches in, answers out. OperationError:
    the process ended.
    """
    with tempfile.TemporaryDirectory(prefix="nas_attn-") as folder:
        complaint = Path(folder) / "stderr"
        with complaint.open("wb") as errors:
            # As text, so that the folder of this package is not on the path. The working folder is
            # its last part, as for a search: its random.py does not replace the library's.
            program = Path(scoring.__file__).read_text("utf-8")
            last = f"{FUTURE}import os, sys\nsys.path.append(os.getcwd())\n"
            program = program.replace(FUTURE, last, 1)
            command = [
                sys.executable,
                "-P",
                "-c",
                program,
                "--stream",
                format_,
                str(path.resolve()),
            ]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            )
        source = process.stdout
        target = process.stdin
        assert source is not None
        assert target is not None

        def run(x: NDArray[Any]) -> NDArray[Any]:
            with suppress(OSError, ValueError):
                scoring.send(target, x)
                if (answer := scoring.receive(source)) is not None:
                    return answer
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            lines = complaint.read_text("utf-8", errors="replace").strip().splitlines()
            reason = shorten(lines[-1]) if lines else "it ended without output"
            raise OperationError(
                f"the exported file does not run in a process of its own: {reason}"
            )

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
    """An ONNX file beside its network: `Graph.worst` of their outputs (None: no image had a box),
    ONNX Runtime's version.
    """

    difference: float | None
    version: str


def check_onnx(path: Path, graph: Graph, images: Iterable[torch.Tensor]) -> OnnxCheck | None:
    """Compares an ONNX file with its network on these batches. None: ONNX Runtime is not installed.
    OperationError: they differ by more than rounding explains."""
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    with torch.no_grad():
        differences = [
            graph.differences(
                torch.from_numpy(session.run(None, {name: x.numpy()})[0]), graph(x), x
            )
            for x in images
        ]
    worst = graph.worst(torch.cat(differences))
    if worst is not None and not worst <= ROUNDING_OF_OUTPUTS:
        apart = f"outputs differ by {100 * worst:.2g} % of the largest"
        raise OperationError(
            f"'{path.name}' does not compute the same as the network ({apart}): export another"
            " format"
        )
    return OnnxCheck(worst, onnxruntime.__version__)


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
    elsewhere: bool
    """Whether it ran in a process without nas_attn; the format `weights` needs nas_attn."""

    @property
    def agrees(self) -> bool:
        """Whether the score agrees with the card, up to rounding: one image in 500, or as much of a
        metric.
        """
        if self.right is None:
            return abs(self.value - self.expected) <= SLACK
        return abs(self.right - self.expected) <= max(1, self.images * SLACK)


def verify(path: Path, *, root: str | None = None) -> Verified:
    """Scores an exported file. `root`: the data's folder, if it is not the card's `data.root`.

    Raises:
        UserError: the file, its card or its data are missing.
        OperationError: the file or the images are not those of the card, or the file does not run.
    """
    facts = read_card(path)
    if facts.get("format") in FORMER:
        raise UserError(
            f"'{path.name}' is in the format '{facts['format']}', which is not checked any more:"
            " export onnx, or run the script beside it"
        )
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
    if hashlib.sha256(path.read_bytes()).hexdigest() != facts["sha256"]:
        raise OperationError(f"'{path}' is not the file that its card describes: export it again")
    dataset = _data(path, facts, root)
    run = None
    if facts["format"] == "weights":
        run = _network(facts, path, dataset)
    with nullcontext(run) if run is not None else run_elsewhere(path, facts["format"]) as answer:
        tally = answers_of(dataset.task).judged(
            answer, dataset, stored=facts["input"]["normalised_inside"], batch=scoring.BATCH
        )
    metric = dataset.task.metric
    bits = tally.right()
    images = len(dataset.validation)
    value = tally.metrics(0.0)[metric]
    right = None
    if bits is not None:
        right = int(np.unpackbits(np.frombuffer(bits, np.uint8), count=images).sum())
    expected, where = _expected(facts, metric, right is not None)
    # nothing to differ from
    if expected is None:
        expected = value if right is None else right
    elif not isinstance(expected, int | float):
        raise TypeError(f"{expected!r} is not a number")
    return Verified(
        path.name, facts["format"], metric, value, right, images, expected, where, run is None
    )


def _expected(facts: Mapping[str, Any], metric: str, per_image: bool) -> tuple[float | None, str]:
    """The score in the card, and when it was computed; None if the card has none."""
    here = facts["here"]
    training = facts["training"]
    if here is not None and "in_file" in here:
        return here["in_file"]["right" if per_image else "value"], "when it was exported, in int8"
    if here is not None:
        return here["right" if per_image else "value"], "when it was exported, in float32"
    expected = training["right"] if per_image else training["metrics"].get(metric)
    return expected, "the card has no score" if expected is None else "when it was trained"


def _data(path: Path, facts: Mapping[str, Any], root: str | None) -> Dataset:
    """The images that the card names."""
    section = DataSection.stored(facts["data"]["section"])
    if root is not None:
        section = section.model_copy(update={"root": root})
    recipe = recipe_from(facts["recipe"], where=f"the card of '{path.name}'").model_copy(
        update={"data": section}
    )
    dataset = data_of(tasks.of(recipe)).load(recipe, device="cpu")
    if dataset is None:
        raise UserError(
            f"'{path}' cannot be checked here: the study's evaluator or trainer reads the images"
            " itself"
        )
    # None: a card from before
    kept = facts["data"].get("images")
    if kept is not None and dataset.manifest is not None and dataset.manifest.digest != kept:
        manifest = facts["data"]["manifest"]
        what = ""
        if manifest:
            what = f": {differences(dataset.manifest, manifest)}"
        raise OperationError(
            f"the images of '{section.name}' are not those of the card{what}; name the study's"
            " folder as root, or put them back as they were"
        )
    # None: one division, as in a card from before
    seed = facts["data"].get("divided_by_seed")
    if seed is not None:
        dataset = dataset.of_seed(seed)
    if dataset.digest != facts["data"]["digest"]:
        raise OperationError(
            f"the images of '{section.name}' are not those of the study (digest {dataset.digest}, "
            f"not {facts['data']['digest']}): name the study's folder as root"
        )
    return dataset


def read_card(path: Path) -> dict[str, Any]:
    """The card of an exported file; UserError if it is missing or damaged."""
    at = card_paths(path)[1]
    if not path.is_file():
        raise UserError(f"there is no file '{shorten(str(path))}': write one with nas-attn export")
    try:
        facts = json.loads(at.read_text("utf-8"))
        readable = facts["card"] == VERSION
    except OSError:
        raise UserError(
            f"there is no card '{at.name}' next to '{path.name}': nas-attn export writes it"
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError):
        readable = False
    if not readable:
        raise UserError(
            f"'{at}' is not a card of this version of nas-attn: export the network again"
        )
    return facts  # type: ignore[no-any-return]


def _network(facts: Mapping[str, Any], path: Path, dataset: Dataset) -> Run:
    """The network of a file in the format `weights`, which needs nas_attn's code."""
    recipe = recipe_from(facts["recipe"], where=f"the card of '{path.name}'")
    # of the run that gave the weights; a card from before names none
    norms = facts["backbone"].get("norms", "as_built")
    backbone = recipe.backbone.model_copy(update={"norms": norms})
    plan = plan_for(recipe.model_copy(update={"backbone": backbone}), dataset)
    network = plan.network(resolved_of(facts), 0)
    network.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    return scoring.runner(network.eval())
