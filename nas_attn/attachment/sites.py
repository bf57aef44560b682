"""The sites of a model: stages and blocks, with the points that each position means."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from torch import nn

from nas_attn.attachment.attaching import iterates_children
from nas_attn.attachment.blocks import Block, BlockFinder
from nas_attn.attachment.flow import CONVOLUTIONS, MATRIX_PRODUCTS, Flow
from nas_attn.attachment.recording import Recording, record
from nas_attn.errors import BackboneError
from nas_attn.records import Point, Site


def find_sites(
    model: nn.Module, input_shape: tuple[int, int, int], *, granularity: Literal["stage", "block"] = "stage"
) -> tuple[Site, ...]:
    """Where attention may go in a model, in the order of execution; nothing in the model changes.

    Blocks whose outputs have the same shape and follow each other form a stage, `stage1` … `stageN`; the blocks of a
    stage are `stageK.block1` …. Attention that is attached already is looked through.

    Args:
        input_shape: channels, height, width of one image.
        granularity: one site per stage, or one per block.

    Raises:
        BackboneError: the model cannot process such an image, or has no 4-D feature maps to speak of.
    """
    recording = record(model, input_shape, bare=True)
    unusable = frozenset(path for path, module in model.named_modules() if iterates_children(module))
    finder = BlockFinder(Flow(recording), unusable)
    blocks = finder.find()
    if not finder.classes:
        blocks = blocks or finder.chain()
        _refuse_transformer(model, recording, blocks)
    total = max(recording.macs, 1)
    sites = []
    for k, stage in enumerate(_stages(blocks), start=1):
        if granularity == "stage":
            sites.append(_stage_site(f"stage{k}", stage, total))
        else:
            sites.extend(_block_site(f"stage{k}.block{j}", block, total) for j, block in enumerate(stage, start=1))
    return tuple(sites)


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


def _refuse_transformer(model: nn.Module, recording: Recording, blocks: list[Block]) -> None:
    """Raises BackboneError where there are no blocks, or most of the network lies behind what looks like some."""
    convolutions = sum(op.name in CONVOLUTIONS for op in recording.operations)
    products = sum(op.name in MATRIX_PRODUCTS for op in recording.operations)
    if not blocks or products > 8 + convolutions:
        raise BackboneError(
            f"{type(model).__name__} has no stages of 4-D feature maps (found {convolutions} convolutions and {products} "
            "matrix products): name modules that return maps (N, C, H, W) as custom sites, or take a convolutional backbone"
        )
