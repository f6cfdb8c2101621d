"""The numbers of docs/papers.md: every published system against plain distillation and the student alone, on real data.

python benchmarks/papers.py run [GROUP ...]    # as benchmarks/results.py, with the same record and folders
python benchmarks/papers.py table              # docs/papers.md from results.jsonl
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from results import DATA, OUT, SEEDS, Groups, Job, files, main, set_, student, teacher

from understudy.programs.demo import minilm
from understudy.settings.loading import load_recipe

SST2 = str(OUT / "default_teacher" / "teacher-0")  # MiniLM fine-tuned on sst2_sentences at the default rate
FROM_PRETRAINED = ["--pretrained", str(minilm())]
LANGUAGE = OUT / "language" / "model-0"  # MiniLM's package has no masked-language head, so one is trained


def on_sst2(group: str, label: str, seed: int, recipe: str, kind: str | None, *more: str, store: Path | None = None) -> Job:
    """A student of the teacher on sst2_sentences."""
    return student(group, label, "sst2_sentences", seed, recipe, kind, "--no-export", *more, teachers=[SST2], store=store)


def every_stage(count: int = 1, /, **train: object) -> list[str]:
    """The same training settings for all stages."""
    return set_(**{f"stages__{stage}__train__{name}": value for stage in range(count) for name, value in train.items()})


def three_layers(seed: int) -> Iterator[Job]:
    """sst2_sentences: the first three of six layers, from the pretrained model, 3 epochs in all for every recipe (minilm: half of them
    for each stage), at 1e-4 (bert_tutorial: its own 5e-5)."""
    first = [*FROM_PRETRAINED, *set_(student__layers="first"), *every_stage(epochs=3, learning_rate="1e-4", evaluations=5)]
    yield on_sst2("three_layers", "hinton", seed, "hinton", "teacher_layers", *first)
    for recipe in ("pkd_skip", "pkd_last"):
        yield on_sst2("three_layers", recipe, seed, recipe, "teacher_layers", *first, "--no-control")
    yield on_sst2("three_layers", "mixkd", seed, "mixkd", "teacher_layers", *first)  # its control keeps the mixup
    halves = [*FROM_PRETRAINED, *set_(student__layers="first"), *every_stage(2, epochs=1.5, learning_rate="1e-4", evaluations=5)]
    yield on_sst2("three_layers", "minilm", seed, "minilm", "teacher_layers", *halves, "--no-control")
    own = [*FROM_PRETRAINED, *set_(student__layers="first", stages__0__train__evaluations=5)]
    yield on_sst2("three_layers", "bert_tutorial", seed, "bert_tutorial", "teacher_layers", *own, "--no-control")


def tang(seed: int) -> Iterator[Job]:
    """sst2_sentences: a BiLSTM, 2,600 updates each; augmented with 5 copies of each row."""
    same = every_stage(max_steps=2600)
    yield on_sst2("tang", "tang", seed, "tang", "bilstm", *same)
    steps = (
        "[{kind: masking, probability: 0.1}, "
        f"{{kind: part_of_speech, probability: 0.1, tagger: {DATA / 'ud_english_ewt' / 'train.jsonl.gz'}}}, "
        "{kind: ngram_sampling, probability: 0.25, longest: 5}]"
    )
    yield on_sst2(
        "tang", "tang_augmented", seed, "tang_augmented", "bilstm", *same, *set_(stages__0__augment=f"{{copies: 5, steps: {steps}}}")
    )


def ensemble(seed: int) -> Iterator[Job]:
    """sst2_sentences: a BiLSTM, 10 epochs, from one teacher (fine-tuned at 5e-5) and from two (the other at 1e-4)."""
    both = ["--teacher", str(OUT / "all_labels" / "teacher-0"), "--no-control"]
    yield on_sst2("ensemble", "hinton", seed, "hinton", "bilstm")
    yield on_sst2(
        "ensemble", "hinton_ensemble", seed, "hinton_ensemble", "bilstm", *both, store=OUT / "ensemble" / "teacher_outputs_of_two"
    )


def siamese(seed: int) -> Iterator[Job]:
    """quora_10k: is it the same question? A siamese BiLSTM."""
    if seed == SEEDS[0]:
        yield teacher("siamese", "quora_10k", seed, *set_(train__learning_rate="5e-5"))
    yield student("siamese", "tang", "quora_10k", seed, "tang", "bilstm", "--no-export")


def small(seed: int) -> Iterator[Job]:
    """sst2_sentences: a narrow student, 2 × 128, from a projection of the teacher's weights, 5 epochs (the assistant's come on top);
    well_read from random weights, 10 + 5 + 3 epochs, beside hinton_random, 18 epochs from the same weights."""
    yield on_sst2("small", "hinton", seed, "hinton", "narrow", *every_stage(evaluations=5))
    tiny = "{kind: narrow, layers: 2, width: 128, heads: 2, initialize: random}"
    yield on_sst2("small", "hinton_random", seed, "hinton", None, *set_(student=tiny), *every_stage(epochs=18, evaluations=5))
    yield on_sst2("small", "teacher_assistant", seed, "teacher_assistant", "narrow", *every_stage(2, evaluations=5), "--no-control")
    yield on_sst2("small", "well_read", seed, "well_read", None, *every_stage(3, evaluations=5))


def tinybert(seed: int) -> Iterator[Job]:
    """sst2_sentences: a narrow student, 4 × 192; all stages, and with some of them left out or on augmented rows;
    and plain distillation, from random weights as these, or from a projection of the teacher's."""
    stages = {stage.name: stage.model_dump(mode="json") for stage in load_recipe("tinybert").stages}
    for stage, epochs in (("general", 2), ("intermediate", 4), ("prediction", 3)):
        stages[stage]["train"] |= {"epochs": epochs, "evaluations": 5}
    replaced = {"kind": "word_replacement", "masked_lm": str(LANGUAGE), "vectors": str(DATA / "glove_6b_50d_3k" / "vectors.npz")}
    copies = {"augment": {"copies": 2, "steps": [replaced]}}
    seven = every_stage(epochs=7, learning_rate="5e-4", evaluations=5)  # plain distillation, as long as `no_general`
    projected = set_(student="{kind: narrow, layers: 4, width: 192, heads: 12, initialize: projection}")
    random = set_(student="{kind: narrow, layers: 4, width: 192, heads: 12, initialize: random}")
    yield on_sst2("tinybert", "hinton", seed, "hinton", None, *random, *seven)
    yield on_sst2("tinybert", "hinton_projected", seed, "hinton", None, *projected, *seven)
    task, alone = [stages["intermediate"], stages["prediction"]], ["--no-control"]
    for label, kept, more in (
        ("all_stages", list(stages.values()), FROM_PRETRAINED),
        ("no_general", task, alone),
        ("no_general_projected", task, [*alone, *projected]),
        ("prediction_only", task[1:], alone),
        ("no_general_augmented", [stage | copies for stage in task], alone),
    ):
        yield on_sst2("tinybert", label, seed, "tinybert", None, *set_(stages=json.dumps(kept)), *more)


def language(seed: int) -> Iterator[Job]:
    """A masked-language head for MiniLM, whose package has none: trained on the sentences of sst2_sentences."""
    if seed == SEEDS[0]:
        text = ["--raw", str(DATA / "sst2_sentences" / "train.jsonl.gz")]
        yield Job("language", "model", seed, ("pretrain", str(minilm()), *text))


def distilbert(seed: int) -> Iterator[Job]:
    """sst2_sentences: every other layer, pretrained on the training sentences; each loss, and the start, left out in turn."""
    same = ["--pretrained", str(LANGUAGE), *set_(stages__0__train__epochs=2), *every_stage(2, evaluations=5)]
    yield on_sst2("distilbert", "all_losses", seed, "distilbert", None, *same)
    for place, left_out in enumerate(("soft_targets", "masked_language", "cosine")):
        without = set_(**{f"stages__0__objectives__{place}__weight": 0})
        yield on_sst2("distilbert", f"no_{left_out}", seed, "distilbert", None, *same, *without, "--no-control")
    random = "{kind: narrow, layers: 3, width: 384, heads: 12, vocabulary: teacher, initialize: random}"
    yield on_sst2("distilbert", "random_start", seed, "distilbert", None, *same, *set_(student=random), "--no-control")


def questions(seed: int) -> Iterator[Job]:
    """trec6: as `three_layers`, two of them for ten epochs too; and a student of the teacher's own shape, from the pretrained model."""
    if seed == SEEDS[0]:
        yield teacher("questions", "trec6", seed, *set_(train__learning_rate="5e-5"))

    def on_trec6(label: str, recipe: str, kind: str | None, *more: str) -> Job:
        return student("questions", label, "trec6", seed, recipe, kind, "--no-export", *FROM_PRETRAINED, *more)

    first = set_(student__layers="first")
    three = {"epochs": 3, "learning_rate": "1e-4", "evaluations": 5}
    yield on_trec6("hinton", "hinton", "teacher_layers", *first, *every_stage(**three))
    for recipe in ("pkd_skip", "pkd_last", "mixkd"):
        yield on_trec6(recipe, recipe, "teacher_layers", *first, *every_stage(**three), "--no-control")
    halves = every_stage(2, **{**three, "epochs": 1.5})
    yield on_trec6("minilm", "minilm", "teacher_layers", *first, *halves, "--no-control")
    ten, fives = every_stage(**{**three, "epochs": 10}), every_stage(2, **{**three, "epochs": 5})
    yield on_trec6("ten_epochs_hinton", "hinton", "teacher_layers", *first, *ten)
    yield on_trec6("ten_epochs_minilm", "minilm", "teacher_layers", *first, *fives, "--no-control")

    own_shape = "{kind: teacher_layers, layers: all, pooler: false}"
    whole, same = set_(student=own_shape), {**three, "learning_rate": "5e-5"}
    yield on_trec6("own_shape_hinton", "hinton", None, *whole, *every_stage(**same))
    yield on_trec6("own_shape_averaged_self", "averaged_self", None, *whole, *every_stage(**same), "--no-control")
    yield on_trec6(
        "own_shape_born_again", "born_again", None, *whole, *set_(stages__0__student=own_shape), *every_stage(2, **same), "--no-control"
    )


def paraphrase(seed: int) -> Iterator[Job]:
    """mrpc: the first three layers of the fine-tuned teacher."""
    yield from _pairs("paraphrase", "mrpc", seed, str(OUT / "pairs" / "teacher-0"))


def entailment(seed: int) -> Iterator[Job]:
    """rte: the first three layers of the fine-tuned teacher."""
    if seed == SEEDS[0]:
        yield teacher("entailment", "rte", seed, *set_(train__learning_rate="5e-5"))
    yield from _pairs("entailment", "rte", seed, str(OUT / "entailment" / "teacher-0"))


def _pairs(group: str, name: str, seed: int, model: str) -> Iterator[Job]:
    first = [*set_(student__layers="first", metric="accuracy"), *every_stage(epochs=3, learning_rate="1e-4"), "--no-export"]
    yield student(group, "hinton", name, seed, "hinton", "teacher_layers", *first, teachers=[model])
    for recipe in ("pkd_skip", "pkd_last"):
        yield student(group, recipe, name, seed, recipe, "teacher_layers", *first, "--no-control", teachers=[model])


def word_vectors(seed: int) -> Iterator[Job]:
    """toutiao5: characters with vectors 200 wide, from the ensemble of docs/results.md; a BiLSTM, and the mean of the vectors."""
    ensemble = [str(OUT / "chinese" / f"teacher-{one}") for one in SEEDS]
    vectors = set_(student__vocabulary="characters", student__vectors=DATA / "tencent_zh_char_200d" / "vectors.npz")
    for label, kind in (("bilstm", "bilstm"), ("mean", "static_embeddings")):
        yield student(
            "word_vectors",
            label,
            "toutiao5",
            seed,
            "word_vectors_bilstm",
            kind,
            *vectors,
            *every_stage(epochs=4, evaluations=5),
            "--no-export",
            teachers=ensemble,
        )


def tasks(seed: int) -> Iterator[Job]:
    """stsb (Pearson) and mrpc (accuracy): three layers of the teacher of stsb, alternate; one student with two heads, or one each."""
    three = [*set_(student__layers="[0,2,4]"), *every_stage(epochs=3, learning_rate="1e-4", evaluations=5), "--no-export"]
    known = {"stsb": ("similarity", OUT / "regression"), "mrpc": ("classification", OUT / "pairs")}
    given = []
    for name, (task, group) in known.items():
        given += ["--task", f"{name}={task}", "--teacher", f"{name}={group / 'teacher-0'}"]
        given += [part if part.startswith("--") else f"{name}={part}" for part in files(name)]
        given += ["--store", f"{name}={group / 'teacher_outputs'}"]
    for recipe in ("bam", "mt_dnn"):
        yield Job("tasks", recipe, seed, ("distill", recipe, *given, "--student", "teacher_layers", *three, "--seed", str(seed)))
    start = ["--pretrained", str(OUT / "regression" / "teacher-0")]
    for name, recipe, (task, group) in zip(known, ("tang", "hinton"), known.values(), strict=True):
        yield student(
            "tasks",
            f"{recipe}_{name}",
            name,
            seed,
            recipe,
            "teacher_layers",
            *start,
            *three,
            "--task",
            task,
            teachers=[str(group / "teacher-0")],
            store=group / "teacher_outputs",
        )


GROUPS: Groups = {
    one.__name__: one
    for one in (
        tang,
        ensemble,
        siamese,
        word_vectors,
        three_layers,
        questions,
        paraphrase,
        entailment,
        small,
        language,
        distilbert,
        tinybert,
        tasks,
    )
}

# What plain distillation each is compared with: from the same start, for as many epochs as the task's own stages have together.
PLAIN = {
    "tang": {"tang_augmented": "tang"},
    "ensemble": {"hinton_ensemble": "hinton"},
    "three_layers": dict.fromkeys(("pkd_skip", "pkd_last", "mixkd", "minilm", "bert_tutorial"), "hinton"),
    "questions": {
        **dict.fromkeys(("pkd_skip", "pkd_last", "mixkd", "minilm"), "hinton"),
        "ten_epochs_minilm": "ten_epochs_hinton",
        **dict.fromkeys(("own_shape_averaged_self", "own_shape_born_again"), "own_shape_hinton"),
    },
    "paraphrase": dict.fromkeys(("pkd_skip", "pkd_last"), "hinton"),
    "entailment": dict.fromkeys(("pkd_skip", "pkd_last"), "hinton"),
    "small": {"teacher_assistant": "hinton", "well_read": "hinton_random"},
    "tinybert": {"no_general": "hinton", "no_general_projected": "hinton_projected"},
    "tasks": {**dict.fromkeys(("bam stsb", "mt_dnn stsb"), "tang_stsb"), **dict.fromkeys(("bam mrpc", "mt_dnn mrpc"), "hinton_mrpc")},
}

if __name__ == "__main__":
    main(GROUPS, Path("docs/papers.md"), __doc__, PLAIN)
