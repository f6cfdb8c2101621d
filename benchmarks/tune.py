"""How the defaults were chosen: a small grid for each kind of training, judged by validation on two data sets or more.

    python benchmarks/tune.py run [KIND ...] [--data NAME ...]      # runs go on where they stopped; `finetune` comes first
    python benchmarks/tune.py table                                 # a Markdown table: the best validation value of each setting

One seed; no control, no test rows of their own. The students learn from the teachers that `run finetune` makes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from itertools import product
from pathlib import Path

from results import files

from understudy.programs.demo import minilm

OUT = Path("runs/tune")
DATA = ("sst2_sentences", "trec6", "mrpc")
TEACHER_RATE = "1e-4"
RATES = {
    "finetune": ("5e-5", "1e-4", "2e-4"),
    "teacher_layers": ("1e-4", "2e-4", "4e-4"),
    "narrow": ("5e-4", "1e-3", "2e-3"),
    "bilstm": ("5e-4", "1e-3", "2e-3"),
    "static_embeddings": ("1e-3", "3e-3", "1e-2"),
}
OWN_RATE = {"narrow": "5e-4", "bilstm": "1e-3", "static_embeddings": "1e-3"}
# (recipe, weight of labels, weight of the teacher, temperature)
LOSSES = (("hinton", 0.5, 0.5, 2.0), ("hinton", 0.1, 0.9, 4.0), ("tang", 0.1, 0.9, None))


def settings(kind: str):
    """Every rate with the first loss, then every other loss with the kind's own rate."""
    yield from product(RATES[kind], LOSSES[:1])
    if kind in OWN_RATE:  # benchmarks/results.py compares losses on the others
        yield from product([OWN_RATE[kind]], LOSSES[1:])


def place(data: str, kind: str, rate: str, loss: tuple) -> Path:
    return OUT / "-".join(map(str, (data, kind, rate, *(() if kind == "finetune" else loss))))


def run(kinds: list[str], data_sets: list[str]) -> None:
    for kind in kinds:
        for data, (rate, loss) in product(data_sets, settings(kind)):
            out = place(data, kind, rate, loss)
            if (out / "facts.json").exists():
                continue
            if kind == "finetune":
                call("finetune", str(minilm()), *files(data), "--set", f"train.learning_rate={rate}", "--out", str(out), "--resume")
                continue
            recipe, labels, taught, temperature = loss
            values = {"stages.0.train.learning_rate": rate, "stages.0.objectives.0.weight": labels, "stages.0.objectives.1.weight": taught}
            if temperature:
                values["stages.0.objectives.1.temperature"] = temperature
            sets = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
            call(
                "distill",
                recipe,
                "--teacher",
                str(place(data, "finetune", TEACHER_RATE, loss)),
                "--student",
                kind,
                *files(data),
                *sets,
                "--no-control",
                "--store",
                str(OUT / f"{data}-outputs"),
                "--out",
                str(out),
                "--resume",
            )


def call(*arguments: str) -> None:
    print("understudy", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "understudy", *arguments], check=True, stdout=subprocess.DEVNULL)


def table() -> None:
    print("| training | data | rate | loss | best validation accuracy | at the end |\n| --- | --- | ---: | --- | ---: | ---: |")
    for kind in RATES:
        for data, (rate, loss) in product(DATA, settings(kind)):
            out = place(data, kind, rate, loss)
            if (out / "facts.json").exists():
                lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
                curve = [line["validation"]["accuracy"] for line in lines if "validation" in line]
                named = "labels" if kind == "finetune" else " ".join(str(part) for part in loss if part is not None)
                print(f"| {kind} | {data} | {rate} | {named} | {max(curve):.3f} | {curve[-1]:.3f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("kinds", nargs="*", default=list(RATES))
    parser.add_argument("--data", nargs="+", default=list(DATA))
    asked = parser.parse_args()
    run(asked.kinds, asked.data) if asked.what == "run" else table()
