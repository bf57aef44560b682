"""Which classes and functions there are for the names that a recipe can use.

This is the top floor: it fills the tables of `nas_attn.recipe.tables` when the package is imported.
What a row needs is named, and imported when it is first asked for. So a list of names loads neither
torch nor Optuna, and the floors below need not know what is built upon them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pkgutil import resolve_name
from typing import Any, Protocol, TypeVar

from nas_attn.recipe import tables
from nas_attn.recipe.tables import (
    BackboneSource,
    Cost,
    DataSet,
    Integration,
    LatencyMode,
    Metric,
    Sampler,
    TaskRow,
)


def _at(name: str) -> Callable[[], Any]:
    """Imports the class or function of this name, `package.module:name`, when called."""
    return partial(resolve_name, name)


COSTS = (
    Cost(
        "latency",
        "latency (times the backbone's)",
        "ratio",
        limit="max_latency_ratio",
        excess="its latency ratio {value} is above {limit}",
        description="the measured time of a forward pass, divided by the bare backbone's",
    ),
    Cost(
        "params",
        "parameters",
        "count",
        _at("nas_attn.attachment.counting:parameters"),
        limit="max_parameters",
        excess="{value} parameters are more than {limit}",
        description="trained parameters; shared ones count once",
    ),
    Cost(
        "macs",
        "MACs",
        "count",
        _at("nas_attn.attachment.counting:macs"),
        limit="max_macs",
        excess="{value} MACs are more than {limit}",
        description="multiply-accumulates of convolutions, linear layers and matrix products",
    ),
    Cost(
        "memory",
        "activations in all",
        "bytes",
        _at("nas_attn.attachment.counting:activation_bytes"),
        description="the size of all tensors that a forward pass makes, in float32",
    ),
)

METRICS = (
    Metric(
        "accuracy",
        "accuracy",
        implied=True,
        right_or_wrong=True,
        guess="on average",
        witness="brier",
    ),
    Metric(
        "balanced_accuracy",
        "balanced accuracy",
        per_image=_at("nas_attn.answer.contributions:of_recall"),
        guess="always",
    ),
    Metric(
        "macro_f1",
        "macro F1",
        per_image=_at("nas_attn.answer.contributions:of_f1"),
        needs_answers=True,
    ),
    Metric("loss", "log-loss", "loss"),
    Metric("brier", "Brier score", "loss"),
    Metric("mean_ap", "mean average precision", needs_answers=True),
    Metric("mae", "mean absolute error", "loss", needs_answers=True),
    Metric("r2", "R²", "number", needs_answers=True),
    Metric("mean_iou", "mean IoU"),
    Metric("pixel_accuracy", "pixel accuracy"),
    Metric("map50_95", "mAP50-95"),
    Metric("map50", "mAP50"),
)

SAMPLERS = (
    Sampler(
        "auto",
        lists_all=True,
        description="all placements if `trials` is enough for them, else `placement`",
    ),
    Sampler(
        "placement",
        description="learns what each choice adds at each site, and each type at all sites",
    ),
    Sampler(
        "tpe",
        _at("nas_attn.searching.propose.samplers:tpe"),
        description="Optuna's tree-structured Parzen estimator, all sites together",
    ),
    Sampler(
        "nsga2",
        _at("nas_attn.searching.propose.samplers:nsga2"),
        description="Optuna's NSGA-II",
    ),
    Sampler(
        "gp",
        _at("nas_attn.searching.propose.samplers:gp"),
        # its draws take a second each and repeat each other
        redraws=1,
        description="Optuna's Gaussian process",
    ),
    Sampler(
        "random",
        _at("nas_attn.searching.propose.samplers:at_random"),
        description="placements at random",
    ),
)

LATENCY_MODES = (
    LatencyMode("eager", _at("nas_attn.latency.nets:eager")),
    LatencyMode("compile", _at("nas_attn.latency.nets:compiled"), costly=True),
    LatencyMode("cuda-graph", _at("nas_attn.latency.nets:cuda_graph"), devices=("cuda",)),
    LatencyMode(
        "onnxruntime",
        _at("nas_attn.latency.nets:by_runtime"),
        package="onnxruntime",
        extra="onnx",
        costly=True,
        devices=("cpu", "cuda"),
        dtypes=("float32", "float16"),
        own_stream=True,
    ),
    LatencyMode(
        "onnxruntime-int8",
        _at("nas_attn.latency.nets:by_runtime"),
        package="onnxruntime",
        extra="onnx",
        costly=True,
        quantized=True,
        devices=("cpu",),
        dtypes=("float32",),
    ),
    LatencyMode(
        "openvino",
        _at("nas_attn.latency.nets:by_runtime"),
        package="openvino",
        extra="openvino",
        costly=True,
        devices=("cpu",),
        dtypes=("float32",),
    ),
    LatencyMode(
        "openvino-int8",
        _at("nas_attn.latency.nets:by_runtime"),
        package="openvino",
        extra="openvino",
        costly=True,
        quantized=True,
        devices=("cpu",),
        dtypes=("float32",),
    ),
    LatencyMode(
        "command",
        _at("nas_attn.latency.nets:by_command"),
        costly=True,
        dtypes=("float32", "float16"),
        by_command=True,
    ),
)

DATA_SETS = (
    DataSet("cued-digits", classes=_at("nas_attn.data.digits:cued"), grey=True, small=True),
    DataSet(
        "digits",
        classes=_at("nas_attn.data.digits:cluttered"),
        tags=_at("nas_attn.data.digits:tagged"),
        numbers=_at("nas_attn.data.digits:numbered"),
        masks=_at("nas_attn.data.digits:masked"),
        boxes=_at("nas_attn.data.digits:boxed"),
        grey=True,
        small=True,
    ),
    DataSet("digits-8x8", classes=_at("nas_attn.data.digits:plain"), grey=True, small=True),
    DataSet("fashion-mnist", classes=_at("nas_attn.data.published:read"), grey=True, small=True),
    DataSet("mnist", classes=_at("nas_attn.data.published:read"), grey=True, small=True),
    DataSet("cifar10", classes=_at("nas_attn.data.published:read")),
    DataSet("cifar100", classes=_at("nas_attn.data.published:read")),
    DataSet(
        "folder:PATH",
        classes=_at("nas_attn.data.table:read_classes"),
        tags=_at("nas_attn.data.table:read_tags"),
        numbers=_at("nas_attn.data.table:read_numbers"),
        masks=_at("nas_attn.data.folder:read_masks"),
    ),
    DataSet(
        "coco:FOLDER",
        tags=_at("nas_attn.data.coco:read_tags"),
        boxes=_at("nas_attn.data.coco:read_boxes"),
    ),
    # Read by another trainer than ours.
    DataSet("yolo:PATH.yaml"),
)

BACKBONE_SOURCES = (
    BackboneSource(
        "torchvision",
        package="torchvision",
        licence="BSD-3-Clause (torchvision)",
        build=_at("nas_attn.backbones.building:torchvision_network"),
    ),
    BackboneSource(
        "timm",
        package="timm",
        licence="Apache-2.0 (timm)",
        build=_at("nas_attn.backbones.building:timm_network"),
    ),
    BackboneSource(
        "smp",
        package="segmentation-models-pytorch",
        licence="MIT (segmentation_models_pytorch)",
        build=_at("nas_attn.backbones.building:smp_network"),
    ),
    BackboneSource(
        "ultralytics",
        package="ultralytics",
        licence="AGPL-3.0 (ultralytics)",
        build=_at("nas_attn.ultralytics.networks:detector"),
    ),
)

INTEGRATIONS = (Integration("ultralytics", _at("nas_attn.ultralytics.rebuilding:Ultralytics")),)

TASK_ROWS = (
    TaskRow(
        "classification",
        task="classification",
        facts=_at("nas_attn.training.tasks.classification:Classification"),
        data=_at("nas_attn.training.tasks.data:TaskData"),
        learnt=_at("nas_attn.training.tasks.class_scores:ClassOfImage"),
        answers=_at("nas_attn.export.formats:TaskExport"),
    ),
    TaskRow(
        "multi-label",
        task="multi-label",
        facts=_at("nas_attn.training.tasks.targets:MultiLabel"),
        data=_at("nas_attn.training.tasks.data:NamedImages"),
        learnt=_at("nas_attn.training.tasks.target_scores:LabelsOfImage"),
        answers=_at("nas_attn.export.formats:TaskExport"),
    ),
    TaskRow(
        "regression",
        task="regression",
        facts=_at("nas_attn.training.tasks.targets:Regression"),
        data=_at("nas_attn.training.tasks.data:NamedImages"),
        learnt=_at("nas_attn.training.tasks.target_scores:NumbersOfImage"),
        answers=_at("nas_attn.export.task_exports:RegressionExport"),
    ),
    TaskRow(
        "segmentation",
        task="segmentation",
        facts=_at("nas_attn.training.tasks.segmentation:Segmentation"),
        data=_at("nas_attn.training.tasks.data:TaskData"),
        learnt=_at("nas_attn.training.tasks.pixel_scores:ClassOfPixel"),
        answers=_at("nas_attn.export.formats:TaskExport"),
    ),
    TaskRow(
        "detection by ultralytics",
        task="detection",
        facts=_at("nas_attn.ultralytics.yolo_task:UltralyticsDetection"),
        data=_at("nas_attn.ultralytics.yolo_task:ReadByUltralytics"),
        learnt=_at("nas_attn.training.tasks.box_scores:BoxesOfImage"),
        answers=_at("nas_attn.ultralytics.yolo_export:UltralyticsExport"),
        evaluator=_at("nas_attn.ultralytics.rung_trainer:detector_evaluator"),
    ),
    TaskRow(
        "detection by an evaluator",
        task="detection",
        facts=_at("nas_attn.training.tasks.detection:EvaluatedDetection"),
        data=_at("nas_attn.training.tasks.data:ReadElsewhere"),
        learnt=_at("nas_attn.training.tasks.box_scores:BoxesOfImage"),
        answers=_at("nas_attn.export.task_exports:DetectorExport"),
    ),
    TaskRow(
        "detection",
        task="detection",
        facts=_at("nas_attn.training.tasks.detection:Detection"),
        data=_at("nas_attn.training.tasks.data:ImagesWithBoxes"),
        learnt=_at("nas_attn.training.tasks.box_scores:BoxesOfImage"),
        answers=_at("nas_attn.export.task_exports:DetectorExport"),
    ),
)


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_Row = TypeVar("_Row", bound=_Named)


def _fill(table: dict[str, _Row], rows: Iterable[_Row]) -> None:
    table.update((row.name, row) for row in rows)


_fill(tables.COSTS, COSTS)
_fill(tables.METRICS, METRICS)
_fill(tables.SAMPLERS, SAMPLERS)
_fill(tables.LATENCY_MODES, LATENCY_MODES)
_fill(tables.DATA_SETS, DATA_SETS)
_fill(tables.BACKBONE_SOURCES, BACKBONE_SOURCES)
_fill(tables.INTEGRATIONS, INTEGRATIONS)
_fill(tables.TASK_ROWS, TASK_ROWS)
