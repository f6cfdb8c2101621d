"""The paired tests: by hand, by an oracle, and where nothing differs."""

from math import comb

import numpy as np
import pytest

from understudy.errors import DataError
from understudy.evaluate.significance import bootstrap_test, gain, mcnemar_p_value, paired_interval
from understudy.tasks.classification import Classification
from understudy.tasks.similarity import Similarity


def test_accuracy_by_hand():
    """Ours is right in all ten rows, the other in four: 6 rows to 0 decide, p = 2 · (1/2)⁶."""
    labels = np.zeros(10, int)
    found = gain(Classification(), "accuracy", labels, np.array([1] * 6 + [0] * 4), labels)
    assert found["value"] == pytest.approx(0.6)
    assert found["p_value"] == pytest.approx(2 / 64)
    assert found["test"] == "McNemar exact"
    assert found["ci95"][0] > 0


@pytest.mark.parametrize(("first", "second"), [(0, 0), (3, 3), (1, 5), (12, 30)])
def test_mcnemar_sums_the_two_tails(first, second):
    n, few = first + second, min(first, second)
    by_sum = min(1.0, 2 * sum(comb(n, k) for k in range(few + 1)) / 2**n)
    assert mcnemar_p_value(first, second) == pytest.approx(by_sum)
    assert mcnemar_p_value(first, second) == pytest.approx(mcnemar_p_value(second, first))


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "matthews"])
def test_no_difference_is_no_gain(metric):
    random = np.random.default_rng(0)
    labels, predictions = random.integers(0, 3, 40), random.integers(0, 3, 40)
    found = gain(Classification(), metric, predictions, predictions, labels)
    assert (found["value"], found["ci95"], found["p_value"]) == (0.0, [0.0, 0.0], 1.0)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_turned_round_it_is_the_opposite(metric):
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 300)
    one, other = (np.where(random.random(300) < right, labels, 0) for right in (0.8, 0.7))
    found, turned = (
        gain(Classification(), metric, *pair, labels, resamples=4000) for pair in ((one, other), (other, one))
    )
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
    assert 0.01 < low < 0.025 and high == pytest.approx(0.025)  # unpaired it would be 0.025 ± 0.035


def test_interval_and_p_agree_with_scipy_for_pearson():
    from scipy.stats import bootstrap, pearsonr

    random = np.random.default_rng(1)
    labels = random.normal(size=200)
    ours, others = labels + random.normal(size=200), labels + 1.3 * random.normal(size=200)

    def difference(ours, others, labels):
        return pearsonr(ours, labels).statistic - pearsonr(others, labels).statistic

    oracle = bootstrap((ours, others, labels), difference, paired=True, vectorized=False, n_resamples=1000,
                       method="percentile", rng=1)  # fmt: skip
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


def tail(successes, trials, chance):
    """P(X ≥ successes) for X ~ Binomial(trials, chance), summed."""
    return sum(comb(trials, k) * chance**k * (1 - chance) ** (trials - k) for k in range(successes, trials + 1))


@pytest.mark.parametrize(("first", "second"), [(4, 0), (9, 1), (9, 2), (12, 30), (31, 31)])
def test_the_interval_is_where_the_tails_of_the_test_are_two_and_a_half_percent(first, second):
    """An oracle: the ends are found by bisection over sums of binomial terms."""
    trials, rows = first + second, 100

    def solve(function):
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if function(middle) < 0.025 else (low, middle)
        return low

    lower = solve(lambda chance: tail(first, trials, chance)) if first else 0.0
    upper = 1 - solve(lambda chance: tail(second, trials, chance)) if second else 1.0
    wanted = [(2 * chance - 1) * trials / rows for chance in (lower, upper)]
    assert paired_interval(first, second, rows) == pytest.approx(wanted, abs=1e-9)


def test_four_rows_to_none_are_no_gain_in_either_figure():
    """The newcomer's case: four discordant rows of 125, p = 0.125; a bootstrap interval left out 0."""
    labels = np.zeros(125, int)
    found = gain(Classification(), "accuracy", labels, np.array([1] * 4 + [0] * 121), labels)
    assert found["p_value"] == pytest.approx(0.125)
    assert found["ci95"][0] < 0 < found["ci95"][1] == pytest.approx(4 / 125)


def test_the_interval_leaves_out_zero_exactly_when_p_is_below_five_percent():
    """The law, for accuracy over all small counts, and for every metric over random rows and random redraws."""
    for first in range(26):
        for second in range(26):
            low, high = paired_interval(first, second, 60)
            assert (not low <= 0 <= high) == (mcnemar_p_value(first, second) < 0.05), (first, second)
            assert low <= (first - second) / 60 <= high
    random = np.random.default_rng(0)
    shown = 0
    for seed in range(60):
        labels = random.integers(0, 3, 60)
        one, other = (np.where(random.random(60) < right, labels, (labels + 1) % 3) for right in (0.85, 0.68))
        metric = ("accuracy", "macro_f1", "matthews")[seed % 3]
        found = gain(Classification(), metric, one, other, labels, seed=seed, resamples=random.integers(30, 500))
        low, high = found["ci95"]
        assert (not low <= 0 <= high) == (found["p_value"] < 0.05)
        shown += found["p_value"] < 0.05
    assert 10 < shown < 55
    for count in [1, 5, 78, 79, 80, 119, 120, 999, 1000, 1999, 2000]:
        for shift in np.linspace(-3, 3, 61):
            differences = np.round(random.normal(size=count) + shift, 1)
            p, (low, high) = bootstrap_test(np.append(differences, np.nan))
            assert (not low <= 0 <= high) == (p < 0.05) and low <= high
