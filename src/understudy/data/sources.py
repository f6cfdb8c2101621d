"""Text in files, folders or on the hub → tables, unchanged but for the names of the columns."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.data.in_memory import InMemory
from understudy.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from datasets import Dataset

FORMATS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
ALLOWED = f"{', '.join(FORMATS)}, each also with .gz"
OUR_COLUMNS = ("text", "text_pair", "label")
SPLITS = {"train": ("train",), "validation": ("validation", "dev", "valid", "val"), "test": ("test",)}
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?(:[\w.-]+)?")
_Columns = dict[str, list[Any]]


def is_table(source: str | InMemory) -> bool:
    """Whether a source is a table: in memory, or a file by its ending, there or not.

    >>> is_table("rows/train.jsonl.gz"), is_table("owner/name")
    (True, False)
    """
    return isinstance(source, InMemory) or Path(source).is_file() or _ending(Path(source)) in FORMATS


def read_table(source: str | InMemory, columns: Mapping[str, str]) -> Dataset:
    """Read one file of rows (or rows in memory), all columns. In CSV and TSV every value is text; an empty one stays an empty text.

    TSV fields may be quoted as in CSV; a file that does not parse so is taken literally, as GLUE writes it.

    Args:
        source: a .jsonl, .json, .csv, .tsv or .parquet file in UTF-8, or one of these with .gz.
        columns: our name → the file's name, as in `{"text": "review"}`; other columns keep their names.

    Raises:
        DataError: no such file, an unknown ending, not UTF-8, damaged, ragged, empty, or a column that is not there.
    """
    if isinstance(source, InMemory):
        return _from_memory(source, columns)
    path = Path(source)
    if not path.is_file():
        near = get_close_matches(path.name, [there.name for there in path.parent.glob("*")], n=1)
        raise DataError(f"{source}: no such file." + (f" Did you mean '{path.with_name(near[0])}'?" if near else ""))
    ending = _ending(path)
    if ending not in FORMATS:
        raise DataError(f"{source}: cannot read a '{path.suffix}' file; allowed are {ALLOWED}")
    content = _content(path)
    if not content.strip():
        raise DataError(f"{source}: the file is empty; it must hold at least one row")
    if ending == ".parquet":
        found, class_labels = _parquet(source, content)
    else:
        found, class_labels = _READERS[ending](source, _decode(source, content)), {}
    if not any(found.values()):
        raise DataError(f"{source}: the file has no rows")
    file_names = _file_names(list(found), columns, source)
    renamed = {our: found[theirs] for our, theirs in file_names.items()}
    return _dataset(source, renamed, {our: class_labels.get(theirs) for our, theirs in file_names.items()})


def _from_memory(source: InMemory, columns: Mapping[str, str]) -> Dataset:
    if (dataset := source.dataset()) is not None:
        found = _renamed(dataset, columns, str(source))
    else:
        values = source.columns()
        names = _file_names(list(values), columns, str(source))
        found = _dataset(str(source), {our: values[theirs] for our, theirs in names.items()}, {})
    if not len(found):
        raise DataError(f"{source}: there are no rows")
    return found


def read_raw(source: str, columns: Mapping[str, str]) -> Dataset:
    """Read plain text: the lines of a .txt (or .txt.gz) file that are not empty, or the texts of a table.

    Raises:
        DataError: as `read_table`.
    """
    path = Path(source)
    if _ending(path) != ".txt" or not path.is_file():
        return read_table(source, columns)
    lines = [line.strip() for line in _decode(source, _content(path)).split("\n")]
    texts = [line for line in lines if line]
    if not texts:
        raise DataError(f"{source}: the file is empty; it must hold at least one line of text")
    return _dataset(source, {"text": texts}, {})


def read_folder_or_hub(name: str, columns: Mapping[str, str]) -> dict[str, Dataset]:
    """Read the splits of a folder or of a data set on the hub: those of train, validation and test that it has.

    Args:
        name: a folder with `train.*`, `validation.*` (or `dev.*`, `valid.*`), `test.*`; a folder written by
            `save_to_disk`; or a hub name, with a configuration as in `nyu-mll/glue:mrpc`. No code of the hub is run.
        columns: our name → the data set's name.

    Raises:
        DataError: nothing of that name, no split in it, two files for one split, or what `read_table` raises.
    """
    folder = Path(name)
    if folder.is_dir():
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            return _renamed_splits(_saved(folder), columns, name)
        files = {split: _one_file(folder, split) for split in SPLITS}
        if not any(files.values()):
            raise DataError(f"{name}: no split in this folder; it needs train.*, validation.*, test.* ({ALLOWED})")
        return {split: read_table(str(path), columns) for split, path in files.items() if path}
    if not _HUB_NAME.fullmatch(name):
        raise DataError(f"{name}: no such file or folder")
    return _renamed_splits(_from_hub(name), columns, name)


def _ending(path: Path) -> str:
    return Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if path.suffix.lower() == ".gz":
        try:
            return gzip.decompress(content)
        except EOFError as error:
            raise DataError(f"{path}: the gzip file is truncated; copy or download it again") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DataError(
                f"{path}: not a gzip file, or damaged ({error}); drop .gz if it is not compressed"
            ) from error
    if content.startswith(b"\x1f\x8b"):
        raise DataError(f"{path}: the file is gzip compressed; add .gz to its name")
    return content


def _decode(source: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")  # spreadsheets like to write a byte order mark
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{source}: line {line}: not UTF-8 (byte {content[error.start]:#04x} at offset {error.start}); "
            "save the file again as UTF-8"
        ) from error


def _jsonl(source: str, text: str) -> _Columns:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines(): JSON may hold U+2028 as it is
        if not line.strip():
            continue
        try:
            rows.append(_object(json.loads(line), f"{source}: line {number}"))
        except ValueError as error:
            raise DataError(
                f"{source}: line {number}: broken JSON ({error}); every line must be one JSON object"
            ) from error
    return _by_column(rows)


def _json(source: str, text: str) -> _Columns:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        hint = " It looks like one object a line: name it .jsonl." if error.msg == "Extra data" else ""
        raise DataError(
            f"{source}: line {error.lineno}: broken JSON ({error.msg}, column {error.colno}).{hint}"
        ) from error
    if isinstance(rows, dict):
        rows = rows.get("data")
    if not isinstance(rows, list):
        raise DataError(f'{source}: a list of objects is needed, or {{"data": [...]}} with one')
    return _by_column([_object(row, f"{source}: item {number}") for number, row in enumerate(rows, 1)])


def _object(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise DataError(f'{where}: a row must be a JSON object like {{"text": "…"}}, got {json.dumps(row)[:60]}')
    return row


def _by_column(rows: Sequence[dict[str, Any]]) -> _Columns:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _csv(source: str, text: str) -> _Columns:
    return _delimited(source, text, delimiter=",", quoting=csv.QUOTE_MINIMAL)


def _tsv(source: str, text: str) -> _Columns:
    try:
        return _delimited(source, text, delimiter="\t", quoting=csv.QUOTE_MINIMAL)
    except DataError:
        return _delimited(source, text, delimiter="\t", quoting=csv.QUOTE_NONE)


def _delimited(source: str, text: str, *, delimiter: str, quoting: Any) -> _Columns:
    csv.field_size_limit(2**31 - 1)  # the default refuses texts of more than 128 KiB
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    rows: list[list[str]] = []
    line = 1  # a quoted field may run over several lines; the row is named by its first
    try:
        for row in reader:
            if row and rows and len(row) != len(rows[0]):
                raise DataError(
                    f"{source}: line {line}: {len(row)} fields, but the header has {len(rows[0])}; "
                    "put quotes around a field that holds the delimiter or a line break"
                )
            if row:
                rows.append(row)
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{source}: line {line}: broken quoting ({error}); double the quotes inside a quoted field"
        ) from error
    header = [name.strip() for name in rows[0]]
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(
            f"{source}: line 1: column '{twice[0]}' is in the header twice; every column needs its own name"
        )
    return (
        {name: list(values) for name, values in zip(header, zip(*rows[1:], strict=True), strict=True)}
        if rows[1:]
        else {}
    )


_READERS: dict[str, Callable[[str, str], _Columns]] = {".jsonl": _jsonl, ".json": _json, ".csv": _csv, ".tsv": _tsv}


def _parquet(source: str, content: bytes) -> tuple[_Columns, dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import ClassLabel, Features

    try:
        table = pq.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{source}: not a parquet file, or damaged ({str(error).partition(chr(10))[0]})") from error
    named_by_datasets = b"huggingface" in (table.schema.metadata or {})
    features = Features.from_arrow_schema(table.schema) if named_by_datasets else {}
    return table.to_pydict(), {name: kind for name, kind in features.items() if isinstance(kind, ClassLabel)}


def _dataset(source: str, columns: _Columns, class_labels: Mapping[str, Any]) -> Dataset:
    import pyarrow as pa
    from datasets import Dataset, Features

    arrays = {}
    for name, values in columns.items():
        try:
            arrays[name] = pa.array(values, from_pandas=True)  # NaN is missing
        except UnicodeEncodeError as error:
            row = next(number for number, value in enumerate(values, 1) if _half_character(value))
            raise DataError(
                f"{source}: row {row}: column '{name}' holds half a character (a lone surrogate); repair it"
            ) from error
        except (pa.ArrowException, OverflowError) as error:
            if name in OUR_COLUMNS:
                raise DataError(
                    f"{source}: column '{name}' mixes types: {_mixture(values)}; give all rows the same"
                ) from error
            arrays[name] = pa.array([json.dumps(value, default=str) for value in values])  # of no use to us, but kept
    dataset = Dataset.from_dict(arrays)
    named = Features({name: class_labels.get(name) or kind for name, kind in dataset.features.items()})
    return dataset if named == dataset.features else Dataset.from_dict(columns, features=named)


def _half_character(value: Any) -> bool:
    return bool(re.search("[\ud800-\udfff]", str(value)))


def _mixture(values: Sequence[Any]) -> str:
    first: dict[type, int] = {}
    for row, value in enumerate(values, 1):
        if value is not None:
            first.setdefault(type(value), row)
    return ", ".join(
        f"row {row} is {json.dumps(values[row - 1], default=str)[:40]}" for row in list(first.values())[:2]
    )


def _file_names(found: Sequence[str], columns: Mapping[str, str], where: str) -> dict[str, str]:
    """Every column's name after renaming → its name in the file."""
    for our, theirs in columns.items():
        if theirs not in found:
            raise DataError(f"{where}: no column '{theirs}' (asked for as {our}); {did_you_mean(theirs, found)}")
        if list(columns.values()).count(theirs) > 1:
            raise DataError(f"{where}: column '{theirs}' is asked for under two names; each of ours needs its own")
    return dict(columns) | {name: name for name in found if name not in columns and name not in columns.values()}


def _one_file(folder: Path, split: str) -> Path | None:
    stems = SPLITS[split]
    files = [
        path for path in sorted(folder.iterdir()) if path.name.partition(".")[0] in stems and _ending(path) in FORMATS
    ]
    if len(files) > 1:
        raise DataError(
            f"{folder}: {' and '.join(path.name for path in files)} are both {split}; keep one, or name the file"
        )
    return files[0] if files else None


def _saved(folder: Path) -> Mapping[str, Dataset]:
    from datasets import Dataset, load_from_disk

    try:
        saved = load_from_disk(str(folder))
    except Exception as error:
        raise DataError(
            f"{folder}: a saved data set that does not load ({str(error).partition(chr(10))[0]})"
        ) from error
    return {"train": saved} if isinstance(saved, Dataset) else dict(saved)


def _from_hub(name: str) -> Mapping[str, Dataset]:
    from datasets import load_dataset

    repository, _, configuration = name.partition(":")
    try:
        return dict(load_dataset(repository, configuration or None))
    except Exception as error:  # the hub's client raises a dozen kinds
        first_line = str(error).strip().partition("\n")[0]
        raise DataError(
            f"{name}: no such file or folder here, and the hub gave no data set of that name ({first_line})"
        ) from error


def _renamed_splits(splits: Mapping[str, Dataset], columns: Mapping[str, str], name: str) -> dict[str, Dataset]:
    found = {}
    for split, aliases in SPLITS.items():
        there = next((alias for alias in aliases if alias in splits), None)
        if there is not None:
            found[split] = _renamed(splits[there], columns, f"{name}, split {there}")
    if not found:
        raise DataError(f"{name}: no split train, validation or test; it has {', '.join(map(str, splits))}")
    return found


def _renamed(table: Dataset, columns: Mapping[str, str], where: str) -> Dataset:
    file_names = _file_names(table.column_names, columns, where)
    table = table.select_columns(list(file_names.values()))
    return table.rename_columns({theirs: our for our, theirs in file_names.items() if our != theirs})
