from pathlib import Path
from typing import Annotated

import typer

from understudy.cli import _options as options


def command(
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    no_baseline: options.NoBaseline = False,
    overwrite: options.Overwrite = False,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Distil a real teacher on built-in data, offline. It has few labels and much text; the report shows what was kept.

    Continues where an earlier demo stopped.

    \b
    understudy demo
    understudy demo --out runs/again --seed 1
    """
    from understudy.programs.demo import NEXT, demo
    from understudy.runs.folder import command_line

    run = demo(
        out, seed=seed, resume=True, overwrite=overwrite, device=device, say=options.say, command=command_line(), baseline=not no_baseline
    )
    options.show(run.facts, as_json=json, page=run.folder / "report.html")
    if not json:
        print("\n" + NEXT.format(out=out), end="")
