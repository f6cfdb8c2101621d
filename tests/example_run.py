"""A run folder as `distill` leaves it, small, and with the worst that texts and names can hold."""

import json
from pathlib import Path

from understudy.evaluation.predictions import PREDICTIONS, write_predictions

HOSTILE = "<script>window.harmed = 1</script>\"'&{{ 7 * 7 }}<img src=x onerror='window.harmed = 1'>"
WORST = f"</script></td></table>{HOSTILE}\u2028line\u2029\u202eback\x07 <!-- ]]> --> ` ${{1}} \\"
CLASSES = (HOSTILE, "b", "c")


def entry(value):
    return {
        "parameters": 1000,
        "size_mib": 10 * value,
        "quality": {"accuracy": {"value": value, "ci95": [value - 0.1, value + 0.1]}},
        "per_class": [
            {"label": label, "precision": 0.5, "recall": 0.25, "f1": value / (2 + place), "support": 4}
            for place, label in enumerate(CLASSES)
        ],
        "calibration": {"ece": 0.123, "nll": 0.9, "temperature": 1.5, "ece_scaled": 0.045, "nll_scaled": 0.8, "fitted_on": "validation"},
        "latency_ms": {"p50": 2 * value, "p95": 2.0},
        "rows_per_second": 10.0,
        "seconds": 3.0,
    }


FACTS = {
    "understudy": "0.1.0",
    "task": "classification",
    "recipe": HOSTILE,
    "seed": 0,
    "command": f"understudy distill hinton --out '{HOSTILE}'",
    "data": {"train": {"rows": 6920, "sha256": "ab" * 32}, "transfer": None, "notes": [HOSTILE]},
    "primary_metric": "accuracy",
    "models": {"teacher": entry(0.8), "student_alone": entry(0.6), "student": entry(0.7), HOSTILE: entry(0.5)},
    "kept_fraction": 0.875,
    "gain_over_alone": {"value": 0.1, "ci95": [0.02, 0.18], "p_value": 0.004, "test": "McNemar with continuity correction"},
    "agreement_with_teacher": 0.95,
    "times_smaller": 12.0,
    "times_faster": 40.0,
}
METRICS = [
    {"model": model, "stage": "distillation", "step": step, **values}
    for model in ("student", "student_alone")
    for step in (10, 20)
    for values in ({"loss": 0.5, "loss/labels": 1 / step}, {"validation": {"accuracy": step / 40}})
]


def said(label, probability=0.9):
    return {"label": label, "probability": probability, "scaled_probability": probability - 0.1}


# (text, label, teacher, student): two rows that the student gets wrong, one that the teacher does, and two on which they agree.
ROWS = [
    ("lost and sure", "b", said("b"), said("c", 0.95)),
    ("lost and unsure", "c", said("c", 0.8), said(HOSTILE, 0.4)),
    (WORST, HOSTILE, said("b", 0.7), said(HOSTILE)),
    ("both right", "b", said("b"), said("b")),
    ("both wrong", "b", said("c"), said("c")),
]
LINES = [
    {"identity": f"{place:032x}", "text": text, "label": label, "models": {"teacher": teacher, "student": student, HOSTILE: said("b")}}
    for place, (text, label, teacher, student) in enumerate(ROWS)
]
NUMBERS = [
    {
        "identity": f"{place:032x}",
        "text": f"text {place}",
        "text_pair": WORST,
        "label": label,
        "models": {"teacher": {"value": teacher}, "student": {"value": student}},
    }
    for place, (label, teacher, student) in enumerate([(1.0, 1.0, 3.0), (2.0, 4.0, 2.5), (3.0, 3.0, 3.0), (4.0, 4.5, 3.0)])
]


def write_run(folder: Path, facts=FACTS, lines=LINES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "facts.json").write_text(json.dumps(facts), "utf-8")
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, METRICS)) + '\n{"model": "stu', "utf-8")
    (folder / "recipe.yaml").write_text(f"name: >-\n  {HOSTILE}\nseed: 0\n", "utf-8")
    environment = {"python": "3.11.9", "cores": 2, "packages": {"torch": "2.13.0", HOSTILE: HOSTILE}}
    (folder / "environment.json").write_text(json.dumps(environment), "utf-8")
    write_predictions(folder / PREDICTIONS, lines)
    return folder
