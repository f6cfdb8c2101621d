"""What `test_processes.py` launches in two processes: a script of the user's own, then the command line."""

import sys
import time
from pathlib import Path

import numpy as np
from datasets import Dataset
from torch import nn
from transformers import TrainingArguments

from tiny import LABELS, TEXTS, speed_in_a_blink, tiny_rows, tiny_teacher
from understudy.data.examples import examples_of
from understudy.evaluation import measure
from understudy.machine import is_helper, main_process_first
from understudy.models.text_model import TextModel
from understudy.objectives.hidden_states import HiddenStates
from understudy.objectives.labels import Labels
from understudy.objectives.relations import Relations
from understudy.objectives.soft_targets import SoftTargets
from understudy.runs.folder import Run
from understudy.settings.stage import TrainSettings
from understudy.students import Blueprint
from understudy.students.bilstm import BiLSTM
from understudy.students.narrow import Narrow
from understudy.tasks.classification import Classification
from understudy.tasks.similarity import Similarity
from understudy.training import train as the_training
from understudy.training.lesson import Lesson
from understudy.training.train import Training, train
from understudy.training.trainer import DistillationTrainer


def train_by_sgd(folder: str, *, batch_size: int, accumulation: int = 1) -> DistillationTrainer:
    """A training whose result shows every weight of every row: plain steps, no dropout, labels here and there."""
    rows = tiny_rows(24)
    texts = [row["text"] for row in rows]
    student = BiLSTM(hidden=6, embedding=6, feature=6, dropout=0.0).build(Blueprint([*texts, *TEXTS], LABELS, teacher=tiny_teacher()))
    labels = [-100 if place % 3 else LABELS.index(row["label"]) for place, row in enumerate(rows)]
    logits = np.random.default_rng(0).normal(size=(24, 2)).astype(np.float32)
    trainer = DistillationTrainer(
        student.model,
        TrainingArguments(
            folder,
            max_steps=4,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            optim="sgd",
            learning_rate=0.5,
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            train_sampling_strategy="group_by_length",
        ),
        objectives=[(0.3, Labels()), (0.7, SoftTargets())],
        processing_class=student.tokenizer,
        train_dataset=Dataset.from_dict({**student.tokenizer(texts), "labels": labels, "teacher_logits": logits.tolist()}),
    )
    trainer.train()
    if trainer.is_world_process_zero():
        trainer.save_model(folder)
    return trainer


def train_inside(folder: str, *, batch_size: int) -> DistillationTrainer:
    """The same, by objectives that look inside a live teacher: maps that are learned, tokens that are counted, a head left alone."""
    rows = [row["text"] for row in tiny_rows(24)]
    teacher = tiny_teacher()
    student = Narrow(layers=2, width=8, heads=2, vocabulary="teacher").build(Blueprint(rows, LABELS, teacher=teacher))
    for module in student.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    trainer = DistillationTrainer(
        student.model,
        TrainingArguments(
            folder,
            max_steps=4,
            per_device_train_batch_size=batch_size,
            optim="sgd",
            learning_rate=0.05,
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            train_sampling_strategy="group_by_length",
        ),
        objectives=[(1.0, HiddenStates()), (1.0, Relations())],
        teacher=teacher.model,
        processing_class=student.tokenizer,
        train_dataset=Dataset.from_dict({**student.tokenizer(rows), "labels": [0] * 24}),
    )
    trainer.train()
    if trainer.is_world_process_zero():
        trainer.save_model(folder)
    return trainer


def two_tasks(names=("mood", "count"), *, dropout: float | None = None) -> dict[str, TextModel]:
    """Untrained students for tasks of classes and of numbers, around one encoder."""
    heads = {"mood": tiny_teacher(layers=2), "count": tiny_teacher(layers=2, label_names=None, seed=9)}
    students = {name: heads[name] for name in names}
    first = next(iter(students.values()))
    for student in students.values():
        student.model.bert = first.model.bert
        for module in student.model.modules():
            if isinstance(module, nn.Dropout) and dropout is not None:
                module.p = dropout
    return students


def train_on_two_tasks(folder: str, *, batch_size: int) -> dict[str, TextModel]:
    """The same on two tasks, whose heads come by turns."""
    students, run = two_tasks(dropout=0.0), Run(Path(folder), fresh=True)
    rows = {"mood": tiny_rows(26), "count": tiny_rows(20, seed=1, number=True)}
    data = {
        name: examples_of(
            students[name],
            Dataset.from_dict(
                {
                    "text": [row["text"] for row in own],
                    "label": [LABELS.index(row["label"]) if name == "mood" else row["label"] for row in own],
                }
            ),
        )
        for name, own in rows.items()
    }
    arguments = the_training.arguments_for
    the_training.arguments_for = lambda *given, **more: arguments(*given, optim="sgd", **more)
    settings = TrainSettings(
        epochs=2, batch_size=batch_size, learning_rate=0.05, clip_norm=None, schedule="constant", evaluations=1, precision="float32"
    )
    lessons = {
        name: Lesson(task, students[name], data[name], data[name], [(1.0, Labels())], metric, share=share)
        for name, task, metric, share in (("mood", Classification(), "accuracy", 4), ("count", Similarity(), "pearson", 3))
    }
    train(lessons, settings, Training(Path(folder), 0, "student", run.writer("student", "only"), "cpu"))
    return students


if __name__ == "__main__":
    folder = sys.argv.pop(1)
    with main_process_first("cpu"):  # before anything else has set the processes up
        if not is_helper():
            time.sleep(1)
        with Path(f"{folder}-order").open("a") as file:
            file.write("helper " if is_helper() else "main ")
    train_by_sgd(folder, batch_size=4)
    train_inside(f"{folder}-inside", batch_size=4)
    students = train_on_two_tasks(f"{folder}-tasks", batch_size=4)
    if not is_helper():
        for name, student in students.items():
            student.save(f"{folder}-{name}")
    from understudy.cli import main

    measure.measure_all = speed_in_a_blink
    main()
