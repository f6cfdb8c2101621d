"""The program `predict`: any number of rows, by an exported model without torch, or by a `transformers` folder."""

from __future__ import annotations

import csv
import gzip
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from understudy.data.streams import Row, stream_lines, stream_records
from understudy.errors import DataError, RecipeError, RunFolderError
from understudy.files import is_export, whole
from understudy.runtime import Predictor

Answer = dict[str, Any]
Answering = Callable[[Iterable[Row]], Iterable[Answer]]  # rows → an answer for each, in their order
FORMATS = (".jsonl", ".csv", ".tsv")


class NoAnswer(dict[str, Any]):
    """A row that no model can read: its text, and under `error` why."""


def predict(
    model: str | Path,
    texts: Any = None,
    *,
    pairs: Sequence[str] | None = None,
    file: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    keep_columns: bool = False,
    device: str | None = None,
    task: str | None = None,
) -> list[Answer]:
    """Labels with their probabilities, or numbers, in the order of the rows.

    Args:
        model: an exported folder (no torch is loaded), a `transformers` folder, or a run folder: its export, else its student.
        texts: a text, a list of them, or a column of a DataFrame; or
        file: of rows with `text` (and `text_pair`).
        pairs: the second texts, for a model of pairs.
        columns: our name → the file's name.
        keep_columns: give all columns of the file's rows back, with the answer appended.
        device: of a `transformers` folder; None takes the fastest there is.
        task: kind of task, where it is in a file of yours, as `./mine.py:MyTask`; None: what the model says.

    Returns:
        a row each: `text` (and `text_pair`); `label`, `probability`, `probabilities`, or `labels`, `probabilities`, or `value`.

    Raises:
        UserError: the model or the data does not fit.
    """
    from understudy.models.origin import model_in

    if (texts is None) == (file is None):
        raise DataError("give either texts or file")
    answer = answering(model_in(str(model), export=True), device=device, task=task)
    if file is not None:
        return list(predict_rows(answer, str(file), columns=columns, keep_columns=keep_columns, progress=False))
    texts = [texts] if isinstance(texts, str) else list(texts)
    pairs = [pairs] if isinstance(pairs, str) else None if pairs is None else list(pairs)
    return list(answer(rows_of(texts, pairs)))


def answering(
    model: str, *, precision: str | None = None, threads: int | None = None, device: str | None = None, task: str | None = None
) -> Answering:
    """What answers rows: an export, read without torch, or a `transformers` folder.

    Raises:
        UserError: the model does not load, or an option is for the other kind.
    """
    if is_export(model):
        if device not in (None, "cpu"):
            raise RecipeError(f"--device {device}: exported models run on the CPU; remove it")
        if precision not in (None, "int8", "float32"):
            raise RecipeError(f"--precision {precision}: allowed are int8 and float32")
        export = Predictor(model, threads=threads, int8=None if precision is None else precision == "int8", task=task)
        assert export.task  # found before the first row is read
        return export.stream
    if precision is not None or threads is not None:
        raise RecipeError(f"--precision and --threads are for exported models; {model} is not one. Leave them out")
    from understudy.evaluation.answers import stream

    return lambda rows: stream(model, rows, device=device, task=task)


def rows_of(texts: Sequence[str], pairs: Sequence[str] | None) -> list[Row]:
    """Texts with their second texts.

    Raises:
        DataError: not as many second texts as texts.
    """
    if pairs is not None and len(pairs) != len(texts):
        raise DataError(f"{len(texts)} texts but {len(pairs)} second texts; give one for each")
    return [(text, None) for text in texts] if pairs is None else list(zip(texts, pairs, strict=True))


def predict_rows(
    answer: Answering,
    source: str | None,
    *,
    columns: Mapping[str, str] | None = None,
    keep_columns: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[Answer]:
    """Predictions for the rows of a file of any size, or of standard input, as they are read.

    Args:
        source: a file, folder or hub data set; None reads standard input: a text per line, JSON Lines, CSV or TSV.
        columns: our name → the file's name.
        keep_columns: give all columns of a row back, with the answer appended; where the file has such a column already, it is called
            `predicted_label`, and so on.
        progress: a bar on stderr, where stderr is a terminal.
        say: is told at the end of rows without a prediction.

    A row that no model can read (an empty text, or none) gets an answer with `error` alone, in its place.

    Raises:
        DataError: a file that cannot be read any further, no rows, or none that can be predicted; answers before it were given.
    """
    from tqdm import tqdm

    size = os.path.getsize(source) if source is not None and Path(source).is_file() else None
    with tqdm(total=size, unit="B", unit_scale=True, disable=None if progress else True, leave=False) as bar:

        def tell(read: int) -> None:
            bar.update(read - bar.n)

        records = stream_lines(sys.stdin.buffer, columns) if source is None else stream_records(source, columns or {}, progress=tell)
        waiting: deque[tuple[Mapping[str, Any], NoAnswer | None]] = deque()  # rows that are read and not given back yet
        refused: list[str] = []

        def rows() -> Iterator[Row]:
            pair = False
            for row, more in records:
                wrong = _unreadable(row, pair=pair)
                if wrong is None:
                    pair = row[1] is not None
                else:
                    refused.append(f"row {done + len(waiting) + 1}: {wrong}")
                waiting.append((more, None if wrong is None else NoAnswer(text=row[0], error=wrong)))
                if wrong is None:
                    yield row

        def given(one: Answer, more: Mapping[str, Any]) -> Answer:
            return type(one)(_appended(more, one)) if keep_columns else one

        done, where = 0, source or "standard input"
        try:
            for one in chain(answer(rows()), [None]):
                taken = one is None
                while waiting and (waiting[0][1] is not None or not taken):
                    more, wrong = waiting.popleft()
                    done += 1
                    if done % 1000 == 0:
                        bar.set_postfix_str(f"{done:,} rows")
                    if wrong is None:
                        assert one is not None
                        taken = True
                        yield given(one, more)
                    else:
                        yield given(wrong, more)
        except DataError as error:
            raise DataError(str(error) if str(error).startswith(where) else f"{where}: {error}") from error
        if len(refused) == done:
            raise DataError(f"{where}: " + (f"none of {done:,} rows can be predicted; {refused[0]}" if done else "no rows to predict"))
    if refused:
        say(f"Warning: {len(refused):,} of {done:,} rows have no prediction, but an error; the first is {refused[0]}")


def _unreadable(row: tuple[Any, Any], *, pair: bool) -> str | None:
    """Why no model can read a row; whether its kind reads pairs is the model's to say."""
    for name, text in zip(("text", "text_pair"), row, strict=True):
        if name == "text_pair" and text is None and not pair:
            continue
        if not isinstance(text, str):
            return f"{name} must be text, got {text!r:.40}"
        if not text.strip():
            return f"{name} is empty"
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            return f"{name} holds half a character (a lone surrogate)"
    return None


def _appended(columns: Mapping[str, Any], answer: Answer) -> Answer:
    added = {name: value for name, value in answer.items() if name not in ("text", "text_pair")}
    return {**columns, **{f"predicted_{name}" if name in columns else name: value for name, value in added.items()}}


def shown(answer: Answer) -> str:
    """An answer and its texts in a line.

    >>> shown({"text": "a gripping film", "label": "good", "probability": 0.93, "probabilities": {"good": 0.93, "bad": 0.07}})
    'good (93.0%)\\ta gripping film'
    """
    texts = [answer[name] for name in ("text", "text_pair") if name in answer]
    first = next(value for name, value in answer.items() if name not in ("text", "text_pair"))
    words = f"{first:.4f}" if isinstance(first, float) else str(first)
    if isinstance(first, list):
        words = ", ".join(map(str, first)) or "–"
    sure = f" ({answer['probability']:.1%})" if "probability" in answer else ""
    return "\t".join([words + sure, *texts])


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse a file that `write_answers` could not write, or should not.

    Raises:
        DataError: an ending that is none of the formats.
        RunFolderError: a folder, or a file that is there.
    """
    if _ending(output) not in FORMATS:
        raise DataError(f"--output {output}: name it {', '.join(f'*{one}' for one in FORMATS)}, or one of these with .gz")
    if output.is_dir():
        raise RunFolderError(f"--output {output}: is a folder; name a file in it")
    if output.exists() and not overwrite:
        raise RunFolderError(f"--output {output}: exists already; replace it with --overwrite, or name another file")


def write_answers(answers: Iterable[Answer], output: Path) -> int:
    """Write JSON Lines, CSV or TSV as the name says, each also with .gz. Returns how many.

    It is written beside its place first, then renamed: a reader sees all of it or none. CSV and TSV hold the label with its probability, or
    the labels as a JSON list; probabilities of all classes are in JSON Lines only.
    """
    written, ending = 0, _ending(output)
    opened: Any = gzip.open if output.suffix.lower() == ".gz" else open
    with whole(output) as new, opened(new, "wt", encoding="utf-8", errors="replace", newline="") as file:
        write = line_writer(file) if ending == ".jsonl" else _row_writer(file, "," if ending == ".csv" else "\t")
        for answer in answers:
            write(answer)
            written += 1
    return written


def line_writer(file: Any) -> Callable[[Answer], None]:
    """Writes one row as a line of JSON."""

    def write(answer: Answer) -> None:
        line = json.dumps(answer, ensure_ascii=False, default=str)
        try:
            line.encode()
        except UnicodeEncodeError:  # half a character, which JSON can only name
            line = json.dumps(answer, default=str)
        print(line, file=file)

    return write


def _row_writer(file: Any, delimiter: str) -> Callable[[Answer], None]:
    names: list[str] = []
    early: list[Answer] = []  # rows without an answer before the first that has one, which names the columns
    writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")

    def write(answer: Answer) -> None:
        row = {name: value for name, value in answer.items() if not isinstance(value, dict)}
        if isinstance(answer, NoAnswer):
            if not names:
                early.append(answer)
                return
            row = {name: value for name, value in row.items() if name in names}
        if not names:
            names.extend(row)
            writer.writerow(names)
            for one in early:
                write(one)
        if unknown := next((name for name in row if name not in names), None):
            raise DataError(f"a row has a column '{unknown}', which the first row lacks; write .jsonl instead")
        writer.writerow([_cell(row.get(name)) for name in names])

    return write


def _cell(value: Any) -> Any:
    return "" if value is None else json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


def _ending(path: Path) -> str:
    return Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


def files_among(texts: Iterable[str]) -> list[str]:
    """Texts that are names of files: whoever gives them wants the file read, most likely."""
    return [text for text in texts if len(text) < 300 and "\0" not in text and Path(text).is_file()]
