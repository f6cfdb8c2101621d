"""The floor: what a linear model of n-grams reaches on every classification or similarity data set, without teacher or network.

    python benchmarks/floor.py run [NAME ...]    # each data set once; what is in benchmarks/floor.jsonl is skipped
    python benchmarks/floor.py table             # writes the table of docs/results.md, below its marker

One thread; fitted on the labelled training rows, C chosen on validation, measured on the test rows; where there are none, on the
validation rows, which chose C too.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import time
from pathlib import Path

import numpy as np

from understudy import parts
from understudy.data.rows import labelled, read
from understudy.evaluation.measure import answers_of
from understudy.evaluation.ngrams import fit_ngrams
from understudy.evaluation.quality import quality
from understudy.settings.data import DataSettings

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("UNDERSTUDY_DATA") or ROOT.parent / "shared" / "data")
LINES = ROOT / "benchmarks" / "floor.jsonl"
PAGE = ROOT / "docs" / "results.md"
START, END = "<!-- floor -->\n", "<!-- end of floor -->\n"


def data_sets() -> list[str]:
    """Those with one label a row, the small ones first."""
    found = []
    for folder in sorted(DATA.iterdir()):
        files = [folder / f"{split}.jsonl.gz" for split in ("train", "validation")]
        if all(file.is_file() for file in files):
            with gzip.open(files[0], "rt", encoding="utf-8") as lines:
                if {"text", "label"} <= json.loads(next(lines)).keys():
                    found.append(folder)
    return [folder.name for folder in sorted(found, key=lambda folder: (folder / "train.jsonl.gz").stat().st_size)]


def run(names: list[str]) -> None:
    known = {json.loads(line)["data"] for line in LINES.read_text("utf-8").splitlines()} if LINES.is_file() else set()
    for name in names or data_sets():
        if name in known:
            continue
        line = measured(name)
        with LINES.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(line, flush=True)


def measured(name: str) -> dict[str, object]:
    files = {split: str(DATA / name / f"{split}.jsonl.gz") for split in ("train", "validation", "test")}
    if not Path(files["test"]).is_file():
        del files["test"]
    kind = parts.part("tasks", "similarity" if name == "stsb" else "classification")
    rows = read(DataSettings(**files), kind(), seed=0)
    task, metric = kind(rows.label_names), kind.metrics[0].name
    train, validation, test = labelled(rows.train), labelled(rows.validation), labelled(rows.test)
    start = time.process_time()  # of this process alone, whatever else the machine does
    model = fit_ngrams(train, validation, task, metric)
    assert model is not None
    fitted = time.process_time()
    outputs = answers_of(model, test)
    predicted = time.process_time()
    found = quality(task, outputs, np.asarray(test["label"]))[metric]
    return {
        "data": name,
        "task": "pairs" if rows.pair else "text",
        "classes": len(rows.label_names or ()),
        "train": len(train),
        "fitted": model.rows,
        "test": len(test),
        "test_is_validation": rows.test_is_validation,
        "metric": metric,
        "value": round(found["value"], 4),
        "ci95": [round(end, 4) for end in found["ci95"]],
        "C": model.strength,
        "seconds": round(fitted - start, 1),
        "rows_per_second": round(len(test) / (predicted - fitted)),
        "mib": round(model.size_mib, 1),
    }


def table() -> str:
    lines = [
        "| data | classes | training rows | test rows | n-gram baseline | 95 % interval | C | fit, CPU s | rows/s | MiB |",
        "| --- | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for line in sorted(map(json.loads, LINES.read_text("utf-8").splitlines()), key=lambda one: one["data"]):
        low, high = line["ci95"]
        pearson = " (Pearson)" if line["metric"] == "pearson" else ""
        fitted = f" ({line['fitted']:,} used)" if line["fitted"] < line["train"] else ""
        lines.append(
            f"| {line['data']}{', pairs' if line['task'] == 'pairs' else ''} | {line['classes'] or '–'} | {line['train']:,}{fitted} "
            f"| {line['test']:,}{' *' if line['test_is_validation'] else ''} | {line['value']:.3f}{pearson} | {low:.3f}–{high:.3f} "
            f"| {line['C']:g} | {line['seconds']:.0f} | {line['rows_per_second']:,} | {line['mib']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("names", nargs="*", metavar="NAME")
    given = parser.parse_args()
    if given.what == "run":
        return run(given.names)
    page = PAGE.read_text("utf-8")
    before, rest = page.split(START, 1)
    PAGE.write_text(before + START + "\n" + table() + "\n" + END + rest.split(END, 1)[1], "utf-8")
    return None


if __name__ == "__main__":
    main()
