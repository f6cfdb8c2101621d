"""The numbers of docs/results.md: run the experiments on real data, then write the tables.

    python benchmarks/results.py run [GROUP ...]    # each run goes on where it stopped; those in results.jsonl are skipped
    python benchmarks/results.py table              # docs/results.md from results.jsonl

The data sets are looked for in UNDERSTUDY_DATA, or ../shared/data. Every run is one `understudy` command, printed before it starts.
What each found is a line of benchmarks/results.jsonl, with the commit that ran; delete lines (or the file) to measure anew.
"""

from __future__ import annotations

import argparse
import gzip
import inspect
import itertools
import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from understudy.programs.demo import minilm

DATA = Path(os.environ.get("UNDERSTUDY_DATA", "../shared/data"))
OUT = Path("runs/results")
SEEDS = (0, 1, 2)
RECORD = Path(__file__).with_name("results.jsonl")
GAINS = ("gain_over_alone", "gain_over_pseudo_labels")
BY_CLASS = ("word_vectors",)  # groups whose classes and run times are shown too


@dataclass(frozen=True)
class Job:
    """One command; `group` and `label` say where its numbers go, `seed` which repetition it is."""

    group: str
    label: str
    seed: int
    arguments: tuple[str, ...]

    @property
    def out(self) -> Path:
        return OUT / self.group / f"{self.label}-{self.seed}"


def files(name: str, *, train: str = "train") -> list[str]:
    """--train, --validation and --test of a data set, as far as they are there."""
    found = ["--train", str(DATA / name / f"{train}.jsonl.gz"), "--validation", str(DATA / name / "validation.jsonl.gz")]
    test = DATA / name / "test.jsonl.gz"
    return [*found, *(["--test", str(test)] if test.exists() else [])]


def set_(**values: object) -> list[str]:
    """`--set` options; a double underscore is a dot."""
    return [part for key, value in values.items() for part in ("--set", f"{key.replace('__', '.')}={value}")]


def teacher(group: str, name: str, seed: int, *more: str, label: str = "teacher", model: str | None = None, train: str = "train") -> Job:
    """MiniLM, at the rate that benchmarks/tune.py found best for it; or another model, at its own."""
    start = (model,) if model else (str(minilm()), *set_(train__learning_rate="1e-4"))
    return Job(group, label, seed, ("finetune", *start, *files(name, train=train), "--seed", str(seed), *more))


def student(
    group: str,
    label: str,
    name: str,
    seed: int,
    recipe: str,
    kind: str | None,
    *more: str,
    teachers: list[str] | None = None,
    train: str = "train",
    store: Path | None = None,
) -> Job:
    """A distillation from the group's first teacher, outputs shared by all runs of the group; no kind takes the recipe's student."""
    models = teachers or [str(OUT / group / "teacher-0")]
    given = [part for model in models for part in ("--teacher", model)]
    shared = ["--store", str(store or OUT / group / "teacher_outputs")]
    return Job(
        group,
        label,
        seed,
        ("distill", recipe, *given, *(["--student", kind] if kind else []), *files(name, train=train), *shared, "--seed", str(seed), *more),
    )


def first_phrases(count: int) -> Path:
    """A file of the first phrases of sst2, which stand in no order."""
    file, source = OUT / "phrases" / f"first-{count}.jsonl", DATA / "sst2" / "train.jsonl.gz"
    if source.exists() and not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(source, "rt", encoding="utf-8") as rows:
            file.write_text("".join(itertools.islice(rows, count)), "utf-8")
    return file


def few_labels(seed: int) -> Iterator[Job]:
    """500 labelled sentences in all, the teacher's among them: 400 to learn from, the same for teacher, student and control, 100 to select
    by; all 872 validation sentences are the test and select nothing. Transfer text: the first 20,000 phrases of sst2, without labels."""
    rows = [
        "--train",
        str(DATA / "sst2_sentences" / "train.jsonl.gz"),
        "--test",
        str(DATA / "sst2_sentences" / "validation.jsonl.gz"),
        *set_(data__train_rows=400, data__validation_fraction=100 / 6920, data__split_seed=seed),
        "--seed",
        str(seed),
    ]
    model = Job("few_labels", "teacher", seed, ("finetune", str(minilm()), *rows, *set_(train__learning_rate="1e-4", train__max_steps=300)))
    yield model
    store = OUT / "few_labels" / f"teacher_outputs-{seed}"
    for label, kind, steps in (("bilstm", "bilstm", 2000), ("static", "static_embeddings", 4000)):
        yield Job(
            "few_labels",
            label,
            seed,
            (
                "distill",
                "hinton",
                "--teacher",
                str(model.out),
                "--student",
                kind,
                *rows,
                "--transfer",
                str(first_phrases(20_000)),
                "--store",
                str(store),
                "--no-export",
                *set_(stages__0__train__max_steps=steps),
            ),
        )


def existing_teacher(seed: int) -> Iterator[Job]:
    """500 labelled sentences and the phrases of sst2 without their labels, from a teacher that exists already: fine-tuned on all 6,920
    labels, which the students alone never see. The test rows also select."""
    more = ["--transfer", str(DATA / "sst2" / "train.jsonl.gz"), "--control", "alone,pseudo_labels"]
    few = set_(data__train_rows=500, data__split_seed=seed)
    teachers = [str(OUT / "all_labels" / "teacher-0")]
    for label, kind, steps, extra in (
        ("static", "static_embeddings", 4000, []),
        ("bilstm", "bilstm", 2000, []),
        ("narrow", "narrow", 2000, set_(student__initialize="teacher")),
        ("three_layers", "teacher_layers", 600, set_(student__layers="[0,2,4]")),
    ):
        yield student(
            "existing_teacher",
            label,
            "sst2_sentences",
            seed,
            "hinton",
            kind,
            *more,
            *few,
            *extra,
            *set_(stages__0__train__max_steps=steps),
            teachers=teachers,
        )


def all_labels(seed: int) -> Iterator[Job]:
    """All 6,920 labelled sentences, from a teacher fine-tuned at 1e-4; `transfer`: with the phrases of sst2, unlabelled."""
    if seed == SEEDS[0]:
        yield teacher("all_labels", "sst2_sentences", seed)
    for label, kind in (("bilstm", "bilstm"), ("static", "static_embeddings")):
        yield student("all_labels", label, "sst2_sentences", seed, "hinton", kind)
    for label, kind, steps in (("bilstm_transfer", "bilstm", 3000), ("static_transfer", "static_embeddings", 4000)):
        yield student(
            "all_labels",
            label,
            "sst2_sentences",
            seed,
            "hinton",
            kind,
            "--transfer",
            str(DATA / "sst2" / "train.jsonl.gz"),
            *set_(stages__0__train__max_steps=steps),
        )


def default_teacher(seed: int) -> Iterator[Job]:
    """All 6,920 labelled sentences, from a teacher fine-tuned at 5e-5, the default."""
    if seed == SEEDS[0]:
        yield teacher("default_teacher", "sst2_sentences", seed, *set_(train__learning_rate="5e-5"))
    three = set_(student__layers="[0,2,4]")
    yield student("default_teacher", "bilstm", "sst2_sentences", seed, "hinton", "bilstm")
    yield student("default_teacher", "narrow", "sst2_sentences", seed, "hinton", "narrow")
    yield student("default_teacher", "three_layers", "sst2_sentences", seed, "hinton", "teacher_layers", *three)
    yield student("default_teacher", "static", "sst2_sentences", seed, "hinton", "static_embeddings")


def phrases(seed: int) -> Iterator[Job]:
    """The teacher on all 67,349 phrases of sst2."""
    yield teacher("phrases", "sst2", seed, *set_(train__epochs=1))


def pairs(seed: int) -> Iterator[Job]:
    """mrpc: paraphrase or not."""
    if seed == SEEDS[0]:
        yield teacher("pairs", "mrpc", seed, "--set", "metric=accuracy")
    yield student("pairs", "bilstm", "mrpc", seed, "tang", "bilstm")
    yield student("pairs", "three_layers", "mrpc", seed, "hinton", "teacher_layers", *set_(student__layers="[0,2,4]"))


def regression(seed: int) -> Iterator[Job]:
    """stsb: similarity of two sentences, 0 to 5."""
    task = ["--task", "similarity"]
    if seed == SEEDS[0]:
        yield teacher("regression", "stsb", seed, *task)
    yield student("regression", "three_layers", "stsb", seed, "tang", "teacher_layers", *task, *set_(student__layers="[0,2,4]"))
    yield student("regression", "bilstm", "stsb", seed, "tang", "bilstm", *task)


def chinese(seed: int) -> Iterator[Job]:
    """toutiao5: the teacher is an ensemble of three BiLSTMs on characters, the student one of them."""
    characters = set_(student__vocabulary="characters")
    yield teacher("chinese", "toutiao5", seed, *characters, *set_(train__epochs=4), model="bilstm")
    if seed == SEEDS[-1]:
        ensemble = [str(OUT / "chinese" / f"teacher-{one}") for one in SEEDS]
        for again in SEEDS:
            yield student(
                "chinese", "bilstm", "toutiao5", again, "tang", "bilstm", *characters, *set_(stages__0__train__epochs=4), teachers=ensemble
            )


def many_classes(seed: int) -> Iterator[Job]:
    """banking77: 77 intents."""
    if seed == SEEDS[0]:
        yield teacher("many_classes", "banking77", seed, *set_(train__epochs=6))
    yield student("many_classes", "bilstm", "banking77", seed, "hinton", "bilstm")
    yield student("many_classes", "three_layers", "banking77", seed, "hinton", "teacher_layers", *set_(student__layers="[0,2,4]"))


def long_tail(seed: int) -> Iterator[Job]:
    """clinc150 with its long-tailed training set."""
    if seed == SEEDS[0]:
        yield teacher("long_tail", "clinc150", seed, *set_(train__epochs=5), train="train_imbalanced")
    yield student("long_tail", "bilstm", "clinc150", seed, "hinton", "bilstm", train="train_imbalanced")
    yield student(
        "long_tail",
        "bilstm_balanced",
        "clinc150",
        seed,
        "hinton",
        "bilstm",
        *set_(stages__0__objectives__0__class_weights="balanced"),
        train="train_imbalanced",
    )


Groups = dict[str, Callable[[int], Iterator[Job]]]
Plain = Mapping[str, Mapping[str, str]]  # group → label → the label of the plain distillation that it is compared with
GROUPS: Groups = {
    one.__name__: one
    for one in (few_labels, existing_teacher, default_teacher, all_labels, pairs, regression, chinese, many_classes, long_tail, phrases)
}


def run(groups: Groups, seeds: list[int], only: str | None, *, known: Groups) -> None:
    """Carry out the jobs of some groups that are not in the record yet, and those of `known` that they build on."""
    made = {str(job.out): job for make in {**GROUPS, **known}.values() for seed in SEEDS for job in make(seed)}

    def carry_out(job: Job) -> None:
        if (job.out / "facts.json").exists():
            return
        for needed in (made[one] for one in job.arguments if one in made):
            carry_out(needed)
        command = ["understudy", *job.arguments, "--out", str(job.out), "--resume"]
        print(shlex.join(command), flush=True)
        subprocess.run([sys.executable, "-m", *command], check=True, stdout=subprocess.DEVNULL)

    for seed in seeds:
        for job in [job for make in groups.values() for job in make(seed)]:
            measured = any((line["group"], line["label"], line["seed"]) == (job.group, job.label, job.seed) for line in lines())
            if not measured and (not only or only in job.label):
                carry_out(job)
                note(job)


def note(job: Job) -> None:
    """Append what a run found; of one with several tasks, a line for each."""
    commit = subprocess.run(
        ["git", "-C", str(RECORD.parent), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    tasks = json.loads((job.out / "facts.json").read_text("utf-8")).get("tasks", {"": None})
    for task in tasks:
        facts = json.loads((job.out / task / "facts.json").read_text("utf-8"))
        metric = facts["primary_metric"]
        line = {
            "group": job.group,
            "label": job.label,
            **({"task": task} if task else {}),
            "seed": job.seed,
            "commit": commit,
            "metric": metric,
            "values": {name: round(model["quality"][metric]["value"], 5) for name, model in facts["models"].items() if "quality" in model},
            **{f"{name}_{key}": facts[name][key] for name in GAINS if facts.get(name) for key in ("value", "p_value")},
            **{name: round(facts[name], 2) for name in ("times_smaller", "times_faster") if facts.get(name)},
        }
        if job.group in BY_CLASS:
            line["by_class"] = {
                name: [
                    [one["label"], *(round(one[key], 3) for key in ("precision", "recall", "f1")), one["support"]]
                    for one in model["per_class"]
                ]
                for name, model in facts["models"].items()
            }
            line["run_time"] = {
                name: {
                    key: round(value, 3)
                    for key, value in (("rows_per_second", model.get("rows_per_second")), *(model.get("latency_ms") or {}).items())
                    if value
                }
                for name, model in facts["models"].items()
            }
        with RECORD.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def lines() -> list[dict]:
    return [json.loads(line) for line in RECORD.read_text("utf-8").splitlines()] if RECORD.exists() else []


def table(groups: Groups, path: Path, plain: Plain) -> None:
    """Write the groups' tables below the marker on a page: one for each metric of a group."""
    page = []
    for group, make in groups.items():
        found: dict[str, list[dict]] = {}
        for label in dict.fromkeys(job.label for seed in SEEDS for job in make(seed)):
            runs = sorted((line for line in lines() if (line["group"], line["label"]) == (group, label)), key=lambda one: one["seed"])
            for run in runs:
                found.setdefault(" ".join([label, *([run["task"]] if "task" in run else [])]), []).append(run)
        if found:
            page += [f"### {group.replace('_', ' ').capitalize()}", "", inspect.getdoc(make) or "", ""]
            for metric in dict.fromkeys(runs[0]["metric"] for runs in found.values()):
                alike = {label: runs for label, runs in found.items() if runs[0]["metric"] == metric}
                page += [*rows(alike, plain.get(group, {})), ""]
            for label, runs in found.items():
                if "by_class" in runs[0]:
                    page += [*by_class(label, runs[0]), ""]
    start = path.read_text("utf-8").partition("<!-- tables -->")[0]
    path.write_text(start + "<!-- tables -->\n\n" + "\n".join(page).rstrip() + "\n", "utf-8")


def rows(found: dict[str, list[dict]], plain: Mapping[str, str]) -> list[str]:
    """A row a student: means and standard deviations over the seeds, and each seed's p-values.

    Args:
        plain: label → the label of plain distillation that it is compared with.
    """
    metric = next(iter(found.values()))[0]["metric"]
    pseudo = any("student_pseudo_labels" in one["values"] for runs in found.values() for one in runs)
    against = any(plain.get(label) in found for label in found)
    heads = [
        "run",
        "seeds",
        f"{metric}: teacher",
        "alone",
        *(["pseudo-labels"] if pseudo else []),
        "distilled",
        "over alone",
        "p a seed",
        *(["over pseudo-labels", "p a seed"] if pseudo else []),
        *(["over plain"] if against else []),
        "smaller",
        "faster",
    ]
    models = ("teacher", "student_alone", *(("student_pseudo_labels",) if pseudo else ()), "student")
    lines = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for label, runs in found.items():

        def values(name: str, runs: list[dict] = runs) -> list[float]:
            return [one[name] for one in runs if one.get(name) is not None]

        cells = [label.replace("_", " "), str(len(runs))]
        cells += [spread([one["values"][name] for one in runs if name in one["values"]]) for name in models]
        for gain in GAINS if pseudo else GAINS[:1]:
            cells += [spread(values(f"{gain}_value"), signed=True), ", ".join(f"{p:.2g}" for p in values(f"{gain}_p_value")) or "–"]
        if against:
            same = {one["seed"]: one["values"]["student"] for one in found.get(plain.get(label, ""), [])}
            cells.append(
                spread(
                    [one["values"]["student"] - same[one["seed"]] for one in runs if one["values"].get("student") and one["seed"] in same],
                    signed=True,
                )
            )
        cells += [times(values(name)) for name in ("times_smaller", "times_faster")]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def by_class(label: str, run: dict) -> list[str]:
    """Precision, recall and F1 of each class, and run times, of one run."""
    models = list(run["by_class"])
    lines = [f"{label.replace('_', ' ').capitalize()}, seed {run['seed']}: precision, recall and F1 of each class.", ""]
    lines.append("| class | rows | " + " | ".join(name.replace("_", " ") for name in models) + " |")
    lines.append("| --- | ---: |" + " ---: |" * len(models))
    for place, (name, *_, support) in enumerate(run["by_class"][models[0]]):
        cells = [" / ".join(f"{value:.3f}" for value in run["by_class"][model][place][1:4]) for model in models]
        lines.append(f"| {name} | {support:,} | " + " | ".join(cells) + " |")
    said = [
        f"- {name.replace('_', ' ')}: {one['rows_per_second']:,.0f} rows a second, {one['p50']:.2f} ms a row (p50)"
        for name, one in run["run_time"].items()
        if "p50" in one
    ]
    return [*lines, "", *said]


def spread(values: list[float], *, signed: bool = False) -> str:
    if not values:
        return "–"
    mean = f"{statistics.mean(values):{'+' if signed else ''}.3f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.3f}"


def times(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f}×" if values else "–"


def main(groups: Groups, page: Path, description: str | None, plain: Plain = MappingProxyType({})) -> None:
    """The commands `run` and `table` for some groups and their page."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("groups", nargs="*", default=[], choices=[*groups, []], metavar="GROUP", help=f"of {list(groups)}; all")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--only", help="labels that contain this")
    asked = parser.parse_args()
    if asked.what == "run":
        run({name: groups[name] for name in asked.groups or groups}, asked.seeds, asked.only, known=groups)
    else:
        table(groups, page, plain)


if __name__ == "__main__":
    main(GROUPS, Path("docs/results.md"), __doc__)
