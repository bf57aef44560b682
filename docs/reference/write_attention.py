"""Writes attention.md beside this file from the catalogue's rows and the classes' docstrings, and
the number of modules where other pages tell it: `make docs`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from nas_attn.attention.catalogue import CONTROLS, ROWS, cost
from nas_attn.attention.choice import Choice, format_knob
from nas_attn.attention.row import Row

PAGE = Path(__file__).with_name("attention.md")
ROOT = PAGE.parents[2]
NUMBER = re.compile(r"(?<=\*\*)\d+(?= attention modules\*\*| 种注意力模块\*\*)")
"""How many modules there are, in the pages that say it."""
COUNTED = (ROOT / "README.md",)
SHAPES = ((64, 14, 14), (256, 14, 14))
"""(channels, height, width) of the cost columns."""
HEAD = """\
# Attention modules

`make docs` writes this page from the catalogue.

Every module takes `(N, C, H, W)`, maps of any size, and returns the same shape. Name it in a
placement or a search space, `se(reduction=8)`, or in Python,
`nas_attn.attention.create("se", 256, reduction=8)`.

- `s` is the sigmoid. `mean` and `max` are over H and W unless another dimension is named. MACs are
  those of convolutions, linear layers and matrix products at batch size 1.
- `init = "paper"` is the published form, `init = "identity"` begins as the identity. For this, each
  gate is `2s(z)` with a last layer of zeros, or what is added starts at zero. Otherwise one learned
  scalar a, at first 0, blends: `x + a·(A(x) - x)`.
- Defaults fit any number of channels. A search space takes the nearest possible value; an
  impossible value that a person wrote is an error, and a group count that does not divide the
  channels is reduced with a warning.
- On a CPU in float16 or bfloat16, oneDNN never finishes depth-wise kernels at least 15 wide of at
  most 16 channels. So modules with such kernels (`cpca`, `msca`; `caa`, `dwconv`, `ela` with
  some knobs) are computed in float32. If a network has a convolution of this kind of its own, keep
  it in float32, or set `ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI` before Python starts.

Which runtimes take a module, and what it costs there: [runtimes](runtimes.md).
"""


def page() -> str:
    """The whole page, in Markdown."""
    parts = [HEAD, *_overview(), ""]
    for row in ROWS.values():
        parts += _section(row)
    return "\n".join(parts) + "\n"


def _overview() -> Iterator[str]:
    columns = "".join(f" parameters, MACs at {c}×{h}×{w} |" for c, h, w in SHAPES)
    yield f"| module | | family | knobs |{columns}"
    yield "|---|---|---|---|" + "---|" * len(SHAPES)
    for row in ROWS.values():
        knobs = ", ".join(f"`{knob.name}`" for knob in row.knobs) or "none"
        costs = "".join(f" {_cost(row, shape)} |" for shape in SHAPES)
        yield f"| [`{row.name}`](#{row.name}) | {row.title} | {row.family} | {knobs} |{costs}"


def _cost(row: Row, shape: tuple[int, int, int]) -> str:
    canonical = row.resolve({}, *shape, strict=False)
    parameters, macs = cost(Choice(row.name, canonical), *shape)
    return f"{parameters:,}, {macs:,}"


def _section(row: Row) -> Iterator[str]:
    yield from (f"## {row.name}", "", f"**{row.title}**. {row.paper}. `{row.class_path}`", "")
    equation, _, _ = (inspect.getdoc(row.load()) or "").partition("\n\nArgs:")
    yield from (equation.partition(f"{row.paper}.\n\n")[2], "")
    if row.knobs:
        yield from ("| knob | default | values | |", "|---|---|---|---|")
        for knob in row.knobs:
            doc = f"{knob.doc}; chooses other knobs" if knob.preset else knob.doc
            yield f"| `{knob.name}` | `{format_knob(knob.default)}` | {knob.range} | {doc} |"
        yield ""


def counted(text: str) -> str:
    """A page with the number of modules as it is now; plain layers are none."""
    return NUMBER.sub(str(len(ROWS) - len(CONTROLS)), text)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
    for path in COUNTED:
        path.write_text(counted(path.read_text("utf-8")), "utf-8")
