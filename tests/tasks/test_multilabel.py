"""Several labels a row: figures as scikit-learn's, thresholds that are the best there are, the loss as BCE."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from understudy.objectives.annealed_targets import annealed_loss
from understudy.objectives.labels import Labels, label_loss
from understudy.objectives.soft_targets import forward_kl
from understudy.signals import Shape, Signals
from understudy.tasks.multilabel import Multilabel

NAMES = tuple("abcde")


def drawn(seed=0, rows=300):
    random = np.random.default_rng(seed)
    targets = (random.random((rows, 5)) < (0.5, 0.2, 0.1, 0.03, 0.0)).astype(np.int64)
    return random.normal(size=targets.shape) + 1.5 * targets - (0, 1, 2, 3, 3), targets


@pytest.mark.parametrize("seed", range(3))
def test_figures_are_those_of_scikit_learn(seed):
    outputs, targets = drawn(seed)
    found, given = Multilabel(NAMES).measure(outputs, targets), (outputs > 0).astype(int)
    there = targets.any(axis=0)  # macro averages leave out a label that no row has; scikit-learn counts it as 0
    with np.errstate(all="ignore"):
        assert found["macro_f1"] == pytest.approx(f1_score(targets[:, there], given[:, there], average="macro", zero_division=0))
        assert found["micro_f1"] == pytest.approx(f1_score(targets, given, average="micro"))
        assert found["accuracy"] == pytest.approx(accuracy_score(targets, given))
        for label, one in enumerate(Multilabel(NAMES).per_class(outputs, targets)):
            each = (targets[:, label], given[:, label])
            wanted = [score(*each, zero_division=0) for score in (precision_score, recall_score, f1_score)]
            assert [one["precision"], one["recall"], one["f1"]] == pytest.approx(wanted)
            assert (one["label"], one["support"]) == (NAMES[label], each[0].sum())


def test_no_threshold_is_better_than_the_one_that_was_fitted():
    task, (outputs, targets) = Multilabel(NAMES), drawn()
    outputs = outputs.round(2)
    outputs[:40, 0] = outputs[0, 0]  # rows that no threshold tells apart
    fitted = task.fit(outputs, targets)
    assert all(0 < one < 1 for one in fitted["thresholds"]) and fitted["thresholds"][4] == 0.5, "no row has the last label"
    best = task.per_class(task.decided(outputs, fitted), targets)
    for label in range(4):
        for threshold in np.unique(outputs[:, label]):
            assert f1_score(targets[:, label], outputs[:, label] >= threshold) <= best[label]["f1"] + 1e-12


def test_no_threshold_is_between_outputs_that_are_nearly_equal():
    """What an export rounds otherwise is decided as by the model."""
    outputs = np.array([[2.0], [1.0 + 1e-7], [1.0], [-1.0]])
    task, targets = Multilabel(("a",)), np.array([[1], [1], [0], [0]])
    decided = task.decided(outputs, task.fit(outputs, targets))
    assert task.predictions(decided).ravel().tolist() == [1, 1, 1, 0] and np.abs(decided).min() > 0.1


def test_agreement_is_of_labels():
    """Of 28 labels a row one differs on most rows, where each is decided alike 98 times in 100."""
    outputs = np.ones((4, 5))
    others = outputs.copy()
    others[0, :2] = others[1, 0] = -1.0
    assert Multilabel(NAMES).agreement(outputs, others) == 0.85
    assert Multilabel(NAMES).agrees(outputs, others).tolist() == [0.6, 0.8, 1.0, 1.0]


def test_thresholds_of_outputs_beyond_all_bounds():
    outputs = np.array([[500.0], [-500.0], [-600.0]])
    fitted = Multilabel(("a",)).fit(outputs, np.array([[1], [0], [0]]))
    assert Multilabel(("a",)).predictions(Multilabel(("a",)).decided(outputs, fitted)).tolist() == [[1], [0], [0]]
    assert Multilabel(("a",)).answers(outputs, fitted)[1] == {"labels": [], "probabilities": {"a": pytest.approx(0, abs=1e-12)}}


def test_the_loss_is_the_binary_cross_entropy():
    outputs, targets = map(torch.from_numpy, drawn())
    logits, counted = Multilabel(NAMES).logits(outputs), torch.ones_like(targets, dtype=torch.bool)
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(outputs, targets.double())
    assert label_loss(logits, targets, counted).item() == pytest.approx(wanted.item(), rel=1e-12)
    assert annealed_loss(logits, logits, targets, counted, gold_share=1.0).item() == pytest.approx(wanted.item(), rel=1e-12)
    teacher = outputs.flip(0)
    shares = (teacher / 2).sigmoid()
    kl = torch.nn.functional.binary_cross_entropy_with_logits(outputs / 2, shares, reduction="none") + torch.special.xlogy(shares, shares)
    kl = kl + torch.special.xlogy(1 - shares, 1 - shares)
    found = forward_kl(logits, Multilabel(NAMES).logits(teacher), counted, temperature=2.0)
    assert found.item() == pytest.approx(4 * kl.mean().item(), rel=1e-9)


def test_balanced_weights_are_those_of_each_label():
    outputs, targets = (one[:, :4] for one in drawn())
    objective = Labels(class_weights="balanced")
    objective.prepare(labels=targets, student=Shape("student", 4), teacher=Shape("teacher", 4))
    logits = Multilabel(NAMES).logits(torch.from_numpy(outputs))
    batch = {"labels": torch.from_numpy(targets), "counted": torch.ones(targets.shape, dtype=torch.bool)}
    share = targets.mean(axis=0)
    weights = np.where(targets == 1, 0.5 / share, 0.5 / (1 - share))
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.from_numpy(outputs), torch.from_numpy(targets).double(), reduction="none"
    )
    found = objective(Signals(logits=logits), Signals(), batch).item()
    assert found == pytest.approx((each.numpy() * weights).mean(), rel=1e-6)


def test_a_model_that_did_not_learn_the_labels_is_doubted():
    outputs, targets = drawn()
    task = Multilabel(NAMES)
    assert task.doubt(outputs, targets) is None
    noise = np.random.default_rng(5).normal(size=outputs.shape)
    assert "hardly tell rows with a label from rows without" in task.doubt(noise, targets)
