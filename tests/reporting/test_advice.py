"""What a run advises: each finding where it belongs, and nothing where all is well."""

import copy
from itertools import product

import pytest

from understudy.evaluation.measure import GAINS
from understudy.evaluation.significance import mcnemar_p_value, paired_interval
from understudy.evaluation.summary import summarise
from understudy.reporting.advice import _longer, findings
from understudy.reporting.headline import figures, headline, lines
from understudy.reporting.speeds import busy
from understudy.reporting.table import footnote, verdict
from understudy.runs.checks import least_updates, warn_of_few_updates
from understudy.runs.preparation import filled_in
from understudy.settings.loading import load_recipe, packaged
from understudy.tasks import metric_named
from understudy.training.curves import is_rising, trainings

ACCURACY = metric_named("accuracy")


def model(value, size=8.0, speed=4000.0):
    return {
        "quality": {"accuracy": {"value": value, "ci95": [value - 0.02, value + 0.02]}},
        "size_mib": size,
        "rows_per_second": speed,
        "device": "cpu",
        "calibration": {"nll": 0.5, "nll_scaled": 0.4, "fitted_on": "validation"},
        "per_class": [{"label": label, "support": 9, "f1": 0.8} for label in "abc"],
    }


def gain(value, p):
    low, high = (value / 10, 2 * value) if p < 0.05 else (value - 0.05, value + 0.05)
    return {"value": value, "ci95": sorted([low, high]), "p_value": p}


def training(rising=False, stage="distillation"):
    return {stage: {"steps": 60, "best": 0.7, "best_step": 60, "rising": rising}}


def facts(**changes):
    """A run in which all is well; `changes` are dotted only by name."""
    values = {"teacher": 0.95, "student": 0.93, "alone": 0.90, "ngrams": 0.88, "int8": 0.93} | changes.pop("values", {})
    names = {
        "teacher": ("teacher", 96.0, 100.0),
        "student": ("student", 8.0, 4000.0),
        "alone": ("student_alone", 8.0, 4000.0),
        "ngrams": ("ngrams", 5.0, 9000.0),
        "int8": ("student_onnx_int8", 2.0, 8000.0),
    }
    models = {names[key][0]: model(value, *names[key][1:]) for key, value in values.items() if value is not None}
    return {
        "primary_metric": "accuracy",
        "models": models,
        "gain_over_alone": gain(0.03, 0.001),
        "gain_over_ngrams": gain(0.05, 0.001),
        "teacher_gain_over_alone": gain(0.05, 0.001),
        "teacher_gain_over_ngrams": gain(0.07, 0.001),
        "trainings": {name: training() for name in ("teacher", "student", "student_alone")},
        **summarise(models, ACCURACY),
        **changes,
    }


def kinds(found):
    return [one["kind"] for one in findings(found)]


def test_where_all_is_well_the_int8_student_ships():
    found = facts()
    assert kinds(found) == ["ship"] and headline(found) == "Ship the int8 student."
    assert [one["value"] for one in figures(found)] == ["98 %", "80×", "48×"]
    assert lines(found)[2] == "- The int8 student is in export/ (accuracy 0.930, 2.0 MiB; it passed the comparison with the student)."


@pytest.mark.parametrize("form", ["int8", "student"])
@pytest.mark.parametrize("slowest", [1.0, 1.5, 10.0])
def test_no_speed_from_a_busy_machine_stands_without_its_range(form, slowest):
    """The law, wherever a speed is said: a steady ratio stands alone, one that varied by more than 2 is rough and has its range."""
    found = facts(values={} if form == "int8" else {"int8": None})
    for name, one in found["models"].items():
        speed = one["rows_per_second"]
        one["rows_per_second_range"] = [speed / slowest, speed] if name == "teacher" else [speed, speed]
    found |= summarise(found["models"], ACCURACY)
    said = [figures(found)[1]["value"] + figures(found)[1]["label"], *verdict(found).split(". ")]
    places = [one for one in said if "× faster" in one or "×faster" in one]
    assert len(places) == (3 if form == "int8" else 2)
    rough = slowest > 2
    for one in places:
        assert rough == ("× between rounds)" in one) == ("roughly" in one or "≈" in one), one
    assert rough == bool(busy(found)) == ("take the speeds as rough" in footnote(found))
    if rough and form == "int8":
        assert figures(found)[1] == {"value": "≈ 80×", "label": "faster than the teacher (80 to 800× between rounds)"}


def test_a_teacher_below_the_student_alone_is_never_praised():
    """The newcomer's first run: teacher 0.810, student alone 0.967, student 0.959."""
    found = facts(
        values={"teacher": 0.810, "student": 0.959, "alone": 0.967, "ngrams": 0.9},
        teacher_gain_over_alone=gain(-0.157, 1e-6),
        gain_over_alone=gain(-0.008, 0.5),
    )
    found["trainings"]["teacher"] = training(True)
    assert kinds(found) == ["weak_teacher", "too_easy", "still_rising", "ship"]
    assert headline(found) == "Fine-tune the teacher longer first."
    first = findings(found)[0]
    assert "(0.810 against 0.967; p < 0.001)" in first["text"]
    assert "(--set train.max_steps=120) or at a higher rate (--learning-rate)" in first["advice"]
    said = verdict(found)
    assert "exceeds" not in said and "matches" not in said and "(its teacher 0.810, worse than the same student without it)" in said
    assert figures(found)[0] == {"value": "0.930", "label": "accuracy of the student, int8 (the teacher: 0.810)"}


def test_a_student_below_its_control_is_not_shipped():
    found = facts(values={"student": 0.860, "alone": 0.959}, gain_over_alone=gain(-0.099, 0.002))
    assert kinds(found)[0] == "below_control" and headline(found).startswith("Ship the student alone")
    assert "--set stages.distillation.train.max_steps=120" in findings(found)[0]["advice"] and "hinton" in findings(found)[0]["advice"]


def test_a_student_below_its_control_leaves_nothing_else_to_ship():
    assert "ship" not in kinds(facts(values={"student": 0.860, "alone": 0.959}, gain_over_alone=gain(-0.099, 0.002)))


def test_a_teacher_that_helped_is_not_blamed():
    """Worse than the student alone by luck of the rows, while the student it taught is significantly better."""
    found = facts(values={"teacher": 0.89}, teacher_gain_over_alone=gain(-0.01, 0.5))
    assert kinds(found) == ["ship"]
    found["gain_over_alone"] = gain(0.01, 0.5)
    assert kinds(found) == ["no_gain", "ship"]  # the teacher may be 4 points better
    found["teacher_gain_over_alone"] = gain(-0.04, 0.1)  # 1 point at most
    assert kinds(found) == ["weak_teacher", "no_gain", "ship"]
    assert headline(found) == "The teacher is not better than the student alone."


def measured(rows, wrong):
    """A run on so many test rows, of which each model gets so many wrong, the worse ones those of the better ones and more."""
    names = {"teacher": "teacher", "student": "student", "alone": "student_alone", "ngrams": "ngrams"}

    def between(one, other):
        only = max(0, wrong[other] - wrong[one]), max(0, wrong[one] - wrong[other])
        return {"value": (only[0] - only[1]) / rows, "ci95": paired_interval(*only, rows), "p_value": mcnemar_p_value(*only)}

    pairs = {fact: (one, other) for fact, (one, other) in GAINS.items() if other != "student_pseudo_labels"}
    short = {name: key for key, name in names.items()}
    return facts(
        values={key: 1 - wrong[key] / rows for key in names} | {"int8": None},
        data={"test": {"rows": rows}},
        **{fact: between(short[one], short[other]) for fact, (one, other) in pairs.items()},
    )


def test_at_the_ceiling_the_test_is_blamed_and_the_cheapest_taken():
    """20 of 20 for all: it said "ship either; more text for the teacher to label helps most often"."""
    found = measured(20, dict.fromkeys(("teacher", "student", "alone", "ngrams"), 0))
    assert kinds(found) == ["too_easy", "ship"]
    assert headline(found) == "The test rows are too few or too easy to tell these models apart."
    (first, _) = findings(found)
    assert "Accuracy of the 20 test rows: teacher 1.000, student 1.000, student alone 1.000, n-gram baseline 1.000" in first["text"]
    assert "no difference below 30.0 points" in first["text"]
    assert "--test" in first["advice"] and "take the cheapest: the n-gram baseline" in first["advice"]
    found = measured(20, {"teacher": 0, "student": 0, "alone": 0, "ngrams": 12})
    assert kinds(found) == ["too_easy", "ship"] and "take the cheapest: student_alone/" in findings(found)[0]["advice"]
    tuned = {
        "primary_metric": "accuracy",
        "models": {"teacher": model(1.0), "ngrams": model(1.0)},
        "data": {"test": {"rows": 20}},
        "teacher_gain_over_ngrams": found["teacher_gain_over_alone"],
    }
    assert kinds(tuned) == ["too_easy"] and "teacher 1.000, n-gram baseline 1.000" in findings(tuned)[0]["text"]


def test_no_advice_goes_beyond_what_the_test_can_show():
    """The law, over sizes and mistakes: the test is blamed exactly where a perfect student would not be significantly better than the
    cheaper model, and then neither teacher nor text is; where nothing is shown, the difference that could be is named."""
    for rows, alone, student, ngrams in product((5, 20, 100, 1000), (0, 3, 20), (0, 2, 25), (0, 4, 60)):
        wrong = {"teacher": 0, "student": student, "alone": alone, "ngrams": ngrams}
        if max(wrong.values()) > rows:
            continue
        found = measured(rows, wrong)
        for fact, other, kind in (("gain_over_alone", "alone", "no_gain"), ("gain_over_ngrams", "ngrams", "ngrams")):
            significant = found[fact]["p_value"] < 0.05
            perfect = mcnemar_p_value(wrong[other], 0) < 0.05
            texts = [one["text"] for one in findings(found) if one["kind"] in ("too_easy", kind)]
            if not significant:
                assert any("can be significant" in text for text in texts), (rows, wrong)
            if not significant and not perfect:
                assert "too_easy" in kinds(found) and kind not in kinds(found), (rows, wrong)
        if all(mcnemar_p_value(wrong[other], wrong["student"]) < 0.05 for other in ("alone", "ngrams")):
            assert "too_easy" not in kinds(found)


def tuned(low, high, p, **more):
    """What `finetune` measured: a teacher beside the baseline."""
    beside = {"value": (low + high) / 2, "ci95": [low, high], "p_value": p}
    return {
        "primary_metric": "accuracy",
        "models": {"teacher": model(0.921), "ngrams": model(0.921)},
        "data": {"test": {"rows": 89}},
        "teacher_gain_over_ngrams": beside,
        "trainings": {"teacher": training(stage="finetune")},
        **more,
    }


@pytest.mark.parametrize("who", ["teacher", "model", "student"])
@pytest.mark.parametrize(("low", "high", "p"), [(-0.061, 0.061, 1.0), (-0.078, 0.05, 0.7), (-0.06, 0.019, 0.3), (-0.09, -0.01, 0.01)])
def test_nothing_is_to_be_changed_that_the_test_does_not_blame(who, low, high, p):
    """The newcomer's 89 rows: another teacher for 0.921 against 0.921, ±6.1 points. The law: only where the interval excludes a lead of two
    points is the baseline preferred or another training advised; else more test rows come first, with what they could show."""
    found = tuned(low, high, p, **({"recipe": "finetune", "student": "bilstm"} if who == "model" else {}))
    if who == "student":
        found = facts(gain_over_ngrams=found["teacher_gain_over_ngrams"], data=found["data"])
        for name, latency in (("ngrams", 0.3), ("student_onnx_int8", 1.25)):
            found["models"][name]["latency_ms"] = {"p50": latency}
    (told,) = (one for one in findings(found) if one["kind"] == "ngrams")
    settled = high < 0.02
    if not high < 0:  # in the order of the difference
        first, second = (
            found["models"][name]["quality"]["accuracy"]["value"] for name in ("student" if who == "student" else "teacher", "ngrams")
        )
        assert f"({first:.3f} against {second:.3f}; " in told["text"]
    assert ("--test" in told["advice"]) == ("can be significant" in told["text"]) == (not settled)
    assert any(word in told["advice"] for word in ("longer", "better teacher")) == settled
    assert told["advice"].startswith("Use the baseline" if settled else "Measure on more test rows")
    assert "docs/choosing.md" in told["advice"] and "not saved" in told["advice"] and who in told["headline"]
    assert f"{100 * (high - low) / 2:.1f} points can be" in told["text"] or settled or (high - low) / 2 < 6 / 89
    costs = "n-gram baseline 0.30 ms a row and 5.0 MiB; student, int8 1.25 ms a row and 2.0 MiB"
    assert (costs in told["advice"]) == (who == "student" and not settled)


def test_a_cost_that_nobody_measured_is_left_out():
    found = tuned(-0.061, 0.061, 1.0)
    for one in found["models"].values():
        del one["size_mib"]
    assert "good enough. The baseline is not saved" in findings(found)[0]["advice"]


def test_contradicting_labels_come_first():
    found = facts(values={"ngrams": 0.96}, gain_over_ngrams=gain(-0.03, 0.001))
    found["data"] = {"several_labels": {"texts": 240, "of": 240}}
    assert kinds(found)[:2] == ["several_labels", "ngrams"] and headline(found).startswith("Clean the labels first")
    assert "240 of 240 labelled texts have several labels" in findings(found)[0]["text"]
    found["data"] = {"several_labels": {"texts": 2, "of": 240}}  # the note is enough
    assert kinds(found)[0] == "ngrams"


@pytest.mark.parametrize(
    ("value", "p", "words"), [(-0.02, 0.001, "is better than the student"), (0.01, 0.3, "cannot tell the student from the n-gram baseline")]
)
def test_the_n_gram_baseline_comes_first(value, p, words):
    found = facts(values={"ngrams": 0.93 - value}, gain_over_ngrams=gain(value, p), teacher_gain_over_alone=gain(-0.1, 0.001))
    assert kinds(found)[:2] == ["ngrams", "weak_teacher"] and words in findings(found)[0]["text"]


def test_a_fine_tuning_is_advised_too():
    found = {
        "primary_metric": "accuracy",
        "models": {"teacher": model(0.81), "ngrams": model(0.9)},
        "teacher_gain_over_ngrams": gain(-0.09, 0.001),
        "trainings": {"teacher": training(True, "finetune")},
    }
    found["models"]["teacher"]["per_class"][1]["f1"] = 0.0
    assert kinds(found) == ["ngrams", "still_rising", "unlearned_classes"]
    assert findings(found)[2]["text"] == "F1 of the teacher is 0 for 1 of 3 classes: b (9 test rows)."
    assert "--set train.balanced_sampling=true" in findings(found)[2]["advice"]
    assert figures(found) == []


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_every_training_that_still_rises_is_told(name):
    found = facts()
    found["trainings"][name] = training(True)
    assert "still_rising" in kinds(found)
    advice = next(one["advice"] for one in findings(found) if one["kind"] == "still_rising")
    assert ("stages.distillation.train.max_steps=120" in advice) == (name != "teacher") and "train.max_steps=120" in advice


@pytest.mark.parametrize("name", ["student_alone", "student_pseudo_labels"])
def test_a_control_that_still_rises_is_a_last_remark(name):
    """The newcomer's page began with "train the student alone longer"; nothing is said where no verdict could change."""
    fact = {"student_alone": "gain_over_alone", "student_pseudo_labels": "gain_over_pseudo_labels"}[name]
    found = facts(**{fact: gain(0.03, 0.001)})
    found["trainings"][name] = training(True)
    assert kinds(found) == ["ship", "control_rising"] and findings(found)[-1]["good"]
    assert "stages.distillation.train.max_steps=120" in findings(found)[-1]["advice"]
    for other in (gain(0.03, 0.4), gain(-0.03, 0.001), None):  # no gain that a longer training could take away
        assert "control_rising" not in kinds(found | {fact: other})
    found["trainings"]["student"] = training(True)  # which has the same setting
    assert "control_rising" not in kinds(found) and kinds(found).count("still_rising") == 1


@pytest.mark.parametrize("name", ["teacher", "student"])
@pytest.mark.parametrize(("steps", "least", "told"), [(3, 1000, 1000), (60, 100, 120), (600, 1000, 1200), (60, None, 120)])
def test_longer_is_as_long_as_the_kind_needs_at_the_least(name, steps, least, told):
    """The newcomer's 3 updates: 1,000 are needed, said the warning; 6, said the advice."""
    found = facts()
    found["trainings"][name] = training(True)
    for one in found["trainings"][name].values():
        one.update({"steps": steps} | ({"least": least} if least else {}))
    (rising,) = (one for one in findings(found) if one["kind"] == "still_rising")
    assert f"train.max_steps={told}." in rising["advice"]


def test_who_follows_the_advice_is_not_warned_again():
    """The law, over all recipes and numbers of tasks: the updates that are advised are enough for the warning of few."""
    for name, updates, tasks in product(packaged(), (1, 100, 700), (1, 2)):
        recipe, said = filled_in(load_recipe(name)), []
        counts, least = [updates] * len(recipe.stages), least_updates(recipe, tasks=tasks)
        warn_of_few_updates(recipe, counts, said.append, tasks=tasks)
        lines = [{"model": "student", "stage": one.name, "step": updates} for one in recipe.stages]
        found = {"primary_metric": "accuracy", "trainings": trainings(lines, ACCURACY, rows=100, least=least)}
        for number, stage in enumerate(recipe.stages):
            counts[number] = int(_longer(found, "student", stage.name).rpartition("=")[2])
        again = []
        warn_of_few_updates(recipe, counts, again.append, tasks=tasks)
        assert not again and all(count >= 2 * updates for count in counts), (name, said)


def test_a_rise_is_one_that_the_validation_rows_can_show():
    """The newcomer's 0.945 to 0.956 of 91 rows is one row. The law: a rise counts from four rows, and from a point, on."""
    assert not is_rising([86 / 91, 86 / 91, 87 / 91], 91, ACCURACY)
    for rows, more in product((10, 91, 400, 1000, 10_000), range(1, 200)):
        if rows // 2 + more <= rows:
            curve = [0.1, rows // 2 / rows, (rows // 2 + more) / rows]
            assert is_rising(curve, rows, ACCURACY) == (more >= 4 and 100 * more >= rows), (rows, more)


def test_a_temperature_that_harms_is_told():
    """The newcomer's student alone: 0.163 before, 0.203 after."""
    found = facts()
    found["models"]["student_alone"]["calibration"] |= {"nll": 0.163, "nll_scaled": 0.203}
    assert "student alone: 0.163 to 0.203" in next(one["text"] for one in findings(found) if one["kind"] == "worse_calibration")
    found["models"]["student_alone"]["calibration"]["fitted_on"] = "test"
    assert "worse_calibration" not in kinds(found)


def test_no_fact_is_needed():
    """The law: leaving any fact out never breaks it, and nothing good is said of a run that measured nothing."""
    whole = facts()
    for key in whole:
        part = {name: copy.deepcopy(value) for name, value in whole.items() if name != key or key == "primary_metric"}
        assert isinstance(lines(part), list) and all(isinstance(line, str) for line in lines(part))
    for name in whole["models"]:
        part = copy.deepcopy(whole)
        part["models"][name] = {}
        assert lines(part)
    assert headline({"primary_metric": "accuracy", "models": {}}) == "Nothing was measured."
