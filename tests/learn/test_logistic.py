"""Logistic regression, its folds, and its temperature."""

from __future__ import annotations

import numpy as np
import pytest

from npmnv2 import MissingPackageError
from npmnv2.kernels import softmax
from npmnv2.learn import logistic
from npmnv2.learn.logistic import cross_validate, fit, fit_temperature, log_losses, one_thread

pytest.importorskip("sklearn")


def clouds(classes: int = 3, count: int = 60, spread: float = 1.0, seed: int = 0):
    """Points around a center for each class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centers = rng.normal(size=(classes, 12))
    return centers[labels] + spread * rng.normal(size=(count, 12)), labels


@pytest.mark.parametrize("classes", [2, 3])
def test_the_gradient_of_the_objective_is_zero(classes) -> None:
    """At the minimum of ``C · Σ loss + ‖w‖²/2`` over features as they are fitted: centered, of mean length 1."""
    features, labels = clouds(classes)
    head = fit(features, labels, classes, 10.0)
    centered = features - features.mean(axis=0)
    length = np.sqrt(np.square(centered).sum(axis=1).mean())
    wrong = softmax(head.logits(features)) - np.eye(classes)[labels]
    # Two classes share one vector of weights, w and -w halved, so the penalty of one is twice that of the pair.
    penalty = head.kernel * length * (2 if classes == 2 else 1)
    assert np.abs(10.0 * centered.T @ wrong / length + penalty).max() < 0.05
    assert np.abs(wrong.sum(axis=0)).max() < 0.01


def test_features_that_are_all_alike() -> None:
    head = fit(np.ones((6, 4)), np.arange(6) % 2, 2, 1.0)
    assert np.isfinite(head.kernel).all()
    assert np.allclose(softmax(head.logits(np.ones((1, 4)))), 0.5)


def test_a_class_without_photos_never_wins() -> None:
    features, labels = clouds(2)
    head = fit(features, labels * 2, 3, 10.0)
    assert set(head.logits(features).argmax(axis=1)) <= {0, 2}
    assert (softmax(head.logits(features))[:, 1] == 0).all()


def test_every_photo_is_predicted_by_what_has_not_seen_it() -> None:
    features, labels = clouds()
    found = cross_validate(features, labels, np.arange(60), 5, 0)
    assert sorted(np.bincount(found.fold)) == [12] * 5
    for number in range(5):
        seen = found.fold != number
        candidates = [
            fit(features[seen], labels[seen], 3, c).logits(features[~seen]) for c in logistic.INVERSE_STRENGTHS
        ]
        assert any(np.array_equal(found.logits[~seen], logits) for logits in candidates)


def test_groups_stay_together_and_classes_are_spread() -> None:
    features, labels = clouds(3, 90)
    groups = np.repeat(np.arange(30), 3) * 3 + labels  # photos of one class and neighbors in a row
    found = cross_validate(features, labels, groups, 5, 0)
    assert all(len(set(found.fold[groups == group])) == 1 for group in groups)
    assert all(len(set(found.fold[labels == label])) == 5 for label in range(3))


def test_copies_in_one_fold_do_not_help() -> None:
    """Noise that is copied is recognized only by who has seen its copy."""
    rng = np.random.default_rng(1)
    features = np.repeat(rng.normal(size=(40, 50)), 2, axis=0)
    labels = np.repeat(rng.integers(0, 2, 40), 2)
    apart = cross_validate(features, labels, np.repeat(np.arange(40), 2), 5, 0).logits.argmax(axis=1)
    leaking = cross_validate(features, labels, np.arange(80), 5, 0).logits.argmax(axis=1)
    assert (apart == labels).mean() < 0.75
    assert (leaking == labels).mean() > 0.85


def test_the_same_in_every_run() -> None:
    features, labels = clouds(spread=2)
    first, second = (cross_validate(features, labels, np.arange(60), 4, 7) for _ in range(2))
    assert np.array_equal(first.logits, second.logits)
    assert first[2:] == second[2:]
    assert not np.array_equal(cross_validate(features, labels, np.arange(60), 4, 8).fold, first.fold)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(temperature) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20_000, 4)) * 2
    labels = (softmax(logits).cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)
    assert fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.05)


def test_a_few_right_answers_are_no_certainty() -> None:
    logits, labels = np.eye(3)[[0, 1, 2, 0]] * 5, np.array([0, 1, 2, 0])
    scores = softmax(logits / fit_temperature(logits, labels))
    assert scores.max() == pytest.approx(1 - 1 / 6, abs=1e-3)
    assert fit_temperature(logits[:0], labels[:0]) == 1.0


def test_log_losses_of_large_logits() -> None:
    assert log_losses(np.array([[1000.0, 0.0]]), np.array([1])) == 1000.0


def test_one_thread_at_a_time() -> None:
    from threadpoolctl import threadpool_info

    with one_thread():
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}


def test_without_scikit_learn(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    with pytest.raises(MissingPackageError, match=r"teach needs scikit-learn: pip install 'npmnv2\[learn\]'"):
        logistic.require_sklearn("teach")


def stubbed(monkeypatch, own_logit):
    """What cross-validation makes of classifiers that give a photo's own class the logit `own_logit(row, strength)`."""
    count, classes = 20, 2
    labels, rows = np.arange(count) % classes, np.arange(count)

    class Stub:
        def __init__(self, strength: float) -> None:
            self.strength = strength

        def logits(self, features):
            found = np.zeros((len(features), classes))
            for at, row in enumerate(features[:, 0].astype(int)):
                found[at, labels[row]] = own_logit(row, self.strength)
            return found

    monkeypatch.setattr(logistic, "fit", lambda features, labels, classes, strength: Stub(strength))
    return cross_validate(rows[:, None].astype(float), labels, rows, 4, 0), labels


WEAK, STRONG = logistic.INVERSE_STRENGTHS[0], logistic.INVERSE_STRENGTHS[-1]


def test_the_strength_of_a_fold_is_chosen_by_the_others(monkeypatch) -> None:
    """One strength is right on the first fold alone, another on all others: there the first is never taken."""
    fold = stubbed(monkeypatch, lambda row, strength: 0.0)[0].fold

    def own_logit(row: int, strength: float) -> float:
        right = {WEAK: fold[row] == 0, STRONG: fold[row] != 0}.get(strength, False)
        return 1.0 if right else -1.0

    found, labels = stubbed(monkeypatch, own_logit)
    np.testing.assert_array_equal(found.logits[np.arange(20), labels] > 0, fold != 0)
    assert found.inverse_strength == STRONG


def test_photos_of_a_class_that_a_fold_could_not_learn_choose_nothing(monkeypatch) -> None:
    def own_logit(row: int, strength: float) -> float:
        if row == 0:
            return -1e4 - (1e3 if strength == STRONG else 0)
        return 2.0 if strength == STRONG else 1.0

    assert stubbed(monkeypatch, own_logit)[0].inverse_strength == STRONG
