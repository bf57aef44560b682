"""What is to be said about a network's sites: where attention has no effect at first, and why something is no site."""

from collections.abc import Iterator, Sequence

from torch import nn

from nas_attn.attachment.blocks import FOLDED, Block, BlockFinder
from nas_attn.attachment.flow import ADDITIONS, CONVOLUTIONS, NORMS, Flow
from nas_attn.attachment.recording import Value
from nas_attn.attachment.roles import Roles
from nas_attn.records import Site

FAINT = 1e-3
"""A scale of at most this lets nothing through as yet: LayerScale starts at 1e-6 or 1e-5, norms that start so at 0."""

PRODUCTS = frozenset({"mul", "mul_"})
SCALES = PRODUCTS | NORMS
"""What multiplies a map: by a gate of its own, by a parameter, or both."""

SHOWN = 3
"""So many names are listed, the others counted."""


def faint_blocks(finder: BlockFinder, blocks: Sequence[Block], model: nn.Module) -> frozenset[str]:
    """Paths of the blocks all of whose residual branches end in a scale that is nearly zero."""
    flow = finder.flow
    found = set()
    for block in blocks:
        branches = [branch for call in flow.calls_of[block.path] for branch, _ in finder.branches.get(call.index, ())]
        if branches and all(_ends_faint(flow, branch, model) for branch in branches):
            found.add(block.path)
    return frozenset(found)


def _ends_faint(flow: Flow, branch: Value, model: nn.Module) -> bool:
    """Whether a layer or scale with parameters of nearly zero stands between a branch's last layer and its add."""
    value: Value | None = branch
    while value is not None:
        op = flow.operations[flow.producer[value]] if value in flow.producer else None
        if op is None or op.name in ADDITIONS:
            return False
        made = [v for v in op.inputs if v not in flow.live and (v in flow.recording.parameters or v in flow.producer)]
        if op.name in SCALES | CONVOLUTIONS and made and all(_is_faint(flow, v, model) for v in made):
            return True
        if op.name in CONVOLUTIONS:
            return False
        live = [v for v in dict.fromkeys(op.inputs) if v in flow.live]
        gated = [v for v in live if op.name in PRODUCTS and flow.shapes[v] == flow.shapes[value]]
        value = live[0] if len(live) == 1 else gated[0] if len(gated) == 1 else None
    return False


def _is_faint(flow: Flow, value: Value, model: nn.Module) -> bool:
    """Whether a parameter, or what is made of parameters (a standardised weight times its gain), is nearly zero."""
    if value in flow.recording.parameters:
        return _is_small(model, flow.recording.parameters[value])
    op = flow.operations[flow.producer[value]] if value in flow.producer else None
    if op is None:
        return False
    of = [_is_faint(flow, v, model) for v in op.inputs]
    return any(of) if op.name in SCALES else len(of) == 1 and of[0]


def _is_small(model: nn.Module, name: str) -> bool:
    parameter = model.get_parameter(name).detach()
    return not parameter.is_meta and parameter.numel() > 0 and bool(parameter.abs().max() <= FAINT)


# ------------------------------------------------------------------------------------------- notes


def notes(
    finder: BlockFinder, roles: Roles, blocks: Sequence[Block], sites: Sequence[Site], merged: frozenset[str]
) -> Iterator[str]:
    """One sentence for each thing that a reader of the sites may wonder about.

    Args:
        merged: paths of modules that the network's own reparameterization removes.
    """
    flow = finder.flow
    stages = [site for site in sites if "." not in site.name]
    faint = [site.name for site in stages if site.faint]
    if faint:
        yield said_of_faint(faint)
    branched = sorted({call.path for call in flow.calls if call.path in merged and not issubclass(call.module, FOLDED)})
    if branched:
        yield (
            f"no sites, since the network's own reparameterization removes or changes them: {_listed(branched)}; latency is "
            "measured after it"
        )
    hidden = [block.path for block in blocks if roles.of(block.value) == "head"]
    if hidden and not any(site.role == "head" for site in stages):
        yield f"no sites, since they only lead to outputs: {_listed(hidden)}; heads=True lists them as head1 …"
    for path, maps in finder.several.items():
        if roles.of(maps[0]) != "head":
            shapes = _listed(["x".join(map(str, flow.shapes[value][1:])) for value in maps])
            yield f"{path} is not a site: it runs on maps of several shapes ({shapes}), and attention is built for one"
    for path, value in finder.repeated.items():
        if roles.of(value) != "head":
            times = len(flow.calls_of[path])
            yield f"{path} is not a site: the network calls it at {times} places, and attention would go to all of them"


def said_of_faint(names: Sequence[str]) -> str:
    """That attention in these sites' residual branches has no effect at first."""
    return (
        f"{_listed(names)}: the residual branches end in a scale that is nearly zero as yet, so attention at position residual "
        "has no effect at first; at positions block and stage it has"
    )


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names) if more <= 1 else f"{', '.join(names[:SHOWN])} and {more} more"
