"""One training, from settings to a trained model: what `finetune`, `distill` and the controls all call."""

from __future__ import annotations

import copy
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel, TrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import set_seed

from understudy.errors import RecipeError, did_you_mean
from understudy.files import read_json
from understudy.machine import find_device, has_bfloat16, process_count
from understudy.models import encoder
from understudy.models.text_model import TextModel
from understudy.settings.stage import SelfAverage, TrainSettings
from understudy.signals import Signals
from understudy.training.length import Length, length
from understudy.training.lesson import MEAN, Lesson, LessonsTrainer, joined
from understudy.training.precision import bfloat16_agrees
from understudy.training.progress import Progress, callbacks_for
from understudy.training.self_average import SelfAveragedTeacher
from understudy.training.terms import Terms, needs_of, teacher_view
from understudy.training.trainer import DistillationTrainer

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


@dataclass(frozen=True)
class Training:
    """What the lessons of one training share beside its settings.

    Args:
        folder: of the checkpoints. A training found there goes on from its last whole checkpoint.
        name: what the progress bar calls it.
        write: takes every line of metrics.
        device: None takes the fastest there is.
        autocast: False keeps float32 even where the processor has bf16.
        self_average: the teacher is the mean of the student's own weights.
    """

    folder: Path
    seed: int
    name: str
    write: Callable[[dict[str, Any]], None]
    device: str | None = None
    autocast: bool = True
    self_average: SelfAverage | None = None
    report_to: Sequence[str] = ()


def train(lessons: Mapping[str, Lesson], settings: TrainSettings, training: Training) -> Trained:
    """Train the models of lessons in place; at the end they hold the weights that were best on validation.

    Those of several lessons share an encoder; an update is about one of them, the mean of their metrics selects, and the names of tasks
    stand before those of terms and metrics. Where nothing trains a head, the last weights are taken.

    Args:
        lessons: task → what it asks.
        settings: all of epochs (or max_steps), batch_size and learning_rate filled in; validation is measured `evaluations` times, with a
            checkpoint each time.

    Raises:
        TrainingError: the loss is no longer a number.

    Source: Liu et al. 2019, arXiv:1901.11504, algorithm 1: a batch is of one task, and the tasks' batches are shuffled together. (BAM,
    arXiv:1907.04829, mixes the tasks within a batch.)
    """
    assert settings.epochs and settings.batch_size and settings.learning_rate, "settings must be resolved"
    first, several = next(iter(lessons.values())), len(lessons) > 1
    device = find_device(training.device)
    set_seed(training.seed)
    freeze(first.model, settings.last_layers)
    precisions = {precision_for(lesson, settings, device, training.autocast) for lesson in lessons.values()}
    precision = precisions.pop() if len(precisions) == 1 else "float32"
    planned = length([len(lesson.examples) for lesson in lessons.values()], settings)
    model = joined({task: lesson.model.model for task, lesson in lessons.items()})
    own = SelfAveragedTeacher(model, training.self_average) if training.self_average else None
    terms = {
        name: Terms(lesson.objectives, lesson.model.model, _teacher(task, lesson, own), mixup=lesson.mixup, task=lesson.task, name=name)
        for task, lesson in lessons.items()
        for name in [task if several else ""]
    }  # fmt: skip
    selects = any(lesson.trains_head for lesson in lessons.values())
    metric, shown = (MEAN, MEAN) if several else (first.metric, first.metric_name or first.metric)
    higher = several or first.task.metric(metric).better == "higher"
    arguments = arguments_for(
        settings, planned, folder=training.folder, seed=training.seed, device=device, precision=precision,
        metric=metric if selects else None, higher=higher, report_to=training.report_to,
        # A batch comes whole from the sampler, and leaves the heads of the other tasks out.
        **({"per_device_train_batch_size": 1, "ddp_find_unused_parameters": True} if several else {}),
    )  # fmt: skip
    progress = Progress(training.name, training.write, shown)
    given: dict[str, Any] = {
        "terms": terms, "self_average": own, "processing_class": first.model.tokenizer,
        "callbacks": callbacks_for(progress, planned.patience if selects else None, training.folder, training.report_to),
    }  # fmt: skip
    if several:
        rows = settings.batch_size * settings.accumulation * process_count()
        trainer: DistillationTrainer = LessonsTrainer(model, arguments, lessons=lessons, batch_size=rows, **given)
    else:
        trainer = DistillationTrainer(
            model, arguments, train_dataset=first.examples, eval_dataset=first.validation, compute_metrics=first.measure, **given
        )  # fmt: skip
    return run(trainer, progress, training.folder, precision)


def _teacher(task: str, lesson: Lesson, own: SelfAveragedTeacher | None) -> PreTrainedModel | None:
    """The network that teaches a lesson live, where one does."""
    if own is not None:
        return getattr(own.model, "models", {task: own.model})[task]
    return lesson.teacher.model if lesson.teacher is not None else None


def arguments_for(
    settings: TrainSettings, planned: Length, *, folder: Path, seed: int, device: str, precision: str, metric: str | None,
    higher: bool, report_to: Sequence[str], **changes: Any,
) -> TrainingArguments:  # fmt: skip
    """Resolved settings as the arguments of the Trainer.

    Args:
        metric: what selects the best checkpoint; None takes the last one.
        higher: whether higher values of it are better.
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
        "greater_is_better": higher if selects else None, "logging_steps": max(steps // LOGS, 1),
        "report_to": [name for name in report_to if name != "tensorboard"] or "none", "disable_tqdm": True,
        "dataloader_pin_memory": device.startswith("cuda"), "restore_callback_states_from_checkpoint": True,
        "ddp_find_unused_parameters": False,
    }  # fmt: skip
    return TrainingArguments(**(values | changes))


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


def precision_for(lesson: Lesson, settings: TrainSettings, device: str, autocast: bool) -> str:
    """In which precision a lesson is trained: where bf16 is to be had, the gradient of its first batch decides."""
    if settings.precision != "auto":
        return settings.precision
    if not autocast or not has_bfloat16(device):
        return "float32"
    assert settings.batch_size
    rows = lesson.examples
    batch = rows.batch(range(min(settings.batch_size, len(rows))))
    teacher = lesson.teacher.model if lesson.teacher is not None else None
    terms = Terms(copy.deepcopy(lesson.objectives), lesson.model.model, teacher, task=lesson.task)
    terms.prepare(rows.labels, device)
    needs, student_needs = needs_of(terms.plain)

    def loss_of(model: Any, inputs: Any) -> torch.Tensor:
        student = terms.of_student(inputs["student"], student_needs, model)[1]
        kept = inputs.get("teacher", {}).get("logits")
        signals = Signals() if kept is None else terms.kept(kept)
        if teacher is not None and needs:
            teacher.to(device)  # type: ignore[arg-type]
            with torch.no_grad():
                signals = terms.of_teacher(teacher_view(inputs), needs)
        with torch.autocast(device.partition(":")[0], enabled=False):
            return torch.stack(
                [weight * objective(student, signals, inputs) for weight, objective in terms.plain]
            ).sum()

    if bfloat16_agrees(lesson.model.model, loss_of, batch, device):
        return "bfloat16"
    _LOG.warning("bf16 changes the direction of the gradient of the first batch: training in float32")
    return "float32"
