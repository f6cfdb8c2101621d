"""Where a model comes from: its folder, and what the run folder around it says."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from understudy.data import sources
from understudy.data.rows import read
from understudy.errors import DataError, ModelError
from understudy.mistakes import told
from understudy.recipe import DataSettings
from understudy.run import FACTS, RECIPE, model_in

if TYPE_CHECKING:
    from datasets import Dataset

    from understudy.tasks import Task


@dataclass(frozen=True)
class Origin:
    """What is known of a model beside its weights.

    Args:
        model: its `transformers` folder, or its name on the hub.
        name: in the facts: `student`, `teacher`, …
        run: the folder that understudy wrote, of a run or of a fine-tuning; None for a model from elsewhere.
        settings: its resolved recipe.
        facts: what was measured there.
    """

    model: str
    name: str = "model"
    run: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def find(cls, name: str) -> Origin:
        """The model in a run folder, or the run folder around a model.

        Raises:
            ModelError: a run folder without a student.
        """
        folder = Path(name)
        if not (folder / RECIPE).is_file():
            above = folder.resolve().parent if folder.is_dir() else folder
            if not (above / RECIPE).is_file():
                return cls(name)
            return cls(name, folder.resolve().name, above, _settings(above), _json(above / FACTS))
        model = Path(model_in(name))
        run = folder if model == folder else model.parent
        return cls(str(model), "teacher" if model == folder else "student", run, _settings(run), _json(run / FACTS))

    def validation_rows(self, task: Task, label_names: tuple[str, ...] | None) -> Dataset:
        """The rows that selected the model.

        Raises:
            DataError: nothing says which they are, or their files are gone.
        """
        ask = "give rows to compare the export on: --data FILE"
        if self.run is None:
            raise DataError(f"{self.model}: it is not in a run folder, so its validation rows are not known; {ask}")
        try:
            given = DataSettings(**self.settings.get("data", {}))
        except ValidationError as error:  # rows that a Python program held
            raise DataError(f"{self.run}: {'; '.join(told(DataSettings, error))}. Or {ask}") from error
        # Whether there is a test file decides what is split off train, but only where the validation rows are split off too.
        data = given.model_copy(
            update={"transfer": None, "raw": None, "test": None if given.validation else given.test}
        )
        for source in (data.train, data.validation, data.test):
            if source is not None and sources.is_table(source) and not Path(str(source)).is_file():
                raise DataError(f"{self.run}: its rows no longer exist ({source}); {ask}")
        return read(data, task, seed=data.split_seed, label_names=label_names).validation


def _settings(run: Path) -> dict[str, Any]:
    """The resolved recipe; of a run of several tasks, as it is for the task whose folder this is."""
    found = _yaml(run / RECIPE)
    own: dict[str, Any] = next((one for one in found.get("tasks") or () if one.get("name") == run.resolve().name), {})
    return found | {name: own[name] for name in ("task", "data", "teacher", "metric") if name in own}


def _yaml(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: damaged ({str(error).partition(chr(10))[0]})") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: damaged: not a recipe")
    return found


def _json(path: Path) -> dict[str, Any]:
    """The facts; none of a run that is not finished."""
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ModelError(f"{path}: damaged ({error})") from error
