"""Multinomial logistic regression on features: strength by cross-validation, scores calibrated by a temperature.

Everything that is said of the classifier's accuracy comes from predictions for photos that it had not seen: the photos
are divided into folds, and those of each fold are predicted by a classifier that learned from the others. Near
duplicates are in one fold, since a classifier that has seen one of them knows the other.

Sources: Guo et al., *On Calibration of Modern Neural Networks* (arXiv 1706.04599), for the temperature; Platt,
*Probabilistic Outputs for Support Vector Machines* (1999), section 2.2, for its targets; Tibshirani and Tibshirani, *A
bias correction for the minimum error rate in cross-validation* (arXiv 0908.2904), for the error that choosing hides.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from npmnv2.errors import MissingPackageError

Matrix = NDArray[np.float64]
Labels = NDArray[np.intp]

# Inverse strengths C, as scikit-learn counts them, for features whose mean square length is 1.
INVERSE_STRENGTHS = (1.0, 10.0, 30.0, 100.0, 300.0, 1000.0)

_ITERATIONS = 1000

# The logit of a class of which a fold has nothing to learn from.
_NEVER = -1e4
_LARGEST_LOG_TEMPERATURE = 3.0


class LinearClassifier(NamedTuple):
    """Logits are ``features @ kernel + bias``; kernel (C, classes), bias (classes,)."""

    kernel: Matrix
    bias: Matrix

    def logits(self, features: Matrix) -> Matrix:
        """Logits (N, classes) of features (N, C)."""
        found: Matrix = features @ self.kernel + self.bias
        return found

    def divided(self, temperature: float) -> LinearClassifier:
        """The classifier with calibrated scores."""
        return LinearClassifier(self.kernel / temperature, self.bias / temperature)


class Validation(NamedTuple):
    """What predictions for unseen photos say.

    Attributes
    ----------
    logits : array [shape=(N, classes)]
        Of every photo, by a classifier that has not seen it.
    fold : array of int [shape=(N,)]
    inverse_strength : float
        C with the least log loss.
    temperature : float
        What logits are divided by.
    """

    logits: Matrix
    fold: Labels
    inverse_strength: float
    temperature: float


def require_sklearn(purpose: str) -> None:
    """Raise a MissingPackageError that names the extra, unless scikit-learn is there."""
    try:
        import sklearn  # noqa: F401
    except ImportError:
        raise MissingPackageError(f"{purpose} needs scikit-learn: pip install 'npmnv2[learn]'") from None


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep the libraries of linear algebra to one thread.

    Then sums have one order, so results are the same in every run; and where several programs share a machine, threads
    that wait for each other made small products a hundred times slower.
    """
    import sklearn.linear_model  # noqa: F401  # only libraries that are loaded are kept
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield


@one_thread()
def fit(features: Matrix, labels: Labels, classes: int, inverse_strength: float) -> LinearClassifier:
    """Fit a classifier; a class without photos gets logits that never win.

    Features are centered and divided by their mean length, so that a strength means the same for every backbone. The
    kernel takes both back.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean = features.mean(axis=0)
    centered = features - mean
    length = float(np.sqrt(np.square(centered).sum(axis=1).mean())) or 1.0
    with warnings.catch_warnings():
        # Stopped early is regularized more: not an error, and the figures are those of what was found.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = LogisticRegression(C=inverse_strength, max_iter=_ITERATIONS).fit(centered / length, labels)
    kernel, bias = np.zeros((features.shape[1], classes)), np.full(classes, _NEVER)
    kernel[:, found.classes_], bias[found.classes_] = _multinomial(found)
    kernel /= length
    return LinearClassifier(kernel, bias - mean @ kernel)


def _multinomial(found: Any) -> tuple[Matrix, Matrix]:
    """Kernel (C, classes) and bias; of two classes scikit-learn has the difference only."""
    kernel, bias = found.coef_.T, found.intercept_
    if kernel.shape[1] > 1:
        return kernel, bias
    return np.concatenate([-kernel, kernel], axis=1) / 2, np.concatenate([-bias, bias]) / 2


@one_thread()
def cross_validate(features: Matrix, labels: Labels, groups: Labels, folds: int, seed: int) -> Validation:
    """Predict every photo by classifiers that have not seen it, and choose strength and temperature by that.

    The strength that predicts a fold is chosen by the losses of the other folds, so that its figures do not profit
    from the choice.

    Parameters
    ----------
    features : array [shape=(N, C)]
    labels : array of int [shape=(N,)]
        From 0 to the number of classes less 1, each at least in two groups.
    groups : array of int [shape=(N,)]
        Photos of one group are in one fold.
    folds, seed : int
    """
    from sklearn.model_selection import StratifiedGroupKFold

    classes, count = int(labels.max()) + 1, len(labels)
    logits = np.empty((len(INVERSE_STRENGTHS), count, classes))
    fold = np.empty(count, np.intp)
    splits = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(features, labels, groups)
    for number, (train, test) in enumerate(splits):
        fold[test] = number
        for at, inverse_strength in enumerate(INVERSE_STRENGTHS):
            logits[at, test] = fit(features[train], labels[train], classes, inverse_strength).logits(features[test])
    # Photos of a class that a fold could not learn say nothing about strengths and temperature.
    learned = logits[0, np.arange(count), labels] > _NEVER / 2
    losses = np.stack([np.where(learned, log_losses(of_one, labels), 0) for of_one in logits])
    chosen = np.empty((count, classes))
    for number in range(folds):
        best = losses[:, fold != number].sum(axis=1).argmin()
        chosen[fold == number] = logits[best, fold == number]
    temperature = fit_temperature(chosen[learned], labels[learned])
    return Validation(chosen, fold, INVERSE_STRENGTHS[int(losses.sum(axis=1).argmin())], temperature)


def log_softmax(logits: Matrix) -> Matrix:
    """Logarithms of probabilities (N, classes)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    found: Matrix = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found


def log_losses(logits: Matrix, labels: Labels) -> Matrix:
    """Minus the logarithm of the probability of each photo's own class."""
    losses: Matrix = -log_softmax(logits)[np.arange(len(labels)), labels]
    return losses


def fit_temperature(logits: Matrix, labels: Labels) -> float:
    """The temperature with the least cross-entropy.

    Targets are 1 less 1/(N + 2), so that a few photos, all of them right, do not lead to scores of 100 %.
    """
    from scipy.optimize import minimize_scalar

    count, classes = logits.shape
    if not count:
        return 1.0
    doubt = 1 / (count + 2)
    targets = np.full((count, classes), doubt / (classes - 1))
    targets[np.arange(count), labels] = 1 - doubt

    def cross_entropy(log_temperature: float) -> float:
        return float(-(targets * log_softmax(logits * np.exp(-log_temperature))).sum())

    bounds = (-_LARGEST_LOG_TEMPERATURE, _LARGEST_LOG_TEMPERATURE)
    return float(np.exp(minimize_scalar(cross_entropy, bounds=bounds, method="bounded").x))
