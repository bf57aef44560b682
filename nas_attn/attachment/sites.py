"""The sites of a model: stages and blocks, with the points that each position means."""

import copy
import re
from collections import Counter
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import nn

from nas_attn.attachment.attaching import detach, iterates_children
from nas_attn.attachment.blocks import CONTAINERS, FOLDED, Block, BlockFinder, safest
from nas_attn.attachment.deploying import merged_modules
from nas_attn.attachment.extra_sites import custom_sites, original_attention
from nas_attn.attachment.flow import CONVOLUTIONS, MATRIX_PRODUCTS, Flow
from nas_attn.attachment.recording import Call, Value, record
from nas_attn.attachment.roles import Roles
from nas_attn.errors import BackboneError
from nas_attn.records import Point, Role, Site, Survey

Granularity = Literal["stage", "block", "both"]

NAMES: Mapping[Role, str] = {"backbone": "stage", "neck": "neck", "head": "head"}
"""Role -> what its sites are called, before their number."""

SHOWN = 3
"""So many names are listed, the others counted."""


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
    """Where attention may go in a model, and where it may not and why; nothing in the model changes.

    Blocks whose outputs have the same shape and follow each other form a stage, `stage1` … `stageN`; the blocks of a
    stage are `stageK.block1` …. In the neck of a detector or segmenter they are called `neckK`, in its head `headK`; the
    maps that a head takes are sites of the neck as well. Attention that the backbone has of its own is `stageK.original` (by
    shape `stageK.original1`, …): what is attached there takes its place. Attention that is attached already is looked
    through.

    Args:
        input_shape: channels, height, width of one image.
        custom: further sites, name -> globs over module paths, `{"neck": ["fpn.layer_blocks.0"]}`.
        heads: also list layers that only lead to outputs.

    Raises:
        BackboneError: the model cannot process such an image, has no 4-D feature maps to speak of, or a custom site
            matches none.
    """
    recording = record(model, input_shape, bare=True)
    flow = Flow(recording)
    merged = merged_modules(detach(copy.deepcopy(model)).eval(), input_shape)
    unusable = merged | {path for path, module in model.named_modules() if iterates_children(module)}
    finder = BlockFinder(flow, unusable)
    total = max(recording.macs, 1)
    blocks = _blocks(finder, required=model if not custom else None)
    roles = Roles(flow, [block.value for block in blocks])
    if roles.levels() and all(roles.of(block.value) == "head" for block in blocks):  # the rest is a chain (yolov3-tiny)
        blocks = finder.chain()
        roles = Roles(flow, [block.value for block in blocks])
    blocks = _with_levels(finder, blocks, roles.levels())
    paths = frozenset(block.path for block in blocks)
    stages = _named(_stages(finder, blocks, roles), heads)
    wholes: list[Site] = []
    parts: list[Site] = []
    for stage in stages:
        wholes.append(_stage_site(stage, finder, paths, total))
        wholes.extend(original_attention(flow, [b.path for b in stage.blocks], unusable, stage.name, stage.role))
        parts.extend(
            _block_site(f"{stage.name}.block{j}", stage.role, block, total)
            for j, block in enumerate(stage.blocks, start=1)
        )
    own = list(custom_sites(flow, custom or {}, unusable, total, roles))
    for name in {site.name for site in own} & {site.name for site in (*wholes, *parts)}:
        raise BackboneError(f"'{name}' is already a site of the network: give yours another name")
    sites = (*wholes, *own, *parts)
    return Survey(sites, tuple(_notes(finder, roles, blocks, sites, merged)))


def find_sites(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    *,
    granularity: Granularity = "stage",
    custom: Mapping[str, Sequence[str]] | None = None,
    originals: bool = False,
    heads: bool = False,
) -> tuple[Site, ...]:
    """The sites of a survey.

    Args:
        granularity: one site per stage, or one per block, or `both`.
        originals: list attention that the backbone has of its own, too.
        custom, heads: as for `survey`, which says more.

    Raises:
        BackboneError: as `survey`.
    """
    found = survey(model, input_shape, custom=custom, heads=heads).sites
    return tuple(site for site in found if _asked(site, granularity, custom or {}, originals))


def reshaped(sites: Sequence[Site], model: nn.Module, input_shape: tuple[int, int, int]) -> tuple[Site, ...]:
    """Sites that were found with images of another shape, their points with the maps of this one.

    Raises:
        BackboneError: the model cannot process such an image, or has no such modules.
    """
    flow = Flow(record(model, input_shape, bare=True))

    def seen(point: Point) -> Point:
        calls = flow.calls_of.get(point.path, [])
        if not calls or calls[-1].output is None:
            raise BackboneError(f"{type(model).__name__} has no map at '{point.path}' where it had one")
        _, channels, height, width = flow.shapes[calls[-1].output]
        return replace(point, channels=channels, height=height, width=width)

    return tuple(
        replace(site, points=tuple((at, tuple(seen(point) for point in points)) for at, points in site.points))
        for site in sites
    )


def _asked(site: Site, granularity: Granularity, custom: Container[str], originals: bool) -> bool:
    if site.original and "." in site.name and site.name not in custom:
        return originals
    if granularity == "both" or site.name in custom:
        return True
    return ("." in site.name) == (granularity == "block")


def _blocks(finder: BlockFinder, *, required: nn.Module | None) -> list[Block]:
    """The blocks of a network; of a plain chain, its layers.

    Raises:
        BackboneError: there are none, or most of the network lies behind what looks like some (a vision transformer's
            stem), and they are `required` of this model.
    """
    flow = finder.flow
    blocks = finder.find()
    if not (blocks and finder.classes):
        blocks = [block for block in blocks if block.shape[1:] != (1, 1)] or finder.chain()  # a classifier is no block
        convolutions = sum(op.name in CONVOLUTIONS for op in flow.operations)
        products = sum(op.name in MATRIX_PRODUCTS for op in flow.operations)
        if not blocks or products > 8 + convolutions:
            if required is None:
                return []
            raise BackboneError(
                f"{type(required).__name__} has no stages of 4-D feature maps (found {convolutions} convolutions and "
                f"{products} matrix products): name modules that return maps (N, C, H, W) as custom sites, or take a "
                "convolutional backbone"
            )
    return blocks


def _stages(finder: BlockFinder, blocks: Sequence[Block], roles: Roles) -> list[Stage]:
    """Blocks grouped by role and shape: consecutive ones, and those of one repeated list (branches at several
    resolutions) but for such as different modules join, or as a block of another shape lies between (a pyramid's way
    down and its way up)."""
    stages: list[Stage] = []
    for block in blocks:
        role = roles.of(block.value)
        alike = [s for s in stages if s.role == role and s.blocks[0].shape == block.shape]
        fitting = [s for s in alike if s is stages[-1] or _in_parallel(finder, s.blocks[-1], block, blocks)]
        if fitting:
            fitting[-1].blocks.append(block)
        else:
            stages.append(Stage(role, [block]))
    return stages


def _in_parallel(finder: BlockFinder, one: Block, other: Block, blocks: Sequence[Block]) -> bool:
    """Whether two blocks are of one list, beside blocks of other shapes and not before and behind one."""
    if _list(one) != _list(other) or _joined_in(finder, one) != _joined_in(finder, other):
        return False
    before = finder.flow.ancestors(other.value)
    between = (block for block in blocks if block.shape != one.shape and block.value in before)
    return not any(one.value in finder.flow.ancestors(block.value) for block in between)


def _named(stages: list[Stage], heads: bool) -> list[Stage]:
    """The stages that are shown, with their names; heads where they are asked for, or where there is nothing else."""
    heads = heads or all(stage.role == "head" for stage in stages)
    numbers: Counter[Role] = Counter()
    shown = [stage for stage in stages if heads or stage.role != "head"]
    for stage in shown:
        numbers[stage.role] += 1
        stage.name = f"{NAMES[stage.role]}{numbers[stage.role]}"
    return shown


def _list(block: Block) -> str:
    """The path without its numbers: blocks of one list have the same."""
    return re.sub(r"\b\d+\b", "*", block.path)


def _points(paths: Iterable[str], shape: tuple[int, int, int]) -> tuple[Point, ...]:
    return tuple(Point(path, *shape) for path in paths)


def _stage_site(stage: Stage, finder: BlockFinder, paths: frozenset[str], total: int) -> Site:
    blocks, shape = stage.blocks, stage.blocks[0].shape
    hosts = [block.host for block in blocks if block.host]
    whole = _composite(finder, blocks, paths)
    last = _points(hosts[-1:] if blocks[-1].host else [], shape)
    by_position = {
        "residual": _points((path for block in blocks for path in block.residual), shape),
        "block": _points(hosts, shape),
        "stage": last if whole is None else _points([whole[0]], whole[1]),
    }
    points = tuple((position, found) for position, found in by_position.items() if found)
    return Site(stage.name, points, sum(block.macs for block in blocks) / total, stage.role)


def _block_site(name: str, role: Role, block: Block, total: int) -> Site:
    by_position = {
        "residual": _points(block.residual, block.shape),
        "block": _points([block.host] if block.host else [], block.shape),
    }
    points = tuple((position, found) for position, found in by_position.items() if found)
    return Site(name, points, block.macs / total, role)


# ------------------------------------------------------------------------------------------- around blocks


def _composite(
    finder: BlockFinder, blocks: Sequence[Block], paths: Collection[str]
) -> tuple[str, tuple[int, int, int]] | None:
    """The module that joins these blocks' results with others, as a CSP stage does, and its output's shape.

    It holds no other block of the network, and its map has the blocks' size.

    Args:
        paths: of all blocks.
    """
    flow, found = finder.flow, None
    mine = {block.path for block in blocks}
    last = flow.calls_of[blocks[-1].path][-1]
    for index in flow.recording.stack(last.index)[1:-1]:
        call = flow.calls[index]
        value = flow.map_of(call)
        inside = {c.path for c in flow.calls[call.index :] if c.last <= call.last and c.path in paths}
        if value is None or not inside <= mine or flow.shapes[value][2:] != blocks[-1].shape[1:]:
            break
        if finder.in_one_place(call) and not issubclass(call.module, CONTAINERS) and finder.joins(call, layers=2):
            found = (call.path, (flow.shapes[value][1], *blocks[-1].shape[1:]))
    return found


def _joined_in(finder: BlockFinder, block: Block) -> str | None:
    """The innermost module around a block that joins its result with others; None where there is none."""
    flow = finder.flow
    around = flow.recording.stack(flow.calls_of[block.path][-1].index)[1:-1]
    calls = (flow.calls[index] for index in around)
    return next((c.path for c in calls if not issubclass(c.module, CONTAINERS) and finder.joins(c, layers=2)), None)


def _with_levels(finder: BlockFinder, blocks: list[Block], levels: Sequence[Value]) -> list[Block]:
    """The blocks, and as one each of these maps that no block makes, where it is the result of a module."""
    flow = finder.flow
    known = {block.value for block in blocks}
    known |= {
        call.output
        for block in blocks
        for call in flow.calls
        if call.output is not None and _around(finder, call, block)
    }
    added = []
    for value in levels:
        host = safest(call for call in flow.returned[value] if finder.in_one_place(call))
        if value not in known and host is not None:
            _, channels, height, width = flow.shapes[value]
            added.append(Block(host.path, host.path, (), (channels, height, width), flow.macs(host), value))
    return sorted([*blocks, *added], key=lambda block: flow.producer.get(block.value, -1)) if added else blocks


def _around(finder: BlockFinder, call: Call, block: Block) -> bool:
    """Whether a call holds a block and joins it with others."""
    inner = finder.flow.calls_of[block.path][-1]
    held = 0 < call.index < inner.index and inner.last <= call.last
    return held and finder.joins(call, layers=2)


# ------------------------------------------------------------------------------------------- why something is no site


def _notes(
    finder: BlockFinder, roles: Roles, blocks: Sequence[Block], sites: Sequence[Site], merged: frozenset[str]
) -> Iterator[str]:
    """One sentence for each thing that a reader of the sites may wonder about.

    Args:
        merged: paths of modules that the network's own reparameterization removes.
    """
    flow = finder.flow
    stages = [site for site in sites if "." not in site.name]
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


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names) if more <= 1 else f"{', '.join(names[:SHOWN])} and {more} more"
