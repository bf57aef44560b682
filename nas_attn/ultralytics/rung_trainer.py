"""Trains Ultralytics' detectors with Ultralytics' own trainer: an evaluator made from a recipe.

All candidates have the same schedule up to the last rung. After each epoch, the weights, their
average, the optimiser's state and the number of the epoch are saved. Each rung is a call of the
trainer, which continues from there, as it does after a stop or a kill. The average is scored, by
mAP on the validation images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn
from typing_extensions import override

from nas_attn.attachment.twins import copied
from nas_attn.data import yolo_files
from nas_attn.errors import TrainingError
from nas_attn.recipe.recipe import Recipe
from nas_attn.system.paths import whole_file
from nas_attn.system.processes import cores
from nas_attn.training.evaluators import Evaluator, EvaluatorRun
from nas_attn.ultralytics import train_attention
from nas_attn.ultralytics.networks import parts_of, quiet

THEIR_METRICS = {"map50_95": "metrics/mAP50-95", "map50": "metrics/mAP50"}
"""Our metrics -> theirs."""
SCORED_PARTS = {"segment": "(M)", "pose": "(P)"}
"""Scored are masks, poses; boxes otherwise."""
RISING_EPOCHS = 0.1
"""Share of the epochs in which the learning rate rises, three at most."""
CLOSE_MOSAIC = 0.2
"""Share of the epochs at the end that see whole images, ten at most."""
SEEDS_APART = 1_000_003
"""Between the seeds of a training and of the same training after a stop, for each epoch."""


def detector_evaluator(recipe: Recipe) -> Evaluator:
    """Trains and scores candidates as a recipe says. Raises DataError: the data YAML is missing or
    names no classes.
    """
    names = dict(enumerate(yolo_files.class_names(recipe.data)))

    def evaluate(model: nn.Module, run: EvaluatorRun) -> Mapping[str, float]:
        with left_alone():
            if run.split == "test":
                return _tested(recipe, model, run, names)
            state = _trained(recipe, model, run)
        average = state["average"]
        if not all(torch.isfinite(tensor).all() for tensor in average.values()):
            rate = f"training.learning_rate ({recipe.training.peak_rate:g})"
            raise TrainingError(f"the weights have diverged by epoch {run.epochs}: lower {rate}")
        model.load_state_dict(average)
        return _scores(model, state["metrics"])

    return evaluate


def _parts(model: nn.Module) -> Mapping[str, Any]:
    return parts_of(model, type(model).__name__)


def _scores(model: nn.Module, results: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of the score, from ultralytics' results."""
    of = SCORED_PARTS.get(_parts(model)["task"], "(B)")
    return {name: float(results[f"{theirs}{of}"]) for name, theirs in THEIR_METRICS.items()}


def _settings(recipe: Recipe, run: EvaluatorRun, task: str) -> dict[str, Any]:
    """All settings of a training, so that Ultralytics chooses none by itself; `task`: in its
    words.
    """
    training = recipe.training
    epochs = training.rungs[-1]
    low = training.precision != "float32" and run.device.startswith("cuda")
    kind, colon, number = run.device.partition(":")
    return {
        "task": task,
        "mode": "train",
        # the network itself is handed over
        "model": "given.yaml",
        "data": str(yolo_files.data_file(recipe.data)),
        "imgsz": yolo_files.side(recipe.data),
        "batch": training.batch_size,
        "device": number if colon else kind.replace("cuda", "0"),
        "workers": recipe.data.workers or min(8, cores()),
        "project": str(run.folder),
        "name": "ultralytics",
        "exist_ok": True,
        "plots": False,
        "verbose": False,
        "epochs": epochs,
        "optimizer": training.optimizer,
        "lr0": training.peak_rate,
        "lrf": 0.01,
        "momentum": (training.optimizer_arguments or {}).get("momentum", 0.9),
        "weight_decay": training.weight_decay,
        "warmup_epochs": min(3.0, RISING_EPOCHS * epochs),
        "warmup_bias_lr": 0.0,
        "close_mosaic": min(10, math.ceil(CLOSE_MOSAIC * epochs)),
        # a step for each batch
        "nbs": training.batch_size,
        "amp": "bf16" if low else False,
        "seed": (run.seed * 64 + run.rung) % 2**31,
        "deterministic": True,
        # but at the rung
        "val": False,
        "save": False,
        "patience": 0,
        "pretrained": False,
    }


def _trained(recipe: Recipe, model: nn.Module, run: EvaluatorRun) -> Mapping[str, Any]:
    """Trains to a rung, from the last epoch that was saved; returns the state after it."""
    path = run.folder / "last.pt"
    before = _saved(path, run)
    if before is not None and before["epochs"] == run.epochs:
        # it was stopped before its score was stored
        return before
    threads = torch.get_num_threads()
    parts = _parts(model)
    given = _settings(recipe, run, parts["task"])
    if before is not None:
        # after a stop inside a rung, else its first epochs' order would come again
        epochs_here = before["epochs"] - (run.epochs - run.new_epochs)
        given["seed"] = (given["seed"] + SEEDS_APART * epochs_here) % 2**31
    trainer = _trainer_class(parts["trainer"])(overrides=given)
    # ultralytics sets its own number
    torch.set_num_threads(threads)
    trainer.model = model
    trainer.before = before
    if recipe.training.backbone_learning_rate == 0:
        # all layers but the last, which is the head
        trainer.args.freeze = len(list(model.get_submodule("model").children())) - 1
        train_attention(trainer)

    def stop_at_the_rung(trainer: Any) -> None:
        trainer.stop = trainer.epoch + 1 >= run.epochs

    def save(trainer: Any) -> None:
        with whole_file(path) as file:
            torch.save(_state(trainer), file)
        if run.stopping and not trainer.stop:
            run.leave()

    trainer.add_callback("on_train_epoch_end", stop_at_the_rung)
    # after validation, where there is one
    trainer.add_callback("on_fit_epoch_end", save)
    trainer.train()
    return _state(trainer)


def _saved(path: Path, run: EvaluatorRun) -> dict[str, Any] | None:
    """The state after the last epoch of an earlier call; None: there is none up to this rung."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state if state["epochs"] <= run.epochs else None


def _state(trainer: Any) -> dict[str, Any]:
    """All from which a training continues: tensors and numbers only."""
    return {
        "model": trainer.model.state_dict(),
        "average": trainer.ema.ema.state_dict(),
        "updates": int(trainer.ema.updates),
        "optimizer": trainer.optimizer.state_dict(),
        "epochs": trainer.epoch + 1,
        "metrics": {name: float(value) for name, value in (trainer.metrics or {}).items()},
    }


def _trainer_class(theirs: Any) -> Any:
    """A trainer of ultralytics with a given first and last epoch."""

    class RungTrainer(theirs):  # type: ignore[misc]
        before: Mapping[str, Any] | None

        run_callbacks = _run_our_callbacks

        @override
        def resume_training(self, ckpt: Any) -> None:
            if self.before is None:
                return
            self.model.load_state_dict(self.before["model"])
            self.ema.ema.load_state_dict(self.before["average"])
            self.ema.updates = self.before["updates"]
            self.optimizer.load_state_dict(self.before["optimizer"])
            self.start_epoch = self.before["epochs"]
            _resume_schedules(self)

        def get_dataloader(self, *args: Any, **options: Any) -> Any:
            loader = super().get_dataloader(*args, **options)
            if getattr(loader, "generator", None) is not None:
                # else the order would be the same for every seed
                loader.generator.manual_seed(self.args.seed)
            return loader

        def save_model(self) -> bool:
            # its checkpoints are pickles; ours are tensors
            return False

        def final_eval(self) -> None:
            # of the best epoch, which is chosen by the validation images
            return None

    return RungTrainer


def _run_our_callbacks(trainer: Any, event: str) -> None:
    """Leaves out those of ultralytics: its trackers (MLflow, Weights & Biases, …) would have a run
    for every candidate.
    """
    for callback in trainer.callbacks[event]:
        if not callback.__module__.startswith("ultralytics."):
            callback(trainer)


def _resume_schedules(trainer: Any) -> None:
    """What ultralytics' own `resume_training` does for later epochs: whole images instead of
    mosaics at the end, and the share of each loss in a head with two (YOLO26, YOLOv10).
    """
    model = trainer.model
    last = getattr(model, "model", [None])[-1]
    if getattr(last, "one2one_cv2", None) is not None and hasattr(model, "init_criterion"):
        criterion = model.init_criterion()
        # earlier versions of ultralytics have no such schedule
        if hasattr(criterion, "updates"):
            criterion.updates = trainer.start_epoch - 1
            criterion.update()
            model.criterion = criterion
    # at this very epoch, its training does it itself
    if trainer.start_epoch > trainer.epochs - trainer.args.close_mosaic:
        trainer._close_dataloader_mosaic()
        trainer.train_loader.reset()


def _tested(
    recipe: Recipe, model: nn.Module, run: EvaluatorRun, names: Mapping[int, str]
) -> dict[str, float]:
    """mAP on the test images of the YAML; of a copy, which ultralytics fuses."""
    network: Any = copied(model).eval()
    network.names = dict(names)
    parts = _parts(model)
    given = {**_settings(recipe, run, parts["task"]), "mode": "val", "split": "test"}
    validator = parts["validator"](args=given)
    validator(model=network)
    return _scores(model, validator.metrics.results_dict)


@contextmanager
def left_alone() -> Iterator[None]:
    """Restores afterwards what ultralytics changes in the whole process; inside, it logs only
    warnings, and reads no caches.
    """
    from ultralytics.data import dataset
    from ultralytics.utils.torch_utils import unset_deterministic

    threads = torch.get_num_threads()
    theirs = dataset.load_dataset_cache_file
    dataset.load_dataset_cache_file = _unread
    try:
        with quiet():
            yield
    finally:
        dataset.load_dataset_cache_file = theirs
        unset_deterministic()
        torch.set_num_threads(threads)


def _unread(path: Path) -> NoReturn:
    """Ultralytics keeps labels in pickles, which may have come with a stranger's images: so it
    reads the labels anew.
    """
    raise FileNotFoundError(path)
