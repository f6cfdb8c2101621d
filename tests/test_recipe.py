"""A recipe is data: it loads, dumps and loads again; what does not fit is told in the user's spelling, all of it at once."""

import itertools
import json

import pytest
import yaml

from tiny import LABELS
from understudy import parts
from understudy.errors import RecipeError
from understudy.reporting.headline import headline
from understudy.reporting.table import table_cells, verdict
from understudy.runs.checks import warn_of_few_updates
from understudy.runs.preparation import filled_in
from understudy.settings.base import dump_yaml
from understudy.settings.finetune import FinetuneSettings
from understudy.settings.loading import RECIPES, build, load_recipe, packaged, parse_overrides
from understudy.settings.recipe import Recipe

LEAST = {"name": "least", "student": {"kind": "bilstm"}, "stages": [{"name": "only", "objectives": [{"kind": "soft_targets"}]}]}


def recipe(**changes) -> Recipe:
    return build(Recipe, yaml.safe_load(yaml.safe_dump(LEAST)), changes, where="least")


def refused(**changes) -> str:
    with pytest.raises(RecipeError) as caught:
        recipe(**{key.replace("__", "."): value for key, value in changes.items()})
    return str(caught.value)


# --- the packaged ones


@pytest.mark.parametrize("teacher", ["runs/teacher", ["runs/teacher"], {"models": ["runs/teacher"]}])
@pytest.mark.parametrize("student", ["bilstm", {"kind": "bilstm"}])
def test_a_name_stands_for_its_part(teacher, student):
    """In a recipe, from Python and by `--set`: what has a name or a folder needs no mapping."""
    recipe = load_recipe("hinton", {"teacher": teacher, "student": student})
    assert recipe.teacher.models == ("runs/teacher",) and recipe.student.kind == "bilstm"


def test_a_name_that_is_none_is_refused_as_ever():
    with pytest.raises(RecipeError, match=r"bilstmm.*Did you mean 'bilstm'"):
        load_recipe("hinton", {"teacher": "x", "student": "bilstmm"})
    with pytest.raises(RecipeError, match="teacher"):
        load_recipe("hinton", {"teacher": 3, "student": "bilstm"})


def test_the_packaged_recipes_are_the_files():
    assert set(packaged()) == {path.stem for path in RECIPES.glob("*.yaml")} >= {"hinton", "tang", "bert_tutorial"}


@pytest.mark.parametrize("name", sorted(packaged()))
def test_packaged_recipes_are_whole(name):
    """Validates, says what it is and from where, and loads again from what it dumps."""
    found = load_recipe(name)
    assert found.name == name
    text = (RECIPES / f"{name}.yaml").read_text("utf-8")
    assert packaged()[name] == text.partition("\n")[0].removeprefix("# ") != ""
    header = "".join(itertools.takewhile(lambda line: line.startswith("#"), text.splitlines(keepends=True)))
    assert "arXiv:" in header, "every recipe names its source"
    assert Recipe(**yaml.safe_load(found.dump())) == found
    assert Recipe(**yaml.safe_load(found.dump())).dump() == found.dump()


@pytest.mark.parametrize("kind", sorted(parts.kinds("students")))
@pytest.mark.parametrize("name", sorted(packaged()))
def test_every_recipe_takes_every_student(name, kind):
    settings = {"kind": kind} | ({"model": "some/model"} if kind == "pretrained" else {})
    found = load_recipe(name, {"student": settings})
    assert Recipe(**yaml.safe_load(found.dump())) == found
    assert type(found.student.make()) is parts.part("students", kind)


def test_the_dump_holds_every_default():
    """So that a later version with other defaults gives the same run."""
    found = yaml.safe_load(recipe().dump())
    assert found["stages"][0]["objectives"][0].items() >= {"kind": "soft_targets", "weight": 1.0, "temperature": 2.0, "beta": 0.5}.items()
    assert found["student"]["hidden"] == 150
    assert found["stages"][0]["train"].keys() == type(recipe().stages[0].train).model_fields.keys()


def test_names_in_any_script_survive():
    found = recipe(**{"data.label_names": ["好", "né", *LABELS], "data.columns": {"text": "文本"}})
    assert Recipe(**yaml.safe_load(found.dump())) == found and "好" in found.dump()


def test_a_recipe_is_frozen():
    with pytest.raises(Exception, match="frozen"):
        recipe().seed = 3


# --- a file of one's own


def test_a_yaml_file(tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(LEAST))
    assert load_recipe(tmp_path / "mine.yaml") == recipe() == load_recipe(str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("hintn", None, "recipe 'hintn' is unknown; known are .*Did you mean 'hinton'"),
        ("{}/none.yaml", None, "none.yaml: no such recipe file"),
        ("{}/mine.yaml", "a: [1", r"mine.yaml: not YAML: [\s\S]*line 1"),
        ("{}/mine.yaml", "- a\n- b", "mine.yaml: a recipe is a YAML mapping, got list"),
        ("{}/mine.yaml", "", "mine.yaml: a recipe is a YAML mapping, got NoneType"),
        ("{}/mine.yaml", b"name: \xff\xfe", "mine.yaml: not YAML"),
        ("{}/mine.yaml", "name: x", "student is missing\n.*stages is missing"),
        ("{}/mine.yaml", "!!python/object/apply:os.getcwd []", "not YAML"),
    ],
)
def test_files_that_are_no_recipes(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / "mine.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RecipeError, match=message):
        load_recipe(name.format(tmp_path))


# --- values set over it


def test_any_setting_by_its_key():
    found = recipe(
        **parse_overrides(
            [
                "seed=7",
                "stages.0.train.epochs=5",
                "stages.0.train.learning_rate=3e-5",
                "student.hidden=64",
                "teacher.models=[a, b]",
                "stages.0.objectives.0.temperature=4",
                "data.columns={text: review}",
                "control=[]",
                "metric=macro_f1",
                "data.test=null",
            ]
        )
    )
    assert (found.seed, found.metric, found.control, found.data.test) == (7, "macro_f1", (), None)
    assert (found.stages[0].train.epochs, found.stages[0].train.learning_rate) == (5, 3e-5)
    assert found.student.settings["hidden"] == 64 and found.teacher.models == ("a", "b")
    assert found.stages[0].objectives[0].settings["temperature"] == 4.0
    assert found.data.columns == {"text": "review"}


def test_stages_go_by_name_and_may_be_left_out():
    """The numbers are those of the file, also beside a stage that is left out."""
    found = load_recipe(
        "tinybert",
        parse_overrides(
            ["stages.general=null", "stages.prediction.train.epochs=7", "stages.1.train.epochs=9", "stages.intermediate.objectives.0=null"]
        ),
    )
    assert [(stage.name, stage.train.epochs) for stage in found.stages] == [("intermediate", 9), ("prediction", 7)]
    assert [one.kind for one in found.stages[0].objectives] == ["hidden_states", "attention_scores"]
    with pytest.raises(RecipeError, match=r"stages.generl: there are 3 here, numbered from 0, named general, intermediate, prediction"):
        load_recipe("tinybert", {"stages.generl": None})


def test_a_path_may_lead_where_nothing_is_written_yet():
    assert "teacher" not in LEAST and recipe(**{"teacher.dtype": "float16"}).teacher.dtype == "float16"
    assert recipe(**{"stages.0.train.patience": 3}).stages[0].train.patience == 3


@pytest.mark.parametrize("pair", ["seed", "=3", "", "seed 3"])
def test_a_set_without_an_equals_sign(pair):
    with pytest.raises(RecipeError, match=r"--set .*: write it as key=value"):
        parse_overrides([pair])


def test_a_set_that_is_no_yaml():
    with pytest.raises(RecipeError, match=r"--set student.layers=\[0, 2: the value is not YAML"):
        parse_overrides(["student.layers=[0, 2"])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sede", 1, "least: sede is not a setting; known are .*Did you mean 'seed'"),
        ("stages.0.train.epoch", 1, "stages.0.train.epoch is not a setting here. Did you mean 'stages.0.train.epochs'"),
        ("data.tain", "f", "data.tain is not a setting; .*Did you mean 'train'"),
        ("stages.0.objectives.0.temprature", 1, "stages.0.objectives.0: temprature is not a setting; .*Did you mean 'temperature'"),
        ("student.hiden", 1, "student: hiden is not a setting; .*Did you mean 'hidden'"),
        ("stages.0.objectives.0.kind", "soft_target", "stages.0.objectives.0: .*'soft_target' is unknown.*Did you mean 'soft_targets'"),
        ("student.kind", "bilstn", "student: student 'bilstn' is unknown.*Did you mean 'bilstm'"),
        ("task", "clasification", "task 'clasification' is unknown.*Did you mean 'classification'"),
        ("metric", "acuracy", "metric 'acuracy' is unknown for classification.*Did you mean 'accuracy'"),
        ("metric", "pearson", "metric 'pearson' is unknown for classification"),
        ("stages.1.train.epochs", 1, "stages.1: there are 1 here, numbered from 0"),
        ("stages.first.name", "x", "stages.first: there are 1 here, numbered from 0"),
        ("stages.3", {}, "stages.3: there are 1 here"),
        ("stages.0", None, "stages"),
        ("name.first", 1, "name.first: name is a value, it has no keys"),
        ("stages.0.train.epochs", "many", "stages.0.train.epochs is 'many': .*number"),
        ("stages.0.train.epochs", -1, "stages.0.train.epochs is -1: .*greater than 0"),
        ("stages.0.train.learning_rate", float("nan"), "learning_rate is nan"),
        ("stages.0.train.schedule", "linaer", "schedule is 'linaer': .*'linear'"),
        ("stages.0.train.batch_size", 2.5, "batch_size is 2.5"),
        ("seed", -1, "seed is -1"),
        ("control", ["alne"], "control.0 is 'alne': .*'alone'"),
        ("stages", [], "stages"),
        ("stages.0.objectives", [], "objectives"),
        ("stages.0.objectives.0.weight", 0, "every objective has weight 0"),
        ("stages.0.objectives.0.weight", -1, "weight is -1"),
        ("stages.0.objectives.0.temperature", 0, "temperature is 0.0; it must be above 0"),
        ("stages.0.objectives.0.temperature", "warm", "temperature is 'warm'"),
        ("student.dropout", 1.5, "dropout is 1.5"),
        ("student", {"kind": "teacher_layers", "layers": [0, 0]}, "list each layer once"),
        ("student", {"kind": "narrow", "width": 10, "heads": 3}, "heads must divide the width"),
        ("student", {"kind": "pretrained"}, "model is missing"),
        ("student", {"hidden": 3}, "student.kind is missing"),
        ("student", 3, "student is 3"),
        ("stages.0.name", "Not A Name", "stages.0.name is 'Not A Name'"),
        ("stages.0.rows", ["trian"], "stages.0.rows.0 is 'trian'"),
        ("data.max_length", 2, "data.max_length is 2"),
        ("teacher", {"models": ["a", "b"], "weights": [1]}, "teacher: weights has 1 numbers for 2 models; give one per model"),
        ("teacher.weights", [1, 0], "teacher.weights.1 is 0: .*greater than 0"),
        ("teacher.weights", [float("inf")], "teacher.weights.0 is inf"),
    ],
)
def test_what_does_not_fit_is_told_with_its_key(key, value, message):
    found = refused(**{key: value})
    import re

    assert re.search(message, found, re.DOTALL), found
    assert found.startswith("least: ") and "pydantic" not in found and "Value error" not in found and "https" not in found


def test_all_mistakes_together():
    found = refused(sede=1, stages__0__train__epochs="many", student__hiden=2, data__max_length=2, metric="acuracy")
    assert found.count("\n") >= 3
    for word in ("sede", "stages.0.train.epochs", "hiden", "data.max_length"):
        assert word in found
    assert all(line.startswith("least: ") for line in found.splitlines())


def test_all_wrong_paths_together():
    found = refused(**{"stages__5__name": "x", "name__first": 1})
    assert found.count("\n") == 1 and "stages.5" in found and "name.first" in found


def test_two_stages_of_one_name():
    stage = LEAST["stages"][0]
    assert "stage names must be different; got only, only" in refused(stages=[stage, stage])


def test_overrides_do_not_leak_into_the_next_recipe():
    first = load_recipe("hinton")
    load_recipe("hinton", {"stages.0.train.epochs": 99, "stages.0.objectives.0.weight": 9.0, "student.layers": [0]})
    assert load_recipe("hinton") == first


def test_what_is_given_stays_as_it_is():
    student, given = {"kind": "bilstm"}, yaml.safe_load(yaml.safe_dump(LEAST))
    build(Recipe, given, {"student": student, "student.hidden": 9, "stages.0.train.epochs": 2}, where="least")
    assert student == {"kind": "bilstm"} and given == LEAST


# --- fine-tuning


def test_finetune_takes_an_encoder_or_a_kind_of_student():
    encoder = build(FinetuneSettings, {"model": "some/encoder"}, {}, where="finetune")
    assert encoder.student is None and encoder.train.learning_rate is None  # depends on the encoder's width
    student = build(FinetuneSettings, {"model": "bilstm"}, {"student.hidden": 7, "train.epochs": 2}, where="finetune")
    assert student.student.settings["hidden"] == 7
    assert (student.train.epochs, student.train.learning_rate) == (2, 1e-3)
    for one in (encoder, student):
        assert FinetuneSettings(**yaml.safe_load(dump_yaml(one))) == one


def test_finetune_refuses_in_the_same_way():
    with pytest.raises(RecipeError, match=r"finetune: train.epoch is not a setting here. Did you mean 'train.epochs'"):
        build(FinetuneSettings, {"model": "x"}, {"train.epoch": 3}, where="finetune")


def test_finetuning_a_kind_of_student_takes_its_own_defaults(world, understudy, tmp_path):
    """The command line once put an encoder's learning rate over a BiLSTM's."""
    said = understudy(
        "finetune", "bilstm", "--train", world.train, "--out", tmp_path / "out", "--set", "train.max_steps=1", "--set", "student.hidden=4"
    )
    assert said.code == 0
    train = yaml.safe_load((tmp_path / "out" / "recipe.yaml").read_text())["train"]
    assert train["learning_rate"] == parts.part("students", "bilstm").training["learning_rate"]
    assert train["epochs"] == parts.part("students", "bilstm").training["epochs"]


@pytest.mark.parametrize("given", ["stages.0.train.epochs", "stages.0.train.max_steps"])
def test_a_length_that_is_given_is_kept_to(given):
    """In every recipe, those that state a least number of updates of their own too; `min_updates` beside it brings it back."""
    for name in packaged():
        stage = filled_in(load_recipe(name, {given: 2})).stages[0]
        assert stage.train.min_updates is None, name
        stage = filled_in(load_recipe(name, {given: 2, "stages.0.train.min_updates": 50})).stages[0]
        assert stage.train.min_updates == 50, name
    for key in ("train.epochs", "train.max_steps"):
        assert build(FinetuneSettings, {"model": "some/encoder"}, {key: 2}, where="finetune").train.min_updates is None


def test_every_training_of_a_task_has_a_least_number_of_updates():
    """Wherever nobody says how long: only stages on plain text go by their epochs alone."""
    for name in packaged():
        for stage in filled_in(load_recipe(name)).stages:
            assert stage.masked_lm or stage.train.min_updates, f"{name}, stage {stage.name}"
    assert build(FinetuneSettings, {"model": "some/encoder"}, {}, where="finetune").train.min_updates


def test_few_updates_are_warned_of():
    said: list[str] = []
    recipe = load_recipe("tang", {"stages.0.train.epochs": 1})
    warn_of_few_updates(filled_in(recipe), [600], said.append)
    assert not said
    warn_of_few_updates(filled_in(recipe), [96], said.append)
    assert (
        len(said) == 1
        and "96 updates are few for the student (bilstm)" in said[0]
        and "stages.distillation.train.min_updates=1000" in said[0]
    )
    warn_of_few_updates(filled_in(recipe), [600], said.append, tasks=2)
    assert "600 updates are few" in said[1] and "min_updates=2000" in said[1]


@pytest.mark.parametrize("kind", ["bilstm", "static_embeddings"])
def test_a_student_kind_trained_on_labels_is_called_a_model(world, tmp_path, kind, understudy):
    said = understudy("finetune", kind, "--train", world.train, "--out", tmp_path / "out", "--set", "train.max_steps=2")
    assert said.code == 0, said.err
    facts = json.loads((tmp_path / "out" / "facts.json").read_text("utf-8"))
    assert facts["student"] == kind and table_cells(facts)[1][0] == "model"
    told = [headline(facts), verdict(facts), *(one["headline"] + one["text"] for one in facts["findings"])]
    assert not any("the teacher" in one.lower() for one in told), told
