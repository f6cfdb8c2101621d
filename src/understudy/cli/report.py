from pathlib import Path
from typing import Annotated

import typer

from understudy.cli import _options as options


def command(run: Annotated[Path, typer.Argument(help="A run folder.")], json: options.Json = False) -> None:
    """Write the page of a run again from its folder, and print its table.

    \b
    understudy report runs/first
    """
    from understudy.errors import RunFolderError
    from understudy.report.page import write_page
    from understudy.run import FACTS, Run

    if not (run / FACTS).is_file():
        raise RunFolderError(
            f"{run}: no {FACTS} in it: not a run folder, or a run that is not finished (go on with --resume)"
        )
    facts = Run(run, fresh=False).facts
    pages = [write_page(folder) for folder in ([run / task for task in facts["tasks"]] if "tasks" in facts else [run])]
    options.show(facts, as_json=json, page=run / pages[0].name)
