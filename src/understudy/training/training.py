"""One training, from settings to a trained model: what `finetune`, `distill` and the controls all call."""

from __future__ import annotations

import copy
import ctypes
import logging
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import EarlyStoppingCallback, TrainerCallback, TrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import set_seed

from understudy.data.examples import Examples
from understudy.errors import RecipeError, did_you_mean
from understudy.files import read_json
from understudy.machine import find_device, has_bfloat16
from understudy.models import encoder
from understudy.models.text_model import TextModel
from understudy.objectives import Objective
from understudy.settings.stage import TrainSettings
from understudy.signals import Signals
from understudy.tasks import Task
from understudy.teachers.capture import signals_of
from understudy.training.masked_lm import MaskedLMScores
from understudy.training.mixup import Mixup
from understudy.training.precision import bfloat16_agrees
from understudy.training.self_average import SelfAveragedTeacher
from understudy.training.trainer import (
    DistillationTrainer,
    Length,
    length,
    prepare_objectives,
    teacher_view,
)

LOGS = 100  # lines of training loss in metrics.jsonl, at most about this many a training
_LOG = logging.getLogger("understudy")


@dataclass(frozen=True)
class Trained:
    """What a training says of itself.

    Args:
        steps: updates made.
        best: value of validation at `best_step`, whose weights are kept; NaN where nothing selects.
    """

    steps: int
    seconds: float
    best: float
    best_step: int
    precision: str


def train(
    student: TextModel,
    rows: Examples,
    validation: Examples,
    task: Task | MaskedLMScores,
    settings: TrainSettings,
    objectives: Sequence[tuple[float, Objective]],
    *,
    folder: Path,
    metric: str,
    seed: int,
    name: str,
    write: Callable[[dict[str, Any]], None],
    teacher: TextModel | None = None,
    mixup: Mixup | None = None,
    self_average: SelfAveragedTeacher | None = None,
    device: str | None = None,
    autocast: bool = True,
    report_to: Sequence[str] = (),
    metric_name: str | None = None,
) -> Trained:
    """Train `student` in place; at the end it holds the weights that were best on validation (the last, where nothing trains the head).

    Args:
        rows: what is learned from.
        validation: what selects; measured `settings.evaluations` times, a checkpoint each time.
        settings: all of epochs (or max_steps), batch_size and learning_rate filled in.
        folder: of the checkpoints. A training found there goes on from its last whole checkpoint.
        write: takes every line of metrics.
        name: what the progress bar calls it.
        metric_name: what the progress bar calls the metric; None: as it is called in the settings.
        teacher: asked live.
        mixup: what is learned from blended rows besides.
        self_average: the teacher, where it is the student's own mean.
        autocast: False keeps float32 even where the processor has bf16.

    Raises:
        TrainingError: the loss is no longer a number.
    """
    assert settings.epochs and settings.batch_size and settings.learning_rate, "settings must be resolved"
    device = find_device(device)
    if device == "cpu":
        reuse_memory()
    set_seed(seed)
    freeze(student, settings.last_layers)
    precision = precision_for(student, rows, settings, objectives, teacher, device, autocast)
    planned = length(len(rows), settings)
    # Where nothing trains the head, its answers say nothing of the weights: then the last ones are taken.
    selects = any(objective.student_needs.logits for weight, objective in objectives if weight)
    arguments = arguments_for(
        settings, planned, folder=folder, seed=seed, device=device, precision=precision, metric=metric if selects else None,
        report_to=report_to, greater_is_better=task.metric(metric).better == "higher" if selects else None,
    )  # fmt: skip
    progress = Progress(name, write, metric_name or metric)
    trainer = DistillationTrainer(
        student.model, arguments, objectives=objectives, teacher=teacher.model if teacher else None, mixup=mixup, self_average=self_average,
        train_dataset=rows, eval_dataset=validation, processing_class=student.tokenizer,
        compute_metrics=lambda found: task.measure(found.predictions, found.label_ids),
        callbacks=callbacks_for(progress, planned.patience if selects else None, folder, report_to),
    )  # fmt: skip
    return run(trainer, progress, folder, precision)


def arguments_for(
    settings: TrainSettings, planned: Length, *, folder: Path, seed: int, device: str, precision: str, metric: str | None,
    report_to: Sequence[str], **changes: Any,
) -> TrainingArguments:  # fmt: skip
    """What the Trainer is told of resolved settings.

    Args:
        metric: what selects the best checkpoint; None takes the last one.
        changes: arguments of the Trainer that differ.
    """
    steps, selects = planned.updates, metric is not None
    every = max(steps // settings.evaluations, 1)
    # Of `transformers`, `constant` is a schedule that knows no warm-up.
    schedule = "constant_with_warmup" if settings.schedule == "constant" else settings.schedule
    values: dict[str, Any] = {
        "output_dir": str(folder), "seed": seed, "data_seed": seed, "use_cpu": device == "cpu", "bf16": precision == "bfloat16",
        "per_device_train_batch_size": settings.batch_size, "per_device_eval_batch_size": 64,
        "gradient_accumulation_steps": settings.accumulation, "num_train_epochs": settings.epochs, 
        "max_steps": -1 if planned.by_epochs else steps,
        "learning_rate": settings.learning_rate, "weight_decay": settings.weight_decay, "lr_scheduler_type": schedule,
        "warmup_steps": int(steps * settings.warmup_fraction), "max_grad_norm": settings.clip_norm or 0.0,
        "train_sampling_strategy": "group_by_length" if settings.length_buckets else "random",
        "eval_strategy": "steps" if selects else "no", "eval_steps": every, "save_strategy": "steps", "save_steps": every,
        "save_total_limit": 1, "load_best_model_at_end": selects, "metric_for_best_model": metric,
        "greater_is_better": True if selects else None, "logging_steps": max(steps // LOGS, 1),
        "report_to": [name for name in report_to if name != "tensorboard"] or "none", "disable_tqdm": True,
        "dataloader_pin_memory": device.startswith("cuda"), "restore_callback_states_from_checkpoint": True,
        "ddp_find_unused_parameters": False,
    }  # fmt: skip
    return TrainingArguments(**(values | changes))


def callbacks_for(
    progress: Progress, patience: int | None, folder: Path, report_to: Sequence[str]
) -> list[TrainerCallback]:
    return [
        progress,
        *([Patience(patience)] if patience else []),
        *([_tensorboard(folder)] if "tensorboard" in report_to else []),
    ]


def run(trainer: DistillationTrainer, progress: Progress, folder: Path, precision: str) -> Trained:
    """Train, from the last whole checkpoint in `folder` where there is one; the model comes back to the processor."""
    for shown_elsewhere in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(shown_elsewhere)
    try:
        trainer.train(resume_from_checkpoint=last_whole_checkpoint(folder))
    finally:
        progress.close()
    state = trainer.state
    model: Any = trainer.model
    model.to("cpu").eval().requires_grad_(True)
    return Trained(
        state.global_step, progress.seconds, float(np.nan if state.best_metric is None else state.best_metric),
        state.best_global_step or state.global_step, precision,
    )  # fmt: skip


def reuse_memory() -> None:
    """Have glibc keep the memory that it frees, for as long as the process lives.

    By default it gives every large buffer back to the system and takes it anew, page by page. With the gradient of an embedding table in
    every update, that was 4 to 6 % of the time of fine-tuning on a processor (benchmarks/training_speed.py), at the same peak memory.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-4, 0)  # M_MMAP_MAX: no buffer is a mapping of its own
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: what is free at the end of the heap stays


def last_whole_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written to its end; half-written ones, left by a kill, are removed.

    The state file is the last that the Trainer writes, so that a checkpoint is whole when it is JSON.
    """
    for path in sorted(folder.glob("checkpoint-*"), key=lambda one: int(one.name.rpartition("-")[2]), reverse=True):
        try:
            read_json(path / "trainer_state.json")
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
            continue
        return str(path)
    return None


def _tensorboard(folder: Path) -> TrainerCallback:
    """Writes beside the checkpoints' folder, which does not outlive the run."""
    from transformers.integrations import TensorBoardCallback

    callback = TensorBoardCallback()
    callback.logging_dir = str(folder.parent.parent / "tensorboard" / folder.name)
    return callback


def check_trainable(student: TextModel, settings: TrainSettings, report_to: Sequence[str]) -> None:
    """Refuse what `train` would stumble over, before anything is spent or written.

    Raises:
        RecipeError: more last layers than there are, a place to report to that is unknown or not installed.
    """
    _last_layers(student, settings.last_layers)
    for name in report_to:
        if name not in INTEGRATION_TO_CALLBACK:
            raise RecipeError(f"report_to: '{name}' is unknown; {did_you_mean(name, INTEGRATION_TO_CALLBACK)}")
        try:
            INTEGRATION_TO_CALLBACK[name]()
        except (RuntimeError, ImportError) as error:
            raise RecipeError(f"report_to: {name} cannot be used here: {error}") from error


def _last_layers(student: TextModel, count: int | None) -> Sequence[nn.Module]:
    if count is None:
        return ()
    layers = encoder.layers(student.model)
    if count > len(layers):
        raise RecipeError(f"train.last_layers is {count}, but the model has {len(layers)} layers")
    return list(layers)[len(layers) - count :]


def freeze(student: TextModel, last_layers: int | None) -> None:
    """Leave only the last layers and the head to train."""
    if last_layers is None:
        return
    base = student.model.base_model
    base.requires_grad_(False)
    for module in (*_last_layers(student, last_layers), getattr(base, "pooler", None)):
        if module is not None:
            module.requires_grad_(True)


def precision_for(
    student: TextModel, rows: Examples, settings: TrainSettings, objectives: Sequence[tuple[float, Objective]],
    teacher: TextModel | None, device: str, autocast: bool,
) -> str:  # fmt: skip
    if settings.precision != "auto":
        return settings.precision
    if not autocast or not has_bfloat16(device):
        return "float32"
    assert settings.batch_size
    batch = rows.batch(range(min(settings.batch_size, len(rows))))
    prepared = [(weight, copy.deepcopy(objective)) for weight, objective in objectives if weight]
    prepare_objectives(prepared, student.model, teacher.model if teacher else None, rows.labels, device)

    def loss_of(model: Any, inputs: Any) -> torch.Tensor:
        student_needs = reduce(or_, [objective.student_needs for _, objective in prepared])
        needs = reduce(or_, [objective.needs for _, objective in prepared])
        said = signals_of(model, inputs["student"], student_needs)[1]
        signals = Signals(logits=inputs.get("teacher", {}).get("logits"))
        if teacher is not None and needs:
            with torch.no_grad():
                signals = signals_of(teacher.model.to(device), teacher_view(inputs), needs)[1]  # type: ignore[arg-type]
        with torch.autocast(device.partition(":")[0], enabled=False):
            return torch.stack([weight * objective(said, signals, inputs) for weight, objective in prepared]).sum()

    if bfloat16_agrees(student.model, loss_of, batch, device):
        return "bfloat16"
    _LOG.warning("bf16 changes the direction of the gradient of the first batch: training in float32")
    return "float32"


class Patience(EarlyStoppingCallback):
    """Stops a training whose validation gets no better; one that goes on from the checkpoint where it stopped ends there."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True
            control.should_evaluate = control.should_save = False


class Progress(TrainerCallback):
    """A bar with the time left on stderr, and every number into the run's metrics."""

    def __init__(self, name: str, write: Callable[[dict[str, Any]], None], metric: str) -> None:
        self.name, self.write, self.metric = name, write, metric
        self.before = 0.0
        self.started = time.perf_counter()
        self.bar: Any = None

    @property
    def seconds(self) -> float:
        """Seconds of training, those before an interruption included."""
        return self.before + time.perf_counter() - self.started

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        from tqdm.auto import tqdm

        # Seconds before an interruption are in the log that the checkpoint carries.
        self.before = max((line.get("seconds", 0.0) for line in state.log_history), default=0.0)
        self.started = time.perf_counter()
        if state.is_world_process_zero:
            self.bar = tqdm(
                desc=self.name, total=state.max_steps, initial=state.global_step, unit="update", leave=False, dynamic_ncols=True,
                mininterval=0.1 if sys.stderr.isatty() else 30.0,  # a log file wants a line now and then
            )  # fmt: skip

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if logs is None or not state.is_world_process_zero:
            return
        logs["seconds"] = round(self.seconds, 3)
        state.log_history[-1]["seconds"] = logs["seconds"]
        if "loss" in logs:
            self.write({"step": state.global_step, **logs})
            if self.bar is not None:
                best = "" if state.best_metric is None else f", best validation {self.metric} {state.best_metric:.4f}"
                self.bar.set_postfix_str(f"loss {logs['loss']:.4g}{best}", refresh=False)

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, float] | None = None, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            runtime = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_loss")
            found = {
                key.removeprefix("eval_"): value
                for key, value in (metrics or {}).items()
                if key.startswith("eval_") and key not in runtime
            }
            self.write({"step": state.global_step, "validation": found})

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
