"""From sources to rows: label maps, splits, identities, and every refusal."""

import json
import math
import os
from collections import Counter
from pathlib import Path

import datasets
import pytest

from understudy.data.rows import read, read_one
from understudy.data.tables import UNLABELLED, identity
from understudy.errors import DataError
from understudy.settings.data import DataSettings
from understudy.tasks.classification import Classification
from understudy.tasks.similarity import Similarity

REAL = Path(os.environ.get("UNDERSTUDY_DATA", "../shared/data"))


@pytest.fixture
def write(tmp_path):
    """Write rows to a file, give its path."""

    def written(name, rows):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return written


def labelled(labels, prefix="row"):
    return [{"text": f"{prefix} {number}", "label": label} for number, label in enumerate(labels)]


def read_classes(train, validation=None, *, model=None, **settings):
    data = DataSettings(train=train, validation=validation, **settings)
    return read(data, Classification(), seed=0, label_names=model)


# Identities ---------------------------------------------------------------------------------------------------------


def test_identity_is_of_the_texts_alone_and_unambiguous():
    texts = [("a", None), ("a", ""), ("", "a"), ("ab", ""), ('a", "b', None), ("a", "b"), ("a ", None)]
    assert len({identity(*one) for one in texts}) == len(texts)
    assert identity("电影") == identity("电影", None)
    assert len(identity("a")) == 32


def test_columns_and_facts(write):
    rows = read_classes(write("train", labelled(["b", "a"])), write("validation", labelled(["a"], "other")))
    assert rows.train.to_list() == [
        {"identity": identity("row 0"), "text": "row 0", "label": 1},
        {"identity": identity("row 1"), "text": "row 1", "label": 0},
    ]
    assert rows.train.features["label"].dtype == "int64"
    facts = rows.facts()
    assert {name: facts[name]["rows"] for name in ("train", "validation", "test")} == {"train": 2, "validation": 1, "test": 1}
    assert facts["test_is_validation"] and any("validation rows" in note for note in facts["notes"])
    turned = read_classes(write("train", labelled(["a", "b"])), write("validation", labelled(["a"], "other"))).facts()
    assert turned["validation"] == facts["validation"]
    assert turned["train"]["sha256"] != facts["train"]["sha256"]


# Label maps ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "names", "indices"),
    [
        (["pos", "neg", "pos"], ("neg", "pos"), [1, 0, 1]),
        ([10, 9, 2], ("2", "9", "10"), [2, 1, 0]),
        ([True, False], ("false", "true"), [1, 0]),
        ([1.0, 2.5, 2.0], ("1", "2", "2.5"), [0, 2, 1]),
        (["1.0", " 0.0 "], ("0", "1"), [1, 0]),
        (["10", "9", "x"], ("10", "9", "x"), [0, 1, 2]),
    ],
)
def test_labels_are_names_in_a_fixed_order(write, labels, names, indices):
    rows = read_classes(write("train", labelled(labels)), write("validation", labelled(labels, "other")))
    assert rows.label_names == names
    assert rows.train["label"][:] == indices
    assert rows.validation["label"][:] == indices


@pytest.mark.parametrize(
    ("labels", "settings", "model", "indices"),
    [
        (["neg", "pos"], {}, ("pos", "neg"), [1, 0]),  # names find their place in the model's order
        ([0, 1], {}, ("pos", "neg"), [0, 1]),  # integers are positions in it
        ([1, 2], {}, ("2", "1"), [1, 0]),  # unless they are its names
        ([0, 1], {"label_names": ("pos", "neg")}, ("pos", "neg"), [0, 1]),
        (["b", "a"], {"label_names": ("b", "a")}, None, [0, 1]),
        ([1, 0], {"label_names": ("b", "a")}, None, [1, 0]),
        (["b", "a"], {"label_names": ("b", "a")}, ("LABEL_0", "LABEL_1"), [0, 1]),
        (["b", "a"], {"label_names": ("b", "a")}, ("0", "1"), [0, 1]),
    ],
)
def test_given_names_decide_the_order(write, labels, settings, model, indices):
    train, validation = write("train", labelled(labels)), write("validation", labelled(labels, "other"))
    rows = read_classes(train, validation, model=model, **settings)
    assert rows.label_names == (model or settings["label_names"])
    assert rows.train["label"][:] == indices
    told = [note for note in rows.notes if "read as positions" in note]
    assert bool(told) == (labels == [0, 1] and not settings)


def test_class_labels_of_datasets_are_names_and_minus_one_is_none(tmp_path):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["z", "a"])})
    train = {"text": ["p", "q", "r"], "label": [0, 1, -1]}
    datasets.DatasetDict(
        train=datasets.Dataset.from_dict(train, features=features),
        validation=datasets.Dataset.from_dict({"text": ["s"], "label": [1]}, features=features),
        test=datasets.Dataset.from_dict({"text": ["t"], "label": [-1]}, features=features),
    ).save_to_disk(tmp_path / "saved")
    rows = read_classes(str(tmp_path / "saved"))
    assert rows.label_names == ("z", "a")
    assert rows.train["label"][:] == [0, 1, UNLABELLED]
    assert rows.test_is_validation
    assert any("have no labels and were left out" in note for note in rows.notes)
    assert read_classes(str(tmp_path / "saved"), model=("a", "z")).train["label"][:2] == [1, 0]
    assert read_classes(str(tmp_path / "saved"), model=("LABEL_0", "LABEL_1")).train["label"][:2] == [0, 1]
    datasets.Dataset.from_dict(train, features=features).to_parquet(tmp_path / "rows.parquet")
    one = read_one(str(tmp_path / "rows.parquet"), DataSettings(), Classification(), label_names=("a", "z"), labels=False)
    assert one["label"][:] == [UNLABELLED] * 3
    with pytest.raises(DataError, match=r"row 3 \(not counting the header\) without a label"):
        read_one(str(tmp_path / "rows.parquet"), DataSettings(), Classification(), label_names=("a", "z"))


TWO = labelled(["a", "b"])


@pytest.mark.parametrize(
    ("train", "validation", "settings", "model", "message"),
    [
        (labelled(["a", "a"]), TWO, {}, None, "all 2 labelled rows have the one label 'a'"),
        (labelled([None, ""]), TWO, {}, None, "no row has a label"),
        (TWO, labelled(["a", "c"]), {}, None, "row 2: label 'c' is none of the 2 classes of .*train.*: a, b. Correct"),
        (TWO, labelled(["a", "c"]), {}, ("a", "b", "c"), "validation.*row 2: label 'c' never occurs in .*has a, b"),
        (TWO, labelled(["a", None]), {}, None, r"validation.*row 2 \(not counting the header\) without a label"),
        (TWO, TWO, {}, ("x", "y"), "train.*row 1: label 'a' is none of the 2 classes of the model: x, y"),
        (labelled([0, 2]), TWO, {}, ("x", "y"), "row 2: label '2' is none of the 2 classes of the model"),
        (labelled([0, 1]), TWO, {}, ("1", "2"), "row 1: label '0' is none of"),
        (TWO, TWO, {"label_names": ("b", "a")}, ("a", "b"), "is b, a; the model has a, b: the same names in another"),
        (TWO, TWO, {"label_names": ("a", "c")}, ("a", "b"), "not the same classes"),
        (TWO, TWO, {"label_names": ("a", "a")}, None, "only once"),
        (labelled(range(30)), TWO, {}, None, "30 different labels in 30 rows.*--task similarity"),
        (labelled([f"id {n}" for n in range(30)]), TWO, {}, None, "is this the right column"),
        (labelled([n % 30 / 7 for n in range(300)]), TWO, {}, None, "too many for classes.*--task similarity"),
        (labelled([["a"], ["b"]]), TWO, {}, None, r"row 1: a label must be one name or number, got \['a'\]"),
        ([{"text": "x"}], TWO, {}, None, "no column 'label'; known are text. Map it with --column label=NAME"),
        ([{"txt": "x", "label": "a"}], TWO, {}, None, "no column 'text'; .*Did you mean 'txt'"),
        (TWO, TWO, {"columns": {"txt": "text"}}, None, "unknown column role 'txt'.*Did you mean 'text'"),
        ([*TWO, {"text": " "}, {"text": ""}], TWO, {}, None, r"rows 3 and 4 \(not counting the header\) with an empty text"),
        ([*TWO, {"label": "a"}], TWO, {}, None, r"row 3 \(not counting the header\) without a text"),
        ([{"text": 5, "label": "a"}], TWO, {}, None, "row 1: text must be text, got 5"),
        ([one | {"text_pair": "x"} for one in TWO], TWO, {}, None, "validation.*no column 'text_pair'"),
        (TWO, [one | {"text_pair": "x"} for one in TWO], {}, None, "has a column text_pair, but the train"),
        (TWO, TWO, {"train_rows": 3}, None, "train_rows is 3, but only 2"),
        (TWO, TWO, {"train_rows": 1}, None, "at least one row of each"),
        (TWO, None, {}, None, "2 rows are too few .*to split test rows off; give a file with --test"),
        (TWO, None, {"test_fraction": 0.5, "validation_fraction": 0.5}, None, "leave no train rows"),
        (TWO, None, {"group_column": "autor"}, None, r"no column 'autor' \(data.group_column\)"),
    ],
)
def test_refusals_of_classes(write, train, validation, settings, model, message):
    train, validation = write("train", train), validation and write("validation", validation)
    with pytest.raises(DataError, match=message):
        read_classes(train, validation, model=model, **settings)


def test_no_train_is_refused():
    with pytest.raises(DataError, match=r"data\.train is not given"):
        read(DataSettings(), Classification(), seed=0)


# Regression ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [[1, 2.5, None, math.nan], ["1", "2.5", None, ""]])
def test_numbers_stay_numbers(write, labels):
    train = [one | {"text_pair": "x"} for one in labelled(labels)]
    rows = read(DataSettings(train=write("train", train), validation=write("validation", train[:2])), Similarity(), seed=0)
    assert rows.label_names is None
    assert rows.pair
    assert rows.train["text_pair"][:] == ["x"] * 4
    assert rows.train.features["label"].dtype == "float64"
    assert rows.train["label"][:2] == [1.0, 2.5]
    assert all(math.isnan(value) for value in rows.train["label"][2:])
    assert any("2 of 4 train rows have no label" in note for note in rows.notes)


@pytest.mark.parametrize("label", ["good", "nan", "inf", True, 1e999])
def test_labels_that_are_no_finite_numbers_are_refused(write, label):
    path = write("train", labelled([label]))
    with pytest.raises(DataError, match=r"row 1: label .* is not a finite number; for classes use --task classification"):
        read(DataSettings(train=path, validation=path), Similarity(), seed=0)


def test_constant_numbers_are_refused(write):
    path = write("train", labelled([3, 3.0]))
    with pytest.raises(DataError, match=r"the one label 3\.0"):
        read(DataSettings(train=path, validation=path), Similarity(), seed=0)


# Splits -------------------------------------------------------------------------------------------------------------


def test_missing_splits_are_stratified_disjoint_and_reproducible(write):
    train = labelled(["a", "a", "a", "b"] * 50)
    train += train[:40]  # repeated texts
    path = write("train", train)
    rows = read_classes(path)
    splits = {"train": rows.train, "validation": rows.validation, "test": rows.test}
    texts = {name: set(split["text"]) for name, split in splits.items()}
    assert not texts["train"] & texts["validation"]
    assert not texts["train"] & texts["test"]
    assert not texts["validation"] & texts["test"]
    assert sum(map(len, splits.values())) == len(train)
    assert len(texts["validation"]) == len(texts["test"]) == 20
    for split in splits.values():
        assert abs(Counter(split["label"])[0] / len(split) - 0.75) <= 0.06
    assert not rows.test_is_validation
    assert sum("split off train (stratified, seed 0)" in note for note in rows.notes) == 2
    assert read_classes(path).facts() == rows.facts()
    backwards = read_classes(write("backwards", train[::-1]))
    assert set(backwards.test["text"]) == texts["test"]
    other = read(DataSettings(train=path), Classification(), seed=1)
    assert set(other.test["text"]) != texts["test"]


def test_only_validation_is_split_off_when_a_test_is_given(write):
    test = write("test", labelled(["a", "b"], "test"))
    rows = read_classes(write("train", labelled(["a", "b"] * 50)), test=test, validation_fraction=0.2)
    assert (len(rows.train), len(rows.validation), len(rows.test)) == (80, 20, 2)


def test_groups_stay_whole(write):
    train = [one | {"author": number % 20} for number, one in enumerate(labelled(["a", "b", "a"] * 40))]
    rows = read_classes(write("train", train), group_column="author", validation_fraction=0.2)
    author = {one["text"]: one["author"] for one in train}
    authors = [{author[text] for text in split["text"]} for split in (rows.train, rows.validation, rows.test)]
    assert [len(one) for one in authors] == [14, 4, 2]
    assert sum(map(len, authors)) == len(set.union(*authors))
    assert any("groups of author whole" in note for note in rows.notes)


def test_a_group_may_be_a_renamed_column_and_must_be_there(write):
    train = labelled(["a", "b"] * 20)
    rows = read_classes(write("train", train * 2), group_column="text", columns={"text": "text"})
    assert len(rows.train) % 2 == 0
    with pytest.raises(DataError, match=r"row 41 \(not counting the header\) without a author"):
        read_classes(write("train", [one | {"author": "x"} for one in train] + labelled(["a"])), group_column="author")


def test_unlabelled_rows_stay_in_train_unless_their_twin_left(write):
    train = labelled(["a", "b"] * 20)
    unlabelled = [{"text": one["text"]} for one in train] + [{"text": "alone", "label": None}]
    rows = read_classes(write("train", train + unlabelled))
    held_out = {*rows.validation["text"], *rows.test["text"]}
    assert UNLABELLED not in rows.validation["label"][:] + rows.test["label"][:]
    assert not held_out & set(rows.train["text"])
    assert "alone" in rows.train["text"][:]
    assert any("33 of 65 train rows have no label" in note for note in rows.notes)


def test_train_rows_keeps_a_stratified_seeded_subset(write):
    path = write("train", [*labelled(["a"] * 90 + ["b"] * 10), {"text": "unlabelled"}])
    validation = write("validation", labelled(["a", "b"], "other"))
    rows = read_classes(path, validation, train_rows=20)
    assert Counter(rows.train["label"]) == {0: 18, 1: 2, UNLABELLED: 1}
    again = read(DataSettings(train=path, validation=validation, train_rows=20), Classification(), seed=1)
    assert set(again.train["text"]) != set(rows.train["text"])
    assert set(read_classes(path, validation, train_rows=10).train["text"]) < set(rows.train["text"])


def test_duplicates_are_told_and_transfer_does_not_peek(write):
    train = write("train", labelled(["a", "b"]))
    validation = write("validation", [*labelled(["a"]), *labelled(["b", "b"], "validation")])
    transfer = write("transfer", [{"text": text} for text in ("row 0", "validation 0", "row 1", "new")])
    rows = read_classes(train, validation, transfer=transfer)
    assert rows.transfer["text"][:] == ["row 1", "new"]
    assert rows.transfer["label"][:] == [UNLABELLED] * 2
    assert rows.test_is_validation
    assert rows.test == rows.validation
    told = " ".join(rows.notes)
    assert "1 of 3 validation rows are also train rows" in told
    assert "2 of 4 transfer rows are also validation or test rows and were left out" in told
    assert "the validation rows, which also select the model, serve as test rows" in told
    with pytest.raises(DataError, match="every transfer row is also"):
        read_classes(train, validation, transfer=validation)


@pytest.mark.parametrize("pair", [False, True], ids=["single", "pairs"])
@pytest.mark.parametrize("task", [Classification(), Similarity()], ids=["classes", "numbers"])
@pytest.mark.parametrize("given", [("validation", "test"), ("validation",), ("test",), ()], ids=str)
@pytest.mark.parametrize("labelled_rows", [True, False], ids=["labels", "no labels"])
def test_no_text_of_a_held_out_row_is_left_in_plain_text(write, pair, task, given, labelled_rows):
    """A law: whichever side of a pair it is on, whoever made the split, and however it is written down."""

    def made(name: str, count: int, label: bool = True) -> str:
        rows = [{"text": f"{name} {place}\nand more", "label": float(place % 2)} for place in range(count)]
        if task.answer().kind == "class":
            rows = [row | {"label": "ab"[place % 2]} for place, row in enumerate(rows)]
        if pair:
            rows = [row | {"text_pair": f"{name} second {place}"} for place, row in enumerate(rows)]
        return write(name, rows if label else [{key: row[key] for key in row if key != "label"} for row in rows])

    files = {name: made(name, 12) for name in given}
    files |= {"train": made("train", 40)} if labelled_rows else {"transfer": made("transfer", 40, label=False)}
    every = [f"{name} {side}{place}" for name in ("train", "transfer", *given) for side in ("", "second ") for place in range(40)]
    raw = write("raw", [{"text": text} for one in every for text in (one, f"  {one.replace(' ', '   ')} ")] + [{"text": "new"}])
    rows = read(DataSettings(**files, raw=raw), task, seed=0, label_names=("a", "b") if task.answer().kind == "class" else None)
    sides = [
        text for part in (rows.validation, rows.test) for name in ("text", "text_pair") if name in part.column_names for text in part[name]
    ]
    held_out = {line for text in sides for line in text.splitlines()}
    left = {" ".join(text.split()) for text in rows.raw["text"]}
    assert "new" in left and not left & held_out and len(left) > 40
    gone = len(every) * 2 + 1 - len(rows.raw)
    assert f"{gone} of {len(every) * 2 + 1} raw texts are also texts of validation or test rows" in " ".join(rows.notes)
    assert gone == 2 * len(held_out & set(every))


def test_a_transfer_pair_is_left_out_in_either_order(write):
    train = write("train", [{"text": "a", "text_pair": "b", "label": one} for one in "xy"])
    validation = write("validation", [{"text": "c", "text_pair": "d", "label": "x"}])
    pairs = [("c", "d"), ("d", "c"), (" c", "d"), ("c", "e"), ("a", "b")]
    transfer = write("transfer", [{"text": one, "text_pair": other} for one, other in pairs])
    rows = read_classes(train, validation, transfer=transfer)
    assert list(zip(rows.transfer["text"], rows.transfer["text_pair"], strict=True)) == [("c", "e"), ("a", "b")]
    assert "3 of 5 transfer rows are also validation or test rows and were left out" in " ".join(rows.notes)


def test_transfer_labels_are_never_read(write):
    train, validation = write("train", labelled(["a", "b"])), write("validation", labelled(["a"], "other"))
    transfer = write("transfer", [{"text": "new", "label": "unknown"}, {"text": "newer", "label": 5}][:1])
    assert read_classes(train, validation, transfer=transfer).transfer["label"][:] == [UNLABELLED]
    renamed = {"text": "text", "label": "label"}
    bare = write("bare", [{"text": "new"}])
    assert len(read_classes(train, validation, transfer=bare, columns=renamed).transfer) == 1


# One source ---------------------------------------------------------------------------------------------------------


def test_read_one_maps_labels_into_the_models_order(write):
    path = write("other", [{"review": "fine", "stars": "pos"}])
    settings = DataSettings(columns={"text": "review", "label": "stars"})
    one = read_one(path, settings, Classification(), label_names=("neg", "pos"))
    assert one.to_list() == [{"identity": identity("fine"), "text": "fine", "label": 1}]
    with pytest.raises(DataError, match="none of the 2 classes of the model"):
        read_one(path, settings, Classification(), label_names=("a", "b"))


def test_read_one_without_labels_needs_none(write):
    path = write("bare", [{"text": "fine", "text_pair": "too"}])
    one = read_one(path, DataSettings(), Classification(), label_names=("a", "b"), labels=False)
    assert one["label"][:] == [UNLABELLED]
    assert one["text_pair"][:] == ["too"]
    number = read_one(path, DataSettings(), Similarity(), label_names=None, labels=False)
    assert math.isnan(number["label"][0])
    with pytest.raises(DataError, match="no column 'label'"):
        read_one(path, DataSettings(), Similarity(), label_names=None)


def test_read_one_takes_the_test_split_of_a_folder(write, tmp_path):
    write("train", labelled(["a", "b"]))
    write("test", labelled(["a"], "test"))
    assert read_one(str(tmp_path), DataSettings(), Classification(), label_names=("a", "b"))["text"][:] == ["test 0"]


@pytest.mark.parametrize(
    ("name", "task", "classes", "pair"),
    [
        ("trec6", Classification(), 6, False),
        ("quora_10k", Classification(), 2, True),
        ("stsb", Similarity(), None, True),
        ("clinc150", Classification(), 151, False),
        ("toutiao5", Classification(), 5, False),
    ],
)
def test_real_data_sets_are_read_whole(name, task, classes, pair):
    if not (REAL / name).is_dir():
        pytest.skip(f"no data set {name} in {REAL} (set UNDERSTUDY_DATA)")
    rows = read(DataSettings(train=str(REAL / name)), task, seed=0)
    assert rows.pair is pair
    assert rows.label_names is None if classes is None else len(rows.label_names) == classes
    for split in (rows.train, rows.validation, rows.test):
        assert len(split) >= 500
        assert split["label"][:] == split["label"][:]  # no NaN: all are labelled


@pytest.mark.parametrize("model", [("LABEL_0", "LABEL_1"), ("0", "1")])
def test_a_model_whose_classes_nobody_named_says_how_to_name_them(write, model):
    train = write("train", labelled(["bad", "good"] * 4))
    with pytest.raises(DataError, match=r"in this order: --set data.label_names=\[NAME_0,NAME_1\]"):
        read_classes(train, train, model=model)
    read_classes(train, train, model=model, label_names=["bad", "good"])


@pytest.mark.parametrize("task", [Classification, Similarity])
def test_columns_that_are_missing_are_named_together(task, write):
    given = write("train", [{"review": "a", "stars": 1}] * 4)
    for call in (
        lambda: read(DataSettings(train=given), task(), seed=0),
        lambda: read_one(given, DataSettings(), task(), label_names=None),
    ):
        with pytest.raises(DataError, match=r"no columns 'text' and 'label'; it has review, stars. .*label=NAME"):
            call()
    renamed = DataSettings(train=given, columns={"text": "body", "label": "mark"})
    with pytest.raises(DataError, match=r"no columns 'body' \(asked for as text\) and 'mark' \(asked for as label\)"):
        read(renamed, task(), seed=0)
    upper = write("train", [{"Text": "a", "Label": 1}] * 4)
    with pytest.raises(DataError, match=r"--column text=Text; no column 'label', but one 'Label'"):
        read_one(upper, DataSettings(), task(), label_names=None)
