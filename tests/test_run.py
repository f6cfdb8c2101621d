"""The run folder: what may be written where, and that nothing is ever there by half."""

import json
from pathlib import Path

import pytest

from understudy.errors import RunFolderError
from understudy.runs.folder import Run, check

RECIPE = "name: hinton\nseed: 0\nstages:\n- {name: only, train: {epochs: 3}}\n"
OTHER = "name: hinton\nseed: 1\nstages:\n- {name: only, train: {epochs: 5}}\n"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def started(tmp_path) -> Run:
    return Run.start(tmp_path / "out", RECIPE)


def test_a_new_folder(started):
    assert contents(started.folder).keys() == {"recipe.yaml", "environment.json", "inputs.json"}
    assert (started.folder / "recipe.yaml").read_text() == RECIPE and started.fresh and not started.finished
    environment = json.loads((started.folder / "environment.json").read_text())
    assert environment["packages"]["torch"] and environment["processor"] and environment["cores"] >= 1


def test_an_empty_folder_that_is_there_is_as_good_as_none(tmp_path):
    (tmp_path / "out").mkdir()
    assert Run.start(tmp_path / "out", RECIPE).fresh


def test_a_folder_in_use_needs_a_word(started):
    with pytest.raises(RunFolderError, match=r"not empty. Resume it with --resume, replace it with --overwrite, or give another --out"):
        Run.start(started.folder, RECIPE)


def test_going_on(started):
    started.writer("student", "only")({"step": 1})
    before = contents(started.folder)
    run = Run.start(started.folder, RECIPE, resume=True)
    assert not run.fresh and contents(started.folder) == before
    assert Run.start(started.folder.parent / "new", RECIPE, resume=True).fresh  # nothing there yet: begin


def test_going_on_with_another_recipe_names_what_differs(started):
    before = contents(started.folder)
    with pytest.raises(RunFolderError, match=r"other settings: seed \(0 there, 1 now\), stages.0.train.epochs \(3 there, 5 now\)\. Give"):
        Run.start(started.folder, OTHER, resume=True)
    assert contents(started.folder) == before


def test_replacing(started):
    (started.folder / "student").mkdir()
    (started.folder / "student" / "old.txt").write_text("old")
    run = Run.start(started.folder, OTHER, overwrite=True)
    assert run.fresh and contents(started.folder).keys() == {"recipe.yaml", "environment.json", "inputs.json"}


@pytest.mark.parametrize("word", ["resume", "overwrite"])
def test_a_folder_of_somebody_else_is_left_alone(tmp_path, word):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RunFolderError, match=r"nothing to resume|would delete it"):
        Run.start(tmp_path, RECIPE, **{word: True})
    assert contents(tmp_path) == {"thesis.txt": b"years of work"}


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(RunFolderError, match="is a file"):
        check(tmp_path / "out", RECIPE, resume=False, overwrite=False)


def test_a_recipe_there_that_is_damaged(started):
    (started.folder / "recipe.yaml").write_text("a: [1")
    with pytest.raises(RunFolderError, match=r"recipe.yaml"):
        check(started.folder, RECIPE, resume=True, overwrite=False)
    check(started.folder, RECIPE, resume=False, overwrite=True)


def test_facts_that_are_damaged(started):
    (started.folder / "facts.json").write_text('{"seed": ')
    with pytest.raises(RunFolderError, match=r"facts.json: damaged .*resume with --resume"):
        _ = started.facts


def test_checking_touches_nothing(tmp_path):
    check(tmp_path / "out", RECIPE, resume=False, overwrite=False)
    assert not (tmp_path / "out").exists()


def test_a_finished_run_is_known_by_its_facts(started):
    assert check(started.folder, RECIPE, resume=True, overwrite=False) is None
    (started.checkpoints / "student").mkdir(parents=True)
    started.record({"seed": 0})
    assert started.finished and started.facts == {"seed": 0} and not started.checkpoints.exists()
    assert check(started.folder, RECIPE, resume=True, overwrite=False).facts == {"seed": 0}
    assert check(started.folder, OTHER, resume=False, overwrite=True) is None


def test_a_kill_while_recording_loses_no_training(started, monkeypatch):
    """The checkpoints are needed until the facts are there."""
    started.checkpoints.mkdir()
    monkeypatch.setattr("understudy.runs.folder.write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        started.record({"seed": 0})
    assert started.checkpoints.exists() and not started.finished


def test_taking_back_only_what_this_process_made(started):
    Run.start(started.folder, RECIPE, resume=True).discard()
    assert started.folder.exists()
    started.discard()
    assert not started.folder.exists()


def test_metrics_are_lines(started):
    write = started.writer("student", "only")
    write({"step": 1, "loss": 0.5})
    Run(started.folder, fresh=False).writer("student_alone", "alone")({"step": 2})
    assert [json.loads(line) for line in (started.folder / "metrics.jsonl").read_text().splitlines()] == [
        {"model": "student", "stage": "only", "step": 1, "loss": 0.5},
        {"model": "student_alone", "stage": "alone", "step": 2},
    ]
