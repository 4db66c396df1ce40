"""Losses against PyTorch's definitions, written out, and against transformers where it is installed."""

from __future__ import annotations

import math

import naive
import numpy as np
import pytest

from npmnv2.kernels import resize_bilinear
from npmnv2.models.losses import (
    binary_cross_entropy,
    classification_loss,
    cross_entropy,
    mean_squared_error,
    segmentation_loss,
)
from npmnv2.results.class_map import Grid

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


# --- segmentation -----------------------------------------------------------------------------------------------------


def _plain_segmentation_loss(logits, labels, ignore_index):
    """Pixel by pixel, from the definition."""
    terms = []
    for image, wanted in zip(logits, labels):
        scores = naive.resize_bilinear(image[None], wanted.shape, "half_pixel")[0]
        for place in np.ndindex(*wanted.shape):
            if wanted[place] != ignore_index:
                terms.append(-math.log(_softmax(scores[place])[wanted[place]]))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("size", [(9, 14), (3, 4), (1, 1), (2, 9)], ids=str)
@pytest.mark.parametrize("ignore_index", [255, 2])
def test_segmentation_loss(size, ignore_index) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (2, 3, 4, 5)).astype(np.float32)
    labels = rng.integers(0, 5, (2, *size)).astype(np.uint8)
    labels[0, 0, 0], labels[1, 0, 0] = ignore_index, 1
    reference = _plain_segmentation_loss(logits, labels, ignore_index)
    # Scores are interpolated in float32: to a few units in the last place of the largest logit.
    assert segmentation_loss(logits, labels, ignore_index) == pytest.approx(reference, rel=1e-5)


def test_segmentation_loss_weighs_pixels_and_not_images() -> None:
    """One labeled pixel beside a fully labeled image counts once, not half."""
    logits = np.stack([np.zeros((4, 4, 2)), np.tile([3.0, 0.0], (4, 4, 1))]).astype(np.float32)
    labels = np.zeros((2, 4, 4), int)
    labels[0, 1:], labels[0, 0, 1:] = 255, 255
    expected = (math.log(2) + 16 * math.log(1 + math.exp(-3))) / 17
    assert segmentation_loss(logits, labels, 255) == pytest.approx(expected, rel=1e-6)


def test_segmentation_loss_in_many_bands() -> None:
    """Large maps are resized band by band, in which ignored pixels are spread unevenly."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(1, 5, 6, 30)).astype(np.float32)
    labels = rng.integers(0, 30, (1, 130, 170))
    labels[0, :90] = 255
    assert len(list(Grid.resize((5, 6), (130, 170), "half_pixel").bands(170 * 30 * 4))) > 5
    whole = resize_bilinear(logits, (130, 170), "half_pixel")
    assert segmentation_loss(logits, labels, 255) == pytest.approx(cross_entropy(whole, labels, 255), rel=1e-9)


def test_segmentation_loss_of_nothing() -> None:
    assert math.isnan(segmentation_loss(np.zeros((1, 2, 2, 3), np.float32), np.full((1, 4, 4), 255), 255))


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (np.zeros((1, 4, 4)), TypeError, "labels must be integers, got float64"),
        (np.zeros((4, 4), int), ValueError, r"\(N, height, width\) with N = 1, got \(4, 4\)"),
        (np.zeros((2, 4, 4), int), ValueError, r"with N = 1, got \(2, 4, 4\)"),
        (np.full((1, 4, 4), 3), ValueError, r"labels must lie in 0…2 or be 255, got 3…3"),
    ],
    ids=["float", "rank", "count", "range"],
)
def test_segmentation_labels_that_do_not_fit(labels, error, message) -> None:
    with pytest.raises(error, match=message):
        segmentation_loss(np.zeros((1, 2, 2, 3), np.float32), labels, 255)
