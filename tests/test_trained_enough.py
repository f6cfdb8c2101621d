"""The law of default lengths: on little data of any number of classes, whatever the teacher gives, the student is no worse than alone."""

import copy
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiny import tiny_rows, trained_teacher, write_rows
from understudy import load_recipe
from understudy.models.text_model import TextModel
from understudy.runs import controls
from understudy.runs.plan import Plan
from understudy.runs.preparation import prepare, resolve
from understudy.runs.training import open_store, train_stage
from understudy.teachers.teacher import logits_of_probabilities

ROWS, VALIDATION, NEAR = 300, 200, 0.02
OTHER = ("a", "film", "the", "family", "plot", "and", "of", "year", "one", "jokes", "is", "all")


def toy_rows(classes: int, count: int, seed: int) -> list[dict]:
    """Rows whose class one word among others says: as many of each class as can be, no text twice."""
    draw, rows = random.Random(seed), {}
    while len(rows) < count:
        label = len(rows) % classes
        words = [f"z{'abcdefghij'[label // 10]}{'klmnopqrst'[label % 10]}"] * 2 + draw.choices(
            OTHER, k=draw.randint(1, 4)
        )
        draw.shuffle(words)
        rows.setdefault(" ".join(words), {"text": " ".join(words), "label": f"class {label:02d}"})
    return list(rows.values())


def answers(form: str, labels: np.ndarray, classes: int) -> list[list[float]]:
    """What a good teacher's file may hold: one that is sure to different degrees, and wrong in one row of fifty."""
    draw = np.random.default_rng(0)
    right = np.where(draw.random(len(labels)) < 0.02, draw.integers(classes, size=len(labels)), labels)
    hot = np.eye(classes)[right]
    if form == "one_hot":
        return hot.tolist()
    logits = 6.0 * hot + draw.normal(size=hot.shape)
    if form == "logits":
        return logits.tolist()
    if form == "log_probabilities":  # of a sure model: nothing is centred, and most are far below 0
        logits = 3 * logits
        return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).tolist()
    odds = np.exp(logits)
    return (odds / odds.sum(1, keepdims=True)).tolist()


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """classes, form → files of a toy task, and a teacher's file; made once."""
    made: dict[tuple[int, str], dict[str, Any]] = {}

    def files(classes: int, form: str) -> dict[str, Any]:
        if (classes, form) not in made:
            folder = tmp_path_factory.mktemp(f"toy_{classes}_{form}")
            rows = toy_rows(classes, ROWS + VALIDATION, seed=classes)
            random.Random(0).shuffle(rows)
            train, validation = rows[:ROWS], rows[ROWS:]
            names = sorted({row["label"] for row in train})
            labels = np.asarray([names.index(row["label"]) for row in rows])
            column = "logits" if form.startswith("log") else "probabilities"
            told = zip(rows, answers(form, labels, len(names)), strict=True)
            made[classes, form] = {
                "data.train": write_rows(folder / "train.jsonl", train),
                "data.validation": write_rows(folder / "validation.jsonl", validation),
                "teacher.models": [
                    write_rows(folder / "teacher.jsonl", [{"text": row["text"], column: said} for row, said in told])
                ],
            }
        return made[classes, form]

    return files


def best(plan: Plan, control: str | None, folder: Path) -> float:
    """Accuracy on validation rows of the student, or of its control, trained as a run trains it."""
    stages = [(stage, plan.stage_rows(stage)) for stage in plan.recipe.stages]
    student = TextModel(copy.deepcopy(plan.student.model), plan.student.tokenizer, plan.student.max_length)
    for stage, rows in controls.stages_of(control, plan) if control else stages:
        kept = None
        if plan.keeps_logits(stage):
            store = open_store(plan, folder / "outputs")
            store.fill(plan.teacher, rows, device="cpu")
            kept = store.logits(rows)
        found = train_stage(
            plan, student, stage, rows, kept, folder / f"{control}-{stage.name}", "toy", "cpu", write=lambda line: None
        )  # fmt: skip
    return found.best


ALONE: dict[tuple[int, str], float] = {}


def check(recipe: str, classes: int, tmp_path: Path, **settings: Any) -> None:
    plan = prepare(resolve(load_recipe(recipe, settings)))
    key = (classes, plan.recipe.student.kind)  # the recipes that share one have the same control
    if key not in ALONE:
        ALONE[key] = best(plan, "alone", tmp_path)
    student = best(plan, None, tmp_path)
    assert student >= ALONE[key] - NEAR, f"{student:.3f}, alone {ALONE[key]:.3f}"
    assert ALONE[key] > 0.8, "a toy task that cannot be learned shows nothing"


@pytest.mark.full_length
@pytest.mark.parametrize(
    ("recipe", "form"),
    [("hinton", "logits"), ("hinton", "one_hot")]  # the softmax sees no more of the others
    + [("tang", form) for form in ("logits", "log_probabilities", "probabilities", "one_hot")],
)
@pytest.mark.parametrize("classes", [2, 12, 77])
def test_a_student_of_a_file_is_no_worse_than_alone(recipe, form, classes, toy, tmp_path):
    check(recipe, classes, tmp_path, **toy(classes, form), **{"student": {"kind": "static_embeddings"}})


@pytest.mark.full_length
@pytest.mark.parametrize("recipe", ["tang", "word_vectors_bilstm"])
def test_a_bilstm_of_a_file_is_no_worse_than_alone(recipe, toy, tmp_path):
    small = {"kind": "bilstm", "hidden": 32, "embedding": 64, "feature": 64}
    check(recipe, 12, tmp_path, **toy(12, "one_hot"), student=small)


@pytest.mark.full_length
@pytest.mark.parametrize("recipe", ["pkd_skip", "minilm"])
def test_a_student_of_a_model_is_no_worse_than_alone(recipe, tmp_path):
    """Recipes that look inside the teacher: with a tiny one."""
    rows = tiny_rows(ROWS + VALIDATION)
    trained_teacher(rows).save(tmp_path / "teacher")
    files = {"data.train": write_rows(tmp_path / "train.jsonl", rows[:ROWS]), "teacher.models": [str(tmp_path / "teacher")],
             "data.validation": write_rows(tmp_path / "validation.jsonl", rows[ROWS:])}  # fmt: skip
    narrow = {"student": {"kind": "narrow", "layers": 2, "width": 16, "heads": 2, "initialize": "random"}}
    check(recipe, 2, tmp_path, **files, **(narrow if recipe == "minilm" else {}))


def test_probabilities_come_back_from_their_logits():
    given = np.random.default_rng(0).dirichlet(np.ones(12), size=50).clip(1e-3)
    given /= given.sum(1, keepdims=True)
    logits = logits_of_probabilities(given)
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(1, keepdims=True), given, rtol=1e-6)
    np.testing.assert_allclose(logits.mean(1), 0, atol=1e-12)


@pytest.mark.parametrize("classes", [2, 12, 77])
def test_certain_labels_become_logits_within_reach(classes):
    logits = logits_of_probabilities(np.eye(classes))
    assert np.abs(logits).max() < 10 and (logits.argmax(1) == np.arange(classes)).all()
