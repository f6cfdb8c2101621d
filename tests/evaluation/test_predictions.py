"""What models said, as a file: the same bytes for the same answers, and nothing lost of any text."""

import gzip

import numpy as np
import pytest
from datasets import Dataset

from understudy.errors import RunFolderError
from understudy.evaluation.measure import ModelResult
from understudy.evaluation.predictions import PREDICTIONS, predictions, read_predictions, write_predictions
from understudy.tasks.classification import Classification
from understudy.tasks.similarity import Similarity

TASK = Classification(("bad", "good"))
TEXTS = ["</script>", "a line\u2028and\u2029another\r\n", '"quoted" \\ \x00', "电影"]
ROWS = Dataset.from_dict({"identity": ["a", "b", "c", "d"], "text": TEXTS, "label": [0, 1, 0, 1]})


def test_by_hand():
    models = {"teacher": ModelResult((), decided=np.log([[0.8, 0.2]] * 4)), "silent": ModelResult(())}
    lines = list(predictions(ROWS, models, TASK, {"teacher": {"calibration": {"temperature": 2.0, "fitted_on": "validation"}}}))
    # At temperature 2 the odds 4 become 2.
    said = {"label": "bad", "probability": 0.8, "scaled_probability": pytest.approx(2 / 3, abs=1e-6)}
    assert lines[1] == {"identity": "b", "text": TEXTS[1], "label": "good", "models": {"teacher": said}}
    (plain, *_) = predictions(ROWS, models, TASK, {"teacher": {}})
    assert plain["models"]["teacher"] == {"label": "bad", "probability": 0.8}


def test_numbers_and_pairs():
    rows = Dataset.from_dict({"identity": ["a"], "text": ["x"], "text_pair": ["y"], "label": [4.5]})
    (line,) = predictions(rows, {"student": ModelResult((), decided=np.array([[4.25]]))}, Similarity(), {"student": {}})
    assert line == {"identity": "a", "text": "x", "text_pair": "y", "label": 4.5, "models": {"student": {"value": 4.25}}}


def test_written_and_read(tmp_path):
    lines = list(predictions(ROWS, {}, TASK, {}))
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_predictions(tmp_path / name / PREDICTIONS, lines)
        assert [path.name for path in (tmp_path / name).iterdir()] == [PREDICTIONS]
    assert read_predictions(tmp_path / "first" / PREDICTIONS) == lines
    assert [line["text"] for line in lines] == TEXTS
    packed = (tmp_path / "first" / PREDICTIONS).read_bytes()
    assert packed == (tmp_path / "second" / PREDICTIONS).read_bytes()
    assert packed[3:8] == bytes(5)  # no name and no time in gzip's head


def test_a_file_that_is_not_there_or_damaged(tmp_path):
    path = tmp_path / PREDICTIONS
    assert read_predictions(path) == []
    write_predictions(path, predictions(ROWS, {}, TASK, {}))
    whole = path.read_bytes()
    broken = whole[:15] + b"\xff" * 9 + whole[24:]
    for damaged in (whole[:-9], broken, b"no gzip", *map(gzip.compress, (b"{", b"[]\n", b"{}\n"))):
        path.write_bytes(damaged)
        with pytest.raises(RunFolderError, match=r"predictions.jsonl.gz: damaged .* delete it"):
            read_predictions(path)
