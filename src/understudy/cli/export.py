import json as json_
from pathlib import Path
from typing import Annotated, Any

import typer

from understudy.cli import _options as options


def command(
    model: Annotated[
        str,
        typer.Argument(help="A run folder (its student), or the folder of any fine-tuned model."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    int8: Annotated[
        bool, typer.Option("--int8", help="Also write an int8 model: about a quarter of the size, and faster.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(help="Rows on which export and model are compared; default: the validation rows of the run."),
    ] = None,
    prune: Annotated[
        list[str] | None,
        typer.Option(
            "--prune",
            help="Prune the vocabulary to the tokens used in this file, such as the training rows. Repeatable.",
        ),
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Fit a temperature on the rows, so that predicted probabilities match observed accuracy.",
        ),
    ] = False,
    task: options.OwnTask = None,
    column: options.Column = None,
    allow_loss: Annotated[
        bool,
        typer.Option(
            "--allow-loss", help="Keep an export whose predictions differ from the model's by more than is allowed."
        ),
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

    found = export(
        model, out, int8=int8, data=data, columns=options.columns(column), prune=prune or (), calibrate=calibrate,
        allow_loss=allow_loss, overwrite=overwrite, task=task, say=options.say,
    )  # fmt: skip
    assert found.folder is not None
    about = read_description(found.folder)
    more = {name: about[name] for name in ("pruning", "calibration") if name in about}
    if json:
        print(json_.dumps({"folder": str(found.folder), "parity": found.parity, **more}, ensure_ascii=False))
        return
    if "pruning" in more:
        kept, whole = more["pruning"]["tokens"][::-1]
        print(f"pruned to {kept:,} of {whole:,} tokens: {said(more['pruning'])}")
    for precision, figures in found.parity.items():
        print(f"{precision}: {said(figures)}")
    if "calibration" in more:
        one = more["calibration"]
        print(
            f"calibrated: temperature {one['temperature']:.3g}; expected calibration error {one['ece_scaled']:.3f}, before "
            f"{one['ece']:.3f}, on the {one['rows']:,} rows that it was fitted on"
        )
    print(f"Saved the export to {found.folder}")


def said(figures: dict[str, Any]) -> str:
    """The figures of a comparison in a line."""
    metric = (
        ""
        if figures.get("model") is None
        else f", {figures['metric']} {figures['export']:.4f} of {figures['model']:.4f}"
    )
    return (
        f"agrees on {100 * figures['agreement']:.2f} % of {figures['rows']:,} rows, logits within "
        f"{figures['largest_logit_difference']:.2g}{metric}" + ("" if figures["passed"] else "  (more than is allowed)")
    )
