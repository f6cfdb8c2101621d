from pathlib import Path
from typing import Annotated

import typer

from understudy.cli import _options as options


def command(
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="Of everything drawn at random.")] = 0,
    no_baseline: options.NoBaseline = False,
    overwrite: options.Overwrite = False,
    device: options.Device = None,
    json: options.Json = False,
) -> None:
    """Distil a real teacher on built-in data, offline, and show what was kept (about 6 minutes on two idle cores).

    Goes on where an earlier demo stopped.

    \b
    understudy demo
    understudy demo --out runs/again --seed 1
    """
    from understudy.demo import demo, summary
    from understudy.run import command_line

    runs = demo(
        out,
        seed=seed,
        resume=True,
        overwrite=overwrite,
        device=device,
        say=options.say,
        command=command_line(),
        baseline=not no_baseline,
    )
    if json:
        print(summary(runs))
        return
    for name, run in runs.items():
        print(f"\n{name.replace('_', ' ')}")
        options.show(run.facts, as_json=False, page=run.folder / "report.html")
