"""Where marks and lines go."""

import pytest

from understudy.reporting.plots import Choice, line_chart, log_ticks, nice_ticks, pareto_front, square, thinned, trade_off
from understudy.tasks import metric_named

ACCURACY = metric_named("accuracy")


def test_line_chart_by_hand():
    chart = line_chart("loss", {"student": [(0, 0.0), (100, 1.0)], "teacher": []})
    assert [line["name"] for line in chart["lines"]] == ["student"]
    left, right = chart["lines"][0]["points"].split()
    assert left == f"{chart['left']:.1f},{chart['bottom']:.1f}"
    assert right.startswith(f"{chart['right']:.1f},")
    assert line_chart("loss", {"student": []}) is None


def test_long_curves_keep_their_end():
    chart = line_chart("loss", {"student": [(step, step % 7) for step in range(10_001)]})
    points = chart["lines"][0]["points"].split()
    assert len(points) <= 402
    assert points[-1] == "{:.1f},{:.1f}".format(*chart["lines"][0]["last"])


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.83, 0.91), (0.5, 0.5), (0, 0), (-3, 250_000), (1e-9, 2e-9), (-2, -2)])
def test_ticks_span_the_range(low, high):
    ticks = nice_ticks(low, high)
    assert ticks[0] <= low
    assert high <= ticks[-1]
    assert 2 <= len(ticks) <= 7
    assert ticks == sorted(set(ticks))


@pytest.mark.parametrize("values", [[0.16, 7.5], [1, 1], [3, 3.1], [1e-3, 1e6], [5, 50], [0.9, 1.1], [87.4, 87.4]])
def test_logarithmic_ticks_span_the_range(values):
    ticks = log_ticks(values)
    assert ticks[0] <= min(values) and max(values) <= ticks[-1]
    assert 2 <= len(ticks) <= 7 and ticks == sorted(set(ticks))


def choice(mark, cost, value, ci95=()):
    return Choice(mark, f"model {mark}", "student", cost, value, ci95)


def test_the_front_by_hand():
    there = [choice("dear", 9, 0.9), choice("worse", 9, 0.8), choice("cheap", 1, 0.5), choice("middle", 3, 0.7), choice("beaten", 4, 0.7)]
    assert [one.mark for one in pareto_front(there, ACCURACY)] == ["cheap", "middle", "dear"]


def test_the_front_is_what_nothing_beats():
    from random import Random

    draw = Random(0)
    there = [choice(str(number), draw.randint(1, 9), draw.randint(1, 9)) for number in range(40)]
    beaten = {
        one.mark
        for one in there
        for other in there
        if other.cost <= one.cost and other.value >= one.value and (other.cost, other.value) != (one.cost, one.value)
    }
    front = {(one.cost, one.value) for one in pareto_front(there, ACCURACY)}
    assert front == {(one.cost, one.value) for one in there if one.mark not in beaten}


def test_trade_off_by_hand():
    plot = trade_off("cost", [choice("a", 1, 0.5, [0.4, 0.6]), choice("b", 100, 0.9, [0.8, 1.0]), choice("c", 10, 0.4)], ACCURACY)
    marks = {mark["mark"]: mark for mark in plot["marks"]}
    assert [mark["front"] for mark in marks.values()] == [True, False, True]  # a, c, b: from cheap to dear
    assert marks["c"]["x"] == pytest.approx((marks["a"]["x"] + marks["b"]["x"]) / 2, abs=0.1)  # ten times as much each
    assert marks["b"]["y"] < marks["a"]["y"] < marks["c"]["y"]
    low, high = marks["a"]["ends"]
    assert (low + high) / 2 == pytest.approx(marks["a"]["y"], abs=0.1)
    points = [tuple(map(float, point.split(","))) for point in plot["front"].split()]
    a, b = ((marks[name]["x"], marks[name]["y"]) for name in "ab")
    assert points == [a, (b[0], a[1]), b, (plot["right"], b[1])]


def test_marks_do_not_hide_each_other_and_stay_inside():
    plot = trade_off("cost", [choice(str(number), 2, 0.5) for number in range(6)], ACCURACY)
    at = [(mark["x"], mark["y"]) for mark in plot["marks"]]
    assert all(abs(one[0] - other[0]) >= 16 for one in at for other in at if one is not other)
    assert max(x for x, _ in at) < plot["width"]


def test_no_trade_off_of_one_or_of_what_costs_nothing():
    assert trade_off("cost", [choice("a", 1, 0.5)], ACCURACY) is None
    assert trade_off("cost", [choice("a", 1, 0.5), choice("b", 0, 0.6), choice("c", 2, float("nan"))], ACCURACY) is None


def test_a_square_by_hand():
    drawn = square("title", "student", (0, 1), [("all", [(0, 0, 0.0), (1, 1, 1.0), (0.5, 1)])])
    first, last, middle = drawn["series"][0]["dots"]
    assert first == {"x": drawn["start"], "y": drawn["bottom"], "r": 2}
    assert last == {"x": drawn["end"], "y": drawn["top"], "r": 6}
    assert (middle["x"], middle["y"]) == ((drawn["start"] + drawn["end"]) / 2, drawn["top"])


def test_thinning_keeps_the_first_and_the_order():
    assert thinned(range(10), 5) == range(0, 10, 2) and thinned([], 5) == []


def test_no_axis_of_a_metric_goes_beyond_one():
    """The law, over all ranges within 0 and 1, a single value among them: it went to 1.02 for an accuracy of 1."""
    ends = [round(0.01 * place, 2) for place in range(101)] + [0.996, 0.9999]
    for low in ends:
        for high in (one for one in ends if one >= low):
            ticks = nice_ticks(low, high)
            assert 0 <= ticks[0] <= low and high <= ticks[-1] <= 1 and len(ticks) > 1, (low, high, ticks)


def test_a_curve_that_is_always_right_stays_below_one():
    chart = line_chart("accuracy", {"student": [(10, 1.0), (20, 1.0)]})
    assert [tick["text"] for tick in chart["up"]][-1] == "1"
