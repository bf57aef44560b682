"""The sites of a model: stages, blocks, modules that a user names, and the backbone's own
attention.
"""

import itertools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Literal, cast

from torch import nn

from nas_attn.attachment.attaching import iterates_children
from nas_attn.attachment.blocks import Block, BlockFinder, safest
from nas_attn.attachment.flow import Flow, attends_in_a_branch, gates_its_input
from nas_attn.attachment.gradients import without_gradient
from nas_attn.attachment.inference_form import merged_modules
from nas_attn.attachment.operations import CONTAINERS, CONVOLUTIONS, MATRIX_PRODUCTS
from nas_attn.attachment.recording import Call, Value, record
from nas_attn.attachment.roles import Roles
from nas_attn.attachment.site_notes import notes, paths_of
from nas_attn.errors import BackboneError, did_you_mean
from nas_attn.space.placement import Point, Role, Site, Survey

Granularity = Literal["stage", "block", "both"]

SITE_PREFIXES: Mapping[Role, str] = {"backbone": "stage", "neck": "neck", "head": "head"}
"""Role -> name of its sites, without their number."""


@dataclass(eq=False)
class Stage:
    """Blocks of one role whose outputs have one shape."""

    role: Role
    blocks: list[Block]
    name: str = ""
    """Empty where it is not shown."""


def survey(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    *,
    custom: Mapping[str, Sequence[str]] | None = None,
    heads: bool = False,
) -> Survey:
    """Finds where attention can go in a model, and why it cannot go elsewhere; does not change the
    model.

    Blocks whose outputs have the same shape and follow each other form a stage, `stage1` …
    `stageN`; the blocks of a stage are `stageK.block1` …. In the neck of a detector or segmenter
    they are called `neckK`, in its head `headK`; the maps that a head takes are sites of the neck
    as well. The backbone's own attention is `stageK.original` (by shape `stageK.original1`, …):
    attention that is attached there replaces it. Attached attention is ignored.

    Args:
        input_shape: channels, height, width of one image.
        custom: further sites, name -> globs over module paths, `{"neck": ["fpn.layer_blocks.0"]}`.
        heads: also list layers that only lead to outputs.

    Raises:
        BackboneError: the model cannot process such an image, has no stages of 4-D feature maps, or
            a custom site matches no module with maps.
    """
    recording = record(model, input_shape, bare=True)
    flow = Flow(recording)
    merged = merged_modules(model, input_shape)
    unusable = merged | {
        path for path, module in model.named_modules() if iterates_children(module)
    }
    finder = BlockFinder(flow, unusable)
    total = max(recording.macs, 1)
    every_block, roles = _blocks_with_roles(finder, required=model if not custom else None)
    blocks = [block for block in every_block if not finder.is_idle(block)] or every_block
    own = list(_custom_sites(finder, custom or {}, total, roles))
    hosts = {*paths_of(own), *itertools.chain.from_iterable(map(_hosts, blocks))}
    untaught = without_gradient(model, input_shape, hosts, bare=True)
    blocks = [block for block in blocks if not untaught.issuperset(_hosts(block))] or blocks
    wholes, parts = _stage_sites(finder, blocks, roles, total=total, heads=heads)
    for name in {site.name for site in own} & {site.name for site in (*wholes, *parts)}:
        raise BackboneError(f"'{name}' is already a site of the network: give yours another name")
    sites = (*wholes, *own, *parts)
    return Survey(sites, tuple(notes(finder, roles, every_block, sites, merged, untaught, heads)))


def _hosts(block: Block) -> Iterator[str]:
    yield from block.residual
    if block.host is not None:
        yield block.host


def _blocks_with_roles(
    finder: BlockFinder, *, required: nn.Module | None
) -> tuple[list[Block], Roles]:
    """The blocks of a network and the roles of its maps. BackboneError: it has none, and `required`
    needs some.
    """
    blocks = _blocks(finder, required=required)
    roles = Roles(finder.flow, [block.value for block in blocks])
    if roles.levels() and all(roles.of(block.value) == "head" for block in blocks):
        # The rest is a chain (yolov3-tiny).
        blocks = finder.chain()
        roles = Roles(finder.flow, [block.value for block in blocks])
    return _with_levels(finder, blocks, roles.levels()), roles


def _stage_sites(
    finder: BlockFinder, blocks: list[Block], roles: Roles, *, total: int, heads: bool
) -> tuple[list[Site], list[Site]]:
    """(Stages with the backbone's own attention, their blocks); `total`: MACs of the network."""
    paths = frozenset(block.path for block in blocks)
    wholes: list[Site] = []
    parts: list[Site] = []
    for stage in _named(_stages(finder, blocks, roles), heads):
        end = _end(finder, stage.blocks, paths)
        wholes.append(_site(stage.name, stage.role, stage.blocks, total, end))
        wholes.extend(_original_attention(finder.flow, stage, finder.unusable))
        parts.extend(
            _site(f"{stage.name}.block{j}", stage.role, [block], total)
            for j, block in enumerate(stage.blocks, start=1)
        )
    return wholes, parts


def find_sites(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    *,
    granularity: Granularity = "stage",
    custom: Mapping[str, Sequence[str]] | None = None,
    originals: bool = False,
    heads: bool = False,
) -> tuple[Site, ...]:
    """The sites of `survey`, which also explains them. Raises as `survey`.

    Args:
        granularity: one site per stage, or one per block, or `both`.
        originals: also list the backbone's own attention.
    """

    def asked(site: Site) -> bool:
        if site.name in (custom or {}):
            return True
        if site.original and "." in site.name:
            return originals
        return granularity == "both" or ("." in site.name) == (granularity == "block")

    return tuple(
        site for site in survey(model, input_shape, custom=custom, heads=heads).sites if asked(site)
    )


def reshaped(
    sites: Sequence[Site], model: nn.Module, input_shape: tuple[int, int, int]
) -> tuple[Site, ...]:
    """Sites that were found with images of another shape, with the map sizes for this one.
    BackboneError: the model cannot process such an image, or lacks the modules.
    """
    flow = Flow(record(model, input_shape, bare=True))

    def seen(point: Point) -> Point:
        calls = flow.calls_of.get(point.path, [])
        if not calls or calls[-1].output is None:
            raise BackboneError(
                f"{type(model).__name__} has no feature map at '{point.path}': use the study's"
                " model"
            )
        _, channels, height, width = flow.shapes[calls[-1].output]
        return replace(point, channels=channels, height=height, width=width)

    seen_sites = []
    for site in sites:
        points = tuple((position, tuple(map(seen, points))) for position, points in site.points)
        seen_sites.append(replace(site, points=points))
    return tuple(seen_sites)


def _blocks(finder: BlockFinder, *, required: nn.Module | None) -> list[Block]:
    """The blocks of a network; for a plain chain, its layers. BackboneError, if `required` for this
    model: there are none, or most of the network follows what looks like blocks (a vision
    transformer's stem).
    """
    blocks = finder.find()
    if blocks and finder.classes:
        return blocks
    # a classifier is no block
    blocks = [block for block in blocks if block.shape[1:] != (1, 1)] or finder.chain()
    names = [op.name for op in finder.flow.operations]
    convolutions = sum(name in CONVOLUTIONS for name in names)
    products = [i for i, name in enumerate(names) if name in MATRIX_PRODUCTS]
    if len(products) > 8 + convolutions:
        # what comes before most of a transformer is its stem, what comes behind a decoder
        middle = products[len(products) // 2]
        blocks = [block for block in blocks if finder.flow.producer[block.value] > middle]
    if blocks:
        return blocks
    if required is None:
        return []
    if finder.flow.recording.complex_values:
        raise BackboneError(
            f"{type(required).__name__} has no feature maps of real numbers: its maps are complex,"
            " which attention does not take; name modules that return real maps as custom sites"
        )
    raise BackboneError(
        f"{type(required).__name__} has no stages of 4-D feature maps (found {convolutions}"
        f" convolutions and {len(products)} matrix products): name modules that return maps"
        " (N, C, H, W) as custom sites, or take a convolutional backbone"
    )


def _stages(finder: BlockFinder, blocks: Sequence[Block], roles: Roles) -> list[Stage]:
    """Blocks grouped by role and shape: consecutive ones, and those of one repeated list (branches
    at several resolutions) but for such as different modules join, or as a block of another shape
    lies between (a pyramid's way down and its way up).
    """
    stages: list[Stage] = []
    for block in blocks:
        role = roles.of(block.value)
        alike = [s for s in stages if s.role == role and s.blocks[0].shape == block.shape]
        fitting = [
            s for s in alike if s is stages[-1] or _in_parallel(finder, s.blocks[-1], block, blocks)
        ]
        if fitting:
            fitting[-1].blocks.append(block)
        else:
            stages.append(Stage(role, [block]))
    return stages


def _in_parallel(finder: BlockFinder, one: Block, other: Block, blocks: Sequence[Block]) -> bool:
    """Whether two blocks are of one list and run in parallel to blocks of other shapes, not before
    and after one.
    """
    # their paths without numbers
    lists = {re.sub(r"\b\d+\b", "*", block.path) for block in (one, other)}
    if len(lists) > 1 or _joined_in(finder, one) != _joined_in(finder, other):
        return False
    before = finder.flow.ancestors(other.value)
    between = (block for block in blocks if block.shape != one.shape and block.value in before)
    return not any(one.value in finder.flow.ancestors(block.value) for block in between)


def _named(stages: list[Stage], heads: bool) -> list[Stage]:
    """The stages to show, with their names; heads only on request, or if there is nothing else."""
    heads = heads or all(stage.role == "head" for stage in stages)
    shown = [stage for stage in stages if heads or stage.role != "head"]
    for role, name in SITE_PREFIXES.items():
        for number, stage in enumerate((stage for stage in shown if stage.role == role), start=1):
            stage.name = f"{name}{number}"
    return shown


def _site(
    name: str, role: Role, blocks: Sequence[Block], total: int, end: tuple[Point, ...] = ()
) -> Site:
    """The site of these blocks; `end`: its points at the position `stage`."""
    shape = blocks[0].shape
    residual: list[Point] = []
    whole: list[Point] = []
    for block in blocks:
        residual += [Point(path, *shape) for path in block.residual]
        if block.host:
            whole.append(Point(block.host, *shape))
    by_position = {"residual": tuple(residual), "block": tuple(whole), "stage": end}
    points = tuple(
        (position, points_there) for position, points_there in by_position.items() if points_there
    )
    return Site(name, points, sum(block.macs for block in blocks) / total, role)


def _end(finder: BlockFinder, blocks: Sequence[Block], paths: Collection[str]) -> tuple[Point, ...]:
    """The last block's output; or of the module that joins these blocks' results with others, as a
    CSP stage does, which holds no other of the blocks at `paths`, and whose map has the blocks'
    size.
    """
    flow = finder.flow
    host = blocks[-1].host
    points = (Point(host, *blocks[-1].shape),) if host else ()
    mine = {block.path for block in blocks}
    last = flow.calls_of[blocks[-1].path][-1]
    for index in flow.recording.stack(last.index)[1:-1]:
        call = flow.calls[index]
        value = flow.map_of(call)
        inside = {
            c.path for c in flow.calls[call.index :] if c.last <= call.last and c.path in paths
        }
        if value is None or not inside <= mine or flow.shapes[value][2:] != blocks[-1].shape[1:]:
            break
        if (
            finder.in_one_place(call)
            and not issubclass(call.module, CONTAINERS)
            and finder.joins(call, layers=2)
        ):
            points = (_point(flow, call),)
    return points


def _joined_in(finder: BlockFinder, block: Block) -> str | None:
    """The innermost module around a block that joins its result with others; None if there is
    none.
    """
    flow = finder.flow
    around = flow.recording.stack(flow.calls_of[block.path][-1].index)[1:-1]
    for index in around:
        call = flow.calls[index]
        if not issubclass(call.module, CONTAINERS) and finder.joins(call, layers=2):
            return call.path
    return None


def _with_levels(finder: BlockFinder, blocks: list[Block], levels: Sequence[Value]) -> list[Block]:
    """The blocks, and as one each of these maps that no block makes, where it is the result of a
    module.
    """
    flow = finder.flow
    added = list[Block]()
    covered: set[Value | None] = {block.value for block in blocks}
    for inner in (flow.calls_of[block.path][-1] for block in blocks):
        # and modules that join a block with others
        around = (call for call in flow.calls[1 : inner.index] if inner.last <= call.last)
        covered |= {call.output for call in around if finder.joins(call, layers=2)}
    for value in levels:
        host = safest(call for call in flow.before_drop(value) if finder.in_one_place(call))
        if value in covered or host is None or any(block.path == host.path for block in added):
            continue
        if len(maps := flow.by_shape(host.path)) > 1:
            finder.several[host.path] = list(maps.values())
            continue
        _, channels, height, width = flow.shapes[value]
        macs = sum(map(flow.macs, flow.calls_of[host.path]))
        added.append(Block(host.path, host.path, (), (channels, height, width), macs, value))
    if added:
        return sorted([*blocks, *added], key=lambda block: flow.producer.get(block.value, -1))
    return blocks


def _custom_sites(
    finder: BlockFinder,
    custom: Mapping[str, Sequence[str]],
    total: int,
    roles: Roles,
) -> Iterator[Site]:
    """One site per name: the outputs of the modules whose paths match its globs, at position
    `block`; of a Sequential that of its last child, since code may run the children one by one.
    BackboneError: a glob matches no module, no maps, or maps of different shapes.
    """
    flow = finder.flow
    for name, patterns in custom.items():
        calls: list[Call] = []
        for pattern in patterns:
            calls += _matching(flow, name, pattern, finder.unusable)
        found_points = []
        for call in calls:
            host = finder.block_host(call) or call.path
            found_points.append(replace(_point(flow, call), path=host))
        points = tuple(dict.fromkeys(found_points))
        shapes = {(p.channels, p.height, p.width): p.path for p in points}
        if len(shapes) > 1:
            shapes_text = ", ".join(
                f"{path} {'x'.join(map(str, shape))}" for shape, path in shapes.items()
            )
            raise BackboneError(
                f"site '{name}' matches maps of different shapes ({shapes_text}): give each its own"
                " site"
            )
        unique = {call.index: call for call in calls}.values()
        role = roles.of(cast(Value, calls[-1].output))
        yield Site(
            name, (("block", points),), sum(flow.macs(call) for call in unique) / total, role
        )


def _matching(flow: Flow, name: str, pattern: str, unusable: frozenset[str]) -> list[Call]:
    paths = [path for path in flow.calls_of if path and fnmatchcase(path, pattern)]
    if not paths:
        close = did_you_mean(pattern, flow.calls_of)
        raise BackboneError(f"site '{name}': no module that runs matches '{pattern}': {close}")
    calls: list[Call] = []
    for path in paths:
        if path not in unusable:
            calls += flow.calls_of[path]
    maps = [call for call in calls if flow.map_of(call) is not None]
    if not maps:
        why = (
            "cannot carry attention: it runs all its children in turn, or the network removes"
            " it later; name a module around it"
        )
        if calls:
            why = "returns no feature map (N, C, H, W) that attention could take"
        raise BackboneError(f"site '{name}': '{paths[0]}' {why}")
    return maps


def _original_attention(flow: Flow, stage: Stage, unusable: frozenset[str]) -> Iterator[Site]:
    """The backbone's own attention in a stage: one site per shape of map.

    It consists of modules that scale their input by a gate, computed from it with at least one
    layer, and of self-attention whose result its block adds; of nested ones only the outer.
    """
    calls_by_shape: dict[tuple[int, ...], list[Call]] = {}
    branches: set[int] = set()
    of_blocks = (flow.calls_of[block.path] for block in stage.blocks)
    for block in itertools.chain.from_iterable(of_blocks):
        end = 0
        for call in flow.calls[block.index + 1 :]:
            if call.last > block.last or call.first >= block.last:
                break
            if call.last <= end or call.path in unusable or not call.output:
                continue
            branch = attends_in_a_branch(flow, call)
            if branch or gates_its_input(flow, call):
                end = call.last
                if branch:
                    branches.add(call.index)
                calls_by_shape.setdefault(flow.shapes[call.output][1:], []).append(call)
    for number, calls in enumerate(calls_by_shape.values(), start=1):
        points = tuple(
            dict.fromkeys(
                replace(_point(flow, call), replaces=True, branch=call.index in branches)
                for call in calls
            )
        )
        name = f"{stage.name}.original"
        if len(calls_by_shape) > 1:
            name += str(number)
        share = sum(flow.macs(call) for call in calls) / max(flow.recording.macs, 1)
        yield Site(name, (("block", points),), share, stage.role)


def _point(flow: Flow, call: Call) -> Point:
    assert call.output is not None
    _, channels, height, width = flow.shapes[call.output]
    return Point(call.path, channels, height, width)
