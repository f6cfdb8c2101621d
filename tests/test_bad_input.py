"""Bad input: one clear message on stderr, nothing on stdout, exit code 2, and nothing left behind."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from tiny import LABELS, TEXTS, tiny_rows, tiny_teacher, write_rows
from understudy.runs.preparation import resolve
from understudy.settings.loading import load_recipe

ROWS = tiny_rows(60)


class Case:
    """What a case may change: files beside a good teacher and good rows, and the words of the command."""

    def __init__(self, world, folder: Path) -> None:
        self.world, self.folder = world, folder
        self.out = folder / "runs" / "out"
        self.given = {"train": world.train, "validation": world.validation, "teacher": world.teacher}
        self.recipe, self.more = "hinton", []

    def file(self, name: str, content: str | bytes | list[dict]) -> str:
        path = self.folder / name
        if isinstance(content, list):
            return write_rows(path, content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    def model(self, name: str, **settings) -> Path:
        """A teacher to spoil."""
        folder = self.folder / name
        if settings:
            tiny_teacher(**settings).save(folder)
        else:
            shutil.copytree(self.world.teacher, folder)
        return folder

    @property
    def command(self) -> list[str]:
        words = ["distill", self.recipe, "--out", str(self.out), *self.more]
        return words + [word for name, value in self.given.items() if value for word in (f"--{name}", str(value))]


def swapped(rows: list[dict]) -> list[dict]:
    return [row | {"label": LABELS[1 - LABELS.index(row["label"])]} for row in rows]


# Each changes a case that would run, and says what the message must hold.
CASES = {}


def case(*message: str):
    def keep(change):
        CASES[change.__name__.strip("_")] = (change, message)
        return change

    return keep


# --- files


@case("train.jsnl: ", "cannot read", ".jsonl, .json, .csv, .tsv, .parquet")
def wrong_extension(one):
    one.given["train"] = one.file("train.jsnl", ROWS)


@case("trian.jsonl: no such file", "Did you mean", "train.jsonl")
def missing_file(one):
    one.given["train"] = Path(one.world.train).with_name("trian.jsonl")


@case("nowhere/at/all", "no such file or folder")
def missing_folder(one):
    one.given["train"] = "nowhere/at/all"


@case("train.jsonl: line 2: not UTF-8", "byte 0xe9 at offset")
def not_utf8(one):
    one.given["train"] = one.file("train.jsonl", '{"text": "a", "label": "bad"}\n{"text": "é", "label": "good"}\n'.encode("latin-1"))


@case("train.jsonl: line 3: broken JSON")
def broken_json(one):
    lines = Path(one.world.train).read_text().splitlines()
    one.given["train"] = one.file("train.jsonl", "\n".join([*lines[:2], lines[2][:-3], *lines[3:]]))


@case("train.csv: line 3: 3 fields, but the header has 2", "quotes")
def ragged_csv(one):
    one.given["train"] = one.file("train.csv", "text,label\na film,good\na film, dull,bad\n")


@case("train.jsonl.gz: ", "not a gzip file")
def no_gzip(one):
    one.given["train"] = one.file("train.jsonl.gz", b"plain text")


@case("train.jsonl: the file is empty")
def empty_file(one):
    one.given["train"] = one.file("train.jsonl", "")


# --- columns, texts, labels


@case("no column 'text'", "review", "--column text=NAME")
def missing_column(one):
    one.given["train"] = one.file("train.jsonl", [{"review": row["text"], "label": row["label"]} for row in ROWS])


@case("no column 'stars'", "Did you mean 'star'")
def misspelt_column(one):
    one.given["train"] = one.file("train.jsonl", [{"text": row["text"], "star": row["label"]} for row in ROWS])
    one.more = ["--column", "label=stars"]


@case("--column text", "text=review")
def column_without_equals(one):
    one.more = ["--column", "text"]


@case("unknown column role 'txt'", "Did you mean 'text'")
def column_of_another_name(one):
    one.more = ["--column", "txt=review"]


@case("row 5 (not counting the header) with an empty text")
def empty_text(one):
    one.given["train"] = one.file("train.jsonl", [row | ({"text": "  "} if place == 4 else {}) for place, row in enumerate(ROWS)])


@case("no row has a label", "--transfer")
def empty_label_column(one):
    one.given["train"] = one.file("train.jsonl", [row | {"label": None} for row in ROWS])


@case("all 30 labelled rows have the one label 'good'")
def one_class_only(one):
    one.given["train"] = one.file("train.jsonl", [row for row in ROWS if row["label"] == "good"])


@case("other.jsonl: row 1: label 'bad' never occurs", "which has good, best")
def label_never_seen(one):
    """A class that the teacher has, and train has not."""
    teacher = one.model("three", label_names=("bad", "good", "best"))
    one.given["teacher"] = teacher
    one.given["train"] = one.file("train.jsonl", [row | {"label": ("good", "best")[place % 2]} for place, row in enumerate(ROWS)])
    one.given["validation"] = one.file("other.jsonl", [ROWS[1]])


@case("label 'awful' is none of the 2 classes of the model: bad, good")
def label_unknown_to_the_teacher(one):
    one.given["train"] = one.file("train.jsonl", [*ROWS, {"text": "a plot", "label": "awful"}])


@case("data.label_names is good, bad; the model has bad, good", "another order")
def label_names_in_another_order(one):
    one.more = ["--set", "data.label_names=[good, bad]"]


@case("labels 0, 1", "majority|below that of always predicting the most frequent label")
def labels_of_another_meaning(one):
    """Numbers are positions: the same numbers for swapped classes make a teacher that is always wrong."""
    flipped = [row | {"label": LABELS.index(row["label"])} for row in swapped(ROWS)]
    one.given["teacher"] = rename_labels(one.model("numbered"), ("0", "1"))
    one.given["train"], one.given["validation"] = (one.file("train.jsonl", flipped), one.file("validation.jsonl", flipped[:30]))


def rename_labels(folder: Path, names: tuple[str, ...]) -> Path:
    config = json.loads((folder / "config.json").read_text())
    config["id2label"], config["label2id"] = dict(enumerate(names)), {name: place for place, name in enumerate(names)}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@case("60 different labels in 60 rows, too many for classes", "--column label=NAME")
def labels_that_are_texts(one):
    box = one.file("said.jsonl", [{"text": row["text"], "logits": [0, 1]} for row in ROWS])
    one.given |= {"teacher": box, "validation": None}
    one.given["train"] = one.file("train.jsonl", [row | {"label": row["text"]} for row in ROWS])


@case("pairs.jsonl: has a column text_pair, but the train rows have none")
def pairs_beside_single_texts(one):
    one.given["validation"] = one.file("pairs.jsonl", [row | {"text_pair": "a film"} for row in ROWS])


# --- the teacher


@case("no such model folder")
def missing_teacher(one):
    one.given["teacher"] = one.folder / "no" / "teacher"


@case("teacher.models is missing", "--teacher")
def no_teacher(one):
    one.given["teacher"] = None


@case("data.train is missing", "--train")
def no_train(one):
    one.given["train"] = None


@case("no config.json in it")
def folder_without_a_model(one):
    (one.folder / "empty").mkdir()
    one.given["teacher"] = one.folder / "empty"


@case("config.json: not JSON")
def damaged_config(one):
    folder = one.given["teacher"] = one.model("damaged")
    (folder / "config.json").write_text('{"model_type": ')


@case("cannot be loaded")
def truncated_weights(one):
    folder = one.given["teacher"] = one.model("damaged")
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:999])


@case("weights are pickled (pytorch_model.bin)", "only safetensors")
def pickled_weights(one):
    folder = one.given["teacher"] = one.model("pickled")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


@case("not fine-tuned", "classifier", "understudy finetune")
def random_head(one):
    from safetensors.torch import load_file, save_file

    folder = one.given["teacher"] = one.model("headless")
    weights = {name: value for name, value in load_file(folder / "model.safetensors").items() if not name.startswith("classifier")}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@case(
    "its accuracy on the validation rows is 0.000, below that of always predicting the most frequent label (0.500)",
    "bad, good in this order",
)
def below_the_majority(one):
    one.given["train"], one.given["validation"] = (one.file("train.jsonl", swapped(ROWS)), one.file("validation.jsonl", swapped(ROWS[:30])))


@case("label 'good' is none of the 3 classes of the model: x, y, z")
def another_number_of_classes(one):
    one.given["teacher"] = one.model("three", label_names=("x", "y", "z"))


@case("a regression model, but --task is classification")
def regressor_for_classes(one):
    one.given["teacher"] = one.model("number", label_names=None)


@case("a classification model, but --task is similarity")
def classifier_for_numbers(one):
    one.more = ["--task", "similarity"]


@case("no tokenizer")
def tokenizer_missing(one):
    folder = one.given["teacher"] = one.model("mute")
    for path in folder.glob("*token*"):
        path.unlink()


@case("data.max_length is 65", "has 64 positions; give at most 64")
def longer_than_the_positions(one):
    one.more = ["--set", "data.max_length=65"]


@case("answers cannot be used; row 1: 3 logits, expected 2")
def black_box_of_another_width(one):
    one.given["teacher"] = one.file("said.jsonl", [{"text": row["text"], "logits": [0, 1, 2]} for row in ROWS])


@case("student teacher_layers is made from the teacher's weights, but only outputs")
def layers_of_a_black_box(one):
    one.given["teacher"] = one.file("said.jsonl", [{"text": row["text"], "logits": [0, 1]} for row in ROWS])


@case("60 of 60 rows have no teacher output in it|rows have no teacher output in it")
def black_box_without_the_train_rows(one):
    one.given["teacher"] = one.file("said.jsonl", [{"text": text, "label": "good"} for text in TEXTS])
    one.more = ["--student", "static_embeddings"]


# --- what goes on inside models, and augmenters


@case("objective patient compares layers, but the student bilstm has none")
def layers_of_a_bilstm(one):
    one.recipe, one.more = "pkd_skip", ["--student", "bilstm"]


@case("patient.layers has [1, 9]: the teacher has no layer 9; allowed are 0 to 3")
def unmatched_layer(one):
    one.recipe, one.more = "pkd_skip", ["--set", "stages.0.objectives.2.layers=[[1, 9]]"]


@case("stage distillation uses hidden states, attention or mixup, which need one teacher model; given are 2 teachers")
def inside_of_an_ensemble(one):
    one.recipe, one.more = "pkd_skip", ["--teacher", str(one.world.teacher)]


@case("stage distillation uses mixup of word embeddings, which student bilstm does not support")
def blended_words_of_a_bilstm(one):
    one.recipe, one.more = "mixkd", ["--student", "bilstm"]


@case("patient.layers has [1, 9]: the teacher has no layer 9")
def unmatched_layer_of_blended_rows(one):
    one.recipe, one.more = "mixkd", ["--set", "stages.0.mixup.objectives=[{kind: patient, layers: [[1, 9]]}]"]


@case("relations.relation_heads is 5; it must divide the widths")
def heads_that_divide_nothing(one):
    one.recipe, one.more = "minilm", ["--set", "stages.0.objectives.0.relation_heads=5"]


@case("stages.0.objectives.0: of is empty", "query, key and value")
def no_relation(one):
    one.recipe, one.more = "minilm", ["--set", "stages.0.objectives.0.of=[]"]


@case("stages.0.objectives.1: temperature is nan", "finite number")
def temperature_that_is_no_number(one):
    one.more = ["--set", "stages.0.objectives.1.temperature=.nan"]


@case("but teacher and student tokenize texts differently: row 1 (", "Give the student the teacher's vocabulary")
def tokens_of_another_tokenizer(one):
    one.recipe, one.more = "minilm", ["--set", "student.vocabulary=characters"]


@case("stage distillation augments rows for the teacher to label", "give the teacher's folder, or set stages.0.augment=null")
def rows_made_for_a_black_box(one):
    rows = tiny_rows(60) + [json.loads(line) for line in Path(one.world.train).read_text().splitlines()]
    one.given["teacher"] = one.file("said.jsonl", [{"text": row["text"], "logits": [0, 1]} for row in rows])
    one.recipe = "tang_augmented"


@case("augment.steps.0: tagger is missing")
def no_tagger(one):
    one.recipe, one.more = "tang_augmented", ["--set", "stages.0.augment.steps=[{kind: part_of_speech}]"]


@case("augmenter 'maskin' is unknown", "Did you mean 'masking'")
def unknown_augmenter(one):
    one.recipe, one.more = "tang_augmented", ["--set", "stages.0.augment.steps=[{kind: maskin}]"]


@case("masked_lm and vectors are both missing")
def words_replaced_by_nothing(one):
    one.recipe, one.more = "tang_augmented", ["--set", "stages.0.augment.steps=[{kind: word_replacement}]"]


@case("word_replacement.masked_lm: no folder no/model", "word_replacement.vectors")
def words_replaced_by_a_model_that_is_not_there(one):
    one.recipe = "tang_augmented"
    one.more = ["--set", "stages.0.augment.steps=[{kind: word_replacement, masked_lm: no/model}]"]


@case("word_replacement.vectors: ", "near.txt: line 2 has 2 numbers where 3 are expected")
def near_words_of_two_widths(one):
    vectors = one.file("near.txt", "film 1 2 3\nfun 4 5\n")
    one.recipe = "tang_augmented"
    one.more = ["--set", f"stages.0.augment.steps=[{{kind: word_replacement, vectors: {vectors}}}]"]


@case("part_of_speech.tagger: no/tagger is neither a file of tagged rows nor a model folder", "spacy:NAME")
def tagger_that_is_not_there(one):
    one.recipe = "tang_augmented"
    one.more = ["--set", "stages.0.augment.steps=[{kind: part_of_speech, tagger: no/tagger}]"]


@case("part_of_speech.tagger: ", "teacher is not a token-classification model: it holds a BertForSequenceClassification")
def tagger_that_judges_sentences(one):
    one.recipe = "tang_augmented"
    one.more = ["--set", f"stages.0.augment.steps=[{{kind: part_of_speech, tagger: {one.world.teacher}}}]"]


@case("tags.csv: row 2: tokens is 'a film'; a list is needed")
def tagged_rows_that_are_text(one):
    tagged = one.file("tags.csv", 'tokens,tags\n"[""a""]","[""DET""]"\na film,DET NOUN\n')
    one.recipe = "tang_augmented"
    one.more = ["--set", f"stages.0.augment.steps=[{{kind: part_of_speech, tagger: {tagged}}}]"]


@case("stages.0.augment.words is 'jiba'", "'characters' or 'jieba'")
def words_of_another_cut(one):
    one.recipe, one.more = "tang_augmented", ["--set", "stages.0.augment.words=jiba"]


# --- students from what is given


@case("student.vectors: ", "words.txt: line 2 has 2 numbers where 3 are expected")
def word_vectors_of_two_widths(one):
    one.recipe = "word_vectors_bilstm"
    one.more = ["--set", f"student.vectors={one.file('words.txt', 'film 1 2 3' + chr(10) + 'fun 4 5' + chr(10))}"]


@case("student.vectors: no/words.txt: no such file", ".npz")
def word_vectors_that_are_not_there(one):
    one.recipe = "word_vectors_bilstm"
    one.more = ["--student", "static_embeddings", "--set", "student.vectors=no/words.txt"]


@case("student.initialize is 'projection'", "student.width 128", "at most the teacher's 3 and 16")
def wider_than_what_is_projected(one):
    one.more = ["--student", "narrow", "--set", "student.initialize=projection"]


@case("teacher: weights has 3 numbers for 2 models; give one per model")
def weights_of_another_ensemble(one):
    one.recipe, one.more = ("hinton_ensemble", ["--teacher", str(one.world.teacher), "--set", "teacher.weights=[1, 2, 1]"])


@case("student: layers is '0,2': input should be a list such as [0, 2], or 'alternate', 'first', 'last'")
def layers_without_brackets(one):
    one.more = ["--set", "student.layers=0,2"]


@case("student: intermediate is 0: at least 1 is needed")
def no_neurons(one):
    one.more = ["--student", "narrow", "--set", "student.intermediate=0"]


@case("student.vectors: ", "words.npz: not an .npz archive, or truncated")
def word_vectors_that_are_cut_off(one):
    one.recipe = "word_vectors_bilstm"
    one.more = ["--set", f"student.vectors={one.file('words.npz', b'PK' + bytes(99))}"]


@case("student.count is 9, but the teacher has 3 layers")
def more_layers_than_the_teachers(one):
    one.recipe, one.more = "pkd_skip", ["--set", "student.count=9"]


# --- recipe and options


@case("recipe 'hintn' is unknown", "Did you mean 'hinton'")
def unknown_recipe(one):
    one.recipe = "hintn"


@case("student 'bi_lstm' is unknown", "Did you mean 'bilstm'")
def unknown_student(one):
    one.more = ["--student", "bi_lstm"]


@case("hinton: stages.0.train.epoch is not a setting", "Did you mean 'stages.0.train.epochs'")
def unknown_key(one):
    one.more = ["--set", "stages.0.train.epoch=3"]


@case("hinton: stages.0.train.epochs is 'many'")
def wrong_type(one):
    one.more = ["--set", "stages.0.train.epochs=many"]


@case("--set epochs: write it as key=value")
def set_without_a_value(one):
    one.more = ["--set", "epochs"]


@case("task 'clasification' is unknown", "Did you mean 'classification'")
def unknown_task(one):
    one.more = ["--task", "clasification"]


@case("control.0 is 'alne'", "'alone' or 'pseudo_labels'")
def unknown_control(one):
    one.more = ["--control", "alne"]


@case("--control and --no-control exclude each other")
def control_and_none(one):
    one.more = ["--control", "alone", "--no-control"]


@case("--device tpu: this machine has cpu")
def unknown_device(one):
    one.more = ["--device", "tpu"]


@case("student.layers has 7, but the teacher's layers are 0 to 2")
def layers_that_are_not_there(one):
    one.more = ["--set", "student.layers=[0, 7]"]


@case("train.last_layers is 9, but the model has")
def more_last_layers_than_layers(one):
    one.more = ["--set", "stages.0.train.last_layers=9"]


@case("stage distillation learns from transfer rows only; give a file with --transfer")
def transfer_only_without_any(one):
    one.more = ["--set", "stages.0.rows=[transfer]"]


@case("report_to: 'tensorbord' is unknown", "Did you mean 'tensorboard'")
def unknown_report(one):
    one.more = ["--set", "report_to=[tensorbord]"]


# --- folders that are there


@case("not empty. Resume it with --resume, replace it with --overwrite, or give another --out")
def folder_not_empty(one):
    one.out.mkdir(parents=True)
    (one.out / "thesis.txt").write_text("years of work")


@case("not a folder that understudy wrote; --overwrite would delete it")
def overwriting_somebody_elses(one):
    folder_not_empty(one)
    one.more = ["--overwrite"]


@case("holds a run with other settings: seed (1 there, 0 now)")
def run_of_another_recipe(one):
    one.out.mkdir(parents=True)
    keys = {"data.train": one.given["train"], "data.validation": one.given["validation"], "teacher.models": [one.given["teacher"]]}
    (one.out / "recipe.yaml").write_text(resolve(load_recipe("hinton", keys | {"seed": 1})).dump())
    one.more = ["--resume"]


@case("holds the outputs of another teacher or setting; these differ: teacher's max_length", "--store")
def store_of_another_teacher(one):
    from understudy.models.text_model import TextModel
    from understudy.teachers.store import Store

    store = one.folder / "outputs"
    Store(store, TextModel.load(one.world.teacher, max_length=32).fingerprint, 2)
    one.more = ["--store", str(store)]


@case("truncated or damaged", "delete this file")
def truncated_store(one):
    from understudy.models.text_model import TextModel
    from understudy.teachers.store import Store

    store = one.folder / "outputs"
    Store(store, TextModel.load(one.world.teacher).fingerprint, 2)
    (store / "shard-0.arrow").write_bytes(b"ARROW1")
    one.more = ["--store", str(store)]


@case("teacher outputs in format 1, of another version of understudy", "Delete the folder", "--store")
def older_store(one):
    store = one.folder / "outputs"
    store.mkdir()
    (store / "store.json").write_text('{"format": 1, "dtype": "float32", "outputs": 2, "teacher": {}}')
    one.more = ["--store", str(store)]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", CASES)
def test_one_clear_message_and_nothing_left_behind(name, world, tmp_path, understudy):
    change, message = CASES[name]
    one = Case(world, tmp_path)
    change(one)
    before = contents(tmp_path)
    said = understudy(*one.command)
    assert said.code == 2, said.err
    assert said.out == ""
    errors = [line for line in said.err.splitlines() if line.startswith("understudy: ")]
    rest = [line for line in re.split(r"[\r\n]", said.err.partition("understudy: ")[0]) if line.strip() and "row/s" not in line]
    assert len(errors) == 1 and all(line.startswith(("Note: ", "Warning: ")) for line in rest), said.err
    told = said.err.partition("understudy: ")[2]
    for part in message:
        assert part in told or re.search(part, told), told
    assert len(told) < 600 and "Traceback" not in told
    assert contents(tmp_path) == before
    assert not one.out.exists() or before, "an empty folder was left"


BRIEFLY = ["--no-control", "--no-export", "--set", "stages.0.train.max_steps=2"]


def test_the_case_that_is_changed_would_run(world, tmp_path, understudy, quick):
    said = understudy(*Case(world, tmp_path).command, *BRIEFLY)
    assert said.code == 0, said.err


def test_a_student_larger_than_the_teacher_is_a_warning(world, tmp_path, understudy, quick):
    said = understudy(*Case(world, tmp_path).command, "--student", "bilstm", *BRIEFLY)
    assert said.code == 0
    assert re.search(r"Warning: the student is larger than the teacher: [\d,]+ parameters against [\d,]+", said.err)


def test_all_mistakes_of_a_recipe_in_one_message(world, tmp_path, understudy):
    sets = ("sede=1", "stages.0.train.epochs=many", "data.max_length=1", "student.layrs=[0]")
    said = understudy(*Case(world, tmp_path).command, *(word for one in sets for word in ("--set", one)))
    assert said.code == 2 and said.out == ""
    assert all(word in said.err for word in ("sede", "stages.0.train.epochs", "data.max_length", "layrs"))


# --- the other commands


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["finetune", "{folder}/none", "--train", "{train}", "--out", "{folder}/out"], "no such model folder"),
        (["finetune", "{teacher}", "--out", "{folder}/out"], "data.train is missing; give --train FILE"),
        (["finetune", "{teacher}", "--train", "{train}", "--set", "train.epoch=1", "--out", "{folder}/out"], "Did you mean 'train.epochs'"),
        (
            ["finetune", "{teacher}", "--train", "{train}", "--set", "train.last_layers=9", "--out", "{folder}/out"],
            "the model has 3 layers",
        ),
        (["finetune", "{teacher}", "--train", "{train}", "--set", "data.max_length=99", "--out", "{folder}/out"], "64 positions"),
        (["evaluate", "{folder}/none", "--data", "{train}"], "no such model folder"),
        (["evaluate", "{teacher}", "--data", "{folder}/none.csv"], "none.csv: no such file"),
        (["evaluate", "{teacher}", "--data", "{train}", "--task", "similarity"], "a classification model, but --task is similarity"),
        (["evaluate", "{teacher}", "--data", "{train}", "--task", "clasification"], "Did you mean 'classification'"),
        (["evaluate", "{teacher}", "--data", "{train}", "--max-length", "99"], "64 positions"),
        (["predict", "{teacher}", "a", "--input", "{train}"], "got both"),
        (["predict", "{teacher}", " "], "row 1: text is empty"),
        (["predict", "{teacher}", "a", "b", "--pair", "c"], "--pair goes with one text; got 2"),
        (["predict", "{teacher}", "--input", "{folder}/none.csv"], "no such file"),
        (["report", "{folder}"], "no facts.json in it"),
        (["report", "{folder}/none"], "no such run folder"),
        (["teach", "--teacher", "{folder}/none", "--train", "{train}", "--store", "{folder}/out"], "no such model folder"),
        (["plan", "hintn", "--teacher", "{teacher}", "--train", "{train}"], "Did you mean 'hinton'"),
        (["plan", "hinton", "--train", "{train}"], "teacher.models is missing"),
    ],
    ids=lambda one: " ".join(one[:1]) if isinstance(one, list) else one,
)
def test_other_commands_refuse_alike(words, message, world, tmp_path, understudy):
    said = understudy(*(word.format(folder=tmp_path, teacher=world.teacher, train=world.train) for word in words))
    assert (said.code, said.out) == (2, ""), said.err
    assert message in said.err and said.err.count("understudy: ") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["distil", "hinton"], "distil"),
        (["finetune"], "Missing argument"),
        (["distill", "hinton", "--teecher", "x"], "--teecher"),
        (["list", "recipe"], "recipes"),
        (["distill", "hinton", "--seed", "x"], "--seed"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, list) else "",
)
def test_words_that_no_command_takes(words, message, understudy):
    said = understudy(*words)
    assert (said.code, said.out) == (2, "") and message in said.err
