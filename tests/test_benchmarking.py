"""What `benchmark` measures, and in which order; never how fast this machine is."""

import itertools
import json
from pathlib import Path

import pytest

from tiny import tiny_teacher, write_rows
from understudy.evaluation.memory import peak_memory_mib
from understudy.evaluation.speed import measure_all, orders, size
from understudy.models.text_model import TextModel
from understudy.programs import benchmark as benchmarking
from understudy.runtime import Predictor

TEXTS = [("a film", None), ("a gripping film", None), ("a moving film of a film", None)]


@pytest.fixture
def blink(monkeypatch):
    monkeypatch.setattr(
        benchmarking,
        "measure_all",
        lambda models, texts, **settings: measure_all(models, texts, latency_rows=5, **{**settings, "seconds": 0.01}),
    )


def test_a_line_for_each_model_and_each_file_of_an_export(world, single_export, understudy, blink):
    said = understudy("benchmark", world.teacher, single_export, "--data", world.test, "--threads", "1", "--json")
    assert said.code == 0, said.err
    facts = said.json
    assert [(one["model"], one["form"]) for one in facts["models"]] == [
        (world.teacher, "torch"),
        (str(single_export), "onnx"),
        (str(single_export), "onnx_int8"),
    ]
    assert facts["threads"] == 1 and facts["data"] == {"rows": 30, "file": world.test}
    assert facts["environment"]["cores"] >= 1
    for one in facts["models"]:
        low, high = one["rows_per_second_range"]
        assert 0 < low <= one["rows_per_second"] <= high
        low, high = one["latency_p50_range_ms"]
        assert 0 < low <= one["latency_ms"]["p50"] <= one["latency_ms"]["p95"] and low <= high
        assert one["parameters"] == facts["models"][0]["parameters"]
        assert one["quality"]["accuracy"]["value"] > 0.9
    torch_line, full, eight = facts["models"]
    assert full["peak_memory_mib"] < torch_line["peak_memory_mib"] and eight["size_mib"] < full["size_mib"]
    assert full["quality"] == torch_line["quality"]
    shown = understudy("benchmark", single_export, "--data", world.test)
    assert "onnx int8" in shown.out and "threads, batches of 32" in shown.out


def test_rows_without_labels_are_timed_only(single_export, tmp_path, understudy, blink):
    data = write_rows(tmp_path / "rows.jsonl", [{"review": "a film"}, {"review": "good fun"}])
    said = understudy("benchmark", single_export, "--data", data, "--column", "text=review", "--json")
    assert said.code == 0 and all("quality" not in one and one["rows_per_second"] > 0 for one in said.json["models"])


def test_models_of_different_tasks(world, single_export, number_export, tmp_path, understudy):
    tiny_teacher(label_names=("x", "y")).save(tmp_path / "other")
    for other in (number_export, tmp_path / "other"):
        said = understudy("benchmark", single_export, other, "--data", world.test)
        assert said.code == 2 and "different labels" in said.err


def test_exports_and_torch_models_take_turns(world, single_export, monkeypatch):
    calls = []

    class Recorder(Predictor):
        def logits(self, texts, pairs=None, **settings):
            calls.append("export")
            return super().logits(texts, pairs, **settings)

    model = TextModel.load(world.teacher)
    forward = type(model.model).forward

    def noted(self, *given, **named):
        calls.append("torch")
        return forward(self, *given, **named)

    monkeypatch.setattr(type(model.model), "forward", noted)
    measure_all({"torch": model, "export": Recorder(single_export, threads=1)}, TEXTS, latency_rows=5, seconds=0.01)
    changes = [name for name, _ in itertools.groupby(calls)]
    assert changes == [name for name, _ in itertools.groupby(name for one in orders(["torch", "export"]) for name in one)]


def test_size_of_an_export_is_what_predictions_need(single_export):
    for int8, name in ((True, "model.int8.onnx"), (False, "model.onnx")):
        found = size(Predictor(single_export, int8=int8))
        needed = sum((single_export / one).stat().st_size for one in (name, "tokenizer.json"))
        assert found["size_mib"] == needed / 2**20
        assert found["parameters"] == json.loads((single_export / "export.json").read_text())["parameters"]


def test_quality_is_of_the_answers(world, single_export, understudy, blink):
    """A model that is right on no row scores 0."""
    rows = [json.loads(line) for line in Path(world.test).read_text("utf-8").splitlines()]
    wrong = {"good": "bad", "bad": "good"}
    data = write_rows(single_export.parent / "wrong.jsonl", [row | {"label": wrong[row["label"]]} for row in rows])
    right, turned = (understudy("benchmark", single_export, "--data", one, "--json").json["models"][0] for one in (world.test, data))
    assert right["quality"]["accuracy"]["value"] == pytest.approx(1 - turned["quality"]["accuracy"]["value"])


def test_memory_of_a_process_that_fails_is_unknown(tmp_path):
    assert peak_memory_mib(str(tmp_path / "nothing"), "int8", TEXTS) is None
