"""Reading files: every format gives the same rows, every damage one clear message."""

import csv
import gzip
import io
import json

import datasets
import pytest

from understudy.data.sources import FORMATS, read_folder_or_hub, read_table
from understudy.errors import DataError

ROWS = [
    {"text": 'a "gripping" film, and\ta moving one', "label": "good"},
    {"text": "电影很好看\u2028真的", "label": "good"},
    {"text": "too long", "label": "bad"},
]


def encoded(ending: str, rows=ROWS) -> bytes:
    if ending == ".jsonl":
        return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()
    if ending == ".json":
        return json.dumps(rows).encode()
    buffer = io.StringIO()
    if ending == ".parquet":
        parquet = io.BytesIO()
        datasets.Dataset.from_list(rows).to_parquet(parquet)
        return parquet.getvalue()
    writer = csv.DictWriter(buffer, list(rows[0]), delimiter="," if ending == ".csv" else "\t")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_gives_the_same_rows(tmp_path, ending, compressed):
    path = tmp_path / f"rows{ending}{'.gz' if compressed else ''}"
    path.write_bytes(gzip.compress(encoded(ending)) if compressed else encoded(ending))
    assert read_table(str(path), {}).to_list() == ROWS
    renamed = read_table(str(path), {"sentence": "text"}).to_list()
    assert [row["sentence"] for row in renamed] == [row["text"] for row in ROWS]


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("bom.csv", b"\xef\xbb\xbftext,label\r\nfine,1\r\n", ["fine"]),
        ("two lines.csv", b'text,label\n"one\ntwo",1\n', ["one\ntwo"]),
        ("literal quotes.tsv", b'text\tlabel\n"Hello," he said\t1\n5" tall\t0\n', ['"Hello," he said', '5" tall']),
        ("data.json", b'{"version": 1, "data": [{"text": "a"}]}', ["a"]),
        ("blank lines.jsonl", b'\xef\xbb\xbf{"text": "a"}\r\n\r\n{"text": "b"}\r\n', ["a", "b"]),
    ],
)
def test_what_is_found_in_the_wild_is_read(tmp_path, name, content, texts):
    (tmp_path / name).write_bytes(content)
    assert read_table(str(tmp_path / name), {})["text"][:] == texts


GOOD_LINE = b'{"text": "a"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.txt", b"a", "cannot read a '.txt' file .allowed are .jsonl"),
        ("rows.csv", b"", "the file is empty"),
        ("rows.jsonl", b"\n \n", "the file is empty"),
        ("rows.csv", b"text,label\n", "the file has no rows"),
        ("rows.json", b"[]", "the file has no rows"),
        ("rows.jsonl", GOOD_LINE + b'{"text": "caf\xe9"}', r"line 2: not UTF-8 \(byte 0xe9 at offset 27\); save the file as UTF-8"),
        ("rows.jsonl", GOOD_LINE + b'{"text": \n', "line 2: broken JSON"),
        ("rows.jsonl", GOOD_LINE + b'["a"]\n', r'line 2: a row must be a JSON object .* got \["a"\]'),
        ("rows.json", b'[{"text": "a"},\n {"text" "b"}]', "line 2: broken JSON"),
        ("rows.json", GOOD_LINE * 2, "name it .jsonl"),
        ("rows.json", b'[{"text": "a"}, 3]', "item 2: a row must be a JSON object"),
        ("rows.json", b'{"rows": []}', "a list of objects is needed"),
        ("rows.csv", b'text,label\n"x\ny",1\na,b,c\n', "line 4: 3 fields, but the header has 2"),
        ("rows.tsv", b"text\tlabel\na\n", "line 2: 1 field, but the header has 2"),
        ("rows.csv", b'text,label\n"a" b,1\n', "line 2: broken quoting"),
        ("rows.csv", b"text,text\na,b\n", "column 'text' appears twice in the header"),
        ("rows.csv.gz", gzip.compress(b"text\na\n" * 99, mtime=0)[:-9], "the gzip file is truncated"),
        ("rows.csv.gz", b"text\na\n", "not a gzip file"),
        ("rows.csv", gzip.compress(b"text\na\n", mtime=0), "add .gz to its name"),
        ("rows.parquet", b"PAR1 no", "not a parquet file"),
        ("rows.jsonl", b'{"text": "a"}\n{"text": 5}', "column 'text' mixes types: row 1 is \"a\", row 2 is 5"),
        ("rows.jsonl", b'{"text": "\\ud800"}', "row 1: column 'text' holds half a character"),
    ],
)
def test_damage_is_named_with_its_place(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_table(str(path), {})
    assert str(caught.value).startswith(str(path))


def test_missing_file_names_the_near_one(tmp_path):
    (tmp_path / "train.jsonl.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"train\.jsonl: no such file\. Did you mean '.*train\.jsonl\.gz'"):
        read_table(str(tmp_path / "train.jsonl"), {})


def test_renaming_replaces_a_column_of_our_name_and_refuses_an_unknown_one(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text,review\nold,new\n")
    assert read_table(str(path), {"text": "review"}).to_list() == [{"text": "new"}]
    with pytest.raises(DataError, match=r"no column 'reviews' .*known are text, review. Did you mean 'review'"):
        read_table(str(path), {"text": "reviews"})
    with pytest.raises(DataError, match="mapped to two roles"):
        read_table(str(path), {"text": "review", "label": "review"})


def test_other_columns_may_hold_anything(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "meta": {"x": [1]}}\n{"text": "b", "meta": 5, "more": null}\n')
    assert read_table(str(path), {})["text"][:] == ["a", "b"]


def test_folder_gives_its_splits(tmp_path):
    for name, ending in (("train", ".csv"), ("dev", ".jsonl"), ("test", ".parquet")):
        (tmp_path / f"{name}{ending}").write_bytes(encoded(ending))
    (tmp_path / "README.md").write_text("no split")
    splits = read_folder_or_hub(str(tmp_path), {})
    assert list(splits) == ["train", "validation", "test"]
    assert all(split.to_list() == ROWS for split in splits.values())
    (tmp_path / "valid.json").write_bytes(encoded(".json"))
    with pytest.raises(DataError, match=r"dev.jsonl and valid.json are both validation"):
        read_folder_or_hub(str(tmp_path), {})


def test_saved_data_set_gives_its_splits_renamed(tmp_path):
    split = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict(train=split, valid=split).save_to_disk(tmp_path / "saved")
    splits = read_folder_or_hub(str(tmp_path / "saved"), {"sentence": "text"})
    assert list(splits) == ["train", "validation"]
    assert splits["validation"]["sentence"][:] == [row["text"] for row in ROWS]


def test_hub_names_and_configurations_reach_the_hub_and_its_errors_the_user(monkeypatch):
    asked = []

    def load_dataset(repository, configuration):
        asked.append((repository, configuration))
        if repository != "owner/name":
            raise ConnectionError("no network\nmany lines")
        return datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert list(read_folder_or_hub("owner/name:part", {})) == ["train"]
    assert asked == [("owner/name", "part")]
    with pytest.raises(DataError, match=r"owner/other: no such file or folder here, and the hub .*\(no network\)"):
        read_folder_or_hub("owner/other", {})
    with pytest.raises(DataError, match="no such file or folder"):
        read_folder_or_hub("../not/a/hub/name", {})


def test_folder_without_splits_says_what_it_needs(tmp_path):
    with pytest.raises(DataError, match=r"no split in this folder; it is empty. It needs train\.\*"):
        read_folder_or_hub(str(tmp_path), {})
