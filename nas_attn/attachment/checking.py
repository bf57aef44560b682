"""Whether attached attention takes part: that it runs, and that the network's output depends on it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from nas_attn.attachment.attaching import attached_modules, lost_modules
from nas_attn.attachment.hosting import CHILD
from nas_attn.backbones.detectors import undecided
from nas_attn.errors import BackboneError
from nas_attn.records import Participation


def check(model: nn.Module, input_shape: tuple[int, int, int]) -> tuple[Participation, ...]:
    """What each attached module does when the model, in evaluation mode, sees an image; nothing in the model changes.

    A copy of it runs on one random image. The output depends on a module where it has a gradient; where there is none (a
    network may cut gradients, or decode its output), where the output changes with the module's.

    Args:
        model: also as wrapped by DistributedDataParallel or torch.compile.
        input_shape: channels, height, width of one image.

    Returns:
        In the order of `named_modules()`, attention that has lost its host (a tool rebuilt that) included; then what was
        attached and is not there any more.

    Raises:
        BackboneError: the model cannot be copied, or cannot process such an image.
    """
    model = unwrapped(model)
    name = type(model).__name__
    try:
        with torch.inference_mode(False):
            twin = undecided(copy.deepcopy(model).eval())
            modules = _attention(twin)
            run = _Run(twin, _image(twin, input_shape))
            ran, depends = run.gradients(modules)
            for path in ran - depends:
                if run.changes_with(modules[path]):
                    depends.add(path)
    except Exception as error:  # whatever a user's own model may raise
        shape = "x".join(map(str, input_shape))
        message = (str(error).strip().splitlines() or [""])[0]
        raise BackboneError(
            f"{name} cannot be checked on a {shape} image ({type(error).__name__}: {message}): give the shape it expects"
        ) from error
    there = [
        Participation(path, type(module).__name__, path in ran, path in depends) for path, module in modules.items()
    ]
    lost = [Participation(path, kind, False, False, lost=True) for path, kind in lost_modules(twin).items()]
    return (*there, *lost)


def tells_images_apart(model: nn.Module, input_shape: tuple[int, int, int]) -> bool:
    """Whether the model's output is another for another image, in evaluation mode."""
    twin = undecided(copy.deepcopy(unwrapped(model)).eval())
    x = _image(twin, input_shape)
    with torch.no_grad():
        one, other = (_Run(twin, image).outputs() for image in (x, 1 - x))
    return _differ(one, other)


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside what torch wraps around one."""
    while True:
        if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod  # type: ignore[assignment]
        else:
            return model


def _attention(model: nn.Module) -> dict[str, nn.Module]:
    """Attached modules by path, and those that still hang on a module which is no host."""
    found = attached_modules(model)
    for path, module in model.named_modules():
        child = module._modules.get(CHILD)
        if isinstance(child, nn.Sequential):
            prefix = f"{path}.{CHILD}" if path else CHILD
            found.update({f"{prefix}.{name}": inner for name, inner in child.named_children()})
    order = {path: i for i, (path, _) in enumerate(model.named_modules(remove_duplicate=False))}
    return dict(sorted(found.items(), key=lambda item: order[item[0]]))


def _image(model: nn.Module, shape: tuple[int, int, int]) -> Tensor:
    tensors = (t for source in (model.parameters(), model.buffers()) for t in source if t.is_floating_point())
    like = next(tensors, torch.zeros(()))
    x = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    return x.to(device=like.device, dtype=like.dtype)


class _Run:
    """Forwards of one network on one image, the same each time."""

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        self.model, self.x = model, x

    def outputs(self) -> list[Tensor]:
        """All floating-point tensors that come out."""
        devices = [self.x.device] if self.x.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(0)
            found = [t for t in tree_leaves(self.model(self.x)) if isinstance(t, Tensor) and t.is_floating_point()]
        if not found:
            raise ValueError("no tensors come out of it")
        return found

    def gradients(self, modules: Mapping[str, nn.Module]) -> tuple[set[str], set[str]]:
        """Paths of the modules that ran, and of those whose results have a gradient."""
        probes: dict[str, list[Tensor]] = {path: [] for path in modules}

        def watch(path: str) -> Callable[..., Tensor]:
            def hook(module: nn.Module, args: Any, y: Tensor) -> Tensor:
                probes[path].append(torch.zeros_like(y, requires_grad=True))
                return y + probes[path][-1]

            return hook

        with torch.enable_grad(), _hooks({module: watch(path) for path, module in modules.items()}):
            parts = [
                (y * torch.rand(y.shape, generator=torch.Generator().manual_seed(1)).to(y)).sum()
                for y in self.outputs()
                if y.requires_grad
            ]
            total = sum(parts[1:], parts[0]) if parts else None
        flat = [(path, probe) for path, found in probes.items() for probe in found]
        depends: set[str] = set()
        if total is not None and flat:
            gradients = torch.autograd.grad(total, [probe for _, probe in flat], allow_unused=True)
            depends = {
                path for (path, _), g in zip(flat, gradients, strict=True) if g is not None and g.count_nonzero()
            }
        return {path for path, found in probes.items() if found}, depends

    def changes_with(self, module: nn.Module) -> bool:
        """Whether the outputs are others where the module's result is."""

        def shake(_: nn.Module, args: Any, y: Tensor) -> Tensor:
            noise = torch.rand(y.shape, generator=torch.Generator().manual_seed(2)).to(y)
            return y + noise * (1 + y.abs().amax())

        with torch.no_grad():
            before = self.outputs()
            with _hooks({module: shake}):
                after = self.outputs()
        return _differ(before, after)


def _differ(some: list[Tensor], others: list[Tensor]) -> bool:
    return len(some) != len(others) or any(
        a.shape != b.shape or not torch.equal(a, b) for a, b in zip(some, others, strict=True)
    )


@contextmanager
def _hooks(hooks: Mapping[nn.Module, Callable[..., Tensor]]) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
