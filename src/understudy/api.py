"""The programs as one calls them from Python: names, tables in memory and keywords in place of recipes and dotted keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from understudy.errors import DataError, RecipeError
from understudy.recipe import FinetuneSettings, Recipe
from understudy.recipe_file import build, read_recipe
from understudy.run import Run, Say
from understudy.settings import short_forms

Rows = Any  # a file, folder or hub data set by name; or a DataFrame, a datasets.Dataset or a list of dictionaries


def distill(
    recipe: str | Path | Recipe = "hinton", out: str | Path = "runs/distilled", *, teacher: Any = None,
    student: str | Mapping[str, Any] | None = None, train: Rows = None, validation: Rows = None, test: Rows = None,
    transfer: Rows = None, text: str | None = None, text_pair: str | None = None, label: str | None = None, task: str | None = None,
    epochs: float | None = None, learning_rate: float | None = None, batch_size: int | None = None, max_length: int | None = None,
    temperature: float | None = None, seed: int | None = None, settings: Mapping[str, Any] | None = None, resume: bool = False,
    overwrite: bool = False, device: str | None = None, shelf: str | Path | None = None, command: str = "", say: Say | None = print,
) -> Run:  # fmt: skip
    """Train a small student to imitate a teacher, measure it beside its controls, and write it all into a run folder.

    Args:
        recipe: a packaged recipe by name (`understudy list recipes`), a .yaml file, or a `Recipe`.
        out: the run folder.
        teacher: folder of a fine-tuned model, or a file with its outputs; a list of them is an ensemble.
        student: a kind, as `"bilstm"`, or a kind with its settings, as `{"kind": "bilstm", "hidden": 100}`.
        train: rows with labels; `validation` selects the checkpoint, `test` is only measured. Without them parts of `train` are split off.
        transfer: rows without labels, for the teacher to label.
        text: name of the column of texts, where it is not `text`; likewise `text_pair` and `label`.
        epochs: of every stage; so are `learning_rate`, `batch_size` and `temperature`.
        settings: any other setting by its dotted key, as in `{"stages.0.train.patience": 3}`.
        resume: continue a run that was stopped.
        overwrite: replace an existing run.
        device: `cpu`, `cuda`, `mps`; None takes the fastest there is.
        shelf: folder of controls that runs share; None: `.controls` beside `out`.
        command: recorded in the facts.
        say: gets each line of progress; None is silent.

    Returns:
        the run: `facts` and `folder`; in a notebook it shows its table and verdict.

    Raises:
        UserError: the input does not fit; nothing is left behind.
    """
    from understudy import pipeline

    values = recipe.model_dump() if isinstance(recipe, Recipe) else read_recipe(recipe)
    teachers = [teacher] if isinstance(teacher, str | Path) else teacher
    given = _given(
        train, validation, test, transfer, text, text_pair, label, task=task, seed=seed,
        student={"kind": student} if isinstance(student, str) else student,
        **{"teacher.models": None if teachers is None else [str(one) for one in teachers]},
    )  # fmt: skip
    short = short_forms(values, {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size,
                                 "max_length": max_length, "temperature": temperature})  # fmt: skip
    set_over = {**short, **given, **(settings or {})}
    if not isinstance(recipe, Recipe) or set_over:
        recipe = build(Recipe, values, set_over, where=values.get("name") or str(recipe))
    assert isinstance(recipe, Recipe)
    return pipeline.distill(recipe, out, resume=resume, overwrite=overwrite, device=device, shelf=shelf, command=command,
                            say=say or _silent)  # fmt: skip


def finetune(
    model: str | Path | FinetuneSettings, out: str | Path = "runs/teacher", *, train: Rows = None, validation: Rows = None,
    test: Rows = None, text: str | None = None, text_pair: str | None = None, label: str | None = None, task: str | None = None,
    epochs: float | None = None, learning_rate: float | None = None, batch_size: int | None = None, max_length: int | None = None,
    seed: int | None = None, settings: Mapping[str, Any] | None = None, resume: bool = False, overwrite: bool = False,
    device: str | None = None, say: Say | None = print, command: str = "",
) -> Run:  # fmt: skip
    """Fine-tune a pretrained encoder on labelled rows; `out` becomes a model folder.

    Args:
        model: folder or hub name of an encoder, or a kind of student to train on the labels; or `FinetuneSettings`.
        settings: any other setting by its dotted key, as in `{"train.patience": 3}`. The other arguments are those of `distill`.

    Raises:
        UserError: the input does not fit; nothing is left behind.
    """
    from understudy import finetuning

    values = (
        model.model_dump()
        if isinstance(model, FinetuneSettings)
        else {"model": str(model), "objective": {"kind": "labels"}}
    )
    short = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size, "max_length": max_length}
    given = _given(train, validation, test, None, text, text_pair, label, task=task, seed=seed)
    set_over = {**short_forms({}, short), **given, **(settings or {})}
    if not isinstance(model, FinetuneSettings) or set_over:
        model = build(FinetuneSettings, values, set_over, where="finetune")
    assert isinstance(model, FinetuneSettings)
    return finetuning.finetune(
        model, out, resume=resume, overwrite=overwrite, device=device, say=say or _silent, command=command
    )


def evaluate(
    model: str | Path, data: Rows, *, teacher: str | Path | None = None, task: str | None = None, text: str | None = None,
    text_pair: str | None = None, label: str | None = None, columns: Mapping[str, str] | None = None, max_length: int | None = None,
    device: str | None = None, say: Say | None = print,
) -> Facts:  # fmt: skip
    """Measure a model, an export or a run's student on labelled rows, beside its teacher where one is given.

    Returns:
        facts as in facts.json; in a notebook they show their table.

    Raises:
        UserError: the model or the data does not fit.
    """
    from understudy import inference
    from understudy.data.in_memory import source_of

    try:
        source: Any = source_of(data)
    except ValueError as error:
        raise DataError(f"data: {error}") from error
    named = {"text": text, "text_pair": text_pair, "label": label}
    facts = inference.evaluate(
        str(model), source, teacher=None if teacher is None else str(teacher), task=task,
        columns={**(columns or {}), **{our: theirs for our, theirs in named.items() if theirs}}, max_length=max_length,
        device=device, say=say or _silent,
    )  # fmt: skip
    return Facts(facts)


def export(model: str | Path, out: str | Path, **options: Any) -> Any:
    """Write a model as ONNX with all that predictions need; see `understudy.exporting.export_model` for the options."""
    from understudy.exporting import export_model

    return export_model(model, out, **{"say": print, **options})


def search(settings: Mapping[str, Any], budget: str, out: str | Path = "runs/search", **options: Any) -> Run:
    """Try students, recipes and settings within a budget; see `understudy.searching.search` for the options."""
    from understudy.searching import search as search_within

    return search_within(settings, budget, out, **{"say": print, **options})


class Facts(dict[str, Any]):
    """What was measured, as in facts.json; shown as its table."""

    def __repr__(self) -> str:
        from understudy.report.display import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        from understudy.report.display import as_html

        return as_html(self)


def _given(
    train: Rows, validation: Rows, test: Rows, transfer: Rows, text: str | None, text_pair: str | None,
    label: str | None, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """What was given, by dotted keys."""
    rows = {"train": train, "validation": validation, "test": test, "transfer": transfer}
    found = {f"data.{name}": one for name, one in rows.items() if one is not None}
    columns = {our: theirs for our, theirs in (("text", text), ("text_pair", text_pair), ("label", label)) if theirs}
    if not all(isinstance(name, str) for name in columns.values()):
        raise RecipeError("text, text_pair and label are names of columns")
    if columns:
        found["data.columns"] = columns
    return found | {name: value for name, value in more.items() if value is not None}


def _silent(line: str) -> None:
    pass
