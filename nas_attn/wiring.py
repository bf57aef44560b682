"""Which classes and functions there are for the names that a recipe can use.

This is the top floor: it fills the tables of `nas_attn.recipe.tables` when the package is imported.
What a row needs is imported by a function of its own when it is first asked for. So a list of names
loads neither torch nor Optuna, and the floors below need not know what is built upon them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

from nas_attn.recipe import tables
from nas_attn.recipe.tables import (
    BackboneSource,
    Cost,
    DataSet,
    Function,
    Integration,
    LatencyMode,
    Metric,
    Sampler,
    TaskRow,
)


def _parameters() -> Function:
    from nas_attn.attachment.counting import parameters

    return parameters


def _macs() -> Function:
    from nas_attn.attachment.counting import macs

    return macs


def _activation_bytes() -> Function:
    from nas_attn.attachment.counting import activation_bytes

    return activation_bytes


def _training_bytes() -> Function:
    from nas_attn.attachment.kept_for_training import training_bytes

    return training_bytes


def _of_recall() -> Function:
    from nas_attn.answer.contributions import of_recall

    return of_recall


def _of_f1() -> Function:
    from nas_attn.answer.contributions import of_f1

    return of_f1


def _auto() -> type[Any]:
    from nas_attn.searching.propose.proposers import Auto

    return Auto


def _placement_proposer() -> type[Any]:
    from nas_attn.searching.propose.proposers import PlacementProposer

    return PlacementProposer


def _tpe() -> Function:
    from nas_attn.searching.propose.proposers import tpe

    return tpe


def _nsga2() -> Function:
    from nas_attn.searching.propose.proposers import nsga2

    return nsga2


def _gp() -> Function:
    from nas_attn.searching.propose.proposers import gp

    return gp


def _at_random() -> Function:
    from nas_attn.searching.propose.proposers import at_random

    return at_random


def _eager() -> Function:
    from nas_attn.latency.nets import eager

    return eager


def _compiled() -> Function:
    from nas_attn.latency.nets import compiled

    return compiled


def _cuda_graph() -> Function:
    from nas_attn.latency.nets import cuda_graph

    return cuda_graph


def _by_runtime() -> Function:
    from nas_attn.latency.nets import by_runtime

    return by_runtime


def _by_command() -> Function:
    from nas_attn.latency.nets import by_command

    return by_command


def _cued() -> Function:
    from nas_attn.data.digits import cued

    return cued


def _cluttered() -> Function:
    from nas_attn.data.digits import cluttered

    return cluttered


def _masked() -> Function:
    from nas_attn.data.digits import masked

    return masked


def _tagged() -> Function:
    from nas_attn.data.digits import tagged

    return tagged


def _numbered() -> Function:
    from nas_attn.data.digits import numbered

    return numbered


def _digits() -> Function:
    from nas_attn.data.digits import boxed

    return boxed


def _plain() -> Function:
    from nas_attn.data.digits import plain

    return plain


def _read() -> Function:
    from nas_attn.data.published import read

    return read


def _folder_read() -> Function:
    from nas_attn.data.table import read_classes

    return read_classes


def _read_masks() -> Function:
    from nas_attn.data.masks import read_masks

    return read_masks


def _read_tags() -> Function:
    from nas_attn.data.table import read_tags

    return read_tags


def _read_numbers() -> Function:
    from nas_attn.data.table import read_numbers

    return read_numbers


def _coco_tags() -> Function:
    from nas_attn.data.coco import coco_tags

    return coco_tags


def _coco_folder() -> Function:
    from nas_attn.data.coco import coco_folder

    return coco_folder


def _torchvision_network() -> Function:
    from nas_attn.backbones.building import torchvision_network

    return torchvision_network


def _timm_network() -> Function:
    from nas_attn.backbones.building import timm_network

    return timm_network


def _smp_network() -> Function:
    from nas_attn.backbones.building import smp_network

    return smp_network


def _detector() -> Function:
    from nas_attn.ultralytics.networks import detector

    return detector


def _ultralytics() -> type[Any]:
    from nas_attn.ultralytics.rebuilding import Ultralytics

    return Ultralytics


def _classification() -> type[Any]:
    from nas_attn.training.tasks.classification import Classification

    return Classification


def _task_data() -> type[Any]:
    from nas_attn.training.tasks.data import TaskData

    return TaskData


def _named_images() -> type[Any]:
    from nas_attn.training.tasks.data import NamedImages

    return NamedImages


def _class_of_image() -> type[Any]:
    from nas_attn.training.tasks.class_scores import ClassOfImage

    return ClassOfImage


def _task_export() -> type[Any]:
    from nas_attn.export.formats import TaskExport

    return TaskExport


def _multi_label() -> type[Any]:
    from nas_attn.training.tasks.multi_label import MultiLabel

    return MultiLabel


def _labels_of_image() -> type[Any]:
    from nas_attn.training.tasks.target_scores import LabelsOfImage

    return LabelsOfImage


def _regression() -> type[Any]:
    from nas_attn.training.tasks.regression import Regression

    return Regression


def _numbers_of_image() -> type[Any]:
    from nas_attn.training.tasks.target_scores import NumbersOfImage

    return NumbersOfImage


def _regression_export() -> type[Any]:
    from nas_attn.export.regression_export import RegressionExport

    return RegressionExport


def _segmentation() -> type[Any]:
    from nas_attn.training.tasks.segmentation import Segmentation

    return Segmentation


def _class_of_pixel() -> type[Any]:
    from nas_attn.training.tasks.pixel_scores import ClassOfPixel

    return ClassOfPixel


def _ultralytics_detection() -> type[Any]:
    from nas_attn.ultralytics.yolo_task import UltralyticsDetection

    return UltralyticsDetection


def _read_by_ultralytics() -> type[Any]:
    from nas_attn.ultralytics.yolo_task import ReadByUltralytics

    return ReadByUltralytics


def _boxes_of_image() -> type[Any]:
    from nas_attn.training.tasks.box_scores import BoxesOfImage

    return BoxesOfImage


def _ultralytics_export() -> type[Any]:
    from nas_attn.ultralytics.yolo_export import UltralyticsExport

    return UltralyticsExport


def _detector_evaluator() -> Function:
    from nas_attn.ultralytics.rung_trainer import detector_evaluator

    return detector_evaluator


def _evaluated_detection() -> type[Any]:
    from nas_attn.training.tasks.detection import EvaluatedDetection

    return EvaluatedDetection


def _read_elsewhere() -> type[Any]:
    from nas_attn.training.tasks.data import ReadElsewhere

    return ReadElsewhere


def _detector_export() -> type[Any]:
    from nas_attn.export.detector_export import DetectorExport

    return DetectorExport


def _detection() -> type[Any]:
    from nas_attn.training.tasks.detection import Detection

    return Detection


def _images_with_boxes() -> type[Any]:
    from nas_attn.training.tasks.data import ImagesWithBoxes

    return ImagesWithBoxes


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
        _parameters,
        limit="max_parameters",
        excess="{value} parameters are more than {limit}",
        description="trained parameters; shared ones count once",
    ),
    Cost(
        "macs",
        "MACs",
        "count",
        _macs,
        limit="max_macs",
        excess="{value} MACs are more than {limit}",
        description="multiply-accumulates of convolutions, linear layers and matrix products",
    ),
    Cost(
        "memory",
        "activations in all",
        "bytes",
        _activation_bytes,
        description="the size of all tensors that a forward pass makes, in float32",
    ),
    Cost(
        "training_memory",
        "memory kept for training",
        "bytes",
        _training_bytes,
        limit="max_training_memory",
        excess="{value} bytes kept for training are more than {limit}",
        description="what one image's forward pass keeps for the backward pass, parameters aside",
    ),
)

METRICS = (
    Metric(
        "accuracy",
        "accuracy",
        implied=True,
        right_or_wrong=True,
        guess="on average",
        saturates=0.9,
        witness="brier",
    ),
    Metric(
        "balanced_accuracy",
        "balanced accuracy",
        per_image=_of_recall,
        guess="always",
        saturates=0.9,
    ),
    Metric(
        "macro_f1",
        "macro F1",
        per_image=_of_f1,
        needs_answers=True,
        saturates=0.9,
    ),
    Metric("loss", "log-loss", "loss"),
    Metric("brier", "Brier score", "loss"),
    Metric("mean_ap", "mean average precision", needs_answers=True, saturates=0.9),
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
        proposer=_auto,
        takes_prior=True,
        description="all placements if `trials` is enough for them, else `placement`",
    ),
    Sampler(
        "placement",
        proposer=_placement_proposer,
        takes_prior=True,
        description="learns what each choice adds at each site, and each type at all sites",
    ),
    Sampler(
        "tpe",
        _tpe,
        description="Optuna's tree-structured Parzen estimator, all sites together",
    ),
    Sampler(
        "nsga2",
        _nsga2,
        description="Optuna's NSGA-II",
    ),
    Sampler(
        "gp",
        _gp,
        # its draws take a second each and repeat each other
        redraws=1,
        description="Optuna's Gaussian process",
    ),
    Sampler(
        "random",
        _at_random,
        description="placements at random",
    ),
)

LATENCY_MODES = (
    LatencyMode("eager", _eager),
    LatencyMode("compile", _compiled, costly=True),
    LatencyMode("cuda-graph", _cuda_graph, devices=("cuda",)),
    LatencyMode(
        "onnxruntime",
        _by_runtime,
        package="onnxruntime",
        extra="onnx",
        costly=True,
        devices=("cpu", "cuda"),
        dtypes=("float32", "float16"),
        own_stream=True,
    ),
    LatencyMode(
        "onnxruntime-int8",
        _by_runtime,
        package="onnxruntime",
        extra="onnx",
        costly=True,
        quantized=True,
        devices=("cpu",),
        dtypes=("float32",),
    ),
    LatencyMode(
        "openvino",
        _by_runtime,
        package="openvino",
        extra="openvino",
        costly=True,
        devices=("cpu",),
        dtypes=("float32",),
    ),
    LatencyMode(
        "openvino-int8",
        _by_runtime,
        package="openvino",
        extra="openvino",
        costly=True,
        quantized=True,
        devices=("cpu",),
        dtypes=("float32",),
    ),
    LatencyMode(
        "command",
        _by_command,
        costly=True,
        dtypes=("float32", "float16"),
        by_command=True,
    ),
)

DATA_SETS = (
    DataSet("cued-digits", classes=_cued, grey=True, small=True),
    DataSet(
        "digits",
        classes=_cluttered,
        tags=_tagged,
        numbers=_numbered,
        masks=_masked,
        boxes=_digits,
        grey=True,
        small=True,
    ),
    DataSet("digits-8x8", classes=_plain, grey=True, small=True),
    DataSet("fashion-mnist", classes=_read, grey=True, small=True),
    DataSet("mnist", classes=_read, grey=True, small=True),
    DataSet("cifar10", classes=_read),
    DataSet("cifar100", classes=_read),
    DataSet(
        "folder:PATH",
        classes=_folder_read,
        tags=_read_tags,
        numbers=_read_numbers,
        masks=_read_masks,
    ),
    DataSet("coco:FOLDER", tags=_coco_tags, boxes=_coco_folder),
    # Read by another trainer than ours.
    DataSet("yolo:PATH.yaml"),
)

BACKBONE_SOURCES = (
    BackboneSource(
        "torchvision",
        package="torchvision",
        licence="BSD-3-Clause (torchvision)",
        build=_torchvision_network,
    ),
    BackboneSource(
        "timm",
        package="timm",
        licence="Apache-2.0 (timm)",
        build=_timm_network,
    ),
    BackboneSource(
        "smp",
        package="segmentation-models-pytorch",
        licence="MIT (segmentation_models_pytorch)",
        build=_smp_network,
    ),
    BackboneSource(
        "ultralytics",
        package="ultralytics",
        licence="AGPL-3.0 (ultralytics)",
        build=_detector,
    ),
)

INTEGRATIONS = (Integration("ultralytics", _ultralytics),)

TASK_ROWS = (
    TaskRow(
        "classification",
        task="classification",
        facts=_classification,
        data=_task_data,
        learnt=_class_of_image,
        answers=_task_export,
    ),
    TaskRow(
        "multi-label",
        task="multi-label",
        facts=_multi_label,
        data=_named_images,
        learnt=_labels_of_image,
        answers=_task_export,
    ),
    TaskRow(
        "regression",
        task="regression",
        facts=_regression,
        data=_named_images,
        learnt=_numbers_of_image,
        answers=_regression_export,
    ),
    TaskRow(
        "segmentation",
        task="segmentation",
        facts=_segmentation,
        data=_task_data,
        learnt=_class_of_pixel,
        answers=_task_export,
    ),
    TaskRow(
        "detection by ultralytics",
        task="detection",
        facts=_ultralytics_detection,
        data=_read_by_ultralytics,
        learnt=_boxes_of_image,
        answers=_ultralytics_export,
        evaluator=_detector_evaluator,
    ),
    TaskRow(
        "detection by an evaluator",
        task="detection",
        facts=_evaluated_detection,
        data=_read_elsewhere,
        learnt=_boxes_of_image,
        answers=_detector_export,
    ),
    TaskRow(
        "detection",
        task="detection",
        facts=_detection,
        data=_images_with_boxes,
        learnt=_boxes_of_image,
        answers=_detector_export,
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
