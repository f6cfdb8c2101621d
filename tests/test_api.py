"""From Python: names, tables in memory and keywords, as the documentation shows them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import understudy
from tiny import LABELS, tiny_rows
from understudy.errors import DataError, RecipeError, RunFolderError
from understudy.settings.loading import load_recipe

START = Path(__file__).parents[1] / "docs" / "start.md"
SMALL = {"kind": "bilstm", "hidden": 8, "embedding": 8, "feature": 8}
FAST = {"export": [], "control": []}


def test_the_example_of_the_documentation_runs(world, tmp_path, monkeypatch, quick, capsys):
    """As it is printed, but for the encoder, exports (which take seconds each) and the length of the training."""
    import pandas

    code = re.search(r"## From Python\n.*?```python\n(.*?)```", START.read_text("utf-8"), re.DOTALL)[1]
    code = code.replace("path/to/encoder", world.teacher)
    code = code.replace('out="runs/first"', 'out="runs/first", epochs=1, settings={"export": []}')
    monkeypatch.chdir(tmp_path)
    rows = tiny_rows(80)
    pandas.DataFrame({"id": range(80), "review": [row["text"] for row in rows], "stars": [row["label"] for row in rows]}).to_csv(
        "reviews.csv", index=False
    )
    names: dict = {}
    exec(compile(code, "start.md", "exec"), names)
    said = capsys.readouterr().out
    assert "student alone" in said and "Training the student" in said and "95 %" in said
    assert set(names["reviews"]["predicted"]) <= set(LABELS)


def tables() -> dict:
    import pandas
    from datasets import ClassLabel, Dataset, Features, Value

    rows = [{"message": row["text"], "category": row["label"]} for row in tiny_rows(40)]
    features = Features({"message": Value("string"), "category": ClassLabel(names=list(LABELS))})
    return {
        "list": rows,
        "DataFrame": pandas.DataFrame(rows),
        "Dataset": Dataset.from_list(rows),
        "ClassLabel": Dataset.from_list(rows).cast(features),
    }


@pytest.mark.parametrize("kind", ["list", "DataFrame", "Dataset", "ClassLabel"])
def test_finetune_on_a_table_in_memory(kind, world, tmp_path, quick):
    """The same rows, whatever the table: the same model."""
    words = {"text": "message", "label": "category", "settings": {"train.max_steps": 2}, "say": None}
    run = understudy.finetune(world.teacher, tmp_path / "out", train=tables()[kind], **words)
    assert run.facts["data"]["train"]["rows"] == 32 and "accuracy" in repr(run)
    assert run.facts["label_names"] == list(LABELS)


def test_distill_by_names_and_keywords(world, tmp_path, quick, capsys):
    frame = tables()["DataFrame"]
    words = {
        "teacher": world.teacher,
        "student": SMALL,
        "train": frame,
        "text": "message",
        "label": "category",
        "epochs": 1,
        "learning_rate": 1e-3,
        "temperature": 7,
        "settings": FAST,
        "say": None,
    }
    run = understudy.distill("hinton", tmp_path / "run", **words)
    assert capsys.readouterr().out == "" and run.finished
    resolved = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text("utf-8"))
    assert resolved["stages"][0]["train"]["epochs"] == 1 and resolved["stages"][0]["objectives"][1]["temperature"] == 7
    assert repr(run).endswith(str(tmp_path / "run")) and "accuracy" in repr(run)
    assert run._repr_html_().startswith("<pre") and "student" in run._repr_html_()
    with pytest.raises(RunFolderError, match="not empty"):
        understudy.distill("hinton", tmp_path / "run", **words)
    again = understudy.distill("hinton", tmp_path / "run", **words, resume=True)
    assert again.facts == run.facts
    # A recipe as a value, alone as before or with keywords over it.
    value = load_recipe("hinton", {**world.keys, **FAST, "student": SMALL, "stages.0.train.max_steps": 2})
    same = understudy.distill(value, tmp_path / "same", say=None)
    other = understudy.distill(value, tmp_path / "other", max_length=8, say=None)
    read = [load_recipe(one.folder / "recipe.yaml") for one in (same, other)]
    assert read[0].stages == read[1].stages and [one.data.max_length for one in read] == [None, 8]


def test_mistakes_are_told_as_on_the_command_line(world, tmp_path):
    with pytest.raises(RecipeError, match="Did you mean 'hinton'"):
        understudy.distill("hintn", tmp_path / "run")
    with pytest.raises(RecipeError, match=r"--temperature: no objective of tang"):
        understudy.distill("tang", tmp_path / "run", temperature=2)
    with pytest.raises(RecipeError, match=r"Did you mean 'stages.0.train.patience'"):
        understudy.distill("hinton", tmp_path / "run", settings={"patience": 3})
    with pytest.raises(RecipeError, match="names of columns"):
        understudy.distill("hinton", tmp_path / "run", train=[{"text": "a"}], text=["a"])
    assert not (tmp_path / "run").exists()


def test_evaluate_and_predict_by_python(world, single_export, quick):
    rows = [{"message": row["text"], "category": row["label"]} for row in tiny_rows(30)]
    facts = understudy.evaluate(world.teacher, rows, text="message", label="category", say=None)
    assert facts["data"]["test"]["rows"] == 30 and "accuracy" in repr(facts) and facts._repr_html_().startswith("<pre")
    assert json.loads(json.dumps(facts))["models"]["student"]["quality"]["accuracy"]["value"] > 0.9
    for model in (single_export, world.teacher):
        assert understudy.predict(model, "a dull film")[0]["label"] in LABELS
        assert len(understudy.predict(model, texts=["a", "b"])) == len(understudy.predict(model, file=world.test)) - 28
    with pytest.raises(DataError, match=r"data: the name of a file.*got int"):
        understudy.evaluate(world.teacher, 3)
    with pytest.raises(DataError, match="either texts or file"):
        understudy.predict(world.teacher)


def test_plan_and_teach_take_the_words_of_distill(world, tmp_path, capsys):
    words = {"teacher": world.teacher, "train": world.train, "validation": world.validation, "test": world.test, "say": None}
    found = understudy.plan("hinton", student=SMALL, epochs=1, **words)
    assert found["train_rows"] == 60 and found["test_rows"] == 30
    assert understudy.teach("hinton", tmp_path / "outputs", **words) == {"computed": 120, "kept": 120}
    assert capsys.readouterr().out == ""


def test_a_report_by_python(world, tmp_path, quick):
    run = understudy.finetune(world.teacher, tmp_path / "out", train=world.train, settings={"train.max_steps": 2}, say=None)
    assert understudy.report(run.folder) == run.folder / "report.html"
    with pytest.raises(RunFolderError, match="exists already"):
        understudy.report(run.folder, run.folder / "report.html")


def test_what_can_be_listed():
    assert "hinton" in understudy.list_("recipes") and next(iter(understudy.list_("students"))) == "bilstm"


def test_what_needs_no_torch_loads_none():
    code = "import sys, understudy; dir(understudy); understudy.predict, understudy.Predictor, understudy.serve, understudy.report"
    said = subprocess.run([sys.executable, "-c", f"{code}; print('torch' in sys.modules)"], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"
