"""The table's cells, and the one sentence in every situation."""

import copy
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import pytest
from rich.console import Console

from understudy.evaluation.summary import summarise
from understudy.reporting.headline import figures
from understudy.reporting.page import write_page
from understudy.reporting.plots import Choice, pareto_front
from understudy.reporting.table import footnote, table, table_cells, verdict
from understudy.tasks import Metric, metric_named


def model(value, *, size_mib=8.0, rows_per_second=4000.0, metric="accuracy"):
    return {
        "parameters": 1_800_000,
        "size_mib": size_mib,
        "quality": {metric: {"value": value, "ci95": [value - 0.02, value + 0.02]}},
        "latency_ms": {"p50": 0.21, "p95": 0.3},
        "rows_per_second": rows_per_second,
        "seconds": 66.0,
    }


def facts_with(*, teacher=0.898, student=0.871, gain=(0.021, 0.008, 0.034, 0.0123), metric="accuracy", **student_costs):
    models = {
        "student": model(student, metric=metric, **student_costs),
        "student_alone": model(0.85, metric=metric),
        "teacher": teacher and model(teacher, size_mib=96.0, rows_per_second=100.0, metric=metric),
    }
    value, low, high, p_value = gain
    return {
        "primary_metric": metric,
        "models": models,
        "gain_over_alone": {"value": value, "ci95": [low, high], "p_value": p_value, "test": "McNemar with continuity correction"},
        **summarise(models, metric_named(metric)),
    }


KEEPS = "The student keeps 97 % of the teacher's accuracy (0.871 of 0.898)"
CHEAPER = "is 12× smaller and 40× faster"
BETTER = "2.1 points better than the same student without a teacher (p = 0.01)"


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (facts_with(), f"{KEEPS}, {CHEAPER}; {BETTER}."),
        (facts_with(student=0.9), f"The student matches the teacher's accuracy (0.900 against 0.898), {CHEAPER}; {BETTER}."),
        (facts_with(student=0.94), f"The student exceeds the teacher's accuracy (0.940 against 0.898), {CHEAPER}; {BETTER}."),
        (
            facts_with(metric="pearson"),
            f"The student keeps 97 % of the teacher's Pearson correlation (0.871 of 0.898), {CHEAPER}; {BETTER}.",
        ),
        (facts_with(rows_per_second=40.0), f"{KEEPS}, is 12× smaller but 2.5× slower; {BETTER}."),
        (facts_with(size_mib=192.0), f"{KEEPS}, is 2.0× larger but 40× faster; {BETTER}."),
        (facts_with(size_mib=192.0, rows_per_second=98.0), f"{KEEPS}, is 2.0× larger and as fast as the teacher; {BETTER}."),
        (facts_with(teacher=None), f"The student reaches accuracy 0.871; {BETTER}."),
        (
            facts_with(teacher=-0.1, metric="matthews"),
            "The student reaches Matthews correlation 0.871 (its teacher −0.100, worse than the same student without it), "
            f"{CHEAPER}; {BETTER}.",
        ),
        (
            facts_with(gain=(0.006, -0.009, 0.021, 0.42)),
            f"{KEEPS}, {CHEAPER}; no statistically significant gain over the same student without a teacher "
            "(+0.6 points, 95 % interval −0.9 to +2.1, p = 0.42).",
        ),
        (
            facts_with(gain=(-0.03, -0.05, -0.01, 0.0002)),
            f"{KEEPS}, {CHEAPER}; 3.0 points worse than the same student without a teacher (p < 0.001).",
        ),
    ],
)
def test_verdict(facts, sentence):
    assert verdict(facts) == sentence


def test_verdict_of_a_gain_that_only_the_interval_shows():
    assert "no statistically significant gain over the same student" in verdict(facts_with(gain=(0.02, 0.001, 0.04, 0.06)))


def test_verdict_without_a_control():
    facts = facts_with() | {"gain_over_alone": None}
    del facts["models"]["student_alone"]
    assert verdict(facts).endswith("; whether the teacher helped is unknown, as no student was trained without one.")


def test_verdict_with_a_control_that_was_not_compared():
    assert "the gain over the student alone was not tested" in verdict(facts_with() | {"gain_over_alone": None})


def test_verdict_on_pseudo_labels():
    softness = {"value": 0.008, "ci95": [-0.004, 0.02], "p_value": 0.24}
    assert verdict(facts_with() | {"gain_over_pseudo_labels": softness}).endswith(
        f"; {BETTER}, and no statistically significant gain over the same student trained on the teacher's predicted labels "
        "(+0.8 points, 95 % interval −0.4 to +2.0, p = 0.24)."
    )


def test_verdict_on_validation_rows():
    said = verdict(facts_with() | {"data": {"test_is_validation": True}})
    assert said.endswith(" Measured on the validation rows, which also chose the checkpoints, as no test rows were given.")
    assert "Measured" not in verdict(facts_with() | {"data": {"test_is_validation": False}})


def test_verdict_with_only_size_or_only_speed_known():
    assert "(0.871 of 0.898) and is 12× smaller;" in verdict(facts_with() | {"times_faster": None})
    assert "(0.871 of 0.898) and is 40× faster;" in verdict(facts_with() | {"times_smaller": None})


def exported(**rows_per_second):
    """Facts with exports of these speeds."""
    facts = facts_with()
    for name, speed in rows_per_second.items():
        facts["models"][name] = model(0.86, rows_per_second=speed)
    return facts | summarise(facts["models"], metric_named("accuracy"))


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (exported(student_onnx=6000.0), " Exported, it is 60× faster than the teacher."),
        (exported(student_onnx=6000.0, student_onnx_int8=9000.0), " Exported in 8 bits, it is 90× faster than the teacher."),
        (
            exported(student_onnx_int8=9000.0, teacher_onnx_int8=1000.0),
            " Exported in 8 bits, it is 90× faster than the teacher, and 9.0× faster than the teacher in 8 bits "
            "(accuracy 0.860 against 0.860).",
        ),
        (
            exported(student_onnx_int8=800.0, teacher_onnx_int8=1000.0),
            " Exported in 8 bits, it is 8.0× faster than the teacher, and 1.2× slower than the teacher in 8 bits "
            "(accuracy 0.860 against 0.860).",
        ),
        (exported(student_onnx=6000.0, teacher_onnx_int8=1000.0), " Exported, it is 60× faster than the teacher."),
    ],
)
def test_the_export_is_compared_with_the_teacher_and_with_its_export(facts, sentence):
    assert verdict(facts) == f"{KEEPS}, {CHEAPER}; {BETTER}.{sentence}"


def test_an_export_on_a_processor_is_not_divided_by_a_teacher_on_an_accelerator_without_a_word():
    facts = exported(student_onnx=6000.0)
    for name, device in (("teacher", "cuda"), ("student", "cuda"), ("student_onnx", "cpu")):
        facts["models"][name]["device"] = device
    facts |= summarise(facts["models"], metric_named("accuracy"))
    assert verdict(facts).endswith("Exported, it is 60× faster than the teacher (on cpu, the teacher on cuda).")
    assert "40× faster;" in verdict(facts)


def test_the_n_gram_baseline_is_in_the_sentence():
    facts = facts_with()
    facts["models"]["ngrams"] = model(0.86)
    facts["gain_over_ngrams"] = {"value": 0.011, "ci95": [-0.003, 0.025], "p_value": 0.2}
    assert ", and the n-gram baseline without a teacher reaches 0.860 (no significant difference, p = 0.20)" in verdict(facts)
    facts["gain_over_ngrams"] = {"value": 0.011, "ci95": [0.003, 0.019], "p_value": 0.01}
    assert "reaches 0.860 (the student is 1.1 points better, p = 0.01)" in verdict(facts)


def test_the_spread_of_timings_is_beside_them():
    facts = facts_with()
    facts["models"]["student"] |= {"latency_p50_range_ms": [0.2, 0.25], "rows_per_second_range": [3900.0, 4200.0]}
    assert table_cells(facts, spread=True)[3][-3:-1] == ["0.21 (0.20–0.25)", "4,000 (3,900–4,200)"]
    assert "Most spread out: student, 3,900 to 4,200 rows/s." in footnote(facts)
    assert footnote(facts_with()) == ""


def test_verdict_without_a_student():
    assert verdict({"primary_metric": "accuracy", "models": {}}) == "No student was measured."
    teacher = {"quality": {"accuracy": {"value": 0.9, "ci95": [0.85, 0.94]}}}
    assert verdict({"primary_metric": "accuracy", "models": {"teacher": teacher}}) == (
        "The teacher reaches accuracy 0.900 (95 % interval 0.850 to 0.940). No student was trained."
    )


def test_cells_are_in_order_and_say_what_is_unknown():
    facts = facts_with()
    facts["models"]["student_onnx"] = {"size_mib": 7.0}
    header, *rows = table_cells(facts)
    assert header == ["", "accuracy", "95 % interval", "params", "MiB", "ms (p50)", "rows/s", "training s"]
    assert [row[0] for row in rows] == ["teacher", "student alone", "student", "student, ONNX"]
    assert rows[2][1:] == ["0.871", "0.851–0.891", "1.8M", "8.0", "0.21", "4,000", "66"]
    assert rows[3][1:] == ["–", "–", "–", "7.0", "–", "–", "–"]
    assert all(len(row) == len(header) for row in rows)


def test_table_fits_a_terminal_and_reads_no_markup():
    facts = facts_with()
    facts["models"]["[red]mine"] = copy.deepcopy(facts["models"]["student"])
    for entry in facts["models"].values():
        entry["quality"]["macro_f1"] = {"value": 0.8, "ci95": [0.7, 0.9]}
    console = Console(width=80, record=True)
    with console.capture() as capture:
        console.print(table(facts))
    printed = capture.get()
    assert "[red]mine" in printed
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_a_metric_that_should_be_low_is_no_share_and_has_no_points():
    """A task in a file of the user's: what the facts say of its metrics is all that is known of them."""
    perplexity = Metric("perplexity", "perplexity", "lower", "number", least=1.0, most=None)
    facts = facts_with(teacher=10.0, student=12.0, gain=(1.5, 0.5, 2.5, 0.001), metric="perplexity")
    facts["models"]["student_alone"]["quality"]["perplexity"]["value"] = 13.5
    facts |= {"task": "./gone.py:Mine", "metrics": {"perplexity": asdict(perplexity)}, **summarise(facts["models"], perplexity)}
    said = verdict(facts)
    assert said.startswith(f"The student reaches perplexity 12.000, the teacher 10.000, {CHEAPER}; 1.5 better than the same student")
    assert figures(facts)[0] == {"value": "12.000", "label": "perplexity of the student (the teacher: 10.000)"}
    choices = [Choice("cheap", "", "", 1, 12.0), Choice("dear", "", "", 2, 14.0), Choice("dearest", "", "", 3, 10.0)]
    assert [one.mark for one in pareto_front(choices, perplexity)] == ["cheap", "dearest"]
    assert "Down and to the left is better" in page_of(facts)
    assert "Up and to the left is better" in page_of(facts_with())


def page_of(facts):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "facts.json").write_text(json.dumps(facts), "utf-8")
        return write_page(folder).read_text("utf-8")
