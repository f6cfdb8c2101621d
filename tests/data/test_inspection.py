"""Labels and texts that a person would have stopped at: said before training, with counts and the way out."""

import random

import pytest

from understudy.data.in_memory import InMemory
from understudy.data.rows import read, read_one
from understudy.data.spelling import misspelt
from understudy.errors import DataError
from understudy.settings.data import DataSettings
from understudy.tasks.classification import Classification
from understudy.tasks.similarity import Similarity


def rows_of(labels, texts=None) -> list[dict]:
    return [{"text": texts[row] if texts else f"text {row}", "label": label} for row, label in enumerate(labels)]


def warnings(rows, **more) -> list[str]:
    notes = read(DataSettings(train=rows, **more), Classification(), seed=0).notes
    return [note for note in notes if note.startswith("Warning: ")]


def test_clean_rows_have_their_classes_counted_and_no_warning():
    notes = read(DataSettings(train=rows_of(["bad", "good"] * 30)), Classification(), seed=0).notes
    assert "Classes of the train rows: bad 24, good 24." in notes and not any("Warning" in note for note in notes)
    many = read(DataSettings(train=rows_of([f"class {row % 30}" for row in range(300)])), Classification(), seed=0).notes
    assert any(note.startswith("30 classes in the train rows; the largest are class 0 8, ") for note in many)
    numbers = [row | {"label": float(number)} for number, row in enumerate(rows_of([0] * 40))]
    found = read(DataSettings(train=numbers), Similarity(), seed=0).notes
    assert any("32 numbers from 0 to 3" in note or "32 numbers from" in note for note in found)


@pytest.mark.parametrize("name", ["nan", "NaN", "NULL", "None", "n/a", "NA", "-", "?"])
def test_names_that_mean_nothing(name):
    (warning,) = warnings(rows_of((["bad", "good"] * 20) + [name] * 10))
    assert f"10 rows have the label '{name}'" in warning and "leave the field empty" in warning


@pytest.mark.parametrize(
    ("one", "other"),
    [("good", "Good"), ("very good", "verygood"), ("very good", "very  good"), ("caf\u00e9", "cafe\u0301"), ("\uff21", "a")],
)
def test_names_that_are_alike(one, other):
    (warning,) = warnings(rows_of([one] * 20 + [other] * 10 + ["third"] * 10))
    assert "differ only in case" in warning and f"'{one}' 20" in warning and f"'{other}' 10" in warning


@pytest.mark.parametrize("name", ["bad|urgent", "bad,good", '["bad", "good"]', "['bad']", "bad; good", "bad/good"])
def test_names_that_look_like_several(name):
    (warning,) = warnings(rows_of(["bad", "good"] * 20 + [name] * 10))
    assert "10 rows have a label that looks like several" in warning and name in warning


@pytest.mark.parametrize("name", ["Science, Technology", "and/or", "[draft", "3-4", "nano", "unknown"])
def test_names_that_are_just_names(name):
    assert not warnings(rows_of(["bad", "good"] * 20 + [name] * 10))


def test_classes_of_few_rows():
    (warning,) = warnings(rows_of(["bad", "good"] * 20 + ["once"] + ["twice"] * 2))
    assert "2 of 4 classes have fewer than 3 train rows (once 1, twice 2)" in warning


def test_texts_with_several_labels_in_one_file_and_between():
    texts = [f"text {row // 2}" for row in range(40)]
    (warning,) = warnings(rows_of(["bad", "good"] * 20, texts))
    assert "20 texts have several labels (in train), as 'text 0' has 'bad' and 'good'" in warning
    (warning,) = warnings(rows_of(["bad", "good"] * 20), validation=rows_of(["good", "bad"] * 5))
    assert "10 texts have several labels (in train and validation)" in warning


def test_texts_with_several_labels_are_a_fact():
    """What the report needs to say first that the labels must be cleaned; nothing where there are none."""
    texts = [f"text {row // 2}" for row in range(40)]
    rows = read(DataSettings(train=rows_of(["bad", "good"] * 20, texts)), Classification(), seed=0)
    assert rows.facts()["several_labels"] == {"texts": 20, "of": 20}
    rows = read(DataSettings(train=rows_of(["bad", "good"] * 20)), Classification(), seed=0)
    assert "several_labels" not in rows.facts()


def test_rows_that_are_there_twice():
    rows = rows_of(["bad", "good"] * 20)
    notes = read(DataSettings(train=rows + rows[:5]), Classification(), seed=0).notes
    assert "5 of 45 train rows repeat another of them, with the same label; they were left in." in notes


def test_classes_that_the_user_names_are_not_doubted():
    rows = rows_of(["none", "None", "nope", "nopes"] * 20 + ["nope"] * 90)
    assert len(warnings(rows)) == 3 and not warnings(rows, label_names=["none", "None", "nope", "nopes"])


@pytest.mark.parametrize("names", [None, ("Good", "bad", "god", "good", "nan")])
def test_law_a_file_has_the_same_warnings_whoever_names_the_classes(names):
    """`finetune` takes the classes from the rows, `distill` from the teacher, `evaluate` reads one file."""
    rows = rows_of(["bad", "good"] * 20 + ["Good", "nan", "god", "god"])
    said = list(read(DataSettings(train=rows), Classification(), seed=0, label_names=names).notes)
    read_one(InMemory(rows), DataSettings(), Classification(), label_names=names, notes=(alone := []))
    for notes in (said, alone):
        assert any("1 rows have the label 'nan'" in note for note in notes), notes
        assert any("differ only in case" in note and "'Good' 1, 'good' 20" in note for note in notes)
        assert any("'god' 2 beside 'good' 20. A misspelling?" in note for note in notes)


def test_labelled_test_rows_beside_unlabelled_text_are_inspected():
    settings = DataSettings(
        transfer=rows_of(["", ""] * 20), test=rows_of(["bad", "good", "Good"] * 9, [f"test {row}" for row in range(27)])
    )
    notes = read(settings, Classification(), seed=0, label_names=["Good", "bad", "good"]).notes
    assert any("'Good' 9, 'good' 9" in note for note in notes)


def test_a_label_near_one_of_the_models():
    rows = rows_of(["request_refund", "Request_Refund"] * 20)
    with pytest.raises(DataError, match=r"row 2: label 'Request_Refund' is none of the 2 .* Did you mean 'request_refund'\?"):
        read(DataSettings(train=rows), Classification(), seed=0, label_names=["request_refund", "other"])


def test_no_warning_hangs_on_the_order_of_rows():
    rows = rows_of(["bad", "good", "Good", "nan", "a|b"] * 10, [f"text {row % 33}" for row in range(50)])
    random.Random(0).shuffle(rows)
    assert len(warnings(rows)) == len(warnings(rows[::-1])) == 4


@pytest.mark.parametrize(
    ("often", "seldom"),
    [
        ("billing", "biling"),
        ("billing", "bililng"),
        ("refund request", "refnd request"),
        ("refund_request", "Refund reqest"),
        ("negative", "negatve"),
        ("delivery", "deliverys"),
        ("account", "acount"),
        ("Zahlung", "Zalung"),
    ],
)
def test_a_rare_name_near_a_frequent_one_is_a_slip(often, seldom):
    others = {"shipping": 90, "other": 120}
    assert misspelt({often: 100, seldom: 20, **others}) == [(seldom, often)]
    assert not misspelt({often: 100, seldom: 21, **others})  # both are frequent


@pytest.mark.parametrize(
    ("often", "seldom"),
    [
        ("level1", "level2"),
        ("north", "south"),
        ("positive", "negative"),
        ("relevant", "irrelevant"),
        ("male", "female"),
        ("entailment", "not entailment"),
        ("card payment", "cash payment"),
        ("1000", "10000"),
        ("get spare card", "get virtual card"),
    ],
)
def test_names_that_differ_on_purpose_are_no_slips(often, seldom):
    assert not misspelt({often: 1000, seldom: 3})


def test_names_that_differ_in_case_blanks_or_hyphens_are_one_however_frequent():
    assert misspelt({"sign up": 50, "Sign-Up": 40, "signup": 30, "log in": 50}) == [("Sign-Up", "sign up"), ("signup", "sign up")]
