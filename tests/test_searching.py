"""A search: what it tries, what it leaves out, how it is stopped, killed, gone on with and shared, and how its mistakes end."""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest

from conftest import World
from understudy.errors import ExportError, RecipeError, RunFolderError, UnderstudyError
from understudy.installation import install_command
from understudy.programs.search import search
from understudy.searching import study as studies
from understudy.searching import trials
from understudy.searching.context import SearchContext
from understudy.searching.space import DEFAULT, load_space
from understudy.searching.study import SharedStudy, open_storage, unpromising
from understudy.tasks import metric_named

pytestmark = pytest.mark.usefixtures("quick")
SPACE = """
students:
  - {kind: static_embeddings, width: [4, 8], hidden: 8, vocabulary: words, min_count: 1,
     train: {epochs: [1, 2], learning_rate: {low: 0.001, high: 0.1}, evaluations: 2}}
  - {kind: bilstm, hidden: 4, embedding: 4, feature: 4, vocabulary: words, min_count: 1,
     train: {epochs: 1, learning_rate: {low: 0.001, high: 0.1}, evaluations: 2}}
recipes: [hinton, tang]
temperature: {low: 1.0, high: 8.0}
"""
ACCURACY = metric_named("accuracy")
BUDGET = "latency_ms<=1000, size_mib<=10"


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("space") / "space.yaml"
    path.write_text(SPACE, "utf-8")
    return path


@pytest.fixture
def quick(quick, monkeypatch):
    """Costs measured for a blink too."""
    from understudy.evaluation import speed

    whole = speed.measure_all

    def blink(models, texts, **settings):
        return whole(models, texts, **(settings | {"latency_rows": 5, "seconds": 0.01}))

    monkeypatch.setattr("understudy.searching.costs.speed.measure_all", blink)


def words(world: World, space: Path, out: Path, trials: int, *more) -> list:
    return [
        "search",
        "--teacher",
        world.teacher,
        *world.data,
        "--space",
        space,
        "--budget",
        BUDGET,
        "--no-export",
        "--set",
        "control=[]",
        "--trials",
        trials,
        "--out",
        out,
        "--json",
        *more,
    ]


def tried(facts: dict) -> list:
    """What the trials of a search tried, and how it ended; numbers and seconds are those of its day."""
    return [(one["tried"], one["ended"], one["value"], one["validation"]) for one in facts["trials"]]


@pytest.fixture(scope="module")
def whole(world, space, tmp_path_factory) -> Path:
    """A search of three trials that nothing disturbed."""
    out = tmp_path_factory.mktemp("search") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("understudy.runs.folder.sys.argv", ["understudy"])
        search(settings(world), BUDGET, out, space=space, trials=3)
    return out


def settings(world: World) -> dict:
    return {**world.keys, "control": []}


def facts_in(out: Path) -> dict:
    return json.loads((out / "facts.json").read_text("utf-8"))


# --- the end of a search


def test_it_ends_with_a_run_of_the_best(whole, world, space, understudy):
    facts, run = facts_in(whole), facts_in(whole / "best")
    assert len(facts["trials"]) == 3 and len(facts["students"]) == 3
    done = [one for one in facts["trials"] if one["ended"] == "done"]
    best = facts["best"]
    assert best["validation"] == max(one["value"] for one in done) and best["trial"] in facts["front"]
    assert run["student"] == best["student"] and run["recipe"] == best["recipe"]
    assert best["test"] == run["models"]["student"]["quality"]["accuracy"] and best["within_budget"]
    recipe = (whole / "best" / "recipe.yaml").read_text("utf-8")
    assert f"learning_rate: {best['settings']['learning_rate']}" in recipe
    assert not (whole / "checkpoints").exists()
    # The teacher answered each row once: 60, 30 and 30, in one folder.
    assert not (whole / "best" / "teacher_outputs").exists()
    page = (whole / "report.html").read_text("utf-8")
    assert "<svg" in page and 'href="best/report.html"' in page and "http://" not in page
    (whole / "report.html").unlink()
    assert understudy("report", whole, "--json").json == facts
    assert (whole / "report.html").read_text("utf-8") == page

    again = understudy(*words(world, space, whole, 3, "--resume"))
    assert (again.code, again.json) == (0, facts) and "nothing to do" in again.err
    shown = understudy(*[word for word in words(world, space, whole, 3, "--resume") if word != "--json"])
    assert "Trial" in shown.out and str(whole / "report.html") in shown.out.replace("\n", "")


def test_no_trial_sees_the_test_rows(world, space, tmp_path, monkeypatch):
    hidden = {json.loads(line)["text"] for line in Path(world.test).read_text("utf-8").splitlines()}
    seen, train = [], trials.train_stage

    def noted(stage, plans, *more, **others):
        rows = plans[""].rows
        seen.append({*stage.parts[""].rows["text"], *rows.validation["text"], *rows.test["text"]})
        return train(stage, plans, *more, **others)

    monkeypatch.setattr(trials, "train_stage", noted)

    def over(*_):
        raise InterruptedError("the trials are over")

    monkeypatch.setattr("understudy.programs.search._distil", over)
    with pytest.raises(InterruptedError):
        search(settings(world), BUDGET, tmp_path / "out", space=space, trials=1)
    assert len(seen) == 1 and not seen[0] & hidden and len(seen[0]) == 90


def test_more_trials_go_on_from_a_finished_search(whole, world, space, tmp_path):
    out = tmp_path / "more"
    shutil.copytree(whole, out)
    # The copy's teacher outputs lie elsewhere, which is no other search.
    run = search(settings(world), BUDGET, out, space=space, trials=4, resume=True)
    assert tried(run.facts)[:3] == tried(facts_in(whole)) and len(run.facts["trials"]) == 4
    assert run.facts["best"]["validation"] == max(one["value"] or 0 for one in run.facts["trials"])


def test_what_ships_is_measured_and_gated(world, tmp_path, monkeypatch):
    """With exports the costs are those of the files, and the quality is that of the file that would ship."""
    one = tmp_path / "one.yaml"
    one.write_text("students: [{kind: narrow, layers: 1, width: 8, vocabulary: teacher}]\nrecipes: [tang]\n", "utf-8")
    train = {"epochs": 6, "learning_rate": 0.01, "evaluations": 2, "precision": "bfloat16"}
    values = {**settings(world), "export": ["onnx", "onnx_int8"], **{f"stages.0.train.{name}": value for name, value in train.items()}}
    monkeypatch.setattr("understudy.runs.shipping._cached_teacher", _no_teacher)
    facts = search(values, "size_mib<=10", tmp_path / "out", space=one, trials=1).facts
    (student,), (trial,) = facts["students"], facts["trials"]
    assert student["forms"].keys() == {"onnx", "onnx_int8"} and student["forms"]["onnx_int8"] != student["forms"]["onnx"]
    assert trial["form"] in student["forms"] and trial["size_mib"] == student["forms"][trial["form"]]["size_mib"]
    shipped = facts_in(tmp_path / "out" / "best")["models"][f"student_{trial['form']}"]
    assert facts["best"]["test"] == shipped["quality"]["accuracy"]
    assert shipped["size_mib"] == pytest.approx(trial["size_mib"], rel=0.02)


def _no_teacher(*_):
    raise ExportError("not of interest here, and slow")


OVERRIDES = {
    "nothing": ({}, {}),
    "epochs": ({"stages.0.train.epochs": 3}, {"epochs": 3}),
    "a stage by name": ({"stages.distillation.train.epochs": 3}, {"epochs": 3}),
    "updates": ({"stages.0.train.max_steps": 7}, {"max_steps": 7}),
    "a rate": ({"stages.0.train.learning_rate": 0.25}, {"learning_rate": 0.25}),
    "a temperature": ({"stages.0.objectives.1.temperature": 5.5}, {"temperature": 5.5}),
}


@pytest.mark.parametrize("case", OVERRIDES)
def test_trials_record_the_settings_that_they_use(case, world, tmp_path):
    """A law over what a user may set: every setting in the record is that of the trial's recipe, for every kind of the packaged space."""
    given, wanted = OVERRIDES[case]
    (tmp_path / "space.yaml").write_text(DEFAULT.read_text("utf-8").replace("[hinton, tang]", "[hinton]"), "utf-8")
    space = load_space(tmp_path / "space.yaml")
    context = SearchContext.prepare({**settings(world), **given}, {"size_mib": 10.0}, space, tmp_path / "out", "cpu", print)
    for one in space.students:
        drawn = {"epochs": 9, "min_updates": 99, "learning_rate": 0.125, "temperature": 2.5}
        tried = {"student": one.kind, "shape": next(iter(one.shapes)), "recipe": "hinton", "settings": drawn}
        used = context.used(tried)
        assert {name: used["settings"][name] for name in wanted} == wanted
        stage = context.recipe(used).stages[0]
        for name, value in used["settings"].items():
            assert value == (stage.objectives[1].settings[name] if name == "temperature" else getattr(stage.train, name))
        before = context.recipe(tried).stages[0]
        assert before.objectives == stage.objectives
        if "max_steps" in wanted:
            assert "epochs" not in used["settings"]
        else:
            assert before.train == stage.train
        if not given:
            assert used["settings"] == drawn
        elif set(given) & {"stages.0.train.epochs", "stages.distillation.train.epochs"}:
            assert "min_updates" not in used["settings"]


def test_what_was_set_stands_in_all_records(world, space, tmp_path, understudy):
    said = understudy(*words(world, space, tmp_path / "out", 2, "--epochs", "0.5", "--learning-rate", "0.02"))
    assert said.code == 0, said.err
    facts = facts_in(tmp_path / "out")
    for one in facts["trials"]:
        assert (one["tried"]["settings"]["epochs"], one["tried"]["settings"]["learning_rate"]) == (0.5, 0.02)
    assert facts["best"]["settings"]["epochs"] == 0.5 and facts["settings"]["stages.0.train.epochs"] == 0.5
    assert "epochs: 0.5" in (tmp_path / "out" / "best" / "recipe.yaml").read_text("utf-8")
    assert "epochs 0.5, learning rate 0.02" in (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "epochs 0.5, learning rate 0.02" in said.err and "torch: latency_ms" in said.err


def test_recipes_are_tried_with_the_students_that_they_can_teach(world, tmp_path):
    (tmp_path / "space.yaml").write_text(
        "students: [{kind: teacher_layers, count: [1, 2]}, {kind: bilstm, hidden: 4}]\nrecipes: [tang, pkd_skip]\n", "utf-8"
    )
    space = load_space(tmp_path / "space.yaml")
    context = SearchContext.prepare(settings(world), {"size_mib": 10.0}, space, tmp_path / "out", "cpu", print)
    found = {(one.kind, one.shape): one.recipes for one in context.candidates(print)}
    assert found == {
        ("teacher_layers", "count 1"): ["tang"],
        ("teacher_layers", "count 2"): ["tang", "pkd_skip"],
        ("bilstm", "as given"): ["tang"],
    }
    assert not (tmp_path / "out").exists()


def test_without_a_form_that_ships_nothing_is_the_best(world, space, tmp_path, monkeypatch):
    """A form that does not answer as the student does cannot be counted on."""
    monkeypatch.setattr(trials, "shippable", lambda *_, **__: {})
    said: list[str] = []
    with pytest.raises(UnderstudyError, match="none of 1 trials finished within the budget"):
        search(settings(world), BUDGET, tmp_path / "out", space=space, trials=1, say=said.append)
    assert any("over budget: no export within the budget matches the student" in line for line in said)


# --- stopped, killed, shared


def test_interrupted_it_says_how_to_go_on_and_goes_on_alike(whole, world, space, tmp_path, understudy, monkeypatch):
    calls, train = [], trials.train_stage

    def interrupted(*args, **others):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*args, **others)

    given = words(world, space, tmp_path / "out", 3)
    with monkeypatch.context() as patch:
        patch.setattr(trials, "train_stage", interrupted)
        said = understudy(*given)
    assert (said.code, said.out) == (130, "") and "resume it with the same command and --resume" in said.err
    refused = understudy(*given)
    assert refused.code == 2 and "Resume it with --resume" in refused.err
    said = understudy(*given, "--resume")
    assert said.code == 0, said.err
    assert tried(said.json) == tried(facts_in(whole))


# What a process of its own runs: as the command, but some of its trainings wait for a file.
HELD = """
import sys, time
from pathlib import Path
from understudy.searching import trials
from understudy.cli import main

train, (folder, waits) = trials.train_stage, sys.argv[1:3]
sys.argv[1:3] = []
trainings = 0

def held(*args, **others):
    global trainings
    trainings += 1
    Path(folder, f"began-{trainings}").touch()
    while trainings <= int(waits) and not Path(folder, f"go-{trainings}").exists():
        time.sleep(0.05)
    return train(*args, **others)

trials.train_stage = held
main()
"""


def held(folder: Path, waits: int, *given) -> subprocess.Popen[str]:
    folder.mkdir()
    return subprocess.Popen(
        [sys.executable, "-c", HELD, str(folder), str(waits), *map(str, given)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def until(there: list[Path], *processes: subprocess.Popen[str]) -> None:
    while not all(path.exists() for path in there):
        for one in processes:
            assert one.poll() is None, one.communicate()
        time.sleep(0.05)


def test_two_processes_share_the_trials_and_one_is_killed(whole, world, space, tmp_path, understudy):
    """Both have a trial in hand at once, and make no more than the total. What the killed one was at is made when its search goes on."""
    url = f"sqlite:///{tmp_path / 'study.db'}"
    shared = ["--storage", url]
    first = held(tmp_path / "a", 2, *words(world, space, tmp_path / "first", 4, *shared))
    second = held(tmp_path / "b", 1, *words(world, space, tmp_path / "second", 4, *shared, "--worker"))
    until([tmp_path / "a" / "began-1", tmp_path / "b" / "began-1"], first, second)
    (tmp_path / "a" / "go-1").touch()
    until([tmp_path / "a" / "began-2"], first, second)  # and waits there
    (tmp_path / "b" / "go-1").touch()
    out, err = second.communicate()
    assert (second.returncode, out) == (0, ""), err
    first.send_signal(signal.SIGKILL)
    first.communicate()
    study = optuna.load_study(study_name=None, storage=url)
    assert sorted(one.state.name for one in study.trials) == ["COMPLETE"] * 3 + ["RUNNING"]
    assert len({one.user_attrs["worker"] for one in study.trials}) == 2

    said = understudy(*words(world, space, tmp_path / "first", 4, *shared, "--resume"))
    assert said.code == 0, said.err
    assert len(said.json["trials"]) == 4 and not (tmp_path / "second" / "best").exists()
    killed = next(one for one in study.get_trials() if one.state.name in ("RUNNING", "FAIL"))
    assert sorted(one.state.name for one in study.trials) == ["COMPLETE"] * 4 + ["FAIL"]
    again = study.trials[-1]
    assert again.params == killed.params and again.state.name == "COMPLETE"


def shared_study(url: str, worker: str = "me") -> SharedStudy:
    found = SharedStudy(open_storage(url), "study", seed=0, worker=worker, metric=ACCURACY)
    found.make({})
    return found


def test_a_total_is_never_passed(tmp_path):
    """Two workers may begin the last trial at once; the later one gives it back."""
    url = f"sqlite:///{tmp_path / 'study.db'}"
    study = shared_study(url)
    for _ in range(3):
        study.run_trial(2, lambda trial: trial.suggest_float("x", 0, 1))
    assert len(study.trials) == 2 and study.count("COMPLETE") == 2


def test_a_trial_of_a_killed_worker_is_tried_again_by_others(tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "HEARTBEAT_SECONDS", 1)
    monkeypatch.setattr(studies, "DEAD_AFTER_SECONDS", 1)
    url = f"sqlite:///{tmp_path / 'study.db'}"
    dead, study = shared_study(url, "dead"), shared_study(url)
    left = dead.study.ask()
    drawn = left.suggest_float("x", 0, 1)
    dead.storage.record_heartbeat(left._trial_id)
    study.revive()
    assert study.count("RUNNING") == 1  # it may be alive
    time.sleep(3)
    study.revive()
    assert (study.count("RUNNING"), study.count("WAITING"), len(study.trials)) == (0, 1, 1)
    study.run_trial(1, lambda trial: trial.suggest_float("x", 0, 1))
    assert study.best == drawn and len(study.trials) == 1


def test_what_is_drawn_hangs_on_seed_and_place(tmp_path):
    def draws(name: str, seed: int, stop: int | None) -> list[float]:
        study = SharedStudy(open_storage(f"sqlite:///{tmp_path / name}.db"), "study", seed=seed, worker="me", metric=ACCURACY)
        study.make({})

        def work(trial):
            x = trial.suggest_float("x", 0, 1)
            if stop is not None and len(study.trials) == stop and not stopped:
                stopped.append(x)
                raise KeyboardInterrupt
            return -((x - 0.3) ** 2)

        stopped: list[float] = []
        while study.count("COMPLETE") < 14:  # more than are drawn blindly
            try:
                study.run_trial(14, work)
            except KeyboardInterrupt:
                study.recover()
        return [one.params["x"] for one in study.trials]

    whole = draws("whole", 0, None)
    assert draws("stopped", 0, 12) == whole and len(set(whole)) == 14
    assert draws("other", 1, None) != whole


def test_a_trial_is_stopped_when_its_like_were_better():
    def trial(kind: str, parameters: int, values: list[float]) -> SimpleNamespace:
        return SimpleNamespace(user_attrs={"kind": kind, "parameters": parameters}, intermediate_values=dict(enumerate(values, start=1)))

    others = [trial("bilstm", 10, [0.1, 0.5, value, 0.9]) for value in (0.6, 0.7, 0.8)]
    assert unpromising(trial("bilstm", 10, [0.1, 0.5, 0.69]), others, ACCURACY)
    assert not unpromising(trial("bilstm", 10, [0.1, 0.5, 0.7]), others, ACCURACY)
    assert not unpromising(trial("bilstm", 10, [0.1, 0.75, 0.6]), others, ACCURACY)  # its best weights are kept
    assert not unpromising(trial("bilstm", 10, [0.1, 0.2]), others, ACCURACY)  # too early
    assert not unpromising(trial("bilstm", 9, [0.1, 0.5, 0.6]), others, ACCURACY)  # smaller than they
    assert not unpromising(trial("narrow", 10, [0.1, 0.5, 0.6]), others, ACCURACY)
    assert not unpromising(trial("bilstm", 10, [0.1, 0.5, 0.6]), others[:2], ACCURACY)


# --- PostgreSQL


def server_programs() -> Path | None:
    """Where initdb and pg_ctl are."""
    places = [Path(found).resolve().parent for found in [shutil.which("initdb")] if found]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists() and (place / "pg_ctl").exists()), None)


@pytest.fixture
def postgres(tmp_path_factory):
    """A server of its own in a temporary folder; it does not run as root, so root starts it as the user `postgres`."""
    programs = server_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server on this machine (initdb and pg_ctl)")
    pytest.importorskip("psycopg2", reason="psycopg2 is not installed")
    owner: dict = {}
    if os.geteuid() == 0:
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("root cannot run a PostgreSQL server, and there is no user postgres")
        owner = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    folder = Path("/tmp") / f"understudy-postgres-{os.getpid()}"  # its socket's path must be short, and the owner reach it
    folder.mkdir(mode=0o700)
    if owner:
        os.chown(folder, owner["user"], owner["group"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(*given: str) -> None:
        subprocess.run([str(programs / given[0]), *given[1:]], check=True, capture_output=True, cwd=folder, timeout=60, **owner)

    data = str(folder / "data")
    try:
        run("initdb", "-D", data, "-U", "me", "-A", "trust", "--no-sync")
        run("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", f"-p {port} -k {folder} -h 127.0.0.1 -F", "start")
        yield f"postgresql://me:secret@127.0.0.1:{port}/postgres"
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def test_two_folders_share_a_study_in_postgresql(whole, world, space, tmp_path, postgres, understudy):
    said = understudy(*words(world, space, tmp_path / "helper", 2, "--storage", postgres, "--worker"))
    assert (said.code, said.out) == (0, ""), said.err
    said = understudy(*words(world, space, tmp_path / "out", 3, "--storage", postgres))
    assert said.code == 0, said.err
    assert tried(said.json) == tried(facts_in(whole))
    assert not (tmp_path / "out" / "study.db").exists()
    left = "".join(path.read_text("utf-8") for path in (tmp_path / "out").rglob("*.*") if path.suffix in (".json", ".html", ".yaml"))
    assert "me:***@127.0.0.1" in left and "secret" not in left
    study = optuna.load_study(study_name=None, storage=open_storage(postgres))
    assert [one.state.name for one in study.trials].count("COMPLETE") == 3
    assert len({one.user_attrs["worker"] for one in study.trials}) == 2


# --- mistakes


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--budget", "fast"], "'fast' is not a limit; write it as measure<=number"),
        (["--budget", "latency<=1"], "measure 'latency' is unknown; known are latency_ms, size_mib. Did you mean 'latency_ms'?"),
        (["--budget", "size_mib<=1, size_mib<=2"], "size_mib is given twice"),
        (["--budget", "size_mib<=small"], "the limit of size_mib is 'small'; a number above 0 is allowed"),
        (["--budget", "size_mib<=-1"], "a number above 0 is allowed"),
        (["--budget", "size_mib<=0.0001"], "no student of the space is within it; the nearest is static_embeddings (width 4) with size"),
        (["--trials", "0"], "--trials 0: at least 1 is needed"),
        (["--time", "30"], "as in 90s, 30m or 2h"),
        (["--storage", "sqlite:////nowhere/at/all.db"], "sqlite:////nowhere/at/all.db: cannot be opened: "),
        (["--storage", "mydb"], "--storage mydb: cannot be opened: "),
        (["--storage", "postgresql://me:secret@127.0.0.1:1/db"], "postgresql://me:***@127.0.0.1:1/db: cannot be opened: "),
        (["--worker"], "name its database with --storage"),
        (["--space", "none.yaml"], "--space none.yaml: no such file"),
        (["--set", "student.hidden=3"], "the students come from the search space"),
        (["--teacher", "nowhere"], "cannot be mixed|nowhere"),
    ],
    ids=lambda one: "_".join(one) if isinstance(one, list) else "",
)
def test_mistakes_end_in_one_message(more, said, world, space, tmp_path, understudy):
    given = words(world, space, tmp_path / "out", 2)
    if more[0] in given:
        place = given.index(more[0])
        given[place : place + 2] = []
    found = understudy(*given, *more)
    assert (found.code, found.out) == (2, ""), found.err
    last = [line for line in found.err.splitlines() if "understudy:" in line][-1]
    assert any(one in last for one in said.split("|")), last
    assert "secret" not in found.err and "Traceback" not in found.err
    assert not (tmp_path / "out").exists()


def test_the_folder_of_another_search_is_refused(whole, world, space, tmp_path, understudy):
    before = (whole / "facts.json").read_bytes()
    for other, named in (
        (words(world, space, whole, 3, "--resume", "--seed", "1"), "search.seed (0 there, 1 now)"),
        (words(replace(world, train=world.validation), space, whole, 4, "--resume"), "started with other data or files: train ("),
        ([*words(world, space, whole, 3, "--resume"), "--budget", "size_mib<=5"], "search.budget.size_mib (10.0 there, 5.0 now)"),
    ):
        said = understudy(*other)
        assert (said.code, said.out) == (2, "") and named in said.err, said.err
    (tmp_path / "own.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="--overwrite would delete it"):
        search(settings(world), BUDGET, tmp_path, space=space, trials=1, overwrite=True)
    assert (whole / "facts.json").read_bytes() == before


def test_without_optuna_it_names_the_extra(world, space, tmp_path, understudy, monkeypatch):
    from importlib import util

    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *more: None if name == "optuna" else find(name, *more))
    said = understudy(*words(world, space, tmp_path / "out", 1))
    assert said.code == 2 and f"run: {install_command('search')}" in said.err


SPACES = {
    "students: [{kind: bilstn}]\nrecipes: [hinton]": "Did you mean 'bilstm'?",
    "students: [{kind: bilstm, hiden: [1, 2]}]\nrecipes: [hinton]": "Did you mean 'hidden'?",
    "students: [{kind: bilstm, hidden: [0, 2]}]\nrecipes: [hinton]": "at least 1 is needed",
    "students: [{kind: bilstm, train: {epochs: [1, -1]}}]\nrecipes: [hinton]": "train.epochs is -1",
    "students: [{kind: bilstm, train: {learning_rate: {low: 2, high: 1}}}]\nrecipes: [hinton]": "low is 2, above high, 1",
    "students: [{kind: bilstm}, {kind: bilstm}]\nrecipes: [hinton]": "students has bilstm twice",
    "students: [{kind: bilstm}]\nrecipes: [hinton]\ntemperature: [0]": "temperature is 0: a number above 0",
    "students: []\nrecipes: [hinton]": "students",
    "students: [{kind: bilstm}]\nrecipes: [hinton]\nepochs: 3": "epochs is not a setting",
    "[1]": "a space is a YAML mapping",
    "{": "not YAML",
}


@pytest.mark.parametrize("text", SPACES)
def test_a_space_that_does_not_fit(text, tmp_path):
    (tmp_path / "space.yaml").write_text(text, "utf-8")
    with pytest.raises(RecipeError) as refused:
        load_space(tmp_path / "space.yaml")
    assert SPACES[text] in str(refused.value) and "space.yaml: " in str(refused.value)


@pytest.mark.parametrize(("recipe", "said"), [("minilm", "has 2 stages"), ("tang_augmented", "has augmentation"), ("bam", "several tasks")])
def test_recipes_that_a_search_cannot_try(recipe, said, world, space, tmp_path):
    (tmp_path / "space.yaml").write_text(f"students: [{{kind: narrow, layers: 1, width: 8}}]\nrecipes: [{recipe}]\n", "utf-8")
    with pytest.raises(RecipeError, match=said):
        search(settings(world), BUDGET, tmp_path / "out", space=tmp_path / "space.yaml", trials=1)


def test_the_packaged_space_fits():
    space = load_space(None)
    assert {one.kind for one in space.students} == {"static_embeddings", "bilstm", "narrow", "teacher_layers"}
    assert all(len(one.shapes) > 1 for one in space.students)
