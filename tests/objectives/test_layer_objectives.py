"""Objectives that look inside: a value worked by hand, an independent oracle, layer maps, projections. Shapes are checked."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from beartype import beartype
from jaxtyping import jaxtyped
from sklearn.metrics.pairwise import cosine_distances

from understudy.data.examples import nested
from understudy.errors import RecipeError
from understudy.objectives import attention_scores, cosine, hidden_states, layer_map, patient, relations
from understudy.objectives.attention_scores import AttentionScores
from understudy.objectives.hidden_states import HiddenStates
from understudy.objectives.patient import Patient
from understudy.objectives.relations import Relations
from understudy.signals import Attention, Shape, Signals

checked = jaxtyped(typechecker=beartype)
hidden_state_mse, cosine_distance = checked(hidden_states.hidden_state_mse), checked(cosine.cosine_distance)
patient_distance, relation_kl = checked(patient.patient_distance), checked(relations.relation_kl)
attention_score_mse, attention_kl = (checked(attention_scores.attention_score_mse), checked(attention_scores.attention_kl))

MASK = torch.tensor([[True, True, True], [True, True, False]])
LABELS = np.zeros(2, dtype=np.int64)


def shape(layers: int, width: int = 4, heads: int = 2, name: str = "student bilstm") -> Shape:
    return Shape(name, 2, layers, width, heads)


def drawn(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- against other implementations


def test_hidden_states_are_torchs_mean_squared_error_without_padding():
    student, teacher = drawn(2, 3, 4), drawn(2, 3, 4, seed=1)
    torch.testing.assert_close(hidden_state_mse(student, teacher, MASK), F.mse_loss(student[MASK], teacher[MASK]))


def test_cosine_is_that_of_sklearn():
    student, teacher = drawn(2, 3, 4), drawn(2, 3, 4, seed=1)
    theirs = np.diag(cosine_distances(student[MASK], teacher[MASK])).mean()
    assert cosine_distance(student, teacher, MASK).item() == pytest.approx(theirs)


def test_patient_of_normalised_vectors_is_twice_the_cosine_distance():
    student, teacher, rows = drawn(5, 4), drawn(5, 4, seed=1), torch.ones(5, dtype=torch.bool)
    theirs = 2 * np.diag(cosine_distances(student, teacher)).mean()
    assert patient_distance(student, teacher, rows).item() == pytest.approx(theirs)
    plain = patient_distance(student, teacher, rows, normalised=False)
    torch.testing.assert_close(plain, F.mse_loss(student, teacher, reduction="sum") / 5)


def test_attention_kl_is_torchs_over_the_tokens_that_are_there():
    student, teacher = drawn(2, 2, 3, 3), drawn(2, 2, 3, 3, seed=1)
    terms = [
        F.kl_div(F.log_softmax(student[0], -1), F.softmax(teacher[0], -1), reduction="sum"),
        F.kl_div(F.log_softmax(student[1, :, :2, :2], -1), F.softmax(teacher[1, :, :2, :2], -1), reduction="sum"),
    ]
    torch.testing.assert_close(attention_kl(student, teacher, MASK), sum(terms) / 2 / MASK.sum())


def test_attention_scores_by_hand():
    student, teacher = torch.zeros(1, 2, 2, 2), torch.tensor([[[[1.0, 9.0], [9.0, 9.0]], [[3.0, 9.0], [9.0, 9.0]]]])
    assert attention_score_mse(student, teacher, torch.tensor([[[True, False], [False, False]]])).item() == (1 + 9) / 2


def test_attention_of_other_heads_by_hand():
    """One head of scores 0 against two heads whose mean is 2, and 2 + ln 3 for the second token: KL of 1/2, 1/2 and 1/4, 3/4."""
    ones = torch.ones(1, 1, 2, 1)

    def signals(*scores: list[float]) -> Signals:
        keys = torch.tensor(scores, dtype=torch.float32)[None, :, :, None]
        return Signals(attention={1: Attention(ones.expand_as(keys), keys, keys)})

    student, teacher = signals([0.0, 0.0]), signals([0.0, 1.0], [4.0, 3 + 2 * np.log(3)])
    batch = nested({"attention_mask": torch.ones(1, 2, dtype=torch.long)})
    expected = {"scores": (2**2 + (2 + np.log(3)) ** 2) / 2, "probabilities": 0.25 * np.log(0.5) + 0.75 * np.log(1.5)}
    for form, value in expected.items():
        objective = AttentionScores(layers="final", form=form)
        objective.prepare(labels=LABELS, student=shape(1, heads=1), teacher=shape(1, heads=2))
        assert objective(student, teacher, batch).item() == pytest.approx(value, abs=1e-5)
        assert objective(teacher, student, batch).item() > 0  # and the other way round


def test_relations_by_hand():
    """One relation head: softmax of the products of tokens; here 1/2, 1/2 against 1/4, 3/4 for the first token, nothing for the second."""
    student = torch.zeros(1, 1, 2, 1)
    root = np.log(3) ** 0.5
    teacher = torch.tensor([[[[0.0], [root]]]], dtype=torch.float32)  # products 0 0 / 0 ln 3
    expected = (0 + 0.25 * np.log(0.25 / 0.5) + 0.75 * np.log(0.75 / 0.5)) / 2
    found = relation_kl(student, teacher, torch.ones(1, 2, dtype=torch.bool), relation_heads=1)
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_relations_of_any_heads_and_widths():
    """12 heads of 4 against 2 heads of 8, in 4 relation heads; written out in numpy."""
    student, teacher = drawn(2, 2, 3, 8), drawn(2, 12, 3, 4, seed=1)

    def softmaxed(vectors, row, count):
        joined = vectors[row].transpose(0, 1).reshape(3, -1)[:count]
        slices = np.split(joined.numpy(), 4, axis=1)
        return np.stack([F.softmax(torch.tensor(one @ one.T / one.shape[1] ** 0.5), -1).numpy() for one in slices])

    total = 0.0
    for row, count in ((0, 3), (1, 2)):
        p, q = softmaxed(teacher, row, count), softmaxed(student, row, count)
        total += (p * np.log(p / q)).sum() / 4
    assert relation_kl(student, teacher, MASK, relation_heads=4).item() == pytest.approx(total / 5)


@pytest.mark.parametrize("form", ["scores", "probabilities"])
def test_what_a_window_hides_is_not_compared(form):
    """The teacher sees one token to each side: what lies beyond counts as alike, in both forms."""
    place = torch.arange(5)
    near = (place[:, None] - place).abs() <= 1
    student = Attention(*(drawn(2, 2, 5, 4, seed=seed) for seed in range(3)))
    teacher = Attention(*(drawn(2, 2, 5, 4, seed=seed) for seed in range(3, 6)), visible=near)
    objective = AttentionScores(layers=[(1, 1)], form=form)
    objective.prepare(labels=LABELS, student=shape(1), teacher=shape(1))
    batch = nested({"attention_mask": torch.ones(2, 5, dtype=torch.long)})
    found = objective(Signals(attention={1: student}), Signals(attention={1: teacher}), batch)
    if form == "scores":
        expected = ((student.scores - teacher.scores).square() * near).mean()
    else:
        q, p = ((one.scores.exp() * near) / (one.scores.exp() * near).sum(-1, keepdim=True) for one in (student, teacher))
        expected = torch.where(near, p * (p / q).log(), 0.0).sum(-1).mean()
    torch.testing.assert_close(found, expected)


# --- layer maps


@pytest.mark.parametrize(
    ("layers", "student", "teacher", "expected"),
    [
        ("uniform", 4, 12, [(1, 3), (2, 6), (3, 9), (4, 12)]),  # TinyBERT-4
        ("uniform", 4, 6, [(1, 1), (2, 3), (3, 4), (4, 6)]),  # no multiple
        ("skip", 6, 12, [(1, 2), (2, 4), (3, 6), (4, 8), (5, 10)]),  # PKD-skip
        ("last", 6, 12, [(1, 7), (2, 8), (3, 9), (4, 10), (5, 11)]),  # PKD-last
        ("skip", 3, 6, [(1, 2), (2, 4)]),
        ("final", 2, 12, [(2, 12)]),
        ("final", 7, 6, [(7, 6)]),
        ([(0, 0), (1, 5)], 3, 6, [(0, 0), (1, 5)]),
    ],
)
def test_layer_maps(layers, student, teacher, expected):
    found = layer_map.resolve(layers, shape(student), shape(teacher), where="patient", lowest=0)
    assert found == expected


@pytest.mark.parametrize(
    ("objective", "student", "teacher", "message"),
    [
        (HiddenStates(), Shape("student bilstm", 2), shape(3), "compares layers, but the student bilstm has none"),
        (HiddenStates(), shape(3), Shape("teacher", 2), "but the teacher has none"),
        (HiddenStates(layers=[(1, 7)]), shape(3), shape(6, name="teacher"), r"\[1, 7\]: the teacher has no layer 7; allowed are 0 to 6"),
        (Relations(layers=[(0, 3)]), shape(3), shape(6), "no layer 0; allowed are 1 to 3"),
        (HiddenStates(), shape(7), shape(6, name="teacher"), "7 layers and the teacher 6; give the student fewer, or list pairs"),
        (HiddenStates(layers=[(1, 1), (1, 1)]), shape(3), shape(6), r"hidden_states.layers has \[1, 1\] twice"),
        (HiddenStates(), shape(3), Shape("teacher", 2, why="Albert: shared"), r"or another teacher \(Albert: shared\)"),
        (Patient(), shape(1), shape(6), "'skip', which matches no layer"),
        (Relations(relation_heads=3), shape(3, width=8), shape(6, width=12), r"is 3; it must divide the widths 8 .*: 1, 2, 4$"),
    ],
)
def test_what_cannot_be_matched(objective, student, teacher, message):
    with pytest.raises(RecipeError, match=message):
        objective.prepare(labels=LABELS, student=student, teacher=teacher)


def test_relation_heads_by_themselves():
    objective = Relations()
    objective.prepare(labels=LABELS, student=shape(2, width=128, heads=2), teacher=shape(6, width=384, heads=12))
    assert objective.relation_heads == 8


# --- projections


@pytest.mark.parametrize(("projection", "count"), [("a_layer", 3), ("shared", 1)])
def test_a_projection_where_widths_differ(projection, count):
    objective = HiddenStates(projection=projection)
    objective.prepare(labels=LABELS, student=shape(3, width=4), teacher=shape(6, width=6))
    assert [tuple(one.weight.shape) for one in objective.maps] == [(6, 4)] * count
    states = {layer: drawn(2, 3, 4, seed=layer).float().requires_grad_() for layer in range(4)}
    truth = {layer: drawn(2, 3, 6, seed=9 + layer).float() for layer in range(7)}
    loss = objective(Signals(hidden_states=states), Signals(hidden_states=truth), nested({"attention_mask": MASK.long()}))
    expected = sum(
        F.mse_loss(objective.maps[index % count](states[own])[MASK], truth[other][MASK])
        for index, (own, other) in enumerate([(1, 2), (2, 4), (3, 6)])
    )
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(parameter.grad.any() for parameter in objective.parameters()) and not states[0].grad


def test_no_projection_where_widths_agree():
    objective = HiddenStates()
    objective.prepare(labels=LABELS, student=shape(3), teacher=shape(6))
    assert not list(objective.parameters())


def test_scale_of_patient():
    """The paper sums over layers and width, its code takes the mean over both."""
    states = {layer: drawn(2, 3, 4, seed=layer) for layer in range(4)}
    truth = {layer: drawn(2, 3, 4, seed=9 + layer) for layer in range(7)}
    found = {}
    for scale in ("sum", "mean"):
        objective = Patient(scale=scale, normalised=False)
        objective.prepare(labels=LABELS, student=shape(3), teacher=shape(6))
        found[scale] = objective(Signals(hidden_states=states), Signals(hidden_states=truth), nested({"attention_mask": MASK.long()}))
    own, other = (torch.stack([one[layer][:, 0] for layer in layers]) for one, layers in ((states, (1, 2)), (truth, (2, 4))))
    torch.testing.assert_close(found["mean"], F.mse_loss(own, other))
    torch.testing.assert_close(found["sum"], 2 * 4 * found["mean"])
