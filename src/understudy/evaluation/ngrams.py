"""The n-gram baseline: what a linear model of words and characters reaches on the same labels, without teacher or network."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from understudy.tasks.probabilities import fit_temperature

if TYPE_CHECKING:
    from datasets import Dataset

    from understudy.tasks import Task

_STRENGTHS = (1.0, 0.3, 0.1)  # of C, tried until one is worse on validation; a ridge's alpha is 1 / C
_MOST_CHARACTERS = 5_000_000  # of training text; more would take minutes and gigabytes
_MIB = 2**20


class NgramModel:
    """Tf-idf of n-grams (words 1–2, characters 2–5, sublinear tf), and a linear model on them.

    Pick it as the floor: a distilled student that does not beat it has not paid for its training. Classes, and labels of
    which a row may have several: a linear SVM, one against the rest. Numbers: ridge regression. A pair is read as the n-grams of either
    text, those that both hold (the product of their weights), those that differ (the absolute difference), and the cosine of the two. It
    is kept in memory only and never written.

    Args:
        vectorizer: fitted, text → weights of n-grams.
        coefficients: (outputs, features), float32.
        intercepts: (outputs,).
        pair: rows have a second text.
        rows: that it was fitted on.
        strength: the C that was best on validation rows.
        seconds: of fitting, the choice of C included.

    Source: Wang and Manning 2012 (ACL), Baselines and Bigrams, for linear models of n-grams as a strong baseline; scikit-learn.
    """

    def __init__(
        self, vectorizer: Any, coefficients: np.ndarray, intercepts: np.ndarray, *, pair: bool, rows: int, strength: float, seconds: float
    ) -> None:
        self.vectorizer, self.coefficients, self.intercepts = vectorizer, coefficients, intercepts
        self.pair, self.rows, self.strength, self.seconds = pair, rows, strength, seconds

    @property
    def parameters(self) -> int:
        """Weights of the linear model and of the inverse document frequencies."""
        return self.coefficients.size + self.intercepts.size + sum(part.idf_.size for part in _parts(self.vectorizer))

    @property
    def size_mib(self) -> float:
        """Size on disk if it were saved uncompressed, in MiB: four bytes a parameter, and the n-grams as UTF-8 lines."""
        terms = sum(len(term.encode()) + 1 for part in _parts(self.vectorizer) for term in part.vocabulary_)
        return (4 * self.parameters + terms) / _MIB

    def logits(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> np.ndarray:
        """Outputs of every row, (rows, outputs): numbers or margins, of one class a row over the temperature that fits validation rows."""
        weights = features(self.vectorizer, texts, pairs if self.pair else None) @ self.coefficients.T
        return np.asarray(weights, np.float32) + self.intercepts


def fit_ngrams(train: Dataset, validation: Dataset, task: Task, metric: str) -> NgramModel | None:
    """Fit on labelled rows; validation rows choose the strength and, for classes, one temperature.

    Args:
        metric: of the task, by which the strength is chosen.

    Returns:
        None where there is nothing to fit: no n-gram in any text, or only one label.
    """
    start = time.perf_counter()
    train = _affordable(train)
    texts, pairs = _sides(train)
    labels, known = np.asarray(train["label"]), np.asarray(validation["label"])
    if len(np.unique(labels, axis=0)) < 2:
        return None
    vectorizer = _vectorizer([*texts, *(pairs or [])])
    if vectorizer is None:
        return None
    inputs, held_out = features(vectorizer, texts, pairs), features(vectorizer, *_sides(validation))
    best: tuple[float, float, np.ndarray, np.ndarray] | None = None
    # For pairs a strong penalty is best, and cheaper to fit: it comes first.
    for strength in _STRENGTHS if pairs is None else reversed(_STRENGTHS):
        coefficients, intercepts = _linear(inputs, labels, strength, task.outputs)
        margins = np.asarray(held_out @ coefficients.T) + intercepts
        value = task.measure(task.decided(margins, task.fit(margins, known)), known).get(metric, 0.0)
        lead = math.inf if best is None else task.metric(metric).lead(value, best[0])
        if lead < 0:
            break
        if lead > 0:
            best = value, strength, coefficients, intercepts
    assert best is not None
    _, strength, coefficients, intercepts = best
    if task.calibrated:
        # Margins are no log-probabilities: one temperature makes them comparable with those of the other models.
        temperature = fit_temperature(np.asarray(held_out @ coefficients.T) + intercepts, known)
        coefficients, intercepts = coefficients / temperature, intercepts / temperature
    return NgramModel(
        vectorizer,
        coefficients.astype(np.float32),
        intercepts.astype(np.float32),
        pair=pairs is not None,
        rows=len(train),
        strength=strength,
        seconds=time.perf_counter() - start,
    )


def features(vectorizer: Any, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Any:
    """Weights of n-grams, a sparse row each; of pairs, of both texts and of what they share."""
    from scipy.sparse import csr_matrix, hstack

    first = vectorizer.transform(texts)
    if pairs is None:
        return first
    second = vectorizer.transform(pairs)
    shared = first.multiply(second).tocsr()
    cosine = csr_matrix(shared.sum(axis=1))
    return hstack([first, second, shared, abs(first - second), cosine], format="csr", dtype=np.float32)


def _linear(inputs: Any, labels: np.ndarray, strength: float, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (outputs, features) and intercepts (outputs,). A class without training rows is never predicted."""
    if labels.dtype.kind == "f":
        from sklearn.linear_model import Ridge

        ridge = Ridge(alpha=1 / strength, solver="sparse_cg").fit(inputs, labels)
        return ridge.coef_[None], np.atleast_1d(ridge.intercept_)
    coefficients, intercepts = np.zeros((outputs, inputs.shape[1])), np.full(outputs, -1e3)
    if labels.ndim == 2:  # each label by itself; one that no row has, or all have, is not learned
        for place in np.flatnonzero(labels.any(axis=0)):
            if labels[:, place].all():
                intercepts[place] = 1e3
                continue
            svm = _svm(strength).fit(inputs, labels[:, place])
            coefficients[place], intercepts[place] = svm.coef_[0], svm.intercept_[0]
        return coefficients, intercepts
    svm = _svm(strength).fit(inputs, labels)
    classes, weights, biases = svm.classes_, svm.coef_, svm.intercept_
    if len(classes) == 2:
        weights, biases = np.vstack([-weights, weights]) / 2, np.concatenate([-biases, biases]) / 2
    coefficients[classes], intercepts[classes] = weights, biases
    return coefficients, intercepts


def _svm(strength: float) -> Any:
    from sklearn.svm import LinearSVC

    # A loose tolerance: the last digits of the weights cost most of the time and decide no row.
    return LinearSVC(C=strength, tol=1e-2, random_state=0)


def _vectorizer(texts: Sequence[str]) -> Any:
    """The n-grams of these texts; None where they hold none. Words are left out where there are none, as between symbols alone."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import FeatureUnion

    shared: dict[str, Any] = {"sublinear_tf": True, "dtype": np.float32}
    parts = {
        "words": TfidfVectorizer(ngram_range=(1, 2), **shared),
        "characters": TfidfVectorizer(analyzer="char", ngram_range=(2, 5), **shared),
    }
    fitted = []
    for name, part in parts.items():
        try:
            fitted.append((name, part.fit(texts)))
        except ValueError:  # an empty vocabulary
            continue
    return FeatureUnion(fitted) if fitted else None


def _parts(vectorizer: Any) -> list[Any]:
    return [part for _, part in vectorizer.transformer_list]


def _sides(rows: Dataset) -> tuple[list[str], list[str] | None]:
    return list(rows["text"]), list(rows["text_pair"]) if "text_pair" in rows.column_names else None


def _affordable(rows: Dataset) -> Dataset:
    """All rows, or so many, drawn at random, that they hold no more text than can be fitted in a minute or so."""
    texts, pairs = _sides(rows)
    lengths = np.array([len(text) for text in texts]) + (np.array([len(text) for text in pairs]) if pairs else 0)
    if lengths.sum() <= _MOST_CHARACTERS:
        return rows
    drawn = np.random.default_rng(0).permutation(len(rows))
    return rows.select(np.sort(drawn[: int(np.searchsorted(np.cumsum(lengths[drawn]), _MOST_CHARACTERS)) + 1]))
