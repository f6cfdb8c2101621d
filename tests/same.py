"""Runs whose results must not move where a change is to leave every number as it is: `make same`.

    python tests/same.py            # each run is made anew and compared with tests/same/NAME.json
    python tests/same.py --write    # after a change that is meant to move numbers; the commit says which and why

Everything goes through the command line, so that a change of structure does not touch this file. What takes time is not compared.
Processors differ in the last digits of float32; numbers agree where they differ by less than one part in 100,000.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

REFERENCES = Path(__file__).parent / "same"
TIMED = ("latency", "rows_per_second", "seconds", "times_faster", "memory", "timing", "environment", "command")
ONE_TASK = "--teacher world/teacher --train world/train.jsonl --validation world/validation.jsonl --test world/test.jsonl"
TWO_TASKS = " ".join(
    f"--{option} {name}={folder}/{file}"
    for name, folder in (("mood", "world"), ("likeness", "numbers"))
    for option, file in (("teacher", "teacher"), *((split, f"{split}.jsonl") for split in ("train", "validation", "test")))
)
SHORT = "--set stages.0.train.max_steps=24 --set stages.0.train.evaluations=3 --set stages.0.train.precision=float32"
RUNS = {
    "bilstm": f"distill hinton {ONE_TASK} --transfer world/transfer.jsonl --student bilstm --control alone,pseudo_labels {SHORT}",
    "tinybert": (
        f"distill tinybert {ONE_TASK} --raw world/transfer.jsonl --no-export "
        "--set 'student={kind: narrow, layers: 2, width: 8, heads: 2, initialize: random}' "
        + " ".join(f"--set stages.{stage}.train.max_steps=12 --set stages.{stage}.train.precision=float32" for stage in range(3))
        + " --set 'stages.1.augment={copies: 2, steps: [{kind: masking, probability: 0.2}]}'"
    ),
    "two_tasks": f"distill mt_dnn --task likeness=similarity {TWO_TASKS} --no-export {SHORT}",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write what is found as the new reference")
    write = parser.parse_args().write
    moved = []
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        make_worlds()
        for name, words in RUNS.items():
            understudy(*shlex.split(words), "--out", name)
            found = results(Path(name))
            if name == "bilstm":
                answers = understudy("predict", f"{name}/export", "--input", "world/test.jsonl")
                found["answers of the export"] = [json.loads(line) for line in answers.splitlines()]
            moved += compared(name, found, write=write)
    print("\n".join(moved) or ("written" if write else "the same"))
    sys.exit(1 if moved else 0)


def make_worlds() -> None:
    from conftest import make_world

    make_world(Path("world"))
    make_world(Path("numbers"), pair=True, number=True)


def understudy(*words: str) -> str:
    """The standard output of a command."""
    run = subprocess.run([sys.executable, "-m", "understudy", *words], capture_output=True, text=True, check=False)
    if run.returncode:
        sys.exit(f"understudy {' '.join(words)}\n{run.stdout}{run.stderr}")
    return run.stdout


def results(folder: Path) -> dict[str, Any]:
    """What a run folder holds that takes no time: name of the file → its content."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.name == "facts.json":
            found[name] = untimed(json.loads(path.read_text("utf-8")))
        elif path.name == "metrics.jsonl":
            found[name] = [untimed(json.loads(line)) for line in path.read_text("utf-8").splitlines()]
        elif path.name == "predictions.jsonl.gz":
            with gzip.open(path, "rt", encoding="utf-8") as lines:
                found[name] = [json.loads(line) for line in lines]
    return found


def untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: untimed(inner) for key, inner in value.items() if not any(part in key for part in TIMED)}
    return [untimed(inner) for inner in value] if isinstance(value, list) else value


def compared(name: str, found: dict[str, Any], *, write: bool) -> list[str]:
    """One line for each place where a run differs from its reference; or the reference written."""
    file = REFERENCES / f"{name}.json.gz"
    if write:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(gzip.compress(json.dumps(found, sort_keys=True).encode(), mtime=0))
        return []
    reference = json.loads(gzip.decompress(file.read_bytes()))
    return [f"{name}: {line}" for line in differences(reference, found)]


def differences(expected: Any, found: Any, where: str = "") -> Iterator[str]:
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() | found.keys()):
            yield from differences(expected.get(key), found.get(key), f"{where}/{key}")
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for place, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from differences(one, other, f"{where}/{place}")
    elif isinstance(expected, float) and isinstance(found, float):
        if not math.isclose(expected, found, rel_tol=1e-5, abs_tol=1e-7):
            yield f"{where} was {expected!r}, is {found!r}"
    elif expected != found:
        yield f"{where} was {str(expected)[:200]}, is {str(found)[:200]}"


if __name__ == "__main__":
    main()
