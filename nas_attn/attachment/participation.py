"""Whether attached attention takes part: checks of a network on copies of it."""

import re
import warnings
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nas_attn.attachment.attaching import (
    PLACED,
    attach,
    attached_modules,
    detach,
    floating,
    is_sharded,
    refuse_wrapped,
)
from nas_attn.attachment.containers import CHILD
from nas_attn.attachment.gradients import unreached
from nas_attn.attachment.hosting import is_attended, own_parameters
from nas_attn.attachment.recording import floating_tensors, image_for
from nas_attn.attachment.twins import twin_of
from nas_attn.backbones.torchvision_detectors import undecided
from nas_attn.errors import BackboneError, NasAttnWarning, first_line
from nas_attn.space.placement import ResolvedPlacement


@dataclass(frozen=True, slots=True)
class Participation:
    """Whether one attached attention module takes part in the network's computation."""

    # `layer1.0.bn2.nas_attn.0`
    path: str
    # Its class, `SqueezeExcitation`
    module: str
    ran: bool
    # Whether the network's output depends on it: one that ran may have no effect
    depends: bool
    # A tool removed it from the network. `module` is then the attention type
    lost: bool = False
    # Whether a gradient of the outputs arrives at its parameters, in training
    learns: bool = True
    # How many times larger its map is in training than in evaluation, behind a module that drops
    # (stochastic depth); elsewhere 1
    scale: float = 1.0

    @property
    def takes_part(self) -> bool:
        return self.ran and self.depends


SHAKES = (1.0, -1.0, 1e4, -1e4)
"""Sizes of the change of a module's result: units behind it may be dead in one direction, or pass
on so little that rounding hides it.
"""


def check(
    model: nn.Module, input_shape: tuple[int, int, int], *, expected: nn.Module | None = None
) -> tuple[Participation, ...]:
    """Checks for each attached module whether it runs and affects the output, in evaluation mode,
    and whether it learns; the model does not change.

    A copy runs on one random image, and again for each module with a changed result of this module;
    then it takes a training step, forward and backward. The model may be wrapped by
    DistributedDataParallel or torch.compile.

    Args:
        expected: the model as it was with its attention: modules that it has and `model` lacks
            count as lost.

    Returns:
        Modules in the order of `named_modules()`, those without their host included; then lost
        ones.

    Raises:
        BackboneError: the model cannot be copied, cannot process such an image, runs a module more
            often than its place, or is a traced or exported copy, in which attention is not a
            module any more.
    """
    model = unwrapped(model)
    name = type(model).__name__
    is_program = isinstance(model, torch.fx.GraphModule | torch.jit.ScriptModule)
    if is_program and not attached_modules(model):
        raise BackboneError(
            f"{name} is a traced or exported copy, in which attention consists of plain operations:"
            " check the network before this step, and compare the outputs of both"
        )
    if is_sharded(model):
        raise BackboneError(
            f"{name} is sharded (fully_shard, FSDP) and cannot be copied: check it before that"
        )
    try:
        with torch.inference_mode(False), twin_of(model) as twin:
            undecided(twin.eval())
            x = image_for(twin, input_shape)
            there = _participating(twin, x)
    except BackboneError:
        raise
    except Exception as error:
        # whatever a user's own model may raise
        shape = "x".join(map(str, input_shape))
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise BackboneError(
            f"{name} cannot be checked on a {shape} image ({reason}): give the shape it expects"
        ) from error
    missing = _lost(model, model) | _lost(model, unwrapped(expected or model))
    lost = [Participation(path, kind, False, False, lost=True) for path, kind in missing.items()]
    return (*there, *lost)


def _participating(twin: nn.Module, x: Tensor) -> list[Participation]:
    """What each attached module of a copy takes part in. BackboneError: one runs too often."""
    before, repeated = _counted_outputs(twin, x)
    if repeated is not None:
        raise BackboneError(f"{type(twin).__name__} {_REPEATS.format(repeated)}: attach elsewhere")
    scales = _scales(twin, x)
    attention = attached_modules(twin)
    asked = {path: _asked(twin, x, module, before) for path, module in attention.items()}
    untaught: frozenset[str] = frozenset()
    hosts = {path: path.rpartition(CHILD)[0].rstrip(".") for path in attention}
    # whatever a user's own model may raise in training
    with suppress(Exception):
        untaught = unreached(twin, x.clone(), hosts.values())
    there = []
    for path, module in attention.items():
        parameters = list(module.parameters())
        trained = not parameters or any(parameter.requires_grad for parameter in parameters)
        there.append(
            Participation(
                path,
                type(module).__name__,
                *asked[path],
                learns=trained and hosts[path] not in untaught,
                scale=scales.get(path, 1.0),
            )
        )
    return there


def _lost(model: nn.Module, expected: nn.Module) -> dict[str, str]:
    """Path -> type of each module that `attach` put into `expected`, or a network in it, and that
    `model` lacks.

    A module is there if it is the same object; else each path stands for one: the same, then one
    in which the other's parts stand in their order (`model.layer1…`, `layer1._orig_mod…`), then one
    with other numbers (a layer was put before it).
    """
    free = {id(module): path for path, module in attached_modules(model).items()}
    own = attached_modules(expected)
    lost: dict[str, str] = {}
    for prefix, module in expected.named_modules():
        for name, kind in module.__dict__.get(PLACED, {}).items():
            path = f"{prefix}.{name}".lstrip(".")
            if free.pop(id(own.get(path)), None) is None:
                lost[path] = kind
    for fits in (str.__eq__, _is_inside, _is_alike):
        for path in list(lost):
            found = next((key for key, other in free.items() if fits(path, other)), None)
            if found is not None:
                del free[found], lost[path]
    return lost


def _is_alike(path: str, other: str) -> bool:
    """Whether two paths differ in numbers alone."""
    return re.sub(r"\b\d+\b", "*", path) == re.sub(r"\b\d+\b", "*", other)


def _is_inside(path: str, other: str) -> bool:
    """Whether the parts of one path are parts of the other, in this order."""
    short, long = sorted((path.split("."), other.split(".")), key=len)
    rest = iter(long)
    return all(part in rest for part in short)


def _scales(twin: nn.Module, x: Tensor) -> dict[str, float]:
    """Path of attention whose host has no weights -> how many times larger its map is, where that
    host is in training and does not drop it.
    """
    scales: dict[str, float] = {}
    for path, host in twin.named_modules():
        if not is_attended(host) or len(own_parameters(host)) > 0:
            continue
        attention = host.get_submodule(CHILD)
        seen: list[float] = []
        hook = attention.register_forward_pre_hook(partial(_keep_size, seen))
        with hook, torch.random.fork_rng([x.device] if x.device.type == "cuda" else []):
            torch.manual_seed(0)
            with torch.no_grad():
                twin(x)
                host.train()
                for _ in range(TRIES):
                    twin(x)
        host.eval()
        alive = [size for size in seen[1:] if size > 0]
        if alive and seen[0] > 0:
            scale = alive[0] / seen[0]
            scales |= {
                f"{path}.{CHILD}.{name}".lstrip("."): scale
                for name, _ in attention.named_children()
            }
    return scales


TRIES = 16
"""Runs in which a map is hardly ever dropped each time."""


def _keep_size(seen: list[float], _module: nn.Module, args: tuple[Tensor, ...]) -> None:
    seen.append(float(args[0].float().norm()))


def attach_compared(
    model: nn.Module, resolved: ResolvedPlacement, input_shape: tuple[int, int, int]
) -> nn.Module:
    """`attach`, after it was tried on a copy: with attention that begins as the identity, the copy
    has to compute what it did before, bit for bit, for one random image in evaluation mode.
    Otherwise the model's own code looks at the classes of its modules, or at the list of their
    children.

    Whatever it begins as, attention has to run as often as its place: a block that runs all its
    children would run it once more, which the identity does not show.

    A model is not compared if it gives different outputs for one image and one seed, or none that
    could be compared; a warning says so.

    Raises:
        BackboneError: as `attach`; or the outputs differ, attention is repeated, or the model does
            not run. The model is then as before.
    """
    refuse_wrapped(model)
    why = "its weights are on the device meta, which has no numbers"
    with torch.inference_mode(False):
        if not floating(model).is_meta:
            why = _tried(model, resolved, input_shape)
    if why and _is_compared(resolved):
        warnings.warn(
            f"{type(model).__name__} is not compared before and after attaching: {why}",
            NasAttnWarning,
            stacklevel=3,
        )
    with torch.inference_mode(False):
        return attach(model, resolved)


def _is_compared(resolved: ResolvedPlacement) -> bool:
    """Whether the model has to compute what it did before."""
    return resolved.init == "identity" and not any(p.replaces for p, _ in resolved.modules)


def _tried(model: nn.Module, resolved: ResolvedPlacement, input_shape: tuple[int, int, int]) -> str:
    """Runs a copy before and after attaching to it; says why the outputs cannot be compared, or
    nothing. BackboneError: the outputs differ, attention is repeated, or the copy does not run.
    """
    name = type(model).__name__
    with ExitStack() as stack:
        try:
            twin = stack.enter_context(twin_of(model))
            undecided(twin.eval())
            x = image_for(twin, input_shape)
            before = [output.clone() for output in _outputs(twin, x)]
        except Exception as error:
            # whatever a user's own model may raise
            return first_line(error)
        # what is to be said of the model is said when the model itself gets attention
        with torch.random.fork_rng(devices=()), warnings.catch_warnings(action="ignore"):
            attach(twin, resolved)
        wrong = "computes something else"
        try:
            after, repeated = _counted_outputs(twin, x)
        except Exception as error:
            # whatever a user's own model may raise
            after, repeated = [], None
            wrong = f"does not run ({type(error).__name__}: {first_line(error)})"
        if repeated is not None:
            raise BackboneError(
                f"{name} {_REPEATS.format(repeated)}: the model is as before; attach elsewhere"
            )
        if not _is_compared(resolved) or not _differ(before, after):
            return ""
        if _differ(before, _outputs(detach(twin), x)):
            return "two runs of one image differ"
        raise BackboneError(
            f"{name} {wrong} with attention that begins as the identity: the model is as before;"
            " its code may compare the type of a module or run all its children, so let it use"
            " isinstance, or attach elsewhere"
        )


_REPEATS = (
    "runs the attention at '{}' more often than this module, as code does that runs all its"
    " children"
)


def _counted_outputs(twin: nn.Module, x: Tensor) -> tuple[list[Tensor], str | None]:
    """(The outputs of a copy; path of the first host whose attention runs more often than the host
    itself, as in a block that runs all its children, or None.)
    """
    runs = Counter[str]()
    hosts = [path for path, module in twin.named_modules() if is_attended(module)]
    with ExitStack() as counting:
        for host in hosts:
            for path in (host, f"{host}.{CHILD}".lstrip(".")):
                module = twin.get_submodule(path)
                hook = module.register_forward_pre_hook(partial(_count, runs, path))
                counting.enter_context(hook)
        outputs = _outputs(twin, x)
    often = (host for host in hosts if runs[f"{host}.{CHILD}".lstrip(".")] > runs[host] > 0)
    return outputs, next(often, None)


def _count(runs: Counter[str], path: str, _module: nn.Module, _args: Any) -> None:
    runs[path] += 1


def tells_images_apart(model: nn.Module, input_shape: tuple[int, int, int]) -> bool:
    """Whether two different images give different outputs, in evaluation mode."""
    with twin_of(unwrapped(model)) as twin:
        undecided(twin.eval())
        x = image_for(twin, input_shape)
        return _differ(_outputs(twin, x), _outputs(twin, 1 - x))


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside torch's wrappers."""
    while True:
        if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod  # type: ignore[assignment]
        else:
            return model


def _outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    """All floating-point tensors of the output, with a fixed random generator."""
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        result = model(x)
    if tensors := floating_tensors(result):
        return tensors
    raise BackboneError(
        f"{type(model).__name__} returns no tensors that could be compared, but a"
        f" {type(result).__name__}: let it return tensors, alone or in lists, dicts or dataclasses"
    )


def _asked(
    model: nn.Module, x: Tensor, module: nn.Module, before: list[Tensor]
) -> tuple[bool, bool]:
    """(Whether a module ran, whether a changed result of it changes the outputs.)"""
    ran = False

    def shake(size: float, _module: nn.Module, _args: Any, y: Tensor) -> Tensor:
        nonlocal ran
        ran = True
        generator = torch.Generator().manual_seed(2)
        # whatever the default device is
        noise = torch.rand(y.shape, generator=generator, device="cpu").to(y)
        return y + size * noise * (1 + y.abs().amax())

    for size in SHAKES:
        with module.register_forward_hook(partial(shake, size)):
            if _differ(before, _outputs(model, x)):
                return ran, True
    return ran, False


def _differ(some: list[Tensor], others: list[Tensor]) -> bool:
    return len(some) != len(others) or any(
        a.shape != b.shape or not torch.equal(a, b) for a, b in zip(some, others, strict=True)
    )
