"""What of a recipe, a study or a file could run code of its author, so that a person is asked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_attn.recipe import tables

if TYPE_CHECKING:
    from nas_attn.storage.opening import OpenStudy

PATHS = frozenset(
    {
        ("data", "root"),
        ("data", "groups", "file"),
        ("data", "groups", "pattern"),
        ("data", "groups", "column"),
        ("data", "coco", "train"),
        ("data", "coco", "validation"),
        ("data", "coco", "test"),
        ("data", "coco", "images"),
        ("training", "weights"),
        ("target", "weights"),
    }
)
"""Settings with a path or a pattern: what they name is read as data, and never run."""
FILES_OF_TIMM = frozenset({"checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay"})
"""Options of a backbone in which timm looks for a file, and old versions for a pickle."""
READ_AS_DATA = frozenset({"weights", "onnx", "onnx-int8"})
"""Formats of exported networks that run no code of their author. torch reads a torch.export archive
with a pickle and evaluates its expressions.
"""
ULTRALYTICS = "ultralytics:"
YOLO = "yolo:"
HARMLESS_BACKBONES = ("torchvision:", "timm:", "smp:", "python:")
HARMLESS_DATA = ("folder:", "coco:", "python:")
# in a placement: a class, or another backbone
_CLASS_OR_BACKBONE = re.compile(r"(backbone=)?([\w.-]+:[^\s(+]+)")


def is_here(path: str | Path) -> bool:
    """Whether a file lies in the current folder, whose files are the user's own."""
    return Path(path).resolve().is_relative_to(Path.cwd().resolve())


def code_in(value: Any, at: tuple[str, ...] = ()) -> Iterator[str]:
    """Values of a recipe or a part of it that name Python objects, commands or files that a library
    executes; doubtful ones included. `at`: the keys that lead to the value.
    """
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from code_in(str(name), (*at, ""))
            yield from code_in(inner, (*at, str(name)))
    elif isinstance(value, list):
        for inner in value:
            yield from code_in(inner, at)
    elif isinstance(value, str) and _is_code(value, at):
        yield value


def _is_code(text: str, at: tuple[str, ...]) -> bool:
    if at == ("backbone", "name"):
        return is_code_of_backbone(text)
    if at == ("data", "name"):
        return _is_code_of_data(text)
    if at in PATHS:
        return False
    if at and at[-1] in ("command", "evaluator"):
        return True
    if at[:2] == ("backbone", "options") and not FILES_OF_TIMM.isdisjoint(at[2:]):
        return True
    return ":" in text and text not in OF_PRESETS


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _names(inner)
    elif isinstance(value, Mapping):
        yield from _names(list(value.values()))


OF_PRESETS = frozenset(
    name for preset in tables.PRESETS.values() for name in _names(dict(preset)) if ":" in name
)
"""Objects of other packages that our own presets name."""


def is_code_of_backbone(name: str) -> bool:
    """Whether building a backbone of this name could run its author's code."""
    if not name.startswith(ULTRALYTICS):
        return ":" in name and (not name.startswith(HARMLESS_BACKBONES) or _reads_folder(name))
    file = name.removeprefix(ULTRALYTICS)
    path = Path(file)
    if not file.endswith(".yaml") or "://" in file:
        return True
    if path.is_file():
        return not is_here(path)
    # else it is Ultralytics' own
    return path.is_absolute() or ".." in path.parts


def _reads_folder(name: str) -> bool:
    """Whether it is timm's name for somebody's repository or folder, which old versions read as
    pickles.
    """
    return any(word in name for word in ("hf-hub:", "hf_hub:", "local-dir:"))


def _is_code_of_data(name: str) -> bool:
    if name.startswith(YOLO):
        path = Path(name.removeprefix(YOLO)).expanduser()
        return path.is_file() and not is_here(path)
    return ":" in name and not name.startswith(HARMLESS_DATA)


def files_with_code(backbone: str = "", data: str = "") -> Iterator[str]:
    """Of the backbone and the data that the user names: those whose file lies outside the current
    folder, and would be executed.
    """
    file = Path(backbone.removeprefix(ULTRALYTICS))
    exists = backbone.startswith(ULTRALYTICS) and file.is_file()
    if exists and not is_here(file) and is_code_of_backbone(backbone):
        yield backbone
    _, local, folder = backbone.partition("local-dir:")
    if local and Path(folder).exists() and not is_here(folder):
        yield backbone
    if data.startswith(YOLO) and _is_code_of_data(data):
        yield data


def code_of_study(opened: OpenStudy) -> set[str]:
    """The code that a study's database names: in its recipe, its protocols, its networks."""
    store = opened.store
    code = set(code_in(opened.recipe.model_dump(mode="json")))
    for text in store.protocols.all().values():
        code.update(code_in(_document(text)))
    for text in store.validations.all().values():
        for name in _names(_document(text)):
            code.update(_code_of_placement(name))
    for candidate in store.candidates():
        code.update(_code_of_placement(str(candidate.placement)))
    for row in store.queue.rows():
        code.update(_code_of_placement(str(row.run.placement)))
    return code


def code_of_export(file: Path, card: Mapping[str, Any]) -> set[str]:
    """The code that scoring an exported file would run: of the file itself, and named by its card.
    A card may be damaged, so nothing is assumed about it.
    """
    code = set(code_in(card.get("recipe")))
    data = card.get("data")
    if isinstance(data, Mapping):
        code.update(code_in({"data": data.get("section")}))
    for text in _names([card.get("modules"), card.get("placement")]):
        code.update(_code_of_placement(text))
    if card.get("format") not in READ_AS_DATA:
        code.add(file.name)
    return code


def _document(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        # whoever needs it says that it is damaged
        return None


def _code_of_placement(text: str) -> Iterator[str]:
    for backbone, kind in _CLASS_OR_BACKBONE.findall(text):
        if not backbone or is_code_of_backbone(kind):
            yield kind
