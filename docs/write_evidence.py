"""Writes expect/where-attention-helps.md from the table of published comparisons,
research/evidence/comparisons.csv: `make docs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean

from research.evidence.comparisons import PublishedComparison, comparisons, trained_pairs
from research.evidence.fitted import ExpectedGain, Situation, pooled
from research.evidence.pooling import fitted_pairs
from research.finetune import attention

PAGE = Path(__file__).parent / "expect" / "where-attention-helps.md"
TEMPLATE = PAGE.with_suffix(".template")
DESCRIBED = {
    ("pretrained", "random"): "pretrained network, random module",
    ("pretrained", "identity"): "pretrained network, module begins as the identity",
    ("scratch", "random"): "from scratch, random module",
    ("scratch", "identity"): "from scratch, module begins as the identity",
    ("scratch", "unknown"): "from scratch, how the module begins is not said",
    ("unknown", "unknown"): "not said",
}
ACCEL = "Accel-NASBench"
LCNET = "arXiv 2109.15099"
TIMM = "huggingface/pytorch-image-models"
LCNET_MS = {"blocks 1 and 2": 2.06, "blocks 7 and 8": 2.03, "blocks 12 and 13": 2.05, "all": 3.80}
TESTS = ("validation", "ReaL", "V2")
SIZES = {"a1_in1k": "224", "a2_in1k": "224", "a3_in1k": "160"}


def page() -> str:
    """The whole page."""
    return TEMPLATE.read_text(encoding="utf-8").format(
        rows=len(comparisons()),
        pairs=len(trained_pairs(comparisons())),
        sources=len({row.source for row in comparisons()}),
        settings=_settings(),
        modules=_modules(),
        stages=_stages(),
        stage_gains=_stage_gains(),
        lcnet=_lcnet(),
        resnet33ts=_resnet33ts(),
        recipes=_recipes(),
        detectors=_detectors(),
        segmenters=_segmenters(),
        source_list=_sources(),
        spreads=_spreads(),
        fine_tuning=attention.table(),
    )


def _of(source: str) -> list[PublishedComparison]:
    return [row for row in comparisons() if row.source.startswith(source)]


def _settings() -> str:
    """Task, place, start and form: what the rows say, one by one and together."""
    settings = sorted(
        {row.situation.setting for row in fitted_pairs(comparisons())},
        key=lambda one: (one.task, one.place, one.start, one.form),
    )
    rows: list[str] = []
    for setting in settings:
        own = [row for row in fitted_pairs(comparisons()) if row.situation.setting == setting]
        gain = pooled().usual_gain(setting)
        cells = [
            f"{setting.task}, {setting.place}",
            DESCRIBED[setting.start, setting.form],
            f"{len(own)}",
            f"{gain.groups}",
            f"{len(gain.sources)}",
            *_seen(own),
            _predicted(gain),
            f"{gain.probability:.0%}",
        ]
        rows.append(_line(cells))
    return "\n".join(rows)


def _modules() -> str:
    """Each module with rows of at least two networks, by task."""
    rows: list[str] = []
    for task in ("classification", "detection"):
        of_task = [row for row in fitted_pairs(comparisons()) if row.situation.task == task]
        for module in sorted({row.situation.module for row in of_task}):
            own = [row for row in of_task if row.situation.module == module]
            if len({row.group for row in own}) < 2:
                continue
            sources = len({row.source for row in own})
            cells = [task, f"`{module}`", f"{len(own)}", f"{sources}", *_seen(own)]
            rows.append(_line(cells))
    return "\n".join(rows)


def _seen(rows: Sequence[PublishedComparison]) -> tuple[str, str]:
    """(mean gain, how many are positive)."""
    positive = sum(row.gain > 0 for row in rows)
    return f"{fmean(row.gain for row in rows):+.2f}", f"{positive} of {len(rows)}"


def _predicted(gain: ExpectedGain) -> str:
    return f"{gain.mean:+z.1f} ({gain.low:+z.1f} to {gain.high:+z.1f})"


def _stages() -> str:
    return _line(["SE in stage", *(f"{stage + 1}" for stage in range(len(_of(ACCEL))))])


def _stage_gains() -> str:
    gains = [f"{row.gain:.2f}" for row in _of(ACCEL)]
    return _line(["gain in top-1 accuracy, points", *gains])


def _lcnet() -> str:
    rows: list[str] = []
    for (place, ms), row in zip(LCNET_MS.items(), _of(LCNET), strict=True):
        rows.append(_line([place, f"{row.with_attention:.2f}", f"{row.gain:+.2f}", f"{ms:.2f}"]))
    return "\n".join(rows)


def _resnet33ts() -> str:
    own = [row for row in _of(TIMM) if row.network == "resnet33ts"]
    rows: list[str] = []
    for module in ("eca", "gc", "se"):
        chosen = [row for row in own if row.situation.module == module]
        rows.append(_line([module.upper(), *_by_test(chosen, "256")]))
    return "\n".join(rows)


def _recipes() -> str:
    own = [row for row in _of(TIMM) if row.network == "resnet50"]
    rows: list[str] = []
    for recipe, size in SIZES.items():
        chosen = [row for row in own if row.recipe == recipe]
        name = recipe.partition("_")[0].upper()
        rows.append(_line([f"{name}, {size} pixels", *_by_test(chosen, size)]))
    return "\n".join(rows)


def _by_test(rows: Iterable[PublishedComparison], size: str) -> list[str]:
    """The gain on each of ImageNet's test sets at this size."""
    gains = {row.test: row.gain for row in rows}
    return [f"{gains[f'{test} {size}']:+.2f}" for test in TESTS]


def _detectors() -> str:
    """Rows of GC and of empirical attention in pretrained detectors, by source."""
    setting = Situation("detection", "backbone", "pretrained", "identity", "").setting
    own = [row for row in comparisons() if row.situation.setting == setting]
    return _by(own, lambda row: row.source)


def _segmenters() -> str:
    """Rows of segmentation, by data and module."""
    own = [row for row in comparisons() if row.situation.task == "segmentation"]
    return _by(own, lambda row: f"{row.data}, `{row.situation.module}`")


def _sources() -> str:
    """Each source with its pairs of trainings."""
    return _by(trained_pairs(comparisons()), lambda row: row.source)


def _by(rows: Sequence[PublishedComparison], key: Callable[[PublishedComparison], str]) -> str:
    lines: list[str] = []
    for name in sorted({key(row) for row in rows}):
        own = trained_pairs(row for row in rows if key(row) == name)
        lines.append(_line([name, f"{len(own)}", *_seen(own)]))
    return "\n".join(lines)


def _spreads() -> str:
    """The standard deviations of the fit, in words."""
    spreads = pooled().spreads
    return (
        f"settings {spreads['setting']:.2f}, sources {spreads['source']:.2f}, networks"
        f" {spreads['group']:.2f}, modules {spreads['module']:.2f}, single pairs"
        f" {spreads['rest']:.2f}"
    )


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
