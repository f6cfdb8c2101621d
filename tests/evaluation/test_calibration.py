"""Calibration, by hand and against other ways to compute it."""

import numpy as np
import pytest
from scipy.special import softmax

from understudy.errors import DataError, ModelError
from understudy.evaluation.calibration import calibration, expected_calibration_error, reliability
from understudy.tasks.probabilities import TEMPERATURES, fit_temperature, negative_log_likelihood, probabilities_of


def drawn(rows=400, classes=5, *, seed=0, sharpness=3.0):
    """Logits, and labels drawn from softmax(logits / sharpness): the temperature that mends them is `sharpness`."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(rows, classes)) * 4
    labels = np.array([random.choice(classes, p=row) for row in softmax(logits / sharpness, axis=1)])
    return logits, labels


def test_by_hand():
    # Two bins. (0, 0.5]: one row, 0.5 sure and wrong. (0.5, 1]: 0.6 right, 0.8 wrong, 1.0 right: 2/3 right, 0.8 sure.
    probabilities = np.array([[0.5, 0.3, 0.2], [0.6, 0.4, 0], [0.1, 0.8, 0.1], [0, 0, 1.0]])
    labels = np.array([1, 0, 0, 2])
    assert expected_calibration_error(probabilities, labels, bins=2) == pytest.approx((1 * 0.5 + 3 * (0.8 - 2 / 3)) / 4)
    assert reliability(probabilities.max(1), probabilities.argmax(1) == labels, bins=2) == [
        {"low": 0.0, "high": 0.5, "rows": 1, "confidence": 0.5, "accuracy": 0.0},
        {"low": 0.5, "high": 1.0, "rows": 3, "confidence": pytest.approx(0.8), "accuracy": pytest.approx(2 / 3)},
    ]


def test_a_bin_holds_its_upper_edge():
    for place in range(1, 16):
        (found,) = reliability(np.array([place / 15]), np.array([True]))
        assert found["high"] == place / 15


def test_the_error_as_others_compute_it():
    """Row by row, as Guo's own code does: mask, mean, weight."""
    logits, labels = drawn()
    probabilities = softmax(logits, axis=1)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    expected = 0.0
    for low in np.linspace(0, 1, 16)[:-1]:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(probabilities, labels) == pytest.approx(expected)
    assert expected > 0.05


def test_sure_and_right_is_perfect_and_sure_and_wrong_is_the_worst():
    assert expected_calibration_error(np.eye(3), np.arange(3)) == 0
    assert expected_calibration_error(np.eye(3), np.array([1, 2, 0])) == 1


def test_the_temperature_by_hand():
    # Logits (ln 9, 0) say 0.9, and 3 of 4 rows are right: likeliest is 0.75, ln 9 / T = ln 3.
    logits = np.tile([np.log(9), 0.0], (4, 1))
    assert fit_temperature(logits, np.array([0, 0, 0, 1])) == pytest.approx(2, abs=1e-4)


def test_the_temperature_against_a_grid():
    logits, labels = drawn()
    grid = np.exp(np.linspace(*np.log(TEMPERATURES), 4001))
    best = grid[np.argmin([negative_log_likelihood(logits, labels, one) for one in grid])]
    assert fit_temperature(logits, labels) == pytest.approx(best, rel=2e-3)
    assert fit_temperature(logits, labels) == pytest.approx(3, rel=0.2)
    assert fit_temperature(4 * logits, labels) == pytest.approx(4 * fit_temperature(logits, labels), rel=1e-3)


def test_the_temperature_of_a_model_that_is_never_wrong_is_the_least():
    assert fit_temperature(np.eye(3), np.arange(3)) == pytest.approx(TEMPERATURES[0], rel=1e-3)
    assert fit_temperature(np.eye(3), np.array([1, 2, 0])) == pytest.approx(TEMPERATURES[1], rel=1e-3)


def test_the_likelihood_as_scikit_learn_has_it():
    from sklearn.metrics import log_loss

    logits, labels = drawn()
    expected = log_loss(labels, softmax(logits / 2, axis=1), labels=range(5))
    assert negative_log_likelihood(logits, labels, 2.0) == pytest.approx(expected)
    assert np.isfinite(negative_log_likelihood(1e4 * logits.astype(np.float32), labels))


def test_fitted_on_other_rows_than_it_is_measured_on():
    logits, labels = drawn(2000)
    found = calibration(logits[1000:], labels[1000:], fit_temperature(logits[:1000], labels[:1000]))
    assert found["temperature"] == fit_temperature(logits[:1000], labels[:1000])
    assert found["ece_scaled"] < found["ece"] / 2 and found["nll_scaled"] < found["nll"]
    scaled = probabilities_of(logits[1000:], found["temperature"])
    assert found["ece_scaled"] == expected_calibration_error(scaled, labels[1000:])
    alone = calibration(logits[1000:], labels[1000:])
    assert alone == {**found, "temperature": None, "ece_scaled": None, "nll_scaled": None}


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(DataError, match="no rows"):
        fit_temperature(np.zeros((0, 2)), np.zeros(0, int))
    with pytest.raises(DataError, match="3 model outputs for 2 labels"):
        expected_calibration_error(np.full((3, 2), 0.5), np.zeros(2, int))
    with pytest.raises(ModelError, match="not a finite number"):
        calibration(np.full((2, 2), np.nan), np.zeros(2, int))
    with pytest.raises(ModelError, match="temperature is 0"):
        probabilities_of(np.zeros((2, 2)), 0)
