"""`DistillationTrainer` in a user's own script, and what must not change its result."""

import copy
import inspect
import math

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from torch import nn
from transformers import Trainer, TrainingArguments

import understudy
from tiny import LABELS, tiny_rows, tiny_teacher
from understudy.data.examples import LengthBuckets, examples_of
from understudy.errors import RecipeError, TrainingError
from understudy.objectives import Objective
from understudy.objectives.attention_scores import AttentionScores
from understudy.objectives.cosine import Cosine
from understudy.objectives.embeddings import Embeddings
from understudy.objectives.hidden_states import HiddenStates
from understudy.objectives.labels import Labels
from understudy.objectives.logit_regression import LogitRegression
from understudy.objectives.patient import Patient
from understudy.objectives.relations import Relations
from understudy.objectives.soft_targets import SoftTargets
from understudy.students import Blueprint
from understudy.students.bilstm import BiLSTM
from understudy.students.narrow import Narrow
from understudy.training.mixup import Mixup
from understudy.training.trainer import PRIVATE, DistillationTrainer

ROWS = tiny_rows(24)
BOTH = [(0.3, Labels()), (0.7, SoftTargets(temperature=2.0))]


def small_student(**settings):
    """No dropout, so that only what a test changes can change the result."""
    settings = {"hidden": 6, "embedding": 6, "feature": 6, "dropout": 0.0, "vocabulary": "teacher"} | settings
    texts = [row["text"] for row in ROWS]
    return BiLSTM(**settings).build(Blueprint(texts, LABELS, max_length=32, teacher=tiny_teacher()))


def plain_rows(student, *, labels=None, teacher=None, kept=False) -> Dataset:
    """What a script of the user's own would make: columns of a tokenizer, labels, and what the teacher needs."""
    texts = [row["text"] for row in ROWS]
    columns = {"text": texts, **student.tokenizer(texts), "labels": labels or [LABELS.index(row["label"]) for row in ROWS]}
    if teacher is not None:
        columns |= {f"teacher_{name}": value for name, value in teacher.tokenizer(texts).items()}
    if kept:
        with torch.no_grad():
            said = tiny_teacher().model(**tiny_teacher().tokenizer(texts, padding=True, return_tensors="pt")).logits
        columns["teacher_logits"] = said.tolist()
    return Dataset.from_dict(columns)


def trained(student, rows, folder, *, objectives=BOTH, teacher=None, mixup=None, **arguments):
    arguments = {
        "max_steps": 4,
        "per_device_train_batch_size": 8,
        "learning_rate": 0.1,
        "optim": "sgd",
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
    } | arguments
    trainer = DistillationTrainer(
        copy.deepcopy(student.model),
        TrainingArguments(str(folder), **arguments),
        objectives=objectives,
        teacher=teacher,
        train_dataset=rows,
        processing_class=student.tokenizer,
        mixup=mixup,
    )
    trainer.train()
    return trainer


def weights(trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def apart(one, other) -> float:
    """The largest difference of any weight."""
    first, second = weights(one), weights(other)
    return max((first[name] - second[name]).abs().max().item() for name in first)


def logged(trainer, name: str) -> list[float]:
    return [line[name] for line in trainer.state.log_history if name in line]


def test_it_is_public():
    assert understudy.DistillationTrainer is DistillationTrainer


def test_a_script_of_ones_own(tmp_path):
    """A teacher, plain columns with a text among them, the default collator and sampler."""
    student = small_student()
    trainer = trained(
        student, plain_rows(student), tmp_path, teacher=tiny_teacher().model, max_steps=60, optim="adamw_torch", learning_rate=0.05
    )
    losses = logged(trainer, "loss")
    assert np.mean(losses[-6:]) < 0.85 * np.mean(losses[:3])
    assert not list(tmp_path.glob("**/*.bin")), "a pickle was written"


@pytest.mark.parametrize("accumulation", [1, 3])
def test_every_term_is_logged_and_they_add_up(tmp_path, accumulation):
    student = small_student()
    trainer = trained(
        student, plain_rows(student, kept=True), tmp_path, gradient_accumulation_steps=accumulation, logging_steps=2, max_steps=6
    )
    terms = [logged(trainer, f"loss/{name}") for name in ("labels", "soft_targets")]
    assert len(terms[0]) == len(terms[1]) == 3
    np.testing.assert_allclose(logged(trainer, "loss"), 0.3 * np.array(terms[0]) + 0.7 * np.array(terms[1]), rtol=1e-5)


def test_two_objectives_of_a_kind_are_logged_apart(tmp_path):
    student = small_student()
    two = [(0.5, SoftTargets(temperature=1.0)), (0.5, SoftTargets(temperature=8.0))]
    trainer = trained(student, plain_rows(student, kept=True), tmp_path, objectives=two)
    assert logged(trainer, "loss/soft_targets") != logged(trainer, "loss/soft_targets_2") != []


@pytest.mark.parametrize("clips", [True, False])
def test_clipping_is_that_of_torch(tmp_path, clips):
    """One step of plain gradient descent at rate 0.1 moves the weights by 0.1 · the clipped gradient."""
    student = small_student()
    free = trained(student, plain_rows(student, kept=True), tmp_path, max_steps=1)
    norm = logged(free, "grad_norm")[0]
    limit = norm / 3 if clips else norm * 3
    held = trained(student, plain_rows(student, kept=True), tmp_path, max_steps=1, max_grad_norm=limit)
    assert logged(held, "grad_norm")[0] == pytest.approx(norm, rel=1e-5)
    start = student.model.state_dict()
    for name, value in weights(held).items():
        step = (weights(free)[name] - start[name]) / (3 if clips else 1)
        torch.testing.assert_close(value - start[name], step, rtol=1e-3, atol=1e-7)


def test_kept_outputs_and_a_live_teacher_train_alike(tmp_path):
    student = tiny_teacher(seed=1, layers=1)
    for module in student.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    live = trained(student, plain_rows(student), tmp_path, teacher=tiny_teacher().model)
    kept = trained(student, plain_rows(student, kept=True), tmp_path)
    assert apart(live, kept) < 1e-6
    other = trained(student, plain_rows(student), tmp_path, teacher=tiny_teacher(seed=8).model)
    assert apart(live, other) > 1e-4, "the teacher does not matter"


def test_a_live_teacher_reads_its_own_view(tmp_path):
    """A student of words beside a teacher of subwords: two tokenizers, two views of a row."""
    student, teacher = small_student(vocabulary="words", min_count=1), tiny_teacher()
    assert student.tokenizer.get_vocab() != teacher.tokenizer.get_vocab()
    live = trained(student, plain_rows(student, teacher=teacher), tmp_path, teacher=teacher.model)
    kept = trained(student, plain_rows(student, kept=True), tmp_path)
    assert apart(live, kept) < 1e-6


@pytest.mark.parametrize("spread", ["even", "uneven", "none in a batch"])
def test_one_batch_of_eight_is_eight_batches_of_one(tmp_path, spread):
    """Rows with and without labels, so that a mean over each small batch would weigh labelled rows wrongly."""
    labels = [LABELS.index(row["label"]) for row in ROWS]
    unlabelled = {"even": range(0), "uneven": range(1, 24, 3), "none in a batch": range(2, 24)}[spread]
    labels = [-100 if place in unlabelled else label for place, label in enumerate(labels)]
    student = small_student()
    rows = plain_rows(student, labels=labels, kept=True)
    whole = trained(student, rows, tmp_path)
    for size in (1, 2, 4):
        parts = trained(student, rows, tmp_path, per_device_train_batch_size=size, gradient_accumulation_steps=8 // size)
        assert apart(whole, parts) < 2e-6
        np.testing.assert_allclose(logged(parts, "loss"), logged(whole, "loss"), rtol=1e-4)
    assert apart(whole, trained(student, rows, tmp_path, max_steps=3)) > 1e-4, "nothing is learned"


def test_a_short_last_update_is_a_mean_as_well(tmp_path):
    student = small_student()
    rows = plain_rows(student, kept=True).select(range(20))  # 8 + 8 + 4
    settings = {"max_steps": -1, "num_train_epochs": 2}
    whole = trained(student, rows, tmp_path, **settings)
    parts = trained(student, rows, tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=4, **settings)
    assert whole.state.global_step == parts.state.global_step == 6
    assert apart(whole, parts) < 2e-6


INSIDE = [(1.0, HiddenStates), (0.1, AttentionScores), (1.0, Relations), (1.0, Embeddings), (1.0, Patient), (1.0, Cosine)]


def narrow_student():
    """Narrower than the teacher, so that hidden states need a learned map; no dropout."""
    texts = [row["text"] for row in ROWS]
    student = Narrow(layers=2, width=8, heads=2, vocabulary="teacher").build(Blueprint(texts, LABELS, teacher=tiny_teacher()))
    for module in student.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return student


@pytest.mark.parametrize("weight_and_kind", INSIDE, ids=lambda one: one[1].__name__)
def test_inside_one_batch_of_eight_is_eight_batches_of_one(tmp_path, weight_and_kind):
    """Tokens are counted over the whole update, though rows have different numbers of them."""
    weight, kind = weight_and_kind
    student, teacher = narrow_student(), tiny_teacher().model
    arguments = {"objectives": [(weight, kind(layers="uniform") if kind is Patient else kind())], "teacher": teacher, "learning_rate": 0.01}
    arguments["train_sampling_strategy"] = "group_by_length"
    whole = trained(student, plain_rows(student), tmp_path, **arguments)
    arguments["objectives"] = copy.deepcopy(arguments["objectives"])
    parts = trained(student, plain_rows(student), tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=8, **arguments)
    assert apart(whole, parts) < 1e-5
    before = student.model.state_dict()
    assert max((value - before[name]).abs().max().item() for name, value in weights(whole).items()) > 1e-4, "nothing was learned"


def test_mixup_by_hand(tmp_path, monkeypatch):
    """The loss of blended rows, from both models run on embeddings blended here."""
    student, teacher = tiny_teacher(seed=1, layers=2), tiny_teacher()
    for module in student.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    share, order = 0.7, torch.tensor([7, 6, 5, 4, 3, 2, 1, 0])
    monkeypatch.setattr(Mixup, "draw", lambda self, rows: (share, order))
    mixup = Mixup(0.4, [(2.0, Labels()), (0.5, LogitRegression(zero_mean=False))])
    rows = plain_rows(student).select(range(8))
    trainer = trained(
        student,
        rows,
        tmp_path,
        objectives=[(1.0, Labels())],
        teacher=teacher.model,
        mixup=mixup,
        max_steps=1,
        train_sampling_strategy="group_by_length",
    )
    batch = student.tokenizer(rows["text"][:], padding=True, return_tensors="pt")
    labels = torch.tensor(rows["labels"][:])

    def said(model):
        words = model.get_input_embeddings()(batch["input_ids"])
        mask = batch["attention_mask"] | batch["attention_mask"][order]
        return model(inputs_embeds=share * words + (1 - share) * words[order], attention_mask=mask).logits

    place = torch.tensor(list(trainer._get_train_sampler()))  # the order of the rows in the one batch
    assert sorted(place.tolist()) == list(range(8))
    batch = {name: value[place] for name, value in batch.items()}
    labels = labels[place]
    with torch.no_grad():
        one, other = said(student.model), said(teacher.model)
        ce = torch.nn.functional.cross_entropy
        expected = share * ce(one, labels) + (1 - share) * ce(one, labels[order])
        plain = ce(student.model(**batch).logits, labels)
    assert logged(trainer, "loss/mixed_labels")[0] == pytest.approx(expected.item(), abs=1e-4)
    assert logged(trainer, "loss/mixed_logit_regression")[0] == pytest.approx((one - other).square().mean().item(), abs=1e-4)
    total = plain + 2 * expected + 0.5 * (one - other).square().mean()
    assert logged(trainer, "loss")[0] == pytest.approx(total.item(), abs=1e-4)


def test_what_objectives_learn_trains_and_is_left_behind(tmp_path):
    student = narrow_student()
    objective = HiddenStates()
    trainer = trained(
        student,
        plain_rows(student),
        tmp_path,
        objectives=[(1.0, objective)],
        teacher=tiny_teacher().model,
        save_strategy="steps",
        save_steps=2,
        max_steps=6,
        learning_rate=0.01,
    )
    assert not any(name.startswith("objectives") for name in trainer.model.state_dict())
    kept = [load_file(tmp_path / f"checkpoint-{step}" / "model.safetensors") for step in (2, 6)]
    name = "objectives.0.maps.0.weight"
    assert not torch.equal(kept[0][name], kept[1][name]) and torch.equal(kept[1][name], objective.maps[0].weight)
    again = DistillationTrainer(
        narrow_student().model,
        trainer.args,
        objectives=[(1.0, other := HiddenStates())],
        teacher=tiny_teacher().model,
        train_dataset=plain_rows(student),
        processing_class=student.tokenizer,
    )
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert apart(trainer, again) < 1e-6 and torch.allclose(other.maps[0].weight, objective.maps[0].weight, atol=1e-6)


def test_length_buckets_hold_for_plain_rows_and_ours(tmp_path):
    student = small_student()
    plain = plain_rows(student, kept=True)
    ours = examples_of(student, plain.add_column("label", plain["labels"]), np.asarray(plain["teacher_logits"], np.float32))
    settings = {"train_sampling_strategy": "group_by_length", "seed": 3}
    one, other = trained(student, plain, tmp_path, **settings), trained(student, ours, tmp_path, **settings)
    assert apart(one, other) == 0
    sampler = one._get_train_sampler()
    assert isinstance(sampler, LengthBuckets) and sampler.batch_size == 8 and sampler.seed == 3
    assert apart(one, trained(student, plain, tmp_path, train_sampling_strategy="group_by_length", seed=4)) > 0


def test_the_teacher_stays_as_it_is_and_without_dropout(tmp_path):
    student, teacher = small_student(), tiny_teacher()
    before = copy.deepcopy(teacher.model.state_dict())
    teacher.model.train()
    trainer = trained(student, plain_rows(student), tmp_path, teacher=teacher.model)
    (terms,) = trainer.terms.values()
    assert not terms.teacher.training
    assert all(torch.equal(value, before[name]) for name, value in terms.teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in terms.teacher.parameters())


def test_evaluation_returns_logits_only(tmp_path):
    """A student that says more than logits, as a transformer with hidden states does, must not fill the memory."""

    class Talkative(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model, self.config = model, model.config

        def forward(self, **inputs):
            found = self.model(**inputs)
            return type(found)(logits=found.logits, hidden_states=(torch.zeros(len(found.logits), 1000),) * 4)

    student = small_student()
    seen = {}

    def metrics(found):
        seen["predictions"], seen["labels"] = found.predictions, found.label_ids
        return {"rows": len(found.label_ids)}

    trainer = DistillationTrainer(
        Talkative(student.model),
        TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", disable_tqdm=True),
        objectives=BOTH,
        eval_dataset=plain_rows(student),
        processing_class=student.tokenizer,
        compute_metrics=metrics,
    )
    assert trainer.evaluate()["eval_rows"] == len(ROWS)
    assert isinstance(seen["predictions"], np.ndarray) and seen["predictions"].shape == (len(ROWS), 2)
    assert seen["labels"].tolist() == [LABELS.index(row["label"]) for row in ROWS]


def test_no_teacher_no_training(tmp_path):
    student = small_student()
    with pytest.raises(RecipeError, match="give `teacher=`, or a `teacher_logits` column"):
        trained(student, plain_rows(student), tmp_path)
    trained(student, plain_rows(student), tmp_path, objectives=[(1.0, Labels())])  # labels need none


def test_weights_of_zero(tmp_path):
    student = small_student()
    with pytest.raises(RecipeError, match="weight 0"):
        trained(student, plain_rows(student), tmp_path, objectives=[(0.0, Labels())])
    only = trained(student, plain_rows(student), tmp_path, objectives=[(1.0, Labels()), (0.0, SoftTargets())])
    assert "loss/soft_targets" not in only.state.log_history[0]


class Breaks(Objective):
    """Gives way at the given update: as a value, or in its gradient only."""

    def __init__(self, at: int, *, where: str) -> None:
        super().__init__()
        self.at, self.where, self.seen = at, where, 0

    def forward(self, student, teacher, batch):
        self.seen += 1
        if self.seen != self.at:
            return student.logits.square().mean()
        # The root of nothing is nothing, but its slope is infinite.
        return student.logits.sum() * math.nan if self.where == "loss" else (student.logits * 0).sqrt().sum()


@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_loss_that_is_no_number_stops_before_a_weight_is_spoiled(tmp_path, where, clip):
    student = small_student()
    arguments = {"save_strategy": "steps", "save_steps": 1, "max_steps": 9, "max_grad_norm": clip}
    with pytest.raises(TrainingError, match=r"at step 4; the last good checkpoint is .*checkpoint-3") as caught:
        trained(student, plain_rows(student, kept=True), tmp_path, objectives=[(1.0, Breaks(4, where=where))], **arguments)
    assert "learning_rate" in str(caught.value)
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]
    saved = type(student.model).from_pretrained(tmp_path / "checkpoint-3")
    assert all(value.isfinite().all() for value in saved.state_dict().values())


def test_logit_regression_of_a_number(tmp_path):
    """One output, labels that are numbers, rows without any."""
    teacher = tiny_teacher(label_names=None)
    texts = [row["text"] for row in ROWS]
    student = BiLSTM(hidden=6, embedding=6, feature=6, dropout=0.0).build(Blueprint(texts, None, teacher=teacher))
    rows = Dataset.from_dict({**student.tokenizer(texts), "labels": [1.5, math.nan] * 12})
    objectives = [(0.5, Labels()), (0.5, LogitRegression())]
    teacher_rows = rows.add_column("teacher_logits", [[0.5]] * 24)
    whole = trained(student, teacher_rows, tmp_path, objectives=objectives)
    parts = trained(student, teacher_rows, tmp_path, objectives=objectives, per_device_train_batch_size=1, gradient_accumulation_steps=8)
    assert apart(whole, parts) < 2e-6 and np.isfinite(logged(parts, "loss")).all()


def test_law_the_private_methods_that_are_overridden_are_named_and_there():
    """`transformers` may change them in any release: what it calls must still be what is overridden."""
    whole = vars(Trainer)
    overridden = {name for name in vars(DistillationTrainer) if name.startswith("_") and not name.startswith("__") and name in whole}
    assert overridden == set(PRIVATE)
    for name in PRIVATE:
        own, given = (inspect.signature(vars(one)[name]).parameters for one in (DistillationTrainer, Trainer))
        assert list(own) == list(given), name


def test_the_arguments_of_the_caller_stay_as_they_are(tmp_path):
    arguments = TrainingArguments(tmp_path, use_cpu=True, report_to="none")
    before = arguments.to_json_string()
    student = small_student()
    DistillationTrainer(student.model, arguments, objectives=[(1.0, Labels())], train_dataset=plain_rows(student))
    assert arguments.to_json_string() == before
