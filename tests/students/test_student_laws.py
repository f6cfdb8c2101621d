"""Laws of every kind of student: the folder is walked, so a new file is held to them."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from tiny import LABELS, SECOND_TEXTS, TEXTS, encode, logits
from understudy import parts
from understudy.errors import ModelError
from understudy.models.text_model import TextModel
from understudy.students import Blueprint, Student

KINDS = sorted(parts.kinds("students"))
pytestmark = pytest.mark.parametrize("kind", KINDS)


def same(first: TextModel, second: TextModel) -> bool:
    first_weights, second_weights = first.model.state_dict(), second.model.state_dict()
    return first_weights.keys() == second_weights.keys() and all(
        torch.equal(first_weights[name], second_weights[name]) for name in first_weights
    )


@pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
@pytest.mark.parametrize("label_names", [LABELS, ("a", "b", "c"), None], ids=["two", "three", "number"])
def test_saved_and_loaded_says_the_same(kind, label_names, pair, build, tmp_path):
    student = build(kind, label_names=label_names, pair=pair)
    second_texts = SECOND_TEXTS if pair else None
    expected = logits(student, second_texts=second_texts)
    assert expected.shape == (len(TEXTS), len(label_names or "1"))
    assert student.label_names == label_names
    student.save(tmp_path / "student")

    loaded = TextModel.load(tmp_path / "student")
    assert loaded.label_names == label_names
    assert loaded.max_length == student.max_length == 32
    assert same(loaded, student)
    torch.testing.assert_close(logits(loaded, second_texts=second_texts), expected, atol=1e-5, rtol=1e-5)

    auto = TextModel(
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "student"), AutoTokenizer.from_pretrained(tmp_path / "student"), 32
    )
    torch.testing.assert_close(logits(auto, second_texts=second_texts), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
def test_works_in_a_pipeline(kind, pair, build, tmp_path):
    student = build(kind, pair=pair)
    student.save(tmp_path / "student")
    classify = pipeline("text-classification", str(tmp_path / "student"), device="cpu")
    rows = [{"text": text, "text_pair": second} if pair else text for text, second in zip(TEXTS, SECOND_TEXTS, strict=True)]
    expected = logits(student, second_texts=SECOND_TEXTS if pair else None).softmax(-1).max(-1)
    said = [classify(row) for row in rows] if pair else classify(rows, batch_size=3)
    said = [answer[0] if isinstance(answer, list) else answer for answer in said]
    assert [answer["label"] for answer in said] == [LABELS[index] for index in expected.indices]
    assert [answer["score"] for answer in said] == pytest.approx(expected.values.tolist(), abs=1e-4)


@pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
def test_padding_changes_nothing(kind, pair, build):
    student = build(kind, pair=pair)
    second_texts = SECOND_TEXTS if pair else None
    expected = logits(student, second_texts=second_texts)
    longer = logits(student, second_texts=second_texts, padding="max_length", max_length=32)
    torch.testing.assert_close(longer, expected, atol=1e-4, rtol=1e-4)
    for row in range(len(TEXTS)):
        alone = logits(student, TEXTS[row : row + 1], SECOND_TEXTS[row : row + 1] if pair else None)
        torch.testing.assert_close(alone[0], expected[row], atol=1e-4, rtol=1e-4)


def test_the_second_text_counts(kind, build):
    student = build(kind, pair=True)
    assert not torch.allclose(logits(student, second_texts=SECOND_TEXTS), logits(student, second_texts=SECOND_TEXTS[::-1]))


def test_the_seed_decides_and_nothing_else_is_touched(kind, build):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build(kind, pair=False, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(first, build(kind, pair=False, seed=5))


def test_float32_in_evaluation_mode_and_shorter_rows_than_asked(kind, build):
    student = build(kind)
    assert {parameter.dtype for parameter in student.model.parameters()} == {torch.float32}
    assert not student.model.training
    assert student.tokenizer.backend_tokenizer.padding is None
    assert encode(student, ["fun " * 100], truncation=True)["input_ids"].shape[1] == 32


def test_word_embeddings_have_a_row_a_token(kind, build):
    student = build(kind)
    assert student.model.get_input_embeddings().num_embeddings == student.model.config.vocab_size == len(student.tokenizer)


def test_learns_six_rows(kind, build):
    student = build(kind)
    labels = torch.tensor([0, 1, 0, 1, 1, 0])
    optimizer = torch.optim.AdamW(student.model.parameters(), lr=1e-2)
    student.model.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(60):
            loss = student.model(**encode(student), labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    student.model.eval()
    assert logits(student).argmax(-1).tolist() == labels.tolist()


def test_without_a_teacher_it_builds_or_says_why_not(kind, tmp_path, build):
    if kind == "pretrained":
        build(kind)  # leaves its folder
    settings = {"model": str(tmp_path / "pretrained")} if kind == "pretrained" else {}
    blueprint = Blueprint(TEXTS, LABELS, max_length=32)
    make = parts.part("students", kind)(**settings)
    if kind == "teacher_layers":
        with pytest.raises(ModelError, match="teacher_layers"):
            make.build(blueprint)
    else:
        assert logits(make.build(blueprint)).shape == (6, 2)


def test_has_training_defaults_and_docstring(kind):
    cls = parts.part("students", kind)
    assert issubclass(cls, Student)
    assert cls.training.keys() == {"epochs", "min_updates", "batch_size", "learning_rate"}
    assert "Pick it" in cls.__doc__
    assert "Args:" in cls.__doc__
