"""Values by hand, redraws against scikit-learn and scipy, intervals against the binomial."""

from itertools import product

import numpy as np
import pytest

from understudy.errors import DataError, ModelError
from understudy.evaluation.quality import quality, redraws
from understudy.evaluation.summary import summarise
from understudy.tasks import Metric, metric_named
from understudy.tasks.classification import Classification
from understudy.tasks.similarity import Similarity


def logits_for(predictions, classes):
    return np.eye(classes)[predictions]


def test_by_hand():
    found = quality(Classification(), logits_for([0, 1, 1, 1], 2), np.array([0, 0, 1, 1]))
    assert found["accuracy"]["value"] == 0.75
    assert found["macro_f1"]["value"] == pytest.approx((2 / 3 + 4 / 5) / 2)
    low, high = found["accuracy"]["ci95"]
    assert 0 <= low < 0.75 < high <= 1


@pytest.mark.parametrize(
    ("task", "logits", "labels"),
    [
        (Classification(), np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 2, 0])),
        (Similarity(), np.array([[1.0], [2.0], [4.0]]), np.array([1.0, 2.0, 4.0])),
    ],
)
def test_perfect_predictions_score_one(task, logits, labels):
    found = quality(task, logits, labels)
    assert all(metric["value"] == pytest.approx(1) for metric in found.values())
    assert found[task.metrics[0].name]["ci95"][1] == pytest.approx(1)


@pytest.mark.parametrize("classes", [2, 5])
def test_redraws_agree_with_scikit_learn(classes):
    """One redraw by the counts, and the same rows spelt out."""
    random = np.random.default_rng(classes)
    labels, predictions = random.integers(0, classes, 12), random.integers(0, classes, 12)
    assert_redraws_agree(Classification(), logits_for(predictions, classes), labels, by_scikit_learn)


def test_redraws_agree_with_scipy():
    random = np.random.default_rng(0)
    outputs = random.integers(0, 4, (9, 1)) * 1e-4 + 1000
    assert_redraws_agree(Similarity(), outputs, random.integers(0, 4, 9).astype(float), by_scipy)


def assert_redraws_agree(task, outputs, labels, oracle):
    predictions = task.predictions(outputs)
    (found,) = redraws(task, labels, outputs, seed=3, resamples=60)
    distinct, counts = np.unique(np.column_stack([labels, predictions]), axis=0, return_counts=True)
    weights = np.random.default_rng(3).multinomial(len(labels), counts / len(labels), size=60)
    for index, weight in enumerate(weights):
        rows = np.repeat(distinct, weight, axis=0)
        for name, value in oracle(rows[:, 1], rows[:, 0]).items():
            if name in found:  # a redraw without class 2 has an `f1` that the whole does not
                assert found[name][index] == pytest.approx(value, abs=1e-7), (name, index)


def by_scikit_learn(predictions, labels):
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, precision_recall_fscore_support

    found = {"accuracy": accuracy_score(labels, predictions)}
    for average in ("macro", "weighted"):
        columns = precision_recall_fscore_support(labels, predictions, labels=np.unique(labels), average=average, zero_division=0.0)
        found |= dict(zip([f"{average}_{name}" for name in ("precision", "recall", "f1")], columns, strict=False))
    one_class = len(np.unique(labels)) == 1 and (predictions == labels).all()
    found["matthews"] = 1.0 if one_class else matthews_corrcoef(labels, predictions)
    if set(np.union1d(labels, predictions)) <= {0, 1}:
        found["f1"] = f1_score(labels, predictions, zero_division=1.0)
    return found


def by_scipy(predictions, labels):
    from scipy.stats import pearsonr, spearmanr

    if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
        return {"pearson": 0.0, "spearman": 0.0}
    return {"pearson": pearsonr(predictions, labels).statistic, "spearman": spearmanr(predictions, labels).statistic}


def test_metrics_of_sums_are_those_of_scikit_learn_and_scipy():
    """The law, to 1e-9: models from blind to perfect, labels of one class to many, numbers far from zero and with ties."""
    random = np.random.default_rng(0)
    for rows, classes, skill in product((1, 2, 9, 200), (2, 3, 40), (0.0, 0.6, 1.0)):
        labels = random.integers(0, classes, rows) if rows != 9 else np.full(rows, classes - 1)
        predictions = np.where(random.random(rows) < skill, labels, random.integers(0, classes, rows))
        found = Classification().measure(logits_for(predictions, classes), labels)
        assert found == pytest.approx(by_scikit_learn(predictions, labels), abs=1e-9), (rows, classes, skill)
        numbers = labels * 1e-3 + 1e3
        outputs = numbers + (1 - skill) * np.round(random.normal(size=rows), 1)
        assert Similarity().measure(outputs[:, None], numbers) == pytest.approx(by_scipy(outputs, numbers), abs=1e-9)


def test_interval_of_accuracy_by_hand():
    """Wilson: (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n), with p = 0.8, n = 500."""
    found = quality(Classification(), logits_for([0] * 400 + [1] * 100, 2), np.zeros(500, int))
    z2 = 1.959964**2
    centre, half = 0.8 + z2 / 1000, (z2 * (0.16 / 500 + z2 / 1e6)) ** 0.5
    wanted = [(centre + sign * half) / (1 + z2 / 500) for sign in (-1, 1)]
    assert found["accuracy"]["ci95"] == pytest.approx(wanted, abs=1e-6)
    perfect = quality(Classification(), logits_for([0] * 10 + [1] * 10, 2), np.repeat([0, 1], 10))
    assert perfect["accuracy"]["ci95"] == pytest.approx([1 / (1 + z2 / 20), 1])


@pytest.mark.parametrize("rows", [1, 2, 7, 40])
@pytest.mark.parametrize("case", ["perfect", "wrong", "constant", "one wrong"])
def test_no_interval_is_a_point(rows, case):
    """The law, over every metric: it holds the value, stays within the metric's range, and has a width."""
    for task, labels in (
        (Classification(), np.arange(rows) % 3),
        (Classification(), np.arange(rows) % 2),
        (Similarity(), np.arange(rows, dtype=float)),
    ):
        predictions = {
            "perfect": labels,
            "wrong": labels[::-1] + 1,
            "constant": labels * 0,
            "one wrong": np.where(np.arange(rows) == 0, labels + 1, labels),
        }[case]
        logits = predictions[:, None] if task.answer().kind == "number" else logits_for(predictions, 4)
        for name, found in quality(task, logits, labels, resamples=200).items():
            low, high = found["ci95"]
            lowest = task.metric(name).least
            width = 1 / (rows + 4) if task.answer().kind == "class" else 1e-4
            assert lowest <= low <= found["value"] <= high <= 1 and high - low > width, (name, low, high)


def test_at_the_ceiling_f1_of_a_rare_class_is_less_sure_than_accuracy():
    labels = np.array([0] * 497 + [1] * 3)
    found = {name: one["ci95"][0] for name, one in quality(Classification(), logits_for(labels, 2), labels).items()}
    assert found["f1"] < 0.7 < found["macro_f1"] < 0.9 and found["accuracy"] > 0.99


def test_interval_of_pearson_is_that_of_scipy():
    from scipy.stats import bootstrap, pearsonr

    random = np.random.default_rng(0)
    labels = random.normal(size=300)
    predictions = labels + random.normal(size=300)
    oracle = bootstrap(
        (labels, predictions),
        lambda x, y: pearsonr(x, y).statistic,
        paired=True,
        vectorized=False,
        n_resamples=1000,
        method="percentile",
        rng=1,
    ).confidence_interval
    found = quality(Similarity(), predictions[:, None], labels)
    assert found["pearson"]["ci95"] == pytest.approx([oracle.low, oracle.high], abs=0.015)


def test_the_seed_decides():
    random = np.random.default_rng(0)
    labels, logits = random.integers(0, 3, 50), random.normal(size=(50, 3))
    assert quality(Classification(), logits, labels) == quality(Classification(), logits, labels, seed=0)
    assert quality(Classification(), logits, labels) != quality(Classification(), logits, labels, seed=1)


def test_a_task_with_a_metric_of_its_own():
    class Hits(Classification):
        metrics = (Metric("hits", "hits"), Metric("misses", "misses", better="lower", unit="number", most=None))

        def measured(self, totals):
            hits = super().measured(totals)["accuracy"]
            return {"hits": hits, "misses": 100 * (1 - hits)}

    found = quality(Hits(), logits_for([0] * 80 + [1] * 20, 2), np.zeros(100, int))
    assert found["hits"]["value"] == 0.8 and found["misses"]["value"] == pytest.approx(20)
    assert found["hits"]["ci95"] == pytest.approx([0.72, 0.88], abs=0.03)
    assert found["misses"]["ci95"] == pytest.approx([12, 28], abs=3)
    perfect = quality(Hits(), logits_for([0] * 100, 2), np.zeros(100, int))
    assert perfect["misses"]["value"] == perfect["misses"]["ci95"][0] == 0 < perfect["misses"]["ci95"][1]


@pytest.mark.parametrize(
    ("logits", "labels", "error", "words"),
    [
        (np.zeros((0, 2)), np.zeros(0, int), DataError, "no rows"),
        (np.zeros((2, 2)), np.zeros(3, int), DataError, "2 model outputs for 3 labels"),
        (np.array([[0, 1], [np.nan, 0]]), np.zeros(2, int), ModelError, "row 2 is not a finite number"),
    ],
)
def test_what_cannot_be_measured_is_refused(logits, labels, error, words):
    with pytest.raises(error, match=words):
        quality(Classification(), logits, labels)


def test_summary_by_hand():
    models = {
        "teacher": {"quality": {"accuracy": {"value": 0.8}}, "size_mib": 90.0, "rows_per_second": 100.0},
        "student": {"quality": {"accuracy": {"value": 0.6}}, "size_mib": 9.0, "rows_per_second": 4000.0},
    }
    known = {"kept_fraction": 0.75, "times_smaller": 10.0, "times_faster": 40.0}
    unknown = {"times_faster_exported": None, "times_faster_int8": None}
    assert without_devices(summarise(models, metric_named("accuracy"))) == pytest.approx(known | unknown)
    models |= {"student_onnx": {"rows_per_second": 5000.0}, "teacher_onnx_int8": {"rows_per_second": 500.0}}
    assert without_devices(summarise(models, metric_named("accuracy"))) == pytest.approx(known | unknown | {"times_faster_exported": 50.0})
    models["student_onnx_int8"] = {"rows_per_second": 8000.0}
    assert without_devices(summarise(models, metric_named("accuracy"))) == pytest.approx(
        known | {"times_faster_exported": 80.0, "times_faster_int8": 16.0}
    )
    models = {"teacher": None, "student": models["student"]}
    assert set(without_devices(summarise(models, metric_named("accuracy"))).values()) == {None}


def without_devices(summary):
    assert summary.pop("times_devices") == summary.pop("times_ranges") == {}
    return summary


def test_the_devices_of_a_ratio_go_with_it():
    models = {
        "teacher": {"rows_per_second": 900.0, "device": "cuda"},
        "student": {"rows_per_second": 2000.0, "device": "cuda"},
        "student_onnx_int8": {"rows_per_second": 1800.0, "device": "cpu"},
    }
    found = summarise(models, metric_named("accuracy"))
    assert found["times_devices"] == {"times_faster": ["cuda", "cuda"], "times_faster_exported": ["cpu", "cuda"]}


def test_the_range_of_a_ratio_is_from_the_rounds_of_both_sides():
    models = {
        "teacher": {"rows_per_second": 100.0, "rows_per_second_range": [50.0, 110.0]},
        "student": {"rows_per_second": 4000.0, "rows_per_second_range": [3300.0, 4200.0]},
        "student_onnx": {"rows_per_second": 5000.0},
    }
    found = summarise(models, metric_named("accuracy"))
    assert found["times_ranges"] == {"times_faster": [30.0, 84.0]}
    assert found["times_ranges"]["times_faster"][0] < found["times_faster"] < found["times_ranges"]["times_faster"][1]


@pytest.mark.parametrize(
    ("task", "outputs", "others", "agreement"),
    [
        (Classification(), np.eye(2)[[0, 1, 1, 1]], np.eye(2)[[0, 0, 0, 1]], 0.5),
        (Similarity(), np.array([[3.0], [5.0], [9.0]]), np.array([[1.0], [2.0], [4.0]]), 1.0),
        (Similarity(), np.ones((3, 1)), np.array([[1.0], [2.0], [4.0]]), 0.0),
        (Similarity(), np.ones((3, 1)), np.ones((3, 1)), 1.0),
    ],
)
def test_agreement_by_hand(task, outputs, others, agreement):
    assert task.agreement(outputs, others) == pytest.approx(agreement)


def test_what_is_kept_of_a_metric_that_should_be_low_is_no_share():
    models = {name: {"quality": {"perplexity": {"value": value}}} for name, value in (("teacher", 20.0), ("student", 25.0))}
    assert summarise(models, Metric("perplexity", "perplexity", "lower", "number", 1.0, None))["kept_fraction"] is None
