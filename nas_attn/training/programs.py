"""A user's program as evaluator: it trains a network and prints a line with a score after each
epoch.

    [training]
    evaluator = "command: python train.py --epochs {epochs} --seed {seed}"

A line is `epoch=3 accuracy=0.81`, with any metrics by name; all output goes to the log. The program
puts the attention into its own network with `nas_attn.attach_asked(model)`. It is ended if the
candidate is pruned or the worker stops.
"""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO

import psutil
import torch
from pydantic import TypeAdapter
from torch import nn

from nas_attn import attachment
from nas_attn.errors import PlacementError, RecipeError, TrainingError, first_line
from nas_attn.recipe import tasks
from nas_attn.recipe.recipe import Recipe
from nas_attn.space.placement import ResolvedPlacement
from nas_attn.system.environment import RUN, run_to_attach
from nas_attn.system.importing import load_object, refuse_distrusted
from nas_attn.system.processes import Process, apart, process, words_of
from nas_attn.training.evaluators import COMMAND, Evaluator, EvaluatorRun, Reports

PLACEHOLDERS = ("placement", "seed", "device", "folder", "split")
"""Words in braces that a run fills in, besides epochs."""
WEIGHTS = "weights.pt"
"""File in a run's folder into which a program may save its network's state_dict."""
LINE_WAIT_S = 0.2
"""Seconds between checks for a request to stop."""
PROGRAM_GRACE_S = 10.0
"""Seconds that a program gets to end after SIGTERM."""
_PAIR = re.compile(r"([A-Za-z_][\w./-]*)=([-+.\w]+)")
Lines = queue.Queue[tuple[bool, str]]
"""Whether it is standard output's, and the line."""


def program(name: str) -> Evaluator:
    """The evaluator of a command. Raises RecipeError: the command cannot be split into words, or
    its program does not exist.
    """
    refuse_distrusted(name, RecipeError)
    command = name.removeprefix(COMMAND)
    try:
        words = words_of(command)
    except ValueError as error:
        raise RecipeError(
            f"training.evaluator '{name}' cannot be split into words: {error}"
        ) from None
    if not words or shutil.which(words[0]) is None:
        raise RecipeError(
            f"training.evaluator '{name}': the program '{' '.join(words[:1])}' is not found: give"
            " its path"
        )

    def evaluate(model: nn.Module, run: EvaluatorRun) -> Reports:
        if run.split != "validation" and "{split}" not in command:
            raise TrainingError(
                f"training.evaluator '{name}' cannot score the test images: tell it {{split}}"
            )
        # whoever trains by it says so
        assert run.resolved is not None
        if run.resolved.other is not None:
            raise TrainingError(
                "the program builds its own network, so it cannot train another backbone as a"
                " control"
            )
        values = {place: str(getattr(run, place)) for place in PLACEHOLDERS}
        values["epochs"] = str(run.last or run.epochs)
        filled = [
            re.sub(r"\{(\w+)\}", lambda place: values.get(place[1], place[0]), word)
            for word in words
        ]
        yield from _scores(filled, run, run.resolved)
        try:
            model.load_state_dict(
                torch.load(run.folder / WEIGHTS, map_location=run.device, weights_only=True)
            )
        except FileNotFoundError:
            run.elsewhere(
                f"the program did not save its network's state_dict as {WEIGHTS} in {{folder}}"
            )
        except Exception as error:
            # a program may write anything there
            run.elsewhere(f"the program's {WEIGHTS} cannot be read: {first_line(error)}")

    return evaluate


def _scores(words: list[str], run: EvaluatorRun, resolved: ResolvedPlacement) -> Reports:
    """Each epoch's metrics. Raises TrainingError: the program attached no attention, or ended with
    an error. Raises Interrupted.
    """
    receipt = run.folder.absolute() / "attached"
    identity = run.folder / "program.json"
    # A killed worker's program would write into the same folder.
    with suppress(OSError, ValueError, TypeError):
        former = Process(**json.loads(identity.read_text("utf-8")))
        if former.runs:
            _end(former.pid)
    receipt.unlink(missing_ok=True)
    asked = json.dumps({"network": asdict(resolved), "receipt": str(receipt)})
    environment = {**os.environ, RUN: asked, "PYTHONUNBUFFERED": "1"}
    # Two pipes, since progress bars do not end their lines.
    pipe = subprocess.PIPE
    # The last lines of output and errors, whose common order is unknown.
    last = {True: "", False: ""}
    with subprocess.Popen(
        words, env=environment, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, **apart()
    ) as running:
        try:
            seen = process(running.pid)
            identity.write_text(json.dumps(asdict(seen) if seen else {}), "utf-8")
            for output, line in _lines(running, run):
                print(line)
                last[output] = line.strip() or last[output]
                metrics = _numbers(line) if output else {}
                epoch = metrics.pop("epoch", None)
                if epoch is not None and metrics:
                    if not receipt.exists():
                        raise TrainingError(
                            "the program trains the bare backbone: call"
                            " nas_attn.attach_asked(model) in it"
                        )
                    yield int(epoch), metrics
            if running.wait():
                why = (last[False] or last[True])[:300]
                raise TrainingError(f"the program ended with status {running.returncode}: {why}")
        finally:
            _end(running.pid)
            receipt.unlink(missing_ok=True)
            identity.unlink(missing_ok=True)


def _lines(running: subprocess.Popen[bytes], run: EvaluatorRun) -> Iterator[tuple[bool, str]]:
    lines: Lines = queue.Queue()
    readers = [
        threading.Thread(target=_read, args=(running.stdout, True, lines), daemon=True),
        threading.Thread(target=_read, args=(running.stderr, False, lines), daemon=True),
    ]
    for reader in readers:
        reader.start()
    while True:
        if run.stopping:
            run.leave()
        over = not any(reader.is_alive() for reader in readers)
        try:
            yield lines.get_nowait() if over else lines.get(timeout=LINE_WAIT_S)
        except queue.Empty:
            if over:
                return


def _read(stream: IO[bytes], output: bool, lines: Lines) -> None:
    # It may be closed meanwhile.
    with suppress(ValueError, OSError):
        for line in stream:
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            lines.put((output, text.rpartition("\r")[2]))


def _numbers(line: str) -> dict[str, float]:
    """The pairs NAME=NUMBER of a line."""
    numbers = {}
    for name, text in _PAIR.findall(line):
        with suppress(ValueError):
            numbers[name] = float(text)
    return numbers


def _end(pid: int) -> None:
    """Ends a process with all its children, first with SIGTERM."""
    with suppress(psutil.Error):
        first = psutil.Process(pid)
        running = [first, *first.children(recursive=True)]
        for end in (psutil.Process.terminate, psutil.Process.kill):
            for member in running:
                with suppress(psutil.Error):
                    end(member)
            _, running = psutil.wait_procs(running, timeout=PROGRAM_GRACE_S)


def attach_asked(model: nn.Module) -> nn.Module:
    """For a program that a search runs: puts the placement to be trained into its model, in place;
    returns the same model.

    If no search started the program, the model is returned unchanged.

    Raises:
        PlacementError: the environment variable NAS_ATTN_RUN was not written by a search.
        BackboneError: the model lacks the modules of the study's backbone, or already has attention
            attached.
    """
    text = run_to_attach()
    if text is None:
        return model
    try:
        told = json.loads(text)
        resolved = TypeAdapter(ResolvedPlacement).validate_python(told["network"])
    except (ValueError, KeyError, TypeError):
        # pydantic's are ValueErrors
        raise PlacementError(
            f"{RUN} does not say what to attach: remove it from the environment"
        ) from None
    attachment.attach(model, resolved)
    Path(told["receipt"]).touch()
    return model


def find_evaluator(name: str) -> Evaluator:
    """The evaluator of a recipe: a function, or a command (`training.programs`). Raises
    RecipeError: it cannot be imported, called or found.
    """
    if name.startswith(COMMAND):
        return program(name)
    evaluator: Evaluator = load_object(name, what="training.evaluator", error=RecipeError)
    return evaluator


def evaluator_of(recipe: Recipe) -> Evaluator | None:
    """The evaluator that a recipe names, else its task's; None: our own trainer trains. Raises
    RecipeError: it cannot be imported, called or found. Raises DataError: it lacks its data.
    """
    if recipe.training.evaluator is not None:
        return find_evaluator(recipe.training.evaluator)
    make = tasks.of(recipe).row.evaluator
    evaluator: Evaluator | None = make()(recipe) if make else None
    return evaluator
