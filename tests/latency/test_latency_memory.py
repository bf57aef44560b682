from __future__ import annotations

from torch import Tensor, nn

from nas_attn.latency import peak_memory
from nas_attn.recipe import LatencySection


class Wide(nn.Module):
    """Holds `branches` maps of 1 x 8 x 16 x 16 at once, or one after the other."""

    def __init__(self, branches: int, at_once: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(8, 8, 1, bias=False) for _ in range(branches))
        self.at_once = at_once

    def forward(self, x: Tensor) -> Tensor:
        if self.at_once:
            return sum((layer(x) for layer in [*self.layers][1:]), start=self.layers[0](x)) + sum(
                [layer(x) for layer in self.layers]
            )
        for layer in self.layers:
            x = layer(x)
        return x


MAP = 8 * 16 * 16 * 4
WEIGHT = 8 * 8 * 4


def test_what_is_alive_at_once_counts() -> None:
    section = LatencySection()
    in_turn = peak_memory(section, Wide(6, at_once=False), (8, 16, 16))
    # the caller holds the input; each layer's input and output live together; a copy of a local may live one longer
    assert 3 * MAP + 6 * WEIGHT <= in_turn <= 4 * MAP + 6 * WEIGHT
    assert peak_memory(section, Wide(12, at_once=False), (8, 16, 16)) == in_turn + 6 * WEIGHT
    assert peak_memory(section, Wide(6, at_once=True), (8, 16, 16)) >= 7 * MAP + 6 * WEIGHT


def test_batch_and_dtype_count() -> None:
    one = peak_memory(LatencySection(), Wide(2, at_once=False), (8, 16, 16))
    four = peak_memory(LatencySection(batch_size=4), Wide(2, at_once=False), (8, 16, 16))
    half = peak_memory(LatencySection(dtype="bfloat16"), Wide(2, at_once=False), (8, 16, 16))
    assert four - one == 3 * (one - 2 * WEIGHT)
    assert half == one // 2
