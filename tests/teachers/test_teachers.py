"""What a teacher is made of: models, several models, or a file; and what each is asked."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from scipy.special import log_softmax, softmax

from tiny import LABELS, SECOND_TEXTS, TEXTS, encode, tiny_rows, tiny_teacher
from understudy.data.tables import identity
from understudy.errors import ModelError
from understudy.models.text_model import TextModel
from understudy.teachers.capture import logits_of
from understudy.teachers.teacher import ModelTeacher, combined

ROWS = Dataset.from_dict({"text": TEXTS, "identity": [identity(text) for text in TEXTS]})


# --- what a model says


@pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_logits_hang_on_no_order_and_no_padding(batch_size, pair):
    teacher = tiny_teacher()
    rows = Dataset.from_dict({"text": TEXTS} | ({"text_pair": SECOND_TEXTS} if pair else {}))
    found = logits_of(teacher, rows, batch_size=batch_size)
    with torch.no_grad():
        for place in range(len(TEXTS)):
            alone = encode(teacher, TEXTS[place : place + 1], SECOND_TEXTS[place : place + 1] if pair else None)
            np.testing.assert_allclose(found[place], teacher.model(**alone).logits[0].numpy(), rtol=1e-4, atol=1e-5)
    order = np.random.default_rng(0).permutation(len(TEXTS))
    np.testing.assert_allclose(logits_of(teacher, rows.select(order)), found[order], rtol=1e-4, atol=1e-5)


def test_logits_of_a_training_model_are_without_dropout():
    teacher = tiny_teacher()
    expected = logits_of(teacher, ROWS)
    teacher.model.train()
    np.testing.assert_array_equal(logits_of(teacher, ROWS), expected)


def test_long_rows_come_in_small_batches(monkeypatch):
    from understudy.models import view

    teacher, sizes = tiny_teacher(), []
    forward = teacher.model.forward
    monkeypatch.setattr(view, "BATCH_TOKENS", 40)
    monkeypatch.setattr(teacher.model, "forward", lambda **inputs: sizes.append(inputs["input_ids"].numel()) or forward(**inputs))
    rows = Dataset.from_dict({"text": [row["text"] for row in tiny_rows(30)] + ["fun " * 60]})
    found = logits_of(teacher, rows)
    assert found.shape == (31, 2) and np.isfinite(found).all()
    assert sorted(sizes)[-2] <= 40 and max(sizes) == 62  # one row may be longer than a batch should be


# --- several models


def test_ensembles_by_hand():
    a, b = np.log([[0.8, 0.2]]), np.log([[0.4, 0.6]])
    assert softmax(combined([a, b], "arithmetic")).ravel() == pytest.approx([0.6, 0.4])
    root = np.sqrt([0.8 * 0.4, 0.2 * 0.6])
    assert softmax(combined([a, b], "geometric")).ravel() == pytest.approx(root / root.sum())
    assert combined([a, b], "mean_logits") == pytest.approx((a + b) / 2)


def test_weighted_ensembles_by_hand():
    a, b = np.log([[0.8, 0.2]]), np.log([[0.4, 0.6]])
    assert softmax(combined([a, b], "arithmetic", [1, 3])).ravel() == pytest.approx([0.5, 0.5])
    root = np.array([0.8 * 0.4**3, 0.2 * 0.6**3]) ** 0.25
    assert softmax(combined([a, b], "geometric", [1, 3])).ravel() == pytest.approx(root / root.sum())
    assert combined([a, b], "mean_logits", [1, 3]) == pytest.approx((a + 3 * b) / 4)
    assert combined([np.array([[1.0]]), np.array([[5.0]])], "geometric", [1, 3]).tolist() == [[4.0]]


@pytest.mark.parametrize("combine", ["mean_logits", "arithmetic", "geometric"])
def test_a_weight_is_as_many_members(combine):
    """The oracle knows no weights: a member that counts thrice is there three times."""
    draw = np.random.default_rng(0)
    a, b, c = draw.normal(size=(3, 7, 4)) * 3
    repeated = combined([a, b, b, b, c, c], combine)
    np.testing.assert_allclose(combined([a, b, c], combine, [1, 3, 2]), repeated, rtol=1e-10)
    np.testing.assert_allclose(combined([a, b, c], combine, [0.5, 1.5, 1]), repeated, rtol=1e-10)
    np.testing.assert_allclose(combined([a, b, c], combine, [7, 7, 7]), combined([a, b, c], combine), rtol=1e-10)


def test_one_model_says_what_it_says_whatever_its_weight():
    model = tiny_teacher()
    said = ModelTeacher([model], "arithmetic", [0.3]).logits(ROWS, device="cpu")
    np.testing.assert_allclose(said, logits_of(model, ROWS), rtol=1e-6)


def test_probability_means_see_no_constant_of_a_member():
    a, b = np.log([[0.8, 0.2]]), np.log([[0.4, 0.6]])
    for combine in ("arithmetic", "geometric"):
        np.testing.assert_allclose(softmax(combined([a + 7, b], combine), -1), softmax(combined([a, b], combine), -1))


def test_numbers_are_averaged_however_one_combines():
    for combine in ("mean_logits", "arithmetic", "geometric"):
        assert combined([np.array([[1.0]]), np.array([[4.0]])], combine).tolist() == [[2.5]]


@pytest.mark.parametrize("combine", ["mean_logits", "arithmetic", "geometric"])
def test_an_ensemble_of_models(combine):
    models = [tiny_teacher(seed=1), tiny_teacher(seed=2)]
    teacher = ModelTeacher(models, combine)
    expected = combined([logits_of(model, ROWS) for model in models], combine)
    np.testing.assert_allclose(teacher.logits(ROWS, device="cpu"), expected, rtol=1e-5)
    weighted = ModelTeacher(models, combine, [1.0, 4.0]).logits(ROWS, device="cpu")
    assert weighted.dtype == np.float32 and not np.allclose(weighted, expected, atol=0.01)
    assert teacher.label_names == LABELS and teacher.model is models[0]
    assert not np.allclose(log_softmax(expected, -1), log_softmax(logits_of(models[0], ROWS), -1), atol=0.01)


def test_fingerprints_tell_ensembles_apart():
    one, two = tiny_teacher(seed=1), tiny_teacher(seed=2)
    prints = [
        ModelTeacher([one]).fingerprint,
        ModelTeacher([two]).fingerprint,
        ModelTeacher([one, two]).fingerprint,
        ModelTeacher([two, one]).fingerprint,
        ModelTeacher([one, two], "geometric").fingerprint,
        ModelTeacher([one, two], weights=[1.0, 2.0]).fingerprint,
        ModelTeacher([one, two], weights=[2.0, 1.0]).fingerprint,
        ModelTeacher([TextModel(one.model, one.tokenizer, 16)]).fingerprint,
    ]
    assert len({json.dumps(one, sort_keys=True) for one in prints}) == len(prints)
    assert ModelTeacher([tiny_teacher(seed=1)]).fingerprint == prints[0]
    # As before there were weights, so that what was kept then stays valid.
    assert prints[2].keys() == {"combine", "model 1", "model 2"}


def test_members_with_other_labels_are_refused():
    with pytest.raises(ModelError, match="teacher 2 has the labels good, bad, the first has bad, good"):
        ModelTeacher([tiny_teacher(), tiny_teacher(label_names=("good", "bad"))])
