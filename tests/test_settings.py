"""Settings by their dotted keys: all are listed, near misses lead to them, short forms set them."""

import json
from pathlib import Path

import pytest

from tiny import tiny_rows, write_rows
from understudy import parts
from understudy.cli import app
from understudy.errors import RecipeError
from understudy.settings import listing as settings
from understudy.settings.finetune import FinetuneSettings, PretrainSettings
from understudy.settings.loading import build, load_recipe, packaged, read_recipe
from understudy.settings.recipe import Recipe

ROOT = Path(__file__).parents[1]


def test_the_page_is_made_from_the_settings():
    assert (ROOT / "docs" / "settings.md").read_text("utf-8") == settings.page(), "make it anew, as its first line says"


def keys(values, at="") -> list[str]:
    """Dotted keys of plain values, with N for a place in a list of groups."""
    if isinstance(values, dict) and not at.endswith(("columns.", "class_weights.")):
        return [key for name, value in values.items() for key in keys(value, f"{at}{name}.")]
    if isinstance(values, list) and values and isinstance(values[0], dict):
        return [key for value in values for key in keys(value, f"{at}N.")]
    return [at.rstrip(".")]


@pytest.mark.parametrize("name", sorted(packaged()))
def test_every_setting_of_every_recipe_is_listed(name):
    """What a resolved recipe holds is on the page; a group that is off stands for its members."""
    listed = {one.key for found in settings.all_settings().values() for one in found}
    listed |= {key.replace("stages.N.objectives", "stages.N.mixup.objectives") for key in listed}
    listed |= {key.replace("student.", "stages.N.student.") for key in listed if key.startswith("student.")}
    resolved = json.loads(load_recipe(name).model_dump_json())
    missing = [key for key in keys(resolved) if key not in listed and not any(one.startswith(f"{key}.") for one in listed)]
    assert not missing


def test_list_prints_them(understudy):
    said = understudy("list", "settings")
    assert said.code == 0 and "stages.N.train.learning_rate" in said.out and "student.hidden" in said.out
    found = understudy("list", "settings", "--json").json
    assert {"key", "type", "default", "description"} == set(next(iter(found.values()))[0])


def test_list_alone_lists_everything_by_use(understudy):
    out = understudy("list").out
    for folder in parts.FOLDERS:
        assert f"\n{folder}: " in out or out.startswith(f"{folder}: ")
        assert all(f"    {kind} " in out for kind in parts.kinds(folder))
    assert all(f"    {name} " in out for name in packaged())
    assert understudy("list", "recipes").out.startswith("hinton")  # most used first
    assert next(iter(understudy("list", "--json").json["recipes"])) == "hinton"


NEAR = {
    (Recipe, "epochs"): "stages.0.train.epochs",
    (Recipe, "train.epochs"): "stages.0.train.epochs",
    (Recipe, "lr"): "stages.0.train.learning_rate",
    (Recipe, "stages.0.train.lr"): "stages.0.train.learning_rate",
    (Recipe, "stages.0.train.num_train_epochs"): "stages.0.train.epochs",
    (Recipe, "temperature"): "stages.0.objectives.1.temperature",
    (Recipe, "max_length"): "data.max_length",
    (Recipe, "models"): "teacher.models",
    (Recipe, "hidden"): "student.hidden",
    (FinetuneSettings, "epochs"): "train.epochs",
    (FinetuneSettings, "train.lr"): "train.learning_rate",
    (FinetuneSettings, "batch"): "train.batch_size",
    (FinetuneSettings, "max_seq_length"): "data.max_length",
    (PretrainSettings, "lr"): "train.learning_rate",
    (PretrainSettings, "fraction"): "masked_lm.fraction",
}


@pytest.mark.parametrize(("cls", "key"), NEAR, ids=lambda one: one if isinstance(one, str) else one.__name__)
def test_a_key_in_the_wrong_place_leads_to_the_right_one(cls, key):
    values = {**read_recipe("hinton"), "student": {"kind": "bilstm"}} if cls is Recipe else {"model": "x"}
    with pytest.raises(RecipeError) as error:
        build(cls, values, {key: 3}, where="here")
    assert f"here: {key} is not a setting here. Did you mean '{NEAR[cls, key]}'" in str(error.value)
    build(cls, values, {NEAR[cls, key]: ["x"] if key == "models" else 0.5 if key == "fraction" else 4}, where="here")


@pytest.mark.parametrize("name", sorted(packaged()))
def test_short_forms_reach_every_stage(name):
    """As the dotted keys do, for every recipe; a temperature is refused where there is none."""
    values = read_recipe(name)
    given = {"epochs": 7, "learning_rate": 1e-3, "batch_size": 5, "max_length": 33}
    with_tasks = {"tasks": [{"name": "a"}]} if values.get("tasks") is not None else {}
    recipe = load_recipe(name, with_tasks | settings.short_forms(values, given))
    for stage in recipe.stages:
        assert (stage.train.epochs, stage.train.learning_rate, stage.train.batch_size) == (7, 1e-3, 5)
        assert stage.train.max_steps is None
    assert (recipe.tasks[0] if recipe.tasks else recipe).data.max_length == 33
    objectives = [one for stage in recipe.stages for one in (*stage.objectives, *(stage.mixup.objectives if stage.mixup else ()))]
    if not any("temperature" in one.settings for one in objectives):
        with pytest.raises(RecipeError, match=f"--temperature: no objective of {name}"):
            settings.short_forms(values, {"temperature": 9})
        return
    hot = load_recipe(name, with_tasks | settings.short_forms(values, {"temperature": 9}))
    objectives = [one for stage in hot.stages for one in (*stage.objectives, *(stage.mixup.objectives if stage.mixup else ()))]
    assert {one.settings["temperature"] for one in objectives if "temperature" in one.settings} == {9}


SHORT = {"--epochs", "--learning-rate", "--batch-size", "--max-length"}


@pytest.mark.parametrize("command", ["distill", "plan", "finetune", "pretrain", "search"])
def test_commands_that_train_take_them(command):
    import typer

    options = {word for one in typer.main.get_command(app).commands[command].params for word in one.opts}  # type: ignore[attr-defined]
    assert options >= SHORT | ({"--temperature"} if command in ("distill", "plan") else set())


def test_on_the_command_line(world, tmp_path, understudy, quick):
    """`--set` wins over a short form, as over any option."""
    short = ["--epochs", "1", "--batch-size", "30", "--learning-rate", "1e-3", "--max-length", "16"]
    said = understudy("finetune", world.teacher, *world.data, *short, "--out", tmp_path / "teacher", "--json")
    assert said.code == 0, said.err
    resolved = (tmp_path / "teacher" / "recipe.yaml").read_text()
    for line in ("epochs: 1.0", "batch_size: 30", "learning_rate: 0.001", "max_length: 16"):
        assert line in resolved
    words = [word for word in world.distill("hinton", "x") if word not in ("--out", "x")]
    words[0] = "plan"
    planned = understudy(*words, "--epochs", "2", "--batch-size", "30", "--temperature", "5", "--json")
    assert planned.code == 0, planned.err
    assert planned.json["updates_of_the_student"] == 4
    planned = understudy(*words, "--epochs", "2", "--set", "stages.0.train.epochs=3", "--batch-size", "30", "--json")
    assert planned.json["updates_of_the_student"] == 6


def test_distill_without_a_recipe_takes_hinton_and_says_so(tmp_path, understudy):
    rows = write_rows(tmp_path / "train.jsonl", tiny_rows(8))
    said = understudy("distill", "--train", rows, "--out", tmp_path / "run")
    assert said.code == 2 and "No recipe given: using hinton" in said.err and "teacher.models is missing" in said.err
    assert understudy("plan", "--train", rows).code == 2


def test_a_note_comes_once_in_a_command(capsys):
    from understudy.cli import _options

    _options.forget_notes()
    for line in ("Note: a", "Note: a", "b", "b"):
        _options.say(line)
    assert capsys.readouterr().err == "Note: a\nb\nb\n"
    _options.forget_notes()
    _options.say("Note: a")
    assert capsys.readouterr().err == "Note: a\n"


def test_a_line_and_a_bar_do_not_share_a_line(capsys):
    from tqdm.auto import tqdm

    from understudy.cli import _options

    with tqdm(total=3, desc="bar", mininterval=0) as bar:
        bar.update(1)
        _options.say("Beyond the budget")
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    assert "Beyond the budget" in lines


def test_completion_is_offered():
    import os
    import subprocess
    import sys

    asked = {"_UNDERSTUDY_COMPLETE": "complete_bash", "COMP_WORDS": "understudy dist", "COMP_CWORD": "1"}
    code = "import sys; sys.argv = ['understudy']; from understudy.cli import app; app(prog_name='understudy')"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env={**os.environ, **asked})
    assert said.stdout.split() == ["distill"], said.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["report", "{}"],
        ["serve", "{}"],
        ["evaluate", "{}", "--data", "{rows}"],
        ["predict", "{}", "a"],
        ["finetune", "{}", "--train", "{rows}"],
        ["benchmark", "{}", "--data", "{rows}"],
    ],
    ids=lambda one: one[0],
)
def test_a_folder_that_is_not_there_names_the_near_one(words, world, tmp_path, understudy, monkeypatch):
    """A law over the commands that read a folder."""
    (tmp_path / "runs" / "first").mkdir(parents=True)
    asked = tmp_path / "runs" / "frist"
    said = understudy(*(word.format(asked, rows=world.train) for word in words))
    assert said.code == 2 and f"did you mean '{tmp_path / 'runs' / 'first'}'" in said.err, said.err


def test_finetune_writes_its_page(world, tmp_path, understudy, quick):
    out = tmp_path / "teacher"
    said = understudy("finetune", world.teacher, *world.data, "--set", "train.max_steps=1", "--out", out)
    assert said.code == 0, said.err
    assert (out / "report.html").is_file() and str(out / "report.html") in said.out.replace("\n", "")
    assert f"Saved the model to {out}" in said.err
