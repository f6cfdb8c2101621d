import json as json_
from pathlib import Path
from typing import Annotated

import typer

from understudy.cli import _options as options


def command(
    model: Annotated[str, typer.Argument(help="Folder or hub name of an encoder; a missing masked-language-model head is added.")],
    raw: options.Raw = None,
    out: options.Out = Path("runs/pretrained"),
    column: options.Column = None,
    epochs: options.Epochs = None,
    learning_rate: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    max_length: options.MaxLength = None,
    set_: options.Set = None,
    seed: options.Seed = None,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Pretrain an encoder on unlabelled text. It predicts masked tokens; the result is for `distill --pretrained`.

    \b
    understudy pretrain sentence-transformers/all-MiniLM-L6-v2 --raw text.txt.gz --out runs/pretrained
    understudy pretrain path/to/encoder --raw reviews.csv --column text=review --epochs 3 --out runs/pretrained
    """
    from understudy.programs.pretrain import pretrain
    from understudy.runs.folder import command_line
    from understudy.settings.finetune import PretrainSettings
    from understudy.settings.listing import short_forms
    from understudy.settings.loading import build

    short = {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size, "max_length": max_length}
    values = options.overrides(column=column, seed=seed, set_=set_, **short_forms({}, short), **{"data.raw": raw})
    settings = build(PretrainSettings, {"model": model}, values, where="pretrain")
    run = pretrain(settings, out, resume=resume, overwrite=overwrite, device=device, say=options.say, command=command_line())
    if not run.finished:
        return
    if json:
        print(json_.dumps(run.facts, ensure_ascii=False))
        return
    accuracy = run.facts["models"]["teacher"]["quality"]["masked_accuracy"]["value"]
    print(f"{accuracy:.1%} of the masked tokens of held-out text are predicted. Saved the model to {out}")
