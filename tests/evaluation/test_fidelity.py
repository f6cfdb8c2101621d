"""Agreement, divergence and flipped rows, by hand."""

import numpy as np
import pytest

from understudy.errors import DataError
from understudy.evaluation.fidelity import agreement, fidelity, mean_forward_kl
from understudy.tasks.classification import Classification
from understudy.tasks.similarity import Similarity


def test_by_hand():
    labels = np.array([0, 0, 1, 1])
    teacher, student = np.eye(2)[[0, 0, 0, 1]], np.eye(2)[[0, 1, 1, 1]]
    found = fidelity(Classification(), student, teacher, labels)
    assert found["agreement"] == 0.5
    assert found["teacher_only_right"] == [1]
    assert found["student_only_right"] == [2]
    # In two of four rows the logits 1 and 0 are turned round: KL = p − (1 − p) with p = e / (1 + e).
    assert found["forward_kl"] == pytest.approx((2 * np.e / (1 + np.e) - 1) / 2)


def test_kl_agrees_with_scipy_and_is_zero_for_a_copy():
    from scipy.special import softmax
    from scipy.stats import entropy

    student, teacher = np.random.default_rng(0).normal(size=(2, 20, 5))
    oracle = entropy(softmax(teacher, axis=1), softmax(student, axis=1), axis=1).mean()
    assert mean_forward_kl(student, teacher) == pytest.approx(oracle)
    assert mean_forward_kl(teacher + 3, teacher) == pytest.approx(0, abs=1e-12)
    assert mean_forward_kl(1e4 * student, 1e4 * teacher) < np.inf


def test_numbers():
    teacher = np.array([[1.0], [2.0], [4.0]])
    found = fidelity(Similarity(), 2 * teacher + 1, teacher, np.array([0.0, 1.0, 2.0]))
    assert found["agreement"] == pytest.approx(1)
    assert found["forward_kl"] is found["teacher_only_right"] is found["student_only_right"] is None
    assert agreement(Similarity(), np.ones((3, 1)), teacher) == 0
    assert agreement(Similarity(), np.ones((3, 1)), np.ones((3, 1))) == 1


def test_other_rows_are_refused():
    with pytest.raises(DataError, match="3 model outputs for 2 labels"):
        fidelity(Classification(), np.zeros((2, 2)), np.zeros((3, 2)), np.zeros(2, int))
