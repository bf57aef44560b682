"""`nas-attn pareto`."""

from __future__ import annotations

from nas_attn.cli.common import DEFAULT_STORAGE, AsJson, Storage, StudyName, console, print_json, study_named


def pareto(study: StudyName = None, storage: Storage = DEFAULT_STORAGE, as_json: AsJson = False) -> None:
    """The front by current estimates (not the snapshot that Optuna holds), the baselines, the recommendation."""
    from nas_attn.analysis.snapshot import snapshot
    from nas_attn.cli.showing import show_answer

    now = snapshot(study_named(study, storage).store)
    if as_json:
        print_json(now.as_dict())
    else:
        show_answer(console(), now)
