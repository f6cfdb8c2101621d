"""Text, a teacher, and no labelled row: the student learns, and every figure is called agreement with the teacher."""

import json
from pathlib import Path

import numpy as np
import pytest

from tiny import LABELS, tiny_rows, write_rows
from understudy.errors import DataError, ModelError, RecipeError
from understudy.programs.distill import distill
from understudy.reporting.advice import findings
from understudy.reporting.comparison import read_runs
from understudy.reporting.headline import headline, lines
from understudy.reporting.table import figure_name, table_cells, verdict
from understudy.runs.controls import stages_of
from understudy.runs.preparation import gather, prepare, resolve
from understudy.settings.loading import load_recipe, packaged
from understudy.training.progress import Progress

pytestmark = pytest.mark.usefixtures("quick")
made = Progress.__init__
SMALL = {
    "student": {"kind": "bilstm", "hidden": 8, "embedding": 8, "feature": 8, "vocabulary": "words", "min_count": 1},
    "stages.0.train.max_steps": 40,
    "stages.0.train.batch_size": 8,
    "stages.0.train.learning_rate": 1e-2,
    "export": [],
}


def unlabelled(folder, *, number=False) -> str:
    rows = tiny_rows(160, pair=number, number=number)
    return write_rows(folder / "text.jsonl", [{key: row[key] for key in row if key != "label"} | {"id": 1} for row in rows])


def recipe(world, tmp_path, name="hinton", **changes):
    keys = {"teacher.models": [world.teacher], "data.transfer": unlabelled(tmp_path)} | SMALL
    return load_recipe(name, keys | {key.replace("__", "."): value for key, value in changes.items()})


def answers(folder, form) -> str:
    """A file of answers, half of them of the other class than the labels say in one row of ten."""
    rows = tiny_rows(160)
    said = [LABELS[(LABELS.index(row["label"]) + (place % 10 == 0)) % 2] for place, row in enumerate(rows)]
    return write_rows(folder / "said.jsonl", [{"text": row["text"], **form(one)} for row, one in zip(rows, said, strict=True)])


def test_a_model_teaches_text_alone_and_all_figures_are_agreement(world, tmp_path):
    said = []
    run = distill(
        recipe(world, tmp_path, control=["alone", "pseudo_labels"], stages__0__train__max_steps=250), tmp_path / "run", say=said.append
    )
    facts = run.facts
    assert facts["reference"] == "teacher" and facts["data"]["labelled_by_teacher"] == ["validation", "test"]
    assert "quality" not in facts["models"]["teacher"] and "student_alone" not in facts["models"]
    assert facts["models"]["student"]["quality"]["accuracy"]["value"] == facts["agreement_with_teacher"] > 0.7
    assert facts["gain_over_alone"] is facts["kept_fraction"] is None and facts["gain_over_pseudo_labels"]
    assert not any("calibration" in entry for entry in facts["models"].values())
    assert facts["data"]["train"]["rows"] + facts["data"]["validation"]["rows"] + facts["data"]["test"]["rows"] == 160
    assert any("quality against the truth is unknown" in line for line in said)
    assert any("The control 'alone' needs labels, and is skipped" in line for line in said)
    text = verdict(facts)
    assert "gives the same answer as the teacher to" in text and "Quality is unknown" in text and "accuracy" not in text
    assert table_cells(facts)[0][1] == "agreement"
    assert headline(facts).startswith("Agreement with the teacher: ") and "unknown" in headline(facts)
    assert all("accuracy" not in line for line in lines(facts))
    page = (run.folder / "report.html").read_text("utf-8")
    assert "Quality is unknown" in page and "agreement with the teacher" in page
    card = (run.folder / "student" / "README.md").read_text("utf-8")
    assert "Agreement of the PyTorch model with its teacher" in card and "model-index" not in card
    assert "| agreement with the teacher |" in card and "accuracy" not in card


def test_law_each_row_is_sent_to_the_teacher_once(world, tmp_path, sent):
    distill(recipe(world, tmp_path, control=["pseudo_labels"]), tmp_path / "run")
    assert len(sent) == len(set(sent)) == 160


@pytest.mark.parametrize(
    "form",
    [
        lambda name: {"label": name},
        lambda name: {"probabilities": {name: 0.8}},
        lambda name: {f"p_{one}": 0.9 if one == name else 0.1 for one in LABELS},
    ],
    ids=["labels", "mappings", "columns"],
)
def test_a_file_of_answers_teaches_its_own_texts(world, tmp_path, form):
    file = answers(tmp_path, form)
    run = distill(recipe(world, tmp_path, teacher__models=[file], data__transfer=file), tmp_path / "run")
    assert run.facts["label_names"] == list(LABELS) and run.facts["reference"] == "teacher"
    assert any("The classes are those of the file" in note for note in run.facts["data"]["notes"])


def test_labelled_test_rows_measure_quality_as_ever(world, tmp_path):
    run = distill(recipe(world, tmp_path, data__test=world.test), tmp_path / "run")
    facts = run.facts
    assert "reference" not in facts and facts["data"]["labelled_by_teacher"] == ["validation"]
    assert facts["models"]["teacher"]["quality"]["accuracy"]["value"] == 1
    assert facts["models"]["student"]["calibration"]["temperature"] is None  # nothing true to fit it on
    assert figure_name(facts, "accuracy") == "accuracy"
    agreement = distill(recipe(world, tmp_path), tmp_path / "agreement")
    with pytest.raises(Exception, match="agreement with the teacher of classification"):
        read_runs([run.folder, agreement.folder])


def test_labelled_validation_rows_are_the_test_rows(world, tmp_path):
    rows = prepare(resolve(recipe(world, tmp_path, data__validation=world.validation))).first.rows
    assert rows.labelled_by_teacher == () and rows.test_is_validation and len(rows.test) == 30


def test_numbers_are_correlated_with_the_teachers(number_world, tmp_path):
    keys = {"task": "similarity", "data__transfer": unlabelled(tmp_path, number=True)}
    run = distill(recipe(number_world, tmp_path, "tang", **keys), tmp_path / "run")
    student = run.facts["models"]["student"]["quality"]["pearson"]["value"]
    assert student == pytest.approx(run.facts["agreement_with_teacher"], abs=1e-4)
    assert "follows the teacher with Pearson correlation" in verdict(run.facts)


@pytest.mark.parametrize("name", sorted(packaged()))
def test_every_recipe_learns_from_the_teacher_or_says_what_it_lacks(world, tmp_path, name, pretrained, raw):
    """No stage trains on labels that are not there."""
    keys = {"teacher.models": [world.teacher], "data.transfer": unlabelled(tmp_path), "data.raw": raw, "teacher.pretrained": pretrained}
    try:
        found = prepare(resolve(load_recipe(name, keys)))
    except RecipeError as error:
        told = str(error)
        assert any(words in told for words in ("labels only", "tasks", "teacher", "student", "tagger")), told
        return
    assert "alone" not in found.recipe.control and not found.recipe.calibrate
    for stage in found.recipe.stages:
        assert stage.masked_lm or any(one.uses_teacher for _, one in found.first.part(stage).objectives)
        for control in found.recipe.control:
            assert stages_of(control, found)


def test_plan_and_teach_take_text_alone(world, tmp_path, understudy):
    text = unlabelled(tmp_path)
    given = ["--teacher", world.teacher, "--transfer", text]
    planned = understudy("plan", "hinton", *given, "--student", "static_embeddings", "--json")
    assert planned.code == 0 and planned.json["trainings"] == 1 and planned.json["train_rows"] == 128, planned.err
    taught = understudy("teach", *given, "--store", tmp_path / "store")
    assert taught.code == 0, taught.err


def test_a_stage_of_labels_only_is_refused(world, tmp_path):
    only = {"stages.0.objectives": [{"kind": "labels"}]}
    with pytest.raises(RecipeError, match=r"learns from labels only, .*objectives.0.target=teacher"):
        prepare(resolve(load_recipe("hinton", recipe_keys(world, tmp_path) | only)))
    taught = {"stages.0.objectives": [{"kind": "labels", "target": "teacher"}]}
    prepare(resolve(load_recipe("hinton", recipe_keys(world, tmp_path) | taught)))


def recipe_keys(world, tmp_path) -> dict:
    return {"teacher.models": [world.teacher], "data.transfer": unlabelled(tmp_path)} | SMALL


def test_training_rows_without_labels_are_sent_to_transfer(world, tmp_path):
    text = unlabelled(tmp_path)
    with pytest.raises(DataError, match="--transfer instead of --train"):
        prepare(resolve(recipe(world, tmp_path, data__train=text, data__transfer=None)))
    empty = write_rows(tmp_path / "empty.jsonl", [row | {"label": ""} for row in tiny_rows(20)])
    with pytest.raises(DataError, match="--transfer instead of --train"):
        prepare(resolve(recipe(world, tmp_path, data__train=empty, data__transfer=None)))
    with pytest.raises(RecipeError, match="or only --transfer FILE where no row has a label"):
        resolve(recipe(world, tmp_path, data__transfer=None))
    with pytest.raises(DataError, match="train_rows keeps labelled rows"):
        prepare(resolve(recipe(world, tmp_path, data__train_rows=20)))


def test_several_tasks_need_labelled_rows(world, tmp_path):
    keys = {
        "tasks": [
            {"name": "mood", "task": "classification", "teacher": {"models": [world.teacher]}, "data": {"transfer": unlabelled(tmp_path)}}
        ]
    }
    with pytest.raises(RecipeError, match="without any labels, distil it alone"):
        resolve(load_recipe("bam", keys))


def test_answers_that_cannot_be_used_are_neither_learned_nor_measured(world, tmp_path):
    rows = [{"text": row["text"], "label": row["label"]} for row in tiny_rows(160)]
    for row in rows[:7]:
        row["label"] = None
    file = write_rows(tmp_path / "said.jsonl", rows)
    built = recipe(world, tmp_path, teacher__models=[file])
    _, found, teacher = gather(resolve(built), lambda line: None)
    assert len(found.train) + len(found.validation) + len(found.test) == 153
    assert all(teacher.covers(part) for part in (found.train, found.validation, found.test))
    assert any("7 of 160 answers cannot be used" in note for note in found.notes)
    for part in (found.validation, found.test):
        np.testing.assert_array_equal(part["label"], teacher.logits(part, device="cpu").argmax(-1))


def test_lists_need_names_where_no_labels_tell_their_order(world, tmp_path):
    file = answers(tmp_path, lambda name: {"probabilities": [float(name == one) for one in LABELS]})
    with pytest.raises(DataError, match="nothing in it names the classes"):
        prepare(resolve(recipe(world, tmp_path, teacher__models=[file])))
    prepare(resolve(recipe(world, tmp_path, teacher__models=[file], data__label_names=list(LABELS))))
    swapped = recipe(world, tmp_path, teacher__models=[file], data__label_names=list(LABELS[::-1]), data__test=world.test)
    with pytest.raises(DataError, match="read in the order bad, good"):
        prepare(resolve(swapped))


def test_a_teacher_of_one_answer_is_refused(world, tmp_path):
    rows = [{"text": row["text"], "probabilities": {"good": 0.9, "bad": 0.1}} for row in tiny_rows(160)]
    file = write_rows(tmp_path / "said.jsonl", rows)
    with pytest.raises(ModelError, match="the same answer to all"):
        prepare(resolve(recipe(world, tmp_path, teacher__models=[file])))


def test_a_finished_run_says_what_it_is_in_its_facts(world, tmp_path):
    run = distill(recipe(world, tmp_path), tmp_path / "run")
    assert json.loads((run.folder / "facts.json").read_text())["reference"] == "teacher"


def test_messages_name_the_file_and_how_to_measure_the_teacher(world, tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(Progress, "__init__", lambda self, *given: (called.append(given[-1]), made(self, *given))[1])
    file, said = answers(tmp_path, lambda name: {"label": name}), []
    run = distill(recipe(world, tmp_path, teacher__models=[file], data__transfer=file), tmp_path / "run", say=said.append)
    assert called == ["agreement with the teacher"]  # the bar of the student's training
    splits = [line for line in said if "were split off" in line]
    assert len(splits) == 2 and all(f"split off {file}" in line for line in splits)
    assert "label 100 to 200 texts by hand" in verdict(run.facts) and "--test FILE" in verdict(run.facts)


@pytest.mark.parametrize("given", [[], ["data__test"], ["data__test", "data__validation"]])
@pytest.mark.parametrize("file", [None, "all rows", "no test row"])
def test_law_only_figures_on_true_labels_are_called_accuracy(world, tmp_path, monkeypatch, given, file):
    called = []
    monkeypatch.setattr(Progress, "__init__", lambda self, *args: (called.append(args[-1]), made(self, *args))[1])
    keys = {one: getattr(world, one.removeprefix("data__")) for one in given}
    if file:
        keys["teacher__models"] = [answers(tmp_path, lambda name: {"label": name})]
    if file == "no test row" and given:
        tested = {json.loads(line)["text"] for line in Path(world.test).read_text("utf-8").splitlines()}
        lines = Path(keys["teacher__models"][0]).read_text("utf-8").splitlines()
        rows = [row for row in map(json.loads, lines) if row["text"] not in tested]
        keys["teacher__models"] = [write_rows(tmp_path / "part.jsonl", rows)]
    run = distill(recipe(world, tmp_path, **keys), tmp_path / "run")
    facts = {**run.facts, "trainings": {"student": {"distillation": {"rising": True, "steps": 40, "best": 0.8}}}}
    text = next(one["text"] for one in findings(facts) if one["kind"] == "still_rising")
    true = "data__validation" in given
    assert called == ["accuracy" if true else "agreement with the teacher"]
    assert f"Validation {called[0]} of the student was still rising" in text
    unmeasured = [note for note in facts["data"]["notes"] if note.startswith("The teacher is not measured")]
    assert ["answers 0 of" in note for note in unmeasured] == ([True] if file == "no test row" and given else [])
    assert ("quality" in facts["models"]["teacher"]) == (bool(given) and not unmeasured)
    assert not any("were left in" in note for note in facts["data"]["notes"])  # no row of two splits
