"""How much memory predictions take at most, measured in a process that does nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from understudy.evaluation.speed import Text

_STATUS = Path("/proc/self/status")


def peak_memory_mib(model: str, precision: str | None, texts: Sequence[Text], *, threads: int = 1) -> float | None:
    """Peak memory of a new process that loads a model and runs it on the rows in batches of 32, in MiB, Python and libraries included.

    Args:
        model: folder of a torch model, or of an export.
        precision: of an export; None for a torch model.
        texts: rows, each a text and its pair (None where there is none).
        threads: of the new process.

    Returns:
        MiB; None where the system does not report it (it is read from /proc), or the process failed.
    """
    if not _STATUS.is_file():
        return None
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "understudy.evaluation.memory", model, precision or "torch", str(threads)]
    process = subprocess.run(command, input=json.dumps(list(texts)), capture_output=True, text=True, check=False, env=environment)
    return float(process.stdout.split()[-1]) if process.returncode == 0 else None


def _main(model: str, precision: str, threads: str) -> None:
    texts: list[Text] = [(text, pair) for text, pair in json.load(sys.stdin)]
    from understudy.evaluation.speed import answering

    if precision == "torch":
        from understudy.models.text_model import TextModel

        answer = answering(TextModel.load(model))
    else:
        from understudy.runtime import Predictor

        answer = answering(Predictor(model, threads=int(threads), int8=precision == "int8"))
    for start in range(0, len(texts), 32):
        answer(texts[start : start + 32])
    # Not getrusage: what it reports is passed on through exec, and so would be the parent's peak.
    peak = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    print(int(peak.split()[1]) / 1024)


if __name__ == "__main__":
    _main(*sys.argv[1:])
