"""The program `list`: the packaged recipes and kinds of parts."""

from __future__ import annotations

from understudy.parts import kinds
from understudy.settings.loading import packaged

FOLDERS = ("recipes", "students", "objectives", "augmenters", "tasks")


def list_(what: str) -> dict[str, str]:
    """The packaged recipes, or the kinds of `students`, `objectives`, `augmenters` or `tasks`: name → a line that describes it.

    >>> list_("tasks")["similarity"]
    'Regression on a pair of texts, or on one text. Metrics as of scipy.'

    Raises:
        RecipeError: no such folder.
    """
    return packaged() if what == "recipes" else kinds(what)
