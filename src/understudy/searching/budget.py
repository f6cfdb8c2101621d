"""Limits on the cost of the shipped student."""

from __future__ import annotations

import math
from collections.abc import Mapping

from understudy.errors import RecipeError, did_you_mean
from understudy.reporting.search import amount

MEASURES = {"latency_ms": "median milliseconds of one row, from text to logits", "size_mib": "MiB on disk, tokenizer included"}
Budget = Mapping[str, float]  # measure → limit
Costs = Mapping[str, float]  # measure → value, of a student in one form


def parse_budget(text: str) -> dict[str, float]:
    """`"latency_ms<=1, size_mib<=10"` → `{"latency_ms": 1.0, "size_mib": 10.0}`.

    Raises:
        RecipeError: not a list of limits, an unknown measure, one given twice, or a limit that is not above 0.

    >>> parse_budget("latency_ms<=1, size_mib<=10")
    {'latency_ms': 1.0, 'size_mib': 10.0}
    """
    limits: dict[str, float] = {}
    for part in text.split(","):
        measure, sign, number = (word.strip() for word in part.partition("<="))
        if not sign:
            raise RecipeError(
                f"--budget {text!r}: '{part.strip()}' is not a limit; write it as measure<=number, as in latency_ms<=1, size_mib<=10"
            )
        if measure not in MEASURES:
            raise RecipeError(f"--budget {text!r}: measure '{measure}' is unknown; {did_you_mean(measure, MEASURES)}")
        if measure in limits:
            raise RecipeError(f"--budget {text!r}: {measure} is given twice; give it once")
        try:
            limits[measure] = float(number)
        except ValueError:
            limits[measure] = math.nan
        if not 0 < limits[measure] < math.inf:
            raise RecipeError(f"--budget {text!r}: the limit of {measure} is '{number}'; a number above 0 is allowed")
    return limits


def excess(costs: Costs, budget: Budget) -> float:
    """The largest ratio of a cost to its limit; at most 1 is within the budget.

    >>> excess({"latency_ms": 0.5, "size_mib": 15.0}, {"size_mib": 10.0})
    1.5
    """
    return max(costs[measure] / limit for measure, limit in budget.items())


def shown(costs: Costs) -> str:
    """Costs, rounded for reading.

    >>> shown({"latency_ms": 0.1234, "size_mib": 9.876}), shown({"latency_ms": 0.0001})
    ('latency_ms 0.12, size_mib 9.9', 'latency_ms 0.0001')
    """
    return ", ".join(f"{name} {amount(value, 2 if name == 'latency_ms' else 1)}" for name, value in costs.items())
