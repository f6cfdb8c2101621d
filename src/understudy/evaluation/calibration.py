"""How well a model's probabilities match its accuracy, and the temperature that corrects them."""

from __future__ import annotations

from typing import Any

import numpy as np

from understudy.tasks.base import check_rows
from understudy.tasks.probabilities import fit_temperature, negative_log_likelihood, probabilities_of

__all__ = ["calibration", "expected_calibration_error", "fit_temperature", "probabilities_of", "reliability"]
BINS = 15


def calibration(logits: np.ndarray, labels: np.ndarray, temperature: float | None = None) -> dict[str, float | None]:
    """How far a classifier's probabilities are off on the test rows, before and after a temperature.

    Args:
        logits: of the test rows, (rows, classes).
        labels: of the test rows, (rows,).
        temperature: fitted on validation rows; None: nothing was fitted.

    Returns:
        `ece` and `nll`; `temperature`, and `ece_scaled` and `nll_scaled` of the logits divided by it, None where it is not fitted.

    Raises:
        DataError: no rows, or not as many labels as logits.
        ModelError: logits that are not finite numbers.
    """
    check_rows(labels, logits)
    errors: dict[str, float | None] = {
        "ece": expected_calibration_error(probabilities_of(logits.astype(np.float64)), labels),
        "nll": negative_log_likelihood(logits, labels),
        "temperature": None,
        "ece_scaled": None,
        "nll_scaled": None,
    }
    if temperature is None:
        return errors
    return errors | {
        "temperature": temperature,
        "ece_scaled": expected_calibration_error(probabilities_of(logits.astype(np.float64), temperature), labels),
        "nll_scaled": negative_log_likelihood(logits, labels, temperature),
    }


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """By how much a classifier's confidence is off, on average over rows: 0 is perfect, 1 the worst.

    ECE = Σ_b n_b / n · |accuracy(b) − confidence(b)|, over bins of equal width; a row is in ((b − 1) / bins, b / bins] by the probability
    of the class that it is given, and confidence(b) is the mean of these. It ignores the other classes, and on few rows it is
    biased upwards; to choose between models take the negative log-likelihood.

    Args:
        probabilities: (rows, classes), each row sums to 1.
        labels: (rows,).
        bins: how many.

    Raises:
        DataError: no rows, or not as many labels as rows.

    Source: Guo et al. 2017 (ICML), arXiv:1706.04599, equation 3; 15 bins as there.

    >>> expected_calibration_error(np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([0, 1]))  # |1/2 − 0.9|
    0.4
    """
    check_rows(labels, probabilities)
    table = reliability(probabilities.max(axis=-1), probabilities.argmax(axis=-1) == labels, bins)
    return float(sum(bin_["rows"] * abs(bin_["accuracy"] - bin_["confidence"]) for bin_ in table) / len(labels))


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> list[dict[str, Any]]:
    """The bins that the expected calibration error sums over, for a plot of accuracy over confidence; empty ones are left out.

    Args:
        confidence: the probability of the class that each row is given, (rows,).
        right: whether it is the row's label, (rows,).

    Returns:
        of each bin `low`, `high`, `rows`, and the means `confidence` and `accuracy`.

    >>> reliability(np.array([0.5, 0.5, 0.9]), np.array([True, False, True]), bins=2)[0]
    {'low': 0.0, 'high': 0.5, 'rows': 2, 'confidence': 0.5, 'accuracy': 0.5}
    """
    # Edges as quotients, as they are written; rounding a product could move 0.6 out of the third of five bins.
    edges = np.arange(bins + 1) / bins
    places = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    filled = []
    for place in np.unique(places):
        here = places == place
        filled.append(
            {
                "low": float(edges[place]),
                "high": float(edges[place + 1]),
                "rows": int(here.sum()),
                "confidence": float(confidence[here].mean()),
                "accuracy": float(right[here].mean()),
            }
        )
    return filled
