"""A rule that is not kept somewhere has its reason there."""

from __future__ import annotations

import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "nas_attn"
NOQA = re.compile(r"# noqa\b(?!\")(?P<rest>.*)")
WITH_REASON = re.compile(r": [A-Z]+\d+(, [A-Z]+\d+)* - \w")


def test_each_noqa_says_why() -> None:
    lines = [
        f"{path.name}: {line.strip()}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for line in path.read_text("utf-8").splitlines()
        if (found := NOQA.search(line)) and not WITH_REASON.match(found["rest"])
    ]
    assert lines == []
