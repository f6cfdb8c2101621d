"""The model card of an export: what it is, what was measured, how to use it without understudy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from understudy.export.origin import Origin

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_HUB_METRICS = {
    "macro_f1": "f1",
    "weighted_f1": "f1",
    "matthews": "matthews_correlation",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
}


def card(about: Mapping[str, Any], origin: Origin) -> str:
    """The text of README.md, with the metadata block that the hub reads.

    Args:
        about: what export.json says.
        origin: what the run folder says.
    """
    settings, facts = origin.settings, origin.facts
    entry = (facts.get("models") or {}).get(origin.name) or {}
    teachers = (
        [str(one) for one in (settings.get("teacher") or {}).get("models", ())] if origin.name != "teacher" else []
    )
    data = settings.get("data") or {}
    metadata = {
        "library_name": "onnx",
        "pipeline_tag": "text-classification",
        "tags": ["understudy", "onnx", *(["knowledge-distillation"] if teachers else []), about["task"]],
        "datasets": _on_the_hub([data.get(split) for split in ("train", "validation", "test")]),
        "base_model": _on_the_hub([*teachers, settings.get("model")]),
        "metrics": list(dict.fromkeys(_HUB_METRICS.get(name, name) for name in entry.get("quality", {}))),
        "model-index": _model_index(about, origin, entry),
    }
    block = yaml.safe_dump(
        {key: value for key, value in metadata.items() if value}, sort_keys=False, allow_unicode=True
    )
    sections = [
        f"---\n{block}---",
        f"# {_title(origin)}",
        _what(about, origin, teachers),
        "## Use it\n\nWith `onnxruntime` and `tokenizers` alone, in this folder:\n\n"
        + f"```python\n{_example(about)}```",
        "Or `understudy predict FOLDER`, or `understudy.runtime.Predictor(FOLDER)`, which read many texts in batches.",
        *(["## Measured\n\n" + _measured(entry, facts)] if entry.get("quality") else []),
        "## Answers as the model it came from\n\n" + _parity(about),
        "## Made of\n\n" + _made(about, origin, data),
    ]
    return "\n\n".join(sections) + "\n"


def _title(origin: Origin) -> str:
    return f"{origin.name} of {origin.run.name}" if origin.run else Path(origin.model).name


def _what(about: Mapping[str, Any], origin: Origin, teachers: list[str]) -> str:
    reads = "pairs of texts" if about["pair"] else "text"
    if about["labels"] is None:
        says = f"Gives a number to {reads}."
    else:
        names = ", ".join(f"`{name}`" for name in about["labels"][:20])
        says = (
            f"Sorts {reads} into {len(about['labels'])} classes: {names}{', …' if len(about['labels']) > 20 else ''}."
        )
    made = f"{about['parameters']:,} parameters ({about['model_type']}), at most {about['max_length']} tokens of a row."
    taught = f" Distilled from {' and '.join(Path(one).name for one in teachers)}." if teachers else ""
    return f"{says} {made}{taught}"


def _example(about: Mapping[str, Any]) -> str:
    text = '"a gripping film"' + (', "a moving one"' if about["pair"] else "")
    answer = "logits[0]" if about["labels"] is None else 'about["labels"][logits.argmax()]'
    file = about["files"].get("int8", about["files"].get("float32"))
    return f"""import json, numpy, onnxruntime, tokenizers

about = json.load(open("export.json", encoding="utf-8"))
tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
tokenizer.enable_truncation(about["max_length"], direction=about["truncation_side"])
session = onnxruntime.InferenceSession("{file}")
row = tokenizer.encode({text})
inputs = {{"input_ids": row.ids, "attention_mask": row.attention_mask, "token_type_ids": row.type_ids}}
logits = session.run(None, {{name: numpy.array([inputs[name]], dtype="int64") for name in about["inputs"]}})[0][0]
print({answer})
"""


def _measured(entry: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    also_selected = (facts.get("data") or {}).get("test_is_validation")
    on = "the validation rows, which also selected it" if also_selected else "test rows"
    lines = [
        f"The torch model on {on}, with 95 % intervals:",
        "",
        "| Metric | Value | Interval |",
        "| --- | ---: | --- |",
    ]
    for name, found in entry["quality"].items():
        low, high = found.get("ci95") or (None, None)
        lines.append(f"| {name} | {found['value']:.4f} | {'' if low is None else f'{low:.4f} to {high:.4f}'} |")
    return "\n".join(lines)


def _parity(about: Mapping[str, Any]) -> str:
    lines = [
        "| File | Rows | Largest difference of a logit | Agreement | Primary metric |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for precision, figures in about["parity"].items():
        metric = (
            f"{figures['metric']} {figures['export']:.4f} of {figures['model']:.4f}"
            if figures.get("model") is not None
            else "–"
        )
        lines.append(
            f"| `{about['files'][precision]}` | {figures['rows']:,} | {figures['largest_logit_difference']:.2g} "
            f"| {100 * figures['agreement']:.2f} % | {metric} |"
        )
    lost = [about["files"][name] for name, figures in about["parity"].items() if not figures["passed"]]
    notes = []
    if pruning := about.get("pruning"):
        kept, whole = pruning["tokens"][::-1]
        notes.append(
            f"Its vocabulary was pruned to {kept:,} of {whole:,} tokens first: the same label on {100 * pruning['agreement']:.2f} % "
            "of the rows. The table compares with the pruned model."
        )
    if calibrated := about.get("calibration"):
        notes.append(
            f"For probabilities divide the logits by {calibrated['temperature']:.4g} before the softmax, as `understudy` does: "
            f"the temperature that {calibrated['rows']:,} rows fit best."
        )
    return "\n\n".join(["\n".join(lines), *notes]) + (
        f"\n\n**{', '.join(lost)} differs more than is allowed; it was exported all the same.**" if lost else ""
    )


def _made(about: Mapping[str, Any], origin: Origin, data: Mapping[str, Any]) -> str:
    facts, lines = origin.facts, []
    if facts.get("recipe"):
        lines.append(
            f"- Recipe `{facts['recipe']}`, student `{facts.get('student', 'none')}`, seed {facts.get('seed')}"
        )
    for split, found in (facts.get("data") or {}).items():
        if isinstance(found, Mapping) and "rows" in found:
            source = data.get(split)
            lines.append(f"- {found['rows']:,} {split} rows" + (f" of {Path(source).name}" if source else ""))
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    return "\n".join([*lines, f"- ONNX operators {about['opset']}; {versions}"])


def _model_index(about: Mapping[str, Any], origin: Origin, entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Results as the hub's leaderboards read them."""
    if not entry.get("quality"):
        return []
    data = origin.settings.get("data") or {}
    source = next((data[split] for split in ("test", "validation", "train") if data.get(split)), "unknown")
    metrics = [
        {"type": _HUB_METRICS.get(name, name), "name": name, "value": found["value"]}
        for name, found in entry["quality"].items()
    ]
    named = {"name": Path(source).name, "type": source if _HUB_NAME.fullmatch(source) else "own"}
    task = {"type": "text-classification", "name": about["task"]}
    return [{"name": _title(origin), "results": [{"task": task, "dataset": named, "metrics": metrics}]}]


def _on_the_hub(names: list[str | None]) -> list[str]:
    """Those that the hub would know: nobody else has our paths."""
    return list(dict.fromkeys(name for name in names if name and _HUB_NAME.fullmatch(name) and not Path(name).exists()))
