"""The program `finetune`: a pretrained encoder becomes a teacher."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from understudy import __version__, encoder, parts
from understudy.data.batches import by_length, tokenized
from understudy.data.rows import Rows, hashed, labelled, read, say_notes
from understudy.errors import RecipeError
from understudy.evaluate.measure import Measured, compare
from understudy.inputs import files_of
from understudy.model_card import write_model_card
from understudy.pipeline import ngram_baseline
from understudy.preparation import few_updates
from understudy.processes import is_helper, main_process_first
from understudy.recipe import ENCODER_TRAINING, FinetuneSettings, make_objectives
from understudy.report.advice import findings
from understudy.report.page import write_page
from understudy.run import Run, Say, check
from understudy.students import Blueprint
from understudy.tasks import Task
from understudy.text_model import TextModel
from understudy.train.precision import find_device
from understudy.train.rates import rate_for, width_of
from understudy.train.trainer import length
from understudy.train.training import check_trainable, train


def finetune(
    settings: FinetuneSettings, out: str | Path, *, resume: bool = False, overwrite: bool = False, device: str | None = None,
    say: Say = lambda line: None, command: str = "",
) -> Run:  # fmt: skip
    """Train an encoder on labelled rows, all of it or its last layers; `out` becomes a model folder with its facts.

    Args:
        settings: model, data, training.
        out: the folder; `AutoModelForSequenceClassification.from_pretrained(out)` loads it.

    Raises:
        UserError: the input does not fit; nothing is left behind.
    """
    settings, out, device = filled_in(settings), Path(out), find_device(device)
    resume = resume or is_helper()
    check(out, settings.dump(), resume=resume, overwrite=overwrite)
    task: Task = parts.part("tasks", settings.task)()
    if settings.data.train is None:
        raise RecipeError("data.train is missing; give --train FILE")
    rows = read(settings.data, task, seed=settings.data.split_seed)
    say_notes(rows.notes, say)
    model, autocast = _build(settings, rows, task)
    learned, objectives = labelled(rows.train), make_objectives([settings.objective])
    shape = encoder.shape(model.model, "model")
    for _, objective in make_objectives([settings.objective]):
        objective.prepare(labels=np.asarray(learned["label"]), student=shape, teacher=shape)
    check_trainable(model, settings.train, settings.report_to)
    untrained = TextModel(model.model, model.tokenizer, model.max_length)  # a fingerprint is computed once
    inputs = rows.inputs() | files_of(settings)
    if settings.student is None:
        inputs["model"] = {"file": settings.model, "sha256": hashed(untrained.fingerprint)}
    with main_process_first(device):
        run = Run.start(out, settings.dump(), inputs=inputs, resume=resume, overwrite=overwrite, device=device)
    if run.finished:
        say(f"{out} is finished; nothing to do")
        return run
    planned = length(len(learned), settings.train)
    say(f"Fine-tuning {settings.model} ({model.parameters:,} parameters): {len(learned):,} rows, {planned}")
    least = (settings.student.make().defaults() if settings.student else ENCODER_TRAINING).get("min_updates")
    few_updates(planned.updates, least, settings.model, "train", say)
    trained = train(
        model, tokenized(model, learned, balanced=settings.train.balanced_sampling), by_length(model, labelled(rows.validation)), task,
        settings.train, objectives, folder=run.checkpoints / "finetune", metric=settings.selection_metric,
        seed=settings.seed, name="fine-tuning", write=run.writer("teacher", "finetune"), device=device, autocast=autocast,
        report_to=settings.report_to,
    )  # fmt: skip
    if is_helper():
        return run
    model.save_into(out)
    model = TextModel.load(out)  # what others will load, and so have one figure with
    test = labelled(rows.test)
    models = {"teacher": Measured((model,), (out,), trained.seconds), **ngram_baseline(rows, task, settings, say)}
    facts = compare(models, test, task, metric=settings.selection_metric,
                    label_names=rows.label_names, validation=test if rows.test_is_validation else labelled(rows.validation),
                    device=device, speed=False)  # fmt: skip
    found = {
        "understudy": __version__, "task": settings.task, "recipe": "finetune", "seed": settings.seed, "command": command,
        **({"student": settings.student.kind} if settings.student else {}),
        "label_names": rows.label_names, "data": rows.facts(), "primary_metric": settings.selection_metric,
        **{key: facts[key] for key in ("models", "teacher_gain_over_ngrams")}, "best_validation": trained.best,
        "best_step": trained.best_step, "precision": trained.precision,
        "trainings": run.trainings(settings.selection_metric, rows=len(labelled(rows.validation)), least={"finetune": least}),
    }  # fmt: skip
    run.record({**found, "findings": findings(found)})
    write_model_card(model, out, pair=rows.pair)
    write_page(out)
    return run


def filled_in(settings: FinetuneSettings) -> FinetuneSettings:
    """The settings with the learning rate that fits the encoder, where none is given."""
    if settings.train.learning_rate is not None:
        return settings
    rate = rate_for(width_of(settings.model))
    return settings.model_copy(update={"train": settings.train.model_copy(update={"learning_rate": rate})})


def _build(settings: FinetuneSettings, rows: Rows, task: Task) -> tuple[TextModel, bool]:
    """The model to train: a pretrained encoder with a new head, or a student of a kind, trained from its beginning."""
    if settings.student is not None:
        kind = settings.student.make()
        blueprint = Blueprint(
            texts=rows.texts,
            label_names=rows.label_names,
            pair=rows.pair,
            max_length=settings.data.max_length,
            seed=settings.seed,
        )
        return kind.build(blueprint), kind.autocast
    from transformers.trainer_utils import set_seed

    set_seed(settings.seed)  # the new head is drawn while loading
    outputs = task.outputs(rows.label_names)
    return TextModel.load(
        settings.model, max_length=settings.data.max_length, label_names=rows.label_names, outputs=outputs
    ), True
