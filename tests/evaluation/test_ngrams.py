"""The n-gram baseline: what it reads, what it learns, and that it is never in the way."""

import numpy as np
import pytest
from datasets import Dataset

from tiny import LABELS, tiny_rows
from understudy.evaluation.ngrams import features, fit_ngrams
from understudy.tasks.classification import Classification
from understudy.tasks.similarity import Similarity


def rows_of(rows):
    number = isinstance(rows[0]["label"], float)
    return Dataset.from_list([row | {"label": row["label"] if number else LABELS.index(row["label"])} for row in rows])


def fit(train, validation, task=None, metric="accuracy"):
    return fit_ngrams(train, validation, task or Classification(LABELS), metric)


def scored(model, rows, task, metric):
    pairs = list(rows["text_pair"]) if "text_pair" in rows.column_names else None
    return task.measure(model.logits(list(rows["text"]), pairs), np.asarray(rows["label"]))[metric]


@pytest.mark.parametrize("pair", [False, True])
def test_it_learns_classes(pair):
    train, validation, test = (rows_of(tiny_rows(count, seed=seed, pair=pair)) for count, seed in ((200, 0), (60, 1), (100, 2)))
    model = fit(train, validation)
    assert scored(model, test, Classification(), "accuracy") > 0.9
    assert model.rows == 200 and model.seconds > 0 and model.pair == pair and 0 < model.size_mib < 2


def test_it_learns_numbers():
    train, validation, test = (rows_of(tiny_rows(count, seed=seed, number=True)) for count, seed in ((200, 0), (60, 1), (100, 2)))
    assert scored(fit(train, validation, Similarity(), "pearson"), test, Similarity(), "pearson") > 0.8


def test_what_two_texts_share_is_a_feature():
    """Paraphrase or not: no single word tells it, only whether both texts hold the same ones."""
    random = np.random.default_rng(0)
    words = [f"word{number}" for number in range(40)]

    def made(count):
        rows = []
        for number in range(count):
            first = random.choice(words, 5, replace=False)
            second = random.permutation(first) if number % 2 else random.choice(words, 5, replace=False)
            rows.append({"text": " ".join(first), "text_pair": " ".join(second), "label": number % 2})
        return Dataset.from_list(rows)

    model = fit(made(300), made(50))
    assert scored(model, made(100), Classification(), "accuracy") > 0.95


def test_chinese_is_read_by_characters():
    rows = [{"text": f"这家酒店{'很好' if number % 2 else '太差'}，第{number}次", "label": number % 2} for number in range(40)]
    model = fit(Dataset.from_list(rows), Dataset.from_list(rows))
    assert model.logits(["早餐很好", "房间太差"]).argmax(axis=1).tolist() == [1, 0]


@pytest.mark.parametrize(
    "rows",
    [
        [{"text": "a", "label": 0}, {"text": "b", "label": 1}],  # nothing of two characters, no word of two
        [{"text": "good film", "label": 1}, {"text": "fine film", "label": 1}],  # one class
    ],
)
def test_nothing_to_learn_from_is_no_error(rows):
    assert fit(Dataset.from_list(rows), Dataset.from_list(rows)) is None


def test_a_class_without_rows_is_never_chosen_and_the_others_keep_their_places():
    rows = [{"text": f"{word} film {number}", "label": label} for number in range(10) for word, label in (("bad", 1), ("fine", 3))]
    model = fit(Dataset.from_list(rows), Dataset.from_list(rows), Classification("abcde"))
    outputs = model.logits(["bad film", "fine film", "unknown"])
    assert outputs.shape == (3, 5) and np.isfinite(outputs).all()
    assert outputs.argmax(axis=1)[:2].tolist() == [1, 3] and outputs.argmax(axis=1)[2] in (1, 3)


def test_parts_of_a_pair_by_hand():
    model = fit(*[rows_of(tiny_rows(40, pair=True))] * 2)
    width = features(model.vectorizer, ["x"]).shape[1]
    first, second, shared, apart, cosine = np.split(
        features(model.vectorizer, ["a dull film"], ["a dull plot"]).toarray()[0], [width, 2 * width, 3 * width, 4 * width]
    )
    assert shared == pytest.approx(first * second) and apart == pytest.approx(abs(first - second))
    assert cosine == pytest.approx(first @ second) and model.coefficients.shape == (2, 4 * width + 1)


def test_the_same_rows_give_the_same_model():
    rows = rows_of(tiny_rows(80))
    one, other = (fit(rows, rows) for _ in range(2))
    assert (one.coefficients == other.coefficients).all() and one.strength == other.strength


def test_more_text_than_can_be_afforded_is_drawn_from(monkeypatch):
    monkeypatch.setattr("understudy.evaluation.ngrams._MOST_CHARACTERS", 1000)
    rows = rows_of(tiny_rows(200))
    model = fit(rows, rows)
    assert 10 < model.rows < 60 and scored(model, rows, Classification(), "accuracy") > 0.6
