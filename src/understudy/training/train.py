"""One training, from settings to a trained model; `finetune`, `distill` and the controls all call it."""

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
from understudy.machine import find_device, has_bfloat16, move, own_randomness, process_count
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
    """The result of a training.

    Args:
        steps: updates made.
        seconds: of training, including those before an interruption.
        best: validation metric at `best_step`, whose weights are kept; NaN where no metric selects.
        precision: `float32` or `bfloat16`.
    """

    steps: int
    seconds: float
    best: float
    best_step: int
    precision: str


@dataclass(frozen=True)
class Training:
    """What the lessons of a training share beside its settings.

    Args:
        folder: of the checkpoints; a training is resumed from the last complete one in it.
        name: of the training in the progress bar.
        write: gets every line of metrics.
        device: None: the fastest one available.
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


@own_randomness()
def train(lessons: Mapping[str, Lesson], settings: TrainSettings, training: Training) -> Trained:
    """Train the models of lessons in place; at the end they have the weights that were best on validation rows.

    The models of several lessons share an encoder. Each update is of one lesson, the mean of their metrics selects the weights, and the
    names of terms and metrics have the task as a prefix. Where no objective trains a head, the last weights are kept.

    Args:
        lessons: task → its lesson.
        settings: with epochs, batch_size and learning_rate filled in; validation is measured `evaluations` times, with a checkpoint each
            time.

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
    self_average = SelfAveragedTeacher(model, training.self_average) if training.self_average else None
    terms = {
        name: Terms(
            lesson.objectives, lesson.model.model, _teacher(task, lesson, self_average), mixup=lesson.mixup, task=lesson.task, name=name
        )
        for task, lesson in lessons.items()
        for name in [task if several else ""]
    }
    selects = any(lesson.trains_head for lesson in lessons.values())
    metric, shown = (MEAN, MEAN) if several else (first.metric, first.metric_name or first.metric)
    higher = several or first.task.metric(metric).better == "higher"
    arguments = arguments_for(
        settings,
        planned,
        folder=training.folder,
        seed=training.seed,
        device=device,
        precision=precision,
        metric=metric if selects else None,
        higher=higher,
        report_to=training.report_to,
        # The sampler gives whole batches; a batch uses the head of one task only.
        **({"per_device_train_batch_size": 1, "ddp_find_unused_parameters": True} if several else {}),
    )
    progress = Progress(training.name, training.write, shown)
    options: dict[str, Any] = {
        "terms": terms,
        "self_average": self_average,
        "processing_class": first.model.tokenizer,
        "callbacks": callbacks_for(progress, planned.patience if selects else None, training.folder, training.report_to),
    }
    if several:
        rows = settings.batch_size * settings.accumulation * process_count()
        trainer: DistillationTrainer = LessonsTrainer(model, arguments, lessons=lessons, batch_size=rows, **options)
    else:
        trainer = DistillationTrainer(
            model, arguments, train_dataset=first.examples, eval_dataset=first.validation, compute_metrics=first.measure, **options
        )
    return run(trainer, progress, training.folder, precision)


def _teacher(task: str, lesson: Lesson, self_average: SelfAveragedTeacher | None) -> PreTrainedModel | None:
    """The model that is run as the teacher of a lesson during training; None: there is none."""
    if self_average is not None:
        return getattr(self_average.model, "models", {task: self_average.model})[task]
    return lesson.teacher.model if lesson.teacher is not None else None


def arguments_for(
    settings: TrainSettings,
    planned: Length,
    *,
    folder: Path,
    seed: int,
    device: str,
    precision: str,
    metric: str | None,
    higher: bool,
    report_to: Sequence[str],
    **changes: Any,
) -> TrainingArguments:
    """Resolved settings as the arguments of the Trainer.

    Args:
        metric: that selects the best checkpoint; None keeps the last one.
        higher: whether higher values of it are better.
        changes: arguments of the Trainer that replace these.
    """
    steps, selects = planned.updates, metric is not None
    interval = max(steps // settings.evaluations, 1)
    # The schedule `constant` of `transformers` has no warm-up.
    schedule = "constant_with_warmup" if settings.schedule == "constant" else settings.schedule
    values: dict[str, Any] = {
        "output_dir": str(folder),
        "seed": seed,
        "data_seed": seed,
        "use_cpu": device == "cpu",
        "bf16": precision == "bfloat16",
        "per_device_train_batch_size": settings.batch_size,
        "per_device_eval_batch_size": 64,
        "gradient_accumulation_steps": settings.accumulation,
        "num_train_epochs": settings.epochs,
        "max_steps": -1 if planned.by_epochs else steps,
        "learning_rate": settings.learning_rate,
        "weight_decay": settings.weight_decay,
        "lr_scheduler_type": schedule,
        "warmup_steps": int(steps * settings.warmup_fraction),
        "max_grad_norm": settings.clip_norm or 0.0,
        "train_sampling_strategy": "group_by_length" if settings.length_buckets else "random",
        "eval_strategy": "steps" if selects else "no",
        "eval_steps": interval,
        "save_strategy": "steps",
        "save_steps": interval,
        "save_total_limit": 1,
        "load_best_model_at_end": selects,
        "metric_for_best_model": metric,
        "greater_is_better": higher if selects else None,
        "logging_steps": max(steps // LOGS, 1),
        "report_to": [name for name in report_to if name != "tensorboard"] or "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": device.startswith("cuda"),
        "restore_callback_states_from_checkpoint": True,
        "ddp_find_unused_parameters": False,
    }
    return TrainingArguments(**(values | changes))


def run(trainer: DistillationTrainer, progress: Progress, folder: Path, precision: str) -> Trained:
    """Train, from the last complete checkpoint in `folder` if there is one; the model is then moved back to the CPU."""
    for callback in (PrinterCallback, ProgressCallback):  # `Progress` replaces them
        trainer.remove_callback(callback)
    try:
        trainer.train(resume_from_checkpoint=last_whole_checkpoint(folder))
    finally:
        progress.close()
    state = trainer.state
    model: Any = trainer.model
    model.to("cpu").eval().requires_grad_(True)
    return Trained(
        state.global_step,
        progress.seconds,
        float(np.nan if state.best_metric is None else state.best_metric),
        state.best_global_step or state.global_step,
        precision,
    )


def last_whole_checkpoint(folder: Path) -> str | None:
    """The newest complete checkpoint; incomplete ones, left by a killed process, are deleted.

    The Trainer writes the state file last, so that a checkpoint is complete if that file is JSON.
    """
    for path in sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True):
        try:
            read_json(path / "trainer_state.json")
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
            continue
        return str(path)
    return None


def check_trainable(student: TextModel, settings: TrainSettings, report_to: Sequence[str]) -> None:
    """Refuse settings that `train` would fail on, before anything is trained or written.

    Raises:
        RecipeError: `last_layers` is more than the model has; a name in `report_to` that is unknown or not installed.
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
    """Freeze all weights but those of the last layers, the pooler and the head."""
    if last_layers is None:
        return
    base = student.model.base_model
    base.requires_grad_(False)
    for module in (*_last_layers(student, last_layers), getattr(base, "pooler", None)):
        if module is not None:
            module.requires_grad_(True)


def precision_for(lesson: Lesson, settings: TrainSettings, device: str, autocast: bool) -> str:
    """The precision of a training, `float32` or `bfloat16`: where the device has bf16, the gradient of the first batch decides."""
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
            move(teacher, device)
            with torch.no_grad():
                signals = terms.of_teacher(teacher_view(inputs), needs)
        with torch.autocast(device.partition(":")[0], enabled=False):
            return torch.stack([weight * objective(student, signals, inputs) for weight, objective in terms.plain]).sum()

    if bfloat16_agrees(lesson.model.model, loss_of, batch, device):
        return "bfloat16"
    _LOG.warning("bf16 changes the direction of the gradient of the first batch: training in float32")
    return "float32"
