"""The model card of an export: what it is, what was measured, how to use it without understudy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from understudy.exporting.model_card import description, header, measured, provenance, title
from understudy.tasks import task_of

if TYPE_CHECKING:
    from understudy.models.origin import Origin


def card(about: Mapping[str, Any], origin: Origin) -> str:
    """The text of README.md, with the metadata block that the hub reads.

    Args:
        about: the contents of export.json.
        origin: the facts of the run folder.
    """
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    sections = [
        header(about, origin, "onnx", "text-classification", "onnx"),
        f"# {title(origin)}",
        description(about, origin),
        "## Use it\n\nWith `onnxruntime` and `tokenizers` alone, in this folder:\n\n" + f"```python\n{_example(about)}```",
        "Or `understudy predict FOLDER`, or `understudy.runtime.Predictor(FOLDER)`, which read many texts in batches.",
        *measured(origin),
        "## Agreement with the PyTorch model\n\n" + _parity(about),
        "## How it was made\n\n" + "\n".join(filter(None, [provenance(origin), f"- ONNX operators {about['opset']}; {versions}"])),
    ]
    return "\n\n".join(sections) + "\n"


def _example(about: Mapping[str, Any]) -> str:
    text = '"a gripping film"' + (', "a moving one"' if about["pair"] else "")
    answer = task_of(about["labels"], about["task"]).reads_output
    file = about["files"].get("int8", about["files"].get("float32"))
    return f"""import json, numpy, onnxruntime, tokenizers
about = json.load(open("export.json", encoding="utf-8"))
tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
tokenizer.encode_special_tokens = True  # a text may spell one
tokenizer.enable_truncation(about["max_length"], direction=about["truncation_side"])
session = onnxruntime.InferenceSession("{file}")
row = tokenizer.encode({text})
inputs = {{"input_ids": row.ids, "attention_mask": row.attention_mask, "token_type_ids": row.type_ids}}
logits = session.run(None, {{name: numpy.array([inputs[name]], dtype="int64") for name in about["inputs"]}})[0][0]
print({answer})
"""


def _parity(about: Mapping[str, Any]) -> str:
    lines = ["| File | Rows | Largest difference of a logit | Agreement | Primary metric |", "| --- | ---: | ---: | ---: | --- |"]
    for precision, figures in about["parity"].items():
        metric = f"{figures['metric']} {figures['export']:.4f} of {figures['model']:.4f}" if figures.get("model") is not None else "–"
        lines.append(
            f"| `{about['files'][precision]}` | {figures['rows']:,} | {figures['largest_logit_difference']:.2g} "
            f"| {100 * figures['agreement']:.2f} % | {metric} |"
        )
    failed = [about["files"][name] for name, figures in about["parity"].items() if not figures["passed"]]
    notes = []
    if pruning := about.get("pruning"):
        kept_tokens, all_tokens = pruning["tokens"][::-1]
        notes.append(
            f"Its vocabulary was pruned to {kept_tokens:,} of {all_tokens:,} tokens first: the same label on "
            f"{100 * pruning['agreement']:.2f} % of the rows. The table compares with the pruned model."
        )
    if calibrated := about.get("calibration"):
        notes.append(
            f"For probabilities divide the logits by {calibrated['temperature']:.4g} before the softmax, as `understudy` does: "
            f"the temperature that {calibrated['rows']:,} rows fit best."
        )
    return "\n\n".join(["\n".join(lines), *notes]) + (
        f"\n\n**{', '.join(failed)} differs from the model by more than is allowed; it was exported with --allow-loss.**" if failed else ""
    )
