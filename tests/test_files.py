"""Files and folders are whole or not there."""

import os
from pathlib import Path

import pytest

from understudy.files import append_json_line, json_lines, whole, write_text


@pytest.mark.parametrize("moment", ["write_text", "replace"])
def test_written_whole_or_not_at_all(tmp_path, monkeypatch, moment):
    path = tmp_path / "facts.json"
    write_text(path, "old")

    def full(self, *_, **__):
        if moment == "write_text":
            Path(self).write_bytes(b"ne")  # what fits on the disk
        raise OSError(28, os.strerror(28), str(self))

    monkeypatch.setattr(Path, moment, full)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")
    assert path.read_bytes() == b"old"


def test_a_folder_takes_the_place_of_another(tmp_path):
    for text in ("old", "new"):
        with whole(tmp_path / "model") as beside:
            beside.mkdir()
            (beside / text).write_text(text)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_breaks_down_leaves_nothing_and_takes_nothing(tmp_path):
    (tmp_path / "model").mkdir()

    def interrupted():
        with whole(tmp_path / "model") as beside:
            beside.mkdir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with whole(tmp_path / "nothing"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_it_is_the_one_place_that_renames():
    source = Path(__file__).parents[1] / "src" / "understudy"
    others = [path for path in source.rglob("*.py") if '.new"' in path.read_text("utf-8") and path.name != "files.py"]
    assert {path.name for path in others} <= {"text_model.py", "store.py"}, others  # one moves file by file, one looks for leftovers


def test_half_a_line_costs_itself_alone(tmp_path):
    """A process that was killed may leave one at the end; what is added then stands on a line of its own."""
    file = tmp_path / "metrics.jsonl"
    assert json_lines(file) == []
    append_json_line(file, {"step": 1})
    with file.open("a") as opened:
        opened.write('{"step": 2, "lo')
    assert json_lines(file) == [{"step": 1}]
    append_json_line(file, {"step": 2})
    append_json_line(file, {"step": 3})
    assert json_lines(file) == [{"step": 1}, {"step": 2}, {"step": 3}]
