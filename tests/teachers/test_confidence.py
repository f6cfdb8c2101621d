"""Numbers that say how sure an answer is: a probability for every class, on one scale that is found or stated."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from understudy.errors import DataError
from understudy.teachers.confidence import SCALES, scale_of, shared
from understudy.teachers.file import FileTeacher

NAMES = tuple(f"class {number:02d}" for number in range(12))


def teacher(path, answers: list, names=NAMES, **more) -> FileTeacher:
    rows = [
        {"text": f"text {number}", **(one if isinstance(one, dict) else {"probabilities": json.dumps(one[0])})}
        for number, one in enumerate(answers)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return FileTeacher(str(path), {}, names, **more)


def probabilities(found: FileTeacher) -> np.ndarray:
    return softmax(np.stack(list(found._by_identity.values())).astype(float), -1)


@st.composite
def partial(draw) -> np.ndarray:
    """Some of 3 to 20 classes with numbers that sum to at most 1."""
    classes = draw(st.integers(3, 20))
    values = np.full(classes, np.nan)
    chosen = draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=classes, unique=True))
    weights = np.array([draw(st.floats(0, 1)) for _ in chosen])
    total = draw(st.floats(0.01, 1))
    values[chosen] = np.round(total * weights / max(weights.sum(), 1e-9), 3)
    return values


@given(partial())
@settings(max_examples=400, deadline=None, derandomize=True)
def test_law_no_class_that_is_not_named_is_likelier_than_one_that_is(values):
    missing = np.isnan(values)
    try:
        found = shared(values.copy())
    except ValueError:
        named = values[~missing]  # refused only where even spread is all that the order allows
        assert named.max() <= (1 - named.sum()) / missing.sum() + 1e-9 or named.max() * len(values) <= 1 + 1e-9
        return
    named = np.flatnonzero(~missing)
    if missing.any():
        assert found.sum() == pytest.approx(1) and found[missing].max() < found[named].max()
        assert found[missing].max() <= found[named].min() and np.ptp(found[missing]) == 0
    for one in named:
        for other in named:
            assert values[one] < values[other] or found[one] >= found[other] - 1e-12
    if missing.any() and 0 <= (1 - values[named].sum()) / missing.sum() <= values[named].min():
        np.testing.assert_allclose(found[named], values[named], atol=1e-12)  # what fits stays as it was written


def test_an_answer_that_names_next_to_nothing_is_left_out_and_named(tmp_path):
    sure = [({NAMES[place % 12]: 0.9},) for place in range(24)]
    found = teacher(tmp_path / "a.jsonl", [*sure, ({"class 03": 0.05},), ({"class 03": 0.6, "class 04": 0.001},)])
    assert len(found.unanswered) == 1
    assert "row 25: of 12 classes it names 1, with 0.05 of 1: none would be likelier" in found.notes[0]
    last = probabilities(found)[-1]
    assert last.argmax() == 3 and last[4] == pytest.approx(last[0], abs=1e-4) and last[3] == pytest.approx(0.6, abs=1e-3)


def test_of_two_classes_the_other_has_the_rest(tmp_path):
    found = teacher(tmp_path / "a.jsonl", [({"bad": 0.05},), ({"bad": 0.9},)], ("bad", "good"))
    np.testing.assert_allclose(probabilities(found)[:, 0], [0.05, 0.9], atol=1e-6)


SURE = st.lists(st.integers(2, 9), min_size=5, max_size=40)


@given(SURE, st.sampled_from(SCALES), st.sampled_from(["label", "partial", "whole", "percent signs"]))
@settings(max_examples=60, deadline=None)
def test_law_one_scale_for_all_answers_gives_the_same_probabilities(tmp_path_factory, tenths, scale, form):
    tenths = [*tenths, 6, 10]  # certainty is there, so that a scale of 5 or 10 can be told
    if scale == 5:
        tenths = [2 * max(1, one // 2) for one in tenths]

    def answer(tenth: int) -> dict:
        value = tenth * scale / 10
        value = int(value) if value == int(value) else value
        rest = scale - value
        return {
            "label": {"label": NAMES[tenth], "confidence": value} if tenth < 12 else {},
            "partial": {"probabilities": json.dumps({NAMES[tenth]: value})},
            "whole": {"probabilities": json.dumps({name: value if name == NAMES[tenth] else rest / 11 for name in NAMES})},
            "percent signs": {"label": NAMES[tenth], "confidence": f"{10 * tenth} %"},
        }[form]

    found = teacher(tmp_path_factory.mktemp("scales") / "a.jsonl", [answer(one) for one in tenths])
    wanted = [max(one / 10, (1 - one / 10) / 11) for one in tenths]
    assert not found.unanswered
    np.testing.assert_allclose([row[one] for row, one in zip(probabilities(found), tenths, strict=True)], wanted, atol=0.01)
    said = any(f"a scale of 0 to {scale}" in note for note in found.notes)
    assert said or scale == 1 or form == "percent signs"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([4, 3, 2, 4], "may be of 5, of 10 or of 100"),
        ([2, 3, 4] * 20 + [7], "may be of 5, of 10 or of 100"),
        ([0.9, 0.8, 85, 90], "from 0.8 to 90, on more than one scale"),
        ([8, 9, 85, 90], "on more than one scale"),
        ([900, 800], "on more than one scale"),
    ],
)
def test_what_fits_two_scales_or_none_names_the_setting(tmp_path, values, message):
    answers = [{"label": NAMES[0], "confidence": value} for value in values]
    with pytest.raises(DataError, match=rf"{message}.*teacher\.confidence_scale=1 \(or 5, 10, 100\)"):
        teacher(tmp_path / "a.jsonl", answers)


def test_a_stated_scale_decides_and_what_is_beyond_is_left_out(tmp_path):
    answers = [{"label": NAMES[0], "confidence": value} for value in (4, 3, 2, 4, 7, 8)]
    found = teacher(tmp_path / "a.jsonl", answers, scale=5)
    np.testing.assert_allclose(probabilities(found)[:, 0], [0.8, 0.6, 0.4, 0.8], atol=0.01)
    assert "2 of 6 answers cannot be used" in found.notes[0] and "a confidence of 7 on a scale of 0 to 5" in found.notes[0]


def test_a_rare_slip_beside_the_scale_is_one_answer_that_cannot_be_used(tmp_path):
    answers = [{"label": NAMES[0], "confidence": value} for value in [0.9, 0.8, 0.7] * 20 + [85]]
    assert "1 of 61 answers cannot be used" in teacher(tmp_path / "a.jsonl", answers).notes[0]
    answers = [{"label": NAMES[0], "confidence": value} for value in [90, 80, 70] * 20 + [0.9, 1]]
    assert "2 of 62 answers cannot be used" in teacher(tmp_path / "b.jsonl", answers).notes[0]


def test_scales_are_told_from_sums_where_answers_are_whole():
    assert scale_of([3, 4, 3], [5, 5, 5]) == 5 and scale_of([0.6, 0.7], [100, 100]) == 100
