"""Rows of the modules in `self_attention.py` and `yolo.py`. No torch."""

from __future__ import annotations

from types import ModuleType

from nas_attn.attention import knobs
from nas_attn.attention.row import Fitting, KnobSpec, Row

DOWNSAMPLE = KnobSpec(
    "downsample",
    int,
    1,
    "side of the cells whose means are keys and values",
    low=1,
    high=64,
    fit=lambda fitting: fitting.at_most("downsample", max(fitting.height, fitting.width)),
)


def _heads(channels_of_one: int) -> KnobSpec:
    """A number of heads that divides the channels; `auto`: heads of so many channels."""

    def fit(fitting: Fitting) -> None:
        if fitting.values["heads"] == "auto":
            fitting.values["heads"] = max(1, fitting.channels // channels_of_one)
        fitting.divisor("heads", fitting.channels)

    doc = f"number of heads; auto: one for {channels_of_one} channels"
    return KnobSpec("heads", int, "auto", doc, low=1, high=4096, auto=True, fit=fit)


def _key_width(fitting: Fitting) -> None:
    """Of `reduction`, the largest with the same width of a head's keys."""
    width = fitting.channels // fitting.integer("heads")
    key_width = max(1, width // fitting.integer("reduction"))
    fitting.values["reduction"] = width // key_width


def _areas(fitting: Fitting) -> None:
    """The fewest areas of the same length."""
    pixels = fitting.height * fitting.width
    length = -(-pixels // fitting.integer("areas"))
    fitting.values["areas"] = -(-pixels // length)


def _self_attention() -> ModuleType:
    """The file of classes beside these rows. It loads torch, so it is imported when asked for."""
    from nas_attn.attention import self_attention

    return self_attention


def _yolo() -> ModuleType:
    """The file of classes beside these rows. It loads torch, so it is imported when asked for."""
    from nas_attn.attention import yolo

    return yolo


ROWS = (
    Row(
        "sdpa",
        lambda: _self_attention().ScaledDotProduct,
        "Scaled dot-product attention, one head",
        "Vaswani et al. 2017, arXiv:1706.03762; on maps Wang et al. 2018, arXiv:1711.07971",
        "self-attention",
        (knobs.reduction(2, "channels divided by the head's width"), DOWNSAMPLE),
    ),
    Row(
        "mhsa",
        lambda: _self_attention().MultiHead,
        "Multi-head self-attention",
        "Srinivas et al. 2021, arXiv:2101.11605",
        "self-attention",
        (
            knobs.divisor("heads", 4, "number of heads", high=4096),
            knobs.choice("position", "learned position", "relative", "absolute", "none"),
            DOWNSAMPLE,
            knobs.switch(
                "residual", True, "add to x by a projection; false: attention alone (BoTNet)"
            ),
        ),
    ),
    Row(
        "mqa",
        lambda: _self_attention().MultiQuery,
        "Multi-query attention of MobileNetV4",
        "Qin et al. 2024, arXiv:2404.10518",
        "self-attention",
        (
            knobs.divisor("heads", 8, "heads of queries, with one key and value", high=4096),
            KnobSpec(
                "kv_stride",
                int,
                1,
                "stride of a convolution before keys and values",
                low=1,
                high=64,
                fit=lambda fitting: fitting.at_most(
                    "kv_stride", max(fitting.height, fitting.width)
                ),
            ),
        ),
    ),
    Row(
        "relu_linear",
        lambda: _self_attention().ReluLinear,
        "Multi-scale linear attention of EfficientViT",
        "Cai et al. 2023, arXiv:2205.14756",
        "self-attention",
        (
            knobs.divisor("head_width", 16, "channels of a head", high=4096),
            knobs.switch("multi_scale", True, "as many heads again, on a 5×5 neighbourhood"),
        ),
    ),
    Row(
        "c2psa",
        lambda: _yolo().PositionSensitive,
        "Position-sensitive attention of YOLO11 (in C2PSA)",
        "Khanam and Hussain 2024, arXiv:2410.17725",
        "self-attention",
        (
            _heads(64),
            KnobSpec(
                "reduction",
                int,
                2,
                "a head's width divided by that of its keys",
                low=1,
                high=4096,
                fit=_key_width,
            ),
        ),
    ),
    Row(
        "area",
        lambda: _yolo().AreaAttention,
        "Area attention of YOLO12",
        "Tian et al. 2025, arXiv:2502.12524",
        "self-attention",
        (
            _heads(32),
            KnobSpec(
                "areas", int, 4, "runs of pixels that see each other", low=1, high=4096, fit=_areas
            ),
        ),
    ),
)
