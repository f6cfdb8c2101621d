"""What the controls have of a recipe: `alone` all but the teacher, `pseudo_labels` its most likely label; laws over all recipes."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from understudy.data.rows import labelled
from understudy.objectives import LayerObjective
from understudy.programs.distill import distill
from understudy.runs import controls
from understudy.runs.preparation import prepare, resolve
from understudy.settings.loading import for_several_tasks, load_recipe, packaged
from understudy.settings.stage import Stage
from understudy.signals import Signals
from understudy.training.length import length

pytestmark = pytest.mark.usefixtures("quick")
MORE = {"distilbert": lambda pretrained: {"teacher.pretrained": pretrained}, "tinybert": lambda _: {"student.layers": 2}}
CONTROLS = ["alone", "pseudo_labels"]


def terms_of(stage: Stage) -> list:
    return [*stage.objectives, *(stage.mixup.objectives if stage.mixup else ())]


def needs_no_teacher(term) -> bool:
    return bool(term.weight) and (term.kind == "labels" or not term.make().uses_teacher)


def planned(name: str, world, number_world, pretrained, raw) -> list:
    """(plan, the student's stages with their updates, {control: its parts}) of each task of a recipe."""
    if for_several_tasks(name):
        tasks = [
            {
                "name": task,
                "task": kind,
                "teacher": {"models": [files.teacher]},
                "data": {split: getattr(files, split) for split in ("train", "validation", "test", "transfer")},
            }
            for task, kind, files in (("mood", "classification", world), ("likeness", "similarity", number_world))
        ]
        keys = {"tasks": tasks, "control": CONTROLS}
    else:
        keys = world.keys | {"data.transfer": world.transfer, "data.raw": raw, "control": CONTROLS}
        keys |= MORE.get(name, lambda _: {})(pretrained)
    whole = prepare(resolve(load_recipe(name, keys)))
    counts = [stage.length.updates for stage in whole.stages]
    of_controls = {control: controls.stages_of(control, whole) for control in CONTROLS}
    return [
        (
            plan,
            list(zip(plan.recipe.stages, counts, strict=True)),
            {control: [stage.parts.get(task) or stage.parts[""] for stage in stages] for control, stages in of_controls.items()},
        )
        for task, plan in whole.tasks.items()
    ]


# --- laws over all recipes


@pytest.mark.parametrize("name", sorted(packaged()))
def test_every_control_of_every_recipe(name, world, number_world, pretrained, raw):
    for plan, made, of_controls in planned(name, world, number_world, pretrained, raw):
        own = [(stage, count) for stage, count in made if stage.student is None]  # an assistant is another student
        for control, stages in of_controls.items():
            makes = [length([len(part.rows)], part.stage.train).updates for part in stages if part.stage.student is None]
            if control == "alone" or not for_several_tasks(name):  # there the tasks' rows count together
                assert sum(makes) == sum(count for _, count in own)
            for stage, rows in ((part.stage, part.rows) for part in stages):
                assert any(term.weight for term in stage.objectives) and len(rows)
                if stage.masked_lm is None and stage.teacher == "given" and control == "pseudo_labels":
                    assert set(rows["identity"]) <= {row for taught in plan.taught_rows() for row in taught["identity"]}
        alone, pseudo = ([part.stage for part in of_controls[control]] for control in CONTROLS)

        # Alone needs no teacher, anywhere, and every row that it learns a task from has a label.
        for part in of_controls["alone"]:
            stage, rows = part.stage, part.rows
            assert not any(term.make().uses_teacher for term in terms_of(stage) if term.weight)
            assert (stage.teacher, stage.self_average, stage.student) == ("given", None, None)
            assert not part.needs and not part.runs_teacher and not part.keeps_logits
            assert stage.masked_lm is not None or len(labelled(rows)) == len(rows)
        # What needs none is still there.
        for (stage, _), kept in zip(own, alone, strict=True):
            had = [
                (term.kind, term.settings | ({"target": "gold"} if term.kind == "labels" else {}))
                for term in terms_of(stage)
                if needs_no_teacher(term)
            ]
            assert [one for one in had if one not in [(term.kind, term.settings) for term in terms_of(kept)]] == []
            language = stage.masked_lm if any(map(needs_no_teacher, stage.objectives)) else None
            assert kept.masked_lm == language and (kept.rows == stage.rows if language else kept.rows == ("train",))
            assert (kept.mixup is None) == (stage.mixup is None or not any(map(needs_no_teacher, stage.mixup.objectives)))
            assert kept.train.model_copy(update={"max_steps": stage.train.max_steps}) == stage.train
        # Pseudo-labels: nothing soft, nothing from inside; all else as it was.
        for stage in pseudo:
            for term in filter(lambda term: term.weight and term.make().uses_teacher, terms_of(stage)):
                assert term.kind == "labels" or term.settings["hard"], term
                assert not isinstance(term.make(), LayerObjective)
        for (stage, _), kept in zip(made, pseudo, strict=True):
            assert [term for term in terms_of(stage) if needs_no_teacher(term) and term not in terms_of(kept)] == []
            assert (kept.augment, kept.teacher, kept.student) == (stage.augment, stage.teacher, stage.student)


KEPT = {
    "distilbert": ["masked language modelling (stage pretraining)"],
    "well_read": ["masked language modelling (stage pretraining)"],
    "mixkd": ["mixup of labels (stage distillation)"],
}


@pytest.mark.parametrize("name", sorted(packaged()))
def test_what_alone_has_is_named(name):
    assert controls.kept("alone", load_recipe(name)) == KEPT.get(name, [])


# --- samples


def test_the_four_that_had_too_little():
    def terms(name: str, place: int) -> Stage:
        recipe = load_recipe(name)
        return controls.alone(recipe.stages[place], recipe, 7)

    language = terms("distilbert", 0)
    assert language.masked_lm.fraction == 0.15 and language.rows == ("raw", "transfer", "train")
    assert [(term.kind, term.weight) for term in language.objectives] == [("labels", 1.0)] and language.train.max_steps == 7
    recipe = load_recipe("well_read")
    before = recipe.stages[0]
    assert controls.alone(before, recipe, 9) == before.model_copy(update={"train": before.train.model_copy(update={"max_steps": 9})})
    blended = terms("mixkd", 0)
    assert blended.mixup.alpha == 0.4 and [term.kind for term in blended.mixup.objectives] == ["labels"]
    assert terms("tang_augmented", 0).augment is None, "Tang's augmenters leave the label to the teacher"


def test_pseudo_labels_of_plain_text():
    """Of a masked language model its likeliest token; where only what goes on inside was compared, the task is learned as long."""
    recipe = load_recipe("distilbert")
    found = controls.pseudo_labelled(recipe.stages[0], recipe, 7)
    assert [(term.weight, term.settings["target"]) for term in found.objectives] == [(5.0, "teacher"), (2.0, "gold")]
    recipe = load_recipe("tinybert")
    found = controls.pseudo_labelled(recipe.stages[0], recipe, 7)
    assert found.masked_lm is None and found.train.max_steps == 7 and found.rows == ("train", "transfer")
    assert [(term.kind, term.settings["target"]) for term in found.objectives] == [("labels", "teacher")]


def test_pseudo_labels_of_annealed_targets_anneal():
    recipe = load_recipe("bam")
    (term,) = controls.pseudo_labelled(recipe.stages[0], recipe, 7).objectives
    assert term.kind == "annealed_targets" and term.settings == {"first": 0.0, "last": 1.0, "hard": True}
    objective = term.make()
    student, batch = torch.tensor([[0.0, 1.0, 3.0]]), {"labels": torch.tensor([0]), "counted": torch.tensor([True])}
    log = student.log_softmax(-1)[0]
    for progress, expected in ((0.0, -log[2]), (0.25, -0.25 * log[0] - 0.75 * log[2]), (1.0, -log[0])):
        objective.progress = progress
        found = objective(Signals(logits=student), Signals(logits=torch.tensor([[0.0, 0.1, 0.2]])), batch)
        assert found == pytest.approx(expected)


def test_a_student_that_was_left_behind_an_assistant_is_not_trained():
    """The student of the last stage begins after the assistant; a stage before it trained another copy."""
    recipe = load_recipe("teacher_assistant")
    stages = [recipe.stages[1].model_copy(update={"name": "first", "teacher": "given"}), *recipe.stages]
    chained = recipe.model_copy(update={"stages": tuple(stages)})
    assert [stage.name for stage in controls.trained_stages("alone", chained)] == ["distillation"]
    assert len(controls.trained_stages("pseudo_labels", chained)) == 3


def test_changed_rows_whose_label_survives(world, tmp_path):
    """Only by the steps that say so, only of rows that have a label, each with the label of its row."""
    (tmp_path / "mine.py").write_text(
        "from understudy.augmenters import Augmenter\n"
        "class Louder(Augmenter):\n"
        "    keeps_label = True\n"
        "    def change(self, pieces, draw):\n"
        "        return [*pieces, '!' * draw.randint(1, 9)]\n"
    )
    steps = [{"kind": "masking", "probability": 0.9}, {"kind": f"{tmp_path}/mine.py:Louder"}]
    keys = world.keys | {"data.transfer": world.transfer, "stages.0.augment": {"copies": 3, "steps": steps}, "student.hidden": 8}
    whole = prepare(resolve(load_recipe("tang", keys)))
    plan, (trained,) = whole.first, controls.stages_of("alone", whole)
    stage, rows, own = trained.stage, trained.parts[""].rows, plan.rows.train
    texts = dict(zip(own["text"], own["label"], strict=True))
    assert len(rows) > len(own) and list(rows["identity"])[: len(own)] == list(own["identity"])
    assert len(set(rows["identity"])) == len(rows)
    for text, label in zip(rows["text"], rows["label"], strict=True):
        assert texts[text.rstrip("!")] == label, "another label, or a word masked"
    assert stage.train.max_steps == whole.stages[0].length.updates
    assert controls.kept("alone", plan.recipe) == [f"rows changed by {tmp_path}/mine.py:Louder (stage distillation)"]
    assert (np.asarray(plan.augmented["distillation"]["label"]) < 0).all(), "the student's are the teacher's to label"


def test_alone_blends_rows_without_a_teacher(world, tmp_path, understudy):
    words = world.distill("mixkd", tmp_path / "run", "--set", "stages.0.train.max_steps=4")
    said = understudy(*words)
    assert said.code == 0, said.err
    told = " ".join(said.err.split())
    assert "The control 'alone' keeps mixup of labels (stage distillation)" in told
    assert "the student's start (layers and word embeddings of the teacher)" in told
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    losses = [line for line in lines if line["model"] == "student_alone" and "loss" in line]
    assert losses and all({"loss/labels", "loss/mixed_labels"} <= line.keys() for line in losses)
    facts = json.loads((tmp_path / "run" / "facts.json").read_text())
    assert facts["controls"] == {
        "alone": {"kept": ["mixup of labels (stage distillation)"], "start": "layers and word embeddings of the teacher"}
    }
    assert "mixup of labels (stage distillation)" in (tmp_path / "run" / "report.html").read_text()


def test_what_both_start_from_is_named(world, pretrained, tmp_path):
    def start(name="hinton", **changes) -> str:
        return controls.start(prepare(resolve(load_recipe(name, world.keys | changes))).first)

    assert start() == "layers and word embeddings of the teacher"
    assert start(**{"teacher.pretrained": pretrained}) == "layers and word embeddings of the pretrained model"
    assert start("tang") == "word embeddings of the teacher" and start("well_read") == ""
    assert start("tang", **{"student.vocabulary": "words"}) == ""


def test_alone_pretrains_as_the_student_does(world, raw, tmp_path):
    """The stage on plain text is the same for both, to the last digit of its loss."""
    changes = {f"stages.{place}.train.max_steps": 6 for place in range(3)}
    run = distill(load_recipe("well_read", world.keys | {"data.raw": raw} | changes), tmp_path / "run")
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    losses = {
        model: [line["loss"] for line in lines if (line["model"], line["stage"]) == (model, "pretraining") and "loss" in line]
        for model in ("student", "student_alone")
    }
    assert losses["student"] == losses["student_alone"] != []
    assert {line["stage"] for line in lines if line["model"] == "student_alone"} == {"pretraining", "distillation", "finetuning"}


def test_the_page_on_controls_names_every_recipe():
    section = (Path(__file__).parents[1] / "docs" / "report.md").read_text("utf-8").partition("## The controls")[2]
    named = set(re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in section.splitlines() if line.startswith("|"))))
    assert named >= set(packaged())
