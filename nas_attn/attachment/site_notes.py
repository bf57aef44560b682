"""What is no site of a model, and why: notes beside a survey."""

from collections.abc import Collection, Iterable, Iterator, Sequence

from nas_attn.attachment.blocks import FOLDED, Block, BlockFinder
from nas_attn.attachment.flow import Flow
from nas_attn.attachment.roles import Roles
from nas_attn.space.placement import Site, SiteNote


def notes(  # noqa: PLR0913 - what a survey knows
    finder: BlockFinder,
    roles: Roles,
    blocks: Sequence[Block],
    sites: Sequence[Site],
    merged: frozenset[str],
    untaught: frozenset[str],
    heads: bool,
) -> Iterator[SiteNote]:
    """Notes the surprising facts about the sites.

    Args:
        finder: of the blocks, with the flow.
        roles: of the maps.
        blocks: all that were found.
        sites: those of the survey.
        merged: modules that reparameterization removes or changes.
        untaught: modules that no gradient reaches.
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
    if idle := tuple(block.path for block in blocks if finder.is_idle(block)):
        yield SiteNote("unused", idle)
    if untaught:
        yield SiteNote("no_gradient", tuple(sorted(untaught)))


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


def paths_of(sites: Iterable[Site]) -> Iterator[str]:
    for site in sites:
        for _, points in site.points:
            yield from (point.path for point in points)
