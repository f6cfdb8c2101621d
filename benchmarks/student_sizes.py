"""What the vocabulary costs: size and training speed of each kind of student with the teacher's vocabulary and with the data's.

    python benchmarks/student_sizes.py --teacher runs/results/all_labels/teacher-0 [--data ../shared/data/sst2_sentences]

Prints a Markdown table. Speed is rows per second of forward, backward and a fused AdamW step in float32 on batches of 32 rows of like
length; the median of interleaved rounds, so compare rows of one run only.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from understudy import parts
from understudy.data.examples import LengthBuckets, examples_of
from understudy.data.rows import read
from understudy.models.text_model import TextModel
from understudy.settings.data import DataSettings
from understudy.students import Blueprint

BATCH, STEPS, ROUNDS = 32, 20, 3
KINDS = {"teacher_layers": {"layers": [0, 2, 4]}, "narrow": {}, "bilstm": {}, "static_embeddings": {}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--data", default="../shared/data/sst2_sentences")
    asked = parser.parse_args()
    teacher = TextModel.load(asked.teacher)
    settings = DataSettings(**{name: str(Path(asked.data) / f"{name}.jsonl.gz") for name in ("train", "validation")})
    rows = read(settings, parts.part("tasks", "classification")(), seed=0, label_names=teacher.label_names)
    blueprint = Blueprint(texts=rows.texts, label_names=rows.label_names, teacher=teacher)
    students = {
        (kind, vocabulary): parts.part("students", kind)(**more, vocabulary=vocabulary).build(blueprint)
        for kind, more in KINDS.items()
        for vocabulary in ("teacher", "data")
    }
    speeds: dict[tuple[str, str], list[float]] = {name: [] for name in students}
    for _ in range(ROUNDS):
        for name, student in students.items():
            speeds[name].append(rows_per_second(student, rows.train))
    print(f"{torch.get_num_threads()} threads\n\n| student | vocabulary | tokens | parameters | float32 MiB | training rows/s |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for (kind, vocabulary), student in students.items():
        speed = statistics.median(speeds[kind, vocabulary])
        size = student.parameters * 4 / 2**20
        print(f"| {kind} | {vocabulary} | {len(student.tokenizer):,} | {student.parameters:,} | {size:.1f} | {speed:,.0f} |")


def rows_per_second(student: TextModel, rows) -> float:
    data = examples_of(student, rows)
    order = list(LengthBuckets(data.lengths, BATCH))
    model = student.model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)
    started = 0.0
    for step in range(STEPS + 2):
        if step == 2:
            started = time.perf_counter()  # the first steps warm up
        batch = data.batch(order[step * BATCH : (step + 1) * BATCH])
        torch.nn.functional.cross_entropy(model(**batch["student"]).logits, batch["labels"]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return BATCH * STEPS / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
