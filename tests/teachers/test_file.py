"""A file of answers as the teacher: every form in which a program, a person or a language model writes them."""

import csv
import json

import numpy as np
import pytest
from datasets import Dataset
from scipy.special import softmax

from tiny import LABELS, SECOND_TEXTS, TEXTS
from understudy.data.tables import identity
from understudy.errors import DataError
from understudy.teachers.file import FileTeacher, better_order

ROWS = Dataset.from_dict({"text": TEXTS, "identity": [identity(text) for text in TEXTS]})


def black_box(path, rows: list[dict] | str, *, columns=None, label_names=LABELS, **more) -> FileTeacher:
    text = rows if isinstance(rows, str) else "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text)
    return FileTeacher(str(path), columns or {}, label_names, **more)


def test_logits_of_a_file_are_found_by_text(tmp_path):
    given = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    rows = [{"text": text, "logits": one.tolist()} for text, one in zip(TEXTS, given, strict=True)]
    teacher = black_box(tmp_path / "said.jsonl", rows[::-1])
    np.testing.assert_allclose(teacher.logits(ROWS, device="cpu"), given)
    assert teacher.model is None and teacher.covers(ROWS)


def test_logits_that_look_like_probabilities_are_warned_of(tmp_path):
    shares = [{"text": text, "logits": [0.9, 0.1]} for text in TEXTS]
    assert any("if they are probabilities" in note for note in black_box(tmp_path / "said.jsonl", shares).notes)
    scores = [row | {"logits": [0.9, -0.1]} for row in shares]
    assert not black_box(tmp_path / "said.jsonl", scores).notes


def test_probabilities_of_a_csv_become_their_logs(tmp_path):
    lines = ["review,probabilities", *(f'"{text}","[0.{place + 1}, {1 - (place + 1) / 10}]"' for place, text in enumerate(TEXTS))]
    teacher = black_box(tmp_path / "said.csv", "\n".join(lines), columns={"text": "review"})
    found = softmax(teacher.logits(ROWS, device="cpu"), axis=-1)
    np.testing.assert_allclose(found[:, 0], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], rtol=1e-5)


def test_certainty_stays_finite(tmp_path):
    teacher = black_box(tmp_path / "said.jsonl", [{"text": TEXTS[0], "probabilities": [0.0, 1.0]}])
    found = teacher.logits(ROWS.select([0]), device="cpu")
    assert np.isfinite(found).all() and 0.99 < softmax(found)[0, 1] < 1  # bounded: a student can reach it


def test_pairs_of_a_file(tmp_path):
    rows = [{"text": one, "text_pair": two, "logits": [place, 0]} for place, (one, two) in enumerate(zip(TEXTS, SECOND_TEXTS, strict=True))]
    teacher = black_box(tmp_path / "said.jsonl", rows)
    pairs = Dataset.from_dict({"text": TEXTS, "identity": [identity(*both) for both in zip(TEXTS, SECOND_TEXTS, strict=True)]})
    assert teacher.logits(pairs, device="cpu")[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert not teacher.covers(ROWS)


def test_numbers_of_a_file(tmp_path):
    teacher = black_box(tmp_path / "said.jsonl", [{"text": text, "logits": [1.5]} for text in TEXTS], label_names=None, number=True)
    assert teacher.logits(ROWS, device="cpu").tolist() == [[1.5]] * 6


def test_rows_that_the_file_does_not_know_are_counted(tmp_path):
    teacher = black_box(tmp_path / "said.jsonl", [{"text": text, "logits": [0, 1]} for text in TEXTS[:4]])
    assert not teacher.covers(ROWS) and teacher.covers(ROWS.select([0, 3]))
    with pytest.raises(DataError, match=r"2 of 6 rows have no teacher output.*good fun|2 of 6.*not good"):
        teacher.logits(ROWS, device="cpu")


def test_the_fingerprint_is_of_the_file_and_the_labels(tmp_path):
    rows = [{"text": TEXTS[0], "logits": [0, 1]}]
    one = black_box(tmp_path / "one.jsonl", rows)
    assert one.fingerprint == black_box(tmp_path / "copy.jsonl", rows).fingerprint
    assert one.fingerprint != black_box(tmp_path / "two.jsonl", [{"text": TEXTS[0], "logits": [0, 2]}]).fingerprint
    assert one.fingerprint != black_box(tmp_path / "copy.jsonl", rows, label_names=("good", "bad")).fingerprint


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "a"}, "no teacher outputs in it: a column probabilities or logits .* it has text"),
        ({"words": "a", "logits": [0, 1]}, "needs the column text; it has words, logits. Map it with --column text=words"),
        ({"text": "a", "logits": [0, 1, 2]}, "1 of 1 answers cannot be used; row 1: 3 logits, expected 2"),
        ({"text": "a", "logits": "none"}, "row 1: a list of numbers or {class: number} is needed, got 'none'"),
        ({"text": "a", "logits": 3}, "row 1: a list of numbers or {class: number} is needed, got 3"),
        ({"text": "a", "logits": "[0, NaN]"}, "row 1: outputs must be finite"),
        ({"text": "a", "probabilities": [0.5, 0.6]}, "row 1: probabilities must be 0 or more and sum to 1"),
        ({"text": "a", "probabilities": [-0.5, 1.5]}, "row 1: probabilities must be 0 or more"),
    ],
)
def test_files_that_do_not_fit(tmp_path, row, message):
    with pytest.raises(DataError, match=message):
        black_box(tmp_path / "said.jsonl", [row])


def test_answers_that_do_not_fit_are_counted_named_and_left_out(tmp_path):
    rows = [{"text": text, "probabilities": [0.25, 0.75]} for text in TEXTS]
    rows[4]["probabilities"] = [0.9, 0.9]
    rows[5]["probabilities"] = None
    teacher = black_box(tmp_path / "said.jsonl", rows)
    assert teacher.unanswered == {identity(text) for text in TEXTS[4:]}
    (note,) = teacher.notes
    assert "2 of 6 answers cannot be used" in note and "row 5: probabilities must" in note and "row 6: no answer" in note


def test_one_text_with_two_answers_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"row 2: the text of row 1 with another answer; keep one"):
        black_box(tmp_path / "said.jsonl", [{"text": "a", "logits": [0, 1]}, {"text": "a", "logits": [1, 0]}])
    black_box(tmp_path / "said.jsonl", [{"text": "a", "logits": [0, 1]}, {"text": "a", "logits": [0, 1]}])


# --- every form says the same

NAMES = ("negative", "positive")
SURE = [0.9, 0.2, 0.65, 0.4, 0.75, 0.05]  # of `positive`
FORMS = {
    "list": lambda p: {"probabilities": [1 - p, p]},
    "mapping": lambda p: {"probabilities": {"positive": p, "negative": 1 - p}},
    "one of two": lambda p: {"probabilities": {"positive": p}},
    "percent": lambda p: {"probabilities": {"positive": 100 * p, "negative": 100 - 100 * p}},
    "texts": lambda p: {"probabilities": {"positive": f"{100 * p} %", "negative": f"{100 - 100 * p} %"}},
    "JSON": lambda p: {"probabilities": json.dumps({"positive": p, "negative": 1 - p})},
    "Python": lambda p: {"probabilities": str({"positive": p, "negative": 1 - p})},
    "pipeline": lambda p: {"probabilities": [{"label": "positive", "score": p}, {"label": "negative", "score": 1 - p}]},
    "columns": lambda p: {"positive": p, "negative": 1 - p},
    "p_": lambda p: {"p_positive": p, "p_negative": 1 - p},
    "prob_": lambda p: {"prob_positive": p, "prob_negative": 1 - p},
    "label": lambda p: {"label": NAMES[p > 0.5], "confidence": max(p, 1 - p)},
    "label in percent": lambda p: {"label": f" {NAMES[p > 0.5].title()}. ", "confidence": f"{100 * max(p, 1 - p):g} %"},
    "logits": lambda p: {"logits": [0, float(np.log(p / (1 - p)))]},
    "logits by name": lambda p: {"logits": {"positive": float(np.log(p / (1 - p))), "negative": 0}},
}


def written(path, rows: list[dict]) -> str:
    """Rows as a file of the kind that its name says."""
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            # As pandas does: mappings and lists by `str`.
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        Dataset.from_list(rows).to_parquet(path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), "utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_in_every_file_says_the_same(tmp_path, form, ending):
    rows = [{"text": text, **FORMS[form](p)} for text, p in zip(TEXTS, SURE, strict=True)]
    teacher = FileTeacher(written(tmp_path / f"said.{ending}", rows), {}, NAMES)
    np.testing.assert_allclose(softmax(teacher.logits(ROWS, device="cpu"), -1)[:, 1], SURE, atol=1e-5)
    assert not teacher.unanswered


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (("退款", "投诉", "咨询"), ("咨询", "投诉", "退款")),
        (("a, b", 'say "c"', "d; e"), ("a, b", "d; e", 'say "c"')),
        (("10", "9", "-1"), ("-1", "9", "10")),
        (("no", "yes"), ("no", "yes")),
        (("true", "false"), ("false", "true")),
    ],
)
@pytest.mark.parametrize("form", ["label", "mapping", "columns"])
@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_classes_of_any_name_come_from_the_file(tmp_path, names, ordered, form, ending):
    said = [names[place % len(names)] for place in range(len(TEXTS))]
    forms = {
        "label": lambda name: {"label": name},
        "mapping": lambda name: {"probabilities": {one: float(one == name) for one in names}},
        "columns": lambda name: {f"p_{one}": float(one == name) for one in names},
    }
    rows = [{"text": text, **forms[form](name)} for text, name in zip(TEXTS, said, strict=True)]
    teacher = FileTeacher(written(tmp_path / f"said.{ending}", rows), {}, None)
    assert teacher.label_names == ordered
    assert [ordered[place] for place in teacher.logits(ROWS, device="cpu").argmax(-1)] == said
    assert any(f"{len(names)} of them" in note for note in teacher.notes)


def test_truth_values_are_the_classes_true_and_false(tmp_path):
    rows = [{"text": text, "label": place % 2 == 0} for place, text in enumerate(TEXTS)]
    assert FileTeacher(written(tmp_path / "said.jsonl", rows), {}, None).label_names == ("false", "true")


@pytest.mark.parametrize("refusal", ["I'm sorry, I can't help with that.", "抱歉，我无法回答这个问题。"])
@pytest.mark.parametrize("form", ["label", "probabilities"])
def test_a_refusal_that_comes_again_is_no_class(tmp_path, refusal, form):
    texts = [f"{text} {number}" for text in TEXTS for number in range(40)]
    rows = [{"text": text, "label": ("早", "as soon as possible")[place % 2]} for place, text in enumerate(texts)]
    for row in rows[:5]:
        row["label"] = refusal
    if form == "probabilities":
        rows = [{"text": row["text"], "probabilities": {row["label"]: 0.9}} for row in rows]
    teacher = FileTeacher(written(tmp_path / "said.jsonl", rows), {}, None)
    assert teacher.label_names == ("as soon as possible", "早") and len(teacher.unanswered) == 5


def test_rare_classes_are_named(tmp_path):
    texts = [f"{text} {number}" for text in TEXTS for number in range(40)]
    rows = [{"text": text, "label": "ab"[place % 2]} for place, text in enumerate(texts)]
    rows[0]["label"] = "unsure"
    (note,) = FileTeacher(written(tmp_path / "said.jsonl", rows), {}, None).notes
    assert "unsure (1)" in note and "Rare: unsure" in note


@pytest.mark.parametrize("labels", [(1, 2), (True, False), (1.0, 2.0)])
def test_a_refusal_among_numbers_is_a_refusal(tmp_path, labels):
    rows = [{"text": text, "label": labels[place % 2]} for place, text in enumerate(TEXTS)]
    rows[3]["label"] = "Sorry, I cannot say."
    names = ("true", "false") if labels[0] is True else ("1", "2")
    teacher = FileTeacher(written(tmp_path / "said.jsonl", rows), {}, names)
    assert teacher.unanswered == {identity(TEXTS[3])} and teacher.label_names == names


def test_classes_that_are_not_named_share_the_rest(tmp_path):
    rows = [{"text": TEXTS[0], "probabilities": {"b": 0.7}}, {"text": TEXTS[1], "probabilities": {"a": 0.5, "b": 0.5}}]
    teacher = black_box(tmp_path / "said.jsonl", rows, label_names=("a", "b", "c", "d"))
    found = softmax(teacher.logits(ROWS.select([0, 1]), device="cpu"), -1)
    np.testing.assert_allclose(found[0], [0.1, 0.7, 0.1, 0.1], atol=1e-6)
    np.testing.assert_allclose(found[1], [0.5, 0.5, 0, 0], atol=0.003)


def test_a_label_alone_is_as_sure_as_a_bound_allows(tmp_path):
    teacher = black_box(tmp_path / "said.jsonl", [{"text": text, "label": "bad"} for text in TEXTS])
    found = softmax(teacher.logits(ROWS, device="cpu"), -1)
    assert (found[:, 0] > 0.99).all() and (found[:, 0] < 1).all()


def test_refusals_are_left_out_and_a_misspelled_class_is_not(tmp_path):
    texts = [f"{text} {number}" for text in TEXTS for number in range(20)]
    rows = [{"text": text, "label": LABELS[place % 2]} for place, text in enumerate(texts)]
    refused = [*rows[:-2], {"text": texts[-2], "label": "I cannot answer this."}, {"text": texts[-1], "label": ""}]
    teacher = black_box(tmp_path / "refused.jsonl", refused)
    assert len(teacher.unanswered) == 2 and "2 of 120 answers cannot be used" in teacher.notes[0]
    with pytest.raises(DataError, match=r"'goood' \(1 row\); did you mean 'good'"):
        black_box(tmp_path / "near.jsonl", [*rows[:-1], {"text": texts[-1], "label": "goood"}])
    with pytest.raises(DataError, match=r"'refund' \(10 rows\).*data.label_names"):
        black_box(tmp_path / "frequent.jsonl", [*rows[:-10], *({"text": text, "label": "refund"} for text in texts[-10:])])
    mapping = {"text": texts[-1], "probabilities": {"goood": 1.0}}
    others = [{"text": text, "probabilities": {"good": 1.0}} for text in texts[:-1]]
    with pytest.raises(DataError, match="did you mean 'good'"):
        black_box(tmp_path / "mapping.jsonl", [*others, mapping])


def test_columns_of_classes_must_be_all_there(tmp_path):
    row = {"text": "a", "p_bad": 0.5, "p_good": 0.5}
    with pytest.raises(DataError, match=r"columns for 2 of 3 classes; missing are p_so-so"):
        black_box(tmp_path / "few.jsonl", [row], label_names=("bad", "good", "so-so"))
    with pytest.raises(DataError, match=r"column p_bed: .*did you mean 'bad'"):
        black_box(tmp_path / "other.jsonl", [{"text": "a", "p_bed": 0.5, "p_good": 0.5}])


def test_a_file_with_our_names_needs_no_mapping_and_two_meanings_are_refused(tmp_path):
    mapping = {"text": "message", "label": "category"}
    rows = [{"text": text, "label": "good"} for text in TEXTS]
    assert black_box(tmp_path / "ours.jsonl", rows, columns=mapping).covers(ROWS)
    theirs = [{"message": text, "category": "good"} for text in TEXTS]
    assert black_box(tmp_path / "theirs.jsonl", theirs, columns=mapping).covers(ROWS)
    with pytest.raises(DataError, match="has a column 'label' and, as --column says, 'category' for label"):
        black_box(tmp_path / "both.jsonl", [row | {"category": "bad"} for row in rows], columns=mapping)


def test_the_order_of_the_rows_and_the_form_do_not_change_the_fingerprint(tmp_path):
    rows = [{"text": text, "probabilities": {"bad": 0.25, "good": 0.75}} for text in TEXTS]
    lists = [{"text": text, "probabilities": [0.25, 0.75]} for text in TEXTS[::-1]]
    assert black_box(tmp_path / "a.jsonl", rows).fingerprint == black_box(tmp_path / "b.jsonl", lists).fingerprint


# --- the order of lists


def gold(count: int, classes: int) -> Dataset:
    texts = [f"text {number}" for number in range(count)]
    labels = [number % classes for number in range(count)]
    return Dataset.from_dict({"identity": list(map(identity, texts)), "text": texts, "label": labels})


def listing(rows: Dataset, classes: int, order: list[int], right: float = 0.9) -> list[dict]:
    """Lists whose place k is of class order[k]; a part of them is right."""
    draw, made = np.random.default_rng(0), []
    for text, label in zip(rows["text"], rows["label"], strict=True):
        said = label if draw.random() < right else int(draw.integers(classes))
        made.append({"text": text, "probabilities": [float(one == said) for one in order]})
    return made


@pytest.mark.parametrize("classes", [2, 5, 12])
def test_lists_in_another_order_are_refused_by_the_labels(tmp_path, classes):
    rows, names = gold(120, classes), tuple(f"class {number:02d}" for number in range(classes))
    right, swapped = list(range(classes)), [1, 0, *range(2, classes)]
    teacher = black_box(tmp_path / "right.jsonl", listing(rows, classes, right), label_names=names)
    teacher.check_order([rows], declared=False)
    assert "in the order class 00, class 01" in teacher.notes[-1]
    wrong = black_box(tmp_path / "wrong.jsonl", listing(rows, classes, swapped), label_names=names)
    with pytest.raises(DataError, match=r"read in the order class 01, class 00.*with (8|9)\d%"):
        wrong.check_order([rows], declared=True)


@pytest.mark.parametrize("classes", [3, 12, 77])
@pytest.mark.parametrize("right", [0.3, 0.6, 0.95])
def test_a_weak_teacher_is_not_taken_for_one_in_another_order(tmp_path, classes, right):
    rows, names = gold(200, classes), tuple(f"class {number:02d}" for number in range(classes))
    teacher = black_box(tmp_path / "x.jsonl", listing(rows, classes, list(range(classes)), right), label_names=names)
    teacher.check_order([rows], declared=False)


@pytest.mark.parametrize("count", [8, 10, 40])
def test_an_order_that_every_label_contradicts_is_refused_from_the_fewest_rows_checked_on(tmp_path, count):
    rows = gold(count, 2)
    swapped = [
        {"text": text, "probabilities": [float(label), 1.0 - label]} for text, label in zip(rows["text"], rows["label"], strict=True)
    ]
    for declared in (False, True):
        with pytest.raises(DataError, match=rf"agree with 0% of {count} labels; read in the order good, bad, with 100%"):
            black_box(tmp_path / "x.jsonl", swapped).check_order([rows], declared=declared)
    black_box(tmp_path / "x.jsonl", swapped).check_order([rows.select(range(7))], declared=True)
    with pytest.raises(DataError, match="too few labelled rows are in it to tell"):
        black_box(tmp_path / "x.jsonl", swapped).check_order([rows.select(range(7))], declared=False)


@pytest.mark.parametrize("classes", [2, 5, 12, 77])
@pytest.mark.parametrize("right", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("count", [8, 30, 120])
def test_law_an_order_is_refused_by_more_than_chance_or_not_at_all(classes, right, count):
    """At a level of 1 % three of 60 are refused by chance with p = 0.003; another order is found where rows are enough."""
    draw, refused, found = np.random.default_rng(classes + count), 0, 0
    for _ in range(60):
        labels = draw.integers(classes, size=count)
        said = np.where(draw.random(count) < right, labels, draw.integers(classes, size=count))
        refused += better_order(said, labels, classes) is not None
        found += better_order((said + 1) % classes, labels, classes) is not None
    assert refused <= 3
    assert found >= 59 or right < 0.9 or count < 8 * classes


def test_answers_no_better_than_chance_are_warned_of(tmp_path):
    rows = gold(120, 5)
    teacher = black_box(tmp_path / "x.jsonl", listing(rows, 5, list(range(5)), 0.0), label_names=tuple("abcde"))
    teacher.check_order([rows], declared=True)
    assert teacher.notes[-1].startswith("Warning: ") and "not significantly more than by chance (20%)" in teacher.notes[-1]


def test_without_labels_the_order_must_be_said(tmp_path):
    teacher = black_box(tmp_path / "x.jsonl", [{"text": text, "probabilities": [0.5, 0.5]} for text in TEXTS])
    with pytest.raises(DataError, match=r"give the order of the lists with --set data.label_names"):
        teacher.check_order([], declared=False)
    teacher.check_order([], declared=True)
    with pytest.raises(DataError, match="nothing in it names the classes"):
        black_box(tmp_path / "x.jsonl", [{"text": text, "probabilities": [0.5, 0.5]} for text in TEXTS], label_names=None)


def named(counts: dict[str, int]) -> list[dict]:
    names = [name for name, count in counts.items() for _ in range(count)]
    return [{"text": f"text {row}", "label": name} for row, name in enumerate(names)]


def test_a_class_that_is_probably_misspelt_stops_the_run(tmp_path):
    rows = named({"billing": 156, "biling": 8, "shipping": 90, "shiping": 3})
    with pytest.raises(
        DataError, match=r"name 'biling' 8 times beside 'billing' 156 times, 'shiping' 3 times .*data.label_names='\[biling, "
    ):
        black_box(tmp_path / "x.jsonl", rows, label_names=None)
    several = ("biling", "billing", "shiping", "shipping")
    assert black_box(tmp_path / "x.jsonl", rows, label_names=several).label_names == several
    mapped = [{"text": row["text"], "probabilities": {row["label"]: 0.9, "other": 0.1}} for row in rows]
    with pytest.raises(DataError, match="'biling' 8 times beside 'billing' 156 times"):
        black_box(tmp_path / "x.jsonl", mapped, label_names=None)


def test_classes_that_are_near_but_frequent_or_of_other_digits_are_classes(tmp_path):
    rows = named({"level1": 100, "level2": 4, "north": 50, "south": 5, "refund": 40, "refunds": 30})
    found = black_box(tmp_path / "x.jsonl", rows, label_names=None).label_names
    assert found == ("level1", "level2", "north", "refund", "refunds", "south")


def test_a_spelling_that_differs_in_a_blank_stops_the_run_however_frequent(tmp_path):
    with pytest.raises(DataError, match="'signup' 40 times beside 'sign up' 50 times"):
        black_box(tmp_path / "x.jsonl", named({"sign up": 50, "signup": 40, "other": 9}), label_names=None)
