"""Several runs on one page."""

import copy
import json

import pytest
import yaml

from example_run import FACTS, HOSTILE, entry, write_run
from understudy.errors import RunFolderError
from understudy.reporting.comparison import choices, differences, front_by, notes, read_runs, table_cells, verdict, write_comparison


def run(folder, value, *, latency, recipe, int8=None, **changes):
    facts = copy.deepcopy(FACTS) | {"recipe": "hinton", "command": f"understudy distill {folder.name}", **changes}
    facts["models"]["student"] = entry(value) | {"latency_ms": {"p50": latency, "p95": latency}}
    if int8 is not None:
        facts["models"]["student_onnx_int8"] = entry(int8) | {"latency_ms": {"p50": latency / 10, "p95": latency}}
    write_run(folder, facts)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
    return folder


@pytest.fixture
def folders(tmp_path):
    stage = {"name": "one", "rows": ["train"], "train": {"epochs": 3}}
    return [
        run(tmp_path / "runs" / "slow", 0.7, latency=9.0, recipe={"seed": 0, "stages": [stage], "new": None}),
        run(tmp_path / "runs" / "quick", 0.6, latency=1.0, recipe={"seed": 1, "stages": [stage]}, int8=0.5),
        run(tmp_path / "runs" / HOSTILE.replace("/", ""), 0.4, latency=2.0, recipe={"seed": 1, "stages": [{**stage, "rows": ["raw"]}]}),
    ]


def test_the_best_of_what_they_ship_comes_first(folders):
    runs = read_runs([folders[2], folders[0], folders[1], folders[0]])
    assert [one.name for one in runs] == ["slow", "quick", HOSTILE.replace("/", "")]  # each once, without their common folder
    assert [(one.form, one.value) for one in runs] == [("student", 0.7), ("student_onnx_int8", 0.5), ("student", 0.4)]
    assert [one.name for one in front_by(runs, "latency")] == ["quick", "slow"]
    assert (
        verdict(runs) == "The best of 3 runs is slow: accuracy 0.700 as it ships (student). "
        "The fastest on the Pareto front is quick: 0.500, 0.10 ms per row against 9.00."
    )
    header, *rows = table_cells(runs)
    assert {len(row) for row in rows} == {len(header)}
    assert [row[header.index("of the teacher")] for row in rows] == ["88 %", "62 %", "50 %"]
    assert [row[-1] for row in rows] == ["latency, size", "latency, size", "size"]


def test_what_was_not_measured_is_left_out(folders):
    facts = json.loads((folders[0] / "facts.json").read_text())
    facts["models"]["student"] = {"quality": {"accuracy": {"value": 0.7}}}
    (folders[0] / "facts.json").write_text(json.dumps(facts))
    runs = read_runs(folders)
    assert verdict(runs) == "The best of 3 runs is slow: accuracy 0.700 as it ships (student)."
    assert table_cells(runs)[1][:4] == ["slow", "student", "0.700", "–"]
    assert {one.mark for one in choices(runs, "latency")} == {"2", "3", "T"}


def test_only_settings_that_differ(folders):
    found = {one["key"]: one["values"] for one in differences(read_runs(folders))}
    assert found == {
        "seed": ["0", "1", "1"],
        "stages.0.rows": ['["train"]', '["train"]', '["raw"]'],
    }  # what one lacks and another has off is no difference


def test_the_page(folders, tmp_path):
    page = write_comparison(read_runs(folders), tmp_path / "new" / "runs.html")
    text = page.read_text("utf-8")
    assert text.count("<svg") == 2 and text.count("<script") == 1 and "<img" not in text
    for expected in ("stages.0.rows", "understudy distill quick", ">T</text>", "Settings that differ"):
        assert expected in text
    assert text.count(">T</text>") == 2  # one teacher, in both plots


def test_what_cannot_be_compared_is_refused(folders, tmp_path):
    with pytest.raises(RunFolderError, match=r"nowhere: no such run folder"):
        read_runs([folders[0], tmp_path / "nowhere"])
    other = run(tmp_path / "other", 0.5, latency=1.0, recipe={}, task="similarity")
    with pytest.raises(RunFolderError, match=r"slow measures accuracy of classification, .*other accuracy of similarity; compare"):
        read_runs([folders[0], other])
    (other / "facts.json").write_text(json.dumps({"tasks": {"mood": {}}}))
    with pytest.raises(RunFolderError, match=r"several tasks; give the folder of one, as in .*other/mood"):
        read_runs([folders[0], other])
    (other / "facts.json").write_text(json.dumps({"primary_metric": "accuracy", "models": {"teacher": entry(0.5)}}))
    with pytest.raises(RunFolderError, match="no student was measured"):
        read_runs([folders[0], other])


def test_what_is_unfair_is_told(folders, tmp_path):
    assert notes(read_runs(folders)) == []
    there = {"test": {"rows": 5, "sha256": "cd"}, "test_is_validation": True}
    other = run(tmp_path / "other", 0.5, latency=1.0, recipe={}, data=there)
    (other / "environment.json").write_text('{"cores": 64}')
    said = " ".join(notes(read_runs([folders[0], other])))
    for words in ("different test rows", "different machines", "validation rows"):
        assert words in said


def test_the_command(folders, tmp_path, understudy, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = understudy("report", *folders)
    assert said.code == 2 and "3 runs: name the page that compares them, as in --out comparison.html" in said.err
    said = understudy("report", *folders, "--out", "all.html")
    assert said.code == 0 and "The best of 3 runs is slow" in said.out and "The page: all.html" in said.out
    before = (tmp_path / "all.html").read_bytes()
    said = understudy("report", *folders[:2], "--out", "all.html")
    assert said.code == 2 and "--overwrite" in said.err and (tmp_path / "all.html").read_bytes() == before
    said = understudy("report", *folders[:2], "--out", "all.html", "--overwrite", "--json")
    assert [one["run"] for one in said.json["runs"]] == ["slow", "quick"] and said.json["runs"][1]["ships"] == "student_onnx_int8"
    assert said.json["pareto_front"]["latency"] == ["quick", "slow"] and said.json["page"] == "all.html"
    assert (tmp_path / "all.html").read_bytes() != before
    said = understudy("report", folders[0], "--out", tmp_path)
    assert said.code == 2 and "is a folder; --out names a file" in said.err
    said = understudy("report", folders[0], "--out", "one.html")
    assert said.code == 0 and (tmp_path / "one.html").is_file() and not (folders[0] / "report.html").exists()


def test_two_teachers_are_told_apart_and_a_student_below_its_control_is_named(folders, tmp_path):
    """The newcomer's page: teachers of 0.810 and 0.975 with the same mark, and a student 15.7 points below its control."""
    worse = {"value": -0.157, "ci95": [-0.2, -0.1], "p_value": 1e-6}
    models = copy.deepcopy(FACTS["models"]) | {"teacher": entry(0.9)}
    other = run(tmp_path / "runs" / "second", 0.5, latency=0.5, recipe={}, models=models, gain_over_alone=worse)
    runs = read_runs([folders[0], other])
    teachers = {one.mark: one.name for one in choices(runs, "latency") if one.kind == "teacher"}
    assert teachers == {"T1": "teacher, of slow", "T2": "teacher, of second"}
    assert "different teachers (accuracy: of slow 0.800, of second 0.900)" in " ".join(notes(runs))
    assert "second is 15.7 points worse than its own student without a teacher" in verdict(runs)
    assert {one.mark for one in choices(read_runs(folders), "latency") if one.kind == "teacher"} == {"T"}


def test_teachers_of_equal_accuracy_are_two(tmp_path):
    runs = [tmp_path / name for name in ("first", "second", "third")]
    for run, teacher in zip(runs, ("a", "b", "a"), strict=True):
        write_run(run, FACTS | {"recipe": run.name})
        (run / "inputs.json").write_text(json.dumps({"teacher": {"file": "runs/teacher", "sha256": teacher * 64}}))
    assert any("different teachers" in note for note in notes(read_runs(runs[:2])))
    assert not any("different teachers" in note for note in notes(read_runs(runs[::2])))
