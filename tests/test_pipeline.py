"""A whole run: what the student and its controls are given, what is kept for other runs, and what a kill costs."""

import copy
import json
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
import torch

from tiny import LABELS, family, tiny_rows, tiny_teacher, write_rows
from understudy import parts
from understudy.data import examples
from understudy.data.tables import identity
from understudy.errors import ModelError, RecipeError
from understudy.evaluation.calibration import fit_temperature, reliability
from understudy.evaluation.predictions import PREDICTIONS, read_predictions
from understudy.models.text_model import TextModel
from understudy.programs.distill import distill
from understudy.programs.evaluate import evaluate
from understudy.programs.finetune import finetune
from understudy.programs.teach import teach
from understudy.runs import checks, controls, made_rows, proof, training
from understudy.runs.plan import Plan
from understudy.runs.preparation import prepare, resolve
from understudy.settings.base import StudentPart
from understudy.settings.finetune import FinetuneSettings
from understudy.settings.loading import load_recipe
from understudy.settings.recipe import Recipe
from understudy.settings.stage import TrainSettings
from understudy.teachers.capture import logits_of
from understudy.teachers.store import Store

pytestmark = pytest.mark.usefixtures("quick")
SMALL = {"student": {"kind": "bilstm", "hidden": 8, "embedding": 8, "feature": 8, "vocabulary": "words", "min_count": 1}}


def recipe(world, name="hinton", **changes) -> Recipe:
    train = {"epochs": 3, "batch_size": 8, "learning_rate": 1e-2}
    keys = world.keys | SMALL | {f"stages.0.train.{name}": value for name, value in train.items()}
    return load_recipe(name, keys | {key.replace("__", "."): value for key, value in changes.items()})


def weights(run, name="student") -> bytes:
    return (run.folder / name / "model.safetensors").read_bytes()


def metrics(run, name: str) -> list[dict]:
    lines = map(json.loads, (run.folder / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines if line["model"] == name]


@pytest.fixture
def trainings(monkeypatch) -> list[dict]:
    """What every training of this test was given."""
    found, whole = [], training.train

    def noted(lessons, settings, shared):
        (lesson,) = lessons.values()
        network = lesson.model.model
        before = {name: value.clone() for name, value in network.state_dict().items()}
        trained = whole(lessons, settings, shared)
        found.append(
            {
                "before": before,
                "after": network.state_dict(),
                "rows": lesson.examples,
                "objectives": lesson.objectives,
                "settings": settings,
                "steps": trained.steps,
                "metric": lesson.metric,
                "name": shared.name,
                "seed": shared.seed,
                "teacher": lesson.teacher,
            }
        )
        return trained

    monkeypatch.setattr(training, "train", noted)
    return found


# --- the controls


def test_controls_start_alike_and_make_as_many_updates(world, tmp_path, trainings):
    distill(recipe(world, control=["alone", "pseudo_labels"], data__transfer=world.transfer), tmp_path / "run")
    student, alone, pseudo = trainings
    assert [one["name"] for one in trainings] == ["student", "student alone", "student pseudo labels"]
    assert student["steps"] == alone["steps"] == pseudo["steps"] == 3 * 13  # 100 rows with the transfer rows
    for one in (alone, pseudo):
        assert all(torch.equal(one["before"][name], value) for name, value in student["before"].items())
        assert (one["seed"], one["metric"]) == (student["seed"], student["metric"])
        for setting in ("batch_size", "learning_rate", "weight_decay", "schedule", "evaluations"):
            assert getattr(one["settings"], setting) == getattr(student["settings"], setting)
    assert len(student["rows"]) == len(pseudo["rows"]) == 100 and len(alone["rows"]) == 60


def test_each_control_hears_what_it_should(world, tmp_path, trainings):
    distill(recipe(world, control=["alone", "pseudo_labels"], data__transfer=world.transfer), tmp_path / "run")
    student, alone, pseudo = trainings
    assert [(weight, type(one).__name__) for weight, one in student["objectives"]] == [(0.5, "Labels"), (0.5, "SoftTargets")]
    ((weight, only),) = alone["objectives"]
    assert weight > 0 and only.target == "gold" and alone["rows"].teacher_logits is None
    assert (np.asarray(alone["rows"].labels) >= 0).all()
    assert [(weight, one.target) for weight, one in pseudo["objectives"]] == [(0.5, "gold"), (0.5, "teacher")]
    # All else is the student's: the same rows in the same order, with the same teacher.
    np.testing.assert_array_equal(pseudo["rows"].teacher_logits, student["rows"].teacher_logits)


def test_a_control_is_trained_once_for_the_same_setting(world, tmp_path, trainings):
    said = []
    first = distill(recipe(world), tmp_path / "first", say=said.append)
    second = distill(recipe(world, stages__0__objectives__1__weight=0.9), tmp_path / "second", say=said.append)
    assert [one["name"] for one in trainings] == ["student", "student alone", "student"]
    assert any("The control 'alone' was trained before with these settings" in line for line in said)
    assert weights(first, "student_alone") == weights(second, "student_alone")
    assert metrics(first, "student") != metrics(second, "student")
    assert metrics(first, "student_alone") == metrics(second, "student_alone") != []
    for run in (first, second):
        assert run.facts["models"]["student_alone"]["seconds"] == first.facts["models"]["student_alone"]["seconds"]


def shelf_key(built: Recipe, control: str = "alone") -> str:
    plan = prepare(resolve(built))
    return controls.key(control, plan, controls.stages_of(control, plan), "cpu")


@pytest.fixture(scope="module")
def plan_of_controls(world):
    return prepare(resolve(recipe(world))).first


def key_of(plan, control="alone", device="cpu", **changes) -> str:
    """The key of a plan whose recipe has other settings; the students in it stay."""
    recipe = plan.recipe.model_copy(update=changes)
    plan = Plan(recipe, {"": replace(plan, recipe=recipe)})
    return controls.key(control, plan, controls.stages_of(control, plan), device)


def test_a_task_of_the_users_own_is_known_by_its_code(world, tmp_path):
    """An edited task is another one: its controls are trained anew."""
    file = tmp_path / "mine.py"
    code = "from understudy.tasks.classification import Classification\nclass Mine(Classification):\n    'Mine.'\n"
    file.write_text(code)
    first = shelf_key(recipe(world, task=f"{file}:Mine"))
    assert shelf_key(recipe(world, task=f"{file}:Mine")) == first
    file.write_text(code + "    calibrated = False\n")
    assert shelf_key(recipe(world, task=f"{file}:Mine")) != first


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1},
        {"student__hidden": 9},
        {"stages__0__train__epochs": 2},
        {"stages__0__objectives__0__smoothing": 0.1},
        {"data__train_rows": 40},
        {"metric": "macro_f1"},
        {"data__max_length": 16},
        {"student__dropout": 0.7},
    ],
    ids=lambda one: next(iter(one)),
)
def test_another_setting_is_another_control(world, changed):
    assert shelf_key(recipe(world, **changed)) != shelf_key(recipe(world))


def another(value, annotation):
    """A value of the same kind that is not this one; numbers are halved, words are taken from the alternatives."""
    options = [one for part in (annotation, *get_args(annotation)) for one in get_args(part) if isinstance(one, str)]
    if options:
        return next(one for one in options if one != value)
    if isinstance(value, bool):
        return not value
    return value / 2 if isinstance(value, float) else value + 1 if isinstance(value, int) else 3


@pytest.mark.parametrize("kind", parts.kinds("students"))
def test_every_setting_of_every_student_is_in_the_key(plan_of_controls, kind):
    """The untrained student is the same one throughout: not even a setting that changes none of its weights is left out."""
    cls = parts.part("students", kind)
    fields = parts.settings_of(cls).model_fields
    default = {name: "some/model" if name == "model" else field.default for name, field in fields.items()}
    made = [{**default, name: another(default[name], fields[name].annotation)} for name in fields]
    students = [StudentPart.model_construct(kind=kind, **settings) for settings in (default, *made)]
    for control in ("alone", "pseudo_labels"):
        keys = [key_of(plan_of_controls, control, student=one) for one in students]
        assert len(set(keys)) == len(fields) + 1, [name for name, key in zip(fields, keys[1:], strict=True) if keys.count(key) > 1]


@pytest.mark.parametrize("name", [name for name in TrainSettings.model_fields if name != "max_steps"])
def test_every_setting_of_the_training_is_in_the_key(plan_of_controls, name):
    """`max_steps` overrides epochs, and so is set in what a control trains by; it is tried with another number of updates."""
    (stage,) = plan_of_controls.recipe.stages
    value = another(getattr(stage.train, name), TrainSettings.model_fields[name].annotation)
    changed = stage.model_copy(update={"train": stage.train.model_copy(update={name: value})})
    for control in ("alone", "pseudo_labels"):
        assert key_of(plan_of_controls, control, stages=(changed,)) != key_of(plan_of_controls, control)


def test_what_else_decides_a_control_is_in_its_key(plan_of_controls, world, monkeypatch, tmp_path):
    plan, first = plan_of_controls, key_of(plan_of_controls)
    (stage,) = plan.recipe.stages
    steps = stage.model_copy(update={"train": stage.train.model_copy(update={"max_steps": 5})})
    relabelled = plan.rows.train.map(lambda row: {"label": 1 - row["label"]})
    backwards = plan.rows.train.select(range(len(plan.rows.train))[::-1])
    keys = [
        key_of(plan, stages=(steps,)),
        key_of(plan, seed=1),
        key_of(plan, metric="macro_f1"),
        key_of(plan, device="cuda"),
        key_of(replace(plan, autocast=not plan.autocast)),
        key_of(replace(plan, student=tiny_teacher())),
        *(key_of(replace(plan, rows=replace(plan.rows, train=rows))) for rows in (relabelled, backwards)),
        key_of(replace(plan, rows=replace(plan.rows, validation=plan.rows.train))),
    ]
    config = plan.student.model.config
    for name, value in {"dropout": 0.7, "embedding_scale": 0.1}.items():
        other = copy.deepcopy(plan.student.model)
        setattr(other.config, name, value)
        assert getattr(config, name) != value
        keys.append(key_of(replace(plan, student=replace(plan.student, model=other))))
    monkeypatch.setenv("WORLD_SIZE", "2")
    keys.append(key_of(plan))
    assert first not in keys and len(set(keys)) == len(keys)


def test_own_code_that_was_changed_is_another_control(plan_of_controls, tmp_path):
    code = tmp_path / "mine.py"
    body = "from understudy.students.bilstm import BiLSTM\nclass Mine(BiLSTM):\n    width = {}\n"
    keys = []
    for width in (1, 2):
        code.write_text(body.format(width))
        keys.append(key_of(plan_of_controls, student=StudentPart(kind=f"{code}:Mine")))
    assert len({*keys, key_of(plan_of_controls)}) == 3


@pytest.mark.parametrize(
    "changed",
    [
        {"stages__0__objectives__1__weight": 0.9},
        {"stages__0__objectives__1__temperature": 4.0},
        {"control": []},
        {"teacher__dtype": "float16"},
    ],
    ids=lambda one: next(iter(one)),
)
def test_what_alone_never_sees_is_no_other_control(world, changed):
    assert shelf_key(recipe(world, **changed)) == shelf_key(recipe(world))


def test_alone_does_not_hang_on_the_teacher_but_pseudo_labels_do(world, tmp_path, trainings):
    other = write_rows(
        tmp_path / "said.jsonl", [{"text": row["text"], "logits": [0, 3] if row["label"] == "good" else [2, 0]} for row in tiny_rows(160)]
    )
    settings = {"control": ["alone", "pseudo_labels"], "data__max_length": 32}
    first = distill(recipe(world, **settings), tmp_path / "first")
    second = distill(recipe(world, **settings, teacher__models=[other]), tmp_path / "second")
    assert [one["name"] for one in trainings] == ["student", "student alone", "student pseudo labels", "student", "student pseudo labels"]
    assert weights(first, "student_alone") == weights(second, "student_alone")
    assert first.facts["models"]["student_alone"]["quality"] == second.facts["models"]["student_alone"]["quality"]


def test_where_the_teacher_is_right_pseudo_labels_alone_are_labels(world, tmp_path):
    """The tiny teacher knows every row, so that its argmax is the label."""
    only = [{"kind": "soft_targets", "weight": 1.0}]
    run = distill(recipe(world, control=["alone", "pseudo_labels"], stages__0__objectives=only), tmp_path / "run")
    assert run.facts["models"]["teacher"]["quality"]["accuracy"]["value"] == 1
    assert weights(run, "student_alone") == weights(run, "student_pseudo_labels") != weights(run)


def test_the_gain_is_measured_against_each_control(world, tmp_path):
    facts = distill(recipe(world, control=["alone", "pseudo_labels"]), tmp_path / "run").facts
    value = {name: one["quality"]["accuracy"]["value"] for name, one in facts["models"].items()}
    for control in ("alone", "pseudo_labels"):
        assert facts[f"gain_over_{control}"]["value"] == pytest.approx(value["student"] - value[f"student_{control}"])
    assert facts["kept_fraction"] == pytest.approx(value["student"] / value["teacher"])


def test_without_a_control_nobody_knows(world, tmp_path, understudy):
    said = understudy(*world.distill("hinton", tmp_path / "run", "--no-control", "--set", "stages.0.train.max_steps=2"))
    assert said.code == 0
    words = " ".join(said.out.split())
    assert "unknown" in words and "student alone" not in said.out
    assert "unknown" in (tmp_path / "run" / "report.html").read_text()
    facts = json.loads((tmp_path / "run" / "facts.json").read_text())
    assert facts["gain_over_alone"] is None and "student_alone" not in facts["models"]
    assert not (tmp_path / ".controls").exists()


def counted_again(run) -> None:
    """Every figure of the facts that single answers decide, from the answers that the run folder holds."""
    facts, lines = run.facts, read_predictions(run.folder / PREDICTIONS)
    assert [line["identity"] for line in lines] == [identity(line["text"], None) for line in lines] and len(lines) == 30
    assert lines[0]["models"].keys() == facts["models"].keys()
    for name, entry in facts["models"].items():
        said = [line["models"][name] for line in lines]
        right = np.array([one["label"] == line["label"] for one, line in zip(said, lines, strict=True)])
        assert right.mean() == entry["quality"]["accuracy"]["value"]
        for kind, error in (("probability", "ece"), ("scaled_probability", "ece_scaled")):
            sure = np.array([one[kind] for one in said])
            bins = reliability(sure, right)
            again = sum(one["rows"] * abs(one["accuracy"] - one["confidence"]) for one in bins) / len(lines)
            assert again == pytest.approx(entry["calibration"][error], abs=1e-5)
    same = [line["models"]["student"]["label"] == line["models"]["teacher"]["label"] for line in lines]
    assert np.mean(same) == facts["agreement_with_teacher"]


def test_the_folder_holds_what_every_model_said(world, tmp_path):
    run = distill(recipe(world), tmp_path / "run")
    counted_again(run)
    plan = prepare(resolve(recipe(world))).first
    for name in run.facts["models"].keys() - {"ngrams"}:  # the baseline is no folder
        entry = run.facts["models"][name]
        model = TextModel.load(world.teacher if name == "teacher" else run.folder / name)
        logits = logits_of(model, plan.rows.validation, device="cpu")
        # The two were run in other batches, which moves logits a little.
        fitted = fit_temperature(logits, np.asarray(plan.rows.validation["label"]))
        assert entry["calibration"]["temperature"] == pytest.approx(fitted, rel=1e-3)
        assert entry["calibration"]["fitted_on"] == "validation"
    before = (run.folder / PREDICTIONS).read_bytes()
    assert (distill(recipe(world), tmp_path / "again").folder / PREDICTIONS).read_bytes() == before


def test_a_temperature_that_was_fitted_on_the_test_says_so(world, tmp_path):
    run = distill(recipe(world, data__test=None, control=[], stages__0__train__max_steps=2), tmp_path / "run")
    assert run.facts["data"]["test_is_validation"]
    assert {entry["calibration"]["fitted_on"] for entry in run.facts["models"].values()} == {"test"}
    counted_again(run)


# --- stages


def test_stages_follow_one_another(world, tmp_path, trainings):
    train = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-2}
    stages = [
        {"name": "soft", "rows": ["transfer"], "objectives": [{"kind": "logit_regression"}], "train": train},
        {"name": "hard", "rows": ["train"], "objectives": [{"kind": "labels"}], "train": train | {"epochs": 2}},
    ]
    run = distill(recipe(world, stages=stages, data__transfer=world.transfer), tmp_path / "run")
    soft, hard, *alone = trainings
    assert (len(soft["rows"]), len(hard["rows"])) == (40, 60) and hard["rows"].teacher_logits is None
    assert all(torch.equal(soft["after"][name], value) for name, value in hard["before"].items())
    assert [one["steps"] for one in alone] == [soft["steps"], hard["steps"]] == [5, 16]
    assert all(torch.equal(alone[0]["before"][name], value) for name, value in soft["before"].items())
    assert {line["stage"] for line in metrics(run, "student")} == {"soft", "hard"}


# --- the same again


def test_the_recipe_of_a_run_gives_the_same_run(world, tmp_path):
    first = distill(recipe(world), tmp_path / "first")
    second = distill(load_recipe(first.folder / "recipe.yaml"), tmp_path / "second", cache=tmp_path / "other")
    for name in ("student", "student_alone"):
        assert weights(first, name) == weights(second, name)
        assert metrics(first, name) == metrics(second, name)
    assert (first.folder / "recipe.yaml").read_text() == (second.folder / "recipe.yaml").read_text()
    assert first.facts["models"]["student"]["quality"] == second.facts["models"]["student"]["quality"]
    assert weights(first) != weights(distill(recipe(world, seed=1, control=[]), tmp_path / "third"))


def test_law_each_row_is_sent_to_the_teacher_once(world, tmp_path, sent):
    """What is checked before the run begins is measured after it, and is not computed again; neither is it on going on."""
    whole = recipe(world, data__transfer=world.transfer, control=["pseudo_labels"])
    distill(whole, tmp_path / "run")
    assert len(sent) == len(set(sent)) == 60 + 40 + 30 + 30
    (tmp_path / "run" / "facts.json").unlink()
    distill(whole, tmp_path / "run", resume=True)
    assert len(sent) == 160
    (tmp_path / "run" / "facts.json").unlink()
    next((tmp_path / "run" / "teacher_outputs").glob("shard-*")).unlink()
    distill(whole, tmp_path / "run", resume=True)
    assert len(sent) > len(set(sent)) == 160 and len(sent) <= 320


def test_law_rows_are_tokenized_once_a_run_for_each_view(world, tmp_path, monkeypatch):
    """For student and controls, for training, selection and measuring."""
    seen, whole = Counter(), examples._tokenized

    def tokenized(model, rows):
        if "identity" in rows.column_names:
            view = (model.fingerprint["tokenizer"], model.max_length)
            seen.update((view, identity) for identity in rows["identity"])
        return whole(model, rows)

    monkeypatch.setattr(examples, "_tokenized", tokenized)
    distill(recipe(world, data__transfer=world.transfer, control=["alone", "pseudo_labels"]), tmp_path / "run")
    assert set(seen.values()) == {1} and len(seen) == 2 * 160, "by the student's tokenizer, and by the teacher's"


def test_one_store_serves_two_students(world, tmp_path, monkeypatch):
    store = str(tmp_path / "outputs")
    assert teach(recipe(world), store) == {"computed": 120, "kept": 120}
    shared = distill(recipe(world, teacher__store=store, control=[]), tmp_path / "shared")
    own = distill(recipe(world, control=[]), tmp_path / "own")
    assert weights(shared) == weights(own)
    asked = []
    monkeypatch.setattr(Store, "add", lambda self, identities, logits: asked.extend(identities))
    distill(recipe(world, teacher__store=store, control=[], student__hidden=9), tmp_path / "other")
    assert not asked


def test_half_precision_in_the_store_is_near(world, tmp_path):
    runs = [distill(recipe(world, teacher__dtype=dtype, control=[]), tmp_path / dtype) for dtype in ("float32", "float16")]
    sizes = [
        sum(
            pa.ipc.open_file(shard).read_all()["logits"].combine_chunks().flatten().nbytes
            for shard in run.folder.glob("teacher_outputs/shard*")
        )
        for run in runs
    ]
    assert sizes[0] == 2 * sizes[1]
    losses = [[line["loss"] for line in metrics(run, "student") if "loss" in line] for run in runs]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.01)


# --- preparing


def test_preparing_writes_nothing(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = prepare(resolve(recipe(world, stages__0__train__learning_rate=None)))
    plan = whole.first
    assert not list(tmp_path.iterdir())
    assert whole.stages[0].length.updates == 24 and plan.rows.label_names == LABELS
    assert plan.recipe.stages[0].train.learning_rate == 1e-3  # of the kind of student, where the recipe leaves it open


def test_a_finished_run_is_left_alone(world, tmp_path, trainings):
    run = distill(recipe(world, control=[]), tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    distill(recipe(world, control=[]), tmp_path / "run", resume=True)
    assert {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")} == before and len(trainings) == 1


# --- kills

KILLED = """
import os, signal, sys
import understudy.teachers.store as store
from understudy.cli import main
import {module}
store.SHARD_ROWS = 16
whole, left = {call}, [{count}]

def killed(*given, **settings):
    left[0] -= 1
    if left[0] == 0:
        {before}
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*given, **settings)

{call} = killed
main()
"""


def killed(words: list, **place) -> None:
    """Run the command in a process that is killed, as by `kill -9`, at a certain call."""
    code = KILLED.format(**{"before": "pass"} | place)
    said = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False)
    assert said.returncode == -signal.SIGKILL, said.stderr


def test_killed_while_teaching_and_while_training_then_resumed(world, tmp_path, understudy):
    """kill -9 in the middle of a shard, then in the middle of a checkpoint; the student is that of an uninterrupted run."""
    words = ["--student", "bilstm", "--set", "student.hidden=8", "--set", "student.embedding=8", "--set", "stages.0.train.epochs=4"]
    run, whole = (world.distill("hinton", tmp_path / folder, *words) for folder in ("run", "whole/run"))
    assert understudy(*whole).code == 0

    killed(run, module="pyarrow.ipc", call="pyarrow.ipc.new_file", count=3, before="given[0].write(b'half a sh'); given[0].flush()")
    outputs = tmp_path / "run" / "teacher_outputs"
    assert len(list(outputs.glob("shard-*"))) == 2 and len(list(outputs.glob(".shard-*.new"))) == 1

    trainer = "understudy.training.trainer"
    killed([*run, "--resume"], module=trainer, call=f"{trainer}.DistillationTrainer._save_optimizer_and_scheduler", count=5)
    checkpoints = sorted(path.name for path in (tmp_path / "run" / "checkpoints" / "student-distillation").iterdir())
    assert len(checkpoints) >= 2 and not (tmp_path / "run" / "student").exists()

    said = understudy(*run, "--resume")
    assert said.code == 0, said.err
    for name in ("student", "student_alone"):
        for file in ("model.safetensors", "config.json", "tokenizer.json"):
            assert (tmp_path / "run" / name / file).read_bytes() == (tmp_path / "whole" / "run" / name / file).read_bytes()
    resumed, uninterrupted = (json.loads((folder / "run" / "facts.json").read_text()) for folder in (tmp_path, tmp_path / "whole"))
    assert resumed["models"]["student"]["quality"] == uninterrupted["models"]["student"]["quality"]
    assert resumed["gain_over_alone"] == uninterrupted["gain_over_alone"]
    assert not (tmp_path / "run" / "checkpoints").exists()


class Stopped(Exception):
    pass


@pytest.mark.parametrize("moment", ["student saved", "control trained", "measuring"])
def test_stopped_between_trainings_and_resumed(world, tmp_path, monkeypatch, moment):
    whole = distill(recipe(world), tmp_path / "whole" / "run")
    trained = []

    def stop(*_, **__):
        raise Stopped

    train = training.train

    def counted(lessons, settings, shared):
        trained.append(shared.name)
        return train(lessons, settings, shared)

    monkeypatch.setattr(training, "train", counted)
    saved = training.Trainings._saved

    def saved_only_the_student(self, name, *given):
        return saved(self, name, *given) if name == "student" else stop()

    place = {
        "student saved": (training.Trainings, "control", stop),
        "control trained": (training.Trainings, "_saved", saved_only_the_student),
        "measuring": (proof, "compare", stop),
    }
    with monkeypatch.context() as patch:
        patch.setattr(*place[moment])
        with pytest.raises(Stopped):
            distill(recipe(world), tmp_path / "run")
    run = distill(recipe(world), tmp_path / "run", resume=True)
    assert trained == ["student", "student alone"], "something was trained twice, or not at all"
    for name in ("student", "student_alone"):
        assert weights(run, name) == weights(whole, name) and metrics(run, name) == metrics(whole, name)
        assert run.facts["models"][name]["seconds"] > 0


# --- what goes on inside


def test_every_layer_map_is_said_by_the_name_of_its_objective(world):
    """Two objectives of a kind, and those on blended rows."""
    stage = {"kind": "hidden_states"}
    built = recipe(
        world,
        "mixkd",
        student={"kind": "teacher_layers", "count": 2},
        stages__0__objectives=[stage | {"layers": [[1, 1]]}, stage | {"layers": [[2, 3]]}, {"kind": "labels"}],
        stages__0__mixup__objectives=[{"kind": "patient", "layers": "final"}],
    )
    assert prepare(resolve(built)).stages[0].parts[""].layer_maps() == {
        "hidden_states": [(1, 1)],
        "hidden_states_2": [(2, 3)],
        "mixed_patient": [(2, 3)],
    }


def test_layers_that_are_not_there_are_said_before_rows_are_made(world, tmp_path):
    said: list[str] = []
    objectives = [{"kind": "patient", "layers": [[1, 9]]}]
    built = recipe(
        world,
        "tang_augmented",
        student={"kind": "teacher_layers"},
        stages__0__objectives=objectives,
        stages__0__augment={"copies": 2, "steps": [{"kind": "masking"}]},
    )
    with pytest.raises(RecipeError, match="the teacher has no layer 9"):
        prepare(resolve(built), said.append)
    assert not any("rows made" in line for line in said)


def test_rows_made_are_in_the_vocabulary_and_kept_for_going_on(world, tmp_path, monkeypatch):
    """Words that only augmentation brings in are cut as the teacher cuts them; a run that goes on makes none anew."""
    vectors = tmp_path / "near.txt"
    vectors.write_text("film 1 0 0\njokes 1 0.1 0\nthinner 1 0 0.1\n", "utf-8")
    steps = [{"kind": "word_replacement", "vectors": str(vectors), "candidates": 2}]
    built = recipe(
        world,
        "minilm",
        student={"kind": "narrow", "layers": 2, "width": 8, "heads": 2},
        control=[],
        stages__0__augment={"copies": 2, "steps": steps},
        stages__1__train__max_steps=2,
    )
    plan = prepare(resolve(built)).first
    made = plan.augmented["relations"]["text"][:]
    words = {word for text in made for word in text.split()}
    assert words - {word for text in plan.rows.texts for word in text.split()}, "nothing new was brought in"
    own, other = (one.tokenizer(made)["input_ids"] for one in (plan.student, plan.teacher.model))
    assert [*map(len, own)] == [*map(len, other)]
    held_out = {*plan.rows.validation["identity"], *plan.rows.test["identity"]}
    assert not held_out & {*plan.augmented["relations"]["identity"]}

    def stopped(*_, **__):
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(training, "train_stage", stopped)
        with pytest.raises(Stopped):
            distill(built, tmp_path / "run")
    monkeypatch.setattr(made_rows, "augmented", stopped)
    assert distill(built, tmp_path / "run", resume=True).finished
    assert prepare(resolve(built), run_folder=tmp_path / "run").first.augmented["relations"][:] == plan.augmented["relations"][:]


def test_augmentation_that_changes_nothing_is_refused(world, tmp_path):
    vectors = tmp_path / "far.txt"
    vectors.write_text("elsewhere 1 0 0\nnowhere 1 0.1 0\n", "utf-8")
    steps = [{"kind": "word_replacement", "vectors": str(vectors)}]
    with pytest.raises(RecipeError, match="stage distillation: augment changes none of 60 rows"):
        prepare(resolve(recipe(world, stages__0__augment={"copies": 2, "steps": steps})))


def test_first_tokens_are_compared_whatever_the_tokens_are(world, tmp_path):
    """`patient` of the first token needs no common tokens; the mean over tokens does."""
    student = {"kind": "narrow", "layers": 2, "width": 8, "heads": 2, "vocabulary": "characters"}
    one = {"kind": "patient", "layers": [[1, 1]]}
    built = recipe(world, "pkd_skip", student=student, control=[], stages__0__objectives=[{"kind": "labels"}, one])
    assert distill(built, tmp_path / "run").finished
    built = recipe(world, "pkd_skip", student=student, stages__0__objectives=[{"kind": "labels"}, one | {"pooled": "mean"}])
    with pytest.raises(RecipeError, match="tokenize texts differently"):
        prepare(resolve(built))


def test_tokens_of_rows_that_one_of_both_cuts_short(world, tmp_path):
    small = TextModel.load(world.teacher, max_length=6)
    small.tokenizer.model_max_length = 6
    small.save(tmp_path / "small")
    built = recipe(world, "minilm", student={"kind": "pretrained", "model": str(tmp_path / "small")})
    with pytest.raises(RecipeError, match=r"the teacher reads at most \d+ tokens of a row and the student 6: set data.max_length=6"):
        prepare(resolve(built))
    again = recipe(world, "minilm", student={"kind": "pretrained", "model": str(tmp_path / "small")}, data__max_length=6)
    assert prepare(resolve(again)).first.student.max_length == 6


def test_attention_of_an_unknown_family_on_blended_rows(world, tmp_path, monkeypatch):
    family("RoFormer").save(tmp_path / "roformer")
    monkeypatch.setattr(checks, "check_teacher", lambda *_: None)  # it learned nothing
    built = recipe(
        world,
        "mixkd",
        teacher__models=[str(tmp_path / "roformer")],
        student={"kind": "narrow"},
        stages__0__mixup__objectives=[{"kind": "attention_scores", "layers": "final"}],
    )
    with pytest.raises(ModelError, match="RoFormerSelfAttention has queries and keys, but"):
        prepare(resolve(built))


def chain(world) -> Recipe:
    """teacher → assistant → student."""
    built = recipe(world, "teacher_assistant", control=["alone", "pseudo_labels"])
    train = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2}
    stages = [stage.model_dump(mode="json") for stage in built.stages]
    for stage, settings in zip(stages, (train, train | {"epochs": 3}), strict=True):
        stage["train"] = settings
    return load_recipe("teacher_assistant", built.model_dump(mode="json") | {"stages": stages})


def test_the_student_hears_the_assistant_and_starts_anew(world, tmp_path, trainings):
    said = []
    distill(chain(world), tmp_path / "run", say=said.append)
    assistant, student, alone, *pseudo = trainings
    assert "bert" in next(iter(assistant["before"])) and "bert" not in next(iter(student["before"]))
    assert any("Training the assistant of stage assistant (teacher_layers" in line for line in said)
    # The student's targets are the assistant's answers after its training, by row.
    assert not np.allclose(student["rows"].teacher_logits, assistant["rows"].teacher_logits, atol=0.05)
    with torch.no_grad():
        model = prepare(resolve(chain(world))).first.assistants["assistant"]
        model.model.load_state_dict(assistant["after"])
        rows = prepare(resolve(chain(world))).first.rows.train
        expected = model.model(**model.tokenizer(rows["text"][:], padding=True, return_tensors="pt")).logits
    np.testing.assert_allclose(student["rows"].teacher_logits, expected, atol=1e-4)
    assert alone["steps"] == student["steps"] != assistant["steps"], "the assistant's updates are not the student's"
    assert all(torch.equal(alone["before"][name], value) for name, value in student["before"].items())
    assert len(pseudo) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages.0.teacher": "previous"}, "stages.0.teacher is 'previous', but no stage comes before assistant"),
        ({"stages.1.student": {"kind": "bilstm"}}, "the last stage trains the recipe's student"),
    ],
)
def test_chains_that_make_no_sense(changes, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("teacher_assistant", changes)


@pytest.mark.parametrize("objective", ["soft_targets", "hidden_states"])
def test_a_student_that_goes_on_learns_from_what_it_was(world, tmp_path, trainings, objective):
    """Its teacher is the student of the stage before, kept or run in the training: another object, with the weights that it had."""
    second = {
        "name": "second",
        "teacher": "previous",
        "objectives": [{"kind": objective}],
        "train": {"max_steps": 4, "batch_size": 8, "learning_rate": 1e-2},
    }
    narrow = {"kind": "narrow", "layers": 2, "width": 8, "heads": 2}
    first = recipe(world, control=[], student=narrow).model_dump(mode="json")
    distill(load_recipe("hinton", first | {"stages": [*first["stages"], second]}), tmp_path / "run")
    before, after = trainings
    assert all(torch.equal(after["before"][name], value) for name, value in before["after"].items())
    if objective == "hidden_states":
        teacher = after["teacher"].model
        assert all(torch.equal(teacher.state_dict()[name], value) for name, value in before["after"].items()), "it moved along"


def test_stopped_in_the_second_stage_and_resumed(world, tmp_path, trainings, monkeypatch):
    """The second stage starts from the first one's student, whether or not the run was stopped in between."""
    second = {
        "name": "second",
        "objectives": [{"kind": "logit_regression"}],
        "train": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2},
    }
    two = recipe(world, control=[])
    two = load_recipe("hinton", two.model_dump(mode="json") | {"stages": [*two.model_dump(mode="json")["stages"], second]})
    whole = distill(two, tmp_path / "whole" / "run")
    first_student, second_student = trainings
    assert all(torch.equal(second_student["before"][name], value) for name, value in first_student["after"].items())

    train = training.train

    def stopped(lessons, settings, shared):
        if shared.folder.name.endswith("second"):
            raise Stopped
        return train(lessons, settings, shared)

    with monkeypatch.context() as patch:
        patch.setattr(training, "train", stopped)
        with pytest.raises(Stopped):
            distill(two, tmp_path / "run")
    run = distill(two, tmp_path / "run", resume=True)
    assert len(trainings) == 4, "the first stage was trained twice"
    assert weights(run) == weights(whole) and metrics(run, "student") == metrics(whole, "student")


def test_finetuning_killed_and_resumed(world, tmp_path, understudy, monkeypatch):
    from understudy.training.trainer import DistillationTrainer

    def words(out: Path) -> list:
        return [
            "finetune",
            world.teacher,
            "--train",
            world.train,
            "--validation",
            world.validation,
            "--out",
            out,
            "--set",
            "train.batch_size=8",
            "--set",
            "train.learning_rate=1e-3",
        ]

    assert understudy(*words(tmp_path / "whole")).code == 0
    step, seen = DistillationTrainer.training_step, []

    def interrupted(self, *given, **settings):
        seen.append(None)
        if len(seen) == 15:
            raise KeyboardInterrupt
        return step(self, *given, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(DistillationTrainer, "training_step", interrupted)
        assert understudy(*words(tmp_path / "parts")).code == 130
    assert understudy(*words(tmp_path / "parts")).code == 2  # a folder that is in use needs a word
    assert understudy(*words(tmp_path / "parts"), "--resume").code == 0
    assert (tmp_path / "parts" / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()


def test_augmented_rows_are_taught_and_learned_from(world, tmp_path, trainings):
    steps = [{"kind": "masking", "probability": 0.3}, {"kind": "ngram_sampling"}]
    said = []
    run = distill(recipe(world, control=[], stages__0__augment={"copies": 2, "steps": steps}), tmp_path / "run", say=said.append)
    (student,) = trainings
    made = len(student["rows"]) - 60
    assert 60 < made <= 120 and any(f"{made} rows made from 60" in line for line in said)
    assert (np.asarray(student["rows"].labels[60:]) == -100).all() and np.isfinite(student["rows"].teacher_logits).all()
    assert len(Store(run.folder / "teacher_outputs", prepare(resolve(recipe(world))).first.teacher.fingerprint, 2)) >= made + 60


def test_stages_with_the_same_augmentation_share_its_rows(world):
    stages = [stage.model_dump(mode="json") for stage in recipe(world).stages]
    augment = {"copies": 1, "steps": [{"kind": "masking", "probability": 0.3}]}
    other = {"copies": 2, "steps": [{"kind": "masking", "probability": 0.3}]}
    three = [stages[0] | {"name": name, "augment": one} for name, one in (("a", augment), ("b", augment), ("c", other))]
    said = []
    made = prepare(resolve(recipe(world, stages=three)), say=said.append).first.augmented
    assert made["b"] is made["a"] and len(made["c"]) > len(made["a"])
    assert [line.split(":")[0] for line in said if "rows made" in line] == ["Stage a", "Stage c"]


def test_a_recipe_says_how_chinese_is_cut(world, tmp_path):
    pytest.importorskip("jieba", reason="jieba (extra chinese) is not installed")
    transfer = write_rows(tmp_path / "transfer.jsonl", [{"text": "我喜欢北京演员"}])
    shortest = {"copies": 30, "steps": [{"kind": "ngram_sampling", "probability": 1.0, "longest": 1}]}

    def made(**words):
        plan = prepare(resolve(recipe(world, data__transfer=transfer, stages__0__augment=shortest | words))).first
        return {text for text in plan.augmented["distillation"]["text"] if text in "我喜欢北京演员"}

    assert made() == set("我喜欢北京演员")
    assert made(words="jieba") == {"我", "喜欢", "北京", "演员"}


def test_a_helper_process_writes_no_control(world, tmp_path, monkeypatch):
    """Several processes would write one folder at once."""
    distill(recipe(world), tmp_path / "first")
    run = SimpleNamespace(folder=tmp_path / "second")
    work = training.Trainings(prepare(resolve(recipe(world))), run, {"": run}, {}, "cpu", lambda line: None)
    monkeypatch.setenv("RANK", "1")
    found = work.control("alone", tmp_path / ".controls")[""]
    assert found.models[0].parameters and not (tmp_path / "second").exists()


def test_a_teacher_has_one_accuracy_in_finetune_and_evaluate(world, tmp_path):
    """What is measured is the folder that was saved."""
    settings = FinetuneSettings(model=world.teacher, data={"train": world.train, "test": world.test}, train={"max_steps": 3})
    loaded, whole = [], TextModel.load.__func__

    def noted(cls, folder, **more):
        loaded.append(str(folder))
        return whole(cls, folder, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TextModel, "load", classmethod(noted))
        run = finetune(settings, tmp_path / "teacher", device="cpu")
    assert loaded[-1] == str(tmp_path / "teacher")
    quality = evaluate(str(tmp_path / "teacher"), world.test, device="cpu")["models"]["student"]["quality"]
    assert quality["accuracy"]["value"] == run.facts["models"]["teacher"]["quality"]["accuracy"]["value"]
    assert run.facts["trainings"]["teacher"]["finetune"]["least"] == 300
