"""Confidences of answers → probabilities of all classes: the scale of the numbers, and the share of classes without a number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression

SCALES = (1, 5, 10, 100)
ROUNDING = 0.05  # probabilities that a person or a language model wrote sum to 1 within this
_RARE = 0.05  # share of the answers: fewer than this on another scale are mistakes


def is_percent(value: Any) -> bool:
    """Whether a value is a text that ends in a percent sign."""
    return isinstance(value, str) and value.strip(' "').endswith(("%", "％"))


def number(value: Any) -> float:
    """A number, or a text that holds one, as a float.

    Raises:
        ValueError: not a finite number.
    """
    try:
        if value is None or isinstance(value, bool):
            raise ValueError
        converted = float(value.strip(' "')) if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        raise ValueError(f"a number is needed, got {value!r:.80}") from None
    if not math.isfinite(converted):
        raise ValueError(f"outputs must be finite, got {value}")
    return converted


def probability(value: Any, scale: float) -> float:
    """A number on a scale that starts at 0 as a probability; a number with % is in percent whatever the scale.

    >>> probability(0.8, 1), probability("80 %", 1), probability(8, 10), probability("8", 10)
    (0.8, 0.8, 0.8, 0.8)
    """
    return number(value.strip(' "')[:-1]) / 100 if is_percent(value) else number(value) / scale


def scale_of(likeliest: Sequence[float], totals: Sequence[float] = ()) -> float:
    """The number that means certainty in a column, from all its numbers: 1, 5, 10 or 100.

    Args:
        likeliest: the number of each answer's likeliest class.
        totals: the sum of each answer's numbers, where it has several.

    Raises:
        ValueError: they fit two scales, or none; the message has their range.

    >>> scale_of([0.9, 1, 0.75]), scale_of([85, 100, 60]), scale_of([8, 9, 3]), scale_of([5, 4, 2]), scale_of([1, 1, 0])
    (1, 100, 10, 5, 1)
    """
    sums = np.asarray(totals, dtype=float)
    for scale in SCALES:
        if sums.size and (abs(sums - scale) <= ROUNDING * scale).mean() >= 1 - _RARE:
            return scale
    values = np.asarray(likeliest, dtype=float)
    values = values[(values > 0) & (values != 1)]  # 0 and 1 are on every scale
    if not values.size:
        return 1
    below, upto5, upto10, upto100 = (
        (values <= 1 + ROUNDING),
        (values > 1 + ROUNDING) & (values <= 5),
        (values > 5) & (values <= 10),
        (values > 10) & (values <= 100 * (1 + ROUNDING)),
    )
    if below.mean() >= 1 - _RARE:
        return 1
    if upto100.mean() >= 1 - _RARE:
        return 100
    if (upto5 | upto10).mean() < 1 - _RARE:
        raise ValueError(f"from {values.min():g} to {values.max():g}, on more than one scale")
    if upto10.mean() > _RARE:
        return 10
    if values[upto5].max() == 5 and not upto10.any():
        return 5
    raise ValueError(f"from {values.min():g} to {values.max():g}, which may be of 5, of 10 or of 100")


def shared(values: np.ndarray) -> np.ndarray:
    """Probabilities of all classes, (classes,), from those of some: NaN is a class that an answer does not name.

    The classes that are not named share the rest to 1 equally. An answer that lists classes lists the likeliest ones, so a class that
    is not named may not be likelier than one that is. Where its share would make it so, the least likely listed classes share with them
    (isotonic regression: the nearest distribution in that order). Of two classes, the other one has the rest.

    Raises:
        ValueError: the named classes have so little that none would be likelier than those that are not named.

    >>> shared(np.array([0.7, np.nan, 0.2, np.nan])).round(3).tolist(), shared(np.array([0.9, 0, np.nan])).round(3).tolist()
    ([0.7, 0.05, 0.2, 0.05], [0.9, 0.05, 0.05])
    """
    missing = np.isnan(values)
    if not missing.any():
        return values
    total = float(np.nansum(values))
    values = values / max(1.0, total)  # rounded numbers may sum to a little more than 1: then no rest is left
    filled = np.where(missing, max(0.0, 1 - total) / missing.sum(), values)
    if len(values) == 2:
        return filled
    order = np.lexsort((filled, ~missing))  # classes that are not named, then the others from the least likely on
    filled[order] = isotonic_regression(filled[order]).x
    filled[missing] = filled[missing].min()  # equal shares, to the last digit
    if filled[~missing].max() <= filled[missing].max():
        raise ValueError(
            f"of {len(values)} classes it names {(~missing).sum()}, with {np.nansum(values):.3g} of 1: none would be likelier than the "
            "others"
        )
    return filled
