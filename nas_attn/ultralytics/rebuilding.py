"""Keeps attention in Ultralytics' networks when its trainer rebuilds them.

`YOLO(...).train()` does not train its own network. It builds another one from the network's YAML, a
dict in the network and its files, and copies weights with matching names. So the attention is
recorded in this dict, and the function that builds networks from it attaches the attention. For
this, `keep_attention` wraps four functions of ultralytics.
"""

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import astuple
from typing import Any, TypeGuard
from weakref import WeakSet

from torch import nn
from typing_extensions import override

from nas_attn.attachment.attaching import attach
from nas_attn.attachment.integrations import HostPackage
from nas_attn.attention.choice import Choice
from nas_attn.errors import BackboneError, NasAttnWarning
from nas_attn.space.notation import parse
from nas_attn.space.placement import Point, ResolvedPlacement

KEY = "nas_attn"
"""Key of the attention in a network's YAML."""
KEPT = ("eps", "momentum", "inplace")
"""Settings that ultralytics makes in all norms and activations of a new network."""


class Ultralytics(HostPackage):
    """What is done to ultralytics' networks besides attaching."""

    @override
    def refuse(self, model: object) -> None:
        """Raises BackboneError for ultralytics' wrapper around a network."""
        if any(cls.__module__ == "ultralytics.engine.model" for cls in type(model).__mro__):
            raise BackboneError(
                f"{type(model).__name__} is Ultralytics' wrapper of a network: give its .model"
            )

    @override
    def attached(self, model: object, resolved: ResolvedPlacement) -> None:
        """Records the attached attention in the network's YAML."""
        if not _is_built_from_yaml(model):
            return
        vars(model)["yaml"] = {**vars(model)["yaml"], KEY: _plain(resolved)}
        _ATTACHED_HERE.add(model)
        if not _keeps_attention():
            warnings.warn(
                "YOLO.train builds this network anew, without its attention: call"
                " nas_attn.ultralytics.keep_attention() once before you train",
                NasAttnWarning,
                # the line of the script that calls `nas_attn.attach`: between are three functions
                stacklevel=5,
            )

    @override
    def detached(self, model: object) -> None:
        """Removes the record of the attention from the network's YAML."""
        if _is_built_from_yaml(model):
            yaml = vars(model)["yaml"]
            vars(model)["yaml"] = {name: value for name, value in yaml.items() if name != KEY}

    @override
    def unpickled(self) -> None:
        """Keeps the attention in this process, too: ultralytics starts one for each GPU, which
        reads the network from a file and calls nothing of this package before it trains.
        """
        keep_attention()


def keep_attention() -> None:
    """Makes ultralytics attach the recorded attention whenever it builds a network from such a
    YAML, in this process. A second call does nothing.
    """
    from ultralytics.engine import model
    from ultralytics.nn import tasks

    if not _keeps_attention():
        tasks.parse_model = _building(tasks.parse_model)
        tasks.initialize_weights = _initialising(tasks.initialize_weights)
        tasks.BaseModel.load = _loading(tasks.BaseModel.load)
        model.Model.train = _training(model.Model.train)


def _keeps_attention() -> bool:
    from ultralytics.nn import tasks

    return hasattr(tasks.parse_model, KEY)


def _building(build: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(build)
    def parse_model(d: Mapping[str, Any], *args: Any, **options: Any) -> Any:
        layers, saved = build(d, *args, **options)
        if KEY in d:
            attach(layers, _resolved(d[KEY]))
        return layers, saved

    setattr(parse_model, KEY, True)
    return parse_model


def _initialising(initialise: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(initialise)
    def initialize_weights(model: nn.Module) -> None:
        ours = [module for path, module in model.named_modules() if f".{KEY}." in path]
        before = [(m, name, getattr(m, name)) for m in ours for name in KEPT if hasattr(m, name)]
        initialise(model)
        for module, name, value in before:
            setattr(module, name, value)

    return initialize_weights


def _loading(load: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load)
    def loading(self: nn.Module, weights: Any, *args: Any, **options: Any) -> Any:
        source = weights["model"] if isinstance(weights, Mapping) else weights
        lacking = source.state_dict().keys() - self.state_dict()
        if lost := [key for key in lacking if f".{KEY}." in key]:
            raise BackboneError(
                f"the network has no place for the attention of these weights ({lost[0]}): train"
                " YOLO('FILE.pt') itself, attach the same placement before, or call detach on the"
                " network of the weights"
            )
        return load(self, weights, *args, **options)

    return loading


def _training(begin: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(begin)
    def train(self: Any, trainer: Any = None, **options: Any) -> Any:
        network = self.model
        if isinstance(network, nn.Module) and KEY in (vars(network).get("yaml") or {}):
            device = options.get("device", self.overrides.get("device"))
            if network in _ATTACHED_HERE and len(str(device).strip("[]()").split(",")) > 1:
                raise BackboneError(
                    f"device={device!r} starts a process for each GPU, which reads the network from"
                    " a file without the attention that was attached here: save it with"
                    " .save('attended.pt'), then train YOLO('attended.pt')"
                )
            # built from a YAML: the trainer would begin from that file
            if not self.ckpt:
                self.ckpt = {"model": network}
        return begin(self, trainer=trainer, **options)

    return train


_ATTACHED_HERE: WeakSet[nn.Module] = WeakSet()
"""Networks to which attention was attached in this process."""


def _is_built_from_yaml(model: object) -> TypeGuard[nn.Module]:
    from ultralytics.nn import tasks

    return isinstance(model, tasks.BaseModel) and isinstance(vars(model).get("yaml"), dict)


def _plain(resolved: ResolvedPlacement) -> dict[str, Any]:
    """A placement as plain values for YAML, with paths relative to the layers."""
    modules = [
        [
            [point.path.removeprefix("model."), *astuple(point)[1:]],
            [[choice.type, dict(choice.knobs)] for choice in choices],
        ]
        for point, choices in resolved.modules
    ]
    return {
        "init": resolved.init,
        "placement": resolved.text,
        "key": resolved.key,
        "modules": modules,
    }


def _resolved(plain: Mapping[str, Any]) -> ResolvedPlacement:
    """The placement of `_plain`; a point's values stand in the order of its fields."""
    modules = tuple(
        (Point(*point), tuple(Choice(kind, tuple(knobs.items())) for kind, knobs in choices))
        for point, choices in plain["modules"]
    )
    return ResolvedPlacement(modules, parse(plain["placement"]), plain["init"], plain["key"])
