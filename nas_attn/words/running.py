"""What a worker prints of its runs, besides the candidates' lines in `answer.progress`."""

from __future__ import annotations

from collections.abc import Sequence

from nas_attn.answer.length import LengthScore
from nas_attn.answer.progress import EndedRun, WorkersRun
from nas_attn.errors import several
from nas_attn.recipe import purposes
from nas_attn.recipe.tables import LAYER_NORM_PRESET
from nas_attn.recipe.training import TrainingSection
from nas_attn.recipe.units import duration, value
from nas_attn.space.placement import Placement


def run_name(taken: WorkersRun) -> str:
    """A run in a few words."""
    match taken.purpose:
        case purposes.BACKBONE if taken.key != purposes.BACKBONE:
            return f"{taken.key} {taken.backbone + 1}"
        case purposes.BACKBONE if taken.backbone < taken.backbones:
            return f"backbone {taken.backbone + 1} of {taken.backbones}"
        case purposes.BACKBONE:
            # of a confirmation round
            return f"fresh backbone for seed {taken.seed}"
        case purposes.LENGTH:
            return f"bare network, seed {taken.seed}, {taken.protocol}"
        case purposes.SEARCH:
            return taken.placement if taken.trial is None else f"trial {taken.trial}"
    return f"{taken.purpose}, seed {taken.seed}: {taken.placement}"


def under_way(taken: WorkersRun) -> str:
    """What a worker is at: the name of its run, with seed and placement."""
    if taken.placed:
        return run_name(taken)
    return f"{run_name(taken)}, seed {taken.seed}: {taken.placement}"


def begun_line(name: str) -> str:
    """That the first training of a study has begun."""
    return f"{name}: training"


def trained_line(name: str, state: str, reason: str) -> str:
    """That a backbone's training has ended."""
    if state == "done":
        return f"{name}: trained"
    return f"{name}: {state}: {reason}"


def ended_line(name: str, state: str, reason: str) -> str:
    """That a run has ended, in which state of the queue, and why."""
    if reason:
        return f"{name}: {state}: {reason}"
    return f"{name}: {state}"


NO_REASON = "no reason is known"
"""Of a run that failed without one."""

IMAGES_KEPT_FROM_NOW = (
    "what the images are is kept from now on; whether they changed before is not known"
)


def note_line(sentence: str) -> str:
    """A remark while a search goes on."""
    return f"note: {sentence}"


def tried_already_line(typed: str, trial: int, state: str) -> str:
    """That a user's placement is a candidate already."""
    return f"'{typed}' is trial {trial} already ({state})"


def no_studies_line(database: str, fewest: int) -> str:
    """That a search learns nothing from earlier studies."""
    return (
        f"search.prior = 'studies' has no effect: '{database}' holds no other study with"
        f" {fewest} scored candidates"
    )


def no_comparisons_line(task: str, start: str, form: str) -> str:
    """That a search learns nothing from published comparisons."""
    return (
        f"search.prior = 'published' has no effect: no published comparison is of {task} with start"
        f" '{start}' and form '{form}'"
    )


def output_line(file: str, failure: str) -> str:
    """Where an evaluator's output is, or why it cannot be written there."""
    if failure:
        return f"the evaluator's output cannot be written to {file}: {failure}"
    return f"the evaluator's output is in {file} (verbose shows it here)"


def confirmed_line(run: EndedRun) -> str:
    """That a candidate was trained with one more seed."""
    if run.done:
        return f"confirm with seed {run.seed}: {run.placement}"
    return f"seed {run.seed} of {run.placement} {run.state}: {run.reason}"


def length_line(run: EndedRun, epochs: int) -> str:
    """That the bare network was trained for so many epochs, to find the target's length."""
    what = several(epochs, "epoch") if run.done else run.state
    why = f": {run.reason}" if run.reason else ""
    return f"bare network, seed {run.seed}: {what}{why}"


def guessing_line(epochs: int, training: TrainingSection) -> str:
    """That the bare network predicts one class for all images after a search's epochs, and what may
    help.
    """
    what = _nothing_learned("the bare network", epochs)
    return f"{what}. If the candidates do the same, {_other_training(training)}"


def learned_nothing_text(study: str, epochs: int, training: TrainingSection) -> str:
    """That the bare network predicts one class for all images after up to so many epochs, and what
    may help.
    """
    what = _nothing_learned(f"the bare network of study '{study}'", epochs)
    return f"{what}, so there is nothing to compare: {_other_training(training)}"


def _nothing_learned(network: str, epochs: int) -> str:
    learned = f"{network} has learned nothing in {several(epochs, 'epoch')}"
    return f"{learned}: it predicts one class for all images"


def _other_training(training: TrainingSection) -> str:
    """What to change where a network learns nothing."""
    if training.evaluator is not None:
        return f"change how '{training.evaluator}' trains, then begin a new study (--name)"
    setting = f"training.learning_rate={training.learning_rate / 10:g}"
    if training.optimizer == "SGD":
        setting = f"training.preset={LAYER_NORM_PRESET}"
    return f"try another training in a new study (--name): --set {setting}"


def longer_line(run: EndedRun, epochs: int) -> str:
    """That the bare network was trained longer than the search trains."""
    return f"bare network for {several(epochs, 'epoch')}, seed {run.seed}{_failed(run)}"


def tested_line(run: EndedRun, validation: int, done: int, total: int, block: int) -> str:
    """That a network of a test was trained; so many of its runs are done."""
    which = f"test {validation}, run {done}/{total}, block {block}"
    return f"{which}: {run.placement}{_failed(run)}"


def target_lines(
    metric: str, scores: Sequence[LengthScore], epochs: int, searched: int, *, known: bool
) -> list[str]:
    """How long the target trains, and the search. `known`: whether that is known to be enough."""
    reached = f"target: the bare network reaches {_scores(metric, scores)}"
    lines = [f"{reached}; there is no time to find out how long it gains"]
    if known:
        lines = [f"{reached}; {several(epochs, 'epoch')} will do"]
    if searched < epochs:
        lines.append(
            f"too little time for runs of {several(epochs, 'epoch')}: the search trains for"
            f" {searched} and recommends nothing for the end"
        )
    return lines


def no_test_line(study: str, blocks: int, seconds: float) -> str:
    """That the time ends before the shortest test, of so many blocks, could."""
    shortest = f"the shortest, of {blocks} blocks, takes {duration(seconds)}"
    return f"no time for a test: {shortest}; test it later with nas-attn test {study}"


def no_control_line(error: Exception) -> str:
    """That larger networks cannot be trained as candidates are, so that none is compared."""
    return f"no larger network is tried as a control: {error}"


def worker_ended_line(status: int) -> str:
    """That one of several worker processes failed."""
    return f"a worker ended with status {status}; the others continued"


def worker_replaced_line(name: str) -> str:
    """That another process goes on with a worker's runs, as its GPU is lost."""
    return f"{name}: another process takes its place"


def worker_killed_line(name: str) -> str:
    """That a worker was killed, after the second signal."""
    return f"{name}: killed; its work since the last checkpoint is lost"


def lacks_latencies_line(waiting: int, machine: str, study: str) -> str:
    """That trained candidates wait for another machine, the one that measures latencies.

    Args:
        waiting: how many.
        machine: its name, in quotes, and how it differs from this one.
        study: the study's name.
    """
    who = f"{waiting} trained candidates lack their latencies"
    if waiting == 1:
        who = "1 trained candidate lacks its latency"
    return (
        f"{who}, which only {machine} can measure: start a worker there with nas-attn worker"
        f" {study}, or measure here from now on with nas-attn resume {study} --here"
    )


def same_network_reason(trial: int | None) -> str:
    """Why a proposal is not trained: an earlier trial has the network. None: it is not known."""
    return f"the same network as trial {'?' if trial is None else trial}"


def killed_workers_reason(workers: int) -> str:
    """Why a run is not begun any more."""
    return f"it killed {workers} workers"


def not_kept_reason(keep: str) -> str:
    """Why a network's weights are not there, by what the recipe keeps."""
    return f"not kept, since storage.keep_weights is '{keep}'"


def pruned_reason(epochs: int) -> str:
    """Why a candidate was stopped at a rung."""
    return f"not among the best third after {several(epochs, 'epoch')}, all objectives together"


def stopping_line(why: str = "") -> str:
    """That a worker was told to stop, in this terminal. `why`: the signal, if not Ctrl-C."""
    return f"stopping{why}: finishing the step and writing a checkpoint; repeat to stop at once"


STOPPING_ON_REQUEST = (
    "stopping, as requested by nas-attn stop: finishing the step and writing a checkpoint"
)
TIME_WAS_OVER = "the search's time was over"
NO_WORKER_HAS_A_RUN = "no worker has a run"
TAKEN_OVER = "taken over by another worker"
WAITS_FOR_A_PROCESS = "waits for another process"


def left_behind(epochs: int | None, *, in_order: bool) -> str:
    """What remains of an unfinished run. `epochs`: at its last checkpoint; None: there is none."""
    if epochs is None:
        return f"{_stopped(in_order)} before its first checkpoint; it will start again"
    done = f"{several(epochs, 'epoch')} trained" if epochs else "in its first epoch"
    return f"{_stopped(in_order)}; it will go on from its checkpoint ({done})"


def left_untold(*, in_order: bool) -> str:
    """The same where the database cannot be told; others wait until the lease expires."""
    return (
        f"{_stopped(in_order)}; the database does not answer; it will go on from its last recorded"
        " checkpoint"
    )


def _stopped(in_order: bool) -> str:
    return "stopped" if in_order else "stopped at once"


def stopped_at_once_line(again: str) -> str:
    """That the second signal ended a command; `again`: the command that goes on."""
    return f"stopped at once; go on with: {again}"


def stopped_line(again: str) -> str:
    """That a signal stopped a command before its end."""
    return f"stopped before the end; go on with: {again}"


def time_over_line(again: str) -> str:
    """That a command's time is over."""
    return f"the time is over; go on with: {again}"


EXHAUSTED_LINE = (
    "every placement of the search space has been tried, or is probably over the limits"
)
RETRAINED_LINE = (
    "Only nas-attn test reads the test images. nas-attn export takes the weights of the first seed."
)


def retrained_title(*, at_target: bool) -> str:
    """Of the table of networks that were retrained."""
    how = "as the target says" if at_target else "as the options say, not as the target says"
    return f"Trained {how}; scored on the validation split"


def unfinished_line(network: str, seed: int, reason: str) -> str:
    """That a retrained network has no score, and why."""
    return f"{network}, seed {seed}: {reason or 'not finished'}"


def called_line(label: str, placement: Placement) -> str:
    """Which placement a table means by a label."""
    return f"{label} is {placement}"


def _failed(run: EndedRun) -> str:
    return "" if run.done else f" {run.state}: {run.reason}"


def _scores(metric: str, scores: Sequence[LengthScore]) -> str:
    """`46.1 % after 20 epochs, 51.4 % after 40`."""
    parts = [f"{value(metric, score.value)} after {score.epochs}" for score in scores]
    if parts:
        parts[0] += " epochs" if scores[0].epochs > 1 else " epoch"
    return ", ".join(parts)
