import json as json_
from pathlib import Path
from typing import Annotated, Any

import typer

from understudy.cli import _options as options


def command(
    model: Annotated[str, typer.Argument(help="A run folder (its student), or the folder of any fine-tuned model.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    int8: Annotated[bool, typer.Option("--int8", help="Also write an int8 model: about a quarter of the size, and faster.")] = False,
    data: Annotated[
        str | None, typer.Option(help="Rows on which export and model are compared; default: the validation rows of the run.")
    ] = None,
    prune: Annotated[
        list[str] | None,
        typer.Option("--prune", help="Prune the vocabulary to the tokens used in this file, such as the training rows. Repeatable."),
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Fit a temperature on the rows, so that predicted probabilities match observed accuracy.")
    ] = False,
    task: options.TaskOfModel = None,
    column: options.Column = None,
    allow_loss: Annotated[
        bool, typer.Option("--allow-loss", help="Keep an export whose predictions differ from the model's by more than is allowed.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing export.")] = False,
    json: options.Json = False,
) -> None:
    """Export a model to ONNX. The folder has all that predictions need, and is checked to predict as the model does.

    \b
    understudy export runs/first --out exports/first --int8
    understudy export path/to/model --data rows.csv --column text=review --column label=stars --out exports/model
    understudy export runs/first --out exports/small --int8 --prune train.csv --prune unlabelled.txt --calibrate
    """
    from understudy.programs.export import export
    from understudy.runtime import read_description

    exported = export(
        model,
        out,
        int8=int8,
        data=data,
        columns=options.columns(column),
        prune=prune or (),
        calibrate=calibrate,
        allow_loss=allow_loss,
        overwrite=overwrite,
        task=task,
        say=options.say,
    )
    assert exported.folder is not None
    description = read_description(exported.folder)
    steps = {name: description[name] for name in ("pruning", "calibration") if name in description}
    if json:
        print(json_.dumps({"folder": str(exported.folder), "parity": exported.parity, **steps}, ensure_ascii=False))
        return
    if "pruning" in steps:
        kept, total = steps["pruning"]["tokens"][::-1]
        print(f"pruned to {kept:,} of {total:,} tokens: {_parity_line(steps['pruning'])}")
    for precision, figures in exported.parity.items():
        print(f"{precision}: {_parity_line(figures)}")
    if "calibration" in steps:
        calibration = steps["calibration"]
        print(
            f"calibrated: temperature {calibration['temperature']:.3g}; expected calibration error "
            f"{calibration['ece_scaled']:.3f}, before {calibration['ece']:.3f}, on the {calibration['rows']:,} rows that it was "
            "fitted on"
        )
    print(f"Saved the export to {exported.folder}")


def _parity_line(figures: dict[str, Any]) -> str:
    """A comparison of two models' predictions in a line."""
    metric = "" if figures.get("model") is None else f", {figures['metric']} {figures['export']:.4f} of {figures['model']:.4f}"
    return (
        f"agrees on {100 * figures['agreement']:.2f} % of {figures['rows']:,} rows, logits within "
        f"{figures['largest_logit_difference']:.2g}{metric}" + ("" if figures["passed"] else "  (more than is allowed)")
    )
