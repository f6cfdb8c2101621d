"""How long trainings have to be on little data, and how the loss fits the number of classes: judged by validation, no test rows.

    python benchmarks/lengths.py run --out FILE [--seeds N ...] [--student KIND ...] [--recipe NAME ...] [--data NAME ...] [--teacher …]
    python benchmarks/lengths.py table BEFORE AFTER     # two files as a Markdown table

What is in FILE is skipped. Each student is trained by the defaults of the source that is imported. Figures of a commit before e92604c,
whose modules had other names, come from this script as it was at e66b696, run on their source (docs/results.md has the commands).

The teacher is a file of answers, as of a model over a network: 0.78 for its label, the rest shared among the others, its label the gold one
but for one row of twenty. `--teacher` takes a fine-tuned model in its place. A seed draws rows, classes, wrong answers and weights.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

from understudy import load_recipe
from understudy.runs import controls
from understudy.runs.preparation import prepare, resolve
from understudy.runs.training import copies, train_stage

SOURCE = Path(os.environ.get("UNDERSTUDY_DATA", "../shared/data"))
VALIDATION = 1000  # rows at most
# name → (folder, rows to learn from, classes kept); None is all
DATA = {
    "sst2_sentences 500": ("sst2_sentences", 500, None),
    "banking12 1000": ("banking77", 1000, 12),
    "banking77 2000": ("banking77", 2000, None),
    "clinc150 3000": ("clinc150", 3000, None),
    "trec6": ("trec6", None, None),
    "sst2": ("sst2", None, None),
}


def read(path: Path) -> list[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def files(name: str, folder: Path, seed: int) -> dict[str, str]:
    """Training and validation rows of a data set, and a teacher's answers to them, as files."""
    source, count, classes = DATA[name]
    train, validation = (read(SOURCE / source / f"{split}.jsonl.gz") for split in ("train", "validation"))
    draw = random.Random(seed)
    if classes is not None:
        kept = set(draw.sample(sorted({row["label"] for row in train}), classes))
        train, validation = ([row for row in rows if row["label"] in kept] for rows in (train, validation))
    names = sorted({row["label"] for row in train})
    draw.shuffle(train)
    draw.shuffle(validation)
    train, validation = train[:count], validation[:VALIDATION]
    answers = {}
    for row in train:
        label = draw.choice(names) if draw.random() < 0.05 else row["label"]
        shares = [0.78 if one == label else 0.22 / (len(names) - 1) for one in names]
        answers.setdefault(row["text"], {"text": row["text"], "probabilities": shares})
    train = list({row["text"]: row for row in train}.values())
    found = {}
    for what, rows in (("train", train), ("validation", validation), ("teacher", answers.values())):
        path = folder / f"{what}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        found[what] = str(path)
    return found


def trained(name: str, student: str, recipe: str, teacher: str | None, seed: int) -> dict:
    """One training, or the control of one: `recipe` is `alone` then."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        there = files(name, folder, seed)
        values = {
            "data.train": there["train"],
            "data.validation": there["validation"],
            "teacher.models": [teacher or there["teacher"]],
            "student": {"kind": student},
            "export": [],
            "seed": seed,
        }
        plan = prepare(resolve(load_recipe("hinton" if recipe == "alone" else recipe, values)))
        stages = controls.stages_of("alone", plan) if recipe == "alone" else plan.stages
        own = plan.first
        students = copies({"": own.student})
        lines: list[dict] = []
        started = time.perf_counter()
        for stage in stages:
            part, kept = stage.parts[""], {}
            if part.keeps_logits:
                store = own.store(folder / "outputs")
                store.fill(own.teacher, part.rows, device="cpu")
                kept[""] = store.logits(part.rows)
            lines.clear()
            steps = train_stage(
                stage, {"": own.at(stage.stage)}, students, kept, folder / stage.stage.name, recipe, "cpu", write=lines.append
            ).steps
        curve = [round(line["validation"]["accuracy"], 4) for line in lines if "validation" in line]
    return {
        "data": name,
        "classes": len(own.rows.label_names or ()),
        "rows": len(own.rows.train),
        "student": student,
        "recipe": recipe,
        "teacher": "model" if teacher else "answers",
        "seed": seed,
        "updates": steps,
        "best": max(curve),
        "curve": curve,
        "seconds": round(time.perf_counter() - started, 1),
    }


KEY = ("data", "student", "recipe", "teacher")


def run(out: Path, asked: argparse.Namespace) -> None:
    for seed, name, student, recipe in itertools.product(asked.seeds, asked.data, asked.student, asked.recipe):
        key = (name, student, recipe, "model" if asked.teacher else "answers", seed)
        if out.exists() and key in {tuple(line[field] for field in (*KEY, "seed")) for line in loaded(out)}:
            continue
        line = trained(name, student, recipe, asked.teacher, seed)
        print(line, flush=True)
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def loaded(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def table(before: Path, after: Path) -> None:
    """Each student beside itself alone: best accuracy on validation rows (updates)."""
    runs: dict[tuple[str, ...], list[dict]] = {}
    for when, path in (("before", before), ("after", after)):
        for line in loaded(path):
            runs.setdefault((when, *(line[field] for field in KEY)), []).append(line)
    cells = {key: shown(lines) for key, lines in runs.items()}
    lines = {key[1:]: found[0] for key, found in runs.items()}
    print("| data | rows | classes | teacher | student | by | before | alone before | after | alone after |")
    print("| --- | ---: | ---: | --- | --- | --- | ---: | ---: | ---: | ---: |")
    for (name, student, recipe, teacher), line in lines.items():
        if recipe == "alone":
            continue
        row = [cells.get((when, name, student, by, teacher), "–") for when in ("before", "after") for by in (recipe, "alone")]
        print(f"| {name.split()[0]} | {line['rows']:,} | {line['classes']} | {teacher} | {student} | {recipe} | {' | '.join(row)} |")


def shown(lines: list[dict]) -> str:
    """Mean ± standard deviation of the best accuracies over the seeds (mean updates)."""
    values = [line["best"] for line in lines]
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread} ({statistics.mean(line['updates'] for line in lines):,.0f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    one = commands.add_parser("run")
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--student", nargs="+", default=["static_embeddings", "bilstm"])
    one.add_argument("--recipe", nargs="+", default=["alone", "hinton", "tang"])
    one.add_argument("--data", nargs="+", default=list(DATA)[:-1])
    one.add_argument("--teacher")
    one.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    two = commands.add_parser("table")
    two.add_argument("before", type=Path)
    two.add_argument("after", type=Path)
    given = parser.parse_args()
    run(given.out, given) if given.what == "run" else table(given.before, given.after)
