"""The names of ATen operations, by what they do to a feature map; torch's containers."""

from torch import nn

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def _named(*texts: str) -> frozenset[str]:
    return frozenset(name for text in texts for name in text.split())


VIEWS = _named("view _unsafe_view reshape _reshape_alias")
"""Operations that give the same numbers another shape."""
LAYOUT_CHANGING = _named(
    "permute transpose t view _unsafe_view reshape _reshape_alias unsqueeze squeeze expand unfold"
    " as_strided movedim",
    "matmul bmm mm addmm select index diagonal im2col col2im",
)
"""Operations whose result may not be a map even if an input is one."""
TURNING = _named("permute transpose")
"""Operations that put the channels last, and back."""
CONVOLUTIONS = _named("convolution _convolution cudnn_convolution mkldnn_convolution")
NORMS = _named(
    "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training"
    " cudnn_batch_norm",
    "batch_norm_with_update native_group_norm",
)
POOLINGS = _named(
    "max_pool2d_with_indices avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d"
    " adaptive_avg_pool2d max_pool2d"
)
MAPPED = (
    CONVOLUTIONS
    | NORMS
    | POOLINGS
    | _named("upsample_nearest2d upsample_bilinear2d upsample_bicubic2d pixel_shuffle")
)
"""Operations that read and write (N, C, H, W)."""
MATRIX_PRODUCTS = _named("mm addmm bmm baddbmm linear")
PRODUCTS = _named(
    "bmm baddbmm _scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu"
    " _scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention"
    " _scaled_dot_product_attention_math _scaled_dot_product_fused_attention_overrideable"
)
"""Products of values that may both come from the map, as queries and keys do."""
LAYERS = CONVOLUTIONS | NORMS | POOLINGS | MATRIX_PRODUCTS | {"native_layer_norm"}
"""Operations that count as depth: a branch has more of them than a shortcut."""
_OUT_OF_PLACE = _named(
    "relu silu gelu hardswish leaky_relu elu mish hardtanh _prelu_kernel prelu rrelu"
)
ACTIVATIONS = _OUT_OF_PLACE | frozenset(f"{unit}_" for unit in _OUT_OF_PLACE)
"""Operations that follow hidden layers, not predictions."""
ADDITIONS = frozenset({"add", "add_"})
