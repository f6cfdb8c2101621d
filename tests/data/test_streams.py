"""Files read as they are used: the same rows as read whole, a little at a time, and each broken line named."""

import csv
import gzip
import json

import pytest

from understudy.data.sources import read_table
from understudy.data.streams import stream_lines, stream_records, stream_rows
from understudy.errors import DataError

FILES = {
    "rows.jsonl": '{"text": "a, b", "text_pair": "c"}\n\n{"text": "line\\nbreak\u2028", "text_pair": "d", "more": 1}\n',
    "rows.csv": 'label,text,text_pair\n1,"a, b",c\n0,"line\nbreak ""x""",d\n',
    "rows.tsv": 'text\ttext_pair\n"a\tb"\tc\nd\te\n',
    "literal.tsv": 'text\ttext_pair\n5" by 3"\tc\n"open\te\n',
    "rows.json": '[{"text": "a", "text_pair": "b"}, {"text": "c", "text_pair": "d"}]',
}


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("name", FILES)
def test_as_read_whole(name, zipped, tmp_path):
    path = tmp_path / (name + ".gz" * zipped)
    path.write_bytes(gzip.compress(FILES[name].encode()) if zipped else FILES[name].encode())
    whole = read_table(str(path), {})
    rows = list(stream_rows(str(path), {}))
    assert rows == list(zip(whole["text"], whole["text_pair"], strict=True)) and len(rows) == 2


def test_text_files_and_other_names(tmp_path):
    (tmp_path / "rows.txt").write_bytes("\ufeffeins\r\n\r\nzwei\n".encode())
    assert list(stream_rows(str(tmp_path / "rows.txt"), {})) == [("eins", None), ("zwei", None)]
    (tmp_path / "rows.csv").write_text("review,stars\ngood,5\n")
    assert list(stream_rows(str(tmp_path / "rows.csv"), {"text": "review", "label": "stars"})) == [("good", None)]
    (tmp_path / "rows.jsonl").write_text('{"review": "good"}\n')
    assert list(stream_rows(str(tmp_path / "rows.jsonl"), {"text": "review"})) == [("good", None)]


def test_a_little_at_a_time(tmp_path):
    """The first row comes while most of the file is unread; in the end all of it was."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": f"row {row} " * 20}) + "\n" for row in range(10_000)))
    read: list[int] = []
    rows = stream_records(str(path), {}, progress=read.append)
    next(rows)
    assert read[0] < path.stat().st_size / 10
    assert len(list(rows)) == 9_999 and read[-1] == path.stat().st_size


BROKEN = {
    "rows.jsonl": [
        (b'{"text": "a"}\n{"text": \n', "line 2: broken JSON"),
        (b'{"text": "a"}\n[1]\n', "line 2: a row must be a JSON object"),
        (b'{"text": "a"}\n{"txt": "a"}\n', "line 2: no column 'text'; .*Did you mean 'txt'"),
        (b'{"text": "a"}\n\xff\n', "line 2: not UTF-8 .byte 0xff"),
    ],
    "rows.csv": [
        (b"text,label\na,1\nb\n", "line 3: 1 field, but the header has 2"),
        (b'text\n"a\n', "broken quoting"),
        (b"review\na\n", "no column 'text'; known are review.*--column text=NAME"),
        (b"text\ncaf\xe9\n", "line 2: not UTF-8 .byte 0xe9"),
        (b"", "the file is empty"),
    ],
    "rows.tsv": [(b"text\tlabel\na\t1\nb\n", "line 3: 1 field")],
    "rows.jsonl.gz": [(b"nothing", "not a gzip file"), (gzip.compress(b'{"text": "a"}\n' * 9)[:-9], "truncated")],
    "rows.xlsx": [(b"x", "cannot read a '.xlsx' file")],
}


@pytest.mark.parametrize(("name", "number"), [(name, number) for name in BROKEN for number in range(len(BROKEN[name]))])
def test_broken_files(name, number, tmp_path):
    content, message = BROKEN[name][number]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        list(stream_rows(str(tmp_path / name), {}))
    assert str(error.value).startswith(str(tmp_path / name))


def test_names_that_are_not_there(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(DataError, match=r"no such file. Did you mean '.*rows.jsonl'"):
        list(stream_rows(str(tmp_path / "row.jsonl"), {}))
    with pytest.raises(DataError, match="--column txt: unknown column role"):
        list(stream_rows(str(tmp_path / "rows.jsonl"), {"txt": "text"}))
    with pytest.raises(DataError, match=r"no column 'review' \(asked for as text\); known are text\.?$"):
        list(stream_rows(str(tmp_path / "rows.jsonl"), {"text": "review"}))


def rows_of(*lines: str, **columns: str) -> list:
    return [row for row, _ in stream_lines([f"{line}\n".encode() for line in lines], columns)]


def test_standard_input():
    assert rows_of("\ufeffone", "", '{"text": "two"}') == [("one", None), ('{"text": "two"}', None)]
    assert rows_of('{"text": "one", "text_pair": "1"}', '{"text": "two"}') == [("one", "1"), ("two", None)]
    assert rows_of("{not rows}", "[1]") == [("{not rows}", None), ("[1]", None)]
    with pytest.raises(DataError, match="standard input: line 2: broken JSON"):
        rows_of('{"text": "one"}', "two")
    with pytest.raises(DataError, match="line 1: no column 'text'; known are message"):
        rows_of('{"message": "one"}', '{"message": "two"}')
    assert rows_of('{"message": "one"}', text="message") == [("one", None)]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_table_on_standard_input(mark):
    """What `cat rows.csv |` brings is read as the file is, or refused with the way out; its header is never a text."""
    header, *lines = (line.replace("|", mark) for line in ("id|message", '0|"one, two"', '1|"and; a\tthird"'))
    wanted = [("one, two", None), ("and; a\tthird", None)]
    assert rows_of(header.replace("message", "text"), *lines) == rows_of(header, *lines, text="message") == wanted
    with pytest.raises(DataError, match=r"looks like a header \(id, message\): .*--column text=NAME"):
        rows_of(header, *lines)
    with pytest.raises(DataError, match=r"line 1: no column 'mesage' .*Did you mean 'message'"):
        rows_of(header, *lines, text="mesage")


def test_texts_with_marks_are_no_table():
    for lines in (["Good, but long", "Bad, and short"], ["good", "dull"], ["a,b", "one"], ["no", "plot, no"], ["wow, wow"]):
        assert rows_of(*lines) == [(line, None) for line in lines]
    assert rows_of("text", "one", '"two, three"') == [("one", None), ("two, three", None)]  # one column


def test_all_columns_come_along(tmp_path):
    """By the file's names, whatever the file; `--keep-columns` writes them."""
    rows = [{"id": 7, "review": "good", "label": "x"}, {"id": 8, "review": "dull", "label": None}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "rows.csv").write_text("id,review,label\n7,good,x\n8,dull,\n")
    for name in ("rows.jsonl", "rows.json", "rows.csv"):
        found = list(stream_records(str(tmp_path / name), {"text": "review"}))
        assert [row for row, _ in found] == [("good", None), ("dull", None)]
        wanted = rows if "json" in name else [{name: str(row[name] or "") for name in row} for row in rows]
        assert [dict(columns) for _, columns in found] == wanted


def test_nothing_heavy_is_needed():
    import subprocess
    import sys

    code = "import sys, understudy.data.streams; print({'torch', 'datasets', 'numpy'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "set()\n"


def test_a_long_first_line_of_standard_input():
    csv.field_size_limit(131072)  # as in a fresh process
    assert [len(text) for (text, _), _ in stream_lines([b"x" * 200_000 + b"\n", b"y\n"])] == [200_000, 1]
