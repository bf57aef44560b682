"""`nas-attn show`, `report` and `effects`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from typer import Option

from nas_attn.cli.commands import Context
from nas_attn.cli.common import (
    ChosenPlacement,
    MaxLatencyMs,
    MaxLatencyRatio,
    MinAccuracy,
    StudyName,
    at_storage,
    console,
    criteria,
    echo,
    page_path,
    print_json,
    study_named,
    table,
)
from nas_attn.cli.trust import check_study
from nas_attn.errors import RecipeError, StudyError, did_you_mean, shorten
from nas_attn.system.importing import distrust

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from nas_attn.answer.answer import Answer
    from nas_attn.answer.choosing import Chosen
    from nas_attn.answer.criteria import Criteria
    from nas_attn.answer.effects import Effects
    from nas_attn.answer.snapshot import Snapshot
    from nas_attn.storage.opening import OpenStudy


def show(
    context: Context,
    study: StudyName = None,
    max_latency_ratio: MaxLatencyRatio = None,
    max_latency_ms: MaxLatencyMs = None,
    min_accuracy: MinAccuracy = None,
    placement: ChosenPlacement = None,
    why: Annotated[
        bool,
        Option(
            "--why",
            help="The reasons behind the answer, and code that builds it.",
        ),
    ] = False,
) -> None:
    """Show the answer, the front and the baselines. With a limit, the best within it.

    Examples:
      nas-attn show
      nas-attn show digits --max-latency-ratio 1.1

    The rows of the card: docs/get-started/read-the-answer.md
    """
    wanted = criteria(max_latency_ratio, max_latency_ms, min_accuracy, placement)
    if context.as_json:
        context.refuse(["why"], "--json has all of it")
    if not wanted.default:
        context.refuse(["why"], "it says what is behind the answer, and you choose yourself")

    from nas_attn.answer.as_json import answer_as_json, choice_as_json
    from nas_attn.answer.reading import answer
    from nas_attn.cli.showing import show_answer, show_choice, show_front, show_why

    opened = study_named(context, study, runs_code=bool(placement))
    found = answer(opened.store)
    now = found.now
    choice = _chosen(opened, found, wanted)
    if context.as_json:
        chosen = {} if choice is None else {"chosen": choice_as_json(now, choice)}
        print_json(answer_as_json(found) | chosen)
        return
    out = console(wide=context.wide)
    if choice is None:
        show_answer(out, found, context.storage)
    else:
        show_choice(out, now, choice)
    out.print()
    show_front(out, found)
    if why and choice is None:
        show_why(out, found)


def report(
    context: Context,
    study: StudyName = None,
    max_latency_ratio: MaxLatencyRatio = None,
    max_latency_ms: MaxLatencyMs = None,
    min_accuracy: MinAccuracy = None,
    placement: ChosenPlacement = None,
    output: Annotated[
        str | None,
        Option(
            "--output",
            "-o",
            metavar="PATH",
            help="File; default: STUDY.html next to the database.",
        ),
    ] = None,
) -> None:
    """Write the study's report as one HTML file.

    Examples:
      nas-attn report
      nas-attn report digits --output digits.html

    What it shows: docs/get-started/read-the-answer.md
    """
    wanted = criteria(max_latency_ratio, max_latency_ms, min_accuracy, placement)

    from nas_attn.answer.reading import answer
    from nas_attn.report.publishing import write_study_report

    path = page_path(output, "--output")
    opened = study_named(context, study, runs_code=bool(placement))
    images = True
    try:
        check_study(opened, trust=context.trust)
    except RecipeError as error:
        # data and networks can be code
        images = False
        distrust(str(opened.database.path))
        echo(f"note: the report has no images: {error}", err=True)
    found = answer(opened.store)
    choice = _chosen(opened, found, wanted)
    path = write_study_report(opened, found, path, choice, images=images)
    if context.as_json:
        print_json({"report": str(path)})
        return
    from nas_attn.cli.showing import show_answer

    show_answer(console(wide=context.wide), found, context.storage)
    echo(f"\n{path}")


def _chosen(opened: OpenStudy, answer: Answer, wanted: Criteria) -> Chosen | None:
    """The candidate that the criteria choose; None without criteria."""
    if wanted.default:
        return None
    from nas_attn.answer.choosing import chosen

    return chosen(opened, answer, wanted)


def effects(
    context: Context,
    study: StudyName = None,
    what: Annotated[
        str | None,
        Option(
            "--of",
            metavar="METRIC",
            help="latency, or a metric, such as accuracy. Default: the study's score.",
        ),
    ] = None,
) -> None:
    """Show what each choice adds at each site. To a metric, or to the latency.

    Examples:
      nas-attn effects
      nas-attn effects digits --of latency

    How gains are estimated: docs/explain/statistics.md
    """
    from nas_attn.answer.effects_text import effects_message, left_out_line, unit_of_effects
    from nas_attn.answer.reading import answer
    from nas_attn.cli.terminal import show_prose

    opened = study_named(context, study)
    now = answer(opened.store).now
    what = what or now.metric
    fitted = _effects(now, what, at_storage(opened.url))
    said = effects_message(fitted)
    if context.as_json:
        plain = [asdict(row) for row in fitted.rows]
        print_json(
            {
                "unit": unit_of_effects(what),
                "cv_error": fitted.cv_error,
                "sentences": [said],
                "effects": plain,
            }
        )
        return
    out = console(wide=context.wide)
    show_prose(out, said)
    if fitted.sure:
        out.print(_effects_table(fitted))
        show_prose(out, "Bold: the 95 % interval excludes zero.")
    if fitted.cv_error is not None:
        show_prose(out, left_out_line(fitted.cv_error))


def _effects(now: Snapshot, what: str, at: str) -> Effects:
    from nas_attn.answer.effects import average_effects

    same = next((constant for constant in now.constants if constant.metric == what), None)
    if same is not None:
        why = same.sentence.removesuffix(".")
        raise StudyError(f"there are no effects on '{what}': {why}")
    fitted = average_effects(now, what)
    if fitted is not None:
        return fitted
    choices = [
        "latency",
        *sorted(
            {name for view in now.candidates for point in view.scores for name in point.metrics}
        ),
    ]
    if len(choices) > 1 and what not in choices:
        raise StudyError(
            f"--of '{shorten(what)}' is not a metric of study '{now.study}':"
            f" {did_you_mean(what, choices)}"
        )
    more = f"continue with nas-attn resume {now.study} --trials {len(now.candidates) + 8}{at}"
    raise StudyError(f"effects on '{what}' need at least eight candidates that have it: {more}")


def _effects_table(effects: Effects) -> Table:
    """Each choice at each site on average over all placements, then each type at any site."""
    from rich.text import Text

    from nas_attn.answer.effects_text import effects_heading
    from nas_attn.recipe.units import bare_plus_minus, probability

    cells: list[list[str | Text]] = []
    for row in effects.rows:
        shown = bare_plus_minus(effects.of, row.mean, row.half)
        adds = Text(shown, style="bold" if row.sure else "")
        cells.append(
            [row.site or "any", row.name, adds, probability(row.better), str(row.observations)]
        )
    numbers = ["adds", "good", "tried"]
    heading = effects_heading(effects.of)
    columns = ["site", "choice", *numbers]
    return table(heading, columns, cells, right=numbers, whole=["site"])
