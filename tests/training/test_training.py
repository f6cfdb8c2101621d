"""`train`: the same numbers from the same seed, whatever interrupted it; the best checkpoint; precision; reports elsewhere."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import nn

from tiny import LABELS, tiny_rows, tiny_teacher
from understudy.data.examples import by_length, examples_of
from understudy.errors import RecipeError, TrainingError
from understudy.machine import find_device
from understudy.models import encoder
from understudy.models.text_model import TextModel
from understudy.objectives.labels import Labels
from understudy.objectives.soft_targets import SoftTargets
from understudy.settings.stage import TrainSettings
from understudy.students import Blueprint
from understudy.students.bilstm import BiLSTM
from understudy.tasks.classification import Classification
from understudy.training import length as lengths
from understudy.training import train as module
from understudy.training.length import length
from understudy.training.lesson import Lesson
from understudy.training.precision import bfloat16_agrees
from understudy.training.train import Training, last_whole_checkpoint, train

SETTINGS: dict[str, Any] = {"epochs": 3, "batch_size": 8, "learning_rate": 1e-2, "evaluations": 6}


def rows_of(rows: list[dict]) -> Dataset:
    return Dataset.from_dict({"text": [row["text"] for row in rows], "label": [LABELS.index(row["label"]) for row in rows]})


TRAIN, VALIDATION = rows_of(tiny_rows(40)), rows_of(tiny_rows(60)[40:])
KEPT = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)


def untrained() -> TextModel:
    """With dropout, whose random numbers a resumed training has to meet again."""
    settings = {"hidden": 8, "embedding": 8, "feature": 8, "dropout": 0.2}
    return BiLSTM(**settings).build(Blueprint(TRAIN["text"], LABELS, max_length=32, teacher=tiny_teacher()))


class Stopped(Exception):
    """What a kill is, inside a test."""


def run(folder: Path, *, seed=0, student=None, objectives=None, stop_at: int | None = None, report_to=(), balanced=False, **settings):
    """Train on the tiny rows; returns what it says, the student, and the lines of metrics."""
    student, lines = student or untrained(), []

    def write(line: dict[str, Any]) -> None:
        lines.append(line)
        if stop_at is not None and line["step"] == stop_at and "loss" in line:
            raise Stopped

    lesson = Lesson(
        Classification(),
        student,
        examples_of(student, TRAIN, KEPT, balanced=balanced),
        by_length(student, VALIDATION),
        objectives or [(0.5, Labels()), (0.5, SoftTargets())],
        "accuracy",
    )
    shared = Training(folder / "checkpoints", seed, "student", write, "cpu", report_to=report_to)
    said = train({"": lesson}, TrainSettings(**(SETTINGS | settings)), shared)
    return said, student, [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def equal(one: TextModel, other: TextModel) -> bool:
    first, second = one.model.state_dict(), other.model.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


def test_the_random_numbers_of_the_caller_go_on(tmp_path):
    def drawn() -> tuple:
        return random.random(), float(np.random.rand()), torch.rand(1).item()

    def seeded() -> None:
        random.seed(5)
        np.random.seed(5)
        torch.manual_seed(5)

    seeded()
    expected = drawn()
    seeded()
    run(tmp_path, max_steps=2)
    assert drawn() == expected


def test_same_seed_same_metrics(tmp_path):
    first, second, other = run(tmp_path / "1"), run(tmp_path / "2"), run(tmp_path / "3", seed=1)
    assert first[2] == second[2] and equal(first[1], second[1])
    assert first[2] != other[2] and not equal(first[1], other[1])


SETTINGS_TO_RESUME: list[dict[str, Any]] = [
    {},
    {"balanced": True},
    {"batch_size": 2, "accumulation": 4},
    {"length_buckets": False},
    {"precision": "bfloat16", "schedule": "cosine"},
]


@pytest.mark.parametrize("settings", SETTINGS_TO_RESUME, ids=lambda one: ",".join(one) or "defaults")
def test_stopped_and_resumed_is_uninterrupted(tmp_path, settings):
    whole = run(tmp_path / "whole", **settings)
    for stop_at in (4, 8):  # in the first epoch, before its end; in the second
        with pytest.raises(Stopped):
            run(tmp_path / f"parts {stop_at}", stop_at=stop_at, **settings)
        assert last_whole_checkpoint(tmp_path / f"parts {stop_at}" / "checkpoints"), "it would start anew"
        resumed = run(tmp_path / f"parts {stop_at}", **settings)
        assert resumed[2][0]["step"] > 1, "it started anew"
        assert resumed[2] == whole[2][len(whole[2]) - len(resumed[2]) :]
        assert equal(whole[1], resumed[1])
        assert (resumed[0].best, resumed[0].best_step, resumed[0].steps) == (whole[0].best, whole[0].best_step, whole[0].steps)


def test_patience_goes_on_counting(tmp_path):
    settings = {"learning_rate": 1e-6, "epochs": 30, "evaluations": 150, "patience": 6}
    whole = run(tmp_path / "whole", **settings)
    assert whole[0].steps == 7
    with pytest.raises(Stopped):
        run(tmp_path / "parts", stop_at=5, **settings)
    assert run(tmp_path / "parts", **settings)[0].steps == 7


def test_seconds_before_the_stop_count(tmp_path):
    with pytest.raises(Stopped):
        run(tmp_path, stop_at=8)
    checkpoint = last_whole_checkpoint(tmp_path / "checkpoints")
    state = json.loads((Path(checkpoint) / "trainer_state.json").read_text())
    before = max(line.get("seconds", 0) for line in state["log_history"])
    for line in state["log_history"]:
        line["seconds"] = 1000.0 if "loss" in line else line.get("seconds", 0)
    (Path(checkpoint) / "trainer_state.json").write_text(json.dumps(state))
    assert 0 < before < 1000 < run(tmp_path)[0].seconds < 1000 + 60


def test_a_half_written_checkpoint_is_passed_over(tmp_path):
    whole = run(tmp_path / "whole")
    with pytest.raises(Stopped):
        run(tmp_path / "parts", stop_at=9)
    folder = tmp_path / "parts" / "checkpoints"
    good = last_whole_checkpoint(folder)
    for name, state in (("checkpoint-98", None), ("checkpoint-99", '{"epoch": 1.')):
        shutil.copytree(good, folder / name)
        (folder / name / "trainer_state.json").unlink()
        if state:
            (folder / name / "trainer_state.json").write_text(state)
    assert last_whole_checkpoint(folder) == good
    assert not (folder / "checkpoint-98").exists() and not (folder / "checkpoint-99").exists()
    assert equal(run(tmp_path / "parts")[1], whole[1])


def test_the_best_on_validation_is_what_remains(tmp_path):
    said, student, lines = run(tmp_path, learning_rate=0.1, evaluations=15)
    measured = {line["step"]: line["validation"]["accuracy"] for line in lines if "validation" in line}
    assert said.best == max(measured.values()) and measured[said.best_step] == said.best
    assert len(set(measured.values())) > 1, "any checkpoint would do"
    validation = by_length(student, VALIDATION)
    with torch.no_grad():
        rows = [validation[place] for place in range(len(validation))]
        right = [student.model(**row["student"]).logits.argmax().item() == row["labels"].item() for row in rows]
    assert np.mean(right) == pytest.approx(said.best)


def test_patience_stops_early(tmp_path):
    said, _, lines = run(tmp_path, learning_rate=1e-6, epochs=30, evaluations=30, patience=3)
    assert said.steps < 100
    assert sum("validation" in line for line in lines) == 1 + 3  # the first, and three that are no better


FLAT = {"epochs": 1, "learning_rate": 1e-7, "evaluations": 10}  # nothing gets better


@pytest.mark.full_length
def test_little_data_is_trained_on_for_the_least_number_of_updates(tmp_path):
    said, _, lines = run(tmp_path, min_updates=30, patience=9, **FLAT)
    assert said.steps == 30 and [line["step"] for line in lines if "validation" in line] == list(range(3, 31, 3))


@pytest.mark.full_length
def test_a_lengthened_training_has_patience_and_one_by_its_epochs_has_none(tmp_path):
    stopped, _, lines = run(tmp_path / "long", min_updates=30, **FLAT)
    assert stopped.steps == 15 and sum("validation" in line for line in lines) == 1 + 4
    by_epochs = run(tmp_path / "epochs", min_updates=4, **FLAT)
    assert by_epochs[0].steps == 5  # 40 rows in batches of 8
    same = run(tmp_path / "same", **FLAT)
    assert same[2] == by_epochs[2] and equal(same[1], by_epochs[1]), "the least number of updates changes nothing there"


@pytest.mark.full_length
@pytest.mark.parametrize("stop_at", [7, 15])  # in the middle; at the evaluation that stops it
def test_a_lengthened_training_is_resumed_with_its_patience(tmp_path, stop_at, monkeypatch):
    whole = run(tmp_path / "whole", min_updates=30, **FLAT)
    assert whole[0].steps == 15
    if stop_at == 7:
        with pytest.raises(Stopped):
            run(tmp_path / "parts", stop_at=7, min_updates=30, **FLAT)
    else:  # killed after its last checkpoint, before anything else was written
        run(tmp_path / "parts", min_updates=30, **FLAT)
    resumed = run(tmp_path / "parts", min_updates=30, **FLAT)
    assert equal(whole[1], resumed[1]) and (resumed[0].best, resumed[0].best_step) == (whole[0].best, whole[0].best_step)
    assert not [line for line in resumed[2] if "validation" in line and line["step"] > 15], "it went on learning"


def test_the_control_is_stopped_as_the_student_is(monkeypatch):
    """A control is told a number of updates; it keeps the least number, and with it the patience."""
    monkeypatch.setattr(lengths, "least_updates", lambda settings: settings.min_updates or 0)
    settings = TrainSettings(epochs=2, batch_size=32, min_updates=300)
    student = length([100], settings)
    control = length([50], settings.model_copy(update={"max_steps": student.updates}))
    assert (student.updates, student.patience) == (control.updates, control.patience) == (300, 4)
    many = length([100_000], settings)
    assert (many.updates, many.patience, many.by_epochs) == (6250, None, True)
    assert length([100_000], settings.model_copy(update={"max_steps": many.updates})).patience is None


@pytest.mark.parametrize(("fraction", "rates"), [(0.5, [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]), (0.0, [1.0] * 6)])
def test_a_constant_rate_warms_up_where_it_is_asked_to(tmp_path, fraction, rates):
    lines = run(tmp_path, max_steps=8, schedule="constant", warmup_fraction=fraction, learning_rate=1e-3)[2]
    found = [line["learning_rate"] / 1e-3 for line in lines if "loss" in line]
    assert found[: len(rates)] == pytest.approx(rates)


def test_updates_and_evaluations_are_as_asked(tmp_path):
    said, _, lines = run(tmp_path, max_steps=7, evaluations=3)
    assert said.steps == 7
    assert [line["step"] for line in lines if "validation" in line][:3] == [2, 4, 6]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 8))


# --- which weights


@pytest.mark.parametrize("last_layers", [0, 1, 2])
def test_last_layers_leave_the_rest_alone(tmp_path, last_layers):
    student = tiny_teacher()
    before = {name: value.clone() for name, value in student.model.state_dict().items()}
    run(tmp_path, student=student, last_layers=last_layers, max_steps=5, objectives=[(1.0, Labels())])
    changed = {name for name, value in student.model.state_dict().items() if not torch.equal(value, before[name])}
    expected = {f"bert.encoder.layer.{layer}." for layer in range(3 - last_layers, 3)} | {"bert.pooler.", "classifier."}
    assert changed == {name for name in before if name.startswith(tuple(expected))}
    assert all(parameter.requires_grad for parameter in student.model.parameters()), "a later stage would be frozen"


def test_last_layers_of_a_model_with_fewer(tmp_path):
    with pytest.raises(RecipeError, match=r"train.last_layers is 4, but the model has 3 layers"):
        run(tmp_path, student=tiny_teacher(), last_layers=4)
    assert len(encoder.layers(tiny_teacher().model)) == 3


# --- trouble


class BreaksAt(Labels):
    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.seen = at, 0

    def forward(self, student, teacher, batch):
        self.seen += 1
        return super().forward(student, teacher, batch) * (torch.nan if self.seen == self.at else 1.0)


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(tmp_path):
    with pytest.raises(TrainingError, match=r"the loss is nan at step 9; the last good checkpoint is .*checkpoint-8"):
        run(tmp_path, objectives=[(1.0, BreaksAt(9))])
    assert Path(last_whole_checkpoint(tmp_path / "checkpoints")).name == "checkpoint-8"
    said, _, lines = run(tmp_path)  # mended, it goes on from there
    assert lines[0]["step"] == 9 and said.steps == 15


def test_logits_that_are_no_numbers_are_no_accuracy(tmp_path):
    """A student whose weights are spoiled is not taken for one that always says the first class."""
    student = untrained()
    with torch.no_grad():
        student.model.classifier.weight.fill_(torch.nan)
    with pytest.raises(TrainingError):
        run(tmp_path, student=student)
    assert last_whole_checkpoint(tmp_path / "checkpoints") is None


# --- precision and device


class Cancels(nn.Module):
    """Its gradient hangs on digits that bf16 does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, 1.0], [-1.0, 1.0]]))

    def forward(self, x):
        return torch.nn.functional.linear(x, self.weight)


def loss_of(model, batch):
    return model(batch["x"]).float().square().mean()


def test_bfloat16_agrees_where_it_is_harmless():
    model = nn.Linear(8, 4)
    batch = {"x": torch.randn(16, 8, generator=torch.Generator().manual_seed(0))}
    assert bfloat16_agrees(model, loss_of, batch, "cpu")
    assert model.training and all(parameter.grad is None for parameter in model.parameters())


def test_bfloat16_is_refused_where_it_turns_the_gradient():
    x = 1000 + torch.rand(16, 2, generator=torch.Generator().manual_seed(0))
    batch = {"x": x}

    def differences(model, inputs):
        return model(inputs["x"]).float()[:, 1].square().mean()  # the difference of two large numbers that are alike

    assert not bfloat16_agrees(Cancels(), differences, batch, "cpu")


def test_bfloat16_is_refused_where_it_is_no_number():
    def breaks(model, inputs):
        found = model(inputs["x"])
        return (found.float() * (torch.nan if found.dtype == torch.bfloat16 else 1.0)).sum()

    assert not bfloat16_agrees(nn.Linear(2, 2), breaks, {"x": torch.ones(3, 2)}, "cpu")


@pytest.mark.parametrize(("there", "agrees", "expected"), [(True, True, "bfloat16"), (True, False, "float32"), (False, True, "float32")])
def test_precision_is_decided_by_processor_and_check(tmp_path, monkeypatch, caplog, there, agrees, expected):
    monkeypatch.setattr(module, "has_bfloat16", lambda device: there)
    monkeypatch.setattr(module, "bfloat16_agrees", lambda *_: agrees)
    said, student, _ = run(tmp_path, max_steps=2)
    assert said.precision == expected
    assert {parameter.dtype for parameter in student.model.parameters()} == {torch.float32}
    assert ("training in float32" in caplog.text) == (there and not agrees)


def test_precision_that_is_asked_for_is_taken(tmp_path):
    for precision in ("float32", "bfloat16"):
        assert run(tmp_path / precision, precision=precision, max_steps=2)[0].precision == precision


def test_a_device_that_is_not_there():
    assert find_device("cpu") == "cpu"
    with pytest.raises(RecipeError, match="--device tpu: this machine has cpu"):
        find_device("tpu")


# --- reports elsewhere


def test_tensorboard_gets_the_numbers(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    _, _, lines = run(tmp_path / "run", report_to=("tensorboard",))
    # Beside the run's checkpoints, which are removed at its end.
    board = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard" / "checkpoints")).Reload()
    losses = {event.step: event.value for event in board.Scalars("train/loss")}
    assert losses == pytest.approx({line["step"]: line["loss"] for line in lines if "loss" in line}, rel=1e-4)
    assert "eval/accuracy" in board.Tags()["scalars"]


def test_mlflow_gets_the_numbers(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    uri = (tmp_path / "mlruns").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # the small client has no other store on a disk
    mlflow.set_tracking_uri(uri)
    monkeypatch.chdir(tmp_path)
    _, _, lines = run(tmp_path, report_to=("mlflow",))
    client = mlflow.MlflowClient()
    (found,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    history = client.get_metric_history(found.info.run_id, "loss")
    assert {point.step: point.value for point in history} == pytest.approx(
        {line["step"]: line["loss"] for line in lines if "loss" in line}, rel=1e-4
    )
    assert found.info.status == "FINISHED"
