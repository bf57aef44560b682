"""One readable Python file that defines exactly one network, attention included, and does not
import this package.

It contains the parts of this package that it uses, as they are in the source, with comments.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast, get_args

import torch
from torch import nn

from nas_attn.attachment.containers import AttendedDict, AttendedList, bare_class
from nas_attn.attention import catalogue, knobs
from nas_attn.attention.choice import Choice, Init
from nas_attn.attention.gates import Blended
from nas_attn.backbones.building import torchvision_options, users_arguments
from nas_attn.backbones.cifar import MODELS, ResNet
from nas_attn.backbones.torchvision_detectors import freeze_norms, frozen_norms
from nas_attn.errors import OperationError
from nas_attn.recipe.recipe import BackboneSection
from nas_attn.recipe.tasks import TASKS, Task
from nas_attn.space.placement import Point, ResolvedPlacement
from nas_attn.system.importing import PYTHON, load_object

FILE_COLUMNS = 120
"""Columns of the file."""
UNCHANGED = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
"""Default mean and standard deviation, for images from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Interface:
    """What an exported network takes and gives."""

    classes: tuple[str, ...]
    """Empty if only an evaluator knows them."""
    mean: tuple[float, ...]
    """Per channel, on the scale 0 to 1; empty if an evaluator makes the images."""
    std: tuple[float, ...]
    output: tuple[int, ...]
    """Shape of the output for one image."""


@dataclass(frozen=True, slots=True)
class Described:
    """How a network was built; `input_shape` is (channels, height, width)."""

    backbone: BackboneSection
    resolved: ResolvedPlacement
    input_shape: tuple[int, int, int]
    interface: Interface
    task: Task = TASKS["classification"]
    built_for: int | None = None
    """Number of classes that the backbone's builder was given; None: those of the interface."""


@dataclass
class _Needs:
    """Names that the file's own lines use."""

    roots: list[tuple[str, str]] = field(default_factory=list)
    imports: set[tuple[str, str | None]] = field(default_factory=set)

    def of(self, module: str, name: str) -> str:
        """The name in the file of what a module of another package has."""
        self.imports.add((module, None))
        return f"{module}.{name}"

    def name(self, thing: Any) -> str:
        """The name of a class or function in the file."""
        if thing.__module__.partition(".")[0] != OUR_PACKAGE:
            return self.of(thing.__module__, thing.__qualname__)
        if (thing.__module__, thing.__qualname__) not in self.roots:
            self.roots.append((thing.__module__, thing.__qualname__))
        return str(thing.__qualname__)


def python_source(
    model: nn.Module, described: Described, *, weights: str, notes: Mapping[str, str]
) -> str:
    """Writes the text of the whole file.

    Args:
        model: the network, with its attention.
        described: how it was built.
        weights: name of the file beside it with the state_dict.
        notes: facts about the network, for the head of the file.

    Returns:
        Python, in lines of at most 120 columns.

    Raises:
        OperationError: the backbone is an object of the program that searched, so it cannot be
            imported.
    """
    needs = _Needs()
    needs.imports |= {("pathlib", "Path"), ("torch", None), ("torch", "nn"), ("torch", "Tensor")}
    build = [*_backbone(model, described, needs), *_attention(model, described, needs)]
    definitions, imports = bundle(needs.roots)
    imported = [
        f"from {module} import {name}" if name else f"import {module}"
        for module, name in needs.imports | imports
    ]
    head = [
        _heading(described, notes),
        "\n".join(["from __future__ import annotations", "", *sorted(imported)]),
        _constants(described),
    ]
    body = [
        definitions,
        "\n    ".join([_BUILD, *build]),
        _NORMALISE if described.interface.mean else "",
        _LOAD.replace("WEIGHTS", repr(weights)),
    ]
    return "\n\n".join(head) + "\n\n\n" + "\n\n\n".join(filter(None, body)) + "\n"


_BUILD = '''\
def build() -> nn.Module:
    """The network with random weights; `load` gives it the trained ones."""'''

_NORMALISE = '''\
def normalise(images: Tensor) -> Tensor:
    """Images as the network takes them: float32 (N, C, H, W) from uint8 (N, C, H, W)."""
    mean, std = torch.tensor(MEAN).view(-1, 1, 1), torch.tensor(STD).view(-1, 1, 1)
    return (images.float() / 255 - mean.to(images.device)) / std.to(images.device)'''

_LOAD = '''\
def load(weights: str | Path = Path(__file__).with_name(WEIGHTS)) -> nn.Module:
    """The trained network, for inference."""
    model = build()
    model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True)["state_dict"])
    return model.eval()'''


def _heading(described: Described, notes: Mapping[str, str]) -> str:
    channels, height, width = described.input_shape
    how = "the evaluator of the study"
    if described.interface.mean:
        how = "`normalise`"
    title = (
        f"{described.backbone.name} with the placement:"
        f" {notes.get('placement', described.resolved.text)}"
    )
    lines = [title, "", *(f"{name}: {text}" for name, text in notes.items() if name != "placement")]
    output = ", ".join(map(str, described.interface.output))
    shape = f"float32 (N, {channels}, {height}, {width}). Output: (N, {output}) before softmax."
    lines += ["", f"Input: images as {how} makes them, {shape}"]
    papers = dict[str, None]()
    for _, choices in described.resolved.modules:
        for choice in choices:
            row = catalogue.find(choice.type)
            if row.paper:
                papers[f"{row.title}: {row.paper}"] = None
    if papers:
        lines += ["", "Attention after", *(f"- {paper}" for paper in papers)]
    wrapped = (
        textwrap.fill(line, FILE_COLUMNS, break_long_words=False, break_on_hyphens=False)
        for line in lines
    )
    text = "\n".join(wrapped).replace("\\", "\\\\").replace('"""', "'''")
    return f'"""{text}\n"""'


def _constants(described: Described) -> str:
    interface = described.interface
    lines = []
    if interface.classes:
        lines.append(_assigned("CLASSES", interface.classes))
    lines.append(f"INPUT_SHAPE = {described.input_shape!r}")
    if interface.mean:
        lines += [_assigned("MEAN", interface.mean), _assigned("STD", interface.std)]
        lines.append('"""Per channel, on the scale 0 to 1."""')
    return "\n".join(lines)


# -------------------------------------------------------------------------------------- the network


def _backbone(model: nn.Module, described: Described, needs: _Needs) -> list[str]:
    """The lines that make the bare backbone."""
    section = described.backbone
    classes = described.built_for or len(described.interface.classes)
    channels = described.input_shape[0]
    source, colon, name = section.name.partition(":")
    if section.name.startswith(PYTHON):
        raise OperationError(
            f"the backbone '{section.name.removeprefix(PYTHON)}' is an object of the program that"
            " searched: 'python' cannot import it; give the format weights, torch or onnx"
        )
    given = [repr(name)]
    settings: dict[str, Any]
    options = section.options
    # `load` sets all weights
    unset: dict[str, None] = {}
    if not colon:
        depth = MODELS[section.name]
        function = needs.name(ResNet)
        given = [repr(depth)]
        settings = {"classes": classes, "in_channels": channels, "width": section.width or 16}
        options = {}
    elif source == "torchvision":
        function = needs.of("torchvision", "models.get_model")
        name = name.partition(".")[0]
        given = [repr(name)]
        settings = torchvision_options(name, described.input_shape, classes)
        unset = dict.fromkeys(settings.keys() & {"weights_backbone"})
    elif source == "timm":
        function = needs.of("timm", "create_model")
        settings = {"num_classes": classes, "in_chans": channels}
    elif source == "smp":
        function = needs.of("segmentation_models_pytorch", "create_model")
        architecture, _, encoder = name.partition("/")
        given = [repr(architecture)]
        settings = {"encoder_name": encoder, "in_channels": channels, "classes": classes}
        unset = {"encoder_weights": None}
    else:
        builder = load_object(section.name, what="backbone", error=OperationError)  # type: ignore[arg-type]
        function = needs.of(source, name)
        given = []
        settings = users_arguments(builder, channels, classes)
    keywords = _keywords({**settings, **options, **unset})
    lines = [_call(function, [*given, *keywords], before="model = ")]
    if source == "torchvision":
        lines += [] if channels == 3 else [_first_convolution(model)]
        lines += _frozen_norms(model, needs)
    return lines


def _first_convolution(model: nn.Module) -> str:
    """The line for a first layer with a number of channels other than three."""
    path, layer = next(
        (path, module) for path, module in model.named_modules() if isinstance(module, nn.Conv2d)
    )
    usual = inspect.signature(nn.Conv2d).parameters
    settings = {
        name: getattr(layer, name) for name in ("stride", "padding", "dilation", "padding_mode")
    }
    settings["bias"] = layer.bias is not None
    given = {
        n: v for n, v in settings.items() if v != usual[n].default and v != (usual[n].default,) * 2
    }
    arguments = [
        repr(layer.in_channels),
        repr(layer.out_channels),
        repr(layer.kernel_size),
        *_keywords(given),
    ]
    return _call("model.set_submodule", [repr(path), ("nn.Conv2d", arguments)])


def _frozen_norms(model: nn.Module, needs: _Needs) -> list[str]:
    """The line for a detector with frozen norms, which torchvision builds only with weights."""
    for module in model.modules():
        if isinstance(module, frozen_norms()):
            return [_call(needs.name(freeze_norms), ["model.backbone", repr(module.eps)])]
    return []


def _attention(model: nn.Module, described: Described, needs: _Needs) -> list[str]:
    """The lines that put the attention in."""
    lines = []
    for point, choices in described.resolved.modules:
        host = bare_class(model.get_submodule(point.path))
        made: list[Any] = ["model", repr(point.path)]
        made += [_module(choice, point, described.resolved.init, needs) for choice in choices]
        if point.replaces:
            made.append("instead=True")
            if point.branch and not choices:
                made.append("adds=False")
        elif issubclass(host, nn.Sequential | nn.ModuleList | nn.ModuleDict):
            hiding = AttendedDict if issubclass(host, nn.ModuleDict) else AttendedList
            made.append(f"bases=({needs.name(hiding)},)")
        lines.append(_call(needs.name(attend), made))
    return [*lines, "return model"]


def _module(choice: Choice, point: Point, init: str, needs: _Needs) -> tuple[str, list[Any]]:
    row = catalogue.find(choice.type)
    form = cast(Init, init)
    canonical = row.resolve(choice.knobs, point.channels, point.height, point.width, init=form)
    cls = row.load()
    arguments = row.arguments(dict(canonical), point.height, point.width, form)
    usual = inspect.signature(cls).parameters
    given = {name: value for name, value in arguments.items() if usual[name].default != value}
    made = (needs.name(cls), [repr(point.channels), *_keywords(given)])
    if init == "identity" and "init" not in arguments:
        return needs.name(Blended), [made]
    return made


def _keywords(arguments: Mapping[str, Any]) -> list[str]:
    return [f"{name}={value!r}" for name, value in arguments.items()]


def _call(function: str, arguments: Sequence[Any], indent: int = 4, before: str = "") -> str:
    """A call in one line, or with one argument a line; arguments are texts, or calls as (function,
    arguments).
    """

    def written(argument: Any, indent: int) -> str:
        if isinstance(argument, str):
            return argument
        return _call(argument[0], argument[1], indent)

    flat = ", ".join(written(argument, -(10**6)) for argument in arguments)
    line = f"{before}{function}({flat})"
    if indent + len(line) <= FILE_COLUMNS:
        return line
    inner = indent + 4
    rows = [f"{' ' * inner}{written(argument, inner)}," for argument in arguments]
    return "\n".join([f"{before}{function}(", *rows, f"{' ' * indent})"])


def _assigned(name: str, values: Sequence[Any]) -> str:
    """A tuple as a constant."""
    flat = ", ".join(map(repr, values)) + ("," if len(values) == 1 else "")
    line = f"{name} = ({flat})"
    if len(line) <= FILE_COLUMNS:
        return line
    return "\n".join([f"{name} = (", *(f"    {v!r}," for v in values), ")"])


OUR_PACKAGE = "nas_attn"
CONSTANT = ast.Assign | ast.AnnAssign
Definition = ast.FunctionDef | ast.ClassDef | CONSTANT


@dataclass
class _File:
    """One module of this package, parsed and not run."""

    lines: list[str]
    definitions: dict[str, tuple[Definition, int]] = field(default_factory=dict)
    """Name -> its node and its last line, a docstring of a constant included."""
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)


def bundle(roots: Iterable[tuple[str, str]]) -> tuple[str, set[tuple[str, str | None]]]:
    """(source of the roots and of all that they use, each once; (module, name) of their imports
    from other packages).

    Roots are (module of this package, name at its top level).
    """
    order: dict[tuple[str, str], None] = {}
    outside: set[tuple[str, str | None]] = set()
    under_way: set[tuple[str, str]] = set()

    def collect(module: str, name: str) -> None:
        if (module, name) in under_way:
            return
        under_way.add((module, name))
        file = _read(module)
        if module == knobs.__name__:
            # a number's kind; its limits are the search's
            order[(module, name)] = None
            return
        for used in (
            node.id for node in ast.walk(file.definitions[name][0]) if isinstance(node, ast.Name)
        ):
            source, original = (
                (module, used) if used in file.definitions else file.imports.get(used, ("", None))
            )
            if source.partition(".")[0] == OUR_PACKAGE and original is not None:
                collect(source, original)
            elif source:
                outside.add((source, original))
        # after everything that it uses
        order[(module, name)] = None

    for module, name in roots:
        collect(module, name)
    assert len({name for _, name in order}) == len(order), "two definitions share a name"
    texts = []
    for module, name in order:
        if module == knobs.__name__:
            kind, _ = get_args(getattr(knobs, name))
            texts.append(f"{name} = {kind.__name__}")
            continue
        file = _read(module)
        node, end = file.definitions[name]
        start = min(
            [node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))]
        )
        texts.append("\n".join(map(_shown, file.lines[start - 1 : end])))
    return "\n\n\n".join(texts), outside


def _shown(line: str) -> str:
    """Without what a line tells our own checks."""
    return line.partition("  # noqa")[0]


@cache
def _read(module: str) -> _File:
    text = inspect.getsource(importlib.import_module(module))
    body = ast.parse(text).body
    file = _File(text.splitlines())
    for index, node in enumerate(body):
        if isinstance(node, ast.ImportFrom) and node.module and node.module != "__future__":
            file.imports |= {
                alias.asname or alias.name: (node.module, alias.name) for alias in node.names
            }
        elif isinstance(node, ast.Import):
            file.imports |= {alias.asname or alias.name: (alias.name, None) for alias in node.names}
        elif isinstance(node, Definition):
            after = body[index + 1] if index + 1 < len(body) else None
            about = (
                isinstance(node, CONSTANT)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            )
            end = (after if about and after is not None else node).end_lineno or node.lineno
            targets: list[Any] = [getattr(node, "target", node)]
            if isinstance(node, ast.Assign):
                targets = node.targets
            file.definitions |= dict.fromkeys(
                (str(getattr(t, "id", getattr(t, "name", ""))) for t in targets), (node, end)
            )
    return file


def attend(
    model: nn.Module,
    path: str,
    *modules: nn.Module,
    instead: bool = False,
    adds: bool = True,
    bases: tuple[type, ...] = (),
) -> None:
    """Sends the output of a module through attention from now on.

    The module keeps its place and the names of its parameters; the attention is its child
    `nas_attn`.

    Args:
        model: the network, which is changed.
        path: of the module.
        modules: the attention, in turn.
        instead: they take the module's input, in its place.
        adds: False: the module returns zeros, as it was removed from a branch.
        bases: classes that hide the child from a container that runs its children in turn.
    """
    host = model.get_submodule(path)
    bare: Any = type(host)

    class Attended(*bases, bare):  # type: ignore[misc]
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            attention = self._modules["nas_attn"]
            if not adds:
                return torch.zeros_like(args[0])
            if instead:
                return attention(*args, **kwargs)
            return attention(bare.forward(self, *args, **kwargs))

    nn.Module.add_module(host, "nas_attn", nn.Sequential(*modules))
    host.__class__ = Attended
