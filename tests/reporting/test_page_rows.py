"""What single rows say, by hand."""

import copy
import json
from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from example_run import CLASSES, FACTS, HOSTILE, LINES, NUMBERS
from understudy.reporting.page import page_content, write_page
from understudy.reporting.rows import class_table, confusion_differences, flipped, number_plots, reliability_plots
from understudy.tasks.classification import Classification


def test_flipped_classes():
    found = flipped(LINES)
    assert (found["rows"], found["lost"], found["won"]) == (5, 2, 1)
    assert [row["text"] for row in found["shown"][:2]] == ["lost and sure", "lost and unsure"]  # the surest mistake first
    assert [row["lost"] for row in found["shown"]] == [True, True, False]


def test_numbers_where_they_part():
    found = flipped(NUMBERS)
    assert [(row["label"], row["farther"]) for row in found["shown"]] == [(1.0, 2.0), (4.0, 0.5), (2.0, -1.5)]
    assert (found["lost"], found["won"]) == (2, 1)


def test_without_a_teacher_nothing_flips():
    alone = [line | {"models": {"student": line["models"]["student"]}} for line in LINES]
    assert flipped(alone) is None and confusion_differences(alone) is None and flipped([]) is None
    assert len(reliability_plots(alone * 5)) == 1


def test_confusion_as_scikit_learn_counts_it():
    found = confusion_differences(LINES)
    labels = [line["label"] for line in LINES]
    said = {name: [line["models"][name]["label"] for line in LINES] for name in ("student", "teacher")}
    student, teacher = (confusion_matrix(labels, said[name], labels=found["classes"]) for name in ("student", "teacher"))
    cells = [[cell["difference"] for cell in line["row"]] for line in found["cells"]]
    assert cells == (student - teacher).tolist()
    assert set(found["classes"]) == set(CLASSES) and found["all_classes"] == 3
    for pair in found["pairs"]:
        assert pair["student"] - pair["teacher"] == pair["difference"] != 0 and pair["label"] != pair["prediction"]
    apart = sum(abs(cell) for place, row in enumerate(cells) for other, cell in enumerate(row) if place != other)
    assert sum(abs(pair["difference"]) for pair in found["pairs"]) == apart


def test_of_many_classes_those_that_differ_most_are_shown():
    lines = []
    for number in range(150):
        wrong = {"label": "other", "probability": 0.5}
        right = {"label": f"class {number}", "probability": 0.5}
        lines += [{"text": "", "label": f"class {number}", "models": {"teacher": right, "student": wrong}}] * (number % 7)
    found = confusion_differences(lines)
    assert len(found["cells"]) == len(found["classes"]) == 15 and found["classes"][0] == "other"
    shown = Counter(int(name.split()[1]) % 7 for name in found["classes"][1:])
    assert shown == {6: 14}
    assert found["all_classes"] == 128 + 1  # a seventh of them have no rows
    assert len(found["pairs"]) == 20 and {abs(pair["difference"]) for pair in found["pairs"]} == {6}


def test_same_answers_have_no_confusion_to_show():
    same = [line | {"models": dict.fromkeys(("teacher", "student"), line["models"]["teacher"])} for line in LINES]
    assert confusion_differences(same) is None
    assert flipped(same)["shown"] == []


def test_the_classes_that_differ_most_come_first():
    found = class_table(FACTS["models"])
    assert [row["label"] for row in found["rows"]] == [HOSTILE, "b", "c"]  # 0.35 − 0.40 is more than (0.7 − 0.8) / 3
    assert found["models"] == ["teacher", "student alone", "student", HOSTILE]
    assert class_table({"student": FACTS["models"]["student"]})["rows"][0]["difference"] is None
    assert class_table({"student": {}}) is None


def test_what_finetune_made_of_a_student_kind_is_no_teacher():
    facts = {**FACTS, "recipe": "finetune", "student": "bilstm", "models": {"teacher": FACTS["models"]["teacher"]}}
    lines = [line | {"models": {"teacher": line["models"]["teacher"]}} for line in LINES * 5]
    content = page_content(facts, predictions=lines)
    assert content["classes"]["models"] == ["model"]
    assert [one["name"] for one in content["calibration"]] in ([], ["model"])
    assert [plot["title"] for plot in content["reliability"]] == ["model"]


@pytest.mark.parametrize("names", [("teacher",), ("student",), ("student", "student_alone"), ("teacher", "student")])
def test_classes_are_compared_where_there_are_two_to_compare(names, tmp_path):
    """The newcomer's fine-tuning had a column of dashes, and a caption of a student that nobody had."""
    models = {name: FACTS["models"][name] for name in names}
    both = len({"teacher", "student"} & set(names)) == 2
    assert class_table(models)["compared"] == both
    (tmp_path / "facts.json").write_text(json.dumps({**FACTS, "models": models}), "utf-8")
    page = write_page(tmp_path).read_text("utf-8")
    assert ("F1, student − teacher" in page) == ("student and teacher differ most come first" in page) == both
    assert ("with the most test rows come first" in page) != both and "without test rows" not in page


def test_a_class_without_test_rows_has_no_figures(tmp_path):
    """The newcomer's F1 of 0.000 with 0 rows, which read as not learned."""
    models = copy.deepcopy(FACTS["models"])
    for one in models.values():
        one["per_class"][1] |= {"support": 0, "f1": 0.0, "precision": 0.0, "recall": 0.0}
    found = class_table(models)
    assert [row["label"] for row in found["rows"]][-1] == "b" and found["unmeasured"] == 1
    assert found["rows"][-1]["models"] == [None] * len(models) and found["rows"][-1]["difference"] is None
    assert all(all(row["models"]) for row in found["rows"][:-1])
    (tmp_path / "facts.json").write_text(json.dumps({**FACTS, "models": models}), "utf-8")
    page = write_page(tmp_path).read_text("utf-8")
    assert "1 without test rows" in page and "macro averages leave them out" in page and ">0.000<" not in page


def test_macro_averages_leave_out_classes_without_test_rows():
    labels, predictions = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
    f1 = [one["f1"] for one in Classification(("a", "b", "c")).per_class(np.eye(3)[predictions], labels)]
    assert Classification().measure(np.eye(3)[predictions], labels)["macro_f1"] == pytest.approx((f1[0] + f1[1]) / 2)


def test_plots_of_numbers_and_of_confidence():
    assert [plot["kind"] for plot in number_plots(NUMBERS)] == ["teacher", "student"]
    assert reliability_plots(NUMBERS) == [] == number_plots(LINES)
    teacher, student = reliability_plots(LINES * 5)
    assert [one["name"] for one in teacher["series"]] == ["unscaled", "with its temperature"]
    before = [
        {key: value for key, value in line.items() if key != "models"} | {"models": {"student": {"label": "b", "probability": 0.5}}}
        for line in LINES
    ]
    assert [one["name"] for one in reliability_plots(before)[0]["series"]] == ["unscaled"]
    assert student["kind"] == "student"


def test_a_bin_of_fewer_than_five_rows_is_not_drawn():
    """The newcomer's zigzag: bins of one row have accuracy 0 or 1."""
    sure = {"text": "a", "label": "b", "models": {"student": {"label": "b", "probability": 0.99}}}
    doubtful = {"text": "a", "label": "b", "models": {"student": {"label": "c", "probability": 0.5}}}
    (plot,) = reliability_plots([sure] * 5 + [doubtful] * 4)
    assert len(plot["series"][0]["dots"]) == 1
    (plot,) = reliability_plots([sure] * 5 + [doubtful] * 5)
    assert len(plot["series"][0]["dots"]) == 2
    assert reliability_plots([sure] * 4) == []
