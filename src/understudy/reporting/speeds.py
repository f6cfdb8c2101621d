"""How much faster a model is, in words, and how far to believe it: the one place that reads the ranges of timings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Facts = Mapping[str, Any]

_STEADY = 2.0  # a ratio whose lowest and highest value are farther apart is a rough one


def faster(facts: Facts, fact: str, than: str = "") -> str:
    """A ratio of speeds in words, with its range where the timings varied much, and the devices where they are not the same.

    >>> faster({"times_faster": 40.2, "times_ranges": {"times_faster": [18, 95]}}, "times_faster", "the teacher")
    'roughly 40× faster than the teacher (18 to 95× between rounds)'
    >>> faster({"times_faster": 40.2}, "times_faster")
    '40× faster'
    """
    than = f" than {than}" if than else ""
    return f"{'roughly ' if rough(facts, fact) else ''}{times(facts[fact])}{than}{devices(facts, fact)}{between(facts, fact)}"


def rough(facts: Facts, fact: str) -> bool:
    """Whether a ratio of speeds varied by more than a factor of 2 between rounds."""
    low, high = (facts.get("times_ranges") or {}).get(fact) or (1.0, 1.0)
    return high > _STEADY * low


def between(facts: Facts, fact: str) -> str:
    """The range of a rough ratio, in the direction that `times` gives; empty for a steady ratio."""
    if not rough(facts, fact):
        return ""
    low, high = facts["times_ranges"][fact]
    if facts[fact] < 1:
        low, high = 1 / high, 1 / low
    return f" ({_short(low)} to {_short(high)}× between rounds)"


def busy(facts: Facts) -> str:
    """What to think of timings that varied much; empty where they did not."""
    if not any(rough(facts, fact) for fact in facts.get("times_ranges") or {}):
        return ""
    return (
        "Timings varied much between rounds, as on a machine that does other work: take the speeds as rough, or measure them again on an "
        "idle one (understudy benchmark)."
    )


def devices(facts: Facts, fact: str) -> str:
    """Where the two sides of a speed ratio ran, where that was not the same."""
    device, teacher = (facts.get("times_devices") or {}).get(fact) or ("", "")
    return "" if device == teacher else f" (on {device}, the teacher on {teacher})"


def times(ratio: float, more: str = "faster", less: str = "slower") -> str:
    """A ratio in words.

    >>> times(40.2), times(0.5)
    ('40× faster', '2.0× slower')
    """
    word, ratio = (more, ratio) if ratio >= 1 else (less, 1 / ratio)
    return f"{_short(ratio)}× {word}"


def _short(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 9.95 else f"{ratio:.1f}"
