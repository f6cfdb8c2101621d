"""Training on several tasks: one task is the ordinary training; which rows come when; whose weights move; what an interruption costs."""

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from two_processes import two_tasks

from tiny import LABELS, tiny_rows, tiny_teacher
from understudy.data.examples import LengthBuckets, by_length, examples_of
from understudy.errors import ModelError
from understudy.objectives.annealed_targets import AnnealedTargets
from understudy.objectives.labels import Labels
from understudy.objectives.logit_regression import LogitRegression
from understudy.objectives.soft_targets import SoftTargets
from understudy.settings.stage import TrainSettings
from understudy.tasks.classification import Classification
from understudy.tasks.similarity import Similarity
from understudy.teachers.capture import logits_of
from understudy.training import train as module
from understudy.training.length import shared_out, updates_in_epoch
from understudy.training.lesson import JoinedModel, Lesson, LessonsTrainer, MixedBatches
from understudy.training.train import Training, last_whole_checkpoint, train

SETTINGS: dict[str, Any] = {"epochs": 3, "batch_size": 8, "learning_rate": 1e-2, "evaluations": 6}


def rows_of(rows: list[dict]) -> Dataset:
    number = isinstance(rows[0]["label"], float)
    return Dataset.from_dict(
        {"text": [row["text"] for row in rows], "label": [row["label"] if number else LABELS.index(row["label"]) for row in rows]}
    )


def kept(rows: int, outputs: int) -> np.ndarray:
    return np.random.default_rng(outputs).normal(size=(rows, outputs)).astype(np.float32)


# Classes and numbers: 12 rows to measure, then 40 and 28 to learn from.
MOOD, COUNT = rows_of(tiny_rows(52)), rows_of(tiny_rows(40, seed=1, number=True))
OBJECTIVES = {"mood": [(0.5, Labels()), (0.5, SoftTargets())], "count": [(0.5, Labels()), (0.5, LogitRegression())]}
TASKS: dict[str, Any] = {"mood": (Classification(), "accuracy"), "count": (Similarity(), "pearson")}


class Stopped(Exception):
    """What a kill is, inside a test."""


def run(
    folder: Path, names=("mood", "count"), *, objectives=None, stop_at: int | None = None, balanced=False, seed=0, dropout=None, **settings
):
    """Train on the tiny rows; returns what it says, the students, and the lines of metrics."""
    students, lines = two_tasks(names, dropout=dropout), []
    resolved = TrainSettings(**(SETTINGS | settings))

    def write(line: dict[str, Any]) -> None:
        lines.append(line)
        if stop_at is not None and line["step"] == stop_at and "loss" in line:
            raise Stopped

    whole = {"mood": MOOD, "count": COUNT}
    lessons = {}
    for name in names:
        held_out, learned = whole[name].select(range(12)), whole[name].select(range(12, len(whole[name])))
        examples = examples_of(students[name], learned, kept(len(learned), students[name].outputs), balanced=balanced)
        lessons[name] = Lesson(
            TASKS[name][0],
            students[name],
            examples,
            by_length(students[name], held_out),
            copy.deepcopy((objectives or OBJECTIVES)[name]),
            TASKS[name][1],
            share=updates_in_epoch(len(learned), resolved),
        )
    said = train(lessons, resolved, Training(folder / "checkpoints", seed, "student", write, "cpu"))
    return said, students, [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def equal(one, other) -> bool:
    pairs = [(one[name].model.state_dict(), other[name].model.state_dict()) for name in one]
    return all(torch.equal(first[key], second[key]) for first, second in pairs for key in first)


# --- which rows come when


class Lengths:
    """As many rows of tokens as it takes."""

    sampling_weights = None

    def __init__(self, rows: int) -> None:
        self.lengths = np.arange(rows) % 7 + 3

    def __len__(self) -> int:
        return len(self.lengths)


@pytest.mark.parametrize("bucketed", [True, False])
def test_with_one_task_rows_come_as_they_do_alone(bucketed):
    rows: Any = Lengths(45)
    rows.sampling_weights = np.arange(45) + 1.0
    sampler = MixedBatches({"only": rows}, 8, shares={"only": 6}, seed=3, bucketed=bucketed)
    alone = LengthBuckets(rows.lengths, 8, seed=3, weights=rows.sampling_weights, bucketed=bucketed)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        alone.set_epoch(epoch)
        assert [row for _, batch in sampler for row in batch] == list(alone)


SIZES = {"large": 1600, "middle": 400, "small": 25}


def mixed(power: float, **settings) -> MixedBatches:
    weights = {name: float(-(-rows // 10)) ** power for name, rows in SIZES.items()}
    rows: Any = {name: Lengths(rows) for name, rows in SIZES.items()}
    shares = shared_out(160 + 40 + 3, list(weights.values()))
    return MixedBatches(rows, 10, shares=dict(zip(SIZES, shares, strict=True)), **settings)


@pytest.mark.parametrize("power", [0.0, 0.5, 0.75, 1.0])
def test_shares_follow_the_rows_to_a_power(power):
    drawn = Counter(name for name, _ in mixed(power))
    assert sum(drawn.values()) == 160 + 40 + 3 == len(mixed(power))
    whole = sum(rows**power for rows in SIZES.values())
    for name, rows in SIZES.items():
        assert drawn[name] == pytest.approx(203 * rows**power / whole, abs=1.5)
    if power == 1.0:
        assert drawn == {"large": 160, "middle": 40, "small": 3}, "every row comes once an epoch"


def test_each_task_goes_through_its_rows_over_the_epochs():
    sampler, seen = mixed(0.5), {name: Counter() for name in SIZES}
    for epoch in range(6):
        sampler.set_epoch(epoch)
        for name, rows in sampler:
            seen[name].update(rows)
    for name, rows in SIZES.items():
        assert set(seen[name]) <= set(range(rows))
        if seen[name].total() >= rows:
            assert set(seen[name]) == set(range(rows)), name
        assert max(seen[name].values()) - min(seen[name].values()) <= 1, "a row came twice before another came once"


def test_the_order_hangs_on_seed_and_epoch_alone():
    sampler, again = mixed(0.75), mixed(0.75)
    for epoch in (3, 1):  # not in turn, and from nothing
        sampler.set_epoch(epoch)
        again.set_epoch(epoch)
        assert list(sampler) == list(sampler) == list(again)
    again.set_epoch(2)
    assert list(sampler) != list(again) and list(sampler) != list(mixed(0.75, seed=1))
    names = [name for name, _ in sampler]
    assert names != sorted(names), "the tasks come one after another"


def test_an_update_is_of_one_task_whatever_its_pieces():
    for pieces in (2, 4):
        whole, cut = list(mixed(0.75)), list(mixed(0.75, pieces=pieces))
        assert len(cut) == pieces * len(whole)
        for place, (name, rows) in enumerate(whole):
            parts = cut[place * pieces : (place + 1) * pieces]
            assert {one for one, _ in parts} == {name}
            joined = [row for _, part in parts for row in part]
            assert joined[: len(rows)] == rows and set(joined) == set(rows) and len({len(part) for _, part in parts}) == 1


def test_shared_out_gives_each_something():
    for total, weights in ((3, [1e6, 1.0, 1.0]), (50, [0.3, 0.3, 0.1]), (7, [1.0, 1.0]), (200, [150.0, 49.6, 0.4])):
        found = shared_out(total, weights)
        assert sum(found) == total and min(found) >= 1
        assert all(abs(one - max(total * weight / sum(weights), 1)) < 2 for one, weight in zip(found, weights, strict=True))


# --- whose weights move


def test_the_module_holds_every_weight_once():
    students = two_tasks()
    model = JoinedModel({name: student.model for name, student in students.items()})
    tensors = list(model.state_dict().values())
    assert len({tensor.data_ptr() for tensor in tensors}) == len(tensors)
    encoder = sum(weight.numel() for weight in students["mood"].model.base_model.parameters())
    assert sum(weight.numel() for weight in model.parameters()) == encoder + 2 * 17 + 1 * 17
    copied = copy.deepcopy(model)
    assert copied.models["mood"].base_model is copied.models["count"].base_model is copied.encoder is not model.encoder
    model.train()
    assert all(one.training for one in model.models.values())
    assert not any(one.training for one in model.eval().models.values())


def test_models_with_encoders_of_their_own_are_refused():
    with pytest.raises(ModelError, match="task b: its model does not consist of the shared encoder and a head"):
        JoinedModel({"a": tiny_teacher().model, "b": tiny_teacher().model})


def test_a_head_moves_by_its_own_task_only(tmp_path, monkeypatch):
    step, seen = LessonsTrainer.training_step, Counter()

    def watched(self, model, inputs, *given):
        before = copy.deepcopy(model.state_dict())
        loss = step(self, model, inputs, *given)
        names = list(self.lessons)
        for name, head in zip(names, model.heads, strict=True):
            gradients = [weight.grad for weight in head.parameters()]
            if name == inputs["task"]:
                assert all(gradient.abs().sum() > 0 for gradient in gradients)
            else:
                assert all(gradient is None for gradient in gradients)
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
        assert sum(weight.grad is not None for weight in model.encoder.parameters()) > 10
        seen[inputs["task"]] += 1
        return loss

    monkeypatch.setattr(LessonsTrainer, "training_step", watched)
    students = run(tmp_path, max_steps=9, evaluations=1, patience=None)[1]
    assert set(seen) == {"mood", "count"} and seen.total() == 9
    bases = [student.model.base_model for student in students.values()]
    assert bases[0] is bases[1]


def test_a_task_that_never_comes_keeps_its_head(tmp_path):
    """Neither gradient nor weight decay nor momentum: its share is one update of the epoch's nine, and the training stops before."""
    start = two_tasks()["count"].model.classifier.weight
    order = []
    for seed in range(20):
        rows: Any = {"mood": Lengths(40), "count": Lengths(28)}
        order = [name for name, _ in MixedBatches(rows, 8, shares={"mood": 5, "count": 4}, seed=seed)]
        if order[:2] == ["mood", "mood"]:
            break
    assert order[:2] == ["mood", "mood"]
    found = run(tmp_path, seed=seed, max_steps=2, evaluations=1, weight_decay=0.5, warmup_fraction=0.0)[1]
    assert torch.equal(found["count"].model.classifier.weight, start)
    assert not torch.equal(found["mood"].model.classifier.weight, two_tasks()["mood"].model.classifier.weight)


def test_both_tasks_are_learned_and_the_best_mean_is_kept(tmp_path):
    gold = {name: [(1.0, Labels())] for name in OBJECTIVES}
    said, students, lines = run(tmp_path, objectives=gold, epochs=12, learning_rate=3e-3, dropout=0.0, evaluations=12)
    for name in gold:
        losses = [line[f"loss/{name}/labels"] for line in lines if f"loss/{name}/labels" in line]
        assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5]), name
    measured = {line["step"]: line["validation"] for line in lines if "validation" in line}
    best = max(measured, key=lambda step: measured[step]["mean"])
    assert (said.best, said.best_step) == (measured[best]["mean"], best) and best < said.steps
    scores = [measured[best][name] for name in ("mood/accuracy", "count/pearson")]
    assert said.best == pytest.approx(np.mean(scores))
    for (name, whole), score in zip({"mood": MOOD, "count": COUNT}.items(), scores, strict=True):
        task, metric = TASKS[name]
        held_out = whole.select(range(12))
        found = task.measure(logits_of(students[name], held_out), np.asarray(held_out["label"]))
        assert found[metric] == pytest.approx(score, abs=0.02)


# --- what is logged, and what selects


def test_each_term_is_averaged_over_the_updates_of_its_task(tmp_path, monkeypatch):
    monkeypatch.setattr("understudy.training.train.LOGS", 1)  # a line for the whole training
    whole = run(tmp_path / "whole", epochs=1, evaluations=1, learning_rate=1e-9)[2]
    monkeypatch.setattr("understudy.training.train.LOGS", 100)
    single = [line for line in run(tmp_path / "single", epochs=1, evaluations=1, learning_rate=1e-9)[2] if "loss" in line]
    (line,) = [one for one in whole if "loss" in one]
    for name in ("mood/labels", "mood/soft_targets", "count/labels", "count/logit_regression"):
        values = [one[f"loss/{name}"] for one in single if f"loss/{name}" in one]
        assert 0 < len(values) < len(single)
        assert line[f"loss/{name}"] == pytest.approx(np.mean(values), rel=1e-4)


def test_annealing_goes_by_the_progress_of_the_whole_training(tmp_path, monkeypatch):
    shares = []

    class Watched(AnnealedTargets):
        def forward(self, student, teacher, batch):
            shares.append(self.progress)
            return super().forward(student, teacher, batch)

    run(tmp_path, objectives={"mood": [(1.0, Watched())], "count": [(1.0, Watched())]}, precision="float32")
    np.testing.assert_allclose(shares, np.arange(len(shares)) / len(shares))


# --- what must not change the result


@pytest.mark.parametrize(
    "settings",
    [{}, {"batch_size": 2, "accumulation": 4}, {"length_buckets": False}, {"precision": "bfloat16"}],
    ids=lambda one: ",".join(one) or "defaults",
)
def test_stopped_and_resumed_is_uninterrupted(tmp_path, settings):
    whole = run(tmp_path / "whole", **settings)
    for stop_at in (6, 14):  # in the first epoch; in the second, where a task is in the middle of its rows
        with pytest.raises(Stopped):
            run(tmp_path / f"parts {stop_at}", stop_at=stop_at, **settings)
        assert last_whole_checkpoint(tmp_path / f"parts {stop_at}" / "checkpoints"), "it would start anew"
        resumed = run(tmp_path / f"parts {stop_at}", **settings)
        assert resumed[2][0]["step"] > 1, "it started anew"
        assert resumed[2] == whole[2][len(whole[2]) - len(resumed[2]) :]
        assert equal(whole[1], resumed[1])
        assert (resumed[0].best, resumed[0].best_step, resumed[0].steps) == (whole[0].best, whole[0].best_step, whole[0].steps)


def test_patience_goes_by_the_mean(tmp_path):
    said, _, lines = run(tmp_path, learning_rate=1e-7, epochs=30, evaluations=150, patience=6)
    means = [line["validation"]["mean"] for line in lines if "validation" in line]
    assert said.steps == len(means) < 30 * 9 and means.index(max(means)) == len(means) - 7


@pytest.mark.full_length
def test_the_least_number_of_updates_is_for_each_task(tmp_path):
    said, _, lines = run(tmp_path, learning_rate=1e-7, epochs=1, min_updates=25, evaluations=10)
    assert [line["step"] for line in lines if "validation" in line] == [5, 10, 15, 20, 25]  # of 2 × 25, stopped by patience
    assert said.steps == 25


@pytest.mark.parametrize("size", [1, 4])
def test_one_batch_of_eight_is_eight_batches_of_one(tmp_path, monkeypatch, size):
    """By plain steps without dropout, whose result shows every weight of every row."""
    arguments = module.arguments_for
    monkeypatch.setattr(module, "arguments_for", lambda *given, **more: arguments(*given, optim="sgd", **more))
    settings = {"max_steps": 8, "learning_rate": 0.05, "clip_norm": None, "schedule": "constant", "precision": "float32"}
    whole = run(tmp_path / "whole", dropout=0.0, **settings)
    parts = run(tmp_path / "parts", dropout=0.0, batch_size=size, accumulation=8 // size, **settings)
    for name in ("mood", "count"):
        one, other = whole[1][name].model.state_dict(), parts[1][name].model.state_dict()
        for key, value in one.items():
            torch.testing.assert_close(value, other[key], atol=1e-5, rtol=0)


def test_a_checkpoint_holds_every_weight_once(tmp_path):
    with pytest.raises(Stopped):
        run(tmp_path, stop_at=8)
    weights = load_file(Path(last_whole_checkpoint(tmp_path / "checkpoints")) / "model.safetensors")
    assert {name.partition(".")[0] for name in weights} == {"encoder", "heads"}
    encoder = two_tasks()["mood"].model.base_model.state_dict()
    assert {name.removeprefix("encoder.") for name in weights if name.startswith("encoder.")} == set(encoder)
