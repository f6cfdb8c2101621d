"""Stages on plain text under a masked-language head, the program that pretrains, and the student that teaches itself."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM

from test_pipeline import Stopped, metrics, weights
from tiny import TEXTS, tiny_teacher, tiny_tokenizer, write_rows
from understudy.data.examples import nested
from understudy.data.held_out import as_plain_text
from understudy.data.masking import MaskedRows
from understudy.data.rows import held_out_texts, read_texts, single_texts
from understudy.data.sources import read_table
from understudy.errors import DataError, ModelError, RecipeError
from understudy.models.text_model import TextModel
from understudy.objectives.soft_targets import SoftTargets
from understudy.programs.distill import distill
from understudy.runs import training
from understudy.runs.preparation import prepare, resolve
from understudy.settings.data import DataSettings
from understudy.settings.loading import load_recipe
from understudy.settings.stage import SelfAverage
from understudy.signals import Needs, Signals
from understudy.tasks import metric_named
from understudy.teachers.capture import signals_of
from understudy.training.masked_lm import MaskedLMScores, token_scores, with_head
from understudy.training.self_average import SelfAveragedTeacher

pytestmark = pytest.mark.usefixtures("quick")


def texts_of(raw: str):
    return read_texts(raw, DataSettings())


# --- text and masks


def test_text_is_read_by_line_and_by_column(tmp_path, raw):
    assert len(texts_of(raw)) == len(TEXTS) ** 2
    rows = write_rows(tmp_path / "rows.jsonl", [{"review": "a film"}, {"review": "a plot"}, {"review": "a film"}])
    assert read_texts(rows, DataSettings(columns={"text": "review"}))["text"][:] == ["a film", "a plot"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"\n \n", "empty.txt: the file is empty"),
        ("latin.txt", b"caf\xe9\n", "line 1: not UTF-8"),
        ("missing.txt", None, "no such file"),
        ("rows.jsonl", b'{"words": "a"}\n', "no column 'text'"),
    ],
)
def test_text_that_cannot_be_read(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        texts_of(str(tmp_path / name))


def test_a_twentieth_is_held_out_by_what_it_says(raw):
    rows = texts_of(raw)
    learned, held = held_out_texts(rows)
    assert len(held) == 1 and len(learned) == len(rows) - 1
    shuffled = held_out_texts(rows.shuffle(seed=3))
    assert held["text"][:] == shuffled[1]["text"][:]
    with pytest.raises(DataError, match="one text only"):
        held_out_texts(rows.select([0]))


def test_pairs_become_texts_of_their_own(pair_world):
    from understudy.data.sources import read_table

    rows = read_table(pair_world.train, {})
    single = single_texts(rows)
    assert set(single["text"]) == set(rows["text"]) | set(rows["text_pair"]) and "text_pair" not in single.column_names


def test_masked_language_modelling_sees_no_side_of_a_held_out_pair(pair_world, tmp_path):
    held_out = read_table(pair_world.test, {})[0]
    text, second = held_out["text"], held_out["text_pair"]
    mixed = [{"text": text, "text_pair": "fun"}, {"text": "fun", "text_pair": f" {second}"}, {"text": "fun", "text_pair": "a film"}]
    transfer = write_rows(tmp_path / "transfer.jsonl", mixed)
    keys = {**pair_world.keys, "data.transfer": transfer, "stages.0.rows": ["transfer"]}
    said: list[str] = []
    plan = prepare(resolve(load_recipe("well_read", keys)), said.append).first
    assert set(plan.stage_rows(plan.recipe.stages[0])["text"]) <= {"fun", "a film"}
    assert any("2 of 4 texts of transfer pairs are also texts of validation or test pairs" in line for line in said)
    assert len(plan.rows.transfer) == 3, "as pairs they are other rows"


def test_texts_that_differ_by_blanks_or_case_are_one():
    from datasets import Dataset

    rows = Dataset.from_dict({"text": ["a  film", "A film", "fun", "Dull"]})
    assert single_texts(rows, as_plain_text(["dull"]))["text"][:] == ["a  film", "fun"]


def test_masks_are_as_often_as_they_should_be_and_hang_on_seed_epoch_and_row():
    model = TextModel(tiny_teacher().model, tiny_tokenizer(), 64)
    from datasets import Dataset

    texts = Dataset.from_dict({"text": [" ".join(["film"] * 40)] * 300})
    rows = MaskedRows(model, texts, fraction=0.2, seed=1)
    film, mask = model.tokenizer.convert_tokens_to_ids("film"), model.tokenizer.mask_token_id
    batch = rows.batch(range(300))
    ids, labels = batch["student"]["input_ids"].numpy(), batch["labels"].numpy()
    assert (labels[:, [0, -1]] == -100).all(), "special tokens are never hidden"
    chosen = labels[:, 1:-1] == film
    assert abs(chosen.mean() - 0.2) < 0.02
    inside = ids[:, 1:-1][chosen]
    assert abs((inside == mask).mean() - 0.8) < 0.03 and abs((inside == film).mean() - 0.1) < 0.03
    assert (ids[:, 1:-1][~chosen] == film).all()
    again = MaskedRows(model, texts, fraction=0.2, seed=1)
    np.testing.assert_array_equal(again[7]["student"]["input_ids"][0], ids[7])
    again.set_epoch(1)
    other = MaskedRows(model, texts, fraction=0.2, seed=2)
    assert all((one[7]["student"]["input_ids"][0].numpy() != ids[7]).any() for one in (again, other))
    nothing = MaskedRows(model, texts, fraction=0.0, seed=1)[7]
    assert (nothing["labels"] == -100).all() and (nothing["student"]["input_ids"][0, 1:-1] == film).all()


def test_the_batches_of_an_epoch_are_told_its_number():
    from understudy.data.examples import LengthBuckets

    told = []
    LengthBuckets(np.array([3, 4]), 2, on_epoch=told.append).set_epoch(4)
    assert told == [4]


# --- head, scores and losses over a vocabulary


def test_the_head_shares_the_students_encoder_and_starts_from_the_teachers():
    student = tiny_teacher(layers=2)
    teacher = with_head(tiny_teacher(layers=3), 5)
    own = with_head(student, 0, teacher)
    assert own.model.base_model is student.model.base_model
    assert own.model.get_output_embeddings().weight is student.model.get_input_embeddings().weight
    dense = "cls.predictions.transform.dense.weight"
    assert torch.equal(own.model.state_dict()[dense], teacher.model.state_dict()[dense])
    other, again, elsewhere = (with_head(student, seed).model.state_dict()[dense] for seed in (0, 0, 1))
    assert not torch.equal(other, teacher.model.state_dict()[dense])
    assert torch.equal(other, again) and not torch.equal(other, elsewhere)


def test_a_student_without_an_encoder_has_no_such_head(build):
    with pytest.raises(ModelError, match="understudy_bilstm; take teacher_layers, narrow or pretrained"):
        with_head(build("bilstm"), 0)


def test_scores_are_those_of_transformers():
    model = with_head(tiny_teacher(), 3)
    from datasets import Dataset

    rows = MaskedRows(model, Dataset.from_dict({"text": list(TEXTS)}), fraction=0.5, seed=0)
    batch = rows.batch(range(len(TEXTS)))
    with torch.no_grad():
        found = model.model(**batch["student"], labels=batch["labels"])
    scores = token_scores(found.logits, batch["labels"])
    loss, _, count = scores.sum(0).tolist()
    assert loss / count == pytest.approx(found.loss.item(), rel=1e-5)
    said = MaskedLMScores().validated(scores.numpy(), np.zeros(len(TEXTS)))
    assert said["perplexity"] == pytest.approx(np.exp(found.loss.item()), rel=1e-5)
    counted = batch["labels"] != -100
    assert said["masked_accuracy"] == pytest.approx((found.logits.argmax(-1) == batch["labels"])[counted].float().mean().item())


def test_soft_targets_count_every_token_but_padding():
    draw = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 3, 5, generator=draw) for _ in range(2))
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    batch = nested({"labels": torch.full((2, 3), -100), "attention_mask": mask})
    objective = SoftTargets(temperature=2.0)
    found = objective(Signals(logits=student), Signals(logits=teacher), batch)
    kept = mask.bool()
    expected = torch.nn.KLDivLoss(reduction="batchmean")((student[kept] / 2).log_softmax(-1), (teacher[kept] / 2).softmax(-1)) * 4
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    student[1, 1:] = 1e4
    assert objective(Signals(logits=student), Signals(logits=teacher), batch).item() == pytest.approx(found.item(), rel=1e-6)


# --- whole runs


SMALL_STAGE = {"epochs": 2, "batch_size": 8, "learning_rate": 5e-3}


def distilbert(world, raw, pretrained, **changes):
    built = load_recipe(
        "distilbert",
        world.keys
        | {
            "data.raw": raw,
            "teacher.pretrained": pretrained,
            "control": [],
            **{f"stages.{stage}.train.{name}": value for stage in (0, 1) for name, value in SMALL_STAGE.items()},
            **{key.replace("__", "."): value for key, value in changes.items()},
        },
    )
    return built


def test_distilbert_starts_from_the_pretrained_model_and_drops_the_head(world, raw, pretrained, tmp_path):
    said = []
    run = distill(distilbert(world, raw, pretrained, control=["alone"]), tmp_path / "run", say=said.append)
    student = TextModel.load(run.folder / "student")
    assert not any(name.startswith("cls.predictions") for name in student.model.state_dict())
    first = [line for line in metrics(run, "student") if line["stage"] == "pretraining"]
    assert {"loss/soft_targets", "loss/labels", "loss/cosine"} <= set(first[0])
    assert any("masked_accuracy" in line.get("validation", {}) for line in first)
    losses = [line["loss/labels"] for line in first if "loss/labels" in line]
    assert losses[-1] < losses[0]
    assert any("(teacher_layers" in line and "33 rows" not in line for line in said)

    def updates(model: str) -> dict[str, int]:
        return {stage: found["steps"] for stage, found in run.trainings(metric_named("accuracy"), rows=30, least={})[model].items()}

    assert updates("student_alone") == updates("student")  # stage by stage


def test_the_untrained_student_is_cut_from_the_pretrained_model(world, raw, pretrained):
    from understudy.runs.preparation import prepare, resolve

    plan = prepare(resolve(distilbert(world, raw, pretrained))).first
    own = plan.student.model.state_dict()
    given = AutoModelForMaskedLM.from_pretrained(pretrained).state_dict()
    for old, new in ((0, 0), (1, 1)):
        name = "bert.encoder.layer.{}.attention.self.query.weight"
        assert torch.equal(own[name.format(new)], given[name.format(old)])


def test_stopped_while_pretraining_and_resumed(world, raw, pretrained, tmp_path, monkeypatch):
    from understudy.training.trainer import DistillationTrainer

    whole = distill(distilbert(world, raw, pretrained), tmp_path / "whole")
    step, seen = DistillationTrainer.training_step, []

    def interrupted(self, *given, **settings):
        seen.append(None)
        if len(seen) == 7:
            raise Stopped
        return step(self, *given, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(DistillationTrainer, "training_step", interrupted)
        with pytest.raises(Stopped):
            distill(distilbert(world, raw, pretrained), tmp_path / "run")
    run = distill(distilbert(world, raw, pretrained), tmp_path / "run", resume=True)
    assert weights(run) == weights(whole) and metrics(run, "student") == metrics(whole, "student")


def test_general_distillation_needs_no_head_and_no_text_of_its_own(world, tmp_path):
    """TinyBERT's first stage hears the given teacher on the training rows where nothing else is given."""
    small = {f"stages.{stage}.train.{name}": value for stage in range(3) for name, value in SMALL_STAGE.items()}
    built = load_recipe(
        "tinybert", world.keys | small | {"control": [], "student": {"kind": "narrow", "layers": 2, "width": 8, "heads": 2}}
    )
    run = distill(built, tmp_path / "run")
    general = [line for line in metrics(run, "student") if line["stage"] == "general" and "loss" in line]
    assert general[-1]["loss"] < general[0]["loss"]


@pytest.mark.parametrize("fraction", [0.0, 0.5])
def test_teacher_and_student_read_the_same_words_however_they_number_them(world, raw, tmp_path, monkeypatch, fraction):
    from understudy.training import trainer

    seen: list[tuple] = []

    def noted(inputs, view=trainer.teacher_view):
        seen.append((inputs["student"]["input_ids"], view(inputs)["input_ids"]))
        return view(inputs)

    monkeypatch.setattr(trainer, "teacher_view", noted)
    small = {f"stages.{stage}.train.{name}": value for stage in range(3) for name, value in SMALL_STAGE.items()}
    built = load_recipe(
        "tinybert",
        world.keys
        | small
        | {
            "control": [],
            "student": {"kind": "narrow", "layers": 2, "width": 8, "heads": 2, "vocabulary": "data"},
            "data.raw": raw,
            "stages.0.masked_lm.fraction": fraction,
        },
    )
    run = distill(built, tmp_path / "run")
    student, teacher = TextModel.load(run.folder / "student").tokenizer, TextModel.load(world.teacher).tokenizer
    assert student.get_vocab() != teacher.get_vocab()
    read, heard = ([row for batch in view for row in batch] for view in zip(*seen, strict=True))
    words = [student.convert_ids_to_tokens(row) for row in read]
    assert words == [teacher.convert_ids_to_tokens(row) for row in heard]
    hidden = sum(row.count("[MASK]") for row in words)
    assert hidden > len(words) if fraction else hidden == 0


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"teacher.pretrained": None}, RecipeError, "give one with --pretrained FOLDER"),
        ({"student": {"kind": "bilstm"}}, RecipeError, "the student bilstm has none that can be matched"),
        ({"student": {"kind": "bilstm"}, "stages.0.objectives": [{"kind": "labels"}]}, ModelError, "take teacher_layers, narrow or"),
        ({"student": {"kind": "teacher_layers", "vocabulary": "data"}}, RecipeError, "need one vocabulary"),
        ({"stages.0.rows": ["raw"], "data.raw": None}, RecipeError, "give a file with --raw"),
    ],
)
def test_what_a_stage_on_text_cannot_do_is_said_before_training(world, raw, pretrained, tmp_path, changes, error, message):
    keys = distilbert(world, raw, pretrained).model_dump(mode="json")
    with pytest.raises(error, match=message):
        distill(load_recipe("distilbert", keys | changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_pretrained_model_without_its_head_is_refused_where_it_is_heard(world, raw, tmp_path):
    with pytest.raises(ModelError, match="no masked language model: its head would be initialized at random"):
        distill(distilbert(world, raw, world.teacher), tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages.1.masked_lm": {"fraction": 0.1}}, "the last stage trains the task"),
        ({"stages.1.rows": ["raw"]}, "only a stage with masked_lm can use it"),
        ({"stages.0.teacher": "self"}, "always uses teacher.pretrained"),
        ({"stages.0.student": {"kind": "bilstm"}}, "exclude each other"),
        ({"stages.0.masked_lm.fraction": 1.0}, "less than 1"),
        ({"stages.1.self_average": {"checkpoints": 3}}, "self_average needs teacher 'self', but teacher is 'given'"),
    ],
)
def test_stages_on_text_that_make_no_sense(changes, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("distilbert", changes)


def test_plan_counts_the_updates_of_every_stage(world, raw, pretrained, understudy):
    said = understudy("plan", *world.distill("distilbert", "nowhere")[1:-2], "--pretrained", pretrained, "--raw", raw, "--json")
    assert said.code == 0, said.err
    assert said.json["updates_of_the_student"] == 3 * 3 + 3 * 2  # 95 of 96 texts in batches of 32; 60 rows


def test_pretrain_makes_what_pretrained_takes(world, raw, tmp_path, understudy):
    out = tmp_path / "language"
    words = [
        "pretrain",
        world.teacher,
        "--raw",
        raw,
        "--set",
        "train.epochs=3",
        "--set",
        "train.learning_rate=5e-3",
        "--set",
        "train.batch_size=8",
        "--out",
        out,
    ]
    said = understudy(*words)
    assert said.code == 0 and "of the masked tokens" in said.out
    facts = json.loads((out / "facts.json").read_text())
    assert facts["data"] == {"train": {"rows": 35}, "validation": {"rows": 1}}
    assert TextModel.load(out, masked_lm=True).parameters == facts["models"]["teacher"]["parameters"]
    assert understudy(*words).code == 2 and understudy(*words, "--resume").code == 0
    assert understudy("pretrain", world.teacher, "--out", tmp_path / "other").err.count("give --raw FILE") == 1
    assert not (tmp_path / "other").exists()
    assert (
        understudy(
            *world.distill("distilbert", tmp_path / "run"),
            "--pretrained",
            out,
            "--raw",
            raw,
            "--no-control",
            "--set",
            "stages.0.train.max_steps=2",
            "--set",
            "stages.1.train.max_steps=2",
        ).code
        == 0
    )


# --- the mean of itself


def test_the_mean_of_the_last_weights():
    model = torch.nn.Linear(2, 2)
    own = SelfAveragedTeacher(model, SelfAverage(checkpoints=3))
    seen = [model.weight.detach().clone()]
    for step in range(4):
        with torch.no_grad():
            model.weight.add_(step + 1.0)
        own.follow(model)
        seen.append(model.weight.detach().clone())
        torch.testing.assert_close(own.model.weight, torch.stack(seen[-3:]).mean(0))
    assert not own.model.weight.requires_grad and own.model.weight is not model.weight


def test_a_checkpoint_carries_the_mean(tmp_path):
    model = torch.nn.Linear(2, 2)
    own = SelfAveragedTeacher(model, SelfAverage(checkpoints=3))
    for _ in range(2):
        with torch.no_grad():
            model.weight.mul_(2)
        own.follow(model)
    own.save(tmp_path)
    other = SelfAveragedTeacher(torch.nn.Linear(2, 2), SelfAverage(checkpoints=3))
    other.load(tmp_path)
    for one in (own, other):
        with torch.no_grad():
            model.weight.fill_(1.0)
        one.follow(model)
    assert torch.equal(own.model.weight, other.model.weight) and len(other.kept) == 3


def averaged_self(world):
    return load_recipe(
        "averaged_self",
        world.keys
        | {"control": [], "stages.0.train.evaluations": 4, **{f"stages.0.train.{name}": value for name, value in SMALL_STAGE.items()}},
    )


def test_a_student_teaches_itself_and_goes_on_where_it_was_stopped(world, tmp_path, monkeypatch):
    from understudy.training.trainer import DistillationTrainer

    whole = distill(averaged_self(world), tmp_path / "whole")
    terms = [line["loss/logit_regression"] for line in metrics(whole, "student") if "loss/logit_regression" in line]
    assert min(terms) > 0
    step, seen = DistillationTrainer.training_step, []

    def interrupted(self, *given, **settings):
        seen.append(None)
        if len(seen) == 9:  # the checkpoint is of step 8
            raise Stopped
        return step(self, *given, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(DistillationTrainer, "training_step", interrupted)
        with pytest.raises(Stopped):
            distill(averaged_self(world), tmp_path / "run")
    run = distill(averaged_self(world), tmp_path / "run", resume=True)
    assert weights(run) == weights(whole) and metrics(run, "student") == metrics(whole, "student")


def test_the_self_taught_student_hears_a_copy_of_itself(world, tmp_path, monkeypatch):
    heard = []
    train = training.train
    monkeypatch.setattr(training, "train", lambda *given: heard.append(given) or train(*given))
    distill(averaged_self(world), tmp_path / "run")
    ((lessons, _, shared),) = heard
    (lesson,) = lessons.values()
    own = SelfAveragedTeacher(lesson.model.model, shared.self_average)
    assert own.model is not lesson.model.model
    batch = dict(tiny_tokenizer()(list(TEXTS), padding=True, return_tensors="pt"))
    _, said = signals_of(own.model, batch, Needs(logits=True))
    assert said.logits is not None and said.logits.shape == (len(TEXTS), 2)
