"""Coordinates of the page's drawings. The templates draw; here is only where things go, in a fixed box that the page scales."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from understudy.reporting.table import model_name, short_count
from understudy.tasks import Metric

_WIDTH, _HEIGHT = 440, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 10, 26
_TALL = 270  # of the plots of quality against cost
_SQUARE = 220
_MARK = 19  # two marks nearer than this would hide each other
_MAX_POINTS = 400


@dataclass(frozen=True)
class Choice:
    """A model that one could take: what it costs and how good it is.

    Args:
        mark: one or two characters, drawn in the plot.
        kind: the model's name in facts.json, which decides the colour.
        ci95: of `value`; empty where unknown.
    """

    mark: str
    name: str
    kind: str
    cost: float
    value: float
    ci95: Sequence[float] = ()


def pareto_front(choices: Sequence[Choice], metric: Metric) -> list[Choice]:
    """The choices that no other one beats in cost or quality without being beaten in the other; from cheap to dear.

    >>> choices = [Choice("a", "", "", 1, 0.8), Choice("b", "", "", 2, 0.7), Choice("c", "", "", 3, 0.9)]
    >>> [choice.mark for choice in pareto_front(choices, Metric("f1", "F1"))]
    ['a', 'c']
    """
    front: list[Choice] = []
    for choice in sorted(choices, key=lambda choice: (choice.cost, -metric.signed(choice.value))):
        if not front or metric.lead(choice.value, front[-1].value) > 0:
            front.append(choice)
    return front


def trade_off(title: str, choices: Sequence[Choice], metric: Metric) -> dict[str, Any] | None:
    """Quality over cost on a logarithmic axis, with intervals and the Pareto front; None where fewer than two can be drawn."""
    choices = [choice for choice in choices if choice.cost > 0 and math.isfinite(choice.cost) and math.isfinite(choice.value)]
    if len(choices) < 2:
        return None
    ends = [number for choice in choices for number in (choice.value, *choice.ci95)]
    up, across = nice_ticks(min(ends), max(ends)), log_ticks([choice.cost for choice in choices])
    bottom, right = _TALL - _BOTTOM, _WIDTH - _RIGHT

    def place(cost: float) -> float:
        return scale(math.log(cost), [math.log(tick) for tick in (across[0], across[-1])], _LEFT + 12, right - 12)

    front = pareto_front(choices, metric)
    marks: list[dict[str, Any]] = []
    for choice in sorted(choices, key=lambda choice: (choice.cost, -choice.value)):
        x, y = place(choice.cost), scale(choice.value, up, bottom, _TOP)
        while any(math.dist((x, y), (drawn["x"], drawn["y"])) < _MARK for drawn in marks):
            x += 6  # beside the other, with its interval
        marks.append(
            {
                "mark": choice.mark,
                "order": choices.index(choice),
                "name": choice.name,
                "kind": choice.kind,
                "x": round(x, 1),
                "y": y,
                "front": choice in front,
                "ends": [scale(end, up, bottom, _TOP) for end in choice.ci95],
                "description": f"{choice.name}: {choice.value:.3f} at {choice.cost:.3g}",
            }
        )
    steps = [(mark["x"], mark["y"]) for mark in marks if mark["front"]]
    # Between two choices on the front, the dearer one is not affordable yet: a step over, then to its value.
    corners = [point for (_, low), (x, y) in pairwise(steps) for point in ((x, low), (x, y))]
    line = [steps[0], *corners, (right, steps[-1][1])]
    return {
        "title": title,
        "width": _WIDTH,
        "height": _TALL,
        "left": _LEFT,
        "right": right,
        "bottom": bottom,
        "across": [{"at": place(tick), "text": f"{tick:g}"} for tick in across],
        "up": [{"at": scale(tick, up, bottom, _TOP), "text": f"{tick:g}"} for tick in up],
        "front": " ".join(f"{x:.1f},{y:.1f}" for x, y in line),
        "marks": marks,
    }


def line_chart(title: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, Any] | None:
    """One line a model over training steps; None when no line has a point."""
    curves = {name: points for name, points in curves.items() if points}
    if not curves:
        return None
    steps = [step for curve in curves.values() for step, _ in curve]
    values = [value for curve in curves.values() for _, value in curve]
    across, up = nice_ticks(0, max(steps)), nice_ticks(min(values), max(values))

    def place(point: tuple[float, float]) -> tuple[float, float]:
        return scale(point[0], across, _LEFT, _WIDTH - _RIGHT), scale(point[1], up, _HEIGHT - _BOTTOM, _TOP)

    return {
        "title": title,
        "width": _WIDTH,
        "height": _HEIGHT,
        "left": _LEFT,
        "right": _WIDTH - _RIGHT,
        "bottom": _HEIGHT - _BOTTOM,
        "across": [{"at": scale(tick, across, _LEFT, _WIDTH - _RIGHT), "text": short_count(tick)} for tick in across],
        "up": [{"at": scale(tick, up, _HEIGHT - _BOTTOM, _TOP), "text": f"{tick:g}"} for tick in up],
        "lines": [
            {
                "kind": name,
                "name": model_name(name),
                "points": " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, _thinned(curve))),
                "last": place(curve[-1]),
            }
            for name, curve in curves.items()
        ],
    }


def square(title: str, kind: str, ticks: Sequence[float], series: Sequence[tuple[str, Sequence[tuple[float, ...]]]]) -> dict[str, Any]:
    """Points in a square whose diagonal is perfection.

    Args:
        kind: the model's name in facts.json, which decides the colour.
        ticks: of both axes.
        series: name → points (x, y), or (x, y, weight); a weight, the greatest of a series being 1, makes a larger dot.
    """
    start, end, bottom = 36.0, _SQUARE - 10.0, _SQUARE - 26.0

    def dot(x: float, y: float, weight: float = 0.0) -> dict[str, float]:
        return {"x": scale(x, ticks, start, end), "y": scale(y, ticks, bottom, _TOP), "r": round(2 + 4 * math.sqrt(weight), 1)}

    return {
        "title": title,
        "kind": kind,
        "size": _SQUARE,
        "start": start,
        "end": end,
        "bottom": bottom,
        "top": float(_TOP),
        "across": [{"at": scale(tick, ticks, start, end), "text": f"{tick:g}"} for tick in ticks],
        "up": [{"at": scale(tick, ticks, bottom, _TOP), "text": f"{tick:g}"} for tick in ticks],
        "series": [{"name": name, "dots": [dot(*point) for point in points]} for name, points in series],
    }


def nice_ticks(low: float, high: float) -> list[float]:
    """Round numbers that span a range, about five; they never leave 0 to 1 where the range does not.

    >>> nice_ticks(0.83, 0.91), nice_ticks(1.0, 1.0)
    ([0.82, 0.84, 0.86, 0.88, 0.9, 0.92], [0.9, 0.95, 1.0])
    """
    if low == high:  # the one value at the upper end
        low, high = (high - high / 10, high) if high > 0 else (low, low - low / 10 or 1.0)
    spread = high - low
    unit = 10 ** math.floor(math.log10(spread / 4))
    step = unit * next(factor for factor in (1, 2, 5, 10) if factor * unit * 4.5 >= spread)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, max(last, first + 1) + 1)]


def log_ticks(values: Sequence[float]) -> list[float]:
    """Round numbers that span a range on a logarithmic axis, at most seven.

    >>> log_ticks([0.16, 7.5]), log_ticks([0.3, 270])
    ([0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0], [0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0])
    """
    low, high = min(values), max(values)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high) + 1e-9)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        all_of_them = [float(f"{factor}e{power}") for power in range(first, last + 1) for factor in factors]
        start = max(index for index, tick in enumerate(all_of_them) if tick <= low)
        end = min(index for index, tick in enumerate(all_of_them) if tick >= high)
        ticks = all_of_them[start : max(end, start + 1) + 1]
        if len(ticks) <= 7:
            return ticks
    return ticks[:: -(-len(ticks) // 6)] + ([] if (len(ticks) - 1) % -(-len(ticks) // 6) == 0 else ticks[-1:])


def thinned(points: Sequence[Any], most: int = _MAX_POINTS) -> Sequence[Any]:
    """Evenly spread ones of too many."""
    return points[:: -(-len(points) // most)] if points else points


def _thinned(curve: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Every n-th point and the last one: a page needs no more points than can be seen."""
    return [*thinned(curve[:-1]), curve[-1]]


def scale(value: float, ticks: Sequence[float], start: float, end: float) -> float:
    """The coordinate of a value on an axis whose first tick is at `start` and whose last tick is at `end`."""
    return round(start + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (end - start), 1)
