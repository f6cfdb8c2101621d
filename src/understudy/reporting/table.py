"""The result of a run: a table for the terminal, and a sentence or two that sum it up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.evaluation.summary import metric_of, metric_value
from understudy.reporting.agreement import UNKNOWN, against_teacher, agrees, by_teacher
from understudy.reporting.speeds import between, busy, devices, faster, times
from understudy.tasks import Metric, main_metrics

if TYPE_CHECKING:
    from rich.table import Table

    Facts = Mapping[str, Any]

MODEL_NAMES = {
    "teacher": "teacher",
    "teacher_onnx_int8": "teacher, int8",
    "ngrams": "n-gram baseline",
    "student_alone": "student alone",
    "student_pseudo_labels": "student on the teacher's labels",
    "student": "student",
    "student_onnx": "student, ONNX",
    "student_onnx_int8": "student, int8",
}
_UNKNOWN = "–"
_WORSE_NLL = 0.005  # nats


def table(facts: Facts) -> Table:
    """A rich table: a row for each model, its quality with the 95 % interval, size, speed and training time."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    header, *rows = table_cells(facts)
    drawn = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    drawn.add_column("", min_width=len("teacher's labels"))
    for name in header[1:]:  # broken headers and unbroken numbers fit into 80 columns
        drawn.add_column(Text("\n".join(name.rsplit(" ", 1))), justify="right", vertical="bottom", no_wrap=True)
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row), style="bold" if row[0] == MODEL_NAMES["student"] else None)
    return drawn


def benchmark_table(facts: Facts) -> Table:
    """What `benchmark` measured: a row for each model, speed with the range over rounds."""
    from rich import box
    from rich.table import Table

    metric = facts["primary_metric"]
    drawn = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for name in ("", "form"):
        drawn.add_column(name, overflow="fold")
    for name in ("rows/s", "ms p50", "ms p95", "peak MiB", "MiB", metric_of(facts).title):
        drawn.add_column(name, justify="right")
    for model in facts["models"]:
        low, high = model["rows_per_second_range"]
        drawn.add_row(
            "/".join(Path(model["model"]).parts[-2:]),
            model["form"].replace("_", " "),
            f"{model['rows_per_second']:,.0f} ({low:,.0f}–{high:,.0f})",
            _number(model["latency_ms"]["p50"], 2),
            _number(model["latency_ms"]["p95"], 2),
            _number(model["peak_memory_mib"], 0),
            _number(model["size_mib"], 1),
            _number(metric_value(model, metric), 3),
        )
    return drawn


def table_cells(facts: Facts, *, spread: bool = False) -> list[list[str]]:
    """The table as text: a header, then a row for each measured model: teacher, controls, student.

    Args:
        spread: put the lowest and the highest of the rounds beside timings.
    """
    primary, models = facts["primary_metric"], measured_models(facts)
    second = [
        metric
        for metric in (list(facts["metrics"])[:2] if facts.get("metrics") else main_metrics(facts.get("task")))
        if metric != primary and any(metric_value(entry, metric) is not None for entry in models.values())
    ]
    names = [figure_name(facts, metric, short=True) for metric in (primary, *second)]
    header = ["", names[0], "95 % interval", *names[1:]]
    cells = [[*header, "params", "MiB", "ms (p50)", "rows/s", "training s"]]
    for name, entry in models.items():
        cells.append(
            [
                called(facts, name),
                _number(metric_value(entry, primary), 3),
                _interval(entry, primary),
                *(_number(metric_value(entry, metric), 3) for metric in second),
                short_count(entry.get("parameters")),
                _number(entry.get("size_mib"), 1),
                _number((entry.get("latency_ms") or {}).get("p50"), 2) + _spread(entry, "latency_p50_range_ms", 2, spread),
                _number(entry.get("rows_per_second"), 0) + _spread(entry, "rows_per_second_range", 0, spread),
                _number(entry.get("seconds"), 0),
            ]
        )
    return cells


def measured_models(facts: Facts) -> dict[str, Any]:
    """The entries of facts.json that hold something, in the order in which they are shown: any others come last."""
    models = {name: entry for name, entry in (facts.get("models") or {}).items() if entry}
    return {name: models[name] for name in [*MODEL_NAMES, *models] if name in models}


def footnote(facts: Facts) -> str:
    """What the timings of the table are, and how much they varied; empty where there are none."""
    spreads = {
        name: (high - low) / entry["rows_per_second"]
        for name, entry in measured_models(facts).items()
        if entry.get("rows_per_second_range")
        for low, high in [entry["rows_per_second_range"]]
    }
    if not spreads:
        return ""
    widest = max(spreads, key=lambda name: spreads[name])
    low, high = facts["models"][widest]["rows_per_second_range"]
    return (
        "ms: one row at a time; rows/s: batches of 32 rows for all; medians over rounds, tokenization included. Most spread out: "
        f"{called(facts, widest)}, {low:,.0f} to {high:,.0f} rows/s. {busy(facts)}"
    ).rstrip()


def verdict(facts: Facts) -> str:
    """What the run found, in a sentence or two: quality kept, size, speed, and whether the teacher helped.

    A gain counts as shown when p < 0.05, which is when its 95 % interval leaves out 0. What is unknown is named as unknown, or left out.
    """
    models = facts.get("models") or {}
    metric = facts["primary_metric"]
    value = metric_value(models.get("student"), metric)
    if value is None:
        return _teacher_alone(facts, metric)
    if by_teacher(facts):
        over = "the same student trained on the teacher's predicted labels"
        parts = [f"The student {agrees(facts)}{_cost(facts)}", _gain(facts, "gain_over_pseudo_labels", over)]
        return f"{'; '.join(filter(None, parts))}.{_exported(facts, metric)} {UNKNOWN}"
    gains = [
        _gain(facts, "gain_over_alone", "the same student without a teacher") or _why_unknown(models),
        _gain(facts, "gain_over_pseudo_labels", "the same student trained on the teacher's predicted labels"),
        _over_ngrams(facts, metric),
    ]
    reached = f"The student {_quality(facts, metric, value)}{_cost(facts)}"
    sentences = f"{reached}; {', and '.join(filter(None, gains))}.{_exported(facts, metric)}"
    if (facts.get("data") or {}).get("test_is_validation"):
        sentences += " Measured on the validation rows, which also chose the checkpoints, as no test rows were given."
    return sentences


def model_name(name: str) -> str:
    """A model of facts.json as a reader calls it.

    >>> model_name("teacher_onnx_int8"), model_name("student_of_mine")
    ('teacher, int8', 'student of mine')
    """
    return MODEL_NAMES.get(name, name.replace("_", " "))


def called(facts: Facts, name: str) -> str:
    """A model of a run as a reader calls it: what `finetune` made of a student kind is no teacher.

    >>> called({"recipe": "finetune"}, "teacher"), called({"recipe": "finetune", "student": "bilstm"}, "teacher")
    ('teacher', 'model')
    """
    return "model" if name == "teacher" and facts.get("recipe") == "finetune" and facts.get("student") else model_name(name)


def figure_name(facts: Facts, metric: str, *, short: bool = False) -> str:
    """A figure of a run as a reader calls it: without labelled rows it is agreement with the teacher.

    >>> figure_name({}, "pearson", short=True), figure_name({"reference": "teacher"}, "accuracy")
    ('Pearson', 'agreement with the teacher')
    """
    described = metric_of(facts, metric)
    if by_teacher(facts):
        return "agreement" if short and described.counts_rows else against_teacher(described, described.title)
    return described.title.removesuffix(" correlation") if short else described.title


def short_count(count: float | None) -> str:
    """A count in three digits or so.

    >>> short_count(22_713_216), short_count(1_204), short_count(None)
    ('22.7M', '1.2k', '–')
    """
    if count is None:
        return _UNKNOWN
    for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.1f}{letter}"
    return f"{count:.0f}"


def worse_scaled(calibration: Mapping[str, Any]) -> bool:
    """Whether the fitted temperature makes the negative log-likelihood of the test rows worse."""
    before, after = calibration.get("nll"), calibration.get("nll_scaled")
    return before is not None and after is not None and after - before > _WORSE_NLL


def listed(names: Sequence[str], most: int) -> str:
    """The first few of many names.

    >>> listed(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    return ", ".join(names) if len(names) <= most else f"{', '.join(names[:most])} and {len(names) - most} more"


def points(gain: Mapping[str, Any], metric: Metric) -> str:
    """A gain and its interval, of a fraction in points.

    >>> points({"value": 0.021, "ci95": [-0.0012, 0.034]}, Metric("f1", "F1"))
    '+2.1 points, 95 % interval −0.1 to +3.4'
    """
    value, low, high = (signed_points(number, metric) for number in (gain["value"], *gain["ci95"]))
    return f"{value}{' points' if metric.unit == 'fraction' else ''}, 95 % interval {low} to {high}"


def size_of(difference: float, metric: Metric) -> str:
    """A difference without its sign.

    >>> size_of(-0.021, Metric("f1", "F1")), size_of(-1.234, Metric("perplexity", "perplexity", "lower", "number"))
    ('2.1 points', '1.23')
    """
    return f"{abs(100 * difference):.1f} points" if metric.unit == "fraction" else f"{abs(difference):.3g}"


def p_value(p: float) -> str:
    """A p-value in two decimals, in three where they matter.

    >>> p_value(0.0123), p_value(0.0494), p_value(0.0004), p_value(0.42)
    ('p = 0.01', 'p = 0.049', 'p < 0.001', 'p = 0.42')
    """
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.{3 if p < 0.01 or 0.045 <= p < 0.055 else 2}f}"


def gain_is_shown(gain: Mapping[str, Any]) -> bool:
    """Whether the test carries a difference, in either direction."""
    low, high = gain["ci95"]
    return not low <= 0 <= high and gain["p_value"] < 0.05


def _teacher_alone(facts: Facts, metric: str) -> str:
    """Of a fine-tuning, the teacher's quality; there is no student yet."""
    figure = (((facts.get("models") or {}).get("teacher") or {}).get("quality") or {}).get(metric) or {}
    if figure.get("value") is None or not figure.get("ci95"):
        return "No student was measured."
    low, high = (_number(end, 3) for end in figure["ci95"])
    value = _number(figure["value"], 3)
    more = " No student was trained." if called(facts, "teacher") == "teacher" else ""
    return f"The {called(facts, 'teacher')} reaches {metric_of(facts).title} {value} (95 % interval {low} to {high})." + more


def _quality(facts: Facts, metric: str, value: float) -> str:
    """What is kept, as in "keeps 97 % of the teacher's accuracy (0.871 of 0.898)"."""
    described, teacher, kept = metric_of(facts), (facts.get("models") or {}).get("teacher"), facts.get("kept_fraction")
    name = described.title
    teacher_value = metric_value(teacher, metric)
    if teacher_value is None:
        return f"reaches {name} {_number(value, 3)}"
    alone = metric_value((facts.get("models") or {}).get("student_alone"), metric)
    if alone is not None and described.lead(teacher_value, alone) < 0:
        # No praise beside a teacher that the labels alone beat.
        return f"reaches {name} {_number(value, 3)} (its teacher {_number(teacher_value, 3)}, worse than the same student without it)"
    if kept is None or kept < 0:
        return f"reaches {name} {_number(value, 3)}, the teacher {_number(teacher_value, 3)}"
    if kept < 0.995:
        return f"keeps {100 * kept:.0f} % of the teacher's {name} ({value:.3f} of {teacher_value:.3f})"
    # More than the teacher's value by luck of the rows is no more than a match.
    low = (facts["models"]["student"]["quality"][metric].get("ci95") or [value])[0]
    verb = "exceeds" if low > teacher_value else "matches"
    return f"{verb} the teacher's {name} ({value:.3f} against {teacher_value:.3f})"


def _cost(facts: Facts) -> str:
    """Size and speed beside the teacher's: ", is 12× smaller and 40× faster"; nothing where they are unknown."""
    comparisons = []  # (is it cheaper, how it reads)
    if smaller := facts.get("times_smaller"):
        same = max(smaller, 1 / smaller) < 1.05
        comparisons.append((smaller >= 1.05, "as large as the teacher" if same else times(smaller, "smaller", "larger")))
    if ratio := facts.get("times_faster"):
        same = f"as fast as the teacher{devices(facts, 'times_faster')}{between(facts, 'times_faster')}"
        comparisons.append((ratio >= 1.05, same if max(ratio, 1 / ratio) < 1.05 else faster(facts, "times_faster")))
    if not comparisons:
        return ""
    joined = " and " if len({cheaper for cheaper, _ in comparisons}) == 1 else " but "
    return (", is " if len(comparisons) == 2 else " and is ") + joined.join(words for _, words in comparisons)


def _exported(facts: Facts, metric: str) -> str:
    """The export beside the teacher, and beside the teacher's own, which is what a student has to beat."""
    if not facts.get("times_faster_exported"):
        return ""
    models = facts.get("models") or {}
    form = "student_onnx_int8" if models.get("student_onnx_int8") else "student_onnx"
    bits = " in 8 bits" if form == "student_onnx_int8" else ""
    sentence = f" Exported{bits}, it is {faster(facts, 'times_faster_exported', 'the teacher')}"
    if facts.get("times_faster_int8"):
        student_value, teacher_value = (metric_value(models.get(name), metric) for name in (form, "teacher_onnx_int8"))
        values = (
            ""
            if student_value is None or teacher_value is None
            else f" ({figure_name(facts, metric)} {student_value:.3f} against {teacher_value:.3f})"
        )
        sentence += f", and {faster(facts, 'times_faster_int8', 'the teacher in 8 bits')}{values}"
    return f"{sentence}."


def _gain(facts: Facts, fact: str, control: str) -> str | None:
    gain, metric = facts.get(fact), metric_of(facts)
    if gain is None:
        return None
    if not gain_is_shown(gain):
        return f"no statistically significant gain over {control} ({points(gain, metric)}, {p_value(gain['p_value'])})"
    word = "better" if gain["value"] > 0 else "worse"
    return f"{size_of(gain['value'], metric)} {word} than {control} ({p_value(gain['p_value'])})"


def _over_ngrams(facts: Facts, metric: str) -> str | None:
    gain, value = facts.get("gain_over_ngrams"), metric_value((facts.get("models") or {}).get("ngrams"), metric)
    if gain is None or value is None:
        return None
    sign = "better" if gain["value"] > 0 else "worse"
    shown = f"the student is {size_of(gain['value'], metric_of(facts))} {sign}" if gain_is_shown(gain) else "no significant difference"
    return f"the n-gram baseline without a teacher reaches {_number(value, 3)} ({shown}, {p_value(gain['p_value'])})"


def _why_unknown(models: Mapping[str, Any]) -> str:
    alone = models.get("student_alone")
    reason = "the gain over the student alone was not tested" if alone else "no student was trained without one"
    return f"whether the teacher helped is unknown, as {reason}"


def _interval(entry: Mapping[str, Any], metric: str) -> str:
    interval = ((entry.get("quality") or {}).get(metric) or {}).get("ci95")
    return "–".join(f"{end:.3f}" for end in interval) if interval else _UNKNOWN


def _spread(entry: Mapping[str, Any], name: str, digits: int, wanted: bool) -> str:
    return f" ({'–'.join(_number(end, digits) for end in entry[name])})" if wanted and entry.get(name) else ""


def _number(value: float | None, digits: int) -> str:
    return _UNKNOWN if value is None else f"{value:,.{digits}f}".replace("-", "−")


def signed_points(value: float, metric: Metric) -> str:
    """A difference, of a fraction in points: its hundredths.

    >>> signed_points(-0.0012, Metric("f1", "F1"))
    '−0.1'
    """
    return (f"{100 * value:+.1f}" if metric.unit == "fraction" else f"{value:+.3g}").replace("-", "−")
