"""The table of attention modules, and functions that build them. Loads no torch until a module is
built.

There are three ways to add a module: an entry point in the group `nas_attn.attention`; its path
wherever a type is expected, `stage2=my_package.modules:MyAttention(reduction=8)`; a class and a row
in this package. The class is alike in all of them:

    class MyAttention(nn.Module):
        def __init__(
            self, channels: int, *, reduction: int = 16, mode: Literal["max", "mean"] = "max"
        ) -> None: ...
        def forward(self, x: Tensor) -> Tensor: ...  # (N, C, H, W) -> the same shape

Its keyword-only parameters are its knobs (`knobs.py`); it gets `height`, `width` and `init` if it
has these parameters. Without `init`, the identity start is a blend around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING

from nas_attn.attention import fitting
from nas_attn.attention.choice import INITS, Choice, Init, Knob
from nas_attn.attention.fitting import Count, MapShape
from nas_attn.attention.knobs import KnobSpec
from nas_attn.attention.row import Row
from nas_attn.errors import KnobError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

ELA_VARIANT = KnobSpec(
    "variant",
    str,
    "B",
    "the paper's sizes for auto knobs",
    choices=tuple(fitting.ELA_VARIANTS),
    preset=True,
)
_LISTED = (
    Row("se", ".channel:SqueezeExcitation", "channel"),
    Row("eca", ".channel:EfficientChannel", "channel"),
    Row("ese", ".channel:EffectiveSqueezeExcitation", "channel"),
    Row("nam", ".channel:NormalizationAttention", "channel"),
    Row("srm", ".channel:StyleRecalibration", "channel"),
    Row("gct", ".channel:GatedChannel", "channel"),
    Row("fca", ".channel:FrequencyChannel", "channel"),
    Row("grn", ".channel:GlobalResponse", "channel"),
    Row("gc", ".channel:GlobalContext", "channel", fitting.gc),
    Row("cbam", ".spatial:ConvolutionalBlockAttention", "spatial"),
    Row("bam", ".spatial:BottleneckAttention", "spatial"),
    Row("gam", ".spatial:GlobalAttention", "spatial", fitting.gam),
    Row("simam", ".spatial:SimAM", "spatial"),
    Row("sge", ".spatial:SpatialGroupEnhance", "spatial", fitting.sge),
    Row("scse", ".spatial:ConcurrentSqueezeExcitation", "spatial"),
    Row("triplet", ".spatial:TripletAttention", "spatial"),
    Row("ema", ".spatial:EfficientMultiScale", "spatial"),
    Row("shuffle", ".spatial:ShuffleAttention", "spatial", fitting.shuffle),
    Row("mlca", ".spatial:MixedLocalChannel", "spatial"),
    Row("psa", ".polarized:PolarizedSelfAttention", "spatial"),
    Row("ge", ".gather_excite:GatherExcite", "spatial", fitting.ge),
    Row("lska", ".kernel:LargeSeparableKernel", "kernel"),
    Row("msca", ".kernel:MultiScaleConvolution", "kernel"),
    Row("lsk", ".kernel:LargeSelectiveKernel", "kernel"),
    Row("sk", ".kernel:SelectiveKernel", "kernel", fitting.sk),
    Row("caa", ".kernel:ContextAnchor", "kernel"),
    Row("cpca", ".kernel:ChannelPrior", "kernel"),
    Row("coord", ".direction:CoordinateAttention", "direction", fitting.coord),
    Row(
        "ela",
        ".direction:EfficientLocalAttention",
        "direction",
        fitting.ela,
        (ELA_VARIANT,),
    ),
    Row("scsa", ".direction:SynergisticAttention", "direction"),
    Row("sdpa", ".self_attention:ScaledDotProduct", "self-attention"),
    Row("mhsa", ".self_attention:MultiHead", "self-attention"),
    Row("mqa", ".self_attention:MultiQuery", "self-attention"),
    Row("relu_linear", ".self_attention:ReluLinear", "self-attention"),
    Row("c2psa", ".yolo:PositionSensitive", "self-attention", fitting.c2psa),
    Row("area", ".yolo:AreaAttention", "self-attention", fitting.area),
    Row("dwconv", ".convolution:DepthwiseConvolution", "convolution", control=True),
    Row("conv", ".convolution:PointwiseConvolution", "convolution", control=True),
)
ROWS = MappingProxyType({row.name: row for row in _LISTED})
"""Name -> row of every module of this package, in the order in which they are shown."""
CONTROLS = tuple(row.name for row in ROWS.values() if row.control)
"""Names of the rows without attention: plain layers."""
FORMER_KNOBS: Mapping[str, Mapping[str, Knob | None]] = MappingProxyType(
    {
        "se": {"reduction": None, "bias": True, "divisor": 1},
        "eca": {"kernel_size": None, "padding": "zeros"},
        "nam": {"detach": False},
        "gct": {"norm": "l2"},
        "fca": {"frequencies": None, "order": "top", "reduction": None},
        "gc": {"reduction": None, "pooling": "attention", "fusion": "add"},
        "cbam": {
            "reduction": None,
            "spatial_kernel_size": None,
            "gates": "both",
            "bias": True,
            "spatial_norm": True,
        },
        "bam": {"reduction": None, "dilation": None, "combine": "sum"},
        "gam": {
            "reduction": None,
            "groups": None,
            "shuffle": True,
            "channel_sigmoid": True,
            "padding": "zeros",
        },
        "simam": {"e_lambda": None, "unbiased": True},
        "scse": {"reduction": None, "combine": "max"},
        "triplet": {"kernel_size": None, "spatial": True},
        "mlca": {"kernel_size": None, "local_size": 5, "local_weight": 0.5},
        "psa": {"reduction": None, "layout": None, "form": "paper"},
        "sk": {
            "branches": None,
            "dilated": True,
            "groups": None,
            "reduction": None,
            "min_hidden": 32,
        },
        "caa": {"kernel_size": None, "pool_size": None, "norm": True},
        "cpca": {"reduction": None, "channel_gate": "sum", "projected": False},
        "coord": {"reduction": None, "min_hidden": 8},
        "ela": {
            "kernel_size": None,
            "groups": None,
            "norm_groups": None,
            "shared": True,
            "activation": "none",
        },
        "mhsa": {"heads": None, "position": "relative", "downsample": None, "residual": True},
    }
)
"""Row -> its knobs when keys of placements were first stored, in their order: those that are now
fixed at the value given here, and those that still are knobs (None). A network keeps its key.
"""


def find(name: str) -> Row:
    """The row of a name: of this package, of an entry point, or of `package.module:Class`.

    KnobError: there is none (it names the nearest). What cannot be imported says so when its class
    or a knob is asked for.
    """
    if name in ROWS:
        return ROWS[name]
    if ":" in name:
        return Row(name, name)
    foreign = installed()
    if name not in foreign:
        raise KnobError(f"unknown attention type '{name}': {did_you_mean(name, [*ROWS, *foreign])}")
    return Row(name, foreign[name].value)


def keyed(choice: Choice) -> list[tuple[str, Knob]]:
    """The knobs of a canonical choice as the key of a placement names them."""
    knobs = dict(choice.knobs)
    fixed = FORMER_KNOBS.get(choice.type)
    if fixed is None:
        return list(choice.knobs)
    return [(name, knobs[name] if value is None else value) for name, value in fixed.items()]


def build(
    choice: Choice, channels: int, height: int, width: int, *, init: Init = "paper"
) -> nn.Module:
    """The module of a choice for maps of `(N, channels, height, width)`.

    Args:
        choice: type and knobs.
        channels: of the maps.
        height: rows of the maps.
        width: columns of the maps.
        init: `paper`: as published; `identity`: starts as the identity.

    Raises:
        KnobError: unknown type, knob or init, or a value that is impossible on this shape.
    """
    from nas_attn.attention.gates import Blended, refuse_scripting

    if init not in INITS:
        raise KnobError(f"unknown init {init!r}: give 'paper' or 'identity'")
    row = find(choice.type)
    knobs = dict(row.resolve(choice.knobs, channels, height, width, init=init))
    arguments = row.arguments(knobs, height, width, init)
    module: nn.Module = row.load()(channels, **arguments)
    if row.name in ROWS:
        module.__dict__["__prepare_scriptable__"] = refuse_scripting
        # torch's quantisation leaves it in float
        module.__dict__["qconfig"] = None
    if init == "identity" and "init" not in arguments:
        module = Blended(module)
    # torch.fx keeps it whole, as it does the layers of this place
    module.__dict__["__module__"] = "torch.nn.modules"
    return module


def cost(choice: Choice, channels: int, height: int, width: int, *, init: Init = "paper") -> Count:
    """Counts what a choice costs on a map of this shape.

    Args:
        choice: type and knobs.
        channels: of the map.
        height: rows of the map.
        width: columns of the map.
        init: the form of the module.

    Raises:
        KnobError: as `build`.
    """
    from nas_attn.attention import module_cost

    shape = MapShape(channels, height, width)
    # Others' modules may look at values.
    device = "meta" if choice.type in ROWS else "cpu"
    _, count = module_cost.run(lambda: build(choice, *shape, init=init), shape, device)
    return count


def create(
    name: str,
    channels: int,
    *,
    height: int | None = None,
    width: int | None = None,
    init: Init = "paper",
    **knobs: Knob,
) -> nn.Module:
    """An attention module for maps with `channels` channels: `create("coord", 256, reduction=32)`.

    Args:
        name: of the catalogue, of an entry point, or `package.module:Class`.
        channels: of the maps.
        height: rows of the map, for modules with a learned position (`mhsa`); others take any size.
        width: columns of the map; if only one of the two is given, the map is square.
        init: `paper`: as published; `identity`: starts as the identity.
        knobs: the module's own settings, see `catalogue.find(name).knobs`.

    Raises:
        KnobError: unknown name or knob, or a value that is impossible with this many channels.
    """
    choice = Choice(name, tuple(knobs.items()))
    # Position tables are interpolated from 14.
    sides = [side for side in (height, width) if side is not None] or [14]
    return build(choice, channels, sides[0], sides[-1], init=init)


def installed() -> dict[str, EntryPoint]:
    """Name -> entry point of each module that an installed package offers; nothing is imported."""
    return {entry.name: entry for entry in entry_points(group="nas_attn.attention")}
