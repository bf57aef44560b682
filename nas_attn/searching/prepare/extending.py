"""A study with another search space: more choices, sites, knobs. Every finished run is kept.

Optuna refuses other choices within one study. So a second Optuna study is filled with the same
trials in the new space, and takes the study's name in one transaction: a killed process leaves the
old state or the new one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from nas_attn.attention.choice import INITS
from nas_attn.errors import PlacementError, StudyError, few, several
from nas_attn.recipe.purposes import BACKBONE
from nas_attn.recipe.recipe import KEPT, Recipe
from nas_attn.searching.prepare.baselines import first_baselines
from nas_attn.searching.prepare.beginning import plan_recipe
from nas_attn.searching.propose.untried import distributions
from nas_attn.space.placement import ResolvedPlacement
from nas_attn.space.schema import SpaceSpec
from nas_attn.space.search_space import SearchSpace, resolve
from nas_attn.storage.leasing import TTL_S, LeaseKeeper, holders, release_dead
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.records import CandidateRow
from nas_attn.storage.trial_book import FIXED, OUTSIDE, TrialBook, known_params, outside
from nas_attn.system.processes import owner_name
from nas_attn.system.wrapping import Line
from nas_attn.training.plan import Build, Plan

# After the study's name, which holds no tilde: the Optuna study that is being filled.
EXTENDING_SUFFIX = "~extending"


@dataclass(frozen=True, slots=True)
class Extension:
    """What an extension of a study's search space changes."""

    study: str
    space: str
    """Name of the new search space."""
    placements: tuple[int, int]
    """That the search space holds, before and after."""
    added: Mapping[str, tuple[str, ...]]
    """Site -> values that are new there."""
    removed: Mapping[str, tuple[str, ...]]
    """Site -> values that are gone."""
    inside: int
    """Candidates that the new space holds."""
    outside: int
    """Candidates that it does not: kept, but samplers do not learn from them."""
    runs: int
    """Finished runs, all of which are kept."""
    baselines: tuple[str, ...]
    """New baselines, which come first."""
    trials: tuple[int, int]
    """Candidates in all, before and after."""


def extension_lines(extension: Extension) -> list[Line]:
    """What another search space changes."""
    before, after = extension.placements
    change = f"{before:,} -> {after:,} placements"
    lines = [f"study {extension.study}, search space {extension.space}: {change}"]
    for sign, values in (("+", extension.added), ("-", extension.removed)):
        lines += [f"  {sign} {site}: {few(names, quote='')}" for site, names in values.items()]
    kept = several(extension.inside + extension.outside, "candidate")
    lines.append(
        f"kept: {kept} with {several(extension.runs, 'run')}; {extension.outside} of them are"
        " outside the new space, and samplers do not learn from them"
    )
    if extension.baselines:
        lines.append(f"new baselines, which come first: {few(extension.baselines, quote='')}")
    trials_before, trials = extension.trials
    lines.append(f"candidates in all: {trials_before} -> {trials}")
    return [Line(line) for line in lines]


def extend(
    opened: OpenStudy,
    space: SpaceSpec,
    *,
    trials: int | None = None,
    build: Build | None = None,
    dry_run: bool = False,
) -> Extension:
    """Gives a study another search space; open it anew afterwards.

    Args:
        opened: the study.
        space: the new search space.
        trials: candidates in all; None: as many more as it began with.
        build: makes the backbone, if the study began with a function.
        dry_run: only says what would change.

    Raises:
        StudyError: nothing would change, or workers are at it.
        RecipeError, PlacementError: the space is none of this backbone, or lacks a site at which a
            candidate has attention.
    """
    old = plan_recipe(opened.recipe, build=build, store=opened.store)
    new = _new_plan(opened, space, build)
    if dry_run:
        return _extension(opened, old, new, trials)
    with alone(opened), opened.database.creating():
        extension = _extension(opened, old, new, trials)
        opened.database.extend_study(
            opened.store,
            recipe=new.recipe.to_json(),
            trials=extension.trials[1],
            other_sites=_names_other_sites(space, opened.recipe.space),
            baselines=_renamed_baselines(opened, new),
            optuna=_fill(opened, old, new),
        )
        forget(opened)
    return extension


def _new_plan(opened: OpenStudy, space: SpaceSpec, build: Build | None) -> Plan:
    """The plan with the new space, in which all that the study has tried must be the same
    networks.
    """
    if space.model_dump(mode="json") == opened.recipe.space.model_dump(mode="json"):
        raise StudyError(
            f"study '{opened.store.name}' has this search space already ({space.where})"
        )
    recipe = Recipe.model_validate({**opened.recipe.model_dump(), "space": space}, context=KEPT)
    new_sites = _names_other_sites(space, opened.recipe.space)
    new = plan_recipe(recipe, build=build, store=None if new_sites else opened.store)
    wanted = {row.key: row.placement for row in opened.store.candidates()}
    wanted |= {
        row.run.key: row.run.placement
        for row in opened.store.queue.rows()
        if row.run.purpose != BACKBONE
    }
    for key, placement in wanted.items():
        # the target's runs may be initialised otherwise than the search's
        try:
            same = key in {resolve(placement, new.sites, init=init).key for init in INITS}
        except PlacementError:
            same = False
        if not same:
            what = f"'{placement}', which the study has tried, would be another network"
            raise PlacementError(
                f"{space.where}: with these sites, {what}: keep the study's sites.custom"
            )
    return new


def _names_other_sites(one: SpaceSpec, other: SpaceSpec) -> bool:
    return (one.sites.custom, one.sites.heads) != (other.sites.custom, other.sites.heads)


def _extension(opened: OpenStudy, old_plan: Plan, new_plan: Plan, trials: int | None) -> Extension:
    before = opened.trials
    after = before + opened.recipe.search.trials if trials is None else trials
    rows = opened.store.candidates()
    if after <= len(rows):
        name = opened.store.name
        raise StudyError(
            f"{after} candidates leave nothing to search: study '{name}' has {len(rows)}, so"
            " give more"
        )
    old = old_plan.space
    new = new_plan.space
    held = sum(_values(new, new_plan.resolved(row.placement)) is not None for row in rows)
    keys = {row.key for row in rows}
    return Extension(
        study=opened.store.name,
        space=new_plan.recipe.space.name,
        placements=(old.count(), new.count()),
        added=_more(old, new),
        removed=_more(new, old),
        inside=held,
        outside=len(rows) - held,
        runs=sum(row.state != "waiting" for row in opened.store.queue.rows()),
        baselines=tuple(
            b.name
            for key, b in first_baselines(new_plan.recipe, new, after).items()
            if key not in keys
        ),
        trials=(before, after),
    )


def _more(fewer: SearchSpace, more: SearchSpace) -> dict[str, tuple[str, ...]]:
    """Site -> values whose networks `more` has and `fewer` has not."""
    choices = {}
    for site in more.allowed:
        networks = fewer.networks(site) if site in fewer.allowed else {}
        values = tuple(
            value for network, value in more.networks(site).items() if network not in networks
        )
        if values:
            choices[site] = values
    return choices


@contextmanager
def alone(opened: OpenStudy) -> Iterator[None]:
    """No worker is at a run, and none takes one meanwhile."""
    store = opened.store
    owner = owner_name()
    release_dead(store, "")
    lease = store.acquire("scheduling", owner=owner, ttl_s=TTL_S)
    others = holders(store, owner)
    if lease is not None and not others:
        with LeaseKeeper(store, lease):
            yield
        return
    if lease is not None:
        store.release(lease)
    who = "; ".join(others) or "a worker looks for work"
    raise StudyError(f"study '{store.name}' has running workers ({who}): stop them first")


def _fill(opened: OpenStudy, old: Plan, new: Plan) -> str:
    """Makes the Optuna study with all trials in the new space's values; returns its name."""
    name = opened.store.name + EXTENDING_SUFFIX
    forget(opened)
    made = TrialBook(opened.database, name, made_for=new.recipe)
    rows = {row.trial: row for row in opened.store.candidates()}
    for trial in opened.book.all():
        made.study.add_trial(_translated(trial, rows.get(trial.number), old, new))
    made.close()
    return name


def forget(opened: OpenStudy) -> None:
    """Deletes the Optuna study that was being filled, and the one that it has replaced."""
    made = opened.store.name + EXTENDING_SUFFIX
    for name in optuna.get_all_study_names(opened.book.storage):
        if name in (made, f"{made}/old"):
            optuna.delete_study(study_name=name, storage=opened.book.storage)


def _translated(trial: FrozenTrial, row: CandidateRow | None, old: Plan, new: Plan) -> FrozenTrial:
    """A trial in the new space. If it was asked for and never begun, it waits again."""
    placement = _placement(trial, row, old, new)
    values = None
    if placement is not None:
        values = _values(new.space, placement)
    users = {name: value for name, value in trial.user_attrs.items() if name != OUTSIDE}
    if placement is not None and values is None:
        users[OUTSIDE] = placement.text
    system = {
        name: value for name, value in trial.system_attrs.items() if name.startswith("constraints")
    }
    if not trial.state.is_finished() and row is None:
        state = TrialState.WAITING if placement is not None else TrialState.FAIL
        return create_trial(
            state=state, user_attrs=users, system_attrs={**system, FIXED: values or {}}
        )
    made = create_trial(
        state=trial.state,
        values=trial.values,
        params=values or {},
        distributions={} if values is None else distributions(new.space),
        user_attrs=users,
        system_attrs=(
            {**system, FIXED: values} if values and FIXED in trial.system_attrs else system
        ),
        intermediate_values=trial.intermediate_values,
    )
    made.datetime_start = trial.datetime_start
    made.datetime_complete = trial.datetime_complete
    return made


def _placement(
    trial: FrozenTrial, row: CandidateRow | None, old: Plan, new: Plan
) -> ResolvedPlacement | None:
    """A trial's placement; None if it was asked for and is not proposed yet."""
    placement = row.placement if row is not None else outside(trial)
    if placement is not None:
        return new.resolved(placement)
    values = known_params(trial)
    if values.keys() != old.space.parameters.keys():
        return None
    return new.resolved(old.space.resolve(values).placement)


def _values(space: SearchSpace, placement: ResolvedPlacement) -> dict[str, str] | None:
    try:
        return space.values(placement)
    except PlacementError:
        return None


def _renamed_baselines(opened: OpenStudy, plan: Plan) -> dict[str, str]:
    """Key -> name of the candidates that were a baseline, where the new space's baseline of that
    name is another network.
    """
    baselines = first_baselines(plan.recipe, plan.space, opened.trials)
    new = {baseline.name: key for key, baseline in baselines.items()}
    named = [
        (row.key, row.baseline) for row in opened.store.candidates() if row.baseline is not None
    ]
    return {key: f"{name}, as before" for key, name in named if new.get(name, key) != key}
