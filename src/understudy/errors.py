"""Everything that understudy raises on purpose.

UnderstudyError                 exit 1
├── UserError                   exit 2: the user can fix it; the message says where, what was got, what is allowed
│   ├── RecipeError             a recipe or a `--set` that does not fit; all its mistakes in one message
│   ├── DataError               a file, a column, a row or a label
│   ├── ModelError              a teacher or student folder
│   ├── StoreError              kept teacher outputs that do not fit, or are damaged
│   └── RunFolderError          an output folder that is in use, or of another run
├── TrainingError               training broke down (a loss that is not a number)
└── ExportError                 an export that does not answer as its model does
"""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class UnderstudyError(Exception):
    """Base of all errors of this package."""

    exit_code = 1


class UserError(UnderstudyError):
    """Something the user gave does not fit; nothing was trained and nothing half-written."""

    exit_code = 2


class RecipeError(UserError):
    """A recipe, or a value set on the command line, that does not fit."""


class DataError(UserError):
    """A data file, column, row or label that does not fit."""


class ModelError(UserError):
    """A model folder that cannot be used as asked."""


class StoreError(UserError):
    """Kept teacher outputs that do not fit this teacher or are damaged."""


class RunFolderError(UserError):
    """An output folder that cannot be used as asked."""


class TrainingError(UnderstudyError):
    """Training broke down."""


class ExportError(UnderstudyError):
    """A model that cannot be exported, or an export that does not answer as the model does."""


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """The words that follow an unknown name: what is known, and the near miss if there is one.

    >>> did_you_mean("soft_target", ["labels", "soft_targets"])
    "known are labels, soft_targets. Did you mean 'soft_targets'?"
    >>> did_you_mean("x", ["labels"])
    'known are labels.'
    """
    known = list(known)
    near = get_close_matches(got, known, n=1)
    return f"known are {', '.join(known)}." + (f" Did you mean '{near[0]}'?" if near else "")


def near_folder(folder: Path, *, files: bool = False) -> str:
    """The words that follow the name of a folder (or file) that is not there: the near miss beside it, if there is one."""
    there = folder.parent.iterdir() if folder.parent.is_dir() else ()
    beside = [path.name for path in there if files or path.is_dir()]
    beside = [name for name in beside if not name.startswith(".")]  # unfinished ones of ours among them
    near = get_close_matches(folder.name, beside, n=1)
    return f" (did you mean '{folder.with_name(near[0])}'?)" if near else ""
