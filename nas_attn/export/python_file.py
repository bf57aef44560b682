"""One readable Python file that defines exactly one network, attention included, and needs nothing of this package."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from torch import nn

from nas_attn.attachment.hosting import AttendedDict, AttendedList, bare_class
from nas_attn.attention import catalogue
from nas_attn.attention.gates import Blended
from nas_attn.attention.row import Init
from nas_attn.backbones.building import torchvision_options, users_arguments
from nas_attn.backbones.cifar import MODELS
from nas_attn.errors import OperationError
from nas_attn.export.attending import attend
from nas_attn.export.bundling import OURS, bundle, import_lines
from nas_attn.importing import PYTHON, load_object
from nas_attn.recipe import BackboneSection
from nas_attn.records import Choice, Point, ResolvedPlacement
from nas_attn.tasks import TASKS, Task

WIDTH = 120
"""Columns of the file."""


UNCHANGED = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
"""Mean and deviation of images from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Interface:
    """What an exported network takes and gives."""

    classes: tuple[str, ...]
    mean: tuple[float, ...]
    """Per channel, on the scale 0 to 1; empty where the images are an evaluator's."""
    std: tuple[float, ...]
    output: tuple[int, ...]
    """Shape of the answer for one image."""


@dataclass(frozen=True, slots=True)
class Described:
    """What a network is, in the words from which it was built."""

    backbone: BackboneSection
    resolved: ResolvedPlacement
    input_shape: tuple[int, int, int]
    """(channels, height, width)."""
    interface: Interface
    task: Task = TASKS["classification"]


@dataclass
class _Needs:
    """What the file's own lines refer to."""

    roots: list[tuple[str, str]] = field(default_factory=list)
    imports: set[tuple[str, str | None]] = field(default_factory=set)

    def name(self, thing: Any) -> str:
        """The name under which a class or function stands in the file."""
        if thing.__module__.partition(".")[0] != OURS:
            self.imports.add((thing.__module__, None))
            return f"{thing.__module__}.{thing.__qualname__}"
        if (thing.__module__, thing.__qualname__) not in self.roots:
            self.roots.append((thing.__module__, thing.__qualname__))
        return str(thing.__qualname__)


def python_source(model: nn.Module, described: Described, *, weights: str, notes: Mapping[str, str]) -> str:
    """The whole file.

    Args:
        model: the network with its attention: what cannot be said in words is read off it.
        weights: name of the file beside it that holds the state_dict.

    Raises:
        OperationError: the backbone is an object of the program that searched, which no other can import.
    """
    needs = _Needs()
    needs.imports |= {("pathlib", "Path"), ("torch", None), ("torch", "nn"), ("torch", "Tensor")}
    build = [*_backbone(model, described, needs), *_attention(model, described, needs)]
    taken = bundle(needs.roots)
    parts = [
        _heading(described, notes),
        "\n".join(["from __future__ import annotations", "", *import_lines(needs.imports | taken.imports)]),
        _constants(described),
        taken.definitions.strip("\n"),
        _function(
            "build() -> nn.Module",
            '"""The network with random weights: `load` gives it those it was trained to."""',
            build,
        ),
        *([_NORMALISE] if described.interface.mean else []),
        _LOAD.replace("WEIGHTS", quoted(weights)),
    ]
    first, *rest = filter(None, parts)
    return f"{first}\n\n{rest[0]}\n\n{rest[1]}\n\n\n" + "\n\n\n".join(rest[2:]) + "\n"


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
    how = (
        "images as `normalise` makes them"
        if described.interface.mean
        else "images as the evaluator of the study makes them"
    )
    title = f"{described.backbone.name} with attention: {notes.get('placement', described.resolved.text)}"
    lines = [title, "", *(f"{name}: {text}" for name, text in notes.items() if name != "placement")]
    output = ", ".join(map(str, described.interface.output))
    lines += ["", f"Input: {how}, float32 (N, {channels}, {height}, {width}). Output: (N, {output}) before softmax."]
    papers = dict.fromkeys(
        f"{row.title}: {row.paper}"
        for _, choices in described.resolved.modules
        for choice in choices
        if (row := catalogue.find(choice.type)).paper
    )
    if papers:
        lines += ["", "Attention after", *(f"- {paper}" for paper in papers)]
    text = "\n".join(_wrapped(line) for line in lines).replace("\\", "\\\\").replace('"""', "'''")
    return f'"""{text}\n"""'


def _wrapped(line: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(line, WIDTH, break_long_words=False, break_on_hyphens=False)) if line else ""


def _constants(described: Described) -> str:
    lines = [_assigned("CLASSES", described.interface.classes), f"INPUT_SHAPE = {described.input_shape!r}"]
    if described.interface.mean:
        lines += [_assigned("MEAN", described.interface.mean), _assigned("STD", described.interface.std)]
        lines += ['"""Per channel, on the scale 0 to 1."""']
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------- the network


def _backbone(model: nn.Module, described: Described, needs: _Needs) -> list[str]:
    """The lines that make the bare backbone."""
    section, classes, channels = described.backbone, len(described.interface.classes), described.input_shape[0]
    source, colon, name = section.name.partition(":")
    if section.name.startswith(PYTHON):
        raise OperationError(
            f"the backbone '{section.name.removeprefix(PYTHON)}' is an object of the program that searched: 'python' cannot "
            "import it; take the format weights, torch or onnx"
        )
    if not colon:
        family, depth = MODELS[section.name]
        arguments: dict[str, Any] = {"classes": classes, "in_channels": channels, "width": section.width or 16}
        return [_assign("model", needs.name(family), [repr(depth), *_keywords(arguments)])]
    if source == "torchvision":
        needs.imports.add(("torchvision", None))
        usual = torchvision_options(name, described.input_shape, classes)
        arguments = {**usual, **section.options}
        arguments |= {"weights_backbone": None} if "weights_backbone" in usual else {}  # `load` has them all
        lines = [_assign("model", "torchvision.models.get_model", [quoted(name), *_keywords(arguments)])]
        return lines if channels == 3 else [*lines, _first_convolution(model)]
    if source == "timm":
        needs.imports.add(("timm", None))
        arguments = {"num_classes": classes, "in_chans": channels, **section.options}
        return [_assign("model", "timm.create_model", [quoted(name), *_keywords(arguments)])]
    if source == "smp":
        needs.imports.add(("segmentation_models_pytorch", None))
        architecture, _, encoder = name.partition("/")
        arguments = {"encoder_name": encoder, "in_channels": channels, "classes": classes, **section.options}
        arguments |= {"encoder_weights": None}
        return [
            _assign("model", "segmentation_models_pytorch.create_model", [quoted(architecture), *_keywords(arguments)])
        ]
    function = load_object(section.name, what="backbone", error=OperationError)  # type: ignore[arg-type]
    needs.imports.add((source, None))
    arguments = {**users_arguments(function, channels, classes), **section.options}
    return [_assign("model", f"{source}.{name}", _keywords(arguments))]


def _first_convolution(model: nn.Module) -> str:
    """The line for a first layer of other than three channels."""
    path, layer = next((path, module) for path, module in model.named_modules() if isinstance(module, nn.Conv2d))
    usual = inspect.signature(nn.Conv2d).parameters
    settings: dict[str, Any] = {
        "stride": layer.stride,
        "padding": layer.padding,
        "dilation": layer.dilation,
        "bias": layer.bias is not None,
        "padding_mode": layer.padding_mode,
    }
    given = {n: v for n, v in settings.items() if v != usual[n].default and v != (usual[n].default,) * 2}
    arguments = [repr(layer.in_channels), repr(layer.out_channels), repr(layer.kernel_size), *_keywords(given)]
    return _call("model.set_submodule", [quoted(path), ("nn.Conv2d", arguments)])


def _attention(model: nn.Module, described: Described, needs: _Needs) -> list[str]:
    """The lines that put the attention in."""
    modules = dict(model.named_modules())
    if not described.resolved.modules:
        return ["return model"]
    lines = []
    for point, choices in described.resolved.modules:
        host = bare_class(modules[point.path])
        made: list[Any] = ["model", quoted(point.path)]
        made += [_module(choice, point, described.resolved.init, needs) for choice in choices]
        if point.replaces:
            made.append("instead=True")
        elif issubclass(host, nn.Sequential | nn.ModuleList | nn.ModuleDict):
            hiding = AttendedDict if issubclass(host, nn.ModuleDict) else AttendedList
            made.append(f"bases=({needs.name(hiding)},)")
        lines.append(_call(needs.name(attend), made))
    return [*lines, "return model"]


def _module(choice: Choice, point: Point, init: str, needs: _Needs) -> tuple[str, list[Any]]:
    row = catalogue.find(choice.type)
    knobs = dict(row.resolve(choice.knobs, point.channels, point.height, point.width, init=cast(Init, init)).knobs)
    cls, arguments, blended = catalogue.construction(row, knobs, point.height, point.width, cast(Init, init))
    usual = inspect.signature(cls).parameters
    given = {name: value for name, value in arguments.items() if usual[name].default != value}
    made = (needs.name(cls), [repr(point.channels), *_keywords(given)])
    return (needs.name(Blended), [made]) if blended else made


# ------------------------------------------------------------------------------------------- in Python's words


def quoted(text: str) -> str:
    """A text as Python writes it, in double quotes where that takes no more of them."""
    return repr(text) if '"' in text and "'" not in text else json.dumps(text, ensure_ascii=False)


def _literal(value: Any) -> str:
    return quoted(value) if isinstance(value, str) else repr(value)


def _keywords(arguments: Mapping[str, Any]) -> list[str]:
    return [f"{name}={_literal(value)}" for name, value in arguments.items()]


def _call(function: str, arguments: Sequence[Any], indent: int = 4, before: str = "", after: str = "") -> str:
    """A call in one line, or with an argument a line; arguments are texts, or calls as (function, arguments)."""
    flat = ", ".join(a if isinstance(a, str) else _call(a[0], a[1], -(10**6)) for a in arguments)
    line = f"{before}{function}({flat}){after}"
    if indent + len(line) <= WIDTH:
        return line
    inner = indent + 4
    rows = [f"{' ' * inner}{a if isinstance(a, str) else _call(a[0], a[1], inner)}," for a in arguments]
    return "\n".join([f"{before}{function}(", *rows, f"{' ' * indent}){after}"])


def _assign(name: str, function: str, arguments: Sequence[Any]) -> str:
    return _call(function, arguments, before=f"{name} = ")


def _assigned(name: str, values: Sequence[Any]) -> str:
    """A tuple as a constant."""
    flat = ", ".join(map(_literal, values)) + ("," if len(values) == 1 else "")
    line = f"{name} = ({flat})"
    return line if len(line) <= WIDTH else "\n".join([f"{name} = (", *(f"    {_literal(v)}," for v in values), ")"])


def _function(signature: str, about: str, body: Sequence[str]) -> str:
    return "\n".join([f"def {signature}:", *(f"    {line}" for line in (about, *body))])
