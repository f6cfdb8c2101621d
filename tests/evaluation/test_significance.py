"""The paired tests: by hand, by an oracle, and where nothing differs."""

from itertools import product

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest, multinomial, norm

from understudy.errors import DataError
from understudy.evaluation.significance import bootstrap_test, mcnemar_p_value, paired_interval
from understudy.evaluation.significance import gain as gain_of_outputs
from understudy.tasks import Metric
from understudy.tasks.classification import Classification
from understudy.tasks.similarity import Similarity


def gain(task, metric, predictions, others, labels, **settings):
    """Of models that predict these classes, or numbers."""
    classes = int(max(np.max(predictions), np.max(others), np.max(labels))) + 1
    outputs = [one[:, None] if task.answer().kind == "number" else np.eye(classes)[one] for one in (predictions, others)]
    return gain_of_outputs(task, metric, *outputs, labels, **settings)


def test_accuracy_by_hand():
    """Ours is right in all ten rows, the other in four: 6 rows to 0 decide, z = 5 / √6."""
    labels = np.zeros(10, int)
    found = gain(Classification(), "accuracy", labels, np.array([1] * 6 + [0] * 4), labels)
    assert found["value"] == pytest.approx(0.6)
    assert found["p_value"] == pytest.approx(2 * norm.sf(5 / 6**0.5))
    assert found["test"] == "McNemar with continuity correction"
    assert 0 < found["ci95"][0] < 0.6 < found["ci95"][1]


def test_mcnemar_is_close_to_the_exact_test():
    for first, second in product(range(40), repeat=2):
        exact = binomtest(first, first + second).pvalue if first + second else 1.0
        assert mcnemar_p_value(first, second) == mcnemar_p_value(second, first)
        if exact < 0.2:
            assert mcnemar_p_value(first, second) == pytest.approx(exact, abs=0.015), (first, second)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "matthews"])
def test_it_does_not_matter_which_is_named_first(metric):
    random = np.random.default_rng(1)
    for rows in (7, 20, 60):
        labels, *sides = random.integers(0, 3, (3, rows))
        there, back = (gain(Classification(), metric, *pair, labels, resamples=300) for pair in (sides, sides[::-1]))
        assert there["value"] == -back["value"] and there["p_value"] == back["p_value"]
        assert there["ci95"] == pytest.approx([-end for end in back["ci95"][::-1]])


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "matthews"])
def test_no_difference_is_no_gain(metric):
    """Equal predictions on 40 rows do not show that the models are equal: rows on which they differ may be 9 %."""
    random = np.random.default_rng(0)
    labels, predictions = random.integers(0, 3, 40), random.integers(0, 3, 40)
    found = gain(Classification(), metric, predictions, predictions, labels)
    low, high = found["ci95"]
    assert (found["value"], found["p_value"]) == (0.0, 1.0) and low == pytest.approx(-high)
    assert 3.84 / 43.84 - 0.001 < high < 0.2


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_turned_round_it_is_the_opposite(metric):
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 300)
    one, other = (np.where(random.random(300) < right, labels, 0) for right in (0.8, 0.7))
    found, turned = (gain(Classification(), metric, *pair, labels, resamples=4000) for pair in ((one, other), (other, one)))
    assert found["value"] == pytest.approx(-turned["value"])
    assert found["ci95"] == pytest.approx([-end for end in reversed(turned["ci95"])], abs=0.01)
    assert found["p_value"] == pytest.approx(turned["p_value"], abs=0.01)


def test_pairing_narrows_the_interval():
    """Two models that err on almost the same rows differ surely, though each alone is uncertain."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 1000)
    other = np.where(random.random(1000) < 0.8, labels, 1 - labels)
    wrong = np.flatnonzero(other != labels)[:25]
    better = other.copy()
    better[wrong] = labels[wrong]
    low, high = gain(Classification(), "accuracy", better, other, labels)["ci95"]
    assert 0.01 < low < 0.025 < high < 0.04  # unpaired it would be 0.025 ± 0.035


def test_interval_and_p_agree_with_scipy_for_pearson():
    from scipy.stats import bootstrap, pearsonr

    random = np.random.default_rng(1)
    labels = random.normal(size=200)
    ours, others = labels + random.normal(size=200), labels + 1.3 * random.normal(size=200)

    def difference(ours, others, labels):
        return pearsonr(ours, labels).statistic - pearsonr(others, labels).statistic

    oracle = bootstrap((ours, others, labels), difference, paired=True, vectorized=False, n_resamples=1000, method="percentile", rng=1)
    found = gain(Similarity(), "pearson", ours, others, labels)
    assert found["value"] == pytest.approx(difference(ours, others, labels))
    assert found["ci95"] == pytest.approx(list(oracle.confidence_interval), abs=0.02)
    assert found["p_value"] == pytest.approx(2 * (oracle.bootstrap_distribution <= 0).mean(), abs=0.03)


def test_p_is_uniform_when_neither_is_better():
    """Of 200 pairs of equally good models about 5 % come out below 0.05."""
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], 100)
    p_values = []
    for seed in range(200):
        one, other = (np.where(random.random(200) < 0.8, labels, 1 - labels) for _ in range(2))
        p_values.append(gain(Classification(), "macro_f1", one, other, labels, seed=seed, resamples=500)["p_value"])
    assert 0.01 < np.mean(np.array(p_values) < 0.05) < 0.1


def test_an_unknown_metric_is_refused():
    labels = np.array([0, 1, 2])
    with pytest.raises(DataError, match="Did you mean 'macro_f1'"):
        gain(Classification(), "makro_f1", labels, labels, labels)


@pytest.mark.parametrize(("first", "second", "rows"), [(4, 0, 40), (9, 2, 50), (12, 30, 300), (0, 0, 20), (20, 0, 20)])
def test_the_interval_is_all_that_the_score_test_does_not_reject(first, second, rows):
    """An oracle: for each difference the likeliest share is searched, and the statistic computed from it."""

    def z(difference):
        def unlikely(share):  # −log likelihood; `share`: rows on which only the second is right
            shares = share + difference, share, 1 - difference - 2 * share
            counts = first, second, rows - first - second
            return -sum(count * np.log(max(one, 1e-300)) for count, one in zip(counts, shares, strict=True) if count)

        ends = max(0.0, -difference), (1 - difference) / 2
        share = minimize_scalar(unlikely, bounds=ends, method="bounded", options={"xatol": 1e-12}).x
        return (abs(first - second - rows * difference) - 1) / np.sqrt(rows * (2 * share + difference - difference**2))

    low, high = paired_interval(first, second, rows)
    for end, outside in ((low, -0.002), (high, 0.002)):
        if abs(end) < 1:
            assert z(end - outside) < 1.96 < z(end + outside)


def test_the_interval_covers_the_difference():
    """Full enumeration of small tests, and draws of larger ones: 95 % or more, whatever the models are."""
    shares = [(p, q) for p, q in product((0, 0.01, 0.05, 0.1, 0.2, 0.4), repeat=2) if q <= p]
    for rows in (1, 2, 5, 12, 30):
        tables = np.array([(b, c, rows - b - c) for b in range(rows + 1) for c in range(rows + 1 - b)])
        low, high = np.array([paired_interval(b, c, rows) for b, c, _ in tables]).T
        for p, q in shares:
            chance = multinomial.pmf(tables, rows, [p, q, 1 - p - q])
            assert chance[(low <= p - q + 1e-9) & (p - q - 1e-9 <= high)].sum() > 0.95, (rows, p, q)
    random = np.random.default_rng(0)
    for p, q in shares:
        drawn = random.multinomial(300, [p, q, 1 - p - q], size=300)
        ends = [paired_interval(int(b), int(c), 300) for b, c, _ in drawn]
        assert np.mean([low <= p - q <= high for low, high in ends]) > 0.93, (p, q)


def test_four_rows_to_none_are_no_gain_in_either_figure():
    """The newcomer's case: four discordant rows of 125, p = 0.125 exactly; a bootstrap interval left out 0."""
    labels = np.repeat([0, 1], [100, 25])
    other = np.where(np.arange(125) < 4, 1, labels)
    for metric in ("accuracy", "macro_f1", "f1", "matthews"):
        found = gain(Classification(), metric, labels, other, labels)
        assert 0.12 < found["p_value"] < 0.14
        assert found["ci95"][0] <= 0 < found["value"] < found["ci95"][1]


def test_the_interval_leaves_out_zero_exactly_when_p_is_below_five_percent():
    """The law, for accuracy over all tables of up to 24 rows, and for every metric over random rows and random redraws.

    The interval also holds the estimate, stays within −1 and 1, and is no point.
    """
    for rows in range(1, 25):
        for first, second in product(range(rows + 1), repeat=2):
            if first + second <= rows:
                low, high = paired_interval(first, second, rows)
                assert (not low <= 0 <= high) == (mcnemar_p_value(first, second) < 0.05), (first, second, rows)
                assert -1 <= low <= (first - second) / rows <= high <= 1 and high - low > 1 / rows
    random = np.random.default_rng(0)
    shown = 0
    for seed in range(60):
        labels = random.integers(0, 3, 60)
        one, other = (np.where(random.random(60) < right, labels, (labels + 1) % 3) for right in (0.85, 0.68))
        metric = ("accuracy", "macro_f1", "matthews")[seed % 3]
        found = gain(Classification(), metric, one, other, labels, seed=seed, resamples=random.integers(30, 500))
        low, high = found["ci95"]
        assert (not low <= 0 <= high) == (found["p_value"] < 0.05)
        assert low <= found["value"] <= high and high - low > 0.01
        shown += found["p_value"] < 0.05
    assert 10 < shown < 55
    for count in [1, 5, 78, 79, 80, 119, 120, 999, 1000, 1999, 2000]:
        for shift in np.linspace(-3, 3, 61):
            differences = np.round(random.normal(size=count) + shift, 1)
            p, (low, high) = bootstrap_test(np.append(differences, np.nan))
            assert (not low <= 0 <= high) == (p < 0.05) and low <= high


def test_where_lower_is_better_the_lower_one_gains():
    class Misses(Classification):
        metrics = (Metric("misses", "misses", better="lower", unit="number", most=None), Metric("macro_f1", "macro F1"))

        def measured(self, totals):
            found = super().measured(totals)
            return {"misses": 100 * (1 - found["accuracy"]), "macro_f1": found["macro_f1"]}

    labels = np.repeat([0, 1], 60)
    better, worse = (np.where(np.arange(120) % step == 0, 1 - labels, labels) for step in (10, 3))
    found = gain(Misses(), "misses", better, worse, labels)
    assert found["value"] == pytest.approx(100 * (40 - 12) / 120) and found["ci95"][0] > 0 and found["p_value"] < 0.01
    assert gain(Misses(), "misses", worse, better, labels)["value"] < 0
