"""Vocabularies pruned to given texts, and probabilities scaled by a temperature."""

import json

import numpy as np
import pytest

from tiny import LABELS, TEXTS, logits, tiny_teacher
from understudy.errors import DataError
from understudy.exporting.pruning import pruned
from understudy.models.text_model import TextModel
from understudy.programs.export import export
from understudy.runtime import Predictor


@pytest.mark.parametrize("kind", ["teacher", "bilstm", "static_embeddings"])
def test_the_texts_kept_get_the_same_answers(kind, build):
    model = tiny_teacher() if kind == "teacher" else build(kind, vocabulary="teacher")
    before = logits(model).numpy()
    small = pruned(model, TEXTS)
    assert len(small.tokenizer) < len(model.tokenizer) and small.parameters < model.parameters
    np.testing.assert_allclose(logits(small).numpy(), before, atol=1e-6)
    np.testing.assert_array_equal(logits(model).numpy(), before)  # the model itself is left as it was


def test_no_texts():
    with pytest.raises(DataError, match="no texts to keep the tokens of"):
        pruned(tiny_teacher(), [])


@pytest.fixture(scope="module")
def model(world, tmp_path_factory) -> str:
    from understudy import parts
    from understudy.students import Blueprint

    folder = tmp_path_factory.mktemp("pruning") / "model"
    blueprint = Blueprint(TEXTS, LABELS, max_length=32, teacher=TextModel.load(world.teacher))
    kind = parts.part("students", "static_embeddings")(width=16, hidden=16, vocabulary="teacher")
    kind.build(blueprint).save(folder)
    return str(folder)


def test_pruned_and_calibrated(model, world, tmp_path, understudy):
    words = ["export", model, "--data", world.validation, "--prune", world.train, "--calibrate", "--out", tmp_path / "out"]
    said = understudy(*words)
    assert said.code == 0, said.err
    about = json.loads((tmp_path / "out" / "export.json").read_text())
    kept, whole = about["pruning"]["tokens"][::-1]
    assert kept < whole and f"pruned to {kept:,} of {whole:,} tokens" in said.out
    assert about["pruning"]["passed"] and about["parity"]["float32"]["passed"]
    temperature = about["calibration"]["temperature"]
    assert temperature != 1 and f"temperature {temperature:.3g}" in said.out
    assert about["calibration"]["nll_scaled"] < about["calibration"]["nll"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"pruned to {kept:,}" in card and "before the softmax" in card

    predictor = Predictor(tmp_path / "out", threads=1)
    scaled = np.exp(predictor.logits(TEXTS) / temperature)
    for answer, row in zip(predictor.predict(TEXTS), scaled / scaled.sum(axis=1, keepdims=True), strict=True):
        np.testing.assert_allclose(list(answer["probabilities"].values()), row, atol=1e-6)
        assert answer["label"] == LABELS[row.argmax()]


def test_pruning_that_changes_the_answers_is_refused(world, tmp_path, understudy, kept_graphs):
    (tmp_path / "one.txt").write_text("zebra\n")
    words = ["export", world.teacher, "--data", world.validation, "--prune", tmp_path / "one.txt", "--out", tmp_path / "out"]
    said = understudy(*words)
    assert (said.code, said.out) == (1, "") and not (tmp_path / "out").exists()
    assert "the pruned model does not match the original: it matches the model on" in said.err and "--allow-loss" in said.err
    said = understudy(*words, "--allow-loss", "--json")
    assert said.code == 0 and json.loads(said.out)["pruning"]["passed"] is False


def test_numbers_have_no_temperature(number_world, tmp_path):
    with pytest.raises(DataError, match="calibration needs rows with class labels"):
        export(number_world.teacher, tmp_path / "out", data=number_world.validation, calibrate=True)
    assert not list(tmp_path.iterdir())
