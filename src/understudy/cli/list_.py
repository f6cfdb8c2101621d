import json as json_
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from understudy.cli import _options as options

if TYPE_CHECKING:
    from understudy.settings.listing import Setting

What = Literal["recipes", "students", "objectives", "augmenters", "tasks", "settings"]
FOLDERS = {
    "recipes": "ways to distil (understudy distill RECIPE)",
    "students": "small models (--student KIND)",
    "objectives": "losses (objectives of a stage in a recipe)",
    "augmenters": "changed copies of the training rows (augment of a stage)",
    "tasks": "what a model predicts (--task KIND)",
}
# Grouped by use, as in docs/choosing.md; the other kinds of a folder are listed last.
BY_USE: dict[str, dict[str, tuple[str, ...]]] = {
    "recipes": {
        "start with": ("hinton",),
        "a BiLSTM as the student": ("tang", "tang_augmented", "word_vectors_bilstm"),
        "hidden layers of the teacher are matched too": ("tinybert", "minilm", "pkd_skip", "pkd_last"),
        "pretraining on unlabelled text": ("distilbert", "well_read"),
        "several teachers, or students one after another": ("hinton_ensemble", "teacher_assistant", "born_again", "averaged_self"),
        "several tasks, one student": ("bam", "mt_dnn"),
        "variants of the loss or the rows": ("mixkd", "bert_tutorial"),
    },
    "students": {"": ("bilstm", "narrow", "teacher_layers", "static_embeddings", "pretrained")},
    "objectives": {"": ("labels", "soft_targets", "logit_regression", "annealed_targets")},
}


def command(
    what: Annotated[What | None, typer.Argument(help="What to list; without it, everything but the settings.")] = None,
    json: options.Json = False,
) -> None:
    """List recipes, students, objectives, augmenters and tasks. With `settings`, every setting of a recipe.

    \b
    understudy list
    understudy list recipes
    understudy list settings
    """
    if what == "settings":
        _print_settings(as_json=json)
        return
    listed = {name: _grouped(name) for name in ([what] if what else FOLDERS)}
    if json:
        flat = {name: {kind: line for group in groups.values() for kind, line in group.items()} for name, groups in listed.items()}
        print(json_.dumps(flat[what] if what else flat, ensure_ascii=False))
        return
    for name, groups in listed.items():
        if what is None:
            print(f"{name}: {FOLDERS[name]}")
        width = max(len(kind) for group in groups.values() for kind in group)
        for title, kinds in groups.items():
            if title and what is None:
                print(f"  {title}:")
            for kind, line in kinds.items():
                print(f"{'' if what else '    '}{kind:<{width}}  {line}")
        if what is None:
            print()
    if what is None:
        print("Every setting: understudy list settings. Which recipe for which data: docs/choosing.md")


def _grouped(folder: str) -> dict[str, dict[str, str]]:
    """Title of a group → kind → its first line, grouped by use."""
    from understudy.parts import kinds
    from understudy.settings.loading import packaged

    lines = packaged() if folder == "recipes" else kinds(folder)
    groups: dict[str, dict[str, str]] = {
        title: {name: lines.pop(name) for name in names if name in lines} for title, names in BY_USE.get(folder, {}).items()
    }
    return {title: group for title, group in {**groups, "others" if groups else "": lines}.items() if group}


def _print_settings(*, as_json: bool) -> None:
    from understudy.settings.listing import all_settings

    groups = all_settings()
    if as_json:
        print(json_.dumps({title: [vars(setting) for setting in group] for title, group in groups.items()}, default=str))
        return
    for title, group in groups.items():
        print(f"{title}")
        width = max((len(setting.key) for setting in group), default=0)
        for setting in group:
            print(f"  {setting.key:<{width}}  {_line(setting)}")
        print()


def _line(setting: "Setting") -> str:
    """Type, default and description of a setting."""
    from understudy.settings.listing import shown

    default = shown(setting.default)
    return f"{setting.type}" + (f", default {default}" if default else "") + (f": {setting.description}" if setting.description else "")
