"""What every file in `tasks/` promises, of outputs drawn at random: a new task is held to it at once."""

import json
from pathlib import Path

import jsonschema_rs
import numpy as np
import pytest
import torch

from understudy import parts
from understudy.data.rows import read_one
from understudy.errors import ModelError
from understudy.settings.data import DataSettings
from understudy.tasks import Metric, metric_named, task_of

KINDS = sorted(parts.kinds("tasks"))
ROWS = 60


def made(kind):
    """A task with its classes, the first of which its example has; outputs; and targets that these outputs predict."""
    cls = parts.part("tasks", kind)
    own = {"class": lambda label: [label], "classes": list, "number": lambda label: []}
    names = own[cls.answer().kind](cls.example[cls.answer().name])
    task = cls((*names, "another", "a third: “é”") if names else None)
    outputs = np.random.default_rng(0).normal(size=(ROWS, task.outputs)).astype(np.float32)
    return task, outputs, task.predictions(outputs)


@pytest.mark.parametrize("kind", KINDS)
def test_perfect_outputs_are_perfect_and_noise_is_worse(kind):
    task, outputs, targets = made(kind)
    noisy = outputs + np.random.default_rng(1).normal(size=outputs.shape)
    perfect, worse = task.measure(outputs, targets), task.measure(noisy, targets)
    assert task.metrics[0].name in perfect and perfect.keys() <= {metric.name for metric in task.metrics}
    for name, value in perfect.items():
        metric = task.metric(name)
        assert value == pytest.approx(metric.perfect), name
        assert metric.lead(value, worse[name]) > 0.01 * metric.scale(value), name
        assert metric.bounds[0] <= worse[name] <= metric.bounds[1], name
    assert task.agreement(outputs, outputs) == 1 > task.agreement(noisy, outputs)
    assert not task.doubt(outputs, targets) and task.metrics[0].title


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_rows_changes_nothing(kind):
    task, outputs, targets = made(kind)
    outputs = outputs + np.random.default_rng(1).normal(size=outputs.shape)
    order = np.random.default_rng(2).permutation(ROWS)
    assert task.measure(outputs[order], targets[order]) == pytest.approx(task.measure(outputs, targets), abs=1e-12)
    assert task.per_class(outputs[order], targets[order]) == task.per_class(outputs, targets)
    assert task.answers(outputs[order]) == [task.answers(outputs)[place] for place in order]


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_is_a_row_that_comes_so_often(kind):
    """And what is counted of rows one by one is what is counted of all."""
    task, outputs, targets = made(kind)
    outputs = outputs + np.random.default_rng(1).normal(size=outputs.shape)
    weights = np.random.default_rng(3).integers(0, 3, ROWS)
    drawn, often = task.redrawn(outputs, targets, weights[None].astype(float)), np.repeat(np.arange(ROWS), weights)
    for name, value in task.measure(outputs[often], targets[often]).items():
        assert drawn[name][0] == pytest.approx(value, abs=1e-9), name
    places, counts = task.distinct(targets, outputs)
    assert counts.sum() == ROWS and len(places) == len(counts) <= ROWS
    for metric in (one for one in task.metrics if one.counts_rows):
        each = task.measured(task.statistics(outputs, targets))[metric.name]
        assert set(each) <= {0, 1} and each.mean() == pytest.approx(task.measure(outputs, targets)[metric.name])


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_json_as_their_schema_says(kind):
    task, outputs, targets = made(kind)
    fitted = json.loads(json.dumps(dict(task.fit(outputs, targets)), allow_nan=False))
    for answers in (task.answers(outputs), task.answers(outputs, fitted), task.answers(outputs, {"temperature": 2.0})):
        assert json.loads(json.dumps(answers, allow_nan=False)) == answers and len(answers) == ROWS
        for answer, target in zip(answers, targets, strict=True):
            jsonschema_rs.validate(task.answer_schema(), answer)
            assert next(iter(answer.values())) == task.label(target)
    short = task.answers(outputs, brief=True)
    assert all(one.items() <= whole.items() for one, whole in zip(short, task.answers(outputs), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_fitted_is_measured_as_it_is_answered(kind):
    """And on the rows that it was fitted on nothing is decided worse than without."""
    task, outputs, targets = made(kind)
    outputs = 0.3 * outputs - 0.5  # of no bearing on what is known, but on what is above 0
    fitted = json.loads(json.dumps(dict(task.fit(outputs, targets)), allow_nan=False))
    decided, metric = task.decided(outputs, fitted), task.metrics[0]
    said = [next(iter(answer.values())) for answer in task.answers(outputs, fitted)]
    assert said == [task.label(one) for one in task.predictions(decided)]
    assert metric.lead(task.measure(decided, targets)[metric.name], task.measure(outputs, targets)[metric.name]) >= 0


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_as_objectives_compare_them(kind):
    """Classes last, positions as the targets have them; the likeliest class is the prediction."""
    task, outputs, targets = made(kind)
    logits = task.logits(torch.from_numpy(outputs)).numpy()
    assert logits.shape[:-1] == targets.shape
    if task.answer().kind != "number":
        assert (logits.argmax(-1) == targets).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_is_a_row_of_the_task(kind, tmp_path):
    """Read from a file as users write it, it is what an answer says of it; perfect outputs score perfectly."""
    task, _, _ = made(kind)
    answer, other = task.answer(), {"number": 0.0, "class": "another", "classes": []}
    rows = [task.example, task.example | {"text": "another", answer.name: other[answer.kind]}]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    table = read_one(str(file), DataSettings(), task, label_names=task.names or None)
    said = [task.label(label) for label in table["label"]]
    assert said == [row[answer.name] for row in rows] and list(table["text"]) == [row["text"] for row in rows]
    assert task.example.keys() <= {column.name for column in task.columns} and task.example["text"]
    assert task.kind() == kind and task.does("texts").endswith(".")
    assert type(task_of(task.names or None, kind)) is type(task_of(task.names or None, None, task.problem_type)) is type(task)


def test_a_metric_that_should_be_low():
    perplexity = Metric("perplexity", "perplexity", "lower", "number", least=1.0, most=None)
    assert perplexity.perfect == 1 and perplexity.bounds == (1, np.inf) and perplexity.scale(30.0) == 30
    assert perplexity.lead(10.0, 12.0) == 2 and max([12.0, 10.0, 11.0], key=perplexity.signed) == 10
    assert metric_named("f1", "classification").perfect == 1 and metric_named("of no task").better == "higher"


def test_an_export_runs_no_file_that_it_names(tmp_path):
    """Of a task that derives from one here the export names that one; of any other its file, which must be given to be run."""
    from understudy.runtime import Predictor
    from understudy.tasks import Task
    from understudy.tasks.classification import Classification

    (tmp_path / "mine.py").write_text("raise SystemExit('was run')", "utf-8")
    export = Predictor.__new__(Predictor)
    export.folder, export.about, export._kind = (tmp_path, {"task": f"{tmp_path}/mine.py:Mine", "labels": ["a", "b"]}, None)
    with pytest.raises(ModelError, match=r"is code in a file, which runs only where you name it: --task "):
        _ = export.task
    assert type("Mine", (Classification,), {}).kind() == "classification"
    assert type("Mine", (Task,), {"__module__": __name__}).kind() == f"{Path(__file__).name}:Mine"
