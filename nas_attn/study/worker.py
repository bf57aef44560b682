"""A worker: takes trials of a study one by one, under leases, until the study is complete or it is told to stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from nas_attn.analysis.halving import survives
from nas_attn.analysis.objectives import COSTS, mean_metrics, minimised, objective_value
from nas_attn.errors import LeaseLost, RecipeError, TrainingError, did_you_mean
from nas_attn.evaluation.leasing import TTL_S, LeaseKeeper
from nas_attn.evaluation.measuring import BARE
from nas_attn.evaluation.workbench import Checked, Workbench
from nas_attn.recipe import objective_name
from nas_attn.records import CandidateRow, Latency, ResolvedPlacement, Score
from nas_attn.space import parse, resolve
from nas_attn.storage import Lease
from nas_attn.study.opening import OpenStudy
from nas_attn.study.owner import release_dead
from nas_attn.study.sampling import DistinctSampler, seen_values
from nas_attn.study.telling import tell
from nas_attn.training import Interrupted

POLL_S = 0.5
COMPANIONS = 3
"""Candidates whose latency is narrowed beside a new one's."""
BASELINE = "baseline"
"""User attribute of an enqueued trial that names the baseline."""


@dataclass(frozen=True)
class Work:
    """A trial that is this worker's."""

    trial: int
    resolved: ResolvedPlacement
    baseline: str | None
    lease: Lease


class Worker:
    """Evaluates candidates of one study. Any number of workers may share it, on any number of machines."""

    def __init__(
        self,
        opened: OpenStudy,
        bench: Workbench,
        *,
        owner: str,
        stop: Callable[[], bool],
        say: Callable[[str], None],
        deadline: float | None = None,
    ) -> None:
        """Args:
        owner: unique name of this worker.
        stop: asked between steps; true ends the work with a checkpoint.
        say: told one line per event.
        deadline: time.monotonic() after which no new candidate is begun.
        """
        self.opened, self.bench, self.owner, self.stop = opened, bench, owner, stop
        self.say, self._deadline = say, deadline
        self.store, self.recipe = opened.store, opened.recipe
        self.space = bench.plan.space
        opened.optuna_study.sampler = DistinctSampler(
            self.recipe.search.sampler, self.space, seed=self.recipe.search.seed, trials=opened.trials
        )

    def run(self) -> str:
        """Works until there is nothing left to begin. Returns why it ended: `complete`, `exhausted`, `time` or `stopped`."""
        while not self.stop():
            if self._deadline is not None and time.monotonic() > self._deadline:
                return "time"
            with self.turn() as mine:
                work = self._take() if mine else None
            if isinstance(work, str):
                return work
            if work is None:
                time.sleep(POLL_S)
            else:
                self._evaluate(work)
        return "stopped"

    @contextmanager
    def turn(self) -> Iterator[bool]:
        """One worker at a time takes up trials, so that none is proposed or begun twice."""
        self.release_dead("turn")
        lease = self.store.acquire("turn", owner=self.owner, ttl_s=TTL_S)
        if lease is None:
            yield False
            return
        with LeaseKeeper(self.store, lease):
            yield True

    # ------------------------------------------------------------------------------------ taking

    def _take(self) -> Work | str | None:
        """The next trial; None while others work on the last ones; a word where there is none left."""
        self._recover()
        study = self.opened.optuna_study
        trials = study.get_trials(deepcopy=False)
        states = [trial.state for trial in trials]
        begun_before = any(t.state == TrialState.WAITING and t.params for t in trials)
        running = states.count(TrialState.RUNNING)
        finished = states.count(TrialState.COMPLETE) + states.count(TrialState.PRUNED)
        if not begun_before:
            if finished + running >= self.opened.trials:
                return None if running else "complete"
            if TrialState.WAITING not in states and self._exhausted(trials):
                return None if running else "exhausted"
        return self._ask()

    def _exhausted(self, trials: Sequence[FrozenTrial]) -> bool:
        sites = list(self.space.parameters)
        seen = seen_values(trials, sites)
        if len(seen) < self.space.count():
            return False
        allowed = sum(self.space.contains(dict(zip(sites, values, strict=True))) for values in seen)
        return allowed >= self.space.count()

    def _ask(self) -> Work | None:
        study = self.opened.optuna_study
        trial = study.ask()
        lease = self.store.acquire(trial_resource(trial.number), owner=self.owner, ttl_s=TTL_S)
        if lease is None:  # a worker that hangs still holds it: its trial comes back when the lease has expired
            return None
        baseline = trial.user_attrs.get(BASELINE)
        values = {site: trial.suggest_categorical(site, choices) for site, choices in self.space.parameters.items()}
        resolved = self.space.resolve(values)
        row = self.store.claim(
            resolved.key, placement=resolved.text, trial=trial.number, baseline=baseline, lease=lease
        )
        if row is None:
            first = self.store.candidate(resolved.key)
            trial.set_user_attr("reason", f"the same network as trial {first.trial if first else '?'}")
            study.tell(trial, state=TrialState.FAIL)
            self.store.release(lease)
            return None
        return Work(trial.number, resolved, baseline, lease)

    # ------------------------------------------------------------------------------------ taking over

    def _recover(self) -> None:
        """Takes up what other workers left: tells what is scored, sets the rest back to waiting under the same number."""
        self.release_dead("trial/")
        held = {row.resource for row in self.store.leases() if row.state == "held"}
        rows = {row.trial: row for row in self.store.candidates()}
        study = self.opened.optuna_study
        for trial in study.get_trials(deepcopy=False):
            row = rows.get(trial.number)
            if trial.state.is_finished() and row and not row.told and row.state != "running":
                self.store.mark_told(row.key)
            if trial.state != TrialState.RUNNING or trial_resource(trial.number) in held:
                continue
            if row is not None and row.state != "running":
                self._tell(row)
            else:
                self.say(f"trial {trial.number}: taken up from a worker that is gone")
                study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    def release_dead(self, prefix: str) -> None:
        """Frees the leases of workers on this machine that have died."""
        release_dead(self.store, prefix)

    # ------------------------------------------------------------------------------------ one candidate

    def _evaluate(self, work: Work) -> None:
        """Checks, trains and tells one candidate. Interrupted, it goes back to waiting under its number."""
        with LeaseKeeper(self.store, work.lease) as keeper:
            try:
                self._check_and_train(work, lambda: self.stop() or keeper.lost)
            except LeaseLost:
                self.say(f"trial {work.trial}: taken over by another worker, left alone here")
            except BaseException as error:
                self._give_back(work, keeper)
                if not isinstance(error, Interrupted):
                    raise

    def _check_and_train(self, work: Work, stop: Callable[[], bool]) -> None:
        key, lease = work.resolved.key, work.lease
        try:
            checked = self.bench.check(work.resolved, self._companions(key))
            self.store.set_cost(key, checked.cost, lease)
            state, reason, values = "infeasible", checked.reason, None
            if not reason:
                state, reason, values = self._train(work, checked, stop)
        except TrainingError as error:
            if self.recipe.training.evaluator is not None and not self.store.scores(purpose="search"):
                raise RecipeError(
                    f"training.evaluator has not scored one candidate yet, so nothing was recorded: {error}"
                ) from error
            state, reason, values = "failed", str(error), None
        self.store.finish(key, state=state, reason=reason, values=values, lease=lease)
        row = self.store.candidate(key)
        assert row is not None
        self._tell(row)
        for seed in self._seeds():
            self.bench.files(work.resolved, seed=seed, lease=lease, purpose="search").clear()
        self.say(self._line(work, row))

    def _train(
        self, work: Work, checked: Checked, stop: Callable[[], bool]
    ) -> tuple[str, str, tuple[float, ...] | None]:
        """(state, reason, objective values) after training with each seed."""
        final: list[Score] = []
        last = len(self.recipe.training.rungs) - 1
        for seed in self._seeds():

            def go_on(score: Score) -> bool:
                self._check_metrics(score)
                return bool(final) or self._survives(work, score)

            scores = self.bench.train(
                work.resolved, seed=seed, lease=work.lease, purpose="search", go_on=go_on, stop=stop
            )
            if scores[-1].rung < last:
                return "pruned", self._why_pruned(scores[-1]), None
            final.append(scores[-1])
        latency = self._latency(work.resolved, stop)
        metrics = mean_metrics([score.metrics for score in final])
        values = [objective_value(o, metrics, checked.cost, latency) for o in self.recipe.objectives]
        return "scored", "", tuple(v for v in values if v is not None)

    def _check_metrics(self, score: Score) -> None:
        """Raises:
        RecipeError: an evaluator does not return what the study's objectives name.
        """
        for objective in self.recipe.objectives:
            name = objective_name(objective)
            if objective not in COSTS and name not in score.metrics:
                raise RecipeError(
                    f"objectives names '{objective}', but training.evaluator returned no '{name}': "
                    f"{did_you_mean(name, score.metrics)}"
                )

    def _latency(self, resolved: ResolvedPlacement, stop: Callable[[], bool]) -> Latency | None:
        measurer = self.bench.measurer
        if measurer is None:
            return None
        return measurer.known(resolved) or measurer.wait(resolved, stop)

    def _survives(self, work: Work, score: Score) -> bool:
        """The pruner's word at a rung. Baselines always go on."""
        search = self.recipe.search
        if search.pruner == "none" or work.baseline or score.rung == len(self.recipe.training.rungs) - 1:
            return True
        peers = {row.key: row for row in self.store.candidates()}
        latencies = self.bench.measurer.latencies() if self.bench.measurer else {}
        pairs: dict[str, tuple[float, ...]] = {}
        for stored in self.store.scores(purpose="search"):
            row = peers.get(stored.key)
            if row and (stored.score.rung, stored.score.seed) == (score.rung, score.seed):
                latency = latencies.get(stored.key)
                values = [objective_value(o, stored.score.metrics, row.cost, latency) for o in self.recipe.objectives]
                pairs[stored.key] = minimised(self.recipe.objectives, values)
        return survives(pairs, work.resolved.key, search.eta)

    def _why_pruned(self, score: Score) -> str:
        epochs = f"{score.epochs} epoch{'s' if score.epochs > 1 else ''}"
        return f"not among the best 1/{self.recipe.search.eta:g} after {epochs}, all objectives together"

    def _give_back(self, work: Work, keeper: LeaseKeeper) -> None:
        """Leaves the trial for whoever takes it up; its checkpoint is stored."""
        if keeper.lost:
            return
        study = self.opened.optuna_study
        frozen = study.get_trials(deepcopy=False)[work.trial]
        if frozen.state == TrialState.RUNNING:
            study._storage.set_trial_state_values(frozen._trial_id, TrialState.WAITING)
        self.say(f"trial {work.trial}: stopped, will go on from its checkpoint")

    def _tell(self, row: CandidateRow) -> None:
        frozen = self.opened.optuna_study.get_trials(deepcopy=False)[row.trial]
        resolved = self.resolved(row)
        tell(self.opened, frozen, row, self.bench.measurer.known(resolved) if self.bench.measurer else None)

    # ------------------------------------------------------------------------------------ small things

    def _seeds(self) -> range:
        first = self.recipe.search.seed
        return range(first, first + self.recipe.training.seeds)

    def resolved(self, row: CandidateRow) -> ResolvedPlacement:
        """A stored candidate's placement."""
        return resolve(parse(row.placement), self.bench.plan.sites, init=self.space.init)

    def _companions(self, key: str) -> list[ResolvedPlacement]:
        """Candidates that could use another latency session: the unmeasured, then those known least well."""
        measurer = self.bench.measurer
        if measurer is None or not measurer.fits:
            return []
        rows = {r.key: r for r in self.store.candidates() if r.state in ("running", "scored") and r.placement != BARE}
        wanted = measurer.open_keys([other for other in rows if other != key], self.recipe.latency.tolerance)
        return [self.resolved(rows[other]) for other in wanted[:COMPANIONS]]

    def _line(self, work: Work, row: CandidateRow) -> str:
        shown = row.reason or ", ".join(
            f"{o} {v:.4g}" for o, v in zip(self.recipe.objectives, row.values or (), strict=True)
        )
        name = f" ({work.baseline})" if work.baseline else ""
        return f"trial {work.trial}{name}: {row.state}: {shown}; {row.placement}"


def trial_resource(number: int) -> str:
    """Name of the lease on a trial."""
    return f"trial/{number}"
