"""The command: the README's path on a file of one's own, results on stdout alone, and how each trouble ends."""

import csv
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from conftest import largest_file
from tiny import LABELS, tiny_rows, write_rows
from understudy.cli import app
from understudy.errors import UnderstudyError
from understudy.settings.loading import for_several_tasks, load_recipe, packaged

SHORT = ["--set", "stages.0.train.max_steps=2"]
LONG = ["--set", "stages.0.train.epochs=20", "--set", "stages.0.train.learning_rate=1e-2"]
SMALL = ["--student", "bilstm", "--set", "student.hidden=8", "--set", "student.embedding=8", "--set", "student.feature=8"]


# --- help and listing


def test_help_and_listing_need_no_torch():
    """They answer in a blink; importing torch alone takes more than a second."""
    code = (
        "import sys\n"
        "from understudy.cli import main\n"
        "for words in (['--help'], ['distill', '--help'], ['list', 'students'], ['list', 'recipes', '--json'], ['--version']):\n"
        "    sys.argv = ['understudy', *words]\n"
        "    try:\n"
        "        main()\n"
        "    except SystemExit as end:\n"
        "        assert not end.code, words\n"
        "heavy = {'torch', 'transformers', 'datasets', 'numpy', 'sklearn', 'scipy', 'accelerate'} & set(sys.modules)\n"
        "print('heavy:', heavy or 'none')\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "heavy: none", said.stderr


COMMANDS = sorted(command.name for command in app.registered_commands)


def test_the_commands():
    assert set(COMMANDS) >= {"demo", "distill", "evaluate", "finetune", "list", "plan", "predict", "report", "teach"}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command):
    said = CliRunner().invoke(app, [command, "--help"])
    assert said.exit_code == 0
    assert f"understudy {command}" in said.output.partition("Options")[0].partition("\n\n")[2], "no example"
    assert all(len(line) <= 140 for line in said.output.splitlines())


def test_the_list_of_commands_says_what_each_does():
    """In a terminal of 80 columns no line of it is cut short."""
    said = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "80"}).output.partition("Commands:")[2]
    assert len(said.strip().splitlines()) == len(COMMANDS)
    assert "..." not in said


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_explains_itself(command):
    said = CliRunner().invoke(app, [command, "--help"]).output
    assert not re.search(r"As in \w+\.", said), "nobody should have to open another help"


def test_a_near_folder_is_no_hidden_one(tmp_path):
    from understudy.errors import near_folder

    (tmp_path / ".firs.new").mkdir()
    assert near_folder(tmp_path / "firs") == ""
    (tmp_path / "first").mkdir()
    assert near_folder(tmp_path / "firs") == f" (did you mean '{tmp_path / 'first'}'?)"


def test_plan_takes_every_option_of_distill():
    options = {
        name: {option for one in typer.main.get_command(app).commands[name].params for option in one.opts} for name in ("distill", "plan")
    }
    assert options["distill"] <= options["plan"]


@pytest.mark.parametrize("what", ["recipes", "objectives", "students", "augmenters", "tasks"])
def test_list(what, understudy):
    listed, as_json = understudy("list", what), understudy("list", what, "--json").json
    assert [line.split()[0] for line in listed.out.splitlines()] == list(as_json)
    assert all(as_json.values())
    if what == "recipes":
        assert as_json == packaged()


# --- the main path


@pytest.fixture(scope="module")
def reviews(tmp_path_factory) -> Path:
    """CSV files of one's own: other names, columns of no use, no splits."""
    folder = tmp_path_factory.mktemp("reviews")
    for name, rows in (("train", tiny_rows(120)), ("other", tiny_rows(160)[120:])):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "stars", "review", "note"])
            writer.writerows([place, row["label"], row["text"], 'a "quoted", note'] for place, row in enumerate(rows))
    return folder


COLUMNS = ["--column", "text=review", "--column", "label=stars"]


def test_from_an_encoder_to_a_prediction(reviews, world, tmp_path, understudy, quick):
    """finetune → distill → evaluate → predict → report, on a file with other columns and no splits."""
    train = ["--train", reviews / "train.csv", *COLUMNS]
    said = understudy(
        "finetune",
        world.teacher,
        *train,
        "--set",
        "train.epochs=2",
        "--set",
        "train.learning_rate=1e-3",
        "--out",
        tmp_path / "teacher",
        "--json",
    )
    assert said.code == 0, said.err
    assert said.json["models"]["teacher"]["quality"]["accuracy"]["value"] > 0.9
    assert "split off train" in said.err
    assert not list(tmp_path.rglob("*.bin")) and not list(tmp_path.rglob("*.pt"))

    # The folder is a `transformers` folder; its head may be anything that was trained before.
    from transformers import pipeline

    classify = pipeline("text-classification", str(tmp_path / "teacher"), device="cpu")
    assert classify("a gripping film")[0]["label"] in LABELS

    run = tmp_path / "run"
    said = understudy("distill", "tang", "--teacher", tmp_path / "teacher", *SMALL, *train, *LONG, "--set", "export=[onnx]", "--out", run)
    assert said.code == 0, said.err
    assert "student alone" in said.out and str(run / "report.html") in said.out.replace("\n", "")
    facts = json.loads((run / "facts.json").read_text())
    assert facts["models"]["student"]["quality"]["accuracy"]["value"] > 0.7
    assert facts["models"]["student"]["rows_per_second"] > 0 and facts["command"].startswith("understudy distill tang")
    assert "<html" in (run / "report.html").read_text()

    other = ["--data", reviews / "other.csv", *COLUMNS]
    said = understudy("evaluate", run / "student", "--teacher", tmp_path / "teacher", *other, "--json")
    assert said.code == 0, said.err
    assert said.json["data"]["test"]["rows"] == 40 and 0 <= said.json["agreement_with_teacher"] <= 1
    accuracy = said.json["models"]["student"]["quality"]["accuracy"]["value"]

    given = ["--input", reviews / "other.csv", "--column", "text=review"]
    said = understudy("predict", run / "student", *given, "--output", tmp_path / "said.jsonl")
    assert (said.code, said.out) == (0, ""), said.err
    found = [json.loads(line) for line in (tmp_path / "said.jsonl").read_text().splitlines()]
    with (reviews / "other.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [one["text"] for one in found] == [row["review"] for row in rows]
    right = [one["label"] == row["stars"] for one, row in zip(found, rows, strict=True)]
    assert sum(right) / 40 == pytest.approx(accuracy)
    assert all(sum(one["probabilities"].values()) == pytest.approx(1) for one in found)

    said = understudy("predict", run / "student", "a gripping film", "no plot")
    assert [line.split("\t")[1] for line in said.out.splitlines()] == ["a gripping film", "no plot"]
    said = understudy("predict", run / "student", "a gripping film", "--json")
    assert said.json["predictions"][0]["label"] in LABELS

    said = understudy("predict", run / "export", *given)  # a run ships its student
    assert [json.loads(line)["text"] for line in said.out.splitlines()] == [row["review"] for row in rows]
    assert "student_onnx" in facts["models"] and "student_onnx" in facts["exports"]

    page = (run / "report.html").read_bytes()
    (run / "report.html").unlink()
    said = understudy("report", run)
    assert said.code == 0 and "student alone" in said.out and (run / "report.html").read_bytes() == page
    assert understudy("report", run, "--json").json == facts


def test_json_is_one_object_and_the_rest_goes_to_stderr(world, tmp_path, understudy, quick):
    words = world.distill("hinton", tmp_path / "run", *SHORT, "--json")
    said = understudy(*words)
    assert said.code == 0, said.err
    assert said.json == json.loads((tmp_path / "run" / "facts.json").read_text()) and said.out.count("\n") == 1
    assert "Training the student" in said.err
    again = understudy(*words, "--resume")
    assert (again.code, again.out) == (0, said.out) and "finished" in again.err


# Those with tasks run in test_several_tasks.py.
@pytest.mark.parametrize("name", [name for name in sorted(packaged()) if not for_several_tasks(name)])
def test_every_recipe_runs_two_steps(name, world, pretrained, raw, tmp_path, understudy, quick):
    controls = ["--control", "alone,pseudo_labels"]
    words = world.distill(name, tmp_path / "run", "--transfer", world.transfer, *controls, *SHORT, "--json")
    sizes = {"bilstm": {"hidden": 8, "embedding": 8, "feature": 8}, "narrow": {"layers": 2, "width": 16, "heads": 2}}
    for setting, size in sizes.get(load_recipe(name).student.kind, {}).items():
        words += ["--set", f"student.{setting}={size}"]
    words += ["--pretrained", pretrained, "--raw", raw] if name == "distilbert" else []
    for number in range(1, len(load_recipe(name).stages)):
        words += ["--set", f"stages.{number}.train.max_steps=2", "--set", f"stages.{number}.train.batch_size=8"]
    said = understudy(*words)
    assert said.code == 0, said.err
    models = {"teacher", "student", "student_alone", "student_pseudo_labels", "ngrams"}
    assert said.json["models"].keys() == models
    assert said.json["data"]["transfer"]["rows"] > 0


def test_a_run_without_controls(world, tmp_path, understudy, quick):
    said = understudy(*world.distill("hinton", tmp_path / "run", "--no-control", *SHORT, "--json"))
    assert said.json["models"].keys() == {"teacher", "student", "ngrams"}


STUDENTS = {"bilstm": SMALL, "narrow": ["--student", "narrow", "--set", "student.width=8"], "teacher_layers": []}


@pytest.mark.parametrize("student", STUDENTS)
def test_pairs(student, pair_world, tmp_path, understudy, quick):
    world = pair_world
    said = understudy(*world.distill("hinton", tmp_path / "run", *STUDENTS[student], *SHORT, "--json"))
    assert said.code == 0, said.err
    assert said.json["models"]["teacher"]["quality"]["accuracy"]["value"] > 0.9
    said = understudy("predict", tmp_path / "run" / "student", "a film", "--pair", "a moving one", "--json")
    assert said.json["predictions"][0]["text_pair"] == "a moving one"
    said = understudy("predict", tmp_path / "run" / "student", "--input", world.test)
    assert len(said.out.splitlines()) == 30 and "text_pair" in json.loads(said.out.splitlines()[0])


def test_regression(number_world, tmp_path, understudy, quick):
    world = number_world
    more = ["--task", "similarity", "--transfer", world.transfer, *SMALL]
    said = understudy(*world.distill("hinton", tmp_path / "run", *more))
    assert (said.code, said.out) == (2, "") and "soft_targets needs classes" in said.err and "tang" in said.err
    assert not (tmp_path / "run").exists()
    said = understudy(*world.distill("tang", tmp_path / "run", *more, *LONG, "--control", "alone,pseudo_labels", "--json"))
    assert said.code == 0, said.err
    quality = {name: one["quality"]["pearson"]["value"] for name, one in said.json["models"].items()}
    assert quality["teacher"] > 0.9 and quality["student"] > 0.3
    assert said.json["primary_metric"] == "pearson" and said.json["label_names"] is None
    said = understudy("evaluate", tmp_path / "run" / "student", "--data", world.test, "--json")
    assert said.json["models"]["student"]["quality"]["pearson"]["value"] == pytest.approx(quality["student"])
    said = understudy("predict", tmp_path / "run" / "student", "a film", "--pair", "the best fun")
    float(said.out.split("\t")[0])


@pytest.mark.parametrize("task", ["classification", "similarity"])
def test_teach_takes_every_teacher(task, world, number_world, tmp_path, understudy, quick):
    """Numbers, and one that no layers can be taken from."""
    data = (world if task == "classification" else number_world).data
    own = tmp_path / "teacher"
    length = ["--set", "train.max_steps=60", "--learning-rate", "1e-2"]
    made = understudy("finetune", "bilstm", *data, "--task", task, *length, "--out", own)
    assert made.code == 0, made.err
    taught = understudy("teach", "--teacher", own, *data, "--task", task, "--store", tmp_path / "outputs", "--json")
    assert taught.code == 0 and taught.json["computed"] > 0, taught.err


def test_teach_fills_a_store_that_distill_uses(world, tmp_path, understudy, quick):
    words = ["--teacher", world.teacher, *world.data, "--transfer", world.transfer]
    taught = understudy("teach", *words, "--store", tmp_path / "outputs", "--json")
    assert taught.code == 0, taught.err
    assert taught.json["computed"] == taught.json["kept"] == 160
    assert understudy("teach", *words, "--store", tmp_path / "outputs", "--json").json["computed"] == 0
    more = ["--transfer", world.transfer, "--store", tmp_path / "outputs", "--no-control"]
    said = understudy(*world.distill("hinton", tmp_path / "run", *more, *SHORT))
    assert said.code == 0 and "0 rows computed now, 160 kept" in said.err
    assert not (tmp_path / "run" / "teacher_outputs").exists()


def test_plan_says_what_distill_would_do_and_writes_nothing(world, tmp_path, understudy, quick, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, *words = world.distill("hinton", "run", "--transfer", world.transfer, "--set", "stages.0.train.epochs=2")
    planned_words = [word for word in words if word not in ("--out", "run")]
    planned = understudy("plan", *planned_words, "--json")
    assert planned.code == 0, planned.err
    assert not list(tmp_path.iterdir())
    said = understudy("distill", *words, "--json")
    steps = [json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for name, rows in (("train", 60), ("validation", 30), ("test", 30), ("transfer", 40)):
        assert planned.json[f"{name}_rows"] == rows == said.json["data"][name]["rows"]
    assert planned.json["updates_of_the_student"] == max(steps)
    assert planned.json["rows_to_teach"] == 160
    assert planned.json["store_mib"] == pytest.approx(160 * (16 + 4 + 2 * 4) / 2**20)
    assert planned.json["student_parameters"] == said.json["models"]["student"]["parameters"]
    assert planned.json["teacher_parameters"] == said.json["models"]["teacher"]["parameters"]
    assert planned.json["total_minutes"] > 0 and planned.json["peak_memory_mib"] > 0
    assert understudy("plan", *planned_words).out.count("\n") == len(planned.json)


# --- a file of teacher outputs, an ensemble, parts of one's own


def test_a_black_box_teacher(world, tmp_path, understudy, quick):
    box = tmp_path / "said.jsonl"
    said_of = {"bad": [0.9, 0.1], "good": [0.2, 0.8]}
    write_rows(box, [{"text": row["text"], "probabilities": said_of[row["label"]]} for row in tiny_rows(160)])
    more = ["--transfer", world.transfer, *SMALL, *SHORT, "--json"]
    said = understudy(*replace(world, teacher=str(box)).distill("tang", tmp_path / "run", *more))
    assert said.code == 0, said.err
    teacher = said.json["models"]["teacher"]
    assert teacher["quality"]["accuracy"]["value"] == 1
    assert teacher["parameters"] is None and "latency_ms" not in teacher


def test_an_ensemble_of_teachers(world, tmp_path, understudy, quick):
    more = ["--teacher", world.teacher, "--set", "teacher.combine=geometric", "--no-control", *SHORT, "--json"]
    said = understudy(*world.distill("hinton", tmp_path / "run", *more))
    assert said.code == 0, said.err
    assert said.json["models"]["teacher"]["quality"]["accuracy"]["value"] == 1


OWN = '''
from understudy.objectives import Objective
from understudy.students import Student
from understudy.students.bilstm import BiLSTM

class Cosine(Objective):
    """One minus the cosine of the logits."""

    def __init__(self, *, sharpness: float = 1.0) -> None:
        super().__init__()
        self.sharpness = sharpness

    def forward(self, student, teacher, batch):
        from torch.nn.functional import cosine_similarity
        return self.sharpness * (1 - cosine_similarity(student.logits, teacher.logits)).mean()

class Smallest(Student):
    """A BiLSTM as small as it gets."""

    training = {"epochs": 1, "batch_size": 16, "learning_rate": 1e-3}

    def __init__(self, *, width: int = 2) -> None:
        self.width = width

    def build(self, blueprint):
        return BiLSTM(hidden=self.width, embedding=self.width, feature=self.width).build(blueprint)
'''


def test_parts_of_ones_own(world, tmp_path, understudy, quick, monkeypatch):
    """An objective and a student in a file beside the recipe, found from where one stands."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_parts.py").write_text(OWN)
    (tmp_path / "own.yaml").write_text(
        "name: own\nstudent: {kind: './own_parts.py:Smallest', width: 3}\nstages:\n- name: only\n  objectives:\n"
        "  - {kind: labels, weight: 0.5}\n  - {kind: './own_parts.py:Cosine', weight: 0.5, sharpness: 2.0}\n"
    )
    said = understudy(*world.distill("own.yaml", "run", *SHORT, "--json"))
    assert said.code == 0, said.err
    resolved = (tmp_path / "run" / "recipe.yaml").read_text()
    assert "sharpness: 2.0" in resolved and "width: 3" in resolved and "batch_size: 16" in resolved
    again = understudy("distill", tmp_path / "run" / "recipe.yaml", "--out", "again", "--json")
    assert again.json["models"]["student"]["quality"] == said.json["models"]["student"]["quality"]
    said = understudy(*world.distill("own.yaml", "third", "--set", "student.widht=3"))
    assert said.code == 2 and "Did you mean 'width'" in said.err


# --- how trouble ends


def test_interrupted_says_how_to_go_on(world, tmp_path, understudy, monkeypatch):
    from understudy.training import trainer

    def interrupt(self, *_, **__):
        raise KeyboardInterrupt

    words = world.distill("hinton", tmp_path / "run", *SHORT)
    with monkeypatch.context() as patch:
        patch.setattr(trainer.DistillationTrainer, "training_step", interrupt)
        said = understudy(*words)
    assert (said.code, said.out) == (130, "")
    assert said.err.rstrip().endswith("understudy: interrupted. What is done is kept: resume it with the same command and --resume.")
    assert (tmp_path / "run" / "recipe.yaml").is_file() and not (tmp_path / "run" / "facts.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr("understudy.evaluation.answers.stream", interrupt)
        said = understudy("predict", world.teacher, "a film")
    assert said.code == 130 and "--resume" not in said.err


BREAKS = '''
from understudy.objectives import Objective

class Breaks(Objective):
    """Is a number for so many batches."""

    def __init__(self, *, after: int) -> None:
        super().__init__()
        self.after, self.seen = after, 0

    def forward(self, student, teacher, batch):
        self.seen += 1
        return student.logits.square().mean() * (float("nan") if self.seen > self.after else 1.0)
'''


def test_a_loss_that_is_no_number(world, tmp_path, understudy):
    (tmp_path / "breaks.py").write_text(BREAKS)
    objective = json.dumps({"kind": f"{tmp_path}/breaks.py:Breaks", "after": 8})
    sets = (f"stages.0.objectives=[{objective}]", "stages.0.train.max_steps=10", "stages.0.train.precision=float32")
    said = understudy(*world.distill("hinton", tmp_path / "run", *(word for one in sets for word in ("--set", one))))
    assert (said.code, said.out) == (1, ""), said.err
    kept = tmp_path / "run" / "checkpoints" / "student-distillation" / "checkpoint-8"
    assert f"understudy: the loss is nan at step 9; the last good checkpoint is {kept}" in said.err
    assert (kept / "model.safetensors").is_file() and not (tmp_path / "run" / "facts.json").exists()


def refused_by(library: str) -> Exception:
    """How each library passes on that the disk is full."""
    from safetensors import SafetensorError

    return {
        "python": OSError(28, os.strerror(28), "student"),
        "safetensors": SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        "tokenizers": Exception("No space left on device (os error 28)"),
        "torch": RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
    }[library]


@pytest.mark.parametrize("library", ["python", "safetensors", "tokenizers", "torch"])
def test_a_full_disk(library, world, tmp_path, understudy, monkeypatch, quick):
    """The message says what to do; nothing stands half-written under its final name; --resume goes on."""
    words = world.distill("hinton", tmp_path / "run", *SHORT, "--no-control")

    def full(self, folder, *_, **__):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / "model.safetensors").write_bytes(b"what there was room for")
        raise refused_by(library)

    with monkeypatch.context() as patch:
        patch.setattr("transformers.PreTrainedModel.save_pretrained", full)
        said = understudy(*words)
    assert (said.code, said.out) == (1, ""), said.err
    assert "space left" in said.err
    assert said.err.endswith("Make room (or give another --out), then resume with --resume.\n")
    assert not (tmp_path / "run" / "student").exists() and not (tmp_path / "run" / "facts.json").exists()
    assert understudy(*words, "--resume").code == 0


def test_a_real_refusal_in_the_middle_of_a_file(world, tmp_path, understudy, quick):
    """The system lets no file grow beyond a size that the weights pass; once it does, --resume goes on."""
    words = world.distill("hinton", str(tmp_path / "run"), *SHORT, "--no-control")
    largest = 16_000
    assert (Path(world.teacher) / "model.safetensors").stat().st_size > largest
    with largest_file(largest):
        said = understudy(*words)
    assert (said.code, said.out) == (1, ""), said.err
    assert "File too large. Make room" in said.err and "Traceback" not in said.err
    assert not (tmp_path / "run" / "student").exists() and not (tmp_path / "run" / "facts.json").exists()
    assert understudy(*words, "--resume").code == 0


def test_a_folder_that_may_not_be_written(world, tmp_path, understudy, monkeypatch):
    def forbidden(self, *_, **__):
        raise PermissionError(13, os.strerror(13), str(self))

    monkeypatch.setattr("understudy.runs.folder.Path.mkdir", forbidden)
    said = understudy(*world.distill("hinton", tmp_path / "run", *SHORT))
    assert (said.code, said.out) == (1, "") and "Permission denied" in said.err


def test_any_other_error_keeps_its_traceback(understudy, world, monkeypatch):
    """A mistake of ours must be told as one."""
    monkeypatch.setattr("understudy.evaluation.answers.stream", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        understudy("predict", world.teacher, "a film")


def test_exit_codes_hang_on_the_error(understudy, world, monkeypatch):
    def failing(*_, **__):
        raise UnderstudyError("it broke")

    monkeypatch.setattr("understudy.evaluation.answers.stream", failing)
    said = understudy("predict", world.teacher, "a film")
    assert (said.code, said.out, said.err) == (1, "", "understudy: it broke\n")
