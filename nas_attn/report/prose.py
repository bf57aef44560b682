"""The prose of the report: what stands between its headings, figures and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nas_attn.answer.per_image import Mistakes
from nas_attn.answer.reasons import measured_on
from nas_attn.answer.snapshot import STATES, Snapshot
from nas_attn.errors import listed, several
from nas_attn.latency.estimates import not_alone
from nas_attn.model import Noise
from nas_attn.recipe import units
from nas_attn.recipe.recipe import Recipe
from nas_attn.report.figure_facts import Provenance, RunRange, RunsBesideTest
from nas_attn.report.messages import short_name

# A share of signal above this says nothing: rounded, it would be all
MOST_SIGNAL = 0.97

PINNED: Mapping[str, str] = {
    "nas_attn": "nas-attn",
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "optuna": "optuna",
    "numpy": "numpy",
}
"""Library, as a study names it -> its name for pip."""

NOTHING_SCORED = "No candidate has been scored to the end yet."
WHAT_ESTIMATES_ARE: Mapping[Provenance, str] = {
    Provenance.SEARCH: (
        "These are estimates from the search's training and the validation images. They are not a"
        " claim about longer training, or about the test images, which the search does not read."
    ),
    Provenance.TARGET: (
        "These are estimates for training as the target says and the validation images. They are"
        " not a claim about the test images, which the search does not read."
    ),
    Provenance.TESTED: (
        "These are estimates for training as the target says and the test images. All runs count in"
        " them: those of the tests, and those of the search."
    ),
}
"""What estimates are about -> what is said below them."""
POOLED = (
    "Each estimate uses all runs: it is the mean of a candidate's runs, pulled towards what its"
    " sites and types did elsewhere. The fewer its runs, the stronger the pull. It corrects for the"
    " luck of the best-looking of many."
)
EFFECTS_NOTE = (
    "What a choice adds to its site on average over all placements, compared with nothing there. ±"
    " is half of the 95 % interval; bold: the interval excludes zero. The tables also say what a"
    " choice gains alone, and next to the recommended ones."
)
RETRAINED = (
    "Runs of `nas-attn retrain`, scored on the validation split. Their weights are kept for"
    " `nas-attn export`."
)
IMAGES_DIFFER = "Some of this is chance: two trainings of the same network differ, too."
IMAGES_EQUAL = "In no image is one network better than another."
CONTROLS_NOTE = (
    "A candidate without attention is there for comparison: it is more network at a similar"
    " latency, and never on the front."
)
MISTAKEN_IMAGES: Mapping[str, str] = {
    "accuracy": (
        "The share of its runs in which each network is right, and what it takes the image for most"
        " often."
    ),
    "mean_iou": (
        "The share of pixels that each network has right, as the mean over its runs. Masks: the"
        " true one, then the networks'."
    ),
    "map50_95": (
        "The F1 of each network's boxes, as the mean over its runs. Boxes: the true ones, then the"
        " networks'."
    ),
}
"""What of a network's mistakes is shown -> what stands under the images."""


def about(recipe: Recipe) -> str:
    """Which network, on which images, in which space."""
    return f"{recipe.backbone.name} on {recipe.data.name} · search space {recipe.space.name}"


def front_intro(snapshot: Snapshot, *, new_images: bool) -> Iterator[str]:
    """What front, baselines and gains are."""
    images = " for new images of the same kind" if new_images else ""
    yield (
        "The front is the candidates that no other beats in every objective. The baselines are"
        " shown beside them; they needed no search. A gain is how much better a candidate is than"
        " the bare backbone, on the same backbones and seeds, as the model of all runs estimates"
        f" it; ± and bars are 95 % intervals{images}."
    )
    if snapshot.controls:
        yield CONTROLS_NOTE


def noise_sentences(
    noise: Noise,
    runs: RunRange | None,
    beside: RunsBesideTest | None = None,
    provenance: Provenance = Provenance.SEARCH,
) -> Iterator[str]:
    """What chance does to a score. `runs`: the runs of the recommended network; `beside`: its
    test, where some of them lie outside of it; `provenance`: of the estimates.
    """
    if runs is not None:
        ends = units.difference_range(runs.metric, runs.low, runs.high)
        yield (
            f"The {runs.count} runs of {short_name(runs.view)} gained {ends} over the bare"
            " backbone's runs of the same seeds."
        )
    if beside is not None:
        yield _beside_test(beside)
    source = "inferred from the spread of the scores, since no candidate has run twice yet"
    if noise.source == "seeds":
        source = measured_on(noise.repeated)
    yield (
        "Training the same candidate again with another seed changes its score by"
        f" {units.size(noise.metric, noise.seed_sd or 0.0)} (standard deviation, {source}). This is"
        " the noise floor of this study. Part of it is common to all candidates: two equally good"
        " candidates with the same seed differ by"
        f" {units.size(noise.metric, 2**0.5 * (noise.paired_sd or 0.0))} by chance."
    )
    spread = f"about {units.size(noise.metric, noise.between_sd or 0.0)}"
    single = noise.reliability(1) or 0.0
    if single > MOST_SIGNAL:
        yield f"The candidates' true scores spread by {spread}."
    else:
        three = noise.reliability(3) or 0.0
        yield (
            f"The candidates' true scores spread by {spread}. So one run is {100 * single:.0f} %"
            f" signal, and the mean of three runs {100 * three:.0f} %."
        )
    yield POOLED
    yield WHAT_ESTIMATES_ARE[provenance]


def _beside_test(beside: RunsBesideTest) -> str:
    """Why runs of the search lie outside of what the test has found."""
    test = beside.test
    ends = units.difference_range(test.metric, *test.between)
    verb = "lies" if beside.outside == 1 else "lie"
    differs = []
    if test.epochs != beside.epochs:
        differs.append(f"it trained for {several(test.epochs, 'epoch')} instead of {beside.epochs}")
    differs.append("it was scored on the test images instead of the validation images")
    if beside.chosen_among:
        differs.append(
            f"the search's runs had chosen this network among {beside.chosen_among} candidates, so"
            " they look better than it is"
        )
    return (
        f"{beside.outside} of them {verb} outside the interval of the test, {ends}. That interval"
        f" is of a mean of {several(test.blocks, 'training')}, and the test differs:"
        f" {listed(differs)}."
    )


def effects_title(of: str) -> str:
    """Above the effects on a metric or on latency."""
    return "On latency" if of == "latency" else f"On {units.title(of)}"


def additive_error(error: float) -> str:
    """How well the effects on latency add up."""
    return (
        f"Added up, these effects miss a measured latency by {100 * error:.1f} %, as tried on"
        " candidates that were left out."
    )


def mistakes_intro(mistakes: Mistakes) -> str:
    """How the classes' table is read."""
    title = "IoU" if mistakes.what == "mean_iou" else units.title(mistakes.what)
    over = "runs and images" if mistakes.images else "runs, where there are several"
    return (
        f"The {title} of each class on the validation images, as the mean over the runs of the last"
        f" rung. ± is half of the 95 % interval of a gain, over {over}; bold: the interval excludes"
        " zero. Of many classes some exclude it by chance."
    )


def confusion_caption(network: str) -> str:
    """Above a network's confusion matrix."""
    return f"What the classes are taken for by {network}, in % of the class"


def test_readings(snapshot: Snapshot) -> str:
    """How often the test images were read."""
    count = len(snapshot.test_readings)
    if not count:
        return "The test images have not been read."
    return f"The test images were read {'once' if count == 1 else f'{count} times'}."


def repeat(study: str) -> str:
    """What to do with the recipe below."""
    return (
        f"Save the recipe below as `{study}.toml`. A CPU of the same kind with as many threads"
        " gives the same numbers."
    )


def repeat_commands(snapshot: Snapshot) -> Iterator[str]:
    """What repeats the study."""
    versions = [
        f"{PINNED[name]}=={version}"
        for name, version in snapshot.versions.items()
        if name in PINNED
    ]
    if versions:
        yield " ".join(["pip install", *sorted(versions)])
    yield f"nas-attn search {snapshot.study}.toml"
    for command in ("retrain", "export"):
        yield f"nas-attn {command} {snapshot.study}"


def tiles(snapshot: Snapshot) -> list[tuple[str, str]]:
    """(number, what it counts): how far the study is."""
    points = [point for view in snapshot.candidates for point in view.scores]
    seconds = sum(point.wall_s for point in points)
    counted = [
        (f"{len(snapshot.candidates)} of {snapshot.planned}", "candidates"),
        (str(len(snapshot.front)), "on the front"),
    ]
    for state in STATES:
        if snapshot.counts[state]:
            counted.append((str(snapshot.counts[state]), state))
    return [*counted, (units.duration(seconds), "of training")]


def several_candidates(rows: Sequence[object]) -> str:
    """Above the table of all candidates."""
    return several(len(rows), "candidate")


def latency_machine(snapshot: Snapshot) -> str:
    """Where and how latency was measured."""
    record = snapshot.latency
    if record is None:
        return "No latency has been measured."
    text = (
        f"Latency was measured on {record.machine} in {several(record.sessions, 'session')}"
        f" ({units.duration(record.duration_s)}): {record.reference_ms:.3g} ms for the bare"
        " backbone."
        f" {record.dropped} sessions were dropped because two copies of the same network differed"
        f" too much; typically the copies differ by {100 * record.control_spread:.2f} %."
    )
    if "nms" in record.conditions:
        text += (
            " A detector is timed without the selection of boxes (NMS), unless it is part of the"
            " network."
        )
    return f"{text} {not_alone(record.beside)}".rstrip()
