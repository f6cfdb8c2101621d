"""Logits of classes as probabilities, how likely they make the labels, and the one number that corrects them."""

from __future__ import annotations

import numpy as np

from understudy.errors import ModelError
from understudy.tasks.base import check_rows

TEMPERATURES = (0.05, 20.0)  # the search is between these; rows that a model never gets wrong drive it to the lower end


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T that makes softmax(logits / T) likeliest: above 1 for a model that is too sure of itself.

    Minimises the mean negative log-likelihood, which has one minimum in T, by a bounded search over log T. Give validation rows, never
    those that the calibration is then measured on. No prediction changes by it, only how sure it is.

    Args:
        logits: (rows, classes).
        labels: (rows,).

    Raises:
        DataError: no rows, or not as many labels as logits.
        ModelError: logits that are not finite numbers.

    Source: Guo et al. 2017 (ICML), arXiv:1706.04599, section 4.2.
    """
    from scipy.optimize import minimize_scalar

    check_rows(labels, logits)
    found = minimize_scalar(
        lambda log_temperature: negative_log_likelihood(logits, labels, float(np.exp(log_temperature))),
        bounds=tuple(np.log(TEMPERATURES)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """Mean of −ln softmax(logits / temperature)[label] over rows, in nats.

    >>> round(negative_log_likelihood(np.zeros((3, 4)), np.array([0, 1, 3])), 4)  # ln 4
    1.3863
    """
    from scipy.special import log_softmax

    logs = log_softmax(logits.astype(np.float64) / temperature, axis=-1)
    return float(-logs[np.arange(len(labels)), labels].mean())


def probabilities_of(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """softmax(logits / temperature), (rows, classes), in the precision of the logits.

    Raises:
        ModelError: a temperature that is not above 0.
    """
    if not temperature > 0:
        raise ModelError(f"temperature is {temperature}; it must be above 0 (1 leaves the logits unchanged)")
    scaled = logits / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
