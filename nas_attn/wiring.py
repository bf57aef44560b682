"""Which classes and functions there are for the names that a recipe can use.

This is the top floor, and the one place where the package names its own modules in text: these rows
are registered when the first one is looked up, and what a row names is imported when it is first
called. So a list of names loads neither torch nor Optuna, and the floors below need not know what
is built upon them. A test resolves every row.
"""

from __future__ import annotations

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
from nas_attn.system.notes import WORDINGS, Wording

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
        "nas_attn.attachment.counting:parameters",
        limit="max_parameters",
        excess="{value} parameters are more than {limit}",
        description="trained parameters; shared ones count once",
    ),
    Cost(
        "macs",
        "MACs",
        "count",
        "nas_attn.attachment.counting:macs",
        limit="max_macs",
        excess="{value} MACs are more than {limit}",
        description="multiply-accumulates of convolutions, linear layers and matrix products",
    ),
    Cost(
        "memory",
        "activations in all",
        "bytes",
        "nas_attn.attachment.counting:activation_bytes",
        description="the size of all tensors that a forward pass makes, in float32",
    ),
    Cost(
        "training_memory",
        "memory kept for training",
        "bytes",
        "nas_attn.attachment.kept_for_training:training_bytes",
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
        per_image="nas_attn.answer.class_metrics:of_recall",
        guess="always",
        saturates=0.9,
    ),
    Metric(
        "macro_f1",
        "macro F1",
        per_image="nas_attn.answer.class_metrics:of_f1",
        needs_answers=True,
        saturates=0.9,
    ),
    Metric("loss", "log-loss", "loss"),
    Metric("brier", "Brier score", "loss"),
    Metric("mean_iou", "mean IoU"),
    Metric("pixel_accuracy", "pixel accuracy"),
    Metric("map50_95", "mAP50-95"),
    Metric("map50", "mAP50"),
)

SAMPLERS = (
    Sampler(
        "auto",
        proposer="nas_attn.searching.propose.proposers:Auto",
        takes_prior=True,
        description="all placements if `trials` is enough for them, else `placement`",
    ),
    Sampler(
        "placement",
        proposer="nas_attn.searching.propose.proposers:PlacementProposer",
        takes_prior=True,
        description="learns what each choice adds at each site, and each type at all sites",
    ),
    Sampler(
        "tpe",
        "nas_attn.searching.propose.samplers:tpe",
        description="Optuna's tree-structured Parzen estimator, all sites together",
    ),
    Sampler(
        "nsga2",
        "nas_attn.searching.propose.samplers:nsga2",
        description="Optuna's NSGA-II",
    ),
    Sampler(
        "gp",
        "nas_attn.searching.propose.samplers:gp",
        # its draws take a second each and repeat each other
        redraws=1,
        description="Optuna's Gaussian process",
    ),
    Sampler(
        "random",
        "nas_attn.searching.propose.samplers:at_random",
        description="placements at random",
    ),
)

LATENCY_MODES = (
    LatencyMode("eager", "nas_attn.latency.nets:eager"),
    LatencyMode("compile", "nas_attn.latency.nets:compiled", costly=True),
    LatencyMode("cuda-graph", "nas_attn.latency.nets:cuda_graph", devices=("cuda",)),
    LatencyMode(
        "onnxruntime",
        "nas_attn.latency.nets:by_runtime",
        suffix=".onnx",
        write="nas_attn.latency.files:write_onnx",
        package="onnxruntime",
        extra="onnx",
        costly=True,
        devices=("cpu", "cuda"),
        dtypes=("float32", "float16"),
        own_stream=True,
    ),
    LatencyMode(
        "onnxruntime-int8",
        "nas_attn.latency.nets:by_runtime",
        suffix=".onnx",
        write="nas_attn.latency.files:write_onnx",
        package="onnxruntime",
        extra="onnx",
        costly=True,
        quantized=True,
        devices=("cpu",),
        dtypes=("float32",),
    ),
    LatencyMode(
        "openvino",
        "nas_attn.latency.nets:by_runtime",
        suffix=".onnx",
        write="nas_attn.latency.files:write_onnx",
        package="openvino",
        extra="openvino",
        costly=True,
        devices=("cpu",),
        dtypes=("float32",),
    ),
    LatencyMode(
        "tensorrt",
        "nas_attn.latency.nets:by_runtime",
        suffix=".onnx",
        write="nas_attn.latency.files:write_onnx",
        package="onnxruntime",
        costly=True,
        devices=("cuda",),
        dtypes=("float32", "float16"),
        own_stream=True,
    ),
    LatencyMode(
        "ncnn",
        "nas_attn.latency.nets:by_runtime",
        suffix=".param",
        write="nas_attn.latency.files:write_ncnn",
        package="ncnn",
        extra="ncnn",
        costly=True,
        devices=("cpu",),
        dtypes=("float32",),
    ),
    LatencyMode(
        "litert",
        "nas_attn.latency.nets:by_runtime",
        suffix=".tflite",
        write="nas_attn.latency.files:write_litert",
        package="ai_edge_litert",
        extra="litert",
        costly=True,
        devices=("cpu",),
        dtypes=("float32",),
    ),
    LatencyMode(
        "openvino-int8",
        "nas_attn.latency.nets:by_runtime",
        suffix=".onnx",
        write="nas_attn.latency.files:write_onnx",
        package="openvino",
        extra="openvino",
        costly=True,
        quantized=True,
        devices=("cpu",),
        dtypes=("float32",),
    ),
    LatencyMode(
        "command",
        "nas_attn.latency.nets:by_command",
        costly=True,
        dtypes=("float32", "float16"),
        by_command=True,
    ),
)

DATA_SETS = (
    DataSet("cued-digits", classes="nas_attn.data.digits:cued", grey=True, small=True),
    DataSet(
        "digits",
        classes="nas_attn.data.digits:cluttered",
        masks="nas_attn.data.digits:masked",
        boxes="nas_attn.data.boxes:digits",
        grey=True,
        small=True,
    ),
    DataSet("digits-8x8", classes="nas_attn.data.digits:plain", grey=True, small=True),
    DataSet("fashion-mnist", classes="nas_attn.data.published:read", grey=True, small=True),
    DataSet("mnist", classes="nas_attn.data.published:read", grey=True, small=True),
    DataSet("cifar10", classes="nas_attn.data.published:read"),
    DataSet("cifar100", classes="nas_attn.data.published:read"),
    DataSet(
        "folder:PATH",
        classes="nas_attn.data.folder:read",
        masks="nas_attn.data.masks:read_masks",
    ),
    DataSet("coco:FOLDER", boxes="nas_attn.data.coco:coco_folder"),
    # Read by another trainer than ours.
    DataSet("yolo:PATH.yaml"),
)

BACKBONE_SOURCES = (
    BackboneSource(
        "torchvision",
        package="torchvision",
        licence="BSD-3-Clause (torchvision)",
        build="nas_attn.backbones.building:torchvision_network",
        exists="nas_attn.backbones.larger:in_torchvision",
    ),
    BackboneSource(
        "timm",
        package="timm",
        licence="Apache-2.0 (timm)",
        build="nas_attn.backbones.building:timm_network",
        exists="nas_attn.backbones.larger:in_timm",
    ),
    BackboneSource(
        "smp",
        package="segmentation-models-pytorch",
        licence="MIT (segmentation_models_pytorch)",
        build="nas_attn.backbones.building:smp_network",
        exists="nas_attn.backbones.larger:in_smp",
    ),
    BackboneSource(
        "ultralytics",
        package="ultralytics",
        licence="AGPL-3.0 (ultralytics)",
        build="nas_attn.ultralytics.networks:detector",
        exists="nas_attn.ultralytics.networks:exists",
    ),
)

INTEGRATIONS = (Integration("ultralytics", "nas_attn.ultralytics.rebuilding:Ultralytics"),)

TASK_ROWS = (
    TaskRow(
        "classification",
        task="classification",
        facts="nas_attn.training.tasks.classification:Classification",
        data="nas_attn.training.tasks.classification.data:ImagesWithClasses",
        learnt="nas_attn.training.tasks.classification.learning:ClassOfImage",
        answers="nas_attn.export.formats:TaskExport",
    ),
    TaskRow(
        "segmentation",
        task="segmentation",
        facts="nas_attn.training.tasks.segmentation:Segmentation",
        data="nas_attn.training.tasks.segmentation.data:ImagesWithMasks",
        learnt="nas_attn.training.tasks.segmentation.learning:ClassOfPixel",
        answers="nas_attn.export.formats:TaskExport",
    ),
    TaskRow(
        "detection by ultralytics",
        task="detection",
        facts="nas_attn.ultralytics.task:UltralyticsDetection",
        data="nas_attn.ultralytics.task:ReadByUltralytics",
        learnt="nas_attn.training.tasks.detection.learning:BoxesOfImage",
        answers="nas_attn.ultralytics.answers:UltralyticsExport",
        evaluator="nas_attn.ultralytics.training:detector_evaluator",
    ),
    TaskRow(
        "detection by an evaluator",
        task="detection",
        facts="nas_attn.training.tasks.detection:EvaluatedDetection",
        data="nas_attn.training.tasks.detection.data:ReadElsewhere",
        learnt="nas_attn.training.tasks.detection.learning:BoxesOfImage",
        answers="nas_attn.export.detectors:DetectorExport",
    ),
    TaskRow(
        "detection",
        task="detection",
        facts="nas_attn.training.tasks.detection:Detection",
        data="nas_attn.training.tasks.detection.data:ImagesWithBoxes",
        learnt="nas_attn.training.tasks.detection.learning:BoxesOfImage",
        answers="nas_attn.export.detectors:DetectorExport",
    ),
)

WORDING_ROWS = (
    Wording("english", "nas_attn.words.notes:note_text", "nas_attn.words.waits:wait_text"),
)


def register() -> None:
    """Makes these rows known. It is called once, when the first of them is looked up."""
    tables.COSTS.register(*COSTS)
    tables.METRICS.register(*METRICS)
    tables.SAMPLERS.register(*SAMPLERS)
    tables.LATENCY_MODES.register(*LATENCY_MODES)
    tables.DATA_SETS.register(*DATA_SETS)
    tables.BACKBONE_SOURCES.register(*BACKBONE_SOURCES)
    tables.INTEGRATIONS.register(*INTEGRATIONS)
    tables.TASK_ROWS.register(*TASK_ROWS)
    WORDINGS.register(*WORDING_ROWS)
