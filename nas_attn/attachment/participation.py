"""Whether attached attention takes part: checks of a network on copies of it."""

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nas_attn.attachment.containers import CHILD
from nas_attn.attachment.gradients import step, step_back, without_gradient
from nas_attn.attachment.hosting import (
    attach,
    attached_modules,
    detach,
    floating,
    is_attended,
    is_sharded,
    own_parameters,
    refuse_wrapped,
)
from nas_attn.attachment.missing import lost_modules
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
    if traced := _traced_attention(model):
        raise BackboneError(
            f"{name} is a traced or exported copy, in which attention ('{traced}') consists of"
            " plain operations: check the network before this step, and compare the outputs of"
            " both"
        )
    if is_sharded(model):
        raise BackboneError(
            f"{name} is sharded (fully_shard, FSDP) and cannot be copied: check it before that"
        )
    try:
        with torch.inference_mode(False), twin_of(model) as twin:
            undecided(twin.eval())
            x = image_for(twin, input_shape)
            before, repeated = _counted_outputs(twin, x)
            if repeated:
                raise BackboneError(f"{name} {_repeats(repeated)}: attach elsewhere")
            scales = _scales(twin, x)
            there = [
                Participation(
                    path,
                    type(module).__name__,
                    *_asked(twin, x, module, before),
                    scale=scales.get(path, 1.0),
                )
                for path, module in attached_modules(twin).items()
            ]
            learning = _learning(twin, x)
            there = [replace(one, learns=one.path in learning) for one in there]
    except BackboneError:
        raise
    except Exception as error:
        # whatever a user's own model may raise
        shape = "x".join(map(str, input_shape))
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise BackboneError(
            f"{name} cannot be checked on a {shape} image ({reason}): give the shape it expects"
        ) from error
    missing = lost_modules(model, None if expected is None else unwrapped(expected))
    lost = [Participation(path, kind, False, False, lost=True) for path, kind in missing.items()]
    return (*there, *lost)


def _learning(twin: nn.Module, x: Tensor) -> set[str]:
    """Paths of attention whose parameters a gradient reaches in a training step; of attention
    without parameters, those that have none to reach. All of them, if the network takes no step.
    """
    attention = attached_modules(twin)
    # whatever a user's own model may raise in training
    with torch.enable_grad(), suppress(Exception):
        step_back(step(twin, x.clone()))
        return {
            path
            for path, module in attention.items()
            if not any(True for _ in module.parameters())
            or any(parameter.grad is not None for parameter in module.parameters())
        }
    return set(attention)


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

    Attention takes the dtype of the maps that it gets: of a norm in float32 in a network of lower
    precision, that is not the dtype of its host.

    A model is not compared if it gives different outputs for one image and one seed, or none that
    could be compared; a warning says so.

    Raises:
        BackboneError: as `attach`; or the outputs differ, attention is repeated, or the model does
            not run. The model is then as before.
    """
    refuse_wrapped(model)
    dtypes: dict[str, torch.dtype] = {}
    why = "its weights are on the device meta, which has no numbers"
    if not floating(model).is_meta:
        with torch.inference_mode(False), ExitStack() as stack:
            try:
                twin = stack.enter_context(twin_of(model))
                undecided(twin.eval())
                x = image_for(twin, input_shape)
                before = [output.clone() for output in _outputs(twin, x)]
            except Exception as error:
                # whatever a user's own model may raise
                why = first_line(error)
            else:
                dtypes, why = _tried(twin, x, before, resolved)
    if why and _is_compared(resolved):
        warnings.warn(
            f"{type(model).__name__} is not compared before and after attaching: {why}",
            NasAttnWarning,
            stacklevel=3,
        )
    with torch.inference_mode(False):
        attach(model, resolved)
        for path, dtype in dtypes.items():
            model.get_submodule(path).to(dtype)
    _warn_of_untaught(model, resolved, input_shape)
    return model


def _is_compared(resolved: ResolvedPlacement) -> bool:
    """Whether the model has to compute what it did before."""
    return resolved.init == "identity" and not any(p.replaces for p, _ in resolved.modules)


def _tried(
    twin: nn.Module, x: Tensor, before: list[Tensor], resolved: ResolvedPlacement
) -> tuple[dict[str, torch.dtype], str]:
    """Attaches to a copy and runs it once.

    Args:
        twin: the copy, bare.
        x: an image.
        before: the copy's outputs.
        resolved: the placement.

    Returns:
        Path of each host's attention -> dtype of the map that it gets, of a network with several
        dtypes; why the outputs cannot be compared, or nothing.

    Raises:
        BackboneError: the outputs differ, attention is repeated, or the copy does not run.
    """
    name = type(twin).__name__
    dtypes = _attach_as_maps(twin, resolved)
    wrong, repeated = _changed(twin, x, before)
    if repeated:
        raise BackboneError(
            f"{name} {_repeats(repeated)}: the model is as before; attach elsewhere"
        )
    if wrong is None or not _is_compared(resolved):
        return dtypes, ""
    detach(twin)
    if _differ(before, _outputs(twin, x)):
        return dtypes, "two runs of one image differ"
    raise BackboneError(
        f"{name} {wrong} with attention at '{_culprit(twin, x, before, resolved)}', which begins as"
        " the identity: the model is as before; its code may compare the type of this module or run"
        " all its children, so let it use isinstance, or attach elsewhere"
    )


def _attach_as_maps(twin: nn.Module, resolved: ResolvedPlacement) -> dict[str, torch.dtype]:
    """`attach`, on a copy: the weights are drawn without an effect on the model's. In a network
    with several dtypes, each host's attention takes that of its map once it runs; returns these,
    to be filled.
    """
    dtypes: dict[str, torch.dtype] = {}

    def take(path: str, attention: nn.Module, args: tuple[Tensor, ...]) -> None:
        dtypes[path] = args[0].dtype
        attention.to(args[0].dtype)

    several = len({p.dtype for p in twin.parameters() if p.is_floating_point()}) > 1
    # what is to be said of the model is said when the model itself gets attention
    with torch.random.fork_rng(devices=()), warnings.catch_warnings(action="ignore"):
        attach(twin, resolved)
    for path, host in list(twin.named_modules()):
        if several and is_attended(host):
            where = f"{path}.{CHILD}".lstrip(".")
            host.get_submodule(CHILD).register_forward_pre_hook(partial(take, where))
    return dtypes


def _changed(twin: nn.Module, x: Tensor, before: list[Tensor]) -> tuple[str | None, str | None]:
    """(What is wrong with a copy's outputs, if they are not as before; the first host whose
    attention runs more often than itself.)
    """
    try:
        after, repeated = _counted_outputs(twin, x)
    except Exception as error:
        # whatever a user's own model may raise
        return f"does not run ({type(error).__name__}: {first_line(error)})", None
    return ("computes something else" if _differ(before, after) else None), repeated


def _culprit(twin: nn.Module, x: Tensor, before: list[Tensor], resolved: ResolvedPlacement) -> str:
    """The first place at which attention alone changes the outputs."""
    for point, choices in resolved.modules:
        _attach_as_maps(twin, replace(resolved, modules=((point, choices),)))
        wrong, _ = _changed(twin, x, before)
        detach(twin)
        if wrong is not None:
            return point.path
    return resolved.modules[0][0].path


def _warn_of_untaught(
    model: nn.Module, resolved: ResolvedPlacement, input_shape: tuple[int, int, int]
) -> None:
    """Warns of attention that no gradient reaches."""
    paths = [point.path for point, choices in resolved.modules if choices]
    if untaught := without_gradient(unwrapped(model), input_shape, paths, bare=False):
        warnings.warn(
            f"attention behind {', '.join(sorted(untaught))} will not learn: the code of"
            f" {type(model).__name__} runs it under torch.no_grad() or detaches what it makes, so"
            " no gradient arrives",
            NasAttnWarning,
            stacklevel=4,
        )


def _repeats(path: str) -> str:
    return (
        f"runs the attention at '{path}' more often than this module, as code does that runs all"
        " its children"
    )


def _counted_outputs(twin: nn.Module, x: Tensor) -> tuple[list[Tensor], str | None]:
    """(The outputs of a copy; path of the first host whose attention runs more often than the host
    itself, as in a block that runs all its children, or None.)
    """
    runs = Counter[str]()
    inner: dict[str, int] = {}
    with ExitStack() as counting:
        for path, host in twin.named_modules():
            if not is_attended(host):
                continue
            counting.enter_context(_counted(host, runs, path))
            modules = list(host.get_submodule(CHILD).children())
            inner[path] = len(modules)
            for module in modules:
                hook = partial(_count, runs, f"{path}.{CHILD}")
                counting.enter_context(module.register_forward_pre_hook(hook))
        outputs = _outputs(twin, x)
    for path, count in inner.items():
        if runs[path] and runs[f"{path}.{CHILD}"] > count * runs[path]:
            return outputs, path
    return outputs, None


@contextmanager
def _counted(host: nn.Module, runs: Counter[str], path: str) -> Iterator[None]:
    """Meanwhile, each forward of a host is counted, also where its code calls `forward` itself."""
    forward = host.forward

    def counting(*args: Any, **kwargs: Any) -> Any:
        runs[path] += 1
        return forward(*args, **kwargs)

    host.__dict__["forward"] = counting
    try:
        yield
    finally:
        del host.__dict__["forward"]


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


def _traced_attention(model: nn.Module) -> str | None:
    """The first place at which attention became part of a torch graph or program; None if there is
    none.
    """
    for path, module in model.named_modules():
        if path.rpartition(".")[2] == CHILD and not isinstance(module, nn.Sequential):
            return str(path)
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                for inner, _ in node.meta.get("nn_module_stack", {}).values():
                    if CHILD in inner.split("."):
                        return str(inner)
    return None


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
