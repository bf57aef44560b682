"""`nas-attn pareto`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from nas_attn.analysis.criteria import Criteria
from nas_attn.cli.choosing import choosing, show_choice
from nas_attn.cli.common import AsJson, Storage, StudyName, at_storage, console, print_json, study_named
from nas_attn.collecting import uncollected
from nas_attn.paths import DEFAULT_URL


@choosing
def pareto(
    criteria: Criteria,
    study: StudyName = None,
    absolute: Annotated[
        bool, typer.Option("--absolute", help="Values of metrics, not gains over the bare backbone.")
    ] = False,
    why: Annotated[
        bool, typer.Option("--why", help="The reasons behind the answer, code that builds it, and untried placements.")
    ] = False,
    storage: Storage = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """The front by current estimates (not the snapshot that Optuna holds), the baselines, and the one to take."""
    from nas_attn.analysis.suggestions import suggest
    from nas_attn.cli.showing import show_answer, show_front, show_snippet, show_suggestions, show_why
    from nas_attn.study.reading import snapshot

    with uncollected():
        opened = study_named(study, storage)
        now = snapshot(opened.store)
        choice = None
        if not criteria.default:
            from nas_attn.study.trained import chosen

            choice = chosen(opened, now, criteria)
        if as_json:
            found = None if choice is None else choice.as_dict()
            untried = [asdict(one) for one in suggest(now)]
            print_json(now.as_dict() | {"suggestions": untried} | ({} if found is None else {"chosen": found}))
        elif choice is None:
            show_answer(console(), now)
            console().print()
            show_front(console(), now, absolute=absolute)
            if why:
                show_why(console(), now)
                if now.recommendation is not None:
                    show_snippet(console(), now.find(now.recommendation.key))
                show_suggestions(console(), suggest(now))
            elif now.recommendation is not None:
                console().print(f"Reasons: nas-attn pareto {now.study} --why{at_storage(storage)}", markup=False)
        else:
            show_front(console(), now, absolute=absolute)
            show_choice(console(), choice)
            show_snippet(console(), choice.view)
