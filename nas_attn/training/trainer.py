"""The trainer: from one rung to the next, with a checkpoint between, the same result whenever it is interrupted.

On a CPU a training is deterministic for a seed, a thread count and a kind of CPU, bit for bit, whether or not it was
interrupted. On CUDA it is not: cuDNN's and atomics' order of summation varies.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nas_attn.data import Dataset, Split
from nas_attn.errors import TrainingError
from nas_attn.recipe import TrainingSection
from nas_attn.records import Score
from nas_attn.training.checkpoint import CheckpointSlot
from nas_attn.training.parameters import frozen, set_training_mode
from nas_attn.training.run import Clock, Run
from nas_attn.training.schedule import rate_factor
from nas_attn.training.stepping import Pace, RecordedStep, Step, Stepper, compiled, execution_on

CHECKPOINT_EVERY_S = 60.0
"""In an epoch that takes longer, checkpoints are written between."""
SCORING_BATCH = 256
"""Images per batch in scoring, where the training's batches are not larger."""


class Interrupted(Exception):
    """`stop()` said so; the slot holds the state to go on from."""


class Trainer:
    """Trains and scores networks on one data set, all under the same settings."""

    def __init__(
        self,
        section: TrainingSection,
        dataset: Dataset,
        *,
        device: torch.device | str,
        batch_hook: Callable[[], object] | None = None,
    ) -> None:
        """
        Args:
            batch_hook: called between batches, of training and of scoring: the place to yield the device for a while.
        """
        self.section = section
        self.dataset = dataset
        self.device = torch.device(device)
        self.hook = batch_hook or _nothing
        bfloat16 = section.precision == "bfloat16" or (section.precision == "auto" and computes_bfloat16(self.device))
        self._low_precision = torch.bfloat16 if bfloat16 else None

    def fit(
        self,
        model: nn.Module,
        *,
        seed: int,
        rungs: Sequence[int],
        learning_rate: float,
        slot: CheckpointSlot | None = None,
        on_rung: Callable[[Score], bool] | None = None,
        stop: Callable[[], bool] | None = None,
        attention_parameters: Collection[str] = (),
        backbone_factor: float = 1.0,
    ) -> tuple[Score, ...]:
        """Trains a network and scores its averaged weights at each rung. Afterwards the network holds these weights.

        Args:
            model: on any device; it is moved to the trainer's, in channels-last order.
            seed: of the order of images, augmentation and dropout.
            rungs: epochs at which to score, increasing.
            learning_rate: peak of each rung's cycle.
            slot: where checkpoints are kept; what it holds already is gone on from.
            on_rung: told each score; False ends the training there. A resumed training tells the earlier ones again.
            stop: asked between batches; True writes a checkpoint and raises Interrupted.
            attention_parameters: names of parameters with the factor `attention_learning_rate` of the settings.
            backbone_factor: factor on the learning rate of all others; 0 freezes them, norms' statistics included.

        Raises:
            Interrupted: `stop()` returned True.
            RecipeError: the device cannot execute as `section.execution` says.
            TrainingError: the loss is not finite, or memory did not suffice at half the batch.
            CheckpointError: the slot's checkpoint is damaged or belongs to another training.
        """
        model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        names = [name for name, _ in model.named_parameters() if name not in attention_parameters]
        cuda = [self.device] if self.device.type == "cuda" else []
        current = torch.cuda.device(self.device) if cuda else nullcontext()
        held = frozen(model, names if backbone_factor == 0 else ())
        with current, held, torch.random.fork_rng(devices=cuda), cudnn_chooses():
            torch.manual_seed(seed)
            what = {
                "seed": seed,
                "learning_rate": learning_rate,
                "attention": sorted(attention_parameters),
                "backbone_factor": backbone_factor,
            }
            run = Run(
                model,
                self.section,
                self._identity(model, what),
                steps=self.dataset.train.steps(self.section.batch_size),
                attention=attention_parameters,
                backbone_factor=backbone_factor,
                slot=slot,
            )
            run.resume(rungs)
            step = self.stepper(run, rungs[-1] * run.steps)
            climb = _Climb(self, run, step, seed, learning_rate, on_rung or _always, stop or _never)
            climb(rungs)
            run.keep_average()
        return tuple(run.scores)

    def score(self, model: nn.Module, split: Split, *, seed: int = 0, rung: int = 0, epochs: int = 0) -> Score:
        """Scores a network as it is on any split: accuracy, log-loss, which images it has right.

        Raises:
            TrainingError: its loss is not finite, or memory did not suffice.
        """
        clock = Clock(self.device)
        try:
            loss, correct = self._evaluate(model, split)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise TrainingError(f"memory did not suffice to score {len(split)} images: {first_line(error)}") from None
        mean = loss.item() / len(split)
        if not math.isfinite(mean):
            raise TrainingError(f"the loss on {len(split)} images is {mean}: the weights have diverged")
        bits = correct.cpu().numpy()
        wall, device = clock.read()
        return Score(
            seed=seed,
            rung=rung,
            epochs=epochs,
            metrics={"accuracy": float(bits.mean()), "loss": mean},
            correct=np.packbits(bits).tobytes(),
            examples=len(split),
            wall_s=wall,
            device_s=device,
        )

    @torch.no_grad()
    def _evaluate(self, model: nn.Module, split: Split) -> tuple[Tensor, Tensor]:
        """Sum of log-losses (float64 scalar) and bool (N,), both on the device."""
        model.eval()
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        correct = []
        for x, y in split.batches(max(SCORING_BATCH, self.section.batch_size)):
            logits = self.logits(model, x)
            loss += cross_entropy(logits, y, reduction="sum")
            correct.append(logits.argmax(1) == y)
            self.hook()
        return loss, torch.cat(correct)

    def stepper(self, run: Run, steps: int) -> Stepper:
        """What trains a run's network on one batch, in a training of so many steps."""
        execution = execution_on(self.section, self.device, steps)
        network = compiled(run.model) if execution == "compile" else run.model
        step = Step(lambda x: self.logits(network, x), run.optimizer, self.section, run.epoch_loss)
        return RecordedStep(step, self.device) if execution == "cuda-graph" else step

    def logits(self, model: Callable[[Tensor], object], x: Tensor) -> Tensor:
        """The network's output in float32 (B, classes), computed in the recipe's `precision`.

        Raises:
            TrainingError: it has another shape.
        """
        with torch.autocast(self.device.type, self._low_precision, enabled=self._low_precision is not None):
            logits = model(x)
        expected = (len(x), len(self.dataset.classes))
        if not isinstance(logits, Tensor) or logits.shape != expected:
            found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise TrainingError(f"the network returns {found} for {len(x)} images, expected is a tensor of {expected}")
        return logits.float()

    def _identity(self, model: nn.Module, run: Mapping[str, object]) -> str:
        """What a checkpoint must agree in to be taken up: network, data and settings."""
        unrelated = {"start", "weights", "init", "rungs", "backbone_epochs", "learning_rate", "finetune_learning_rate"}
        settings = self.section.model_dump(exclude=unrelated | {"seeds", "evaluator", "threads"})
        shapes = [(name, tuple(tensor.shape), str(tensor.dtype)) for name, tensor in model.state_dict().items()]
        content = repr((sorted(settings.items()), self.dataset.digest, sorted(run.items()), shapes))
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


class _Climb:
    """Takes one run from rung to rung."""

    def __init__(
        self,
        trainer: Trainer,
        run: Run,
        step: Stepper,
        seed: int,
        learning_rate: float,
        on_rung: Callable[[Score], bool],
        stop: Callable[[], bool],
    ) -> None:
        self.trainer, self.run, self.step, self.seed, self.learning_rate = trainer, run, step, seed, learning_rate
        self.on_rung, self.stop = on_rung, stop
        self.pace = Pace(trainer.device)

    def __call__(self, rungs: Sequence[int]) -> None:
        run = self.run
        if not all(self.on_rung(score) for score in run.scores):
            return
        for rung in range(len(run.scores), len(rungs)):
            begin, run.end = (rungs[rung - 1] if rung else 0), rungs[rung]
            while run.epoch < run.end:
                self._epoch(begin)
                if run.epoch < run.end:
                    run.save()
            with run.average.installed():
                score = self.trainer.score(run.model, self.trainer.dataset.validation)
            wall, device = run.clock.read()
            metrics = {**score.metrics, "train_loss_sum": run.loss_sum}
            score = replace(
                score, seed=self.seed, rung=rung, epochs=run.epoch, metrics=metrics, wall_s=wall, device_s=device
            )
            run.scores.append(score)
            run.clock.reset()
            run.save()
            if not self.on_rung(score):
                return

    def _epoch(self, begin: int) -> None:
        """Trains to the end of the epoch begun, or to an interruption."""
        run, section, train = self.run, self.trainer.section, self.trainer.dataset.train
        set_training_mode(run.model)
        batches = train.epoch(
            section.batch_size, seed=self.seed, epoch=run.epoch, augment=section.augment, first_batch=run.batch
        )
        for x, y in batches:
            step = (run.epoch - begin) * run.steps + run.batch
            self._step(x, y, self.learning_rate * rate_factor(step, (run.end - begin) * run.steps))
            run.count_batch()
            self._between()
        mean = run.epoch_loss.item() / len(train)
        if not math.isfinite(mean):
            raise TrainingError(
                f"the training loss became {mean} in epoch {run.epoch + 1} at a peak learning rate of "
                f"{self.learning_rate:g}: lower training.learning_rate, or set training.clip_norm"
            )
        run.loss_sum += mean
        run.epoch_loss.zero_()
        run.epoch, run.batch = run.epoch + 1, 0

    def _between(self) -> None:
        self.pace()
        self.trainer.hook()
        if self.stop():
            self.run.save()
            raise Interrupted(
                f"stopped in epoch {self.run.epoch + 1} after {self.run.batch} of {self.run.steps} batches"
            )
        if time.monotonic() - self.run.saved_at > CHECKPOINT_EVERY_S:
            self.run.save()

    def _step(self, x: Tensor, y: Tensor, rate: float) -> None:
        """One batch; in two halves from the first time that memory does not suffice."""
        try:
            self.step(x, y, rate, self.run.parts)
            return
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            reason = first_line(error)
        # Outside of the handler, which keeps the failed attempt's tensors alive.
        if self.trainer.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.run.parts > 1 or len(x) < 4:
            raise TrainingError(f"memory did not suffice at half the batch of {len(x)} either: {reason}")
        self.run.parts = 2
        self._step(x, y, rate)


def computes_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster there than float32: on CUDA, and on CPUs with instructions for it.

    Measured (AMD EPYC with AVX512-BF16, one thread, ResNet-8 on 20x20 images): an epoch takes 0.73 of the time.
    """
    if device.type != "cpu":
        return device.type == "cuda"
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


@contextmanager
def cudnn_chooses() -> Iterator[None]:
    """cuDNN tries its algorithms and takes the fastest, for batches of equal shapes; nothing changes on a CPU."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def out_of_memory(error: RuntimeError) -> bool:
    """Whether this is a device's or the host's way of saying so."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def first_line(error: BaseException) -> str:
    """An error's first line, or its type."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _nothing() -> None:
    return None


def _always(_score: Score) -> bool:
    return True


def _never() -> bool:
    return False
