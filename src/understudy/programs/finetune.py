"""The program `finetune`: trains a pretrained encoder on labels, as a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from understudy import __version__, parts
from understudy.data.examples import by_length, examples_of
from understudy.data.rows import Rows, hashed, labelled, read, say_notes
from understudy.errors import RecipeError
from understudy.evaluation.measure import ModelResult, compare
from understudy.exporting.model_card import write_model_card
from understudy.machine import find_device, is_helper, main_process_first
from understudy.models import encoder
from understudy.models.rates import rate_for, width_of
from understudy.models.text_model import TextModel
from understudy.reporting.advice import findings
from understudy.reporting.page import write_page
from understudy.runs.checks import few_updates
from understudy.runs.folder import Run, Say, check
from understudy.runs.inputs import files_of
from understudy.runs.proof import ngram_baseline
from understudy.runs.training import train_alone
from understudy.settings.calling import Source, finetune_settings, silent
from understudy.settings.finetune import ENCODER_TRAINING, FinetuneSettings
from understudy.settings.stage import make_objectives
from understudy.students import Blueprint
from understudy.students.assembly import seeded
from understudy.tasks import Task, task_of
from understudy.training.length import length
from understudy.training.lesson import Lesson
from understudy.training.terms import prepare
from understudy.training.train import check_trainable


def finetune(
    model: str | Path | FinetuneSettings,
    out: str | Path = "runs/teacher",
    *,
    train: Source = None,
    validation: Source = None,
    test: Source = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    task: str | None = None,
    epochs: float | None = None,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    max_length: int | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str | None = None,
    say: Say | None = print,
    command: str = "",
) -> Run:
    """Fine-tune a pretrained encoder on labelled rows; `out` becomes a model folder.

    Args:
        model: folder or hub name of an encoder, or a kind of student to train on the labels; or `FinetuneSettings`.
        settings: any other setting by its dotted key, as in `{"train.patience": 3}`. The other arguments are those of `distill`.

    Raises:
        UserError: the input does not fit; nothing is left behind.
    """
    settings_ = finetune_settings(
        model,
        train=train,
        validation=validation,
        test=test,
        text=text,
        text_pair=text_pair,
        label=label,
        task=task,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        max_length=max_length,
        seed=seed,
        settings=settings,
    )
    return _finetune(filled_in(settings_), Path(out), resume or is_helper(), overwrite, find_device(device), say or silent, command)


def _finetune(settings: FinetuneSettings, out: Path, resume: bool, overwrite: bool, device: str, say: Say, command: str) -> Run:
    check(out, settings.dump(), resume=resume, overwrite=overwrite)
    task: Task = parts.part("tasks", settings.task)()
    if settings.data.train is None:
        raise RecipeError("data.train is missing; give --train FILE")
    rows = read(settings.data, task, seed=settings.data.split_seed)
    say_notes(rows.notes, say)
    task = task_of(rows.label_names, settings.task)
    model, autocast = _build(settings, rows, task)
    learned, objectives = labelled(rows.train), make_objectives([settings.objective])
    shape = encoder.shape(model.model, "model")
    prepare(objectives, labels=np.asarray(learned["label"]), student=shape, teacher=shape)
    check_trainable(model, settings.train, settings.report_to)
    untrained = model.around(model.model)  # a model computes its fingerprint once: here, before training
    inputs = rows.inputs() | files_of(settings)
    if settings.student is None:
        inputs["model"] = {"file": settings.model, "sha256": hashed(untrained.fingerprint)}
    with main_process_first(device):
        run = Run.start(out, settings.dump(), inputs=inputs, resume=resume, overwrite=overwrite, device=device)
    if run.finished:
        say(f"{out} is finished; nothing to do")
        return run
    planned = length([len(learned)], settings.train)
    say(f"Fine-tuning {settings.model} ({model.parameters:,} parameters): {len(learned):,} rows, {planned}")
    least = (settings.student.make().defaults() if settings.student else ENCODER_TRAINING).get("min_updates")
    few_updates(planned.updates, least, settings.model, "train", say)

    def lesson() -> Lesson:
        examples = examples_of(model, learned, balanced=settings.train.balanced_sampling)
        validation = by_length(model, labelled(rows.validation))
        return Lesson(task, model, examples, validation, objectives, settings.selection_metric)

    trained = train_alone(lesson, settings, run, "finetune", device, autocast=autocast, validation=labelled(rows.validation))
    if is_helper():
        return run
    model = TextModel.load(out)  # measured as it will be loaded
    test = labelled(rows.test)
    models = {"teacher": ModelResult((model,), (out,), trained.seconds), **ngram_baseline(rows, task, settings, say)}
    facts = compare(
        models,
        test,
        task,
        metric=settings.selection_metric,
        validation=test if rows.test_is_validation else labelled(rows.validation),
        device=device,
        speed=False,
    )
    record: dict[str, Any] = {
        "understudy": __version__,
        "task": settings.task,
        "recipe": "finetune",
        "seed": settings.seed,
        "command": command,
        **({"student": settings.student.kind} if settings.student else {}),
        "label_names": rows.label_names,
        "data": rows.facts(),
        "primary_metric": settings.selection_metric,
        **{key: facts[key] for key in ("models", "teacher_gain_over_ngrams", "metrics") if key in facts},
        "best_validation": trained.best,
        "best_step": trained.best_step,
        "precision": trained.precision,
        "trainings": run.trainings(task.metric(settings.selection_metric), rows=len(labelled(rows.validation)), least={"finetune": least}),
    }
    run.record({**record, "findings": findings(record)})
    write_model_card(model, out, pair=rows.pair, task=task)
    write_page(out)
    return run


def filled_in(settings: FinetuneSettings) -> FinetuneSettings:
    """The settings with a learning rate for the width of the encoder, if none is given."""
    if settings.train.learning_rate is not None:
        return settings
    rate = rate_for(width_of(settings.model))
    return settings.model_copy(update={"train": settings.train.model_copy(update={"learning_rate": rate})})


def _build(settings: FinetuneSettings, rows: Rows, task: Task) -> tuple[TextModel, bool]:
    """The model to train: a pretrained encoder with a new head, or an untrained student; and whether bf16 makes it faster."""
    if settings.student is not None:
        kind = settings.student.make()
        blueprint = Blueprint(
            texts=rows.texts,
            label_names=rows.label_names,
            problem_type=task.problem_type,
            pair=rows.pair,
            max_length=settings.data.max_length,
            seed=settings.seed,
        )
        return kind.build(blueprint), kind.autocast
    with seeded(settings.seed):  # the new head is drawn while loading
        model = TextModel.load(
            settings.model, max_length=settings.data.max_length, label_names=rows.label_names, problem_type=task.problem_type
        )
    return model, True
