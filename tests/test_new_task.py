"""A new task is one file: from `finetune` to `serve` by the command line, one of the package's and one in a user's own file."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from tiny import BAD, GOOD, OTHER, write_rows
from understudy.evaluation.predictions import PREDICTIONS, read_predictions
from understudy.runtime import Predictor
from understudy.serving.app import create_app
from understudy.serving.limits import Limits

DOCS = Path(__file__).parents[1] / "docs" / "tasks.md"
FAST = ["--set", "train.max_steps=40", "--set", "train.evaluations=2"]
STAGE = ["--set", "stages.0.train.max_steps=40", "--set", "stages.0.train.evaluations=2", "--no-control"]
TEXTS = ["a gripping bright film", "a dull film", "the year", "best worst"]


def rows_of(count: int) -> list[dict]:
    """Texts in which good words, bad ones, both or none stand among others; how many words, and which kinds."""
    draw, rows = random.Random(0), {}
    while len(rows) < count:
        words, labels = draw.choices(OTHER, k=draw.randint(1, 8)), []
        for name, kind in (("good", GOOD), ("bad", BAD)):
            if draw.random() < 0.45:
                words, labels = words + draw.choices(kind, k=2), [*labels, name]
        draw.shuffle(words)
        rows[" ".join(words)] = {"text": " ".join(words), "labels": labels, "words": len(words)}
    return list(rows.values())


@pytest.fixture
def files(tmp_path, monkeypatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(# word_count\.py\n.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    Path("word_count.py").write_text(code, "utf-8")
    rows = rows_of(150)
    parts = {"train": rows[:90], "validation": rows[90:120], "test": rows[120:]}
    return [word for name, part in parts.items() for word in (f"--{name}", write_rows(Path(f"{name}.jsonl"), part))]


@pytest.mark.parametrize(
    ("task", "recipe", "metric"),
    [("multilabel", "hinton", "macro_f1"), ("./word_count.py:WordCount", "tang", "mean_error")],
    ids=["multilabel", "own"],
)
def test_from_finetune_to_serve(task, recipe, metric, files, understudy, quick):
    own = ["--task", task] if ":" in task else []

    def ran(*words):
        said = understudy(*words)
        assert said.code == 0, said.err
        return said

    ran("finetune", "static_embeddings", "--task", task, *files, *FAST, "--out", "teacher")
    ran(
        "distill",
        recipe,
        "--student",
        "static_embeddings",
        "--task",
        task,
        "--teacher",
        "teacher",
        *files,
        *STAGE,
        "--set",
        "export=[onnx]",
        "--out",
        "run",
    )
    facts = json.loads(Path("run/facts.json").read_text("utf-8"))
    assert facts["primary_metric"] == metric and {"teacher", "student", "ngrams", "student_onnx"} <= facts["models"].keys()
    assert metric.replace("_", " ").replace("f1", "F1") in Path("run/report.html").read_text("utf-8")
    ran("export", "run", *own, "--int8", "--allow-loss", "--out", "export")
    answers = {folder: ran("predict", folder, *own, "--json", *TEXTS).json["predictions"] for folder in ("export", "run/student")}
    name, kind = ("words", int) if own else ("labels", list)
    assert all(isinstance(answer[name], kind) for answer in answers["export"])
    # The answers of the export are the model's, and those of the file of predictions.
    exact = Predictor("export", int8=False, task=task if own else None)
    assert [one[name] for one in exact.predict(TEXTS)] == [one[name] for one in answers["run/student"]]
    lines = read_predictions(Path("run") / PREDICTIONS)
    assert [one[name] for one in exact.predict([line["text"] for line in lines])] == [line["models"]["student"][name] for line in lines]
    for model in ("export", "run"):
        measured = ran("evaluate", model, *own, "--data", "test.jsonl", "--json").json
        assert metric in measured["models"]["student"]["quality"]
    again = ran("evaluate", "run/student", *own, "--data", "test.jsonl", "--json").json["models"]["student"]
    assert again["quality"] == facts["models"]["student"]["quality"]
    assert ran("benchmark", "export", *own, "--data", "test.jsonl", "--json").json["primary_metric"] == metric
    assert "rows" in ran("plan", recipe, "--student", "static_embeddings", "--task", task, "--teacher", "teacher", *files).out
    with TestClient(create_app(Predictor("export", threads=1, task=task if own else None), Limits())) as client:
        found = client.post("/predict", json=[{"text": text} for text in TEXTS])
        assert found.status_code == 200
        assert [one[name] for one in found.json()] == [one[name] for one in answers["export"]]
    if own:
        for words in (
            ("predict", "export", "a text"),
            ("predict", "run/student", "a text"),
            ("serve", "export"),
            ("evaluate", "run/student", "--data", "test.jsonl"),
            ("export", "run", "--out", "other"),
        ):
            refused = understudy(*words)
            assert refused.code == 2 and "runs only where you name it: --task ./mine.py:MyTask" in refused.err, words
    else:
        assert np.array(exact.fitted["thresholds"]).shape == (2,)
        assert {one["label"] for one in facts["models"]["student"]["per_class"]} == {"good", "bad"}


def test_a_task_for_another_head_is_refused(files, understudy, quick):
    understudy("finetune", "static_embeddings", "--task", "multilabel", *files, *FAST, "--out", "teacher")
    for words, message in {
        (
            "predict",
            "teacher",
            "a text",
            "--task",
            "./word_count.py:WordCount",
        ): "a multi-label classification model, but --task is word_count.py:WordCount",
        ("distill", "hinton", "--teacher", "teacher", *files): "a multi-label classification model, but --task is classification",
        ("distill", "tang", "--task", "similarity", "--teacher", "teacher", *files): "a multi-label classification model, but --task is",
    }.items():
        refused = understudy(*words)
        assert refused.code == 2 and message in refused.err
