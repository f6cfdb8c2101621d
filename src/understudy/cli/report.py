import json as json_
from pathlib import Path
from typing import Annotated

import typer

from understudy.cli import _options as options


def command(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or a search; several runs are compared on one page.")],
    out: Annotated[Path | None, typer.Option(help="The page to write; default for one run: report.html in its folder.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file that --out names.")] = False,
    json: options.Json = False,
) -> None:
    """Print a run's results and write its page (report.html). Several runs are compared on one page.

    \b
    understudy report runs/first
    understudy report runs/first runs/second runs/third --out comparison.html
    """
    from understudy.programs.report import report
    from understudy.reporting import comparison
    from understudy.reporting.page import read_facts

    page = report(runs, out, overwrite=overwrite)
    if len(runs) == 1:
        options.show(read_facts(runs[0]), as_json=json, page=page)
        return
    from rich.console import Console

    compared = comparison.read_runs(runs)
    if json:
        print(json_.dumps(comparison.facts(compared, page), ensure_ascii=False))
        return
    console = Console()
    console.print(comparison.table(compared))
    for line in (comparison.verdict(compared), *comparison.notes(compared), f"The page: {page}"):
        console.print(line, soft_wrap=True, markup=False)
