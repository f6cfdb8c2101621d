"""A run is resumed only on the rows and models that it began with, whichever program it is of."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file

from tiny import BAD, GOOD, OTHER, write_rows
from understudy.errors import RunFolderError
from understudy.files import FACTS
from understudy.programs.distill import distill
from understudy.programs.finetune import finetune
from understudy.programs.pretrain import pretrain
from understudy.programs.search import search
from understudy.runs import inputs
from understudy.runs.folder import MEASURING, Run, check
from understudy.settings.base import StudentPart
from understudy.settings.finetune import FinetuneSettings, PretrainSettings
from understudy.settings.listing import all_settings
from understudy.settings.loading import load_recipe
from understudy.settings.recipe import Recipe

SPLITS = ("train", "validation", "test", "transfer")


class Stopped(Exception):
    pass


def stop(line: str) -> None:
    """A user who stops the run where the training begins."""
    if line.startswith(("Training ", "Fine-tuning ", "Pretraining ", "mood: Teacher outputs", "Teacher outputs")):
        raise Stopped


class Program:
    """A command on files of its own, which a test may change."""

    def __init__(self, name: str, world, pretrained: str, folder: Path) -> None:
        self.name, self.folder, self.out = name, folder, folder / "out"
        self.changes: dict = {}  # of its settings
        self.files = {split: folder / f"{split}.jsonl" for split in SPLITS}
        for split, path in self.files.items():
            shutil.copy(getattr(world, split), path)
        for model, source in (("teacher", world.teacher), ("pretrained", pretrained)):
            shutil.copytree(source, folder / model)

    def run(self, **more) -> Run:
        teacher, pretrained = str(self.folder / "teacher"), str(self.folder / "pretrained")
        data = {split: str(path) for split, path in self.files.items()}
        own = {key: value for key, value in data.items() if key != "transfer"}
        if self.name == "finetune":
            return finetune(FinetuneSettings(**{"model": teacher, "data": own} | self.changes), self.out, **more)
        if self.name == "pretrain":
            text = {"raw": data["train"]}
            return pretrain(PretrainSettings(**{"model": pretrained, "data": text} | self.changes), self.out, **more)
        keys = {"data": data, "teacher.models": [teacher], "export": [], "control": []}
        if self.name == "search":
            space = self.folder / "space.yaml"
            shape = "width: 4, hidden: 4, vocabulary: words, min_count: 1"
            changes = dict(self.changes)
            if "vectors" in changes:
                shape += f", vectors: {changes.pop('vectors')}"
            space.write_text(f"students: [{{kind: static_embeddings, {shape}}}]\nrecipes: [hinton]\n", "utf-8")
            dotted = {f"data.{split}": path for split, path in data.items()} | {"teacher.models": [teacher]}
            return search(dotted | {"control": [], "export": []} | changes, "size_mib<=10", self.out, space=space, trials=1, **more)
        if self.name == "tasks":
            task = {"name": "mood", "data": data, "teacher": {"models": [teacher]}}
            keys = {"tasks": [task], "export": [], "control": []}
            return distill(load_recipe("mt_dnn", keys | self.changes), self.out, **more)
        return distill(load_recipe("hinton", keys | self.changes), self.out, **more)

    @property
    def uses(self) -> tuple[str, ...]:
        return {"finetune": SPLITS[:3], "pretrain": SPLITS[:1]}.get(self.name, SPLITS)

    def change(self, split: str, how: str) -> None:
        rows = [json.loads(line) for line in self.files[split].read_text("utf-8").splitlines()]
        if how == "fewer":
            del rows[3]
        elif how == "text":
            rows[3]["text"] += " indeed"
        elif how == "label":
            rows[3]["label"], rows[4]["label"] = rows[4]["label"], rows[3]["label"]
        write_rows(self.files[split], rows)


@pytest.fixture(params=["finetune", "pretrain", "distill", "tasks", "search"])
def program(request, world, pretrained, tmp_path, quick):
    one = Program(request.param, world, pretrained, tmp_path)
    with pytest.raises(Stopped):
        one.run(say=stop)
    return one


def test_other_rows_are_refused_by_name(program):
    whole = {split: path.read_bytes() for split, path in program.files.items()}
    with pytest.raises(Stopped):  # the same rows go on
        program.run(say=stop, resume=True)
    for split in program.uses:
        ways = ["fewer", "text"] + ["label"] * (split != "transfer" and program.name != "pretrain")
        for how in ways:
            program.change(split, how)
            with pytest.raises(RunFolderError, match="started with other data or files") as error:
                program.run(say=stop, resume=True)
            named = f"{split} ({program.files[split]})"
            assert named in str(error.value), (how, str(error.value))
            before = len(whole[split].splitlines())
            if how == "fewer" and program.name != "pretrain":
                assert f"{named}: {before} rows then, {before - 1} now" in str(error.value)
            program.files[split].write_bytes(whole[split])
    with pytest.raises(Stopped):
        program.run(say=stop, resume=True)


def test_another_model_is_refused(program):
    name = "pretrained" if program.name == "pretrain" else "teacher"
    change_model(program.folder / name)
    with pytest.raises(RunFolderError, match=r"(teacher|model) \(.*\): changed since"):
        program.run(say=stop, resume=True)


def test_a_finished_run_of_other_rows_is_not_called_finished(program):
    (program.out / FACTS).write_text(json.dumps({"trials": [{}]}), "utf-8")
    said: list[str] = []
    program.run(say=said.append, resume=True)
    assert "nothing to do" in said[-1]
    program.change("train", "text")
    with pytest.raises(RunFolderError, match="started with other data or files"):
        program.run(say=said.append, resume=True)


# --- every setting that names a file

TAGGED = [{"tokens": [word], "tags": [tag]} for tag, words in (("good", GOOD), ("bad", BAD), ("other", OTHER)) for word in words]
VECTORS = "".join(f"{word} {place}.0 1.0 0.5 -1.0\n" for place, word in enumerate((*GOOD, *BAD, *OTHER)))
MINE = """
from understudy.objectives.labels import Labels
from understudy.students.static_embeddings import StaticEmbeddings
from understudy.augmenters.masking import Masking
from understudy.tasks.classification import Classification

class MyLabels(Labels):
    def __init__(self, *, notes: str = "") -> None:
        super().__init__()

class MyEmbeddings(StaticEmbeddings): pass
class MyMasking(Masking): pass
class MyTask(Classification): pass
"""
SMALL = {"hidden": 4, "min_count": 1}
# Settings of text that name no file; and those of rows and of models, which the tests above change.
NO_FILES = {"name", "metric", "data.columns", "data.label_names", "data.group_column", "teacher.store", "stages.N.name", "report_to"}
ABOVE = {*(f"data.{split}" for split in (*SPLITS, "raw")), "teacher.models", "model"}
# Setting → the recipe (or settings) in which it names {file}, one of those that `files` writes, under a key of its own.
OWN = {
    "task": ({"task": "{mine}:MyTask"}, "mine", "task"),
    "student.kind": ({"student": {"kind": "{mine}:MyEmbeddings", **SMALL}}, "mine", "student.kind"),
    "stages.N.student.kind": (
        {
            "student": {"kind": "static_embeddings", **SMALL},
            "stages": [
                {
                    "name": "assistant",
                    "student": {"kind": "static_embeddings", "vectors": "{vectors}", **SMALL},
                    "objectives": [{"kind": "labels"}],
                },
                {"name": "last", "teacher": "previous", "objectives": [{"kind": "soft_targets"}]},
            ],
        },
        "vectors",
        "stages.0.student.vectors",
    ),
    "stages.N.objectives.N.kind": ({"stages.0.objectives": [{"kind": "{mine}:MyLabels"}]}, "mine", "stages.0.objectives.0.kind"),
    "stages.N.mixup.objectives.N.kind": (
        {"stages.0.mixup": {"objectives": [{"kind": "{mine}:MyLabels"}]}},
        "mine",
        "stages.0.mixup.objectives.0.kind",
    ),
    "stages.N.augment.steps.N.kind": (
        {"stages.0.augment": {"copies": 1, "steps": [{"kind": "{mine}:MyMasking"}]}},
        "mine",
        "stages.0.augment.steps.0.kind",
    ),
    "stages.N.augment.steps.N.tagger": (
        {"stages.0.augment": {"copies": 1, "steps": [{"kind": "part_of_speech", "tagger": "{tagged}", "probability": 0.5}]}},
        "tagged",
        "stages.0.augment.steps.0.tagger",
    ),
    "stages.N.augment.steps.N.masked_lm": (
        {"stages.0.augment": {"copies": 1, "steps": [{"kind": "word_replacement", "masked_lm": "{pretrained}"}]}},
        "pretrained",
        "stages.0.augment.steps.0.masked_lm",
    ),
    "stages.N.augment.steps.N.vectors": (
        {"stages.0.augment": {"copies": 1, "steps": [{"kind": "word_replacement", "vectors": "{vectors}"}]}},
        "vectors",
        "stages.0.augment.steps.0.vectors",
    ),
    "teacher.pretrained": ({"teacher.pretrained": "{pretrained}"}, "pretrained", "teacher.pretrained"),
    "student.vectors": ({"student": {"kind": "bilstm", "vectors": "{vectors}", "feature": 4, **SMALL}}, "vectors", "student.vectors"),
    "student.model": ({"student": {"kind": "pretrained", "model": "{pretrained}"}}, "pretrained", "student.model"),
    "a part's own": ({"stages.0.objectives": [{"kind": "{mine}:MyLabels", "notes": "{tagged}"}]}, "tagged", "stages.0.objectives.0.notes"),
    "finetune: objective.kind": ({"objective": {"kind": "{mine}:MyLabels"}}, "mine", "objective.kind"),
    "finetune: student.vectors": (
        {"model": "static_embeddings", "student": {"kind": "static_embeddings", "vectors": "{vectors}"}},
        "vectors",
        "student.vectors",
    ),
    "pretrain: objective.kind": ({"objective": {"kind": "{mine}:MyLabels"}}, "mine", "objective.kind"),
    "tasks: tasks.N.task": ({"tasks.0.task": "{mine}:MyTask"}, "mine", "tasks.0.task"),
    "tasks: teacher.pretrained": ({"teacher.pretrained": "{pretrained}"}, "pretrained", "teacher.pretrained"),
    "tasks: student.model": ({"student": {"kind": "pretrained", "model": "{pretrained}"}}, "pretrained", "student.model"),
    "tasks: objectives": ({"stages.0.objectives": [{"kind": "{mine}:MyLabels"}]}, "mine", "stages.0.objectives.0.kind"),
    "search: objectives": (
        {"stages.0.objectives": [{"kind": "{mine}:MyLabels"}, {"kind": "soft_targets"}]},
        "mine",
        "hinton: stages.0.objectives.0.kind",
    ),
    "search: teacher.pretrained": ({"teacher.pretrained": "{pretrained}"}, "pretrained", "hinton: teacher.pretrained"),
    "search: student.vectors": ({"vectors": "{vectors}"}, "vectors", "student static_embeddings, as given: vectors"),
}


def test_every_setting_of_text_is_changed_here_or_names_no_file():
    found = {
        one.key.removeprefix("tasks.N.")
        for own in all_settings().values()
        for one in own
        if {"str", "Path", "Any", "mapping"} & set(one.type.removeprefix("list of ").split(" | "))
    }
    assert found - NO_FILES - ABOVE - OWN.keys() - {name.partition(": ")[2] for name in OWN} == set()
    listed = {name for name in NO_FILES | ABOVE if name in inputs.NO_FILES | inputs.KNOWN_OTHERWISE}
    assert listed == NO_FILES | ABOVE == inputs.NO_FILES | inputs.KNOWN_OTHERWISE


def change_model(folder: Path) -> None:
    weights = next(folder.glob("*.safetensors"))
    changed = load_file(weights)
    key = next(key for key in changed if key.endswith("word_embeddings.weight"))
    save_file(changed | {key: changed[key] + 1e-3}, weights, metadata={"format": "pt"})


@pytest.mark.parametrize("setting", OWN)
def test_a_file_that_a_setting_names_and_that_changed_is_refused_by_name(setting, world, pretrained, tmp_path, quick):
    changes, file, key = OWN[setting]
    name = setting.partition(": ")[0] if ": " in setting else "distill"
    program = Program(name, world, pretrained, tmp_path)
    files = {
        "mine": tmp_path / "mine.py",
        "vectors": tmp_path / "vectors.txt",
        "tagged": tmp_path / "tagged.jsonl",
        "pretrained": tmp_path / "pretrained",
    }
    files["mine"].write_text(MINE, "utf-8")
    files["vectors"].write_text(VECTORS, "utf-8")
    write_rows(files["tagged"], TAGGED)
    text = json.dumps(changes)
    for one, path in files.items():
        text = text.replace(f"{{{one}}}", str(path))
    program.changes = json.loads(text)
    with pytest.raises(Stopped):
        program.run(say=stop)
    (tmp_path / "pretrained" / "README.md").write_text("Of no effect.", "utf-8")
    with pytest.raises(Stopped):  # the same files go on
        program.run(say=stop, resume=True)
    if file == "pretrained":
        change_model(files[file])
    elif file == "tagged":
        write_rows(files[file], [*TAGGED, {"tokens": ["new"], "tags": ["other"]}])
    else:
        files[file].write_text(files[file].read_text("utf-8").replace("1.0 0.5", "1.5 0.5") + "\n", "utf-8")
    with pytest.raises(RunFolderError, match="started with other data or files") as error:
        program.run(say=stop, resume=True)
    assert f"{key} (" in str(error.value) and f"{files[file]}" in str(error.value)
    assert str(error.value).count("changed since") == 1 and "\n" not in str(error.value)


def test_paths_are_found_in_what_names_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("hinton", "train", "onnx", "bilstm", "tagger/model"):
        Path(folder).mkdir(parents=True)
    Path("tagger/model/weights").write_bytes(b"1")
    built = load_recipe("hinton", {"stages.0.augment": {"copies": 1, "steps": [{"kind": "part_of_speech", "tagger": "spacy:tagger"}]}})
    found = inputs.files_of(built)  # folders that happen to be called as a kind, a split or a recipe are none
    assert [(key, one["file"]) for key, one in found.items()] == [("stages.0.augment.steps.0.tagger", "spacy:tagger")]
    Path("tagger/model/weights").write_bytes(b"2")
    assert inputs.files_of(built) != found


def test_a_model_of_the_hub_is_known_by_what_was_fetched(world, tmp_path, monkeypatch):
    shutil.copytree(world.teacher, tmp_path / "fetched")
    monkeypatch.setattr(inputs, "find_folder", lambda name: tmp_path / "fetched")
    part = StudentPart(kind="pretrained", model="someone/small-encoder")
    before = inputs.files_of(part)
    assert before["model"]["file"] == "someone/small-encoder"
    change_model(tmp_path / "fetched")
    assert inputs.files_of(part) != before


RECIPE = "name: hinton\nexport: [onnx]\nreport_to: []\n"


def test_settings_of_measuring_may_change_until_the_run_is_finished(tmp_path):
    run = Run.start(tmp_path / "out", RECIPE)
    other = RECIPE.replace("[onnx]", "[]").replace("report_to: []", "report_to: [tensorboard]")
    Run.start(run.folder, other, resume=True)
    assert (run.folder / "recipe.yaml").read_text("utf-8") == other
    run.record({"seed": 0})
    with pytest.raises(RunFolderError, match=r"is a finished run, without export onnx\. Give"):
        check(run.folder, RECIPE, resume=True, overwrite=False)
    assert check(run.folder, other.replace("report_to: [tensorboard]", "report_to: []"), resume=True, overwrite=False)
    assert Run.start(run.folder, other.replace("tensorboard", "mlflow"), resume=True).finished
    assert (run.folder / "recipe.yaml").read_text("utf-8") == other, "what was measured stays written down"


@pytest.mark.parametrize("less", ["control: [alone]", "export: [onnx]", "baseline: true", "calibrate: true"])
def test_a_finished_run_is_asked_for_less_or_for_more(less, tmp_path):
    """A law over the settings of measuring: less needs nothing done; more cannot be had by resuming, and the way to it is said."""
    whole = {"name": "hinton", "seed": 0, "control": ["alone"], "export": ["onnx"], "baseline": True, "calibrate": True}
    fewer = whole | {key: type(value)() for key, value in yaml.safe_load(less).items()}
    run = Run.start(tmp_path / "whole", yaml.safe_dump(whole))
    run.record({})
    if "calibrate" not in less:
        assert check(run.folder, yaml.safe_dump(fewer), resume=True, overwrite=False)
    run = Run.start(tmp_path / "fewer", yaml.safe_dump(fewer))
    Run.start(run.folder, yaml.safe_dump(whole), resume=True)  # not finished: it may measure more
    Run.start(run.folder, yaml.safe_dump(fewer), resume=True)
    run.record({})
    (run.folder / "student").mkdir()
    with pytest.raises(RunFolderError, match="is a finished run, without ") as error:
        check(run.folder, yaml.safe_dump(whole), resume=True, overwrite=False)
    assert ("understudy export" in str(error.value)) == ("export" in less or "calibrate" in less)
    with pytest.raises(RunFolderError, match=r"other settings: seed \(0 there, 1 now\)\. Give"):
        check(run.folder, yaml.safe_dump(fewer | {"seed": 1}), resume=True, overwrite=False)


def test_every_setting_is_of_training_or_of_measuring():
    known = {"name", "task", "metric", "seed", "data", "teacher", "tasks", "student", "stages"}
    assert Recipe.model_fields.keys() == known | set(MEASURING)


def test_a_finished_run_is_shown_again_whatever_it_is_to_measure_less(world, tmp_path, understudy, quick):
    short = ["--set", "stages.0.train.max_steps=2"]
    assert understudy(*world.distill("hinton", tmp_path / "out", *short)).code == 0
    facts = (tmp_path / "out" / "facts.json").read_bytes()
    said = understudy(*world.distill("hinton", tmp_path / "out", *short, "--resume", "--no-baseline", "--no-control"))
    assert said.code == 0 and "finished run; nothing to do" in said.err and "student alone" in " ".join(said.out.split())
    said = understudy(*world.distill("hinton", tmp_path / "out", *short, "--resume", "--set", "export=[onnx]"))
    assert said.code == 2 and "is a finished run, without export onnx" in " ".join(said.err.split())
    assert (tmp_path / "out" / "facts.json").read_bytes() == facts


def test_a_control_is_left_out_while_a_run_is_resumed(world, tmp_path, quick):
    keys = world.keys | {"stages.0.train.max_steps": 2}

    def stop_at_the_control(line: str) -> None:
        if line.startswith("Measuring"):
            raise Stopped

    with pytest.raises(Stopped):
        distill(load_recipe("hinton", keys), tmp_path / "out", say=stop_at_the_control)
    run = distill(load_recipe("hinton", keys | {"control": []}), tmp_path / "out", resume=True)
    assert run.facts["trainings"].keys() == {"student"} and run.facts["trainings"]["student"]["distillation"]["least"] == 300
    assert "student_alone" not in run.facts["models"]


def test_a_folder_that_does_not_say_its_rows_is_refused(tmp_path):
    run = Run.start(tmp_path / "out", RECIPE)
    (run.folder / "inputs.json").write_text("{", "utf-8")
    with pytest.raises(RunFolderError, match=r"inputs\.json: damaged"):
        Run.start(run.folder, RECIPE, resume=True)
    (run.folder / "inputs.json").unlink()
    with pytest.raises(RunFolderError, match=r"has no inputs\.json"):
        Run.start(run.folder, RECIPE, resume=True)
