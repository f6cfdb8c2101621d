"""How the defaults were chosen: a small grid for each kind of student, judged by validation on two data sets.

    python benchmarks/tune.py run [KIND ...]      # runs go on where they stopped
    python benchmarks/tune.py table               # prints the best validation accuracy of each setting

Needs the teachers of benchmarks/results.py for sst2_sentences, and trains one for trec6.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from itertools import product
from pathlib import Path

from results import OUT as RESULTS
from results import files

from understudy.demo import minilm

OUT = Path("runs/tune")
TEACHERS = {"sst2_sentences": RESULTS / "all_labels" / "teacher-0", "trec6": OUT / "trec6-teacher"}
RATES = {
    "bilstm": ("5e-4", "1e-3", "2e-3"),
    "narrow": ("3e-4", "6e-4", "1.2e-3"),
    "static_embeddings": ("1e-3", "3e-3", "1e-2"),
    "teacher_layers": ("5e-5", "1e-4", "2e-4"),
}
# (recipe, weight of labels, weight of the teacher, temperature)
LOSSES = (("hinton", 0.5, 0.5, 2.0), ("hinton", 0.1, 0.9, 4.0), ("tang", 0.1, 0.9, None))


def settings(kind: str):
    """Every rate with the first loss, then every other loss with the middle rate."""
    middle = RATES[kind][1]
    yield from product(RATES[kind], LOSSES[:1])
    if kind in ("bilstm", "static_embeddings"):  # benchmarks/results.py compares losses on the others
        yield from product([middle], LOSSES[1:])


def name(data: str, kind: str, rate: str, loss: tuple) -> str:
    return "-".join(map(str, (data, kind, rate, *loss)))


def run(kinds: list[str]) -> None:
    if not (TEACHERS["trec6"] / "facts.json").exists():
        call("finetune", str(minilm()), *files("trec6"), "--out", str(TEACHERS["trec6"]), "--resume")
    for kind in kinds:
        for data, (rate, loss) in product(TEACHERS, settings(kind)):
            out = OUT / name(data, kind, rate, loss)
            if (out / "facts.json").exists():
                continue
            recipe, labels, teacher, temperature = loss
            values = {
                "stages.0.train.learning_rate": rate,
                "stages.0.objectives.0.weight": labels,
                "stages.0.objectives.1.weight": teacher,
            }
            if temperature:
                values["stages.0.objectives.1.temperature"] = temperature
            sets = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
            call("distill", recipe, "--teacher", str(TEACHERS[data]), "--student", kind, *files(data), *sets, "--no-control",
                 "--store", str(OUT / f"{data}-outputs"), "--out", str(out), "--resume")  # fmt: skip


def call(*arguments: str) -> None:
    print("understudy", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "understudy", *arguments], check=True, stdout=subprocess.DEVNULL)


def table() -> None:
    for kind in RATES:
        for data, (rate, loss) in product(TEACHERS, settings(kind)):
            out = OUT / name(data, kind, rate, loss)
            if (out / "facts.json").exists():
                lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
                curve = [line["validation"]["accuracy"] for line in lines if "validation" in line]
                seconds = json.loads((out / "facts.json").read_text("utf-8"))["models"]["student"]["seconds"]
                print(
                    f"{kind:18} {data:15} rate {rate:7} {loss!s:35} best {max(curve):.4f} last {curve[-1]:.4f} {seconds:6.0f} s"
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("kinds", nargs="*", default=list(RATES))
    asked = parser.parse_args()
    run(asked.kinds) if asked.what == "run" else table()
