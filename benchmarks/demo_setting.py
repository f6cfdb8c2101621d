"""How the demo's teacher and student were chosen: on rows that are no test rows of the demo, over three splits of them.

    python benchmarks/demo_setting.py run [--seeds 0 1 2] [STUDENT ...]   # goes on where it stopped
    python benchmarks/demo_setting.py table                               # a Markdown table

Each split has the demo's numbers of labelled rows; 700 others are measured, and what is left has no labels.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean
from sysconfig import get_path

import numpy as np

import understudy
from understudy.data import corpus, splits
from understudy.data.sources import read_table
from understudy.data.tables import identity
from understudy.programs.demo import STUDENT, TEACHER_TRAINING, minilm
from understudy.settings.finetune import FinetuneSettings
from understudy.settings.loading import build, load_recipe

OUT = Path("runs/demo_setting")
MEASURED_ROWS = 700
STUDENTS = {
    "bilstm": STUDENT,
    "static_embeddings": {"kind": "static_embeddings"},
    "narrow_4x192": {"kind": "narrow", "layers": 4, "width": 192, "heads": 4},
    "two_layers": {"kind": "teacher_layers", "layers": [0, 5]},
}


def write_split(folder: Path, seed: int) -> dict[str, str]:
    """Write the rows of one split; returns the settings that name them."""
    corpus.write_corpus(folder / "demo")
    left_out = {identity(text) for text in read_table(str(folder / "demo/test.jsonl.gz"), {})["text"]}
    every = corpus._families(corpus._without_near_duplicates(corpus._sentences(Path(get_path("stdlib")))))
    rows = [row for row in corpus._capped(every, 0) if identity(row["text"]) not in left_out]
    sizes = {"test": MEASURED_ROWS, "validation": corpus.VALIDATION_ROWS, "train": corpus.TRAIN_ROWS}
    for name, size in sizes.items():
        keys, labels = [identity(row["text"]) for row in rows], [row["label"] for row in rows]
        drawn = splits.stratified_subset(keys, labels, size, seed=1000 + seed)
        corpus._write(folder / f"{name}.jsonl.gz", [rows[i] for i in np.flatnonzero(drawn)])
        rows = [rows[i] for i in np.flatnonzero(~drawn)]
    corpus._write(folder / "transfer.jsonl.gz", [{"text": row["text"]} for row in rows])
    return {f"data.{name}": str(folder / f"{name}.jsonl.gz") for name in sizes}


def run(students: list[str], seeds: list[int]) -> None:
    for seed in seeds:
        folder = OUT / str(seed)
        files = {**write_split(folder, seed), "seed": seed}
        settings = build(FinetuneSettings, {"model": str(minilm()), "train": TEACHER_TRAINING}, files, where="demo_setting")
        understudy.finetune(settings, folder / "teacher", resume=True)
        for name in students:
            changes = {
                "data.transfer": str(folder / "transfer.jsonl.gz"),
                "student": STUDENTS[name],
                "export": [],
                "teacher.models": [str(folder / "teacher")],
                "teacher.store": str(folder / "store"),
            }
            understudy.distill(load_recipe("hinton", files | changes), folder / name, resume=True)


def table() -> None:
    print("| student | splits | n-grams | teacher | student alone | distilled | gain |\n| --- | ---: |" + " ---: |" * 5)
    for name in STUDENTS:
        facts = [json.loads(path.read_text("utf-8")) for path in sorted(OUT.glob(f"*/{name}/facts.json"))]
        if not facts:
            continue
        values = {
            model: [one["models"][model]["quality"]["accuracy"]["value"] for one in facts]
            for model in ("ngrams", "teacher", "student_alone", "student")
        }
        gains = [100 * (ours - alone) for ours, alone in zip(values["student"], values["student_alone"], strict=True)]
        cells = [f"{mean(value):.3f} ({min(value):.3f}–{max(value):.3f})" for value in values.values()]
        print(f"| {name} | {len(facts)} | {' | '.join(cells)} | {mean(gains):+.1f} ({min(gains):+.1f} to {max(gains):+.1f}) |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("students", nargs="*", default=list(STUDENTS), metavar="STUDENT")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    given = parser.parse_args()
    table() if given.what == "table" else run(given.students, given.seeds)
