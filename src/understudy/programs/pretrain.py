"""The program `pretrain`: trains an encoder as a masked language model on plain text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from understudy import __version__
from understudy.data.masking import MaskedRows
from understudy.data.rows import facts_of, hashed, held_out_texts, read_texts
from understudy.errors import RecipeError
from understudy.exporting.model_card import write_model_card
from understudy.machine import find_device, is_helper, main_process_first
from understudy.models.text_model import TextModel
from understudy.runs.folder import Run, Say, check
from understudy.runs.inputs import files_of
from understudy.runs.training import train_alone
from understudy.settings.calling import pretrain_settings, silent
from understudy.settings.finetune import PretrainSettings
from understudy.settings.stage import make_objectives
from understudy.students.assembly import seeded
from understudy.training.lesson import Lesson
from understudy.training.masked_lm import METRIC, MaskedLMScores
from understudy.training.train import check_trainable


def pretrain(
    model: str | Path | PretrainSettings,
    out: str | Path = "runs/pretrained",
    *,
    raw: str | Path | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str | None = None,
    say: Say | None = print,
    command: str = "",
) -> Run:
    """Train an encoder as a masked language model; `out` becomes a model folder for `--pretrained`.

    A missing head is drawn at random. A twentieth of the texts (at most 1,000) is held out and selects the checkpoint.

    Args:
        model: folder or hub name of an encoder; or `PretrainSettings`.
        raw: plain text, a paragraph a line, or a table with a column `text`.
        settings: any other setting by its dotted key, as in `{"train.epochs": 1}`. The other arguments are those of `distill`.
        out: the folder; `AutoModelForMaskedLM.from_pretrained(out)` loads it.

    Raises:
        UserError: the input does not fit; nothing is left behind.
    """
    filled_settings = pretrain_settings(model, raw=raw, seed=seed, settings=settings)
    return _pretrain(filled_settings, Path(out), resume or is_helper(), overwrite, find_device(device), say or silent, command)


def _pretrain(settings: PretrainSettings, out: Path, resume: bool, overwrite: bool, device: str, say: Say, command: str) -> Run:
    check(out, settings.dump(), resume=resume, overwrite=overwrite)
    if settings.data.raw is None:
        raise RecipeError("data.raw is missing; give --raw FILE: .txt with a paragraph a line, or a table with a column text")
    learned, held_out = held_out_texts(read_texts(settings.data.raw, settings.data))
    with seeded(settings.seed):  # a new head is drawn while loading
        model = TextModel.load(settings.model, max_length=settings.data.max_length, masked_lm=True, new_head=True)
    check_trainable(model, settings.train, settings.report_to)
    texts = {"train": learned, "validation": held_out}
    inputs = {name: {"file": settings.data.raw, **facts_of(texts)} for name, texts in texts.items()}
    untrained = model.around(model.model)  # a model computes its fingerprint once: here, before training
    inputs |= files_of(settings)
    inputs["model"] = {"file": settings.model, "sha256": hashed(untrained.fingerprint)}
    with main_process_first(device):
        run = Run.start(out, settings.dump(), inputs=inputs, resume=resume, overwrite=overwrite, device=device)
    if run.finished:
        say(f"{out} is finished; nothing to do")
        return run
    say(f"Pretraining {settings.model} ({model.parameters:,} parameters) on {len(learned):,} texts")
    objectives = make_objectives([settings.objective])

    def lesson() -> Lesson:
        rows, validation = (
            MaskedRows(model, texts, fraction=settings.masked_lm.fraction, seed=settings.seed) for texts in (learned, held_out)
        )
        return Lesson(MaskedLMScores(), model, rows, validation, objectives, METRIC)

    trained = train_alone(lesson, settings, run, "pretrain", device)
    if is_helper():
        return run
    run.record(
        {
            "understudy": __version__,
            "task": "masked_lm",
            "recipe": "pretrain",
            "seed": settings.seed,
            "command": command,
            "data": {"train": {"rows": len(learned)}, "validation": {"rows": len(held_out)}},
            "primary_metric": METRIC,
            "models": {
                "teacher": {"parameters": model.parameters, "quality": {METRIC: {"value": trained.best}}, "seconds": trained.seconds}
            },
            "best_step": trained.best_step,
            "precision": trained.precision,
        }
    )
    write_model_card(model, out)
    return run
