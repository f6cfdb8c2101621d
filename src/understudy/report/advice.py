"""What a reader of a run should do, the most important first: from facts.json alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from understudy.evaluate.summary import metric_value
from understudy.report.agreement import by_teacher
from understudy.report.table import (
    devices,
    figure_name,
    gain_is_shown,
    listed,
    model_name,
    p_value,
    points,
    times,
    worse_scaled,
)

Facts = Mapping[str, Any]
Finding = dict[str, Any]

_FORMS = ("student_onnx_int8", "student_onnx", "student")


def findings(facts: Facts) -> list[Finding]:
    """What to know before the model of a run is used, the most important first.

    Returns:
        of each its `kind`; `headline`, what it means in a few words; `text`, what was found; `advice`, what to do, with the setting to
        change where there is one; `good`, False for what should be put right before anything is shipped.
    """
    checks: tuple[Callable[[Facts], list[Finding]], ...] = (
        _ngrams, _weak_teacher, _below_control, _still_rising, _unlearned_classes, _no_gain, _worse_calibration, _ship,
    )  # fmt: skip
    if by_teacher(facts):  # agreement tells neither which model is right nor whether the teacher helped
        checks = (_still_rising, _ship)
    return [finding for check in checks for finding in check(facts)]


def headline(facts: Facts) -> str:
    """The run in a few words: what to do with it.

    >>> headline({"primary_metric": "accuracy", "models": {"teacher": {"quality": {"accuracy": {"value": 0.9}}}}})
    'The teacher reaches accuracy 0.900.'
    """
    if by_teacher(facts):
        value = metric_value((facts.get("models") or {}).get("student"), facts["primary_metric"])
        name = figure_name(facts, facts["primary_metric"])
        return (
            "Nothing was measured."
            if value is None
            else f"{name[0].upper()}{name[1:]}: {value:.3f}. Quality is unknown."
        )
    found = findings(facts)
    if found:
        return found[0]["headline"]
    who = "student" if "student" in (facts.get("models") or {}) else "teacher"
    value = metric_value((facts.get("models") or {}).get(who), facts["primary_metric"])
    return (
        "Nothing was measured."
        if value is None
        else f"The {who} reaches {figure_name(facts, facts['primary_metric'])} {value:.3f}."
    )


def figures(facts: Facts) -> list[dict[str, str]]:
    """Quality kept, speed and size of the form that ships beside the teacher, as `value` and `label`; the unknown are left out."""
    form, metric, models = ships(facts), facts["primary_metric"], facts.get("models") or {}
    if form is None:
        return []
    name, own = model_name(form), models[form]
    value, teacher = (metric_value(models.get(one), metric) for one in (form, "teacher"))
    found = []
    if value is not None and teacher is not None and 0 < value <= teacher:
        found.append(
            {
                "value": f"{100 * value / teacher:.0f} %",
                "label": f"of the teacher's {figure_name(facts, metric)} ({name})",
            }
        )
    elif value is not None:
        beside = "" if teacher is None else f" (the teacher: {teacher:.3f})"
        of = f" ({name})" if by_teacher(facts) else f" of the {name}{beside}"
        found.append({"value": f"{value:.3f}".replace("-", "−"), "label": f"{figure_name(facts, metric)}{of}"})
    fact = "times_faster" if form == "student" else "times_faster_exported"
    if facts.get(fact):
        number, word = times(facts[fact]).split(" ")
        found.append({"value": number, "label": f"{word} than the teacher{devices(facts, fact)}"})
    teacher_mib, own_mib = ((models.get(one) or {}).get("size_mib") for one in ("teacher", form))
    if teacher_mib and own_mib:
        number, word = times(teacher_mib / own_mib, "smaller", "larger").split(" ")
        found.append({"value": number, "label": f"{word} on disk ({own['size_mib']:.1f} MiB)"})
    return found


def lines(facts: Facts) -> list[str]:
    """Headline, figures and findings as lines of text."""
    shown = " · ".join(f"{one['value']} {one['label']}" for one in figures(facts))
    return [
        headline(facts),
        *filter(None, [shown]),
        *(f"- {one['text']} {one['advice']}".rstrip() for one in findings(facts)),
    ]


def ships(facts: Facts) -> str | None:
    """The form of the student that a run ships: the smallest that was measured."""
    models = facts.get("models") or {}
    return next((form for form in _FORMS if metric_value(models.get(form), facts["primary_metric"]) is not None), None)


def _ngrams(facts: Facts) -> list[Finding]:
    """First, as it needs no network at all: the n-gram baseline, where it is not shown to be worse."""
    who = "student" if "student" in (facts.get("models") or {}) else "teacher"
    gain = facts.get("gain_over_ngrams" if who == "student" else "teacher_gain_over_ngrams")
    if gain is None or (gain_is_shown(gain) and gain["value"] > 0):
        return []
    values = _against(facts, "ngrams", who)
    advice = {
        "student": "It trains in seconds: use it, or try more text (--transfer) or a better teacher.",
        "teacher": "Before distilling, fine-tune longer, at a higher learning rate, or another encoder.",
    }[who]
    if gain_is_shown(gain):
        return [_finding("ngrams", f"The n-gram baseline is better than the {who}.",
                         f"The n-gram baseline, without teacher or network, is better than the {who} ({values}, "
                         f"{p_value(gain['p_value'])}).",
                         advice)]  # fmt: skip
    return [_finding("ngrams", f"The {who} is not significantly better than the n-gram baseline.",
                     f"The n-gram baseline, without teacher or network, is not significantly worse than the {who} ({values}; "
                     f"{points(gain)}, {p_value(gain['p_value'])}).", advice)]  # fmt: skip


def _weak_teacher(facts: Facts) -> list[Finding]:
    if "student" not in (facts.get("models") or {}):
        return []
    found = []
    for fact, other, words in (
        ("teacher_gain_over_alone", "student_alone", "the same student without it"),
        ("teacher_gain_over_ngrams", "ngrams", "the n-gram baseline"),
    ):
        gain = facts.get(fact)
        if gain is None or gain["value"] >= 0 or not (gain_is_shown(gain) or other == "student_alone"):
            continue
        shown = p_value(gain["p_value"]) if gain_is_shown(gain) else f"not significant, {p_value(gain['p_value'])}"
        found.append(_finding(
            "weak_teacher", "Fine-tune the teacher longer first.",
            f"The teacher is worse than {words} ({_against(facts, 'teacher', other)}; {shown}).",
            f"Fine-tune it longer ({_longer(facts, 'teacher')}) or at a higher rate (--learning-rate), or take "
            "a better one, then distil again.",
        ))  # fmt: skip
    return found[:1]


def _below_control(facts: Facts) -> list[Finding]:
    gain = facts.get("gain_over_alone")
    if gain is None or gain["value"] >= 0 or not gain_is_shown(gain):
        return []
    return [_finding(
        "below_control", "Ship the student alone: it is better than the distilled one.",
        f"The distilled student is {abs(100 * gain['value']):.1f} points worse than the same student without a teacher "
        f"({_against(facts, 'student', 'student_alone')}, {p_value(gain['p_value'])}).",
        f"Ship student_alone/, or distil with recipe hinton or for longer ({_longer(facts, 'student')}).",
    )]  # fmt: skip


def _still_rising(facts: Facts) -> list[Finding]:
    found, metric = [], figure_name(facts, facts["primary_metric"])
    for name, stages in (facts.get("trainings") or {}).items():
        for stage, one in stages.items():
            if not one.get("rising"):
                continue
            who = model_name(name)
            found.append(_finding(
                "still_rising", f"Train the {who} longer: it still improved at the end.",
                f"Validation {metric} of the {who} was still rising at the end of its {one['steps']:,} updates (best {one['best']:.3f}).",
                f"Train longer: {_longer(facts, name, stage)}.",
            ))  # fmt: skip
    return found


def _unlearned_classes(facts: Facts) -> list[Finding]:
    models = facts.get("models") or {}
    who = "student" if "student" in models else "teacher"
    classes = (models.get(who) or {}).get("per_class") or []
    never = [one["label"] for one in classes if one["support"] and one["f1"] == 0]
    if not never:
        return []
    stage = next(reversed((facts.get("trainings") or {}).get(who) or {}), None)
    return [_finding(
        "unlearned_classes", f"The {who} never predicts {len(never)} of {len(classes)} classes correctly.",
        f"F1 of the {who} is 0 for {len(never)} of {len(classes)} classes ({listed(never, 5)}).",
        f"Give more rows of them, train longer, or draw classes equally often: --set {_place(who, stage)}balanced_sampling=true.",
    )]  # fmt: skip


def _no_gain(facts: Facts) -> list[Finding]:
    gain = facts.get("gain_over_alone")
    if gain is None or gain_is_shown(gain):
        return []
    return [_finding(
        "no_gain", "No significant gain from the teacher: the student alone does as well.",
        f"The student is not significantly better than the same student without a teacher ({points(gain)}, {p_value(gain['p_value'])}).",
        "Ship either; more text for the teacher to label (--transfer) helps most often.", good=True,
    )]  # fmt: skip


def _worse_calibration(facts: Facts) -> list[Finding]:
    worse = []
    for name, entry in (facts.get("models") or {}).items():
        one = (entry or {}).get("calibration") or {}
        if worse_scaled(one) and one.get("fitted_on") != "test":
            worse.append(f"{model_name(name)}: {one['nll']:.3f} to {one['nll_scaled']:.3f}")
    if not worse:
        return []
    return [_finding(
        "worse_calibration", "The fitted temperature does not help.",
        f"The temperature fitted on validation rows makes the negative log-likelihood of test rows worse ({'; '.join(worse)}).",
        "Give more validation rows, and export without --calibrate.", good=True,
    )]  # fmt: skip


def _ship(facts: Facts) -> list[Finding]:
    form = ships(facts)
    if form is None or (form == "student" and not facts.get("gain_over_alone")):
        return []
    name = {"student_onnx_int8": "int8 student", "student_onnx": "exported student"}.get(form, "student")
    folder = "student/" if form == "student" else "export/"
    value = metric_value(facts["models"][form], facts["primary_metric"])
    size = facts["models"][form].get("size_mib")
    about = f"{figure_name(facts, facts['primary_metric'])} {value:.3f}" + (f", {size:.1f} MiB" if size else "")
    passed = "; it passed the comparison with the student" if form != "student" else ""
    return [_finding("ship", f"Ship the {name}.", f"The {name} is in {folder} ({about}{passed}).", "", good=True)]


def _finding(kind: str, headline: str, text: str, advice: str, *, good: bool = False) -> Finding:
    return {"kind": kind, "headline": headline, "text": text, "advice": advice, "good": good}


def _against(facts: Facts, name: str, other: str) -> str:
    own, others = (metric_value(facts["models"].get(one), facts["primary_metric"]) for one in (name, other))
    return f"{own or 0:.3f} against {others or 0:.3f}".replace("-", "−")


def _longer(facts: Facts, name: str, stage: str | None = None) -> str:
    """The option that doubles the updates of a model's training."""
    stages = (facts.get("trainings") or {}).get(name) or {}
    stage = stage or next(reversed(stages), None)
    steps = (stages.get(stage) or {}).get("steps") if stage else None
    return f"--set {_place(name, stage)}max_steps={2 * steps if steps else 'N'}"


def _place(name: str, stage: str | None = None) -> str:
    """Where the settings of a model's training are: of a fine-tuning at the top, of a student in its stage."""
    return "train." if name == "teacher" else f"stages.{stage or 'N'}.train."
