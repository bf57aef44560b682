"""What each module was on the day it came: knobs, costs, names of the state and output, in
`pins.jsonl` beside this file. Placements in databases and weights in files depend on them.

    python tests/attention/pins.py    # adds the rows that have none yet, and changes no other
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from attention_asking import ROWS, choices, shake

from nas_attn.attention import catalogue
from nas_attn.attention.choice import INITS, Choice, Init
from nas_attn.attention.row import Row

FILE = Path(__file__).with_name("pins.jsonl")
SHAPES = ((64, 14, 14), (48, 7, 5), (3, 1, 1))
"""(channels, height, width): a usual map, one that few groups divide, the smallest."""


def recorded() -> list[dict[str, Any]]:
    return [json.loads(line) for line in FILE.read_text("utf-8").splitlines()]


def taken(row: Row) -> Iterator[dict[str, Any]]:
    """All pins of a row: each choice that it offers, on each shape, in both forms."""
    for asked in choices(row):
        for shape in SHAPES:
            for init in INITS:
                yield pin(row, asked, shape, init)


def pin(row: Row, asked: dict[str, Any], shape: tuple[int, int, int], init: Init) -> dict[str, Any]:
    choice = Choice(row.name, row.resolve(asked, *shape, strict=False, init=init))
    parameters, macs = catalogue.cost(choice, *shape, init=init)
    torch.manual_seed(0)
    module = catalogue.build(choice, *shape, init=init).double().eval()
    names = [f"{name} {tuple(value.shape)}" for name, value in module.state_dict().items()]
    started = output(module, shape)
    return {
        "module": row.name,
        "asked": asked,
        "shape": list(shape),
        "init": init,
        "knobs": dict(choice.knobs),
        "parameters": parameters,
        "macs": macs,
        "state": hashlib.sha256("\n".join(names).encode()).hexdigest()[:16],
        "output": started,
        "shaken": output(shake(module, 1), shape),
    }


def output(module: torch.nn.Module, shape: tuple[int, int, int]) -> float:
    """One number that any change of the output changes."""
    generator = torch.Generator().manual_seed(2)
    x, weights = (
        torch.randn(2, *shape, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    with torch.no_grad():
        return float(f"{(module(x) * weights).sum().item():.9g}")


def main() -> None:
    known = {one["module"] for one in recorded()} if FILE.exists() else set()
    with FILE.open("a", encoding="utf-8") as file:
        for row in ROWS:
            if row.name not in known:
                file.writelines(json.dumps(one) + "\n" for one in taken(row))


if __name__ == "__main__":
    main()
