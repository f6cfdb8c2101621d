"""A run in a few words and figures: from facts.json alone."""

from __future__ import annotations

from understudy.evaluation.summary import metric_of, metric_value
from understudy.reporting.advice import Facts, findings, ships, subject, value_of
from understudy.reporting.agreement import by_teacher
from understudy.reporting.speeds import between, devices, rough, times
from understudy.reporting.table import called, figure_name, model_name


def headline(facts: Facts) -> str:
    """The run in a few words: what to do with it.

    >>> headline({"primary_metric": "accuracy", "models": {"teacher": {"quality": {"accuracy": {"value": 0.9}}}}})
    'The teacher reaches accuracy 0.900.'
    """
    if by_teacher(facts):
        value = metric_value((facts.get("models") or {}).get("student"), facts["primary_metric"])
        name = figure_name(facts, facts["primary_metric"])
        return "Nothing was measured." if value is None else f"{name[0].upper()}{name[1:]}: {value:.3f}. Quality is unknown."
    advised = findings(facts)
    if advised:
        return advised[0]["headline"]
    who = subject(facts)
    value = value_of(facts, who)
    reached = f"The {called(facts, who)} reaches {figure_name(facts, facts['primary_metric'])}"
    return "Nothing was measured." if value is None else f"{reached} {value:.3f}."


def figures(facts: Facts) -> list[dict[str, str]]:
    """Quality kept, speed and size of the form that ships beside the teacher, as `value` and `label`; the unknown are left out."""
    form, metric, models = ships(facts), facts["primary_metric"], facts.get("models") or {}
    if form is None:
        return []
    name, shipped = model_name(form), models[form]
    value, teacher = (metric_value(models.get(model), metric) for model in (form, "teacher"))
    shown = []
    if value is not None and teacher is not None and 0 < value <= teacher and metric_of(facts).better == "higher":
        label = f"of the teacher's {figure_name(facts, metric)} ({name})"
        shown.append({"value": f"{100 * value / teacher:.0f} %", "label": label})
    elif value is not None:
        beside = "" if teacher is None else f" (the teacher: {teacher:.3f})"
        of = f" ({name})" if by_teacher(facts) else f" of the {name}{beside}"
        shown.append({"value": f"{value:.3f}".replace("-", "−"), "label": f"{figure_name(facts, metric)}{of}"})
    fact = "times_faster" if form == "student" else "times_faster_exported"
    if facts.get(fact):
        number, word = times(facts[fact]).split(" ")
        label = f"{word} than the teacher{devices(facts, fact)}{between(facts, fact)}"
        shown.append({"value": f"≈ {number}" if rough(facts, fact) else number, "label": label})
    teacher_mib, shipped_mib = ((models.get(model) or {}).get("size_mib") for model in ("teacher", form))
    if teacher_mib and shipped_mib:
        number, word = times(teacher_mib / shipped_mib, "smaller", "larger").split(" ")
        shown.append({"value": number, "label": f"{word} on disk ({shipped['size_mib']:.1f} MiB)"})
    return shown


def lines(facts: Facts) -> list[str]:
    """Headline, figures and findings as lines of text."""
    shown = " · ".join(f"{figure['value']} {figure['label']}" for figure in figures(facts))
    return [headline(facts), *filter(None, [shown]), *(f"- {finding['text']} {finding['advice']}".rstrip() for finding in findings(facts))]
