"""A run is resumed only on the rows and models that it began with, whichever program it is of."""

import json
import shutil
from pathlib import Path

import pytest

from tiny import write_rows
from understudy.errors import RunFolderError
from understudy.finetuning import finetune
from understudy.pipeline import distill
from understudy.pretraining import pretrain
from understudy.recipe import FinetuneSettings, PretrainSettings
from understudy.recipe_file import load_recipe
from understudy.run import FACTS, Run, check
from understudy.searching import search

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
            return finetune(FinetuneSettings(model=teacher, data=own), self.out, **more)
        if self.name == "pretrain":
            return pretrain(PretrainSettings(model=pretrained, data={"raw": data["train"]}), self.out, **more)
        keys = {"data": data, "teacher.models": [teacher], "export": [], "control": []}
        if self.name == "search":
            space = self.folder / "space.yaml"
            shape = "width: 4, hidden: 4, vocabulary: words, min_count: 1"
            space.write_text(f"students: [{{kind: static_embeddings, {shape}}}]\nrecipes: [hinton]\n", "utf-8")
            dotted = {f"data.{split}": path for split, path in data.items()} | {"teacher.models": [teacher]}
            return search(
                dotted | {"control": [], "export": []}, "size_mib<=10", self.out, space=space, trials=1, **more
            )
        if self.name == "tasks":
            task = {"name": "mood", "data": data, "teacher": {"models": [teacher]}}
            return distill(load_recipe("mt_dnn", {"tasks": [task], "export": [], "control": []}), self.out, **more)
        return distill(load_recipe("hinton", keys), self.out, **more)

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
            with pytest.raises(RunFolderError, match="started with other data") as error:
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
    weights = next((program.folder / name).glob("*.safetensors"))
    from safetensors.torch import load_file, save_file

    changed = load_file(weights)
    key = next(key for key in changed if key.endswith("word_embeddings.weight"))
    save_file(changed | {key: changed[key] + 1e-3}, weights, metadata={"format": "pt"})
    with pytest.raises(RunFolderError, match=r"(teacher|model) \(.*\): changed since"):
        program.run(say=stop, resume=True)


def test_a_finished_run_of_other_rows_is_not_called_finished(program):
    (program.out / FACTS).write_text(json.dumps({"trials": [{}]}), "utf-8")
    said: list[str] = []
    program.run(say=said.append, resume=True)
    assert "nothing to do" in said[-1]
    program.change("train", "text")
    with pytest.raises(RunFolderError, match="started with other data"):
        program.run(say=said.append, resume=True)


RECIPE = "name: hinton\nexport: [onnx]\nreport_to: []\n"


def test_settings_of_measuring_may_change_until_the_run_is_finished(tmp_path):
    run = Run.start(tmp_path / "out", RECIPE)
    other = RECIPE.replace("[onnx]", "[]").replace("report_to: []", "report_to: [tensorboard]")
    Run.start(run.folder, other, resume=True)
    assert (run.folder / "recipe.yaml").read_text("utf-8") == other
    run.record({"seed": 0})
    with pytest.raises(RunFolderError, match=r"other settings: export \(\[\] there, \['onnx'\] now\)"):
        check(run.folder, RECIPE, resume=True, overwrite=False)


def test_a_folder_that_does_not_say_its_rows_is_refused(tmp_path):
    run = Run.start(tmp_path / "out", RECIPE)
    (run.folder / "inputs.json").write_text("{", "utf-8")
    with pytest.raises(RunFolderError, match=r"inputs\.json: damaged"):
        Run.start(run.folder, RECIPE, resume=True)
    (run.folder / "inputs.json").unlink()
    with pytest.raises(RunFolderError, match=r"has no inputs\.json"):
        Run.start(run.folder, RECIPE, resume=True)
