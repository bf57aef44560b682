"""What `modules` and `sites` say of attention modules, of networks and of search spaces."""

from __future__ import annotations

RUNTIMES_TITLE = (
    "CPU time of ResNet-8 with the module at every residual site, relative to the bare network"
)
MEASURED_WITH = "Measured with:"
NOT_TESTED = "TensorRT, RKNN and Core ML were not tested."
SAMPLES_TITLE = "Samples"


def modules_title(channels: int, size: int) -> str:
    """Of the table of all modules."""
    return f"Attention modules on {channels} channels, {size}x{size}, with their default knobs"


def unusable_line(name: str, package: str, reason: str) -> str:
    """That another package's module cannot be used, and why."""
    return f"{name} ({package}) cannot be used: {reason}"


def module_headline(name: str, title: str) -> str:
    """Which module it is."""
    return f"{name}: {title}"


def built_by_line(target: str) -> str:
    """Which class makes a module."""
    return f"built by {target}"


def module_at_line(choice: str, channels: int, size: int) -> str:
    """A module with all its knobs on a map."""
    return f"On {channels} channels, {size}x{size}: {choice}"


def counts_line(parameters: int, macs: int) -> str:
    """What a module costs."""
    return f"{parameters:,} parameters, {macs:,} MACs"


def sites_title(backbone: str, shape: str) -> str:
    """Of the table of a network's sites."""
    return f"Sites of {backbone} at {shape}"


def space_title(space: str, backbone: str, shape: str) -> str:
    """Of the table of a search space's choices."""
    return f"Search space {space} on {backbone} at {shape}"


def placements_line(count: int) -> str:
    """How many placements a search space has."""
    return f"{count:,} placements"
