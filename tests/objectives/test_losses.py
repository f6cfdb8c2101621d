"""Each loss: one value worked by hand, one independent oracle, and what binds the losses together. Shapes are checked throughout."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped
from scipy.spatial.distance import jensenshannon
from scipy.special import log_softmax, rel_entr, softmax
from sklearn.metrics import log_loss, mean_squared_error

from understudy.errors import RecipeError
from understudy.objectives import annealed_targets, labels, logit_regression, soft_targets
from understudy.objectives.annealed_targets import AnnealedTargets
from understudy.objectives.labels import Labels
from understudy.objectives.soft_targets import SoftTargets
from understudy.signals import Shape, Signals

shapes_checked = jaxtyped(typechecker=beartype)
forward_kl = shapes_checked(soft_targets.forward_kl)
reverse_kl, jensen_shannon = shapes_checked(soft_targets.reverse_kl), shapes_checked(soft_targets.jensen_shannon)
soft_cross_entropy = shapes_checked(soft_targets.soft_cross_entropy)
annealed_loss = shapes_checked(annealed_targets.annealed_loss)
logit_mse = shapes_checked(logit_regression.logit_mse)
label_loss = shapes_checked(labels.label_loss)

ROWS, CLASSES = 5, 3
NUMBER = Shape("model", 1)
COUNTED = torch.tensor([True, False, True, True, False])


@pytest.fixture
def student():
    return 2 * torch.randn(ROWS, CLASSES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def teacher():
    return 2 * torch.randn(ROWS, CLASSES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


# --- forward KL


def test_forward_kl_by_hand():
    # p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2): ½ ln 2 + 0 + ¼ ln ½ = ¼ ln 2; the second row is not counted.
    teacher = torch.tensor([[0.5, 0.25, 0.25], [1.0, 1.0, 9.0]]).log()
    student = torch.tensor([[1.0, 1.0, 2.0], [5.0, 1.0, 1.0]]).log()
    found = forward_kl(student, teacher, torch.tensor([True, False]))
    assert found.item() == pytest.approx(0.25 * np.log(2), rel=1e-6)
    # At T = 2 the logits count half: p ∝ (√2, 1, 1), q ∝ (1, 1, √2); times T² = 4.
    p, q = np.array([2**0.5, 1, 1]) / (2 + 2**0.5), np.array([1, 1, 2**0.5]) / (2 + 2**0.5)
    found = forward_kl(student, teacher, torch.tensor([True, False]), temperature=2.0)
    assert found.item() == pytest.approx(4 * (p * np.log(p / q)).sum(), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 7.0])
def test_forward_kl_against_scipy_and_torch(student, teacher, temperature):
    found = forward_kl(student, teacher, COUNTED, temperature=temperature)
    p, q = softmax(teacher[COUNTED].numpy() / temperature, -1), softmax(student[COUNTED].numpy() / temperature, -1)
    assert found.item() == pytest.approx(temperature**2 * rel_entr(p, q).sum(-1).mean())
    theirs = torch.nn.KLDivLoss(reduction="batchmean")(
        F.log_softmax(student[COUNTED] / temperature, -1), F.softmax(teacher[COUNTED] / temperature, -1)
    )
    torch.testing.assert_close(found, temperature**2 * theirs)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_gradient_of_forward_kl_is_the_difference_of_probabilities(student, teacher, temperature):
    student.requires_grad_()
    forward_kl(student, teacher, COUNTED, temperature=temperature).backward()
    difference = F.softmax(student / temperature, -1) - F.softmax(teacher / temperature, -1)
    expected = temperature * difference / COUNTED.sum() * COUNTED[:, None]
    torch.testing.assert_close(student.grad, expected.detach())


def test_at_high_temperature_forward_kl_is_half_the_zero_mean_squared_difference(student, teacher):
    expected = logit_mse(student, teacher, COUNTED, zero_mean=True) / 2
    torch.testing.assert_close(forward_kl(student, teacher, COUNTED, temperature=1e4), expected, rtol=1e-3, atol=0)
    assert abs(forward_kl(student, teacher, COUNTED) / expected - 1) > 0.05, "the law would hold at any temperature"


def test_forward_kl_and_the_teachers_entropy_are_cross_entropy(student, teacher):
    p = F.softmax(teacher, -1)
    entropy = -(p * p.log()).sum(-1)[COUNTED].mean()
    torch.testing.assert_close(forward_kl(student, teacher, COUNTED) + entropy, F.cross_entropy(student[COUNTED], p[COUNTED]))


def test_forward_kl_is_from_the_teacher_to_the_student(student, teacher):
    assert not torch.isclose(forward_kl(student, teacher, COUNTED), forward_kl(teacher, student, COUNTED))


def test_positions_may_have_more_axes(student, teacher):
    """Tokens of rows, as well as rows."""
    tokens = (student.view(1, ROWS, CLASSES), teacher.view(1, ROWS, CLASSES), COUNTED.view(1, ROWS))
    for loss in (forward_kl, logit_mse):
        torch.testing.assert_close(loss(*tokens), loss(student, teacher, COUNTED))
    classes = torch.tensor([0, 1, 2, 0, 1])
    torch.testing.assert_close(label_loss(tokens[0], classes.view(1, ROWS), tokens[2]), label_loss(student, classes, COUNTED))


# --- other divergences


def test_reverse_kl_is_forward_kl_the_other_way_round(student, teacher):
    torch.testing.assert_close(
        reverse_kl(student, teacher, COUNTED, temperature=2.0), forward_kl(teacher, student, COUNTED, temperature=2.0)
    )


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.9])
def test_jensen_shannon_is_that_of_scipy(student, teacher, beta):
    p, q = softmax(teacher.numpy(), -1)[COUNTED], softmax(student.numpy(), -1)[COUNTED]
    mixed = beta * p + (1 - beta) * q
    expected = (beta * rel_entr(p, mixed) + (1 - beta) * rel_entr(q, mixed)).sum(-1).mean()
    assert jensen_shannon(student, teacher, COUNTED, beta=beta).item() == pytest.approx(expected)
    if beta == 0.5:
        assert jensen_shannon(student, teacher, COUNTED).item() == pytest.approx((jensenshannon(p, q, axis=-1) ** 2).mean())


def test_soft_cross_entropy_is_torchs(student, teacher):
    expected = F.cross_entropy(student[COUNTED], F.softmax(teacher[COUNTED], -1))
    torch.testing.assert_close(soft_cross_entropy(student, teacher, COUNTED), expected)


def test_a_temperature_that_changes(student, teacher):
    objective = SoftTargets(temperature=4.0, final_temperature=1.0)
    batch = {"labels": torch.zeros(ROWS, dtype=torch.long), "counted": torch.ones(ROWS, dtype=torch.bool)}
    for progress, temperature in ((0.0, 4.0), (0.5, 2.5), (1.0, 1.0)):
        objective.progress = progress
        found = objective(Signals(logits=student), Signals(logits=teacher), batch)
        torch.testing.assert_close(found, forward_kl(student, teacher, torch.ones(ROWS, dtype=torch.bool), temperature=temperature))


# --- teacher annealing


def test_annealed_targets_go_from_the_teacher_to_the_labels(student, teacher):
    labels = torch.tensor([0, -100, 2, 1, 0])
    objective, everywhere = AnnealedTargets(), torch.ones(ROWS, dtype=torch.bool)
    batch = {"labels": labels, "counted": everywhere}
    said = Signals(logits=student), Signals(logits=teacher)
    torch.testing.assert_close(objective(*said, batch), soft_cross_entropy(student, teacher, everywhere))
    objective.progress = 0.25
    mixed = F.softmax(teacher, -1)
    mixed[labels >= 0] = 0.25 * F.one_hot(labels[labels >= 0], CLASSES).double() + 0.75 * mixed[labels >= 0]
    torch.testing.assert_close(objective(*said, batch), F.cross_entropy(student, mixed))
    objective.progress = 1.0
    expected = torch.cat(
        [
            F.cross_entropy(student, labels.clamp(min=0), reduction="none")[labels >= 0],
            F.cross_entropy(student, F.softmax(teacher, -1), reduction="none")[labels < 0],
        ]
    ).mean()
    torch.testing.assert_close(objective(*said, batch), expected)


def test_annealed_numbers_mix_the_target():
    student, teacher, labels = torch.tensor([[1.0]]), torch.tensor([[4.0]]), torch.tensor([2.0])
    assert annealed_loss(student, teacher, labels, torch.tensor([True]), gold_share=0.5).item() == (3.0 - 1.0) ** 2


# --- squared difference of logits


def test_logit_mse_by_hand():
    student, teacher = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[3.0, 0.0], [9.0, 9.0]])
    assert logit_mse(student, teacher, torch.tensor([True, False])).item() == (4 + 4) / 2
    assert logit_mse(student, teacher, torch.tensor([True, True])).item() == (4 + 81) / 2
    assert logit_mse(student, teacher, torch.tensor([True, True]), zero_mean=True).item() == 2  # the second row agrees


def test_logit_mse_against_sklearn(student, teacher):
    found = logit_mse(student, teacher, COUNTED)
    assert found.item() == pytest.approx(mean_squared_error(teacher[COUNTED], student[COUNTED]))


def test_zero_mean_sees_no_constant(student, teacher):
    moved = student + torch.arange(ROWS, dtype=student.dtype)[:, None]
    torch.testing.assert_close(logit_mse(moved, teacher, COUNTED, zero_mean=True), logit_mse(student, teacher, COUNTED, zero_mean=True))
    assert not torch.isclose(logit_mse(moved, teacher, COUNTED), logit_mse(student, teacher, COUNTED))


# --- labels


def test_label_loss_by_hand():
    student = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]).log()
    classes, counted = torch.tensor([0, -100]), torch.tensor([True, False])
    assert label_loss(student, classes, counted).item() == pytest.approx(np.log(2), rel=1e-6)
    # ε = 0.3 over three classes: 0.8 on the label, 0.1 on each other.
    assert label_loss(student, classes, counted, smoothing=0.3).item() == pytest.approx(0.8 * np.log(2) + 0.2 * np.log(4), rel=1e-6)
    weights = torch.tensor([1.5, 0.5, 1.0])
    assert label_loss(student, classes, counted, class_weights=weights).item() == pytest.approx(1.5 * np.log(2))


def test_label_loss_of_numbers_by_hand():
    labels = torch.tensor([1.0, torch.nan, 4.0])
    found = label_loss(torch.tensor([[3.0], [7.0], [3.0]]), labels, ~labels.isnan())
    assert found.item() == (4 + 1) / 2


def test_label_loss_against_sklearn_and_torch(student):
    classes = torch.tensor([2, -100, 0, 1, -100])
    found = label_loss(student, classes, COUNTED)
    probabilities = softmax(student[COUNTED].numpy(), -1)
    assert found.item() == pytest.approx(log_loss(classes[COUNTED], probabilities, labels=range(CLASSES)))
    torch.testing.assert_close(found, F.cross_entropy(student, classes))
    smooth = label_loss(student, classes, COUNTED, smoothing=0.2)
    torch.testing.assert_close(smooth, F.cross_entropy(student, classes, label_smoothing=0.2))


def test_class_weights_are_divided_by_rows_not_by_weights(student):
    classes, weights = torch.tensor([2, -100, 0, 1, -100]), torch.tensor([0.5, 2.0, 1.0])
    per_row = -log_softmax(student.numpy(), -1)[[0, 2, 3], [2, 0, 1]]
    found = label_loss(student, classes, COUNTED, class_weights=weights)
    assert found.item() == pytest.approx((per_row * [1.0, 0.5, 2.0]).mean())
    ones = label_loss(student, classes, COUNTED, class_weights=torch.ones(CLASSES))
    torch.testing.assert_close(ones, label_loss(student, classes, COUNTED))


def test_balanced_weights_are_the_inverse_frequency_with_mean_one_over_rows():
    objective, classes = Labels(class_weights="balanced"), torch.tensor([0, 0, 0, 1, -100])
    objective.prepare(labels=classes.numpy(), student=Shape("student", 2), teacher=Shape("teacher", 2))
    torch.testing.assert_close(objective.class_weight, torch.tensor([4 / (2 * 3), 4 / 2]))
    assert objective.class_weight[classes[:4]].mean().item() == pytest.approx(1)


@pytest.mark.parametrize(("target", "expected"), [("gold", [0, -100, 1]), ("gold_or_teacher", [0, 2, 1]), ("teacher", [1, 2, 0])])
def test_whose_labels_count(target, expected):
    student = Signals(logits=torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))
    teacher = Signals(logits=torch.tensor([[0.0, 5.0, 0.0], [0.0, 0.0, 5.0], [5.0, 0.0, 0.0]]))
    found = Labels(target=target)(student, teacher, {"labels": torch.tensor([0, -100, 1]), "counted": torch.ones(3, dtype=torch.bool)})
    torch.testing.assert_close(found, F.cross_entropy(student.logits, torch.tensor(expected)))


# --- shapes and refusals


def test_shapes_that_do_not_fit_are_refused(student, teacher):
    with pytest.raises(TypeCheckError):
        forward_kl(student, teacher[:, :2], COUNTED)
    with pytest.raises(TypeCheckError):
        logit_mse(student, teacher, COUNTED[:2])
    with pytest.raises(TypeCheckError):
        label_loss(student, torch.tensor([0, 1]), COUNTED)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SoftTargets(temperature=0.0), "temperature is 0.0; it must be above 0"),
        (lambda: SoftTargets(final_temperature=-1.0), "final_temperature is -1.0; it must be above 0"),
        (lambda: SoftTargets(beta=1.0), "beta is 1.0; it must be between 0 and 1"),
        (lambda: Labels(smoothing=1.0), "smoothing is 1.0; it must be in"),
        (lambda: SoftTargets().prepare(labels=np.zeros(2), student=NUMBER, teacher=NUMBER), "needs classes.*logit_regression"),
        (lambda: Labels(class_weights="balanced").prepare(labels=np.zeros(2), student=NUMBER, teacher=NUMBER), "class_weights need"),
    ],
)
def test_settings_that_make_no_sense(make, message):
    with pytest.raises(RecipeError, match=message):
        make()
