"""Training speed in one run, as ratios: what length buckets, bf16, the store and a thin Trainer are worth.

    python benchmarks/training_speed.py --teacher runs/results/all_labels/teacher-0 [--data ../shared/data/sst2_sentences] [--rounds 3]

Prints a Markdown table of rows per second (medians of interleaved rounds) and the four ratios with their targets. The naive forms are
what people write by hand: every row padded to 128 tokens, float32, the teacher run live at every step.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_

from understudy import parts
from understudy.data.examples import LengthBuckets, by_length, examples_of
from understudy.data.rows import read
from understudy.machine import has_bfloat16
from understudy.models.text_model import TextModel
from understudy.objectives.labels import Labels
from understudy.objectives.soft_targets import SoftTargets, forward_kl
from understudy.settings.data import DataSettings
from understudy.settings.stage import TrainSettings
from understudy.students import Blueprint
from understudy.teachers.capture import logits_of
from understudy.training.lesson import Lesson
from understudy.training.train import Training, train

BATCH = 32
NAIVE_LENGTH = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--data", default="../shared/data/sst2_sentences")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", default="", help="trainings whose name contains this")
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    teacher = TextModel.load(asked.teacher)
    task = parts.part("tasks", "classification")()
    folder = Path(asked.data)
    settings = DataSettings(train=str(folder / "train.jsonl.gz"), validation=str(folder / "validation.jsonl.gz"))
    rows = read(settings, task, seed=0, label_names=teacher.label_names)
    blueprint = Blueprint(texts=rows.texts, label_names=rows.label_names, teacher=teacher)
    half = parts.part("students", "teacher_layers")(layers=[0, 2, 4])
    narrow = parts.part("students", "narrow")()
    logits = logits_of(teacher, rows.train)

    def ours(build: Callable[[], TextModel], steps: int, *, taught: bool) -> float:
        """Rows per second of our training, from the seconds that its own log states; the first tenth warms up."""
        model = build()
        data = examples_of(model, rows.train, logits if taught else None)
        objectives = [(0.5, Labels()), (0.5, SoftTargets())] if taught else [(1.0, Labels())]
        lines: list[dict] = []
        with tempfile.TemporaryDirectory() as checkpoints:
            train(
                {"": Lesson(task, model, data, by_length(model, rows.validation.select(range(64))), objectives, "accuracy")},
                TrainSettings(epochs=99, max_steps=steps, batch_size=BATCH, learning_rate=1e-4, evaluations=1),
                Training(Path(checkpoints), 0, "ours", lines.append),
            )
        logged = [(line["step"], line["seconds"]) for line in lines if "seconds" in line and "loss" in line]
        (first, began), (last, ended) = logged[len(logged) // 10], logged[-2]
        return BATCH * (last - first) / (ended - began)

    measured = {
        "distil 3 of 6 layers, naive": lambda: naive(half.build(blueprint), teacher, rows, 8),
        "distil 3 of 6 layers, ours from the store": lambda: ours(lambda: half.build(blueprint), 150, taught=True),
        "3 of 6 layers alone, ours": lambda: ours(lambda: half.build(blueprint), 150, taught=False),
        "fine-tune the teacher, naive": lambda: naive(TextModel.load(asked.teacher), None, rows, 8),
        "fine-tune the teacher, ours": lambda: ours(lambda: TextModel.load(asked.teacher), 80, taught=False),
        "distil narrow, bare loop": lambda: bare(narrow.build(blueprint), rows, logits, 400),
        "distil narrow, ours": lambda: ours(lambda: narrow.build(blueprint), 400, taught=True),
    }
    measured = {name: measure for name, measure in measured.items() if asked.only in name}
    found: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(asked.rounds):
        for name, measure in measured.items():
            found[name].append(measure())
    rate = {name: statistics.median(values) for name, values in found.items()}
    print(f"{torch.get_num_threads()} threads, {asked.rounds} rounds, batch {BATCH}, bf16 {'on' if has_bfloat16('cpu') else 'not there'}\n")
    print("| training | rows/s | least–most |\n| --- | ---: | ---: |")
    for name, values in found.items():
        print(f"| {name} | {rate[name]:.0f} | {min(values):.0f}–{max(values):.0f} |")
    ratios = [
        ("distillation, ours / naive", "distil 3 of 6 layers, ours from the store", "distil 3 of 6 layers, naive", "≥ 12"),
        ("fine-tuning, ours / naive", "fine-tune the teacher, ours", "fine-tune the teacher, naive", "≥ 9"),
        ("time of distilling / time alone", "3 of 6 layers alone, ours", "distil 3 of 6 layers, ours from the store", "≤ 1.15"),
        ("time of the Trainer / time of a bare loop", "distil narrow, bare loop", "distil narrow, ours", "≤ 1.2"),
    ]
    print("\n| ratio | measured | target |\n| --- | ---: | ---: |")
    for name, above, below, target in ratios:
        if not {above, below} <= found.keys():
            continue
        each = [one / other for one, other in zip(found[above], found[below], strict=True)]
        print(f"| {name} | {statistics.median(each):.2f} | {target} |")


def naive(student: TextModel, teacher: TextModel | None, rows, steps: int) -> float:
    """Rows per second of the loop in most tutorials."""
    model = student.model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    order = np.random.default_rng(0).permutation(len(rows.train))
    started = 0.0
    for step in range(steps + 1):
        if step == 1:
            started = time.perf_counter()  # the first step warms up
        batch = rows.train[order[step * BATCH : (step + 1) * BATCH].tolist()]
        inputs = student.tokenizer(batch["text"], padding="max_length", truncation=True, max_length=NAIVE_LENGTH, return_tensors="pt")
        labels = torch.tensor(batch["label"])
        said = model(**inputs).logits
        loss = torch.nn.functional.cross_entropy(said, labels)
        if teacher is not None:
            with torch.no_grad():
                target = teacher.model(**inputs).logits
            loss = 0.5 * loss + 0.5 * forward_kl(said, target, torch.ones_like(labels, dtype=torch.bool), temperature=2.0)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return BATCH * steps / (time.perf_counter() - started)


def bare(student: TextModel, rows, logits: np.ndarray, steps: int) -> float:
    """Rows per second of the least loop that does what our training does: same batches, precision, optimizer, clipping, schedule."""
    model = student.model.train()
    data = examples_of(student, rows.train, logits)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / (steps + 1))
    sampler = LengthBuckets(data.lengths, BATCH)
    objectives = [(0.5, Labels()), (0.5, SoftTargets())]
    from understudy.signals import Signals

    order: list[int] = []
    started = 0.0
    warm = steps // 10
    for step in range(steps):
        if step == warm:
            started = time.perf_counter()
        if len(order) < BATCH:
            sampler.set_epoch(step)
            order = list(sampler)
        chosen, order = order[:BATCH], order[BATCH:]
        batch = data.batch(chosen)
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16("cpu")):
            said = model(**batch["student"]).logits.float()
        signals = Signals(logits=said), Signals(logits=batch["teacher"]["logits"])
        loss = sum(weight * objective(*signals, batch) for weight, objective in objectives)
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return BATCH * (steps - warm) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
