"""Rows from Python: the same as from a file, named in the recipe, never read again from there."""

import copy

import datasets
import numpy as np
import pandas as pd
import pytest

from tiny import tiny_rows, write_rows
from understudy.data.in_memory import InMemory
from understudy.data.rows import facts_of, read
from understudy.errors import DataError, RecipeError, RunFolderError
from understudy.models.origin import Origin
from understudy.programs.export import validation_rows
from understudy.programs.finetune import finetune
from understudy.settings.data import DataSettings
from understudy.settings.finetune import FinetuneSettings
from understudy.settings.loading import build, load_recipe, parse_overrides
from understudy.tasks.classification import Classification

ROWS = tiny_rows(60)


def categories(rows):
    frame = pd.DataFrame(rows)
    frame["label"] = frame["label"].astype("category")
    return frame.set_index(pd.Index(range(7, 7 + len(frame))))


def class_labels(rows):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])})
    return datasets.Dataset.from_list(rows, features=features)


KINDS = {
    "list": list,
    "tuple": tuple,
    "frame": pd.DataFrame,
    "categories": categories,
    "dataset": datasets.Dataset.from_list,
    "class_labels": class_labels,
    "object": lambda rows: pd.DataFrame(rows, dtype=object),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_as_from_a_file(kind, tmp_path):
    file = write_rows(tmp_path / "rows.jsonl", ROWS)
    expected = read(DataSettings(train=file), Classification(), seed=0)
    found = read(DataSettings(train=KINDS[kind](ROWS)), Classification(), seed=0)
    for split in ("train", "validation", "test"):
        assert facts_of(getattr(found, split)) == facts_of(getattr(expected, split))
    assert found.label_names == ("bad", "good") and "60 rows>" in found.files["test"]


def test_names_columns_and_missing_values():
    frame = pd.DataFrame({"review": [row["text"] for row in ROWS], "stars": [1.0, 2.0] * 30, "text": 0})
    frame.loc[3, "stars"] = np.nan
    settings = DataSettings(train=frame, transfer=frame[:9], columns={"text": "review", "label": "stars"})
    rows = read(settings, Classification(), seed=0)
    assert rows.label_names == ("1", "2") and list(rows.train["label"]).count(-100) == 1
    assert str(settings.train) == "<DataFrame: 60 rows>" and copy.deepcopy(settings.train) is settings.train
    named = DataSettings(train=[{"text": "a", "label": float("nan")}, {"text": "b", "label": "x"}])
    with pytest.raises(DataError, match="all 1 labelled rows have the one label 'x'"):
        read(named, Classification(), seed=0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS)}), r"got a dict of train; give one split"),
        (3, "or a pandas DataFrame, a datasets.Dataset or a list of dictionaries; got int"),
        ([["a"]], "got list"),
    ],
)
def test_what_is_no_table(rows, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("hinton", {"data.train": rows})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "<list: 0 rows>: there are no rows"),
        ([{"txt": "a"}], "<list: 1 rows>: no columns 'text' and 'label'"),
        (pd.DataFrame([["a", "b"]], columns=["text", "text"]), "column 'text' appears twice"),
        (pd.DataFrame({"text": ["a", None], "label": ["x", "y"]}), r"row 2 \(not counting the header\) without a text"),
    ],
)
def test_rows_that_do_not_fit(rows, message):
    with pytest.raises(DataError, match=message):
        read(DataSettings(train=rows), Classification(), seed=0)


def test_a_recipe_names_them_and_does_not_take_the_name_for_rows(tmp_path):
    recipe = load_recipe("hinton", {"data.train": pd.DataFrame(ROWS), "data.transfer": ROWS, "teacher.models": ["t"]})
    (tmp_path / "again.yaml").write_text(recipe.dump(), "utf-8")
    assert "train: '<DataFrame: 60 rows>'" in recipe.dump() and "transfer: '<list: 60 rows>'" in recipe.dump()
    with pytest.raises(RecipeError, match=r"data.train: <DataFrame: 60 rows> stands for rows in the memory of a Python program"):
        load_recipe(tmp_path / "again.yaml")
    assert load_recipe(tmp_path / "again.yaml", {"data.train": ROWS, "data.transfer": ROWS}).data.train is not None
    tasks = [{"name": "mood", "data": {"train": pd.DataFrame(ROWS)}, "teacher": {"models": ["t"]}}]
    assert "<DataFrame: 60 rows>" in load_recipe("mt_dnn", {"tasks": tasks}).dump()


def test_rows_themselves_are_not_for_yaml(tmp_path):
    (tmp_path / "own.yaml").write_text("name: own\ndata: {train: [{text: a}]}\n", "utf-8")
    with pytest.raises(RecipeError, match=r"data.train: the name of a file, .* got a list"):
        load_recipe(tmp_path / "own.yaml")
    with pytest.raises(RecipeError, match=r"--set data.train: .* got a list"):
        parse_overrides(["data.train=[{text: a}]"])


def test_a_run_from_rows_in_memory(tmp_path):
    def settings(rows):
        values = {"data.train": rows, "train.epochs": 1, "train.evaluations": 1}
        return build(FinetuneSettings, {"model": "static_embeddings"}, values, where="finetune")

    out = tmp_path / "teacher"
    run = finetune(settings(pd.DataFrame(ROWS)), out)
    assert finetune(settings(pd.DataFrame(ROWS)), out, resume=True).facts == run.facts
    with pytest.raises(RunFolderError, match=r"started with other data or files: train \(<DataFrame: 60 rows>\)"):
        finetune(settings(pd.DataFrame(ROWS[::-1])), out, resume=True)
    with pytest.raises(DataError, match=r"stands for rows in the memory of a Python program.* --data FILE"):
        validation_rows(Origin.find(str(out)), Classification(), ("bad", "good"))


def test_what_it_is_called():
    assert str(InMemory(ROWS)) == "<list: 60 rows>" and repr(InMemory(datasets.Dataset.from_list(ROWS))) == "<Dataset: 60 rows>"
