"""The command `understudy`: one file a command. Each parses, calls one library function, and prints.

Importing this loads no torch; a command imports what it needs when it runs.
"""

from __future__ import annotations

import errno
import importlib
import os
import pkgutil
import re
import sys

import typer

INTERRUPTED = 130

# A traceback formatted by rich would hide the message in its last line.
app = typer.Typer(
    name="understudy",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Knowledge distillation for text models, with controls. Start with: understudy demo",
)


def _version(wanted: bool) -> None:
    if wanted:
        from understudy import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _callback(version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version.")) -> None:
    pass


for _module in pkgutil.iter_modules(__path__):
    if not _module.name.startswith("_"):
        _command = importlib.import_module(f"{__name__}.{_module.name}").command
        # A \b (backspace) in a docstring makes click keep the line breaks of the examples after it.
        app.command(name=_module.name.rstrip("_"))(_command)


_RESUMING = {
    "distill": "What is done is kept: resume it with the same command and --resume.",
    "pretrain": "What is done is kept: resume it with the same command and --resume.",
    "finetune": "What is done is kept: resume it with the same command and --resume.",
    "teach": "What is done is kept: the same command resumes it.",
    "demo": "What is done is kept: the same command resumes it.",
    "search": "What is done is kept: resume it with the same command and --resume.",
}


def main() -> None:
    """Run a command. Errors that understudy raises, and a full or read-only disk, end in one message without a traceback.

    Exit codes: 0 done, 1 failure, 2 the user's mistake, 130 interrupted.
    """
    from understudy.cli._options import forget_notes
    from understudy.errors import UnderstudyError
    from understudy.installation import namesake_warning
    from understudy.machine import reuse_memory

    forget_notes()
    if warning := namesake_warning():
        print(f"understudy: warning: {warning}", file=sys.stderr)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # Waiting threads that spin take the processor from the threads that they wait for: ten times slower on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    reuse_memory()
    try:
        app()
    except UnderstudyError as error:
        print(f"understudy: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        again = "resume with --resume" if _command_name() in ("distill", "finetune", "pretrain", "search") else "run the command again"
        print(f"understudy: {refusal}. Make room (or give another --out), then {again}.", file=sys.stderr)
        sys.exit(1)
    except SystemExit as exit:
        if exit.code == INTERRUPTED:  # typer turns KeyboardInterrupt into this code
            print(f"\nunderstudy: interrupted. {_RESUMING.get(_command_name(), '')}".rstrip(" "), file=sys.stderr)
        raise


def _command_name() -> str:
    """The first argument that is not an option."""
    return next((word for word in sys.argv[1:] if not word.startswith("-")), "")


def _refusal(error: Exception) -> str | None:
    """The message where the system refused to write (disk full, quota, no permission); None for any other error.

    safetensors and tokenizers put the system's error number into the text of theirs. torch reports only that a file is too short.
    """
    refusals = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS)
    if isinstance(error, OSError):
        return f"{error.filename or 'writing'}: {error.strerror}" if error.errno in refusals else None
    match = re.search(r"\(os error (\d+)\)", str(error))
    if match and int(match[1]) in refusals:
        return f"writing: {os.strerror(int(match[1]))}"
    return "writing a checkpoint: no space left, it seems" if "unexpected pos" in str(error) else None
