"""What is noted inside a model is what the model itself computes, whatever its family."""

import pytest
import torch

from students.test_encoder import CONFIGS, family
from tiny import TEXTS, encode, tiny_teacher
from understudy.errors import ModelError
from understudy.models.encoder import ATTENTION_FAMILIES
from understudy.signals import Needs
from understudy.teachers.capture import signals_of

COMPARED = [
    *(name for name in CONFIGS if name != "DebertaV2"),
    "Camembert",
    "Ernie",
    "Data2VecText",
    "MegatronBert",
    "RemBert",
    "RobertaPreLayerNorm",
    "XLMRobertaXL",
]


def inputs_of(model) -> dict:
    return dict(encode(model, TEXTS[:3]))


@pytest.mark.parametrize("name", COMPARED)
def test_scores_are_those_of_the_model(name):
    """Softmax of our scores, masked, is the attention that the model returns when it is asked to keep it."""
    one = family(name)
    inputs = inputs_of(one)
    with torch.no_grad():
        _, found = signals_of(one.model, inputs, Needs(attention={1, 3}))
        one.model.set_attn_implementation("eager")
        theirs = one.model(**inputs, output_attentions=True).attentions
    mask = inputs["attention_mask"].bool()
    for layer in (1, 3):
        visible = found.attention[layer].visible
        scores = found.attention[layer].scores.masked_fill(~mask[:, None, None, :], -1e9)
        if visible is not None:
            assert not visible.all()
            scores = scores.masked_fill(~visible, -1e9)
        rows = mask[:, None, :, None].expand_as(scores)
        torch.testing.assert_close(scores.softmax(-1)[rows], theirs[layer - 1][rows], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_hidden_states_are_those_of_the_model(name):
    one = family(name)
    inputs = inputs_of(one)
    with torch.no_grad():
        outputs, found = signals_of(one.model, inputs, Needs(logits=True, hidden_states={0, 2}))
        plain = one.model(**inputs, output_hidden_states=True)
    torch.testing.assert_close(outputs.logits, plain.logits)
    for layer in (0, 2):
        assert torch.equal(found.hidden_states[layer], plain.hidden_states[layer])
    assert not found.attention


def test_a_family_whose_scores_are_more_than_products():
    one = family("DebertaV2")
    with pytest.raises(ModelError, match=r"no queries and keys found in DebertaV2Layer: looked for attention.self.query or"):
        signals_of(one.model, inputs_of(one), Needs(attention={1}))


@pytest.mark.parametrize("name", ["RoFormer", "ConvBert"])
def test_a_family_that_only_looks_like_a_known_one(name):
    """RoFormer turns its queries and keys after their maps; ConvBERT has fewer heads than its configuration says."""
    one = family(name)
    with pytest.raises(ModelError, match="has queries and keys, but its attention scores may be more than their products"):
        signals_of(one.model, inputs_of(one), Needs(attention={1}))


def test_every_family_that_is_said_to_be_known_is_compared_here():
    assert {family(name).model.config.model_type for name in COMPARED} == set(ATTENTION_FAMILIES)


def hooks(model) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_looking_leaves_nothing_behind():
    one = tiny_teacher()
    inputs = inputs_of(one)
    before = one.model(**inputs, output_hidden_states=True).logits  # transformers may keep hooks of its own for that
    there = hooks(one.model)

    def fails(**_):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        signals_of(one.model, inputs, Needs(attention={1}), run=fails)
    signals_of(one.model, inputs, Needs(attention={1}, hidden_states={1}))
    assert hooks(one.model) == there
    torch.testing.assert_close(one.model(**inputs).logits, before)


def test_the_gradient_goes_through():
    one = tiny_teacher()
    _, found = signals_of(one.model, inputs_of(one), Needs(attention={2}, hidden_states={1}))
    (found.attention[2].scores.sum() + found.hidden_states[1].sum()).backward()
    assert one.model.bert.encoder.layer[1].attention.self.query.weight.grad.any()
    assert one.model.bert.encoder.layer[2].attention.self.query.weight.grad is None
