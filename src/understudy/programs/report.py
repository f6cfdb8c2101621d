"""The program `report`: the page of a finished run, or a page that compares several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from understudy.errors import RunFolderError


def report(runs: str | Path | Sequence[str | Path], out: str | Path | None = None, *, overwrite: bool = False) -> Path:
    """Write the page of a run or a search again, or a page that compares several runs.

    Args:
        runs: a run folder, or several.
        out: the page; None, for a single run: `report.html` in its folder.
        overwrite: replace the file `out`.

    Returns:
        the path of the page.

    Raises:
        RunFolderError: a run that is not finished, several runs without `out`, or a page that exists already.
    """
    from understudy.reporting import comparison, search
    from understudy.reporting.page import read_facts, write_page

    folders = [Path(run) for run in ([runs] if isinstance(runs, str | Path) else runs)]
    page = None if out is None else Path(out)
    if page is not None and page.is_dir():
        raise RunFolderError(f"{page}: is a folder; --out names a file")
    if page is not None and page.exists() and not overwrite:
        raise RunFolderError(f"{page}: exists already; replace it with --overwrite, or give another --out")
    if len(folders) > 1:
        if page is None:
            raise RunFolderError(f"{len(folders)} runs: name the page that compares them, as in --out comparison.html")
        return comparison.write_comparison(comparison.read_runs(folders), page)
    (run,) = folders
    facts = read_facts(run)
    if facts.get("program") == "search":
        return search.write_page(run, page)
    for task in facts.get("tasks", ()):
        write_page(run / task)
    return write_page(run, page)
