import json as json_
from pathlib import Path
from typing import Annotated

import typer

from understudy.cli import _options as options


def command(
    runs: Annotated[
        list[Path], typer.Argument(help="Run folders, or a search; several runs are compared on one page.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The page to write; default for one run: report.html in its folder.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file that --out names.")] = False,
    json: options.Json = False,
) -> None:
    """Print a run's results and write its page (report.html). Several runs are compared on one page.

    \b
    understudy report runs/first
    understudy report runs/first runs/second runs/third --out comparison.html
    """
    from understudy.errors import RunFolderError
    from understudy.report import search
    from understudy.report.page import read_facts, write_page

    if out is not None and out.is_dir():
        raise RunFolderError(f"{out}: is a folder; --out names a file")
    if out is not None and out.exists() and not overwrite:
        raise RunFolderError(f"{out}: exists already; replace it with --overwrite, or give another --out")
    if len(runs) == 1:
        (run,) = runs
        facts = read_facts(run)
        if facts.get("program") == "search":
            page = search.write_page(run, out)
        else:
            for task in facts.get("tasks", ()):
                write_page(run / task)
            page = write_page(run, out)
        options.show(facts, as_json=json, page=page)
        return
    from rich.console import Console

    from understudy.report import comparison

    if out is None:
        raise RunFolderError(f"{len(runs)} runs: name the page that compares them, as in --out comparison.html")
    compared = comparison.read_runs(runs)
    page = comparison.write_comparison(compared, out)
    if json:
        print(json_.dumps(comparison.facts(compared, page), ensure_ascii=False))
        return
    console = Console()
    console.print(comparison.table(compared))
    for line in (comparison.verdict(compared), *comparison.notes(compared), f"The page: {page}"):
        console.print(line, soft_wrap=True, markup=False)
