"""What a student keeps of the teacher whose weights were projected: exactly what the mathematics says, and no more."""

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from tiny import LABELS, SECOND_TEXTS, TEXTS, logits, tiny_teacher, tiny_tokenizer
from understudy.errors import ModelError
from understudy.models import encoder
from understudy.models.text_model import TextModel
from understudy.students import Blueprint
from understudy.students.narrow import Narrow
from understudy.students.projection import Directions, factors
from understudy.students.teacher_layers import TeacherLayers


def student_of(teacher: TextModel, *, label_names=LABELS, **settings) -> TextModel:
    settings = {"layers": 3, "width": 16, "heads": 2, "intermediate": 32, "vocabulary": "teacher"} | settings
    blueprint = Blueprint(TEXTS + SECOND_TEXTS, label_names, teacher=teacher)
    return Narrow(**settings, initialize="projection").build(blueprint)


def moment(width: int, rank: int) -> torch.Tensor:
    states = torch.randn(500, rank, dtype=torch.float64) @ torch.randn(rank, width, dtype=torch.float64)
    return states.T @ states


# --- the directions


@pytest.mark.parametrize(("whole", "width"), [(12, 12), (12, 5), (12, 1), (3, 2)])
@pytest.mark.parametrize("rank", [3, 12])
def test_directions_are_orthonormal_and_keep_the_mean(whole, width, rank):
    torch.manual_seed(0)
    kept = Directions(moment(whole, rank), width).kept
    torch.testing.assert_close(kept.T @ kept, torch.eye(width, dtype=torch.float64))
    states = torch.randn(7, whole, dtype=torch.float64)
    # The mean of a row over its width, each time scaled to the length of the constant vector.
    torch.testing.assert_close((states @ kept).mean(1) * width**0.5, states.mean(1) * whole**0.5)


def test_no_other_directions_beside_the_mean_hold_more():
    torch.manual_seed(0)
    whole = moment(10, 10)
    energy = ((kept := Directions(whole, 4).kept).T @ whole @ kept).trace()
    constant = torch.full((10, 1), 10**-0.5, dtype=torch.float64)
    for _ in range(200):
        other = torch.linalg.qr(torch.cat([constant, torch.randn(10, 3, dtype=torch.float64)], dim=1)).Q
        assert (other.T @ whole @ other).trace() < energy
    beside = torch.eye(10, dtype=torch.float64) - constant @ constant.T
    largest = torch.linalg.eigvalsh(beside @ whole @ beside)[-3:].sum()
    torch.testing.assert_close(energy, largest + (constant.T @ whole @ constant).squeeze())


def test_a_layer_norm_without_gains_turns_with_the_states():
    torch.manual_seed(0)
    directions = Directions(moment(12, 12), 12)
    states = torch.randn(7, 12, dtype=torch.float64)
    normed = nn.functional.layer_norm(directions.states(states), [12])
    torch.testing.assert_close(normed, directions.states(nn.functional.layer_norm(states, [12])), atol=1e-5, rtol=1e-5)
    assert directions.scale == pytest.approx(1)


def test_states_are_as_long_as_layer_norms_make_them():
    torch.manual_seed(0)
    states = nn.functional.layer_norm(torch.randn(500, 12, dtype=torch.float64), [12])
    narrow = Directions(states.T @ states, 4).states(states)
    assert narrow.square().mean().item() == pytest.approx(1, abs=1e-3)


def test_reading_what_was_written_gives_the_product():
    torch.manual_seed(0)
    directions = Directions(moment(12, 12), 12)
    read, write = torch.randn(5, 12), torch.randn(12, 6)
    got = directions.reading(read) @ directions.writing(write)
    torch.testing.assert_close(got.float(), read @ write, atol=1e-5, rtol=1e-4)


def test_factors_are_the_nearest_of_their_rank():
    torch.manual_seed(0)
    product = torch.randn(6, 9, dtype=torch.float64)
    left, right = factors(product, 4, drawn=torch.zeros(4, 9))
    lost = torch.linalg.svdvals(product)[4:].square().sum().sqrt()
    torch.testing.assert_close((product - left @ right).norm(), lost)
    rest = factors(product, 2, first=4, drawn=torch.zeros(2, 9))
    torch.testing.assert_close(left @ right + rest[0] @ rest[1], product)


def test_ranks_that_the_teacher_has_not_say_nothing_and_can_learn():
    product = torch.zeros(4, 4, dtype=torch.float64)
    product[0, 0] = 9
    drawn = torch.randn(3, 4)
    left, right = factors(product, 3, drawn=drawn)
    torch.testing.assert_close(left @ right, product)
    assert (left[:, 1:] == 0).all() and torch.equal(right[1:].float(), drawn[1:])


# --- the student


def scores(block: encoder.Block, states: torch.Tensor) -> torch.Tensor:
    """Queries · keys of two heads 8 wide."""
    maps = (block.attention.query, block.attention.key)
    query, key = (one(states).view(len(states), 2, 8).transpose(0, 1) for one in maps)
    return query @ key.transpose(1, 2)


def written(block: encoder.Block, looked: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """What the attention adds to the states, for where each head looks."""
    values = block.attention.value(states).view(len(states), 2, 8).transpose(0, 1)
    return block.output((looked @ values).transpose(0, 1).reshape(len(states), 16))


def test_the_linear_parts_are_the_teachers_whatever_the_gains():
    """Scores with their biases, what attention writes, and the neurons, on states that are the teacher's, turned."""
    teacher = tiny_teacher()
    with torch.no_grad():
        for parameter in teacher.model.parameters():
            parameter.normal_(std=0.3)
    student = student_of(teacher)
    # What turns the teacher's word embeddings into the student's.
    own_words, words = (encoder.word_embeddings(one.model).weight.detach() for one in (student, teacher))
    turn = torch.linalg.lstsq(words, own_words).solution
    torch.testing.assert_close(turn.T @ turn, torch.eye(16), atol=1e-4, rtol=1e-4)
    states, neurons = torch.randn(9, 16), torch.rand(9, 32)
    for number in (1, 2, 3):
        own, other = encoder.block(student.model, number), encoder.block(teacher.model, number)
        torch.testing.assert_close(scores(own, states @ turn), scores(other, states), atol=1e-3, rtol=1e-3)
        looked = scores(other, states).softmax(-1)
        expected = written(other, looked, states) @ turn
        torch.testing.assert_close(written(own, looked, states @ turn), expected, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(own.up(states @ turn), other.up(states), atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(own.down(neurons), other.down(neurons) @ turn, atol=1e-3, rtol=1e-3)


def disguised(narrow: TextModel) -> TextModel:
    """The same function in a model twice as wide: every state is there twice, with neurons and ranks that do nothing."""
    config = BertConfig(**narrow.model.config.to_dict() | {"hidden_size": 16, "intermediate_size": 40})
    model = BertForSequenceClassification(config).eval()

    def twice_read(weight):
        return torch.cat([weight, weight], dim=1) / 2

    def filled(weight, shape):
        out = torch.zeros(shape)
        out[tuple(slice(size) for size in weight.shape)] = weight
        return out

    with torch.no_grad():
        for (name, own), other in zip(model.named_modules(), narrow.model.modules(), strict=True):
            if isinstance(own, nn.Embedding):
                own.weight.copy_(torch.cat([other.weight, other.weight], dim=1))
            elif isinstance(own, nn.LayerNorm):
                own.weight.copy_(other.weight.repeat(2))
                own.bias.copy_(other.bias.repeat(2))
            elif not isinstance(own, nn.Linear):
                continue
            elif name.endswith(("query", "key", "value")):
                root = 1 if name.endswith("value") else 2**0.25  # scores are divided by the root of the width
                heads = zip(other.weight.split(4), other.bias.split(4), strict=True)
                parts = [(filled(twice_read(weight), (8, 16)), filled(bias, (8,))) for weight, bias in heads]
                own.weight.copy_(torch.cat([weight for weight, _ in parts]) * root)
                own.bias.copy_(torch.cat([bias for _, bias in parts]) * root)
            elif name.endswith("attention.output.dense"):
                heads = torch.cat([filled(part, (8, 8)) for part in other.weight.split(4, dim=1)], dim=1)
                own.weight.copy_(heads.repeat(2, 1))
                own.bias.copy_(other.bias.repeat(2))
            elif name.endswith("output.dense"):
                own.weight.copy_(filled(other.weight, (8, 40)).repeat(2, 1))
                own.bias.copy_(other.bias.repeat(2))
            elif name == "classifier":
                own.weight.copy_(filled(other.weight, (2, 16)))
                own.bias.copy_(other.bias)
            else:  # to neurons
                own.weight.copy_(filled(twice_read(other.weight), own.weight.shape))
                own.bias.copy_(filled(other.bias, own.bias.shape))
    return TextModel(model, tiny_tokenizer(), 64)


def narrow_teacher() -> TextModel:
    config = BertConfig(
        vocab_size=len(tiny_tokenizer()),
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=20,
        max_position_embeddings=64,
        num_labels=2,
        id2label=dict(enumerate(LABELS)),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertForSequenceClassification(config).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "LayerNorm.weight" not in name:
                    parameter.normal_(std=0.4)
    return TextModel(model, tiny_tokenizer(), 64)


def test_a_narrow_model_in_a_wide_ones_clothes_is_found_again():
    narrow = narrow_teacher()
    wide = disguised(narrow)
    torch.testing.assert_close(logits(wide), logits(narrow), atol=1e-4, rtol=1e-4)
    student = student_of(wide, layers=2, width=8, intermediate=20)
    torch.testing.assert_close(logits(student), logits(narrow), atol=1e-3, rtol=1e-3)
    assert not torch.allclose(logits(student_of(wide, layers=2, width=6, intermediate=20)), logits(narrow), atol=0.01)


def test_more_neurons_than_the_teachers_change_nothing(teacher):
    torch.testing.assert_close(logits(student_of(teacher, intermediate=50)), logits(teacher), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("layers", "chosen"), [(1, [2]), (2, [0, 2]), (3, [0, 1, 2])])
def test_the_layers_are_those_of_a_uniform_map(teacher, layers, chosen):
    expected = TeacherLayers(layers=chosen).build(Blueprint(TEXTS, LABELS, teacher=teacher))
    torch.testing.assert_close(logits(student_of(teacher, layers=layers)), logits(expected), atol=1e-4, rtol=1e-3)


def test_one_head_stands_for_those_that_look_alike(teacher):
    with torch.no_grad():
        for number in (1, 2, 3):
            attention = encoder.block(teacher.model, number).attention
            for one in (attention.query, attention.key):
                one.weight[8:], one.bias[8:] = one.weight[:8].clone(), one.bias[:8].clone()
    expected = logits(teacher)
    torch.testing.assert_close(logits(student_of(teacher, heads=1)), expected, atol=1e-4, rtol=1e-3)


def test_heads_that_share_one_write_its_parts(teacher):
    """Scores of half the rank; each of the two writes the half of what one head wrote."""
    with torch.no_grad():
        for number in (1, 2, 3):
            query = encoder.block(teacher.model, number).attention.query
            query.weight.view(2, 8, 16)[:, 4:] = 0
            query.bias.view(2, 8)[:, 4:] = 0
    torch.testing.assert_close(logits(student_of(teacher, heads=4)), logits(teacher), atol=1e-4, rtol=1e-3)


def test_only_the_datas_tokens(teacher):
    student = student_of(teacher, vocabulary="data")
    assert len(student.tokenizer) < len(teacher.tokenizer)
    torch.testing.assert_close(logits(student), logits(teacher), atol=1e-4, rtol=1e-3)


def test_other_classes_get_a_head_of_their_own(teacher):
    assert logits(student_of(teacher, label_names=("a", "b", "c"))).shape == (6, 3)


def test_the_teacher_stays_as_it_was(teacher):
    before = teacher.fingerprint
    student_of(teacher, width=8)
    assert TextModel(teacher.model, teacher.tokenizer, teacher.max_length).fingerprint == before


def test_a_projected_student_learns(teacher):
    student = student_of(teacher, layers=2, width=8, heads=4, intermediate=50)
    student.model(**student.tokenizer(list(TEXTS), padding=True, return_tensors="pt"), labels=torch.tensor([0, 1] * 3)).loss.backward()
    still = [name for name, one in student.model.named_parameters() if one.grad is None or not one.grad.any()]
    assert still == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": 4}, r"student.layers is 4 and student.width 16: at most the teacher's 3 and 16 can be projected"),
        ({"width": 18}, r"student.layers is 3 and student.width 18: at most the teacher's 3 and 16 can be projected"),
    ],
)
def test_a_larger_student_is_refused(teacher, settings, message):
    with pytest.raises(ModelError, match=message):
        student_of(teacher, **settings)


def test_without_the_teachers_weights_it_is_refused(build):
    with pytest.raises(ValueError, match="initialize is 'projection', but vocabulary 'words' has none"):
        Narrow(vocabulary="words", initialize="projection")
    with pytest.raises(ModelError, match="narrow with initialize 'projection'"):
        Narrow(initialize="projection").build(Blueprint(TEXTS, LABELS))
    with pytest.raises(ModelError, match="no list of layers"):
        Narrow(initialize="projection").build(Blueprint(TEXTS, LABELS, teacher=build("bilstm")))
