"""The law of default lengths: on little data of any number of classes, whatever the teacher gives, the student is no worse than alone."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiny import tiny_rows, trained_teacher, write_rows
from understudy import distill, load_recipe
from understudy.models.text_model import TextModel
from understudy.runs import controls
from understudy.runs.plan import Plan
from understudy.runs.preparation import prepare, resolve
from understudy.runs.training import copies, train_stage
from understudy.settings.loading import for_several_tasks, packaged
from understudy.teachers.teacher import logits_of_probabilities
from understudy.training.masked_lm import with_head

ROWS, VALIDATION, NEAR = 300, 200, 0.02
OTHER = ("a", "film", "the", "family", "plot", "and", "of", "year", "one", "jokes", "is", "all")


def toy_rows(classes: int, count: int, seed: int) -> list[dict]:
    """Rows whose class one word among others says: as many of each class as can be, no text twice."""
    draw, rows = random.Random(seed), {}
    while len(rows) < count:
        label = len(rows) % classes
        words = [f"z{'abcdefghij'[label // 10]}{'klmnopqrst'[label % 10]}"] * 2 + draw.choices(OTHER, k=draw.randint(1, 4))
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
                "teacher.models": [write_rows(folder / "teacher.jsonl", [{"text": row["text"], column: said} for row, said in told])],
            }
        return made[classes, form]

    return files


def best(plan: Plan, control: str | None, folder: Path) -> float:
    """Accuracy on validation rows of the student, or of its control, trained as a run trains it."""
    own = plan.first
    students = copies({"": own.student})
    for stage in controls.stages_of(control, plan) if control else plan.stages:
        part, kept = stage.parts[""], {}
        if part.keeps_logits:
            store = own.store(folder / "outputs")
            store.fill(own.teacher, part.rows, device="cpu")
            kept[""] = store.logits(part.rows)
        checkpoints = folder / f"{control}-{stage.stage.name}"
        found = train_stage(stage, {"": own.at(stage.stage)}, students, kept, checkpoints, "toy", "cpu", write=lambda line: None)
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
    ("classes", "recipe", "form"),
    [(77, "hinton", "logits"), (77, "hinton", "one_hot")]  # the softmax sees no more of the others
    + [(77, "tang", form) for form in ("logits", "log_probabilities", "probabilities", "one_hot")]
    # With fewer classes, which are learned sooner: the smallest logits and the largest.
    + [(classes, "tang", form) for classes in (2, 12) for form in ("log_probabilities", "one_hot")]
    + [(2, "hinton", "one_hot")],
)
def test_a_student_of_a_file_is_no_worse_than_alone(recipe, form, classes, toy, tmp_path):
    check(recipe, classes, tmp_path, **toy(classes, form), **{"student": {"kind": "static_embeddings"}})


@pytest.mark.full_length
@pytest.mark.parametrize("recipe", ["tang", "word_vectors_bilstm"])
def test_a_bilstm_of_a_file_is_no_worse_than_alone(recipe, toy, tmp_path):
    small = {"kind": "bilstm", "hidden": 32, "embedding": 64, "feature": 64}
    check(recipe, 12, tmp_path, **toy(12, "one_hot"), student=small)


@pytest.mark.full_length
def test_a_student_of_a_model_is_no_worse_than_alone(tmp_path):
    """A recipe that compares layers, with a tiny teacher."""
    rows = tiny_rows(ROWS + VALIDATION)
    trained_teacher(rows).save(tmp_path / "teacher")
    check(
        "pkd_skip",
        2,
        tmp_path,
        **{
            "data.train": write_rows(tmp_path / "train.jsonl", rows[:ROWS]),
            "data.validation": write_rows(tmp_path / "validation.jsonl", rows[ROWS:]),
            "teacher.models": [str(tmp_path / "teacher")],
        },
    )


@pytest.fixture(scope="module")
def long_world(tmp_path_factory):
    """Files and trained teachers of two tiny tasks, and a pretrained model; made once."""
    folder = tmp_path_factory.mktemp("long")
    for name, more in (("mood", {}), ("likeness", {"pair": True, "number": True})):
        rows = tiny_rows(ROWS + 2 * VALIDATION, **more)
        trained_teacher(rows).save(folder / name / "teacher")
        for split, taken in {"train": rows[:ROWS], "validation": rows[ROWS:-VALIDATION], "test": rows[-VALIDATION:]}.items():
            write_rows(folder / name / f"{split}.jsonl", taken)
    pretrained = with_head(TextModel.load(str(folder / "mood" / "teacher")), 0)
    pretrained.save(folder / "pretrained")
    return folder


def of_task(folder: Path, task: str) -> dict[str, Any]:
    files = {split: str(folder / f"{split}.jsonl") for split in ("train", "validation", "test")}
    return {"data": files, "teacher": {"models": [str(folder / "teacher")]}, "task": task}


@pytest.mark.long
@pytest.mark.full_length
@pytest.mark.parametrize("recipe", sorted(packaged()))
def test_every_default_recipe_is_no_worse_than_alone(recipe, long_world, tmp_path):
    """On test rows, at the recipe's own length; of several tasks in the mean."""
    mood, tiny = of_task(long_world / "mood", "classification"), {}
    if recipe in ("tinybert", "minilm", "well_read"):
        tiny = {"student": {"kind": "narrow", "layers": 2, "width": 16, "heads": 2, "initialize": "random"}}
    elif load_recipe(recipe).student.kind == "bilstm":
        tiny = {"student.hidden": 32, "student.embedding": 64, "student.feature": 64}
    if for_several_tasks(recipe):
        named = {"mood": mood, "likeness": of_task(long_world / "likeness", "similarity")}
        given = {"tasks": [{"name": name, **settings} for name, settings in named.items()]}
    else:
        given = mood
    if recipe == "distilbert":
        given = given | {"teacher": mood["teacher"] | {"pretrained": str(long_world / "pretrained")}}
    settings = given | tiny | {"export": [], "control": ["alone"], "baseline": False}
    facts = distill(load_recipe(recipe, settings), tmp_path / "run", say=None).facts
    gains = [task["gain_over_alone"]["value"] for task in facts.get("tasks", {"": facts}).values()]
    assert sum(gains) / len(gains) >= -NEAR, f"over the labels alone: {gains}"


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
