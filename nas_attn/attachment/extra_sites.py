"""Sites that are not stages or blocks: modules a user names, and attention that the backbone has of its own."""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from nas_attn.attachment.flow import Flow, gates_its_input
from nas_attn.attachment.recording import Call
from nas_attn.attachment.roles import Roles
from nas_attn.errors import BackboneError, did_you_mean
from nas_attn.records import Point, Role, Site

Shape = tuple[int, int, int]


def custom_sites(
    flow: Flow, custom: Mapping[str, Sequence[str]], unusable: frozenset[str], total: int, roles: Roles
) -> Iterator[Site]:
    """One site per name: the outputs of the modules whose paths match its globs, at position `block`.

    Raises:
        BackboneError: a glob matches nothing, or no maps, or maps of different shapes.
    """
    for name, patterns in custom.items():
        calls = [call for pattern in patterns for call in _matching(flow, name, pattern, unusable)]
        points = tuple(dict.fromkeys(_point(flow, call) for call in calls))
        shapes = {(p.channels, p.height, p.width): p.path for p in points}
        if len(shapes) > 1:
            found = ", ".join(f"{path} {'x'.join(map(str, shape))}" for shape, path in shapes.items())
            raise BackboneError(f"site '{name}' matches maps of different shapes ({found}): give each its own site")
        unique = {call.index: call for call in calls}.values()
        role = roles.of(calls[-1].output) if calls[-1].output is not None else "backbone"
        yield Site(name, (("block", points),), sum(flow.macs(call) for call in unique) / total, role)


def _matching(flow: Flow, name: str, pattern: str, unusable: frozenset[str]) -> list[Call]:
    paths = [path for path in flow.calls_of if path and fnmatchcase(path, pattern)]
    if not paths:
        raise BackboneError(
            f"site '{name}': no module that runs matches '{pattern}': {did_you_mean(pattern, flow.calls_of)}"
        )
    calls = [call for path in paths if path not in unusable for call in flow.calls_of[path]]
    maps = [call for call in calls if flow.map_of(call) is not None]
    if not maps:
        why = (
            "returns no feature map (N, C, H, W) that attention could take"
            if calls
            else "cannot carry attention: it runs all its children in turn, or the network removes it later; name a module around it"
        )
        raise BackboneError(f"site '{name}': '{paths[0]}' {why}")
    return maps


def original_attention(
    flow: Flow, within: Sequence[str], unusable: frozenset[str], prefix: str, role: Role
) -> Iterator[Site]:
    """Attention that the backbone has of its own in the modules at these paths: one site per shape of map.

    Found are modules that scale their input by a gate which they compute from it with at least one layer; of one inside
    another the outer.
    """
    found: dict[Shape, list[Call]] = {}
    for path in within:
        for block in flow.calls_of[path]:
            end = 0
            for call in flow.calls[block.index + 1 :]:
                if call.last > block.last or call.first >= block.last:
                    break
                usable = call.last > end and call.path not in unusable and call.output is not None
                if usable and gates_its_input(flow, call):
                    end = call.last
                    assert call.output is not None
                    _, channels, height, width = flow.shapes[call.output]
                    found.setdefault((channels, height, width), []).append(call)
    for number, calls in enumerate(found.values(), start=1):
        points = tuple(dict.fromkeys(_point(flow, call, replaces=True) for call in calls))
        name = f"{prefix}.original{number if len(found) > 1 else ''}"
        share = sum(flow.macs(call) for call in calls) / max(flow.recording.macs, 1)
        yield Site(name, (("block", points),), share, role)


def _point(flow: Flow, call: Call, *, replaces: bool = False) -> Point:
    assert call.output is not None
    _, channels, height, width = flow.shapes[call.output]
    return Point(call.path, channels, height, width, replaces)
