"""Facts as a table with their verdict: for the terminal, for a Python prompt, and for a notebook."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any


def parts_of(facts: Mapping[str, Any]) -> Iterator[Any]:
    """The table; of a run also what its timings are, what to do, and the verdict."""
    from rich.text import Text

    if facts.get("program") == "search":
        from understudy.reporting.search import table, verdict
    elif "tasks" in facts:
        from understudy.reporting.tasks import table, verdict
    else:
        from understudy.reporting.table import table, verdict
    yield table(facts)
    if "findings" in facts:
        from understudy.reporting.headline import lines
        from understudy.reporting.table import footnote

        if note := footnote(facts):
            yield Text(note, style="dim")
        for number, line in enumerate(lines(facts)):
            yield Text(line, style="" if number else "bold")
    elif "tasks" in facts:
        from understudy.reporting.tasks import warnings

        yield from (Text(f"- {line}") for line in warnings(facts))
    if "gain_over_alone" in facts or "tasks" in facts or facts.get("program") == "search":
        yield verdict(facts)


def as_text(facts: Mapping[str, Any], *, width: int = 110) -> str:
    """Table and verdict without colours."""
    from rich.console import Console

    text = io.StringIO()
    console = Console(file=text, width=width, color_system=None, highlight=False)
    for part in parts_of(facts):
        console.print(part)
    return text.getvalue().rstrip()


def as_html(facts: Mapping[str, Any], *, width: int = 110) -> str:
    """Table and verdict for a notebook; texts of users are escaped."""
    from html import escape

    return f'<pre style="white-space: pre-wrap">{escape(as_text(facts, width=width))}</pre>'
