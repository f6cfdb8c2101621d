"""Rows with several labels or none: however a file writes them, and what is asked of them before a training."""

import json

import datasets
import numpy as np
import pytest

from understudy.data.rows import facts_of, labelled, read, read_one
from understudy.data.tables import UNLABELLED
from understudy.errors import DataError
from understudy.settings.data import DataSettings
from understudy.tasks.classification import Classification
from understudy.tasks.multilabel import Multilabel

NAMES = ("anger", "joy", "love")
WANTED = [["joy", "love"], [], ["anger"], None, ["joy"]]
NUMBERS = [[1, 2], [], [0], None, [1]]


def as_jsonl(path, labels):
    path.write_text("".join(json.dumps({"text": f"text {row}", "labels": one}) + "\n" for row, one in enumerate(labels)))


def as_csv(write):
    def written(path, labels):
        rows = [f'text {row},"{"" if one is None else write(one)}"' for row, one in enumerate(labels)]
        path.write_text("\n".join(["text,labels", *rows]) + "\n")

    return written


def as_parquet(path, labels):
    texts = [f"text {row}" for row in range(len(labels))]
    datasets.Dataset.from_dict({"text": texts, "labels": labels}).to_parquet(path)


def with_class_labels(path, labels):
    kind = datasets.List(datasets.ClassLabel(names=list(NAMES)))
    features = datasets.Features({"text": datasets.Value("string"), "labels": kind})
    texts = [f"text {row}" for row in range(len(labels))]
    datasets.Dataset.from_dict({"text": texts, "labels": labels}, features=features).to_parquet(path)


def joined(mark):
    return lambda labels: mark.join(map(str, labels)) or "[]"


def as_json(labels):
    return json.dumps(labels).replace('"', '""')


WAYS = {
    "jsonl": ("rows.jsonl", as_jsonl),
    "parquet": ("rows.parquet", as_parquet),
    "comma": ("rows.csv", as_csv(joined(", "))),
    "bar": ("rows.csv", as_csv(joined("|"))),
    "semicolon": ("rows.csv", as_csv(joined(";"))),
    "a list as JSON": ("rows.csv", as_csv(as_json)),
    "a list as Python": ("rows.csv", as_csv(str)),
}


@pytest.mark.parametrize("labels", [WANTED, NUMBERS], ids=["names", "numbers"])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_write_several_labels_is_the_same(tmp_path, way, labels):
    name, write = WAYS[way]
    write(tmp_path / name, labels)
    rows = read_one(str(tmp_path / name), DataSettings(), Multilabel(), label_names=NAMES, labels="some")
    found = np.asarray(rows["label"])
    assert found.tolist() == [[0, 1, 1], [0, 0, 0], [1, 0, 0], [UNLABELLED] * 3, [0, 1, 0]]
    assert len(labelled(rows)) == 4, "an empty list is an answer; a missing one is none"


def test_names_that_a_data_set_carries(tmp_path):
    with_class_labels(tmp_path / "rows.parquet", NUMBERS)
    rows = read_one(str(tmp_path / "rows.parquet"), DataSettings(), Multilabel(), label_names=None, labels="some")
    assert np.asarray(rows["label"])[0].tolist() == [0, 1, 1]
    assert len(facts_of(rows)["sha256"]) == 64


def test_another_name_for_the_column(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("comment,feelings\na,joy|love\nb,anger\n")
    for our in ("labels", "label"):
        settings = DataSettings(columns={"text": "comment", our: "feelings"})
        rows = read_one(str(path), settings, Multilabel(), label_names=NAMES)
        assert np.asarray(rows["label"]).tolist() == [[0, 1, 1], [1, 0, 0]]
    with pytest.raises(DataError, match=r"no columns 'text' and 'labels'; it has comment, feelings"):
        read_one(str(path), DataSettings(), Multilabel(), label_names=NAMES)


WRONG = {
    "unknown": ([["joy"], ["jo"]], "row 2: label 'jo' is none of the 3 classes of the model: .*Did you mean 'joy'"),
    "nameless": ([["joy", None]], "row 1: a label without a name in .*; an empty list says that none applies"),
    "nested": ([[["joy"]]], "row 1: a label must be one name or number"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_label_is_named_with_its_row(tmp_path, name):
    labels, message = WRONG[name]
    as_jsonl(tmp_path / "rows.jsonl", labels)
    with pytest.raises(DataError, match=message):
        read_one(str(tmp_path / "rows.jsonl"), DataSettings(), Multilabel(), label_names=NAMES)


def test_a_list_that_cannot_be_read(tmp_path):
    (tmp_path / "rows.csv").write_text('text,labels\na,"[joy, love"\nb,"[joy love]"\n')
    with pytest.raises(DataError, match="row 2: a list of labels that cannot be read"):
        read_one(str(tmp_path / "rows.csv"), DataSettings(), Multilabel(), label_names=("[joy", "love"))


def many(tmp_path, rows=200, name="train"):
    """Each label on a share of the rows of its own, the last on 1 in 20; some rows have none, one in ten is unlabelled."""
    random = np.random.default_rng(0)
    held = random.random((rows, 3)) < (0.5, 0.3, 0.05)
    labels = [None if row % 10 == 9 else [NAMES[place] for place in np.flatnonzero(one)] for row, one in enumerate(held)]
    as_jsonl(tmp_path / f"{name}.jsonl", labels)
    return str(tmp_path / f"{name}.jsonl")


def test_splits_keep_the_rarest_label_in_every_part(tmp_path):
    rows = read(DataSettings(train=many(tmp_path), train_rows=60), Multilabel(), seed=0)
    assert rows.label_names == NAMES
    for part, count in (("train", 80), ("validation", 18), ("test", 18)):
        found = labelled(getattr(rows, part))
        assert len(getattr(rows, part)) == count and np.asarray(found["label"]).any(axis=0).all(), part
    notes = " ".join(rows.notes)
    assert "stratified" in notes and "of them on average" in notes
    assert "20 of 80 train rows have no label; they are read as unlabelled text; where none applies, write an empty list, []" in notes


def test_what_a_person_would_have_stopped_at(tmp_path):
    labels = [["joy", "Joy"], ["joy"], ["love", "nan"], ["joy", "love"]] * 10
    as_jsonl(tmp_path / "rows.jsonl", labels)
    notes: list[str] = []
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    lines += [lines[0] | {"labels": ["love"]}, lines[1]]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    read_one(str(tmp_path / "rows.jsonl"), DataSettings(), Multilabel(), label_names=None, notes=notes)
    told = "\n".join(notes)
    assert "differ only in case" in told and "10 rows have the label 'nan'" in told
    assert "1 text has labels that differ (in test), as 'text 0' has 'Joy, joy' and 'love'; keep one row for each" in told
    assert "1 of 42 test rows repeat another of them" in told and "looks like several" not in told


def test_a_label_that_training_never_saw(tmp_path):
    as_jsonl(tmp_path / "train.jsonl", [["joy"], ["love"], []] * 4)
    as_jsonl(tmp_path / "test.jsonl", [["joy"], ["joy", "anger"]])
    settings = DataSettings(train=str(tmp_path / "train.jsonl"), test=str(tmp_path / "test.jsonl"), label_names=NAMES)
    with pytest.raises(DataError, match=r"test.jsonl: row 2: label 'anger' never occurs in .*train.jsonl, which has joy, love"):
        read(settings, Multilabel(), seed=0)
    as_jsonl(tmp_path / "train.jsonl", [["joy"]] * 4)
    with pytest.raises(DataError, match="all 4 labelled rows have the one label 'joy'"):
        read(DataSettings(train=str(tmp_path / "train.jsonl")), Multilabel(), seed=0)


def test_one_label_a_row_says_which_task_is_for_several(tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\n" + "a,joy|love\nb,joy\nc,love\n" * 9)
    notes: list[str] = []
    read_one(str(tmp_path / "rows.csv"), DataSettings(), Classification(), label_names=None, notes=notes)
    assert any("give --task multilabel" in note for note in notes)
