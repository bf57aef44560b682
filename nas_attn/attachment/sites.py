"""The sites of a model: stages and blocks, with the points that each position means."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from torch import nn

from nas_attn.attachment.attaching import iterates_children
from nas_attn.attachment.blocks import Block, BlockFinder
from nas_attn.attachment.extra_sites import custom_sites, original_attention
from nas_attn.attachment.flow import CONVOLUTIONS, MATRIX_PRODUCTS, Flow
from nas_attn.attachment.recording import record
from nas_attn.errors import BackboneError
from nas_attn.records import Point, Site


def find_sites(
    model: nn.Module,
    input_shape: tuple[int, int, int],
    *,
    granularity: Literal["stage", "block"] = "stage",
    custom: Mapping[str, Sequence[str]] | None = None,
    originals: bool = False,
) -> tuple[Site, ...]:
    """Where attention may go in a model, in the order of execution; nothing in the model changes.

    Blocks whose outputs have the same shape and follow each other form a stage, `stage1` … `stageN`; the blocks of a
    stage are `stageK.block1` …. Attention that is attached already is looked through.

    Args:
        input_shape: channels, height, width of one image.
        granularity: one site per stage, or one per block.
        custom: further sites, name -> globs over module paths, `{"neck": ["fpn.layer_blocks.0"]}`.
        originals: list attention that the backbone has of its own, too, as `stageK.original` (by shape `stageK.original1`,
            …): what is attached there takes its place.

    Raises:
        BackboneError: the model cannot process such an image, has no 4-D feature maps to speak of, or a custom site
            matches none.
    """
    recording = record(model, input_shape, bare=True)
    flow = Flow(recording)
    unusable = frozenset(path for path, module in model.named_modules() if iterates_children(module))
    total = max(recording.macs, 1)
    sites: list[Site] = []
    for k, stage in enumerate(_stages(_blocks(flow, unusable, required=model if not custom else None)), start=1):
        if granularity == "stage":
            sites.append(_stage_site(f"stage{k}", stage, total))
        else:
            sites.extend(_block_site(f"stage{k}.block{j}", block, total) for j, block in enumerate(stage, start=1))
        if originals:
            sites.extend(original_attention(flow, [block.path for block in stage], f"stage{k}"))
    return (*sites, *custom_sites(flow, custom or {}, unusable, total))


def _blocks(flow: Flow, unusable: frozenset[str], *, required: nn.Module | None) -> list[Block]:
    """The blocks of a network; of a plain chain, its layers.

    Raises:
        BackboneError: there are none, or most of the network lies behind what looks like some (a vision transformer's
            stem), and they are `required` of this model.
    """
    finder = BlockFinder(flow, unusable)
    blocks = finder.find()
    if blocks and finder.classes:
        return blocks
    blocks = blocks or finder.chain()
    convolutions = sum(op.name in CONVOLUTIONS for op in flow.operations)
    products = sum(op.name in MATRIX_PRODUCTS for op in flow.operations)
    if blocks and products <= 8 + convolutions:
        return blocks
    if required is None:
        return []
    raise BackboneError(
        f"{type(required).__name__} has no stages of 4-D feature maps (found {convolutions} convolutions and {products} "
        "matrix products): name modules that return maps (N, C, H, W) as custom sites, or take a convolutional backbone"
    )


def _stages(blocks: Iterable[Block]) -> list[list[Block]]:
    """Blocks grouped by shape: consecutive ones, and those of one repeated list (branches at several resolutions)."""
    stages: list[list[Block]] = []
    for block in blocks:
        fitting = [s for s in stages if s[0].shape == block.shape and (s is stages[-1] or _list(s[0]) == _list(block))]
        if fitting:
            fitting[-1].append(block)
        else:
            stages.append([block])
    return stages


def _list(block: Block) -> str:
    """The path without its numbers: blocks of one list have the same."""
    return re.sub(r"\b\d+\b", "*", block.path)


def _points(paths: Iterable[str], shape: tuple[int, int, int]) -> tuple[Point, ...]:
    return tuple(Point(path, *shape) for path in paths)


def _stage_site(name: str, blocks: list[Block], total: int) -> Site:
    shape = blocks[0].shape
    hosts = [block.host for block in blocks if block.host]
    by_position = {
        "residual": _points((path for block in blocks for path in block.residual), shape),
        "block": _points(hosts, shape),
        "stage": _points([blocks[-1].host] if blocks[-1].host else [], shape),
    }
    points = tuple((position, found) for position, found in by_position.items() if found)
    return Site(name, points, sum(block.macs for block in blocks) / total)


def _block_site(name: str, block: Block, total: int) -> Site:
    by_position = {
        "residual": _points(block.residual, block.shape),
        "block": _points([block.host] if block.host else [], block.shape),
    }
    return Site(name, tuple((position, found) for position, found in by_position.items() if found), block.macs / total)
