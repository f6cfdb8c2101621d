"""Files as spreadsheets, databases and the hub write them: read alike whole and in a stream, or refused with the cause named."""

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import random
import re

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from understudy.data import sources
from understudy.data.delimited import dialect_of
from understudy.data.rows import read
from understudy.data.sources import read_folder_or_hub, read_table
from understudy.data.streams import stream_rows
from understudy.errors import DataError
from understudy.settings.data import DataSettings
from understudy.tasks.classification import Classification
from understudy.tasks.similarity import Similarity

HARD = [
    ("a film, long; dull | a\tbore", "bad"),
    ('he said "no"', "bad"),
    ("one line\nand another", "good"),
    ("  spaces ", "good"),
    ("电影很好看\u2028真的", "good"),
    ("3,5; 4,5; 5,5", "bad"),
    ("'single' it's", "good"),
    ("\\ back \\n slash", "bad"),
]
PLAIN = [("a film", "good"), ("no plot; dull", "bad"), ("fun", "good")]


def table(rows, mark=",", *, header=("text", "label"), quoting=csv.QUOTE_MINIMAL, end="\r\n", tail="") -> str:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=mark, quoting=quoting, lineterminator=tail + end).writerows([header, *rows])
    return buffer.getvalue()


def both(path, columns=None) -> list[tuple[str, str]]:
    """The texts with their labels, which the two ways of reading must agree on."""
    columns = columns or {}
    whole = read_table(str(path), columns)
    assert [text for text, _ in stream_rows(str(path), columns)] == whole["text"][:]
    return list(zip(whole["text"], whole["label"], strict=True))


ENCODINGS = {"plain": "utf-8", "mark": "utf-8-sig", "utf-16": "utf-16", "big": None}


@pytest.mark.parametrize("zipped", [False, True], ids=["", "gz"])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL], ids=["minimal", "all"])
@pytest.mark.parametrize("ending", [".csv", ".tsv"])
@pytest.mark.parametrize("mark", [",", ";", "\t", "|"], ids=["comma", "semicolon", "tab", "bar"])
def test_every_mark_under_every_ending(tmp_path, mark, ending, quoting, end, encoding, zipped):
    text = table(HARD, mark, quoting=quoting, end=end)
    content = text.encode(ENCODINGS[encoding]) if ENCODINGS[encoding] else codecs.BOM_UTF16_BE + text.encode("utf-16-be")
    path = tmp_path / f"rows{ending}{'.gz' * zipped}"
    path.write_bytes(gzip.compress(content) if zipped else content)
    assert both(path) == HARD


def test_random_tables_are_read_as_they_were_written(tmp_path):
    """Any texts, any mark, as `csv` quotes them: what comes out is what went in."""
    draw = random.Random(0)
    for number in range(150):
        mark = draw.choice(",;\t|")
        rows = [("".join(draw.choices('ab ,;\t|"\n', k=draw.randint(1, 9))) + "x", draw.choice("01")) for _ in range(draw.randint(1, 6))]
        path = tmp_path / f"{number}{draw.choice(['.csv', '.tsv'])}"
        path.write_bytes(table(rows, mark, quoting=draw.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])).encode())
        assert both(path) == rows, path.read_bytes()


READ = {
    "two nameless columns": ("text,label,,\n" + "a film,good,,\nno plot; dull,bad,,\nfun,good,,\n"),
    "rows with one more": "text,label\n" + "a film,good,\nno plot; dull,bad,\nfun,good,\n",
    "rows with less than the nameless": "text,label,,\na film,good,,\nno plot; dull,bad\nfun,good,\n",
    "spaces in the nameless": "text,label, ,\na film,good, ,\nno plot; dull,bad,,\nfun,good,,\n",
    "empty rows at the end": "text,label\na film,good\nno plot; dull,bad\nfun,good\n,\n,\n",
    "excel's own line": 'sep=;\r\ntext;label\r\na film;good\r\n"no plot; dull";bad\r\nfun;good\r\n',
    "excel's own line, saved again": 'sep=;;\ntext;label;\na film;good;\n"no plot; dull";bad;\nfun;good;\n',
    "excel's own line, a tab by its name": "sep=\\t\ntext\tlabel\na film\tgood\nno plot; dull\tbad\nfun\tgood\n",
    "excel's own line, not true": "sep=;\ntext,label\na film,good\nno plot; dull,bad\nfun,good\n",
    "blanks in empty rows at the end": "text,label\na film,good\nno plot; dull,bad\nfun,good\n , \n  \n,,\n",
    "nameless in the middle": "text,,label\na film,,good\nno plot; dull,,bad\nfun,,good\n",
    "blanks before quotes": '"text", "label"\n"a film", "good"\n"no plot; dull", "bad"\n"fun", "good"\n',
    "two marks of utf-8": "\ufeff\ufefftext,label\na film,good\nno plot; dull,bad\nfun,good\n",
    "invisible characters": "\u200btext\u00a0,label\ufeff\na film,good\nno plot; dull,bad\nfun,good\n",
    "excel's own line in quotes": '"sep=|"\ntext|label\na film|good\nno plot; dull|bad\nfun|good\n',
    "control z": "text,label\na film,good\nno plot; dull,bad\nfun,good\n\x1a",
    "old mac": "text,label\ra film,good\rno plot; dull,bad\rfun,good\r",
    "blank lines": "\n\ntext,label\n\na film,good\n\nno plot; dull,bad\nfun,good\n\n",
    "an index of pandas": ",text,label\n0,a film,good\n1,no plot; dull,bad\n2,fun,good\n",
    "spaces around names": " text , label \na film,good\nno plot; dull,bad\nfun,good\n",
    "mark and quotes": '\ufeff"text";"label"\n"a film";"good"\n"no plot; dull";"bad"\n"fun";"good"\n',
}


@pytest.mark.parametrize("name", READ)
def test_what_is_read(tmp_path, name):
    path = tmp_path / "rows.csv"
    path.write_bytes(READ[name].encode())
    assert both(path) == PLAIN


REFUSED = {
    "a value without a column": ("text,label,,\na film,good,,\na film, dull,bad,\n", "line 3: 'bad' is in a column without a name"),
    "ragged semicolons": ("text;label\na;good\nb; c;bad\n", "line 3: 3 fields, but the header has 2.* a semicolon"),
    "one row with one more": ("text,label\na film,good\na film, dull,\n", "line 3: 3 fields, but the header has 2"),
    "a header of nothing": (",,\na,b,c\n", "line 1: the header is empty"),
    "two marks": ("a;b|c\nd;e|f\n", "separated by a semicolon or by |, both fit; save the file with a comma"),
    "a title": ("Survey 2024\n\ntext,label\na film,good\n", "line 3: this looks like the header .text, label.|no column 'text'"),
    "a title with commas": ("Survey,\n,\ntext,label\na film,good\n", "line 3: this looks like the header|no column 'text'"),
    "a footer": ("text,label\na film,good\nTotal 1\n", "line 3: 1 field, but the header has 2; remove a line that is not a row"),
    "one column": ("text\na film\na film, dull\n", "line 3: 2 fields, but the header has 1; put quotes around|no column 'label'"),
    "another mark": ("text^label\na film^good\nfun^bad\n", "separated by a comma, a semicolon, a tab or"),
    "lines in quotes": ('"text,label"\n"a film,good"\n"fun,bad"\n', "Are these several names.*without quotes around the whole line"),
    "lines of objects": ('{"text": "a film", "label": "good"}\n', "line 1 is a JSON object; name the file .jsonl"),
    "latin": ("text,label\ncafé,good\n".encode("latin-1"), "line 2: not UTF-8 .byte 0xe9 at offset 14.*CSV UTF-8"),
    "utf-16 without a mark": ("text,label\na,good\n".encode("utf-16-le"), "UTF-16 without a byte order mark"),
    "half of utf-16": ("text,label\na,good\n".encode("utf-16")[:-1], "not UTF-16, as its byte order mark says"),
    "nothing": ("", "the file is empty"),
    "only a mark": (codecs.BOM_UTF8, "the file is empty"),
    "control z": ("\x1a", "the file is empty"),
    "no header": ("I would like my refund please,refund\nwhere is it,other\n", "no column 'text'.*is the header missing"),
    "no header, numbers": ("good,1\nbad,0\n", "no column 'text'.*is the header missing"),
    "capital columns": ("Text,Label\na,good\n", "no column 'text', but one 'Text'; read it with --column text=Text"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(tmp_path, name):
    content, message = REFUSED[name]
    path = tmp_path / "rows.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message) as streamed:
        list(stream_rows(str(path), {}))
    with pytest.raises(DataError, match=message) as whole:
        read(DataSettings(train=str(path), columns={"text": "text"}), Classification(), seed=0)
    assert str(path) in str(streamed.value) and str(path) in str(whole.value)


KINDS = {  # how files of other programs begin → what to do with them
    "workbook": (b"PK\x03\x04\x14\0", "save it as CSV"),
    "old workbook": (b"\xd0\xcf\x11\xe0\xa1\xb1", "save it as CSV"),
    "zstd": (b"\x28\xb5\x2f\xfd\x04", "zstd -d"),
    "bzip2": (bz2.compress(b"text,label"), "bunzip2"),
    "xz": (lzma.compress(b"text,label"), "unxz"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    "gzip": (gzip.compress(b"text,label"), "add .gz"),
    "arrow": (b"ARROW1\0\0", "save it as .parquet"),
    "page": (b"\n<!DOCTYPE html><html>", "a web page"),
    "parquet": (b"PAR1\x15\x04", "name it .parquet"),
}


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_kind_says_so_under_every_ending(tmp_path, kind, ending):
    start, remedy = KINDS[kind]
    path = tmp_path / f"rows{ending}"
    path.write_bytes(start + b"\0 text \n" * 20)
    expected = "not a parquet file" if ending == ".parquet" and kind in ("page", "parquet") else remedy
    for reading in (lambda: read_table(str(path), {}), lambda: list(stream_rows(str(path), {}))):
        with pytest.raises(DataError, match=re.escape(expected)):
            reading()


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_a_table_under_the_name_of_a_text_file(tmp_path, mark):
    path = tmp_path / "rows.txt"
    path.write_text(table(PLAIN, mark), encoding="utf-16", newline="")
    with pytest.raises(DataError, match=r"looks like a header .text, label.; .* name a table .csv or .tsv"):
        list(stream_rows(str(path), {}))
    path.write_text(f"text{mark} and more of it{'x' * 200_000}\nsecond{mark} line\n")
    assert len(list(stream_rows(str(path), {}))) == 2


def test_an_ending_that_is_not_read_says_what_to_do(tmp_path):
    for ending, remedy in sources._INSTEAD.items():
        path = tmp_path / f"rows{ending}"
        path.write_text("text")
        with pytest.raises(DataError, match=re.escape(remedy)):
            read_table(str(path), {})
    (tmp_path / "rows").write_text("text")
    with pytest.raises(DataError, match=r"its name has no ending that says its format; allowed are \.jsonl"):
        read_table(str(tmp_path / "rows"), {})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", '[{"text": "a"}]', "a list of all rows is a .json file"),
        ("rows.json", '{"text": {"0": "a"}}', 'orient="records"'),
        ("rows.json", '{"columns": ["text"], "data": [["a"]]}', 'orient="records"'),
    ],
)
def test_json_of_other_shapes(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_table(str(tmp_path / name), {})


def test_a_missing_label_is_one_clean_sentence(tmp_path):
    """Whatever the first sentence ends in, the second follows it."""
    for header in ("text", "text,Label", "text,lable", "a long text of many words", "text,the\nkind"):
        (tmp_path / "rows.csv").write_text(f'"{header}"\nx\n' if "\n" in header else f"{header}\n{header}\n")
        with pytest.raises(DataError) as refused:
            read(DataSettings(train=str(tmp_path / "rows.csv")), Classification(), seed=0)
        assert "\n" not in str(refused.value) and not re.search(r"[.?!][.?!]", str(refused.value))


def test_a_column_of_texts_is_not_split(tmp_path):
    (tmp_path / "rows.csv").write_text("text\nfine; really\ndull; slow\n\ta tab\n")
    assert [text for text, _ in stream_rows(str(tmp_path / "rows.csv"), {})] == ["fine; really", "dull; slow", "\ta tab"]
    (tmp_path / "own.csv").write_text('review; as written\n"one; two"\nthree; four\n')
    assert read_table(str(tmp_path / "own.csv"), {"text": "review; as written"})["text"][:] == ["one; two", "three; four"]


def test_a_name_that_is_asked_for_decides():
    sample = ["id,a;text\n", "1,b;c\n", "2,d;e\n"]
    assert dialect_of("x", sample, ["text"], default=",").mark == ";" and dialect_of("x", sample, ["id"], default=",").mark == ","


def test_long_files_are_judged_by_their_beginning(tmp_path):
    rows = [(f"row {number}; " + "x\n" * (number % 3), "01"[number % 2]) for number in range(3000)]
    (tmp_path / "rows.csv").write_text(table(rows, ";"), newline="")
    assert both(tmp_path / "rows.csv") == rows


# --- parquet and shards


def write(folder, name, rows, **changes):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = {"text": [text for text, _ in rows], "label": [label for _, label in rows]} | changes
    if ".parquet" in name:
        pq.write_table(pa.table(frame), path)
    elif ".jsonl" in name:
        path.write_text("".join(json.dumps(dict(zip(frame, row, strict=True))) + "\n" for row in zip(*frame.values(), strict=True)))
    else:
        path.write_text(table(list(zip(*frame.values(), strict=True)), header=tuple(frame)), newline="")


SHARDS = {
    "hub": ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"],
    "in data": ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"],
    "with a hash": ["data/train-00000-of-00002-a09b74b3ef9c3b56.parquet", "data/train-00001-of-00002-b09b74b3ef9c3b56.parquet"],
    "lines": ["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"],
    "csv": ["train-00000-of-00002.csv", "train-00001-of-00002.csv"],
    "numbered": ["train-1.csv", "train-2.csv"],
    "capitals": ["Train-1.csv", "Train-2.csv"],
    "folders": ["train/0000.csv", "train/0001.csv"],
    "folders in data": ["data/train/part-0.parquet", "data/train/part-1.parquet"],
    "a configuration": ["plain_text/train-00000-of-00002.parquet", "plain_text/train-00001-of-00002.parquet"],
    "converted by the hub": ["default/train/0000.parquet", "default/train/0001.parquet"],
    "a cache of the hub": [f"snapshots/a09b74/data/train-0000{number}-of-00002.parquet" for number in (0, 1)],
    "spark": [f"train/part-0000{number}-5e9b0e4c-1111-2222-3333-444455556666-c000.snappy.parquet" for number in (0, 1)],
}


@pytest.mark.parametrize("name", SHARDS)
def test_shards_are_one_split(tmp_path, name):
    (tmp_path / "README.md").write_text("# A data set")
    for number, file in enumerate(SHARDS[name]):
        write(tmp_path, file, PLAIN[number * 2 : number * 2 + 2])
    folder, _, file = SHARDS[name][0].rpartition("/")
    folder = folder.removesuffix("train")
    write(tmp_path, f"{folder}/validation-00000-of-00001.{file.rpartition('.')[2]}".lstrip("/"), HARD[:2])
    found = read_folder_or_hub(str(tmp_path), {})
    assert found["train"]["text"][:] == [text for text, _ in PLAIN] and list(found) == ["train", "validation"]
    assert [text for text, _ in stream_rows(str(tmp_path), {})] == found["validation"]["text"][:]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["train-00000-of-00003.parquet", "train-00002-of-00003.parquet"], "part 00001 is missing .2 of 3 files"),
        (["train-0.csv", "train-3.csv"], "part 00001, 00002 is missing"),
        (["train.csv", "train-00000-of-00001.csv"], "are both train"),
        (["train.csv", "train.jsonl"], "are both train"),
        (["train-00000-of-00001.csv", "train-00000-of-00001.jsonl"], "are both train"),
        (["train/0000.csv", "train/0002.csv"], "part 00001 is missing"),
        (["train.csv", "train/0.csv"], "are both train"),
        (["train/a.csv", "train/b.csv"], "no numbered parts of one format"),
        (["one/train.csv", "two/train.csv"], "several data sets: .*one, .*two"),
        (["imdb-train.csv", "imdb-test.csv"], "it holds imdb-test.csv, imdb-train.csv. It needs"),
        ([], "it is empty. It needs"),
    ],
)
def test_shards_that_do_not_fit(tmp_path, files, message):
    for file in files:
        write(tmp_path, file, PLAIN)
    with pytest.raises(DataError, match=message):
        read_folder_or_hub(str(tmp_path), {})


def test_shards_of_other_columns_and_a_single_one(tmp_path):
    write(tmp_path, "train-00000-of-00002.parquet", PLAIN)
    write(tmp_path, "train-00001-of-00002.parquet", PLAIN, more=[1, 2, 3])
    with pytest.raises(DataError, match=r"train-00001-of-00002.parquet: has the columns text, label, more, but"):
        read_folder_or_hub(str(tmp_path), {})
    notes: list[str] = []
    read_table(str(tmp_path / "train-00000-of-00002.parquet"), {}, notes)
    assert "is one of 2 shards, and only it is read" in notes[0]


@pytest.mark.parametrize(
    "metadata",
    [
        {b"huggingface": b"{"},
        {b"huggingface": b'{"info": 3}'},
        {b"huggingface": b'{"info": {"features": {"label": [1]}}}'},
        {b"huggingface": b'{"info": {"features": {"number": {"_type": "ClassLabel", "names": ["one", "two"]}}}}'},
        {b"huggingface": b'{"info": {"features": {"number": {"_type": "ClassLabel", "names": [3, 4, 5, 6, 7, 8]}}}}'},
        {b"pandas": b"{"},
        {b"huggingface": b'{"info": {"features": {"text": {"_type": "FromTomorrow"}}}}'},
    ],
)
def test_odd_metadata_is_ignored(tmp_path, metadata):
    data = pa.table({"text": ["a", "b"], "label": ["x", "y"], "number": [0, 5]}).replace_schema_metadata(metadata)
    pq.write_table(data, tmp_path / "rows.parquet")
    notes: list[str] = []
    assert read_table(str(tmp_path / "rows.parquet"), {}, notes)["label"][:] == ["x", "y"]
    assert len(notes) == (b"huggingface" in metadata and b"Tomorrow" not in metadata[b"huggingface"])


def test_a_folder_elsewhere_is_named_and_files_of_others_are_passed_over(tmp_path):
    for file in ("one/train.csv", "one/_train.csv", "one/~train.csv", "one/.train.csv"):
        write(tmp_path, file, PLAIN)
    (tmp_path / "one" / "dataset_info.json").write_text("{}")
    notes: list[str] = []
    assert len(read_folder_or_hub(str(tmp_path), {}, notes)["train"]) == 3
    assert notes == [f"{tmp_path}: read from {tmp_path / 'one'}."]


def test_numbered_files_without_a_split_are_rows_to_learn_from(tmp_path):
    for number in (0, 1):
        write(tmp_path, f"{number:04}.parquet", PLAIN)
    assert list(read_folder_or_hub(str(tmp_path), {})) == ["train"]


def test_texts_that_are_stored_as_bytes(tmp_path):
    write(tmp_path, "rows.parquet", [(b"caf\xc3\xa9", b"good"), (b"b", b"bad")])
    table = read_table(str(tmp_path / "rows.parquet"), {})
    assert table["text"][:] == ["café", "b"] and table["label"][:] == ["good", "bad"]
    write(tmp_path, "rows.parquet", [(b"caf\xe9", b"good"), (b"b", b"bad")])
    with pytest.raises(DataError, match="text must be text"):
        read(DataSettings(train=str(tmp_path / "rows.parquet")), Classification(), seed=0)


def test_every_kind_of_column(tmp_path):
    """Labels of any type are classes by their names; what is missing is unlabelled; other columns hold what they like."""
    texts = [f"text {number}" for number in range(30)]
    kinds = {
        "text": (["bad", "good"] * 15, None),
        "dictionary": (["bad", "good"] * 15, pa.dictionary(pa.int8(), pa.string())),
        "large": (["bad", "good"] * 15, pa.large_string()),
        "bool": ([False, True] * 15, pa.bool_()),
        "int": ([0, 1] * 15, pa.int8()),
        "float": ([0.0, 1.0] * 15, pa.float32()),
        "missing": (["bad", "good", None] * 10, None),
        "nan": ([0.0, 1.0, float("nan")] * 10, None),
    }
    for kind, (labels, type_) in kinds.items():
        columns = {
            "text": pa.array(texts, pa.large_string()),
            "label": pa.array(labels, type_, from_pandas=False),
            "list": [[1, 2]] * 30,
            "struct": [{"a": 1}] * 30,
        }
        pq.write_table(pa.table(columns), tmp_path / f"{kind}.parquet")
        rows = read(DataSettings(train=str(tmp_path / f"{kind}.parquet")), Classification(), seed=0)
        names = {"bool": ("false", "true"), "int": ("0", "1"), "float": ("0", "1"), "nan": ("0", "1")}
        assert rows.label_names == names.get(kind, ("bad", "good")), kind
        assert list(rows.train["label"]).count(-100) == 10 * (kind in ("missing", "nan"))


def test_class_labels_of_datasets_bring_their_names(tmp_path):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["good", "bad"])})
    data = datasets.Dataset.from_dict({"text": [f"t{n}" for n in range(30)], "label": [0, 1] * 15}, features=features)
    for number in (0, 1):
        data.shard(2, number).to_parquet(tmp_path / f"train-0000{number}-of-00002.parquet")
    assert read(DataSettings(train=str(tmp_path)), Classification(), seed=0).label_names == ("good", "bad")


def test_numbers_with_a_decimal_comma(tmp_path):
    texts = [f"text {number}" for number in range(30)]
    frame = pd.DataFrame({"text": texts, "text_pair": texts, "label": [0.5, 2.25, 3.0] * 10})
    frame.to_csv(tmp_path / "rows.csv", sep=";", decimal=",", index=False)
    rows = read(DataSettings(train=str(tmp_path / "rows.csv")), Similarity(), seed=0)
    assert set(rows.train["label"]) == {0.5, 2.25, 3.0}
    frame["label"] = ["1,250", "2,500", "3,125"] * 10
    frame.to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(DataError, match="thousands or decimals"):
        read(DataSettings(train=str(tmp_path / "rows.csv")), Similarity(), seed=0)
