"""What is no site of a model, and why: notes beside a survey."""

from collections.abc import Collection, Iterable, Iterator, Sequence

from torch import nn

from nas_attn.attachment.blocks import FOLDED, Block, BlockFinder
from nas_attn.attachment.flow import Flow
from nas_attn.attachment.operations import CONVOLUTIONS, LAYERS
from nas_attn.attachment.recording import Call, Value
from nas_attn.attachment.roles import Roles
from nas_attn.space.placement import Site, SiteNote


def notes(
    finder: BlockFinder,
    roles: Roles,
    blocks: Sequence[Block],
    sites: Sequence[Site],
    merged: frozenset[str],
    heads: bool,
) -> Iterator[SiteNote]:
    """Notes the surprising facts about the sites.

    Args:
        finder: of the blocks, with the flow.
        roles: of the maps.
        blocks: all that were found.
        sites: those of the survey.
        merged: modules that reparameterization removes or changes.
        heads: whether layers of the head are listed.
    """
    yield from _merged(finder.flow, merged)
    yield from _outputs_only(roles, blocks, sites)
    yield from _several_shapes(finder, roles, heads=heads)
    for path, value in finder.repeated.items():
        if heads or roles.of(value) != "head":
            places = len(finder.flow.calls_of[path])
            yield SiteNote("several_places", (path,), places=places)
    yield from _repeated(finder.flow, sites)


def _merged(flow: Flow, merged: Collection[str]) -> Iterator[SiteNote]:
    """Of branches that reparameterization merges; layers that it only folds are not worth one."""
    paths = {
        call.path
        for call in flow.calls
        if call.path in merged and not issubclass(call.module, FOLDED)
    }
    if paths:
        yield SiteNote("merged", tuple(sorted(paths)))


def _outputs_only(
    roles: Roles, blocks: Sequence[Block], sites: Sequence[Site]
) -> Iterator[SiteNote]:
    """Of blocks of the head, if no stage is one of the head."""
    hidden = tuple(block.path for block in blocks if roles.of(block.value) == "head")
    has_head = any(site.role == "head" for site in sites if "." not in site.name)
    if hidden and not has_head:
        yield SiteNote("outputs_only", hidden)


def _several_shapes(finder: BlockFinder, roles: Roles, *, heads: bool) -> Iterator[SiteNote]:
    """Of parts that run on maps of several shapes; not of what is in them, too."""
    flow = finder.flow
    several = dict(finder.several)
    for call in roles.heads:
        maps = list(flow.by_shape(call.path).values())
        if len(maps) > 1:
            several[call.path] = maps
    for path, maps in several.items():
        is_listed = heads or roles.of(maps[0]) != "head"
        is_inside = any(path.startswith(f"{around}.") for around in several)
        if is_listed and not is_inside:
            shapes = tuple(tuple(flow.shapes[value][1:]) for value in maps)
            yield SiteNote("several_shapes", (path,), shapes=shapes)


def _repeated(flow: Flow, sites: Sequence[Site]) -> Iterator[SiteNote]:
    """Of points of sites that the network calls several times."""
    again = sorted(path for path in set(paths_of(sites)) if len(flow.calls_of[path]) > 1)
    if again:
        yield SiteNote("repeated", tuple(again))


def barred_notes(
    idle: Sequence[Block], frozen: Collection[str], untaught: Collection[str]
) -> Iterator[SiteNote]:
    """Of blocks on which no output depends, of frozen parts whose result nobody takes, and of
    modules that no gradient reaches.
    """
    if idle:
        yield SiteNote("unused", tuple(block.path for block in idle))
    if frozen:
        yield SiteNote("frozen", tuple(sorted(frozen)))
    if untaught:
        yield SiteNote("no_gradient", tuple(sorted(untaught)))


def teachers(flow: Flow, model: nn.Module) -> set[str]:
    """Paths of the network's frozen parts whose result no layer elsewhere takes, as of a teacher in
    a distillation; none if nothing is trained.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return set()
    teachers: set[str] = set()
    for path, part in _parts(flow, model):
        if any(parameter.requires_grad for parameter in part.parameters()):
            continue
        if not _feeds_others(flow, flow.calls_of[path]):
            teachers.add(path)
    return teachers


def _parts(flow: Flow, model: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The parts of a network that run and have parameters, with their paths: its children; those
    of the only child, if the model is around a network; those of a child that does not run itself
    (a ModuleDict).
    """
    children = {
        f"{path}.{name}".lstrip("."): child
        for name, child in model.named_children()
        if next(child.parameters(), None) is not None
    }
    for inner, child in children.items():
        is_around = len(children) == 1 or not flow.calls_of.get(inner)
        parts = list(_parts(flow, child, inner)) if is_around else []
        if parts:
            yield from parts
        elif flow.calls_of.get(inner):
            yield inner, child


def is_in(path: str, parts: Iterable[str]) -> bool:
    """Whether a path is one of these parts, or in one."""
    return any(f"{path}.".startswith(f"{part}.") for part in parts)


def paths_of(sites: Iterable[Site]) -> Iterator[str]:
    for site in sites:
        for _, points in site.points:
            yield from (point.path for point in points)


def _feeds_others(flow: Flow, calls: Sequence[Call]) -> bool:
    """Whether a layer outside of these calls works on what they made."""
    inside = set[int]()
    for call in calls:
        inside.update(range(call.first, call.last))
    made = set[Value]()
    for i in inside:
        made.update(flow.operations[i].outputs)
    for i, op in enumerate(flow.operations):
        if i in inside or made.isdisjoint(op.inputs):
            continue
        if op.name in LAYERS:
            return True
        made.update(op.outputs)
    return False


def unused_parts(
    finder: BlockFinder, roles: Roles, sites: Sequence[Site], blocks: Sequence[Block]
) -> Iterator[SiteNote]:
    """Notes each part behind the last site that has layers over maps and no site, such as a decoder
    of single layers.

    Args:
        finder: of the blocks, with the flow.
        roles: of the maps.
        sites: those of the survey.
        blocks: all that were found.
    """
    flow = finder.flow
    points = list(paths_of(sites))
    if flow.classifies or not points:
        return
    end = max(call.last for path in points for call in flow.calls_of[path])
    named = (*points, *(block.path for block in blocks))
    parts = []
    for call in _calls_behind(flow, flow.calls[0], end, named):
        values = [
            op.outputs[0]
            for op in flow.within(call)
            if op.name in CONVOLUTIONS and op.outputs[0] in flow.maps
        ]
        is_known = any(is_in(path, [call.path]) for path in named)
        if not is_known and any(roles.of(v) != "head" for v in values):
            parts.append(call.path)
    if parts:
        yield SiteNote("single_layers", tuple(parts))


def _calls_behind(flow: Flow, call: Call, end: int, named: Collection[str]) -> Iterator[Call]:
    """The calls of a network's parts that begin at this operation or later; `named`: paths of its
    blocks and hosts.
    """
    for child in flow.children[call.index]:
        if child.first >= end:
            yield child
        elif child.path not in named and all(is_in(path, [child.path]) for path in named):
            # it is the network, inside another module
            yield from _calls_behind(flow, child, end, named)
