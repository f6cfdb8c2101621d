"""A student of several tasks, from the command: what is written, what each task and each control hears, what is refused."""

import json
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from tiny import tiny_rows, write_rows
from understudy.errors import RecipeError
from understudy.models.text_model import TextModel
from understudy.programs.distill import distill
from understudy.programs.teach import teach
from understudy.runs import controls, training
from understudy.runs.checks import check_stages
from understudy.runs.preparation import prepare, resolve
from understudy.settings.loading import for_several_tasks, load_recipe, packaged
from understudy.settings.recipe import Recipe
from understudy.teachers.teacher import ModelTeacher
from understudy.training.length import length
from understudy.training.lesson import LessonsTrainer, MixedBatches
from understudy.training.train import Trained

pytestmark = pytest.mark.usefixtures("quick")
SEVERAL = [name for name in packaged() if for_several_tasks(name)]
SHORT = ["--set", "stages.0.train.max_steps=2", "--set", "stages.0.train.batch_size=8"]
TRAIN = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-2}


@pytest.fixture
def words(world, number_world):
    """The command for two tasks, one of classes and one of numbers, which are pairs."""

    def build(recipe: str, out: Path, *more, without: tuple[str, ...] = ()) -> list:
        given = ["distill", recipe, "--task", "likeness=similarity", "--no-export", "--out", out]
        for name, one in (("mood", world), ("likeness", number_world)):
            for option in ("teacher", "train", "validation", "test", "transfer"):
                if f"{option} {name}" not in without:
                    given += [f"--{option}", f"{name}={getattr(one, option)}"]
        return [*given, *more]

    return build


@pytest.fixture
def recipe(world, number_world):
    def build(name="mt_dnn", **changes) -> Recipe:
        def one(name: str, files, task: str) -> dict:
            data = {split: getattr(files, split) for split in ("train", "validation", "test")}
            return {"name": name, "task": task, "data": data, "teacher": {"models": [files.teacher]}}

        tasks = [one("mood", world, "classification"), one("likeness", number_world, "similarity")]
        keys = {f"stages.0.train.{key}": value for key, value in TRAIN.items()}
        return load_recipe(name, {"tasks": tasks, "export": []} | keys | {key.replace("__", "."): value for key, value in changes.items()})

    return build


@pytest.fixture
def trainings(monkeypatch) -> list[dict]:
    """What every training of this test was given."""
    found, whole = [], training.train

    def noted(lessons, settings, shared):
        before = {name: {key: value.clone() for key, value in one.model.model.state_dict().items()} for name, one in lessons.items()}
        trained = whole(lessons, settings, shared)
        given = {"before": before, "lessons": lessons, "settings": settings, "name": shared.name, "steps": trained.steps}
        given["shares"] = {name: one.share for name, one in lessons.items()}
        found.append(given)
        return trained

    monkeypatch.setattr(training, "train", noted)
    return found


def weights(folder: Path, student: str = "student") -> list[bytes]:
    return [(folder / name / student / "model.safetensors").read_bytes() for name in ("mood", "likeness")]


def described(objectives) -> list[tuple[float, str]]:
    return [(weight, type(one).__name__) for weight, one in objectives]


# --- a whole run


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("control", [["--no-control"], ["--control", "alone,pseudo_labels"]], ids=["none", "both"])
def test_every_recipe_runs_two_steps(name, control, words, tmp_path, understudy):
    run = tmp_path / "run"
    said = understudy(*words(name, run, *control, *SHORT, "--json"))
    assert said.code == 0, said.err
    facts = said.json
    assert facts == json.loads((run / "facts.json").read_text()) and list(facts["tasks"]) == ["mood", "likeness"]
    models = {"teacher", "ngrams", "student", *({"student_alone", "student_pseudo_labels"} if len(control) == 2 else ())}
    assert facts["mean"].keys() == models
    for task, metric in (("mood", "accuracy"), ("likeness", "pearson")):
        own = json.loads((run / task / "facts.json").read_text())
        assert own["models"].keys() == models == facts["tasks"][task]["value"].keys()
        assert own["primary_metric"] == metric and own["data"]["transfer"]["rows"] > 0
        for model in models:
            assert own["models"][model]["quality"][metric]["value"] == facts["tasks"][task]["value"][model]
        assert own["gain_over_alone"] == facts["tasks"][task]["gain_over_alone"]
        assert own["models"]["student"]["rows_per_second"] > 0
        assert {one["least"] for one in own["trainings"]["student"].values()} == {600}  # 300 for each task
    for model, value in facts["mean"].items():
        assert value == pytest.approx(sum(one["value"][model] for one in facts["tasks"].values()) / 2)
    assert not (run / "checkpoints").exists()


def test_each_task_is_a_run_folder_that_works_alone(words, tmp_path, understudy, world):
    run = tmp_path / "run"
    said = understudy(*words("bam", run, *SHORT))
    assert said.code == 0, said.err
    assert "gain over" in said.out and "student alone" in " ".join(said.out.split()) and "One student of" in said.out
    for task in ("mood", "likeness"):
        there = {path.name for path in (run / task).iterdir()}
        assert there >= {"facts.json", "report.html", "metrics.jsonl", "recipe.yaml", "environment.json", "teacher_outputs", "student"}
        page = (run / task / "report.html").read_text()
        assert "on validation rows" in page and "loss: annealed targets" in page
        (run / task / "report.html").unlink()
        assert understudy("report", run / task).code == 0 and (run / task / "report.html").read_text() == page
        (run / task / "report.html").unlink()
    whole = (run / "report.html").read_text()
    assert 'href="mood/report.html"' in whole and "loss: likeness: annealed targets" in whole
    (run / "report.html").unlink()
    again = understudy("report", run)
    assert again.code == 0 and (run / "mood" / "report.html").is_file() and (run / "likeness" / "report.html").is_file()
    assert (run / "report.html").read_text() == whole and f"{run}/report.html" in again.out.replace("\n", "")
    assert "likeness" in again.out and str(run) in again.out.replace("\n", "")
    said = understudy("evaluate", run / "mood" / "student", "--data", world.test, "--json")
    own = json.loads((run / "mood" / "facts.json").read_text())
    assert said.json["models"]["student"]["quality"] == own["models"]["student"]["quality"]


def test_the_encoders_are_equal_and_counted_once(recipe, tmp_path):
    run = distill(recipe(), tmp_path / "run")
    for student in ("student", "student_alone"):
        one, other = (load_file(run.folder / name / student / "model.safetensors") for name in ("mood", "likeness"))
        shared = {name for name in one if name.startswith("bert.")}
        assert shared == {name for name in other if name.startswith("bert.")} and len(shared) > 20
        assert all(torch.equal(one[name], other[name]) for name in shared)
        assert one["classifier.weight"].shape == (2, 16) and other["classifier.weight"].shape == (1, 16)
        assert run.facts["parameters"] == sum(one[name].numel() for name in shared) + 3 * 17
    mood, likeness = (TextModel.load(run.folder / name / "student") for name in ("mood", "likeness"))
    assert mood.label_names == ("bad", "good") and likeness.label_names is None
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    measured = [line["validation"] for line in lines if "validation" in line]
    assert all({"mood/accuracy", "likeness/pearson", "mean"} <= one.keys() for one in measured) and measured
    assert {name for line in lines for name in line if name.startswith("loss/")} == {
        "loss/mood/labels",
        "loss/mood/soft_targets",
        "loss/likeness/labels",
        "loss/likeness/logit_regression",
    }


def test_the_recipe_of_a_run_gives_the_same_run(words, tmp_path, understudy):
    first = tmp_path / "first"
    assert understudy(*words("bam", first, *SHORT)).code == 0
    said = understudy("distill", first / "recipe.yaml", "--out", tmp_path / "second", "--json")
    assert said.code == 0, said.err
    assert weights(first) == weights(tmp_path / "second")
    assert (first / "recipe.yaml").read_text() == (tmp_path / "second" / "recipe.yaml").read_text()
    again = understudy("distill", first / "recipe.yaml", "--train", "mood=other.jsonl", "--out", tmp_path / "third")
    assert again.code == 2 and "task mood: other.jsonl: no such file" in again.err


# --- what each task hears


def test_each_task_has_objectives_that_it_can_have(recipe, tmp_path, trainings):
    distill(recipe(control=[]), tmp_path / "run")
    (student,) = trainings
    assert described(student["lessons"]["mood"].objectives) == [(0.5, "Labels"), (0.5, "SoftTargets")]
    assert described(student["lessons"]["likeness"].objectives) == [(0.5, "Labels"), (0.5, "LogitRegression")]
    assert student["lessons"]["mood"].examples.teacher_logits.shape == (60, 2)
    assert student["lessons"]["likeness"].examples.teacher_logits.shape == (60, 1)
    assert student["shares"] == {"mood": 8, "likeness": 8}


@pytest.mark.parametrize("name", SEVERAL)
def test_a_task_without_a_teacher_is_taught_by_its_labels(name, recipe, tmp_path, trainings, number_world, world):
    some = [row if place % 3 else row | {"label": None} for place, row in enumerate(tiny_rows(60))]
    train = write_rows(tmp_path / "train.jsonl", some)
    run = distill(recipe(name, tasks__0__teacher__models=[], tasks__0__data__train=train), tmp_path / "run")
    student, alone = trainings
    assert described(student["lessons"]["mood"].objectives) == [(1.0, "Labels")]
    assert student["lessons"]["mood"].examples.teacher_logits is None and len(student["lessons"]["mood"].examples) == 40
    assert len(student["lessons"]["likeness"].objectives) == len(load_recipe(name).stages[0].objectives)
    assert run.facts["mean"].keys() == {"student", "student_alone", "ngrams"}
    assert "teacher" not in run.facts["tasks"]["mood"]["value"] and "teacher" in run.facts["tasks"]["likeness"]["value"]
    assert not (run.folder / "mood" / "teacher_outputs").exists()
    assert student["steps"] == alone["steps"]


def test_an_ensemble_for_one_of_them(recipe, tmp_path, world):
    built = recipe(control=[], tasks__0__teacher__models=[world.teacher, world.teacher])
    assert [task.teacher.combine for task in built.tasks] == ["arithmetic", "arithmetic"], "the recipe's word counts for all tasks"
    together = prepare(resolve(built))
    assert [len(plan.teacher.models) for plan in together.tasks.values()] == [2, 1]


def test_settings_for_all_tasks_and_for_one(recipe):
    built = recipe(data__max_length=24, tasks__1__data__max_length=16, teacher__dtype="float16")
    assert [task.data.max_length for task in built.tasks] == [24, 16]
    assert [task.teacher.dtype for task in built.tasks] == ["float16", "float16"]
    assert built.data.max_length is None, "moved"
    assert Recipe(**yaml.safe_load(built.dump())) == built
    together = prepare(resolve(built))
    assert [plan.student.max_length for plan in together.tasks.values()] == [24, 16]


@pytest.mark.parametrize(
    "student", [{"kind": "narrow", "width": 8, "vocabulary": "data"}, {"kind": "narrow", "width": 8, "vocabulary": "words"}]
)
def test_one_vocabulary_knows_the_texts_of_all_tasks(recipe, student):
    plans = prepare(resolve(recipe(student=student))).tasks
    assert plans["mood"].student.tokenizer is plans["likeness"].student.tokenizer
    for plan in plans.values():
        found = plan.student.tokenizer(plan.rows.texts)["input_ids"]
        assert not any(plan.student.tokenizer.unk_token_id in row for row in found)


def test_the_encoder_may_come_from_the_pretrained_model(recipe, world, pretrained):
    changes = {"student__layers": "all", "teacher__pretrained": pretrained}
    plans = prepare(resolve(recipe("bam", **changes))).tasks
    own = plans["mood"].student.model.bert.state_dict()
    given = load_file(Path(pretrained) / "model.safetensors")
    assert all(torch.equal(value, given[f"bert.{name}"]) for name, value in own.items() if f"bert.{name}" in given)
    assert plans["mood"].student.model.bert is plans["likeness"].student.model.bert
    built = recipe("bam", student={"kind": "pretrained", "model": world.teacher})
    plans = prepare(resolve(built)).tasks
    layers = plans["likeness"].student.model.bert.encoder.layer
    assert len(layers) == 3
    assert torch.equal(layers[0].output.dense.weight, TextModel.load(world.teacher).model.bert.encoder.layer[0].output.dense.weight)


# --- the controls


def test_controls_start_alike_and_make_as_many_updates(recipe, tmp_path, trainings, world):
    built = recipe(control=["alone", "pseudo_labels"], tasks__0__data__transfer=world.transfer)
    distill(built, tmp_path / "run")
    student, alone, pseudo = trainings
    assert [one["name"] for one in trainings] == ["student", "student alone", "student pseudo labels"]
    assert student["steps"] == alone["steps"] == pseudo["steps"] == 2 * (13 + 8)
    for one in (alone, pseudo):
        for task in ("mood", "likeness"):
            assert all(torch.equal(one["before"][task][key], value) for key, value in student["before"][task].items())
        assert one["shares"] == student["shares"] == {"mood": 13, "likeness": 8}
        assert one["settings"].learning_rate == student["settings"].learning_rate
    assert (
        len(alone["lessons"]["mood"].examples) == 60
        and len(student["lessons"]["mood"].examples) == len(pseudo["lessons"]["mood"].examples) == 100
    )
    for task in ("mood", "likeness"):
        ((weight, only),) = alone["lessons"][task].objectives
        assert weight > 0 and only.target == "gold" and alone["lessons"][task].examples.teacher_logits is None
        assert [(one.target) for _, one in pseudo["lessons"][task].objectives] == ["gold", "teacher"]


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("settings", [{}, {"max_steps": 10}, {"accumulation": 2}, {"epochs": 0.7}], ids=str)
@pytest.mark.parametrize("power", [0.0, 0.75, 1.0])
def test_every_update_is_of_the_same_task_as_the_students(name, settings, power, recipe, tmp_path, monkeypatch, world):
    """A law: the student has more rows of a task than a control has, but what a control learns from is mixed alike."""
    turns: dict[str, list[str]] = {}

    def noted(lessons, settings, shared):
        rows, shares = ({name: getattr(one, what) for name, one in lessons.items()} for what in ("examples", "share"))
        order = MixedBatches(rows, settings.batch_size * settings.accumulation, shares=shares, seed=shared.seed)
        updates = length([len(own) for own in rows.values()], settings).updates
        found = turns.setdefault(shared.name, [])
        for epoch in range(updates):
            order.set_epoch(epoch)
            found += [task for task, _ in order]
        del found[updates:]
        return Trained(updates, 0.0, 0.5, updates, "float32")

    monkeypatch.setattr(training, "train", noted)
    changes = {f"stages__0__train__{key}": value for key, value in settings.items()} | {"stages__0__sampling_power": power}
    built = recipe(name, control=["alone", "pseudo_labels"], tasks__0__data__transfer=world.transfer, **changes)
    plan = prepare(resolve(built))
    assert len({len(part.rows) for part in plan.stages[0].parts.values()}) == 2, "one task has more rows than the other"
    students = {task: one.student for task, one in plan.tasks.items()}
    trained = {"student": plan.stages} | {control: controls.stages_of(control, plan) for control in controls.MAKE}
    for who, stages in trained.items():
        for stage in stages:
            kept = {
                task: np.zeros((len(part.rows), part.plan.outputs), np.float32) for task, part in stage.parts.items() if part.keeps_logits
            }
            training.train_stage(stage, plan.tasks, students, kept, tmp_path, who, "cpu", write=lambda line: None)
    assert turns["student"] == turns["alone"] == turns["pseudo labels"] and len(set(turns["student"])) == 2


def test_a_control_makes_as_many_updates_of_each_task(recipe, tmp_path, monkeypatch, world):
    """Counted in the training itself."""
    turns: dict[str, Counter] = {}
    step, train = LessonsTrainer.training_step, training.train

    def counted(self, model, inputs, *given):
        turns[now[0]][inputs["task"]] += 1
        return step(self, model, inputs, *given)

    def named(lessons, settings, shared):
        now[:] = [shared.name]
        turns[shared.name] = Counter()
        return train(lessons, settings, shared)

    now = [""]
    monkeypatch.setattr(LessonsTrainer, "training_step", counted)
    monkeypatch.setattr(training, "train", named)
    built = recipe(control=["alone", "pseudo_labels"], tasks__0__data__transfer=world.transfer)
    distill(built, tmp_path / "run")
    assert turns.keys() == {"student", "student alone", "student pseudo labels"}
    assert all(own == {"mood": 2 * 13, "likeness": 2 * 8} for own in turns.values())


def test_a_control_is_trained_once_for_the_same_setting(recipe, tmp_path, trainings):
    said = []
    first = distill(recipe(), tmp_path / "first", say=said.append)
    second = distill(recipe(stages__0__objectives__1__weight=0.9), tmp_path / "second", say=said.append)
    assert [one["name"] for one in trainings] == ["student", "student alone", "student"]
    assert any("The control 'alone' was trained before with these settings" in line for line in said)
    assert weights(first.folder, "student_alone") == weights(second.folder, "student_alone") != weights(second.folder)
    assert weights(first.folder) != weights(second.folder)
    for file in ("metrics.jsonl", "mood/metrics.jsonl", "likeness/metrics.jsonl"):
        own = [
            [line for line in map(json.loads, (run.folder / file).read_text().splitlines()) if line["model"] == "student_alone"]
            for run in (first, second)
        ]
        assert own[0] == own[1] != []
    distill(recipe(stages__0__sampling_power=0.5), tmp_path / "third", say=said.append)
    assert [one["name"] for one in trainings[3:]] == ["student", "student alone"], "other shares are another control"


# --- what one task can have, several can


NARROW = {"kind": "narrow", "layers": 2, "width": 8, "heads": 2}
TOGETHER = {
    "augmentation": {"stages__0__augment": {"copies": 2, "steps": [{"kind": "masking", "probability": 0.3}]}},
    "mixup": {"stages__0__mixup": {"objectives": [{"kind": "labels"}, {"kind": "soft_targets"}]}},
    "the mean of its own weights": {"stages__0__teacher": "self"},
    "layers": {"student": NARROW, "stages__0__objectives": [{"kind": "hidden_states"}, {"kind": "relations"}]},
    "an assistant": {
        "stages": [
            {
                "name": "assistant",
                "student": {"kind": "teacher_layers"},
                "objectives": [{"kind": "labels"}, {"kind": "soft_targets"}],
                "train": TRAIN,
            },
            {"name": "distillation", "teacher": "previous", "objectives": [{"kind": "soft_targets"}], "train": TRAIN},
        ],
        "student": NARROW,
    },
    "plain text": {
        "stages": [
            {"name": "pretraining", "masked_lm": {}, "rows": ["raw", "train"], "objectives": [{"kind": "labels"}], "train": TRAIN},
            {"name": "distillation", "objectives": [{"kind": "labels"}, {"kind": "soft_targets"}], "train": TRAIN},
        ]
    },
}


@pytest.mark.parametrize("what", TOGETHER)
def test_what_one_task_can_have_several_can(what, recipe, tmp_path, trainings, raw):
    more = {"data__raw": raw} if what == "plain text" else {}
    short = {"stages__0__train__max_steps": 4} if "stages" not in TOGETHER[what] else {}
    run = distill(recipe(**TOGETHER[what], **more, **short), tmp_path / "run")
    assert run.finished and all((run.folder / task / "student" / "config.json").is_file() for task in ("mood", "likeness"))
    first = trainings[0]
    if what == "plain text":
        ((name, lesson),) = first["lessons"].items()
        assert name == "" and len(lesson.examples) + len(lesson.validation) > 60, "the texts of both tasks and the plain text"
        for folder in (run.folder / "mood", run.folder / "likeness", run.folder):
            lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
            assert any(line["stage"] == "pretraining" and "loss/labels" in line for line in lines), "it is of every task"
        return
    mood, likeness = first["lessons"]["mood"], first["lessons"]["likeness"]
    assert mood.model.model.base_model is likeness.model.model.base_model
    if what == "augmentation":
        assert len(mood.examples) > 60 and np.isfinite(likeness.examples.teacher_logits).all()
        assert (run.folder / "mood" / "made_rows").is_dir()
    if what == "mixup":
        assert [type(one).__name__ for _, one in likeness.mixup.objectives] == ["Labels", "LogitRegression"]
        assert mood.teacher is not likeness.teacher is not None
    if what == "layers":
        assert mood.examples.teacher_logits is None and mood.teacher is not likeness.teacher
    if what == "an assistant":
        second = trainings[1]["lessons"]
        assert not np.allclose(second["mood"].examples.teacher_logits, mood.examples.teacher_logits)
        assert {one["name"] for one in trainings} == {"student", "student alone"}


def test_any_recipe_teaches_several_tasks_where_they_are_named(words, tmp_path, understudy):
    said = understudy(*words("hinton", tmp_path / "run", *SHORT, "--no-control", "--student", "teacher_layers"), "--json")
    assert said.code == 0, said.err
    assert list(said.json["tasks"]) == ["mood", "likeness"]


def test_a_vocabulary_that_lacks_the_words_of_a_task_is_warned_of(recipe, tmp_path, world):
    """As that of another task's teacher may."""
    rows = [{"text": "Ĝi ŝœ ŧħø", "label": label} for label in ("bad", "good") for _ in range(20)]
    rows = [row | {"text": f"{row['text']} {number}"} for number, row in enumerate(rows)]
    train = write_rows(tmp_path / "train.jsonl", rows)
    said: list[str] = []
    prepare(resolve(recipe(tasks__0__data__train=train, tasks__0__teacher__models=[])), said.append)
    warned = [line for line in said if "unknown to the student's vocabulary" in line]
    assert len(warned) == 1 and warned[0].startswith("mood: Warning:")


def test_mixup_with_a_teacher_that_takes_no_embeddings_is_refused(world, build):
    keys = world.keys | {"student": NARROW, "stages.0.mixup": {"objectives": [{"kind": "soft_targets"}]}}
    plan = prepare(resolve(load_recipe("hinton", keys))).first
    with pytest.raises(RecipeError, match="blended word embeddings, which understudy_static_embeddings does not take"):
        check_stages(replace(plan, teacher=ModelTeacher([build("static_embeddings")])))


# --- stopped, and gone on with


KILLED = """
import os, signal
from understudy.cli import main
from understudy.training.trainer import DistillationTrainer
whole, left = DistillationTrainer._save_optimizer_and_scheduler, [{count}]

def killed(*given, **settings):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*given, **settings)

DistillationTrainer._save_optimizer_and_scheduler = killed
main()
"""


def test_killed_and_resumed_is_uninterrupted(words, tmp_path, understudy):
    """kill -9 in the middle of a checkpoint of the student, then of the control."""
    sets = ["--set", "stages.0.train.epochs=2", "--set", "stages.0.train.batch_size=8", "--set", "stages.0.train.learning_rate=1e-2"]
    whole, run = tmp_path / "whole" / "run", tmp_path / "parts" / "run"
    assert understudy(*words("bam", whole, *sets)).code == 0
    for count, resume in ((4, []), (12, ["--resume"])):
        code = [sys.executable, "-c", KILLED.format(count=count), *map(str, words("bam", run, *sets, *resume))]
        said = subprocess.run(code, capture_output=True, text=True, check=False)
        assert said.returncode == -signal.SIGKILL, said.stderr
    assert (run / "mood" / "student").is_dir() and not (run / "mood" / "facts.json").exists()
    said = understudy(*words("bam", run, *sets), "--resume")
    assert said.code == 0, said.err
    assert weights(run) == weights(whole) and weights(run, "student_alone") == weights(whole, "student_alone")
    found, expected = (json.loads((folder / "facts.json").read_text()) for folder in (run, whole))
    assert found["tasks"] == expected["tasks"] and found["mean"] == expected["mean"]
    again = understudy(*words("bam", run, *sets), "--resume")
    assert again.code == 0 and "finished run" in again.err


def test_stages_follow_one_another(recipe, tmp_path, trainings):
    stages = [
        {"name": "soft", "objectives": [{"kind": "logit_regression"}], "train": TRAIN},
        {"name": "hard", "objectives": [{"kind": "labels"}], "train": TRAIN | {"epochs": 1}, "sampling_power": 0.0},
    ]
    distill(recipe(stages=stages), tmp_path / "run")
    soft, hard, *alone = trainings
    assert [one["steps"] for one in alone] == [soft["steps"], hard["steps"]] == [32, 16]
    assert [one["shares"] for one in alone] == [soft["shares"], hard["shares"]]
    assert hard["shares"] == {"mood": 8, "likeness": 8}
    assert not torch.equal(soft["before"]["mood"]["classifier.weight"], hard["before"]["mood"]["classifier.weight"])
    assert all(torch.equal(alone[0]["before"]["mood"][key], value) for key, value in soft["before"]["mood"].items())


def test_law_each_row_is_sent_to_its_teacher_once(recipe, tmp_path, sent):
    run = distill(recipe(control=["pseudo_labels"]), tmp_path / "run")
    assert len(sent) == len(set(sent)) == 2 * (60 + 30 + 30)
    run.folder.joinpath("facts.json").unlink()
    distill(recipe(control=["pseudo_labels"]), tmp_path / "run", resume=True)
    assert len(sent) == 240


def test_a_store_for_each_task(recipe, tmp_path, world, monkeypatch):
    single = load_recipe("hinton", world.keys)
    assert teach(single, tmp_path / "outputs") == {"computed": 120, "kept": 120}
    said = []
    distill(recipe(control=[], tasks__0__teacher__store=str(tmp_path / "outputs")), tmp_path / "run", say=said.append)
    assert any("mood: Teacher outputs: 0 rows computed now, 120 kept" in line for line in said)
    with pytest.raises(RecipeError, match="mt_dnn has several tasks; fill a store for each"):
        teach(recipe(), tmp_path / "other")


# --- what is refused


REFUSED = {
    "a file without a task": (["--train", "b.jsonl"], "--train b.jsonl names no task; write it as NAME=FILE, one of mood, likeness"),
    "a path with an equals sign": (["--test", "x/y=1.jsonl"], "--test x/y=1.jsonl names no task; write it as NAME=FILE, one of mood"),
    "a kind without a task": (["--task", "similarity"], "--task similarity names no task; write it as NAME=KIND"),
    "a column without a task": (
        ["--column", "text=review"],
        "--column text=review names no task; write it as NAME=OURS=THEIRS, one of mood, likeness",
    ),
    "a column that is none": (["--column", "mood=review"], "--column review: write it as our name=the file's name"),
    "an unknown task": (
        ["--teacher", "mod=x"],
        "--teacher mod=x: no --train names task 'mod'; known are mood, likeness. Did you mean 'mood'?",
    ),
    "no plain word": (["--train", "My task=b.jsonl"], "task name 'My task' is invalid: use lower-case letters"),
    "a name that is taken": (["--train", "checkpoints=b.jsonl"], "task name 'checkpoints' is used by the run folder"),
    "an empty file": (["--test", "mood="], "--test mood= is empty; write it as mood=FILE"),
    "twice": (["--train", "mood=b.jsonl"], "--train is given 2 times for task mood; give it once"),
    "an unknown kind of task": (
        ["--task", "mood=clasification"],
        "'clasification' is unknown; known are classification, multilabel, similarity",
    ),
    "an unknown metric": (["--set", "tasks.0.metric=pearson"], "metric 'pearson' is unknown for classification"),
    "a metric for all": (["--set", "metric=accuracy"], "metric: a recipe with tasks has it in each task, as tasks.0.metric"),
    "rows for all": (["--set", "data.train=x"], "data.train: a recipe with tasks has it in each task, as tasks.0.data.train"),
    "plain text of one task": (["--set", "tasks.0.data.raw=x"], "task mood: data.raw is for all tasks of a recipe; give it beside"),
    "two of one name": (["--set", "tasks.1.name=mood"], "task names must be different; got mood, mood"),
    "no encoder": (["--student", "bilstm"], "student bilstm has no encoder for tasks to share; use teacher_layers, narrow or pretrained"),
    "a teacher of another task": (["--set", "tasks.0.task=similarity"], "a classification model, but --task is similarity"),
    "a missing file": (["--transfer", "mood=none.jsonl"], "task mood: none.jsonl: no such file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input(case, words, tmp_path, understudy, monkeypatch):
    monkeypatch.chdir(tmp_path)
    more, message = REFUSED[case]
    said = understudy(*words("bam", "runs/out", *more, without=("transfer mood", "column mood")))
    assert (said.code, said.out) == (2, ""), said.err
    assert message in said.err and "Traceback" not in said.err
    assert not (tmp_path / "runs").exists()


def test_all_mistakes_of_the_options_are_told_together(words, tmp_path, understudy):
    said = understudy(*words("bam", tmp_path / "run", "--train", "b.jsonl", "--test", "mod=x", "--column", "text"))
    assert said.code == 2
    for part in ("--train b.jsonl names no task", "--test mod=x: no --train names task 'mod'", "--column text names no task"):
        assert part in said.err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "bam is for several tasks; name each of them: --task NAME=classification"),
        (["--train", "b.jsonl"], "--train b.jsonl names no task; write it as NAME=FILE, for example --train first=b.jsonl"),
        (["--teacher", "mood=x"], "--teacher mood=x: task 'mood' has no training rows; give --train mood=FILE"),
        (["--train", "mood=x"], "no task has a teacher; give at least one, as --teacher mood=FOLDER"),
        (
            ["--train", "mood=x", "--train", "b=y", "--teacher", "mood=x", "--transfer", "b=z"],
            "bam: task b has transfer rows, but no teacher to label them; give --teacher b=FOLDER or leave them out",
        ),
    ],
)
def test_too_little(given, message, tmp_path, understudy):
    said = understudy("distill", "bam", *given, "--out", tmp_path / "run")
    assert (said.code, said.out) == (2, "") and message in said.err
    assert not (tmp_path / "run").exists()


def test_a_recipe_with_one_task_takes_no_names(world, tmp_path, understudy):
    plain = world.distill("hinton", tmp_path / "run", *SHORT, "--no-control")
    for option, value in (("--train", f"mood={world.train}"), ("--task", "mood=classification"), ("--teacher", f"mood={world.teacher}")):
        words = [word for place, word in enumerate(plain) if option not in (word, plain[place - 1])]
        said = understudy(*words, option, value)
        assert said.code == 2 and f"{option} {value} names a task 'mood'" in said.err
        assert "this is a run of one task: leave mood= out, or give --train NAME=FILE for each of several" in said.err
    said = understudy(*plain, "--train", world.test)
    assert said.code == 2 and "--train is given 2 times" in said.err and "this is a run of one task" in said.err
    assert not (tmp_path / "run").exists()


def test_a_path_with_an_equals_sign_is_a_path(world, tmp_path, understudy, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lr=3.jsonl").write_text(Path(world.train).read_text())
    given = [word if word != world.train else "lr=3.jsonl" for word in world.distill("hinton", "run", *SHORT, "--no-control", "--json")]
    said = understudy(*given, "--store", "kept=here")
    assert said.code == 0, said.err
    assert said.json["data"]["train"]["rows"] == 60 and Path("kept=here", "store.json").is_file()


def test_columns_and_files_of_each_task(words, world, tmp_path, understudy):
    rows = [{"review": row["text"], "stars": row["label"]} for row in tiny_rows(60)]
    train = write_rows(tmp_path / "a=b" / "train.jsonl", rows)  # an equals sign after the name is of the path
    command = words(
        "bam", tmp_path / "run", *SHORT, "--no-control", "--json", without=("train mood", "validation mood", "test mood", "transfer mood")
    )
    said = understudy(*command, "--train", f"mood={train}", "--column", "mood=text=review", "--column", "mood=label=stars")
    assert said.code == 0, said.err
    recipe = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    tasks = {task["name"]: task["data"] for task in recipe["tasks"]}
    assert tasks["mood"]["columns"] == {"text": "review", "label": "stars"} and tasks["likeness"]["columns"] == {}
    assert tasks["mood"]["train"] == train


def test_plan_says_what_distill_would_do_and_writes_nothing(words, tmp_path, understudy, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, name, *more = words("bam", "run", "--set", "stages.0.train.epochs=2", "--set", "stages.0.train.batch_size=8")
    planned = understudy("plan", name, *(word for word in more if word not in ("--out", "run")), "--json")
    assert planned.code == 0, planned.err
    assert not list(tmp_path.iterdir())
    said = understudy("distill", name, *more, "--json")
    steps = [json.loads(line)["step"] for line in Path("run", "metrics.jsonl").read_text().splitlines()]
    found = planned.json
    assert (found["train_rows"], found["validation_rows"], found["test_rows"], found["transfer_rows"]) == (120, 60, 60, 80)
    assert found["updates_of_the_student"] == max(steps) == 52 and found["trainings"] == 2
    assert found["rows_to_teach"] == 320 and found["store_mib"] == pytest.approx(160 * (2 * 20 + 3 * 4) / 2**20)
    assert found["student_parameters"] == said.json["parameters"] and found["total_minutes"] > 0
