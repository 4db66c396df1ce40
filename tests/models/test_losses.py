"""Losses against PyTorch's definitions, written out, and against transformers where it is installed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from npmnv2.models.losses import binary_cross_entropy, classification_loss, cross_entropy, mean_squared_error

LOGITS = np.array([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]], np.float32)


def _softmax(row):
    powers = [math.exp(v) for v in row]
    return [p / sum(powers) for p in powers]


def test_cross_entropy() -> None:
    reference = -(math.log(_softmax(LOGITS[0])[0]) + math.log(_softmax(LOGITS[1])[2])) / 2
    assert cross_entropy(LOGITS, [0, 2]) == pytest.approx(reference, rel=1e-12)
    assert cross_entropy(LOGITS, [0, -100]) == pytest.approx(-math.log(_softmax(LOGITS[0])[0]), rel=1e-12)
    assert math.isnan(cross_entropy(LOGITS, [-100, -100]))
    assert cross_entropy(LOGITS * 1e4, [0, 2]) == 0


def test_binary_cross_entropy_does_not_overflow() -> None:
    reference = np.mean([math.log(1 + math.exp(-2)), math.log(2), math.log(1 + math.exp(-1))])
    assert binary_cross_entropy(LOGITS[:1], [[1, 0, 0]]) == pytest.approx(reference, rel=1e-6)
    assert binary_cross_entropy(np.array([[1e4, -1e4]]), [[0.0, 1.0]]) == 1e4


@pytest.mark.parametrize(
    ("classes", "labels", "problem", "expected"),
    [
        (1, [1.0, 2.0], None, ((2 - 1) ** 2 + (0.5 - 2) ** 2) / 2),
        (3, [0, 2], None, cross_entropy(LOGITS, [0, 2])),
        (3, [[1.0, 0, 0], [0, 0, 1]], None, binary_cross_entropy(LOGITS, [[1, 0, 0], [0, 0, 1]])),
        (3, LOGITS + 1, "regression", 1.0),
        (3, [[0], [2]], "single_label_classification", cross_entropy(LOGITS, [0, 2])),
    ],
)
def test_labels_decide_which_loss(classes, labels, problem, expected) -> None:
    assert classification_loss(LOGITS[:, :classes], labels, problem) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("labels", "problem", "message"),
    [
        ([0, 3], None, r"labels must lie in 0…2 or be -100, got 0…3"),
        ([0], None, "one class for each of 2 images, got 1"),
        ([0.5], "multi_label_classification", "shape of the logits"),
        ([0.5], "regression", "shape of the logits"),
    ],
)
def test_impossible_labels(labels, problem, message) -> None:
    with pytest.raises(ValueError, match=message):
        classification_loss(LOGITS, labels, problem)


def test_mean_squared_error() -> None:
    assert mean_squared_error(np.array([1.0, 3.0]), [0, 0]) == 5
