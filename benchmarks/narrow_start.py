"""What a narrow student should start from: nothing, the teacher's word embeddings, or a projection of all its weights.

    python benchmarks/narrow_start.py run [--data NAME ...] [--shape SHAPE ...] [--steps N]    # goes on where it stopped
    python benchmarks/narrow_start.py table [--data NAME ...]              # a Markdown table from what has run

Three seeds, recipe `hinton`, the kind's own settings of training; of each run the best of ten validation accuracies, which favours none of
the starts, and the first of the ten, a tenth of the way. No control, no test rows. One teacher a data set, MiniLM.
`--steps` cuts every training short, to see whether all of it works.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from itertools import product
from pathlib import Path

from results import SEEDS, files, set_
from tune import call

from understudy.programs.demo import minilm

OUT = Path("runs/narrow_start")
DATA = ("sst2_sentences", "trec6")
STARTS = ("random", "teacher", "projection")
SHAPES = {"2 × 128": {"layers": 2, "width": 128, "heads": 2}, "3 × 192": {"layers": 3, "width": 192, "heads": 6}}


def place(data: str, shape: str, start: str, seed: int) -> Path:
    return OUT / f"{data}-{shape.replace(' × ', 'x')}-{start}-{seed}"


def run(data_sets: list[str], shapes: list[str], steps: int | None) -> None:
    for data in data_sets:
        teacher = OUT / f"{data}-teacher"
        if not (teacher / "facts.json").exists():
            cut = set_(train__max_steps=steps) if steps else []
            call("finetune", str(minilm()), *files(data), *set_(train__learning_rate="1e-4"), *cut, "--out", str(teacher), "--resume")
        for seed, shape, start in product(SEEDS, shapes, STARTS):
            out = place(data, shape, start, seed)
            if (out / "facts.json").exists():
                continue
            student = {f"student.{name}": size for name, size in SHAPES[shape].items()} | {"student.initialize": start}
            cut = set_(stages__0__train__max_steps=steps) if steps else []
            call(
                "distill",
                "hinton",
                "--teacher",
                str(teacher),
                "--student",
                "narrow",
                *set_(**student),
                *files(data),
                *cut,
                "--seed",
                str(seed),
                "--no-control",
                "--store",
                str(OUT / f"{data}-outputs"),
                "--out",
                str(out),
                "--resume",
            )
            shutil.rmtree(out / "student")  # only the curve is asked for


def curve(out: Path) -> list[float]:
    lines = map(json.loads, (out / "metrics.jsonl").read_text("utf-8").splitlines())
    return [line["validation"]["accuracy"] for line in lines if "validation" in line and line["model"] == "student"]


def table(data_sets: list[str]) -> None:
    print("| data | student | start | first | best: mean | least | most | seeds |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for data, shape, start in product(data_sets, SHAPES, STARTS):
        there = [out for seed in SEEDS if ((out := place(data, shape, start, seed)) / "facts.json").exists()]
        if there:
            best = [max(curve(out)) for out in there]
            numbers = (statistics.mean(curve(out)[0] for out in there), statistics.mean(best), min(best), max(best))
            print("|", " | ".join([data, shape, start, *(f"{number:.3f}" for number in numbers), str(len(best))]), "|")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--data", nargs="+", default=list(DATA))
    parser.add_argument("--shape", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--steps", type=int)
    asked = parser.parse_args()
    run(asked.data, asked.shape, asked.steps) if asked.what == "run" else table(asked.data)
