"""Every family of encoders: its parts are found, and students are made of it."""

import pytest
import torch
import transformers
from torch import nn
from transformers import AutoModelForSequenceClassification

from tiny import CONFIGS, LABELS, SIZES, TEXTS, family, logits
from understudy.errors import ModelError
from understudy.models import encoder
from understudy.models.text_model import TextModel
from understudy.students import Blueprint
from understudy.students.narrow import Narrow
from understudy.students.teacher_layers import TeacherLayers


@pytest.mark.parametrize("name", CONFIGS)
def test_parts_are_found(name):
    model = family(name).model
    assert len(encoder.layers(model)) == 3
    assert encoder.has_layers(model)
    assert isinstance(encoder.embeddings(model), nn.Module)
    assert encoder.word_embeddings(model).num_embeddings == SIZES["vocab_size"]
    assert (encoder.pooler(model) is not None) == (name == "Bert")
    heads = encoder.head_modules(model)
    assert "classifier" in heads
    assert all(model.get_submodule(path) is module for path, module in heads.items())
    # Embeddings, layers and head share nothing, and next to nothing lies outside of them.
    groups = [encoder.embeddings(model), encoder.layers(model), *heads.values()]
    counted = [{id(parameter) for parameter in group.parameters()} for group in groups]
    assert sum(map(len, counted)) == len(set().union(*counted))
    outside = [path for path, parameter in model.named_parameters() if id(parameter) not in set().union(*counted)]
    between = ("embeddings_project", "final_norm", "relative_attention_bias", "rel_embeddings", "encoder.LayerNorm")
    assert [path for path in outside if not any(name in path for name in between)] == []


@pytest.mark.parametrize("name", CONFIGS)
def test_all_layers_kept_gives_the_teachers_logits(name):
    teacher = family(name)
    student = TeacherLayers(layers=[0, 1, 2]).build(Blueprint(TEXTS, LABELS, teacher=teacher))
    assert student.parameters == teacher.parameters
    assert torch.equal(logits(student), logits(teacher))


@pytest.mark.parametrize("name", CONFIGS)
def test_chosen_layers_are_the_teachers_after_a_reload(name, tmp_path):
    teacher = family(name)
    TeacherLayers(layers=[0, 2], vocabulary="data").build(Blueprint(TEXTS, LABELS, teacher=teacher)).save(tmp_path / "s")
    student = TextModel.load(tmp_path / "s")
    for mine, theirs in zip((0, 1), (0, 2), strict=True):
        expected = encoder.layers(teacher.model)[theirs].state_dict()
        got = encoder.layers(student.model)[mine].state_dict()
        assert expected.keys() == got.keys()
        assert all(torch.equal(expected[key], got[key]) for key in got)
    # The same middle layer skipped by hand in the teacher is the oracle for the whole student.
    encoder.layers(teacher.model)[1].register_forward_hook(
        lambda _, inputs, output: inputs[0] if isinstance(output, torch.Tensor) else (inputs[0], *output[1:])
    )
    torch.testing.assert_close(logits(student), logits(teacher), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_narrow_is_of_the_teachers_family(name, tmp_path):
    teacher = family(name)
    student = Narrow(layers=4, width=24, heads=3).build(Blueprint(TEXTS, LABELS, teacher=teacher))
    assert type(student.model) is type(teacher.model)
    assert len(encoder.layers(student.model)) == 4
    assert encoder.word_embeddings(student.model).embedding_dim == 24
    expected = logits(student)
    student.save(tmp_path / "s")
    assert torch.equal(logits(TextModel.load(tmp_path / "s")), expected)


PROJECTED = ("Bert", "Roberta", "XLMRoberta", "DistilBert", "Electra", "MPNet")


def drawn_anew(model: nn.Module, *, gains: bool) -> None:
    """Biases and norms that say something; without `gains`, those of each norm are alike."""
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.weight.fill_(1 + torch.rand((), generator=draw).item())
                if gains:
                    module.weight.mul_(torch.rand(module.weight.shape, generator=draw) + 0.5)
            bias = getattr(module, "bias", None)
            if isinstance(bias, nn.Parameter):
                bias.copy_(torch.randn(bias.shape, generator=draw) * 0.3)


@pytest.mark.parametrize("name", PROJECTED)
def test_a_projection_of_the_same_size_is_the_teacher_where_gains_are_alike(name, monkeypatch):
    monkeypatch.setitem(CONFIGS, "Electra", SIZES | {"embedding_size": 16})
    teacher = family(name)
    drawn_anew(teacher.model, gains=False)
    settings = {"layers": 3, "width": 16, "heads": 2, "intermediate": 32, "initialize": "projection"}
    student = Narrow(**settings).build(Blueprint(TEXTS, LABELS, teacher=teacher))
    torch.testing.assert_close(logits(student), logits(teacher), atol=1e-4, rtol=1e-3)
    own, other = encoder.word_embeddings(student.model).weight, encoder.word_embeddings(teacher.model).weight
    assert not torch.allclose(own, other[: len(own)], atol=0.1), "turned, not copied"
    drawn_anew(teacher.model, gains=True)
    student = Narrow(**settings).build(Blueprint(TEXTS, LABELS, teacher=teacher))
    assert not torch.allclose(logits(student), logits(teacher), atol=1e-3), "as documented, gains that differ are not kept"


@pytest.mark.parametrize("name", PROJECTED)
@pytest.mark.parametrize(("width", "heads", "intermediate"), [(8, 1, 64), (12, 3, 7), (16, 4, 32), (2, 2, 1)])
def test_a_projection_of_any_smaller_size(name, width, heads, intermediate, tmp_path, monkeypatch):
    monkeypatch.setitem(CONFIGS, "Electra", SIZES | {"embedding_size": 16})
    student = Narrow(layers=2, width=width, heads=heads, intermediate=intermediate, initialize="projection").build(
        Blueprint(TEXTS, LABELS, teacher=family(name))
    )
    expected = logits(student)
    assert expected.isfinite().all()
    student.save(tmp_path / "s")
    assert torch.equal(logits(TextModel.load(tmp_path / "s")), expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ModernBert", r"ModernBertForSequenceClassification \(modernbert\): .* only these can be projected"),
        ("DebertaV2", r"DebertaV2ForSequenceClassification \(deberta-v2\): .* only these can be projected"),
        ("Electra", r"initialize is 'projection', but ElectraForSequenceClassification has embeddings narrower than its layers"),
    ],
)
def test_families_that_cannot_be_projected_are_named(name, message):
    with pytest.raises(ModelError, match=message):
        Narrow(width=8, initialize="projection").build(Blueprint(TEXTS, LABELS, teacher=family(name)))


def test_modernbert_must_start_with_its_first_layer():
    with pytest.raises(ModelError, match="must start with layer 0"):
        TeacherLayers(layers="last").build(Blueprint(TEXTS, LABELS, teacher=family("ModernBert")))


def test_albert_is_refused_since_its_layers_are_shared():
    config = transformers.AlbertConfig(**SIZES | {"embedding_size": 8})
    model = AutoModelForSequenceClassification.from_config(config)
    assert not encoder.has_layers(model)
    with pytest.raises(ModelError, match=r"AlbertForSequenceClassification.*share one set of weights.*modernbert"):
        encoder.layers(model)


def test_a_stranger_is_refused_by_the_name_of_what_is_missing():
    config = transformers.GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=1, pad_token_id=0)
    model = AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(ModelError, match=r"no list of layers at GPT2Model\.encoder\.layer"):
        encoder.layers(model)
    with pytest.raises(ModelError, match=r"no module GPT2Model\.embeddings"):
        encoder.embeddings(model)
