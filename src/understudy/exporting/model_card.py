"""Model cards: the README.md of a `transformers` folder, and what the card of an export shares with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from understudy.evaluation.summary import metric_of
from understudy.files import write_text
from understudy.reporting.agreement import UNKNOWN, by_teacher
from understudy.reporting.table import figure_name
from understudy.tasks import Task, task_of

if TYPE_CHECKING:
    from understudy.models.origin import Origin
    from understudy.models.text_model import TextModel

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_LICENCE = """## Licence

None is given here. The licences of the teacher, of the base model and of the data may apply to this model: check them, and add
`license:` to the header of this file before you publish it."""


def write_model_card(model: TextModel, folder: Path, *, pair: bool | None = None, task: Task | None = None) -> None:
    """Write the card of a saved model, with the facts of the run folder around it.

    Args:
        pair: it reads two texts; None: as in the model's config, else one text.
        task: None: the one that its head is for.
    """
    from understudy.models.origin import Origin

    write_text(folder / "README.md", model_card(model, Origin.find(str(folder)), pair=pair, task=task))


def model_card(model: TextModel, origin: Origin, *, pair: bool | None = None, task: Task | None = None) -> str:
    """The text of README.md: what the model is, how to load it, what was measured, what it was made from."""
    config: Any = model.model.config
    masked_lm = type(model.model).__name__.endswith("ForMaskedLM")
    about = {
        "task": "masked_lm" if masked_lm else (task or task_of(model.label_names, None, model.problem_type)).kind(),
        "labels": None if masked_lm else model.label_names,
        "pair": bool(getattr(config, "pair", False) if pair is None else pair),
        "parameters": model.parameters,
        "model_type": config.model_type,
        "max_length": model.max_length,
    }
    sections = [
        header(about, origin, "transformers", "fill-mask" if masked_lm else "text-classification"),
        f"# {title(origin)}",
        description(about, origin),
        "## Load it\n\n" + _loading(model, about),
        *measured(origin),
        *(["## How it was made\n\n" + lines] if (lines := provenance(origin)) else []),
        _LICENCE,
    ]
    return "\n\n".join(sections) + "\n"


def _loading(model: TextModel, about: Mapping[str, Any]) -> str:
    """The lines that load this model, which depend on where its class is defined."""
    kind = type(model.model)
    task = "fill-mask" if about["task"] == "masked_lm" else "text-classification"
    text = f'"a gripping {model.tokenizer.mask_token}"' if task == "fill-mask" else '"a gripping film"'
    inputs = f'{{"text": {text}, "text_pair": "a moving one"}}' if about["pair"] else text
    # Saved tokenizers read a special token that a text spells as text; here it is meant.
    options = ', tokenizer_kwargs={"split_special_tokens": False}' if task == "fill-mask" else ", truncation=True"
    number = "" if about["labels"] or task == "fill-mask" else " The `score` is the predicted number."
    if model.problem_type == "multi_label_classification" and task != "fill-mask":
        options += ", top_k=None"
        number = " A label holds where its `score` is above its threshold (`understudy_fitted` in `config.json`, or else 1/2)."
    first = ""
    if kind.__module__.startswith("understudy."):
        first = f"import understudy.students.register  # makes {kind.__name__} known to transformers\n"
        note = (
            f"The class is defined in the Python package `understudy-distill`, which must be installed. Without the first line, "
            f"`transformers` says: *The checkpoint you are trying to load has model type `{about['model_type']}` but Transformers does "
            "not recognize this architecture*."
        )
    elif kind.__module__.startswith("transformers."):
        note = "`transformers` alone is enough."
    else:
        note = (
            f"The class `{kind.__name__}` is defined in `{kind.__module__}`; register it with the Auto classes of `transformers` before "
            "these lines."
        )
    code = f'{first}from transformers import pipeline\n\nmodel = pipeline("{task}", ".")  # this folder\nprint(model({inputs}{options}))\n'
    return f"```python\n{code}```\n\n{note}{number}"


def header(about: Mapping[str, Any], origin: Origin, library: str, pipeline_tag: str = "text-classification", *tags: str) -> str:
    """The metadata block that the hub reads."""
    settings, entry = origin.settings, _entry(origin)
    data, teachers = settings.get("data") or {}, teachers_of(origin)
    metrics = () if by_teacher(origin.facts) else entry.get("quality", ())
    metadata = {
        "library_name": library,
        "pipeline_tag": pipeline_tag,
        "tags": ["understudy", *tags, *(["knowledge-distillation"] if teachers else []), about["task"]],
        "datasets": _on_the_hub([data.get(split) for split in ("train", "validation", "test")]),
        "base_model": _on_the_hub([*teachers, settings.get("model")]),
        "metrics": list(dict.fromkeys(metric_of(origin.facts, name).hub or name for name in metrics)),
        "model-index": _model_index(about, origin, entry),
    }
    block = yaml.safe_dump({key: value for key, value in metadata.items() if value}, sort_keys=False, allow_unicode=True)
    return f"---\n{block}---"


def title(origin: Origin) -> str:
    """`student of first`, or the folder's name."""
    return f"{origin.name} of {origin.run.name}" if origin.run else Path(origin.model).name


def description(about: Mapping[str, Any], origin: Origin) -> str:
    """One paragraph: task, classes, size, length, teacher."""
    reads = "pairs of texts" if about["pair"] else "texts"
    if about["task"] == "masked_lm":
        does = "Predicts masked words (a masked language model, to be fine-tuned)."
    else:
        does = task_of(about["labels"], about["task"]).does(reads)
    size = f"{about['parameters']:,} parameters ({about['model_type']}); longer rows are truncated to {about['max_length']} tokens."
    teachers = teachers_of(origin)
    return f"{does} {size}" + (f" Distilled from {' and '.join(Path(name).name for name in teachers)}." if teachers else "")


def measured(origin: Origin) -> list[str]:
    """The section with the metrics; none where nothing was measured."""
    entry = _entry(origin)
    if not entry.get("quality"):
        return []
    also_selected = (origin.facts.get("data") or {}).get("test_is_validation")
    on = "the validation rows, which also selected the checkpoint" if also_selected else "the test rows"
    caption = f"The PyTorch model on {on}, with 95 % intervals:"
    if by_teacher(origin.facts):
        caption = f"Agreement of the PyTorch model with its teacher on held-out rows, with 95 % intervals. {UNKNOWN}"
    lines = [f"## Measured\n\n{caption}\n"]
    lines += ["| Metric | Value | Interval |", "| --- | ---: | --- |"]
    for name, metric in entry["quality"].items():
        low, high = metric.get("ci95") or (None, None)
        shown = figure_name(origin.facts, name) if by_teacher(origin.facts) else name
        lines.append(f"| {shown} | {metric['value']:.4f} | {'' if low is None else f'{low:.4f} to {high:.4f}'} |")
    return ["\n".join(lines)]


def provenance(origin: Origin) -> str:
    """Recipe, seed and number of rows, as a list; empty where nothing is known."""
    facts, data, lines = origin.facts, origin.settings.get("data") or {}, []
    if facts.get("recipe"):
        student = f", student `{facts['student']}`" if facts.get("student") else ""
        lines.append(f"- Recipe `{facts['recipe']}`{student}, seed {facts.get('seed')}")
    for split, rows in (facts.get("data") or {}).items():
        if isinstance(rows, Mapping) and "rows" in rows:
            source = data.get(split)
            lines.append(f"- {rows['rows']:,} {split} rows" + (f" of {Path(source).name}" if source else ""))
    if facts.get("understudy"):
        lines.append(f"- understudy {facts['understudy']}")
    return "\n".join(lines)


def teachers_of(origin: Origin) -> list[str]:
    """The teachers that a student was distilled from; none of a teacher, or of a student trained alone."""
    if origin.name in ("teacher", "student_alone"):
        return []
    return [str(name) for name in (origin.settings.get("teacher") or {}).get("models", ())]


def _entry(origin: Origin) -> dict[str, Any]:
    return (origin.facts.get("models") or {}).get(origin.name) or {}


def _model_index(about: Mapping[str, Any], origin: Origin, entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Results as the hub's leaderboards read them; agreement with a teacher is none."""
    if not entry.get("quality") or by_teacher(origin.facts):
        return []
    data = origin.settings.get("data") or {}
    source = next((data[split] for split in ("test", "validation", "train") if data.get(split)), "unknown")
    metrics = [
        {"type": metric_of(origin.facts, name).hub or name, "name": name, "value": metric["value"]}
        for name, metric in entry["quality"].items()
    ]
    dataset = {"name": Path(source).name, "type": source if _HUB_NAME.fullmatch(source) else "own"}
    task = {"type": "fill-mask" if about["task"] == "masked_lm" else "text-classification", "name": about["task"]}
    return [{"name": title(origin), "results": [{"task": task, "dataset": dataset, "metrics": metrics}]}]


def _on_the_hub(names: list[str | None]) -> list[str]:
    """Those that the hub may know: not the paths of this machine."""
    return list(dict.fromkeys(name for name in names if name and _HUB_NAME.fullmatch(name) and not Path(name).exists()))
