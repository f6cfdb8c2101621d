"""Text in files, folders or on the hub → tables, unchanged but for the names of the columns."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.data import delimited, shards
from understudy.data.in_memory import InMemory
from understudy.data.text_files import AS_CSV, content, ending_of, lines_of, objects, row_of
from understudy.errors import DataError, did_you_mean, near_folder

if TYPE_CHECKING:
    from datasets import Dataset

FORMATS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
ALLOWED = f"{', '.join(FORMATS)}, each also with .gz"
_INSTEAD = {  # ending that is not read → what to do
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers"), AS_CSV),
    ".zst": "decompress it first (zstd -d)",
    ".bz2": "decompress it first (bunzip2)",
    ".xz": "decompress it first (unxz)",
    **dict.fromkeys((".zip", ".tar", ".tgz", ".7z", ".rar"), "unpack it first"),
    ".ndjson": "name it .jsonl",
    ".txt": "a text a line is for --raw and `predict --input`; name a table .csv or .tsv",
    **dict.fromkeys((".arrow", ".feather", ".pkl", ".pickle", ".dta", ".sav"), "save it as .parquet, with pandas or `datasets`"),
}
SPLITS = {"train": ("train",), "validation": ("validation", "dev", "valid", "val"), "test": ("test",)}
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?(:[\w.-]+)?")
_Columns = dict[str, list[Any]]


def our_columns() -> tuple[str, ...]:
    """The columns that some task reads, by our names."""
    from understudy.tasks import column_names  # numpy comes with it

    return column_names()


def is_table(source: str | InMemory) -> bool:
    """Whether a source is a table: in memory, or a file by its ending, there or not.

    >>> is_table("rows/train.jsonl.gz"), is_table("owner/name")
    (True, False)
    """
    return isinstance(source, InMemory) or Path(source).is_file() or ending_of(Path(source)) in FORMATS


def read_table(source: str | InMemory, columns: Mapping[str, str], notes: list[str] | None = None, *, mixed: Sequence[str] = ()) -> Dataset:
    """Read one file of rows (or rows in memory), all columns. In CSV and TSV every value is text; an empty one stays an empty text.

    Fields may be separated by commas, semicolons, tabs or |, whatever the ending; see `delimited`. TSV fields may be quoted as in CSV;
    a file that does not parse so is taken literally, as GLUE writes it.

    Args:
        source: a .jsonl, .json, .csv, .tsv or .parquet file in UTF-8 (or UTF-16 with its mark), or one of these with .gz.
        columns: our name → the file's name, as in `{"text": "review"}`; other columns keep their names.
        notes: takes what the user should know of the file.
        mixed: columns that may mix types; numbers among texts are then texts too.

    Raises:
        DataError: no such file, an unknown ending, not UTF-8, damaged, ragged, empty, or a column that is not there.
    """
    if isinstance(source, InMemory):
        return _from_memory(source, columns)
    path = Path(source)
    if not path.is_file():
        near = get_close_matches(path.name, [file.name for file in path.parent.glob("*")], n=1)
        raise DataError(f"{source}: no such file." + (f" Did you mean '{path.with_name(near[0])}'?" if near else ""))
    if notes is not None and (shard := shards.of_name(path.name)) and shard.of and shard.of > 1:
        notes.append(f"{source} is one of {shard.of} shards, and only it is read; give their folder to read all.")
    return _table(source, _columns_in(source, columns, notes), columns, mixed)


def _read_split(paths: Sequence[Path], columns: Mapping[str, str], notes: list[str] | None) -> Dataset:
    """The files of one split, one after the other."""
    if len(paths) == 1:
        return _table(str(paths[0]), _columns_in(str(paths[0]), columns, notes), columns)
    table, class_labels = _columns_in(str(paths[0]), columns, notes)
    for path in paths[1:]:
        part, _ = _columns_in(str(path), columns, notes)
        if part.keys() != table.keys():
            raise DataError(f"{path}: has the columns {', '.join(part)}, but {paths[0].name} has {', '.join(table)}; shards need the same")
        for name, values in part.items():
            table[name].extend(values)
    return _table(f"{paths[0]} and {len(paths) - 1} more", (table, class_labels), columns)


def _columns_in(source: str, columns: Mapping[str, str], notes: list[str] | None = None) -> tuple[_Columns, dict[str, Any]]:
    """The columns of a file by its own names, and which of them are classes with names."""
    path = Path(source)
    ending = ending_of(path)
    if ending not in FORMATS:
        raise DataError(f"{source}: {_unread(path.suffix)}")
    table: _Columns
    class_labels: dict[str, Any] = {}
    if ending == ".parquet":
        table, class_labels = _parquet(source, content(path), notes)
    elif not any(line.strip() for line in lines_of(path)):
        raise DataError(f"{source}: the file is empty; it must hold at least one row")
    elif ending == ".json":
        table = _json(source, "".join(lines_of(path)))
    elif ending == ".jsonl":
        table = _by_column([row for _, row in objects(lines_of(path), source)])
    else:
        header, *rows = delimited.read(path, [*columns.values(), *our_columns()])
        table = {name: list(values) for name, values in zip(header, zip(*rows, strict=True), strict=True)} if rows else {}
    if not any(table.values()):
        raise DataError(f"{source}: the file has no rows")
    return table, class_labels


def _unread(suffix: str) -> str:
    """What follows the name of a file whose ending is of no format that is read."""
    instead = _INSTEAD.get(suffix.lower())
    problem = f"cannot read a '{suffix}' file" if suffix else "its name has no ending that says its format"
    return f"{problem} (allowed are {ALLOWED}); {instead}" if instead else f"{problem}; allowed are {ALLOWED}"


def _table(source: str, read: tuple[_Columns, dict[str, Any]], columns: Mapping[str, str], mixed: Sequence[str] = ()) -> Dataset:
    table, class_labels = read
    file_names = _file_names(list(table), columns, source)
    renamed = {our: table[theirs] for our, theirs in file_names.items()}
    return _dataset(source, renamed, {our: class_labels.get(theirs) for our, theirs in file_names.items()}, mixed)


def _from_memory(source: InMemory, columns: Mapping[str, str]) -> Dataset:
    if (dataset := source.dataset()) is not None:
        table = _renamed(dataset, columns, str(source))
    else:
        values = source.columns()
        names = _file_names(list(values), columns, str(source))
        table = _dataset(str(source), {our: values[theirs] for our, theirs in names.items()}, {})
    if not len(table):
        raise DataError(f"{source}: there are no rows")
    return table


def read_raw(source: str, columns: Mapping[str, str]) -> Dataset:
    """Read plain text: the lines of a .txt (or .txt.gz) file that are not empty, or the texts of a table.

    Raises:
        DataError: as `read_table`.
    """
    path = Path(source)
    if ending_of(path) != ".txt" or not path.is_file():
        return read_table(source, columns)
    lines = [line.strip() for line in lines_of(path)]
    texts = [line for line in lines if line]
    if not texts:
        raise DataError(f"{source}: the file is empty; it must hold at least one line of text")
    return _dataset(source, {"text": texts}, {})


def read_folder_or_hub(name: str, columns: Mapping[str, str], notes: list[str] | None = None) -> dict[str, Dataset]:
    """Read the splits of a folder or of a data set on the hub: those of train, validation and test that it has.

    Args:
        name: a folder with `train.*`, `validation.*` (or `dev.*`, `valid.*`), `test.*`, each one file or shards such as
            `train-00000-of-00002.parquet`, there or in its folder `data`; a folder written by `save_to_disk`; or a hub name, with
            a configuration as in `nyu-mll/glue:mrpc`. No code of the hub is run.
        columns: our name → the data set's name.
        notes: takes what the user should know of the files.

    Raises:
        DataError: nothing of that name, no split in it, two files for one split, a shard that is missing, or what `read_table` raises.
    """
    folder = Path(name)
    if folder.is_dir():
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            return _renamed_splits(_saved(folder), columns, name)
        files = shards.splits_in(folder, SPLITS, FORMATS)
        if not files:
            raise DataError(f"{name}: no split in this folder; {_contents(folder)}")
        place = next(iter(files.values()))[0].parent
        if notes is not None and place not in (folder, folder / "data"):
            notes.append(f"{name}: read from {place}.")
        return {split: _read_split(paths, columns, notes) for split, paths in files.items()}
    if not _HUB_NAME.fullmatch(name):
        raise DataError(f"{name}: no such file or folder{near_folder(folder, files=True)}")
    return _renamed_splits(_from_hub(name), columns, name)


def _contents(folder: Path) -> str:
    """What a folder without a split holds, and what it needs."""
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    names = [f"{path.name}{'/' * path.is_dir()}" for path in paths]
    contents = f"it holds {', '.join(names[:5])}{', …' * (len(names) > 5)}" if names else "it is empty"
    unread = next((path.suffix for path in paths if path.suffix.lower() in _INSTEAD and path.is_file()), None)
    hint = f"; {unread} cannot be read: {_INSTEAD[unread.lower()]}" if unread else ""
    return (
        f"{contents}{hint}. It needs train.*, validation.*, test.* ({ALLOWED}), or folders of these names; else give each file with "
        "--train, --validation and --test"
    )


def _json(source: str, text: str) -> _Columns:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        hint = " It looks like one object a line: name it .jsonl." if error.msg == "Extra data" else ""
        raise DataError(f"{source}: line {error.lineno}: broken JSON ({error.msg}, column {error.colno}).{hint}") from error
    if isinstance(rows, dict):
        rows = rows.get("data")
    if not isinstance(rows, list) or (rows and isinstance(rows[0], list)):
        raise DataError(
            f'{source}: a list of objects is needed, or {{"data": [...]}} with one; in pandas: frame.to_json(FILE, orient="records")'
        )
    return _by_column([row_of(row, f"{source}: item {number}") for number, row in enumerate(rows, 1)])


def _by_column(rows: Sequence[dict[str, Any]]) -> _Columns:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _parquet(source: str, content: bytes, notes: list[str] | None) -> tuple[_Columns, dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import ClassLabel

    if not content:
        raise DataError(f"{source}: the file is empty; it must hold at least one row")
    try:
        table = pq.ParquetFile(io.BytesIO(content)).read()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{source}: not a parquet file, or damaged ({str(error).partition(chr(10))[0]})") from error
    if twice := sorted({name for name in table.column_names if table.column_names.count(name) > 1}):
        raise DataError(f"{source}: column '{twice[0]}' appears twice; every column needs its own name")
    metadata = (table.schema.metadata or {}).get(b"huggingface")
    try:
        features = {} if metadata is None else json.loads(metadata)["info"]["features"]
        named = {
            name: ClassLabel(names=_names(table, name, feature["names"]))
            for name, feature in features.items()
            if feature.get("_type") == "ClassLabel" and name in table.column_names
        }
    except Exception as error:  # whatever another program or version wrote
        named = {}
        if notes is not None:
            notes.append(f"{source}: its metadata of `datasets` cannot be read and is ignored ({type(error).__name__}: {error}).")
    for place, column in enumerate(table.columns):
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):  # as programs write text that do not mark it so
            with suppress(pa.ArrowInvalid):
                table = table.set_column(place, table.column_names[place], column.cast(pa.string()))
    return table.to_pydict(), {name: kind for name, kind in named.items() if pa.types.is_integer(table.schema.field(name).type)}


def _names(table: Any, column: str, names: Any) -> list[str]:
    """The names of a column's classes.

    Raises:
        ValueError: they are no list of texts, or the column has numbers that they do not name.
    """
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"names of {column} are no list of texts")
    numbers = {number for number in table[column].to_pylist() if isinstance(number, int)}
    if beyond := sorted(number for number in numbers if not -1 <= number < len(names)):
        raise ValueError(f"{column} has {beyond[0]}, but there are {len(names)} names")
    return names


def _dataset(source: str, columns: _Columns, class_labels: Mapping[str, Any], mixed: Sequence[str] = ()) -> Dataset:
    import pyarrow as pa
    from datasets import Dataset, Features

    arrays = {}
    for name, values in columns.items():
        try:
            arrays[name] = pa.array(values, from_pandas=True)  # NaN is missing
        except UnicodeEncodeError as error:
            row = next(number for number, value in enumerate(values, 1) if _half_character(value))
            raise DataError(f"{source}: row {row}: column '{name}' holds half a character (a lone surrogate); repair it") from error
        except (pa.ArrowException, OverflowError) as error:
            if name in mixed:
                arrays[name] = pa.array([value if value is None or isinstance(value, str) else json.dumps(value) for value in values])
                continue
            if name in our_columns():
                raise DataError(f"{source}: column '{name}' mixes types: {_mixture(values)}; give all rows the same") from error
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
    return ", ".join(f"row {row} is {json.dumps(values[row - 1], default=str)[:40]}" for row in list(first.values())[:2])


def _file_names(names: Sequence[str], columns: Mapping[str, str], where: str) -> dict[str, str]:
    """Every column's name after renaming → its name in the file."""
    missing = [(our, theirs) for our, theirs in columns.items() if theirs not in names]
    if len(missing) > 1:
        listed = " and ".join(f"'{theirs}' (asked for as {our})" for our, theirs in missing)
        raise DataError(f"{where}: no columns {listed}; it has {', '.join(filter(None, names))}")
    for our, theirs in columns.items():
        if theirs not in names:
            raise no_column(where, theirs, names, asked_as=our)
        if list(columns.values()).count(theirs) > 1:
            raise DataError(f"{where}: column '{theirs}' is mapped to two roles; map each role to a column of its own")
    return dict(columns) | {name: name for name in names if name not in columns and name not in columns.values()}


def no_column(where: str, name: str, names: Iterable[str], *, asked_as: str | None = None) -> DataError:
    """The error for a missing column: the columns that exist, by the file's own names, and what may have happened."""
    names = [column for column in names if column]
    role = asked_as if asked_as != name else None
    message = f"{where}: no column '{name}'{f' (asked for as {role})' if role else ''}; {did_you_mean(name, names)}"
    if any(len(column.split()) > 3 or re.fullmatch(r"[-+]?\d+([.,]\d+)?", column) for column in names):
        message += " These look like values: is the header missing? The first line must name the columns."
    elif len(names) == 1 and names[0] != name and re.search(rf"\b{re.escape(name)}\b", names[0]):
        message += " Are these several names? They are separated by a comma, a semicolon, a tab or |, without quotes around the whole line."
    elif near := next((column for column in names if column.strip().lower() == name.lower()), None):
        message = f"{where}: no column '{name}', but one '{near}'; read it with --column {asked_as or name}={near}"
    elif asked_as is None:
        message += f" Map it with --column {name}=NAME (data.columns in a recipe)"
    return DataError(message)


def _saved(folder: Path) -> Mapping[str, Dataset]:
    from datasets import Dataset, load_from_disk

    try:
        saved = load_from_disk(str(folder))
    except Exception as error:
        raise DataError(f"{folder}: a saved data set that cannot be loaded ({str(error).partition(chr(10))[0]})") from error
    return {"train": saved} if isinstance(saved, Dataset) else dict(saved)


def _from_hub(name: str) -> Mapping[str, Dataset]:
    from datasets import load_dataset

    repository, _, configuration = name.partition(":")
    try:
        return dict(load_dataset(repository, configuration or None))
    except Exception as error:  # the hub's client raises a dozen kinds
        first_line = str(error).strip().partition("\n")[0]
        raise DataError(
            f"{name}: no such file or folder here, and the hub has no data set of that name, or cannot be reached ({first_line})"
        ) from error


def _renamed_splits(splits: Mapping[str, Dataset], columns: Mapping[str, str], name: str) -> dict[str, Dataset]:
    tables = {}
    for split, aliases in SPLITS.items():
        alias = next((alias for alias in aliases if alias in splits), None)
        if alias is not None:
            tables[split] = _renamed(splits[alias], columns, f"{name}, split {alias}")
    if not tables:
        raise DataError(f"{name}: no split train, validation or test; it has {', '.join(map(str, splits))}")
    return tables


def _renamed(table: Dataset, columns: Mapping[str, str], where: str) -> Dataset:
    file_names = _file_names(table.column_names, columns, where)
    table = table.select_columns(list(file_names.values()))
    return table.rename_columns({theirs: our for our, theirs in file_names.items() if our != theirs})
