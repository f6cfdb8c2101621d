"""What a reader of a run should do, the most important first: from facts.json alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from understudy.evaluation.summary import metric_of, metric_value
from understudy.reporting.agreement import by_teacher, test_rows, validation_name
from understudy.reporting.table import called, figure_name, gain_is_shown, listed, p_value, points, size_of, worse_scaled

Facts = Mapping[str, Any]
Finding = dict[str, Any]

_FORMS = ("student_onnx_int8", "student_onnx", "student")
_CONTROLS = {"student_alone": "gain_over_alone", "student_pseudo_labels": "gain_over_pseudo_labels"}
_USEFUL = 0.02  # of the metric (of a number: of its value): a smaller lead is not worth a network, or a teacher
_REFIT = (
    "The baseline is not saved; scikit-learn fits it again in seconds: TfidfVectorizer, LinearSVC (numbers: Ridge), see docs/choosing.md."
)
_FEW = 0.01  # of the labelled texts: so many with several labels are worth a warning, but not the first word


def findings(facts: Facts) -> list[Finding]:
    """What to know before the model of a run is used, the most important first.

    Returns:
        of each its `kind`; `headline`, what it means in a few words; `text`, the finding; `advice`, what to do, with the setting to
        change where there is one; `good`, False for what should be corrected before anything is shipped.
    """
    checks: tuple[Callable[[Facts], list[Finding]], ...] = (
        _several_labels,
        _ngrams,
        _weak_teacher,
        _too_easy,
        _below_control,
        _still_rising,
        _unlearned_classes,
        _no_gain,
        _worse_calibration,
        _ship,
        _control_rising,
    )
    if by_teacher(facts):  # agreement shows neither which model is right nor whether the teacher helped
        checks = (_still_rising, _ship, _control_rising)
    return [finding for check in checks for finding in check(facts)]


def ships(facts: Facts) -> str | None:
    """The form of the student that a run ships: the smallest that was measured."""
    models = facts.get("models") or {}
    return next((form for form in _FORMS if metric_value(models.get(form), facts["primary_metric"]) is not None), None)


def _several_labels(facts: Facts) -> list[Finding]:
    """Before all else: labels that contradict each other, which no model can learn and no figure can be trusted on."""
    repeated = (facts.get("data") or {}).get("several_labels") or {"texts": 0, "of": 1}
    if repeated["texts"] <= _FEW * repeated["of"]:
        return []
    return [
        _finding(
            "several_labels",
            "Clean the labels first: the same texts have different labels.",
            f"{repeated['texts']:,} of {repeated['of']:,} labelled texts have several labels; at most one of them is right, so no model "
            "can reach high quality, and the figures of this run say little.",
            "Keep one label for each text, then run again.",
        )
    ]


def _too_easy(facts: Facts) -> list[Finding]:
    """Where not even a perfect model could be shown to be better than the cheapest ones."""
    who, tied = subject(facts), [control for control, gain in _cheaper(facts) if _is_tied(facts, control, gain)]
    if not tied:
        return []
    metric = figure_name(facts, facts["primary_metric"])
    beside = facts.get(f"teacher_gain_over_{tied[-1].removeprefix('student_')}")
    teacher = ["teacher"] if beside and not gain_is_shown(beside) else []
    values = ", ".join(f"{called(facts, name)} {value_of(facts, name):.3f}" for name in dict.fromkeys([*teacher, who, *tied]))
    cheapest = {
        "ngrams": "the n-gram baseline, which needs neither teacher nor network",
        "student_alone": "student_alone/, which needs no teacher",
    }[tied[-1]]
    smallest = max(_smallest(facts, gain) for control, gain in _cheaper(facts) if control in tied)
    return [
        _finding(
            "too_easy",
            "The test rows are too few or too easy to tell these models apart.",
            f"{metric[0].upper()}{metric[1:]} of {_rows(facts)}: {values}; on so few or so easy rows, no difference below "
            f"{size_of(smallest, metric_of(facts))} can be significant, and not even a perfect model would be that much better.",
            f"Measure on more or harder test rows (--test); until then take the cheapest: {cheapest}."
            + (f" {_REFIT}" if tied[-1] == "ngrams" else ""),
        )
    ]


def _ngrams(facts: Facts) -> list[Finding]:
    """The n-gram baseline, where it is not shown to be worse: it needs no network at all."""
    who = subject(facts)
    gain = facts.get("gain_over_ngrams" if who == "student" else "teacher_gain_over_ngrams")
    if gain is None or (gain_is_shown(gain) and gain["value"] > 0) or _is_tied(facts, "ngrams", gain):
        return []
    values, name, metric = _against(facts, "ngrams", who), called(facts, who), metric_of(facts)
    alternative = {
        "student": "try more text (--transfer) or a better teacher",
        "teacher": f"before distilling, fine-tune longer ({_longer(facts, who)}), at a higher rate (--learning-rate), or another encoder",
        "model": f"train longer ({_longer(facts, who)}), at a higher rate (--learning-rate), or on more rows",
    }[name]
    advice = f"Use the baseline, or {alternative}. {_REFIT}"
    if gain_is_shown(gain):
        return [
            _finding(
                "ngrams",
                f"The n-gram baseline is better than the {name}.",
                f"The n-gram baseline, without teacher or network, is better than the {name} ({values}, {p_value(gain['p_value'])}).",
                advice,
            )
        ]
    values = _against(facts, who, "ngrams")
    if _has_no_lead(facts, "ngrams", gain):
        return [
            _finding(
                "ngrams",
                f"The {name} is hardly better than the n-gram baseline, if at all.",
                f"The {name} is at most {size_of(max(gain['ci95'][1], 0), metric)} better than the n-gram baseline, without "
                f"teacher or network ({values}; {points(gain, metric)}, {p_value(gain['p_value'])}).",
                advice,
            )
        ]
    return [
        _finding(
            "ngrams",
            f"The test rows do not show whether the {name} is better than the n-gram baseline.",
            f"The test rows cannot tell the {name} from the n-gram baseline, without teacher or network ({values}; "
            f"{points(gain, metric)}, {p_value(gain['p_value'])}).{_limit(facts, gain)}",
            f"Measure on more test rows (--test). Until then, use the baseline where it is good enough"
            f"{_costs(facts, ships(facts) or who)}. {_REFIT}",
        )
    ]


def _weak_teacher(facts: Facts) -> list[Finding]:
    """A teacher that is worse than what needs none; than the student alone also where that is not significant and no gain is shown."""
    if "student" not in (facts.get("models") or {}):
        return []
    helped = _helped(facts, "gain_over_alone")
    for fact, control, words in (
        ("teacher_gain_over_alone", "student_alone", "the same student without it"),
        ("teacher_gain_over_ngrams", "ngrams", "the n-gram baseline"),
    ):
        gain = facts.get(fact)
        if gain is None or gain["value"] >= 0:
            continue
        longer = f"fine-tune it longer ({_longer(facts, 'teacher')}) or at a higher rate (--learning-rate), or take a better one"
        values = _against(facts, "teacher", control)
        if gain_is_shown(gain):
            return [
                _finding(
                    "weak_teacher",
                    "Fine-tune the teacher longer first.",
                    f"The teacher is worse than {words} ({values}; {p_value(gain['p_value'])}).",
                    f"{longer[0].upper()}{longer[1:]}, then distil again.",
                )
            ]
        if control == "student_alone" and not helped and _has_no_lead(facts, control, gain) and not _is_tied(facts, control, gain):
            return [
                _finding(
                    "weak_teacher",
                    "The teacher is not better than the student alone.",
                    f"The teacher is not better than {words} ({values}; not significant, {p_value(gain['p_value'])}): there is little that "
                    "it could teach.",
                    f"Before distilling again, {longer}.",
                )
            ]
    return []


def _below_control(facts: Facts) -> list[Finding]:
    gain = facts.get("gain_over_alone")
    if gain is None or gain["value"] >= 0 or not gain_is_shown(gain):
        return []
    return [
        _finding(
            "below_control",
            "Ship the student alone: it is better than the distilled one.",
            f"The distilled student is {size_of(gain['value'], metric_of(facts))} worse than the same student without a teacher "
            f"({_against(facts, 'student', 'student_alone')}, {p_value(gain['p_value'])}).",
            f"Ship student_alone/, or distil with recipe hinton or for longer ({_longer(facts, 'student')}).",
        )
    ]


def _still_rising(facts: Facts) -> list[Finding]:
    return [
        _finding(
            "still_rising",
            f"Train the {called(facts, name)} longer: it still improved at the end.",
            _rise(facts, name, stage),
            f"Train longer: {_longer(facts, name, stage)}.",
        )
        for name, stage in _rising(facts)
        if name not in _CONTROLS
    ]


def _control_rising(facts: Facts) -> list[Finding]:
    """A control that still rose, where a longer training could take away what the student gains over it."""
    rising = _rising(facts)
    return [
        _finding(
            "control_rising",
            f"The gain over the {called(facts, name)} may be smaller after a longer training.",
            _rise(facts, name, stage),
            f"The student's gain over it may be smaller after a longer training of both ({_longer(facts, name, stage)}).",
            good=True,
        )
        for name, stage in rising
        if name in _CONTROLS and "student" not in dict(rising) and _helped(facts, _CONTROLS[name])
    ]


def _rising(facts: Facts) -> list[tuple[str, str]]:
    """Model and stage of every training that still rose at its end."""
    trained = (facts.get("trainings") or {}).items()
    return [(name, stage) for name, stages in trained for stage, training in stages.items() if training.get("rising")]


def _rise(facts: Facts, name: str, stage: str) -> str:
    by, metric = (facts.get("data") or {}).get("labelled_by_teacher", ()), metric_of(facts)
    training, shown = facts["trainings"][name][stage], validation_name(by, metric, metric.title)
    moving = "rising" if metric.better == "higher" else "falling"
    return (
        f"Validation {shown} of the {called(facts, name)} was still {moving} at the end of its {training['steps']:,} updates "
        f"(best {training['best']:.3f})."
    )


def _helped(facts: Facts, fact: str) -> bool:
    """Whether the student is shown to be better than what this gain is over."""
    gain = facts.get(fact)
    return bool(gain and gain_is_shown(gain) and gain["value"] > 0)


def _unlearned_classes(facts: Facts) -> list[Finding]:
    models = facts.get("models") or {}
    who = subject(facts)
    classes = (models.get(who) or {}).get("per_class") or []
    never = [
        f"{entry['label']} ({entry['support']} test row{'s' if entry['support'] != 1 else ''})"
        for entry in classes
        if entry["support"] and entry["f1"] == 0
    ]
    if not never:
        return []
    stage = next(reversed((facts.get("trainings") or {}).get(who) or {}), None)
    return [
        _finding(
            "unlearned_classes",
            f"The {called(facts, who)} never predicts {len(never)} of {len(classes)} classes correctly.",
            f"F1 of the {called(facts, who)} is 0 for {len(never)} of {len(classes)} classes: {listed(never, 5)}.",
            f"Give more rows of them, train longer, or draw classes equally often: --set {_place(who, stage)}balanced_sampling=true.",
        )
    ]


def _no_gain(facts: Facts) -> list[Finding]:
    gain = facts.get("gain_over_alone")
    if gain is None or gain_is_shown(gain) or _is_tied(facts, "student_alone", gain):
        return []
    return [
        _finding(
            "no_gain",
            "No significant gain from the teacher.",
            f"The student is not significantly better than the same student without a teacher ({points(gain, metric_of(facts))}, "
            f"{p_value(gain['p_value'])}).{_limit(facts, gain)}",
            "Both cost the same to run, and student_alone/ needs no teacher when it is trained again; what helps most often is more text "
            "for the teacher to label (--transfer).",
            good=True,
        )
    ]


def _worse_calibration(facts: Facts) -> list[Finding]:
    worse = []
    for name, entry in (facts.get("models") or {}).items():
        calibration = (entry or {}).get("calibration") or {}
        if worse_scaled(calibration) and calibration.get("fitted_on") != "test":
            worse.append(f"{called(facts, name)}: {calibration['nll']:.3f} to {calibration['nll_scaled']:.3f}")
    if not worse:
        return []
    return [
        _finding(
            "worse_calibration",
            "The fitted temperature does not help.",
            f"The temperature fitted on validation rows makes the negative log-likelihood of test rows worse ({'; '.join(worse)}).",
            "Give more validation rows, and export without --calibrate.",
            good=True,
        )
    ]


def _ship(facts: Facts) -> list[Finding]:
    form, gain = ships(facts), facts.get("gain_over_alone")
    if form is None or (form == "student" and not gain):
        return []
    if gain and gain_is_shown(gain) and gain["value"] < 0:
        return []  # the student alone ships
    name = {"student_onnx_int8": "int8 student", "student_onnx": "exported student"}.get(form, "student")
    folder = "student/" if form == "student" else "export/"
    value = metric_value(facts["models"][form], facts["primary_metric"])
    size = facts["models"][form].get("size_mib")
    about = f"{figure_name(facts, facts['primary_metric'])} {value:.3f}" + (f", {size:.1f} MiB" if size else "")
    passed = "; it passed the comparison with the student" if form != "student" else ""
    return [_finding("ship", f"Ship the {name}.", f"The {name} is in {folder} ({about}{passed}).", "", good=True)]


def _finding(kind: str, headline: str, text: str, advice: str, *, good: bool = False) -> Finding:
    return {"kind": kind, "headline": headline, "text": text, "advice": advice, "good": good}


def subject(facts: Facts) -> str:
    """The model of a run that its findings are about."""
    return "student" if "student" in (facts.get("models") or {}) else "teacher"


def _cheaper(facts: Facts) -> list[tuple[str, Mapping[str, Any]]]:
    """What is cheaper than the model of a run, with the gain over it where that was measured; the cheapest last."""
    gains = {"student_alone": "gain_over_alone", "ngrams": "gain_over_ngrams"}
    if subject(facts) == "teacher":
        gains = {"ngrams": "teacher_gain_over_ngrams"}
    return [(name, gain) for name, fact in gains.items() if (gain := facts.get(fact))]


def _has_no_lead(facts: Facts, control: str, gain: Mapping[str, Any]) -> bool:
    """Whether a test excludes a useful lead: without that, no significant difference is no reason to change anything."""
    return gain["ci95"][1] < _USEFUL * metric_of(facts).scale(value_of(facts, control) or 0.0)


def _costs(facts: Facts, name: str) -> str:
    """Latency and size of the n-gram baseline beside another model's, as far as they were measured."""
    costs, models = [], facts.get("models") or {}
    device = len({models[model]["device"] for model in ("ngrams", name) if (models.get(model) or {}).get("device")}) > 1
    for model in ("ngrams", name):
        entry = models.get(model) or {}
        latency, size = (entry.get("latency_ms") or {}).get("p50"), entry.get("size_mib")
        where = f" on {entry['device']}" if device and entry.get("device") else ""
        parts = [f"{latency:.2f} ms a row{where}" if latency else "", f"{size:.1f} MiB" if size else ""]
        if any(parts):
            costs.append(f"{called(facts, model)} {' and '.join(filter(None, parts))}")
    return f" ({'; '.join(costs)})" if len(costs) == 2 else ""


def _is_tied(facts: Facts, control: str, gain: Mapping[str, Any]) -> bool:
    """Whether no model at all could have been shown to be better than another: the perfect value is too near for that."""
    value, metric = value_of(facts, control), metric_of(facts)
    return value is not None and not gain_is_shown(gain) and metric.lead(metric.perfect, value) < _smallest(facts, gain)


def _smallest(facts: Facts, gain: Mapping[str, Any]) -> float:
    """The smallest difference that a test of these rows could have shown: half the gain's interval, and of accuracy six rows at least."""
    low, high = gain["ci95"]
    rows = test_rows(facts) if metric_of(facts).counts_rows else None
    return max((high - low) / 2, 6 / rows if rows else 0.0)


def _limit(facts: Facts, gain: Mapping[str, Any]) -> str:
    rows = test_rows(facts)
    return (
        f" On these {rows:,} test rows no difference below {size_of(_smallest(facts, gain), metric_of(facts))} can be significant."
        if rows
        else ""
    )


def _rows(facts: Facts) -> str:
    rows = test_rows(facts)
    return f"the {rows:,} test rows" if rows else "the test rows"


def value_of(facts: Facts, name: str) -> float | None:
    return metric_value((facts.get("models") or {}).get(name), facts["primary_metric"])


def _against(facts: Facts, name: str, control: str) -> str:
    return f"{value_of(facts, name) or 0:.3f} against {value_of(facts, control) or 0:.3f}".replace("-", "−")


def _longer(facts: Facts, name: str, stage: str | None = None) -> str:
    """The option that doubles the updates of a model's training, and gives it as many as its kind needs."""
    stages = (facts.get("trainings") or {}).get(name) or {}
    stage = stage or next(reversed(stages), None)
    training = stages.get(stage or "") or {}
    steps = max(2 * training["steps"], training.get("least") or 0) if training.get("steps") else "N"
    return f"--set {_place(name, stage)}max_steps={steps}"


def _place(name: str, stage: str | None = None) -> str:
    """Where the settings of a model's training are: of a fine-tuning at the top, of a student in its stage."""
    return "train." if name == "teacher" else f"stages.{stage or 'N'}.train."
