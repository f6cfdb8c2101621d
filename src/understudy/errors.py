"""Every error that understudy raises on purpose.

UnderstudyError                 exit 1
├── UserError                   exit 2: the user can fix it; the message says where, what was got, what is allowed
│   ├── RecipeError             a recipe or a `--set` that is invalid; all its mistakes in one message
│   ├── DataError               a file, a column, a row or a label
│   ├── ModelError              a teacher or student folder
│   ├── StoreError              cached teacher outputs that belong to another teacher, or are damaged
│   └── RunFolderError          an output folder that is in use, or of another run
├── TrainingError               training failed (a loss that is not a number)
└── ExportError                 an export whose outputs differ from its model's
"""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class UnderstudyError(Exception):
    """Base of all errors of this package."""

    exit_code = 1


class UserError(UnderstudyError):
    """Invalid input of the user's. Nothing was trained, and nothing was left half-written."""

    exit_code = 2


class RecipeError(UserError):
    """An invalid recipe, or an invalid value on the command line."""


class DataError(UserError):
    """An invalid data file, column, row or label."""


class ModelError(UserError):
    """A model folder that cannot be used."""


class StoreError(UserError):
    """Cached teacher outputs that belong to another teacher, or are damaged."""


class RunFolderError(UserError):
    """An output folder that cannot be used."""


class TrainingError(UnderstudyError):
    """Training failed."""


class ExportError(UnderstudyError):
    """A model that cannot be exported, or an export whose outputs differ from the model's."""


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known names, and the closest one if it is near.

    Args:
        got: the unknown name.
        known: names that are allowed.

    >>> did_you_mean("soft_target", ["labels", "soft_targets"])
    "known are labels, soft_targets. Did you mean 'soft_targets'?"
    >>> did_you_mean("x", ["labels"])
    'known are labels.'
    """
    known = list(known)
    near = get_close_matches(got, known, n=1)
    return f"known are {', '.join(known)}." + (f" Did you mean '{near[0]}'?" if near else "")


def near_folder(folder: Path, *, files: bool = False) -> str:
    """The end of a message about a missing folder (with `files`: or file): a similar name beside it, if there is one."""
    siblings = folder.parent.iterdir() if folder.parent.is_dir() else ()
    names = [path.name for path in siblings if files or path.is_dir()]
    names = [name for name in names if not name.startswith(".")]  # our unfinished folders begin with a dot
    near = get_close_matches(folder.name, names, n=1)
    return f" (did you mean '{folder.with_name(near[0])}'?)" if near else ""
