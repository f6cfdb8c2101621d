"""What `test_processes.py` launches in two processes: a script of the user's own, then the command line."""

import sys

import numpy as np
from datasets import Dataset
from torch import nn
from transformers import TrainingArguments

from tiny import LABELS, TEXTS, tiny_rows, tiny_teacher
from understudy.objectives.hidden_states import HiddenStates
from understudy.objectives.labels import Labels
from understudy.objectives.relations import Relations
from understudy.objectives.soft_targets import SoftTargets
from understudy.students import Blueprint
from understudy.students.bilstm import BiLSTM
from understudy.students.narrow import Narrow
from understudy.train.trainer import DistillationTrainer


def train_by_sgd(folder: str, *, batch_size: int, accumulation: int = 1) -> DistillationTrainer:
    """A training whose result shows every weight of every row: plain steps, no dropout, labels here and there."""
    rows = tiny_rows(24)
    texts = [row["text"] for row in rows]
    student = BiLSTM(hidden=6, embedding=6, feature=6, dropout=0.0).build(
        Blueprint([*texts, *TEXTS], LABELS, teacher=tiny_teacher())
    )
    labels = [-100 if place % 3 else LABELS.index(row["label"]) for place, row in enumerate(rows)]
    logits = np.random.default_rng(0).normal(size=(24, 2)).astype(np.float32)
    trainer = DistillationTrainer(
        student.model,
        TrainingArguments(
            folder, max_steps=4, per_device_train_batch_size=batch_size, gradient_accumulation_steps=accumulation, optim="sgd",
            learning_rate=0.5, lr_scheduler_type="constant", max_grad_norm=0.0, logging_steps=1, save_strategy="no", report_to="none",
            disable_tqdm=True, use_cpu=True, train_sampling_strategy="group_by_length",
        ),
        objectives=[(0.3, Labels()), (0.7, SoftTargets())], processing_class=student.tokenizer,
        train_dataset=Dataset.from_dict({**student.tokenizer(texts), "labels": labels, "teacher_logits": logits.tolist()}),
    )  # fmt: skip
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
            folder, max_steps=4, per_device_train_batch_size=batch_size, optim="sgd", learning_rate=0.05, lr_scheduler_type="constant",
            max_grad_norm=0.0, save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
            train_sampling_strategy="group_by_length",
        ),
        objectives=[(1.0, HiddenStates()), (1.0, Relations())], teacher=teacher.model, processing_class=student.tokenizer,
        train_dataset=Dataset.from_dict({**student.tokenizer(rows), "labels": [0] * 24}),
    )  # fmt: skip
    trainer.train()
    if trainer.is_world_process_zero():
        trainer.save_model(folder)
    return trainer


if __name__ == "__main__":
    folder = sys.argv.pop(1)
    train_by_sgd(folder, batch_size=4)
    train_inside(f"{folder}-inside", batch_size=4)
    from understudy.cli import main

    main()
