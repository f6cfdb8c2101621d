"""Where a model comes from: its folder, and the settings and facts of the run folder around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.errors import ModelError
from understudy.files import FACTS, RECIPE, read_json
from understudy.tasks import Task, check_head, own_task, task_of

if TYPE_CHECKING:
    from understudy.models.text_model import TextModel


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


def model_in(name: str, *, export: bool = False, say: Callable[[str], None] = lambda line: None) -> str:
    """The model that a name stands for: of a run folder its student (of a search, that of its best run); any other name as it is.

    Args:
        export: take the student's export where the run has one.
        say: is called with a line on which model was taken.

    Raises:
        ModelError: a file, or a run folder without a single model.
    """
    folder = Path(name)
    if folder.is_file():
        raise ModelError(f"{name}: is a file; the folder of a model is needed here")
    if not (folder / RECIPE).is_file() or (folder / "config.json").is_file():
        return name
    taken = {"student": folder / "student" / "config.json"}
    if export:
        taken = {"export": folder / "export" / "export.json"} | taken
    for what, file in taken.items():
        if file.is_file():
            say(f"{name} is a run folder; taking its {what}, {file.parent}")
            return str(file.parent)
    if (folder / "best" / RECIPE).is_file():
        return model_in(str(folder / "best"), export=export, say=say)
    if tasks := _yaml(folder / RECIPE).get("tasks"):
        folders = " or ".join(str(folder / task["name"]) for task in tasks)
        raise ModelError(f"{name}: a run of several tasks; give the folder of one: {folders}")
    raise ModelError(f"{name}: a run without a student yet; continue it: the command that started it, with --resume")


def task_of_model(folder: str, model: TextModel, requested: str | None = None) -> Task:
    """The task of a loaded model: the requested one, else that of the run folder around it, else that of its head.

    Raises:
        ModelError: the run's task is in a file that was not requested, or the head is for another kind of task.
    """
    recorded = Origin.find(folder).settings.get("task")
    if requested is None and recorded and ":" in recorded:
        raise ModelError(own_task(folder, recorded))
    task = task_of(model.label_names, requested or recorded, model.problem_type)
    check_head(task, model.problem_type, folder)
    return task


def _settings(run: Path) -> dict[str, Any]:
    """The resolved recipe; of a run of several tasks, as it is for the task whose folder this is."""
    recipe = _yaml(run / RECIPE)
    task_recipe: dict[str, Any] = next((task for task in recipe.get("tasks") or () if task.get("name") == run.resolve().name), {})
    return recipe | {name: task_recipe[name] for name in ("task", "data", "teacher", "metric") if name in task_recipe}


def _yaml(path: Path) -> dict[str, Any]:
    import yaml  # an export is served without it

    try:
        recipe = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: damaged ({str(error).partition(chr(10))[0]})") from error
    if not isinstance(recipe, dict):
        raise ModelError(f"{path}: damaged: not a recipe")
    return recipe


def _json(path: Path) -> dict[str, Any]:
    """The facts; none of a run that is not finished."""
    if not path.is_file():
        return {}
    try:
        return read_json(path)
    except ValueError as error:
        raise ModelError(f"{path}: damaged ({error})") from error
