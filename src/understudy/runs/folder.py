"""The run folder: its files, and how a stopped run is resumed.

recipe.yaml        resolved: running it again gives the same run
inputs.json        rows, models and other files at the start: counts and hashes, which --resume compares
environment.json   versions and machine
metrics.jsonl      every logged number of every training
teacher_outputs/   the store, unless the recipe names another
checkpoints/       of unfinished trainings
tensorboard/       with `report_to: [tensorboard]`
student/           a `transformers` folder; student_alone/, … are the controls
export/            the student as ONNX, with all that predicting needs
facts.json         what was measured; written last: a folder with it is a finished run
report.html        the page
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from understudy.errors import RunFolderError
from understudy.files import ENVIRONMENT, FACTS, INPUTS, METRICS, RECIPE, append_json_line, json_lines, read_json, write_json, write_text
from understudy.machine import environment
from understudy.training.curves import trainings

if TYPE_CHECKING:
    from understudy.tasks import Metric

MEASURING = ("control", "export", "calibrate", "baseline", "report_to")  # settings that the student's training does not depend on
Inputs = Mapping[str, Mapping[str, Any]]  # split or model → its file, its hash and, of a split, its number of rows
Say = Callable[[str], None]  # takes a line for the user


class Run:
    """A folder that a command writes.

    Args:
        folder: its path.
        fresh: whether this process made it; False: a run is resumed.
    """

    def __init__(self, folder: Path, *, fresh: bool) -> None:
        self.folder, self.fresh = folder, fresh

    @classmethod
    def start(
        cls,
        folder: Path,
        recipe: str,
        *,
        inputs: Inputs = MappingProxyType({}),
        resume: bool = False,
        overwrite: bool = False,
        device: str = "cpu",
    ) -> Run:
        """Make the folder, or resume the run in it, which may be finished.

        Args:
            recipe: the resolved recipe as YAML. A run is resumed only with an equal one, except for the settings in `MEASURING`; a
                finished run keeps its own.
            inputs: the rows and models; a run is resumed only with the same.

        Raises:
            RunFolderError: not empty and neither `resume` nor `overwrite`, or not a folder of this recipe and these inputs.
        """
        check(folder, recipe, inputs=inputs, resume=resume, overwrite=overwrite)
        if resume and (folder / RECIPE).is_file():
            if not (folder / FACTS).is_file() and (folder / RECIPE).read_text("utf-8") != recipe:
                write_text(folder / RECIPE, recipe)
            return cls(folder, fresh=False)
        if overwrite and folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / ENVIRONMENT, environment(device))
        write_json(folder / INPUTS, inputs)
        write_text(folder / RECIPE, recipe)
        return cls(folder, fresh=True)

    def of(self, task: str, *, inputs: Inputs, device: str) -> Run:
        """The run folder of one of several tasks, a folder in this one; for a task without a name this run itself.

        A task that was measured before the run was stopped is measured again.
        """
        if not task:
            return self
        (self.folder / task / FACTS).unlink(missing_ok=True)
        recipe = (self.folder / RECIPE).read_text("utf-8")
        return Run.start(self.folder / task, recipe, inputs=inputs, resume=True, device=device)

    def __repr__(self) -> str:
        from understudy.reporting.display import as_text

        return f"{as_text(self.facts)}\n{self.folder}" if self.finished else f"{self.folder}: not finished"

    def _repr_html_(self) -> str:
        from html import escape

        from understudy.reporting.display import as_html

        return as_html(self.facts) + f"<p>{escape(str(self.folder))}</p>" if self.finished else escape(repr(self))

    @property
    def checkpoints(self) -> Path:
        """The folder for checkpoints of unfinished trainings."""
        return self.folder / "checkpoints"

    @property
    def finished(self) -> bool:
        return (self.folder / FACTS).is_file()

    @property
    def facts(self) -> dict[str, Any]:
        try:
            return read_json(self.folder / FACTS)
        except ValueError as error:
            raise RunFolderError(f"{self.folder / FACTS}: damaged ({error}); delete it, then resume with --resume") from error

    def discard(self) -> None:
        """Delete the folder if this process made it; for inputs that turn out unusable."""
        if self.fresh:
            shutil.rmtree(self.folder, ignore_errors=True)

    def trainings(self, metric: Metric, *, rows: int, least: Mapping[str, int | None]) -> dict[str, Any]:
        """Model → stage → number of updates and best validation value of its training; see `training/curves.py`."""
        return trainings(json_lines(self.folder / METRICS), metric, rows=rows, least=least)

    def writer(self, model: str, stage: str) -> Callable[[dict[str, Any]], None]:
        """A function that appends a line of numbers to metrics.jsonl.

        A resumed training repeats the steps after its last checkpoint; the newest line of a step is the valid one.
        """

        def write(line: dict[str, Any]) -> None:
            append_json_line(self.folder / METRICS, {"model": model, "stage": stage, **line})

        return write

    def record(self, facts: dict[str, Any]) -> None:
        """Write the facts as a whole, which finishes the run, and delete the checkpoints."""
        write_json(self.folder / FACTS, facts)
        shutil.rmtree(self.checkpoints, ignore_errors=True)


def check(folder: Path, recipe: str, *, inputs: Inputs | None = None, resume: bool, overwrite: bool) -> Run | None:
    """Refuse a folder that cannot be written, without changing it; return its run if that is finished and has this recipe.

    Args:
        inputs: the rows and models; None where they have not been read yet.

    Raises:
        RunFolderError: not empty and neither `resume` nor `overwrite`, or not a folder of this recipe and these inputs.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return None
    if not folder.is_dir():
        raise RunFolderError(f"{folder}: is a file; --out names a folder")
    ours = (folder / RECIPE).is_file()
    if overwrite:
        if not ours:
            raise RunFolderError(
                f"{folder}: not empty, and not a folder that understudy wrote; --overwrite would delete it. Give another --out"
            )
        return None
    if not resume:
        raise RunFolderError(f"{folder}: not empty. Resume it with --resume, replace it with --overwrite, or give another --out")
    if not ours:
        raise RunFolderError(f"{folder}: nothing to resume: it has no {RECIPE}")
    import yaml

    try:
        before, now = yaml.safe_load((folder / RECIPE).read_text("utf-8")), yaml.safe_load(recipe)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{folder / RECIPE}: damaged ({error}); start anew with --overwrite") from error
    finished, missing = (folder / FACTS).is_file(), ""
    if isinstance(before, dict) and isinstance(now, dict):
        missing = _not_measured(folder, before, now) if finished else ""
        before, now = ({key: value for key, value in settings.items() if key not in MEASURING} for settings in (before, now))
    if before != now:
        raise RunFolderError(
            f"{folder}: holds a run with other settings: {', '.join(_differences(before, now))}. Give the same settings, or another --out"
        )
    if inputs is not None:
        _check_inputs(folder, inputs)
    if missing:
        raise RunFolderError(missing)
    return Run(folder, fresh=False) if finished else None


def _not_measured(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What a finished run lacks of the settings given now, and how to get it; empty where it lacks nothing."""
    lacks = []
    for key in ("control", "export"):
        added = [part for part in now.get(key) or () if part not in (before.get(key) or ())]
        lacks += [f"{key} {', '.join(added)}"] if added else []
    lacks += ["the n-gram baseline"] if now.get("baseline") and not before.get("baseline") else []
    if now.get("export") and now.get("calibrate") != before.get("calibrate"):
        lacks += [f"exports with calibrate={str(now.get('calibrate')).lower()}"]
    if not lacks:
        return ""
    ways = "Give what it was started with, start anew with --overwrite, or give another --out"
    student = folder / "student"
    if student.is_dir() and any("export" in part for part in lacks):
        ways += f"; its student alone is exported by: understudy export {student} --out FOLDER"
    return f"{folder}: is a finished run, without {' and '.join(lacks)}. {ways}"


def _check_inputs(folder: Path, inputs: Inputs) -> None:
    """Refuse to resume a run that was started with other rows or models, and name each."""
    try:
        before = read_json(folder / INPUTS)
        changed = [
            _changed(name, before.get(name), inputs.get(name))
            for name in [*before, *(name for name in inputs if name not in before)]
            if _known_by(before.get(name)) != _known_by(inputs.get(name))
        ]
    except FileNotFoundError:
        raise RunFolderError(
            f"{folder}: has no {INPUTS}, so its rows are not known (a run of an older version?). "
            "Start anew with --overwrite, or give another --out"
        ) from None
    except (ValueError, AttributeError) as error:
        raise RunFolderError(f"{folder / INPUTS}: damaged ({error}); start anew with --overwrite") from error
    if changed:
        raise RunFolderError(
            f"{folder}: this run was started with other data or files: {'; '.join(changed)}. Give what it was started with, start "
            "anew with --overwrite, or give another --out"
        )


def _known_by(entry: Mapping[str, Any] | None) -> Any:
    return entry and (entry.get("rows"), entry["sha256"])


def _changed(name: str, before: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> str:
    """What became of a split or model.

    >>> rows = {"file": "train.csv", "rows": 9, "sha256": "a"}
    >>> _changed("train", rows, rows | {"rows": 10}), _changed("test", rows, None)
    ('train (train.csv): 9 rows then, 10 now', 'test (train.csv): 9 rows then, none now')
    >>> _changed("train", rows, rows | {"sha256": "b"})
    'train (train.csv): 9 rows then and now, but different ones'
    >>> _changed("student.vectors", {"file": "glove.txt", "sha256": "a"}, {"file": "glove.txt", "sha256": "b"})
    'student.vectors (glove.txt): changed since'
    """
    rows_before, rows_now = ((entry or {}).get("rows") for entry in (before, now))
    if rows_before != rows_now:
        how = f"{rows_before or 'no'} rows then, {rows_now or 'none'} now"
    elif rows_now is not None:
        how = f"{rows_now} rows then and now, but different ones"
    else:
        how = "changed since" if before and now else "not recorded then (a run of an older version?)" if now else "not there now"
    return f"{name} ({(now or before or {}).get('file')}): {how}"


def _differences(before: Any, now: Any, at: str = "") -> list[str]:
    """Dotted keys whose values differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(key for key in now if key not in before)]
        return [difference for key in keys for difference in _differences(before.get(key), now.get(key), f"{at}.{key}" if at else str(key))]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return [
            difference for index, pair in enumerate(zip(before, now, strict=True)) for difference in _differences(*pair, f"{at}.{index}")
        ]
    return [] if before == now else [f"{at} ({before!r} there, {now!r} now)"]


def command_line() -> str:
    """The command as typed, for the record."""
    import shlex

    return shlex.join(["understudy", *sys.argv[1:]])
