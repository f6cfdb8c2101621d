"""Predictions from an exported folder, with onnxruntime, tokenizers and numpy alone: no torch, no transformers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.errors import DataError, ModelError, RecipeError, near_folder
from understudy.files import DESCRIPTION
from understudy.installation import install_command
from understudy.tasks import Answer, Task, check_head, own_task, task_of

if TYPE_CHECKING:
    import numpy as np

    from understudy.models.view import View

FORMAT = 1
GIVE_A_PAIR = "give the second one too: --pair TEXT, a column text_pair, or pairs=[…] in Python"
_NEEDED = ("task", "labels", "pair", "max_length", "pad_token_id", "truncation_side", "inputs", "files")
_CHUNK_ROWS = 4096  # sorted by length together; what is held of a file of any size


class Predictor:
    """An exported model: texts in, answers of its task out.

    Pick it wherever predictions are all that is wanted: it starts in a fraction of a second, and needs neither torch nor
    transformers. For training or for measuring a model that was not exported take `TextModel`.

    Args:
        folder: what `understudy export` wrote.
        threads: that compute; None takes all cores at hand.
        int8: True for the quantized model, False for the float32 one; None takes the quantized one where there is one.
        task: kind of task, where it is in a file of yours; an export names it, but what it names is not run.

    Raises:
        ModelError: not an export, one of a newer format, a file that is missing or damaged, or onnxruntime not installed.
    """

    def __init__(self, folder: str | Path, *, threads: int | None = None, int8: bool | None = None, task: str | None = None) -> None:
        self.folder, self._kind = Path(folder), task
        self.about = read_description(self.folder)
        files = self.about["files"]
        self.precision = ("int8" if "int8" in files else "float32") if int8 is None else "int8" if int8 else "float32"
        if self.precision not in files:
            raise ModelError(f"{folder}: holds no {self.precision} model, only {', '.join(files)}; export it again with --int8")
        self.threads = threads or _cores()
        self._view = _load_view(self.folder, self.about)
        self._session = _load_session(self.folder / files[self.precision], self.threads)

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """Names of the classes in the order of the logits; None for numbers."""
        labels = self.about["labels"]
        return None if labels is None else tuple(labels)

    @property
    def fitted(self) -> dict[str, Any]:
        """What its answers are decided by besides its outputs, as thresholds."""
        return self.about.get("fitted") or {}

    @cached_property
    def task(self) -> Task:
        """What it was trained for.

        Raises:
            ModelError: it is none of this package, and was not given; or a given one is for another kind of head.
        """
        kind = self._kind or self.about["task"]
        if self._kind is None and ":" in kind:
            raise ModelError(own_task(self.folder, kind))
        try:
            task = task_of(self.label_names, kind)
        except RecipeError as error:
            raise ModelError(f"{self.folder}: {error}") from error
        if self._kind is not None and "problem_type" in self.about:
            check_head(task, self.about["problem_type"], str(self.folder))
        return task

    @property
    def pair(self) -> bool:
        """Whether it reads two texts."""
        return bool(self.about["pair"])

    @property
    def files(self) -> list[Path]:
        """All that these predictions need."""
        model = self.folder / self.about["files"][self.precision]
        return [*sorted(self.folder.glob(f"{model.name}*")), self.folder / "tokenizer.json"]

    def predict(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> list[Answer]:
        """Labels with their probabilities, or numbers, in the order of the texts.

        Args:
            texts: none of them empty.
            pairs: the second texts, for a model of pairs.

        Returns:
            a row each: `text` (and `text_pair`); `label`, `probability`, `probabilities`, or `value`.

        Raises:
            DataError: a text that is empty or no text, pairs where there should be none, or none where there should be.
        """
        return self._predict(texts, pairs, 0)

    def stream(self, rows: Iterable[str | tuple[str, str | None]]) -> Iterator[Answer]:
        """Predictions of rows that come one by one, of any number of them; memory stays as it is.

        Args:
            rows: texts, or (text, second text) for a model of pairs.

        Raises:
            DataError: as `predict`; rows are counted from the first of the stream.
        """
        rows, start = iter(rows), 0
        while chunk := list(islice(rows, _CHUNK_ROWS)):
            split = [(row, None) if isinstance(row, str) else row for row in chunk]
            pairs = None if all(pair is None for _, pair in split) else [pair for _, pair in split]
            yield from self._predict([text for text, _ in split], pairs, start)  # type: ignore[arg-type]
            start += len(chunk)

    def logits(self, texts: Sequence[str], pairs: Sequence[str] | None = None, *, batch_size: int = 64) -> np.ndarray:
        """Logits of every row, in the order of the rows: (rows, outputs) float32.

        Rows are taken in order of length, so that a batch has next to no padding.

        Args:
            batch_size: rows of a batch at most; long rows come in smaller ones.

        Raises:
            DataError: as `predict`.
        """
        return self._logits(texts, pairs, 0, batch_size)

    def _predict(self, texts: Sequence[str], pairs: Sequence[str] | None, before: int) -> list[Answer]:
        outputs = self._logits(texts, pairs, before)
        return with_texts(self.task.answers(outputs, {**self.fitted, **(self.about.get("calibration") or {})}), texts, pairs)

    def _logits(self, texts: Sequence[str], pairs: Sequence[str] | None, before: int, batch_size: int = 64) -> np.ndarray:
        """Of rows that come after so many others, which counts for the numbers in messages only."""
        import numpy as np

        from understudy.models.view import batches_by_length, padded

        if isinstance(texts, str):
            raise DataError("texts is one text; give a list of them")
        self._check(texts, pairs, before)
        found = np.zeros((len(texts), self._session.get_outputs()[0].shape[1]), dtype=np.float32)
        for start in range(0, len(texts), _CHUNK_ROWS):
            chunk = slice(start, start + _CHUNK_ROWS)
            fields, _ = self._view.encode(texts[chunk], None if pairs is None else pairs[chunk], before=before + start)
            for rows in batches_by_length(fields["input_ids"].lengths, batch_size):
                batch = padded(fields, rows)
                found[start + rows] = self._session.run(["logits"], {name: batch[name] for name in self._view.inputs})[0]
        if not np.isfinite(found).all():
            row = before + 1 + int(np.argwhere(~np.isfinite(found))[0][0])
            raise ModelError(f"{self.folder}: the output for row {row} is not a finite number; the model is damaged or diverged")
        return found

    def _check(self, texts: Sequence[Any], pairs: Sequence[Any] | None, before: int) -> None:
        if pairs is None and self.pair:
            raise DataError(f"{self.folder} needs a second text, but only one is given; {GIVE_A_PAIR}")
        if pairs is not None and not self.pair:
            raise DataError(f"{self.folder} reads one text, but a second one is given; remove it")
        check_texts(texts, pairs, before)


def check_texts(texts: Sequence[Any], pairs: Sequence[Any] | None, before: int = 0) -> None:
    """Refuse what a model cannot read.

    Args:
        before: rows that came earlier, for the numbers in messages.

    Raises:
        DataError: no text, an empty one, or not as many second texts as texts.
    """
    if pairs is not None and len(pairs) != len(texts):
        raise DataError(f"{len(texts)} texts but {len(pairs)} second texts; give one for each")
    for name, column in (("text", texts), ("text_pair", pairs or ())):
        for row, text in enumerate(column, before + 1):
            if not isinstance(text, str):
                raise DataError(f"row {row}: {name} must be text, got {text!r:.40}")
            if not text or text.isspace():
                raise DataError(f"row {row}: {name} is empty; give some words")


def read_description(folder: Path) -> dict[str, Any]:
    """What `export.json` says of an export.

    Raises:
        ModelError: not an export, one of a newer format, or damaged.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        if (folder / "config.json").is_file() or (folder / "student").is_dir():
            raise ModelError(f"{folder}: not exported yet: understudy export {folder} --out FOLDER, then give that folder")
        if not folder.exists():
            raise ModelError(f"{folder}: no such folder{near_folder(folder)}; an export is needed")
        raise ModelError(f"{folder}: not an export: it has no {DESCRIPTION}; understudy export writes one")
    try:
        about = json.loads(path.read_text("utf-8"))
        written = about["format"]
        if isinstance(written, int) and written > FORMAT:
            raise ModelError(
                f"{folder}: an export of format {written}, of a newer understudy ({about.get('understudy')}); "
                f"this one reads formats up to {FORMAT}: upgrade it, or export again"
            )
        missing = [name for name in _NEEDED if name not in about]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{path}: damaged ({type(error).__name__}: {error}); export again") from error
    if missing:
        raise ModelError(f"{path}: damaged ({', '.join(missing)} missing); export again")
    return about


def _load_view(folder: Path, about: dict[str, Any]) -> View:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise _not_installed("tokenizers") from None
    from understudy.models.view import View

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelError(f"{folder}: tokenizer.json is missing; copy the whole export, or export again")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise ModelError(f"{path}: damaged ({_first_line(error)}); copy it again, or export again") from error
    return View(
        tokenizer,
        about["max_length"],
        about["truncation_side"],
        about["pad_token_id"],
        tuple(about["inputs"]),
        special_ids=tuple(about.get("special_ids", ())),
        unknown_id=about.get("unknown_id"),
    )


def _load_session(path: Path, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise _not_installed("onnxruntime") from None
    if not path.is_file():
        raise ModelError(f"{path.parent}: {path.name} is missing; copy the whole export, or export again")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a dozen kinds
        raise ModelError(f"{path}: damaged ({_first_line(error)}); copy it again, or export again") from error


def _not_installed(package: str) -> ModelError:
    return ModelError(f"exported models need {package}, which is not installed; run: {install_command('export')}")


def with_texts(answers: Iterable[Answer], texts: Sequence[str], pairs: Sequence[str] | None) -> list[Answer]:
    """Answers as predictions show them: after their texts, numbers in six digits."""
    columns = {"text": texts} | ({} if pairs is None else {"text_pair": pairs})
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    return [row | six_digits(answer) for row, answer in zip(rows, answers, strict=True)]


def six_digits(value: Any) -> Any:
    """Numbers in JSON as predictions show them: six significant digits. Of probabilities the sum stays 1 within 1e-5.

    >>> six_digits([0.6666666865348816, 1 / 3, {"value": 1.2345678e-9}])
    [0.666667, 0.333333, {'value': 1.23457e-09}]
    """
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: six_digits(inner) for key, inner in value.items()}
    return list(map(six_digits, value)) if isinstance(value, list) else value


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
